"""The data of a receding-horizon step: names, shapes, and values brought to their shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.mpc.model import Array, MpcModel

__all__ = ["DATA", "LIMITS", "fitted", "shapes"]

# In the order in which the core takes them.
DATA = ("gap", "state", "last", "plan", "linear", "carry", "spread", "cap", "rate", "gap_cap", "price", "curve")
LIMITS = ("cap", "rate", "gap_cap")
"""Those that are no limit where they are not given; all others are zero then."""


def shapes(model: MpcModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of a model's data, in the order of the core."""
    m, k, M, H = model.sizes
    rows, gaps = (H, m), (H, k)
    return dict(zip(DATA, ((k,), (M, m), (m,), gaps, rows, gaps, rows, rows, (m,), gaps, gaps, gaps), strict=True))


def fitted(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Return a value as float64 numbers broadcast to a shape, which may be a view of it.

    Raises
    ------
    InvalidInput
        When it does not fit.
    """
    try:
        plain = np.asarray(value, dtype=np.float64)
        if len(shape) > 1 and shape[1] == 1 and plain.ndim == 1:
            plain = plain[:, None]  # one instrument or exposure: a column, as the core takes it
        return np.broadcast_to(plain, shape)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"does not fit the shape {shape}", field=name, value=np.shape(value), remedy="see the model's sizes"
        ) from None
