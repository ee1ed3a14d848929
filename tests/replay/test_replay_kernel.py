"""The kernel and the venue: order of events, prices, determinism, look-ahead."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim.costs import cost
from crosswind.optim.program import ImpactMode, MultistageProgram
from crosswind.problems.replay import (
    LookAheadError,
    MarketView,
    Order,
    ReplayMarket,
    ScheduledPolicy,
    SimulatedVenue,
    replay,
)
from crosswind.problems.replay.policy import Decision, PolicyContext
from crosswind.solvers.errors import InvalidInput, LimitBreach

SLICE_S = 60.0


def market_of(seed: int, slices: int = 6, names: str = "ABF", volume: float = math.inf) -> ReplayMarket:
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq="60s", tz="UTC")
    n = len(names)
    mid = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, (slices + 1, n)), axis=0))
    return ReplayMarket(
        times,
        tuple(names),
        mid,
        rng.uniform(0.005, 0.02, (slices + 1, n)),
        np.full((slices, n), volume) * (1.0 if math.isinf(volume) else rng.uniform(0.2, 1.0, (slices, n))),
        np.array([50.0 if name == "F" else 1.0 for name in names]),
    )


def flat_market(slices: int = 4, names: str = "AB") -> ReplayMarket:
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq="60s", tz="UTC")
    return ReplayMarket.from_frames(pd.DataFrame(100.0, index=times, columns=list(names)))


def psd(seed: int, n: int, size: float) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(n, n))
    return size * raw @ raw.T / n


def schedule(seed: int, slices: int, names: str = "ABF") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.integers(-50, 51, (slices, len(names))).astype(float), columns=list(names))


class Reactive:
    """Trade on what the view shows, so that any leak changes its orders."""

    def reset(self, context: PolicyContext) -> None:
        self.n = len(context.instruments)

    def decide(self, view: MarketView) -> Decision:
        signal = view.mid[-1] - view.mid.mean(axis=0) + view.half_spread[-1] + view.displacement * 100.0
        seen = view.volume.sum(axis=0) if view.slice else np.ones(self.n)
        size = np.rint(10.0 * np.tanh(signal) + np.where(np.isfinite(seen), seen, 0.0) % 3.0 - view.positions / 10.0)
        size -= np.rint(view.in_flight / 7.0) + len(view.fills) % 2
        return dict(zip(view.instruments, size.tolist(), strict=True))


VENUE = SimulatedVenue(
    latency_s={"A": 7.0, "B": 75.0},
    modes=(ImpactMode(1.0 / 120.0, psd(1, 3, 1e-7)), ImpactMode(0.0, psd(2, 3, 1e-8))),
    participation=0.5,
    fee_per_unit={"F": 1.2},
)


def test_schedule_is_executed_exactly_without_frictions() -> None:
    market, plan = market_of(0), schedule(0, 6)
    result = replay(market, {"s": ScheduledPolicy(plan)})
    np.testing.assert_array_equal(result.positions[:-1], plan.cumsum().to_numpy())
    fills = result.fills_frame()
    np.testing.assert_array_equal(
        fills["mid"], [market.mid[f.slice, market.position_of(f.instrument)] for f in result.fills]
    )
    side = np.sign(fills["units"])
    np.testing.assert_allclose(fills["price"], fills["mid"] + side * fills["half_spread"], rtol=1e-15)
    assert (result.orders_frame()["state"] == "filled").all()
    assert f"{len(result.orders)} filled" in result.summary()


def test_latency_prices_at_the_arrival_and_moves_to_a_later_slice() -> None:
    market = market_of(1)
    plan = pd.DataFrame({"A": [10.0, 0, 0, 0, 0, 0], "B": [5.0, 0, 0, 0, 0, 0]})
    result = replay(market, {"s": ScheduledPolicy(plan)}, SimulatedVenue(latency_s={"A": 15.0, "B": 90.0}))
    first, second = result.fills
    assert (first.slice, second.slice) == (0, 1)
    assert first.mid == pytest.approx(0.75 * market.mid[0, 0] + 0.25 * market.mid[1, 0], rel=1e-14)
    assert second.mid == pytest.approx(0.5 * market.mid[1, 1] + 0.5 * market.mid[2, 1], rel=1e-14)
    assert second.half_spread == market.half_spread[1, 1]
    np.testing.assert_array_equal(result.positions[:3, :2], [[0, 0], [10, 0], [10, 5]])


def test_latency_beyond_the_horizon_is_closed_or_cancelled() -> None:
    market, plan = market_of(1), pd.DataFrame({"A": [0.0, 0, 0, 0, 0, 10.0]})
    closed = replay(market, {"s": ScheduledPolicy(plan)}, SimulatedVenue(latency_s=600.0, close_spread_multiple=3.0))
    (fill,) = closed.fills
    assert fill.forced
    assert fill.price == pytest.approx(market.mid[-1, 0] + 3.0 * market.half_spread[-1, 0], rel=1e-15)
    open_end = replay(market, {"s": ScheduledPolicy(plan)}, SimulatedVenue(latency_s=600.0, close=False))
    assert not open_end.fills
    assert open_end.orders[0].state == "cancelled"


def test_participation_carries_the_remainder_in_flight() -> None:
    market = flat_market().with_(volume=np.full((4, 2), 100.0))
    plan = pd.DataFrame({"A": [25.0, 0.0, 0.0, 0.0], "B": [0.0, -3.0, 0.0, 0.0]})
    seen: list[float] = []

    class Watch:
        def reset(self, context: PolicyContext) -> None:
            seen.clear()

        def decide(self, view: MarketView) -> Decision:
            seen.append(float(view.in_flight[0]))
            return ()

    result = replay(market, {"s": ScheduledPolicy(plan), "w": Watch()}, SimulatedVenue(participation=0.1))
    assert [(f.slice, f.units) for f in result.fills if f.instrument == "A"] == [(0, 10.0), (1, 10.0), (2, 5.0)]
    assert [(f.slice, f.units) for f in result.fills if f.instrument == "B"] == [(1, -3.0)]
    assert seen == [0.0, 15.0, 5.0, 0.0, 0.0]


def test_two_orders_share_the_volume_first_come() -> None:
    market = flat_market().with_(volume=np.full((4, 2), 100.0))
    plan = pd.DataFrame({"A": [8.0, 0.0, 0.0, 0.0]})
    policies = {"x": ScheduledPolicy(plan), "y": ScheduledPolicy(plan)}
    result = replay(market, policies, SimulatedVenue(participation=0.1))
    assert [(f.policy, f.slice, f.units) for f in result.fills] == [("x", 0, 8.0), ("y", 0, 2.0), ("y", 1, 6.0)]


def test_zero_volume_leaves_all_to_the_close() -> None:
    market = flat_market().with_(volume=np.zeros((4, 2)))
    result = replay(
        market, {"s": ScheduledPolicy(pd.DataFrame({"A": [8.0, 0, 0, 0]}))}, SimulatedVenue(participation=0.1)
    )
    assert [(f.slice, f.units, f.forced) for f in result.fills] == [(4, 8.0, True)]


def test_a_trade_pays_half_its_own_impact_and_moves_the_others() -> None:
    k = np.array([[2e-6, 1e-6], [1e-6, 4e-6]])
    rate = math.log(2.0) / SLICE_S
    venue = SimulatedVenue(modes=(ImpactMode(rate, k),))
    plan = pd.DataFrame({"A": [10.0, 0, 0, 0], "B": [0.0, 5.0, 0, 0]})
    first, second = replay(flat_market(), {"s": ScheduledPolicy(plan)}, venue).fills
    assert first.price == pytest.approx(100.0 * (1.0 + 0.5 * 2e-6 * 1000.0), rel=1e-14)
    assert second.displacement_by == pytest.approx((1e-6 * 1000.0 / 2.0, 0.5 * 4e-6 * 500.0), rel=1e-12)
    frame = replay(flat_market(), {"s": ScheduledPolicy(plan)}, venue).fills_frame()
    assert frame["impact_cross"].tolist() == pytest.approx([0.0, 500.0 * 5e-4], rel=1e-12)


def test_venue_impact_equals_the_multistage_cost() -> None:
    """On a flat market the venue charges what the program of crosswind.optim counts, cross terms included."""
    market, plan = flat_market(8, "ABC"), schedule(3, 8, "ABC")
    modes = (ImpactMode(1.0 / 90.0, psd(4, 3, 1e-7)), ImpactMode(1.0 / 900.0, psd(5, 3, 1e-8)))
    result = replay(market, {"s": ScheduledPolicy(plan)}, SimulatedVenue(modes=modes))
    frame = result.fills_frame()
    program = MultistageProgram(("A", "B", "C"), np.full(8, SLICE_S), np.zeros(3), impact=modes)
    parts = cost(program, plan.to_numpy() * 100.0)
    assert frame["impact_self"].sum() + frame["impact_cross"].sum() == pytest.approx(parts.total, rel=1e-12)
    assert -result.wealth[-1] == pytest.approx(parts.total, rel=1e-9)


def test_modes_of_a_part_of_the_market() -> None:
    market, plan = market_of(2), schedule(2, 6)
    k = psd(7, 2, 1e-7)
    part = SimulatedVenue(modes=(ImpactMode(0.01, k),), mode_instruments=("F", "A"))
    whole = np.zeros((3, 3))
    whole[np.ix_([2, 0], [2, 0])] = k
    full = SimulatedVenue(modes=(ImpactMode(0.01, whole),))
    runs = [replay(market, {"s": ScheduledPolicy(plan)}, venue) for venue in (part, full)]
    assert runs[0].digest() == runs[1].digest()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), latency=st.floats(0.0, 200.0), share=st.floats(0.01, 1.0))
def test_ledger_equals_fills_and_positions(seed: int, latency: float, share: float) -> None:
    market = market_of(seed, volume=60.0)
    venue = SimulatedVenue(latency, (ImpactMode(0.01, psd(seed, 3, 1e-7)),), None, share, 0.01)
    result = replay(market, {"s": ScheduledPolicy(schedule(seed, 6)), "r": Reactive()}, venue)
    frame = result.fills_frame()
    held = frame.groupby("instrument")["units"].sum().reindex(market.instruments).fillna(0.0).to_numpy()
    np.testing.assert_allclose(result.positions[-1], held, atol=1e-9)
    paid = (frame["units"] * frame["multiplier"] * frame["price"]).sum() + frame["fee"].sum()
    marked = float((held * market.multiplier) @ market.mid[-1])
    assert result.wealth[-1] == pytest.approx(marked - paid, abs=1e-6)
    for order in result.orders:
        assert order.filled == pytest.approx(order.units, rel=1e-12)
    # no slice trades more than its share of the volume before the close
    early = frame[~frame["forced"].astype(bool)]
    used = early.assign(units=early["units"].abs()).groupby(["slice", "instrument"])["units"].sum()
    for (k, name), units in used.items():
        assert units <= share * market.volume[k, market.position_of(name)] * (1.0 + 1e-12)


def test_decisions_do_not_see_fills_of_their_own_time() -> None:
    seen: list[int] = []

    class Watch:
        def reset(self, context: PolicyContext) -> None:
            seen.clear()

        def decide(self, view: MarketView) -> Decision:
            assert all(pd.Timestamp(f.time_ns, tz="UTC") < view.now for f in view.fills)
            seen.append(len(view.fills))
            return ()

    plan = pd.DataFrame({"A": [1.0, 1.0, 1.0, 1.0]})
    replay(flat_market(), {"s": ScheduledPolicy(plan), "w": Watch()}, SimulatedVenue(latency_s=SLICE_S))
    # sent at 0 and filled at 60 s: first seen by the decision at 120 s
    assert seen == [0, 0, 1, 2, 3]


def test_identical_bytes_twice_and_in_another_process() -> None:
    def digest() -> str:
        return replay(
            market_of(3, volume=60.0), {"r": Reactive(), "s": ScheduledPolicy(schedule(3, 6))}, VENUE
        ).digest()

    assert digest() == digest()
    code = (
        "import importlib.util as u; s = u.spec_from_file_location('k', r'" + __file__ + "');"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "print(m.replay(m.market_of(3, volume=60.0), {'r': m.Reactive(), 's': m.ScheduledPolicy(m.schedule(3, 6))},"
        " m.VENUE).digest())"
    )
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert out.stdout.strip() == digest()


def poisoned(market: ReplayMarket, k: int, how: str) -> ReplayMarket:
    """Return the market with everything after ``times[k]`` spoilt: mids after k, spreads and volume from k on."""
    rng = np.random.default_rng(0)
    copy = market.with_()
    for name, start in (("mid", k + 1), ("half_spread", k), ("volume", k)):
        array = getattr(market, name).copy()
        later = array[start:]
        if how == "nan":
            array[start:] = np.nan
        elif how == "scaled":
            array[start:] = later * 1e6
        else:
            array[start:] = rng.permutation(later.ravel()).reshape(later.shape)
        object.__setattr__(copy, name, array)
    return copy


@pytest.mark.parametrize("how", ["nan", "scaled", "shuffled"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_nothing_before_t_depends_on_data_after_t(k: int, how: str) -> None:
    market = market_of(4, volume=60.0)

    def run(data: ReplayMarket) -> str:
        return replay(data, {"r": Reactive(), "s": ScheduledPolicy(schedule(3, 6))}, VENUE, until=k).digest()

    assert run(poisoned(market, k, how)) == run(market)


def test_truncated_replay_is_the_beginning_of_the_whole() -> None:
    market = market_of(4, volume=60.0)
    policies = {"r": Reactive(), "s": ScheduledPolicy(schedule(3, 6))}
    whole, part = replay(market, policies, VENUE), replay(market, policies, VENUE, until=4)
    end = int(market.times_ns[4])
    assert part.fills == tuple(f for f in whole.fills if f.time_ns < end)
    np.testing.assert_array_equal(part.positions, whole.positions[:4])
    np.testing.assert_array_equal(part.wealth, whole.wealth[:4])


def test_the_poison_test_can_fail() -> None:
    """A policy that is handed the future by its author is caught by the same check."""

    class Cheat(Reactive):
        def __init__(self, market: ReplayMarket) -> None:
            self.market = market

        def decide(self, view: MarketView) -> Decision:
            ahead = self.market.mid[min(view.slice + 2, self.market.slices)]
            return {"A": float(1.0 + np.rint(np.nan_to_num(ahead[0] - view.mid[-1, 0]) * 100.0))}

    market = market_of(4)
    bad = poisoned(market, 2, "scaled")
    runs = [replay(data, {"c": Cheat(data)}, until=2).digest() for data in (market, bad)]
    assert runs[0] != runs[1]


def test_a_policy_that_asks_for_the_future_is_stopped() -> None:
    class Peek(Reactive):
        def decide(self, view: MarketView) -> Decision:
            return {"A": float(view.mid_on(view.slice + 1)[0])}

    with pytest.raises(LookAheadError):
        replay(market_of(0), {"p": Peek()})


def test_bad_requests_are_typed() -> None:
    market = flat_market()
    plan = ScheduledPolicy(pd.DataFrame({"A": [1.0, 0, 0, 0]}))

    class Wrong(Reactive):
        def decide(self, view: MarketView) -> Decision:
            return [("A", 1.0)]  # type: ignore[list-item]

    class Unknown(Reactive):
        def decide(self, view: MarketView) -> Decision:
            return [Order("Z", 1.0)]

    for call in (
        lambda: replay(market, {}),
        lambda: replay(market, {"s": plan}, until=0),
        lambda: replay(market, {"w": Wrong()}),
        lambda: replay(market, {"u": Unknown()}),
        lambda: replay(market, {"s": plan}, SimulatedVenue(latency_s={"Z": 1.0})),
        lambda: replay(market, {"s": plan}, SimulatedVenue(modes=(ImpactMode(0.1, np.eye(3)),))),
        lambda: SimulatedVenue(latency_s=-1.0),
        lambda: SimulatedVenue(latency_s=math.nan),
        lambda: SimulatedVenue(participation=0.0),
        lambda: SimulatedVenue(participation=1.5),
        lambda: SimulatedVenue(modes=(ImpactMode(0.1, np.eye(3)), ImpactMode(0.1, np.eye(2)))),
        lambda: SimulatedVenue(modes=(ImpactMode(0.1, np.eye(3)),), mode_instruments=("A",)),
    ):
        with pytest.raises(InvalidInput):
            call()


def test_venue_refuses_modes_that_make_money() -> None:
    class Mode:
        rate_per_s = 0.1

        def __init__(self, matrix: list[list[float]]) -> None:
            self.matrix = np.array(matrix)

    for matrix in ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]], [[1.0, math.nan], [math.nan, 1.0]]):
        with pytest.raises(InvalidInput):
            SimulatedVenue(modes=(Mode(matrix),))


def test_impact_that_moves_a_price_below_zero_is_a_breach() -> None:
    plan = ScheduledPolicy(pd.DataFrame({"A": [-100.0, 0, 0, 0]}))
    with pytest.raises(LimitBreach, match="zero"):
        replay(flat_market(), {"s": plan}, SimulatedVenue(modes=(ImpactMode(0.0, np.eye(2)),)))


def test_without_impact_keeps_the_rest() -> None:
    silent = VENUE.without_impact()
    assert silent.modes == ()
    assert silent.latency_s == VENUE.latency_s
    result = replay(market_of(0), {"s": ScheduledPolicy(schedule(0, 6))}, silent)
    assert not result.displacement.any()
