"""What the frozen parameter records of the mechanisms share: their checks and their plain form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from numbers import Real
from typing import Any

from crosswind.solvers.errors import InvalidInput

__all__ = ["check_numbers", "plain", "positive_factor"]


def check_numbers(
    record: Any,
    positive: Iterable[str] = (),
    non_negative: Iterable[str] = (),
    shares: Mapping[str, float] | None = None,
) -> None:
    """Turn the named fields of a frozen record into finite floats in range.

    Parameters
    ----------
    record
        A frozen dataclass in its ``__post_init__``.
    positive, non_negative
        Fields above 0, and of 0 or more.
    shares
        Field → largest value; the smallest is 0.

    Raises
    ------
    InvalidInput
        Naming the field as ``Record.field``.
    """
    limits = dict(shares or {})
    for name in (*positive, *non_negative, *limits):
        value = getattr(record, name)
        where = f"{type(record).__name__}.{name}"
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise InvalidInput("is not a finite number", field=where, value=value, remedy="pass a finite number")
        number = float(value)
        object.__setattr__(record, name, number)
        if number < 0.0 or (number == 0.0 and name in positive) or number > limits.get(name, math.inf):
            upper = f" to {limits[name]:g}" if name in limits else ""
            lower = "above 0" if name in positive else f"from 0{upper}"
            raise InvalidInput("is out of range", field=where, value=value, remedy=f"pass a number {lower}")


def positive_factor(name: str, value: object) -> float:
    """Return a scale factor as a positive finite float.

    Raises
    ------
    InvalidInput
        For anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0.0:
        raise InvalidInput("is not a positive factor", field=name, value=value, remedy="pass e.g. 0.5, 1 or 2")
    return float(value)


def plain(value: Any) -> Any:
    """Return records, tuples and infinities as JSON can hold them: dictionaries, lists and the text ``inf``."""
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0.0 else "-inf"
    return value
