from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, Status, certify, solve
from crosswind.solvers.backends.base import Options
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

pytest.importorskip("qoco", reason="the package qoco is not installed")
NAME = "qoco"


def test_protocol(protocol_check):
    protocol_check(NAME)


@pytest.mark.parametrize("half", ["non-degenerate", "degenerate"])
def test_suite(backend_suite, half):
    report = backend_suite.check_backend(NAME, half)
    assert report.share >= 0.98, report.summary()
    assert not report.disagreed, report.summary()


def test_an_unbounded_program_that_it_calls_solved_is_not_taken(backend_suite):
    program, status = backend_suite.impossible()["linear, open"]
    assert status is Status.UNBOUNDED
    found = solve(program, NAME)
    assert not found.status.ok
    assert "SOLVED" in found.backend_status


def test_cones_in_any_order_agree_with_clarabel():
    rng = np.random.default_rng(4)
    cones = (Cone("soc", 3), Cone("nonneg", 2), Cone("soc", 1), Cone("zero", 1), Cone("soc", 4))
    for _ in range(10):
        n = 5
        A = rng.normal(size=(11, n))
        inside = np.r_[3.0, 1.0, 1.0, 0.5, 0.5, 1.0, 0.0, 4.0, 1.0, 1.0, 1.0]
        program = ConeProgram(np.eye(n), 3.0 * rng.normal(size=n), A, A @ rng.normal(size=n) + inside, cones)
        found, sure = solve(program, NAME), solve(program, "clarabel", tol=1e-9)
        assert found.status is Status.OPTIMAL, found.summary()
        assert found.objective == pytest.approx(sure.objective, rel=1e-6, abs=1e-6)
        assert certify(program, found.x, found.y, None, found.s).passes()


def test_psd_cones_are_refused():
    program = ConeProgram(np.eye(3), np.zeros(3), -np.eye(3), np.zeros(3), (Cone("psd", 2),))
    with pytest.raises(InvalidInput, match="cone"):
        solve(program, NAME)


def test_updates_are_fresh_set_ups_even_after_a_run_that_ended_short(make_program):
    # QOCO's own update would give the former program's iterate back here.
    program = make_program(122, 1.0)
    prepared = backend(NAME).prepare(program, Options())
    prepared.solve(None, None)
    rng = np.random.default_rng(122)
    for _ in range(3):
        shift = 0.3 * rng.normal(size=program.n)
        rows = program.A @ shift
        moved = program.with_vectors(
            q=program.q * (1.0 + 0.5 * rng.normal(size=program.n)),
            l=program.l + rows,
            u=program.u + rows,
            lb=program.lb + shift,
            ub=program.ub + shift,
        )
        prepared.update(moved)
        raw, fresh = prepared.solve(None, None), backend(NAME).prepare(moved, Options()).solve(None, None)
        assert np.array_equal(raw.x, fresh.x)
        assert np.array_equal(raw.y, fresh.y)
