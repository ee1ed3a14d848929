"""Baskets at index scale: decaying impact, factor risk, caps and bands, solved by their structure and certified."""

from __future__ import annotations

from crosswind.solvers.schedule.certificate import Bounder, SchedulePrices
from crosswind.solvers.schedule.path import schedule_path
from crosswind.solvers.schedule.problem import FactorSchedule, ScheduleViolations
from crosswind.solvers.schedule.solution import FactorScheduleSolution, ScheduleProgress, ScheduleState
from crosswind.solvers.schedule.solve import solve_schedule

__all__ = [
    "Bounder",
    "FactorSchedule",
    "FactorScheduleSolution",
    "SchedulePrices",
    "ScheduleProgress",
    "ScheduleState",
    "ScheduleViolations",
    "schedule_path",
    "solve_schedule",
]
