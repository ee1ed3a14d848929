"""Files as in Binance's public archive, made by hand: columns, units of time, periods, and rows not to be used."""

from __future__ import annotations

import functools
import hashlib
import zipfile

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.read import read
from crosswind.problems.market.readers import binance_public, binance_tables
from crosswind.problems.market.readers.binance_bars import implied_quotes
from crosswind.problems.market.readers.binance_public import binance_public_sources
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

START = int(pd.Timestamp("2024-08-08 12:00", tz="UTC").value) // 10**6  # ms
AGG_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
TRADES_HEADER = "id,price,qty,quote_qty,time,is_buyer_maker"
BOOK_HEADER = (
    "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time"  # futures only
)
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def agg(k, ms, price, quantity, maker, factor=1):
    return f"{k},{price},{quantity},{k},{k},{(START + ms) * factor},{maker}"


def book(k, ms, bid, ask, sizes=(2, 3)):
    return f"{k},{bid},{sizes[0]},{ask},{sizes[1]},{START + ms},{START + ms + 1}"


def kline(minute, o, h, low, c, volume=10, quote=1000, taker=6, taker_quote=600, factor=1, length=60_000, close=None):
    opens = (START + minute * 60_000) * factor
    close = opens + length * factor - 1 if close is None else close
    return f"{opens},{o},{h},{low},{c},{volume},{close},{quote},5,{taker},{taker_quote},0"


def put(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(rows) + "\n"
    path = folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name.replace(".zip", ".csv"), text)
    else:
        path.write_text(text)
    return path


AGG = [
    agg(1, 0, 100.1, 1, "true"),
    agg(2, 1000, 100.2, 2, "false"),
    agg(3, 1000, 100.2, 3, "false"),
    agg(4, 9000, 100.1, 4, "true"),
    agg(5, 12_000, 100.3, 1, "false"),
]
BOOK = [book(1, -10, 100.1, 100.2), book(2, 5000, 100.0, 100.1), book(3, 20_500, 100.2, 100.3)]


def ticks(path, **options):
    (source,) = binance_public_sources(path, **options)
    report = ReadReport()
    chunks = list(source.chunks(report))
    trades = functools.reduce(lambda a, b: a.then(b), [c.trades for c in chunks])
    quotes = functools.reduce(lambda a, b: a.then(b), [c.quotes for c in chunks])
    return trades, quotes, report


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("suffix", ["zip", "csv"])
def test_aggregate_trades_and_book_make_events(tmp_path, header, suffix):
    folder = tmp_path / "futures" / "um" / "daily"
    put(folder / "aggTrades", f"BTCUSDT-aggTrades-2024-08-08.{suffix}", [AGG_HEADER] * header + AGG)
    put(folder / "bookTicker", f"BTCUSDT-bookTicker-2024-08-08.{suffix}", [BOOK_HEADER] * header + BOOK)
    data = read(f"binance:{tmp_path}")
    events = data.events
    assert events.names == ("BTCUSDT.usdm",)
    # The quotes begin 10 ms before noon, in the middle of a bucket.
    assert events.index[0] == pd.Timestamp("2024-08-08 12:00:10", tz="UTC")
    assert events.flow.iloc[:, 0].tolist() == pytest.approx([-100.1 + 5 * 100.2 - 4 * 100.1, 100.3])
    assert events.volume.iloc[0, 0] == pytest.approx(5 * 100.1 + 5 * 100.2)
    assert events.mid.iloc[:, 0].tolist() == pytest.approx([100.05, 100.05])
    assert events.depth.iloc[0, 0] == pytest.approx(2.5 * 100.05)
    facts = data.report.instruments["BTCUSDT.usdm"]
    assert facts.rows == {"trades": 5, "quotes": 3}
    assert facts.facts["trade_ids"] == "0 missing in 0 gaps"
    assert data.report.bad_rows == 0
    assert len(data.report.files) == 2
    assert data.bars == {}


