"""The intersection of all limits on single trades: one box, and who owns each side of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.optim.assembly import IndexArray
from crosswind.optim.checks import FloatArray
from crosswind.optim.limits import TradeLimit
from crosswind.optim.program import MultistageProgram
from crosswind.solvers.errors import InfeasibleProblem

__all__ = ["TradeBox", "trade_box"]


@dataclass(frozen=True, eq=False)
class TradeBox:
    """Intersection of the trade limits: bounds (T, n) and, per side, the number of the limit behind it (−1: none)."""

    lower: FloatArray
    upper: FloatArray
    lower_owner: IndexArray
    upper_owner: IndexArray


def trade_box(program: MultistageProgram) -> TradeBox:
    """Intersect the trade limits.

    Raises
    ------
    InfeasibleProblem
        Two limits exclude each other on one trade; the message names both, the trade and the smallest relaxation.
    """
    shape = (program.slices, len(program.instruments))
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    low_owner, high_owner = np.full(shape, -1), np.full(shape, -1)
    for number, limit in enumerate(program.limits):
        if isinstance(limit, TradeLimit):
            tighter = limit.lower > low
            low, low_owner = np.where(tighter, limit.lower, low), np.where(tighter, number, low_owner)
            tighter = limit.upper < high
            high, high_owner = np.where(tighter, limit.upper, high), np.where(tighter, number, high_owner)
    crossed = low - high
    rounding = 1e-12 * np.maximum(np.abs(np.where(np.isfinite(low), low, 0.0)), 1e-300)
    if (crossed > rounding).any():
        t, j = (int(i) for i in np.unravel_index(np.argmax(np.where(np.isfinite(crossed), crossed, 0.0)), shape))
        names = [program.limits[int(owner[t, j])].name for owner in (low_owner, high_owner)]
        raise InfeasibleProblem(
            f"limits '{names[0]}' and '{names[1]}' exclude each other on trade [{program.instruments[j]},{t}]",
            field=" / ".join(names),
            value=(float(low[t, j]), float(high[t, j])),
            remedy=f"relax one of them by {float(crossed[t, j]):.6g}",
        )
    return TradeBox(np.minimum(low, high), high, low_owner, high_owner)
