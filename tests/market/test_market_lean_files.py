"""The LEAN reader on files made by hand: units, stamps, flags, expiries, and every kind of damage."""

from __future__ import annotations

import datetime as dt
import zipfile

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import (
    read,
    read_lean,
    read_lean_bars,
    read_lean_funding,
    read_lean_futures,
    read_lean_ticks,
)
from crosswind.problems.market.readers.lean import lean_days, lean_names
from crosswind.problems.market.readers.lean_files import find_data, future_expiries
from crosswind.problems.market.readers.lean_futures import ContractTerms
from crosswind.solvers.errors import DataGap, InvalidInput

OPEN_MS = 34_200_000
SHORT = ("09:30", "09:31")  # a session of one minute


def put(path, members: dict[str, list[str]]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in members.items():
            archive.writestr(name, "\n".join(rows) + "\n" if rows else "")
    return path


def quote_row(ms, bid, ask, bid_size=100, ask_size=200):
    return f"{ms},{bid},{bid},{bid},{bid},{bid_size},{ask},{ask},{ask},{ask},{ask_size}"


TICKS = [
    f"{OPEN_MS - 1},999999,100,P,1,0",  # before the open
    f"{OPEN_MS},1000200,100,P,1,0",  # above the mid of 100.01
    f"{OPEN_MS + 500},1000000,100,P,1,1",  # suspicious
    f"{OPEN_MS + 900.25},1000000,200,P,20000001,0",  # below
    f"{OPEN_MS + 25_000},1000200,300,D,100000,0",  # average price: volume, no flow
    f"{OPEN_MS + 26_000},1000200,50,P,1000000,0",  # official close: no trade
    f"{OPEN_MS + 45_000},1000400,10,P,,0",
    f"{OPEN_MS + 60_000},1000400,10,P,1,0",  # at the close
]
QUOTES = [
    quote_row(OPEN_MS - 5000, 1000000, 1000200),
    quote_row(OPEN_MS + 39_000, 1000200, 1000600),
    quote_row(OPEN_MS + 59_000, 1000300, 1000300),
]


@pytest.fixture
def lean(tmp_path):
    base = tmp_path / "Data"
    for name in ("aaa", "bbb"):
        for day in ("20240308", "20240311"):
            put(base / f"equity/usa/tick/{name}/{day}_trade.zip", {f"{day}_{name}_Trade_Tick.csv": TICKS})
            put(base / f"equity/usa/second/{name}/{day}_quote.zip", {f"{day}_{name}_second_quote.csv": QUOTES})
    put(base / "equity/usa/tick/ccc/20240308_trade.zip", {"20240308_ccc_Trade_Tick.csv": TICKS})
    quotes = [quote_row(52_200_000, 5000, 5000.25), quote_row(52_260_000, 5000.25, 5000.5)]
    for day in ("20131208", "20131218"):
        # Every member's name holds '201312': in its date, or as its expiry.
        put(
            base / f"future/cme/minute/es/{day}_quote.zip",
            {f"{day}_es_minute_quote_201403.csv": quotes, f"{day}_es_minute_quote_201312.csv": quotes[:1]},
        )
        rows = ["52200000,5000,5001,4999,5000,7", "52320000,5000,5001,4999,5000,9"]
        put(base / f"future/cme/minute/es/{day}_trade.zip", {f"{day}_es_minute_trade_201403.csv": rows})
    return tmp_path


def one(lean, **kw):
    return read_lean(lean, ["AAA"], "2024-03-08", 20.0, hours=SHORT, **kw)


def test_ticks_units_flags_and_hours(lean):
    ticks = read_lean_ticks(lean, "AAA", "20240308", hours=SHORT)
    np.testing.assert_allclose(ticks["price"], [100.02, 100.00, 100.02, 100.02, 100.04])
    assert ticks["shares"].tolist() == [100, 200, 300, 50, 10]
    assert ticks["signable"].tolist() == [True, True, False, False, True]
    assert ticks["condition"].tolist() == [1, 0x20000001, 0x100000, 0x1000000, 0]
    assert ticks.index[0] == pd.Timestamp("2024-03-08 14:30", tz="UTC")
    assert ticks.index[1] == pd.Timestamp("2024-03-08 14:30:00.900250", tz="UTC")


def test_buckets_by_hand(lean):
    data = one(lean)
    e = data.events
    assert list(e.index) == list(pd.date_range("2024-03-08 14:30:20", periods=3, freq="20s", tz="UTC"))
    # The last trade is at the mid of 100.04; the price before it that has an aggressor was 100.00: an uptick.
    np.testing.assert_allclose(e.flow["AAA"], [10002 - 20000, 0, 1000.4], atol=1e-9)
    np.testing.assert_allclose(e.volume["AAA"], [30002, 30006, 1000.4])
    # The bar stamped 39 s is known at 40 s; the one stamped 59 s, at the close: locked, so one tick wide.
    np.testing.assert_allclose(e.mid["AAA"], [100.01, 100.04, 100.03])
    np.testing.assert_allclose(e.spread["AAA"], [0.02, 0.04, 0.01])
    np.testing.assert_allclose(e.depth["AAA"], 150 * e.mid["AAA"])
    assert data.source == f"lean:{lean}"
    assert any("locked" in n for n in data.notes)
    assert any("ES is absent on 2024-03-08" in n for n in data.notes)
    assert data.futures == {}


def test_a_quote_bar_is_not_known_before_its_end(lean):
    # A trade at the bar's start + 0.5 s must see the quote before it.
    rows = [f"{OPEN_MS + 39_500},1000300,10,P,1,0"]
    put(lean / "Data/equity/usa/tick/aaa/20240308_trade.zip", {"20240308_aaa_Trade_Tick.csv": rows})
    assert one(lean).events.flow["AAA"].iloc[1] > 0  # above 100.01; below 100.04, which comes later


def test_default_names_and_days(lean):
    data = read_lean(lean, bucket_s=20.0, hours=SHORT)
    assert data.events.names == ("AAA", "BBB")  # CCC has no quotes
    assert data.events.days == (dt.date(2024, 3, 8), dt.date(2024, 3, 11))
    assert lean_names(lean) == ("AAA", "BBB")
    assert lean_days(lean, ["AAA", "CCC"]) == ()
    # Daylight saving began on 10 March: the same local hours are an hour earlier in UTC.
    opens = data.events.index[[0, 3]]
    assert [t.hour for t in opens] == [14, 13]


def test_the_folder_itself_or_the_one_above(lean):
    assert find_data(lean) == find_data(lean / "Data") == lean / "Data"
    a = read(f"lean:{lean}", ["aaa"], "2024-03-08", 20.0, hours=SHORT)
    b = read(f"lean:{lean / 'Data'}", ["AAA"], ["20240308"], 20.0, hours=SHORT)
    assert a.events.equals(b.events)


def test_unknown_places_and_names(lean, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        with pytest.raises(InvalidInput, match="no LEAN data") as caught:
            read(f"lean:{tmp_path / folder}")
        assert caught.value.remedy
    with pytest.raises(InvalidInput, match=r"no tick data of that name.*choose among aaa, bbb, ccc"):
        read_lean(lean, ["ZZZ"])
    with pytest.raises(InvalidInput, match="occurs twice"):
        read_lean(lean, ["AAA", "aaa"])
    with pytest.raises(InvalidInput, match="not a date"):
        read_lean(lean, days=3)
    with pytest.raises(InvalidInput, match="no days"):
        read_lean(lean, days=[])


def test_missing_days(lean):
    with pytest.raises(DataGap, match=r"file is missing.*20240309_trade\.zip.*2024-03-08, 2024-03-11"):
        read_lean(lean, ["AAA"], "2024-03-09", 20.0, hours=SHORT)
    with pytest.raises(DataGap, match="no equity has both"):
        read_lean(lean, days="2024-03-09")
    with pytest.raises(DataGap, match="no day on which all names"):
        read_lean(lean, ["AAA", "CCC"])
    with pytest.raises(InvalidInput, match="no second data"):
        read_lean(lean, ["CCC"], "2024-03-08", 20.0, hours=SHORT)


def _trade_file(lean):
    return lean / "Data/equity/usa/tick/aaa/20240308_trade.zip"


def test_a_truncated_zip_is_named(lean):
    path = _trade_file(lean)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataGap, match="truncated or damaged") as caught:
        one(lean)
    assert caught.value.value == str(path)
    assert "fetch" in caught.value.remedy


def test_a_damaged_member_is_named(lean):
    path = _trade_file(lean)
    raw = bytearray(path.read_bytes())
    raw[60:75] = b"\xff" * 15
    path.write_bytes(bytes(raw))
    with pytest.raises(DataGap, match="cannot be read") as caught:
        one(lean)
    assert caught.value.value == str(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.csv": []}, "cannot be read|empty"),
        ({"a.csv": ["1,2"]}, "do not have the 6 columns"),
        ({"a.csv": ["34200000,1,2,3,4,5,6,7,8"]}, "do not have the 6 columns"),
        ({"a.csv": ["early,1000200,100,P,1,0"]}, "cannot be read"),
        ({"a.csv": ["34200000,,100,P,1,0"]}, "no price or size"),
        ({"a.csv": ["34200000,1000200,100,P,xyz,0"]}, "not hexadecimal"),
        ({}, "0 members"),
        ({"a.csv": TICKS, "b.csv": TICKS}, "2 members"),
    ],
)
def test_malformed_members(lean, members, message):
    put(_trade_file(lean), members)
    with pytest.raises(DataGap, match=message):
        one(lean)


