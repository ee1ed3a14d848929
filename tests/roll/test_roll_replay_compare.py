"""Baselines on their paths, and policies compared in pairs with tails and a bootstrap by day."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from roll_replay_cases import Scripted, episode, flat_market, plain

from crosswind.problems.roll import RollAction
from crosswind.problems.roll.regimes import RegimeWatch
from crosswind.problems.roll.replay import (
    COMPONENTS,
    AdaptiveTwap,
    AllEarly,
    AllLate,
    Legged,
    PassiveThenCross,
    RollComparison,
    RollReplayConfig,
    TwapSpread,
    VolumeFollowing,
    compare_rolls,
    replay_roll,
    roll_episodes,
)
from crosswind.problems.roll.replay.bootstrap import block_weights, measures
from crosswind.solvers.errors import InvalidInput

DEEP = plain(participation=1.0, forced_participation=1.0, refill_half_life_s=0.001)


def path(policy: Any, quantity: int = 60, bars: int = 13, market: Any = None, **order: Any) -> tuple[list[int], Any]:
    """Return what was done at each decision and the replay."""
    watched = Scripted(policy.decide)
    made = episode(flat_market(bars) if market is None else market, quantity, **order)
    policy.reset(made.order, made.market)
    out = replay_roll(made, watched, DEEP)
    return [quantity - state.remaining for state in watched.seen], out


def test_twap_crosses_equal_clips_at_the_start_of_each_slice() -> None:
    done, out = path(TwapSpread(slice_s=20.0))
    assert done == [0, 10, 10, 20, 20, 30, 30, 40, 40, 50, 50, 60]
    assert out.forced == 0
    uneven, _ = path(TwapSpread(slice_s=30.0), quantity=10)
    assert np.diff([*uneven, 10]).max() == 3
    assert uneven[-1] == 10


def test_adaptive_twap_carries_forward_what_was_not_filled_and_plain_passive_does_not() -> None:
    """Nobody trades: all of the path is behind, and is crossed a slice later."""
    done, out = path(AdaptiveTwap(slice_s=30.0))
    assert done == [0, 0, 0, 0, 15, 15, 15, 30, 30, 30, 45, 45]
    assert [f.units for f in out.fills if f.kind == "cross"] == [15, 15, 15, 15]
    assert out.forced == 0
    done, out = path(PassiveThenCross(slice_s=30.0))
    assert set(done) == {0}
    assert out.forced == 60


def test_adaptive_twap_rests_its_path_and_crosses_only_what_is_behind() -> None:
    market = flat_market(13, sold=np.full(13, 103.0))
    done, out = path(AdaptiveTwap(slice_s=30.0), market=market)
    kinds = {kind: sum(f.units for f in out.fills if f.kind == kind) for kind in ("passive", "cross")}
    assert kinds["passive"] > 30
    assert kinds["passive"] + kinds["cross"] == 60
    assert done[-1] >= 45


def test_volume_following_keeps_its_share_of_the_volume() -> None:
    market = flat_market(31, sold=np.full(31, 30.0), bought=np.full(31, 70.0))
    done, _ = path(VolumeFollowing(participation=0.05), quantity=1000, bars=31, market=market)
    assert done[1:] == [5 * k for k in range(1, 30)]
    with pytest.raises(InvalidInput, match="participation"):
        VolumeFollowing(participation=0.0)
    # Without a share: the one that would be done at the pace of the minutes before.
    done, _ = path(VolumeFollowing(), quantity=200, bars=31, market=market, first=10)
    assert done[-1] == pytest.approx(200 * 19 / 20, abs=1)


def test_all_early_and_all_late_and_legged() -> None:
    assert path(AllEarly(), quantity=60)[0] == [0] + [60] * 11
    done, out = path(AllLate(last_s=20.0), quantity=60)
    assert done == [0] * 11 + [60]
    assert out.forced == 0
    done, out = path(Legged(slice_s=30.0), max_naked=10)
    # Clips of 15, of which the legs have room for 10 at a time.
    assert done == [0, 10, 15, 15, 25, 30, 30, 40, 45, 45, 55, 60]
    assert out.most_naked == 10
    assert path(Legged(), max_naked=0)[1].forced == 60
    for policy, value in ((TwapSpread, 0.0), (AllLate, float("nan")), (AdaptiveTwap, -1.0)):
        with pytest.raises(InvalidInput):
            policy(value)
    with pytest.raises(InvalidInput, match="max_let_s"):
        Legged(max_let_s=-1.0)


# -- comparison --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared() -> RollComparison:
    drawn = roll_episodes(48, seed=21, bar_s=60.0, windows_min=(30, 60), stress={"thin": 0.4}, sizes=(100, 3000))
    policies = [TwapSpread(), AdaptiveTwap(), AllLate(), AllEarly()]
    return compare_rolls(drawn, policies, RollReplayConfig(watch=RegimeWatch()), draws=300, keep=True)


def test_the_table_is_what_the_replays_say(compared: RollComparison) -> None:
    table = compared.table()
    for policy in compared.policies:
        own = [replay for (_, label), replay in compared.replays.items() if label == policy]
        costs = np.array([replay.per_contract for replay in own])
        assert table.loc[policy, "mean"] == pytest.approx(costs.mean())
        assert table.loc[policy, "median"] == np.sort(costs)[23]
        assert table.loc[policy, "q95"] == np.sort(costs)[45]
        assert table.loc[policy, list(COMPONENTS)].sum() == pytest.approx(costs.mean())
        assert table.loc[policy, "forced_share"] == pytest.approx(np.mean([replay.forced_share for replay in own]))
        for name in ("mean", "median", "q95", "cvar95"):
            assert table.loc[policy, f"{name}_low"] <= table.loc[policy, name] <= table.loc[policy, f"{name}_high"]
        assert table.loc[policy, "cvar95"] >= table.loc[policy, "q95"]
    assert table.loc["TWAP in the spread", "days"] == 12


def test_measures_are_those_of_the_weighted_sample() -> None:
    rng = np.random.default_rng(0)
    costs = rng.normal(size=37)
    weights = rng.integers(0, 4, (5, 37)).astype(float)
    for row, got in zip(weights, measures(costs, weights), strict=True):
        sample = np.repeat(costs, row.astype(int))
        q95 = np.quantile(sample, 0.95, method="inverted_cdf")
        expected = [
            sample.mean(),
            np.quantile(sample, 0.5, method="inverted_cdf"),
            q95,
            # Rockafellar and Uryasev: the least of z + E[(C − z)⁺]/0.05 over z, taken on at a point of the sample.
            min(z + np.maximum(sample - z, 0.0).mean() / 0.05 for z in sample),
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(measures(np.array([4.0])), [4.0] * 4)


def test_days_are_drawn_whole() -> None:
    weights = block_weights(["a", "a", "b", "c", "c"], 400, 1)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.15)
    np.testing.assert_array_equal(weights, block_weights(["a", "a", "b", "c", "c"], 400, 1))
    with pytest.raises(InvalidInput, match="nothing to draw"):
        block_weights([], 10, 0)


def test_differences_are_paired_by_order_and_day(compared: RollComparison) -> None:
    got = compared.differences()
    wide = compared.to_frame()["cost"].unstack("policy")
    for policy in compared.policies[1:]:
        gap = wide[policy] - wide["TWAP in the spread"]
        assert got.loc[policy, "mean"] == pytest.approx(gap.mean())
        days = gap.groupby([name.split("-")[0] for name in gap.index]).sum().to_numpy()
        # The bootstrap's width against the standard error of the mean of days, each of four orders.
        width = got.loc[policy, "mean_high"] - got.loc[policy, "mean_low"]
        assert width == pytest.approx(2 * 1.96 * days.std() / 4 / np.sqrt(12), rel=0.35)
    same = compare_rolls(
        roll_episodes(4, seed=1, bar_s=60.0), {"one": TwapSpread(), "two": TwapSpread()}, draws=50
    ).differences()
    assert (same.loc["two"] == 0.0).all()  # common luck


def test_groups_regimes_and_the_gate(compared: RollComparison) -> None:
    by = compared.by("stress")
    assert set(by.index.get_level_values("stress")) == {"calm", "thin"}
    assert by.xs("TWAP in the spread", level="policy")["episodes"].sum() == 48
    regimes = compared.by_regime
    total = sum(replay.size - replay.residual for replay in compared.replays.values())
    assert regimes["contracts"].sum() == total
    assert len(set(regimes.index.get_level_values("regime"))) >= 2
    adaptive = compared.promotion("adaptive TWAP", own_slack=0.2)
    assert adaptive.loc["mean of the cost", "passed"]
    assert adaptive.loc["completion in thin", "passed"]
    with pytest.raises(InvalidInput, match="is no candidate"):
        compared.promotion("TWAP in the spread")


def test_a_policy_that_buys_mean_with_completion_in_stress_is_not_promoted(compared: RollComparison) -> None:
    """Made up from real rows: cheaper than TWAP in every order, but a tenth of the thin orders is left undone."""
    rows = compared.to_frame()
    twap = rows.xs("TWAP in the spread", level="policy", drop_level=False)
    cheat = twap.rename(index={"TWAP in the spread": "cheat"}, level="policy")
    cheat = cheat.assign(cost=cheat["cost"] - 1.0)
    thin = cheat["stress"] == "thin"
    cheat.loc[thin, "completion"] = 0.9
    cheat.loc[thin, "own_completion"] = 0.9
    import pandas as pd

    both = replace(compared, rows=pd.concat([twap, cheat]))
    gate = both.promotion("cheat")
    assert gate.loc["mean of the cost", "passed"]
    assert gate.loc["completion in calm", "passed"]
    assert not gate.loc["completion in thin", "passed"]


def test_a_comparison_shows_itself_and_says_where_the_book_comes_from(compared: RollComparison) -> None:
    text = compared.summary()
    assert "48 orders on 12 days; spread book: simulated listed spread" in text
    figure = compared.plot()
    assert "simulated listed spread" in figure.layout.title.text
    assert len(figure.data) == len(COMPONENTS) + 1
    assert "<table" in compared._repr_html_()


def test_what_cannot_be_compared_is_refused() -> None:
    drawn = roll_episodes(2, seed=1, bar_s=60.0)
    with pytest.raises(InvalidInput, match="episodes"):
        compare_rolls([], [TwapSpread()])
    with pytest.raises(InvalidInput, match="doubled"):
        compare_rolls([drawn[0], drawn[0]], [TwapSpread()])
    with pytest.raises(InvalidInput, match="same name"):
        compare_rolls(drawn, [TwapSpread(), TwapSpread(30.0)])
    with pytest.raises(InvalidInput, match="policies"):
        compare_rolls(drawn, {})
    with pytest.raises(InvalidInput, match="baseline"):
        compare_rolls(drawn, [TwapSpread()], baseline="x")
    out = compare_rolls(drawn, [TwapSpread()], draws=20)
    with pytest.raises(InvalidInput, match="column"):
        out.only("colour", "red")
    with pytest.raises(InvalidInput, match="no order"):
        out.only("stress", "storm")
    with pytest.raises(InvalidInput, match="level"):
        out.table(level=1.0)
    assert RollAction() == RollAction()
