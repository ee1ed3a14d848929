"""Replay the roll's baselines on simulated roll days and on recorded ones, and time the replay.

    python benchmarks/roll_replay.py            # print the page
    python benchmarks/roll_replay.py --write    # also write docs/roll/baselines.md

The recorded days are read from CROSSWIND_DATA, else from ../shared/data beside the project; without them their tables
are left out, and the page says so. Costs are currency per spread, positive: money lost. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
COSTS = ("mean", "median", "q95", "cvar95", "spread_fees", "impact", "basis_drift", "legging", "timing")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def policies() -> dict[str, Any]:
    """Return the baselines by label."""
    from crosswind.problems.roll.replay import (
        AdaptiveTwap,
        AllEarly,
        AllLate,
        Legged,
        PassiveThenCross,
        TwapSpread,
        VolumeFollowing,
    )

    return {
        "TWAP in the spread": TwapSpread(),
        "adaptive TWAP": AdaptiveTwap(),
        "passive, then forced": PassiveThenCross(),
        "volume following": VolumeFollowing(),
        "legged at once": Legged(),
        "legged, 60 s": Legged(max_let_s=60.0),
        "legged, 300 s": Legged(max_let_s=300.0),
        "all early": AllEarly(),
        "all late": AllLate(),
    }


def lines_of(compared: Any) -> list[str]:
    """Return the table of a comparison: costs, completion, and the paired difference of the mean."""
    t, d = compared.table(), compared.differences()
    rows = []
    for policy in compared.policies:
        line = t.loc[policy]
        gap = (
            ""
            if policy == compared.baseline
            else "{:+.2f} ({:+.2f} … {:+.2f})".format(
                *(d.loc[policy, name] for name in ("mean", "mean_low", "mean_high"))
            )
        )
        rows.append(
            [
                policy,
                *(f"{line[name]:.2f}" for name in COSTS),
                f"{line['completion']:.1%}",
                f"{line['forced_share']:.1%}",
                gap,
            ]
        )
    head = ["policy", *(name.replace("_", " ") for name in COSTS), "done", "forced", "mean less TWAP's"]
    return table(head, rows)


def simulated(orders: int, seed: int) -> tuple[list[str], dict[str, float]]:
    """Return the page's part on simulated days, and CPU seconds."""
    from crosswind.problems.roll.replay import STRESS_RATES, RollReplayConfig, compare_rolls, roll_episodes

    began = time.thread_time()
    drawn = roll_episodes(orders, seed=seed)
    spent = {"draw": (time.thread_time() - began) / orders}
    began = time.thread_time()
    compared = compare_rolls(drawn, policies(), RollReplayConfig())
    spent["replay"] = (time.thread_time() - began) / orders / len(policies())
    spent["bars"] = float(np.mean([episode.bars for episode in drawn]))
    rates = ", ".join(f"{name.replace('_', '-')} {rate:.0%}" for name, rate in STRESS_RATES.items())
    frame = compared.to_frame()
    text = [
        f"{orders:,} orders on {frame['block'].nunique():,} days of the world `roll_day@1`; stressed days: {rates}.",
        "",
        *lines_of(compared),
        "",
        "By stress: mean, q95, share crossed by force, least completion of an order.",
        "",
    ]
    by = compared.by("stress")
    stresses = list(dict.fromkeys(by.index.get_level_values("stress")))
    rows = []
    for policy in compared.policies:
        cells = [by.loc[(stress, policy)] for stress in stresses]
        rows.append(
            [policy]
            + [f"{c['mean']:.2f}, {c['q95']:.2f}, {c['forced_share']:.1%}, {c['least_completion']:.0%}" for c in cells]
        )
    text += table(["policy", *stresses], rows)
    worst = frame[["most_replaces", "over_cap"]].max()
    text += [
        "",
        f"In these {len(frame):,} replays the order was replaced at most {int(worst['most_replaces'])} times in a "
        "minute, no leg was left alone, and the components agreed with the ledger of fills in every one (else the "
        "replay raises).",
    ]
    return text, spent


