"""From trades and prevailing quotes to synchronised buckets, part by part; shared by all readers of ticks."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.bucket_stream import BucketRules, BucketStream, SessionBuckets
from crosswind.problems.market.checks import as_dates, check_names, check_positive
from crosswind.problems.market.events import FIELDS, MarketEvents
from crosswind.problems.market.hours import DayGrid, Hours, SessionHours, as_grid
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import END_NS, Progress, QuoteTape, TickChunk, TickSource, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = [
    "BucketStream",
    "QuoteTape",
    "SessionBuckets",
    "SessionHours",
    "TradeTape",
    "bucketise",
    "events_of",
    "events_of_parts",
]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
_UNUSABLE = "crossed, non-positive or non-finite quote"


def bucketise(
    tapes: Mapping[dt.date, Mapping[str, tuple[TradeTape, QuoteTape]]],
    names: Sequence[str],
    hours: SessionHours,
    *,
    tick: float = 0.01,
    stale_limit_s: float = 300.0,
    currency: str = "USD",
) -> tuple[MarketEvents, tuple[str, ...]]:
    """Put trades and quotes of several names on one complete grid of END-stamped buckets.

    Bucket k of a session covers [open + kΔ, open + (k+1)Δ). Its flow is Σ sign·price·shares over the trades in it, its
    mid, spread and depth are the quote known at its end. :func:`events_of` does the same for ticks that come in parts.

    Parameters
    ----------
    tapes
        Day → name → (trades, quotes).
    names
        Column order.
    hours
        Session hours, zone and bucket length.
    tick
        Smallest price step [currency per share]; locked quotes are widened to it.
    stale_limit_s
        Oldest quote that may be carried forward within a session [s].
    currency
        Currency of prices.

    Returns
    -------
    MarketEvents, tuple of str
        The buckets, and notes that count every repair.

    Raises
    ------
    DataGap
        If a quote is too old or absent.
    """
    rules = BucketRules(check_positive(tick, "tick"), check_positive(stale_limit_s, "stale_limit_s"))
    days = sorted(tapes)
    if not days:
        raise DataGap("there are no days", field="days", value=0, remedy="widen the selection")
    count: Counter[str] = Counter()
    table = _Table(names)
    for day in days:
        edges = hours.edges_ns(day)
        columns = []
        for name in names:
            buckets = SessionBuckets(edges)
            buckets.add(*tapes[day][name], before_ns=END_NS)
            columns.append(rules.fields(f"{name} on {day}", buckets, slice(None), count))
        table.add(columns, edges[1:])
    return table.events(hours.bucket_s, hours.tz, currency), _notes(count)


class _Table:
    """Collects the blocks of days into the frames of MarketEvents."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.blocks: dict[str, list[_Float]] = {field: [] for field in FIELDS}
        self.ends: list[_Int] = []

    def add(self, columns: Sequence[Mapping[str, _Float]], ends: _Int) -> None:
        for field in FIELDS:
            self.blocks[field].append(np.column_stack([c[field] for c in columns]))
        self.ends.append(ends)

    def events(self, bucket_s: float, tz: str, currency: str) -> MarketEvents:
        index = pd.DatetimeIndex(np.concatenate(self.ends), tz="UTC").as_unit("ns")
        frames: dict[str, Any] = {
            field: pd.DataFrame(np.vstack(self.blocks[field]), index=index, columns=self.names) for field in FIELDS
        }
        return MarketEvents(**frames, bucket_s=bucket_s, tz=tz, currency=currency)


