"""Time the pass that sums the moments of the impact fit, against what one would write with pandas or scipy.

    python benchmarks/gram_rate.py            # print the page
    python benchmarks/gram_rate.py --write    # also write docs/gram-rate.md

All sides get the same events in memory, one simulated day of 1 s buckets, and return Z'Z and r'Z; they run in turns in
one process with one BLAS thread, and are checked against each other. Medians; ratios of medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd
from scipy.linalg.blas import dsyrk
from scipy.signal import lfilter

from crosswind.problems.impact import StreamingGram, make_dictionary
from crosswind.problems.market import MarketEvents

ROOT = Path(__file__).resolve().parents[1]
NAMES, ROWS = 100, 23_400
LIVES = (1.0, 5.0, 25.0, 125.0, 625.0)


def day_of_events(names: int, rows: int, day: int = 0, seed: int = 0) -> MarketEvents:
    """Return a day of independent flow and returns: the pass does the same work on any numbers."""
    rng = np.random.default_rng(seed + day)
    start = pd.Timestamp("2024-03-04 14:30", tz="UTC") + pd.Timedelta(day, "D")
    index = pd.date_range(start + pd.Timedelta(1, "s"), periods=rows, freq="s")
    columns = [f"N{k:03d}" for k in range(names)]

    def frame(values: Any) -> pd.DataFrame:
        return pd.DataFrame(values, index, columns)

    flow = 1e5 * rng.standard_normal((rows, names))
    mid = 100.0 * np.exp(np.cumsum(1e-4 * rng.standard_normal((rows, names)), axis=0))
    one = np.ones((rows, names))
    volume, spread, depth = frame(np.abs(flow)), frame(0.01 * one), frame(1e5 * one)
    return MarketEvents(frame(flow), frame(mid), spread, volume, depth, 1.0, "America/New_York")


def ours(events: MarketEvents, lives: tuple[float, ...]) -> tuple[Any, Any]:
    """Sum in one pass."""
    dictionary = make_dictionary("exponential", events.bucket_s, lives)
    total = StreamingGram(dictionary).update(events).moments().total()
    return total.ZZ, total.rZ


def with_pandas(events: MarketEvents, lives: tuple[float, ...]) -> tuple[Any, Any]:
    """Decay by ``ewm``, differences, one wide table, two products."""
    parts = []
    for life in lives:
        alpha = 1.0 - 0.5 ** (events.bucket_s / life)
        state = events.flow.ewm(alpha=alpha, adjust=False).mean() / alpha
        # ewm starts at the first value; a state from rest starts at alpha times it.
        first = (1.0 / alpha - 1.0) * events.flow.iloc[0].to_numpy()
        state -= np.outer((1.0 - alpha) ** np.arange(len(state)), first)
        parts.append(state.diff().fillna(events.flow.iloc[[0]]))
    Z = pd.concat(parts, axis=1).iloc[1:].to_numpy()
    r = events.mid.pct_change().iloc[1:].to_numpy()
    return Z.T @ Z, r.T @ Z


def with_scipy(events: MarketEvents, lives: tuple[float, ...]) -> tuple[Any, Any]:
    """Decay by ``lfilter``, one wide array, two products."""
    u, mid = events.flow.to_numpy(), events.mid.to_numpy()
    parts = [lfilter([1.0, -1.0], [1.0, -(0.5 ** (events.bucket_s / life))], u, axis=0) for life in lives]
    Z, r = np.hstack(parts)[1:], mid[1:] / mid[:-1] - 1.0
    return Z.T @ Z, r.T @ Z


def product_alone(Z: Any) -> Any:
    """Do nothing but Z'Z, by the symmetric routine, with Z given."""
    return dsyrk(1.0, Z.T)


