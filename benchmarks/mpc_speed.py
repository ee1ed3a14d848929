"""How fast is a receding-horizon step? The C core against general solvers on the same held-out streams, in one run.

Run ``python benchmarks/mpc_speed.py`` to print the page, with ``--write`` to put it into docs/mpc-speed.md; ``--quick``
takes a tenth of the steps. Times are thread-CPU microseconds of one step. The core is timed from C and from Python; the
others get vectors that are already in their order and scaling, and only update, solve and return x are timed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from scipy import sparse

from crosswind.solvers import QuadraticProgram, Session, Status, native
from crosswind.solvers.bench.reference import references
from crosswind.solvers.mpc import MpcModel, MpcProgram, MpcSolver, MpcWorld, mpc_instance
from crosswind.solvers.mpc.condensed import Condensed, condensed_program

PAGE = Path(__file__).resolve().parents[1] / "docs" / "mpc-speed.md"
CORE = Path(native.__file__).parent
SIZES = ((1, 20), (1, 60), (3, 30), (10, 60))
# Streams of five models each, with and without rate limits and gap caps: none was looked at while the core was made.
SEED, MODELS = 4300, 5
# Steps timed of each model: core, OSQP, PIQP (each), DAQP, cvxpy; and checked.
STEPS = {(1, 20): (1000, 800, 250, 500, 60, 40), (1, 60): (500, 400, 120, 120, 20, 20),
         (3, 30): (400, 300, 80, 80, 16, 20), (10, 60): (120, 24, 12, 0, 3, 3)}  # fmt: skip
LONG = {(1, 20): 11_000, (1, 60): 3_000, (3, 30): 4_000, (10, 60): 2_000}  # of each model
BUILDS = {
    "-O3 (as installed)": ["-O3", "-fwrapv"],
    "-O2, no dispatch": ["-O2", "-DCW_MPC_PORTABLE"],
    "-O3 -march=native": ["-O3", "-march=native"],
}
# design: against OSQP p50, p99, p99.9; against DAQP p50, p99.
GOALS: dict[tuple[int, int], tuple[float | None, ...]] = {
    (1, 20): (45, 60, 80, 3.5, 2.2), (1, 60): (80, 95, 80, 14, 6.4),
    (3, 30): (140, 130, 80, 25, 10), (10, 60): (40, 80, None, None, None),
}  # fmt: skip
# The study that the goals come from, on streams of its own: core p50, p99, OSQP p50, p99.
STUDY = {(1, 20): (6.4, 48, 287, 2976), (1, 60): (17.5, 143, 1443, 14007), (3, 30): (30, 245, 4416, 32343),
         (10, 60): (2204, 3187, 95027, 277924)}  # fmt: skip
Data = dict[str, Any]

HARNESS = """
#define _POSIX_C_SOURCE 199309L
#include "mpc.h"
#include <time.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}
void run_all(cw_mpc *p, int n, const cw_mpc_data *d, double *out, int size, double *us, int *work, int *inner) {
    double clock = 1e9;
    for (int i = 0; i < 1000; i++) {
        const double begin = now(), cost = now() - begin;
        clock = cost < clock ? cost : clock;
    }
    for (int i = 0; i < n; i++) {
        const double begin = now();
        cw_mpc_result r = cw_mpc_step(p, &d[i], 1, 1e-8, 40, out + (long)i * size);
        us[i] = now() - begin - clock;
        work[i] = r.factorisations;
        inner[i] = r.steps;
    }
}
"""
NAMES = ("gap", "state", "last", "plan", "linear", "carry", "spread", "cap", "rate", "gap_cap", "price", "curve")


def stream(m: int, H: int, steps: int, which: int) -> tuple[MpcModel, list[Data]]:
    """Return one of the models and what a world asks of it while the core's first trades are done."""
    model = mpc_instance(m, m, 1, H, SEED + 20 * which)
    world, solver, out = MpcWorld(model, steps, SEED + 20 * which + 1), MpcSolver(model), []
    for _ in range(steps):
        out.append(world.data())
        world.execute(solver.step(**out[-1]).trades[0])
    return model, out


