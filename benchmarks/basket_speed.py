"""How fast are certified basket schedules? The structured solvers against cvxpy and sparse solvers, and in size.

Run ``python benchmarks/basket_speed.py`` to print the page, with ``--write`` to put it into docs/basket-speed.md;
``--quick`` leaves out what takes minutes; ``--rows FILE`` keeps each cell, so that a stopped run goes on. Every cell
runs in a process of its own with one thread; times are CPU seconds of one cold solve, the formulation's build included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).resolve().parents[1] / "docs" / "basket-speed.md"
ONE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
PATIENCE = 400.0  # wall seconds after which a cell is stopped
REPEATS = 3  # of ours, whose median is shown
SEED = 7000  # seeds below were looked at while constants were tuned
HELD_OUT = 120
ROWS: dict[str, Any] = {}
FILE: Path | None = None


def cpu() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak() -> float:
    """Return the largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def held_out(case: int) -> dict[str, Any]:
    """Return the arguments of one held-out instance: tight caps and bands, extreme λ and ends, all options."""
    rng = np.random.default_rng(SEED + 1000 + case)
    return {
        "names": int(rng.choice([20, 50, 100, 200, 400])),
        "slices": int(rng.choice([5, 13, 26, 52])),
        "modes": int(rng.choice([0, 1, 2, 2, 3])),
        "risk_aversion": float(10.0 ** rng.uniform(-2.0, 4.0)),
        "terminal": float(rng.choice([np.inf, 1.0, 1e3, 1e6])),
        "cap": float(rng.choice([1.02, 1.1, 1.3, np.inf])),
        "band": float(rng.choice([2e-4, 2e-3, 2e-2, np.inf])),
        "empty_sectors": int(rng.choice([0, 3, 18])),
        "spread": float(rng.choice([0.0, 1.0, 10.0])),
        "two_sided": bool(rng.random() < 0.4),
        "dense": bool(rng.random() < 0.15),
        "drift": float(rng.choice([0.0, 1.0])),
        "seed": int(SEED + 5000 + case),
    }


def cell(task: dict[str, Any]) -> dict[str, Any]:
    """Run one cell in this process."""
    from crosswind.solvers.schedule import solve_schedule
    from crosswind.solvers.schedule.instances import schedule_instance
    from crosswind.solvers.threads import one_blas_thread

    make = {k: float(v) if v == "inf" else v for k, v in task["instance"].items()}
    problem = schedule_instance(make.pop("names"), make.pop("slices"), **make)
    if task["who"] == "ours":
        solve_schedule(schedule_instance(10, 4), 1e-3)  # imports and the search for BLAS are paid once a process
        before, times = peak(), []
        for _ in range(task.get("repeats", 1)):
            begun = cpu()
            got = solve_schedule(problem, task["tol"], method=task["method"], time_limit=task.get("limit"))
            times.append(cpu() - begun)
        return {
            "seconds": float(np.median(times)),
            "gap": got.gap,
            "status": got.status.name,
            "iterations": got.iterations,
            "objective": got.objective,
            "bound": got.lower_bound,
            "violation": problem.violations(got.u).worst,
            "finite": bool(np.isfinite(got.u).all()),
            "peak_mb": peak(),
            "before_mb": before,
        }
    if task["who"] == "next":
        return next_slice(problem, task)
    import basket_rivals as rivals

    shape = (problem.slices, problem.names)
    with one_blas_thread():
        begun = cpu()
        if task["who"] == "cvxpy":
            import cvxpy  # noqa: F401

            begun = cpu()
            model, u = rivals.careful_cvxpy(problem)
            model.solve(solver="CLARABEL")
            found, status = np.asarray(u.value), str(model.status)
        else:
            solver = {"clarabel": rivals.run_clarabel, "osqp": rivals.run_osqp, "piqp": rivals.run_piqp}[task["who"]]
            __import__(task["who"])
            begun = cpu()
            x, status = solver(rivals.lifted(problem), task["tol"], PATIENCE - 60.0)
            found = x[: shape[0] * shape[1]].reshape(shape)
        seconds = cpu() - begun
    finite = bool(np.isfinite(found).all())
    return {
        "seconds": seconds,
        "status": status,
        "objective": problem.objective(found) if finite else float("inf"),
        "scale": problem.scale(found) if finite else 1.0,
        "violation": problem.violations(found).worst if finite else float("inf"),
        "peak_mb": peak(),
    }


