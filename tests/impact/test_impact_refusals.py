"""Data that break a fit are refused by name, by every estimator and every way in; holes are no rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import crosswind as cw
from crosswind.cli.app import main
from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    FullOLS,
    KyleImpact,
    OwnFlowOLS,
    SeparableImpact,
    SequentialHeuristic,
    StreamingGram,
    check_events,
    make_dictionary,
)
from crosswind.problems.impact.calibrate import Promotion
from crosswind.problems.impact.calibrate.candidates import TunedHeuristic
from crosswind.problems.impact.calibrate.page import calibration_html
from crosswind.problems.impact.decision import calibrate_decision
from crosswind.problems.impact.diagnose import diagnose
from crosswind.problems.impact.diagnose import figures as looks
from crosswind.problems.impact.features import after_hole
from crosswind.problems.impact.gram import accumulate
from crosswind.problems.impact.plots import plot_decay
from crosswind.problems.impact.targets import correlation_clusters
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput

SIM = "sim:names=4,sectors=2,days=3,seed=3,bucket_s=60,close_local=11:30"
LIVES = (60.0, 600.0)
ALL = {
    "joint": CrossImpact(half_lives_s=LIVES, ridge=1.0),
    "Huber": CrossImpact(half_lives_s=LIVES, ridge=1.0, loss="huber"),
    "separable": SeparableImpact(kernel="exponential", half_lives_s=LIVES, ridge=1.0),
    "Kyle": KyleImpact(half_lives_s=LIVES),
    "Kyle, one bucket": KyleImpact(kernel="instantaneous"),
    "own flow": OwnFlowOLS(half_lives_s=LIVES),
    "diagonal": DiagonalNNLS(half_lives_s=LIVES),
    "full": FullOLS(half_lives_s=LIVES),
    "heuristic": SequentialHeuristic(half_lives_s=LIVES),
    "tuned": TunedHeuristic(half_lives_s=LIVES),
}
FIELDS = ("flow", "mid", "spread", "volume", "depth")


@pytest.fixture(scope="module")
def market() -> MarketEvents:
    return cw.read(SIM).events


@pytest.fixture(scope="module")
def fitted(market: MarketEvents) -> CrossImpact:
    return CrossImpact(half_lives_s=LIVES, ridge=1.0, defactor=False).fit(market)


def stuck_of(events: MarketEvents) -> MarketEvents:
    return replace(events, mid=events.mid.assign(N02=50.0))


def late_of(events: MarketEvents) -> MarketEvents:
    """N02 trades on the last day alone."""
    flow = events.flow.copy()
    flow.loc[flow.index < events.on(events.days[-1]).index[0], "N02"] = 0.0
    return replace(events, flow=flow)


def rows_of(events: MarketEvents, keep: np.ndarray) -> MarketEvents:
    parts = {field: getattr(events, field).iloc[keep] for field in FIELDS}
    return replace(events, **parts, factors=None if events.factors is None else events.factors.iloc[keep])


# -- names that do not move or do not trade ---------------------------------------------------------------------------
@pytest.mark.parametrize("label", ALL)
@pytest.mark.parametrize("factors", [True, False])
def test_every_estimator_refuses_a_stuck_mid_by_name(market: MarketEvents, label: str, factors: bool) -> None:
    estimator = type(ALL[label])(**ALL[label].get_params()).set_params(defactor=factors)
    with pytest.raises(InvalidInput, match="no price move") as caught:
        estimator.fit(stuck_of(market))
    assert "N02" in str(caught.value)
    assert not hasattr(estimator, "model_")


def test_moments_with_a_stuck_mid_are_refused_by_name(market: MarketEvents) -> None:
    moments = StreamingGram(make_dictionary("exponential", 60.0, LIVES)).update(stuck_of(market)).moments()
    for estimator in (CrossImpact(half_lives_s=LIVES, ridge=1.0), KyleImpact(half_lives_s=LIVES)):
        with pytest.raises(InvalidInput, match=r"no price move.*N02"):
            estimator.set_params(defactor=False).fit_moments(moments)


def test_a_calibration_of_a_stuck_mid_is_a_gap_that_names_it(market: MarketEvents) -> None:
    with pytest.raises(DataGap, match=r"no estimator could be fitted.*N02"):
        cw.calibrate(stuck_of(market), folds=3, draws=5)


def test_the_command_says_it_in_one_line(
    market: MarketEvents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck_of(market).to_parquet(tmp_path / "stuck")
    for words in ((), ("--promote", "--draws", "5", "--folds", "3")):
        assert main(["fit", "--data", f"parquet:{tmp_path / 'stuck'}", *words]) == 2
        err = capsys.readouterr().err
        assert "N02" in err
        assert "Traceback" not in err


def test_a_held_out_block_without_flow_is_a_gap_that_names_it(market: MarketEvents) -> None:
    with pytest.raises(DataGap, match=r"no flow in a held-out block.*N02"):
        calibrate_decision(
            late_of(market), CrossImpact(half_lives_s=(60.0, 900.0)), grid={"ridge": [0.3, 3.0], "pool": [1.0]}
        )


def test_a_day_on_which_a_mid_stood_still_is_told_in_the_drift(market: MarketEvents) -> None:
    """What the factors' loadings of all days leave of it is no return, so that day has no fit of its own."""
    mid = market.mid.copy()
    mid.loc[market.session.to_numpy() == market.days[0], "N02"] = 50.0
    models = {"joint": CrossImpact(half_lives_s=LIVES, ridge=1.0)}
    found = cw.calibrate(replace(market, mid=mid), models, folds=3, draws=4, seed=1)
    errors = found.drift["error"]
    assert "N02" in errors[str(market.days[0])]
    assert not errors.iloc[1:].any()
    still = np.diag([0.0, 1.0, 1.0]) + 0.9 * np.eye(3)[[0, 2, 1]] * np.array([0.0, 1.0, 1.0])
    groups = correlation_clusters(still)
    assert groups[1] == groups[2] != groups[0]


