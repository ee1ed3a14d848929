"""Sessions on every change of the clock 2007–2030, half days, holidays, and the bridge to buckets."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.buckets import QuoteTape, SessionHours, TradeTape, bucketise
from crosswind.problems.market.contracts import CalendarHours, is_session, sessions
from crosswind.problems.market.contracts.calendars import holiday_name, shift_session
from crosswind.problems.market.contracts.clocks import clock_changes, day_edges_ns, seconds_of, utc_ns
from crosswind.solvers.errors import DataGap, InvalidInput

YEARS = range(2007, 2031)
ZONES = {"America/New_York": -5, "America/Chicago": -6, "Europe/London": 0, "Europe/Berlin": 1}
HOUR = 3_600_000_000_000


# -- the rules of the clock, written independently of any zone data ----------------------------------------------------


def nth_sunday(year, month, n):
    first = dt.date(year, month, 1)
    return first + dt.timedelta(days=(6 - first.weekday()) % 7 + 7 * (n - 1))


def last_sunday(year, month):
    last = dt.date(year, month + 1, 1) - dt.timedelta(days=1)
    return last - dt.timedelta(days=(last.weekday() + 1) % 7)


def rule(zone, year):
    """Return the two changes as (local date, UTC hour of the change)."""
    standard = ZONES[zone]
    if zone.startswith("America"):
        return (nth_sunday(year, 3, 2), 2 - standard), (nth_sunday(year, 11, 1), 1 - standard)
    return (last_sunday(year, 3), 1), (last_sunday(year, 10), 1)


def offset_hours(zone, day):
    """Return the offset from UTC at noon of a date."""
    (spring, _), (autumn, _) = rule(zone, day.year)
    return ZONES[zone] + (1 if spring <= day < autumn else 0)


CHANGES = [(zone, day) for zone in ZONES for year in YEARS for day, _ in rule(zone, year)]


@pytest.mark.parametrize("zone", ZONES)
def test_changes_of_the_clock(zone):
    found = clock_changes(zone, "2007-01-01", "2030-12-31")
    expected = [change for year in YEARS for change in rule(zone, year)]
    assert list(found["day"]) == [day for day, _ in expected]
    assert [at.hour for at in found["at"]] == [hour for _, hour in expected]
    assert list(found["shift_s"]) == [3600.0, -3600.0] * len(YEARS)


def test_days_on_which_the_clock_changes_have_23_or_25_hours_of_bars():
    for zone, day in CHANGES:
        edges = day_edges_ns(day, zone, 300.0)
        hours = 23 if day.month == 3 else 25
        assert len(edges) == hours * 12 + 1
        assert (np.diff(edges) == 300_000_000_000).all()
        # Neither gap nor overlap with the days beside it.
        for before, after in ((day - dt.timedelta(days=1), day), (day, day + dt.timedelta(days=1))):
            assert day_edges_ns(before, zone, 3600.0)[-1] == day_edges_ns(after, zone, 3600.0)[0]


@pytest.mark.parametrize("zone", ZONES)
def test_skipped_and_repeated_hours_are_told(zone):
    local = 1 if zone == "Europe/London" else 2
    for year in YEARS:
        (spring, spring_hour), (autumn, _) = rule(zone, year)
        change = int(pd.Timestamp(spring, tz="UTC").value) + spring_hour * HOUR
        with pytest.raises(InvalidInput, match="skipped"):
            utc_ns(spring, f"{local:02d}:30", zone)
        assert utc_ns(spring, f"{local:02d}:30", zone, on_gap="later") == change
        assert utc_ns(spring, f"{local + 1:02d}:00", zone) == change
        twice = f"{local - 1 if zone.startswith('America') else local:02d}:30"
        with pytest.raises(InvalidInput, match="twice"):
            utc_ns(autumn, twice, zone)
        first = utc_ns(autumn, twice, zone, on_overlap="first")
        assert utc_ns(autumn, twice, zone, on_overlap="second") - first == HOUR


def test_wall_times():
    assert seconds_of("24:00") == 86_400
    assert utc_ns(dt.date(2024, 1, 1), "24:00", "UTC") == pd.Timestamp("2024-01-02", tz="UTC").value
    for bad in ("9.30", "25:00", "", None, "09:30:00"):
        with pytest.raises(InvalidInput):
            seconds_of(bad)
    with pytest.raises(InvalidInput):
        utc_ns(dt.date(2024, 1, 1), "09:30", "America/Newyork")
    with pytest.raises(InvalidInput, match="divide"):
        day_edges_ns("2024-03-10", "America/New_York", 7200.0)


# -- sessions ----------------------------------------------------------------------------------------------------------

# Calendar → zone, opening and close as local hours; an opening below 0 lies on the evening before.
REGULAR = {
    "XNYS": ("America/New_York", 9.5, 16.0),
    "CMES": ("America/Chicago", -7.0, 17.0),
    "us_futures": ("America/New_York", -6.0, 18.0),
    "XEUR": ("Europe/Berlin", 8.0, 22.0),
    "XLON": ("Europe/London", 8.0, 16.5),
    "XFRA": ("Europe/Berlin", 9.0, 17.5),
}


def utc_of(zone, day, hour):
    # At an opening of the evening before, the clock of that evening holds: changes come on Sundays before dawn.
    date = day if hour >= 0 else day - dt.timedelta(days=1)
    return pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=hour - offset_hours(zone, date))


@pytest.mark.parametrize("calendar", REGULAR)
def test_every_session_opens_and_closes_at_the_right_instant(calendar):
    zone, opens, closes = REGULAR[calendar]
    table = sessions(calendar, "2007-01-01", "2030-12-31")
    expected = pd.DatetimeIndex([utc_of(zone, day, opens) for day in table.index])
    ends = pd.DatetimeIndex([utc_of(zone, day, closes) for day in table.index])
    assert (table["open"].to_numpy() == expected.to_numpy()).all()
    regular = ~table["early_close"].to_numpy(dtype=bool)
    assert (table["close"].to_numpy()[regular] == ends.to_numpy()[regular]).all()
    assert (table["close"].to_numpy()[~regular] < ends.to_numpy()[~regular]).all()
    # In order, none twice, none overlapping.
    assert table.index.is_unique
    assert (table["open"].to_numpy()[1:] >= table["close"].to_numpy()[:-1]).all()
    assert str(table["open"].dtype) == "datetime64[ns, UTC]"
    # The clock changes on Sundays, on which none of them trades: no session is an hour longer or shorter.
    length = (table["close"] - table["open"])[regular]
    assert (length == length.iloc[0]).all()


def test_weeks_between_the_changes_of_america_and_europe():
    new_york = sessions("XNYS", "2007-01-01", "2030-12-31")["open"]
    london = sessions("XLON", "2007-01-01", "2030-12-31")["open"]
    both = new_york.index.intersection(london.index)
    apart = (new_york[both] - london[both]) / pd.Timedelta(hours=1)
    assert set(apart) == {6.5, 5.5}
    between = set()
    for year in YEARS:
        us, eu = rule("America/New_York", year), rule("Europe/London", year)
        between |= {d for d in both if us[0][0] <= d < eu[0][0] or eu[1][0] <= d < us[1][0]}
    assert set(apart.index[apart == 5.5]) == between
    assert all((2, 0) <= (sum(d.year == y for d in between) // 5, 0) <= (4, 0) for y in YEARS)


def test_crypto_never_closes():
    table = sessions("24/7", "2007-01-01", "2030-12-31")
    assert len(table) == 8766
    assert (table["open"].to_numpy()[1:] == table["close"].to_numpy()[:-1]).all()


@pytest.mark.parametrize(
    ("calendar", "day", "close"),
    [
        ("XNYS", "2013-11-29", "13:00"),
        ("XNYS", "2013-12-24", "13:00"),
        ("XNYS", "2013-07-03", "13:00"),
        ("XNYS", "2007-11-23", "13:00"),
        ("XNYS", "2024-07-03", "13:00"),
        ("XNYS", "2030-12-24", "13:00"),
        ("XLON", "2013-12-24", "12:30"),
        ("XLON", "2024-12-31", "12:30"),
        ("CMES", "2013-11-29", "12:00"),
        ("XFRA", "2013-12-30", "14:00"),
    ],
)
def test_half_days(calendar, day, close):
    row = sessions(calendar, day, day).iloc[0]
    assert row["early_close"]
    zone = REGULAR[calendar][0]
    assert row["close"].tz_convert(zone).strftime("%H:%M") == close


def test_half_days_are_counted():
    table = sessions("XNYS", "2007-01-01", "2030-12-31")
    assert int(table["early_close"].sum()) == 53
    assert not sessions("XNYS", "2013-10-07", "2013-10-09")["early_close"].any()


def test_holidays_by_name():
    assert holiday_name("XNYS", "2013-11-28") == "Thanksgiving"
    assert "Friday" in holiday_name("XNYS", "2008-03-21")
    assert holiday_name("XNYS", "2013-11-30") == "Saturday"
    assert holiday_name("XNYS", "2012-10-29") == "a closure of the exchange"
    assert holiday_name("XNYS", "2013-10-07") == ""
    assert not is_session("XLON", "2013-12-26")


def test_shifting_by_sessions():
    assert shift_session("XNYS", "2013-11-28", 0) == dt.date(2013, 11, 27)
    assert shift_session("XNYS", "2013-11-28", -1) == dt.date(2013, 11, 27)
    assert shift_session("XNYS", "2013-11-29", -1) == dt.date(2013, 11, 27)
    assert shift_session("XNYS", "2013-11-29", 0) == dt.date(2013, 11, 29)
    assert shift_session("XNYS", "2013-11-28", 1) == dt.date(2013, 11, 29)
    with pytest.raises(DataGap):
        shift_session("XNYS", "1990-01-03", -5)


def test_what_calendars_do_not_know_is_refused():
    with pytest.raises(InvalidInput, match="no such calendar"):
        sessions("NYSE-ish", "2013-01-01", "2013-02-01")
    with pytest.raises(DataGap, match="1990"):
        sessions("XNYS", "1980-01-01", "2013-02-01")
    with pytest.raises(DataGap, match="2040"):
        sessions("XNYS", "2030-01-01", "2041-02-01")
    with pytest.raises(DataGap):
        is_session("XNYS", "2055-01-01")
    with pytest.raises(InvalidInput, match="before the start"):
        sessions("XNYS", "2013-02-01", "2013-01-01")
    with pytest.raises(InvalidInput):
        sessions("XNYS", "soon", "2013-01-01")
    assert sessions("XNYS", "2013-11-30", "2013-12-01").empty


def test_calendars_with_bounds_of_their_own():
    # Shanghai's holidays are decreed year by year: its calendar ends where they are known.
    assert len(sessions("XSHG", "2008-01-01", "2008-12-31")) > 200
    with pytest.raises(DataGap, match="XSHG knows"):
        sessions("XSHG", "2008-01-01", "2039-12-31")


def test_midday_breaks_are_told():
    row = sessions("XTKS", "2013-10-07", "2013-10-07").iloc[0]
    assert row["open"] < row["break_start"] < row["break_end"] < row["close"]


def test_calendars_are_loaded_by_the_call_that_needs_them():
    code = "import sys, crosswind.problems.market.contracts; print('exchange_calendars' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- the bridge to buckets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone_day", [d for z, d in CHANGES if z == "America/New_York"][::4], ids=str)
def test_hours_equal_those_of_a_plain_session_around_changes(zone_day):
    plain = SessionHours("09:30", "16:00", "America/New_York", 300.0)
    hours = CalendarHours("XNYS", 300.0)
    for day in hours.days(zone_day - dt.timedelta(days=3), zone_day + dt.timedelta(days=3)):
        np.testing.assert_array_equal(hours.edges_ns(day), plain.edges_ns(day))
        # A planted hour would show here: the first edge is 9:30 on the wall clock.
        opens = pd.Timestamp(int(hours.edges_ns(day)[0]), tz="UTC").tz_convert("America/New_York")
        assert (opens.hour, opens.minute) == (9, 30)


def test_half_days_close_early_and_holidays_are_refused_by_name():
    hours = CalendarHours("XNYS", 60)
    assert (hours.tz, hours.bucket_s) == ("America/New_York", 60.0)
    assert len(hours.edges_ns("2013-11-27")) == 391
    assert len(hours.edges_ns(dt.date(2013, 11, 29))) == 211
    assert hours.days("2013-11-27", "2013-12-02") == tuple(dt.date(2013, *d) for d in ((11, 27), (11, 29), (12, 2)))
    with pytest.raises(DataGap, match="Thanksgiving"):
        hours.edges_ns("2013-11-28")
    with pytest.raises(DataGap, match="Saturday"):
        hours.open_ns("2013-11-30")


def test_hours_within_the_session():
    hours = CalendarHours("XNYS", 300, hours=("10:00", "15:00"))
    edges = hours.edges_ns("2013-10-07")
    assert len(edges) == 61
    assert pd.Timestamp(int(edges[0]), tz="UTC").hour == 14
    half = hours.edges_ns("2013-11-29")
    assert half[-1] == hours.close_ns("2013-11-29") == pd.Timestamp("2013-11-29 18:00", tz="UTC").value
    with pytest.raises(DataGap, match="before these hours"):
        CalendarHours("XNYS", 300, hours=("14:00", "15:00")).edges_ns("2013-11-29")
    wide = CalendarHours("XNYS", 300, hours=("00:00", "24:00"))
    np.testing.assert_array_equal(wide.edges_ns("2013-10-07"), CalendarHours("XNYS", 300).edges_ns("2013-10-07"))


def test_days_of_markets_that_never_close():
    utc = CalendarHours("24/7", 3600)
    assert len(utc.edges_ns("2024-11-03")) == 25
    assert len(CalendarHours("24/7", 3600, tz="America/New_York").edges_ns("2024-11-03")) == 26
    assert len(CalendarHours("24/7", 3600, tz="Europe/Berlin").edges_ns("2024-03-31")) == 24


@pytest.mark.parametrize(
    "call",
    [
        lambda: CalendarHours("XNYZ", 60),
        lambda: CalendarHours("XNYS", 0),
        lambda: CalendarHours("XNYS", 60, hours=("16:00", "09:30")),
        lambda: CalendarHours("XNYS", 60, hours=("9h30", "16:00")),
        lambda: CalendarHours("XNYS", 60, tz="Europe/London"),
        lambda: CalendarHours("XNYS", 7).edges_ns("2013-10-07"),
    ],
)
def test_hours_that_cannot_be(call):
    with pytest.raises(InvalidInput):
        call()


def test_a_half_day_through_the_bucketiser():
    hours = CalendarHours("XNYS", 1800)
    day = dt.date(2013, 11, 29)
    ns = hours.open_ns(day) + np.arange(0, 210, 5, dtype=np.int64) * 60_000_000_000
    n = len(ns)
    quotes = QuoteTape(ns, np.full(n, 9.99), np.full(n, 10.01), np.full(n, 100.0), np.full(n, 100.0))
    late = np.append(ns, hours.close_ns(day) + HOUR)
    trades = TradeTape(late, np.full(n + 1, 10.01), np.full(n + 1, 100.0), np.ones(n + 1, bool))
    events, _ = bucketise({day: {"A": (trades, quotes)}}, ["A"], hours, stale_limit_s=600.0)
    assert len(events.index) == 7
    assert events.index[-1] == pd.Timestamp("2013-11-29 18:00", tz="UTC")
    # The trade an hour after the early close is not in the session.
    assert events.volume["A"].sum() == pytest.approx(n * 1001.0)
