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
point: that bound holds within reach and not everywhere, and the solution says which of the two it is. Its pieces are
kept, because a feasible point with a larger trace reaches farther than the bound was first asked for; and reach is
never less than `REACH` times the trace of each name fitted by itself, because K = 0 would make it nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack, solve_triangular

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.gram.problem import Array, GramConeFit
from crosswind.solvers.gram.spectral import eigh
from crosswind.solvers.gram.steep import Steep

__all__ = ["REACH", "Bound", "Certifier", "Multipliers", "Reach", "raised", "regular_factor"]

REACH = 1e3
"""How many times the trace of the feasible point a point may have that the bound within reach still covers."""

EPS = float(np.finfo(np.float64).eps)
_DENSE = 600  # order of S up to which the float64 eigenvectors cost less than thinking about it
_REGULAR = 1e-9  # reciprocal condition number of S above which its Cholesky factor serves the bound
_INDEFINITE = 1e-10  # share of the largest eigenvalue below zero that rounding of moments may explain
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
class Reach:
    """The bound with its first k directions charged by reach and the others by curvature, for each k.

    Attributes
    ----------
    base
        What both have in common.
    lengths, rest
        ‖R V_k‖ of the k flattest directions and the cost of the others, k from 0; infinite where there is no curvature.
    scale
        Trace that counts at least.
    """

    base: float
    lengths: Array
    rest: Array
    scale: float

    def at(self, trace: float) -> float:
        """Return what no point with at most `REACH` times ``trace`` can undercut."""
        return self.base - float(np.min(REACH * max(trace, self.scale) * self.lengths + self.rest))


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound that holds everywhere, −∞ if none does, and one within reach; ``multipliers`` prove both."""

    value: float
    multipliers: Multipliers
    reach: Reach | None = None

    def within(self, trace: float) -> float:
        """Return the better of the two for a feasible point of this trace."""
        return self.value if self.reach is None else max(self.value, self.reach.at(trace))


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


def regular_factor(S: Array) -> tuple[Array, float] | None:
    """Return L of S = LL' and a number below the smallest eigenvalue; None for a small S and one close to singular."""
    if len(S) <= _DENSE:
        return None
    # LAPACK reads the C-ordered S as its transpose, which is S.
    factor, info = lapack.dpotrf(S.T, lower=1, clean=1)
    if info != 0:
        return None
    length = max(float(np.abs(row).sum()) for row in S)
    reciprocal, _ = lapack.dpocon(factor, length, uplo="L")
    # Too close to singular is no ground for triangular solves.
    return (factor, 0.1 * reciprocal * length) if reciprocal > _REGULAR else None


