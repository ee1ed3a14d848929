"""Sliding windows in O(1) amortised per bar that never subtract: what leaves a window leaves no rounding behind.

A queue of two stacks: new bars go onto the back with a running aggregate, old ones leave from the front, where every
entry carries the aggregate of itself and all younger entries of the front. When the front is empty the back is turned
over onto it, once per bar. The window's aggregate is front ⊕ back; each value is in it through at most W additions,
however long the series.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Any

__all__ = ["MedianWindow", "MomentWindow", "SumWindow"]


class SumWindow:
    """Number of entries and sums of two columns over the entries younger than a time."""

    __slots__ = ("_back", "_front", "_sums")

    def __init__(self) -> None:
        self._front: list[tuple[int, int, float, float]] = []  # (ns, n, Σa, Σb) of this entry and all younger ones
        self._back: list[tuple[int, float, float]] = []
        self._sums = (0.0, 0.0)

    def push(self, ns: int, a: float, b: float = 0.0) -> None:
        """Append an entry; times do not go back."""
        self._back.append((ns, a, b))
        self._sums = (self._sums[0] + a, self._sums[1] + b)

    def drop(self, until_ns: int) -> None:
        """Remove the entries with ns <= ``until_ns``."""
        front = self._front
        while True:
            while front and front[-1][0] <= until_ns:
                front.pop()
            if front or not self._back or self._back[0][0] > until_ns:
                return
            n, sum_a, sum_b = 0, 0.0, 0.0
            for ns, a, b in reversed(self._back):
                n, sum_a, sum_b = n + 1, sum_a + a, sum_b + b
                front.append((ns, n, sum_a, sum_b))
            self._back.clear()
            self._sums = (0.0, 0.0)

    def total(self) -> tuple[int, float, float]:
        """Return (n, Σa, Σb)."""
        _, n, a, b = self._front[-1] if self._front else (0, 0, 0.0, 0.0)
        return n + len(self._back), a + self._sums[0], b + self._sums[1]

    def state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"front": [*map(list, self._front)], "back": [*map(list, self._back)], "sums": list(self._sums)}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._front = [(int(ns), int(n), float(a), float(b)) for ns, n, a, b in state["front"]]
        self._back = [(int(ns), float(a), float(b)) for ns, a, b in state["back"]]
        self._sums = (float(state["sums"][0]), float(state["sums"][1]))


class MomentWindow:
    """Number, mean and sum of squared deviations over the entries younger than a time.

    Values are taken relative to an anchor inside the window, renewed whenever the stacks turn over, so that a level
    far from zero or a slow drift costs no digits; parts are joined by Chan, Golub & LeVeque (1983), eq. 2.1.
    """

    __slots__ = ("_anchor", "_back", "_front", "_tail")

    def __init__(self) -> None:
        self._anchor = 0.0
        self._front: list[tuple[int, int, float, float]] = []  # (ns, n, mean, M2) of this entry and all younger ones
        self._back: list[tuple[int, float]] = []
        self._tail = (0, 0.0, 0.0)

    def push(self, ns: int, value: float) -> None:
        """Append an entry; times do not go back."""
        if not self._front and not self._back:
            self._anchor = value
        self._back.append((ns, value))
        self._tail = _add(self._tail, value - self._anchor)

    def drop(self, until_ns: int) -> None:
        """Remove the entries with ns <= ``until_ns``."""
        front = self._front
        while True:
            while front and front[-1][0] <= until_ns:
                front.pop()
            if front or not self._back or self._back[0][0] > until_ns:
                return
            self._anchor = self._back[-1][1]
            part = (0, 0.0, 0.0)
            for ns, value in reversed(self._back):
                part = _add(part, value - self._anchor)
                front.append((ns, *part))
            self._back.clear()
            self._tail = (0, 0.0, 0.0)

    def scores(self, value: float, least: int, floor: float) -> float:
        """Return (value − mean) / max(sd, floor) with the sample sd; NaN below ``least`` or two entries."""
        n2, mean2, m2 = self._tail
        n1, mean1, m1 = self._front[-1][1:] if self._front else (0, 0.0, 0.0)
        n = n1 + n2
        if n < max(least, 2):
            return math.nan
        gap = mean2 - mean1
        mean = mean1 + gap * (n2 / n)
        spread = m1 + m2 + gap * gap * (n1 * n2 / n)
        return (value - self._anchor - mean) / max(math.sqrt(spread / (n - 1)), floor)

    def state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "anchor": self._anchor,
            "front": [*map(list, self._front)],
            "back": [*map(list, self._back)],
            "tail": list(self._tail),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._anchor = float(state["anchor"])
        self._front = [(int(ns), int(n), float(mean), float(m2)) for ns, n, mean, m2 in state["front"]]
        self._back = [(int(ns), float(value)) for ns, value in state["back"]]
        n, mean, m2 = state["tail"]
        self._tail = (int(n), float(mean), float(m2))


class MedianWindow:
    """Median and MAD over the entries younger than a time: a sorted list, O(log W) comparisons per bar.

    With the values sorted, the distances to the median are two sorted runs, one to each side, so that their median is
    found by bisection too.
    """

    __slots__ = ("_queue", "_sorted")

    def __init__(self) -> None:
        self._queue: deque[tuple[int, float]] = deque()
        self._sorted: list[float] = []

    def push(self, ns: int, value: float) -> None:
        """Append an entry; times do not go back."""
        self._queue.append((ns, value))
        insort(self._sorted, value)

    def drop(self, until_ns: int) -> None:
        """Remove the entries with ns <= ``until_ns``."""
        while self._queue and self._queue[0][0] <= until_ns:
            value = self._queue.popleft()[1]
            del self._sorted[bisect_left(self._sorted, value)]

    def scores(self, value: float, least: int, floor: float) -> float:
        """Return (value − median) / max(1.4826 MAD, floor); NaN below ``least`` or two entries."""
        x = self._sorted
        n = len(x)
        if n < max(least, 2):
            return math.nan
        middle = 0.5 * (x[(n - 1) // 2] + x[n // 2])
        mad = 0.5 * (_nearest(x, middle, (n - 1) // 2) + _nearest(x, middle, n // 2))
        return (value - middle) / max(1.4826 * mad, floor)

    def state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"queue": [*map(list, self._queue)]}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._queue = deque((int(ns), float(value)) for ns, value in state["queue"])
        self._sorted = sorted(value for _, value in self._queue)


def _add(part: tuple[int, float, float], value: float) -> tuple[int, float, float]:
    """Add a value to (n, mean, M2): Welford (1962)."""
    n = part[0] + 1
    gap = value - part[1]
    mean = part[1] + gap / n
    return n, mean, part[2] + gap * (value - mean)


def _nearest(x: list[float], middle: float, rank: int) -> float:
    """Return the ``rank``-th smallest |x − middle| (from 0), x sorted: k from the left run, the rest from the right."""
    split = bisect_left(x, middle)
    low, high = max(0, rank + 1 - (len(x) - split)), min(rank + 1, split)
    while low < high:  # the least k whose next left distance is not below the last right one taken
        k = (low + high) // 2
        if middle - x[split - 1 - k] < x[split + rank - k] - middle:
            low = k + 1
        else:
            high = k
    left = middle - x[split - low] if low else -math.inf
    right = x[split + rank - low] - middle if rank + 1 - low else -math.inf
    return max(left, right)
