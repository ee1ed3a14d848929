"""From a linear law to the matrices that a schedule is optimised on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import InvalidInput

__all__ = ["diagonal_model", "refuse_nonlinear"]


def refuse_nonlinear(field: str, exponent: float, tol: float = 1e-12) -> None:
    """Refuse an exponent other than 1.

    Raises
    ------
    InvalidInput
        The law is not linear: a quadratic schedule on it would be another model, and a concave law with a decay that is
        finite at once admits price manipulation.
    """
    if abs(exponent - 1.0) > tol:
        raise InvalidInput(
            "the law is not linear in size, so that it has no impact matrix",
            field=field,
            value=exponent,
            remedy="fit it with this exponent fixed at 1, or fit a propagator with concavity=1.0",
        )


def diagonal_model(
    permanent: Mapping[str, float],
    fading: Mapping[float, Mapping[str, float]],
    bucket_s: float,
    currency: str,
) -> ImpactModel:
    """Return an exponential `ImpactModel` without cross terms.

    Parameters
    ----------
    permanent
        Name → K_ii of the permanent mode [return per currency].
    fading
        Rate β > 0 [1/s] → name → K_ii.
    bucket_s, currency
        Of the model.

    Raises
    ------
    InvalidInput
        A slope that is negative or not finite, or no name.
    """
    names = tuple(permanent) or tuple(next(iter(fading.values()), {}))
    modes: list[tuple[float, Mapping[str, float]]] = [(0.0, permanent)] if permanent else []
    modes += sorted(fading.items())
    matrices = np.zeros((len(modes), len(names), len(names)))
    for m, (rate, slopes) in enumerate(modes):
        for i, name in enumerate(names):
            value: Any = float(slopes[name])
            if not (np.isfinite(value) and value >= 0):
                raise InvalidInput(
                    "self-impact must be finite and ≥ 0",
                    field=f"{name} (rate {rate:g} 1/s)",
                    value=value,
                    remedy="a law that pays the trader is no law to schedule on: refit on more data",
                )
            matrices[m, i, i] = value
    return ImpactModel(names, np.array([r for r, _ in modes]), matrices, "exponential", float(bucket_s), (), currency)