@pytest.mark.parametrize("label", ["joint", "separable", "tuned"])
def test_a_fold_without_flow_names_fold_and_name_and_a_number_goes_on(market: MarketEvents, label: str) -> None:
    events = late_of(market)
    estimator = type(ALL[label])(**ALL[label].get_params()).set_params(ridge="cv")
    with pytest.raises(InvalidInput, match=r"training rows of fold 3 of 3.*N02.*ridge=1.0"):
        estimator.fit(events)
    assert np.isfinite(estimator.set_params(ridge=1.0).fit(events).model_.matrices).all()


def test_a_score_over_a_name_that_did_not_move_is_refused(market: MarketEvents, fitted: CrossImpact) -> None:
    stuck = stuck_of(market)
    scores = fitted.score_by_name(stuck)
    assert list(scores.index[scores.isna()]) == ["N02"]
    with pytest.raises(DataGap, match=r"never moves.*N02"):
        fitted.score(stuck)
    assert fitted.score(market) == pytest.approx(fitted.score_by_name(market).mean())


# -- beyond floating point --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("label", ALL)
def test_every_estimator_refuses_flow_beyond_floating_point(market: MarketEvents, label: str) -> None:
    flow = market.flow.copy()
    flow.iloc[40, 1] = 1e200
    wild = replace(market, flow=flow, volume=market.volume + 1e201)
    with pytest.raises(InvalidInput, match=r"beyond floating point.*N02"):
        type(ALL[label])(**ALL[label].get_params()).fit(wild)


@pytest.mark.parametrize("size", [1e200, 1e305])
def test_returns_beyond_floating_point_are_refused_too(market: MarketEvents, size: float) -> None:
    mid = market.mid.copy()
    mid.iloc[40, 1], mid.iloc[41, 1] = 1.0 / size, size
    wild = replace(market, mid=mid, spread=market.spread * 0.0)
    for estimator in (ALL["joint"], ALL["Kyle"]):
        with pytest.raises(InvalidInput, match=r"beyond floating point.*N02"):
            type(estimator)(**estimator.get_params()).set_params(defactor=False).fit(wild)
    with pytest.raises(InvalidInput, match="beyond floating point"):
        StreamingGram(make_dictionary("exponential", 60.0, LIVES)).update(wild).moments()
    with pytest.raises(InvalidInput, match=r"return of N02"):
        check_events(wild)


def test_a_decision_refuses_them_in_a_held_out_block(market: MarketEvents) -> None:
    flow = market.flow.copy()
    flow.iloc[40, 1] = 1e200
    wild = replace(market, flow=flow, volume=market.volume + 1e201)
    with pytest.raises(InvalidInput, match="beyond floating point"):
        calibrate_decision(wild, CrossImpact(half_lives_s=LIVES), grid={"ridge": [0.3, 3.0], "pool": [1.0]})


def test_the_sums_themselves_refuse_what_overflows_with_its_size(market: MarketEvents) -> None:
    flow = market.flow.copy()
    flow["N02"] = 1e160
    wild = replace(market, flow=flow, volume=market.volume + 1e161)
    with pytest.raises(InvalidInput, match=r"beyond floating point.*1e\+160"):
        accumulate(wild, make_dictionary("convex", 60.0, None, (0, 100)))


