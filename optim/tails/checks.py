"""What the estimators of the room share: checks of tables, weights, levels and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.optim.checks import FloatArray, finite_array
from crosswind.solvers.errors import InvalidInput

__all__ = ["check_features", "check_groups", "check_levels", "check_weights"]


def check_features(X: Any, columns: int | None = None, field: str = "X") -> FloatArray:
    """Return ``X`` as a finite (n, p) array with n ≥ 1; one-dimensional input is a single column.

    Raises
    ------
    InvalidInput
        No rows, NaN or inf, or another number of columns than at the fit.
    """
    array = np.asarray(X)
    array = finite_array(field, array[:, None] if array.ndim == 1 else array, ndim=2)
    if array.shape[0] == 0:
        raise InvalidInput("has no rows", field=field, value=array.shape, remedy="pass at least one sample")
    if columns is not None and array.shape[1] != columns:
        raise InvalidInput(
            "has another number of columns than at the fit", field=field, value=array.shape[1], remedy=f"pass {columns}"
        )
    return array


def check_weights(weights: Any, rows: int) -> FloatArray:
    """Return weights (n,) that sum to 1: ones where None.

    Raises
    ------
    InvalidInput
        Negative or not finite, of another length, or all zero.
    """
    array = finite_array("weights", np.ones(rows) if weights is None else weights, minimum=0.0, ndim=1)
    if array.shape != (rows,):
        raise InvalidInput("is not one per row", field="weights", value=array.shape, remedy=f"pass shape ({rows},)")
    total = float(array.sum())
    if not total > 0.0:
        raise InvalidInput("are all zero", field="weights", value=total, remedy="give some sample a positive weight")
    scaled: FloatArray = array / total
    return scaled


def check_levels(levels: Any, field: str = "levels") -> FloatArray:
    """Return quantile levels (K,), strictly increasing in (0, 1).

    Raises
    ------
    InvalidInput
        Empty, out of range, or not increasing.
    """
    array = finite_array(field, np.atleast_1d(np.asarray(levels, dtype=np.float64)), ndim=1)
    if array.size == 0 or array[0] <= 0.0 or array[-1] >= 1.0 or (np.diff(array) <= 0.0).any():
        raise InvalidInput(
            "must increase strictly within (0, 1)", field=field, value=array.tolist(), remedy="e.g. (0.5, 0.9, 0.95)"
        )
    return array


def check_groups(groups: Any, rows: int, field: str = "groups") -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return the group number of each row (n,) and the groups' labels in sorted order.

    Raises
    ------
    InvalidInput
        Of another length than the rows.
    """
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise InvalidInput("is not one label per row", field=field, value=array.shape, remedy=f"pass shape ({rows},)")
    labels, codes = np.unique(array, return_inverse=True)
    return codes.astype(np.intp), labels
