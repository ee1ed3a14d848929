"""What a run measures: the plan as a whole, and its cells with their keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosswind.solvers.errors import InvalidInput

__all__ = ["MODES", "Cell", "Plan", "read_plugins"]

MODES = ("cold", "sequence", "anytime")


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Parameters
    ----------
    suites
        Names of registered suites, or folders of programs.
    solvers
        Names of backends.
    modes
        Some of ``cold`` (set-up and solve apart), ``sequence`` (streams, warm where a backend can) and ``anytime``
        (the iterate against the time given).
    accuracies
        Relative tolerances in (0, 1), judged by our certificate.
    time_limit_s
        Seconds for one set-up and solve; the worker is killed when a backend does not keep it.
    repeats
        Greatest number of timed calls per cell; fewer when they would last longer than one time limit together.
    quick
        Only the quick subset of the suites.
    settings
        Solver name to its own settings.
    plugins
        (name, source text) of Python files that register backends or suites; run in the workers as well.
    memory_limit_mb
        A worker above it is killed.

    Raises
    ------
    InvalidInput
        On an empty choice, an unknown mode, a tolerance outside (0, 1) or a limit that is not positive.
    """

    suites: tuple[str, ...]
    solvers: tuple[str, ...]
    modes: tuple[str, ...] = MODES
    accuracies: tuple[float, ...] = (1e-3, 1e-6, 1e-9)
    time_limit_s: float = 10.0
    repeats: int = 20
    quick: bool = False
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    plugins: tuple[tuple[str, str], ...] = ()
    memory_limit_mb: float = 8192.0

    def __post_init__(self) -> None:
        for name in ("suites", "solvers", "modes", "accuracies"):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) < len(chosen):
                raise InvalidInput(
                    "needs distinct entries, one at least", field=name, value=chosen, remedy="name each once"
                )
        for mode in self.modes:
            if mode not in MODES:
                raise InvalidInput("unknown mode", field="modes", value=mode, remedy=f"one of {', '.join(MODES)}")
        for accuracy in self.accuracies:
            if not 0.0 < accuracy < 1.0:
                raise InvalidInput("must lie between 0 and 1", field="accuracy", value=accuracy, remedy="e.g. 1e-6")
        for name in ("time_limit_s", "memory_limit_mb"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise InvalidInput("must be positive and finite", field=name, value=value, remedy="give a number")
        if self.repeats < 1:
            raise InvalidInput("must be at least 1", field="repeats", value=self.repeats, remedy="use 1 or more")
        for name in self.settings:
            if name not in self.solvers:
                raise InvalidInput("has settings but does not take part", field="settings", value=name)

    def cells_of(self, mode: str) -> tuple[float, ...]:
        """Return the accuracies at which ``mode`` is measured; anytime asks once, for the tightest."""
        return (min(self.accuracies),) if mode == "anytime" else self.accuracies

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data; plugins by name and the start of their digest."""
        plain = {key: value for key, value in self.__dict__.items() if key != "plugins"}
        plugins = {name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in self.plugins}
        return json.loads(json.dumps(plain | {"plugins": plugins}))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Cell:
    """One row to be: a program or stream, a solver with its settings, a mode and an accuracy."""

    suite: str
    case: str
    digest: str
    solver: str
    version: str
    mode: str
    accuracy: float
    time_limit_s: float
    repeats: int
    memory_limit_mb: float = 8192.0
    settings: dict[str, Any] = field(default_factory=dict)
    deadline_s: float = float("nan")
    action: tuple[int, ...] = ()
    quick: bool = False
    seed: int | None = None
    group: str = ""

    @property
    def key(self) -> str:
        """Digest of all that the row depends on; the program by its digest, not by its name."""
        parts = {
            "program": self.digest,
            "solver": self.solver,
            "version": self.version,
            "mode": self.mode,
            "accuracy": self.accuracy,
            "settings": self.settings,
            "limits": [self.time_limit_s, self.repeats, repr(self.deadline_s)],
        }
        text = json.dumps(parts, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def read_plugins(paths: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return (name, text) of every plugin file.

    Raises
    ------
    InvalidInput
        When a file is missing or is no text.
    """
    found = []
    for path in paths:
        try:
            found.append((Path(path).name, Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidInput(
                "cannot be read as a Python file", field="plugin", value=path, remedy="check the path"
            ) from err
    return tuple(found)


def run_plugins(plugins: tuple[tuple[str, str], ...]) -> None:
    """Execute the plugins, each in a module of its own that other code can find by name (pickles need that)."""
    import sys
    import types

    for name, text in plugins:
        label = f"crosswind_plugin_{name.removesuffix('.py')}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = sys.modules.get(label)
        if known is not None and getattr(known, "__plugin_digest__", "") == digest:
            continue
        module = types.ModuleType(label)
        module.__dict__["__plugin_digest__"] = digest
        sys.modules[label] = module
        exec(compile(text, name, "exec"), module.__dict__)
