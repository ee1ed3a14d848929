"""Input checks that every module of the room shares: refuse at the edge, name the field, say the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput

__all__ = ["FloatArray", "check_psd", "finite_array", "finite_scalar", "frozen", "unique_names"]

FloatArray = NDArray[np.float64]


def frozen(array: FloatArray) -> FloatArray:
    """Return a read-only float64 copy: programs are values, nobody edits them in place."""
    copy = np.array(array, dtype=np.float64, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def finite_array(
    field: str,
    value: Any,
    shape: tuple[int, ...] | None = None,
    *,
    minimum: float | None = None,
    allow_inf: bool = False,
    ndim: int | None = None,
) -> FloatArray:
    """Return ``value`` as a read-only float64 array broadcast to ``shape``.

    Parameters
    ----------
    field
        Name used in the error.
    value
        Anything numpy can turn into floats.
    shape
        Required shape; what broadcasts to it (a scalar, one row) is accepted. None keeps the shape of ``value``.
    minimum
        Smallest admissible entry.
    allow_inf
        Whether ±inf is a legal "no bound". NaN never is.
    ndim
        Required number of dimensions when ``shape`` is None.

    Raises
    ------
    InvalidInput
        NaN, inf, a wrong shape, or an entry below ``minimum``.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput("is not numeric", field=field, value=value, remedy="pass numbers") from error
    if shape is not None:
        try:
            array = np.broadcast_to(array, shape)
        except ValueError as error:
            raise InvalidInput(
                f"has shape {array.shape} where {shape} is needed",
                field=field,
                value=array.shape,
                remedy=f"pass an array that broadcasts to {shape}",
            ) from error
    elif ndim is not None and array.ndim != ndim:
        raise InvalidInput(
            f"has {array.ndim} dimensions where {ndim} are needed",
            field=field,
            value=array.shape,
            remedy=f"pass an array with {ndim} dimensions",
        )
    bad = np.isnan(array) if allow_inf else ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InvalidInput(
            f"is not finite at index {where}",
            field=field,
            value=float(array[where]),
            remedy="fill or drop the missing entries before the call",
        )
    if minimum is not None and (array < minimum).any():
        where = tuple(int(i) for i in np.argwhere(array < minimum)[0])
        raise InvalidInput(
            f"must be at least {minimum:g}, broken at index {where}",
            field=field,
            value=float(array[where]),
            remedy="check the sign and the unit",
        )
    return frozen(array)


def finite_scalar(
    field: str, value: Any, *, minimum: float | None = None, positive: bool = False, allow_inf: bool = False
) -> float:
    """Return ``value`` as a float after the checks of :func:`finite_array`; ``positive`` asks for > 0."""
    number = float(finite_array(field, value, (), minimum=minimum, allow_inf=allow_inf))
    if positive and number <= 0.0:
        raise InvalidInput("must be positive", field=field, value=number, remedy="check the sign and the unit")
    return number


def check_psd(field: str, matrix: FloatArray, tol: float = 1e-9) -> FloatArray:
    """Return ``matrix`` symmetrised after checking that it is symmetric and positive semidefinite.

    Parameters
    ----------
    field
        Name used in the error.
    matrix
        Square matrix (n, n).
    tol
        Asymmetry and negative eigenvalues up to ``tol`` × the largest entry or eigenvalue pass as rounding.

    Raises
    ------
    InvalidInput
        Not square, not symmetric (an antisymmetric part pays a loop), or an eigenvalue below −tol·max|λ|; the message
        carries the smallest eigenvalue.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidInput("is not a square matrix", field=field, value=matrix.shape, remedy="pass shape (n, n)")
    size = float(np.abs(matrix).max(initial=0.0))
    asymmetry = float(np.abs(matrix - matrix.T).max(initial=0.0))
    if asymmetry > tol * size:
        raise InvalidInput(
            "is not symmetric",
            field=field,
            value=asymmetry,
            remedy="use (K + K')/2; the antisymmetric part would pay a round trip",
        )
    symmetric = 0.5 * (matrix + matrix.T)
    # Scaling by the diagonal keeps a violation by an illiquid name from hiding behind a liquid one.
    d = np.sqrt(np.maximum(np.diag(symmetric), 0.0))
    inverse = np.divide(1.0, d, out=np.zeros_like(d), where=d > 0.0)
    if (np.abs(symmetric[d == 0.0]) > tol * size).any() or np.diag(symmetric).min(initial=0.0) < -tol * size:
        smallest = float(np.linalg.eigvalsh(symmetric)[0])
    else:
        eigenvalues = np.linalg.eigvalsh(symmetric * np.outer(inverse, inverse)) if size else np.zeros(1)
        if eigenvalues[0] >= -tol * max(1.0, float(eigenvalues[-1])):
            return frozen(symmetric)
        smallest = float(np.linalg.eigvalsh(symmetric)[0])
    raise InvalidInput(
        f"is not positive semidefinite: smallest eigenvalue {smallest:.6g}",
        field=field,
        value=smallest,
        remedy="shrink it, or clip its negative eigenvalues knowingly before the call",
    )


def unique_names(field: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return ``names`` as a tuple of distinct non-empty strings, or raise InvalidInput."""
    result = tuple(str(name) for name in names)
    if not result or any(not name for name in result):
        raise InvalidInput("must hold at least one name, none empty", field=field, value=result, remedy="name them")
    seen: set[str] = set()
    for name in result:
        if name in seen:
            raise InvalidInput("holds a duplicate", field=field, value=name, remedy="aggregate or rename it")
        seen.add(name)
    return result
