"""What a roll usually trades by time of day: mean and bands over past rolls, in the exchange's local time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.roll.metrics.config import NS
from crosswind.problems.roll.model import RollMarket
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["RollVolumeBaseline"]

Array = NDArray[np.float64]
_DAY_S = 86400
_SIMULATED = "simulat"  # how a market's source says that it is no recorded one


@dataclass(frozen=True, eq=False)
class RollVolumeBaseline:
    """Expected roll volume by local time of day, with the band of past rolls.

    ``expected(t) = bar · mean over past days of (volume in the slot of t / seconds of it that were seen)``. Slots are
    those of the exchange's wall clock: 09:30 stays 09:30 when the clocks change between or on the days.

    Make one with :meth:`fit`.

    Parameters
    ----------
    tz
        Zone of the exchange.
    slot_s
        Length of a slot [s].
    bar_s
        Length of the bars that were fitted, and are expected by default [s].
    rates
        (days, slots): volume by second of each past day; NaN in slots that the day did not cover.
    days
        Local date of each.
    days_to_roll
        Of each, calendar days before the near leg's expiry, or None.
    until
        End of the last bar that was used.
    source
        What it was made of, in words: "simulated past rolls (…)" or "past rolls (…)".
    simulated
        Whether any of it is simulated.
    """

    tz: str
    slot_s: float
    bar_s: float
    rates: Array
    days: tuple[Any, ...]
    days_to_roll: tuple[int, ...] | None
    until: pd.Timestamp
    source: str
    simulated: bool

    @classmethod
    def fit(
        cls,
        past: Sequence[RollMarket],
        *,
        tz: str = "America/Chicago",
        slot_s: float = 300.0,
        days_to_roll: Sequence[int] | None = None,
    ) -> RollVolumeBaseline:
        """Return the baseline of past roll days.

        Parameters
        ----------
        past
            Markets of past rolls, one session each, with bars of one length no longer than a slot.
        tz
            Zone whose wall clock the slots follow.
        slot_s
            Length of a slot [s]; a day is a whole number of them.
        days_to_roll
            Calendar days before the near leg's expiry of each market: then :meth:`expected` may be asked for one.

        Raises
        ------
        InvalidInput
            Without a market, for bars of different lengths, an unknown zone, slots that do not fill a day.
        """
        markets = tuple(past)
        if not markets or not all(isinstance(m, RollMarket) for m in markets):
            raise InvalidInput("are not roll markets", field="past", value=len(markets), remedy="pass at least one")
        lengths = sorted({m.bar_s for m in markets})
        if len(lengths) > 1:
            raise InvalidInput("have bars of several lengths", field="past", value=lengths, remedy="resample to one")
        check_slots(slot_s, lengths[0])
        offsets = None if days_to_roll is None else tuple(int(d) for d in days_to_roll)
        if offsets is not None and len(offsets) != len(markets):
            raise InvalidInput("is not one number per market", field="days_to_roll", value=len(offsets), remedy="match")
        slots = round(_DAY_S / slot_s)
        rates = np.full((len(markets), slots), np.nan)
        for row, market in enumerate(markets):
            slot = slots_of(market.times, market.bar_s, tz, slot_s)
            seen = np.bincount(slot, minlength=slots) * market.bar_s
            total = np.bincount(slot, weights=market.volume, minlength=slots)
            covered = seen > 0.0
            rates[row, covered] = total[covered] / seen[covered]
        rates.flags.writeable = False
        made_up = [_SIMULATED in m.source.lower() for m in markets]
        kind = (
            "simulated past rolls" if all(made_up) else "past rolls, some simulated" if any(made_up) else "past rolls"
        )
        names = ", ".join(sorted({m.source for m in markets}))
        return cls(
            tz=tz,
            slot_s=float(slot_s),
            bar_s=lengths[0],
            rates=rates,
            days=tuple(m.times[0].tz_convert(tz).date() for m in markets),
            days_to_roll=offsets,
            until=max(m.times[-1] for m in markets),
            source=f"{kind} ({len(markets)} days: {names})",
            simulated=any(made_up),
        )

    def only(self, days_to_roll: int, within: int = 0) -> RollVolumeBaseline:
        """Return the baseline of those past days alone that lay so far before the roll's expiry.

        Volume rises to the roll's peak and falls after it: a day is best held against its like.

        Parameters
        ----------
        days_to_roll
            Calendar days before the near leg's expiry.
        within
            Days that lie so many days nearer or further are taken as well.

        Raises
        ------
        DataGap
            If no past day lies there.
        """
        known = self.days_to_roll or ()
        rows = [k for k, offset in enumerate(known) if abs(offset - days_to_roll) <= within]
        if not rows:
            raise DataGap(
                "no past day lay so far before the roll",
                field="days_to_roll",
                value=days_to_roll,
                remedy=f"choose among {sorted(set(known))}" if known else "fit with days_to_roll",
            )
        return replace(
            self,
            rates=self.rates[rows],
            days=tuple(self.days[k] for k in rows),
            days_to_roll=tuple(known[k] for k in rows),
            source=f"{self.source}, of them {len(rows)} about {days_to_roll} days before the expiry",
        )

    def expected(
        self, times: pd.DatetimeIndex, bar_s: float | None = None, *, days_to_roll: int | None = None
    ) -> pd.Series[Any]:
        """Return the expected volume of the bars that end at ``times`` [contracts]; NaN where no past day traded.

        Parameters
        ----------
        times
            Bar ends, tz-aware.
        bar_s
            Their length [s]; default that of the fitted bars.
        days_to_roll
            Use only the past days that lay so many days before the roll's expiry.

        Raises
        ------
        DataGap
            If no past day lay there.
        """
        return self._at(self._mean(days_to_roll), times, bar_s).rename("expected")

    def bands(
        self,
        times: pd.DatetimeIndex,
        bar_s: float | None = None,
        *,
        quantiles: tuple[float, float] = (0.25, 0.75),
        days_to_roll: int | None = None,
    ) -> pd.DataFrame:
        """Return ``mean``, ``low`` and ``high`` of the past days' volumes in those bars [contracts].

        Parameters
        ----------
        times, bar_s, days_to_roll
            As in :meth:`expected`.
        quantiles
            Of low and high over the past days, slot by slot.
        """
        low, high = quantiles
        if not 0.0 <= low <= high <= 1.0:
            raise InvalidInput("are out of order", field="quantiles", value=quantiles, remedy="e.g. (0.25, 0.75)")
        chosen = self._chosen(days_to_roll)
        covered = np.isfinite(chosen).any(axis=0)
        edges = np.full((2, chosen.shape[1]), np.nan)
        edges[:, covered] = np.nanquantile(chosen[:, covered], [low, high], axis=0)
        columns = {"mean": self._mean(days_to_roll), "low": edges[0], "high": edges[1]}
        return pd.DataFrame({name: self._at(values, times, bar_s) for name, values in columns.items()})

    def check_before(self, start: pd.Timestamp) -> None:
        """Refuse recorded past rolls that reach into the day they are to judge.

        Simulated days bear dates by name only and are not held against the calendar.

        Raises
        ------
        InvalidInput
            If the last bar that was used ends after ``start``.
        """
        if not self.simulated and self.until > start:
            raise InvalidInput(
                f"knows bars until {self.until}", field="baseline", value=str(start), remedy="fit it on earlier days"
            )

    def table(self, days_to_roll: int | None = None) -> Array:
        """Return the expected volume by second of each slot of the local day (slots,)."""
        return self._mean(days_to_roll)

    def to_frame(self) -> pd.DataFrame:
        """Return the slots that a past day covered: local start → ``mean``, ``low``, ``high`` [contracts a slot]."""
        covered = np.flatnonzero(np.isfinite(self.rates).any(axis=0))
        low, high = np.nanquantile(self.rates[:, covered], [0.25, 0.75], axis=0)
        index = pd.to_timedelta(covered * self.slot_s, unit="s")
        columns = {"mean": self._mean(None)[covered], "low": low, "high": high}
        return pd.DataFrame({name: values * self.slot_s for name, values in columns.items()}, index=index)

    def summary(self) -> str:
        """Return two lines: what it was made of, and the expected volume of a day with its band."""
        frame = self.to_frame()
        return (
            f"Roll volume expected from {self.source}, {self.tz}, slots of {self.slot_s:g} s\n"
            f"  {frame['mean'].sum():,.0f} contracts a day in {len(frame)} slots"
        )

    def _chosen(self, days_to_roll: int | None) -> Array:
        if days_to_roll is None:
            return self.rates
        return self.only(days_to_roll).rates

    def _mean(self, days_to_roll: int | None) -> Array:
        chosen = self._chosen(days_to_roll)
        n = np.isfinite(chosen).sum(axis=0)
        total = np.where(np.isfinite(chosen), chosen, 0.0).sum(axis=0)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)

    def _at(self, values: Array, times: pd.DatetimeIndex, bar_s: float | None) -> pd.Series[Any]:
        length = self.bar_s if bar_s is None else float(bar_s)
        check_slots(self.slot_s, length)
        return pd.Series(values[slots_of(times, length, self.tz, self.slot_s)] * length, index=times)


def check_slots(slot_s: float, bar_s: float) -> None:
    """Refuse slots that do not divide a day, and bars that are longer than one."""
    slots = _DAY_S / slot_s if isinstance(slot_s, (int, float)) and slot_s > 0 else np.nan
    if not np.isfinite(slots) or abs(slots - round(slots)) > 1e-9:
        raise InvalidInput("does not divide a day", field="slot_s", value=slot_s, remedy="e.g. 300")
    if not 0.0 < bar_s <= slot_s:
        raise InvalidInput("is not within a slot", field="bar_s", value=bar_s, remedy=f"pass at most {slot_s:g} s")


def slots_of(times: pd.Index[Any], bar_s: float, tz: str, slot_s: float) -> NDArray[np.int64]:
    """Return the slot of the local day in which each bar's middle lies (B,)."""
    if not isinstance(times, pd.DatetimeIndex) or times.tz is None:
        raise InvalidInput(
            "is not a tz-aware DatetimeIndex", field="times", value=type(times).__name__, remedy="localise"
        )
    try:
        zone = ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("is not a time zone", field="tz", value=tz, remedy="e.g. 'America/Chicago'") from error
    middle = times.tz_convert(zone) - pd.Timedelta(round(bar_s * NS / 2), "ns")
    wall = middle.tz_localize(None).as_unit("ns").asi8 % (_DAY_S * NS)
    return np.asarray(wall // round(slot_s * NS), dtype=np.int64)
