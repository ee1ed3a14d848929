"""The sparse tail: cross terms too small to act on are set to zero, and what that costs is said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.program import FitProblem
from crosswind.problems.impact.repair import raise_diagonal
from crosswind.solvers.errors import InvalidInput

__all__ = ["Sparsified", "sparsify"]

Array = NDArray[np.float64]

_SLACK = 1e-9  # of the objective, relative


@dataclass(frozen=True, eq=False)
class Sparsified:
    """What the threshold did.

    Parameters
    ----------
    matrices
        K' (M, N, N), exactly feasible, with the small cross terms zero.
    threshold
        The threshold c of |K_ij| < c √(K_ii K_jj).
    dropped, kept
        Number of pairs (over all shapes) set to zero, and left.
    methods
        Per shape: "none" (nothing dropped), "exact" (still PSD without help), "lift" (added to the diagonal) or "fade"
        (all cross terms times one factor below 1).
    objective_before, objective_after
        Objective with and without the tail.
    objective_plain
        Objective without any cross term.
    """

    matrices: Array
    threshold: float
    dropped: int
    kept: int
    methods: tuple[str, ...]
    objective_before: float
    objective_after: float
    objective_plain: float

    @property
    def cost(self) -> float:
        """Objective lost by the threshold, ≥ 0 up to the suboptimality of the fit that it was given."""
        return self.objective_after - self.objective_before

    def check(self) -> Sparsified:
        """Return self where the threshold did less harm than leaving out every cross term.

        Raises
        ------
        InvalidInput
            Otherwise: the way back to PSD costs more than the terms that are left are worth.
        """
        cut = any(method != "none" for method in self.methods)
        if cut and self.objective_after > self.objective_plain + _SLACK * (1.0 + abs(self.objective_plain)):
            raise InvalidInput(
                "the fit with the cross terms that are left is worse than without any",
                field="sparse_threshold",
                value=f"{self.threshold:g}: objective {self.objective_after:.6g} against {self.objective_plain:.6g}",
                remedy="take a lower threshold, l1 for a sparse fit, or corr_bound=0 for none",
            )
        return self

    @property
    def density(self) -> float:
        """Share of the pairs that are not zero; 1 for one name."""
        return self.kept / (self.kept + self.dropped) if self.kept + self.dropped else 1.0


def sparsify(problem: FitProblem, matrices: Array, threshold: float) -> Sparsified:
    """Zero the cross terms with |K_ij| < c √(K_ii K_jj) and keep every constraint exactly.

    Zeroing can leave the cone of PSD matrices. Two ways back keep the zeros, the floor and the correlation bound; the
    one with the better objective is taken, shape by shape:

    - "lift": K + (−λ_min)⁺ I in scaled coordinates, where all names are near 1;
    - "fade": diag(K) + s (K − diag K) with the largest s in [0, 1] that is PSD. With H the cross terms of the
      correlation matrix, s = min(1, −1/λ_min(H)).

    Parameters
    ----------
    problem
        Supplies floor, ρ and the objective.
    matrices
        Feasible K' (M, N, N).
    threshold
        c in [0, 1); 0 changes nothing.

    Raises
    ------
    InvalidInput
        A threshold outside [0, 1). One that does harm is refused by `Sparsified.check`.
    """
    if not 0.0 <= threshold < 1.0:
        raise InvalidInput(
            "a correlation in [0, 1) is needed", field="sparse_threshold", value=threshold, remedy="0 keeps all terms"
        )
    before = problem.objective(matrices)
    n, m = problem.names, problem.shapes
    pairs = m * n * (n - 1) // 2
    current = np.array(matrices)
    methods: list[str] = []
    for k in range(m):
        K = matrices[k]
        own = np.maximum(np.diag(K), 0.0)
        small = np.abs(K) < threshold * np.sqrt(np.outer(own, own))
        np.fill_diagonal(small, False)
        if not (small & (K != 0)).any():
            methods.append("none")
            continue
        cut = np.where(small, 0.0, K)
        if np.linalg.eigvalsh(cut)[0] >= 0:
            current[k] = cut
            methods.append("exact")
            continue
        trials = {"lift": _lift(cut), "fade": _fade(cut)}
        costs = {}
        for label, trial in trials.items():
            current[k] = raise_diagonal(trial, problem.floor, problem.corr_bound)
            costs[label] = problem.objective(current)
        best = min(trials, key=lambda label: costs[label])
        current[k] = raise_diagonal(trials[best], problem.floor, problem.corr_bound)
        methods.append(best)
    kept = int(np.count_nonzero(np.triu(current, 1)))
    after, plain = problem.objective(current), problem.objective(matrices * np.eye(n))
    return Sparsified(current, float(threshold), pairs - kept, kept, tuple(methods), before, after, plain)


def _lift(K: Array) -> Array:
    low = float(np.linalg.eigvalsh(K)[0])
    # A little more than the eigenvalue: the computed one of the result must not be negative either.
    return np.asarray(K + (-low * (1.0 + 1e-12) + 1e-15 * np.abs(K).max()) * np.eye(len(K)))


def _fade(K: Array) -> Array:
    own = np.diag(K).copy()
    alive = own > 0
    root = np.where(alive, np.sqrt(np.maximum(own, 0.0)), 1.0)
    H = K / np.outer(root, root)
    np.fill_diagonal(H, 0.0)
    H[~alive, :] = H[:, ~alive] = 0.0
    low = float(np.linalg.eigvalsh(H)[0])
    factor = min(1.0, -(1.0 - 1e-12) / low) if low < 0 else 1.0
    faded = np.where(np.eye(len(K), dtype=bool), K, factor * K)
    return _lift(faded) if np.linalg.eigvalsh(faded)[0] < 0 else faded
