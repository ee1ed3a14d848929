"""The plan that a controller knows: what it was given last, moved on by the slices that have passed since."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.problems.replay.model import FloatArray

__all__ = ["PlannedPath"]

_FLOAT = np.dtype(np.float64)


class PlannedPath:
    """The required hedge after each coming slice, in the program's unit.

    Parameters
    ----------
    exposures
        Their number k.
    unit
        Of the program [currency].
    """

    __slots__ = ("_behind", "_k", "_per", "_rows", "_same")

    def __init__(self, exposures: int, unit: float) -> None:
        self._k, self._per = exposures, np.array(1.0 / unit)
        self._rows: FloatArray | None = None
        self._behind = 0  # slices that have passed since the first row
        self._same: FloatArray = np.zeros((0, exposures))  # takes the next plan of its shape

    def keep(self, plan: Any) -> None:
        """Take a new plan (n, k) [currency]; one that is no plan is none."""
        self._behind = 0
        same = self._same
        if type(plan) is np.ndarray and plan.shape == same.shape and plan.dtype is _FLOAT and len(same):
            self._rows = np.multiply(plan, self._per, same)
            return
        try:
            rows = np.multiply(plan, self._per)
            if rows.dtype is not _FLOAT:
                rows = rows.astype(np.float64)
        except (TypeError, ValueError):
            self._rows = None
            return
        if rows.ndim == 1 and self._k == 1:
            rows = rows[:, None]
        shape = rows.shape
        self._rows = rows if len(shape) == 2 and shape[1] == self._k and shape[0] else None
        if self._rows is not None and rows.flags.c_contiguous:
            self._same = rows

    def move(self, slices: int) -> None:
        """Let slices pass."""
        self._behind += slices

    def rows(self) -> FloatArray | None:
        """Return what is left of the plan (n, k), its last row at least; None where there is none."""
        rows = self._rows
        if self._behind and rows is not None:
            self._rows = rows = rows[max(0, min(self._behind, len(rows) - 1)) :]
            self._behind = 0
        return rows

    def restore(self, rows: Any) -> None:
        """Take over what :meth:`rows` returned."""
        self._rows = None if rows is None else np.array(rows, dtype=np.float64).reshape(-1, self._k)
        self._behind = 0
