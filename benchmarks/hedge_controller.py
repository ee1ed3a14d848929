"""Time what the controller's Python adds to its core, and what the core does to a replay, in one run.

    python benchmarks/hedge_controller.py            # print the page
    python benchmarks/hedge_controller.py --write    # also write docs/hedge/controller-speed.md

A step takes a report of the order before, a plan, prices that moved; it solves, rounds, checks and books an order.
"Added" is the step less the same solve timed in C, on the data that the step gave it and from the same warm start; its
trades are held against the step's to the last bit. Both are thread-CPU times. The same stream is run several times, and
the least time of each step counts: a busy machine interrupts a step now and then, not the same one each time. The
percentiles are over the steps. A plain loop of Python is timed beside it, as a scale for the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from mpc_speed import BUILDS, in_c

from crosswind.problems.hedge.controller import (
    HedgeController,
    HedgeInstrument,
    HedgeObservation,
    HedgeSetup,
    OrderReport,
)
from crosswind.problems.hedge.controller.ahead import PlannedPath
from crosswind.problems.hedge.controller.program import ControllerProgram
from crosswind.problems.hedge.controller.quotes import QuoteCheck

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((1, 1, 20), (1, 1, 60), (2, 1, 20), (2, 2, 20), (3, 3, 30))
PROFILED = ((1, 1, 20), (2, 2, 20), (3, 3, 30))
PASSES = 3  # of the core in one call of in_c
GOAL = (15.0, 40.0)  # design: what a step may add at p50 and p99 [µs]


Size = tuple[int, int, int]
Clock = Callable[[], int]


def controller_of(m: int, k: int, horizon: int) -> HedgeController:
    """Return the controller of m futures on k exposures."""
    futures = tuple(HedgeInstrument(f"F{j}", multiplier=50.0, clip=4e6, temporary=1e-11 * (1 + j)) for j in range(m))
    return HedgeController(
        HedgeSetup(
            futures,
            scale=1e7,
            risk_aversion=1e-5,
            covariance_per_s=1e-8 * (np.eye(k) + 0.5),
            exposures=tuple(f"x{i}" for i in range(k)),
            horizon=horizon,
            decay_per_s=np.array([1.0 / 120.0]),
            impact=np.eye(m)[None] * 1e-11,
            gap_cap=np.array(2e7),
        )
    )


def stream(controller: HedgeController, size: Size, count: int, clock: Clock = time.thread_time_ns) -> tuple[Any, Any]:
    """Return the time of each step [µs] and how often each rank answered; orders are filled by the next step."""
    m, k, horizon = size
    rng = np.random.default_rng(0)
    level = np.cumsum(1e6 * rng.normal(size=(count + horizon + 40, k)), axis=0)
    mids = 5000.0 * np.exp(np.cumsum(3e-4 * rng.normal(size=(count, m)), axis=0))
    us, ranks = np.zeros(count), dict[str, int]()
    reports: tuple[OrderReport, ...] = ()
    for s in range(count):
        plan, mid = level[s + 1 : s + 21 + horizon], tuple(mids[s].tolist())
        spread = tuple(0.125 / price for price in mid)  # half a tick of a quarter of a point
        seen = HedgeObservation(60.0 * s, tuple(level[s].tolist()), mid, spread, plan, reports)
        begin = clock()
        decision = controller.step(seen)
        us[s] = (clock() - begin) * 1e-3
        reports = tuple(OrderReport(o.id, o.contracts, True) for o in decision.orders)
        ranks[decision.rank.name] = ranks.get(decision.rank.name, 0) + 1
    return us, ranks


def asked(size: Size, count: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return what the stream asks of the core, and the trades that it answers."""
    controller, data, trades = controller_of(*size), list[dict[str, Any]](), []
    program = controller._program
    whole = program.calls[0]

    def call(shift: int, tol: float, work: int) -> Any:
        data.append({name: getattr(program, name).copy() for name in program.DATA})
        answer = whole(shift, tol, work)
        trades.append(program.trades.ravel().copy())
        return answer

    program.calls[0] = call
    stream(controller, size, count)
    return data, trades


