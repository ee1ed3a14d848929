"""LEAN's equity ticks, one day's file at a time: trades, quotes out of ticks or of 1 s bars, and the source of both.

The quote ticks of this layout are the national best quote, not the books of single exchanges: rows alternate between
bid and ask, the exchange is the one that set the side, and the last bid with the last ask equals the 1 s quote bar at
its end in 99.99 % of seconds. Taken as one book per exchange they are crossed most of the time. Files that do hold one
book per exchange are read with ``quote_rows="exchange"``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.readers import lean_files as files
from crosswind.problems.market.readers.lean_composite import composite_quotes
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress, QuoteTape, TickChunk, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["NEW_YORK", "LeanTicks", "QuoteRows", "trade_rows"]

NEW_YORK = "America/New_York"
PRICE_SCALE = 1e-4  # LEAN writes equity prices in hundredths of a cent
QuoteRows = Literal["best", "exchange"]
_QUOTE_BAR_S = 1.0
_CROSSED_SHARE = 0.05  # more of it, and the rows are no best quotes

# Sale conditions (LEAN's TradeConditionFlags). Official open and close repeat a print: they are no trades.
NO_TRADE = 0x1000000 | 0x4000000
# Auctions and crosses have no aggressor; late, average-priced and derivatively priced prints no prevailing quote.
_NO_AGGRESSOR = (
    0x40 | 0x80 | 0x100  # single-priced opening, closing, reopening
    | 0x200 | 0x100000  # derivatively priced, average price
    | 0x400 | 0x2000 | 0x4000  # extended hours
    | 0x800 | 0x2000000  # sold late, prior reference price
    | 0x40000 | 0x200000  # stock-option trade, crossing session
)  # fmt: skip


def _local_ns(ms: npt.NDArray[np.float64], date: dt.date) -> npt.NDArray[np.int64]:
    """Return New York milliseconds since midnight as UTC nanoseconds; the clock's shift is taken at noon."""
    # Clocks change at 02:00 on Sundays; on a trading day the shift at noon is that of all its hours.
    noon = pd.Timestamp(date) + pd.Timedelta(hours=12)
    midnight = int(noon.tz_localize(NEW_YORK).as_unit("ns").value) - 12 * 3_600_000_000_000
    return midnight + np.round(ms * 1e6).astype(np.int64)


