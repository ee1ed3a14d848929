"""Files that are damaged, doubled or of another unit: every reader tells it with an error of its own."""

from __future__ import annotations

import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.market.checks import as_dates, check_names
from crosswind.problems.market.hours import AroundTheClock, SessionHours
from crosswind.problems.market.readers.lean import read_lean
from crosswind.problems.market.readers.lean_bars import read_lean_bars
from crosswind.problems.market.readers.lean_files import days_of
from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.problems.market.readers.perp_carry import read_perp_carry
from crosswind.problems.market.readers.tables import as_numbers
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

T0 = 1_723_075_200_000  # 2024-08-08 00:00 UTC [ms]


def zipped(path, rows, member="a.csv"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, "\n".join(rows) + "\n")
    return path


def marked_encrypted(path):
    """Set the flag of a password on all members."""
    raw = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = raw.find(magic)
        while start >= 0:
            raw[start + at] |= 1
            start = raw.find(magic, start + 4)
    path.write_bytes(bytes(raw))


# -- LEAN ------------------------------------------------------------------------------------------------------------


def lean_equity(root, trades, quotes):
    for kind, what, rows in (("tick", "trade", trades), ("second", "quote", quotes)):
        zipped(root / "equity" / "usa" / kind / "aaa" / f"20131007_{what}.zip", rows)
    return root


OPEN_MS = 34_200_000
TRADES = [f"{OPEN_MS + 1000 * k + 500},{1_000_000 + 100 * (k % 3)},{100 + k},Q,0,0" for k in range(30)]
QUOTES = [
    f"{OPEN_MS - 1000 + 1000 * k},{','.join(['1000000'] * 4)},100,{','.join(['1000200'] * 4)},200" for k in range(32)
]


def thirty_seconds(root):
    return read_lean(root, hours=("09:30", "09:31"), bucket_s=30.0)


def test_a_day_of_ticks_with_each_row_twice_is_refused(tmp_path):
    lean_equity(tmp_path, TRADES, QUOTES)
    assert thirty_seconds(tmp_path).events.volume.to_numpy().sum() > 0
    doubled = [row for row in TRADES for _ in (0, 1)]
    with pytest.raises(InvalidInput, match="every row stands twice"):
        thirty_seconds(lean_equity(tmp_path, doubled, QUOTES))
    # Some equal trades of one moment are honest.
    some = [*TRADES[:4], TRADES[3], *TRADES[4:]]
    assert thirty_seconds(lean_equity(tmp_path, some, QUOTES)).report.instruments["AAA"].rows["trades"] == 31


def test_a_sale_condition_of_more_than_64_bits_is_a_gap(tmp_path):
    with pytest.raises(DataGap, match="not hexadecimal"):
        thirty_seconds(lean_equity(tmp_path, [*TRADES[:-1], TRADES[-1].replace(",Q,0,", f",Q,{'f' * 25},")], QUOTES))


def test_a_file_name_without_a_date_is_refused(tmp_path):
    zipped(tmp_path / "20139999_trade.zip", TRADES)
    with pytest.raises(InvalidInput, match="the date in its name"):
        days_of(tmp_path, "trade")


def test_an_encrypted_zip_is_a_gap(tmp_path):
    lean_equity(tmp_path, TRADES, QUOTES)
    marked_encrypted(tmp_path / "equity" / "usa" / "tick" / "aaa" / "20131007_trade.zip")
    with pytest.raises(DataGap, match="encrypted"):
        thirty_seconds(tmp_path)


def test_plain_prices_in_equity_bars_are_refused(tmp_path):
    folder = tmp_path / "equity" / "usa" / "minute" / "aaa"
    plain = [f"{OPEN_MS + 60_000 * k},100.01,100.07,100.01,100.05,500" for k in range(20)]
    zipped(folder / "20131007_trade.zip", plain)
    with pytest.raises(InvalidInput, match="price unit"):
        read_lean_bars(tmp_path, "AAA")
    scaled = [f"{OPEN_MS + 60_000 * k},1000100,1000700,1000100,1000500,500" for k in range(20)]
    zipped(folder / "20131007_trade.zip", scaled)
    assert read_lean_bars(tmp_path, "AAA").frame["close"].iloc[0] == pytest.approx(100.05)


