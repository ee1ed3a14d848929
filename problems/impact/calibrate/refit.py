"""Fits from moments, on fresh copies: the estimator that the user gave is never touched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.gram import FoldGrams
from crosswind.problems.impact.model import ImpactModel

__all__ = ["fit_from_moments", "fresh", "with_fixed_penalties"]

Array = NDArray[np.float64]
_TOL = 1e-6


def fresh(estimator: ImpactEstimator) -> ImpactEstimator:
    """Return an unfitted copy."""
    return type(estimator)(**estimator.get_params())


def with_fixed_penalties(estimator: ImpactEstimator) -> ImpactEstimator:
    """Return an unfitted copy for refits: every "cv" is the value the fit chose, and tolerances are loosened.

    A refit on resampled moments differs from the next one by far more than a solve at 1e-6 does from its optimum.
    """
    copy = fresh(estimator)
    chosen = {
        name: getattr(estimator, f"{name}_")
        for name, value in copy.get_params().items()
        if isinstance(value, str) and value == "cv" and hasattr(estimator, f"{name}_")
    }
    loose = {k: max(float(v), _TOL) for k, v in copy.get_params().items() if k in ("tol", "solver_tol")}
    return copy.set_params(**chosen, **loose)


def fit_from_moments(estimator: ImpactEstimator, moments: FoldGrams, like: ImpactModel) -> ImpactModel:
    """Fit a copy on given moments; nothing is read.

    Parameters
    ----------
    estimator
        Its parameters are used; penalties must be numbers, for moments without folds have no cross-validation.
    moments
        Moments of the rows, with the regressors of ``like``'s decay shapes.
    like
        Model whose names, shapes, bucket and currency the new one has.

    Raises
    ------
    InvalidInput
        A name has no flow or no price move in these rows: what the first stage leaves of a price that stood still is
        the factors' part with the sign turned, and no impact.
    """
    copy = fresh(estimator)
    copy._check_alive(np.diag(moments.total.uu), np.diag(moments.raw_return_cov), like.names)
    matrices = copy._estimate(moments, like.dictionary, like.names)
    return ImpactModel(like.names, like.rates_per_s, matrices, like.family, like.bucket_s, like.lags, like.currency)
