"""Cross-aware schedules for two-sided baskets: the problem, its solution, the baselines, the prices of the limits."""

from __future__ import annotations

from crosswind.problems.basket.auctions import Auction
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
from crosswind.problems.basket.factors import FactorCovariance, FactorImpact, project
from crosswind.problems.basket.forecast import ForecastInputs, forecast_inputs, session_slices
from crosswind.problems.basket.model import BasketProblem
from crosswind.problems.basket.options import square_root_cost
from crosswind.problems.basket.schedule import BasketSchedule
from crosswind.problems.basket.session import ScheduleSession, SessionStep
from crosswind.problems.basket.strategies import (
    POV,
    TWAP,
    VWAP,
    AlmgrenChriss,
    DiagonalOnly,
    Optimal,
    SectorStagger,
    Sequential,
    Strategy,
    standard_strategies,
)
from crosswind.problems.basket.windows import Blackout

__all__ = [
    "POV",
    "TWAP",
    "VWAP",
    "AlmgrenChriss",
    "Auction",
    "BasketProblem",
    "BasketSchedule",
    "Blackout",
    "DiagonalOnly",
    "FactorCovariance",
    "FactorImpact",
    "ForecastInputs",
    "Optimal",
    "ScheduleSession",
    "SectorStagger",
    "Sequential",
    "SessionStep",
    "Strategy",
    "almgren_chriss",
    "compare",
    "diagonal_only",
    "forecast_inputs",
    "frontier",
    "pov",
    "project",
    "session_slices",
    "square_root_cost",
    "standard_schedules",
    "standard_strategies",
    "twap",
    "vwap",
]