def test_a_repeated_minute_of_a_future_counts_once(tmp_path):
    folder = tmp_path / "future" / "cme" / "minute" / "es"
    quotes = [f"{60_000 * k},{','.join(['1680.00'] * 4)},5,{','.join(['1680.25'] * 4)},7" for k in range(5)]
    trades = [f"{60_000 * k},1680,1680.25,1680,1680,{10 * (k + 1)}" for k in range(5)]
    member = "20131007_es_minute_{}_201312.csv"
    zipped(folder / "20131007_quote.zip", [*quotes[:2], quotes[1], *quotes[2:]], member.format("quote"))
    zipped(folder / "20131007_trade.zip", [*trades[:2], trades[1], trades[2], *trades[3:]], member.format("trade"))
    report = cw.read(f"lean:{tmp_path}", security="future").report
    quotes_read, _ = read_lean_futures(tmp_path, "ES", report=report)
    assert quotes_read.volume["201312"].tolist() == [10, 20, 30, 40, 50]
    assert report.by_reason()["repeated minute"] == 4  # two files, read twice here


# -- Binance ---------------------------------------------------------------------------------------------------------


def spot(tmp_path, *lines, packed=True):
    path = tmp_path / "spot" / "btcusdt_20240808.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return f"binance-raw:{tmp_path}"


def line(kind, k, **data):
    if kind == "trade":
        known = {
            "e": "trade",
            "E": T0 + k,
            "T": T0 + k,
            "s": "BTCUSDT",
            "t": k,
            "p": "100.10",
            "q": "2",
            "m": k % 2 == 0,
        }
    else:
        known = {"u": k, "s": "BTCUSDT", "b": "100.00", "B": "3", "a": "100.20", "A": "4"}
    text = json.dumps({"stream": f"btcusdt@{kind}", "data": {**known, **data}}, separators=(",", ":"))
    return f"{(T0 + k + 3) * 1_000_000} {text}"


GOOD = [line("trade" if k % 2 else "bookTicker", 100 * k) for k in range(1, 60)]


def reasons(spec):
    return dict(cw.read(spec, bucket_s=1.0).report.by_reason())


def test_a_gz_of_nothing_is_a_gap(tmp_path):
    with pytest.raises(DataGap, match="holds no line"):
        cw.read(spot(tmp_path))


def test_json_nested_too_deeply_is_one_unreadable_line(tmp_path):
    assert reasons(spot(tmp_path, *GOOD, f"{(T0 + 9000) * 1_000_000} " + "[" * 100_000)) == {"unreadable JSON": 1}


def test_numbers_too_large_for_their_type_are_unreadable_fields(tmp_path):
    huge = line("trade", 61).replace('"p":"100.10"', '"p":' + "9" * 400)
    assert reasons(spot(tmp_path, *GOOD, huge)) == {"unreadable field": 1}
    late = line("trade", 61, E=10**30, T=10**30)
    assert sum(reasons(spot(tmp_path, late, *GOOD)).values()) == 1


@pytest.mark.parametrize(("key", "value"), [("u", "1e400"), ("T", "9" * 30), ("b", "[[1" + "0" * 400 + ",1]]")])
def test_a_depth_update_of_impossible_numbers_is_left_out(tmp_path, key, value):
    update = {
        "e": "depthUpdate",
        "E": T0 + 50,
        "T": T0 + 50,
        "s": "BTCUSDT",
        "U": 1,
        "u": 2,
        "b": [],
        "a": [],
        key: "@@",
    }
    text = json.dumps({"stream": "btcusdt@depth", "data": update}, separators=(",", ":")).replace('"@@"', value)
    spec = spot(tmp_path, *GOOD[:3], f"{(T0 + 53) * 1_000_000} {text}", *GOOD[3:])
    assert sum(len(part) for part in cw.stream(spec, levels=2)) > 30


