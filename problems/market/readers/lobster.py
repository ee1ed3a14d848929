"""Reader of LOBSTER's message and order-book files: every event of one stock's limit order book, aggressors exact."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.checks import check_names, check_positive
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers import lobster_files as files
from crosswind.problems.market.readers.formats import Format
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import DepthTape, Progress, QuoteTape, TickChunk, TradeTape, ran_ahead
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMAT", "LobsterSource", "lobster_sources", "read_lobster"]

FORMAT = Format(
    scheme="lobster",
    title="LOBSTER message and order-book csv, in a folder or a zip",
    example="lobster:DIR or lobster:FILE.zip",
    reader="crosswind.problems.market.readers.lobster:read_lobster",
    sources="crosswind.problems.market.readers.lobster:lobster_sources",
)

# What Nasdaq says of hidden executions: the side is masked as "buy" from this day on.
_SIDE_MASKED = dt.date(2014, 7, 14)
_VISIBLE, _HIDDEN, _CROSS, _HALT = 4, 5, 6, 7
_BLOCK = 200_000  # rows of both files in memory at a time
_FEWEST_CHECKED = 20  # executions before the two files are held against each other
_SHARE_DISPLAYED = 0.9  # of them at a price that the book showed; rows that are shifted still meet it by chance

_Float = npt.NDArray[np.float64]
_Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LobsterSource:
    """The ticks of one stock: its days in order, each a pair of files.

    Parameters
    ----------
    name
        Ticker.
    pairs
        Message and order-book file of each day.
    levels
        Levels of the book handed on as :class:`DepthTape`; 0 none.
    tick
        Price step [currency].
    """

    name: str
    pairs: tuple[files.Pair, ...]
    levels: int = 0
    tick: float = 0.01
    venue: str = "Nasdaq (LOBSTER)"
    tz: str = files.NEW_YORK
    currency: str = "USD"

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield the ticks in time order, a block of rows at a time.

        Raises
        ------
        InvalidInput
            If the two files do not belong together or hold other columns.
        DataGap
            If a file is missing, empty, truncated, or one is longer than the other.
        """
        facts = report.instrument(
            self.name,
            self.venue,
            "ticks",
            clock="seconds after midnight in New York, to the nanosecond",
            stamp="event",
            price_unit="USD (the files hold units of 1/10 000)",
            quantity_unit="shares",
            tick=f"{self.tick:g}",
            sign="exact for visible executions: the opposite of the limit order's side",
        )
        for number, pair in enumerate(self.pairs):
            day = _Day(self, pair, report)
            for message, book in files.blocks(pair, report, _BLOCK):
                if progress is not None:
                    progress(f"{self.name} {pair.day}", number / len(self.pairs))
                chunk = day.chunk(message, book)
                for kind, time in (("trades", chunk.trades.time_ns), ("quotes", chunk.quotes.known_ns)):
                    if len(time):
                        facts.saw(kind, len(time), int(time[0]), int(time[-1]))
                yield chunk
            day.close()
            for key, value in day.facts.items():
                facts.facts[f"{key} {pair.day}"] = value


