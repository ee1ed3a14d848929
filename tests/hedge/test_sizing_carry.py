"""Funding, basis, margin: signs by the ledger and by recorded rates, closed forms of liquidation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.hedge.sizing import (
    SpotBook,
    carry_of,
    fit_basis,
    liquidation_price,
    listed,
    margin_of,
    neutral_carry,
    size_hedge,
)
from crosswind.problems.market import read
from crosswind.problems.market.funding import FundingRates, basis
from crosswind.problems.replay import Ledger
from crosswind.solvers.errors import DataGap, InvalidInput

BTC = SpotBook({"BTC": 5.0}, {"BTC": 65_000.0})
PERP = listed("binance:BTCUSDT", 65_000.0, half_spread=1e-4, fee=4e-4)
START, END = pd.Timestamp("2024-03-01", tz="UTC"), pd.Timestamp("2024-03-11", tz="UTC")


def utc(*times):
    return pd.DatetimeIndex([pd.Timestamp(t, tz="UTC") for t in times])


# funding -------------------------------------------------------------------------------------------------------------


def test_a_short_receives_a_positive_rate_at_settlements_only():
    """The playbook says a short pays a positive rate; the market's rule is the other way round."""
    size = size_hedge(BTC, PERP)
    carry = size.carry(START, END, {"BTCUSDT": 1e-4})
    row = carry.table.loc["BTCUSDT"]
    assert row["settlements"] == 30
    assert row["funding"] == pytest.approx(30 * 1e-4 * 325_000)
    assert row["trading"] == pytest.approx(-2 * 5e-4 * 325_000)
    assert carry.total == pytest.approx(975.0 - 325.0)
    assert carry.per_year == pytest.approx(650.0 / 325_000 * 36.525)
    assert carry.break_even_days == pytest.approx(10 * 325 / 975)
    assert size.carry(START, END, {"BTCUSDT": -1e-4}).table.loc["BTCUSDT", "funding"] == pytest.approx(-975.0)
    # Between two settlements nothing is charged, whatever the rate.
    quiet = size.carry("2024-03-01T00:00Z", "2024-03-01T07:59:59Z", {"BTCUSDT": 5e-2})
    assert quiet.table.loc["BTCUSDT", ["settlements", "funding"]].tolist() == [0, 0.0]
    one = size.carry("2024-03-01T00:00Z", "2024-03-01T08:00Z", {"BTCUSDT": 1e-4})
    assert one.table.loc["BTCUSDT", "funding"] == pytest.approx(32.5)


def test_a_long_pays_and_a_flat_position_is_left_alone():
    short_book = size_hedge(SpotBook({"BTC": -5.0}, {"BTC": 65_000.0}), PERP)
    assert short_book["BTCUSDT"] == 5.0
    assert short_book.carry(START, END, {"BTCUSDT": 1e-4}).table["funding"].iloc[0] == pytest.approx(-975.0)
    flat = size_hedge(BTC, PERP, ratio=0.0)
    assert flat.carry(START, END).total == 0.0


def test_marks_set_the_notional_at_each_settlement():
    rates = FundingRates(
        "BTCUSDT", pd.Series([1e-4, 2e-4, 3e-4], index=utc("2024-03-01 08:00", "2024-03-01 16:00", "2024-03-02"))
    )
    marks = pd.Series([60_000.0, 70_000.0], index=utc("2024-03-01 08:00", "2024-03-01 20:00"))
    carry = carry_of(size_hedge(BTC, PERP), START, "2024-03-02T00:00Z", {"BTCUSDT": rates}, {"BTCUSDT": marks})
    assert carry.table["funding"].iloc[0] == pytest.approx(5 * (1e-4 * 60_000 + 2e-4 * 60_000 + 3e-4 * 70_000))
    # An inverse contract's notional is its face value, whatever the mark.
    coin = size_hedge(SpotBook({"BTC": 1.0}, {"BTC": 60_000.0}), listed("BTCUSD_PERP", 60_000.0))
    paid = carry_of(coin, START, "2024-03-02T00:00Z", {"BTCUSD_PERP": rates}, {"BTCUSD_PERP": marks}, round_trip=False)
    assert paid.total == pytest.approx(6e-4 * 60_000)


