"""Moreau: interior point for quadratic objectives over symmetric cones, compiled once per pattern."""

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
from crosswind.solvers.backends.stacking import Index, Sides
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Moreau"]

_CLAIMS = {
    "Solved": Claim.SOLVED,
    "AlmostSolved": Claim.ALMOST,
    "PrimalInfeasible": Claim.INFEASIBLE,
    "AlmostPrimalInfeasible": Claim.INFEASIBLE,
    "DualInfeasible": Claim.UNBOUNDED,
    "AlmostDualInfeasible": Claim.UNBOUNDED,
    "MaxTime": Claim.TIME,
    "MaxIterations": Claim.ITERATIONS,
}


class Moreau(Backend):
    """Moreau (Barratt, Nobel, Diamond and others), Apache-2.0; its interior point on the CPU.

    Left to itself it gives small quadratic programs to an active-set method, which solves 91 of the hundred ordinary
    and 52 of the hundred degenerate programs of the tests; the interior point solves all. ``solver="active_set"`` among
    the settings asks for the other one.
    """

    name = "moreau"
    module = "moreau"
    licence = "Apache-2.0"
    kinds = frozenset({"qp", "soc", "psd"})
    releases_gil = True
    warm_starts = True
    updates = True
    keeps_time = True
    gives_proofs = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or cone program up."""
        return _MoreauPrepared(program, options)


class _MoreauPrepared(Prepared):
    def __init__(self, program: Program, options: Options) -> None:
        self.P, self.A = program.P, program.A
        self.scaling = Scaling.of(program)
        self.options = options
        self.rows: OneSided | None = None
        self.order: ConeOrder | None = None
        matrix: Csc
        if isinstance(program, QuadraticProgram):
            self.rows = OneSided.of(program, boxes=True)
            matrix = sparse.vstack(self.rows.matrices(program.A), format="csr")
        else:
            self.cones = program.cones
            self.order = ConeOrder.of(program.cones)
            matrix = program.A.tocsr()[self._places()]
        self.matrix = sparse.csr_array(matrix)
        self.matrix.sort_indices()
        self.quadratic = sparse.csr_array(program.P * self.scaling.quadratic)
        self.quadratic.sort_indices()
        self.q, self.b = self._vectors(program)
        self.limit = options.time_limit
        self.solver = self._compiled()

    def _places(self) -> Index:
        """Return the program's row of each of the backend's rows."""
        assert self.order is not None
        return np.concatenate((self.order.zero, self.order.cone_rows))

    def _compiled(self) -> Any:
        import moreau

        tol = max(1e-12, 1e-3 * self.options.tol)
        inner = moreau.IPMSettings(tol_feas=tol, tol_gap_abs=tol, tol_gap_rel=tol)
        # Its own choice for large programs would start threads.
        large = sum(self.matrix.shape) >= 500 or self.matrix.nnz >= 10_000
        inner.direct_solve_method = "faer-1t" if large else "qdldl"
        # A failed warm start is repeated here, without the warning.
        inner.warm_start_no_retry = frozenset(moreau.SolverStatus)
        settings = moreau.Settings(solver="ipm", device="cpu", ipm_settings=inner)
        own = dict(self.options.settings)
        apply_settings(inner, {k: own.pop(k) for k in list(own) if k in type(inner).model_fields}, "moreau")
        apply_settings(settings, own, "moreau")
        if self.limit is not None:
            settings.time_limit = min(settings.time_limit, self.limit)
        if self.rows is not None:
            cones = moreau.Cones(num_zero_cones=self.rows.equalities, num_nonneg_cones=self.rows.inequalities)
        else:
            assert self.order is not None
            cones = moreau.Cones(
                num_zero_cones=self.order.zero.size,
                num_nonneg_cones=self.order.nonneg.size,
                so_cone_dims=[rows.size for rows in self.order.soc],
                psd_dims=list(self.order.orders),
            )
        P, A = self.quadratic, self.matrix
        solver = moreau.CompiledSolver(
            P.shape[0], A.shape[0], P.indptr, P.indices, A.indptr, A.indices, cones, settings
        )
        solver.setup(P.data, A.data)
        return solver

    def _vectors(self, program: Program) -> tuple[Vector, Vector]:
        if isinstance(program, QuadraticProgram):
            assert self.rows is not None
            b = np.concatenate(self.rows.vectors(program))
        else:
            b = program.b[self._places()]
        return program.q * self.scaling.linear, b / self.scaling.length

    def fits(self, program: Program) -> bool:
        if program.P is not self.P or program.A is not self.A or not self.scaling.suits(program):
            return False
        if isinstance(program, QuadraticProgram):
            return self.rows is not None and Sides.of(program).key == self.rows.sides.key
        return self.order is not None and program.cones == self.cones

    def update(self, program: Program) -> None:
        self.q, self.b = self._vectors(program)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        if not _near(time_limit, self.limit):
            # The limit is compiled in, and what set-up took off it is not worth a new compilation.
            self.limit = time_limit
            self.solver = self._compiled()
        found, word, iterations = self._run(warm)
        if warm is not None and _CLAIMS.get(word) not in (Claim.SOLVED, Claim.TIME, Claim.ITERATIONS):
            found, word, iterations = self._run(None)
        claim = _CLAIMS.get(word, Claim.FAILED)
        x, dual = np.array(found.x[0]), np.array(found.z[0])
        length, factor = self.scaling.length, self.scaling.dual
        y, z = self._split(dual)
        raw = Raw(claim, word, x * length, y * factor, z * factor, iterations=iterations)
        if self.order is not None:
            raw.s = np.empty(dual.size)
            raw.s[self._places()] = found.s[0] * length
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw

    def _run(self, warm: WarmStart | None) -> tuple[Any, str, int]:
        import moreau

        start = None
        if warm is not None:
            x = warm.x / self.scaling.length
            start = moreau.WarmStart(x=x, z=self._joined(warm), s=self.b - self.matrix @ x)
        found = self.solver.solve(self.q[None], self.b[None], warm_start=start)
        info = self.solver.info
        return found, info.status[0].name, int(np.ravel(info.iterations)[0])

    def _split(self, dual: Vector) -> tuple[Vector, Vector]:
        n = self.P.shape[0]
        if self.rows is not None:
            return self.rows.multipliers(dual[: self.rows.equalities], dual[self.rows.equalities :])
        y = np.empty(dual.size)
        y[self._places()] = dual
        return y, np.zeros(n)

    def _joined(self, warm: WarmStart) -> Vector:
        if self.rows is None:
            return warm.y[self._places()] / self.scaling.dual
        s = self.rows.sides
        parts = (
            warm.y[s.equal],
            warm.z[s.fixed],
            np.maximum(warm.y[s.upper], 0.0),
            np.maximum(-warm.y[s.lower], 0.0),
            np.maximum(warm.z[s.box_upper], 0.0),
            np.maximum(-warm.z[s.box_lower], 0.0),
        )
        return np.concatenate(parts) / self.scaling.dual


def _near(asked: float | None, compiled: float | None) -> bool:
    if asked is None or compiled is None:
        return asked is compiled
    return 0.5 * asked <= compiled <= 1.25 * asked


BACKEND = Moreau
