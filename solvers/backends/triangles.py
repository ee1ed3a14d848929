"""Where the entries of a symmetric matrix stand in the orders in which solvers stack them."""

from __future__ import annotations

import numpy as np

from crosswind.solvers.backends.stacking import Index

__all__ = ["lower_by_columns", "upper_by_columns"]


def upper_by_columns(order: int) -> tuple[Index, Index]:
    """Return row and column of each entry of our svec, the upper triangle stacked by columns."""
    column, row = np.tril_indices(order)
    return row, column


def lower_by_columns(order: int) -> Index:
    """Return, for each entry of a lower triangle stacked by columns, its place in our svec."""
    column, row = np.triu_indices(order)
    return np.asarray(row * (row + 1) // 2 + column)
