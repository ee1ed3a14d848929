"""The controller's clock: slices counted from the first observation, and a clock that goes back."""

from __future__ import annotations

import math
from typing import Any

from crosswind.problems.hedge.controller.ladder import Latch

__all__ = ["SliceClock"]

_MANY = 1e15


class SliceClock:
    """Counts slices of ``dt_s`` from the first time it is given.

    A time before the last one is refused, until the clock has passed the old time, or has gone on evenly
    ``rearm_after`` times: then that is the time now, and the slice under way stays the one under way.

    Parameters
    ----------
    dt_s
        Length of a slice [s].
    rearm_after
        At least 1.

    Attributes
    ----------
    now, slice
        Last time believed [s]; slices since the first.
    gone_s, passed
        Seconds and slices between the last two times believed.
    adopted
        Whether the last time was one to which the clock had gone back.
    """

    __slots__ = ("_begin", "_odd", "adopted", "dt_s", "gone_s", "latch", "now", "passed", "slice")

    def __init__(self, dt_s: float, rearm_after: int) -> None:
        self.dt_s = dt_s
        self.latch = Latch(1, rearm_after)
        self.now, self.slice, self.gone_s, self.passed, self.adopted = -math.inf, 0, 0.0, 0, False
        self._begin, self._odd = math.nan, math.nan

    def move(self, now: float) -> str:
        """Move on to a time; return what is wrong with it, nothing where it is good."""
        self.gone_s, self.passed, self.adopted = 0.0, 0, False
        if not math.isfinite(now):
            self.latch.tripped, self.latch.count = True, 0
            return "no time"
        if now < self.now:
            even = not now < self._odd
            self._odd, self.latch.tripped = now, True
            if not even:
                self.latch.count = 0
            elif not self.latch.report(True):
                self._begin, self.now, self.adopted = now - self.slice * self.dt_s, now, True
                return ""
            return f"the clock went back from {self.now:.6f} to {now:.6f}"
        latch = self.latch
        latch.tripped, latch.count, self._odd = False, 0, math.nan
        if self._begin != self._begin:
            self._begin = self.now = now
        self.gone_s, self.now = now - self.now, now
        slices = (now - self._begin) / self.dt_s + 1e-6
        at = int(slices if slices < _MANY else _MANY)
        self.passed, self.slice = at - self.slice, at
        return ""

    def save(self) -> list[Any]:
        """Return the state."""
        return [self.now, self._begin, self._odd, self.slice, *self.latch.save()]

    def restore(self, saved: list[Any]) -> None:
        """Take over a state."""
        self.now, self._begin, self._odd = (float(v) for v in saved[:3])
        self.slice = int(saved[3])
        self.latch.restore(saved[4:])
        self.gone_s, self.passed, self.adopted = 0.0, 0, False
