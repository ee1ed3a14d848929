"""Compute a roll plan against cvxpy with Clarabel, and compare the forms that it could have.

Run ``python benchmarks/roll_program.py`` to print the figures, with ``--write`` to put them into
docs/roll/program-speed.md; ``--quick`` leaves out what takes minutes. One thread, CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import pandas as pd
import scipy
import scipy.sparse as sp

from crosswind.problems.roll import RollOrder
from crosswind.problems.roll.program import RollProblem, RollScenarios, RollSettings, RollStatistics, draw_scenarios
from crosswind.solvers.tail import TailProgram, solve_tail

PAGE = Path(__file__).resolve().parents[1] / "docs" / "roll" / "program-speed.md"
BEGIN, END = "<!-- figures: benchmarks/roll_program.py -->", "<!-- end of figures -->"
START = pd.Timestamp("2024-03-12 14:00", tz="UTC")
TOL = 1e-8


def scenarios(count: int, slices: int, seed: int, reach_per_s: float = 0.15) -> RollScenarios:
    """Draw two hours of a thin book in which little fills at rest, so that there is something to decide."""
    drawn = draw_scenarios(
        RollStatistics(depth=400.0, jumps_per_hour=1.0), slices=slices, slice_s=7200.0 / slices, count=count, seed=seed
    )
    return replace(drawn, flow=np.minimum(drawn.flow, reach_per_s * 7200.0 / slices))


def problem(count: int, slices: int, seed: int = 1, legs: bool = False, **values: Any) -> RollProblem:
    """Return an order of 2 000 spreads."""
    naked = 200 if legs else 0
    order = RollOrder("roll", 2000, START, START + pd.Timedelta("2h"), max_naked=naked)
    drawn = scenarios(count, slices, seed)
    if legs:
        drawn = replace(drawn, leg_half=0.15 * drawn.leg_half)
    return RollProblem(order, drawn, RollSettings(**values))


class Rival:
    """The same program in cvxpy, vectorised, solved by Clarabel; λ₉₅ is a parameter (DPP), the scenarios are data.

    With the scenarios as parameters too, cvxpy's set-up asked for 28 GB at 200 × 60. So a solve after set-up is one at
    another λ₉₅, with everything else the same: the cheapest thing that a user can ask for.
    """

    def __init__(self, p: TailProgram) -> None:
        import cvxpy as cp

        S, n, c = p.scenarios, p.n, p.cells.shape[0]
        self.risk = cp.Parameter(nonneg=True)
        self.x, v = cp.Variable(n, nonneg=True), cp.Variable((S, c))
        zeta, over, walked = cp.Variable(), cp.Variable(S, nonneg=True), cp.Variable(S)
        root = np.linalg.cholesky(p.kernel + 1e-15 * np.eye(c))
        # In units of the order, as a careful user would.
        self.unit = float(p.equal_to.sum())
        cells = sp.vstack([p.cells @ sp.diags_array(row * np.sqrt(self.unit)) for row in p.scale]).tocsr()
        cost = p.linear @ self.x + 0.5 * walked
        limits = [cp.vec(v, order="C") == cells @ self.x, cp.sum(cp.square(v @ root), axis=1) <= walked]
        limits += [over >= cost - zeta, p.equal.toarray() @ self.x == p.equal_to / self.unit]
        if len(p.rows_to):
            limits.append(p.rows.toarray() @ self.x <= p.rows_to / self.unit)
        steady = 0.5 * cp.sum_squares(cp.multiply(np.sqrt(p.ridge * self.unit), self.x))
        objective = p.base @ self.x + steady + p.probabilities @ cost + self.risk * (zeta + p.caps @ over)
        self.problem = cp.Problem(cp.Minimize(objective), limits)

    def solve(self, risk: float) -> tuple[float, np.ndarray]:
        """Solve at a λ₉₅; return CPU seconds and the plan."""
        begun = time.process_time()
        self.risk.value = risk
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.problem.solve(solver="CLARABEL", tol_gap_abs=TOL, tol_gap_rel=TOL, tol_feas=TOL, max_threads=1)
        return time.process_time() - begun, np.maximum(self.x.value, 0.0) * self.unit


def direct(p: TailProgram) -> tuple[float, float]:
    """CPU seconds of Clarabel alone on the sparse cone form, and the plan's cost above our lower bound."""
    import clarabel

    from crosswind.solvers.tail.lowering import cone_program

    unit = float(p.equal_to.sum())
    scaled = replace(
        p,
        scale=np.array(p.scale) * np.sqrt(unit),
        equal_to=p.equal_to / unit,
        rows_to=p.rows_to / unit,
        ridge=p.ridge * unit,
        constant=p.constant / unit,
    )
    cone = cone_program(scaled)
    kinds = {"zero": clarabel.ZeroConeT, "nonneg": clarabel.NonnegativeConeT, "soc": clarabel.SecondOrderConeT}
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOL
    solver = clarabel.DefaultSolver(
        sp.triu(cone.P, format="csc"), cone.q, cone.A, cone.b, [kinds[c.kind](c.size) for c in cone.cones], settings
    )
    begun = time.process_time()
    out = solver.solve()
    spent = time.process_time() - begun
    return spent, p.objective(np.maximum(np.array(out.x)[: p.n], 0.0) * unit)


