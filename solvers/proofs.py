r"""Verification of claims that there is no solution: Farkas multipliers and directions of unbounded descent.

A program with no feasible point has multipliers with A'y + z = 0 and σ(y, z) = u'y₊ − l'y₋ + ub'z₊ − lb'z₋ < 0: for a
feasible v, 0 = y'Av + z'v ≤ σ < 0. Backends return such a y to their tolerance only, and a small error times a large v
proves nothing, so here z is set to −A'y wherever a finite box allows it (exact), the rest is polished to rounding level
by least squares, and what is still left must be so small that only points a million times larger than the data could
escape the proof.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from crosswind.solvers.bounds import support
from crosswind.solvers.cones import dual_distance, project_dual, slack_distance
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram
from crosswind.solvers.solution import Proof

__all__ = ["prove_infeasible", "prove_unbounded"]

_REACH = 1e6  # a point must be this many times larger than the data to escape a proof
_CLEAN = 1e-13  # a residual that needs no polishing, multipliers scaled to one
_DIRECTION = 1e-9  # what may be left of Pd and of the limits met along a direction, relative to the matrices' entries
_ROUNDING = 8.0 * np.finfo(np.float64).eps
_DENSE_ENTRIES = 2_000_000


def prove_infeasible(program: QuadraticProgram | ConeProgram, y: Vector) -> Proof | None:
    """Return a verified proof that no point is feasible, built from a backend's multipliers ``y`` (m,), or ``None``."""
    y = np.asarray(y, dtype=np.float64)
    if y.size == 0 or not np.isfinite(y).all() or not np.any(y):
        return None
    y = y / float(np.max(np.abs(y)))
    best: Proof | None = None
    for _ in range(3):
        if isinstance(program, QuadraticProgram):
            y = np.where(((y > 0.0) & np.isinf(program.u)) | ((y < 0.0) & np.isinf(program.l)), 0.0, y)
            proof, loose = _farkas_box(program, y)
        else:
            y = project_dual(program.cones, y)
            proof, loose = _farkas_cone(program, y)
        if proof is not None and (best is None or proof.residual < best.residual):
            best = proof
        if float(np.max(loose, initial=0.0)) <= _CLEAN:
            break
        y = _polish(program, y, loose)
        top = float(np.max(np.abs(y)))
        if top == 0.0:
            break
        y = y / top
    return best


def _farkas_box(program: QuadraticProgram, y: Vector) -> tuple[Proof | None, Vector]:
    A, lb, ub = program.A, program.lb, program.ub
    needed = -(A.T @ y)
    size = abs(A).T @ np.abs(y)
    noise = _ROUNDING * size
    # Within rounding of zero the sign is unknown: only a box finite on both sides may absorb it.
    above, below = np.isfinite(ub), np.isfinite(lb)
    boxed = np.where(np.abs(needed) <= noise, above & below, np.where(needed > 0.0, above, below))
    boxed |= size == 0.0
    z = np.where(boxed, needed, 0.0)
    left = np.where(boxed, 0.0, np.maximum(np.abs(needed), noise))
    reach = np.maximum(np.where(above, np.abs(ub), 0.0), np.where(below, np.abs(lb), 0.0))
    side_y = np.where(y > 0.0, program.u, program.l)[y != 0.0]
    terms = np.abs(side_y * y[y != 0.0])
    sigma = support(program.u, program.l, y) + support(ub, lb, z)
    absolute = float(np.sum(terms)) + float(np.sum(np.where(boxed, np.abs(z) * reach, 0.0)))
    margin = -sigma - _ROUNDING * absolute - float(np.sum(np.where(boxed, noise * reach, 0.0)))
    if margin <= 0.0:
        return None, left
    beta = max(float(np.max(np.abs(side_y), initial=0.0)), float(np.max(reach[boxed & (z != 0.0)], initial=0.0)))
    column = abs(A).max(axis=0).toarray().ravel() if A.nnz else np.zeros(program.n)
    escape = float(np.sum(left * beta / np.where(column > 0.0, column, 1.0)))
    if _REACH * escape > margin:
        return None, left
    return Proof("infeasible", y, z, np.zeros(0), margin, float(np.max(left, initial=0.0))), left


def _farkas_cone(program: ConeProgram, y: Vector) -> tuple[Proof | None, Vector]:
    residual = program.A.T @ y
    size = abs(program.A).T @ np.abs(y)
    left = np.maximum(np.abs(residual), np.where(size > 0.0, _ROUNDING * size, 0.0))
    margin = -float(program.b @ y) - _ROUNDING * float(np.abs(program.b) @ np.abs(y))
    if margin <= 0.0:
        return None, left
    beta = float(np.max(np.abs(program.b), initial=0.0))
    column = abs(program.A).max(axis=0).toarray().ravel() if program.A.nnz else np.zeros(program.n)
    escape = float(np.sum(left * beta / np.where(column > 0.0, column, 1.0)))
    # y was projected on K*; eigenvalues leave rounding behind.
    if _REACH * escape > margin or dual_distance(program.cones, y) > 1e-12:
        return None, left
    return Proof("infeasible", y, np.zeros(program.n), np.zeros(0), margin, float(np.max(left, initial=0.0))), left


