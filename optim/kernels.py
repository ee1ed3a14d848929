"""Decay kernels: G(h), the price impact at lag h of one unit of notional traded now.

A kernel is called with lags in seconds (L,) and returns matrices (L, N, N) in return per currency; row i, column j is
the impact on name i of a trade in name j. The expected cost of trades u_0..u_{T-1} at times τ is ½ Σ_{s,t} u_s'
G(|τ_t − τ_s|) u_t: a trade pays half of its own immediate impact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray, check_psd, finite_array, finite_scalar, frozen
from crosswind.solvers.errors import InvalidInput

__all__ = ["ExponentialKernel", "Kernel", "PowerLawKernel", "SampledKernel", "ScalarKernel"]


@runtime_checkable
class Kernel(Protocol):
    """Anything that maps lags in seconds (L,) to impact matrices (L, N, N) in return per currency."""

    def __call__(self, h_s: ArrayLike) -> FloatArray:
        """Return G(h) for each lag h ≥ 0."""
        ...


def _lags(h_s: ArrayLike) -> FloatArray:
    return np.atleast_1d(finite_array("h_s", h_s, minimum=0.0))


def _stack(field: str, matrices: ArrayLike) -> FloatArray:
    stack = finite_array(field, matrices, ndim=3)
    if stack.shape[1] != stack.shape[2]:
        raise InvalidInput("must hold square matrices", field=field, value=stack.shape, remedy="pass (M, N, N)")
    return stack


@dataclass(frozen=True, eq=False)
class ExponentialKernel:
    """G(h) = Σ_m e^{−β_m h} K_m, completely monotone: with PSD K_m it never admits a profitable round trip.

    Parameters
    ----------
    rates_per_s
        Decay rates β (M,), 1/s, ≥ 0; 0 is permanent impact.
    matrices
        K (M, N, N), return per currency, each symmetric positive semidefinite.

    Raises
    ------
    InvalidInput
        Negative rates, unequal lengths, or a matrix that is not symmetric PSD.
    """

    rates_per_s: FloatArray
    matrices: FloatArray

    def __post_init__(self) -> None:
        rates = finite_array("rates_per_s", self.rates_per_s, minimum=0.0, ndim=1)
        stack = _stack("matrices", self.matrices)
        if len(rates) != len(stack):
            raise InvalidInput(
                f"holds {len(stack)} matrices for {len(rates)} rates", field="matrices", remedy="pass one per rate"
            )
        psd = np.stack([check_psd(f"matrices[{m}]", k) for m, k in enumerate(stack)]) if len(stack) else stack
        object.__setattr__(self, "rates_per_s", rates)
        object.__setattr__(self, "matrices", frozen(psd))

    def __call__(self, h_s: ArrayLike) -> FloatArray:
        """Return Σ_m e^{−β_m h} K_m, (L, N, N)."""
        weights = np.exp(-np.outer(_lags(h_s), self.rates_per_s))
        return np.tensordot(weights, self.matrices, axes=1)


@dataclass(frozen=True, eq=False)
class SampledKernel:
    """A kernel given by its values at lags, for estimates with free lags.

    Parameters
    ----------
    lags_s
        Strictly increasing lags (L,), seconds, the first one 0.
    matrices
        G at the lags (L, N, N), return per currency; any matrices, also inadmissible ones (that is what
        :func:`crosswind.optim.admissibility.check_admissible` is for).
    interpolation
        "linear" between the lags, or "previous" (a step function). Beyond the last lag the last value holds.

    Raises
    ------
    InvalidInput
        Unsorted lags, a first lag other than 0, unequal lengths, or an unknown interpolation.
    """

    lags_s: FloatArray
    matrices: FloatArray
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        lags = finite_array("lags_s", self.lags_s, minimum=0.0, ndim=1)
        stack = _stack("matrices", self.matrices)
        if len(lags) == 0 or lags[0] != 0.0 or (np.diff(lags) <= 0.0).any():
            raise InvalidInput("must start at 0 and increase strictly", field="lags_s", value=lags, remedy="sort it")
        if len(lags) != len(stack):
            raise InvalidInput(
                f"holds {len(stack)} matrices for {len(lags)} lags", field="matrices", remedy="pass one per lag"
            )
        if self.interpolation not in ("linear", "previous"):
            raise InvalidInput(
                "is unknown", field="interpolation", value=self.interpolation, remedy="use 'linear' or 'previous'"
            )
        object.__setattr__(self, "lags_s", lags)
        object.__setattr__(self, "matrices", stack)

    def __call__(self, h_s: ArrayLike) -> FloatArray:
        """Return the interpolated G(h), (L, N, N)."""
        h = np.minimum(_lags(h_s), self.lags_s[-1])
        # A lag computed as a difference of times must not fall into the step before by one rounding error.
        left = np.searchsorted(self.lags_s, h * (1.0 + 1e-12), side="right") - 1
        if self.interpolation == "previous":
            return np.asarray(self.matrices[left], dtype=np.float64)
        right = np.minimum(left + 1, len(self.lags_s) - 1)
        width = np.where(right > left, self.lags_s[right] - self.lags_s[left], 1.0)
        weight = ((h - self.lags_s[left]) / width)[:, None, None]
        return np.asarray((1.0 - weight) * self.matrices[left] + weight * self.matrices[right], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class PowerLawKernel:
    """G(h) = (1 + h/τ)^{−γ} K: the long memory found in the data, completely monotone, hence admissible.

    Parameters
    ----------
    exponent
        γ ≥ 0, dimensionless.
    scale_s
        τ > 0, seconds: the lag at which the decay sets in.
    matrix
        K (N, N), return per currency, symmetric PSD.
    """

    exponent: float
    scale_s: float
    matrix: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponent", finite_scalar("exponent", self.exponent, minimum=0.0))
        object.__setattr__(self, "scale_s", finite_scalar("scale_s", self.scale_s, positive=True))
        object.__setattr__(self, "matrix", check_psd("matrix", finite_array("matrix", self.matrix, ndim=2)))

    def __call__(self, h_s: ArrayLike) -> FloatArray:
        """Return (1 + h/τ)^{−γ} K, (L, N, N)."""
        return ((1.0 + _lags(h_s) / self.scale_s) ** -self.exponent)[:, None, None] * self.matrix

    def exponential(self, half_lives_s: ArrayLike, horizon_s: float, points: int = 400) -> ExponentialKernel:
        """Return the exponential dictionary closest to this power law, so that the schedule stays Markov.

        Minimises Σ_h (Σ_m w_m e^{−β_m h} − φ(h))² over w ≥ 0 on ``points`` lags spread evenly in log(1 + h/τ);
        non-negative weights keep the fit admissible.

        Parameters
        ----------
        half_lives_s
            Half-lives (M,), seconds, > 0.
        horizon_s
            Largest lag that is fitted, seconds.
        points
            Number of lags in the fit.
        """
        from scipy.optimize import nnls

        lives = finite_array("half_lives_s", half_lives_s, ndim=1)
        if (lives <= 0.0).any():
            raise InvalidInput("must be positive", field="half_lives_s", value=lives, remedy="drop the zeros")
        horizon = finite_scalar("horizon_s", horizon_s, positive=True)
        h = self.scale_s * np.expm1(np.linspace(0.0, np.log1p(horizon / self.scale_s), points))
        rates = np.log(2.0) / lives
        weights, _ = nnls(np.exp(-np.outer(h, rates)), (1.0 + h / self.scale_s) ** -self.exponent)
        return ExponentialKernel(rates, weights[:, None, None] * self.matrix)


@dataclass(frozen=True, eq=False)
class ScalarKernel:
    """G(h) = φ(h) K: one decay for all names (the separable form).

    Parameters
    ----------
    phi
        Function of lags in seconds (L,) → (L,), dimensionless. Convex, nonincreasing and nonnegative is admissible;
        monotone alone is not.
    matrix
        K (N, N), return per currency; an asymmetric one is accepted here so that it can be examined.
    """

    phi: Callable[[FloatArray], ArrayLike]
    matrix: FloatArray

    def __post_init__(self) -> None:
        matrix = finite_array("matrix", self.matrix, ndim=2)
        if matrix.shape[0] != matrix.shape[1]:
            raise InvalidInput("is not square", field="matrix", value=matrix.shape, remedy="pass shape (N, N)")
        object.__setattr__(self, "matrix", matrix)

    def __call__(self, h_s: ArrayLike) -> FloatArray:
        """Return φ(h) K, (L, N, N)."""
        h = _lags(h_s)
        return finite_array("phi(h)", self.phi(h), h.shape)[:, None, None] * self.matrix