def median(times: list[float]) -> float:
    """Return the median."""
    return float(np.median(times))


def speed(quick: bool) -> list[str]:
    """Return the table against cvxpy and Clarabel."""
    lines = [
        "| scenarios × slices | variables | ours [s] | plan from scenarios [s] | cvxpy + Clarabel after set-up [s] "
        "| ratio | Clarabel alone [s] | ratio | cvxpy's set-up [s] | our gap | its cost above our bound |",
        "|" + "---|" * 11,
    ]
    cases = [(200, 60, False)] if quick else [(50, 24, False), (200, 60, False), (200, 60, True)]
    for count, slices, legs in cases:
        programs = [problem(count, slices, seed, legs) for seed in (1, 2, 3)]
        forms = [q.assembly().program for q in programs]
        found, mine, whole = None, [], []
        for q, form in zip(programs, forms, strict=True):
            for _ in range(3):
                begun = time.process_time()
                found = solve_tail(form, TOL, fallback=None)
                mine.append(time.process_time() - begun)
            begun = time.process_time()
            q.solve(TOL)
            whole.append(time.process_time() - begun)
        last = forms[-1]
        begun = time.process_time()
        rival = Rival(last)
        rival.solve(2.0 * last.risk)
        setup = time.process_time() - begun
        theirs, x = [], np.zeros(0)
        for factor in (0.9, 1.1, 1.0):
            spent, x = rival.solve(factor * last.risk)
            theirs.append(spent)
        assert found is not None
        bare, cost = direct(last)
        above = max(last.objective(x) - found.lower_bound, cost - found.lower_bound) / abs(found.objective)
        a, b = median(mine), median(theirs)
        lines.append(
            f"| {count} × {slices}{', legs' if legs else ''} | {forms[-1].n} | {a:.3f} | {median(whole):.3f} "
            f"| {b:.2f} | **{b / a:.0f}×** | {bare:.2f} | {bare / a:.0f}× | {setup:.0f} | {found.gap:.0e} "
            f"| {above:.0e} |"
        )
    return lines


def growth() -> list[str]:
    """Return the table of sizes."""
    lines = ["| scenarios | slices | slabs | variables | CPU [s] | iterations | gap |", "|" + "---|" * 7]
    for count, slices, slabs in (
        (100, 24, 5), (200, 60, 1), (200, 60, 5), (200, 60, 10), (800, 60, 5), (2000, 60, 5), (200, 120, 5),
    ):  # fmt: skip
        form = problem(count, slices, slabs=slabs).assembly().program
        begun = time.process_time()
        found = solve_tail(form, TOL, fallback=None)
        spent = time.process_time() - begun
        lines.append(
            f"| {count} | {slices} | {slabs} | {form.n} | {spent:.2f} | {found.iterations} | {found.gap:.0e} |"
        )
    return lines