def next_slice(problem: Any, task: dict[str, Any]) -> dict[str, Any]:
    """Trade the first slice with fills a little off the plan, then re-solve what is left warm and cold."""
    from dataclasses import replace

    from crosswind.solvers.schedule import solve_schedule

    rng = np.random.default_rng(1)
    plan = solve_schedule(problem, task["tol"], method=task["method"])
    fill = plan.u[0] * (1.0 + 0.02 * rng.standard_normal(problem.names))
    fill = np.clip(fill, problem.lower[0], problem.upper[0])
    state = np.array([problem.decays[m, 0] * problem.impact_state[m] + fill for m in range(problem.modes)])
    later = replace(
        problem,
        start=problem.start - fill,
        eta=problem.eta[1:],
        spread=problem.spread[1:],
        linear=problem.linear[1:],
        lower=problem.lower[1:],
        upper=problem.upper[1:],
        decays=problem.decays[:, 1:],
        impact_state=state,
        risk_weight=problem.risk_weight[1:],
        group_caps=problem.group_caps[1:],
        band_lower=problem.band_lower[1:],
        band_upper=problem.band_upper[1:],
    )
    out: dict[str, Any] = {}
    for label, warm in (("cold", None), ("warm", plan.state.shifted())):
        begun = cpu()
        got = solve_schedule(later, task["tol"], method=task["method"], warm=warm)
        out[label] = {"seconds": cpu() - begun, "gap": got.gap, "iterations": got.iterations, "status": got.status.name}
    begun = cpu()
    solve_schedule(later, task["tol"], method=task["method"], warm=plan.state.shifted(), max_iter=1)
    out["least"] = cpu() - begun
    return out


