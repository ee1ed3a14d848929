"""Calibration: scores against their definition, resampling, held-out costs, decisions, and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.optim.admissibility import block_toeplitz
from crosswind.problems.impact import CrossImpact, DiagonalNNLS, FullOLS, KyleImpact, OwnFlowOLS, SequentialHeuristic
from crosswind.problems.impact.calibrate import TunedHeuristic, bootstrap_matrices, complexity, default_estimators
from crosswind.problems.impact.calibrate.cells import cell_moments, cell_of_rows, resampling_weights
from crosswind.problems.impact.calibrate.costs import Programme, least_squares, realised_costs, schedule_weights
from crosswind.problems.impact.calibrate.folds import time_folds
from crosswind.problems.impact.calibrate.scores import usable_horizons
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput, LimitBreach

LIVES = (120.0, 1200.0)


def few(**joint: object) -> dict[str, object]:
    """Return the joint fit with a fixed ridge beside the models without cross terms and a wild one."""
    shapes = {"half_lives_s": LIVES}
    return {
        "own-flow OLS": OwnFlowOLS(**shapes),
        "diagonal NNLS": DiagonalNNLS(**shapes),
        "full OLS": FullOLS(**shapes),
        "joint": CrossImpact(**shapes, **{"ridge": 1.0, "corr_bound": 0.9} | joint),
    }


@pytest.fixture(scope="module")
def strong(simulated: Callable) -> tuple[MarketEvents, object]:
    return simulated(names=4, rows=1200, days=3, r2=0.2, corr=0.7, half_lives_s=LIVES, seed=4)


@pytest.fixture(scope="module")
def calibrated(strong: tuple) -> cw.problems.impact.calibrate.Calibration:
    events, _ = strong
    return cw.calibrate(events.on(events.days[:2]), few(), draws=20)


def test_scores_are_those_of_the_folds_by_hand(strong: tuple, calibrated) -> None:
    """R² from sums by cell equals R² of all held-out predictions strung together."""
    events = strong[0].on(strong[0].days[:2])
    settings = calibrated.settings
    cut = time_folds(events, 5, 10_000, round(settings["embargo_s"] / 60.0))
    for label, make in {"joint": partial(CrossImpact, ridge=1.0, corr_bound=0.9), "full OLS": FullOLS}.items():
        errors, totals = np.zeros(4), np.zeros(4)
        for train, test in cut.split(events):
            fit = make(half_lives_s=LIVES).fit(train)
            r = test.returns.to_numpy()
            keep = np.isfinite(r).all(axis=1)
            errors += ((r - fit.predict(test).to_numpy())[keep] ** 2).sum(axis=0)
            totals += (r[keep] ** 2).sum(axis=0)
        found = calibrated.out_of_sample().loc[(label, 60.0)]
        np.testing.assert_allclose(found[list(events.names)].to_numpy(float), 1 - errors / totals, rtol=1e-10)
        assert found["low"] <= found["mean"] <= found["high"]
    assert calibrated.horizons_s == (60.0, 300.0)
    paired = calibrated.differences()
    base = calibrated.out_of_sample()["mean"]
    for label, horizon in paired.index:
        expected = base[label, horizon] - base["own-flow OLS", horizon]
        assert paired.loc[(label, horizon), "difference"] == pytest.approx(expected, abs=1e-12)


def test_same_seed_same_bytes_other_seed_other_draws(strong: tuple) -> None:
    events = strong[0].on(strong[0].days[0])
    models = {"diagonal NNLS": DiagonalNNLS(half_lives_s=LIVES), "Kyle": KyleImpact(half_lives_s=LIVES)}
    one, two, other = (cw.calibrate(events, models, main="Kyle", draws=8, seed=s) for s in (3, 3, 4))
    for name, table in one.tables().items():
        timeless = [c for c in table.columns if c != "seconds"]
        pd.testing.assert_frame_equal(table[timeless], two.tables()[name][timeless], check_exact=True)
    assert one.bands.matrices.tobytes() == two.bands.matrices.tobytes()
    assert one.bands.matrices.tobytes() != other.bands.matrices.tobytes()
    np.testing.assert_array_equal(one.out_of_sample()["mean"], other.out_of_sample()["mean"])


def test_estimators_given_are_not_touched(strong: tuple) -> None:
    events = strong[0].on(strong[0].days[0])
    model = DiagonalNNLS(half_lives_s=LIVES)
    cw.calibrate(events, {"d": model}, main="d", draws=4)
    assert not hasattr(model, "model_")


def test_bands_cover_the_truth_where_nothing_is_shrunk(simulated: Callable) -> None:
    """90 % intervals of least-squares entries, 40 independent samples of 2 names: coverage near 90 %."""
    hits = []
    for seed in range(40):
        events, model = simulated(names=2, rows=400, days=1, r2=0.3, half_lives_s=(120.0,), seed=1000 + seed)
        truth = model.immediate
        fit = FullOLS(half_lives_s=(120.0,)).fit(events)
        cells = cell_moments(events, fit.model_.dictionary, cell_of_rows(events, 100))
        weights = resampling_weights(cells.session, "moving", 2, 80, np.random.default_rng(seed))
        table = bootstrap_matrices(fit, cells, weights, 0.9).entries()
        hits.append(((table["low"] <= truth.ravel()) & (truth.ravel() <= table["high"])).to_numpy())
    assert 0.8 <= float(np.mean(hits)) <= 0.97


def test_bands_of_an_exact_fit_have_no_width(simulated: Callable) -> None:
    events, truth = simulated(names=3, rows=300, days=1, r2=1.0, half_lives_s=LIVES)
    fit = FullOLS(half_lives_s=LIVES).fit(events)
    cells = cell_moments(events, fit.model_.dictionary, cell_of_rows(events, 20))
    weights = resampling_weights(cells.session, "stationary", 2, 10, np.random.default_rng(0))
    bands = bootstrap_matrices(fit, cells, weights, 0.9)
    table = bands.entries()
    np.testing.assert_allclose(table["low"], truth.immediate.ravel(), rtol=1e-6)
    np.testing.assert_allclose(table["high"], truth.immediate.ravel(), rtol=1e-6)
    assert table["significant"].all()
    lags = np.array([0.0, 60.0, 600.0])
    curve = bands.decay(lags)
    own = np.diagonal(truth.impact(lags), axis1=1, axis2=2)
    np.testing.assert_allclose(curve["self"], np.median(own, axis=1), rtol=1e-6)
    assert list(bands.eigenvalues().columns) == ["estimate", "low", "high"]
    with pytest.raises(InvalidInput, match="lags_s"):
        bands.decay([-1.0])


def test_cost_is_the_inner_product_with_the_schedules_weights(simulated: Callable) -> None:
    _, truth = simulated(names=3, rows=60)
    rng = np.random.default_rng(0)
    times = np.array([0.0, 60.0, 150.0, 600.0])
    u = 1e6 * rng.standard_normal((4, 3, 2))
    K = rng.standard_normal((2, 3, 3)) * 1e-9  # of no symmetry
    model = type(truth)(truth.names, truth.rates_per_s, K, "exponential", 60.0)
    H = block_toeplitz(model.impact, times)
    flat = u.reshape(12, 2)
    by_hand = 0.5 * float(np.einsum("ib,ij,jb->", flat, H, flat))
    W = schedule_weights(u, times, truth.dictionary)
    assert 0.5 * float(np.vdot(K, W)) == pytest.approx(by_hand, rel=1e-12)


def test_without_noise_a_promise_under_the_truth_is_kept(simulated: Callable) -> None:
    events, truth = simulated(names=3, rows=400, days=2, r2=1.0, half_lives_s=LIVES)
    cells = cell_moments(events, truth.dictionary, cell_of_rows(events, 10))
    np.testing.assert_allclose(least_squares(cells.total().total), truth.matrices, rtol=1e-6)
    own = np.diag(truth.immediate)
    programme = Programme.standard(truth.names, own, truth.dictionary, 3600.0, seed=0)
    assert (programme.signs[:, 0] == 1).all()
    weights = resampling_weights(cells.session, "moving", 2, 5, np.random.default_rng(0))
    double = type(truth)(truth.names, truth.rates_per_s, 2 * truth.matrices, "exponential", 60.0)
    worse = type(truth)(truth.names, truth.rates_per_s, -truth.matrices, "exponential", 60.0)
    found = realised_costs({"t": truth, "2t": double, "-t": worse}, programme, cells, truth.dictionary, weights)
    assert found["t"].promised == pytest.approx(found["t"].realised, rel=1e-6)
    np.testing.assert_allclose(found["t"].draws, found["t"].promised, rtol=1e-5)
    assert 1.5 < found["2t"].promised / found["2t"].realised < 2.0
    assert found["t"].realised < found["2t"].realised
    assert np.isnan(found["-t"].promised)


def test_promotes_cross_terms_where_they_are_strong(strong: tuple, calibrated) -> None:
    decision = cw.promote(calibrated)
    assert decision.choice == "joint"
    assert decision.model.admissible().admissible
    table = decision.to_frame()
    assert "inadmissible" in table.loc["full OLS", "reason"]
    assert "standard errors" in table.loc["diagonal NNLS", "reason"]
    assert table["promoted"].sum() == 1
    later = strong[0].on(strong[0].days[2])
    verified = decision.verify(later)
    assert verified["holds"].all()
    assert verified.loc[60.0, "difference"] > 0
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, corr_bound=0.9).fit(strong[0].on(strong[0].days[:2]))
    assert verified.loc[60.0, "promoted"] == pytest.approx(fit.score(later), rel=1e-10)
    assert "promoted: joint" in decision.summary()
    with pytest.raises(InvalidInput, match="before the calibration ends"):
        decision.verify(strong[0])


def test_promotes_the_diagonal_where_the_truth_is_diagonal(simulated: Callable) -> None:
    """With independent flow and no cross-impact the joint fit cannot be told from the diagonal, in 3 of 3 samples."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        flow = 1e6 * rng.standard_normal((900, 3))
        events = diagonal_events(simulated, flow, seed)
        found = cw.calibrate(events, few(), draws=4)
        assert cw.promote(found).choice in ("diagonal NNLS", "own-flow OLS")