def test_trades_files_of_spot_and_futures(tmp_path):
    rows = [f"{k},{100 + k},2,{200 + 2 * k},{START + k},{'True' if k % 2 else 'False'},True" for k in range(4)]
    put(tmp_path / "spot", "BTCUSDT-trades-2024-08.zip", rows)
    trades, quotes, _ = ticks(tmp_path / "spot")
    assert trades.sign.tolist() == [1, -1, 1, -1]
    assert trades.price.tolist() == [100, 101, 102, 103]
    assert len(quotes) == 0
    rows = [f"{k},50000,{k + 1},0.002,{START + k},true" for k in range(2)]
    put(tmp_path / "cm", "BTCUSD_PERP-trades-2024-08-08.csv", [TRADES_HEADER.replace("quote_qty", "base_qty"), *rows])
    trades, _, report = ticks(tmp_path / "cm")
    np.testing.assert_allclose(trades.price * trades.shares, [100.0, 200.0])
    assert report.instruments["BTCUSD_PERP.cm"].facts["contract"] == "100 USD, inverse"


def test_both_kinds_of_trades_are_not_counted_twice(tmp_path):
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.csv", AGG)
    rows = [f"{k},100,1,100,{START + k},true" for k in range(9)]
    put(tmp_path / "um", "BTCUSDT-trades-2024-08-08.csv", rows)
    assert len(ticks(tmp_path)[0]) == 5
    assert len(ticks(tmp_path, trades="trades")[0]) == 9
    with pytest.raises(InvalidInput, match="unknown"):
        ticks(tmp_path, trades="some")


def test_trades_without_quotes_make_bars(tmp_path):
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.zip", AGG)
    data = read(f"binance:{tmp_path}", bucket_s=5.0)
    assert data.buckets is None
    assert any("no quotes" in note for note in data.notes)
    bars = data.bars["BTCUSDT.usdm"]
    assert (bars.bar_s, bars.stamp) == (5.0, "start")
    frame = bars.frame
    assert [t.second for t in frame.index] == [0, 5, 10]
    assert frame.iloc[0][["open", "high", "low", "close"]].tolist() == [100.1, 100.2, 100.1, 100.2]
    assert frame["volume"].tolist() == [6, 4, 1]
    assert frame["trades"].tolist() == [3, 1, 1]
    assert frame["flow"].tolist() == pytest.approx([-100.1 + 5 * 100.2, -4 * 100.1, 100.3])
    assert frame["quote_volume"].tolist() == pytest.approx([100.1 + 5 * 100.2, 4 * 100.1, 100.3])
    with pytest.raises(DataGap):
        data.events  # noqa: B018


def test_inverse_bars_tell_contracts_and_base(tmp_path):
    put(tmp_path / "cm", "BTCUSD_PERP-aggTrades-2024-08-08.csv", [agg(1, 0, 50_000, 4, "false")])
    frame = read(f"binance:{tmp_path}").bars["BTCUSD_PERP.cm"].frame
    assert frame["volume"].tolist() == pytest.approx([4])
    assert frame["quote_volume"].tolist() == pytest.approx([400.0])
    assert frame["base_volume"].tolist() == pytest.approx([400 / 50_000])


def test_implied_quotes_on_request_and_told(tmp_path):
    rows = [*AGG, agg(6, 30_000, 100.2, 1, "true")]
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.zip", rows)
    data = read(f"binance:{tmp_path}", quotes="implied")
    assert any("implied" in note for note in data.notes)
    assert (data.events.depth.to_numpy() == 0).all()
    assert data.events.mid.iloc[1, 0] == pytest.approx(100.2)  # 10 s .. 20 s: bought at 100.3, sold at 100.1
    with pytest.raises(InvalidInput, match="unknown"):
        read(f"binance:{tmp_path}", quotes="guessed")
    # Where there is a book, it is what counts.
    put(tmp_path / "um", "BTCUSDT-bookTicker-2024-08-08.zip", BOOK)
    assert (read(f"binance:{tmp_path}", quotes="implied").events.depth.to_numpy() > 0).all()


