from __future__ import annotations

import numpy as np
import pytest

from crosswind.problems.impact.features import make_dictionary
from crosswind.problems.impact.gram import Gram, accumulate, factor_loadings, split_folds
from crosswind.solvers.errors import DataGap, InvalidInput


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.standard_normal((40, 6)), rng.standard_normal((40, 3)), rng.standard_normal((40, 3))


def test_sums_join_and_part(rows: tuple[np.ndarray, ...]) -> None:
    Z, r, u = rows
    whole = Gram.of(Z, r, u)
    halves = Gram.of(Z[:17], r[:17], u[:17]) + Gram.of(Z[17:], r[17:], u[17:])
    np.testing.assert_allclose(halves.ZZ, whole.ZZ, atol=1e-12)
    np.testing.assert_allclose((whole - Gram.of(Z[:17], r[:17], u[:17])).rr, r[17:].T @ r[17:], atol=1e-12)
    assert (whole.rows, whole.names, whole.shapes) == (40, 3, 2)


def test_squared_error_from_moments_is_that_of_the_rows(rows: tuple[np.ndarray, ...]) -> None:
    Z, r, u = rows
    X = np.random.default_rng(3).standard_normal((3, 6))
    np.testing.assert_allclose(Gram.of(Z, r, u).squared_error(X), ((r - Z @ X.T) ** 2).sum(axis=0), rtol=1e-12)


def test_accumulate_matches_the_rows_and_starts_each_session_from_rest(simulated) -> None:
    events, _ = simulated(names=3, rows=80, days=2, r2=0.5)
    dictionary = make_dictionary("exponential", 60.0, (120.0, 1200.0))
    total = accumulate(events, dictionary).total
    flow, returns = events.flow.to_numpy(), events.returns.to_numpy()
    Z = np.vstack([dictionary.regressors(flow[:40]), dictionary.regressors(flow[40:])])
    use = np.isfinite(returns).all(axis=1)
    assert total.rows == use.sum() == 78
    np.testing.assert_allclose(total.ZZ, Z[use].T @ Z[use], rtol=1e-10)
    np.testing.assert_allclose(total.rZ, returns[use].T @ Z[use], rtol=1e-8, atol=1e-8)
    carried = dictionary.regressors(flow)
    assert np.abs(total.ZZ - carried[use].T @ carried[use]).max() > 1e-3 * total.ZZ.max()


def test_the_first_bucket_of_a_session_feeds_the_state_but_is_no_row(simulated) -> None:
    events, _ = simulated(names=2, rows=20, days=1)
    dictionary = make_dictionary("monotone", 60.0, lags=(1,))
    flow = events.flow.to_numpy()
    Z = dictionary.regressors(flow)[1:]
    assert not np.allclose(Z[1], flow[2])  # z_2 = u_2 − u_0 remembers the bucket without a return
    np.testing.assert_allclose(accumulate(events, dictionary).total.ZZ, Z.T @ Z, rtol=1e-12)


def test_folds_cover_all_rows_once_and_the_guards_are_out_of_training(simulated) -> None:
    events, _ = simulated(names=2, rows=400, days=2)
    dictionary = make_dictionary("convex", 60.0, lags=(4,))
    grams = accumulate(events, dictionary, folds=4)
    assert sum(b.rows for b in grams.blocks) == grams.total.rows == 398
    np.testing.assert_allclose(sum(b.ZZ for b in grams.blocks), grams.total.ZZ, rtol=1e-12)
    guard = dictionary.memory_buckets
    assert [g.rows for g in grams.guards] == [guard, 2 * guard, 2 * guard, guard]
    assert grams.train(1).rows == 398 - grams.blocks[1].rows - 2 * guard


def test_purge_never_eats_the_training_rows() -> None:
    ranges = split_folds(90, 3, 10_000)
    assert ranges[1] == (23, 30, 60, 67)
    assert split_folds(90, 3, 0)[2] == (60, 60, 90, 90)


def test_one_stage_regression_recovers_loadings_without_noise(build_events) -> None:
    rng = np.random.default_rng(5)
    factors = 1e-3 * rng.standard_normal((60, 2))
    loadings = np.array([[1.0, 0.2], [0.8, -0.5], [1.3, 0.0]])
    events = build_events(1e5 * rng.standard_normal((60, 3)), factors @ loadings.T, factors=factors)
    np.testing.assert_allclose(factor_loadings(events, events.names), loadings, atol=1e-9)
    residual = accumulate(events, make_dictionary("instantaneous", 60.0), loadings=loadings).total
    assert residual.rr.max() < 1e-24


def test_loadings_without_factors_are_empty_and_too_few_rows_refused(build_events) -> None:
    flow = np.ones((4, 2))
    events = build_events(flow, np.full((4, 2), 1e-4))
    assert factor_loadings(events, events.names).shape == (2, 0)
    few = build_events(flow[:3], np.full((3, 2), 1e-4), factors=np.full((3, 2), 1e-3))
    with pytest.raises(DataGap, match="too few"):
        factor_loadings(few, few.names)


def test_other_buckets_other_factors_and_unknown_names_are_refused(simulated) -> None:
    events, _ = simulated(names=2, rows=40, days=1)
    with pytest.raises(InvalidInput, match="resample"):
        accumulate(events, make_dictionary("instantaneous", 30.0))
    with pytest.raises(DataGap, match="other factors"):
        accumulate(events, make_dictionary("instantaneous", 60.0), loadings=np.ones((2, 1)))
    with pytest.raises(DataGap, match="ZZZ"):
        accumulate(events, make_dictionary("instantaneous", 60.0), names=("AAA", "ZZZ"))


def test_no_usable_row_is_a_gap(build_events) -> None:
    events = build_events(np.ones((2, 2)), np.zeros((2, 2)), days=2)
    with pytest.raises(DataGap, match="no bucket"):
        accumulate(events, make_dictionary("instantaneous", 60.0))
