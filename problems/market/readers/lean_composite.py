"""The composite best quote out of quotes of single exchanges.

Each exchange's last bid and ask stand until it sends the next or they grow too old. The composite bid is the highest of
the bids, the composite ask the lowest of the asks, and its size is what all exchanges show at that price. Where a bid
lies above an ask, the side that was quoted longer ago is stale: it is taken out, and the next price stands, until the
book is no longer crossed. A state is taken after the last message of each time, so messages of one time have no order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.ticks import QuoteTape

__all__ = ["CompositeCounts", "composite_quotes"]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
_BLOCK = 1 << 18  # messages per block: bounds the memory of the states, (block, exchanges)


class CompositeCounts(NamedTuple):
    """Times at which the book was crossed (and mended), locked, or had only one side; quotes that grew too old."""

    crossed: int
    locked: int
    one_sided: int
    expired: int


class _Side:
    """The last price, size and time of each exchange on one side; prices so signed that the best is the highest."""

    def __init__(self, venues: int) -> None:
        self.price = np.full(venues, -np.inf)
        self.size = np.zeros(venues)
        self.time = np.zeros(venues, dtype=np.int64)
        self.expired = np.zeros(venues, dtype=bool)

    def states(
        self, mine: npt.NDArray[np.bool_], venue: _Int, price: _Float, size: _Float, time: _Int, ends: _Int
    ) -> tuple[_Float, _Float, _Int]:
        """Return the states (ends, exchanges) after the messages ``ends``, and keep the last."""
        shape = (len(ends), len(self.price))
        out = np.empty(shape), np.empty(shape), np.empty(shape, dtype=np.int64)
        for v in range(shape[1]):
            rows = np.flatnonzero(mine & (venue == v))
            at = np.searchsorted(rows, ends, side="right") - 1
            for table, column, kept in zip(out, (price, size, time), (self.price, self.size, self.time), strict=True):
                if len(rows):
                    table[:, v] = np.where(at >= 0, column[rows[np.maximum(at, 0)]], kept[v])
                    kept[v] = column[rows[-1]]
                else:
                    table[:, v] = kept[v]
        return out


def composite_quotes(
    time_ns: _Int, venue: _Int, is_bid: npt.NDArray[np.bool_], price: _Float, size: _Float, *, life_s: float
) -> tuple[QuoteTape, CompositeCounts]:
    """Return the composite best bid and ask after each time at which it changed.

    Parameters
    ----------
    time_ns
        (Q,) times of the messages, not decreasing [ns since 1970 UTC].
    venue
        (Q,) number of the exchange, 0, 1, ….
    is_bid
        (Q,) whether the message is a bid.
    price, size
        (Q,) price [currency] and shares; a size of 0 withdraws the quote.
    life_s
        An exchange's quote older than this does not count [s].

    Returns
    -------
    QuoteTape, CompositeCounts
        Only states with both sides; what was mended or left out.
    """
    venues = int(venue.max()) + 1 if len(venue) else 0
    bids, asks = _Side(venues), _Side(venues)
    life_ns = int(life_s * 1e9)
    # The best ask is the highest of the negated asks; a withdrawn quote is the lowest of all.
    signed = np.where(size > 0, np.where(is_bid, price, -price), -np.inf)
    parts: list[tuple[_Int, _Float, _Float, _Float, _Float]] = []
    crossed = locked = one_sided = expired = 0
    start = 0
    while start < len(time_ns):
        stop = min(start + _BLOCK, len(time_ns))
        if stop < len(time_ns):  # never cut between messages of one time
            stop = max(int(np.searchsorted(time_ns, time_ns[stop], side="left")), start + 1)
            stop = int(np.searchsorted(time_ns, time_ns[stop - 1], side="right"))
        part = slice(start, stop)
        now = time_ns[part]
        ends = np.flatnonzero(np.append(now[1:] != now[:-1], True))
        known = now[ends]
        columns = venue[part], signed[part], size[part], now, ends
        bid, bid_size, bid_time = bids.states(is_bid[part], *columns)
        ask, ask_size, ask_time = asks.states(~is_bid[part], *columns)
        for side, when, last in ((bid, bid_time, bids), (ask, ask_time, asks)):
            old = (known[:, None] - when > life_ns) & np.isfinite(side)
            expired += int((old & ~np.vstack([last.expired, old[:-1]])).sum())
            last.expired = old[-1]
            side[old] = -np.inf
        crossed += _uncross(bid, bid_time, ask, ask_time)
        best_bid, best_ask = bid.max(axis=1), ask.max(axis=1)
        both = np.isfinite(best_bid) & np.isfinite(best_ask)
        one_sided += int((~both).sum())
        locked += int((best_bid[both] == -best_ask[both]).sum())
        at_bid = np.where(bid == best_bid[:, None], bid_size, 0.0).sum(axis=1)
        at_ask = np.where(ask == best_ask[:, None], ask_size, 0.0).sum(axis=1)
        parts.append((known[both], best_bid[both], -best_ask[both], at_bid[both], at_ask[both]))
        start = stop
    if not parts:
        return QuoteTape.empty(), CompositeCounts(0, 0, 0, 0)
    tape = QuoteTape(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    same = [c[1:] == c[:-1] for c in (tape.bid, tape.ask, tape.bid_shares, tape.ask_shares)]
    changed = np.append([True], ~np.all(same, axis=0)) if len(tape) else np.zeros(0, dtype=bool)
    return tape.take(changed), CompositeCounts(crossed, locked, one_sided, expired)


def _uncross(bid: _Float, bid_time: _Int, ask: _Float, ask_time: _Int) -> int:
    """Take the older of two crossing prices out, in place, until none cross; return how many states were crossed."""
    rows = np.flatnonzero(bid.max(axis=1) > -ask.max(axis=1))
    count = len(rows)
    while len(rows):
        b, a = bid[rows], ask[rows]
        best_b, best_a = b == b.max(axis=1)[:, None], a == a.max(axis=1)[:, None]
        # A price shown by several exchanges is as old as the newest of them.
        since_b = np.where(best_b, bid_time[rows], 0).max(axis=1)
        since_a = np.where(best_a, ask_time[rows], 0).max(axis=1)
        drop_bid = since_b < since_a
        drop_ask = ~drop_bid
        b[best_b & drop_bid[:, None]] = -np.inf
        a[best_a & drop_ask[:, None]] = -np.inf
        bid[rows], ask[rows] = b, a
        rows = rows[b.max(axis=1) > -a.max(axis=1)]
    return count
