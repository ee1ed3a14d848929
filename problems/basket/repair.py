"""Whole lots that keep every limit: nearest first, an integer program where limits are shared, else a typed refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.basket.inputs import FloatArray
from crosswind.problems.basket.lot_program import MIN_CLIP, TOL, LotProgram
from crosswind.problems.basket.lots import IntArray, round_to_lots, snap
from crosswind.problems.basket.lowering import COMPLETION, MUST_FINISH, money
from crosswind.solvers.errors import LimitBreach

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["LotRounding"]

_CELLS = 6_000  # most cells that one integer program moves
_PER_ROW = 40  # names of a broken limit that are tried first: those with the finest lots


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
        for i in np.flatnonzero((short > 0.0) & (self.total != 0)).tolist():
            name = self.problem.names[i]
            clipped = np.where(room > 0.0, room, 0.0)[:, i].sum() >= abs(self.total[i])
            raise self._error(
                MIN_CLIP if clipped else self._box_owner(i),
                f"leaves room for {usable[:, i].sum():g} of {abs(int(self.total[i]))} lots of {name}",
                i,
                float(short[i]) * self.lot[i],
            )
        for i in np.flatnonzero((self.total != 0) & (np.abs(self.total) < self.clip)).tolist():
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
        for i in np.flatnonzero(small.any(axis=0)).tolist():
            lots[:, i] = _gathered(lots[:, i], int(self.clip[i]), self.lower[:, i], self.upper[:, i])
        return lots

    # limits that names share -------------------------------------------------------------------------------------

    def hard_limits(self) -> list[Limit]:
        """Return the limits that are no prices."""
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
            bad = excess > TOL * size
            for t, g in np.argwhere(bad):
                found.append(_Row(limit.name, labels[g], int(t), float(excess[t, g]), names[g]))

        for limit in self.hard_limits():
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
                low, high = self.edges(limit)
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

    def edges(self, limit: Any) -> tuple[FloatArray, FloatArray]:
        """Return a band's edges; where an order must be finished under a penalty, the last lot is its precision."""
        if limit.name != f"{MUST_FINISH} (inventory)":
            return limit.lower, limit.upper
        half = 0.5 * (1.0 + TOL) * np.abs(limit.matrix) @ self.lot
        return limit.lower - half, limit.upper + half

    def _repair(self, lots: IntArray, broken: list[_Row], without: tuple[str, ...]) -> IntArray | None:
        """Return whole lots that keep all limits but ``without``, or None when none were found."""
        few: set[int] = set()
        for row in broken:
            few.update(self._finest(row, _PER_ROW).tolist())
        if len(few) * len(lots) > _CELLS:
            return self._one_by_one(lots, broken, without)
        tries = [sorted(few)]
        if lots.size <= _CELLS and len(few) < lots.shape[1]:
            tries.append(list(range(lots.shape[1])))
        for free in tries:
            moved = LotProgram(self, lots, np.array(free)).solve(without)
            if moved is not None and not [row for row in self._broken(moved) if row.limit not in without]:
                return moved
        return None

    def _finest(self, row: _Row, most: int) -> IntArray:
        """Return the names of a row with the smallest lots: they move it in the smallest steps."""
        return np.asarray(row.names[np.argsort(self.lot[row.names], kind="stable")][:most], dtype=np.int64)

    def _one_by_one(self, lots: IntArray, broken: list[_Row], without: tuple[str, ...]) -> IntArray | None:
        """Mend a large basket group by group: the finest lots of one sector, band or name at a time.

        A group's program keeps every limit that holds already; what other groups still break waits for its turn.
        """
        for _ in range(3 * len({(row.limit, row.label) for row in broken})):
            rows = [row for row in broken if row.limit not in without]
            if not rows:
                return lots
            first = rows[0]
            others = {row.limit for row in rows} - {first.limit}
            for most in (_PER_ROW // 2, 2 * _PER_ROW):
                free = self._finest(first, min(most, max(_CELLS // len(lots), 1)))
                moved = LotProgram(self, lots, free, mending=(first.limit, first.label)).solve(
                    (*without, *sorted(others))
                )
                if moved is not None:
                    break
            else:
                return None
            lots, broken = moved, self._broken(moved)
        return None

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
