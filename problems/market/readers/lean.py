"""Reader of LEAN's equity ticks and quote bars: from files to synchronised buckets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.buckets import QuoteTape, SessionHours, TradeTape, bucketise
from crosswind.problems.market.checks import as_date, check_names
from crosswind.problems.market.model import FuturesQuotes, MarketData
from crosswind.problems.market.readers import lean_files as files
from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["NEW_YORK", "lean_days", "lean_names", "read_lean", "read_lean_ticks"]

NEW_YORK = "America/New_York"
PRICE_SCALE = 1e-4  # LEAN writes equity prices in hundredths of a cent
_QUOTE_BAR_S = 1.0

# Sale conditions (LEAN's TradeConditionFlags). Official open and close repeat a print: they are no trades.
_NO_TRADE = 0x1000000 | 0x4000000
# Auctions and crosses have no aggressor; late, average-priced and derivatively priced prints no prevailing quote.
_NO_AGGRESSOR = (
    0x40 | 0x80 | 0x100  # single-priced opening, closing, reopening
    | 0x200 | 0x100000  # derivatively priced, average price
    | 0x400 | 0x2000 | 0x4000  # extended hours
    | 0x800 | 0x2000000  # sold late, prior reference price
    | 0x40000 | 0x200000  # stock-option trade, crossing session
)  # fmt: skip


def lean_names(root: str | Path, market: str = "usa") -> tuple[str, ...]:
    """Return the equities that have both tick trades and 1 s quote bars on at least one day, in capitals.

    Raises
    ------
    InvalidInput
        If the folder holds no LEAN data.
    """
    ticks = files.find_data(root) / "equity" / market / "tick"
    if not ticks.is_dir():
        return ()
    names = sorted(p.name.upper() for p in ticks.iterdir() if p.is_dir())
    return tuple(n for n in names if lean_days(root, [n], market))


def lean_days(root: str | Path, names: Iterable[str], market: str = "usa") -> tuple[dt.date, ...]:
    """Return the days on which every one of ``names`` has tick trades and 1 s quote bars, ascending."""
    base = files.find_data(root) / "equity" / market
    common: set[dt.date] | None = None
    for name in names:
        own = files.days_of(base / "tick" / name.lower(), "trade")
        own &= files.days_of(base / "second" / name.lower(), "quote")
        common = own if common is None else common & own
    return tuple(sorted(common or ()))


def read_lean_ticks(
    root: str | Path, name: str, day: Any, *, hours: tuple[str, str] = ("09:30", "16:00"), market: str = "usa"
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

    Returns
    -------
    DataFrame
        Index: time (UTC; trades may share a time). Columns: ``price`` [currency], ``shares``, ``condition`` (LEAN's
        flags as an integer), ``signable`` (the trade has an aggressor and a prevailing quote).

    Raises
    ------
    InvalidInput, DataGap
        On an unknown name, a missing day, a damaged or malformed file.
    """
    date = as_date(day)
    folder = files.instrument_folder(files.find_data(root), "equity", market, "tick", name)
    path = folder / f"{date:%Y%m%d}_trade.zip"
    raw = files.read_member(path, files.TRADE_TICK)
    session = SessionHours(*hours, tz=NEW_YORK, bucket_s=1.0)
    edges = session.edges_ns(date)
    time = _local_ns(raw["ms"].to_numpy(), date)
    condition = _flags(raw["condition"], path)
    price, shares = raw["price"].to_numpy() * PRICE_SCALE, raw["size"].to_numpy()
    if not (np.isfinite(price).all() and np.isfinite(shares).all()):
        raise DataGap("a trade has no price or size", field="file", value=str(path), remedy="fetch the file again")
    keep = (time >= edges[0]) & (time < edges[-1])
    keep &= (raw["suspicious"].to_numpy() == 0) & (price > 0) & (shares > 0)
    index = pd.DatetimeIndex(time[keep], tz="UTC", name="time").as_unit("ns")
    table = {"price": price[keep], "shares": shares[keep], "condition": condition[keep]}
    table["signable"] = (condition[keep] & (_NO_AGGRESSOR | _NO_TRADE)) == 0
    return pd.DataFrame(table, index=index)


def _local_ns(ms: npt.NDArray[np.float64], date: dt.date) -> npt.NDArray[np.int64]:
    """Return New York milliseconds since midnight as UTC nanoseconds; the clock's shift is taken at noon."""
    # Clocks change at 02:00 on Sundays; on a trading day the shift at noon is that of all its hours.
    noon = pd.Timestamp(date) + pd.Timedelta(hours=12)
    midnight = int(noon.tz_localize(NEW_YORK).as_unit("ns").value) - 12 * 3_600_000_000_000
    return midnight + np.round(ms * 1e6).astype(np.int64)