def _polish(program: Any, y: Vector, left: Vector) -> Vector:
    """Move the non-zero multipliers by the least that cancels A'y on the columns no box absorbs."""
    active = np.flatnonzero(np.abs(y) > 1e-9)
    columns = np.flatnonzero(left)
    part = program.A[active][:, columns].T
    return y + _spread(active, _least_squares(part, -(part @ y[active])), y.size)


def prove_unbounded(program: QuadraticProgram | ConeProgram, direction: Vector, x: Vector) -> Proof | None:
    """Return a verified direction of endless descent from the feasible point ``x`` (n,), or ``None``.

    With d scaled to one: Pd and the limits met along d must vanish to 1e-9 of the matrices' entries after polishing,
    q'd must be clearly negative, and the descent must last for a million times the size of x.
    """
    d = np.asarray(direction, dtype=np.float64)
    if d.size == 0 or not np.isfinite(d).all() or not np.any(d):
        return None
    d = d / float(np.max(np.abs(d)))
    for _ in range(2):
        proof = _check_direction(program, d, x)
        if proof is not None:
            return proof
        d = _polish_direction(program, d)
        top = float(np.max(np.abs(d)))
        if top == 0.0:
            return None
        d = d / top
    return _check_direction(program, d, x)


def _check_direction(program: Any, d: Vector, x: Vector) -> Proof | None:
    P, A = program.P, program.A
    descent = -float(program.q @ d)
    Pd, Ad = P @ d, A @ d
    if isinstance(program, QuadraticProgram):
        met = _meets(Ad, program.l, program.u)
        met_box = float(np.max(_meets(d, program.lb, program.ub), initial=0.0))
    else:
        met = np.array([slack_distance(program.cones, -Ad)])
        met_box = 0.0
    residual = max(
        _relative(float(np.max(np.abs(Pd), initial=0.0)), P),
        _relative(float(np.max(met, initial=0.0)), A),
        met_box,
    )
    linear = float(np.max(np.abs(program.q), initial=0.0))
    if descent <= 1e-7 * linear or residual > _DIRECTION:
        return None
    length = _REACH * max(1.0, float(np.max(np.abs(x), initial=0.0)))
    if 0.5 * length * abs(float(d @ Pd)) + abs(float(x @ Pd)) > 0.5 * descent:
        return None
    return Proof("unbounded", np.zeros(0), np.zeros(0), d, descent, residual)


def _polish_direction(program: Any, d: Vector) -> Vector:
    """Project d on the directions along which P is flat and no limit is ever met, a small program of its own."""
    from crosswind.solvers.backends.base import Options, guarded
    from crosswind.solvers.registry import backend

    n = program.n
    rows = sparse.vstack((_unit_entries(program.P), _unit_entries(program.A)), format="csc")
    still = np.zeros(n)
    nearest: QuadraticProgram | ConeProgram
    if isinstance(program, QuadraticProgram):
        nearest = QuadraticProgram(
            sparse.identity(n, format="csc"),
            -d,
            rows,
            np.concatenate((still, np.where(np.isfinite(program.l), 0.0, -np.inf))),
            np.concatenate((still, np.where(np.isfinite(program.u), 0.0, np.inf))),
            lb=np.where(np.isfinite(program.lb), 0.0, -np.inf),
            ub=np.where(np.isfinite(program.ub), 0.0, np.inf),
        )
    else:
        cones = (Cone("zero", n), *program.cones)
        nearest = ConeProgram(sparse.identity(n, format="csc"), -d, rows, np.zeros(n + program.m), cones)
    for name in ("piqp", "clarabel") if isinstance(program, QuadraticProgram) else ("clarabel",):
        found = guarded(lambda name=name: backend(name).prepare(nearest, Options(tol=1e-10)).solve(None, None))  # type: ignore[misc]
        if not isinstance(found, Exception) and np.isfinite(found.x).all() and np.any(found.x):
            return found.x
    return d


def _unit_entries(matrix: Csc) -> Csc:
    top = float(np.max(np.abs(matrix.data), initial=0.0))
    return matrix / top if top > 0.0 else matrix


def _meets(change: Vector, lower: Vector, upper: Vector) -> Vector:
    up = np.where(np.isfinite(upper), change, -np.inf)
    down = np.where(np.isfinite(lower), -change, -np.inf)
    return np.maximum(np.maximum(up, down), 0.0)


def _relative(value: float, matrix: Csc) -> float:
    top = float(np.max(np.abs(matrix.data), initial=0.0))
    return value / top if top > 0.0 else value


def _least_squares(matrix: Csc, target: Vector) -> Vector:
    if matrix.shape[0] * matrix.shape[1] <= _DENSE_ENTRIES:
        return np.asarray(np.linalg.lstsq(matrix.toarray(), target, rcond=1e-12)[0])
    return np.asarray(lsmr(matrix, target, atol=1e-15, btol=1e-15, maxiter=2000)[0])


def _spread(index: Any, values: Vector, size: int) -> Vector:
    out = np.zeros(size)
    out[index] = values
    return out
