"""Value at risk and conditional value at risk of weighted samples, exact, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar
from crosswind.optim.tails.checks import check_groups, check_weights
from crosswind.solvers.errors import InvalidInput

__all__ = ["TailRisk", "cvar", "rockafellar_uryasev", "tail_risk", "value_at_risk"]

# Cumulative weights carry rounding: a level that is reached up to it counts as reached.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class TailRisk:
    """Tail of a sample of costs at one level.

    Parameters
    ----------
    level
        α, e.g. 0.95.
    var, cvar
        Quantile and conditional value at risk [unit of the costs].
    var_interval, cvar_interval
        Intervals (low, high) with ``confidence``; see :func:`tail_risk`.
    confidence
        Of the intervals.
    rows, effective
        Rows with a positive weight, and the effective sample size 1/Σw² (over groups where these are given).
    """

    level: float
    var: float
    cvar: float
    var_interval: tuple[float, float]
    cvar_interval: tuple[float, float]
    confidence: float
    rows: int
    effective: float

    def to_frame(self) -> pd.DataFrame:
        """Return rows ``var`` and ``cvar`` × ``value``, ``low``, ``high``."""
        rows = {"var": (self.var, *self.var_interval), "cvar": (self.cvar, *self.cvar_interval)}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])

    def summary(self) -> str:
        """Return one line."""
        (a, b), (c, d) = self.var_interval, self.cvar_interval
        return (
            f"q{100 * self.level:g} {self.var:.4g} [{a:.4g}, {b:.4g}], CVaR{100 * self.level:g} {self.cvar:.4g} "
            f"[{c:.4g}, {d:.4g}] ({self.confidence:.0%} intervals, {self.rows:,} samples)"
        )


def value_at_risk(costs: Any, level: float = 0.95, weights: Any = None) -> float:
    """Return the lower quantile inf{z : P(C ≤ z) ≥ α} of weighted samples.

    Parameters
    ----------
    costs
        Samples (n,), positive = money lost.
    level
        α in (0, 1).
    weights
        Not negative (n,), in any scale; None weighs all equally.

    Raises
    ------
    InvalidInput
        No sample, NaN or inf, bad weights, a level outside (0, 1).
    """
    values, mass, alpha = _sorted(costs, level, weights)
    return float(values[_position(mass, alpha)])


def cvar(costs: Any, level: float = 0.95, weights: Any = None) -> float:
    """Return CVaR_α = min_t t + E[(C − t)⁺]/(1 − α), exact for weighted samples.

    The minimum is at t = VaR_α, which gives the mean of the worst 1 − α of the mass; an atom at the quantile is split:
    (E[C 1{C > VaR}] + VaR (P(C ≤ VaR) − α))/(1 − α).

    Parameters
    ----------
    costs, level, weights
        As in :func:`value_at_risk`.

    Raises
    ------
    InvalidInput
        As in :func:`value_at_risk`.

    References
    ----------
    Rockafellar and Uryasev, "Optimization of conditional value-at-risk", Journal of Risk 2 (2000), equation 4;
    "Conditional value-at-risk for general loss distributions", Journal of Banking & Finance 26 (2002), proposition 8.
    """
    values, mass, alpha = _sorted(costs, level, weights)
    at = values[_position(mass, alpha)]
    # As t + E[(C − t)⁺]/(1 − α): a sum of terms ≥ 0 does not cancel where the costs are large.
    return float(at + (mass @ np.maximum(values - at, 0.0)) / (1.0 - alpha))


def rockafellar_uryasev(costs: Any, threshold: float, level: float = 0.95, weights: Any = None) -> float:
    """Return the convex function t ↦ t + E[(C − t)⁺]/(1 − α), whose least value is CVaR_α.

    Parameters
    ----------
    costs, level, weights
        As in :func:`value_at_risk`.
    threshold
        t, in the unit of the costs.
    """
    values, mass, alpha = _sorted(costs, level, weights)
    t = finite_scalar("threshold", threshold)
    return float(t + (mass @ np.maximum(values - t, 0.0)) / (1.0 - alpha))


def tail_risk(
    costs: Any, level: float = 0.95, weights: Any = None, groups: Any = None, confidence: float = 0.95
) -> TailRisk:
    """Return VaR and CVaR of weighted samples with intervals.

    The interval of the quantile is free of the distribution: with equal weights the order statistics between which the
    quantile lies by the binomial law; else the sample's quantiles at α ± z s, s the standard error of P(C ≤ VaR) (the
    interval of Woodruff). That of CVaR is normal with the influence function VaR + (C − VaR)⁺/(1 − α). Where ``groups``
    are given, both standard errors are taken over the sums of whole groups, which may depend within.

    Parameters
    ----------
    costs, level, weights
        As in :func:`value_at_risk`.
    groups
        Labels (n,), e.g. the day of each sample; None: every sample stands alone.
    confidence
        Of both intervals.

    Returns
    -------
    TailRisk
        An end of the quantile's interval is ±inf where the sample is too small to bound it; the interval of CVaR is
        (−inf, inf) with less than two samples, or groups.

    Raises
    ------
    InvalidInput
        As in :func:`value_at_risk`, groups of another length, or a confidence outside (0, 1).

    References
    ----------
    Woodruff, "Confidence intervals for medians and other position measures", JASA 47 (1952); Trindade et al.,
    "Financial prediction with constrained tail risk", Journal of Banking & Finance 31 (2007), for the normal law.
    """
    given = finite_array("costs", costs, ndim=1)
    _sorted(given, level, weights)
    share = _check_share(confidence, "confidence")
    mass = check_weights(weights, given.size)
    keep = mass > 0.0
    c, w = given[keep], mass[keep]
    at, mean_tail = value_at_risk(c, level, w), cvar(c, level, w)
    codes = np.arange(c.size) if groups is None else check_groups(groups, given.size)[0][keep]
    sums = np.bincount(codes, weights=w)
    count = int((sums > 0.0).sum())
    z = float(stats.norm.ppf(0.5 + 0.5 * share))

    def error(influence: FloatArray) -> float:
        by_group = np.bincount(codes, weights=w * influence)
        return float(np.sqrt(by_group @ by_group * count / (count - 1))) if count > 1 else np.inf

    if groups is None and np.ptp(w) == 0.0:
        low, high = _order_interval(np.sort(c), level, share)
    else:
        spread = error((c <= at).astype(np.float64) - level)
        low, high = (_quantile_or_inf(c, level + sign * z * spread, w) for sign in (-1.0, 1.0))
    tail = at + np.maximum(c - at, 0.0) / (1.0 - level)
    half = z * error(tail - mean_tail)
    return TailRisk(
        level=float(level),
        var=at,
        cvar=mean_tail,
        var_interval=(low, high),
        cvar_interval=(mean_tail - half, mean_tail + half),
        confidence=share,
        rows=int(keep.sum()),
        effective=float(1.0 / (sums @ sums)),
    )


def _check_share(value: float, field: str) -> float:
    number = finite_scalar(field, value)
    if not 0.0 < number < 1.0:
        raise InvalidInput("must lie between 0 and 1", field=field, value=number, remedy="e.g. 0.95")
    return number


def _sorted(costs: Any, level: float, weights: Any) -> tuple[FloatArray, FloatArray, float]:
    values = finite_array("costs", costs, ndim=1)
    if values.size == 0:
        raise InvalidInput("there is no sample", field="costs", value=0, remedy="pass at least one")
    alpha, mass = _check_share(level, "level"), check_weights(weights, values.size)
    values, mass = values[mass > 0.0], mass[mass > 0.0]
    order = np.argsort(values, kind="stable")
    return values[order], mass[order], alpha


def _position(mass: FloatArray, alpha: float) -> int:
    return min(int(np.searchsorted(np.cumsum(mass), alpha - _ROUNDING)), mass.size - 1)


def _order_interval(ordered: FloatArray, level: float, share: float) -> tuple[float, float]:
    # P(C_(l) ≤ q) = P(Bin(n, α) ≥ l) and P(q ≤ C_(u)) ≥ P(Bin(n, α) ≤ u − 1): half of the risk at either end.
    n, risk = ordered.size, 0.5 * (1.0 - share)
    lower = int(stats.binom.ppf(risk, n, level))
    upper = int(stats.binom.ppf(1.0 - risk, n, level)) + 1
    low = float(ordered[lower - 1]) if lower >= 1 else -np.inf
    return low, float(ordered[upper - 1]) if upper <= n else np.inf


def _quantile_or_inf(costs: FloatArray, level: float, weights: FloatArray) -> float:
    if level <= 0.0:
        return -np.inf
    return np.inf if level >= 1.0 else value_at_risk(costs, level, weights)
