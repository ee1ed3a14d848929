"""Reader of Binance's recorded websocket lines: trades with exact aggressors, best quotes and levels of the book."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.checks import check_names, check_positive, check_zone
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers import binance_venues as venues
from crosswind.problems.market.readers.binance_lines import decode, read_blocks
from crosswind.problems.market.readers.binance_messages import Columns, trade_columns
from crosswind.problems.market.readers.binance_run import RawRun
from crosswind.problems.market.readers.formats import Format
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress, TickChunk
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMAT", "BinanceRawSource", "RawFile", "binance_raw_sources", "read_binance_raw"]

FORMAT = Format(
    scheme="binance-raw",
    title="Binance websocket lines '<local ns> <json>', gz or plain, in a folder or a file",
    example="binance-raw:DIR or binance-raw:FILE.gz",
    reader="crosswind.problems.market.readers.binance_raw:read_binance_raw",
    sources="crosswind.problems.market.readers.binance_raw:binance_raw_sources",
)

_SUFFIXES = {".gz", ".json", ".jsonl", ".ndjson", ".txt", ".log"}
_FILE = re.compile(r"(?P<symbol>[A-Za-z0-9_]+?)[_-](?P<date>\d{8}|\d{4}-\d{2}-\d{2})")
_PEEK = 1 << 19  # text looked at for symbol, clock and price step
_LOCAL_NS = (10**17, 4 * 10**18)  # 1973 to 2096: stamps of other magnitudes are not in ns

Clock = Literal["exchange", "local"]


@dataclass(frozen=True)
class RawFile:
    """One recorded file: its instrument, the UTC day in its name, and its first receive time.

    Parameters
    ----------
    path
        Where it lies.
    instrument
        What it holds.
    day_ns
        Midnight (UTC) of the date in its name [ns]; None if the name tells none.
    first_ns
        First local receive time [ns].
    factor
        Nanoseconds of one unit of its exchange stamps.
    tick
        Greatest common step of the prices at its beginning.
    """

    path: Path
    instrument: venues.Instrument
    day_ns: int | None
    first_ns: int
    factor: int
    tick: float


@dataclass(frozen=True)
class BinanceRawSource:
    """The ticks of one instrument, its files in order of time.

    Parameters
    ----------
    instrument, files
        What is read.
    tick
        Smallest price step [currency].
    clock
        'exchange': transaction time; 'local': receive time.
    levels
        Levels of the book handed on as :class:`DepthTape`; 0 none.
    trades
        Which stream holds the trades: 'trade' or 'aggTrade'.
    ranges
        Times handed on, [start, end) [ns]; None for all.
    tz
        Zone whose dates are the sessions.
    currency
        Of prices.
    """

    instrument: venues.Instrument
    files: tuple[RawFile, ...]
    tick: float
    clock: Clock = "exchange"
    levels: int = 0
    trades: str = "trade"
    ranges: tuple[tuple[int, int], ...] | None = None
    tz: str = "UTC"
    currency: str = field(default="USDT")

    @property
    def name(self) -> str:
        """E.g. 'BTCUSDT.spot'."""
        return self.instrument.name

    @property
    def venue(self) -> str:
        """E.g. 'binance spot'."""
        return self.instrument.venue

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield the ticks of all files, in order of the clock chosen; see :func:`read_binance_raw`."""
        run = RawRun(self.instrument, self.clock, self.levels, self.trades, self.tick, report)
        total = sum(f.path.stat().st_size for f in self.files) or 1
        before = 0
        for one in self.files:
            size = one.path.stat().st_size
            report.file(one.path, size)

            def step(done: int, before: int = before) -> None:
                if progress is not None:
                    progress(self.name, (before + done) / total)

            for text in read_blocks(one.path, report, step=step):
                messages = decode(text, report, one.path, depth=self.levels > 0)
                chunk = run.take(messages, one.path, one.factor, one.day_ns)
                yield from self._cut(chunk)
            before += size
        yield from self._cut(run.finish())

    def _cut(self, chunk: TickChunk | None) -> Iterator[TickChunk]:
        """Yield the part of ``chunk`` that lies in the days asked for, if there is any."""
        if chunk is None:
            return
        if self.ranges is not None:
            depth = chunk.depth
            if depth is not None:
                keep = venues.in_ranges(depth.known_ns, self.ranges)
                depth = replace(
                    depth,
                    **{c: getattr(depth, c)[keep] for c in ("known_ns", "bid", "bid_shares", "ask", "ask_shares")},
                )
            chunk = TickChunk(
                chunk.trades.take(venues.in_ranges(chunk.trades.time_ns, self.ranges)),
                chunk.quotes.take(venues.in_ranges(chunk.quotes.known_ns, self.ranges)),
                depth,
            )
        if len(chunk.trades) or len(chunk.quotes) or (chunk.depth is not None and len(chunk.depth)):
            yield chunk


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataGap("there is no such file or folder", field="path", value=str(root), remedy="check the path")
    found = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in _SUFFIXES and not p.name.startswith("."))
    if not found:
        raise DataGap(
            "holds no recorded files",
            field="path",
            value=str(root),
            remedy=f"files end in {', '.join(sorted(_SUFFIXES))}",
        )
    return found


