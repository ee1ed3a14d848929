"""The recursions against dense matrices, compiled against numpy's, under sanitizers, and what their face refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosswind.solvers import native
from crosswind.solvers.schedule import cells, coupling, kernels, precondition
from crosswind.solvers.schedule.conjugate import Recycled
from crosswind.solvers.schedule.coupling import Exposures, NameBlocks
from crosswind.solvers.schedule.instances import schedule_instance
from crosswind.solvers.schedule.precondition import Innovations

NATIVE = Path(native.__file__).parent
compiled = pytest.mark.skipif(not native.COMPILED, reason="the package was built without a compiler")


def both(monkeypatch, call):
    """Results of a call with and without the compiled parts."""
    out = [call()]
    monkeypatch.setattr(native, "COMPILED", False)
    out.append(call())
    monkeypatch.undo()
    return out


def name_matrices(d, walk, own, end, rho, k):
    T, N = d.shape
    out = np.zeros((N, T, T))
    for i in range(N):
        out[i] = np.diag(d[:, i]) + (0.0 if np.isinf(end[i]) else end[i])
        for s in range(T):
            out[i][: s + 1, : s + 1] += walk[s] * own[i]
        for m in range(len(k)):
            for a in range(T):
                for b in range(T):
                    out[i][a, b] += k[m, i] * np.prod(rho[min(a, b) + 1 : max(a, b) + 1, m])
    return out


@pytest.mark.parametrize(("T", "N", "M"), [(1, 3, 2), (7, 5, 0), (7, 300, 1), (9, 6, 2), (9, 4, 3), (6, 4, 5)])
def test_solves_are_those_of_the_dense_matrices(T, N, M, monkeypatch):
    rng = np.random.default_rng(T + N + M)
    d, walk, own = rng.uniform(0.1, 2.0, (T, N)), rng.uniform(0.0, 1.0, T), rng.uniform(0.0, 2.0, N)
    end, rho, k = rng.uniform(0.0, 5.0, N), rng.uniform(0.2, 1.0, (T, M)), rng.uniform(0.0, 2.0, (M, N))
    end[0] = np.inf
    r = rng.standard_normal((T, N))
    mine, theirs = both(monkeypatch, lambda: kernels.solve(*kernels.factor(d, walk, own, end, rho, k), rho, r))
    assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-13)
    A = name_matrices(d, walk, own, end, rho, k)
    assert mine[:, 0].sum() == pytest.approx(0.0, abs=1e-13)
    rest = A[0] @ mine[:, 0] - r[:, 0]
    assert rest == pytest.approx(np.full(T, rest.mean()), abs=1e-12)  # what is left is the price of the sum
    for i in range(1, N):
        assert A[i] @ mine[:, i] == pytest.approx(r[:, i], abs=1e-11)


def test_a_heavy_end_tends_to_the_hard_one():
    rng = np.random.default_rng(0)
    d, walk, own, rho, k = rng.uniform(1.0, 2.0, (8, 4)), np.ones(8), np.ones(4), np.full((8, 2), 0.7), np.ones((2, 4))
    r = rng.standard_normal((8, 4))
    hard, *soft = (
        kernels.solve(*kernels.factor(d, walk, own, np.full(4, end), rho, k), rho, r)
        for end in (np.inf, 1e6, 1e12, 1e150, 1e300)
    )
    for solved, tol in zip(soft, (1e-5, 1e-11, 1e-13, 1e-13), strict=True):
        assert solved == pytest.approx(hard, abs=tol)


@pytest.mark.parametrize("seed", range(4))
def test_the_proximal_map_keeps_caps_by_the_smallest_prices(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    T, N, G = 5, 40, 3
    first = np.array([0, 13, 13, 30])
    cap = rng.uniform(0.0, 6.0, (T, G))
    cap[0, 0], cap[1, 2] = np.inf, 0.0
    v, r, c = 3.0 * rng.standard_normal((T, N)), rng.uniform(0.5, 2.0, (T, N)), rng.uniform(0.0, 0.5, (T, N))
    low, high = -rng.uniform(0.0, 2.0, (T, N)), rng.uniform(0.0, 2.0, (T, N))
    high[:, ::7] = np.inf

    def call():
        theta, z = rng.uniform(0.0, 1.0, (T, G)), np.empty((T, N))
        return cells.prox(first, cap, v, r, c, low, high, theta, z), theta

    (mine, price), (theirs, other) = both(monkeypatch, call)
    assert mine == pytest.approx(theirs, abs=1e-10)
    assert price == pytest.approx(other, abs=1e-10)
    for g in range(G):
        part = slice(first[g], first[g + 1])
        sums = np.abs(mine[:, part]).sum(axis=1)
        assert (sums <= cap[:, g] * (1.0 + 1e-15)).all()
        full = price[:, g] > 0.0
        assert sums[full] == pytest.approx(cap[full, g], rel=1e-11)
    kappa = c + np.hstack([np.repeat(price, np.diff(first), axis=1), np.zeros((T, N - first[-1]))])
    soft = np.sign(v) * np.maximum(np.abs(v) - kappa * r, 0.0)
    assert mine == pytest.approx(np.clip(soft, low, high), abs=1e-13)


@pytest.mark.parametrize("passes", [0, 2, 60])
def test_the_dual_of_single_cells(passes, monkeypatch):
    rng = np.random.default_rng(passes)
    T, N, G = 6, 21, 2
    a, reach, c = rng.standard_normal((T, N)), rng.uniform(0.5, 2.0, (T, N)), rng.uniform(0.0, 0.5, (T, N))
    reach[0, 0] = cells.FLAT
    low, high = -rng.uniform(0.0, 1.0, (T, N)), rng.uniform(0.0, 1.0, (T, N))
    group, theta = rng.integers(0, G + 1, N), np.hstack([rng.uniform(0.0, 0.3, (T, G)), np.zeros((T, 1))])
    total, give = 0.3 * T * rng.uniform(-0.5, 0.5, N), rng.uniform(0.0, 1.0, N)
    give[::3], give[1] = 0.0, -1.0

    def call():
        mu = np.full(N, 0.1)
        return cells.dual(passes, group, theta, a, reach, c, low, high, total, give, np.full(N, 1e-10), mu), mu

    (mine, price), (theirs, other) = both(monkeypatch, call)
    assert mine == pytest.approx(theirs, abs=1e-12)
    assert price == pytest.approx(other, abs=1e-12)
    assert price[1] == 0.0
    # The minimum over each cell, by brute force on a fine grid of its box.
    grid = low + (high - low) * np.linspace(0.0, 1.0, 20_001)[:, None, None]
    grid = np.concatenate([grid, np.clip(0.0, low, high)[None]])
    bend = np.where(reach < cells.FLAT, 0.5 / reach, 0.0)
    kappa = c + theta[:, group]
    brute = (bend * grid**2 - (a + price) * grid + kappa * np.abs(grid)).min(axis=0).sum(axis=0)
    brute += np.where(give >= 0.0, price * (total - 0.5 * give * price), 0.0)
    assert mine == pytest.approx(brute, abs=1e-6)
    if passes == 60:
        for shift in (-1e-3, 1e-3):
            mu = price + shift
            there = cells.dual(0, group, theta, a, reach, c, low, high, total, give, np.full(N, 1e-10), mu)
            assert (there <= mine + 1e-12).all()


def test_exposures_and_their_transpose_and_the_preconditioner():
    p = schedule_instance(14, 6, factors=3, rank=2, modes=3, sectors=0, cap=np.inf, risk_aversion=5.0, seed=2)
    rng = np.random.default_rng(0)
    exposures, blocks = Exposures(p), NameBlocks(p, 2.0 * p.eta.mean() * rng.uniform(0.5, 2.0, p.eta.shape))
    u, y = rng.standard_normal(p.eta.shape), rng.standard_normal((p.slices, exposures.size))
    assert np.sum(exposures.of(u) * y) == pytest.approx(np.sum(u * exposures.back(y)), rel=1e-12)
    running = p.start @ p.risk_loadings - p.remaining(u) @ p.risk_loadings
    assert exposures.of(u)[:, :3] == pytest.approx(running, abs=1e-12)
    root = np.hstack([np.full((6, 3), np.sqrt(2.0 * p.risk_weight[0])), np.full((6, 2), 0.3)])
    root = np.hstack([root, np.sqrt(np.repeat(p.energy.T, 2, axis=1))])
    eye = np.eye(y.size).reshape(-1, *y.shape)
    M = np.stack([(e + root * exposures.of(blocks.solve(exposures.back(root * e)))).ravel() for e in eye])
    inverse = np.stack([Innovations(exposures, blocks, root).solve(e).ravel() for e in eye])
    assert np.abs(inverse - inverse.T).max() <= 1e-12 * np.abs(inverse).max()
    values = np.linalg.eigvals(inverse @ M).real
    assert values.min() > 0.5
    assert values.max() < 2.0
    assert np.linalg.cond(M) > 20.0 * values.max() / values.min()


def test_wide_factors_are_rotated_and_their_tail_is_inverted_column_by_column(monkeypatch):
    monkeypatch.setattr(coupling, "_WIDE", 4)
    monkeypatch.setattr(precondition, "LEADING", 3)
    p = schedule_instance(14, 6, factors=3, dense=True, modes=2, sectors=0, cap=np.inf, risk_aversion=5.0, seed=2)
    exposures, blocks = Exposures(p), NameBlocks(p, 2.0 * p.eta)
    for part, L in zip(exposures.parts, p.impact_loadings, strict=True):
        made = exposures.columns[:, part]
        assert made @ made.T == pytest.approx(L @ L.T, abs=1e-12 * np.abs(L @ L.T).max())
        assert (np.diff(np.linalg.norm(made, axis=0)) <= 1e-12).all()
    root = np.full((6, exposures.size), 0.3)
    for part, energy in zip(exposures.parts, p.energy, strict=True):
        root[:, part] = np.sqrt(energy)[:, None]
    held = Innovations(exposures, blocks, root)
    assert held.rest.size == 2 * (14 - 3)
    eye = np.eye(root.size).reshape(-1, *root.shape)
    M = np.stack([(e + root * exposures.of(blocks.solve(exposures.back(root * e)))).ravel() for e in eye])
    inverse = np.stack([held.solve(e).ravel() for e in eye])
    assert np.abs(inverse - inverse.T).max() <= 1e-12 * np.abs(inverse).max()
    values = np.linalg.eigvals(inverse @ M).real
    assert values.min() > 0.0
    assert values.max() / values.min() < 0.2 * np.linalg.cond(M)
    later = held.shifted(2)
    assert later.fits(exposures, 4)
    assert not later.fits(exposures, 6)
    assert later.solve(np.ones((4, exposures.size))).shape == (4, exposures.size)


def test_conjugate_gradients_recycle_directions():
    rng = np.random.default_rng(0)
    G = rng.standard_normal((30, 30))
    A = G @ G.T + 5.0 * np.eye(30)
    calls = []

    def operator(y):
        calls.append(1)
        return (A @ y.ravel()).reshape(y.shape)

    solver = Recycled(operator, lambda y: y / 30.0)
    b = rng.standard_normal((5, 6))
    for k in range(4):
        rhs = b + 1e-3 * k * rng.standard_normal(b.shape)
        before = len(calls)
        x = solver.solve(rhs, 1e-8, most=200)
        assert np.abs(A @ x.ravel() - rhs.ravel()).max() <= 1e-6
        if k == 0:
            first = len(calls)
        else:
            assert len(calls) - before < 0.5 * first
    assert solver.solve(1e-12 * b, 1e-8) is None


@compiled
def test_the_face_refuses_what_does_not_fit():
    T, N, M = 2, 3, 1
    d, walk, own, end = np.ones((T, N)), np.ones(T), np.ones(N), np.ones(N)
    rho, k = np.ones((T, M)), np.ones((M, N))
    inverse, gain, work = np.empty((T, N)), np.empty((T, 2, N)), np.empty(3 * N)
    good = [T, N, M, d, walk, own, end, rho, k, inverse, gain, work]
    native.core.schedule_factor(*good)
    for place, bad in (
        (3, np.ones((T, N + 1))),
        (3, np.ones((N, T)).T),
        (3, d.astype(np.float32)),
        (2, 9),
        (0, 0),
        (1, -1),
    ):
        wrong = list(good)
        wrong[place] = bad
        with pytest.raises((ValueError, BufferError)):
            native.core.schedule_factor(*wrong)
    still = np.empty((T, N))
    still.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        native.core.schedule_solve(T, N, M, inverse, gain, rho, d, still, np.empty(2 * N))
    cells = [np.ones((T, N)) for _ in range(5)]
    for first in ([0, 4], [1, 3], [0, 2, 1]):
        G = len(first) - 1
        with pytest.raises(ValueError, match="groups"):
            native.core.schedule_prox(
                T, N, G, np.array(first), np.ones((T, G)), *cells, np.zeros((T, G)), np.empty((T, N))
            )
    names = [np.zeros(N) for _ in range(5)]
    for group in ([0, 1, 2], [0, -1, 0]):
        with pytest.raises(ValueError, match="group"):
            native.core.schedule_dual(T, N, 1, 3, np.array(group), np.zeros((T, 2)), *cells, *names)
    with pytest.raises(TypeError):
        native.core.schedule_solve(T, N)


def test_without_the_compiled_parts_a_solve_is_the_same():
    code = """
