from __future__ import annotations

import numpy as np
import pytest

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.gram import project_admissible, prox_floor_correlation, violations


def symmetric(n: int, seed: int, m: int = 1) -> np.ndarray:
    half = np.random.default_rng(seed).standard_normal((m, n, n))
    out = half + half.transpose(0, 2, 1)
    return out[0] if m == 1 else out


def oracle(V, T, floor, rho, step, ridge, l1, pool):
    """The same map written in cvxpy, solved by Clarabel."""
    import cvxpy as cp

    n = len(V)
    Q = cp.Variable((n, n), symmetric=True)
    off = 1.0 - np.eye(n)
    value = 0.5 * cp.sum_squares(Q - V) + step * (
        0.5 * ridge * cp.sum_squares(cp.multiply(off, Q - T))
        + l1 * cp.sum(cp.abs(cp.multiply(off, Q)))
        + 0.5 * pool * cp.sum_squares(cp.diag(Q - T))
    )
    limits = [cp.diag(Q) >= floor]
    for i in range(n):
        for j in range(i + 1, n):
            limits.append(cp.abs(Q[i, j]) <= rho * cp.geo_mean(cp.hstack([Q[i, i], Q[j, j]])))
    cp.Problem(cp.Minimize(value), limits).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    return Q.value


@pytest.mark.parametrize(
    ("rho", "step", "ridge", "l1", "pool"),
    [
        (0.6, 1.0, 0, 0, 0),
        (0.3, 0.5, 1.0, 0.3, 0.2),
        (1.0, 2.0, 0, 0.2, 1.0),
        (0.6, 3.0, 0.4, 0, 0),
        (0.0, 1.0, 1, 0, 2),
    ],
)
def test_prox_is_the_minimiser_of_its_definition(rho, step, ridge, l1, pool) -> None:
    for seed in range(2):
        V, T = symmetric(5, seed), 0.3 * symmetric(5, 100 + seed)
        floor = np.linspace(0.05, 0.4, 5)
        found = prox_floor_correlation(V, floor, rho, step=step, ridge=ridge, l1=l1, pool=pool, target=T)
        np.testing.assert_allclose(found, oracle(V, T, floor, rho, step, ridge, l1, pool), atol=2e-5)


def value_of(Q, V, rho_args) -> float:
    step, ridge, l1, pool, T = rho_args
    off = ~np.eye(len(V), dtype=bool)
    away = (Q - T) ** 2
    penalty = 0.5 * ridge * away[off].sum() + l1 * np.abs(Q[off]).sum() + 0.5 * pool * away[~off].sum()
    return 0.5 * ((Q - V) ** 2).sum() + step * penalty


