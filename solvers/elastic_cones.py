r"""The smallest relaxation of a cone program: rows of zero and nonnegative cones move, other cones are widened.

.. math::

    \min \sum_k w_k p_k \quad\text{s.t.}\quad Ax + s = b + Rp,\ s \in K,\ p \ge 0

R has ±e_i for a row of a zero cone, e_i for a row of a nonnegative one, the head for a second-order cone (its radius
grows by p) and the identity for a semidefinite one (its eigenvalues may fall to −p).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from crosswind.solvers.certify import certify
from crosswind.solvers.cones import blocks, svec
from crosswind.solvers.conflict import cone_conflict
from crosswind.solvers.elastic import ElasticReport
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.matrices import Csc
from crosswind.solvers.phase_one import find_feasible
from crosswind.solvers.program import Cone, ConeProgram

__all__ = ["elastic_cone"]

_TOL = 1e-6


def elastic_cone(program: ConeProgram) -> ElasticReport:
    """Return the smallest L1 relaxation of a cone program, by Clarabel and certified; amounts by row or cone name.

    A cone takes the name of its first row. Positive amounts raise the right-hand side or widen the cone.

    Raises
    ------
    SolverFailure
        When the relaxation's answer does not pass our certificate.
    """
    from crosswind.solvers.solve import solve

    names = program.row_names or tuple(f"row {i}" for i in range(program.m))
    point, proof = find_feasible(program)
    if point is not None:
        free = ConeProgram(None, np.zeros(program.n), program.A, program.b, program.cones)
        return ElasticReport({}, 0.0, point, certify(free, point, np.zeros(program.m)))
    columns: list[tuple[int, float, Csc]] = []  # first row, sign, direction
    for cone, rows in blocks(program.cones):
        if cone.kind in ("zero", "nonneg"):
            for i in range(rows.start, rows.stop):
                unit = sparse.csc_matrix(([1.0], ([i], [0])), shape=(program.m, 1))
                columns.append((i, 1.0, unit))
                if cone.kind == "zero":
                    columns.append((i, -1.0, -unit))
        else:
            wide = svec(np.eye(cone.size)) if cone.kind == "psd" else np.eye(cone.size)[0]
            at = np.flatnonzero(wide)
            shape = (program.m, 1)
            columns.append((rows.start, 1.0, sparse.csc_matrix((wide[at], (at + rows.start, 0 * at)), shape=shape)))
    k, n = len(columns), program.n
    R: Csc = sparse.hstack([direction for _, _, direction in columns], format="csc")
    below: Csc = sparse.hstack((sparse.csc_matrix((k, n)), -sparse.identity(k)), format="csc")
    A: Csc = sparse.vstack((sparse.hstack((program.A, -R)), below), format="csc")
    linear = ConeProgram(
        None,
        np.concatenate((np.zeros(n), np.ones(k))),
        A,
        np.concatenate((program.b, np.zeros(k))),
        (*program.cones, Cone("nonneg", k)),
    )
    found = solve(linear, "clarabel", tol=_TOL)
    if not found.status.usable or not found.certificate.passes(1e-4):
        raise SolverFailure(
            "the relaxation's answer fails our certificate",
            field="elastic",
            value=found.certificate.summary(),
            remedy="rescale the rows to comparable size",
        )
    sizes = found.x[n:]
    small = 1e-6 * max(float(np.max(sizes, initial=0.0)), float(np.max(np.abs(program.b), initial=0.0)))
    amounts: dict[str, float] = {}
    for place in np.argsort(-sizes, kind="stable"):
        row, sign, _ = columns[place]
        if sizes[place] > small:
            amounts[names[row]] = amounts.get(names[row], 0.0) + sign * float(sizes[place])
    conflict = None if proof is None else cone_conflict(program, proof)
    total = float(sum(abs(amount) for amount in amounts.values()))
    return ElasticReport(amounts, total, found.x[:n], found.certificate, conflict)
