"""Ticks of several symbols and venues on one clock, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_names
from crosswind.problems.market.lee_ready import LeeReady
from crosswind.problems.market.readers.formats import call_options, find_format
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import END_NS, Progress, QuoteTape, Settler, TickSource, TradeTape
from crosswind.solvers.errors import InvalidInput

__all__ = ["MERGED_COLUMNS", "merge_ticks", "sources_of", "stream"]

#: Columns of the merged ticks.
MERGED_COLUMNS = ("name", "kind", "price", "size", "side", "bid", "ask", "bid_size", "ask_size")

_QUOTE, _TRADE = 0, 1
_VALUES = 7  # price, size, side, bid, ask, bid_size, ask_size


@dataclass
class _Rows:
    """Rows of one instrument: times, kinds (quote 0, trade 1) and values (rows × 7)."""

    time: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]
    cells: npt.NDArray[np.float64]

    @classmethod
    def of(cls, trades: TradeTape, sign: npt.NDArray[np.int8], quotes: QuoteTape) -> _Rows:
        """Return trades and quotes in one order: by time, quotes before the trades that they prevail at."""
        q, t = len(quotes), len(trades)
        values = np.full((q + t, _VALUES), np.nan)
        values[:q, 3:] = np.column_stack([quotes.bid, quotes.ask, quotes.bid_shares, quotes.ask_shares])
        values[q:, :3] = np.column_stack([trades.price, trades.shares, sign])
        time = np.concatenate([quotes.known_ns, trades.time_ns])
        kind = np.repeat(np.array([_QUOTE, _TRADE], dtype=np.int8), [q, t])
        order = np.argsort(time, kind="stable")
        return cls(time[order], kind[order], values[order])

    def take(self, rows: slice) -> _Rows:
        return _Rows(self.time[rows], self.kind[rows], self.cells[rows])

    def then(self, later: _Rows) -> _Rows:
        if not len(self.time) or not len(later.time):
            return later if len(later.time) else self
        return _Rows(
            np.concatenate([self.time, later.time]),
            np.concatenate([self.kind, later.kind]),
            np.concatenate([self.cells, later.cells]),
        )


class _Feed:
    """The rows of one source that are read but not yet merged, and the time before which they are complete."""

    def __init__(self, source: TickSource, report: ReadReport, progress: Progress | None) -> None:
        self.name = source.name
        self._chunks = source.chunks(report, progress)
        self._settler = Settler(source.name)
        self._rule = LeeReady()
        self._report = report
        none = np.zeros(0)
        self.rows = _Rows(none.astype(np.int64), none.astype(np.int8), np.zeros((0, _VALUES)))
        self.complete = -END_NS

    def advance(self) -> None:
        """Read the next part."""
        chunk = next(self._chunks, None)
        trades, quotes, self.complete = self._settler.flush() if chunk is None else self._settler.push(chunk)
        quotes, dropped = quotes.usable()
        self._report.bad(self.name, "crossed, non-positive or non-finite quote", dropped)
        if trades.sign is None:
            use = trades.signable
            sign = np.zeros(len(trades), dtype=np.int8)
            mid = 0.5 * (quotes.bid + quotes.ask)
            sign[use] = self._rule.sign(trades.price[use], trades.time_ns[use], quotes.known_ns, mid)
        else:
            sign = trades.sign
        # A trade held back is older than the quotes of this part but not than those of the part before: sorting puts
        # it among them, behind the quotes of its own time.
        self.rows = self._sorted(_Rows.of(trades, sign, quotes))

    def _sorted(self, new: _Rows) -> _Rows:
        joined = self.rows.then(new)
        if (joined.time[1:] >= joined.time[:-1]).all():
            return joined
        order = np.lexsort((joined.kind, joined.time))
        return _Rows(joined.time[order], joined.kind[order], joined.cells[order])

    def before(self, end: int) -> _Rows:
        """Return the rows before ``end`` and forget them."""
        cut = int(np.searchsorted(self.rows.time, end, side="left"))
        out, self.rows = self.rows.take(slice(None, cut)), self.rows.take(slice(cut, None))
        return out


def merge_ticks(
    sources: Sequence[TickSource],
    *,
    rows: int = 100_000,
    report: ReadReport | None = None,
    progress: Progress | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the ticks of several sources in global time order, as tables of at most ``rows`` rows.

    Memory holds one part of each source and one table. Ticks of one time come in the order of the sources; within a
    source quotes come before the trades that they prevail at, trades and quotes each in the order of the file. So the
    order depends on the data alone, not on how files are cut into parts.

    Parameters
    ----------
    sources
        Symbols and venues, each with a name of its own.
    rows
        Largest number of rows in a table.
    report
        Collects what the sources noted on the way.
    progress
        Called with stage and fraction done.

    Yields
    ------
    DataFrame
        Index: time (UTC; not unique). Columns: ``name``, ``kind`` ("trade" or "quote"), ``price`` [currency],
        ``size`` [shares], ``side`` (aggressor +1, −1 or 0: what the source says, else by Lee and Ready), ``bid``,
        ``ask`` [currency], ``bid_size``, ``ask_size`` [shares]; NaN where a column does not belong to the kind.
        Crossed, non-positive and non-finite quotes are left out and counted in ``report``.

    Raises
    ------
    InvalidInput
        On repeated names, a number of rows below 1, times that decrease in a source.
    """
    names = check_names((s.name for s in sources), "sources")
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise InvalidInput("not a number of rows", field="rows", value=rows, remedy="give at least 1")
    return _merged(sources, names, rows, ReadReport() if report is None else report, progress)


