"""Replays without jitter, rejects and rate limits keep their bytes.

All numbers are dyadic rationals, so every sum is exact in any order and the digests hold on every machine.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.program import ImpactMode
from crosswind.problems.replay import MarketView, ReplayMarket, ScheduledPolicy, SimulatedVenue, replay
from crosswind.problems.replay.policy import Decision, PolicyContext

SLICES = 8


def market_of(seed: int) -> ReplayMarket:
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-03-08 14:30", periods=SLICES + 1, freq="64s", tz="UTC")
    return ReplayMarket(
        times,
        ("A", "B", "F"),
        128.0 + rng.integers(-64, 65, (SLICES + 1, 3)) / 64.0,
        rng.integers(1, 9, (SLICES + 1, 3)) / 256.0,
        rng.integers(0, 64, (SLICES, 3)).astype(float),
        np.array([1.0, 1.0, 32.0]),
    )


def plan_of(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed + 100)
    return pd.DataFrame(rng.integers(-32, 33, (SLICES, 3)).astype(float), columns=["A", "B", "F"])


class Lean:
    """Sell a quarter of what is held and in flight, so that positions and orders in flight matter."""

    def reset(self, context: PolicyContext) -> None:
        self.names = context.instruments

    def decide(self, view: MarketView) -> Decision:
        size = np.rint((view.positions + view.in_flight) / -4.0) + len(view.fills) % 3
        return dict(zip(self.names, size.tolist(), strict=True))


MODE = ImpactMode(0.0, np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 1.0]]) * 2.0**-24)
VENUES = {
    "plain": SimulatedVenue(),
    "late": SimulatedVenue(latency_s={"A": 16.0, "B": 64.0, "F": 144.0}, close_spread_multiple=2.0),
    "full": SimulatedVenue(
        latency_s={"A": 8.0, "F": 96.0}, modes=(MODE,), participation=0.25, fee_per_unit={"F": 1.25}
    ),
    "open": SimulatedVenue(latency_s=32.0, participation=0.5, close=False),
}
DIGESTS = {
    ("plain", 0): "65332eb5acb06d6175de7793c90f2d7edc261bfc68e5ebe4ec8e7805af58a8eb",
    ("plain", 1): "c486ba3b4fd1d248b7724ea3db89d1c1b0735b41e0fa85d71c5a35a360414976",
    ("late", 0): "9964f136b5487a480cf53d20431bffe11cbb5cb11e8112ddf671e47e8a704acd",
    ("late", 1): "242bc205f0672cceb74e650bbe74a39e4cd6803fff6cbf3cc36cc212b46e2fc7",
    ("full", 0): "7c32172abed1ec04b0f7ec6a22d438f038b504a30ce337ea0bcb24c37087d79e",
    ("full", 1): "8e17da4889e7c86b1be5437f0907c08916818431c8bc43a1a76f57de5fe4547f",
    ("open", 0): "741f110d02685c26b152572144258174b6705021b39689caeed794a7d7ea9fdf",
    ("open", 1): "10e80dc890d313dd2075b65bbc15d92ede4b1d0f971482af30110bb745264a04",
}


@pytest.mark.parametrize(("name", "seed"), sorted(DIGESTS))
def test_bytes_are_those_of_the_first_kernel(name: str, seed: int) -> None:
    policies = {"s": ScheduledPolicy(plan_of(seed)), "l": Lean()}
    assert replay(market_of(seed), policies, VENUES[name]).digest() == DIGESTS[name, seed]
