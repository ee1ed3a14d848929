"""Mixtures of laws given by their quantiles: the tail of Σ P_b F_b, which is not Σ P_b of the tails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crosswind.optim.checks import FloatArray, finite_array, frozen
from crosswind.optim.tails.calibration import check_probabilities
from crosswind.optim.tails.checks import check_levels
from crosswind.solvers.errors import InvalidInput

__all__ = ["Mixture", "TailedQuantiles"]

_SMALL = 1e-9
_HALVINGS = 64  # down to the rounding of the bracket's width


@dataclass(frozen=True, eq=False)
class TailedQuantiles:
    """n laws by their quantiles: straight lines between the levels, a generalised Pareto tail beyond the last.

    Below the first level a law stands still at its first value (an atom of that mass). Beyond the last level τ_L with
    the value u, P(X > x) = (1 − τ_L)(1 + ξ (x − u)/σ)^(−1/ξ).

    Parameters
    ----------
    levels
        τ (L,), strictly increasing in (0, 1).
    values
        Quantiles (n, L) or (L,), not decreasing along each row.
    scale
        σ ≥ 0, (n,) or one number; 0 ends the law at its last value.
    shape
        ξ < 1, one number or (n,).

    Raises
    ------
    InvalidInput
        Quantiles that cross, NaN or inf, a negative σ, ξ ≥ 1.
    """

    levels: FloatArray
    values: FloatArray
    scale: FloatArray
    shape: FloatArray

    def __post_init__(self) -> None:
        levels = check_levels(self.levels)
        values = np.atleast_2d(finite_array("values", self.values))
        if values.ndim != 2 or values.shape[1] != len(levels):
            raise InvalidInput(
                "is not one column for each level", field="values", value=values.shape, remedy="pass (n, levels)"
            )
        if (np.diff(values, axis=1) < 0.0).any():
            row = int(np.argmax((np.diff(values, axis=1) < 0.0).any(axis=1)))
            raise InvalidInput("cross", field="values", value=values[row].tolist(), remedy="sort each row")
        n = len(values)
        shape = finite_array("shape", self.shape, (n,))
        if (shape >= 1.0).any():
            raise InvalidInput(
                "has no mean", field="shape", value=float(shape.max()), remedy="bound the fit of the tail below 1"
            )
        set_ = object.__setattr__
        set_(self, "levels", levels)
        set_(self, "values", frozen(values))
        set_(self, "scale", finite_array("scale", self.scale, (n,), minimum=0.0))
        set_(self, "shape", shape)

    def __len__(self) -> int:
        return len(self.values)

    def quantile(self, level: float) -> FloatArray:
        """Return the quantile at ``level`` of each law (n,)."""
        tau = float(check_levels(level, "level")[0])
        last = self.levels[-1]
        if tau > last:
            left = np.log((1.0 - last) / (1.0 - tau))
            safe = np.where(np.abs(self.shape) < _SMALL, 1.0, self.shape)
            growth = np.where(np.abs(self.shape) < _SMALL, left, np.expm1(self.shape * left) / safe)
            beyond: FloatArray = self.values[:, -1] + self.scale * growth
            return beyond
        at = int(np.searchsorted(self.levels, tau))
        if at == 0:
            return self.values[:, 0].copy()
        part = (tau - self.levels[at - 1]) / (self.levels[at] - self.levels[at - 1])
        left, right = self.values[:, at - 1], self.values[:, at]
        # In this form a flat piece gives its value to the last bit: one bit below an atom all its mass is missing.
        value: FloatArray = np.where(part < 1.0, left + part * (right - left), right)
        return value

    def cdf(self, x: Any) -> FloatArray:
        """Return P(X ≤ x) of each law at its own x (n,)."""
        return self._cdf(finite_array("x", x, (len(self),)))

    def _cdf(self, at: FloatArray) -> FloatArray:
        v, tau = self.values, self.levels
        below = (v <= at[:, None]).sum(axis=1)  # knots at or below x
        left = np.clip(below - 1, 0, len(tau) - 1)
        right = np.minimum(left + 1, len(tau) - 1)
        rows = np.arange(len(self))
        width = v[rows, right] - v[rows, left]
        part = np.where(width > 0.0, (at - v[rows, left]) / np.where(width > 0.0, width, 1.0), 0.0)
        inside = tau[left] + part * (tau[right] - tau[left])
        tail = 1.0 - (1.0 - tau[-1]) * self._survival(at - v[:, -1])
        return np.where(below == 0, 0.0, np.where(below == len(tau), tail, inside))

    def _survival(self, excess: FloatArray) -> FloatArray:
        e = np.maximum(excess, 0.0)
        scale, shape = np.where(self.scale > 0.0, self.scale, 1.0), self.shape
        flat = np.abs(shape) < _SMALL
        inside = np.maximum(1.0 + shape * e / scale, 0.0)
        with np.errstate(divide="ignore"):
            heavy = inside ** (-1.0 / np.where(flat, 1.0, shape))
        alive = np.where(flat, np.exp(-e / scale), heavy)
        return np.where(self.scale > 0.0, alive, 0.0)

    def shortfall(self, x: Any) -> FloatArray:
        """Return E[(X − x)⁺] of each law at its own x (n,), exact for these laws."""
        at = finite_array("x", x, (len(self),))
        v, tau = self.values, self.levels
        total = tau[0] * np.maximum(v[:, 0] - at, 0.0)
        for k in range(len(tau) - 1):
            low, high = v[:, k] - at, v[:, k + 1] - at
            width = np.where(high > low, high - low, 1.0)
            # Mean over a segment of (line)⁺: its trapezium, or the triangle beyond the root.
            part = np.where(low >= 0.0, 0.5 * (low + high), np.where(high > 0.0, 0.5 * high**2 / width, 0.0))
            total = total + (tau[k + 1] - tau[k]) * part
        over = at - v[:, -1]
        e, mean = np.maximum(over, 0.0), self.scale / (1.0 - self.shape)
        left = np.maximum(1.0 + self.shape * e / np.where(self.scale > 0.0, self.scale, 1.0), 0.0)
        # Mean excess over u + e is (σ + ξ e)/(1 − ξ), reached with the survival.
        beyond = np.where(over > 0.0, self._survival(over) * mean * left, np.maximum(-over, 0.0) + mean)
        result: FloatArray = total + (1.0 - tau[-1]) * beyond
        return result

    @property
    def mean(self) -> FloatArray:
        """Mean of each law (n,)."""
        low = self.values[:, 0]
        mean: FloatArray = low + self.shortfall(low)
        return mean

    def cvar(self, level: float) -> FloatArray:
        """Return the conditional value at risk at ``level`` of each law (n,)."""
        at = self.quantile(level)
        value: FloatArray = at + self.shortfall(at) / (1.0 - level)
        return value


@dataclass(frozen=True, eq=False)
class Mixture:
    """The law Σ_b P_b F_b of n states, each with its own probabilities.

    Parameters
    ----------
    weights
        Probabilities (n, B), rows summing to 1.
    parts
        B laws of n states each.

    Raises
    ------
    InvalidInput
        Rows that do not sum to 1, a part for each column missing, parts of other lengths.

    Notes
    -----
    The quantile solves Σ_b P_b F_b(x) = α; the weighted sum of the parts' quantiles is another number, too small
    where a rare part is costly. CVaR follows by Rockafellar and Uryasev: x + Σ_b P_b E[(X_b − x)⁺]/(1 − α) at it.
    """

    weights: FloatArray
    parts: Sequence[TailedQuantiles]
    _together: TailedQuantiles | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        P, parts = check_probabilities(self.weights), tuple(self.parts)
        if len(parts) != P.shape[1] or any(len(part) != len(P) for part in parts):
            raise InvalidInput(
                "are not one law of each state for every column of the weights",
                field="parts",
                value=[len(part) for part in parts],
                remedy=f"pass {P.shape[1]} parts of {len(P)} states",
            )
        object.__setattr__(self, "weights", frozen(P))
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "_together", _stacked(parts))

    def cdf(self, x: Any) -> FloatArray:
        """Return P(X ≤ x) of each state at its own x (n,)."""
        return self._cdf(finite_array("x", x, (len(self.weights),)))

    def _cdf(self, at: FloatArray) -> FloatArray:
        value: FloatArray = (self.weights * self._each("_cdf", at)).sum(axis=1)
        return value

    def quantile(self, level: float) -> FloatArray:
        """Return inf{x : P(X ≤ x) ≥ level} of each state (n,), by halving to rounding."""
        each: FloatArray = np.column_stack([part.quantile(level) for part in self.parts])
        live = self.weights > 0.0
        low: FloatArray = np.where(live, each, np.inf).min(axis=1)
        high: FloatArray = np.where(live, each, -np.inf).max(axis=1)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            enough = self._cdf(middle) >= level - 1e-15
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
            if (high - low <= 4e-16 * np.maximum(np.abs(low), np.abs(high))).all():
                break
        return high

    @property
    def mean(self) -> FloatArray:
        """Σ_b P_b E[X_b] of each state (n,)."""
        means = np.column_stack([part.mean for part in self.parts])
        return np.asarray((self.weights * means).sum(axis=1), dtype=np.float64)

    def cvar(self, level: float) -> FloatArray:
        """Return the conditional value at risk at ``level`` of each state (n,)."""
        at = self.quantile(level)
        over = (self.weights * self._each("shortfall", at)).sum(axis=1)
        value: FloatArray = at + over / (1.0 - level)
        return value

    def _each(self, method: str, x: FloatArray) -> FloatArray:
        """Return a method of all parts at the same x (n, B)."""
        if self._together is None:
            return np.column_stack([getattr(part, method)(x) for part in self.parts])
        found: FloatArray = getattr(self._together, method)(np.tile(x, len(self.parts)))
        return found.reshape(len(self.parts), -1).T


def _stacked(parts: tuple[TailedQuantiles, ...]) -> TailedQuantiles | None:
    """Return all parts below each other as one, where they have the same levels: one call instead of B."""
    levels = parts[0].levels
    if any(not np.array_equal(part.levels, levels) for part in parts[1:]):
        return None
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "scale", "shape")]
    return TailedQuantiles(levels, *columns)
