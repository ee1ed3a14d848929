"""Reader of LEAN's futures minute bars: quotes and volume of every listed expiry on one UTC axis."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_dates, check_names
from crosswind.problems.market.contracts.table import lean_terms
from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.readers import lean_files as files
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["ContractTerms", "futures_market", "read_lean_futures", "read_lean_margins"]

_FIELDS = ("bid", "ask", "bid_size", "ask_size", "volume")
_MINUTE_NS = 60_000_000_000


class ContractTerms(NamedTuple):
    """What one contract is worth: currency per point, and the smallest price step in points."""

    multiplier: float
    tick: float
    exchange: str


def _known_terms(symbol: str, day: Any) -> ContractTerms:
    """Return the terms of the contract table on a day."""
    try:
        return ContractTerms(*lean_terms(symbol.upper(), day))
    except InvalidInput as error:
        raise InvalidInput(
            f"its contract terms are not known ({error})",
            field="symbol",
            value=symbol,
            remedy="pass terms=ContractTerms(multiplier, tick, exchange)",
        ) from error


def read_lean_futures(
    root: str | Path,
    symbol: str = "ES",
    days: Any = None,
    *,
    expiries: Iterable[str] | None = None,
    stale_limit_s: float = 300.0,
    terms: ContractTerms | None = None,
    report: ReadReport | None = None,
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
        Contract terms; default those of the contract table on the first day.
    report
        Collects what was understood and which bars were not used.

    Returns
    -------
    FuturesQuotes, tuple of str
        The quotes, stamped at the END of each minute in which any expiry was quoted or traded, with open interest and
        margins where their files lie there; notes that count repairs.

    Raises
    ------
    InvalidInput
        On an unknown symbol or malformed argument.
    DataGap
        On a missing day, a damaged file, an expiry that none of the days lists.
    """
    name = symbol.upper()
    report = ReadReport() if report is None else report
    if not isinstance(stale_limit_s, (int, float)) or not np.isfinite(stale_limit_s) or stale_limit_s < 0:
        raise InvalidInput("must not be negative", field="stale_limit_s", value=stale_limit_s, remedy="0 carries none")
    asked = as_dates(days)
    terms = terms or _known_terms(name, asked[0] if asked else None)
    folder = files.instrument_folder(files.find_data(root), "future", terms.exchange, "minute", name)
    chosen_days = asked or tuple(sorted(files.days_of(folder, "quote") & files.days_of(folder, "trade")))
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
    parts = [
        _day(folder, day, tuple(e for e in wanted if e in by_day[day]), limit, count, report) for day in chosen_days
    ]
    frames: dict[str, Any] = {}
    for field in _FIELDS:
        whole = pd.concat([part[field] for part in parts]).reindex(columns=list(wanted))
        frames[field] = whole.fillna(0.0) if field == "volume" else whole
    margins = _margin_path(files.find_data(root), terms.exchange, name)
    quotes = FuturesQuotes(
        root=name,
        **frames,
        bar_s=60.0,
        multiplier=terms.multiplier,
        tick=terms.tick,
        open_interest=_open_interest(folder, chosen_days, wanted, report),
        margins=read_lean_margins(root, name, market=terms.exchange, report=report) if margins.is_file() else None,
    )
    facts = report.instrument(
        name,
        terms.exchange,
        "minute quotes of all expiries",
        clock="ms since midnight UTC",
        stamp="start in the files, end as delivered",
        price_unit="points, plain",
        quantity_unit="contracts",
        tick=f"{terms.tick:g}",
        multiplier=f"{terms.multiplier:g} per point",
        expiries=", ".join(wanted),
    )
    facts.saw("bars", int(quotes.bid.notna().sum().sum()), int(quotes.index.asi8[0]), int(quotes.index.asi8[-1]))
    return quotes, tuple(f"{number} {what}" for what, number in count.items() if number)


def _day(
    folder: Path, day: dt.date, expiries: tuple[str, ...], limit: int, count: Counter[str], report: ReadReport
) -> dict[str, pd.DataFrame]:
    """Return the five fields of one UTC date: every minute in which any of the expiries was quoted or traded."""
    midnight = int(pd.Timestamp(day, tz="UTC").as_unit("ns").value)
    traded = files.future_expiries(folder / f"{day:%Y%m%d}_trade.zip")
    columns: dict[str, dict[str, pd.Series[Any]]] = {field: {} for field in _FIELDS}
    for expiry in expiries:
        path = folder / f"{day:%Y%m%d}_quote.zip"
        raw = _once(files.read_member(path, files.QUOTE_BAR, expiry=expiry, report=report), path, expiry, report)
        bid, ask = raw["bid_close"], raw["ask_close"]
        sized = (raw["bid_size"] > 0) & (raw["ask_size"] > 0) & bid.notna() & ask.notna()
        good = ((ask > bid) & sized).to_numpy()
        for bad, reason in (
            (~sized, "quote bar with a missing side"),
            (sized & (bid > ask), "crossed book"),
            (sized & (bid == ask), "locked book"),
        ):
            report.bad(path, reason, int(bad.sum()), f"{expiry} at {raw.index[int(np.argmax(bad))]:.0f} ms")
        count["quote bars with a missing side, crossed or locked, dropped"] += int((~good).sum())
        used = {"bid": bid, "ask": ask, "bid_size": raw["bid_size"], "ask_size": raw["ask_size"]}
        for field, series in used.items():
            columns[field][expiry] = series[good]
        if expiry in traded:
            path = folder / f"{day:%Y%m%d}_trade.zip"
            trades = _once(files.read_member(path, files.TRADE_BAR, expiry=expiry, report=report), path, expiry, report)
            bad = ~(trades["volume"] >= 0)
            report.bad(path, "negative or absent volume", int(bad.sum()), expiry)
            columns["volume"][expiry] = trades["volume"][~bad]
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