def test_implied_quotes_by_hand():
    price = np.array([100.0, 101.0, 99.0, 99.0, 98.0])
    sign = np.array([1, -1, -1, 1, 1], dtype=np.int8)
    tape = TradeTape(np.arange(5, dtype=np.int64), price, np.ones(5), np.ones(5, dtype=bool), sign)
    whole = [q for _, q in implied_quotes([tape], 0.5)]
    assert whole[0].known_ns.tolist() == [1, 2, 3, 4]
    # Sold at 101, above the last purchase at 100: the ask gives way, and so on.
    assert whole[0].bid.tolist() == [101.0, 99.0, 98.5, 97.5]
    assert whole[0].ask.tolist() == [101.5, 100.0, 99.0, 98.0]
    parts = [q for _, q in implied_quotes([tape.take(slice(0, 2)), tape.take(slice(2, None))], 0.5)]
    np.testing.assert_array_equal(np.concatenate([q.bid for q in parts]), whole[0].bid)


def test_klines_by_hand(tmp_path):
    rows = [kline(0, 100, 102, 99, 101), kline(1, 101, 101, 101, 101, 0, 0, 0, 0), kline(3, 101, 103, 100, 102)]
    for k, header in enumerate(([], [KLINE_HEADER])):
        put(tmp_path / str(k) / "spot", "BTCUSDT-1m-2024-08.zip", [*header, *rows])
        data = read(f"binance:{tmp_path / str(k)}")
        bars = data.bars["BTCUSDT.spot"]
        assert (bars.bar_s, bars.stamp) == (60.0, "start")
        assert bars.frame.index[0] == pd.Timestamp("2024-08-08 12:00", tz="UTC")
        assert bars.frame["flow"].tolist() == [200.0, 0.0, 200.0]
        assert bars.frame["volume"].tolist() == [10, 0, 10]
        facts = data.report.instruments["BTCUSDT.spot"]
        assert facts.facts["missing_bars"] == "1"
        assert (facts.gaps, facts.longest_gap_s) == (1, 60.0)
        assert facts.rows == {"bars": 3}
        assert data.report.bad_rows == 0


def test_klines_of_inverse_contracts(tmp_path):
    put(tmp_path / "cm", "BTCUSD_PERP-1m-2024-08-08.csv", [kline(0, 100, 102, 99, 101, 10, 0.5, 6, 0.3)])
    frame = read(f"binance:{tmp_path}").bars["BTCUSD_PERP.cm"].frame
    assert frame.iloc[0][["volume", "quote_volume", "flow", "base_volume"]].tolist() == [10, 1000, 200, 0.5]


def test_klines_folded_into_longer_bars(tmp_path):
    rows = [kline(k, 100 + k, 102 + k, 99 + k, 101 + k) for k in range(6)]
    put(tmp_path / "spot", "BTCUSDT-1m-2024-08-08.zip", rows)
    frame = read(f"binance:{tmp_path}", bucket_s=300).bars["BTCUSDT.spot"].frame
    assert frame.iloc[0][["open", "high", "low", "close"]].tolist() == [100, 106, 99, 105]
    assert frame["volume"].tolist() == [50, 10]
    for wrong in (90, 30):
        with pytest.raises(InvalidInput, match="no multiple"):
            read(f"binance:{tmp_path}", bucket_s=wrong)


def test_several_intervals_and_names_of_bars(tmp_path):
    put(tmp_path / "spot", "BTCUSDT-1m-2024-08-08.zip", [kline(0, 100, 102, 99, 101)])
    put(tmp_path / "spot", "BTCUSDT-5m-2024-08-08.zip", [kline(0, 100, 102, 99, 101, length=300_000)])
    put(tmp_path / "spot", "ETHUSDT-1m-2024-08-08.zip", [kline(0, 100, 102, 99, 101)])
    data = read(f"binance:{tmp_path}")
    assert sorted(data.bars) == ["BTCUSDT.spot.1m", "BTCUSDT.spot.5m", "ETHUSDT.spot"]
    assert sorted(read(f"binance:{tmp_path}", names="ETHUSDT.spot").bars) == ["ETHUSDT.spot"]


