from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crosswind.problems.impact.bound import lower_bound
from crosswind.problems.impact.estimate import fit_problem
from crosswind.problems.impact.features import make_dictionary
from crosswind.problems.impact.gram import Gram, accumulate
from crosswind.problems.impact.instances import SIZES, impact_gram, impact_instance, impact_programs
from crosswind.problems.impact.program import FitProblem, lower, nonnegative_quadratic, own_slopes, scaled_problem
from crosswind.problems.impact.reference import reference_fit
from crosswind.problems.impact.repair import repair
from crosswind.problems.impact.targets import block_target
from crosswind.solvers.certify import certify
from crosswind.solvers.cones import slack_distance
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.solve import solve


def random_matrices(problem: FitProblem, seed: int) -> np.ndarray:
    half = np.random.default_rng(seed).standard_normal(problem.target.shape)
    return half + half.transpose(0, 2, 1)


@pytest.mark.parametrize(("ridge", "l1", "pool"), [(0, 0, 0), (1.3, 0, 0), (0, 0.2, 0), (0.7, 0.1, 0.4), (0, 0, 2.0)])
@pytest.mark.parametrize("corr_bound", [0.0, 0.6, 1.0])
def test_lowered_objective_and_map_are_the_problem_itself(
    ridge: float, l1: float, pool: float, corr_bound: float
) -> None:
    problem = impact_instance(5, 2, ridge=ridge, l1=l1, corr_bound=corr_bound).with_penalties(pool=pool)
    lowered = lower(problem)
    for seed in range(3):
        K = random_matrices(problem, seed)
        x = lowered.vector(K)
        np.testing.assert_array_equal(lowered.matrices(x), K)
        assert lowered.program.objective(x) == pytest.approx(problem.objective(K), rel=1e-11, abs=1e-11)


def test_rows_of_the_program_hold_exactly_the_constraints() -> None:
    problem = impact_instance(4, 2, corr_bound=0.5)
    lowered = lower(problem)

    def distance(K: np.ndarray) -> float:
        program = lowered.program
        return slack_distance(program.cones, program.b - program.A @ lowered.vector(K))

    good = np.repeat(np.eye(4)[None], 2, axis=0) + 0.3 * (1 - np.eye(4))
    assert distance(good) == 0.0
    for label, bad in {
        "floor": good - 2.0 * np.diag([1.0, 0, 0, 0]),
        "correlation": good + np.where(np.eye(4)[[1, 0, 2, 3]] * (1 - np.eye(4)) > 0, 0.3, 0.0),
        "psd": np.repeat((np.eye(4) - 0.49 * (1 - np.eye(4)))[None], 2, axis=0),
    }.items():
        assert distance(bad) > 1e-3, label


def test_moments_give_the_weighted_loss_of_the_rows(simulated) -> None:
    """Σ_i w_i(½ x_i S x_i' − x_i b_i) is half the weighted mean squared error, less its value at zero."""
    events, _ = simulated(names=3, rows=200, days=1, r2=0.3)
    dictionary = make_dictionary("exponential", 60.0, (120.0, 1200.0))
    problem = scaled_problem(accumulate(events, dictionary).total)
    Z = dictionary.regressors(events.flow.to_numpy())[1:]
    r = events.returns.to_numpy()[1:] / problem.scale
    K = random_matrices(problem, 0) * 0.2
    X = problem.stacked(problem.unscale(K)) / problem.scale[:, None]
    loss = 0.5 * ((r - Z @ X.T) ** 2).mean(axis=0) - 0.5 * (r**2).mean(axis=0)
    assert problem.objective(K) == pytest.approx(float(problem.weights @ loss), rel=1e-9)


def test_scaling_makes_own_impact_and_curvature_one() -> None:
    problem = scaled_problem(impact_gram(6, 2, 20_000, np.random.default_rng(0), r2=0.5))
    curvature = np.diag(problem.S).reshape(2, 6) * problem.weights
    assert curvature.mean() == pytest.approx(1.0)
    fit = fit_problem(problem).repair.matrices
    np.testing.assert_allclose(np.diagonal(fit, axis1=1, axis2=2).sum(axis=0), 1.0, atol=0.5)


