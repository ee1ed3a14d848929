r"""The program whose solution is a direction of endless descent, for solvers that claim one and show none.

.. math::

    \min_d\ q'd \quad\text{s.t.}\quad Pd = 0,\ \lVert d \rVert_\infty \le 1,\ d \text{ in the limits' recession cone}

A row or box keeps its sign where one side is infinite and is zero where both are finite; a cone is its own recession
cone. The value is negative exactly where the objective of a feasible program falls for ever along some d.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Program
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram

__all__ = ["direction_program"]


def direction_program(program: Program) -> Program:
    """Return the program above, of the kind of ``program``; its x is the direction."""
    n = program.n
    curved = program.P.tocsr()[np.flatnonzero(np.diff(program.P.indptr))]  # P is symmetric
    k = curved.shape[0]
    if isinstance(program, QuadraticProgram):
        low, high = _recession(program.l, program.u, np.inf)
        lb, ub = _recession(program.lb, program.ub, 1.0)
        rows = sparse.vstack((program.A, curved), format="csc")
        still = np.zeros(k)
        return QuadraticProgram(None, program.q, rows, np.append(low, still), np.append(high, still), lb, ub)
    unit = sparse.identity(n)
    rows = sparse.vstack((program.A, unit, -unit, curved), format="csc")
    b = np.concatenate((np.zeros(program.m), np.ones(2 * n), np.zeros(k)))
    cones = (*program.cones, Cone("nonneg", 2 * n), *((Cone("zero", k),) if k else ()))
    return ConeProgram(None, program.q, rows, b, cones)


def _recession(low: Vector, high: Vector, reach: float) -> tuple[Vector, Vector]:
    return np.where(np.isfinite(low), 0.0, -reach), np.where(np.isfinite(high), 0.0, reach)