from crosswind.solvers import native
from crosswind.solvers.schedule import solve_schedule
from crosswind.solvers.schedule.instances import schedule_instance
p = schedule_instance(40, 9, cap=1.05, band=1e-3, two_sided=True, seed=3)
out = solve_schedule(p, tol=1e-6)
print(native.COMPILED, out.status.name, out.iterations, f"{out.objective:.9e} {out.lower_bound:.9e}")
"""
    seen = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"CROSSWIND_NATIVE": flag},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for flag in ("1", "0")
    ]
    assert seen[1][0] == "False"
    assert seen[0][1:3] == seen[1][1:3]
    for mine, theirs in zip(seen[0][3:], seen[1][3:], strict=True):
        assert float(mine) == pytest.approx(float(theirs), rel=1e-8)


DRIVER = r"""
#include "schedule.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
static double draw(void) { return (double)rand() / RAND_MAX - 0.5; }
static double wild(void) { return ldexp(draw(), rand() % 2000 - 1000); }
enum { T = 5, N = 19, G = 2 };
static double a[10][T * N], rho[T * 8], k[8 * N], gain[T * 9 * N], work[45 * N], walk[T], name[6][N], cap[T * 3];
int main(void) {
    const size_t first[] = {0, 7, 15};
    size_t group[N];
    srand(1);
    for (size_t i = 0; i < N; i++) group[i] = i < 7 ? 0 : i < 15 ? 1 : 2;
    for (int round = 0; round < 2000; round++) {
        double (*value)(void) = round % 2 ? wild : draw;
        for (int j = 0; j < 10; j++)
            for (int e = 0; e < T * N; e++) a[j][e] = value();
        for (int e = 0; e < T * N; e++) {
            a[0][e] = fabs(a[0][e]) + (round % 2 ? 0 : 0.1);
            a[3][e] = fabs(a[3][e]) + 1e-3;
            if (a[5][e] > a[6][e]) { double s = a[5][e]; a[5][e] = a[6][e]; a[6][e] = s; }
        }
        for (int e = 0; e < T * 8; e++) rho[e] = fabs(draw());
        for (int e = 0; e < 8 * N; e++) k[e] = fabs(value());
        for (int e = 0; e < T; e++) walk[e] = fabs(value());
        for (int e = 0; e < T * 3; e++) cap[e] = round % 5 ? fabs(value()) : INFINITY;
        for (int j = 0; j < 6; j++)
            for (int e = 0; e < N; e++) name[j][e] = fabs(value());
        name[1][0] = INFINITY;
        for (size_t M = 0; M <= 8; M++) {
            if (!cw_schedule_factor(T, N, M, a[0], walk, name[0], name[1], rho, k, a[1], gain, work)) return 1;
            if (!cw_schedule_solve(T, N, M, a[1], gain, rho, a[2], a[7], work)) return 2;
        }
        cw_schedule_prox(T, N, G, first, cap, a[2], a[3], a[0], a[5], a[6], work, a[8]);
        for (int e = 0; round % 2 == 0 && e < T * N; e++) if (a[8][e] < a[5][e] || a[8][e] > a[6][e]) return 3;
        cw_schedule_dual(T, N, G, 30, group, cap, a[2], a[3], a[0], a[5], a[6], name[2], name[3], name[4], name[5],
                         work);
    }
    if (cw_schedule_factor(T, N, 9, a[0], walk, name[0], name[1], rho, k, a[1], gain, work)) return 4;
    puts("sound");
    return 0;
}
"""


def test_the_sources_are_clean_and_sound_under_sanitizers(tmp_path):
    """Warnings are errors; addresses and undefined behaviour are watched while random bits go through."""
    (tmp_path / "driver.c").write_text(DRIVER)
    strict = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
    watch = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program, source = tmp_path / "driver", NATIVE / "schedule.c"
    subprocess.run(["cc", *strict, "-c", source, "-o", tmp_path / "strict.o"], check=True)
    build = ["cc", "-std=c11", "-O1", "-g", *watch, f"-I{NATIVE}", tmp_path / "driver.c", source, "-lm", "-o", program]
    subprocess.run(build, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sound\n"), done.stderr
