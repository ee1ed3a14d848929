"""Gurobi: its barrier, for quadratic programs and second-order cones; its own licence takes 200 variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program
from crosswind.solvers.backends.one_sided import refusal
from crosswind.solvers.backends.slack_form import SlackFormPrepared, Vectors

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

    Notes
    -----
    Over cones its point is good to rounding, but its multipliers (``QCPDual``) seldom pass a certificate of 1e-6,
    whatever presolve, scaling or tolerance, and now and then are no multipliers at all. So they, or the slacks alone,
    only say which limits bind; Newton steps on that face give the multipliers that are returned. Where those are not
    unique and Gurobi's are worthless there is nothing to start from, and the status is FEASIBLE.
    """

    name = "gurobi"
    module = "gurobipy"
    licence = "proprietary"
    kinds = frozenset({"qp", "soc"})
    releases_gil = True
    updates = True
    keeps_time = True
    commercial = True
    limits = "200 variables (cones' slacks too), 2000 in linear programs, 2000 rows without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or second-order cone program up."""
        return _GurobiPrepared(program, options)


class _GurobiPrepared(SlackFormPrepared):
    undecided = ("INF_OR_UNBD", "NUMERIC")

    def open(self, options: Options) -> None:
        import gurobipy

        tol = float(np.clip(1e-3 * options.tol, 1e-9, 1e-6))
        gap = max(1e-12, 1e-4 * options.tol)
        chosen: dict[str, Any] = {
            "OutputFlag": 0,
            "Threads": 1,
            "Method": 2,
            "NonConvex": 0,
            "BarConvTol": gap,
            "FeasibilityTol": tol,
            "OptimalityTol": tol,
        }
        if self.form.soc:
            # Without the first there are no multipliers at all, not of the linear rows either.
            chosen |= {"QCPDual": 1, "BarQCPConvTol": gap}
        env = gurobipy.Env(empty=True)
        try:
            for key, value in (chosen | options.settings).items():
                _set(env, gurobipy, key, value)
            env.start()
            self.model: Any = gurobipy.Model(env=env)
        finally:
            # The model keeps its own copy; a refused parameter or licence leaves nothing open.
            env.dispose()
        self.far = gurobipy.GRB.INFINITY
        self.forever = float(self.model.Params.TimeLimit)
        self.absent = (AttributeError, gurobipy.GurobiError)

    def load(self, vectors: Vectors) -> None:
        model, form = self.model, self.form
        self.x: Any = model.addMVar(form.columns, lb=vectors.low, ub=vectors.high)
        model.setMObjective(0.5 * form.P, vectors.cost, 0.0, xQ_L=self.x, xQ_R=self.x, xc=self.x)
        senses = np.repeat(np.array(["=", "<"]), (form.equalities, form.inequalities))
        self.sides: Any = model.addMConstr(form.A, self.x, senses, vectors.right) if form.height else None
        for columns in form.soc:
            signs = np.ones(columns.size)
            signs[0] = -1.0
            cone = self.x[columns]
            model.addMQConstr(np.diag(signs), None, "<", 0.0, xQ_L=cone, xQ_R=cone)
        model.update()

    def change(self, vectors: Vectors) -> None:
        self.x.Obj, self.x.LB, self.x.UB = vectors.cost, vectors.low, vectors.high
        if self.sides is not None:
            self.sides.RHS = vectors.right

    def run(self, seconds: float) -> tuple[Claim, str, int]:
        model = self.model
        model.Params.TimeLimit = seconds
        model.reset()  # a kept basis or iterate would make the answer depend on what was solved before
        model.optimize()
        claim, word = _CLAIMS.get(int(model.Status), (Claim.FAILED, f"status {model.Status}"))
        return claim, word, int(model.BarIterCount or model.IterCount)

    def values(self) -> Any:
        return self.x.X

    def slopes(self) -> Any:
        return self.sides.Pi

    def reduced_costs(self) -> Any:
        return self.x.RC


def _set(env: Any, gurobipy: Any, key: str, value: Any) -> None:
    try:
        env.setParam(key, value)
    except (gurobipy.GurobiError, TypeError, ValueError) as err:
        raise refusal("gurobi", key, value, err, "Unknown parameter" in str(err)) from err


BACKEND = Gurobi
