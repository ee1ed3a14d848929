"""Alternating descent for kernels that are a product: a weight vector on the simplex times matrices.

The moments hold G groups of regressors, and the model gives group g the matrices a_g K_1, …, a_g K_M with one set of
K for all. With a fixed, the groups' regressors add up to Σ_g a_g z^g and K is the joint convex fit, every constraint
and penalty in it. With K fixed, the objective is a convex quadratic in a, minimised exactly on the simplex
{a ≥ 0, Σ a = 1}, which fixes the scale that the product leaves open. Each half-step lowers one and the same objective.
It is convex in each of the two and not in both together: the end is a point that neither half-step can improve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.fit import Fitted, fit_problem
from crosswind.problems.impact.gram import FoldGrams, Gram
from crosswind.problems.impact.program import FitProblem, nonnegative_quadratic

__all__ = ["Alternation", "alternate", "collapse", "collapse_folds", "own_weights", "simplex_quadratic"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Alternation:
    """Where the alternation ended.

    Parameters
    ----------
    weights
        a (G,), on the simplex.
    matrices
        K' (M, N, N) in scaled coordinates, exactly feasible.
    fitted
        The last joint fit of K; with it, optimal given the weights.
    history
        Objective after each half-step (K, a, K, a, …), never rising.
    converged
        Whether the last full step lowered the objective by less than the tolerance.
    """

    weights: Array
    matrices: Array
    fitted: Fitted
    history: tuple[float, ...]
    converged: bool


def collapse(gram: Gram, groups: int, weights: Array) -> Gram:
    """Return the moments of Σ_g a_g z^g, from those of the stacked groups [z^1 … z^G]."""
    wide = gram.ZZ.shape[0] // groups
    ZZ = np.einsum("g,gihj,h->ij", weights, gram.ZZ.reshape(groups, wide, groups, wide), weights, optimize=True)
    rZ = np.einsum("ngi,g->ni", gram.rZ.reshape(-1, groups, wide), weights)
    return Gram(gram.rows, ZZ, rZ, gram.rr, gram.uu)


def collapse_folds(grams: FoldGrams, groups: int, weights: Array) -> FoldGrams:
    """Return `collapse` of all rows, blocks and guards."""
    return FoldGrams(
        collapse(grams.total, groups, weights),
        tuple(collapse(g, groups, weights) for g in grams.blocks),
        tuple(collapse(g, groups, weights) for g in grams.guards),
        grams.raw_return_cov,
    )


def simplex_quadratic(H: Array, g: Array) -> Array:
    """Minimise ½a'Ha − g'a over a ≥ 0, Σ a = 1, exactly, for a small PSD H with g in its range.

    On the simplex the objective is ½a'Qa less a constant, with Q = H − g1' − 1g' + c11' for any c. With c > g'H⁺g, Q is
    PSD, and the minimiser of a quadratic form over the simplex is that of ½a'Qa − Σ a over a ≥ 0 alone, divided by its
    sum: their Karush–Kuhn–Tucker conditions differ by a factor. That is non-negative least squares, an active set
    method that ends in finitely many steps.
    """
    size = float(np.trace(H)) / len(g)
    if size <= 0 and not np.any(g):
        return np.full(len(g), 1.0 / len(g))
    explained = float(g @ np.linalg.pinv(0.5 * (H + H.T), rcond=1e-13, hermitian=True) @ g)
    one = np.ones(len(g))
    Q = 0.5 * (H + H.T) - np.outer(g, one) - np.outer(one, g) + (2.0 * max(explained, 0.0) + size)
    free = nonnegative_quadratic(Q, one)
    return np.asarray(free / free.sum())


def own_weights(gram: Gram, groups: int) -> Array:
    """Weights (G,) to start from: every name's own flow, summed over the M inner shapes, by non-negative least squares.

    Uniform where no group explains anything.
    """
    n = gram.names
    inner = gram.shapes // groups
    S = gram.ZZ.reshape(groups, inner, n, groups, inner, n).sum(axis=(1, 4)) / gram.rows
    B = gram.rZ.reshape(n, groups, inner, n).sum(axis=2) / gram.rows
    flow = np.sqrt(np.maximum(np.diag(gram.flow_cov), np.finfo(float).tiny))
    move = np.sqrt(np.maximum(np.diag(gram.return_cov), np.finfo(float).tiny))
    # Each name in units of its own flow and return: all count alike, whatever their liquidity.
    H = np.einsum("i,gihi->gh", 1.0 / flow**2, S) / n
    g = np.einsum("i,igi->g", 1.0 / (flow * move), B) / n
    free = nonnegative_quadratic(H, g)
    return free / free.sum() if free.sum() > 0 else np.full(groups, 1.0 / groups)


def alternate(
    gram: Gram,
    groups: int,
    base: FitProblem,
    weights: Array,
    limit: int = 100,
    tol: float = 1e-8,
    solver: str | tuple[str, ...] = "auto",
    solver_tol: float = 1e-8,
) -> Alternation:
    """Alternate joint fits of K and exact weights until neither lowers the objective by ``tol`` · (1 + |objective|).

    Parameters
    ----------
    gram
        Moments of the stacked groups.
    groups
        G.
    base
        The fit at the first weights: its scaling, row weights, floor, target and penalties are kept throughout, so
        that all half-steps lower one function.
    weights
        First a (G,), on the simplex.
    limit
        Most full steps.
    tol
        See above.
    solver, solver_tol
        Of each joint fit.
    """
    n, m = base.names, base.shapes
    unit = np.tile(base.scale, groups * m)
    S = gram.S * np.outer(unit, unit)
    B = gram.B / base.scale[:, None] * unit
    blocks = S.reshape(groups, n * m, groups, n * m)
    sides = B.reshape(n, groups, n * m)

    def problem_at(a: Array) -> FitProblem:
        inner = np.einsum("g,gihj,h->ij", a, blocks, a, optimize=True)
        return replace(base, S=0.5 * (inner + inner.T), B=np.einsum("ngi,g->ni", sides, a))

    a = np.asarray(weights, dtype=np.float64)
    fitted: Fitted | None = None
    K = np.zeros((m, n, n))
    history: list[float] = []
    converged = False
    for _ in range(limit):
        problem = problem_at(a)
        trial = fit_problem(problem, solver, solver_tol, warm=fitted)
        value = problem.objective(trial.repair.matrices)
        if fitted is None or value <= history[-1]:
            # A fit within its own tolerance may miss the last digits of what is there already.
            fitted, K = trial, trial.repair.matrices
            history.append(value)
        else:
            history.append(history[-1])
        X = base.stacked(K)
        H = np.einsum("i,ij,gjhk,ik->gh", base.weights, X, blocks, X, optimize=True)
        g = np.einsum("i,ij,igj->g", base.weights, X, sides, optimize=True)
        best = simplex_quadratic(H, g)
        value = problem_at(best).objective(K)
        if value < history[-1]:
            a = best
            history.append(value)
        else:
            history.append(history[-1])
        if len(history) >= 4 and history[-3] - history[-1] <= tol * (1.0 + abs(history[-1])):
            converged = True
            break
    assert fitted is not None
    return Alternation(a, K, fitted, tuple(history), converged)
