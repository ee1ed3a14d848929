"""Gurobi: its barrier for quadratic programs; the package's own licence takes 200 variables and 2 000 rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.one_sided import OneSidedPrepared, refusal
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Gurobi"]

_CLAIMS = {
    2: (Claim.SOLVED, "OPTIMAL"),
    3: (Claim.INFEASIBLE, "INFEASIBLE"),
    4: (Claim.FAILED, "INF_OR_UNBD"),
    5: (Claim.UNBOUNDED, "UNBOUNDED"),
    7: (Claim.ITERATIONS, "ITERATION_LIMIT"),
    9: (Claim.TIME, "TIME_LIMIT"),
    12: (Claim.FAILED, "NUMERIC"),
    13: (Claim.ALMOST, "SUBOPTIMAL"),
}


class Gurobi(Backend):
    """Gurobi (Gurobi Optimization LLC), proprietary; one thread, so that two runs agree.

    Settings are Gurobi's parameters by their own names.
    """

    name = "gurobi"
    module = "gurobipy"
    licence = "proprietary"
    kinds = frozenset({"qp"})
    releases_gil = True
    updates = True
    keeps_time = True
    commercial = True
    limits = "200 variables in quadratic programs, 2000 in linear ones and 2000 rows without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _GurobiPrepared(program, options)


class _GurobiPrepared(OneSidedPrepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import gurobipy

        super().__init__(program, boxes=False)
        tol = float(np.clip(1e-3 * options.tol, 1e-9, 1e-6))
        chosen = {
            "OutputFlag": 0,
            "Threads": 1,
            "Method": 2,
            "NonConvex": 0,
            "BarConvTol": max(1e-12, 1e-4 * options.tol),
            "FeasibilityTol": tol,
            "OptimalityTol": tol,
        }
        env = gurobipy.Env(empty=True)
        try:
            for key, value in (chosen | options.settings).items():
                _set(env, gurobipy, key, value)
            env.start()
            self.model = gurobipy.Model(env=env)
        finally:
            # The model keeps its own copy; a refused parameter or licence leaves nothing open.
            env.dispose()
        self.infinity = gurobipy.GRB.INFINITY
        E, G = self.rows.matrices(program.A)
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        self.x: Any = self.model.addMVar(program.n, lb=low, ub=high)
        self.model.setMObjective(
            program.P * (0.5 * self.scaling.quadratic), q, 0.0, xQ_L=self.x, xQ_R=self.x, xc=self.x
        )
        self.equal: Any = self.model.addMConstr(E, self.x, "=", e) if E.shape[0] else None
        self.other: Any = self.model.addMConstr(G, self.x, "<", g) if G.shape[0] else None
        self.model.update()
        self.forever = float(self.model.Params.TimeLimit)

    def _boxes(self, program: QuadraticProgram) -> tuple[Any, Any]:
        shrink = 1.0 / self.scaling.length
        return np.maximum(program.lb * shrink, -self.infinity), np.minimum(program.ub * shrink, self.infinity)

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, e, g = self.vectors(program)
        self.x.Obj = q
        self.x.LB, self.x.UB = self._boxes(program)
        if self.equal is not None:
            self.equal.RHS = e
        if self.other is not None:
            self.other.RHS = g

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        model, rows = self.model, self.rows
        model.Params.TimeLimit = self.forever if time_limit is None else min(self.forever, time_limit)
        model.reset()  # a kept basis or iterate would make the answer depend on what was solved before
        model.optimize()
        claim, word = _CLAIMS.get(int(model.Status), (Claim.FAILED, f"status {model.Status}"))
        x, reduced = self._read(self.x, "X", rows.n), self._read(self.x, "RC", rows.n)
        equal, other = self._read(self.equal, "Pi", rows.equalities), self._read(self.other, "Pi", rows.inequalities)
        y, _ = rows.multipliers(-equal, -other)
        factor = self.scaling.dual
        return Raw(
            claim,
            word,
            x * self.scaling.length,
            y * factor,
            -reduced * factor,
            iterations=int(model.BarIterCount or model.IterCount),
        )

    def _read(self, items: Any, attribute: str, size: int) -> Any:
        import gurobipy

        if items is None:
            return np.zeros(size)
        try:
            return np.asarray(getattr(items, attribute), dtype=np.float64)
        except (AttributeError, gurobipy.GurobiError):  # there is no iterate
            return np.full(size, np.nan)


def _set(env: Any, gurobipy: Any, key: str, value: Any) -> None:
    try:
        env.setParam(key, value)
    except (gurobipy.GurobiError, TypeError, ValueError) as err:
        raise refusal("gurobi", key, value, err, "Unknown parameter" in str(err)) from err


BACKEND = Gurobi
