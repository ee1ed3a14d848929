"""Programs on disk: plain arrays in one .npz, or readable JSON for small ones; nothing is ever unpickled.

Both layouts name their version and carry the digest of what they hold, so that a file of a later version, a torn one
and one with a changed number are told apart from a program. Numbers survive to the last bit, infinite bounds included.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from crosswind.solvers.errors import InvalidInput

__all__ = ["digest_of", "load_any", "load_program", "save_program"]

T = TypeVar("T")
_FORMAT = 1
_VECTORS = {"QuadraticProgram": ("q", "l", "u", "lb", "ub"), "ConeProgram": ("q", "b")}
_JSON_NUMBERS = 100_000  # beyond this a text file is slower and larger than anybody wants


def save_program(program: Any, path: str | Path) -> Path:
    """Write ``program`` to ``path`` and return the path; the file appears whole or not at all.

    Parameters
    ----------
    program
        A quadratic or cone program.
    path
        With suffix .json a text file, for up to 100 000 numbers; else .npz, a suffix that is added when missing.

    Raises
    ------
    InvalidInput
        When the program is too large for text.
    """
    target = Path(path)
    if target.suffix not in (".npz", ".json"):
        target = target.with_name(target.name + ".npz")
    parts = _parts(program)
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.suffix == ".json":
            half.write_text(_to_json(parts), encoding="utf-8")
        else:
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
        When the file is missing, damaged, of another kind or version, or holds invalid data.
    """
    return _build(_read(Path(path)), Path(path), cls)


def load_any(path: str | Path) -> Any:
    """Read a program of either kind from ``path``, as :func:`load_program` does.

    Raises
    ------
    InvalidInput
        As :func:`load_program`.
    """
    from crosswind.solvers.program import ConeProgram, QuadraticProgram

    parts = _read(Path(path))
    known: dict[str, Any] = {"QuadraticProgram": QuadraticProgram, "ConeProgram": ConeProgram}
    return _build(parts, Path(path), known.get(str(parts.get("kind")), QuadraticProgram))


def digest_of(program: Any) -> str:
    """Return SHA-256 (hex) of everything that makes a program: patterns, numbers, cones, names; not of its history.

    The same on every machine and in every process. Minus zero counts as zero; an explicit zero of a pattern counts.
    """
    found = hashlib.sha256()
    found.update(type(program).__name__.encode())
    matrices = program._cache.get("digest")  # shared by all copies that differ in vectors only
    if matrices is None:
        inner = hashlib.sha256()
        for key in ("P", "A"):
            matrix = getattr(program, key)
            inner.update(np.array(matrix.shape, dtype="<i8").tobytes())
            inner.update(matrix.indptr.astype("<i8").tobytes())
            inner.update(matrix.indices.astype("<i8").tobytes())
            inner.update((matrix.data + 0.0).astype("<f8").tobytes())
        matrices = inner.digest()
        program._cache["digest"] = matrices
    found.update(matrices)
    for key in _VECTORS[type(program).__name__]:
        found.update((getattr(program, key) + 0.0).astype("<f8").tobytes())
    cones = [(cone.kind, cone.size) for cone in getattr(program, "cones", ())]
    text = json.dumps([repr(program.constant + 0.0), cones, program.row_names, program.var_names], ensure_ascii=True)
    found.update(text.encode())
    return found.hexdigest()


def _parts(program: Any) -> dict[str, Any]:
    kind = type(program).__name__
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "kind": kind,
        "digest": digest_of(program),
        "constant": program.constant,
    }
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
    return parts


def _to_json(parts: dict[str, Any]) -> str:
    count = sum(part.size for part in parts.values() if isinstance(part, np.ndarray))
    if count > _JSON_NUMBERS:
        raise InvalidInput(
            f"has more than {_JSON_NUMBERS} numbers, too many for text",
            field="program",
            value=count,
            remedy="save it with the suffix .npz",
        )
    # JSON has no infinity; float() of Python reads its own shortest text back to the last bit.
    plain = {
        key: [("inf" if v > 0 else "-inf") if isinstance(v, float) and np.isinf(v) else v for v in part.tolist()]
        if isinstance(part, np.ndarray)
        else part
        for key, part in parts.items()
    }
    lines = (f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in plain.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _read(source: Path) -> dict[str, Any]:
    try:
        if source.suffix == ".json":
            return _from_json(source)
        with np.load(source, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except FileNotFoundError as err:
        raise InvalidInput("no such file", field="path", value=source, remedy="check the path") from err
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, TypeError, AttributeError) as err:
        raise InvalidInput(
            "is not a readable program file", field="path", value=source, remedy="save it again"
        ) from err


def _from_json(source: Path) -> dict[str, Any]:
    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no JSON")

    plain = json.loads(source.read_text(encoding="utf-8"), parse_constant=refuse)
    if not isinstance(plain, dict):
        raise ValueError("expected an object")
    whole = ("P_indices", "P_indptr", "A_indices", "A_indptr", "cone_sizes")
    out: dict[str, Any] = {}
    for key, value in plain.items():
        if not isinstance(value, list):
            out[key] = value
        elif key in ("row_names", "var_names", "cone_kinds"):
            out[key] = np.array(value, dtype=np.str_)
        elif key in whole:
            if not all(type(v) is int for v in value):
                raise ValueError(f"{key} must hold whole numbers")
            out[key] = np.array(value, dtype=np.int64)
        else:
            if not all(type(v) in (int, float) or v in ("inf", "-inf") for v in value):
                raise ValueError(f"{key} must hold numbers")
            out[key] = np.array([float(v) for v in value], dtype=np.float64)
    return out


def _build(parts: dict[str, Any], source: Path, cls: type[T]) -> T:
    from crosswind.solvers.program import Cone

    kind = cls.__name__
    if (
        "kind" not in parts
        or "format" not in parts
        or str(parts["kind"]) != kind
        or str(parts["format"]) != str(_FORMAT)
    ):
        raise InvalidInput(
            f"holds no {kind} of format {_FORMAT}",
            field="path",
            value=f"{parts.get('kind', source)} of format {parts.get('format', 'unknown')}",
            remedy="load it with the class that saved it, and with a crosswind not older than the file",
        )
    try:
        fields: dict[str, Any] = {key: parts[key] for key in _VECTORS[kind]}
        n = fields["q"].shape[0]
        for key in ("P", "A"):
            data, indices, indptr = (parts[f"{key}_{part}"] for part in ("data", "indices", "indptr"))
            rows = n if key == "P" else parts["l" if kind == "QuadraticProgram" else "b"].shape[0]
            matrix = sparse.csc_matrix((data, indices, indptr), shape=(rows, n))
            matrix.check_format(full_check=True)  # indices out of range would crash compiled code later
            fields[key] = matrix
        if kind == "ConeProgram":
            fields["cones"] = tuple(
                Cone(str(name), int(size)) for name, size in zip(parts["cone_kinds"], parts["cone_sizes"], strict=True)
            )
        fields["constant"] = float(parts["constant"])
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as err:
        if isinstance(err, InvalidInput):
            raise
        raise InvalidInput("lacks a part or is damaged", field="path", value=source, remedy="save it again") from err
    for key in ("row_names", "var_names"):
        if key in parts:
            fields[key] = tuple(str(name) for name in parts[key])
    out = cls(**fields)
    if "digest" in parts and str(parts["digest"]) != digest_of(out):
        raise InvalidInput(
            "does not hold the numbers it was saved with",
            field="path",
            value=source,
            remedy="save it again; after an edit by hand remove its line with the digest",
        )
    return out
