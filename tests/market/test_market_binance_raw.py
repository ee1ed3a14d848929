"""Recorded websocket lines made by hand: clocks, signs, units, order, and every row that must not be used."""

from __future__ import annotations

import functools
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.read import read
from crosswind.problems.market.readers import binance_raw
from crosswind.problems.market.readers.binance_lines import decode, read_blocks, read_text
from crosswind.problems.market.readers.binance_raw import binance_raw_sources
from crosswind.problems.market.readers.binance_venues import stamp_factor
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

START = int(pd.Timestamp("2024-08-08 12:00", tz="UTC").value) // 10**6  # ms
BEHIND = 1000  # ms by which the local clock stands behind


def line(ms, stream, data, delay=3):
    """One line: what happened ``ms`` after START is received ``delay`` ms later, on a clock that is behind."""
    body = json.dumps({"stream": stream, "data": data}, separators=(",", ":"))
    return f"{(START + ms + delay - BEHIND) * 10**6} {body}"


def trade(ms, price, quantity, maker, number, symbol="BTCUSDT", **more):
    at = START + ms
    data = {"e": "trade", "E": at + 1, "T": at, "s": symbol, "t": number, "p": str(price), "q": str(quantity)}
    return line(ms, f"{symbol.lower()}@trade", {**data, "X": "MARKET", "m": maker, **more})


def quote(ms, bid, ask, update, symbol="BTCUSDT", sizes=("2", "3"), delay=3, **more):
    data = {"e": "bookTicker", "u": update, "s": symbol, "b": str(bid), "B": sizes[0], "a": str(ask), "A": sizes[1]}
    at = START + ms
    return line(ms, f"{symbol.lower()}@bookTicker", {**data, "T": at, "E": at + 1, **more}, delay)


def spot_quote(ms, bid, ask, update, delay=3):
    data = {"u": update, "s": "BTCUSDT", "b": str(bid), "B": "2", "a": str(ask), "A": "3"}
    return line(ms, "btcusdt@bookTicker", data, delay)


