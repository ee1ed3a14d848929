"""Clarabel: interior point for quadratic objectives over symmetric cones; the reference, with certificate vectors."""

from __future__ import annotations

import time
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
from crosswind.solvers.backends.stacking import Sides, stack
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Clarabel"]

# Non-zeros from which the supernodal factorisation wins: three times at 55 000, on one thread.
_FIRM = 1e-7  # ten times its default
_SUPERNODAL = 30_000
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


class Clarabel(Backend):
    """Clarabel (Goulart and Chen, Clarabel: an interior-point solver for conic programs, 2024), Apache-2.0."""

    name = "clarabel"
    module = "clarabel"
    licence = "Apache-2.0"
    kinds = frozenset({"qp", "soc", "psd"})
    updates = True
    keeps_time = True
    gives_proofs = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or cone program up."""
        return _ClarabelPrepared(program, options)


BACKEND = Clarabel


class _ClarabelPrepared(Prepared):
    def __init__(self, program: Program, options: Options) -> None:
        import clarabel

        self.P, self.A = program.P, program.A
        self.scaling = scaling = Scaling.of(program)
        self.options = options
        self.sides: Sides | None = None
        self.limited = False
        self.pins_threads = False
        cones: list[Any]
        if isinstance(program, QuadraticProgram):
            self.sides = sides = Sides.of(program)
            pieces = (
                ("row", sides.equal, 1.0),
                ("box", sides.fixed, 1.0),
                ("row", sides.upper, 1.0),
                ("row", sides.lower, -1.0),
                ("box", sides.box_upper, 1.0),
                ("box", sides.box_lower, -1.0),
            )
            A: Csc = stack(program.A, pieces)
            zero = sides.equal.size + sides.fixed.size
            cones = [clarabel.ZeroConeT(zero)] if zero else []
            if A.shape[0] > zero:
                cones.append(clarabel.NonnegativeConeT(A.shape[0] - zero))
        else:
            kinds = {
                "zero": clarabel.ZeroConeT,
                "nonneg": clarabel.NonnegativeConeT,
                "soc": clarabel.SecondOrderConeT,
                "psd": clarabel.PSDTriangleConeT,
            }
            A = sparse.csc_matrix(program.A, copy=True)
            cones = [kinds[cone.kind](cone.size) for cone in program.cones]
            self.cones = program.cones
            self.pins_threads = any(cone.kind == "psd" and cone.size > 16 for cone in program.cones)
        self.firmly = False
        self.matrices = (sparse.triu(program.P, format="csc") * scaling.quadratic, A, cones)
        self.vectors = self._vectors(program)
        self._set_up()

    def _set_up(self) -> None:
        import clarabel

        (upper, A, cones), (q, b) = self.matrices, self.vectors
        self.solver = clarabel.DefaultSolver(upper, q, A, b, cones, self._settings(None))

    def _settings(self, time_limit: float | None) -> Any:
        import clarabel

        tol = self.options.tol
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_threads = 1
        # Presolve drops rows with huge bounds and would forbid updates; unbounded rows never get here.
        settings.presolve_enable = False
        settings.chordal_decomposition_enable = False
        settings.tol_feas = max(1e-12, 0.01 * tol)
        settings.tol_gap_abs = settings.tol_gap_rel = max(1e-12, 0.01 * tol)
        if self.P.nnz + self.A.nnz > _SUPERNODAL:
            settings.direct_solve_method = "faer"
        settings.time_limit = float("inf") if time_limit is None else float(time_limit)
        if self.firmly:
            settings.static_regularization_constant = _FIRM
        apply_settings(settings, self.options.settings, "clarabel")
        return settings

    def _vectors(self, program: Program) -> tuple[Vector, Vector]:
        if isinstance(program, QuadraticProgram):
            assert self.sides is not None
            s = self.sides
            b = np.concatenate(
                (
                    program.l[s.equal],
                    program.lb[s.fixed],
                    program.u[s.upper],
                    -program.l[s.lower],
                    program.ub[s.box_upper],
                    -program.lb[s.box_lower],
                )
            )
        else:
            b = program.b
        return program.q * self.scaling.linear, b / self.scaling.length

    def fits(self, program: Program) -> bool:
        if program.P is not self.P or program.A is not self.A or not self.scaling.suits(program):
            return False
        if isinstance(program, QuadraticProgram):
            return self.sides is not None and Sides.of(program).key == self.sides.key
        return self.sides is None and program.cones == self.cones

    def update(self, program: Program) -> None:
        self.vectors = q, b = self._vectors(program)
        self.solver.update(q=q, b=b)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        begin = time.perf_counter()
        found = self._run(time_limit)
        if str(found.status) == "NumericalError" and self.sides is None and not self.firmly:
            # Equalities beside a matrix inequality and no curvature: its default leaves the first factor too weak.
            left = None if time_limit is None else time_limit - (time.perf_counter() - begin)
            if left is None or left > 0.0:
                self.firmly = True
                self._set_up()
                found = self._run(left)
        word = str(found.status)
        claim = _CLAIMS.get(word, Claim.FAILED)
        x, dual = np.asarray(found.x), np.asarray(found.z)
        length, factor = self.scaling.length, self.scaling.dual
        raw = Raw(claim, word, x * length, np.zeros(0), np.zeros(0), iterations=int(found.iterations))
        if self.sides is None:
            raw.y, raw.z, raw.s = dual * factor, np.zeros_like(x), np.asarray(found.s) * length
            farkas = (dual, np.zeros_like(x))
        else:
            farkas = self._split(dual, x.shape[0])
            raw.y, raw.z = farkas[0] * factor, farkas[1] * factor
        if claim is Claim.INFEASIBLE:
            raw.farkas = farkas
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw

    def _run(self, time_limit: float | None) -> Any:
        if time_limit is not None or self.limited:
            self.limited = time_limit is not None
            self.solver.update(settings=self._settings(time_limit))
        if not self.pins_threads:
            return self.solver.solve()
        from threadpoolctl import threadpool_limits

        # Small eigenproblems by the thousand: a second BLAS thread costs ten times what it brings.
        with threadpool_limits(limits=1, user_api="blas"):
            return self.solver.solve()

    def _split(self, dual: Vector, n: int) -> tuple[Vector, Vector]:
        assert self.sides is not None
        s = self.sides
        sizes = (s.equal.size, s.fixed.size, s.upper.size, s.lower.size, s.box_upper.size, s.box_lower.size)
        equal, fixed, upper, lower, box_upper, box_lower = np.split(dual, np.cumsum(sizes)[:-1])
        y, z = np.zeros(self.A.shape[0]), np.zeros(n)
        y[s.equal] = equal
        y[s.upper] += upper
        y[s.lower] -= lower
        z[s.fixed] = fixed
        z[s.box_upper] += box_upper
        z[s.box_lower] -= box_lower
        return y, z