class _Day:
    """The state that is carried from block to block of one day."""

    def __init__(self, source: LobsterSource, pair: files.Pair, report: ReadReport) -> None:
        self.source, self.pair, self.report = source, pair, report
        self.midnight_ns = files.midnight_ns(pair.day)
        self.last_ns = self.midnight_ns
        self.book: _Float | None = None  # the row before this block
        self.checked = self.matched = 0
        self.facts: dict[str, str] = {}

    def chunk(self, message: pd.DataFrame, book: _Float) -> TickChunk:
        """Return the trades and quotes of one block; rows that cannot be used are counted in the report."""
        time = self.midnight_ns + np.rint(message["seconds"].to_numpy() * 1e9).astype(np.int64)
        kind = message["type"].to_numpy()
        good = self._usable(message, book, time)
        self._count_halts(kind, message["price"].to_numpy(), good)
        before = np.vstack([book[:1] * np.nan if self.book is None else self.book, book[:-1]])
        self.book = book[-1:].copy()
        trade = good & ((kind == _VISIBLE) | (kind == _HIDDEN))
        tapes = self._trades(message, time, kind, before, trade)
        quotes, depth = self._quotes(book, time, good)
        if good.any():
            self.last_ns = max(self.last_ns, int(time[good].max()))
        return TickChunk(tapes, quotes, depth)

    def _usable(self, message: pd.DataFrame, book: _Float, time: npt.NDArray[np.int64]) -> _Bool:
        where = self.pair.message_name
        kind, size, price = (message[c].to_numpy() for c in ("type", "size", "price"))
        good = np.ones(len(time), dtype=bool)

        def drop(bad: _Bool, reason: str) -> None:
            bad = bad & good
            if bad.any():
                at = int(np.argmax(bad))
                self.report.bad(where, reason, int(bad.sum()), message.iloc[at].to_dict())
                good[bad] = False

        drop(~np.isin(kind, (1, 2, 3, 4, 5, 6, 7)), "unknown event type")
        drop(
            (message["seconds"].to_numpy() * 1e3 < self.pair.start_ms)
            | (message["seconds"].to_numpy() * 1e3 > self.pair.end_ms),
            "outside the hours in the file's name",
        )
        drop(ran_ahead(time, self.last_ns), "clock jump")
        # A row that goes back behind the latest time before it: its place in the book's history is not known.
        latest = np.maximum.accumulate(np.concatenate([[self.last_ns], np.where(good, time, self.last_ns)]))[:-1]
        drop(time < latest, "out of order")
        drop((kind <= _HIDDEN) & (size <= 0), "zero or negative size")
        drop((kind <= _HIDDEN) & (price <= 0), "zero or negative price")
        drop((kind <= _HIDDEN) & ~np.isin(message["direction"].to_numpy(), (-1, 1)), "unknown direction")
        same = np.zeros(len(time), dtype=bool)
        if len(time) > 1:
            # A new or deleted order has an identifier of its own: a second equal row repeats the first. A visible
            # execution takes size out of the book: one that leaves it as it was repeats the one before. Hidden ones may
            # repeat honestly.
            equal = (message.to_numpy()[1:] == message.to_numpy()[:-1]).all(axis=1)
            still = ((book[1:] == book[:-1]) | np.isnan(book[1:]) & np.isnan(book[:-1])).all(axis=1)
            same[1:] = equal & (np.isin(kind[1:], (1, 3)) | (kind[1:] == _VISIBLE) & still)
        drop(same, "duplicate")
        return good

    def _count_halts(self, kind: npt.NDArray[np.int64], price: _Float, good: _Bool) -> None:
        """Note the halts of the day: −1 halted, 0 quoting again, 1 trading again."""
        codes = np.rint(price[good & (kind == _HALT)] / files.PRICE_SCALE)
        if len(codes):
            known = int(self.facts.get("halts", "0")) + int((codes == -1).sum())
            self.facts["halts"] = str(known)

    def _trades(
        self, message: pd.DataFrame, time: npt.NDArray[np.int64], kind: Any, before: _Float, trade: _Bool
    ) -> TradeTape:
        price = message["price"].to_numpy()[trade]
        side = message["direction"].to_numpy()[trade]
        ask, bid = before[trade, 0], before[trade, 2]
        visible = kind[trade] == _VISIBLE
        # The direction is that of the resting order; who hit it stands on the other side.
        sign = (-side).astype(np.int8)
        if self.pair.day >= _SIDE_MASKED:
            with np.errstate(invalid="ignore"):
                implied = np.nan_to_num(np.sign(np.round(price - 0.5 * (ask + bid), 6)))
            sign = np.where(visible, sign, implied).astype(np.int8)
            hidden = int((~visible).sum())
            if hidden:
                known = int(self.facts.get("hidden executions signed by the quote", "0"))
                self.facts["hidden executions signed by the quote"] = str(known + hidden)
        quoted = visible & np.isfinite(ask) & np.isfinite(bid)
        # A visible order executes where it was displayed: else the two files are not of one day and stock.
        displayed = np.where(side < 0, ask, bid)
        self.checked += int(quoted.sum())
        self.matched += int((np.abs(displayed - price)[quoted] < 1e-9 * price[quoted]).sum())
        shares = message["size"].to_numpy()[trade].astype(np.float64)
        return TradeTape(time[trade], price, shares, np.ones(len(price), dtype=bool), sign)

    def _quotes(self, book: _Float, time: npt.NDArray[np.int64], good: _Bool) -> tuple[QuoteTape, DepthTape | None]:
        where = self.pair.book_name
        with np.errstate(invalid="ignore"):
            crossed = good & (book[:, 0] < book[:, 2])
        empty = good & ~(np.isfinite(book[:, 0]) & np.isfinite(book[:, 2]))
        self.report.bad(where, "crossed book", int(crossed.sum()), book[crossed][:1].tolist())
        self.report.bad(where, "one side of the book is empty", int(empty.sum()), book[empty][:1].tolist())
        # A row that leaves the best quotes as they were still says that they stand: else a quiet book would look stale.
        standing = good & ~crossed & ~empty
        rows = book[standing]
        quotes = QuoteTape(time[standing], rows[:, 2], rows[:, 0], rows[:, 3], rows[:, 1])
        if not self.source.levels:
            return quotes, None
        part = rows[:, : 4 * self.source.levels]
        depth = DepthTape(time[standing], part[:, 2::4], part[:, 3::4], part[:, 0::4], part[:, 1::4])
        return quotes, depth

    def close(self) -> None:
        """Refuse the day if its executions do not stand in its book."""
        if self.checked >= _FEWEST_CHECKED and self.matched < _SHARE_DISPLAYED * self.checked:
            raise InvalidInput(
                f"only {self.matched} of {self.checked} executions happened at a price that the order book showed",
                field="file",
                value=f"{self.pair.message_name} and {self.pair.book_name}",
                remedy="give the message and order-book file of one stock and day, in their original order",
            )


