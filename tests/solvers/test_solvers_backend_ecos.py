"""ECOS: the protocol, second-order cones, and the epigraph of a quadratic objective with its loss of digits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import Cone, ConeProgram, QuadraticProgram, Status, certify, solve
from crosswind.solvers.backends import ecos as module
from crosswind.solvers.backends.base import Options
from crosswind.solvers.backends.epigraph import factor
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

NAME = "ecos"


def test_protocol(protocol_check):
    protocol_check(NAME)


def test_degenerate_half(backend_suite):
    report = backend_suite.check_backend(NAME, "degenerate")
    assert report.share >= 0.8, report.summary()
    assert not report.disagreed


@pytest.mark.parametrize("kind", ["definite", "singular", "diagonal", "blocks", "zero", "with zeros"])
def test_the_factor_is_exact(kind):
    rng = np.random.default_rng(3)
    G = rng.normal(size=(6, 6))
    P = {
        "definite": G @ G.T + np.eye(6),
        "singular": G[:, :2] @ G[:, :2].T,
        "diagonal": np.diag([1.0, 0.0, 4.0, 1e-12, 1e12, 2.0]),
        "blocks": np.kron(np.diag([1.0, 3.0, 0.0]), [[2.0, 1.0], [1.0, 2.0]])[[0, 2, 4, 1, 3, 5]][
            :, [0, 2, 4, 1, 3, 5]
        ],
        "zero": np.zeros((6, 6)),
        "with zeros": np.outer([1.0, 0.0, 1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]),
    }[kind]
    F = factor(sparse.csc_matrix(P))
    assert np.max(np.abs((F.T @ F).toarray() - P)) <= 1e-13 * max(1.0, np.max(np.abs(P)))
    assert F.shape[0] == np.linalg.matrix_rank(P, tol=1e-14)
    if kind in ("diagonal", "blocks"):
        assert F.nnz <= 6


def test_solving_again_around_the_point_wins_the_digits_back(backend_suite, monkeypatch):
    passed = {}
    for rounds in (0, 3):
        monkeypatch.setattr(module, "_ROUNDS", rounds)
        passed[rounds] = sum(
            backend_suite.graded(case.program, backend_suite.run_raw(backend(NAME), case.program)).passes()
            for case in backend_suite.cases("non-degenerate")[:40]
        )
    assert passed[3] >= passed[0] + 5


def disc(target: np.ndarray, **parts: object) -> ConeProgram:
    """Return the projection of ``target`` on the unit disc, with a half-line and an equality among the rows."""
    A = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
    b = np.array([9.0, 1.0, 0.0, 0.0, 2.0])
    cones = (Cone("nonneg", 1), Cone("soc", 3), Cone("zero", 1))
    return ConeProgram(np.eye(3), -np.append(target, 0.0), A, b, cones)


def test_projection_on_a_disc():
    found = solve(disc(np.array([3.0, 4.0])), NAME)
    assert found.status is Status.OPTIMAL, found.summary()
    assert found.x == pytest.approx([0.6, 0.8, 2.0], abs=1e-5)
    # stationarity: x − target + A'y = 0 with y on the boundary of the dual cone
    assert found.y[2:4] == pytest.approx([-2.4, -3.2], abs=1e-4)
    assert found.y[1] == pytest.approx(4.0, abs=1e-4)
    assert found.y[4] == pytest.approx(-2.0, abs=1e-4)


def test_linear_objectives_need_no_epigraph():
    program = ConeProgram(
        None, [-1.0, -1.0], np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]), [1.0, 0, 0], (Cone("soc", 3),)
    )
    found = solve(program, NAME, tol=1e-7)
    assert found.status.ok
    assert found.objective == pytest.approx(-np.sqrt(2.0), rel=1e-7)
    assert certify(program, found.x, found.y, s=found.s).passes()


@pytest.mark.parametrize("seed", range(4))
def test_cones_against_clarabel(seed):
    rng = np.random.default_rng(seed)
    cones = (Cone("soc", 4), Cone("zero", 2), Cone("nonneg", 5), Cone("soc", 3), Cone("soc", 1))
    n, m = 8, 15
    A, x0, G = rng.normal(size=(m, n)), rng.normal(size=n), rng.normal(size=(n, 4))
    inside = np.array([2.0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2.0, 0, 0, 1.0])
    y = np.array([2.0, 1, 0, 0, 1, -1, 1, 0, 1, 0, 1, 1.0, 0, 0, 1.0])
    program = ConeProgram(G @ G.T, -(A.T @ y), A, A @ x0 + inside, cones)
    sure, found = solve(program, "clarabel", tol=1e-9), solve(program, NAME)
    assert sure.status.ok
    assert found.status.ok, found.summary()
    assert found.objective == pytest.approx(sure.objective, rel=1e-5)


def test_semidefinite_cones_are_refused():
    program = ConeProgram(np.eye(3), np.ones(3), -np.eye(3), np.zeros(3), (Cone("psd", 2),))
    with pytest.raises(InvalidInput):
        solve(program, NAME)


def test_the_lowering_is_kept_between_solves():
    program = QuadraticProgram(np.eye(2), [-3.0, 0.0], [[1.0, 1.0]], -1.0, 1.0)
    prepared = backend(NAME).prepare(program, Options())
    factor = prepared.factor
    prepared.solve(None, None)
    prepared.update(program.with_vectors(q=[0.0, -3.0]))
    assert prepared.factor is factor
    assert prepared.solve(None, None).x == pytest.approx([-1.0, 2.0], abs=1e-5)


@pytest.mark.parametrize("settings", [{"feastol": "tight"}, {"max_iters": 2.5}, {"bool_vars_idx": [0]}])
def test_values_that_are_refused(settings):
    with pytest.raises(InvalidInput):
        solve(QuadraticProgram(np.eye(2), [1.0, 1.0], lb=0.0), NAME, **settings)
