"""Trading days of a contract by the version of its terms: evening openings, halts, half days and holidays."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from crosswind.problems.market.checks import as_date, as_utc
from crosswind.problems.market.contracts.calendars import is_session, sessions
from crosswind.problems.market.contracts.hours import DayKind
from crosswind.problems.market.contracts.model import ContractSpec
from crosswind.problems.market.contracts.table import contract, contract_versions

__all__ = ["contract_sessions", "trading_day"]

_ONE = dt.timedelta(days=1)


def _kind(spec: ContractSpec, day: dt.date, half_days: frozenset[dt.date], cash_days: frozenset[dt.date]) -> DayKind:
    if spec.cash_calendar in (None, spec.calendar):
        return "full"
    if day not in cash_days:
        return "holiday"
    return "half" if day in half_days else "full"


def contract_sessions(root: str, start: Any, end: Any) -> pd.DataFrame:
    """Return the trading days of a contract, by the terms in force on each.

    Parameters
    ----------
    root
        Root in the table, e.g. 'ES'.
    start, end
        Dates, both included.

    Returns
    -------
    DataFrame
        Index ``day`` (dates); ``open``, ``close`` (UTC), ``kind`` ('full', 'half', 'holiday'), ``early_close`` (bool),
        ``halt_start``, ``halt_end`` (UTC or NaT), ``version`` of the terms.

    Raises
    ------
    InvalidInput, DataGap
        On an unknown root, days before its first version or outside its calendar.

    Notes
    -----
    On a holiday of the cash market the future trades until the terms' holiday close, on a half day until a quarter of
    an hour after the cash market's. Days on which the exchange changed its hours at short notice (29 and 30 October
    2012) are not known.
    """
    first, last = as_date(start, "start"), as_date(end, "end")
    contract(root, first)  # refuses days before the first version
    calendar = contract_versions(root)[-1].calendar
    table = sessions(calendar, first, last)
    cash = contract_versions(root)[-1].cash_calendar
    market = sessions(cash, first, last) if cash else table
    half_days = frozenset(market.index[market["early_close"].to_numpy(dtype=bool)])
    cash_days = frozenset(market.index)
    rows: list[dict[str, Any]] = []
    closes = pd.DatetimeIndex(table["close"]).asi8
    for day, regular, early in zip(table.index, closes, table["early_close"], strict=True):
        spec = contract(root, day)
        kind = _kind(spec, day, half_days, cash_days)
        after_closure = not is_session(calendar, day - _ONE)
        halts = spec.hours.halts_ns(day, after_closure, kind)
        special = {"full": None, "half": spec.hours.half_day_close, "holiday": spec.hours.holiday_close}[kind]
        close = spec.hours.close_ns(day, kind)
        if special is None and early:
            close = int(regular)
        rows.append(
            {
                "open": spec.hours.open_ns(day, after_closure),
                "close": close,
                "kind": kind,
                "early_close": close < spec.hours.close_ns(day),
                "halt_start": halts[0][0] if halts else pd.NaT,
                "halt_end": halts[0][1] if halts else pd.NaT,
                "version": spec.version,
            }
        )
    out = pd.DataFrame(
        rows,
        index=table.index,
        columns=["open", "close", "kind", "early_close", "halt_start", "halt_end", "version"],
    )
    for column in ("open", "close", "halt_start", "halt_end"):
        out[column] = pd.to_datetime(out[column], utc=True).dt.as_unit("ns")
    return out


def trading_day(root: str, when: Any) -> dt.date | None:
    """Return the trading day of a contract that an instant belongs to; None in a break, at night or on a weekend.

    Parameters
    ----------
    root
        Root in the table.
    when
        Tz-aware time. A day owns the times from its opening up to, not including, its close, pauses left out.
    """
    at = as_utc(when, "when")
    local = at.tz_convert(contract(root).tz).date()
    table = contract_sessions(root, local, local + _ONE)
    for day in table.index:
        row = table.loc[day]
        if row["open"] <= at < row["close"]:
            halted = pd.notna(row["halt_start"]) and row["halt_start"] <= at < row["halt_end"]
            return None if halted else as_date(day)
    return None
