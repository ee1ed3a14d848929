"""Scenarios from what happened: blocks of past roll days, the first of them like the present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.roll.model import FloatArray, RollMarket
from crosswind.problems.roll.program.draw import RollPresent
from crosswind.problems.roll.program.paths import BookPaths, to_scenarios
from crosswind.problems.roll.program.scenarios import RollScenarios
from crosswind.problems.roll.program.statistics import RollStatistics
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["bootstrap_scenarios"]

_LIKE = 0.25  # share of the candidates, the nearest to the present, from which the first block is drawn


def bootstrap_scenarios(
    markets: Sequence[RollMarket],
    *,
    slices: int,
    slice_s: float,
    count: int = 200,
    seed: int = 0,
    present: RollPresent | None = None,
    statistics: RollStatistics | None = None,
    block_s: float = 900.0,
    window: float = 0.2,
    center: bool = True,
    follow: bool = True,
) -> RollScenarios:
    """Return scenarios put together from blocks of past roll days.

    Within a block prices, sizes, flow and cancellations are those of one day, so that what goes together stays
    together; blocks follow each other where the price was left. The first one is drawn among those that begin in a book
    most like the present one (width, displayed size, recent volume), all among those that begin at about the same time
    of the session.

    Parameters
    ----------
    markets
        Past sessions with bars of one length.
    slices, slice_s
        T and the length of a slice [s], rounded to whole bars.
    count, seed
        S, and an integer of 0 or more.
    present
        Default: the middle of a session, buying.
    statistics
        For what books do not show (queue, shares, levels, refill); default estimated from the markets.
    block_s
        Length of a block [s].
    window
        Blocks begin within this fraction of the session around the time that they stand for.
    center
        Takes the mean over the scenarios from the basis: a few days' trend is luck.
    follow
        Whether an order at rest follows the best price, or stays and waits for it to come back.

    Raises
    ------
    InvalidInput
        Without a market, with bars of different lengths, counts below 1, a slice shorter than half a bar.
    DataGap
        Where every session is shorter than a block.
    """
    if not markets:
        raise InvalidInput("there is no session", field="markets", value=0, remedy="pass one or more past days")
    bar_s = markets[0].bar_s
    if any(m.bar_s != bar_s for m in markets):
        raise InvalidInput("have bars of different lengths", field="markets", value=bar_s, remedy="pass one length")
    for name, value in (("slices", slices), ("count", count)):
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise InvalidInput("is not a count", field=name, value=value, remedy="pass an integer of 1 or more")
    each = round(slice_s / bar_s) if np.isfinite(slice_s) else 0
    if each < 1:
        raise InvalidInput("is shorter than a bar", field="slice_s", value=slice_s, remedy=f"pass {bar_s:g} s or more")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("is not a seed", field="seed", value=seed, remedy="pass an integer of 0 or more")
    now = RollPresent() if present is None else present
    st = RollStatistics.from_markets(markets) if statistics is None else statistics
    length = max(1, round(block_s / bar_s))
    if not any(m.bars > length for m in markets):
        raise DataGap(
            "every session is shorter than a block", field="block_s", value=block_s, remedy="shorten the blocks"
        )
    paths = _paths(markets, st, now, int(count), int(slices) * each, length, window, int(seed))
    out = to_scenarios(
        paths,
        int(slices),
        np.full(int(count), 1.0 / count),
        queue=st.queue,
        share=st.share,
        leg_share=st.leg_share,
        levels=st.levels,
        tick=markets[0].tick,
        leg_tick=markets[0].leg_tick,
        multiplier=markets[0].multiplier,
        refill_half_life_s=st.refill_half_life_s,
        source=f"blocks of {block_s:g} s from {len(markets)} roll days ({markets[0].source})",
        ahead=now.ahead,
        behind=now.behind,
        follow=follow,
        facts={"seed": int(seed), "days": len(markets)},
    )
    if not center:
        return out
    trend = out.drift.mean(axis=0)
    middle = 0.5 * (trend[:-1] + trend[1:])
    return replace(out, drift=out.drift - trend, rest_drift=out.rest_drift - middle)


def _paths(
    markets: Sequence[RollMarket],
    st: RollStatistics,
    now: RollPresent,
    S: int,
    N: int,
    length: int,
    window: float,
    seed: int,
) -> BookPaths:
    g = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(7202,))))
    dt = markets[0].bar_s
    starts = [(d, k) for d, m in enumerate(markets) for k in range(0, m.bars - length, max(1, length // 4))]
    fraction = np.array([(k + 1) * dt / now.session_s for _, k in starts])
    likeness = _likeness(markets, starts, st, now)
    side = now.side
    names = ("own", "other", "own_size", "other_size", "leg_half", "leg_size", "second_half", "leg_mid")
    level = {name: np.empty((S, N + 1)) for name in names}
    hits, kept = np.empty((S, N)), np.empty((S, N))
    volume = np.zeros(N)
    books = [_sides(m, side, st) for m in markets]
    for s in range(S):
        at, price, leg = 0, 0.0, 0.0
        while at < N:
            part = now.fraction + at * dt / now.session_s
            near = np.flatnonzero(np.abs(fraction - part) <= window)
            if len(near) == 0:  # later than any past block of that time: the nearest ones
                near = np.argsort(np.abs(fraction - part), kind="stable")[: max(1, len(starts) // 10)]
            if at == 0:
                order = near[np.argsort(likeness[near], kind="stable")]
                near = order[: max(1, int(np.ceil(_LIKE * len(order))))]
            day, k = starts[int(near[g.integers(len(near))])]
            take = min(length, N - at)
            book = books[day]
            rows = slice(k, k + take + 1)
            for name in names:
                level[name][s, at : at + take + 1] = book[name][rows]
            level["own"][s, at : at + take + 1] += price - book["own"][k]
            level["other"][s, at : at + take + 1] += price - book["own"][k]
            level["leg_mid"][s, at : at + take + 1] += leg - book["leg_mid"][k]
            hits[s, at : at + take] = book["hits"][k + 1 : k + take + 1]
            kept[s, at : at + take] = book["kept"][k + 1 : k + take + 1]
            volume[at : at + take] += book["volume"][k + 1 : k + take + 1] / S
            at += take
            price, leg = float(level["own"][s, at]), float(level["leg_mid"][s, at])
    level["other"][:, 0] = level["own"][:, 0] + now.width_ticks
    for name, ratio in (("own_size", now.own_size), ("other_size", now.other_size)):
        level[name][:, 0] = ratio * st.depth * now.stress**-st.depth_power
    return BookPaths(step_s=dt, hits=hits, kept=kept, volume=volume, **level)


def _likeness(
    markets: Sequence[RollMarket], starts: list[tuple[int, int]], st: RollStatistics, now: RollPresent
) -> FloatArray:
    """Return the distance of each block's first book to the present one."""
    size = 0.5 * (now.own_size + now.other_size) * st.depth * now.stress**-st.depth_power
    wanted = np.log([now.width_ticks, max(size, 1.0), max(now.activity, 0.05)])
    out = np.empty(len(starts))
    for i, (d, k) in enumerate(starts):
        m = markets[d]
        back = slice(max(0, k - round(600.0 / m.bar_s)), k + 1)
        usual = max(float(m.volume.mean()), 1e-9)
        here = (
            max(1.0, (m.ask[k] - m.bid[k]) / m.tick),
            max(1.0, 0.5 * (m.bid_size[k] + m.ask_size[k])),
            max(0.05, float(m.volume[back].mean()) / usual),
        )
        out[i] = float(np.abs(np.log(here) - wanted).sum())
    return out