def put(folder, lines, name="btcusdt_20240808.gz", end="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    text = ("\n".join(lines) + end).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder


def ticks(path, report=None, **options):
    """All ticks of the one instrument at ``path``."""
    (source,) = binance_raw_sources(path, **options)
    trades = quotes = None
    report = report or ReadReport()
    for chunk in source.chunks(report):
        trades = chunk.trades if trades is None else trades.then(chunk.trades)
        quotes = chunk.quotes if quotes is None else quotes.then(chunk.quotes)
    return trades, quotes, report


def at(tape_times):
    return (np.asarray(tape_times) // 10**6 - START).tolist()


GOOD = [
    quote(0, 100.0, 100.1, 10),
    trade(500, 100.1, 2, False, 1),
    trade(1500, 100.0, 1, True, 2),
    quote(2000, 100.1, 100.2, 20),
    trade(9000, 100.2, 4, False, 3),
    quote(25_000, 100.3, 100.4, 30),
]


def test_trades_are_signed_by_the_maker_and_stamped_by_the_exchange(tmp_path):
    trades, quotes, report = ticks(put(tmp_path / "usdm", GOOD))
    assert at(trades.time_ns) == [500, 1500, 9000]
    assert trades.sign.tolist() == [1, -1, 1]
    assert trades.price.tolist() == [100.1, 100.0, 100.2]
    assert trades.shares.tolist() == [2, 1, 4]
    assert at(quotes.known_ns) == [0, 2000, 25_000]
    assert quotes.bid_shares.tolist() == [2, 2, 2]
    assert quotes.ask_shares.tolist() == [3, 3, 3]
    facts = report.instruments["BTCUSDT.usdm"]
    assert facts.rows == {"trades": 3, "quotes": 3}
    assert facts.facts["tick"] == "0.1"
    assert facts.facts["trade_ids"] == "0 missing"
    assert report.bad_rows == 0


def test_the_local_clock_and_its_trap(tmp_path):
    trades, quotes, report = ticks(put(tmp_path / "usdm", GOOD), clock="local")
    assert at(trades.time_ns) == [t + 3 - BEHIND for t in (500, 1500, 9000)]
    assert at(quotes.known_ns) == [t + 3 - BEHIND for t in (0, 2000, 25_000)]
    facts = report.instruments["BTCUSDT.usdm"].facts
    # Received 3 ms after the transaction, 2 ms after the event, on a clock 1000 ms behind.
    assert facts["latency"] == "local less event time E: median -998.0 ms, smallest -998.0 ms"
    assert "998.0 ms behind" in facts["clock_trap"]
    assert facts["clock"].startswith("local receive time")


def test_buckets_by_hand(tmp_path):
    put(tmp_path / "usdm", GOOD)
    data = read(f"binance-raw:{tmp_path}", bucket_s=10.0)
    events = data.events
    assert events.names == ("BTCUSDT.usdm",)
    assert events.currency == "USDT"
    first = events.index[0]
    assert first == pd.Timestamp("2024-08-08 12:00:10", tz="UTC")
    assert events.flow.iloc[0, 0] == pytest.approx(2 * 100.1 - 100.0 + 4 * 100.2)
    assert events.volume.iloc[0, 0] == pytest.approx(2 * 100.1 + 100.0 + 4 * 100.2)
    assert events.mid.iloc[0, 0] == pytest.approx(100.15)
    assert events.depth.iloc[0, 0] == pytest.approx(2.5 * 100.15)
    assert data.source == f"binance-raw:{tmp_path}"
    assert any("behind the exchange's" in note for note in data.notes)


def test_spot_quotes_are_put_on_the_exchange_clock_by_the_smallest_latency_before(tmp_path):
    lines = [
        spot_quote(0, 100.0, 100.1, 5),  # before any exchange time
        trade(100, 100.1, 1, False, 1, M=True),  # event time E is 1 ms later: latency 2 ms − 1000
        spot_quote(200, 100.1, 100.2, 6),
        spot_quote(300, 100.2, 100.3, 7, delay=20),
        line(400, "btcusdt@depth@100ms", {"e": "depthUpdate", "E": START + 400, "s": "BTCUSDT", "b": [], "a": []}, 1),
        spot_quote(500, 100.3, 100.4, 8),
    ]
    trades, quotes, report = ticks(put(tmp_path / "spot", lines))
    assert at(trades.time_ns) == [100]
    # Off by the delay beyond the smallest known: 3 − 2, 20 − 2, and after the depth update 3 − 1.
    assert at(quotes.known_ns) == [201, 318, 502]
    assert report.by_reason() == {"no exchange time known yet": 1}
    assert "bookTicker has none" in report.instruments["BTCUSDT.spot"].facts["clock"]
    _, quotes, _ = ticks(tmp_path / "spot", clock="local")
    assert len(quotes) == 4


def test_inverse_contracts(tmp_path):
    lines = [
        quote(0, 50_000.0, 50_000.1, 1, "BTCUSD_PERP", ps="BTCUSD"),
        trade(500, 50_000.1, 7, False, 1, "BTCUSD_PERP"),
    ]
    trades, quotes, report = ticks(put(tmp_path / "cm", lines, "btcusd_perp_20240808.gz"))
    np.testing.assert_allclose(trades.price * trades.shares, 700.0)
    np.testing.assert_allclose(quotes.bid * quotes.bid_shares, 200.0)
    assert report.instruments["BTCUSD_PERP.cm"].facts["contract"] == "100 USD, inverse"
    other = [quote(0, 2000.0, 2000.1, 1, "ETHUSD_PERP", ps="ETHUSD"), trade(5, 2000.1, 7, True, 1, "ETHUSD_PERP")]
    trades, _, _ = ticks(put(tmp_path / "b" / "cm", other, "ethusd_perp_20240808.gz"))
    np.testing.assert_allclose(trades.price * trades.shares, 70.0)
    trades, _, _ = ticks(tmp_path / "b", contract_values={"ETHUSD_PERP": 20.0})
    np.testing.assert_allclose(trades.price * trades.shares, 140.0)
    (source,) = binance_raw_sources(tmp_path / "b")
    assert (source.name, source.venue, source.currency) == ("ETHUSD_PERP.cm", "binance COIN-M futures", "USD")


def test_zero_prices_of_inverse_contracts_are_bad_rows_and_no_warning(tmp_path):
    rows = [quote(0, 50_000.0, 50_000.1, 1, "BTCUSD_PERP", ps="BTCUSD"), trade(5, 0, 7, True, 1, "BTCUSD_PERP")]
    with np.errstate(all="raise"):
        trades, _, report = ticks(put(tmp_path / "cm", rows, "btcusd_perp_20240808.gz"))
    assert len(trades) == 0
    assert report.by_reason() == {"zero or negative price": 1}


def without(text, key):
    stamp, _, body = text.partition(" ")
    message = json.loads(body)
    del message["data"][key]
    return f"{stamp} {json.dumps(message, separators=(',', ':'))}"


BAD = [
    (trade(3000, 0, 1, True, 9), "zero or negative price"),
    (trade(3000, 100, 0, True, 9), "zero or negative quantity"),
    (trade(3000, "nan", 1, True, 9), "unreadable field"),
    (trade(3000, "1e400", 1, True, 9), "unreadable field"),
    (trade(3000, "", 1, True, 9), "unreadable field"),
    (trade(3000, 100, 1, "true", 9), "unreadable field"),
    (trade(3000, 100, 1, True, "9"), "unreadable field"),
    (trade(3000, 100, 1, True, 9, X="INSURANCE_FUND"), "not a market trade"),
    (trade(3000, 100, 1, True, 9, X="ADL"), "not a market trade"),
    (trade(3000, 100, 1, True, 9, X="NA"), "not a market trade"),
    (trade(3000, 100, 1, True, 9, "ETHUSDT"), "another symbol"),
    (trade(3000, 100, 1, True, 2), "duplicate"),
    (trade(3000, 100, 1, True, 9, T=START + 3000 + 3 * 86_400_000), "clock jump"),
    (trade(3000, 100, 1, True, 9, T=-5), "unreadable time"),
    (trade(3000, 100, 1, True, 9, T=1.5), "unreadable time"),
    (without(trade(3000, 100, 1, True, 9), "q"), "a field is missing"),
    (quote(3000, 0, 100.1, 21), "zero or negative price"),
    (quote(3000, 100.2, 100.1, 21), "crossed book"),
    (quote(3000, 100, 100.1, 21, sizes=("0", "1")), "zero or negative quantity"),
    (quote(3000, "x", 100.1, 21), "unreadable field"),
    (quote(3000, 100, 100.1, 20), "duplicate"),
    (quote(3000, 100, 100.1, 21, "ETHUSDT"), "another symbol"),
    (without(quote(3000, 100, 100.1, 21), "T"), "a field is missing"),
    (trade(3000, 100, 1, True, 9)[:-9], "unreadable JSON"),
    ("no stamp at all", "no local time before the message"),
    ("9" * 30 + trade(3000, 100, 1, True, 9)[19:], "no local time before the message"),
    (trade(3000, 100, 1, True, 9, T=10**40), "unreadable time"),
    (trade(3000, 100, 1, True, 9, T=2**62), "clock jump"),
    (line(3000, "btcusdt@kline_1m", {"e": "kline", "E": START}), "stream not used: kline"),
    (line(3000, "btcusdt@aggTrade", {"e": "aggTrade", "E": START}), "stream not used: aggTrade"),
    (line(3000, "btcusdt@depth5", {"lastUpdateId": 1, "bids": [], "asks": []}), "stream not used: depth5"),
    (f"{(START + 3000 - BEHIND) * 10**6} [1,2]", "stream not used: not an object"),
]


@pytest.mark.parametrize(("row", "reason"), BAD, ids=[f"{k}-{r}" for k, (_, r) in enumerate(BAD)])
def test_a_bad_row_is_told_by_reason_and_leaves_the_others_as_they_are(tmp_path, row, reason):
    clean = ticks(put(tmp_path / "a" / "usdm", GOOD))
    trades, quotes, report = ticks(put(tmp_path / "b" / "usdm", [*GOOD[:4], row, *GOOD[4:]]))
    assert report.by_reason() == {reason: 1}
    for tape, own in zip((trades, quotes), clean[:2], strict=True):
        for column in vars(own):
            np.testing.assert_array_equal(getattr(tape, column), getattr(own, column))
    frame = report.bad_frame()
    assert frame["file"][0].endswith("btcusdt_20240808.gz")
    assert frame["example"][0] != ""


def test_a_jump_of_the_local_clock(tmp_path):
    ahead = trade(3000, 100, 1, True, 9)
    stamp, _, body = ahead.partition(" ")
    row = f"{int(stamp) + 3600 * 10**9} {body}"
    _, _, report = ticks(put(tmp_path / "usdm", [*GOOD[:4], row, *GOOD[4:]]), clock="local")
    assert report.by_reason() == {"clock jump": 1}
    # Midnight passed, in the file of one day.
    row = f"{int(stamp) + 86_400 * 10**9} {body}"
    trades, _, report = ticks(put(tmp_path / "b" / "usdm", [*GOOD, row]))
    assert len(trades) == 3
    assert report.bad_rows == 1


def test_rows_out_of_order(tmp_path):
    rows = [quote(k * 100, 100.0, 100.1, 100 + k) for k in range(100)]
    rows.insert(50, quote(4500 - 350, 100.0, 100.3, 999))  # within the window: sorted into its place
    _, quotes, report = ticks(put(tmp_path / "usdm", rows))
    assert at(quotes.known_ns) == sorted([*range(0, 10_000, 100), 4150])
    assert quotes.ask[42] == 100.3
    assert report.bad_rows == 0


def test_rows_that_come_too_late_are_counted(tmp_path, monkeypatch):
    rows = [quote(k * 100, 100.0, 100.1, 100 + k) for k in range(100)]
    rows.append(quote(2000, 100.0, 100.3, 999))
    put(tmp_path / "usdm", rows)
    monkeypatch.setattr(binance_raw, "read_blocks", functools.partial(read_blocks, block=2000))
    _, quotes, report = ticks(tmp_path)
    assert len(quotes) == 100
    assert report.by_reason() == {"out of order": 1}


def test_the_cut_into_blocks_changes_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    rows, step = [], 0
    for k in range(400):
        step += int(rng.integers(0, 200))
        late = int(rng.integers(0, 300))
        if rng.random() < 0.5:
            rows.append(trade(max(step - late, 0), round(100 + rng.random(), 1), 1, bool(k % 2), k))
        else:
            rows.append(quote(max(step - late, 0), 100.0, 100.1, k))
    put(tmp_path / "usdm", [quote(0, 100.0, 100.1, 9999), *rows, *rows[:3]])
    whole = ticks(tmp_path)
    for block in (300, 5000):
        monkeypatch.setattr(binance_raw, "read_blocks", functools.partial(read_blocks, block=block))
        parts = ticks(tmp_path)
        for tape, own in zip(parts[:2], whole[:2], strict=True):
            for column in vars(own):
                np.testing.assert_array_equal(getattr(tape, column), getattr(own, column))
        # Rows that repeat are dropped either way, as copies or as rows that come too late.
        assert parts[2].bad_rows == whole[2].bad_rows == 3


def test_lines_of_another_shape_are_read_alike(tmp_path):
    spaced = []
    for text in GOOD:
        stamp, _, body = text.partition(" ")
        message = json.loads(body)
        spaced += [f"{stamp} {json.dumps(message)}", ""]
    bare = [f"{t.partition(' ')[0]} {json.dumps(json.loads(t.partition(' ')[2])['data'])}" for t in GOOD]
    clean = ticks(put(tmp_path / "a" / "usdm", GOOD))
    for k, lines in enumerate((spaced, bare, [f"{t}\r" for t in GOOD])):
        trades, quotes, report = ticks(put(tmp_path / str(k) / "usdm", lines))
        assert report.bad_rows == 0
        np.testing.assert_array_equal(trades.time_ns, clean[0].time_ns)
        np.testing.assert_array_equal(quotes.ask, clean[1].ask)


def test_files_continue_each_other(tmp_path):
    day = 86_400_000
    put(tmp_path / "usdm", GOOD)
    second = [quote(day // 2 + 2000, 101.0, 101.1, 40), trade(day // 2 + 3000, 101.0, 1, True, 6)]
    put(tmp_path / "usdm", [GOOD[2], *second], "btcusdt_20240809.gz")
    trades, quotes, report = ticks(tmp_path)
    assert len(trades) == 4
    assert len(quotes) == 4
    assert report.by_reason() == {"outside the file's day": 1}
    facts = report.instruments["BTCUSDT.usdm"]
    assert facts.gaps == 1
    assert facts.longest_gap_s == pytest.approx(43_200 + 2 - 25)
    assert facts.facts["trade_ids"] == "2 missing"
    assert len(report.files) == 2
    trades, quotes, _ = ticks(tmp_path, days="2024-08-09")
    assert (len(trades), len(quotes)) == (1, 1)


def test_several_instruments_and_venues_on_one_clock(tmp_path):
    put(tmp_path / "usdm", GOOD)
    spot = [trade(-500, 100.1, 1, False, 1, M=True), spot_quote(0, 99.9, 100.0, 5)]
    spot += [trade(700, 100.0, 3, True, 2), spot_quote(24_999, 100.0, 100.1, 6), trade(25_500, 100.0, 3, True, 3)]
    put(tmp_path / "spot", spot)
    data = read(f"binance-raw:{tmp_path}")
    assert data.events.names == ("BTCUSDT.spot", "BTCUSDT.usdm")
    assert data.events.flow.iloc[0].tolist() == pytest.approx([-300.0, 2 * 100.1 - 100.0 + 4 * 100.2])
    assert read(f"binance-raw:{tmp_path}", names=["BTCUSDT.usdm"]).events.names == ("BTCUSDT.usdm",)
    with pytest.raises(InvalidInput, match="no files of it"):
        read(f"binance-raw:{tmp_path}", names=["ETHUSDT.spot"])


def test_a_mix_of_dollars_is_noted_and_of_other_currencies_refused(tmp_path):
    put(tmp_path / "usdm", GOOD)
    cm = [quote(0, 50_000.0, 50_000.1, 1, "BTCUSD_PERP", ps="BTCUSD"), quote(25_000, 5e4, 50_000.1, 2, "BTCUSD_PERP")]
    put(tmp_path / "cm", cm, "btcusd_perp_20240808.gz")
    data = read(f"binance-raw:{tmp_path}")
    assert data.events.currency == "USD"
    assert any("one currency" in note for note in data.notes)
    euro = [quote(0, 50_000.0, 50_000.1, 1, "BTCEUR"), quote(25_000, 5e4, 50_000.1, 2, "BTCEUR")]
    put(tmp_path / "usdm", euro, "btceur_20240808.gz")
    with pytest.raises(InvalidInput, match="different currencies"):
        read(f"binance-raw:{tmp_path}")


def test_aggregate_trades_where_asked_for(tmp_path):
    data = {"e": "aggTrade", "E": START + 1, "T": START, "s": "BTCUSDT", "a": 5, "p": "100.1", "q": "2", "m": True}
    rows = [*GOOD, line(26_000, "btcusdt@aggTrade", data | {"T": START + 26_000, "E": START + 26_000})]
    trades, _, report = ticks(put(tmp_path / "usdm", rows), trades="aggTrade")
    assert trades.sign.tolist() == [-1]
    assert report.by_reason() == {"stream not used: trade": 3}


def test_microseconds_are_told_by_magnitude(tmp_path):
    def fine(text):
        stamp, _, body = text.partition(" ")
        message = json.loads(body)
        message["data"] |= {k: message["data"][k] * 1000 + 7 for k in ("T", "E") if k in message["data"]}
        return f"{stamp} {json.dumps(message, separators=(',', ':'))}"

    trades, _, _ = ticks(put(tmp_path / "usdm", [fine(t) for t in GOOD]))
    assert (trades.time_ns[0] - (START + 500) * 10**6) == 7000


def test_wrong_units_are_refused(tmp_path):
    milli = [f"{int(t.partition(' ')[0]) // 10**6} {t.partition(' ')[2]}" for t in GOOD]
    with pytest.raises(InvalidInput, match="not nanoseconds"):
        ticks(put(tmp_path / "a" / "usdm", milli))
    apart = [f"{int(t.partition(' ')[0]) + 10 * 86_400 * 10**9} {t.partition(' ')[2]}" for t in GOOD]
    with pytest.raises(InvalidInput, match="more than a day apart"):
        ticks(put(tmp_path / "b" / "usdm", apart))
    with pytest.raises(InvalidInput, match="no times since 1970"):
        stamp_factor(np.array([34_200_000]), "file")


@pytest.mark.parametrize(
    ("folder", "name", "options", "match"),
    [
        ("somewhere", "btcusdt_20240808.gz", {}, "the venue is unknown"),
        ("somewhere", "btcusdt_20240808.gz", {"venue": "moon"}, "unknown venue"),
        ("spot", "btcusdt_20240808.gz", {}, "those of usdm"),
        ("cm", "btcusdt_20240808.gz", {}, "those of usdm"),
        ("usdm", "ethusdt_20240808.gz", {}, "another symbol than its first"),
        ("usdm", "btcusdt_20249908.gz", {}, "date in the file's name"),
        ("usdm", "btcusdt_20240808.gz", {"clock": "sun"}, "unknown"),
        ("usdm", "btcusdt_20240808.gz", {"trades": "all"}, "unknown"),
        ("usdm", "btcusdt_20240808.gz", {"levels": -1}, "not a number of levels"),
        ("usdm", "btcusdt_20240808.gz", {"tick": 0.0}, "tick"),
        ("usdm", "btcusdt_20240808.gz", {"days": []}, "no days"),
        ("usdm", "btcusdt_20240808.gz", {"tz": "Mars/Base"}, "Mars"),
    ],
)
def test_what_cannot_be_known_is_refused(tmp_path, folder, name, options, match):
    put(tmp_path / folder, GOOD, name)
    with pytest.raises(InvalidInput, match=match):
        binance_raw_sources(tmp_path, **options)


def test_a_venue_given_and_a_name_that_tells_nothing(tmp_path):
    trades, _, _ = ticks(put(tmp_path / "x", GOOD, "capture.txt"), venue="usdm")
    assert len(trades) == 3
    (source,) = binance_raw_sources(tmp_path / "x" / "capture.txt", venue="um")
    assert source.name == "BTCUSDT.usdm"


def test_files_that_are_damaged(tmp_path):
    folder = put(tmp_path / "usdm", GOOD * 1)
    path = folder / "btcusdt_20240808.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    trades, quotes, report = ticks(folder)
    assert 0 < len(trades) + len(quotes) <= 6
    reasons = report.by_reason()
    assert reasons["the gz ends early: the rest of the file is lost"] == 1
    assert reasons.get("unreadable JSON", 1) == 1  # the line that was cut
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(middle))
    with pytest.raises(DataGap, match="is damaged"):
        ticks(folder)
    for content, match in ((b"", "is empty"), (b"plain text", "no gzip"), (gzip.compress(b"what\n"), "holds no line")):
        path.write_bytes(content)
        with pytest.raises(DataGap, match=match):
            ticks(folder)
    path.unlink()
    with pytest.raises(DataGap, match="no recorded files"):
        ticks(folder)
    with pytest.raises(DataGap, match="no such file"):
        ticks(tmp_path / "absent")


def test_a_gz_of_several_members_is_one_text(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\ntwo") + gzip.compress(b"\nthree\n"))
    assert b"".join(read_text(path, ReadReport())) == b"one\ntwo\nthree\n"
    assert list(read_blocks(path, ReadReport(), block=5)) == [b"one\n", b"two\n", b"three\n"]


def test_progress_is_told_and_ends_at_one(tmp_path):
    put(tmp_path / "usdm", GOOD)
    told = []
    (source,) = binance_raw_sources(tmp_path)
    list(source.chunks(ReadReport(), lambda stage, done: told.append((stage, done))))
    assert told[-1] == ("BTCUSDT.usdm", 1.0)


def test_every_error_carries_field_value_and_remedy(tmp_path):
    put(tmp_path / "somewhere", GOOD)
    with pytest.raises(CrosswindError) as caught:
        binance_raw_sources(tmp_path)
    assert caught.value.field == "venue"
    assert caught.value.remedy
    assert caught.value.value


def test_depth_is_only_looked_into_where_a_book_is_asked_for():
    row = line(0, "btcusdt@depth@100ms", {"e": "depthUpdate", "E": START, "s": "BTCUSDT", "b": [["1", "2"]], "a": []})
    thin = decode(row.encode(), ReadReport(), "f", depth=False)
    assert thin.data == {}
    assert [e for _, e in thin.timed] == [START]
    full = decode(row.encode(), ReadReport(), "f", depth=True)
    assert full.data["depth"][0]["b"] == [["1", "2"]]