def in_c(model: MpcModel, data: list[Data], flags: list[str], home: Path) -> tuple[Any, Any, Any, Any]:
    """Return microseconds, factorisations, interior iterations and trades of the core built with ``flags``, in C."""
    library = home / ("core" + "".join(flags) + ".so")
    if not library.exists():
        (home / "harness.c").write_text(HARNESS, encoding="utf-8")
        words = ["cc", "-std=c11", *flags, "-ffp-contract=off", "-shared", "-fPIC", f"-I{CORE}"]
        subprocess.run([*words, home / "harness.c", CORE / "mpc.c", "-lm", "-o", library], check=True)
    code = ctypes.CDLL(str(library))
    pointer = ctypes.POINTER(ctypes.c_double)

    def at(array: Any) -> Any:
        return array.ctypes.data_as(pointer)

    dims = (ctypes.c_int * 4)(*model.sizes)
    code.cw_mpc_bytes.restype, code.cw_mpc_init.restype = ctypes.c_size_t, ctypes.c_void_p
    memory = np.zeros(code.cw_mpc_bytes(dims) // 8 + 8)
    a = model.arrays()
    order = ("exposure", "temporary", "impact_loadings", "decays", "covariance", "risk_weight", "terminal_weight")
    kept = [np.ascontiguousarray(a[n]) for n in order]

    class Model(ctypes.Structure):
        _fields_ = (("unit", ctypes.c_double), *((f"a{i}", pointer) for i in range(7)))

    given = Model(model.unit, *map(at, kept))
    core = code.cw_mpc_init(ctypes.c_void_p(memory.ctypes.data), dims, ctypes.byref(given))
    arrays = [[np.ascontiguousarray(d[n], dtype=np.float64) for n in NAMES] for d in data]
    table = (pointer * 12 * len(data))(*((pointer * 12)(*map(at, row)) for row in arrays))
    size = model.horizon * model.instruments
    trades, us, work = np.zeros((len(data), size)), np.zeros(len(data)), np.zeros(len(data), dtype=np.int32)
    inner = np.zeros_like(work)
    best = np.full(len(data), np.inf)
    for _ in range(3):  # a machine that others use: the least of three passes over the same steps
        code.cw_mpc_reset(ctypes.c_void_p(core))
        code.run_all(
            ctypes.c_void_p(core), len(data), table, at(trades), size, at(us), work.ctypes.data_as(ctypes.c_void_p),
            inner.ctypes.data_as(ctypes.c_void_p),
        )  # fmt: skip
        best = np.minimum(best, us)
    return best, work, inner, trades


def empty() -> float:
    """Return the microseconds that reading the thread's clock takes, at the least."""
    clock = time.thread_time_ns
    return min(-(clock() - clock()) for _ in range(1000)) * 1e-3


def timed(calls: list[Any], call: Callable[[Any], Any]) -> tuple[Any, list[Any]]:
    """Return each call's thread-CPU microseconds, the least of three passes, the first eight left out; and results."""
    clock, cost, best = time.thread_time_ns, empty(), np.full(len(calls), np.inf)
    for _ in range(3):
        out = []
        for k, vectors in enumerate(calls):
            begin = clock()
            x = call(vectors)
            best[k] = min(best[k], (clock() - begin) * 1e-3 - cost)
            out.append(np.array(x))
    return best[8:] if len(best) > 16 else best[1:], out


def programs(model: MpcModel, data: list[Data]) -> list[QuadraticProgram]:
    """Return the sparse programs of the steps: the same matrices, new vectors."""
    first = MpcProgram(model, **data[0])
    return [first, *(first.at(**d) for d in data[1:])]


def condensed(model: MpcModel, steps: list[QuadraticProgram]) -> list[QuadraticProgram]:
    """Return the dense programs over (h, |h|, excess) for active-set methods."""
    core, out = Condensed(model), []
    for step in steps:
        assert isinstance(step, MpcProgram)
        out.append(condensed_program(core, step, out[0] if out else None))
    return out


def osqp_direct(steps: list[QuadraticProgram]) -> tuple[Any, list[Any]]:
    """Time OSQP, set up once at 1e-6, warm, its vectors updated."""
    import osqp

    first = steps[0]
    A = sparse.vstack([first.A, sparse.identity(first.n)], format="csc")
    calls = [(p.q, np.concatenate([p.l, p.lb]), np.concatenate([p.u, p.ub])) for p in steps]
    solver = osqp.OSQP()
    P = sparse.triu(first.P, format="csc")
    q, low, high = calls[0]
    solver.setup(P, q, A, low, high, eps_abs=1e-6, eps_rel=1e-6, max_iter=100_000, verbose=False, warm_starting=True)

    def call(v: Any) -> Any:
        solver.update(q=v[0], l=v[1], u=v[2])
        return solver.solve(raise_error=False).x

    return timed(calls, call)


def by_slice(steps: list[QuadraticProgram], model: MpcModel) -> tuple[list[QuadraticProgram], Any]:
    """Return the programs with their variables slice by slice, and where each of the new ones stood."""
    m, k, M, H = model.sizes
    widths, at, parts = (m, m, k, k, M * m), 0, []
    for width in widths:
        parts.append(at + np.arange(H * width).reshape(H, width))
        at += H * width
    order = np.concatenate([part[t] for t in range(H) for part in parts])
    first = steps[0]
    base = QuadraticProgram(first.P[order][:, order], first.q[order], first.A[:, order], first.l, first.u)
    moved = [base.with_vectors(q=p.q[order], l=p.l, u=p.u, lb=p.lb[order], ub=p.ub[order]) for p in steps]
    return moved, order


def piqp_multistage(steps: list[QuadraticProgram], model: MpcModel) -> tuple[Any, list[Any]]:
    """Time PIQP's algebra for stages on variables in the order of the slices."""
    moved, order = by_slice(steps, model)
    us, answers = piqp_direct(moved, "piqp:multistage")
    out = []
    for x in answers:
        back = np.empty_like(x)
        back[order] = x
        out.append(back)
    return us, out


def piqp_direct(steps: list[QuadraticProgram], name: str) -> tuple[Any, list[Any]]:
    """Time PIQP with the given linear algebra, set up once, its vectors updated; it takes no warm start."""
    session = Session(steps[0], name, tol=1e-8)
    session.solve()
    (prepared,) = session._ready.values()
    solver: Any = prepared.solver  # type: ignore[attr-defined]
    calls = [prepared._vectors(p) for p in steps]  # type: ignore[attr-defined]
    length = prepared.scaling.length  # type: ignore[attr-defined]

    def call(v: Any) -> Any:
        solver.update(**v)
        solver.solve()
        return solver.result.x * length

    return timed(calls, call)


def daqp_direct(steps: list[QuadraticProgram]) -> tuple[Any, list[Any]]:
    """Time DAQP from its last working set; it is set up again, untimed, where it failed."""
    session = Session(steps[0], "daqp", tol=1e-8)
    session.solve()
    (prepared,) = session._ready.values()
    owner: Any = prepared
    calls = [owner._vectors(p) for p in steps]
    length = owner.scaling.length

    def call(v: Any) -> Any:
        owner.model.update(f=v[0], bupper=v[1], blower=v[2])
        x, _, flag, _ = owner.model.solve()
        if flag < 0:
            owner.vectors = v
            owner.restart()
        return x * length

    return timed(calls, call)


def cvxpy_dpp(steps: list[QuadraticProgram]) -> tuple[Any, list[Any]]:
    """Time a cvxpy problem with parameters, compiled once, on OSQP at 1e-6."""
    import cvxpy as cp

    first = steps[0]
    A = sparse.vstack([first.A, sparse.identity(first.n)], format="csc")
    sides = [(np.concatenate([p.l, p.lb]), np.concatenate([p.u, p.ub])) for p in steps]
    under, over = np.isfinite(sides[0][0]), np.isfinite(sides[0][1])
    x, q = cp.Variable(first.n), cp.Parameter(first.n)
    low, high = cp.Parameter(int(under.sum())), cp.Parameter(int(over.sum()))
    cost = 0.5 * cp.quad_form(x, cp.psd_wrap(first.P)) + q @ x
    problem = cp.Problem(cp.Minimize(cost), [A[under] @ x >= low, A[over] @ x <= high])

    def call(v: Any) -> Any:
        q.value, low.value, high.value = v
        problem.solve(solver="OSQP", eps_abs=1e-6, eps_rel=1e-6, max_iter=100_000, warm_start=True)
        return x.value

    return timed([(p.q, s[0][under], s[1][over]) for p, s in zip(steps, sides, strict=True)], call)


def exact(steps: list[QuadraticProgram]) -> list[Any]:
    """Return the optima: an interior point's, then Newton steps on the active limits, up to rounding."""
    return [np.asarray(found.x) for found in references(tuple(steps))]


def quantiles(us: Any) -> tuple[float, float, float, float]:
    """p50, p99, p99.9 (NaN below 1000 steps) and the largest."""
    tail = float(np.quantile(us, 0.999)) if us.size >= 1000 else float("nan")
    return float(np.median(us)), float(np.quantile(us, 0.99)), tail, float(us.max())


def cell(value: float | None, form: str = ".1f") -> str:
    """Return a number, or a dash where there is none."""
    return "–" if value is None or not np.isfinite(value) else format(value, form)


def long_run(m: int, H: int, steps: int) -> dict[str, Any]:
    """Count what goes wrong over long streams of all models, hostile in every fifth step."""
    out: dict[str, Any] = {"steps": 0, "open": 0, "worst": 0.0, "broken": 0, "relaxed": 0}
    work = []
    for which in range(MODELS):
        seed = SEED + 20 * which + 10
        model = mpc_instance(m, m, 1, H, seed)
        world, solver = MpcWorld(model, steps, seed + 1, hostile=True), MpcSolver(model)
        for _ in range(steps):
            d = world.data()
            step = solver.step(**d)
            h, change = step.trades, np.abs(np.diff(step.trades, axis=0, prepend=d["last"][None]))
            inside = (np.abs(h) <= d["cap"]).all() and (change[1:] <= d["rate"]).all()
            out["broken"] += not (inside and (step.relaxed or (change[0] <= d["rate"]).all()))
            if step.status is not Status.OPTIMAL:
                out["open"] += 1
                out["worst"] = max(out["worst"], step.gap / max(abs(step.objective), 1e-12))
            out["relaxed"] += step.relaxed
            out["steps"] += 1
            work.append(step.work)
            world.execute(step.trades[0])
    return out | {"work": np.array(work)}


def overhead(model: MpcModel, data: list[Data], engine: str = "C") -> Any:
    """Return microseconds of ``MpcSolver.step``, the least of three passes, step by step."""
    solver, clock, cost = MpcSolver(model, engine), time.thread_time_ns, empty()
    best = np.full(len(data), np.inf)
    for _ in range(3):
        solver.reset()
        for k, d in enumerate(data):
            begin = clock()
            solver.step(**d)
            best[k] = min(best[k], (clock() - begin) * 1e-3 - cost)
    return best


def one_model(m: int, H: int, counts: list[int], which: int, home: Path) -> dict[str, Any]:
    """Return microseconds, work and errors of every solver on the stream of one of the models."""
    model, data = stream(m, H, counts[0], which)
    out: dict[str, Any] = {}
    for name, flags in BUILDS.items():
        us, work, inner, trades = in_c(model, data, flags, home)
        out[f"us {name}"] = us
        if name == "-O3 (as installed)":
            out |= {"work": work, "inner": inner}
            python = overhead(model, data)
            out |= {"python C": python, "added": python - us}
    out["python piqp"] = overhead(model, data[: 3 if m == 10 else 20], "piqp")
    steps, size = programs(model, data[: max(counts[1:])]), H * m
    truth = [x[:size] for x in exact(steps[: counts[5]])]

    def off(name: str, answers: list[Any]) -> None:
        miss = [float(np.abs(np.asarray(a)[:size] - t).max()) for a, t in zip(answers, truth, strict=False)]
        out[f"off {name}"] = np.array(miss)

    off("core", list(trades))
    runs: list[tuple[str, Callable[[], tuple[Any, list[Any]]]]] = [
        ("OSQP direct, warm, 1e-6", lambda: osqp_direct(steps[: counts[1]])),
        ("PIQP sparse, 1e-8", lambda: piqp_direct(steps[: counts[2]], "piqp")),
        ("PIQP multistage, 1e-8", lambda: piqp_multistage(steps[: counts[2]], model)),
        ("cvxpy DPP + OSQP, 1e-6", lambda: cvxpy_dpp(steps[: counts[4]])),
    ]
    if counts[3]:
        dense = condensed(model, steps[: counts[3]])
        runs.insert(3, ("DAQP condensed, warm", lambda: daqp_direct(dense)))
    for name, run in runs:
        us, answers = run()
        out[f"us {name}"] = us
        off(name, answers)
    return out


def main() -> None:
    """Run, print and with ``--write`` keep the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    share = 10 if args.quick else 1
    home = Path(tempfile.mkdtemp())
    rows, ratios, checks, calls, longs, profile = [], [], [], [], [], []
    for m, H in SIZES:
        counts = [max(n // share, 4 if n else 0) for n in STEPS[m, H]]
        pool: dict[str, list[Any]] = {}
        for which in range(MODELS):
            for name, values in one_model(m, H, counts, which, home).items():
                pool.setdefault(name, []).append(values)
        parts = {name: np.concatenate(values) for name, values in pool.items()}
        found = {name[3:]: quantiles(us) for name, us in parts.items() if name.startswith("us ")}
        work, inner = parts["work"], parts["inner"]
        for name in found:
            own = name in BUILDS
            note = f"{int(np.median(work))} / {work.max()}" if own else ""
            rows.append(((m, H), f"core {name}" if own else name, len(parts[f"us {name}"]), found[name], note))
        profile.append(((m, H), parts["us -O3 (as installed)"], work, inner))
        added = float(np.median(parts["added"])), float(np.quantile(parts["added"], 0.99))
        calls.append(((m, H), "C", *quantiles(parts["python C"])[:2], *added))
        calls.append(((m, H), "piqp", *quantiles(parts["python piqp"])[:2], float("nan"), float("nan")))
        for name, miss in parts.items():
            if name.startswith("off "):
                share_ok = float(np.mean(miss <= 1e-6))
                checks.append(((m, H), name[4:], len(miss), share_ok, float(np.max(miss))))
        mine = found["-O3 (as installed)"]
        rivals = (found["OSQP direct, warm, 1e-6"], found.get("DAQP condensed, warm"))
        goal = GOALS[m, H]
        against = [rivals[0][k] / mine[k] for k in range(3)]
        against += [rivals[1][k] / mine[k] for k in range(2)] if rivals[1] else [float("nan")] * 2
        ratios.append(((m, H), against, goal))
        longs.append(((m, H), long_run(m, H, LONG[m, H] // share)))
        print(f"({m}, {H}) done", flush=True)
    text = page(rows, ratios, checks, calls, longs, profile)
    print(text)
    if args.write:
        PAGE.write_text(text, encoding="utf-8")


def page(rows: Any, ratios: Any, checks: Any, calls: Any, longs: Any, profile: Any) -> str:
    """Return the page."""
    out = [
        "# Speed of the receding-horizon core\n",
        "Printed by `benchmarks/mpc_speed.py`: (m, H) is m instruments on m exposures with one impact mode, H slices "
        "ahead. Every solver gets the same held-out streams of five models, with and without rate limits and gap "
        "caps: a plan with blocks and revisions, fills with noise. "
        "Thread-CPU microseconds of one step, the least of three passes over the same steps, in one run on a shared "
        "machine, less what reading the clock takes (the core: timed in C at tol 1e-8; the others: update of vectors, "
        "solve, x). p99.9 needs 1000 "
        "steps. PIQP's multistage algebra gets its variables slice by slice.\n",
        "| (m, H) | solver | steps | p50 | p99 | p99.9 | max | factorisations p50 / max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, name, count, q, note in rows:
        out.append(f"| {key} | {name} | {count} | " + " | ".join(cell(v) for v in q) + f" | {note or '–'} |")
    out += [
        "\n## Against the goals\n",
        "How many times faster than OSQP (direct, warm, 1e-6) and DAQP (condensed, warm) the core as installed is; the "
        "goal in brackets, **bold** where it is missed.\n",
        "| (m, H) | OSQP p50 | OSQP p99 | OSQP p99.9 | DAQP p50 | DAQP p99 |",
        "|---|---|---|---|---|---|",
    ]
    for key, against, goal in ratios:
        cells = []
        for value, wish in zip(against, goal, strict=True):
            text = cell(value) + (f" ({wish:g})" if wish is not None else "")
            missed = wish is not None and np.isfinite(value) and value < wish
            cells.append(f"**{text}**" if missed else text)
        out.append(f"| {key} | " + " | ".join(cells) + " |")
    out += [
        "\nThe goals come from a study on streams of its own, with a prototype built with fast-math for one "
        "processor. Its microseconds beside these tell which side a missed ratio comes from.\n",
        "| (m, H) | core p50 there / here | core p99 | OSQP p50 | OSQP p99 |",
        "|---|---|---|---|---|",
    ]
    here = {(key, name): q for key, name, _, q, _ in rows}
    for key, there in STUDY.items():
        mine, osqp = here[key, "core -O3 (as installed)"], here[key, "OSQP direct, warm, 1e-6"]
        pairs = zip(there, (mine[0], mine[1], osqp[0], osqp[1]), strict=True)
        out.append(f"| {key} | " + " | ".join(f"{a:g} / {b:.1f}" for a, b in pairs) + " |")
    out += [
        "\nWhere the core's own time goes: steps that Newton settles from the last plan, and the others, which pay for "
        "the interior point too and are the tail.\n",
        "| (m, H) | µs a factorisation | settled by Newton alone | their p50 µs | factorisations of the others | "
        "their p50 µs |",
        "|---|---|---|---|---|---|",
    ]
    for key, us, work, inner in profile:
        easy = inner == 0
        cells = [
            cell(us.sum() / work.sum(), ".2f"),
            f"{easy.mean():.1%}",
            cell(np.median(us[easy]) if easy.any() else None),
        ]
        cells += [cell(work[~easy].mean()), cell(np.median(us[~easy]))] if (~easy).any() else ["–", "–"]
        out.append(f"| {key} | " + " | ".join(cells) + " |")
    out += [
        "\n## Accuracy\n",
        "Largest error of a trade against a reference brought to rounding by Newton steps on the active limits, in "
        "units of a usual trade.\n",
        "| (m, H) | solver | steps | within 1e-6 | largest error |",
        "|---|---|---|---|---|",
    ]
    out += [f"| {key} | {name} | {n} | {share:.1%} | {worst:.1e} |" for key, name, n, share, worst in checks]
    out += [
        "\n## The call from Python\n",
        "`MpcSolver.step` with all arrays given, prices included, beside the same step timed in C.\n",
        "| (m, H) | engine | step p50 | step p99 | added p50 | added p99 |",
        "|---|---|---|---|---|---|",
    ]
    out += [f"| {key} | {engine} | " + " | ".join(cell(v) for v in values) + " |" for key, engine, *values in calls]
    total = sum(r["steps"] for _, r in longs)
    out += [
        f"\n## {total} steps, hostile in every fifth\n",
        "A far gap, shut caps, a last trade beyond the rate, tight rates, no spread, gap caps of zero, at random. "
        "*Open*: the gap was not proven to be within 1e-8 of the cost's size after 40 factorisations; its size then "
        "relative to the cost. *Broken*: a cap or a rate not kept to the last bit.\n",
        "| (m, H) | steps | open | largest open gap | broken | relaxed | factorisations p50 / p99 / max |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, r in longs:
        work = r["work"]
        spread = f"{int(np.median(work))} / {int(np.quantile(work, 0.99))} / {work.max()}"
        worst = cell(r["worst"], ".1e") if r["open"] else "–"
        out.append(f"| {key} | {r['steps']} | {r['open']} | {worst} | {r['broken']} | {r['relaxed']} | {spread} |")
    versions = ", ".join(
        f"{n} {metadata.version(n)}" for n in ("numpy", "scipy", "osqp", "piqp", "daqp", "cvxpy", "clarabel")
    )
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    out.append(
        f"\nCPython {platform.python_version()}, {versions}; {compiler}; "
        f"{platform.machine()}, {os.cpu_count()} cores, one used."
    )
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main()
