"""A user's own csv or parquet tables: buckets or ticks, long or wide, through a mapping of column names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.buckets import QuoteTape, SessionHours, TradeTape, bucketise
from crosswind.problems.market.checks import as_date, check_names, check_positive, check_zone, utc_index
from crosswind.problems.market.events import FIELDS, MarketEvents
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers.formats import Format, call_options
from crosswind.problems.market.readers.tables import (
    QUOTE_COLUMNS,
    TRADE_COLUMNS,
    Clock,
    load_tables,
    long_table,
    pivot,
    wide_table,
)
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMATS", "read_parquet", "read_table"]


def read_table(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    format: Literal["csv", "parquet"] = "csv",
    columns: Mapping[str, str] | None = None,
    tz: str = "America/New_York",
    source_tz: str | None = None,
    time_unit: str | None = None,
    stamp: Literal["start", "end"] = "end",
    hours: tuple[str, str] = ("09:30", "16:00"),
    tick: float = 0.01,
    stale_limit_s: float = 300.0,
    currency: str = "USD",
) -> MarketData:
    """Read plain tables.

    What a table holds is told by its columns, after renaming:

    - **buckets, long**: ``time, name, flow, mid, spread, volume, depth``, one row per bucket and name;
    - **ticks, long**: ``time, name, price, size, bid, ask, bid_size, ask_size`` and, if known, ``side``: one row per
      trade with the quote that prevailed at it;
    - **buckets, wide**: a folder of ``flow, mid, spread, volume, depth``, each with ``time`` and a column per name;
    - **ticks and quotes apart**: a folder of ``trades`` (``time, name, price, size[, side]``) and ``quotes``
      (``time, name, bid, ask, bid_size, ask_size``; ``time`` is when the quote was known).

    A folder of other files is read as parts of one long table.

    Parameters
    ----------
    path
        A file or a folder.
    names
        Names to keep, in this order; default all, in alphabetical order (wide: in the file's).
    days
        Local dates to keep; default all.
    bucket_s
        Ticks: bucket length [s], default 10. Buckets: their length after resampling; default as they are.
    format
        "csv" or "parquet".
    columns
        Standard name → the table's name, e.g. ``{"time": "ts", "price": "px"}``.
    tz
        The exchange's zone; its dates are the sessions.
    source_tz
        Zone in which naive times are written. Without it naive times are refused.
    time_unit
        "s", "ms", "us" or "ns" if times are numbers since 1970 UTC.
    stamp
        Whether buckets are stamped at their "start" or "end".
    hours
        Local opening and close; for ticks.
    tick
        Price step [currency]; locked quotes are widened to it. For ticks.
    stale_limit_s
        Oldest quote that may be carried forward [s]; for ticks.
    currency
        Currency of prices and notionals.

    Returns
    -------
    MarketData

    Raises
    ------
    InvalidInput
        On absent columns, naive times, duplicates, malformed values.
    DataGap
        On an absent or unreadable file, a missing day, buckets that some names lack, quotes older than the limit.
    """
    folder = Path(path).expanduser()
    check_zone(tz)
    if stamp not in ("start", "end"):
        raise InvalidInput("unknown stamp", field="stamp", value=stamp, remedy="say 'start' or 'end'")
    clock = Clock(source_tz, time_unit)
    tables = load_tables(folder, format, columns)
    source = f"{format}:{path}"
    if set(FIELDS) <= set(tables):
        frames = {field: wide_table(tables[field], clock, field) for field in FIELDS}
        return MarketData(_buckets(frames, names, days, bucket_s, tz, stamp, currency), source=source)
    apart = {"trades", "quotes"} <= set(tables)
    whole = pd.DataFrame() if apart else pd.concat(list(tables.values()), ignore_index=True)
    if set(FIELDS) <= set(whole.columns):
        long = long_table(whole, clock, FIELDS, source)
        frames = {field: pivot(long, field) for field in FIELDS}
        return MarketData(_buckets(frames, names, days, bucket_s, tz, stamp, currency), source=source)
    if apart:
        trades = long_table(tables["trades"], clock, TRADE_COLUMNS, "trades")
        quotes = long_table(tables["quotes"], clock, QUOTE_COLUMNS, "quotes")
    else:
        trades = quotes = long_table(whole, clock, (*TRADE_COLUMNS, *QUOTE_COLUMNS), source)
    session = SessionHours(*hours, tz=tz, bucket_s=10.0 if bucket_s is None else bucket_s)
    events, notes = _ticks(trades, quotes, names, days, session, tick, stale_limit_s, currency)
    return MarketData(events, source=source, notes=notes)


def _buckets(
    frames: Mapping[str, pd.DataFrame],
    names: Iterable[str] | None,
    days: Any,
    bucket_s: float | None,
    tz: str,
    stamp: str,
    currency: str,
) -> MarketEvents:
    """Return buckets that are already aggregated, their length taken from the smallest step."""
    flow = frames["flow"]
    chosen = _choose(names, list(flow.columns))
    for field, frame in frames.items():
        holes = frame.reindex(columns=list(chosen)).isna()
        if holes.to_numpy().any():
            row, col = (int(k) for k in np.argwhere(holes.to_numpy())[0])
            raise DataGap(
                f"{int(holes.to_numpy().sum())} buckets are empty, first {frame.index[row]} of {chosen[col]}",
                field=field,
                value=np.nan,
                remedy="fill the gaps, or leave the name or the day out",
            )
    index = utc_index(pd.DatetimeIndex(flow.index), "time")
    if len(index) < 2:
        raise DataGap("one bucket does not tell its length", field="time", value=len(index), remedy="give at least two")
    length = float(np.median(np.diff(index.asi8))) / 1e9
    shift = pd.Timedelta(round(length * 1e9), "ns") if stamp == "start" else pd.Timedelta(0)
    placed: dict[str, Any] = {
        field: frame[list(chosen)].set_axis(pd.DatetimeIndex(frame.index) + shift, axis=0)
        for field, frame in frames.items()
    }
    events = MarketEvents(**placed, bucket_s=length, tz=tz, currency=currency)
    if days is not None:
        events = events.on(days)
    return events if bucket_s is None else events.resample(check_positive(bucket_s, "bucket_s"))


def _choose(names: Iterable[str] | None, available: list[str]) -> tuple[str, ...]:
    if names is None:
        return check_names(available, "names")
    chosen = check_names(names, "names")
    unknown = [n for n in chosen if n not in available]
    if unknown:
        raise InvalidInput(
            "unknown name", field="names", value=unknown, remedy=f"choose among {', '.join(map(str, available[:20]))}"
        )
    return chosen


def _ticks(
    trades: pd.DataFrame,
    quotes: pd.DataFrame,
    names: Iterable[str] | None,
    days: Any,
    session: SessionHours,
    tick: float,
    stale_limit_s: float,
    currency: str,
) -> tuple[MarketEvents, tuple[str, ...]]:
    both = sorted(set(trades["name"]) & set(quotes["name"]))
    chosen = _choose(names, both)
    bad = ~np.isfinite(trades[["price", "size"]].to_numpy()) | (trades[["price", "size"]].to_numpy() <= 0)
    if bad.any():
        at = int(np.argwhere(bad)[0][0])
        raise InvalidInput(
            f"{int(bad.any(axis=1).sum())} trades without a positive price and size, first at {trades.index[at]}",
            field="price/size",
            value=tuple(trades[["price", "size"]].iloc[at]),
            remedy="drop those rows",
        )
    local = pd.Series(pd.DatetimeIndex(quotes.index).tz_convert(session.tz).date)
    available = sorted(set(local))
    wanted: list[dt.date] = available
    if days is not None:
        listed = [days] if isinstance(days, (str, dt.date)) else list(days)
        wanted = sorted({as_date(d, "days") for d in listed})
        absent = [str(d) for d in wanted if d not in available]
        if absent or not wanted:
            raise DataGap(
                "no such session", field="days", value=absent, remedy=f"choose among {', '.join(map(str, available))}"
            )
    tapes: dict[dt.date, dict[str, tuple[TradeTape, QuoteTape]]] = {}
    for day in wanted:
        edges = session.edges_ns(day)
        midnight = int(pd.Timestamp(day).tz_localize(session.tz).as_unit("ns").value)
        tapes[day] = {n: (_trade_tape(trades, n, edges), _quote_tape(quotes, n, midnight, edges)) for n in chosen}
    return bucketise(tapes, chosen, session, tick=tick, stale_limit_s=stale_limit_s, currency=currency)


def _trade_tape(trades: pd.DataFrame, name: str, edges: np.ndarray[Any, Any]) -> TradeTape:
    own = trades[(trades["name"] == name).to_numpy()]
    time = pd.DatetimeIndex(own.index).asi8
    keep = (time >= edges[0]) & (time < edges[-1])
    sign = own["side"].to_numpy(dtype=np.int8)[keep] if "side" in own.columns else None
    price, size = (own[c].to_numpy()[keep] for c in ("price", "size"))
    return TradeTape(time[keep], price, size, np.ones(int(keep.sum()), dtype=bool), sign)


def _quote_tape(quotes: pd.DataFrame, name: str, midnight: int, edges: np.ndarray[Any, Any]) -> QuoteTape:
    own = quotes[(quotes["name"] == name).to_numpy()]
    time = pd.DatetimeIndex(own.index).asi8
    # Quotes from before the opening prevail at it, but not those of the day before.
    keep = (time >= midnight) & (time <= edges[-1])
    return QuoteTape(time[keep], *(own[c].to_numpy()[keep] for c in QUOTE_COLUMNS))


def read_parquet(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    **options: Any,
) -> MarketData:
    """Read what ``MarketData.to_parquet`` or ``MarketEvents.to_parquet`` wrote, else plain tables.

    Parameters
    ----------
    path
        A folder or a file.
    names, days, bucket_s
        As in :func:`read_table`; own buckets are resampled.
    **options
        Those of :func:`read_table`, for plain tables only.

    Raises
    ------
    InvalidInput, DataGap
        As :func:`read_table`, and on damaged files of our own layout.
    """
    folder = Path(path).expanduser()
    own = next((m for m in ("market.json", "meta.json") if (folder / m).is_file()), None)
    if own is None:
        known = call_options(read_table, f"parquet:{path}", {}, options)
        return read_table(path, names, days, bucket_s, format="parquet", **known)
    if options:
        raise InvalidInput(
            "our own layout takes no options", field="options", value=sorted(options), remedy="leave them out"
        )
    if own == "market.json":
        return _narrow(MarketData.from_parquet(folder), names, days, bucket_s)
    return _narrow(MarketData(MarketEvents.from_parquet(folder), source=f"parquet:{path}"), names, days, bucket_s)


def _narrow(data: MarketData, names: Iterable[str] | None, days: Any, bucket_s: float | None) -> MarketData:
    """Return stored data with some names and days only; the truth goes with it only if all names are kept."""
    if names is None and days is None and bucket_s is None:
        return data
    events, truth = data.events, data.truth
    if names is not None:
        chosen = check_names(names, "names")
        if chosen != events.names:
            events, truth = events.select(chosen), None
    if days is not None:
        events = events.on(days)
    if bucket_s is not None:
        events = events.resample(bucket_s)
    return replace(data, buckets=events, truth=truth)


FORMATS = (
    Format(
        scheme="csv",
        title="plain csv tables, buckets or ticks",
        example="csv:FILE or DIR",
        reader=partial(read_table, format="csv"),
    ),
    Format(
        scheme="parquet",
        title="what to_parquet wrote, else plain parquet tables",
        example="parquet:DIR",
        reader=f"{__name__}:read_parquet",
    ),
)
