"""Latency with jitter, rejects and retries, the rate limit: each order's life, by hand and as invariants."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim.program import ImpactMode
from crosswind.problems.replay import MarketView, OrderRecord, ReplayMarket, ScheduledPolicy, SimulatedVenue, replay
from crosswind.problems.replay.gateway import MINUTE_NS, order_uniforms
from crosswind.problems.replay.policy import Decision, PolicyContext
from crosswind.solvers.errors import InvalidInput

S = 1_000_000_000


def flat_market(slices: int = 6, step_s: int = 60, names: str = "AB") -> ReplayMarket:
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq=f"{step_s}s", tz="UTC")
    return ReplayMarket.from_frames(pd.DataFrame(100.0, index=times, columns=list(names)), 0.01)


def once(slices: int = 6, units: float = 5.0) -> ScheduledPolicy:
    plan = np.zeros((slices, 1))
    plan[0] = units
    return ScheduledPolicy(pd.DataFrame(plan, columns=["A"]))


class Watch:
    """Send nothing and remember what could be seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[OrderRecord, ...]] = []
        self.flying: list[float] = []
        self.ages: list[list[float]] = []

    def reset(self, context: PolicyContext) -> None:
        self.__init__()  # type: ignore[misc]

    def decide(self, view: MarketView) -> Decision:
        self.seen.append(view.orders)
        self.flying.append(float(view.in_flight[0]))
        self.ages.append([view.age_s(order) for order in view.open_orders])
        return ()


def seed_with(pattern: list[bool], probability: float, slices: int = 6) -> int:
    """Return a seed under which the attempts of the first order of A are refused as in ``pattern``."""
    for seed in range(10_000):
        refused = order_uniforms(seed, "A", slices)[0, 1 : len(pattern) + 1] < probability
        if refused.tolist() == pattern:
            return seed
    raise AssertionError("no such seed")