def foresight(q: RollProblem) -> tuple[float, np.ndarray]:
    """Return the promise of the two-stage program, and its first decision by slab.

    The first slice is decided without knowing, all later ones in full knowledge of the scenario.
    """
    import cvxpy as cp

    a = q.assembly()
    p, unit = a.program, float(a.program.equal_to.sum())
    now = a.slice == 0
    S, n = p.scenarios, p.n
    x = cp.Variable((S, n), nonneg=True)
    first = cp.Variable(int(now.sum()))
    value, vector = np.linalg.eigh(p.kernel)
    root = vector * np.sqrt(np.maximum(value, 0.0))
    v = cp.multiply(p.scale * np.sqrt(unit), x) @ p.cells.T.toarray()
    cost = cp.sum(cp.multiply(p.linear, x), axis=1) + 0.5 * cp.sum(cp.square(v @ root), axis=1)
    zeta, over = cp.Variable(), cp.Variable(S, nonneg=True)
    limits = [x[:, now] == np.ones((S, 1)) @ cp.reshape(first, (1, -1), order="C"), over >= cost - zeta]
    limits += [x @ p.equal.T.toarray() == np.ones((S, 1)) * p.equal_to / unit]
    if len(p.rows_to):
        limits += [x @ p.rows.T.toarray() <= np.ones((S, 1)) * p.rows_to / unit]
    goal = p.probabilities @ cost + p.risk * (zeta + p.caps @ over) + p.probabilities @ x @ p.base
    run = cp.Problem(cp.Minimize(goal), limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.solve(solver="CLARABEL", max_threads=1)
    return unit * float(run.value), unit * np.maximum(first.value, 0.0)


def with_first(q: RollProblem, first: np.ndarray) -> Any:
    """Return the plan that begins with a given first decision and is our program's from there on."""
    a = q.assembly()
    p = a.program
    at = np.flatnonzero(a.slice == 0)
    fixed = sp.csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=(len(at), p.n))
    target = np.maximum(np.minimum(first, 0.999 * p.bounds[at]), 1e-6 * p.bounds[at])
    part = replace(p, equal=sp.vstack([p.equal, fixed]), equal_to=np.append(p.equal_to, target))
    solution = solve_tail(part, 1e-7)
    plan = q.plan_of(replace(a, program=p), replace(solution, equal_prices=solution.equal_prices[: len(a.sizes)]))
    return plan


def forms(seeds: int) -> list[str]:
    """Return the table of what each form promises and keeps, per spread."""
    names = ("fixed plan", "two stages, foresight after the first slice", "carried forward (ours)")
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for seed in range(seeds):
        q = problem(60, 12, 100 + seed)
        size = 2000.0
        fresh = scenarios(4000, 12, 9000 + seed)
        ours = q.solve()
        fixed = replace(q, carry=False).solve()
        promise, first = foresight(q)
        begun = with_first(q, first)
        for name, plan, promised in (
            (names[0], fixed, fixed.objective),
            (names[1], begun, promise),
            (names[2], ours, ours.objective),
        ):
            costs = np.sort(plan.evaluate(fresh).sum(axis=1).to_numpy()) / size
            tail = float(costs[int(0.95 * len(costs)) :].mean())
            rows[name].append(
                (promised / size, costs.mean() + 0.5 * tail, costs.mean(), costs[int(0.95 * len(costs))], tail,
                 plan.first.cross)
            )  # fmt: skip
    lines = [
        "| form | promised E + ½ CVaR | kept, fresh scenarios | mean | Q95 | CVaR95 | crossed in the first slice |",
        "|" + "---|" * 7,
    ]
    for name, values in rows.items():
        a = np.mean(values, axis=0)
        lines.append(f"| {name} | {a[0]:.3f} | {a[1]:.3f} | {a[2]:.3f} | {a[3]:.3f} | {a[4]:.3f} | {a[5]:.0f} |")
    return lines


def quantiles(seeds: int) -> list[str]:
    """Return the line on the refinement towards the quantile."""
    better, held, gain, fresh_gain = 0, 0, [], []
    for seed in range(seeds):
        q = problem(200, 12, 300 + seed, tail_weight=3.0)
        plan = q.solve()
        test = scenarios(2000, 12, 8000 + seed)
        found = q.refine_to_quantile(plan, test)
        better += found.improved
        held += bool(found.held)
        gain.append((plan.q95 - found.plan.q95) / plan.quantity)
        both = [np.quantile(r.evaluate(test).sum(axis=1), 0.95) for r in (plan, found.plan)]
        fresh_gain.append((both[0] - both[1]) / plan.quantity)
    return [
        f"{seeds} programs (200 scenarios × 12 slices, λ₉₅ = 3): re-weighting lowered E + λ Q95 in {better}, and in "
        f"{held} of them also in 2 000 fresh scenarios. Q95 fell by {np.mean(gain):.3f} a spread in the scenarios "
        f"planned on, by {np.mean(fresh_gain):+.3f} in fresh ones."
    ]


def page(quick: bool) -> str:
    """Return the figures."""
    import clarabel
    import cvxpy

    parts = [
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, cvxpy {cvxpy.__version__}, Clarabel {clarabel.__version__}; one thread, CPU "
        f"seconds, medians over three draws, tolerance {TOL:.0e} for all, one run.",
        "## Against cvxpy and Clarabel",
        "\n".join(speed(quick)),
        "## In size",
        "\n".join(growth()),
        "## What the form is worth",
        "\n".join(forms(2 if quick else 10)),
        "## Towards the quantile",
        "\n".join(quantiles(3 if quick else 20)),
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Print the figures, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    text = page(options.quick)
    print(text)
    if options.write:
        old = PAGE.read_text()
        head, rest = old.split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