def _once(raw: pd.DataFrame, path: Path, expiry: str, report: ReadReport) -> pd.DataFrame:
    """Return the bars by their minute, the first of each: a repeated one would count its volume twice."""
    again = raw["ms"].duplicated()
    report.bad(path, "repeated minute", int(again.sum()), expiry)
    return raw[~again].set_index("ms")


def _open_interest(
    folder: Path, days: tuple[dt.date, ...], expiries: tuple[str, ...], report: ReadReport
) -> pd.DataFrame | None:
    """Return the contracts outstanding as they were published, times × expiries; None where no file lies there."""
    parts: dict[str, list[pd.Series[Any]]] = {}
    for day in days:
        path = folder / f"{day:%Y%m%d}_openinterest.zip"
        if not path.is_file():
            continue
        midnight = int(pd.Timestamp(day, tz="UTC").as_unit("ns").value)
        for expiry in sorted(set(files.future_expiries(path)) & set(expiries)):
            raw = files.read_member(path, files.OPEN_INTEREST, expiry=expiry, report=report)
            bad = ~(raw["open_interest"] >= 0)
            report.bad(path, "negative or absent open interest", int(bad.sum()), expiry)
            raw = raw[~bad].drop_duplicates("ms", keep="last")
            at = midnight + (raw["ms"].to_numpy() * 1e6).astype(np.int64)
            stamps = pd.DatetimeIndex(at, tz="UTC").as_unit("ns")
            parts.setdefault(expiry, []).append(pd.Series(raw["open_interest"].to_numpy(), index=stamps))
    if not parts:
        return None
    table = pd.concat({expiry: pd.concat(series) for expiry, series in parts.items()}, axis=1, sort=True)
    whole: pd.DataFrame = table.reindex(columns=list(expiries)).sort_index()
    return whole


def _margin_path(data: Path, market: str, symbol: str) -> Path:
    return data / "future" / market / "margins" / f"{symbol.upper()}.csv"


def read_lean_margins(
    root: str | Path, symbol: str = "ES", *, market: str = "cme", report: ReadReport | None = None
) -> pd.DataFrame:
    """Read the history of a future's margins.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    symbol
        Root of the future.
    market
        LEAN's market folder.
    report
        Collects what was understood.

    Returns
    -------
    DataFrame
        Date from which they hold (UTC midnight) × ``initial``, ``maintenance`` [currency per contract].

    Raises
    ------
    DataGap
        If there is no such file.
    InvalidInput
        If it is malformed, out of order, or a margin is not positive.
    """
    path = _margin_path(files.find_data(root), market, symbol)
    if not path.is_file():
        have = sorted(p.stem for p in path.parent.glob("*.csv"))
        raise DataGap("no margins of that name", field="symbol", value=symbol, remedy=f"choose among {', '.join(have)}")
    try:
        raw = pd.read_csv(path, comment="#", dtype={"date": "str", "initial": "float64", "maintenance": "float64"})
        index = pd.DatetimeIndex(pd.to_datetime(raw["date"], format="%Y%m%d", utc=True)).as_unit("ns")
        table = raw[["initial", "maintenance"]].set_axis(index, axis=0)
    except (ValueError, KeyError) as error:
        raise InvalidInput(
            f"not rows of 'YYYYMMDD,initial,maintenance' ({error})",
            field="file",
            value=str(path),
            remedy="fetch it again",
        ) from error
    if not (table > 0).all(axis=None) or not index.is_monotonic_increasing or index.has_duplicates:
        raise InvalidInput(
            "margins are not positive or dates not in order", field="file", value=str(path), remedy="repair the file"
        )
    if report is not None:
        report.file(path, path.stat().st_size)
        facts = report.instrument(f"{symbol.upper()}.margins", market, "margins", clock="date", stamp="event")
        facts.saw("margins", len(table), int(index.asi8[0]), int(index.asi8[-1]))
    return table


def futures_market(
    root: str | Path,
    names: Iterable[str] | None,
    days: Any,
    expiries: Iterable[str] | None,
    stale_limit_s: float,
    market: str | None,
    report: ReadReport,
) -> tuple[dict[str, FuturesQuotes], tuple[str, ...]]:
    """Return the quotes of several roots with their notes; the arguments are those of ``read_lean``.

    Raises
    ------
    InvalidInput, DataGap
        See :func:`read_lean_futures`; and if no root lies there.
    """
    data = files.find_data(root)
    if names is None:
        found = sorted(p.name.upper() for p in (data / "future").glob(f"{market or '*'}/minute/*") if p.is_dir())
        if not found:
            raise DataGap("there are no futures", field="names", value=str(data / "future"), remedy="name the roots")
    else:
        found = list(check_names(names, "names"))
    out: dict[str, FuturesQuotes] = {}
    notes: list[str] = []
    for name in found:
        own = None if market is None else _known_terms(name, None)._replace(exchange=market)
        quotes, more = read_lean_futures(
            root, name, days, expiries=expiries, stale_limit_s=stale_limit_s, terms=own, report=report
        )
        out[quotes.root] = quotes
        notes += [f"{quotes.root}: {note}" for note in more]
    return out, tuple(notes)
