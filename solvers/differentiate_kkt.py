r"""The KKT matrix of a fixed set of active limits, factorised once and solved for many right-hand sides.

.. math::

    \begin{pmatrix} P & B' \\ B & 0 \end{pmatrix} \begin{pmatrix} d \\ \lambda \end{pmatrix}
    = \begin{pmatrix} r \\ b \end{pmatrix}

The rows of B are the active rows of A and the unit vectors of the active boxes; the latter are eliminated, so that the
matrix has the order of the free variables plus the active rows. It is brought to rows of size one (Ruiz, 2001), and
its condition is estimated from its factors. Two relatives of it tell why it is singular: with I in place of P it is
regular exactly when the active rows are independent (LICQ), with −I in place of 0 exactly when P curves in every
direction that the active limits leave free.
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
        self._wide = program.A.tocsr()[self._rows] if self._rows.size else sparse.csr_matrix((0, program.n))
        self._P = program.P[:, self._free][self._free] if self._boxes.size else program.P
        self._B = self._wide[:, self._free]
        order = self._free.size + self._rows.size
        matrix = _joined(self._P, self._B, None)
        self._scale = _equilibrated(matrix)
        self._matrix = _scaled(matrix, self._scale)
        self._factor = _Factor(self._matrix)
        self.reciprocal_condition = self._factor.rcond
        self.singular = order > 0 and self.reciprocal_condition < cut
        self._pseudo: tuple[Vector, Vector] | None = None
        if self.singular and order <= _DENSE_PSEUDO:
            dense = self._matrix.toarray()
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
        right = np.concatenate(((r - self._program.P @ d)[free], b[self._rows] - self._wide @ d))
        found = self._reduced(right)
        d[free] = found[: free.size]
        multiplier[self._rows] = found[free.size :]
        left = r - self._program.P @ d - self._wide.T @ multiplier[self._rows]
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
        P = sparse.diags(x_scale) @ self._P @ sparse.diags(x_scale)
        B = sparse.diags(row_scale) @ self._B @ sparse.diags(x_scale)
        rank = _Factor(_joined(sparse.identity(free, format="csc"), B, None)).rcond
        bend = _Factor(_joined(P, B, -sparse.identity(B.shape[0], format="csc"))).rcond
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
    matrix = _joined(sparse.identity(free.size, format="csc"), program.A.tocsr()[rows][:, free], None)
    return _Factor(_scaled(matrix, _equilibrated(matrix))).rcond >= cut


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
                self._dense = linalg.lu_factor(matrix.toarray(), check_finite=False)
            self.rcond = float(linalg.lapack.dgecon(self._dense[0], norm)[0])
        else:
            try:
                self._sparse = splu(matrix)
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


def _joined(P: Any, B: Any, corner: Any) -> Any:
    if B.shape[0] == 0:
        return sparse.csc_matrix(P)
    if P.shape[0] == 0:
        return sparse.csc_matrix(B.shape[:1] * 2) if corner is None else sparse.csc_matrix(corner)
    return sparse.bmat([[P, B.T], [B, corner]], format="csc")


def _equilibrated(matrix: Any) -> Vector:
    """Return D (k,) with the rows of D|M|D near one in the inf norm; rows of zeros keep one."""
    scale = np.ones(matrix.shape[0])
    size = abs(matrix).tocsc()
    if size.nnz == 0:
        return scale
    columns = np.repeat(np.arange(matrix.shape[0]), np.diff(size.indptr))
    for _ in range(8):
        top = np.zeros(matrix.shape[0])
        np.maximum.at(top, columns, size.data * scale[size.indices] * scale[columns])
        scale = scale / np.sqrt(np.where(top > 0.0, top, 1.0))
        if np.all(np.abs(top[top > 0.0] - 1.0) < 0.1):
            break
    return scale


def _scaled(matrix: Any, scale: Vector) -> Any:
    return sparse.csc_matrix(sparse.diags(scale) @ matrix @ sparse.diags(scale))
