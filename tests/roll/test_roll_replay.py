"""The roll's replay worked out by hand: crossing, footprint, queue, legs, refusals, the forced cross, the ledger."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from roll_replay_cases import ASK, BID, FREE, TICK, C, Scripted, episode, flat_market, plain

from crosswind.problems.market.simulator.spread_book_days import simulate_roll
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.spread_book_queue import join_queue
from crosswind.problems.roll import RollAction, RollOrder
from crosswind.problems.roll.churn import ChurnLimits
from crosswind.problems.roll.replay import RollEpisode, RollVenue, replay_roll
from crosswind.problems.roll.replay.episodes import market_of_day
from crosswind.solvers.errors import DataGap, InvalidInput


def kinds(replay: Any) -> list[tuple[str, int, float]]:
    return [(fill.kind, fill.units, round(fill.price, 10)) for fill in replay.fills]


def test_a_cross_walks_to_worse_prices_and_each_component_is_what_the_hand_says() -> None:
    policy = Scripted({0: RollAction(cross=120)})
    out = replay_roll(episode(flat_market(), 120), policy, plain(fee_per_contract=1.0))
    # Half of the 100 displayed at each price: 50 at −5.95, 50 at −5.90, 20 at −5.85.
    assert kinds(out) == [("cross", 50, -5.95), ("cross", 50, -5.90), ("cross", 20, -5.85)]
    half = 0.5 * TICK
    assert out.components["spread_fees"] == pytest.approx(120 * half * C + 240 * 1.0)
    assert out.components["impact"] == pytest.approx((50 * TICK + 20 * 2 * TICK) * C)
    assert out.components["basis_drift"] == out.components["legging"] == out.components["timing"] == 0.0
    assert out.total == pytest.approx(math.fsum(out.components.values()))
    assert out.fees == 240.0
    assert out.completion == out.own_completion == 1.0
    assert out.remaining.tolist() == [120] + [0] * 11


@pytest.mark.parametrize("side", [1, -1])
def test_both_sides_cost_the_same_in_a_mirrored_book(side: int) -> None:
    out = replay_roll(episode(flat_market(), side * 120), Scripted({0: RollAction(cross=120)}), plain())
    assert out.total == pytest.approx(120 * 0.5 * TICK * C + (50 + 40) * TICK * C)
    assert out.to_frame()["units"].sum() == side * 120


def test_what_a_partial_cross_leaves_is_still_to_be_done() -> None:
    policy = Scripted({0: RollAction(cross=400)})
    out = replay_roll(episode(flat_market(), 400), policy, plain())
    assert [state.remaining for state in policy.seen[:2]] == [400, 250]  # three prices of 50
    assert out.counts["partials"] == 1


@pytest.mark.parametrize(("half_life", "expected"), [(10.0, 25), (math.inf, 0)])
def test_our_footprint_is_missing_until_it_is_refilled(half_life: float, expected: int) -> None:
    """One half-life after taking 50 of the 50 there, 25 are back at the best price."""
    policy = Scripted({0: RollAction(cross=50), 1: RollAction(cross=50)})
    out = replay_roll(episode(flat_market(), 100), policy, plain(refill_half_life_s=half_life))
    at_best = [units for kind, units, price in kinds(out)[1:] if price == -5.95]
    assert sum(at_best) == expected
    assert out.components["impact"] == pytest.approx((50 - expected) * TICK * C)


def test_a_resting_order_meets_what_the_simulators_own_queue_says() -> None:
    """Bar by bar the same fills and the same place as the reference walk through the simulator's book."""
    p = RollParameters(bar_s=10.0)
    compared = 0
    for seed in range(6):
        day = simulate_roll(p, days=1, seed=seed).days[0]
        market = market_of_day(day, 10.0, p.multiplier, p.outright_tick)
        for side, bar in ((1, 300), (-1, 900)):
            order = RollOrder("q", side * 400, market.times[bar], market.times[bar + 120])
            policy = Scripted(lambda state: RollAction(rest=state.remaining, reprice=False))
            out = replay_roll(RollEpisode("q", market, order, "d"), policy, plain(queue=0.9))
            reference = join_queue(day, side, bar, 400, fraction=0.9, bars=120)
            filled = reference["filled"].cumsum().to_numpy()
            done = np.array([400 - state.remaining for state in policy.seen[1:]])
            np.testing.assert_array_equal(done, filled[:119])
            rests = np.array([state.working > 0 for state in policy.seen[1:]])
            ahead = np.array([state.ahead for state in policy.seen[1:]])
            np.testing.assert_array_equal(ahead[rests], reference["ahead"].to_numpy()[:119][rests])
            passive = [fill for fill in out.fills if fill.kind == "passive"]
            assert all(fill.price == pytest.approx(reference.attrs["price"]) for fill in passive)
            compared += int(filled[118] > 0)
    assert compared >= 8


