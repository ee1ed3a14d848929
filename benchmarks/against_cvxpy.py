"""Time what crosswind does against the same programs written in cvxpy, in one run.

    python benchmarks/against_cvxpy.py            # print the page
    python benchmarks/against_cvxpy.py --write    # also write docs/speed.md

Both sides are timed from data to a checked answer: ours with lowering, solve, certificate and (for baskets) prices;
cvxpy's with building the problem, compiling and solving by Clarabel at the same tolerance. Medians of repeats, one BLAS
thread. The figures that travel between machines are the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TOL = 1e-8


def median_s(action: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median time of ``repeats`` calls after one that warms up, and the last answer."""
    answer = action()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        answer = action()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), answer


def cvxpy_solve(build: Callable[[], Any]) -> float:
    """Build a problem, solve it with Clarabel and return its value."""
    problem = build()
    problem.solve(solver="CLARABEL", tol_gap_abs=TOL, tol_gap_rel=TOL, tol_feas=TOL)
    return float(problem.value)


def baskets(repeats: int) -> list[list[str]]:
    """Time basket schedules against the desk's formulation in cvxpy."""
    from crosswind.problems.basket.instances import basket_instance
    from crosswind.problems.basket.reference import reference_basket

    rows = []
    for names, slices in ((5, 13), (10, 13), (20, 26)):
        problem = basket_instance(names, slices, seed=0)
        ours, schedule = median_s(problem.solve, repeats)
        theirs, value = median_s(lambda problem=problem: cvxpy_solve(lambda: reference_basket(problem)[0]), repeats)
        cost = problem.to_bps(float(schedule.costs["total"]))
        rows.append(row(f"basket, {names} names × {slices} slices", ours, theirs, cost, value))
    return rows


def fits(repeats: int) -> list[list[str]]:
    """Time impact fits against the readable cvxpy formulation."""
    from crosswind.problems.impact.estimate import fit_problem
    from crosswind.problems.impact.instances import impact_instance
    from crosswind.problems.impact.reference import reference_fit

    rows = []
    for names, shapes in ((5, 2), (10, 2), (20, 2)):
        problem = impact_instance(names, shapes, seed=0)
        ours, fitted = median_s(lambda problem=problem: fit_problem(problem, tol=TOL), repeats)
        theirs, value = median_s(lambda problem=problem: cvxpy_solve(lambda: reference_fit(problem)[0]), repeats)
        rows.append(
            row(f"impact fit, {names} names, {shapes} rates", ours, theirs, fitted.repair.objective_after, value)
        )
    return rows


def controller(repeats: int) -> list[list[str]]:
    """Time a step of the hedge controller (20 slices) against solving its program in cvxpy."""
    from crosswind.optim import reference_multistage
    from crosswind.problems.hedge import HedgeBeliefs, HedgeContext, HedgeState, MPCHedge

    scale, slices = 1e7, 60
    policy = MPCHedge(1e-6, horizon=20)
    empty = np.zeros(0)
    context = HedgeContext(slices, np.full(slices, 60.0), scale, HedgeBeliefs(1e-9), empty, empty)
    policy.reset(context)
    left = scale * (1.0 - np.arange(slices + 1) / slices)  # beta notional still to trade, by slice start
    states = [HedgeState(k, float(left[k]), 0.0, left[k + 1 :], 1e-5, np.zeros(slices - k)) for k in range(slices - 20)]
    counter = iter(range(10**9))
    step, _ = median_s(lambda: policy.decide(states[next(counter) % len(states)]), 20 * repeats)
    program = policy.program(states[0])
    theirs, value = median_s(lambda: cvxpy_solve(lambda: reference_multistage(program, 1.0, 1e-6)[0]), repeats)
    from crosswind.optim import solve_multistage

    cost = solve_multistage(program, tol=TOL).cost.total / 1e-6
    return [row("controller step, 1 instrument × 20 slices", step, theirs, cost, value)]


def row(name: str, ours: float, theirs: float, our_value: float, their_value: float) -> list[str]:
    """Return a line of the table."""
    gap = (our_value - their_value) / max(1.0, abs(their_value))
    return [name, f"{1e3 * ours:.1f}", f"{1e3 * theirs:.0f}", f"{theirs / ours:.0f}×", f"{gap:+.0e}"]


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats (default: 7)")
    args = parser.parse_args()
    head = ["program", "crosswind [ms]", "cvxpy + Clarabel [ms]", "ratio", "objective, ours − theirs (relative)"]
    body = [head, ["---"] * len(head), *baskets(args.repeats), *fits(args.repeats), *controller(args.repeats)]
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("numpy", "scipy", "cvxpy", "clarabel", "piqp", "osqp"))
    lines = [
        "# Speed",
        "",
        "Printed by `benchmarks/against_cvxpy.py --write`: the same programs, from data to a checked answer, by "
        f"crosswind and as written in cvxpy, both to {TOL:g}. Medians of {args.repeats} repeats in one run; the ratios "
        "travel between machines, the milliseconds do not.",
        "",
        *("| " + " | ".join(line) + " |" for line in body),
        "",
        "crosswind's side solves with PIQP, Clarabel or both, through sparse lowering. The solvers made for these "
        "programs have pages of their own: [fits](impact-fit-speed.md), [baskets](basket-speed.md), [the hedge's core]"
        "(mpc-speed.md).",
        "",
        f"Python {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores, one BLAS "
        "thread.",
    ]
    page = "\n".join(lines) + "\n"
    print(page)
    if args.write:
        (ROOT / "docs" / "speed.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
