"""What the estimators of the room share: parameters by name as scikit-learn reads them, checks of tables and labels."""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crosswind.optim.checks import FloatArray, finite_array
from crosswind.solvers.errors import InvalidInput

__all__ = ["Estimator", "check_features", "check_groups", "check_levels", "check_weights"]


class Estimator:
    """``__init__`` stores its arguments untouched; this reads and sets them by name and guards what is not fitted."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return sorted(p for p in inspect.signature(cls.__init__).parameters if p != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name; ``deep`` is accepted for scikit-learn and changes nothing."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments and return self.

        Raises
        ------
        InvalidInput
            For an unknown parameter.
        """
        known = self._parameter_names()
        for name, value in params.items():
            if name not in known:
                raise InvalidInput("unknown parameter", field=name, remedy=f"use one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def _require(self, attribute: str) -> Any:
        if not hasattr(self, attribute):
            raise InvalidInput("not fitted yet", field=type(self).__name__, remedy="call .fit(...) first")
        return getattr(self, attribute)

    def __repr__(self) -> str:
        defaults = {n: p.default for n, p in inspect.signature(type(self).__init__).parameters.items()}
        changed = (f"{n}={v!r}" for n, v in self.get_params().items() if repr(v) != repr(defaults[n]))
        return f"{type(self).__name__}({', '.join(changed)})"


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
