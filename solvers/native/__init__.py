"""The C sources of the layer and their Python face; numpy takes over, to the same answers, where they are not compiled.

``COMPILED`` tells which of the two is in use; the environment variable ``CROSSWIND_NATIVE=0`` asks for numpy.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COMPILED", "core", "gather", "scatter"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]

core: Any = None
if os.environ.get("CROSSWIND_NATIVE", "1") != "0":
    try:
        from crosswind.solvers.native import _core as core
    except ImportError:  # no compiler where the package was built
        core = None

COMPILED = core is not None
"""Whether the compiled parts are in use."""


def _gather(source: Vector, index: Index | None, factor: float, out: Vector) -> None:
    """Set out[i] = source[index[i]] · factor, or source[i] · factor where ``index`` is ``None``.

    Parameters
    ----------
    source, out
        float64 vectors; ``index`` (int32) has the length of ``out``.

    Raises
    ------
    IndexError
        When an index lies outside the source.
    """
    np.multiply(source if index is None else source[index], factor, out)


def _scatter(plus: Vector, minus: Vector | None, start: int, index: Index, factor: float, out: Vector) -> None:
    """Set out[index[i]] = (plus[start + i] − minus[start + i]) · factor; ``minus`` may be ``None``.

    Raises
    ------
    IndexError
        When an index lies outside its vector.
    """
    part = slice(start, start + index.size)
    out[index] = (plus[part] if minus is None else plus[part] - minus[part]) * factor


gather = core.gather if COMPILED else _gather
scatter = core.scatter if COMPILED else _scatter