def diagonal_events(simulated: Callable, flow: np.ndarray, seed: int) -> MarketEvents:
    """Return one name's market after another's, side by side: nothing of one name moves another."""
    parts = [
        simulated(names=1, rows=len(flow), days=2, r2=0.15, half_lives_s=LIVES, seed=10 * seed + k, flow=flow[:, [k]])[
            0
        ]
        for k in range(flow.shape[1])
    ]
    names = ["AAA", "BBB", "CCC"]
    frames = {
        field: pd.concat([getattr(p, field) for p in parts], axis=1).set_axis(names, axis=1)
        for field in ("flow", "mid", "spread", "volume", "depth")
    }
    return MarketEvents(**frames, bucket_s=60.0, tz="America/New_York")


def test_nothing_eligible_is_refused_with_each_reason(strong: tuple) -> None:
    events = strong[0].on(strong[0].days[0])
    found = cw.calibrate(events, {"full OLS": FullOLS(half_lives_s=LIVES)}, main="full OLS", draws=4)
    with pytest.raises(LimitBreach, match="full OLS: inadmissible"):
        cw.promote(found)


def test_bounds_of_the_rule_are_felt(calibrated) -> None:
    """Promises: only an interval that lies wholly outside excludes. Stability: cross terms alone are held to it."""
    kept = calibrated.costs.loc["joint"]
    assert kept["ratio_low"] < 1 < kept["ratio_high"]
    assert cw.promote(calibrated, ratio=(0.999, 1.001)).table.loc["joint", "eligible"]

    def verdict(table: str, **cells: float) -> str:
        changed = getattr(calibrated, table).copy()
        for column, value in cells.items():
            changed.loc["joint", column] = value
        decision = cw.promote(replace(calibrated, **{table: changed}))
        assert decision.choice != "joint"
        return str(decision.table.loc["joint", "reason"])

    assert "promised/realised" in verdict("costs", ratio_low=2.5, ratio=2.7, ratio_high=3.0)
    assert "promised/realised" in verdict("costs", ratio_low=0.1, ratio=0.2, ratio_high=0.4)
    assert "without end" in verdict("costs", bounded=False)
    assert "unstable" in verdict("halves", distance=1.2, r2_across=0.01)
    scattered = calibrated.halves.assign(distance=2.0, r2_across=-1.0)
    assert cw.promote(replace(calibrated, halves=scattered)).choice in ("diagonal NNLS", "own-flow OLS")
    loose = cw.promote(calibrated, errors=1e6)
    assert loose.choice in ("diagonal NNLS", "own-flow OLS")
    for field, kw in {
        "horizon_s": {"horizon_s": 7.0},
        "errors": {"errors": -1.0},
        "ratio": {"ratio": (1.5, 2.0)},
        "distance": {"distance": 0.0},
    }.items():
        with pytest.raises(InvalidInput, match=field):
            cw.promote(calibrated, **kw)


