"""LOBSTER files, written by a small order book of our own whose aggressors are known."""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read
from crosswind.problems.market.readers.lobster import lobster_sources
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput

EMPTY = 9_999_999_999
OPEN_S, CLOSE_S = 34_200, 57_600


class Book:
    """A book of limit orders at prices in units of 1/10 000, written event by event as LOBSTER does."""

    def __init__(self, levels: int, seed: int):
        self.levels, self.rng = levels, np.random.default_rng(seed)
        self.ask = {1_000_100 + 100 * k: 300 + 10 * k for k in range(levels + 2)}
        self.bid = {1_000_000 - 100 * k: 300 + 10 * k for k in range(levels + 2)}
        self.messages: list[tuple] = []
        self.rows: list[list[int]] = []
        self.trades: list[tuple[float, float, int, int]] = []  # seconds, price, shares, aggressor
        self.order = 1000

    def snapshot(self) -> list[int]:
        asks, bids = sorted(self.ask), sorted(self.bid, reverse=True)
        row: list[int] = []
        for k in range(self.levels):
            row += [asks[k], self.ask[asks[k]]] if k < len(asks) else [EMPTY, 0]
            row += [bids[k], self.bid[bids[k]]] if k < len(bids) else [-EMPTY, 0]
        return row

    def write(self, seconds: float, kind: int, size: int, price: int, direction: int, order: int | None = None) -> None:
        self.order += 1
        self.messages.append((f"{seconds:.9f}", kind, self.order if order is None else order, size, price, direction))
        self.rows.append(self.snapshot())

    def add(self, seconds: float, side: int, price: int, size: int) -> None:
        book = self.bid if side > 0 else self.ask
        book[price] = book.get(price, 0) + size
        self.write(seconds, 1, size, price, side)

    def market(self, seconds: float, aggressor: int, size: int) -> None:
        book = self.ask if aggressor > 0 else self.bid
        while size:
            price = min(book) if aggressor > 0 else max(book)
            done = min(size, book[price])
            book[price] -= done
            if not book[price]:
                del book[price]
            size -= done
            self.trades.append((seconds, price * 1e-4, done, aggressor))
            self.write(seconds, 4, done, price, -aggressor)

    def hidden(self, seconds: float, price: int, size: int, aggressor: int, masked: bool = False) -> None:
        self.trades.append((seconds, price * 1e-4, size, aggressor))
        self.write(seconds, 5, size, price, 1 if masked else -aggressor, order=0)

    def run(self, events: int) -> Book:
        times = np.sort(self.rng.uniform(OPEN_S, CLOSE_S - 1, events))
        self.add(OPEN_S + 1e-6, 1, 1_000_000, 5)
        for seconds in times[times > OPEN_S + 1]:
            if self.rng.uniform() < 0.3:
                self.market(seconds, int(self.rng.choice([-1, 1])), int(self.rng.integers(1, 500)))
            best_ask, best_bid = min(self.ask), max(self.bid)
            side = int(self.rng.choice([-1, 1]))
            # Orders come inside or at the touch, never across it.
            low, high = (best_bid - 200, best_ask - 100) if side > 0 else (best_bid + 100, best_ask + 200)
            price = int(self.rng.integers(low // 100, high // 100 + 1)) * 100
            self.add(seconds + 1e-9, side, price, int(self.rng.integers(1, 400)))
        return self

    def save(self, folder: Path, name: str = "ABC", day: str = "2012-06-21") -> tuple[Path, Path]:
        stem = f"{name}_{day}_{OPEN_S * 1000}_{CLOSE_S * 1000}"
        message, book = (folder / f"{stem}_{what}_{self.levels}.csv" for what in ("message", "orderbook"))
        message.write_text("".join(",".join(map(str, row)) + "\n" for row in self.messages))
        book.write_text("".join(",".join(map(str, row)) + "\n" for row in self.rows))
        return message, book


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Book, Path]:
    book = Book(3, seed=1).run(3000)
    book.save(tmp_path)
    return book, tmp_path


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.glob("ABC*.csv")):
            archive.write(file, file.name)
    return target


