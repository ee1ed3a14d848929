"""Reader of Binance's public archive (data.binance.vision): klines, trades, aggregate trades and best quotes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.checks import check_positive, check_zone
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers import binance_venues as venues
from crosswind.problems.market.readers.binance_bars import BarFolder, implied_quotes, read_klines
from crosswind.problems.market.readers.binance_lines import Ordered
from crosswind.problems.market.readers.binance_messages import repeated
from crosswind.problems.market.readers.binance_tables import PublicFile, list_files, read_tables
from crosswind.problems.market.readers.formats import Format
from crosswind.problems.market.report import InstrumentFacts, ReadReport
from crosswind.problems.market.ticks import Progress, QuoteTape, TickChunk, TradeTape, pair_tapes
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMAT", "BinancePublicSource", "binance_public_sources", "read_binance_public"]

FORMAT = Format(
    scheme="binance",
    title="Binance's public archive: klines, aggTrades, trades, bookTicker, csv or zip, in a folder or a file",
    example="binance:DIR or binance:FILE.zip",
    reader="crosswind.problems.market.readers.binance_public:read_binance_public",
    sources="crosswind.problems.market.readers.binance_public:binance_public_sources",
)

_WINDOW_NS = 1_000_000_000
_PEEK = 1 << 18
Quotes = Literal["book", "implied"]


@dataclass(frozen=True)
class BinancePublicSource:
    """The ticks of one instrument: trades with exact aggressors, and best quotes where there are files of them.

    Parameters
    ----------
    instrument
        What is read.
    trades, books
        Files of trades or aggregate trades, and of bookTicker, in order of time.
    tick
        Smallest price step [currency].
    quotes
        'book': those of ``books``; 'implied': the last prices at which buyers and sellers aggressed, of no size.
    unit
        'ms' or 'us' to be held against the stamps; None to decide by them.
    ranges
        Times handed on, [start, end) [ns]; None for all.
    tz
        Zone whose dates are the sessions.
    """

    instrument: venues.Instrument
    trades: tuple[PublicFile, ...]
    books: tuple[PublicFile, ...]
    tick: float
    quotes: Quotes = "book"
    unit: str | None = None
    ranges: tuple[tuple[int, int], ...] | None = None
    tz: str = "UTC"

    @property
    def name(self) -> str:
        """E.g. 'BTCUSDT.usdm'."""
        return self.instrument.name

    @property
    def venue(self) -> str:
        """E.g. 'binance USD-M futures'."""
        return self.instrument.venue

    @property
    def currency(self) -> str:
        """Of prices."""
        return self.instrument.currency

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield the ticks in order of time; see :func:`read_binance_public`."""
        facts = self.instrument.note(
            report,
            "ticks",
            clock=f"{'transaction' if self.instrument.market != 'spot' else 'trade'} time, since 1970 UTC",
            stamp="event",
            tick=f"{self.tick:g}",
            sign="exact: buyer is maker",
            quotes="implied by the aggressors' last prices, of no size" if self.quotes == "implied" else "bookTicker",
        )
        gaps = venues.GapMeter(facts)
        total = sum(f.path.stat().st_size for f in (*self.trades, *self.books)) or 1
        trades = self._trade_tapes(report, facts, self._meter(self.trades, progress, 0, total))
        if self.quotes == "implied":
            pieces: Iterator[TickChunk] = (TickChunk(t, q) for t, q in implied_quotes(trades, self.tick))
        else:
            before = sum(f.path.stat().st_size for f in self.trades)
            pieces = pair_tapes(trades, self._quote_tapes(report, self._meter(self.books, progress, before, total)))
        for chunk in pieces:
            cut = chunk
            if self.ranges is not None:
                cut = TickChunk(
                    chunk.trades.take(venues.in_ranges(chunk.trades.time_ns, self.ranges)),
                    chunk.quotes.take(venues.in_ranges(chunk.quotes.known_ns, self.ranges)),
                )
            for kind, times in (("trades", cut.trades.time_ns), ("quotes", cut.quotes.known_ns)):
                if len(times):
                    facts.saw(kind, len(times), int(times[0]), int(times[-1]))
            gaps.see(cut.trades.time_ns, cut.quotes.known_ns)
            if len(cut.trades) or len(cut.quotes):
                yield cut

    def _meter(
        self, files: tuple[PublicFile, ...], progress: Progress | None, before: int, total: int
    ) -> dict[Path, Any]:
        """Return for each file what is to be called with its bytes done."""
        out: dict[Path, Any] = {}
        for file in files:

            def step(done: int, before: int = before) -> None:
                if progress is not None:
                    progress(self.name, min((before + done) / total, 1.0))

            out[file.path] = step
            before += file.path.stat().st_size
        return out

    def _tables(
        self, files: tuple[PublicFile, ...], report: ReadReport, steps: Mapping[Path, Any], prices: tuple[str, ...]
    ) -> Iterator[tuple[PublicFile, pd.DataFrame, venues.InstrumentSieve, npt.NDArray[np.int64]]]:
        """Yield checked rows: positive, of a time of their own, each id once."""
        before = np.zeros(0, dtype=np.int64)
        for file in files:
            report.file(file.path, file.path.stat().st_size)
            for frame in read_tables(file, report, unit=self.unit, step=steps.get(file.path)):
                sieve = venues.InstrumentSieve(report, file.path, len(frame))
                ids = frame["id"].to_numpy()
                values = frame[list(prices)].to_numpy()
                sizes = frame[[c for c in frame.columns if c.endswith("quantity") and c != "quote_quantity"]].to_numpy()
                # The archive keeps the ids of trades that were taken back, with zeros for price and quantity.
                sieve.drop(np.asarray((values <= 0).any(axis=1)), "zero or negative price", ids)
                sieve.drop(np.asarray((sizes <= 0).any(axis=1)), "zero or negative quantity", ids)
                sieve.drop(venues.spikes(frame["time"].to_numpy()), "clock jump", ids)
                fresh = np.flatnonzero(sieve.keep)
                again = np.zeros(len(frame), dtype=bool)
                again[fresh] = repeated(ids[fresh], before)
                sieve.drop(again, "duplicate", ids)
                before = ids
                yield file, frame, sieve, ids

    def _ordered(
        self, report: ReadReport, rows: Iterator[tuple[PublicFile, tuple[npt.NDArray[Any], ...]]]
    ) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """Yield columns in order of time; rows that come more than a second late are counted and left out."""
        ordered, newest = Ordered(), np.iinfo(np.int64).min
        for file, columns in rows:
            if not len(columns[0]):
                continue
            report.bad(file.path, "out of order", ordered.push(columns), "more than 1 s late")
            newest = max(newest, int(columns[0].max()))
            ready = ordered.pop(newest - _WINDOW_NS)
            if ready is not None:
                yield ready
        ready = ordered.pop(None)
        if ready is not None:
            yield ready

    def _trade_tapes(
        self, report: ReadReport, facts: InstrumentFacts, steps: Mapping[Path, Any]
    ) -> Iterator[TradeTape]:
        top: int | None = None
        missing = breaks = 0

        def rows() -> Iterator[tuple[PublicFile, tuple[npt.NDArray[Any], ...]]]:
            nonlocal top, missing, breaks
            for file, frame, sieve, ids in self._tables(self.trades, report, steps, ("price",)):
                # A gap is a row the archive does not have; rows that were refused are there.
                own = np.sort(ids) if top is None else np.append(top, np.sort(ids[ids > top]))
                step = np.diff(own) - 1
                missing, breaks, top = missing + int(step[step > 0].sum()), breaks + int((step > 0).sum()), int(own[-1])
                kept = frame[sieve.keep]
                price = kept["price"].to_numpy()
                sign = np.where(kept["maker"].to_numpy() > 0, -1, 1).astype(np.int8)
                shares = self.instrument.shares(kept["quantity"].to_numpy(), price)
                yield file, (kept["time"].to_numpy(), price, shares, sign)

        for time, price, shares, sign in self._ordered(report, rows()):
            yield TradeTape(time, price, shares, np.ones(len(time), dtype=bool), sign)
        facts.facts["trade_ids"] = f"{missing} missing in {breaks} gaps"

    def _quote_tapes(self, report: ReadReport, steps: Mapping[Path, Any]) -> Iterator[QuoteTape]:
        def rows() -> Iterator[tuple[PublicFile, tuple[npt.NDArray[Any], ...]]]:
            for file, frame, sieve, ids in self._tables(self.books, report, steps, ("bid", "ask")):
                bid, ask = frame["bid"].to_numpy(), frame["ask"].to_numpy()
                sieve.drop(bid > ask, "crossed book", ids)
                keep = sieve.keep
                shares = self.instrument.shares
                sizes = (
                    shares(frame["bid_quantity"].to_numpy(), bid)[keep],
                    shares(frame["ask_quantity"].to_numpy(), ask)[keep],
                )
                yield file, (frame["time"].to_numpy()[keep], bid[keep], ask[keep], *sizes)

        for columns in self._ordered(report, rows()):
            yield QuoteTape(*columns)


