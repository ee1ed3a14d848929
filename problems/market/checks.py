"""Checks at the edge: what enters the toolkit is complete, ordered, finite and carries its time zone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from crosswind.solvers.errors import InvalidInput

__all__ = [
    "as_date",
    "as_dates",
    "as_utc",
    "check_frame",
    "check_names",
    "check_positive",
    "check_same_axes",
    "check_zone",
    "nearest",
    "utc_index",
]


def utc_index(index: pd.Index, field: str, *, strictly_increasing: bool = True) -> pd.DatetimeIndex:
    """Return ``index`` as a UTC index in nanoseconds, without a frequency.

    Parameters
    ----------
    index
        A tz-aware DatetimeIndex, in any zone and unit.
    field
        What the index belongs to; used in messages.
    strictly_increasing
        Refuse duplicates and disorder.

    Raises
    ------
    InvalidInput
        If the index holds no times, is naive, holds NaT, repeats a time or is not sorted.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise InvalidInput(
            "the index holds no timestamps",
            field=field,
            value=type(index).__name__,
            remedy="pass a tz-aware DatetimeIndex, e.g. pd.to_datetime(times, utc=True)",
        )
    if index.tz is None:
        raise InvalidInput(
            "the timestamps are naive: their time zone is unknown",
            field=field,
            value=index[0] if len(index) else None,
            remedy="localise with .tz_localize('America/New_York'), or the zone that the clock stood in",
        )
    if index.hasnans:
        raise InvalidInput(
            "the index holds NaT", field=field, value=int(np.asarray(index.isna()).sum()), remedy="drop those rows"
        )
    out = pd.DatetimeIndex(index.tz_convert("UTC").as_unit("ns").asi8, tz="UTC", name=index.name).as_unit("ns")
    if strictly_increasing and len(out) > 1:
        steps = np.diff(out.asi8)
        if (steps <= 0).any():
            at = int(np.argmax(steps <= 0)) + 1
            what = "repeats a time" if steps[at - 1] == 0 else "is not sorted"
            raise InvalidInput(
                f"the index {what} at row {at}",
                field=field,
                value=out[at],
                remedy="sort with .sort_index() and aggregate or drop duplicates",
            )
    return out


def check_names(names: Iterable[Any], field: str) -> tuple[str, ...]:
    """Return ``names`` as a tuple of distinct, non-empty strings.

    Raises
    ------
    InvalidInput
        If there is none, one is not a non-empty string, or one occurs twice.
    """
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, Iterable):
        raise InvalidInput("not names", field=field, value=names, remedy="give a name or a list of names")
    out = tuple(names)
    if not out:
        raise InvalidInput("there are no names", field=field, remedy="give at least one column")
    for name in out:
        if not isinstance(name, str) or not name:
            raise InvalidInput(
                "a name is not a non-empty string", field=field, value=name, remedy="rename columns to strings"
            )
    if len(set(out)) < len(out):
        twice = sorted({n for n in out if out.count(n) > 1})
        raise InvalidInput(
            "a name occurs twice", field=field, value=twice, remedy="drop or rename the duplicate columns"
        )
    return out


