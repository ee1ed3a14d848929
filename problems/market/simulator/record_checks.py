"""Checks of the parameter records of roll, perpetual and desk: every number finite and in its declared range."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput

__all__ = ["check_record", "refuse"]


def refuse(name: str, value: object, message: str, remedy: str) -> None:
    """Raise InvalidInput for the parameter ``name``."""
    raise InvalidInput(message, field=name, value=value, remedy=remedy)


def check_record(
    record: Any,
    *,
    positive: tuple[str, ...] = (),
    non_negative: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    infinite: tuple[str, ...] = (),
) -> None:
    """Turn every number of a frozen record into a float (an int where its default is one), or refuse it.

    Parameters
    ----------
    record
        Frozen dataclass of numbers, texts and tuples with defaults; texts and tuples are left to the caller.
    positive, non_negative
        Fields that must be above 0, or 0 and above.
    shares
        Fields between 0 and 1.
    infinite
        Fields for which infinity has a meaning.

    Raises
    ------
    InvalidInput
        Naming the field.
    """
    for field in fields(record):
        name, value = field.name, getattr(record, field.name)
        if isinstance(field.default, (str, tuple)):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            refuse(name, value, "is not a number", "pass a finite number")
        number = float(value)
        if not math.isfinite(number) and not (name in infinite and number > 0.0):
            refuse(name, value, "is not finite", "pass a finite number")
        if isinstance(field.default, int):
            if number != math.floor(number):
                refuse(name, value, "is not a whole number", "pass an integer")
            object.__setattr__(record, name, int(number))
        else:
            object.__setattr__(record, name, number)
        if name in positive and number <= 0.0:
            refuse(name, value, "must be positive", "pass a number above 0")
        if name in non_negative and number < 0.0:
            refuse(name, value, "must not be negative", "pass 0 or more")
        if name in shares and not 0.0 <= number <= 1.0:
            refuse(name, value, "is out of range", "pass a number from 0 to 1")
