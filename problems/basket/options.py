"""What a desk adds to the plain basket: hedges, bands, drift, urgency, volume quantiles, the square-root cost."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray, as_scalar, name_frame, per_name, slice_frame
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = [
    "BETA_BAND",
    "CASH_BAND",
    "FACTOR_BAND",
    "Band",
    "as_hedges",
    "bands",
    "check_kinds",
    "drift_path",
    "square_root_cost",
    "volume_at_quantile",
]

CASH_BAND = "cash band"
BETA_BAND = "beta band"
FACTOR_BAND = "factor band"


@dataclass(frozen=True, eq=False)
class Band:
    """A band lower ≤ V'q_t ≤ upper after every slice: V as rows (b, N), edges (b,) [currency], b labels."""

    name: str
    rows: FloatArray
    lower: FloatArray
    upper: FloatArray
    labels: tuple[str, ...]


def check_kinds(problem: BasketProblem) -> None:
    """Refuse arguments of the wrong type, before anything is computed with them.

    Raises
    ------
    InvalidInput
        Naming the argument.
    """
    from crosswind.problems.basket.factors import FactorImpact
    from crosswind.problems.impact.model import ImpactModel

    series = ("must_finish", "previous_trade", "hedge_target", "beta")
    kinds: dict[str, tuple[object, str]] = {"model": (ImpactModel | FactorImpact, "an ImpactModel or a FactorImpact")}
    kinds |= dict.fromkeys(series, (pd.Series | None, "a Series by name, or None"))
    kinds["factor_exposures"] = (pd.DataFrame | None, "a frame names × factors, or None")
    kinds["drift"] = (pd.DataFrame | pd.Series | None, "a Series [1/s], a frame by slice, or None")
    for name, (kind, wanted) in kinds.items():
        if not isinstance(getattr(problem, name), kind):  # type: ignore[arg-type]
            raise InvalidInput(
                "has the wrong type",
                field=name,
                value=type(getattr(problem, name)).__name__,
                remedy=f"pass {wanted}",
            )
    if problem.hedge_target is not None and problem.hedges is None:
        raise InvalidInput("a target without hedges", field="hedge_target", value=None, remedy="pass hedges too")


def as_list(value: object, name: str) -> tuple[object, ...]:
    """Return blackouts, auctions or extra limits as a tuple.

    Raises
    ------
    InvalidInput
        When it is no list, or holds anything else.
    """
    from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit
    from crosswind.problems.basket.auctions import Auction
    from crosswind.problems.basket.windows import Blackout

    limits = (TradeLimit, GroupCap, BandLimit, RateLimit)
    kinds: dict[str, tuple[tuple[type, ...], str, str]] = {
        "blackouts": ((Blackout,), "Blackout windows", "[Blackout(start, end, names=None)]"),
        "auctions": ((Auction,), "Auctions", "[Auction(time, volume)]"),
        "extra_limits": (limits, "limits of crosswind.optim", "(TradeLimit(name, lower, upper),)"),
    }
    wanted, words, example = kinds[name]
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    wrong = [x for x in items if not isinstance(x, wanted)]
    if wrong or not isinstance(value, (list, tuple)):
        raise InvalidInput(
            f"must be a list that holds {words}",
            field=name,
            value=(wrong or [value])[0],
            remedy=f"for example {example}",
        )
    return items


def as_hedges(hedges: object, inventory: pd.Series) -> pd.Series | None:
    """Return the hedges as Series name -> position held now [currency], or None; a list of names holds nothing yet.

    Raises
    ------
    InvalidInput
        On other types, NaN, or a hedge that is in the inventory too.
    """
    if hedges is None:
        return None
    if not isinstance(hedges, pd.Series):
        if isinstance(hedges, str) or not isinstance(hedges, (list, tuple, pd.Index)):
            raise InvalidInput(
                "must list the hedge instruments",
                field="hedges",
                value=type(hedges).__name__,
                remedy="pass a list of names, or a Series name -> position held now",
            )
        hedges = pd.Series(0.0, index=[str(n) for n in hedges])
    if hedges.empty:
        return None
    names = tuple(str(n) for n in hedges.index)
    values = per_name(hedges, names, "hedges", minimum=-np.inf)
    both = [n for n in names if n in inventory.index]
    if both:
        raise InvalidInput(
            f"are orders and hedges at once: {', '.join(both[:8])}",
            field="hedges",
            value=both,
            remedy="a name of the inventory trades to its target; drop it from one of the two",
        )
    return pd.Series(values, index=list(names), name="hedges")


