"""CPLEX: its barrier, for quadratic programs and second-order cones; its own licence takes 1 000 variables and rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program
from crosswind.solvers.backends.one_sided import refusal
from crosswind.solvers.backends.slack_form import SlackFormPrepared, Vectors

__all__ = ["BACKEND", "Cplex"]

# By CPLEX's numbers. 4 is "unbounded or infeasible", which says neither; 5 is optimal in the scaled problem only; 21 is
# a cost beyond its range.
_CLAIMS = {
    1: Claim.SOLVED,
    2: Claim.UNBOUNDED,
    3: Claim.INFEASIBLE,
    5: Claim.ALMOST,
    6: Claim.ALMOST,
    10: Claim.ITERATIONS,
    11: Claim.TIME,
    21: Claim.UNBOUNDED,
}


class Cplex(Backend):
    """CPLEX (IBM), proprietary; one thread and its deterministic mode. Stopped by the clock it may have no iterate.

    Settings are CPLEX's parameters by their dotted names, for example ``**{"barrier.limits.iteration": 5}``.
    """

    name = "cplex"
    module = "cplex"
    licence = "proprietary"
    kinds = frozenset({"qp", "soc"})
    releases_gil = True
    updates = True
    keeps_time = True
    commercial = True
    limits = "1000 variables (cones' slacks too), 1000 rows without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or second-order cone program up."""
        return _CplexPrepared(program, options)


class _CplexPrepared(SlackFormPrepared):
    undecided = ("unbounded or infeasible",)

    def open(self, options: Options) -> None:
        import cplex

        self.model: Any = cplex.Cplex()
        model = self.model
        for silence in (model.set_log_stream, model.set_results_stream, model.set_warning_stream):
            silence(None)
        model.set_error_stream(None)
        tol = float(np.clip(1e-3 * options.tol, 1e-9, 1e-1))
        gap = max(1e-12, 1e-4 * options.tol)
        chosen: dict[str, Any] = {
            "threads": 1,
            "parallel": 1,
            "qpmethod": 4,
            "lpmethod": 4,
            "solutiontype": 2,  # no crossover: the interior point's own iterate
            "barrier.convergetol": gap,
            "simplex.tolerances.feasibility": tol,
            "simplex.tolerances.optimality": tol,
        }
        if self.form.soc:
            # Asked for a smaller gap it loses the point that it had. The other keeps away the reductions that would
            # leave no multipliers.
            chosen |= {"barrier.qcpconvergetol": max(1e-8, gap), "preprocessing.qcpduals": 2}
        for key, value in (chosen | options.settings).items():
            _set(model, cplex, key, value)
        self.far = cplex.infinity
        self.forever = float(model.parameters.timelimit.get())
        self.absent = (cplex.exceptions.CplexError,)

    def load(self, vectors: Vectors) -> None:
        model, form = self.model, self.form
        model.variables.add(obj=vectors.cost.tolist(), lb=vectors.low.tolist(), ub=vectors.high.tolist())
        if form.height:
            senses = "E" * form.equalities + "L" * form.inequalities
            model.linear_constraints.add(rhs=vectors.right.tolist(), senses=senses)
            A = sparse.coo_matrix(form.A)
            if A.nnz:
                entries = zip(A.row.tolist(), A.col.tolist(), A.data.tolist(), strict=True)
                model.linear_constraints.set_coefficients(list(entries))
        P = form.P
        if P.nnz:
            columns = [slice(start, stop) for start, stop in pairwise(P.indptr)]
            model.objective.set_quadratic([[P.indices[c].tolist(), P.data[c].tolist()] for c in columns])
        for index in form.soc:
            j = index.tolist()
            model.quadratic_constraints.add(quad_expr=[j, j, [-1.0, *[1.0] * (len(j) - 1)]], sense="L", rhs=0.0)

    def change(self, vectors: Vectors) -> None:
        model = self.model
        model.objective.set_linear(list(enumerate(vectors.cost.tolist())))
        model.variables.set_lower_bounds(list(enumerate(vectors.low.tolist())))
        model.variables.set_upper_bounds(list(enumerate(vectors.high.tolist())))
        if self.form.height:
            model.linear_constraints.set_rhs(list(enumerate(vectors.right.tolist())))

    def run(self, seconds: float) -> tuple[Claim, str, int]:
        self.model.parameters.timelimit.set(seconds)
        self.model.solve()
        found = self.model.solution
        claim = _CLAIMS.get(int(found.get_status()), Claim.FAILED)
        return claim, str(found.get_status_string()), int(found.progress.get_num_barrier_iterations())

    def values(self) -> Any:
        return self.model.solution.get_values()

    def slopes(self) -> Any:
        return self.model.solution.get_dual_values()

    def reduced_costs(self) -> Any:
        return self.model.solution.get_reduced_costs()


def _set(model: Any, cplex: Any, key: str, value: Any) -> None:
    try:
        place = model.parameters
        for part in key.split("."):
            place = getattr(place, part)
        place.set(value)
    except (AttributeError, TypeError, ValueError, cplex.exceptions.CplexError) as err:
        raise refusal("cplex", key, value, err, isinstance(err, AttributeError)) from err


BACKEND = Cplex
