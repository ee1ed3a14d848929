"""The roll's books: conservation to the contract, no-arbitrage bands, refill, shocks, migration, queues, streams."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.simulator.sessions import session_ends
from crosswind.problems.market.simulator.spread_book import (
    RollDay,
    RollParameters,
    draw_roll,
    far_share,
    implied_quotes,
)
from crosswind.problems.market.simulator.spread_book_days import RollBook, join_roll, simulate_roll
from crosswind.problems.market.simulator.spread_book_flow import (
    aggressive_orders,
    refill_path,
    roll_curve,
    trade_sizes,
)
from crosswind.problems.market.simulator.spread_book_queue import join_queue
from crosswind.solvers.errors import InvalidInput

FAST = RollParameters(bar_s=10.0)
STILL = RollParameters(
    bar_s=10.0, noise_vol_points=0.0, jumps_per_day=0.0, flow_impact_points=0.0, index_vol_daily=0.0, depth_noise_sd=0.0
)
DAY = dt.date(2024, 3, 8)


@pytest.fixture(scope="module")
def roll() -> RollBook:
    """Four sessions across the roll of March 2024."""
    return simulate_roll(FAST, days=4, seed=3)


def one_day(p: RollParameters, seed: int = 1, bars: int = 2340, number: int = 0, **values: Any) -> RollDay:
    ends = session_ends(DAY, 34200.0, 10.0, bars, "America/New_York")
    flat = {"index_points": np.full(bars, 5000.0), "relative_vol": np.ones(bars), **values}
    return draw_roll(ends=ends, bar_s=10.0, day=DAY, parameters=p, seed=seed, number=number, **flat)


def test_every_displayed_contract_is_accounted_for(roll: RollBook) -> None:
    for day in roll.days:
        b = day.book
        before = np.vstack([b.opening, b.displayed[:-1]])
        np.testing.assert_array_equal(b.displayed, before - b.consumed - b.cancelled + b.added)
        np.testing.assert_array_equal(b.consumed, np.minimum(b.sent, before))
        for part in (b.opening, b.sent, b.consumed, b.cancelled, b.added, b.displayed):
            assert part.dtype == np.int64
            assert part.min() >= 0
        assert (b.cancelled <= before - b.consumed).all()


def test_quotes_stay_inside_what_the_legs_imply_on_the_tick_grid(roll: RollBook) -> None:
    for day in roll.days:
        lowest, highest = implied_quotes(day.legs, day.tick)
        assert (lowest <= day.bid_ticks).all()
        assert (day.bid_ticks < day.ask_ticks).all()
        assert (day.ask_ticks <= highest).all()
        # The true mid lies within the band too: the legs do not contradict the spread.
        assert (lowest * day.tick - 1e-9 <= day.mid).all()
        assert (day.mid <= highest * day.tick + 1e-9).all()
        for leg in (day.legs.bid, day.legs.ask):
            np.testing.assert_allclose(leg / FAST.outright_tick, np.rint(leg / FAST.outright_tick), atol=1e-9)


def test_a_wide_quote_is_cut_to_the_band_and_a_thin_side_steps_back() -> None:
    wide = one_day(replace(FAST, width_ticks=30.0))
    lowest, highest = implied_quotes(wide.legs, wide.tick)
    np.testing.assert_array_equal(wide.bid_ticks, lowest)
    np.testing.assert_array_equal(wide.ask_ticks, highest)
    day = one_day(replace(STILL, thin_share=0.5))
    firm = one_day(replace(STILL, thin_share=0.0))
    thin = day.book.displayed < 0.5 * day.book.target
    assert thin.any(axis=0).all()
    np.testing.assert_array_equal(day.bid_ticks, firm.bid_ticks - thin[:, 0])
    np.testing.assert_array_equal(day.ask_ticks, firm.ask_ticks + thin[:, 1])


def test_the_tables_hold_what_the_book_did(roll: RollBook) -> None:
    (spread,) = roll.spreads.values()
    truth = roll.to_frame()
    assert list(roll.spreads) == ["202403-202406"]
    assert (spread.near, spread.far, spread.bar_s) == ("202403", "202406", 10.0)
    np.testing.assert_array_equal(spread.volume, truth["consumed_bid"] + truth["consumed_ask"])
    np.testing.assert_array_equal(spread.aggressive_buy, truth["consumed_ask"])
    np.testing.assert_array_equal(spread.bid_size, truth["displayed_bid"])
    assert (spread.mid - truth["mid"]).abs().quantile(0.95) < FAST.tick
    assert roll.futures.expiries == ("202403", "202406")
    assert roll.futures.index.equals(spread.index)
    known = roll.truth()
    assert known["refill_half_life_s"] == FAST.refill_half_life_s
    assert known["queue_fraction"] == FAST.queue_fraction
    assert len(known["shock_times"]) == len(known["shock_points"]) == len(roll.shocks)
    assert "basis shocks" in roll.summary()


def test_the_carry_alone_prices_a_still_spread() -> None:
    day = one_day(STILL)
    near, far = 7 / 365.0, 105 / 365.0  # to 15 March and 21 June 2024
    exact = 5000.0 * (np.exp(STILL.carry_rate * far) - np.exp(STILL.carry_rate * near))
    np.testing.assert_allclose(day.mid, exact, rtol=1e-12)
    assert (day.stress == 1.0).all()
    assert not len(day.shock_bars)


def test_depth_refills_with_its_half_life() -> None:
    p = replace(FAST, refill_half_life_s=40.0, cancel_rate_per_s=0.001)
    target = np.full((60, 2), 100_000.0)
    sent = np.zeros((60, 2), dtype=np.int64)
    sent[0] = 80_000
    gap = 1.0 - refill_path(sent, target, 10.0, p, np.random.default_rng(0)).displayed / target
    bars = np.arange(1, 60)
    # The opening is full; the shot takes 80 % in bar 0, whose own refill is already one bar old.
    np.testing.assert_allclose(gap[3], 0.8 * 0.5, rtol=0.02)
    np.testing.assert_allclose(gap[7], 0.8 * 0.25, rtol=0.03)
    slope = np.polyfit(bars[:16], np.log(gap[:16].mean(axis=1)), 1)[0]
    np.testing.assert_allclose(np.log(2.0) / -slope * 10.0, 40.0, rtol=0.05)


def test_depth_settles_at_its_target_with_cancellations() -> None:
    p = replace(FAST, cancel_rate_per_s=0.05)
    target = np.full((4000, 2), 500.0)
    book = refill_path(np.zeros((4000, 2), dtype=np.int64), target, 10.0, p, np.random.default_rng(1))
    np.testing.assert_allclose(book.displayed.mean(), 500.0, rtol=0.01)
    share = 1.0 - np.exp(-0.5)
    np.testing.assert_allclose(book.cancelled.sum() / book.displayed.sum(), share, rtol=0.02)


def test_without_refill_depth_only_falls_and_then_nothing_trades() -> None:
    p = replace(STILL, refill_half_life_s=np.inf, cancel_rate_per_s=0.0)
    book = one_day(p).book
    assert (np.diff(book.displayed, axis=0) <= 0).all()
    assert not book.added.any()
    assert not book.displayed[-1].any()
    np.testing.assert_array_equal(book.consumed.sum(axis=0), book.opening)


def test_noise_has_its_sd_and_half_life() -> None:
    p = replace(STILL, noise_vol_points=0.04, noise_half_life_s=120.0)
    noise = np.stack([one_day(p, number=k).mid - one_day(p, number=k).fair for k in range(8)])
    np.testing.assert_allclose(noise.std(), 0.04, rtol=0.1)
    lagged = np.mean(noise[:, 12:] * noise[:, :-12]) / np.mean(noise**2)
    np.testing.assert_allclose(lagged, 0.5, atol=0.06)


def test_shocks_move_the_spread_by_their_size_and_decay() -> None:
    p = replace(STILL, jumps_per_day=6.0, jump_half_life_s=300.0)
    day = one_day(p, seed=2)
    assert len(day.shock_bars) > 2
    decay = 0.5 ** (10.0 / 300.0)
    path = np.zeros(len(day.mid))
    for bar, size in zip(day.shock_bars, day.shock_points, strict=True):
        path[bar:] += size * decay ** np.arange(len(path) - bar)
    np.testing.assert_allclose(day.mid - day.fair, path, atol=1e-12)
    assert day.shock_times.equals(day.index[day.shock_bars])


def test_stress_widens_the_quote_thins_the_book_and_raises_the_noise() -> None:
    p = replace(FAST, jumps_per_day=8.0, stress_per_shock=2.0, jump_vol_points=0.0, flow_impact_points=0.0)
    days = [one_day(p, number=k) for k in range(6)]
    stress = np.concatenate([d.stress for d in days])
    width = np.concatenate([d.ask_ticks - d.bid_ticks for d in days])
    depth = np.concatenate([d.book.displayed.mean(axis=1) for d in days])
    moves = np.concatenate([np.abs(np.diff(d.mid - d.fair, prepend=d.mid[0] - d.fair[0])) for d in days])
    calm, hot = stress < 1.2, stress > 2.5
    assert width[hot].mean() > 2.0 * width[calm].mean()
    assert depth[hot].mean() < 0.6 * depth[calm].mean()
    assert moves[hot].mean() > 2.0 * moves[calm].mean()


def test_the_crowd_concentrates_volume_and_leans_to_one_side() -> None:
    days = [one_day(FAST, number=k) for k in range(6)]
    sent = np.mean([d.book.sent for d in days], axis=0)
    x = (np.arange(len(sent)) + 0.5) / len(sent)
    window = np.abs(x - FAST.crowd_center) < 2.0 * FAST.crowd_width
    plain = replace(FAST, crowding=0.0)
    quiet = np.mean([one_day(plain, number=k).book.sent for k in range(6)], axis=0)
    assert sent[window].sum() / sent.sum() > 1.3 * quiet[window].sum() / quiet.sum()
    np.testing.assert_allclose(sent[:, 1].sum() / sent.sum(), 0.5 * (1.0 + FAST.one_sidedness), atol=0.03)
    np.testing.assert_allclose(roll_curve(2340, FAST).mean(), 1.0, rtol=1e-12)


def test_order_sizes_have_the_mean_and_the_tail_asked_for() -> None:
    rng = np.random.default_rng(0)
    sizes = trade_sizes(rng.random(400_000), rng.random(400_000), FAST)
    np.testing.assert_allclose(sizes.mean(), FAST.mean_trade_contracts, rtol=0.03)
    assert sizes.min() >= 1
    assert sizes.max() <= FAST.trade_cap_contracts
    # P(X > 4x) / P(X > x) of a Pareto law.
    np.testing.assert_allclose((sizes > 400).mean() / (sizes > 100).mean(), 4.0**-FAST.trade_tail, rtol=0.05)
    fixed = replace(FAST, mean_trade_contracts=5.0, trade_cap_contracts=5.0)
    assert set(trade_sizes(rng.random(1000), rng.random(1000), fixed)) <= {5}


def test_volume_migrates_from_near_to_far(roll: RollBook) -> None:
    by_day = roll.futures.volume.groupby(roll.futures.session).sum()
    share = by_day["202406"] / by_day.sum(axis=1)
    assert share.is_monotonic_increasing
    for value, day in zip(share, roll.days, strict=True):
        np.testing.assert_allclose(value, day.far_share.mean(), atol=0.03)
        assert day.far_share[-1] > day.far_share[0]
    # The two days of the December 2013 roll that the defaults are fitted to.
    np.testing.assert_allclose(far_share(np.array([18.0, 2.0]), FAST), [0.0028, 0.888], rtol=0.05)


def test_the_spread_trades_most_where_half_has_rolled(roll: RollBook) -> None:
    totals = [float(day.book.sent.sum()) for day in roll.days]
    nearest = int(np.argmin([abs(day.far_share.mean() - 0.5) for day in roll.days]))
    assert int(np.argmax(totals)) == nearest


def test_a_longer_roll_begins_with_the_shorter_and_repeats_byte_for_byte(roll: RollBook) -> None:
    short = simulate_roll(FAST, days=2, seed=3)
    n = len(short.futures.index)
    whole, part = roll.to_frame(), short.to_frame()
    assert whole.iloc[:n].to_numpy().tobytes() == part.to_numpy().tobytes()
    assert roll.spreads["202403-202406"].to_frame().iloc[:n].equals(short.spreads["202403-202406"].to_frame())
    assert roll.futures.bid.iloc[:n].equals(short.futures.bid)
    again = simulate_roll(FAST, days=4, seed=3)
    assert again.spreads["202403-202406"].equals(roll.spreads["202403-202406"])
    assert not simulate_roll(FAST, days=2, seed=4).spreads["202403-202406"].equals(short.spreads["202403-202406"])


def test_changing_one_mechanism_leaves_the_other_streams_alone() -> None:
    base = one_day(FAST)
    refill = one_day(replace(FAST, refill_half_life_s=200.0, cancel_rate_per_s=0.02))
    np.testing.assert_array_equal(refill.book.sent, base.book.sent)
    np.testing.assert_array_equal(refill.mid, base.mid)
    np.testing.assert_array_equal(refill.legs.volume, base.legs.volume)
    assert not np.array_equal(refill.book.displayed, base.book.displayed)
    jumps = one_day(replace(FAST, jumps_per_day=0.0))
    np.testing.assert_array_equal(jumps.book.sent, base.book.sent)
    np.testing.assert_array_equal(jumps.legs.volume, base.legs.volume)
    flow = one_day(replace(FAST, spread_volume_per_day=1e5, flow_impact_points=0.0))
    still = one_day(replace(FAST, flow_impact_points=0.0))
    np.testing.assert_array_equal(flow.mid, still.mid)


def test_buying_pressure_lifts_the_spread() -> None:
    p = replace(STILL, flow_impact_points=0.05, one_sidedness=1.0, side_noise_sd=0.0)
    day = one_day(p)
    assert (day.mid - day.fair)[-1000:].mean() > 0.01
    assert not day.book.sent[:, 0].any()


def test_a_given_near_leg_is_quoted_as_given() -> None:
    near = np.linspace(4990.0, 5010.0, 2340)
    day = one_day(STILL, near_points=near)
    assert np.abs(0.5 * (day.legs.bid + day.legs.ask)[:, 0] - near).max() <= 0.125 + 1e-9


def test_two_pairs_are_listed_when_the_front_expires_in_between() -> None:
    book = simulate_roll(FAST, days=4, seed=1, start="2024-03-13")
    assert list(book.spreads) == ["202403-202406", "202406-202409"]
    assert book.futures.expiries == ("202403", "202406", "202409")
    assert book.futures.bid["202409"].isna().any()
    assert not book.futures.volume.isna().any().any()
    assert sum(len(s.index) for s in book.spreads.values()) == len(book.futures.index)


def test_degenerate_rolls() -> None:
    none = replace(FAST, spread_volume_per_day=0.0, leg_volume_per_day=0.0)
    day = one_day(none)
    assert not day.book.sent.any()
    assert not day.legs.volume.any()
    single = one_day(FAST, bars=1)
    assert single.book.displayed.shape == (1, 2)
    narrow = replace(FAST, crowd_width=1e-9, crowding=1.0)
    np.testing.assert_allclose(roll_curve(100, narrow).mean(), 1.0)
    assert np.count_nonzero(roll_curve(100, narrow)) == 1
    tiny = one_day(replace(FAST, depth_contracts=1.0))
    assert tiny.book.displayed.min() >= 0
    assert aggressive_orders(np.ones(5), 10.0, none, 0, 0).shape == (5, 2)


def plain_day(bid: list[int], consumed: list[int], cancelled: list[int], displayed: list[int]) -> RollDay:
    """A session whose bid side is written by hand."""
    n = len(bid)
    day = one_day(FAST, bars=n)
    columns = {
        name: np.column_stack([values, values]).astype(np.int64)
        for name, values in (("consumed", consumed), ("cancelled", cancelled), ("displayed", displayed))
    }
    ticks = np.array(bid, dtype=np.int64)
    return replace(day, bid_ticks=ticks, ask_ticks=ticks + 1, book=replace(day.book, **columns))


def test_the_queue_trades_what_is_ahead_first_and_shares_cancellations() -> None:
    day = plain_day([0] * 4, [0, 30, 25, 40], [0, 14, 0, 0], [100, 100, 100, 100])
    path = join_queue(day, 1, 0, 20, fraction=0.5)
    # 50 ahead: 30 trade, 14 of the 70 left are cancelled, 4 of them among the 20 ahead; 25 trade: 16 ahead, 9 ours.
    assert list(path["ahead"]) == [16, 0, 0]
    assert list(path["filled"]) == [0, 9, 11]
    assert path["best"].all()
    assert path.attrs["price"] == 0.0
    assert join_queue(day, 1, 0, 20, fraction=0.5, bars=1)["filled"].sum() == 0
    assert len(join_queue(day, 1, 3, 20)) == 0


def test_a_better_quote_halts_the_order_and_a_worse_one_leaves_it_first() -> None:
    halted = join_queue(plain_day([0, 1, 1, 1], [0, 0, 99, 99], [0] * 4, [100] * 4), 1, 0, 10, fraction=0.5)
    assert not halted["filled"].any()
    assert list(halted["best"]) == [True, False, False]
    through = join_queue(plain_day([0, -2, -2, -2], [0, 0, 4, 99], [0] * 4, [100] * 4), 1, 0, 10, fraction=1.0)
    assert list(through["filled"]) == [0, 10, 0]  # the offer fell through its price
    day = plain_day([0, -1, -1, -1], [0, 0, 4, 99], [0] * 4, [100] * 4)
    wide = replace(day, ask_ticks=day.ask_ticks + 5)
    assert list(join_queue(wide, 1, 0, 10, fraction=1.0)["filled"]) == [0, 4, 6]


def test_a_sell_mirrors_a_buy() -> None:
    day = plain_day([0] * 4, [0, 30, 25, 40], [0, 14, 0, 0], [100, 100, 100, 100])
    buy, sell = join_queue(day, 1, 0, 20, fraction=0.5), join_queue(day, -1, 0, 20, fraction=0.5)
    pd.testing.assert_frame_equal(buy, sell)
    assert sell.attrs["price"] == day.tick


def test_more_ahead_never_fills_sooner(roll: RollBook) -> None:
    day = roll.days[1]
    for bar in (10, 500, 1500):
        done = [int(join_queue(day, 1, bar, 200, fraction=f, bars=60)["filled"].sum()) for f in (0.0, 0.5, 1.0)]
        assert done == sorted(done, reverse=True)


@pytest.mark.parametrize(
    "values",
    [{"side": 0}, {"bar": -1}, {"bar": 99999}, {"contracts": 0}, {"fraction": 1.5}, {"bars": -1}],
)
def test_queues_that_cannot_be_are_refused(roll: RollBook, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        join_queue(**{"day": roll.days[0], "side": 1, "bar": 0, "contracts": 1, **values})
    assert caught.value.field == next(iter(values))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bar_s", 0.0),
        ("noise_vol_points", -1.0),
        ("noise_vol_points", float("nan")),
        ("refill_half_life_s", 0.0),
        ("noise_half_life_s", float("inf")),
        ("tick", 0.1),
        ("outright_tick", 0.01),
        ("one_sidedness", 1.2),
        ("trade_tail", 1.0),
        ("mean_trade_contracts", 0.5),
        ("trade_cap_contracts", 2.0),
        ("crowding", 1.1),
        ("queue_fraction", -0.1),
        ("volume_u_shape", 1.0),
        ("depth_contracts", "deep"),
        ("depth_contracts", True),
    ],
)
def test_roll_parameters_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        RollParameters(**{field: value})
    assert caught.value.field == ("outright_tick" if field == "tick" else field)


def test_bad_paths_and_calls() -> None:
    for values in (
        {"index_points": np.ones(3)},
        {"index_points": np.full(2340, np.nan)},
        {"relative_vol": np.zeros(2340)},
        {"near_points": np.full(2340, -1.0)},
    ):
        with pytest.raises(InvalidInput) as caught:
            one_day(FAST, **values)
        assert caught.value.field in values
    with pytest.raises(InvalidInput):
        join_roll([], 10.0, FAST)
    with pytest.raises(InvalidInput):
        simulate_roll({}, days=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        simulate_roll(FAST, days=0)
    with pytest.raises(InvalidInput):
        simulate_roll(FAST, seed=-1)
    with pytest.raises(InvalidInput):
        simulate_roll(RollParameters(bar_s=7.0))


def test_scaling_volatility_scales_prices_only() -> None:
    twice = FAST.scaled(2.0)
    assert (twice.noise_vol_points, twice.jump_vol_points) == (2 * FAST.noise_vol_points, 2 * FAST.jump_vol_points)
    assert twice.scaled(0.5) == FAST
    assert twice.to_dict()["depth_contracts"] == FAST.depth_contracts
