"""Bars of one instrument and quotes of a future's listed expiries."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_date, as_utc, check_frame, check_positive, check_same_axes
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["Bars", "FuturesQuotes"]

_OHLC = ("open", "high", "low", "close")
_QUOTE_FIELDS = ("bid", "ask", "bid_size", "ask_size", "volume")


@dataclass(frozen=True, eq=False, repr=False)
class Bars(Shown):
    """Open, high, low, close (and volume) of one instrument, with the convention of its stamps.

    Parameters
    ----------
    frame
        Times (tz-aware) × columns. It holds ``open, high, low, close`` or the same with the prefix ``bid_`` and
        ``ask_``; ``volume`` and sizes are optional and not negative.
    bar_s
        Length of a bar [s].
    stamp
        Whether the index carries the bar's "start" or its "end". A bar is known only at its end.

    Raises
    ------
    InvalidInput
        On missing columns, high below low, a non-positive price, negative volume, a bad index.
    """

    frame: pd.DataFrame
    bar_s: float
    stamp: Literal["start", "end"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bar_s", check_positive(self.bar_s, "bar_s"))
        if self.stamp not in ("start", "end"):
            raise InvalidInput("unknown stamp", field="stamp", value=self.stamp, remedy="say 'start' or 'end'")
        frame = check_frame(self.frame, "frame")
        groups = [p for p in ("", "bid_", "ask_") if all(f"{p}{c}" in frame for c in _OHLC)]
        if not groups:
            raise InvalidInput(
                "open, high, low, close are not all there",
                field="frame",
                value=list(frame.columns),
                remedy="rename the columns to open, high, low, close (or bid_open, …, ask_close)",
            )
        for prefix in groups:
            o, h, low, c = (frame[f"{prefix}{part}"].to_numpy() for part in _OHLC)
            bad = (h < np.maximum(o, c)) | (low > np.minimum(o, c)) | (low <= 0)
            if bad.any():
                at = int(np.argmax(bad))
                raise InvalidInput(
                    f"low ≤ open, close ≤ high and low > 0 fails in {int(bad.sum())} bars, first at {frame.index[at]}",
                    field=f"{prefix}open/high/low/close",
                    value=tuple(float(v[at]) for v in (o, h, low, c)),
                    remedy="drop bad prints or check the order of the columns",
                )
        for column in ("volume", "bid_size", "ask_size"):
            if column in frame and (frame[column].to_numpy() < 0).any():
                raise InvalidInput(
                    "negative", field=column, value=float(frame[column].min()), remedy="check the column's unit"
                )
        object.__setattr__(self, "frame", frame)

    def stamped(self, stamp: Literal["start", "end"]) -> Bars:
        """Return the same bars with the index moved to their start or their end."""
        if stamp not in ("start", "end"):
            raise InvalidInput("unknown stamp", field="stamp", value=stamp, remedy="say 'start' or 'end'")
        if stamp == self.stamp:
            return self
        shift = pd.Timedelta(round(self.bar_s * 1e9), "ns") * (1 if stamp == "end" else -1)
        return replace(self, frame=self.frame.set_axis(self.frame.index + shift, axis=0), stamp=stamp)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the frame."""
        return self.frame.copy()

    def summary(self) -> str:
        """Return one line: number, length and span of the bars, and the convention of their stamps."""
        index = self.frame.index
        span = f", {index[0]:%Y-%m-%d %H:%M} .. {index[-1]:%Y-%m-%d %H:%M} UTC" if len(index) else ""
        return f"{len(index):,} bars of {self.bar_s:g} s, stamped at their {self.stamp}{span}"


