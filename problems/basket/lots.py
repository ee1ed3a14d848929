"""Rounding a schedule to lots so that the parent order is completed to the last lot: integers throughout."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from crosswind.problems.basket.inputs import FloatArray

__all__ = ["IntArray", "round_to_lots", "snap"]

IntArray: TypeAlias = npt.NDArray[np.int64]


def snap(values: FloatArray, tol: float = 1e-9) -> FloatArray:
    """Return values moved to the nearest integer where they are within ``tol`` (relative above 1) of it.

    0.3 / 0.1 is 2.999…96 in binary floats, so a bare floor loses a lot; after snapping it cannot.
    """
    nearest = np.rint(values)
    return np.where(np.abs(values - nearest) <= tol * np.maximum(1.0, np.abs(nearest)), nearest, values)


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
    while missing != 0:
        fraction = (amount - whole) * step
        fits = np.abs(whole + step) <= np.maximum(np.floor(most), np.abs(whole))
        touched = amount != 0.0  # a slice that the schedule leaves empty stays empty if any other can take the lot
        order = np.lexsort((np.arange(len(amount)), -fraction, ~touched, ~fits))
        best = int(order[0])
        whole[best] += step
        missing -= step
    return sign * whole
