"""Binance's order book rebuilt from its diff-depth updates, held against the best quotes of bookTicker."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput

__all__ = ["DiffBook"]

_REPLAY = 2000  # updates kept until a snapshot comes: it may be older than updates that were received before it


class _Side:
    """One side of the book: prices ascending, with their sizes and the update that last touched each."""

    def __init__(self) -> None:
        self.prices: list[float] = []
        self.size: dict[float, float] = {}
        self.touched: dict[float, int] = {}

    def put(self, price: float, size: float, update: int) -> None:
        if size > 0:
            if price not in self.size:
                insort(self.prices, price)
            self.size[price] = size
            self.touched[price] = update
        elif price in self.size:
            self.remove(price)

    def remove(self, price: float) -> None:
        del self.prices[bisect_left(self.prices, price)], self.size[price], self.touched[price]

    def remove_stale(self, prices: list[float], update: int) -> int:
        stale = [p for p in prices if self.touched[p] <= update]
        for price in stale:
            self.remove(price)
        return len(stale)


class DiffBook:
    """The levels of one instrument, from updates that give absolute sizes of the levels that changed.

    Sequence rules of the venue: on spot an update begins at the id after the last one's end (``U = u_last + 1``); on
    futures it names the end of the one before (``pu = u_last``). A break of the sequence empties the book. It
    counts as valid from a snapshot that joins the sequence, or, without one, from the first moment at which both of its
    best prices equal those of bookTicker at the same update id; deeper levels are then those that have changed since.

    Parameters
    ----------
    levels
        Levels L handed on, ≥ 1.
    spot
        Whether the rules are those of spot.

    Raises
    ------
    InvalidInput
        If ``levels`` is below 1.
    """

    def __init__(self, levels: int, *, spot: bool) -> None:
        if not isinstance(levels, int) or isinstance(levels, bool) or levels < 1:
            raise InvalidInput("not a number of levels", field="levels", value=levels, remedy="give 1, 5, 10, …")
        self.levels, self.spot = levels, spot
        self.bids, self.asks = _Side(), _Side()
        self.valid = False
        self.from_snapshot = False
        self.last: int | None = None
        self._start = 0  # the snapshot's update id
        #: Breaks of the sequence, updates older than the last, levels that bookTicker proved stale, unreadable levels.
        self.gaps = self.old = self.stale = self.unreadable = 0
        #: Updates held against bookTicker at the same update id, and those whose best prices agreed.
        self.compared = self.agreed = 0
        self._replay: deque[dict[str, Any]] = deque(maxlen=_REPLAY)
        self._pending: deque[tuple[int, float, float]] = deque()
        self._ticker: tuple[int, float, float] | None = None

    @property
    def best(self) -> tuple[float, float]:
        """Best bid and ask; NaN where a side is empty."""
        bid = self.bids.prices[-1] if self.bids.prices else np.nan
        ask = self.asks.prices[0] if self.asks.prices else np.nan
        return bid, ask

    def update(self, message: dict[str, Any]) -> bool:
        """Apply one depth update; return whether the book is valid and not crossed after it."""
        last = int(message["u"])
        if self.last is not None and last <= self.last:
            self.old += 1
            return False
        if not self._follows(message):
            self.gaps += 1
            self._clear()
        self.last = last
        if self.from_snapshot and last <= self._start:
            return False  # the snapshot is newer: it holds this update
        if not self.from_snapshot:
            self._replay.append(message)
        self._apply(message)
        bid, ask = self.best
        self._pending.append((last, bid, ask))
        return self.valid and bid < ask

    def _follows(self, message: dict[str, Any]) -> bool:
        if self.last is None:
            return not self.from_snapshot or int(message["u"]) <= self._start or self._joins(message, self._start)
        follows: bool = message["U"] == self.last + 1 if self.spot else message.get("pu") == self.last
        return follows

    def _clear(self) -> None:
        self.bids, self.asks = _Side(), _Side()
        self.valid = self.from_snapshot = False
        self._pending.clear()
        self._replay.clear()

    def _apply(self, message: dict[str, Any]) -> None:
        update = int(message["u"])
        for side, rows in ((self.bids, message["b"]), (self.asks, message["a"])):
            for row in rows:
                try:
                    price, size = float(row[0]), float(row[1])
                except (ValueError, TypeError, LookupError, OverflowError):
                    self.unreadable += 1
                    continue
                if 0 < price < np.inf and 0 <= size < np.inf:
                    side.put(price, size, update)
                else:
                    self.unreadable += 1

    def snapshot(self, message: dict[str, Any]) -> bool:
        """Start over from a full book; return whether it joins the updates received so far.

        Updates that ended after the snapshot are applied to it again, as its answer may come later than they did.
        """
        start = int(message["lastUpdateId"])
        later = [m for m in self._replay if int(m["u"]) > start]
        if later and not self._joins(later[0], start):
            return False  # updates between the snapshot and the first one kept are lost
        if not later and self.from_snapshot:
            return True  # a second one of the same sequence says nothing new
        self.bids, self.asks = _Side(), _Side()
        self._apply({"u": start, "b": message["bids"], "a": message["asks"]})
        for one in later:
            self._apply(one)
        self._pending.clear()
        self.valid = self.from_snapshot = True
        self._start = start
        self._replay.clear()
        return True

    def _joins(self, message: dict[str, Any], start: int) -> bool:
        first = int(message["U"]) if self.spot else int(message.get("pu", message["U"]))
        return first <= start + 1

    def ticker(self, update: int, bid: float, ask: float) -> None:
        """Take bookTicker's best prices at one update id: what came before it can now be judged.

        bookTicker tells each change of the best quote, so the best prices after update ``u`` are those of the last
        ticker with an id of at most ``u``.
        """
        while self._pending and self._pending[0][0] < update:
            at, own_bid, own_ask = self._pending.popleft()
            if self._ticker is None or self._ticker[0] > at:
                continue
            _, true_bid, true_ask = self._ticker
            agree = own_bid == true_bid and own_ask == true_ask
            if self.valid:
                self.compared += 1
                self.agreed += agree
                if not agree:
                    self._prune(true_bid, true_ask, at)
            elif agree:
                self.valid = True
            else:
                self._prune(true_bid, true_ask, at)
        if self._ticker is None or update >= self._ticker[0]:
            self._ticker = (update, bid, ask)

    def _prune(self, bid: float, ask: float, update: int) -> None:
        # Better than the best and untouched since: such a level was removed without our being told.
        bids, asks = self.bids.prices, self.asks.prices
        self.stale += self.bids.remove_stale(bids[bisect_right(bids, bid) :], update)
        self.stale += self.asks.remove_stale(asks[: bisect_left(asks, ask)], update)

    def row(self) -> tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]:
        """Return the first L bid prices, bid sizes, ask prices, ask sizes, the best first; NaN and 0 where empty."""
        bids = self.bids.prices[: -self.levels - 1 : -1]
        asks = self.asks.prices[: self.levels]
        bid_size, ask_size = [self.bids.size[p] for p in bids], [self.asks.size[p] for p in asks]
        for prices, sizes in ((bids, bid_size), (asks, ask_size)):
            short = self.levels - len(prices)
            if short:
                prices.extend([np.nan] * short)
                sizes.extend([0.0] * short)
        return bids, bid_size, asks, ask_size

    def summary(self) -> str:
        """Return one line: how the book began, breaks, and the share of updates that agree with bookTicker."""
        share = f"{self.agreed / self.compared:.2%} of {self.compared:,}" if self.compared else "none"
        start = "a snapshot" if self.from_snapshot else "updates alone: levels unchanged since are missing"
        return (
            f"begun from {start}; {self.gaps} breaks of the sequence; best prices equal bookTicker's after {share} "
            f"updates; {self.stale} stale levels pruned"
        )
