"""Local wall times and instants: changes of the clock, gaps and repeated hours, said explicitly."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import as_date, check_positive, check_zone
from crosswind.solvers.errors import InvalidInput

__all__ = ["clock_changes", "day_edges_ns", "day_span_ns", "even_edges", "seconds_of", "utc_ns"]

_UTC = dt.UTC
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=_UTC)


def seconds_of(clock: str, field: str = "clock") -> int:
    """Return the seconds since midnight of a wall time 'HH:MM' [s]; '24:00' is the day's end.

    Raises
    ------
    InvalidInput
        If it is no time of day.
    """
    if clock == "24:00":
        return 86_400
    try:
        hour, minute = (int(part) for part in clock.split(":"))
        dt.time(hour, minute)
    except (ValueError, AttributeError) as error:
        raise InvalidInput("not a time of day", field=field, value=clock, remedy="write it as '09:30'") from error
    return hour * 3600 + minute * 60


def utc_ns(
    day: dt.date,
    clock: str,
    tz: str,
    *,
    on_gap: Literal["refuse", "later"] = "refuse",
    on_overlap: Literal["refuse", "first", "second"] = "refuse",
) -> int:
    """Return the instant at which the wall clock in ``tz`` shows ``clock`` on ``day`` [ns since 1970 UTC].

    In spring an hour is skipped: a time in it never comes, and ``on_gap`` says whether to refuse it or to take the
    moment of the change. In autumn an hour comes twice, and ``on_overlap`` says which of the two is meant.

    Parameters
    ----------
    day
        Local date.
    clock
        Wall time 'HH:MM'; '24:00' is midnight at the end of ``day``.
    tz
        IANA zone.
    on_gap, on_overlap
        What to do with a time that does not exist or is ambiguous.

    Raises
    ------
    InvalidInput
        On an unknown zone, an unreadable time, or a missing or repeated time that is refused.
    """
    check_zone(tz)
    zone = ZoneInfo(tz)
    seconds = seconds_of(clock)
    naive = dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=seconds)
    first, second = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    assert before is not None
    assert after is not None
    if before < after:
        if on_gap == "refuse":
            raise InvalidInput(
                f"this time is skipped in {tz}: clocks go forward over it",
                field="clock",
                value=f"{day} {clock}",
                remedy="choose another time, or on_gap='later' for the moment of the change",
            )
        # The change is where the offset of the earlier rule and that of the later one meet: bisect over the gap.
        low, high = naive.replace(tzinfo=_UTC) - after, naive.replace(tzinfo=_UTC) - before
        while high - low > dt.timedelta(seconds=1):
            middle = low + (high - low) // 2
            if middle.astimezone(zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        at = high.replace(microsecond=0)
    elif before > after:
        if on_overlap == "refuse":
            raise InvalidInput(
                f"this time comes twice in {tz}: clocks go back over it",
                field="clock",
                value=f"{day} {clock}",
                remedy="say which is meant: on_overlap='first' or 'second'",
            )
        at = (first if on_overlap == "first" else second).astimezone(_UTC)
    else:
        at = first.astimezone(_UTC)
    return round((at - _EPOCH) / dt.timedelta(seconds=1)) * 1_000_000_000


def clock_changes(tz: str, start: Any, end: Any) -> pd.DataFrame:
    """Return the changes of the clock of ``tz`` on local dates ``start`` .. ``end``, both included.

    Parameters
    ----------
    tz
        IANA zone.
    start, end
        Dates.

    Returns
    -------
    DataFrame
        One row per change: ``at`` (UTC instant), ``day`` (local date), ``shift_s`` (how far the wall clock jumps [s]:
        +3600 in spring, −3600 in autumn), ``offset_s`` (offset from UTC afterwards [s]).
    """
    check_zone(tz)
    zone = ZoneInfo(tz)
    first, last = as_date(start, "start"), as_date(end, "end")
    rows: list[dict[str, Any]] = []
    day = first
    while day <= last:
        low = dt.datetime.combine(day, dt.time(), tzinfo=zone)
        high = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), tzinfo=zone)
        if low.utcoffset() != high.utcoffset():
            left, right = low.astimezone(_UTC), high.astimezone(_UTC)
            old = low.utcoffset()
            while right - left > dt.timedelta(seconds=1):
                middle = left + dt.timedelta(seconds=int((right - left).total_seconds()) // 2)
                if middle.astimezone(zone).utcoffset() == old:
                    left = middle
                else:
                    right = middle
            new = right.astimezone(zone).utcoffset()
            assert old is not None
            assert new is not None
            rows.append(
                {
                    "at": pd.Timestamp(right).as_unit("ns"),
                    "day": day,
                    "shift_s": (new - old).total_seconds(),
                    "offset_s": new.total_seconds(),
                }
            )
        day += dt.timedelta(days=1)
    return pd.DataFrame(rows, columns=["at", "day", "shift_s", "offset_s"])


def day_edges_ns(day: Any, tz: str, bucket_s: float) -> npt.NDArray[np.int64]:
    """Return the bucket edges (K + 1,) of the whole local day, from midnight to midnight [ns since 1970 UTC].

    Buckets are equal in elapsed time, so a day on which clocks change has 23 or 25 hours of them: none is missing and
    none comes twice.

    Raises
    ------
    InvalidInput
        If ``bucket_s`` does not divide that day.
    """
    date = as_date(day, "day")
    return even_edges(*day_span_ns(date, tz), check_positive(bucket_s, "bucket_s"), str(date))


def day_span_ns(day: dt.date, tz: str) -> tuple[int, int]:
    """Return the midnights that begin and end a local day [ns since 1970 UTC].

    Some zones skip or repeat midnight itself; the day then begins at the change, or at the first of the two.
    """
    start = utc_ns(day, "00:00", tz, on_gap="later", on_overlap="first")
    end = utc_ns(day + dt.timedelta(days=1), "00:00", tz, on_gap="later", on_overlap="first")
    return start, end


def even_edges(start: int, end: int, bucket_s: float, what: str) -> npt.NDArray[np.int64]:
    """Return edges (K + 1,) from ``start`` to ``end`` [ns] every ``bucket_s`` [s]; the length must be a multiple.

    Raises
    ------
    InvalidInput
        If it is not.
    """
    length = (end - start) / 1e9
    count = length / bucket_s
    if round(count) < 1 or abs(count - round(count)) > 1e-9:
        raise InvalidInput(
            f"does not divide the {length:g} s of {what}",
            field="bucket_s",
            value=bucket_s,
            remedy="choose a divisor such as 1, 5, 10, 60 or 300",
        )
    return start + np.round(np.arange(round(count) + 1) * bucket_s * 1e9).astype(np.int64)
