"""The roll's policies: the table, the patience, limits in any state, and what holds on every replay."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roll_replay_cases import TICK, episode, flat_market
from scipy.optimize import brentq
from scipy.stats import norm

from crosswind.problems.roll import Regime, RollAction, RollPolicy, RollState
from crosswind.problems.roll.churn import ChurnLimits
from crosswind.problems.roll.policy import DisplayCap, PlaybookRoll, RollPolicyConfig, TailAwareRoll
from crosswind.problems.roll.policy_table import PlaybookRule, PlaybookTable, default_rules
from crosswind.problems.roll.policy_view import Outlook, RollView, look
from crosswind.problems.roll.program import RollSettings, RollStatistics, ScheduledRoll
from crosswind.problems.roll.regimes import RegimeWatch
from crosswind.problems.roll.replay import (
    AdaptiveTwap,
    PassiveThenCross,
    RollReplayConfig,
    RollVenue,
    TwapSpread,
    compare_rolls,
    replay_roll,
    roll_episodes,
)
from crosswind.solvers.errors import InvalidInput

POLICIES = (PlaybookRoll, TailAwareRoll)


def view(**changed: Any) -> RollView:
    base = {
        "dislocation": 0.0,
        "width": 0.05,
        "own": 1000.0,
        "other": 1000.0,
        "fills": 2.0,
        "crosses": 4.0,
        "stress": 1.0,
        "behind": 0.0,
        "left_s": 3600.0,
        "pressure": 0.1,
    }
    return RollView(**{**base, **changed})


def state(market: Any, bar: int, quantity: int = 500, **changed: Any) -> RollState:
    order = episode(market, quantity, max_naked=50).order
    base: dict[str, Any] = {"remaining": abs(quantity), "bars_left": market.bars - 1 - bar}
    return RollState(bar=bar, market=market, order=order, **{**base, **changed})


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_regime_and_pressure_has_one_action() -> None:
    table = PlaybookTable()
    assert table.rule(Regime.PRE_ROLL, 0.2).mode == "rest"
    assert table.rule(Regime.PRE_ROLL, 1.0).mode == "mixed"
    assert table.rule(Regime.CROWDED, 0.99).mode == "mixed"
    assert table.rule(Regime.CROWDED, math.inf).mode == "urgent"
    assert table.rule(Regime.BASIS_STRESS, 0.0).max_let_s is None
    assert {table.rule(Regime.DEADLINE, rdp).mode for rdp in (0.0, 1.0, math.inf, math.nan)} == {"complete"}
    # What is not known counts as the declared pressure: on the edge, the more urgent side.
    assert table.rule(Regime.PRE_ROLL, math.nan) == table.rule(Regime.PRE_ROLL, table.unknown_rdp)


def test_legging_tolerance_falls_and_tail_weight_rises_with_stress() -> None:
    table = PlaybookTable()
    calm, crowded, red = (table.of(r) for r in (Regime.PRE_ROLL, Regime.CROWDED, Regime.BASIS_STRESS))
    assert max(r.max_let_s or 0.0 for r in crowded) > max(r.max_let_s or 0.0 for r in red) == 0.0
    assert min(r.tail for r in red) > max(r.tail for r in calm)
    frame = table.to_frame()
    assert list(frame.index.names) == ["regime", "rdp"]
    assert len(frame) == len(default_rules())


def test_a_table_survives_json_and_keeps_its_order() -> None:
    table = PlaybookTable(tuple(reversed(default_rules())), unknown_rdp=0.5)
    back = PlaybookTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert back == table
    assert [r.regime for r in table.rules] == sorted([r.regime for r in table.rules], key=list(Regime).index)
    endless = PlaybookTable(tuple(replace(r, chase_ticks=math.inf) for r in default_rules()))
    assert PlaybookTable.from_dict(json.loads(json.dumps(endless.to_dict()))) == endless
    doubled = table.with_tail((2.0, 1.0, 1.0, 0.0))
    assert doubled.rule(Regime.PRE_ROLL, 0.0).tail == 2.0 * table.rule(Regime.PRE_ROLL, 0.0).tail
    assert doubled.rule(Regime.DEADLINE, 0.0).tail == 0.0


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (tuple(r for r in default_rules() if r.regime is not Regime.CROWDED), "CROWDED"),
        ((*default_rules(), default_rules()[0]), "rules"),
        ((*default_rules()[:-1], PlaybookRule(Regime.DEADLINE, mode="rest")), "DEADLINE"),
        ((*default_rules(), PlaybookRule(Regime.BASIS_STRESS, 3.0, max_let_s=60.0)), "max_let_s"),
        (("rest",), "rules"),
    ],
)
def test_a_table_that_leaves_a_state_open_is_refused(rules: Any, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        PlaybookTable(rules)


@pytest.mark.parametrize(
    "bad", [{"rdp": -1.0}, {"mode": "panic"}, {"display": 0.0}, {"clip": math.nan}, {"tail": -0.1}, {"max_let_s": -1.0}]
)
def test_a_rule_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        PlaybookRule(Regime.PRE_ROLL, **bad)
    with pytest.raises(InvalidInput, match="regime"):
        PlaybookRule("green")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [{"tail_weight": -1.0}, {"edge": 0.0}, {"edge": 1.1}, {"caution": 2.0}, {"fill_speed": 0.0}, {"trust": True}]
)
def test_a_config_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        RollPolicyConfig(**bad)


# -- how long to wait --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("dislocation", [-0.05, 0.0, 0.02])
def test_patience_is_the_root_of_the_tail_adjusted_cost(tail: float, dislocation: float) -> None:
    numbers = RollStatistics()
    edge, reversion = 0.7, 0.8
    seen = view(dislocation=dislocation, stress=1.5, width=0.10)
    kappa = norm.pdf(norm.ppf(0.95)) / 0.05

    def worse(tau: float) -> float:
        noise = (numbers.noise_points * 1.5) ** 2 * (1.0 - 0.25 ** (tau / numbers.noise_half_life_s))
        half = numbers.jump_half_life_s
        rate = numbers.jumps_per_hour / 3600.0
        shocks = rate * numbers.jump_points**2 * half / (2.0 * math.log(2.0)) * (1.0 - 0.25 ** (tau / half))
        saved = reversion * dislocation * (1.0 - 0.5 ** (tau / numbers.noise_half_life_s)) + edge * 0.10
        return tail * kappa * math.sqrt(noise + shocks) - saved

    got = Outlook(numbers, edge, reversion).patience_s(seen, tail)
    if math.isinf(got):
        assert max(worse(t) for t in np.linspace(1.0, 5760.0, 2000)) < 1e-3 * TICK
    else:
        root = brentq(worse, 1e-6, 5760.0)
        assert got == pytest.approx(root, rel=0.15)  # linear between the points of the grid


def test_patience_falls_with_the_tail_and_rises_with_a_dislocation_against_the_order() -> None:
    outlook = Outlook(RollStatistics(), 0.7, 1.0)
    assert math.isinf(outlook.patience_s(view(), 0.0))
    by_tail = [outlook.patience_s(view(), w) for w in (0.4, 0.6, 1.0, 3.0)]
    assert by_tail == sorted(by_tail, reverse=True)
    assert by_tail[0] > by_tail[-1] > 0.0
    by_price = [outlook.patience_s(view(dislocation=d), 0.8) for d in (-0.1, -0.05, 0.0, 0.05)]
    assert by_price == sorted(by_price)
    assert by_price[0] < by_price[-1]


def test_the_view_is_signed_by_the_order_and_reads_nothing_later() -> None:
    bid = np.full(40, -6.0)
    bid[20:] += TICK
    market = flat_market(40, bid=bid, ask=bid + TICK, sold=np.full(40, 30.0), bought=np.full(40, 10.0))
    buy, sell = (
        look(state(market, 20, q), RollStatistics(), display=0.2, reference_s=1800.0, flow_s=600.0) for q in (9, -9)
    )
    assert buy.dislocation == pytest.approx(TICK * 20 / 21) == pytest.approx(-sell.dislocation)
    assert buy.fills > sell.fills > 0.0  # sellers fill who buys
    spoiled = flat_market(
        40,
        bid=np.r_[bid[:21], bid[21:] + 1.0],
        ask=np.r_[bid[:21], bid[21:] + 1.0] + TICK,
        sold=np.r_[np.full(21, 30.0), np.zeros(19)],
        bought=np.full(40, 10.0),
    )
    again = look(state(spoiled, 20, 9), RollStatistics(), display=0.2, reference_s=1800.0, flow_s=600.0)
    assert again == buy


# -- limits, in any state ----------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 0.5, 1.0, 2.0, 1e9])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(Regime)),
    st.dictionaries(st.sampled_from(["rpc", "cde", "bdz", "let_s", "rdp"]), NUMBERS),
    st.integers(0, 5000),
    st.integers(0, 400),
    st.sampled_from([-1, 1]),
    st.integers(0, 3000),
    st.sampled_from([0.0, 1.0, 50.0, 3000.0]),
    st.integers(-60, 60),
)
def test_no_state_makes_a_policy_raise_or_ask_beyond_the_limits(
    regime: Regime,
    metrics: dict[str, float],
    remaining: int,
    bars_left: int,
    side: int,
    working: int,
    size: float,
    naked: int,
) -> None:
    market = flat_market(30, bid_size=np.full(30, size), ask_size=np.full(30, size), sold=np.full(30, size / 10.0))
    seen = state(
        market,
        20,
        side * 5000,
        remaining=remaining,
        bars_left=bars_left,
        regime=regime,
        metrics=metrics,
        working=min(working, remaining),
        resting_price=-6.0 if working else math.nan,
        naked=naked,
    )
    for make in POLICIES:
        actions = []
        for _ in range(2):
            policy = make()
            policy.reset(seen.order, market)
            actions.append(policy.decide(seen))
            assert policy.faults == 0
        assert actions[0] == actions[1]
        action = actions[0]
        assert action.rest >= 0
        assert action.cross >= 0
        assert action.leg >= 0
        assert action.rest + action.cross + action.leg <= remaining
        assert action.leg <= max(0, seen.order.max_naked - abs(naked))
        assert action.leg == 0 or regime in (Regime.CROWDED, Regime.DEADLINE)
        assert math.isfinite(action.max_let_s)
        assert action.reason
        shown = max(1, int(0.2 * size), min(working, remaining))
        assert action.rest <= shown


def test_a_fault_is_counted_and_an_even_pace_kept() -> None:
    market = flat_market(30)
    seen = state(market, 10, 100, metrics={"rdp": "soon"}, bars_left=26)  # type: ignore[dict-item]
    policy = TailAwareRoll()
    policy.reset(seen.order, market)
    action = policy.decide(seen)
    assert policy.faults == 1
    assert action.cross == 5  # 100 over 26 − 6 bars
    assert action.reason == "ValueError"


# -- what they do ------------------------------------------------------------------------------------------------------


def test_the_larger_order_crosses_what_would_wait_too_long() -> None:
    market = flat_market(
        400,
        bid_size=np.full(400, 500.0),
        ask_size=np.full(400, 500.0),
        sold=np.full(400, 5.0),
        bought=np.full(400, 5.0),
    )
    policy = TailAwareRoll(RollPolicyConfig(tail_weight=1.0))
    crossed = []
    for size in (10, 200, 5000):
        seen = state(market, 30, size)
        policy.reset(seen.order, market)
        action = policy.decide(seen)
        crossed.append(action.cross)
        assert action.rest > 0 or action.cross == size
    assert crossed[0] == 0
    assert crossed[0] < crossed[1] <= crossed[2]
    indifferent = TailAwareRoll(RollPolicyConfig(tail_weight=0.0))
    indifferent.reset(seen.order, market)
    assert indifferent.decide(replace(seen, remaining=50)).cross == 0


def test_what_is_not_filled_is_carried_forward_and_without_it_is_left_to_force() -> None:
    """Nothing trades against the order: resting never fills, so that only crossing does."""
    market = flat_market(200, bid_size=np.full(200, 400.0), ask_size=np.full(200, 400.0))
    made = episode(market, 300)
    venue = RollReplayConfig(venue=RollVenue(reject_probability=0.0))
    carried = replay_roll(made, TailAwareRoll(), venue)
    static = replay_roll(made, TailAwareRoll(RollPolicyConfig(tail_weight=0.0), carry=False), venue)
    assert carried.forced == 0
    assert carried.completion == 1.0
    assert static.forced > 0


def test_the_table_decides_what_the_playbook_does() -> None:
    market = flat_market(400, bid_size=np.full(400, 500.0), ask_size=np.full(400, 500.0), sold=np.full(400, 50.0))
    policy = PlaybookRoll(RollPolicyConfig(slice_s=600.0))

    def act(regime: Regime, rdp: float, bars_left: int = 200) -> RollAction:
        seen = state(market, 100, 1000, regime=regime, metrics={"rdp": rdp}, bars_left=300)
        policy.reset(seen.order, market)
        policy.decide(replace(seen, metrics={"rdp": 0.0}, regime=Regime.PRE_ROLL))
        return policy.decide(replace(seen, bars_left=bars_left))

    green, behind = act(Regime.PRE_ROLL, 0.2), act(Regime.PRE_ROLL, 1.5)
    assert green.cross == 0
    assert green.rest == 100  # a fifth of what its side displays
    assert 0 < behind.cross <= 100  # the path's last slice, within a clip
    urgent = act(Regime.CROWDED, 2.0, bars_left=299)
    assert urgent.cross == 100  # a clip, though the path asks for nothing yet
    assert act(Regime.CROWDED, 0.2, bars_left=299).cross == 0
    safe = act(Regime.DEADLINE, 0.2, bars_left=30)
    assert safe.cross > 0
    assert "safe" in safe.reason
    assert policy.record()["table"]["rules"][0]["regime"] == "PRE_ROLL"


def test_legs_are_used_only_where_worse_prices_of_the_spread_cost_more() -> None:
    thin = {"bid_size": np.full(60, 10.0), "ask_size": np.full(60, 10.0)}
    for offset, legs in ((0.0, True), (10.0, False)):  # legs at the spread's own price, and ten points off it
        leg_bid = np.ones((60, 2)) * [1800.0, 1794.0 - 0.25 + offset]
        market = flat_market(60, **thin, leg_bid=leg_bid, leg_ask=leg_bid + 0.25)
        seen = state(market, 30, 500, regime=Regime.DEADLINE, bars_left=10)
        policy = PlaybookRoll()
        policy.reset(seen.order, market)
        action = policy.decide(seen)
        assert (action.leg > 0) is legs
        assert action.leg <= 50
        assert action.max_let_s == 0.0
        stressed = policy.decide(replace(seen, regime=Regime.BASIS_STRESS))
        assert stressed.leg == 0


def test_a_price_that_ran_away_is_not_chased_while_it_is_dislocated() -> None:
    bid = np.full(400, -6.0)
    market = flat_market(400, bid=bid, ask=bid + TICK, sold=np.full(400, 20.0))
    resting = state(market, 300, 100, working=20, resting_price=-6.0 - TICK)
    policy = TailAwareRoll()
    policy.reset(resting.order, market)
    assert policy.decide(resting).reprice  # the level has moved for good
    bid = np.r_[np.full(298, -6.0 - TICK), np.full(102, -6.0)]
    fresh = flat_market(400, bid=bid, ask=bid + TICK, sold=np.full(400, 20.0))
    assert not policy.decide(replace(resting, market=fresh)).reprice
    assert not policy.decide(replace(resting, resting_price=-6.0)).reprice  # it is the best price


def test_the_cap_cuts_what_rests_and_keeps_an_order_in_place() -> None:
    market = flat_market(60)
    seen = state(market, 10, 500)
    policy = DisplayCap(PassiveThenCross(1e5), 0.2)
    assert policy.name == PassiveThenCross(1e5).name
    policy.reset(seen.order, market)
    assert policy.decide(seen).rest == 20
    assert policy.decide(replace(seen, working=60)).rest == 60
    for bad in (0.0, -1.0, math.nan, True):
        with pytest.raises(InvalidInput, match="share"):
            DisplayCap(policy, bad)


def test_a_schedule_gives_the_pace_within_the_rules() -> None:
    market = flat_market(
        200,
        bid_size=np.full(200, 500.0),
        ask_size=np.full(200, 500.0),
        sold=np.full(200, 5.0),
        bought=np.full(200, 5.0),
    )
    schedule = ScheduledRoll(settings=RollSettings(tail_weight=1.0), scenarios=20, slices=6, every_s=600.0)
    policy = TailAwareRoll(schedule=schedule, name="on the program")
    replay = replay_roll(episode(market, 400), policy, RollReplayConfig())
    assert replay.completion == 1.0
    assert replay.policy == "on the program"
    assert policy.faults == 0
    assert schedule.history  # it was asked


# -- what holds on every replay ----------------------------------------------------------------------------------------


def replays(policy: RollPolicy, count: int, seed: int, churn: ChurnLimits | None = None) -> list[Any]:
    config = RollReplayConfig(watch=RegimeWatch(), churn=churn or ChurnLimits())
    return [replay_roll(e, policy, config) for e in roll_episodes(count, seed, orders_per_day=2)]


@pytest.mark.parametrize("make", POLICIES)
def test_invariants_hold_on_every_replay(make: type[PlaybookRoll] | type[TailAwareRoll]) -> None:
    policy = make()
    for replay in replays(policy, 20, seed=77):
        assert policy.faults == 0
        assert replay.completion >= 0.999
        assert not replay.over_cap
        assert replay.most_replaces <= ChurnLimits().max_replaces_per_minute
        assert replay.counts["unsound"] == 0
        met = [r is Regime.DEADLINE for r in replay.regimes]
        assert met[-1]  # the last quarter of an hour
        assert met == sorted(met)  # and it is never left
        # The hard cap on what is left: the order's even path over DEADLINE, with a minute in hand.
        assert replay.remaining[-1] <= max(2, 0.02 * replay.size)


@pytest.mark.parametrize("make", POLICIES)
def test_the_same_day_gives_the_same_fills(make: type[PlaybookRoll] | type[TailAwareRoll]) -> None:
    one, two = (replays(make(), 4, seed=5) for _ in range(2))
    assert [r.fills for r in one] == [r.fills for r in two]


@pytest.mark.parametrize("make", POLICIES)
@pytest.mark.parametrize(
    "churn", [ChurnLimits(), ChurnLimits(dwell_s=120.0, max_replaces_per_minute=1, cooldown_s=60.0)]
)
def test_dwell_and_rate_hold_by_the_trail_of_events(
    make: type[PlaybookRoll] | type[TailAwareRoll], churn: ChurnLimits
) -> None:
    moved = 0
    for replay in replays(make(), 6, seed=9, churn=churn):
        at = np.array([ns for ns, what in replay.events if what == "replace"], dtype=np.int64)
        moved += len(at)
        assert replay.most_replaces <= churn.max_replaces_per_minute
        assert (np.diff(at) >= churn.dwell_s * 1e9).all()
        for end in at:
            assert ((at > end - 60_000_000_000) & (at <= end)).sum() <= churn.max_replaces_per_minute
        assert replay.completion >= 0.999
    assert moved > 0


def test_it_beats_twap_and_the_adaptive_path_on_days_of_their_own() -> None:
    episodes = roll_episodes(80, seed=31, orders_per_day=4)
    policies = {"twap": TwapSpread(), "adaptive": DisplayCap(AdaptiveTwap()), "tail": TailAwareRoll()}
    table = compare_rolls(episodes, policies, draws=50).table()
    assert table.loc["tail", "q95"] < 0.8 * table.loc["twap", "q95"]
    assert table.loc["tail", "q95"] < table.loc["adaptive", "q95"]
    assert table.loc["tail", "mean"] < table.loc["twap", "mean"] + 0.15
    assert table.loc["tail", "completion"] >= table.loc["twap", "completion"]
