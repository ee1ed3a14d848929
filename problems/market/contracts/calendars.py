"""Trading days of exchanges: sessions, half days and holidays, on the clock of the exchange."""

from __future__ import annotations

import datetime as dt
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import as_date, check_positive, check_zone
from crosswind.problems.market.contracts.clocks import day_span_ns, even_edges, seconds_of, utc_ns
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["CALENDARS", "CalendarHours", "holiday_name", "is_session", "sessions", "shift_session"]

#: Calendars that the tests hold over 2007–2030; any other of exchange_calendars is taken too.
CALENDARS = ("XNYS", "CMES", "us_futures", "XEUR", "XLON", "XFRA", "24/7")

# exchange_calendars opens a window of twenty years back and one ahead by default: too short for studies of 2007.
_FIRST, _LAST = dt.date(1990, 1, 1), dt.date(2040, 12, 31)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@lru_cache(maxsize=32)
def _calendar(name: str) -> Any:
    """Return the calendar of exchange_calendars over the widest span that it allows within 1990–2040."""
    import exchange_calendars as xc
    from exchange_calendars.errors import InvalidCalendarName

    with warnings.catch_warnings():
        # It builds its tables by what pandas 3.1 calls deprecated; our users cannot do anything about that.
        warnings.filterwarnings("ignore", message="Series.values returning an ndarray")
        try:
            return xc.get_calendar(name, start=pd.Timestamp(_FIRST), end=pd.Timestamp(_LAST))
        except (InvalidCalendarName, AttributeError, TypeError) as error:
            raise InvalidInput(
                "no such calendar",
                field="calendar",
                value=name,
                remedy=f"choose among {', '.join(CALENDARS)}, or another of exchange_calendars.get_calendar_names()",
            ) from error
        except ValueError:
            default = xc.get_calendar(name)
            low, high = default.bound_min(), default.bound_max()
            start = pd.Timestamp(_FIRST) if low is None else max(low, pd.Timestamp(_FIRST))
            end = pd.Timestamp(_LAST) if high is None else min(high, pd.Timestamp(_LAST))
            return xc.get_calendar(name, start=start, end=end)


@lru_cache(maxsize=32)
def _table(name: str) -> pd.DataFrame:
    """Return all sessions of a calendar, indexed by naive midnights."""
    calendar = _calendar(name)
    schedule = calendar.schedule
    early = schedule.index.isin(calendar.early_closes)
    late = schedule.index.isin(calendar.late_opens)
    columns = {c: schedule[c].dt.as_unit("ns") for c in ("open", "close", "break_start", "break_end")}
    return pd.DataFrame({**columns, "early_close": early, "late_open": late}, index=schedule.index)


def _check_span(calendar: str, first: dt.date, last: dt.date) -> None:
    known = _calendar(calendar)
    low, high = known.first_session.date(), known.last_session.date()
    # A calendar that is asked for from 1990 on knows that 1 January 1990 had no session.
    if first < min(low, _FIRST if known.bound_min() is None else low) or last > max(
        high, _LAST if known.bound_max() is None else high
    ):
        raise DataGap(
            f"calendar {calendar} knows the days {low} .. {high} only",
            field="days",
            value=f"{first} .. {last}",
            remedy="ask for days within it",
        )


def sessions(calendar: str, start: Any, end: Any) -> pd.DataFrame:
    """Return the sessions of a calendar on the days ``start`` .. ``end``, both included.

    Parameters
    ----------
    calendar
        Name in exchange_calendars: 'XNYS', 'CMES', 'XEUR', 'XLON', 'XFRA', 'us_futures', '24/7', …
    start, end
        Dates.

    Returns
    -------
    DataFrame
        Index ``day`` (dates; a session that begins on the evening before is named by the day it ends); ``open`` and
        ``close`` (UTC), ``break_start`` and ``break_end`` (UTC or NaT), ``early_close`` and ``late_open`` (bool).

    Raises
    ------
    InvalidInput
        On an unknown calendar, malformed dates or an end before the start.
    DataGap
        On days outside what the calendar knows.

    Notes
    -----
    Half days are those that exchange_calendars knows: all of XNYS and XLON, those of CMES at noon Chicago time (see
    :func:`~crosswind.problems.market.contracts.futures_days.contract_sessions` for the index futures' own), none of
    XEUR and us_futures.
    """
    first, last = as_date(start, "start"), as_date(end, "end")
    if last < first:
        raise InvalidInput("lies before the start", field="end", value=end, remedy="exchange start and end")
    _check_span(calendar, first, last)
    table = _table(calendar).loc[pd.Timestamp(first) : pd.Timestamp(last)]
    days = pd.Index([stamp.date() for stamp in pd.DatetimeIndex(table.index)], name="day", dtype="object")
    return table.set_axis(days, axis=0)


def is_session(calendar: str, day: Any) -> bool:
    """Return whether the calendar trades on ``day``.

    Raises
    ------
    DataGap
        On a day outside what the calendar knows.
    """
    date = as_date(day, "day")
    _check_span(calendar, date, date)
    return pd.Timestamp(date) in _table(calendar).index