def medians(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each call, run in turns."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if turn:
                spent[name].append(time.perf_counter() - begun)
    return {name: float(np.median(values)) for name, values in spent.items()}


def peak_mb(days: int) -> float:
    """Return the peak memory of a pass over so many days of a small part each, above the part itself [MB]."""
    dictionary = make_dictionary("exponential", 1.0, LIVES)
    stream = StreamingGram(dictionary, max_blocks=2)
    stream.update(day_of_events(NAMES, 600, 0))
    tracemalloc.start()
    for day in range(1, days + 1):
        stream.update(day_of_events(NAMES, 600, day))
    stream.moments()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def page(repeats: int) -> str:
    """Measure and return the page."""
    events = day_of_events(NAMES, ROWS)
    sides = {"ours": ours, "scipy": with_scipy, "pandas": with_pandas}
    found = {name: side(events, LIVES) for name, side in sides.items()}
    worst = 0.0
    for name in ("scipy", "pandas"):
        for mine, theirs in zip(found["ours"], found[name], strict=True):
            worst = max(worst, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
    assert worst < 1e-9, worst
    Z = np.random.default_rng(1).standard_normal((ROWS, NAMES * len(LIVES)))
    calls: dict[str, Callable[[], Any]] = {
        name: (lambda side=side: side(events, LIVES)) for name, side in sides.items()
    }
    calls["Z'Z alone"] = partial(product_alone, Z)
    seconds = medians(calls, repeats)
    told = {
        "ours": "`StreamingGram.update(events)`",
        "scipy": "`lfilter` per shape, `Z.T @ Z`, `r.T @ Z`",
        "pandas": "`ewm` per shape, `concat`, `Z.T @ Z`, `r.T @ Z`",
        "Z'Z alone": "BLAS `dsyrk` on a Z that is there already",
    }
    lines = [
        "# How fast the moments are summed",
        "",
        "Printed by `benchmarks/gram_rate.py`: one pass over the events gives all that the impact fit reads, Z'Z,",
        f"r'Z, r'r and u'u. {NAMES} names, {len(LIVES)} decay shapes, {ROWS:,} buckets in memory, float64, one core",
        f"and one BLAS thread; medians of {repeats} runs in turns. All sides return the same Z'Z and r'Z, to",
        f"{worst:.0e} of the largest entry.",
        "",
        "| | rows a second | against ours |",
        "|---|---|---|",
    ]
    for name, spent in seconds.items():
        lines.append(f"| {told[name]} | {ROWS / spent:,.0f} | {spent / seconds['ours']:.2f} × the time |")
    lines += [
        "",
        "The last line is a bound for every method that forms the regressors Z: the recursion that makes them, and",
        "r'Z, come on top. Ours does not form them. For exponential shapes the M² blocks of Z'Z follow from M products",
        "of flow with decayed flow (`problems/impact/moments/sums.py` has the identity), so its work grows with M, not",
        "M². With few names or shapes there is less to gain:",
        "",
        "| names | shapes | ours, rows a second | scipy, rows a second | ratio |",
        "|---|---|---|---|---|",
    ]
    for names, shapes in ((20, 3), (50, 3), (100, 3), (100, 10), (200, 3)):
        small = day_of_events(names, 5_850)
        lives = tuple(float(2**k) for k in range(shapes))
        pair = medians({"ours": partial(ours, small, lives), "scipy": partial(with_scipy, small, lives)}, repeats)
        mine, theirs = 5_850 / pair["ours"], 5_850 / pair["scipy"]
        lines.append(f"| {names} | {shapes} | {mine:,.0f} | {theirs:,.0f} | {mine / theirs:.1f} |")
    few, many = peak_mb(4), peak_mb(12)
    lines += [
        "",
        f"Memory: with two blocks kept, a pass over 4 days allocates {few:.0f} MB at its peak, over 12 days {many:.0f}",
        f"MB ({NAMES} names, {len(LIVES)} shapes; the events that are made for it included).",
        "",
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{', '.join(f'{p} {metadata.version(p)}' for p in ('numpy', 'scipy', 'pandas'))}; {platform.machine()}, "
        f"{os.cpu_count()} cores, one used.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the page, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/gram-rate.md")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    text = page(arguments.repeats)
    print(text)
    if arguments.write:
        (ROOT / "docs" / "gram-rate.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