def _flags(condition: pd.Series[Any], path: Path) -> npt.NDArray[np.int64]:
    codes, texts = pd.factorize(condition.fillna("0"))
    try:
        values = np.array([int(str(t), 16) for t in texts], dtype=np.int64)
    except ValueError as error:
        raise DataGap(
            f"a sale condition is not hexadecimal ({error})", field="file", value=str(path), remedy="fetch it again"
        ) from error
    flags: npt.NDArray[np.int64] = values[codes]
    return flags


def _trades(root: Path, name: str, day: dt.date, hours: tuple[str, str], market: str) -> TradeTape:
    table = read_lean_ticks(root, name, day, hours=hours, market=market)
    table = table[(table["condition"].to_numpy() & _NO_TRADE) == 0]
    index = pd.DatetimeIndex(table.index)
    return TradeTape(
        index.asi8, table["price"].to_numpy(), table["shares"].to_numpy(), table["signable"].to_numpy(dtype=bool)
    )


def _quotes(data: Path, name: str, day: dt.date, market: str) -> QuoteTape:
    folder = files.instrument_folder(data, "equity", market, "second", name)
    raw = files.read_member(folder / f"{day:%Y%m%d}_quote.zip", files.QUOTE_BAR)
    known = _local_ns(raw["ms"].to_numpy() + 1e3 * _QUOTE_BAR_S, day)  # stamped at the start, known at the end
    bid, ask = (raw[c].to_numpy() * PRICE_SCALE for c in ("bid_close", "ask_close"))
    return QuoteTape(known, bid, ask, raw["bid_size"].to_numpy(), raw["ask_size"].to_numpy())


def read_lean(
    root: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float = 10.0,
    *,
    hours: tuple[str, str] = ("09:30", "16:00"),
    futures: Iterable[str] | None = None,
    expiries: Iterable[str] | None = None,
    tick: float = 0.01,
    stale_limit_s: float = 300.0,
    market: str = "usa",
) -> MarketData:
    """Read US equity ticks, quotes and futures from LEAN's layout.

    Tick trades are signed by Lee and Ready's rule on the prevailing 1 s quote bar: a bar stamped s is known at s + 1 s.
    Bucket k covers [open + kΔ, open + (k+1)Δ) and is stamped at its end.

    Parameters
    ----------
    root
        LEAN's Data folder or the one above.
    names
        Tickers; default all that have tick trades and 1 s quotes on all the days asked for, in alphabetical order.
    days
        Dates; default those present for all names.
    bucket_s
        Bucket length Δ [s]; divides the session.
    hours
        Local opening and close, New York.
    futures
        Roots to read for the same days; default 'ES' where it lies there. Asked for by name, a missing day is refused.
    expiries
        Expiries 'YYYYMM' of the futures; default all in the files.
    tick
        Price step of the equities [currency]: locked quotes are widened to it.
    stale_limit_s
        Oldest quote that may be carried forward [s].
    market
        LEAN's market folder.

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
    data = files.find_data(root)
    wanted = None if days is None else tuple(sorted({as_date(d, "days") for d in _listed(days)}))
    if names is None:
        chosen = lean_names(data, market)
        if wanted is not None:
            chosen = tuple(n for n in chosen if set(wanted) <= set(lean_days(data, [n], market)))
        if not chosen:
            raise DataGap(
                "no equity has both tick trades and 1 s quotes on the days asked for",
                field="names",
                value=str(data),
                remedy="choose other days, or name the equities to learn which file is missing",
            )
    else:
        chosen = tuple(n.upper() for n in check_names(names, "names"))
        check_names(chosen, "names")
        for name in chosen:
            files.instrument_folder(data, "equity", market, "tick", name)
    if wanted is None:
        wanted = lean_days(data, chosen, market)
    if not wanted:
        raise DataGap(
            "there is no day on which all names have tick trades and 1 s quotes",
            field="days",
            value=", ".join(chosen),
            remedy="leave names out",
        )
    session = SessionHours(*hours, tz=NEW_YORK, bucket_s=bucket_s)
    tapes = {
        day: {n: (_trades(data, n, day, hours, market), _quotes(data, n, day, market)) for n in chosen}
        for day in wanted
    }
    events, notes = bucketise(tapes, chosen, session, tick=tick, stale_limit_s=stale_limit_s)
    quotes, more = _futures(data, wanted, futures, expiries)
    return MarketData(events, quotes, None, f"lean:{root}", (*notes, *more))


def _listed(days: Any) -> list[Any]:
    if isinstance(days, (str, dt.date)):
        return [days]
    if not isinstance(days, Iterable):
        raise InvalidInput("not dates", field="days", value=days, remedy="pass '2013-10-07' or a list of dates")
    listed = list(days)
    if not listed:
        raise InvalidInput("there are no days", field="days", value=[], remedy="leave it out to read all")
    return listed


def _futures(
    data: Path, days: tuple[dt.date, ...], roots: Iterable[str] | None, expiries: Iterable[str] | None
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
        quotes, more = read_lean_futures(data, root, chosen, expiries=expiries)
        out[quotes.root] = quotes
        notes += [f"{quotes.root}: {note}" for note in more]
    return out, tuple(notes)