KLINE_BAD = [
    (kline(5, 100, 99, 98, 101), "open, high, low, close contradict"),
    (kline(5, 0, 1, 0, 1), "zero or negative price"),
    (kline(5, 1, 1, 1, 1, -1), "negative volume"),
    (kline(5, 1, 1, 1, 1, 10, 1000, 11, 600), "taker volume above the volume"),
    (kline(5, 1, 1, 1, 1, 10, 1000, 6, 1001), "taker volume above the volume"),
    (kline(5, 1, 1, 1, 1, length=300_000), "close time contradicts the interval"),
    (kline(1, 1, 1, 1, 1), "duplicate"),
    (kline(-1, 1, 1, 1, 1), "out of order"),
    (kline(60 * 24, 1, 1, 1, 1), "outside the file's day"),
    (kline(5, "x", 1, 1, 1), "unreadable row"),
    (kline(5, 1, 1, 1, 1) + ",9", "unreadable row"),
    (kline(5, 1, 1, 1, 1) + ",9,9,9", "unreadable row"),
    ("1,2,3", "unreadable row"),
]


@pytest.mark.parametrize(("row", "reason"), KLINE_BAD, ids=[f"{k}-{r}" for k, (_, r) in enumerate(KLINE_BAD)])
def test_bad_klines(tmp_path, row, reason):
    good = [kline(k, 100, 102, 99, 101) for k in range(3)]
    put(tmp_path / "spot", "BTCUSDT-1m-2024-08-08.csv", [*good, row])
    data = read(f"binance:{tmp_path}")
    assert data.report.by_reason() == {reason: 1}
    assert len(data.bars["BTCUSDT.spot"].frame) == 3


TRADE_BAD = [
    (agg(6, 13_000, 0, 1, "true"), "zero or negative price"),
    ("6,0,0,-1,-1," + str(START + 13_000) + ",true", "zero or negative price"),  # a trade that was taken back
    (agg(6, 13_000, 100, 0, "true"), "zero or negative quantity"),
    (agg(3, 1000, 100.2, 3, "false"), "duplicate"),
    (agg(6, 13_000, "x", 1, "true"), "unreadable row"),
    (agg(6, 13_000, 100, 1, "maybe"), "unreadable row"),
    (agg(6, 13_000, "inf", 1, "true"), "unreadable row"),
    (agg(6, 86_400_000, 100, 1, "true"), "outside the file's day"),
    (agg(6, 13_000, 100, 1, "true", factor=1000), "outside the file's day"),  # a row in another unit
    (agg(6, 13_000, 100, 1, "true")[:25], "unreadable row"),
]


