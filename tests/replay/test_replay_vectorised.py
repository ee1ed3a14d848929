"""The vectorised execution against the event kernel, episode by episode, with everything on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.program import ImpactMode
from crosswind.problems.replay import (
    AffinePolicy,
    MarketView,
    Order,
    ReplayBatch,
    ReplayMarket,
    ReplayResult,
    SimulatedVenue,
    replay,
    replay_batch,
)
from crosswind.problems.replay.policy import Decision, PolicyContext
from crosswind.solvers.errors import InvalidInput, LimitBreach

NAMES = ("A", "B", "F")
N = len(NAMES)


class Affine:
    """The affine policy of one episode and one set of parameters, as a policy of the event kernel."""

    def __init__(self, policy: AffinePolicy, p: int, e: int) -> None:
        def knob(name: str) -> Any:
            array = getattr(policy, name)
            array = array[p if len(array) > 1 else 0]
            return array[e if len(array) > 1 else 0]

        self.knob = {name: knob(name) for name in ("feed", "gain", "threshold", "clip", "pull", "closing")}
        self.of = {
            name: getattr(policy, name)[e]
            for name in ("schedule", "target", "position_weight", "flight_weight", "close_flight_weight")
        }

    def reset(self, context: PolicyContext) -> None:
        self.names, self.slices = context.instruments, len(self.of["schedule"])
        self.lead = self.slices - (len(context.times) - 1)

    def decide(self, view: MarketView) -> Decision:
        k, of = self.lead + view.slice, self.of
        if view.closing:
            gap = of["target"][k] + of["position_weight"] @ view.positions + of["close_flight_weight"] @ view.in_flight
            units = np.broadcast_to(self.knob["closing"], N) * gap
        else:
            knob = {
                name: np.broadcast_to(array, (self.slices, N))[k]
                for name, array in self.knob.items()
                if name != "closing"
            }
            gap = of["target"][k] + of["position_weight"] @ view.positions + of["flight_weight"] @ view.in_flight
            gap = np.where(np.abs(gap) > knob["threshold"], gap, 0.0)
            free = knob["feed"] + knob["gain"] * gap + knob["pull"] * view.displacement
            units = of["schedule"][k] + np.clip(free, -knob["clip"], knob["clip"])
        return [Order(name, float(x)) for name, x in zip(self.names, units, strict=True) if x != 0.0]


def market_of(rng: np.random.Generator, slices: int, step_s: float) -> ReplayMarket:
    gaps = np.rint(rng.uniform(0.5, 1.5, slices) * step_s) if rng.random() < 0.5 else np.full(slices, step_s)
    offsets = np.concatenate([[0.0], np.cumsum(gaps)])
    times = pd.Timestamp("2024-03-08 14:30", tz="UTC") + pd.to_timedelta(offsets, unit="s")
    volume = rng.uniform(0.0, 60.0, (slices, N)) * (rng.random((slices, N)) < 0.8)
    volume[:, 0] = np.inf if rng.random() < 0.3 else volume[:, 0]
    return ReplayMarket(
        pd.DatetimeIndex(times),
        NAMES,
        100.0 * (1.0 + np.cumsum(rng.normal(0.0, 1e-3, (slices + 1, N)), axis=0)),
        rng.uniform(0.005, 0.02, (slices + 1, N)),
        volume,
        np.array([1.0, 1.0, 50.0]),
    )


def venue_of(rng: np.random.Generator, step_s: float, modes: int, close: bool) -> SimulatedVenue:
    """Draw a venue: latencies from nothing to several slices, some exact multiples of a slice."""
    latency = {name: float(rng.choice([0.0, 0.1, 1.0, 2.0, 0.37, 3.3])) * step_s for name in NAMES}
    raw = [rng.normal(size=(N, N)) for _ in range(modes)]
    return SimulatedVenue(
        latency_s=latency,
        modes=tuple(ImpactMode(float(rng.choice([0.0, 0.1, 0.003])), 1e-8 * r @ r.T) for r in raw),
        participation=None if rng.random() < 0.3 else {"A": 0.5, "B": 0.2, "F": 0.9},
        fee_per_unit={"F": 1.2, "A": 0.01},
        close=close,
        close_spread_multiple=float(rng.choice([1.0, 2.5])),
        latency_jitter_s=0.0 if rng.random() < 0.4 else {"B": 0.5 * step_s, "F": 0.2 * step_s},
        reject_probability=0.0 if rng.random() < 0.3 else {"A": 0.3, "F": 0.6},
        retry_delay_s=float(rng.choice([0.25, 1.0, 1.7])) * step_s,
        max_retries=int(rng.integers(0, 4)),
        max_orders_per_minute=None if rng.random() < 0.4 else {"F": 2, "B": 1},
        seed=int(rng.integers(0, 1000)),
    )


def policy_of(rng: np.random.Generator, policies: int, lead: list[int], slices: int) -> AffinePolicy:
    """Draw a policy that does nothing in the slices by which an episode was filled up."""
    episodes = len(lead)
    live = np.arange(slices)[None, :, None] >= np.array(lead)[:, None, None]

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) * (rng.random(shape) < 0.7)

    return AffinePolicy(
        schedule=np.rint(20.0 * normal(episodes, slices, N)) * live,
        target=30.0 * normal(episodes, slices + 1, N),
        position_weight=-np.eye(N) + 0.2 * normal(episodes, N, N),
        flight_weight=-np.eye(N) + 0.1 * normal(episodes, N, N),
        close_flight_weight=-np.eye(N) + 0.1 * normal(episodes, N, N),
        feed=3.0 * normal(policies, 1, slices, 1) * (live if any(lead) else 1.0),
        gain=rng.uniform(0.0, 0.6, (policies, 1, 1, N))
        * (rng.random((1, 1, slices, 1)) < 0.8)
        * (live if any(lead) else 1.0),
        threshold=rng.uniform(0.0, 15.0, (policies, episodes, 1, 1)),
        clip=rng.uniform(5.0, 40.0, (1, episodes, 1, N)),
        pull=100.0 * normal(1, 1, 1, N),
        closing=(rng.random((policies, 1, N)) < 0.7).astype(float),
    )


def close(got: Any, want: Any, scale: float) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * scale)


def compare(markets: list[ReplayMarket], venues: list[SimulatedVenue], policy: AffinePolicy) -> list[ReplayResult]:
    """Hold every episode and set of parameters against its replay; return the replays."""
    out = replay_batch(ReplayBatch.of(markets, venues), policy)
    assert out.sent is not None
    assert out.filled is not None
    assert out.positions is not None
    runs = []
    for p in range(policy.policies):
        for e, (market, venue) in enumerate(zip(markets, venues, strict=True)):
            run = replay(market, {"x": Affine(policy, p, e)}, venue)
            runs.append(run)
            frame = run.fills_frame()
            frame["i"] = [market.position_of(name) for name in frame["instrument"]]
            filled, sent = np.zeros((market.slices + 1, N)), np.zeros((market.slices + 1, N))
            np.add.at(filled, (frame["slice"], frame["i"]), frame["units"])
            for order in run.orders:
                k = market.slice_of(order.sent_ns)
                sent[k, market.position_of(order.instrument)] += order.units
            size = np.abs(frame["units"]).sum() + 1.0
            lead = len(out.sent[p, e]) - len(sent)
            assert not out.sent[p, e, :lead].any()
            close(out.sent[p, e, lead:], sent, size)
            close(out.filled[p, e, lead:], filled, size)
            close(out.positions[p, e, lead:], run.positions, size)
            by = np.zeros((2, N, N))
            parts = np.zeros((2, 2, N))
            for f, i in zip(run.fills, frame["i"], strict=True):
                by[int(f.forced), i] += f.units * f.multiplier * f.mid * np.array(f.displacement_by)
                parts[int(f.forced), :, i] += abs(f.units) * f.multiplier * f.half_spread, f.fee
            money = np.abs(parts).sum() + np.abs(by).sum() + 1e-6
            for forced, prefix in enumerate(("", "close_")):
                close(getattr(out, f"{prefix}impact")[p, e], by[forced], money)
                close(getattr(out, f"{prefix}spread")[p, e], parts[forced, 0], money)
                close(getattr(out, f"{prefix}fees")[p, e], parts[forced, 1], money)
            close(out.cost[p, e], parts.sum() + by.sum(), money)
            close(out.close_cost[p, e], parts[1].sum() + by[1].sum(), money)
            close(out.own_impact[p, e], np.diag(by[0]), money)
            turnover = float((frame["units"].abs() * frame["multiplier"] * frame["mid"]).sum()) + 1.0
            assert out.wealth[p, e] == pytest.approx(run.wealth[-1], rel=1e-9, abs=1e-12 * turnover)
            throttled = [market.position_of(o.instrument) for o in run.orders if o.state == "throttled"]
            np.testing.assert_array_equal(out.throttled[p, e], np.bincount(throttled, minlength=N))
    return runs


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_event_kernel_on_random_settings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slices, episodes, policies = 9, 16, 2 if seed % 2 else 1
    step_s = float(rng.choice([15.0, 60.0]))
    modes, shut = (2, 1, 0, 2)[seed], seed != 3
    lengths = [slices - (e % 3 if seed % 3 == 0 else 0) for e in range(episodes)]
    markets = [market_of(rng, length, step_s) for length in lengths]
    venues = [venue_of(rng, step_s, modes, shut) for _ in range(episodes)]
    runs = compare(markets, venues, policy_of(rng, policies, [slices - length for length in lengths], slices))
    states = {order.state for run in runs for order in run.orders}
    # The settings are worth comparing only where these things happen.
    assert states >= {"filled", "rejected", "throttled"}
    assert any(order.attempts > 1 and order.state == "filled" for run in runs for order in run.orders)
    assert any(len({f.slice for f in run.fills if f.order_id == o.order_id}) > 1 for run in runs for o in run.orders)


def small(slices: int = 20, **venue: Any) -> tuple[ReplayMarket, SimulatedVenue]:
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq="60s", tz="UTC")
    volume = np.full((slices, N), np.inf)
    volume[:, 2] = 0.0
    volume[-2, 2] = 30.0
    market = ReplayMarket(
        times, NAMES, np.full((slices + 1, N), 100.0), np.full((slices + 1, N), 0.01), volume, np.ones(N)
    )
    return market, SimulatedVenue(**({"participation": {"F": 1.0}} | venue))


def test_orders_that_wait_longer_than_the_window_widen_it() -> None:
    """A buy and later sells wait eighteen slices for volume: first come, first served, whatever the first window."""
    market, venue = small()
    schedule = np.zeros((1, 20, N))
    schedule[0, 0, 2], schedule[0, 1, 2], schedule[0, 3, 2] = 25.0, -10.0, 7.0
    policy = AffinePolicy(schedule)
    narrow = replay_batch(ReplayBatch.of([market], venue), policy, window=1)
    wide = replay_batch(ReplayBatch.of([market], venue), policy, window=20)
    assert narrow.window == wide.window == 20
    assert narrow.filled is not None
    assert narrow.filled[0, 0, [18, 19, 20], 2].tolist() == [20.0, 0.0, 2.0]  # 25 and 5 of the sells, then the close
    np.testing.assert_array_equal(narrow.filled, wide.filled)
    compare([market], [venue], policy)


def test_costs_add_up_and_paths_are_optional() -> None:
    rng = np.random.default_rng(5)
    market = market_of(rng, 6, 60.0)
    venue = SimulatedVenue(1.0, (ImpactMode(0.01, 1e-8 * np.eye(N)),), fee_per_unit=0.5)
    batch = ReplayBatch.of([market, market], venue)
    policy = AffinePolicy(np.ones((2, 6, N)))
    full, lean = replay_batch(batch, policy), replay_batch(batch, policy, paths=False)
    assert lean.sent is lean.filled is lean.positions is None
    np.testing.assert_array_equal(lean.wealth, full.wealth)
    np.testing.assert_allclose(full.fees.sum(axis=-1), 0.5 * 6 * N, rtol=1e-15)
    np.testing.assert_array_equal(full.close_cost, 0.0)
    run = replay(market, {"x": Affine(policy, 0, 0)}, venue)
    assert full.wealth[0, 0] == pytest.approx(run.wealth[-1], rel=1e-12)
    again = replay_batch(batch, policy)
    assert again.wealth.tobytes() == full.wealth.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    market, venue = small(6)
    batch = ReplayBatch.of([market], venue)
    flat = np.zeros((1, 6, N))
    pair = ReplayMarket(
        market.times,
        ("A", "B"),
        *(a[:, :2] for a in (market.mid, market.half_spread)),
        market.volume[:, :2],
        np.ones(2),
    )
    for call in (
        lambda: ReplayBatch.of([], venue),
        lambda: ReplayBatch.of([market], [venue, venue]),
        lambda: ReplayBatch.of([market, pair], venue),
        lambda: ReplayBatch.of([market, market], [venue, SimulatedVenue(close=False)]),
        lambda: AffinePolicy(flat[0]),
        lambda: AffinePolicy(flat * np.nan),
        lambda: AffinePolicy(flat, target=flat),
        lambda: AffinePolicy(flat, gain=np.zeros((2, 6, N))),
        lambda: AffinePolicy(flat, gain=np.zeros((2, 1, 1, 1)), feed=np.zeros((3, 1, 1, 1))),
        lambda: replay_batch(batch, AffinePolicy(flat[:, :5])),
    ):
        with pytest.raises(InvalidInput):
            call()
    sell = flat.copy()
    sell[0, 0, 0] = -100.0
    heavy = SimulatedVenue(modes=(ImpactMode(0.0, np.eye(N)),))
    with pytest.raises(LimitBreach, match="zero"):
        replay_batch(ReplayBatch.of([market], heavy), AffinePolicy(sell))