def test_one_that_cannot_be_fitted_is_told_and_left_out(simulated: Callable) -> None:
    flow = 1e6 * np.random.default_rng(0).standard_normal((600, 3))
    flow[:, 2] = flow[:, 0]
    events, _ = simulated(names=3, rows=600, r2=0.3, flow=flow, half_lives_s=LIVES)
    models = {"Kyle": KyleImpact(half_lives_s=LIVES), **few()}
    found = cw.calibrate(events, models, draws=6)
    assert "collinear" in found.errors["Kyle"]
    assert "Kyle" not in found.scores.held
    decision = cw.promote(found)
    assert decision.table.loc["Kyle", "reason"].startswith("not fitted")
    assert np.isfinite(decision.model.matrices).all()
    assert "not fitted" in found.summary()


def test_options_of_the_joint_fit_are_compared_and_a_power_is_never_promoted(strong: tuple) -> None:
    events = strong[0].on(strong[0].days[0])
    shapes = {"half_lives_s": LIVES, "ridge": 1.0, "corr_bound": 0.9}
    models = {
        "diagonal NNLS": DiagonalNNLS(half_lives_s=LIVES),
        "power": CrossImpact(**shapes, transform="power", exponent=0.5),
        "huber": CrossImpact(**shapes, loss="huber"),
    }
    found = cw.calibrate(events, models, main="huber", draws=3, folds=3)
    assert found.errors == {}
    assert found.bands.matrices.shape == (3, 2, 4, 4)
    decision = cw.promote(found)
    assert "some round trip always pays" in decision.table.loc["power", "reason"]
    assert not found.costs.loc["power", "bounded"]
    assert decision.choice != "power"


