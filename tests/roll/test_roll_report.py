"""The roll-day report: only what was known at the bar, the same live as replayed, figures against the replay's own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.roll import Regime, RollAction, RollMarket, RollOrder, RollState
from crosswind.problems.roll.metrics import RollVolumeBaseline
from crosswind.problems.roll.regimes import RegimeWatch
from crosswind.problems.roll.replay import (
    AdaptiveTwap,
    Legged,
    RollEpisode,
    RollReplay,
    RollReplayConfig,
    RollVenue,
    replay_roll,
    roll_episodes,
)
from crosswind.problems.roll.report import (
    RollReportConfig,
    RollTrack,
    forced_cross,
    past_roll_metrics,
    residual_projection,
    roll_report,
)
from crosswind.solvers.errors import DataGap, InvalidInput

REFUSING = RollVenue(reject_probability=0.15)
SMALL = RollReportConfig(scenarios=20, slices=6, venue=REFUSING)


class Recorded:
    """Keeps the states that its policy is shown: what a live loop has."""

    name = "recorded"

    def __init__(self, policy: Any) -> None:
        self.policy, self.states = policy, []

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        self.states = []
        self.policy.reset(order, market)

    def decide(self, state: RollState) -> RollAction:
        self.states.append(state)
        return self.policy.decide(state)


class Nothing:
    name = "nothing"

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        pass

    def decide(self, state: RollState) -> RollAction:
        return RollAction()


@pytest.fixture(scope="module")
def past() -> tuple[RollEpisode, ...]:
    return roll_episodes(3, seed=77, orders_per_day=1)


@pytest.fixture(scope="module")
def config(past: tuple[RollEpisode, ...]) -> RollReplayConfig:
    baseline = RollVolumeBaseline.fit([e.market for e in past])
    return RollReplayConfig(venue=REFUSING, watch=RegimeWatch(baseline=baseline))


@pytest.fixture(scope="module")
def episode() -> RollEpisode:
    return roll_episodes(3, seed=3)[2]


@pytest.fixture(scope="module")
def run(episode: RollEpisode, config: RollReplayConfig) -> tuple[RollReplay, Recorded]:
    policy = Recorded(AdaptiveTwap())
    return replay_roll(episode, policy, config), policy


def after(episode: RollEpisode, bar: int) -> RollEpisode:
    """Return the episode with everything after a bar replaced: prices far away, sizes and flows a hundredfold."""
    m, later = episode.market, np.arange(episode.market.bars) > bar
    values: dict[str, Any] = {}
    for name in ("bid", "ask"):
        values[name] = np.where(later, getattr(m, name) + 40.0, getattr(m, name))
        values[f"leg_{name}"] = getattr(m, f"leg_{name}") + 40.0 * later[:, None]
    for name in ("bid_size", "ask_size", "sold", "bought"):
        values[name] = np.where(later, 100.0 * getattr(m, name) + 7.0, getattr(m, name))
    return replace(episode, market=replace(m, **values))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_nothing_after_the_bar_is_read(
    episode: RollEpisode, run: tuple[RollReplay, Recorded], config: RollReplayConfig, share: float
) -> None:
    bar = episode.first + int(share * episode.bars)
    other = after(episode, bar)
    changed = replay_roll(other, Recorded(AdaptiveTwap()), config)
    assert changed.total != run[0].total  # the poison is felt where it may be
    now = roll_report(run[0], episode, bar, config=SMALL).panel()
    poisoned = roll_report(changed, other, bar, config=SMALL).panel()
    assert json.dumps(now, sort_keys=True) == json.dumps(poisoned, sort_keys=True)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_live_states_give_the_report_of_the_replay(
    episode: RollEpisode, run: tuple[RollReplay, Recorded], share: float
) -> None:
    result, policy = run
    n = int(share * episode.bars) + 1
    live = RollTrack.of_states(
        policy.states[:n],
        arrival=episode.arrival,
        policy="recorded",
        transitions=result.transitions,
        fills=result.fills,
        events=result.events,
    )
    panel = roll_report(live, config=SMALL).panel()
    replayed = roll_report(result, episode, episode.first + n - 1, config=SMALL).panel()
    assert panel["footer"].pop("venue seed") == "live"
    replayed["footer"].pop("venue seed")
    assert panel == replayed


def test_tiles_agree_with_the_replay(episode: RollEpisode, run: tuple[RollReplay, Recorded]) -> None:
    result = run[0]
    report = roll_report(result, episode, config=SMALL)
    assert result.counts["rejects"] > 0
    assert f"{result.counts['rejects']} refused and {result.counts['retries']} sent" in report.tile("rejects").note
    assert report.tile("replaces").note.startswith(f"{result.counts['replaces']} in all")
    assert report.frame["replaces"].max() == result.most_replaces
    assert sum(report.components.values()) == pytest.approx(result.total)
    assert report.tile("cost").value == pytest.approx(result.per_contract)
    assert report.tile("remaining").value == result.residual
    assert report.tile("countdown").value == 0.0
    half = roll_report(result, episode, episode.first + episode.bars // 2, config=SMALL)
    k = episode.bars // 2
    assert half.tile("remaining").value == result.remaining[k]
    assert half.tile("rdp").value == pytest.approx(result.metrics["rdp"][k])
    pace, left = (float(half.frame[name].iloc[-1]) for name in ("pace", "required"))
    assert left / pace == pytest.approx(result.metrics["rdp"][k])  # the same pressure by the other road
    assert half.tile("regime").value == result.regimes[k].name
    assert half.plan_now is not None
    assert half.plan_now.quantity == result.remaining[k]


def test_legs_that_stand_apart_are_seen(config: RollReplayConfig) -> None:
    base = roll_episodes(1, seed=4)[0]
    size = base.order.size
    legged = replace(base, order=replace(base.order, max_naked=size))
    result = replay_roll(legged, Legged(max_let_s=120.0), config)
    bars = range(legged.first + 2, legged.last, 7)
    seen = [roll_report(result, legged, bar, config=SMALL, plan=False).tile("legs") for bar in bars]
    assert max(tile.value for tile in seen) == pytest.approx(result.most_naked, rel=0.5)
    assert all(tile.limit == size and tile.state == "green" for tile in seen)
    tight = replace(legged, order=replace(legged.order, max_naked=0))
    apart = next(bar for bar, tile in zip(bars, seen, strict=True) if tile.value > 0)
    track = replace(RollTrack.of_replay(legged, result, apart), order=tight.order)
    assert roll_report(track, config=SMALL, plan=False).tile("legs").state == "red"


@pytest.mark.parametrize("quantity", [37, 4000, 60000])
def test_a_forced_cross_costs_what_the_replay_pays(episode: RollEpisode, quantity: int) -> None:
    order = replace(episode.order, quantity=quantity * episode.order.side)
    lone = replace(episode, order=order)
    result = replay_roll(lone, Nothing(), RollReplayConfig(venue=RollVenue()))
    track = RollTrack.of_replay(lone, result)
    cross = forced_cross(track.market, order.side, quantity)
    assert (cross.done, cross.left) == (result.forced, result.residual)
    # The replay holds it against the arrival price, the projection against the mid of now.
    drift = order.side * quantity * lone.market.multiplier * (float(lone.market.mid[lone.last]) - lone.arrival)
    assert cross.cost + drift == pytest.approx(result.total)
    if quantity == 60000:
        assert cross.left > 0
    assert forced_cross(track.market, order.side, 0).cost == 0.0
    with pytest.raises(InvalidInput, match="quantity"):
        forced_cross(track.market, order.side, -1)


def flat(flow: float, bars: int = 120) -> RollMarket:
    times = pd.date_range("2024-03-12 14:00", periods=bars, freq="60s", tz="UTC")
    one, two = np.ones(bars), np.ones((bars, 2))
    return RollMarket(
        times=times, bar_s=60.0, bid=0.0 * one, ask=0.05 * one, bid_size=100 * one, ask_size=100 * one,
        sold=flow * one, bought=flow * one, cancelled=0 * two, leg_bid=100.0 * two, leg_ask=100.25 * two,
        leg_bid_size=50 * two, leg_ask_size=50 * two, leg_volume=9 * two, tick=0.05, leg_tick=0.25, multiplier=50.0,
        legs=("202403", "202406"), source="made by hand",
    )  # fmt: skip


@pytest.mark.parametrize(("flow", "left"), [(0.0, 600.0), (50.0, 400.0), (500.0, 0.0)])
def test_a_steady_flow_leaves_what_arithmetic_says(flow: float, left: float) -> None:
    market = flat(flow)
    order = RollOrder("r", 600, market.times[39], market.times[79])
    track = RollTrack(see_until(market, 40), order, "by hand", 39, 0.025, np.array([600]))
    row = residual_projection(track).iloc[-1]
    assert row["pace"] == pytest.approx(0.1 * flow)
    assert row["required"] == pytest.approx(15.0)
    assert row["left"] == pytest.approx(left)
    # A flow that never changes leaves the drift of the level alone: four windows of ten bars are ahead.
    factor = np.exp(1.6448536 * np.sqrt(0.1 * np.log(5.0)))
    can = 0.1 * flow * 40.0
    assert row["left_high"] == pytest.approx(600.0 - min(can / factor, 600.0))
    assert row["left_low"] == pytest.approx(600.0 - min(can * factor, 600.0), abs=0.5)
    report = roll_report(track, plan=False)
    assert report.tile("forced_cross").value == pytest.approx(forced_cross(track.market, 1, round(left)).cost)
    state = report.tile("residual").state
    assert state == {0.0: "green", 400.0: "amber", 600.0: "amber"}[left]
    assert report.tile("pace").state == ("green" if flow > 150 else "amber")


def see_until(market: RollMarket, bars: int) -> RollMarket:
    from crosswind.problems.roll.replay.views import see

    return see(market, bars)


def test_the_interval_of_the_projection_holds_on_simulated_days() -> None:
    """Nominal 90 %; docs/roll/report-measured.md has the figures of more days."""
    inside = []
    for e in roll_episodes(24, seed=5, orders_per_day=3):
        flow = e.market.sold if e.order.side > 0 else e.market.bought
        huge = replace(e.order, quantity=10**7 * e.order.side)
        track = RollTrack(e.market, huge, "x", e.first, 0.0, np.full(e.market.bars - e.first, 10**7))
        frame = residual_projection(track)
        come = np.cumsum(flow[::-1])[::-1]
        for k in range(e.first + 30, e.last - 6, 61):
            true = 1e7 - 0.1 * float(come[k + 1] - come[e.last + 1])
            row = frame.iloc[k - e.first]
            inside.append(row["left_low"] <= true <= row["left_high"])
    assert len(inside) > 150
    assert 0.8 <= np.mean(inside) <= 0.97


def test_stale_data_are_grey_and_never_green(episode: RollEpisode, run: tuple[RollReplay, Recorded]) -> None:
    bar = episode.first + 50
    end, step = episode.market.times[bar], pd.Timedelta(seconds=episode.market.bar_s)
    fresh = roll_report(run[0], episode, bar, config=SMALL, plan=False, now=end + 2 * step)
    assert not fresh.stale
    assert "green" in {tile.state for tile in fresh.tiles}
    old = roll_report(run[0], episode, bar, config=SMALL, plan=False, now=end + 2 * step + pd.Timedelta("1ms"))
    assert old.stale
    assert {tile.state for tile in old.tiles} == {"grey"}
    assert all(tile.age_s == pytest.approx(20.001) for tile in old.tiles)
    assert "STALE" in old.summary()
    assert 'class="stale"' in old.to_html()
    with pytest.raises(InvalidInput, match="clock"):
        roll_report(run[0], episode, bar, config=SMALL, now=end - step)


def test_what_is_not_known_is_none_and_grey(episode: RollEpisode) -> None:
    blind = replay_roll(episode, AdaptiveTwap(), RollReplayConfig())
    report = roll_report(blind, episode, episode.first, config=SMALL, plan=False)
    panel = report.panel()
    tiles = {tile["name"]: tile for tile in panel["tiles"]}
    for name in ("regime", "rpc", "bdz", "forecast"):
        assert tiles[name]["state"] == "grey"
        assert not tiles[name]["value"]
    assert tiles["rpc"]["value"] is None
    assert panel["plan"] is None
    assert panel["bands"] is None
    assert "branch forecaster" in panel["notes"]["forecast"]
    json.dumps(panel, allow_nan=False)


def test_a_hopeless_order_is_reported_all_the_same(episode: RollEpisode, config: RollReplayConfig) -> None:
    lone = replace(episode, order=replace(episode.order, quantity=3_000_000 * episode.order.side))
    result = replay_roll(lone, AdaptiveTwap(), config)
    report = roll_report(result, lone, lone.first + 200, config=SMALL)
    assert report.plan_now is None
    assert "cannot be done at any pace" in report.notes["plan_now"]
    assert report.tile("residual").state == "red"
    assert report.tile("residual").headroom < 0
    assert "too few" in report.tile("forced_cross").note
    assert report.tile("rdp").state == "amber"


def test_bands_of_past_rolls_say_that_they_are_simulated(
    episode: RollEpisode, run: tuple[RollReplay, Recorded], past: tuple[RollEpisode, ...], tmp_path: Path
) -> None:
    frames = past_roll_metrics(past)
    for e, frame in zip(past, frames, strict=True):
        inside = (frame.index > e.order.start) & (frame.index <= e.order.cutoff)
        assert frame.loc[~inside, "rdp"].iloc[10:].isna().sum() >= (~inside).sum() - 11
        assert frame.loc[inside, "rdp"].notna().mean() > 0.9
    report = roll_report(run[0], episode, episode.first + 300, past=frames, config=SMALL)
    assert "past rolls (simulated)" in report.tile("cde").note
    page = report.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert "past rolls (simulated)" in page
    assert "simulated listed spread" in page
    assert report.footer["configuration"] in page
    assert page == report.to_html()  # the same page twice
    assert "<script src" not in page
    figure = report.plot()
    assert {"still to be done", "today", "executable pace"} <= {trace.name for trace in figure.data}
    with pytest.raises(InvalidInput, match="episodes"):
        past_roll_metrics([])


def test_bars_and_orders_that_do_not_belong_are_refused(episode: RollEpisode, run: tuple[RollReplay, Recorded]) -> None:
    result, policy = run
    for at in (episode.first - 1, episode.last + 1, "2001-01-01T00:00Z"):
        with pytest.raises(DataGap, match="outside the order"):
            roll_report(result, episode, at)
    with pytest.raises(InvalidInput, match="zone"):
        roll_report(result, episode, "2024-03-12 10:00")
    with pytest.raises(InvalidInput, match="episode"):
        roll_report(result)
    with pytest.raises(InvalidInput, match="another order"):
        roll_report(result, replace(episode, name="other"))
    with pytest.raises(InvalidInput, match="skips or repeats"):
        RollTrack.of_states([policy.states[0], policy.states[2]])
    with pytest.raises(InvalidInput, match="states"):
        RollTrack.of_states([])
    for values in ({"scenarios": 0}, {"clip_share": 0.0}, {"stale_bars": float("nan")}):
        with pytest.raises(InvalidInput, match=next(iter(values))):
            RollReportConfig(**values)
    one = roll_report(result, episode, episode.first, config=SMALL, plan=False)
    assert one.tile("regime").state in {regime.value for regime in Regime}
    with pytest.raises(InvalidInput, match="no tile"):
        one.tile("price")
    assert SMALL.key(episode.order) != replace(SMALL, seed=1).key(episode.order)


def test_books_that_cannot_be_are_refused_before_any_report(episode: RollEpisode) -> None:
    market = episode.market
    crossed, missing = np.array(market.leg_bid), np.array(market.leg_bid)
    crossed[100, 1] = market.leg_ask[100, 1] + 1.0
    missing[100, 0] = np.nan
    with pytest.raises(
        InvalidInput, match=f"crossed or locked in 1 places, first at {re.escape(str(market.times[100]))}"
    ):
        replace(market, leg_bid=crossed)
    with pytest.raises(InvalidInput, match=f"missing.*first at {re.escape(str(market.times[100]))}"):
        replace(market, leg_bid=missing)
    back = market.times.to_list()
    back[50] = back[40]
    with pytest.raises(InvalidInput, match="do not increase"):  # a clock that goes back
        replace(market, times=pd.DatetimeIndex(back))