def run(**task: Any) -> dict[str, Any]:
    """Run one cell in a process of its own, or take it from the rows kept; {} where it was stopped or failed."""
    task["instance"] = {k: "inf" if v == float("inf") else v for k, v in task["instance"].items()}
    key = json.dumps(task, sort_keys=True)
    if key in ROWS:
        return dict(ROWS[key])
    print("…", key, file=sys.stderr, flush=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--cell", key]
    try:
        done = subprocess.run(
            command, env=os.environ | ONE, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        ROWS[key] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print("  stopped:", type(error).__name__, str(getattr(error, "stderr", ""))[-300:], file=sys.stderr, flush=True)
        ROWS[key] = {}
    print("  ", ROWS[key], file=sys.stderr, flush=True)
    if FILE is not None:
        FILE.write_text(json.dumps(ROWS, indent=0))
    return dict(ROWS[key])


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
    )


def brief(seconds: float) -> str:
    """Return seconds with two digits that count."""
    return f"{seconds:.3f}" if seconds < 0.1 else f"{seconds:.2f}" if seconds < 10.0 else f"{seconds:.0f}"


def against(quick: bool) -> str:
    """Compare with what a user would run today."""
    blocks = []
    for names, slices in ((100, 26),) if quick else ((100, 26), (500, 26), (500, 78)):
        instance = {"names": names, "slices": slices, "seed": SEED}
        ours = {
            (method, tol): run(who="ours", method=method, tol=tol, instance=instance, repeats=REPEATS)
            for method, tol in (("interior", 1e-8), ("admm", 1e-8), ("admm", 1e-6), ("admm", 1e-4))
        }
        best = ours["interior", 1e-8]
        rows = []
        for (method, tol), got in ours.items():
            rows.append(
                [
                    f"**ours, {method}, {tol:.0e}**",
                    brief(got["seconds"]),
                    f"{got['gap']:.0e}, proven",
                    f"{got['violation']:.0e}",
                    got["status"],
                    f"{got['peak_mb']:.0f}",
                    "–",
                    "–",
                ]
            )
        rivals = [("cvxpy, careful, Clarabel", "cvxpy", 1e-8)] if slices == 26 else []
        rivals += [
            (f"lifted, {name}, {tol:.0e}", name.lower(), tol)
            for name, tol in (("Clarabel", 1e-8), ("Clarabel", 1e-4), ("PIQP", 1e-8), ("PIQP", 1e-4), ("OSQP", 1e-4))
            if slices == 26 or name == "Clarabel"  # the others take many minutes there
        ]
        for label, who, tol in rivals:
            got = run(who=who, tol=tol, instance=instance)
            if not got:
                rows.append([label, f"none in {PATIENCE:.0f} s or out of memory", *["–"] * 6])
                continue
            off = (got["objective"] - best["objective"]) / got["scale"]
            precise, loose = ours["admm", 1e-8]["seconds"], ours["admm", 1e-4]["seconds"]
            rows.append(
                [
                    label,
                    brief(got["seconds"]),
                    f"{off:+.0e}",
                    f"{got['violation']:.0e}",
                    got["status"].replace("Status.", ""),
                    f"{got['peak_mb']:.0f}",
                    f"**{got['seconds'] / precise:.0f}×**",
                    f"**{got['seconds'] / loose:.0f}×**",
                ]
            )
        head = ["", "CPU [s]", "gap", "violation", "status", "peak [MB]", "to admm at 1e-8", "to admm at 1e-4"]
        blocks.append(f"### {names} names × {slices} slices\n\n" + table(head, rows))
    return "\n\n".join(blocks)


def sizes(quick: bool) -> str:
    """Our own growth with N and T."""
    grid = [(n, t) for n in (250, 500, 1000, 3000) for t in (26, 78, 390)]
    if quick:
        grid = [(250, 26), (500, 26)]
    times: dict[float, dict[tuple[int, int], float]] = {1e-4: {}, 1e-6: {}}
    rows = []
    for names, slices in grid:
        row = [f"{names} × {slices}"]
        for tol in times:
            instance = {"names": names, "slices": slices, "seed": SEED + 1}
            got = run(who="ours", method="admm", tol=tol, instance=instance, limit=120.0, repeats=1)
            if not got:
                row += ["stopped", "–", "–", "–"]
                continue
            if got["status"] == "OPTIMAL":
                times[tol][names, slices] = got["seconds"]
            row += [brief(got["seconds"]), str(got["iterations"]), f"{got['gap']:.0e}", f"{got['peak_mb']:.0f}"]
        rows.append(row)
    head = ["N × T", *["CPU [s]", "iterations", "proven gap", "peak [MB]"] * 2]
    text = table(head, rows)
    for tol, known in times.items():
        if len(known) < 4:
            continue
        logs = np.array([[1.0, np.log(n), np.log(t)] for n, t in known])
        fitted = np.linalg.lstsq(logs, np.log(list(known.values())), rcond=None)[0]
        text += f"\n\nAt {tol:.0e}, time grows as N^{fitted[1]:.2f} T^{fitted[2]:.2f} (least squares over the grid)."
    text += """

One step costs N·T for the recursions over cells and T·p³ for the p exposures of factors, bands and impact, the same for
all N: less than proportional in N where that second part counts. In T the table shows the rest: the number of steps
grows unevenly with T, most at 1e-6, because a trade early in a long day is felt by every band after it."""
    return text


def dense(quick: bool) -> str:
    """K of full rank."""
    rows = []
    for names, slices in ((100, 26),) if quick else ((100, 26), (500, 26), (500, 78)):
        instance = {"names": names, "slices": slices, "dense": True, "seed": SEED + 2}
        for method, tol in (("admm", 1e-4), ("admm", 1e-6), ("interior", 1e-8)):
            got = run(who="ours", method=method, tol=tol, instance=instance, limit=120.0)
            if got:
                cells = [brief(got["seconds"]), str(got["iterations"]), f"{got['gap']:.0e}", got["status"]]
            else:
                cells = ["stopped", "–", "–", "–"]
            rows.append([f"{names} × {slices}", f"{method}, {tol:.0e}", *cells])
    return table(["N × T", "method", "CPU [s]", "iterations", "proven gap", "status"], rows)


def robust(quick: bool) -> str:
    """Run instances that no constant was tuned on."""
    rows = []
    count = 12 if quick else HELD_OUT
    for method, tol in (("admm", 1e-4), ("admm", 1e-8), ("interior", 1e-8)):
        found = [run(who="ours", method=method, tol=tol, instance=held_out(i), limit=60.0) for i in range(count)]
        ran = [got for got in found if got]
        good = [got for got in ran if got["status"] == "OPTIMAL"]
        rows.append(
            [
                f"{method}, {tol:.0e}",
                f"**{len(good)} of {count}**",
                str(count - len(ran)),
                str(sum(not got["finite"] for got in ran)),
                f"{max(got['violation'] for got in ran):.0e}",
                brief(float(np.median([got["seconds"] for got in good]))),
                brief(float(np.quantile([got["seconds"] for got in good], 0.9))),
                f"{np.median([got['iterations'] for got in good]):.0f}",
                ", ".join(f"{got['gap']:.0e}" for got in ran if got["status"] != "OPTIMAL") or "–",
            ]
        )
    head = ["method", "certified", "died", "not finite", "worst violation", "median [s]", "p90 [s]", "iterations"]
    return table([*head, "gaps of the others"], rows)


def again(quick: bool) -> str:
    """Re-solve after one slice, from the former state and cold."""
    rows = []
    for names, slices in ((100, 26),) if quick else ((500, 26), (500, 78), (3000, 78)):
        for tol in (1e-4, 1e-6):
            instance = {"names": names, "slices": slices, "seed": SEED + 3}
            got = run(who="next", method="admm", tol=tol, instance=instance)
            if not got:
                rows.append([f"{names} × {slices}", f"{tol:.0e}", "stopped", *["–"] * 5])
                continue
            cold, warm = got["cold"], got["warm"]
            rows.append(
                [
                    f"{names} × {slices}",
                    f"{tol:.0e}",
                    brief(cold["seconds"]),
                    brief(warm["seconds"]),
                    brief(got["least"]),
                    f"**{cold['seconds'] / max(warm['seconds'], 1e-9):.1f}×**",
                    f"{cold['iterations']} / {warm['iterations']}",
                    f"{cold['gap']:.0e} / {warm['gap']:.0e}",
                ]
            )
    return table(["N × T", "tol", "cold [s]", "warm [s]", "one step [s]", "ratio", "iterations", "proven gaps"], rows)


def page(quick: bool) -> str:
    """Return the page."""
    import clarabel
    import cvxpy
    import osqp
    import piqp
    import scipy

    from crosswind.solvers import native

    packages = {"numpy": np, "scipy": scipy, "cvxpy": cvxpy, "Clarabel": clarabel, "OSQP": osqp, "PIQP": piqp}
    versions = ", ".join(f"{name} {package.__version__}" for name, package in packages.items())
    return f"""# Speed of certified basket schedules

Printed by `benchmarks/basket_speed.py --write`; nothing on this page is typed by hand.

{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}; recursions in
{"C" if native.COMPILED else "numpy"}. One thread everywhere; CPU seconds of one cold solve in a process of its own, the
build of the formulation included (ours: median of {REPEATS} in the first section). Instances are those of
`crosswind.solvers.schedule.instances`: M = 2 decays, K = diagonal + rank 5, 20 risk factors, 11 sectors with caps, two
bands, a hard end. Our gap is proven: (objective − lower bound) over the sum of the cost's absolute parts, for trades
that keep every limit to 1e-9 of its size. Another solver's gap is its objective against ours at 1e-8, by the same
measure and as its iterate stands; its violation is what it breaks the limits by. Peaks are of the whole process.
The splitting (admm) is the faster one at every accuracy here; the interior point takes limits on the change of trades,
which the splitting refuses, and its prices balance the marginal costs to more digits.

## Against what a user would run today

{against(quick)}

## Size

Left to a certified 1e-4, right to 1e-6.

{sizes(quick)}

## Full K

K of full rank N in each mode, by its Cholesky factor.

{dense(quick)}

## Held-out cases

{12 if quick else HELD_OUT} instances that nothing was tuned on: 20 to 400 names, 5 to 52 slices, 0 to 3 decays,
λ from .01 to 10⁴ times what balances cost and risk, hard and soft ends up to 10⁶, caps 2 % above what completion
needs, bands down to 2e-4 of gross, up to 18 empty sectors, both sides in four of ten, full K in one of seven.

{robust(quick)}

## The next slice

The first slice is filled 2 % off the plan, then the rest is solved again: cold, and from the plan's state moved by a
slice. *One step* is the same warm solve stopped after one iteration: set-up, one step and one certificate, which no
start saves. A cold solve at 1e-4 takes so few iterations that this part is what remains.

{again(quick)}
"""


def main() -> None:
    """Print or write the page, or run one cell."""
    global FILE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--rows", type=Path, help="keep cells in this file and take those that it has")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        print(json.dumps(cell(json.loads(options.cell))))
        return
    if options.rows is not None:
        FILE = options.rows
        if FILE.exists():
            ROWS.update(json.loads(FILE.read_text()))
    text = page(options.quick)
    if options.write:
        PAGE.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
