"""Reader of LEAN's layout: equity ticks to synchronised buckets, bars of all securities, futures, funding."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.checks import as_date, as_dates, check_names, check_positive
from crosswind.problems.market.hours import Hours, SessionHours
from crosswind.problems.market.model import FuturesQuotes, MarketData
from crosswind.problems.market.readers import lean_files as files
from crosswind.problems.market.readers.formats import Format
from crosswind.problems.market.readers.lean_bars import bars_market
from crosswind.problems.market.readers.lean_futures import futures_market, read_lean_futures
from crosswind.problems.market.readers.lean_ticks import NEW_YORK, LeanTicks, QuoteRows, trade_rows
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import Progress
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMAT", "NEW_YORK", "lean_days", "lean_names", "lean_sources", "read_lean", "read_lean_ticks"]

FORMAT = Format(
    scheme="lean",
    title="LEAN's folder layout: equity ticks and bars, futures, crypto spot and perpetuals with funding",
    example="lean:DIR",
    reader="crosswind.problems.market.readers.lean:read_lean",
    sources="crosswind.problems.market.readers.lean:lean_sources",
)

Quotes = Literal["second", "tick"]


def lean_names(root: str | Path, market: str = "usa", quotes: Quotes = "second") -> tuple[str, ...]:
    """Return the equities that have tick trades and quotes on at least one day, in capitals.

    Raises
    ------
    InvalidInput
        If the folder holds no LEAN data.
    """
    ticks = files.find_data(root) / "equity" / market / "tick"
    if not ticks.is_dir():
        return ()
    names = sorted(p.name.upper() for p in ticks.iterdir() if p.is_dir())
    return tuple(n for n in names if lean_days(root, [n], market, quotes))


def lean_days(
    root: str | Path, names: Iterable[str], market: str = "usa", quotes: Quotes = "second"
) -> tuple[dt.date, ...]:
    """Return the days on which every one of ``names`` has tick trades and quotes, ascending.

    Quotes are 1 s bars; with ``quotes="tick"`` quote ticks serve as well.
    """
    base = files.find_data(root) / "equity" / market
    common: set[dt.date] | None = None
    for name in names:
        ticks = base / "tick" / name.lower()
        quoted = files.days_of(base / "second" / name.lower(), "quote")
        if quotes == "tick":
            quoted |= files.days_of(ticks, "quote")
        own = files.days_of(ticks, "trade") & quoted
        common = own if common is None else common & own
    return tuple(sorted(common or ()))


def read_lean_ticks(
    root: str | Path,
    name: str,
    day: Any,
    *,
    hours: tuple[str, str] = ("09:30", "16:00"),
    market: str = "usa",
    report: ReadReport | None = None,
) -> pd.DataFrame:
    """Return the trades of one equity on one day within regular hours, suspicious ones dropped.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    name
        Ticker.
    day
        Date.
    hours
        Local opening (included) and close (excluded), New York.
    market
        LEAN's market folder.
    report
        Counts the rows that are not used, by reason.

    Returns
    -------
    DataFrame
        Index: time (UTC; trades may share a time). Columns: ``price`` [currency], ``shares``, ``condition`` (LEAN's
        flags as an integer), ``signable`` (the trade has an aggressor and a prevailing quote).

    Raises
    ------
    InvalidInput, DataGap
        On an unknown name, a missing day, a damaged or malformed file, prices of another unit.
    """
    date = as_date(day)
    folder = files.instrument_folder(files.find_data(root), "equity", market, "tick", name)
    edges = SessionHours(*hours, tz=NEW_YORK, bucket_s=1.0).edges_ns(date)
    rows = trade_rows(folder / f"{date:%Y%m%d}_trade.zip", date, report)
    time = rows.pop("time_ns")
    inside = (time >= edges[0]) & (time < edges[-1])
    index = pd.DatetimeIndex(time[inside], tz="UTC", name="time").as_unit("ns")
    return pd.DataFrame({column: values[inside] for column, values in rows.items()}, index=index)


def lean_sources(
    root: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    *,
    quotes: Quotes = "second",
    quote_rows: QuoteRows = "best",
    venue_life_s: float = 60.0,
    tick: float = 0.01,
    market: str | None = None,
) -> tuple[LeanTicks, ...]:
    """Return the equity ticks of LEAN's layout, one source per name; the arguments are those of :func:`read_lean`.

    Raises
    ------
    InvalidInput
        On an unknown name or malformed argument.
    DataGap
        If no name or no day is left.
    """
    for field, value, known in (
        ("quotes", quotes, ("second", "tick")),
        ("quote_rows", quote_rows, ("best", "exchange")),
    ):
        if value not in known:
            raise InvalidInput(f"unknown {field}", field=field, value=value, remedy=f"choose among {', '.join(known)}")
    data, where = files.find_data(root), market or "usa"
    wanted = as_dates(days)
    if names is None:
        chosen = lean_names(data, where, quotes)
        if wanted is not None:
            chosen = tuple(n for n in chosen if set(wanted) <= set(lean_days(data, [n], where, quotes)))
        if not chosen:
            raise DataGap(
                "no equity has both tick trades and 1 s quotes on the days asked for",
                field="names",
                value=str(data),
                remedy="choose other days, name the equities to learn which file is missing, or read another security",
            )
    else:
        chosen = tuple(n.upper() for n in check_names(names, "names"))
        check_names(chosen, "names")
        for name in chosen:
            files.instrument_folder(data, "equity", where, "tick", name)
    if wanted is None:
        wanted = lean_days(data, chosen, where, quotes)
    if not wanted:
        raise DataGap(
            "there is no day on which all names have tick trades and 1 s quotes",
            field="days",
            value=", ".join(chosen),
            remedy="leave names out",
        )
    life, step = check_positive(venue_life_s, "venue_life_s"), check_positive(tick, "tick")
    return tuple(LeanTicks(data, n, wanted, quotes, quote_rows, life, where, tick=step) for n in chosen)


def read_lean(
    root: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    security: files.Security = "equity",
    resolution: Literal["tick", "second", "minute"] | None = None,
    kind: Literal["trade", "quote"] | None = None,
    hours: Hours | str = ("09:30", "16:00"),
    quotes: Quotes = "second",
    quote_rows: QuoteRows = "best",
    venue_life_s: float = 60.0,
    futures: Iterable[str] | None = None,
    expiries: Iterable[str] | None = None,
    tick: float = 0.01,
    stale_limit_s: float = 300.0,
    market: str | None = None,
    report: ReadReport | None = None,
    progress: Progress | None = None,
) -> MarketData:
    """Read LEAN's layout: equity ticks into buckets (the default), or bars, futures and funding as they are.

    Tick trades are signed by Lee and Ready's rule on the prevailing quote: a 1 s bar stamped s is known at s + 1 s.
    Bucket k covers [open + kΔ, open + (k+1)Δ) and is stamped at its end.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    names
        Tickers, pairs or roots of futures. Default for ticks: all that have trades and quotes on all the days asked
        for, in alphabetical order; else all that are there.
    days
        Dates; for ticks by default those present for all names.
    bucket_s
        Bucket length Δ [s], default 10; divides the session. For ticks only.
    security
        "equity"; "crypto" or "cryptofuture" for bars of pairs, the latter with their funding; "future" for the quotes,
        volume, open interest and margins of all expiries.
    resolution
        "tick", the default for equities, gives events. "second" and "minute", the default else, give ``bars``, named
        '<NAME>.trade' and '<NAME>.quote'.
    kind
        Bars of trades or of quotes only; default both.
    hours
        Local opening and close, New York; the name of an exchange's calendar, 'XNYS', whose half days close early and
        whose holidays are refused; or anything with ``edges_ns(day)``.
    quotes
        "second": 1 s quote bars. "tick": quote ticks, where there are any.
    quote_rows
        What quote ticks are: "best", the national best quote, as in this layout; "exchange", each exchange's own best
        quote, consolidated into one book. The wrong choice is refused where the book would be crossed.
    venue_life_s
        With "exchange": an exchange's quote older than this does not count [s].
    futures
        Roots to read beside equity ticks; default 'ES' where it lies there. Of those named, a missing day is refused.
    expiries
        Expiries 'YYYYMM' of the futures; default all in the files.
    tick
        Price step of the equities [currency]: locked quotes are widened to it.
    stale_limit_s
        Oldest quote that may be carried forward [s].
    market
        LEAN's market folder; default usa, cme, bybit, bybit by security.
    report
        Collects what was understood and which rows were not used.
    progress
        Called with stage and fraction done.

    Returns
    -------
    MarketData
        With a note for every kind of repair.

    Raises
    ------
    InvalidInput
        On an unknown name or malformed argument.
    DataGap
        On a missing day, a damaged file, an absent expiry, quotes older than the limit.
    """
    report = ReadReport() if report is None else report
    source = f"lean:{root}"
    if security == "equity" and resolution in (None, "tick"):
        if kind is not None:
            raise InvalidInput(
                "goes with bars", field="kind", value=kind, remedy="say resolution='minute', or leave it"
            )
        sources = lean_sources(
            root,
            names,
            days,
            quotes=quotes,
            quote_rows=quote_rows,
            venue_life_s=venue_life_s,
            tick=tick,
            market=market,
        )
        length = 10.0 if bucket_s is None else bucket_s
        events, notes = events_of(
            sources,
            bucket_s=length,
            hours=_calendar(hours, length, sources[0].days) if isinstance(hours, str) else hours,
            tz=NEW_YORK,
            currency="USD",
            stale_limit_s=stale_limit_s,
            days=sources[0].days,
            report=report,
            progress=progress,
        )
        beside, more = _futures(sources[0].data, tuple(sources[0].days), futures, expiries, report)
        return MarketData(events, beside, None, source, (*notes, *more), report=report)
    if bucket_s is not None or futures is not None:
        raise InvalidInput(
            "goes with equity ticks",
            field="bucket_s" if bucket_s is not None else "futures",
            value=bucket_s if bucket_s is not None else futures,
            remedy="leave it out: bars and futures are given as they are written",
        )
    if security == "future":
        found, told = futures_market(root, names, days, expiries, stale_limit_s, market, report)
        return MarketData(None, found, None, source, told, report=report)
    if expiries is not None:
        raise InvalidInput("goes with futures", field="expiries", value=expiries, remedy="say security='future'")
    bars, funding = bars_market(root, names, days, security, resolution or "minute", kind, market, report, progress)
    return MarketData(None, source=source, bars=bars, funding=funding, report=report)


def _calendar(name: str, bucket_s: float, days: Iterable[dt.date]) -> Hours:
    """Return the sessions of an exchange's calendar; of the days asked for each must be one."""
    from crosswind.problems.market.contracts.calendars import CalendarHours

    hours = CalendarHours(name, bucket_s)
    open_days = {day: hours.edges_ns(day) for day in days}
    return lambda day: open_days.get(day, np.zeros(0, dtype=np.int64))


def _futures(
    data: Path,
    days: tuple[dt.date, ...],
    roots: Iterable[str] | None,
    expiries: Iterable[str] | None,
    report: ReadReport,
) -> tuple[dict[str, FuturesQuotes], tuple[str, ...]]:
    """Return the futures of these days; by default ES where there is any, with a note on absent days."""
    notes: list[str] = []
    out: dict[str, FuturesQuotes] = {}
    for root in ("ES",) if roots is None else ((roots,) if isinstance(roots, str) else tuple(roots)):
        chosen = days
        if roots is None:
            present = files.days_of(data / "future" / "cme" / "minute" / root.lower(), "quote")
            chosen = tuple(d for d in days if d in present)
            absent = [str(d) for d in days if d not in present]
            if absent:
                notes.append(f"{root} is absent on {', '.join(absent)}")
            if not chosen:
                continue
        quotes, more = read_lean_futures(data, root, chosen, expiries=expiries, report=report)
        out[quotes.root] = quotes
        notes += [f"{quotes.root}: {note}" for note in more]
    return out, tuple(notes)
