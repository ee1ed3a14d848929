"""The structured solver of the fit against the cone program, cvxpy, and an identity of the literature."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

from crosswind.problems.impact import CrossImpact
from crosswind.problems.impact.features import make_dictionary
from crosswind.problems.impact.fit import fit_problem, gram_cone_fit
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.instances import impact_instance
from crosswind.problems.impact.program import FitProblem, scaled_problem
from crosswind.problems.impact.reference import reference_fit
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.gram import GramConeFit, solve_gram
from crosswind.solvers.solution import Status

SIZES = [2, 3, 4, 5, 3, 4, 6, 8, 12, 20]
FAMILIES = ["instantaneous", "exponential", "monotone", "convex"]
PENALTIES = [
    (0.0, 0.0, 0.0),
    (1.0, 0.0, 1.0),
    (0.3, 0.0, 0.0),
    (0.0, 0.1, 0.0),
    (0.0, 0.0, 0.5),
    (0.5, 0.05, 0.2),
    (3.0, 0.3, 3.0),
]
BOUNDS = [0.6, 0.0, 0.3, 1.0]


def random_problem(seed: int) -> FitProblem:
    """Any family, penalty, bound and conditioning; every fifth has fewer rows than unknowns, so that S is singular."""
    rng = np.random.default_rng(1000 + seed)
    names, family = SIZES[seed % len(SIZES)], FAMILIES[seed % 4]
    dictionary = make_dictionary(family, 1.0, (2.0, 15.0), (0, 3))
    singular = seed % 5 == 4
    rows = dictionary.size * names - 1 if singular and names > 2 else 40 * names
    shared = rng.uniform(0.0, 3.0)
    flow = rng.standard_normal((rows, names)) + shared * rng.standard_normal((rows, 1))
    flow *= 10.0 ** rng.uniform(3, 8, names)
    own = 1.0 / flow.std(axis=0) * 1e-3
    truth = 0.3 * np.sqrt(np.outer(own, own))
    np.fill_diagonal(truth, own)
    Z = dictionary.regressors(flow)
    X = np.concatenate([truth / dictionary.size] * dictionary.size, axis=1)
    signal = Z @ X.T
    noise = signal.std(axis=0) * rng.uniform(0.5, 6.0)
    gram = Gram.of(Z, signal + noise * rng.standard_normal(signal.shape), flow)
    ridge, l1, pool = PENALTIES[seed % len(PENALTIES)]
    if singular and min(ridge, pool) == 0.0 and ridge == 0.0:
        ridge = pool = 0.2  # without, the optimum of a singular fit is not attained in bounded matrices
    problem = scaled_problem(gram, float(rng.uniform(0.0, 0.5)), BOUNDS[seed % 4 - seed // 20], ridge, l1)
    target = rng.uniform(-0.1, 0.3, (dictionary.size, names, names))
    return replace(problem, target=0.5 * (target + target.transpose(0, 2, 1)), pool=pool)


def assert_exactly_feasible(problem: FitProblem, K: np.ndarray) -> None:
    np.testing.assert_array_equal(K, K.transpose(0, 2, 1))
    values = np.linalg.eigvalsh(K)
    assert (values[:, 0] >= -1e-12 * np.maximum(values[:, -1], 1e-300)).all()
    own = np.einsum("mii->mi", K)
    assert (own >= problem.floor - 1e-12).all()
    over = np.abs(K) - problem.corr_bound * np.sqrt(own[:, :, None] * own[:, None, :])
    np.einsum("mii->mi", over)[:] = 0.0
    assert over.max() <= 1e-12


@pytest.mark.parametrize("seed", range(50))
def test_agrees_with_the_cone_program_and_encloses_its_optimum(seed: int) -> None:
    problem = random_problem(seed)
    ours = fit_problem(problem, solver="gram", tol=1e-8)
    assert ours.structured
    assert ours.solution.status is Status.OPTIMAL
    assert ours.suboptimality <= 1e-8
    assert ours.rigorous
    assert_exactly_feasible(problem, ours.matrices)
    value = ours.repair.objective_after
    assert value == pytest.approx(problem.objective(ours.matrices), rel=1e-12, abs=1e-12)
    theirs = fit_problem(problem, solver="clarabel", tol=1e-9)
    other = theirs.repair.objective_after
    size = 1 + abs(value)
    assert abs(value - other) <= 1e-6 * size
    # The bound lies below every feasible point, so the gap it gives is at least the true one; and the reverse.
    assert ours.lower_bound <= other + 1e-10 * size
    if theirs.rigorous:
        assert theirs.lower_bound <= value + 1e-10 * size
    if problem.names <= 5:
        oracle, _ = reference_fit(problem)
        oracle.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
        assert abs(value - oracle.value) <= 1e-6 * size


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_iter", [1, 4, 12])
def test_gap_of_a_stopped_fit_is_at_least_the_true_gap(seed: int, max_iter: int) -> None:
    problem = random_problem(seed)
    gram = gram_cone_fit(problem)
    best = solve_gram(gram, 1e-11).objective
    early = solve_gram(gram, 1e-13, max_iter=max_iter)
    assert_exactly_feasible(problem, early.matrices)
    assert early.gap_abs >= early.objective - best - 1e-11
    assert early.objective >= best - 1e-10 * (1 + abs(best))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rho", [0.3, 1.0])
def test_constrained_estimate_is_the_weighted_projection_of_the_ridge_estimate(seed: int, rho: float) -> None:
    """arXiv 2510.06879: with W = ΣU'U + λI, the constrained minimiser is the W-nearest point to the ridge estimate."""
    base = impact_instance(7, 2, seed=seed, r2=0.05)
    lam, n = 0.3, 7
    constrained = GramConeFit(base.S, base.B, None, base.floor, rho, ridge=lam, pool=lam)
    W = base.S + lam * np.eye(2 * n)
    ridge = np.linalg.solve(W, base.B.T).T
    projection = GramConeFit(W, ridge @ W, None, base.floor, rho)
    left, right = solve_gram(constrained, 1e-15, max_iter=800), solve_gram(projection, 1e-15, max_iter=800)
    np.testing.assert_allclose(left.matrices, right.matrices, atol=1e-7)
    away = constrained.stacked(left.matrices) - ridge
    distance = 0.5 * np.einsum("ij,jk,ik->", away, W, away)
    fixed = 0.5 * np.einsum("ij,jk,ik->", ridge, W, ridge)
    assert left.objective + fixed == pytest.approx(distance, rel=1e-7)
    assert left.gap < 1e-12
    assert right.gap < 1e-12
    assert np.abs(left.matrices - np.stack(np.split(ridge, 2, axis=1))).max() > 1e-2  # the constraints bind


