"""Whole lots that keep every limit: nearest first, an integer program where limits are shared, else a typed refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from crosswind.problems.basket.inputs import FloatArray
from crosswind.problems.basket.lots import IntArray, round_to_lots, snap
from crosswind.problems.basket.lowering import COMPLETION, MUST_FINISH, money
from crosswind.solvers.errors import LimitBreach

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["MIN_CLIP", "LotRounding"]

MIN_CLIP = "minimum clip"
_TOL = 1e-9  # relative size of a breach that is rounding
_CELLS = 6_000  # most cells that one integer program moves
_PER_ROW = 40  # names of a broken limit that are tried first: those with the finest lots
_SECONDS = 20.0


@dataclass(frozen=True, eq=False)
class _Row:
    """One broken row of a limit: which, where, in which slice, by how much [currency], and the names in it."""

    limit: str
    label: str
    slice: int
    amount: float
    names: IntArray


@dataclass(eq=False)
class LotRounding:
    """The nearest whole lots n (T, N) of a schedule that keep completion and every hard limit.

    Parameters
    ----------
    problem
        The basket.
    exact
        Lots of the schedule (T, N), signed, not whole.
    total
        Whole lots per name in all (N,).
    lot
        Currency per lot (N,).
    clip
        Smallest trade in lots (N,), 1 for none.
    """

    problem: BasketProblem
    exact: FloatArray
    total: IntArray
    lot: FloatArray
    clip: IntArray
    lower: FloatArray = field(init=False)
    upper: FloatArray = field(init=False)
    start: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        from crosswind.optim.limits import TradeLimit

        p, a = self.problem, self.problem.arrays
        self.lower, self.upper = np.full(self.exact.shape, -np.inf), np.full(self.exact.shape, np.inf)
        for limit in p.limits:
            if isinstance(limit, TradeLimit):
                self.lower = np.maximum(self.lower, np.ceil(snap(limit.lower / self.lot)))
                self.upper = np.minimum(self.upper, np.floor(snap(limit.upper / self.lot)))
        # What is still to trade counts in whole lots: the part of an order that no lot can fill is not a position.
        self.start = np.where(a.hard, a.target + self.total * self.lot, a.inventory)

    def solve(self) -> IntArray:
        """Return whole lots (T, N), int64.

        Raises
        ------
        LimitBreach
            Naming the limit, where, the lot and what is missing.
        """
        self._check_names()
        lots = self._nearest()
        broken = self._broken(lots)
        if not broken:
            return lots
        repaired = self._repair(lots, broken, ())
        if repaired is not None:
            return repaired
        raise self._refusal(lots, broken)

    # names on their own ------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        """Refuse what a name cannot do on its own: less room than lots, or an order smaller than the clip."""
        side = np.where(self.total < 0, -1.0, 1.0)
        room = np.where(side < 0, -self.lower, self.upper)
        usable = np.where(room >= self.clip, np.maximum(room, 0.0), 0.0)
        short = np.abs(self.total) - usable.sum(axis=0)
        for i in np.flatnonzero((short > 0.0) & (self.total != 0)):
            name = self.problem.names[i]
            clipped = np.where(room > 0.0, room, 0.0)[:, i].sum() >= abs(self.total[i])
            raise self._error(
                MIN_CLIP if clipped else self._box_owner(i),
                f"leaves room for {usable[:, i].sum():g} of {abs(int(self.total[i]))} lots of {name}",
                i,
                float(short[i]) * self.lot[i],
            )
        for i in np.flatnonzero((self.total != 0) & (np.abs(self.total) < self.clip)):
            raise self._error(
                MIN_CLIP,
                f"the order of {self.problem.names[i]} is {abs(int(self.total[i]))} lots, less than a clip of "
                f"{int(self.clip[i])}",
                i,
                float(self.clip[i] - abs(self.total[i])) * self.lot[i],
            )

    def _box_owner(self, i: int) -> str:
        """Return the limit with the least room for name i: a closed slice is nobody's share of a lot."""
        from crosswind.optim.limits import TradeLimit

        side = -1.0 if self.total[i] < 0 else 1.0
        rooms = {}
        for limit in self.problem.limits:
            if isinstance(limit, TradeLimit):
                edge = np.where(side < 0, -limit.lower[:, i], limit.upper[:, i])
                rooms[limit.name] = float(np.sum(np.floor(snap(edge / self.lot[i]))))
        return min(rooms, key=lambda name: rooms[name]) if rooms else COMPLETION

    def _nearest(self) -> IntArray:
        """Return the largest remainders of each name, gathered into clips where these are larger than a lot."""
        lots = np.empty(self.exact.shape, dtype=np.int64)
        room = np.where(self.exact < 0.0, -self.lower, self.upper)
        for i in range(self.exact.shape[1]):
            lots[:, i] = round_to_lots(self.exact[:, i], int(self.total[i]), room[:, i])
        small = (lots != 0) & (np.abs(lots) < self.clip)
        for i in np.flatnonzero(small.any(axis=0)):
            lots[:, i] = _gathered(lots[:, i], int(self.clip[i]), self.lower[:, i], self.upper[:, i])
        return lots

    # limits that names share -------------------------------------------------------------------------------------

    def _rows(self) -> list[Limit]:
        from crosswind.optim.limits import BandLimit

        return [x for x in self.problem.limits if not (isinstance(x, BandLimit) and x.soft is not None)]

    def _broken(self, lots: IntArray) -> list[_Row]:
        """Return the rows that whole lots break, worst first."""
        from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit

        u = lots * self.lot
        q = self.start - np.cumsum(u, axis=0)
        found: list[_Row] = []
        everyone = np.arange(len(self.lot))

        def note(limit: Limit, excess: FloatArray, size: FloatArray, names: list[Any], labels: tuple[str, ...]) -> None:
            bad = excess > _TOL * size
            for t, g in np.argwhere(bad):
                found.append(_Row(limit.name, labels[g], int(t), float(excess[t, g]), names[g]))

        for limit in self._rows():
            if isinstance(limit, TradeLimit):
                excess = np.maximum(self.lower - lots, lots - self.upper) * self.lot
                mine = np.maximum(limit.lower - u, u - limit.upper)
                each = [everyone[i : i + 1] for i in everyone]
                note(limit, np.minimum(excess, mine), np.abs(u) + self.lot, each, self.problem.names)
            elif isinstance(limit, GroupCap):
                members = [np.flatnonzero(row) for row in limit.membership]
                note(limit, np.abs(u) @ limit.membership.T - limit.cap, limit.cap, members, limit.labels)
            elif isinstance(limit, RateLimit):
                before = u[:1] if limit.previous is None else limit.previous[None, :]
                change = np.abs(np.diff(np.vstack([before, u]), axis=0)) - limit.delta
                each = [everyone[i : i + 1] for i in everyone]
                note(limit, change, np.where(np.isfinite(limit.delta), limit.delta, 1.0), each, self.problem.names)
            elif isinstance(limit, BandLimit):
                low, high = self._edges(limit)
                value = q @ limit.matrix.T
                size = np.abs(limit.matrix) @ np.abs(self.start) + np.abs(value)
                members = [np.flatnonzero(row) for row in limit.matrix]
                note(limit, np.maximum(low - value, value - high), size, members, limit.labels)
        for t, i in np.argwhere((lots != 0) & (np.abs(lots) < self.clip)):
            missing = float(self.clip[i] - abs(lots[t, i])) * self.lot[i]
            found.append(_Row(MIN_CLIP, self.problem.names[i], int(t), missing, everyone[i : i + 1]))
        for i in np.flatnonzero(lots.sum(axis=0) != self.total):
            missing = float(abs(lots[:, i].sum() - self.total[i])) * self.lot[i]
            found.append(_Row(COMPLETION, self.problem.names[i], len(lots) - 1, missing, everyone[i : i + 1]))
        return sorted(found, key=lambda row: -row.amount)

    def _edges(self, limit: Any) -> tuple[FloatArray, FloatArray]:
        """Return a band's edges; where an order must be finished under a penalty, the last lot is its precision."""
        if limit.name != f"{MUST_FINISH} (inventory)":
            return limit.lower, limit.upper
        half = 0.5 * (1.0 + _TOL) * np.abs(limit.matrix) @ self.lot
        return limit.lower - half, limit.upper + half

    def _repair(self, lots: IntArray, broken: list[_Row], without: tuple[str, ...]) -> IntArray | None:
        """Return whole lots that keep all limits but ``without``, or None when none were found."""
        few: set[int] = set()
        for row in broken:
            few.update(row.names[np.argsort(self.lot[row.names], kind="stable")][:_PER_ROW].tolist())
            if len(few) * len(lots) > _CELLS:
                break
        tries = [sorted(few)]
        if lots.size <= _CELLS and len(few) < lots.shape[1]:
            tries.append(list(range(lots.shape[1])))
        for free in tries:
            moved = self._program(lots, np.array(free), without)
            if moved is None:
                continue
            rest = [row for row in self._broken(moved) if row.limit not in without]
            if not rest:
                return moved
        return None

    def _program(self, lots: IntArray, free: IntArray, without: tuple[str, ...]) -> IntArray | None:
        """Move the lots of the names ``free``: least Σ lot·|n − exact| subject to every limit that they meet."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        from crosswind.optim.limits import BandLimit, GroupCap, RateLimit

        T, F = len(lots), len(free)
        exact, lot, clip, total = self.exact[:, free], self.lot[free], self.clip[free], self.total[free]
        order = np.where(total < 0, -1.0, 1.0)
        side = np.where(exact == 0.0, order, np.sign(exact))  # a cell keeps the side of the schedule
        most = np.where(side < 0.0, -self.lower[:, free], self.upper[:, free])
        reach = 2 + 2 * np.where(clip > 1, clip, 0)
        size = np.abs(snap(exact))
        high = np.minimum(np.maximum(most, 0.0), np.ceil(size) + reach)
        low = np.where(clip > 1, 0.0, np.maximum(np.floor(size) - reach, 0.0))
        low = np.minimum(low, high)
        cells = T * F
        gathers = np.flatnonzero(clip > 1)
        G = T * len(gathers)
        n = 2 * cells + G  # lots, deviations, whether a cell trades
        at = np.arange(cells).reshape(T, F)
        rows: list[sparse.csr_array] = []
        edges: list[tuple[FloatArray, FloatArray]] = []

        def add(matrix: Any, lo: FloatArray, hi: FloatArray) -> None:
            rows.append(sparse.csr_array(matrix))
            edges.append((np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)))

        eye = sparse.eye_array(cells, format="csr")
        none = sparse.csr_array((cells, G))
        add(sparse.hstack([eye, -eye, none]), np.full(cells, -np.inf), size.ravel())
        add(sparse.hstack([eye, eye, none]), size.ravel(), np.full(cells, np.inf))
        if COMPLETION not in without:
            tally = sparse.coo_array((side.ravel(), (np.tile(np.arange(F), T), at.ravel())), shape=(F, n))
            add(tally, total.astype(float), total.astype(float))
        if G and MIN_CLIP not in without:
            where, switch = at[:, gathers].ravel(), 2 * cells + np.arange(G)
            pick = (np.arange(G), where)
            least = np.tile(clip[gathers].astype(float), T)
            one = sparse.coo_array((np.ones(G), pick), shape=(G, n))
            add(one - sparse.coo_array((least, (np.arange(G), switch)), shape=(G, n)), np.zeros(G), np.full(G, np.inf))
            cap = high.ravel()[where]
            add(one - sparse.coo_array((cap, (np.arange(G), switch)), shape=(G, n)), np.full(G, -np.inf), np.zeros(G))
        fixed = lots.copy()
        fixed[:, free] = 0
        u = fixed * self.lot
        for limit in self._rows():
            if limit.name in without:
                continue
            if isinstance(limit, GroupCap):
                base = np.abs(u) @ limit.membership.T
                for g, member in enumerate(limit.membership[:, free]):
                    hit = np.flatnonzero(member)
                    bounded = np.flatnonzero(np.isfinite(limit.cap[:, g]))
                    if len(hit) and len(bounded):
                        coefficients = np.tile(member[hit] * lot[hit], len(bounded))
                        index = (np.repeat(np.arange(len(bounded)), len(hit)), at[bounded][:, hit].ravel())
                        room = limit.cap[bounded, g] * (1.0 + 0.1 * _TOL) - base[bounded, g]
                        add(
                            sparse.coo_array((coefficients, index), shape=(len(bounded), n)),
                            np.full(len(bounded), -np.inf),
                            room,
                        )
            elif isinstance(limit, BandLimit):
                lo, hi = self._edges(limit)
                base = (self.start - np.cumsum(u, axis=0)) @ limit.matrix.T
                slack = 0.1 * _TOL * (np.abs(limit.matrix) @ np.abs(self.start))
                for b, vector in enumerate(limit.matrix[:, free]):
                    hit = np.flatnonzero(vector)
                    bounded = np.flatnonzero(np.isfinite(lo[:, b]) | np.isfinite(hi[:, b]))
                    if not len(hit) or not len(bounded):
                        continue
                    parts = [
                        sparse.coo_array(
                            (
                                (-vector[hit] * lot[hit] * side[: t + 1][:, hit]).ravel(),
                                (np.zeros((t + 1) * len(hit), dtype=int), at[: t + 1][:, hit].ravel()),
                            ),
                            shape=(1, n),
                        )
                        for t in bounded
                    ]
                    add(
                        sparse.vstack(parts),
                        lo[bounded, b] - base[bounded, b] - slack[b],
                        hi[bounded, b] - base[bounded, b] + slack[b],
                    )
            elif isinstance(limit, RateLimit):
                delta = limit.delta[:, free] * (1.0 + 0.1 * _TOL)
                for f in range(F):
                    for t in range(T):
                        first = t == 0 and limit.previous is None
                        if first or not np.isfinite(delta[t, f]):
                            continue
                        index, values = [at[t, f]], [side[t, f] * lot[f]]
                        base = 0.0
                        if t > 0:
                            index.append(at[t - 1, f])
                            values.append(-side[t - 1, f] * lot[f])
                        else:
                            assert limit.previous is not None
                            base = float(limit.previous[free[f]])
                        row = sparse.coo_array((values, (np.zeros(len(index), dtype=int), index)), shape=(1, n))
                        add(row, np.array([base - delta[t, f]]), np.array([base + delta[t, f]]))
        A = sparse.csr_array(sparse.vstack(rows))
        lo, hi = (np.concatenate(part) for part in zip(*edges, strict=True))
        # Rows in currency are brought near one: HiGHS measures feasibility absolutely.
        scale = np.maximum(np.abs(A).max(axis=1).toarray().ravel(), 1e-300)
        A = sparse.csr_array(sparse.diags_array(1.0 / scale) @ A)
        unit = float(lot.mean())
        found = milp(
            np.concatenate([np.zeros(cells), np.tile(lot / unit, T), np.zeros(G)]),
            constraints=LinearConstraint(A, lo / scale, hi / scale),
            integrality=np.concatenate([np.ones(cells), np.zeros(cells), np.ones(G)]),
            bounds=Bounds(
                np.concatenate([low.ravel(), np.zeros(cells + G)]),
                np.concatenate([high.ravel(), np.full(cells, np.inf), np.ones(G)]),
            ),
            options={"time_limit": _SECONDS, "mip_rel_gap": 0.02},
        )
        if found.x is None:
            return None
        moved = lots.copy()
        moved[:, free] = (np.rint(found.x[:cells]).reshape(T, F) * side).astype(np.int64)
        return moved

    # refusal -----------------------------------------------------------------------------------------------------

    def _refusal(self, lots: IntArray, broken: list[_Row]) -> LimitBreach:
        """Return the error that names the limit without which whole lots exist, or all of the broken ones."""
        names = tuple(dict.fromkeys(row.limit for row in broken))
        guilty = names
        if len(names) > 1:
            alone = [name for name in names if self._repair(lots, broken, (name,)) is not None]
            guilty = tuple(alone[:1]) or names
        row = next(row for row in broken if row.limit in guilty)
        i = int(row.names[np.argmax(self.lot[row.names])])
        return self._error(
            " and ".join(guilty),
            f"no whole lots keep it: the nearest break {row.label} in slice {row.slice} by {money(row.amount)}",
            i,
            row.amount,
        )

    def _error(self, limit: str, text: str, i: int, amount: float) -> LimitBreach:
        lot = f"a lot of {self.problem.names[i]} is {money(float(self.lot[i]))}"
        return LimitBreach(
            f"{text} ({lot})",
            field=limit,
            value=amount,
            remedy="take smaller lots or a smaller clip, or solve again with this limit a few lots tighter",
        )


def _gathered(lots: IntArray, clip: int, lower: FloatArray, upper: FloatArray) -> IntArray:
    """Return the lots of one name gathered forward in time until a clip is reached; the rest joins a trading slice."""
    sign = -1 if lots.sum() < 0 else 1
    if (np.sign(lots) == -sign).any():
        return lots  # both sides: left to the integer program
    room = np.floor(-lower if sign < 0 else upper)
    out, waiting = np.zeros_like(lots), 0
    for t, amount in enumerate(np.abs(lots)):
        waiting += int(amount)
        if waiting >= clip and room[t] >= clip:
            out[t] = int(min(waiting, room[t]))
            waiting -= int(out[t])
    for t in range(len(out) - 1, -1, -1):
        if waiting and out[t]:
            more = int(min(waiting, room[t] - out[t]))
            out[t] += more
            waiting -= more
    return sign * out
