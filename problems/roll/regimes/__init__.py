"""The regime machine of a roll day: PRE_ROLL, CROWDED, BASIS_STRESS, DEADLINE."""

from __future__ import annotations

from crosswind.problems.roll.regimes.audit import RegimeNote, RegimeTransition
from crosswind.problems.roll.regimes.config import PRIORITY, RegimeConfig, RegimeTrigger, default_triggers
from crosswind.problems.roll.regimes.diagram import machine_diagram, machine_edges, trigger_table
from crosswind.problems.roll.regimes.machine import RegimeMachine
from crosswind.problems.roll.regimes.run import RegimeRun, run_machine
from crosswind.problems.roll.regimes.watch import RegimeWatch

__all__ = [
    "PRIORITY",
    "RegimeConfig",
    "RegimeMachine",
    "RegimeNote",
    "RegimeRun",
    "RegimeTransition",
    "RegimeTrigger",
    "RegimeWatch",
    "default_triggers",
    "machine_diagram",
    "machine_edges",
    "run_machine",
    "trigger_table",
]
