"""`SeparableImpact`: one decay for all names, G_h = φ(h) K, with φ and K fitted in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.assemble import RIDGE_GRID, Recipe, best_of, check_folds, cross_validate_ridge
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.families.alternating import alternate, collapse_folds, own_weights
from crosswind.problems.impact.features import Dictionary, make_dictionary
from crosswind.problems.impact.gram import FoldGrams
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.targets import Target
from crosswind.solvers.errors import InvalidInput

__all__ = ["SEPARABLE_LAGS", "SeparableImpact"]

Array = NDArray[np.float64]

SEPARABLE_LAGS: tuple[int, ...] = tuple(range(16))
_ONE = Dictionary("instantaneous", 1.0)


class SeparableImpact(ImpactEstimator):
    """A scalar decay times one matrix, G_h = φ(h) K with φ(0) = 1, under every constraint of the joint fit.

    φ = Σ_m a_m φ_m with a on the simplex, over the shapes of a family: steps give every isotonic (falling) φ ≥ 0 on
    the lags, triangles every falling and convex one, exponentials a completely monotone one. The fit alternates two
    exact half-steps on the moments: K by the joint convex program of `CrossImpact`, a by a quadratic program on the
    simplex. The objective never rises (``history_``). It is not convex in both: the result is a point that neither
    half-step improves, started from the decay of own flows.

    One matrix in place of M: N(N + 1)/2 + M − 1 free numbers. It wins where data are few, and is wrong where liquid and
    illiquid names heal at different speeds; let held-out data choose.

    Parameters
    ----------
    kernel
        "convex" (default; admits no price manipulation), "monotone" (isotonic φ, which may), or "exponential".
    half_lives_s, lags
        Shapes of the family; None: lags 0 to 15, half-lives of 2, 20 and 200 buckets.
    corr_bound, floor, l1, target, sectors, turnover, previous
        Of K, as in `CrossImpact`; ``previous`` is a DataFrame of G_0 or the ``model_`` of a separable fit.
    ridge, ridge_grid, folds
        As in `CrossImpact`; "cv" chooses at the decay of own flows, before the alternation.
    pool
        Pull of self-impact to the target's diagonal; None: the same as the ridge.
    defactor
        Regress returns on the events' factor returns first.
    limit, tol
        Most full steps, and the relative decrease of the objective that ends the alternation.
    solver, solver_tol
        Of the joint fits.

    Attributes
    ----------
    decay_
        φ at whole buckets, Series by lag [s].
    matrix_
        K = G_0, DataFrame (N, N) [return per currency].
    shares_
        a (M,), Series by shape.
    history_
        Objective after each half-step.
    converged_
        Whether the alternation ended by itself.
    ridge_, cv_, floor_, scale_, suboptimality_
        As in `CrossImpact`; the suboptimality is that of K given φ.

    Notes
    -----
    ``model_`` holds the matrices a_m K of the family, so everything that takes an `ImpactModel` takes this one.

    References
    ----------
    Benzaquen, Mastromatteo, Eisler, Bouchaud (2017), dissecting cross-impact; Alfonsi, Klöck, Schied (2016).
    """

    def __init__(
        self,
        kernel: str = "convex",
        half_lives_s: Sequence[float] | None = None,
        lags: Sequence[int] | None = None,
        corr_bound: float = 0.6,
        floor: float | pd.Series = 0.01,
        ridge: float | str = "cv",
        pool: float | None = None,
        l1: float = 0.0,
        target: Target = None,
        sectors: pd.Series | None = None,
        turnover: float = 0.0,
        previous: ImpactModel | pd.DataFrame | None = None,
        ridge_grid: Sequence[float] = RIDGE_GRID,
        folds: int = 3,
        defactor: bool = True,
        limit: int = 100,
        tol: float = 1e-8,
        solver: str | tuple[str, ...] = "auto",
        solver_tol: float = 1e-8,
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
        self.turnover = turnover
        self.previous = previous
        self.ridge_grid = ridge_grid
        self.folds = folds
        self.defactor = defactor
        self.limit = limit
        self.tol = tol
        self.solver = solver
        self.solver_tol = solver_tol

    def _fold_count(self) -> int:
        return check_folds(self.ridge, self.folds, self.ridge_grid)

    def _rows_needed(self, names: int, shapes: int) -> int:
        return max(10, 2 * shapes) * (1 + self._fold_count())

    def _dictionary(self, bucket_s: float, longest_session_s: float | None) -> Dictionary:
        if self.kernel not in ("convex", "monotone", "exponential"):
            raise InvalidInput(
                "no family of decays to mix",
                field="kernel",
                value=self.kernel,
                remedy='use "convex", "monotone" or "exponential"',
            )
        if int(self.limit) != self.limit or self.limit < 1:
            raise InvalidInput("at least one step is needed", field="limit", value=self.limit)
        lags = SEPARABLE_LAGS if self.lags is None else self.lags
        return make_dictionary(self.kernel, bucket_s, self.half_lives_s, lags)

    def _recipe(self) -> Recipe:
        target, previous = _immediate(self.target), _immediate(self.previous)
        return Recipe(self.floor, self.corr_bound, self.l1, self.pool, target, self.sectors, self.turnover, previous)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        recipe, groups = self._recipe(), dictionary.size
        start = own_weights(grams.total, groups)
        first = collapse_folds(grams, groups, start)
        self.cv_: pd.DataFrame | None = None
        if self.ridge == "cv":
            self.cv_ = cross_validate_ridge(recipe, first, _ONE, names, self.ridge_grid, self.solver, self.solver_tol)
        self.ridge_ = float(self.ridge) if self.cv_ is None else best_of(self.cv_)
        base = recipe.build(first.total, grams.raw_return_cov, _ONE, names, self.ridge_)
        found = alternate(grams.total, groups, base, start, self.limit, self.tol, self.solver, self.solver_tol)
        self.scale_ = pd.Series(base.scale, index=list(names), name="scale")
        self.floor_ = pd.Series(base.floor * base.scale**2, index=list(names), name="floor")
        self.history_, self.converged_ = found.history, found.converged
        self.fitted_, self.suboptimality_ = found.fitted, found.fitted.suboptimality
        K = base.unscale(found.matrices)[0]
        self.matrix_ = pd.DataFrame(K, index=list(names), columns=list(names))
        self.shares_ = pd.Series(found.weights, index=list(dictionary.labels), name="share")
        h = np.arange(dictionary.memory_buckets + 1 if dictionary.lags else max(dictionary.memory_buckets, 1) + 1)
        phi = found.weights @ dictionary.phi(h.astype(np.float64))
        self.decay_ = pd.Series(phi, index=pd.Index(h * dictionary.bucket_s, name="lag_s"), name="decay")
        return np.asarray(found.weights[:, None, None] * K)

    def constraint_violations(self) -> pd.Series:
        """Worst relative violation of each constraint by K: at rounding level after the repair."""
        self._fitted()
        one = ImpactModel(self.names_, np.zeros(1), self.matrix_.to_numpy()[None], "instantaneous", 1.0)
        return one.constraint_violations(self.floor_, self.corr_bound)

    def summary(self) -> str:
        """Return the model's summary with the decay, the steps and what is certified."""
        model = self._fitted()
        half = self.decay_[self.decay_ <= 0.5]
        when = "not within its shapes" if half.empty else f"by {half.index[0]:g} s"
        ended = "converged" if self.converged_ else f"stopped at the limit of {self.limit}"
        return "\n".join(
            [
                model.summary(),
                f"  decay            one for all names, half gone {when}",
                f"  alternation      {len(self.history_) // 2} steps, {ended}; ridge {self.ridge_:g}",
                f"  constraints      worst relative violation {float(self.constraint_violations()['worst']):.1e}",
                f"  suboptimality    of the matrix given the decay ≤ {self.suboptimality_:.1e}",
            ]
        )


def _immediate(given: Any) -> Any:
    """G_0 of a model: the separable fit has one matrix, whatever the shapes."""
    if isinstance(given, ImpactModel):
        return pd.DataFrame(given.immediate, index=list(given.names), columns=list(given.names))
    return given
