r"""How the fitted matrices move with the penalties: the implicit function theorem on the optimality of a cone program.

With z = y − s for the multipliers y and slacks s of Ax + s = b, optimality is a square system without inequalities,

.. math::  Px + q + A'\Pi(z) = 0, \qquad Ax + \Pi(z) - z = b,   \qquad \Pi = \text{projection on the dual cone}.

Π is differentiable wherever no constraint just binds (strict complementarity), so with D = ∂Π(z)

.. math::  \begin{pmatrix} P & A'D \\ A & D - I \end{pmatrix}\begin{pmatrix} dx \\ dz \end{pmatrix}
           = \begin{pmatrix} -(dP\,x + dq) \\ 0 \end{pmatrix},

where the penalties enter P and q alone. Where a constraint just binds, the least-norm solution is one element of a
generalised derivative.

Source: Busseti, Moursi, Boyd (2019), solution refinement at regular points of conic problems, arXiv 1811.02157.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.program import FitProblem, lower, triangle
from crosswind.solvers.cones import blocks
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.program import Cone

__all__ = ["penalty_derivatives"]

Array = NDArray[np.float64]


def penalty_derivatives(
    problem: FitProblem, moves: Sequence[dict[str, float]], across: Array | None = None, tol: float = 1e-9
) -> tuple[Array, Array]:
    """Fitted matrices and their derivatives in penalties.

    Parameters
    ----------
    problem
        The fit; small, for the system is dense.
    moves
        For each derivative the change of "ridge", "pool", "l1" and "split": {"ridge": 1} is ∂/∂ridge.
    across
        (NM, NM), what one unit of split adds to S.
    tol
        Of the interior point method that finds the multipliers.

    Returns
    -------
    tuple
        K' (M, N, N) and dK' (len(moves), M, N, N).

    Raises
    ------
    SolverFailure
        The fit was not solved.
    """
    from crosswind.solvers.solve import solve

    lowered = lower(problem)
    program = lowered.program
    found = solve(program, tol=tol)
    if not found.status.usable:
        raise SolverFailure("the fit was not solved", field="solver", value=found.status.name, remedy="add a ridge")
    x, y = np.asarray(found.x), np.asarray(found.y)
    A = program.A.toarray()
    z = y - (program.b - A @ x)
    D = _projection_derivative(program.cones, z)
    P = program.P.toarray()
    left = np.block([[P, A.T @ D], [A, D - np.eye(len(z))]])

    m, (rows, columns) = problem.shapes, triangle(problem.names)
    off = np.tile(rows != columns, m)
    away = x[: off.size] - problem.target[:, rows, columns].ravel()
    right = np.zeros((len(left), len(moves)))
    for k, move in enumerate(moves):
        right[: off.size, k] -= np.where(off, 2.0 * move.get("ridge", 0.0), move.get("pool", 0.0)) * away
        right[off.size : program.n, k] -= 2.0 * move.get("l1", 0.0)
    if across is not None:
        G = problem.weights[:, None] * (problem.stacked(lowered.matrices(x)) @ across)
        blocked = G.reshape(problem.names, m, problem.names).transpose(1, 0, 2)
        both = np.where(rows == columns, 0.5, 1.0) * (blocked + blocked.transpose(0, 2, 1))[:, rows, columns]
        for k, move in enumerate(moves):
            right[: off.size, k] -= move.get("split", 0.0) * both.ravel()
    change = np.linalg.lstsq(left, right, rcond=1e-11)[0] if _singular(left) else np.linalg.solve(left, right)
    out = np.array([lowered.matrices(column[: program.n]) for column in change.T])
    return lowered.matrices(x), out


def _singular(matrix: Array) -> bool:
    from scipy.linalg import lapack

    lu, _, info = lapack.dgetrf(matrix)
    if info != 0:
        return True
    reciprocal, _ = lapack.dgecon(lu, np.abs(matrix).sum(axis=0).max())
    return bool(reciprocal < 1e-13)


def _projection_derivative(cones: Sequence[Cone], z: Array) -> Array:
    """Return the derivative at z of the projection on the dual cones; that of "zero" is the whole space."""
    out = np.zeros((len(z), len(z)))
    for cone, part in blocks(tuple(cones)):
        out[part, part] = _DERIVATIVES[cone.kind](z[part], cone.size)
    return out


def _zero(z: Array, _: int) -> Array:
    return np.eye(len(z))


def _nonneg(z: Array, _: int) -> Array:
    return np.diag((z > 0).astype(float))


def _soc(z: Array, _: int) -> Array:
    """Return that of the cone t ≥ ‖v‖: ½[[1, v̂'], [v̂, (1 + t/‖v‖)I − (t/‖v‖)v̂v̂']] between the cone and its polar."""
    t, v = float(z[0]), z[1:]
    length = float(np.linalg.norm(v))
    if t >= length:
        return np.eye(len(z))
    if t <= -length:
        return np.zeros((len(z), len(z)))
    unit = v / length
    out = np.empty((len(z), len(z)))
    out[0, 0], out[0, 1:], out[1:, 0] = 0.5, 0.5 * unit, 0.5 * unit
    out[1:, 1:] = 0.5 * ((1.0 + t / length) * np.eye(len(v)) - (t / length) * np.outer(unit, unit))
    return out


def _psd(z: Array, n: int) -> Array:
    """Return it by Löwner's formula: in eigenvectors entry (i, j) is scaled by (λ_i⁺ − λ_j⁺)/(λ_i − λ_j)."""
    rows, columns = triangle(n)
    root = np.where(rows == columns, 1.0, np.sqrt(2.0))
    Z = np.zeros((n, n))
    Z[rows, columns] = Z[columns, rows] = z / root
    values, Q = np.linalg.eigh(Z)
    up = np.maximum(values, 0.0)
    gap = values[:, None] - values[None, :]
    rising = (values > 0).astype(float)
    scale = np.divide(
        up[:, None] - up[None, :],
        gap,
        out=0.5 * (rising[:, None] + rising[None, :]),
        where=np.abs(gap) > 1e-12 * max(np.abs(values).max(), 1e-300),
    )
    size = len(z)
    basis = np.zeros((size, n, n))
    k = np.arange(size)
    basis[k, rows, columns] = 1.0 / root
    basis[k, columns, rows] = 1.0 / root
    turned = Q.T @ basis @ Q
    flat = turned.reshape(size, -1)
    # svec is an isometry, so the derivative in it is B'(scale ∘ B) with B the turned basis.
    return np.asarray((flat * scale.ravel()) @ flat.T)


_DERIVATIVES = {"zero": _zero, "nonneg": _nonneg, "soc": _soc, "psd": _psd}