def test_a_resting_order_earns_the_half_spread_and_may_be_added_to_and_cut() -> None:
    market = flat_market(sold=np.r_[0.0, 0.0, 130.0, 0.0, 120.0, np.zeros(8)])
    script = {0: RollAction(rest=20), 1: RollAction(rest=40), 2: RollAction(rest=10)}
    policy = Scripted(lambda state: script.get(state.bar, RollAction(rest=state.working)))
    out = replay_roll(episode(market, 40), policy, plain())
    # 100 ahead of the first 20; the addition has 100 of others ahead too, and the first ticket. 130 trade: 100 of
    # others, then 20 of ours, then 10 of the addition, so 10 rest and are wanted; then 10 more trade alone.
    assert [state.working for state in policy.seen[:6]] == [0, 20, 10, 10, 0, 0]
    assert [(f.kind, f.units) for f in out.fills] == [("passive", 30), ("passive", 10)]
    assert out.components["spread_fees"] == pytest.approx(-40 * 0.5 * TICK * C)


def test_drift_is_the_mid_s_move_since_arrival_times_what_had_not_been_traded() -> None:
    market = flat_market()
    ticks = np.where(np.arange(13) < 3, 0, 4)
    market = replace(market, bid=market.bid + TICK * ticks, ask=market.ask + TICK * ticks)
    policy = Scripted({0: RollAction(cross=10), 5: RollAction(cross=30)})
    out = replay_roll(episode(market, 40), policy, plain())
    assert out.components["basis_drift"] == pytest.approx(30 * 4 * TICK * C)
    assert out.components["spread_fees"] == pytest.approx(40 * 0.5 * TICK * C)


def test_legs_cross_thin_first_and_the_second_pays_its_move_as_legging() -> None:
    """200 bid for the near against 100 offered of the far: the far is bought first, the near rests and is crossed."""
    market = flat_market()
    moved = np.where(np.arange(13) < 3, 0.0, -1.0)[:, None] * [1.0, 0.0]  # the near falls by a point before it is sold
    market = replace(market, leg_bid=market.leg_bid + moved, leg_ask=market.leg_ask + moved)
    policy = Scripted({0: RollAction(leg=40, max_let_s=45.0)})
    out = replay_roll(episode(market, 40, max_naked=40), policy, plain())
    assert kinds(out) == [("first leg", 40, 1794.25), ("second leg cross", -40, 1799.0)]
    assert out.lets["let_s"].tolist() == [45.0]
    assert out.lets["cost"].tolist() == [pytest.approx(40 * 1.0 * C)]
    assert out.components["legging"] == pytest.approx(40 * 1.0 * C)
    # Both half-spreads, and the legs' mids stand −6.00 apart where the spread's mid is −5.975.
    assert out.components["spread_fees"] == pytest.approx(40 * C * (0.125 + 0.125 - 0.025))
    assert out.total == pytest.approx(40 * C * ((1794.25 - 1799.0) - -5.975))
    assert [(s.naked, s.naked_s) for s in policy.seen[:6]] == [
        (0, 0.0),
        (40, 10.0),
        (40, 20.0),
        (40, 30.0),
        (40, 40.0),
        (0, 0.0),
    ]
    assert out.most_naked == 40


def test_a_second_leg_that_rests_is_filled_by_half_of_the_volume_behind_its_queue() -> None:
    volume = np.zeros((13, 2))
    volume[2] = (420.0, 0.0)  # 210 of them buy; the near's offer of 100 stands ahead
    policy = Scripted({0: RollAction(leg=40, max_let_s=100.0)})
    out = replay_roll(episode(flat_market(leg_volume=volume), 40, max_naked=40), policy, plain())
    assert kinds(out) == [("first leg", 40, 1794.25), ("second leg passive", -40, 1800.25)]
    assert out.fills[1].let_s == 20.0
    assert out.components["legging"] == 0.0


def test_both_legs_at_once_take_no_time() -> None:
    out = replay_roll(episode(flat_market(), 40, max_naked=40), Scripted({0: RollAction(leg=40)}), plain())
    assert out.lets["let_s"].tolist() == [0.0]
    assert out.components["legging"] == 0.0
    assert out.total == pytest.approx(40 * C * ((1794.25 - 1800.0) - -5.975))