@pytest.mark.parametrize(("row", "reason"), TRADE_BAD, ids=[f"{k}-{r}" for k, (_, r) in enumerate(TRADE_BAD)])
def test_bad_trades(tmp_path, row, reason):
    clean = ticks(put(tmp_path / "a" / "um", "BTCUSDT-aggTrades-2024-08-08.csv", AGG))[0]
    trades, _, report = ticks(put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.csv", [*AGG, row]))
    assert report.by_reason() == {reason: 1}
    np.testing.assert_array_equal(trades.price, clean.price)
    np.testing.assert_array_equal(trades.sign, clean.sign)


def test_bad_quotes(tmp_path):
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.csv", AGG)
    rows = [*BOOK, book(4, 21_000, 101, 100), book(5, 22_000, 0, 100), book(6, 23_000, 99, 100, (0, 1)), BOOK[2]]
    put(tmp_path / "um", "BTCUSDT-bookTicker-2024-08-08.csv", rows)
    _, quotes, report = ticks(tmp_path)
    assert len(quotes) == 3
    reasons = {"crossed book": 1, "zero or negative price": 1, "zero or negative quantity": 1, "duplicate": 1}
    assert report.by_reason() == reasons


def test_gaps_in_aggregate_ids_are_counted_over_files(tmp_path):
    day = 86_400_000
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.csv", [AGG[0], AGG[3]])
    rows = [agg(10, day, 100, 1, "true"), agg(11, day + 5, 100, 1, "true")]
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-09.csv", rows)
    trades, _, report = ticks(tmp_path)
    facts = report.instruments["BTCUSDT.usdm"]
    assert len(trades) == 4
    assert facts.facts["trade_ids"] == "7 missing in 2 gaps"
    assert facts.gaps == 1
    assert len(ticks(tmp_path, days="2024-08-09")[0]) == 2
    with pytest.raises(DataGap, match="no files of trades"):
        ticks(tmp_path, days="2024-08-10")


def test_parts_of_any_size_give_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    late = [agg(k, 50 * k - int(rng.integers(0, 200)), 100 + 0.1 * (k % 7), 1, "true") for k in range(10, 300)]
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.zip", late)
    put(tmp_path / "um", "BTCUSDT-bookTicker-2024-08-08.zip", [book(k, 40 * k, 100, 100.1) for k in range(400)])
    whole = ticks(tmp_path)
    bars = read(f"binance:{tmp_path / 'um' / 'BTCUSDT-aggTrades-2024-08-08.zip'}", bucket_s=1.0).bars["BTCUSDT.usdm"]
    assert (np.diff(whole[0].time_ns) >= 0).all()
    small = functools.partial(binance_tables.read_tables)

    def cut(file, report, **options):
        return small(file, report, **{**options, "block": 700})

    monkeypatch.setattr(binance_public, "read_tables", cut)
    parts = ticks(tmp_path)
    for tape, own in zip(parts[:2], whole[:2], strict=True):
        for column in vars(own):
            np.testing.assert_array_equal(getattr(tape, column), getattr(own, column))
    again = read(f"binance:{tmp_path / 'um' / 'BTCUSDT-aggTrades-2024-08-08.zip'}", bucket_s=1.0).bars["BTCUSDT.usdm"]
    pd.testing.assert_frame_equal(again.frame, bars.frame, rtol=1e-12)


def test_microseconds_of_spot_files_since_2025(tmp_path):
    ms = int(pd.Timestamp("2025-01-02", tz="UTC").value) // 10**6
    rows = [f"{k},100.5,2,{k},{k},{(ms + k) * 1000 + 250},True,True" for k in range(3)]
    put(tmp_path / "spot", "BTCUSDT-aggTrades-2025-01-02.zip", rows)
    trades, _, _ = ticks(tmp_path)
    assert (trades.time_ns - ms * 10**6).tolist() == [250_000, 1_250_000, 2_250_000]
    assert len(ticks(tmp_path, unit="us")[0]) == 3
    with pytest.raises(InvalidInput, match="not in ms"):
        ticks(tmp_path, unit="ms")
    with pytest.raises(InvalidInput, match="unknown unit"):
        ticks(tmp_path, unit="hours")
    micro = [kline(0, 100, 102, 99, 101, factor=1000)]
    put(tmp_path / "b" / "spot", "BTCUSDT-1m-2024-08-08.csv", micro)
    frame = read(f"binance:{tmp_path / 'b'}").bars["BTCUSDT.spot"].frame
    assert frame.index[0] == pd.Timestamp("2024-08-08 12:00", tz="UTC")


def test_a_file_under_another_name_is_refused(tmp_path):
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-09.csv", AGG)
    with pytest.raises(InvalidInput, match="period of its name"):
        ticks(tmp_path)
    seconds = [f"{k},100,1,{k},{k},{34_200 + k},true" for k in range(3)]
    put(tmp_path / "c" / "um", "BTCUSDT-aggTrades-2024-08-09.csv", seconds)
    with pytest.raises(InvalidInput, match="no times since 1970"):
        ticks(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "rows", "match"),
    [
        ("BTCUSDT-aggTrades-2024-08-08.csv", [kline(0, 1, 1, 1, 1)], "12 columns, not 7 or 8"),
        ("BTCUSDT-1m-2024-08-08.csv", AGG, "7 columns, not 12"),
        ("BTCUSDT-aggTrades-2024-08-08.csv", [BOOK_HEADER, *BOOK], "names other columns"),
        ("BTCUSDT-trades-2024-08-08.csv", [BOOK_HEADER, *BOOK], "names other columns"),
    ],
)
def test_wrong_columns_are_refused(tmp_path, name, rows, match):
    put(tmp_path / "um", name, rows)
    with pytest.raises(InvalidInput, match=match):
        read(f"binance:{tmp_path}")


