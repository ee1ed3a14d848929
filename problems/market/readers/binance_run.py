"""One pass over the recorded lines of one instrument: clocks, checks, order, and the tapes that come out."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.readers import binance_venues as venues
from crosswind.problems.market.readers.binance_book import DiffBook
from crosswind.problems.market.readers.binance_lines import Messages, Ordered
from crosswind.problems.market.readers.binance_messages import Columns, repeated, trade_columns
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import DepthTape, QuoteTape, TickChunk, TradeTape

__all__ = ["RawRun"]

_WINDOW_NS = 1_000_000_000  # rows may come this late: the streams' latencies differ by less
_STEP_NS = 1_000_000_000  # a least latency that rises by more is a clock that was set, or a line that lags
_SECOND = 1e9
_NO_IDS = np.zeros(0, dtype=np.int64)

_Int = npt.NDArray[np.int64]
_Bool = npt.NDArray[np.bool_]


def _stamp(value: Any) -> int:
    """Return a stamp that fits into 64 bits."""
    stamp = int(value)
    if not 0 <= stamp < 2**63:
        raise ValueError(f"{stamp} is no time")
    return stamp


class RawRun:
    """State of one instrument between blocks of lines.

    Parameters
    ----------
    instrument, clock, levels, trades, tick
        See :class:`~crosswind.problems.market.readers.binance_raw.BinanceRawSource`.
    report
        Where facts and bad rows go.
    """

    def __init__(
        self, instrument: venues.Instrument, clock: str, levels: int, trades: str, tick: float, report: ReadReport
    ) -> None:
        self._instrument, self._local, self._trades, self._report = instrument, clock == "local", trades, report
        spot = instrument.market == "spot"
        self._shifted = spot and not self._local  # spot's bookTicker carries no time of its own
        unit = "local receive time, ns" if self._local else "exchange transaction time T"
        if self._shifted:
            unit += "; bookTicker has none: local receive time less the smallest latency seen before it"
        if spot and levels and not self._local:
            unit += "; depth: event time E"
        self._facts = instrument.note(
            report,
            "ticks",
            clock=f"{unit}, since 1970 UTC",
            stamp="event",
            tick=f"{tick:g}",
            sign="exact: buyer is maker",
        )
        self._gaps = venues.GapMeter(self._facts)
        self._book = DiffBook(levels, spot=spot) if levels else None
        self._ordered = {"trades": Ordered(), "quotes": Ordered(), "depth": Ordered()}
        self._newest = np.iinfo(np.int64).min
        self._ids: dict[str, _Int] = {"trades": _NO_IDS, "quotes": _NO_IDS}
        self._top_id: int | None = None
        self._missing = 0
        self._least: int | None = None  # smallest latency so far [ns], and before the present block
        self._least_before: int | None = None
        self._when = self._offset = _NO_IDS  # local times of the present block's clock, and the least latency by then
        self._tickers: list[tuple[int, int, float, float]] = []
        self._latency: Counter[int] = Counter()  # in tenths of ms
        self._steps = 0
        self._not_whole = 0
        self._where: Path | str = ""
        self._factor = 10**6
        self._day: int | None = None

    def take(self, messages: Messages, path: Path, factor: int, day_ns: int | None) -> TickChunk | None:
        """Take the messages of one block; return what is settled by them, or None."""
        self._where, self._factor, self._day = path, factor, day_ns
        for skipped in {"trade", "aggTrade"} - {self._trades}:
            count = len(messages.local.get(skipped, ()))
            self._report.bad(path, f"stream not used: {skipped}", count, "the trades are read from another stream")
        trades = self._trade_rows(messages)
        self._clock(messages)
        self._push("trades", trades)
        self._push("quotes", self._quote_rows(messages))
        if self._book is not None:
            self._push("depth", self._depth_rows(messages))
        return self._emit(self._newest - _WINDOW_NS)

    def finish(self) -> TickChunk | None:
        """Return what is left, and note clocks, ids and the book in the facts."""
        chunk = self._emit(None)
        facts = self._facts.facts
        if self._latency:
            values = np.array(sorted(self._latency))
            counts = np.cumsum([self._latency[int(v)] for v in values])
            middle = values[np.searchsorted(counts, counts[-1] / 2)] / 10
            least = values[0] / 10
            facts["latency"] = f"local less event time E: median {middle:.1f} ms, smallest {least:.1f} ms"
            if least < 0:
                facts["clock_trap"] = (
                    f"the local clock stands at least {-least:.1f} ms behind the exchange's: local times come before "
                    "the events they tell"
                )
        if self._steps:
            facts["clock_steps"] = f"{self._steps}: the smallest latency rose by more than {_STEP_NS / _SECOND:g} s"
        facts["trade_ids"] = f"{self._missing} missing"
        if self._book is not None:
            facts["book"] = f"{self._book.summary()}; {self._not_whole} updates before it was whole"
            self._report.bad(self._where, "gap in depth update ids", self._book.gaps)
            self._report.bad(self._where, "depth update older than the last", self._book.old)
            self._report.bad(self._where, "unreadable level of depth", self._book.unreadable)
        return chunk

    def _emit(self, before_ns: int | None) -> TickChunk | None:
        parts = {kind: ordered.pop(before_ns) for kind, ordered in self._ordered.items()}
        if all(part is None for part in parts.values()):
            return None
        for kind, part in parts.items():
            if part is not None:
                self._facts.saw(kind, len(part[0]), int(part[0][0]), int(part[0][-1]))
        trades, quotes, depth = TradeTape.empty(), QuoteTape.empty(), None
        if (t := parts["trades"]) is not None:
            trades = TradeTape(t[0], t[1], t[2], np.ones(len(t[0]), dtype=bool), t[3])
        if (q := parts["quotes"]) is not None:
            quotes = QuoteTape(*q)
        if (d := parts["depth"]) is not None:
            depth = DepthTape(*d)
        self._gaps.see(trades.time_ns, quotes.known_ns)
        return TickChunk(trades, quotes, depth)

    def _push(self, kind: str, columns: tuple[npt.NDArray[Any], ...] | None) -> None:
        if columns is None or not len(columns[0]):
            return
        self._newest = max(self._newest, int(columns[0].max()))
        late = self._ordered[kind].push(columns)
        self._report.bad(self._where, "out of order", late, f"{kind} more than {_WINDOW_NS / _SECOND:g} s late")

    def _sieve(self, rows: int) -> venues.InstrumentSieve:
        return venues.InstrumentSieve(self._report, self._where, rows)

    def _check_local(self, sieve: venues.InstrumentSieve, local: _Int) -> None:
        sieve.drop(venues.spikes(local), "clock jump", local)
        if self._day is not None:
            sieve.drop((local < self._day) | (local >= self._day + venues.DAY_NS), "outside the file's day", local)

    def _check_exchange(self, sieve: venues.InstrumentSieve, stamps: _Int, local: _Int) -> _Int:
        sieve.drop(stamps < 0, "unreadable time", local)
        at = np.where(stamps < 2**62 // self._factor, stamps, 0) * self._factor
        # Held against each other, clocks show a jump of either; a silence moves both.
        jump = venues.spikes(at - local, edges=True) | (np.abs(at - local) > venues.DAY_NS)
        sieve.drop(jump, "clock jump", stamps)
        return at

    def _trade_rows(self, messages: Messages) -> tuple[npt.NDArray[Any], ...] | None:
        data = messages.data.get(self._trades)
        if not data:
            return None
        columns = trade_columns(data)
        local = np.array(messages.local[self._trades], dtype=np.int64)
        sieve = self._sieve(len(data))
        sieve.drop(~columns.complete, "a field is missing", data)
        sieve.drop(np.array([s != self._instrument.symbol for s in columns.raw("s")]), "another symbol", data)
        # Futures mark fills of the insurance fund and of deleveraging: nobody aggressed, at prices off the market.
        kinds = [m.get("X", "MARKET") if isinstance(m, dict) else "MARKET" for m in data]
        sieve.drop(np.array([x != "MARKET" for x in kinds]), "not a market trade", kinds)
        price, quantity = columns.numbers("p", "q")
        maker = columns.raw("m")
        known = np.array([m is True or m is False for m in maker])
        ids = columns.integers("id")
        sieve.drop(np.isnan(price) | np.isnan(quantity) | ~known | (ids < 0), "unreadable field", data)
        sieve.drop(price <= 0, "zero or negative price", data)
        sieve.drop(quantity <= 0, "zero or negative quantity", data)
        self._check_local(sieve, local)
        at = self._check_exchange(sieve, columns.integers("T"), local)
        events = columns.integers("E")
        fit = sieve.keep & (events > 0)
        messages.timed.extend(zip(local[fit].tolist(), events[fit].tolist(), strict=True))
        fresh = np.flatnonzero(sieve.keep)
        again = np.zeros(len(data), dtype=bool)
        again[fresh] = repeated(ids[fresh], self._ids["trades"])
        sieve.drop(again, "duplicate", data)
        keep = sieve.keep
        self._ids["trades"] = ids[keep]
        self._count_missing(ids[keep])
        sign = np.where([m is True for m in maker], -1, 1).astype(np.int8)
        time = (local if self._local else at)[keep]
        return time, price[keep], self._instrument.shares(quantity, price)[keep], sign[keep]

    def _count_missing(self, ids: _Int) -> None:
        if not len(ids):
            return
        own = np.sort(ids)
        if self._top_id is not None:
            own = np.append(self._top_id, own[own > self._top_id])
        self._missing += int(np.maximum(np.diff(own) - 1, 0).sum())
        self._top_id = int(own[-1])

    def _clock(self, messages: Messages) -> None:
        """Take latencies of all messages that tell an event time; keep them, by local time, for spot's quotes."""
        for kind in ("bookTicker", "depth"):
            pairs = zip(messages.local.get(kind, ()), messages.data.get(kind, ()), strict=True)
            if kind == "depth" or self._instrument.market != "spot":
                told = [(t, m["E"]) for t, m in pairs if isinstance(m, dict) and type(m.get("E")) is int]
                messages.timed.extend(told)
        if not messages.timed:
            self._when, self._offset = _NO_IDS, _NO_IDS
            return
        messages.timed.sort(key=itemgetter(0))
        both = np.array([(t, e) for t, e in messages.timed if 0 <= e < 2**62 // self._factor], dtype=np.int64)
        both = both.reshape(-1, 2)
        local, event = both[:, 0], both[:, 1] * self._factor
        sane = ~venues.spikes(event - local, edges=True) & (np.abs(event - local) < venues.DAY_NS)
        latency = (local - event)[sane]
        if not len(latency):
            self._when, self._offset = _NO_IDS, _NO_IDS
            return
        tenths, counts = np.unique(latency // 100_000, return_counts=True)
        self._latency.update(dict(zip(tenths.tolist(), counts.tolist(), strict=True)))
        if self._least is not None and int(latency.min()) > self._least + _STEP_NS:
            self._steps += 1
            self._least = None
        self._when = local[sane]
        self._offset = np.minimum.accumulate(latency)
        if self._least is not None:
            self._offset = np.minimum(self._offset, self._least)
        self._least_before, self._least = self._least, int(self._offset[-1])

    def _shift(self, sieve: venues.InstrumentSieve, local: _Int) -> _Int:
        """Return local times on the exchange's clock: less the smallest latency among the messages before each."""
        at = np.searchsorted(self._when, local, side="right") - 1
        known = at >= 0
        before = self._least_before if len(self._when) else self._least
        if before is None:
            sieve.drop(~known, "no exchange time known yet", local)
        table = np.append(self._offset, 0 if before is None else before)
        shifted: _Int = local - table[np.where(known, at, len(self._offset))]
        return shifted

    def _quote_rows(self, messages: Messages) -> tuple[npt.NDArray[Any], ...] | None:
        data = messages.data.get("bookTicker")
        if not data:
            return None
        spot = self._instrument.market == "spot"
        columns = Columns(data, ("s", "u", "b", "B", "a", "A") if spot else ("s", "u", "b", "B", "a", "A", "T"))
        local = np.array(messages.local["bookTicker"], dtype=np.int64)
        sieve = self._sieve(len(data))
        sieve.drop(~columns.complete, "a field is missing", data)
        sieve.drop(np.array([s != self._instrument.symbol for s in columns.raw("s")]), "another symbol", data)
        bid, ask, bid_size, ask_size = columns.numbers("b", "a", "B", "A")
        ids = columns.integers("u")
        sieve.drop(np.isnan(bid + ask + bid_size + ask_size) | (ids < 0), "unreadable field", data)
        sieve.drop((bid <= 0) | (ask <= 0), "zero or negative price", data)
        sieve.drop((bid_size <= 0) | (ask_size <= 0), "zero or negative quantity", data)
        sieve.drop(bid > ask, "crossed book", data)
        self._check_local(sieve, local)
        if self._local:
            at = local
            if not spot:
                self._check_exchange(sieve, columns.integers("T"), local)
        else:
            at = self._shift(sieve, local) if spot else self._check_exchange(sieve, columns.integers("T"), local)
        fresh = np.flatnonzero(sieve.keep)
        again = np.zeros(len(data), dtype=bool)
        again[fresh] = repeated(ids[fresh], self._ids["quotes"])
        sieve.drop(again, "duplicate", data)
        keep = sieve.keep
        self._ids["quotes"] = ids[keep]
        self._tickers = list(
            zip(local[keep].tolist(), ids[keep].tolist(), bid[keep].tolist(), ask[keep].tolist(), strict=True)
        )
        shares = self._instrument.shares
        return at[keep], bid[keep], ask[keep], shares(bid_size, bid)[keep], shares(ask_size, ask)[keep]

    def _depth_rows(self, messages: Messages) -> tuple[npt.NDArray[Any], ...] | None:
        """Feed the book in the order of receipt, so that nothing is known before it came; return its first levels."""
        book = self._book
        assert book is not None
        feed: list[tuple[int, str, Any]] = [
            (local, kind, message)
            for kind in ("snapshot", "depth")
            for local, message in zip(messages.local.get(kind, ()), messages.data.get(kind, ()), strict=True)
        ]
        feed += [(local, "ticker", (u, b, a)) for local, u, b, a in self._tickers]
        self._tickers = []
        feed.sort(key=itemgetter(0))
        times: list[tuple[int, int]] = []
        rows: list[tuple[Any, ...]] = []
        for local, kind, message in feed:
            if kind == "ticker":
                book.ticker(*message)
                continue
            try:
                if kind == "snapshot":
                    if not book.snapshot(message):
                        self._report.bad(self._where, "snapshot does not join the updates", 1, message["lastUpdateId"])
                    continue
                if message["s"] != self._instrument.symbol:
                    self._report.bad(self._where, "another symbol", 1, message["s"])
                    continue
                stamp = _stamp(message["T"] if "T" in message else message["E"])
                usable = book.update(message)
            except (LookupError, TypeError, ValueError, OverflowError):
                self._report.bad(self._where, "a field is missing or unreadable", 1, str(message)[:100])
                continue
            if usable:
                times.append((local, stamp))
                rows.append(book.row())
            elif not book.valid:
                self._not_whole += 1
            elif book.best[0] >= book.best[1]:
                self._report.bad(self._where, "crossed book", 1, book.best)
        if not rows:
            return None
        both = np.array(times, dtype=np.int64)
        sieve = self._sieve(len(rows))
        self._check_local(sieve, both[:, 0])
        at = self._check_exchange(sieve, both[:, 1], both[:, 0])
        bid, bid_size, ask, ask_size = (np.array([row[k] for row in rows], dtype=np.float64) for k in range(4))
        shares, keep = self._instrument.shares, sieve.keep
        known = (both[:, 0] if self._local else at)[keep]
        return known, bid[keep], shares(bid_size, bid)[keep], ask[keep], shares(ask_size, ask)[keep]
