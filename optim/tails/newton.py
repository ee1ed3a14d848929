"""Damped Newton for smooth convex functions of few variables, with a certificate of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crosswind.optim.checks import FloatArray
from crosswind.solvers.errors import SolverFailure

__all__ = ["NewtonResult", "newton"]

_FLAT = 1e-13  # curvature below this share of the largest is that of a direction in which nothing changes


@dataclass(frozen=True)
class NewtonResult:
    """A minimiser: point, value, largest entry of the gradient, ½ decrement² ≈ what is left to gain, iterations."""

    x: FloatArray
    value: float
    gradient: float
    decrement: float
    iterations: int
    hessian: FloatArray


def newton(
    derivatives: Callable[[FloatArray], tuple[float, FloatArray, FloatArray]],
    start: FloatArray,
    tol: float,
    max_iter: int = 100,
) -> NewtonResult:
    """Minimise by Newton's step with backtracking until the largest entry of the gradient is at most ``tol``.

    Parameters
    ----------
    derivatives
        Point → (value, gradient, Hessian); the Hessian may be singular, the gradient must lie in its range.
    start
        First point.
    tol
        Of the gradient.
    max_iter
        Steps.

    Raises
    ------
    SolverFailure
        No convergence, for example because the infimum is not attained.
    """
    x = start.astype(np.float64).copy()
    value, gradient, hessian = derivatives(x)
    for iteration in range(max_iter + 1):
        size = float(np.abs(gradient).max(initial=0.0))
        eigenvalues, vectors = np.linalg.eigh(hessian)
        keep = eigenvalues > _FLAT * max(float(eigenvalues[-1]), 1e-300)
        along = vectors[:, keep].T @ gradient
        step = -vectors[:, keep] @ (along / eigenvalues[keep])
        slope = float(gradient @ step)
        if size <= tol:
            return NewtonResult(x, value, size, -0.5 * slope, iteration, hessian)
        if iteration == max_iter or not np.isfinite(slope):
            break
        length = 1.0
        while True:
            new = derivatives(x + length * step)
            # A rounding of the value must not stop a step that still lessens the gradient.
            if new[0] <= value + 0.25 * length * slope + 4e-16 * max(abs(value), 1.0):
                break
            length *= 0.5
            if length < 1e-12:
                raise SolverFailure(
                    "no descent along Newton's step", field="newton", value=size, remedy="scale the features, add ridge"
                )
        x = x + length * step
        value, gradient, hessian = new
    raise SolverFailure(
        f"the gradient is {size:.1e} after {max_iter} steps",
        field="newton",
        value=size,
        remedy="scale the features or add a ridge",
    )