@dataclass(frozen=True, eq=False, repr=False)
class FuturesQuotes(Shown):
    """Best quotes and volume of a future's expiries on one time axis.

    Parameters
    ----------
    root
        Root symbol, e.g. 'ES'.
    bid, ask
        Best prices at the bar's END, times (UTC) × expiries 'YYYYMM' [points]; NaN where the expiry is not quoted,
        in both at once.
    bid_size, ask_size
        Sizes at the best prices [contracts]; NaN exactly where the prices are.
    volume
        Contracts traded in the bar, ≥ 0.
    bar_s
        Length of a bar [s].
    multiplier
        Currency per point and contract.
    tick
        Smallest price step [points].
    open_interest
        Contracts outstanding as they were published, times (UTC) × expiries, NaN where not published then; None where
        the source has none.
    margins
        Date from which they hold (UTC) × ``initial``, ``maintenance`` [currency per contract]; None where unknown.

    Raises
    ------
    InvalidInput
        On crossed quotes, half a quote, negative sizes, mismatched frames, an expiry that is not 'YYYYMM'.
    """

    root: str
    bid: pd.DataFrame
    ask: pd.DataFrame
    bid_size: pd.DataFrame
    ask_size: pd.DataFrame
    volume: pd.DataFrame
    bar_s: float
    multiplier: float
    tick: float
    open_interest: pd.DataFrame | None = None
    margins: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if not isinstance(self.root, str) or not self.root:
            raise InvalidInput("no root symbol", field="root", value=self.root, remedy="name it, e.g. 'ES'")
        for field in ("bar_s", "multiplier", "tick"):
            set_(self, field, check_positive(getattr(self, field), field))
        frames = {
            "bid": check_frame(self.bid, "bid", allow_nan=True),
            "ask": check_frame(self.ask, "ask", allow_nan=True),
            "bid_size": check_frame(self.bid_size, "bid_size", allow_nan=True, lower=0.0),
            "ask_size": check_frame(self.ask_size, "ask_size", allow_nan=True, lower=0.0),
            "volume": check_frame(self.volume, "volume", lower=0.0),
        }
        check_same_axes(frames, "bid")
        for expiry in frames["bid"].columns:
            if not (len(expiry) == 6 and expiry.isdigit() and 1 <= int(expiry[4:]) <= 12):
                raise InvalidInput(
                    "an expiry is not 'YYYYMM'", field="bid columns", value=expiry, remedy="e.g. '201312'"
                )
        bid, ask = frames["bid"].to_numpy(), frames["ask"].to_numpy()
        for field in ("ask", "bid_size", "ask_size"):
            half = np.isnan(bid) != np.isnan(frames[field].to_numpy())
            if half.any():
                raise InvalidInput(
                    f"given where bid is not, or the other way round, in {int(half.sum())} places",
                    field=field,
                    value=str(frames["bid"].index[int(np.argwhere(half)[0][0])]),
                    remedy="quote both sides with sizes, or leave all NaN",
                )
        crossed = bid > ask
        if crossed.any():
            row, col = (int(k) for k in np.argwhere(crossed)[0])
            raise InvalidInput(
                f"bid above ask in {int(crossed.sum())} places",
                field="bid",
                value=(float(bid[row, col]), float(ask[row, col])),
                remedy="drop crossed quotes before",
            )
        for field, frame in frames.items():
            set_(self, field, frame)
        if self.open_interest is not None:
            listed = check_frame(self.open_interest, "open_interest", allow_nan=True, lower=0.0)
            unknown = [e for e in listed.columns if e not in self.expiries]
            if unknown:
                raise InvalidInput(
                    "an expiry is not quoted", field="open_interest", value=unknown, remedy="drop its column"
                )
            set_(self, "open_interest", listed)
        if self.margins is not None:
            set_(self, "margins", check_frame(self.margins, "margins", lower=0.0, strict=True))

    @property
    def index(self) -> pd.DatetimeIndex:
        """Bar ends (T,), UTC."""
        index = self.bid.index
        assert isinstance(index, pd.DatetimeIndex)
        return index

    @property
    def expiries(self) -> tuple[str, ...]:
        """The listed expiries 'YYYYMM', in column order."""
        return tuple(self.bid.columns)

    @property
    def mid(self) -> pd.DataFrame:
        """½ (bid + ask), times × expiries [points]; NaN where not quoted."""
        return 0.5 * (self.bid + self.ask)

    @property
    def spread(self) -> pd.DataFrame:
        """Ask − bid, times × expiries [points]; NaN where not quoted."""
        return self.ask - self.bid

    @property
    def session(self) -> pd.Series[Any]:
        """UTC date in which each bar began."""
        return pd.Series((self.index - pd.Timedelta(1, "ns")).date, index=self.index, name="session", dtype=object)

    @property
    def days(self) -> tuple[dt.date, ...]:
        """UTC dates present, ascending."""
        return tuple(sorted(set(self.session)))

    def on(self, day: Any) -> FuturesQuotes:
        """Return the bars of one UTC date.

        Raises
        ------
        DataGap
            If there are none.
        """
        wanted = as_date(day)
        keep = (self.session == wanted).to_numpy()
        if not keep.any():
            have = ", ".join(str(d) for d in self.days)
            raise DataGap(
                f"{self.root} has no bars on that day", field="day", value=wanted, remedy=f"choose among {have}"
            )
        held = self.open_interest
        held = None if held is None else held[pd.DatetimeIndex(held.index).date == wanted]
        return replace(self, **{field: getattr(self, field)[keep] for field in _QUOTE_FIELDS}, open_interest=held)

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> FuturesQuotes:
        """Return the bars whose END lies in (start, end].

        Raises
        ------
        InvalidInput
            On a naive bound.
        DataGap
            If no bar is left.
        """
        keep = np.asarray((self.index > as_utc(start, "start")) & (self.index <= as_utc(end, "end")))
        if not keep.any():
            raise DataGap(
                f"{self.root} has no bars between",
                field="between",
                value=(str(start), str(end)),
                remedy=f"choose within {self.index[0]} .. {self.index[-1]}",
            )
        held = self.open_interest
        held = (
            None if held is None else held[(held.index > as_utc(start, "start")) & (held.index <= as_utc(end, "end"))]
        )
        return replace(self, **{field: getattr(self, field)[keep] for field in _QUOTE_FIELDS}, open_interest=held)

    def front(self, day: Any) -> str:
        """Return the expiry that traded most on a UTC date; of equals the nearest.

        Raises
        ------
        DataGap
            If there are no bars on that day.
        """
        total = self.on(day).volume.sum()
        ordered = total[sorted(self.expiries)]
        return str(ordered.index[int(np.argmax(ordered.to_numpy()))])

    def equals(self, other: object) -> bool:
        """Return whether all frames and all metadata are identical, bit for bit."""
        if not isinstance(other, FuturesQuotes):
            return False
        mine = (self.root, self.bar_s, self.multiplier, self.tick)
        if mine != (other.root, other.bar_s, other.multiplier, other.tick):
            return False
        for field in ("open_interest", "margins"):
            one, two = getattr(self, field), getattr(other, field)
            if (one is None) != (two is None) or (one is not None and not one.equals(two)):
                return False
        return all(getattr(self, field).equals(getattr(other, field)) for field in _QUOTE_FIELDS)

    def to_frame(self) -> pd.DataFrame:
        """Return all fields side by side: T × (field, expiry)."""
        frames: dict[str, pd.DataFrame] = {field: getattr(self, field) for field in _QUOTE_FIELDS}
        return pd.concat(frames, axis=1)

    def summary(self) -> str:
        """Return a few lines: days, bars, and per expiry its volume and median spread in ticks."""
        head = f"{self.root}: {len(self.days)} days, {len(self.index)} bars of {self.bar_s:g} s, × {self.multiplier:g}"
        ticks = self.spread.median() / self.tick
        rows = [f"  {e}: {self.volume[e].sum():,.0f} contracts, spread {ticks[e]:.2f} ticks" for e in self.expiries]
        return "\n".join([head, *rows])
