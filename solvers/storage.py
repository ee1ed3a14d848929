"""Programs on disk: one .npz file of plain arrays, readable without unpickling anything."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from crosswind.solvers.errors import InvalidInput

__all__ = ["load_program", "save_program"]

T = TypeVar("T")
_FORMAT = 1
_VECTORS = {"QuadraticProgram": ("q", "l", "u", "lb", "ub"), "ConeProgram": ("q", "b")}


def save_program(program: Any, path: str | Path) -> Path:
    """Write ``program`` to ``path`` (suffix .npz is added when missing); the file appears whole or not at all."""
    target = Path(path)
    if target.suffix != ".npz":
        target = target.with_name(target.name + ".npz")
    kind = type(program).__name__
    parts: dict[str, Any] = {"format": _FORMAT, "kind": kind, "constant": program.constant}
    for key in _VECTORS[kind]:
        parts[key] = getattr(program, key)
    for key in ("P", "A"):
        matrix = getattr(program, key)
        parts |= {f"{key}_data": matrix.data, f"{key}_indices": matrix.indices, f"{key}_indptr": matrix.indptr}
    for key in ("row_names", "var_names"):
        names = getattr(program, key)
        if names is not None:
            parts[key] = np.array(names, dtype=np.str_)
    if kind == "ConeProgram":
        parts["cone_kinds"] = np.array([cone.kind for cone in program.cones], dtype=np.str_)
        parts["cone_sizes"] = np.array([cone.size for cone in program.cones], dtype=np.int64)
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with half.open("wb") as stream:
            np.savez_compressed(stream, **parts)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return target


def load_program(path: str | Path, cls: type[T]) -> T:
    """Read a program of type ``cls`` from ``path`` and validate it again.

    Raises
    ------
    InvalidInput
        When the file is missing, damaged, of another kind or format, or holds invalid data.
    """
    from crosswind.solvers.program import Cone

    source = Path(path)
    try:
        with np.load(source, allow_pickle=False) as stored:
            parts = {key: stored[key] for key in stored.files}
    except FileNotFoundError as err:
        raise InvalidInput("no such file", field="path", value=source, remedy="check the path") from err
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as err:
        raise InvalidInput(
            "is not a readable program file", field="path", value=source, remedy="save it again"
        ) from err
    kind = cls.__name__
    if "kind" not in parts or "format" not in parts or str(parts["kind"]) != kind or int(parts["format"]) != _FORMAT:
        raise InvalidInput(
            f"holds no {kind} of format {_FORMAT}",
            field="path",
            value=str(parts.get("kind", source)),
            remedy="load it with the class that saved it",
        )
    try:
        fields: dict[str, Any] = {key: parts[key] for key in _VECTORS[kind]}
        n = fields["q"].shape[0]
        for key in ("P", "A"):
            data, indices, indptr = (parts[f"{key}_{part}"] for part in ("data", "indices", "indptr"))
            rows = n if key == "P" else parts["l" if kind == "QuadraticProgram" else "b"].shape[0]
            fields[key] = sparse.csc_matrix((data, indices, indptr), shape=(rows, n))
        if kind == "ConeProgram":
            fields["cones"] = tuple(
                Cone(str(name), int(size)) for name, size in zip(parts["cone_kinds"], parts["cone_sizes"], strict=True)
            )
        fields["constant"] = float(parts["constant"])
    except (KeyError, ValueError, IndexError) as err:
        raise InvalidInput("lacks a part or is damaged", field="path", value=source, remedy="save it again") from err
    for key in ("row_names", "var_names"):
        if key in parts:
            fields[key] = tuple(str(name) for name in parts[key])
    return cls(**fields)
