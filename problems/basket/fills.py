"""Fills as they come from a desk: checked, and sorted into the slices they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray
from crosswind.solvers.errors import InvalidInput, LimitBreach

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["bucketed", "refuse_overfill"]


def bucketed(problem: BasketProblem, time: pd.Timestamp, fills: pd.Series | pd.DataFrame | None) -> FloatArray:
    """Return fills by slice (T, N) [currency].

    Parameters
    ----------
    problem
        The basket before its first slice.
    time
        The clock: no fill is later, and the slice of each has started before it.
    fills
        A Series by name for the last slice that has started, or a frame by time.

    Raises
    ------
    InvalidInput
        On unknown or doubled names, times outside, values that are not finite numbers.
    """
    p = problem
    added = np.zeros((p.n_slices, p.n_names))
    if fills is None:
        return added
    if isinstance(fills, pd.Series):
        # The last slice that started before now: at a slice's start its own trades are still to come.
        started = int(np.searchsorted(p.times.asi8, time.value, side="left"))
        if not started and not fills.empty and (fills != 0.0).any():
            raise InvalidInput(
                "fills before the first slice", field="fills", value=time, remedy=f"it starts at {p.times[0]}"
            )
        at = np.array([max(started - 1, 0)])
        table = fills.to_frame().T
    elif isinstance(fills, pd.DataFrame):
        table = fills
        if not isinstance(fills.index, pd.DatetimeIndex) or fills.index.tz is None:
            raise InvalidInput(
                "need tz-aware times as index",
                field="fills",
                value=type(fills.index).__name__,
                remedy="index the frame by the time of each fill",
            )
        stamps = fills.index.tz_convert("UTC").as_unit("ns").asi8
        if len(stamps) and (stamps.max() > time.value or stamps.min() < p.times[0].value):
            wrong = fills.index[int(np.argmax(stamps) if stamps.max() > time.value else np.argmin(stamps))]
            raise InvalidInput(
                "a fill lies in the future or before the first slice",
                field="fills",
                value=wrong,
                remedy=f"between {p.times[0]} and {time}",
            )
        at = np.searchsorted(p.times.asi8, stamps, side="right") - 1
        if len(at) and p.times[int(at.max())] >= time:
            raise InvalidInput(
                "a fill at the start of a slice that is still to come",
                field="fills",
                value=p.times[int(at.max())],
                remedy="book it when the clock is past that start",
            )
    else:
        raise InvalidInput(
            "must be a Series by name or a frame by time",
            field="fills",
            value=type(fills).__name__,
            remedy="pd.Series({'IBM': 1e5})",
        )
    columns = [str(c) for c in table.columns]
    unknown = [c for c in columns if c not in p.names]
    if unknown or len(set(columns)) != len(columns):
        raise InvalidInput(
            f"unknown or doubled names: {', '.join(unknown or columns)}",
            field="fills",
            value=unknown or columns,
            remedy="book only names of the basket, each once",
        )
    try:
        values = table.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise InvalidInput("must be numeric", field="fills", value=str(err), remedy="signed notional") from err
    if not np.isfinite(values).all():
        raise InvalidInput("not finite", field="fills", value="NaN or inf", remedy="book 0.0 or leave it out")
    np.add.at(added, (at[:, None], np.array([p.names.index(c) for c in columns], dtype=np.intp)[None, :]), values)
    return added


def refuse_overfill(problem: BasketProblem, done: FloatArray) -> None:
    """Refuse trades (T, N) that go beyond an order or against it; hedges and two-sided baskets have no such bound.

    Raises
    ------
    LimitBreach
        Naming the names and what they traded.
    """
    order, total = problem.arrays.inventory - problem.arrays.target, done.sum(axis=0)
    slack = 1e-6 * np.maximum(np.abs(order), 1.0)
    side = np.sign(order)
    bound = (side != 0.0) | (not problem.allow_reversal)
    bound &= ~problem.arrays.hedge
    beyond = np.where(bound, np.maximum(side * total - np.abs(order), -side * total), 0.0)
    beyond = np.where(bound & (side == 0.0), np.abs(total), beyond)
    # A target by penalty is not an order to the cent, but its size is the most that was asked for too.
    wrong = np.flatnonzero(beyond > slack)
    if len(wrong):
        names = [problem.names[i] for i in wrong]
        raise LimitBreach(
            f"go beyond the order, or against it: {', '.join(names[:8])}",
            field="fills",
            value={n: float(total[problem.names.index(n)]) for n in names[:8]},
            remedy="check for doubled fills; allow_overfill=True takes them in and trades the excess back",
        )
