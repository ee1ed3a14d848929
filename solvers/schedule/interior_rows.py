"""The inequalities of the interior point: values Gx + h ≥ 0, the adjoint of G, and what their weights add to a Hessian.

A point x is (K, T, N): x[0] trades u, and x[1], present where any cell is split, the t ≥ |u| of those cells. The rows:
u − lower, upper − u; t − u, t + u; the two sides of a change, of a band; a cap less its group's sum. Infinite ones, and
those without a free cell, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.schedule.interior_model import Model
from crosswind.solvers.schedule.problem import Array

__all__ = ["Rows", "Weights"]

Mask = NDArray[np.bool_]

_THIN = 1e-10  # of a row's unit: half of the least room between two sides


@dataclass(frozen=True)
class Weights:
    """What G'ΘG is made of.

    Attributes
    ----------
    box
        (T, N) on u², from the box.
    above, below
        (T, N) of t − u ≥ 0 and t + u ≥ 0; zero where a cell is not split.
    change
        (T, N) on (u_t − u_{t−1})², None without such limits.
    bands, groups
        (T, b), (T, G).
    """

    box: Array
    above: Array
    below: Array
    change: Array | None
    bands: Array
    groups: Array


class Rows:
    """All inequalities of a model as one vector.

    Parameters
    ----------
    model
        The model.
    relaxed
        Share of its unit that every limit is moved outwards: a set without inner points gets some. Limits between whose
        sides there is no room are moved in any case.
    """

    def __init__(self, model: Model, relaxed: float = 0.0) -> None:
        p, free = model.problem, model.free
        self.model, self.banded = model, p.band_vectors
        self.slices, self.names = free.shape
        self.splits = bool(model.split.any())
        self.changes = p.change is not None
        self.width = 2 if self.splits else 1
        self.counted = int(p.group_caps.shape[1])
        self.sums = np.zeros((self.names, self.counted))
        member = np.flatnonzero(p.groups >= 0)
        self.sums[member, p.groups[member]] = 1.0
        parts = self._limits(relaxed)
        constant = np.concatenate([h.ravel() for h, _, _ in parts])
        live = np.concatenate([np.broadcast_to(live, h.shape).ravel() for h, live, _ in parts])
        unit = np.concatenate([np.broadcast_to(unit, h.shape).ravel() for h, _, unit in parts])
        self.kept = np.flatnonzero(live & np.isfinite(constant))
        self.constant, self.units = constant[self.kept], unit[self.kept]
        self.total, self.shapes = constant.size, [h.shape for h, _, _ in parts]
        place = np.full(self.total, -1)
        place[self.kept] = np.arange(self.kept.size)
        ends = np.cumsum([0, *(h.size for h, _, _ in parts)])
        self.band_low, self.band_high, self.caps = (place[ends[k] : ends[k + 1]] for k in (-4, -3, -2))
        shared = np.concatenate([self.band_low, self.band_high, self.caps])
        self.shared = shared[shared >= 0]

    def _limits(self, relaxed: float) -> list[tuple[Array, Mask, Array]]:
        """Return h, which rows count, and the size of their numbers, kind by kind."""
        m, p = self.model, self.model.problem
        free, unit = m.free, m.size
        pad = relaxed * unit
        parts: list[tuple[Array, Mask, Array]] = [(pad - p.lower, free, unit), (pad + p.upper, free, unit)]
        if self.splits:
            parts += [(np.zeros(free.shape), m.split, unit)] * 2
        if p.change is not None:
            moves = free.copy()
            moves[1:] |= free[:-1]
            before = np.zeros(self.names)
            if p.previous is None:
                moves[0] = False
            else:
                before = p.previous
            # A change next to a fixed cell is as large as the trade beside it: the fixed cell has no size of its own.
            own = np.where(free, unit, 0.0)
            near = own.copy()
            near[1:] = np.maximum(near[1:], own[:-1])
            near = np.where(near > 0.0, near, 1.0)
            limit = np.maximum(p.change, _THIN * near) + relaxed * near
            shift = np.zeros(free.shape)
            shift[0] = before
            parts += [(limit - shift, moves, near), (limit + shift, moves, near)]
        cells = np.where(free, unit, 0.0)
        gross = np.cumsum(cells, axis=0) @ np.abs(self.banded)
        touched = np.cumsum(free.astype(np.float64), axis=0) @ np.abs(self.banded) > 0.0
        gross = np.where(gross > 0.0, gross, 1.0)
        from_start = p.start @ self.banded
        with np.errstate(invalid="ignore"):
            thin = np.maximum(_THIN * gross - 0.5 * (p.band_upper - p.band_lower), 0.0) + relaxed * gross
        parts += [
            (from_start - p.band_lower + thin, touched, gross),
            (p.band_upper - from_start + thin, touched, gross),
        ]
        total = (cells * m.group) @ self.sums
        counted = (m.group.astype(np.float64) @ self.sums) > 0.0
        total = np.where(total > 0.0, total, 1.0)
        still = np.where(free, 0.0, np.abs(m.start)) @ self.sums  # fixed cells count in their group's sum
        parts.append((p.group_caps - still + relaxed * total, counted, total))
        return parts

    def __len__(self) -> int:
        return int(self.kept.size)

    def absolute(self, x: Array) -> Array:
        """Return |u| as the model holds it, linear in x: ±u where a cell trades one way, t where it is split."""
        out: Array = self.model.sign * x[0]
        if self.splits:
            out += self.model.split * x[1]
        return out

    def apply(self, x: Array) -> Array:
        """Return Gx."""
        u = x[0]
        parts = [u, -u]
        if self.splits:
            parts += [x[1] - u, x[1] + u]
        if self.changes:
            step = u.copy()
            step[1:] -= u[:-1]
            parts += [step, -step]
        exposure = np.cumsum(u @ self.banded, axis=0)
        parts += [-exposure, exposure, -(self.absolute(x) * self.model.group) @ self.sums]
        return np.concatenate([part.ravel() for part in parts])[self.kept]

    def value(self, x: Array) -> Array:
        """Return Gx + h: what is left of each limit."""
        out: Array = self.apply(x) + self.constant
        return out

    def apart(self, v: Array) -> list[Array]:
        """Return a vector over rows kind by kind, each in its shape, zero where a row is left out."""
        full = np.zeros(self.total)
        full[self.kept] = v
        out, at = [], 0
        for shape in self.shapes:
            size = shape[0] * shape[1]
            out.append(full[at : at + size].reshape(shape))
            at += size
        return out

    def adjoint(self, v: Array) -> Array:
        """Return G'v, zero at fixed cells."""
        parts = self.apart(v)
        out = np.zeros((self.width, self.slices, self.names))
        u = out[0]
        np.subtract(parts[0], parts[1], out=u)
        if self.splits:
            u += parts[3]
            u -= parts[2]
            np.add(parts[2], parts[3], out=out[1])
        if self.changes:
            step = parts[-5] - parts[-4]
            u += step
            u[:-1] -= step[1:]
        if self.banded.shape[1]:
            u += np.cumsum((parts[-2] - parts[-3])[::-1], axis=0)[::-1] @ self.banded.T
        if self.counted:
            pull = parts[-1] @ self.sums.T * self.model.group
            u -= self.model.sign * pull
            if self.splits:
                out[1] -= self.model.split * pull
        u *= self.model.free
        return out

    def weights(self, theta: Array) -> Weights:
        """Return Θ (one entry a row) sorted by what it adds to the Hessian."""
        parts = self.apart(theta)
        none = np.zeros((self.slices, self.names))
        above, below = parts[2:4] if self.splits else (none, none)
        change = parts[-5] + parts[-4] if self.changes else None
        return Weights(parts[0] + parts[1], above, below, change, parts[-3] + parts[-2], parts[-1])
