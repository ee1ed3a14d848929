"""The efficient frontier of a basket as an object: the λ grid is found, the curve is checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray, as_scalar
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = ["Frontier", "efficient_frontier"]

_END = 0.01  # of the range of risk: how near the ends of the curve the grid reaches


@dataclass(frozen=True, eq=False)
class Frontier:
    """Expected cost against risk, one optimal schedule per risk aversion.

    Attributes
    ----------
    problem
        The basket; its own risk aversion marks a point of the curve.
    table
        Indexed by λ [1/currency], rising: ``expected_bps`` (all costs but risk) and ``sd_bps`` (√Σ_{t≥1} q_t'Σq_t) of
        the parent notional, and the relative ``gap`` of the certificate.
    schedules
        λ -> its schedule.
    """

    problem: BasketProblem
    table: pd.DataFrame
    schedules: dict[float, BasketSchedule]

    @property
    def violation(self) -> float:
        """How far the curve is from falling and convex [bps]: 0 up to the accuracy of the solves, by the mathematics.

        Risk must not rise with λ, the expected cost must not fall, and no point may lie above the chord of its
        neighbours (in variance and cost, the coordinates in which the frontier is convex).
        """
        sd, cost = self.table["sd_bps"].to_numpy(), self.table["expected_bps"].to_numpy()
        worst = max(float(np.diff(sd).max(initial=0.0)), float(-np.diff(cost).min(initial=0.0)), 0.0)
        x = sd**2
        for k in range(1, len(x) - 1):
            width = x[k - 1] - x[k + 1]
            if width > 1e-9 * x[0]:
                share = (x[k - 1] - x[k]) / width
                worst = max(worst, float(cost[k] - (1.0 - share) * cost[k - 1] - share * cost[k + 1]))
        return worst

    @property
    def monotone(self) -> bool:
        """Whether the curve falls and is convex within 1e-6 of its largest cost."""
        return self.violation <= 1e-6 * max(float(self.table["expected_bps"].abs().max()), 1e-12)

    @property
    def knee(self) -> float:
        """The λ farthest below the chord between the ends, both axes scaled to one: where more risk stops paying."""
        sd, cost = self.table["sd_bps"].to_numpy(), self.table["expected_bps"].to_numpy()
        x, y = _unit(sd), _unit(cost)
        return float(self.table.index[int(np.argmax(1.0 - x - y))])

    def at_risk(self, sd_bps: float) -> BasketSchedule:
        """Return the cheapest schedule of the curve with at most this risk [bps].

        Raises
        ------
        InvalidInput
            When even the fastest schedule of the curve is riskier.
        """
        fits = self.table[self.table["sd_bps"] <= as_scalar(sd_bps, "sd_bps") * (1.0 + 1e-12)]
        if fits.empty:
            raise InvalidInput(
                "no schedule of the frontier has so little risk",
                field="sd_bps",
                value=sd_bps,
                remedy=f"ask for at least {self.table['sd_bps'].min():.4g}, or give larger risk aversions",
            )
        return self.schedules[float(fits["expected_bps"].idxmin())]  # type: ignore[arg-type]

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the ends of the curve, its knee, and whether it falls and is convex."""
        t = self.table

        def line(label: str, lam: float) -> str:
            row = t.loc[lam]
            return f"  {label:<8} λ {lam:.3g}: cost {row['expected_bps']:.4g}, risk {row['sd_bps']:.4g}"

        return "\n".join(
            [
                f"efficient frontier, {len(t)} points [bps of the parent notional; a positive cost is money lost]",
                line("patient", float(t.index[0])),
                line("knee", self.knee),
                line("urgent", float(t.index[-1])),
                f"  falls and is convex: {'yes' if self.monotone else f'NO, by {self.violation:.3g} bps'}; "
                f"worst gap {t['gap'].max():.1e}",
            ]
        )

    def plot(self, points: Iterable[Any] = ()) -> Any:
        """Return the curve, with the problem's own λ, the knee and the strategies ``points`` scored beside it."""
        from crosswind.problems.basket.analysis.figures import frontier_figure

        return frontier_figure(self, tuple(points))

    def _repr_html_(self) -> str:
        return str(self.table.round(4).to_html())


def _unit(values: FloatArray) -> FloatArray:
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0.0 else np.zeros_like(values)


def risk_of(problem: BasketProblem, trades: FloatArray) -> float:
    """Return the standard deviation of a schedule's cost, √Σ_{t≥1} q_t'Σq_t [currency]."""
    from crosswind.optim.factored import image

    a, left = problem.arrays, problem.remaining(trades)[1:]
    if a.covariance is None:
        return float("nan")
    return float(np.sqrt(max(float(np.sum(a.risk_weight[:, None] * left * image(left, a.covariance))), 0.0)))


def efficient_frontier(
    problem: BasketProblem,
    risk_aversions: Iterable[float] | None = None,
    *,
    points: int = 30,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> Frontier:
    """Return the efficient frontier of a basket.

    Parameters
    ----------
    problem
        The basket; needs a covariance.
    risk_aversions
        λ ≥ 0 [1/currency]. ``None``: the grid is found. From the λ at which the price of risk equals the expected cost
        of the most patient schedule, λ moves by factors of ten until the risk is within 1 % of the range of either end
        (λ = 0, and where another factor of ten changes less than that); then the largest steps of the curve, both axes
        scaled to one, are halved in log λ until there are ``points``.
    points
        Number of points of the found grid, at least 5.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    InvalidInput
        Without a covariance, with a negative λ, or with too few points.
    """
    if problem.arrays.covariance is None:
        raise InvalidInput("a frontier needs a covariance", field="covariance", value=None, remedy="pass it")
    curve = _Curve(problem, solver, settings)
    if risk_aversions is not None:
        grid = sorted({as_scalar(v, "risk_aversions") for v in risk_aversions})
        if not grid:
            raise InvalidInput("holds no value", field="risk_aversions", value=0, remedy="pass at least one, or None")
        for value in grid:
            curve.at(value)
        return curve.result()
    if int(points) != points or points < 5:
        raise InvalidInput("must be a whole number of at least 5", field="points", value=points, remedy="30 is usual")
    return curve.found(int(points))


class _Curve:
    """Points of a frontier as they are solved."""

    def __init__(self, problem: BasketProblem, solver: str | tuple[str, ...], settings: dict[str, Any]) -> None:
        self.problem, self.solver, self.settings = problem, solver, settings
        self.schedules: dict[float, BasketSchedule] = {}
        self.rows: dict[float, tuple[float, float, float]] = {}

    def at(self, lam: float) -> tuple[float, float]:
        """Solve one λ and return (risk, expected cost) [bps]."""
        if lam not in self.rows:
            p = self.problem.replace(risk_aversion=lam)
            schedule = p.solve(self.solver, **self.settings)
            sd = p.to_bps(risk_of(p, schedule.trades.to_numpy()))
            cost = p.to_bps(float(schedule.costs["total"] - schedule.costs["risk"]))
            self.rows[lam], self.schedules[lam] = (cost, sd, schedule.certificate.gap_rel), schedule
        cost, sd, _ = self.rows[lam]
        return sd, cost

    def result(self) -> Frontier:
        """Return what was solved, by rising λ."""
        table = pd.DataFrame.from_dict(self.rows, orient="index", columns=["expected_bps", "sd_bps", "gap"])
        table = table.sort_index().rename_axis("risk_aversion")
        return Frontier(self.problem, table, {lam: self.schedules[lam] for lam in sorted(self.schedules)})

    def found(self, points: int) -> Frontier:
        """Look for the ends, then halve the largest steps."""
        sd0, cost0 = self.at(0.0)
        if not (sd0 > 0.0 and cost0 > 0.0):  # nothing to trade, or nothing that costs: every λ is the same
            return self.result()
        base = self.problem.parent_notional
        start = (1e-4 * cost0 * base) / (1e-4 * sd0 * base) ** 2
        low = high = start
        while len(self.rows) < points and abs(self.at(low)[0] - sd0) > _END * self._range() and low > 1e-8 * start:
            low *= 0.1
        before = self.at(high)[0]
        for _ in range(12):
            if len(self.rows) >= points:
                break
            high *= 10.0
            now = self.at(high)[0]
            if abs(now - before) <= _END * self._range():
                break
            before = now
        while len(self.rows) < points:
            lams = sorted(lam for lam in self.rows if lam > 0.0)
            sd = np.array([self.rows[lam][1] for lam in lams])
            cost = np.array([self.rows[lam][0] for lam in lams])
            step = np.hypot(np.diff(_unit(sd)), np.diff(_unit(cost)))
            wide = np.diff(np.log(lams))
            step = np.where(wide > 1e-3, step + 1e-9 * wide, 0.0)  # where the curve stands still the λ grid is halved
            if not step.any():
                break
            k = int(np.argmax(step))
            self.at(float(np.sqrt(lams[k] * lams[k + 1])))
        return self.result()

    def _range(self) -> float:
        sds = [row[1] for row in self.rows.values()]
        return max(max(sds) - min(sds), 1e-3 * max(sds))