def flow_by_hand(book: Book, bucket_s: float) -> np.ndarray:
    out = np.zeros(int((CLOSE_S - OPEN_S) / bucket_s))
    for seconds, price, shares, aggressor in book.trades:
        out[int((seconds - OPEN_S) // bucket_s)] += price * shares * aggressor
    return out


def test_flow_has_the_exact_signs(saved):
    book, folder = saved
    data = read(f"lobster:{folder}", bucket_s=60.0)
    np.testing.assert_allclose(data.events.flow["ABC"], flow_by_hand(book, 60.0), rtol=1e-12, atol=1e-9)
    volume = sum(price * shares for _, price, shares, _ in book.trades)
    assert data.events.volume["ABC"].sum() == pytest.approx(volume, rel=1e-12)
    assert data.report.bad_rows == 0
    assert data.report.instruments["ABC"].rows["trades"] == len(book.trades)


def test_quotes_are_the_book_at_the_buckets_end(saved):
    book, folder = saved
    events = read(f"lobster:{folder}", bucket_s=300.0).events
    seconds = np.array([float(m[0]) for m in book.messages])
    rows = np.array(book.rows, dtype=float)
    for k in (0, 5, 40, 77):
        last = rows[np.flatnonzero(seconds < OPEN_S + 300.0 * (k + 1))[-1]]
        assert events.mid["ABC"].iloc[k] == pytest.approx(0.5e-4 * (last[0] + last[2]), rel=1e-12)
        assert events.spread["ABC"].iloc[k] == pytest.approx(1e-4 * (last[0] - last[2]), rel=1e-9)
        depth = 0.5 * (last[1] + last[3]) * 0.5e-4 * (last[0] + last[2])
        assert events.depth["ABC"].iloc[k] == pytest.approx(depth, rel=1e-9)


def test_zip_folder_and_single_file_read_alike(saved, tmp_path):
    _, folder = saved
    whole = read(f"lobster:{folder}", bucket_s=60.0).events
    packed = zipped(folder, tmp_path / "day.zip")
    one = next(folder.glob("*_orderbook_*.csv"))
    assert read(f"lobster:{one}", bucket_s=60.0).events.equals(whole)
    assert read(f"lobster:{packed}", bucket_s=60.0).events.equals(whole)


def test_blocks_do_not_change_the_result(saved, monkeypatch):
    _, folder = saved
    whole = read(f"lobster:{folder}", bucket_s=60.0).events
    for rows in (37, 1001):
        monkeypatch.setattr("crosswind.problems.market.readers.lobster._BLOCK", rows)
        pd.testing.assert_frame_equal(read(f"lobster:{folder}", bucket_s=60.0).events.to_frame(), whole.to_frame())


def test_levels_are_handed_on(saved):
    book, folder = saved
    (source,) = lobster_sources(folder, levels=3)
    chunks = list(source.chunks(ReadReport()))
    depth = [c.depth for c in chunks if c.depth is not None]
    assert all(part.bid.shape[1] == 3 for part in depth)
    last = book.rows[-1]
    np.testing.assert_allclose(depth[-1].ask[-1], np.array(last[0::4]) * 1e-4)
    np.testing.assert_allclose(depth[-1].bid_shares[-1], last[3::4])
    (bare,) = lobster_sources(folder)
    assert all(chunk.depth is None for chunk in bare.chunks(ReadReport()))


def test_empty_levels_are_nan_and_zero(tmp_path):
    book = Book(3, seed=2)
    book.ask = {1_000_100: 10}
    book.add(OPEN_S + 1.0, 1, 1_000_000, 10)
    book.save(tmp_path)
    (source,) = lobster_sources(tmp_path, levels=3)
    (chunk,) = source.chunks(ReadReport())
    assert np.isnan(chunk.depth.ask[0, 1:]).all()
    assert (chunk.depth.ask_shares[0, 1:] == 0).all()
    assert chunk.depth.ask[0, 0] == pytest.approx(100.01)


@pytest.mark.parametrize(("day", "masked"), [("2012-06-21", False), ("2014-07-14", True)])
def test_hidden_executions_are_signed_by_side_or_by_quote(tmp_path, day, masked):
    book = Book(2, seed=3)
    book.add(OPEN_S + 1.0, 1, 1_000_000, 10)
    book.hidden(OPEN_S + 2.0, 1_000_060, 100, 1, masked)  # above the mid of 100.005: a buyer
    book.hidden(OPEN_S + 3.0, 1_000_010, 100, -1, masked)
    book.hidden(OPEN_S + 4.0, 1_000_050, 100, 1, masked)  # at the mid: after 2014-07-13 nobody knows
    book.save(tmp_path, day=day)
    (source,) = lobster_sources(tmp_path)
    report = ReadReport()
    (chunk,) = source.chunks(report)
    assert chunk.trades.sign.tolist() == ([1, -1, 0] if masked else [1, -1, 1])
    told = [key for key in report.instruments["ABC"].facts if key.startswith("hidden")]
    assert bool(told) is masked


def test_crosses_and_halts_are_no_trades(tmp_path):
    book = Book(2, seed=4)
    book.add(OPEN_S + 1.0, 1, 1_000_000, 10)
    book.write(OPEN_S + 2.0, 6, 5000, 1_000_050, -1, order=-1)
    book.write(OPEN_S + 3.0, 7, 0, -1, -1, order=0)
    book.write(OPEN_S + 4.0, 7, 0, 1, -1, order=0)
    book.save(tmp_path)
    (source,) = lobster_sources(tmp_path)
    report = ReadReport()
    (chunk,) = source.chunks(report)
    assert not len(chunk.trades)
    assert report.instruments["ABC"].facts["halts 2012-06-21"] == "1"
    assert report.bad_rows == 0


def damaged(book: Book, row: int, **changes: object) -> None:
    at = dict(zip(("seconds", "kind", "order", "size", "price", "direction"), range(6), strict=True))
    message = list(book.messages[row])
    for key, value in changes.items():
        message[at[key]] = value
    book.messages[row] = tuple(message)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": 9}, "unknown event type"),
        ({"price": 0}, "zero or negative price"),
        ({"size": 0}, "zero or negative size"),
        ({"direction": 3}, "unknown direction"),
        ({"seconds": "34200.5"}, "out of order"),
        ({"seconds": "60000.0"}, "outside the hours in the file's name"),
        ({"seconds": "57000.0"}, "clock jump"),
    ],
)
def test_bad_rows_are_counted_and_left_out(tmp_path, change, reason):
    book = Book(2, seed=5).run(300)
    clean = len(book.trades)
    at = next(k for k, m in enumerate(book.messages) if m[1] == 4 and k > 50)
    damaged(book, at, **change)
    book.save(tmp_path)
    data = read(f"lobster:{tmp_path}", bucket_s=60.0, stale_limit_s=1e5)
    assert data.report.by_reason() == {reason: 1}
    assert data.report.instruments["ABC"].rows["trades"] == clean - 1


