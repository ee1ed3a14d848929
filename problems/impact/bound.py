"""A rigorous lower bound on the fit's objective from any dual iterate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from crosswind.problems.impact.program import FitProblem, LoweredFit
from crosswind.solvers.cones import project_dual

__all__ = ["lower_bound"]

Array = NDArray[np.float64]

_SINGULAR = 1e-12  # reciprocal condition number of P, scaled to a unit diagonal, below which nothing is claimed
_ROUNDINGS = 16.0 * float(np.finfo(np.float64).eps)


def lower_bound(problem: FitProblem, lowered: LoweredFit, y: Array) -> float:
    """Return a number that no feasible fit can undercut, whatever the accuracy of the dual iterate.

    For y in the dual cone, f(x) ≥ f(x) + y'(Ax − b) for every feasible x, and the right side is minimised in closed
    form where P is positive definite: −½ g'P⁻¹g − b'y + constant with g = q + A'y. Here y is first projected on the
    dual cone, and the multipliers of the l1 bounds, whose variables have no curvature, are rescaled so that their part
    of g vanishes.

    Parameters
    ----------
    problem, lowered
        The fit and its cone program.
    y
        Dual iterate (m,), of any quality.

    Returns
    -------
    float
        The bound, up to the rounding of the moments; −inf where these are singular and no ridge makes P definite.

    Notes
    -----
    With v ≈ −P⁻¹g and the residual ϱ = Pv + g, min ½x'Px + g'x = ½v'Pv + g'v − ½ϱ'P⁻¹ϱ exactly: the error of the solve
    comes off the bound, and so do the roundings of the sums.
    """
    program = lowered.program
    y = np.array(project_dual(program.cones, np.asarray(y, dtype=np.float64)))
    size = lowered.shapes * lowered.names * (lowered.names + 1) // 2
    extra = program.n - size
    if extra:
        up = slice(lowered.bound_rows, lowered.bound_rows + extra)
        down = slice(up.stop, up.stop + extra)
        total = y[up] + y[down]
        share = np.divide(y[up], total, out=np.full(extra, 0.5), where=total > 0)
        y[up], y[down] = 2.0 * problem.l1 * share, 2.0 * problem.l1 * (1.0 - share)
    g = (program.q + program.A.T @ y)[:size]
    added = (np.abs(program.q) + abs(program.A).T @ np.abs(y))[:size]  # what may cancel in g
    P = program.P[:size, :size].toarray()
    unit = np.sqrt(np.maximum(np.diag(P), np.finfo(float).tiny))
    P, g, added = P / np.outer(unit, unit), g / unit, added / unit
    try:
        factor = cho_factor(P, lower=True)
    except LinAlgError:
        return -np.inf
    reciprocal, _ = lapack.dpocon(factor[0], np.abs(P).sum(axis=0).max(), uplo="L")
    if reciprocal < _SINGULAR:
        return -np.inf
    v = -cho_solve(factor, g)
    v -= cho_solve(factor, P @ v + g)
    residual = P @ v + g
    # What rounding can hide in the residual, seen through the smallest eigenvalue that the condition number allows.
    hidden = _ROUNDINGS * float(np.linalg.norm(np.abs(P) @ np.abs(v) + added))
    missed = 0.5 * float(residual @ cho_solve(factor, residual)) + hidden**2 / reciprocal
    sums = float(added @ np.abs(v)) + float(np.abs(program.b) @ np.abs(y)) + abs(program.constant)
    value = float(0.5 * v @ P @ v + g @ v - program.b @ y + program.constant)
    return float(value - missed - _ROUNDINGS * sums)
