"""Checks of the fields of a schedule: shapes, ranges, order, each refused with its name."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput

__all__ = ["frozen", "index", "ordered", "refuse"]


def refuse(message: str, field: str, value: object, remedy: str) -> NoReturn:
    """Raise InvalidInput."""
    raise InvalidInput(message, field=field, value=value, remedy=remedy)


def frozen(
    name: str,
    value: Any,
    shape: tuple[int, ...],
    low: float = -np.inf,
    *,
    high: float = np.inf,
    infinite: bool = False,
) -> NDArray[np.float64]:
    """Return a read-only float64 copy, broadcast to ``shape`` without being repeated; entries within [low, high]."""
    try:
        array = np.array(value, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InvalidInput("must be numeric", field=name, value=value, remedy="give an array of floats") from error
    try:
        out = np.broadcast_to(array, shape)
    except ValueError as error:
        raise InvalidInput(
            f"has shape {array.shape} where {shape} is needed",
            field=name,
            value=array.shape,
            remedy="slices first, then names",
        ) from error
    unfit = np.isnan(array) if infinite else ~np.isfinite(array)
    if unfit.any():
        refuse(
            "must not be NaN" if infinite else "must be finite",
            name,
            f"{int(unfit.sum())} entries that are not",
            "find where they arose",
        )
    if array.size and float(array.min()) < low:
        refuse(f"must be ≥ {low:g}" if low == 0.0 else "must be > 0", name, float(array.min()), "check the sign")
    if array.size and float(array.max()) > high:
        refuse(f"must be ≤ {high:g}", name, float(array.max()), "check the unit")
    array.setflags(write=False)
    out.setflags(write=False)
    return out


def index(name: str, value: Any, size: int, count: int) -> NDArray[np.int64]:
    """Return (size,) read-only integers in −1 … count − 1; −1 throughout where ``value`` is None."""
    out = np.full(size, -1) if value is None else np.array(value)
    if out.shape != (size,) or not np.issubdtype(out.dtype, np.integer):
        refuse(f"must be {size} integers", name, (out.shape, str(out.dtype)), "−1 for a name in no group")
    if out.size and not -1 <= int(out.min()) <= int(out.max()) < count:
        refuse(f"must lie in −1 … {count - 1}", name, (int(out.min()), int(out.max())), "one column of caps a group")
    out = out.astype(np.int64)
    out.setflags(write=False)
    return out


def ordered(lower: NDArray[np.float64], upper: NDArray[np.float64], name: str) -> None:
    """Refuse bounds of which one is above the other, or infinite on the wrong side."""
    crossed = (lower > upper) | (lower == np.inf) | (upper == -np.inf)
    if crossed.any():
        at = tuple(int(k) for k in np.argwhere(crossed)[0])
        refuse(f"is above the upper bound at {at}", name, (float(lower[at]), float(upper[at])), "swap or widen them")
