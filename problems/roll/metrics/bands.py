"""What the metrics were on past roll days, by local time of day: the band behind a dashboard's lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crosswind.problems.roll.metrics.baseline import slots_of
from crosswind.problems.roll.metrics.config import METRICS
from crosswind.solvers.errors import InvalidInput

__all__ = ["metric_bands"]


def metric_bands(
    past: Sequence[pd.DataFrame],
    times: pd.DatetimeIndex,
    *,
    tz: str = "America/Chicago",
    slot_s: float = 300.0,
    quantiles: tuple[float, float] = (0.25, 0.75),
) -> pd.DataFrame:
    """Return mean and band of the metrics of past roll days at the wall-clock time of each bar.

    A day's value in a slot is the mean of its finite values there; mean and quantiles are over days.

    Parameters
    ----------
    past
        Metrics of past roll days, one frame a day, as from :func:`crosswind.problems.roll.metrics.roll_metrics`.
    times
        Bar ends of the day to be shown, tz-aware.
    tz
        Zone whose wall clock the slots follow.
    slot_s
        Length of a slot [s].
    quantiles
        Of ``low`` and ``high``.

    Returns
    -------
    DataFrame
        Times × (metric, ``mean`` | ``low`` | ``high``); NaN where no past day knew the metric. ``.attrs`` holds
        ``market``, the sources of the past days in words: simulated days say that they are.

    Raises
    ------
    InvalidInput
        Without a past day, for frames without tz-aware times or metrics, quantiles out of order.
    """
    frames = tuple(past)
    if not frames:
        raise InvalidInput("is empty", field="past", value=0, remedy="pass the metrics of at least one past day")
    low, high = quantiles
    if not 0.0 <= low <= high <= 1.0:
        raise InvalidInput("are out of order", field="quantiles", value=quantiles, remedy="e.g. (0.25, 0.75)")
    names = [name for name in METRICS if all(name in frame.columns for frame in frames)]
    if not names:
        raise InvalidInput("share no metric", field="past", value=len(frames), remedy="pass frames of roll_metrics")
    days = []
    for frame in frames:
        slot = slots_of(frame.index, 0.0, tz, slot_s)
        days.append(frame[names].where(np.isfinite(frame[names])).groupby(slot).mean())
    table = pd.concat(days).groupby(level=0)
    parts = {"mean": table.mean(), "low": table.quantile(low), "high": table.quantile(high)}
    rows = slots_of(times, 0.0, tz, slot_s)
    columns = {(name, part): values[name].reindex(rows).to_numpy() for name in names for part, values in parts.items()}
    out = pd.DataFrame(columns, index=times)
    out.attrs = {"market": ", ".join(sorted({str(frame.attrs.get("market", "unknown")) for frame in frames}))}
    return out
