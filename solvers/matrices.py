"""Checked, read-only arrays and sparse matrices: what every program is built from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from crosswind.solvers.errors import InvalidInput

__all__ = [
    "INFINITE_BOUND",
    "Csc",
    "Vector",
    "bounds",
    "frozen",
    "names_of",
    "sparse_matrix",
    "symmetric",
    "values_on",
    "vector",
]

Vector = npt.NDArray[np.float64]
# scipy's sparse classes are generic only in its stubs; one alias keeps the annotations of the room readable.
Csc = Any

INFINITE_BOUND = 1e20
"""A bound at or beyond this size is read as infinite, as the backends read it."""

_ASYMMETRY = 1e-10


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``array`` with writing switched off."""
    array.flags.writeable = False
    return array


def vector(value: object, size: int, field: str, *, label: str = "entry") -> Vector:
    """Return ``value`` as a read-only float64 vector of shape (size,); a scalar is spread.

    Raises
    ------
    InvalidInput
        On a wrong shape, on text, on NaN or infinite entries.
    """
    out = _float_array(value, field)
    if out.ndim == 0:
        out = np.full(size, float(out))
    if out.shape != (size,):
        raise InvalidInput(
            f"expected shape ({size},)", field=field, value=out.shape, remedy="give one number per " + label
        )
    if not np.isfinite(out).all():
        at = int(np.flatnonzero(~np.isfinite(out))[0])
        raise InvalidInput(
            f"{label} {at} is not finite", field=field, value=out[at], remedy="clean the data before building"
        )
    return frozen(out)


def bounds(
    lower: object, upper: object, size: int, fields: tuple[str, str], names: tuple[str, ...] | None
) -> tuple[Vector, Vector]:
    """Return a checked pair of bound vectors, infinite where |bound| ≥ ``INFINITE_BOUND``.

    Raises
    ------
    InvalidInput
        On NaN, on a lower bound of +∞, an upper bound of −∞ or lower > upper; the row or variable is named.
    """
    pair = []
    for value, default, field in ((lower, -np.inf, fields[0]), (upper, np.inf, fields[1])):
        out = np.full(size, default) if value is None else _float_array(value, field)
        if out.ndim == 0:
            out = np.full(size, float(out))
        if out.shape != (size,):
            raise InvalidInput(f"expected shape ({size},)", field=field, value=out.shape, remedy="give one bound each")
        pair.append(out)
    low, high = pair
    for out, field in ((low, fields[0]), (high, fields[1])):
        if np.isnan(out).any():
            at = int(np.flatnonzero(np.isnan(out))[0])
            raise InvalidInput(
                f"bound of {_named(names, at)} is NaN",
                field=field,
                value=out[at],
                remedy="use ±inf where there is no bound",
            )
    np.copyto(low, -np.inf, where=low <= -INFINITE_BOUND)
    np.copyto(high, np.inf, where=high >= INFINITE_BOUND)
    bad = (low > high) | (low >= INFINITE_BOUND) | (high <= -INFINITE_BOUND)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise InvalidInput(
            f"the bounds of {_named(names, at)} leave no value",
            field=f"{fields[0]}/{fields[1]}",
            value=(float(low[at]), float(high[at])),
            remedy="make the lower bound at most the upper one",
        )
    return frozen(low), frozen(high)


def sparse_matrix(value: Csc, shape: tuple[int, int], field: str) -> Csc:
    """Return ``value`` as a read-only float64 CSC matrix of ``shape``; ``None`` gives the zero matrix.

    Explicit zeros of a sparse input are kept: they are part of its fixed pattern.

    Raises
    ------
    InvalidInput
        On a wrong shape or on NaN or infinite entries.
    """
    if value is None:
        out = sparse.csc_matrix(shape, dtype=np.float64)
    elif sparse.issparse(value):
        given: Any = value
        out = sparse.csc_matrix(given, dtype=np.float64, copy=True)
        out.sum_duplicates()
    else:
        dense = _float_array(value, field)
        if dense.ndim != 2:
            raise InvalidInput("expected a matrix", field=field, value=dense.shape, remedy=f"give shape {shape}")
        out = sparse.csc_matrix(dense)
    if out.shape != shape:
        raise InvalidInput(f"expected shape {shape}", field=field, value=out.shape, remedy="match q and the bounds")
    if not np.isfinite(out.data).all():
        at = int(np.flatnonzero(~np.isfinite(out.data))[0])
        where = (int(out.indices[at]), int(np.searchsorted(out.indptr, at, side="right")) - 1)
        raise InvalidInput(
            f"entry {where} is not finite", field=field, value=out.data[at], remedy="clean the data before building"
        )
    return lock(out)


