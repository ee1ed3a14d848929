r"""MATLAB files of quadratic programs: the Maros–Mészáros set as its converters write it, and qpbenchmark's names.

Two layouts are known by their keys:

- P, q, A, l, u and perhaps r, n, m: minimise ½x'Px + q'x + r subject to l ≤ Ax ≤ u, ±1e20 standing for ±∞. Where the
  last n rows of A are the identity they are the boxes of the variables and become lb and ub.
- P, q and some of G, h, A, b, lb, ub: Gx ≤ h, Ax = b, lb ≤ x ≤ ub.

P is the full symmetric matrix in both, so a triangular one is refused and not mended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.readers.qpbenchmark import one_sided

__all__ = ["read_mat"]

_INFINITE = 9e19  # the converters write 1e20, some after arithmetic on it


def read_mat(path: str | Path) -> QuadraticProgram:
    """Read a quadratic program from a MATLAB file up to version 7; see the module's text for the layouts.

    Raises
    ------
    InvalidInput
        When the file is missing, no MATLAB file of these versions, lacks a part or holds invalid data.
    """
    from scipy import io

    source = Path(path)
    load: Any = io.loadmat  # its stubs know no Path
    try:
        parts: dict[str, Any] = {k: v for k, v in load(str(source)).items() if not k.startswith("__")}
    except FileNotFoundError as err:
        raise InvalidInput("no such file", field="path", value=source, remedy="check the path") from err
    except NotImplementedError as err:
        raise InvalidInput(
            "is a version 7.3 file (HDF5)", field="path", value=source, remedy="save it in MATLAB with the flag -v7"
        ) from err
    except Exception as err:  # loadmat lets struct, zlib and index errors of damaged files through
        raise InvalidInput(
            "is not a readable MATLAB file", field="path", value=source, remedy="fetch or write it again"
        ) from err
    missing = [key for key in ("P", "q") if key not in parts]
    if missing:
        raise InvalidInput(
            f"lacks {', '.join(missing)}", field="path", value=source, remedy="give P and q and the limits"
        )
    try:
        if "l" in parts or "u" in parts:
            return _two_sided(parts, source)
        flat: dict[str, Any] = {
            key: _column(parts[key]) for key in ("q", "h", "b", "lb", "ub") if key in parts and _size(parts[key])
        }
        matrices: dict[str, Any] = {
            key: _matrix(parts[key]) for key in ("P", "G", "A") if key in parts and _size(parts[key])
        }
        return one_sided(flat | matrices, source)
    except (TypeError, ValueError) as err:
        if isinstance(err, InvalidInput):
            raise
        raise InvalidInput("holds a part of the wrong kind", field="path", value=source, remedy=str(err)) from err


def _two_sided(parts: dict[str, Any], source: Path) -> QuadraticProgram:
    missing = [key for key in ("A", "l", "u") if key not in parts]
    if missing:
        raise InvalidInput(f"lacks {', '.join(missing)}", field="path", value=source, remedy="give A, l and u together")
    P, q, A = _matrix(parts["P"]), _column(parts["q"]), _matrix(parts["A"])
    low, high = _infinite(_column(parts["l"])), _infinite(_column(parts["u"]))
    n = q.size
    for key, have in (("n", n), ("m", low.size)):
        if key in parts and _column(parts[key]).tolist() != [float(have)]:
            raise InvalidInput(
                f"says {key} = {parts[key]} and holds {have}", field="path", value=source, remedy="fetch it again"
            )
    if A.ndim != 2 or A.shape != (low.size, n) or high.size != low.size:
        raise InvalidInput(
            "A, l, u and q do not fit together",
            field="path",
            value=f"A {A.shape}, l {low.size}, u {high.size}, q {n}",
            remedy="fetch or write it again",
        )
    constant = float(_column(parts["r"])[0]) if "r" in parts and _size(parts["r"]) else 0.0
    rows = low.size - n
    unit: Csc = sparse.identity(n, format="csc")
    boxes: Csc = sparse.csc_matrix(A[rows:]) if rows >= 0 and n else None
    if boxes is not None and abs(boxes - unit).nnz == 0:
        return QuadraticProgram(P, q, A[:rows], low[:rows], high[:rows], low[rows:], high[rows:], constant)
    return QuadraticProgram(P, q, A, low, high, constant=constant)


def _matrix(value: Any) -> Csc:
    return sparse.csc_matrix(value, dtype=np.float64)


def _column(value: Any) -> Vector:
    dense = _matrix(value).toarray() if sparse.issparse(value) else np.asarray(value)
    return np.asarray(dense, dtype=np.float64).ravel()


def _infinite(side: Vector) -> Vector:
    return np.where(side >= _INFINITE, np.inf, np.where(side <= -_INFINITE, -np.inf, side))


def _size(value: Any) -> int:
    return int(np.prod(np.shape(value)))
