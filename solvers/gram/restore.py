r"""From an almost feasible iterate to one whose remaining violation is of second order.

The bound of the multipliers is stationary in them: an error ε costs it ε². Raising the diagonal of P until every limit
holds is not: it leaves the face that the optimum lies on, and costs ε times the prices. The step here moves P within
its face first. With U the null vectors of P, and the limits that bind at Q taken as equations h(K) = 0 (pairs at the
correlation bound, entries that the l1 term holds at zero, diagonals on the floor),

    Δ = argmin |Δ|²  s.t.  U'ΔU = 0,   h(P) + h'(P)Δ = 0,

by conjugate gradients on h' Π h'*, Π the projection on the tangent space {U'ΔU = 0} of the matrices of P's rank. One
product with Π costs a few thin matrix products, far less than an eigendecomposition. What is left of the limits is
O(|Δ|²), and only that is paid for by raising the diagonal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.gram.problem import Array
from crosswind.solvers.gram.spectral import Spectrum

__all__ = ["restored"]

_STEPS = 15
_SHRINK = 0.03
Floats = NDArray[Any]


class _Face:
    """The binding limits of one matrix, as linear equations on symmetric Δ, and their adjoint."""

    def __init__(self, P: Floats, Q: Floats, price: NDArray[np.bool_], zero: NDArray[np.bool_], floor: Any, rho: float):
        own = np.maximum(np.einsum("ii->i", P), np.finfo(P.dtype).tiny)
        self.b = np.sqrt(own)
        # √ has no slope to go by where the diagonal has vanished.
        self.live = own > np.finfo(P.dtype).eps ** 2 * float(own.max())
        self.price, self.zero, self.floor, self.rho = price, zero, floor, rho
        self.sign = np.sign(Q) * price
        self.any = price | zero
        self.miss = self.sign * P - (rho * np.multiply.outer(self.b, self.b)) * price + zero * P
        np.einsum("ii->i", self.miss)[:] = 0.0

    def _per_root(self, x: Floats) -> Floats:
        return np.asarray(np.divide(x, self.b, out=np.zeros_like(self.b), where=self.live))

    def forward(self, D: Floats) -> Floats:
        """h'(P)Δ."""
        share = self._per_root(np.einsum("ii->i", D))
        out: Floats = np.multiply.outer(share, self.b)
        out += out.T
        out *= -0.5 * self.rho
        out *= self.price
        out += (self.sign + self.zero) * D
        np.einsum("ii->i", out)[:] = np.einsum("ii->i", D) * self.floor
        return out

    def adjoint(self, L: Floats) -> Floats:
        """h'(P)*Λ."""
        own = np.einsum("ii->i", L) * self.floor
        out = (self.sign + self.zero) * L
        pull = np.einsum("ij,j->i", L * self.price, self.b)
        np.einsum("ii->i", out)[:] = own - self.rho * self._per_root(pull)
        return out


def restored(spectrum: Spectrum, P: Floats, Q: Floats, inner: Floats, l1: float, d: Array, rho: float) -> Spectrum:
    """Return the spectrum of P moved within its face towards the limits that bind at Q; as it is where nothing binds.

    Parameters
    ----------
    spectrum, P
        Of the state's PSD copy.
    Q, inner
        The other copy and its multiplier (N, N), whose size beyond l1 is the price of the correlation bound.
    l1, d, rho
        Penalty, floor (N,) and correlation bound.
    """
    off = ~np.eye(len(P), dtype=bool)
    size = np.abs(inner)
    # A multiplier this close to l1 is on it, up to the rounding of the iterations.
    scale = float(np.max(size)) * (1e-5 if inner.dtype == np.float32 else 1e-9)
    price = (size > l1 + scale) & off & (Q != 0.0) if 0.0 < rho < 1.0 else np.zeros_like(off)
    zero = (Q == 0.0) & off if l1 > 0.0 else np.zeros_like(off)
    floor = (np.einsum("ii->i", Q) <= d * (1.0 + 1e-6)) & (d > 0.0)
    if not (price.any() or zero.any() or floor.any()):
        return spectrum
    face = _Face(P, Q, price, zero, floor.astype(P.dtype), rho)
    np.einsum("ii->i", face.miss)[:] = (np.einsum("ii->i", P) - d) * floor
    basis = spectrum.vectors[:, spectrum.first :]
    if basis.shape[1] == 0:
        return spectrum

    def tangent(D: Floats) -> Floats:
        half: Floats = basis.T @ D
        half -= 0.5 * ((half @ basis) @ basis.T)
        out: Floats = basis @ half
        out += out.T
        return out

    r = -face.miss
    p = r.copy()
    rr = float(np.vdot(r, r))
    stop = _SHRINK**2 * rr
    D = np.zeros_like(P)
    for _ in range(_STEPS):
        if rr <= stop or rr == 0.0:
            break
        step = tangent(face.adjoint(p))
        q = face.forward(step)
        curve = float(np.vdot(p, q))
        if curve <= 0.0:
            break
        alpha = P.dtype.type(rr / curve)
        D += alpha * step
        r -= alpha * q
        new = float(np.vdot(r, r))
        p *= P.dtype.type(new / rr)
        p += r
        rr = new
    Z = P + D
    return Spectrum(0.5 * (Z + Z.T))
