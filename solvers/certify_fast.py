"""Whether an iterate of a stream of quadratic programs passes :func:`crosswind.solvers.certify.certify`, fast.

The measures are those of ``certify``; what is dear in them is replaced by what can only be stricter (smaller scales).
So a yes is a yes of ``certify`` too, and a no means only: ask ``certify``. What depends on the matrices is computed
once, what depends on the bounds when they change. The work is done in C (``solvers/native/check.c``) or, where that is
not compiled, by :class:`ArrayCheck` in numpy, whose forty small calls take ten times as long.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse._sparsetools import csc_matvec, csr_matvec

from crosswind.solvers import native
from crosswind.solvers.bounds import REACH, curvature
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["ArrayCheck", "FastCheck"]

_BIG = 1e150  # in place of ∞: multipliers that lean on it are dropped first, and residuals cannot be paid by it
_AT_REST = 1e-4
_NO_BOUND = 1e-12
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
        self.program, self.n, self.m = program, program.n, program.m
        self.q = program.q
        self.l, self.u, self.lb, self.ub = program.l, program.u, program.lb, program.ub
        small = max(program.P.nnz, program.A.nnz) < 2**31
        self.kernel = _compiled(program, tol) if native.COMPILED and small else ArrayCheck(program, tol)
        self.passes = self.kernel.passes

    def take(self, q: object, rows: tuple[object, object], boxes: tuple[object, object]) -> bool:
        """Take over new vectors, ``None`` where one stays; False, and nothing changed, when they need the long way."""
        n, m = self.n, self.m
        try:
            new_q = None if q is None else _copied(q, n)
            l, u = [None if part is None else _copied(part, m) for part in rows]  # noqa: E741
            lb, ub = [None if part is None else _copied(part, n) for part in boxes]
        except TypeError:
            return False
        if not self.kernel.take(new_q, l, u, lb, ub):
            return False
        if new_q is not None:
            self.q = new_q
        if l is not None:
            self.l = l
        if u is not None:
            self.u = u
        if lb is not None:
            self.lb = lb
        if ub is not None:
            self.ub = ub
        return True

    def current(self) -> QuadraticProgram:
        """Return the program with the present vectors, validated."""
        return self.program.with_vectors(q=self.q, l=self.l, u=self.u, lb=self.lb, ub=self.ub)


def _copied(value: object, size: int) -> Vector:
    # Text has no place here, and a complex number would lose its imaginary part: the long way says so in words.
    if type(value) is not np.ndarray or value.shape != (size,) or value.dtype.kind not in "fiu":
        raise TypeError
    return np.array(value, dtype=np.float64)


def _absorbable(program: QuadraticProgram) -> Vector:
    """Return 1/(2κ) (n,): what a squared residual costs that curvature pays for, huge where there is none."""
    with np.errstate(divide="ignore", over="ignore"):
        half: Vector = np.minimum(0.5 / curvature(program), _BIG)
    return half


def _compiled(program: QuadraticProgram, tol: float) -> Any:
    """Return the same check in C."""

    def parts(matrix: Any) -> tuple[Any, Any, Vector]:
        return matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data

    rows = abs(program.A).tocsr()
    vectors = (program.q, program.l, program.u, program.lb, program.ub)
    return native.core.Check(parts(program.P), parts(program.A), parts(rows), _absorbable(program), *vectors, tol)


class ArrayCheck:
    """The check in numpy; all arrays of work are allocated before, and scipy's products called below their checks.

    Parameters
    ----------
    program, tol
        As for :class:`FastCheck`.
    """

    def __init__(self, program: QuadraticProgram, tol: float) -> None:
        n, m = program.n, program.m
        self.tol, self.n, self.m = tol, n, m
        self.P = (program.P.indptr, program.P.indices, program.P.data)
        self.A = (program.A.indptr, program.A.indices, program.A.data)
        self.unity = np.ones(n)
        self.half_bend = _absorbable(program)
        self.flat = self.half_bend >= _BIG
        self.open_low, self.open_high = np.isinf(program.lb), np.isinf(program.ub)
        self.moved = np.empty(n)
        self.abs_rows = abs(program.A).tocsr()
        self.filled = np.flatnonzero(np.diff(self.abs_rows.indptr))
        self.starts = self.abs_rows.indptr[self.filled]
        # Work space: everything a check needs is written here and nowhere else.
        self.value, self.t1, self.t2 = np.empty(m + n), np.empty(m + n), np.empty(m + n)
        self.row_value, self.kept, self.miss = self.value[:m], np.empty(m + n), np.empty(m + n)
        self.kept_y, self.kept_z = self.kept[:m], self.kept[m:]
        self.Px, self.r, self.g, self.h, self.k = (np.empty(n) for _ in range(5))
        self.ones = np.ones(m + n)
        self.q = program.q
        self.l, self.u, self.lb, self.ub = program.l, program.u, program.lb, program.ub
        self.linear = float(program.q @ program.q)
        self.big_lo, self.big_hi, self.allowed = np.empty(m + n), np.empty(m + n), np.empty(m + n)
        self.most = np.where(np.isfinite(np.concatenate((self.u, self.ub))), np.inf, 0.0)
        self.least = np.where(np.isfinite(np.concatenate((self.l, self.lb))), -np.inf, 0.0)
        self._rows = _Part(self, 0, m, (self.l, self.u))
        self._boxes = _Part(self, m, m + n, (self.lb, self.ub))
        self._units()
        self._rows.put(self.l, self.u)
        self._boxes.put(self.lb, self.ub)

    def take(
        self,
        q: Vector | None,
        l: Vector | None,  # noqa: E741
        u: Vector | None,
        lb: Vector | None,
        ub: Vector | None,
    ) -> bool:
        """Take over new vectors, ``None`` where one stays; False, and nothing changed, when they do not suit."""
        # NaN and ∞ survive in the square, and are near to nothing.
        if q is not None and not _near(float(q.dot(q)), self.linear):
            return False
        rows = (self.l if l is None else l, self.u if u is None else u)
        boxes = (self.lb if lb is None else lb, self.ub if ub is None else ub)
        new_rows, new_boxes = l is not None or u is not None, lb is not None or ub is not None
        if (new_rows and not self._rows.suits(*rows)) or (new_boxes and not self._boxes.suits(*boxes)):
            return False
        self.q = self.q if q is None else q
        (self.l, self.u), (self.lb, self.ub) = rows, boxes
        if new_boxes:
            self._units()
            self._boxes.put(*boxes)
        if new_boxes or new_rows:
            self._rows.put(*rows)
        return True

    def passes(self, x: Vector, w: Vector) -> bool:
        """Tell whether ``certify`` would pass (x, y, z), w = (y, z) of shape (m + n,); False means: ask it."""
        n, m, tol, q, r, g, h = self.n, self.m, self.tol, self.q, self.r, self.g, self.h
        value, t1, t2, big_lo, big_hi = self.value, self.t1, self.t2, self.big_lo, self.big_hi
        # Primal: every miss against the smallest scale its bounds allow.
        self.row_value.fill(0.0)
        csc_matvec(m, n, *self.A, x, self.row_value)
        value[m:] = x
        np.subtract(big_lo, value, t1)
        np.subtract(value, big_hi, t2)
        np.maximum(t1, t2, out=t1)
        np.abs(x, h)
        top = float(h[h.argmax()])
        if not 0.0 < top < math.inf:
            return False
        missed = not t1[t1.argmax()] <= 0.0
        if missed:
            np.maximum(t1, 0.0, out=self.miss)
            np.subtract(t1, self.allowed, t2)
            if not t2[t2.argmax()] <= 0.0 and not self._excused(x, h, top):
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
        csc_matvec(n, n, *self.P, x, Px)
        np.add(Px, q, r)
        csr_matvec(n, m, *self.A, y, r)  # the columns of A are the rows of A'
        np.add(r, z, r)
        np.abs(r, g)
        dual = max(float(g[g.argmax()]), refused)
        if not dual <= tol * math.sqrt(float(q.dot(q)) / n):
            np.abs(Px, self.k)
            if not dual <= tol * float(max(self.k[self.k.argmax()], np.abs(q).max())):
                return False
        # Gap: Σ max(hi·w, lo·w) is the support.
        np.multiply(big_hi, kept, t1)
        np.multiply(big_lo, kept, t2)
        np.maximum(t1, t2, out=t1)
        xPx, qx, support = float(x.dot(Px)), float(q.dot(x)), float(t1.dot(self.ones))
        gap = xPx + qx + support
        scale = max(0.5 * abs(xPx), abs(qx), abs(support))
        limit = (tol - _ROUNDING) * scale
        if not abs(gap) <= limit:
            return False
        if missed:  # a point outside its limits may be too good by what the multipliers say that the misses are worth
            np.abs(kept, t2)
            if not float(t2.dot(self.miss)) <= limit:
                return False
        # Excess over a lower bound: a residual is absorbed by a box or paid for by curvature; where neither is at hand
        # for one, the bound holds only within reach, and each costs what is least there.
        np.maximum(h, self.unit if self.all_units else np.where(self.has_unit, self.unit, top), out=h)
        np.multiply(g, h, g)
        np.multiply(g, REACH, g)
        np.multiply(r, r, h)
        np.multiply(h, self.half_bend, h)
        k, moved = self.k, self.moved
        np.multiply(r, x, k)
        np.subtract(h, k, h)
        np.copyto(h, math.inf, where=self.flat)
        np.subtract(z, r, moved)
        np.multiply(self._boxes.big_hi, moved, k)
        np.multiply(self._boxes.big_lo, moved, r)
        np.maximum(k, r, out=k)
        np.subtract(k, t1[m:], k)
        np.copyto(k, math.inf, where=((moved > 0.0) & self.open_high) | ((moved < 0.0) & self.open_low))
        np.minimum(h, k, out=h)
        np.copyto(h, 0.0, where=g == 0.0)  # no residual
        everywhere = float(h.dot(self.unity))
        if not math.isfinite(everywhere):
            np.minimum(g, h, out=g)
            everywhere = float(g.dot(self.unity))
        return abs(gap + everywhere) <= limit

    def _excused(self, x: Vector, size: Vector, top: float) -> bool:
        """Tell whether all misses pass by the scale that the full certificate gives each."""
        m, value = self.m, self.value
        reach = np.maximum(size, np.where(self.has_unit, self.unit, top))
        for v, low, high, own, far in (
            (value[:m], self.l, self.u, self._row_top(size), self._row_top(reach)),
            (value[m:], self.lb, self.ub, size, reach),
        ):
            above, below = v - high, low - v
            miss = np.maximum(above, below)
            bound = np.abs(np.where(above > below, high, low))
            scale = np.maximum(own, np.where(bound > _NO_BOUND * far, bound, _AT_REST * far))
            if not np.all((miss <= 0.0) | (miss <= self.tol * scale)):
                return False
        return True

    def _units(self) -> None:
        """Compute the smallest non-zero bound of each variable, and the scale it gives at least to bounds of zero."""
        low, high = np.abs(self.lb), np.abs(self.ub)
        low[low == 0.0] = np.inf
        high[high == 0.0] = np.inf
        unit = np.minimum(low, high)
        self.has_unit = np.isfinite(unit)
        self.all_units = bool(self.has_unit.all())
        self.unit = unit
        known = np.where(self.has_unit, unit, 0.0)
        self.rest = _AT_REST * np.concatenate((self._row_top(known), known))

    def _row_top(self, size: Vector) -> Any:
        out = np.zeros(self.m)
        if self.filled.size:
            rows = self.abs_rows
            out[self.filled] = np.maximum.reduceat(rows.data * size[rows.indices], self.starts)
        return out


class _Part:
    """The rows or the boxes: whether new bounds keep the pattern, and the miss of each that passes for certain."""

    def __init__(self, check: ArrayCheck, start: int, stop: int, bounds: tuple[Vector, Vector]) -> None:
        self.check, self.where = check, slice(start, stop)
        self.big_lo, self.big_hi = check.big_lo[start:stop], check.big_hi[start:stop]
        self.allowed = check.allowed[start:stop]
        self.low, self.high = np.empty(stop - start), np.empty(stop - start)
        lo, hi = bounds
        self.key = self._pattern(lo, hi)
        self.zero = (lo == 0.0) | (hi == 0.0)
        self.any_zero = bool(self.zero.any())
        # Beside a bound of zero, which leaves the scale to the reach, the other one may be smaller still.
        self.mixed = bool((self.zero & ~(((lo == 0.0) | np.isinf(lo)) & ((hi == 0.0) | np.isinf(hi)))).any())
        self.finite = (np.isfinite(lo) | np.isfinite(hi)).astype(np.float64)
        self.size = self._size(lo, hi)

    def _pattern(self, lo: Vector, hi: Vector) -> bytes:
        return (
            np.less(lo, hi).tobytes()
            + np.greater(lo, hi).tobytes()
            + np.isfinite(lo).tobytes()
            + np.isfinite(hi).tobytes()
            + np.equal(lo, 0.0).tobytes()
            + np.equal(hi, 0.0).tobytes()
        )

    def suits(self, lo: Vector, hi: Vector) -> bool:
        """Tell whether the pattern stays, and the size about."""
        if self._pattern(lo, hi) != self.key:
            return False
        return _near(self._size(lo, hi), self.size)

    def _size(self, lo: Vector, hi: Vector) -> float:
        low, high = self.low, self.high
        np.abs(lo, low)
        np.abs(hi, high)
        np.minimum(low, high, out=low)
        np.minimum(low, _BIG, out=low)
        np.multiply(low, self.finite, low)
        return float(low.dot(low))

    def put(self, lo: Vector, hi: Vector) -> None:
        """Compute what depends on the bounds."""
        np.maximum(lo, -_BIG, out=self.big_lo)
        np.minimum(hi, _BIG, out=self.big_hi)
        low, high, allowed = self.low, self.high, self.allowed
        np.abs(self.big_lo, low)
        np.abs(self.big_hi, high)
        np.minimum(low, high, out=allowed)
        if self.any_zero:
            rest = self.check.rest[self.where]
            if self.mixed:
                other = np.maximum(low, high)
                other[other == 0.0] = _BIG
                rest = np.minimum(other, rest)
            np.copyto(allowed, rest, where=self.zero)
        np.multiply(allowed, self.check.tol, allowed)


def _near(new: float, reference: float) -> bool:
    return reference <= _DRIFT * new and new <= _DRIFT * reference