def _sides(m: RollMarket, side: int, st: RollStatistics) -> dict[str, NDArray[np.float64]]:
    """Return a day's book from the order's side."""
    bid, ask = np.rint(m.bid / m.tick), np.rint(m.ask / m.tick)
    own, other = (bid, ask) if side > 0 else (-ask, -bid)
    one, two = (m.bid_size, m.ask_size) if side > 0 else (m.ask_size, m.bid_size)
    hits = m.sold if side > 0 else m.bought
    gone = m.cancelled[:, 0 if side > 0 else 1]
    standing = np.maximum(np.append(one[0], one[:-1]) - hits, 1.0)
    half = 0.5 * (m.leg_ask - m.leg_bid)
    mids = m.leg_mid
    offset = side * (mids[:, 1] - mids[:, 0] - m.mid)
    return {
        "own": own,
        "other": other,
        "own_size": np.maximum(one, 1.0),
        "other_size": np.maximum(two, 1.0),
        "hits": hits,
        "kept": 1.0 - np.minimum(gone / standing, 1.0),
        "volume": m.volume,
        "leg_half": half.sum(axis=1) + offset,
        "leg_size": np.maximum(np.minimum(m.leg_bid_size, m.leg_ask_size).min(axis=1), 1.0),
        "second_half": half.max(axis=1),
        "leg_mid": side * mids[:, 1],
    }
