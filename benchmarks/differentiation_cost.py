"""What a gradient costs beside one solve: prints the table of docs/differentiation.md.

Run: python benchmarks/differentiation_cost.py [repeats]
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from crosswind.solvers import QuadraticProgram, solve
from crosswind.solvers.differentiate import sensitivities


def basket(n: int, seed: int = 0) -> QuadraticProgram:
    """Return a mean-variance program with a budget, a few two-sided exposures and boxes, many of which bind."""
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(n, max(n // 4, 2)))
    rows = np.vstack((np.ones(n), rng.normal(size=(3, n))))
    side = np.array([1.0, 0.1, 0.1, 0.1])
    return QuadraticProgram(
        G @ G.T + n * np.eye(n), -rng.normal(size=n), rows, np.r_[1.0, -side[1:]], side, lb=0.0, ub=3.0 / n
    )


def seconds(run: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(repeats: int = 30) -> None:
    """Print medians of interleaved repeats, and their ratios to the solve."""
    print("| variables (limits that bind) | solve [ms] | prepare | one product | difference to central differences |")
    print("| --- | --- | --- | --- | --- |")
    for n in (20, 100, 300):
        program = basket(n)
        found = solve(program)
        made = sensitivities(program, found)
        assert not made.degenerate, made.summary()
        runs = (partial(solve, program), partial(sensitivities, program, found), partial(made.vjp, x=1.0))
        times = [[seconds(run) for run in runs] for _ in range(repeats)]
        full, prepare, once = (statistics.median(column) for column in zip(*times, strict=True))
        along = np.random.default_rng(1).normal(size=n)
        ends = [program.with_vectors(q=program.q + h * along) for h in (1e-6, -1e-6)]
        ahead, behind = (sensitivities(end, solve(end)).x for end in ends)
        slope = made.jvp(q=along).x
        error = float(np.max(np.abs((ahead - behind) / 2e-6 - slope)) / np.max(np.abs(slope)))
        cells = (f"{n} ({made.active.sum()})", f"{1e3 * full:.2f}", f"{prepare / full:.2f}×", f"{once / full:.2f}×")
        print(f"| {' | '.join(cells)} | {error:.0e} |")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
