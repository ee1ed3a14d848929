"""What every verb shares: the outcome, its printing, progress on a terminal, words turned into values."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from crosswind.solvers.errors import CrosswindError, InvalidInput

__all__ = [
    "EXIT_FALLBACK",
    "EXIT_GUARD",
    "EXIT_INPUT",
    "EXIT_INTEGRITY",
    "EXIT_OK",
    "Outcome",
    "data_options",
    "emit",
    "emit_error",
    "progress_on_terminal",
    "split_names",
    "split_numbers",
]

EXIT_OK, EXIT_INPUT, EXIT_GUARD, EXIT_FALLBACK, EXIT_INTEGRITY = 0, 2, 3, 4, 5

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Outcome:
    """What a verb returns: a text for people, an object for programs, and the exit code."""

    text: str
    payload: Mapping[str, Any]
    exit_code: int = EXIT_OK


def data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which a verb is told its data."""
    parser.add_argument(
        "--data",
        default="sim",
        metavar="SPEC",
        help="sim[:key=value,…] (sim:world=stress), lean:DIR, parquet:DIR, csv:FILE or another scheme that "
        "'crosswind read' knows, with order flow (default: sim)",
    )
    parser.add_argument("--names", help="only these names, as IBM,BAC,AIG")
    parser.add_argument(
        "--bucket", type=float, metavar="S", help="bucket length in seconds (default: the source's own)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def emit(outcome: Outcome, *, as_json: bool) -> None:
    """Print the outcome on stdout: its object alone with ``--json``, else its text."""
    if not as_json:
        print(outcome.text)
        return
    from crosswind.problems.workflow.output import plain

    print(json.dumps(plain(outcome.payload), indent=2))


def emit_error(err: CrosswindError, code: int, *, as_json: bool) -> None:
    """Tell a refusal on stderr, and as an object on stdout when ``--json`` was asked for."""
    print(f"crosswind: {err}", file=sys.stderr)
    if as_json:
        body = {
            "kind": type(err).__name__,
            "message": err.message,
            "field": err.field,
            "value": None if err.value is None else str(err.value),
            "remedy": err.remedy,
            "exit_code": code,
        }
        print(json.dumps({"error": body}, indent=2))


@contextmanager
def progress_on_terminal(*, quiet: bool = False) -> Iterator[Progress | None]:
    """Yield a callable ``(stage, fraction done)`` that draws a bar on stderr, or None where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda stage, done: print(f"[{done:4.0%}] {stage}", file=sys.stderr)
        return
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


def split_names(text: str | None, field: str) -> tuple[str, ...] | None:
    """Split ``"IBM,BAC"`` into names; None stays None.

    Raises
    ------
    InvalidInput
        When a name is empty or stands twice.
    """
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InvalidInput("names must be distinct and not empty", field=field, value=text, remedy="write IBM,BAC,AIG")
    return names


def split_numbers(text: str | None, field: str) -> tuple[float, ...] | None:
    """Turn ``"20,200"`` into numbers; None stays None.

    Raises
    ------
    InvalidInput
        When a part is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput("expected numbers", field=field, value=text, remedy="write 20,200") from None