def _flags(condition: pd.Series[Any], path: Path) -> npt.NDArray[np.int64]:
    texts = condition.cat.categories
    try:
        # The last entry serves rows without a condition, whose code is -1.
        values = np.array([*(int(str(t) or "0", 16) for t in texts), 0], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataGap(
            f"a sale condition is not hexadecimal ({error})", field="file", value=str(path), remedy="fetch it again"
        ) from error
    flags: npt.NDArray[np.int64] = values[condition.cat.codes.to_numpy()]
    return flags


def trade_rows(path: Path, date: dt.date, report: ReadReport | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return a day's trade ticks of all hours, bad rows left out and counted.

    Returns
    -------
    dict
        ``time_ns`` (UTC), ``price`` [currency], ``shares``, ``condition`` (LEAN's flags), ``signable`` (the trade
        has an aggressor and a prevailing quote), each (L,).

    Raises
    ------
    DataGap
        On a missing, damaged or malformed file, a price or a size that is absent.
    InvalidInput
        On times out of order or of the day, or prices of another unit.
    """
    report = ReadReport() if report is None else report
    raw = files.read_member(path, files.TRADE_TICK, skip=("exchange",), report=report)
    ticks, shares = raw["price"].to_numpy(), raw["size"].to_numpy()
    if not np.isfinite(ticks + shares).all():
        raise DataGap("a trade has no price or size", field="file", value=str(path), remedy="fetch the file again")
    files.check_scale(ticks, path)
    condition = _flags(raw["condition"], path)
    keep = _sift(
        raw["ms"].to_numpy(),
        (raw["suspicious"].to_numpy() != 0, "suspicious trade"),
        (~((ticks > 0) & (shares > 0)), "zero or negative price or size"),
        path=path,
        report=report,
    )
    condition = condition[keep]
    return {
        "time_ns": _local_ns(raw["ms"].to_numpy()[keep], date),
        "price": ticks[keep] * PRICE_SCALE,
        "shares": shares[keep],
        "condition": condition,
        "signable": (condition & (_NO_AGGRESSOR | NO_TRADE)) == 0,
    }


def _sift(ms: npt.NDArray[np.float64], *checks: Any, path: Path, report: ReadReport) -> npt.NDArray[np.bool_]:
    """Count each bad row once, under the first reason that fits; return the rows that none fits."""
    keep = np.ones(len(ms), dtype=bool)
    for bad, reason in checks:
        new = keep & bad
        if new.any():
            report.bad(path, reason, int(new.sum()), f"{ms[int(np.argmax(new))]:.0f} ms")
        keep &= ~bad
    return keep


def _tick_quotes(path: Path, date: dt.date, rows: QuoteRows, life_s: float, report: ReadReport) -> QuoteTape:
    skip = ("condition",) if rows == "exchange" else ("condition", "exchange")
    raw = files.read_member(path, files.QUOTE_TICK, skip=skip, report=report)
    bid, ask, ms = raw["bid"].to_numpy(), raw["ask"].to_numpy(), raw["ms"].to_numpy()
    files.check_scale(np.maximum(bid, ask), path)
    is_bid, is_ask = bid > 0, ask > 0
    size = np.where(is_bid, raw["bid_size"].to_numpy(), raw["ask_size"].to_numpy())
    keep = _sift(
        ms,
        (raw["suspicious"].to_numpy() != 0, "suspicious quote"),
        (is_bid & is_ask, "quote tick with two sides"),
        (~(is_bid | is_ask) | ~np.isfinite(size) | (size < 0), "quote tick without a price or size"),
        path=path,
        report=report,
    )
    time = _local_ns(ms[keep], date)
    is_bid, size = is_bid[keep], size[keep]
    price = np.where(is_bid, bid[keep], ask[keep]) * PRICE_SCALE
    codes = raw["exchange"].cat.codes.to_numpy()[keep] if rows == "exchange" else None
    del raw, bid, ask, ms, is_ask, keep  # a day of one name is large: free it before its states are built
    if codes is not None:
        venue = codes.astype(np.int64)
        tape, counts = composite_quotes(time, venue - venue.min(initial=0), is_bid, price, size, life_s=life_s)
        report.bad(path, "crossed between exchanges, the older side taken out", counts.crossed)
        report.bad(path, "quote of an exchange grown too old", counts.expired)
        return tape
    return _best_quotes(time, is_bid, price, size, path, report)


def _best_quotes(
    time: npt.NDArray[np.int64],
    is_bid: npt.NDArray[np.bool_],
    price: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    path: Path,
    report: ReadReport,
) -> QuoteTape:
    """Return the last bid with the last ask after each time, crossed states left out."""
    # A state is taken after the last row of each time: the two sides of one update come one after the other.
    ends = np.flatnonzero(np.append(time[1:] != time[:-1], True)) if len(time) else np.zeros(0, dtype=np.int64)
    position = np.arange(len(time), dtype=np.int32)
    last_bid = np.maximum.accumulate(np.where(is_bid, position, -1))[ends]
    last_ask = np.maximum.accumulate(np.where(is_bid, -1, position))[ends]
    both = (last_bid >= 0) & (last_ask >= 0)
    ends, last_bid, last_ask = ends[both], last_bid[both], last_ask[both]
    bid, ask = price[last_bid], price[last_ask]
    crossed = bid > ask
    if len(ends) and crossed.mean() > _CROSSED_SHARE:
        raise InvalidInput(
            f"the last bid lies above the last ask {crossed.mean():.0%} of the time: the rows are no best quotes",
            field="quote_rows",
            value=str(path),
            remedy="say quote_rows='exchange' if each exchange's own book is written",
        )
    if crossed.any():
        first = pd.Timestamp(int(time[ends[int(np.argmax(crossed))]]), tz="UTC")
        report.bad(path, "crossed book", int(crossed.sum()), first)
    return QuoteTape(time[ends], bid, ask, size[last_bid], size[last_ask]).take(~crossed)


def _bar_quotes(path: Path, date: dt.date, report: ReadReport) -> QuoteTape:
    raw = files.read_member(path, files.QUOTE_BAR, report=report)
    # Stamped at the start, known at the end.
    known = _local_ns(raw["ms"].to_numpy() + 1e3 * _QUOTE_BAR_S, date)
    files.check_scale(raw["bid_close"].dropna().to_numpy(), path)
    bid, ask = (raw[c].to_numpy() * PRICE_SCALE for c in ("bid_close", "ask_close"))
    tape = QuoteTape(known, bid, ask, raw["bid_size"].to_numpy(), raw["ask_size"].to_numpy())
    sizes = np.isfinite(tape.bid_shares + tape.ask_shares)
    present = np.isfinite(bid + ask) & sizes & (bid > 0) & (ask > 0)
    keep = _sift(
        raw["ms"].to_numpy(),
        (~present, "quote bar with a missing side"),
        (present & (bid > ask), "crossed book"),
        path=path,
        report=report,
    )
    locked = int((bid[keep] == ask[keep]).sum())
    if locked:
        where = report.instrument(path.parent.name.upper())
        where.facts["locked_quotes"] = f"{int(where.facts.get('locked_quotes', '0').split()[0]) + locked} (used)"
    return tape.take(keep)


@dataclass(eq=False)
class LeanTicks:
    """The ticks of one equity, a :class:`~crosswind.problems.market.ticks.TickSource` with one chunk per day.

    Parameters
    ----------
    data
        LEAN's Data folder.
    name
        Ticker.
    days
        New York dates, ascending.
    quotes
        "second": quotes are the closes of 1 s bars, known at their ends. "tick": quote ticks; on a day without them the
        1 s bars, which the report tells.
    quote_rows
        What quote ticks are: "best", the national best quote, or "exchange", the best quote of each exchange.
    life_s
        With "exchange": an exchange's quote older than this does not count [s].
    venue
        LEAN's market folder.
    tz, currency, tick
        See :class:`~crosswind.problems.market.ticks.TickSource`.
    """

    data: Path
    name: str
    days: Sequence[dt.date]
    quotes: Literal["second", "tick"] = "second"
    quote_rows: QuoteRows = "best"
    life_s: float = 60.0
    venue: str = "usa"
    tz: str = NEW_YORK
    currency: str = "USD"
    tick: float = 0.01

    def chunks(self, report: ReadReport, progress: Progress | None = None) -> Iterator[TickChunk]:
        """Yield one chunk per day; memory holds one day of one name.

        Raises
        ------
        InvalidInput, DataGap
            On a missing day, a damaged or malformed file.
        """
        for k, day in enumerate(self.days):
            yield self._day(day, report)
            if progress is not None:
                progress(f"read {self.name} of {day}", (k + 1) / len(self.days))

    def _day(self, day: dt.date, report: ReadReport) -> TickChunk:
        ticks = files.instrument_folder(self.data, "equity", self.venue, "tick", self.name)
        facts = report.instrument(
            self.name,
            self.venue,
            "ticks",
            clock="ms since midnight in New York",
            stamp="event",
            price_unit=f"{self.currency} per share, written × 10000",
            quantity_unit="shares",
            tick=f"{self.tick:g}",
            sign="Lee and Ready on the prevailing quote; auctions, late and average-priced prints unsigned",
        )
        rows = trade_rows(ticks / f"{day:%Y%m%d}_trade.zip", day, report)
        # Official opening and closing prices repeat a print.
        keep = (rows["condition"] & NO_TRADE) == 0
        report.bad(ticks / f"{day:%Y%m%d}_trade.zip", "official open or close, repeats a print", int((~keep).sum()))
        trades = TradeTape(*(rows[c][keep] for c in ("time_ns", "price", "shares", "signable")))
        path = ticks / f"{day:%Y%m%d}_quote.zip"
        if self.quotes == "tick" and path.is_file():
            quotes = _tick_quotes(path, day, self.quote_rows, self.life_s, report)
            facts.facts["quotes"] = (
                f"ticks, {'national best' if self.quote_rows == 'best' else 'best of all exchanges'}"
            )
        else:
            seconds = files.instrument_folder(self.data, "equity", self.venue, "second", self.name)
            quotes = _bar_quotes(seconds / f"{day:%Y%m%d}_quote.zip", day, report)
            facts.facts["quotes"] = "1 s bars, known at their ends" + (", no quote ticks" * (self.quotes == "tick"))
        for kind, times in (("trades", trades.time_ns), ("quotes", quotes.known_ns)):
            if len(times):
                facts.saw(kind, len(times), int(times[0]), int(times[-1]))
        _gaps(facts, trades.time_ns)
        return TickChunk(trades, quotes)


def _gaps(facts: Any, times: npt.NDArray[np.int64]) -> None:
    """Count silences within the day; nights are none."""
    steps = np.diff(times) / 1e9
    long = steps[steps > facts.gap_limit_s]
    facts.gaps += len(long)
    facts.longest_gap_s = max(facts.longest_gap_s, float(long.max(initial=0.0)))