class Certifier:
    """The factorisations behind the bound, made once for all penalties of one set of moments.

    Parameters
    ----------
    fit
        The problem; only its S is kept.
    factor
        What `regular_factor` made of S, to have it made once.

    Raises
    ------
    InvalidInput
        Where S has an eigenvalue below zero by more than 1e-10 of its largest: no bound holds then.
    """

    def __init__(self, fit: GramConeFit, factor: tuple[Array, float] | None = None) -> None:
        self.S = fit.S
        self._exact: Certifier | None = None
        self.values: Array | None = None
        self._pair: tuple[Array, NDArray[Any]] | None = None
        self.root: Array | None = None
        found = regular_factor(fit.S) if factor is None else factor
        if found is not None:
            # Eigenvectors wait until something asks for them: where all rows weigh the same nothing does.
            self.root, self.bottom = found
        else:
            self._take_exact()

    def _eigen(self) -> tuple[Array, NDArray[Any]]:
        if self._pair is None:
            values, vectors = eigh(self.S.astype(np.float32))
            self._pair = np.maximum(values.astype(np.float64), 0.0), vectors
        return self._pair

    @property
    def spectrum(self) -> Array:
        """Eigenvalues of S, none below zero."""
        return self._eigen()[0]

    @property
    def vectors(self) -> NDArray[Any]:
        """Eigenvectors of S, in float32 where its Cholesky factor serves the bound."""
        return self._eigen()[1]

    def middle(self, weights: Array, c: float) -> float:
        """Return the geometric mean of the curvatures w_i s_j + c; zero where one of them is."""
        if self.root is not None and c == 0.0:
            return float(np.exp(np.mean(np.log(weights)) + 2.0 * np.mean(np.log(np.diag(self.root)))))
        s = self.spectrum
        total = np.multiply.outer(weights, np.maximum(s, 1e-6 * float(s[-1]))) + c
        return float(np.exp(np.mean(np.log(total)))) if float(total.min()) > 0.0 else 0.0

    def _take_exact(self) -> None:
        self.values, vectors = eigh(self.S)
        low, high = float(self.values[0]), float(self.values[-1])
        if low < -_INDEFINITE * high:
            raise InvalidInput(
                "must be PSD",
                field="S",
                value=f"eigenvalues from {low:.3g} to {high:.3g}",
                remedy="form it as Z'Z/E over the same rows for every pair, or clip its negative eigenvalues",
            )
        self._pair = np.maximum(self.values, 0.0), vectors
        self.bottom = self._floor_of(self.values)

    def smooth(self, c: float) -> bool:
        """Tell whether iterations in float32 can be certified: by the Cholesky factor, or because a ridge c helps."""
        return (self.root is not None and c == 0.0) or self.values is not None or c > _SMOOTH * self._top()

    def _top(self) -> float:
        return float(self.spectrum[-1])

    def exact(self) -> Certifier:
        """Return the same with float64 eigenvectors, for iterations beyond float32's accuracy.

        It is another object: this one may be in use elsewhere, and what it does must not depend on who came first.
        """
        if self.values is not None:
            return self
        if self._exact is None:
            other = copy.copy(self)
            other._take_exact()
            self._exact = other
        return self._exact

    def _floor_of(self, values: Array) -> float:
        """Return a number below the smallest eigenvalue, rounding allowed for."""
        return float(values[0]) - 4.0 * EPS * float(values[-1]) * float(np.sqrt(len(values)))

    def primal(self, fit: GramConeFit, psd: Iterable[Array]) -> tuple[Array, float]:
        """Return exactly feasible matrices near the PSD ones, and their objective."""
        K = np.empty((fit.shapes, fit.names, fit.names))
        for k, matrix in enumerate(psd):
            K[k] = raised(matrix, np.asarray(fit.floor), fit.corr_bound)
        return K, self.objective(fit, K)

    def objective(self, fit: GramConeFit, K: Array) -> float:
        """`GramConeFit.objective` at half the work where S has a Cholesky factor, the same to rounding."""
        if self.root is None:
            return fit.objective(K)
        X = fit.stacked(K)
        data = -np.einsum("ij,ij->i", X, fit.B)
        half = blas.dtrmm(1.0, self.root, X.T, side=0, lower=1, trans_a=1, overwrite_b=1)  # L'X'
        weights = np.asarray(fit.weights)
        data += 0.5 * np.einsum("ij,ij->j", half, half)
        return float(weights @ data) + fit.penalty(K)

    def bound(self, fit: GramConeFit, A: Array, W: Array, y: Array, Q: NDArray[Any]) -> Bound:
        """Return the lower bound at the dual point (A, W, y) with the tangent points Q.

        Parameters
        ----------
        fit
            The problem, with S as given to the constructor.
        A, W, y
            (M, N, N) PSD, antisymmetric, symmetric.
        Q
            (M, N, N) symmetric, with a positive diagonal wherever a price is asked of it; any precision.
        """
        weights, target = np.asarray(fit.weights), np.asarray(fit.target)
        c = min(fit.ridge, fit.pool)
        steep = self._steep(fit)
        off, own_target = (c, c) if steep is None else (fit.ridge, fit.pool)
        # With a Cholesky factor of S alone the rounding of R's entries is within what `_data` takes off.
        seen = self.root is None or c > 0.0
        R = fit.blocks(weights[:, None] * fit.B)
        size = np.abs(R) if seen else None  # of the terms of R
        constant = grain = 0.0  # the latter: sizes of the terms of the constant, whose rounding comes off
        for add, term in ((np.add, A), (np.add, W), (np.subtract, y)):
            add(R, term, out=R)
            if size is not None:
                size += np.abs(term)
        if off or own_target:
            pull = off * target
            np.einsum("mii->mi", pull)[:] = own_target * np.einsum("mii->mi", target)
            constant = 0.5 * float(np.sum(pull * target))
            grain = abs(constant)
            R += pull
            if size is not None:
                size += np.abs(pull)
        inner = y
        if fit.ridge != fit.pool:
            away = Q - target
            slope = (fit.ridge - c) * away
            np.einsum("mii->mi", slope)[:] = (fit.pool - c) * np.einsum("mii->mi", away)
            inner = y - slope
            if size is not None:
                size += np.abs(slope)
            if steep is not None:
                R += slope  # all of the quadratics are in H
            else:
                # Tangents of what is beyond c at Q: R carries −slope − (y − slope).
                constant -= float(np.sum(slope * target)) + 0.5 * float(np.sum(slope * away))
                grain += float(np.sum(np.abs(slope * target))) + 0.5 * float(np.sum(slope * away))
        price = np.abs(inner)
        price -= fit.l1
        np.maximum(price, 0.0, out=price)
        np.einsum("mii->mi", price)[:] = 0.0
        own = np.einsum("mii->mi", Q).astype(np.float64)
        root = np.sqrt(np.maximum(own, np.finfo(float).tiny))
        paid = fit.corr_bound * np.einsum("mij,mj->mi", price, root) / root
        cost = -np.einsum("mii->mi", inner) - paid
        np.einsum("mii->mi", R)[:] -= np.minimum(cost, 0.0)
        if size is not None:
            np.einsum("mii->mi", size)[:] += paid
        cost = np.maximum(cost, 0.0)
        floor = np.asarray(fit.floor)
        constant += float(np.sum(cost @ floor))
        grain += float(np.sum((np.abs(np.einsum("mii->mi", inner)) + paid) @ floor))
        if fit.corr_bound == 0.0:
            price[:] = 0.0
        multipliers = Multipliers(A, price, cost)
        constant -= 16.0 * EPS * grain
        stacked = fit.stacked(R)
        del R
        rounding = 4.0 * EPS * fit.stacked(size) if size is not None else np.zeros((0, 0))
        if steep is not None:
            return Bound(constant + steep.minimum(stacked, rounding), multipliers)
        return self._data(fit, stacked, rounding, c, constant, multipliers)

    def _data(
        self, fit: GramConeFit, R: Array, rounding: Array, c: float, constant: float, multipliers: Multipliers
    ) -> Bound:
        """Return the bound of ``constant`` and min_X Σ_i ½ x_i H_i x_i' − ⟨R, X⟩ from below."""
        weights = np.asarray(fit.weights)[:, None]
        if self.root is not None and c == 0.0:
            # Well conditioned, no ridge: one triangular solve.
            size = len(R)
            half = solve_triangular(self.root, R.T, lower=True, check_finite=False, overwrite_b=True)
            value = -0.5 * float(np.einsum("ij,ij->j", half, half) @ (1.0 / weights[:, 0]))
            return Bound(constant + value * (1.0 + 64.0 * EPS * size), multipliers)
        curvature = weights * self.spectrum + c
        bottom = weights[:, 0] * self.bottom + c
        V = self.vectors
        rotated = (R.astype(V.dtype) @ V).astype(np.float64)
        if self.values is not None and float(bottom.min()) <= 1e-9 * float(curvature.max()):
            return self._flat(fit, rotated, rounding, c, constant, multipliers)
        X = ((rotated / curvature).astype(V.dtype) @ V.T).astype(np.float64)
        left = R - self._curved(X, weights, c)
        missed = 0.5 * float((left**2).sum(axis=1) @ (1.0 / bottom))
        value = -0.5 * float(np.sum(X * (R + left)))
        if missed > 1e-9 * (1.0 + abs(value)):
            X += (((left.astype(V.dtype) @ V).astype(np.float64) / curvature).astype(V.dtype) @ V.T).astype(np.float64)
            left = R - self._curved(X, weights, c)
            missed = 0.5 * float((left**2).sum(axis=1) @ (1.0 / bottom))
            value = -0.5 * float(np.sum(X * (R + left)))
        # What rounding did to the equations counts in X's direction, and what it did to R.
        lengths = np.sqrt((X**2).sum(axis=1))
        unseen = EPS * float(lengths**2 @ curvature[:, -1]) + float(lengths @ np.sqrt((rounding**2).sum(axis=1)))
        value -= missed + 16.0 * EPS * float(np.sum(np.abs(X * R))) + unseen
        return Bound(constant + value, multipliers)

    def _steep(self, fit: GramConeFit) -> Steep | None:
        """Return what serves where S is flat somewhere, the ridge is not, and the pool alone would leave it so."""
        if self.values is None or self.bottom > 1e-6 * float(self.spectrum[-1]) or fit.names == 1:
            return None  # one name has no entries for the ridge
        if not fit.pool < 1e-6 * fit.ridge:
            return None
        return Steep.plan(fit, self.spectrum, self.vectors)

    def _curved(self, X: Array, weights: Array, c: float) -> Array:
        out = X @ self.S
        out *= weights
        if c > 0.0:
            out += c * X
        return out

    def _flat(
        self, fit: GramConeFit, rotated: Array, rounding: Array, c: float, constant: float, multipliers: Multipliers
    ) -> Bound:
        """Return the bound where S is singular or close to it: each flat direction by curvature or by reach."""
        assert self.values is not None
        # Rounding may have made R's part in a direction smaller, and an eigenvalue larger, than it is.
        length = np.abs(rotated) + np.sqrt((rounding**2).sum(axis=1))[:, None]
        noise = 4.0 * EPS * float(self.values[-1]) * float(np.sqrt(len(self.values)))
        # S is PSD, but only to rounding: beside a penalty of that size it may well take some of it away.
        sure_of = self.values - noise if c > 0.0 else np.maximum(self.values - noise, 0.0)
        curvature = np.multiply.outer(np.asarray(fit.weights), sure_of) + c
        squares = length**2
        with np.errstate(over="ignore"):
            # Too flat for a float is no curvature at all.
            cost = np.divide(squares, 2.0 * curvature, out=np.where(squares > 0.0, np.inf, 0.0), where=curvature > 0.0)
        cost = cost.sum(axis=0)
        # Directions in the order of S's eigenvalues: the first k are charged by reach, the others by curvature.
        lengths = np.sqrt(np.concatenate([[0.0], np.cumsum(squares.sum(axis=0))]))
        rest = np.concatenate([np.cumsum(cost[::-1])[::-1], [0.0]])
        # An eigenvalue that rounding may have made is no curvature.
        flat = 1e-13 * float(self.values[-1]) * len(self.values) ** 0.5
        sure = int(np.searchsorted(self.values, flat, side="right")) if c == 0.0 else 0
        reach = Reach(constant, lengths[sure:], rest[sure:], self._own_trace(fit))
        return Bound(constant - float(rest[0]), multipliers, reach)

    def _own_trace(self, fit: GramConeFit) -> float:
        """Return Σ_m tr K_m, signs apart, of each name fitted by itself: a size that the data ask for."""
        n, m = fit.names, fit.shapes
        weights = np.asarray(fit.weights)
        d = weights * np.einsum("mnmn->mn", np.asarray(fit.S).reshape(m, n, m, n))
        b = weights * np.einsum("nmn->mn", np.asarray(fit.B).reshape(n, m, n))
        b += fit.pool * np.einsum("mii->mi", np.asarray(fit.target))
        curvature = m * d + fit.pool
        seen = curvature > 1e-6 * float(curvature.max())
        own = np.divide(np.abs(b), curvature, out=np.zeros_like(b), where=seen)
        return float(np.sum(np.maximum(own, np.asarray(fit.floor))))