def test_a_repeated_row_is_a_duplicate_but_equal_executions_are_not(tmp_path):
    book = Book(2, seed=6)
    book.add(OPEN_S + 1.0, 1, 1_000_000, 10)
    book.messages.append(book.messages[-1])
    book.rows.append(book.rows[-1])
    book.market(OPEN_S + 2.0, 1, 5)
    book.messages.append(book.messages[-1])
    book.rows.append([*book.rows[-1][:1], book.rows[-1][1] - 5, *book.rows[-1][2:]])  # it took five more
    book.messages.append(book.messages[-1])
    book.rows.append(book.rows[-1])  # it took nothing: the row before, once more
    book.save(tmp_path)
    (source,) = lobster_sources(tmp_path)
    report = ReadReport()
    (chunk,) = source.chunks(report)
    assert report.by_reason() == {"duplicate": 2}
    assert len(chunk.trades) == 2


def test_prices_in_dollars_are_refused(tmp_path):
    book = Book(1, seed=8).run(80)
    book.messages = [(*row[:4], row[4] / 1e4, row[5]) for row in book.messages]
    book.rows = [[v / 1e4 if k % 2 == 0 else v for k, v in enumerate(row)] for row in book.rows]
    book.save(tmp_path)
    with pytest.raises(InvalidInput, match="price unit"):
        list(lobster_sources(tmp_path)[0].chunks(ReadReport()))


def test_a_book_that_is_shifted_against_its_messages_is_refused(tmp_path):
    book = Book(2, seed=1).run(600)
    book.rows = book.rows[40:] + book.rows[:40]
    book.save(tmp_path)
    with pytest.raises(InvalidInput, match="executions happened at a price"):
        list(lobster_sources(tmp_path)[0].chunks(ReadReport()))


