"""Plain csv and parquet: long and wide, buckets and ticks, mappings, clocks, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import MarketEvents, read, read_table
from crosswind.solvers.errors import DataGap, InvalidInput

FIELDS = ("flow", "mid", "spread", "volume", "depth")
SHORT = {"hours": ("09:30", "09:31"), "bucket_s": 20.0}


def made(buckets: int = 6) -> MarketEvents:
    rng = np.random.default_rng(0)
    index = pd.date_range("2024-03-08 14:30:10", periods=buckets, freq="10s", tz="UTC")
    volume = rng.uniform(1e4, 2e4, (buckets, 2))
    arrays = {"flow": volume / 2, "mid": volume / 100, "spread": volume / 1e6, "volume": volume, "depth": volume}
    frames = {k: pd.DataFrame(v, index=index, columns=["AAA", "BBB"]) for k, v in arrays.items()}
    return MarketEvents(**frames, bucket_s=10, tz="America/New_York")


def long(events: MarketEvents) -> pd.DataFrame:
    melted = [getattr(events, f).melt(ignore_index=False, var_name="name", value_name=f) for f in FIELDS]
    table = pd.concat([melted[0]["name"], *(m[f] for m, f in zip(melted, FIELDS, strict=True))], axis=1)
    return table.rename_axis("time").reset_index()


def ticks() -> pd.DataFrame:
    """Two names; each row a trade with the quote that prevailed."""
    rows = [
        ("2024-03-08T09:29:59-05:00", "AAA", 10.0, 1, 9.9, 10.1),
        ("2024-03-08T09:29:59-05:00", "BBB", 20.0, 1, 19.9, 20.1),
        ("2024-03-08T09:30:05-05:00", "AAA", 10.1, 100, 9.9, 10.1),
        ("2024-03-08T09:30:25-05:00", "AAA", 9.9, 50, 9.9, 10.1),
        ("2024-03-08T09:30:30-05:00", "BBB", 20.1, 10, 19.9, 20.1),
    ]
    table = pd.DataFrame(rows, columns=["time", "name", "price", "size", "bid", "ask"])
    return table.assign(bid_size=100, ask_size=300)


def save(table: pd.DataFrame, path, kind="csv"):
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_long_buckets(tmp_path, kind):
    e = made()
    table = long(e).sample(frac=1, random_state=1)  # the order of rows does not matter
    path = save(table, tmp_path / f"b.{kind}", kind)
    again = read(f"{kind}:{path}").events
    assert again.bucket_s == 10
    for f in FIELDS:
        np.testing.assert_allclose(getattr(again, f).to_numpy(), getattr(e, f).to_numpy(), rtol=1e-15)
    assert again.index.equals(e.index)
    assert read(f"{kind}:{path}", ["BBB"], "2024-03-08", 30).events.equals(again.select(["BBB"]).resample(30))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_wide_buckets(tmp_path, kind):
    e = made()
    for f in FIELDS:
        frame = getattr(e, f).rename_axis("time")
        frame.reset_index().to_csv(tmp_path / f"{f}.csv", index=False) if kind == "csv" else frame.to_parquet(
            tmp_path / f"{f}.parquet"
        )
    again = read(f"{kind}:{tmp_path}").events
    for f in FIELDS:
        np.testing.assert_allclose(getattr(again, f).to_numpy(), getattr(e, f).to_numpy(), rtol=1e-15)


def test_mapping_stamp_and_naive_times(tmp_path):
    e = made()
    table = long(e).rename(columns={"time": "ts", "name": "ticker", "mid": "m"})
    table["ts"] = (table["ts"] - pd.Timedelta(seconds=10)).dt.tz_convert("America/New_York").dt.tz_localize(None)
    table["mid"] = -1.0  # a decoy under the standard name
    path = save(table, tmp_path / "b.csv")
    mapping = {"time": "ts", "name": "ticker", "mid": "m"}
    again = read_table(path, columns=mapping, source_tz="America/New_York", stamp="start").events
    assert again.index.equals(e.index)
    np.testing.assert_allclose(again.mid.to_numpy(), e.mid.to_numpy(), rtol=1e-15)
    with pytest.raises(InvalidInput, match=r"naive.*source_tz"):
        read_table(path, columns=mapping)


@pytest.mark.parametrize(("unit", "scale"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_numeric_times(tmp_path, unit, scale):
    e = made()
    table = long(e)
    table["time"] = table["time"].astype("int64") // scale
    path = save(table, tmp_path / "b.csv")
    assert read_table(path, time_unit=unit).events.index.equals(e.index)
    with pytest.raises(InvalidInput, match="times are numbers"):
        read_table(path)


def test_ticks_in_one_table(tmp_path):
    e = read(f"csv:{save(ticks(), tmp_path / 't.csv')}", **SHORT).events
    assert e.names == ("AAA", "BBB")
    np.testing.assert_allclose(e.flow["AAA"], [1010, -495, 0])
    np.testing.assert_allclose(e.flow["BBB"], [0, 201, 0])
    np.testing.assert_allclose(e.mid["AAA"], 10.0)
    np.testing.assert_allclose(e.depth["AAA"], 2000)


def test_given_sides_win(tmp_path):
    table = ticks().assign(side=["buy", "SELL", "S", "B", "0"])
    e = read_table(save(table, tmp_path / "t.csv"), **SHORT).events
    np.testing.assert_allclose(e.flow["AAA"], [-1010, 495, 0])
    np.testing.assert_allclose(e.flow["BBB"], [0, 0, 0])
    table["side"] = "maybe"
    with pytest.raises(InvalidInput, match=r"a side is not known.*maybe"):
        read_table(save(table, tmp_path / "t.csv"), **SHORT)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_trades_and_quotes_apart(tmp_path, kind):
    table = ticks().rename(columns={"price": "px"})
    save(table[["time", "name", "px", "size"]], tmp_path / f"trades.{kind}", kind)
    save(table.drop(columns=["px", "size"]), tmp_path / f"quotes.{kind}", kind)
    e = read(f"{kind}:{tmp_path}", columns={"price": "px"}, **SHORT).events
    np.testing.assert_allclose(e.flow["AAA"], [1010, -495, 0])


def test_parts_of_one_table_and_several_days(tmp_path):
    later = ticks()
    later["time"] = later["time"].str.replace("03-08", "03-11").str.replace("-05:00", "-04:00")
    save(ticks(), tmp_path / "1.csv")
    save(later, tmp_path / "2.csv")
    both = read(f"csv:{tmp_path}", **SHORT).events
    assert len(both.days) == 2  # offsets differ: daylight saving began between
    np.testing.assert_allclose(both.flow.to_numpy()[:3], both.flow.to_numpy()[3:])
    one = read(f"csv:{tmp_path}", days="2024-03-11", **SHORT).events
    assert one.index[0] == pd.Timestamp("2024-03-11 13:30:20", tz="UTC")
    with pytest.raises(DataGap, match="no such session"):
        read(f"csv:{tmp_path}", days="2024-03-12", **SHORT)


def test_yesterdays_quote_does_not_prevail_today(tmp_path):
    table = ticks()
    table.loc[table["name"] == "BBB", "time"] = "2024-03-07T23:59:59-05:00"
    path = save(table, tmp_path / "t.csv")
    with pytest.raises(DataGap, match="BBB on 2024-03-08"):
        read_table(path, days="2024-03-08", stale_limit_s=1e6, **SHORT)
    table.loc[table["name"] == "BBB", "time"] = "2024-03-08T00:00:00-05:00"
    early = read_table(save(table, tmp_path / "t.csv"), days="2024-03-08", stale_limit_s=1e6, **SHORT)
    np.testing.assert_allclose(early.events.mid["BBB"], 20.0)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda t: t.drop(columns="price"), InvalidInput, "columns are missing.*price"),
        (lambda t: t.drop(columns="time"), InvalidInput, "no column of times"),
        (lambda t: t.drop(columns="name"), InvalidInput, "columns are missing.*name"),
        (lambda t: t.assign(name=[None, "B", "B", "B", "B"]), InvalidInput, "a name is missing"),
        (lambda t: t.assign(size=[1, 2, 3, 4, -5]), InvalidInput, "without a positive price and size"),
        (lambda t: t.assign(price=[1, 2, 3, 4, np.nan]), InvalidInput, "without a positive price and size"),
        (lambda t: t.assign(price=["a"] * 5), InvalidInput, "not numbers"),
        (lambda t: t.assign(time="soon"), InvalidInput, "cannot be read"),
        (lambda t: t.assign(time=[*t["time"][:4], "2024-03-08T09:30:30"]), InvalidInput, "some times have a zone"),
        (lambda t: t.assign(time=t["time"].str[:19]), InvalidInput, "naive"),
        (lambda t: t.iloc[:0], DataGap, "empty"),
        (lambda t: t.assign(bid=10.5), DataGap, "no quote is known"),
    ],
)
def test_bad_tick_tables(tmp_path, change, kind, message):
    with pytest.raises(kind, match=message) as caught:
        read_table(save(change(ticks()), tmp_path / "t.csv"), **SHORT)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda t: pd.concat([t, t.iloc[:1]]), InvalidInput, "a bucket occurs twice"),
        (lambda t: t.iloc[1:], DataGap, "1 buckets are empty"),
        (lambda t: t[t["time"] == t["time"].iloc[0]], DataGap, "one bucket does not tell"),
        (lambda t: t.assign(volume=-1.0), InvalidInput, "not be below 0"),
        (lambda t: t.assign(flow=np.inf), InvalidInput, "not finite"),
    ],
)
def test_bad_bucket_tables(tmp_path, change, kind, message):
    with pytest.raises(kind, match=message) as caught:
        read_table(save(change(long(made())), tmp_path / "t.csv"))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"columns": {"prices": "px"}}, "columns"),
        ({"columns": {"price": "px"}}, "columns"),
        ({"columns": {"price": "bid", "bid": "bid"}}, "columns"),
        ({"tz": "Nowhere"}, "tz"),
        ({"source_tz": "Nowhere"}, "tz"),
        ({"stamp": "middle"}, "stamp"),
        ({"time_unit": "days"}, "time_unit"),
        ({"format": "xlsx"}, "format"),
        ({"names": ["ZZZ"]}, "names"),
        ({"tick": 0}, "tick"),
        ({"bucket_s": 7}, "bucket_s"),
    ],
)
def test_bad_arguments(tmp_path, kw, field):
    with pytest.raises(InvalidInput) as caught:
        read_table(save(ticks(), tmp_path / "t.csv"), **(SHORT | kw))
    assert caught.value.field == field


def test_absent_empty_and_damaged_files(tmp_path):
    with pytest.raises(DataGap, match="neither a file nor a folder"):
        read(f"csv:{tmp_path / 'none.csv'}")
    for kind in ("csv", "parquet"):
        with pytest.raises(DataGap, match="holds no such file"):
            read(f"{kind}:{tmp_path}")
    path = tmp_path / "t.parquet"
    ticks().to_parquet(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataGap, match="cannot be read as parquet") as caught:
        read(f"parquet:{path}")
    assert caught.value.value == str(path)
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(DataGap, match="cannot be read as csv"):
        read(f"csv:{tmp_path / 'e.csv'}")
