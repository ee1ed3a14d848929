"""The receding-horizon policy on replayed roll days, its ladder, and the generators of scenarios."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.roll import RollMarket, RollOrder, RollPolicy, RollState
from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.program import (
    RollPresent,
    RollProblem,
    RollSettings,
    RollStatistics,
    ScheduledRoll,
    bootstrap_scenarios,
    draw_scenarios,
    observe,
)
from crosswind.problems.roll.program import policy as policy_module
from crosswind.problems.roll.replay import AdaptiveTwap, RollEpisode, replay_roll, roll_episodes
from crosswind.problems.roll.replay.views import see
from crosswind.solvers.errors import DataGap, InvalidInput

QUICK = {"scenarios": 40, "slices": 12}


@pytest.fixture(scope="module")
def episodes() -> tuple[RollEpisode, ...]:
    return roll_episodes(16, seed=11, sizes=(500, 2000))


def state_of(episode: RollEpisode, bar: int = 0, **values: object) -> RollState:
    known = see(episode.market, episode.first + bar + 1)
    given = {"remaining": episode.order.size, "bars_left": episode.bars - bar, **values}
    return RollState(bar=episode.first + bar, market=known, order=episode.order, **given)


def test_replays_to_the_end_within_the_limits_and_again_to_the_same_bytes(episodes):
    for episode in episodes[:6]:
        one = ScheduledRoll(**QUICK)
        assert isinstance(one, RollPolicy)
        replay = replay_roll(episode, one)
        assert replay.residual <= episode.order.carry_cap
        assert replay.most_naked <= episode.order.max_naked
        assert replay.counts["unsound"] == 0
        again = replay_roll(episode, ScheduledRoll(**QUICK))
        assert again.to_frame().to_csv() == replay.to_frame().to_csv()
        assert {d.rung for d in one.history} <= {"optimal", "feasible"}
        assert one.to_frame()["iterations"].max() <= 60
        assert "optimal" in one.summary()


def test_costs_less_in_the_tail_than_the_path_of_a_twap(episodes):
    costs = {
        name: np.array([replay_roll(episode, make()).per_contract for episode in episodes])
        for name, make in (("plan", lambda: ScheduledRoll(**QUICK)), ("path", lambda: AdaptiveTwap(300.0)))
    }
    assert np.median(costs["plan"]) < np.median(costs["path"])


def test_what_lies_after_the_bar_is_not_read(episodes):
    episode = episodes[2]
    market = episode.market
    k = episode.first + 5
    poisoned = {
        name: np.concatenate([getattr(market, name)[: k + 1], 7.0 + 3.0 * getattr(market, name)[k + 1 :]])
        for name in ("bid", "ask", "bid_size", "sold", "bought")
    }
    other = replace(market, **{**poisoned, "ask": np.maximum(poisoned["ask"], poisoned["bid"] + 1.0)})
    other = replace(other, ask=np.concatenate([market.ask[: k + 1], other.ask[k + 1 :]]))
    actions = []
    for seen in (market, other):
        policy = ScheduledRoll(**QUICK)
        policy.reset(episode.order, see(seen, episode.first + 1))
        given = {"remaining": episode.order.size, "bars_left": episode.bars - 5}
        actions.append(policy.decide(RollState(bar=k, market=seen, order=episode.order, **given)))
    assert actions[0] == actions[1]


def test_whole_contracts_and_no_more_than_remain(episodes):
    episode = episodes[0]
    policy = ScheduledRoll(settings=RollSettings(tail_weight=20.0), **QUICK)
    policy.reset(episode.order, see(episode.market, episode.first + 1))
    left = episode.order.size
    for bar in range(0, episode.bars, 7):
        action = policy.decide(state_of(episode, bar, remaining=left))
        for part in (action.rest, action.cross, action.leg):
            assert type(part) is int
            assert part >= 0
        assert action.rest + action.cross + action.leg <= left
        left -= action.cross + action.leg
        if left == 0:
            break
    assert policy.decide(state_of(episode, 3, remaining=0)).reason == "nothing left"


@pytest.mark.parametrize("broken", ["draw", "solve", "observe"])
def test_goes_down_the_ladder_and_never_raises(episodes, monkeypatch, broken):
    episode = episodes[1]

    def fail(*args, **kwargs):
        raise FloatingPointError("planted")

    policy = ScheduledRoll(every_s=300.0, **QUICK)
    policy.reset(episode.order, see(episode.market, episode.first + 1))
    fresh = ScheduledRoll(**QUICK)
    fresh.reset(episode.order, see(episode.market, episode.first + 1))
    assert policy.decide(state_of(episode)).rest > 0
    names = {"draw": "draw_paths", "observe": "observe"}
    if broken == "solve":
        monkeypatch.setattr(RollProblem, "solve", fail)
    else:
        monkeypatch.setattr(policy_module, names[broken], fail)
    bar = int(300.0 / episode.market.bar_s)
    policy.decide(state_of(episode, bar))
    assert [d.rung for d in policy.history] == ["optimal", "last plan"]
    assert "planted" in policy.history[-1].note
    replay = replay_roll(episode, fresh)
    assert {d.rung for d in fresh.history} == {"pace"}
    assert replay.completion == 1.0
    assert replay.own_completion > 0.9


def test_what_no_pace_does_is_crossed(episodes):
    episode = episodes[3]
    policy = ScheduledRoll(settings=RollSettings(participation=1e-6, deadline_share=0.01), **QUICK)
    replay = replay_roll(episode, policy)
    assert policy.history[0].rung == "cross"
    assert "any pace" in policy.history[0].note
    assert replay.completion == 1.0


def test_solves_again_when_the_regime_changes(episodes):
    episode = episodes[0]
    policy = ScheduledRoll(every_s=1e6, **QUICK)
    policy.reset(episode.order, see(episode.market, episode.first + 1))
    for bar, regime in enumerate((Regime.PRE_ROLL, Regime.PRE_ROLL, Regime.BASIS_STRESS, Regime.BASIS_STRESS)):
        policy.decide(state_of(episode, bar, regime=regime))
    assert [d.bar - episode.first for d in policy.history] == [0, 2]


@pytest.mark.parametrize(
    "values",
    [{"scenarios": 0}, {"slices": 2.5}, {"every_s": 0.0}, {"seed": -1}, {"resting": ("wait",)}, {"resting": ()}],
)
def test_policy_refuses_bad_numbers(values):
    with pytest.raises(InvalidInput):
        ScheduledRoll(**values)


# -- scenarios ---------------------------------------------------------------------------------------------------------


def test_draws_are_seeded_and_hold_no_trend():
    numbers = RollStatistics()
    one = draw_scenarios(numbers, slices=10, slice_s=120.0, count=100, seed=4)
    two = draw_scenarios(numbers, slices=10, slice_s=120.0, count=100, seed=4)
    assert one.drift.tobytes() == two.drift.tobytes()
    assert one.flow.tobytes() == two.flow.tobytes()
    other = draw_scenarios(numbers, slices=10, slice_s=120.0, count=100, seed=5)
    assert (one.drift != other.drift).any()
    # Rounded to ticks, pairs of opposite sign leave a mean of less than a tenth of a tick.
    assert np.abs(one.drift.mean(axis=0)).max() < 0.1 * numbers.tick
    many = draw_scenarios(numbers, slices=10, slice_s=120.0, count=4000, seed=1)
    np.testing.assert_allclose(many.volume, 10.7 * 120.0)
    sd = many.drift[:, -1].std()
    assert 0.5 * numbers.noise_points < sd < 3.0 * numbers.noise_points


def test_stress_thins_the_book_and_moves_the_basis():
    numbers = RollStatistics()
    calm = draw_scenarios(numbers, slices=10, slice_s=120.0, count=400, seed=1)
    wild = draw_scenarios(numbers, slices=10, slice_s=120.0, count=400, seed=1, present=RollPresent(stress=3.0))
    assert wild.depth[:, 2].mean() < 0.6 * calm.depth[:, 2].mean()
    assert wild.half_width[:, 2].mean() > 1.5 * calm.half_width[:, 2].mean()
    assert wild.drift[:, 3].std() > 1.5 * calm.drift[:, 3].std()


def test_a_deviation_comes_back():
    high = draw_scenarios(
        RollStatistics(), slices=10, slice_s=300.0, count=400, seed=1, present=RollPresent(deviation=0.1)
    )
    sell = draw_scenarios(
        RollStatistics(), slices=10, slice_s=300.0, count=400, seed=1, present=RollPresent(deviation=0.1, side=-1)
    )
    assert high.drift[:, -1].mean() < -0.05
    assert sell.drift[:, -1].mean() > 0.05


def test_who_stays_pays_his_price_and_waits_longer():
    follow, stay = (
        draw_scenarios(RollStatistics(), slices=12, slice_s=300.0, count=300, seed=2, follow=f) for f in (True, False)
    )
    reached = stay.flow > 0.0
    np.testing.assert_allclose((stay.rest_drift - stay.rest_half)[reached], -0.025, atol=1e-9)
    assert (follow.rest_drift - follow.rest_half)[follow.flow > 0.0].mean() > -0.02
    filled = [np.isinf(s.flow[:, :2]).any(axis=1).mean() for s in (follow, stay)]
    assert filled[0] > filled[1]


def test_fills_fall_with_the_queue():
    numbers = RollStatistics()
    front = draw_scenarios(numbers, slices=6, slice_s=60.0, count=300, seed=3, present=RollPresent(ahead=0.0))
    back = draw_scenarios(numbers, slices=6, slice_s=60.0, count=300, seed=3, present=RollPresent(ahead=5000.0))
    assert front.fill_fraction(500.0)[:, 0].mean() > back.fill_fraction(500.0)[:, 0].mean() + 0.1
    share = front.fill_fraction(500.0)
    assert share.min() >= 0.0
    assert share.max() <= 1.0


def test_statistics_of_simulated_days_are_near_what_drew_them(episodes):
    markets = [episodes[k].market for k in (0, 4, 8, 12)]
    found = RollStatistics.from_markets(markets)
    truth = RollStatistics.from_parameters(RollParameters())
    assert (found.tick, found.leg_tick, found.multiplier) == (truth.tick, truth.leg_tick, truth.multiplier)
    assert 0.3 < found.noise_points / truth.noise_points < 2.0
    assert 0.3 < found.depth / truth.depth < 1.5
    assert found.width_ticks == 1.0
    assert found.cancel_per_s == pytest.approx(truth.cancel_per_s, rel=0.5)
    assert found.leg_points == pytest.approx(truth.leg_points, rel=0.5)
    peak = [int(np.argmax(s.volume_per_s)) for s in (found, truth)]
    assert abs(peak[0] - peak[1]) <= 1


def test_bootstrap_keeps_what_happened(episodes):
    markets = [episodes[k].market for k in (0, 4)]
    order = episodes[8].order
    known = see(episodes[8].market, episodes[8].first + 1)
    numbers = RollStatistics.from_markets(markets)
    now = observe(known, order, numbers)
    given = {"slices": 10, "slice_s": 120.0, "count": 60, "present": now, "statistics": numbers}
    one, two = (bootstrap_scenarios(markets, seed=1, **given) for _ in range(2))
    assert one.drift.tobytes() == two.drift.tobytes()
    np.testing.assert_allclose(one.drift.mean(axis=0), 0.0, atol=1e-12)
    widths = {round(float(w), 6) for m in markets for w in 0.5 * (m.ask - m.bid)}
    assert {round(float(w), 6) for w in np.unique(one.half_width[:, 1:])} <= widths
    assert "2 roll days" in one.source
    plan = RollProblem(order, one).solve()
    assert plan.solution.status.ok


def test_problem_at_a_market(episodes):
    episode = episodes[5]
    known = see(episode.market, episode.first + 1)
    order = episode.order
    problem = RollProblem.at(order, known, scenarios=30, slices=10, arrival=float(known.mid[-1]) - 0.1)
    assert problem.moved == pytest.approx(order.side * 0.1)
    assert problem.scenarios.dt_s.sum() == pytest.approx((order.cutoff - known.times[-1]).total_seconds())
    assert problem.solve().solution.status.ok
    with pytest.raises(InvalidInput, match="cutoff"):
        RollProblem.at(order, episode.market)
    for expiry, words in ((order.cutoff - pd.Timedelta("1min"), "expired"), (pd.Timestamp("2030-01-01"), "localise")):
        with pytest.raises(InvalidInput) as caught:
            RollProblem.at(order, known, expiry=expiry)
        assert words in caught.value.remedy
    with pytest.raises(DataGap):
        observe(known, order, RollStatistics(), bar=known.bars)


@pytest.mark.parametrize(
    "values",
    [{"slices": 0}, {"slice_s": -5.0}, {"slice_s": float("nan")}, {"count": 0}, {"seed": -1}, {"seed": 0.5}],
)
def test_generators_refuse_bad_numbers(episodes, values):
    given = {"slices": 4, "slice_s": 120.0, "count": 4, "seed": 0, **values}
    with pytest.raises(InvalidInput):
        draw_scenarios(RollStatistics(), **given)
    with pytest.raises(InvalidInput):
        bootstrap_scenarios([episodes[0].market], statistics=RollStatistics(), **given)


@pytest.mark.parametrize(
    "values", [{"depth": 0.0}, {"queue": 1.5}, {"noise_points": -1.0}, {"volume_per_s": ()}, {"tilt": 2.0}]
)
def test_statistics_refuse_bad_numbers(values):
    with pytest.raises(InvalidInput):
        RollStatistics(**values)


def test_no_past_no_statistics(episodes):
    with pytest.raises(InvalidInput):
        RollStatistics.from_markets([])
    with pytest.raises(InvalidInput):
        bootstrap_scenarios([], slices=2, slice_s=60.0)
    other: RollMarket = replace(episodes[0].market, tick=0.01)
    with pytest.raises(InvalidInput):
        RollStatistics.from_markets([episodes[0].market, other])
    with pytest.raises(DataGap):
        bootstrap_scenarios([episodes[0].market], slices=2, slice_s=60.0, block_s=1e6)


def test_order_of_one_contract(episodes):
    episode = episodes[0]
    order = RollOrder("one", 1, episode.order.start, episode.order.cutoff)
    replay = replay_roll(replace(episode, order=order), ScheduledRoll(**QUICK))
    assert replay.completion == 1.0