def test_damaged_files(tmp_path):
    path = put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.zip", AGG * 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataGap, match="truncated or damaged"):
        ticks(tmp_path)
    middle = bytearray(whole)
    middle[80] ^= 0xFF
    path.write_bytes(bytes(middle))
    with pytest.raises(DataGap, match="truncated or damaged"):
        ticks(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataGap, match="is empty"):
        ticks(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("b.csv", "2")
    with pytest.raises(InvalidInput, match="one csv"):
        ticks(tmp_path)
    path.unlink()
    with pytest.raises(DataGap, match="no files of Binance"):
        ticks(tmp_path)
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.csv", [AGG_HEADER])
    with pytest.raises(DataGap):
        ticks(tmp_path)
    with pytest.raises(DataGap, match="no such file"):
        ticks(tmp_path / "absent")


def test_checksums_beside_files_are_held_against_them(tmp_path):
    path = put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.zip", AGG)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = path.with_name(path.name + ".CHECKSUM")
    beside.write_text(f"{digest}  {path.name}\n")
    assert len(ticks(tmp_path)[0]) == 5
    beside.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(DataGap, match="checksum"):
        ticks(tmp_path)


def test_daily_files_inside_a_monthly_one_and_other_files_are_left_out(tmp_path):
    put(tmp_path / "spot", "BTCUSDT-1m-2024-08.zip", [kline(0, 100, 102, 99, 101)])
    put(tmp_path / "spot", "BTCUSDT-1m-2024-08-08.zip", [kline(0, 100, 102, 99, 101)])
    put(tmp_path / "spot", "BTCUSDT-1mo-2024-08.zip", [kline(0, 100, 102, 99, 101)])
    put(tmp_path / "um" / "markPriceKlines", "BTCUSDT-1m-2024-08.zip", [kline(0, 100, 102, 99, 101)])
    put(tmp_path / "spot", "notes.csv", ["a,b"])
    data = read(f"binance:{tmp_path}")
    assert list(data.bars) == ["BTCUSDT.spot"]
    assert len(data.bars["BTCUSDT.spot"].frame) == 1
    assert data.report.bad_rows == 0
    assert any("lie in monthly ones" in note for note in data.notes)
    assert any(note.startswith("3 files are not") for note in data.notes)


def test_the_venue_must_be_told(tmp_path):
    path = put(tmp_path, "BTCUSDT-1m-2024-08-08.zip", [kline(0, 100, 102, 99, 101)])
    with pytest.raises(InvalidInput, match="venue is unknown"):
        read(f"binance:{path}")
    assert list(read(f"binance:{path}", venue="usdm").bars) == ["BTCUSDT.usdm"]
    with pytest.raises(InvalidInput, match="no symbol of"):
        read(f"binance:{path}", venue="cm")
    with pytest.raises(DataGap, match="no row of these days"):
        read(f"binance:{path}", venue="spot", days="2024-08-07")
    with pytest.raises(InvalidInput, match="date in the file's name"):
        read(f"binance:{put(tmp_path / 'spot', 'BTCUSDT-1m-2024-13-08.zip', [])}")


def test_progress_is_told(tmp_path):
    put(tmp_path / "um", "BTCUSDT-aggTrades-2024-08-08.zip", AGG)
    put(tmp_path / "um", "BTCUSDT-bookTicker-2024-08-08.zip", BOOK)
    (source,) = binance_public_sources(tmp_path)
    told = []
    list(source.chunks(ReadReport(), lambda stage, done: told.append((stage, done))))
    assert {stage for stage, _ in told} == {"BTCUSDT.usdm"}
    assert max(done for _, done in told) == pytest.approx(1.0)
