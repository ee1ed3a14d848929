"""Before the trade: what a basket costs done within a minute, ten, an hour, a day, and how large it may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.analysis.frontier import risk_of
from crosswind.problems.basket.arrays import DEFAULT_TEMPORARY
from crosswind.problems.basket.inputs import FloatArray, as_scalar
from crosswind.problems.basket.lowering import money
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = ["Capacity", "CostCurve", "capacity_within", "cost_curve", "within_horizon"]

HORIZONS = ("1min", "10min", "1h", "1D")


@dataclass(frozen=True, eq=False)
class CostCurve:
    """Cheapest cost of a basket by the time in which it must be done.

    Attributes
    ----------
    problem
        The basket.
    table
        Indexed by horizon as asked: ``seconds`` (trading time), ``slices``, ``expected_bps`` (all costs but risk),
        ``sd_bps`` (risk, one standard deviation), the components ``spread``, ``temporary``, ``impact_self``,
        ``impact_cross`` (and ``three_halves``) in bps of the parent notional, ``peak_participation`` (NaN without a
        volume forecast).
    schedules
        Horizon -> its schedule.
    """

    problem: BasketProblem
    table: pd.DataFrame
    schedules: dict[str, BasketSchedule]

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return one line per horizon."""
        lines = ["done within: expected cost ± one sd of the market's move [bps of the parent], peak share of volume"]
        for label, row in self.table.iterrows():
            peak = f", peak {row['peak_participation']:.1%}" if np.isfinite(row["peak_participation"]) else ""
            lines.append(f"  {label}: {row['expected_bps']:.2f} ± {row['sd_bps']:.2f}{peak}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return stacked cost components by horizon with the risk as a line."""
        from crosswind.problems.basket.analysis.figures import cost_curve_figure

        return cost_curve_figure(self)

    def _repr_html_(self) -> str:
        return str(self.table.round(3).to_html())


def _seconds(horizon: object) -> float:
    given: Any = horizon
    try:
        number = not isinstance(given, str | pd.Timedelta)
        seconds = float(given) if number else pd.Timedelta(given).total_seconds()
    except (TypeError, ValueError) as err:
        raise InvalidInput(
            "is no length of time", field="horizons", value=horizon, remedy='seconds, or a text such as "10min"'
        ) from err
    if not np.isfinite(seconds) or seconds <= 0.0:
        raise InvalidInput("must be > 0", field="horizons", value=horizon, remedy='seconds, or a text such as "10min"')
    return float(seconds)


def within_horizon(problem: BasketProblem, horizon: object, slices: int = 20) -> BasketProblem:
    """Return the same basket to be done within a horizon of trading time, without the limits on its pace.

    The horizon is cut into equal slices that start at the first one of ``problem``; volume is spread evenly within the
    problem's slices (and left out where the order is larger than all of it). η is a cost of the rate of trading:
    shorter slices have η × slice_s / length (the default rule is applied anew), and the coefficient of |u|^{3/2}
    goes with the root of that. A horizon that crosses a break between slices keeps the problem's own slices; one
    beyond the last slice is the whole problem. Participation, sector caps, bands, hysteresis, blackouts, auctions
    and extra limits are dropped: the question is what speed costs.

    Parameters
    ----------
    problem
        The basket.
    horizon
        Seconds, a Timedelta, or a text such as "10min".
    slices
        Number of slices into which a short horizon is cut.

    Raises
    ------
    InvalidInput
        On a horizon or a number of slices that is not positive.
    """
    if int(slices) != slices or slices < 1:
        raise InvalidInput("must be a whole number of at least 1", field="slices", value=slices, remedy="20 is usual")
    grid = _grid(problem, _seconds(horizon), int(slices))
    free: dict[str, Any] = dict.fromkeys(
        (
            *("participation", "sector_cap", "cash_band", "beta_band", "factor_band", "max_change", "previous_trade"),
            *("must_finish", "volume_sd", "volume_quantile"),
        )
    )
    free |= {"blackouts": (), "extra_limits": (), "auctions": ()}
    free["completion"] = problem.completion if isinstance(problem.completion, pd.Series) else "hard"
    a, share = problem.arrays, grid.slice_s / problem.slice_s
    mean = grid.rows / grid.rows.sum(axis=1, keepdims=True)

    def frame(values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, index=grid.times, columns=list(problem.names))

    eta = mean @ a.temporary / share
    V = None if a.volume is None else grid.rows @ a.volume
    if problem.temporary is None and V is not None:
        with np.errstate(divide="ignore"):
            eta = DEFAULT_TEMPORARY * np.sqrt(a.variance * share) / V
        eta = np.where(np.isfinite(eta), eta, mean @ a.temporary / share)
    order = np.abs(a.inventory - a.target)
    fits = V is not None and bool((V.sum(axis=0)[a.hard] >= order[a.hard]).all())
    changes = free | {"times": grid.times, "slice_s": grid.slice_s, "temporary": frame(eta)}
    changes["volume"] = frame(V) if V is not None and fits else None
    if a.three_halves.any():
        changes["three_halves"] = frame(mean @ a.three_halves / np.sqrt(share))
    if isinstance(problem.drift, pd.DataFrame):
        changes["drift"] = frame(grid.rows @ a.drift)
    return problem.replace(**changes)


@dataclass(frozen=True, eq=False)
class _Grid:
    """Slices of a horizon: their starts, their length, and the share of each slice of the problem in each (n, T)."""

    times: pd.DatetimeIndex
    slice_s: float
    rows: FloatArray


def _grid(problem: BasketProblem, seconds: float, slices: int) -> _Grid:
    length, book = problem.slice_s, np.flatnonzero(problem.arrays.lengths > 0.0)
    starts = problem.times[book]
    eye = np.eye(problem.n_slices)[book]
    if not len(book):
        raise InvalidInput("holds auctions alone", field="times", value=0, remedy="pass slices of the book")
    if seconds >= len(book) * length * (1.0 - 1e-12):
        return _Grid(starts, length, eye)
    gaps = np.diff(starts.as_unit("ns").asi8) * 1e-9
    breaks = np.flatnonzero(gaps > length * (1.0 + 1e-9))
    run = (int(breaks[0]) + 1 if breaks.size else len(book)) * length
    if seconds > run * (1.0 + 1e-12):
        count = int(np.ceil(seconds / length - 1e-9))
        return _Grid(starts[:count], length, eye[:count])
    width = seconds / slices
    times = starts[0] + pd.to_timedelta(np.rint(np.arange(slices) * width * 1e9).astype(np.int64), unit="ns")
    return _Grid(pd.DatetimeIndex(times), width, _overlap(slices, width, len(book), length) @ eye)


def _overlap(fine: int, width: float, coarse: int, length: float) -> FloatArray:
    """Return the share of each coarse slice that lies in each fine one (fine, coarse)."""
    start, begin = np.arange(fine)[:, None] * width, np.arange(coarse)[None, :] * length
    inside = np.minimum(start + width, begin + length) - np.maximum(start, begin)
    return np.asarray(np.maximum(inside, 0.0) / length, dtype=np.float64)


def cost_curve(
    problem: BasketProblem,
    horizons: Iterable[object] = HORIZONS,
    *,
    slices: int = 20,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> CostCurve:
    """Return what the basket costs by the time in which it must be done.

    Each point is an optimum of its own (:func:`within_horizon`), with the problem's risk aversion.

    Parameters
    ----------
    problem
        The basket.
    horizons
        Trading times: seconds or texts such as "10min"; longer than the problem means all of it.
    slices
        Slices of each short horizon.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    InvalidInput
        On bad horizons.
    """
    rows, schedules = {}, {}
    for horizon in horizons:
        label = horizon if isinstance(horizon, str) else f"{_seconds(horizon):g} s"
        short = within_horizon(problem, horizon, slices)
        found = short.solve(solver, **settings)
        bps = found.costs_bps
        sd, peak = risk_of(short, found.trades.to_numpy()), float("nan")
        if problem.arrays.volume is not None:
            V, used = _grid(problem, _seconds(horizon), int(slices)).rows @ problem.arrays.volume, found.trades.abs()
            peak = float(np.max(used.to_numpy()[V > 0.0] / V[V > 0.0], initial=0.0))
        rows[label] = {
            "seconds": short.n_slices * short.slice_s,
            "slices": short.n_slices,
            "expected_bps": float(bps["total"] - bps["risk"]),
            "sd_bps": short.to_bps(sd),
            **{part: float(bps[part]) for part in bps.index if part not in ("risk", "total", "terminal")},
            "peak_participation": peak,
        }
        schedules[label] = found
    if not rows:
        raise InvalidInput("holds no horizon", field="horizons", value=0, remedy='pass ("1min", "1h")')
    return CostCurve(problem, pd.DataFrame.from_dict(rows, orient="index").rename_axis("horizon"), schedules)


@dataclass(frozen=True, eq=False)
class Capacity:
    """How many times the basket fits into a cost budget.

    Attributes
    ----------
    problem
        The basket, multiple one.
    budget_bps
        The budget [bps of the multiplied parent notional].
    multiple
        Largest multiple found; 0 when even the smallest basket costs more, inf when nothing stops it below ``most``.
    binds
        "budget", "limits" (a larger basket cannot complete), "nothing" or "spread" (the budget is below what the
        smallest basket costs).
    cost_bps
        Cost at the multiple.
    schedule
        Its schedule; ``None`` at 0.
    table
        Every multiple that was solved: ``cost_bps``, NaN where it cannot complete.
    """

    problem: BasketProblem
    budget_bps: float
    multiple: float
    binds: str
    cost_bps: float
    schedule: BasketSchedule | None
    table: pd.DataFrame

    @property
    def notional(self) -> float:
        """Gross notional at the multiple [currency]."""
        return self.multiple * self.problem.parent_notional

    def to_frame(self) -> pd.DataFrame:
        """Return the multiples that were solved."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the capacity in one sentence."""
        if self.multiple == 0.0:
            return f"capacity 0: the smallest basket costs {self.cost_bps:.3f} bps, the budget is {self.budget_bps:.3f}"
        return (
            f"capacity {self.multiple:.4g} times the basket, {money(self.notional)} gross, at {self.cost_bps:.3f} of "
            f"{self.budget_bps:.3f} bps; bound by {self.binds}"
        )

    def plot(self) -> Any:
        """Return the cost by multiple with the budget as a line."""
        from crosswind.problems.basket.analysis.figures import capacity_figure

        return capacity_figure(self)


def capacity_within(
    problem: BasketProblem,
    budget_bps: float,
    *,
    measure: str = "expected",
    most: float = 1e3,
    tol: float = 1e-3,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> Capacity:
    """Return the largest multiple of the basket that keeps within a cost budget and completes within the limits.

    Orders (with targets and hedge positions) are multiplied, limits in currency (sector caps, bands, hysteresis)
    stay: they are the desk's. With a hard completion the total cost per unit rises with the multiple, since the
    optimal value is convex in the multiple and zero at none; of the expected cost alone this is usual but not
    certain, and the crossing found is then the one nearest to where it was bracketed.

    Parameters
    ----------
    problem
        The basket; must complete (no penalty).
    budget_bps
        Budget ≥ 0 [bps of the multiplied parent notional].
    measure
        "expected" (all costs but risk) or "total".
    most
        Largest multiple looked at.
    tol
        Relative accuracy of the multiple.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    InvalidInput
        On an empty basket, a completion penalty, a bad budget or an unknown measure.
    """
    budget = as_scalar(budget_bps, "budget_bps")
    if measure not in ("expected", "total"):
        raise InvalidInput("unknown measure", field="measure", value=measure, remedy="'expected' or 'total'")
    if not 0.0 < as_scalar(tol, "tol", strict=True) < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="tol", value=tol, remedy="1e-3 is usual")
    top = as_scalar(most, "most", strict=True)
    if problem.parent_notional == 0.0:
        raise InvalidInput("nothing to multiply", field="inventory", value=0.0, remedy="pass an order")
    if not problem.hard_completion:
        raise InvalidInput(
            "a penalty leaves large baskets undone", field="completion", value=problem.completion, remedy='pass "hard"'
        )
    solved: dict[float, tuple[float, BasketSchedule | None]] = {}

    def at(multiple: float) -> float:
        if multiple not in solved:
            scaled: dict[str, Any] = {
                "inventory": problem.inventory,
                "hedges": problem.hedges,
                "hedge_target": problem.hedge_target,
            }
            scaled["completion"] = problem.completion
            changes = {k: v * multiple for k, v in scaled.items() if isinstance(v, pd.Series)}
            larger = problem.replace(**changes)
            try:
                found = larger.solve(solver, **settings)
            except (InfeasibleProblem, InvalidInput):  # the limits, or more than the forecast volume of all slices
                solved[multiple] = (float("nan"), None)
            else:
                bps = found.costs_bps
                solved[multiple] = (float(bps["total"] - (bps["risk"] if measure == "expected" else 0.0)), found)
        return solved[multiple][0]

    def fits(multiple: float) -> bool:
        return bool(at(multiple) <= budget)

    low, high = _bracket(fits, min(1.0, top), top)
    while low > 0.0 and np.isfinite(high) and high - low > tol * low:
        middle = 0.5 * (low + high) if high < 2.0 * low else float(np.sqrt(low * high))
        low, high = (middle, high) if fits(middle) else (low, middle)
    for share in (0.25, 0.5, 0.75):  # so that the figure shows the way there
        if low > 0.0:
            at(share * low)
    table = pd.DataFrame({"cost_bps": {m: cost for m, (cost, _) in sorted(solved.items())}}).rename_axis("multiple")
    least = min(solved)
    if low == 0.0:
        return Capacity(problem, budget, 0.0, "spread", solved[least][0], None, table)
    if not np.isfinite(high):
        return Capacity(problem, budget, low, "nothing", *solved[low], table)
    binds = "limits" if np.isnan(solved[high][0]) else "budget"
    return Capacity(problem, budget, low, binds, *solved[low], table)


def _bracket(fits: Any, start: float, most: float) -> tuple[float, float]:
    """Return a multiple that fits (0 if none does) and one that does not (inf if none up to ``most``)."""
    if fits(start):
        low = start
        while low < most:
            high = min(2.0 * low, most)
            if not fits(high):
                return low, high
            low = high
        return low, np.inf
    high = start
    for _ in range(20):
        low = 0.25 * high
        if fits(low):
            return low, high
        high = low
    return 0.0, high
