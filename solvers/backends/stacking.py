"""Pick and stack rows and boxes of a quadratic program for backends that want one-sided or equality blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from crosswind.solvers.matrices import Csc
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Sides", "stack"]

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Sides:
    """Which rows and variables are equalities, and which have a finite upper or lower bound (equalities excluded)."""

    equal: Index
    upper: Index
    lower: Index
    fixed: Index
    box_upper: Index
    box_lower: Index
    key: bytes

    @classmethod
    def of(cls, program: QuadraticProgram) -> Sides:
        """Sort the bounds of ``program``."""
        row = _codes(program.l, program.u)
        box = _codes(program.lb, program.ub)
        return cls(
            equal=np.flatnonzero(row == 4),
            upper=np.flatnonzero(row & 1),
            lower=np.flatnonzero(row & 2),
            fixed=np.flatnonzero(box == 4),
            box_upper=np.flatnonzero(box & 1),
            box_lower=np.flatnonzero(box & 2),
            key=row.tobytes() + box.tobytes(),
        )


def _codes(lower: Any, upper: Any) -> npt.NDArray[np.uint8]:
    code: npt.NDArray[np.uint8] = np.isfinite(upper).astype(np.uint8) | (np.isfinite(lower).astype(np.uint8) << 1)
    code[lower == upper] = 4
    return code


def stack(A: Csc, pieces: tuple[tuple[str, Index, float], ...]) -> Csc:
    """Return the pieces, each (``"row"`` of A or ``"box"`` of the identity, indices, sign), stacked as a CSC matrix."""
    m, n = A.shape
    column = np.repeat(np.arange(n, dtype=np.int32), np.diff(A.indptr))
    data: list[Any] = []
    rows: list[Any] = []
    columns: list[Any] = []
    start = 0
    for kind, index, sign in pieces:
        if index.size == 0:
            continue
        if kind == "box":
            data.append(np.full(index.size, sign))
            rows.append(np.arange(start, start + index.size, dtype=np.int32))
            columns.append(index.astype(np.int32))
        elif index.size == m:
            data.append(A.data * sign)
            rows.append(A.indices + np.int32(start))
            columns.append(column)
        else:
            place = np.full(m, -1, dtype=np.int32)
            place[index] = np.arange(start, start + index.size, dtype=np.int32)
            where = place[A.indices]
            kept = where >= 0
            data.append(A.data[kept] * sign)
            rows.append(where[kept])
            columns.append(column[kept])
        start += index.size
    if not data:
        return sparse.csc_matrix((start, n), dtype=np.float64)
    return sparse.csc_matrix(
        (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), shape=(start, n), dtype=np.float64
    )