@pytest.mark.parametrize("rows", [TICKS[::-1], ["99999999999,1,1,P,1,0"], ["-5,1,1,P,1,0"]])
def test_times_must_be_milliseconds_of_one_day_in_order(lean, rows):
    put(_trade_file(lean), {"a.csv": rows})
    with pytest.raises(InvalidInput, match="not milliseconds of one day"):
        one(lean)


def test_quotes_that_stop_are_refused(lean):
    put(
        lean / "Data/equity/usa/second/aaa/20240308_quote.zip",
        {"a.csv": [quote_row(OPEN_MS - 5000, 1000000, 1000200)]},
    )
    with pytest.raises(DataGap, match=r"AAA on 2024-03-08.*64 s old"):
        one(lean, stale_limit_s=30)


def test_expiry_is_the_end_of_the_members_name(lean):
    path = lean / "Data/future/cme/minute/es/20131218_quote.zip"
    assert future_expiries(path) == ("201312", "201403")
    near, _ = read_lean_futures(lean, "ES", "2013-12-18", expiries=["201312"])
    far, _ = read_lean_futures(lean, "ES", "2013-12-18", expiries=["201403"])
    # The nearer expiry has one quote and no trades at all; '201312' in the date must not lend it the other's.
    assert near.volume["201312"].sum() == 0
    assert far.volume["201403"].sum() == 16
    assert near.bid.to_numpy().tolist() == [[5000.0]]


