"""A power-law kernel as a sum of exponentials on a fine grid of rates: exact as truth, foreign to the estimators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.records import check_numbers

__all__ = ["PowerLaw"]

Array = NDArray[np.float64]
_STEP = 0.75  # of the logarithm of the rate: the trapezoid's error is far below the truncation's
_FASTEST = 24.0  # times 1/scale_s; exp(-24) of the mixture lies beyond


@dataclass(frozen=True)
class PowerLaw:
    """Decay ``φ(h) = (1 + h / scale_s)^(−exponent)`` of the own impact of a unit traded h seconds ago.

    The decay is a Gamma mixture of exponentials, ``φ(h) = ∫ x^(γ−1) e^(−x) e^(−x h/s) dx / Γ(γ)``: with ``x = e^y``
    the trapezoid rule gives rates ``x_k / s`` and weights ``∝ x_k^γ e^(−x_k)``. All weight slower than the slowest
    rate goes into that rate: over ``horizon_s`` it hardly decays. The simulated kernel is the sum, which follows the
    power law within 1 % up to the horizon.

    Parameters
    ----------
    exponent
        γ, 0 < γ < 1.
    scale_s
        s [s].
    horizon_s
        The mixture follows the power law up to this age [s].

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    exponent: float = 0.45
    scale_s: float = 15.0
    horizon_s: float = 23_400.0

    def __post_init__(self) -> None:
        check_numbers(self, positive=("exponent", "scale_s", "horizon_s"), shares={"exponent": 0.95})

    def modes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return half-lives [s] and weights (sum 1) of the mixture, fastest first; about twenty."""
        from scipy.special import gammainc

        slowest = 0.012 * self.scale_s / self.horizon_s
        number = int(np.ceil(np.log(_FASTEST / slowest) / _STEP)) + 1
        x = _FASTEST * np.exp(-_STEP * np.arange(number))
        weights = x**self.exponent * np.exp(-x)
        weights *= 1.0 / weights.sum()
        # The law below the last node, with half a cell of it, does not decay within the horizon.
        below = float(gammainc(self.exponent, x[-1] * np.exp(-0.5 * _STEP)))
        weights = (1.0 - below) * weights
        weights[-1] += below
        weights /= weights.sum()
        return tuple(float(v) for v in np.log(2.0) * self.scale_s / x), tuple(float(w) for w in weights)

    def decay(self, age_s: Array) -> Array:
        """Return ``(1 + h / scale_s)^(−exponent)`` at ages h [s]."""
        return np.asarray((1.0 + np.asarray(age_s, dtype=np.float64) / self.scale_s) ** -self.exponent)
