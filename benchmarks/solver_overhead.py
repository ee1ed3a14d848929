"""Time what a session adds to a bare solver's update and solve, on the hedge program with one instrument and 20 slices.

    python benchmarks/solver_overhead.py            # print the page
    python benchmarks/solver_overhead.py --write    # also write docs/solver-overhead.md

Both sides get the same stream of linear costs and row bounds, in turns, from two set-ups of the same data and settings.
Bare: the solver's own Python interface, its vectors already in its own order and scaling: update, solve, read x. Ours:
``session.update(q, l, u).solve()`` and read x, with checked input, multipliers, our certificate, a Solution. Pinned to
one core and one BLAS thread; medians, and medians of the differences of neighbours.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

from crosswind.problems.hedge.instances import hedge_instances
from crosswind.solvers import QuadraticProgram, Session, Status, native

ROOT = Path(__file__).resolve().parents[1]
# OSQP asked for 1e-9 of its own reaches 1e-4 of our certificate, whose scale is each row's own and not the largest.
CASES: dict[str, tuple[float, dict[str, Any]]] = {
    "piqp": (1e-6, {}),
    "osqp": (1e-4, {"eps_abs": 1e-9, "eps_rel": 1e-9}),
}


def stream(program: QuadraticProgram, count: int, seed: int = 0) -> list[tuple[Any, Any, Any]]:
    """Return (q, l, u) near those of ``program``: costs move by a thousandth, equality rows by a ten-thousandth."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        q = program.q * (1.0 + 1e-3 * rng.normal(size=program.n))
        moved = np.where(program.l == program.u, 1e-4 * rng.normal(size=program.m) * np.abs(program.u), 0.0)
        moved = np.where(np.isfinite(moved), moved, 0.0)
        out.append((q, program.l + moved, program.u + moved))
    return out


def bare_call(name: str, program: QuadraticProgram, tol: float, settings: dict[str, Any]) -> Callable[..., Any]:
    """Return a function of prepared vectors that updates and solves with the solver's own interface."""
    session = Session(program, name, tol, **settings)
    session.solve()
    solver: Any = session._ready[name, tol].solver  # type: ignore[attr-defined]
    if name == "osqp":

        def call(vectors: Any) -> Any:
            solver.update(q=vectors[0], l=vectors[1], u=vectors[2])
            return solver.solve(raise_error=False).x
    else:

        def call(vectors: Any) -> Any:
            solver.update(**vectors)
            solver.solve()
            return solver.result.x

    return call


def prepared_vectors(name: str, program: QuadraticProgram, data: list[Any], tol: float, settings: Any) -> list[Any]:
    """Return the stream in the solver's own order and scaling, so that the bare call converts nothing."""
    session = Session(program, name, tol, **settings)
    session.solve()
    prepared: Any = session._ready[name, tol]
    out = []
    for q, low, high in data:
        moved = program.with_vectors(q=q, l=low, u=high)
        vectors = prepared._vectors(moved) if name == "piqp" else prepared.vectors(moved)
        if name == "piqp":
            vectors = {key: vectors[key] for key in ("c", "b", "h_l", "h_u") if vectors[key].size}
        out.append(vectors)
    return out


def measure(name: str, program: QuadraticProgram, repeats: int) -> dict[str, Any]:
    """Return medians in microseconds: bare, ours, of the differences, and where ours is spent."""
    tol, settings = CASES[name]
    data = stream(program, 64)
    vectors = prepared_vectors(name, program, data, tol, settings)
    bare = bare_call(name, program, tol, settings)
    session = Session(program, name, tol, **settings)
    session.solve()
    clock = time.perf_counter
    ours_s, bare_s = np.empty(repeats), np.empty(repeats)
    short = 0

    def ours(k: int) -> float:
        nonlocal short
        q, low, high = data[k % 64]
        begin = clock()
        found = session.update(q=q, l=low, u=high).solve()
        x = found.x
        spent = clock() - begin
        short += k >= 0 and "_late" in found.__dict__
        assert found.status is Status.OPTIMAL
        assert x.shape == (program.n,)
        return spent

    def theirs(k: int) -> float:
        begin = clock()
        bare(vectors[k % 64])
        return clock() - begin

    for k in range(-64, repeats):
        # In turns, and who comes first in turns too: what one leaves in the caches, the other finds.
        if k % 2:
            one, other = ours(k), theirs(k)
        else:
            other, one = theirs(k), ours(k)
        if k >= 0:
            ours_s[k], bare_s[k] = one, other
    difference = ours_s - bare_s
    return {
        "bare": 1e6 * float(np.median(bare_s)),
        "ours": 1e6 * float(np.median(ours_s)),
        "difference": 1e6 * float(np.median(difference)),
        "parts": [1e6 * float(np.median(part)) for part in np.array_split(difference, 10)],
        "bare p99": 1e6 * float(np.quantile(bare_s, 0.99)),
        "ours p99": 1e6 * float(np.quantile(ours_s, 0.99)),
        "short": short / repeats,
    } | stages(session, data, repeats)


