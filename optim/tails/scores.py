"""How good probabilities are: reliability curve with slope and interval, Brier score taken apart, losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar
from crosswind.optim.tails.calibration import check_classes, check_probabilities
from crosswind.optim.tails.checks import check_features, check_groups, check_levels, check_weights
from crosswind.solvers.errors import InvalidInput

__all__ = ["BrierScore", "Reliability", "brier", "log_loss", "pinball_loss", "reliability"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Frequency of an event by its predicted probability.

    Parameters
    ----------
    table
        Bins × ``predicted`` (mean probability), ``observed`` (frequency), ``low``, ``high`` (interval of the
        frequency), ``weight`` (share of the rows).
    slope, intercept
        Of the least-squares line of outcome (0 or 1) on probability: 1 and 0 for a calibrated forecast. NaN where all
        probabilities are equal.
    slope_interval, intercept_interval
        With ``confidence``, over whole groups.
    error
        Weighted mean of |observed − predicted| over the bins (expected calibration error).
    confidence
        Of the intervals.
    """

    table: pd.DataFrame
    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    intercept_interval: tuple[float, float]
    error: float
    confidence: float

    def to_frame(self) -> pd.DataFrame:
        """Return the bins."""
        return self.table.copy()

    def summary(self) -> str:
        """Return one line."""
        low, high = self.slope_interval
        return (
            f"slope {self.slope:.3f} [{low:.3f}, {high:.3f}], intercept {self.intercept:+.4f}, "
            f"calibration error {self.error:.4f}"
        )


def reliability(
    probability: Any,
    outcome: Any,
    bins: int = 10,
    groups: Any = None,
    weights: Any = None,
    confidence: float = 0.95,
) -> Reliability:
    """Return the reliability curve of one event.

    Parameters
    ----------
    probability
        Predicted (n,), in [0, 1].
    outcome
        Whether it came (n,), 0 or 1.
    bins
        Bins of equal weight; those that share an edge are joined.
    groups
        Labels (n,) of rows that depend on each other; errors are taken over whole groups (sandwich, factor G/(G − 1)).
    weights
        Not negative (n,).
    confidence
        Of the intervals, with the quantile of Student's t of G − 1 degrees of freedom.

    Raises
    ------
    InvalidInput
        Probabilities outside [0, 1], outcomes other than 0 and 1, other lengths, no bin.

    References
    ----------
    Murphy and Winkler, "Reliability of subjective probability forecasts", Applied Statistics 26 (1977); Liang and
    Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 73 (1986), for the errors.
    """
    p = finite_array("probability", probability, ndim=1)
    y = finite_array("outcome", np.asarray(outcome, dtype=np.float64), (p.size,))
    if p.size == 0 or (p < 0.0).any() or (p > 1.0).any():
        raise InvalidInput("is not in [0, 1]", field="probability", value=p.tolist()[:3], remedy="pass probabilities")
    if ((y != 0.0) & (y != 1.0)).any():
        raise InvalidInput("is neither 0 nor 1", field="outcome", value=y.tolist()[:3], remedy="say whether it came")
    if bins < 1:
        raise InvalidInput("must be 1 or more", field="bins", value=bins, remedy="e.g. 10")
    level = finite_scalar("confidence", confidence)
    if not 0.0 < level < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="confidence", value=level, remedy="e.g. 0.95")
    w = check_weights(weights, p.size)
    codes = np.arange(p.size) if groups is None else check_groups(groups, p.size)[0]
    clusters = len(np.unique(codes[w > 0.0]))
    z = float(stats.t.ppf(0.5 + 0.5 * level, clusters - 1)) if clusters > 1 else np.inf

    where = _bins(p, w, bins)
    rows = []
    for b in range(where.max() + 1):
        inside = where == b
        share = float(w[inside].sum())
        if share == 0.0:
            continue
        predicted, observed = (float(w[inside] @ v[inside]) / share for v in (p, y))
        by_group = np.bincount(codes[inside], weights=w[inside] * (y[inside] - observed))
        half = z * float(np.sqrt(by_group @ by_group)) / share
        # No error is seen where all or none came: the rule of three then bounds what was not seen.
        if observed in (0.0, 1.0):
            half = -np.log1p(-level) / max(1, len(np.unique(codes[inside & (w > 0.0)])))
        rows.append((predicted, observed, max(0.0, observed - half), min(1.0, observed + half), share))
    table = pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "weight"])
    error = float(sum(share * abs(observed - predicted) for predicted, observed, _, _, share in rows))

    mean, frequency = float(w @ p), float(w @ y)
    spread = float(w @ (p - mean) ** 2)
    if spread <= 1e-18:
        nan = float("nan")
        return Reliability(table, nan, nan, (nan, nan), (nan, nan), error, level)
    slope = float(w @ ((p - mean) * y)) / spread
    intercept = frequency - slope * mean
    residual = y - intercept - slope * p
    # Influence of each row on (intercept, slope).
    on_slope = w * (p - mean) / spread * residual
    on_intercept = w * residual - mean * on_slope
    factor = clusters / (clusters - 1) if clusters > 1 else np.inf
    halves = []
    for influence in (on_slope, on_intercept):
        sums = np.bincount(codes, weights=influence)
        halves.append(z * float(np.sqrt(sums @ sums * factor)) if clusters > 1 else np.inf)
    a, b_ = (slope - halves[0], slope + halves[0]), (intercept - halves[1], intercept + halves[1])
    return Reliability(table, slope, intercept, a, b_, error, level)


