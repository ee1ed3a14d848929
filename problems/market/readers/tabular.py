"""A user's own csv or parquet tables: buckets or ticks, long or wide, through a mapping of column names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.buckets import events_of_parts
from crosswind.problems.market.checks import check_names, check_positive, check_zone, utc_index
from crosswind.problems.market.events import FIELDS, MarketEvents
from crosswind.problems.market.hours import Hours
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers.formats import Format, call_options
from crosswind.problems.market.readers.table_ticks import PART_ROWS, TableTicks, first_rows
from crosswind.problems.market.readers.tables import Clock, load_tables, long_table, pivot, table_files, wide_table
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress, TickChunk, TickSource
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMATS", "read_parquet", "read_table", "table_sources"]


def read_table(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    format: Literal["csv", "parquet"] = "csv",
    columns: Mapping[str, str] | None = None,
    tz: str = "America/New_York",
    source_tz: str | None = None,
    time_unit: str | None = None,
    stamp: Literal["start", "end"] = "end",
    hours: Hours = ("09:30", "16:00"),
    tick: float = 0.01,
    stale_limit_s: float = 300.0,
    currency: str = "USD",
    chunk_rows: int | None = None,
    report: ReadReport | None = None,
    progress: Progress | None = None,
) -> MarketData:
    """Read plain tables.

    What a table holds is told by its columns, after renaming:

    - **buckets, long**: ``time, name, flow, mid, spread, volume, depth``, one row per bucket and name;
    - **ticks, long**: ``time, name, price, size, bid, ask, bid_size, ask_size`` and, if known, ``side``: one row per
      trade with the quote that prevailed at it;
    - **buckets, wide**: a folder of ``flow, mid, spread, volume, depth``, each with ``time`` and a column per name;
    - **ticks and quotes apart**: a folder of ``trades`` (``time, name, price, size[, side]``) and ``quotes``
      (``time, name, bid, ask, bid_size, ask_size``; ``time`` is when the quote was known).

    A folder of other files is read as parts of one long table.

    Ticks are read in parts, so files may be larger than memory. Within a part rows may stand in any order; from part to
    part the times of a name must not go back. Up to one bad row in a hundred is left out and counted by reason; more
    are refused.

    Parameters
    ----------
    path
        A file or a folder.
    names
        Names to keep, in this order; default all, in alphabetical order (wide: in the file's).
    days
        Local dates to keep; default all.
    bucket_s
        Ticks: bucket length [s], default 10. Buckets: their length after resampling; default as they are.
    format
        "csv" or "parquet".
    columns
        Standard name → the table's name, e.g. ``{"time": "ts", "price": "px"}``.
    tz
        The exchange's zone; its dates are the sessions.
    source_tz
        Zone in which naive times are written. Without it naive times are refused.
    time_unit
        "s", "ms", "us" or "ns" if times are numbers since 1970 UTC.
    stamp
        Whether buckets are stamped at their "start" or "end".
    hours
        Local opening and close, a calendar with ``edges_ns(day)``, or None for markets that never close; for ticks.
    tick
        Price step [currency]; locked quotes are widened to it. For ticks.
    stale_limit_s
        Oldest quote that may be carried forward [s]; for ticks.
    currency
        Currency of prices and notionals.
    chunk_rows
        Ticks: rows held at a time; default 250 000.
    report
        Collects files, instruments and bad rows.
    progress
        Called with stage and fraction done.

    Returns
    -------
    MarketData

    Raises
    ------
    InvalidInput
        On absent columns, a wrong time_unit, naive times, duplicates, malformed values.
    DataGap
        On an absent or unreadable file, a missing day, buckets that some names lack, quotes older than the limit.
    """
    folder = Path(path).expanduser()
    check_zone(tz)
    if stamp not in ("start", "end"):
        raise InvalidInput("unknown stamp", field="stamp", value=stamp, remedy="say 'start' or 'end'")
    report = ReadReport() if report is None else report
    clock = Clock(source_tz, time_unit)
    heads = first_rows(folder, format, columns)
    source = f"{format}:{path}"
    wide = set(FIELDS) <= set(heads)
    if wide or all(set(FIELDS) <= set(head.columns) for head in heads.values()):
        tables = load_tables(folder, format, columns)
        if wide:
            frames = {field: wide_table(tables[field], clock, field) for field in FIELDS}
        else:
            long = long_table(pd.concat(list(tables.values()), ignore_index=True), clock, FIELDS, source)
            frames = {field: pivot(long, field) for field in FIELDS}
        events = _buckets(frames, names, days, bucket_s, tz, stamp, currency)
        _note_buckets(events, folder, format, stamp, report)
        return MarketData(events, source=source, report=report)
    ticks = _ticks(folder, format, columns, clock, tz, heads, chunk_rows)
    events, notes = events_of_parts(
        ticks.parts(report, progress),
        names=None if names is None else check_names(names, "names"),
        bucket_s=10.0 if bucket_s is None else bucket_s,
        hours=hours,
        tz=tz,
        currency=currency,
        tick=tick,
        stale_limit_s=stale_limit_s,
        days=days,
        report=report,
    )
    return MarketData(events, source=source, notes=notes, report=report)


def _ticks(
    folder: Path,
    format: str,
    columns: Mapping[str, str] | None,
    clock: Clock,
    tz: str,
    heads: Mapping[str, pd.DataFrame],
    chunk_rows: int | None,
) -> TableTicks:
    rows = PART_ROWS if chunk_rows is None else chunk_rows
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 2:
        raise InvalidInput("not a number of rows", field="chunk_rows", value=chunk_rows, remedy="give at least 2")
    return TableTicks(folder, format, columns, clock, tz, {"trades", "quotes"} <= set(heads), rows)


def _note_buckets(events: MarketEvents, folder: Path, format: str, stamp: str, report: ReadReport) -> None:
    for file in table_files(folder, format):
        report.file(file, file.stat().st_size)
    for name in events.names:
        facts = report.instrument(name, "", "buckets", stamp=f"{stamp}, moved to the end", price_unit="currency")
        facts.saw("buckets", len(events.index), int(events.index.asi8[0]), int(events.index.asi8[-1]))


@dataclass(frozen=True)
class _TableSource:
    """One name of a table of ticks."""

    name: str
    ticks: TableTicks
    currency: str
    tick: float
    venue: str = ""

    @property
    def tz(self) -> str:
        return self.ticks.tz

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield the name's ticks; the file is read in parts, and the rows of other names are skipped."""
        for part in self.ticks.parts(report, progress):
            if self.name in part:
                yield part[self.name]


def table_sources(
    path: str | Path,
    names: Iterable[str] | None = None,
    *,
    format: Literal["csv", "parquet"] = "csv",
    columns: Mapping[str, str] | None = None,
    tz: str = "America/New_York",
    source_tz: str | None = None,
    time_unit: str | None = None,
    tick: float = 0.01,
    currency: str = "USD",
    chunk_rows: int | None = None,
) -> tuple[TickSource, ...]:
    """Return the tick sources of a table, one per name; see :func:`read_table` for the arguments.

    Without ``names`` the table is read once to learn them. Each source reads the table for itself.

    Raises
    ------
    InvalidInput, DataGap
        As :func:`read_table`.
    """
    folder = Path(path).expanduser()
    check_zone(tz)
    check_positive(tick, "tick")
    heads = first_rows(folder, format, columns)
    ticks = _ticks(folder, format, columns, Clock(source_tz, time_unit), tz, heads, chunk_rows)
    if names is None:
        found: set[str] = set()
        for part in ticks.parts(ReadReport()):
            found |= set(part)
        names = sorted(found)
    return tuple(_TableSource(n, ticks, currency, tick) for n in check_names(names, "names"))


def _buckets(
    frames: Mapping[str, pd.DataFrame],
    names: Iterable[str] | None,
    days: Any,
    bucket_s: float | None,
    tz: str,
    stamp: str,
    currency: str,
) -> MarketEvents:
    """Return buckets that are already aggregated, their length taken from the smallest step."""
    flow = frames["flow"]
    chosen = _choose(names, list(flow.columns))
    for field, frame in frames.items():
        holes = frame.reindex(columns=list(chosen)).isna()
        if holes.to_numpy().any():
            row, col = (int(k) for k in np.argwhere(holes.to_numpy())[0])
            raise DataGap(
                f"{int(holes.to_numpy().sum())} buckets are empty, first {frame.index[row]} of {chosen[col]}",
                field=field,
                value=np.nan,
                remedy="fill the gaps, or leave the name or the day out",
            )
    index = utc_index(pd.DatetimeIndex(flow.index), "time")
    if len(index) < 2:
        raise DataGap("one bucket does not tell its length", field="time", value=len(index), remedy="give at least two")
    length = float(np.median(np.diff(index.asi8))) / 1e9
    shift = pd.Timedelta(round(length * 1e9), "ns") if stamp == "start" else pd.Timedelta(0)
    placed: dict[str, Any] = {
        field: frame[list(chosen)].set_axis(pd.DatetimeIndex(frame.index) + shift, axis=0)
        for field, frame in frames.items()
    }
    events = MarketEvents(**placed, bucket_s=length, tz=tz, currency=currency)
    if days is not None:
        events = events.on(days)
    return events if bucket_s is None else events.resample(check_positive(bucket_s, "bucket_s"))


def _choose(names: Iterable[str] | None, available: list[str]) -> tuple[str, ...]:
    if names is None:
        return check_names(available, "names")
    chosen = check_names(names, "names")
    unknown = [n for n in chosen if n not in available]
    if unknown:
        raise InvalidInput(
            "unknown name", field="names", value=unknown, remedy=f"choose among {', '.join(map(str, available[:20]))}"
        )
    return chosen


def read_parquet(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    report: ReadReport | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> MarketData:
    """Read what ``MarketData.to_parquet`` or ``MarketEvents.to_parquet`` wrote, else plain tables.

    Parameters
    ----------
    path
        A folder or a file.
    names, days, bucket_s
        As in :func:`read_table`; own buckets are resampled.
    report, progress
        As in :func:`read_table`.
    **options
        Those of :func:`read_table`, for plain tables only.

    Raises
    ------
    InvalidInput, DataGap
        As :func:`read_table`, and on damaged files of our own layout.
    """
    folder = Path(path).expanduser()
    own = next((m for m in ("market.json", "meta.json") if (folder / m).is_file()), None)
    if own is None:
        known = call_options(read_table, f"parquet:{path}", {}, options)
        return read_table(path, names, days, bucket_s, format="parquet", report=report, progress=progress, **known)
    if options:
        raise InvalidInput(
            "our own layout takes no options", field="options", value=sorted(options), remedy="leave them out"
        )
    if own == "market.json":
        return _narrow(MarketData.from_parquet(folder), names, days, bucket_s)
    return _narrow(MarketData(MarketEvents.from_parquet(folder), source=f"parquet:{path}"), names, days, bucket_s)


def _narrow(data: MarketData, names: Iterable[str] | None, days: Any, bucket_s: float | None) -> MarketData:
    """Return stored data with some names and days only; the truth goes with it only if all names are kept."""
    if names is None and days is None and bucket_s is None:
        return data
    events, truth = data.events, data.truth
    if names is not None:
        chosen = check_names(names, "names")
        if chosen != events.names:
            events, truth = events.select(chosen), None
    if days is not None:
        events = events.on(days)
    if bucket_s is not None:
        events = events.resample(bucket_s)
    return replace(data, buckets=events, truth=truth)


FORMATS = (
    Format(
        scheme="csv",
        title="plain csv tables, buckets or ticks",
        example="csv:FILE or DIR",
        reader=partial(read_table, format="csv"),
        sources=partial(table_sources, format="csv"),
    ),
    Format(
        scheme="parquet",
        title="what to_parquet wrote, else plain parquet tables",
        example="parquet:DIR",
        reader=f"{__name__}:read_parquet",
        sources=partial(table_sources, format="parquet"),
    ),
)
