r"""What no feasible point can undercut: lower bounds of the optimum from any iterate of a quadratic program.

With r = Px + q + A'y + z and any feasible v, weak duality gives

.. math::

    f(v) \ge -\tfrac12 x'Px - \sigma(y, z) + r'v + \tfrac12 (v-x)'P(v-x),

and each entry of r is dealt with in the way that costs least:

- a box that is finite on the side that matters absorbs it (z_j is replaced by z_j − r_j), exactly;
- curvature pays for it: P ⪰ diag(κ) with κ > 0 gives r_j x_j − r_j²/(2κ_j), exactly;
- where neither is at hand, only points farther out than a thousand times the size of the iterate could gain more than
  |r_j| times that size. This last step separates a bound that holds everywhere from one that holds within reach.

The iterate's own multipliers often leave a residual that is small and yet worth more than the tolerance, along a
direction in which P hardly curves. :func:`polished` removes it by one Newton step on the active limits, and the bound
of the step's end is as valid as that of the iterate, since any (w, y, z) gives one.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import lstsq
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.threads import one_blas_thread

__all__ = ["REACH", "curvature", "dual_bound", "polished", "support"]

REACH = 1e3
"""How many times the size of the iterate a point may be away that the bound within reach still covers."""

ROUNDINGS = 16.0 * float(np.finfo(np.float64).eps)
_BLOCK = 300  # coupled variables whose smallest eigenvalue is worth computing
_DENSE = 600  # order of the Newton system up to which it is solved densely
_LARGE = 60_000


def support(upper: Vector, lower: Vector, multiplier: Vector) -> float:
    """Return Σ upper·multiplier₊ − lower·multiplier₋, with 0·∞ = 0: the largest multiplier'w over lower ≤ w ≤ upper."""
    side = np.where(multiplier > 0.0, upper, lower)
    active = multiplier != 0.0
    return float(side[active] @ multiplier[active]) if active.any() else 0.0


def curvature(program: Any) -> Vector:
    """Return κ ≥ 0 (n,) with P ⪰ diag(κ), kept for all copies that share ``P``.

    A variable that P couples to no other one has its own P_jj; a coupled block of up to 300 variables has the smallest
    eigenvalue of its unit-diagonal scaling, less the rounding of computing it, times its diagonal; larger ones have 0.
    """
    kept = program._cache.get("curvature")
    if kept is not None:
        return np.asarray(kept)
    P = program.P
    n = P.shape[0]
    diagonal: Vector = np.maximum(P.diagonal(), 0.0)
    out = diagonal.copy()
    columns = np.repeat(np.arange(n), np.diff(P.indptr))
    coupled = (P.indices != columns) & (P.data != 0.0)
    if coupled.any():
        links = sparse.csr_matrix((np.ones(int(coupled.sum())), (P.indices[coupled], columns[coupled])), shape=(n, n))
        count, label = connected_components(links, directed=False)
        order = np.argsort(label, kind="stable")
        edges = np.searchsorted(label[order], np.arange(count + 1))
        for start in np.flatnonzero(np.diff(edges) > 1):
            members = order[edges[start] : edges[start + 1]]
            out[members] = _block_curvature(P, diagonal, members)
    program._cache["curvature"] = out
    return out


def _block_curvature(P: Any, diagonal: Vector, members: Any) -> Vector:
    own = diagonal[members]
    if members.size > _BLOCK or np.any(own <= 0.0):
        return np.zeros(members.size)
    root = np.sqrt(own)
    scaled = P[members][:, members].toarray() / np.outer(root, root)
    values = np.linalg.eigvalsh(scaled)
    smallest = float(values[0]) - members.size * ROUNDINGS * float(values[-1])
    return np.asarray(own * max(smallest, 0.0))


def dual_bound(
    program: QuadraticProgram, x: Vector, y: Vector, z: Vector, r: Vector, size: Vector
) -> tuple[float, float]:
    """Return the lower bounds of the optimum that (x, y, z) gives: everywhere, and within reach.

    Parameters
    ----------
    x, y, z
        (n,), (m,), (n,); multipliers lean on finite bounds only.
    r
        (n,) Px + q + A'y + z.
    size
        (n,) size of each variable; the second bound holds for all v with |v_j| ≤ ``REACH`` × size_j.

    Returns
    -------
    tuple
        Both without the program's constant; the first is −∞ where nothing follows.
    """
    xPx = float(x @ (program.P @ x))
    side_y = support(program.u, program.l, y)
    kept = _priced(program, z)
    everywhere, within = -kept, -kept
    open_ = r != 0.0
    if open_.any():
        moved = z - r
        absorbed = -_priced(program, moved)
        absorbed[np.isnan(absorbed)] = -np.inf
        carried = -kept + r * x
        bend = np.zeros(program.n)
        if not np.all(np.isfinite(absorbed[open_])) or np.any(absorbed[open_] < carried[open_]):
            bend = curvature(program)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            curved = np.where(bend > 0.0, carried - 0.5 * r * r / bend, -np.inf)
        reached = np.where(size > 0.0, -kept - np.abs(r) * REACH * size, -np.inf)
        everywhere = np.where(open_, np.maximum(absorbed, curved), -kept)
        within = np.where(open_, np.maximum(everywhere, reached), -kept)
    terms = float(np.sum(np.abs(kept)) + np.abs(r) @ np.abs(x))
    base = -0.5 * xPx - side_y - ROUNDINGS * (0.5 * abs(xPx) + _total(program, y) + terms)
    return _lowered(base, everywhere), _lowered(base, within)


def _lowered(base: float, parts: Vector) -> float:
    total = float(np.sum(parts))
    return base + total - ROUNDINGS * float(np.sum(np.abs(parts))) if total > -np.inf else -np.inf


