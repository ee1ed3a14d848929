from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crosswind.problems.impact import CrossImpact
from crosswind.problems.impact.families.robust import clipped_sample, huber_fit, robust_scale
from crosswind.problems.impact.sample import Sample
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

LIVES = (120.0, 1200.0)


def reference_huber(problem, Z: np.ndarray, r: np.ndarray, sigma: np.ndarray, c: float) -> tuple[float, np.ndarray]:
    """The Huber fit written for reading, row by row, in cvxpy: optimal value and K' (M, N, N)."""
    import cvxpy as cp

    n, m, rows = problem.names, problem.shapes, len(Z)
    K = [cp.Variable((n, n), symmetric=True) for _ in range(m)]
    unit = np.outer(problem.scale, problem.scale)
    objective: Any = 0.0
    for i in range(n):
        slope = cp.hstack([cp.multiply(unit[i], K[k][i]) for k in range(m)])
        error = (r[:, i] - Z @ slope) / sigma[i]
        weight = problem.weights[i] / problem.scale[i] ** 2 * sigma[i] ** 2 / rows
        objective += weight * 0.5 * cp.sum(cp.huber(error, c))  # cvxpy's huber is twice ours
    off = 1.0 - np.eye(n)
    limits: list[Any] = []
    for k in range(m):
        objective += 0.5 * problem.ridge * cp.sum_squares(cp.multiply(off, K[k] - problem.target[k]))
        objective += 0.5 * problem.pool * cp.sum_squares(cp.diag(K[k]) - np.diag(problem.target[k]))
        objective += problem.l1 * cp.sum(cp.abs(cp.multiply(off, K[k])))
        limits += [K[k] >> 0, cp.diag(K[k]) >= problem.floor]
        for i in range(n):
            for j in range(i + 1, n):
                own = cp.geo_mean(cp.hstack([K[k][i, i], K[k][j, j]]))
                limits.append(cp.abs(K[k][i, j]) <= problem.corr_bound * own)
    program = cp.Problem(cp.Minimize(objective), limits)
    program.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(program.value), np.stack([np.asarray(k.value) for k in K])


def spoiled(build_events, simulated, share: float = 0.03, size: float = 60.0, seed: int = 0, **kw):
    """A market, and the same market with a share of the returns replaced by wild prints."""
    events, truth = simulated(seed=seed, **kw)
    rng = np.random.default_rng(seed + 100)
    returns = np.nan_to_num(events.returns.to_numpy())
    wild = rng.random(returns.shape) < share
    shock = np.clip(size * returns.std(axis=0) * rng.standard_t(3, returns.shape), -0.5, 0.5)
    bad = build_events(events.flow.to_numpy(), returns + wild * shock, days=len(events.days), names=list(events.names))
    return events, bad, truth


def size_of_error(fit: CrossImpact, truth) -> float:
    D = 1.0 / np.sqrt(np.diag(truth.immediate))
    return float(np.linalg.norm((fit.model_.matrices - truth.matrices) * np.outer(D, D)))


@pytest.mark.parametrize(
    ("c", "kw"),
    [
        (1.345, {"ridge": 0.0}),
        (1.345, {"ridge": 0.7, "corr_bound": 0.2}),
        (0.5, {"ridge": 0.3, "l1": 0.02}),
        (3.0, {"ridge": 0.0, "corr_bound": 0.1, "floor": 0.5}),
    ],
)
def test_the_fit_is_that_of_an_independent_formulation(build_events, simulated, c: float, kw: dict) -> None:
    _, events, _ = spoiled(build_events, simulated, names=3, rows=160, r2=0.3)
    fit = CrossImpact(half_lives_s=LIVES, tol=1e-10, **kw).fit(events)
    sample = Sample.of(events, events.names)
    found = huber_fit(sample, fit.model_.dictionary, fit.fitted_, c, passes=400, tol=1e-12, solver_tol=1e-10)
    assert found.converged
    Z, r = (np.vstack(part) for part in zip(*sample.sessions(fit.model_.dictionary), strict=True))
    value, K = reference_huber(found.fitted.problem, Z, r, found.sigma, c)
    assert found.history[-1] == pytest.approx(value, rel=1e-7, abs=1e-8)
    np.testing.assert_allclose(found.fitted.repair.matrices, K, atol=2e-3 * np.abs(K).max())
    assert found.history[0] > value + 1e-4


def test_every_pass_descends_and_the_constraints_hold_exactly(build_events, simulated) -> None:
    _, events, _ = spoiled(build_events, simulated, names=4, rows=400, r2=0.1)
    fit = CrossImpact(half_lives_s=LIVES, ridge=0.5, loss="huber").fit(events)
    assert fit.huber_ is not None
    assert fit.huber_.converged
    assert (np.diff(fit.huber_.history) <= 0).all()
    assert len(fit.huber_.history) > 2
    assert fit.constraint_violations()["worst"] <= 1e-12
    assert fit.suboptimality_ < 1e-6
    assert ((fit.huber_.clipped > 0.0) & (fit.huber_.clipped < 0.5)).all()


