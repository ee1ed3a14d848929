"""Ticks of one instrument in parts that fit into memory: what readers of ticks deliver and all else consumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "DepthTape",
    "Progress",
    "QuoteTape",
    "Settler",
    "TickChunk",
    "TickSource",
    "TradeTape",
    "pair_tapes",
    "ran_ahead",
]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]

#: Called with the name of a stage and the fraction of it that is done.
Progress = Callable[[str, float], None]

END_NS = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class TradeTape:
    """Trades of one instrument, in time order; trades of one time in the order of the file.

    Parameters
    ----------
    time_ns
        (L,) when each happened [ns since 1970 UTC].
    price, shares
        (L,) price · shares is the notional [currency]; for inverse contracts shares = contracts · value / price.
    signable
        (L,) whether the trade has an aggressor and a prevailing quote.
    sign
        (L,) aggressor, buy +1, sell −1, unknown 0, where the source knows it. Otherwise None, and the Lee–Ready rule
        signs the trades for which ``signable`` holds; the rest count as volume without flow.
    """

    time_ns: _Int
    price: _Float
    shares: _Float
    signable: npt.NDArray[np.bool_]
    sign: npt.NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.time_ns)

    @classmethod
    def empty(cls) -> TradeTape:
        """Return a tape without trades."""
        none = np.zeros(0)
        return cls(none.astype(np.int64), none, none, none.astype(bool))

    def take(self, rows: Any) -> TradeTape:
        """Return the trades that a slice, a mask or an index array selects."""
        sign = None if self.sign is None else self.sign[rows]
        return TradeTape(self.time_ns[rows], self.price[rows], self.shares[rows], self.signable[rows], sign)

    def then(self, later: TradeTape) -> TradeTape:
        """Return this tape followed by ``later``.

        Raises
        ------
        InvalidInput
            If one of them knows the aggressor and the other does not.
        """
        if not len(self) or not len(later):
            return later if len(later) else self
        if (self.sign is None) != (later.sign is None):
            raise InvalidInput(
                "some parts know the aggressor and some do not",
                field="sign",
                remedy="give signs in all chunks of a source, or in none",
            )
        columns = ("time_ns", "price", "shares", "signable")
        time, price, shares, signable = (np.concatenate([getattr(self, c), getattr(later, c)]) for c in columns)
        signs = None if self.sign is None or later.sign is None else np.concatenate([self.sign, later.sign])
        return TradeTape(time, price, shares, signable, signs)


@dataclass(frozen=True)
class QuoteTape:
    """Best quotes of one instrument, in the order in which they became known.

    Parameters
    ----------
    known_ns
        (Q,) when each could be known, not when its bar began [ns since 1970 UTC].
    bid, ask
        (Q,) best prices [currency per share].
    bid_shares, ask_shares
        (Q,) sizes at them [shares].
    """

    known_ns: _Int
    bid: _Float
    ask: _Float
    bid_shares: _Float
    ask_shares: _Float

    def __len__(self) -> int:
        return len(self.known_ns)

    @classmethod
    def empty(cls) -> QuoteTape:
        """Return a tape without quotes."""
        none = np.zeros(0)
        return cls(none.astype(np.int64), none, none, none, none)

    def take(self, rows: Any) -> QuoteTape:
        """Return the quotes that a slice, a mask or an index array selects."""
        return QuoteTape(*(getattr(self, c)[rows] for c in _QUOTE))

    def then(self, later: QuoteTape) -> QuoteTape:
        """Return this tape followed by ``later``."""
        if not len(self) or not len(later):
            return later if len(later) else self
        return QuoteTape(*(np.concatenate([getattr(self, c), getattr(later, c)]) for c in _QUOTE))

    def usable(self) -> tuple[QuoteTape, int]:
        """Return the quotes that are finite, positive and not crossed, and how many were not."""
        # A sum is finite only if each term is; comparisons with NaN are false, so they need no check of their own.
        good = np.isfinite(self.bid + self.ask + self.bid_shares + self.ask_shares)
        good &= (self.bid > 0) & (self.ask >= self.bid) & (self.bid_shares >= 0) & (self.ask_shares >= 0)
        if good.all():
            return self, 0
        return self.take(good), int((~good).sum())


_QUOTE = ("known_ns", "bid", "ask", "bid_shares", "ask_shares")


@dataclass(frozen=True)
class DepthTape:
    """Levels of one instrument's book, the best first.

    Parameters
    ----------
    known_ns
        (Q,) when each state could be known [ns since 1970 UTC].
    bid, ask
        (Q, L) prices [currency per share]; NaN where a level is empty.
    bid_shares, ask_shares
        (Q, L) sizes [shares]; 0 where a level is empty.
    """

    known_ns: _Int
    bid: _Float
    bid_shares: _Float
    ask: _Float
    ask_shares: _Float

    def __len__(self) -> int:
        return len(self.known_ns)


@dataclass(frozen=True)
class TickChunk:
    """One part of one instrument's ticks; nothing in it is earlier than anything in the parts before."""

    trades: TradeTape
    quotes: QuoteTape
    depth: DepthTape | None = None

    @property
    def last_ns(self) -> int | None:
        """The latest time in it [ns since 1970 UTC]; None if it is empty."""
        times = [t[-1] for t in (self.trades.time_ns, self.quotes.known_ns) if len(t)]
        if self.depth is not None and len(self.depth):
            times.append(self.depth.known_ns[-1])
        return int(max(times)) if times else None


