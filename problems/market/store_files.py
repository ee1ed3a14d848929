"""Single files of the toolkit's own layout: json with a format number, parquet tables, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.damaged import UNREADABLE
from crosswind.solvers.errors import DataGap

__all__ = ["FORMAT", "get_arrays", "get_frame", "get_json", "need", "plain", "put_json", "unreadable"]

FORMAT = 1


def put_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` with the number of the layout."""
    path.write_text(json.dumps({"format": FORMAT, **content}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: arrays become lists, what it does not know becomes text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def get_json(path: Path) -> dict[str, Any]:
    """Return what :func:`put_json` wrote.

    Raises
    ------
    DataGap
        If it is absent, damaged or of another layout.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataGap(
            "the file is absent", field="file", value=str(path), remedy="give a folder written by .to_parquet()"
        ) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataGap(
            "written by another version of the layout",
            field="file",
            value=str(path),
            remedy=f"write it again; this version reads format {FORMAT}",
        )
    return content


def unreadable(path: Path, error: Exception) -> DataGap:
    """Return the error for a damaged file."""
    return DataGap(f"unreadable ({error})", field="file", value=str(path), remedy="write the folder again")


def get_frame(path: Path) -> pd.DataFrame:
    """Return a parquet table.

    Raises
    ------
    DataGap
        If it is absent or damaged.
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise DataGap("the file is absent", field="file", value=str(path), remedy="write the folder again") from error
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def need(content: dict[str, Any], key: str, path: Path) -> Any:
    """Return one entry of a json file.

    Raises
    ------
    DataGap
        If it is not there.
    """
    if key not in content:
        raise DataGap(f"the entry {key!r} is absent", field="file", value=str(path), remedy="write the folder again")
    return content[key]


def get_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of an npz file.

    Raises
    ------
    DataGap
        If it is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            return {key: held[key] for key in held.files}
    except FileNotFoundError as error:
        raise DataGap("the file is absent", field="file", value=str(path), remedy="write the folder again") from error
    except UNREADABLE as error:
        raise unreadable(path, error) from error
