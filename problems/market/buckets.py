"""From trades and prevailing quotes to synchronised buckets; shared by all readers of ticks."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_positive, check_zone
from crosswind.problems.market.events import FIELDS, MarketEvents
from crosswind.problems.market.lee_ready import lee_ready
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["QuoteTape", "SessionHours", "TradeTape", "bucketise"]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SessionHours:
    """Regular hours of one exchange and the grid of buckets in them.

    Parameters
    ----------
    opens, closes
        Local wall times 'HH:MM'.
    tz
        The exchange's zone.
    bucket_s
        Bucket length [s]; divides the session.

    Raises
    ------
    InvalidInput
        On an unknown zone, unreadable or reversed times, a length that does not divide the session.
    """

    opens: str
    closes: str
    tz: str
    bucket_s: float

    def __post_init__(self) -> None:
        check_zone(self.tz)
        object.__setattr__(self, "bucket_s", check_positive(self.bucket_s, "bucket_s"))
        length = self._seconds(self.closes) - self._seconds(self.opens)
        if length <= 0:
            raise InvalidInput(
                "the session closes before it opens",
                field="hours",
                value=(self.opens, self.closes),
                remedy="give (open, close) as local times, e.g. ('09:30', '16:00')",
            )
        count = length / self.bucket_s
        if round(count) < 1 or abs(count - round(count)) > 1e-9:
            raise InvalidInput(
                f"does not divide the session of {length} s",
                field="bucket_s",
                value=self.bucket_s,
                remedy="choose a divisor such as 1, 5, 10, 60 or 300",
            )

    @staticmethod
    def _seconds(clock: str) -> int:
        try:
            hour, minute = (int(part) for part in clock.split(":"))
            at = dt.time(hour, minute) if clock != "24:00" else None
        except (ValueError, AttributeError) as error:
            raise InvalidInput("not a time of day", field="hours", value=clock, remedy="write it as '09:30'") from error
        return 86_400 if at is None else at.hour * 3600 + at.minute * 60

    def open_ns(self, day: dt.date) -> int:
        """Return the opening of ``day`` in UTC nanoseconds since 1970."""
        local = pd.Timestamp(day) + pd.Timedelta(seconds=self._seconds(self.opens))
        return int(local.tz_localize(self.tz).as_unit("ns").value)

    def edges_ns(self, day: dt.date) -> _Int:
        """Return the bucket edges of ``day`` (K + 1,) in UTC nanoseconds since 1970."""
        count = round((self._seconds(self.closes) - self._seconds(self.opens)) / self.bucket_s)
        steps = np.round(np.arange(count + 1) * self.bucket_s * 1e9).astype(np.int64)
        return self.open_ns(day) + steps


@dataclass(frozen=True)
class TradeTape:
    """Trades of one name in one session, in time order.

    ``sign`` gives the aggressor where the source knows it. Otherwise the Lee–Ready rule signs the trades for which
    ``signable`` holds; the rest count as volume without flow.
    """

    time_ns: _Int
    price: _Float
    shares: _Float
    signable: npt.NDArray[np.bool_]
    sign: npt.NDArray[np.int8] | None = None


@dataclass(frozen=True)
class QuoteTape:
    """Best quotes of one name; ``known_ns`` is when each could be known, not when its bar began."""

    known_ns: _Int
    bid: _Float
    ask: _Float
    bid_shares: _Float
    ask_shares: _Float

    def usable(self) -> tuple[QuoteTape, int]:
        """Return the quotes that are finite, positive and not crossed, and how many were not."""
        columns = (self.bid, self.ask, self.bid_shares, self.ask_shares)
        good = np.all([np.isfinite(c) for c in columns], axis=0)
        good &= (self.bid > 0) & (self.ask >= self.bid) & (self.bid_shares >= 0) & (self.ask_shares >= 0)
        return QuoteTape(self.known_ns[good], *(c[good] for c in columns)), int((~good).sum())


def _one(
    label: str,
    trades: TradeTape,
    quotes: QuoteTape,
    edges: _Int,
    tick: float,
    stale_limit_s: float,
    count: Counter[str],
) -> dict[str, _Float]:
    """Return the five fields (K,) of one name in one session."""
    quotes, dropped = quotes.usable()
    count["crossed, non-positive or non-finite quotes dropped"] += dropped
    ends = edges[1:]
    at = np.searchsorted(quotes.known_ns, ends, side="right") - 1
    # A quote that appears only after the close of a bucket cannot serve it: causal, so no backward fill.
    if at[0] < 0:
        raise DataGap(
            "no quote is known at the end of the session's first bucket",
            field=label,
            value=str(pd.Timestamp(int(ends[0]), tz="UTC")),
            remedy="leave the day or the name out, or open later with hours=(…)",
        )
    age = (ends - quotes.known_ns[at]) / 1e9
    if (age > stale_limit_s).any():
        worst = int(np.argmax(age))
        raise DataGap(
            f"the prevailing quote is {age[worst]:.0f} s old, more than {stale_limit_s:g} s",
            field=label,
            value=str(pd.Timestamp(int(ends[worst]), tz="UTC")),
            remedy="leave the day or the name out, shorten hours=(…), or raise stale_limit_s",
        )
    count["buckets without a new quote, forward-filled"] += int((age >= (ends - edges[:-1]) / 1e9).sum())
    mid_all = 0.5 * (quotes.bid + quotes.ask)
    mid = mid_all[at]
    spread = quotes.ask[at] - quotes.bid[at]
    locked = spread < tick * (1 - 1e-6)
    count[f"buckets with a locked quote, spread clipped to {tick:g}"] += int(locked.sum())
    spread = np.where(locked, tick, spread)
    depth = 0.5 * (quotes.bid_shares[at] + quotes.ask_shares[at]) * mid

    inside = (trades.time_ns >= edges[0]) & (trades.time_ns < edges[-1])
    time, price, shares = trades.time_ns[inside], trades.price[inside], trades.shares[inside]
    if trades.sign is None:
        use = trades.signable[inside]
        sign = np.zeros(len(time), dtype=np.int8)
        sign[use] = lee_ready(price[use], time[use], quotes.known_ns, mid_all)
        count["trades left unsigned (special conditions, or no rule decides)"] += int((sign == 0).sum())
    else:
        sign = trades.sign[inside]
    # A trade at the very end of a bucket belongs to the next: what is known at t lies before t.
    bucket = np.searchsorted(edges, time, side="right") - 1
    notional = price * shares
    volume = np.bincount(bucket, weights=notional, minlength=len(ends)).astype(np.float64)
    flow = np.bincount(bucket, weights=notional * sign, minlength=len(ends)).astype(np.float64)
    return {"flow": flow, "mid": mid, "spread": spread, "volume": volume, "depth": depth}


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
    mid, spread and depth are the quote known at its end.

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
    check_positive(tick, "tick")
    check_positive(stale_limit_s, "stale_limit_s")
    days = sorted(tapes)
    if not days:
        raise DataGap("there are no days", field="days", value=0, remedy="widen the selection")
    count: Counter[str] = Counter()
    blocks: dict[str, list[_Float]] = {field: [] for field in FIELDS}
    ends: list[_Int] = []
    for day in days:
        edges = hours.edges_ns(day)
        columns = [_one(f"{n} on {day}", *tapes[day][n], edges, tick, stale_limit_s, count) for n in names]
        for field in FIELDS:
            blocks[field].append(np.column_stack([c[field] for c in columns]))
        ends.append(edges[1:])
    index = pd.DatetimeIndex(np.concatenate(ends), tz="UTC").as_unit("ns")
    frames: dict[str, Any] = {
        field: pd.DataFrame(np.vstack(blocks[field]), index=index, columns=list(names)) for field in FIELDS
    }
    events = MarketEvents(**frames, bucket_s=hours.bucket_s, tz=hours.tz, currency=currency)
    return events, tuple(f"{number} {what}" for what, number in count.items() if number)