def measured(size: Size, count: int, repeats: int, home: Path) -> tuple[list[str], float]:
    """Return a line: the core in C, the step, what it adds, at two percentiles; and what it adds on average [µs]."""
    data, trades = asked(size, count)
    model = controller_of(*size)._program.solvers[0].model
    core = total = np.full(count, np.inf)
    for _ in range(repeats):
        us, _, _, found = in_c(model, data, BUILDS["-O3 (as installed)"], home)
        if not all(np.array_equal(one, two) for one, two in zip(found, trades, strict=True)):
            raise SystemExit("the core in C did not answer as the controller's did")
        core = np.minimum(core, us)
        for _ in range(PASSES):
            us, ranks = stream(controller_of(*size), size, count)
            total = np.minimum(total, us)
    core, total = core[count // 10 :], total[count // 10 :]
    best = ranks.get("OPTIMAL", 0) / sum(ranks.values())
    cells = [f"{np.percentile(c, q):,.1f}" for c in (core, total, total - core) for q in (50, 99)]
    return [", ".join(map(str, size)), *cells, f"{100.0 * best:.2f} %"], float(np.mean(total - core))


PARTS: dict[str, tuple[type, str]] = {
    "book the reports": (HedgeController, "_take_reports"),
    "clock, fading impact, next slice": (HedgeController, "_pass_time"),
    "scale the plan": (PlannedPath, "keep"),
    "prices": (QuoteCheck, "take"),
    "fill the arrays": (ControllerProgram, "fill"),
    "rank": (HedgeController, "_ranked"),
    "lots, last check, orders, decision": (HedgeController, "_send"),
}


@contextmanager
def watched(owner: type, name: str, spent: list[int]) -> Iterator[None]:
    """Note the time of each call of a method [ns]."""
    whole, clock = getattr(owner, name), time.perf_counter_ns

    def timed(*args: Any) -> Any:
        begin = clock()
        out = whole(*args)
        spent.append(clock() - begin)
        return out

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, whole)


def parts(added: dict[Size, float], count: int, repeats: int) -> list[list[str]]:
    """Return lines: what the parts of a step take within it, the caches as the solve left them [µs a step]."""
    clock = time.perf_counter_ns
    empty = float(np.median([-(clock() - clock()) for _ in range(1000)]))
    table_, left = [], dict(added)
    for label, (owner, name) in PARTS.items():
        cells = []
        for size in added:
            least = np.inf
            for _ in range(repeats):
                spent: list[int] = []
                with watched(owner, name, spent):
                    stream(controller_of(*size), size, count)
                least = np.minimum(least, np.array(spent) - empty)
            took = float(np.sum(least)) / count / 1e3
            left[size] -= took
            cells.append(f"{took:.1f}")
        table_.append([label, *cells])
    return [*table_, ["the call into C and back, the step's own checks", *(f"{rest:.1f}" for rest in left.values())]]