@pytest.mark.parametrize("rho", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_no_feasible_neighbour_is_better(rho: float, scale: float) -> None:
    rng = np.random.default_rng(int(10 * rho))
    V, T = scale * symmetric(12, 3), np.zeros((12, 12))
    args = (0.7, 0.5, 0.2 * scale, 0.3, T)
    Q = prox_floor_correlation(V, 0.1 * scale, rho, step=0.7, ridge=0.5, l1=0.2 * scale, pool=0.3)
    best = value_of(Q, V, args)
    for size in (1e-1, 1e-3, 1e-5):
        for _ in range(20):
            near = Q + size * scale * symmetric(12, int(rng.integers(1 << 30)))
            own = np.maximum(np.diag(near), 0.1 * scale)
            limit = rho * np.sqrt(np.outer(own, own))
            near = np.clip(near, -limit, limit)
            np.fill_diagonal(near, own)
            assert value_of(near, V, args) >= best * (1 - 1e-12)


def test_result_keeps_its_limits_and_is_symmetric_to_the_bit() -> None:
    V = symmetric(30, 1, 4)
    for rho in (0.0, 0.1, 0.9, 1.0):
        Q = prox_floor_correlation(V, 0.2, rho)
        np.testing.assert_array_equal(Q, Q.transpose(0, 2, 1))
        worst = violations(Q, 0.2, rho)
        assert worst.floor == 0.0
        assert worst.correlation <= 1e-15


def test_prox_is_firmly_nonexpansive_and_idempotent_without_penalties() -> None:
    for seed in range(10):
        V, W = symmetric(8, seed), symmetric(8, 50 + seed)
        P, R = (prox_floor_correlation(x, 0.1, 0.4) for x in (V, W))
        assert ((P - R) ** 2).sum() <= ((P - R) * (V - W)).sum() + 1e-12
        np.testing.assert_allclose(prox_floor_correlation(P, 0.1, 0.4), P, atol=1e-12)


def test_batch_is_its_matrices_one_by_one_and_antisymmetric_parts_drop_out() -> None:
    V = symmetric(6, 0, 3)
    skew = np.triu(np.ones((6, 6)), 1)
    whole = prox_floor_correlation(V + (skew - skew.T), 0.1, 0.5, l1=0.1)
    for k in range(3):
        np.testing.assert_allclose(whole[k], prox_floor_correlation(V[k], 0.1, 0.5, l1=0.1), atol=1e-14)


def test_one_pair_in_closed_form() -> None:
    """v on the diagonal, s off it: a solves a − v = ρ(s − ρa) by symmetry, so a = (v + ρs)/(1 + ρ²)."""
    v, s, rho = 0.5, 2.0, 0.6
    a = (v + rho * s) / (1 + rho**2)
    found = prox_floor_correlation(np.array([[v, s], [s, v]]), 0.0, rho)
    np.testing.assert_allclose(found, [[a, rho * a], [rho * a, a]], rtol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_degenerate_matrices(rho: float) -> None:
    np.testing.assert_array_equal(prox_floor_correlation(np.zeros((3, 3)), 0.0, rho), 0.0)
    np.testing.assert_allclose(prox_floor_correlation(-np.eye(3), 0.0, rho), 0.0, atol=1e-13)
    np.testing.assert_array_equal(prox_floor_correlation(np.array([[-2.0]]), 0.3, rho), [[0.3]])
    tiny = prox_floor_correlation(symmetric(4, 0), 1e-300, rho)
    assert np.isfinite(tiny).all()
    dead = symmetric(4, 0)
    dead[2, :] = dead[:, 2] = 0.0
    out = prox_floor_correlation(dead, 0.0, rho)
    np.testing.assert_array_equal(out[2, [0, 1, 3]], 0.0)
    assert abs(out[2, 2]) <= 1e-12
    twin = symmetric(3, 2)[np.ix_([0, 1, 1, 2], [0, 1, 1, 2])]
    pair = prox_floor_correlation(twin, 0.05, rho)
    np.testing.assert_allclose(pair[1, 1], pair[2, 2], rtol=1e-12)
    np.testing.assert_allclose(pair[0, 1], pair[0, 2], rtol=1e-12)


@pytest.mark.parametrize(
    ("V", "options", "field"),
    [
        (np.zeros((2, 3)), {}, "V"),
        (np.zeros(3), {}, "V"),
        (np.full((2, 2), np.nan), {}, "V"),
        (np.eye(2), {"floor": -1.0}, "floor"),
        (np.eye(2), {"floor": np.ones(3)}, "floor"),
        (np.eye(2), {"corr_bound": 1.1}, "corr_bound"),
        (np.eye(2), {"ridge": -1.0}, "ridge"),
        (np.eye(2), {"l1": np.inf}, "l1"),
        (np.eye(2), {"step": 0.0}, "step"),
        (np.eye(2), {"target": np.eye(3)}, "target"),
    ],
)
def test_prox_refuses_bad_input(V, options, field) -> None:
    with pytest.raises(InvalidInput) as caught:
        prox_floor_correlation(V, **options)
    assert caught.value.field == field


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7, 1.0])
def test_projection_is_the_nearest_admissible_matrix(rho: float) -> None:
    """Against cvxpy, and by the variational inequality ⟨K − X, Y − X⟩ ≤ 0 for admissible Y."""
    import cvxpy as cp

    rng = np.random.default_rng(4)
    K = rng.standard_normal((6, 6))
    found = project_admissible(K, 0.2, rho, tol=1e-12)
    assert found.status.ok
    X = found.matrices
    assert violations(X, 0.2, rho).worst <= 1e-12
    assert found.distance_bound <= found.distance <= found.distance_bound + 1e-9
    Y = cp.Variable((6, 6), symmetric=True)
    limits = [Y >> 0, cp.diag(Y) >= 0.2]
    for i in range(6):
        for j in range(i + 1, 6):
            limits.append(cp.abs(Y[i, j]) <= rho * cp.geo_mean(cp.hstack([Y[i, i], Y[j, j]])))
    cp.Problem(cp.Minimize(cp.sum_squares(Y - K)), limits).solve(solver="CLARABEL")
    assert np.abs(X - Y.value).max() < 2e-4
    for seed in range(20):
        other = project_admissible(symmetric(6, seed), 0.2, rho, tol=1e-6).matrices
        assert ((K - X) * (other - X)).sum() <= 1e-6 * (1 + (K**2).sum())


