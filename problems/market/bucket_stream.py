"""The buckets of one instrument, filled part by part."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.hours import DayGrid, midnight_ns
from crosswind.problems.market.lee_ready import LeeReady
from crosswind.problems.market.ticks import END_NS, QuoteTape, Settler, TickChunk, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["BucketRules", "BucketStream", "SessionBuckets"]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
_SAME_UNIT = 5.0  # a session's mean trade lies within this factor of its median mid, or the units differ
_BAD_QUOTE = "crossed, non-positive or non-finite quotes dropped"


class SessionBuckets:
    """The buckets of one instrument in one session, filled part by part.

    What is kept between parts is the last usable quote, the state of the trade signs and the sums of the buckets: sums
    run in the order of the trades whatever the cuts, so the result does not depend on them in a single bit.

    Parameters
    ----------
    edges
        (K + 1,) bucket edges [ns since 1970 UTC].
    """

    def __init__(self, edges: _Int) -> None:
        count = len(edges) - 1
        self.edges = edges
        self.volume, self.flow = np.zeros(count), np.zeros(count)
        self.bid, self.ask = np.full(count, np.nan), np.full(count, np.nan)
        self.size = np.full(count, np.nan)
        self.known = np.zeros(count, dtype=np.int64)
        self.quotes = self.unsigned = self.unused_quotes = self.trades = 0
        self.price_sum = 0.0
        self.first_ns, self.last_ns = END_NS, -END_NS
        self._closed = 0
        self._last: QuoteTape = QuoteTape.empty()
        self._rule = LeeReady()

    def add(self, trades: TradeTape, quotes: QuoteTape, before_ns: int) -> None:
        """Add settled trades and the next quotes; buckets that end before ``before_ns`` are complete with them."""
        for times in (trades.time_ns, quotes.known_ns):
            if len(times):
                self.first_ns, self.last_ns = min(self.first_ns, int(times[0])), max(self.last_ns, int(times[-1]))
        self.quotes += len(quotes)
        quotes, dropped = quotes.usable()
        self.unused_quotes += dropped
        self._trade(trades, quotes)
        known = self._last.then(quotes)
        ends = self.edges[1:]
        stop = int(np.searchsorted(ends, before_ns, side="left"))
        if stop > self._closed and len(known):
            at = np.searchsorted(known.known_ns, ends[self._closed : stop], side="right") - 1
            # A quote that appears only after the close of a bucket cannot serve it: causal, so no backward fill.
            rows = self._closed + np.flatnonzero(at >= 0)
            at = at[at >= 0]
            self.bid[rows], self.ask[rows], self.known[rows] = known.bid[at], known.ask[at], known.known_ns[at]
            self.size[rows] = 0.5 * (known.bid_shares[at] + known.ask_shares[at])
        self._closed = max(self._closed, stop)
        self._last = known.take(slice(-1, None)) if len(known) else known

    def _trade(self, trades: TradeTape, quotes: QuoteTape) -> None:
        mid = 0.5 * (quotes.bid + quotes.ask)
        first, last = np.searchsorted(trades.time_ns, (self.edges[0], self.edges[-1]), side="left")
        trades = trades.take(slice(int(first), int(last)))
        if trades.sign is None:
            # Also without trades: the rule keeps the last mid for the trades to come.
            use = trades.signable
            if use.all():
                sign = self._rule.sign(trades.price, trades.time_ns, quotes.known_ns, mid)
            else:
                sign = np.zeros(len(trades), dtype=np.int8)
                sign[use] = self._rule.sign(trades.price[use], trades.time_ns[use], quotes.known_ns, mid)
            self.unsigned += int((sign == 0).sum())
        else:
            sign = trades.sign
        if not len(trades):
            return
        self.trades += len(trades)
        self.price_sum += float(trades.price.sum())
        # A trade at the very end of a bucket belongs to the next: what is known at t lies before t.
        low, high = np.searchsorted(self.edges, (trades.time_ns[0], trades.time_ns[-1]), side="right") - 1
        per_bucket = np.diff(np.searchsorted(trades.time_ns, self.edges[low : high + 2], side="left"))
        bucket = np.append(0, np.repeat(np.arange(len(per_bucket)), per_bucket))
        notional = trades.price * trades.shares
        for total, weights in ((self.volume, notional), (self.flow, notional * sign)):
            # The sum so far goes first, so that the additions are those of one pass over the whole session.
            total[low : high + 1] = np.bincount(bucket, weights=np.append(total[low], weights))


@dataclass(frozen=True)
class BucketRules:
    """When quotes are too old, and the smallest spread there is.

    Parameters
    ----------
    tick
        Smallest price step [currency per share]; locked quotes are widened to it.
    stale_limit_s
        Oldest quote that may be carried forward within a session [s].
    """

    tick: float
    stale_limit_s: float

    def fields(self, label: str, of: SessionBuckets, rows: slice, count: Counter[str]) -> dict[str, _Float]:
        """Return the five fields of some buckets, or refuse them; repairs are counted."""
        starts, ends = of.edges[:-1][rows], of.edges[1:][rows]
        bid, ask, size = of.bid[rows], of.ask[rows], of.size[rows]
        count[_BAD_QUOTE] += of.unused_quotes
        if np.isnan(bid[0]):
            raise DataGap(
                "no quote is known at the end of the session's first bucket",
                field=label,
                value=str(pd.Timestamp(int(ends[0]), tz="UTC")),
                remedy="leave the day or the name out, or open later with hours=(…)",
            )
        age = (ends - of.known[rows]) / 1e9
        if (age > self.stale_limit_s).any():
            worst = int(np.argmax(age))
            raise DataGap(
                f"the prevailing quote is {age[worst]:.0f} s old, more than {self.stale_limit_s:g} s",
                field=label,
                value=str(pd.Timestamp(int(ends[worst]), tz="UTC")),
                remedy="leave the day or the name out, shorten hours=(…), or raise stale_limit_s",
            )
        count["buckets without a new quote, forward-filled"] += int((age >= (ends - starts) / 1e9).sum())
        mid, spread = 0.5 * (bid + ask), ask - bid
        ratio = of.price_sum / of.trades / float(np.median(mid)) if of.trades else 1.0
        if not 1 / _SAME_UNIT <= ratio <= _SAME_UNIT:
            raise InvalidInput(
                f"the prices of trades are {ratio:.3g} times those of quotes: one of them is in another unit",
                field=label,
                value=ratio,
                remedy="scale the prices of trades and quotes to the same unit",
            )
        locked = spread < self.tick * (1 - 1e-6)
        count[f"buckets with a locked quote, spread clipped to {self.tick:g}"] += int(locked.sum())
        count["trades left unsigned (special conditions, or no rule decides)"] += of.unsigned
        spread = np.where(locked, self.tick, spread)
        return {"flow": of.flow[rows], "mid": mid, "spread": spread, "volume": of.volume[rows], "depth": size * mid}


class BucketStream:
    """Puts the ticks of one instrument into the buckets of its days, part by part.

    Memory holds one part and the sums of the buckets. The state starts anew each day: quotes of the day before do not
    prevail at an opening, and reading some days gives what reading all of them gives.

    Parameters
    ----------
    name
        The instrument.
    grid
        The edges of each day's buckets.
    tz
        The zone whose dates are the days.
    days
        Days to keep; None for all.
    """

    def __init__(self, name: str, grid: DayGrid, tz: str, days: Sequence[dt.date] | None = None) -> None:
        self.name, self.grid, self.tz = name, grid, tz
        self._wanted = None if days is None else frozenset(days)
        self._settler = Settler(name)
        self._done: dict[dt.date, SessionBuckets] = {}
        self._day: dt.date | None = None
        self._now: SessionBuckets | None = None  # None on days that are closed or not wanted
        self._ends = 0
        self.seen: set[dt.date] = set()
        self.unquoted_trades = 0

    def push(self, chunk: TickChunk) -> None:
        """Add the next part.

        Raises
        ------
        InvalidInput
            If times decrease.
        """
        self._add(*self._settler.push(chunk))

    def close(self) -> dict[dt.date, SessionBuckets]:
        """Return day → its buckets, for the days with at least one quote."""
        self._add(*self._settler.flush())
        self._leave()
        return self._done

    def _add(self, trades: TradeTape, quotes: QuoteTape, before_ns: int) -> None:
        while len(trades) or len(quotes):
            first = min(int(t[0]) for t in (trades.time_ns, quotes.known_ns) if len(t))
            if self._day is None or first >= self._ends:
                before = self._day
                self._leave()
                self._enter(first)
                if before is not None and self._day == before + dt.timedelta(days=1):
                    # The ticks run on over midnight, so both days were seen to it, however quiet the market was.
                    for held, side in ((self._done.get(before), "last_ns"), (self._now, "first_ns")):
                        if held is not None:
                            setattr(held, side, int(held.edges[-1 if side == "last_ns" else 0]))
            i = int(np.searchsorted(trades.time_ns, self._ends, side="left"))
            j = int(np.searchsorted(quotes.known_ns, self._ends, side="left"))
            if j and self._day is not None:
                self.seen.add(self._day)
            if self._now is not None:
                # A quote after the close serves no bucket and is not counted either.
                last = int(np.searchsorted(quotes.known_ns[:j], self._now.edges[-1], side="right"))
                upto = min(before_ns, self._ends)
                self._now.add(trades.take(slice(None, i)), quotes.take(slice(None, last)), upto)
            trades, quotes = trades.take(slice(i, None)), quotes.take(slice(j, None))

    def _enter(self, first_ns: int) -> None:
        day = pd.Timestamp(first_ns, tz="UTC").tz_convert(self.tz).date()
        ends, tomorrow = self._starts(day + dt.timedelta(days=1))
        edges = self.grid.edges_ns(day)
        if first_ns >= ends:  # a session that opens on the evening before
            day, edges = day + dt.timedelta(days=1), tomorrow
            ends, _ = self._starts(day + dt.timedelta(days=1))
        self._day, self._ends = day, ends
        wanted = self._wanted is None or day in self._wanted
        self._now = SessionBuckets(edges) if wanted and len(edges) > 1 else None

    def _starts(self, day: dt.date) -> tuple[int, _Int]:
        """Return when the ticks of ``day`` begin: at midnight, or where its session opens before that."""
        edges = self.grid.edges_ns(day)
        return min([midnight_ns(day, self.tz), *edges[:1].tolist()]), edges

    def _leave(self) -> None:
        if self._now is not None and self._day is not None:
            self._now.add(TradeTape.empty(), QuoteTape.empty(), END_NS)
            if self._now.quotes:
                self._done[self._day] = self._now
            else:
                self.unquoted_trades += int(np.count_nonzero(self._now.volume))
        self._now = None
