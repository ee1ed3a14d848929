r"""What no feasible point can undercut, and feasible points themselves, from any state of the iterations.

Let c = min(ridge, pool) and H_i = w_i S + cI. For any A_m ⪰ 0, any antisymmetric W_m and any symmetric y_m,

    objective(K) ≥ min_X { Σ_i ½ x_i H_i x_i' − ⟨R, X⟩ } + Σ_m min_{a ≥ d} { Σ_i c_mi a_i } + constants,
    R = wB + cT − e + A + W − y,

where e is the slope of the quadratics beyond c at the current Q, which lie above their tangent. The second minimum
stands for the l1 term, the floor and the correlation bound: with s_ij = (|y_ij| − l1)₊ a pair costs at least
−2ρ s_ij √(a_i a_j) ≥ −ρ s_ij (θ_ij a_i + a_j/θ_ij), θ_ij = √(Q_jj/Q_ii), for every a, with equality at Q. So

    c_mi = −y_mii − ρ Σ_j s_ij √(Q_jj/Q_ii),

and where it is negative y_mii is lowered until it is zero, which keeps the bound valid. Nothing here asks the
projections or the prox to be exact: A is formed as a square, W is free, and any y will do. The bound is rigorous up to
float64 rounding, which comes off it where it can be seen.

Where S has no curvature in a direction and c = 0, the first minimum is −∞ unless R vanishes there exactly. Then the
flat directions are charged ‖R V_flat‖·Σ_m tr K_m instead, with Σ_m tr K_m at most `REACH` times that of the feasible
point: that bound holds within reach and not everywhere, and the solution says which of the two it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack, solve_triangular

from crosswind.solvers.gram.problem import Array, GramConeFit
from crosswind.solvers.gram.spectral import eigh

__all__ = ["REACH", "Bound", "Certifier", "Multipliers", "raised"]

REACH = 1e3
"""How many times the trace of the feasible point a point may have that the bound within reach still covers."""

EPS = float(np.finfo(np.float64).eps)
_DENSE = 600  # order of S up to which the float64 eigenvectors cost less than thinking about it
_REGULAR = 1e-9  # reciprocal condition number of S above which its Cholesky factor serves the bound
_SMOOTH = 1e-5  # ridge, as a share of the largest curvature, from which float32 eigenvectors serve the bound


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Dual point of the bound, and prices of the limits.

    Attributes
    ----------
    psd
        (M, N, N) A ⪰ 0: what a unit of K_m ⪰ 0, relaxed along a direction v, saves: v'Av.
    correlation
        (M, N, N) ≥ 0, zero diagonal: price of |K_ij| ≤ ρ√(K_ii K_jj), one for each of the two symmetric entries.
    floor
        (M, N) ≥ 0: price of K_m,ii ≥ d_i.
    """

    psd: Array
    correlation: Array
    floor: Array


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound and whether it holds everywhere or only within reach; ``multipliers`` prove it."""

    value: float
    within: float
    multipliers: Multipliers


def raised(matrix: Array, floor: Array, corr_bound: float) -> Array:
    """Raise the diagonal until floor and correlation bound hold; what was PSD stays PSD.

    a_i = max(K_ii, d_i), then a_i ← a_i · max_j max(1, |K_ij|/(ρ√(a_i a_j))): both factors of a pair rise by its excess
    at least. Names without self-impact carry no cross terms; at ρ = 0 none do.
    """
    own = np.maximum(np.diag(matrix), floor)
    if corr_bound == 0.0:
        return np.asarray(np.diag(own))
    out = np.array(matrix)
    dead = own <= 0.0
    if dead.any():
        out[dead, :] = out[:, dead] = 0.0
    root = np.sqrt(np.where(dead, 1.0, own))
    size = np.abs(out)
    np.fill_diagonal(size, 0.0)
    size /= root[:, None]
    size /= root
    # Two roundings of the bound are added where it binds, so that the products in it can't fall short.
    factor = np.maximum(1.0, size.max(axis=1, initial=0.0) / corr_bound * (1.0 + 4.0 * EPS))
    np.fill_diagonal(out, np.where(dead, 0.0, own * factor))
    return out


class Certifier:
    """The factorisations behind the bound, made once for all penalties of one set of moments.

    Parameters
    ----------
    fit
        The problem; only S, w and B are kept beyond the penalties.
    """

    def __init__(self, fit: GramConeFit) -> None:
        self.S = fit.S
        wide = fit.S.shape[0]
        self.root: Array | None = None
        self.values: Array | None = None
        self.vectors: NDArray[Any]
        reciprocal = 0.0
        if wide > _DENSE:
            # LAPACK reads the C-ordered S as its transpose, which is S.
            factor, info = lapack.dpotrf(fit.S.T, lower=1, clean=1)
            if info == 0:
                reciprocal, _ = lapack.dpocon(factor, float(np.abs(fit.S).sum(axis=0).max()), uplo="L")
                self.root = factor
        if reciprocal > _REGULAR:
            values, self.vectors = eigh(fit.S.astype(np.float32))
            self.spectrum = np.maximum(values.astype(np.float64), 0.0)
            self.bottom = 0.1 * reciprocal * float(np.abs(fit.S).sum(axis=0).max())
        else:
            self.root = None  # too close to singular for triangular solves
            self.values, self.vectors = eigh(fit.S)
            self.spectrum = np.maximum(self.values, 0.0)
            self.bottom = self._floor_of(self.values)

    def smooth(self, c: float) -> bool:
        """Tell whether iterations in float32 can be certified: by the Cholesky factor, or because a ridge c helps."""
        return (self.root is not None and c == 0.0) or self.values is not None or c > _SMOOTH * self._top()

    def _top(self) -> float:
        return float(self.spectrum[-1])

    def exact(self) -> None:
        """Replace float32 eigenvectors by float64 ones, for iterations beyond float32's accuracy."""
        if self.values is None:
            self.values, self.vectors = eigh(self.S)
            self.spectrum = np.maximum(self.values, 0.0)
            self.bottom = self._floor_of(self.values)

    def _floor_of(self, values: Array) -> float:
        """Return a number below the smallest eigenvalue, rounding allowed for."""
        return max(0.0, float(values[0]) - 4.0 * EPS * float(values[-1]) * float(np.sqrt(len(values))))

    def primal(self, fit: GramConeFit, psd: list[Array]) -> tuple[Array, float]:
        """Return exactly feasible matrices near the PSD ones, and their objective."""
        K = np.stack([raised(matrix, np.asarray(fit.floor), fit.corr_bound) for matrix in psd])
        return K, self.objective(fit, K)

    def objective(self, fit: GramConeFit, K: Array) -> float:
        """`GramConeFit.objective` at half the work where S has a Cholesky factor, the same to rounding."""
        if self.root is None:
            return fit.objective(K)
        X = fit.stacked(K)
        half = blas.dtrmm(1.0, self.root, X.T, side=0, lower=1, trans_a=1)  # L'X'
        weights = np.asarray(fit.weights)
        data = 0.5 * np.einsum("ij,ij->j", half, half) - np.einsum("ij,ij->i", X, fit.B)
        return float(weights @ data) + fit.penalty(K)

    def bound(self, fit: GramConeFit, A: Array, W: Array, y: Array, Q: Array, trace: float) -> Bound:
        """Return the lower bound at the dual point (A, W, y) with the tangent points Q.

        Parameters
        ----------
        fit
            The problem, with S as given to the constructor.
        A, W, y
            (M, N, N) PSD, antisymmetric, symmetric.
        Q
            (M, N, N) symmetric, with a positive diagonal wherever a price is asked of it.
        trace
            Σ_m tr K_m of the feasible point.
        """
        weights, target = np.asarray(fit.weights), np.asarray(fit.target)
        c = min(fit.ridge, fit.pool)
        steep = self._steep(fit)
        off, own_target = fit.ridge if steep else c, fit.pool if steep else c
        pull = off * target
        np.einsum("mii->mi", pull)[:] = own_target * np.einsum("mii->mi", target)
        constant = 0.5 * float(np.sum(pull * target))
        R = fit.blocks(weights[:, None] * fit.B) + A + W - y + pull
        inner = y
        if fit.ridge != fit.pool:
            away = Q - target
            slope = (fit.ridge - c) * away
            np.einsum("mii->mi", slope)[:] = (fit.pool - c) * np.einsum("mii->mi", away)
            inner = y - slope
            if steep:
                R += slope  # all of the quadratics are in H
            else:
                # Tangents of what is beyond c at Q: R carries −slope − (y − slope).
                constant -= float(np.sum(slope * target)) + 0.5 * float(np.sum(slope * away))
        price = np.maximum(np.abs(inner) - fit.l1, 0.0)
        np.einsum("mii->mi", price)[:] = 0.0
        own = np.einsum("mii->mi", Q)
        root = np.sqrt(np.maximum(own, np.finfo(float).tiny))
        cost = -np.einsum("mii->mi", inner) - fit.corr_bound * np.einsum("mij,mj->mi", price, root) / root
        np.einsum("mii->mi", R)[:] -= np.minimum(cost, 0.0)
        cost = np.maximum(cost, 0.0)
        constant += float(np.sum(cost @ np.asarray(fit.floor)))
        if fit.corr_bound == 0.0:
            price[:] = 0.0
        multipliers = Multipliers(A, price, cost)
        if steep:
            everywhere = within = self._steep_data(fit, fit.stacked(R))
        else:
            everywhere, within = self._data(fit, fit.stacked(R), c, trace)
        slack = 16.0 * EPS * abs(constant)
        return Bound(constant + everywhere - slack, constant + within - slack, multipliers)

    def _data(self, fit: GramConeFit, R: Array, c: float, trace: float) -> tuple[float, float]:
        """Return min_X Σ_i ½ x_i H_i x_i' − ⟨R, X⟩ from below, everywhere and within reach."""
        weights = np.asarray(fit.weights)[:, None]
        if self.root is not None and c == 0.0:
            # Well conditioned, no ridge: one triangular solve.
            half = solve_triangular(self.root, R.T, lower=True, check_finite=False, overwrite_b=False)
            value = -0.5 * float(np.sum(half**2, axis=0) @ (1.0 / weights[:, 0]))
            return value * (1.0 + 64.0 * EPS * len(R)), value
        curvature = weights * self.spectrum + c
        bottom = weights[:, 0] * self.bottom + c
        V = self.vectors
        rotated = (R.astype(V.dtype) @ V).astype(np.float64)
        if self.values is not None and float(bottom.min()) <= 1e-9 * float(curvature.max()):
            return self._flat(R, rotated, curvature, bottom, c, trace)
        X = ((rotated / curvature).astype(V.dtype) @ V.T).astype(np.float64)
        left = R - self._curved(X, weights, c)
        missed = 0.5 * float((left**2).sum(axis=1) @ (1.0 / bottom))
        value = -0.5 * float(np.sum(X * (R + left)))
        if missed > 1e-9 * (1.0 + abs(value)):
            X += (((left.astype(V.dtype) @ V).astype(np.float64) / curvature).astype(V.dtype) @ V.T).astype(np.float64)
            left = R - self._curved(X, weights, c)
            missed = 0.5 * float((left**2).sum(axis=1) @ (1.0 / bottom))
            value = -0.5 * float(np.sum(X * (R + left)))
        value -= missed + 16.0 * EPS * float(np.sum(np.abs(X * R)))
        return value, value

    def _steep(self, fit: GramConeFit) -> bool:
        """Tell whether S is flat somewhere, the ridge is not, and the pool alone would leave it so."""
        flat = self.values is not None and self.bottom <= 1e-6 * float(self.spectrum[-1])
        return bool(flat and fit.ridge > fit.pool and fit.pool < 1e-6 * fit.ridge)

    def _steep_data(self, fit: GramConeFit, R: Array) -> float:
        """Return the first minimum with H_i = w_i S + ridge·I + (pool − ridge) E_i, E_i on name i's own M columns.

        By the Woodbury identity, with what is left of the equations charged through the smallest eigenvalue. That is
        bounded from below on own columns J and others apart: √(w S_JJ) is at least √μ on the first and at most √L on
        the others, so that |S^½x| ≥ √μ|x_J| − √L|x_o|.
        """
        n, m = fit.names, fit.shapes
        weights = np.asarray(fit.weights)
        V = self.vectors
        curvature = np.multiply.outer(weights, self.spectrum) + fit.ridge
        rows = np.arange(n)
        own = rows[:, None] + n * np.arange(m)  # (N, M): columns of x_i on name i itself
        drop = fit.ridge - fit.pool
        VJ = V[own]  # (N, M, NM)
        small = np.einsum("nak,nk,nbk->nab", VJ, 1.0 / curvature, VJ, optimize=True)
        core = np.linalg.inv(np.eye(m) / drop - small)

        def solve(right: Array) -> Array:
            rotated = (right @ V) / curvature
            held = np.einsum("nak,nk->na", VJ, rotated)
            extra = np.einsum("nab,nb->na", core, held)
            rotated += np.einsum("nak,na->nk", VJ, extra) / curvature
            return np.asarray(rotated @ V.T)

        def residual(X: Array) -> Array:
            out = R - self._curved(X, weights[:, None], fit.ridge)
            np.put_along_axis(out, own, np.take_along_axis(out, own, 1) + drop * np.take_along_axis(X, own, 1), 1)
            return out

        X = solve(R)
        X += solve(residual(X))
        left = residual(X)
        blocks = fit.S[own[:, :, None], own[:, None, :]]
        mu = np.maximum(weights * np.linalg.eigvalsh(blocks)[:, 0] * (1.0 - 1e-9), 0.0)
        top = weights * float(self.spectrum[-1]) * (1.0 + 1e-9)
        bottom = np.maximum(fit.ridge * mu / (mu + top + fit.ridge), fit.pool)
        if float(bottom.min()) <= 0.0:
            return -np.inf
        missed = 0.5 * float((left**2).sum(axis=1) @ (1.0 / bottom))
        value = -0.5 * float(np.sum(X * (R + left)))
        return value - missed - 16.0 * EPS * float(np.sum(np.abs(X * R)))

    def _curved(self, X: Array, weights: Array, c: float) -> Array:
        out = X @ self.S
        out *= weights
        if c > 0.0:
            out += c * X
        return out

    def _flat(
        self, R: Array, rotated: Array, curvature: Array, bottom: Array, c: float, trace: float
    ) -> tuple[float, float]:
        """Return the two bounds where S is singular or close to it: each flat direction by curvature or by reach."""
        assert self.values is not None
        cost = 0.5 * (rotated**2 / np.maximum(curvature, np.finfo(float).tiny)).sum(axis=0)
        # Directions in the order of S's eigenvalues: the first k are charged by reach, the others by curvature.
        lengths = np.sqrt(np.cumsum((rotated**2).sum(axis=0)))
        rest = np.concatenate([np.cumsum(cost[::-1])[::-1], [0.0]])
        options = np.concatenate([[rest[0]], REACH * trace * lengths + rest[1:]])
        rounding = 4.0 * EPS * float(np.linalg.norm(R))
        # An eigenvalue that rounding may have made is no curvature.
        flat = 1e-13 * float(self.values[-1]) * len(self.values) ** 0.5
        sure = int(np.searchsorted(self.values, flat)) if c == 0.0 else 0
        best = sure + int(np.argmin(options[sure:])) if sure < len(options) else len(options) - 1
        extra = rounding * (REACH * trace if best else 0.0)
        within = -float(options[best]) - extra
        everywhere = -float(options[0]) if sure == 0 or float(bottom.min()) > 0.0 else -np.inf
        return everywhere, max(within, everywhere)