@pytest.mark.parametrize("factor", [1e-4, 1e5])
def test_the_fit_does_not_depend_on_the_currency(factor: float) -> None:
    gram = impact_gram(4, 2, 2000, np.random.default_rng(3), r2=0.1)
    other = replace(gram, ZZ=gram.ZZ * factor**2, rZ=gram.rZ * factor, uu=gram.uu * factor**2)
    fits = [scaled_problem(g, 0.05, 0.4, ridge=0.5) for g in (gram, other)]
    first, second = (p.unscale(fit_problem(p).repair.matrices) for p in fits)
    np.testing.assert_allclose(second * factor, first, rtol=1e-6, atol=1e-7 * first.max())


CASES = [
    ("instantaneous", {}),
    ("exponential", {"half_lives_s": (120.0, 1200.0)}),
    ("monotone", {"lags": (0, 2)}),
    ("convex", {"lags": (1, 5)}),
]


@pytest.mark.parametrize(("family", "shapes"), CASES, ids=[c[0] for c in CASES])
@pytest.mark.parametrize(
    ("ridge", "l1", "pool", "corr_bound"),
    [(0.0, 0.0, 0.0, 0.6), (1.0, 0.0, 0.0, 0.25), (0.0, 0.05, 0.7, 0.6), (0.5, 0.1, 0.2, 1.0)],
)
def test_independent_formulation_agrees(simulated, family: str, shapes: dict, ridge, l1, pool, corr_bound) -> None:
    events, _ = simulated(names=3, rows=240, days=2, r2=0.05, seed=4)
    gram = accumulate(events, make_dictionary(family, 60.0, **shapes)).total
    problem = scaled_problem(gram, 0.3, corr_bound, ridge, l1)
    target = random_matrices(problem, 1) * 0.1
    problem = replace(problem, target=target, pool=pool)
    fitted = fit_problem(problem, solver="clarabel", tol=1e-9)
    structured = fit_problem(problem, tol=1e-9)
    oracle, K = reference_fit(problem)
    oracle.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    expected = oracle.value + 0.0
    for found in (fitted, structured):
        assert found.repair.objective_after == pytest.approx(expected, abs=1e-6 * (1 + abs(expected)))
    if ridge > 0:  # strictly convex: the matrices agree too
        np.testing.assert_allclose(fitted.repair.matrices, [k.value for k in K], atol=2e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("ridge", "l1"), [(0.0, 0.0), (1.0, 0.0), (0.3, 0.2)])
def test_certificate_and_bound_enclose_the_optimum(seed: int, ridge: float, l1: float) -> None:
    problem = impact_instance(6, 2, seed=seed, ridge=ridge, l1=l1)
    fitted = fit_problem(problem, solver="clarabel")
    assert fitted.solution.status.ok
    assert fitted.certificate.passes(1e-6)
    assert fitted.rigorous
    assert fitted.lower_bound <= fitted.repair.objective_after + 1e-12
    assert fitted.suboptimality < 1e-7
    worse = lower_bound(problem, fitted.lowered, fitted.solution.y + 0.1 * np.sin(np.arange(fitted.solution.y.size)))
    assert worse < fitted.lower_bound + 1e-9
    assert lower_bound(problem, fitted.lowered, np.zeros_like(fitted.solution.y)) <= fitted.repair.objective_after


def test_bound_holds_for_duals_that_leave_their_cone() -> None:
    fitted = fit_problem(impact_instance(5, 2, seed=3, corr_bound=0.3), solver="clarabel")
    program, y = fitted.lowered.program, fitted.solution.y
    slack = program.b - program.A @ fitted.lowered.vector(fitted.repair.matrices)
    # Along −s the dual function rises beyond the optimum, as soon as y is not held to the dual cone.
    for step in (1e-3, 1e-2, 1e-1):
        assert lower_bound(fitted.problem, fitted.lowered, y - step * slack) <= fitted.repair.objective_after