def shift_session(calendar: str, day: Any, by: int) -> dt.date:
    """Return the session ``by`` sessions away: −1 is the last one before ``day``, 0 ``day`` or the last one before it.

    Raises
    ------
    DataGap
        If it lies outside what the calendar knows.
    """
    date = as_date(day, "day")
    _check_span(calendar, date, date)
    index = pd.DatetimeIndex(_table(calendar).index)
    # The number of sessions up to and including the day, or before it.
    count = int(((index <= pd.Timestamp(date)) if by >= 0 else (index < pd.Timestamp(date))).sum())
    at = count + by - (1 if by >= 0 else 0)
    if not 0 <= at < len(index):
        raise DataGap("lies outside the calendar", field="by", value=by, remedy="take fewer sessions")
    out: dt.date = index[at].date()
    return out


def holiday_name(calendar: str, day: Any) -> str:
    """Return why the calendar does not trade on ``day``: the holiday's name, the weekday of a weekend, or ''."""
    date = as_date(day, "day")
    if is_session(calendar, date):
        return ""
    known, stamp = _calendar(calendar), pd.Timestamp(date)
    if known.regular_holidays is not None:
        # One day either side: an observed holiday is filed under the rule that moves it.
        named = known.regular_holidays.holidays(stamp, stamp + pd.Timedelta(days=1), return_name=True)
        if stamp in named.index:
            return str(named.loc[stamp])
    return _WEEKDAYS[date.weekday()] if date.weekday() >= 5 else "a closure of the exchange"


@dataclass(frozen=True)
class CalendarHours:
    """Sessions of a calendar and the grid of buckets in them.

    Stands in for :class:`~crosswind.problems.market.buckets.SessionHours`: half days close early, holidays are refused
    by name. A midday break stays in the grid: where a market has one, give the hours of one half.

    Parameters
    ----------
    calendar
        Name in exchange_calendars.
    bucket_s
        Bucket length [s]; divides every session that is asked for.
    hours
        (open, close) as local wall times, within the session; default the whole session. A half day ends at its own
        close where that is earlier.
    tz
        Zone whose local days are the sessions, for '24/7' only; default UTC.

    Raises
    ------
    InvalidInput
        On an unknown calendar, reversed or unreadable hours, a length that does not divide a session.
    """

    calendar: str
    bucket_s: float
    hours: tuple[str, str] | None = None
    tz: str = ""

    def __post_init__(self) -> None:
        known = _calendar(self.calendar)
        object.__setattr__(self, "bucket_s", check_positive(self.bucket_s, "bucket_s"))
        if self.tz and self.calendar != "24/7" and self.tz != str(known.tz):
            raise InvalidInput(
                f"calendar {self.calendar} keeps {known.tz}",
                field="tz",
                value=self.tz,
                remedy="leave tz out; only '24/7' may be cut into days of another zone",
            )
        object.__setattr__(self, "tz", self.tz or str(known.tz))
        check_zone(self.tz)
        if self.hours is not None:
            opens, closes = self.hours
            if seconds_of(closes, "hours") <= seconds_of(opens, "hours"):
                raise InvalidInput(
                    "the session closes before it opens",
                    field="hours",
                    value=self.hours,
                    remedy="give (open, close) as local times, e.g. ('09:30', '16:00')",
                )
            object.__setattr__(self, "hours", (opens, closes))

    def days(self, start: Any, end: Any) -> tuple[dt.date, ...]:
        """Return the days with a session from ``start`` to ``end``, both included."""
        return tuple(sessions(self.calendar, start, end).index)

    def span_ns(self, day: Any) -> tuple[int, int]:
        """Return opening and close of ``day`` [ns since 1970 UTC].

        Raises
        ------
        DataGap
            If the exchange is closed on ``day``, or all of it lies outside ``hours``.
        """
        date = as_date(day, "day")
        if not is_session(self.calendar, date):
            raise DataGap(
                f"{self.calendar} is closed: {holiday_name(self.calendar, date)}",
                field="day",
                value=date,
                remedy="leave the day out; .days(start, end) lists the sessions",
            )
        if self.calendar == "24/7":
            opens, closes = day_span_ns(date, self.tz)
        else:
            row = _table(self.calendar).loc[pd.Timestamp(date)]
            opens, closes = int(row["open"].value), int(row["close"].value)
        if self.hours is not None:
            opens = max(opens, utc_ns(date, self.hours[0], self.tz, on_gap="later", on_overlap="first"))
            closes = min(closes, utc_ns(date, self.hours[1], self.tz, on_gap="later", on_overlap="second"))
        if closes <= opens:
            raise DataGap(
                "the session ends before these hours begin",
                field="hours",
                value=f"{date}: {self.hours}",
                remedy="leave the day out or widen the hours",
            )
        return opens, closes

    def open_ns(self, day: Any) -> int:
        """Return the opening of ``day`` [ns since 1970 UTC]."""
        return self.span_ns(day)[0]

    def close_ns(self, day: Any) -> int:
        """Return the close of ``day`` [ns since 1970 UTC]."""
        return self.span_ns(day)[1]

    def edges_ns(self, day: Any) -> npt.NDArray[np.int64]:
        """Return the bucket edges of ``day`` (K + 1,) [ns since 1970 UTC]."""
        opens, closes = self.span_ns(day)
        return even_edges(opens, closes, self.bucket_s, str(day))
