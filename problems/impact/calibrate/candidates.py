"""Who is compared: the joint fit, every baseline over the same decay shapes, and how complex each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.assemble import check_folds, check_training
from crosswind.problems.impact.baselines import DiagonalNNLS, FullOLS, KyleImpact, OwnFlowOLS, SequentialHeuristic
from crosswind.problems.impact.estimate import RIDGE_GRID, CrossImpact
from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.families.separable import SeparableImpact
from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.gram import FoldGrams
from crosswind.problems.impact.model import ImpactModel
from crosswind.problems.impact.targets import Target
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DIAGONAL", "JOINT", "OWN_FLOW", "TunedHeuristic", "complexity", "default_estimators"]

Array = NDArray[np.float64]

JOINT, OWN_FLOW, DIAGONAL = "joint", "own-flow OLS", "diagonal NNLS"


class TunedHeuristic(ImpactEstimator):
    """`SequentialHeuristic` with its ridge chosen on time-blocked, purged folds: the heuristic at its best.

    Parameters
    ----------
    kernel, half_lives_s, lags, defactor, corr_bound, floor, target, sectors
        See `SequentialHeuristic`.
    ridge
        A number, or "cv" for the best of ``ridge_grid`` by mean held-out R².
    ridge_grid, folds
        Grid and number of blocks.

    Attributes
    ----------
    ridge_
        The ridge used.
    """

    ridge_: float

    def __init__(
        self,
        kernel: str = "exponential",
        half_lives_s: Sequence[float] | None = None,
        lags: Sequence[int] | None = None,
        corr_bound: float = 0.6,
        floor: float = 0.01,
        ridge: float | str = "cv",
        target: Target = None,
        sectors: pd.Series | None = None,
        ridge_grid: Sequence[float] = RIDGE_GRID,
        folds: int = 3,
        defactor: bool = True,
    ) -> None:
        self.kernel = kernel
        self.half_lives_s = half_lives_s
        self.lags = lags
        self.corr_bound = corr_bound
        self.floor = floor
        self.ridge = ridge
        self.target = target
        self.sectors = sectors
        self.ridge_grid = ridge_grid
        self.folds = folds
        self.defactor = defactor

    def _fold_count(self) -> int:
        return check_folds(self.ridge, self.folds, self.ridge_grid)

    def _at(self, ridge: float) -> SequentialHeuristic:
        shared = {k: v for k, v in self.get_params().items() if k not in ("ridge", "ridge_grid", "folds")}
        return SequentialHeuristic(**shared, ridge=ridge)

    def _estimate(self, grams: FoldGrams, dictionary: Dictionary, names: tuple[str, ...]) -> Array:
        if self.ridge != "cv":
            self.ridge_ = float(self.ridge)
            return self._at(self.ridge_)._estimate(grams, dictionary, names)
        for fold in range(len(grams.blocks)):
            check_training(grams.train(fold), grams.total, names, fold, len(grams.blocks))
        means = []
        for ridge in self.ridge_grid:
            scores = []
            for fold, block in enumerate(grams.blocks):
                train = FoldGrams(grams.train(fold), (), (), grams.raw_return_cov)
                K = self._at(float(ridge))._estimate(train, dictionary, names)
                X = K.transpose(1, 0, 2).reshape(len(names), -1)
                total = np.diag(block.rr)
                scores.append(1.0 - np.mean(block.squared_error(X)[total > 0] / total[total > 0]))
            means.append(float(np.mean(scores)))
        self.ridge_ = float(self.ridge_grid[int(np.argmax(means))])
        return self._at(self.ridge_)._estimate(grams, dictionary, names)


def default_estimators(
    half_lives_s: Sequence[float] | None = None,
    corr_bound: float = 0.6,
    ridge: float | str = "cv",
    sectors: pd.Series | None = None,
    kernel: str = "exponential",
    lags: Sequence[int] | None = None,
) -> dict[str, ImpactEstimator]:
    """Return the joint fit and every baseline by the name they have in tables, from simple to complex.

    Parameters
    ----------
    half_lives_s, kernel, lags
        Decay shapes, the same for all, so that the comparison is about the matrices.
    corr_bound, ridge
        Of the joint fit; the bound also of the heuristic.
    sectors
        Series name → sector, for the block target; None: clusters found in the data.
    """
    shapes: dict[str, Any] = {"kernel": kernel, "half_lives_s": half_lives_s, "lags": lags}
    plain: dict[str, Callable[..., ImpactEstimator]] = {
        OWN_FLOW: OwnFlowOLS,
        DIAGONAL: DiagonalNNLS,
        "Kyle": KyleImpact,
    }
    out = {label: make(**shapes) for label, make in plain.items()}
    if kernel != "instantaneous":
        out["separable"] = SeparableImpact(**shapes, corr_bound=corr_bound, ridge=ridge, sectors=sectors)
    out["heuristic, tuned"] = TunedHeuristic(**shapes, corr_bound=corr_bound, sectors=sectors)
    out["full OLS"] = FullOLS(**shapes)
    out[JOINT] = CrossImpact(**shapes, corr_bound=corr_bound, ridge=ridge, sectors=sectors)
    return out


def complexity(model: ImpactModel) -> int:
    """Order of complexity: 0 no cross terms, 1 one matrix times scalars (separable), 2 a matrix for every shape."""
    off = ~np.eye(len(model.names), dtype=bool)
    if not model.matrices[:, off].any():
        return 0
    flat = model.matrices.reshape(len(model.matrices), -1)
    largest = flat[int(np.argmax((flat**2).sum(axis=1)))]
    share = flat @ largest / (largest @ largest)
    separable = np.abs(flat - share[:, None] * largest).max() <= 1e-9 * np.abs(largest).max()
    return 1 if separable else 2


def checked(estimators: Mapping[str, ImpactEstimator], two_stage: bool) -> dict[str, ImpactEstimator]:
    """Return the estimators as a dict after refusing what cannot be compared.

    Raises
    ------
    InvalidInput
        Nothing given, no estimator, or one that takes factors out beside one that does not.
    """
    if not estimators:
        raise InvalidInput("no models to compare", field="estimators", remedy="leave it None for the default ones")
    for label, estimator in estimators.items():
        if not isinstance(estimator, ImpactEstimator):
            raise InvalidInput(
                "is not an impact estimator",
                field=f"estimators[{label!r}]",
                value=type(estimator).__name__,
                remedy="pass estimators by name, as default_estimators() does",
            )
    stages = {label: bool(e.defactor) for label, e in estimators.items()}
    if two_stage and len(set(stages.values())) > 1:
        raise InvalidInput(
            "some take the factors out of the returns and some do not, so their R² have different bases",
            field="estimators",
            value=stages,
            remedy="set defactor the same for all",
        )
    return dict(estimators)
