r"""Newton steps on the face of the cones that an interior iterate points to, for the digits that its solver left out.

Slack s = b − Ax and multiplier y of a cone share their eigenvectors at the optimum, and of each pair of eigenvalues one
vanishes there if the two are strictly complementary. Eigenvalues are :math:`s_i` for a nonnegative row,
:math:`s_0 \pm \lVert \bar s \rVert` (beside :math:`y_0 \mp \lVert \bar y \rVert`) for a second-order cone, those of the
matrix for a semidefinite one. The iterate shows which one vanishes: the smaller. That leaves equations,

.. math::

    Px + q + A'T\mu = 0, \quad h(x) = 0, \quad y = T\mu,

with h = −s where a slack (or a whole second-order cone at its apex) vanishes,
:math:`h = \lVert \bar s \rVert - s_0` and :math:`T = (1, -\bar s / \lVert \bar s \rVert)` on the surface of a
second-order cone, :math:`h = -\operatorname{svec}(V'SV)` and :math:`T\mu = \operatorname{svec}(VMV')` for a matrix
whose null space V spans. Newton's method on them converges quadratically. Rows that depend on each other are kept apart
by a small regularisation, whose error is refined away.

Nothing is claimed by a step: :func:`sharpened` keeps one only where our certificate is better.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from crosswind.solvers.backends.base import Claim, Raw
from crosswind.solvers.certify import certify
from crosswind.solvers.cones import blocks, smat, svec
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import ConeProgram

__all__ = ["newton_step", "sharpened"]

_STEPS = 5  # the first may lead away from the surfaces, the others double the digits
_REGULAR = 1e-9
_REFINEMENTS = 4
_LARGEST = 40  # order of a matrix up to which a step is tried: its equations are dense


def sharpened(raw: Raw, program: ConeProgram, tol: float) -> Raw:
    """Return ``raw``, or the best point of some Newton steps from it where our certificate finds it lacking.

    Parameters
    ----------
    raw
        A backend's answer.
    program
        The program.
    tol
        Asked relative accuracy; a tenth of it is aimed at.
    """
    largest = max((cone.size for cone in program.cones if cone.kind == "psd"), default=0)
    if raw.claim not in (Claim.SOLVED, Claim.ALMOST) or largest > _LARGEST:
        return raw
    best = certify(program, raw.x, raw.y, s=raw.s).worst
    if not 0.1 * tol < best < np.inf:
        return raw
    x, y = raw.x, raw.y
    for _ in range(_STEPS):
        step = newton_step(program, x, y)
        if step is None:
            break
        x, y = step
        worst = certify(program, x, y).worst
        if worst < best:
            best = worst
            raw = replace(raw, x=x, y=y, s=program.b - program.A @ x)
        if best <= 0.1 * tol or not np.isfinite(worst):
            break
    return raw


def newton_step(program: ConeProgram, x: Vector, y: Vector) -> tuple[Vector, Vector] | None:
    """Return the next x (n,) and y (m,) on the face that ``x`` and ``y`` point to, or ``None`` where there is none."""
    n = program.n
    face = _face(program, program.b - program.A @ x, y)
    T = sparse.csc_matrix((face.values, (face.rows, face.columns)), shape=(program.m, face.size))
    h = np.concatenate((np.zeros(0), *face.h))
    J = sparse.csc_matrix(T.T @ program.A)
    H = sparse.csc_matrix(program.P)
    for turned in face.bends:
        H = H + turned.T @ turned
    for turned in face.minus:
        H = H - turned.T @ turned
    system: Any = [[H, J.T], [J, sparse.csc_matrix((face.size, face.size))]]
    kkt = sparse.csc_matrix(sparse.bmat(system))
    top = float(np.max(np.abs(kkt.data), initial=0.0)) or 1.0
    regular = _REGULAR * top * np.concatenate((np.ones(n), -np.ones(face.size)))
    right = -np.concatenate((program.P @ x + program.q, h))
    try:
        solved = splu(sparse.csc_matrix(kkt + sparse.diags_array(regular)))
    except RuntimeError:  # singular
        return None
    # The change of x and the new μ. Where many μ do, that nearest to the old one is the one inside the cone.
    found = np.concatenate((np.zeros(n), np.asarray(T.T @ y) / np.asarray(T.multiply(T).sum(axis=0)).ravel()))
    for _ in range(1 + _REFINEMENTS):
        found = found + solved.solve(right - kkt @ found)
    if not np.isfinite(found).all():
        return None
    return x + found[:n], np.asarray(T @ found[n:])


@dataclass
class _Face:
    """T by its entries, h by its parts, and the curvature of the surfaces as sums and differences of squares."""

    rows: list[Any] = field(default_factory=list)
    columns: list[Any] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    h: list[Vector] = field(default_factory=list)
    bends: list[Csc] = field(default_factory=list)
    minus: list[Csc] = field(default_factory=list)
    size: int = 0

    def add(self, first: int, T: Vector, h: Vector) -> None:
        """Append the block T (k, r), whose rows start at ``first``, with its equations h (r,)."""
        rows, columns = np.nonzero(T)
        self.rows += (first + rows).tolist()
        self.columns += (self.size + columns).tolist()
        self.values += T[rows, columns].tolist()
        self.h.append(h)
        self.size += h.size


def _face(program: ConeProgram, s: Vector, y: Vector) -> _Face:
    face = _Face()
    # The eigenvalues of s and y are compared in units of their largest entries.
    units = tuple(float(np.max(np.abs(part), initial=0.0)) or 1.0 for part in (s, y))
    for cone, at in blocks(program.cones):
        A, slack, dual = program.A[at], s[at], y[at]
        if cone.kind == "psd":
            _matrix_face(face, at.start, A, slack, dual, units)
        elif cone.kind == "soc" and cone.size > 1:
            _second_order_face(face, at.start, A, slack, dual, units)
        else:
            free = cone.kind == "zero" or slack / units[0] < dual / units[1]
            every = np.eye(slack.size)[:, np.broadcast_to(free, slack.shape)]
            face.add(at.start, every, -(slack @ every))
    return face


def _second_order_face(face: _Face, first: int, A: Csc, s: Vector, y: Vector, units: tuple[float, ...]) -> None:
    length, turn = float(np.linalg.norm(s[1:])), float(np.linalg.norm(y[1:]))
    if (s[0] - length) / units[0] >= (y[0] + turn) / units[1]:  # inside
        return
    if length == 0.0 or (s[0] + length) / units[0] < (y[0] - turn) / units[1]:  # the apex
        face.add(first, np.eye(s.size), -s)
        return
    normal = s[1:] / length
    face.add(first, np.append(1.0, -normal)[:, None], np.array([length - s[0]]))
    root = np.sqrt(max(0.0, float(y[0])) / length)
    face.bends.append(root * A[1:])
    face.minus.append(sparse.csr_matrix(root * normal) @ A[1:])


def _matrix_face(face: _Face, first: int, A: Csc, s: Vector, y: Vector, units: tuple[float, ...]) -> None:
    S, Y = smat(s), smat(y)
    r = int(np.sum(np.linalg.eigvalsh(S / units[0] - Y / units[1]) < 0.0))
    if r == 0:
        return
    # The null space is that of S alone: y follows from it, and with y's own share in it the steps would crawl.
    values, vectors = np.linalg.eigh(S)
    U, range_ = vectors[:, r:], values[r:]
    own, turn = np.linalg.eigh(vectors[:, :r].T @ Y @ vectors[:, :r])
    V = vectors[:, :r] @ turn
    basis = np.eye(r * (r + 1) // 2)
    T = np.column_stack([svec(V @ smat(unit) @ V.T) for unit in basis])
    face.add(first, T, -(T.T @ s))
    # Along dS the null space turns: 2 Σ ω_a / λ_b (v_a' dS u_b)².
    turns = []
    for a in range(r):
        for b in np.flatnonzero(range_ > 0.0):
            both = np.outer(V[:, a], U[:, b])
            turns.append(np.sqrt(0.5 * max(0.0, own[a]) / range_[b]) * svec(both + both.T))
    if turns:
        face.bends.append(sparse.csc_matrix(np.array(turns)) @ A)
