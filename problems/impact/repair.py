"""Exact feasibility: an iterate that is feasible to a solver's tolerance becomes feasible to rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.program import FitProblem

__all__ = ["Repair", "raise_diagonal", "repair"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Repair:
    """What the repair did.

    Parameters
    ----------
    matrices
        K' (M, N, N): satisfies every constraint to rounding.
    method
        "shift" (a multiple of the identity was added) or "clip" (eigenvalues clipped, then the diagonal raised).
    objective_before, objective_after
        Objective of the iterate and of the repaired matrices; their difference is what exactness costs.
    """

    matrices: Array
    method: str
    objective_before: float
    objective_after: float

    @property
    def cost(self) -> float:
        """Objective lost by the repair; a little below 0 where the iterate was infeasible and thus too good."""
        return self.objective_after - self.objective_before


def raise_diagonal(matrix: Array, floor: Array, corr_bound: float) -> Array:
    """Raise the diagonal until the floor and the correlation bound hold; a PSD matrix stays PSD.

    a_i = max(K_ii, d_i), then a_i ← a_i · max_j max(1, |K_ij|/(ρ√(a_i a_j))). Both factors of a pair rise by at least
    the pair's excess, so √(a_i a_j) rises by it too. At ρ = 0 the off-diagonals are set to zero instead.
    """
    diag = np.maximum(np.diag(matrix), floor)
    n = len(diag)
    if corr_bound == 0:
        return np.asarray(np.diag(diag))
    out = matrix.copy()
    off = np.abs(matrix)
    np.fill_diagonal(off, 0.0)
    # A name whose own impact is zero can carry no cross term; a floor of zero allows it.
    dead = diag <= 0
    out[dead, :] = out[:, dead] = 0.0
    off[dead, :] = off[:, dead] = 0.0
    bound = corr_bound * np.sqrt(np.outer(diag, diag))
    ratio = np.divide(off, bound, out=np.zeros((n, n)), where=bound > 0)
    factor = np.maximum(1.0, ratio.max(axis=1, initial=0.0))
    out[np.arange(n), np.arange(n)] = np.where(dead, 0.0, diag * factor)
    return out


def _lift(matrix: Array) -> Array:
    """Add what is missing to the diagonal so that the computed smallest eigenvalue is not negative."""
    low = float(np.linalg.eigvalsh(matrix)[0])
    return matrix + max(0.0, -low) * (1.0 + 1e-12) * np.eye(len(matrix)) if low < 0 else matrix


def repair(problem: FitProblem, matrices: Array) -> Repair:
    """Make K' exactly feasible by the better of two ways.

    Both end by raising the diagonal, which keeps every constraint: "shift" adds (−λ_min)⁺ I to each K'_m; "clip" clips
    its eigenvalues at zero first. The clip moves off-diagonals too, but adds far less where the smallest eigenvalue
    is spread over many directions.

    Parameters
    ----------
    problem
        Supplies the floor, ρ and the objective.
    matrices
        Any finite K' (M, N, N); symmetrised first.
    """
    symmetric = 0.5 * (matrices + matrices.transpose(0, 2, 1))
    before = problem.objective(symmetric)
    candidates: list[tuple[float, str, Array]] = []
    for method in ("shift", "clip"):
        parts = []
        for K in symmetric:
            if method == "clip":
                values, vectors = np.linalg.eigh(K)
                K = (vectors * np.maximum(values, 0.0)) @ vectors.T
                K = 0.5 * (K + K.T)
            parts.append(_lift(raise_diagonal(K, problem.floor, problem.corr_bound)))
        fixed = np.stack(parts)
        candidates.append((problem.objective(fixed), method, fixed))
    after, method, fixed = min(candidates, key=lambda c: c[0])
    return Repair(fixed, method, before, after)
