"""Hourly spot and perpetual tables with funding: made by hand, with every kind of damage, and the recorded ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read
from crosswind.problems.market.funding import basis
from crosswind.problems.market.readers.perp_carry import read_perp_carry
from crosswind.problems.market.readers.perp_funding import settlement_interval_h
from crosswind.solvers.errors import DataGap, InvalidInput

HOURS = 24 * 40


def hourly(hours=HOURS, seed=0, suffix="_okx", **columns):
    """Return a table as the third hand writes it: naive stamps, funding repeated in every hour, a price walk."""
    rng = np.random.default_rng(seed)
    stamps = pd.date_range("2024-01-01", periods=hours, freq="h")
    spot = 100 * np.exp(np.cumsum(rng.normal(0, 0.003, hours)))
    rate = np.repeat(rng.normal(1e-4, 1e-4, hours // 8 + 1), 8)[:hours]
    table = {"timestamp": stamps}
    for kind, close in (("perp", spot * 1.001), ("spot", spot)):
        table |= {
            f"open_{kind}": close * 0.999,
            f"high_{kind}": close * 1.002,
            f"low_{kind}": close * 0.998,
            f"close_{kind}": close,
            f"volume_{kind}": np.full(hours, 10.0),
            f"vwap_{kind}": close,
        }
    table |= {"mark_price": spot * 1.0011, "funding_rate_raw": rate, "funding_rate_1h": rate / 8}
    frame = pd.DataFrame(table | columns)
    return frame.rename(columns={c: c + suffix for c in frame if c != "timestamp"})


def settlements(count=300, late_ms=7, freq="8h", seed=0):
    rng = np.random.default_rng(seed)
    at = pd.date_range("2024-01-01", periods=count, freq=freq, tz="UTC")
    at = at + pd.to_timedelta(rng.integers(0, late_ms + 1, count), "ms")
    return pd.DataFrame({"funding_rate": rng.normal(1e-4, 1e-4, count)}, index=pd.DatetimeIndex(at, name="datetime"))


def put(folder, table, name="okx_ABC_2024.parquet"):
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / name)
    return folder / name


def renamed():
    return hourly().rename(columns={"close_spot_okx": "close_spot_xyz"})


def undated():
    return hourly().assign(timestamp=pd.NaT).astype({"timestamp": "datetime64[ns]"})


def reasons(data):
    return data.report.by_reason()


def test_bars_and_funding_by_hand(tmp_path):
    table = hourly()
    put(tmp_path, table)
    data = read(f"perp:{tmp_path}")
    assert sorted(data.bars) == ["ABC.perp", "ABC.spot"]
    perp = data.bars["ABC.perp"]
    assert (perp.stamp, perp.bar_s) == ("start", 3600.0)
    assert list(perp.frame) == ["open", "high", "low", "close", "volume", "mark"]
    assert "mark" not in data.bars["ABC.spot"].frame
    assert perp.frame.index[0] == pd.Timestamp("2024-01-01", tz="UTC")
    np.testing.assert_array_equal(perp.frame["close"], table["close_perp_okx"])
    rates = data.funding["ABC"].rates
    # Charged at 00, 08 and 16 only: an eighth of the rows, each with the whole interval's rate.
    assert len(rates) == HOURS // 8
    np.testing.assert_array_equal(rates.to_numpy(), table["funding_rate_raw_okx"].to_numpy()[::8])
    assert set(rates.index.hour) == {0, 8, 16}
    assert reasons(data) == {}
    assert data.report.bad_rows == 0
    facts = data.report.instruments["ABC"].facts
    assert facts["funding_interval"] == "8 h"
    assert data.report.instruments["ABC.perp"].facts["stamp"] == "start"
    assert data.report.files == {
        str(tmp_path / "okx_ABC_2024.parquet"): (tmp_path / "okx_ABC_2024.parquet").stat().st_size
    }
    np.testing.assert_allclose(basis(perp, data.bars["ABC.spot"]), 0.001, rtol=1e-9)
    with pytest.raises(DataGap, match="no order flow"):
        _ = data.events


def test_a_declared_zone_moves_the_stamps(tmp_path):
    path = put(tmp_path, hourly())
    tokyo = read_perp_carry(path, tz="Asia/Tokyo", interval_h=1)
    assert tokyo.bars["ABC.spot"].frame.index[0] == pd.Timestamp("2023-12-31 15:00", tz="UTC")
    # A wrong zone is seen in the funding: its changes no longer fall on the multiples of eight hours.
    assert read_perp_carry(path, tz="Asia/Tokyo").report.instruments["ABC"].facts["funding_interval"] == "1 h"
    with pytest.raises(InvalidInput, match="unknown time zone"):
        read_perp_carry(path, tz="Mars/Olympus")


def test_the_interval_is_found_or_declared(tmp_path):
    rate = np.repeat(np.random.default_rng(1).normal(0, 1e-4, HOURS // 4), 4)
    path = put(tmp_path, hourly(funding_rate_raw=rate, funding_rate_1h=rate / 4))
    found = read_perp_carry(path)
    assert len(found.funding["ABC"].rates) == HOURS // 4
    told = read_perp_carry(path, interval_h=8)
    # The 4 h rates contradict a declared 8 h: the hourly column says so, and no settlement is left to charge.
    assert "ABC" not in told.funding
    assert reasons(told)["the two columns of funding disagree"] == HOURS // 8
    with pytest.raises(InvalidInput, match="divide the day"):
        read_perp_carry(path, interval_h=5)
    changes = pd.date_range("2024-01-01", periods=9, freq="8h", tz="UTC")
    with pytest.raises(InvalidInput, match="cannot be told"):
        settlement_interval_h(changes, "ABC")
    assert settlement_interval_h(pd.date_range("2024-01-01", periods=20, freq="2h", tz="UTC"), "ABC") == 2


def test_rates_that_change_between_settlements_are_told(tmp_path):
    table = hourly()
    raw = table["funding_rate_raw_okx"].to_numpy(copy=True)
    raw[803:808] += 1e-4
    data = read_perp_carry(put(tmp_path, table.assign(funding_rate_raw_okx=raw, funding_rate_1h_okx=raw / 8)))
    assert reasons(data) == {"rate changed between settlements": 5}
    assert len(data.funding["ABC"].rates) == HOURS // 8


def test_a_hole_filled_forward_is_no_funding(tmp_path):
    table = hourly()
    raw = table["funding_rate_raw_okx"].to_numpy(copy=True)
    raw[80 : 80 + 8 * 50] = raw[80]
    path = put(tmp_path, table.assign(funding_rate_raw_okx=raw, funding_rate_1h_okx=raw / 8))
    data = read_perp_carry(path)
    assert reasons(data) == {"funding filled forward over a hole": 49}
    assert len(data.funding["ABC"].rates) == HOURS // 8 - 49
    assert data.report.instruments["ABC"].gaps == 1
    assert data.report.instruments["ABC"].longest_gap_s == 50 * 8 * 3600
    assert len(read_perp_carry(path, frozen_days=20).funding["ABC"].rates) == HOURS // 8


def test_outliers_are_dropped_or_kept_and_told_either_way(tmp_path):
    table = hourly()
    table.loc[100, "low_spot_okx"] *= 0.25
    table.loc[200, "high_perp_okx"] *= 2.0
    columns = [f"{c}_spot_okx" for c in ("open", "high", "low", "close")]
    table.loc[300, columns] *= 3.0
    raw = table["funding_rate_raw_okx"].to_numpy(copy=True)
    raw[400:408] = -0.06
    table["funding_rate_raw_okx"], table["funding_rate_1h_okx"] = raw, raw / 8
    path = put(tmp_path, table)
    data = read_perp_carry(path)
    found = {
        "outlier: spot low or high far from open and close": 1,
        "outlier: perpetual low or high far from open and close": 1,
        "outlier: spot close far from both neighbours": 1,
        "outlier: extreme funding without a basis to match": 1,
    }
    assert reasons(data) == found
    hours = pd.date_range("2024-01-01", periods=HOURS, freq="h", tz="UTC")
    assert set(hours) - set(data.bars["ABC.spot"].frame.index) == {hours[100], hours[300]}
    assert set(hours) - set(data.bars["ABC.perp"].frame.index) == {hours[200]}
    assert hours[400] not in data.funding["ABC"].rates.index
    assert data.report.instruments["ABC.spot"].gaps == 2
    kept = read_perp_carry(path, outliers="keep")
    assert reasons(kept) == {f"{reason} (kept)": n for reason, n in found.items()}
    assert len(kept.bars["ABC.spot"].frame) == HOURS
    assert kept.funding["ABC"].rates.min() == -0.06
    with pytest.raises(InvalidInput, match="'drop' or 'keep'"):
        read_perp_carry(path, outliers="clip")


def test_a_move_that_stays_is_no_outlier(tmp_path):
    table = hourly()
    prices = [c for c in table if c.startswith(("open", "high", "low", "close", "mark"))]
    table.loc[500:, prices] *= 0.4
    assert reasons(read_perp_carry(put(tmp_path, table))) == {}


def test_an_extreme_rate_that_the_basis_supports_is_kept_and_told(tmp_path):
    table = hourly()
    raw = table["funding_rate_raw_okx"].to_numpy(copy=True)
    raw[400:408] = -0.06
    table["funding_rate_raw_okx"], table["funding_rate_1h_okx"] = raw, raw / 8
    prices = [c for c in table if c.startswith(("open_perp", "high_perp", "low_perp", "close_perp", "mark"))]
    table.loc[390:398, prices] *= 0.9
    data = read_perp_carry(put(tmp_path, table))
    assert data.funding["ABC"].rates.min() == -0.06
    assert any("the basis supports are kept, the largest 0.06" in n for n in data.notes)
    # A basis of the other sign supports nothing.
    table.loc[390:398, prices] *= 1.25
    assert "outlier: extreme funding without a basis to match" in reasons(read_perp_carry(put(tmp_path, table)))


def test_bad_rows_by_reason(tmp_path):
    table = hourly()
    table.loc[0:9, [c for c in table if "perp" in c]] = np.nan  # not yet listed
    table.loc[20, "close_spot_okx"] = 0.0
    table.loc[21, "low_spot_okx"] = table.loc[21, "high_spot_okx"] * 1.1
    table.loc[22, "volume_spot_okx"] = -1.0
    table.loc[23, "volume_spot_okx"] = np.nan
    table.loc[24, "volume_spot_okx"] = 0.0
    table.loc[HOURS - 3 :, [c for c in table if "funding" in c]] = np.nan  # a tail without funding
    half = table.iloc[[30]].assign(timestamp=table["timestamp"][30] + pd.Timedelta("30min"))
    table = pd.concat([table.iloc[:50], table.iloc[[40]], half, table.iloc[50:].drop(index=[60, 61])])
    data = read_perp_carry(put(tmp_path, table))
    assert reasons(data) == {
        "not on the hour": 1,
        "repeated hour": 1,
        "no perpetual in the row": 10,
        "zero or negative price": 1,
        "high and low do not hold open and close": 1,
        "negative volume": 1,
        "incomplete spot bar": 1,
        "no funding rate in the row": 3,
    }
    assert any("out of order" in n for n in data.notes)
    assert any("1 hours without a trade" in n for n in data.notes)
    facts = data.report.instruments["ABC.perp"]
    assert facts.rows["bars"] == len(data.bars["ABC.perp"].frame) == HOURS - 12
    assert facts.gaps == 1
    assert facts.longest_gap_s == 3 * 3600
    frame = data.report.bad_frame()
    assert (frame["example"] != "").all()


def test_a_clock_that_jumps_is_a_bad_row(tmp_path):
    table = hourly()
    table.loc[77, "timestamp"] = pd.Timestamp("2034-01-04 05:00")
    data = read_perp_carry(put(tmp_path, table))
    assert reasons(data) == {"clock jump: over 30 days from all other rows": 1}
    assert data.bars["ABC.spot"].frame.index[-1].year == 2024
    rates = settlements()
    rates.index = rates.index.where(np.arange(300) != 5, pd.Timestamp("1999-01-01", tz="UTC"))
    told = read_perp_carry(put(tmp_path / "other", rates, "XYZUSDT.parquet"))
    assert reasons(told) == {"clock jump: over 30 days from all other rows": 1}
    assert len(told.funding["XYZUSDT"].rates) == 299


def test_order_of_rows_does_not_matter(tmp_path):
    table = hourly()
    one = read_perp_carry(put(tmp_path / "a", table))
    two = read_perp_carry(put(tmp_path / "b", table.sample(frac=1, random_state=0)))
    for name in one.bars:
        pd.testing.assert_frame_equal(one.bars[name].frame, two.bars[name].frame)
    pd.testing.assert_series_equal(one.funding["ABC"].rates, two.funding["ABC"].rates)


def test_settlements_are_snapped_and_counted(tmp_path):
    table = settlements()
    path = put(tmp_path / "binance_funding", table, "XYZUSDT.parquet")
    data = read(f"perp:{path}")
    rates = data.funding["XYZUSDT"]
    np.testing.assert_array_equal(rates.rates.to_numpy(), table["funding_rate"])
    assert list(rates.rates.index) == list(pd.date_range("2024-01-01", periods=300, freq="8h", tz="UTC"))
    facts = data.report.instruments["XYZUSDT"]
    late = int((table.index.microsecond != 0).sum())
    assert facts.facts["snapped"].startswith(f"{late} stamps off by up to 7 ms")
    assert facts.facts["funding_interval"] == "8 h (299 times)"
    assert facts.venue == "binance"
    assert rates.interval_s == 28_800


def test_damaged_settlements_by_reason(tmp_path):
    table = settlements()
    table.iloc[3, 0] = np.nan
    table.iloc[4, 0] = 0.5
    stray = table.iloc[[10]].set_axis(table.index[[10]] + pd.Timedelta("20min"))
    table = pd.concat([table, stray, table.iloc[[20]]]).drop(index=table.index[50])
    data = read_perp_carry(put(tmp_path, table, "XYZUSDT.parquet"))
    assert reasons(data) == {
        "settlement off the full hour": 1,
        "no funding rate in the row": 1,
        "repeated settlement": 1,
        "outlier: extreme funding": 1,
    }
    facts = data.report.instruments["XYZUSDT"]
    assert facts.gaps == 2  # rows 3 and 4 side by side, and row 50
    assert "out of order" in facts.facts["sorted"]
    assert read_perp_carry(tmp_path, outliers="keep").funding["XYZUSDT"].rates.max() == 0.5
    assert reasons(read_perp_carry(tmp_path, snap_s=1800))["repeated settlement"] == 2


@pytest.mark.parametrize("factor", [100.0, 1095.0])
def test_a_wrong_unit_of_rates_is_refused(tmp_path, factor):
    table = settlements() * factor
    path = put(tmp_path, table, "XYZUSDT.parquet")
    with pytest.raises(InvalidInput, match="percentages or annual rates"):
        read_perp_carry(path)
    put(tmp_path, hourly().assign(funding_rate_raw_okx=0.01 * factor / 100))
    with pytest.raises(InvalidInput, match="percentages or annual rates"):
        read_perp_carry(tmp_path, ["ABC"])


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-500]), DataGap, "truncated or damaged"),
        (lambda p: p.write_bytes(b""), DataGap, "truncated or damaged"),
        (lambda p: hourly().iloc[:0].to_parquet(p), DataGap, "no rows"),
        (lambda p: p.unlink(), DataGap, "no parquet file"),
        (lambda p: pd.DataFrame({"a": [1.0]}).to_parquet(p), InvalidInput, "neither hourly prices"),
        (lambda p: hourly().assign(timestamp=range(HOURS)).to_parquet(p), InvalidInput, "not timestamps"),
        (lambda p: hourly().drop(columns="low_spot_okx").to_parquet(p), InvalidInput, "columns are missing"),
        (lambda p: renamed().to_parquet(p), InvalidInput, "neither hourly prices of one venue"),
        (lambda p: undated().to_parquet(p), InvalidInput, "a time is missing"),
    ],
)  # fmt: skip
def test_files_of_no_use_are_refused(tmp_path, damage, error, message):
    path = put(tmp_path, hourly())
    damage(path)
    with pytest.raises(error, match=message) as caught:
        read_perp_carry(tmp_path)
    assert caught.value.remedy


def test_choices(tmp_path):
    put(tmp_path, hourly())
    put(tmp_path / "binance_funding", settlements(), "XYZUSDT.parquet")
    assert list(read_perp_carry(tmp_path, ["XYZUSDT"]).funding) == ["XYZUSDT"]
    day = read_perp_carry(tmp_path, ["ABC"], "2024-01-05")
    assert len(day.bars["ABC.spot"].frame) == 24
    assert len(day.funding["ABC"].rates) == 3
    stages = []
    read_perp_carry(tmp_path, progress=lambda stage, done: stages.append(done))
    assert stages == [0.5, 1.0]
    with pytest.raises(InvalidInput, match="no file of that name"):
        read_perp_carry(tmp_path, ["QQQ"])
    with pytest.raises(InvalidInput, match="no order flow to put into buckets"):
        read(f"perp:{tmp_path}", bucket_s=60.0)
    with pytest.raises(DataGap, match="no row is left"):
        read_perp_carry(tmp_path, days="2030-01-01")
    put(tmp_path / "again", hourly())
    with pytest.raises(InvalidInput, match="two files hold the same name"):
        read_perp_carry(tmp_path)