@pytest.mark.parametrize(("cap", "most"), [(0, 0), (15, 15), (100, 60)])
def test_the_order_s_cap_on_naked_legs_holds_whatever_is_asked(cap: int, most: int) -> None:
    policy = Scripted(lambda state: RollAction(leg=60, max_let_s=1e9))
    out = replay_roll(episode(flat_market(), 60, max_naked=cap), policy, plain())
    assert out.most_naked == most
    assert max(abs(state.naked) for state in policy.seen) == most
    assert out.completion == 1.0
    if most:
        assert {f.kind for f in out.fills if f.let_s == f.let_s} == {"forced leg"}


def test_what_is_open_at_the_cutoff_is_crossed_by_force_and_the_rest_is_charged_and_flagged() -> None:
    out = replay_roll(episode(flat_market(), 200, carry_cap=49), Scripted({}), plain(residual_ticks=30.0))
    assert kinds(out) == [("forced", 50, -5.95), ("forced", 50, -5.90), ("forced", 50, -5.85)]
    assert (out.residual, out.over_cap, out.forced) == (50, True, 150)
    assert (out.completion, out.own_completion, out.forced_share) == (0.75, 0.0, 0.75)
    # Beyond the best price and the residual are timing; the half-spread of what was done is not.
    assert out.components["timing"] == pytest.approx(C * TICK * (50 + 100 + 50 * 30.0))
    assert out.components["spread_fees"] == pytest.approx(150 * 0.5 * TICK * C)
    assert out.components["impact"] == 0.0
    assert "MORE THAN THE CARRY CAP" in out.summary()
    assert not replay_roll(episode(flat_market(), 200, carry_cap=50), Scripted({}), plain()).over_cap


def test_refused_messages_are_sent_again_after_the_cooldown_and_given_up_at_last() -> None:
    policy = Scripted(lambda state: RollAction(cross=state.remaining))
    churn = ChurnLimits(dwell_s=0.0, max_replaces_per_minute=10, cooldown_s=15.0)
    out = replay_roll(
        episode(flat_market(31), 40), policy, plain(churn, reject_probability=1.0, max_retries=2, retry_delay_s=2.0)
    )
    assert {f.kind for f in out.fills} == {"forced"}
    # Sent at 0 s, refused at 0, 15 and 30 s, then given up; nothing may be sent before 45 s, so at 50 s, and so on.
    assert out.counts["rejects"] == 3 * out.counts["messages"]
    assert out.counts["abandoned"] == out.counts["messages"] == 6
    assert out.counts["retries"] == 2 * 6
    assert out.counts["churn_refused"] > 0
    assert policy.seen[1].remaining == 0  # what is under way is not to be done twice


def test_latency_moves_fills_into_the_bar_in_which_they_arrive() -> None:
    policy = Scripted({0: RollAction(cross=10)})
    out = replay_roll(episode(flat_market(), 10), policy, plain(latency_s=23.0))
    assert pd.Timestamp(out.fills[0].time_ns, tz="UTC") == flat_market().times[0] + pd.Timedelta(23, "s")
    assert (out.fills[0].bar, out.fills[0].decided) == (3, 0)
    assert [s.remaining for s in policy.seen[:4]] == [10, 0, 0, 0]


def test_fills_before_a_cancel_arrives_are_kept_and_nothing_is_done_twice() -> None:
    """The cancel and a cross of all are under way while the resting order trades: the cross is cut to what is left."""
    market = flat_market(sold=np.r_[0.0, 0.0, 0.0, 115.0, np.zeros(9)])
    policy = Scripted({0: RollAction(rest=40), 1: RollAction(rest=40), 2: RollAction(rest=0, cross=40)})
    out = replay_roll(episode(market, 40), policy, plain(latency_s=9.9))
    assert kinds(out)[0] == ("passive", 13, -6.0)  # 99 % of 115 less the 100 ahead
    assert sum(units for _, units, _ in kinds(out)) == 40
    assert out.counts["clipped"] == 1
    assert out.completion == 1.0


