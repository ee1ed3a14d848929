"""When a perpetual settles its funding."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.checks import as_utc, utc_index
from crosswind.problems.market.contracts.clocks import seconds_of
from crosswind.solvers.errors import InvalidInput

__all__ = ["EVERY_4_HOURS", "EVERY_8_HOURS", "EVERY_HOUR", "FundingSchedule"]


@dataclass(frozen=True)
class FundingSchedule:
    """Settlements at the same UTC times every day.

    A position pays at a settlement if it was held just before it, so one that is taken at the very settlement pays
    nothing there: :meth:`between` counts settlements after ``start``, up to and including ``end``.

    Parameters
    ----------
    times
        UTC times of day 'HH:MM', increasing and evenly spaced over the day.

    Raises
    ------
    InvalidInput
        If there is none, or they are not increasing and even.
    """

    times: tuple[str, ...] = ("00:00", "08:00", "16:00")

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(self.times))
        if not self.times:
            raise InvalidInput("there is no settlement", field="times", remedy="e.g. ('00:00', '08:00', '16:00')")
        steps = np.diff([*self._seconds, self._seconds[0] + 86_400])
        if (steps <= 0).any() or np.ptp(steps) or max(self._seconds) >= 86_400:
            raise InvalidInput(
                "the settlements are not evenly spaced over the day",
                field="times",
                value=self.times,
                remedy="list them in order, e.g. ('00:00', '08:00', '16:00')",
            )

    @property
    def _seconds(self) -> tuple[int, ...]:
        return tuple(seconds_of(clock, "times") for clock in self.times)

    @property
    def interval_s(self) -> float:
        """Time between settlements [s]."""
        return 86_400 / len(self.times)

    def next(self, when: Any) -> pd.Timestamp:
        """Return the first settlement after ``when`` (UTC); at a settlement, the one that follows it."""
        at = as_utc(when, "when")
        return pd.Timestamp(at.value + round(self.seconds_to_next(at) * 1e9), unit="ns", tz="UTC").as_unit("ns")

    def last(self, when: Any) -> pd.Timestamp:
        """Return the latest settlement at or before ``when`` (UTC)."""
        return self.next(when) - pd.Timedelta(seconds=self.interval_s)

    def seconds_to_next(self, when: Any) -> float:
        """Return the time from ``when`` to the next settlement [s], in (0, interval]."""
        return float(self._to_next(np.array([as_utc(when, "when").value]))[0])

    def to_next(self, index: pd.DatetimeIndex) -> pd.Series[Any]:
        """Return the time to the next settlement [s] at each of the tz-aware times of ``index``."""
        times = utc_index(index, "index", strictly_increasing=False)
        return pd.Series(self._to_next(times.asi8), index=times, name="seconds_to_funding")

    def _to_next(self, ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        step = round(self.interval_s * 1e9)
        return np.asarray((step - (ns - self._seconds[0] * 1_000_000_000) % step) / 1e9)

    def between(self, start: Any, end: Any) -> pd.DatetimeIndex:
        """Return the settlements after ``start``, up to and including ``end`` (UTC).

        Raises
        ------
        InvalidInput
            On naive times, or an end before the start.
        """
        first, last = as_utc(start, "start"), as_utc(end, "end")
        if last < first:
            raise InvalidInput("lies before the start", field="end", value=end, remedy="exchange start and end")
        step = round(self.interval_s * 1e9)
        at = self.next(first).value
        ns = np.arange(at, last.value + 1, step, dtype=np.int64)
        return pd.DatetimeIndex(ns, tz="UTC").as_unit("ns")

    def of_day(self, day: dt.date) -> pd.DatetimeIndex:
        """Return the settlements of a UTC date."""
        ns = int(pd.Timestamp(day, tz="UTC").as_unit("ns").value) + np.array(self._seconds) * 1_000_000_000
        return pd.DatetimeIndex(ns, tz="UTC").as_unit("ns")

    def is_settlement(self, when: Any) -> bool:
        """Return whether ``when`` is a settlement to the nanosecond: an hourly row that is not one charges nothing."""
        return self.last(when) == as_utc(when, "when")


EVERY_8_HOURS = FundingSchedule(("00:00", "08:00", "16:00"))
EVERY_4_HOURS = FundingSchedule(tuple(f"{hour:02d}:00" for hour in range(0, 24, 4)))
EVERY_HOUR = FundingSchedule(tuple(f"{hour:02d}:00" for hour in range(24)))
