"""Xpress: its barrier for quadratic programs; the package's community licence takes 200 rows plus columns."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.one_sided import OneSidedPrepared, refusal
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Xpress"]

_SOLUTIONS = {
    "OPTIMAL": Claim.SOLVED,
    "FEASIBLE": Claim.ALMOST,
    "INFEASIBLE": Claim.INFEASIBLE,
    "UNBOUNDED": Claim.UNBOUNDED,
}
_STOPS = {"TIMELIMIT": Claim.TIME, "ITERLIMIT": Claim.ITERATIONS}


class Xpress(Backend):
    """Xpress (FICO), proprietary; one thread.

    Settings are Xpress's controls by their own names in lower case.
    """

    name = "xpress"
    module = "xpress"
    licence = "proprietary"
    kinds = frozenset({"qp"})
    releases_gil = True
    updates = True
    keeps_time = True
    commercial = True
    limits = "200 rows plus columns in quadratic programs, 5000 in linear ones without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _XpressPrepared(program, options)


class _XpressPrepared(OneSidedPrepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the community licence is in use
            import xpress

            self.xpress: Any = xpress
            self.model: Any = xpress.problem()
        model = self.model
        super().__init__(program, boxes=False)
        self.infinity = float(self.xpress.infinity)
        tol = max(1e-9, 1e-3 * options.tol)
        chosen = {
            "outputlog": 0,
            "threads": 1,
            "barthreads": 1,
            "crossover": 0,
            "feastol": tol,
            "optimalitytol": tol,
            "bargapstop": max(1e-12, 1e-4 * options.tol),
            "barprimalstop": tol,
            "bardualstop": tol,
        }
        for key, value in (chosen | options.settings).items():
            _set(model, self.xpress, key, value)
        self.forever = float(model.controls.timelimit)
        E, G = self.rows.matrices(program.A)
        A = sparse.vstack((E, G), format="csc")
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        upper = sparse.coo_matrix(sparse.triu(program.P) * self.scaling.quadratic)
        model.loadQP(
            "",
            ["E"] * e.size + ["L"] * g.size,
            np.r_[e, g].tolist(),
            [0.0] * (e.size + g.size),
            q.tolist(),
            A.indptr.tolist(),
            np.diff(A.indptr).tolist(),
            A.indices.tolist(),
            A.data.tolist(),
            low.tolist(),
            high.tolist(),
            upper.row.tolist(),
            upper.col.tolist(),
            upper.data.tolist(),
        )

    def _boxes(self, program: QuadraticProgram) -> tuple[Any, Any]:
        shrink = 1.0 / self.scaling.length
        return np.maximum(program.lb * shrink, -self.infinity), np.minimum(program.ub * shrink, self.infinity)

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, e, g = self.vectors(program)
        low, high = self._boxes(program)
        every = list(range(program.n))
        self.model.chgObj(every, q.tolist())
        self.model.chgBounds(every + every, ["L"] * program.n + ["U"] * program.n, [*low.tolist(), *high.tolist()])
        if e.size + g.size:
            self.model.chgRHS(list(range(e.size + g.size)), np.r_[e, g].tolist())

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        model, rows = self.model, self.rows
        model.controls.timelimit = self.forever if time_limit is None else min(self.forever, time_limit)
        model.lpOptimize("b")
        found = model.attributes.solstatus.name
        stop = self.xpress.StopType(int(model.attributes.stopstatus)).name
        claim, word = _SOLUTIONS.get(found, Claim.FAILED), found
        if stop in _STOPS:
            claim, word = _STOPS[stop], stop
        x, reduced = self._read(model.getSolution, rows.n), self._read(model.getRedCosts, rows.n)
        dual = self._read(model.getDuals, rows.equalities + rows.inequalities)
        y, _ = rows.multipliers(-dual[: rows.equalities], -dual[rows.equalities :])
        factor = self.scaling.dual
        return Raw(
            claim,
            word,
            x * self.scaling.length,
            y * factor,
            -reduced * factor,
            iterations=int(model.attributes.bariter),
        )

    def _read(self, get: Any, size: int) -> Any:
        xp = self.xpress
        if not size:
            return np.zeros(0)
        try:
            return np.asarray(get(), dtype=np.float64)
        except (xp.SolverError, xp.ModelError, xp.InterfaceError):  # there is no iterate
            return np.full(size, np.nan)


def _set(model: Any, xpress: Any, key: str, value: Any) -> None:
    try:
        setattr(model.controls, key, value)
    except (xpress.InterfaceError, xpress.ModelError, xpress.SolverError, TypeError, ValueError) as err:
        raise refusal("xpress", key, value, err, key not in dir(model.controls)) from err


BACKEND = Xpress
