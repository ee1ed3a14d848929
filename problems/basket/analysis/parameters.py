"""The parameters of a basket by name: what they are worth and how a problem looks when one of them is scaled."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.analysis.models import scale_covariance, scale_model
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["PARAMETERS", "applicable", "path_of", "value_of"]

PARAMETERS = (
    "risk_aversion",
    "spread",
    "temporary",
    "impact",
    "decay",
    "covariance",
    "volume",
    "participation",
    "sector_cap",
    "cash_band",
    "max_change",
    "inventory",
    "completion",
    "three_halves",
    "drift",
    "urgency",
    "beta_band",
)
_BY_NAME = ("spread", "temporary", "volume", "participation", "max_change", "inventory", "urgency")


_OPTIONAL = ("participation", "sector_cap", "max_change", "volume", "cash_band", "three_halves", "drift", "beta_band")


def applicable(problem: BasketProblem) -> tuple[str, ...]:
    """Return the parameters that ``problem`` uses, those whose scaling means something."""
    used = {
        "risk_aversion": problem.risk_aversion > 0.0,
        "covariance": problem.risk_aversion > 0.0,
        "spread": bool(problem.arrays.spread.any()),
        "temporary": bool(problem.arrays.temporary.any()),
        "impact": not all(mode.empty for mode in problem.modes),
        "decay": any(mode.rate_per_s > 0.0 and not mode.empty for mode in problem.modes),
        "volume": problem.arrays.volume is not None,
        "participation": problem.participation is not None,
        "sector_cap": problem.sector_cap is not None,
        "cash_band": bool(problem.cash_band),
        "max_change": problem.max_change is not None,
        "inventory": bool(problem.arrays.inventory.any()),
        "completion": isinstance(problem.completion, float),
        "three_halves": problem.three_halves is not None,
        "drift": problem.drift is not None,
        "urgency": bool(problem.arrays.urgency.any()),
        "beta_band": bool(problem.beta_band),
    }
    return tuple(name for name in PARAMETERS if used[name])


def _parsed(problem: BasketProblem, parameter: str) -> tuple[str, str | None]:
    found = re.fullmatch(r"(\w+)(?:\[(.+)\])?", parameter)
    base, label = (found[1], found[2]) if found else (parameter, None)
    if base not in PARAMETERS:
        raise InvalidInput(
            "unknown parameter", field="parameters", value=parameter, remedy=f"one of {', '.join(PARAMETERS)}"
        )
    if base in _OPTIONAL and getattr(problem, base) is None:
        raise InvalidInput("the problem has none", field=base, value=None, remedy="leave it out")
    if base == "completion" and not isinstance(problem.completion, float):
        raise InvalidInput(
            "is no penalty", field=base, value=problem.completion, remedy="scale inventory instead, or leave it out"
        )
    if label is None:
        return base, None
    known: tuple[str, ...] = ()
    if base in _BY_NAME:
        known = problem.order_names if base == "inventory" else problem.names
    elif base == "impact":
        known = tuple(str(m) for m in range(len(problem.model.rates_per_s)))
    elif base == "sector_cap":
        known = tuple(str(s) for s in _sector_caps(problem).index)
    if label not in known:
        raise InvalidInput(
            "has no such label",
            field=parameter,
            value=label,
            remedy=f"one of {', '.join(known[:8])}" if known else None,
        )
    return base, label


def _sector_caps(problem: BasketProblem) -> pd.Series:
    cap = problem.sector_cap
    if isinstance(cap, pd.Series):
        return cap
    assert problem.sectors is not None
    present = dict.fromkeys(str(problem.sectors[n]) for n in problem.names)
    return pd.Series(float(cap if cap is not None else np.nan), index=list(present))


def _named(problem: BasketProblem, base: str) -> pd.Series | pd.DataFrame:
    """Return a parameter in its by-name form: a Series by name or a frame of slices × names."""
    value = getattr(problem, base)
    if base == "temporary":
        return problem.frame(problem.arrays.temporary.copy())
    if isinstance(value, (pd.Series, pd.DataFrame)):
        return value.copy()
    return pd.Series(float(value), index=list(problem.names))


def path_of(problem: BasketProblem, parameter: str) -> Callable[[float], BasketProblem]:
    """Return ε ↦ the problem with ``parameter`` multiplied by 1 + ε.

    Raises
    ------
    InvalidInput
        On a parameter or label that the problem does not have.
    """
    base, label = _parsed(problem, parameter)
    if base in ("impact", "decay"):
        mode = None if label is None else int(label)

        def impact(eps: float) -> BasketProblem:
            if base == "decay":
                return problem.replace(model=scale_model(problem.model, 1.0, None, 1.0 + eps))
            return problem.replace(model=scale_model(problem.model, 1.0 + eps, mode))

        return impact
    if base == "covariance":
        return lambda eps: problem.replace(covariance=scale_covariance(problem.covariance, 1.0 + eps))
    if label is None:
        value = problem.arrays.temporary if base == "temporary" else getattr(problem, base)
        value = problem.frame(value) if base == "temporary" else value
        return lambda eps: problem.replace(**{base: value * (1.0 + eps)})
    table = _sector_caps(problem) if base == "sector_cap" else _named(problem, base)

    def one(eps: float) -> BasketProblem:
        moved = table.copy()
        if isinstance(moved, pd.DataFrame):
            moved[label] = moved[label] * (1.0 + eps)
        else:
            moved.loc[label] = moved.loc[label] * (1.0 + eps)
        return problem.replace(**{base: moved})

    return one


def value_of(problem: BasketProblem, parameter: str) -> float:
    """Return the parameter's value where it is one number, else NaN."""
    base, label = _parsed(problem, parameter)
    if base in ("impact", "decay", "covariance", "volume", "temporary", "three_halves", "drift"):
        return float("nan")
    if label is not None:
        table = _sector_caps(problem) if base == "sector_cap" else _named(problem, base)
        return float(table[label]) if isinstance(table, pd.Series) else float("nan")
    value = getattr(problem, base)
    return float(value) if np.ndim(value) == 0 else float("nan")