def test_bad_input_is_refused(strong: tuple) -> None:
    events = strong[0].on(strong[0].days[0])
    good = {"d": DiagonalNNLS(half_lives_s=LIVES)}
    for field, (data, models, kw) in {
        "events": ([1, 2], good, {}),
        "estimators": (events, {}, {}),
        r"estimators\['x'\]": (events, {"x": 3}, {}),
        "main": (events, good, {"main": "joint"}),
        "level": (events, good, {"level": 1.0}),
        "horizons_s": (events, good, {"horizons_s": [90.0]}),
        "purge_s": (events, good, {"purge_s": -1.0}),
        "embargo_s": (events, good, {"embargo_s": float("nan")}),
        "block_s": (events, good, {"block_s": 0.0}),
        "bootstrap": (events, good, {"bootstrap": "days"}),
        "draws": (events, good, {"draws": 1}),
        "folds": (events, good, {"folds": 1}),
    }.items():
        with pytest.raises(InvalidInput, match=field):
            cw.calibrate(data, models, **({"main": "d", "draws": 4} | kw))
    with pytest.raises(DataGap, match="could be fitted"):
        cw.calibrate(events.between(events.index[0], events.index[6]), good, main="d")


def test_mixed_bases_are_refused(simulated: Callable) -> None:
    events, _ = simulated(names=2, rows=300, factors=1, r2=0.3, half_lives_s=LIVES)
    pair = {
        "with": DiagonalNNLS(half_lives_s=LIVES),
        "without": DiagonalNNLS(half_lives_s=LIVES, defactor=False),
    }
    with pytest.raises(InvalidInput, match="different bases"):
        cw.calibrate(events, pair, main="with")
    same = cw.calibrate(events, {"with": pair["with"]}, main="with", draws=4)
    assert same.out_of_sample()["mean"].iloc[0] > 0.1


def test_horizons_that_the_buckets_allow(simulated: Callable) -> None:
    events, _ = simulated(names=2, rows=300)
    assert usable_horizons(events) == (60.0, 300.0)
    assert usable_horizons(events, [120.0]) == (60.0, 120.0)
    short, _ = simulated(names=2, rows=60)
    assert usable_horizons(short) == (60.0,)


