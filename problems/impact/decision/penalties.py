"""Penalties by name, and the fit at each: the gram solver along a path, with pairs weighed by group where asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.assemble import Recipe, with_split
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.program import FitProblem
from crosswind.problems.impact.targets import correlation_clusters, sector_groups
from crosswind.solvers.errors import InvalidInput, SolverFailure
from crosswind.solvers.gram import GramConeFit, GramConeSolution, solve_gram

__all__ = ["GRID", "PENALTIES", "Fit", "FitPath", "check_parameters", "penalty_grid"]

Array = NDArray[np.float64]

PENALTIES = ("ridge", "pool", "split", "l1", "within", "between")
GRID: Mapping[str, tuple[float, ...]] = {
    "ridge": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "pool": (0.03, 0.3, 3.0, 30.0),
    "split": (1.0, 10.0, 100.0, 1000.0),
    "l1": (0.001, 0.01, 0.1),
    "within": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "between": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
_WEIGHED_STEPS, _WEIGHED_TOL = 200, 1e-7


def check_parameters(parameters: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the penalties to choose.

    Raises
    ------
    InvalidInput
        Unknown or repeated names, none, or "ridge" beside "within" or "between", which split it.
    """
    chosen = tuple(str(p) for p in parameters)
    unknown = [p for p in chosen if p not in PENALTIES]
    if unknown or not chosen or len(set(chosen)) != len(chosen):
        raise InvalidInput(
            "not penalties", field="parameters", value=chosen, remedy=f"choose among {', '.join(PENALTIES)}"
        )
    apart = {"within", "between"} & set(chosen)
    if apart and ("ridge" in chosen or len(apart) == 1):
        raise InvalidInput(
            '"within" and "between" split the ridge', field="parameters", value=chosen, remedy="give both, no ridge"
        )
    return chosen


def penalty_grid(
    parameters: Sequence[str], grid: Mapping[str, Sequence[float]] | pd.DataFrame | None
) -> list[dict[str, float]]:
    """Return all combinations to try, in order; a table lists them as they are.

    Raises
    ------
    InvalidInput
        A parameter without values, values that are not positive and finite.
    """
    if isinstance(grid, pd.DataFrame):
        if list(grid.columns) != list(parameters):
            raise InvalidInput("columns are not the parameters", field="grid", value=list(grid.columns))
        rows = [dict(zip(parameters, map(float, row), strict=True)) for row in grid.to_numpy()]
    else:
        held = {**GRID, **(grid or {})}
        axes = [tuple(float(v) for v in held[p]) for p in parameters]
        rows = [dict(zip(parameters, values, strict=True)) for values in product(*axes)]
    if not rows or any(not (np.isfinite(v) and v > 0) for row in rows for v in row.values()):
        raise InvalidInput("penalties must be positive and finite", field="grid", value=len(rows))
    return rows


@dataclass(frozen=True, eq=False)
class Fit:
    """One penalised fit in scaled coordinates.

    Parameters
    ----------
    matrices
        K', (M, N, N), exactly feasible.
    problem
        What was solved; with weighed pairs the last surrogate.
    gap
        Proven distance from the optimum, relative to 1 + |objective|; of the surrogate with weighed pairs.
    """

    matrices: Array
    problem: FitProblem
    gap: float


