from __future__ import annotations

import numpy as np
import pytest

from crosswind.problems.impact.instances import impact_instance
from crosswind.problems.impact.program import FitProblem
from crosswind.problems.impact.repair import raise_diagonal, repair


def violations(K: np.ndarray, floor: np.ndarray, rho: float) -> float:
    """Largest violation of any constraint, relative to the largest diagonal entry, computed by hand."""
    size = np.diag(K).max()
    diag = np.diag(K)
    off = np.abs(K - np.diag(diag))
    return float(
        max(
            np.abs(K - K.T).max() / size,
            -np.linalg.eigvalsh(K)[0] / size,
            (floor - diag).max() / size,
            (off - rho * np.sqrt(np.outer(diag, diag))).max() / size,
        )
    )


@pytest.mark.parametrize("corr_bound", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_any_matrix_becomes_feasible_to_rounding(seed: int, corr_bound: float) -> None:
    problem = impact_instance(7, 2, corr_bound=corr_bound, seed=seed)
    rng = np.random.default_rng(seed)
    fixed = repair(problem, rng.standard_normal((2, 7, 7)) * 10.0 ** rng.uniform(-3, 3))
    for K in fixed.matrices:
        assert violations(K, problem.floor, corr_bound) <= 1e-12


def test_a_feasible_matrix_is_left_alone() -> None:
    problem = impact_instance(4, 1, corr_bound=0.5)
    K = (np.eye(4) + 0.2 * (1 - np.eye(4)))[None]
    fixed = repair(problem, K)
    np.testing.assert_array_equal(fixed.matrices, K)
    assert fixed.cost == 0.0


def test_a_solver_sized_error_costs_a_solver_sized_amount() -> None:
    problem = impact_instance(8, 2, seed=1)
    exact = np.repeat((np.full((8, 8), 0.6) + 0.4 * np.eye(8))[None], 2, axis=0)  # on the correlation bound
    rng = np.random.default_rng(0)
    fixed = repair(problem, exact + 1e-8 * rng.standard_normal(exact.shape))
    assert np.abs(fixed.matrices - exact).max() < 1e-6
    assert abs(fixed.cost) < 1e-5
    assert max(violations(K, problem.floor, 0.6) for K in fixed.matrices) <= 1e-12


def test_raising_the_diagonal_meets_the_bound_and_keeps_psd() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        half = rng.standard_normal((6, 3))
        low_rank = half @ half.T
        out = raise_diagonal(low_rank, np.full(6, 0.1), 0.4)
        assert violations(out, np.full(6, 0.1), 0.4) <= 1e-12
        off = ~np.eye(6, dtype=bool)
        np.testing.assert_array_equal(out[off], low_rank[off])
        assert (np.diag(out) >= np.diag(low_rank)).all()


def test_a_name_without_own_impact_loses_its_cross_terms() -> None:
    K = np.array([[0.0, 0.5], [0.5, 1.0]])
    np.testing.assert_array_equal(raise_diagonal(K, np.zeros(2), 0.5), np.diag([0.0, 1.0]))


def test_the_better_of_the_two_ways_is_taken() -> None:
    problem = impact_instance(6, 1, seed=2, corr_bound=1.0)
    bad = np.random.default_rng(1).standard_normal((1, 6, 6))
    fixed = repair(problem, bad)
    symmetric = 0.5 * (bad[0] + bad[0].T)
    shifted = symmetric - min(0.0, np.linalg.eigvalsh(symmetric)[0]) * np.eye(6)
    shifted = raise_diagonal(shifted, problem.floor, 1.0)
    assert fixed.objective_after <= problem.objective(shifted[None]) + 1e-9
    assert fixed.objective_after == pytest.approx(problem.objective(fixed.matrices))
    assert isinstance(problem, FitProblem)
    assert fixed.method in ("shift", "clip")


def test_one_name() -> None:
    problem = impact_instance(1, 2)
    fixed = repair(problem, np.full((2, 1, 1), -1.0))
    np.testing.assert_array_equal(fixed.matrices[:, 0, 0], problem.floor[0])
