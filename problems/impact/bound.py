"""A rigorous lower bound on the fit's objective from any dual iterate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from crosswind.problems.impact.program import FitProblem, LoweredFit
from crosswind.solvers.cones import project_dual

__all__ = ["lower_bound"]

Array = NDArray[np.float64]


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
        The bound, up to float64 rounding; −inf where the moments are singular and no ridge makes P definite.
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
    try:
        factor = cho_factor(program.P[:size, :size].toarray(), lower=True)
    except LinAlgError:
        return -np.inf
    diagonal = np.diag(factor[0])
    if diagonal.min() < 1e-7 * diagonal.max():
        return -np.inf
    return float(-0.5 * g @ cho_solve(factor, g) - program.b @ y + program.constant)
