"""Roll days as episodes: one order in one market, with the day as the block of the bootstrap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.simulator.sessions import quarterly_expiries
from crosswind.problems.market.simulator.spread_book import RollDay
from crosswind.problems.market.simulator.spread_book_days import simulate_roll
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.worlds_table import world as world_of
from crosswind.problems.roll.model import RollMarket, RollOrder
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["STRESS_RATES", "RollEpisode", "market_of_day", "roll_episodes", "stressed"]

#: Share of the simulated days on which each stress is on; the rest is calm.
STRESS_RATES: Mapping[str, float] = {"jumps": 0.1, "thin": 0.1, "one_sided": 0.1}
SIZES = (100, 200, 500, 1000, 2000, 5000)
WINDOWS_MIN = (60, 90, 120, 180)
_DAYS_BEFORE = (9, 8, 7, 4, 3, 2)  # of the near's Friday: the sessions between which volume moves
_YEARS = range(2015, 2026)
_SESSION_S = 23400.0
_OPENING_S, _CLOSING_S = 900.0, 300.0  # of the session, in which no order starts and none ends


@dataclass(frozen=True, eq=False)
class RollEpisode:
    """One order of a roll day.

    Parameters
    ----------
    name
        Distinct within a set.
    market
        The session; orders of one day share it.
    order
        The order.
    block
        The day: what the bootstrap draws.
    stress
        'calm' or the stress of the day.
    seed
        Of the venue's draws.
    arrival_s
        The arrival price is the median of the spread's mids in this time up to the start [s]; 0 takes the last one.

    Raises
    ------
    InvalidInput
        For an order that lies outside the session.
    DataGap
        Where no bar is known at the start, or none ends between start and cutoff.
    """

    name: str
    market: RollMarket = field(repr=False)
    order: RollOrder
    block: str
    stress: str = "calm"
    seed: int = 0
    arrival_s: float = 0.0
    first: int = field(init=False)
    last: int = field(init=False)

    def __post_init__(self) -> None:
        times = self.market.times
        first = int(times.searchsorted(self.order.start, side="right")) - 1
        last = int(times.searchsorted(self.order.cutoff, side="right")) - 1
        if first < 0:
            raise DataGap(
                "no bar is known at the start",
                field="start",
                value=str(self.order.start),
                remedy=f"start at or after {times[0]}",
            )
        if self.order.cutoff > times[-1]:
            raise DataGap(
                "lies after the last bar of the session",
                field="cutoff",
                value=str(self.order.cutoff),
                remedy=f"end at or before {times[-1]}",
            )
        if last <= first:
            raise DataGap(
                "no bar ends between start and cutoff",
                field="cutoff",
                value=(str(self.order.start), str(self.order.cutoff)),
                remedy=f"leave at least one bar of {self.market.bar_s:g} s",
            )
        if not (np.isfinite(self.arrival_s) and self.arrival_s >= 0.0):
            raise InvalidInput(
                "is not a time", field="arrival_s", value=self.arrival_s, remedy="pass 0 or more seconds"
            )
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "last", last)

    @property
    def bars(self) -> int:
        """Bars in which the order may trade; the decisions come at the ends of ``first`` … ``last − 1``."""
        return self.last - self.first

    @property
    def arrival(self) -> float:
        """Arrival price of the spread [points]."""
        market, first = self.market, self.first
        if self.arrival_s == 0.0:
            return float(0.5 * (market.bid[first] + market.ask[first]))
        since = market.times[first] - pd.Timedelta(round(self.arrival_s * 1e9), "ns")
        low = min(int(market.times.searchsorted(since, side="right")), first)
        return float(np.median(0.5 * (market.bid[low : first + 1] + market.ask[low : first + 1])))


def market_of_day(day: RollDay, bar_s: float, multiplier: float, outright_tick: float) -> RollMarket:
    """Return the books of a simulated session as a roll's market."""
    book, legs = day.book, day.legs
    shown = np.maximum(book.displayed, 0).astype(np.float64)
    return RollMarket(
        times=day.index,
        bar_s=bar_s,
        bid=(day.bid_ticks * day.tick).astype(np.float64),
        ask=(day.ask_ticks * day.tick).astype(np.float64),
        bid_size=shown[:, 0],
        ask_size=shown[:, 1],
        sold=book.consumed[:, 0].astype(np.float64),
        bought=book.consumed[:, 1].astype(np.float64),
        cancelled=book.cancelled.astype(np.float64),
        leg_bid=legs.bid,
        leg_ask=legs.ask,
        leg_bid_size=legs.bid_size,
        leg_ask_size=legs.ask_size,
        leg_volume=legs.volume,
        tick=day.tick,
        leg_tick=outright_tick,
        multiplier=multiplier,
        legs=(day.near, day.far),
        source="simulated listed spread",
    )


def stressed(parameters: RollParameters, stress: str) -> RollParameters:
    """Return the parameters of a stressed day.

    'jumps': four times as many shocks, half as large again; 'thin': a third of the depth, which takes three times as
    long to refill, and a fifth of the volume; 'one_sided': nine aggressors in ten buy (or sell, with a coin's toss).

    Raises
    ------
    InvalidInput
        For an unknown stress.
    """
    p = parameters
    kinds: dict[str, dict[str, Any]] = {
        "calm": {},
        "jumps": {"jumps_per_day": 4.0 * p.jumps_per_day, "jump_vol_points": 1.5 * p.jump_vol_points},
        "thin": {
            "depth_contracts": p.depth_contracts / 3.0,
            "refill_half_life_s": 3.0 * p.refill_half_life_s,
            "spread_volume_per_day": p.spread_volume_per_day / 5.0,
        },
        "one_sided": {"one_sidedness": 0.8},
    }
    if stress not in kinds:
        raise InvalidInput("is no stress", field="stress", value=stress, remedy=f"use one of {', '.join(kinds)}")
    return replace(p, **kinds[stress])


