"""SCS: the protocol, and what is its own: three kinds of cones, the order of svec, a limit that is a set-up's."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Session, Status, certify, smat, solve, svec
from crosswind.solvers.backends.base import Claim, Options, WarmStart
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

NAME = "scs"


def test_protocol(protocol_check):
    protocol_check(NAME)


def test_degenerate_half(backend_suite):
    report = backend_suite.check_backend(NAME, "degenerate")
    assert report.share >= 0.97, report.summary()
    assert not report.disagreed


def nearest_psd(matrix: np.ndarray) -> ConeProgram:
    """Return min ½‖x − svec(matrix)‖² over smat(x) ⪰ 0."""
    v = svec(matrix)
    return ConeProgram(np.eye(v.size), -v, -np.eye(v.size), np.zeros(v.size), (Cone("psd", matrix.shape[0]),))


@pytest.mark.parametrize("order", [1, 2, 3, 7])
def test_nearest_semidefinite_matrix(order):
    """Every entry of the triangle differs, so that a wrong order of svec gives a wrong matrix."""
    M = np.random.default_rng(order).normal(size=(order, order))
    M = M + M.T
    values, vectors = np.linalg.eigh(M)
    found = solve(nearest_psd(M), NAME, tol=1e-7)
    assert found.status is Status.OPTIMAL, found.summary()
    assert np.allclose(smat(found.x), (vectors * np.maximum(values, 0.0)) @ vectors.T, atol=1e-5)
    # The multiplier is the part that was cut off: X − M ⪰ 0, orthogonal to X.
    assert np.allclose(smat(found.y), (vectors * np.maximum(-values, 0.0)) @ vectors.T, atol=1e-5)


def mixed_cones(seed: int = 2) -> ConeProgram:
    """Return a program over all four cones, given out of SCS's own order, with an interior point planted."""
    rng = np.random.default_rng(seed)
    cones = (Cone("psd", 3), Cone("nonneg", 4), Cone("soc", 4), Cone("zero", 2), Cone("soc", 3), Cone("psd", 2))
    n, m = 8, sum(cone.rows for cone in cones)
    A, x0 = rng.normal(size=(m, n)), rng.normal(size=n)
    inside = np.concatenate((svec(np.eye(3)), np.ones(4), [2.0, 0, 0, 0], np.zeros(2), [2.0, 0, 0], svec(np.eye(2))))
    G = rng.normal(size=(n, n))
    return ConeProgram(G @ G.T, 3.0 * rng.normal(size=n), A, A @ x0 + inside, cones)


@pytest.mark.parametrize("seed", range(4))
def test_all_cones_against_clarabel(seed):
    program = mixed_cones(seed)
    sure, found = solve(program, "clarabel", tol=1e-9), solve(program, NAME, tol=1e-6)
    assert sure.status.ok
    assert found.status.ok, found.summary()
    assert found.objective == pytest.approx(sure.objective, rel=1e-5)
    assert np.allclose(found.x, sure.x, atol=1e-3)
    assert certify(program, found.x, found.y, s=found.s, tol=1e-5).passes()


def test_cone_updates_and_warm_starts():
    program = mixed_cones()
    session = Session(program, NAME)
    session.solve()
    for step in range(3):
        session.update(q=program.q * (1.0 + 0.1 * step), b=program.b * (1.0 + 0.01 * step))
        assert session.solve().status.ok
    assert session.setups == 1
    cold = backend(NAME).prepare(program, Options()).solve(None, None)
    warm = backend(NAME).prepare(program, Options()).solve(WarmStart(cold.x, cold.y, cold.z), None)
    assert warm.iterations < 0.5 * cold.iterations


def test_cones_without_a_point():
    # ‖x‖ ≤ 1 and x₁ ≥ 2
    A = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    program = ConeProgram(np.eye(2), np.zeros(2), A, [1.0, 0.0, 0.0, -2.0], (Cone("soc", 3), Cone("nonneg", 1)))
    found = solve(program, NAME)
    assert found.status is Status.INFEASIBLE, found.summary()
    assert found.attempts[0].backend == NAME


def test_a_limit_that_hardly_moves_renews_no_set_up(backend_suite):
    program = backend_suite.cases("non-degenerate")[0].program
    prepared = backend(NAME).prepare(program, Options(time_limit=1.0))
    first = prepared.solver
    assert prepared.solve(None, 0.995).claim is Claim.SOLVED
    assert prepared.solver is first
    prepared.solve(None, 0.5)
    assert prepared.solver is not first


@pytest.mark.parametrize("settings", [{"alpha": 3.0}, {"eps_abs": -1.0}, {"linear_solver": 7}, {"max_iters": True}])
def test_values_that_scs_refuses(settings):
    with pytest.raises(InvalidInput):
        solve(QuadraticProgram(np.eye(2), [1.0, 1.0], lb=0.0), NAME, **settings)
