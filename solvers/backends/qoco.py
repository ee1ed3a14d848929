"""QOCO: interior point for quadratic objectives over second-order cones, in C, for small and embedded programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import (
    Backend,
    Claim,
    Options,
    Prepared,
    Program,
    Raw,
    Scaling,
    WarmStart,
    apply_settings,
)
from crosswind.solvers.backends.one_sided import ConeOrder, OneSided
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram

__all__ = ["BACKEND", "Qoco"]

_CLAIMS = {
    "QOCO_SOLVED": Claim.SOLVED,
    "QOCO_SOLVED_INACCURATE": Claim.ALMOST,
    "QOCO_MAX_ITER": Claim.ITERATIONS,
}


class Qoco(Backend):
    """QOCO (Chari and Açıkmeşe: QOCO, 2025), BSD-3-Clause.

    New vectors mean a new set-up. Its own update is not used: in 0.3.2 a run after it that ends short of its tolerance
    falls back on the best iterate kept from the program before (a linear program with 21 variables came back with a
    primal residual of 0.76). It looks for no infeasibility, so that we look at the multipliers of a run that breaks
    off: where they point to it, the claim is ours. An unbounded program is "solved" far out.
    """

    name = "qoco"
    module = "qoco"
    licence = "BSD-3-Clause"
    kinds = frozenset({"qp", "soc"})
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or second-order cone program up."""
        return _QocoPrepared(program, options)


class _QocoPrepared(Prepared):
    def __init__(self, program: Program, options: Options) -> None:
        self.options = options
        self.update(program)

    def update(self, program: Program) -> None:
        import qoco

        options = self.options
        self.scaling = scaling = Scaling.of(program)
        self.program = program
        self.solver: Any = qoco.QOCO()
        shrink = 1.0 / scaling.length
        self.rows: OneSided | None = None
        E: Csc
        G: Csc
        if isinstance(program, QuadraticProgram):
            self.rows = OneSided.of(program, boxes=True)
            E, G = self.rows.matrices(program.A)
            e, g = self.rows.vectors(program)
            linear, sizes = G.shape[0], []
        else:
            self.order = order = ConeOrder.of(program.cones)
            A = program.A.tocsr()
            E, G = A[order.zero].tocsc(), A[order.cone_rows].tocsc()
            e, g = program.b[order.zero], program.b[order.cone_rows]
            linear, sizes = order.nonneg.size, [rows.size for rows in order.soc]
        tol = max(1e-12, 1e-3 * options.tol)
        chosen = {"abstol": tol, "reltol": tol, "abstol_inacc": options.tol, "reltol_inacc": options.tol}
        probe = self.solver.ext.QOCOSettings()
        self.solver.ext.set_default_settings(probe)
        apply_settings(probe, options.settings, "qoco")
        self.equalities, self.others = E.shape[0], G.shape[0]
        self.stacked, self.sides = sparse.vstack((E, G), format="csr"), np.concatenate((e, g)) * shrink
        self.solver.setup(
            program.n,
            self.others,
            self.equalities,
            sparse.csc_matrix(program.P * scaling.quadratic) if program.P.nnz else None,
            program.q * scaling.linear,
            E if self.equalities else None,
            e * shrink if self.equalities else None,
            G if self.others else None,
            g * shrink if self.others else None,
            linear,
            len(sizes),
            np.array(sizes, dtype=np.int32) if sizes else None,
            **(chosen | options.settings),
        )

    def fits(self, program: Program) -> bool:
        old = self.program
        return type(program) is type(old) and program.P is old.P and program.A is old.A and self.scaling.suits(program)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        found = self.solver.solve()
        length, factor = self.scaling.length, self.scaling.dual
        equal = np.array(found.y, dtype=np.float64)[: self.equalities]
        other = np.array(found.z, dtype=np.float64)[: self.others]
        raw = Raw(
            _CLAIMS.get(found.status, Claim.FAILED),
            str(found.status),
            np.array(found.x, dtype=np.float64) * length,
            np.zeros(0),
            np.zeros(self.program.n),
            iterations=int(found.iters),
        )
        if self.rows is not None:
            y, z = self.rows.multipliers(equal, other)
            raw.y, raw.z = y * factor, z * factor
        else:
            assert isinstance(self.program, ConeProgram)
            raw.y = self._placed(equal, other) * factor
            raw.s = self._placed(np.zeros(self.equalities), np.array(found.s, dtype=np.float64)[: self.others]) * length
        if raw.claim in (Claim.FAILED, Claim.ITERATIONS) and self._contradict(np.concatenate((equal, other))):
            raw.claim, raw.farkas = Claim.INFEASIBLE, (raw.y, raw.z)
        return raw

    def _contradict(self, dual: Vector) -> bool:
        """Tell whether multipliers that grew without bound combine the rows to 0 ≤ something negative."""
        size = float(np.max(np.abs(dual), initial=0.0))
        if not 1e3 < size < np.inf:
            return False
        unit = dual / size
        return bool(np.max(np.abs(self.stacked.T @ unit), initial=0.0) <= 1e-4 and self.sides @ unit < -1e-3)

    def _placed(self, equal: Vector, other: Vector) -> Vector:
        out = np.zeros(self.program.m)
        out[self.order.zero], out[self.order.cone_rows] = equal, other
        return out


BACKEND = Qoco
