"""Class probabilities: the logistic fit, its calibration, and the scores that judge them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim.tails import (
    IsotonicCalibration,
    MultinomialLogistic,
    TemperatureScaling,
    VectorScaling,
    brier,
    log_loss,
    pinball_loss,
    reliability,
)
from crosswind.solvers.errors import InvalidInput, SolverFailure


def drawn(n: int, seed: int, K: int = 3, p: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, classes drawn from a logistic law, and its true probabilities."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * [3.0, 0.2][:p]
    B = np.random.default_rng(99).normal(size=(K, p)) / [3.0, 0.2][:p]
    logit = X @ B.T + np.linspace(-1.0, 0.5, K)
    P = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    return X, (rng.random(n)[:, None] > np.cumsum(P, axis=1)).sum(axis=1), P


# the logistic fit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
def test_fit_agrees_with_scikit_learn_and_an_independent_program(ridge: float) -> None:
    import cvxpy as cp
    from sklearn.linear_model import LogisticRegression

    X, y, _ = drawn(300, 1)
    w = np.random.default_rng(0).integers(0, 3, 300).astype(float)
    model = MultinomialLogistic(ridge=ridge).fit(X, y, weights=w)
    assert model.certificate_.gradient <= 1e-8
    assert model.certificate_.decrement <= 1e-12
    centre = w @ X / w.sum()
    Z = (X - centre) / np.sqrt(w @ (X - centre) ** 2 / w.sum())
    theirs = LogisticRegression(C=1.0 / (ridge * w.sum()) if ridge else np.inf, tol=1e-10, max_iter=5000)
    np.testing.assert_allclose(model.predict_proba(X), theirs.fit(Z, y, sample_weight=w).predict_proba(Z), atol=2e-5)
    a, B = cp.Variable(3), cp.Variable((3, 2))
    logit = [Z @ B[k] + a[k] for k in range(3)]
    came = sum(cp.sum(cp.multiply(w * (y == k), logit[k])) for k in range(3))
    loss = (w @ cp.log_sum_exp(cp.vstack(logit).T, axis=1) - came) / w.sum()
    problem = cp.Problem(cp.Minimize(loss + 0.5 * ridge * cp.sum_squares(B)))
    problem.solve(solver="CLARABEL")
    assert model.certificate_.loss == pytest.approx(problem.value, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_probabilities_sum_to_one_and_the_mean_is_the_frequency(seed: int, K: int) -> None:
    X, y, _ = drawn(120, seed, K)
    model = MultinomialLogistic(ridge=0.01).fit(X, y)
    P = model.predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1.0, atol=1e-14)
    # Intercepts are free: the gradient in them is frequency less mean probability.
    np.testing.assert_allclose(P.mean(axis=0), [np.mean(y == k) for k in model.classes_], atol=1e-7)
    far = model.predict_proba(1e6 * X)
    assert np.isfinite(far).all()
    np.testing.assert_allclose(far.sum(axis=1), 1.0, atol=1e-14)


def test_no_class_is_a_reference_and_units_do_not_matter() -> None:
    X, y, _ = drawn(200, 3)
    one = MultinomialLogistic(ridge=0.1).fit(X, y)
    turned = MultinomialLogistic(ridge=0.1, classes=[2, 0, 1]).fit(X * [1e6, 1e-6] + 5.0, y)
    np.testing.assert_allclose(
        turned.predict_proba(X * [1e6, 1e-6] + 5.0)[:, [1, 2, 0]], one.predict_proba(X), atol=1e-6
    )
    assert turned.classes_.tolist() == [2, 0, 1]
    assert abs(one.intercept_.sum()) < 1e-12
    assert set(one.predict(X)) <= {0, 1, 2}
    assert one.to_frame().shape == (3, 3)


def test_cross_validation_takes_the_ridge_that_truth_prefers_and_keeps_groups_together() -> None:
    rng = np.random.default_rng(0)
    days = np.repeat(np.arange(20), 10)
    # Twenty-five features that tell days apart and nothing else: split by rows they seem to help.
    X = np.repeat(rng.normal(size=(20, 25)), 10, axis=0) + 0.01 * rng.normal(size=(200, 25))
    y = np.where(np.repeat(rng.random(20) < 0.5, 10), rng.random(200) < 0.85, rng.random(200) < 0.15).astype(int)
    grid = np.logspace(-4, 2, 7)
    by_rows = MultinomialLogistic(ridge=grid).fit(X, y)
    by_days = MultinomialLogistic(ridge=grid).fit(X, y, groups=days)
    assert by_days.ridge_ > 10.0 * by_rows.ridge_
    assert by_days.cv_ is not None
    assert by_days.cv_.min() == by_days.cv_.loc[by_days.ridge_]


def test_degenerate_classes() -> None:
    X = np.arange(6.0)[:, None]
    only = MultinomialLogistic().fit(X, np.zeros(6))
    np.testing.assert_array_equal(only.predict_proba(X), np.ones((6, 1)))
    smooth = MultinomialLogistic(classes=[0, 1, 2], smoothing=1.0).fit(X, np.zeros(6))
    P = smooth.predict_proba(X)
    # Six rows of one class and a third of a row of each: 19/21, 1/21, 1/21.
    np.testing.assert_allclose(P[2:4].mean(axis=0), [19 / 21, 1 / 21, 1 / 21], atol=1e-3)
    constant = MultinomialLogistic().fit(np.ones((4, 2)), [0, 1, 1, 1])
    np.testing.assert_allclose(constant.predict_proba(np.ones((1, 2))), [[0.25, 0.75]], atol=1e-7)
    one = MultinomialLogistic().fit([[3.0]], ["a"])
    assert one.predict([[1.0]]).tolist() == ["a"]
    with pytest.raises(SolverFailure):
        MultinomialLogistic(ridge=0.0).fit(X, [0, 0, 0, 1, 1, 1])


# calibration ----------------------------------------------------------------------------------------------------------


def test_temperature_finds_the_power_that_was_planted() -> None:
    _, y, P = drawn(40_000, 5)
    for T in (0.5, 1.0, 2.5):
        wrong = P**T / (P**T).sum(axis=1, keepdims=True)
        model = TemperatureScaling().fit(wrong, y)
        assert model.temperature_ == pytest.approx(T, rel=0.05)
        assert model.gradient_ <= 1e-9
        np.testing.assert_allclose(model.predict_proba(wrong), P, atol=0.02)


def test_vector_scaling_is_the_optimum_and_undoes_a_planted_bias() -> None:
    from scipy.optimize import minimize

    _, y, P = drawn(3000, 6)
    wrong = P ** np.array([0.5, 1.0, 1.5]) * np.array([4.0, 1.0, 0.5])
    wrong /= wrong.sum(axis=1, keepdims=True)
    model = VectorScaling(ridge=1e-3).fit(wrong, y)
    L = np.log(wrong) - np.log(wrong).mean(axis=1, keepdims=True)

    def loss(x: np.ndarray) -> float:
        logit = x[:3] * L + x[3:]
        off = x - [1, 1, 1, 0, 0, 0]
        rows = np.log(np.exp(logit).sum(axis=1)) - logit[np.arange(len(y)), y]
        return float(rows.mean() + 0.5e-3 * off @ off)

    best = minimize(loss, [1, 1, 1, 0, 0, 0], tol=1e-12)
    assert loss(np.append(model.slope_, model.shift_)) <= best.fun + 1e-10
    off = np.append(model.slope_ - 1.0, model.shift_)
    assert log_loss(model.predict_proba(wrong), y) + 0.5e-3 * off @ off == pytest.approx(best.fun, abs=1e-9)
    assert log_loss(model.predict_proba(wrong), y) < log_loss(wrong, y) - 0.05
    free = VectorScaling(ridge=1e-9).fit(wrong, y)
    # With shifts of their own the mean probability of each class is its frequency.
    np.testing.assert_allclose(free.predict_proba(wrong).mean(axis=0), np.bincount(y) / len(y), atol=1e-5)
    assert model.to_frame().shape == (3, 2)


def test_isotonic_agrees_with_scikit_learn_and_keeps_order() -> None:
    from sklearn.isotonic import IsotonicRegression

    _, y, P = drawn(2000, 7, K=2, p=1)
    wrong = np.column_stack([P[:, 0] ** 3, 1.0 - P[:, 0] ** 3])
    model = IsotonicCalibration(smoothing=0.0).fit(wrong, y)
    theirs = IsotonicRegression().fit(wrong[:, 0], (y == 0).astype(float))
    knots = model.knots_[0]
    assert (np.diff(knots, axis=1) >= 0.0).all()
    inside = theirs.predict(knots[0])
    np.testing.assert_allclose(knots[1], inside, atol=1e-9)
    smooth = IsotonicCalibration().fit(wrong, y).predict_proba(wrong)
    np.testing.assert_allclose(smooth.sum(axis=1), 1.0, atol=1e-14)
    assert smooth.min() > 0.0
    assert smooth.max() < 1.0
    assert brier(smooth, y).score < brier(wrong, y).score
    assert log_loss(smooth, y) < log_loss(wrong, y)


@pytest.mark.parametrize("make", [TemperatureScaling, VectorScaling, IsotonicCalibration])
def test_calibration_of_degenerate_rows(make: type) -> None:
    one = make().fit([[0.3, 0.7]], [1]).predict_proba([[0.3, 0.7]])
    assert np.isfinite(one).all()
    assert one.sum() == pytest.approx(1.0)
    equal = make().fit(np.full((8, 2), 0.5), [0, 1] * 4).predict_proba([[0.5, 0.5]])
    np.testing.assert_allclose(equal, [[0.5, 0.5]], atol=1e-6)
    sure = make().fit([[1.0, 0.0], [0.0, 1.0]] * 10, [0, 1] * 10).predict_proba([[1.0, 0.0]])
    assert sure[0, 0] > 0.9
    weighted = make().fit([[0.9, 0.1], [0.2, 0.8]] * 9, [1, 1] * 9, weights=[1.0, 0.0] * 9).predict_proba([[0.9, 0.1]])
    assert np.isfinite(weighted).all()


# scores ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5000), st.integers(2, 4), st.integers(1, 12), st.integers(1, 60))
def test_brier_decomposition_is_exact(seed: int, K: int, bins: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    P = np.round(rng.dirichlet(np.ones(K), n), 1)
    P[:, -1] += 1.0 - P.sum(axis=1)
    P = np.abs(P) / np.abs(P).sum(axis=1, keepdims=True)
    y, w = rng.integers(0, K, n), rng.integers(1, 4, n)
    found = brier(P, y, bins, w)
    Y = np.eye(K)[y]
    assert found.score == pytest.approx(float(w @ ((P - Y) ** 2).sum(axis=1)) / w.sum(), abs=1e-12)
    assert found.score == pytest.approx(
        found.reliability - found.resolution + found.uncertainty + found.within, abs=1e-12
    )
    assert min(found.reliability, found.resolution, found.uncertainty) >= 0.0


def test_brier_and_log_loss_of_sure_and_of_climatological_forecasts() -> None:
    y = np.array([0, 1, 1, 2])
    sure = brier(np.eye(3)[y], y)
    assert (sure.score, sure.skill) == (0.0, 1.0)
    usual = brier(np.tile([0.25, 0.5, 0.25], (4, 1)), y)
    assert usual.score == pytest.approx(usual.uncertainty)
    assert usual.within == pytest.approx(0.0)
    assert log_loss(np.tile([0.25, 0.5, 0.25], (4, 1)), y) == pytest.approx(1.5 * np.log(2.0))
    assert log_loss([[0.0, 1.0]], [0]) == np.inf
    assert np.isnan(brier([[1.0, 0.0]], [0]).skill)
    assert "reliability" in usual.summary()


def test_reliability_of_true_and_of_stretched_probabilities() -> None:
    rng = np.random.default_rng(8)
    p = rng.beta(1.0, 3.0, 30_000)
    y = rng.random(30_000) < p
    true = reliability(p, y)
    assert true.slope_interval[0] <= 1.0 <= true.slope_interval[1]
    assert abs(true.slope - 1.0) < 0.03
    assert true.error < 0.01
    assert ((true.table["low"] <= true.table["predicted"]) & (true.table["predicted"] <= true.table["high"])).sum() >= 8
    np.testing.assert_allclose(true.table["weight"], 0.1, atol=1e-3)
    stretched = reliability(0.25 + 2.0 * (p - 0.25) * (p < 0.6) * (p > 0.15), y)
    assert stretched.slope_interval[1] < 1.0
    assert "slope" in true.summary()


def test_reliability_slope_is_least_squares_and_its_error_respects_groups() -> None:
    import numpy.polynomial.polynomial as poly

    rng = np.random.default_rng(9)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(float)
    w = rng.integers(1, 4, 300).astype(float)
    found = reliability(p, y, weights=w)
    intercept, slope = poly.polyfit(p, y, 1, w=np.sqrt(w))
    assert (found.slope, found.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    # Each row five times is no news, once the groups say so.
    five = reliability(np.repeat(p, 5), np.repeat(y, 5), groups=np.repeat(np.arange(300), 5))
    alone = reliability(p, y)
    np.testing.assert_allclose(five.slope_interval, alone.slope_interval, rtol=1e-9)
    blind = reliability(np.repeat(p, 5), np.repeat(y, 5))
    assert np.ptp(blind.slope_interval) < 0.5 * np.ptp(alone.slope_interval)


def test_reliability_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(10)
    hits = 0
    for _ in range(400):
        p = rng.beta(2.0, 2.0, 400)
        low, high = reliability(p, rng.random(400) < p, groups=np.repeat(np.arange(100), 4)).slope_interval
        hits += low <= 1.0 <= high
    assert 0.91 <= hits / 400 <= 0.99


def test_reliability_without_spread_or_with_one_row() -> None:
    flat = reliability(np.full(10, 0.3), np.arange(10) % 2)
    assert np.isnan(flat.slope)
    assert len(flat.table) == 1
    one = reliability([0.3], [1])
    assert np.isnan(one.slope)
    assert one.table["low"].iloc[0] == 0.0


def test_pinball_loss_by_hand() -> None:
    np.testing.assert_allclose(pinball_loss([[1.0, 2.0]], [3.0], (0.5, 0.9)), [1.0, 0.9])
    np.testing.assert_allclose(pinball_loss([[4.0], [9.0]], [3.0, 3.0], 0.9, [1.0, 0.0]), [0.1])


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: MultinomialLogistic(ridge=-1.0).fit([[1.0]], [0]), "ridge"),
        (lambda: MultinomialLogistic().fit([[np.nan]], [0]), "X"),
        (lambda: MultinomialLogistic().fit([[1.0]], [0, 1]), "y"),
        (lambda: MultinomialLogistic(classes=[0, 1]).fit([[1.0]], [2]), "y"),
        (lambda: MultinomialLogistic(classes=[0, 0]).fit([[1.0]], [0]), "classes"),
        (lambda: MultinomialLogistic(classes=[0, 1]).fit([[1.0]], [0]), "classes"),
        (lambda: MultinomialLogistic(ridge=(0.1, 1.0)).fit([[1.0], [2.0]], [0, 1], groups=[5, 5]), "groups"),
        (lambda: MultinomialLogistic().predict_proba([[1.0]]), "MultinomialLogistic"),
        (lambda: MultinomialLogistic().fit([[1.0], [2.0]], [0, 1]).predict([[1.0, 2.0]]), "X"),
        (lambda: TemperatureScaling().fit([[0.5, 0.6]], [0]), "probabilities"),
        (lambda: VectorScaling().fit([[0.5, 0.5]], [2]), "outcomes"),
        (lambda: VectorScaling().fit([[0.5, 0.5]], [0.5]), "outcomes"),
        (lambda: IsotonicCalibration(smoothing=-1.0).fit([[0.5, 0.5]], [1]), "smoothing"),
        (lambda: brier([[1.2, -0.2]], [0]), "probabilities"),
        (lambda: brier([[0.5, 0.5]], [0], bins=0), "bins"),
        (lambda: reliability([1.5], [1]), "probability"),
        (lambda: reliability([0.5], [2]), "outcome"),
        (lambda: reliability([0.5], [1], confidence=1.0), "confidence"),
        (lambda: pinball_loss([[1.0]], [1.0, 2.0], 0.5), "y"),
    ],
)
def test_bad_input_names_its_field(call: object, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field
