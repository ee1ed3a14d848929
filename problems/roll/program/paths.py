"""From paths of a spread book in short steps to scenarios in slices.

The order that rests is small for the book: it does not change what others do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crosswind.problems.roll.model import FloatArray
from crosswind.problems.roll.program.scenarios import RollScenarios

__all__ = ["BookPaths", "to_scenarios"]


@dataclass(frozen=True, eq=False)
class BookPaths:
    """S paths over N steps, from the order's side (prices against the order > 0).

    Parameters
    ----------
    step_s
        Length of a step [s].
    own, other
        Best prices of the resting and the crossed side (S, N + 1) [whole ticks], own < other.
    own_size, other_size
        Displayed there (S, N + 1) [contracts].
    hits
        Contracts that others trade against the resting side (S, N).
    kept
        Share of the contracts ahead that is not cancelled in the step (S, N).
    volume
        Spreads that others trade in a step, expected (N,).
    leg_half, leg_size, second_half
        See :class:`RollScenarios`, at the steps (S, N + 1); the thinner leg's displayed size.
    leg_mid
        Mid of the leg that waits, against the order > 0 (S, N + 1) [points].
    """

    step_s: float
    own: FloatArray
    other: FloatArray
    own_size: FloatArray
    other_size: FloatArray
    hits: FloatArray
    kept: FloatArray
    volume: FloatArray
    leg_half: FloatArray
    leg_size: FloatArray
    second_half: FloatArray
    leg_mid: FloatArray


def follow_queue(
    paths: BookPaths, queue: float, ahead: float | None = None, *, behind: float = 0.0, follow: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Return what reaches a resting order in each step, and at which price: contracts and whole ticks, (S, N) each.

    The order joins with ``queue`` of the displayed size ahead, trades take what is ahead first, cancellations thin it
    out. Where its own side falls behind it, it stands alone; where the other side reaches its price, all of it is
    filled (inf). When the best price turns away from it, an order that follows joins anew; one that stays waits for the
    price to come back, and keeps its place.

    Parameters
    ----------
    paths
        The book.
    queue
        Share of the displayed size that is ahead of an order that joins.
    ahead
        Contracts ahead of an order that rests already; None joins the best price now.
    behind
        Ticks by which the best price has left the resting order already.
    follow
        Whether it follows the best price.
    """
    S, N = paths.hits.shape
    out, paid = np.zeros((S, N)), np.empty((S, N))
    price = paths.own[:, 0] - behind
    before = queue * paths.own_size[:, 0] if ahead is None else np.full(S, float(ahead))
    if follow and behind > 0.0:
        price, before = paths.own[:, 0], queue * paths.own_size[:, 0]
    for k in range(N):
        best, hits = paths.own[:, k], paths.hits[:, k]
        alone = best < price
        through = paths.other[:, k] <= price
        stand = np.where(alone, 0.0, before)
        got = np.where(best > price, 0.0, np.maximum(hits - stand, 0.0))
        out[:, k], paid[:, k] = np.where(through, np.inf, got), price
        before = np.where(best > price, stand, np.maximum(stand - hits, 0.0)) * paths.kept[:, k]
        if follow:
            # An order that stood alone had its step; then it follows down, and one that was left follows up.
            anew = alone | through | (paths.own[:, k + 1] > price)
            before = np.where(anew, queue * paths.own_size[:, k + 1], before)
            price = np.where(anew, paths.own[:, k + 1], price)
    return out, paid


def to_scenarios(
    paths: BookPaths,
    slices: int,
    probabilities: FloatArray,
    *,
    queue: float,
    share: float,
    leg_share: float,
    levels: int,
    tick: float,
    leg_tick: float,
    multiplier: float,
    refill_half_life_s: float,
    source: str,
    ahead: float | None = None,
    behind: float = 0.0,
    follow: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> RollScenarios:
    """Return scenarios in ``slices`` equal slices of N / slices steps each.

    Parameters
    ----------
    paths
        The book in steps.
    slices
        T, a divisor of N.
    probabilities
        (S,).
    queue, ahead, behind, follow
        See :func:`follow_queue`.
    share, leg_share
        Share of the displayed size that the order can take at a price, in the spread and in the leg books.
    levels, tick, leg_tick, multiplier, refill_half_life_s, source, facts
        See :class:`RollScenarios`.
    """
    S, N = paths.hits.shape
    each = N // slices
    starts = np.arange(slices + 1) * each
    reach, paid = follow_queue(paths, queue, ahead, behind=behind, follow=follow)
    mid = 0.5 * tick * (paths.own + paths.other)
    mid = mid - mid[:, :1]
    better = mid[:, :N] - tick * paid - (mid - 0.5 * tick * (paths.own + paths.other))[:, :1]
    # Where the book comes through, nearly all is filled there: its step counts for the slice.
    weight = np.where(np.isinf(reach), 1e9, reach).reshape(S, slices, each)
    none = weight.sum(axis=2) == 0.0
    weight[none, 0] = 1.0
    weight /= weight.sum(axis=2, keepdims=True)
    rest_drift = (weight * mid[:, :N].reshape(S, slices, each)).sum(axis=2)
    rest_half = (weight * better.reshape(S, slices, each)).sum(axis=2)
    leg = paths.leg_mid[:, starts]
    move = np.column_stack([np.diff(leg, axis=1), np.zeros(S)])
    second = paths.second_half[:, starts]
    # The second leg trades at rest when its mid comes a half-spread towards it within the slice.
    low = np.stack([paths.leg_mid[:, k : k + each + 1].min(axis=1) for k in starts[:-1]], axis=1) - leg[:, :-1]
    filled = np.column_stack([(low <= -second[:, :-1]).astype(np.float64), np.zeros(S)])
    return RollScenarios(
        dt_s=np.full(slices, each * paths.step_s),
        probabilities=probabilities,
        drift=mid[:, starts],
        half_width=0.5 * tick * (paths.other - paths.own)[:, starts],
        depth=np.maximum(share * paths.other_size[:, starts], 1.0),
        rest_drift=rest_drift,
        rest_half=rest_half,
        flow=reach.reshape(S, slices, each).sum(axis=2),
        volume=paths.volume.reshape(slices, each).sum(axis=1),
        leg_half=paths.leg_half[:, starts],
        leg_depth=np.maximum(leg_share * paths.leg_size[:, starts], 1.0),
        second_half=second,
        second_move=move,
        second_fill=filled,
        levels=levels,
        tick=tick,
        leg_tick=leg_tick,
        multiplier=multiplier,
        refill_half_life_s=refill_half_life_s,
        source=source,
        facts={"resting": "follows the best price" if follow else "stays at its price", **(facts or {})},
    )
