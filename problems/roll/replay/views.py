"""What a policy may see of a market: the bars up to the last finished one, cut off without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.model import RollMarket

__all__ = ["SeenMarket", "see"]

_ARRAYS = (
    "bid",
    "ask",
    "bid_size",
    "ask_size",
    "sold",
    "bought",
    "cancelled",
    "leg_bid",
    "leg_ask",
    "leg_bid_size",
    "leg_ask_size",
    "leg_volume",
)
_PLAIN = ("bar_s", "tick", "leg_tick", "multiplier", "legs", "source")


def _cut(name: str) -> property:
    def read(self: SeenMarket) -> Any:
        return getattr(self._whole, name)[: self._end]

    return property(read, doc=f"``{name}`` up to the last finished bar.")


def _same(name: str) -> property:
    def read(self: SeenMarket) -> Any:
        return getattr(self._whole, name)

    return property(read, doc=f"``{name}`` of the market.")


class SeenMarket(RollMarket):
    """A :class:`~crosswind.problems.roll.model.RollMarket` that ends with bar ``end − 1``.

    Its arrays are read-only slices that are made when they are read: a bar costs a policy what it looks at. Facts of
    the day are not shown, for they may tell of later bars.
    """

    _whole: RollMarket
    _end: int
    _times: pd.DatetimeIndex | None = None

    def __init__(self, whole: RollMarket, end: int) -> None:
        put = object.__setattr__
        put(self, "_whole", whole)
        put(self, "_end", end)

    def __reduce__(self) -> tuple[Any, ...]:
        return see, (self._whole, self._end)

    @property
    def bars(self) -> int:
        """Number of bars."""
        return self._end

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @property
    def times(self) -> pd.DatetimeIndex:
        """Bar ends up to the last finished bar, UTC."""
        held = self._times
        if held is None:  # slicing an index of times costs more than all arrays together
            held = self._whole.times[: self._end]
            object.__setattr__(self, "_times", held)
        return held

    @property
    def mid(self) -> Any:
        """½ (bid + ask) of the spread [points]."""
        return 0.5 * (self._whole.bid[: self._end] + self._whole.ask[: self._end])

    def recent(self, name: str, bars: int) -> np.ndarray[Any, Any]:
        """Return the last ``bars`` values of one of the arrays, or fewer where the session has no more."""
        values: np.ndarray[Any, Any] = getattr(self._whole, name)[max(0, self._end - bars) : self._end]
        return values


for _name in _ARRAYS:
    setattr(SeenMarket, _name, _cut(_name))
for _name in _PLAIN:
    setattr(SeenMarket, _name, _same(_name))


def see(market: RollMarket, end: int) -> SeenMarket:
    """Return the market up to and without bar ``end``."""
    return SeenMarket(market, end)
