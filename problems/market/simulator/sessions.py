"""Trading sessions of the simulator: business days, bucket ends in UTC across clock changes, intraday profiles."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "Session",
    "bucket_count",
    "business_days",
    "quarterly_expiries",
    "session_ends",
    "trading_sessions",
    "u_shape",
]

_MOST_BUCKETS = 10_000_000  # a session in units of milliseconds and less is a slip, and would not fit in memory


def business_days(start: str | dt.date, days: int, holidays: Iterable[str | dt.date] = ()) -> tuple[dt.date, ...]:
    """Return ``days`` business days from the first one on or after ``start``.

    Parameters
    ----------
    start
        First calendar day, ISO text or date.
    days
        How many, at least 1.
    holidays
        Weekdays on which the exchange is closed.

    Returns
    -------
    tuple of datetime.date

    Raises
    ------
    InvalidInput
        For a date that cannot be read or a count below 1.
    """
    if isinstance(days, bool) or not isinstance(days, (int, np.integer)) or days < 1:
        raise InvalidInput("is not a number of days", field="days", value=days, remedy="pass an integer of 1 or more")
    first = _date("start", start)
    closed = np.array([_date("holidays", day) for day in holidays], dtype="datetime64[D]")
    dates = np.busday_offset(np.datetime64(first, "D"), np.arange(days), roll="forward", holidays=closed)
    return tuple(day.item() for day in dates)


@dataclass(frozen=True)
class Session:
    """One session: its local date, its open in seconds from local midnight, and its number of buckets."""

    day: dt.date
    open_s: float
    count: int


def trading_sessions(
    call: Mapping[str, Any], days: int, parameters: SimulatorParameters, bucket_s: float
) -> list[Session]:
    """Return the sessions of a simulation.

    Without a calendar they are ``days`` business days less the ``holidays``, each of the parameters' hours. A calendar
    brings its own days, opens and early closes; ``holidays`` are closed besides.

    Parameters
    ----------
    call
        ``start``, ``holidays``, ``calendar`` and ``tz``.
    days
        How many, at least 1.
    parameters
        Session hours.
    bucket_s
        Bucket length [s].

    Returns
    -------
    list of Session

    Raises
    ------
    InvalidInput
        For a bad date or count, an unknown calendar, days beyond its reach, or hours that the buckets do not divide.
    """
    count = bucket_count(parameters.session_s, bucket_s)
    if call["calendar"] is None:
        dates = business_days(call["start"], days, call["holidays"])
        return [Session(day, parameters.open_s, count) for day in dates]
    from crosswind.problems.market.simulator.trading_calendar import calendar_hours

    found = calendar_hours(call["calendar"], call["start"], days, call["holidays"], call["tz"], parameters)
    return [Session(day, open_s, bucket_count(length_s, bucket_s)) for day, open_s, length_s in found]


def bucket_count(session_s: float, bucket_s: float) -> int:
    """Return how many buckets fill a session exactly.

    Raises
    ------
    InvalidInput
        When the bucket is not positive, is finer than a nanosecond, or does not divide the session.
    """
    if isinstance(bucket_s, bool) or not isinstance(bucket_s, (int, float)) or not np.isfinite(bucket_s):
        raise InvalidInput("is not a finite number", field="bucket_s", value=bucket_s, remedy="pass seconds, e.g. 10")
    ratio = session_s / bucket_s if bucket_s > 0.0 else 0.0
    count = round(ratio)
    if count > _MOST_BUCKETS:
        raise InvalidInput(
            f"cuts the session into {count} buckets, more than {_MOST_BUCKETS}",
            field="bucket_s",
            value=bucket_s,
            remedy="pass seconds, e.g. 10",
        )
    if count < 2 or abs(ratio - count) > 1e-9 * ratio or abs(bucket_s * 1e9 - round(bucket_s * 1e9)) > 1e-3:
        raise InvalidInput(
            f"does not cut the session of {session_s:g} s into two or more equal buckets",
            field="bucket_s",
            value=bucket_s,
            remedy="pass a divisor of the session, e.g. 1, 5, 10, 30, 60 or 300",
        )
    return count


def session_ends(day: dt.date, open_s: float, bucket_s: float, count: int, tz: str) -> pd.DatetimeIndex:
    """Return the ends of the buckets of one session in UTC.

    The open is placed on the exchange's clock and then converted, so the same local session falls on different UTC
    hours before and after a clock change.

    Parameters
    ----------
    day
        Local date.
    open_s
        Seconds from local midnight to the open, on the clock.
    bucket_s, count
        Bucket length [s] and number of buckets.
    tz
        Exchange zone, e.g. ``"America/New_York"``.

    Returns
    -------
    DatetimeIndex (count,)
        tz-aware UTC, nanosecond unit.

    Raises
    ------
    InvalidInput
        For an unknown zone.
    """
    try:
        zone = ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError):
        raise InvalidInput(
            "is not a time zone", field="tz", value=tz, remedy='pass an IANA name such as "America/New_York"'
        ) from None
    clock = dt.time(int(open_s // 3600), int(open_s % 3600 // 60))
    opening = pd.Timestamp(dt.datetime.combine(day, clock, tzinfo=zone)).tz_convert("UTC").as_unit("ns")
    offsets = np.arange(1, count + 1, dtype=np.int64) * round(bucket_s * 1e9)
    return pd.DatetimeIndex(offsets + opening.value, dtype="datetime64[ns, UTC]")


def u_shape(count: int, u: float) -> NDArray[np.float64]:
    """Return the profile ``1 + u (12 (x - 1/2)² - 1)`` at the bucket middles, scaled to the mean 1, shape (count,)."""
    x = (np.arange(count) + 0.5) / count
    profile = 1.0 + u * (12.0 * (x - 0.5) ** 2 - 1.0)
    return np.asarray(profile / profile.mean(), dtype=np.float64)


def quarterly_expiries(day: dt.date, count: int = 2) -> tuple[dt.date, ...]:
    """Return the next ``count`` quarterly expiries (third Friday of March, June, September, December) after ``day``."""
    found: list[dt.date] = []
    year, month = day.year, 3
    while len(found) < count:
        first = dt.date(year, month, 1)
        third_friday = first + dt.timedelta(days=(4 - first.weekday()) % 7 + 14)
        if third_friday > day:
            found.append(third_friday)
        year, month = (year, month + 3) if month < 12 else (year + 1, 3)
    return tuple(found)


def _date(field: str, value: object) -> dt.date:
    try:
        stamp = pd.Timestamp(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        stamp = None
    if stamp is None or pd.isna(stamp):
        raise InvalidInput("is not a date", field=field, value=value, remedy="write it as YYYY-MM-DD")
    return stamp.date()