def _notes(count: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{number} {what}" for what, number in count.items() if number)


def events_of(
    sources: Sequence[TickSource],
    *,
    bucket_s: float,
    hours: Hours,
    tz: str,
    currency: str,
    stale_limit_s: float = 300.0,
    days: Any = None,
    names: Sequence[str] | None = None,
    report: ReadReport | None = None,
    progress: Progress | None = None,
) -> tuple[MarketEvents, tuple[str, ...]]:
    """Put the ticks of several sources on one grid of END-stamped buckets, in bounded memory.

    The sources are read one after the other, each in one pass over its parts. The result is that of :func:`bucketise`
    on the whole, bit for bit.

    Parameters
    ----------
    sources
        One per column, symbols and venues mixed; each with a name of its own.
    bucket_s
        Bucket length [s].
    hours
        Local opening and close; a calendar with ``edges_ns(day)``, e.g. with half days, or a function from the date
        to the edges; None for markets that never close. With None a day has the buckets from the first in which all
        sources are quoted to the last that all have seen to its end; where the ticks begin in the middle of a bucket,
        that one is left out, except at midnight, where files are cut.
    tz
        The zone whose dates are the sessions.
    currency
        Currency of prices.
    stale_limit_s
        Oldest quote that may be carried forward within a session [s].
    days
        Local dates to keep; None for all on which a source has quotes.
    names
        Names to keep, in this order; None for all.
    report
        Collects what the sources noted on the way.
    progress
        Called with stage and fraction done.

    Returns
    -------
    MarketEvents, tuple of str
        The buckets, and notes that count every repair.

    Raises
    ------
    InvalidInput
        On unknown or repeated names, times that decrease, a bucket that does not divide the session.
    DataGap
        On a missing day, a quote that is too old or absent, no common bucket.
    """
    chosen = _chosen(sources, names)
    grid = as_grid(hours, tz, check_positive(bucket_s, "bucket_s"))
    check_positive(stale_limit_s, "stale_limit_s")
    wanted = as_dates(days)
    report = ReadReport() if report is None else report
    read: list[dict[dt.date, SessionBuckets]] = []
    count: Counter[str] = Counter()
    seen: set[dt.date] = set()
    for k, source in enumerate(chosen):
        stream = BucketStream(source.name, grid, tz, wanted)
        for chunk in source.chunks(report, _share(progress, k, len(chosen))):
            stream.push(chunk)
        read.append(stream.close())
        seen |= stream.seen
        for day, buckets in read[-1].items():
            report.bad(f"{source.name} on {day}", _UNUSABLE, buckets.unused_quotes)
        count["buckets with trades on days without any quote left out"] += stream.unquoted_trades
    if progress is not None:
        progress("buckets", 1.0)
    ticks = [s.tick for s in chosen]
    layout = _Layout(grid, hours is None, bucket_s, tz, currency, stale_limit_s)
    return _assemble([s.name for s in chosen], ticks, read, layout, wanted, seen, count)


@dataclass(frozen=True)
class _Layout:
    grid: DayGrid
    around_the_clock: bool
    bucket_s: float
    tz: str
    currency: str
    stale_limit_s: float


def _assemble(
    names: Sequence[str],
    ticks: Sequence[float],
    read: Sequence[dict[dt.date, SessionBuckets]],
    layout: _Layout,
    wanted: tuple[dt.date, ...] | None,
    seen: set[dt.date],
    count: Counter[str],
) -> tuple[MarketEvents, tuple[str, ...]]:
    """Join the buckets of all names, day by day, or refuse the days that some of them lack."""
    available = sorted(set().union(*read))
    absent = [str(d) for d in wanted or () if d not in available]
    if absent or not available:
        have = ", ".join(map(str, sorted(seen)[:20]))
        remedy = f"choose among {have}" if have else "give other files: there is no quote in these"
        raise DataGap("no such session", field="days", value=absent or None, remedy=remedy)
    table = _Table(names)
    for day in available:
        edges = layout.grid.edges_ns(day)
        sessions = [one.get(day) or SessionBuckets(edges) for one in read]
        rows = _common(sessions, edges) if layout.around_the_clock else slice(0, len(edges) - 1)
        if rows.start >= rows.stop:
            count[f"day left out: no common bucket on {day}"] += 1
            continue
        columns = [
            BucketRules(check_positive(tick, "tick"), layout.stale_limit_s).fields(
                f"{name} on {day}", held, rows, count
            )
            for name, tick, held in zip(names, ticks, sessions, strict=True)
        ]
        table.add(columns, edges[1:][rows])
    if not table.ends:
        raise DataGap(
            "there is no bucket in which all sources are quoted",
            field="sources",
            value=", ".join(table.names),
            remedy="leave sources out, or read days that they share",
        )
    return table.events(layout.bucket_s, layout.tz, layout.currency), _notes(count)


def events_of_parts(
    parts: Iterable[Mapping[str, TickChunk]],
    *,
    names: Sequence[str] | None,
    bucket_s: float,
    hours: Hours,
    tz: str,
    currency: str,
    tick: float,
    stale_limit_s: float,
    days: Any,
    report: ReadReport,
) -> tuple[MarketEvents, tuple[str, ...]]:
    """Do what :func:`events_of` does for one file that holds several names, in one pass over it.

    Parameters
    ----------
    parts
        Name → the next part of its ticks; names may come and go.
    names
        Names to keep, in this order; None for all that have both trades and quotes, in alphabetical order.
    bucket_s, hours, tz, currency, stale_limit_s, days
        As for :func:`events_of`.
    tick
        Smallest price step [currency per share] of all names.
    report
        Collects quotes that were not used.

    Raises
    ------
    InvalidInput, DataGap
        As :func:`events_of`.
    """
    grid = as_grid(hours, tz, check_positive(bucket_s, "bucket_s"))
    check_positive(stale_limit_s, "stale_limit_s")
    check_positive(tick, "tick")
    wanted = as_dates(days)
    streams: dict[str, BucketStream] = {}
    traded: set[str] = set()
    quoted: set[str] = set()
    for part in parts:
        for name, chunk in part.items():
            streams.setdefault(name, BucketStream(name, grid, tz, wanted)).push(chunk)
            traded |= {name} if len(chunk.trades) else set()
            quoted |= {name} if len(chunk.quotes) else set()
    both = sorted(traded & quoted)
    chosen = check_names(both if names is None else names, "names")
    unknown = [n for n in chosen if n not in both]
    if unknown:
        raise InvalidInput("unknown name", field="names", value=unknown, remedy=f"choose among {', '.join(both[:20])}")
    read = []
    for name in chosen:
        read.append(streams[name].close())
        for day, buckets in read[-1].items():
            report.bad(f"{name} on {day}", _UNUSABLE, buckets.unused_quotes)
    seen = set().union(*(streams[n].seen for n in chosen))
    layout = _Layout(grid, hours is None, bucket_s, tz, currency, stale_limit_s)
    return _assemble(chosen, [tick] * len(chosen), read, layout, wanted, seen, Counter())


def _common(sessions: Sequence[SessionBuckets], edges: _Int) -> slice:
    """Return the buckets of a day that never closes which all sources have seen."""
    low, high = 0, len(edges) - 1
    for held in sessions:
        quoted = np.flatnonzero(~np.isnan(held.bid))
        if not len(quoted):
            return slice(0, 0)
        first, last = np.searchsorted(edges, (held.first_ns, held.last_ns), side="right") - 1
        # Ticks that begin or end inside a bucket saw a part of it only; at midnight, though, files are cut.
        begins = int(first) + int(first > 0 and held.first_ns > edges[first])
        ends = len(edges) - 1 if last >= len(edges) - 2 else int(last)
        low, high = max(low, int(quoted[0]), begins), min(high, ends)
    return slice(low, high)


def _share(progress: Progress | None, k: int, of: int) -> Progress | None:
    return None if progress is None else lambda stage, done: progress(stage, (k + done) / of)


def _chosen(sources: Sequence[TickSource], names: Sequence[str] | None) -> list[TickSource]:
    have = check_names((s.name for s in sources), "sources")
    if names is None:
        return list(sources)
    wanted = check_names(names, "names")
    unknown = [n for n in wanted if n not in have]
    if unknown:
        raise InvalidInput("unknown name", field="names", value=unknown, remedy=f"choose among {', '.join(have[:20])}")
    return [sources[have.index(n)] for n in wanted]