def test_auto_is_structured_and_says_so() -> None:
    fitted = fit_problem(impact_instance(8, 2))
    assert fitted.structured
    assert fitted.lowered is None
    assert [a.backend for a in fitted.attempts] == ["gram"]
    assert fitted.certificate.passes(1e-8)
    assert fitted.certificate.dual == 0.0
    assert fitted.lower_bound <= fitted.repair.objective_after
    assert fit_problem(impact_instance(8, 2), solver="clarabel").solution.backend == "clarabel"


def test_auto_falls_back_to_the_cone_program_and_records_both(monkeypatch) -> None:
    module = importlib.import_module("crosswind.solvers.gram")
    real = module.solve_gram
    monkeypatch.setattr(module, "solve_gram", lambda fit, tol, **kw: real(fit, tol, **(kw | {"max_iter": 2})))
    problem = impact_instance(6, 2)
    fitted = fit_problem(problem)
    assert not fitted.structured
    assert fitted.attempts[0].backend == "gram"
    assert len(fitted.attempts) >= 2
    assert fitted.attempts[0].status is Status.ITERATION_LIMIT
    assert fitted.solution.status.ok
    assert fitted.suboptimality < 1e-7
    with pytest.raises(SolverFailure, match="ITERATION_LIMIT"):
        fit_problem(problem, solver="gram")
    with pytest.raises(SolverFailure):
        fit_problem(impact_instance(45, 1))


def test_warm_fits_along_penalties_agree_with_cold_ones() -> None:
    problem = impact_instance(8, 2)
    warm = None
    for ridge in (10.0, 3.0, 1.0, 0.3):
        chosen = problem.with_penalties(ridge=ridge, pool=ridge)
        warm = fit_problem(chosen, tol=1e-8, warm=warm)
        cold = fit_problem(chosen, tol=1e-8)
        np.testing.assert_allclose(warm.matrices, cold.matrices, atol=1e-5)
    other = fit_problem(impact_instance(8, 2, seed=1), warm=warm)
    assert other.suboptimality <= 1e-8
    assert fit_problem(impact_instance(5, 1), warm=warm).suboptimality <= 1e-8


def test_estimator_uses_it_and_agrees_with_the_general_way(simulated) -> None:
    events, _ = simulated(names=5, rows=400, r2=0.05)
    options = {"half_lives_s": (120.0, 1200.0), "ridge": 0.5}
    ours, theirs = CrossImpact(**options).fit(events), CrossImpact(**options, solver="clarabel").fit(events)
    assert ours.fitted_.structured
    assert not theirs.fitted_.structured
    assert ours.suboptimality_ <= 1e-8
    assert ours.solution_.status.ok
    assert "certified" in ours.summary()
    size = np.abs(theirs.model_.matrices).max()
    np.testing.assert_allclose(ours.model_.matrices / size, theirs.model_.matrices / size, atol=1e-4)
