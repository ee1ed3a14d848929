"""Large fits without penalties are solved in coordinates where all rows weigh the same: nobody should notice."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from crosswind.solvers.gram import solve_gram
from crosswind.solvers.gram.instances import gram_instance
from crosswind.solvers.gram.level import Level
from crosswind.solvers.gram.problem import GramConeFit, violations
from crosswind.solvers.gram.solution import GramConeSolution
from crosswind.solvers.solution import Status

NAMES = 201  # the smallest that goes there with three shapes
TOL = 1e-5


@pytest.fixture(scope="module")
def fit() -> GramConeFit:
    return gram_instance(NAMES, 3, spectrum="spiked", seed=21)


@pytest.fixture(scope="module")
def solved(fit: GramConeFit) -> GramConeSolution:
    return solve_gram(fit, TOL)


def test_the_change_is_made(fit: GramConeFit) -> None:
    level = Level.of(fit)
    assert level is not None
    assert (np.asarray(level.fit.weights) == 1.0).all()
    K = np.stack([np.eye(NAMES) + 0.1 * k for k in range(3)])
    same = level.fit.objective(K * level.pair)
    assert same == pytest.approx(fit.objective(K), rel=1e-12)


@pytest.mark.parametrize("case", ["ridge", "even weights", "far weights", "small", "singular"])
def test_it_is_not_made_where_it_can_not_help(case: str, fit: GramConeFit) -> None:
    weights = np.asarray(fit.weights)
    other = {
        "ridge": lambda: fit.with_penalties(ridge=0.1),
        "even weights": lambda: replace(fit, weights=np.full(NAMES, 2.0)),
        "far weights": lambda: replace(fit, weights=weights ** np.linspace(1.0, 9.0, NAMES)),
        "small": lambda: gram_instance(20, 3),
        "singular": lambda: gram_instance(NAMES, 3, spectrum="singular"),
    }[case]()
    assert Level.of(other) is None


def test_same_answer_in_either_coordinates(
    fit: GramConeFit, solved: GramConeSolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crosswind.solvers.gram.level._SPREAD", 1.0)
    plain = solve_gram(fit, TOL)
    assert plain.status is solved.status is Status.OPTIMAL
    size = 1.0 + abs(plain.objective)
    # Each bound holds for the other's point too.
    assert solved.lower_bound <= plain.objective + 1e-11 * size
    assert plain.lower_bound <= solved.objective + 1e-11 * size
    assert solved.objective == pytest.approx(fit.objective(solved.matrices), rel=1e-11)
    worst = violations(solved.matrices, np.asarray(fit.floor), fit.corr_bound)
    assert worst.worst <= 1e-12
    assert worst == solved.violations


def test_prices_are_those_of_the_original_limits() -> None:
    fit = gram_instance(NAMES, 3, spectrum="spiked", seed=21, floor=3.0)  # binds for some names of each matrix
    solved = solve_gram(fit, 1e-7)
    prices, K = solved.prices, solved.matrices
    own = np.einsum("mii->mi", K)
    slack = fit.corr_bound * np.sqrt(own[:, :, None] * own[:, None, :]) - np.abs(K)
    paid = float(np.sum(prices.psd * K))
    paid += float(np.sum(prices.correlation * slack))
    paid += float(np.sum(prices.floor * (own - np.asarray(fit.floor))))
    # What the multipliers pay for slack is part of the gap, up to the curvature of the data.
    assert 0.0 <= paid <= 2.0 * solved.gap_abs
    more = 3e-3
    change = solve_gram(replace(fit, floor=np.asarray(fit.floor) * (1.0 + more)), 1e-8).objective - solved.objective
    foreseen = float(np.sum(prices.floor * (more * np.asarray(fit.floor))))
    assert foreseen > 100.0 * solved.gap_abs
    assert change == pytest.approx(foreseen, rel=0.03)


def test_warm_start_from_its_state(fit: GramConeFit, solved: GramConeSolution) -> None:
    again = solve_gram(fit, TOL, warm=pickle.loads(pickle.dumps(solved)))
    assert again.status is Status.OPTIMAL
    assert again.iterations <= solved.iterations // 3
    # And from it to a neighbour with a penalty.
    near = solve_gram(fit.with_penalties(ridge=0.01, pool=0.01), TOL, warm=solved)
    assert near.status is Status.OPTIMAL
    assert near.iterations <= solved.iterations


def test_repeatable(fit: GramConeFit, solved: GramConeSolution) -> None:
    assert np.array_equal(solve_gram(fit, TOL).matrices, solved.matrices)


def test_time_limit_returns_original_coordinates(fit: GramConeFit) -> None:
    stopped = solve_gram(fit, 1e-9, time_limit=1e-3)
    assert stopped.status is Status.TIME_LIMIT
    assert stopped.violations.worst <= 1e-12
    assert stopped.objective == pytest.approx(fit.objective(stopped.matrices), rel=1e-10)
    assert stopped.lower_bound <= stopped.objective


def test_float64_is_reached_there_too(fit: GramConeFit) -> None:
    exact = solve_gram(fit, 1e-9)
    assert exact.status is Status.OPTIMAL
    assert exact.gap <= 1e-9
