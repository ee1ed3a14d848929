"""Set-ups, observations and a venue for the tests of the controller."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crosswind.problems.hedge.controller import (
    HedgeController,
    HedgeDecision,
    HedgeInstrument,
    HedgeObservation,
    HedgeRank,
    HedgeRegime,
    HedgeSetup,
    OrderReport,
)

PRICE = 5000.0
VALUE = 50.0 * PRICE  # of a contract
SCALE = 1e7
REGIMES = (
    HedgeRegime(),
    HedgeRegime("stress", sigma=5.0, spread=3.0, temporary=2.0, gap_cap=0.5, liquidity_floor=0.5, most_of_gap=0.25),
)


def future(name: str = "ES", **change: Any) -> HedgeInstrument:
    return HedgeInstrument(name, **({"multiplier": 50.0, "clip": 4e6, "temporary": 1e-11} | change))


def setup_of(*futures: HedgeInstrument, **change: Any) -> HedgeSetup:
    given = {
        "scale": SCALE,
        "risk_aversion": 1e-5,
        "covariance_per_s": 1e-8,
        "horizon": 12,
        "decay_per_s": [1.0 / 120.0],
        "gap_cap": 2e7,
        "regimes": REGIMES,
    }
    futures = futures or (future(),)
    m = len(futures)
    given["impact"] = 1e-11 * (np.eye(m) + 0.3 * np.ones((m, m)))[None]
    return HedgeSetup(futures, **(given | change))  # type: ignore[arg-type]


def seen_of(time_s: float = 0.0, required: Any = SCALE, m: int = 1, **change: Any) -> HedgeObservation:
    """Return an observation; the plan holds the requirement for 20 slices where none is given."""
    needed = tuple(np.atleast_1d(np.asarray(required, dtype=float)).tolist())
    given = {"plan": np.tile(needed, (20, 1)), "mid": (PRICE,) * m, "half_spread": (1e-5,) * m}
    return HedgeObservation(time_s, needed, **(given | change))


@dataclass
class Venue:
    """Fills late, in parts or not at all, and reports twice, late and out of order; keeps the true position."""

    m: int
    seed: int = 0
    hostile: bool = True
    position: np.ndarray = field(init=False)
    live: dict[str, list[float]] = field(default_factory=dict)  # id: [instrument, contracts, filled]
    queue: list[OrderReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.position, self.rng = np.zeros(self.m), np.random.default_rng(self.seed)

    def take(self, decision: HedgeDecision, names: list[str]) -> None:
        for order in decision.orders:
            self.live[order.id] = [names.index(order.instrument), order.contracts, 0.0]

    def reports(self) -> tuple[OrderReport, ...]:
        for name, (j, contracts, filled) in list(self.live.items()):
            draw = self.rng.random() if self.hostile else 0.9
            if draw < 0.15:
                continue  # late
            if draw < 0.3:
                self.queue.append(OrderReport(name, filled, True))  # rejected, or the rest of it
                del self.live[name]
                continue
            more = contracts - filled if draw > 0.6 else math.copysign(1.0, contracts)
            filled += more
            self.position[int(j)] += more
            self.live[name][2] = filled
            self.queue.append(OrderReport(name, filled))
            if filled == contracts:
                self.queue.append(OrderReport(name, filled, True))
                del self.live[name]
        if not self.hostile:
            out, self.queue = self.queue, []
            return tuple(out)
        now = [r for r in self.queue if r.done or self.rng.random() < 0.7]
        self.queue = [r for r in self.queue if r not in now]
        again = [r for r in now if self.rng.random() < 0.3]
        shuffled = [*now, *again]
        self.rng.shuffle(shuffled)  # type: ignore[arg-type]
        return tuple(OrderReport(*r) for r in shuffled)

    def drain(self) -> tuple[OrderReport, ...]:
        """Return what is still to be told."""
        out, self.queue = self.queue, []
        return tuple(out)


class Umpire:
    """Holds decisions against the limits from what was sent alone, by code of its own."""

    def __init__(self, setup: HedgeSetup) -> None:
        self.setup = setup
        m = len(setup.instruments)
        self.slice, self.total, self.before, self.gross = 0, np.zeros(m), np.zeros(m), np.zeros(m)
        self.stamps: deque[float] = deque()
        self.sent = 0

    def judge(self, slice_now: int, time_s: float, value: np.ndarray, decision: HedgeDecision) -> None:
        setup = self.setup
        if slice_now != self.slice:
            self.before = self.total if slice_now == self.slice + 1 else np.zeros_like(self.total)
            self.total, self.gross, self.slice = np.zeros_like(self.total), np.zeros_like(self.total), slice_now
        assert isinstance(decision.rank, HedgeRank)
        assert decision.reason
        if decision.rank is HedgeRank.HOLD:
            assert not decision.orders
        names = [i.name for i in setup.instruments]
        for order in decision.orders:
            j = names.index(order.instrument)
            instrument, lots = setup.instruments[j], order.contracts / setup.instruments[j].lot
            assert lots == round(lots) != 0
            assert abs(lots) <= instrument.order_lots
            self.total[j] += lots
            self.gross[j] += abs(lots)
            assert self.gross[j] * value[j] <= instrument.clip * (1 + 1e-9)
            change, turned = abs(self.total[j] - self.before[j]), self.total[j] * self.before[j] < 0
            assert change * value[j] <= instrument.rate * (1 + 1e-9) + 1e-6 or (
                abs(self.total[j]) < abs(self.before[j]) and not turned
            )
            self.stamps.append(time_s)
            self.sent += 1
        while self.stamps and self.stamps[0] <= time_s - setup.message_window_s:
            self.stamps.popleft()
        assert len(self.stamps) <= setup.messages


def names_of(controller: HedgeController) -> list[str]:
    return [i.name for i in controller.setup.instruments]