def lock(matrix: Csc) -> Csc:
    """Sort a CSC matrix's indices and switch writing to its arrays off."""
    if not matrix.has_sorted_indices:
        matrix.sort_indices()
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


def symmetric(matrix: Csc, field: str = "P") -> Csc:
    """Return ``matrix`` made exactly symmetric, or refuse it.

    Differences up to 1e-10 of the largest entry are rounding of the caller's own arithmetic and are averaged away.

    Raises
    ------
    InvalidInput
        When the matrix is triangular (backends read one triangle only and would solve another problem) or asymmetric.
    """
    if matrix.nnz == 0:
        return matrix
    flipped = matrix.T.tocsc()
    same_pattern = matrix.nnz == flipped.nnz and np.array_equal(matrix.indices, flipped.indices)
    if same_pattern:
        if np.array_equal(matrix.data, flipped.data):
            return matrix
        worst = float(np.max(np.abs(matrix.data - flipped.data)))
    else:
        worst = float(np.max(np.abs((matrix - flipped).data), initial=0.0))
    scale = float(np.max(np.abs(matrix.data)))
    if worst <= _ASYMMETRY * scale:
        if same_pattern:  # a sum of sparse matrices would drop the explicit zeros of the fixed pattern
            halves = 0.5 * (matrix.data + flipped.data)
            return lock(sparse.csc_matrix((halves, matrix.indices, matrix.indptr), shape=matrix.shape))
        return lock(sparse.csc_matrix((matrix + flipped) * 0.5))
    strict_lower, strict_upper = sparse.tril(matrix, -1).nnz, sparse.triu(matrix, 1).nnz
    if (strict_lower == 0) != (strict_upper == 0):
        raise InvalidInput(
            "is triangular",
            field=field,
            value=f"largest |P − P'| = {worst:.3g}",
            remedy="give the full symmetric matrix T + T' − diag(T), so that nobody has to guess which half counts",
        )
    raise InvalidInput(
        "is not symmetric",
        field=field,
        value=f"largest |P − P'| = {worst:.3g}",
        remedy="give (P + P')/2, which has the same quadratic form",
    )


def values_on(pattern: Csc, matrix: object, field: str) -> Vector:
    """Return the entries of ``matrix`` at the places that ``pattern`` stores, in the order of ``pattern.data``.

    Raises
    ------
    InvalidInput
        On another shape, entries that are not finite, or non-zero entries outside the pattern.
    """
    given = sparse_matrix(matrix, pattern.shape, field)
    height = max(pattern.shape[0], 1)
    keys = [
        np.repeat(np.arange(part.shape[1], dtype=np.int64), np.diff(part.indptr)) * height + part.indices
        for part in (pattern, given)
    ]
    place = np.searchsorted(keys[0], keys[1])
    inside = np.zeros(given.nnz, dtype=bool)
    near = place < pattern.nnz
    inside[near] = keys[0][place[near]] == keys[1][near]
    outside = np.flatnonzero(~inside & (given.data != 0.0))
    if outside.size:
        column, row = divmod(int(keys[1][outside[0]]), height)
        raise InvalidInput(
            f"entry {(row, column)} lies outside the fixed pattern",
            field=field,
            value=float(given.data[outside[0]]),
            remedy="build the first program with explicit zeros wherever entries may come",
        )
    out = np.zeros(pattern.nnz)
    out[place[inside]] = given.data[inside]
    return out


def names_of(names: object, size: int, field: str) -> tuple[str, ...] | None:
    """Return names as a tuple of distinct text, or ``None``.

    Raises
    ------
    InvalidInput
        When the count differs from ``size`` or a name occurs twice.
    """
    if names is None:
        return None
    out = tuple(str(name) for name in names)  # type: ignore[attr-defined]
    if len(out) != size:
        raise InvalidInput(f"expected {size} names", field=field, value=len(out), remedy="name every one or none")
    if len(set(out)) != size:
        twice = next(name for name in out if out.count(name) > 1)
        raise InvalidInput("a name occurs twice", field=field, value=twice, remedy="make the names distinct")
    return out


def _float_array(value: object, field: str) -> Vector:
    try:
        given = np.asarray(value)
        if given.dtype.kind in "cSUmM":  # numpy would read digits from text, and drop imaginary parts
            raise TypeError
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise InvalidInput(
            "cannot be read as numbers", field=field, value=type(value).__name__, remedy="give a float array"
        ) from err


def _named(names: tuple[str, ...] | None, at: int) -> str:
    return f"number {at}" if names is None else f"{names[at]!r} (number {at})"
