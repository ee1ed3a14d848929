"""Xpress: its barrier, for quadratic programs and second-order cones; the community licence takes small ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program
from crosswind.solvers.backends.float_unit import kept_float_unit
from crosswind.solvers.backends.one_sided import refusal
from crosswind.solvers.backends.slack_form import SlackFormPrepared, Vectors

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
    kinds = frozenset({"qp", "soc"})
    releases_gil = True
    updates = True
    keeps_time = True
    commercial = True
    limits = "200 rows plus columns (cones' slacks too), 5000 in linear programs without a licence"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or second-order cone program up."""
        return _XpressPrepared(program, options)


class _XpressPrepared(SlackFormPrepared):
    def open(self, options: Options) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the community licence is in use
            import xpress

            self.xpress: Any = xpress
            with kept_float_unit():  # a problem sets the x87 unit to double precision
                self.model: Any = xpress.problem()
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
            _set(self.model, self.xpress, key, value)
        self.far = float(self.xpress.infinity)
        self.forever = float(self.model.controls.timelimit)
        self.absent = (self.xpress.SolverError, self.xpress.ModelError, self.xpress.InterfaceError)

    def load(self, vectors: Vectors) -> None:
        form = self.form
        A, upper = form.A, sparse.coo_matrix(sparse.triu(form.P))
        cones = len(form.soc)
        self.model.loadQCQP(
            "",
            ["E"] * form.equalities + ["L"] * (form.inequalities + cones),
            [*vectors.right.tolist(), *[0.0] * cones],
            [0.0] * (form.height + cones),
            vectors.cost.tolist(),
            A.indptr.tolist(),
            np.diff(A.indptr).tolist(),
            A.indices.tolist(),
            A.data.tolist(),
            vectors.low.tolist(),
            vectors.high.tolist(),
            upper.row.tolist(),
            upper.col.tolist(),
            upper.data.tolist(),
            list(range(form.height, form.height + cones)),
            [columns.size for columns in form.soc],
            *[[int(j) for columns in form.soc for j in columns]] * 2,
            [sign for columns in form.soc for sign in (-1.0, *[1.0] * (columns.size - 1))],
        )

    def change(self, vectors: Vectors) -> None:
        every, rows = list(range(self.form.columns)), list(range(self.form.height))
        self.model.chgObj(every, vectors.cost.tolist())
        sides = ["L"] * len(every) + ["U"] * len(every)
        self.model.chgBounds(every + every, sides, [*vectors.low.tolist(), *vectors.high.tolist()])
        if rows:
            self.model.chgRHS(rows, vectors.right.tolist())

    def run(self, seconds: float) -> tuple[Claim, str, int]:
        model = self.model
        model.controls.timelimit = seconds
        with kept_float_unit():
            model.lpOptimize("b")
        found = model.attributes.solstatus.name
        stop = self.xpress.StopType(int(model.attributes.stopstatus)).name
        claim, word = _SOLUTIONS.get(found, Claim.FAILED), found
        if stop in _STOPS:
            claim, word = _STOPS[stop], stop
        return claim, word, int(model.attributes.bariter)

    def values(self) -> Any:
        return self.model.getSolution()

    def slopes(self) -> Any:
        return self.model.getDuals()[: self.form.height]

    def reduced_costs(self) -> Any:
        return self.model.getRedCosts()


def _set(model: Any, xpress: Any, key: str, value: Any) -> None:
    try:
        setattr(model.controls, key, value)
    except (xpress.InterfaceError, xpress.ModelError, xpress.SolverError, TypeError, ValueError) as err:
        raise refusal("xpress", key, value, err, key not in dir(model.controls)) from err


BACKEND = Xpress
