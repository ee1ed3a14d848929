"""COPT: its barrier, for quadratic programs and cones; without a licence it takes 2 000 variables and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, quiet_output
from crosswind.solvers.backends.one_sided import refusal
from crosswind.solvers.backends.slack_form import SlackFormPrepared, Vectors
from crosswind.solvers.backends.triangles import lower_by_columns, upper_by_columns
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram

__all__ = ["BACKEND", "Copt"]

_INFINITY = 1e30
_CLAIMS = {
    1: (Claim.SOLVED, "OPTIMAL"),
    2: (Claim.INFEASIBLE, "INFEASIBLE"),
    3: (Claim.UNBOUNDED, "UNBOUNDED"),
    4: (Claim.FAILED, "INF_OR_UNB"),
    5: (Claim.FAILED, "NUMERICAL"),
    7: (Claim.ALMOST, "IMPRECISE"),
    8: (Claim.TIME, "TIMEOUT"),
    11: (Claim.ITERATIONS, "ITERLIMIT"),
}


class Copt(Backend):
    """COPT (Cardinal Operations), proprietary; one thread. When it is stopped it gives no iterate.

    Settings are COPT's parameters by their own names.

    Notes
    -----
    Semidefinite rows go in as matrix inequalities smat(b − Ax) ⪰ 0, which gave more digits in less time than matrix
    variables in their place. A program that has some is set up again for new vectors.
    """

    name = "copt"
    module = "coptpy"
    licence = "proprietary"
    kinds = frozenset({"qp", "soc", "psd"})
    updates = True
    keeps_time = True
    commercial = True
    limits = "2000 variables (cones' slacks too) and rows, 10000 in linear programs without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or cone program up."""
        return _CoptPrepared(program, options)


class _CoptPrepared(SlackFormPrepared):
    undecided = ("INF_OR_UNB", "NUMERICAL")
    # A quadratic objective beside a matrix has ended COPT 8's process by heap corruption: it is lifted into a cone.
    lifts_cones = True

    def open(self, options: Options) -> None:
        import coptpy

        self.copt: Any = coptpy
        with quiet_output():  # it reports where it looked for a licence, and has no switch for that
            self.environment = coptpy.Envr()
        self.model: Any = self.environment.createModel("")
        model = self.model
        model.setParam("Logging", 0)
        model.setParam("LogToConsole", 0)
        tol = float(np.clip(1e-3 * options.tol, 1e-9, 1e-4))
        chosen: dict[str, Any] = {
            "Threads": 1,
            "LpMethod": 2,
            "Crossover": 0,
            "FeasTol": tol,
            "DualTol": tol,
            "RelGap": max(1e-12, 1e-4 * options.tol),
            "AbsGap": max(1e-12, 1e-4 * options.tol),
        }
        if self.form.order is not None and self.form.order.psd:
            # Dualised, COPT 8.0.7 gives the multipliers of linear rows beside a matrix inequality one row too late.
            chosen["Dualize"] = 0
        for key, value in (chosen | options.settings).items():
            _set(model, coptpy, key, value)
        self.far = _INFINITY
        self.forever = float(model.getParam("TimeLimit"))
        self.absent = (coptpy.CoptError,)

    def load(self, vectors: Vectors) -> None:
        model, form = self.model, self.form
        model.loadMatrix(vectors.cost, form.A, self._below(vectors), vectors.right, vectors.low, vectors.high)
        if form.P.nnz:
            # COPT's quadratic term has no half in front.
            model.loadQ(sparse.coo_matrix(0.5 * form.P))
        if form.soc:
            model.loadCone(len(form.soc), None, [j.size for j in form.soc], np.concatenate(form.soc).tolist())
        self.variables, self.constraints = model.getVars(), model.getConstrs()
        if form.order is not None and form.order.psd:
            self.takes_vectors = False  # COPT keeps every matrix it was ever given: new constants would pile up
            self._load_matrices(1.0 / self.scaling.length)

    def _load_matrices(self, shrink: float) -> None:
        """Add smat(b − Ax) ⪰ 0 for each semidefinite cone: a matrix for each variable that it has."""
        program, copt, variables = self.program, self.copt, self.variables.getAll()
        assert isinstance(program, ConeProgram)
        assert self.form.order is not None
        for rows, order in zip(self.form.order.psd, self.form.order.orders, strict=True):
            upper, left = upper_by_columns(order)
            weight = np.where(upper == left, 1.0, np.sqrt(0.5))

            def matrix(at: Any, values: Vector, k: int = order, i: Any = upper, j: Any = left, w: Any = weight) -> Any:
                return self.model.addSparseMat(k, j[at].tolist(), i[at].tolist(), (values * w[at]).tolist())

            inequality = copt.LmiExpr()
            block = sparse.csc_matrix(program.A[rows])
            for column in np.flatnonzero(np.diff(block.indptr)):
                part = slice(block.indptr[column], block.indptr[column + 1])
                inequality.addTerm(variables[int(column)], matrix(block.indices[part], -block.data[part]))
            inequality.addConstant(copt.SymMatExpr(matrix(np.arange(rows.size), program.b[rows] * shrink)))
            self.model.addConstr(inequality)

    def _below(self, vectors: Vectors) -> Vector:
        below = vectors.right.copy()
        below[self.form.equalities :] = -_INFINITY
        return below

    def change(self, vectors: Vectors) -> None:
        info = self.copt.COPT.Info
        for kind, values in ((info.Obj, vectors.cost), (info.LB, vectors.low), (info.UB, vectors.high)):
            self.model.setInfo(kind, self.variables, values)
        if self.form.height:
            self.model.setInfo(info.LB, self.constraints, self._below(vectors))
            self.model.setInfo(info.UB, self.constraints, vectors.right)

    def run(self, seconds: float) -> tuple[Claim, str, int]:
        model = self.model
        model.setParam("TimeLimit", seconds)
        model.reset()  # a kept iterate would make the answer depend on what was solved before
        model.solveLP()
        claim, word = _CLAIMS.get(int(model.status), (Claim.FAILED, f"status {model.status}"))
        return claim, word, int(model.getAttr("BarrierIter"))

    def values(self) -> Any:
        return self.model.getValues()

    def slopes(self) -> Any:
        return self.model.getDuals()

    def reduced_costs(self) -> Any:
        return self.model.getRedcosts()

    def matrix_multipliers(self) -> Any:
        """Read the lower triangles column by column and return our upper ones, off-diagonals × √2."""
        order, found = self.form.order, np.asarray(self.model.getLmiDuals(), dtype=np.float64)
        assert order is not None
        out, start = [], 0
        for size in order.orders:
            upper, left = upper_by_columns(size)
            part = np.empty(upper.size)
            part[lower_by_columns(size)] = found[start : start + upper.size]
            out.append(np.where(upper == left, 1.0, np.sqrt(2.0)) * part)
            start += upper.size
        return np.concatenate(out)


def _set(model: Any, coptpy: Any, key: str, value: Any) -> None:
    try:
        model.setParam(key, value)
    except (AttributeError, TypeError, ValueError, coptpy.CoptError) as err:
        raise refusal("copt", key, value, err, isinstance(err, AttributeError)) from err


BACKEND = Copt
