"""`CrossImpact`: all matrices of the decay dictionary fitted jointly under every no-arbitrage constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.assemble import (
    RIDGE_GRID,
    SPLIT_GRID,
    Recipe,
    best_of,
    check_folds,
    cross_validate_ridge,
)
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.families.rates import RateSearch, fit_rates, log_grid_half_lives
from crosswind.problems.impact.families.robust import HuberFit, check_huber, clipped_sample, huber_fit, pseudo_returns
from crosswind.problems.impact.families.row_weights import check_row_weights, volatility_weights
from crosswind.problems.impact.families.sparsify import sparsify
from crosswind.problems.impact.features import Dictionary, make_dictionary
from crosswind.problems.impact.fit import Fitted, fit_problem
from crosswind.problems.impact.gram import FoldGrams
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.program import FitProblem
from crosswind.problems.impact.sample import Sample
from crosswind.problems.impact.targets import Target
from crosswind.problems.impact.transforms import EXPONENT_GRID, power_flow
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.impact.factors import Defactor
    from crosswind.problems.market import MarketEvents

__all__ = ["RIDGE_GRID", "CrossImpact", "Fitted", "fit_problem"]

Array = NDArray[np.float64]

_SHORTEST_BUCKETS = 2.0
_SESSIONS = 4.0  # a half-life of more sessions than this is permanent to data that restart each session


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
        Half-lives [s] of the exponential family, inf for a permanent mode. None: 2, 20 and 200 buckets. "log-grid":
        two per factor of 10 from 2 buckets to the longest session. "fit": the three defaults are a start, from which
        the half-lives are fitted to the rows by further passes, see `crosswind.problems.impact.families.rates`.
    half_life_bounds_s
        Bounds [s] of fitted half-lives; None: half a bucket to four sessions.
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
        names; None (default): the same as the ridge (0 beside a ``split``), 0: off. "cv": with the ridge chosen so, the
        best of that and of ``pool_grid`` on the same folds. Names that heal at different speeds want a weak pull here
        and a strong one on the cross terms.
    split
        Pull ≥ 0 of every entry, cross terms included, to the split over decay shapes that is common to all names; sizes
        stay free. At ∞ the kernel is separable, one decay times one matrix. "cv": the best of 0, 10, 100 and 1000 with
        the ridge. 0 (default): off. Use it where a schedule hangs on cross terms: their decay is what data tell worst.
    l1
        Pull of the cross terms to zero, ≥ 0, in the same scaled coordinates; sparse at large values.
    turnover, previous
        Pull ≥ 0 of all entries, self-impact included, to ``previous``: yesterday's `ImpactModel` or a DataFrame of G_0
        [return per currency]. It stands beside the ridge's pull to the target; entries of new names are pulled to
        the target with this strength instead.
    sparse_threshold
        After the fit, cross terms below this share of √(K_ii K_jj) are set to zero, the constraints kept exactly; what
        that costs is in ``sparsity_``. A threshold is refused where what it leaves is worse, by the objective, than no
        cross term at all. 0 (default): off.
    transform, exponent, exponent_grid
        "linear" (default), or "power": flow counts as sign(u)|u|^δ V^{1−δ}, see `PowerFlow`; δ a number in (0, 1] or
        "cv" for the best of ``exponent_grid`` on held-out blocks. A fit with δ < 1 predicts returns; a schedule on it
        is refused, since nonlinear impact with a decaying kernel always admits manipulation.
    row_weights, weight_span
        "equal" (default), or "volatility": rows count by 1/s_t², s_t the volatility over ``weight_span`` buckets on
        either side, see `crosswind.problems.impact.families.row_weights`. The noise of returns is no constant; weighed
        so, the same days tell more. Held-out R² in `cv_` is then of weighed rows; `score` is not.
    loss, huber_c
        "squared" (default), or "huber": residuals beyond ``huber_c`` robust standard deviations of their name weigh
        linearly, see `crosswind.problems.impact.families.robust`.
    passes
        Most passes over the rows of a Huber fit and of the search for half-lives.
    target
        "block" (default: one level within and one between sectors or clusters), "diagonal" (zero), a DataFrame of G_0
        [return per currency], or an `ImpactModel` of the same shapes.
    sectors
        Series name → sector for the block target; None: clusters of the return correlation.
    ridge_grid, pool_grid, folds
        Grids and number of blocks of the cross-validation.
    defactor
        Regress returns on the events' factor returns first, where there are any (two-stage fit); or a `Defactor`, for
        market, sectors, styles and components, fitted on the training rows of each fold.
    solver, tol
        As in `fit_problem`. At 200 names or more ``tol=1e-6`` is much faster than the default: with a ridge the
        iterations are then in float32 and fewer, and ``suboptimality_`` still says what is proven.

    Attributes
    ----------
    model_, kernel_, names_, rows_, seconds_, loadings_
        See `ImpactEstimator`.
    ridge_, pool_, split_
        The ridge, the pool and the split that were used.
    cv_, pool_cv_, split_cv_
        DataFrames, held-out R² by ridge, by pool, by split (rows) and fold (columns); None without cross-validation.
        With the Huber loss all are chosen a second time, on returns without the outliers; these are of that time.
    huber_, rate_search_, exponent_, exponent_cv_, sparsity_
        The robust fit (None for the squared loss), the search for half-lives (None where they are given), δ (1 for the
        linear model), held-out R² by δ (rows) and fold (None unless "cv"), and what the sparse threshold did.
    floor_
        Floor of each K_m,ii by name, (N,) [return per currency].
    scale_
        √k_i by name: the scaling D of the program.
    solution_, certificate_, repair_, suboptimality_
        The solver's graded answer; the certificate of the matrices in ``model_``; the exact repair; and how far they
        can be from optimal, relative to 1 + |objective|. With the Huber loss they are those of the last surrogate;
        they leave out the sparse threshold, whose cost is ``sparsity_.cost``.

    References
    ----------
    Alfonsi, Klöck, Schied (2016), multivariate transient price impact and matrix-valued positive definite functions;
    Schneider and Lillo (2019), cross-impact and no-dynamic-arbitrage, arXiv 1612.07742.
    """

    def __init__(
        self,
        kernel: str = "exponential",
        half_lives_s: Sequence[float] | str | None = None,
        lags: Sequence[int] | None = None,
        corr_bound: float = 0.6,
        floor: float | pd.Series = 0.01,
        ridge: float | str = "cv",
        pool: float | str | None = None,
        l1: float = 0.0,
        target: Target = None,
        sectors: pd.Series | None = None,
        ridge_grid: Sequence[float] = RIDGE_GRID,
        folds: int = 3,
        defactor: bool | Defactor = True,
        transform: str = "linear",
        exponent: float | str = 0.5,
        exponent_grid: Sequence[float] = EXPONENT_GRID,
        loss: str = "squared",
        huber_c: float = 1.345,
        half_life_bounds_s: tuple[float, float] | None = None,
        turnover: float = 0.0,
        previous: ImpactModel | pd.DataFrame | None = None,
        sparse_threshold: float = 0.0,
        passes: int = 50,
        split: float | str = 0.0,
        pool_grid: Sequence[float] = RIDGE_GRID,
        row_weights: str = "equal",
        weight_span: int = 10,
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
        self.transform = transform
        self.exponent = exponent
        self.exponent_grid = exponent_grid
        self.loss = loss
        self.huber_c = huber_c
        self.half_life_bounds_s = half_life_bounds_s
        self.turnover = turnover
        self.previous = previous
        self.sparse_threshold = sparse_threshold
        self.passes = passes
        self.split = split
        self.pool_grid = pool_grid
        self.row_weights = row_weights
        self.weight_span = weight_span
        self.solver = solver
        self.tol = tol

    def _recipe(self) -> Recipe:
        return Recipe(
            self.floor,
            self.corr_bound,
            self.l1,
            None if isinstance(self.pool, str) else self.pool,
            self.target,
            self.sectors,
            self.turnover,
            self.previous,
            0.0 if isinstance(self.split, str) else self.split,
        )

    def _fold_count(self) -> int:
        asked = check_folds(self.ridge, self.folds, self.ridge_grid)
        for field in ("split", "pool"):
            if isinstance(value := getattr(self, field), str):
                if value != "cv":
                    raise InvalidInput('a number or "cv"', field=field, value=value)
                asked = int(self.folds)
        if not len(self.pool_grid):
            raise InvalidInput("the grid is empty", field="pool_grid", value=self.pool_grid)
        return asked

    def _rows_needed(self, names: int, shapes: int) -> int:
        folds = int(self.folds) if self._exponents() else self._fold_count()
        return max(10, 2 * shapes) * (1 + folds)

    # -- options that read the rows -------------------------------------------------------------------------------
    def _exponents(self) -> tuple[float, ...]:
        """Exponents to choose from, () where there is no choice."""
        if self.transform not in ("linear", "power"):
            raise InvalidInput(
                "unknown transform", field="transform", value=self.transform, remedy='use "linear" or "power"'
            )
        if self.transform == "linear" or not isinstance(self.exponent, str):
            return ()
        if self.exponent != "cv":
            raise InvalidInput('a number in (0, 1] or "cv"', field="exponent", value=self.exponent)
        if not len(self.exponent_grid):
            raise InvalidInput("the grid is empty", field="exponent_grid", value=self.exponent_grid)
        check_folds("cv", self.folds, self.exponent_grid)
        return tuple(float(e) for e in self.exponent_grid)

    def _first_stage(self, events: MarketEvents, names: tuple[str, ...]) -> Sample:
        sample = super()._first_stage(events, names)
        return sample.weighed(volatility_weights(sample, int(self.weight_span))) if self._weighed() else sample

    def _weighed(self) -> bool:
        return check_row_weights(self.row_weights, self.weight_span)

    def _robust(self) -> bool:
        return check_huber(self.loss, self.huber_c, self.passes)

    def _needs_rows(self) -> list[str]:
        words = isinstance(self.half_lives_s, str)
        needed = {
            "loss": self._robust(),
            "transform": self.transform != "linear",
            "half_lives_s": words,
            "row_weights": self._weighed(),
        }
        return [f"{option}={getattr(self, option)!r}" for option, on in needed.items() if on]

    def _dictionary(self, bucket_s: float, longest_session_s: float | None) -> Dictionary:
        self._robust()
        self.huber_: HuberFit | None = None
        self.exponent_cv_: pd.DataFrame | None = None
        self.rate_search_: RateSearch | None = None
        self.exponent_ = 1.0
        lives: Any = self.half_lives_s
        if isinstance(lives, str):
            if lives not in ("fit", "log-grid") or self.kernel != "exponential":
                raise InvalidInput(
                    "half-lives in words are for the exponential kernel",
                    field="half_lives_s",
                    value=(lives, self.kernel),
                    remedy='give numbers [s], "fit" or "log-grid"',
                )
            if lives == "fit" and self.split != 0.0:
                raise InvalidInput(
                    "a split over shapes is for given half-lives", field="split", value=self.split, remedy="use 0"
                )
            assert longest_session_s is not None  # moments alone are refused for these options
            shortest = _SHORTEST_BUCKETS * bucket_s
            lives = None if lives == "fit" else log_grid_half_lives(shortest, max(shortest, longest_session_s))
        return make_dictionary(self.kernel, bucket_s, lives, self.lags)

    def _moments(self, sample: Sample, dictionary: Dictionary, folds: int | None = None) -> FoldGrams:
        rows = clipped_sample(sample, float(self.huber_c)) if self._robust() else sample
        return rows.dictionary_moments(dictionary, self._fold_count() if folds is None else folds)

    def _shapes(self, sample: Sample, dictionary: Dictionary) -> Dictionary:
        flow = sample.flow[sample.use]
        choices = self._exponents()
        if choices:
            table = {}
            grid = self.ridge_grid if self.ridge == "cv" else (float(self.ridge),)
            for exponent in choices:
                trial = replace(dictionary, transform=power_flow(flow, exponent))
                grams = self._moments(sample, trial, int(self.folds))
                held = cross_validate_ridge(self._recipe(), grams, trial, sample.names, grid, self.solver, self.tol)
                table[exponent] = held.loc[best_of(held)]
            self.exponent_cv_ = pd.DataFrame(table).T.rename_axis(index="exponent", columns="fold")
            self.exponent_ = best_of(self.exponent_cv_)
        elif self.transform == "power":
            self.exponent_ = float(self.exponent)
        dictionary = replace(dictionary, transform=power_flow(flow, self.exponent_))
        if self.half_lives_s != "fit":
            return dictionary
        grams = self._moments(sample, dictionary)
        problem, _ = self._problem(grams, dictionary, sample.names)
        bucket = dictionary.bucket_s
        bounds = self.half_life_bounds_s or (0.5 * bucket, max(_SESSIONS * sample.longest_session_s, 8.0 * bucket))
        rows = clipped_sample(sample, float(self.huber_c)) if self._robust() else sample
        self.rate_search_ = fit_rates(
            rows, dictionary, problem, bounds, self.passes, solver=self.solver, solver_tol=self.tol
        )
        return self.rate_search_.dictionary

    def _refine(self, sample: Sample, dictionary: Dictionary, matrices: Array) -> Array:
        if not self._robust():
            return matrices
        c, passes, fitted = float(self.huber_c), int(self.passes), self.fitted_
        first = huber_fit(sample, dictionary, fitted, c, passes, solver=self.solver, solver_tol=self.tol)
        # Scaling, targets and penalties again, from returns without the outliers: those of clipped returns are noisy.
        K = fitted.problem.unscale(first.fitted.repair.matrices)
        rows = pseudo_returns(sample, dictionary, fitted.problem.stacked(K), first.sigma, c)
        clean = rows.dictionary_moments(dictionary, self._fold_count())
        problem, self.cv_ = self._problem(clean, dictionary, sample.names)
        start = fit_problem(problem, self.solver, self.tol, warm=first.fitted)
        self.huber_ = huber_fit(sample, dictionary, start, c, passes, solver=self.solver, solver_tol=self.tol)
        return self._kept(self.huber_.fitted, sample.names)

    # -- the fit to moments ---------------------------------------------------------------------------------------
    def _problem(
        self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]
    ) -> tuple[FitProblem, pd.DataFrame | None]:
        """Return the fit at the ridge given or chosen, and the table of the choice."""
        recipe = self._recipe()
        table: pd.DataFrame | None = None
        self.split_cv_: pd.DataFrame | None = None
        if self.split == "cv":
            grid = self.ridge_grid if self.ridge == "cv" else (float(self.ridge),)
            tables = {}
            for split in SPLIT_GRID:
                trial = replace(recipe, split=split)
                tables[split] = cross_validate_ridge(trial, grams, dictionary, names, grid, self.solver, self.tol)
            held = pd.DataFrame({split: t.loc[best_of(t)] for split, t in tables.items()}).T
            self.split_cv_ = held.rename_axis(index="split", columns="fold")
            recipe = replace(recipe, split=best_of(self.split_cv_))
            table = tables[recipe.split]
        elif self.ridge == "cv":
            table = cross_validate_ridge(recipe, grams, dictionary, names, self.ridge_grid, self.solver, self.tol)
        self.ridge_ = float(self.ridge) if table is None else best_of(table)
        self.split_ = float(recipe.split)
        recipe = self._pooled(recipe, grams, dictionary, names)
        return recipe.build(grams.total, grams.raw_return_cov, dictionary, names, self.ridge_), table

    def _pooled(self, recipe: Recipe, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Recipe:
        """Return the recipe with the pool given or chosen at the ridge in hand."""
        self.pool_cv_: pd.DataFrame | None = None
        self.pool_ = recipe.follows(self.ridge_)
        if self.pool == "cv":
            table = {}
            for pool in dict.fromkeys((self.pool_, *map(float, self.pool_grid))):
                trial = replace(recipe, pool=pool)
                held = cross_validate_ridge(trial, grams, dictionary, names, (self.ridge_,), self.solver, self.tol)
                table[pool] = held.loc[self.ridge_]
            self.pool_cv_ = pd.DataFrame(table).T.rename_axis(index="pool", columns="fold")
            self.pool_ = best_of(self.pool_cv_)
        return replace(recipe, pool=self.pool_)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        problem, self.cv_ = self._problem(grams, dictionary, names)
        return self._kept(fit_problem(problem, self.solver, self.tol), names)

    def _kept(self, fitted: Fitted, names: tuple[str, ...]) -> Array:
        """Store one solved fit and return its matrices, with the sparse tail cut."""
        problem = fitted.problem
        self.scale_ = pd.Series(problem.scale, index=list(names), name="scale")
        self.floor_ = pd.Series(problem.floor * problem.scale**2, index=list(names), name="floor")
        self.fitted_ = fitted
        self.solution_, self.certificate_, self.repair_ = fitted.solution, fitted.certificate, fitted.repair
        self.suboptimality_ = fitted.suboptimality
        self.sparsity_ = sparsify(fitted.problem, fitted.repair.matrices, self.sparse_threshold).check()
        return fitted.problem.unscale(self.sparsity_.matrices)

    def constraint_violations(self) -> pd.Series:
        """Worst relative violation of each constraint by the fitted model: at rounding level after the repair."""
        return self._fitted().constraint_violations(self.floor_, self.corr_bound)

    def summary(self) -> str:
        """Return the model's summary with the fit's penalties, certificate and violations."""
        model = self._fitted()
        worst: Any = self.constraint_violations()["worst"]
        proof = ", certified" if self.fitted_.rigorous else ", by the duality gap"
        more = f", split {self.split_:g}" if self.split_ else ""
        more += f", pool {self.pool_:g}" if self.pool == "cv" else ""
        more += ", rows by volatility" if self._weighed() else ""
        lines = [
            model.summary(),
            f"  fit              {self.rows_} buckets, ridge {self.ridge_:g}{more}, l1 {self.l1:g}, "
            f"ρ {self.corr_bound:g}",
            f"  constraints      worst relative violation {worst:.1e} after exact repair ({self.repair_.method})",
            f"  suboptimality    ≤ {self.suboptimality_:.1e} of 1 + |objective|{proof}",
        ]
        if self.rate_search_ is not None:
            ended = "" if self.rate_search_.converged else ", stopped at the limit"
            lines.append(f"  half-lives       fitted in {self.rate_search_.passes} passes{ended}")
        if self.huber_ is not None:
            ended = "" if self.huber_.converged else ", stopped at the limit"
            lines.append(
                f"  Huber loss       {np.mean(self.huber_.clipped):.0%} of residuals beyond {self.huber_c:g} σ; "
                f"{len(self.huber_.history) - 1} passes{ended}; the suboptimality is the last surrogate's"
            )
        if self.sparsity_.dropped and self.sparse_threshold > 0:
            tail = self.sparsity_
            lines.append(f"  sparse tail      {tail.density:.0%} of pairs stay, at {tail.cost:.1e} of the objective")
        return "\n".join(lines)
