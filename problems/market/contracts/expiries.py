"""When contracts expire, which one leads, and when positions are rolled."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crosswind.problems.market.checks import as_date, as_utc
from crosswind.problems.market.contracts.calendars import sessions, shift_session
from crosswind.problems.market.contracts.clocks import seconds_of, utc_ns
from crosswind.problems.market.contracts.cycle import MONTH_LETTERS, check_month, last_friday, third_friday
from crosswind.problems.market.contracts.model import ContractSpec
from crosswind.problems.market.contracts.table import contract, contract_versions
from crosswind.solvers.errors import InvalidInput

__all__ = ["Expiry", "RollWindow", "expiries", "expiry_of", "expiry_table", "front", "roll_window"]

_ONE = dt.timedelta(days=1)
_QUARTER_DAYS = 93


@dataclass(frozen=True)
class Expiry:
    """The end of one contract.

    Parameters
    ----------
    root, month, code
        Root in the table, 'YYYYMM', contract code with a one-digit year.
    day
        Last trading day.
    at
        Instant at which trading ends (UTC).
    """

    root: str
    month: str
    code: str
    day: dt.date
    at: pd.Timestamp


@dataclass(frozen=True)
class RollWindow:
    """The days on which positions move from one contract to the next.

    Parameters
    ----------
    near, far
        Contract that ends, and the one that follows.
    rolls
        Roll date: the first trading day on which ``far`` is taken to lead.
    days
        Sessions from the roll date to the last trading day of ``near``, both included.
    """

    near: Expiry
    far: Expiry
    rolls: dt.date
    days: tuple[dt.date, ...]


def _raw_day(spec: ContractSpec, year: int, month: int) -> dt.date:
    """Return the day that the rule names, before holidays move it."""
    return third_friday(year, month) if spec.expiry_rule == "third friday" else last_friday(year, month)


def expiry_of(root: str, month: str) -> Expiry:
    """Return the expiry of one contract.

    The rule's Friday, or the last session before it where the underlying market is closed: on Good Friday 2008 the
    March contract of ES had ended on Thursday.

    Parameters
    ----------
    root
        Root in the table, e.g. 'ES' or 'BTCUSDT_QUARTER'.
    month
        'YYYYMM'.

    Raises
    ------
    InvalidInput
        On an unknown root, a month outside its cycle, or a perpetual.
    DataGap
        If the contract expires before the table's first version or beyond its calendar.
    """
    latest = contract_versions(root)[-1]
    year, number = check_month(latest, month)
    friday = _raw_day(latest, year, number)
    day = shift_session(latest.cash_calendar or latest.calendar, friday, 0)
    spec = contract(root, day)
    assert spec.expiry_time is not None
    at = pd.Timestamp(utc_ns(day, spec.expiry_time, spec.tz), unit="ns", tz="UTC").as_unit("ns")
    if spec.kind == "delivery future":
        code = f"{spec.symbol}_{day:%y%m%d}"
    else:
        code = f"{spec.symbol}{MONTH_LETTERS[number - 1]}{year % 10}"
    return Expiry(spec.root, month, code, day, at)


def _months(spec: ContractSpec, first: dt.date, last: dt.date) -> list[str]:
    return [f"{year}{m:02d}" for year in range(first.year, last.year + 1) for m in spec.months]


def expiries(root: str, start: Any, end: Any) -> tuple[Expiry, ...]:
    """Return the expiries with a last trading day from ``start`` to ``end``, both included, in order.

    Parameters
    ----------
    root
        Root in the table.
    start, end
        Dates.

    Raises
    ------
    InvalidInput
        On an unknown root, a perpetual, or an end before the start.
    DataGap
        If the start lies before the table's first version.
    """
    first, last = as_date(start, "start"), as_date(end, "end")
    if last < first:
        raise InvalidInput("lies before the start", field="end", value=end, remedy="exchange start and end")
    spec = contract(root, first)
    if not spec.months:
        raise InvalidInput("a perpetual has no expiry", field="root", value=root, remedy="choose a dated contract")
    every = (expiry_of(root, month) for month in _months(spec, first, last) if _may_end(spec, month, first, last))
    return tuple(expiry for expiry in every if first <= expiry.day <= last)


def _may_end(spec: ContractSpec, month: str, first: dt.date, last: dt.date) -> bool:
    """Return whether the rule's Friday lies near enough to the span that the expiry may lie in it."""
    friday = _raw_day(spec, int(month[:4]), int(month[4:]))
    return month >= spec.first_month and first <= friday and friday - 7 * _ONE <= last


