"""What holds in every replay of the roll, whatever a policy asks: conservation, ledger, limits, no look-ahead."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from roll_replay_cases import Scripted

from crosswind.problems.replay.ledger import Ledger
from crosswind.problems.roll import RollAction, RollMarket, RollOrder, RollState
from crosswind.problems.roll.churn import ChurnLimits
from crosswind.problems.roll.regimes import RegimeWatch
from crosswind.problems.roll.replay import (
    COMPONENTS,
    AdaptiveTwap,
    AllEarly,
    AllLate,
    Legged,
    PassiveThenCross,
    RollEpisode,
    RollReplay,
    RollReplayConfig,
    RollVenue,
    TwapSpread,
    VolumeFollowing,
    replay_roll,
    roll_episodes,
)
from crosswind.problems.roll.replay.costs import Costs
from crosswind.solvers.errors import LimitBreach, SolverFailure

ROUGH = RollVenue(reject_probability=0.2, latency_s=2.0, latency_jitter_s=4.0)
# Messages take up to several bars and overtake each other: fills before cancels, retries after later orders.
LATE = RollVenue(reject_probability=0.3, latency_s=5.0, latency_jitter_s=60.0, max_retries=6)
LIMITS = ChurnLimits(dwell_s=25.0, max_replaces_per_minute=2, cooldown_s=7.0)


@cache
def stressed_orders() -> tuple[RollEpisode, ...]:
    """Return orders of all stresses, with coarse bars: short replays."""
    rates = {"jumps": 0.3, "thin": 0.3, "one_sided": 0.3}
    return roll_episodes(24, seed=11, bar_s=30.0, stress=rates, sizes=(7, 300, 4000), windows_min=(20, 60))


@pytest.fixture(scope="module")
def episodes() -> tuple[RollEpisode, ...]:
    return stressed_orders()


def check(replay: RollReplay, episode: RollEpisode, limits: ChurnLimits, seen: list[RollState]) -> None:
    """Hold a replay to its invariants, from its fills alone."""
    order = episode.order
    frame = replay.to_frame()
    by = frame.groupby("instrument")["units"].sum()
    spreads, near, far = (int(by.get(name, 0)) for name in ("spread", "near", "far"))
    assert near == -far
    assert spreads + far + order.side * replay.residual == order.quantity
    assert (frame["units"].abs() > 0).all()
    assert (frame.index > order.start).all() or replay.fills[0].time_ns >= order.start.value
    assert (frame.index <= order.cutoff).all()
    assert frame.index.is_monotonic_increasing
    # The ledger again, apart from the replay's own: legs bought and sold for cash.
    book, c, fee = Ledger(), episode.market.multiplier, replay.fees / max(1, 2 * (order.size - replay.residual))
    for fill in replay.fills:
        if fill.instrument == "spread":
            book.book("near", -fill.units, 1800.0, 0.0, c)
            book.book("far", fill.units, 1800.0 + fill.price, 2.0 * fee * abs(fill.units), c)
        else:
            book.book(fill.instrument, fill.units, fill.price, fee * abs(fill.units), c)
    held = float(order.quantity - order.side * replay.residual)
    loss = -book.wealth({"near": 1800.0, "far": 1800.0 + episode.arrival})
    assert book.positions.get("far", 0.0) == held
    charge = replay.total - loss
    scale = sum(abs(v) for v in replay.components.values()) + 1.0
    beyond = ROUGH.residual_ticks * episode.market.tick
    moved = order.side * (float(episode.market.mid[episode.last]) - episode.arrival)
    assert abs(charge - replay.residual * c * (moved + beyond)) <= 1e-9 * scale
    assert math.fsum(replay.components.values()) == replay.total
    assert replay.ledger_error <= 1e-9
    # Naked legs, followed fill by fill.
    imbalance = np.cumsum([0] + [f.units for f in replay.fills if f.instrument != "spread"])
    lone = [abs(int(v)) for v in imbalance]
    assert max(lone) <= order.max_naked
    assert lone[-1] == 0
    assert max((abs(state.naked) for state in seen), default=0) <= order.max_naked
    # Anti-churn from what the policy saw: prices of the resting order and replaces in the last minute.
    assert replay.most_replaces <= limits.max_replaces_per_minute
    assert all(state.replaces_last_minute <= limits.max_replaces_per_minute for state in seen)
    # Done and resting never exceed the order, with whatever is under way.
    taken = [(f.time_ns, abs(f.units)) for f in replay.fills if math.isnan(f.let_s)]
    for state in seen:
        now = episode.market.times[state.bar].value
        done = sum(units for at, units in taken if at <= now)
        assert 0 <= state.remaining <= order.size - done
        assert 0 <= state.working <= order.size - done


NAN, INF = float("nan"), float("inf")
NONSENSE: list[Any] = [0, 1, 5, 60, 10**9, 10**400, -1, -(10**12), -(10**400), NAN, INF, -INF, 2.7, "7", None, True]
TIMES: list[Any] = [0.0, 30.0, 1e9, 10**400, -5.0, NAN, INF, None]


@settings(max_examples=100, deadline=None, phases=set(Phase) - {Phase.shrink, Phase.explain})
@given(data=st.data())
def test_whatever_a_policy_asks_the_limits_hold_and_the_ledger_agrees(data: st.DataObject) -> None:
    episodes = stressed_orders()
    number = data.draw(st.integers(0, len(episodes) - 1))
    naked = data.draw(st.sampled_from([0, 3, 10**6]))
    episode = episodes[number]
    episode = replace(episode, order=replace(episode.order, max_naked=naked))
    length = data.draw(st.integers(1, 9))
    one = st.tuples(*[st.sampled_from(NONSENSE)] * 3, st.sampled_from(TIMES), st.booleans())
    acts = [RollAction(*data.draw(one)) for _ in range(length)]
    policy = Scripted(lambda state: acts[state.bar % length])
    venue = data.draw(st.sampled_from([ROUGH, LATE]))
    config = RollReplayConfig(venue=venue, churn=LIMITS, seed=data.draw(st.integers(0, 5)))
    check(replay_roll(episode, policy, config), episode, LIMITS, policy.seen)


@pytest.mark.parametrize(
    "policy",
    [
        TwapSpread(),
        AdaptiveTwap(),
        VolumeFollowing(),
        Legged(max_let_s=40.0),
        AllEarly(),
        AllLate(),
        PassiveThenCross(),
    ],
    ids=lambda p: p.name,
)
def test_every_baseline_keeps_the_invariants(episodes: tuple[RollEpisode, ...], policy: Any) -> None:
    config = RollReplayConfig(venue=ROUGH, churn=LIMITS)
    for episode in episodes:
        watched = Scripted(policy.decide)
        reset = watched.reset

        def both(order: RollOrder, market: RollMarket, reset: Any = reset) -> None:
            reset(order, market)
            policy.reset(order, market)

        watched.reset = both  # type: ignore[method-assign]
        check(replay_roll(episode, watched, config), episode, LIMITS, watched.seen)


@pytest.mark.parametrize("part", ["spread_fees", "impact", "legging", "timing", "basis_drift"])
def test_a_component_that_goes_astray_is_found_by_the_ledger(
    episodes: tuple[RollEpisode, ...], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Costs.components

    def astray(self: Costs, *args: Any) -> dict[str, float]:
        out = whole(self, *args)
        return out | {part: out[part] + 1e-6 * sum(abs(value) for value in out.values()) + 1e-3}

    monkeypatch.setattr(Costs, "components", astray)
    with pytest.raises(SolverFailure, match="components"):
        replay_roll(episodes[0], TwapSpread())


def test_a_contract_that_is_lost_or_done_twice_is_found_by_the_ledger(
    episodes: tuple[RollEpisode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Costs.spread

    def twice(self: Costs, when: Any, quantity: int, *args: Any) -> None:
        whole(self, when, quantity + (not self.fills), *args)

    monkeypatch.setattr(Costs, "spread", twice)
    with pytest.raises(LimitBreach, match="quantity"):
        replay_roll(episodes[0], TwapSpread())


def test_a_moved_price_had_rested_for_the_dwell(episodes: tuple[RollEpisode, ...]) -> None:
    """From outside: a price that the policy sees changed was placed at least the dwell before."""
    moves = 0
    quick = RollVenue(latency_s=0.0, latency_jitter_s=0.0, reject_probability=0.0)
    for episode in roll_episodes(6, seed=3, windows_min=(60,), sizes=(4000,)):
        policy = Scripted(lambda state: RollAction(rest=state.remaining))
        replay_roll(episode, policy, RollReplayConfig(venue=quick, churn=LIMITS))
        since = policy.seen[0].market.times[-1]
        for before, state in zip(policy.seen[:-1], policy.seen[1:], strict=True):
            now = state.market.times[-1]
            if before.working and state.working and state.resting_price != before.resting_price:
                # Both placed and moved at the bar before the one in which the policy sees it.
                assert (now - since).total_seconds() >= LIMITS.dwell_s
                moves += 1
            if state.working and (not before.working or state.resting_price != before.resting_price):
                since = now
    assert moves >= 10


def poisoned(market: RollMarket, after: int, seed: int) -> RollMarket:
    """Return the market with everything after a bar changed."""
    generator = np.random.default_rng(seed)
    changed: dict[str, Any] = {}
    shift = np.r_[np.zeros(after + 1), generator.integers(-40, 40, market.bars - after - 1)]
    for name in ("bid", "ask"):
        changed[name] = getattr(market, name) + shift * market.tick
    for name in ("leg_bid", "leg_ask"):
        changed[name] = getattr(market, name) + shift[:, None] * market.leg_tick
    for name in ("bid_size", "ask_size", "sold", "bought", "cancelled", "leg_bid_size", "leg_ask_size", "leg_volume"):
        values = getattr(market, name).copy()
        values[after + 1 :] = 1e6 * generator.random(values[after + 1 :].shape)
        changed[name] = values
    return replace(market, **changed)


POLICIES = [AdaptiveTwap(), VolumeFollowing(), PassiveThenCross(60.0), Legged(max_let_s=100.0)]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_nothing_before_a_bar_depends_on_what_comes_after_it(episodes: tuple[RollEpisode, ...], policy: Any) -> None:
    config = RollReplayConfig(watch=RegimeWatch())
    for number, episode in enumerate(episodes[:8]):
        cut = episode.first + episode.bars // 2
        other = replace(episode, market=poisoned(episode.market, cut, number))
        one, two = (replay_roll(e, policy, config) for e in (episode, other))
        seen = cut - episode.first + 1
        np.testing.assert_array_equal(one.remaining[:seen], two.remaining[:seen])
        assert one.regimes[:seen] == two.regimes[:seen]
        for name in one.metrics:
            np.testing.assert_array_equal(one.metrics[name][:seen], two.metrics[name][:seen])
        before = [[fill for fill in out.fills if fill.bar <= cut] for out in (one, two)]
        assert repr(before[0]) == repr(before[1])
        assert before[0]
        assert repr(one.fills) != repr(two.fills)


@pytest.mark.parametrize(
    "peek",
    [
        lambda s: s.market.bid[s.bar + 1],
        lambda s: s.market.sold[s.bar + 1],
        lambda s: s.market.leg_ask[s.bar + 1, 0],
        lambda s: s.market.cancelled[s.bar + 1],
        lambda s: s.market.mid[s.bar + 1],
        lambda s: s.market.volume[s.bar + 1],
        lambda s: s.market.leg_mid[s.bar + 1],
        lambda s: s.market.times[s.bar + 1],
        lambda s: s.market.facts["shocks"],
    ],
)
def test_what_has_not_happened_cannot_be_read(episodes: tuple[RollEpisode, ...], peek: Any) -> None:
    def script(state: RollState) -> RollAction:
        assert state.market.bars == state.bar + 1 == len(state.market.times) == len(state.market.bid)
        peek(state)
        return RollAction()

    with pytest.raises((IndexError, KeyError)):
        replay_roll(episodes[0], Scripted(script))


def test_what_is_served_cannot_be_written(episodes: tuple[RollEpisode, ...]) -> None:
    policy = Scripted({})
    replay_roll(episodes[0], policy)
    assert policy.known.bars == episodes[0].first + 1
    with pytest.raises(ValueError, match="read-only"):
        policy.seen[3].market.bid[0] = 0.0
    first, last = policy.seen[0], policy.seen[-1]
    assert len(first.market.bid) == episodes[0].first + 1  # an old state stays as it was
    assert len(last.market.bid) == episodes[0].last
    np.testing.assert_array_equal(last.market.mid, episodes[0].market.mid[: episodes[0].last])


def test_the_same_seed_gives_the_same_replay_and_another_one_other_luck(episodes: tuple[RollEpisode, ...]) -> None:
    config = RollReplayConfig(venue=ROUGH)
    differ = 0
    for episode in episodes[:6]:
        one, two = (replay_roll(episode, AdaptiveTwap(), config) for _ in range(2))
        assert repr(one.fills) == repr(two.fills)
        assert one.row() == two.row()
        differ += repr(one.fills) != repr(replay_roll(episode, AdaptiveTwap(), replace(config, seed=1)).fills)
    assert differ >= 5


def test_a_replay_is_the_same_in_another_process_with_other_hashes() -> None:
    job = (
        "import hashlib\n"
        "from crosswind.problems.roll.replay import *\n"
        "e = roll_episodes(3, seed=5, bar_s=60.0)\n"
        "venue = RollVenue(reject_probability=0.2)\n"
        "out = [replay_roll(x, Legged(max_let_s=90.0), RollReplayConfig(venue=venue)) for x in e]\n"
        "print(hashlib.sha256(repr([r.fills for r in out]).encode()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", job], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "77")
    }
    assert len(told) == 1
    assert len(told.pop().strip()) == 64


def test_policies_share_the_luck_of_what_they_do_at_the_same_time(episodes: tuple[RollEpisode, ...]) -> None:
    """The clip of bar 20 arrives at the same nanosecond and after the same refusals, whatever went before."""
    config = RollReplayConfig(venue=ROUGH, churn=ChurnLimits(dwell_s=0.0, cooldown_s=0.0))
    refused = 0
    for episode in episodes:
        order = replace(episode.order, quantity=50 * episode.order.side)
        small = replace(episode, order=order)
        met = []
        busy = {k: RollAction(cross=1, rest=3) for k in range(20)} | {20: RollAction(cross=2)}
        for script in ({20: RollAction(cross=5)}, busy):
            fills = replay_roll(small, Scripted(script), config).fills
            met.append([(f.time_ns, f.attempt) for f in fills if f.decided == small.first + 20 and f.kind == "cross"])
        if met[0] and met[1]:
            assert met[0][0] == met[1][0]
            refused += met[0][0][1] > 0
    assert refused >= 2


def test_a_watch_tells_the_policy_regime_and_metrics(episodes: tuple[RollEpisode, ...]) -> None:
    policy = Scripted(lambda state: RollAction(leg=3, max_let_s=90.0))
    out = replay_roll(episodes[1], policy, RollReplayConfig(watch=RegimeWatch()))
    assert out.regimes == tuple(state.regime for state in policy.seen)
    assert out.regimes[-1].value == "safe"  # the last minutes belong to the deadline
    assert set(out.metrics) == {"rpc", "cde", "bdz", "let_s", "rdp"}
    assert policy.seen[-1].metrics["rdp"] == out.metrics["rdp"][-1]
    assert np.nanmax(out.metrics["let_s"]) > 0.0
    assert [t.target for t in out.transitions][-1] is out.regimes[-1]
    assert set(out.by_regime()) <= set(out.regimes)


def test_episodes_and_replays_travel_to_worker_processes_and_back(episodes: tuple[RollEpisode, ...]) -> None:
    config = RollReplayConfig(watch=RegimeWatch())
    one = replay_roll(episodes[1], AdaptiveTwap(), config)
    sent = pickle.loads(pickle.dumps(episodes[1]))
    assert repr(replay_roll(sent, AdaptiveTwap(), config).fills) == repr(one.fills)
    assert dict(sent.market.facts) == dict(episodes[1].market.facts)
    with pytest.raises(ValueError, match="read-only"):
        sent.market.bid[0] = 0.0
    back = pickle.loads(pickle.dumps(one))
    assert back.row() == one.row()
    assert repr([t.to_dict() for t in back.transitions]) == repr([t.to_dict() for t in one.transitions])
    assert back.transitions


def test_a_replay_is_cheap() -> None:
    """Well under the bars that a study of thousands of orders needs, with room for a loaded machine."""
    import time

    began = time.thread_time()
    drawn = roll_episodes(20, seed=1)
    per_draw = (time.thread_time() - began) / len(drawn)
    began = time.thread_time()
    for episode in drawn:
        replay_roll(episode, AdaptiveTwap())
    per_replay = (time.thread_time() - began) / len(drawn)
    assert np.mean([episode.bars for episode in drawn]) > 500
    assert per_draw < 0.03
    assert per_replay < 0.04
    assert pd.Timestamp(drawn[0].order.start).tzinfo is not None
    assert set(COMPONENTS) <= set(replay_roll(drawn[0], TwapSpread()).row())
