"""The cone program of a Gram fit: PSD matrices from second moments, solved by its structure and certified."""

from __future__ import annotations

from crosswind.solvers.gram.problem import GramConeFit, Violations, violations
from crosswind.solvers.gram.project import Projection, project_admissible
from crosswind.solvers.gram.prox import prox_floor_correlation
from crosswind.solvers.gram.solution import GramConeSolution, GramProgress, GramState
from crosswind.solvers.gram.solve import gram_path, solve_gram

__all__ = [
    "GramConeFit",
    "GramConeSolution",
    "GramProgress",
    "GramState",
    "Projection",
    "Violations",
    "gram_path",
    "project_admissible",
    "prox_floor_correlation",
    "solve_gram",
    "violations",
]
