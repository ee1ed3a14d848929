from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers import certify, solve
from crosswind.solvers.backends.base import Claim, Options
from crosswind.solvers.registry import backend

pytest.importorskip("qpalm", reason="the package qpalm is not installed")
NAME = "qpalm"


def test_protocol(protocol_check):
    protocol_check(NAME)


@pytest.mark.parametrize("half", ["non-degenerate", "degenerate"])
def test_suite(backend_suite, half):
    report = backend_suite.check_backend(NAME, half)
    assert report.share >= 0.98, report.summary()
    assert not report.disagreed, report.summary()


def test_proofs_of_both_kinds_are_verified(backend_suite):
    for label, (program, status) in backend_suite.impossible().items():
        found = solve(program, NAME)
        assert found.status is status, f"{label}: {found.summary()}"
        assert found.proof is not None


def test_non_convex_mode_stays_off_and_the_iterate_of_a_stop_is_graded(make_program):
    program = make_program(3, 1.0)
    prepared = backend(NAME).prepare(program, Options())
    assert prepared.settings.nonconvex == 0
    stopped = solve(program, NAME, tol=1e-9, max_iter=1)
    assert stopped.backend_status == "maximum iterations reached"
    assert not stopped.status.ok
    assert np.isfinite(stopped.certificate.primal_rel)


def test_a_limit_of_one_solve_does_not_stay(make_program):
    program = make_program(5, 1.0)
    prepared = backend(NAME).prepare(program, Options(1e-6, None, {"time_limit": 30.0}))
    assert prepared.solve(None, 1e-9).claim is Claim.TIME
    raw = prepared.solve(None, None)
    assert raw.claim is Claim.SOLVED
    assert certify(program, raw.x, raw.y, raw.z).passes()
    assert prepared.settings.time_limit == 30.0
