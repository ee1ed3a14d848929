"""Estimators inside scikit-learn, and what they may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    FullOLS,
    KyleImpact,
    OwnFlowOLS,
    SeparableImpact,
    SequentialHeuristic,
    VenueEvents,
    VenueImpact,
    by_session,
    join_sessions,
)
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)
ESTIMATORS = [
    CrossImpact(half_lives_s=LIVES, ridge=1.0),
    CrossImpact(half_lives_s="fit", ridge=1.0, passes=4),
    CrossImpact(half_lives_s=LIVES, ridge=1.0, loss="huber"),
    CrossImpact(half_lives_s=LIVES, ridge=1.0, transform="power", exponent=0.7),
    CrossImpact(half_lives_s=LIVES, ridge=1.0, sparse_threshold=0.2),
    SeparableImpact(ridge=1.0),
    DiagonalNNLS(half_lives_s=LIVES),
    FullOLS(half_lives_s=LIVES),
    KyleImpact(half_lives_s=LIVES),
    OwnFlowOLS(half_lives_s=LIVES),
    SequentialHeuristic(half_lives_s=LIVES),
]
LABELS = [repr(e)[:70] for e in ESTIMATORS]


@pytest.fixture(scope="module")
def market(simulated):
    return simulated(names=3, rows=400, days=5, r2=0.3, seed=1)[0]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=LABELS)
def test_clone_gives_the_same_fit_and_forgets_what_was_learned(market, estimator) -> None:
    copied = clone(estimator)
    assert repr(copied) == repr(estimator)
    first = copied.fit(market)
    again = clone(first)
    assert not hasattr(again, "model_")
    assert again.fit(market).model_.matrices.tobytes() == first.model_.matrices.tobytes()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=LABELS)
def test_scores_of_a_time_series_split_are_those_by_hand(market, estimator) -> None:
    days = by_session(market)
    splits = TimeSeriesSplit(n_splits=2)
    scores = cross_val_score(estimator, days, cv=splits, error_score="raise")
    by_hand = []
    for train, test in splits.split(days):
        fit = clone(estimator).fit(market.on([market.days[k] for k in train]))
        by_hand.append(fit.score(market.on([market.days[k] for k in test])))
    np.testing.assert_allclose(scores, by_hand, rtol=1e-12)


def test_a_grid_search_over_days_picks_the_better_ridge(market) -> None:
    search = GridSearchCV(CrossImpact(half_lives_s=LIVES), {"ridge": [0.3, 1e4]}, cv=TimeSeriesSplit(2))
    search.fit(by_session(market))
    assert search.best_params_["ridge"] in (0.3, 1e4)
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert search.best_estimator_.rows_ == 5 * 79
    assert search.predict(by_session(market)).shape == (400, 3)


def test_venues_work_in_a_grid_search_too(market) -> None:
    rng = np.random.default_rng(0)
    part = market.flow * rng.uniform(0, 1, market.flow.shape)
    events = VenueEvents(market, {"A": part, "B": market.flow - part})
    days = [events.on(d) for d in market.days]
    grid = {"estimator__ridge": [0.5, 50.0]}
    search = GridSearchCV(VenueImpact(CrossImpact(half_lives_s=LIVES, ridge=1.0)), grid, cv=TimeSeriesSplit(2))
    search.fit(days)
    assert search.best_estimator_.get_params()["estimator__ridge"] in (0.5, 50.0)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=LABELS)
def test_the_future_cannot_change_a_prediction_or_a_past_score(market, estimator) -> None:
    """Scale all that comes after a bucket by a million: forecasts up to it are the same bytes."""
    train, test = market.on(market.days[:3]), market.on(market.days[3])
    fit = clone(estimator).fit(train)
    clean = fit.predict(test)
    assert clean.shape == test.flow.shape
    assert list(clean.columns) == list(fit.names_)
    late = test.index >= test.index[50]
    flow, volume = test.flow.copy(), test.volume.copy()
    flow[late] *= 1e6
    volume[late] = flow[late].abs() + 1.0
    mid = test.mid.copy()
    mid[late] *= 3.0
    poisoned = replace(test, flow=flow, volume=volume, mid=mid)
    forecast = fit.predict(poisoned)
    assert forecast[~late].to_numpy().tobytes() == clean[~late].to_numpy().tobytes()
    assert not np.allclose(forecast[late], clean[late])
    past = test.between(test.index[0] - pd.Timedelta(60, "s"), test.index[49])
    same = poisoned.between(test.index[0] - pd.Timedelta(60, "s"), test.index[49])
    pd.testing.assert_series_equal(fit.score_by_name(past), fit.score_by_name(same))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=LABELS)
def test_scores_have_one_entry_by_name_at_every_horizon(market, estimator) -> None:
    fit = clone(estimator).fit(market)
    for horizon in (None, 60.0, 300.0):
        scores = fit.score_by_name(market, horizon)
        assert list(scores.index) == list(market.names)
        assert np.isfinite(scores).all()
    assert fit.score(market) == pytest.approx(fit.score_by_name(market).mean())


def test_sessions_join_in_time_order_and_bit_for_bit(market) -> None:
    days = by_session(market)
    assert len(days) == 5
    assert join_sessions(days[::-1]).equals(market)
    assert join_sessions(market) is market
    assert join_sessions(days[:1]) is days[0]


def test_parts_that_do_not_fit_together_are_refused(market, simulated) -> None:
    days = by_session(market)
    with pytest.raises(InvalidInput, match="overlap"):
        join_sessions([days[0], days[0]])
    with pytest.raises(InvalidInput, match="names"):
        join_sessions([days[0], days[1].select(["AAA"])])
    with pytest.raises(InvalidInput, match="bucket_s"):
        join_sessions([days[0], days[1].resample(300.0)])
    with pytest.raises(InvalidInput, match="currency"):
        join_sessions([days[0], replace(days[1], currency="EUR")])
    other, _ = simulated(names=3, rows=400, days=5, r2=0.3, factors=1)
    with pytest.raises(InvalidInput, match="factors"):
        join_sessions([days[0], other.on(other.days[1])])
    with pytest.raises(DataGap, match="no sessions"):
        join_sessions([])
    for wrong in ([1, 2], "AAA", pd.DataFrame({"A": [1.0]}), 3):
        with pytest.raises(InvalidInput, match="not MarketEvents"):
            join_sessions(wrong)  # type: ignore[arg-type]


def test_factors_join_too(simulated) -> None:
    events, _ = simulated(names=2, rows=200, days=2, r2=0.3, factors=2)
    assert join_sessions(by_session(events)).equals(events)
    whole, parts = (CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(e) for e in (events, by_session(events)))
    assert whole.model_.matrices.tobytes() == parts.model_.matrices.tobytes()


def test_half_lives_in_words_are_for_the_estimators_that_fit_them(market) -> None:
    for estimator in (OwnFlowOLS(half_lives_s="fit"), SeparableImpact(kernel="exponential", half_lives_s="log-grid")):
        with pytest.raises(InvalidInput, match="numbers") as caught:
            estimator.fit(market)
        assert caught.value.field == "half_lives_s"


def test_a_first_stage_of_ones_own_goes_with_options_that_read_rows(simulated) -> None:
    from crosswind.problems.impact.factors import Defactor

    events, _ = simulated(names=4, rows=600, r2=0.5, factors=2, seed=6)
    stage = Defactor()
    for kw in ({"loss": "huber"}, {"half_lives_s": "fit"}, {"transform": "power", "exponent": 0.9}):
        fit = CrossImpact(**({"half_lives_s": LIVES, "ridge": 1.0, "defactor": stage} | kw)).fit(events)
        assert fit.stage_ is not None
        assert not hasattr(stage, "stage_")
        assert fit.constraint_violations()["worst"] <= 1e-12
    plain, own = (
        CrossImpact(half_lives_s=LIVES, ridge=1.0, loss="huber", huber_c=50.0, defactor=d).fit(events)
        for d in (True, stage)
    )
    # the stage regresses on the same factors: the same residuals, and so the same fit
    np.testing.assert_allclose(own.model_.matrices, plain.model_.matrices, atol=1e-6 * plain.model_.matrices.max())


def test_moments_alone_are_refused_where_options_read_the_rows(market) -> None:
    from crosswind.problems.impact import make_dictionary
    from crosswind.problems.impact.moments import event_moments

    moments = event_moments(market, make_dictionary("exponential", 60.0, LIVES), 0)
    plain = CrossImpact(half_lives_s=LIVES, ridge=1.0)
    np.testing.assert_allclose(
        plain.fit_moments(moments).model_.matrices, plain.fit(market).model_.matrices, rtol=1e-6, atol=1e-16
    )
    for kw in ({"loss": "huber"}, {"transform": "power"}, {"half_lives_s": "fit"}, {"half_lives_s": "log-grid"}):
        with pytest.raises(InvalidInput, match="pass over the rows") as caught:
            CrossImpact(**({"half_lives_s": LIVES, "ridge": 1.0} | kw)).fit_moments(moments)
        assert next(iter(kw)) in str(caught.value)


def test_summaries_say_what_the_options_did(market) -> None:
    def text(**kw) -> str:
        return CrossImpact(**({"half_lives_s": LIVES, "ridge": 1.0} | kw)).fit(market).summary()

    assert "Huber" in text(loss="huber")
    assert "stopped at the limit" in text(loss="huber", passes=1)
    assert "fitted in 2 passes, stopped" in text(half_lives_s="fit", passes=2)
    assert "sparse tail" in text(sparse_threshold=0.5)
    assert "not for schedules" in text(transform="power", exponent=0.5)
    for word in ("Huber", "fitted in", "sparse tail", "not for schedules"):
        assert word not in text()
    assert repr(VenueImpact()) == "VenueImpact()"
    assert repr(VenueImpact(CrossImpact(ridge=1.0), limit=5)) == "VenueImpact(CrossImpact(ridge=1.0), limit=5)"
