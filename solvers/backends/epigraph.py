r"""A quadratic objective for solvers of linear ones over second-order cones.

With a factor :math:`P = F'F` the cost :math:`\tfrac12 x'Px` is a variable t with

.. math::

    \lVert (Fx,\ t - \tfrac12) \rVert_2 \le t + \tfrac12 \iff \tfrac12 \lVert Fx \rVert^2 \le t .

Such an epigraph, ours or one that the solver makes itself, sees a distance from the optimum only by its square: at a
gap of 1e-10 the stationarity Px + q + A'y is still off by 1e-5. Who uses one must win those digits back.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import linalg, sparse
from scipy.sparse import csgraph

from crosswind.solvers.matrices import Csc, Vector

__all__ = ["factor"]


def factor(P: Csc) -> Csc:
    """Return F (rank, n) with F'F = P, made from the blocks of variables that P couples.

    Variables that P does not couple get a number each, a coupled block of k variables a dense factor of k(k+1)/2
    entries (up to k² where it is singular).
    """
    P = sparse.csc_matrix(P)
    P.eliminate_zeros()
    n = P.shape[0]
    _, label = csgraph.connected_components(P, directed=False)
    order = np.argsort(label, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(np.bincount(label))))
    diagonal = P.diagonal()
    single = np.flatnonzero(np.bincount(label)[label] == 1)
    single = single[diagonal[single] > 0.0]
    pieces = [sparse.csc_matrix((np.sqrt(diagonal[single]), (np.arange(single.size), single)), shape=(single.size, n))]
    for start, stop in pairwise(bounds):
        if stop - start == 1:
            continue
        block = order[start:stop]
        root = _root(P[block][:, block].toarray())
        spread = sparse.csc_matrix((np.ones(block.size), (np.arange(block.size), block)), shape=(block.size, n))
        pieces.append(sparse.csc_matrix(root) @ spread)
    return sparse.vstack(pieces, format="csc")


def _root(block: Vector) -> Vector:
    """Return R with R'R = block: the Cholesky factor, or one from the eigenvalues where the block is singular."""
    try:
        upper = linalg.cholesky(block)
        if np.min(np.diag(upper)) > 1e-7 * np.max(np.diag(upper)):
            return np.asarray(upper)
    except linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(block)
    kept = values > block.shape[0] * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return np.asarray(np.sqrt(values[kept])[:, None] * vectors[:, kept].T)
