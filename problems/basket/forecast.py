"""Plain forecasts of what a basket needs, from recorded sessions: volume by time of day, half-spread, covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import as_scalar, as_times
from crosswind.solvers.errors import DataGap

if TYPE_CHECKING:
    from crosswind.problems.market.model import MarketEvents

__all__ = ["ForecastInputs", "forecast_inputs", "session_slices"]


@dataclass(frozen=True, eq=False)
class ForecastInputs:
    """Inputs of a basket problem as averages over past sessions.

    Attributes
    ----------
    times
        Slice starts (T,), UTC.
    slice_s
        Slice length [s].
    volume
        (T × N) mean notional traded in the slice of the same local time of day [currency].
    spread
        (N,) mean relative half-spread.
    covariance
        (N × N) covariance of relative returns per second.
    mid
        (N,) last mid price of the record [currency per share].
    """

    times: pd.DatetimeIndex
    slice_s: float
    volume: pd.DataFrame
    spread: pd.Series
    covariance: pd.DataFrame
    mid: pd.Series

    def as_arguments(self) -> dict[str, object]:
        """Return the keyword arguments of a basket problem: times, slice_s, volume, spread, covariance."""
        return {name: getattr(self, name) for name in ("times", "slice_s", "volume", "spread", "covariance")}


def session_slices(day: object, start: str, end: str, slice_s: float, tz: str) -> pd.DatetimeIndex:
    """Return the slice starts of one session, from local clock times to UTC.

    Parameters
    ----------
    day
        Local date of the session.
    start, end
        Local clock times such as ``"09:30"`` and ``"16:00"``; only whole slices that end by ``end`` are returned.
    slice_s
        Slice length [s].
    tz
        Zone of the clock times.

    Raises
    ------
    InvalidInput
        When no whole slice fits.
    """
    length = pd.Timedelta(as_scalar(slice_s, "slice_s", strict=True), unit="s")
    date = pd.Timestamp(str(day)).date()
    opening, closing = (pd.Timestamp(f"{date} {clock}").tz_localize(tz) for clock in (start, end))
    return as_times(pd.date_range(opening, closing - length, freq=length), "session")


def forecast_inputs(events: MarketEvents, times: pd.DatetimeIndex, slice_s: float) -> ForecastInputs:
    """Return volume, spread and covariance forecasts for ``times`` from recorded buckets.

    The forecast of a slice is the mean over the recorded sessions of what traded in the same local time of day; a
    bucket counts where its start lies. Pass past sessions only: everything recorded is used.

    Parameters
    ----------
    events
        Recorded buckets, T_e × N.
    times
        Slice starts to forecast (T,), time-zone-aware.
    slice_s
        Slice length [s].

    Raises
    ------
    DataGap
        When a slice has no recorded bucket at its time of day, or there are fewer than two returns.
    """
    times, length = as_times(times), as_scalar(slice_s, "slice_s", strict=True)
    starts = pd.DatetimeIndex(events.volume.index) - pd.Timedelta(events.bucket_s, unit="s")
    second = _second_of_day(starts, events.tz)
    sessions = np.unique(events.session.to_numpy().astype(str)).size
    rows = []
    for begin, label in zip(_second_of_day(times, events.tz), times, strict=True):
        inside = (second >= begin - 1e-6) & (second < begin + length - 1e-6)
        if not inside.any():
            raise DataGap(
                "no recorded bucket at this time of day", field="times", value=label, remedy="shift or drop the slice"
            )
        rows.append(events.volume.to_numpy()[inside].sum(axis=0) / sessions)
    returns = events.returns.dropna(how="any")
    if len(returns) < 2:
        raise DataGap("a covariance needs returns", field="events", value=len(returns), remedy="pass whole sessions")
    half = (events.spread / events.mid / 2.0).mean()
    return ForecastInputs(
        times=times,
        slice_s=length,
        volume=pd.DataFrame(np.array(rows), index=times, columns=events.volume.columns),
        spread=half.rename("half_spread"),
        covariance=returns.cov() / events.bucket_s,
        mid=events.mid.iloc[-1].rename("mid"),
    )


def _second_of_day(index: pd.DatetimeIndex, tz: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the local wall clock as seconds after midnight: the profile follows the exchange through clock changes."""
    local = index.tz_convert(tz)
    seconds = local.hour * 3600.0 + local.minute * 60.0 + local.second + local.microsecond * 1e-6
    return np.asarray(seconds, dtype=np.float64)