def _step_of(file: PublicFile, unit: str | None) -> float:
    """Return the price step seen at the beginning of one file."""
    frame = next(read_tables(file, ReadReport(), unit=unit, block=_PEEK), None)
    if frame is None:
        raise DataGap(
            "none of its first rows can be used", field="file", value=str(file.path), remedy="look at its first lines"
        )
    columns = ("bid", "ask") if file.kind == "bookTicker" else ("price",)
    return venues.price_step(frame[list(columns)].to_numpy(dtype=np.float64).ravel())


def _in_days(files: Iterable[PublicFile], ranges: tuple[tuple[int, int], ...] | None) -> tuple[PublicFile, ...]:
    return tuple(f for f in files if ranges is None or any(f.start_ns < e and f.end_ns > s for s, e in ranges))


def _tick_sources(
    files: tuple[PublicFile, ...],
    names: tuple[str, ...],
    ranges: tuple[tuple[int, int], ...] | None,
    quotes: Quotes,
    trades: str,
    unit: str | None,
    tick: float | None,
    tz: str,
) -> tuple[BinancePublicSource, ...]:
    """Return one source per instrument that has files of trades, whether it has quotes or not."""
    check_zone(tz)
    for field, value, known in (("quotes", quotes, ("book", "implied")), ("trades", trades, ("aggTrades", "trades"))):
        if value not in known:
            raise InvalidInput("unknown", field=field, value=value, remedy=f"choose among {', '.join(known)}")
    out = []
    for name in names:
        own = [f for f in files if f.instrument.name == name]
        kinds = {f.kind for f in own}
        # Both kinds tell the same trades: reading both would count them twice.
        kind = trades if trades in kinds else next((k for k in ("aggTrades", "trades") if k in kinds), None)
        if kind is None:
            continue
        tapes = _in_days((f for f in own if f.kind == kind), ranges)
        books = _in_days((f for f in own if f.kind == "bookTicker"), ranges)
        if not tapes:
            continue
        step = check_positive(tick, "tick") if tick is not None else _step_of((*books, *tapes)[0], unit)
        own_quotes: Quotes = "book" if books else quotes
        out.append(BinancePublicSource(own[0].instrument, tapes, books, step, own_quotes, unit, ranges, tz))
    return tuple(out)


