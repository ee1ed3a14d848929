"""Outputs appear whole or not at all: everything is written beside the target and moved there in one step."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crosswind.solvers.errors import InvalidInput

__all__ = ["atomic_directory", "atomic_file", "check_file", "check_target"]

MARKER = "summary.json"


def check_target(path: Path, marker: str = MARKER) -> None:
    """Refuse a target that holds anything but an earlier result of ours, told by the file ``marker`` in it.

    Raises
    ------
    InvalidInput
        When ``path`` is a file, its parent cannot hold it, or it is a folder with other content.
    """
    with suppress(FileNotFoundError, NotADirectoryError):  # asked once: another run may be replacing it
        if not stat.S_ISDIR(path.stat().st_mode):
            raise InvalidInput("is a file, not a folder", field="out", value=path, remedy="name a folder")
    content = _content(path)
    if content and marker not in content:
        raise InvalidInput(
            f"holds files that are not an earlier result (no {marker} in it)",
            field="out",
            value=path,
            remedy="name a new folder, or empty this one",
        )
    _check_parent(path)


def _content(path: Path) -> set[str]:
    """Return the names in a folder, none where there is no folder; listed again when another run replaced it then."""
    while True:
        before = _identity(path)
        content: set[str] = set()
        with suppress(FileNotFoundError, NotADirectoryError):
            content = {entry.name for entry in path.iterdir()}
        if _identity(path) == before:
            return content


def _identity(path: Path) -> int | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        return path.stat().st_ino
    return None


def check_file(path: Path) -> None:
    """Refuse a file to be written that is a folder or whose folder cannot hold it.

    Raises
    ------
    InvalidInput
        In these cases.
    """
    if path.is_dir():
        raise InvalidInput("is a folder, not a file", field="out", value=path, remedy="name a file in it")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise _unwritable(path)


def _unwritable(path: Path, reason: str = "") -> InvalidInput:
    text = f"cannot be written here{f' ({reason})' if reason else ''}"
    return InvalidInput(text, field="out", value=path, remedy="name a place you may write")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends well, and vanishes when it raises.

    Raises
    ------
    InvalidInput
        When ``path`` is a folder or its folder cannot hold it.
    """
    target = Path(path)
    check_file(target)
    with _workplace(target) as work:
        yield work / target.name
        (work / target.name).replace(target)


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """Yield a fresh folder beside ``target``, on the same device, and remove what is left of it."""
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    except OSError as error:  # some file systems refuse only when asked
        raise _unwritable(target, error.strerror or type(error).__name__) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_into_place(work: Path, target: Path) -> None:
    """Rename ``work`` to ``target``, an earlier result aside; a run that does the same at the same time is no harm.

    A folder cannot replace one with content in a single call. Whatever stops us in between, a result is there after.
    """
    with _workplace(target) as aside:
        moved: list[Path] = []
        try:
            while True:
                try:
                    work.replace(target)
                    return
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                old = aside / str(len(moved))
                with suppress(FileNotFoundError):  # another run moved it just now
                    target.replace(old)
                    moved.append(old)
        except BaseException:
            if moved and not target.exists():
                moved[-1].replace(target)
            raise


@contextmanager
def atomic_directory(path: str | Path, marker: str = MARKER) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends well, and vanishes when it raises.

    An earlier result at ``path``, told by the file ``marker`` in it, is moved aside and replaced; it stays untouched
    when the block fails.

    Raises
    ------
    InvalidInput
        When ``path`` is a file or a folder with content that is not ours.
    """
    target = Path(path)
    check_target(target, marker)
    with _workplace(target) as work:
        work.chmod(0o755)
        yield work
        _move_into_place(work, target)
