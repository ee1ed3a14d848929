r"""The .npz files of qpbenchmark's sets (qpsolvers' layout): minimise ½x'Px + q'x, Gx ≤ h, Ax = b, lb ≤ x ≤ ub.

numpy has no way to store an absent array, so absent parts are zero-dimensional object arrays that hold None, and sparse
matrices are object arrays too: pickles. They are read by an unpickler that knows arrays and scipy's sparse classes and
refuses every other name, so that a file can bring data but no code.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Csc
from crosswind.solvers.program import QuadraticProgram

__all__ = ["one_sided", "read_qpbenchmark"]

_PARTS = ("P", "q", "G", "h", "A", "b", "lb", "ub")
_NUMPY = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
_SPARSE = {f"{kind}_{end}" for kind in ("csc", "csr", "coo", "dia", "bsr") for end in ("matrix", "array")}


def read_qpbenchmark(path: str | Path) -> QuadraticProgram:
    """Read a problem of qpbenchmark, such as one of its MPC set.

    Raises
    ------
    InvalidInput
        When the file is missing, damaged, lacks P or q, or stores anything but arrays and sparse matrices.
    """
    source = Path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            parts = {
                name.removesuffix(".npy"): _array(archive.read(name))
                for name in archive.namelist()
                if name.removesuffix(".npy") in _PARTS
            }
    except FileNotFoundError as err:
        raise InvalidInput("no such file", field="path", value=source, remedy="check the path") from err
    except pickle.UnpicklingError as err:
        raise InvalidInput(
            "stores objects that are no arrays", field="path", value=str(err), remedy="do not trust this file"
        ) from err
    except (OSError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError) as err:
        raise _damaged(source) from err
    except (zipfile.BadZipFile, zlib.error) as err:
        raise _damaged(source) from err
    return one_sided({key: value for key, value in parts.items() if value is not None}, source)


def one_sided(parts: dict[str, Any], source: Path) -> QuadraticProgram:
    """Build a program from P, q and those of G, h, A, b, lb, ub that are present; rows are G's, then A's.

    Raises
    ------
    InvalidInput
        When P or q is missing, or a matrix comes without its side.
    """
    for need, given in (("P", True), ("q", True), ("h", "G" in parts), ("G", "h" in parts), ("b", "A" in parts)):
        if given and need not in parts:
            raise InvalidInput(f"lacks {need}", field="path", value=source, remedy="fetch or write it again")
    if "b" in parts and "A" not in parts:
        raise InvalidInput("lacks A", field="path", value=source, remedy="fetch or write it again")
    for key, part in parts.items():
        if part.dtype.kind not in "fiub":
            raise InvalidInput(f"{key} holds no real numbers", field="path", value=source, remedy="write it again")
    q = np.asarray(parts["q"], dtype=np.float64).ravel()
    blocks, low, high = [], [], []
    for matrix, side, below in (("G", "h", True), ("A", "b", False)):
        if matrix not in parts:
            continue
        block: Csc = parts[matrix]
        value = np.asarray(parts[side], dtype=np.float64).ravel()
        if not sparse.issparse(block):
            block = np.atleast_2d(block)
        block = sparse.csc_matrix(block)
        if block.shape != (value.size, q.size):
            raise InvalidInput(
                f"{matrix}, {side} and q do not fit together",
                field="path",
                value=f"{matrix} {block.shape}, {side} {value.size}, q {q.size}",
                remedy="fetch or write it again",
            )
        blocks.append(block)
        low.append(np.full(value.size, -np.inf) if below else value)
        high.append(value)
    P = parts["P"] if sparse.issparse(parts["P"]) else np.atleast_2d(np.asarray(parts["P"], dtype=np.float64))
    box: dict[str, Any] = {
        key: np.asarray(parts[key], dtype=np.float64).ravel() for key in ("lb", "ub") if key in parts
    }
    if not blocks:
        return QuadraticProgram(P, q, **box)
    return QuadraticProgram(P, q, sparse.vstack(blocks, format="csc"), np.concatenate(low), np.concatenate(high), **box)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        top = module.split(".")[0]
        if (top == "numpy" and name in _NUMPY) or (module.startswith("scipy.sparse") and name in _SPARSE):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def _array(content: bytes) -> Any:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if not dtype.hasobject:
        return np.load(io.BytesIO(content), allow_pickle=False)
    if shape != ():
        raise pickle.UnpicklingError(f"an object array of shape {shape}")
    held = _ArraysOnly(stream).load().item()
    if held is None or sparse.issparse(held):
        return held
    if isinstance(held, np.ndarray) and not held.dtype.hasobject:
        return held
    raise pickle.UnpicklingError(f"an object of type {type(held).__name__}")


def _damaged(source: Path) -> InvalidInput:
    return InvalidInput(
        "is not a readable file of qpbenchmark", field="path", value=source, remedy="fetch or write it again"
    )