def _peek(path: Path, market: str, trades: str) -> tuple[str, int, int, float]:
    """Return symbol, first local time [ns], ns per unit of the exchange's stamps and price step of one file."""
    scratch = ReadReport()  # what is wrong in these lines is counted when they are read
    text = next(read_blocks(path, scratch, block=_PEEK), b"")
    messages = decode(text, scratch, path, depth=True)
    locals_ = [t for times in messages.local.values() for t in times]
    if not locals_:
        reasons = ", ".join(scratch.by_reason()) or "no line"
        raise DataGap(
            f"holds no line '<local ns> <json>' of trades, quotes or depth ({reasons})",
            field="file",
            value=str(path),
            remedy="take it out, or check that it is a recording of this kind",
        )
    first = int(np.median(locals_[:5]))
    if not _LOCAL_NS[0] <= first <= _LOCAL_NS[1]:
        raise InvalidInput(
            "its local times are not nanoseconds since 1970",
            field="local time",
            value=f"{first} in {path}",
            remedy="write receive times in ns before each message",
        )
    data = {kind: [m for m in rows if isinstance(m, dict)] for kind, rows in messages.data.items()}
    _check_market(data, market, path)
    every = [m for rows in data.values() for m in rows]
    symbol = next((m["s"] for m in every if isinstance(m.get("s"), str)), "")
    events = [m["E"] for m in every if isinstance(m.get("E"), int)] or [e for _, e in messages.timed]
    events = [e for e in events if 0 <= e < 2**62]
    factor = venues.stamp_factor(np.array(events, dtype=np.int64), path) if events else 10**6
    if events and abs(float(np.median(events)) * factor - np.median(locals_)) > venues.DAY_NS:
        raise InvalidInput(
            "exchange and local times are more than a day apart: one of them is in another unit or zone",
            field="time",
            value=f"{events[0]} against {first} ns in {path}",
            remedy="check both clocks of the recording",
        )
    prices = Columns(data.get("bookTicker", []), ("b", "a")).numbers("b", "a")
    traded = trade_columns(data.get(trades, []))
    seen = np.concatenate([*prices, traded.numbers("p")[0]])
    return symbol, first, factor, venues.price_step(seen) if np.isfinite(seen).any() else np.nan


def _check_market(data: Mapping[str, list[dict[str, Any]]], market: str, path: Path) -> None:
    """Refuse streams whose fields are those of another venue: their quantities would be in another unit."""
    ticker = next(iter(data.get("bookTicker", [])), None)
    depth = next(iter(data.get("depth", [])), None)
    futures = (ticker is not None and "T" in ticker) or (depth is not None and "pu" in depth)
    inverse = any(m is not None and "ps" in m for m in (ticker, depth))
    looks = "cm" if inverse else "usdm" if futures else "spot"
    if (ticker is not None or depth is not None) and looks != market:
        raise InvalidInput(
            f"its fields are those of {looks}, not of {market}",
            field="venue",
            value=str(path),
            remedy=f"pass venue='{looks}', or move the file",
        )


def binance_raw_sources(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    venue: str | None = None,
    clock: Clock = "exchange",
    levels: int = 0,
    trades: str = "trade",
    tick: float | None = None,
    contract_values: Mapping[str, float] | None = None,
    tz: str = "UTC",
) -> tuple[BinanceRawSource, ...]:
    """Return one source of ticks per instrument; the options are those of :func:`read_binance_raw`.

    Raises
    ------
    InvalidInput, DataGap
        On an unknown venue, option or name, a missing, empty or damaged file, a wrong unit of time.
    """
    check_zone(tz)
    for field_, value, known in (("clock", clock, ("exchange", "local")), ("trades", trades, ("trade", "aggTrade"))):
        if value not in known:
            raise InvalidInput("unknown", field=field_, value=value, remedy=f"choose among {', '.join(known)}")
    if not isinstance(levels, int) or isinstance(levels, bool) or levels < 0:
        raise InvalidInput("not a number of levels", field="levels", value=levels, remedy="give 0, 1, 5, 10, …")
    groups: dict[str, list[RawFile]] = {}
    names = None if names is None else check_names(names, "names")
    others: set[str] = set()
    for file in _files(Path(path).expanduser()):
        market = venues.venue_of(file, venue)
        told = _FILE.fullmatch(file.name.split(".")[0])
        if told is not None and names is not None and f"{told['symbol'].upper()}.{market}" not in names:
            others.add(f"{told['symbol'].upper()}.{market}")  # not asked for: not even looked into
            continue
        symbol, first, factor, step = _peek(file, market, trades)
        chosen = told["symbol"] if told is not None else symbol
        if not chosen:
            raise InvalidInput(
                "the symbol is unknown", field="file", value=str(file), remedy="name files like btcusdt_20240808.gz"
            )
        day = None if told is None else int(np.datetime64(_iso(told["date"], file), "ns").astype(np.int64))
        instrument = venues.instrument_of(chosen, market, contract_values)
        if symbol and symbol.upper() != instrument.symbol:
            raise InvalidInput(
                "the file's name says another symbol than its first lines",
                field="file",
                value=f"{symbol} in {file}",
                remedy="rename the file after what it holds",
            )
        groups.setdefault(instrument.name, []).append(RawFile(file, instrument, day, first, factor, step))
    ranges = venues.day_ranges(days, tz)
    out = []
    for name in venues.select_names(sorted({*groups, *others}), names):
        files = tuple(sorted(groups[name], key=lambda f: (f.first_ns, str(f.path))))
        steps = [f.tick for f in files if np.isfinite(f.tick)]
        if tick is None and not steps:
            raise DataGap(
                "there are no trades or quotes", field="file", value=str(files[0].path), remedy="leave it out"
            )
        own = min(steps) if tick is None else check_positive(tick, "tick")
        instrument = files[0].instrument
        out.append(
            BinanceRawSource(instrument, files, own, clock, levels, trades, ranges, tz=tz, currency=instrument.currency)
        )
    return tuple(out)


