"""Problems that a bound, a restart or a proximal map easily gets wrong: singular, steep, unbounded, huge."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.gram import GramConeFit, prox_floor_correlation, solve_gram, violations
from crosswind.solvers.gram.instances import gram_instance
from crosswind.solvers.solution import Status


def line(seed: int) -> tuple[GramConeFit, bool]:
    """One name, two matrices, S = gg': unbounded below where g·K = 0 and b·K > 0 for some K ≥ 0."""
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((2, 1))
    S = g @ g.T
    B = rng.standard_normal((1, 2)) if seed % 2 else rng.standard_normal((1, 2)) @ S
    fit = GramConeFit(S, B, pool=[0.0, 1.0, 0.01][seed % 3])
    flat = np.abs(g[::-1, 0])
    return fit, bool(fit.pool == 0.0 and g[0, 0] * g[1, 0] < 0.0 and B[0] @ flat > 1e-12)


def test_bound_within_reach_follows_the_trace_and_no_unbounded_problem_is_optimal() -> None:
    seen = 0
    for seed in [*range(60), 99, 105, 231, 345]:
        fit, unbounded = line(seed)
        seen += unbounded
        solved = solve_gram(fit, tol=1e-6, max_iter=200)
        assert solved.lower_bound <= solved.objective, seed
        assert not (unbounded and solved.status is Status.OPTIMAL), seed
    assert seen >= 4


@pytest.mark.parametrize("penalty", [1e-3, 1e-6, 1e-8, 1e-9, 1e-10])
def test_a_small_ridge_on_singular_moments_gives_no_false_proof(penalty: float) -> None:
    G = np.random.default_rng(0).standard_normal((4, 2))
    S = G @ G.T
    fit = GramConeFit(S, S + 0.3 * np.eye(4), ridge=penalty, pool=penalty)
    solved = solve_gram(fit, max_iter=400)
    better = solve_gram(fit, tol=1e-12, max_iter=2000)
    assert solved.lower_bound <= better.objective
    # The optimum is the flat direction's: −½|0.3 P b|²/penalty up to what is left of S.
    if solved.status is Status.OPTIMAL:
        assert solved.objective - better.objective <= 2e-6 * (1.0 + abs(better.objective))


def test_rigorous_is_said_of_the_bound_that_is_reported() -> None:
    """Where reach gives the better bound, it is not called rigorous although a worse one holds everywhere."""
    scopes = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        G = rng.standard_normal((5, 3))
        S = G @ G.T / 3
        penalty = 10.0 ** -(7 + seed % 6)
        fit = GramConeFit(S, S + 0.1 * rng.standard_normal((5, 5)), ridge=penalty, pool=penalty)
        early = solve_gram(fit, tol=1e-9, max_iter=6)
        assert early.lower_bound <= early.objective
        scopes.add(early.rigorous)
        if early.rigorous:
            # Far outside of reach, in the flat directions, nothing is lower.
            flat = np.linalg.eigh(S)[1][:, :2]
            for t in 10.0 ** np.arange(12):
                assert fit.objective(t * (flat @ flat.T)[None]) >= early.lower_bound
    assert scopes == {True, False}


@pytest.mark.parametrize("penalty", [{}, {"pool": 0.5}, {"ridge": 0.5}, {"ridge": 0.5, "pool": 0.5}])
def test_indefinite_moments_are_refused(penalty: dict[str, float]) -> None:
    fit = GramConeFit(np.array([[1.0, 2.0], [2.0, 1.0]]), np.eye(2), floor=0.1, **penalty)
    with pytest.raises(InvalidInput) as caught:
        solve_gram(fit)
    assert caught.value.field == "S"
    # What rounding makes of a singular S is not.
    half = np.random.default_rng(0).standard_normal((6, 2))
    S = half @ half.T
    assert np.linalg.eigvalsh(S)[0] < 0.0
    assert solve_gram(GramConeFit(S, S, ridge=0.1, pool=0.1)).status.ok


@pytest.mark.parametrize("pool", [1e-4, 1e-7, 1e-10, 1e-12])
def test_steep_bound_allows_for_its_own_cancellation(pool: float) -> None:
    """S = 0, B = I: K = I/pool, of value −N/(2·pool)."""
    solved = solve_gram(GramConeFit(np.zeros((3, 3)), np.eye(3), ridge=1.0, pool=pool))
    assert solved.status is Status.OPTIMAL
    assert solved.rigorous
    assert solved.lower_bound <= -1.5 / pool
    assert solved.objective == pytest.approx(-1.5 / pool, rel=1e-12)


def test_the_ridge_of_a_single_name_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    g = rng.standard_normal((2, 1))
    plain = GramConeFit(g @ g.T, rng.standard_normal((1, 2)), ridge=1.0, pool=1e-6)
    a, b = solve_gram(plain), solve_gram(plain.with_penalties(ridge=1e9))
    assert (a.objective, a.lower_bound) == (b.objective, b.lower_bound)
    assert a.lower_bound <= a.objective


def test_objective_keeps_its_digits_beside_a_large_diagonal() -> None:
    fit = GramConeFit(np.eye(2), np.zeros((2, 2)), ridge=1e9, l1=1e9)
    K = np.array([[[1e5, 1e-5], [1e-5, 1e5]]])
    assert fit.penalty(K) == pytest.approx(1e9 * 1e-10 + 2e9 * 1e-5, rel=1e-14)


