"""Readers of single LEAN instruments: minute and second bars, and the funding of perpetuals."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_date
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.readers import lean_files as files
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["read_lean_bars", "read_lean_funding"]

_BAR_S = {"minute": 60.0, "second": 1.0}
# security → (default market, zone of the file's clock, currency per unit of the file's prices)
_CONVENTION = {
    "equity": ("usa", "America/New_York", 1e-4),
    "future": ("cme", "UTC", 1.0),
    "crypto": ("bybit", "UTC", 1.0),
    "cryptofuture": ("bybit", "UTC", 1.0),
}


def read_lean_bars(
    root: str | Path,
    name: str,
    days: Any = None,
    *,
    kind: Literal["trade", "quote"] = "trade",
    resolution: Literal["minute", "second"] = "minute",
    security: files.Security = "equity",
    market: str | None = None,
    expiry: str | None = None,
) -> Bars:
    """Read minute or second bars of one instrument from LEAN's layout.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    name
        Ticker, root symbol or pair, e.g. 'SPY', 'ES', 'btcusdt'.
    days
        Dates of the files (local for equities, UTC else); default all that are there.
    kind
        "trade": open, high, low, close, volume. "quote": bid_open … bid_close, bid_size, ask_open … ask_close,
        ask_size; bars with one side missing are left out.
    resolution
        "minute" or "second".
    security
        "equity", "future", "crypto" or "cryptofuture".
    market
        LEAN's market folder; default usa, cme, bybit, bybit.
    expiry
        'YYYYMM', for futures only.

    Returns
    -------
    Bars
        Stamped at the START, as in the files, in UTC; prices in currency (points for futures). All hours, not only
        regular ones.

    Raises
    ------
    InvalidInput
        On an unknown name, kind, resolution or security.
    DataGap
        On a missing day, a damaged file or an absent expiry.
    """
    for field, value, known in (
        ("kind", kind, ("trade", "quote")),
        ("resolution", resolution, tuple(_BAR_S)),
        ("security", security, tuple(_CONVENTION)),
    ):
        if value not in known:
            raise InvalidInput(f"unknown {field}", field=field, value=value, remedy=f"choose among {', '.join(known)}")
    if (expiry is not None) != (security == "future"):
        raise InvalidInput(
            "an expiry goes with futures, and only with them", field="expiry", value=expiry, remedy="e.g. '201312'"
        )
    default_market, zone, scale = _CONVENTION[security]
    folder = files.instrument_folder(files.find_data(root), security, market or default_market, resolution, name)
    if days is None:
        chosen = sorted(files.days_of(folder, kind))
    else:
        chosen = sorted({as_date(d, "days") for d in ([days] if isinstance(days, (str, dt.date)) else days)})
    if not chosen:
        raise DataGap(f"there are no {kind} bars", field="days", value=str(folder), remedy="choose other days")
    columns = files.TRADE_BAR if kind == "trade" else files.QUOTE_BAR
    parts = []
    for day in chosen:
        path = folder / f"{day:%Y%m%d}_{kind}.zip"
        raw = files.read_member(path, columns, expiry=expiry).dropna()
        clock = pd.Timestamp(day) + pd.to_timedelta(np.round(raw.pop("ms").to_numpy() * 1e6).astype(np.int64), "ns")
        parts.append(raw.set_axis(_to_utc(pd.DatetimeIndex(clock), zone, path), axis=0))
    frame = pd.concat(parts)
    prices = [c for c in frame.columns if c.endswith(("open", "high", "low", "close"))]
    frame[prices] *= scale
    return Bars(frame, _BAR_S[resolution], "start")


def _to_utc(clock: pd.DatetimeIndex, zone: str, path: Path) -> pd.DatetimeIndex:
    try:
        return clock.tz_localize(zone).tz_convert("UTC")
    except ValueError as error:
        raise InvalidInput(
            f"a local time does not exist or occurs twice on the day the clocks change ({error})",
            field="ms",
            value=str(path),
            remedy="leave the day out",
        ) from error


def read_lean_funding(root: str | Path, name: str, *, market: str = "bybit") -> pd.Series[Any]:
    """Read the funding rates of a perpetual.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    name
        Pair, e.g. 'btcusdt'.
    market
        LEAN's market folder.

    Returns
    -------
    Series
        Settlement time (UTC) → rate; positive: longs pay shorts [fraction of the position's notional].

    Raises
    ------
    DataGap
        If there is no such file.
    InvalidInput
        If it is malformed.
    """
    path = files.find_data(root) / "cryptofuture" / market / "margin_interest" / f"{name.lower()}.csv"
    if not path.is_file():
        have = sorted(p.stem for p in path.parent.glob("*.csv"))
        raise DataGap(
            "no funding file of that name",
            field="name",
            value=name,
            remedy=f"choose among {', '.join(have)}" if have else f"there is nothing at {path.parent}",
        )
    try:
        raw = pd.read_csv(path, header=None, names=["time", "rate"], dtype={"time": "str", "rate": "float64"})
        index = pd.DatetimeIndex(pd.to_datetime(raw["time"], format="%Y%m%d %H:%M:%S", utc=True)).as_unit("ns")
    except ValueError as error:
        raise InvalidInput(
            f"not rows of 'YYYYMMDD HH:MM:SS,rate' ({error})", field="file", value=str(path), remedy="fetch it again"
        ) from error
    series = pd.Series(raw["rate"].to_numpy(), index=index, name=name.lower())
    ordered = index.is_monotonic_increasing and not index.has_duplicates
    if not np.isfinite(series.to_numpy()).all() or not ordered:
        raise InvalidInput(
            "rates are not finite or settlements not in order", field="file", value=str(path), remedy="repair the file"
        )
    return series
