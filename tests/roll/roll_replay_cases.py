"""Small markets and scripted policies for the tests of the roll's replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll import RollAction, RollMarket, RollOrder, RollState
from crosswind.problems.roll.churn import ChurnLimits
from crosswind.problems.roll.replay import RollEpisode, RollReplayConfig, RollVenue

OPEN = pd.Timestamp("2024-03-08 14:30", tz="UTC")
BID, ASK = -120, -119  # spread ticks of 0.05
TICK, C = 0.05, 50.0

#: A venue without chance, delay or fees: what happens can be worked out by hand.
PLAIN = RollVenue(
    latency_s=0.0,
    latency_jitter_s=0.0,
    reject_probability=0.0,
    queue=1.0,
    participation=0.5,
    leg_participation=0.5,
    forced_participation=0.5,
    levels=3,
    refill_half_life_s=float("inf"),
    fee_per_contract=0.0,
)
FREE = ChurnLimits(dwell_s=0.0, max_replaces_per_minute=1000, cooldown_s=0.0)


def flat_market(bars: int = 13, bar_s: float = 10.0, **changed: Any) -> RollMarket:
    """Return bars without a move: spread at −6.00/−5.95, 100 a side, near at 1800, far at 1794, a tick wide each."""
    one, two = np.ones(bars), np.ones((bars, 2))
    columns: dict[str, Any] = {
        "bid": BID * TICK * one,
        "ask": ASK * TICK * one,
        "bid_size": 100.0 * one,
        "ask_size": 100.0 * one,
        "sold": 0.0 * one,
        "bought": 0.0 * one,
        "cancelled": 0.0 * two,
        "leg_bid": two * [1800.0, 1794.0],
        "leg_ask": two * [1800.25, 1794.25],
        "leg_bid_size": 200.0 * two,
        "leg_ask_size": 100.0 * two,
        "leg_volume": 0.0 * two,
    }
    columns.update(changed)
    times = pd.date_range(OPEN, periods=bars, freq=pd.Timedelta(bar_s, "s")).as_unit("ns")
    return RollMarket(
        times=times,
        bar_s=bar_s,
        **columns,
        tick=TICK,
        leg_tick=0.25,
        multiplier=C,
        legs=("202403", "202406"),
        source="made by hand",
    )


def episode(
    market: RollMarket, quantity: int = 100, first: int = 0, last: int | None = None, **order: Any
) -> RollEpisode:
    """Return an order from bar ``first`` to bar ``last``."""
    end = market.bars - 1 if last is None else last
    made = RollOrder("hand", quantity, market.times[first], market.times[end], **order)
    return RollEpisode("hand", market, made, "day")


def plain(churn: ChurnLimits = FREE, **venue: Any) -> RollReplayConfig:
    """Return the plain venue with some rules changed."""
    return RollReplayConfig(venue=replace(PLAIN, **venue), churn=churn)


class Scripted:
    """Acts as told by the number of the decision, and keeps what it saw."""

    name = "scripted"

    def __init__(self, script: Mapping[int, RollAction] | Callable[[RollState], RollAction]) -> None:
        self.script = script
        self.seen: list[RollState] = []
        self.actions: list[RollAction] = []

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        self.seen, self.actions = [], []
        self.known = market

    def decide(self, state: RollState) -> RollAction:
        self.seen.append(state)
        if isinstance(self.script, Mapping):
            action = self.script.get(len(self.seen) - 1, RollAction())
        else:
            action = self.script(state)
        self.actions.append(action)
        return action