def test_float32_iterations_that_stall_between_two_balances_go_on() -> None:
    fit = gram_instance(
        80, 1, spectrum="spiked", condition=42895.83240496547, rows=3224, r2=0.3, corr_bound=0.6, l1=1e-3, pool=1e-3,
        seed=33,
    )  # fmt: skip
    solved = solve_gram(fit, tol=3.1e-7, max_iter=200)
    assert {moment.dtype for moment in solved.history} == {"float32", "float64"}
    assert solved.lower_bound <= solved.objective


def test_a_name_that_never_trades() -> None:
    S = np.diag([1.0, 1.0, 0.0])
    # A response to it that no data explain: unbounded, and said so.
    solved = solve_gram(GramConeFit(S, S + 0.1, ridge=0.1, corr_bound=0.5, floor=0.01), max_iter=100)
    assert solved.status is Status.ITERATION_LIMIT
    assert not solved.rigorous
    dead = solve_gram(GramConeFit(S, S, ridge=0.1, corr_bound=0.5, floor=0.01), tol=1e-6)
    assert dead.status is Status.OPTIMAL
    np.testing.assert_allclose(np.diag(dead.matrices[0])[:2], 1.0, atol=1e-3)


def test_no_moments_at_all() -> None:
    zero = np.zeros((3, 3))
    assert solve_gram(GramConeFit(zero, zero, ridge=1.0)).objective == 0.0
    # −tr K without curvature.
    unbounded = solve_gram(GramConeFit(zero, np.eye(3), ridge=1.0), max_iter=50)
    assert unbounded.status is Status.ITERATION_LIMIT
    assert not unbounded.rigorous
    pooled = solve_gram(GramConeFit(zero, np.eye(3), pool=1.0))
    assert pooled.objective == pytest.approx(-1.5, rel=1e-6)


@pytest.mark.parametrize("limit", [np.nan, np.inf, 0])
def test_iterations_need_an_end(limit: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        solve_gram(gram_instance(2, 1), max_iter=limit)  # type: ignore[arg-type]
    assert caught.value.field == "max_iter"


def test_a_warm_solve_leaves_its_start_as_it_was() -> None:
    fit = gram_instance(67, 9, l1=3e-5)  # large enough for float32 eigenvectors of S
    start = solve_gram(fit, tol=1e-2, max_iter=8)
    thawed = pickle.loads(pickle.dumps(start.state))
    first = solve_gram(fit, tol=4e-7, warm=start, max_iter=50)
    assert {moment.dtype for moment in first.history} == {"float32", "float64"}
    assert start.state.certifier is not None
    assert start.state.certifier.values is None
    for again in (solve_gram(fit, tol=4e-7, warm=w, max_iter=50) for w in (start, thawed)):
        np.testing.assert_array_equal(first.matrices, again.matrices)
        assert first.lower_bound == again.lower_bound


def test_a_start_that_leads_nowhere_is_refused() -> None:
    fit = gram_instance(4, 1)
    state = solve_gram(fit).state
    broken = [
        replace(state, copies=np.full_like(state.copies, np.nan)),
        replace(state, copies=1e200 * state.copies),
        replace(state, tau=(0.0, 0.0)),
        replace(state, tau=(np.nan, 1.0)),
        replace(state, tau=(-1.0, 1.0)),
    ]
    for warm in broken:
        with pytest.raises(InvalidInput) as caught:
            solve_gram(fit, warm=warm)
        assert caught.value.field == "warm"


def test_a_replaced_field_is_checked_and_copied() -> None:
    fit = gram_instance(3, 1)
    for change in ({"corr_bound": 2.0}, {"weights": -np.ones(3)}, {"floor": -1.0}):
        with pytest.raises(InvalidInput):
            replace(fit, **change)
    S = np.eye(3)
    other = replace(fit, S=S)
    S[0, 0] = 7.0
    assert other.S[0, 0] == 1.0


def pair_value(Q: np.ndarray, V: np.ndarray, T: np.ndarray, ridge: float) -> float:
    off = ~np.eye(len(V), dtype=bool)
    return 0.5 * float(((Q - V) ** 2).sum() + ridge * ((Q - T)[off] ** 2).sum())


@pytest.mark.parametrize("ridge", [1e2, 1e4, 1e6, 1e8])
def test_prox_with_a_large_ridge_against_a_search_along_the_limit(ridge: float) -> None:
    """At a large ridge q → T and a₁a₂ = (T/ρ)²: one number to search, the better for each larger ridge."""
    V, t, rho = np.diag([0.00774536, 0.66167983]), 3.88192859, 0.9
    T = np.array([[0.0, t], [t, 0.0]])
    Q = prox_floor_correlation(V, 0.0, rho, ridge=ridge, target=T)
    assert violations(Q, 0.0, rho).worst <= 1e-12
    found = pair_value(Q, V, T, ridge)
    best = np.inf
    for a in np.geomspace(0.1, 100.0, 4001):
        b = (t / rho) ** 2 / a
        best = min(best, pair_value(np.array([[a, t], [t, b]]), V, T, ridge))
    assert found <= best
    assert found >= best * (1.0 - 50.0 / ridge)


def test_no_warning_where_names_and_curvature_vanish() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        G = np.random.default_rng(0).standard_normal((6, 2))
        for floor in (0.0, 0.1):  # curvature of 1e-16 and prices of 1e5 in the same bound
            solve_gram(GramConeFit(G @ G.T, 1e5 * G @ G.T, floor=floor, pool=1.0), max_iter=40)
            solve_gram(GramConeFit(G @ G.T, np.eye(6), floor=floor), max_iter=40)
        S = np.eye(4)
        for l1 in (0.0, 0.1, 1e6):
            solve_gram(GramConeFit(S, -S + 0.3, l1=l1, corr_bound=0.6), max_iter=100)
