"""Hedge timing: policies over one identical cash schedule, and where the money went."""

from __future__ import annotations

from crosswind.problems.hedge.attribution import COMPONENTS, Attribution, attribute
from crosswind.problems.hedge.compare import HedgeComparison, compare_policies, score
from crosswind.problems.hedge.guardrails import Guardrails, Verdict
from crosswind.problems.hedge.guardrails_config import (
    BasisShock,
    CorrelationBreak,
    DeltaAggression,
    GapLimits,
    GuardrailConfig,
    MessageRate,
    NotionalLimit,
    StaleData,
)
from crosswind.problems.hedge.guardrails_latch import GuardEvent, Observation, Release
from crosswind.problems.hedge.guardrails_policy import GuardedHedge
from crosswind.problems.hedge.instances import hedge_instances, hedge_program
from crosswind.problems.hedge.leg import HedgeLeg
from crosswind.problems.hedge.marginal import MarginalCostHedge
from crosswind.problems.hedge.model import HedgeBeliefs, HedgeParent, PlanRevision
from crosswind.problems.hedge.mpc import MPCHedge
from crosswind.problems.hedge.pace import FillPace, learn_pace
from crosswind.problems.hedge.policies import (
    AdaptiveTrigger,
    BatchedHedge,
    FractionHedge,
    ImmediateHedge,
    MarginalRule,
    NoHedge,
    PlanHedge,
)
from crosswind.problems.hedge.run import HedgeReplay, replay_hedge
from crosswind.problems.hedge.solved_once import SolvedOnceHedge
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgePolicy, HedgeState, Rung
from crosswind.problems.hedge.tune import TunedPolicy, tune_policy
from crosswind.problems.hedge.vectorised import HedgeBatch, HedgeCosts, batch
from crosswind.problems.hedge.worlds import Episode, episodes, episodes_of

__all__ = [
    "COMPONENTS",
    "AdaptiveTrigger",
    "Attribution",
    "BasisShock",
    "BatchedHedge",
    "CorrelationBreak",
    "DeltaAggression",
    "Episode",
    "FillPace",
    "FractionHedge",
    "GapLimits",
    "GuardEvent",
    "GuardedHedge",
    "GuardrailConfig",
    "Guardrails",
    "HedgeAction",
    "HedgeBatch",
    "HedgeBeliefs",
    "HedgeComparison",
    "HedgeContext",
    "HedgeCosts",
    "HedgeLeg",
    "HedgeParent",
    "HedgePolicy",
    "HedgeReplay",
    "HedgeState",
    "ImmediateHedge",
    "MPCHedge",
    "MarginalCostHedge",
    "MarginalRule",
    "MessageRate",
    "NoHedge",
    "NotionalLimit",
    "Observation",
    "PlanHedge",
    "PlanRevision",
    "Release",
    "Rung",
    "SolvedOnceHedge",
    "StaleData",
    "TunedPolicy",
    "Verdict",
    "attribute",
    "batch",
    "compare_policies",
    "episodes",
    "episodes_of",
    "hedge_instances",
    "hedge_program",
    "learn_pace",
    "replay_hedge",
    "score",
    "tune_policy",
]
