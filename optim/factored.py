"""Symmetric matrices kept as a diagonal and a few columns, so that thousands of names never meet as an n × n matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crosswind.optim.checks import FloatArray, finite_array
from crosswind.solvers.errors import InvalidInput

__all__ = ["FactorMatrix", "FactorRisk", "columns_of", "dense_of", "diagonal_of", "image", "same_matrix"]


@dataclass(frozen=True, eq=False)
class FactorMatrix:
    """M = F F' + diag(d), positive semidefinite by construction and kept factorised, so that the program stays sparse.

    It serves as a covariance (then called :data:`FactorRisk`) and as an impact matrix.

    Parameters
    ----------
    loadings
        F (k, f); of a covariance: return per square root of a slice, factor covariance absorbed; of impact: square root
        of return per currency. f may be 0.
    specific
        d (k,) ≥ 0: specific return variance per slice, or self-impact beyond the factors [return per currency].

    Raises
    ------
    InvalidInput
        On shapes that do not fit, NaN or a negative ``specific``.
    """

    loadings: FloatArray
    specific: FloatArray

    def __post_init__(self) -> None:
        loadings = finite_array("covariance.loadings", self.loadings, ndim=2)
        object.__setattr__(self, "loadings", loadings)
        specific = finite_array("covariance.specific", self.specific, (len(loadings),), minimum=0.0)
        object.__setattr__(self, "specific", specific)

    def dense(self) -> FloatArray:
        """Return F F' + diag(d), (k, k)."""
        return np.asarray(self.loadings @ self.loadings.T + np.diag(self.specific), dtype=np.float64)

    @property
    def diagonal(self) -> FloatArray:
        """Return the diagonal of M (k,)."""
        return np.asarray((self.loadings**2).sum(axis=1) + self.specific, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.specific)


FactorRisk = FactorMatrix


def _factored(matrix: Any) -> bool:
    return isinstance(matrix, FactorMatrix)


def image(rows: FloatArray, matrix: FloatArray | FactorMatrix) -> FloatArray:
    """Return rows @ matrix for rows (…, k)."""
    if isinstance(matrix, FactorMatrix):
        return np.asarray((rows @ matrix.loadings) @ matrix.loadings.T + rows * matrix.specific, dtype=np.float64)
    return np.asarray(rows @ matrix, dtype=np.float64)


def diagonal_of(matrix: FloatArray | FactorMatrix) -> FloatArray:
    """Return the diagonal (k,)."""
    return matrix.diagonal if isinstance(matrix, FactorMatrix) else np.asarray(np.diag(matrix), dtype=np.float64)


def dense_of(matrix: FloatArray | FactorMatrix) -> FloatArray:
    """Return the matrix itself (k, k)."""
    return matrix.dense() if isinstance(matrix, FactorMatrix) else np.asarray(matrix, dtype=np.float64)


def columns_of(matrix: FloatArray | FactorMatrix) -> FloatArray:
    """Return R with R R' = matrix: (k, f + k) for a factored one, (k, k) for a dense PSD one."""
    if isinstance(matrix, FactorMatrix):
        return np.hstack([matrix.loadings, np.diag(np.sqrt(matrix.specific))])
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float64)


def same_matrix(one: Any, other: Any) -> bool:
    """Return whether two matrices are of one form and equal."""
    if _factored(one) or _factored(other):
        return (
            type(one) is type(other)
            and np.array_equal(one.loadings, other.loadings)
            and np.array_equal(one.specific, other.specific)
        )
    return bool(np.array_equal(one, other))


def check_size(field: str, matrix: FloatArray | FactorMatrix, n: int) -> None:
    """Refuse a matrix that is not n × n.

    Raises
    ------
    InvalidInput
        With the shape found.
    """
    shape = (len(matrix), len(matrix)) if isinstance(matrix, FactorMatrix) else matrix.shape
    if shape != (n, n):
        raise InvalidInput(
            f"has shape {shape} where {(n, n)} is needed",
            field=field,
            value=shape,
            remedy="one row and column per instrument, in the order of instruments",
        )
