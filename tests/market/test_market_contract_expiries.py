"""Expiries moved by holidays, roll dates by convention, and contract codes."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from crosswind.problems.market.contracts import (
    contract_code,
    expiries,
    expiry_of,
    expiry_table,
    front,
    is_session,
    parse_code,
    roll_window,
)
from crosswind.problems.market.contracts.cycle import last_friday, third_friday
from crosswind.solvers.errors import DataGap, InvalidInput


def day(text):
    return dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("root", "month", "expected"),
    [
        ("ES", "200703", "2007-03-16"),
        ("ES", "200803", "2008-03-20"),  # Good Friday
        ("ES", "200809", "2008-09-19"),
        ("ES", "201312", "2013-12-20"),
        ("ES", "201403", "2014-03-21"),
        ("ES", "202006", "2020-06-19"),
        ("ES", "202409", "2024-09-20"),
        ("ES", "202606", "2026-06-18"),  # Juneteenth
        ("RTY", "201709", "2017-09-15"),
        ("FESX", "200803", "2008-03-20"),
        ("FESX", "202406", "2024-06-21"),
        ("BTCUSD_QUARTER", "202009", "2020-09-25"),
        ("BTCUSD_QUARTER", "202103", "2021-03-26"),
        ("BTCUSD_QUARTER", "202112", "2021-12-31"),
        ("BTCUSDT_QUARTER", "202403", "2024-03-29"),  # Good Friday moves nothing
        ("BTCUSDT_QUARTER", "202409", "2024-09-27"),
        ("ETHUSD_QUARTER", "202012", "2020-12-25"),
    ],
)
def test_known_expiries(root, month, expected):
    assert expiry_of(root, month).day == day(expected)


@pytest.mark.parametrize(
    ("root", "month", "at"),
    [
        ("ES", "201312", "2013-12-20 14:30"),  # 9:30 in winter
        ("ES", "201309", "2013-09-20 13:30"),  # and in summer
        ("ES", "201303", "2013-03-15 13:30"),  # America is on summer time, Europe not yet
        ("FESX", "201303", "2013-03-15 11:00"),
        ("FESX", "201306", "2013-06-21 10:00"),
        ("BTCUSDT_QUARTER", "202409", "2024-09-27 08:00"),
    ],
)
def test_trading_ends_at_the_instant(root, month, at):
    assert expiry_of(root, month).at == pd.Timestamp(at, tz="UTC")


def test_fridays():
    for year in range(2007, 2031):
        for month in range(1, 13):
            third, last = third_friday(year, month), last_friday(year, month)
            assert (third.weekday(), last.weekday()) == (4, 4)
            assert 15 <= third.day <= 21
            assert (last + dt.timedelta(days=7)).month != month


@pytest.mark.parametrize("root", ["ES", "FESX"])
def test_all_expiries_are_sessions_on_or_before_the_third_friday(root):
    every = expiries(root, "2007-01-01", "2030-12-31")
    assert len(every) == 96
    moved = []
    for one in every:
        friday = third_friday(int(one.month[:4]), int(one.month[4:]))
        assert is_session("XNYS" if root == "ES" else "XEUR", one.day)
        assert 0 <= (friday - one.day).days <= 1
        if one.day != friday:
            moved.append(one.month)
    # Good Friday is a third Friday of March in 2008 only; Juneteenth, kept on 19 and 18 June, moves two American ones.
    assert moved == (["200803", "202606", "202706"] if root == "ES" else ["200803"])


def test_expiries_of_a_span_include_its_ends():
    assert [e.month for e in expiries("ES", "2013-09-20", "2013-12-20")] == ["201309", "201312"]
    assert [e.month for e in expiries("ES", "2013-09-21", "2013-12-19")] == []
    assert [e.month for e in expiries("BTCUSD_QUARTER", "2020-06-15", "2020-12-31")] == ["202009", "202012"]


@pytest.mark.parametrize(
    ("root", "month", "rolls"),
    [
        ("ES", "201212", "2012-12-13"),  # the exchange's own examples
        ("ES", "201409", "2014-09-11"),
        ("ES", "201412", "2014-12-11"),
        ("ES", "200803", "2008-03-13"),
        ("ES", "202203", "2022-03-10"),
        ("ES", "202206", "2022-06-13"),
        ("NQ", "202206", "2022-06-09"),
        ("NQ", "202209", "2022-09-12"),
        ("ES", "202409", "2024-09-16"),
        ("ES", "202606", "2026-06-15"),
        ("FESX", "201312", "2013-12-18"),
        ("BTCUSDT_QUARTER", "202409", "2024-09-23"),
    ],
)
def test_roll_dates(root, month, rolls):
    window = roll_window(root, month)
    assert window.rolls == day(rolls)
    assert window.days[0] == window.rolls
    assert window.days[-1] == window.near.day
    assert window.near.month == month
    assert window.far.day > window.near.day


def test_windows_follow_each_other():
    table = expiry_table("ES", "2007-01-01", "2030-12-31")
    assert table["day"].is_monotonic_increasing
    assert (table["rolls"] < table["day"]).all()
    for month, following in zip(table.index, table.index[1:], strict=False):
        assert roll_window("ES", month).far.month == following


def test_the_front_contract():
    assert front("ES", "2013-10-07").month == "201312"
    assert front("ES", "2013-12-11").month == "201312"
    assert front("ES", "2013-12-12").month == "201403"
    assert front("ES", "2013-12-18", by="expiry").month == "201312"
    assert front("ES", pd.Timestamp("2013-12-20 14:29", tz="UTC"), by="expiry").month == "201312"
    assert front("ES", pd.Timestamp("2013-12-20 14:30", tz="UTC"), by="expiry").month == "201403"
    # 17:30 in New York on the day before the roll date, and the evening session that belongs to the roll date.
    assert front("ES", pd.Timestamp("2013-12-11 22:30", tz="UTC")).month == "201312"
    assert front("ES", pd.Timestamp("2013-12-11 23:00", tz="UTC")).month == "201403"
    # Eurex has no evening opening: the date in Berlin counts.
    assert front("FESX", pd.Timestamp("2013-12-17 22:59", tz="UTC")).month == "201312"
    assert front("FESX", pd.Timestamp("2013-12-17 23:00", tz="UTC")).month == "201403"


@pytest.mark.data
def test_the_convention_against_recorded_volume(lean_dir):
    from crosswind.problems.market.readers.lean_futures import read_lean_futures

    for date in ("2013-10-07", "2013-11-18", "2013-12-02", "2013-12-18"):
        quotes, _ = read_lean_futures(lean_dir, "ES", date)
        assert quotes.volume.sum().idxmax() == front("ES", date).month
        assert set(quotes.volume.columns) <= {e.month for e in expiries("ES", date, "2015-03-31")}


@pytest.mark.parametrize(
    ("code", "root", "month", "on"),
    [
        ("ESZ3", "ES", "201312", "2013-10-07"),
        ("ESZ3", "ES", "202312", "2013-12-21"),
        ("ESH4", "ES", "201403", "2013-10-07"),
        ("ESH2", "ES", "202203", "2013-10-07"),
        ("ESM6", "ES", "202606", "2026-06-18"),
        ("ESM6", "ES", "203606", "2026-06-19"),
        ("ESZ13", "ES", "201312", None),
        ("NQU2024", "NQ", "202409", None),
        ("M2KH25", "M2K", "202503", None),
        ("FESXM1", "FESX", "202106", "2021-03-22"),
        ("BTCUSDT_240927", "BTCUSDT_QUARTER", "202409", None),
        ("ETHUSD_201225", "ETHUSD_QUARTER", "202012", None),
    ],
)
def test_codes_are_read(code, root, month, on):
    assert parse_code(code, on=on) == (root, month)


def test_codes_come_back():
    for root in ("ES", "M2K", "FESX", "BTCUSDT_QUARTER", "ETHUSD_QUARTER"):
        for one in expiries(root, "2021-02-03", "2030-12-31"):
            assert contract_code(root, one.month) == one.code
            assert parse_code(one.code, on=one.day) == (root, one.month)
    assert contract_code("ES", "201312") == "ESZ3"
    assert contract_code("ES", "201312", digits=2) == "ESZ13"


@pytest.mark.parametrize(
    "call",
    [
        lambda: expiry_of("ES", "201311"),
        lambda: expiry_of("ES", "2013-12"),
        lambda: expiry_of("ES", 201312),
        lambda: expiry_of("BTCUSD_PERP", "202012"),
        lambda: expiries("binance:BTCUSDT", "2021-01-01", "2022-01-01"),
        lambda: expiries("ES", "2014-01-01", "2013-01-01"),
        lambda: front("ES", "2013-12-11", by="volume"),
        lambda: front("ES", pd.Timestamp("2013-12-11 10:00")),
        lambda: contract_code("ES", "201312", digits=3),
        lambda: parse_code("ESZ3"),
        lambda: parse_code("ESX13"),
        lambda: parse_code("ES"),
        lambda: parse_code(None),
        lambda: parse_code("QQZ13"),
        lambda: parse_code("BTCUSDT_240926"),
    ],
)
def test_bad_input(call):
    with pytest.raises(InvalidInput):
        call()


def test_what_the_table_does_not_reach():
    with pytest.raises(DataGap, match="201709"):
        expiry_of("RTY", "201706")
    with pytest.raises(DataGap):
        expiry_of("BTCUSD_QUARTER", "202006")
    with pytest.raises(DataGap):
        expiries("MES", "2013-01-01", "2014-01-01")
    with pytest.raises(DataGap):
        expiry_of("ES", "205012")