def roll_episodes(
    count: int,
    seed: int = 0,
    parameters: RollParameters | None = None,
    *,
    world: str = "roll_day",
    stress: Mapping[str, float] | None = None,
    bar_s: float = 10.0,
    orders_per_day: int = 4,
    sizes: Sequence[int] = SIZES,
    windows_min: Sequence[int] = WINDOWS_MIN,
    naked_share: float = 0.1,
) -> tuple[RollEpisode, ...]:
    """Draw orders on simulated roll days.

    A day lies 9 to 2 days before one of the quarterly expiries of 2015 … 2025, is calm or stressed by chance, and gives
    ``orders_per_day`` orders of either side. Day d depends on the seed and d alone: a longer set begins with the
    shorter one.

    Parameters
    ----------
    count
        Number of episodes.
    seed
        Integer of 0 or more.
    parameters
        Numbers of the books; default those of ``world``.
    world
        Declared world.
    stress
        Stress → share of days; default :data:`STRESS_RATES`. An empty mapping makes every day calm.
    bar_s
        Length of a bar [s].
    orders_per_day
        Orders that share one day.
    sizes, windows_min
        What quantity [spreads] and window [min] are drawn from, each with the same chance.
    naked_share
        ``max_naked`` of the orders over their size.

    Returns
    -------
    tuple of RollEpisode

    Raises
    ------
    InvalidInput
        On a number out of range, an unknown world or stress, a window that the session cannot hold.
    """
    for name, value in (("count", count), ("orders_per_day", orders_per_day)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise InvalidInput("is not a count", field=name, value=value, remedy="pass an integer of 1 or more")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("is not a seed", field="seed", value=seed, remedy="pass an integer of 0 or more")
    if parameters is None:
        parameters = world_of(world).roll
        if parameters is None:
            raise InvalidInput("has no roll", field="world", value=world, remedy="use 'roll_day' or pass parameters")
    rates = dict(STRESS_RATES if stress is None else stress)
    if any(not (np.isfinite(rate) and rate >= 0.0) for rate in rates.values()) or sum(rates.values()) > 1.0 + 1e-12:
        raise InvalidInput("are not shares of days", field="stress", value=rates, remedy="pass shares with a sum ≤ 1")
    if not 0.0 <= naked_share <= 1.0:
        raise InvalidInput("is not a share", field="naked_share", value=naked_share, remedy="pass a number from 0 to 1")
    if not (np.isfinite(bar_s) and bar_s > 0.0 and abs(_SESSION_S / bar_s - round(_SESSION_S / bar_s)) < 1e-9):
        raise InvalidInput(
            f"does not divide the session of {_SESSION_S:g} s",
            field="bar_s",
            value=bar_s,
            remedy="pass e.g. 5, 10 or 60",
        )
    base = replace(parameters, bar_s=bar_s)
    for kind in rates:
        stressed(base, kind)
    out: list[RollEpisode] = []
    for number in range(-(-count // orders_per_day)):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(7001, number))))
        kind = _stress_of(generator.random(), rates)
        day = _date_of(generator)
        drawn = stressed(base, kind)
        if kind == "one_sided" and generator.random() < 0.5:  # short rollers crowd as well
            drawn = replace(drawn, one_sidedness=-drawn.one_sidedness)
        inner = int(generator.integers(2**31))
        session = simulate_roll(drawn, days=1, seed=inner, start=day, session_s=_SESSION_S).days[0]
        market = market_of_day(session, bar_s, base.multiplier, base.outright_tick)
        for place in range(min(orders_per_day, count - len(out))):
            order = _order(generator, market, sizes, windows_min, naked_share, f"{number:05d}-{place}")
            out.append(RollEpisode(order.name, market, order, f"{number:05d}", kind, inner + place))
    return tuple(out)


def _stress_of(u: float, rates: Mapping[str, float]) -> str:
    for kind, rate in rates.items():
        if u < rate:
            return kind
        u -= rate
    return "calm"


def _date_of(generator: np.random.Generator) -> dt.date:
    year = int(generator.choice(_YEARS))
    month = int(generator.choice((3, 6, 9, 12)))
    friday = quarterly_expiries(dt.date(year, month, 1), 1)[0]
    return friday - dt.timedelta(days=int(generator.choice(_DAYS_BEFORE)))


def _order(
    generator: np.random.Generator,
    market: RollMarket,
    sizes: Sequence[int],
    windows_min: Sequence[int],
    naked_share: float,
    name: str,
) -> RollOrder:
    size = int(generator.choice(np.asarray(sizes)))
    window_s = 60.0 * float(generator.choice(np.asarray(windows_min)))
    side = 1 if generator.random() < 0.5 else -1
    u = float(generator.random())
    bar_s = market.bar_s
    room = market.bars * bar_s - _OPENING_S - _CLOSING_S - window_s
    if room < 0.0:
        raise InvalidInput(
            "does not fit into the session",
            field="windows_min",
            value=window_s / 60.0,
            remedy=f"pass at most {(market.bars * bar_s - _OPENING_S - _CLOSING_S) / 60.0:.0f} minutes",
        )
    at = int((_OPENING_S + u * room) // bar_s)
    start = market.times[at]
    return RollOrder(
        name=name,
        quantity=side * size,
        start=start,
        cutoff=start + pd.Timedelta(round(window_s * 1e9), "ns"),
        max_naked=int(np.ceil(naked_share * size)),
    )
