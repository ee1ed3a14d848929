from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.impact import CrossImpact, SeparableImpact, make_dictionary
from crosswind.problems.impact.families.alternating import alternate, collapse, own_weights, simplex_quadratic
from crosswind.problems.impact.fit import fit_problem
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.program import scaled_problem
from crosswind.problems.impact.reference import reference_fit
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

LAGS = (0, 1, 3, 7)


def separable_market(
    build_events, family: str, shares, names: int = 4, rows: int = 900, r2: float = 1.0, seed: int = 0
):
    """Events of G_h = φ(h) K with φ the mix of the family's shapes, and K."""
    rng = np.random.default_rng(seed)
    own = 1e-9 * np.exp(rng.uniform(-0.5, 0.5, names))
    K = (0.3 + 0.7 * np.eye(names)) * np.sqrt(np.outer(own, own))
    dictionary = make_dictionary(family, 60.0, (120.0, 600.0, 3000.0), LAGS)
    u = 1e6 * (rng.standard_normal((rows, names)) + 0.4 * rng.standard_normal((rows, 1)))
    half = rows // 2
    Z = np.vstack([dictionary.regressors(u[:half]), dictionary.regressors(u[half:])])
    X = np.hstack([a * K for a in shares])
    signal = Z @ X.T
    noise = signal.std(axis=0) * np.sqrt((1.0 - r2) / r2) * rng.standard_normal(signal.shape)
    return build_events(u, signal + noise, days=2), K


def random_gram(groups: int, names: int, rows: int = 300, seed: int = 0) -> Gram:
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((rows, groups * names)) @ rng.standard_normal((groups * names, groups * names))
    u = Z[:, :names]
    K = 0.2 + 0.8 * np.eye(names)
    return Gram.of(Z, u @ K + 3.0 * rng.standard_normal((rows, names)), u)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000), st.booleans())
