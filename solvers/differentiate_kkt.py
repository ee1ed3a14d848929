r"""The KKT matrix of a fixed set of active limits, factorised once and solved for many right-hand sides.

.. math::

    \begin{pmatrix} P & B' \\ B & 0 \end{pmatrix} \begin{pmatrix} d \\ \lambda \end{pmatrix}
    = \begin{pmatrix} r \\ b \end{pmatrix}

The rows of B are the active rows of A and the unit vectors of the active boxes; the latter are eliminated, so that the
matrix has the order of the free variables plus the active rows. It is scaled to a unit diagonal where P curves and to
rows of size one elsewhere (after Ruiz, 2001), and its condition is estimated from its factors. Two relatives of it tell
why it is singular: with I in place of P it is regular exactly when the active rows are independent (LICQ), with −I in
place of 0 exactly when P curves in every direction that the active limits leave free.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, lsmr, onenormest, splu

from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["DENSE", "ActiveKkt", "independent"]

DENSE = 400
"""Order up to which the matrix is factorised densely."""

_DENSE_PSEUDO = 2_000


class ActiveKkt:
    """The factorised KKT matrix of the limits that are held.

    Parameters
    ----------
    program
        The program with n variables and m rows.
    held
        (m + n,) which rows and boxes are taken as equalities.
    cut
        Reciprocal condition below which the matrix counts as singular; then the least-norm solution in the matrix's
        own equilibrated units is given.

    Attributes
    ----------
    held, singular, reciprocal_condition
        The set, whether the matrix counts as singular, and the estimate in the one norm.
    """

    def __init__(self, program: QuadraticProgram, held: npt.NDArray[np.bool_], cut: float) -> None:
        self._program, self.held, self._cut = program, held, cut
        self._rows = np.flatnonzero(held[: program.m])
        self._boxes, self._free = np.flatnonzero(held[program.m :]), np.flatnonzero(~held[program.m :])
        order = self._free.size + self._rows.size
        self._full: Any = program.P
        self._wide: Any = _picked(program.A, self._rows)
        if order <= DENSE and program.n <= 2 * DENSE:
            self._full, self._wide = self._full.toarray(), self._wide.toarray()
        if self._boxes.size:
            self._P, self._B = self._full[self._free][:, self._free], self._wide[:, self._free]
        else:
            self._P, self._B = self._full, self._wide
        matrix = _joined(self._P, self._B)
        self._scale = _equilibrated(matrix, self._free.size)
        self._matrix = _scaled(matrix, self._scale)
        self._factor = _Factor(self._matrix)
        self.reciprocal_condition = self._factor.rcond
        self.singular = order > 0 and self.reciprocal_condition < cut
        self._pseudo: tuple[Vector, Vector] | None = None
        if self.singular and order <= _DENSE_PSEUDO:
            dense = _dense(self._matrix)
            values, vectors = np.linalg.eigh(0.5 * (dense + dense.T))
            kept = np.abs(values) > cut * float(np.max(np.abs(values), initial=0.0))
            self._pseudo = (values[kept], vectors[:, kept])

    def solve(self, r: Vector, b: Vector) -> tuple[Vector, Vector]:
        """Solve for one right-hand side.

        Parameters
        ----------
        r, b
            (n,) and (m + n,); of the second only the entries of held limits count.

        Returns
        -------
        tuple
            d (n,) and λ (m + n,), zero for limits that are not held. As an operator it is symmetric.
        """
        m, n, free = self._program.m, self._program.n, self._free
        d, multiplier = np.zeros(n), np.zeros(m + n)
        d[self._boxes] = b[m + self._boxes]
        right = np.concatenate(((r - self._full @ d)[free], b[self._rows] - self._wide @ d))
        found = self._reduced(right)
        d[free] = found[: free.size]
        multiplier[self._rows] = found[free.size :]
        left = r - self._full @ d - self._wide.T @ multiplier[self._rows]
        multiplier[m + self._boxes] = left[self._boxes]
        return d, multiplier

    def _reduced(self, right: Vector) -> Vector:
        if right.size == 0:
            return right
        right = self._scale * right
        if not self.singular:
            found = self._factor.solve(right)
            found = found + self._factor.solve(right - self._matrix @ found)
        elif self._pseudo is not None:
            values, vectors = self._pseudo
            found = vectors @ ((vectors.T @ right) / values)
        else:
            found = lsmr(self._matrix, right, atol=1e-14, btol=1e-14, conlim=0.0, maxiter=20 * right.size)[0]
        return np.asarray(self._scale * found)

    def reasons(self) -> tuple[bool, bool]:
        """Return whether the held limits depend on each other, and whether P is flat in a direction they leave free."""
        if not self.singular:
            return False, False
        free = self._free.size
        x_scale, row_scale = self._scale[:free], self._scale[free:]
        P, B = _scaled(self._P, x_scale), _scaled(self._B, row_scale, x_scale)
        rank = _Factor(_joined(_identity(free, P), B)).rcond
        bend = _Factor(_joined(P, B, -1.0)).rcond
        dependent, flat = rank < self._cut, bend < self._cut
        # Each alone can pass where the whole does not: the worse of the two is then named.
        return (dependent, flat) if dependent or flat else (rank <= bend, bend < rank)


def independent(program: QuadraticProgram, held: npt.NDArray[np.bool_], cut: float) -> bool:
    """Tell whether the gradients of the ``held`` limits (m + n,) are linearly independent (LICQ)."""
    rows, free = np.flatnonzero(held[: program.m]), np.flatnonzero(~held[program.m :])
    if rows.size == 0:
        return True
    if rows.size > free.size:
        return False
    B = _picked(program.A, rows)[:, free]
    B = B.toarray() if free.size + rows.size <= DENSE else B
    matrix = _joined(_identity(free.size, B), B)
    return _Factor(_scaled(matrix, _equilibrated(matrix, free.size))).rcond >= cut


class _Factor:
    """LU factors of a symmetric matrix, dense or sparse by its order, with its reciprocal condition."""

    def __init__(self, matrix: Any) -> None:
        order = matrix.shape[0]
        self.rcond = 1.0
        self._dense: Any = None
        self._sparse: Any = None
        if order == 0:
            return
        norm = float(np.max(np.asarray(abs(matrix).sum(axis=0))))
        if norm == 0.0:
            self.rcond = 0.0
        elif order <= DENSE:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an exact zero pivot is no accident here: it is what we look for
                self._dense = linalg.lu_factor(_dense(matrix), check_finite=False)
            self.rcond = float(linalg.lapack.dgecon(self._dense[0], norm)[0])
        else:
            try:
                self._sparse = splu(sparse.csc_matrix(matrix))
            except RuntimeError:  # exactly singular
                self.rcond = 0.0
                return
            inverse = LinearOperator(
                (order, order), matvec=self._sparse.solve, rmatvec=lambda v: self._sparse.solve(v, trans="T")
            )
            size = float(onenormest(inverse))
            self.rcond = 1.0 / (norm * size) if np.isfinite(size) and size > 0.0 else 0.0

    def solve(self, right: Vector) -> Vector:
        if self._dense is not None:
            return np.asarray(linalg.lu_solve(self._dense, right, check_finite=False))
        return np.asarray(self._sparse.solve(right))


def _thin(matrix: Any) -> bool:
    return bool(sparse.issparse(matrix))


def _dense(matrix: Any) -> Vector:
    return np.asarray(matrix.toarray() if _thin(matrix) else matrix)


def _picked(A: Any, rows: npt.NDArray[np.int64]) -> Any:
    """Return some rows of a CSC matrix as CSR."""
    return A.tocsr()[rows] if rows.size else sparse.csr_matrix((0, A.shape[1]))


def _identity(size: int, like: Any) -> Any:
    return sparse.identity(size, format="csc") if _thin(like) else np.eye(size)


def _joined(P: Any, B: Any, corner: float = 0.0) -> Any:
    """Return [[P, B'], [B, corner × I]], sparse where its blocks are."""
    free, rows = P.shape[0], B.shape[0]
    if not _thin(B):
        out = np.zeros((free + rows, free + rows))
        out[:free, :free], out[free:, :free], out[:free, free:] = P, B, B.T
        out[np.arange(free, free + rows), np.arange(free, free + rows)] = corner
        return out
    if rows == 0:
        return sparse.csc_matrix(P)
    if free == 0:
        return sparse.csc_matrix(corner * sparse.identity(rows))
    return sparse.bmat([[P, B.T], [B, corner * sparse.identity(rows) if corner else None]], format="csc")


def _equilibrated(matrix: Any, free: int) -> Vector:
    """Return D (k,) that gives the first ``free`` diagonal entries size one, and all other rows a largest entry of one.

    A weak curvature beside rows of ones would look like none if rows were brought to size one throughout.
    """
    scale = np.ones(matrix.shape[0])
    if matrix.shape[0] == 0:
        return scale
    bend = np.maximum(matrix.diagonal()[:free], 0.0)
    curved = np.zeros(matrix.shape[0], dtype=bool)
    curved[:free] = bend > 1e-20 * np.max(bend, initial=0.0)
    scale[:free][curved[:free]] = 1.0 / np.sqrt(bend[curved[:free]])
    size = abs(matrix)
    for _ in range(8):
        top = _tops(size, scale) * scale
        top = np.where(curved | (top == 0.0), 1.0, top)
        scale = scale / np.sqrt(top)
        if np.all(np.abs(top - 1.0) < 0.1):
            break
    return scale


def _tops(size: Any, scale: Vector) -> Vector:
    """Return (k,) the largest |M_ij| D_j of each row of a symmetric matrix."""
    if not _thin(size):
        return np.asarray(np.max(size * scale, axis=1))
    out = np.zeros(size.shape[0])
    filled = np.flatnonzero(np.diff(size.indptr))
    if filled.size:
        out[filled] = np.maximum.reduceat(size.data * scale[size.indices], size.indptr[filled])
    return out


def _scaled(matrix: Any, left: Vector, right: Vector | None = None) -> Any:
    right = left if right is None else right
    if not _thin(matrix):
        return left[:, None] * matrix * right
    return sparse.csc_matrix(sparse.diags(left) @ matrix @ sparse.diags(right))