def _bins(p: FloatArray, w: FloatArray, bins: int) -> Any:
    order = np.argsort(p, kind="stable")
    reached = np.cumsum(w[order])
    edges = p[order][np.minimum(np.searchsorted(reached, np.arange(1, bins) / bins), p.size - 1)]
    return np.searchsorted(np.unique(edges), p, side="left")


@dataclass(frozen=True)
class BrierScore:
    """Brier score of K classes and what it is made of: score = reliability − resolution + uncertainty + within.

    Parameters
    ----------
    score
        Mean of Σ_k (p_k − 1{k came})², 0 … 2.
    reliability
        Mean squared distance of bins' frequencies from bins' mean probabilities: 0 is best.
    resolution
        Mean squared distance of bins' frequencies from the overall one: large is good.
    uncertainty
        Σ_k f_k (1 − f_k) of the overall frequencies: the score of always forecasting them.
    within
        What the bins hide: variance of the probabilities within bins less twice their covariance with the outcome.
    skill
        1 − score/uncertainty; NaN where nothing is uncertain.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def skill(self) -> float:
        """1 − score/uncertainty: > 0 where the forecast beats the frequencies; NaN where nothing is uncertain."""
        return 1.0 - self.score / self.uncertainty if self.uncertainty > 0.0 else float("nan")

    def summary(self) -> str:
        """Return one line."""
        return (
            f"Brier {self.score:.4f} = reliability {self.reliability:.4f} − resolution {self.resolution:.4f} + "
            f"uncertainty {self.uncertainty:.4f} + within bins {self.within:+.4f}; skill {self.skill:.1%}"
        )


def brier(probabilities: Any, outcomes: Any, bins: int = 10, weights: Any = None) -> BrierScore:
    """Return the Brier score of class probabilities with its exact decomposition over bins of each class.

    Parameters
    ----------
    probabilities
        (n, K), rows summing to 1.
    outcomes
        Class numbers (n,), 0 … K − 1.
    bins
        Bins of equal weight, for each class by its own probability.
    weights
        Not negative (n,).

    Raises
    ------
    InvalidInput
        Rows that do not sum to 1, classes out of range, bad weights.

    References
    ----------
    Murphy, "A new vector partition of the probability score", Journal of Applied Meteorology 12 (1973); Stephenson,
    Coelho and Jolliffe, "Two extra components in the Brier score decomposition", Weather and Forecasting 23 (2008).
    """
    P = check_probabilities(probabilities)
    codes = check_classes(outcomes, *P.shape)
    w = check_weights(weights, len(P))
    if bins < 1:
        raise InvalidInput("must be 1 or more", field="bins", value=bins, remedy="e.g. 10")
    score = rel = res = unc = within = 0.0
    for k in range(P.shape[1]):
        p, y = P[:, k], (codes == k).astype(np.float64)
        where = _bins(p, w, bins)
        share = np.bincount(where, weights=w)
        safe = np.where(share > 0.0, share, 1.0)
        predicted, observed = (np.bincount(where, weights=w * v) / safe for v in (p, y))
        overall = float(w @ y)
        score += float(w @ (p - y) ** 2)
        rel += float(share @ (predicted - observed) ** 2)
        res += float(share @ (observed - overall) ** 2)
        unc += overall * (1.0 - overall)
        inside_p, inside_y = p - predicted[where], y - observed[where]
        within += float(w @ inside_p**2 - 2.0 * (w @ (inside_p * inside_y)))
    return BrierScore(score, rel, res, unc, within)


def log_loss(probabilities: Any, outcomes: Any, weights: Any = None) -> float:
    """Return the mean of −log p of the class that came; inf where it had probability 0.

    Parameters
    ----------
    probabilities, outcomes, weights
        As in :func:`brier`.

    Raises
    ------
    InvalidInput
        As :func:`brier`.
    """
    P = check_probabilities(probabilities)
    codes = check_classes(outcomes, *P.shape)
    w = check_weights(weights, len(P))
    came = P[np.arange(len(P)), codes][w > 0.0]
    with np.errstate(divide="ignore"):
        return float(w[w > 0.0] @ -np.log(came))


def pinball_loss(quantiles: Any, y: Any, levels: Any, weights: Any = None) -> FloatArray:
    """Return the mean of ρ_τ(y − q_τ) by level (K,), ρ_τ(r) = max(τ r, (τ − 1) r) [unit of y].

    Parameters
    ----------
    quantiles
        (n, K).
    y
        (n,).
    levels
        τ (K,).
    weights
        Not negative (n,).

    Raises
    ------
    InvalidInput
        NaN or inf, other shapes, bad levels.
    """
    tau = check_levels(levels)
    Q = check_features(quantiles, len(tau), "quantiles")
    r = finite_array("y", y, (len(Q),))[:, None] - Q
    mean: FloatArray = check_weights(weights, len(Q)) @ np.maximum(tau * r, (tau - 1.0) * r)
    return mean
