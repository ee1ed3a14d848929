"""Is a symmetric sparse matrix positive semidefinite? Decided by factorisation, never by an iterative eigensolver."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Csc, Vector

__all__ = ["is_convex", "require_convex"]

_SHIFT = 1e-10  # of a matrix scaled to unit diagonal: far above the rounding of P = G'G, far below the tolerances
_NOISE = 1e-14  # of the largest entry: a diagonal below it counts as zero
_DENSE = 200  # up to this order a dense Cholesky costs less than looking at the pattern


def is_convex(P: Csc) -> bool:
    r"""Tell whether ``P`` (n, n), symmetric CSC, is positive semidefinite up to rounding.

    With :math:`D_{jj} = \max(P_{jj}, 10^{-14}\max|P|)` the test is a Cholesky factorisation of
    :math:`D^{-1/2} P D^{-1/2} + 10^{-10} I`, one connected block of the pattern at a time: dense for small blocks, by
    the pivots of a symmetric-mode LU for large sparse ones. Scaling first makes the answer independent of the units of
    the variables. Diagonal and diagonally dominant matrices are decided without factorising.
    """
    if P.nnz == 0:
        return True
    diagonal: Vector = P.diagonal()
    columns = np.repeat(np.arange(P.shape[0]), np.diff(P.indptr))
    # Gershgorin: exact arithmetic is not needed, a failure here only means that we look closer.
    absolute = np.bincount(columns, weights=np.abs(P.data), minlength=P.shape[0])
    if np.all(2.0 * diagonal >= absolute):
        return True
    off = absolute - np.abs(diagonal)
    if np.any((diagonal < 0.0) & (off <= 0.0)):
        return False
    top = float(np.max(np.abs(P.data)))
    if np.any(diagonal < -_NOISE * top):
        return False
    scale = 1.0 / np.sqrt(np.maximum(diagonal, _NOISE * top))
    scaled = sparse.csc_matrix((P.data * scale[P.indices] * scale[columns], P.indices, P.indptr), shape=P.shape)
    if P.shape[0] <= _DENSE:
        return _dense_positive(scaled.toarray())
    count, label = connected_components(scaled, directed=False)
    if count == 1:
        return _positive(scaled)
    order = np.argsort(label, kind="stable")
    edges = np.searchsorted(label[order], np.arange(count + 1))
    grouped = scaled[order][:, order]
    single = order[edges[:-1][np.diff(edges) == 1]]
    if np.any(diagonal[single] < 0.0):
        return False
    return all(_positive(grouped[a:b, a:b]) for a, b in pairwise(edges) if b - a > 1)


def require_convex(P: Csc) -> None:
    """Raise unless ``P`` passes :func:`is_convex`.

    Raises
    ------
    InvalidInput
        With the smallest eigenvalue (small orders) or diagonal entry.
    """
    if is_convex(P):
        return
    if P.shape[0] <= 1000:
        value = f"smallest eigenvalue {np.linalg.eigvalsh(P.toarray())[0]:.3g}"
    else:
        value = f"smallest diagonal entry {P.diagonal().min():.3g}"
    raise InvalidInput(
        "is not positive semidefinite, the program is not convex",
        field="P",
        value=value,
        remedy="project the matrix on the PSD cone or remove the concave term",
    )


def _dense_positive(matrix: Any) -> bool:
    matrix[np.diag_indices_from(matrix)] += _SHIFT
    _, info = lapack.dpotrf(matrix, lower=1, overwrite_a=1)
    return int(info) == 0


def _positive(matrix: Csc) -> bool:
    n = matrix.shape[0]
    if n <= _DENSE or (n <= 3000 and matrix.nnz > 0.2 * n * n):
        return _dense_positive(matrix.toarray())
    shifted = sparse.csc_matrix(matrix + _SHIFT * sparse.identity(n, format="csc"))
    try:
        # Without row exchanges LU is LDL': the signs of the pivots are the inertia (Sylvester).
        factor = splu(
            shifted,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True, "Equil": False},
        )
    except RuntimeError:  # exactly singular: an eigenvalue sits at minus the shift
        return False
    return bool(np.array_equal(factor.perm_r, factor.perm_c) and np.all(factor.U.diagonal() > 0.0))