def test_futures_are_utc_end_stamped_and_carried_forward(lean):
    quotes, notes = read_lean_futures(lean, "es", "2013-12-18")
    assert (quotes.root, quotes.multiplier, quotes.tick, quotes.bar_s) == ("ES", 50.0, 0.25, 60.0)
    assert list(quotes.index) == list(pd.date_range("2013-12-18 14:31", periods=3, freq="min", tz="UTC"))
    assert quotes.bid["201403"].tolist() == [5000.0, 5000.25, 5000.25]
    assert quotes.volume["201403"].tolist() == [7.0, 0.0, 9.0]
    assert quotes.front("2013-12-18") == "201403"
    assert notes == ()
    bare, _ = read_lean_futures(lean, "ES", "2013-12-18", stale_limit_s=0)
    assert np.isnan(bare.bid["201403"].iloc[2])
    one_minute, _ = read_lean_futures(lean, "ES", "2013-12-18", stale_limit_s=60)
    assert one_minute.bid["201312"].isna().tolist() == [False, False, True]


def test_futures_repairs_are_counted(lean):
    rows = [
        quote_row(52_200_000, 5000, 5000.25),
        quote_row(52_260_000, 5001, 5000.5),  # crossed
        quote_row(52_320_000, 5000, 5000),  # locked
        "52380000,,,,,0,5000,5000,5000,5000,3",  # one side
    ]
    put(lean / "Data/future/cme/minute/es/20131218_quote.zip", {"20131218_es_minute_quote_201403.csv": rows})
    quotes, notes = read_lean_futures(lean, "ES", "2013-12-18")
    assert notes == ("3 quote bars with a missing side, crossed or locked, dropped",)
    assert (quotes.bid["201403"] == 5000.0).all()


def test_futures_with_the_equities(lean):
    base = lean / "Data/future/cme/minute/es"
    for kind in ("quote", "trade"):
        with zipfile.ZipFile(base / f"20131218_{kind}.zip") as archive:
            rows = {m: archive.read(m).decode().splitlines() for m in archive.namelist()}
        put(base / f"20240308_{kind}.zip", {m.replace("20131218", "20240308"): r for m, r in rows.items()})
    data = read_lean(lean, ["AAA"], bucket_s=20.0, hours=SHORT)
    assert data.futures["ES"].days == (dt.date(2024, 3, 8),)
    assert any("ES is absent on 2024-03-11" in n for n in data.notes)
    with pytest.raises(DataGap, match="file is missing"):
        read_lean(lean, ["AAA"], bucket_s=20.0, hours=SHORT, futures=["ES"])
    none = read_lean(lean, ["AAA"], bucket_s=20.0, hours=SHORT, futures=())
    assert none.futures == {}
    near = read_lean(lean, ["AAA"], "2024-03-08", 20.0, hours=SHORT, expiries=["201403"])
    assert near.futures["ES"].expiries == ("201403",)


