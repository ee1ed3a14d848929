"""Roll episodes: simulated sets, recorded days with a spread book made up from the legs, and what is refused."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.contracts import contract
from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.worlds_table import world
from crosswind.problems.roll.replay import (
    Legged,
    RollReplayConfig,
    RollVenue,
    SpreadRule,
    TwapSpread,
    real_roll_day,
    replay_roll,
    roll_episodes,
    roll_market_of,
    stressed,
)
from crosswind.solvers.errors import DataGap, InvalidInput

COARSE: dict[str, Any] = {"bar_s": 60.0, "windows_min": (20, 60)}


def test_a_longer_set_begins_with_the_shorter_one_and_days_are_blocks() -> None:
    few, many = roll_episodes(6, seed=2, **COARSE), roll_episodes(10, seed=2, **COARSE)
    for one, two in zip(few, many, strict=False):
        assert (one.name, one.order, one.block, one.stress, one.seed) == (
            two.name,
            two.order,
            two.block,
            two.stress,
            two.seed,
        )
        np.testing.assert_array_equal(one.market.bid, two.market.bid)
    assert [e.block for e in many] == ["00000"] * 4 + ["00001"] * 4 + ["00002"] * 2
    assert many[0].market is many[3].market
    assert not np.array_equal(many[0].market.bid, roll_episodes(1, seed=3, **COARSE)[0].market.bid)


def test_orders_are_what_was_asked_for_and_lie_within_the_session() -> None:
    drawn = roll_episodes(60, seed=4, orders_per_day=3, sizes=(10, 20), naked_share=0.25, **COARSE)
    assert {e.order.size for e in drawn} == {10, 20}
    assert {e.order.side for e in drawn} == {1, -1}
    assert {(e.order.cutoff - e.order.start).total_seconds() for e in drawn} == {1200.0, 3600.0}
    assert {e.order.max_naked for e in drawn} == {3, 5}
    for e in drawn:
        assert e.market.times[0] <= e.order.start - pd.Timedelta(840, "s")
        assert e.order.cutoff <= e.market.times[-1] - pd.Timedelta(240, "s")
        expiry = contract("ES").tz
        local = e.order.start.tz_convert(expiry)
        assert 9 <= local.hour < 16  # wall time, on either side of a change of clocks
    offsets = {e.order.start.tz_convert("America/New_York").utcoffset() for e in drawn}
    assert offsets == {dt.timedelta(hours=-5), dt.timedelta(hours=-4)}


def test_stresses_come_at_their_rates_and_do_what_they_say() -> None:
    rates = {"jumps": 0.2, "thin": 0.3}
    kinds = Counter(e.stress for e in roll_episodes(90, seed=1, orders_per_day=1, stress=rates, bar_s=900.0))
    for kind, rate in {**rates, "calm": 0.5}.items():
        assert abs(kinds[kind] / 90 - rate) < 3.0 * np.sqrt(rate * (1 - rate) / 90)
    p = RollParameters()
    assert stressed(p, "calm") == p
    assert stressed(p, "thin").depth_contracts < p.depth_contracts
    assert stressed(p, "jumps").jumps_per_day > p.jumps_per_day
    thin, calm = (
        np.mean([e.market.bid_size.mean() for e in roll_episodes(8, seed=1, orders_per_day=1, stress=s, bar_s=60.0)])
        for s in ({"thin": 1.0}, {})
    )
    assert thin < 0.5 * calm
    crowd = roll_episodes(8, seed=1, orders_per_day=1, stress={"one_sided": 1.0}, bar_s=60.0)
    tilts = [(e.market.bought.sum() - e.market.sold.sum()) / e.market.volume.sum() for e in crowd]
    assert min(np.abs(tilts)) > 0.3
    assert min(tilts) < 0.0 < max(tilts)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 2.5}, "count"),
        ({"seed": -1}, "seed"),
        ({"stress": {"storm": 0.1}}, "stress"),
        ({"stress": {"thin": 0.7, "jumps": 0.7}}, "stress"),
        ({"stress": {"thin": float("nan")}}, "stress"),
        ({"windows_min": (600,)}, "windows_min"),
        ({"naked_share": 2.0}, "naked_share"),
        ({"world": "calm"}, "world"),
        ({"bar_s": 7.0}, "bar_s"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        roll_episodes(**{"count": 1, **COARSE, **values})


def test_a_world_s_venue_is_taken_over_with_its_queue_and_refill() -> None:
    w = world("roll_day")
    assert w.roll is not None
    venue = RollVenue.of(w.venue, w.roll, levels=4)
    assert (venue.latency_s, venue.fee_per_contract) == (w.venue.latency_s, w.venue.fee_per_contract)
    assert (venue.queue, venue.refill_half_life_s) == (w.roll.queue_fraction, w.roll.refill_half_life_s)
    assert venue.levels == 4
    assert RollVenue.of(w.venue, w.roll) == RollVenue()  # the defaults are the declared world's


# -- recorded days -----------------------------------------------------------------------------------------------------


def quotes(bars: int = 60, root: str = "ES", months: tuple[str, ...] = ("201403", "201406"), **changed: Any) -> Any:
    """Return minute quotes of two expiries with tick bounce."""
    times = pd.date_range("2014-03-13 14:31", periods=bars, freq="1min", tz="UTC").as_unit("ns")
    rng = np.random.default_rng(1)
    ticks = np.round(np.cumsum(rng.normal(0, 1, (bars, 1)), axis=0)) + rng.integers(0, 2, (bars, 2))
    bid = pd.DataFrame([1860.0, 1853.5] + 0.25 * ticks, index=times, columns=list(months))
    frames = {
        "bid": bid,
        "ask": bid + 0.25,
        "bid_size": pd.DataFrame(rng.integers(50, 400, (bars, 2)).astype(float), times, list(months)),
        "ask_size": pd.DataFrame(rng.integers(50, 400, (bars, 2)).astype(float), times, list(months)),
        "volume": pd.DataFrame(rng.integers(0, 900, (bars, 2)).astype(float), times, list(months)),
    }
    terms = {"bar_s": 60.0, "multiplier": 50.0, "tick": 0.25}
    return FuturesQuotes(root=root, **{**frames, **terms, **changed})


def test_a_made_up_book_stands_inside_the_implied_quotes_on_its_grid_and_says_what_it_is() -> None:
    q = quotes()
    market = roll_market_of(q, "201403", "201406")
    bid, ask = q.bid.to_numpy(), q.ask.to_numpy()
    implied_bid, implied_ask = bid[:, 1] - ask[:, 0], ask[:, 1] - bid[:, 0]
    assert (market.bid >= implied_bid - 1e-9).all()
    assert (market.ask <= implied_ask + 1e-9).all()
    assert set(np.round((market.ask - market.bid) / 0.05).astype(int)) <= {1, 2}
    np.testing.assert_allclose(market.bid / 0.05, np.round(market.bid / 0.05), atol=1e-9)
    mids = 0.5 * (bid + ask)
    middle = pd.Series(mids[:, 1] - mids[:, 0]).rolling(5, min_periods=1).median().to_numpy()
    inside = (middle - implied_bid > 0.06) & (implied_ask - middle > 0.06)
    assert inside.sum() > 30
    assert (np.abs(market.mid - middle)[inside] <= 0.026).all()
    assert market.source.startswith("synthesised from the legs")
    sold = q.volume.min(axis=1).to_numpy() // 2
    np.testing.assert_array_equal(market.volume, sold)
    np.testing.assert_array_equal(market.bid_size, np.minimum(q.ask_size["201403"], q.bid_size["201406"]))
    assert market.facts["root"] == "ES"


def test_a_made_up_quote_never_looks_ahead() -> None:
    q = quotes()
    whole = roll_market_of(q, "201403", "201406")
    part = roll_market_of(q, "201403", "201406", end=q.index[29])
    for name in ("bid", "ask", "bid_size", "sold", "cancelled"):
        np.testing.assert_array_equal(getattr(whole, name)[:30], getattr(part, name))


def test_other_contracts_roll_by_their_own_terms() -> None:
    nq = roll_market_of(quotes(root="NQ", multiplier=20.0), "201403", "201406")
    assert (nq.multiplier, nq.tick, nq.leg_tick) == (20.0, 0.05, 0.25)
    times = pd.date_range("2023-03-20", periods=60, freq="1min", tz="UTC").as_unit("ns")
    coin = quotes(root="BTCUSDT_QUARTER", months=("202303", "202306"), multiplier=1.0, tick=0.1)
    frames = {n: getattr(coin, n).set_axis(times) for n in ("bid", "ask", "bid_size", "ask_size", "volume")}
    frames["bid"] = (10.0 * frames["bid"]).round(1)
    frames["ask"] = frames["bid"] + 0.1
    market = roll_market_of(replace(coin, **frames), "202303", "202306")
    assert (market.tick, market.leg_tick, market.multiplier) == (0.1, 0.1, 1.0)  # no spread is listed
    with pytest.raises(InvalidInput, match="inverse"):
        roll_market_of(replace(coin, root="BTCUSD_QUARTER", **frames), "202303", "202306")


def test_damaged_legs_are_refused_and_the_place_is_named() -> None:
    q = quotes()
    with pytest.raises(DataGap, match="no such expiry"):
        roll_market_of(q, "201403", "201409")
    with pytest.raises(InvalidInput, match="not before far"):
        roll_market_of(q, "201406", "201403")
    holes = {name: getattr(q, name).copy() for name in ("bid", "ask", "bid_size", "ask_size")}
    for frame in holes.values():
        frame.iloc[17:20, 1] = np.nan
    with pytest.raises(DataGap, match=r"ES 201406: .* 3 bars, first at 2014-03-13 14:48"):
        roll_market_of(replace(q, **holes), "201403", "201406")
    kept = np.r_[0:20, 40:60]
    gap = {n: getattr(q, n).iloc[kept] for n in ("bid", "ask", "bid_size", "ask_size", "volume")}
    with pytest.raises(DataGap, match=r"no bars between 2014-03-13 14:50.* and 2014-03-13 15:11"):
        roll_market_of(replace(q, **gap), "201403", "201406")
    locked = q.ask.copy()
    locked.iloc[5, 0] = q.bid.iloc[5, 0]
    with pytest.raises(InvalidInput, match="crossed or locked"):
        roll_market_of(replace(q, ask=locked), "201403", "201406")
    later = q.index + pd.Timedelta(days=8)
    gone = {n: getattr(q, n).set_axis(later) for n in ("bid", "ask", "bid_size", "ask_size", "volume")}
    with pytest.raises(InvalidInput, match="ESH4 ended trading at 2014-03-21"):
        roll_market_of(replace(q, **gone), "201403", "201406")
    with pytest.raises(InvalidInput, match="width_ticks"):
        SpreadRule(width_ticks=0)
    with pytest.raises(InvalidInput, match="flow_share"):
        SpreadRule(flow_share=-0.1)


def test_wall_times_that_a_day_of_changing_clocks_skips_or_repeats_are_refused(lean_dir: Path) -> None:
    with pytest.raises(InvalidInput, match="skipped"):
        real_roll_day("2014-03-09", "02:30", "10:00", 1, data=lean_dir)
    with pytest.raises(InvalidInput, match="comes twice"):
        real_roll_day("2013-11-03", "01:30", "10:00", 1, data=lean_dir)


def test_a_recorded_day_rolls_from_its_leg_books(lean_dir: Path) -> None:
    """The fact sheet's day: next − front −6.25; through the legs in the same minute dearer than the made-up spread."""
    episodes = [
        real_roll_day("2013-12-18", f"{h}:00", f"{h + 2}:00", side * 200, data=lean_dir, max_naked=20)
        for h in (10, 12, 14)
        for side in (1, -1)
    ]
    first = episodes[0]
    assert (first.market.legs, first.bars, first.first) == (("201312", "201403"), 120, 119)
    assert first.order.start == pd.Timestamp("2013-12-18 15:00", tz="UTC")  # New York winter time
    assert first.arrival == pytest.approx(-6.25, abs=0.2)
    free = RollReplayConfig(venue=RollVenue(fee_per_contract=0.0))
    spread = [replay_roll(e, TwapSpread(), free).per_contract for e in episodes]
    legs = [replay_roll(e, Legged(), free).per_contract for e in episodes]
    # A study with other rules found 3.25 and 15.4.
    assert 1.5 < np.mean(spread) < 5.0
    assert 11.0 < np.mean(legs) < 19.0
    assert "synthesised from the legs" in replay_roll(first, TwapSpread()).summary()
    before = real_roll_day("2013-12-02", "10:00", "12:00", 100, data=lean_dir)
    assert replay_roll(before, TwapSpread()).completion == 1.0


def test_recorded_orders_that_cannot_be_are_refused(lean_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="cutoff"):
        real_roll_day("2013-12-18", "12:00", "11:00", 10, data=lean_dir)
    with pytest.raises(DataGap):
        real_roll_day("2013-12-19", "10:00", "11:00", 10, data=lean_dir)
    with pytest.raises(InvalidInput, match="time zone"):
        real_roll_day("2013-12-18", pd.Timestamp("2013-12-18 15:00"), "12:00", 10, data=lean_dir)
    with pytest.raises(DataGap, match="no such expiry"):
        real_roll_day("2013-12-18", "10:00", "11:00", 10, data=lean_dir, legs=("201312", "201506"))
    monkeypatch.delenv("CROSSWIND_DATA", raising=False)
    with pytest.raises(DataGap, match="CROSSWIND_DATA"):
        real_roll_day("2013-12-18", "10:00", "11:00", 10)
    monkeypatch.setenv("CROSSWIND_DATA", str(lean_dir.parent))
    assert real_roll_day("2013-12-18", "10:00", "11:00", 10).bars == 60
