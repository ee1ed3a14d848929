"""Count the cone programs of known optimum that each backend here solves to 1e-6 of our certificate.

    python benchmarks/cone_backends.py              # all that are installed
    python benchmarks/cone_backends.py copt xpress  # some

The programs are those of the tests: planted slacks and multipliers, second-order cones inside, at the surface and at
the apex, matrices of half rank, with linear and with quadratic objectives, in units of 1, 1e6 and 1e-5. "given" is the
solver's own point, "returned" the one after our Newton steps on its face, which only the commercial backends take.
One run each, one thread; milliseconds are medians of set-up and solve.
"""

from __future__ import annotations

import os
import platform
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

from crosswind.solvers import certify
from crosswind.solvers.backends import mosek, slack_form
from crosswind.solvers.backends.base import Options, guarded
from crosswind.solvers.errors import MissingDependency
from crosswind.solvers.registry import backend

ROOT = Path(__file__).resolve().parents[1]
CONES = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "solvers" / "cone_programs.py")))
NAMES = ("clarabel", "scs", "moreau", "ecos", "gurobi", "copt", "xpress", "cplex", "mosek")
SHAPES = {
    "soc": (("zq", 3), ("znqiah", 8), ("qqq", 3), ("zznnqq", 6), ("aan", 9)),
    "psd": (("p", 4), ("zp", 4), ("znqap", 12), ("pp", 7), ("zqp", 5)),
}
SEEDS = range(6)
UNITS = (1.0, 1e6, 1e-5)


def cases(kind: str, quadratic: bool) -> list[Any]:
    """Return the programs of one column."""
    return [
        CONES.planted(kinds, seed, n, quadratic, unit=unit)
        for kinds, n in SHAPES[kind]
        for seed in SEEDS
        for unit in UNITS
    ]


def count(name: str, programs: list[Any], stepping: bool) -> tuple[int, float]:
    """Return how many pass and the median milliseconds."""
    passed, spent = 0, []
    kept = slack_form.sharpened
    if not stepping:
        slack_form.sharpened = mosek.sharpened = lambda raw, *_: raw
    try:
        for case in programs:
            begin = time.perf_counter()
            raw = guarded(lambda case=case: backend(name).prepare(case.program, Options(1e-6)).solve(None, None))
            spent.append(1e3 * (time.perf_counter() - begin))
            if not isinstance(raw, Exception):
                passed += certify(case.program, raw.x, raw.y, s=raw.s).passes()
    finally:
        slack_form.sharpened = mosek.sharpened = kept
    return passed, float(np.median(spent))


def main(names: tuple[str, ...]) -> None:
    """Print the table as Markdown."""
    columns = [(kind, quadratic) for kind in SHAPES for quadratic in (False, True)]
    programs = {column: cases(*column) for column in columns}
    total = len(programs["soc", False])
    print(f"Passed of {total}, given → returned, median ms; {platform.processor() or platform.machine()}\n")
    print("| backend | version |", " | ".join(f"{k}, {'quadratic' if q else 'linear'}" for k, q in columns), "|")
    print("|---|---|" + "---|" * len(columns))
    for name in names:
        try:
            found = backend(name)
        except MissingDependency:
            continue
        cells = []
        for column in columns:
            if not found.takes(programs[column][0].program):
                cells.append("–")
                continue
            given, _ = count(name, programs[column], False)
            returned, milliseconds = count(name, programs[column], True)
            cells.append(f"{given} → {returned}, {milliseconds:.1f}")
        print(f"| {name} | {found.version()} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or NAMES)
