"""Reader of LEAN's futures minute bars: quotes and volume of every listed expiry on one UTC axis."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_date, check_names
from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.readers import lean_files as files
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["CONTRACTS", "ContractTerms", "read_lean_futures"]

_FIELDS = ("bid", "ask", "bid_size", "ask_size", "volume")
_MINUTE_NS = 60_000_000_000


class ContractTerms(NamedTuple):
    """What one contract is worth: currency per point, and the smallest price step in points."""

    multiplier: float
    tick: float
    exchange: str


CONTRACTS = {"ES": ContractTerms(50.0, 0.25, "cme"), "NQ": ContractTerms(20.0, 0.25, "cme")}


def read_lean_futures(
    root: str | Path,
    symbol: str = "ES",
    days: Any = None,
    *,
    expiries: Iterable[str] | None = None,
    stale_limit_s: float = 300.0,
    terms: ContractTerms | None = None,
) -> tuple[FuturesQuotes, tuple[str, ...]]:
    """Read minute quotes and volume of a future from LEAN's layout.

    The files are in UTC and their prices plain. A minute without any change is not written, so quotes are carried
    forward within the day for at most ``stale_limit_s``; bars with one side missing, crossed or locked are dropped
    first.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    symbol
        Root of the future.
    days
        UTC dates; default all that are there.
    expiries
        'YYYYMM'; default all that are quoted on any of the days.
    stale_limit_s
        Oldest quote that may be carried forward [s]; 0 carries none.
    terms
        Contract terms; default from :data:`CONTRACTS`.

    Returns
    -------
    FuturesQuotes, tuple of str
        The quotes, stamped at the END of each minute in which any expiry was quoted or traded; notes that count
        repairs.

    Raises
    ------
    InvalidInput
        On an unknown symbol or malformed argument.
    DataGap
        On a missing day, a damaged file, an expiry that none of the days lists.
    """
    name = symbol.upper()
    terms = terms or CONTRACTS.get(name)
    if terms is None:
        raise InvalidInput(
            "its contract terms are not known",
            field="symbol",
            value=symbol,
            remedy=f"pass terms=ContractTerms(multiplier, tick, exchange), or choose among {', '.join(CONTRACTS)}",
        )
    if not np.isfinite(stale_limit_s) or stale_limit_s < 0:
        raise InvalidInput("must not be negative", field="stale_limit_s", value=stale_limit_s, remedy="0 carries none")
    folder = files.instrument_folder(files.find_data(root), "future", terms.exchange, "minute", name)
    if days is None:
        chosen_days = sorted(files.days_of(folder, "quote") & files.days_of(folder, "trade"))
    else:
        listed = [days] if isinstance(days, (str, dt.date)) else list(days)
        chosen_days = sorted({as_date(d, "days") for d in listed})
    if not chosen_days:
        raise DataGap("there are no days", field="days", value=str(folder), remedy="choose days that are there")
    by_day = {day: files.future_expiries(folder / f"{day:%Y%m%d}_quote.zip") for day in chosen_days}
    available = sorted({e for found in by_day.values() for e in found})
    wanted = tuple(available) if expiries is None else check_names(expiries, "expiries")
    for expiry in wanted:
        if expiry not in available:
            raise DataGap(
                "the expiry is not listed on these days",
                field="expiries",
                value=expiry,
                remedy=f"choose among {', '.join(available)}",
            )
    count: Counter[str] = Counter()
    limit = int(stale_limit_s * 1e9) // _MINUTE_NS
    parts = [_day(folder, day, tuple(e for e in wanted if e in by_day[day]), limit, count) for day in chosen_days]
    frames: dict[str, Any] = {}
    for field in _FIELDS:
        whole = pd.concat([part[field] for part in parts]).reindex(columns=list(wanted))
        frames[field] = whole.fillna(0.0) if field == "volume" else whole
    quotes = FuturesQuotes(root=name, **frames, bar_s=60.0, multiplier=terms.multiplier, tick=terms.tick)
    return quotes, tuple(f"{number} {what}" for what, number in count.items() if number)


def _day(
    folder: Path, day: dt.date, expiries: tuple[str, ...], limit: int, count: Counter[str]
) -> dict[str, pd.DataFrame]:
    """Return the five fields of one UTC date: every minute in which any of the expiries was quoted or traded."""
    midnight = int(pd.Timestamp(day, tz="UTC").as_unit("ns").value)
    traded = files.future_expiries(folder / f"{day:%Y%m%d}_trade.zip")
    columns: dict[str, dict[str, pd.Series[Any]]] = {field: {} for field in _FIELDS}
    for expiry in expiries:
        raw = files.read_member(folder / f"{day:%Y%m%d}_quote.zip", files.QUOTE_BAR, expiry=expiry).set_index("ms")
        bid, ask = raw["bid_close"], raw["ask_close"]
        good = ((ask > bid) & (raw["bid_size"] > 0) & (raw["ask_size"] > 0)).to_numpy()
        count["quote bars with a missing side, crossed or locked, dropped"] += int((~good).sum())
        used = {"bid": bid, "ask": ask, "bid_size": raw["bid_size"], "ask_size": raw["ask_size"]}
        for field, series in used.items():
            columns[field][expiry] = series[good]
        if expiry in traded:
            trades = files.read_member(folder / f"{day:%Y%m%d}_trade.zip", files.TRADE_BAR, expiry=expiry)
            columns["volume"][expiry] = trades.groupby("ms")["volume"].sum()
    minutes = np.unique(np.concatenate([s.index.to_numpy() for part in columns.values() for s in part.values()]))
    clock = np.arange(0.0, 86_400_000.0, 60_000.0)
    # Ends, not starts: the bar that begins at 13:30 is known at 13:31.
    stamps = pd.DatetimeIndex(midnight + (minutes * 1e6).astype(np.int64) + _MINUTE_NS, tz="UTC").as_unit("ns")
    out: dict[str, pd.DataFrame] = {}
    for field in _FIELDS:
        table = pd.DataFrame(columns[field], index=np.union1d(clock, minutes)).reindex(columns=list(expiries))
        if field == "volume":
            table = table.fillna(0.0)
        elif limit:
            table = table.ffill(limit=limit)
        out[field] = table.loc[minutes].set_axis(stamps, axis=0)
    return out