def lobster_sources(
    path: Any,
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    levels: int = 0,
    tick: float = 0.01,
) -> tuple[LobsterSource, ...]:
    """Return one source per stock below ``path``.

    Parameters
    ----------
    path
        Folder, zip, or one of a pair of csv files.
    names, days
        Stocks and dates to read; default all that are there.
    levels
        Levels of the book to hand on beside the best quotes; at most those in the files.
    tick
        Price step [currency].

    Raises
    ------
    InvalidInput
        On an unknown stock or more levels than the files have.
    DataGap
        On a missing file or day.
    """
    pairs = files.find_pairs(path, days)
    available = tuple(dict.fromkeys(pair.name for pair in pairs))
    chosen = available if names is None else check_names(names, "names")
    unknown = [name for name in chosen if name not in available]
    if unknown:
        raise InvalidInput(
            "no LOBSTER file of that name",
            field="names",
            value=unknown,
            remedy=f"choose among {', '.join(available)}",
        )
    check_positive(tick, "tick")
    fewest = min(pair.levels for pair in pairs if pair.name in chosen)
    if isinstance(levels, bool) or not isinstance(levels, int) or not 0 <= levels <= fewest:
        raise InvalidInput(
            f"the files have {fewest} levels", field="levels", value=levels, remedy=f"pass an integer of 0 to {fewest}"
        )
    return tuple(
        LobsterSource(name, tuple(pair for pair in pairs if pair.name == name), levels, tick) for name in chosen
    )


def read_lobster(
    path: Any,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    report: ReadReport,
    progress: Progress | None = None,
    hours: tuple[str, str] = ("09:30", "16:00"),
    tick: float = 0.01,
    stale_limit_s: float = 300.0,
) -> MarketData:
    """Read LOBSTER's files into synchronised buckets.

    Every event moves the book, and every execution names the side of the resting order: the aggressor is known, not
    guessed. Executions of hidden orders carry a side up to 2014-07-13; later they are signed by their price against the
    mid before them, and not at all at the mid. Crosses (type 6) repeat executions or have no aggressor: they are left
    out.

    Parameters
    ----------
    path
        Folder, zip, or one of a pair of csv files.
    names, days
        Stocks and local dates; default all that are there. Several stocks must share their days.
    bucket_s
        Bucket length [s], default 10.
    report
        Takes the facts of the files, and every row that was not used, by reason.
    progress
        Called with the stage and the fraction done.
    hours
        Local opening and close, New York.
    tick
        Price step [currency]; locked quotes are widened to it.
    stale_limit_s
        Oldest quote that may be carried forward [s].

    Returns
    -------
    MarketData

    Raises
    ------
    InvalidInput
        On an unknown name, other columns, files that do not belong together.
    DataGap
        On a missing, empty or truncated file, a missing day, a quote older than the limit.

    Notes
    -----
    File layout and the fate of hidden orders: LOBSTER's documentation, "Data structure" and "Hidden order executions".
    """
    sources = lobster_sources(path, names, days, tick=tick)
    shared = set.intersection(*({pair.day for pair in source.pairs} for source in sources))
    if not shared:
        raise DataGap(
            "the stocks share no day", field="days", value=[s.name for s in sources], remedy="read them one by one"
        )
    events, notes = events_of(
        sources,
        bucket_s=10.0 if bucket_s is None else bucket_s,
        hours=hours,
        tz=files.NEW_YORK,
        currency="USD",
        stale_limit_s=stale_limit_s,
        days=sorted(shared),
        report=report,
        progress=progress,
    )
    return MarketData(events, source=f"lobster:{path}", notes=notes)