def test_a_crossed_or_one_sided_book_gives_no_quote(tmp_path):
    book = Book(1, seed=7)
    book.add(OPEN_S + 1.0, 1, 1_000_000, 10)
    book.add(OPEN_S + 2.0, 1, 999_900, 10)
    book.rows[-1] = [999_900, 10, 1_000_000, 10]
    book.add(OPEN_S + 3.0, 1, 999_900, 10)
    book.rows[-1] = [EMPTY, 0, 1_000_000, 10]
    book.save(tmp_path)
    (source,) = lobster_sources(tmp_path)
    report = ReadReport()
    (chunk,) = source.chunks(report)
    assert len(chunk.quotes) == 1
    assert report.by_reason() == {"crossed book": 1, "one side of the book is empty": 1}


def test_files_of_another_stock_are_refused(tmp_path):
    one, other = Book(2, seed=8).run(3000), Book(2, seed=9)
    other.ask = {5_000_100 + 100 * k: 300 for k in range(4)}
    other.bid = {5_000_000 - 100 * k: 300 for k in range(4)}
    row = other.snapshot()
    one.rows = [row for _ in one.rows]
    one.save(tmp_path)
    with pytest.raises(InvalidInput, match="at a price that the order book showed"):
        read(f"lobster:{tmp_path}")


def test_truncated_empty_and_missing_files(saved, tmp_path):
    _, folder = saved
    message, book = next(folder.glob("*message*")), next(folder.glob("*orderbook*"))
    text = book.read_text()
    book.write_text("".join(line + "\n" for line in text.splitlines()[:-5]))
    with pytest.raises(DataGap, match="ends after"):
        read(f"lobster:{folder}")
    lines = text.splitlines()
    book.write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 4)[0]]))
    with pytest.raises(DataGap, match="cut short"):
        read(f"lobster:{folder}")
    book.write_text("")
    message.write_text("")
    with pytest.raises(DataGap, match="empty"):
        read(f"lobster:{folder}")
    book.unlink()
    with pytest.raises(DataGap, match="orderbook file is missing"):
        read(f"lobster:{folder}")
    message.unlink()
    with pytest.raises(DataGap, match="no LOBSTER files"):
        read(f"lobster:{folder}")
    with pytest.raises(DataGap, match="does not exist"):
        read(f"lobster:{folder / 'nowhere'}")


def test_damaged_zip_is_a_gap(saved, tmp_path):
    _, folder = saved
    packed = tmp_path / "elsewhere"
    packed.mkdir()
    zipped(folder, packed / "day.zip")
    whole = (packed / "day.zip").read_bytes()
    (packed / "day.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataGap, match="damaged"):
        read(f"lobster:{packed}")


def test_wrong_columns_and_text_are_refused(saved):
    _, folder = saved
    book = next(folder.glob("*orderbook*"))
    text = book.read_text()
    book.write_text("\n".join(line.rsplit(",", 4)[0] for line in text.splitlines()))
    with pytest.raises(InvalidInput, match="columns"):
        read(f"lobster:{folder}")
    book.write_text("ask,size,bid,size,a,b,c,d,e,f,g,h\n" + text)
    with pytest.raises(InvalidInput, match="text"):
        read(f"lobster:{folder}")


def test_names_days_and_levels_are_checked(saved):
    _, folder = saved
    Book(3, seed=11).run(3000).save(folder, name="XYZ")
    Book(3, seed=12).run(3000).save(folder, name="XYZ", day="2012-06-22")
    both = read(f"lobster:{folder}", bucket_s=60.0)
    assert both.events.names == ("ABC", "XYZ")
    assert both.events.days == (dt.date(2012, 6, 21),)
    assert read(f"lobster:{folder}", names=["XYZ"], bucket_s=60.0).events.days[-1] == dt.date(2012, 6, 22)
    with pytest.raises(InvalidInput, match="no LOBSTER file of that name"):
        read(f"lobster:{folder}", names=["QQQ"])
    with pytest.raises(DataGap, match="no such day"):
        read(f"lobster:{folder}", days="2012-06-25")
    with pytest.raises(InvalidInput, match="levels"):
        lobster_sources(folder, levels=9)


def test_the_clock_is_new_yorks_in_winter_and_summer(tmp_path):
    for day, hour in (("2012-01-10", 14), ("2012-06-21", 13)):
        folder = tmp_path / day
        folder.mkdir()
        Book(2, seed=13).run(3000).save(folder, day=day)
        first = read(f"lobster:{folder}", bucket_s=60.0).events.index[0]
        assert (first.hour, first.minute) == (hour, 31)
