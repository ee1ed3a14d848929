"""The same fit written for reading, in cvxpy: the independent oracle of the lowering."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.problems.impact.program import FitProblem

__all__ = ["reference_fit"]


def reference_fit(problem: FitProblem) -> tuple[Any, list[Any]]:
    """Return the cvxpy problem and its matrix variables K'_1..K'_M; call ``.solve()`` on the first.

    Parameters
    ----------
    problem
        The fit in scaled coordinates, see `crosswind.problems.impact.program`.

    Notes
    -----
    Independent of `lower` in every step: the data term is a sum of squares through a square root of S, the correlation
    bound is cvxpy's geometric mean, symmetry and PSD are cvxpy's own.
    """
    import cvxpy as cp

    n, m = problem.names, problem.shapes
    K = [cp.Variable((n, n), symmetric=True) for _ in range(m)]
    X = cp.hstack(K)
    values, vectors = np.linalg.eigh(problem.S)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    w = np.sqrt(problem.weights)
    fit = 0.5 * cp.sum_squares(cp.multiply(w[:, None], X @ root)) - cp.sum(
        cp.multiply(problem.weights[:, None] * problem.B, X)
    )
    off = 1.0 - np.eye(n)
    penalty: Any = 0.0
    limits: list[Any] = []
    for k in range(m):
        away = cp.multiply(off, K[k] - problem.target[k])
        penalty = penalty + 0.5 * problem.ridge * cp.sum_squares(away)
        own_away = cp.diag(K[k]) - np.diag(problem.target[k])
        penalty = penalty + 0.5 * problem.pool * cp.sum_squares(own_away)
        penalty = penalty + problem.l1 * cp.sum(cp.abs(cp.multiply(off, K[k])))
        limits += [K[k] >> 0, cp.diag(K[k]) >= problem.floor]
        for i in range(n):
            for j in range(i + 1, n):
                own = cp.hstack([K[k][i, i], K[k][j, j]])
                limits.append(cp.abs(K[k][i, j]) <= problem.corr_bound * cp.geo_mean(own))
    return cp.Problem(cp.Minimize(fit + penalty), limits), K
