"""How far a schedule breaks each limit, computed from the limits themselves and not from any solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.lowering import COMPLETION

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.optim.multistage import MultistageProgram
    from crosswind.problems.basket.inputs import FloatArray
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["COLUMNS", "breaches", "limit_excess"]

COLUMNS = ("limit", "where", "slice", "time", "breach")


def limit_excess(program: MultistageProgram, limit: Limit, trades: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """Return by how much a schedule exceeds one limit.

    Parameters
    ----------
    program
        The multistage program that the limit belongs to.
    limit
        A trade, band, group or rate limit.
    trades
        Signed trades (T, n) [currency].

    Returns
    -------
    Excess (T, g) ≥ 0 [unit of the limit] and the labels of its g columns. Soft bands have no excess: they have a cost.
    """
    from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit

    if isinstance(limit, TradeLimit):
        return np.maximum(np.maximum(limit.lower - trades, trades - limit.upper), 0.0), program.instruments
    if isinstance(limit, GroupCap):
        return np.maximum(np.abs(trades) @ limit.membership.T - limit.cap, 0.0), tuple(limit.labels)
    if isinstance(limit, RateLimit):
        before = trades[:1] if limit.previous is None else limit.previous[None, :]
        change = np.abs(np.diff(np.vstack([before, trades]), axis=0))
        return np.maximum(change - limit.delta, 0.0), program.instruments
    if not isinstance(limit, BandLimit):  # pragma: no cover - the union of limits is closed
        raise TypeError(type(limit).__name__)
    if limit.soft is not None:
        return np.zeros((len(trades), len(limit.matrix))), tuple(limit.labels)
    level = program.p0 + np.cumsum(trades @ program.incidence.T, axis=0)
    if limit.on == "exposure":
        level = level @ program.exposure.T + program.exposure_level[1:]
    value = level @ limit.matrix.T
    return np.maximum(np.maximum(limit.lower - value, value - limit.upper), 0.0), tuple(limit.labels)


def breaches(problem: BasketProblem, trades: FloatArray, tol: float = 1e-9) -> pd.DataFrame:
    """Return how far a schedule breaks each limit, the worst cell of each limit and name.

    Parameters
    ----------
    problem
        The basket.
    trades
        Signed trades (T, N) [currency].
    tol
        Breaches up to ``tol`` times the parent notional are rounding and are left out.

    Returns
    -------
    Frame with columns limit, where (name, sector or band), slice (number), time (its start) and breach [currency],
    worst first; empty when every limit holds.
    """
    program = problem.program()
    floor = tol * max(problem.parent_notional, 1.0)
    rows: list[dict[str, object]] = []

    def note(limit: str, where: str, t: int, amount: float) -> None:
        if amount > floor:
            rows.append({"limit": limit, "where": where, "slice": t, "time": problem.times[t], "breach": amount})

    for limit in program.limits:
        excess, labels = limit_excess(program, limit, trades)
        for g, label in enumerate(labels):
            worst = int(np.argmax(excess[:, g]))
            note(limit.name, label, worst, float(excess[worst, g]))
    if problem.hard_completion:
        left = np.abs(problem.remaining(trades)[-1] - problem.arrays.target)
        for i, name in enumerate(problem.names):
            note(COMPLETION, name, problem.n_slices - 1, float(left[i]))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("breach", ascending=False, kind="stable").reset_index(drop=True)
