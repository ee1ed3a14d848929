"""What if: volume thinner, spreads wider, volatility higher, impact larger; the same schedule and the best answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.analysis.models import scale_covariance, scale_model
from crosswind.problems.basket.inputs import as_scalar, per_name
from crosswind.solvers.errors import CrosswindError, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.auctions import Auction
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = ["STANDARD_SCENARIOS", "Scenario", "ScenarioTable", "market_scenarios", "scenario_table"]


@dataclass(frozen=True, eq=False)
class Scenario:
    """A state of the market relative to the forecast.

    Parameters
    ----------
    name
        Label.
    volume, volatility
        Factors > 0 on the volume forecast and on the standard deviation of returns; a number or a Series by name. The
        temporary cost follows as η ∝ volatility / volume, the three-halves coefficient as volatility / √volume, the
        participation cap with the volume.
    spread
        Factor ≥ 0 on the half-spread.
    impact
        Factor ≥ 0 on every K_m; whether impact follows volume is left to this factor.
    model
        An impact model in place of the problem's own, before ``impact`` is applied.

    Raises
    ------
    InvalidInput
        On factors that are not positive numbers.
    """

    name: str
    volume: float | pd.Series = 1.0
    spread: float = 1.0
    volatility: float | pd.Series = 1.0
    impact: float = 1.0
    model: Any = None

    def __post_init__(self) -> None:
        for field in ("volume", "volatility"):
            value = getattr(self, field)
            if isinstance(value, pd.Series):
                bad = ~(np.isfinite(value.to_numpy(dtype=np.float64)) & (value.to_numpy(dtype=np.float64) > 0.0))
                if bad.any():
                    raise InvalidInput(
                        "must be finite and > 0", field=field, value=value[bad].iloc[0], remedy="1.0 changes nothing"
                    )
            else:
                as_scalar(value, field, strict=True)
        as_scalar(self.spread, "spread")
        as_scalar(self.impact, "impact")

    def apply(self, problem: BasketProblem) -> BasketProblem:
        """Return the problem as it is in this state of the market.

        Raises
        ------
        InvalidInput
            When a factor by name lacks a name of the basket, or the covariance is factored and its factor is by name.
        """
        calm = all(not isinstance(f, pd.Series) and f == 1.0 for f in (self.volume, self.volatility))
        changes: dict[str, Any] = {}
        if not calm:
            V, sd = (per_name(getattr(self, f), problem.names, f) for f in ("volume", "volatility"))
            changes["temporary"] = problem.frame(problem.arrays.temporary * sd / V)
            if problem.arrays.volume is not None:
                changes["volume"] = problem.frame(problem.arrays.volume * V)
            by_name = isinstance(self.volatility, pd.Series)
            factor: Any = pd.Series(sd**2, index=list(problem.names)) if by_name else float(sd[0] ** 2)
            changes["covariance"] = scale_covariance(problem.covariance, factor)
            if problem.arrays.three_halves.any():
                changes["three_halves"] = problem.frame(problem.arrays.three_halves * sd / np.sqrt(V))
        if self.spread != 1.0:
            changes["spread"] = problem.spread * self.spread
        if problem.auctions and (not calm or self.spread != 1.0):
            changes["auctions"] = tuple(self._auction(problem, auction) for auction in problem.auctions)
        if self.model is not None or self.impact != 1.0:
            changes["model"] = scale_model(problem.model if self.model is None else self.model, self.impact)
        return problem.replace(**changes) if changes else problem

    def _auction(self, problem: BasketProblem, auction: Auction) -> Auction:
        """Return a call auction in this state; its own explicit costs scale like those of the book."""
        V, sd = (
            pd.Series(per_name(getattr(self, f), problem.names, f), index=list(problem.names))
            for f in ("volume", "volatility")
        )
        eta = None if auction.temporary is None else auction.temporary * sd / V
        kappa: Any = auction.three_halves * sd / np.sqrt(V)
        volume = auction.volume.reindex(list(problem.names)) * V
        return replace(auction, volume=volume, temporary=eta, three_halves=kappa, spread=auction.spread * self.spread)


STANDARD_SCENARIOS = (
    Scenario("volume -30 %", volume=0.7),
    Scenario("spread x2", spread=2.0),
    Scenario("volatility x1.5", volatility=1.5),
    Scenario("impact x2", impact=2.0),
    Scenario("all of them", volume=0.7, spread=2.0, volatility=1.5, impact=2.0),
)
"""What a desk asks first."""


@dataclass(frozen=True, eq=False)
class ScenarioTable:
    """What each scenario costs when the schedule is kept, and when it is made anew.

    Attributes
    ----------
    problem
        The basket as forecast.
    table
        One row per scenario, ``forecast`` first: ``kept_expected``, ``kept_risk``, ``kept_total``, ``new_expected``,
        ``new_risk``, ``new_total``, ``saved`` = kept_total − new_total [bps of the parent notional];
        ``kept_breaches`` and ``kept_worst`` (limits that the kept schedule breaks in this state), ``moved`` (½ Σ|du|
        of the new schedule against the kept one, share of the parent), ``status`` ("optimal", or why there is no new
        schedule). ``saved`` is negative where keeping breaks a limit that the new schedule keeps.
    schedules
        Scenario -> new schedule, for those that have one.
    """

    problem: BasketProblem
    table: pd.DataFrame
    schedules: dict[str, BasketSchedule]

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return one line per scenario."""
        lines = ["scenario: total cost kept -> re-optimised [bps of the parent notional], saved"]
        for name, row in self.table.iterrows():
            broken = f"; kept, limits broken: {int(row['kept_breaches'])}" if row["kept_breaches"] else ""
            new = f"{row['new_total']:.3f}, saved {row['saved']:+.3f}" if row["status"] == "optimal" else row["status"]
            lines.append(f"  {name}: {row['kept_total']:.3f} -> {new}{broken}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return paired bars, kept and re-optimised, of every scenario."""
        from crosswind.problems.basket.analysis.figures import scenario_bars

        return scenario_bars(self)

    def _repr_html_(self) -> str:
        return str(self.table.round(3).to_html())


def scenario_table(
    problem: BasketProblem,
    scenarios: Iterable[Scenario] = STANDARD_SCENARIOS,
    *,
    trades: pd.DataFrame | None = None,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> ScenarioTable:
    """Return what scenarios do to a basket: the same schedule scored anew, and the schedule that answers each.

    Parameters
    ----------
    problem
        The basket as forecast.
    scenarios
        States of the market with distinct names.
    trades
        The schedule that is kept (T × N) [currency]; default the optimum of ``problem``.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    InvalidInput
        On two scenarios of one name, or things that are no scenario.
    InfeasibleProblem
        When the problem as forecast has no schedule and none is given.
    """
    listed = [Scenario("forecast")]
    for scenario in scenarios:
        if not isinstance(scenario, Scenario):
            raise InvalidInput(
                "is no scenario",
                field="scenarios",
                value=type(scenario).__name__,
                remedy='use Scenario("thin", volume=0.7)',
            )
        if any(scenario.name == other.name for other in listed):
            raise InvalidInput(
                "two scenarios share a name", field="scenarios", value=scenario.name, remedy='and "forecast" is taken'
            )
        listed.append(scenario)
    kept = problem.solve(solver, **settings).trades if trades is None else trades
    held = problem.trade_array(kept)
    rows, schedules = {}, {}
    for scenario in listed:
        state = scenario.apply(problem)
        costs, broken = state.score(kept), state.breaches(kept)
        row: dict[str, object] = {
            "kept_expected": problem.to_bps(float(costs["total"] - costs["risk"])),
            "kept_risk": problem.to_bps(float(costs["risk"])),
            "kept_total": problem.to_bps(float(costs["total"])),
        }
        row.update(dict.fromkeys(("new_expected", "new_risk", "new_total", "saved"), float("nan")))
        row |= {
            "kept_breaches": len(broken),
            "kept_worst": "" if broken.empty else f"{broken['limit'][0]}: {broken['where'][0]}",
            "moved": float("nan"),
            "status": "optimal",
        }
        try:
            found = state.solve(solver, **settings)
        except CrosswindError as refusal:
            row["status"] = f"{type(refusal).__name__}: {refusal.message}"
        else:
            schedules[scenario.name] = found
            row["new_expected"] = problem.to_bps(float(found.costs["total"] - found.costs["risk"]))
            row["new_risk"] = problem.to_bps(float(found.costs["risk"]))
            row["new_total"] = problem.to_bps(float(found.costs["total"]))
            row["saved"] = problem.to_bps(float(costs["total"] - found.costs["total"]))
            gross = max(problem.parent_notional, 1e-300)
            row["moved"] = 0.5 * float(np.abs(found.trades.to_numpy() - held).sum()) / gross
        rows[scenario.name] = row
    return ScenarioTable(problem, pd.DataFrame.from_dict(rows, orient="index").rename_axis("scenario"), schedules)


def market_scenarios(
    draws: int = 50,
    *,
    seed: int = 0,
    volume_sd: float = 0.3,
    volatility_sd: float = 0.25,
    correlation: float = 0.5,
    spread_sd: float = 0.0,
    impact_elasticity: float = 1.0,
) -> tuple[Scenario, ...]:
    """Return equally likely states of the day, volume and volatility jointly log-normal with mean one.

    Parameters
    ----------
    draws
        How many.
    seed
        Of the generator; the same seed gives the same states.
    volume_sd, volatility_sd, spread_sd
        Standard deviations of the logarithms.
    correlation
        Of the logarithms of volume and volatility, in (−1, 1).
    impact_elasticity
        a in K ∝ (volatility / volume)^a: 1 is the usual law, 0 leaves impact as it is.

    Raises
    ------
    InvalidInput
        On numbers out of range.
    """
    if int(draws) != draws or draws < 1:
        raise InvalidInput("must be a whole number of at least 1", field="draws", value=draws, remedy="50 is usual")
    sds = [as_scalar(v, f) for v, f in ((volume_sd, "volume_sd"), (volatility_sd, "volatility_sd"))]
    wide = as_scalar(spread_sd, "spread_sd")
    rho = as_scalar(correlation, "correlation", minimum=-1.0)
    if rho >= 1.0 or rho == -1.0:
        raise InvalidInput("must lie in (-1, 1)", field="correlation", value=rho, remedy="0.5 is usual")
    a = as_scalar(impact_elasticity, "impact_elasticity", minimum=-np.inf)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((int(draws), 3))
    volume = np.exp(sds[0] * z[:, 0] - 0.5 * sds[0] ** 2)
    volatility = np.exp(sds[1] * (rho * z[:, 0] + np.sqrt(1.0 - rho**2) * z[:, 1]) - 0.5 * sds[1] ** 2)
    spread = np.exp(wide * z[:, 2] - 0.5 * wide**2)
    return tuple(
        Scenario(f"draw {k}", float(v), float(c), float(s), float((s / v) ** a))
        for k, (v, c, s) in enumerate(zip(volume, spread, volatility, strict=True))
    )
