"""Event masks: buckets that are no rows of the regression, by reason, while their flow still feeds the state.

An auction, a halt, a jump or a scheduled release moves prices for reasons other than the flow of its bucket. Dropping
such buckets from the events would be wrong twice: the regressors would forget what was traded in them, and the return
after the gap would span it. A mask instead leaves rows out of the sums alone.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import session_rows
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = [
    "Buckets",
    "EventMask",
    "Halts",
    "Jumps",
    "MaskReport",
    "NewsWindows",
    "OpenClose",
    "Predicate",
    "Times",
    "apply_masks",
]

Flags = NDArray[np.bool_]
_MAD = 1.4826022185056018  # 1/Φ⁻¹(3/4): turns a median absolute deviation into a standard deviation under normality


class EventMask(ABC):
    """Says which buckets are no rows, and why.

    Attributes
    ----------
    reason
        Under which the buckets are counted.
    """

    reason: str

    @property
    def needs_session(self) -> bool:
        """Whether a bucket is judged by others of its session: then events must come in whole sessions."""
        return False

    @abstractmethod
    def rows(self, events: MarketEvents) -> Flags:
        """Return (T,) whether each bucket is left out."""


@dataclass(frozen=True)
class OpenClose(EventMask):
    """Leave out the first and last minutes of every session, counted from its first bucket's start and last one's end.

    Parameters
    ----------
    open_minutes, close_minutes
        How much [min], ≥ 0. A half-day's close is its own.
    """

    open_minutes: float = 5.0
    close_minutes: float = 5.0
    reason: str = "open and close"

    def __post_init__(self) -> None:
        for name in ("open_minutes", "close_minutes"):
            _at_least_zero(getattr(self, name), name)

    @property
    def needs_session(self) -> bool:
        """Yes."""
        return True

    def rows(self, events: MarketEvents) -> Flags:
        """Return the buckets that overlap with these minutes."""
        ends, out = events.index.asi8 / 1e9, np.zeros(len(events.index), dtype=bool)
        for part in session_rows(events.session.to_numpy()):
            begin = ends[part] - events.bucket_s
            out[part] = begin < begin[0] + 60.0 * self.open_minutes - 1e-6
            out[part] |= ends[part] > ends[part][-1] - 60.0 * self.close_minutes + 1e-6
        return out


@dataclass(frozen=True)
class Times(EventMask):
    """Leave out a stretch of every local day, e.g. an auction.

    Parameters
    ----------
    start, end
        Local times of the exchange; buckets that overlap with (start, end) are left out.
    """

    start: dt.time
    end: dt.time
    reason: str = "time of day"

    def __post_init__(self) -> None:
        if not (isinstance(self.start, dt.time) and isinstance(self.end, dt.time)) or self.start >= self.end:
            raise InvalidInput(
                "not a stretch of a day",
                field="start, end",
                value=(str(self.start), str(self.end)),
                remedy="give two datetime.time, start before end; two masks for a stretch over midnight",
            )

    def rows(self, events: MarketEvents) -> Flags:
        """Return the buckets that overlap with the stretch."""
        # Counted from the midnight before the bucket began, so that one that ends at midnight lies at 24:00.
        began = (events.index - pd.Timedelta(events.bucket_s, "s")).tz_convert(events.tz).tz_localize(None)
        begin = (began.asi8 - began.normalize().asi8) / 1e9
        low, high = (t.hour * 3600.0 + t.minute * 60.0 + t.second + t.microsecond / 1e6 for t in (self.start, self.end))
        return np.asarray((begin < high - 1e-6) & (begin + events.bucket_s > low + 1e-6))


@dataclass(frozen=True)
class Halts(EventMask):
    """Leave out stretches in which a name neither trades nor is quoted anew, and the buckets after them.

    Parameters
    ----------
    seconds
        Shortest stretch without volume and with the mid unmoved [s].
    after
        Buckets left out after the stretch: the return that spans it, and the reopening.
    share
        Share of the names that must stand still at once; a small number masks every halt of any name, 1 only
        market-wide ones.
    """

    seconds: float = 300.0
    after: int = 1
    share: float = 0.5
    reason: str = "halt"

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InvalidInput("must be positive", field="seconds", value=self.seconds)
        if not 0 < self.share <= 1:
            raise InvalidInput("a share of the names lies in (0, 1]", field="share", value=self.share)
        _at_least_zero(self.after, "after")

    @property
    def needs_session(self) -> bool:
        """Yes."""
        return True

    def rows(self, events: MarketEvents) -> Flags:
        """Return the buckets of halts."""
        still = (events.volume.to_numpy() == 0) & (np.nan_to_num(events.returns.to_numpy()) == 0)
        shortest = max(1, int(np.ceil(self.seconds / events.bucket_s - 1e-9)))
        out = np.zeros(len(still), dtype=bool)
        for part in session_rows(events.session.to_numpy()):
            long = np.column_stack([_long_runs(column, shortest, self.after) for column in still[part].T])
            out[part] = long.mean(axis=1) >= self.share - 1e-12
        return out


def _long_runs(flags: Flags, shortest: int, after: int) -> Flags:
    """Return the runs of true that are long enough, and so many entries after each."""
    out = np.zeros(len(flags), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= shortest:
            out[start : stop + after] = True
    return out


@dataclass(frozen=True, eq=False)
class Jumps(EventMask):
    """Leave out buckets in which a name's return lies beyond a multiple of its robust volatility.

    Left as it is, the volatility is that of each session, 1.4826 · median |r| over the buckets in which the name moved,
    and events must come in whole sessions; after :meth:`fit` it is fixed, and they may come in any parts. Extreme
    outliers and bad ticks look like jumps too.

    Parameters
    ----------
    threshold
        Multiple, above 1; at 10, no bucket of 10⁹ normal ones is left out.
    share
        Share of the names that must jump at once; 0: any one.
    scale
        Volatility per bucket by name [return], as set by :meth:`fit`.
    """

    threshold: float = 10.0
    share: float = 0.0
    scale: pd.Series | None = None
    reason: str = "jump"

    def __post_init__(self) -> None:
        if not self.threshold > 1:
            raise InvalidInput("must be above 1", field="threshold", value=self.threshold, remedy="e.g. 10")
        if not 0 <= self.share <= 1:
            raise InvalidInput("a share of the names lies in [0, 1]", field="share", value=self.share)

    @property
    def needs_session(self) -> bool:
        """Until it is fitted."""
        return self.scale is None

    def fit(self, events: MarketEvents) -> Self:
        """Return the mask with the volatility of these events, which must not be later than those it is used on."""
        scale = pd.Series(_robust_scale(events.returns.to_numpy()), index=list(events.names))
        return type(self)(self.threshold, self.share, scale, self.reason)

    def rows(self, events: MarketEvents) -> Flags:
        """Return the buckets of jumps; see :meth:`by_name` for what is raised."""
        beyond = self.by_name(events)
        return np.asarray(beyond.mean(axis=1) >= max(self.share, 0.5 / beyond.shape[1]))

    def by_name(self, events: MarketEvents) -> Flags:
        """Return (T, N) whether each name jumps in each bucket; a bucket without a return is none.

        Raises
        ------
        DataGap
            The mask was fitted without one of the names.
        """
        returns = events.returns.to_numpy()
        if self.scale is not None:
            scale = self.scale.reindex(list(events.names)).to_numpy(dtype=np.float64)
            if np.isnan(scale).any():
                missing = [n for n, v in zip(events.names, scale, strict=True) if np.isnan(v)]
                raise DataGap("was fitted without these names", field="scale", value=missing, remedy="fit again")
            return _beyond(returns, scale, self.threshold)
        out = np.zeros(returns.shape, dtype=bool)
        for part in session_rows(events.session.to_numpy()):
            out[part] = _beyond(returns[part], _robust_scale(returns[part]), self.threshold)
        return out


def _beyond(returns: NDArray[np.float64], scale: NDArray[np.float64], threshold: float) -> Flags:
    return np.asarray(np.abs(np.nan_to_num(returns)) > threshold * np.where(scale > 0, scale, np.inf))


def _robust_scale(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1.4826 × median |r| over the moves by column; 0 where there is none.

    Over all buckets the median of a slowly ticking name would be 0, and every tick of it a jump.
    """
    size = np.abs(returns)
    moved = np.where(np.isfinite(size) & (size > 0), size, np.nan)
    some = np.isfinite(moved).any(axis=0)
    out = np.zeros(returns.shape[1])
    out[some] = _MAD * np.nanmedian(moved[:, some], axis=0)
    return out


