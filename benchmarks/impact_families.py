"""When does which family or option of the impact estimator help? Simulated markets, spoiled ones, recorded equities.

    python benchmarks/impact_families.py            # print the page
    python benchmarks/impact_families.py --write    # also write docs/impact/families.md

The recorded data are read from CROSSWIND_DATA, else from ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd

import crosswind as cw
from crosswind.problems.impact import CrossImpact, DiagonalNNLS, ImpactEstimator, SeparableImpact, recovery
from crosswind.problems.market import MarketEvents

ROOT = Path(__file__).resolve().parents[1]
CHOICES: dict[str, Callable[[], ImpactEstimator]] = {
    "own flow, no cross terms": DiagonalNNLS,
    "exponential, default half-lives": CrossImpact,
    "exponential, fitted half-lives": lambda: CrossImpact(half_lives_s="fit"),
    "exponential, log grid": lambda: CrossImpact(half_lives_s="log-grid"),
    "free lags, convex": lambda: CrossImpact(kernel="convex"),
    "one decay for all, exponential": lambda: SeparableImpact(kernel="exponential"),
    "one decay for all, convex": SeparableImpact,
    "Huber loss": lambda: CrossImpact(loss="huber"),
    "power flow, exponent by validation": lambda: CrossImpact(transform="power", exponent="cv"),
    "sparse tail at 0.1": lambda: CrossImpact(sparse_threshold=0.1),
}


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]


def spoiled(events: MarketEvents, share: float, size: float, seed: int) -> MarketEvents:
    """Replace a share of the returns by prints of ``size`` standard deviations that stay in the price."""
    rng = np.random.default_rng(seed)
    returns = events.returns.to_numpy()
    sd = np.nanstd(returns, axis=0)
    wild = (rng.random(returns.shape) < share) * size * sd * rng.standard_normal(returns.shape)
    first = np.isnan(returns).all(axis=1)
    growth = np.where(first[:, None], 1.0, 1.0 + np.nan_to_num(returns) + wild)
    opens = np.flatnonzero(first)
    mid = np.empty_like(growth)
    for start, stop in zip(opens, [*opens[1:], len(growth)], strict=True):
        mid[start:stop] = events.mid.to_numpy()[start] * np.cumprod(growth[start:stop], axis=0)
    spread = events.spread * (mid / events.mid.to_numpy())
    return replace(events, mid=pd.DataFrame(mid, events.index, events.mid.columns), spread=spread)


def simulated(seeds: int, share: float = 0.0) -> list[str]:
    """Return the table on simulated markets, medians over seeds; scores are on the unspoiled last day."""
    figures: dict[str, list[list[float]]] = {label: [] for label in CHOICES}
    for seed in range(300, 300 + seeds):
        market = cw.read(f"sim:seed={seed}")
        days = market.events.days
        train, test = market.events.on(days[:-1]), market.events.on(days[-1:])
        if share:
            train = spoiled(train, share, 30.0, seed)
        for label, make in CHOICES.items():
            fit = make().fit(train)
            straight = fit.model_.transform is None
            found = recovery(fit.model_, market.truth) if straight else None
            nan = float("nan")
            cost = [nan] * 3 if found is None else [found.kernel_error, found.excess_cost, found.promised_over_realised]
            figures[label].append([*cost, fit.score(test), float(fit.score_by_name(test, 300.0).mean())])
    rows = []
    for label, values in figures.items():
        error, excess, promised, short, long = np.median(values, axis=0)
        cost = ["–"] * 3 if np.isnan(error) else [f"{error:.1%}", f"{excess:.2%}", f"{promised:.2f}"]
        rows.append([label, *cost, f"{short:.3f}", f"{long:.3f}"])
    return table(["", "kernel error", "excess true cost", "promised / realised", "R², 10 s", "R², 300 s"], rows)


def recorded(train: MarketEvents, test: MarketEvents, horizon_s: float) -> list[str]:
    """Return the table of scores on recorded data."""
    rows = []
    for label, make in CHOICES.items():
        fit = make().fit(train)
        by_name = fit.score_by_name(test, horizon_s)
        note = ""
        if isinstance(fit, CrossImpact) and fit.rate_search_ is not None:
            note = "half-lives " + ", ".join(f"{v:.3g}" for v in fit.rate_search_.half_lives_s) + " s"
        if isinstance(fit, CrossImpact) and fit.model_.transform is not None:
            note = f"exponent {fit.exponent_:g}"
        rows.append(
            [label, f"{fit.score(test):.3f}", f"{by_name.mean():.3f}", *(f"{v:.3f}" for v in by_name), note or " "]
        )
    short, long = (f"{s:g} s" for s in (train.bucket_s, horizon_s))
    return table(["", f"mean R², {short}", f"mean R², {long}", *(f"{n}, {long}" for n in train.names), "fitted"], rows)


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/impact/families.md")
    parser.add_argument("--seeds", type=int, default=7, help="simulated markets (default: 7)")
    args = parser.parse_args()
    lines = [
        "# Families and options side by side",
        "",
        "Printed by `benchmarks/impact_families.py --write`; nothing on this page is typed by hand. Every "
        "[family and option](estimator.md) with its defaults, the ridge chosen by validation, buckets of 10 s. Kernel "
        "error, excess cost and promised / realised are those of the [recovery study](../impact-recovery.md); a power "
        "of the flow has no schedule, hence no cost.",
        "",
        f"## Simulated markets, medians of {args.seeds} (linear truth, half-lives 30 and 600 s)",
        "",
        *simulated(args.seeds),
        "",
        f"## The same markets with 0.5 % wild prints in the training days, medians of {args.seeds}",
        "",
        "A print is 30 standard deviations of the name's returns in size; the day that is scored is clean.",
        "",
        *simulated(args.seeds, 0.005),
        "",
    ]
    data = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data"))
    if (data / "lean").is_dir():
        events = cw.read(f"lean:{data / 'lean'}").events
        train, test = events.on(events.days[:-1]), events.on(events.days[-1:])
        lines += ["## Recorded US equities (fitted on 2013-10-07 and 08, scored on 10-09)", ""]
        lines += [*recorded(train, test, 300.0), ""]
    if (data / "hftbacktest").is_dir():
        events = cw.read(f"binance-raw:{data / 'hftbacktest'}", bucket_s=1.0).events
        cut = events.index[len(events.index) // 2]
        train, test = events.between(events.index[0], cut), events.between(cut, events.index[-1])
        ratio = float((test.returns.std() / train.returns.std()).median())
        lines += ["## Six recorded minutes of Binance, fitted on the first half and scored on the second", ""]
        lines += [f"Returns of the second half are {ratio:.2g} times as wide (median over names).", ""]
        lines += [*recorded(train, test, 10.0), ""]
    lines += ["One recorded day is one draw; a difference in the third digit is none."]
    page = "\n".join(lines) + "\n"
    print(page)
    if args.write and (data / "lean").is_dir() and (data / "hftbacktest").is_dir():
        (ROOT / "docs" / "impact" / "families.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