def test_a_refused_order_is_sent_again_and_fills_later() -> None:
    market, watch = flat_market(), Watch()
    venue = SimulatedVenue(
        2.0, reject_probability=0.5, retry_delay_s=40.0, max_retries=3, seed=seed_with([True, True, False], 0.5)
    )
    result = replay(market, {"s": once(), "w": watch}, venue)
    (fill,) = result.fills
    assert fill.time_ns - result.orders[0].sent_ns == 82 * S
    assert fill.slice == 1
    order = result.orders[0]
    assert (order.state, order.attempts, order.reason, order.rest) == ("filled", 3, "refused 2 times", 0.0)
    assert watch.flying == [0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert (watch.seen[1][0].state, watch.seen[1][0].attempts, watch.seen[1][0].rest) == ("in flight", 2, 5.0)
    assert watch.ages[1] == [60.0]
    frame = result.orders_frame()
    assert frame.loc[0, ["state", "attempts", "reason"]].tolist() == ["filled", 3, "refused 2 times"]


def test_an_order_that_is_always_refused_ends_rejected_and_is_seen() -> None:
    watch = Watch()
    venue = SimulatedVenue(2.0, reject_probability=1.0, retry_delay_s=70.0, max_retries=2)
    result = replay(flat_market(), {"s": once(), "w": watch}, venue)
    assert not result.fills
    assert (result.orders[0].state, result.orders[0].attempts) == ("rejected", 3)
    assert watch.flying == [0.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0]
    assert [seen[0].state for seen in watch.seen[1:]] == ["in flight", "in flight", *["rejected"] * 4]
    assert result.positions[-1].tolist() == [0.0, 0.0]
    without = replay(flat_market(), {"s": once()}, SimulatedVenue(2.0, reject_probability=1.0))
    assert (without.orders[0].attempts, without.orders[0].reason) == (1, "refused 1 time")
    assert "1 rejected" in without.summary()


def test_what_is_still_to_be_sent_again_is_closed_by_force() -> None:
    venue = SimulatedVenue(2.0, reject_probability=1.0, retry_delay_s=200.0, max_retries=14)
    result = replay(flat_market(), {"s": once()}, venue)
    assert [(f.units, f.forced) for f in result.fills] == [(5.0, True)]
    assert result.orders[0].attempts == 2
    late = replay(
        flat_market(),
        {"s": once()},
        SimulatedVenue(2.0, close=False, reject_probability=1.0, retry_delay_s=200.0, max_retries=9),
    )
    assert late.orders[0].state == "cancelled"
    assert "no close" in late.orders[0].reason


def test_the_rate_limit_refuses_the_excess_within_a_minute() -> None:
    """Slices of 20 s, two orders a minute: the third of each minute is refused, the instrument beside is not."""
    market, watch = flat_market(7, 20), Watch()
    plan = ScheduledPolicy(pd.DataFrame({"A": np.ones(7), "B": np.ones(7)}))
    result = replay(market, {"s": plan, "w": watch}, SimulatedVenue(max_orders_per_minute={"A": 2}))
    states = [o.state for o in result.orders if o.instrument == "A"]
    assert states == ["filled", "filled", "throttled", "filled", "filled", "throttled", "filled"]
    assert all(o.state == "filled" for o in result.orders if o.instrument == "B")
    refused = next(o for o in result.orders if o.state == "throttled")
    assert refused.attempts == 0
    assert "more than 2 new orders of A within 60 s" in refused.reason
    assert any(order.state == "throttled" for order in watch.seen[3])
    assert result.positions[-1].tolist() == [5.0, 7.0]
    assert MINUTE_NS == 60 * S


def test_the_close_is_neither_throttled_nor_refused() -> None:
    class Close:
        def reset(self, context: PolicyContext) -> None:
            pass

        def decide(self, view: MarketView) -> Decision:
            return {"A": 1.0}

    venue = SimulatedVenue(max_orders_per_minute=1, reject_probability=1.0)
    result = replay(flat_market(3, 20), {"c": Close()}, venue)
    assert [o.state for o in result.orders] == ["rejected", "throttled", "throttled", "filled"]


def test_jitter_is_exponential_and_depends_on_seed_instrument_and_slice_only() -> None:
    market = flat_market(2000, 60)
    every = ScheduledPolicy(pd.DataFrame({"A": np.ones(2000), "B": np.ones(2000)}))
    venue = SimulatedVenue(1.0, latency_jitter_s={"A": 4.0}, seed=3)
    late = {n: [] for n in "AB"}
    for order in replay(market, {"s": every}, venue).orders:
        late[order.instrument].append((order.arrive_ns - order.sent_ns) / S)
    assert set(late["B"]) == {1.0}
    extra = np.array(late["A"]) - 1.0
    assert extra.min() >= 0.0
    assert extra.mean() == pytest.approx(4.0, rel=0.1)
    assert extra.std() == pytest.approx(4.0, rel=0.1)
    # An order at slice 5 arrives as it did, whatever was sent before; another seed moves it.
    rare = np.zeros((2000, 1))
    rare[5] = 1.0
    alone = ScheduledPolicy(pd.DataFrame(rare, columns=["A"]))
    (order,) = replay(market, {"s": alone}, venue).orders
    assert (order.arrive_ns - order.sent_ns) / S == late["A"][5]
    (other,) = replay(market, {"s": alone}, SimulatedVenue(1.0, latency_jitter_s=4.0, seed=4)).orders
    assert other.arrive_ns != order.arrive_ns
    # A shorter replay begins with the same draws; orders of one slice and instrument have their own.
    np.testing.assert_array_equal(order_uniforms(3, "A", 50), order_uniforms(3, "A", 9000)[:50])
    assert (order_uniforms(3, "A", 50) != order_uniforms(3, "A", 50, place=1)).all()
    two = replay(market, {"x": alone, "y": alone}, venue).orders
    assert two[0].arrive_ns == order.arrive_ns != two[1].arrive_ns


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 1.0), chance=st.floats(0.0, 0.9), limit=st.integers(1, 4))
def test_ledger_positions_and_lives_agree_with_everything_on(
    seed: int, share: float, chance: float, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    slices, names = 8, "ABF"
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq="15s", tz="UTC")
    market = ReplayMarket(
        times,
        tuple(names),
        100.0 * (1.0 + np.cumsum(rng.normal(0.0, 1e-3, (slices + 1, 3)), axis=0)),
        rng.uniform(0.005, 0.02, (slices + 1, 3)),
        rng.uniform(0.0, 60.0, (slices, 3)),
        np.array([1.0, 1.0, 50.0]),
    )
    raw = rng.normal(size=(3, 3))
    venue = SimulatedVenue(
        {"A": 2.0, "B": 20.0},
        (ImpactMode(0.01, 1e-8 * raw @ raw.T),),
        participation=share,
        fee_per_unit=0.01,
        latency_jitter_s=5.0,
        reject_probability=chance,
        retry_delay_s=4.0,
        max_retries=2,
        max_orders_per_minute=limit,
        seed=seed,
    )
    plan = pd.DataFrame(rng.integers(-40, 41, (slices, 3)).astype(float), columns=list(names))
    policies = {"s": ScheduledPolicy(plan), "w": Watch()}
    result = replay(market, policies, venue)
    done = {order.order_id: 0.0 for order in result.orders}
    held, cash, gross = np.zeros(3), [], 0.0
    for fill in result.fills:
        done[fill.order_id] += fill.units
        held[market.position_of(fill.instrument)] += fill.units
        cash += [-fill.units * fill.multiplier * fill.price, -fill.fee]
        gross += abs(fill.units) * fill.multiplier * fill.price
    for order in result.orders:
        assert order.filled == pytest.approx(done[order.order_id], abs=1e-9)
        assert order.state in {"filled", "rejected", "throttled"}
        assert (order.state == "filled") == (order.filled == pytest.approx(order.units, abs=1e-9))
        assert order.attempts <= 3
    np.testing.assert_allclose(result.positions[-1], held, atol=1e-9)
    wealth = math.fsum(cash) + float((held * market.multiplier) @ market.mid[-1])
    assert result.wealth[-1] == pytest.approx(wealth, abs=1e-9 * max(1.0, gross))
    for name in names:
        sent = [o.sent_ns for o in result.orders if o.instrument == name and o.state != "throttled"]
        for time in sent:
            assert sum(time - MINUTE_NS < other <= time for other in sent) <= limit
    assert replay(market, policies, venue).digest() == result.digest()


def test_bad_numbers_are_refused() -> None:
    for bad in (
        {"latency_jitter_s": -1.0},
        {"reject_probability": 1.5},
        {"reject_probability": {"A": math.nan}},
        {"max_retries": 1},
        {"max_retries": 1.5, "retry_delay_s": 1.0},
        {"max_retries": 15, "retry_delay_s": 1.0},
        {"retry_delay_s": math.inf},
        {"max_orders_per_minute": 0},
        {"max_orders_per_minute": {"A": 0.5}},
        {"seed": -1},
        {"seed": 0.5},
    ):
        with pytest.raises(InvalidInput):
            SimulatedVenue(**bad)  # type: ignore[arg-type]
    for unknown in (
        {"latency_jitter_s": {"Z": 1.0}},
        {"reject_probability": {"Z": 0.1}},
        {"max_orders_per_minute": {"Z": 1}},
    ):
        with pytest.raises(InvalidInput, match="unknown"):
            replay(flat_market(), {"s": once()}, SimulatedVenue(**unknown))  # type: ignore[arg-type]
