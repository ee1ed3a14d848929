from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.gram import GramConeFit, GramProgress, gram_path, solve_gram, violations
from crosswind.solvers.gram.instances import SPECTRA, gram_instance
from crosswind.solvers.solution import Status

PENALTIES = [
    {},
    {"ridge": 1.0, "pool": 1.0},
    {"ridge": 0.7},
    {"pool": 0.5},
    {"l1": 0.1},
    {"l1": 0.05, "ridge": 0.2, "pool": 0.9},
]


def assert_feasible(fit: GramConeFit, K: np.ndarray) -> None:
    np.testing.assert_array_equal(K, K.transpose(0, 2, 1))
    values = np.linalg.eigvalsh(K)
    assert (values[:, 0] >= -1e-12 * values[:, -1]).all()
    own = np.einsum("mii->mi", K)
    assert (own >= np.asarray(fit.floor) - 1e-12).all()
    over = np.abs(K) - fit.corr_bound * np.sqrt(own[:, :, None] * own[:, None, :])
    np.einsum("mii->mi", over)[:] = 0.0
    assert over.max() <= 1e-12


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 1.0])
def test_certified_optimum_of_every_kind(spectrum: str, rho: float) -> None:
    for seed, penalty in enumerate(PENALTIES):
        if spectrum == "singular" and not penalty.get("ridge"):
            penalty = penalty | {"ridge": 0.1, "pool": 0.1}
        fit = gram_instance(
            8, 2, spectrum=spectrum, condition=50.0, corr_bound=rho, seed=seed, rows=2000, r2=0.05, **penalty
        )
        solved = solve_gram(fit, tol=1e-8)
        assert solved.status is Status.OPTIMAL, (seed, solved.summary())
        assert solved.rigorous
        assert solved.gap <= 1e-8
        assert_feasible(fit, solved.matrices)
        assert solved.objective == pytest.approx(fit.objective(solved.matrices), rel=1e-14)


