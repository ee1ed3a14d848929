"""Solutions tampered with, by the thousand: whatever has a KKT error of ten tolerances, computed here, is caught."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Solution, certify, smat, solve, svec

TOL = 1e-6
PROGRAMS = 150


def kkt_error(program: QuadraticProgram, x, y, z) -> float:
    """Return the relative KKT error by plain loops, sharing no line with the certificate.

    Each part is divided by the sum of the absolute values of the terms it is made of.
    """
    P, A, n, m = program.P.toarray(), program.A.toarray(), program.n, program.m
    worst = 0.0
    for i in range(m):
        row = math.fsum(A[i, j] * x[j] for j in range(n))
        size = math.fsum(abs(A[i, j] * x[j]) for j in range(n))
        for miss, side in ((row - program.u[i], program.u[i]), (program.l[i] - row, program.l[i])):
            if miss > 0.0:
                worst = max(worst, miss / (size + abs(side)))
        if (y[i] > 0.0 and program.u[i] == np.inf) or (y[i] < 0.0 and program.l[i] == -np.inf):
            worst = max(worst, abs(y[i]) / (max(map(abs, program.q)) + max(map(abs, y))))
    for j in range(n):
        for miss, side in ((x[j] - program.ub[j], program.ub[j]), (program.lb[j] - x[j], program.lb[j])):
            if miss > 0.0:
                worst = max(worst, miss / (abs(x[j]) + abs(side)))
        if (z[j] > 0.0 and program.ub[j] == np.inf) or (z[j] < 0.0 and program.lb[j] == -np.inf):
            worst = max(worst, abs(z[j]) / (max(map(abs, program.q)) + max(map(abs, z))))
    steepest, slope = 0.0, 0.0
    terms: list[float] = []
    for j in range(n):
        bent = math.fsum(P[j, k] * x[k] for k in range(n))
        pushed = math.fsum(A[i, j] * y[i] for i in range(m))
        steepest = max(steepest, abs(bent + program.q[j] + pushed + z[j]))
        slope = max(slope, abs(bent) + abs(program.q[j]) + abs(pushed) + abs(z[j]))
        terms += [x[j] * bent, program.q[j] * x[j]]
    worst = max(worst, steepest / slope if slope else 0.0)
    for value, lower, upper in ((y, program.l, program.u), (z, program.lb, program.ub)):
        for v, low, high in zip(value, lower, upper, strict=True):
            side = high if v > 0.0 else low
            if v != 0.0 and np.isfinite(side):
                terms.append(v * side)
    size = math.fsum(map(abs, terms))
    return max(worst, abs(math.fsum(terms)) / size if size else 0.0)


def tampered(program: QuadraticProgram, found: Solution, rng: np.random.Generator):
    """Yield (name, x, y, z) of every way of spoiling a solution that applies to it."""
    x, y, z = found.x, found.y, found.z
    top = float(np.max(np.abs(x)))
    for size in (1e-4, 1e-2, 1.0):
        yield f"x moved by {size}", x + size * top * rng.normal(size=x.size), y, z
    one = x.copy()
    one[int(rng.integers(x.size))] += 0.01 * top
    yield "one entry moved", one, y, z
    yield "x scaled", 1.001 * x, y, z
    yield "x negated", -x, y, z
    yield "x rounded", np.round(x / top, 2) * top, y, z
    yield "no point at all", np.zeros_like(x), y, z
    yield "duals flipped", x, -y, -z
    yield "duals scaled", x, 1.01 * y, 1.01 * z
    yield "duals doubled", x, 2.0 * y, 2.0 * z
    yield "duals dropped", x, np.zeros_like(y), np.zeros_like(z)
    if y.size > 1:
        yield "row duals swapped", x, np.roll(y, 1), z
        yield "row and box duals swapped", x, np.resize(z, y.size), np.resize(y, z.size)
    if z.size > 1:
        yield "box duals swapped", x, y, np.roll(z, 1)
    for i in np.flatnonzero(np.abs(y) > 1e-3 * np.max(np.abs(program.q)))[:1]:
        keep = np.arange(program.m) != i
        less = QuadraticProgram(
            program.P, program.q, program.A[keep], program.l[keep], program.u[keep], program.lb, program.ub
        )
        other = solve(less, "clarabel", tol=1e-8)
        if other.status.ok:
            yield "a row dropped", other.x, np.insert(other.y, i, 0.0), other.z
    cheaper = solve(program.with_vectors(q=program.q * rng.uniform(0.5, 1.5, program.n)), "clarabel", tol=1e-8)
    if cheaper.status.ok:
        yield "another cost's answer", cheaper.x, cheaper.y, cheaper.z


def test_a_thousand_tampered_solutions_are_caught_and_true_ones_pass(make_program):
    spoiled, harmless, kinds = 0, 0, set()
    for seed in range(PROGRAMS):
        program = make_program(5000 + seed, span=2.0)
        found = solve(program, tol=1e-9)
        if not found.status.ok or np.max(np.abs(found.x), initial=0.0) == 0.0 or not np.any(program.q):
            continue
        assert kkt_error(program, found.x, found.y, found.z) <= TOL, seed
        assert certify(program, found.x, found.y, found.z, tol=TOL).passes(), seed
        for kind, x, y, z in tampered(program, found, np.random.default_rng(seed)):
            error = kkt_error(program, x, y, z)
            if error <= 10.0 * TOL:
                harmless += 1
                continue
            spoiled += 1
            kinds.add(kind)
            certificate = certify(program, x, y, z, tol=TOL)
            assert not certificate.passes(), f"{seed} {kind}: error {error:.1e}, {certificate.summary()}"
    assert spoiled >= 1000, (spoiled, harmless)
    assert len(kinds) >= 15, kinds


@pytest.mark.parametrize("magnitude", [1e-9, 1e-6, 1.0, 1e6, 1e9])
def test_tampering_is_caught_at_every_scale(magnitude):
    rng = np.random.default_rng(3)
    for length, cost in ((magnitude, 1.0), (1.0, magnitude), (magnitude, magnitude)):
        program = QuadraticProgram(
            np.diag([1.0, 2.0, 4.0]) * cost / length**2,
            np.array([1.0, -3.0, 2.0]) * cost / length,
            [[1.0, 1.0, 1.0]],
            length,
            length,
            lb=0.0,
        )
        found = solve(program, tol=1e-9)
        assert found.status.ok
        for kind, x, y, z in tampered(program, found, rng):
            if kkt_error(program, x, y, z) > 10.0 * TOL:
                assert not certify(program, x, y, z, tol=TOL).passes(), kind


def cone_programs():
    rng = np.random.default_rng(0)
    for k in (2, 3, 5):
        M = rng.normal(size=(k, k))
        M = M + M.T
        d = svec(M).size
        trace = svec(np.eye(k))[None, :]
        yield ConeProgram(
            np.eye(d),
            -svec(M),
            np.vstack((trace, -np.eye(d))),
            np.r_[1.0, np.zeros(d)],
            (Cone("zero", 1), Cone("psd", k)),
        )
    for n in (2, 4, 8):
        w = rng.normal(size=n)
        A = np.vstack((np.ones((1, n)), np.zeros((1, n)), -np.eye(n)))
        yield ConeProgram(None, w, A, np.r_[0.5, 2.0, np.zeros(n)], (Cone("zero", 1), Cone("soc", n + 1)))


def cone_error(program: ConeProgram, x, y) -> float:
    """Return the relative KKT error of a cone iterate, its cones checked one by one from their definitions."""
    s = program.b - program.A.toarray() @ x
    outside, refused, at = 0.0, 0.0, 0
    for cone in program.cones:
        here, price = s[at : at + cone.rows], y[at : at + cone.rows]
        at += cone.rows
        if cone.kind == "zero":
            outside = max(outside, float(np.max(np.abs(here))))
        elif cone.kind == "soc":
            outside = max(outside, math.hypot(*here[1:]) - here[0])
            refused = max(refused, math.hypot(*price[1:]) - price[0])
        else:
            outside = max(outside, -np.linalg.eigvalsh(smat(here))[0])
            refused = max(refused, -np.linalg.eigvalsh(smat(price))[0])
    bent, pushed = program.P.toarray() @ x, program.A.toarray().T @ y
    slope = max(float(np.max(np.abs(bent) + np.abs(program.q) + np.abs(pushed))), 1e-300)
    r = float(np.max(np.abs(bent + program.q + pushed)))
    terms = [float(x @ bent), float(program.q @ x), float(program.b @ y)]
    scale = float(np.max(np.abs(program.A.toarray()) @ np.abs(x) + np.abs(program.b) + np.abs(s)))
    return max(
        outside / scale / np.sqrt(2.0),
        refused / slope / np.sqrt(2.0),
        r / slope,
        abs(sum(terms)) / sum(map(abs, terms)),
    )


def test_tampered_cone_solutions_are_caught():
    spoiled = 0
    for seed, program in enumerate(cone_programs()):
        found = solve(program, tol=1e-8)
        assert found.status.ok
        assert cone_error(program, found.x, found.y) <= TOL
        assert certify(program, found.x, found.y, tol=TOL).passes()
        rng = np.random.default_rng(seed)
        for _ in range(6):
            x, y = found.x, found.y
            for size in (1e-4, 1e-2, 1.0):
                for offer in (
                    (x + size * rng.normal(size=x.size), y),
                    (x, y + size * rng.normal(size=y.size)),
                    (x * (1.0 + size), y),
                    (x, y * (1.0 + size)),
                    (x, -y),
                    (x, np.roll(y, 1)),
                    (-x, y),
                ):
                    if cone_error(program, *offer) > 10.0 * TOL:
                        spoiled += 1
                        assert not certify(program, *offer, tol=TOL).passes()
    assert spoiled >= 500
