"""Does a kernel admit a round trip that pays? The block Toeplitz test on schedules that end flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crosswind.optim.checks import FloatArray, finite_array, finite_scalar
from crosswind.optim.kernels import Kernel
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.threads import one_blas_thread

__all__ = ["Admissibility", "block_toeplitz", "check_admissible", "kernel_cost"]


def _times(times_s: ArrayLike) -> FloatArray:
    times = finite_array("times_s", times_s, ndim=1)
    if len(times) == 0 or (np.diff(times) <= 0.0).any():
        raise InvalidInput("must increase strictly", field="times_s", value=times, remedy="sort it, drop duplicates")
    return times


def block_toeplitz(kernel: Kernel, times_s: ArrayLike) -> FloatArray:
    """Return the symmetric matrix H (T·N, T·N) with cost ½ u'Hu of trades u stacked slice by slice.

    Block (t, s) is G(τ_t − τ_s) for t > s, its transpose mirrored, and (G(0) + G(0)')/2 on the diagonal.

    Parameters
    ----------
    kernel
        G.
    times_s
        Trade times τ (T,), seconds, strictly increasing.
    """
    times = _times(times_s)
    T = len(times)
    later, earlier = np.tril_indices(T)
    lags = times[later] - times[earlier]
    values = np.asarray(kernel(lags), dtype=np.float64)
    N = values.shape[-1] if values.ndim else 0
    if values.shape != (len(lags), N, N):
        raise InvalidInput(
            "does not return one square matrix per lag",
            field="kernel",
            value=values.shape,
            remedy=f"map all {len(lags)} lags at once: lags (L,) to matrices (L, N, N)",
        )
    blocks = np.zeros((T, T, N, N))
    blocks[later, earlier] = values
    diagonal = np.arange(T)
    blocks[diagonal, diagonal] *= 0.5
    lower = blocks.transpose(0, 2, 1, 3).reshape(T * N, T * N)
    return np.asarray(lower + lower.T, dtype=np.float64)


def kernel_cost(kernel: Kernel, times_s: ArrayLike, trades: ArrayLike) -> float:
    """Return the expected impact cost Σ_{s<t} u_t'G(τ_t − τ_s)u_s + ½ Σ_t u_t'G(0)u_t, currency.

    Parameters
    ----------
    kernel
        G, return per currency, symmetric or not.
    times_s
        (T,) seconds, strictly increasing.
    trades
        u (T, N), signed notional.
    """
    u = finite_array("trades", trades, ndim=2)
    H = block_toeplitz(kernel, times_s)
    if u.size != len(H):
        raise InvalidInput(f"has {u.size} entries where {len(H)} are needed", field="trades", remedy="pass (T, N)")
    flat = u.ravel()
    return float(0.5 * flat @ H @ flat)


@dataclass(frozen=True, eq=False)
class Admissibility:
    """Verdict on a kernel over one grid of times.

    Attributes
    ----------
    admissible
        Whether no round trip on the grid pays (up to the tolerance).
    smallest_eigenvalue
        Of the block Toeplitz matrix on {Σ_t u_t = 0}, return per currency.
    largest_eigenvalue
        Of the same.
    worst_round_trip
        (T, N) signed notional, the eigenvector scaled to the gross traded notional ``notional``.
    profit
        −cost of that round trip, currency; positive means the kernel can be milked.
    profit_bps
        The profit in basis points of the traded notional.
    notional
        Σ|u| of the worst round trip, currency.
    times_s
        The grid (T,).
    """

    admissible: bool
    smallest_eigenvalue: float
    largest_eigenvalue: float
    worst_round_trip: FloatArray
    profit: float
    profit_bps: float
    notional: float
    times_s: FloatArray

    def to_frame(self) -> pd.DataFrame:
        """Return the worst round trip, one row per time, one column per name."""
        return pd.DataFrame(self.worst_round_trip, index=pd.Index(self.times_s, name="time_s"))

    def summary(self) -> str:
        """Return one line of text."""
        verdict = "no round trip pays" if self.admissible else "a round trip pays"
        return (
            f"{verdict}: smallest eigenvalue {self.smallest_eigenvalue:.3g} (largest {self.largest_eigenvalue:.3g}); "
            f"the worst one earns {self.profit:.6g} on {self.notional:.6g} traded ({self.profit_bps:.4g} bps)"
        )


def check_admissible(kernel: Kernel, times_s: ArrayLike, tol: float = 1e-9, *, notional: float = 1e6) -> Admissibility:
    """Test whether ``kernel`` admits a profitable round trip on the grid ``times_s``.

    Restricts the block Toeplitz matrix to round trips Σ_t u_t = 0 and takes its smallest eigenvalue; the eigenvector
    is the worst round trip. For linear impact a kernel without one on any grid is positive definite (Bochner).

    Parameters
    ----------
    kernel
        G, symmetric or not: any callable from lags (L,) in seconds to matrices (L, N, N) in return per currency. It is
        called once with all lags.
    times_s
        (T,) seconds, strictly increasing; one time admits no round trip and passes.
    tol
        Admissible when smallest ≥ −tol × ‖H‖∞ of the whole block Toeplitz matrix.
    notional
        Gross traded notional to which the worst round trip is scaled, currency; profit grows with its square.

    Returns
    -------
    Admissibility
        Verdict, eigenvalues, worst round trip and its profit.

    Raises
    ------
    InvalidInput
        Unsorted times, or a kernel that is not finite or does not return one square matrix per lag.

    Examples
    --------
    >>> cross = np.array([[1.0, 0.3], [0.3, 1.0]])
    >>> check_admissible(lambda h: np.exp(-h / 60.0)[:, None, None] * cross, [0.0, 60.0, 120.0]).admissible
    True
    """
    times = _times(times_s)
    size = finite_scalar("notional", notional, positive=True)
    H = block_toeplitz(kernel, times)
    T = len(times)
    N = len(H) // T
    if not np.isfinite(H).all():
        raise InvalidInput("is not finite on the grid", field="kernel", remedy="check its values at these lags")
    if T == 1:
        return Admissibility(True, 0.0, float(np.linalg.eigvalsh(H)[-1]), np.zeros((1, N)), 0.0, 0.0, 0.0, times)
    contrasts = np.kron(_helmert(T), np.eye(N))
    with one_blas_thread():
        values, vectors = np.linalg.eigh(contrasts.T @ H @ contrasts)
    worst = contrasts @ vectors[:, 0]
    worst *= size / np.abs(worst).sum()
    profit = float(-0.5 * worst @ H @ worst)
    # The yardstick is the whole matrix: on round trips alone a permanent kernel leaves nothing but rounding.
    largest = float(np.abs(H).sum(axis=1).max())
    return Admissibility(
        admissible=bool(values[0] >= -tol * largest),
        smallest_eigenvalue=float(values[0]),
        largest_eigenvalue=float(values[-1]),
        worst_round_trip=worst.reshape(T, N),
        profit=profit,
        profit_bps=1e4 * profit / size,
        notional=size,
        times_s=times,
    )


def _helmert(T: int) -> FloatArray:
    """Return an orthonormal basis (T, T−1) of the vectors that sum to zero."""
    basis = np.zeros((T, T - 1))
    for j in range(1, T):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
    return np.asarray(basis / np.linalg.norm(basis, axis=0), dtype=np.float64)