def test_the_simplex_step_meets_its_optimality_conditions(size: int, seed: int, singular: bool) -> None:
    rng = np.random.default_rng(seed)
    R = rng.standard_normal((max(1, size // 2) if singular else size + 2, size))
    H, g = R.T @ R, R.T @ rng.standard_normal(len(R)) * 10.0 ** rng.uniform(-3, 3)
    a = simplex_quadratic(H, g)
    assert (a >= 0).all()
    assert a.sum() == pytest.approx(1.0, abs=1e-12)
    slope = H @ a - g
    level = slope[a > 1e-9].min()
    tol = 1e-6 * (1.0 + np.abs(g).max() + np.abs(H).max())
    np.testing.assert_allclose(slope[a > 1e-9], level, atol=tol)
    assert (slope >= level - tol).all()


def test_the_simplex_step_is_that_of_an_independent_solver() -> None:
    import cvxpy as cp

    rng = np.random.default_rng(3)
    for size in (2, 5, 16):
        R = rng.standard_normal((30, size))
        H, g = R.T @ R, R.T @ rng.standard_normal(30)
        a = cp.Variable(size, nonneg=True)
        program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(R @ a) - g @ a), [cp.sum(a) == 1])
        program.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        np.testing.assert_allclose(simplex_quadratic(H, g), a.value, atol=1e-6)
    np.testing.assert_allclose(simplex_quadratic(np.zeros((3, 3)), np.zeros(3)), 1.0 / 3.0)


def test_collapsing_moments_is_mixing_regressors() -> None:
    rng = np.random.default_rng(0)
    Z, r, u, a = (
        rng.standard_normal((50, 12)),
        rng.standard_normal((50, 2)),
        rng.standard_normal((50, 2)),
        rng.random(3),
    )
    mixed = sum(a[k] * Z[:, 4 * k : 4 * k + 4] for k in range(3))
    got, want = collapse(Gram.of(Z, r, u), 3, a), Gram.of(mixed, r, u)
    np.testing.assert_allclose(got.ZZ, want.ZZ, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got.rZ, want.rZ, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_each_half_step_is_optimal_and_the_objective_never_rises(seed: int) -> None:
    gram = random_gram(4, 3, seed=seed)
    start = own_weights(gram, 4)
    base = scaled_problem(collapse(gram, 4, start), 0.05, 0.4, 0.2, 0.01 if seed % 2 else 0.0)
    found = alternate(gram, 4, base, start, tol=1e-12, solver_tol=1e-10)
    assert (np.diff(found.history) <= 0).all()
    assert found.converged
    # K is the constrained fit given a, by the cvxpy formulation of the collapsed problem
    inner = collapse(gram, 4, found.weights)
    unit = base.scale
    S = inner.S * np.outer(unit, unit)
    problem = replace(base, S=0.5 * (S + S.T), B=inner.B / unit[:, None] * unit)
    program, _ = reference_fit(problem)
    program.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert found.history[-1] == pytest.approx(program.value, rel=1e-6, abs=1e-7)
    assert problem.objective(found.matrices) == pytest.approx(found.history[-1], rel=1e-10)
    # and a is optimal given K: no vertex of the simplex is a better direction
    value = problem.objective(found.matrices)
    for k in range(4):
        step = found.weights + 1e-4 * (np.eye(4)[k] - found.weights)
        other = collapse(gram, 4, step)
        S = other.S * np.outer(unit, unit)
        trial = replace(problem, S=0.5 * (S + S.T), B=other.B / unit[:, None] * unit)
        assert trial.objective(found.matrices) >= value - 1e-9


def test_two_shapes_against_a_scan_of_the_simplex() -> None:
    """With two groups the whole nonconvex problem is a line: the alternation finds its lowest point."""
    gram = random_gram(2, 3, seed=9)
    start = own_weights(gram, 2)
    base = scaled_problem(collapse(gram, 2, start), 0.02, 0.5, 0.1)
    found = alternate(gram, 2, base, start, tol=1e-12)

    def value(share: float) -> float:
        inner = collapse(gram, 2, np.array([share, 1.0 - share]))
        S = inner.S * np.outer(base.scale, base.scale)
        problem = replace(base, S=0.5 * (S + S.T), B=inner.B / base.scale[:, None] * base.scale)
        return problem.objective(fit_problem(problem).repair.matrices)

    scan = [value(s) for s in np.linspace(0, 1, 41)]
    assert found.history[-1] <= min(scan) + 1e-6


@pytest.mark.parametrize("family", ["convex", "monotone", "exponential"])
def test_a_planted_separable_kernel_is_found(build_events, family: str) -> None:
    shares = np.array([0.4, 0.0, 0.35, 0.25]) if family != "exponential" else np.array([0.5, 0.2, 0.3])
    events, K = separable_market(build_events, family, shares)
    fit = SeparableImpact(
        kernel=family,
        lags=LAGS,
        half_lives_s=(120.0, 600.0, 3000.0),
        ridge=0.0,
        pool=0.0,
        floor=0.0,
        tol=1e-14,
        limit=300,
    ).fit(events)
    np.testing.assert_allclose(fit.shares_, shares, atol=2e-3)
    np.testing.assert_allclose(fit.matrix_ / K.max(), K / K.max(), atol=3e-3)
    np.testing.assert_allclose(fit.model_.matrices, fit.shares_.to_numpy()[:, None, None] * fit.matrix_.to_numpy())
    assert fit.score(events) > 1 - 1e-5
    assert fit.decay_.iloc[0] == pytest.approx(1.0)


@pytest.mark.parametrize("family", ["convex", "monotone", "exponential"])
def test_the_decay_has_the_shape_of_its_family_and_the_constraints_hold(build_events, family: str) -> None:
    events, _ = separable_market(build_events, "monotone", (0.5, 0.2, 0.2, 0.1), r2=0.05, seed=3)
    fit = SeparableImpact(kernel=family, corr_bound=0.25, floor=0.2).fit(events)
    phi = fit.decay_.to_numpy()
    assert (np.diff(phi) <= 1e-12).all()
    assert phi.min() >= -1e-12
    if family != "monotone":
        assert (np.diff(phi, 2) >= -1e-12).all()
        assert fit.model_.admissible().admissible
    assert fit.constraint_violations()["worst"] <= 1e-12
    assert fit.converged_
    assert (np.diff(fit.history_) <= 0).all()
    assert fit.ridge_ in fit.ridge_grid
    assert fit.cv_ is not None
    assert "one for all names" in fit.summary()
    assert fit.model_.modes() if family == "exponential" else True


def test_few_data_and_a_separable_truth_favour_the_separable_fit(build_events) -> None:
    gap = []
    for seed in range(4):
        events, _ = separable_market(
            build_events, "exponential", (0.5, 0.2, 0.3), names=6, rows=1600, r2=0.05, seed=seed
        )
        train, test = events.on(events.days[0]), events.on(events.days[1])
        lives = (120.0, 600.0, 3000.0)
        one = SeparableImpact(kernel="exponential", half_lives_s=lives, ridge=0.0, pool=0.0).fit(train).score(test)
        many = CrossImpact(half_lives_s=lives, ridge=0.0, pool=0.0).fit(train).score(test)
        gap.append(one - many)
    assert np.mean(gap) > 0


def test_previous_and_target_are_taken_by_their_immediate_impact(build_events) -> None:
    events, _ = separable_market(build_events, "convex", (0.4, 0.0, 0.35, 0.25), r2=0.1)
    first = SeparableImpact(lags=LAGS, ridge=1.0).fit(events)
    second = events.on(events.days[1])
    held = SeparableImpact(lags=LAGS, ridge=0.0, pool=0.0, turnover=1e6, previous=first.model_).fit(second)
    np.testing.assert_allclose(held.matrix_, first.matrix_, rtol=1e-3)
    pulled = SeparableImpact(lags=LAGS, ridge=1e6, target=first.matrix_).fit(second)
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(pulled.matrix_.to_numpy()[off], first.matrix_.to_numpy()[off], rtol=1e-3)


def test_duplicated_flow_one_name_and_a_dead_name_end_as_documented(build_events) -> None:
    rng = np.random.default_rng(0)
    u = 1e6 * rng.standard_normal((400, 3))
    u[:, 2] = u[:, 1]
    returns = 1e-9 * u + 1e-3 * rng.standard_normal(u.shape)
    fit = SeparableImpact(ridge=1.0).fit(build_events(u, returns, days=2))
    assert np.isfinite(fit.model_.matrices).all()
    assert fit.constraint_violations()["worst"] <= 1e-12
    alone = SeparableImpact(ridge="cv").fit(build_events(u[:, :1], returns[:, :1], days=2))
    assert alone.matrix_.shape == (1, 1)
    u[:, 0] = 0.0
    with pytest.raises(InvalidInput, match="AAA"):
        SeparableImpact(ridge=1.0).fit(build_events(u, returns, days=2))


def test_prediction_is_that_of_the_model_and_starts_anew_each_session(build_events) -> None:
    events, _ = separable_market(build_events, "convex", (0.4, 0.0, 0.35, 0.25), r2=0.2)
    fit = SeparableImpact(lags=LAGS, ridge=1.0).fit(events)
    whole = fit.predict(events)
    pd.testing.assert_frame_equal(whole.loc[events.on(events.days[1]).index], fit.predict(events.on(events.days[1])))
    again = SeparableImpact(lags=LAGS, ridge=1.0).fit(events)
    assert again.model_.matrices.tobytes() == fit.model_.matrices.tobytes()


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"kernel": "instantaneous"}, "kernel"),
        ({"kernel": "power"}, "kernel"),
        ({"limit": 0}, "limit"),
        ({"ridge": "best"}, "ridge"),
        ({"ridge": 1.0, "lags": (0, 0)}, "lags"),
        ({"ridge": 1.0, "turnover": 1.0}, "previous"),
        ({"ridge": 1.0, "turnover": -1.0}, "turnover"),
    ],
)
def test_bad_options_are_refused(build_events, kw: dict, field: str) -> None:
    events, _ = separable_market(build_events, "convex", (0.4, 0.0, 0.35, 0.25), r2=0.1, rows=300)
    with pytest.raises(CrosswindError) as caught:
        SeparableImpact(**kw).fit(events)
    assert caught.value.field == field


def test_too_few_rows_are_a_gap(build_events) -> None:
    events, _ = separable_market(build_events, "convex", (0.4, 0.0, 0.35, 0.25), r2=0.1, rows=60)
    with pytest.raises(DataGap, match="too few"):
        SeparableImpact().fit(events)
