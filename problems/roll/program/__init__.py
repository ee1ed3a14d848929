"""The roll as a program over scenarios: a plan with its tail, solved in milliseconds, re-solved as the day goes on."""

from __future__ import annotations

from crosswind.problems.roll.program.bootstrap import bootstrap_scenarios
from crosswind.problems.roll.program.draw import RollPresent, draw_scenarios, observe
from crosswind.problems.roll.program.multistage import scenario_program, scenario_trades
from crosswind.problems.roll.program.plan import FirstStep, RollPlan
from crosswind.problems.roll.program.policy import Decision, ScheduledRoll
from crosswind.problems.roll.program.problem import QuantileRefinement, RollProblem
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.problems.roll.program.settings import RollSettings
from crosswind.problems.roll.program.statistics import RollStatistics

__all__ = [
    "Decision",
    "FirstStep",
    "QuantileRefinement",
    "RollPlan",
    "RollPresent",
    "RollProblem",
    "RollScenarios",
    "RollSettings",
    "RollStatistics",
    "ScheduledRoll",
    "bootstrap_scenarios",
    "draw_scenarios",
    "observe",
    "scenario_program",
    "scenario_trades",
]
