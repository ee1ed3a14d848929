"""Which half-lives should the default decay dictionary hold? Simulated markets and recorded equities.

    python benchmarks/decay_dictionary.py            # print the page
    python benchmarks/decay_dictionary.py --write    # also write docs/decay-dictionary.md

The recorded data are read from CROSSWIND_DATA, else from ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

import crosswind as cw
from crosswind.problems.impact import recovery
from crosswind.problems.impact.features import DEFAULT_HALF_LIVES_BUCKETS

ROOT = Path(__file__).resolve().parents[1]
BUCKET_S = 10.0
CHOICES = ((20.0, 200.0), (30.0, 600.0), (20.0, 120.0, 1200.0), (20.0, 200.0, 2000.0), (10.0, 100.0, 1000.0))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]


def label(choice: tuple[float, ...]) -> str:
    """Return the dictionary in words; the default is marked."""
    default = tuple(BUCKET_S * b for b in DEFAULT_HALF_LIVES_BUCKETS)
    return ", ".join(f"{s:g}" for s in choice) + (" (default)" if choice == default else "")


def simulated(seeds: int) -> list[str]:
    """Return the table on simulated markets, medians over seeds."""
    figures: dict[tuple[float, ...], list[list[float]]] = {choice: [] for choice in CHOICES}
    for seed in range(200, 200 + seeds):
        market = cw.read(f"sim:seed={seed}")
        days = market.events.days
        train, test = market.events.on(days[:-1]), market.events.on(days[-1:])
        for choice in CHOICES:
            fit = cw.CrossImpact(half_lives_s=choice, sectors=market.truth.sectors).fit(train)
            found = recovery(fit.model_, market.truth)
            r2 = [fit.score(test), float(fit.score_by_name(test, 300.0).mean())]
            figures[choice].append([found.kernel_error, found.excess_cost, found.promised_over_realised, *r2])
    rows = []
    for choice, values in figures.items():
        error, excess, promised, short, long = np.median(values, axis=0)
        rows.append([label(choice), f"{error:.1%}", f"{excess:.2%}", f"{promised:.2f}", f"{short:.3f}", f"{long:.3f}"])
    head = ["half-lives [s]", "kernel error", "excess true cost", "promised / realised", "R², 10 s", "R², 300 s"]
    return table(head, rows)


def recorded(folder: Path) -> list[str]:
    """Return the table on recorded equities: fitted on two days, scored on the third."""
    events = cw.read(f"lean:{folder}").events
    train, test = events.on(events.days[:-1]), events.on(events.days[-1:])
    rows = []
    for choice in CHOICES:
        fit = cw.CrossImpact(half_lives_s=choice).fit(train)
        by_name = fit.score_by_name(test, 300.0)
        rows.append([label(choice), f"{fit.score(test):.3f}", f"{by_name.mean():.3f}", *(f"{v:.3f}" for v in by_name)])
    return table(["half-lives [s]", "mean R², 10 s", "mean R², 300 s", *(f"{n}, 300 s" for n in events.names)], rows)


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/decay-dictionary.md")
    parser.add_argument("--seeds", type=int, default=12, help="simulated markets (default: 12)")
    args = parser.parse_args()
    lines = [
        "# The decay dictionary",
        "",
        "Printed by `benchmarks/decay_dictionary.py --write`; nothing on this page is typed by hand. Which half-lives "
        "the exponential family should hold when nothing is known: buckets of 10 s, out-of-sample R² of returns over "
        "10 s and over 300 s. Kernel error, excess cost and promised / realised are those of the [recovery "
        "study](impact-recovery.md).",
        "",
        f"## Simulated markets, medians of {args.seeds} (true half-lives 30 and 600 s)",
        "",
        *simulated(args.seeds),
        "",
    ]
    folder = Path(os.environ.get("CROSSWIND_DATA", ROOT.parent / "shared" / "data")) / "lean"
    if folder.is_dir():
        lines += ["## Recorded US equities (fitted on 2013-10-07 and 08, scored on 10-09)", "", *recorded(folder), ""]
    lines += [
        "Short horizons hardly tell the dictionaries apart; a schedule lives at the long ones. Without a slow mode the "
        "fit lets impact fade too early. A fast mode that is not there costs little, because the ridge also pulls each "
        "name's split over the modes to the common one. One recorded day is one draw.",
    ]
    page = "\n".join(lines) + "\n"
    print(page)
    if args.write and folder.is_dir():
        (ROOT / "docs" / "decay-dictionary.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
