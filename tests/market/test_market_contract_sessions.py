"""Trading days of futures by version: evening openings, halts, half days, changes of the clock."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.contracts import TradingHours, contract_sessions, trading_day
from crosswind.solvers.errors import DataGap, InvalidInput

NEW_YORK = "America/New_York"


@pytest.fixture(scope="module")
def es():
    return contract_sessions("ES", "2007-01-02", "2030-12-31")


def wall(stamp, tz=NEW_YORK):
    return stamp.tz_convert(tz).strftime("%a %H:%M")


@pytest.mark.parametrize(
    ("day", "opens", "closes", "halt"),
    [
        ("2012-11-15", "Wed 16:30", "Thu 16:15", ("Wed 17:30", "Wed 18:00")),
        ("2012-11-12", "Sun 18:00", "Mon 16:15", None),
        ("2012-11-19", "Sun 18:00", "Mon 17:15", ("Mon 16:15", "Mon 16:30")),
        ("2013-10-07", "Sun 18:00", "Mon 17:15", ("Mon 16:15", "Mon 16:30")),
        ("2015-09-21", "Sun 18:00", "Mon 17:00", ("Mon 16:15", "Mon 16:30")),
        ("2021-06-25", "Thu 18:00", "Fri 17:00", ("Fri 16:15", "Fri 16:30")),
        ("2021-06-28", "Sun 18:00", "Mon 17:00", None),
        # cash holidays and half days
        ("2013-07-03", "Tue 18:00", "Wed 13:15", None),
        ("2013-07-04", "Wed 18:00", "Thu 11:30", None),
        ("2013-11-29", "Thu 18:00", "Fri 13:15", None),
        ("2014-02-17", "Sun 18:00", "Mon 11:30", None),
        ("2014-05-26", "Sun 18:00", "Mon 13:00", None),
        ("2014-11-28", "Thu 18:00", "Fri 13:15", None),
        ("2022-06-20", "Sun 18:00", "Mon 13:00", None),
        ("2024-05-27", "Sun 18:00", "Mon 13:00", None),
    ],
)
def test_days_of_es_by_version(es, day, opens, closes, halt):
    row = es.loc[dt.date.fromisoformat(day)]
    assert (wall(row["open"]), wall(row["close"])) == (opens, closes)
    if halt is None:
        assert pd.isna(row["halt_start"])
    else:
        assert (wall(row["halt_start"]), wall(row["halt_end"])) == halt


def test_all_days_of_es_2007_to_2030(es):
    assert es.index.is_unique
    assert (es["open"].to_numpy()[1:] >= es["close"].to_numpy()[:-1]).all()
    opens = es["open"].dt.tz_convert(NEW_YORK)
    hours = opens.dt.hour * 60 + opens.dt.minute
    old = es["version"] == 1
    assert set(hours[old]) == {16 * 60 + 30, 18 * 60}
    assert set(hours[~old]) == {18 * 60}
    # It opens on the evening before, on days of changing clocks too, and every full day has its full length.
    assert ((opens.dt.date + dt.timedelta(days=1)).to_numpy() == np.array(es.index)).all()
    full = es[(es["kind"] == "full")]
    length = (full["close"] - full["open"]) / pd.Timedelta(hours=1)
    assert set(length[full["version"].isin([2, 3])]) == {23.25}
    assert set(length[full["version"] >= 4]) == {23.0}
    assert set(length[full["version"] == 1]) == {23.75, 22.25}
    inside = es["halt_start"].notna()
    assert (es["open"] < es["halt_start"])[inside].all()
    assert (es["halt_end"] < es["close"])[inside].all()


def test_cash_market_decides_half_days_and_holidays(es):
    assert (es["kind"] == "half").sum() == 53
    assert es.loc[dt.date(2013, 11, 28), "kind"] == "holiday"
    assert es.loc[dt.date(2023, 6, 19), "kind"] == "holiday"
    assert (es["early_close"] == (es["kind"] != "full")).all()
    # On Juneteenth the calendar of exchange_calendars shows a full day; the stock market decides.
    assert es.loc[dt.date(2023, 6, 19), "close"] == pd.Timestamp("2023-06-19 17:00", tz="UTC")
    assert dt.date(2013, 12, 25) not in es.index
    assert dt.date(2013, 3, 29) not in es.index  # Good Friday


def test_eurex_opens_at_one_utc_time_all_year():
    table = contract_sessions("FESX", "2018-12-03", "2030-12-30")
    long = table[table["version"] > 1]
    assert set(long["open"].dt.strftime("%H:%M")) == {"00:15"}
    assert set(long["close"].dt.tz_convert("Europe/Berlin").dt.strftime("%H:%M")) == {"22:00"}
    winter, summer = long.loc[dt.date(2024, 1, 15)], long.loc[dt.date(2024, 7, 15)]
    assert wall(winter["open"], "Europe/Berlin") == "Mon 01:15"
    assert wall(summer["open"], "Europe/Berlin") == "Mon 02:15"
    old = table[table["version"] == 1]
    assert set(old["open"].dt.tz_convert("Europe/Berlin").dt.strftime("%H:%M")) == {"08:00"}


def test_perpetuals_trade_every_day_all_day():
    table = contract_sessions("BTCUSD_PERP", "2024-03-09", "2024-03-11")
    assert (table["open"].to_numpy()[1:] == table["close"].to_numpy()[:-1]).all()
    assert len(table) == 3


@pytest.mark.parametrize(
    ("when", "day"),
    [
        ("2013-10-07 20:14", "2013-10-07"),
        ("2013-10-07 20:20", None),  # halt
        ("2013-10-07 20:30", "2013-10-07"),
        ("2013-10-07 21:15", None),  # daily break
        ("2013-10-07 21:59", None),
        ("2013-10-07 22:00", "2013-10-08"),  # evening: the next trading day
        ("2013-10-05 12:00", None),
        ("2013-10-06 22:00", "2013-10-07"),
    ],
)
def test_the_trading_day_of_an_instant(when, day):
    expected = None if day is None else dt.date.fromisoformat(day)
    assert trading_day("ES", pd.Timestamp(when, tz="UTC")) == expected


@pytest.mark.data
def test_recorded_volume_lies_in_the_sessions(lean_dir):
    from crosswind.problems.market.readers.lean_futures import read_lean_futures

    for date in ("2013-10-07", "2013-10-30", "2013-12-18"):
        quotes, _ = read_lean_futures(lean_dir, "ES", date, stale_limit_s=0)
        volume = quotes.volume.sum(axis=1)
        ends = pd.DatetimeIndex(volume.index[volume > 0])
        starts = ends - pd.Timedelta(minutes=1)
        first = dt.date.fromisoformat(date)
        table = contract_sessions("ES", first, first + dt.timedelta(days=1))
        inside = np.zeros(len(starts), dtype=bool)
        for _, row in table.iterrows():
            now = (starts >= row["open"]) & (starts < row["close"])
            now &= ~((starts >= row["halt_start"]) & (starts < row["halt_end"]))
            inside |= now
        assert inside.all()
        # And the recorded gaps are the halt and the break, to the minute.
        gaps = np.flatnonzero(np.diff(ends.asi8) > 300e9)
        row = table.iloc[0]
        assert [ends[g] for g in gaps] == [row["halt_start"], row["close"]]
        assert [starts[g + 1] for g in gaps] == [row["halt_end"], table.iloc[1]["open"]]


def test_refusals():
    with pytest.raises(DataGap):
        contract_sessions("MES", "2018-01-02", "2020-01-02")
    with pytest.raises(InvalidInput):
        contract_sessions("ES", "2014-01-02", "2013-01-02")
    with pytest.raises(InvalidInput):
        contract_sessions("XX", "2013-01-02", "2014-01-02")
    with pytest.raises(InvalidInput, match="naive"):
        trading_day("ES", pd.Timestamp("2013-10-07 12:00"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("9:61", "16:00", NEW_YORK),
        ("09:30", "noon", NEW_YORK),
        ("24:00", "16:00", NEW_YORK),
        ("09:30", "16:00", "Gotham"),
        ("09:30", "16:00", NEW_YORK, (("12:00", "25:00"),)),
        ("09:30", "16:00", NEW_YORK, (), "Gotham"),
    ],
)
def test_hours_that_cannot_be(arguments):
    with pytest.raises(InvalidInput):
        TradingHours(*arguments)