def test_complexity_orders_models(simulated: Callable) -> None:
    events, truth = simulated(names=3, rows=300, r2=0.5, half_lives_s=LIVES)
    assert complexity(truth.diagonal()) == 0
    assert complexity(KyleImpact(half_lives_s=LIVES).fit(events).model_) == 1
    assert complexity(FullOLS(half_lives_s=LIVES).fit(events).model_) == 2


def test_the_tuned_heuristic_is_the_heuristic_at_its_best_ridge(simulated: Callable) -> None:
    events, _ = simulated(names=4, rows=400, r2=0.05, half_lives_s=LIVES)
    tuned = TunedHeuristic(half_lives_s=LIVES).fit(events)
    assert tuned.ridge_ in tuned.ridge_grid
    plain = SequentialHeuristic(half_lives_s=LIVES, ridge=tuned.ridge_).fit(events)
    np.testing.assert_allclose(tuned.model_.matrices, plain.model_.matrices, rtol=1e-12)
    fixed = TunedHeuristic(half_lives_s=LIVES, ridge=0.3).fit(events)
    np.testing.assert_array_equal(
        fixed.model_.matrices, SequentialHeuristic(half_lives_s=LIVES, ridge=0.3).fit(events).model_.matrices
    )


def test_drift_is_seen_against_its_noise(simulated: Callable) -> None:
    """The second day trades ten times as deep: it stands far above the noise; without a change nothing does."""
    events, _ = simulated(names=2, rows=800, days=2, r2=0.5, half_lives_s=(120.0,), seed=1)
    models = {"own": OwnFlowOLS(half_lives_s=(120.0,))}
    steady = cw.calibrate(events, models, main="own", draws=40).drift
    assert (steady["distance"] < steady["noise_q90"]).all()
    flow = events.flow.to_numpy().copy()
    flow[400:] *= 10.0
    frame = pd.DataFrame(flow, events.index, list(events.names))
    moved = cw.problems.market.MarketEvents(
        flow=frame,
        mid=events.mid,
        spread=events.spread,
        volume=frame.abs() + 1.0,
        depth=events.depth,
        bucket_s=60.0,
        tz=events.tz,
    )
    drift = cw.calibrate(moved, models, main="own", draws=40).drift
    # The fit on all rows is nearly that of the deep day, whose flow outweighs the other's a hundred times.
    assert drift["distance"].iloc[0] > 20.0 * drift["noise_q90"].iloc[0]
    assert drift["self_ratio"].iloc[0] == pytest.approx(10.0, rel=0.15)
    assert drift["distance"].iloc[1] < drift["noise_q90"].iloc[1]


def test_results_show_themselves(calibrated, tmp_path: Path) -> None:
    decision = cw.promote(calibrated)
    page = calibrated.to_html(tmp_path / "deep" / "page.html", decision)
    text = page.read_text(encoding="utf-8")
    assert "<!doctype html>" in text
    assert "http://" not in text.split("<body>")[1].split("<script")[0]
    for word in ("Decision", "Out of sample", "Cost", "Stability", "Limits and noise", "noise edge", "joint"):
        assert word in text
    assert calibrated.to_html(tmp_path / "again.html", decision).read_bytes() == page.read_bytes()
    assert list((tmp_path / "deep").iterdir()) == [page]
    with pytest.raises(InvalidInput, match="is a folder"):
        calibrated.to_html(tmp_path)
    assert "calibration of 4 names" in calibrated.summary()
    assert "own-flow OLS" in calibrated._repr_html_()
    assert "Calibration(4 names" in repr(calibrated)
    assert set(calibrated.to_frame().index) == set(few())
    for table in calibrated.tables().values():
        table.to_parquet(tmp_path / "t.parquet")
    assert len(decision.plot().data) >= 2
    assert len(calibrated.plot().data) == 4


def test_default_estimators_name_the_joint_fit_last_and_all_baselines() -> None:
    models = default_estimators(half_lives_s=LIVES)
    assert list(models)[-1] == "joint"
    assert {"own-flow OLS", "diagonal NNLS", "Kyle", "heuristic, tuned", "full OLS", "separable"} < set(models)
    assert all(m.get_params()["half_lives_s"] == LIVES for m in models.values())
