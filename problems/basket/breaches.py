"""How far a schedule breaks each limit, computed from the limits themselves and not from any solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.lowering import COMPLETION

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.problems.basket.inputs import FloatArray
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["COLUMNS", "breaches", "limit_excess"]

COLUMNS = ("limit", "where", "slice", "time", "breach")


def limit_excess(problem: BasketProblem, limit: Limit, trades: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """Return by how much a schedule exceeds one limit.

    Parameters
    ----------
    problem
        The basket that the limit belongs to.
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
        return np.maximum(np.maximum(limit.lower - trades, trades - limit.upper), 0.0), problem.names
    if isinstance(limit, GroupCap):
        return np.maximum(np.abs(trades) @ limit.membership.T - limit.cap, 0.0), tuple(limit.labels)
    if isinstance(limit, RateLimit):
        before = trades[:1] if limit.previous is None else limit.previous[None, :]
        change = np.abs(np.diff(np.vstack([before, trades]), axis=0))
        return np.maximum(change - limit.delta, 0.0), problem.names
    if not isinstance(limit, BandLimit):  # pragma: no cover - the union of limits is closed
        raise TypeError(type(limit).__name__)
    if limit.soft is not None:
        return np.zeros((len(trades), len(limit.matrix))), tuple(limit.labels)
    value = problem.remaining(trades)[1:] @ limit.matrix.T  # exposures are the positions of a basket
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
        Breaches up to ``tol`` times the gross notional are rounding and are left out.

    Returns
    -------
    Frame with columns limit, where (name, sector or band), slice (number), time (its start) and breach [currency],
    worst first; empty when every limit holds.
    """
    floor = tol * max(float(np.abs(problem.arrays.inventory).sum()), float(np.abs(trades).sum()), 1.0)
    rows: list[dict[str, object]] = []

    def note(limit: str, where: str, t: int, amount: float) -> None:
        if amount > floor:
            rows.append({"limit": limit, "where": where, "slice": t, "time": problem.times[t], "breach": amount})

    for limit in problem.limits:
        excess, labels = limit_excess(problem, limit, trades)
        worst = excess.argmax(axis=0)
        for g in np.flatnonzero(excess.max(axis=0, initial=0.0) > floor):
            note(limit.name, labels[g], int(worst[g]), float(excess[worst[g], g]))
    left = np.where(problem.arrays.hard, np.abs(problem.remaining(trades)[-1] - problem.arrays.target), 0.0)
    for i in np.flatnonzero(left > floor):
        note(COMPLETION, problem.names[i], problem.n_slices - 1, float(left[i]))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("breach", ascending=False, kind="stable").reset_index(drop=True)
