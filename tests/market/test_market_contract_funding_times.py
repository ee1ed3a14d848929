"""Settlements of funding: next, last, between."""

from __future__ import annotations

import pandas as pd
import pytest

from crosswind.problems.market.contracts import FundingSchedule, contract
from crosswind.problems.market.contracts.funding_times import EVERY_4_HOURS, EVERY_8_HOURS, EVERY_HOUR
from crosswind.problems.market.funding import FundingRates
from crosswind.solvers.errors import InvalidInput


def utc(text):
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("when", "after", "before"),
    [
        ("2024-08-08 23:59:59.999", "2024-08-09 00:00", "2024-08-08 16:00"),
        ("2024-08-09 00:00", "2024-08-09 08:00", "2024-08-09 00:00"),
        ("2024-08-09 00:00:00.000000001", "2024-08-09 08:00", "2024-08-09 00:00"),
        ("2024-02-29 17:30", "2024-03-01 00:00", "2024-02-29 16:00"),
    ],
)
def test_next_and_last(when, after, before):
    assert EVERY_8_HOURS.next(utc(when)) == utc(after)
    assert EVERY_8_HOURS.last(utc(when)) == utc(before)
    assert EVERY_8_HOURS.is_settlement(utc(when)) == (utc(when) == utc(before))


def test_time_to_settlement():
    assert EVERY_8_HOURS.seconds_to_next(utc("2024-08-09 07:59")) == 60.0
    assert EVERY_8_HOURS.seconds_to_next(utc("2024-08-09 08:00")) == 28_800.0
    index = pd.date_range("2024-08-09 06:00", periods=4, freq="h", tz="America/New_York")
    assert list(EVERY_8_HOURS.to_next(index)) == [21_600.0, 18_000.0, 14_400.0, 10_800.0]
    assert EVERY_4_HOURS.interval_s == 14_400.0
    assert EVERY_HOUR.next(utc("2024-08-09 06:30")) == utc("2024-08-09 07:00")


def test_between_counts_what_a_position_pays():
    # Taken at a settlement: pays nothing there. Held into one: pays.
    times = EVERY_8_HOURS.between(utc("2024-08-09 00:00"), utc("2024-08-10 00:00"))
    assert list(times) == [utc("2024-08-09 08:00"), utc("2024-08-09 16:00"), utc("2024-08-10 00:00")]
    assert len(EVERY_8_HOURS.between(utc("2024-08-09 00:00"), utc("2024-08-09 07:59"))) == 0
    assert len(EVERY_8_HOURS.between(utc("2024-08-09"), utc("2024-08-09"))) == 0
    rates = FundingRates("X", pd.Series(0.001, index=EVERY_8_HOURS.of_day(utc("2024-08-09").date())))
    held = pd.Series([100.0, 0.0], index=[utc("2024-08-09 08:00"), utc("2024-08-09 16:00")])
    start, end = held.index
    paid = rates.paid(held)
    assert list(paid[paid != 0].index) == list(EVERY_8_HOURS.between(start, end))


def test_a_day_across_a_change_of_the_clock_has_its_three_settlements():
    # Funding keeps UTC: the New York day of 25 hours still pays three times, whatever the wall clock does.
    start = pd.Timestamp("2024-11-03", tz="America/New_York")
    end = pd.Timestamp("2024-11-04", tz="America/New_York")
    assert len(EVERY_8_HOURS.between(start, end)) == 3


def test_the_days_settlements_are_those_in_the_schedule():
    assert list(EVERY_8_HOURS.of_day(utc("2024-08-09").date())) == list(
        EVERY_8_HOURS.between(utc("2024-08-08 23:59"), utc("2024-08-09 23:59"))
    )


@pytest.mark.data
def test_bybits_settlements(lean_dir):
    folder = lean_dir / "Data" / "cryptofuture" / "bybit" / "margin_interest"
    for name in ("btcusdt", "btcusd"):
        table = pd.read_csv(folder / f"{name}.csv", names=["time", "rate"])
        times = pd.to_datetime(table["time"], format="%Y%m%d %H:%M:%S", utc=True)
        schedule = contract(f"bybit:{name}", on="2022-12-13").funding
        assert all(schedule.is_settlement(t) for t in times)
        day = times[times.dt.date == utc("2022-12-13").date()]
        assert list(day) == list(schedule.of_day(utc("2022-12-13").date()))


@pytest.mark.parametrize(
    "times", [(), ("08:00", "00:00"), ("00:00", "00:00"), ("00:00", "08:00"), ("00:00", "25:00"), ("noon",), ("24:00",)]
)
def test_schedules_that_cannot_be(times):
    with pytest.raises(InvalidInput):
        FundingSchedule(times)


def test_bad_times():
    with pytest.raises(InvalidInput, match="naive"):
        EVERY_8_HOURS.next("2024-08-09 00:00")
    with pytest.raises(InvalidInput, match="before the start"):
        EVERY_8_HOURS.between(utc("2024-08-10"), utc("2024-08-09"))
    with pytest.raises(InvalidInput):
        EVERY_8_HOURS.seconds_to_next("noon")
