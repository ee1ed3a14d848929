"""Rounding a schedule to lots so that the parent order is completed to the last lot: integers throughout.

The nearest whole lots come first, name by name. Where they break a limit that names or slices share, an integer program
over the names of the broken limits moves lots until all of them hold; what has no answer is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray, per_name
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = ["IntArray", "round_to_lots", "shares", "snap"]

IntArray: TypeAlias = npt.NDArray[np.int64]

_COUNTABLE = 2.0**53  # up to which every whole number is a float


def snap(values: FloatArray, tol: float = 1e-9) -> FloatArray:
    """Return values moved to the nearest integer where they are within ``tol`` (relative above 1) of it.

    0.3 / 0.1 is 2.999…96 in binary floats, so a bare floor loses a lot; after snapping it cannot.
    """
    nearest = np.rint(values)
    apart = np.abs(np.subtract(values, nearest, out=np.zeros_like(nearest), where=np.isfinite(values)))
    return np.where(apart <= tol * np.maximum(1.0, np.abs(nearest)), nearest, values)


def round_to_lots(lots: FloatArray, total: int, cap: FloatArray | None = None) -> IntArray:
    """Return whole lots per slice that sum to ``total`` exactly, by the largest remainder.

    Each slice gets the floor of its signed lots; the units that remain go to the slices with the largest fractional
    parts, ties to the earliest. Slices that one more lot would carry over ``cap`` come last: the cap is exceeded, and
    then by less than one lot, only where completion leaves no other way.

    Parameters
    ----------
    lots
        Exact lots per slice (T,), signed.
    total
        Whole lots to trade in sum; must be within T of the sum of ``lots`` (rounding moves each slice by under a lot).
    cap
        Largest |lots| per slice (T,), or ``None``.

    Returns
    -------
    Whole lots per slice (T,), int64.
    """
    exact = snap(np.asarray(lots, dtype=np.float64))
    sign = -1 if total < 0 else 1
    # Work on the side of the parent order, so that "one more lot" always means more of the order.
    amount = sign * exact
    whole = np.floor(amount).astype(np.int64)
    missing = sign * int(total) - int(whole.sum())
    most = np.full(len(amount), np.inf) if cap is None else np.maximum(snap(np.asarray(cap, dtype=np.float64)), 0.0)
    step = 1 if missing >= 0 else -1
    fraction, fits, touched = (amount - whole) * step, np.abs(whole + step) <= np.floor(most), amount != 0.0
    if abs(missing) <= int((fits & touched).sum()):
        # One lot each for the first of the order below: none of them can come up twice.
        order = np.lexsort((np.arange(len(amount)), -fraction, ~touched, ~fits))
        whole[order[: abs(missing)]] += step
        return sign * whole
    while missing != 0:
        fraction = (amount - whole) * step
        fits = np.abs(whole + step) <= np.maximum(np.floor(most), np.abs(whole))
        touched = amount != 0.0  # a slice that the schedule leaves empty stays empty if any other can take the lot
        order = np.lexsort((np.arange(len(amount)), -fraction, ~touched, ~fits))
        best = int(order[0])
        whole[best] += step
        missing -= step
    return sign * whole


def shares(
    schedule: BasketSchedule,
    prices: pd.Series,
    lot: pd.Series | float = 1,
    parent_shares: pd.Series | None = None,
    min_clip: pd.Series | float | None = None,
) -> pd.DataFrame:
    """Return a schedule in shares; see :meth:`BasketSchedule.shares`."""
    from crosswind.problems.basket.repair import LotRounding

    problem = schedule.problem
    price = per_name(prices, problem.names, "prices")
    size = per_name(lot, problem.names, "lot")
    for label, values in (("prices", price), ("lot", size)):
        if (values <= 0.0).any():
            name = problem.names[int(np.argmin(values))]
            raise InvalidInput(f"must be > 0 for {name}", field=label, value=float(values.min()), remedy="check it")
    clip = np.ones(problem.n_names)
    if min_clip is not None:
        clip = np.maximum(np.ceil(snap(per_name(min_clip, problem.names, "min_clip") / size)), 1.0)
    exact = schedule.trades.to_numpy() / price / size
    total = np.rint(exact.sum(axis=0))
    if np.abs(exact).max(initial=0.0) > _COUNTABLE or np.abs(total).max(initial=0.0) > _COUNTABLE:
        name = problem.names[int(np.argmax(np.abs(exact).max(axis=0)))]
        raise InvalidInput(
            f"leaves more lots of {name} than can be counted one by one",
            field="prices",
            value=float(price[problem.names.index(name)]),
            remedy="pass prices in currency per share, or a larger lot",
        )
    if parent_shares is not None:
        given = per_name(parent_shares, problem.names, "parent_shares", minimum=-np.inf) / size
        total = snap(given)
        if (total != np.rint(total)).any() or (np.abs(total - exact.sum(axis=0)) > problem.n_slices).any():
            wrong = int(np.argmax(np.abs(total - np.rint(total)) + np.abs(total - exact.sum(axis=0))))
            raise InvalidInput(
                f"must be whole lots near the scheduled total for {problem.names[wrong]}",
                field="parent_shares",
                value=float(given[wrong] * size[wrong]),
                remedy="check prices, lots and the remaining inventory",
            )
    rounding = LotRounding(problem, exact, total.astype(np.int64), price * size, clip.astype(np.int64))
    lots = rounding.solve()
    if (size == np.rint(size)).all():
        return pd.DataFrame(lots * size.astype(np.int64), index=schedule.trades.index, columns=schedule.trades.columns)
    return problem.frame(lots * size)
