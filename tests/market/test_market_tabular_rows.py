"""Ticks in a user's tables: parts of any size, bad rows by reason, wrong units, copies, damage."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read
from crosswind.problems.market.merge import stream
from crosswind.solvers.errors import DataGap, InvalidInput

FIELDS = ("flow", "mid", "spread", "volume", "depth")
OPTIONS = {"hours": ("09:30", "09:40"), "bucket_s": 20.0}


def made(rows: int = 1200, seed: int = 0, names: str = "AB") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    when = pd.Timestamp("2024-03-08 14:30", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, 600_000, rows)), "ms")
    mid = 50 + 0.01 * rng.integers(-1, 2, rows).cumsum()
    table = pd.DataFrame({"time": when, "name": rng.choice(list(names), rows)})
    table["price"] = mid + 0.01 * rng.choice([-1, 0, 1], rows)
    table["size"] = rng.integers(1, 500, rows).astype(float)
    table["bid"], table["ask"] = mid - 0.01, mid + 0.01
    table["bid_size"], table["ask_size"] = 100.0, 300.0
    opening = table.iloc[:1].assign(time=pd.Timestamp("2024-03-08 14:29:59", tz="UTC"))
    return pd.concat([*(opening.assign(name=n) for n in names), table], ignore_index=True)


def same(a, b):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field).to_numpy(), getattr(b, field).to_numpy())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("rows", [9, 100, 10_000])
def test_any_part_size_gives_the_same_bits(tmp_path, kind, rows):
    table = made(400)
    path = tmp_path / f"t.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    whole = read(f"{kind}:{path}", **OPTIONS)
    parts = read(f"{kind}:{path}", chunk_rows=rows, **OPTIONS)
    same(parts.events, whole.events)
    assert parts.notes == whole.notes
    assert parts.report.to_frame().astype(str).equals(whole.report.to_frame().astype(str))


@pytest.mark.parametrize("rows", [30, 10_000])
def test_trades_and_quotes_apart_in_parts(tmp_path, rows):
    table = made(400)
    table[["time", "name", "price", "size"]].to_csv(tmp_path / "trades.csv", index=False)
    table.drop(columns=["price", "size"]).iloc[::3].to_csv(tmp_path / "quotes.csv", index=False)
    whole = read(f"csv:{tmp_path}", **OPTIONS)
    same(read(f"csv:{tmp_path}", chunk_rows=rows, **OPTIONS).events, whole.events)
    merged = pd.concat(list(stream(f"csv:{tmp_path}", chunk_rows=rows)))
    assert merged.index.is_monotonic_increasing
    assert (merged["kind"] == "trade").sum() == len(table)


def test_bad_rows_are_counted_by_reason_and_not_used(tmp_path):
    table = made(2000)
    clean = table.copy()
    rng = np.random.default_rng(1)
    at = rng.choice(np.arange(100, 1900), 14, replace=False)
    bad = table.copy()
    bad["price"] = bad["price"].astype(object)
    bad.loc[at[:4], "price"] = 0.0
    bad.loc[at[4:6], "size"] = -5.0
    bad.loc[at[6:8], "price"] = "n/a?"
    bad.loc[at[8:10], "time"] += pd.Timedelta(days=2)
    bad.loc[at[10:12], "time"] = pd.Timestamp("2255-01-01", tz="UTC")
    bad.loc[at[12:14], "name"] = None
    bad["time"] = bad["time"].astype("str").str.replace(" ", "T")
    path = tmp_path / "t.csv"
    bad.to_csv(path, index=False)
    with path.open("a") as out:
        out.write("2024-03-0")  # a truncated last line
    clean.drop(index=at).to_csv(tmp_path / "clean.csv", index=False)
    got = read(f"csv:{path}", **OPTIONS)
    same(got.events, read(f"csv:{tmp_path / 'clean.csv'}", **OPTIONS).events)
    reasons = got.report.by_reason()
    assert reasons["price or size that is zero, negative or missing"] == 6
    assert reasons["unreadable row"] == 5
    assert reasons["clock jump"] == 2
    assert reasons["clock far off"] == 2
    assert got.report.bad_frame()["example"].str.len().gt(0).all()
    assert str(path) in got.report.files


def test_crossed_quotes_reach_the_report(tmp_path):
    table = made(500)
    table.loc[[50, 60, 70], "ask"] = 1.0
    table.to_csv(tmp_path / "t.csv", index=False)
    got = read(f"csv:{tmp_path / 't.csv'}", **OPTIONS)
    assert got.report.by_reason() == {"crossed, non-positive or non-finite quote": 3}
    assert any(note.startswith("3 crossed") for note in got.notes)


def test_repeated_quotes_are_counted(tmp_path):
    table = made(300)
    table[["time", "name", "price", "size"]].to_csv(tmp_path / "trades.csv", index=False)
    quotes = table.drop(columns=["price", "size"]).drop_duplicates()
    pd.concat([quotes, quotes.iloc[10:15]]).to_csv(tmp_path / "quotes.csv", index=False)
    got = read(f"csv:{tmp_path}", **OPTIONS)
    assert got.report.by_reason() == {"duplicate": 5}
    quotes.to_csv(tmp_path / "quotes.csv", index=False)
    same(got.events, read(f"csv:{tmp_path}", **OPTIONS).events)


def test_what_is_written_twice_is_refused(tmp_path):
    table = made(300)
    pd.concat([table, table]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InvalidInput, match="written twice"):
        read(f"csv:{tmp_path / 't.csv'}", **OPTIONS)
    (tmp_path / "two").mkdir()
    for name in ("a.csv", "b.csv"):
        table.to_csv(tmp_path / "two" / name, index=False)
    with pytest.raises(InvalidInput, match="same bytes"):
        read(f"csv:{tmp_path / 'two'}", **OPTIONS)


@pytest.mark.parametrize(("written", "said"), [("ms", "s"), ("ms", "us"), ("s", "ms"), ("us", "ns"), ("ns", "us")])
def test_a_wrong_time_unit_is_refused(tmp_path, written, said):
    scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
    table = made(100)
    table["time"] = table["time"].dt.as_unit("ns").astype("int64") // scale[written]
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InvalidInput, match="about the year") as caught:
        read(f"csv:{tmp_path / 't.csv'}", time_unit=said, **OPTIONS)
    assert "time_unit" in caught.value.field
    read(f"csv:{tmp_path / 't.csv'}", time_unit=written, **OPTIONS)


def test_prices_of_another_unit_are_refused(tmp_path):
    table = made(200)
    table["price"] *= 1e4
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InvalidInput, match="another unit"):
        read(f"csv:{tmp_path / 't.csv'}", **OPTIONS)


def test_disorder_within_a_part_is_mended_and_beyond_it_refused(tmp_path):
    table = made(400)
    table.to_csv(tmp_path / "t.csv", index=False)
    want = read(f"csv:{tmp_path / 't.csv'}", **OPTIONS).events
    table.sort_values("name", kind="stable").to_csv(tmp_path / "by_name.csv", index=False)
    for rows in (10_000, 20):
        same(read(f"csv:{tmp_path / 'by_name.csv'}", chunk_rows=rows, **OPTIONS).events, want)
    table.iloc[::-1].to_csv(tmp_path / "back.csv", index=False)
    assert read(f"csv:{tmp_path / 'back.csv'}", **OPTIONS).events.index.equals(want.index)
    with pytest.raises(InvalidInput, match="go back from one part"):
        read(f"csv:{tmp_path / 'back.csv'}", chunk_rows=50, **OPTIONS)


def test_truncated_and_empty_files(tmp_path):
    data = gzip.compress(made(5000).to_csv(index=False).encode())
    (tmp_path / "t.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataGap, match="cannot be read as csv"):
        read(f"csv:{tmp_path / 't.csv.gz'}", **OPTIONS)
    (tmp_path / "h.csv").write_text("time,name,price,size,bid,ask,bid_size,ask_size\n")
    with pytest.raises(DataGap, match="the table is empty"):
        read(f"csv:{tmp_path / 'h.csv'}", **OPTIONS)
    for value in (1, 0, True, "many"):
        made(10).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(InvalidInput, match="not a number of rows"):
            read(f"csv:{tmp_path / 't.csv'}", chunk_rows=value, **OPTIONS)


def test_the_report_tells_clock_units_signs_and_gaps(tmp_path):
    table = made(600, names="A")
    hole = (table["time"] > "2024-03-08 14:33Z") & (table["time"] < "2024-03-08 14:35Z")
    table[~hole].assign(side=1).to_csv(tmp_path / "t.csv", index=False)
    got = read(f"csv:{tmp_path / 't.csv'}", **OPTIONS)
    one = got.report.instruments["A"]
    assert one.gaps == 1
    assert 118 < one.longest_gap_s < 124
    assert one.facts["sign"] == "column side"
    assert one.rows["trades"] == one.rows["quotes"] == int((~hole).sum())


def test_markets_around_the_clock_from_a_table(tmp_path):
    made(400).to_csv(tmp_path / "t.csv", index=False)
    got = read(f"csv:{tmp_path / 't.csv'}", hours=None, tz="UTC", bucket_s=20.0).events
    assert got.index[0] == pd.Timestamp("2024-03-08 14:30:20", tz="UTC")
    assert got.index[-1] <= pd.Timestamp("2024-03-08 14:40", tz="UTC")


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(copies):
        path = tmp_path / f"{copies}.csv"
        for k in range(copies):
            part = made(4000, seed=k)
            part["time"] += pd.Timedelta(minutes=11 * k)
            part.to_csv(path, mode="a", index=False, header=k == 0)
        options = {"hours": ("09:30", "16:00"), "bucket_s": 60.0, "stale_limit_s": 1e6}
        tracemalloc.start()
        read(f"csv:{path}", chunk_rows=2000, **options)
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(1)
    low = peak(3)
    assert peak(12) < 1.3 * low