def volume_at_quantile(volume: FloatArray, sd: FloatArray, quantile: float | None) -> FloatArray:
    """Return V·exp(z_p s): the p-quantile of a log-normal volume with median V and log standard deviation s (T, N)."""
    if quantile is None:
        return volume
    return np.asarray(volume * np.exp(NormalDist().inv_cdf(quantile) * sd), dtype=np.float64)


def drift_path(problem: BasketProblem, seconds: FloatArray) -> FloatArray:
    """Return the expected relative return over each slice after its trade (T, N), which the remaining order pays.

    For a Series α [1/s] with half-life h the expected move from the first slice to s seconds later is
    α h/ln 2 (1 − 2^{−s/h}), or αs without a half-life; the return of slice t is its increment.

    Parameters
    ----------
    problem
        The basket, with ``drift`` and ``drift_half_life_s``.
    seconds
        (T + 1,) start of each slice and the end of the last, from the first start.

    Raises
    ------
    InvalidInput
        On missing names, NaN, or a half-life that is not positive.
    """
    names, T = problem.names, problem.n_slices
    if problem.drift is None:
        if problem.drift_half_life_s is not None:
            raise InvalidInput(
                "a half-life without a drift", field="drift_half_life_s", value=None, remedy="pass drift, or neither"
            )
        return np.zeros((T, len(names)))
    if isinstance(problem.drift, pd.DataFrame):
        if problem.drift_half_life_s is not None:
            raise InvalidInput(
                "a frame of drift is a path already and takes no half-life",
                field="drift_half_life_s",
                value="given",
                remedy="pass drift as a Series [1/s], or drop the half-life",
            )
        return slice_frame(problem.drift, problem.times, names, "drift", signed=True)
    alpha = per_name(problem.drift, names, "drift", minimum=-np.inf)
    if problem.drift_half_life_s is None:
        return np.asarray(np.diff(seconds)[:, None] * alpha)
    life = per_name(problem.drift_half_life_s, names, "drift_half_life_s")
    if (life <= 0.0).any():
        raise InvalidInput("must be > 0", field="drift_half_life_s", value=float(life.min()), remedy="seconds, or None")
    rate = np.log(2.0) / life
    moved = -np.expm1(-seconds[:, None] * rate) / rate
    return np.asarray(np.diff(moved, axis=0) * alpha)


def square_root_cost(
    covariance: pd.DataFrame, volume: pd.DataFrame, slice_s: float, coefficient: float = 0.5
) -> pd.DataFrame:
    """Return κ (T × N) of the cost κ|u|^{3/2} that makes a trade u pay Y σ √(|u|/V) per unit: κ_it = Y σ_i / √V_it.

    σ_i is the volatility over a slice; σ/√V does not depend on the length of the slice, so daily σ and V give the same.

    Parameters
    ----------
    covariance
        Of relative returns per second, names × names (its diagonal is used).
    volume
        Forecast notional, slices × names [currency]; where it is zero, the smallest positive one of the name.
    slice_s
        Length of a slice [s].
    coefficient
        Y, of order one; without unit.

    Raises
    ------
    InvalidInput
        On names without volume at all, or a negative coefficient.
    """
    Y, length = as_scalar(coefficient, "coefficient"), as_scalar(slice_s, "slice_s", strict=True)
    names = tuple(str(c) for c in volume.columns)
    V = slice_frame(volume, pd.DatetimeIndex(volume.index).tz_convert("UTC"), names, "volume")
    variance = np.diag(name_frame(covariance, names, names, "covariance"))
    least = np.where(V > 0.0, V, np.inf).min(axis=0)
    if np.isinf(least).any():
        dead = [n for n, v in zip(names, least, strict=True) if np.isinf(v)]
        raise InvalidInput("names without volume", field="volume", value=dead, remedy="drop them")
    V = np.where(V > 0.0, V, least)
    return pd.DataFrame(Y * np.sqrt(variance * length) / np.sqrt(V), index=volume.index, columns=list(names))


