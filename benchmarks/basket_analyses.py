"""What the analyses of a large basket cost beside one solve: prints the table of docs/basket/analyses.md.

Run: python benchmarks/basket_analyses.py [names]
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import crosswind as cw
from crosswind.problems.basket import (
    FactorCovariance,
    FactorImpact,
    ScheduleSession,
    analysis,
    compare,
    session_slices,
    standard_strategies,
)


def basket(names: int, seed: int = 1) -> cw.BasketProblem:
    """Return a two-sided basket of 26 slices under sector caps, impact and risk as a diagonal and a few factors."""
    rng = np.random.default_rng(seed)
    labels = [f"S{i:04d}" for i in range(names)]
    volume, sd = np.exp(rng.normal(np.log(2e8), 1.0, names)), rng.uniform(0.01, 0.025, names)
    order = pd.Series(rng.choice([-1.0, 1.0], names) * rng.uniform(0.002, 0.05, names) * volume, labels)
    sectors = pd.Series(rng.choice(list("ABCDEFGHIJK"), names), labels)
    own, part = 10.0 * sd / volume, np.array([0.6, 0.4])
    shared = (rng.normal(0.0, 0.25, (names, 5)) + 0.2) * np.sqrt(own)[:, None]
    betas = pd.DataFrame(rng.normal(0.0, 0.3, (names, 20)), labels)
    betas[0] = 0.6
    times = session_slices("2024-03-04", "09:30", "16:00", 900.0, "America/New_York")
    smile = 0.6 + 1.6 * np.linspace(-1.0, 1.0, len(times)) ** 2
    return cw.BasketProblem(
        inventory=order,
        model=FactorImpact(
            tuple(labels),
            np.log(2.0) / np.array([120.0, 1800.0]),
            np.outer(part, own),
            tuple(np.sqrt(p) * shared for p in part),
        ),
        times=times,
        slice_s=900.0,
        volume=pd.DataFrame(np.outer(smile / smile.sum(), volume), times, labels),
        covariance=FactorCovariance(
            betas.mul(sd, axis=0),
            pd.DataFrame(np.eye(20) / 23_400.0, betas.columns, betas.columns),
            pd.Series(0.5 * sd**2 / 23_400.0, labels),
        ),
        spread=pd.Series(rng.uniform(1e-4, 5e-4, names), labels),
        risk_aversion=1e-7,
        participation=0.15,
        sectors=sectors,
        sector_cap=2.0 * order.abs().groupby(sectors).sum() / len(times),
    )


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor's seconds of one call, and what it gave."""
    start = time.process_time()
    made = run()
    return time.process_time() - start, made


def main(names: int = 500) -> None:
    """Print one row per analysis."""
    problem = basket(names)
    problem.solve()  # imports and first calls are paid once
    once, schedule = timed(problem.solve)
    bound = analysis.own_impact_bound(problem.model, 0.5)
    states = analysis.market_scenarios(20, seed=0, volatility_sd=0.6, correlation=-0.5)
    trades = schedule.trades
    session = ScheduleSession(problem)
    fills = 0.9 * session.next_slice
    listed: dict[str, Callable[[], Any]] = {
        "ten schedules compared": lambda: compare(problem, standard_strategies(problem), include_standard=False),
        "cost by pair of names": lambda: analysis.split_costs(problem, trades),
        "marginal costs in parts": lambda: analysis.decompose_marginal_costs(schedule),
        "frontier of 15 points, gaps of 1e-6": lambda: analysis.efficient_frontier(problem, points=15, tol=1e-6),
        "five scenarios, kept and re-optimised": lambda: analysis.scenario_table(problem),
        "cost by four horizons": lambda: analysis.cost_curve(problem),
        "capacity to 1 %": lambda: analysis.capacity_within(problem, 20.0, tol=0.01),
        "robust against own impact x 1.5": lambda: analysis.robust_schedule(problem, bound),
        "CVaR over 20 scenarios, gap of 1e-5": lambda: analysis.cvar_schedule(problem, states, level=0.8, tol=1e-5),
        "a step of a session, a tenth unfilled": lambda: session.step(problem.times[1], fills),
    }
    print(f"{names} names x {problem.n_slices} slices, one thread; Python {platform.python_version()}, ", end="")
    print(f"{platform.machine()}. One solve to {schedule.certificate.gap_rel:.0e}: {once:.2f} s of the processor.\n")
    print("| analysis | processor [s] | solves' worth |\n| --- | --- | --- |")
    for label, run in listed.items():
        seconds, _ = timed(run)
        print(f"| {label} | {seconds:.2f} | {seconds / once:.1f} |")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
