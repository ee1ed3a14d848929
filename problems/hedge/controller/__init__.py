"""The controller of a hedge for a live loop: receding horizon, a ladder of ranks, explanations, a journal."""

from __future__ import annotations

from crosswind.problems.hedge.controller.control import HedgeController
from crosswind.problems.hedge.controller.explain import HedgeExplanation
from crosswind.problems.hedge.controller.journal import canonical, decode_observation, replay_journal
from crosswind.problems.hedge.controller.messages import (
    HedgeDecision,
    HedgeObservation,
    HedgeOrder,
    OrderReport,
    under_verdict,
)
from crosswind.problems.hedge.controller.model import HedgeInstrument, HedgeRank, HedgeRegime, HedgeSetup
from crosswind.problems.hedge.controller.policy import ControlledHedge

__all__ = [
    "ControlledHedge",
    "HedgeController",
    "HedgeDecision",
    "HedgeExplanation",
    "HedgeInstrument",
    "HedgeObservation",
    "HedgeOrder",
    "HedgeRank",
    "HedgeRegime",
    "HedgeSetup",
    "OrderReport",
    "canonical",
    "decode_observation",
    "replay_journal",
    "under_verdict",
]
