"""What does a schedule to 1e-8 cost? The interior point over dense blocks in size, against Clarabel, and on hard cases.

Run ``python benchmarks/schedule_interior.py`` to print the figures, with ``--write`` to put them into
docs/basket/interior.md; ``--quick`` leaves out what takes minutes. One thread, CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import scipy
import scipy.sparse as sp

from crosswind.solvers.schedule import FactorSchedule, solve_schedule
from crosswind.solvers.schedule.instances import schedule_instance

PAGE = Path(__file__).resolve().parents[1] / "docs" / "basket" / "interior.md"
BEGIN, END = "<!-- figures: benchmarks/schedule_interior.py -->", "<!-- end of figures -->"
TOL = 1e-8
FRESH = 7000  # no seed from here on was looked at while the constants were set
SIZES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("one way", 100, 26, {}),
    ("one way", 500, 26, {}),
    ("both ways", 500, 26, {"two_sided": True}),
    ("limits on changes", 500, 26, {"change": 0.5}),
    ("soft end, λ = 1e4", 500, 26, {"risk_aversion": 1e4, "terminal": 100.0}),
    ("dense K, 500 × 500", 500, 26, {"dense": True}),
    ("one way", 500, 78, {}),
    ("one way", 3000, 26, {}),
]


def lifted(p: FactorSchedule) -> tuple[Any, ...]:
    """Write a one-way schedule as a careful user would: states, exposures to factors and loadings as variables.

    Returns P, c, A, low, high over x = (u, q, F'q, z and L'z of each mode).
    """
    T, N, f = p.slices, p.names, p.risk_loadings.shape[1]
    eye, back = sp.identity(T * N, format="csc"), sp.kron(sp.identity(T) - sp.eye(T, k=-1), sp.identity(N))
    sign = np.sign(p.upper + p.lower)
    sizes, P = [T * N, T * N, T * f], [sp.diags(2.0 * p.eta.ravel())]
    P += [sp.kron(sp.diags(2.0 * p.risk_weight), w) for w in (sp.diags(p.risk_own), sp.identity(f))]
    rows: list[tuple[dict[int, Any], Any, Any]] = []
    before = np.concatenate([p.start, np.zeros((T - 1) * N)])
    rows.append(({0: eye, 1: back}, before, before))
    rows.append(({1: sp.kron(sp.identity(T), p.risk_loadings.T), 2: -sp.identity(T * f)}, 0.0, 0.0))
    rows.append(({0: eye}, p.lower.ravel(), p.upper.ravel()))
    rows.append(({1: sp.kron(np.eye(T)[-1:], sp.identity(N))}, p.target, p.target))
    for m, L in enumerate(p.impact_loadings):
        at, r = len(sizes), L.shape[1]
        sizes += [T * N, T * r]
        P += [sp.kron(sp.diags(p.energy[m]), w) for w in (sp.diags(p.impact_own[m]), sp.identity(r))]
        carry = np.zeros((T, N))
        carry[0] = p.decays[m, 0] * p.impact_state[m]
        decay = sp.kron(sp.identity(T) - sp.diags(p.decays[m, 1:], -1), sp.identity(N))
        rows.append(({0: -eye, at: decay}, carry.ravel(), carry.ravel()))
        rows.append(({at: sp.kron(sp.identity(T), L.T), at + 1: -sp.identity(T * r)}, 0.0, 0.0))
    member = np.array([p.groups == g for g in range(p.group_caps.shape[1])], dtype=float)
    rows.append(({0: sp.kron(sp.identity(T), member) @ sp.diags(sign.ravel())}, -np.inf, p.group_caps.ravel()))
    rows.append(({1: sp.kron(sp.identity(T), p.band_vectors.T)}, p.band_lower.ravel(), p.band_upper.ravel()))
    parts, low, high = [], [], []
    for blocks, lo, hi in rows:
        width = next(iter(blocks.values())).shape[0]
        parts.append([blocks.get(k, sp.csc_matrix((width, size))) for k, size in enumerate(sizes)])
        low.append(np.broadcast_to(lo, width))
        high.append(np.broadcast_to(hi, width))
    c = np.zeros(sum(sizes))
    c[: T * N] = (p.linear + p.spread * sign).ravel()
    return sp.block_diag(P, format="csc"), c, sp.bmat(parts, format="csr"), np.concatenate(low), np.concatenate(high)


def clarabel(p: FactorSchedule) -> tuple[float, np.ndarray]:
    """CPU seconds of Clarabel at 1e-8, set-up included and lifting not, and its trades."""
    import clarabel as backend

    P, c, A, low, high = lifted(p)
    equal = low == high
    above, below = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
    stacked = sp.vstack([A[equal], A[above], -A[below]], format="csc")
    right = np.concatenate([low[equal], high[above], -low[below]])
    cones = [backend.ZeroConeT(int(equal.sum())), backend.NonnegativeConeT(int(above.sum() + below.sum()))]
    settings = backend.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    begun = time.process_time()
    out = backend.DefaultSolver(sp.triu(P, format="csc"), c, stacked, right, cones, settings).solve()
    return time.process_time() - begun, np.array(out.x)[: p.eta.size].reshape(p.eta.shape)


def timed(p: FactorSchedule) -> tuple[float, Any]:
    """Best of two."""
    best, out = np.inf, None
    for _ in range(2):
        begun = time.process_time()
        out = solve_schedule(p, TOL, method="interior")
        best = min(best, time.process_time() - begun)
    return best, out


def sizes(quick: bool) -> list[str]:
    """Return the table of sizes."""
    lines = ["| instance | N × T | CPU [s] | iterations | proven gap | worst violation | peak [MB] |", "|" + "---|" * 7]
    for label, names, slices, more in SIZES:
        if quick and names * slices > 20000:
            continue
        seconds, out = timed(schedule_instance(names, slices, **more))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        lines.append(
            f"| {label} | {names} × {slices} | {seconds:.2f} | {out.iterations} | {out.gap:.0e} | "
            f"{out.violations.worst:.0e} | {peak:.0f} |"
        )
    return lines


def rivals(quick: bool) -> list[str]:
    """Return the table against Clarabel."""
    lines = [
        "| N × T | ours [s] | Clarabel [s] | ratio | its cost above our bound | its worst violation |",
        "|" + "---|" * 6,
    ]
    for names, slices in ((100, 26),) if quick else ((100, 26), (500, 26)):
        p = schedule_instance(names, slices)
        mine, out = timed(p)
        theirs, u = clarabel(p)
        above = (p.objective(u) - out.lower_bound) / p.scale(out.u)
        lines.append(
            f"| {names} × {slices} | {mine:.2f} | {theirs:.1f} | **{theirs / mine:.0f}×** | {above:.0e} | "
            f"{p.violations(u).worst:.0e} |"
        )
    return lines


def hard(count: int) -> list[str]:
    """Return the line on instances not seen before, drawn over all options."""
    iterations, solved, worst, longest = [], 0, 0.0, 0.0
    for k in range(count):
        rng = np.random.default_rng(FRESH + k)
        p = schedule_instance(
            int(rng.integers(5, 80)),
            int(rng.integers(2, 27)),
            modes=int(rng.integers(1, 4)),
            rank=int(rng.integers(0, 8)),
            factors=int(rng.integers(0, 20)),
            sectors=int(rng.integers(1, 12)),
            empty_sectors=int(rng.integers(0, 4)),
            risk_aversion=10.0 ** rng.uniform(-4.0, 8.0),
            terminal=np.inf if rng.random() < 0.5 else 10.0 ** rng.uniform(-2.0, 8.0),
            cap=float(rng.uniform(1.0, 2.0)),
            band=10.0 ** rng.uniform(-5.0, -1.0),
            two_sided=bool(rng.random() < 0.5),
            change=None if rng.random() < 0.5 else float(rng.uniform(0.4, 2.0)),
            spread=float(rng.choice([0.0, 1.0, 10.0])),
            drift=float(rng.choice([0.0, 3.0])),
            seed=FRESH + k,
        )
        begun = time.process_time()
        out = solve_schedule(p, TOL, method="interior")
        longest = max(longest, time.process_time() - begun)
        good = out.gap <= TOL and out.violations.worst <= 1e-9
        solved += good
        iterations.append(out.iterations)
        worst = max(worst, out.gap)
        if not good:
            print(f"missed: seed {FRESH + k}, {out.summary()}")
    return [
        f"{solved} of {count} baskets drawn afresh over all options (λ from 1e-4 to 1e8, ends from 1e-2 to 1e8 and "
        f"hard, caps and bands that bind, limits on changes) reach 1e-8; "
        f"iterations: median {np.median(iterations):.0f}, largest {max(iterations)}; "
        f"largest gap {worst:.0e}, longest solve {longest:.2f} s."
    ]


def warm(count: int) -> list[str]:
    """Return the table of iterations from a neighbour's answer."""
    changes = {"λ × 1.1": 1.1, "λ × 2": 2.0, "λ × 10": 10.0}
    rows: dict[str, list[tuple[int, int]]] = {}
    for seed in range(count):
        base = schedule_instance(60, 13, two_sided=bool(seed % 2), seed=FRESH + seed)
        last = solve_schedule(base, TOL, method="interior")
        given = {f.name: getattr(base, f.name) for f in fields(base)}
        moved = base.start * (1.0 + 0.01 * np.random.default_rng(seed).standard_normal(60))
        near = {k: FactorSchedule(**{**given, "risk_weight": v * base.risk_weight}) for k, v in changes.items()}
        near["q_0 moved by 1 %"] = FactorSchedule(**{**given, "start": moved})
        for label, p in near.items():
            cold, begun = (solve_schedule(p, TOL, method="interior", warm=w) for w in (None, last))
            rows.setdefault(label, []).append((cold.iterations, begun.iterations))
    lines = ["| what changed | iterations cold | from the answer before |", "|" + "---|" * 3]
    for label, pairs in rows.items():
        cold_mean, warm_mean = np.mean(pairs, axis=0)
        lines.append(f"| {label} | {cold_mean:.1f} | {warm_mean:.1f} |")
    return lines


def report(quick: bool) -> str:
    """Return the figures."""
    import clarabel as backend

    lines = [
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"Clarabel {backend.__version__}; one thread, CPU seconds, the better of two runs; the peak is the process's.",
        "",
        *sizes(quick),
        "",
        "Clarabel at its 1e-8 on the program with states and exposures as variables, set-up included, lifting not:",
        "",
        *rivals(quick),
        "",
        *hard(20 if quick else 120),
        "",
        *warm(4 if quick else 16),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--write", action="store_true")
    given = options.parse_args()
    printed = report(given.quick)
    print(printed)
    if given.write:
        text = PAGE.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{printed}\n{END}{rest.split(END)[1]}", encoding="utf-8")
