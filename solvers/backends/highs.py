"""HiGHS: simplex for linear programs, active set for convex quadratic ones; the open solver of linear programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, Scaling, WarmStart
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Highs"]

_CLAIMS = {
    "kOptimal": Claim.SOLVED,
    "kModelEmpty": Claim.SOLVED,
    "kInfeasible": Claim.INFEASIBLE,
    "kUnbounded": Claim.UNBOUNDED,
    "kTimeLimit": Claim.TIME,
    "kIterationLimit": Claim.ITERATIONS,
}


class Highs(Backend):
    """HiGHS (Huangfu and Hall, Parallelizing the dual revised simplex method, Math. Prog. Comp. 2018), MIT.

    Linear programs go to its simplex, quadratic ones to its active-set method, whose null-space matrix is dense.

    Notes
    -----
    The quadratic method adds a number to the diagonal of P. At its default of 1e-7 the stationarity of 18 of 100
    ordinary programs misses a relative 1e-6 (more than 1e-7 |x| is left over); at zero it says "optimal" of the origin
    for a singular P in a box; 1e-12 of a program scaled to one does neither. No starting point is taken, and a
    re-solve goes on from the last basis only for linear programs. "Infeasible" and "unbounded" come without a vector.
    """

    name = "highs"
    module = "highspy"
    licence = "MIT"
    updates = True
    keeps_time = True
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _HighsPrepared(program, options)


class _HighsPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import highspy

        self.P, self.A = program.P, program.A
        self.scaling = scaling = Scaling.of(program)
        self.failed = highspy.HighsStatus.kError
        self.shares = "threads" in options.settings
        self.solver = solver = highspy.Highs()
        # Below 1e-8 its own check of 300 dense variables fails ("solve error") where the iterate was good.
        tol = max(1e-8, 0.01 * options.tol)
        ours: dict[str, Any] = {
            "output_flag": False,
            "log_to_console": False,
            "threads": 1,
            "parallel": "off",
            "primal_feasibility_tolerance": tol,
            "dual_feasibility_tolerance": tol,
            "qp_regularization_value": 1e-12,
        }
        known = {key for key in dir(solver.getOptions()) if not key.startswith("_")}
        for key, value in (ours | options.settings).items():
            if key not in known:
                names = ", ".join(sorted(known))
                raise InvalidInput(
                    "highs has no setting of this name", field=key, value=value, remedy=f"one of {names}"
                )
            if solver.setOptionValue(key, value) == highspy.HighsStatus.kError:
                raise InvalidInput("highs does not take this value", field=key, value=value, remedy="see its manual")
        self.forever = float(options.settings.get("time_limit", np.inf))
        model = highspy.HighsModel()
        lp, n = model.lp_, program.n
        q, low, high, box_low, box_high = self._vectors(program)
        lp.num_col_, lp.num_row_ = n, program.m
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = q, box_low, box_high
        lp.row_lower_, lp.row_upper_ = low, high
        A = program.A
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = n, program.m
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = A.indptr, A.indices, A.data
        lower = sparse.csc_matrix(sparse.tril(program.P, format="csc") * scaling.quadratic)
        if lower.count_nonzero():
            hessian = model.hessian_
            hessian.dim_, hessian.format_ = n, highspy.HessianFormat.kTriangular
            hessian.start_, hessian.index_, hessian.value_ = lower.indptr, lower.indices, lower.data
        self._told(solver.passModel(model), "the model")
        self.columns = np.arange(n, dtype=np.int32)
        self.rows = np.arange(program.m, dtype=np.int32)

    def _told(self, status: Any, what: str) -> None:
        if status == self.failed:
            raise RuntimeError(f"HiGHS refuses {what}")

    def _vectors(self, program: QuadraticProgram) -> tuple[Vector, Vector, Vector, Vector, Vector]:
        shrink = 1.0 / self.scaling.length
        sides = (side * shrink for side in (program.l, program.u, program.lb, program.ub))
        return (program.q * self.scaling.linear, *sides)  # type: ignore[return-value]

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.scaling.suits(program)
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, low, high, box_low, box_high = self._vectors(program)
        n, m = len(self.columns), len(self.rows)
        self._told(self.solver.changeColsCost(n, self.columns, q), "the costs")
        self._told(self.solver.changeColsBounds(n, self.columns, box_low, box_high), "the bounds")
        if m:
            self._told(self.solver.changeRowsBounds(m, self.rows, low, high), "the sides")

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        # HiGHS's clock runs on from one run of a model to the next, and its limit is a reading of that clock.
        limit = self.forever if time_limit is None else float(time_limit)
        self.solver.setOptionValue("time_limit", self.solver.getRunTime() + limit)
        if self.solver.run() == self.failed and not self.shares and self.solver.getModelStatus().name == "kNotset":
            # HiGHS has one pool of threads per process: where someone else has opened a larger one, one thread is
            # refused, and the number has to be left open. Nothing here runs in parallel either way.
            self.shares = True
            self.solver.setOptionValue("threads", 0)
            self.solver.run()
        word = self.solver.getModelStatus().name
        claim = _CLAIMS.get(word, Claim.FAILED)
        found, info = self.solver.getSolution(), self.solver.getInfo()
        n, m = len(self.columns), len(self.rows)
        x = np.array(found.col_value) if found.value_valid else np.full(n, np.nan)
        if found.dual_valid:
            y, z = -np.array(found.row_dual), -np.array(found.col_dual)
        else:
            y, z = np.zeros(m), np.zeros(n)
        scaling = self.scaling
        iterations = info.simplex_iteration_count + info.qp_iteration_count
        return Raw(claim, word, x * scaling.length, y * scaling.dual, z * scaling.dual, iterations=int(iterations))


BACKEND = Highs
