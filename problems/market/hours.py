"""Which buckets a day has: regular hours, calendars with half days, markets that never close."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import check_positive, check_zone
from crosswind.solvers.errors import InvalidInput

__all__ = ["AroundTheClock", "DayGrid", "Hours", "SessionHours", "as_grid", "midnight_ns"]

_Int = npt.NDArray[np.int64]
_SHORTEST_S = 1e-3  # a day has 86 million buckets of it
_AROUND_THE_CLOCK = "leave the day out, or say hours=None for a market that never closes"


def _check_length(bucket_s: float) -> float:
    length = check_positive(bucket_s, "bucket_s")
    if length < _SHORTEST_S:
        raise InvalidInput(
            "is shorter than a millisecond", field="bucket_s", value=bucket_s, remedy="stream(…) gives single ticks"
        )
    return length


@runtime_checkable
class DayGrid(Protocol):
    """The edges of each day's buckets: a session calendar has this form."""

    def edges_ns(self, day: dt.date) -> _Int:
        """Return the bucket edges of ``day`` (K + 1,) [ns since 1970 UTC], ascending; none where it is closed."""
        ...


#: Local opening and close, a calendar, a function from the day to its edges, or None for markets that never close.
Hours = tuple[str, str] | DayGrid | Callable[[dt.date], _Int] | None


def midnight_ns(day: dt.date, tz: str) -> int:
    """Return the local midnight at which ``day`` begins [ns since 1970 UTC]."""
    return int(pd.Timestamp(day).tz_localize(tz, ambiguous=True, nonexistent="shift_forward").as_unit("ns").value)


@dataclass(frozen=True)
class SessionHours:
    """Regular hours of one exchange and the grid of buckets in them.

    Parameters
    ----------
    opens, closes
        Local wall times 'HH:MM'.
    tz
        The exchange's zone.
    bucket_s
        Bucket length [s]; divides the session.

    Raises
    ------
    InvalidInput
        On an unknown zone, unreadable or reversed times, a length that does not divide the session.
    """

    opens: str
    closes: str
    tz: str
    bucket_s: float

    def __post_init__(self) -> None:
        check_zone(self.tz)
        object.__setattr__(self, "bucket_s", _check_length(self.bucket_s))
        length = self._seconds(self.closes) - self._seconds(self.opens)
        if length <= 0:
            raise InvalidInput(
                "the session closes before it opens",
                field="hours",
                value=(self.opens, self.closes),
                remedy="give (open, close) as local times, e.g. ('09:30', '16:00')",
            )
        count = length / self.bucket_s
        if round(count) < 1 or abs(count - round(count)) > 1e-9:
            raise InvalidInput(
                f"does not divide the session of {length} s",
                field="bucket_s",
                value=self.bucket_s,
                remedy="choose a divisor such as 1, 5, 10, 60 or 300",
            )

    @staticmethod
    def _seconds(clock: str) -> int:
        try:
            hour, minute = (int(part) for part in clock.split(":"))
            at = dt.time(hour, minute) if clock != "24:00" else None
        except (ValueError, AttributeError) as error:
            raise InvalidInput("not a time of day", field="hours", value=clock, remedy="write it as '09:30'") from error
        return 86_400 if at is None else at.hour * 3600 + at.minute * 60

    def open_ns(self, day: dt.date) -> int:
        """Return the opening of ``day`` in UTC nanoseconds since 1970.

        Raises
        ------
        InvalidInput
            If that local time does not exist or occurs twice, as the clocks change then.
        """
        return self._at_ns(day, self.opens)

    def _at_ns(self, day: dt.date, clock: str) -> int:
        local = pd.Timestamp(day) + pd.Timedelta(seconds=self._seconds(clock))
        try:
            return int(local.tz_localize(self.tz).as_unit("ns").value)
        except ValueError as error:
            raise InvalidInput(
                f"the clocks change then ({error})", field="hours", value=f"{clock} on {day}", remedy=_AROUND_THE_CLOCK
            ) from error

    def edges_ns(self, day: dt.date) -> _Int:
        """Return the bucket edges of ``day`` (K + 1,) in UTC nanoseconds since 1970.

        Raises
        ------
        InvalidInput
            If the clocks change within the session: it is an hour longer or shorter then.
        """
        length = self._seconds(self.closes) - self._seconds(self.opens)
        opens = self.open_ns(day)
        if self._at_ns(day, self.closes) - opens != length * 10**9:
            raise InvalidInput(
                "the clocks change within the session", field="hours", value=str(day), remedy=_AROUND_THE_CLOCK
            )
        steps = np.round(np.arange(round(length / self.bucket_s) + 1) * self.bucket_s * 1e9).astype(np.int64)
        return opens + steps


@dataclass(frozen=True)
class AroundTheClock:
    """Buckets of a market that never closes: every local day from midnight to midnight.

    A day on which clocks change has 23 or 25 hours.

    Parameters
    ----------
    tz
        The zone whose dates are the sessions.
    bucket_s
        Bucket length [s]; divides an hour, or is a number of hours that divides the day.

    Raises
    ------
    InvalidInput
        On an unknown zone or a length that does not divide the day.
    """

    tz: str
    bucket_s: float

    def __post_init__(self) -> None:
        check_zone(self.tz)
        object.__setattr__(self, "bucket_s", _check_length(self.bucket_s))
        count = 86_400 / self.bucket_s
        if round(count) < 1 or abs(count - round(count)) > 1e-9:
            raise InvalidInput(
                "does not divide the day",
                field="bucket_s",
                value=self.bucket_s,
                remedy="choose a divisor such as 1, 10, 60 or 3600",
            )

    def edges_ns(self, day: dt.date) -> _Int:
        """Return the bucket edges of ``day`` (K + 1,) [ns since 1970 UTC]."""
        first, last = midnight_ns(day, self.tz), midnight_ns(day + dt.timedelta(days=1), self.tz)
        step = round(self.bucket_s * 1e9)
        count = max(1, (last - first) // step)
        return first + np.round(np.arange(count + 1) * self.bucket_s * 1e9).astype(np.int64)


@dataclass(frozen=True)
class _Given:
    edges: Callable[[dt.date], _Int]

    def edges_ns(self, day: dt.date) -> _Int:
        return np.asarray(self.edges(day), dtype=np.int64)


def as_grid(hours: Hours, tz: str, bucket_s: float) -> DayGrid:
    """Return the grid that ``hours`` means.

    Parameters
    ----------
    hours
        Local ("HH:MM", "HH:MM"); an object with ``edges_ns(day)``; a function from a date to its edges; or None.
    tz
        The exchange's zone.
    bucket_s
        Bucket length [s].

    Raises
    ------
    InvalidInput
        On anything else, and on lengths that do not divide the session.
    """
    if hours is None:
        return AroundTheClock(tz, bucket_s)
    if isinstance(hours, DayGrid):
        own = getattr(hours, "bucket_s", bucket_s)
        if own != bucket_s:
            raise InvalidInput(
                "the calendar has buckets of another length",
                field="bucket_s",
                value=(own, bucket_s),
                remedy="give both the same length",
            )
        return hours
    if callable(hours):
        return _Given(hours)
    if not isinstance(hours, (tuple, list)) or len(hours) != 2:
        raise InvalidInput(
            "not hours", field="hours", value=hours, remedy="give (open, close), a calendar with edges_ns(day), or None"
        )
    return SessionHours(hours[0], hours[1], tz=tz, bucket_s=bucket_s)
