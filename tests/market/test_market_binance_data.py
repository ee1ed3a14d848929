"""Recorded streams of three venues across a funding settlement, held against the facts known of them."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.read import read
from crosswind.problems.market.readers.binance_raw import binance_raw_sources
from crosswind.problems.market.report import ReadReport

pytestmark = pytest.mark.data

NAMES = ("BTCUSDT.spot", "BTCUSDT.usdm", "BTCUSD_PERP.cm", "ETHUSDT.spot", "ETHUSDT.usdm", "ETHUSD_PERP.cm")
SETTLEMENT = pd.Timestamp("2024-08-09", tz="UTC")


@pytest.fixture(scope="module")
def folder(raw_dir):
    return raw_dir


@pytest.fixture(scope="module")
def data(folder):
    return read(f"binance-raw:{folder}")


@pytest.fixture(scope="module")
def perpetuals(folder):
    return read(f"binance-raw:{folder}", names=["BTCUSDT.spot", "ETHUSDT.spot", "BTCUSD_PERP.cm", "ETHUSD_PERP.cm"])


def facts(data, name):
    return data.report.instruments[name]


@pytest.mark.parametrize(
    ("name", "trades"),
    [
        ("BTCUSDT.spot", 19_904),
        ("ETHUSDT.spot", 14_515),
        ("BTCUSD_PERP.cm", 5_235),
        ("ETHUSD_PERP.cm", 3_595),
        ("BTCUSDT.usdm", 21_313),
        ("ETHUSDT.usdm", 14_076),
    ],
)
def test_trade_counts(data, name, trades):
    assert facts(data, name).rows["trades"] == trades
    assert facts(data, name).facts["trade_ids"] == "0 missing"


def test_ten_files_on_one_clock(data, folder):
    assert data.events.names == NAMES
    assert len(data.report.files) == 10
    assert data.events.currency == "USD"
    # Spot's bookTicker has no exchange time: the one quote before the first trade has none to be put on.
    assert data.report.by_reason() == {"no exchange time known yet": 1}
    assert data.events.days == (pd.Timestamp("2024-08-08").date(),)  # USD-M ends with the day


def test_spans(data):
    for name in NAMES:
        one = facts(data, name)
        first, last = (pd.Timestamp(t, unit="ns", tz="UTC") for t in (one.first_ns, one.last_ns))
        assert pd.Timestamp("2024-08-08 23:54", tz="UTC") < first < pd.Timestamp("2024-08-08 23:54:20", tz="UTC")
        # On the exchange's clock, which is 1.27 s ahead of the one that cut the files at midnight.
        end = SETTLEMENT + (pd.Timedelta(1.27, "s") if name.endswith("usdm") else pd.Timedelta(305.9, "s"))
        assert end - pd.Timedelta(2, "s") < last < end
        assert one.gaps == 0


def test_the_settlement_is_crossed(perpetuals):
    index = perpetuals.events.index
    assert index[0] < SETTLEMENT < index[-1]
    assert SETTLEMENT in index
    assert len(perpetuals.events.days) == 2
    # Each bucket follows the one before, midnight included.
    assert set(np.diff(index.asi8)) == {10_000_000_000}
    assert index[-1] > SETTLEMENT + pd.Timedelta("4min 50s")


def test_the_local_clock_stands_more_than_a_second_behind(data):
    for name in NAMES:
        told = facts(data, name).facts
        middle = float(told["latency"].split("median ")[1].split(" ms")[0])
        least = float(told["latency"].split("smallest ")[1].split(" ms")[0])
        assert -1277 < least < -1272
        assert -1274 < middle < -1268
        assert "behind" in told["clock_trap"]
        assert any(note.startswith(name) and "behind" in note for note in data.notes)


def test_contract_sizes(data, folder):
    assert facts(data, "BTCUSD_PERP.cm").facts["contract"] == "100 USD, inverse"
    assert facts(data, "ETHUSD_PERP.cm").facts["contract"] == "10 USD, inverse"
    for name, value in (("btcusd_perp", 100.0), ("ethusd_perp", 10.0)):
        rows = plain(folder / "cm", name)
        own = notional(folder, f"{name.upper()}.cm")
        assert own == pytest.approx(value * sum(q for _, _, q, _ in rows), rel=1e-12)


def plain(folder, symbol):
    """Trades read line by line without any of our code: exchange time, price, quantity, seller aggressed."""
    rows = []
    for path in sorted(folder.glob(f"{symbol}_*.gz")):
        with gzip.open(path, "rt") as handle:
            for text in handle:
                if '@trade"' in text:
                    d = json.loads(text.split(" ", 1)[1])["data"]
                    rows.append((d["T"], float(d["p"]), float(d["q"]), d["m"]))
    return rows


def notional(folder, name):
    (source,) = binance_raw_sources(folder, [name])
    return sum(float((c.trades.price * c.trades.shares).sum()) for c in source.chunks(ReadReport()))


@pytest.mark.parametrize(("name", "symbol"), [("BTCUSDT.usdm", "btcusdt"), ("ETHUSDT.spot", "ethusdt")])
def test_flow_and_volume_equal_a_plain_sum_of_the_lines(data, perpetuals, folder, name, symbol):
    events = (perpetuals if name.endswith("spot") else data).events
    rows = np.array(plain(folder / name.split(".")[1], symbol))
    ends = events.index.asi8 // 10**6
    bucket = np.searchsorted(ends, rows[:, 0], side="right")  # a trade at a bucket's end belongs to the next
    inside = (rows[:, 0] >= ends[0] - 10_000) & (bucket < len(ends))
    value = rows[:, 1] * rows[:, 2]
    flow = np.bincount(bucket[inside], (value * np.where(rows[:, 3], -1, 1))[inside], len(ends))
    np.testing.assert_allclose(events.flow[name], flow, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(events.volume[name], np.bincount(bucket[inside], value[inside], len(ends)), rtol=1e-9)


def test_signs_agree_with_the_quotes_on_the_same_clock(folder):
    """A buyer lifts the ask: at the quote that stood before the trade, nearly all exact signs are those of its side."""
    for name, share in (("ETHUSDT.usdm", 0.97), ("ETHUSDT.spot", 0.97)):
        (source,) = binance_raw_sources(folder, [name])
        chunks = list(source.chunks(ReadReport()))
        trades, quotes = chunks[0].trades, chunks[0].quotes
        for chunk in chunks[1:]:
            trades, quotes = trades.then(chunk.trades), quotes.then(chunk.quotes)
        at = np.searchsorted(quotes.known_ns, trades.time_ns, side="left") - 1
        seen = at >= 0
        mid = 0.5 * (quotes.bid + quotes.ask)[at[seen]]
        off = trades.price[seen] - mid
        agree = np.sign(off) == trades.sign[seen]
        assert agree[off != 0].mean() > share, name


@pytest.mark.parametrize("name", ["BTCUSDT.spot", "ETHUSD_PERP.cm"])
def test_the_book_rebuilt_from_updates_agrees_with_bookticker(folder, name):
    (source,) = binance_raw_sources(folder, [name], levels=5)
    report = ReadReport()
    rows = 0
    for chunk in source.chunks(report):
        if chunk.depth is None:
            continue
        tape = chunk.depth
        rows += len(tape)
        assert (np.diff(tape.known_ns) >= 0).all()
        assert (tape.bid[:, 0] < tape.ask[:, 0]).all()
        assert (np.diff(tape.bid, axis=1) < 0).all()
        assert (np.diff(tape.ask, axis=1) > 0).all()
        assert (tape.bid_shares > 0).all()
    told = report.instruments[name].facts["book"]
    assert "begun from a snapshot; 0 breaks of the sequence" in told
    assert float(told.split("after ")[1].split("%")[0]) > 99.9
    assert rows > 6000
    assert set(report.by_reason()) <= {"no exchange time known yet"}


def test_prices_of_the_venues_move_together(data):
    returns = data.events.returns.dropna()
    for coin in ("BTC", "ETH"):
        same = returns[[n for n in NAMES if n.startswith(coin)]].corr().to_numpy()
        assert same.min() > 0.9
    mid = data.events.mid
    assert (mid["BTCUSDT.usdm"] / mid["BTCUSDT.spot"] - 1).abs().max() < 0.002