def test_projection_of_a_batch_scales_with_its_weights() -> None:
    K = symmetric(5, 9, 2)
    s = np.array([0.1, 1.0, 3.0, 0.5, 20.0])
    weighted = project_admissible(K * np.outer(s, s), 0.1 * s**2, 0.5, scale=s)
    plain = project_admissible(K, 0.1, 0.5)
    np.testing.assert_allclose(weighted.matrices / np.outer(s, s), plain.matrices, atol=1e-4)
    assert weighted.distance == pytest.approx(plain.distance, rel=1e-8)
    assert weighted.error_bound < 1e-3
    good = np.repeat((np.eye(3) + 0.2)[None], 2, axis=0)
    same = project_admissible(good, 0.5, 0.5)
    np.testing.assert_allclose(same.matrices, good, atol=1e-4)
    np.testing.assert_array_equal(project_admissible(np.zeros((3, 3))).matrices, 0.0)
    assert project_admissible(1e-150 * good).distance < 1e-150


def test_projection_beats_the_sequence_of_repairs() -> None:
    """Symmetrise, clip eigenvalues, clamp correlations: not admissible, or farther away."""
    rng = np.random.default_rng(1)
    K = np.eye(20) + 0.5 * rng.standard_normal((20, 20))
    half = 0.5 * (K + K.T)
    values, vectors = np.linalg.eigh(half)
    clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
    own = np.sqrt(np.diag(clipped))
    clamped = np.clip(clipped, -0.3 * np.outer(own, own), 0.3 * np.outer(own, own))
    np.fill_diagonal(clamped, own**2)
    assert violations(clipped, 0.0, 0.3).correlation > 1e-2
    found = project_admissible(K, 0.0, 0.3)
    assert violations(found.matrices, 0.0, 0.3).worst <= 1e-12
    low = np.linalg.eigvalsh(clamped)[0]
    admissible = clamped + max(0.0, -low) * np.eye(20)
    assert found.distance < 0.99 * np.linalg.norm(admissible - K)


@pytest.mark.parametrize(
    ("K", "options", "field"),
    [
        (np.zeros((2, 3)), {}, "K"),
        (np.full((2, 2), np.inf), {}, "K"),
        (np.eye(2), {"scale": np.array([1.0, 0.0])}, "scale"),
        (np.eye(2), {"floor": np.array([1.0, -1.0])}, "floor"),
        (np.eye(2), {"corr_bound": -0.1}, "corr_bound"),
        (np.eye(2), {"tol": 0.0}, "tol"),
    ],
)
def test_projection_refuses_bad_input(K, options, field) -> None:
    with pytest.raises(InvalidInput) as caught:
        project_admissible(K, **options)
    assert caught.value.field == field
