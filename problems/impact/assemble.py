"""From moments and a user's options to one `FitProblem`, and the choice of the ridge on held-out blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.fit import Fitted, fit_problem
from crosswind.problems.impact.gram import FoldGrams, Gram
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.program import FitProblem, scaled_problem
from crosswind.problems.impact.targets import Target, resolve_previous, resolve_target, with_turnover
from crosswind.solvers.errors import InvalidInput

__all__ = ["RIDGE_GRID", "SPLIT_GRID", "Recipe", "best_of", "check_folds", "check_training", "cross_validate_ridge"]

Array = NDArray[np.float64]

RIDGE_GRID: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SPLIT_GRID: tuple[float, ...] = (0.0, 10.0, 100.0, 1000.0)
_CV_TOL = 1e-6
_ROUNDING = 1e-13  # of a difference of sums, relative to the larger


@dataclass(frozen=True, eq=False)
class Recipe:
    """Constraints and penalties as a user gives them; see `CrossImpact` for the meaning of each.

    Parameters
    ----------
    floor, corr_bound, l1, pool, target, sectors, turnover, previous, split
        As in `CrossImpact`.
    """

    floor: float | pd.Series = 0.01
    corr_bound: float = 0.6
    l1: float = 0.0
    pool: float | None = None
    target: Target = None
    sectors: pd.Series | None = None
    turnover: float = 0.0
    previous: ImpactModel | pd.DataFrame | None = None
    split: float = 0.0

    def build(
        self, gram: Gram, return_cov: Array, dictionary: Dictionary, names: tuple[str, ...], ridge: float
    ) -> FitProblem:
        """Return the fit of these moments in scaled coordinates.

        Parameters
        ----------
        gram
            Moments of the training rows, one block of regressors per shape of the dictionary.
        return_cov
            Second moments (N, N) of raw returns, for clusters.
        ridge
            Pull of the cross terms to the target.

        Raises
        ------
        InvalidInput
            A bad option; the message names it.
        """
        if ridge == 0 and not self.pool and self._turnover() == 0 and self._split() == 0:
            return scaled_problem(gram, self._floor(names, dictionary), self.corr_bound, ridge, self.l1, names)
        return self.at(self.base(gram, return_cov, dictionary, names), dictionary, names, ridge)

    def base(self, gram: Gram, return_cov: Array, dictionary: Dictionary, names: tuple[str, ...]) -> FitProblem:
        """Return the part of `build` that all ridges share: scaling, constraints, l1 and target, without a pull."""
        self._turnover()
        problem = scaled_problem(gram, self._floor(names, dictionary), self.corr_bound, 0.0, self.l1, names)
        T = resolve_target(self.target, problem, return_cov, names, self.sectors, dictionary)
        return with_split(replace(problem, target=T), self._split())

    def at(self, base: FitProblem, dictionary: Dictionary, names: tuple[str, ...], ridge: float) -> FitProblem:
        """Return `base` with the pulls of one ridge."""
        problem = base.with_penalties(ridge=ridge, pool=self.follows(ridge))
        turnover = self._turnover()
        if turnover == 0 or self.previous is None:
            return problem
        return with_turnover(problem, resolve_previous(self.previous, problem, names, dictionary), turnover)[0]

    def follows(self, ridge: float) -> float:
        """Return the pool beside a ridge: the one given, else the ridge."""
        if self.pool is not None:
            return float(self.pool)
        return 0.0 if self.split else ridge  # the split already pools the decay of self-impact

    def _floor(self, names: tuple[str, ...], dictionary: Dictionary) -> float | Array:
        if isinstance(self.floor, pd.Series):
            held = self.floor.reindex(list(names)).to_numpy(dtype=np.float64)
            if not np.isfinite(held).all() or (held < 0).any():
                raise InvalidInput("a floor ≥ 0 is needed for every name", field="floor", value=dict(self.floor))
            return held / dictionary.size
        if not 0.0 <= float(self.floor) <= 1.0:
            raise InvalidInput("a share of the own slope lies in [0, 1]", field="floor", value=self.floor)
        return float(self.floor)

    def _split(self) -> float:
        split = float(self.split)
        if not (np.isfinite(split) and split >= 0):
            raise InvalidInput("a penalty must be finite and ≥ 0", field="split", value=self.split)
        return split

    def _turnover(self) -> float:
        turnover = float(self.turnover)
        if not (np.isfinite(turnover) and turnover >= 0):
            raise InvalidInput("a penalty must be finite and ≥ 0", field="turnover", value=self.turnover)
        if turnover > 0 and self.previous is None:
            raise InvalidInput(
                "turnover is measured from a previous matrix",
                field="previous",
                value=None,
                remedy="give yesterday's ImpactModel or a DataFrame of G_0, or turnover=0",
            )
        return turnover


def with_split(problem: FitProblem, split: float) -> FitProblem:
    """Add a pull of every entry's split over the shapes to the split common to all, and of nothing else.

    ½λ Σ_i w_i Σ_j k_ij'(I − aa'/a'a)k_ij with k_ij = (K_1,ij … K_M,ij) and a the self-impact of the target by shape:
    what an entry has along a, its size, is free; what it has across a is pulled to 0. For the rows of X = [K_1 … K_M]
    that is S ← S + λ(I − aa'/a'a) ⊗ I, so every solver and every certificate stays as it is. At λ → ∞ the kernel is
    separable, one decay times one matrix. Which decay a cross term has is what data tell worst of all.

    Parameters
    ----------
    problem
        The fit with its target resolved.
    split
        λ ≥ 0, in units of the data's mean curvature, as the ridge.
    """
    if split == 0 or problem.shapes == 1:
        return problem
    a = np.einsum("mii->m", problem.target)
    a = a if np.any(a != 0) else np.ones(problem.shapes)
    across = np.eye(problem.shapes) - np.outer(a, a) / (a @ a)
    return replace(problem, S=problem.S + split * np.kron(across, np.eye(problem.names)))


def check_folds(ridge: float | str, folds: int, grid: Sequence[float]) -> int:
    """Return the number of folds that a ridge needs: 0 for a number, ``folds`` for "cv".

    Folds and grid are checked in either case, so that an error shows before the day on which "cv" is asked for.

    Raises
    ------
    InvalidInput
        Another word or a truth value, fewer than two blocks or not a whole number of them, an empty grid.
    """
    number = isinstance(ridge, (int, float, np.integer, np.floating)) and not isinstance(ridge, bool)
    if not number and not (isinstance(ridge, str) and ridge == "cv"):
        raise InvalidInput('a number or "cv"', field="ridge", value=ridge)
    if not isinstance(folds, (int, np.integer)) or isinstance(folds, bool) or folds < 2:
        raise InvalidInput(
            "cross-validation needs a whole number of blocks, two or more", field="folds", value=folds, remedy="e.g. 3"
        )
    if not len(grid):
        raise InvalidInput("the grid is empty", field="ridge_grid", value=grid)
    return int(folds) if isinstance(ridge, str) else 0


def check_training(train: Gram, total: Gram, names: Sequence[str], fold: int, folds: int) -> None:
    """Refuse a fold on whose training rows a name neither trades nor moves, by the names of both.

    Parameters
    ----------
    train, total
        Moments of the training rows and of all rows: where the former are a difference of sums, what is left of a
        name without flow is rounding.
    names
        The N names.
    fold, folds
        Number of the fold, from 0, and how many there are.

    Raises
    ------
    InvalidInput
        As said.
    """
    for what, field, part, whole in (
        ("flow", "flow", train.uu, total.uu),
        ("price move", "mid", train.rr, total.rr),
    ):
        dead = np.diag(part) <= _ROUNDING * np.diag(whole)
        if dead.any():
            raise InvalidInput(
                f"a name has no {what} in the training rows of fold {fold + 1} of {folds}, so that the ridge cannot be "
                "chosen by cross-validation",
                field=f"events.{field}",
                value=[n for n, d in zip(names, dead, strict=True) if d],
                remedy="give a number: ridge=1.0, or drop the name, or give longer data",
            )


def cross_validate_ridge(
    recipe: Recipe,
    grams: FoldGrams,
    dictionary: Dictionary,
    names: tuple[str, ...],
    grid: Sequence[float],
    solver: str | tuple[str, ...] = "auto",
    tol: float = _CV_TOL,
) -> pd.DataFrame:
    """Held-out R² by ridge (rows) and fold (columns); each fold's target and scaling come from its own training.

    The folds are blocks in time; rows beside a block, within the memory of the slowest shape, neither train nor test.
    All losses come from the moments of the blocks; `best_of` the table is the ridge to take.

    Raises
    ------
    InvalidInput
        A name has no flow or no price move in the training rows of a fold; the message names both.
    """
    table: dict[int, dict[float, float]] = {}
    for fold, block in enumerate(grams.blocks):
        train = grams.train(fold)
        check_training(train, grams.total, names, fold, len(grams.blocks))
        base = recipe.base(train, grams.raw_return_cov, dictionary, names)
        table[fold] = {}
        fitted: Fitted | None = None
        for ridge in grid:
            problem = recipe.at(base, dictionary, names, float(ridge))
            fitted = fit_problem(problem, solver, max(tol, _CV_TOL), warm=fitted)
            X = problem.stacked(problem.unscale(fitted.repair.matrices))
            total = np.diag(block.rr)
            moved = total > 0
            table[fold][float(ridge)] = float(1.0 - np.mean(block.squared_error(X)[moved] / total[moved]))
    return pd.DataFrame(table).rename_axis(index="ridge", columns="fold")


def best_of(table: pd.DataFrame) -> float:
    """Return the row of a validation table with the largest mean; the first among equals."""
    return float(table.index[int(np.argmax(table.mean(axis=1).to_numpy()))])
