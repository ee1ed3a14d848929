"""COPT: its barrier for quadratic programs; without a licence the package takes 2 000 variables and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart, quiet_output
from crosswind.solvers.backends.one_sided import OneSidedPrepared, refusal
from crosswind.solvers.program import QuadraticProgram

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
    """

    name = "copt"
    module = "coptpy"
    licence = "proprietary"
    kinds = frozenset({"qp"})
    updates = True
    keeps_time = True
    commercial = True
    limits = "2000 variables and rows in quadratic programs, 10000 in linear ones without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _CoptPrepared(program, options)


class _CoptPrepared(OneSidedPrepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import coptpy

        super().__init__(program, boxes=False)
        self.copt = coptpy
        with quiet_output():  # it reports where it looked for a licence, and has no switch for that
            self.environment = coptpy.Envr()
        self.model = model = self.environment.createModel("")
        model.setParam("Logging", 0)
        model.setParam("LogToConsole", 0)
        tol = float(np.clip(1e-3 * options.tol, 1e-9, 1e-4))
        chosen = {
            "Threads": 1,
            "LpMethod": 2,
            "Crossover": 0,
            "FeasTol": tol,
            "DualTol": tol,
            "RelGap": max(1e-12, 1e-4 * options.tol),
            "AbsGap": max(1e-12, 1e-4 * options.tol),
        }
        for key, value in (chosen | options.settings).items():
            _set(model, coptpy, key, value)
        self.forever = float(model.getParam("TimeLimit"))
        E, G = self.rows.matrices(program.A)
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        A = sparse.vstack((E, G), format="csc")
        model.loadMatrix(q, A, np.r_[e, np.full(g.size, -_INFINITY)], np.r_[e, g], low, high)
        if program.P.nnz:
            # COPT's quadratic term has no half in front.
            model.loadQ(sparse.coo_matrix(program.P * (0.5 * self.scaling.quadratic)))
        self.variables, self.constraints = model.getVars(), model.getConstrs()

    def _boxes(self, program: QuadraticProgram) -> tuple[Any, Any]:
        shrink = 1.0 / self.scaling.length
        return np.maximum(program.lb * shrink, -_INFINITY), np.minimum(program.ub * shrink, _INFINITY)

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        info = self.copt.COPT.Info
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        for kind, values in ((info.Obj, q), (info.LB, low), (info.UB, high)):
            self.model.setInfo(kind, self.variables, values)
        if e.size + g.size:
            self.model.setInfo(info.LB, self.constraints, np.r_[e, np.full(g.size, -_INFINITY)])
            self.model.setInfo(info.UB, self.constraints, np.r_[e, g])

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        model, rows = self.model, self.rows
        model.setParam("TimeLimit", self.forever if time_limit is None else min(self.forever, time_limit))
        model.reset()  # a kept iterate would make the answer depend on what was solved before
        model.solveLP()
        claim, word = _CLAIMS.get(int(model.status), (Claim.FAILED, f"status {model.status}"))
        x, reduced = self._read(model.getValues, rows.n), self._read(model.getRedcosts, rows.n)
        dual = self._read(model.getDuals, rows.equalities + rows.inequalities)
        y, _ = rows.multipliers(-dual[: rows.equalities], -dual[rows.equalities :])
        factor = self.scaling.dual
        return Raw(
            claim,
            word,
            x * self.scaling.length,
            y * factor,
            -reduced * factor,
            iterations=int(model.getAttr("BarrierIter")),
        )

    def _read(self, get: Any, size: int) -> Any:
        if not size:
            return np.zeros(0)
        try:
            return np.asarray(get(), dtype=np.float64)
        except self.copt.CoptError:  # there is no iterate
            return np.full(size, np.nan)


def _set(model: Any, coptpy: Any, key: str, value: Any) -> None:
    try:
        model.setParam(key, value)
    except (AttributeError, TypeError, ValueError, coptpy.CoptError) as err:
        raise refusal("copt", key, value, err, isinstance(err, AttributeError)) from err


BACKEND = Copt
