from __future__ import annotations

import warnings

import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, Status, solve
from crosswind.solvers.backends.base import Claim, Options, WarmStart
from crosswind.solvers.cones import svec
from crosswind.solvers.registry import backend

pytest.importorskip("moreau", reason="the package moreau is not installed")
NAME = "moreau"


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
        assert backend(NAME).prepare(program, Options()).solve(None, None).claim.name == status.name


def test_cones_of_all_kinds_in_any_order_agree_with_clarabel():
    rng = np.random.default_rng(4)
    cones = (Cone("psd", 3), Cone("soc", 3), Cone("nonneg", 2), Cone("zero", 1), Cone("psd", 2))
    inside = np.r_[svec(np.eye(3)), 3.0, 1.0, 1.0, 0.5, 0.5, 0.0, svec(np.diag([1.0, 2.0]))]
    for _ in range(10):
        n = 5
        A = rng.normal(size=(inside.size, n))
        program = ConeProgram(np.eye(n), 3.0 * rng.normal(size=n), A, A @ rng.normal(size=n) + inside, cones)
        found, sure = solve(program, NAME), solve(program, "clarabel", tol=1e-9)
        assert found.status is Status.OPTIMAL, found.summary()
        assert found.objective == pytest.approx(sure.objective, rel=1e-6, abs=1e-6)
        again = solve(program, NAME, warm_start=found)
        assert again.status is Status.OPTIMAL


def test_a_failed_warm_start_is_repeated_cold_without_a_warning(make_program):
    program = make_program(4, 1.0)
    prepared = backend(NAME).prepare(program, Options())
    wild = WarmStart(*(np.full(k, 1e12) for k in (program.n, program.m, program.n)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepared.solve(wild, None).claim is Claim.SOLVED


def test_a_time_limit_that_shrinks_a_little_is_not_compiled_again(make_program):
    prepared = backend(NAME).prepare(make_program(4, 1.0), Options(1e-6, 10.0))
    compiled = prepared.solver
    assert prepared.solve(None, 9.9).claim is Claim.SOLVED
    assert prepared.solver is compiled
    assert prepared.solve(None, 1e-9).claim is Claim.TIME
    assert prepared.solver is not compiled
    assert prepared.solve(None, None).claim is Claim.SOLVED
