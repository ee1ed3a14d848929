"""Arithmetic of impact models and covariances in whichever form a basket holds them: scaled, mixed, enlarged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray
from crosswind.solvers.errors import InvalidInput

__all__ = ["compressed", "enlarge_model", "mix_models", "scale_covariance", "scale_model"]


def _factored(model: Any) -> bool:
    from crosswind.problems.basket.factors import FactorImpact

    return isinstance(model, FactorImpact)


def scale_model(model: Any, factor: float, mode: int | None = None, rates: float = 1.0) -> Any:
    """Return an impact model with its matrices (or one mode's) times ``factor`` ≥ 0 and its rates times ``rates``."""
    size = np.full(len(model.rates_per_s), float(factor))
    if mode is not None:
        size = np.where(np.arange(len(size)) == mode, float(factor), 1.0)
    if _factored(model):
        return dataclasses.replace(
            model,
            rates_per_s=model.rates_per_s * rates,
            own=model.own * size[:, None],
            loadings=tuple(part * np.sqrt(s) for part, s in zip(model.loadings, size, strict=True)),
        )
    return dataclasses.replace(
        model, matrices=model.matrices * size[:, None, None], rates_per_s=model.rates_per_s * rates
    )


def mix_models(models: Sequence[Any], weights: FloatArray) -> Any:
    """Return the model with K_m = Σ_s w_s K^s_m, w ≥ 0; all models share names and rates.

    Raises
    ------
    InvalidInput
        When names, rates or forms differ: a mixture would then be no model of the same kind.
    """
    first = models[0]
    for other in models[1:]:
        same = other.names == first.names and np.array_equal(other.rates_per_s, first.rates_per_s)
        if not same or type(other) is not type(first):
            raise InvalidInput(
                "models differ in names, rates or form",
                field="models",
                value=[type(first).__name__, type(other).__name__],
                remedy="use draws of one fit: the same names and half-lives",
            )
    used = [(model, float(w)) for model, w in zip(models, weights, strict=True) if w > 0.0]
    if _factored(first):
        own = np.sum([w * model.own for model, w in used], axis=0)
        loadings = tuple(
            compressed(np.hstack([np.sqrt(w) * model.loadings[m] for model, w in used]))
            for m in range(len(first.rates_per_s))
        )
        return dataclasses.replace(first, own=own, loadings=loadings)
    return dataclasses.replace(first, matrices=np.sum([w * model.matrices for model, w in used], axis=0))


def compressed(columns: FloatArray) -> FloatArray:
    """Return R with R R' = columns columns' and no more columns than its rank."""
    U, s, _ = np.linalg.svd(columns, full_matrices=False)
    kept = s > 1e-13 * max(float(s.max(initial=0.0)), 1e-300)
    return np.asarray(U[:, kept] * s[kept], dtype=np.float64)


def enlarge_model(model: Any, bound: FloatArray) -> Any:
    """Return the model with K_m + R_m for PSD R (M, N, N), or for its diagonals (M, N)."""
    if _factored(model):
        if bound.ndim == 2:
            return dataclasses.replace(model, own=model.own + bound)
        raise InvalidInput(
            "a dense bound would undo the factors",
            field="bound",
            value=bound.shape,
            remedy="bound by own impact, or use model.to_model()",
        )
    if bound.ndim == 2:
        bound = bound[:, :, None] * np.eye(bound.shape[1])
    return dataclasses.replace(model, matrices=model.matrices + bound)


def scale_covariance(covariance: Any, factor: float | pd.Series) -> Any:
    """Return a covariance times ``factor``; a Series by name holds variance factors per name, D^½ Σ D^½."""
    from crosswind.optim.factored import FactorMatrix
    from crosswind.problems.basket.factors import FactorCovariance

    if covariance is None:
        return None
    if isinstance(covariance, pd.DataFrame):
        if not isinstance(factor, pd.Series):
            return covariance * factor
        root = np.sqrt(factor.reindex([str(n) for n in covariance.index]).fillna(1.0).to_numpy())
        return covariance * np.outer(root, root)
    if isinstance(factor, pd.Series):
        raise InvalidInput(
            "factors by name need a dense covariance",
            field="volatility",
            value="Series",
            remedy="pass one number, or a dense covariance",
        )
    if isinstance(covariance, FactorMatrix):
        return FactorMatrix(covariance.loadings * np.sqrt(factor), covariance.specific * factor)
    parts = covariance if isinstance(covariance, tuple) else dataclasses.astuple(covariance)
    return FactorCovariance(parts[0], parts[1] * factor, parts[2] * factor)