@runtime_checkable
class TickSource(Protocol):
    """One instrument of one venue, read part by part."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def venue(self) -> str:
        """Where it trades."""
        ...

    @property
    def tz(self) -> str:
        """The venue's zone; its local dates are the sessions."""
        ...

    @property
    def currency(self) -> str:
        """Of prices."""
        ...

    @property
    def tick(self) -> float:
        """Smallest price step [currency per share]."""
        ...

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield its ticks in bounded memory; note files, rows, facts and bad rows in ``report``."""
        ...


def ran_ahead(time: _Int, last_ns: int) -> npt.NDArray[np.bool_]:
    """Return the rows whose clock alone ran ahead: the two rows after them are earlier, but not than the one before.

    Without this one wrong stamp would make all that follows look late.

    Parameters
    ----------
    time
        (L,) stamps in the order of the file [ns].
    last_ns
        The latest stamp before them [ns].
    """
    out = np.zeros(len(time), dtype=bool)
    if len(time) > 2:
        before = np.concatenate([[last_ns], time[:-3]])
        here, after, later = time[:-2], time[1:-1], time[2:]
        out[:-2] = (here > after) & (here > later) & (after >= before)
    return out


class Settler:
    """Holds trades back until no earlier or equally old quote can come any more.

    A quote known at the very time of a trade counts for it. Where a part ends with a trade, the next part may begin
    with such a quote: so trades at the latest time seen wait for the next part. Whatever the cuts, what comes out is
    the same.

    Parameters
    ----------
    name
        Used in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._held = TradeTape.empty()
        self._watermark = -END_NS

    def push(self, chunk: TickChunk) -> tuple[TradeTape, QuoteTape, int]:
        """Return the trades that are settled, the quotes of this part, and the time before which all is settled [ns].

        Raises
        ------
        InvalidInput
            If times decrease, within the part or against the parts before.
        """
        for kind, times in (("trades", chunk.trades.time_ns), ("quotes", chunk.quotes.known_ns)):
            if not len(times):
                continue
            if times[0] < self._watermark or (times[1:] < times[:-1]).any():
                raise InvalidInput(
                    "times decrease, within a part or against the part before",
                    field=f"{kind} of {self.name}",
                    value=int(times[0]),
                    remedy="sort the ticks by time, stable within equal times, and cut trades and quotes at one time",
                )
        last = chunk.last_ns
        if last is not None:
            self._watermark = last
        trades = self._held.then(chunk.trades)
        cut = int(np.searchsorted(trades.time_ns, self._watermark, side="left"))
        self._held = trades.take(slice(cut, None))
        return trades.take(slice(None, cut)), chunk.quotes, self._watermark

    def flush(self) -> tuple[TradeTape, QuoteTape, int]:
        """Return the trades still held, after the last part."""
        held, self._held = self._held, TradeTape.empty()
        return held, QuoteTape.empty(), END_NS


def pair_tapes(trades: Iterable[TradeTape], quotes: Iterable[QuoteTape]) -> Iterator[TickChunk]:
    """Yield chunks from trades and quotes that come in parts of their own, e.g. from two files.

    Both are cut at one time, so that each chunk is later than those before. Memory holds one part of each, longer only
    where one of them is silent for long.

    Parameters
    ----------
    trades, quotes
        Parts of each, in time order.
    """
    left, right = iter(trades), iter(quotes)
    trade, quote = TradeTape.empty(), QuoteTape.empty()
    more_trades = more_quotes = True
    while True:
        while more_trades and not len(trade):
            next_trades = next(left, None)
            more_trades, trade = next_trades is not None, next_trades or trade
        while more_quotes and not len(quote):
            next_quotes = next(right, None)
            more_quotes, quote = next_quotes is not None, next_quotes or quote
        # What is older than the end of both parts is complete; ties at the end wait for the next parts.
        ends = [int(trade.time_ns[-1])] if more_trades else []
        ends += [int(quote.known_ns[-1])] if more_quotes else []
        at = min(ends, default=END_NS)
        i = int(np.searchsorted(trade.time_ns, at, side="left"))
        j = int(np.searchsorted(quote.known_ns, at, side="left"))
        if i or j:
            yield TickChunk(trade.take(slice(None, i)), quote.take(slice(None, j)))
        trade, quote = trade.take(slice(i, None)), quote.take(slice(j, None))
        if not ends:
            return
        if more_trades and trade.time_ns[-1] == at:
            next_trades = next(left, None)
            more_trades, trade = next_trades is not None, trade.then(next_trades or TradeTape.empty())
        if more_quotes and quote.known_ns[-1] == at:
            next_quotes = next(right, None)
            more_quotes, quote = next_quotes is not None, quote.then(next_quotes or QuoteTape.empty())
