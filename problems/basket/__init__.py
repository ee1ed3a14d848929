"""Cross-aware schedules for two-sided baskets: the problem, its solution, the baselines, the prices of the limits."""

from __future__ import annotations

from crosswind.problems.basket.arrays import Blackout
from crosswind.problems.basket.baselines import (
    almgren_chriss,
    compare,
    diagonal_only,
    frontier,
    pov,
    standard_schedules,
    twap,
    vwap,
)
from crosswind.problems.basket.forecast import ForecastInputs, forecast_inputs, session_slices
from crosswind.problems.basket.model import BasketProblem
from crosswind.problems.basket.schedule import BasketSchedule

__all__ = [
    "BasketProblem",
    "BasketSchedule",
    "Blackout",
    "ForecastInputs",
    "almgren_chriss",
    "compare",
    "diagonal_only",
    "forecast_inputs",
    "frontier",
    "pov",
    "session_slices",
    "standard_schedules",
    "twap",
    "vwap",
]