@dataclass(frozen=True, eq=False)
class NewsWindows(EventMask):
    """Leave out the buckets around scheduled releases.

    Parameters
    ----------
    times
        tz-aware times of the releases.
    before_s, after_s
        How long before and after each [s]; a bucket that overlaps with the window is left out.
    """

    times: Sequence[pd.Timestamp]
    before_s: float = 0.0
    after_s: float = 300.0
    reason: str = "news"

    def __post_init__(self) -> None:
        for name in ("before_s", "after_s"):
            _at_least_zero(getattr(self, name), name)
        stamps = [pd.Timestamp(t) for t in self.times]
        naive = [str(t) for t in stamps if t.tzinfo is None]
        if naive:
            raise InvalidInput(
                "the time zone of a release is unknown",
                field="times",
                value=naive[0],
                remedy="localise with .tz_localize('America/New_York')",
            )
        object.__setattr__(self, "times", tuple(t.tz_convert("UTC") for t in stamps))

    def rows(self, events: MarketEvents) -> Flags:
        """Return the buckets that overlap with a window."""
        ends, out = events.index.asi8 / 1e9, np.zeros(len(events.index), dtype=bool)
        for time in self.times:
            at = time.as_unit("ns").value / 1e9
            out |= (ends > at - self.before_s) & (ends - events.bucket_s < at + self.after_s)
        return out


