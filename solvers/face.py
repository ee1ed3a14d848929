r"""Newton steps on the face of the cones that an interior iterate points to, for the digits that its solver left out.

Slack s = b − Ax and multiplier y of a cone share their eigenvectors at the optimum, and of each pair of eigenvalues one
vanishes there if the two are strictly complementary. Eigenvalues are :math:`s_i` for a nonnegative row,
:math:`s_0 \pm \lVert \bar s \rVert` (beside :math:`y_0 \mp \lVert \bar y \rVert`) for a second-order cone, those of the
matrix for a semidefinite one. The iterate shows which one vanishes: the smaller, or, where a solver's multipliers are
worthless and its slacks are not, the slack's if it is nearly zero. That leaves equations,

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
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from crosswind.solvers.backends.base import Claim, Raw, Scaling
from crosswind.solvers.certify import certify
from crosswind.solvers.cones import blocks, smat, svec
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import ConeProgram

__all__ = ["newton_step", "sharpened"]

_STEPS = 5  # the first may lead away from the surfaces, the others double the digits
_REGULAR = 1e-9
_REFINEMENTS = 10
_VANISHED = 1e-6
_LARGEST = 40  # order of a matrix up to which a step is tried: its equations are dense


def sharpened(raw: Raw, program: ConeProgram, tol: float) -> Raw:
    """Return ``raw``, or a point some Newton steps away where our certificate finds it lacking and that one not.

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
    if not 0.1 * tol < certify(program, raw.x, raw.y, s=raw.s).worst < np.inf:
        return raw
    scaling = Scaling.of(program)
    near = ConeProgram(
        program.P * scaling.quadratic, program.q * scaling.linear, program.A, program.b / scaling.length, program.cones
    )
    best, kept = tol, raw
    for pairs in (True, False):
        x, y = raw.x / scaling.length, raw.y / scaling.dual
        for _ in range(_STEPS):
            step = newton_step(near, x, y, pairs)
            if step is None:
                break
            x, y = step
            there, prices = x * scaling.length, y * scaling.dual
            worst = certify(program, there, prices).worst
            if worst <= best:
                best, kept = worst, replace(raw, x=there, y=prices, s=program.b - program.A @ there)
            if best <= 0.1 * tol or not np.isfinite(worst):
                break
        if kept is not raw:
            break
    return kept


def newton_step(program: ConeProgram, x: Vector, y: Vector, pairs: bool = True) -> tuple[Vector, Vector] | None:
    """Return the next x (n,) and y (m,) on the face that an iterate points to, or ``None`` where there is none.

    Parameters
    ----------
    program
        In units in which its numbers are of size one.
    x, y
        The iterate, (n,) and (m,).
    pairs
        False where y is not to be believed: then an eigenvalue of the slack vanishes that is below 1e-6 of the largest.
    """
    n = program.n
    face = _face(program, program.b - program.A @ x, y, pairs)
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
    # The change of x and the new μ. Where many μ do, that nearest to the old one is the one inside the cone.
    old = np.asarray(T.T @ y) / np.asarray(T.multiply(T).sum(axis=0)).ravel()
    found = _solved(kkt, H, J, -np.concatenate((program.P @ x + program.q, h)), np.concatenate((np.zeros(n), old)))
    return None if found is None else (x + found[:n], np.asarray(T @ found[n:]))


def _solved(kkt: Csc, H: Csc, J: Csc, right: Vector, start: Vector) -> Vector | None:
    """Solve kkt·v = right from ``start`` with the factor of a regularised matrix, refined while that helps."""
    curved, rows = (float(np.max(np.abs(part.data), initial=0.0)) for part in (H, J))
    curved = curved or rows or 1.0
    diagonal = np.concatenate((np.full(H.shape[0], curved), np.full(J.shape[0], -rows * rows / curved)))
    try:
        factor = splu(sparse.csc_matrix(kkt + sparse.diags_array(_REGULAR * diagonal)))
    except RuntimeError:  # singular
        return None
    found, left = start, right - kkt @ start
    for _ in range(_REFINEMENTS):
        closer = found + factor.solve(left)
        still = right - kkt @ closer
        if not np.linalg.norm(still) < np.linalg.norm(left):
            break
        found, left = closer, still
    return found if np.isfinite(found).all() else None


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


class _Rule(NamedTuple):
    """How to tell which of two eigenvalues vanishes: in units of the largest slack and multiplier, or by the slack."""

    slack: float
    dual: float
    pairs: bool

    def vanishes(self, slack: Any, dual: Any) -> Any:
        return slack / self.slack < (dual / self.dual if self.pairs else _VANISHED)


def _face(program: ConeProgram, s: Vector, y: Vector, pairs: bool) -> _Face:
    face = _Face()
    largest = [float(np.max(np.abs(part), initial=0.0)) or 1.0 for part in (s, y)]
    rule = _Rule(largest[0], largest[1], pairs)
    for cone, at in blocks(program.cones):
        A, slack, dual = program.A[at], s[at], y[at]
        if cone.kind == "psd":
            _matrix_face(face, at.start, A, slack, dual, rule)
        elif cone.kind == "soc" and cone.size > 1:
            _second_order_face(face, at.start, A, slack, dual, rule)
        else:
            free = np.ones(slack.size, dtype=bool) if cone.kind == "zero" else rule.vanishes(slack, dual)
            every = np.eye(slack.size)[:, free]
            face.add(at.start, every, -(slack @ every))
    return face


def _second_order_face(face: _Face, first: int, A: Csc, s: Vector, y: Vector, rule: _Rule) -> None:
    length, turn = float(np.linalg.norm(s[1:])), float(np.linalg.norm(y[1:]))
    if not rule.vanishes(s[0] - length, y[0] + turn):  # inside
        return
    if length == 0.0 or rule.vanishes(s[0] + length, y[0] - turn):  # the apex
        face.add(first, np.eye(s.size), -s)
        return
    normal = s[1:] / length
    face.add(first, np.append(1.0, -normal)[:, None], np.array([length - s[0]]))
    root = np.sqrt(max(0.0, float(y[0])) / length)
    face.bends.append(root * A[1:])
    face.minus.append(sparse.csr_matrix(root * normal) @ A[1:])


def _matrix_face(face: _Face, first: int, A: Csc, s: Vector, y: Vector, rule: _Rule) -> None:
    S, Y = smat(s), smat(y)
    # The null space is that of S alone: y follows from it, and with y's own share in it the steps would crawl.
    values, vectors = np.linalg.eigh(S)
    if rule.pairs:
        r = int(np.sum(np.linalg.eigvalsh(S / rule.slack - Y / rule.dual) < 0.0))
    else:
        r = int(np.sum(rule.vanishes(values, 0.0)))
    if r == 0:
        return
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
