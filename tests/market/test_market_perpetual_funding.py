"""The perpetual: the exchanges' funding formula, settlements, mark price, causality, and the calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.simulator.perpetual import (
    PerpetualMarket,
    PerpetualParameters,
    draw_perpetual,
    draw_spot,
    funding_rate,
    settle,
)
from crosswind.solvers.errors import InvalidInput

P = PerpetualParameters()
STILL = replace(P, spot_vol_daily=0.0, demand_vol_bps=0.0, basis_vol_bps=0.0, spread_ticks=1.0, tick=0.01)


@pytest.fixture(scope="module")
def market() -> PerpetualMarket:
    """Five days of minutes."""
    return draw_perpetual(draw_spot(5, P, 3), P, 3)


def test_the_rate_is_the_published_formula() -> None:
    bp = 1e-4
    # Inside the clamp the rate is the interest; outside the premium moves it one for one.
    np.testing.assert_allclose(funding_rate(np.array([-4.0, 0.0, 6.0]) * bp, P), 1.0 * bp, rtol=1e-12)
    np.testing.assert_allclose(funding_rate(np.array([10.0, -10.0]) * bp, P), [5.0 * bp, -5.0 * bp], rtol=1e-12)
    four = replace(P, interval_h=4)
    np.testing.assert_allclose(funding_rate(np.array([10.0, 0.0]) * bp, four), [2.5 * bp, 0.5 * bp], rtol=1e-12)
    np.testing.assert_allclose(funding_rate(np.array([1.0, -1.0]), P), [P.cap_8h, -P.cap_8h])


def test_samples_weigh_linearly_towards_the_settlement_or_equally() -> None:
    hour = 3_600_000_000_000
    ends = hour * np.array([7, 8, 9, 10, 15, 16, 17])
    premium = 1e-4 * np.array([20.0, 40.0, 10.0, 20.0, 30.0, 40.0, 90.0])
    wide = replace(P, clamp_8h=0.0)
    predicted, at, rates = settle(ends, premium, wide)
    np.testing.assert_array_equal(at, [1, 5])
    np.testing.assert_allclose(rates, 1e-4 * np.array([100.0 / 3.0, (10 + 40 + 90 + 160) / 10.0]), rtol=1e-12)
    np.testing.assert_allclose(predicted[6], 90e-4, rtol=1e-12)  # a new interval has begun
    _, _, equal = settle(ends, premium, replace(wide, weighting="equal"))
    np.testing.assert_allclose(equal, 1e-4 * np.array([30.0, 25.0]), rtol=1e-12)


@pytest.mark.parametrize(("interval", "first"), [(8, 0), (8, 4), (4, 0), (1, 0), (24, 12)])
def test_settlements_stand_at_their_hours(interval: int, first: int) -> None:
    p = replace(P, interval_h=interval, first_settlement_h=first)
    index = draw_perpetual(draw_spot(2, p, 0), p, 0).funding.rates.index
    assert isinstance(index, pd.DatetimeIndex)
    assert str(index.tz) == "UTC"
    assert set(index.hour) == set(range(first, 24, interval))
    assert not index.minute.any()
    assert len(index) == 48 // interval


def test_the_settled_rate_is_the_formula_of_the_recorded_premium(market: PerpetualMarket) -> None:
    stamps = market.funding.rates.index
    frame = market.frame
    for k in (1, 5, 9):
        window = frame.loc[(frame.index > stamps[k - 1]) & (frame.index <= stamps[k]), "premium"].to_numpy()
        assert len(window) == 480
        weight = np.arange(1.0, 481.0)
        rate = funding_rate(np.array(weight @ window / weight.sum()), P)
        np.testing.assert_allclose(market.funding.rates.iloc[k], rate, rtol=1e-10)
    assert market.funding.rates.equals(frame.loc[stamps, "predicted"].rename(market.name))


def test_a_positive_rate_is_earned_by_the_short() -> None:
    p = replace(STILL, premium_mean_bps=20.0)
    funding = draw_perpetual(draw_spot(1, p, 0), p, 0).funding
    start = pd.Timestamp("2024-03-03", tz="UTC")
    paid = funding.paid(pd.Series([-1e6], index=pd.DatetimeIndex([start])))
    assert (funding.rates > 0.0).all()
    assert (paid < 0.0).all()
    np.testing.assert_allclose(paid, -1e6 * 15e-4, rtol=1e-3)


def test_a_still_market_charges_the_interest() -> None:
    p = replace(STILL, premium_mean_bps=2.0)
    market = draw_perpetual(draw_spot(1, p, 0), p, 0)
    np.testing.assert_array_equal(market.frame["spot"], p.spot_price)
    np.testing.assert_allclose(market.frame["premium"], 2e-4, atol=1e-6)
    np.testing.assert_allclose(market.funding.rates, p.interest_rate_8h, rtol=1e-9)


def test_the_mark_is_the_median_of_three_prices(market: PerpetualMarket) -> None:
    f = market.frame
    window = round(P.mark_window_s / 60.0)
    last = market.funding.rates.reindex(f.index, method="ffill").fillna(0.0)
    left = (f.index.floor("8h") + pd.Timedelta("8h") - f.index) / pd.Timedelta("8h")
    three = np.array(
        [
            f["mid"],
            f["spot"] + (f["mid"] - f["spot"]).rolling(window, min_periods=1).mean(),
            f["spot"] * (1.0 + last * left),
        ]
    )
    np.testing.assert_allclose(f["mark"], np.median(three, axis=0), rtol=1e-12)
    chosen = np.argmin(np.abs(three - f["mark"].to_numpy()), axis=0)
    assert set(chosen) == {0, 1, 2}  # each of the three is the mark at times


def test_quotes_stand_on_the_grid_around_the_mid(market: PerpetualMarket) -> None:
    f = market.frame
    for side in ("bid", "ask"):
        np.testing.assert_allclose(f[side] / P.tick, np.rint(f[side] / P.tick), atol=1e-6)
    assert (f["ask"] > f["bid"]).all()
    fair = f["spot"] * (1.0 + 1e-4 * P.premium_mean_bps + f["demand"] + f["basis"])
    assert (f["mid"] - fair).abs().max() <= 0.5 * P.tick + 1e-6
    np.testing.assert_allclose(f["premium"], f["mid"] / f["spot"] - 1.0, atol=1e-15)
    assert (f[["bid_size", "ask_size"]] >= 1.0).all().all()
    moves = np.log(f["spot"]).diff().abs()
    width = f["ask"] - f["bid"]
    assert width[moves > moves.quantile(0.9)].mean() > 1.2 * width[moves < moves.quantile(0.1)].mean()


def test_bars_open_at_the_close_before(market: PerpetualMarket) -> None:
    bars = market.bars
    frame = bars.to_frame()
    assert bars.stamp == "end"
    assert bars.bar_s == 60.0
    np.testing.assert_array_equal(frame["bid_open"].iloc[1:], frame["bid_close"].iloc[:-1])
    np.testing.assert_array_equal(frame["ask_close"], market.frame["ask"])
    assert "funding settlements" in market.summary()


def test_the_fast_part_has_its_sd_and_half_life() -> None:
    p = replace(P, basis_vol_bps=3.0, basis_half_life_s=600.0, demand_vol_bps=0.0)
    basis = draw_perpetual(draw_spot(40, p, 1), p, 1).frame["basis"] * 1e4
    np.testing.assert_allclose(basis.std(), 3.0, rtol=0.05)
    np.testing.assert_allclose(basis.autocorr(10), 0.5, atol=0.04)


def test_demand_has_unit_scale_and_fat_tails() -> None:
    p = replace(P, bar_s=3600.0, demand_half_life_s=7200.0, demand_tail=0.8)
    fat = draw_perpetual(draw_spot(3000, p, 1), p, 1).frame["demand"] * 1e4
    np.testing.assert_allclose(fat.std(), p.demand_vol_bps, rtol=0.05)
    assert fat.kurt() > 2.0
    gauss = replace(p, demand_tail=0.0)
    plain = draw_perpetual(draw_spot(3000, gauss, 1), gauss, 1).frame["demand"]
    assert abs(plain.kurt()) < 0.3


def test_a_shorter_spot_yields_the_beginning_of_the_longer_perpetual(market: PerpetualMarket) -> None:
    short_spot = draw_spot(2, P, 3)
    long_spot = draw_spot(5, P, 3)
    assert short_spot.equals(long_spot.iloc[: len(short_spot)])
    for cut in (1, 2, 777, 1440, 2880):
        part = draw_perpetual(long_spot.iloc[:cut], P, 3)
        assert part.frame.to_numpy().tobytes() == market.frame.iloc[:cut].to_numpy().tobytes()
        assert part.funding.rates.equals(market.funding.rates.iloc[: len(part.funding.rates)])


def test_poisoning_later_prices_changes_nothing_before(market: PerpetualMarket) -> None:
    spot = draw_spot(5, P, 3)
    spot.iloc[3000:] *= 50.0
    bad = draw_perpetual(spot, P, 3)
    assert bad.frame.iloc[:3000].equals(market.frame.iloc[:3000])


def test_the_draw_repeats_and_parts_have_their_own_streams(market: PerpetualMarket) -> None:
    spot = draw_spot(5, P, 3)
    assert draw_perpetual(spot, P, 3).equals(market)
    assert not draw_perpetual(spot, P, 4).equals(market)
    assert not market.equals(3)
    other = draw_perpetual(spot, replace(P, basis_vol_bps=9.0, depth_noise_sd=0.1), 3).frame
    assert other["demand"].equals(market.frame["demand"])
    assert other["volume"].equals(market.frame["volume"])
    assert not other["basis"].equals(market.frame["basis"])


def test_gaps_in_the_spot_decay_the_premium_and_drop_settlements() -> None:
    spot = draw_spot(4, P, 0)
    hours = pd.DatetimeIndex(spot.index).hour
    session = spot[(hours >= 9) & (hours < 17)]
    market = draw_perpetual(session, P, 0)
    assert np.isfinite(market.frame.to_numpy()).all()
    assert set(pd.DatetimeIndex(market.funding.rates.index).hour) == {16}
    assert market.bar_s == 60.0
    alone = draw_perpetual(spot.iloc[:1], P, 0)
    assert len(alone.frame) == 1
    assert alone.bar_s == P.bar_s
    assert len(alone.funding.rates) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bar_s", 0.0),
        ("name", ""),
        ("spot_vol_daily", -0.1),
        ("interval_h", 7),
        ("interval_h", 0),
        ("interval_h", 8.5),
        ("first_settlement_h", 8),
        ("first_settlement_h", -1),
        ("weighting", "quadratic"),
        ("clamp_8h", -1e-4),
        ("tick", float("nan")),
        ("basis_half_life_s", float("inf")),
        ("demand_tail", -1.0),
        ("cap_8h", "none"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        PerpetualParameters(**{field: value})
    assert caught.value.field == field


def test_bad_spots_and_calls() -> None:
    spot = draw_spot(1, P, 0)
    bad: list[Any] = [
        [1.0],
        spot.iloc[:0],
        spot.tz_localize(None),
        spot.iloc[::-1],
        spot.where(spot.index != spot.index[5]),
        -spot,
        spot.astype(str) + "x",
    ]
    for case in bad:
        with pytest.raises(InvalidInput):
            draw_perpetual(case, P, 0)
    with pytest.raises(InvalidInput):
        draw_perpetual(spot, {}, 0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        draw_perpetual(spot, P, -1)
    for days in (0, 1.5, True):
        with pytest.raises(InvalidInput):
            draw_spot(days, P, 0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        draw_spot(1, P, 0, start="soon")
    with pytest.raises(InvalidInput):
        draw_spot(1, replace(P, bar_s=7.0), 0)


def test_scaling_volatility_scales_prices_only() -> None:
    twice = P.scaled(2.0)
    assert (twice.spot_vol_daily, twice.basis_vol_bps) == (2 * P.spot_vol_daily, 2 * P.basis_vol_bps)
    assert twice.scaled(0.5) == P
    assert twice.to_dict()["clamp_8h"] == P.clamp_8h


@pytest.mark.data
def test_the_defaults_charge_what_binance_charged(data_dir: Path) -> None:
    recorded = 1e4 * pd.read_parquet(data_dir / "perp_carry" / "binance_funding" / "BTCUSDT.parquet")["funding_rate"]
    p = replace(P, bar_s=3600.0)
    rates = [1e4 * draw_perpetual(draw_spot(730, p, seed), p, seed).funding.rates for seed in range(6)]
    simulated = pd.concat(rates)
    assert abs(simulated.mean() - recorded.mean()) < 0.4
    assert 0.6 < simulated.std() / recorded.std() < 1.4
    for lag in (1, 3):
        own = np.mean([r.autocorr(lag) for r in rates])
        assert abs(own - recorded.autocorr(lag)) < 0.15
