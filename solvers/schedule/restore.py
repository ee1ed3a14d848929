"""From near-feasible trades to feasible ones.

Boxes and caps by their proximal map, ends by what room is left and else by reflections, bands by the least change that
meets them, and what then is left of bands by mixing in trades that are feasible already.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.schedule import cells
from crosswind.solvers.schedule.problem import Array, FactorSchedule

__all__ = ["Restorer", "group_order"]

_ROUNDS = 25
_MARGIN = 1e-9  # of the gross exposure: how far inside of a band its correction aims
_GREEDY = 3  # rounds after which reflections take over
_REFLECTIONS = 200  # in all of one repair; where it can be done, some 40 serve
_PUSH = 2.0  # of what is missing: the caps take part of it back
_FULL = 1e-9  # of a cap: a group nearer to it than that has no room
FEASIBLE = 1e-9
"""Largest relative violation of trades that count as feasible."""


def group_order(problem: FactorSchedule) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return names ordered by group, those in none last, and the (G + 1,) places where groups begin."""
    G = problem.group_caps.shape[1]
    key = np.where(problem.groups < 0, G, problem.groups)
    order = np.argsort(key, kind="stable")
    return order, np.searchsorted(key[order], np.arange(G + 1)).astype(np.intp)


class Restorer:
    """Makes trades of one problem feasible; the names must stand in the order of `group_order`.

    Parameters
    ----------
    problem
        The problem, in order.
    first
        Where groups begin.
    reach
        (T, N) > 0: how far a cell moves for a given push; the reciprocal of what moving it costs.
    """

    def __init__(self, problem: FactorSchedule, first: NDArray[np.intp], reach: Array) -> None:
        self.problem, self.first, self.reach = problem, first, np.ascontiguousarray(reach)
        self.low, self.high = np.ascontiguousarray(problem.lower), np.ascontiguousarray(problem.upper)
        self.cap = np.ascontiguousarray(problem.group_caps)
        self.zero = np.zeros(problem.eta.shape)
        self.theta = np.zeros(self.cap.shape)
        self.member = np.where(problem.groups < 0, self.cap.shape[1], problem.groups)
        self.total = problem.start - problem.target
        self.hard = problem.hard
        self.aim = self.total
        gross = np.abs(problem.start) @ np.abs(problem.band_vectors)
        self.margin = np.minimum(_MARGIN * gross, 0.25 * (problem.band_upper - problem.band_lower))
        self.best: Array | None = None
        self.reflections = 0  # still to be had in this repair

    def restored(self, u: Array, sums: Array | None = None) -> Array | None:
        """Return feasible trades near ``u`` (T, N), every limit checked; None where they were not found.

        Names whose end is a price are brought to ``sums`` (N,), where their boxes and caps have room: a heavy price
        makes what is missing dearer than moving it.
        """
        p = self.problem
        self.aim = np.where(self.hard, self.total, u.sum(axis=0) if sums is None else sums)
        active = np.zeros(p.band_lower.shape, dtype=bool)
        self.reflections = _REFLECTIONS
        v = u
        for k in range(_ROUNDS):
            if k == 1:
                self.aim = np.where(self.hard, self.total, np.nan)  # soft ends give way to the bands
            v = self._completed(self._clipped(v))
            missed, short = self._missed(v), self._short(v)
            if not missed.any() and not short.any():
                break
            if short.any():
                if not self.reflections:
                    break
                v = self._pushed(v, short) if k < _GREEDY else self._reflected(v)
            if missed.any():
                active |= missed
                v = self._banded(v, active)
        else:
            v = self._completed(self._clipped(v))
        if self.best is not None and self._missed(v).any():
            v = self._mixed(v)
        if p.violations(v).worst > FEASIBLE:
            return None
        return v

    def _clipped(self, u: Array) -> Array:
        out = np.empty(u.shape)
        return cells.prox(self.first, self.cap, u, self.reach, self.zero, self.low, self.high, self.theta, out)

    def _sums(self, cells: Array) -> Array:
        """Sum over groups, (T, G)."""
        out = np.empty((len(cells), len(self.first) - 1))
        for g in range(len(self.first) - 1):
            out[:, g] = cells[:, self.first[g] : self.first[g + 1]].sum(axis=1)
        return out

    def _spread(self, groups: Array, fill: float) -> Array:
        """Give every name (T, N) the value of its group, ``fill`` to those in none."""
        rest = np.full((len(groups), 1), fill)
        return np.asarray(np.hstack([groups, rest])[:, self.member])

    def _crowded(self, left: Array) -> NDArray[np.bool_]:
        """Tell which names (T, N) stand in a group that has nothing ``left`` (T, G)."""
        full = left <= _FULL * np.where(np.isfinite(self.cap), self.cap, 0.0)
        return np.asarray(np.hstack([full, np.zeros((len(full), 1), dtype=bool)])[:, self.member])

    def _completed(self, u: Array) -> Array:
        """Bring ends to their aim within boxes and caps, each slice by its share of the room."""
        size = np.maximum(self.problem.name_size, np.abs(u).max(axis=0))
        for _ in range(_ROUNDS):
            need = np.nan_to_num(self.aim - u.sum(axis=0))
            if not (np.abs(need) > 1e-13 * size).any():
                break
            room = np.where(need > 0.0, self.high, self.low)
            room -= u
            np.clip(room, -np.abs(need), np.abs(need), out=room)
            if self.cap.shape[1]:
                before = np.abs(u)
                grows = np.abs(u + room) > before
                left = self.cap - self._sums(before)
                room[grows & self._crowded(left)] = 0.0
            whole = np.abs(room.sum(axis=0))
            room *= np.minimum(np.abs(need) / np.where(whole > 0.0, whole, 1.0), 1.0)
            if self.cap.shape[1]:
                wanted = self._sums(np.where(grows, np.abs(room), 0.0))
                over = wanted > np.maximum(left, 0.0)
                if over.any():
                    part = np.where(over, np.maximum(left, 0.0) / np.where(over, wanted, 1.0), 1.0)
                    room *= np.where(grows, self._spread(part, 1.0), 1.0)
            u = np.clip(u + room, self.low, self.high)
        return u

    def _short(self, u: Array) -> Array:
        """Return what is left to complete (N,), 0 where it is rounding."""
        need = np.where(self.hard, self.total - u.sum(axis=0), 0.0)
        return np.where(np.abs(need) > 1e-11 * self.problem.name_size, need, 0.0)

    def _pushed(self, u: Array, need: Array) -> Array:
        """Complete names whose room is full of others: over the caps, which then push those others to their room."""
        free = np.where(need > 0.0, u < self.high, u > self.low) * self.reach
        whole = free.sum(axis=0)
        return np.asarray(u + free * (_PUSH * need / np.where(whole > 0.0, whole, 1.0)))

    def _reflected(self, u: Array) -> Array:
        """Bring trades near to both the boxes with caps and the hard ends, by reflections (Douglas and Rachford)."""
        reach = self.reach * np.where(self.hard, 1.0 / self.reach.sum(axis=0), 0.0)
        size = 1e-12 * self.problem.name_size
        x = v = u
        while self.reflections:
            self.reflections -= 1
            x = self._clipped(v)
            need = np.where(self.hard, self.total - x.sum(axis=0), 0.0)
            if not (np.abs(need) > size).any():
                break
            y = 2.0 * x - v
            y += reach * (self.total - y.sum(axis=0))
            y -= x
            v = v + y
        return x

    def _missed(self, u: Array) -> NDArray[np.bool_]:
        p = self.problem
        if not p.band_vectors.shape[1]:
            return np.zeros(p.band_lower.shape, dtype=bool)
        e = p.remaining(u) @ p.band_vectors
        return np.asarray((e > p.band_upper) | (e < p.band_lower))

    def _banded(self, u: Array, active: NDArray[np.bool_]) -> Array:
        """Move free cells by the least that brings the active rows of bands to their edges, hard ends kept."""
        p, V = self.problem, self.problem.band_vectors
        reach = np.where((u > self.low) & (u < self.high), self.reach, 0.0)
        if self.cap.shape[1]:
            reach[self._crowded(self.cap - self._sums(np.abs(u)))] = 0.0
        so_far = np.cumsum(reach, axis=0)
        whole = np.where(self.hard & (so_far[-1] > 0.0), 1.0 / np.where(so_far[-1] > 0.0, so_far[-1], 1.0), 0.0)
        rows = [np.flatnonzero(active[:, k]) for k in range(V.shape[1])]
        e = p.remaining(u) @ V
        aim = np.clip(e, p.band_lower + self.margin, p.band_upper - self.margin) - e
        blocks = []
        for k, at in enumerate(rows):
            line = []
            for j, with_ in enumerate(rows):
                both = V[:, k] * V[:, j]
                running = so_far @ both
                line.append(running[np.minimum.outer(at, with_)] - (so_far[at] * (both * whole)) @ so_far[with_].T)
            blocks.append(line)
        P = np.block(blocks)
        wanted = np.concatenate([aim[at, k] for k, at in enumerate(rows)])
        own = np.diag(P).copy()
        scale = 1.0 / np.sqrt(np.where(own > 0.0, own, 1.0))
        P = P * scale[:, None] * scale[None, :] + 1e-10 * np.eye(len(P))
        nu_rows = scale * np.linalg.lstsq(P, scale * wanted, rcond=1e-9)[0]
        nu, at_row = np.zeros(p.band_lower.shape), 0
        for k, at in enumerate(rows):
            nu[at, k] = nu_rows[at_row : at_row + at.size]
            at_row += at.size
        move = -reach * (np.cumsum(nu[::-1], axis=0)[::-1] @ V.T)
        move -= reach * (move.sum(axis=0) * whole)
        return np.asarray(u + move)

    def _mixed(self, u: Array) -> Array:
        """Mix in as much of the best feasible trades as the bands need; all other limits are convex and hold."""
        p, best = self.problem, self.best
        assert best is not None
        mine, theirs = p.remaining(u) @ p.band_vectors, p.remaining(best) @ p.band_vectors
        part = 0.0
        for over, spare in ((mine - p.band_upper, p.band_upper - theirs), (p.band_lower - mine, theirs - p.band_lower)):
            bad = over > 0.0
            if bad.any():
                part = max(part, float(np.max(over[bad] / (over[bad] + np.maximum(spare[bad], 0.0)))))
        return np.asarray(u + min(part * (1.0 + 1e-12), 1.0) * (best - u))
