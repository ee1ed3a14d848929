"""``crosswind bench``: measure the solvers on suites of programs, or compare two runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from crosswind.cli.common import Outcome, split_names, split_numbers
from crosswind.solvers.errors import InvalidInput

NAME = "bench"
HELP = "measure solvers on suites of programs, judged by our certificate; or compare two runs"
DESCRIPTION = (
    "Run every solver on every program of the suites, each in a process that is killed at the time limit, judge the\n"
    "answers by our own certificate, and write rows (parquet), report.html and summary.md. A run that was killed\n"
    "goes on where it was when started again. SUITE is hedge, basket, impact, roll, or a folder of .qps, .mat, .npz\n"
    "or .json files. "
    "crosswind bench compare A B puts two runs' folders against each other.\n"
    "crosswind bench hedge --mode sequence compares the receding-horizon core with OSQP, PIQP, DAQP and cvxpy step by\n"
    "step at four sizes, and prints how many times faster it is against the goals of its design."
)
EXAMPLE = "crosswind bench hedge basket impact --quick"

_DEFAULT_OUT = "crosswind-out/bench"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add suites, what to measure, how, and where to write."""
    parser.add_argument("words", nargs="+", metavar="SUITE", help="suites or folders; or: compare A B")
    parser.add_argument("--quick", action="store_true", help="the quick subset, 2 s a solve, 5 repeats, 2 jobs")
    parser.add_argument(
        "--solvers",
        metavar="A,B",
        help="backends (default: all open ones that work, with --mode sequence those that the suite compares; "
        "all: every one)",
    )
    parser.add_argument(
        "--mode", "--modes", dest="modes", metavar="A,B", help="of cold, sequence, anytime (default: all)"
    )
    parser.add_argument(
        "--accuracy",
        metavar="TOL,…",
        help="relative tolerances (default: 1e-3,1e-6,1e-9, with --mode sequence 1e-6)",
    )
    parser.add_argument("--time-limit", type=float, metavar="S", help="seconds for a solve (default: 10, quick: 2)")
    parser.add_argument("--repeats", type=int, metavar="N", help="timed calls a cell at most (default: 20, quick: 5)")
    parser.add_argument("--jobs", type=int, metavar="N", help="cells measured at the same time (default: 1, quick: 2)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="measure on the workers of this dask scheduler")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SOLVER.KEY=VALUE",
        help="a setting of one solver; may be repeated",
    )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers a backend or a suite"
    )
    parser.add_argument("--out", default=_DEFAULT_OUT, metavar="DIR", help=f"folder to write (default: {_DEFAULT_OUT})")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take over the rows that are there (default), or with --no-resume move them aside and measure anew",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def execute(args: argparse.Namespace) -> Outcome:
    """Measure and report, or compare."""
    if args.words[0] == "compare":
        return _compare(args.words[1:])
    from crosswind.bench_report import write_report
    from crosswind.solvers.bench import run_bench

    plan = _plan(args)
    try:
        with _progress(quiet=args.quiet) as progress:
            result = run_bench(
                plan, args.out, jobs=_jobs(args), scheduler=args.scheduler, resume=args.resume, progress=progress
            )
    except KeyboardInterrupt:
        print(f"crosswind: interrupted; the rows in {args.out}/ are kept, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    html = _has_plotly()
    files = write_report(result, html=html)
    facts = result.facts
    lines = [
        result.summary(),
        "",
        f"{facts['new']} cells measured, {facts['kept']} taken over from an earlier run; written to {args.out}/",
    ]
    if not html:
        lines.append("no report.html: plotly is not installed (pip install 'crosswind[report]')")
    payload = {"rows": _records(result), "facts": facts, "files": [str(path) for path in files], **_steps(result)}
    return Outcome(text="\n".join(lines), payload=payload)


def _plan(args: argparse.Namespace) -> Any:
    from crosswind.bench_suites import register_suites
    from crosswind.solvers.bench import MODES, Plan
    from crosswind.solvers.bench.plan import read_plugins, run_plugins

    register_suites()
    plugins = read_plugins(tuple(args.plugin))
    run_plugins(plugins)
    limit = args.time_limit if args.time_limit is not None else (2.0 if args.quick else 10.0)
    repeats = args.repeats if args.repeats is not None else (5 if args.quick else 20)
    modes = split_names(args.modes, "--mode") or MODES
    alone = modes == ("sequence",)
    return Plan(
        suites=tuple(args.words),
        solvers=(_lanes(args.words) if alone and args.solvers is None else ())
        or _solvers(args.solvers, quick=args.quick),
        modes=modes,
        accuracies=split_numbers(args.accuracy, "--accuracy") or ((1e-6,) if alone else (1e-3, 1e-6, 1e-9)),
        time_limit_s=limit,
        repeats=repeats,
        quick=args.quick,
        settings=_settings(args.set),
        plugins=plugins,
    )


def _jobs(args: argparse.Namespace) -> int:
    """Return the number of lanes: a quick run looks for answers first, so it takes a second core where there is one."""
    if args.jobs is not None:
        return int(args.jobs)
    return min(2, os.cpu_count() or 1) if args.quick else 1


def _lanes(words: list[str]) -> tuple[str, ...]:
    """Return the solvers that the suites' streams compare, as far as they are installed; nothing where none says so."""
    from crosswind.solvers.bench.suites import find_suite
    from crosswind.solvers.errors import MissingDependency
    from crosswind.solvers.registry import backend

    def installed(name: str) -> bool:
        try:
            return bool(backend(name))
        except MissingDependency:
            return False

    races = [suite.race for suite in (find_suite(word) for word in words) if suite.race is not None]
    named = tuple(dict.fromkeys(name for race in races for name in race.lanes))
    return tuple(name for name in named if installed(name))


def _solvers(text: str | None, *, quick: bool) -> tuple[str, ...]:
    """Return the named solvers, or those that work here: open ones, with ``all`` the commercial ones too.

    cvxpy's are bridges to other solvers and are measured only by name; a quick run leaves out variants such as
    piqp:dense.
    """
    named = split_names(text, "--solvers")
    if named is not None and named != ("all",):
        return named
    from crosswind.solvers.probe import probe

    return tuple(
        name
        for name, found in probe().items()
        if found.works
        and name.partition(":")[0] != "cvxpy"
        and (named is not None or not found.commercial)
        and not (quick and named is None and ":" in name)
    )


def _settings(parts: list[str]) -> dict[str, dict[str, Any]]:
    from crosswind.problems.market.readers.simulated import literal

    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        target, equals, value = part.partition("=")
        solver, dot, key = target.rpartition(".")
        if not (equals and dot and solver and key):
            raise InvalidInput("not solver.key=value", field="--set", value=part, remedy="write osqp.max_iter=20000")
        found.setdefault(solver, {})[key] = literal(value)
    return found


def _compare(words: list[str]) -> Outcome:
    from crosswind.solvers.bench import compare

    if len(words) != 2:
        raise InvalidInput("needs two folders", field="compare", value=words, remedy="crosswind bench compare A B")
    found = compare(*words)
    payload = {
        "ratios": found.ratios.to_dict(orient="records"),
        "changed": found.changed.to_dict(orient="records"),
        "notes": list(found.notes),
    }
    return Outcome(text=found.summary(), payload=payload)


def _records(result: Any) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in result.to_frame().to_dict(orient="records")]


def _steps(result: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of steps by size and of ratios as records, of all suites and accuracies."""
    from crosswind.solvers.bench.steps import ratio_table, step_table
    from crosswind.solvers.bench.tables import groups

    found: dict[str, list[dict[str, Any]]] = {"steps": [], "ratios": []}
    for suite, accuracy in groups(result, "sequence"):
        for name, make in (("steps", step_table), ("ratios", ratio_table)):
            records = make(result, suite, accuracy).to_dict(orient="records")
            found[name] += [
                {"suite": suite, "accuracy": accuracy, **{str(k): v for k, v in r.items()}} for r in records
            ]
    return found


def _has_plotly() -> bool:
    import importlib.util

    return importlib.util.find_spec("plotly") is not None


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a callable that draws a bar on stderr and prints what went wrong above it, or None without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda done, total, text: print(f"[{done}/{total}] {text}", file=sys.stderr)
        return
    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, description=escape(text[:100]), completed=done, total=total)
            word = text.rpartition(": ")[2]
            if not text.endswith("…") and not word.startswith("ok") and word != "done":
                bar.console.print(escape(text), highlight=False)

        yield show
