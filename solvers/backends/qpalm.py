"""QPALM: proximal augmented Lagrangian for quadratic programs; warm starts, and proofs when it gives up."""

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
    WarmStart,
    apply_settings,
)
from crosswind.solvers.backends.two_sided import TwoSided
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Qpalm"]

_INFINITY = 1e20
_CLAIMS = {
    1: Claim.SOLVED,
    2: Claim.ALMOST,
    -2: Claim.ITERATIONS,
    -3: Claim.INFEASIBLE,
    -4: Claim.UNBOUNDED,
    -5: Claim.TIME,
}


class Qpalm(Backend):
    """QPALM (Hermans, Themelis, Patrinos: QPALM, Math. Prog. Comp. 2022), LGPL-3.0; its non-convex mode stays off."""

    name = "qpalm"
    module = "qpalm"
    licence = "LGPL-3.0"
    kinds = frozenset({"qp"})
    warm_starts = True
    updates = True
    keeps_time = True
    gives_proofs = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _QpalmPrepared(program, options)


class _QpalmPrepared(TwoSided):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import qpalm

        super().__init__(program, _INFINITY)
        matrix = self.matrix()
        self.settings: Any = qpalm.Settings()
        tol = max(1e-12, 1e-3 * options.tol)
        self.settings.eps_abs = self.settings.eps_rel = tol
        self.settings.eps_prim_inf = self.settings.eps_dual_inf = 1e-8
        self.settings.verbose = 0
        apply_settings(self.settings, options.settings, "qpalm")
        self.forever = self.settings.time_limit
        data = qpalm.Data(program.n, matrix.shape[0])
        data.Q = sparse.csc_matrix(program.P * self.scaling.quadratic)
        data.A = matrix
        data.q, data.bmin, data.bmax = self.vectors(program)
        self.solver = qpalm.Solver(data, self.settings)

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, low, high = self.vectors(program)
        self.solver.update_q(q)
        self.solver.update_bounds(low, high)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        limit = self.forever if time_limit is None else min(self.forever, time_limit)
        if self.settings.time_limit != limit:
            self.settings.time_limit = limit
            self.solver.update_settings(self.settings)
        scaling = self.scaling
        if warm is None:
            self.solver.warm_start(None, None)
        else:
            self.solver.warm_start(*self.start(warm))
        self.solver.solve(asynchronous=False, suppress_interrupt=True)
        info, found = self.solver.info, self.solver.solution
        claim = _CLAIMS.get(int(info.status_val), Claim.FAILED)
        y, z = self.split(np.array(found.y))
        raw = Raw(
            claim,
            str(info.status),
            np.array(found.x) * scaling.length,
            y * scaling.dual,
            z * scaling.dual,
            iterations=int(info.iter),
        )
        if claim is Claim.INFEASIBLE:
            raw.farkas = self.split(np.array(self.solver.prim_inf_certificate))
        elif claim is Claim.UNBOUNDED:
            raw.ray = np.array(self.solver.dual_inf_certificate)
        return raw


BACKEND = Qpalm
