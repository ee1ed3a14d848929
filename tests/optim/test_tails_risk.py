"""Tails of samples, regression quantiles, conformal bounds, excesses and mixtures, against independent forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import linprog

from crosswind.optim.tails import (
    ConformalQuantiles,
    Mixture,
    QuantileRegression,
    SplitConformal,
    TailedQuantiles,
    conformal_quantile,
    cvar,
    fit_excess,
    pinball_loss,
    rockafellar_uryasev,
    tail_risk,
    value_at_risk,
)
from crosswind.solvers.errors import InvalidInput

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95)

# VaR and CVaR ---------------------------------------------------------------------------------------------------------

samples = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([0.05, 0.5, 0.8, 0.9, 0.95]), st.integers(0, 10_000))
def test_cvar_is_the_least_value_of_the_program_in_epigraph_form(values: list[int], level: float, seed: int) -> None:
    c = np.array(values, dtype=float)
    w = np.random.default_rng(seed).integers(0, 4, len(c)).astype(float)
    if w.sum() == 0.0:
        w[0] = 1.0
    p = w / w.sum()
    n = len(c)
    # min t + p's/(1 − α), s ≥ c − t, s ≥ 0
    found = linprog(
        np.append(1.0, p / (1.0 - level)),
        A_ub=np.column_stack([-np.ones(n), -np.eye(n)]),
        b_ub=-c,
        bounds=[(None, None), *[(0.0, None)] * n],
    )
    assert cvar(c, level, w) == pytest.approx(found.fun, abs=1e-9)
    assert rockafellar_uryasev(c, value_at_risk(c, level, w), level, w) == pytest.approx(found.fun, abs=1e-9)
    at = value_at_risk(c, level, w)
    assert p[c <= at].sum() >= level - 1e-12
    assert p[c < at].sum() < level


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(-1e3, 1e3), st.floats(0.1, 50.0))
def test_cvar_is_coherent(values: list[float], shift: float, factor: float) -> None:
    c = np.array(values)
    d = np.random.default_rng(len(values)).normal(size=len(c)) * 1e3
    tol = 1e-9 * (1.0 + np.abs(c).max() * factor)
    assert cvar(factor * c + shift) == pytest.approx(factor * cvar(c) + shift, abs=tol)
    assert cvar(c + d) <= cvar(c) + cvar(d) + tol
    assert c.mean() - tol <= cvar(c) <= c.max() + tol
    assert value_at_risk(c) <= cvar(c) + tol


def test_whole_weights_are_repeated_rows_and_zero_weights_are_absent_ones() -> None:
    c, w = np.array([3.0, -1.0, 7.0, 2.0]), np.array([2, 5, 1, 0])
    repeated = np.repeat(c, w)
    for level in (0.3, 0.75, 0.9):
        assert value_at_risk(c, level, w) == value_at_risk(repeated, level)
        assert cvar(c, level, w) == pytest.approx(cvar(repeated, level), rel=1e-13)


def test_closed_form_of_the_normal_law() -> None:
    q = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    assert cvar(q, 0.95) == pytest.approx(stats.norm.pdf(stats.norm.ppf(0.95)) / 0.05, rel=1e-4)
    assert value_at_risk(q, 0.95) == pytest.approx(stats.norm.ppf(0.95), abs=1e-4)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    truth = (stats.expon.ppf(0.9), stats.expon.ppf(0.9) + 1.0)
    for grouped in (False, True):
        hits = np.zeros(2)
        for _ in range(300):
            days = np.repeat(np.arange(80), 5)
            # Rows of a day are equal: without groups the intervals would be √5 too narrow.
            x = np.repeat(rng.exponential(size=80), 5) if grouped else rng.exponential(size=400)
            found = tail_risk(x, 0.9, groups=days if grouped else None)
            hits += [
                found.var_interval[0] <= truth[0] <= found.var_interval[1],
                found.cvar_interval[0] <= truth[1] <= found.cvar_interval[1],
            ]
        assert hits[0] / 300 >= 0.92
        # A normal interval of a skew statistic of 40 to 8 effective exceedances is short of 95 %.
        assert hits[1] / 300 >= (0.75 if grouped else 0.88)


def test_one_sample_has_a_tail_and_no_interval() -> None:
    one = tail_risk([4.0])
    assert (one.var, one.cvar, one.rows) == (4.0, 4.0, 1)
    assert one.cvar_interval == (-np.inf, np.inf)
    assert one.var_interval[1] == np.inf
    assert list(one.to_frame().index) == ["var", "cvar"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: cvar([]), "costs"),
        (lambda: cvar([1.0, np.nan]), "costs"),
        (lambda: cvar([1.0], 1.0), "level"),
        (lambda: cvar([1.0, 2.0], weights=[1.0, -1.0]), "weights"),
        (lambda: cvar([1.0, 2.0], weights=[0.0, 0.0]), "weights"),
        (lambda: tail_risk([1.0, 2.0], groups=[1]), "groups"),
        (lambda: QuantileRegression((0.9, 0.5)).fit([[1.0]], [1.0]), "levels"),
        (lambda: QuantileRegression(ridge=-1.0).fit([[1.0]], [1.0]), "ridge"),
        (lambda: QuantileRegression().fit([[1.0]], [1.0, 2.0]), "y"),
        (lambda: QuantileRegression().fit(np.zeros((0, 1)), []), "X"),
        (lambda: QuantileRegression().predict([[1.0]]), "QuantileRegression"),
        (lambda: ConformalQuantiles(fallback="none").fit(np.zeros((2, 3)), [1, 2]), "fallback"),
        (lambda: ConformalQuantiles().fit(np.zeros((2, 2)), [1, 2]), "quantiles"),
        (lambda: ConformalQuantiles().fit(np.zeros((2, 3)), [1, 2], scale=[1.0, 0.0]), "scale"),
        (lambda: SplitConformal().fit([[2.0, 1.0]], [1.0]), "prediction"),
        (lambda: fit_excess([-1.0]), "excesses"),
        (lambda: fit_excess([1.0], shapes=(0.1, 0.5)), "shapes"),
        (lambda: TailedQuantiles((0.5, 0.9), [2.0, 1.0], 0.0, 0.0), "values"),
        (lambda: TailedQuantiles((0.5, 0.9), [1.0, 2.0], -1.0, 0.0), "scale"),
        (lambda: TailedQuantiles((0.5, 0.9), [1.0, 2.0], 1.0, 1.0), "shape"),
        (lambda: Mixture([[0.5, 0.5]], [TailedQuantiles((0.5, 0.9), [1.0, 2.0], 0.0, 0.0)]), "parts"),
    ],
)
def test_bad_input_names_its_field(call: object, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field


# regression quantiles -------------------------------------------------------------------------------------------------


def skewed(n: int, p: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    return X, X.sum(axis=1) + np.exp(0.8 * X[:, 0]) * rng.standard_t(3, size=n)


def joint_optimum(X: np.ndarray, y: np.ndarray, levels: tuple[float, ...], ridge: float, crossing: bool) -> float:
    """Least objective of the same program as cvxpy states it, with every limit from the start."""
    import cvxpy as cp

    a, B = cp.Variable(len(levels)), cp.Variable((len(levels), X.shape[1]))
    lines = [a[k] + X @ B[k] for k in range(len(levels))]
    loss = sum(cp.sum(cp.maximum(t * (y - f), (t - 1) * (y - f))) for t, f in zip(levels, lines, strict=True)) / len(y)
    penalty = 0.5 * ridge * cp.sum_squares(B @ np.diag(X.std(axis=0)))
    limits = [] if crossing else [f <= g for f, g in pairwise(lines)]
    problem = cp.Problem(cp.Minimize(loss + penalty), limits)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("crossing", [False, True])
def test_joint_regression_reaches_the_optimum_of_the_whole_program(ridge: float, crossing: bool) -> None:
    X, y = skewed(60, 3, 1)
    model = QuantileRegression(LEVELS, ridge=ridge, non_crossing=not crossing, tol=1e-8).fit(X, y)
    value = model.loss_.sum() + 0.5 * ridge * float(((model.coef_ * X.std(axis=0)) ** 2).sum())
    best = joint_optimum(X, y, LEVELS, ridge, crossing)
    assert value == pytest.approx(best, rel=2e-6)
    assert model.certificate_.passes()
    if not crossing:
        assert model.active_ > 0 or ridge > 0.0  # the separate lines cross here, unless drawn together
        separate = QuantileRegression(LEVELS, ridge=ridge, non_crossing=False).fit(X, y)
        assert separate.loss_.sum() <= model.loss_.sum() + 1e-9


def test_lines_do_not_cross_anywhere_in_the_hull() -> None:
    X, y = skewed(80, 3, 4)
    model = QuantileRegression(LEVELS).fit(X, y)
    weights = np.random.default_rng(0).dirichlet(np.full(len(X), 0.05), 3000)
    inside = weights @ X
    lines = model.intercept_ + inside @ model.coef_.T
    assert (np.diff(lines, axis=1) >= -1e-9 * np.abs(lines).max()).all()
    assert (np.diff(model.predict(100.0 * X), axis=1) >= 0.0).all()


def test_agrees_with_scikit_learn_level_by_level() -> None:
    from sklearn.linear_model import QuantileRegressor

    X, y = skewed(150, 2, 2)
    w = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    ours = QuantileRegression((0.3, 0.8), non_crossing=False, tol=1e-8).fit(X, y, weights=w)
    for k, level in enumerate((0.3, 0.8)):
        theirs = QuantileRegressor(quantile=level, alpha=0.0).fit(X, y, sample_weight=w)
        loss = pinball_loss(theirs.predict(X)[:, None], y, level, w)[0]
        assert ours.loss_[k] == pytest.approx(loss, rel=1e-6)


def test_without_features_it_is_the_samples_quantile() -> None:
    y = np.array([1.0, 2.0, 3.0, 10.0, 50.0])
    model = QuantileRegression((0.5, 0.7), tol=1e-8).fit(np.zeros((5, 2)), y)
    np.testing.assert_allclose(model.predict(np.ones((1, 2))), [[3.0, 10.0]], atol=1e-5)
    np.testing.assert_array_equal(model.coef_, 0.0)


@pytest.mark.parametrize(
    ("X", "y"), [([[1.0]], [2.0]), ([[1.0], [1.0]], [2.0, 2.0]), (np.ones((6, 2)), np.full(6, -3.0))]
)
def test_one_row_ties_and_constant_features(X: object, y: object) -> None:
    model = QuantileRegression((0.1, 0.5, 0.9)).fit(X, y)
    np.testing.assert_allclose(model.predict(X), np.repeat(np.asarray(y)[:, None], 3, axis=1), atol=1e-5)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_units_of_y_and_x_change_nothing(unit: float) -> None:
    X, y = skewed(60, 2, 5)
    one = QuantileRegression((0.5, 0.9), tol=1e-8).fit(X, y)
    other = QuantileRegression((0.5, 0.9), tol=1e-8).fit(X / unit, y * unit)
    np.testing.assert_allclose(other.loss_ / unit, one.loss_, rtol=1e-6)


def test_parameters_are_read_and_set_by_name() -> None:
    model = QuantileRegression(ridge=0.5)
    assert model.get_params()["ridge"] == 0.5
    assert repr(model.set_params(ridge=1e-3)) == "QuantileRegression(ridge=0.001)"
    with pytest.raises(InvalidInput, match="unknown parameter"):
        model.set_params(lasso=1.0)


# conformal ------------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.sampled_from([0.1, 0.5, 0.9, 0.95]))
def test_the_correction_is_the_order_statistic_of_n_plus_one(n: int, level: float) -> None:
    scores = np.random.default_rng(n).permutation(n).astype(float)
    rank = int(np.ceil((n + 1) * level - 1e-9))
    assert conformal_quantile(scores, level) == (rank - 1 if rank <= n else np.inf)
    # Clusters of one row are no clusters.
    assert conformal_quantile(scores, level, np.arange(n)) == conformal_quantile(scores, level)


def test_coverage_by_group_is_within_binomial_bounds_of_the_guarantee() -> None:
    rng = np.random.default_rng(0)
    trials, n, level = 4000, 19, 0.9
    hit = np.zeros(2)
    for _ in range(trials):
        groups = np.repeat(["calm", "stress"], n)
        scale = np.where(groups == "calm", 1.0, 5.0)
        y = scale * rng.standard_t(2, size=2 * n)
        bound = ConformalQuantiles((level,)).fit(np.zeros((2 * n, 1)), y, groups)
        new = np.array([1.0, 5.0]) * rng.standard_t(2, size=2)
        hit += new <= bound.predict(np.zeros((2, 1)), np.array(["calm", "stress"]))[:, 0]
    # Exactly ⌈(n + 1) τ⌉/(n + 1) = 0.9 for scores without ties.
    low, high = stats.binom.interval(0.999, trials, 0.9)
    assert (low <= hit).all()
    assert (hit <= high).all()


def test_clusters_keep_the_guarantee_where_rows_of_a_day_move_together() -> None:
    rng = np.random.default_rng(1)
    trials, days, rows, level = 3000, 30, 20, 0.9
    hits = {"clusters": 0, "rows": 0}
    for _ in range(trials):
        day = rng.normal(size=days + 1)
        y = np.repeat(day[:-1], rows) + 0.1 * rng.normal(size=days * rows)
        labels = np.repeat(np.arange(days), rows)
        new = day[-1] + 0.1 * rng.normal()
        hits["clusters"] += new <= conformal_quantile(y, level, labels)
        hits["rows"] += new <= conformal_quantile(y, level)
    assert hits["clusters"] >= stats.binom.ppf(0.001, trials, level)
    assert hits["rows"] < hits["clusters"]


def test_small_groups_are_honest_or_pooled_and_say_so() -> None:
    y = np.arange(40.0)
    groups = np.where(np.arange(40) < 37, "many", "few")
    honest = ConformalQuantiles((0.5, 0.9)).fit(np.zeros((40, 2)), y, groups)
    assert np.isinf(honest.correction_.loc["few", 0.9])
    pooled = ConformalQuantiles((0.5, 0.9), fallback="pooled").fit(np.zeros((40, 2)), y, groups)
    assert pooled.pooled_ == ["few"]
    assert pooled.correction_.loc["few", 0.9] == 36.0
    assert pooled.predict(np.zeros((1, 2)), ["unseen"])[0, 1] == 36.0
    assert honest.predict(np.zeros((1, 2)), ["unseen"])[0, 1] == np.inf
    with pytest.raises(InvalidInput, match="missing"):
        pooled.predict(np.zeros((1, 2)))


@pytest.mark.parametrize("interval", [False, True])
def test_split_conformal_covers_and_scales(interval: bool) -> None:
    rng = np.random.default_rng(2)
    width = rng.uniform(0.5, 3.0, 5000)
    y = width * rng.normal(size=5000)
    prediction = np.column_stack([-0.2 * width, 0.2 * width]) if interval else np.zeros(5000)
    half = slice(0, 2500), slice(2500, 5000)
    model = SplitConformal(0.9).fit(prediction[half[0]], y[half[0]], scale=width[half[0]])
    low, high = model.predict(prediction[half[1]], scale=width[half[1]]).T
    assert np.mean((low <= y[half[1]]) & (y[half[1]] <= high)) == pytest.approx(0.9, abs=0.03)
    np.testing.assert_allclose(high - low, 2 * 1.645 * width[half[1]], rtol=0.08)


# excesses and mixtures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_tail_fit_is_the_maximum_of_the_likelihood(shape: float) -> None:
    e = stats.genpareto.rvs(shape, scale=2.0, size=4000, random_state=5)
    found = fit_excess(e)
    c, _, scale = stats.genpareto.fit(e, floc=0.0)
    theirs = -stats.genpareto.logpdf(e, c, scale=scale).mean()
    assert found.loss <= theirs + 1e-7
    assert found.loss == pytest.approx(-stats.genpareto.logpdf(e, found.shape, scale=found.scale).mean(), abs=1e-10)
    assert found.shape == pytest.approx(shape, abs=0.06)
    assert found.mean == pytest.approx(2.0 / (1.0 - shape), rel=0.08)
    np.testing.assert_allclose(
        found.quantile([0.5, 0.99]), stats.genpareto.ppf([0.5, 0.99], found.shape, scale=found.scale), rtol=1e-9
    )


def test_few_none_or_zero_excesses_have_a_plain_tail() -> None:
    few = fit_excess([1.0, 2.0, 6.0])
    assert (few.scale, few.shape) == (3.0, 0.0)
    assert (fit_excess([]).scale, fit_excess([0.0, 0.0]).scale) == (0.0, 0.0)
    heavy = fit_excess(stats.genpareto.rvs(0.9, size=2000, random_state=1))
    assert heavy.at_bound
    assert heavy.shape == 0.5


def laws(seed: int, n: int = 4, atoms: bool = False) -> TailedQuantiles:
    rng = np.random.default_rng(seed)
    steps = rng.exponential(size=(n, len(LEVELS)))
    if atoms:
        steps[:, 2] = 0.0
    return TailedQuantiles(
        LEVELS, rng.normal(size=(n, 1)) + np.cumsum(steps, axis=1), rng.exponential(size=n), rng.uniform(-0.2, 0.4, n)
    )


@pytest.mark.parametrize("atoms", [False, True])
def test_law_agrees_with_its_own_integrals(atoms: bool) -> None:
    law = laws(1, atoms=atoms)
    for level in (0.03, 0.3, 0.6, 0.93, 0.97, 0.999):
        at = law.quantile(level)
        # The lower quantile of an atom at P(X ≤ x) ≥ level.
        assert (law.cdf(at) >= level - 1e-12).all()
        if not atoms and level > 0.05:
            np.testing.assert_allclose(law.cdf(at), level, atol=1e-12)
    for x in (-1.0, 1.0, 4.0, 9.0):
        points = law.cdf(np.full(4, x))
        for row in range(4):
            quantile = lambda t, row=row: law.quantile(float(t))[row]  # noqa: E731
            start = max(float(points[row]), 1e-9)
            mean, _ = quad(lambda t: max(quantile(t) - x, 0.0), start, 1 - 1e-10, points=LEVELS, limit=400)  # noqa: B023
            assert law.shortfall(np.full(4, x))[row] == pytest.approx(mean, rel=1e-5, abs=1e-7)


def test_mixture_agrees_with_samples_and_differs_from_the_sum_of_quantiles() -> None:
    n = 3
    usual = TailedQuantiles((0.05, 0.5, 0.95), np.tile([0.0, 1.0, 2.0], (n, 1)), 0.1, 0.0)
    rare = TailedQuantiles((0.05, 0.5, 0.95), np.tile([20.0, 30.0, 40.0], (n, 1)), 5.0, 0.2)
    P = np.array([[0.9, 0.1], [0.99, 0.01], [1.0, 0.0]])
    mix = Mixture(P, [usual, rare])
    rng = np.random.default_rng(0)
    u = np.clip(rng.random(20_000), 1e-9, 1 - 1e-9)
    for row in range(n):
        which = rng.random(len(u)) < P[row, 1]
        x = np.array([(rare if b else usual).quantile(float(t))[row] for b, t in zip(which, u, strict=True)])
        assert mix.quantile(0.95)[row] == pytest.approx(value_at_risk(x, 0.95), rel=0.03)
        assert mix.cvar(0.95)[row] == pytest.approx(cvar(x, 0.95), rel=0.05)
        assert mix.mean[row] == pytest.approx(x.mean(), rel=0.03)
    naive = P @ [2.0, 40.0]
    assert naive[0] < 0.25 * mix.quantile(0.95)[0]  # 5.8 against 29.9: half of the rare branch lies beyond
    assert mix.quantile(0.95)[2] == pytest.approx(usual.quantile(0.95)[2])


@settings(max_examples=40, deadline=None)
@example(852, 0.328125)  # the quantile stands on an atom
@given(st.integers(0, 1000), st.floats(0.01, 0.995))
def test_mixture_quantile_is_the_inverse_and_cvar_the_least_value(seed: int, level: float) -> None:
    parts = [laws(seed + k, atoms=k == 1) for k in range(3)]
    P = np.random.default_rng(seed).dirichlet([0.5, 0.5, 0.5], 4)
    mix = Mixture(P, parts)
    at = mix.quantile(level)
    assert (mix.cdf(at) >= level - 1e-9).all()
    assert (mix.cdf(at - 1e-7 * (1.0 + np.abs(at))) <= level + 1e-9).all()
    best = mix.cvar(level)
    for step in (-0.3, 0.3):
        over = sum(P[:, b] * parts[b].shortfall(at + step) for b in range(3))
        assert (at + step + over / (1.0 - level) >= best - 1e-9).all()
    assert (best >= at - 1e-12).all()
    assert (mix.cvar(0.5) <= mix.cvar(0.9) + 1e-12).all()


def test_parts_with_other_levels_mix_alike() -> None:
    one, two = laws(3), laws(4)
    finer = np.sort(np.append(two.levels, 0.6))
    # A level more on the straight line between its neighbours changes nothing but the path through the code.
    values = np.column_stack([two.quantile(float(level)) for level in finer])
    same = TailedQuantiles(finer, values, two.scale, two.shape)
    P = np.full((4, 2), 0.5)
    a, b = Mixture(P, [one, two]), Mixture(P, [one, same])
    for level in (0.2, 0.7, 0.97):
        np.testing.assert_allclose(a.quantile(level), b.quantile(level), rtol=1e-12)
        np.testing.assert_allclose(a.cvar(level), b.cvar(level), rtol=1e-12)
