"""Whether an iterate of a stream of quadratic programs passes :func:`crosswind.solvers.certify.certify`, fast.

The measures are those of ``certify``; what is dear in them is replaced by what can only be stricter (smaller scales).
So a yes is a yes of ``certify`` too, and a no means only: ask ``certify``. What depends on the matrices is computed
once, what depends on the bounds when they change, all arrays of work are allocated before, and scipy's matrix-vector
products are called below their checks, which cost ten times the product at this size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import _sparsetools

from crosswind.solvers.bounds import REACH, curvature
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["FastCheck"]

_BIG = 1e300  # in place of ∞: its product with a multiplier of zero is zero, with any other one it fails the gap
_AT_REST = 1e-4
_ROUNDING = 1e-13
_DRIFT = 64.0  # squared norms of the data may change by this much before the scaling is looked at again


class FastCheck:
    """The vectors of a stream of programs on one pair of matrices, and the test of their iterates.

    Parameters
    ----------
    program
        The first of the stream; the pattern of its bounds (finite, equal, zero) must stay.
    tol
        As for ``certify``.
    """

    def __init__(self, program: QuadraticProgram, tol: float) -> None:
        n, m = program.n, program.m
        self.program, self.tol, self.n, self.m = program, tol, n, m
        self.P = (program.P.indptr, program.P.indices, program.P.data)
        self.A = (program.A.indptr, program.A.indices, program.A.data)
        self.zeros = np.zeros(n)
        bend = curvature(program)
        with np.errstate(divide="ignore", over="ignore"):
            self.half_bend = np.minimum(0.5 / bend, _BIG)
        self.abs_rows = abs(program.A).tocsr()
        self.filled = np.flatnonzero(np.diff(self.abs_rows.indptr))
        self.starts = self.abs_rows.indptr[self.filled]
        # Work space: everything a check needs is written here and nowhere else.
        self.value, self.t1, self.t2 = np.empty(m + n), np.empty(m + n), np.empty(m + n)
        self.row_value, self.kept = self.value[:m], np.empty(m + n)
        self.kept_y, self.kept_z = self.kept[:m], self.kept[m:]
        self.Px, self.r, self.g, self.h, self.k = (np.empty(n) for _ in range(5))
        self.q = program.q
        self.lo = np.concatenate((program.l, program.lb))
        self.hi = np.concatenate((program.u, program.ub))
        self.most = np.where(np.isfinite(self.hi), np.inf, 0.0)
        self.least = np.where(np.isfinite(self.lo), -np.inf, 0.0)
        self._keys = self._pattern(self.lo, self.hi)
        self.linear = float(program.q @ program.q)
        self._mask = np.concatenate((np.isfinite(self.lo), np.isfinite(self.hi))).astype(np.float64)
        self._both = np.empty(2 * (m + n))
        self._sizes()
        self.bound_size = self._bound_size()

    def take(self, q: object, rows: tuple[object, object], boxes: tuple[object, object]) -> bool:
        """Take over new vectors, ``None`` where one stays; False, and nothing changed, when they need the long way."""
        n, m = self.n, self.m
        new_q = self.q
        if q is not None:
            if type(q) is not np.ndarray or q.shape != (n,):
                return False
            new_q = np.array(q, dtype=np.float64)
            # NaN and ∞ survive a product with zero.
            if new_q.dot(self.zeros) != 0.0 or not _near(float(new_q.dot(new_q)), self.linear):
                return False
        l, u = rows  # noqa: E741
        lb, ub = boxes
        if l is None and u is None and lb is None and ub is None:
            self.q = new_q
            return True
        lo, hi = self.lo.copy(), self.hi.copy()
        for out, part, value, size in ((lo, 0, l, m), (hi, 0, u, m), (lo, m, lb, n), (hi, m, ub, n)):
            if value is None:
                continue
            if type(value) is not np.ndarray or value.shape != (size,):
                return False
            out[part : part + size] = value
        if self._pattern(lo, hi) != self._keys:
            return False
        kept = self.lo, self.hi
        self.lo, self.hi = lo, hi
        self._sizes(boxes=lb is not None or ub is not None)
        if not _near(self._bound_size(), self.bound_size):
            self.lo, self.hi = kept
            self._sizes()
            return False
        self.q = new_q
        return True

    def passes(self, x: Vector, w: Vector) -> bool:
        """Tell whether ``certify`` would pass (x, y, z), w = (y, z) of shape (m + n,); False means: ask it."""
        n, m, tol, q, r, g, h = self.n, self.m, self.tol, self.q, self.r, self.g, self.h
        value, t1, t2, big_lo, big_hi = self.value, self.t1, self.t2, self.big_lo, self.big_hi
        # Primal: every miss against the smallest scale its bounds allow.
        self.row_value.fill(0.0)
        _sparsetools.csc_matvec(m, n, *self.A, x, self.row_value)
        value[m:] = x
        np.subtract(big_lo, value, t1)
        np.subtract(value, big_hi, t2)
        np.maximum(t1, t2, out=t1)
        np.abs(x, h)
        top = float(h[h.argmax()])
        if not 0.0 < top < math.inf:
            return False
        if not t1[t1.argmax()] <= 0.0:
            np.subtract(t1, self.allowed, t2)
            if not t2[t2.argmax()] <= 0.0:
                np.multiply(self.at_rest, tol * top, t2)
                np.maximum(t2, self.allowed, out=t2)
                np.subtract(t1, t2, t2)
                if not t2[t2.argmax()] <= 0.0:
                    return False
        # Dual. What leans on an infinite bound is dropped, and counts.
        kept = self.kept
        np.minimum(w, self.most, out=kept)
        np.maximum(kept, self.least, out=kept)
        np.subtract(w, kept, t2)
        np.abs(t2, t2)
        refused = float(t2[t2.argmax()])
        y, z = self.kept_y, self.kept_z
        Px = self.Px
        Px.fill(0.0)
        _sparsetools.csc_matvec(n, n, *self.P, x, Px)
        np.add(Px, q, r)
        _sparsetools.csr_matvec(n, m, *self.A, y, r)  # the columns of A are the rows of A'
        np.add(r, z, r)
        np.abs(r, g)
        dual = max(float(g[g.argmax()]), refused)
        if not dual <= tol * math.sqrt(self.linear_now() / n):
            np.abs(Px, self.k)
            if not dual <= tol * float(max(self.k[self.k.argmax()], np.abs(q).max())):
                return False
        # Gap: Σ max(hi·w, lo·w) is the support.
        np.multiply(big_hi, kept, t1)
        np.multiply(big_lo, kept, t2)
        np.maximum(t1, t2, out=t1)
        xPx, qx, support = float(x.dot(Px)), float(q.dot(x)), float(np.add.reduce(t1))
        gap = xPx + qx + support
        scale = max(0.5 * abs(xPx), abs(qx), abs(support))
        limit = (tol - _ROUNDING) * scale
        if not abs(gap) <= limit:
            return False
        # Excess over the lower bound within reach: each residual is absorbed, paid for by curvature, or out of reach.
        np.maximum(h, self.unit if self.all_units else np.where(self.has_unit, self.unit, top), out=h)
        np.multiply(g, h, g)
        np.multiply(g, REACH, g)
        np.multiply(r, r, h)
        np.multiply(h, self.half_bend, h)
        k = self.k
        np.multiply(r, x, k)
        np.subtract(h, k, h)
        np.minimum(g, h, out=g)
        np.subtract(z, r, r)
        np.multiply(self.box_hi, r, h)
        np.multiply(self.box_lo, r, k)
        np.maximum(h, k, out=h)
        np.subtract(h, t1[m:], h)
        np.minimum(g, h, out=g)
        return abs(gap + float(np.add.reduce(g))) <= limit

    def linear_now(self) -> float:
        """Return q'q."""
        return float(self.q.dot(self.q))

    def current(self) -> QuadraticProgram:
        """Return the program with the present vectors, validated."""
        m = self.m
        return self.program.with_vectors(q=self.q, l=self.lo[:m], u=self.hi[:m], lb=self.lo[m:], ub=self.hi[m:])

    def _pattern(self, lo: Vector, hi: Vector) -> tuple[bytes, ...]:
        return (
            np.less(lo, hi).tobytes(),
            np.equal(lo, hi).tobytes(),
            np.isfinite(lo).tobytes(),
            np.isfinite(hi).tobytes(),
            np.equal(lo, 0.0).tobytes(),
            np.equal(hi, 0.0).tobytes(),
        )

    def _bound_size(self) -> float:
        both, size = self._both, self.m + self.n
        both[:size], both[size:] = self.big_lo, self.big_hi
        np.multiply(both, self._mask, both)
        return float(both.dot(both))

    def _sizes(self, boxes: bool = True) -> None:
        """Compute what depends on the bounds: with ∞ replaced, and the miss of each that passes for certain."""
        self.big_lo = np.maximum(self.lo, -_BIG)
        self.big_hi = np.minimum(self.hi, _BIG)
        self.box_lo, self.box_hi = self.big_lo[self.m :], self.big_hi[self.m :]
        if boxes:
            self._units()
        low, high = np.abs(self.big_lo), np.abs(self.big_hi)
        allowed = np.minimum(low, high)
        if self._zero.any():
            # Beside a bound of zero, which leaves the scale to the reach, the other one may be smaller still.
            other = np.maximum(low, high)
            other[other == 0.0] = _BIG
            np.copyto(allowed, np.minimum(other, self.rest), where=self._zero)
        self.allowed = np.multiply(allowed, self.tol, allowed)

    def _units(self) -> None:
        """Compute the smallest non-zero bound of each variable, and what it makes of rows with a bound of zero."""
        low, high = np.abs(self.box_lo), np.abs(self.box_hi)
        low[low == 0.0] = _BIG
        high[high == 0.0] = _BIG
        unit = np.minimum(low, high)
        self.has_unit = unit < _BIG
        self.all_units = bool(self.has_unit.all())
        self.unit = unit
        known = np.where(self.has_unit, unit, 0.0)
        self._zero = (self.lo == 0.0) | (self.hi == 0.0)
        self.rest = _AT_REST * np.concatenate((self._row_top(known), known))
        free = (~self.has_unit).astype(np.float64)
        self.at_rest = np.concatenate((self._row_top(free), free))
        # A row with one bound of zero and a smaller other one keeps to the latter.
        self.at_rest *= _AT_REST * (self._zero & ((self.lo == 0.0) | np.isinf(self.lo)))
        self.at_rest *= (self.hi == 0.0) | np.isinf(self.hi)

    def _row_top(self, size: Vector) -> Any:
        out = np.zeros(self.m)
        if self.filled.size:
            rows = self.abs_rows
            out[self.filled] = np.maximum.reduceat(rows.data * size[rows.indices], self.starts)
        return out


def _near(new: float, reference: float) -> bool:
    return reference <= _DRIFT * new and new <= _DRIFT * reference
