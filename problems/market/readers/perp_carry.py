"""Reader of hourly spot and perpetual prices with funding, and of tables of funding at its settlements.

Two kinds of parquet are understood, by their columns:

- hourly: ``timestamp`` and, each with a venue's suffix, ``open_spot … volume_spot``, ``open_perp … volume_perp``,
  ``mark_price``, ``funding_rate_raw`` and ``funding_rate_1h``; the coin stands in the file's name, ``okx_SOL_…``;
- settlements: an index of times and the one column ``funding_rate``; the file's name is the contract's.

What the columns mean was settled by evidence, and the tests repeat it:

- The stamps carry no zone. The funding changes at 00, 08 and 16 h, the venue's settlements in UTC, and the crash of 10
  October 2025 (after 21 h UTC) lies in the bar stamped 21: so UTC, stamped at the START. The mark price of a row is the
  one at the bar's END: it equals the row's close, not its open.
- ``funding_rate_raw`` is the rate of a whole interval, repeated in every hour until the next; ``funding_rate_1h`` is
  the same divided by the interval's hours, as if it were charged hourly, which it is not. Charging the raw rate hourly
  pays the funding eight times over. Only the hours of a settlement are read.
- Until 2025 a rate follows the basis of the 8 h that ended 16 h before its row, from 2026 that of the 8 h just before.
  The venue then fixed rates one interval ahead; whether the other 8 h are the third hand's shift cannot be told, so no
  row is moved. Do not take the rate of a row for a forecast that was public at that hour.
- A rate that does not change for weeks is a hole in the source that was filled forward: its first settlement is kept.
- ``vwap`` repeats the close in nine rows of ten; where it differs, nobody says how it was made. It is not read.
- Volume is in coins for spot, in contracts for the perpetual (BNB's of 0.01 coin: in coins, a day would turn the open
  interest over forty times).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_dates, check_names, check_positive, check_zone
from crosswind.problems.market.damaged import UNREADABLE
from crosswind.problems.market.funding import FundingRates
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.readers.formats import Format
from crosswind.problems.market.readers.perp_funding import (
    FundingRules,
    far_from_all,
    hourly_settlements,
    listed_settlements,
)
from crosswind.problems.market.readers.table_ticks import refuse_copies
from crosswind.problems.market.report import ReadReport
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["FORMAT", "read_perp_carry"]

FORMAT = Format(
    scheme="perp",
    title="hourly spot and perpetual prices with funding, and tables of funding rates (parquet)",
    example="perp:DIR",
    reader="crosswind.problems.market.readers.perp_carry:read_perp_carry",
    sources=None,
)

_HOUR_NS = 3_600_000_000_000
_OHLC = ("open", "high", "low", "close")
_KINDS = {"spot": "spot", "perp": "perpetual"}


def read_perp_carry(
    path: str | Path,
    names: Iterable[str] | None = None,
    days: Any = None,
    bucket_s: float | None = None,
    *,
    report: ReadReport | None = None,
    progress: Callable[[str, float], None] | None = None,
    tz: str = "UTC",
    outliers: Literal["drop", "keep"] = "drop",
    outlier_log: float = 0.5,
    funding_limit: float = 0.03,
    frozen_days: float = 14.0,
    interval_h: int | None = None,
    snap_s: float = 60.0,
) -> MarketData:
    """Read spot and perpetual bars and funding rates of one file, or of all parquet files below a folder.

    Parameters
    ----------
    path
        A parquet file or a folder.
    names
        Coins of hourly files ('SOL') and contracts of settlement files ('BTCUSDT'); default all that are there.
    days
        Dates (UTC) to keep; default all.
    bucket_s
        Must be left out: there is no order flow to put into buckets.
    report
        Collects what was understood and what was not used.
    progress
        Called with (stage, fraction done).
    tz
        The zone in which stamps without a zone stand.
    outliers
        "drop" leaves outliers out, "keep" keeps them; both count them. A bar is an outlier if its low or its high lies
        further than ``outlier_log`` from both its open and its close, or its close from both neighbouring closes, in
        logarithms. A rate is one if it exceeds ``funding_limit`` in size and no hourly basis of the 24 h before has its
        sign and at least its size; a rate that the basis supports is kept and told in a note.
    outlier_log
        See ``outliers``; 0.5 is a factor of 1.65.
    funding_limit
        See ``outliers`` [fraction of the notional per settlement].
    frozen_days
        A rate of the hourly files that stays unchanged for longer is a hole filled forward [days].
    interval_h
        Hours between the settlements of hourly files; default: found from the hours in which the rate changes.
    snap_s
        A settlement this late or early is set to its full hour [s].

    Returns
    -------
    MarketData
        ``bars``: '<coin>.spot' and '<coin>.perp' (with the column ``mark``, the mark price at the bar's end), stamped
        at the START. ``funding``: coin or contract → rates at its settlements.

    Raises
    ------
    InvalidInput
        On an unknown name or option, a table of another form, rates that are no fractions.
    DataGap
        If there is no file, one is damaged or empty, or no row is left.
    """
    rules = FundingRules(
        check_positive(funding_limit, "funding_limit"),
        check_positive(frozen_days, "frozen_days"),
        interval_h,
        check_positive(snap_s, "snap_s"),
        _checked_choice(outliers) == "drop",
    )
    check_positive(outlier_log, "outlier_log")
    zone = check_zone(tz)
    if bucket_s is not None:
        raise InvalidInput(
            "there is no order flow to put into buckets", field="bucket_s", value=bucket_s, remedy="leave it out"
        )
    report = ReadReport() if report is None else report
    files = _files(Path(path).expanduser())
    wanted = None if names is None else check_names(names, "names")
    if wanted is not None:
        unknown = [n for n in wanted if n not in files]
        if unknown:
            raise InvalidInput(
                "no file of that name", field="names", value=unknown, remedy=f"choose among {', '.join(files)}"
            )
        files = {n: files[n] for n in wanted}
    dates = as_dates(days)
    notes: list[str] = []
    bars: dict[str, Bars] = {}
    funding: dict[str, FundingRates] = {}
    rates: pd.Series[Any] | None
    for k, (name, file) in enumerate(files.items()):
        table = _table(file)
        report.file(file, file.stat().st_size)
        if "funding_rate" in table:
            rates = listed_settlements(name, _clock(table, zone, file), table["funding_rate"], rules, file, report)
            venue = file.parent.name.removesuffix("_funding")
        else:
            venue, columns = _suffix(table, file)
            own, rates = _hourly(
                name, venue, _clock(table, zone, file), columns, rules, outlier_log, file, report, notes
            )
            bars |= own
        if rates is not None:
            funding[name] = FundingRates(name, rates)
        if progress is not None:
            progress(f"read {file.name}", (k + 1) / len(files))
    if dates is not None:
        bars = {k: Bars(b.frame[_on(b.frame.index, dates)], b.bar_s, b.stamp) for k, b in bars.items()}
        bars = {k: b for k, b in bars.items() if len(b.frame)}
        funding = {k: FundingRates(k, f.rates[_on(f.rates.index, dates)]) for k, f in funding.items()}
        funding = {k: f for k, f in funding.items() if len(f.rates)}
    if not bars and not funding:
        raise DataGap("no row is left", field="days", value=str(path), remedy="choose other days, or see the report")
    _tell(bars, funding, report)
    return MarketData(None, source=f"perp:{path}", notes=tuple(notes), bars=bars, funding=funding, report=report)


def _checked_choice(outliers: str) -> str:
    if outliers not in ("drop", "keep"):
        raise InvalidInput("unknown choice", field="outliers", value=outliers, remedy="say 'drop' or 'keep'")
    return outliers


def _on(index: pd.Index, dates: tuple[Any, ...]) -> Any:
    return pd.Index(pd.DatetimeIndex(index).date).isin(list(dates))


def _files(path: Path) -> dict[str, Path]:
    """Return name → file; the coin of hourly files stands between the first two underscores."""
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
    if not found:
        raise DataGap("there is no parquet file", field="path", value=str(path), remedy="give a file or its folder")
    out: dict[str, Path] = {}
    for file in found:
        parts = file.stem.split("_")
        name = parts[1] if len(parts) > 2 else file.stem
        if name in out:
            raise InvalidInput(
                "two files hold the same name", field="path", value=(str(out[name]), str(file)), remedy="give one file"
            )
        out[name] = file
    refuse_copies(found)
    return out


def _table(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(file)
    except UNREADABLE as error:
        raise DataGap(
            f"the file is truncated or damaged ({error})", field="file", value=str(file), remedy="fetch it again"
        ) from error
    if not len(table):
        raise DataGap("the file has no rows", field="file", value=str(file), remedy="leave it out")
    return table


def _clock(table: pd.DataFrame, zone: str, file: Path) -> pd.DatetimeIndex:
    """Return the rows' times in UTC, in the file's order."""
    stamps = table.get("timestamp", table.index)
    if not pd.api.types.is_datetime64_any_dtype(stamps.dtype):
        raise InvalidInput(
            f"its times are {stamps.dtype}, not timestamps",
            field="timestamp",
            value=str(file),
            remedy="convert with pd.to_datetime(…, unit=…) and write the file again",
        )
    index = pd.DatetimeIndex(stamps)
    if index.hasnans:
        raise InvalidInput("a time is missing", field="timestamp", value=str(file), remedy="drop those rows")
    try:
        index = index.tz_localize(zone) if index.tz is None else index
    except ValueError as error:
        raise InvalidInput(
            f"a local time does not exist or occurs twice ({error})", field="tz", value=zone, remedy="say tz='UTC'"
        ) from error
    try:
        return index.tz_convert("UTC").as_unit("ns")
    except ValueError as error:
        raise InvalidInput(
            f"a time is out of all bounds ({error})",
            field="timestamp",
            value=str(file),
            remedy="check the unit in which the times were written",
        ) from error


def _suffix(table: pd.DataFrame, file: Path) -> tuple[str, pd.DataFrame]:
    """Return the venue in the columns' suffix, and the table without it."""
    at = [c for c in map(str, table.columns) if c.startswith(("close_perp", "close_spot"))]
    venues = {c.split("_", 2)[2] if c.count("_") > 1 else "" for c in at}
    if len(venues) != 1:
        raise InvalidInput(
            "neither hourly prices of one venue nor funding at its settlements",
            field="columns",
            value=list(table.columns)[:8],
            remedy="it needs timestamp, open_perp … close_spot with one suffix, or the one column funding_rate",
        )
    venue = venues.pop()
    return venue, table.rename(columns=lambda c: str(c).removesuffix(f"_{venue}")).reset_index(drop=True)


def _hourly(
    coin: str,
    venue: str,
    clock: pd.DatetimeIndex,
    table: pd.DataFrame,
    rules: FundingRules,
    outlier_log: float,
    file: Path,
    report: ReadReport,
    notes: list[str],
) -> tuple[dict[str, Bars], pd.Series[Any] | None]:
    """Return the bars of spot and perpetual and the funding of one coin."""
    table = table.set_axis(clock, axis=0)
    if not clock.is_monotonic_increasing:
        late = int((np.diff(clock.asi8) < 0).sum())
        notes.append(f"{file.name}: rows stand out of order in {late} places, sorted")
        table = table.sort_index(kind="stable")
    stamps = pd.DatetimeIndex(table.index).asi8
    table = _refuse(table, ~far_from_all(stamps), "clock jump: over 30 days from all other rows", file, report)
    table = _refuse(table, pd.DatetimeIndex(table.index).asi8 % _HOUR_NS == 0, "not on the hour", file, report)
    table = _refuse(table, ~table.index.duplicated(), "repeated hour", file, report)
    bars = {}
    for short, kind in _KINDS.items():
        own = [f"{c}_{short}" for c in (*_OHLC, "volume")]
        missing = [c for c in own if c not in table]
        if missing:
            raise InvalidInput("columns are missing", field="columns", value=missing, remedy="give all five of a bar")
        frame = table[own].set_axis([*_OHLC, "volume"], axis=1)
        if short == "perp" and "mark_price" in table:
            frame = frame.assign(mark=table["mark_price"])
        frame = _good_bars(frame, kind, rules.drop, outlier_log, file, report)
        if not len(frame):
            notes.append(f"{coin}: no usable {kind} bar")
            continue
        idle = int((frame["volume"] == 0).sum())
        if idle:
            notes.append(f"{coin}.{short}: {idle} hours without a trade, their price is carried")
        bars[f"{coin}.{short}"] = Bars(frame, 3600.0, "start")
        unit = "coins" if short == "spot" else "contracts"
        facts = report.instrument(f"{coin}.{short}", venue, f"{kind} bars", **_FACTS, quantity_unit=unit)
        facts.gap_limit_s = 3600.0
    if "funding_rate_raw" not in table:
        return bars, None
    basis = table["close_perp"] / table["close_spot"] - 1
    rates = hourly_settlements(coin, venue, table, basis, rules, file, report, notes)
    return bars, rates if len(rates) else None


_FACTS = {
    "clock": "hour of the bar in UTC, as timestamps without a zone",
    "stamp": "start",
    "price_unit": "USDT per coin",
}


def _refuse(table: pd.DataFrame, good: Any, reason: str, file: Path, report: ReadReport) -> pd.DataFrame:
    good = np.asarray(good, dtype=bool)
    if not good.all():
        report.bad(file, reason, int((~good).sum()), table.index[int(np.argmin(good))])
    kept: pd.DataFrame = table[good]
    return kept


def _good_bars(
    frame: pd.DataFrame, kind: str, drop: bool, limit: float, file: Path, report: ReadReport
) -> pd.DataFrame:
    values = frame.to_numpy(dtype=np.float64)
    frame = pd.DataFrame(values, index=frame.index, columns=frame.columns)
    frame = _refuse(frame, np.isfinite(values[:, :4]).any(axis=1), f"no {kind} in the row", file, report)
    frame = _refuse(frame, np.isfinite(frame).all(axis=1), f"incomplete {kind} bar", file, report)
    frame = _refuse(frame, (frame.drop(columns="volume") > 0).all(axis=1), "zero or negative price", file, report)
    frame = _refuse(frame, frame["volume"] >= 0, "negative volume", file, report)
    top, bottom = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    frame = _refuse(frame, (frame["high"] >= top) & (frame["low"] <= bottom), "high and low do not hold open and close",
                    file, report)  # fmt: skip
    top, bottom = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    wick = (np.log((bottom / frame["low"]).to_numpy()) <= limit) & (np.log((frame["high"] / top).to_numpy()) <= limit)
    moves = np.diff(np.log(frame["close"].to_numpy()), prepend=np.nan, append=np.nan)
    before, after = moves[:-1], moves[1:]
    # A spike leaves its neighbours and comes back; a move that stays is news.
    spike = (np.abs(before) > limit) & (np.abs(after) > limit) & (np.sign(before) != np.sign(after))
    bars, good = frame, np.ones(len(frame), dtype=bool)
    for odd, what in ((~wick, "low or high far from open and close"), (spike, "close far from both neighbours")):
        new = odd & good
        reason = f"outlier: {kind} {what}" + ("" if drop else " (kept)")
        if new.any():
            report.bad(file, reason, int(new.sum()), bars.index[int(np.argmax(new))])
        good &= ~odd
    return bars[good] if drop else bars


def _tell(bars: dict[str, Bars], funding: dict[str, FundingRates], report: ReadReport) -> None:
    """Fill the report with spans and gaps of what is left."""
    for name, one in bars.items():
        _span(report, name, "bars", pd.DatetimeIndex(one.frame.index), 3600.0)
    for name, rates in funding.items():
        _span(report, name, "funding", pd.DatetimeIndex(rates.rates.index), rates.interval_s)


def _span(report: ReadReport, name: str, kind: str, index: pd.DatetimeIndex, usual_s: float) -> None:
    facts = report.instrument(name)
    facts.saw(kind, len(index), int(index.asi8[0]), int(index.asi8[-1]))
    steps = np.diff(index.asi8) / 1e9
    long = steps[steps > 1.5 * usual_s]
    facts.gap_limit_s = usual_s
    facts.gaps += len(long)
    facts.longest_gap_s = max(facts.longest_gap_s, float(long.max(initial=0.0)))
