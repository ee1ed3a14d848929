"""Synchronised event buckets: what the estimators, schedules and hedges read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import (
    as_date,
    as_utc,
    check_frame,
    check_names,
    check_positive,
    check_same_axes,
    check_zone,
)
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FIELDS", "MarketEvents"]

FIELDS = ("flow", "mid", "spread", "volume", "depth")
_EPOCH = dt.date(1970, 1, 1)
_ROUNDING = 1e-9  # relative slack of |flow| ≤ volume: both are sums of the same trades in another order


@dataclass(frozen=True, eq=False, repr=False)
class MarketEvents(Shown):
    """Flow, quotes and volume of N names in T synchronised time buckets.

    All frames share one index (T bucket ENDs, UTC, strictly increasing) and one set of columns (N names).

    Parameters
    ----------
    flow
        Signed aggressor notional in the bucket, buy positive [currency].
    mid
        Mid price at the bucket's end [currency per share], positive.
    spread
        Full quoted spread at the bucket's end [currency per share], ≥ 0.
    volume
        Traded notional in the bucket [currency], ≥ |flow|.
    depth
        Mean of best bid and ask size, times mid [currency], ≥ 0.
    bucket_s
        Length of a bucket [s]. Within a session consecutive ends lie at least that far apart, but for the last.
    tz
        The exchange's zone; its local dates are the sessions.
    currency
        Currency of all notionals.
    factors
        Factor returns per bucket, T × F, or None; NaN is allowed only where ``returns`` has it.

    Raises
    ------
    InvalidInput
        On anything malformed; the message names the frame, the value and the remedy.
    """

    flow: pd.DataFrame
    mid: pd.DataFrame
    spread: pd.DataFrame
    volume: pd.DataFrame
    depth: pd.DataFrame
    bucket_s: float
    tz: str
    currency: str = "USD"
    factors: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "bucket_s", check_positive(self.bucket_s, "bucket_s"))
        set_(self, "tz", check_zone(self.tz))
        if not isinstance(self.currency, str) or not self.currency:
            raise InvalidInput("no currency", field="currency", value=self.currency, remedy="name it, e.g. 'USD'")
        frames = {
            "flow": check_frame(self.flow, "flow"),
            "mid": check_frame(self.mid, "mid", lower=0.0, strict=True),
            "spread": check_frame(self.spread, "spread", lower=0.0),
            "volume": check_frame(self.volume, "volume", lower=0.0),
            "depth": check_frame(self.depth, "depth", lower=0.0),
        }
        if not len(frames["flow"]):
            raise InvalidInput("there are no buckets", field="flow", value=0, remedy="widen the days or the hours")
        check_same_axes(frames, "flow")
        flow, volume = frames["flow"].to_numpy(), frames["volume"].to_numpy()
        over = np.abs(flow) > volume * (1 + _ROUNDING) + _ROUNDING
        if over.any():
            row, col = (int(k) for k in np.argwhere(over)[0])
            raise InvalidInput(
                f"|flow| exceeds volume at {frames['flow'].index[row]} for {frames['flow'].columns[col]}",
                field="flow",
                value=(float(flow[row, col]), float(volume[row, col])),
                remedy="give both in notional currency over the same trades",
            )
        wide = frames["spread"].to_numpy() >= 2.0 * frames["mid"].to_numpy()
        if wide.any():
            row, col = (int(k) for k in np.argwhere(wide)[0])
            raise InvalidInput(
                f"twice the mid or more at {frames['spread'].index[row]} for {frames['spread'].columns[col]}: the bid "
                "would not be positive",
                field="spread",
                value=float(frames["spread"].to_numpy()[row, col]),
                remedy="give it in currency per share, not in bps",
            )
        for field, frame in frames.items():
            set_(self, field, frame)
        self._check_spacing()
        if self.factors is not None:
            factors = check_frame(self.factors, "factors", allow_nan=True)
            if not factors.index.equals(self.index):
                raise InvalidInput(
                    "its times differ from those of flow",
                    field="factors",
                    value=f"{len(factors)} rows against {len(self.index)}",
                    remedy="put factor returns on the buckets' index",
                )
            if np.isnan(factors.to_numpy()[~self._first_of_session()]).any():
                raise InvalidInput(
                    "NaN outside a session's first bucket",
                    field="factors",
                    value=int(np.isnan(factors.to_numpy()).sum()),
                    remedy="fill or drop those buckets",
                )
            set_(self, "factors", factors)

    def _check_spacing(self) -> None:
        first = self._first_of_session()
        gap = np.diff(self.index.asi8) / 1e9
        last = np.append(first[1:], True)[1:]  # a partial last bucket of a session may be shorter
        close = (gap < self.bucket_s * (1 - 1e-9)) & ~first[1:] & ~last
        if close.any():
            at = int(np.argmax(close)) + 1
            raise InvalidInput(
                f"buckets overlap: {gap[at - 1]:g} s apart at {self.index[at]}",
                field="bucket_s",
                value=self.bucket_s,
                remedy="pass the buckets' own length and .resample() afterwards",
            )

    def _first_of_session(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        day = self._day_number()
        return np.append(True, day[1:] != day[:-1])

    def _day_number(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        # A bucket that ends at midnight belongs to the day it began in.
        local = (self.index - pd.Timedelta(1, "ns")).tz_convert(self.tz).tz_localize(None)
        days: np.ndarray[Any, np.dtype[np.int64]] = local.asi8 // 86_400_000_000_000
        return days

    @property
    def index(self) -> pd.DatetimeIndex:
        """Bucket ends (T,), UTC."""
        index = self.flow.index
        assert isinstance(index, pd.DatetimeIndex)
        return index

    @property
    def names(self) -> tuple[str, ...]:
        """The N names, in column order."""
        return tuple(self.flow.columns)

    @property
    def session(self) -> pd.Series[Any]:
        """Local date of each bucket (T,)."""
        days, codes = np.unique(self._day_number(), return_inverse=True)
        dates = np.array([_EPOCH + dt.timedelta(days=int(d)) for d in days], dtype=object)
        return pd.Series(dates[codes], index=self.index, name="session", dtype=object)

    @property
    def days(self) -> tuple[dt.date, ...]:
        """The sessions present, ascending."""
        return tuple(_EPOCH + dt.timedelta(days=int(d)) for d in np.unique(self._day_number()))

    @property
    def returns(self) -> pd.DataFrame:
        """Relative return of the mid over the bucket, mid_t / mid_{t−1} − 1; NaN in each session's first bucket."""
        mid = self.mid.to_numpy()
        out = np.full(mid.shape, np.nan)
        with np.errstate(over="ignore"):  # what overflows is refused by name where it is used
            out[1:] = mid[1:] / mid[:-1] - 1.0
        out[self._first_of_session()] = np.nan
        return pd.DataFrame(out, index=self.index, columns=self.mid.columns)

    def _rows(self, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> MarketEvents:
        parts: dict[str, Any] = {field: getattr(self, field)[keep] for field in FIELDS}
        parts["factors"] = None if self.factors is None else self.factors[keep]
        return replace(self, **parts)

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> MarketEvents:
        """Return the buckets that lie wholly in (start, end]: their END is after ``start`` and not after ``end``.

        Parameters
        ----------
        start, end
            tz-aware timestamps.

        Raises
        ------
        InvalidInput
            On a naive bound.
        DataGap
            If no bucket is left.
        """
        keep = np.asarray((self.index > as_utc(start, "start")) & (self.index <= as_utc(end, "end")))
        if not keep.any():
            raise DataGap(
                "no bucket lies between",
                field="between",
                value=(str(start), str(end)),
                remedy=f"choose within {self.index[0]} .. {self.index[-1]}",
            )
        return self._rows(keep)

    def on(self, days: Any) -> MarketEvents:
        """Return the sessions of one local date or of several.

        Parameters
        ----------
        days
            A date, '2013-10-07', or an iterable of these.

        Raises
        ------
        DataGap
            If a day asked for is not there.
        """
        single = isinstance(days, (str, dt.date)) or not isinstance(days, Iterable)
        wanted = [as_date(d, "days") for d in ([days] if single else days)]
        missing = [str(d) for d in wanted if d not in self.days]
        if missing or not wanted:
            have = ", ".join(str(d) for d in self.days)
            raise DataGap("no such session", field="days", value=missing, remedy=f"choose among {have}")
        numbers = [(d - _EPOCH).days for d in wanted]
        return self._rows(np.isin(self._day_number(), numbers))

    def select(self, names: Iterable[str]) -> MarketEvents:
        """Return the same buckets for some of the names, in the order given.

        Raises
        ------
        InvalidInput
            On an unknown name or one given twice.
        """
        chosen = check_names(names, "names")
        unknown = [n for n in chosen if n not in self.names]
        if unknown:
            raise InvalidInput(
                "unknown name", field="names", value=unknown, remedy=f"choose among {', '.join(self.names)}"
            )
        return replace(self, **{field: getattr(self, field)[list(chosen)] for field in FIELDS})

    def resample(self, bucket_s: float) -> MarketEvents:
        """Return longer buckets: flow and volume summed, mid, spread and depth the last, factors compounded.

        Groups are counted from the start of each session's first bucket and never cross a session's end; a session's
        last group may be shorter and is stamped at its true end, so that no volume is lost.

        Parameters
        ----------
        bucket_s
            New length [s], a whole multiple of the present one.

        Raises
        ------
        InvalidInput
            If it is not a multiple.
        """
        length = check_positive(bucket_s, "bucket_s")
        ratio = length / self.bucket_s
        if abs(ratio - round(ratio)) > 1e-9 * ratio or round(ratio) < 1:
            raise InvalidInput(
                f"not a multiple of the present {self.bucket_s:g} s",
                field="bucket_s",
                value=bucket_s,
                remedy=f"choose k × {self.bucket_s:g}, or read the source again with shorter buckets",
            )
        if round(ratio) == 1:
            return self
        ends = self.index.asi8
        first = self._first_of_session()
        session = np.cumsum(first) - 1
        step = min(round(length * 1e9), 2**62)  # longer than any session: one bucket in each
        start = (ends[first] - round(self.bucket_s * 1e9))[session]
        group = -(-(ends - start) // step)  # 1, 2, … within the session: ceil, as ends are inclusive
        new = np.append(True, (np.diff(group) != 0) | first[1:])
        opens = np.flatnonzero(new)
        closes = np.append(opens[1:], len(ends)) - 1
        close_of_session = np.append(ends[np.flatnonzero(first)[1:] - 1], ends[-1])[session]
        label = np.minimum(start + group * step, close_of_session)[closes]
        index = pd.DatetimeIndex(label, tz="UTC", name=self.index.name).as_unit("ns")
        parts: dict[str, Any] = {}
        for field in ("flow", "volume"):
            frame = getattr(self, field)
            parts[field] = pd.DataFrame(np.add.reduceat(frame.to_numpy(), opens, axis=0), index, frame.columns)
        for field in ("mid", "spread", "depth"):
            frame = getattr(self, field)
            parts[field] = pd.DataFrame(frame.to_numpy()[closes], index, frame.columns)
        if self.factors is not None:
            growth = 1.0 + np.nan_to_num(self.factors.to_numpy(), nan=0.0)
            compound = np.multiply.reduceat(growth, opens, axis=0) - 1.0
            parts["factors"] = pd.DataFrame(compound, index, self.factors.columns)
        return replace(self, bucket_s=length, **parts)

    def equals(self, other: object) -> bool:
        """Return whether all frames and all metadata are identical, bit for bit."""
        if not isinstance(other, MarketEvents):
            return False
        if (self.bucket_s, self.tz, self.currency) != (other.bucket_s, other.tz, other.currency):
            return False
        if (self.factors is None) != (other.factors is None):
            return False
        same = all(getattr(self, field).equals(getattr(other, field)) for field in FIELDS)
        return same and (self.factors is None or other.factors is None or self.factors.equals(other.factors))

    def to_frame(self) -> pd.DataFrame:
        """Return all fields side by side: T × (field, name)."""
        frames: dict[str, pd.DataFrame] = {field: getattr(self, field) for field in FIELDS}
        return pd.concat(frames, axis=1)

    def to_parquet(self, folder: str | Path) -> Path:
        """Write the buckets below ``folder`` (one parquet file per field and ``meta.json``), atomically."""
        from crosswind.problems.market.store import write_events

        return write_events(self, Path(folder))

    @classmethod
    def from_parquet(cls, folder: str | Path) -> MarketEvents:
        """Read what :meth:`to_parquet` wrote; the round trip is exact.

        Raises
        ------
        DataGap
            If a file is absent or unreadable.
        """
        from crosswind.problems.market.store import read_events

        return read_events(Path(folder))

    def plot(self) -> Any:
        """Return a plotly figure: moves of the mids and cumulative flow, session by session."""
        from crosswind.problems.market.plots import plot_events

        return plot_events(self)

    def __repr__(self) -> str:
        return (
            f"MarketEvents({_count(len(self.names), 'name')}, {_count(len(self.days), 'session')}, "
            f"{len(self.index)} buckets of "
            f"{self.bucket_s:g} s; see .summary())"
        )

    def summary(self) -> str:
        """Return a few lines: names, days, buckets, daily volume, spread in bps and return per bucket."""
        spread_bps = (self.spread / self.mid * 1e4).median()
        per_day = self.volume.sum() / len(self.days) / 1e6
        sd_bps = self.returns.std() * 1e4
        head = (
            f"{_count(len(self.names), 'name')}, {_count(len(self.days), 'session')} "
            f"({self.days[0]} .. {self.days[-1]}, {self.tz}), "
            f"{len(self.index)} buckets of {self.bucket_s:g} s, {self.currency}"
        )
        rows = [
            f"  {n}: {per_day[n]:,.1f} m a day, median spread {spread_bps[n]:.2f} bps, sd {sd_bps[n]:.2f} bps a bucket"
            for n in self.names
        ]
        return "\n".join([head, *rows])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
