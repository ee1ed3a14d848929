"""Bars with signed flow: from klines and from trades; and quotes implied by trades."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.futures import Bars
from crosswind.problems.market.readers import binance_venues as venues
from crosswind.problems.market.readers.binance_tables import INTERVALS, PublicFile, read_tables
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress, QuoteTape, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["BarFolder", "implied_quotes", "read_klines"]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
_SUMS = ("volume", "quote_volume", "flow", "trades", "base_volume")
_ROUNDING = 1e-9


class BarFolder:
    """Folds rows in order of time into bars, part by part.

    Parameters
    ----------
    width_s
        Length of a bar [s]; bars begin at its multiples since 1970 UTC.
    """

    def __init__(self, width_s: float) -> None:
        self.width_ns = round(width_s * 1e9)
        self._parts: list[dict[str, npt.NDArray[np.float64]]] = []
        self._starts: list[_Int] = []

    def add(self, time_ns: _Int, columns: dict[str, _Float]) -> None:
        """Take rows ``open, high, low, close`` and sums, in order of time and after those before."""
        if not len(time_ns):
            return
        start, folded = self._fold(time_ns // self.width_ns, columns)
        self._starts.append(start)
        self._parts.append(folded)

    def add_trades(self, trades: TradeTape, contract_value: float | None) -> None:
        """Take trades with exact signs; volume is in contracts where they are inverse."""
        assert trades.sign is not None
        notional = trades.price * trades.shares
        columns = dict.fromkeys(("open", "high", "low", "close"), trades.price)
        columns["volume"] = trades.shares if contract_value is None else notional / contract_value
        columns["quote_volume"] = notional
        columns["flow"] = notional * trades.sign
        columns["trades"] = np.ones(len(trades))
        if contract_value is not None:
            columns["base_volume"] = trades.shares
        self.add(trades.time_ns, columns)

    @staticmethod
    def _fold(bucket: _Int, columns: dict[str, _Float]) -> tuple[_Int, dict[str, _Float]]:
        first = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
        last = np.append(first[1:], len(bucket)) - 1
        out: dict[str, _Float] = {
            "open": columns["open"][first],
            "high": np.maximum.reduceat(columns["high"], first),
            "low": np.minimum.reduceat(columns["low"], first),
            "close": columns["close"][last],
        }
        out |= {name: np.add.reduceat(columns[name], first) for name in _SUMS if name in columns}
        return bucket[first], out

    def bars(self, name: str) -> Bars:
        """Return the bars, stamped at their start; times without a row have none.

        Raises
        ------
        DataGap
            If there is no row.
        """
        if not self._parts:
            raise DataGap("there are no rows", field="bars", value=name, remedy="choose other days")
        joined = {c: np.concatenate([part[c] for part in self._parts]) for c in self._parts[0]}
        # A bar may lie across two parts.
        start, folded = self._fold(np.concatenate(self._starts), joined)
        index = pd.DatetimeIndex(start * self.width_ns, tz="UTC").as_unit("ns")
        return Bars(pd.DataFrame(folded, index=index), self.width_ns / 1e9, "start")


def implied_quotes(tapes: Iterable[TradeTape], tick: float) -> Iterator[tuple[TradeTape, QuoteTape]]:
    """Yield each tape with quotes made of it: the last price bought at is the ask, the last sold at the bid.

    Where the two would cross, the older one gives way to a tick beside the newer. There is no quote before both a buy
    and a sale, and sizes are 0, as they are unknown.

    Parameters
    ----------
    tapes
        Trades with exact signs, in order.
    tick
        Price step [currency].
    """
    last_buy = last_sale = np.nan
    for tape in tapes:
        assert tape.sign is not None
        bought = tape.sign > 0
        ask, bid = _last(tape.price, bought, last_buy), _last(tape.price, ~bought, last_sale)
        if len(tape):
            last_buy, last_sale = float(ask[-1]), float(bid[-1])
        crossed = bid >= ask  # false while one of them is unknown
        bid = np.where(crossed & bought, ask - tick, bid)
        ask = np.where(crossed & ~bought, bid + tick, ask)
        good = np.isfinite(bid) & np.isfinite(ask) & (bid > 0)
        none = np.zeros(int(good.sum()))
        yield tape, QuoteTape(tape.time_ns[good], bid[good], ask[good], none, none)


def _last(price: _Float, mark: npt.NDArray[np.bool_], before: float) -> _Float:
    """Return the last marked price at or before each row; ``before`` where there is none yet."""
    at = (
        np.maximum.accumulate(np.where(mark, np.arange(1, len(price) + 1), 0)) if len(price) else np.zeros(0, dtype=int)
    )
    last: _Float = np.append(before, price)[at]
    return last


def read_klines(
    files: tuple[PublicFile, ...],
    key: str,
    report: ReadReport,
    *,
    unit: str | None = None,
    ranges: tuple[tuple[int, int], ...] | None = None,
    bucket_s: float | None = None,
    progress: Progress | None = None,
) -> Bars | None:
    """Return the bars of one series of kline files, stamped at their start; None if no row lies in ``ranges``.

    Columns: open, high, low, close [currency], volume [base asset; COIN-M contracts], quote_volume [currency], flow
    [currency] = 2 · (taker buy) − (all), trades, and for COIN-M base_volume.

    Parameters
    ----------
    files
        One instrument, one interval, in order of time.
    key
        Name of the bars.
    report
        Where rows that are not used are counted.
    unit
        See :func:`~crosswind.problems.market.readers.binance_tables.read_tables`.
    ranges
        Start times kept, [start, end) [ns]; None for all.
    bucket_s
        Length of the bars [s], a multiple of the files' interval; None for it.
    progress
        Called with the name and the fraction done.

    Raises
    ------
    InvalidInput
        If ``bucket_s`` is no multiple of the interval.
    """
    interval_s = float(INTERVALS[files[0].interval])
    width_s = interval_s if bucket_s is None else bucket_s
    if abs(width_s / interval_s - round(width_s / interval_s)) > 1e-9 or width_s < interval_s:
        raise InvalidInput(
            f"is no multiple of the klines' {interval_s:g} s",
            field="bucket_s",
            value=bucket_s,
            remedy=f"choose k × {interval_s:g}, or leave it out",
        )
    instrument, interval_ns = files[0].instrument, round(interval_s * 1e9)
    # Weeks begin on Mondays: such bars are not multiples of their length since 1970.
    folder = BarFolder(width_s) if width_s > interval_s else None
    facts = instrument.note(
        report,
        "bars",
        clock="open time, since 1970 UTC",
        stamp="start",
        sign="exact: taker buy volume",
        **{f"interval_{key}": files[0].interval},
    )
    frames: list[pd.DataFrame] = []
    last: int | None = None
    missing = 0
    for number, file in enumerate(files):
        report.file(file.path, file.path.stat().st_size)
        for table in read_tables(file, report, unit=unit):
            frame, seen = _checked(table, file, interval_ns, instrument, report, last, ranges)
            if len(seen):
                steps = np.diff(seen if last is None else np.append(last, seen)) // interval_ns
                gaps = steps[steps > 1] - 1
                missing += int(gaps.sum())
                facts.gaps += len(gaps)
                facts.longest_gap_s = max(facts.longest_gap_s, float(gaps.max(initial=0)) * interval_s)
                last = int(seen[-1])
            if len(frame):
                frames.append(frame)
                facts.saw("bars", len(frame), int(frame.index[0]), int(frame.index[-1]) + interval_ns)
        if progress is not None:
            progress(key, (number + 1) / len(files))
    facts.facts["missing_bars"] = str(missing)
    if not frames:
        return None
    whole = pd.concat(frames)
    if folder is not None:
        folder.add(whole.index.to_numpy(), {str(c): whole[c].to_numpy(dtype=np.float64) for c in whole})
        return folder.bars(key)
    index = pd.DatetimeIndex(whole.index.to_numpy(), tz="UTC").as_unit("ns")
    return Bars(whole.set_axis(index, axis=0), interval_s, "start")


def _checked(
    table: pd.DataFrame,
    file: PublicFile,
    interval_ns: int,
    instrument: venues.Instrument,
    report: ReadReport,
    last: int | None,
    ranges: tuple[tuple[int, int], ...] | None,
) -> tuple[pd.DataFrame, _Int]:
    """Return the usable bars by start time [ns], and the start times of all rows in order."""
    start = table["time"].to_numpy()
    o, h, low, c, volume, quote, taker, taker_quote = (
        table[name].to_numpy(dtype=np.float64)
        for name in ("open", "high", "low", "close", "volume", "quote_volume", "taker", "taker_quote")
    )
    sieve = venues.InstrumentSieve(report, file.path, len(table))
    # The close is one unit of time before the next bar: shorter by at most a millisecond.
    length = table["close_time"].to_numpy(dtype=np.int64) + 1_000_000 - start
    sieve.drop(
        (length < interval_ns) | (length > interval_ns + 1_000_000), "close time contradicts the interval", start
    )
    latest = np.maximum.accumulate(np.append(np.iinfo(np.int64).min if last is None else last, start))[:-1]
    known = set() if last is None else {last}
    again = np.isin(start, list(known)) | pd.Series(start).duplicated().to_numpy()
    sieve.drop(again, "duplicate", start)
    sieve.drop(start < latest, "out of order", start)
    sieve.drop(np.min([o, h, low, c], axis=0) <= 0, "zero or negative price", start)
    sieve.drop((h < np.maximum(o, c)) | (low > np.minimum(o, c)), "open, high, low, close contradict", start)
    sieve.drop(np.min([volume, quote, taker, taker_quote], axis=0) < 0, "negative volume", start)
    sieve.drop(
        (taker > volume * (1 + _ROUNDING) + _ROUNDING) | (taker_quote > quote * (1 + _ROUNDING) + _ROUNDING),
        "taker volume above the volume",
        start,
    )
    seen = start[sieve.keep]
    sieve.keep &= venues.in_ranges(start, ranges)
    columns = {"open": o, "high": h, "low": low, "close": c, "volume": volume}
    if instrument.contract_value is None:
        columns |= {"quote_volume": quote, "flow": 2.0 * taker_quote - quote, "trades": table["count"].to_numpy(float)}
    else:
        value = instrument.contract_value
        columns |= {"quote_volume": volume * value, "flow": (2.0 * taker - volume) * value}
        columns |= {"trades": table["count"].to_numpy(float), "base_volume": quote}
    return pd.DataFrame(columns, index=start)[sieve.keep], seen
