"""The LEAN reader on recorded data: its parts agree with each other; facts about the days are tested apart."""

from __future__ import annotations

import datetime as dt
import time

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import (
    read,
    read_lean_bars,
    read_lean_futures,
    read_lean_ticks,
)

pytestmark = pytest.mark.data

DAYS = ("2013-10-07", "2013-10-08", "2013-10-09")


@pytest.fixture(scope="module")
def timed(lean_dir):
    began = time.perf_counter()
    data = read(f"lean:{lean_dir}")
    return data, time.perf_counter() - began


@pytest.fixture(scope="module")
def data(timed):
    return timed[0]


@pytest.fixture(scope="module")
def minutes(data):
    return data.events.resample(60)


def test_the_whole_read_is_fast(timed):
    assert timed[1] < 30


def test_defaults(data):
    assert data.events.names == ("AIG", "BAC", "IBM", "SPY")
    assert data.events.days == tuple(dt.date.fromisoformat(d) for d in DAYS)
    assert len(data.events.index) == 3 * 2340
    assert data.events.index[0] == pd.Timestamp("2013-10-07 13:30:10", tz="UTC")
    assert data.events.index[-1] == pd.Timestamp("2013-10-09 20:00", tz="UTC")
    assert data.futures["ES"].expiries[:2] == ("201312", "201403")
    assert data.notes


def test_bucket_volume_is_the_tape(data, lean_dir):
    ticks = read_lean_ticks(lean_dir, "IBM", DAYS[0])
    traded = ticks[(ticks["condition"] & 0x5000000) == 0]  # official prints repeat a trade
    total = float((traded["price"] * traded["shares"]).sum())
    assert data.events.on(DAYS[0]).volume["IBM"].sum() == pytest.approx(total, rel=1e-12)


def test_mids_agree_with_minute_bars(minutes, lean_dir):
    """Our mid at a minute's end, built from 1 s bars, is the close of the minute quote bar that ends there."""
    for name in minutes.names:
        bars = read_lean_bars(lean_dir, name, list(DAYS), kind="quote").stamped("end").frame
        close = 0.5 * (bars["bid_close"] + bars["ask_close"])
        both = pd.concat([minutes.mid[name], close.rename("bar")], axis=1, join="inner")
        assert len(both) > 1000
        assert float((both[name] - both["bar"]).abs().median()) < 1e-9
        # Shifted by one bar, as when the stamp is taken for the end, they differ.
        early = pd.concat([minutes.mid[name], close.shift(-1).rename("bar")], axis=1, join="inner").dropna()
        error, shifted = (float((t[name] - t["bar"]).abs().mean()) for t in (both, early))
        assert shifted > 10 * error + 1e-3


def test_flow_moves_the_price(minutes):
    returns = minutes.returns
    for name in minutes.names:
        assert returns[name].corr(minutes.flow[name]) > 0.3


def test_es_on_all_days(lean_dir):
    quotes, notes = read_lean_futures(lean_dir, "ES")
    assert len(quotes.days) == 11
    assert float(quotes.spread["201312"].median()) == 0.25
    assert any("dropped" in n for n in notes)


def test_a_missing_day_of_one_name_is_refused(lean_dir):
    from crosswind.solvers.errors import DataGap

    with pytest.raises(DataGap, match=r"20131004_trade\.zip"):
        read(f"lean:{lean_dir}", ["SPY"], "2013-10-04")


def test_round_trip_of_recorded_data(data, tmp_path):
    again = read(f"parquet:{data.to_parquet(tmp_path / 'lean')}")
    assert again.events.equals(data.events)
    assert again.futures["ES"].equals(data.futures["ES"])
    assert again.notes == data.notes


def test_reading_twice_gives_the_same_bytes(data, lean_dir):
    again = read(f"lean:{lean_dir}", ["IBM", "AIG"], DAYS[1], 60.0)
    part = data.events.select(["IBM", "AIG"]).on(DAYS[1]).resample(60)
    for field in ("mid", "spread", "depth"):
        np.testing.assert_array_equal(getattr(again.events, field).to_numpy(), getattr(part, field).to_numpy())
    for field in ("flow", "volume"):
        np.testing.assert_allclose(
            getattr(again.events, field).to_numpy(), getattr(part, field).to_numpy(), rtol=1e-9, atol=1e-3
        )
    assert read(f"lean:{lean_dir}", ["IBM", "AIG"], DAYS[1], 60.0).events.equals(again.events)
