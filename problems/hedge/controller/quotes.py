"""Prices that are believed, and what the present slice may take of each instrument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crosswind.problems.hedge.controller.book import FlightBook
from crosswind.problems.hedge.controller.model import HedgeSetup
from crosswind.problems.replay.model import FloatArray

__all__ = ["QuoteCheck"]


class QuoteCheck:
    """Last good prices, with a collar around them.

    Parameters
    ----------
    setup
        The controller's.

    Attributes
    ----------
    value
        Currency of a lot at the last good price (m,); 0 before the first.
    """

    def __init__(self, setup: HedgeSetup) -> None:
        self.setup = setup
        self._names = [i.name for i in setup.instruments]
        self._unit = [i.lot * i.multiplier for i in setup.instruments]
        self._collar = [i.collar for i in setup.instruments]
        self._clip = [i.clip for i in setup.instruments]
        self._share = [i.participation for i in setup.instruments]
        self.value, self._each = [0.0] * len(self._names), range(len(self._names))
        # By instrument: a price outside the collar, and how often in a row one like it came.
        self._odd = [[0.0, 0] for _ in self._names]

    def take(
        self,
        mid: Sequence[float],
        half_spread: Sequence[float],
        trades: Sequence[bool] | None,
        book: FlightBook,
        alarms: list[str],
    ) -> tuple[list[bool], list[float], str]:
        """Take prices; return which instruments are usable, their half-spreads, and what is wrong with them all."""
        value, unit, collar, odd, trouble = self.value, self._unit, self._collar, self._odd, ""
        m = len(value)
        usable, spread = [True] * m, [0.0] * m
        if len(mid) != m or len(half_spread) != m or (trades is not None and len(trades) != m):
            return [False] * m, spread, f"prices or halts are not those of {m} instruments"
        for j in self._each:
            new, half, last = mid[j] * unit[j], half_spread[j], value[j]
            if not (0.0 < new < math.inf and 0.0 <= half < math.inf):
                usable[j] = False
                if last == 0.0 and (book.position[j] or book.open):
                    trouble = f"no price of {self._names[j]} was ever seen"
            elif last != 0.0 and abs(new - last) > collar[j] * last and not self._confirmed(j, new):
                usable[j] = False
                alarms.append(f"price of {self._names[j]} is outside its collar")
            else:
                value[j], spread[j], odd[j][1] = new, half, 0
        if trades is not None:
            for j in self._each:
                usable[j] = usable[j] and bool(trades[j])
        if True not in usable:
            trouble = "no instrument trades"
        return usable, spread, trouble

    def _confirmed(self, j: int, new: float) -> bool:
        """Return whether a price outside the collar around the last good one has come often enough to be believed."""
        collar, odd = self._collar[j], self._odd[j]
        odd[1] = odd[1] + 1 if odd[1] and abs(new - odd[0]) <= collar * odd[0] else 1
        odd[0] = new
        return bool(odd[1] >= self.setup.rearm_after)

    def room(self, liquidity: FloatArray | None, usable: list[bool], gross: list[int], now: float) -> list[float]:
        """Return what may still be sent in this slice (m,) [currency], not to be changed; an unknown depth is none."""
        windows = self.setup.windows
        if liquidity is None and not windows and not any(gross) and False not in usable:
            return self._clip
        room = list(self._clip)
        shut = bool(windows) and any(start <= now < stop for start, stop in windows)
        for j in range(len(room)):
            if not usable[j] or shut:
                room[j] = 0.0
                continue
            if liquidity is not None and self._share[j] < math.inf:
                first = np.ravel(liquidity[0]) if len(liquidity) else ()
                depth = float(first[j]) if len(first) == len(room) else 0.0
                room[j] = min(room[j], self._share[j] * (depth if 0.0 <= depth < math.inf else 0.0))
            if gross[j]:
                room[j] = max(room[j] - gross[j] * self.value[j], 0.0)
        return room

    def save(self) -> list[Any]:
        """Return the state."""
        return [list(self.value), [list(odd) for odd in self._odd]]

    def restore(self, saved: list[Any]) -> None:
        """Take over a state."""
        value, odd = [float(v) for v in saved[0]], [[float(price), int(count)] for price, count in saved[1]]
        if len(value) != len(self._names) or len(odd) != len(value):
            raise ValueError("quotes")
        self.value, self._odd = value, odd
