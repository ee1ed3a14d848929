"""Suites: named collections of programs that are made when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crosswind.solvers.backends.base import Program
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.solvers.bench.families import Build

__all__ = ["Case", "Race", "Stream", "Suite", "find_suite", "folder_suite", "register_suite", "suite_names"]

_TEXT = (".qps", ".mps", ".sif")
_SUFFIXES = (".npz", ".mat", ".json", *_TEXT, *(f"{suffix}.gz" for suffix in _TEXT))


@dataclass(frozen=True)
class Case:
    """One program of a suite.

    Parameters
    ----------
    name
        Distinct within the suite.
    make
        Returns the same program at every call: what is random takes its seed from ``seed``.
    quick
        Whether the case belongs to the quick subset.
    seed
        Published with the results; None for a program from a file.
    """

    name: str
    make: Callable[[], Program]
    quick: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class Stream:
    """Programs of a receding horizon, in order, with what a controller would do with each answer.

    Parameters
    ----------
    name, quick, seed
        As for :class:`Case`.
    make
        Returns the programs in order; all share matrices, so that a backend may keep its set-up.
    action
        Indices of the variables that are carried out, the first trades of the horizon.
    deadline_s
        Seconds in which an answer is of use; a later one counts as missed.
    group
        Streams of one group, the seeds of one size, are pooled in the table of steps; default: each on its own.
    quick_steps
        A quick run takes that many steps, from the first; default: all.
    """

    name: str
    make: Callable[[], tuple[Program, ...]]
    action: tuple[int, ...]
    deadline_s: float
    quick: bool = False
    seed: int | None = None
    group: str = ""
    quick_steps: int | None = None


@dataclass(frozen=True)
class Race:
    """Which solvers a suite's streams are about, and how much faster the first is meant to be than the others.

    Parameters
    ----------
    lanes
        Names of backends; the first one is what the others are compared with.
    goals
        Group to solver to how many times faster at (p50, p99, p99.9), None where nothing is asked.
    accuracy
        At which the goals are meant.
    """

    lanes: tuple[str, ...]
    goals: dict[str, dict[str, tuple[float | None, float | None, float | None]]]
    accuracy: float = 1e-6


@dataclass(frozen=True)
class Suite:
    """A named collection of cases and streams.

    Parameters
    ----------
    name, cases, streams
        What it holds.
    text
        What it is, in a line.
    race
        Which solvers a run of the streams alone compares, where the suite has an opinion.

    Raises
    ------
    InvalidInput
        When two cases or streams share a name.
    """

    name: str
    cases: tuple[Case, ...] = ()
    streams: tuple[Stream, ...] = ()
    text: str = ""
    race: Race | None = None

    def __post_init__(self) -> None:
        names = [item.name for item in self._all()]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InvalidInput("names one item twice", field=self.name, value=twice, remedy="give distinct names")

    def items(self, *, quick: bool) -> Iterator[Case | Stream]:
        """Yield the cases, then the streams, or only those of the quick subset."""
        yield from (item for item in self._all() if item.quick or not quick)

    def _all(self) -> tuple[Case | Stream, ...]:
        return (*self.cases, *self.streams)


def _regular() -> Suite:
    from crosswind.solvers.bench.families import REGULAR

    return _of_families("regular", REGULAR, "a hundred small programs without degeneracy, ten families")


def _degenerate() -> Suite:
    from crosswind.solvers.bench.families import DEGENERATE

    return _of_families("degenerate", DEGENERATE, "a hundred small programs, each family with a trouble of its own")


def _of_families(name: str, families: dict[str, Build], text: str) -> Suite:
    from crosswind.solvers.bench.families import family_programs

    made = dict(family_programs(families))
    quick = list(made)[: len(families)]
    cases = [Case(label, partial(made.__getitem__, label), label in quick, seed=0) for label in made]
    return Suite(name, tuple(cases), text=text)


_SUITES: dict[str, Callable[[], Suite]] = {"regular": _regular, "degenerate": _degenerate}


def register_suite(name: str, make: Callable[[], Suite]) -> None:
    """Make a suite known under ``name``; ``make`` is called when the suite is first asked for.

    Raises
    ------
    InvalidInput
        When the name is empty or reads like a path, which would hide a folder.
    """
    if not name or any(letter in name for letter in "/\\.:, "):
        raise InvalidInput("is no name of a suite", field="suite", value=name, remedy="use letters, digits and dashes")
    _SUITES[name] = make


def suite_names() -> tuple[str, ...]:
    """Return the names of the registered suites."""
    return tuple(sorted(_SUITES))


def find_suite(word: str) -> Suite:
    """Return the suite called ``word``, or the programs in the folder ``word``.

    Raises
    ------
    InvalidInput
        On a word that is neither.
    """
    if word in _SUITES:
        return _SUITES[word]()
    folder = Path(word)
    if folder.is_dir():
        return folder_suite(folder)
    raise InvalidInput(
        "is neither a suite nor a folder of programs",
        field="suite",
        value=word,
        remedy=f"one of {', '.join(suite_names()) or 'none registered'}, or a folder of .qps, .mat, .npz, .json files",
    )


def folder_suite(folder: str | Path, name: str | None = None) -> Suite:
    """Return the programs in ``folder`` as a suite, each read when its turn comes.

    QPS, MPS and SIF files (also with .gz), the ``.mat`` files of the Maros–Mészáros collection, qpbenchmark's ``.npz``
    and our own files are read.
    The quick subset is the ten smallest files.

    Raises
    ------
    InvalidInput
        When the folder has no such file.
    """
    where = Path(folder)
    files = sorted(path for path in where.iterdir() if path.name.lower().endswith(_SUFFIXES) and path.is_file())
    if not files:
        raise InvalidInput(
            "holds no program", field="suite", value=where, remedy=f"put files of {', '.join(_SUFFIXES)} there"
        )
    small = set(sorted(files, key=lambda path: (path.stat().st_size, path.name))[:10])
    stems = [path.stem for path in files]
    cases = tuple(
        Case(path.stem if stems.count(path.stem) == 1 else path.name, _Reader(path), quick=path in small)
        for path in files
    )
    return Suite(name or where.resolve().name, cases, text=f"{len(files)} files of {where.resolve().name}")


@dataclass(frozen=True)
class _Reader:
    """Read one file when called."""

    path: Path

    def __call__(self) -> Program:
        from crosswind.solvers.readers import read_program

        return read_program(self.path)