def binance_public_sources(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    venue: str | None = None,
    quotes: Quotes = "book",
    trades: str = "aggTrades",
    unit: str | None = None,
    tick: float | None = None,
    contract_values: Mapping[str, float] | None = None,
    tz: str = "UTC",
) -> tuple[BinancePublicSource, ...]:
    """Return one source of ticks per instrument that has trades; the options are those of :func:`read_binance_public`.

    Raises
    ------
    InvalidInput, DataGap
        As the reader; also if there are no files of trades.
    """
    files, _ = list_files(Path(path).expanduser(), venue, contract_values)
    chosen = venues.select_names(sorted({f.instrument.name for f in files}), names)
    out = _tick_sources(files, chosen, venues.day_ranges(days, tz), quotes, trades, unit, tick, tz)
    if not out:
        raise DataGap(
            "there are no files of trades",
            field="path",
            value=str(path),
            remedy="klines hold bars: read them with crosswind.read",
        )
    return out


def read_binance_public(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    venue: str | None = None,
    quotes: Quotes = "book",
    trades: str = "aggTrades",
    unit: str | None = None,
    tick: float | None = None,
    contract_values: Mapping[str, float] | None = None,
    tz: str = "UTC",
    hours: tuple[str, str] | None = None,
    stale_limit_s: float = 300.0,
    report: ReadReport | None = None,
    progress: Progress | None = None,
) -> MarketData:
    """Read files of the public archive: events where there are trades and quotes, else bars with signed flow.

    The aggressor of a trade is exact: the buyer is the maker in a sale. Trades with files of bookTicker beside them
    make :class:`MarketEvents`; without, bars stamped at their start with

        flow = Σ sign · price · shares  [currency].

    Klines make bars with flow = 2 · (taker buy quote volume) − (quote volume). COIN-M volumes are contracts: there
    quote_volume = contracts · value, flow = (2 · taker buy contracts − contracts) · value, and ``base_volume`` is told.

    Parameters
    ----------
    path
        A file or a folder, searched with its subfolders, names as in the archive: BTCUSDT-aggTrades-2024-08-08.zip,
        BTCUSDT-1m-2024-08.csv. A ``.CHECKSUM`` beside a file is held against it.
    names
        E.g. 'BTCUSDT.spot', 'BTCUSDT.usdm', 'BTCUSD_PERP.cm'; default all.
    days
        Dates in ``tz``; default all.
    bucket_s
        Length of buckets and bars [s]; default 10, and the klines' own.
    venue
        'spot', 'usdm' or 'cm' where no folder ('spot', 'um', 'cm', …) holds the files.
    quotes
        'book', or 'implied': where there is no bookTicker, take the last price bought at as the ask and the last sold
        at as the bid, of no size. Depth is 0 then, and the spread that of trades, not of the book.
    trades
        Which files are read where both tell the trades: 'aggTrades' or 'trades'.
    unit
        'ms' or 'us' to be held against the stamps; default decided by them.
    tick
        Price step [currency]; default the greatest common step of the first prices.
    contract_values
        COIN-M symbol → currency per contract, where it is not the usual one.
    tz
        Zone whose dates are the sessions.
    hours
        Local opening and close; None: the market never closes.
    stale_limit_s
        Oldest quote that may be carried forward [s].
    report, progress
        Where facts and bad rows are noted; called with stage and fraction done.

    Returns
    -------
    MarketData
        With a note on instruments without quotes, and on quotes that are implied.

    Raises
    ------
    InvalidInput
        On an unknown venue, name or option, other columns, a wrong unit of time.
    DataGap
        On missing, empty, truncated or damaged files.
    """
    noted = ReadReport() if report is None else report
    width = 10.0 if bucket_s is None else check_positive(bucket_s, "bucket_s")
    files, left = list_files(Path(path).expanduser(), venue, contract_values)
    chosen = venues.select_names(sorted({f.instrument.name for f in files}), names)
    ranges = venues.day_ranges(days, tz)
    sources = _tick_sources(files, chosen, ranges, quotes, trades, unit, tick, tz)
    notes = list(left)
    implied = quotes == "implied"
    quoted = tuple(s for s in sources if s.books or implied)
    events: MarketEvents | None = None
    if quoted:
        currency, more = venues.common_currency(s.currency for s in quoted)
        events, told = events_of(
            quoted,
            bucket_s=width,
            hours=hours,
            tz=tz,
            currency=currency,
            stale_limit_s=stale_limit_s,
            report=noted,
            progress=progress,
        )
        notes += [*more, *told]
        notes += [f"{s.name}: quotes are implied by trades, depth is 0" for s in quoted if s.quotes == "implied"]
    bars: dict[str, Bars] = {}
    for source in sources:
        if source not in quoted:
            bars[source.name] = _bars_of(source, width, noted, progress)
            notes.append(f"{source.name}: there are no quotes beside the trades, so bars and no events")
    for name in chosen:
        own = _in_days((f for f in files if f.instrument.name == name and f.kind == "klines"), ranges)
        intervals = sorted({f.interval for f in own})
        for interval in intervals:
            key = name if len(intervals) == 1 and name not in bars else f"{name}.{interval}"
            series = tuple(f for f in own if f.interval == interval)
            made = read_klines(series, key, noted, unit=unit, ranges=ranges, bucket_s=bucket_s, progress=progress)
            if made is not None:
                bars[key] = made
    if events is None and not bars:
        raise DataGap(
            "no row of these days can be used", field="days", value=str(days), remedy="choose days that the files hold"
        )
    return MarketData(events, source=f"{FORMAT.scheme}:{path}", notes=tuple(notes), bars=bars, report=noted)


def _bars_of(source: BinancePublicSource, width_s: float, report: ReadReport, progress: Progress | None) -> Bars:
    """Return bars of the trades of one source, in one pass."""
    folder = BarFolder(width_s)
    for chunk in source.chunks(report, progress):
        folder.add_trades(chunk.trades, source.instrument.contract_value)
    report.instrument(source.name).facts.update(quotes="none", stamp="start")
    return folder.bars(source.name)
