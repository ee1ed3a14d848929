"""A run from plan to rows: make programs, skip what is known, measure, keep every row at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswind.solvers.backends.base import Program
from crosswind.solvers.bench.execute import Row, Task, on_dask, on_threads, one_thread
from crosswind.solvers.bench.finish import finish
from crosswind.solvers.bench.machine import machine_facts
from crosswind.solvers.bench.plan import Cell, Plan
from crosswind.solvers.bench.store import RUN, RowStore, read_rows
from crosswind.solvers.bench.suites import Case, Stream, Suite, find_suite
from crosswind.solvers.errors import CrosswindError, InvalidInput
from crosswind.solvers.registry import backend

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchResult", "load_result", "run_bench"]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class BenchResult:
    """The graded rows of a run, with what is needed to read them.

    Attributes
    ----------
    rows
        One per cell, with the errors of the objective filled in; see the documentation of the benchmark.
    facts
        ``plan``, ``machine``, ``started`` (UTC), ``notes``, ``new`` and ``kept`` (number of cells).
    folder
        Where the rows are.
    """

    rows: tuple[Row, ...]
    facts: dict[str, Any]
    folder: Path

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell; the lists of times, steps and points are left to :meth:`tables`."""
        import pandas as pd

        nested = ("times_s", "steps", "points")
        return pd.DataFrame([{k: v for k, v in row.items() if k not in nested} for row in self.rows])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are written as parquet: rows, times, steps, points."""
        import pandas as pd

        out = {"rows": self.to_frame()}
        times = [
            {"key": row["key"], "call": i, "seconds": t}
            for row in self.rows
            for i, t in enumerate(row.get("times_s", ()))
        ]
        out["times"] = pd.DataFrame(times, columns=["key", "call", "seconds"])
        for name in ("steps", "points"):
            out[name] = pd.DataFrame([{"key": row["key"], **item} for row in self.rows for item in row.get(name) or ()])
        return out

    def summary(self) -> str:
        """Return the summary as text: one line per suite, mode, accuracy and solver."""
        from crosswind.solvers.bench.tables import summary_text

        return summary_text(self)


@dataclass
class _Run:
    """The run in progress: what is planned, what is known, what went wrong on the way."""

    plan: Plan
    store: RowStore
    notes: list[str] = field(default_factory=list)
    kept: int = 0
    keys: set[str] = field(default_factory=set)
    total: int = 0
    left_out: int = 0


def run_bench(
    plan: Plan,
    out: str | Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    suites: Sequence[Suite] | None = None,
) -> BenchResult:
    """Measure all cells of ``plan`` that ``out`` does not hold yet.

    Parameters
    ----------
    plan
        What to measure.
    out
        Folder of the rows: appended one by one, so that a run that is killed and started again goes on where it was.
    jobs
        Number of cells measured at the same time. Times are cleanest with 1.
    scheduler
        Address of a dask scheduler whose workers measure the cells instead.
    resume
        False moves the rows of an earlier run aside and measures everything anew.
    progress
        Called with (cells done, cells in all, what happened).
    suites
        In place of ``plan.suites`` by name: for suites that are not registered.

    Returns
    -------
    BenchResult
        With the rows of this plan only, whatever else the folder holds.

    Raises
    ------
    InvalidInput
        On an unknown suite or solver, or a folder that cannot be used.
    MissingDependency
        When a solver, or dask with ``scheduler``, is not installed.
    """
    if jobs < 1:
        raise InvalidInput("must be at least 1", field="jobs", value=jobs, remedy="use 1 or more")
    chosen = tuple(suites) if suites is not None else tuple(find_suite(word) for word in plan.suites)
    versions = {name: backend(name).version() for name in plan.solvers}
    store = RowStore(out, resume=resume)
    try:
        run = _Run(plan, store)
        machine = machine_facts()
        if (machine["load"] or 0.0) > 0.5 * machine["cores"]:
            run.notes.append(f"the machine had a load of {machine['load']} before the start: times are not its own")
        run.total = sum(_count(item, plan) for suite in chosen for item in suite.items(quick=plan.quick))
        if not run.total:
            raise InvalidInput("has no cells", field="plan", value=plan.suites, remedy="other suites or modes")
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with one_thread():
            _measure_all(run, chosen, versions, jobs, scheduler, progress)
        rows = finish([store.rows[key] for key in store.rows if key in run.keys])
        facts = {
            "plan": plan.to_dict(),
            "machine": machine,
            "solvers": versions,
            "suites": {suite.name: suite.text for suite in chosen},
            "races": {suite.name: asdict(suite.race) for suite in chosen if suite.race is not None},
            "executor": f"dask {scheduler}" if scheduler else f"{jobs} jobs",
            "started": started,
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "new": len(run.keys) - run.kept,
            "kept": run.kept,
            "notes": run.notes,
        }
        (Path(out) / RUN).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    finally:
        store.close()
    return BenchResult(tuple(rows), facts, Path(out))


def load_result(folder: str | Path) -> BenchResult:
    """Return the result of an earlier run, unfinished ones included.

    Raises
    ------
    InvalidInput
        When the folder holds no run.
    """
    rows = finish(read_rows(folder))
    path = Path(folder) / RUN
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"notes": ["the run did not end"]}
    return BenchResult(tuple(rows), facts, Path(folder))


def _measure_all(
    run: _Run,
    suites: Sequence[Suite],
    versions: dict[str, str],
    jobs: int,
    scheduler: str | None,
    progress: Progress | None,
) -> None:
    def tell(text: str) -> None:
        if progress is not None:
            progress(run.kept + new, run.total - run.left_out, text)

    new = 0
    tasks = _tasks(run, suites, versions)
    plugins = run.plan.plugins

    def started(cell: Cell) -> None:
        tell(f"{cell.suite}/{cell.case} {cell.solver} {cell.mode} {cell.accuracy:.0e} …")

    rows = on_dask(tasks, scheduler, plugins, started) if scheduler else on_threads(tasks, jobs, plugins, started)
    with closing(rows):
        for row in rows:
            run.store.append(row)
            new += 1
            tell(f"{row['suite']}/{row['case']} {row['solver']} {row['mode']} {row['accuracy']:.0e}: {_word(row)}")
    tell("done")


def _word(row: Row) -> str:
    if row["outcome"] != "ran":
        return str(row["outcome"])
    text = "ok" if row["success"] else row["status"].lower()
    return f"{text}{' (claimed but wrong)' if row['claimed_wrong'] else ''} {1e3 * row['total_s']:.3g} ms"


def _count(item: Case | Stream, plan: Plan) -> int:
    return len(plan.solvers) * sum(len(plan.cells_of(mode)) for mode in _modes(item, plan))


def _modes(item: Case | Stream, plan: Plan) -> tuple[str, ...]:
    streamed = isinstance(item, Stream)
    return tuple(mode for mode in plan.modes if (mode == "sequence") is streamed)


def _tasks(run: _Run, suites: Sequence[Suite], versions: dict[str, str]) -> Iterator[Task]:
    """Yield the cells that are not known yet, program by program, so that all solvers see it close in time."""
    plan = run.plan
    for suite in suites:
        for item in suite.items(quick=plan.quick):
            modes = _modes(item, plan)
            if not modes:
                continue
            try:
                programs = _programs(item, plan)
                for program in programs:
                    program.require_convex()
                digest = _digest(programs)
            except CrosswindError as err:
                run.notes.append(f"{suite.name}/{item.name} left out: {err}")
                run.left_out += _count(item, plan)
                continue
            for solver in plan.solvers:
                if not backend(solver).takes(programs[0]):
                    run.left_out += sum(len(plan.cells_of(mode)) for mode in modes)
                    continue
                for mode in modes:
                    for accuracy in plan.cells_of(mode):
                        cell = _cell(plan, suite, item, digest, solver, versions[solver], mode, accuracy)
                        if cell.key in run.keys:  # the same program under two names
                            run.left_out += 1
                            continue
                        run.keys.add(cell.key)
                        if cell.key in run.store.rows:
                            run.kept += 1
                            continue
                        yield cell, programs


def _programs(item: Case | Stream, plan: Plan) -> tuple[Program, ...]:
    if isinstance(item, Case):
        return (item.make(),)
    return item.make()[: item.quick_steps if plan.quick else None]


def _digest(programs: tuple[Program, ...]) -> str:
    import hashlib

    if len(programs) == 1:
        return str(programs[0].digest)
    return hashlib.sha256("\n".join(program.digest for program in programs).encode()).hexdigest()


def _cell(
    plan: Plan,
    suite: Suite,
    item: Case | Stream,
    digest: str,
    solver: str,
    version: str,
    mode: str,
    accuracy: float,
) -> Cell:
    stream = item if isinstance(item, Stream) else None
    return Cell(
        suite=suite.name,
        case=item.name,
        digest=digest,
        solver=solver,
        version=version,
        mode=mode,
        accuracy=accuracy,
        time_limit_s=plan.time_limit_s,
        repeats=plan.repeats,
        memory_limit_mb=plan.memory_limit_mb,
        settings=plan.settings.get(solver, {}),
        deadline_s=stream.deadline_s if stream else float("nan"),
        action=stream.action if stream else (),
        quick=item.quick,
        seed=item.seed,
        group=(stream.group or stream.name) if stream else "",
    )
