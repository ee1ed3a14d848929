"""quadprog: the protocol, exactness, repeated equalities, and proximal steps instead of a silent ridge."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Status, certify, solve
from crosswind.solvers.backends.base import Claim, Options
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

NAME = "quadprog"
LINEAR = QuadraticProgram(None, np.arange(1.0, 9.0), np.ones((1, 8)), 1.0, 1.0, 0.0, 0.3)


def raw_of(program: QuadraticProgram, **settings: object):
    return backend(NAME).prepare(program, Options(settings=settings)).solve(None, None)


def test_protocol(protocol_check):
    protocol_check(NAME)


def test_degenerate_half(backend_suite):
    report = backend_suite.check_backend(NAME, "degenerate")
    assert report.share >= 0.95, report.summary()
    assert not report.disagreed


def test_exact_to_rounding_where_p_is_definite(backend_suite):
    for case in backend_suite.cases("non-degenerate"):
        if not case.name.startswith("merely"):
            raw = backend_suite.run_raw(backend(NAME), case.program)
            assert raw.word == "solved"
            assert backend_suite.graded(case.program, raw).worst < 1e-10, case.name


def test_a_singular_p_is_stepped_to_and_never_altered():
    raw = raw_of(LINEAR)
    assert "proximal steps" in raw.word
    certificate = certify(LINEAR, raw.x, raw.y, raw.z)
    assert certificate.worst < 1e-9
    assert raw.x[:4] == pytest.approx([0.3, 0.3, 0.3, 0.1], abs=1e-9)
    # The weight of the steps changes the way, not the end.
    for weight in (1e-3, 1e-1):
        assert raw_of(LINEAR, proximal_weight=weight).x == pytest.approx(raw.x, abs=1e-8)


def test_without_steps_it_says_that_it_cannot():
    raw = raw_of(LINEAR, proximal_steps=0)
    assert raw.claim is Claim.FAILED
    assert raw.word == "P is not positive definite"
    assert solve(LINEAR, NAME, proximal_steps=0).status is Status.NUMERICAL


def test_too_few_steps_give_the_iterate():
    hard = QuadraticProgram(np.diag([1.0, 1e-3, 0.0]), [1.0, -1.0, 0.5], np.ones((1, 3)), -1.0, 1.0, -9.0, 9.0)
    raw = raw_of(hard, proximal_steps=1, proximal_weight=1.0)
    assert raw.claim is Claim.ITERATIONS
    assert certify(hard, raw.x, raw.y, raw.z).feasible()


def test_endless_descent_comes_with_its_direction():
    for program in (
        QuadraticProgram(None, [-1.0, 1.0], lb=0.0),
        QuadraticProgram(np.diag([1.0, 1.0, 0.0]), -np.ones(3), np.ones((1, 3)), 0.0, np.inf),
    ):
        found = solve(program, NAME)
        assert found.status is Status.UNBOUNDED, found.summary()
        assert found.proof is not None


def test_equalities_that_follow_from_others():
    A = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [2.0, 2.0, 0.0]])
    b = A @ np.array([1.0, -2.0, 0.5])
    program = QuadraticProgram(np.eye(3), np.ones(3), A, b, b)
    found = solve(program, NAME, tol=1e-9)
    assert found.status is Status.OPTIMAL, found.summary()
    for row in (2, 3, 4):
        wrong = b.copy()
        wrong[row] += 1e-3
        prepared = backend(NAME).prepare(program, Options())
        prepared.update(program.with_vectors(l=wrong, u=wrong))
        raw = prepared.solve(None, None)
        assert raw.claim is Claim.INFEASIBLE
        assert raw.farkas is not None
        found = solve(program.with_vectors(l=wrong, u=wrong), NAME)
        assert found.status is Status.INFEASIBLE
        assert len(found.attempts) == 1  # by its own multipliers, not by phase one


@pytest.mark.parametrize("settings", [{"proximal_steps": -1}, {"proximal_weight": 0.0}, {"proximal_weight": "small"}])
def test_values_that_are_refused(settings):
    with pytest.raises(InvalidInput):
        raw_of(LINEAR, **settings)