def test_bound_is_not_above_the_optimum_where_moments_are_nearly_singular() -> None:
    claimed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        common, own = rng.standard_t(3, size=(40, 1)), rng.standard_normal((40, 2))
        flow = (common + 10.0 ** rng.uniform(-7.0, -2.0) * own) * 10.0 ** rng.uniform(-3.0, 9.0, size=2)
        returns = 1e-4 * rng.standard_normal((40, 2)) + 1e-5 * common
        problem = scaled_problem(Gram.of(flow, returns, flow), 0.01, 0.3, ridge=float(rng.choice([0.0, 1e-6])))
        lowered = lower(problem)
        solution = solve(lowered.program, tol=1e-8)
        bound = lower_bound(problem, lowered, solution.y)
        fixed = repair(problem, lowered.matrices(solution.x)).matrices
        # The objective is a small difference of huge terms here, hence the longer floats.
        program, x = lowered.program, lowered.vector(fixed).astype(np.longdouble)
        value = 0.5 * x @ (program.P.toarray().astype(np.longdouble) @ x) + program.q @ x + program.constant
        assert bound <= float(value) + 5e-9, seed
        claimed += np.isfinite(bound)
    assert claimed >= 20


def test_floor_is_shared_by_the_shapes() -> None:
    gram = impact_gram(4, 2, 4000, np.random.default_rng(1))
    np.testing.assert_allclose(scaled_problem(gram, 0.3).floor, 0.15)
    slope = own_slopes(gram)[1]
    np.testing.assert_allclose(scaled_problem(gram, 2.0 * slope).floor, 2.0)


def test_block_target_keeps_the_correlation_bound() -> None:
    problem = impact_instance(6, 2, seed=1, corr_bound=0.05)
    target = block_target(problem, np.array([0, 0, 0, 1, 1, 1]))
    own = np.diagonal(target, axis1=1, axis2=2)
    off = np.abs(target * (1.0 - np.eye(6)))
    assert (off <= 0.05 * own[:, :, None] * (1 + 1e-12)).all()
    assert off.max() == pytest.approx(0.05 * own.max(), rel=1e-9)


def test_kkt_stationarity_holds_at_the_returned_matrices() -> None:
    fitted = fit_problem(impact_instance(5, 2, seed=9, corr_bound=0.3), solver="clarabel")
    program, y = fitted.lowered.program, fitted.solution.y
    x = fitted.lowered.vector(fitted.repair.matrices)
    assert np.abs(program.P @ x + program.q + program.A.T @ y).max() < 1e-6
    slack = program.b - program.A @ x
    assert abs(slack @ y) < 1e-6
    assert certify(program, x, y).primal == pytest.approx(0.0, abs=1e-12)


def test_without_binding_limits_the_fit_is_least_squares() -> None:
    gram = impact_gram(4, 1, 4000, np.random.default_rng(1), r2=1.0)
    problem = scaled_problem(gram, 0.0, 1.0)
    ols = np.linalg.solve(problem.S, problem.B.T).T
    np.testing.assert_allclose(fit_problem(problem, tol=1e-10).repair.matrices[0], ols, atol=1e-6)


def test_large_l1_makes_the_fit_diagonal_and_large_ridge_meets_the_target() -> None:
    base = impact_instance(4, 1, ridge=0.0, l1=0.0)
    sparse = fit_problem(base.with_penalties(l1=100.0)).repair.matrices[0]
    assert np.abs(sparse - np.diag(np.diag(sparse))).max() < 1e-6
    pulled = fit_problem(base.with_penalties(ridge=1e5)).repair.matrices[0]
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(pulled[off], base.target[0][off], atol=1e-4)