def bands(problem: BasketProblem) -> list[Band]:
    """Return the cash, beta and factor bands of a problem.

    Raises
    ------
    InvalidInput
        On a band without its exposures, missing names, negative widths, crossed edges, unknown factors.
    """
    names, N = problem.names, problem.n_names
    found: list[Band] = []
    if problem.cash_band is not None:
        # Net cash is that of the orders: a hedge by futures moves none.
        row = np.where(problem.arrays.hedge, 0.0, 1.0)[None, :]
        edge = np.array([problem.cash_band])
        found.append(Band(CASH_BAND, row, -edge, edge, ("net cash",)))
    if problem.beta_band is not None:
        if problem.beta is None:
            raise InvalidInput(
                "a beta band needs the betas", field="beta", value=None, remedy="pass a Series name -> beta, hedges too"
            )
        row = per_name(problem.beta, names, "beta", minimum=-np.inf)[None, :]
        edge = np.array([problem.beta_band])
        found.append(Band(BETA_BAND, row, -edge, edge, ("beta",)))
    if problem.factor_band is not None:
        if problem.factor_exposures is None:
            raise InvalidInput(
                "a factor band needs the exposures",
                field="factor_exposures",
                value=None,
                remedy="pass a frame names × factors",
            )
        columns = tuple(str(c) for c in problem.factor_exposures.columns)
        lower, upper = _edges(problem.factor_band, columns)
        kept = np.isfinite(lower) | np.isfinite(upper)
        rows = name_frame(problem.factor_exposures, names, columns, "factor_exposures").T.reshape(len(columns), N)
        labels = tuple(c for c, k in zip(columns, kept, strict=True) if k)
        if labels:
            found.append(Band(FACTOR_BAND, rows[kept], lower[kept], upper[kept], labels))
    return found


def _edges(band: pd.DataFrame | pd.Series | float, factors: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper edges (f,) of the factor band, ±inf for a factor without one."""
    if not isinstance(band, (pd.DataFrame, pd.Series)):
        width = np.full(len(factors), as_scalar(band, "factor_band"))
        return -width, width
    table = band if isinstance(band, pd.DataFrame) else pd.DataFrame({"lower": -band, "upper": band})
    unknown = [str(f) for f in table.index if str(f) not in factors]
    if unknown or not {"lower", "upper"} <= {str(c) for c in table.columns}:
        raise InvalidInput(
            "must give lower and upper by factor of factor_exposures",
            field="factor_band",
            value=unknown or [str(c) for c in table.columns],
            remedy=f"index it by some of {', '.join(factors[:8])}; columns lower, upper",
        )
    try:
        sides = table[["lower", "upper"]].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise InvalidInput("must be numeric", field="factor_band", value=str(err), remedy="edges in currency") from err
    given = {str(f): (float(sides[k, 0]), float(sides[k, 1])) for k, f in enumerate(table.index)}
    lower = np.array([given.get(f, (-np.inf, np.inf))[0] for f in factors])
    upper = np.array([given.get(f, (-np.inf, np.inf))[1] for f in factors])
    if np.isnan(lower).any() or np.isnan(upper).any() or (lower > upper).any():
        bad = factors[int(np.argmax(np.isnan(lower) | np.isnan(upper) | (lower > upper)))]
        raise InvalidInput(
            f"must hold lower <= upper without NaN for {bad}", field="factor_band", value=given[bad], remedy="swap them"
        )
    return lower, upper
