"""Which limits contradict each other, in their own names: the smallest relaxation that lets a program be feasible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from crosswind.solvers.certify import certify
from crosswind.solvers.conflict import Conflict, find_conflict
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, SolverFailure
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.solution import Certificate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ElasticReport", "elastic", "relaxation_duals"]

_TOL = 1e-6
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ElasticReport:
    """The smallest L1 relaxation of an infeasible program.

    Attributes
    ----------
    amounts
        Row or variable name → by how much its bound must move, largest first: positive raises the upper bound, negative
        lowers the lower one. Empty when nothing needs to move.
    total
        Σ weight × |amount|.
    x
        (n,) a point that keeps all relaxed limits.
    certificate
        Of the relaxation's own linear program: the total is smallest within it.
    conflict
        The limits that cannot hold together, verified; ``None`` when nothing needs to move or no proof was found.
    """

    amounts: dict[str, float]
    total: float
    x: Vector
    certificate: Certificate
    conflict: Conflict | None = None

    @property
    def feasible(self) -> bool:
        """True when nothing needs to move."""
        return not self.amounts

    def summary(self, most: int = 8) -> str:
        """Return one line: who conflicts with whom, the smallest relaxation, the ``most`` largest limits to move."""
        if not self.amounts:
            return "nothing needs to be relaxed"
        named = [
            f"{'raise' if amount > 0 else 'lower'} {name} by {abs(amount):.6g}"
            for name, amount in list(self.amounts.items())[:most]
        ]
        more = len(self.amounts) - len(named)
        moves = "; ".join(named) + (f"; and {more} more" if more > 0 else "")
        if self.conflict is None:
            return moves
        return f"{self.conflict.text}, smallest relaxation {self.total:.6g}: {moves}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per limit to move, with column ``amount``."""
        import pandas as pd

        return pd.DataFrame({"amount": pd.Series(self.amounts, dtype=np.float64)}).rename_axis("limit")


def elastic(
    program: QuadraticProgram | ConeProgram,
    rows: Iterable[str | int] | None = None,
    variables: Iterable[str | int] = (),
    weights: Mapping[str, float] | None = None,
) -> ElasticReport:
    r"""Find the smallest weighted L1 change of bounds that makes ``program`` feasible.

    .. math::

        \min \sum_i w_i (p_i + n_i) \quad\text{s.t.}\quad l \le Ax - p + n \le u,\ lb \le x \le ub,\ p, n \ge 0

    A simplex vertex of this linear program is taken, so that few limits move.

    Parameters
    ----------
    program
        A quadratic program; its cost plays no part. Of a cone program everything may move, see
        :func:`crosswind.solvers.elastic_cones.elastic_cone`.
    rows
        Names or numbers of the rows that may move; ``None`` for all.
    variables
        Names or numbers of the variables whose boxes may move too; none by default.
    weights
        Name → cost per unit of movement, default 1: rows of different units need weights to be comparable.

    Returns
    -------
    ElasticReport
        With the limits that move and by how much, and those that conflict.

    Raises
    ------
    InvalidInput
        On unknown names or weights that are not positive, and on a choice of rows of a cone program.
    InfeasibleProblem
        When the limits that may not move contradict each other already.
    SolverFailure
        When the linear program's answer does not pass our certificate.
    """
    if isinstance(program, ConeProgram):
        from crosswind.solvers.elastic_cones import elastic_cone

        if rows is not None or tuple(variables) or weights:
            raise InvalidInput("a cone program moves as a whole", field="rows", remedy="leave rows and weights out")
        return elastic_cone(program)
    row_names = program.row_names or tuple(f"row {i}" for i in range(program.m))
    var_names = program.var_names or tuple(f"variable {j}" for j in range(program.n))
    chosen = np.arange(program.m) if rows is None else _places(rows, row_names, "rows")
    boxed = _places(variables, var_names, "variables")
    names = [row_names[i] for i in chosen] + [var_names[j] for j in boxed]
    weight = _weights(weights, names)
    linear = _relaxation(program, chosen, boxed, weight)
    x, y, certificate = _vertex(linear)
    moved = x[program.n : program.n + len(names)] - x[program.n + len(names) :]
    size = max(1.0, float(np.max(np.abs(moved), initial=0.0)))
    order = np.argsort(-np.abs(moved), kind="stable")
    amounts = {names[i]: float(moved[i]) for i in order if abs(moved[i]) > 1e-9 * size}
    total = float(sum(weight[names.index(name)] * abs(amount) for name, amount in amounts.items()))
    conflict = find_conflict(program, y[: program.m]) if amounts else None
    return ElasticReport(amounts, total, x[: program.n], certificate, conflict)


