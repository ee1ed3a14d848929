"""The commercial solvers as far as the licences inside their packages reach; absent packages are skipped."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers import QuadraticProgram, Status, certify, solve
from crosswind.solvers.backends.base import Claim, Options, guarded
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

PACKAGES = {"gurobi": "gurobipy", "copt": "coptpy", "xpress": "xpress", "cplex": "cplex"}
# Sizes that the free licences do not cover, for quadratic programs.
TOO_LARGE = {"gurobi": 201, "copt": 2001, "xpress": 201, "cplex": 1001}
# The clock's check needs a program larger than the free licences allow; its own test follows.
OWN = ("the_clock_stops_it_with_its_iterate", "an_iteration_limit_gives_its_iterate")


@pytest.fixture(params=PACKAGES)
def name(request):
    pytest.importorskip(PACKAGES[request.param], reason=f"the package {PACKAGES[request.param]} is not installed")
    return request.param


def test_protocol(protocol_check, name):
    if protocol_check.__name__ in OWN:
        pytest.skip("has a test of its own below")
    protocol_check(name)


@pytest.mark.parametrize("half", ["non-degenerate", "degenerate"])
def test_suite(backend_suite, name, half):
    report = backend_suite.check_backend(name, half)
    assert report.share >= (0.98 if half == "non-degenerate" else 0.9), report.summary()
    assert not report.disagreed, report.summary()


def test_limits_stop_it_and_do_not_stay(name):
    rng = np.random.default_rng(0)
    n = 60
    G = rng.normal(size=(n, n))
    program = QuadraticProgram(
        G @ G.T + 0.1 * np.eye(n), 100.0 * rng.normal(size=n), rng.normal(size=(n, n)), -1.0, np.inf, -1.0, 1.0
    )
    prepared = backend(name).prepare(program, Options())
    assert prepared.solve(None, 1e-6).claim in (Claim.TIME, Claim.SOLVED)
    raw = prepared.solve(None, None)
    assert raw.claim is Claim.SOLVED
    assert certify(program, raw.x, raw.y, raw.z).passes()
    key = {
        "gurobi": "BarIterLimit",
        "copt": "BarIterLimit",
        "xpress": "bariterlimit",
        "cplex": "barrier.limits.iteration",
    }[name]
    stopped = backend(name).prepare(program, Options(1e-9, None, {key: 3})).solve(None, None)
    assert stopped.claim is Claim.ITERATIONS, stopped.word
    assert stopped.iterations <= 3
    found = solve(program, name, tol=1e-9, **{key: 3})
    assert found.status in (Status.ITERATION_LIMIT, Status.NUMERICAL)


def test_a_program_beyond_the_licence_is_a_told_failure(name):
    n = TOO_LARGE[name]
    program = QuadraticProgram(np.eye(n), np.ones(n), lb=-1.0, ub=1.0)
    raw = guarded(lambda: backend(name).prepare(program, Options()).solve(None, None))
    if not isinstance(raw, Exception) and raw.claim is Claim.SOLVED:
        pytest.skip("a full licence is present")
    found = solve(program, name)
    assert found.status is Status.NUMERICAL
    assert found.backend_status


def test_says_what_it_is(name):
    found = backend(name)
    assert found.commercial
    assert "licence" in found.limits
    assert found.version()


def test_mosek_takes_the_program_and_fails_cleanly_without_a_licence():
    mosek = pytest.importorskip("mosek", reason="the package mosek is not installed")
    from scipy import sparse

    rng = np.random.default_rng(1)
    A = sparse.random_array((4, 5), density=0.5, rng=rng)
    P = np.diag(np.arange(5.0)) + 0.1
    program = QuadraticProgram(
        P, np.arange(5.0), A, [-1, -np.inf, 0, -9], [1, 3, 0, np.inf], [-2, -np.inf, -1, 0, -1], 2
    )
    prepared = backend("mosek").prepare(program, Options())
    task, scaling = prepared.task, prepared.scaling
    assert (task.getnumvar(), task.getnumcon(), task.getnumanz()) == (5, 4, program.A.nnz)
    rows, columns, values = task.getaijtriplets() if hasattr(task, "getaijtriplets") else task.getatrip()
    read = sparse.coo_array((values, (rows, columns)), shape=(4, 5)).toarray()
    assert np.array_equal(read, program.A.toarray())
    assert np.allclose(task.getclist(list(range(5))), program.q * scaling.linear)
    key = mosek.boundkey
    assert task.getconboundslice(0, 4)[0] == [key.ra, key.up, key.fx, key.lo]
    assert task.getvarboundslice(0, 5)[0] == [key.ra, key.up, key.ra, key.ra, key.ra]
    found = solve(program, "mosek")
    if found.status is Status.OPTIMAL:  # there is a licence after all
        return
    assert found.status is Status.NUMERICAL
    assert "licen" in found.backend_status.lower()


def test_mosek_refuses_settings():
    pytest.importorskip("mosek", reason="the package mosek is not installed")
    program = QuadraticProgram(np.eye(1), [1.0])
    with pytest.raises(InvalidInput, match="no setting of this name"):
        solve(program, "mosek", no_such_setting=1)
    with pytest.raises(InvalidInput, match="does not take this value"):
        solve(program, "mosek", MSK_DPAR_INTPNT_TOL_PFEAS="small")