def test_the_door_names_the_size_and_not_a_dependence(market: MarketEvents) -> None:
    flow = market.flow.copy()
    flow.iloc[40, 1] = 1e200
    with pytest.raises(InvalidInput, match=r"flow of N02.*1e\+200"):
        check_events(replace(market, flow=flow, volume=market.volume + 1e201))
    tiny = replace(market, flow=market.flow.assign(N02=market.flow["N02"] * 1e-200))
    assert check_events(tiny).flow_condition == pytest.approx(check_events(market).flow_condition)


# -- holes ------------------------------------------------------------------------------------------------------------
def test_the_row_that_spans_a_hole_is_left_out_by_both_ways(market: MarketEvents) -> None:
    bare = replace(market, factors=None)
    hole = rows_of(bare, np.r_[0:20, 30:360])
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    grams = accumulate(hole, dictionary)
    assert grams.total.rows == 350 - 3 - 1
    # By hand: the state goes on over the hole, the row after it is none.
    flow, returns, days = hole.flow.to_numpy(), hole.returns.to_numpy().copy(), hole.session.to_numpy()
    returns[20] = np.nan
    ZZ = np.zeros_like(grams.total.ZZ)
    for day in hole.days:
        at = days == day
        Z = dictionary.regressors(flow[at])[np.isfinite(returns[at]).all(axis=1)]
        ZZ += Z.T @ Z
    np.testing.assert_allclose(grams.total.ZZ, ZZ, rtol=1e-12, atol=1e-12 * np.abs(ZZ).max())
    for cuts in ([0, 350], [0, 20, 350], [0, 7, 20, 21, 350], [0, 19, 350]):
        stream = StreamingGram(dictionary)
        for a, b in pairwise(cuts):
            stream.update(rows_of(hole, np.arange(a, b)))
        total = stream.moments().fold_grams(0, False)[0].total
        assert total.rows == grams.total.rows
        for field in ("ZZ", "rZ", "rr", "uu"):
            expected = getattr(grams.total, field)
            np.testing.assert_allclose(getattr(total, field), expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_a_jump_within_a_hole_moves_no_fit(market: MarketEvents) -> None:
    """Whatever the price did while nothing was recorded, the matrices stay as they are."""
    bare = replace(market, factors=None)
    hole = rows_of(bare, np.r_[0:20, 30:360])
    mid = hole.mid.copy()
    first = hole.session.to_numpy() == hole.days[0]
    after = np.flatnonzero(first)[20:]
    mid.iloc[after] = mid.iloc[after] * 1.5
    moved = replace(hole, mid=mid)
    fits = [CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(e) for e in (hole, moved)]
    np.testing.assert_allclose(fits[0].model_.matrices, fits[1].model_.matrices, rtol=1e-9, atol=1e-22)
    assert fits[0].score(moved) == pytest.approx(fits[0].score(hole), rel=1e-9)


def test_holes_are_counted_by_day_and_breaks_between_sessions_are_none(market: MarketEvents) -> None:
    keep = np.r_[0:20, 30:40, 41:200, 203:360]
    report = check_events(rows_of(market, keep))
    rows = report.findings[report.findings["what"].str.startswith("hole")]
    assert list(rows["where"]) == [str(market.days[0]), str(market.days[1])]
    assert list(rows["value"]) == ["2, 11 buckets missing", "1, 3 buckets missing"]
    assert check_events(market).findings.empty
    # A shorter last bucket is no hole, two buckets apart are one.
    stamps = np.array([60, 120, 150, 86_400, 86_520], dtype=np.int64) * 1_000_000_000
    found = after_hole(stamps, np.array([1, 1, 1, 2, 2]), 60.0)
    assert found.tolist() == [False, False, False, False, True]


# -- what is said -----------------------------------------------------------------------------------------------------
def test_a_report_says_whether_clocks_were_looked_at(market: MarketEvents) -> None:
    assert "clocks not looked at" in check_events(market).summary()
    assert "clocks not" not in check_events(market, clocks="report").summary()
    assert "clocks not" not in check_events(market.select(["N01"])).summary()


def test_another_currency_is_refused_wherever_a_model_meets_events(market: MarketEvents, fitted: CrossImpact) -> None:
    euro = replace(market, currency="EUR")
    for call in (fitted.predict, fitted.score, fitted.score_by_name):
        with pytest.raises(InvalidInput, match=r"events.currency.*another currency than USD.*EUR"):
            call(euro)
    for field, extra in (("previous", {"turnover": 1.0}), ("target", {})):
        estimator = CrossImpact(half_lives_s=LIVES, ridge=1.0, defactor=False, **{field: fitted.model_}, **extra)
        estimator.fit(market)
        with pytest.raises(InvalidInput, match=rf"{field}.currency.*another currency than EUR.*USD"):
            estimator.fit(euro)


@pytest.mark.parametrize("estimator", [CrossImpact, SeparableImpact, TunedHeuristic])
@pytest.mark.parametrize(
    ("field", "value"),
    [("folds", 1), ("folds", 2.5), ("folds", True), ("ridge_grid", ()), ("ridge", True), ("ridge", None)],
)
def test_options_are_checked_whether_used_or_not(market: MarketEvents, estimator, field: str, value: object) -> None:
    options = {"half_lives_s": LIVES, "kernel": "exponential", "ridge": 1.0} | {field: value}
    with pytest.raises(InvalidInput) as caught:
        estimator(**options).fit(market)
    assert caught.value.field == field


@pytest.mark.parametrize("seed", [-1, 1.5, True, "a"])
def test_a_bad_seed_is_refused_by_name(market: MarketEvents, seed: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        cw.calibrate(market, folds=3, draws=5, seed=seed)  # type: ignore[arg-type]
    assert caught.value.field == "seed"


def test_the_command_refuses_a_bad_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--data", SIM, "--calibrate", "--seed", "-1"]) == 2
    assert "seed" in capsys.readouterr().err


def test_a_threshold_that_does_more_harm_than_none_is_refused(build_events) -> None:
    """Two flows that nearly offset each other in a third name: without the one, the other alone predicts wrongly."""
    rng = np.random.default_rng(0)
    common = 3e6 * rng.standard_normal(600)
    flow = np.column_stack([1e6 * rng.standard_normal(600), common, common + 1e5 * rng.standard_normal(600)])
    K = 1e-10 * np.array([[1.0, 0.6, -0.5], [0.6, 1.0, 0.0], [-0.5, 0.0, 1.0]])
    events = build_events(flow, flow @ K)
    kw = {"kernel": "instantaneous", "ridge": 0.0, "floor": 0.0, "corr_bound": 1.0}
    full = CrossImpact(**kw, sparse_threshold=0.4).fit(events)
    assert full.sparsity_.kept >= 2
    assert full.sparsity_.check() is full.sparsity_
    with pytest.raises(InvalidInput, match="worse than without any") as caught:
        CrossImpact(**kw, sparse_threshold=0.55).fit(events)
    assert caught.value.field == "sparse_threshold"
    plain = full.fitted_.problem.objective(full.fitted_.repair.matrices * np.eye(3))
    assert full.sparsity_.objective_plain == pytest.approx(plain)


# -- figures and the page ---------------------------------------------------------------------------------------------
def test_decay_is_drawn_over_a_logarithmic_lag(fitted: CrossImpact) -> None:
    drawn = plot_decay(fitted.model_, points=50)
    lags = np.asarray(drawn.data[2].x)
    assert drawn.layout.xaxis.type == "log"
    assert lags[0] == pytest.approx(30.0)
    np.testing.assert_allclose(lags[1:] / lags[:-1], lags[1] / lags[0])
    median = np.median(np.diagonal(fitted.model_.impact(lags), axis1=1, axis2=2), axis=1)
    np.testing.assert_allclose(np.asarray(drawn.data[2].y), 1e10 * median)
    with pytest.raises(InvalidInput, match="horizon_s"):
        plot_decay(fitted.model_, horizon_s=0.0)


def test_the_page_names_the_solver_and_shows_what_was_promoted(market: MarketEvents) -> None:
    models = {"diagonal NNLS": DiagonalNNLS(half_lives_s=LIVES), "full OLS": FullOLS(half_lives_s=LIVES)}
    models["joint"] = CrossImpact(half_lives_s=LIVES, ridge=1.0)
    found = cw.calibrate(market, models, folds=3, draws=4)
    other = "full OLS"
    decision = cw.promote(found)
    assert isinstance(decision, Promotion)
    chosen = replace(decision, choice=other, estimator=found.fitted[other])
    page = calibration_html(found, chosen)
    assert "solver: gram" in page
    assert "Promoted model" in page
    assert "Matrix of joint" in page
    assert f"{1e10 * chosen.model.immediate[0, 1]:.3g}"[:4] in page
    same = replace(decision, choice="joint", estimator=found.fitted["joint"])
    assert "Promoted model" not in calibration_html(found, same)
    limits = looks.plot_prices(diagnose(found.fitted["joint"]).prices)
    assert limits.layout.xaxis.exponentformat == "power"
