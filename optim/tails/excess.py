"""The law of what exceeds a high threshold: generalised Pareto, weighted maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crosswind.optim.checks import FloatArray, finite_array
from crosswind.optim.tails.checks import check_weights
from crosswind.solvers.errors import InvalidInput

__all__ = ["ExcessTail", "fit_excess"]

_SMALL = 1e-9  # |ξ| below it is taken as the exponential law


@dataclass(frozen=True)
class ExcessTail:
    """P(E > e) = (1 + ξ e/σ)^(−1/ξ) for the excess e ≥ 0 over a threshold; exp(−e/σ) for ξ = 0.

    Parameters
    ----------
    scale
        σ [unit of the excesses], ≥ 0; 0 where nothing exceeds.
    shape
        ξ < 1; above 0 the tail is heavy, below 0 it ends at −σ/ξ.
    rows
        Excesses that it was fitted to.
    loss
        Mean negative log-likelihood; NaN without excesses.
    at_bound
        Whether ξ stands at an end of the range allowed.
    """

    scale: float
    shape: float
    rows: int
    loss: float
    at_bound: bool

    @property
    def mean(self) -> float:
        """Mean excess σ/(1 − ξ)."""
        return self.scale / (1.0 - self.shape)

    def quantile(self, level: Any) -> FloatArray:
        """Return the excess that is exceeded with probability 1 − level."""
        left = -np.log1p(-np.asarray(level, dtype=np.float64))
        if abs(self.shape) < _SMALL:
            plain: FloatArray = self.scale * left
            return plain
        value: FloatArray = self.scale * np.expm1(self.shape * left) / self.shape
        return value

    def summary(self) -> str:
        """Return one line."""
        return f"excess over the threshold: σ {self.scale:.4g}, ξ {self.shape:+.3f}, {self.rows} excesses"


def fit_excess(
    excesses: Any, weights: Any = None, shapes: tuple[float, float] = (-0.25, 0.5), least: int = 30
) -> ExcessTail:
    """Fit the generalised Pareto law by weighted maximum likelihood.

    For each ξ the likelihood's maximum over σ solves Σ w (1 + ξ) e/(σ + ξ e) = 1; ξ is then searched in its range.

    Parameters
    ----------
    excesses
        Values (n,), ≥ 0; zeros are kept (ties at the threshold). May be empty.
    weights
        Not negative (n,).
    shapes
        Range of ξ, within (−0.5, 1): below, maximum likelihood is not regular; at 1 the mean is infinite.
    least
        With fewer positive excesses ξ is 0: the exponential law, whose only number is the mean.

    Returns
    -------
    ExcessTail

    Raises
    ------
    InvalidInput
        Negative or missing excesses, bad weights, a range out of order.

    References
    ----------
    Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3 (1975); Davison and Smith,
    "Models for exceedances over high thresholds", JRSS B 52 (1990).
    """
    from scipy.optimize import minimize_scalar

    low, high = float(shapes[0]), float(shapes[1])
    if not -0.5 < low <= 0.0 <= high < 1.0:
        raise InvalidInput(
            "must hold 0 and lie within (-0.5, 1)", field="shapes", value=shapes, remedy="e.g. (-0.25, 0.5)"
        )
    e = finite_array("excesses", excesses, minimum=0.0, ndim=1)
    if e.size == 0:
        return ExcessTail(0.0, 0.0, 0, float("nan"), False)
    w = check_weights(weights, e.size)
    e, w = e[w > 0.0], w[w > 0.0]
    mean = float(w @ e)
    if mean <= 0.0:
        return ExcessTail(0.0, 0.0, e.size, float("nan"), False)
    if int((e > 0.0).sum()) < least or high - low < _SMALL:
        return ExcessTail(mean, 0.0, e.size, float(np.log(mean) + 1.0), False)
    e = e / mean

    def loss(shape: float) -> float:
        return _loss(e, w, shape, _scale(e, w, shape))

    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    # A bounded search never reaches the ends, where the best may be, nor zero.
    shape = min((float(found.x), low, high, 0.0), key=loss)
    scale = _scale(e, w, shape)
    at_bound = min(shape - low, high - shape) < 1e-6
    return ExcessTail(scale * mean, shape, e.size, _loss(e, w, shape, scale) + float(np.log(mean)), at_bound)


def _scale(e: FloatArray, w: FloatArray, shape: float) -> float:
    from scipy.optimize import brentq

    if abs(shape) < _SMALL:
        return float(w @ e)

    def excess(log_scale: float) -> float:
        return float((1.0 + shape) * (w @ (e / (np.exp(log_scale) + shape * e)))) - 1.0

    # Falls in σ from above 0 (for ξ < 0 at the end of the law's range) to −1.
    least = max(1e-12, -shape * float(e.max()) * (1.0 + 1e-12))
    low = np.log(least)
    if excess(low) <= 0.0:
        return float(least)
    high = np.log(max(2.0 * least, 1.0))
    while excess(high) > 0.0:
        high += 1.0
    return float(np.exp(brentq(excess, low, high, xtol=1e-13)))


def _loss(e: FloatArray, w: FloatArray, shape: float, scale: float) -> float:
    if abs(shape) < _SMALL:
        return float(np.log(scale) + (w @ e) / scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = 1.0 + shape * e / scale
        if (inside <= 0.0).any():
            return float("inf")
        return float(np.log(scale) + (1.0 + 1.0 / shape) * (w @ np.log(inside)))