def random_feasible(fit: GramConeFit, rng: np.random.Generator) -> np.ndarray:
    """PSD, with the floor and the bound kept by raising the diagonal of a random Gram matrix."""
    half = rng.standard_normal((fit.shapes, fit.names, max(1, fit.names // 2)))
    K = half @ half.transpose(0, 2, 1) / fit.names
    if fit.corr_bound == 0:
        K = K * np.eye(fit.names)
    own = np.maximum(np.einsum("mii->mi", K), np.asarray(fit.floor))
    np.einsum("mii->mi", K)[:] = own * (1.0 / fit.corr_bound if 0 < fit.corr_bound < 1 else 1.0)
    return K


@pytest.mark.parametrize("seed", range(4))
def test_no_feasible_point_undercuts_the_bound_of_a_stopped_solve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for penalty, rho in itertools.product(PENALTIES, (0.3, 1.0)):
        fit = gram_instance(6, 2, seed=seed, corr_bound=rho, **penalty)
        best = solve_gram(fit, tol=1e-9)
        for max_iter in (1, 2, 3, 5, 9):
            early = solve_gram(fit, tol=1e-12, max_iter=max_iter)
            assert early.status is Status.ITERATION_LIMIT
            assert early.lower_bound <= best.objective + 1e-12
            assert early.objective >= best.lower_bound - 1e-12
            assert_feasible(fit, early.matrices)
        for _ in range(20):
            assert fit.objective(random_feasible(fit, rng)) >= best.lower_bound


def test_bound_within_reach_for_singular_moments_without_ridge() -> None:
    fit = gram_instance(8, 1, spectrum="singular", rows=500, r2=0.2, corr_bound=0.5)
    assert np.linalg.matrix_rank(fit.S) < 8
    solved = solve_gram(fit, tol=1e-6)
    assert not solved.rigorous
    assert solved.status is Status.OPTIMAL
    assert "within" in solved.summary()
    # A ridge that vanishes leads to the same objective.
    curved = solve_gram(fit.with_penalties(ridge=1e-7, pool=1e-7), tol=1e-8)
    assert solved.objective == pytest.approx(curved.objective, abs=1e-5)


def test_prices_are_dual_feasible_and_complementary() -> None:
    fit = gram_instance(7, 2, corr_bound=0.35, floor=1.6, r2=0.3, seed=2)
    solved = solve_gram(fit, tol=1e-11)
    K, prices = solved.matrices, solved.prices
    own = np.einsum("mii->mi", K)
    assert prices.floor.max() > 1e-3
    assert prices.correlation.max() > 1e-3
    assert (prices.floor >= 0).all()
    assert (prices.correlation >= 0).all()
    assert np.linalg.eigvalsh(prices.psd).min() >= -1e-9
    slack = fit.corr_bound * np.sqrt(own[:, :, None] * own[:, None, :]) - np.abs(K)
    assert abs((prices.floor * (own - np.asarray(fit.floor))).sum()) < 1e-5
    assert abs((prices.correlation * slack).sum()) < 1e-5
    assert abs((prices.psd * K).sum()) < 1e-5


def test_price_of_the_floor_is_the_slope_of_the_optimum() -> None:
    base = gram_instance(6, 1, corr_bound=0.5, floor=1.3, r2=0.3, seed=1)
    floor = np.asarray(base.floor)
    price = solve_gram(base, tol=1e-12).prices.floor[0]
    for i in range(3):
        h = 1e-4
        ends = []
        for sign in (1, -1):
            moved = floor.copy()
            moved[i] += sign * h
            fit = GramConeFit(base.S, base.B, base.weights, moved, base.corr_bound)
            ends.append(solve_gram(fit, tol=1e-12).objective)
        assert price[i] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-3 * (1 + price.max()))


def test_same_problem_same_bits_in_both_precisions() -> None:
    for names, tol in ((10, 1e-8), (70, 1e-4)):
        fit = gram_instance(names, 2, corr_bound=0.4)
        first, second = solve_gram(fit, tol), solve_gram(fit, tol)
        np.testing.assert_array_equal(first.matrices, second.matrices)
        assert first.iterations == second.iterations
        assert first.lower_bound == second.lower_bound
        assert {moment.dtype for moment in first.history} == {"float64" if names == 10 else "float32"}


def test_float32_iterations_go_on_in_float64_when_they_stall() -> None:
    fit = gram_instance(66, 1, corr_bound=0.5)
    from crosswind.solvers.gram import solve as module

    held = module._PRECISE
    module._PRECISE = 0.0
    try:
        solved = solve_gram(fit, tol=1e-10)
    finally:
        module._PRECISE = held
    assert solved.status is Status.OPTIMAL
    assert solved.history[0].dtype == "float32"
    assert solved.history[-1].dtype == "float64"
    assert solved.objective == pytest.approx(solve_gram(fit, tol=1e-10).objective, rel=1e-9)


def test_progress_falls_and_is_the_history() -> None:
    seen: list[GramProgress] = []
    solved = solve_gram(gram_instance(12, 2, corr_bound=0.3), tol=1e-9, progress=seen.append)
    assert tuple(seen) == solved.history
    gaps = [moment.gap for moment in seen]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] <= 1e-9
    frame = solved.to_frame()
    assert list(frame.columns) == ["seconds", "objective", "lower_bound", "gap", "dtype"]
    assert len(frame) == len(seen)


def test_time_limit_gives_a_certified_iterate() -> None:
    fit = gram_instance(20, 2, corr_bound=0.3)
    stopped = solve_gram(fit, tol=1e-14, time_limit=1e-4)
    assert stopped.status is Status.TIME_LIMIT
    assert np.isfinite(stopped.gap)
    assert_feasible(fit, stopped.matrices)
    best = solve_gram(fit, tol=1e-9)
    assert stopped.lower_bound <= best.objective
    assert best.objective <= stopped.objective + 1e-9
    assert "time limit" in stopped.summary()


def test_warm_start_needs_fewer_iterations_and_survives_a_pickle() -> None:
    fit = gram_instance(15, 2, corr_bound=0.4)
    cold = solve_gram(fit, tol=1e-8)
    again = solve_gram(fit, tol=1e-8, warm=cold)
    assert again.iterations <= 3
    thawed = pickle.loads(pickle.dumps(cold))
    np.testing.assert_array_equal(thawed.matrices, cold.matrices)
    near = GramConeFit(fit.S, 1.001 * fit.B, fit.weights, fit.floor, fit.corr_bound)
    warm = solve_gram(near, tol=1e-8, warm=thawed)
    assert warm.status.ok
    assert warm.iterations < solve_gram(near, tol=1e-8).iterations
    with pytest.raises(InvalidInput) as caught:
        solve_gram(gram_instance(14, 2), warm=cold)
    assert caught.value.field == "warm"


def test_path_agrees_with_single_solves_and_shares_the_factorisation() -> None:
    fit = gram_instance(12, 2, corr_bound=0.5)
    grid = [{"ridge": r, "pool": r} for r in (10.0, 3.0, 1.0, 0.3)] + [{"ridge": 0.3, "pool": 0.0, "l1": 0.05}]
    path = gram_path(fit, grid, tol=1e-9)
    for chosen, solved in zip(grid, path, strict=True):
        alone = solve_gram(fit.with_penalties(**chosen), tol=1e-9)
        assert solved.objective == pytest.approx(alone.objective, abs=1e-8)
    assert path[0].state.certifier is path[-1].state.certifier
    with pytest.raises(InvalidInput):
        gram_path(fit, [{"lasso": 1.0}])


def test_one_name_and_one_entry_in_closed_form() -> None:
    fit = GramConeFit(np.array([[2.0]]), np.array([[3.0]]))
    assert solve_gram(fit, 1e-12).matrices[0, 0, 0] == pytest.approx(1.5, rel=1e-6)
    low = GramConeFit(np.array([[2.0]]), np.array([[-3.0]]), floor=0.25)
    solved = solve_gram(low, 1e-12)
    assert solved.matrices[0, 0, 0] == pytest.approx(0.25, abs=1e-12)
    assert solved.prices.floor[0, 0] == pytest.approx(3.5, rel=1e-5)  # slope 2·0.25 + 3


def test_without_binding_limits_the_fit_is_the_ridge_regression() -> None:
    fit = gram_instance(6, 1, r2=1.0, rows=4000, corr_bound=1.0, floor=0.0, ridge=0.3, pool=0.3, condition=5.0)
    w = np.asarray(fit.weights)
    rows = [
        np.linalg.solve(w[i] * fit.S + 0.3 * np.eye(6), w[i] * fit.B[i] + 0.3 * np.asarray(fit.target)[0, i])
        for i in range(6)
    ]
    free = np.stack(rows)
    if np.abs(free - free.T).max() > 1e-9:  # symmetry binds: compare with the symmetric stationary point
        n = 6
        index = {
            (min(i, j), max(i, j)): k for k, (i, j) in enumerate(itertools.combinations_with_replacement(range(n), 2))
        }
        H, g = np.zeros((21, 21)), np.zeros(21)
        for i in range(n):
            at = [index[min(i, j), max(i, j)] for j in range(n)]
            H[np.ix_(at, at)] += w[i] * fit.S + 0.3 * np.eye(n)
            g[at] += w[i] * fit.B[i] + 0.3 * np.asarray(fit.target)[0, i]
        x = np.linalg.solve(H, g)
        free = np.array([[x[index[min(i, j), max(i, j)]] for j in range(n)] for i in range(n)])
    assert np.linalg.eigvalsh(free)[0] > 0
    np.testing.assert_allclose(solve_gram(fit, 1e-13).matrices[0], free, atol=1e-6)


def test_all_zero_moments_and_duplicates() -> None:
    zero = GramConeFit(np.zeros((4, 4)), np.zeros((2, 4)), floor=0.1, ridge=1.0, pool=1.0, corr_bound=0.5)
    np.testing.assert_allclose(solve_gram(zero, 1e-9).matrices, 0.1 * np.repeat(np.eye(2)[None], 2, 0), atol=1e-4)
    base = gram_instance(5, 1, r2=0.3, corr_bound=0.5, ridge=0.1, pool=0.1)
    take = np.array([0, 1, 2, 3, 4, 4])
    twin = GramConeFit(
        base.S[np.ix_(take, take)], base.B[np.ix_(take, take)], np.asarray(base.weights)[take],
        np.asarray(base.floor)[take], 0.5, 0.1, 0.0, 0.1,
    )  # fmt: skip
    solved = solve_gram(twin, 1e-11)
    assert solved.status.ok
    K = solved.matrices[0]
    np.testing.assert_allclose(K[4, :4], K[5, :4], atol=1e-5)
    assert K[4, 4] == pytest.approx(K[5, 5], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"S": np.eye(3)}, "S"),
        ({"S": np.array([[1.0, 0.5], [0.0, 1.0]])}, "S"),
        ({"S": -np.eye(2)}, "S"),
        ({"S": np.full((2, 2), np.nan)}, "S"),
        ({"B": np.zeros((2, 3))}, "B"),
        ({"B": np.zeros(2)}, "B"),
        ({"B": "x"}, "B"),
        ({"weights": np.zeros(2)}, "weights"),
        ({"weights": np.ones(3)}, "weights"),
        ({"floor": -1.0}, "floor"),
        ({"target": np.zeros((2, 2, 2))}, "target"),
        ({"target": np.array([[[0.0, 1.0], [0.0, 0.0]]])}, "target"),
        ({"corr_bound": 1.5}, "corr_bound"),
        ({"ridge": -1.0}, "ridge"),
        ({"l1": np.nan}, "l1"),
        ({"pool": np.inf}, "pool"),
    ],
)
def test_bad_problems_are_refused(change, field) -> None:
    with pytest.raises(InvalidInput) as caught:
        GramConeFit(**({"S": np.eye(2), "B": np.eye(2)} | change))
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tol": 0.0}, "tol"),
        ({"tol": np.nan}, "tol"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_bad_options_are_refused(options, field) -> None:
    with pytest.raises(InvalidInput) as caught:
        solve_gram(gram_instance(2, 1), **options)
    assert caught.value.field == field


def test_problem_is_immutable_and_shares_moments() -> None:
    S = np.eye(2)
    fit = GramConeFit(S, np.ones((2, 2)))
    S[0, 0] = 9.0
    assert fit.S[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        fit.B[0, 0] = 2.0
    other = fit.with_penalties(ridge=1.0)
    assert other.S is fit.S
    assert (other.ridge, fit.ridge) == (1.0, 0.0)
    with pytest.raises(InvalidInput):
        fit.with_penalties(l1=-1.0)


def test_violations_measure_each_constraint_apart() -> None:
    good = np.eye(3) + 0.2
    assert violations(good, 0.5, 0.5).worst == 0.0
    assert violations(good, 2.0, 0.5).floor > 0.2
    assert violations(good, 0.5, 0.1).correlation > 0.05
    assert violations(np.diag([1.0, 1.0, -1.0]), 0.0, 1.0).eigenvalue == pytest.approx(1.0)
    assert violations(np.triu(good), 0.0, 1.0).symmetry > 0.1