@pytest.mark.data
@pytest.mark.parametrize("name", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
def test_recorded_rates_pay_the_short(perp_dir, name):
    """Against the recorded history and a ledger that books each payment by itself, sign by sign."""
    rates = read(f"perp:{perp_dir / 'binance_funding'}", names=[name]).funding[name]
    tool = PERP.with_(name=name, half_spread=0.0, fee=0.0)
    size = neutral_carry(BTC, tool)
    times = pd.DatetimeIndex(rates.rates.index)
    start, end = times[100], times[400]
    carry = size.carry(start, end, {name: rates})
    book, notional = Ledger(), float(size.notionals[name])
    inside = rates.rates[(times > start) & (times <= end)]
    by_hand = 0.0
    for rate in inside:
        # A short's notional is negative: rate · notional is what the position pays, and a negative payment is income.
        by_hand -= float(rate) * notional
    assert notional == -325_000.0
    assert book.wealth({}) == 0.0
    assert carry.table.loc[name, "settlements"] == len(inside)
    assert carry.total == pytest.approx(by_hand, rel=1e-12)
    assert math.copysign(1.0, carry.total) == math.copysign(1.0, float(inside.sum()))
    for sign in (1.0, -1.0):
        at = int(np.argmax(sign * inside.to_numpy()))
        if sign * float(inside.iloc[at]) <= 0.0:
            continue
        met = size.carry(inside.index[at] - pd.Timedelta("1h"), inside.index[at], {name: rates})
        assert sign * met.total > 0.0


@pytest.mark.data
def test_over_the_recorded_years_a_short_earned_the_annualised_rate(perp_dir):
    rates = read(f"perp:{perp_dir / 'binance_funding'}", names=["BTCUSDT"]).funding["BTCUSDT"]
    times = pd.DatetimeIndex(rates.rates.index)
    size = neutral_carry(BTC, PERP.with_(half_spread=0.0, fee=0.0))
    before = times[0] - pd.Timedelta(seconds=rates.interval_s)
    carry = size.carry(before, times[-1], {"BTCUSDT": rates})
    assert carry.total > 0.0
    assert carry.per_year == pytest.approx(rates.annualised(), rel=0.02)


def test_rates_that_are_missing_or_do_not_cover_are_refused():
    size = size_hedge(BTC, PERP)
    few = FundingRates("BTCUSDT", pd.Series([1e-4, 1e-4], index=utc("2024-03-01 08:00", "2024-03-01 16:00")))
    with pytest.raises(DataGap, match="no funding rate"):
        size.carry(START, END)
    with pytest.raises(DataGap, match="do not cover"):
        size.carry(START, END, {"BTCUSDT": few})
    with pytest.raises(InvalidInput, match="naive"):
        size.carry("2024-03-01", END, {"BTCUSDT": 1e-4})
    with pytest.raises(InvalidInput, match="not after"):
        size.carry(END, START, {"BTCUSDT": 1e-4})
    with pytest.raises(InvalidInput, match="finite"):
        size.carry(START, END, {"BTCUSDT": float("nan")})
    with pytest.raises(InvalidInput, match="not among"):
        size.carry(START, END, {"other": 1e-4})


# basis ---------------------------------------------------------------------------------------------------------------


def test_a_dated_future_converges():
    """Held to expiry, a short in contango earns the whole basis; half of the time earns half in expectation."""
    tool = listed("BTCUSDT_QUARTER", 66_300.0, month="202409", spot=65_000.0)
    start = pd.Timestamp("2024-07-01 08:00", tz="UTC")
    size = size_hedge(BTC, tool, rounding="exact")
    n = size.contracts.iloc[0]
    whole = size.carry(start, tool.expires)
    assert whole.total == pytest.approx(-n * 1_300.0)
    assert whole.table["settlements"].iloc[0] == 0
    half = size.carry(start, start + (tool.expires - start) / 2)
    assert half.total == pytest.approx(-n * 650.0)
    later = size.carry(start, tool.expires + pd.Timedelta("1D"))
    assert later.total == pytest.approx(whole.total)
    with pytest.raises(InvalidInput, match="expired"):
        size.carry(tool.expires, tool.expires + pd.Timedelta("1D"))
    unknown = size_hedge(BTC, listed("BTCUSDT_QUARTER", 66_300.0, spot=65_000.0))
    with pytest.raises(DataGap, match="no expiry"):
        unknown.carry(start, END + pd.Timedelta("300D"))
    assert "break-even" in whole.summary()


def test_the_fit_of_a_basis_finds_what_it_was_drawn_from():
    rng = np.random.default_rng(0)
    phi, noise, b = 0.95, 1e-4, np.zeros(20_000)
    for t in range(1, len(b)):
        b[t] = phi * b[t - 1] + noise * rng.normal()
    index = pd.date_range("2024-01-01", periods=len(b), freq="h", tz="UTC")
    fit = fit_basis(pd.Series(b + 3e-4, index=index))
    sd = noise / math.sqrt(1 - phi**2)
    assert fit.phi == pytest.approx(phi, abs=0.01)
    assert fit.sd == pytest.approx(sd, rel=0.1)
    assert fit.mean == pytest.approx(3e-4, abs=0.1 * sd)
    assert fit.half_life_days == pytest.approx(math.log(0.5) / math.log(phi) / 24, rel=0.25)
    # The model's daily change against the drawn path's own.
    assert fit.change_vol == pytest.approx(np.std(b[24:] - b[:-24]), rel=0.05)
    assert fit.vol(1 / 24) == pytest.approx(np.std(np.diff(b)), rel=0.05)
    assert fit.vol(100.0) == pytest.approx(math.sqrt(2) * fit.sd, rel=1e-6)
    assert "half-life" in fit.summary()
    for bad, match in (
        (pd.Series(b[:10], index=index[:10]), "too short"),
        (pd.Series(np.ones(50), index=index[:50]), "never moves"),
        (pd.Series(b[:50] * np.nan, index=index[:50]), "not finite"),
        (pd.Series(b[:50], index=index[:50].tz_localize(None)), "naive"),
    ):
        with pytest.raises(InvalidInput, match=match):
            fit_basis(bad)


@pytest.mark.data
def test_the_recorded_basis_reverts(perp_dir):
    market = read(f"perp:{perp_dir}", names=["SOL"])
    premium = basis(market.bars["SOL.perp"], market.bars["SOL.spot"])
    fit = fit_basis(premium["2024-01-01":"2024-12-31"])
    assert 0.0 < fit.phi < 1.0
    assert 0.0 < fit.half_life_days < 5.0
    size = size_hedge(BTC, PERP.with_(basis_vol=fit.change_vol), covariance=9e-4)
    assert 0.0 < size.basis_var() < 0.05 * 325_000


# margin --------------------------------------------------------------------------------------------------------------

TERMS = {"initial": 0.1, "maintenance": 0.05}


@settings(max_examples=80, deadline=None)
@given(
    root=st.sampled_from(["binance:BTCUSDT", "BTCUSD_PERP"]),
    price=st.floats(1e3, 1e5),
    contracts=st.floats(-1e3, 1e3).filter(lambda n: abs(n) > 0.1),
    leverage=st.floats(1.5, 9.0),
    mu=st.floats(0.001, 0.05),
)
def test_at_the_liquidation_price_equity_is_the_maintenance_margin(root, price, contracts, leverage, mu):
    tool = listed(root, price, initial=0.1, maintenance=mu)
    collateral = abs(tool.spec.value(contracts, price)) / leverage
    at = liquidation_price(tool, contracts, collateral)
    assert at > 0.0
    equity = collateral + tool.spec.pnl(contracts, price, at)
    assert equity == pytest.approx(mu * abs(tool.spec.value(contracts, at)), rel=1e-9)
    assert (at > price) == (contracts < 0.0)


def test_a_covered_coin_short_is_never_liquidated():
    coin = listed("BTCUSD_PERP", 60_000.0, **TERMS)
    assert math.isnan(liquidation_price(coin, -600.0, 1.0))
    assert liquidation_price(coin, -600.0, 0.5) == pytest.approx(0.95 * 60_000 / 0.5)
    assert math.isnan(liquidation_price(coin, 0.0, 1.0))
    # A long with more collateral than its worth cannot be liquidated either.
    assert math.isnan(liquidation_price(listed("binance:BTCUSDT", 100.0, **TERMS), 1.0, 200.0))


def test_margin_report():
    size = size_hedge(BTC, PERP.with_(**TERMS), covariance=0.03**2)
    report = size.margin({"BTCUSDT": 65_000.0})
    row = report.table.loc["BTCUSDT"]
    assert row[["initial", "maintenance", "free"]].tolist() == pytest.approx([32_500.0, 16_250.0, 32_500.0])
    assert row["liquidation"] == pytest.approx((65_000 / 5 + 65_000) / 1.05)
    assert row["distance"] == pytest.approx(report.nearest) == pytest.approx(0.2 / 1.05 - 0.05 / 1.05)
    assert row["sigmas"] == pytest.approx(row["distance"] / 0.03)
    assert report.short_of_margin == ()
    poor = margin_of(size, {"BTCUSDT": 20_000.0})
    assert poor.short_of_margin == ("BTCUSDT",)
    assert "does not cover" in poor.summary()
    es = listed("ES", 5_000.0, "SPX", initial=0.05, maintenance=0.045)
    book = SpotBook({"SPY": 20_000.0}, {"SPY": 500.0})
    es_size = size_hedge(book, es, {"SPY": 1.0})
    assert es_size["ES"] == -40.0
    assert es_size.margin({"ES": 1e6}).table.loc["ES", "initial"] == pytest.approx(500_000.0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: size_hedge(BTC, PERP).margin({"BTCUSDT": 1.0}), "initial of BTCUSDT"),
        (lambda: liquidation_price(PERP, 1.0, 1.0), "maintenance of BTCUSDT"),
        (lambda: liquidation_price(PERP.with_(**TERMS), 1.0, -1.0), "not negative"),
        (lambda: liquidation_price(PERP.with_(**TERMS), float("nan"), 1.0), "finite"),
        (lambda: size_hedge(BTC, PERP.with_(**TERMS)).margin({"x": 1.0}), "not among"),
        (lambda: size_hedge(MIXED, [PERP.with_(**TERMS), ETH]).margin({"BTCUSDT": 1.0}), "collateral of ETHUSDT"),
    ],
)
def test_margin_refuses(make, match):
    with pytest.raises(InvalidInput, match=match):
        make()


MIXED = SpotBook({"BTC": 3.0, "ETH": 40.0}, {"BTC": 65_000.0, "ETH": 3_500.0})
ETH = listed("binance:ETHUSDT", 3_500.0, **TERMS)
