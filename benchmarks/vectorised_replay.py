"""Time the vectorised replay against the event kernel on the episodes of the declared worlds, in one run.

    python benchmarks/vectorised_replay.py            # print the page
    python benchmarks/vectorised_replay.py --write    # also write docs/replay-speed.md

Every row replays the same episodes by the same rule: a fraction of the gap each slice, for several fractions. The event
kernel is timed on some of them, one after another, without the attribution; the vectorised replay on all, after it was
compiled. Where both ran, wealth and costs are held against each other. One BLAS thread; XLA may use every core. The
figures that travel between machines are the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

if TYPE_CHECKING:
    from crosswind.problems.hedge.worlds import Episode

ROOT = Path(__file__).resolve().parents[1]
WORLDS = ("calm", "stress", "rate_limited", "zero_impact")
FRACTIONS = (0.2, 0.4, 0.6, 0.8)


def event_kernel(episodes: Sequence[Episode], fraction: float) -> tuple[float, np.ndarray]:
    """Return seconds per episode and the final wealth of each."""
    import pandas as pd

    from crosswind.problems.hedge import FractionHedge, HedgeLeg
    from crosswind.problems.replay import ScheduledPolicy, replay

    wealth = []
    begin = time.perf_counter()
    for e in episodes:
        cash = ScheduledPolicy(pd.DataFrame(e.parent.executed_plan(e.market), columns=list(e.parent.names)))
        leg = HedgeLeg(e.parent, FractionHedge(fraction), e.beliefs, e.market)
        wealth.append(float(replay(e.market, {"cash": cash, "hedge": leg}, e.venue).wealth[-1]))
    return (time.perf_counter() - begin) / len(episodes), np.array(wealth)


def row(world: str, count: int, checked: int, repeats: int) -> list[str]:
    """Return a line of the table: one world."""
    from crosswind.problems.hedge.vectorised import batch
    from crosswind.problems.hedge.worlds import episodes

    drawn = episodes(world, count, seed=0)
    begin = time.perf_counter()
    laid = batch(drawn)
    policy = laid.fraction(FRACTIONS)
    lay_out = time.perf_counter() - begin
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        out = laid.run(policy)
        times.append(time.perf_counter() - begin)
    steady = float(np.median(times[1:]))
    runs = count * len(FRACTIONS)
    slow, worst = [], 0.0
    for p, fraction in enumerate(FRACTIONS):
        seconds, wealth = event_kernel(drawn[:checked], fraction)
        slow.append(seconds)
        scale = np.maximum(np.abs(wealth), 1e-6 * laid.notional[:checked])
        worst = max(worst, float((np.abs(out.replay.wealth[p, :checked] - wealth) / scale).max()))
    ours, theirs = steady / runs, float(np.median(slow))
    return [
        world,
        f"{count} × {len(FRACTIONS)}, {int(np.mean([e.market.slices for e in drawn]))}",
        f"{out.replay.window}",
        f"{1.0 / theirs:.0f}",
        f"{1.0 / ours:,.0f}",
        f"{theirs / ours:.0f}×",
        f"{theirs / ((steady + lay_out) / runs):.0f}×",
        f"{times[0] - steady:.1f}",
        f"{worst:.0e}",
    ]


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/replay-speed.md")
    parser.add_argument("--episodes", type=int, default=512, help="episodes per world (default: 512)")
    parser.add_argument("--checked", type=int, default=24, help="of them by the event kernel too (default: 24)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats (default: 5)")
    args = parser.parse_args()
    head = [
        "world",
        "episodes × parameters, mean slices",
        "window",
        "event kernel [episodes/s]",
        "vectorised [episodes/s]",
        "ratio",
        "ratio with laying out",
        "compiling, once [s]",
        "wealth, greatest difference (relative)",
    ]
    rows = [row(world, args.episodes, min(args.checked, args.episodes), args.repeats) for world in WORLDS]
    body = [head, ["---"] * len(head), *rows]
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("numpy", "pandas", "jax", "jaxlib"))
    lines = [
        "# Speed of the replay",
        "",
        "Printed by `benchmarks/vectorised_replay.py --write`: hedge episodes of declared worlds, with latency, "
        "jitter, participation, impact across instruments and the forced close, under a fraction rule with "
        f"{len(FRACTIONS)} parameters. The event kernel ran {min(args.checked, args.episodes)} of the episodes with "
        "every parameter, Python's work for the rule included; the vectorised replay ran all, without paths; median of "
        f"{args.repeats} runs. The window is the number of slices that orders are carried along, which grows where "
        "volume is short. The ratios travel between machines, the rest does not.",
        "",
        *("| " + " | ".join(line) + " |" for line in body),
        "",
        "Laying out is numpy's work before the first run: grids, draws of the venue and the hedge that is wanted at "
        "each slice. It and compiling are paid once for any number of parameters.",
        "",
        f"Python {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores.",
    ]
    page = "\n".join(lines) + "\n"
    print(page)
    if args.write:
        (ROOT / "docs" / "replay-speed.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