def _iso(text: str, path: Path) -> str:
    iso = text if "-" in text else f"{text[:4]}-{text[4:6]}-{text[6:]}"
    try:
        np.datetime64(iso, "D")
    except ValueError as error:
        raise InvalidInput(
            "the date in the file's name is none", field="file", value=str(path), remedy="name it YYYYMMDD"
        ) from error
    return iso


def read_binance_raw(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    venue: str | None = None,
    clock: Clock = "exchange",
    levels: int = 0,
    trades: str = "trade",
    tick: float | None = None,
    contract_values: Mapping[str, float] | None = None,
    tz: str = "UTC",
    hours: tuple[str, str] | None = None,
    stale_limit_s: float = 300.0,
    report: ReadReport | None = None,
    progress: Progress | None = None,
) -> MarketData:
    """Read recorded websocket lines ``<local ns> <json>`` of trade, bookTicker and depth streams into buckets.

    Files of one instrument continue each other. The aggressor is exact: the buyer is the maker (``m``) in a sale.
    COIN-M quantities are contracts of 100 USD (BTC) or 10 USD (others): shares = contracts · value / price.

    The exchange's clock is its transaction time ``T``. Spot's bookTicker carries no time: there the local receive time
    is put on the exchange's clock by taking off the smallest latency (local − event time ``E``) of the messages
    received before it, so that quotes come late rather than early. A local clock that stands behind the exchange's
    gives negative latencies: they are reported, as ``clock="local"`` then tells events before they happened.

    Parameters
    ----------
    path
        A file or a folder, searched with its subfolders. Files are named like ``btcusdt_20240808.gz``.
    names
        E.g. 'BTCUSDT.spot', 'BTCUSDT.usdm', 'BTCUSD_PERP.cm'; default all.
    days
        Dates in ``tz``; default all.
    bucket_s
        Bucket length [s]; default 10.
    venue
        'spot', 'usdm' or 'cm' where no folder of that name holds the files.
    clock
        'exchange' or 'local' (receive time).
    levels
        Levels of the book that the ticks carry, rebuilt from the depth updates; 0 none.
    trades
        The stream that holds the trades: 'trade' or 'aggTrade'.
    tick
        Price step [currency]; default the greatest common step of the prices at the files' beginning.
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

    Raises
    ------
    InvalidInput
        On an unknown venue, symbol, name or option, a wrong unit of time.
    DataGap
        On a missing, empty or damaged file, no common time, quotes older than the limit.
    """
    noted = ReadReport() if report is None else report
    sources = binance_raw_sources(
        path,
        names,
        days,
        venue=venue,
        clock=clock,
        levels=0,  # buckets hold the best level; a book asked for is checked below all the same
        trades=trades,
        tick=tick,
        contract_values=contract_values,
        tz=tz,
    )
    if levels:
        sources = tuple(replace(s, levels=levels) for s in sources)
    currency, notes = venues.common_currency(s.currency for s in sources)
    events, more = events_of(
        sources,
        bucket_s=10.0 if bucket_s is None else bucket_s,
        hours=hours,
        tz=tz,
        currency=currency,
        stale_limit_s=stale_limit_s,
        report=noted,
        progress=progress,
    )
    clocks = tuple(
        f"{s.name}: {fact}" for s in sources for fact in (noted.instrument(s.name).facts.get("clock_trap"),) if fact
    )
    return MarketData(events, source=f"{FORMAT.scheme}:{path}", notes=(*notes, *clocks, *more), report=noted)