def _priced(program: QuadraticProgram, z: Vector) -> Vector:
    """Return (n,) what each box multiplier costs: side × z, +∞ where it leans on no bound."""
    side = np.where(z > 0.0, program.ub, program.lb)
    with np.errstate(invalid="ignore"):
        return np.where(z == 0.0, 0.0, side * z)


def _total(program: QuadraticProgram, y: Vector) -> float:
    side = np.where(y > 0.0, program.u, program.l)
    active = y != 0.0
    return float(np.abs(side[active]) @ np.abs(y[active]))


def polished(program: QuadraticProgram, x: Vector, y: Vector, z: Vector) -> tuple[Vector, Vector, Vector] | None:
    r"""Return (w, y, z) after one Newton step on the limits that look active, or ``None`` where it cannot be solved.

    .. math::

        \begin{pmatrix} P & B' \\ B & 0 \end{pmatrix} \begin{pmatrix} d \\ \lambda \end{pmatrix}
        = \begin{pmatrix} -(Px + q) \\ b - Bx \end{pmatrix}

    B holds the rows and boxes taken as equalities: those that are equalities, and those whose multiplier is larger than
    their room, both in units of the program. Multipliers that come out leaning on the wrong side are set free, twice.
    """
    rows, row_side = _active(program.A @ x, program.l, program.u, y, _length(program.l, program.u, program.A @ x))
    boxes, box_side = _active(x, program.lb, program.ub, z, _length(program.lb, program.ub, x))
    gradient = program.P @ x + program.q
    best: tuple[Vector, Vector, Vector] | None = None
    for _ in range(3):
        B = sparse.vstack(
            (program.A[rows], sparse.identity(program.n, format="csr")[boxes]), format="csc", dtype=np.float64
        )
        target = np.concatenate((row_side[rows], box_side[boxes]))
        found = _newton(program.P, B, gradient, target - B @ x)
        if found is None or not np.isfinite(found).all():
            return best
        d, multiplier = found[: program.n], found[program.n :]
        y_new, z_new = np.zeros(program.m), np.zeros(program.n)
        y_new[rows], z_new[boxes] = multiplier[: rows.size], multiplier[rows.size :]
        wrong_y = ((y_new > 0.0) & (row_side != program.u)) | ((y_new < 0.0) & (row_side != program.l))
        wrong_z = ((z_new > 0.0) & (box_side != program.ub)) | ((z_new < 0.0) & (box_side != program.lb))
        best = (x + d, np.where(wrong_y, 0.0, y_new), np.where(wrong_z, 0.0, z_new))
        if not (wrong_y.any() or wrong_z.any()):
            break
        rows, boxes = rows[~wrong_y[rows]], boxes[~wrong_z[boxes]]
    return best


def _length(lower: Vector, upper: Vector, value: Vector) -> float:
    sides = np.abs(np.concatenate((lower, upper, value)))
    sides = sides[np.isfinite(sides) & (sides > 0.0)]
    return float(np.median(sides)) if sides.size else 1.0


def _active(value: Vector, lower: Vector, upper: Vector, multiplier: Vector, length: float) -> tuple[Any, Vector]:
    """Return the numbers of the limits taken as equalities and (k,) the side each would lean on."""
    side = np.where(multiplier > 0.0, upper, np.where(multiplier < 0.0, lower, value))
    side = np.where(lower == upper, lower, side)
    top = float(np.max(np.abs(multiplier), initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        tight = np.abs(value - side) / length < np.abs(multiplier) / top
    return np.flatnonzero((lower == upper) | (tight & np.isfinite(side) & (multiplier != 0.0))), side


def _dense_solve(matrix: npt.NDArray[np.float64], right: Vector) -> Vector:
    """Return a solution by LU, or the shortest one by a pivoted QR, slower, where the matrix is singular."""
    try:
        found: Vector = np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        found = np.full_like(right, np.nan)
    size = float(np.max(np.abs(right), initial=0.0))
    # Active limits that depend on each other leave a residual, or multipliers far beyond any size of the data.
    if np.isfinite(found).all() and np.max(np.abs(found), initial=0.0) <= 1e6 * size:
        miss = float(np.max(np.abs(matrix @ found - right), initial=0.0))
        if miss <= 1e-12 * size:
            return found
    shortest = lstsq(matrix, right, cond=1e-15, lapack_driver="gelsy", check_finite=False)[0]
    return np.asarray(shortest, dtype=np.float64)


def _newton(P: Any, B: Any, gradient: Vector, miss: Vector) -> Vector | None:
    n, k = P.shape[0], B.shape[0]
    right = np.concatenate((-gradient, miss))
    top = float(np.max(np.abs(P.data), initial=0.0))
    # Bring both blocks to entries of size one: units of 1e-10 per currency would vanish beside rows of ones.
    weight = top if top > 0.0 else 1.0
    row_size = np.maximum(np.asarray(abs(B).max(axis=1).todense()).ravel(), 1e-300) if k and B.nnz else np.ones(k)
    scaled = sparse.diags(1.0 / row_size) @ B
    system: Csc = sparse.bmat([[P / weight, scaled.T], [scaled, None]], format="csc") if k else P / weight
    right = np.concatenate((-gradient / weight, miss / row_size))
    if n + k <= _DENSE:
        with one_blas_thread():
            found: Vector = _dense_solve(system.toarray(), right)
    elif n + k <= _LARGE:
        shift = sparse.diags(np.concatenate((np.full(n, 1e-11), np.full(k, -1e-11))), format="csc")
        try:
            factor = splu(sparse.csc_matrix(system + shift))
        except RuntimeError:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = factor.solve(right)
            for _ in range(4):
                found = found + factor.solve(right - system @ found)
    else:
        return None
    return np.concatenate((found[:n], found[n:] * weight / row_size))