def test_futures_that_are_not_there(lean):
    with pytest.raises(DataGap, match=r"not listed.*201503.*201312, 201403"):
        read_lean_futures(lean, "ES", "2013-12-18", expiries=["201503"])
    with pytest.raises(DataGap, match="file is missing"):
        read_lean_futures(lean, "ES", "2013-12-19")
    with pytest.raises(InvalidInput, match="contract terms"):
        read_lean_futures(lean, "ZZ")
    with pytest.raises(InvalidInput, match="no minute data of that name"):
        read_lean_futures(lean, "ZZ", terms=ContractTerms(1.0, 0.01, "cme"))
    with pytest.raises(InvalidInput, match="must not be negative"):
        read_lean_futures(lean, "ES", stale_limit_s=-1)
    path = lean / "Data/future/cme/minute/es/20131218_quote.zip"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataGap, match="truncated"):
        read_lean_futures(lean, "ES", "2013-12-18")


def test_bars_of_one_instrument(lean):
    b = read_lean_bars(lean, "AAA", "2024-03-08", kind="quote", resolution="second")
    assert b.stamp == "start"
    assert b.bar_s == 1.0
    assert b.frame.index[0] == pd.Timestamp("2024-03-08 14:29:55", tz="UTC")
    assert b.frame["bid_close"].iloc[0] == pytest.approx(100.0)
    f = read_lean_bars(lean, "ES", security="future", expiry="201403")
    assert len(f.frame) == 4
    assert f.frame["close"].iloc[0] == 5000.0


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"kind": "greeks"}, "kind"),
        ({"resolution": "hour"}, "resolution"),
        ({"security": "option"}, "security"),
        ({"expiry": "201312"}, "expiry"),
        ({"security": "future"}, "expiry"),
        ({"days": "2024-03-08"}, "equity name"),
    ],
)
def test_bad_bar_requests(lean, kw, field):
    with pytest.raises(InvalidInput) as caught:
        read_lean_bars(lean, "AAA", **kw)
    assert caught.value.field == field


def test_bars_that_are_not_there(lean):
    with pytest.raises(DataGap, match="no trade bars"):
        read_lean_bars(lean, "AAA", resolution="second")
    with pytest.raises(DataGap, match="file is missing"):
        read_lean_bars(lean, "AAA", "2024-03-12", kind="quote", resolution="second")


def test_a_local_time_that_does_not_exist(lean):
    # 02:30 on the Sunday when daylight saving begins.
    path = lean / "Data/equity/usa/second/aaa/20240310_quote.zip"
    put(path, {"a.csv": [quote_row(9_000_000, 1000000, 1000200)]})
    with pytest.raises(InvalidInput, match="does not exist or occurs twice"):
        read_lean_bars(lean, "AAA", "2024-03-10", kind="quote", resolution="second")


def test_funding_rows(lean):
    folder = lean / "Data/cryptofuture/bybit/margin_interest"
    folder.mkdir(parents=True)
    (folder / "btcusdt.csv").write_text("20221213 00:00:00,-0.0002016\n20221213 08:00:00,-0.00022398")
    rates = read_lean_funding(lean, "BTCUSDT")
    assert rates.to_dict() == {
        pd.Timestamp("2022-12-13 00:00", tz="UTC"): -0.0002016,
        pd.Timestamp("2022-12-13 08:00", tz="UTC"): -0.00022398,
    }
    with pytest.raises(DataGap, match="choose among btcusdt"):
        read_lean_funding(lean, "dogeusdt")
    (folder / "btcusdt.csv").write_text("20221213 08:00:00,0.1\n20221213 00:00:00,0.1")
    with pytest.raises(InvalidInput, match="not in order"):
        read_lean_funding(lean, "btcusdt")
    (folder / "btcusdt.csv").write_text("13.12.2022,0.1")
    with pytest.raises(InvalidInput, match="not rows of"):
        read_lean_funding(lean, "btcusdt")
