from __future__ import annotations

import time

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Status, certify, solve
from crosswind.solvers.backends.base import Claim, Options
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

pytest.importorskip("qpax", reason="the package qpax is not installed")
NAME = "qpax"
# Each new shape is compiled for seconds, so the checks that need many shapes are left out.
ONE_SHAPE = (
    "multipliers_are_slopes_of_the_optimal_value",
    "updates_equal_fresh_solves",
    "a_new_program_is_not_mistaken_for_an_update",
    "unknown_settings_are_refused",
    "a_good_solve_after_bad_ones",
    "the_world_is_left_as_it_was",
)
SHAPE = (6, 1, 3)  # variables, equalities, ranged rows


def programs(count: int) -> list[QuadraticProgram]:
    """Return programs of one shape: an equality, ranged rows and boxes around a planted interior point."""
    out = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        n, equal, ranged = SHAPE
        G, A, x0 = rng.normal(size=(n, n)), rng.normal(size=(equal + ranged, n)), rng.normal(size=n)
        low, high = A @ x0 - 0.1 - rng.random(4), A @ x0 + 0.1 + rng.random(4)
        low[:equal] = high[:equal] = (A @ x0)[:equal]
        P = G @ G.T if seed % 2 else np.outer(G[0], G[0])
        length, cost = 10.0 ** rng.uniform(-6.0, 6.0, size=2)
        sides = (side * length for side in (low, high, x0 - 0.5, x0 + 0.5))
        out.append(QuadraticProgram(P * cost / length**2, 5.0 * rng.normal(size=n) * cost / length, A, *sides))
    return out


def test_protocol(protocol_check):
    if protocol_check.__name__ not in ONE_SHAPE:
        pytest.skip("would compile for many shapes")
    protocol_check(NAME)


def test_a_hundred_programs_of_one_shape():
    failed = []
    for number, program in enumerate(programs(100)):
        raw = backend(NAME).prepare(program, Options()).solve(None, None)
        if not certify(program, raw.x, raw.y, raw.z).passes():
            failed.append((number, raw.word))
    assert len(failed) <= 10, failed
    assert not any(word == "converged" for _, word in failed), failed


def test_float64_is_local_and_the_compilation_is_kept():
    import jax

    from crosswind.solvers.backends.qpax import _compiled

    before = jax.config.jax_enable_x64
    program = programs(1)[0]
    backend(NAME).prepare(program, Options()).solve(None, None)
    compiled = _compiled.cache_info().misses
    start = time.perf_counter()
    raw = backend(NAME).prepare(program, Options()).solve(None, None)
    assert _compiled.cache_info().misses == compiled
    assert time.perf_counter() - start < 1.0
    assert raw.x.dtype == np.float64
    assert jax.config.jax_enable_x64 == before


def test_stops_at_its_limit_with_the_iterate_and_fails_in_the_open():
    program = programs(2)[1]
    raw = backend(NAME).prepare(program, Options(1e-6, None, {"max_iter": 3})).solve(None, None)
    assert raw.claim is Claim.ITERATIONS
    assert raw.iterations == 3
    assert np.isfinite(raw.x).all()
    # Dependent equalities leave its inner matrix singular: NaN, told as a failure.
    twice = QuadraticProgram(np.eye(2), np.zeros(2), np.ones((2, 2)), 1.0, 1.0, -1.0, 1.0)
    assert solve(twice, NAME).status is Status.NUMERICAL


def test_values_that_it_does_not_take():
    program = programs(1)[0]
    for settings in ({"backend": "x"}, {"linear_solver": "lu"}, {"max_iter": 0}, {"solver_tol": -1.0}):
        with pytest.raises(InvalidInput):
            backend(NAME).prepare(program, Options(1e-6, None, settings))
