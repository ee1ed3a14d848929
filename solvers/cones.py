"""Geometry of the cones: svec, projections and distances."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import Cone

__all__ = ["blocks", "dual_distance", "project_dual", "slack_distance", "smat", "svec"]


@lru_cache(maxsize=64)
def _triangle(order: int) -> tuple[Any, Any, Any]:
    # The upper triangle column by column is the lower one row by row, mirrored.
    column, row = np.tril_indices(order)
    weight = np.where(row == column, 1.0, np.sqrt(2.0))
    return row, column, weight


def svec(matrix: Vector) -> Vector:
    """Return the upper triangle of symmetric ``matrix`` (k, k) column by column, off-diagonals × √2: (k(k+1)/2,).

    The scaling keeps inner products: svec(A)·svec(B) = trace(AB).
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidInput("expected a square matrix", field="matrix", value=matrix.shape, remedy="give shape (k, k)")
    row, column, weight = _triangle(matrix.shape[0])
    out: Vector = matrix[row, column] * weight
    return out


def smat(vector: Vector) -> Vector:
    """Return the symmetric matrix (k, k) whose :func:`svec` is ``vector`` (k(k+1)/2,)."""
    vector = np.asarray(vector, dtype=np.float64)
    order = int((np.sqrt(8.0 * vector.shape[0] + 1.0) - 1.0) / 2.0 + 0.5)
    if vector.ndim != 1 or order * (order + 1) // 2 != vector.shape[0]:
        raise InvalidInput(
            "length is no triangular number", field="vector", value=vector.shape, remedy="give k(k+1)/2 entries"
        )
    row, column, weight = _triangle(order)
    out = np.empty((order, order))
    out[row, column] = out[column, row] = vector / weight
    return out


def blocks(cones: tuple[Cone, ...]) -> Iterator[tuple[Cone, slice]]:
    """Yield each cone with the rows it takes."""
    start = 0
    for cone in cones:
        yield cone, slice(start, start + cone.rows)
        start += cone.rows


def slack_distance(cones: tuple[Cone, ...], s: Vector) -> float:
    """Return how far slack ``s`` (m,) is from K, the largest over the factors.

    Zero and nonneg in the inf norm, second-order in Euclid's norm, PSD by the most negative eigenvalue.
    """
    return max((_distance(cone, s[rows]) for cone, rows in blocks(cones)), default=0.0)


def dual_distance(cones: tuple[Cone, ...], y: Vector) -> float:
    """Return how far multiplier ``y`` (m,) is from K*; all cones here are self-dual except zero, whose dual is free."""
    return max((_distance(cone, y[rows]) for cone, rows in blocks(cones) if cone.kind != "zero"), default=0.0)


def project_dual(cones: tuple[Cone, ...], y: Vector) -> Vector:
    """Return the Euclidean projection of ``y`` (m,) on K*."""
    out = y.copy()
    for cone, rows in blocks(cones):
        part = out[rows]
        if cone.kind == "nonneg":
            np.maximum(part, 0.0, out=part)
        elif cone.kind == "soc":
            out[rows] = _project_soc(part)
        elif cone.kind == "psd":
            values, vectors = np.linalg.eigh(smat(part))
            if values[0] < 0.0:
                out[rows] = svec((vectors * np.maximum(values, 0.0)) @ vectors.T)
    return out


def _project_soc(part: Vector) -> Vector:
    head, length = float(part[0]), float(np.linalg.norm(part[1:]))
    if length <= head:
        return part
    if length <= -head:
        return np.zeros_like(part)
    half = 0.5 * (head + length)
    out = part * (half / length)
    out[0] = half
    return out


def _distance(cone: Cone, part: Vector) -> float:
    if cone.kind == "zero":
        return float(np.max(np.abs(part)))
    if cone.kind == "nonneg":
        return max(0.0, -float(np.min(part)))
    if cone.kind == "soc":
        return float(np.linalg.norm(part - _project_soc(part)))
    return max(0.0, -float(np.linalg.eigvalsh(smat(part))[0]))
