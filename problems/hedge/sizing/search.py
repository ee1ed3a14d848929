r"""Whole contracts of least risk and cost, by branch and bound with a bound that holds whatever the relaxation reached.

.. math::

    \min_{z \in \mathbb{Z}^m,\ l \le z \le u} F(z) = z'Qz - 2g'z + \sum_j c_j |z_j - s_j|

Each node relaxes the whole numbers to the box and minimises by coordinate descent, with a Newton step on the free
coordinates. With s a subgradient of F at the relaxed x, F(y) >= F(x) − ¼ s'Q⁻¹s for every y of the box (Q is positive
definite), so a node is cut by a true bound even where the descent stopped early.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crosswind.solvers.errors import InvalidInput, SolverFailure

__all__ = ["LotSearch", "best_lots", "relaxed_lots"]

_Float = npt.NDArray[np.float64]
_WHOLE = 1e-9  # a coordinate this close to a whole number is that number
_SWEEPS = 400
_CORNERS = 6  # with up to so many coordinates all corners around the relaxation are tried first


@dataclass(frozen=True, eq=False)
class LotSearch:
    """Result of :func:`best_lots`.

    Parameters
    ----------
    lots
        Best whole numbers, (m,).
    relaxed
        Best real numbers, (m,).
    value, bound
        F at ``lots``, and a value that no whole numbers undercut; in the unit of F, both less F at rounded ``relaxed``.
    nodes
        Boxes that were looked at.
    """

    lots: npt.NDArray[np.int64]
    relaxed: _Float
    value: float
    bound: float
    nodes: int

    @property
    def gap(self) -> float:
        """``value − bound``, by how much the answer can at most be improved."""
        return self.value - self.bound


class _Objective:
    """F around a whole origin, in coordinates scaled to a unit diagonal."""

    def __init__(self, Q: _Float, g: _Float, c: _Float, start: _Float) -> None:
        self.size = np.sqrt(np.diag(Q))
        self.Q = Q / np.outer(self.size, self.size)
        self.g, self.c = g / self.size, c / self.size
        self.start = start * self.size
        self.least = float(np.linalg.eigvalsh(self.Q)[0])

    def value(self, x: _Float) -> float:
        return float(x @ self.Q @ x - 2.0 * (self.g @ x) + self.c @ np.abs(x - self.start))

    def sides(self, x: _Float) -> tuple[_Float, _Float]:
        """Return the derivatives to the left and to the right of each coordinate."""
        slope = 2.0 * (self.Q @ x - self.g)
        right = slope + np.where(x >= self.start, self.c, -self.c)
        left = slope + np.where(x > self.start, self.c, -self.c)
        return left, right

    def subgradient(self, x: _Float, low: _Float, high: _Float) -> _Float:
        """Return the smallest subgradient of F on the box at x; zero at the minimum."""
        left, right = self.sides(x)
        rising = np.where(x < high, np.minimum(right, 0.0), 0.0)  # F falls to the right
        falling = np.where(x > low, np.maximum(left, 0.0), 0.0)  # F falls to the left
        return rising + falling

    def minimise(self, x: _Float, low: _Float, high: _Float) -> _Float:
        x = np.clip(x, low, high)
        goal = 1e-13 * (np.abs(self.g).max(initial=0.0) + self.c.max(initial=0.0))
        for _ in range(_SWEEPS):
            for j in range(len(x)):
                pull = self.g[j] - (self.Q[j] @ x - self.Q[j, j] * x[j])
                up, down = pull - 0.5 * self.c[j], pull + 0.5 * self.c[j]
                best = up if up > self.start[j] else down if down < self.start[j] else self.start[j]
                x[j] = min(max(best, low[j]), high[j])
            x = self._newton(x, low, high)
            if np.abs(self.subgradient(x, low, high)).max(initial=0.0) <= goal:
                break
        return x

    def _newton(self, x: _Float, low: _Float, high: _Float) -> _Float:
        """Solve on the coordinates off bounds and kink; keep it where it stays there and is no worse."""
        free = (x > low) & (x < high) & ((x != self.start) | (self.c == 0.0))
        if not free.any():
            return x
        side = np.sign(x - self.start)
        rest = np.where(free, 0.0, x)
        target = self.g - self.Q @ rest - 0.5 * self.c * side
        y = rest.copy()
        y[free] = np.linalg.solve(self.Q[np.ix_(free, free)], target[free])
        inside = (y >= low).all() and (y <= high).all() and (np.sign(y - self.start) == side)[free & (self.c > 0)].all()
        return y if inside and self.value(y) <= self.value(x) else x

    def bound(self, x: _Float, low: _Float, high: _Float) -> float:
        s = self.subgradient(x, low, high)
        return self.value(x) - float(s @ s) / (4.0 * self.least)


def best_lots(
    Q: _Float,
    g: _Float,
    c: _Float,
    start: _Float,
    low: _Float,
    high: _Float,
    max_nodes: int = 100_000,
) -> LotSearch:
    """Find the whole numbers of least F (formula in the module's text).

    Parameters
    ----------
    Q, g, c, start
        Q (m, m) symmetric positive definite, g (m,), c (m,) >= 0, s (m,), all in lots.
    low, high
        Bounds (m,) [lots]; infinite ones are allowed. The whole numbers between them are tried.
    max_nodes
        Boxes to look at.

    Returns
    -------
    LotSearch
        Proven optimal to 1e-12 of the size of F.

    Raises
    ------
    InvalidInput
        Where Q is not positive definite, or no whole number lies between two bounds.
    SolverFailure
        Where the boxes do not suffice: the message gives the gap that is left.
    """
    spread = (
        float(np.linalg.eigvalsh(Q / np.sqrt(np.outer(np.diag(Q), np.diag(Q))))[0]) if (np.diag(Q) > 0).all() else 0
    )
    if not spread > 1e-10:
        raise InvalidInput(
            "the risk of the instruments is singular: some of them cannot be told apart",
            field="instruments",
            value=spread,
            remedy="give each its basis_vol, or drop one of those on the same factor",
        )
    low, high = np.ceil(low - _WHOLE), np.floor(high + _WHOLE)
    if (low > high).any():
        raise InvalidInput("no whole lot lies between", field="limits", value=(low, high), remedy="widen the limits")
    whole = _Objective(Q, g, c, start)
    relaxed = whole.minimise(np.zeros(len(g)), low * whole.size, high * whole.size) / whole.size
    origin = np.clip(np.rint(relaxed), low, high)
    # Around whole numbers near the answer all terms are small, and their differences keep their digits.
    near = _Objective(Q, g - Q @ origin, c, start - origin)
    size, low, high = near.size, low - origin, high - origin
    base = near.value(np.zeros(len(g)))
    best, value = np.zeros(len(g)), base
    if len(g) <= _CORNERS:
        rest = relaxed - origin
        for corner in itertools.product(*({np.floor(r), np.ceil(r)} for r in rest)):
            trial = np.clip(np.array(corner), low, high)
            if near.value(trial * size) < value:
                best, value = trial, near.value(trial * size)
    tol = 1e-12 * (abs(base) + float(near.g @ np.linalg.solve(near.Q, near.g))) + 1e-300
    count, cut = itertools.count(), np.inf
    heap: list[tuple[float, int, _Float, _Float, _Float]] = []

    def look(low: _Float, high: _Float, guess: _Float) -> None:
        """Relax a box: take its point where that is whole, else keep it for branching unless it is cut."""
        nonlocal best, value, cut
        x = near.minimise(guess, low * size, high * size)
        bound, lots = near.bound(x, low * size, high * size), x / size
        trial = np.clip(np.rint(lots), low, high)
        if near.value(trial * size) < value:
            best, value = trial, near.value(trial * size)
        if bound >= value - tol or np.abs(lots - np.rint(lots)).max() <= _WHOLE:
            cut = min(cut, bound)
        else:
            heapq.heappush(heap, (bound, next(count), lots, low, high))

    look(low, high, (relaxed - origin) * size)
    nodes = 1
    while heap and heap[0][0] < value - tol:
        if nodes >= max_nodes:
            raise SolverFailure(
                f"{nodes} boxes do not prove the best whole contracts; the gap left is {value - heap[0][0]:.3g}",
                field="max_nodes",
                value=max_nodes,
                remedy="narrow the limits, or hedge with fewer instruments",
            )
        _, _, lots, low, high = heapq.heappop(heap)
        j = int(np.argmax(np.abs(lots - np.rint(lots))))
        for lower, upper in ((low[j], np.floor(lots[j])), (np.ceil(lots[j]), high[j])):
            a, b = low.copy(), high.copy()
            a[j], b[j] = lower, upper
            if lower <= upper:
                look(a, b, lots * size)
                nodes += 1
    bound = min(cut, heap[0][0] if heap else np.inf, value)
    return LotSearch((best + origin).astype(np.int64), relaxed, value - base, bound - base, nodes)


def relaxed_lots(Q: _Float, g: _Float, c: _Float, start: _Float, low: _Float, high: _Float) -> _Float:
    """Return the real numbers of least F; arguments as for :func:`best_lots`."""
    whole = _Objective(Q, g, c, start)
    x: _Float = whole.minimise(np.zeros(len(g)), low * whole.size, high * whole.size) / whole.size
    return x
