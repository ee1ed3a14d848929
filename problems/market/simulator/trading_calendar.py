"""Sessions of the simulator by an exchange's calendar: its own days, opens, early closes and late opens."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pandas as pd

from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.solvers.errors import InvalidInput

__all__ = ["calendar_hours"]


def calendar_hours(
    calendar: str, start: Any, days: int, holidays: Iterable[Any], tz: str, parameters: SimulatorParameters
) -> list[tuple[dt.date, float, float]]:
    """Return ``days`` sessions from the first on or after ``start``: local date, open and length [s].

    A session keeps the parameters' hours, cut to the calendar's: a half day closes early.

    Parameters
    ----------
    calendar
        Name of the calendar, e.g. ``"XNYS"``, ``"24/7"``.
    start, days
        First calendar day and number of sessions.
    holidays
        Days closed besides.
    tz
        Exchange zone, whose clock the parameters' hours are on.
    parameters
        Session hours.

    Raises
    ------
    InvalidInput
        For a bad start or count, a calendar that is unknown or whose sessions end before these hours begin, and for
        ``"24/7"`` with whole days in a zone whose clocks change on one of them.
    DataGap
        Beyond the calendar's reach.
    """
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        raise InvalidInput("is not a number of days", field="days", value=days, remedy="pass an integer of 1 or more")
    closed = {_date("holidays", day) for day in holidays}
    first = _date("start", start)
    if calendar == "24/7":
        every = (first + dt.timedelta(days=k) for k in range(days + len(closed)))
        dates = [day for day in every if day not in closed][:days]
        _refuse_clock_changes(dates, tz, parameters.session_s)
        return [(day, parameters.open_s, parameters.session_s) for day in dates]
    from crosswind.problems.market.contracts.calendars import sessions

    table = sessions(calendar, first, first + dt.timedelta(days=2 * days + 14 + len(closed)))
    out: list[tuple[dt.date, float, float]] = []
    for label, row in table.iterrows():
        assert isinstance(label, dt.date)
        day = label
        if day in closed:
            continue
        midnight = pd.Timestamp(day)
        opens, closes = (
            (row[side].tz_convert(tz).tz_localize(None) - midnight).total_seconds() for side in ("open", "close")
        )
        begin, end = max(parameters.open_s, opens), min(parameters.open_s + parameters.session_s, closes)
        if end <= begin:
            raise InvalidInput(
                f"is closed during the simulated hours on {day}",
                field="calendar",
                value=calendar,
                remedy="choose open_local and close_local within its sessions, and its zone as tz",
            )
        out.append((day, begin, end - begin))
        if len(out) == days:
            return out
    raise InvalidInput("has too few sessions ahead", field="calendar", value=calendar, remedy="ask for fewer days")


def _refuse_clock_changes(dates: list[dt.date], tz: str, session_s: float) -> None:
    """Refuse days of 23 or 25 hours: sessions of 24 would overlap or leave an hour out."""
    if session_s < 86_400.0:
        return
    for day in dates:
        begin, end = (pd.Timestamp(date).tz_localize(tz) for date in (day, day + dt.timedelta(days=1)))
        if end - begin != pd.Timedelta(days=1):
            raise InvalidInput(
                f"changes its clocks on {day}, which has not 24 hours",
                field="tz",
                value=tz,
                remedy='pass tz="UTC" for a market that never closes',
            )


def _date(field: str, value: Any) -> dt.date:
    stamp = pd.to_datetime(value, errors="coerce")
    if pd.isna(stamp):
        raise InvalidInput("is not a date", field=field, value=value, remedy="write it as YYYY-MM-DD")
    return pd.Timestamp(stamp).date()
