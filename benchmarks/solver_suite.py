"""Run every open solver on the two hundred regular and degenerate programs and show where its word is not ours.

    python benchmarks/solver_suite.py            # print the page
    python benchmarks/solver_suite.py --write    # also write docs/solver-suite.md

Bare backends, once each, at 1e-6 by our certificate, in processes of their own with a limit of ten seconds. qpax is
left out: it compiles for every new shape, and the programs have two hundred.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pandas as pd

from crosswind.solvers.bench import Plan, run_bench
from crosswind.solvers.bench.machine import machine_facts
from crosswind.solvers.bench.tables import markdown

ROOT = Path(__file__).resolve().parents[1]
HALVES = ("regular", "degenerate")
SOLVERS = (
    "piqp", "clarabel", "osqp", "scs", "proxqp", "daqp", "highs", "qpalm", "qoco", "quadprog", "ecos",
)  # fmt: skip
ACCURACY = 1e-6


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per solver: what it solved of each half, what it claimed wrongly, how far objectives are off."""
    out = {}
    for solver, part in rows.groupby("solver"):
        row: dict[str, float] = {}
        for half in HALVES:
            some = part[part["suite"] == half]
            row[f"{half}: solved [%]"] = 100.0 * float(some["success"].astype(bool).mean())
            row[f"{half}: claimed but wrong"] = int(some["claimed_wrong"].sum())
        won = part[part["success"].astype(bool)]
        row["worst objective error"] = float(won["objective_error"].max())
        row["crashed, killed or raised"] = int((part["outcome"] != "ran").sum())
        out[solver] = row
    best = pd.DataFrame.from_dict(out, orient="index").rename_axis("solver")
    return best.sort_values([f"{half}: solved [%]" for half in HALVES], ascending=False, kind="stable")


def disagreements(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per answer whose claim our certificate or our proofs do not bear out."""
    wrong = rows[rows["claimed_wrong"].astype(bool)]
    columns = ["solver", "suite", "case", "word", "status", "primal_rel", "dual_rel", "gap_rel", "objective_error"]
    return wrong[columns].sort_values(columns[:3]).rename(columns={"word": "its word", "status": "ours"})


def page(rows: pd.DataFrame) -> str:
    """Return the page as Markdown."""
    facts = machine_facts()
    versions = ", ".join(f"{name} {part['version'].iloc[0]}" for name, part in rows.groupby("solver"))
    wrong = disagreements(rows)
    return "\n".join(
        [
            "# Two hundred programs",
            "",
            "Printed by `benchmarks/solver_suite.py --write`: the suites `regular` and `degenerate`, a hundred small",
            f"programs each, every one with a solution. Bare backends asked once for {ACCURACY:.0e}, judged by our",
            "certificate; `solve()` would ask again, tighter, where a claim does not pass. *Objective error* is the",
            "distance to the best certified objective of any solver, relative to it, where our certificate passes. The",
            "accuracy asked is relative to the terms of the cost: where these cancel, it is more of the optimum.",
            "",
            markdown(table(rows)),
            "",
            "## Where a word is not ours",
            f"{len(wrong)} of {len(rows)} answers claim what is not so: called solved with residuals, a gap or a bound",
            "that do not pass, or called infeasible or unbounded though a solution exists.",
            "",
            markdown(wrong.set_index("solver")),
            "",
            f"{facts['processor']}, {facts['cores']} cores, one thread a solver; Python {facts['versions']['python']}, "
            f"numpy {facts['versions']['numpy']}; {versions}.",
            "",
        ]
    )


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description="Run every open solver on regular and degenerate programs.")
    parser.add_argument("--write", action="store_true", help="write docs/solver-suite.md")
    args = parser.parse_args()
    plan = Plan(HALVES, SOLVERS, ("cold",), (ACCURACY,), time_limit_s=10.0, repeats=1)
    with tempfile.TemporaryDirectory() as folder:
        text = page(run_bench(plan, folder).to_frame())
    print(text)
    if args.write:
        (ROOT / "docs" / "solver-suite.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
