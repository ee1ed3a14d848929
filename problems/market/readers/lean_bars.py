"""Readers of single LEAN instruments: minute and second bars, and the funding of perpetuals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_dates, check_names
from crosswind.problems.market.funding import FundingRates
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.readers import lean_files as files
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["bars_market", "read_lean_bars", "read_lean_funding"]

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
    report: ReadReport | None = None,
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
    report
        Collects what was understood and which bars were not used.

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
    _known("kind", kind, ("trade", "quote"))
    _known("resolution", resolution, tuple(_BAR_S))
    _known("security", security, tuple(_CONVENTION))
    if (expiry is not None) != (security == "future"):
        raise InvalidInput(
            "an expiry goes with futures, and only with them", field="expiry", value=expiry, remedy="e.g. '201312'"
        )
    default_market, zone, scale = _CONVENTION[security]
    folder = files.instrument_folder(files.find_data(root), security, market or default_market, resolution, name)
    chosen = as_dates(days) or tuple(sorted(files.days_of(folder, kind)))
    if not chosen:
        raise DataGap(f"there are no {kind} bars", field="days", value=str(folder), remedy="choose other days")
    columns = files.TRADE_BAR if kind == "trade" else files.QUOTE_BAR
    parts = []
    for day in chosen:
        path = folder / f"{day:%Y%m%d}_{kind}.zip"
        raw = _whole(files.read_member(path, columns, expiry=expiry, report=report), path, report)
        if security == "equity":
            files.check_scale(raw["close" if kind == "trade" else "bid_close"].to_numpy(), path)
        clock = pd.Timestamp(day) + pd.to_timedelta(np.round(raw.pop("ms").to_numpy() * 1e6).astype(np.int64), "ns")
        parts.append(raw.set_axis(_to_utc(pd.DatetimeIndex(clock), zone, path), axis=0))
    frame = pd.concat(parts)
    prices = [c for c in frame.columns if c.endswith(("open", "high", "low", "close"))]
    frame[prices] *= scale
    bars = Bars(frame, _BAR_S[resolution], "start")
    if report is not None:
        _tell(report, bars, f"{name.upper()}{expiry or ''}.{kind}", security, market or default_market, zone)
    return bars


def _whole(raw: pd.DataFrame, path: Path, report: ReadReport | None) -> pd.DataFrame:
    """Return the bars that have all their values and hold together; count the others by reason."""
    report = ReadReport() if report is None else report
    groups = [[c for c in raw if c in (f"{p}open", f"{p}high", f"{p}low", f"{p}close")] for p in ("", "bid_", "ask_")]
    absent = raw.isna().any(axis=1)
    zero, torn = absent & False, absent & False
    for group in filter(None, groups):
        first, high, low, last = (raw[c] for c in group)
        zero |= ~absent & (raw[group] <= 0).any(axis=1)
        torn |= ~absent & ((high < np.maximum(first, last)) | (low > np.minimum(first, last)))
    torn &= ~zero
    for bad, reason in (
        (absent, "bar with a missing side"),
        (zero, "zero or negative price"),
        (torn, "high and low do not hold open and close"),
    ):
        report.bad(path, reason, int(bad.sum()), f"{raw['ms'][bad.to_numpy()].iloc[0]:.0f} ms" if bad.any() else "")
    return raw[~(absent | zero | torn)]


def _tell(report: ReadReport, bars: Bars, name: str, security: str, market: str, zone: str) -> None:
    unit = {"equity": "shares", "future": "contracts"}.get(security, "coins or contracts, as the venue counts")
    facts = report.instrument(
        name,
        market,
        f"{security} bars",
        clock=f"ms since midnight, {zone}",
        stamp="start",
        price_unit="points" if security == "future" else "currency",
        quantity_unit=unit,
    )
    index = pd.DatetimeIndex(bars.frame.index)
    if not len(index):
        return
    facts.saw("bars", len(index), int(index.asi8[0]), int(index.asi8[-1]))
    steps = np.diff(index.asi8) / 1e9
    # A bar without any change is not written, so only silences of five bars and more are told.
    facts.gap_limit_s = 5 * bars.bar_s
    facts.gaps += int((steps > facts.gap_limit_s).sum())
    facts.longest_gap_s = max(facts.longest_gap_s, float(steps.max(initial=0.0)))
    if "bid_close" in bars.frame:
        spread = bars.frame["ask_close"] - bars.frame["bid_close"]
        facts.facts["locked_or_crossed"] = f"{int((spread <= 0).sum())} bars close so (kept)"


def bars_market(
    root: str | Path,
    names: Iterable[str] | None,
    days: Any,
    security: files.Security,
    resolution: str,
    kind: str | None,
    market: str | None,
    report: ReadReport,
    progress: Progress | None = None,
) -> tuple[dict[str, Bars], dict[str, FundingRates]]:
    """Return the bars of several instruments and, of perpetuals, their funding.

    Parameters
    ----------
    root, days, security, resolution, market
        See :func:`read_lean_bars`.
    names
        Tickers or pairs; default all that have such bars.
    kind
        "trade" or "quote"; None for those that are there, on the days on which each is there.
    report, progress
        See :func:`~crosswind.problems.market.readers.lean.read_lean`.

    Returns
    -------
    dict, dict
        '<NAME>.trade' and '<NAME>.quote' → bars; name → funding.

    Raises
    ------
    InvalidInput, DataGap
        See :func:`read_lean_bars`; and if an instrument has no bars at all.
    """
    _known("security", security, tuple(_CONVENTION))
    _known("resolution", resolution, tuple(_BAR_S))
    if kind is not None:
        _known("kind", kind, ("trade", "quote"))
    where = market or _CONVENTION[security][0]
    above = files.find_data(root) / security / where / resolution
    if names is None:
        chosen = tuple(sorted(p.name.upper() for p in above.iterdir() if p.is_dir())) if above.is_dir() else ()
        if not chosen:
            raise DataGap("there are no such bars", field="market", value=str(above), remedy="choose another market")
    else:
        chosen = tuple(n.upper() for n in check_names(names, "names"))
    bars: dict[str, Bars] = {}
    funding: dict[str, FundingRates] = {}
    for k, name in enumerate(chosen):
        folder = files.instrument_folder(files.find_data(root), security, where, resolution, name)
        kinds = [kind] if kind else [t for t in ("trade", "quote") if files.days_of(folder, t)]
        if not kinds:
            raise DataGap("the folder holds no bars", field="names", value=str(folder), remedy="leave the name out")
        for one in kinds:
            options: Any = {"kind": one, "resolution": resolution, "security": security, "market": where}
            bars[f"{name}.{one}"] = read_lean_bars(root, name, days, **options, report=report)
        if security == "cryptofuture" and _funding_path(root, name, where).is_file():
            funding[name] = FundingRates(name, read_lean_funding(root, name, market=where, report=report))
        if progress is not None:
            progress(f"read {name}", (k + 1) / len(chosen))
    return bars, funding


def _known(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInput(f"unknown {field}", field=field, value=value, remedy=f"choose among {', '.join(known)}")


def _funding_path(root: str | Path, name: str, market: str) -> Path:
    return files.find_data(root) / "cryptofuture" / market / "margin_interest" / f"{name.lower()}.csv"


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


def read_lean_funding(
    root: str | Path, name: str, *, market: str = "bybit", report: ReadReport | None = None
) -> pd.Series[Any]:
    """Read the funding rates of a perpetual.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    name
        Pair, e.g. 'btcusdt'.
    market
        LEAN's market folder.
    report
        Collects what was understood.

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
    path = _funding_path(root, name, market)
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
    if report is not None:
        report.file(path, path.stat().st_size)
        facts = report.instrument(
            name.upper(),
            market,
            "funding",
            clock="settlement in UTC",
            stamp="event",
            rate_unit="fraction of the notional per settlement; above zero: longs pay shorts",
        )
        if len(index):
            facts.saw("funding", len(index), int(index.asi8[0]), int(index.asi8[-1]))
    return series
