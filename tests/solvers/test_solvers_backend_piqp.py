from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import QuadraticProgram, Status, solve
from crosswind.solvers.backends.base import Options
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import backend

VARIANTS = ("piqp", "piqp:dense", "piqp:multistage")


@pytest.fixture(params=VARIANTS)
def name(request):
    return request.param


def test_protocol(protocol_check, name):
    protocol_check(name)


@pytest.mark.parametrize("half", ["non-degenerate", "degenerate"])
def test_suite(backend_suite, name, half):
    report = backend_suite.check_backend(name, half)
    assert report.share >= 0.98, report.summary()
    assert not report.disagreed, report.summary()


def test_the_variants_are_what_they_say():
    import piqp

    program = QuadraticProgram(sparse.eye_array(50), np.ones(50), lb=-1.0, ub=1.0)
    kinds = {name: backend(name).prepare(program, Options()).solver for name in VARIANTS}
    assert isinstance(kinds["piqp:dense"], piqp.DenseSolver)
    assert isinstance(kinds["piqp"], piqp.SparseSolver)
    assert kinds["piqp"].settings.kkt_solver == piqp.sparse_ldlt
    assert kinds["piqp:multistage"].settings.kkt_solver == piqp.sparse_multistage


def test_stages_in_a_row_agree():
    # A chain of positions with a cost on trades: each stage touches its neighbour only.
    stages, width = 30, 3
    n = stages * width
    step = sparse.eye_array(n) - sparse.eye_array(n, k=-width)
    P = sparse.csc_array(step.T @ step + 0.01 * sparse.eye_array(n))
    q = np.random.default_rng(2).normal(size=n)
    A = sparse.kron(sparse.eye_array(stages), np.ones((1, width)))
    program = QuadraticProgram(P, q, sparse.csc_array(A), -0.5, 0.5, -1.0, 1.0)
    found = [solve(program, name, tol=1e-8) for name in VARIANTS]
    assert all(one.status is Status.OPTIMAL for one in found)
    assert all(np.allclose(one.x, found[0].x, atol=1e-6) for one in found)


def test_the_factorisation_is_chosen_by_its_name():
    program = QuadraticProgram(np.eye(2), np.ones(2), lb=-0.5)
    assert solve(program, "piqp", kkt_solver="sparse_ldlt_cond").status is Status.OPTIMAL
    with pytest.raises(InvalidInput, match="no such factorisation"):
        solve(program, "piqp", kkt_solver="sparse_ldlt_quick")
    with pytest.raises(InvalidInput, match="no such variant"):
        solve(program, "piqp:quick")
