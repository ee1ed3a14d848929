"""The book rebuilt from depth updates: sequence rules, snapshots, stale levels, against a book kept plainly."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.readers.binance_book import DiffBook
from crosswind.problems.market.readers.binance_raw import binance_raw_sources
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import InvalidInput

START = int(pd.Timestamp("2024-08-08 12:00", tz="UTC").value) // 10**6


def update(first, last, before, bids=(), asks=()):
    return {"U": first, "u": last, "pu": before, "b": [list(r) for r in bids], "a": [list(r) for r in asks]}


def snapshot(last, bids, asks):
    return {"lastUpdateId": last, "bids": [list(r) for r in bids], "asks": [list(r) for r in asks]}


BIDS = [("100.0", "1"), ("99.9", "2"), ("99.8", "3")]
ASKS = [("100.1", "4"), ("100.2", "5")]


def ready(levels=2):
    book = DiffBook(levels, spot=False)
    assert book.snapshot(snapshot(10, BIDS, ASKS))
    return book


def test_levels_best_first_and_empty_ones_marked():
    book = ready(3)
    assert book.update(update(11, 12, 10, [("99.95", "7")], [("100.1", "0")]))
    bids, bid_size, asks, ask_size = book.row()
    assert bids == [100.0, 99.95, 99.9]
    assert bid_size == [1.0, 7.0, 2.0]
    assert asks[0] == 100.2
    assert np.isnan(asks[1:]).all()
    assert ask_size == [5.0, 0.0, 0.0]


def test_the_removal_of_a_level_that_is_not_there_is_normal():
    book = ready()
    assert book.update(update(11, 12, 10, [("42.0", "0")]))
    assert book.best == (100.0, 100.1)


def test_futures_join_by_the_end_of_the_update_before():
    book = ready()
    assert book.update(update(11, 12, 10))
    assert book.update(update(15, 20, 12))  # ids in between belong to other streams
    assert not book.update(update(25, 30, 24, [("100.05", "1")]))
    assert (book.gaps, book.valid) == (1, False)
    assert not book.update(update(25, 30, 24))
    assert book.old == 1


def test_spot_joins_by_the_next_id():
    book = DiffBook(1, spot=True)
    book.snapshot(snapshot(10, BIDS, ASKS))
    assert book.update({"U": 9, "u": 12, "b": [], "a": []})  # spans the snapshot
    assert book.update({"U": 13, "u": 13, "b": [], "a": []})
    assert not book.update({"U": 15, "u": 16, "b": [], "a": []})
    assert book.gaps == 1


def test_a_snapshot_that_came_late_is_brought_up_to_date():
    book = DiffBook(1, spot=False)
    assert not book.update(update(5, 8, 4, [("100.0", "9")]))
    assert not book.update(update(9, 12, 8, [("100.0", "6")]))
    assert not book.update(update(13, 14, 12, [], [("100.05", "1")]))
    assert book.snapshot(snapshot(10, BIDS, ASKS))
    assert book.best == (100.0, 100.05)
    assert book.row()[1] == [6.0]
    assert book.update(update(15, 15, 14))


def test_updates_older_than_the_snapshot_are_not_applied():
    book = DiffBook(1, spot=False)
    book.update(update(1, 2, 0))
    assert book.snapshot(snapshot(10, BIDS, ASKS))
    assert not book.update(update(3, 9, 2, [("100.0", "0")]))
    assert book.best == (100.0, 100.1)
    assert book.update(update(10, 11, 9, [("100.0", "8")]))
    assert book.row()[1] == [8.0]
    assert book.gaps == 0


def test_a_snapshot_from_before_the_updates_is_refused():
    book = DiffBook(1, spot=False)
    book.update(update(50, 60, 49))
    assert not book.snapshot(snapshot(10, BIDS, ASKS))
    assert not book.valid
    fresh = DiffBook(1, spot=False)
    fresh.snapshot(snapshot(10, BIDS, ASKS))
    assert not fresh.update(update(50, 60, 49))
    assert fresh.gaps == 1


def test_without_a_snapshot_the_book_counts_once_bookticker_brackets_it():
    book = DiffBook(1, spot=False)
    assert not book.update(update(1, 2, 0, [("99.0", "1")], [("100.1", "1")]))
    book.ticker(2, 100.0, 100.1)
    assert not book.update(update(3, 4, 2, [("100.0", "2")]))
    assert not book.valid
    book.ticker(4, 100.0, 100.1)  # the book after update 4 is judged by the next one
    book.ticker(9, 100.0, 100.2)
    assert book.valid
    assert book.update(update(5, 10, 4, [], [("100.1", "0"), ("100.2", "1")]))
    assert "updates alone" in book.summary()


def test_stale_levels_are_pruned_by_the_best_quotes_of_the_same_update():
    book = ready()
    book.ticker(10, 100.0, 100.1)
    assert book.update(update(11, 12, 10, [("99.7", "1")]))
    book.ticker(12, 99.9, 100.2)  # 100.0 and 100.1 are gone, and no update told it
    book.ticker(13, 99.9, 100.2)
    assert book.best == (99.9, 100.2)
    assert (book.compared, book.agreed, book.stale) == (1, 0, 2)
    assert book.update(update(13, 14, 12))
    book.ticker(15, 99.9, 100.2)
    assert (book.compared, book.agreed) == (2, 1)


def test_a_level_set_since_is_not_pruned():
    book = ready()
    book.ticker(10, 100.0, 100.1)
    book.update(update(11, 12, 10))
    book.ticker(12, 99.9, 100.1)
    book.update(update(13, 14, 12, [("100.0", "5")]))  # set anew before the verdict on 12 is in
    book.ticker(14, 100.0, 100.1)
    assert book.best[0] == 100.0


def test_a_crossed_book_is_not_handed_on():
    book = ready()
    assert not book.update(update(11, 12, 10, [("100.3", "1")]))
    assert book.valid


@pytest.mark.parametrize("row", [("x", "1"), ("100.0", "-1"), ("nan", "1"), ("100.0",), ("-3", "2"), None])
def test_levels_that_cannot_be_read_are_counted(row):
    book = ready()
    book.update({"U": 11, "u": 12, "pu": 10, "b": [row], "a": []})
    assert book.unreadable == 1
    assert book.best == (100.0, 100.1)


@pytest.mark.parametrize("levels", [0, -1, 1.5, True])
def test_levels_must_be_a_count(levels):
    with pytest.raises(InvalidInput, match="number of levels"):
        DiffBook(levels, spot=True)


def test_random_updates_against_a_plain_book():
    rng = np.random.default_rng(11)
    book = DiffBook(5, spot=True)
    book.snapshot(snapshot(0, [("50", "1")], [("51", "1")]))
    plain = {"b": {50.0: 1.0}, "a": {51.0: 1.0}}
    for k in range(1, 2000):
        message = {"U": k, "u": k, "b": [], "a": []}
        for side, low in (("b", 0), ("a", 51)):
            for _ in range(int(rng.integers(0, 4))):
                price, size = float(low + rng.integers(0, 50)), float(rng.integers(0, 3))
                message[side].append([str(price), str(size)])
                plain[side].pop(price, None)
                if size:
                    plain[side][price] = size
        book.update(message)
        bids, bid_size, asks, ask_size = book.row()
        for prices, sizes, own, down in ((bids, bid_size, plain["b"], True), (asks, ask_size, plain["a"], False)):
            best = sorted(own, reverse=down)[:5]
            assert [p for p in prices if p == p] == best
            assert sizes[: len(best)] == [own[p] for p in best]


def message(ms, stream, data):
    return f"{(START + ms) * 10**6} " + json.dumps({"stream": stream, "data": data}, separators=(",", ":"))


def test_levels_out_of_files(tmp_path):
    folder = tmp_path / "cm"
    folder.mkdir()
    symbol = {"s": "BTCUSD_PERP", "ps": "BTCUSD"}

    def depth(ms, first, last, before, bids=(), asks=()):
        at = START + ms
        data = {"e": "depthUpdate", "E": at + 1, "T": at, **symbol, **update(first, last, before, bids, asks)}
        return message(ms + 2, "btcusd_perp@depth@0ms", data)

    def ticker(ms, number, bid, ask):
        at = START + ms
        data = {"u": number, "e": "bookTicker", **symbol, "b": bid, "B": "1", "a": ask, "A": "1", "T": at, "E": at}
        return message(ms + 2, "btcusd_perp@bookTicker", data)

    lines = [
        depth(0, 1, 2, 0),
        f"{(START + 5) * 10**6} " + json.dumps(snapshot(2, BIDS, ASKS)),
        ticker(8, 3, "100.0", "100.1"),
        depth(10, 3, 4, 2, [("100.0", "10")]),
        ticker(11, 5, "99.9", "100.1"),
        depth(20, 5, 6, 4, [("100.0", "0"), ("x", "1")]),
        ticker(21, 7, "99.9", "100.1"),
        depth(30, 7, 7, 6, [("100.2", "1")]),  # crossed
        depth(40, 9, 9, 8),  # update 8 is lost
        depth(41, 9, 9, 8),
        message(50, "btcusd_perp@depth@0ms", {"e": "depthUpdate", "E": START + 50, "s": "BTCUSD_PERP"}),
    ]
    (folder / "btcusd_perp_20240808.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    (source,) = binance_raw_sources(tmp_path, levels=2)
    report = ReadReport()
    (chunk,) = source.chunks(report)
    tape = chunk.depth
    assert (tape.known_ns // 10**6 - START).tolist() == [10, 20]
    np.testing.assert_array_equal(tape.bid, [[100.0, 99.9], [99.9, 99.8]])
    np.testing.assert_array_equal(tape.ask, [[100.1, 100.2]] * 2)
    np.testing.assert_allclose(tape.bid * tape.bid_shares, [[1000.0, 200.0], [200.0, 300.0]])
    assert report.by_reason() == {
        "crossed book": 1,
        "gap in depth update ids": 1,
        "depth update older than the last": 1,
        "unreadable level of depth": 1,
        "a field is missing or unreadable": 1,
    }
    facts = report.instruments["BTCUSD_PERP.cm"]
    assert facts.rows == {"quotes": 3, "depth": 2}
    assert "100.00% of 2" in facts.facts["book"]
    (local,) = binance_raw_sources(tmp_path, levels=2, clock="local")
    (chunk,) = local.chunks(ReadReport())
    assert (chunk.depth.known_ns // 10**6 - START).tolist() == [12, 22]
    (none,) = binance_raw_sources(tmp_path)
    (chunk,) = none.chunks(ReadReport())
    assert chunk.depth is None
