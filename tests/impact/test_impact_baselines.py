from __future__ import annotations

import numpy as np
import pytest

from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    FullOLS,
    ImpactEstimator,
    KyleImpact,
    OwnFlowOLS,
    SequentialHeuristic,
)
from crosswind.problems.impact.baselines import ridge_rows
from crosswind.problems.impact.estimate import fit_problem
from crosswind.problems.impact.instances import impact_instance
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)
BASELINES = [OwnFlowOLS, FullOLS, SequentialHeuristic, DiagonalNNLS, KyleImpact]


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize("family", ["instantaneous", "exponential", "monotone", "convex"])
def test_every_baseline_speaks_the_same_interface(simulated, kind: type[ImpactEstimator], family: str) -> None:
    events, _ = simulated(names=3, rows=300, r2=0.2)
    estimator = kind(kernel=family, half_lives_s=LIVES, lags=(0, 3))  # type: ignore[call-arg]
    copied = type(estimator)(**estimator.get_params())
    fit = copied.fit(events)
    assert fit is copied
    assert fit.predict(events).shape == events.flow.shape
    assert fit.score(events) == pytest.approx(fit.score_by_name(events).mean())
    assert fit.model_.family == family
    assert fit.set_params(defactor=False).defactor is False


def test_full_ols_is_least_squares_on_the_rows(simulated) -> None:
    events, _ = simulated(names=3, rows=200, r2=0.3)
    fit = FullOLS(half_lives_s=LIVES).fit(events)
    dictionary = fit.model_.dictionary
    flow, returns = events.flow.to_numpy(), events.returns.to_numpy()
    Z = np.vstack([dictionary.regressors(flow[:100]), dictionary.regressors(flow[100:])])
    use = np.isfinite(returns).all(axis=1)
    expected = np.linalg.lstsq(Z[use], returns[use], rcond=None)[0].T
    found = fit.model_.matrices.transpose(1, 0, 2).reshape(3, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    assert fit.rank_ == 6


def test_full_ols_recovers_the_truth_without_noise_and_says_when_flow_is_collinear(simulated) -> None:
    events, truth = simulated(names=3, r2=1.0)
    np.testing.assert_allclose(FullOLS(half_lives_s=LIVES).fit(events).model_.matrices, truth.matrices, rtol=1e-5)
    flow = 1e6 * np.random.default_rng(0).standard_normal((200, 3))
    flow[:, 2] = flow[:, 0]
    twins, _ = simulated(names=3, rows=200, r2=0.5, flow=flow)
    fit = FullOLS(half_lives_s=LIVES).fit(twins)
    assert fit.rank_ == 4
    assert np.isfinite(fit.model_.matrices).all()


def test_full_ols_needs_a_row_per_regressor(simulated) -> None:
    events, _ = simulated(names=6, rows=24, days=2)
    FullOLS(kernel="instantaneous").fit(events)
    with pytest.raises(DataGap, match="too few"):
        FullOLS(kernel="convex", lags=(0, 1, 2, 3)).fit(events)


def test_own_flow_and_nnls_agree_where_slopes_are_positive(simulated) -> None:
    events, _ = simulated(names=4, rows=600, r2=0.9)
    free, signed = OwnFlowOLS(half_lives_s=LIVES).fit(events), DiagonalNNLS(half_lives_s=LIVES).fit(events)
    assert (np.diagonal(free.model_.matrices, axis1=1, axis2=2) > 0).all()
    np.testing.assert_allclose(free.model_.matrices, signed.model_.matrices, rtol=1e-6)
    assert signed.model_.cross_share() == 0.0


def test_nnls_sets_a_wrong_sign_to_zero_and_stays_admissible(build_events) -> None:
    rng = np.random.default_rng(1)
    flow = 1e6 * rng.standard_normal((300, 2))
    events = build_events(flow, -1e-9 * flow + 1e-4 * rng.standard_normal(flow.shape))
    free = OwnFlowOLS(kernel="instantaneous").fit(events)
    signed = DiagonalNNLS(kernel="instantaneous").fit(events)
    assert (np.diag(free.model_.matrices[0]) < 0).all()
    np.testing.assert_array_equal(signed.model_.matrices, 0.0)
    assert signed.model_.admissible().admissible
    assert free.model_.constraint_violations()["psd"] > 0.1


def test_the_heuristic_breaks_its_own_constraints_where_the_joint_fit_keeps_them(simulated) -> None:
    """Clamping correlations after the eigenvalue clip leaves negative eigenvalues."""
    broken = 0
    for seed in range(4):
        events, _ = simulated(names=20, rows=800, r2=0.05, corr=0.4, seed=seed)
        patched = SequentialHeuristic(kernel="instantaneous", corr_bound=0.5).fit(events)
        violations = patched.constraint_violations()
        broken += violations["psd"] > 1e-3
        assert violations["asymmetry"] == 0.0
        assert violations["floor"] <= 1e-12
        assert violations["correlation"] <= 1e-12
        joint = CrossImpact(kernel="instantaneous", corr_bound=0.5, ridge=0.0).fit(events)
        assert joint.constraint_violations()["worst"] <= 1e-12
    assert broken == 4


def test_clipping_inflates_the_diagonal(simulated) -> None:
    events, _ = simulated(names=6, rows=300, r2=0.01, seed=1)
    ols = FullOLS(half_lives_s=LIVES).fit(events).model_
    patched = SequentialHeuristic(half_lives_s=LIVES, corr_bound=1.0, floor=0.0).fit(events).model_
    own = np.diagonal(patched.matrices - ols.matrices, axis1=1, axis2=2)
    assert (own >= -1e-9 * ols.matrices.max()).all()
    assert own.sum() > 0


def test_ridge_rows_solves_the_unconstrained_problem() -> None:
    problem = impact_instance(5, 2, ridge=2.0, corr_bound=1.0)
    K = ridge_rows(problem)
    X, T = problem.stacked(K), problem.stacked(problem.target)
    off = np.tile(~np.eye(5, dtype=bool), 2)
    gradient = problem.weights[:, None] * (X @ problem.S - problem.B) + problem.ridge * off * (X - T)
    assert np.abs(gradient).max() < 1e-9
    assert problem.objective(K) <= fit_problem(problem).repair.objective_after + 1e-9


def test_heuristic_with_ridge_shrinks_to_the_target(simulated) -> None:
    events, _ = simulated(names=4, rows=300, r2=0.02)
    shrunk = SequentialHeuristic(half_lives_s=LIVES, ridge=1e6, target="diagonal").fit(events).model_
    assert shrunk.cross_share() < 1e-3


# -- Kyle ----------------------------------------------------------------------------------------------------------
def test_kyle_matrix_maps_flow_covariance_to_return_covariance(simulated) -> None:
    events, _ = simulated(names=4, rows=400, r2=0.3)
    fit = KyleImpact(kernel="instantaneous").fit(events)
    gram = fit.grams_.total
    Lambda = fit.kyle_.to_numpy()
    np.testing.assert_allclose(
        Lambda @ gram.flow_cov @ Lambda, gram.return_cov, rtol=1e-8, atol=1e-12 * gram.return_cov.max()
    )
    np.testing.assert_allclose(Lambda, Lambda.T, rtol=1e-10)
    assert np.linalg.eigvalsh(Lambda)[0] > 0
    assert fit.scalars_.shape == (1,)
    np.testing.assert_allclose(fit.model_.matrices[0], fit.scalars_[0] * Lambda)
    assert fit.model_.admissible().admissible


def test_kyle_scalar_is_the_weighted_least_squares_one(simulated) -> None:
    events, _ = simulated(names=3, rows=300, r2=0.3)
    fit = KyleImpact(kernel="instantaneous").fit(events)
    use = np.isfinite(events.returns.to_numpy()).all(axis=1)
    r, u = events.returns.to_numpy()[use], events.flow.to_numpy()[use]
    sd = np.sqrt((r**2).mean(axis=0))
    forecast = (u @ fit.kyle_.to_numpy() / sd).ravel()
    assert fit.scalars_[0] == pytest.approx(forecast @ (r / sd).ravel() / (forecast @ forecast), rel=1e-8)


def test_kyle_does_not_depend_on_the_basis() -> None:
    """Renaming assets as invertible portfolios transforms Λ covariantly: K(PΣP', P⁻ᵀΩP⁻¹) = PKP'."""
    from crosswind.optim.kyle import kyle_matrix

    rng = np.random.default_rng(2)
    half = rng.standard_normal((3, 3))
    Sigma, Omega = half @ half.T + np.eye(3), np.eye(3) + 0.3
    P = rng.standard_normal((3, 3)) + 2 * np.eye(3)
    inverse = np.linalg.inv(P)
    moved = kyle_matrix(P @ Sigma @ P.T, inverse.T @ Omega @ inverse)
    np.testing.assert_allclose(moved, P @ kyle_matrix(Sigma, Omega) @ P.T, rtol=1e-9, atol=1e-9)


def test_kyle_refuses_collinear_flow(simulated) -> None:
    flow = 1e6 * np.random.default_rng(0).standard_normal((200, 3))
    flow[:, 2] = 2 * flow[:, 0]
    events, _ = simulated(names=3, rows=200, r2=0.5, flow=flow)
    with pytest.raises(InvalidInput, match="collinear"):
        KyleImpact().fit(events)
