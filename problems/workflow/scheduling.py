"""The schedule stage: forecasts from the earlier days, the basket program on the last, baselines beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from crosswind.problems.basket import BasketProblem, BasketSchedule, ForecastInputs, compare, forecast_inputs, twap
from crosswind.problems.workflow.forecasts import default_inventory, slice_starts
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact import ImpactModel
    from crosswind.problems.market import MarketEvents

__all__ = ["ScheduleStage", "balanced_risk_aversion", "basket_problem", "day_ahead", "schedule_stage"]


def day_ahead(train: MarketEvents, day: MarketEvents, slice_s: float) -> ForecastInputs:
    """Forecast a day's slices from earlier days; of the day itself only the session's clock is read.

    The covariance is that of returns over a slice, the horizon at which the schedule carries risk.
    """
    times = slice_starts(day, slice_s)
    return forecast_inputs(train.resample(slice_s), times, slice_s)


def basket_problem(
    ahead: ForecastInputs,
    inventory: pd.Series,
    model: ImpactModel,
    *,
    participation: float,
    risk_aversion: float,
    window: slice = slice(None),
) -> BasketProblem:
    """State the basket program of ``inventory`` over a window of the day's slices."""
    return BasketProblem(
        inventory=inventory,
        model=model,
        times=ahead.times[window],
        slice_s=ahead.slice_s,
        volume=ahead.volume.iloc[window],
        covariance=ahead.covariance,
        spread=ahead.spread,
        risk_aversion=risk_aversion,
        participation=participation,
    )


@dataclass(frozen=True)
class ScheduleStage:
    """The schedule, what the standard schedules cost under the same ruler, and the forecasts behind both."""

    schedule: BasketSchedule
    comparison: pd.DataFrame
    ahead: ForecastInputs
    notes: tuple[str, ...] = ()


def balanced_risk_aversion(problem: BasketProblem) -> float:
    """Return the λ at which the risk term of a TWAP equals the sum of its other costs.

    Both terms are read off the TWAP under ``problem`` at λ = 1; the risk term is linear in λ. The rule is free of
    units and sizes: a basket of a tenth of the size gets a λ of the same urgency.

    Raises
    ------
    InvalidInput
        When the basket carries no risk, so that no λ balances it.
    """
    costs = problem.replace(risk_aversion=1.0).score(twap(problem))
    if not costs["risk"] > 0.0:
        raise InvalidInput(
            "the basket carries no risk", field="inventory", value=float(costs["risk"]), remedy="pass risk_aversion"
        )
    return float((costs["total"] - costs["risk"]) / costs["risk"])


def schedule_stage(
    train: MarketEvents,
    test: MarketEvents,
    model: ImpactModel,
    *,
    index: str | None,
    inventory: pd.Series | None,
    basket_adv: float,
    slice_s: float,
    participation: float,
    risk_aversion: float | None,
) -> ScheduleStage:
    """Schedule the basket over the test day's session and compare it with the standard schedules.

    Raises
    ------
    InvalidInput
        When the inventory names a name that the model does not know.
    InfeasibleProblem
        When the basket cannot be completed within its limits.
    """
    ahead = day_ahead(train, test, slice_s)
    if inventory is None:
        inventory = default_inventory(train, _traded(train.names, index), basket_adv)
    problem = basket_problem(
        ahead,
        inventory,
        model,
        participation=participation,
        risk_aversion=0.0 if risk_aversion is None else risk_aversion,
    )
    if risk_aversion is None:
        problem = problem.replace(risk_aversion=balanced_risk_aversion(problem))
    schedule = problem.solve()
    return ScheduleStage(schedule, compare(problem, {"crosswind": schedule}), ahead)


def _traded(names: Sequence[str], index: str | None) -> list[str]:
    """Return the names of the default basket: an index ETF stands for the market and is not traded."""
    return [n for n in names if n != index] or list(names)