def expiry_table(root: str, start: Any, end: Any) -> pd.DataFrame:
    """Return the expiries of a span as a table: index ``month``; ``code``, ``day``, ``at`` (UTC), ``rolls``.

    Parameters
    ----------
    root, start, end
        As in :func:`expiries`.
    """
    every = expiries(root, start, end)
    rolls = [roll_window(root, e.month).rolls for e in every]
    return pd.DataFrame(
        {"code": [e.code for e in every], "day": [e.day for e in every], "at": [e.at for e in every], "rolls": rolls},
        index=pd.Index([e.month for e in every], name="month"),
    )


def _next_after(root: str, day: dt.date) -> Expiry:
    """Return the first expiry on or after ``day``."""
    return expiries(root, day, day + _QUARTER_DAYS * 2 * _ONE)[0]


def roll_window(root: str, month: str) -> RollWindow:
    """Return when positions in one contract are rolled to the next, by the convention in force at its expiry.

    'thursday before expiry week': eight calendar days before the third Friday; 'monday of expiry week': four before it;
    'last sessions': two sessions before the expiry; 'delivery week': the Monday of the week of the delivery. A roll
    date without a session moves to the next one.

    Parameters
    ----------
    root
        Root in the table.
    month
        'YYYYMM' of the contract that ends.

    Raises
    ------
    InvalidInput, DataGap
        As :func:`expiry_of`.
    """
    near = expiry_of(root, month)
    spec = contract(root, near.day)
    friday = _raw_day(spec, int(month[:4]), int(month[4:]))
    if spec.roll == "thursday before expiry week":
        rolls = friday - 8 * _ONE
    elif spec.roll == "last sessions":
        rolls = shift_session(spec.calendar, near.day, -2)
    else:
        rolls = friday - 4 * _ONE
    days = tuple(sessions(spec.calendar, rolls, near.day).index)
    far = _next_after(root, near.day + _ONE)
    return RollWindow(near, far, days[0], days)


def front(root: str, when: Any, *, by: str = "roll") -> Expiry:
    """Return the contract that leads on a trading day: the nearest one until its roll date, then the next.

    Only the calendar decides, so the answer is known beforehand; volume may move earlier or later.

    Parameters
    ----------
    root
        Root in the table.
    when
        Trading day, or a tz-aware time: then the trading day on the exchange's clock, which may begin in the evening.
    by
        'roll' (by the convention) or 'expiry' (the nearest that still trades; a contract ends at its instant).

    Raises
    ------
    InvalidInput
        On an unknown root, a perpetual, a naive time, or unknown ``by``.
    DataGap
        Before the table's first version.
    """
    if by not in ("roll", "expiry"):
        raise InvalidInput("unknown rule", field="by", value=by, remedy="choose 'roll' or 'expiry'")
    at: pd.Timestamp | None = None
    if isinstance(when, dt.datetime) or (isinstance(when, str) and len(when) > 10):
        at = as_utc(when, "when")
        local = at.tz_convert(contract_versions(root)[-1].tz)
        day = local.date()
        hours = contract(root, day).hours
        if hours.overnight and local.hour * 3600 + local.minute * 60 >= seconds_of(hours.opens):
            day += _ONE  # the evening belongs to the next trading day
    else:
        day = as_date(when, "when")
    nearest = _next_after(root, day)
    if by == "roll":
        window = roll_window(root, nearest.month)
        return window.far if day >= window.rolls else nearest
    if at is not None and at >= nearest.at:
        return _next_after(root, nearest.day + _ONE)
    return nearest
