"""Turnover beside the target, and the sparse tail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.impact import CrossImpact, ImpactModel, sparsify
from crosswind.problems.impact.fit import fit_problem
from crosswind.problems.impact.instances import impact_instance
from crosswind.problems.impact.reference import reference_fit
from crosswind.problems.impact.targets import with_turnover
from crosswind.solvers.errors import CrosswindError, InvalidInput

LIVES = (120.0, 1200.0)


def symmetric(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    X = rng.standard_normal((m, n, n))
    return X + X.transpose(0, 2, 1)


# -- turnover ------------------------------------------------------------------------------------------------------
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 10), st.floats(0, 10), st.floats(1e-6, 10))
def test_the_completed_square_is_the_sum_of_both_pulls(seed: int, ridge: float, pool: float, turnover: float) -> None:
    rng = np.random.default_rng(seed)
    problem = replace(impact_instance(4, 2, seed=1), ridge=ridge, pool=pool, target=symmetric(rng, 2, 4))
    P, K = symmetric(rng, 2, 4), symmetric(rng, 2, 4)
    both, constant = with_turnover(problem, P, turnover)
    separate = problem.objective(K) + 0.5 * turnover * ((K - P) ** 2).sum()
    assert both.objective(K) + constant == pytest.approx(separate, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize(
    ("ridge", "pool", "l1", "corr_bound"), [(0.7, 0.2, 0.0, 0.6), (0.0, 0.0, 0.0, 0.3), (0.5, 0.5, 0.02, 1.0)]
)
def test_the_fit_with_both_pulls_is_that_of_an_independent_formulation(ridge, pool, l1, corr_bound) -> None:
    import cvxpy as cp

    problem = replace(impact_instance(5, 2, seed=2), ridge=ridge, pool=pool, l1=l1, corr_bound=corr_bound)
    P = 0.3 * symmetric(np.random.default_rng(0), 2, 5)
    both, constant = with_turnover(problem, P, 0.4)
    fitted = fit_problem(both, tol=1e-10)
    program, K = reference_fit(problem)
    pull: Any = sum(0.5 * 0.4 * cp.sum_squares(K[k] - P[k]) for k in range(2))
    apart = cp.Problem(cp.Minimize(program.objective.expr + pull), program.constraints)
    apart.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert fitted.repair.objective_after + constant == pytest.approx(apart.value, rel=1e-7, abs=1e-8)
    np.testing.assert_allclose(fitted.repair.matrices, np.stack([k.value for k in K]), atol=1e-4)


def test_turnover_moves_the_fit_from_free_to_held(simulated) -> None:
    old, _ = simulated(names=4, rows=600, r2=0.2, seed=1)
    new, _ = simulated(names=4, rows=600, r2=0.2, seed=2)
    yesterday = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(old).model_
    distance = []
    for turnover in (0.0, 0.1, 1.0, 10.0, 1e6):
        fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, turnover=turnover, previous=yesterday).fit(new)
        unit = np.outer(fit.scale_, fit.scale_)
        distance.append(float(np.linalg.norm((fit.model_.matrices - yesterday.matrices) / unit)))
        assert fit.constraint_violations()["worst"] <= 1e-12
    assert (np.diff(distance) < 0).all()
    assert distance[-1] < 1e-4 * distance[0]
    plain = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(new).model_
    unused = CrossImpact(half_lives_s=LIVES, ridge=1.0, previous=yesterday).fit(new).model_
    assert plain.matrices.tobytes() == unused.matrices.tobytes()


def test_turnover_holds_without_a_ridge_and_beside_cross_validation(simulated) -> None:
    old, _ = simulated(names=3, rows=600, r2=0.2, seed=1)
    new, _ = simulated(names=3, rows=600, r2=0.2, seed=2)
    yesterday = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(old).model_
    bare = CrossImpact(half_lives_s=LIVES, ridge=0.0, pool=0.0, floor=0.0, turnover=1e7, previous=yesterday).fit(new)
    np.testing.assert_allclose(bare.model_.matrices, yesterday.matrices, atol=1e-4 * yesterday.matrices.max())
    chosen = CrossImpact(half_lives_s=LIVES, turnover=1.0, previous=yesterday).fit(new)
    assert chosen.cv_ is not None


def test_new_names_are_pulled_to_the_target_and_gone_names_do_not_matter(simulated) -> None:
    events, _ = simulated(names=4, rows=600, r2=0.2, seed=1)
    known = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(events.select(["AAA", "BBB", "DDD"])).model_
    today = events.select(["BBB", "AAA", "CCC"])
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, turnover=3.0, previous=known).fit(today)
    plain = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(today)
    target, alone = fit.fitted_.problem.target, plain.fitted_.problem.target
    unit = np.outer(fit.scale_, fit.scale_)
    np.testing.assert_allclose(target[:, 2, :], alone[:, 2, :], rtol=1e-12)
    old = known.subset(["BBB", "AAA"]).matrices / unit[:2, :2]
    np.testing.assert_allclose(target[:, :2, :2], 0.25 * alone[:, :2, :2] + 0.75 * old, rtol=1e-9)
    assert (fit.fitted_.problem.ridge, fit.fitted_.problem.pool) == (4.0, 4.0)


def test_a_frame_is_shared_out_over_the_shapes(simulated) -> None:
    events, truth = simulated(names=3, rows=600, r2=0.2, seed=1)
    G = pd.DataFrame(truth.immediate, index=list(truth.names), columns=list(truth.names))
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, floor=0.0, turnover=1e7, previous=G).fit(events)
    np.testing.assert_allclose(fit.model_.immediate, truth.immediate, rtol=1e-3)
    share = np.einsum("mii->mi", fit.model_.matrices) / np.diag(fit.model_.immediate)
    assert np.ptp(share, axis=1).max() < 1e-3


def test_bad_pulls_are_refused(simulated) -> None:
    events, truth = simulated(names=3, rows=200, r2=0.2)
    other = ImpactModel(truth.names, np.array([0.1]), truth.matrices[:1], "exponential", 60.0)
    strange = ImpactModel(("X", "Y", "Z"), truth.rates_per_s, truth.matrices, "exponential", 60.0)
    lopsided = pd.DataFrame(np.triu(np.ones((3, 3))), index=list(events.names), columns=list(events.names))
    for previous in (other, strange, lopsided, None):
        with pytest.raises(InvalidInput) as caught:
            CrossImpact(half_lives_s=LIVES, ridge=1.0, turnover=1.0, previous=previous).fit(events)
        assert caught.value.field == "previous"
    for turnover in (-1.0, np.inf, np.nan):
        with pytest.raises(InvalidInput, match="turnover"):
            CrossImpact(half_lives_s=LIVES, ridge=1.0, turnover=turnover, previous=truth).fit(events)


# -- the sparse tail -----------------------------------------------------------------------------------------------
def correlations(K: np.ndarray) -> np.ndarray:
    own = np.sqrt(np.diag(K))
    return np.abs(K) / np.outer(own, own)


@pytest.mark.parametrize("corr_bound", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("threshold", [0.05, 0.15, 0.4])
def test_small_terms_go_and_every_constraint_stays(threshold: float, corr_bound: float) -> None:
    for seed in range(4):
        problem = impact_instance(8, 2, seed=seed, corr_bound=corr_bound, ridge=0.2)
        K = fit_problem(problem).repair.matrices
        cut = sparsify(problem, K, threshold)
        for before, after in zip(K, cut.matrices, strict=True):
            small = (correlations(before) < threshold) & ~np.eye(8, dtype=bool)
            assert (after[small] == 0).all()
            assert (after == after.T).all()
            assert np.linalg.eigvalsh(after)[0] >= -1e-12 * np.abs(after).max()
            own = np.diag(after)
            assert (own >= problem.floor * (1 - 1e-12)).all()
            excess = np.abs(after) - corr_bound * np.sqrt(np.outer(own, own)) * (1 + 1e-12)
            np.fill_diagonal(excess, 0.0)
            assert excess.max() <= 0
        assert cut.cost == pytest.approx(problem.objective(cut.matrices) - problem.objective(K), abs=1e-12)
        assert cut.cost >= -1e-6
        assert cut.dropped + cut.kept == 2 * 28


def test_both_ways_back_into_the_cone_are_used_and_the_better_is_taken() -> None:
    """Zeroing the weak links of a chain of strong ones leaves the cone."""
    problem = replace(impact_instance(3, 1, seed=0, corr_bound=1.0), floor=np.zeros(3))
    C = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.8], [0.3, 0.8, 1.0]])
    assert np.linalg.eigvalsh(C)[0] > 0
    zeroed = np.where(C == 0.3, 0.0, C)
    low = np.linalg.eigvalsh(zeroed)[0]
    assert low < 0
    seen = set()
    for toward, away in ((C[None] - low * np.eye(3), "lift"), (np.eye(3)[None], "fade")):
        pulled = problem.with_penalties(ridge=1e4, pool=1e4)
        cut = sparsify(replace(pulled, target=np.where(C == 0.3, 0.0, toward)), C[None], 0.5)
        assert cut.methods == (away,)
        seen.add(away)
        assert np.linalg.eigvalsh(cut.matrices[0])[0] >= -1e-15
    faded = sparsify(replace(pulled, target=np.eye(3)[None]), C[None], 0.5).matrices[0]
    np.testing.assert_allclose(faded[0, 1], 0.8 / (1.0 - low), rtol=1e-9)
    assert seen == {"lift", "fade"}


def test_no_threshold_changes_no_byte_and_one_name_has_no_tail(simulated) -> None:
    problem = impact_instance(5, 2, seed=0)
    K = fit_problem(problem).repair.matrices
    same = sparsify(problem, K, 0.0)
    assert same.matrices.tobytes() == K.tobytes()
    assert same.methods == ("none", "none")
    assert same.cost == 0.0
    events, _ = simulated(names=1, rows=100, r2=0.5)
    assert CrossImpact(half_lives_s=LIVES, ridge=1.0, sparse_threshold=0.3).fit(events).sparsity_.density == 1.0


def test_the_estimator_reports_what_its_tail_cost(simulated) -> None:
    events, _ = simulated(names=6, rows=600, r2=0.05, seed=2)
    full = CrossImpact(half_lives_s=LIVES, ridge=0.1).fit(events)
    cut = CrossImpact(half_lives_s=LIVES, ridge=0.1, sparse_threshold=0.25).fit(events)
    assert cut.sparsity_.dropped > 0
    assert cut.sparsity_.density < 1.0
    assert cut.constraint_violations()["worst"] <= 1e-12
    assert (cut.model_.matrices == 0).sum() == 2 * cut.sparsity_.dropped
    scaled = cut.model_.matrices / np.outer(cut.scale_, cut.scale_)
    cost = cut.fitted_.problem.objective(scaled) - full.fitted_.problem.objective(full.fitted_.repair.matrices)
    assert cut.sparsity_.cost == pytest.approx(cost, rel=1e-6)
    for bad in (-0.1, 1.0, np.nan):
        with pytest.raises(CrosswindError) as caught:
            CrossImpact(half_lives_s=LIVES, ridge=0.1, sparse_threshold=bad).fit(events)
        assert caught.value.field == "sparse_threshold"


# -- the block target ----------------------------------------------------------------------------------------------
def test_nearly_collinear_shapes_do_not_blow_up_the_block_target(simulated) -> None:
    """Six half-lives that two would do for: free levels are huge and offset each other, ours are not."""
    events, _ = simulated(names=5, rows=800, r2=0.05, seed=3)
    train, test = (events.on(d) for d in events.days)
    lives = tuple(120.0 * 1.6**k for k in range(6))
    few = CrossImpact(half_lives_s=LIVES, ridge=30.0).fit(train)
    many = CrossImpact(half_lives_s=lives, ridge=30.0).fit(train)
    target = many.fitted_.problem.target
    assert many.fitted_.problem.objective(target) < 0  # better than no impact at all
    own = np.einsum("mii->m", target)
    assert own.sum() < 2.0 * np.einsum("mii->m", few.fitted_.problem.target).sum()
    assert many.score(test) > few.score(test) - 0.02


def test_the_block_target_is_the_best_of_its_levels() -> None:
    """Against cvxpy: levels under their constraints, from the same moments; without a floor the two are one."""
    import cvxpy as cp

    from crosswind.problems.impact.targets import block_target

    for seed in range(4):
        problem = replace(impact_instance(6, 2, seed=seed, corr_bound=0.3), floor=np.zeros(6), ridge=0.0, pool=0.0)
        groups = np.arange(6, dtype=np.intp) % 3
        same = groups[:, None] == groups[None, :]
        eye = np.eye(6)
        level = cp.Variable((2, 3))
        K = [level[k, 0] * eye + level[k, 1] * (same - eye) + level[k, 2] * ~same for k in range(2)]
        values, vectors = np.linalg.eigh(problem.S)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        w = np.sqrt(problem.weights)[:, None]
        X = cp.hstack(K)
        data = 0.5 * cp.sum_squares(cp.multiply(w, X @ root)) - cp.sum(cp.multiply(w**2 * problem.B, X))
        limits = [level[:, 0] >= 0, cp.abs(level[:, 1:]) <= 0.3 * cp.vstack([level[:, 0]] * 2).T]
        program = cp.Problem(cp.Minimize(data), limits)
        program.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        ours = block_target(problem, groups)
        assert replace(problem, target=ours).objective(ours) == pytest.approx(program.value, rel=1e-7, abs=1e-9)
