"""Seeded hard programs with a planted optimum: right to 1e-6 by two solvers or refused, never falsely infeasible.

500 programs here; CROSSWIND_FUZZ=10000 in the environment runs that many.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Solution, Status, certify, solve
from crosswind.solvers.errors import InvalidInput

COUNT = int(os.environ.get("CROSSWIND_FUZZ", "500"))
SHARDS = 10
FALSE = (Status.INFEASIBLE, Status.UNBOUNDED)


def planted(seed: int) -> tuple[QuadraticProgram, np.ndarray, float]:
    """Return a program, an optimal point of it and the size of its cost terms.

    P has eigenvalues from 1 down to 1/cond, cond 1..1e12, or lower rank; rows are doubled, empty, scaled by 1e±3; rooms
    of limits go from 1e-7 to 1e6; lengths from 1e-6 to 1e9; the optimum may be zero or 1e-9 of everything else.
    """
    rng = np.random.default_rng([7, seed])
    n, m = int(rng.integers(2, 16)), int(rng.integers(1, 16))
    rank = int(rng.integers(0, n + 1)) if rng.random() < 0.5 else n
    values = np.zeros(n)
    values[:rank] = np.geomspace(1.0, 10.0 ** -rng.uniform(0.0, 12.0), rank) if rank > 1 else 1.0
    factor = np.linalg.qr(rng.normal(size=(n, n)))[0] * np.sqrt(values)
    P = factor @ factor.T
    A = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.6)
    if m > 2 and rng.random() < 0.3:
        A[1] = A[0] * rng.choice([1.0, -2.0])
    if m > 2 and rng.random() < 0.2:
        A[2] = 0.0
    if rng.random() < 0.5:
        A *= 10.0 ** rng.uniform(-3.0, 3.0, size=(m, 1))
    x = rng.normal(size=n) * rng.choice([0.0, 1e-9, 1.0], p=[0.15, 0.15, 0.7])
    kind, box = rng.integers(0, 4, size=m), rng.integers(0, 5, size=n)
    y = np.where(kind >= 2, 0.0, rng.normal(size=m))
    z = np.where(box >= 3, 0.0, rng.normal(size=n))
    row, room = A @ x, 10.0 ** rng.choice([-7.0, -3.0, 0.0, 6.0], size=(2, max(n, m)))
    l = np.where((kind == 0) | ((kind == 1) & (y < 0.0)), row, np.where(kind == 3, -np.inf, row - room[0, :m]))  # noqa: E741
    u = np.where((kind == 0) | ((kind == 1) & (y > 0.0)), row, row + room[1, :m])
    lb = np.where((box == 0) | ((box <= 2) & (z < 0.0)), x, np.where(box >= 3, -np.inf, x - room[0, :n]))
    ub = np.where((box == 0) | ((box <= 2) & (z > 0.0)), x, np.where(box >= 3, np.inf, x + room[1, :n]))
    q = -(P @ x + A.T @ y + z)
    length, cost = 10.0 ** rng.uniform(-6.0, 9.0), 10.0 ** rng.uniform(-6.0, 6.0)
    program = QuadraticProgram(P * (cost / length**2), q * cost / length, A / length, l, u, lb * length, ub * length)
    terms = (0.5 * x @ P @ x, np.max(np.abs(q * x)), np.max(np.abs(y * row)), np.max(np.abs(z * x)))
    return program, x * length, cost * max(terms)


def allowed(program: QuadraticProgram, found: Solution, terms: float) -> float:
    """Return 1e-6 of the largest of the cost terms at optimum and answer and max |q| × the smallest length of a bound.

    A program all of whose finite bounds are zero has no length, and its optimum of zero no size: there the absolute
    floor of the certificate, at most 1e-11, is what can be asked.
    """
    lengths = [np.abs(program.lb), np.abs(program.ub)]
    top = np.max(np.abs(program.A.toarray()), axis=1)
    lengths += [np.abs(side)[top > 0.0] / top[top > 0.0] for side in (program.l, program.u)]
    every = np.concatenate(lengths)
    every = every[(every > 0.0) & np.isfinite(every)]
    shortest = float(np.min(every)) if every.size else 0.0
    x = found.x
    own = max(0.5 * x @ (program.P @ x), abs(program.q @ x), np.max(np.abs(program.q * x)))
    floor = min(found.certificate.floors[2], 1e-11) if every.size == 0 else 0.0
    return max(1e-6 * max(terms, float(own), float(np.max(np.abs(program.q))) * shortest), floor)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_planted_optima_are_found_or_refused(shard):
    optimal = both = 0
    seeds = range(shard, COUNT, SHARDS)
    for seed in seeds:
        program, x, terms = planted(seed)
        best = program.objective(x)
        answers = [solve(program, name) for name in ("piqp", "clarabel")]
        for found in answers:
            assert found.status not in FALSE, f"{seed} {found.summary()}"
            assert not np.isfinite(found.certificate.objective) or not np.isnan(found.objective)
            certificate = found.certificate
            assert certificate.lower_bound <= best + 1e-9 * max(terms, abs(certificate.lower_bound)), seed
            if found.status.ok:
                optimal += 1
                assert abs(found.objective - best) <= allowed(program, found, terms), f"{seed} {found.summary()}"
        if all(found.status.ok for found in answers):
            both += 1
            one, two = answers
            size = sum(allowed(program, found, terms) for found in answers)
            assert abs(one.objective - two.objective) <= size, seed
    # Refusals are honest; a certificate that refuses everything would be of no use all the same.
    assert optimal >= 0.6 * len(seeds)
    assert both >= 0.2 * len(seeds)


def a_point(seed: int) -> tuple[QuadraticProgram, np.ndarray]:
    """Return a program whose limits leave exactly one point, in one of four ways."""
    rng = np.random.default_rng([11, seed])
    n = int(rng.integers(1, 12))
    scale = 10.0 ** rng.uniform(-4.0, 6.0)
    G = rng.normal(size=(n, n))
    P, q = G @ G.T, rng.normal(size=n)
    way = seed % 4
    if way == 0:  # the whole order must be done and every slice is full
        return QuadraticProgram(P, q, np.ones((1, n)), n * scale, n * scale, lb=0.0, ub=scale), np.full(n, scale)
    x = rng.normal(size=n) * scale
    if way == 1:  # as many equalities as variables, some of them twice
        A = rng.normal(size=(n, n)) + 3.0 * np.eye(n)
        A = np.vstack((A, 2.0 * A[:1]))
        return QuadraticProgram(P, q, A, A @ x, A @ x), x
    if way == 2:
        return QuadraticProgram(P, q, lb=x, ub=x), x
    A = np.vstack((np.eye(n), -np.ones((1, n))))  # x ≤ given, Σx ≥ Σ given
    return QuadraticProgram(P, q, A, -np.inf, np.append(x, -x.sum())), x


@pytest.mark.parametrize("solver", ["auto", "piqp", "clarabel", "osqp"])
def test_a_feasible_set_of_one_point_is_never_called_infeasible(solver):
    found_it = 0
    for seed in range(40):
        program, x = a_point(seed)
        found = solve(program, solver)
        assert found.status not in FALSE, f"{seed} {found.summary()}"
        if found.status.ok:
            found_it += 1
            assert np.max(np.abs(found.x - x)) <= 1e-4 * np.max(np.abs(x)), seed
    assert found_it >= (36 if solver != "osqp" else 20)


def test_residuals_that_pass_do_not_hide_a_poor_objective():
    """Along a direction of curvature 1e-12 a residual of 1e-7 of the costs is worth a large part of the optimum."""
    program = QuadraticProgram(np.diag([1.0, 1e-12]), [1.0, 1e-7])
    exact = np.array([-1.0, -1e5])
    poor = np.array([-1.0, 0.0])  # ∇ = (0, 1e-7): 1e-7 of the costs; the objective is short by 1 % of its size
    assert certify(program, exact, np.zeros(0)).passes(1e-9)
    found = certify(program, poor, np.zeros(0))
    assert max(found.primal_rel, found.dual_rel, found.gap_rel) <= 1e-6
    assert found.excess_rel == pytest.approx(0.005, rel=1e-3)
    assert not found.passes(1e-6)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    coupled = QuadraticProgram(turned.T @ program.P @ turned, turned.T @ program.q)
    assert not certify(coupled, turned.T @ poor, np.zeros(0)).passes(1e-6)


def test_a_loose_cap_does_not_lift_the_floor():
    # Costs of 1e-14 are noise beside a cap of 1e12, and everything beside a completion row of one.
    program = QuadraticProgram(np.eye(2) * 1e-14, [0.0, 0.0], [[1.0, 1.0]], 1.0, 1.0, lb=-1e12, ub=1e12)
    assert certify(program, np.array([0.5, 0.5]), np.array([-0.5e-14])).passes(1e-9)
    assert not certify(program, np.array([1.0, 0.0]), np.array([-0.5e-14])).passes(1e-2)


@pytest.mark.parametrize("solver", ["auto", "piqp", "clarabel", "osqp"])
@pytest.mark.parametrize("length", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("cost", [1e-12, 1.0, 1e12])
def test_scales_of_1e12_both_ways_change_nothing(solver, length, cost):
    """A completion row over boxes with its known answer, in any units."""
    v = np.array([0.9, 0.4, 0.1, -0.5])
    program = QuadraticProgram(
        np.eye(4) * cost / length**2, -v * cost / length, np.ones((1, 4)), length, length, lb=0.0, ub=10.0 * length
    )
    found = solve(program, solver)
    assert found.status.ok, found.summary()
    assert found.x / length == pytest.approx([0.75, 0.25, 0.0, 0.0], abs=1e-4)
    best = program.objective(length * np.array([0.75, 0.25, 0.0, 0.0]))
    assert found.objective == pytest.approx(best, rel=1e-5)
    assert found.certificate.lower_bound <= best + 1e-9 * cost


def test_units_of_a_desk():
    program = QuadraticProgram(np.eye(1), [0.0], [[1.0]], 1.0, 1.0)
    found = certify(program, np.array([0.9]), np.array([-0.9]))
    units = found.in_units(cost=1e6, limit=100.0, notional=5e7)
    assert units["violation"] == pytest.approx(10.0)
    assert units["gap"] == pytest.approx(1e6 * found.gap)
    assert units["objective_bps"] == pytest.approx(1e4 * 1e6 * found.objective / 5e7)
    assert units["excess_bps"] == pytest.approx(1e4 * 1e6 * found.excess / 5e7)
    assert "gap_bps" not in found.in_units()
    for bad in ({"cost": 0.0}, {"limit": -1.0}, {"notional": np.nan}):
        with pytest.raises(InvalidInput, match="positive"):
            found.in_units(**bad)
