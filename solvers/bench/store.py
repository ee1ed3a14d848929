"""Rows on disk while a run goes on: one line of JSON each, appended and flushed, so that a kill loses one cell."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from crosswind.solvers.errors import InvalidInput

__all__ = ["ROWS", "RUN", "RowStore", "read_rows"]

ROWS, RUN = "rows.jsonl", "run.json"
_INF = {math.inf: "inf", -math.inf: "-inf"}


class RowStore:
    """The rows of one folder, open for appending by one process at a time.

    Parameters
    ----------
    folder
        Made when missing.
    resume
        False moves rows of an earlier run aside, to ``rows-TIME.jsonl``.

    Raises
    ------
    InvalidInput
        When the folder cannot be written, another run is using it, or it holds something else.
    """

    def __init__(self, folder: str | Path, *, resume: bool = True) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidInput("is a file, not a folder", field="out", value=folder, remedy="name a folder")
        path = self.folder / ROWS
        if self.folder.is_dir() and not path.exists() and any(self.folder.iterdir()):
            raise InvalidInput(
                f"holds files that are not an earlier run (no {ROWS} in it)",
                field="out",
                value=folder,
                remedy="name a new folder, or empty this one",
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = path.open("ab")
        except OSError as err:
            raise InvalidInput(
                f"cannot be written ({err.strerror})", field="out", value=folder, remedy="name a place you may write"
            ) from err
        self._lock()
        if not resume and path.stat().st_size:
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
            path.replace(self.folder / f"rows-{stamp}-{os.getpid()}.jsonl")
            self._stream.close()
            self._stream = path.open("ab")
            self._lock()
        self._mend(path)
        self.rows = {row["key"]: row for row in _lines(path)}

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such lock on this system
            return
        try:
            fcntl.flock(self._stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            self._stream.close()
            raise InvalidInput(
                "another run is writing here", field="out", value=self.folder, remedy="wait for it, or name another"
            ) from err

    def _mend(self, path: Path) -> None:
        """Cut off the torn line that a kill left, so that the next one starts on a line of its own."""
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.truncate(path, end)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and wait until it is on the disk."""
        text = json.dumps(_plain(row), allow_nan=False, separators=(",", ":"))
        self._stream.write(text.encode("utf-8") + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.rows[str(row["key"])] = _back(json.loads(text))  # as a later run will read it

    def close(self) -> None:
        """Release the folder."""
        self._stream.close()


def read_rows(folder: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a run's folder, the last one of each key; a torn last line is left out.

    Raises
    ------
    InvalidInput
        When there are none.
    """
    path = Path(folder) / ROWS
    if not path.is_file():
        raise InvalidInput("holds no run", field="run", value=folder, remedy=f"name a folder with {ROWS} in it")
    return list({row["key"]: row for row in _lines(path)}.values())


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        if isinstance(row, dict) and "key" in row:
            found.append(_back(row))
    return found


def _plain(value: Any) -> Any:
    """Return plain JSON: NaN as null, infinities by name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": _INF[value]} if value in _INF else None
    return value


def _back(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return float(value["float"])
        return {key: _back(item) for key, item in value.items()}
    return [_back(item) for item in value] if isinstance(value, list) else value
