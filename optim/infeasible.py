"""Why a program has no solution, in the names of the user's own limits, and the smallest relaxation that cures it.

The rows of limits (never those of the dynamics) and the trade boxes get elastic slacks, priced at one per unit of the
bound; the multipliers of that linear program say which limits are in conflict. Then each of them is relaxed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from crosswind.optim.assembly import IndexArray
from crosswind.optim.checks import FloatArray
from crosswind.optim.limits import BandLimit, TradeLimit
from crosswind.optim.lowered import Lowered
from crosswind.solvers.errors import InfeasibleProblem
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.solution import Solution

__all__ = ["Conflict", "explain", "find_conflict"]

_SHOWN = 6  # rows that a message lists; the rest is summed up
_PROX = 1e-9  # keeps the elastic program bounded in directions that no limit meets


@dataclass(frozen=True, eq=False)
class Conflict:
    """Limits that contradict each other.

    Attributes
    ----------
    rows
        Row name → by how much it is relaxed (position or trade unit) in the smallest total relaxation.
    limits
        Names of all limits that take part in the conflict.
    alone
        Limit name → smallest total relaxation when only this limit gives way; limits that cannot cure it alone are
        absent.
    total
        The smallest total relaxation over all limits.
    """

    rows: dict[str, float]
    limits: tuple[str, ...]
    alone: dict[str, float] = field(default_factory=dict)
    total: float = 0.0


@dataclass(frozen=True, eq=False)
class _Elastic:
    """The limit rows of a lowered program, boxes turned into rows: names, owners and scales."""

    A: sparse.csc_matrix
    l: FloatArray  # noqa: E741
    u: FloatArray
    names: list[str]
    owner: list[str]
    rows: IndexArray
    scale: FloatArray
    free_box: np.ndarray


def explain(lowered: Lowered, solution: Solution) -> InfeasibleProblem:
    """Return the error that says which limits conflict and what would cure it.

    Parameters
    ----------
    lowered
        The lowered program.
    solution
        The solver's result with status INFEASIBLE; its verified proof is the fallback when the elastic program fails.
    """
    conflict = find_conflict(lowered)
    if conflict is None:
        names = _from_proof(lowered, solution)
        return InfeasibleProblem(
            "the limits contradict each other",
            field=" / ".join(names) or "limits",
            value=names,
            remedy="relax one of them",
        )
    largest = sorted(conflict.rows.items(), key=lambda item: -item[1])[:_SHOWN]
    cures = [f"{name} by {amount:,.6g} in total" for name, amount in conflict.alone.items()]
    detail = ", ".join(f"{name} by {amount:,.6g}" for name, amount in largest)
    if len(conflict.rows) > _SHOWN:
        left = sum(conflict.rows.values()) - sum(amount for _, amount in largest)
        detail += f", and {len(conflict.rows) - _SHOWN} more rows by {left:,.6g} together"
    return InfeasibleProblem(
        f"limits {', '.join(repr(name) for name in conflict.limits)} contradict each other; the smallest relaxation "
        f"({conflict.total:,.6g} in total) is {detail}",
        field=" / ".join(conflict.limits),
        value=None,
        remedy="relax " + (" or ".join(cures) if cures else "several of them together: " + detail),
    )


def find_conflict(lowered: Lowered, tol: float = 1e-6) -> Conflict | None:
    """Return the conflict of an infeasible lowered program, or None when the elastic program itself failed.

    Parameters
    ----------
    lowered
        The lowered program.
    tol
        Relaxations and multipliers below this, relative to the largest, are dropped.
    """
    elastic = _elastic_rows(lowered)
    found = _relax(lowered, elastic, set(elastic.owner))
    if found is None:
        return None
    amounts, multipliers = found
    total = float(amounts.sum())
    if total <= 0.0:
        return None
    heavy = np.abs(multipliers) > 1e-4 * max(float(np.abs(multipliers).max(initial=0.0)), 1e-300)
    moved = amounts > tol * total
    involved = [elastic.owner[i] for i in np.flatnonzero(heavy | moved)]
    limits = tuple(dict.fromkeys(involved))
    alone: dict[str, float] = {}
    for name in limits[:5]:
        single = _relax(lowered, elastic, {name})
        if single is not None:
            alone[name] = float(single[0].sum())
    return Conflict({elastic.names[i]: float(amounts[i]) for i in np.flatnonzero(moved)}, limits, alone, total)


def _elastic_rows(lowered: Lowered) -> _Elastic:
    """Collect the rows that may give way: hard limits, completion, and the trade boxes as rows."""
    program, qp = lowered.program, lowered.qp
    names: list[str] = []
    owner: list[str] = []
    picked: list[int] = []
    if len(lowered.completion):
        assert program.terminal is not None
        hard = np.flatnonzero(program.terminal.hard)
        names += [f"completion[{program.positions[i]}]" for i in hard]
        owner += ["completion"] * len(lowered.completion)
        picked += [int(r) for r in lowered.completion]
    for limit in program.limits:
        if isinstance(limit, TradeLimit) or (isinstance(limit, BandLimit) and limit.soft is not None):
            continue
        block = lowered.limits[limit.name]
        start = 1 if isinstance(limit, BandLimit) else 0
        for t, g in np.argwhere(block.rows >= 0):
            names.append(f"{limit.name}[{block.columns[g]},{t + start}]")
            owner.append(limit.name)
            picked.append(int(block.rows[t, g]))
    # One row per side and trade: the two sides may belong to different limits.
    columns, low, high, scale = [], [], [], []
    box = lowered.box
    for side, bound, owners in (("lower", box.lower, box.lower_owner), ("upper", box.upper, box.upper_owner)):
        for t, j in np.argwhere(np.isfinite(bound)):
            size = float(lowered.var_scale[lowered.trades[t, j]])
            name = program.limits[int(owners[t, j])].name
            names.append(f"{name}[{program.instruments[j]},{t}]")
            owner.append(name)
            columns.append(int(lowered.trades[t, j]))
            low.append(bound[t, j] / size if side == "lower" else -np.inf)
            high.append(bound[t, j] / size if side == "upper" else np.inf)
            scale.append(size)
    count = len(columns)
    boxes = sparse.coo_matrix(
        (np.ones(count), (np.arange(count), np.array(columns, dtype=np.int64))), shape=(count, qp.n)
    )
    A = sparse.csc_matrix(sparse.vstack([qp.A, boxes]))
    rows = np.array([*picked, *range(qp.m, qp.m + count)], dtype=np.int64)
    all_scales = np.concatenate([lowered.row_scale, np.asarray(scale, dtype=np.float64)])
    free = np.zeros(qp.n, dtype=bool)
    free[lowered.trades.ravel()] = True
    return _Elastic(
        A, np.concatenate([qp.l, low]), np.concatenate([qp.u, high]), names, owner, rows, all_scales[rows], free
    )


def _relax(lowered: Lowered, elastic: _Elastic, giving: set[str]) -> tuple[FloatArray, FloatArray] | None:
    """Return the smallest relaxations and the multipliers per elastic row when only the limits ``giving`` may move."""
    from crosswind.solvers.solve import solve

    qp = lowered.qp
    moves = np.array([name in giving for name in elastic.owner], dtype=bool)
    rows = elastic.rows[moves]
    k, m = len(rows), elastic.A.shape[0]
    if k == 0:
        return None
    plus = sparse.coo_matrix((np.ones(k), (rows, np.arange(k))), shape=(m, k))
    # Unit prices in the user's unit; divided by their mean, so that the program stays near one.
    weight = elastic.scale[moves] / elastic.scale.mean()
    n = qp.n
    program = QuadraticProgram(
        P=sparse.csc_matrix(sparse.diags(np.concatenate([np.full(n, _PROX), np.zeros(2 * k)]))),
        q=np.concatenate([np.zeros(n), weight, weight]),
        A=sparse.csc_matrix(sparse.hstack([elastic.A, plus, -plus])),
        l=elastic.l,
        u=elastic.u,
        lb=np.concatenate([np.where(elastic.free_box, -np.inf, qp.lb), np.zeros(2 * k)]),
        ub=np.concatenate([np.where(elastic.free_box, np.inf, qp.ub), np.full(2 * k, np.inf)]),
    )
    # Six digits are worth having in a message; where caps of no use span ten decades, fewer must do.
    for tol in (1e-7, 1e-6, 1e-5):
        result = solve(program, tol=tol)
        if result.status.ok:
            break
    else:
        return None
    slack = np.maximum(result.x[n : n + k], 0.0) + np.maximum(result.x[n + k :], 0.0)
    amounts = np.zeros(len(elastic.rows))
    # Both slacks of a row are never needed at once: their common part is interior-point dust.
    slack -= 2.0 * np.minimum(np.maximum(result.x[n : n + k], 0.0), np.maximum(result.x[n + k :], 0.0))
    amounts[moves] = slack * elastic.scale[moves]
    amounts[amounts < 1e-7 * elastic.scale] = 0.0
    return amounts, np.asarray(result.y[elastic.rows], dtype=np.float64)


def _from_proof(lowered: Lowered, solution: Solution) -> tuple[str, ...]:
    """Return the limits that carry weight in the solver's verified proof of infeasibility."""
    if solution.proof is None:
        return ()
    heavy = np.abs(solution.proof.y) > 1e-4 * max(float(np.abs(solution.proof.y).max(initial=0.0)), 1e-300)
    names = []
    if heavy[lowered.completion].any():
        names.append("completion")
    for name, block in lowered.limits.items():
        rows = block.rows[block.rows >= 0]
        if heavy[rows].any():
            names.append(name)
    box = solution.proof.z[lowered.trades]
    strong = np.abs(box) > 1e-4 * max(float(np.abs(solution.proof.z).max(initial=0.0)), 1e-300)
    owners = np.where(box > 0.0, lowered.box.upper_owner, lowered.box.lower_owner)[strong]
    names += [lowered.program.limits[int(i)].name for i in np.unique(owners[owners >= 0])]
    return tuple(dict.fromkeys(names))
