"""Times of a roll as nanoseconds of UTC: what all that is told bar by bar takes for the time."""

from __future__ import annotations

import pandas as pd

from crosswind.problems.market.checks import as_utc

__all__ = ["nanoseconds"]


def nanoseconds(time: pd.Timestamp | int, field: str = "time") -> int:
    """Return a time as nanoseconds since 1970, UTC; an integer is taken to be that already.

    Raises
    ------
    InvalidInput
        If it cannot be read, is NaT or naive.
    """
    if isinstance(time, int):
        return time
    # A zoned timestamp needs no check: this is asked once a bar.
    zoned = isinstance(time, pd.Timestamp) and not pd.isna(time) and time.tzinfo is not None
    return int((time if zoned else as_utc(time, field)).as_unit("ns").value)
