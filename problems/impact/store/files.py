"""Entries of the store: folders that appear whole under a number of their own, or not at all.

An entry is written beside its place, made durable, and renamed to its number in one step. A rename onto a folder with
content is refused by the file system, so that of two writers who want one number exactly one gets it: no lock is held
that a crash could leave behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crosswind.problems.impact.store.errors import ModelCorrupted
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["SUMS", "claim", "entry_numbers", "entry_path", "leftovers", "read_entry"]

SUMS = "SHA256SUMS"
_TEMPORARY = ".new-"
_DIGITS = 6


def entry_path(parent: Path, number: int) -> Path:
    """Return where entry ``number`` stands below ``parent``."""
    return parent / f"{number:0{_DIGITS}d}"


def entry_numbers(parent: Path) -> list[int]:
    """Return the numbers present, ascending; unfinished entries do not count."""
    found: list[int] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [int(p.name) for p in parent.iterdir() if len(p.name) >= _DIGITS and p.name.isdigit()]
    return sorted(found)


def leftovers(parent: Path) -> list[Path]:
    """Return what crashed writers left behind; readers never look into it."""
    found: list[Path] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [p for p in parent.iterdir() if p.name.startswith(_TEMPORARY)]
    return sorted(found)


def claim(parent: Path, number: int, fill: Callable[[Path], None]) -> bool:
    """Write one entry; False when another writer took the number first.

    Parameters
    ----------
    parent
        Folder of the entries, made when absent.
    number
        The number to take, ≥ 1.
    fill
        Writes the files into the folder it is given.

    Raises
    ------
    InvalidInput
        Where the place cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
    except OSError as error:
        raise InvalidInput(
            f"cannot be written here ({error.strerror or type(error).__name__})",
            field="root",
            value=parent,
            remedy="name a place you may write",
        ) from error
    try:
        fill(work)
        names = sorted(p.name for p in work.iterdir())
        lines = [f"{_sha256((work / name).read_bytes())}  {name}\n" for name in names]
        (work / SUMS).write_text("".join(lines), encoding="ascii")
        for name in [*names, SUMS]:
            _sync(work / name)
        work.chmod(0o755)
        _sync(work)
        try:
            work.rename(entry_path(parent, number))
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        _sync(parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True


def read_entry(parent: Path, number: int) -> dict[str, bytes]:
    """Return the files of an entry by name after comparing every byte with the sums written beside them.

    Raises
    ------
    DataGap
        There is no such entry.
    ModelCorrupted
        A file is missing, unlisted, unreadable or changed.
    """
    folder = entry_path(parent, number)
    if not folder.is_dir():
        have = entry_numbers(parent)
        raise DataGap(
            "no such entry in the store",
            field=parent.name,
            value=number,
            remedy=f"choose among {', '.join(map(str, have))}" if have else "put a model first",
        )
    try:
        sums = (folder / SUMS).read_text(encoding="ascii")
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in sums.splitlines())}
        content = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != SUMS}
    except (OSError, ValueError) as error:
        raise _corrupted(folder, f"cannot be read ({type(error).__name__})") from error
    for name in sorted(set(expected) | set(content)):
        if name not in content:
            raise _corrupted(folder / name, "is missing")
        if name not in expected:
            raise _corrupted(folder / name, "is not listed in the sums")
        if _sha256(content[name]) != expected[name]:
            raise _corrupted(folder / name, "does not have the digest it was written with")
    if not content:
        raise _corrupted(folder, "is empty")
    return content


def _corrupted(path: Path, what: str) -> ModelCorrupted:
    return ModelCorrupted(
        what, field="store", value=path, remedy="roll back to another version, or restore the folder from a backup"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk; some file systems refuse that for folders, which is no harm."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