def test_large_pool_gives_all_names_the_same_split_over_decay() -> None:
    base = impact_instance(5, 2, ridge=0.0)
    own = np.diagonal(fit_problem(base.with_penalties(pool=1e5)).repair.matrices, axis1=1, axis2=2)
    np.testing.assert_allclose(own, np.diagonal(base.target, axis1=1, axis2=2), atol=1e-4)
    assert np.ptp(own / own.sum(axis=0), axis=1).max() < 1e-4
    free = np.diagonal(fit_problem(base).repair.matrices, axis1=1, axis2=2)
    assert np.ptp(free / free.sum(axis=0), axis=1).max() > 1e-2


def test_rho_zero_is_the_non_negative_diagonal_fit() -> None:
    gram = impact_gram(5, 2, 3000, np.random.default_rng(7), r2=0.1)
    fitted = fit_problem(scaled_problem(gram, 0.0, 0.0), tol=1e-10)
    K = fitted.problem.unscale(fitted.repair.matrices)
    own, _ = own_slopes(gram)
    np.testing.assert_array_equal(K * (1 - np.eye(5)), 0.0)
    np.testing.assert_allclose(np.diagonal(K, axis1=1, axis2=2), own, atol=1e-6 * own.max())


def test_all_constraints_can_bind_at_once() -> None:
    """Returns driven against the constraints: the fit sits on floor, correlation bound and PSD boundary."""
    gram = impact_gram(4, 1, 2000, np.random.default_rng(5), r2=0.5)
    wild = replace(gram, rZ=gram.rZ @ np.array([[0.1, 2, -2, 2], [2, 0.1, 2, -2], [-2, 2, 0.1, 2], [2, -2, 2, 0.1]]))
    problem = replace(scaled_problem(gram, 0.9, 0.8), B=scaled_problem(wild, 0.9, 0.8).B)
    fitted = fit_problem(problem)
    K = fitted.repair.matrices[0]
    values = np.linalg.eigvalsh(K)
    assert values[0] >= -1e-14 * values[-1]
    assert values[0] < 1e-6
    assert (np.diag(K) >= problem.floor).all()
    assert fitted.suboptimality < 1e-6


def test_nonnegative_quadratic_matches_enumeration() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        half = rng.standard_normal((3, 3))
        H, g = half @ half.T, rng.standard_normal(3)
        found = nonnegative_quadratic(H, g)
        best = 0.0
        for mask in range(1, 8):
            where = [i for i in range(3) if mask >> i & 1]
            a = np.linalg.solve(H[np.ix_(where, where)], g[where])
            if (a >= 0).all():
                best = min(best, -0.5 * float(g[where] @ a))
        assert 0.5 * found @ H @ found - g @ found == pytest.approx(best, abs=1e-9)
    np.testing.assert_array_equal(nonnegative_quadratic(np.zeros((2, 2)), np.ones(2)), 0.0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"corr_bound": 1.2}, "corr_bound"),
        ({"corr_bound": float("nan")}, "corr_bound"),
        ({"ridge": -1.0}, "ridge"),
        ({"l1": float("inf")}, "l1"),
        ({"pool": -1.0}, "pool"),
        ({"B": np.full((3, 6), np.nan)}, "B"),
        ({"target": np.zeros((1, 3, 3))}, "FitProblem"),
        ({"weights": np.zeros(3)}, "FitProblem"),
    ],
)
def test_bad_problems_are_refused(change: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        replace(impact_instance(3, 2), **change)
    assert caught.value.field == field


def test_instances_repeat_by_seed_and_differ_between_seeds() -> None:
    first, again, other = impact_programs(0), impact_programs(0), impact_programs(1)
    assert set(first) == set(SIZES)
    for label, program in first.items():
        np.testing.assert_array_equal(program.q, again[label].q)
        np.testing.assert_array_equal(program.P.data, again[label].P.data)
        assert not np.array_equal(program.q, other[label].q)
    first["impact-2x1"].require_convex()
