"""ProxQP: the protocol for the dense and the sparse method, and the choice between them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from crosswind.solvers import QuadraticProgram, Status, solve
from crosswind.solvers.backends.base import Claim, Options
from crosswind.solvers.registry import backend

NAME = "proxqp"


@pytest.mark.parametrize("name", ["proxqp", "proxqp:dense", "proxqp:sparse"])
def test_protocol(protocol_check, name):
    protocol_check(name)


@pytest.mark.parametrize("name", ["proxqp:dense", "proxqp:sparse"])
def test_degenerate_half(backend_suite, name):
    report = backend_suite.check_backend(name, "degenerate")
    assert report.share >= 0.97, report.summary()
    assert not report.disagreed


def test_the_choice_of_method():
    small = QuadraticProgram(np.eye(3), np.ones(3))
    large = QuadraticProgram(sparse.identity(3000, format="csc"), np.ones(3000))
    choose = {name: backend(name).prepare(small, Options()).dense for name in ("proxqp", "proxqp:sparse")}
    assert choose == {"proxqp": True, "proxqp:sparse": False}
    assert not backend("proxqp").prepare(large, Options()).dense
    assert backend("proxqp:dense").prepare(small, Options()).dense


def test_dense_and_sparse_agree(backend_suite):
    for case in backend_suite.cases("non-degenerate")[:20]:
        dense, thin = (solve(case.program, f"proxqp:{kind}") for kind in ("dense", "sparse"))
        assert dense.status is thin.status is Status.OPTIMAL
        assert dense.objective == pytest.approx(thin.objective, rel=1e-5, abs=1e-6 * case.scale)


def test_a_feasible_set_without_interior_is_not_called_empty(backend_suite):
    for case in backend_suite.cases("degenerate"):
        if case.name.startswith(("a point", "dependent", "duplicated")):
            raw = backend_suite.run_raw(backend(NAME), case.program)
            assert raw.claim is not Claim.INFEASIBLE, case.name


def test_multipliers_that_run_away_become_a_claim():
    """A linear program without a point ends at the iteration limit; its multipliers prove what it does not say."""
    program = QuadraticProgram(None, np.ones(3), np.ones((1, 3)), 4.0, np.inf, 0.0, 1.0)
    found = solve(program, NAME)
    assert found.status is Status.INFEASIBLE, found.summary()
    assert "Farkas direction" in found.backend_status