def relaxation_duals(program: QuadraticProgram) -> Vector | None:
    """Return the row multipliers (m,) of the smallest relaxation of all rows; ``None`` when it is zero or not found."""
    every = np.arange(program.m)
    size = np.asarray(abs(program.A).max(axis=1).todense()).ravel() if program.A.nnz else np.ones(program.m)
    try:
        # Rows of the same size, so that multipliers of small rows are no noise.
        _, y, _ = _vertex(_relaxation(program, every, every[:0], 1.0 / np.where(size > 0.0, size, 1.0)))
    except (InfeasibleProblem, SolverFailure):
        return None
    return y if np.any(y) else None


def _relaxation(program: QuadraticProgram, chosen: Index, boxed: Index, weight: Vector) -> QuadraticProgram:
    n, m, rows, boxes = program.n, program.m, chosen.size, boxed.size
    pick = sparse.csc_matrix((np.ones(rows), (chosen, np.arange(rows))), shape=(m + boxes, rows))
    unit = sparse.csc_matrix((np.ones(boxes), (np.arange(boxes), boxed)), shape=(boxes, n))
    own = sparse.csc_matrix((np.ones(boxes), (np.arange(m, m + boxes), np.arange(boxes))), shape=(m + boxes, boxes))
    slack = sparse.hstack((pick, own), format="csc")
    lb, ub = program.lb.copy(), program.ub.copy()
    lb[boxed], ub[boxed] = -np.inf, np.inf
    extra = 2 * (rows + boxes)
    return QuadraticProgram(
        None,
        np.concatenate((np.zeros(n), weight, weight)),
        sparse.hstack((sparse.vstack((program.A, unit)), -slack, slack), format="csc"),
        np.concatenate((program.l, program.lb[boxed])),
        np.concatenate((program.u, program.ub[boxed])),
        lb=np.concatenate((lb, np.zeros(extra))),
        ub=np.concatenate((ub, np.full(extra, np.inf))),
    )


def _vertex(linear: QuadraticProgram) -> tuple[Vector, Vector, Certificate]:
    """Solve a linear program by the dual simplex (HiGHS, as scipy ships it) and certify the vertex."""
    from scipy import optimize

    solve_linear: Any = optimize.linprog  # its stubs know no None
    equal = linear.l == linear.u
    up, low = np.flatnonzero(np.isfinite(linear.u) & ~equal), np.flatnonzero(np.isfinite(linear.l) & ~equal)
    same = np.flatnonzero(equal)
    A = linear.A.tocsr()
    found = solve_linear(
        linear.q,
        A_ub=sparse.vstack((A[up], -A[low]), format="csr") if up.size + low.size else None,
        b_ub=np.concatenate((linear.u[up], -linear.l[low])) if up.size + low.size else None,
        A_eq=A[same] if same.size else None,
        b_eq=linear.l[same] if same.size else None,
        bounds=np.column_stack((linear.lb, linear.ub)),
        method="highs-ds",
    )
    if found.status == 2:
        raise InfeasibleProblem(
            "the limits that may not move contradict each other already",
            field="rows",
            remedy="offer more rows, or variables, for relaxation",
        )
    if found.x is None:
        raise SolverFailure(
            "the relaxation was not solved", field="elastic", value=found.message, remedy="rescale rows"
        )
    y = np.zeros(linear.m)
    if up.size + low.size:
        pressure = -np.asarray(found.ineqlin.marginals)
        y[up] += pressure[: up.size]
        y[low] -= pressure[up.size :]
    if same.size:
        y[same] = -np.asarray(found.eqlin.marginals)
    x = np.asarray(found.x, dtype=np.float64)
    certificate = certify(linear, x, y, tol=_TOL)
    if not certificate.passes():
        raise SolverFailure(
            "the relaxation's answer fails our certificate",
            field="elastic",
            value=certificate.summary(),
            remedy="rescale the rows to comparable size",
        )
    return x, y, certificate


def _places(wanted: Iterable[str | int], names: tuple[str, ...], field: str) -> Index:
    place = {name: i for i, name in enumerate(names)}
    out = []
    for item in wanted:
        at = place.get(item, -1) if isinstance(item, str) else int(item)
        if not 0 <= at < len(names):
            raise InvalidInput("no such name or number", field=field, value=item, remedy="use the program's own names")
        out.append(at)
    return np.unique(np.array(out, dtype=np.intp))


def _weights(weights: Mapping[str, float] | None, names: list[str]) -> Vector:
    out = np.ones(len(names))
    for name, value in (weights or {}).items():
        if name not in names:
            raise InvalidInput("no such limit among those that may move", field="weights", value=name)
        if not (np.isfinite(value) and value > 0.0):
            raise InvalidInput("must be positive", field=f"weights[{name!r}]", value=value, remedy="give a finite cost")
        out[names.index(name)] = float(value)
    return out