def replays(count: int) -> list[list[str]]:
    """Return lines: CPU of a decision within a replay on the session and on the core."""
    from crosswind.problems.hedge import HedgeLeg, MPCHedge, episodes
    from crosswind.problems.hedge.state import HedgeAction, HedgeState
    from crosswind.problems.replay import ScheduledPolicy, replay

    class Watched(MPCHedge):
        spent, asked = 0, 0

        def decide(self, state: HedgeState) -> HedgeAction:
            begin = time.thread_time_ns()
            action = super().decide(state)
            Watched.spent += time.thread_time_ns() - begin
            Watched.asked += 1
            return action

    import pandas as pd

    lines, drawn = [], episodes("calm", count + 1, seed=3)
    for engine in ("session", "core"):
        least = []
        for _ in range(3):
            wealth = []
            for number, e in enumerate(drawn):
                if number == 1:  # the first one warms up
                    Watched.spent = Watched.asked = 0
                    begin = time.thread_time_ns()
                cash = ScheduledPolicy(pd.DataFrame(e.parent.executed_plan(e.market), columns=list(e.parent.names)))
                leg = HedgeLeg(e.parent, Watched(1e-3, 20, clip_share=0.3, engine=engine), e.beliefs, e.market)
                wealth.append(float(replay(e.market, {"cash": cash, "hedge": leg}, e.venue).wealth[-1]))
            whole = (time.thread_time_ns() - begin) / Watched.asked / 1e3
            least.append((whole, Watched.spent / Watched.asked / 1e3))
        whole, own = min(least)
        lines.append([engine, f"{own:,.0f}", f"{whole:,.0f}", wealth])
    apart = max(abs(a - b) / max(abs(a), 1.0) for a, b in zip(lines[0][3], lines[1][3], strict=True))
    ratio = [f"{float(lines[0][c].replace(',', '')) / float(lines[1][c].replace(',', '')):.1f}×" for c in (1, 2)]
    return [[*line[:3]] for line in lines] + [["ratio", *ratio], [f"wealth apart by at most {apart:.0e}", "", ""]]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def verdict(rows: list[list[str]]) -> str:
    """Return where the goal was reached, by the printed numbers."""
    told = []
    for name, most, column in (("median", GOAL[0], -3), ("99th percentile", GOAL[1], -2)):
        missed = [f"({row[0]}) with {row[column]}" for row in rows if not float(row[column]) < most]
        where = "in every row" if not missed else f"in {len(rows) - len(missed)} of {len(rows)} rows, not "
        told.append(f"less than {most:.0f} µs at the {name} is added {where}{' and '.join(missed)}")
    return f"The goal: {told[0]}; {told[1]}."


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/hedge/controller-speed.md")
    parser.add_argument("--steps", type=int, default=2000, help="steps per row (default: 2000)")
    parser.add_argument("--repeats", type=int, default=12, help="three runs of each stream each (default: 12)")
    parser.add_argument("--episodes", type=int, default=12, help="replayed episodes (default: 12)")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp())
    found = {size: measured(size, args.steps, args.repeats, home) for size in SIZES}
    rows = [line for line, _ in found.values()]
    profiled = {size: found[size][1] for size in PROFILED}
    loop = []
    for _ in range(2000):
        begin = time.perf_counter_ns()
        [x * x for x in range(100)]
        loop.append(time.perf_counter_ns() - begin)
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("numpy",))
    lines = [
        "# Speed of the controller",
        "",
        "Printed by `benchmarks/hedge_controller.py --write`. Thread-CPU times in µs. A step books the report of the "
        "order before, takes a new plan of the same length and prices that moved, solves the program, rounds to lots, "
        "checks every limit and books the order. The core is the same solve timed in C, from "
        "the same warm start, with the same trades to the last bit; what Python adds is the rest: its "
        "median and its 99th percentile over the steps, of the least "
        f"of {PASSES * args.repeats} runs of each step.",
        "",
        *table(
            ["instruments, exposures, slices", "core p50", "core p99", "step p50", "step p99", "added p50", "added p99",
             "OPTIMAL"], rows,
        ),
        "",
        f"A list of the squares of 0..99 takes {np.median(loop) / 1e3:.1f} µs in the same run: a scale for the "
        "machine.",
        "",
        verdict(rows),
        "",
        "Where the time goes, per step on average, each part timed within the running loop, so with the caches as the "
        "solve left them:",
        "",
        *table(["part", *(", ".join(map(str, size)) for size in profiled)], parts(profiled, args.steps // 2, 5)),
        "",
        f"`MPCHedge` in replays of {args.episodes} episodes of the world \"calm\", the horizon 20 slices, CPU time, "
        "the least of three runs; the whole replay includes the event kernel and the leg:",
        "",
        *table(["engine", "decision [µs]", "whole replay, per decision [µs]"], replays(args.episodes)),
        "",
        f"Python {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores.",
    ]  # fmt: skip
    page = "\n".join(lines) + "\n"
    print(page)
    if args.write:
        (ROOT / "docs" / "hedge" / "controller-speed.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
