"""`CrossImpact`: all matrices of the decay dictionary fitted jointly under every no-arbitrage constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.fit import Fitted, fit_problem
from crosswind.problems.impact.gram import FoldGrams, Gram
from crosswind.problems.impact.program import FitProblem, scaled_problem
from crosswind.problems.impact.targets import Target, resolve_target
from crosswind.solvers.errors import InvalidInput

__all__ = ["RIDGE_GRID", "CrossImpact", "Fitted", "fit_problem"]

Array = NDArray[np.float64]

RIDGE_GRID: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_CV_TOL = 1e-6


class CrossImpact(ImpactEstimator):
    """Cross-impact under all constraints at once: symmetric, PSD, floored, correlation-bounded, decaying.

    min Σ_i w_i (½ x_i S x_i' − x_i b_i) + penalties over K_1..K_M, see `crosswind.problems.impact.program`; the data
    enter through their second moments alone, so the solve does not depend on the number of buckets.

    Parameters
    ----------
    kernel
        "exponential" (default; admissible by construction and Markov), "instantaneous", "convex", or "monotone" (whose
        fit may admit round trips that pay: look at ``model_.admissible()``).
    half_lives_s
        Half-lives [s] of the exponential family, inf for a permanent mode. None: 2, 20 and 200 buckets.
    lags
        Lags [buckets] of the monotone and convex families. None: 0, 1, 3, 7, 15.
    corr_bound
        ρ in [0, 1] of |K_ij| ≤ ρ√(K_ii K_jj); 0 fits a diagonal.
    floor
        A number: the share of each name's own slope that its self-impact keeps at least (default 1 %). A Series by
        name: the floor of Σ_m K_m,ii [return per currency]. Either is spread evenly over the shapes.
    ridge
        Pull of the cross terms to ``target``, in units of the data's mean curvature: a number ≥ 0, or "cv" (default)
        for the best of ``ridge_grid`` on time-blocked, purged folds. Unpenalised joint estimation does not beat the
        diagonal fit on many names, hence the default.
    pool
        Pull of self-impact to the target's diagonal, that is of its split over decay shapes to the split common to all
        names; None (default): the same as the ridge, 0: off.
    l1
        Pull of the cross terms to zero, ≥ 0, in the same scaled coordinates; sparse at large values.
    target
        "block" (default: one level within and one between sectors or clusters), "diagonal" (zero), a DataFrame of G_0
        [return per currency], or yesterday's `ImpactModel` (the ridge is then a turnover penalty).
    sectors
        Series name → sector for the block target; None: clusters of the return correlation.
    ridge_grid, folds
        Grid and number of blocks of the cross-validation.
    defactor
        Regress returns on the events' factor returns first, where there are any (two-stage fit).
    solver, tol
        Passed to `crosswind.solvers.solve`.

    Attributes
    ----------
    model_, kernel_, names_, rows_, seconds_, loadings_
        See `ImpactEstimator`.
    ridge_
        The ridge that was used.
    cv_
        DataFrame, held-out R² by ridge (rows) and fold (columns); None without cross-validation.
    floor_
        Floor of each K_m,ii by name, (N,) [return per currency].
    scale_
        √k_i by name: the scaling D of the program.
    solution_, certificate_, repair_, suboptimality_
        The solver's graded answer; the certificate of the matrices in ``model_``; the exact repair; and how far they
        can be from optimal, relative to 1 + |objective|.

    References
    ----------
    Alfonsi, Klöck, Schied (2016), multivariate transient price impact and matrix-valued positive definite functions;
    Schneider and Lillo (2019), cross-impact and no-dynamic-arbitrage, arXiv 1612.07742.
    """

    def __init__(
        self,
        kernel: str = "exponential",
        half_lives_s: Sequence[float] | None = None,
        lags: Sequence[int] | None = None,
        corr_bound: float = 0.6,
        floor: float | pd.Series = 0.01,
        ridge: float | str = "cv",
        pool: float | None = None,
        l1: float = 0.0,
        target: Target = None,
        sectors: pd.Series | None = None,
        ridge_grid: Sequence[float] = RIDGE_GRID,
        folds: int = 3,
        defactor: bool = True,
        solver: str | tuple[str, ...] = "auto",
        tol: float = 1e-8,
    ) -> None:
        self.kernel = kernel
        self.half_lives_s = half_lives_s
        self.lags = lags
        self.corr_bound = corr_bound
        self.floor = floor
        self.ridge = ridge
        self.pool = pool
        self.l1 = l1
        self.target = target
        self.sectors = sectors
        self.ridge_grid = ridge_grid
        self.folds = folds
        self.defactor = defactor
        self.solver = solver
        self.tol = tol

    def _fold_count(self) -> int:
        if not isinstance(self.ridge, str):
            return 0
        if self.ridge != "cv":
            raise InvalidInput('a number or "cv"', field="ridge", value=self.ridge)
        if int(self.folds) != self.folds or self.folds < 2:
            raise InvalidInput("cross-validation needs two blocks or more", field="folds", value=self.folds)
        if not len(self.ridge_grid):
            raise InvalidInput("the grid is empty", field="ridge_grid", value=self.ridge_grid)
        return int(self.folds)

    def _rows_needed(self, names: int, shapes: int) -> int:
        return max(10, 2 * shapes) * (1 + self._fold_count())

    def _problem(
        self, gram: Gram, return_cov: Array, dictionary: Dictionary, names: tuple[str, ...], ridge: float
    ) -> FitProblem:
        if isinstance(self.floor, pd.Series):
            held = self.floor.reindex(list(names)).to_numpy(dtype=np.float64)
            floor: float | Array = held / dictionary.size
            if not np.isfinite(held).all() or (held < 0).any():
                raise InvalidInput("a floor ≥ 0 is needed for every name", field="floor", value=dict(self.floor))
        else:
            floor = float(self.floor)
            if not 0.0 <= floor <= 1.0:
                raise InvalidInput("a share of the own slope lies in [0, 1]", field="floor", value=self.floor)
        problem = scaled_problem(gram, floor, self.corr_bound, ridge, self.l1)
        problem = problem.with_penalties(pool=self._pool(ridge))
        if problem.ridge == 0 and problem.pool == 0:
            return problem
        return replace(
            problem, target=resolve_target(self.target, problem, return_cov, names, self.sectors, dictionary)
        )

    def _pool(self, ridge: float) -> float:
        return ridge if self.pool is None else float(self.pool)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        self.cv_: pd.DataFrame | None = None
        self.ridge_ = float(self._cross_validate(grams, dictionary, names)) if self.ridge == "cv" else float(self.ridge)
        problem = self._problem(grams.total, grams.raw_return_cov, dictionary, names, self.ridge_)
        fitted = fit_problem(problem, self.solver, self.tol)
        self.fitted_ = fitted
        self.solution_, self.certificate_, self.repair_ = fitted.solution, fitted.certificate, fitted.repair
        self.suboptimality_ = fitted.suboptimality
        self.scale_ = pd.Series(problem.scale, index=list(names), name="scale")
        self.floor_ = pd.Series(problem.floor * problem.scale**2, index=list(names), name="floor")
        return problem.unscale(fitted.repair.matrices)

    def _cross_validate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> float:
        """Return the ridge with the best mean held-out R²; each fold's target and scaling come from its own training.

        The folds are blocks in time; rows beside a block, within the memory of the slowest shape, neither train nor
        test. All losses come from the moments of the blocks.
        """
        table: dict[int, dict[float, float]] = {}
        for fold, block in enumerate(grams.blocks):
            train = grams.train(fold)
            base = self._problem(train, grams.raw_return_cov, dictionary, names, 1.0)
            table[fold] = {}
            for ridge in self.ridge_grid:
                held = base.with_penalties(ridge=float(ridge), pool=self._pool(float(ridge)))
                fitted = fit_problem(held, self.solver, max(self.tol, _CV_TOL))
                X = base.stacked(base.unscale(fitted.repair.matrices))
                total = np.diag(block.rr)
                moved = total > 0
                table[fold][float(ridge)] = float(1.0 - np.mean(block.squared_error(X)[moved] / total[moved]))
        self.cv_ = pd.DataFrame(table).rename_axis(index="ridge", columns="fold")
        return float(self.cv_.index[int(np.argmax(self.cv_.mean(axis=1).to_numpy()))])

    def constraint_violations(self) -> pd.Series:
        """Worst relative violation of each constraint by the fitted model: at rounding level after the repair."""
        return self._fitted().constraint_violations(self.floor_, self.corr_bound)

    def summary(self) -> str:
        """Return the model's summary with the fit's penalties, certificate and violations."""
        model = self._fitted()
        worst: Any = self.constraint_violations()["worst"]
        proof = ", certified" if self.fitted_.rigorous else ", by the duality gap"
        lines = [
            model.summary(),
            f"  fit              {self.rows_} buckets, ridge {self.ridge_:g}, l1 {self.l1:g}, ρ {self.corr_bound:g}",
            f"  constraints      worst relative violation {worst:.1e} after exact repair ({self.repair_.method})",
            f"  suboptimality    ≤ {self.suboptimality_:.1e} of 1 + |objective|{proof}",
        ]
        return "\n".join(lines)