def _merged(
    sources: Sequence[TickSource], names: tuple[str, ...], rows: int, report: ReadReport, progress: Progress | None
) -> Iterator[pd.DataFrame]:
    slowest = None if progress is None else _Slowest(progress, len(sources))
    feeds = [_Feed(s, report, None if slowest is None else slowest.of(k)) for k, s in enumerate(sources)]
    while True:
        frontier = min(f.complete for f in feeds)
        for feed in feeds:
            # The feed that is behind is read on; the others wait, so that none runs ahead by more than a part.
            if feed.complete == frontier < END_NS:
                feed.advance()
        frontier = min(f.complete for f in feeds)
        ready = [f.before(frontier) for f in feeds]
        time = np.concatenate([r.time for r in ready])
        if len(time):
            origin = np.repeat(np.arange(len(feeds), dtype=np.int32), [len(r.time) for r in ready])
            order = np.argsort(time, kind="stable")  # stable: ties keep the order of the sources
            kind, values = (np.concatenate([getattr(r, a) for r in ready]) for a in ("kind", "cells"))
            for at in range(0, len(time), rows):
                part = order[at : at + rows]
                yield _table(time[part], origin[part], kind[part], values[part], names)
        if frontier == END_NS:
            return


def _table(time: Any, origin: Any, kind: Any, values: Any, names: tuple[str, ...]) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "name": pd.Categorical.from_codes(origin, categories=pd.Index(names)),
        "kind": pd.Categorical.from_codes(kind, categories=pd.Index(["quote", "trade"])),
    }
    columns |= {name: values[:, k] for k, name in enumerate(MERGED_COLUMNS[2:])}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(time, tz="UTC", name="time").as_unit("ns"))


class _Slowest:
    """Progress of sources that run side by side: the slowest of them tells how far the whole is."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._done = progress, [0.0] * count

    def of(self, k: int) -> Progress:
        """Return what source ``k`` calls."""

        def tell(stage: str, done: float) -> None:
            self._done[k] = done
            self._progress(stage, min(self._done))

        return tell


def sources_of(
    spec: str, names: Iterable[str] | None = None, days: Any = None, **options: Any
) -> tuple[TickSource, ...]:
    """Return the tick sources behind a spec, one per instrument.

    Parameters
    ----------
    spec
        As for :func:`~crosswind.problems.market.read.read`, of a format that holds ticks.
    names, days
        What to keep; default all.
    **options
        Further arguments of the format.

    Raises
    ------
    InvalidInput
        On an unknown spec or option, and on a format without ticks.
    """
    format, rest = find_format(spec)
    function = format.load("sources")
    if function is None:
        raise InvalidInput(
            "this format holds no ticks", field="spec", value=spec, remedy="read(spec) gives its buckets or bars"
        )
    given = {k: v for k, v in {"names": names, "days": days}.items() if v is not None}
    return tuple(function(rest, **call_options(function, spec, given, options)))


def stream(
    spec: str | Sequence[str],
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    rows: int = 100_000,
    report: ReadReport | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[pd.DataFrame]:
    """Yield the merged ticks of one spec or of several, in global time order and bounded memory.

    Parameters
    ----------
    spec
        A spec, or several whose instruments have names of their own: symbols and venues on one clock.
    names, days
        What to keep; default all.
    rows
        Largest number of rows in a table.
    report
        Collects files, rows, facts and bad rows.
    progress
        Called with stage and fraction done.
    **options
        Further arguments of the formats.

    Yields
    ------
    DataFrame
        As :func:`merge_ticks`.

    Raises
    ------
    InvalidInput
        As :func:`sources_of` and :func:`merge_ticks`.
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    sources = [s for one in specs for s in sources_of(one, names, days, **options)]
    return merge_ticks(sources, rows=rows, report=report, progress=progress)