def test_what_remains_is_never_below_zero_while_a_cross_overlaps_a_resting_order() -> None:
    """The dwell forbids the cut, so 40 rest and 40 are under way to cross; the resting ones trade first."""
    market = flat_market(sold=np.r_[np.zeros(4), 150.0, np.zeros(8)])
    policy = Scripted({0: RollAction(rest=40), 3: RollAction(cross=40)})
    policy.script = lambda state: {0: RollAction(rest=40), 3: RollAction(cross=40)}.get(
        state.bar, RollAction(rest=state.working)
    )
    limits = ChurnLimits(dwell_s=1000.0, max_replaces_per_minute=9, cooldown_s=0.0)
    out = replay_roll(episode(market, 40), policy, plain(limits, latency_s=15.0))
    assert kinds(out) == [("passive", 40, -6.0)]
    assert [state.remaining for state in policy.seen[:6]] == [40, 40, 40, 40, 0, 0]
    assert out.counts["clipped"] == 1


def test_a_moved_order_loses_its_place_and_anti_churn_holds_it_back() -> None:
    up = np.where(np.arange(13) < 3, 0, 1)
    market = flat_market()
    market = replace(market, bid=market.bid + TICK * up, ask=market.ask + TICK * up)
    asks = Scripted(lambda state: RollAction(rest=40))
    free = replay_roll(episode(market, 40), asks, plain())
    assert free.counts["replaces"] == 1
    assert asks.seen[4].resting_price == pytest.approx((BID + 1) * TICK)
    assert asks.seen[4].ahead == 100
    keeps = Scripted(lambda state: RollAction(rest=40, reprice=False))
    assert replay_roll(episode(market, 40), keeps, plain()).counts["replaces"] == 0
    slow = Scripted(lambda state: RollAction(rest=40))
    limits = ChurnLimits(dwell_s=70.0, max_replaces_per_minute=1, cooldown_s=0.0)
    held = replay_roll(episode(market, 40), slow, plain(limits))
    prices = [round(state.resting_price / TICK) for state in slow.seen[1:]]
    assert prices == [BID] * 7 + [BID + 1] * 4
    assert held.counts["churn_refused"] == 4


def test_the_arrival_price_is_the_median_of_the_mids_before_the_start() -> None:
    market = flat_market(40)
    jumps = np.zeros(40)
    jumps[[20, 30]] = 6
    market = replace(market, bid=market.bid + TICK * jumps, ask=market.ask + TICK * jumps)
    order = RollOrder("a", 1, market.times[30], market.times[39])
    assert RollEpisode("a", market, order, "d").arrival == pytest.approx((BID + ASK + 12) / 2 * TICK)
    assert RollEpisode("a", market, order, "d", arrival_s=100.0).arrival == pytest.approx((BID + ASK) / 2 * TICK)


def test_bad_orders_prices_and_actions_are_refused_by_name() -> None:
    market = flat_market()
    late = market.times[-1] + pd.Timedelta(1, "s")
    with pytest.raises(DataGap, match="cutoff"):
        RollEpisode("x", market, RollOrder("x", 1, market.times[0], late), "d")
    early = market.times[0] - pd.Timedelta(1, "s")
    with pytest.raises(DataGap, match="start"):
        RollEpisode("x", market, RollOrder("x", 1, early, market.times[3]), "d")
    with pytest.raises(DataGap, match="no bar ends"):
        RollEpisode("x", market, RollOrder("x", 1, market.times[0], market.times[0] + pd.Timedelta(1, "s")), "d")
    with pytest.raises(InvalidInput, match="arrival_s"):
        RollEpisode("x", market, RollOrder("x", 1, market.times[0], market.times[3]), "d", arrival_s=float("nan"))
    off = replace(market, bid=market.bid - 0.01)
    with pytest.raises(InvalidInput, match="does not lie on the grid"):
        replay_roll(episode(off), Scripted({}), plain())
    with pytest.raises(InvalidInput, match="is not a RollAction"):
        replay_roll(episode(market), Scripted(lambda state: None), plain())  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency_s", -1.0),
        ("reject_probability", 1.5),
        ("participation", 0.0),
        ("forced_participation", float("nan")),
        ("refill_half_life_s", 0.0),
        ("levels", 0),
        ("max_retries", 2.5),
        ("fee_per_contract", "1"),
    ],
)
def test_rules_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        RollVenue(**{name: value})


def test_a_result_shows_itself() -> None:
    out = replay_roll(episode(flat_market(), 200), Scripted({0: RollAction(cross=50)}), plain())
    assert "made by hand" in out.summary()
    assert "made by hand" in out.plot().layout.title.text
    frame = out.to_frame()
    assert list(frame["kind"].unique()) == ["cross", "forced"]
    assert str(frame.index.tz) == "UTC"
    assert sum(spreads for spreads, _ in out.by_regime().values()) == 200 - out.residual
    row = out.row()
    assert row["cost"] == pytest.approx(out.total / 200)
    assert FREE.cooldown_s == 0.0
