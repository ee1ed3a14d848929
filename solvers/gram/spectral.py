"""Eigendecompositions in the precision asked for, LAPACK's divide and conquer called directly.

numpy's float32 ``eigh`` costs as much as its float64; ``ssyevd`` itself half of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from crosswind.solvers.errors import SolverFailure

__all__ = ["Spectrum", "eigh", "product", "shifted_inverse"]

_PANEL = 256  # columns that are mirrored at a time
Floats = NDArray[Any]


def eigh(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues ascending and eigenvectors (columns) of a symmetric float32 or float64 matrix, which is kept."""
    driver = lapack.ssyevd if matrix.dtype == np.float32 else lapack.dsyevd
    # The transpose of a C-ordered symmetric matrix is the same matrix in LAPACK's order, without a copy.
    values, vectors, info = driver(matrix.T, compute_v=1, lower=1, overwrite_a=0)
    if info != 0 or not np.isfinite(values).all():
        values, vectors, info = (lapack.ssyevr if matrix.dtype == np.float32 else lapack.dsyevr)(matrix.T)[:3]
        if not np.isfinite(values).all():
            raise SolverFailure(
                "an eigendecomposition failed",
                field="S",
                value=f"LAPACK info {info}",
                remedy="rescale the data: entries may overflow",
            )
    return values, vectors


def shifted_inverse(S: Floats, weight: float, shift: float, dtype: Any) -> Floats:
    """Return (weight·S + shift·I)⁻¹ of a PSD S and a shift > 0 in ``dtype``, symmetric to the bit."""
    factor, inverse = (lapack.spotrf, lapack.spotri) if dtype == np.float32 else (lapack.dpotrf, lapack.dpotri)
    A = S.astype(dtype)
    A *= A.dtype.type(weight)
    A[np.diag_indices_from(A)] += A.dtype.type(shift)
    half, info = factor(A.T, lower=1, overwrite_a=1, clean=0)
    if info == 0:
        half, info = inverse(half, lower=1, overwrite_c=1)
    if info != 0:
        raise SolverFailure(
            "S with a shift could not be inverted", field="S", value=f"LAPACK info {info}", remedy="rescale the data"
        )
    out: Floats = half.T  # its upper triangle is the inverse
    for a in range(0, len(out), _PANEL):
        b = a + _PANEL
        out[b:, a:b] = out[a:b, b:].T
        corner = np.triu(out[a:b, a:b])
        out[a:b, a:b] = corner + np.triu(corner, 1).T
    return out


def product(vectors: Floats, weights: Floats, out: Floats | None = None) -> Floats:
    """V diag(w) V' for w ≥ 0, exactly symmetric, as the square of V√w."""
    half = vectors * np.sqrt(weights)
    # numpy sees that both factors are the same array and calls syrk: half the work, and symmetric to the bit.
    return np.matmul(half, half.T, out=out)


class Spectrum:
    """Eigenvalues and vectors of a symmetric matrix, split by sign."""

    def __init__(self, matrix: Floats) -> None:
        self.values, self.vectors = eigh(matrix)
        self.first = int(np.searchsorted(self.values, 0.0, side="right"))

    def positive(self, matrix: Floats, out: Floats) -> Floats:
        """Write the nearest PSD matrix to ``matrix`` into ``out``, through the smaller part of the spectrum."""
        n = len(self.values)
        if n - self.first <= self.first:
            return product(self.vectors[:, self.first :], self.values[self.first :], out)
        product(self.vectors[:, : self.first], -self.values[: self.first], out)
        return np.add(out, matrix, out=out)

    def plus(self) -> Floats:
        """Return the positive part in float64, PSD whatever the accuracy of the vectors."""
        return product(self.vectors[:, self.first :].astype(np.float64), self.values[self.first :].astype(np.float64))

    def minus(self) -> Floats:
        """Return the negative part, sign turned, in float64: PSD whatever the accuracy of the vectors."""
        return product(self.vectors[:, : self.first].astype(np.float64), -self.values[: self.first].astype(np.float64))
