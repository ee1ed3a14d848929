"""Cone programs whose optimum is planted: a slack and a multiplier of each cone that meet its complementarity strictly.

The tests run this file by its path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers import Cone, ConeProgram
from crosswind.solvers.cones import svec

ROOT = np.sqrt(2.0)
# [[x, 1], [1, y]] as rows of svec, and the disc of radius one.
HYPERBOLA = np.array([[-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
DISC = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])


@dataclass(frozen=True, eq=False)
class Planted:
    """A program and its optimum."""

    program: ConeProgram
    x: np.ndarray
    y: np.ndarray

    @property
    def objective(self) -> float:
        return self.program.objective(self.x)


def planted(kinds: str, seed: int, n: int, quadratic: bool = False, order: int = 3, unit: float = 1.0) -> Planted:
    """Return a program with one cone for each letter of ``kinds``.

    z: an equality; n: a nonnegative row that binds and one that does not; q: a second-order cone at its surface; i: one
    inside; a: one at its apex; h: one of a single row; p: a matrix of ``order``, half its eigenvalues zero.
    ``unit`` is a length for x and for the slacks.
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[Cone, np.ndarray, np.ndarray]] = []
    for kind in kinds:
        v = rng.normal(size=3)
        v /= np.linalg.norm(v)
        size = rng.uniform(0.5, 2.0, size=2)
        if kind == "z":
            parts.append((Cone("zero", 1), np.zeros(1), v[:1]))
        elif kind == "n":
            parts.append((Cone("nonneg", 2), np.array([0.0, size[0]]), np.array([size[1], 0.0])))
        elif kind == "h":
            parts.append((Cone("soc", 1), np.zeros(1), size[:1]))
        elif kind == "q":
            parts.append((Cone("soc", 4), size[0] * np.append(1.0, v), size[1] * np.append(1.0, -v)))
        elif kind == "i":
            parts.append((Cone("soc", 4), np.append(2.0, v), np.zeros(4)))
        elif kind == "a":
            parts.append((Cone("soc", 4), np.zeros(4), np.append(2.0, v)))
        else:
            Q, _ = np.linalg.qr(rng.normal(size=(order, order)))
            half = order // 2
            values = rng.uniform(0.5, 2.0, size=order)
            U, V = Q[:, :half], Q[:, half:]
            parts.append((Cone("psd", order), svec((U * values[:half]) @ U.T), svec((V * values[half:]) @ V.T)))
    cones, slacks, duals = zip(*parts, strict=True)
    s, y = np.concatenate(slacks) * unit, np.concatenate(duals)
    A, x = rng.normal(size=(s.size, n)), rng.normal(size=n) * unit
    G = rng.normal(size=(n, max(1, n // 2)))
    P = G @ G.T / unit if quadratic else np.zeros((n, n))
    return Planted(ConeProgram(P, -(A.T @ y) - P @ x, A, A @ x + s, cones), x, y)


def hopeless() -> dict[str, tuple[ConeProgram, str]]:
    """Return programs without an optimum, each with what it is."""
    half = Cone("nonneg", 1)
    disc, hyperbola = (Cone("soc", 3), half), (Cone("psd", 2), half)
    beyond = np.vstack((DISC, [[-1.0, 0.0]]))  # x₁ ≥ 2 on the disc
    twice = np.array([[1.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    below = np.vstack((HYPERBOLA, [[1.0, 1.0]]))  # x + y ≤ 1 with xy ≥ 1
    side = [0.0, ROOT, 0.0]
    return {
        "disc": (ConeProgram(None, [1.0, 1.0], beyond, [1.0, 0.0, 0.0, -2.0], disc), "infeasible"),
        "disc, quadratic": (ConeProgram(np.eye(2), [1.0, 1.0], beyond, [1.0, 0.0, 0.0, -2.0], disc), "infeasible"),
        "equalities": (
            ConeProgram(None, [-1.0, 1.0], twice, [1.0, 2.0, 0.0, 0.0], (Cone("zero", 2), Cone("soc", 2))),
            "infeasible",
        ),
        "cone": (ConeProgram(None, [-1.0, 0.0], -np.eye(2), np.zeros(2), (Cone("soc", 2),)), "unbounded"),
        "cone, quadratic": (
            ConeProgram(np.diag([0.0, 1.0]), [-1.0, 0.0], -np.eye(2), np.zeros(2), (Cone("soc", 2),)),
            "unbounded",
        ),
        "matrix": (ConeProgram(None, [1.0, 1.0], below, [*side, 1.0], hyperbola), "infeasible"),
        "matrix, open": (ConeProgram(None, [-1.0, 1.0], HYPERBOLA, side, (Cone("psd", 2),)), "unbounded"),
    }
