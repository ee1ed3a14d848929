"""Exact arithmetic on ticks and lots: integer numbers of steps, without the trap of a floored binary fraction."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from crosswind.problems.market.checks import check_positive
from crosswind.solvers.errors import InvalidInput

__all__ = ["Number", "Rounding", "on_step", "round_to_step", "step_counts", "value_of"]

Number = TypeVar("Number", float, npt.NDArray[np.float64])
Rounding = Literal["nearest", "down", "up"]

# A value this close to a step, in steps, is that step: it stands beside it only by the rounding of binary fractions.
_ON_STEP = 1e-6


def on_step(value: Any, step: float) -> npt.NDArray[np.bool_]:
    """Return whether each value is a multiple of ``step``, up to binary rounding."""
    ratio = np.asarray(value, dtype=np.float64) / step
    return np.asarray(np.abs(ratio - np.rint(ratio)) <= _ON_STEP + 8 * np.finfo(np.float64).eps * np.abs(ratio))


def step_counts(value: Any, step: float, how: str, field: str) -> npt.NDArray[np.int64]:
    """Return the integer numbers of steps; a value that is a step up to binary rounding is never floored away."""
    x = np.asarray(value, dtype=np.float64)
    if not np.isfinite(x).all():
        raise InvalidInput("is not finite", field=field, value=value, remedy="drop or fill such values")
    ratio = x / step
    if (np.abs(ratio) > 2.0**52).any():
        raise InvalidInput(
            "is too large for exact steps", field=field, value=value, remedy="check the unit of the value and the step"
        )
    whole = np.rint(ratio)
    near = on_step(x, step)
    if how == "nearest":
        rest = np.floor(ratio + 0.5)  # a tie goes up
    elif how == "down":
        rest = np.floor(ratio)
    elif how == "up":
        rest = np.ceil(ratio)
    else:
        raise InvalidInput("unknown rounding", field="how", value=how, remedy="choose 'nearest', 'down' or 'up'")
    return np.where(near, whole, rest).astype(np.int64)


def value_of(count: npt.NDArray[np.int64], step: float) -> npt.NDArray[np.float64]:
    """Return count·step as the double nearest to the exact decimal, so that 3 steps of 0.1 are 0.3."""
    numerator, denominator = Decimal(repr(float(step))).as_integer_ratio()
    return np.asarray(count * float(numerator) / float(denominator), dtype=np.float64)


def round_to_step(value: Number, step: float, how: Rounding = "nearest", *, field: str = "value") -> Number:
    """Return ``value`` on the grid of multiples of ``step``, by integer numbers of steps.

    ``floor(value / step)`` loses a step wherever the quotient of two binary fractions falls just below an integer
    (0.29 / 0.01 is 28.999…). Here a quotient within a millionth of an integer is that integer, and the result is the
    double nearest to the exact decimal multiple.

    Parameters
    ----------
    value
        Number or array.
    step
        Grid step, > 0.
    how
        'nearest' (a tie goes up), 'down' (towards −∞) or 'up'.
    field
        Used in messages.

    Raises
    ------
    InvalidInput
        On values that are not finite, and unknown rounding.
    """
    check_positive(step, "step")
    out = value_of(step_counts(value, step, how, field), step)
    return out if isinstance(value, np.ndarray) else float(out)