def watched(orders: int, seed: int) -> tuple[list[str], float]:
    """Return the table by regime, and CPU seconds of a watched replay."""
    from crosswind.problems.roll.metrics import RollVolumeBaseline
    from crosswind.problems.roll.regimes import RegimeWatch
    from crosswind.problems.roll.replay import RollReplayConfig, compare_rolls, roll_episodes

    past = roll_episodes(20, seed=seed + 1000, orders_per_day=1, stress={})
    baseline = RollVolumeBaseline.fit([episode.market for episode in past], tz="America/New_York")
    some = {name: policy for name, policy in policies().items() if name in ("TWAP in the spread", "adaptive TWAP")}
    drawn = roll_episodes(orders, seed=seed)
    began = time.thread_time()
    compared = compare_rolls(drawn, some, RollReplayConfig(watch=RegimeWatch(baseline=baseline)))
    spent = (time.thread_time() - began) / orders / len(some)
    regimes = compared.by_regime.reset_index()
    rows = [
        [str(r["policy"]), str(r["regime"]), f"{r['contracts']:,.0f}", f"{r['cost']:.2f}"]
        for _, r in regimes.iterrows()
    ]
    return table(["policy", "regime of the decision", "spreads", "cost per spread"], rows), spent


def recorded(folder: Path, day: str) -> list[str]:
    """Return the table of one recorded day: orders of 200 and 2,000 spreads over two hours, every half hour."""
    from crosswind.problems.roll.replay import compare_rolls, real_roll_day

    text: list[str] = []
    for size in (200, 2000):
        orders = [
            real_roll_day(day, f"{9 + k // 2}:{30 * (k % 2):02d}", f"{11 + k // 2}:{30 * (k % 2):02d}", side * size,
                          data=folder, max_naked=size // 10)
            for k in range(1, 10)
            for side in (1, -1)
        ]  # fmt: skip
        # Orders overlap, so they are told apart by name; all of them are one day, and there is nothing to bootstrap.
        from dataclasses import replace

        named = [replace(o, name=f"{o.name} {o.order.side:+d}") for o in orders]
        compared = compare_rolls(named, policies(), draws=2)
        t = compared.table()
        rows = [
            [policy, *(f"{t.loc[policy, name]:.2f}" for name in COSTS), f"{t.loc[policy, 'completion']:.1%}",
             f"{t.loc[policy, 'forced_share']:.1%}"]
            for policy in compared.policies
        ]  # fmt: skip
        text += [
            f"{day}, {len(orders)} orders of {size:,} spreads over two hours, both sides; spread book "
            f"**{compared.sources[0]}**.",
            "",
            *table(["policy", *(name.replace("_", " ") for name in COSTS), "done", "forced"], rows),
            "",
        ]
    return text


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/roll/baselines.md")
    parser.add_argument("--orders", type=int, default=1600, help="simulated orders (default: 1600)")
    parser.add_argument("--watched", type=int, default=200, help="of them watched by the machine (default: 200)")
    parser.add_argument("--seed", type=int, default=8, help="seed (default: 8)")
    args = parser.parse_args()
    text, spent = simulated(args.orders, args.seed)
    regimes, took = watched(args.watched, args.seed)
    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data")) / "lean"
    days = [line for day in ("2013-12-18", "2013-12-02") for line in recorded(folder, day)] if folder.is_dir() else []
    lines = [
        "# Baselines of the roll",
        "",
        "Printed by `benchmarks/roll_replay.py --write`. Costs in currency per spread of the order, positive: money "
        "lost; they include fees of 2.40. [How a replay works](replay.md).",
        "",
        "## Simulated days",
        "",
        *text,
        "",
        f"By the regime in which the decision was taken, the first {args.watched} orders:",
        "",
        *regimes,
        "",
        "## Recorded days",
        "",
        "No exchange-quoted calendar spread is at hand: the legs are as recorded, the spread book is made up from "
        "them. What rests in a made-up book fills without bad luck in the price, for nobody traded there: the passive "
        "rows are no evidence. 12-18 is mostly after the roll, 12-02 before it.",
        "",
        *(days or ["The recorded days were absent when this page was printed.", ""]),
        "## Time",
        "",
        f"CPU per order: {1e3 * spent['draw']:.1f} ms to draw, {1e3 * spent['replay']:.1f} ms to replay "
        f"({spent['bars']:.0f} bars of 10 s on average), {1e3 * took:.1f} ms with metrics and regime machine, which "
        "also take in the session before the start.",
        "",
        f"Python {platform.python_version()}, numpy {metadata.version('numpy')}; {platform.machine()}.",
    ]
    page = "\n".join(lines) + "\n"
    print(page)
    if args.write:
        (ROOT / "docs" / "roll" / "baselines.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
