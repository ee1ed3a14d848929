"""The trading day of a future: when it begins, pauses and ends on the exchange's clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from crosswind.problems.market.checks import check_zone
from crosswind.problems.market.contracts.clocks import seconds_of, utc_ns
from crosswind.solvers.errors import InvalidInput

__all__ = ["DayKind", "TradingHours"]

DayKind = Literal["full", "half", "holiday"]


@dataclass(frozen=True)
class TradingHours:
    """Hours of one trading day as local wall times.

    A trading day whose opening is not earlier on the clock than its close begins on the evening before: 18:00 to 17:00
    is Sunday 18:00 to Monday 17:00 for Monday.

    Parameters
    ----------
    opens, closes
        Wall times 'HH:MM'; '24:00' closes at midnight.
    tz
        The exchange's zone.
    halts
        Pauses within the day as (from, to); one at or after the opening hour of an overnight day lies on the evening
        before.
    opens_tz
        Zone of the opening where it keeps another clock (Eurex opens its long day at the same UTC time all year).
    opens_after_closure
        Opening after a day without trading, where it differs.
    half_day_close
        Close on a half day of the cash market; default: that of the calendar.
    holiday_close
        Close on a holiday of the cash market on which the future trades.

    Raises
    ------
    InvalidInput
        On unreadable times and unknown zones.
    """

    opens: str
    closes: str
    tz: str
    halts: tuple[tuple[str, str], ...] = ()
    opens_tz: str | None = None
    opens_after_closure: str | None = None
    half_day_close: str | None = None
    holiday_close: str | None = None

    def __post_init__(self) -> None:
        check_zone(self.tz)
        if self.opens_tz is not None:
            check_zone(self.opens_tz)
        for clock in (self.opens, self.opens_after_closure, *(at for halt in self.halts for at in halt)):
            if clock is not None and seconds_of(clock, "hours") >= 86_400:
                raise InvalidInput("opens at the day's end", field="hours", value=clock, remedy="write '00:00'")
        for clock in (self.closes, self.half_day_close, self.holiday_close):
            if clock is not None:
                seconds_of(clock, "hours")
        object.__setattr__(self, "halts", tuple((str(a), str(b)) for a, b in self.halts))

    @property
    def overnight(self) -> bool:
        """Whether the trading day begins on the evening before."""
        return self.opens_tz is None and seconds_of(self.opens) >= seconds_of(self.closes)

    def _at(self, day: dt.date, clock: str) -> int:
        """Return a wall time of the trading day ``day`` in UTC [ns]: evening times lie on the date before."""
        if self.overnight and seconds_of(clock) >= seconds_of(self.opens):
            day = day - dt.timedelta(days=1)
        return utc_ns(day, clock, self.tz)

    def open_ns(self, day: dt.date, after_closure: bool = False) -> int:
        """Return the opening of the trading day [ns since 1970 UTC]; ``after_closure``: no trading the date before."""
        clock = self.opens_after_closure if after_closure and self.opens_after_closure else self.opens
        return utc_ns(day, clock, self.opens_tz) if self.opens_tz else self._at(day, clock)

    def close_ns(self, day: dt.date, kind: DayKind = "full") -> int:
        """Return the close of the trading day [ns since 1970 UTC]."""
        special = {"full": None, "half": self.half_day_close, "holiday": self.holiday_close}[kind]
        return utc_ns(day, special or self.closes, self.tz)

    def halts_ns(
        self, day: dt.date, after_closure: bool = False, kind: DayKind = "full"
    ) -> tuple[tuple[int, int], ...]:
        """Return the pauses strictly inside the trading day [ns since 1970 UTC]."""
        opens, closes = self.open_ns(day, after_closure), self.close_ns(day, kind)
        pauses = ((self._at(day, a), self._at(day, b)) for a, b in self.halts)
        return tuple((a, b) for a, b in pauses if opens < a and b < closes)
