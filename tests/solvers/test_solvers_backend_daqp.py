"""DAQP: the protocol, exactness to rounding, starts from a working set, proximal steps where P is singular."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Session, Status, certify, solve
from crosswind.solvers.backends.base import Claim, Options, WarmStart
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

NAME = "daqp"


def test_protocol(protocol_check):
    protocol_check(NAME)


def test_degenerate_half(backend_suite):
    report = backend_suite.check_backend(NAME, "degenerate")
    assert report.share >= 0.98, report.summary()
    assert not report.disagreed


def test_exact_to_rounding_where_p_is_definite(backend_suite):
    for case in backend_suite.cases("non-degenerate"):
        if case.name.startswith(("strictly", "equalities", "boxes", "rows", "tight")):
            certificate = backend_suite.graded(case.program, backend_suite.run_raw(backend(NAME), case.program))
            assert certificate.worst < 1e-11, case.name


def shifting(count: int) -> list[QuadraticProgram]:
    rng = np.random.default_rng(4)
    G, A = rng.normal(size=(20, 20)), rng.normal(size=(10, 20))
    base = QuadraticProgram(G @ G.T + np.eye(20), 20.0 * rng.normal(size=20), A, -1.0, 1.0, -1.0, 1.0)
    return [base.with_vectors(q=base.q + 0.1 * k * rng.normal(size=20)) for k in range(count)]


def test_the_working_set_is_carried_and_given():
    programs = shifting(6)
    prepared = backend(NAME).prepare(programs[0], Options())
    last = prepared.solve(None, None)
    cold = last.iterations
    carried = []
    for program in programs[1:]:
        prepared.update(program)
        last = prepared.solve(WarmStart(last.x, last.y, last.z), None)
        carried.append((last.iterations, last.x))
        assert certify(program, last.x, last.y, last.z).passes()
    assert max(count for count, _ in carried) < cold
    # Given from outside, copied, to a fresh set-up: the same working set, the same answer.
    fresh = backend(NAME).prepare(programs[-1], Options())
    again = fresh.solve(WarmStart(last.x.copy(), last.y.copy(), last.z.copy()), None)
    assert again.iterations == 1
    assert np.allclose(again.x, last.x, atol=1e-12)
    # No start at all is a cold one, on a set-up that has been used.
    assert fresh.solve(None, None).iterations == cold or fresh.solve(None, None).iterations > 1


def test_a_start_on_too_many_limits():
    """A vertex of 20 variables with 30 limits marked active: the working set cannot hold them all."""
    program = shifting(1)[0]
    start = WarmStart(np.zeros(20), np.ones(10), np.ones(20))
    raw = backend(NAME).prepare(program, Options()).solve(start, None)
    assert raw.claim is Claim.SOLVED, raw.word
    assert certify(program, raw.x, raw.y, raw.z).passes()


def test_contradicting_equalities_leave_the_set_up_usable():
    row = np.ones((2, 3))
    good = QuadraticProgram(np.eye(3), np.zeros(3), row, [1.0, 1.0], [1.0, 1.0])
    prepared = backend(NAME).prepare(good.with_vectors(l=[1.0, 2.0], u=[1.0, 2.0]), Options())
    assert prepared.solve(None, None).claim in (Claim.INFEASIBLE, Claim.FAILED)
    prepared.update(good)
    raw = prepared.solve(None, None)
    assert raw.x == pytest.approx(np.full(3, 1.0 / 3.0))


def test_proximal_steps_end_at_the_program_itself():
    n = 12
    program = QuadraticProgram(None, np.arange(1.0, n + 1.0), np.ones((1, n)), 1.0, 1.0, 0.0, 0.3)
    found = solve(program, NAME, tol=1e-9)
    assert found.status is Status.OPTIMAL
    assert found.x[:4] == pytest.approx([0.3, 0.3, 0.3, 0.1], abs=1e-8)
    assert found.y == pytest.approx([-4.0], abs=1e-6)


@pytest.mark.parametrize("settings", [{"primal_tol": "small"}, {"iter_limit": 1.5}, {"eps_prox": None}])
def test_values_that_are_refused(settings):
    with pytest.raises(InvalidInput):
        solve(shifting(1)[0], NAME, **settings)


def test_the_short_way_gives_what_the_long_way_gives():
    programs = shifting(30)
    session = Session(programs[0], NAME)
    rng = np.random.default_rng(8)
    for k, program in enumerate(programs):
        reach = 1.0 + 0.2 * rng.random()
        session.update(q=program.q, lb=-reach, ub=reach)
        if k % 3 == 0:
            session.update(l=-reach, u=reach)
        found, current = session.solve(), session.program
        assert found.status is Status.OPTIMAL
        fresh = solve(current, NAME)
        assert np.max(np.abs(found.x - fresh.x)) < 1e-9
        assert np.max(np.abs(found.y - fresh.y)) < 1e-7
        assert np.max(np.abs(found.z - fresh.z)) < 1e-7
    assert session.setups == 1


def test_the_short_way_after_a_program_without_a_point():
    base = shifting(1)[0]
    session = Session(base, NAME)
    for _ in range(3):
        assert session.solve().status is Status.OPTIMAL
        impossible = np.full(10, 1e3)
        assert session.update(l=impossible, u=impossible + 1.0).solve().status is Status.INFEASIBLE
        session.update(l=base.l, u=base.u)