def test_planted_outliers_hardly_move_the_robust_fit(build_events, simulated) -> None:
    plain, robust, unspoiled = [], [], []
    for seed in range(5):
        clean, bad, truth = spoiled(build_events, simulated, seed=seed, names=4, rows=800, r2=0.3)
        options: dict[str, Any] = {"half_lives_s": LIVES, "ridge": 0.3}
        plain.append(size_of_error(CrossImpact(**options).fit(bad), truth))
        robust.append(size_of_error(CrossImpact(loss="huber", **options).fit(bad), truth))
        unspoiled.append(size_of_error(CrossImpact(**options).fit(clean), truth))
    assert np.mean(robust) < 1.3 * np.mean(unspoiled)
    assert (np.array(plain) > 2.0 * np.array(robust)).all()


def test_without_outliers_it_loses_little(simulated) -> None:
    events, truth = simulated(names=4, rows=1500, r2=0.2, seed=5)
    plain = CrossImpact(half_lives_s=LIVES, ridge=0.3).fit(events)
    robust = CrossImpact(half_lives_s=LIVES, ridge=0.3, loss="huber").fit(events)
    assert size_of_error(robust, truth) < 1.25 * size_of_error(plain, truth)
    assert robust.score(events) <= plain.score(events) + 1e-9  # in sample, least squares is best at squares


def test_a_wide_threshold_is_the_squared_loss(simulated) -> None:
    events, _ = simulated(names=3, rows=400, r2=0.2)
    plain = CrossImpact(half_lives_s=LIVES, ridge=0.5, tol=1e-10).fit(events).model_.matrices
    robust = CrossImpact(half_lives_s=LIVES, ridge=0.5, tol=1e-10, loss="huber", huber_c=1e3).fit(events)
    np.testing.assert_allclose(robust.model_.matrices, plain, atol=1e-6 * plain.max())
    assert robust.huber_ is not None
    assert (robust.huber_.clipped == 0).all()


def test_cross_validation_and_scaling_rest_on_clipped_returns(build_events, simulated) -> None:
    clean, bad, _ = spoiled(build_events, simulated, names=4, rows=600, r2=0.2, seed=3)
    scale = [
        CrossImpact(half_lives_s=LIVES, loss=loss).fit(e).scale_ for loss, e in (("huber", bad), ("squared", clean))
    ]
    np.testing.assert_allclose(scale[0], scale[1], rtol=0.35)
    sample = Sample.of(bad, bad.names)
    clipped = clipped_sample(sample, 1.345).target[sample.use]
    limit = 5.0 * robust_scale(sample.target[sample.use])
    assert (np.abs(clipped) <= limit * (1 + 1e-12)).all()
    wide = clipped_sample(sample, 8.0).target[sample.use]
    assert np.abs(wide).max() > limit.max()


def test_duplicated_flow_and_still_buckets_end_well(build_events) -> None:
    """Half of the mids do not move at all: the scale is that of the moves."""
    rng = np.random.default_rng(1)
    flow = 1e6 * rng.standard_normal((400, 3))
    flow[:, 2] = flow[:, 1]
    returns = 1e-9 * flow + 1e-3 * rng.standard_normal((400, 3))
    returns[rng.random((400, 3)) < 0.6] = 0.0
    events = build_events(flow, returns, days=2)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, loss="huber").fit(events)
    assert np.isfinite(fit.model_.matrices).all()
    assert fit.constraint_violations()["worst"] <= 1e-12
    sample = Sample.of(events, events.names)
    moves = sample.target[sample.use]
    assert np.median(np.abs(moves)) < 1e-12
    assert robust_scale(moves).min() > 1e-4


def test_a_normal_sample_has_its_own_standard_deviation() -> None:
    x = np.random.default_rng(0).standard_normal((200_000, 2)) * np.array([1.0, 5.0])
    np.testing.assert_allclose(robust_scale(x), [1.0, 5.0], rtol=0.01)
    with pytest.raises(DataGap, match="column 1"):
        robust_scale(np.array([[1.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"loss": "absolute"}, "loss"),
        ({"loss": "huber", "huber_c": 0.0}, "huber_c"),
        ({"loss": "huber", "huber_c": np.nan}, "huber_c"),
        ({"loss": "huber", "passes": 0}, "passes"),
        ({"loss": "huber", "passes": 1.5}, "passes"),
    ],
)
def test_bad_options_are_refused(simulated, kw: dict, field: str) -> None:
    events, _ = simulated(names=2, rows=100, r2=0.2)
    with pytest.raises(CrosswindError) as caught:
        CrossImpact(half_lives_s=LIVES, ridge=1.0, **kw).fit(events)
    assert caught.value.field == field


def test_one_pass_is_taken_and_said_not_to_have_converged(build_events, simulated) -> None:
    _, events, _ = spoiled(build_events, simulated, names=2, rows=200, r2=0.2)
    fit = CrossImpact(half_lives_s=LIVES, ridge=0.3, loss="huber", passes=1).fit(events)
    assert fit.huber_ is not None
    assert not fit.huber_.converged
    assert len(fit.huber_.history) == 2
    with pytest.raises(InvalidInput, match="not fitted"):
        CrossImpact(loss="huber").predict(events)
