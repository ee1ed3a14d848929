"""Sharpen an interior-point solution: guess the active set, solve its linear system, check, repeat.

Interior points leave dust of 1e-9..1e-6 around kinks and bounds; the price of a limit and the stationarity of a
schedule need the corner itself. A guess that our own certificate does not pass is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from crosswind.optim.checks import FloatArray
from crosswind.solvers.certify import certify
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.solution import Solution, Status

__all__ = ["polish"]

_DELTA = 1e-9
_REFINEMENTS = 12


def polish(qp: QuadraticProgram, solution: Solution, rounds: int = 6, max_size: int = 60_000) -> Solution:
    """Return the corner of the active set where it passes the certificate, else ``solution`` itself.

    With the active rows J at bound b the optimality conditions are Px + A_J'y = −q, A_J x = b. The system is
    regularised by ±δ (dependent rows are common at kinks) and refined against the true one; rows that it violates
    join J, rows whose dual has the wrong sign leave it.

    Parameters
    ----------
    qp
        The scaled program.
    solution
        A usable solution of it.
    rounds
        Largest number of active sets that are tried.
    max_size
        Programs with more variables and rows are returned as they are.
    """
    if qp.n + qp.m > max_size or not solution.status.usable:
        return solution
    m, n = qp.m, qp.n
    A = sparse.csr_matrix(sparse.vstack([qp.A, sparse.eye_array(n, format="csr")]))
    low, high = np.concatenate([qp.l, qp.lb]), np.concatenate([qp.u, qp.ub])
    equal = low == high
    x, dual = np.array(solution.x), np.concatenate([solution.y, solution.z])
    value = A @ x
    at_low = ~equal & (dual < 0.0) & (-dual > value - low)
    at_high = ~equal & (dual > 0.0) & (dual > high - value)
    best: Solution | None = None
    tol = solution.certificate.tolerance
    for _ in range(rounds):
        found = _corner(qp, A, np.where(at_low, low, high), equal | at_low | at_high, x, dual)
        if found is None:
            break
        x_new, dual_new = found
        certificate = certify(qp, x_new, dual_new[:m], dual_new[m:], tol=tol)
        if certificate.passes() and (best is None or certificate.worst < best.certificate.worst):
            best = replace(
                solution,
                x=x_new,
                y=dual_new[:m],
                z=dual_new[m:],
                certificate=certificate,
                objective=certificate.objective,
                status=Status.OPTIMAL,  # what the backend fell short of, the corner has
            )
        value = A @ x_new
        wrong = (at_low & (dual_new > 1e-13)) | (at_high & (dual_new < -1e-13))
        below, above = ~equal & (value < low - 1e-12), ~equal & (value > high + 1e-12)
        if not (wrong.any() or (below & ~at_low).any() or (above & ~at_high).any()):
            break
        at_low, at_high = (at_low & ~wrong) | below, (at_high & ~wrong) | above
        x, dual = x_new, dual_new
    return solution if best is None else best


def _corner(
    qp: QuadraticProgram, A: Any, bound: FloatArray, active: np.ndarray, x: FloatArray, dual: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Solve the conditions on the active rows; None when the factorisation fails or the result is not finite."""
    rows = np.flatnonzero(active)
    J = A[rows]
    k, n = len(rows), qp.n
    KKT = sparse.csc_matrix(sparse.block_array([[qp.P, J.T], [J, None]]) if k else qp.P)
    shift = sparse.diags_array(np.concatenate([np.full(n, _DELTA), np.full(k, -_DELTA)]))
    try:
        factor = linalg.splu(
            sparse.csc_matrix(KKT + shift), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01,
            options={"SymmetricMode": True},
        )  # fmt: skip
    except (RuntimeError, MemoryError):
        return None
    right = np.concatenate([-qp.q, bound[rows]])
    point = np.concatenate([x, dual[rows]])
    for _ in range(_REFINEMENTS):
        residual = right - KKT @ point
        if not np.isfinite(residual).all():
            return None
        point = point + factor.solve(residual)
        if np.abs(residual).max(initial=0.0) < 1e-15:
            break
    if not np.isfinite(point).all():
        return None
    full = np.zeros(len(bound))
    full[rows] = point[n:]
    return point[:n], full
