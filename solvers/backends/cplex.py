"""CPLEX: its barrier for quadratic programs; the package's own licence takes 1 000 variables and 1 000 rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.one_sided import OneSidedPrepared, refusal
from crosswind.solvers.program import QuadraticProgram

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
    kinds = frozenset({"qp"})
    releases_gil = True
    updates = True
    keeps_time = True
    commercial = True
    limits = "1000 variables, 1000 rows without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _CplexPrepared(program, options)


class _CplexPrepared(OneSidedPrepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import cplex

        super().__init__(program, boxes=False)
        self.cplex = cplex
        self.model = model = cplex.Cplex()
        for silence in (model.set_log_stream, model.set_results_stream, model.set_warning_stream):
            silence(None)
        model.set_error_stream(None)
        tol = float(np.clip(1e-3 * options.tol, 1e-9, 1e-1))
        chosen = {
            "threads": 1,
            "parallel": 1,
            "qpmethod": 4,
            "lpmethod": 4,
            "solutiontype": 2,  # no crossover: the interior point's own iterate
            "barrier.convergetol": max(1e-12, 1e-4 * options.tol),
            "simplex.tolerances.feasibility": tol,
            "simplex.tolerances.optimality": tol,
        }
        for key, value in (chosen | options.settings).items():
            _set(model, cplex, key, value)
        self.forever = float(model.parameters.timelimit.get())
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        model.variables.add(obj=q.tolist(), lb=low, ub=high)
        E, G = self.rows.matrices(program.A)
        if E.shape[0] + G.shape[0]:
            senses = "E" * E.shape[0] + "L" * G.shape[0]
            model.linear_constraints.add(rhs=np.concatenate((e, g)).tolist(), senses=senses)
            for block, start in ((E.tocoo(), 0), (G.tocoo(), E.shape[0])):
                if block.nnz:
                    rows = (block.row + start).tolist()
                    model.linear_constraints.set_coefficients(
                        list(zip(rows, block.col.tolist(), block.data.tolist(), strict=True))
                    )
        if program.P.nnz:
            P = program.P
            values = P.data * self.scaling.quadratic
            columns = [slice(P.indptr[j], P.indptr[j + 1]) for j in range(program.n)]
            model.objective.set_quadratic([[P.indices[c].tolist(), values[c].tolist()] for c in columns])

    def _boxes(self, program: QuadraticProgram) -> tuple[list[float], list[float]]:
        shrink, far = 1.0 / self.scaling.length, self.cplex.infinity
        return np.maximum(program.lb * shrink, -far).tolist(), np.minimum(program.ub * shrink, far).tolist()

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        every = range(program.n)
        self.model.objective.set_linear(list(zip(every, q.tolist(), strict=True)))
        self.model.variables.set_lower_bounds(list(zip(every, low, strict=True)))
        self.model.variables.set_upper_bounds(list(zip(every, high, strict=True)))
        sides = np.concatenate((e, g)).tolist()
        if sides:
            self.model.linear_constraints.set_rhs(list(enumerate(sides)))

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        model, rows = self.model, self.rows
        model.parameters.timelimit.set(self.forever if time_limit is None else min(self.forever, time_limit))
        model.solve()
        found = model.solution
        status = int(found.get_status())
        x, reduced = self._read(found.get_values, rows.n), self._read(found.get_reduced_costs, rows.n)
        dual = self._read(found.get_dual_values, rows.equalities + rows.inequalities)
        y, _ = rows.multipliers(-dual[: rows.equalities], -dual[rows.equalities :])
        factor = self.scaling.dual
        return Raw(
            _CLAIMS.get(status, Claim.FAILED),
            str(found.get_status_string()),
            x * self.scaling.length,
            y * factor,
            -reduced * factor,
            iterations=int(found.progress.get_num_barrier_iterations()),
        )

    def _read(self, get: Any, size: int) -> Any:
        if not size:
            return np.zeros(0)
        try:
            return np.asarray(get(), dtype=np.float64)
        except self.cplex.exceptions.CplexError:  # there is no iterate
            return np.full(size, np.nan)


def _set(model: Any, cplex: Any, key: str, value: Any) -> None:
    try:
        place = model.parameters
        for part in key.split("."):
            place = getattr(place, part)
        place.set(value)
    except (AttributeError, TypeError, ValueError, cplex.exceptions.CplexError) as err:
        raise refusal("cplex", key, value, err, isinstance(err, AttributeError)) from err


BACKEND = Cplex
