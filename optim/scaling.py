"""Typical sizes of a program, so that notionals of 1e8 and impacts of 1e-9 reach the solver as numbers near one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.optim.checks import FloatArray
from crosswind.optim.costs import cost
from crosswind.optim.limits import GroupCap, RateLimit, TradeLimit
from crosswind.optim.program import MultistageProgram

__all__ = ["Scaling", "choose_scaling"]

_FLOOR = 0.1  # smallest size of a name relative to the largest: interior points stall on a wider spread


@dataclass(frozen=True, eq=False)
class Scaling:
    """Typical sizes: positions (P,), trades (n,), exposures (k,) in the program's unit, and ``cost`` in currency.

    Two programs lowered with the same scaling and the same pattern differ in their vectors only, which is what a
    receding-horizon session needs.
    """

    positions: FloatArray
    trades: FloatArray
    exposures: FloatArray
    cost: float


def _plans(program: MultistageProgram) -> list[FloatArray]:
    """Return rough plans whose cost tells the order of magnitude of the optimum."""
    T, n = program.slices, len(program.instruments)
    idle = np.zeros((T, n))
    if program.terminal is None:
        return [idle]
    wanted = program.terminal.hard | (program.terminal.penalty > 0.0)
    quantity = np.linalg.lstsq(program.incidence, np.where(wanted, program.terminal.target - program.p0, 0.0))[0]
    even = np.tile(quantity / T, (T, 1))
    at_once = idle.copy()
    at_once[0] = quantity
    return [even, at_once] if program.terminal.hard.any() else [even, at_once, idle]


def choose_scaling(program: MultistageProgram) -> Scaling:
    """Return the sizes that bring the program's variables and optimal cost near one.

    Parameters
    ----------
    program
        Any program; a size of zero is replaced by the largest one, and by one when all are zero.
    """
    target = program.p0 if program.terminal is None else program.terminal.target
    size = np.maximum(np.abs(program.p0), np.maximum(np.abs(target), np.abs(target - program.p0)))
    # A level that must be hedged is a size too, seen through the exposures.
    level = np.abs(program.exposure_level).max(axis=0)
    loading = np.abs(program.exposure)
    share = np.divide(1.0, loading, out=np.zeros_like(loading), where=loading > 1e-12 * loading.max(initial=1.0))
    if level.any():
        size = np.maximum(size, (level[:, None] * share).max(axis=0))
    if not size.any():
        size = np.full_like(size, _limit_size(program))
    largest = float(size.max())
    size = np.maximum(np.where(size > 0.0, size, largest), _FLOOR * largest)
    reach = np.abs(program.incidence) > 0.0
    trades = np.where(reach.any(axis=0), np.where(reach, size[:, None], 0.0).max(axis=0), largest)
    magnitudes = []
    for plan in _plans(program):
        parts = cost(program, plan).to_series().drop("total")
        magnitudes.append(float(parts.abs().sum()))
    positive = [value for value in magnitudes if value > 0.0]
    seen = (loading * size).max(axis=1) + level
    return Scaling(size, trades, np.where(seen > 0.0, seen, 1.0), min(positive) if positive else 1.0)


def _limit_size(program: MultistageProgram) -> float:
    """Return the largest finite bound on trades when there is no inventory to take the size from; else 1."""
    best = 0.0
    for limit in program.limits:
        arrays: tuple[FloatArray, ...] = ()
        if isinstance(limit, TradeLimit):
            arrays = (limit.lower, limit.upper)
        elif isinstance(limit, GroupCap):
            arrays = (limit.cap,)
        elif isinstance(limit, RateLimit):
            arrays = (limit.delta,)
        for array in arrays:
            best = max(best, float(np.abs(array[np.isfinite(array)]).max(initial=0.0)))
    states = max((float(np.abs(mode.state).max()) for mode in program.impact), default=0.0)
    return max(best, states) or 1.0
