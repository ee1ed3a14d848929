"""The main job: order flow → impact → basket schedule → hedge → cost report, as one call."""

from __future__ import annotations

from crosswind.problems.workflow.hedge_worlds import HedgeRivalry, compare_in_world
from crosswind.problems.workflow.hedging import HedgeAssumptions, HedgeStage
from crosswind.problems.workflow.model import Check, RunResult
from crosswind.problems.workflow.run import run

__all__ = ["Check", "HedgeAssumptions", "HedgeRivalry", "HedgeStage", "RunResult", "compare_in_world", "run"]
