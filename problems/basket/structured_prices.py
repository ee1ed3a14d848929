"""Prices of a basket's limits from the multipliers of the structured solver, balanced at the trades themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.optim.limits import GroupCap, RateLimit, TradeLimit
from crosswind.problems.basket.inputs import FloatArray
from crosswind.solvers.errors import InfeasibleProblem

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.solvers.schedule import FactorSchedule

__all__ = ["DUST", "EPSILON", "balanced", "box_prices", "limit_prices", "trade_box"]

DUST = 1e-3  # trades and misses below this share of the name's size may be taken for none, if that costs nothing
EPSILON = 1e-9  # slack of an ε-subgradient, relative to the cost


def trade_box(problem: BasketProblem) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return lower and upper bounds (T, N) and, per side, the number of the limit behind it (−1: none)."""
    shape = (problem.n_slices, problem.n_names)
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    low_owner, high_owner = np.full(shape, -1), np.full(shape, -1)
    for number, limit in enumerate(problem.limits):
        if isinstance(limit, TradeLimit):
            tighter = limit.lower > low
            low[tighter], low_owner[tighter] = limit.lower[tighter], number
            tighter = limit.upper < high
            high[tighter], high_owner[tighter] = limit.upper[tighter], number
    crossed = low - high
    if (crossed > 1e-12 * np.maximum(np.abs(low), 1e-300)).any():
        t, i = (int(k) for k in np.unravel_index(int(np.argmax(crossed)), shape))
        names = [problem.limits[int(owner[t, i])].name for owner in (low_owner, high_owner)]
        raise InfeasibleProblem(
            f"limits '{names[0]}' and '{names[1]}' exclude each other on trade [{problem.names[i]},{t}]",
            field=" / ".join(names),
            value=(float(low[t, i]), float(high[t, i])),
            remedy=f"relax one of them by {float(crossed[t, i]):.6g}",
        )
    return np.minimum(low, high), high, low_owner, high_owner


def limit_prices(
    problem: BasketProblem, prices: Any, shape: tuple[int, ...]
) -> tuple[dict[str, FloatArray], FloatArray, FloatArray]:
    """Return prices by limit but those of boxes, their pull on trades (T, N), and the caps' price on |u| (T, N)."""
    pull, group = np.zeros(shape), np.zeros(shape)
    found: dict[str, FloatArray] = {}
    band = 0
    for limit in problem.limits:
        if isinstance(limit, TradeLimit):
            found[limit.name] = np.zeros(shape)  # in its place; filled by box_prices
        elif isinstance(limit, GroupCap):
            found[limit.name] = np.asarray(prices.groups)
            group = group + prices.groups @ limit.membership
        elif isinstance(limit, RateLimit):
            change = np.zeros(shape) if prices.change is None else np.asarray(prices.change)
            found[limit.name] = np.abs(change)
            pull += change
            pull[:-1] -= change[1:]
        else:
            width = len(limit.matrix)
            signed = np.asarray(prices.bands)[:, band : band + width]
            band += width
            found[limit.name] = np.abs(signed)
            # A band holds what remains: buying lowers it in this slice and in all later ones.
            pull -= np.cumsum(signed[::-1], axis=0)[::-1] @ limit.matrix
    return found, pull, group


def balanced(
    schedule: FactorSchedule, u: FloatArray, cost: FloatArray, prices: Any, slack: float
) -> tuple[FloatArray, FloatArray]:
    """Return completion prices (N,) and signed box prices (T, N) that balance marginal costs at the trades themselves.

    The solver's own prices belong to the point behind its bound. A cell inside its box says what completion is worth
    there, and the median over a name's cells is taken. What a cell at a bound has too much or little is the bound's. A
    name with no cell inside takes the price nearest to the solver's that its bounds can carry.
    """
    size = schedule.name_size
    above, below = schedule.upper - u, u - schedule.lower
    traded = np.abs(u) > np.maximum(DUST * np.abs(u).max(axis=0), 1e-6 * size)
    inside = (np.minimum(above, below) > 1e-6 * size) & traded
    completion = np.where(schedule.hard, prices.completion, 0.0)
    judged = inside.any(axis=0) & schedule.hard
    if judged.any():
        completion[judged] = np.nanmedian(np.where(inside, cost, np.nan)[:, judged], axis=0)
    least = np.where((above <= 1e-6 * size) & (below > 1e-6 * size), cost, -np.inf).max(axis=0)
    most = np.where((below <= 1e-6 * size) & (above > 1e-6 * size), cost, np.inf).min(axis=0)
    bound = schedule.hard & ~judged & (least <= most)
    completion[bound] = np.clip(completion, least, most)[bound]
    rest = completion - cost
    # A price on a bound that is missed by little costs price × miss: within ε of the cost it explains the cell.
    at_high, at_low = above <= DUST * size, below <= DUST * size
    at_high &= np.where(at_high, np.maximum(above, 0.0), 0.0) * np.abs(rest) <= slack  # never ∞ × 0
    at_low &= np.where(at_low, np.maximum(below, 0.0), 0.0) * np.abs(rest) <= slack
    held = (at_high & at_low) | (at_high & (rest > 0.0)) | (at_low & (rest < 0.0))
    return completion, np.where(held, rest, 0.0)


def box_prices(problem: BasketProblem, box: FloatArray) -> dict[str, FloatArray]:
    """Return the prices of the limits on single trades: the tightest one owns the side that binds."""
    _, _, low_owner, high_owner = trade_box(problem)
    owner = np.where(box > 0.0, high_owner, low_owner)
    return {
        limit.name: np.where(owner == number, np.abs(box), 0.0)
        for number, limit in enumerate(problem.limits)
        if isinstance(limit, TradeLimit)
    }