def check_frame(
    frame: Any, field: str, *, allow_nan: bool = False, lower: float | None = None, strict: bool = False
) -> pd.DataFrame:
    """Return a float64 copy of ``frame`` with a UTC index, or refuse it.

    Parameters
    ----------
    frame
        Times × names.
    field
        Used in messages.
    allow_nan
        Whether NaN may stand for "not quoted"; infinities never may.
    lower, strict
        Smallest value allowed; with ``strict`` the bound itself is refused too.

    Raises
    ------
    InvalidInput
        On a wrong type, bad index or names, text, NaN or inf, a value below the bound.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput(
            "not a DataFrame",
            field=field,
            value=type(frame).__name__,
            remedy="pass times × names as a pandas DataFrame",
        )
    names = check_names(frame.columns, f"{field} columns")
    index = utc_index(frame.index, f"{field} index")
    try:
        values = frame.to_numpy(dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "holds values that are not numbers", field=field, value=error, remedy="convert with pd.to_numeric first"
        ) from error
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    traded = field in ("flow", "volume")  # a trade that did not happen is 0, a quote that did not change stands
    remedy = "put 0 where nothing traded, " if traded else "carry the last value forward, e.g. with .ffill(), "
    _refuse(bad, values, index, names, field, "is not finite", f"{remedy}or drop those rows from all tables")
    if lower is not None:
        low = values <= lower if strict else values < lower
        sense = "must be above" if strict else "must not be below"
        _refuse(low, values, index, names, field, f"{sense} {lower:g}", "check units, columns and stale quotes")
    return pd.DataFrame(values, index=index, columns=pd.Index(names, dtype=object))


def _refuse(
    bad: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any],
    index: pd.DatetimeIndex,
    names: tuple[str, ...],
    field: str,
    what: str,
    remedy: str,
) -> None:
    if bad.any():
        row, col = (int(k) for k in np.argwhere(bad)[0])
        raise InvalidInput(
            f"a value {what}: {int(bad.sum())} of {bad.size}, first at {index[row]} for {names[col]}",
            field=field,
            value=float(values[row, col]),
            remedy=remedy,
        )


def check_same_axes(frames: dict[str, pd.DataFrame], reference: str) -> None:
    """Refuse frames whose index or columns differ from those of ``frames[reference]``.

    Raises
    ------
    InvalidInput
        Naming the first frame that differs and in what.
    """
    like = frames[reference]
    for field, frame in frames.items():
        if not frame.columns.equals(like.columns):
            odd = sorted(set(frame.columns) ^ set(like.columns)) or list(frame.columns)
            raise InvalidInput(
                f"its names or their order differ from those of {reference}",
                field=field,
                value=odd,
                remedy=f"reindex with {field}[{reference}.columns]",
            )
        if not frame.index.equals(like.index):
            raise InvalidInput(
                f"its times differ from those of {reference}",
                field=field,
                value=f"{len(frame)} rows against {len(like)}",
                remedy="put all frames on one synchronised index",
            )


def check_positive(value: Any, field: str) -> float:
    """Return ``value`` as a finite positive float.

    Raises
    ------
    InvalidInput
        Otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidInput("not a number", field=field, value=value, remedy="pass a positive number")
    number = float(value)
    if not np.isfinite(number) or number <= 0:
        raise InvalidInput("must be positive and finite", field=field, value=value, remedy="pass a positive number")
    return number


def check_zone(tz: Any) -> str:
    """Return the key of a time zone that the system knows.

    Raises
    ------
    InvalidInput
        If it does not.
    """
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise InvalidInput(
            "unknown time zone", field="tz", value=tz, remedy="use an IANA key such as 'America/New_York' or 'UTC'"
        ) from error
    return str(tz)


def as_utc(moment: Any, field: str) -> pd.Timestamp:
    """Return ``moment`` as a UTC timestamp.

    Raises
    ------
    InvalidInput
        If it cannot be read, is NaT or naive.
    """
    try:
        stamp = pd.Timestamp(moment)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            "not a time",
            field=field,
            value=moment,
            remedy="pass pd.Timestamp('2013-10-07 10:00', tz='UTC')",
        ) from error
    if not pd.isna(stamp) and stamp.tz is None:
        raise InvalidInput(
            "the time is naive: its time zone is unknown",
            field=field,
            value=moment,
            remedy=f"pass pd.Timestamp('{stamp}', tz='UTC'), or the zone that the clock stood in",
        )
    return utc_index(pd.DatetimeIndex([stamp]), field)[0]


def as_date(day: Any, field: str = "day") -> dt.date:
    """Return ``day`` (date, Timestamp, '2013-10-07' or '20131007') as a date.

    Raises
    ------
    InvalidInput
        If it cannot be read as a date.
    """
    if day is pd.NaT:
        raise InvalidInput("not a date", field=field, value=day, remedy="drop NaT")
    if isinstance(day, dt.datetime):
        return day.date()
    if isinstance(day, dt.date):
        return day
    if isinstance(day, str):
        try:
            return dt.date.fromisoformat(day)
        except ValueError as error:
            raise InvalidInput(
                "not a date", field=field, value=day, remedy="write it as 2013-10-07 or 20131007"
            ) from error
    raise InvalidInput("not a date", field=field, value=day, remedy="pass a datetime.date or '2013-10-07'")


def as_dates(days: Any, field: str = "days") -> tuple[dt.date, ...] | None:
    """Return a date or several as ascending dates without repetition; None, which stands for all, as it is.

    Raises
    ------
    InvalidInput
        If one cannot be read as a date, or there is none.
    """
    if days is None:
        return None
    single = isinstance(days, (str, dt.date)) or not isinstance(days, Iterable)
    out = sorted({as_date(day, field) for day in ([days] if single else days)})
    if not out:
        raise InvalidInput("there are no days", field=field, value=[], remedy="leave it out to read all")
    return tuple(out)


def nearest(word: Any, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? " for the known word that looks most like ``word``, or an empty text."""
    found = get_close_matches(str(word), list(known), n=1)
    return f"did you mean {found[0]!r}? " if found else ""
