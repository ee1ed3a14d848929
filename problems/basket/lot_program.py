"""The integer program behind a rounding: whole lots of some names, nearest to the schedule, within every limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from crosswind.problems.basket.inputs import FloatArray
from crosswind.problems.basket.lots import IntArray, snap
from crosswind.problems.basket.lowering import COMPLETION

if TYPE_CHECKING:
    from crosswind.optim.limits import BandLimit, GroupCap, RateLimit
    from crosswind.problems.basket.repair import LotRounding

__all__ = ["MIN_CLIP", "TOL", "LotProgram"]

MIN_CLIP = "minimum clip"
TOL = 1e-9  # relative size of a breach that is rounding
_INSIDE = 0.1 * TOL  # how much of it the integer program may use: its own solver rounds as well
_SECONDS = 20.0


class LotProgram:
    """min Σ lot |n − exact| over whole lots n of the names ``free``, all others held at ``lots``.

    Variables, all integers: the lots n of each cell on the side of the schedule; how they differ from the whole lots k
    below it, n = k + up + more − down with up ≤ 1, which costs 1 − 2f for the fraction f above k, and 1 for each other
    lot; and, where a clip is larger than a lot, whether the cell trades at all. HiGHS solves it through
    :func:`scipy.optimize.milp`.
    """

    def __init__(
        self, rounding: LotRounding, lots: IntArray, free: IntArray, mending: tuple[str, str] | None = None
    ) -> None:
        self.mending = mending  # limit and label whose rows must hold; its other labels may stay as they are
        self.rounding, self.lots, self.free = rounding, lots, free
        T, F = len(lots), len(free)
        self.T, self.F = T, F
        self.lot, self.clip, self.total = rounding.lot[free], rounding.clip[free], rounding.total[free]
        exact = rounding.exact[:, free]
        order = np.where(self.total < 0, -1.0, 1.0)
        self.side = np.where(exact == 0.0, order, np.sign(exact))  # a cell keeps the side of the schedule
        most = np.where(self.side < 0.0, -rounding.lower[:, free], rounding.upper[:, free])
        least = np.where(self.side < 0.0, -rounding.upper[:, free], rounding.lower[:, free])
        reach = 2 + 2 * np.where(self.clip > 1, self.clip, 0)
        self.size = np.abs(snap(exact))
        self.high = np.minimum(np.maximum(most, 0.0), np.ceil(self.size) + reach)
        low = np.where(self.clip > 1, 0.0, np.maximum(np.floor(self.size) - reach, 0.0))
        self.low = np.minimum(np.maximum(low, least), self.high)
        self.cells = T * F
        self.at = np.arange(self.cells).reshape(T, F)
        self.gathers = np.flatnonzero(self.clip > 1)
        self.switches = T * len(self.gathers)
        self.n = 4 * self.cells + self.switches
        held = lots.copy()
        held[:, free] = 0
        self.held = held * rounding.lot  # notional of the names that stay
        self.rows: list[Any] = []
        self.edges: list[tuple[FloatArray, FloatArray]] = []

    def _add(self, values: Any, rows: Any, columns: Any, low: FloatArray, high: FloatArray) -> None:
        v, r, c = (np.asarray(part).ravel() for part in np.broadcast_arrays(values, rows, columns))
        self.rows.append(sparse.csr_array(sparse.coo_array((v, (r, c)), shape=(len(low), self.n))))
        self.edges.append((np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)))

    def distances(self) -> None:
        """Add n − up − more + down = k."""
        each = np.arange(self.cells)
        columns = np.concatenate([each + part * self.cells for part in range(4)])
        values = np.repeat([1.0, -1.0, -1.0, 1.0], self.cells)
        below = np.floor(self.size).ravel()
        self._add(values, np.tile(each, 4), columns, below, below)

    def completion(self) -> None:
        """Add Σ_t n = total."""
        names = np.tile(np.arange(self.F), (self.T, 1))
        self._add(self.side, names, self.at, self.total.astype(float), self.total.astype(float))

    def clips(self) -> None:
        """Add clip·y ≤ n ≤ high·y."""
        G = self.switches
        where, switch, each = self.at[:, self.gathers].ravel(), 4 * self.cells + np.arange(G), np.arange(G)
        rows, columns, ones = np.concatenate([each, each]), np.concatenate([where, switch]), np.ones(G)
        least = np.tile(self.clip[self.gathers].astype(float), self.T)
        self._add(np.concatenate([ones, -least]), rows, columns, np.zeros(G), np.full(G, np.inf))
        self._add(np.concatenate([ones, -self.high.ravel()[where]]), rows, columns, np.full(G, -np.inf), np.zeros(G))

    def _waits(self, limit: str, label: str) -> bool:
        """Whether a row belongs to the limit that is being mended, but is not its turn."""
        return self.mending is not None and limit == self.mending[0] and label != self.mending[1]

    def caps(self, limit: GroupCap) -> None:
        """Add Σ_i m_i |u_i| ≤ cap."""
        base = np.abs(self.held) @ limit.membership.T
        for g, member in enumerate(limit.membership[:, self.free]):
            if self._waits(limit.name, limit.labels[g]):
                continue
            hit, bounded = np.flatnonzero(member), np.flatnonzero(np.isfinite(limit.cap[:, g]))
            if len(hit) and len(bounded):
                rows = np.arange(len(bounded))[:, None]
                room = limit.cap[bounded, g] * (1.0 + _INSIDE) - base[bounded, g]
                nothing = np.full(len(bounded), -np.inf)
                self._add(member[hit] * self.lot[hit], rows, self.at[np.ix_(bounded, hit)], nothing, room)

    def bands(self, limit: BandLimit, low: FloatArray, high: FloatArray) -> None:
        """Add lower ≤ V'q_t ≤ upper, q_t what remains after slice t."""
        start = self.rounding.start
        base = (start - np.cumsum(self.held, axis=0)) @ limit.matrix.T
        slack = _INSIDE * (np.abs(limit.matrix) @ np.abs(start))
        for b, vector in enumerate(limit.matrix[:, self.free]):
            if self._waits(limit.name, limit.labels[b]):
                continue
            hit = np.flatnonzero(vector)
            bounded = np.flatnonzero(np.isfinite(low[:, b]) | np.isfinite(high[:, b]))
            if not len(hit) or not len(bounded):
                continue
            rows = np.concatenate([np.full(t + 1, k) for k, t in enumerate(bounded)])
            slices = np.concatenate([np.arange(t + 1) for t in bounded])
            values = -(vector[hit] * self.lot[hit]) * self.side[np.ix_(slices, hit)]
            shift = base[bounded, b]
            self._add(
                values,
                rows[:, None],
                self.at[np.ix_(slices, hit)],
                low[bounded, b] - shift - slack[b],
                high[bounded, b] - shift + slack[b],
            )

    def changes(self, limit: RateLimit) -> None:
        """Add |u_t − u_{t−1}| ≤ δ_t."""
        delta = limit.delta[:, self.free] * (1.0 + _INSIDE)
        value = self.side * self.lot
        t, f = np.nonzero(np.isfinite(delta[1:]))
        if len(t):
            each = np.arange(len(t))
            rows, columns = np.concatenate([each, each]), np.concatenate([self.at[t + 1, f], self.at[t, f]])
            self._add(np.concatenate([value[t + 1, f], -value[t, f]]), rows, columns, -delta[t + 1, f], delta[t + 1, f])
        first = np.flatnonzero(np.isfinite(delta[0]))
        if limit.previous is not None and len(first):
            before = limit.previous[self.free][first]
            rows = np.arange(len(first))
            self._add(value[0, first], rows, self.at[0, first], before - delta[0, first], before + delta[0, first])

    def solve(self, without: tuple[str, ...]) -> IntArray | None:
        """Return all lots (T, N) with those of the free names moved, or None when there is no answer in time."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        from crosswind.optim.limits import BandLimit, GroupCap, RateLimit

        self.distances()
        if COMPLETION not in without:
            self.completion()
        if self.switches and MIN_CLIP not in without:
            self.clips()
        for limit in self.rounding.hard_limits():
            if limit.name in without:
                continue
            if isinstance(limit, GroupCap):
                self.caps(limit)
            elif isinstance(limit, BandLimit):
                self.bands(limit, *self.rounding.edges(limit))
            elif isinstance(limit, RateLimit):
                self.changes(limit)
        A = sparse.csr_array(sparse.vstack(self.rows))
        low, high = (np.concatenate(part) for part in zip(*self.edges, strict=True))
        # Rows in currency are brought near one: HiGHS measures feasibility absolutely.
        scale = np.maximum(abs(A).max(axis=1).toarray().ravel(), 1e-300)
        A = sparse.csr_array(sparse.diags_array(1.0 / scale) @ A)
        unit, fraction = np.tile(self.lot / self.lot.mean(), self.T), (self.size - np.floor(self.size)).ravel()
        none, switches, inf = np.zeros(self.cells), np.ones(self.switches), np.full(self.cells, np.inf)
        found = milp(
            np.concatenate([none, unit * (1.0 - 2.0 * fraction), unit, unit, 0.0 * switches]),
            constraints=LinearConstraint(A, low / scale, high / scale),
            integrality=np.ones(self.n, dtype=np.int64),
            bounds=Bounds(
                np.concatenate([self.low.ravel(), none, none, none, 0.0 * switches]),
                np.concatenate([self.high.ravel(), none + 1.0, inf, inf, switches]),
            ),
            options={"time_limit": _SECONDS, "mip_rel_gap": 0.02},
        )
        if found.x is None:
            return None
        moved = self.lots.copy()
        moved[:, self.free] = (np.rint(found.x[: self.cells]).reshape(self.T, self.F) * self.side).astype(np.int64)
        return moved