def public(tmp_path, rows, name="BTCUSDT-aggTrades-2024-08-08.zip"):
    return zipped(tmp_path / "spot" / name, rows)


def test_a_damaged_archive_zip_is_a_gap(tmp_path):
    rows = [f"{k},100.5,2,{k},{k},{T0 + 500 * k},True,True" for k in range(50)]
    path = public(tmp_path, rows)
    assert len(cw.read(f"binance:{tmp_path}").bars) == 1
    whole = path.read_bytes()
    directory = whole.find(b"PK\x01\x02")
    broken = bytearray(whole)
    broken[directory + 42 : directory + 46] = b"\xff\xff\xff\x7f"  # where the member begins
    path.write_bytes(bytes(broken))
    with pytest.raises(DataGap, match="damaged"):
        cw.read(f"binance:{tmp_path}")
    path.write_bytes(whole)
    marked_encrypted(path)
    with pytest.raises(DataGap, match="encrypted"):
        cw.read(f"binance:{tmp_path}")
    path.write_bytes(whole)
    path.with_name(path.name + ".CHECKSUM").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataGap, match="checksum"):
        cw.read(f"binance:{tmp_path}")


def test_a_price_of_hundreds_of_digits_is_an_unreadable_row(tmp_path):
    rows = [f"{k},100.5,2,{k},{k},{T0 + 500 * k},True,True" for k in range(50)]
    public(tmp_path, [*rows, f"50,{'9' * 400},2,50,50,{T0 + 30_000},True,True"])
    assert cw.read(f"binance:{tmp_path}").report.by_reason() == {"unreadable row": 1}
    assert np.isfinite(as_numbers(pd.Series(["1.5", "x", "9" * 400], dtype=object))).tolist() == [True, False, False]
    assert np.isfinite(as_numbers(pd.Series([1.5, 10**400], dtype=object))).tolist() == [True, False]


def test_days_begin_at_the_first_moment_there_is(tmp_path):
    rows = [f"{k},100.5,2,{k},{k},{T0 + 500 * k},True,True" for k in range(50)]
    public(tmp_path, rows)
    # In Cairo clocks went from 00:00 to 01:00 on 2024-04-26: no midnight there, but a day.
    with pytest.raises(DataGap):
        cw.read(f"binance:{tmp_path}", days="2024-04-26", tz="Africa/Cairo")


# -- LOBSTER, tables, our own layout -----------------------------------------------------------------------------------


def test_lobster_names_and_options_that_are_none(tmp_path):
    stem = "ABC_2012-13-41_34200000_57600000"
    for what in ("message", "orderbook"):
        (tmp_path / f"{stem}_{what}_1.csv").write_text("34200.1,1,1,1,1000000,1\n")
    with pytest.raises(InvalidInput, match="the date in its name"):
        cw.read(f"lobster:{tmp_path}")
    for file in list(tmp_path.glob("*.csv")):
        file.rename(file.with_name(file.name.replace("2012-13-41", "2012-06-21")))
    with pytest.raises(InvalidInput, match="days"):
        cw.read(f"lobster:{tmp_path}", days=[])
    with pytest.raises(InvalidInput, match="tick"):
        cw.read(f"lobster:{tmp_path}", tick="x")


def test_parquet_of_impossible_times_is_refused(tmp_path):
    index = pd.DatetimeIndex(np.array(["2024-01-01", "2024-01-02", "9999-01-01"], dtype="datetime64[ms]"))
    pd.DataFrame({"funding_rate": [1e-4] * 3}, index=index.rename("timestamp")).to_parquet(tmp_path / "ABCUSDT.parquet")
    with pytest.raises(InvalidInput, match="out of all bounds"):
        read_perp_carry(tmp_path)


def test_flipped_bytes_in_parquet_are_gaps(tmp_path):
    index = pd.date_range("2024-01-01", periods=40, freq="8h", name="timestamp")
    path = tmp_path / "ABCUSDT.parquet"
    pd.DataFrame({"funding_rate": np.linspace(1e-5, 1e-4, 40)}, index=index).to_parquet(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        raw = bytearray(whole)
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(raw))
        try:
            read_perp_carry(tmp_path)
        except CrosswindError:
            refused += 1
    assert refused > 100