@dataclass(frozen=True, eq=False)
class Buckets(EventMask):
    """Leave out single buckets.

    Parameters
    ----------
    times
        Their ends, tz-aware.
    """

    times: pd.DatetimeIndex
    reason: str = "given"

    def __post_init__(self) -> None:
        from crosswind.problems.market.checks import utc_index

        object.__setattr__(self, "times", utc_index(self.times, "times", strictly_increasing=False))

    def rows(self, events: MarketEvents) -> Flags:
        """Return the buckets that end at one of the times."""
        return np.isin(events.index.asi8, self.times.asi8)


@dataclass(frozen=True, eq=False)
class Predicate(EventMask):
    """Leave out what a function of the events says.

    Parameters
    ----------
    function
        MarketEvents → (T,) of bool.
    reason
        Under which the buckets are counted.
    whole_sessions
        Whether the function needs whole sessions; to be on the safe side it does.
    """

    function: Callable[[MarketEvents], object]
    reason: str = "predicate"
    whole_sessions: bool = True

    @property
    def needs_session(self) -> bool:
        """As was said."""
        return self.whole_sessions

    def rows(self, events: MarketEvents) -> Flags:
        """Return what the function says.

        Raises
        ------
        InvalidInput
            It does not return one truth value per bucket.
        """
        out = np.asarray(self.function(events))
        if out.shape != (len(events.index),) or out.dtype != bool:
            raise InvalidInput(
                "must return one truth value per bucket",
                field=f"predicate {self.reason!r}",
                value=(out.dtype.name, out.shape),
                remedy="return a boolean array or Series as long as the events' index",
            )
        return out


def _at_least_zero(value: float, field: str) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise InvalidInput("must be finite and not negative", field=field, value=value)


@dataclass(frozen=True, eq=False)
class MaskReport:
    """Which buckets were left out, and why.

    Parameters
    ----------
    flags
        (T × masks) whether each mask leaves a bucket out.
    counts
        Reason → buckets; one that several masks leave out counts for the first of them.
    """

    flags: pd.DataFrame
    counts: dict[str, int]

    @property
    def masked(self) -> pd.Series:
        """(T,) whether a bucket is left out by any mask."""
        return self.flags.any(axis=1).rename("masked")

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the flags."""
        return self.flags.copy()

    def plot(self) -> Any:
        """Return a plotly figure: buckets left out so far, by mask."""
        from crosswind.problems.plotting import figure

        fig = figure("Buckets left out", "time, UTC", "count so far")
        when = pd.DatetimeIndex(self.flags.index).tz_localize(None)
        for k, reason in enumerate(self.flags.columns):
            fig.add_scatter(x=when, y=self.flags.iloc[:, k].cumsum(), name=str(reason), line={"shape": "hv"})
        return fig

    def summary(self) -> str:
        """Return how many buckets are left out, by reason."""
        total = len(self.flags)
        lines = [f"  {reason}: {n} ({n / total:.2%})" for reason, n in self.counts.items()]
        return "\n".join([f"{int(self.masked.sum())} of {total} buckets left out", *lines])

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"


def apply_masks(events: MarketEvents, masks: Iterable[EventMask]) -> MaskReport:
    """Ask every mask.

    Parameters
    ----------
    events
        Whole sessions, where a mask needs them.
    masks
        In order: a bucket counts for the first that leaves it out.

    Raises
    ------
    InvalidInput
        Something that is no mask.
    """
    taken = np.zeros(len(events.index), dtype=bool)
    columns: list[Flags] = []
    counts: dict[str, int] = {}
    reasons: list[str] = []
    for mask in masks:
        if not isinstance(mask, EventMask):
            raise InvalidInput(
                "is no mask", field="masks", value=type(mask).__name__, remedy="wrap a function in Predicate(function)"
            )
        rows = mask.rows(events)
        counts[mask.reason] = counts.get(mask.reason, 0) + int((rows & ~taken).sum())
        taken |= rows
        columns.append(rows)
        reasons.append(mask.reason)
    flags = np.column_stack(columns) if columns else np.zeros((len(events.index), 0), dtype=bool)
    return MaskReport(pd.DataFrame(flags, index=events.index, columns=reasons), counts)
