"""One function for every format: the suffix decides, and for .npz what is inside."""

from __future__ import annotations

import zipfile
from pathlib import Path

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.readers.mat import read_mat
from crosswind.solvers.readers.qpbenchmark import read_qpbenchmark
from crosswind.solvers.readers.qps import read_qps
from crosswind.solvers.storage import load_any

__all__ = ["read_program"]

_QPS = (".qps", ".mps", ".sif", ".qps.gz", ".mps.gz", ".sif.gz")


def read_program(path: str | Path) -> QuadraticProgram | ConeProgram:
    """Read a program from a file of any known format.

    Parameters
    ----------
    path
        ``.qps``, ``.mps``, ``.sif`` (also with .gz): :func:`read_qps`; ``.mat``: :func:`read_mat`; ``.npz``: a program
        saved by this package or :func:`read_qpbenchmark`, told apart by what is inside; ``.json``: a program saved by
        this package. Upper and lower case alike.

    Returns
    -------
    QuadraticProgram or ConeProgram
        Validated.

    Raises
    ------
    InvalidInput
        On an unknown suffix, a missing or damaged file; for text formats with the line.
    """
    source = Path(path)
    name = source.name.lower()
    if name.endswith(_QPS):
        return read_qps(source)
    if name.endswith(".mat"):
        return read_mat(source)
    if name.endswith(".json"):
        return _own(source)
    if name.endswith(".npz"):
        try:
            with zipfile.ZipFile(source) as archive:
                own = "kind.npy" in archive.namelist()
        except (OSError, zipfile.BadZipFile):
            own = True  # its reader says what is wrong
        return _own(source) if own else read_qpbenchmark(source)
    raise InvalidInput(
        "no reader for this suffix",
        field="path",
        value=source.name,
        remedy="one of .qps, .mps, .sif, .mat, .npz, .json",
    )


def _own(source: Path) -> QuadraticProgram | ConeProgram:
    program: QuadraticProgram | ConeProgram = load_any(source)
    return program