def test_a_copy_under_another_coins_name_is_refused(tmp_path):
    index = pd.date_range("2024-01-01", periods=40, freq="8h", name="timestamp", tz="UTC")
    for coin in ("ABC", "XYZ"):
        table = pd.DataFrame({"funding_rate": np.linspace(1e-5, 1e-4, 40)}, index=index)
        table.to_parquet(tmp_path / f"{coin}USDT.parquet")
    with pytest.raises(InvalidInput, match="the same bytes"):
        read_perp_carry(tmp_path)


def test_a_damaged_truth_is_a_gap(tmp_path):
    market = cw.simulate(names=3, sectors=1, days=1, seed=1)
    market.to_parquet(tmp_path / "own")
    path = tmp_path / "own" / "truth.npz"
    whole = path.read_bytes()
    raw = bytearray(whole)
    raw[whole.find(b"PK\x01\x02")] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(DataGap, match=r"truth\.npz"):
        cw.read(f"parquet:{tmp_path / 'own'}")
    path.write_bytes(whole)
    labels = json.loads((tmp_path / "own" / "truth.json").read_text())
    labels["betas"].append(1.0)
    (tmp_path / "own" / "truth.json").write_text(json.dumps(labels))
    with pytest.raises(DataGap, match=r"truth\.json"):
        cw.read(f"parquet:{tmp_path / 'own'}")


def test_a_count_that_is_none_is_a_gap(tmp_path):
    cw.simulate(names=3, sectors=1, days=1, seed=1).to_parquet(tmp_path / "own")
    path = tmp_path / "own" / "market.json"
    path.write_text(path.read_text().replace('"bars": 0', '"bars": 0.5'))
    with pytest.raises(DataGap, match=r"market\.json"):
        cw.read(f"parquet:{tmp_path / 'own'}")


# -- arguments that every reader takes ---------------------------------------------------------------------------


def test_days_are_read_one_way():
    assert as_dates(None) is None
    assert [str(d) for d in as_dates(["2013-10-08", "20131007", "2013-10-08"])] == ["2013-10-07", "2013-10-08"]
    assert as_dates(pd.Timestamp("2013-10-07")) == as_dates("2013-10-07")
    for bad in ([], 5, 3.5, [5], "x", pd.NaT):
        with pytest.raises(InvalidInput, match="days"):
            as_dates(bad)
    with pytest.raises(InvalidInput, match="not names"):
        check_names(5, "names")


def test_buckets_longer_than_any_session_are_one_a_session():
    events = cw.simulate(names=2, sectors=1, days=2, seed=1).events
    one = events.resample(1e12)
    assert len(one.index) == 2
    assert one.volume.to_numpy().sum() == pytest.approx(events.volume.to_numpy().sum())


def test_buckets_too_short_for_any_memory_are_refused():
    for made in (lambda: AroundTheClock("UTC", 1e-9), lambda: SessionHours("09:30", "16:00", "UTC", 1e-6)):
        with pytest.raises(InvalidInput, match="shorter than a millisecond"):
            made()


def test_sessions_in_which_the_clocks_change_are_refused():
    spring, autumn = pd.Timestamp("2024-03-10").date(), pd.Timestamp("2024-11-03").date()
    whole = SessionHours("00:00", "24:00", "America/New_York", 3600.0)
    for day in (spring, autumn):  # 23 and 25 hours
        with pytest.raises(InvalidInput, match="within the session"):
            whole.edges_ns(day)
        assert len(SessionHours("09:30", "16:00", "America/New_York", 1800.0).edges_ns(day)) == 14
    for opens, day in (("02:30", spring), ("01:30", autumn)):  # does not exist, occurs twice
        with pytest.raises(InvalidInput, match="clocks change then"):
            SessionHours(opens, "16:00", "America/New_York", 1800.0).edges_ns(day)
    assert len(whole.edges_ns(pd.Timestamp("2024-03-11").date())) == 25
