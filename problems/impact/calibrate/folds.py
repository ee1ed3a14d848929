"""Time blocks for cross-validation: what may train, what tests, and the hole between them that touches neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import session_rows
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["Fold", "Scheme", "TimeFolds", "cut_rows", "halves", "time_folds"]

Scheme = Literal["blocked", "forward"]
_FIELDS = ("flow", "mid", "spread", "volume", "depth")
_DAY_NS = 86_400_000_000_000
_SHARE = 4  # purge and embargo never take more than a quarter of a block: a long memory would leave nothing to train on


@dataclass(frozen=True)
class Fold:
    """One block that tests, and what may train against it.

    Parameters
    ----------
    test
        Rows [start, stop) of the block.
    hole
        Rows [start, stop) that may not train: the block, the purge on both sides and the embargo after it.
    train
        Runs of rows [start, stop), in time order, each inside one session.
    """

    test: tuple[int, int]
    hole: tuple[int, int]
    train: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TimeFolds:
    """Blocked, purged and embargoed folds over the rows of some events.

    Parameters
    ----------
    folds
        The folds in time order.
    rows
        Number of rows of the events.
    purge_buckets, embargo_buckets
        What is left out on both sides of a block within its session, and after it beyond that.
    asked_buckets
        The kernel memory that was to be purged; larger than ``purge_buckets`` where it would have taken more than a
        quarter of a block.
    scheme
        "blocked" trains on both sides of a block, "forward" on its past alone.
    """

    folds: tuple[Fold, ...]
    rows: int
    purge_buckets: int
    embargo_buckets: int
    asked_buckets: int
    scheme: Scheme

    def split(self, events: MarketEvents) -> Iterator[tuple[MarketEvents, MarketEvents]]:
        """Yield (training events, test events) of each fold; neither holds a row of the hole around the block.

        Every run of training rows is a session of its own, so that an estimator's filter starts from rest behind a
        hole and no return spans it: a run cut from the middle of a session is moved to a date of its own, by whole
        days. The cost of starting from rest is small: what a slow shape has not seen decays slowly, and is thus nearly
        constant, and its changes are what moves prices.

        Raises
        ------
        InvalidInput
            The events are not those that the folds were cut for.
        """
        if len(events.index) != self.rows:
            raise InvalidInput(
                "other events than the folds were cut for",
                field="events",
                value=len(events.index),
                remedy="call time_folds on these events",
            )
        for fold in self.folds:
            yield _take(events, fold.train), _take(events, (fold.test,))

    def to_frame(self, events: MarketEvents) -> pd.DataFrame:
        """One row per fold: times of the block, rows that test, train and are left out."""
        index = events.index
        return pd.DataFrame(
            {
                "from": [str(index[f.test[0]]) for f in self.folds],
                "to": [str(index[f.test[1] - 1]) for f in self.folds],
                "test_rows": [f.test[1] - f.test[0] for f in self.folds],
                "train_rows": [sum(b - a for a, b in f.train) for f in self.folds],
                "hole_rows": [f.hole[1] - f.hole[0] - f.test[1] + f.test[0] for f in self.folds],
            },
            index=pd.RangeIndex(1, len(self.folds) + 1, name="fold"),
        )


def time_folds(
    events: MarketEvents,
    folds: int = 5,
    memory_buckets: int = 0,
    embargo_buckets: int = 0,
    scheme: Scheme = "blocked",
) -> TimeFolds:
    """Cut the events into contiguous blocks that test one after the other.

    Blocks are whole sessions where there are enough, else equal numbers of rows. The regressors start from rest in
    each session, so kernel memory is purged within the block's session only; the embargo, against noise that is
    correlated over longer than the kernel, is counted in rows across sessions.

    Parameters
    ----------
    events
        Buckets in time order.
    folds
        Number of blocks, at least 2.
    memory_buckets
        Kernel memory M to purge on both sides [buckets].
    embargo_buckets
        Rows left out after a block beyond the purge.
    scheme
        "blocked" or "forward"; the first block of "forward" only trains, so it gives one fold less.

    Raises
    ------
    InvalidInput
        Bad numbers, an unknown scheme.
    DataGap
        Too few rows for the folds.
    """
    if scheme not in get_args(Scheme):
        raise InvalidInput("unknown scheme", field="scheme", value=scheme, remedy='use "blocked" or "forward"')
    if isinstance(folds, bool) or int(folds) != folds or folds < 2:
        raise InvalidInput("two blocks or more are needed", field="folds", value=folds, remedy="5 is usual")
    for field, value in (("memory_buckets", memory_buckets), ("embargo_buckets", embargo_buckets)):
        if int(value) != value or value < 0:
            raise InvalidInput("must be a whole number ≥ 0", field=field, value=value, remedy="count buckets")
    sessions = list(session_rows(events.session.to_numpy()))
    rows = sessions[-1].stop
    if rows < 4 * folds:
        raise DataGap("too few buckets for the folds", field="events", value=rows, remedy="fewer folds or more data")
    edges = cut_rows(sessions, folds)
    block = min(b - a for a, b in pairwise(edges))
    purge = min(int(memory_buckets), block // _SHARE)
    embargo = min(int(embargo_buckets), block // _SHARE)
    out = []
    for a, b in pairwise(edges):
        if scheme == "forward" and a == 0:
            continue
        first = next(s for s in sessions if s.start <= a < s.stop)
        last = next(s for s in sessions if s.start < b <= s.stop)
        low = max(first.start, a - purge)
        high = min(rows, min(last.stop, b + purge) + embargo)
        spans = ((0, low),) if scheme == "forward" else ((0, low), (high, rows))
        runs = [(max(x, s.start), min(y, s.stop)) for x, y in spans for s in sessions]
        # A run of one bucket has no return.
        train = tuple((x, y) for x, y in runs if y - x >= 2)
        if not train:
            raise DataGap("a fold has nothing to train on", field="folds", value=folds, remedy="fewer folds")
        out.append(Fold((a, b), (low, high), train))
    return TimeFolds(tuple(out), rows, purge, embargo, int(memory_buckets), scheme)


def halves(events: MarketEvents, memory_buckets: int = 0) -> tuple[MarketEvents, MarketEvents]:
    """Return the first and the second half of the events, kernel memory left out between them where they meet."""
    first, second = time_folds(events, 2, memory_buckets).folds
    return _take(events, second.train), _take(events, first.train)


def cut_rows(sessions: list[slice], parts: int) -> list[int]:
    """Edges of contiguous parts: whole sessions where there are at least as many, else equal numbers of rows."""
    rows = sessions[-1].stop
    if len(sessions) >= parts:
        starts = [group[0] for group in np.array_split(np.arange(len(sessions)), parts)]
        return [sessions[int(s)].start for s in starts] + [rows]
    return [int(e) for e in np.linspace(0, rows, parts + 1).round()]


def _take(events: MarketEvents, runs: tuple[tuple[int, int], ...]) -> MarketEvents:
    """Return the rows of the runs, runs of one session moved to dates of their own."""
    index = events.index
    session = events.session.to_numpy()
    stamps: list[NDArray[np.int64]] = []
    moved, last = False, None
    for start, stop in runs:
        for piece in session_rows(session[start:stop]):
            day = session[start + piece.start].toordinal()
            at = day
            if last is not None and (day <= last or moved):
                # Two days apart, for a clock change may push the end of a run past midnight.
                at, moved = max(day, last + 2), True
            last = at
            stamps.append(index.asi8[start + piece.start : start + piece.stop] + (at - day) * _DAY_NS)
    where = np.concatenate([np.arange(a, b) for a, b in runs])
    new = pd.DatetimeIndex(np.concatenate(stamps), tz="UTC", name=index.name).as_unit("ns")
    parts = {field: getattr(events, field).iloc[where].set_axis(new, axis=0) for field in _FIELDS}
    factors = events.factors
    if factors is not None:
        factors = factors.iloc[where].set_axis(new, axis=0)
    return replace(events, **parts, factors=factors)
