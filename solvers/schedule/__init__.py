"""Baskets at index scale: decaying impact, factor risk, caps and bands, solved by their structure and certified."""

from __future__ import annotations

from crosswind.solvers.schedule.problem import FactorSchedule, ScheduleViolations

__all__ = ["FactorSchedule", "ScheduleViolations"]
