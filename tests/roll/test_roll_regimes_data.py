"""Metrics and machine on recorded ES quotes and on simulated roll days."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from roll_metric_cases import implied_market

from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.problems.market.simulator.spread_book import RollParameters
from crosswind.problems.market.simulator.spread_book_days import simulate_roll
from crosswind.problems.roll import Regime, RollOrder
from crosswind.problems.roll.churn import ChurnLimits
from crosswind.problems.roll.metrics import METRICS, MetricStream, RollMetricsConfig, RollVolumeBaseline, roll_metrics
from crosswind.problems.roll.regimes import RegimeConfig, RegimeWatch, run_machine
from crosswind.problems.roll.replay import AdaptiveTwap, RollReplayConfig, replay_roll, roll_episodes
from crosswind.problems.roll.replay.episodes import market_of_day

NEW_YORK = "America/New_York"


@pytest.mark.data
def test_the_announcement_of_2013_12_18_is_basis_stress(lean_dir):
    quotes, _ = read_lean_futures(lean_dir, "ES", days=["2013-12-18"], expiries=["201312", "201403"])
    opened, closed = (pd.Timestamp(f"2013-12-18 {clock}", tz=NEW_YORK) for clock in ("09:30", "16:00"))
    market = implied_market(quotes.between(opened, closed), "201312", "201403")
    config = RollMetricsConfig(sigma_floor_points=market.leg_tick / np.sqrt(12.0))
    order = RollOrder("ES", 2000, market.times[0], market.times[-1])
    left = pd.Series(np.linspace(2000, 0, market.bars), index=market.times)
    frame = roll_metrics(market, order, config=config, remaining=left)
    run = run_machine(RegimeConfig(), frame, order.cutoff)
    stressed = run.transitions[run.transitions["target"] == "BASIS_STRESS"]
    # The Federal Reserve's statement came at 14:00 New York; nothing else that day is basis stress.
    assert stressed.index.tolist() == [pd.Timestamp("2013-12-18 14:00", tz=NEW_YORK)]
    assert abs(stressed["bdz"].iloc[0]) > 5.0
    assert run.shares()["PRE_ROLL"] > 0.8
    assert run.regimes.iloc[-16:].eq(Regime.DEADLINE).all()
    assert len(run.transitions) < 15
    stream = MetricStream.of(market, config, order=order)
    got = pd.DataFrame([stream.update_bar(market, k, float(left.iloc[k])) for k in range(market.bars)])
    for name in METRICS:
        np.testing.assert_allclose(got[name], frame[name].to_numpy(), rtol=1e-12, atol=1e-12, equal_nan=True)


def simulated(first, count=2, **changed):
    p = RollParameters(**changed)
    books = [simulate_roll(p, days=1, seed=first + k) for k in range(count)]
    return [market_of_day(b.days[0], b.bar_s, p.multiplier, p.outright_tick) for b in books]


def test_the_machine_tells_simulated_worlds_apart():
    """Seeds that the thresholds were not chosen on."""
    baseline = RollVolumeBaseline.fit(simulated(510, 4), tz=NEW_YORK)

    def share(regime, **changed):
        found = []
        for day in simulated(610, 3, **changed):
            order = RollOrder("o", 100, day.times[0], day.times[-1])
            run = run_machine(None, roll_metrics(day, order, baseline), order.cutoff)
            found.append(run.shares()[regime])
            assert len(run.transitions) < 25
        return float(np.mean(found))

    assert share("PRE_ROLL") > 0.8
    assert share("CROWDED", spread_volume_per_day=1_320_000.0) > 0.6
    assert share("BASIS_STRESS", jumps_per_day=10.0, jump_vol_points=0.5) > 3 * share("BASIS_STRESS")


def test_both_invariants_hold_in_a_replay():
    limits = ChurnLimits(dwell_s=20.0, max_replaces_per_minute=2, cooldown_s=30.0)
    watch = RegimeWatch(RegimeConfig(dwell_s=60.0), baseline=None, history_s=2400.0)
    for episode in roll_episodes(3, seed=5):
        result = replay_roll(episode, AdaptiveTwap(), RollReplayConfig(churn=limits, watch=watch))
        transitions = watch.machine.transitions
        times = [t.time for t in transitions if t.target is not Regime.DEADLINE]
        assert all(b - a >= pd.Timedelta("60s") for a, b in itertools.pairwise(times))
        assert watch.machine.regime is Regime.DEADLINE
        assert result.metrics["rdp"].size == episode.bars
