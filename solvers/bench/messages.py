"""What the engine and a worker say to each other, as plain picklable data over one pipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crosswind.solvers.backends.base import Program, Raw

__all__ = ["Begin", "Call", "Done", "Failed", "Load", "Loaded", "Request"]


@dataclass(frozen=True)
class Load:
    """Ask the worker to import a solver."""

    solver: str
    plugins: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Loaded:
    """The solver is there: its version, seconds of import, whether it compiles at the first call, resident MB."""

    version: str
    import_s: float
    compiles: bool
    resident_mb: float


@dataclass(frozen=True)
class Request:
    """One cell's work: the programs (one, or a stream) and how to run them."""

    mode: str
    programs: tuple[Program, ...]
    tol: float
    time_limit_s: float
    repeats: int
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Begin:
    """A solve starts: the engine's clock for it runs from here; ``first`` may compile."""

    first: bool


@dataclass(frozen=True)
class Call:
    """One timed call: position in the stream, seconds, the time it was given, whether the set-up was kept.

    ``cpu_s`` is the time that the worker's own thread had the processor, of update and solve together; NaN where it was
    not taken. Where a backend's bare calls are timed, they are all in ``solve_s``.
    """

    step: int
    setup_s: float
    solve_s: float
    raw: Raw
    limit_s: float | None = None
    updated: bool = False
    warmed: bool = False
    cpu_s: float = float("nan")

    @property
    def total_s(self) -> float:
        """Set-up or update, and solve."""
        return self.setup_s + self.solve_s


@dataclass(frozen=True)
class Done:
    """All calls of a request, the first one apart, and the memory they took [MB]."""

    first: Call
    calls: tuple[Call, ...]
    base_mb: float
    peak_mb: float
    resident_mb: float


@dataclass(frozen=True)
class Failed:
    """The backend raised: the exception's kind and text, and whether it was a refusal of ours."""

    kind: str
    text: str
    refused: bool
