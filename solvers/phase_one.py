r"""Our own phase one: a feasible point, or a proof that there is none, without believing a backend's claim.

First the shortest feasible point is asked for, min ½‖x‖² over the limits; its iterate is checked. If that fails, the
point of least squared violation,

.. math:: \min_{x,s}\ \tfrac12\lVert s\rVert^2 \quad\text{s.t.}\quad l \le Ax + Rs \le u,\ \ lb \le x \le ub

with R the size of each row, always exists; at one with s ≠ 0 the row multipliers y = −R⁻¹s satisfy A'y + z = 0 with z
on the boxes, and u'y₊ − l'y₋ + ub'z₊ − lb'z₋ = −‖s‖² < 0: Farkas' certificate, from backends that give none.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Options, Program, Raw, guarded
from crosswind.solvers.certify import certify
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.proofs import prove_infeasible
from crosswind.solvers.registry import backend
from crosswind.solvers.solution import Proof

__all__ = ["find_feasible"]

_TOL = 1e-8
_FEASIBLE = 1e-7


def find_feasible(program: Program) -> tuple[Vector | None, Proof | None]:
    """Return (point, None) with a feasible point (n,), (None, proof) with a verified proof, or (None, None)."""
    if isinstance(program, ConeProgram):
        return _conic(program)
    n, m = program.n, program.m
    shortest = QuadraticProgram(
        sparse.identity(n), np.zeros(n), program.A, program.l, program.u, lb=program.lb, ub=program.ub
    )
    for name in ("piqp", "clarabel"):
        raw = _run(name, shortest)
        if raw is not None and np.isfinite(raw.x).all():
            x = np.clip(raw.x, program.lb, program.ub)
            if certify(program, x, np.zeros(m), np.zeros(n)).feasible(_FEASIBLE):
                return x, None
    size = np.asarray(abs(program.A).max(axis=1).todense()).ravel() if program.A.nnz else np.ones(m)
    size = np.where(size > 0.0, size, 1.0)
    relaxed = QuadraticProgram(
        sparse.block_diag((sparse.csc_matrix((n, n)), sparse.identity(m)), format="csc"),
        np.zeros(n + m),
        sparse.hstack((program.A, sparse.diags(size)), format="csc"),
        program.l,
        program.u,
        lb=np.concatenate((program.lb, np.full(m, -np.inf))),
        ub=np.concatenate((program.ub, np.full(m, np.inf))),
    )
    for name in ("piqp", "clarabel"):
        raw = _run(name, relaxed)
        if raw is None or not np.isfinite(raw.x).all():
            continue
        for y in (-raw.x[n:] / size, raw.y):
            proof = prove_infeasible(program, y)
            if proof is not None:
                return None, proof
    return None, None


def _conic(program: ConeProgram) -> tuple[Vector | None, Proof | None]:
    """Cones have no least-squares form here without a second-order cone of their own: drop the cost and solve."""
    free = ConeProgram(None, np.zeros(program.n), program.A, program.b, program.cones)
    raw = _run("clarabel", free)
    if raw is None:
        return None, None
    if raw.farkas is not None:
        proof = prove_infeasible(program, raw.farkas[0])
        if proof is not None:
            return None, proof
    if np.isfinite(raw.x).all() and certify(program, raw.x, np.zeros(program.m), s=raw.s).feasible(_FEASIBLE):
        return raw.x, None
    return None, None


def _run(name: str, program: Program) -> Raw | None:
    found = guarded(lambda: backend(name).prepare(program, Options(tol=_TOL)).solve(None, None))
    return None if isinstance(found, Exception) else found
