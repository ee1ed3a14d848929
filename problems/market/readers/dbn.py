"""Reader of Databento's DBN files: trades and books to synchronised buckets, bars as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.checks import as_dates, check_names, check_positive
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers import dbn_files as files
from crosswind.problems.market.readers.formats import Format
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import DepthTape, Progress, QuoteTape, TickChunk, TradeTape, ran_ahead
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMAT", "DbnSource", "dbn_sources", "read_dbn"]

FORMAT = Format(
    scheme="dbn",
    title="Databento's DBN files (mbp-1, mbp-10, tbbo; ohlcv as bars), zstd or plain",
    example="dbn:FILE.dbn.zst or dbn:DIR",
    reader="crosswind.problems.market.readers.dbn:read_dbn",
    sources="crosswind.problems.market.readers.dbn:dbn_sources",
    needs=("databento_dbn",),
)

_BOOKS = {"tbbo": 1, "mbp-1": 1, "mbp-10": 10}
_MAYBE_BAD_BOOK = 0x04
_BAD_RECEIVE_TIME = 0x08
_UNDEFINED_TIME = np.iinfo(np.uint64).max
_EQUITIES = (
    "XNAS",
    "XNYS",
    "ARCX",
    "BATS",
    "BATY",
    "EDGA",
    "EDGX",
    "XBOS",
    "XPSX",
    "XCIS",
    "XASE",
    "IEXG",
    "EQUS",
    "DBEQ",
)
_SIGN = {b"B": 1, b"A": -1}  # the side of a trade is the aggressor's

Clock = Literal["receive", "event"]


@dataclass(frozen=True)
class DbnSource:
    """The ticks of one symbol over one or several files.

    Parameters
    ----------
    name
        Raw symbol.
    recordings
        Files in the order of their time.
    multiplier
        Currency per point and contract; 1 for shares.
    levels
        Levels handed on as :class:`DepthTape`; 0 none.
    clock
        "receive" (when Databento captured it) or "event" (when the venue made it).
    """

    name: str
    recordings: tuple[files.DbnFile, ...]
    venue: str
    tz: str
    multiplier: float = 1.0
    levels: int = 0
    clock: Clock = "receive"
    tick: float = 0.01
    currency: str = "USD"

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield the ticks in time order, a block of records at a time.

        Raises
        ------
        DataGap
            If a file is truncated, damaged or of another kind inside.
        """
        stamp = {"receive": "ts_recv, when captured", "event": "ts_event, the venue's own time"}[self.clock]
        facts = report.instrument(
            self.name,
            self.venue,
            "ticks",
            clock=f"{stamp}, ns since 1970 UTC",
            stamp="event",
            price_unit=f"{self.currency} (the files hold units of 1e-9)",
            quantity_unit="shares" if self.multiplier == 1.0 else f"contracts of {self.multiplier:g} per point",
            tick=f"{self.tick:g}",
            sign="the aggressor's side, as the venue published it",
        )
        last = -1
        for number, file in enumerate(self.recordings):
            for block in files.records(file, report):
                if progress is not None:
                    progress(f"{self.name} {file.path.name}", number / len(self.recordings))
                rows = block[files.symbol_ids(file, self.name, block)]
                rows, time = self._clocked(rows, file, report, last)
                if not len(rows):
                    continue
                last = int(time[-1])
                chunk = TickChunk(self._trades(rows, time, file, report), *self._quotes(rows, time, file, report))
                for kind, times in (("trades", chunk.trades.time_ns), ("quotes", chunk.quotes.known_ns)):
                    if len(times):
                        facts.saw(kind, len(times), int(times[0]), int(times[-1]))
                yield chunk

    def _clocked(
        self, rows: npt.NDArray[np.void], file: files.DbnFile, report: ReadReport, last: int
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
        raw = rows["ts_recv" if self.clock == "receive" else "ts_event"]
        bad = raw == _UNDEFINED_TIME
        if self.clock == "receive":
            bad = bad | ((rows["flags"] & _BAD_RECEIVE_TIME) != 0)
        report.bad(file.path, "no trustworthy time", int(bad.sum()))
        rows, time = rows[~bad], raw[~bad].astype(np.int64)
        jump = ran_ahead(time, last)
        report.bad(file.path, "clock jump", int(jump.sum()), time[jump][:1].tolist())
        rows, time = rows[~jump], time[~jump]
        late = time < np.maximum.accumulate(np.concatenate([[last], time]))[:-1]
        report.bad(file.path, "out of order", int(late.sum()), time[late][:1].tolist())
        same = np.zeros(len(rows), dtype=bool)
        same[1:] = rows[1:] == rows[:-1]
        report.bad(file.path, "duplicate", int((same & ~late).sum()))
        keep = ~(late | same)
        return rows[keep], time[keep]

    def _trades(
        self, rows: npt.NDArray[np.void], time: npt.NDArray[np.int64], file: files.DbnFile, report: ReadReport
    ) -> TradeTape:
        traded = rows["action"] == b"T"
        price, size = rows["price"] * files.PRICE_SCALE, rows["size"].astype(np.float64)
        undefined = traded & (rows["price"] == files.UNDEFINED_PRICE)
        # Spreads trade at zero and below, honestly; flow in currency has no meaning for them.
        poor = traded & ~undefined & ((rows["price"] <= 0) | (rows["size"] == 0))
        report.bad(file.path, "trade without a price", int(undefined.sum()))
        report.bad(file.path, "zero or negative price or size", int(poor.sum()), price[poor][:1].tolist())
        use = traded & ~undefined & ~poor
        side = rows["side"][use]
        sign = np.select([side == code for code in _SIGN], list(_SIGN.values()), 0).astype(np.int8)
        unknown = int((sign == 0).sum())
        if unknown:
            facts = report.instrument(self.name).facts
            facts["trades_without_aggressor"] = str(int(facts.get("trades_without_aggressor", "0")) + unknown)
        shares = size[use] * self.multiplier
        return TradeTape(time[use], price[use], shares, np.ones(int(use.sum()), dtype=bool), sign)

    def _quotes(
        self, rows: npt.NDArray[np.void], time: npt.NDArray[np.int64], file: files.DbnFile, report: ReadReport
    ) -> tuple[QuoteTape, DepthTape | None]:
        levels = rows["levels"]
        bid, ask = (_price(levels[side]) for side in ("bid", "ask"))
        sizes = [levels[side].astype(np.float64) * self.multiplier for side in ("bid_size", "ask_size")]
        doubtful = (rows["flags"] & _MAYBE_BAD_BOOK) != 0
        empty = ~doubtful & ~(np.isfinite(bid[:, 0]) & np.isfinite(ask[:, 0]))
        with np.errstate(invalid="ignore"):
            crossed = ~doubtful & (ask[:, 0] < bid[:, 0])
        report.bad(file.path, "book flagged as doubtful", int(doubtful.sum()))
        report.bad(file.path, "one side of the book is empty", int(empty.sum()))
        report.bad(file.path, "crossed book", int(crossed.sum()), bid[crossed][:1].tolist())
        use = ~(doubtful | empty | crossed)
        top = (bid[use, 0], ask[use, 0], sizes[0][use, 0], sizes[1][use, 0])
        quotes = QuoteTape(time[use], *top)
        if not self.levels:
            return quotes, None
        part = slice(0, self.levels)
        return quotes, DepthTape(time[use], bid[use, part], sizes[0][use, part], ask[use, part], sizes[1][use, part])


def _price(raw: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    price: npt.NDArray[np.float64] = np.where(raw == files.UNDEFINED_PRICE, np.nan, raw * files.PRICE_SCALE)
    return price


def _opened(path: Any, schema: str | None) -> tuple[files.DbnFile, ...]:
    """Return the files of one schema, in the order of their time."""
    opened = [files.open_dbn(file) for file in files.find_files(path)]
    schemas = sorted({file.schema for file in opened})
    if schema is None and len(schemas) > 1:
        raise InvalidInput(
            "the files are of different schemas",
            field="schema",
            value=schemas,
            remedy="say which one to read with schema=…",
        )
    chosen = [file for file in opened if schema in (None, file.schema)]
    if not chosen:
        raise InvalidInput("no file of that schema", field="schema", value=schema, remedy=f"one of {schemas}")
    return tuple(sorted(chosen, key=lambda file: (file.start_ns, file.path.name)))


def _symbols(opened: tuple[files.DbnFile, ...], names: Iterable[str] | None) -> tuple[str, ...]:
    available = tuple(dict.fromkeys(name for file in opened for name in file.symbols))
    if not available:
        raise DataGap(
            "the metadata name no symbol", field="file", value=str(opened[0].path), remedy="request it with symbols"
        )
    chosen = available if names is None else check_names(names, "names")
    unknown = [name for name in chosen if name not in available]
    if unknown:
        raise InvalidInput(
            "unknown symbol", field="names", value=unknown, remedy=f"choose among {', '.join(available[:20])}"
        )
    return chosen


def dbn_sources(
    path: Any,
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    schema: str | None = None,
    levels: int = 0,
    multiplier: float | Mapping[str, float] | None = None,
    clock: Clock = "receive",
    tick: float | None = None,
    tz: str | None = None,
) -> tuple[DbnSource, ...]:
    """Return one source per symbol of the files at ``path``.

    Parameters
    ----------
    path
        A file or a folder.
    names
        Raw symbols; default all in the metadata.
    days
        Not used: ticks of all days are streamed.
    schema
        Which schema to read where a folder holds several.
    levels
        Levels of the book to hand on, up to those of the schema.
    multiplier
        Currency per point and contract, one number or by symbol. Shares need none; a future must be told.
    clock
        "receive" or "event".
    tick
        Price step [currency]; default 0.01 for shares.
    tz
        The venue's zone; default New York for US equities, else UTC.

    Raises
    ------
    InvalidInput
        On an unknown symbol, schema, clock or number of levels, and for futures without a multiplier.
    DataGap
        On absent, truncated or damaged files.
    MissingDependency
        Without the package databento-dbn.
    """
    opened = _opened(path, schema)
    kind, dataset = opened[0].schema, opened[0].dataset
    if kind not in _BOOKS:
        raise InvalidInput(
            "has no quotes, so it gives no ticks with a prevailing quote",
            field="schema",
            value=kind,
            remedy="fetch mbp-1, mbp-10 or tbbo",
        )
    if clock not in ("receive", "event"):
        raise InvalidInput("unknown clock", field="clock", value=clock, remedy="say 'receive' or 'event'")
    if isinstance(levels, bool) or not isinstance(levels, int) or not 0 <= levels <= _BOOKS[kind]:
        raise InvalidInput(
            f"{kind} has {_BOOKS[kind]} levels", field="levels", value=levels, remedy="ask for no more than that"
        )
    equity = dataset.split(".")[0] in _EQUITIES
    chosen = _symbols(opened, names)
    given = multiplier if isinstance(multiplier, Mapping) else dict.fromkeys(chosen, multiplier)
    sources = []
    for name in chosen:
        value = given.get(name)
        if value is None and not equity:
            raise InvalidInput(
                f"what one contract of {name} is worth is not in the file, and notionals need it",
                field="multiplier",
                value=dataset,
                remedy="pass multiplier=50.0 for ES, 1.0 if sizes are shares, or a mapping by symbol",
            )
        sources.append(
            DbnSource(
                name=name,
                recordings=tuple(file for file in opened if name in file.symbols),
                venue=dataset,
                tz=tz or ("America/New_York" if equity else "UTC"),
                multiplier=1.0 if value is None else check_positive(value, "multiplier"),
                levels=levels,
                clock=clock,
                tick=0.01 if tick is None else check_positive(tick, "tick"),
            )
        )
    return tuple(sources)


def read_dbn(
    path: Any,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    report: ReadReport,
    progress: Progress | None = None,
    schema: str | None = None,
    multiplier: float | Mapping[str, float] | None = None,
    clock: Clock = "receive",
    tick: float | None = None,
    hours: tuple[str, str] | None = None,
    tz: str | None = None,
    stale_limit_s: float = 300.0,
) -> MarketData:
    """Read DBN files: ``mbp-1``, ``mbp-10`` and ``tbbo`` into buckets, ``ohlcv-*`` into bars.

    The side of a trade is the aggressor's, as the venue published it; where it published none the trade counts as
    volume without flow. Prices are integers of 1e-9; undefined ones mark an empty side and are not used.

    Parameters
    ----------
    path
        A file (.dbn, .dbn.zst) or a folder of them.
    names, days
        Raw symbols and local dates; default all.
    bucket_s
        Bucket length [s], default 10; not for bars, which have their own.
    report
        Takes facts and bad rows.
    progress
        Called with the stage and the fraction done.
    schema
        Which schema to read where a folder holds several.
    multiplier
        Currency per point and contract, one number or by symbol; needed for futures.
    clock
        "receive": the time of capture, which a user could have known; "event": the venue's own time.
    tick
        Price step [currency]; locked quotes are widened to it.
    hours
        Local opening and close; default 09:30 to 16:00 for US equities, else the whole day.
    tz
        The venue's zone; default New York for US equities, else UTC.
    stale_limit_s
        Oldest quote that may be carried forward [s].

    Returns
    -------
    MarketData

    Raises
    ------
    InvalidInput
        On an unknown symbol or schema, a future without its multiplier, ``trades`` files (they have no quotes).
    DataGap
        On absent, truncated or damaged files, a missing day.
    MissingDependency
        Without the package databento-dbn.

    Notes
    -----
    Databento's documentation: "Schemas and data formats", "Common fields, enums and types".
    """
    opened = _opened(path, schema)
    if opened[0].schema in files.BARS_S:
        return _bars(opened, path, names, days, report)
    sources = dbn_sources(path, names, schema=schema, multiplier=multiplier, clock=clock, tick=tick, tz=tz)
    equity = sources[0].venue.split(".")[0] in _EQUITIES
    events, notes = events_of(
        sources,
        bucket_s=10.0 if bucket_s is None else bucket_s,
        hours=("09:30", "16:00") if hours is None and equity else hours,
        tz=sources[0].tz,
        currency="USD",
        stale_limit_s=stale_limit_s,
        days=days,
        report=report,
        progress=progress,
    )
    return MarketData(events, source=f"dbn:{path}", notes=notes)


def _bars(
    opened: tuple[files.DbnFile, ...], path: Any, names: Iterable[str] | None, days: Any, report: ReadReport
) -> MarketData:
    """Return the bars of each symbol, stamped at their start as in the files."""
    length = files.BARS_S[opened[0].schema]
    parts: dict[str, list[npt.NDArray[np.void]]] = {name: [] for name in _symbols(opened, names)}
    for file in opened:
        for block in files.records(file, report):
            for name, found in parts.items():
                found.append(block[files.symbol_ids(file, name, block)])
    wanted = as_dates(days)
    bars: dict[str, Bars] = {}
    for name, found in parts.items():
        rows = np.concatenate(found)
        time = rows["ts_event"].astype(np.int64)
        bad = np.zeros(len(rows), dtype=bool)
        bad[1:] = time[1:] <= np.maximum.accumulate(time)[:-1]
        report.bad(path, "duplicate or out of order", int(bad.sum()))
        prices = np.column_stack([rows[c] for c in ("open", "high", "low", "close")]) if len(rows) else np.zeros((0, 4))
        poor = ~bad & ((prices <= 0) | (prices == files.UNDEFINED_PRICE)).any(axis=1)
        report.bad(path, "zero, negative or undefined price", int(poor.sum()))
        keep = ~(bad | poor)
        index = pd.DatetimeIndex(time[keep], tz="UTC").as_unit("ns")
        frame = pd.DataFrame(prices[keep] * files.PRICE_SCALE, index=index, columns=["open", "high", "low", "close"])
        frame["volume"] = rows["volume"][keep].astype(np.float64)
        if wanted is not None:
            frame = frame[[day in wanted for day in index.date]]
        if not len(frame):
            raise DataGap("there is no bar", field="names", value=name, remedy="choose other days or symbols")
        at = pd.DatetimeIndex(frame.index).asi8
        report.instrument(
            name,
            opened[0].dataset,
            "bars",
            clock="ts_event, ns since 1970 UTC",
            stamp="start",
            price_unit="currency (the files hold units of 1e-9)",
            quantity_unit="shares or contracts",
        ).saw("bars", len(frame), int(at[0]), int(at[-1]))
        bars[name] = Bars(frame, length, "start")
    return MarketData(None, source=f"dbn:{path}", bars=bars)
