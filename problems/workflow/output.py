"""Outputs appear whole or not at all: everything is written beside the target and moved there in one step."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from crosswind.solvers.errors import InvalidInput

__all__ = ["atomic_directory", "plain", "write_json", "write_tables"]

MARKER = "summary.json"


def check_target(path: Path) -> None:
    """Refuse a target that holds anything but an earlier result of ours.

    Raises
    ------
    InvalidInput
        When ``path`` is a file, its parent cannot hold it, or it is a folder with other content.
    """
    if path.exists() and not path.is_dir():
        raise InvalidInput("is a file, not a folder", field="out", value=path, remedy="name a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / MARKER).is_file():
        raise InvalidInput(
            f"holds files that are not an earlier result (no {MARKER} in it)",
            field="out",
            value=path,
            remedy="name a new folder, or empty this one",
        )
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InvalidInput("cannot be written here", field="out", value=path, remedy="name a folder you may write")


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends well, and vanishes when it raises.

    An earlier result at ``path`` is replaced in the same step; it stays untouched when the block fails.

    Raises
    ------
    InvalidInput
        When ``path`` is a file or a folder with content that is not ours.
    """
    target = Path(path)
    check_target(target)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    try:
        work.chmod(0o755)
        yield work
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.absolute().parent))
            target.replace(old / "result")
            work.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def plain(value: Any) -> Any:
    """Return ``value`` in the types that JSON has; NaN and infinities become null, tables lists of rows."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, pd.DataFrame):
        return {str(k): plain(row) for k, row in value.to_dict(orient="index").items()}
    if isinstance(value, pd.Series):
        return {str(k): plain(v) for k, v in value.to_dict().items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON that any parser accepts (no NaN)."""
    path.write_text(json.dumps(plain(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as ``folder/<name>.parquet``."""
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
