"""Collects the blocks of a sparse quadratic program by index arithmetic, without a Python loop per entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from crosswind.optim.checks import FloatArray

__all__ = ["Assembler", "IndexArray", "VectorAssembler", "label_grid"]

IndexArray = NDArray[np.int64]


def label_grid(name: str, columns: tuple[str, ...], rows: int, start: int = 0) -> Callable[[], list[str]]:
    """Return a maker of names such as ``participation[AAPL,3]`` for a (rows, columns) block, row-major."""
    return lambda: [f"{name}[{column},{t}]" for t in range(start, start + rows) for column in columns]


@dataclass
class Assembler:
    """Builder of min ½x'Px + q'x + constant s.t. l ≤ Ax ≤ u, lb ≤ x ≤ ub from blocks.

    Each block of variables or rows is an integer array of any shape holding positions; coefficients are added with
    broadcasting over such arrays. ``var_scale`` holds the typical size of each variable and ``row_scale`` that of
    each row; the program handed to a solver is x = D x̂, rows / E, objective / ``cost_scale``.
    """

    n: int = 0
    m: int = 0
    constant: float = 0.0
    _q: list[tuple[IndexArray, FloatArray]] = field(default_factory=list)
    _P: list[tuple[IndexArray, IndexArray, FloatArray]] = field(default_factory=list)
    _A: list[tuple[IndexArray, IndexArray, FloatArray]] = field(default_factory=list)
    _bounds: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    _rows: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    _var_scale: list[FloatArray] = field(default_factory=list)
    _row_scale: list[FloatArray] = field(default_factory=list)
    _row_names: list[Callable[[], list[str]]] = field(default_factory=list)
    _var_names: list[Callable[[], list[str]]] = field(default_factory=list)

    def variables(
        self,
        shape: tuple[int, ...],
        names: Callable[[], list[str]],
        scale: ArrayLike,
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
    ) -> IndexArray:
        """Add a block of variables and return their indices in ``shape``."""
        index, low, high, typical = _block(self.n, shape, lower, upper, scale)
        self.n += index.size
        self._bounds.append((low, high))
        self._var_scale.append(typical)
        self._var_names.append(names)
        return index

    def rows(
        self,
        shape: tuple[int, ...],
        names: Callable[[], list[str]],
        scale: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
    ) -> IndexArray:
        """Add a block of rows lower ≤ · ≤ upper and return their indices in ``shape``."""
        index, low, high, typical = _block(self.m, shape, lower, upper, scale)
        self.m += index.size
        self._rows.append((low, high))
        self._row_scale.append(typical)
        self._row_names.append(names)
        return index

    def add_coefficients(self, rows: Any, columns: Any, values: Any) -> None:
        """Add coefficients, broadcasting the three against each other."""
        self._A.append(_triplet(rows, columns, values))

    def add_quadratic(self, rows: Any, columns: Any, values: Any) -> None:
        """Add entries of the symmetric P (both triangles are given by the caller)."""
        self._P.append(_triplet(rows, columns, values))

    def add_quadratic_block(self, index: IndexArray, weights: FloatArray, matrix: FloatArray) -> None:
        """Add weights_t·matrix on the variables index[t] (T, d) for every t, zeros of the matrix left out."""
        i, j = np.nonzero(matrix)
        keep = weights != 0.0
        self.add_quadratic(index[keep][:, i], index[keep][:, j], weights[keep][:, None] * matrix[i, j])

    def add_linear(self, columns: Any, values: Any) -> None:
        """Add a linear cost."""
        c, v = np.broadcast_arrays(columns, values)
        self._q.append((c.ravel(), v.ravel().astype(np.float64)))

    def linear_cost(self) -> FloatArray:
        """Return the linear cost (n,), unscaled."""
        q = np.zeros(self.n)
        for columns, values in self._q:
            np.add.at(q, columns, values)
        return q

    def quadratic_cost(self) -> sparse.csc_matrix:
        """Return P, unscaled."""
        return _matrix(self._P, (self.n, self.n))

    def coefficients(self) -> sparse.csc_matrix:
        """Return A, unscaled."""
        return _matrix(self._A, (self.m, self.n))

    def row_bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return (l, u), unscaled."""
        return _pair(self._rows)

    def var_bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return (lb, ub), unscaled."""
        return _pair(self._bounds)

    def var_scale(self) -> FloatArray:
        """Return D (n,)."""
        return np.concatenate([np.empty(0), *self._var_scale])

    def row_scale(self) -> FloatArray:
        """Return E (m,)."""
        return np.concatenate([np.empty(0), *self._row_scale])

    def row_names(self) -> tuple[str, ...]:
        """Return one name per row."""
        return tuple(name for make in self._row_names for name in make())

    def var_names(self) -> tuple[str, ...]:
        """Return one name per variable."""
        return tuple(name for make in self._var_names for name in make())


class VectorAssembler(Assembler):
    """An assembler that numbers variables and rows and keeps vectors, and drops every coefficient of a matrix."""

    def add_coefficients(self, rows: Any, columns: Any, values: Any) -> None:
        """Drop the coefficients: A is known already."""

    def add_quadratic(self, rows: Any, columns: Any, values: Any) -> None:
        """Drop the entries: P is known already."""

    def add_quadratic_block(self, index: IndexArray, weights: FloatArray, matrix: FloatArray) -> None:
        """Drop the block: P is known already."""


def _block(
    start: int, shape: tuple[int, ...], lower: ArrayLike, upper: ArrayLike, scale: ArrayLike
) -> tuple[IndexArray, FloatArray, FloatArray, FloatArray]:
    """Return the numbers of a block of ``shape`` from ``start`` on, and bounds and scale flattened to match."""
    size = int(np.prod(shape))
    index = np.arange(start, start + size, dtype=np.int64).reshape(shape)
    low, high, typical = (
        np.broadcast_to(np.asarray(v, dtype=np.float64), shape).ravel() for v in (lower, upper, scale)
    )
    return index, low, high, typical


def _triplet(rows: Any, columns: Any, values: Any) -> tuple[IndexArray, IndexArray, FloatArray]:
    r, c, v = np.broadcast_arrays(rows, columns, values)
    return r.ravel(), c.ravel(), v.ravel().astype(np.float64)


def _matrix(triplets: list[tuple[IndexArray, IndexArray, FloatArray]], shape: tuple[int, int]) -> sparse.csc_matrix:
    if not triplets:
        return sparse.csc_matrix(shape)
    r, c, v = (np.concatenate(part) for part in zip(*triplets, strict=True))
    matrix = sparse.coo_matrix((v, (r, c)), shape=shape).tocsc()
    matrix.sum_duplicates()
    return sparse.csc_matrix(matrix)


def _pair(blocks: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    low = np.concatenate([np.empty(0), *(b[0] for b in blocks)])
    return low, np.concatenate([np.empty(0), *(b[1] for b in blocks)])
