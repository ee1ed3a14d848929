"""The first minimum of the bound where the ridge is all the curvature there is and the pool has almost none.

With H_i = w_i S + ridge·I + (pool − ridge) E_i, E_i the projection on name i's own M columns J,

    min_x ½ x H_i x' − ⟨r, x⟩ ≥ −½⟨x, r + ρ⟩ − ½ |ρ|²/μ_i,   ρ = r − x H_i,

for any x, where μ_i is below every eigenvalue of H_i: |S^½x| ≥ √μ|x_J| − √L|x_o| with μ the smallest eigenvalue of
w_i S_JJ and L the largest of w_i S leaves at least ridge·μ/(μ + L + ridge), and the pool as much as itself.

x comes from the Woodbury identity, which cancels like ridge/pool; ρ is formed with the pool itself on the own columns,
so that the cancellation costs refinement and never validity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.gram.problem import Array, GramConeFit

__all__ = ["Steep"]

EPS = float(np.finfo(np.float64).eps)
_REFINED = 3  # most corrections of x


class Steep:
    """H_i of one problem for all i: `plan` makes it where each is positive definite and can be inverted."""

    def __init__(self, fit: GramConeFit, spectrum: Array, vectors: Array, bottom: Array, core: Array) -> None:
        n, m = fit.names, fit.shapes
        self.S, self.vectors, self.bottom, self.core = fit.S, vectors, bottom, core
        self.weights = np.asarray(fit.weights)
        self.own = _own_columns(n, m)
        self.curvature = np.multiply.outer(self.weights, spectrum) + fit.ridge
        self.penalty = np.full((n, n * m), fit.ridge)
        np.put_along_axis(self.penalty, self.own, fit.pool, 1)

    @classmethod
    def plan(cls, fit: GramConeFit, spectrum: Array, vectors: Array) -> Steep | None:
        """Return the inverse to work with; None where a name's own entries have no curvature that float64 can see."""
        n, m = fit.names, fit.shapes
        weights = np.asarray(fit.weights)
        own = _own_columns(n, m)
        top = float(spectrum[-1])
        noise = 4.0 * EPS * top * float(np.sqrt(n * m))
        blocks = fit.S[own[:, :, None], own[:, None, :]]
        mu = weights * np.maximum(np.linalg.eigvalsh(blocks)[:, 0] - noise, 0.0)
        total = mu + weights * (top + noise) + fit.ridge
        # S is PSD only to rounding, and what that takes away from a small pool comes off.
        bottom = np.maximum(fit.ridge * (mu / total), fit.pool) - 2.0 * noise * weights
        if float(bottom.min()) <= 0.0:
            return None
        V = vectors[own]  # (N, M, NM)
        curvature = np.multiply.outer(weights, spectrum) + fit.ridge
        small = np.einsum("nak,nk,nbk->nab", V, 1.0 / curvature, V, optimize=True)
        try:
            core = np.linalg.inv(np.eye(m) / (fit.ridge - fit.pool) - small)
        except np.linalg.LinAlgError:
            return None
        return cls(fit, spectrum, vectors, bottom, core) if np.isfinite(core).all() else None

    def minimum(self, R: Array, grain: Array) -> float:
        """Return Σ_i of the minima from below; ``grain`` (N, NM) is the rounding that R's entries already carry."""
        X = self._solve(R)
        for _ in range(_REFINED):
            X += self._solve(self._residual(X, R))
        left = self._residual(X, R)
        share = EPS * (4.0 + float(np.sqrt(R.shape[1])))
        size = np.abs(X)
        error = size @ np.abs(self.S)
        error *= self.weights[:, None]
        error += self.penalty * size + np.abs(R)
        error *= share
        error += grain
        missed = 0.5 * float(((np.abs(left) + error) ** 2).sum(axis=1) @ (1.0 / self.bottom))
        value = -0.5 * float(np.sum(X * (R + left)))
        return value - missed - float(np.sum(size * error))

    def _solve(self, right: Array) -> Array:
        V, own = self.vectors, self.own
        rotated = (right @ V) / self.curvature
        held = np.einsum("nak,nk->na", V[own], rotated)
        extra = np.einsum("nab,nb->na", self.core, held)
        rotated += np.einsum("nak,na->nk", V[own], extra) / self.curvature
        return np.asarray(rotated @ V.T)

    def _residual(self, X: Array, R: Array) -> Array:
        curved = X @ self.S
        curved *= self.weights[:, None]
        curved += self.penalty * X
        return np.asarray(R - curved)


def _own_columns(n: int, m: int) -> NDArray[np.int64]:
    """Return (N, M): the columns of x_i that name i has itself."""
    return np.asarray(np.arange(n)[:, None] + n * np.arange(m), dtype=np.int64)
