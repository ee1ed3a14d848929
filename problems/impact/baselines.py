"""What a desk would fit instead, behind the same estimator interface and over the same decay dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.gram import FoldGrams, Gram
from crosswind.problems.impact.program import FitProblem, nonnegative_quadratic, own_slopes, scaled_problem
from crosswind.problems.impact.targets import Target, resolve_target
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.factors import Defactor

__all__ = ["DiagonalNNLS", "FullOLS", "KyleImpact", "OwnFlowOLS", "SequentialHeuristic", "ridge_rows"]

Array = NDArray[np.float64]


def _matrices(X: Array) -> Array:
    """Return (M, N, N) of the stacked matrices X = [K_1 … K_M]."""
    n = X.shape[0]
    return np.ascontiguousarray(X.reshape(n, -1, n).transpose(1, 0, 2))


def _diagonals(own: Array) -> Array:
    """Diagonal matrices (M, N, N) of own (M, N)."""
    return np.asarray(own[:, :, None] * np.eye(own.shape[1]))


class _Plain(ImpactEstimator):
    """An estimator with nothing to set but its decay shapes."""

    def __init__(
        self,
        kernel: str = "exponential",
        half_lives_s: Sequence[float] | None = None,
        lags: Sequence[int] | None = None,
        defactor: bool | Defactor = True,
    ) -> None:
        self.kernel = kernel
        self.half_lives_s = half_lives_s
        self.lags = lags
        self.defactor = defactor


class OwnFlowOLS(_Plain):
    """Each name's return on its own flow by least squares: K_m diagonal, entries of any sign.

    Parameters
    ----------
    kernel, half_lives_s, lags, defactor
        See `CrossImpact`.
    """

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        gram, n, m = grams.total, len(names), dictionary.size
        own = np.zeros((m, n))
        for i in range(n):
            where = np.arange(m) * n + i
            own[:, i] = np.linalg.lstsq(gram.S[np.ix_(where, where)], gram.B[i, where], rcond=None)[0]
        return _diagonals(own)


class DiagonalNNLS(_Plain):
    """Each name's return on its own flow by non-negative least squares: the admissible fit without cross terms.

    Parameters
    ----------
    kernel, half_lives_s, lags, defactor
        See `CrossImpact`.
    """

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        own, _ = own_slopes(grams.total, names)
        return _diagonals(own)


class FullOLS(_Plain):
    """Every name's return on all flows by least squares: X = B S⁻¹, neither symmetric nor PSD.

    Parameters
    ----------
    kernel, half_lives_s, lags, defactor
        See `CrossImpact`.

    Raises
    ------
    DataGap
        On fit, with fewer rows than the N·M regressors.

    Notes
    -----
    Where flows are collinear the least-squares solution of smallest norm in scaled coordinates is taken; ``rank_``
    says so.
    """

    rank_: int

    def _rows_needed(self, names: int, shapes: int) -> int:
        return max(10, names * shapes)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        problem = scaled_problem(grams.total, names=names)
        X, self.rank_ = _least_squares(problem)
        return problem.unscale(_matrices(X))


def _least_squares(problem: FitProblem) -> tuple[Array, int]:
    solution, _, rank, _ = np.linalg.lstsq(problem.S, problem.B.T, rcond=1e-12)
    return np.asarray(solution.T), int(rank)


def ridge_rows(problem: FitProblem) -> Array:
    """Unconstrained minimiser of the data term plus the ridge, matrices (M, N, N), each row by itself.

    Row i: (w_i S + ridge·Λ_i) x_i = w_i b_i + ridge·Λ_i t_i, Λ_i the indicator of the cross terms of row i.
    """
    n, m = problem.names, problem.shapes
    T = problem.stacked(problem.target)
    X = np.empty_like(problem.B)
    for i in range(n):
        off = np.ones(n * m)
        off[np.arange(m) * n + i] = 0.0
        left = problem.weights[i] * problem.S + problem.ridge * np.diag(off)
        X[i] = np.linalg.lstsq(left, problem.weights[i] * problem.B[i] + problem.ridge * off * T[i], rcond=1e-12)[0]
    return _matrices(X)


class SequentialHeuristic(ImpactEstimator):
    """The usual sequence: least squares → symmetrise → clip eigenvalues → floor → clamp correlations.

    Each step undoes part of the one before: clipping breaks the correlation bound, clamping breaks PSD, and clipping
    raises the diagonal. The output may therefore violate its own constraints; `constraint_violations` reports it.

    Parameters
    ----------
    kernel, half_lives_s, lags, defactor
        See `CrossImpact`.
    corr_bound, floor
        As in `CrossImpact` (``floor`` as a share of the own slope).
    ridge, target, sectors
        Shrinkage of the least squares towards a target, as in `CrossImpact`; 0 is plain least squares.

    Attributes
    ----------
    floor_
        Floor of each K_m,ii by name [return per currency].
    """

    floor_: pd.Series

    def __init__(
        self,
        kernel: str = "exponential",
        half_lives_s: Sequence[float] | None = None,
        lags: Sequence[int] | None = None,
        corr_bound: float = 0.6,
        floor: float = 0.01,
        ridge: float = 0.0,
        target: Target = None,
        sectors: pd.Series | None = None,
        defactor: bool | Defactor = True,
    ) -> None:
        self.kernel = kernel
        self.half_lives_s = half_lives_s
        self.lags = lags
        self.corr_bound = corr_bound
        self.floor = floor
        self.ridge = ridge
        self.target = target
        self.sectors = sectors
        self.defactor = defactor

    def _rows_needed(self, names: int, shapes: int) -> int:
        if isinstance(self.ridge, (bool, str)):
            raise InvalidInput("a number ≥ 0 is needed", field="ridge", value=self.ridge, remedy="e.g. ridge=1.0")
        return max(10, names * shapes if self.ridge == 0 else 2 * shapes)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        problem = scaled_problem(grams.total, float(self.floor), self.corr_bound, float(self.ridge), names=names)
        if self.ridge == 0:
            start = _matrices(_least_squares(problem)[0])
        else:
            target = resolve_target(self.target, problem, grams.raw_return_cov, names, self.sectors, dictionary)
            start = ridge_rows(replace(problem, target=target))
        self.floor_ = pd.Series(problem.floor * problem.scale**2, index=list(names), name="floor")
        return problem.unscale(np.stack([self._patch(K, problem.floor) for K in start]))

    def _patch(self, K: Array, floor: Array) -> Array:
        values, vectors = np.linalg.eigh(0.5 * (K + K.T))
        out = (vectors * np.maximum(values, 0.0)) @ vectors.T
        diag = np.maximum(np.diag(out), floor)
        bound = self.corr_bound * np.sqrt(np.outer(diag, diag))
        out = np.clip(0.5 * (out + out.T), -bound, bound)
        np.fill_diagonal(out, diag)
        return np.asarray(out)

    def constraint_violations(self) -> pd.Series:
        """Worst relative violation of each of its own constraints."""
        return self._fitted().constraint_violations(self.floor_, self.corr_bound)


class KyleImpact(_Plain):
    """Kyle's matrix with fitted scalars: G_h = Σ_m y_m φ_m(h) Λ, ΛΩΛ = Σ, y ≥ 0.

    Λ = L^{−T}(L'ΣL)^{½}L^{−1} with LL' = Ω, from the covariances of returns Σ and of flow Ω per bucket. With the
    "instantaneous" kernel one scalar Y is fitted; the other families fit one per shape, a separable kernel.

    Parameters
    ----------
    kernel, half_lives_s, lags, defactor
        See `CrossImpact`.

    Attributes
    ----------
    kyle_
        Λ, DataFrame (N, N) [return per currency].
    scalars_
        y (M,), without unit.

    References
    ----------
    Kyle (1985); Caballe and Krishnan (1994); del Molino, Mastromatteo, Benzaquen, Bouchaud (2020).
    """

    kyle_: pd.DataFrame
    scalars_: Array

    def _rows_needed(self, names: int, shapes: int) -> int:
        return max(10, 2 * names)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        from crosswind.optim.kyle import kyle_matrix

        gram = grams.total
        condition = float(np.linalg.cond(_correlation(gram.flow_cov)))
        if not condition < 1e12:
            raise InvalidInput(
                "flow is collinear: Kyle's matrix blows up as the liquidity of a combination goes to 0",
                field="events.flow",
                value=f"condition {condition:.1e}",
                remedy="drop one of the names whose flow is the same, or fit CrossImpact",
            )
        Lambda = np.asarray(kyle_matrix(gram.return_cov, gram.flow_cov))
        self.kyle_ = pd.DataFrame(Lambda, index=list(names), columns=list(names))
        self.scalars_ = _separable(gram, Lambda)
        return np.asarray(self.scalars_[:, None, None] * Lambda)


def _correlation(cov: Array) -> Array:
    sd = np.sqrt(np.diag(cov))
    return np.asarray(cov / np.outer(sd, sd))


def _separable(gram: Gram, matrix: Array) -> Array:
    """Return y (M,) ≥ 0 of least weighted error for K_m = y_m Λ, weights 1/var(r_i)."""
    n, m = gram.names, gram.shapes
    w = 1.0 / np.diag(gram.return_cov)
    blocks = gram.S.reshape(m, n, m, n)
    H = np.einsum("i,ij,kjlp,ip->kl", w, matrix, blocks, matrix, optimize=True)
    g = np.einsum("i,ij,ikj->k", w, matrix, gram.B.reshape(n, m, n), optimize=True)
    return nonnegative_quadratic(H, g)