def stages(session: Session, data: list[Any], repeats: int) -> dict[str, float]:
    """Return the medians of the parts of ours, each timed on its own in the same order."""
    lane = session._lane
    assert lane is not None
    clock = time.perf_counter
    spent = np.empty((min(repeats, 4000), 4))
    for k in range(spent.shape[0]):
        q, low, high = data[k % 64]
        t0 = clock()
        lane.take(q, (low, high), (None, None))
        t1 = clock()
        lane.push()
        t2 = clock()
        _, _, x, w, _ = lane.stream.run()
        t3 = clock()
        lane.check.passes(x, w)
        spent[k] = (t1 - t0, t2 - t1, t3 - t2, clock() - t3)
    return dict(zip(("take", "push", "run", "check"), 1e6 * np.median(spent, axis=0), strict=True))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Pin the process to one core where the system can, and switch the garbage collector off."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if cores:
            os.sched_setaffinity(0, cores)


def page(repeats: int) -> str:
    """Measure and return the page."""
    name, program = next(iter(hedge_instances(((1, 20),), 1)))
    with undisturbed():
        found = {solver: measure(solver, program, repeats) for solver in CASES}
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("numpy", "scipy", "piqp", "osqp"))
    way = "in C" if native.COMPILED else "in numpy"
    lines = [
        "# What a session adds to a solver",
        "",
        "Printed by `benchmarks/solver_overhead.py`. The program is",
        f"`{name}`: {program.n} variables, {program.m} rows, {program.P.nnz} and {program.A.nnz} non-zeros in P and A.",
        "Every step brings a new linear cost and new row bounds. *Bare* is the solver's own Python interface with",
        "vectors already in its order and scaling: update, solve, read x. *Ours* is `session.update(q, l, u).solve()`",
        "and reading x: the input is checked and converted, the multipliers are fetched, the iterate is graded by our",
        f"own certificate ({way}), and a `Solution` is made.",
        "",
        f"{repeats} steps in turns in one run, microseconds. The difference is the median over neighbouring pairs; in",
        "brackets the smallest and largest median of ten consecutive parts of the run.",
        "",
        "| solver | bare median | ours median | **difference** | bare p99 | ours p99 | short way |",
        "|---|---|---|---|---|---|---|",
    ]
    for solver, row in found.items():
        lines.append(
            f"| {solver} | {row['bare']:.1f} | {row['ours']:.1f} | **{row['difference']:.1f}** "
            f"({min(row['parts']):.1f} to {max(row['parts']):.1f}) | "
            f"{row['bare p99']:.1f} | {row['ours p99']:.1f} | {row['short']:.1%} |"
        )
    lines += [
        "",
        "Where the time of ours goes (medians of each part on its own):",
        "",
        "| solver | check and take the vectors | convert and send | solve and fetch | certificate |",
        "|---|---|---|---|---|",
    ]
    for solver, row in found.items():
        lines.append(f"| {solver} | {row['take']:.1f} | {row['push']:.1f} | {row['run']:.1f} | {row['check']:.1f} |")
    lines += [
        "",
        "*Solve and fetch* is the solver's run with x and all multipliers, which the bare call does not fetch.",
        "",
        f"{platform.python_implementation()} {platform.python_version()}, {versions}; {platform.machine()}, "
        f"{os.cpu_count()} cores, one used.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/solver-overhead.md")
    parser.add_argument("--repeats", type=int, default=20_000)
    options = parser.parse_args()
    text = page(options.repeats)
    print(text)
    if options.write:
        (ROOT / "docs" / "solver-overhead.md").write_text(text)


if __name__ == "__main__":
    main()
