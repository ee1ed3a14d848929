"""Funding of perpetuals: who pays, what a year of it is worth, and the premium that it pulls back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.funding import YEAR_S, FundingRates, basis
from crosswind.problems.market.futures import Bars
from crosswind.solvers.errors import InvalidInput


def rates(values, freq="8h", start="2024-01-01"):
    index = pd.date_range(start, periods=len(values), freq=freq, tz="UTC")
    return FundingRates("X", pd.Series(np.asarray(values, float), index=index))


def at(*times):
    return pd.DatetimeIndex([pd.Timestamp(t, tz="UTC") for t in times])


def test_a_short_earns_a_positive_rate_and_a_long_pays_it():
    funding = rates([1e-4, 1e-4, -2e-4])
    short = pd.Series([-1e6], index=at("2023-12-31"))
    assert funding.paid(short).tolist() == pytest.approx([-100.0, -100.0, 200.0])
    assert funding.paid(-short).tolist() == pytest.approx([100.0, 100.0, -200.0])


def test_one_number_is_held_throughout():
    funding = rates([1e-4, 1e-4, -2e-4])
    assert funding.paid(-1e6).tolist() == pytest.approx([-100.0, -100.0, 200.0])
    assert funding.between("2030-01-01T00:00Z", "2031-01-01T00:00Z").paid(1).tolist() == []
    for wrong, message in (("1e6", "neither a Series nor a number"), (True, "neither"), (float("nan"), "not finite")):
        with pytest.raises(InvalidInput, match=message):
            funding.paid(wrong)


def test_a_naive_bound_is_answered_with_the_call_that_mends_it():
    with pytest.raises(InvalidInput, match=r"start: .*naive.*pd.Timestamp\('2024-01-01 00:00:00', tz='UTC'\)"):
        rates([1e-4, 1e-4]).between("2024-01-01", "2025-01-01")


def test_what_is_held_just_before_the_settlement_counts():
    funding = rates([1e-4, 1e-4, 1e-4])
    position = pd.Series([1e6, 0.0], index=at("2024-01-01 00:00", "2024-01-01 16:00"))
    # Opened at the first settlement: too late for it. Closed at the third: held for it.
    assert funding.paid(position).tolist() == pytest.approx([0.0, 100.0, 100.0])
    assert funding.paid(position[:0]).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(InvalidInput, match="not finite"):
        funding.paid(position * np.nan)
    with pytest.raises(InvalidInput, match="naive"):
        funding.paid(position.tz_localize(None))


def test_a_constant_rate_annualises_in_closed_form():
    assert rates([1e-4] * 500).annualised() == pytest.approx(1e-4 * 3 * 365.25)
    assert rates([1e-4] * 500, freq="4h").annualised() == pytest.approx(1e-4 * 6 * 365.25)
    # It is what a short of one unit of notional earns, scaled to a year.
    funding = rates(np.random.default_rng(0).normal(1e-4, 1e-3, 900))
    earned = -funding.paid(pd.Series([-1.0], index=at("2023-12-31"))).sum()
    assert funding.annualised() == pytest.approx(earned * YEAR_S / (900 * 28_800))


def test_holes_and_shortened_intervals_count_as_they_were():
    whole = rates([1e-4] * 300).rates
    assert FundingRates("X", whole.drop(whole.index[100:200])).annualised() == pytest.approx(1e-4 * 3 * 365.25)
    # A day with settlements every 2 h among days of 8 h.
    short = pd.Series(1e-4, index=pd.date_range("2024-03-10 02:00", "2024-03-10 22:00", freq="2h", tz="UTC"))
    mixed = pd.concat([whole, short[~short.index.isin(whole.index)]]).sort_index()
    funding = FundingRates("X", mixed)
    assert funding.interval_s == 28_800
    # The added settlements add payments, not time: it is 100 days as before.
    assert len(mixed) == 309
    assert funding.annualised() == pytest.approx(1e-4 * 309 * 365.25 / 100)
    with pytest.raises(InvalidInput, match="two settlements"):
        rates([1e-4]).annualised()
    assert np.isnan(rates([1e-4]).interval_s)


def test_between_takes_what_a_holder_meets():
    funding = rates([1.0, 2.0, 3.0, 4.0])
    part = funding.between(pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-01 16:00", tz="UTC"))
    assert part.rates.tolist() == [2.0, 3.0]
    with pytest.raises(InvalidInput, match="naive"):
        funding.between(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02", tz="UTC"))


@pytest.mark.parametrize(
    ("name", "series", "message"),
    [
        ("", pd.Series([1.0], index=at("2024-01-01")), "no name"),
        ("X", [1.0], "not a Series"),
        ("X", pd.Series([np.nan], index=at("2024-01-01")), "not finite"),
        ("X", pd.Series([1.0, 1.0], index=at("2024-01-01", "2024-01-01")), "repeats a time"),
        ("X", pd.Series([1.0, 1.0], index=at("2024-01-02", "2024-01-01")), "not sorted"),
        ("X", pd.Series([1.0], index=pd.DatetimeIndex(["2024-01-01"])), "naive"),
    ],
)
def test_bad_rates_are_refused(name, series, message):
    with pytest.raises(InvalidInput, match=message):
        FundingRates(name, series)


def bars(close, bar_s=3600.0, stamp="start", start="2024-01-01", prefix=""):
    close = np.asarray(close, float)
    index = pd.date_range(start, periods=len(close), freq=pd.Timedelta(bar_s, "s"), tz="UTC")
    sides = ("bid_", "ask_") if prefix else ("",)
    table = {f"{s}{c}": close for s in sides for c in ("open", "high", "low", "close")}
    return Bars(pd.DataFrame(table, index=index), bar_s, stamp)


def test_basis_is_known_at_the_end_of_bars_that_both_have():
    premium = basis(bars([101.0, 102.0, 103.0]), bars([100.0, 100.0], start="2024-01-01 01:00"))
    assert premium.tolist() == pytest.approx([0.02, 0.03])
    assert list(premium.index) == list(at("2024-01-01 02:00", "2024-01-01 03:00"))
    # Bars stamped at their ends, and quotes, give the same.
    ended = bars([100.0, 100.0], start="2024-01-01 02:00", stamp="end", prefix="q")
    pd.testing.assert_series_equal(basis(bars([101.0, 102.0, 103.0]), ended), premium, check_freq=False)
    with pytest.raises(InvalidInput, match="differ in length"):
        basis(bars([1.0]), bars([1.0], bar_s=60.0))
    with pytest.raises(InvalidInput, match="share no time"):
        basis(bars([1.0]), bars([1.0], start="2025-01-01"))
    with pytest.raises(InvalidInput, match=r"spot: not Bars .*FundingRates"):
        basis(bars([1.0]), rates([1e-4]))


def test_summary_and_frame():
    funding = rates([1e-4, -1e-4])
    assert "2 funding settlements" in funding.summary()
    assert funding.to_frame()["rate"].tolist() == [1e-4, -1e-4]
    assert "no settlement" in rates([]).summary()