class FitPath:
    """Fits of one set of moments at many penalties; the moments are factorised once and each fit starts warm.

    Parameters
    ----------
    recipe, base, dictionary, names
        Options, and `Recipe.base` of the training moments.
    return_cov
        Second moments (N, N) of training returns, for the clusters of weighed pairs.
    tol
        Relative gap.
    ridge
        What holds where it is not among the penalties asked for.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: FitProblem,
        dictionary: Dictionary,
        names: tuple[str, ...],
        return_cov: Array,
        tol: float = 1e-6,
        ridge: float = 0.0,
    ) -> None:
        self.recipe, self.base, self.dictionary, self.names, self.tol = recipe, base, dictionary, names, tol
        self.return_cov, self.ridge = return_cov, ridge
        self._cone: GramConeFit | None = None
        self._moments: dict[float, Array] = {}
        self._held: Array | None = None
        self._warm: GramConeSolution | None = None

    def problem(self, penalties: Mapping[str, float]) -> FitProblem:
        """Return the fit at penalties by name; what is not named is the recipe's, a pool of None the ridge."""
        ridge = penalties.get("ridge", self.ridge)
        if "within" in penalties:
            ridge = max(penalties["within"], penalties["between"])
        split = penalties.get("split", self.recipe.split)
        recipe = replace(self.recipe, pool=penalties.get("pool", self.recipe.pool), split=split)
        base = self.base.with_penalties(l1=penalties.get("l1", self.recipe.l1))
        return recipe.at(self._with_split(base, split), self.dictionary, self.names, float(ridge))

    def _with_split(self, base: FitProblem, split: float) -> FitProblem:
        # One array per split: the solver knows by identity that it has factorised these moments before.
        if split not in self._moments:
            self._moments[split] = with_split(base, split).S
        return replace(base, S=self._moments[split])

    def at(self, penalties: Mapping[str, float], tol: float | None = None) -> Fit:
        """Fit at penalties by name.

        Raises
        ------
        SolverFailure
            The gap was not reached.
        """
        problem = self.problem(penalties)
        if "within" in penalties:
            return self._weighed(problem, penalties, self.tol if tol is None else tol)
        return self._solve(problem, self.tol if tol is None else tol)

    def _solve(self, problem: FitProblem, tol: float, start: GramConeSolution | None = None) -> Fit:
        target = problem.target
        if (
            self._cone is None
            or self._held is not problem.S
            or not np.array_equal(np.asarray(self._cone.target), target)
        ):
            self._held = problem.S
            self._cone = GramConeFit(
                problem.S, problem.B, problem.weights, problem.floor, problem.corr_bound, target=target
            )
            self._warm = start
        cone = self._cone.with_penalties(problem.ridge, problem.l1, problem.pool)
        solved = solve_gram(cone, tol, warm=self._warm)
        if not solved.status.usable or solved.gap > 100.0 * tol:
            raise SolverFailure(
                "a penalised fit was not solved",
                field="penalties",
                value=f"ridge {problem.ridge:g}, pool {problem.pool:g}, l1 {problem.l1:g}: gap {solved.gap:.1e}",
                remedy="leave the smallest penalties out of the grid; the moments may be close to singular",
            )
        self._warm = solved
        return Fit(np.asarray(solved.matrices), problem, solved.gap)

    def groups(self) -> NDArray[np.intp]:
        """Group of each name, (N,): given sectors, else clusters of the training returns."""
        if self.recipe.sectors is not None:
            return sector_groups(self.recipe.sectors, self.names)
        return correlation_clusters(self.return_cov)

    def _weighed(self, problem: FitProblem, penalties: Mapping[str, float], tol: float) -> Fit:
        """Ridges of their own for pairs within and between groups, by majorisation.

        With r̄ the larger ridge, ½r(k − t)² ≤ ½r̄(k − c)² + const with c = t + (1 − r/r̄)(k₀ − t) and equality at k₀: each
        step is a fit with one ridge, the objective never rises, and Nesterov's extrapolation of k₀ speeds it up.
        """
        if self.recipe.turnover:
            raise InvalidInput("weighed pairs do not go with turnover", field="turnover", value=self.recipe.turnover)
        groups = self.groups()
        same = groups[:, None] == groups[None, :]
        weight = np.where(same, penalties["within"], penalties["between"])
        share = 1.0 - weight / problem.ridge
        np.fill_diagonal(share, 0.0)
        T = problem.target
        fit = self._solve(problem, tol)
        before, ahead, pace = fit.matrices, fit.matrices, 1.0
        for _ in range(_WEIGHED_STEPS):
            step = replace(problem, target=T + share * (ahead - T))
            fit = self._solve(step, tol, self._warm)
            after = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * pace**2))
            moved = fit.matrices - before
            if float(np.sum(moved * (ahead - fit.matrices))) > 0.0:
                after, ahead = 1.0, fit.matrices  # the momentum points uphill: start it again
            else:
                ahead = fit.matrices + (pace - 1.0) / after * moved
            before, pace = fit.matrices, after
            if np.abs(moved).max() <= _WEIGHED_TOL * max(1.0, np.abs(before).max()):
                break
        return fit
