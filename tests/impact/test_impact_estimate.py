from __future__ import annotations

import copy
import importlib

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import CrossImpact, DiagonalNNLS, ImpactModel
from crosswind.problems.impact.estimate import RIDGE_GRID
from crosswind.problems.impact.targets import correlation_clusters, sector_groups
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput, SolverFailure

LIVES = (120.0, 1200.0)
LAGS = (0, 2, 6)
FAMILIES = ["instantaneous", "exponential", "monotone", "convex"]


def joint(**kw) -> CrossImpact:
    kw = {"half_lives_s": LIVES, "lags": LAGS, "ridge": 0.0, "floor": 0.0} | kw
    return CrossImpact(**kw)


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_free_data_give_the_truth_back(simulated, family: str) -> None:
    events, truth = simulated(names=4, family=family, r2=1.0)
    fit = joint(kernel=family, tol=1e-10).fit(events)
    scale = np.abs(truth.matrices).max()
    np.testing.assert_allclose(fit.model_.matrices / scale, truth.matrices / scale, atol=3e-6)
    assert fit.score(events) > 1 - 1e-9
    assert fit.score_by_name(events).min() > 1 - 1e-9


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("corr_bound", [0.15, 0.6, 1.0])
def test_every_constraint_holds_to_rounding_after_the_repair(simulated, family: str, corr_bound: float) -> None:
    events, _ = simulated(names=5, family=family, r2=0.02, corr=0.4, seed=3)
    fit = joint(kernel=family, corr_bound=corr_bound, floor=0.2).fit(events)
    violations = fit.constraint_violations()
    assert set(violations.index) == {"asymmetry", "psd", "floor", "correlation", "worst"}
    assert violations["worst"] <= 1e-12
    assert fit.certificate_.passes(1e-6)
    assert fit.suboptimality_ < 1e-6


def test_admissibility_of_each_family(simulated) -> None:
    """Exponential, convex and instantaneous are admissible by construction; monotone is not."""
    verdicts = {}
    for family in FAMILIES:
        events, _ = simulated(names=3, family="exponential", r2=0.05, seed=2)
        verdicts[family] = joint(kernel=family, lags=(0, 1, 3, 7)).fit(events).model_.admissible()
    assert {f: v.admissible for f, v in verdicts.items()} == {
        "instantaneous": True,
        "exponential": True,
        "monotone": False,
        "convex": True,
    }
    worst = verdicts["monotone"]
    assert worst.profit > 0
    np.testing.assert_allclose(worst.worst_round_trip.sum(axis=0), 0.0, atol=1e-6 * worst.notional)


def test_cross_validation_shrinks_noise_and_spares_clean_data(simulated) -> None:
    noisy, _ = simulated(names=5, rows=600, r2=0.01, seed=5)
    clean, _ = simulated(names=5, rows=600, r2=0.999, seed=5)
    strong, weak = joint(ridge="cv").fit(noisy), joint(ridge="cv").fit(clean)
    assert strong.ridge_ > weak.ridge_ == RIDGE_GRID[0]
    assert strong.cv_ is not None
    assert strong.cv_.shape == (len(RIDGE_GRID), 3)
    assert strong.ridge_ == strong.cv_.mean(axis=1).idxmax()
    assert joint().fit(clean).cv_ is None


def test_cross_validation_scores_the_held_out_rows(simulated) -> None:
    """The table's entry equals fitting on the training rows and scoring the block by hand."""
    events, _ = simulated(names=3, rows=300, days=1, r2=0.1, family="instantaneous", seed=1)
    fit = CrossImpact(kernel="instantaneous", ridge="cv", folds=3, ridge_grid=(0.5,)).fit(events)
    edges = events.flow.index[[0, 100, 199]]  # rows 1..299 are usable; the first block is rows 1..100
    first = events.between(edges[0], edges[1])
    flow = first.flow.to_numpy()
    returns = events.returns.loc[first.flow.index].to_numpy()
    rest = events.between(edges[1], events.flow.index[-1])
    again = CrossImpact(kernel="instantaneous", ridge=0.5)
    # the first row of the remainder has no return any more, so the moments differ by one row in 199
    K = again.fit(rest).model_.matrices[0]
    by_hand = 1 - (((returns - flow @ K.T) ** 2).sum(axis=0) / (returns**2).sum(axis=0)).mean()
    assert fit.cv_ is not None
    assert fit.cv_.loc[0.5, 0] == pytest.approx(by_hand, abs=5e-3)


def test_joint_fit_with_ridge_beats_heuristic_and_diagonal_in_recovery(simulated) -> None:
    from crosswind.problems.impact import SequentialHeuristic

    errors: dict[str, list[float]] = {"joint": [], "heuristic": [], "diagonal": []}
    for seed in range(4):
        events, truth = simulated(names=6, rows=800, r2=0.03, corr=0.35, seed=seed)
        D = 1 / np.sqrt(np.diag(truth.immediate))
        for label, estimator in {
            "joint": CrossImpact(half_lives_s=LIVES),
            "heuristic": SequentialHeuristic(half_lives_s=LIVES),
            "diagonal": DiagonalNNLS(half_lives_s=LIVES),
        }.items():
            found = estimator.fit(events).model_
            errors[label].append(float(np.linalg.norm((found.matrices - truth.matrices) * np.outer(D, D))))
    assert np.mean(errors["joint"]) < 0.8 * np.mean(errors["heuristic"])
    assert np.mean(errors["joint"]) < np.mean(errors["diagonal"])


def test_two_stage_fit_removes_the_factors_and_predicts_residuals(simulated) -> None:
    events, truth = simulated(names=4, r2=1.0, factors=2, seed=6)
    two = joint(tol=1e-10).fit(events)
    one = joint(defactor=False).fit(events)
    assert two.loadings_ is not None
    assert two.loadings_.shape == (4, 2)
    assert one.loadings_ is None
    scale = np.abs(truth.matrices).max()
    error = np.abs(two.model_.matrices - truth.matrices).max() / scale
    assert error < 0.05  # stage one sees impact as noise, so recovery is not exact
    assert error < 0.2 * np.abs(one.model_.matrices - truth.matrices).max() / scale
    assert two.score(events) > 0.99
    assert one.score(events) < 0.9


def test_prediction_is_causal_and_restarts_each_session(simulated) -> None:
    events, _ = simulated(names=3, rows=60, days=2, r2=0.5)
    fit = joint().fit(events)
    whole = fit.predict(events)
    pd.testing.assert_frame_equal(whole.iloc[30:], fit.predict(events.on(events.days[1])))
    part = events.between(events.flow.index[0], events.flow.index[20])
    short = fit.predict(events.on(events.days[0])).iloc[:20]
    pd.testing.assert_frame_equal(short, whole.iloc[:20])
    assert len(fit.predict(part)) == 20
    assert list(whole.columns) == list(events.names)


def test_score_over_horizons_sums_whole_groups(simulated) -> None:
    events, _ = simulated(names=2, rows=62, days=2, r2=0.4)
    fit = joint().fit(events)
    r, f = events.returns.to_numpy(), fit.predict(events).to_numpy()
    blocks = [slice(1 + 31 * d + 7 * k, 1 + 31 * d + 7 * (k + 1)) for d in range(2) for k in range(4)]
    actual = np.array([r[b].sum(axis=0) for b in blocks])
    forecast = np.array([f[b].sum(axis=0) for b in blocks])
    expected = 1 - ((actual - forecast) ** 2).sum(axis=0) / (actual**2).sum(axis=0)
    np.testing.assert_allclose(fit.score_by_name(events, 7 * 60.0).to_numpy(), expected, rtol=1e-10)
    for bad in (90.0, 30.0, -60.0):
        with pytest.raises(InvalidInput, match="horizon_s"):
            fit.score_by_name(events, bad)
    with pytest.raises(DataGap):
        fit.score_by_name(events, 60.0 * 100)


def test_targets(simulated) -> None:
    events, truth = simulated(names=6, rows=400, r2=0.02, seed=8)
    off = ~np.eye(6, dtype=bool)
    huge = 1e5
    diagonal = joint(ridge=huge, target="diagonal").fit(events).model_
    assert np.abs(diagonal.correlation.to_numpy()[off]).max() < 1e-3
    given = joint(ridge=huge, target=truth).fit(events).model_
    feasible = np.abs(truth.correlation.to_numpy()[off]).max() < 0.6
    assert feasible
    np.testing.assert_allclose(given.matrices[:, off], truth.matrices[:, off], rtol=0.05)
    frame = pd.DataFrame(truth.immediate, index=list(truth.names), columns=list(truth.names))
    shared = joint(ridge=huge, target=frame).fit(events).model_
    np.testing.assert_allclose(shared.immediate[off], truth.immediate[off], rtol=0.05)
    sectors = pd.Series(["x", "x", "x", "y", "y", "y"], index=list(events.names))
    blocks = joint(ridge=huge, sectors=sectors).fit(events)
    scaled = blocks.model_.matrices[0] / np.outer(blocks.scale_, blocks.scale_)
    within = scaled[np.ix_([0, 1, 2], [0, 1, 2])][~np.eye(3, dtype=bool)]
    assert np.ptp(within) < 1e-3
    assert np.ptp(scaled[:3, 3:]) < 1e-3


def test_pooling_the_decay_split_finds_what_names_share_and_can_be_turned_off(simulated) -> None:
    """All names lose two thirds of their impact fast in the truth; one name's data tell that badly."""
    worst = {None: 0.0, 0.0: 0.0}
    for seed in range(4):
        events, _ = simulated(names=8, rows=2000, r2=0.05, seed=seed)
        for pool in worst:
            found = CrossImpact(half_lives_s=LIVES, ridge=3.0, pool=pool).fit(events)
            assert found.fitted_.problem.pool == (3.0 if pool is None else 0.0)
            own = np.diagonal(found.model_.matrices, axis1=1, axis2=2)
            worst[pool] += float(np.abs(own[0] / own.sum(axis=0) - 2 / 3).mean()) / 4
    assert worst[None] < 0.7 * worst[0.0]


def test_bad_targets_are_refused(simulated) -> None:
    events, truth = simulated(names=3, rows=100)
    lopsided = pd.DataFrame(np.triu(np.ones((3, 3))), index=list(events.names), columns=list(events.names))
    other = ImpactModel(truth.names, np.array([0.1]), truth.matrices[:1], "exponential", 60.0)
    for target in ("sector", lopsided, lopsided.iloc[:2, :2], other):
        with pytest.raises(InvalidInput, match="target"):
            joint(ridge=1.0, target=target).fit(events)
    with pytest.raises(InvalidInput, match="sectors"):
        joint(ridge=1.0, sectors=pd.Series({"AAA": "x"})).fit(events)


def test_clusters_find_planted_blocks_and_survive_degenerate_input() -> None:
    C = np.where(np.arange(6)[:, None] % 2 == np.arange(6)[None, :] % 2, 0.6, 0.1) + 0.4 * np.eye(6)
    groups = correlation_clusters(C)
    assert len(set(groups[::2])) == len(set(groups[1::2])) == 1
    assert groups[0] != groups[1]
    assert set(correlation_clusters(np.ones((4, 4)))) == {0}
    assert list(correlation_clusters(np.eye(2))) == [0, 0]
    assert list(sector_groups(pd.Series({"a": "x", "b": "y"}), ["b", "a"])) == [0, 1]


# -- degenerate and bad input --------------------------------------------------------------------------------------
def test_one_name(simulated) -> None:
    events, truth = simulated(names=1, rows=200, r2=1.0)
    fit = CrossImpact(half_lives_s=LIVES, ridge="cv", floor=0.0).fit(events)
    np.testing.assert_allclose(fit.model_.matrices, truth.matrices, rtol=1e-4)
    assert fit.model_.cross_share() == 0.0


def test_one_day(simulated) -> None:
    events, _ = simulated(names=3, rows=200, days=1, r2=0.3)
    assert CrossImpact(half_lives_s=LIVES).fit(events).rows_ == 199


@pytest.mark.parametrize("ridge", [0.0, 1.0, "cv"])
def test_duplicated_flow_is_solved_and_stays_feasible(simulated, ridge) -> None:
    rng = np.random.default_rng(0)
    flow = 1e6 * rng.standard_normal((400, 3))
    flow[:, 2] = flow[:, 1]
    events, _ = simulated(names=3, rows=400, r2=0.2, flow=flow)
    fit = joint(ridge=ridge, floor=0.01).fit(events)
    assert fit.constraint_violations()["worst"] <= 1e-12
    assert fit.suboptimality_ < 1e-5
    assert np.isfinite(fit.model_.matrices).all()


def test_a_name_without_flow_is_refused_by_name(simulated) -> None:
    rng = np.random.default_rng(0)
    flow = 1e6 * rng.standard_normal((100, 3))
    flow[:, 1] = 0.0
    events, _ = simulated(names=3, rows=100, r2=0.5, flow=flow)
    with pytest.raises(InvalidInput, match="BBB") as caught:
        CrossImpact().fit(events)
    assert caught.value.field == "events.flow"
    assert "drop" in str(caught.value)


def test_a_name_that_never_moves_is_refused(build_events) -> None:
    rng = np.random.default_rng(0)
    flow = 1e6 * rng.standard_normal((100, 2))
    events = build_events(flow, np.column_stack([1e-4 * rng.standard_normal(100), np.zeros(100)]))
    with pytest.raises(InvalidInput, match="price move"):
        joint().fit(events)


def test_a_table_in_place_of_events_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"pass the \.events") as caught:
        CrossImpact().fit(pd.DataFrame({"A": [1.0]}))  # type: ignore[arg-type]
    assert caught.value.field == "events"


def test_too_few_rows_are_a_gap(simulated) -> None:
    events, _ = simulated(names=3, rows=20, days=2)
    joint().fit(events)
    with pytest.raises(DataGap, match="too few"):
        joint(ridge="cv").fit(events)
    with pytest.raises(DataGap, match="too few"):
        joint().fit(events.on(events.days[0]))


def test_rho_zero_is_the_diagonal_baseline(simulated) -> None:
    events, _ = simulated(names=4, r2=0.1)
    ours = joint(corr_bound=0.0, tol=1e-10).fit(events).model_
    baseline = DiagonalNNLS(half_lives_s=LIVES).fit(events).model_
    np.testing.assert_allclose(ours.matrices, baseline.matrices, atol=1e-5 * baseline.matrices.max())


def test_the_floor_binds_when_it_is_high(simulated) -> None:
    events, truth = simulated(names=3, r2=0.5)
    high = pd.Series(10.0 * np.diag(truth.immediate), index=list(events.names))
    fit = joint(floor=high).fit(events)
    own = np.diagonal(fit.model_.matrices, axis1=1, axis2=2)
    np.testing.assert_allclose(own, np.repeat(high.to_numpy()[None] / 2, 2, axis=0), rtol=1e-4)
    assert (own >= high.to_numpy() / 2 * (1 - 1e-12)).all()


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"kernel": "power"}, "kernel"),
        ({"corr_bound": -0.1}, "corr_bound"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": "auto"}, "ridge"),
        ({"ridge": "cv", "folds": 1}, "folds"),
        ({"ridge": "cv", "ridge_grid": ()}, "ridge_grid"),
        ({"l1": -1.0}, "l1"),
        ({"floor": 1.5}, "floor"),
        ({"floor": pd.Series({"AAA": 1e-9})}, "floor"),
        ({"half_lives_s": (0.0,)}, "half_lives_s"),
        ({"solver": "nobody"}, None),
        ({"tol": 2.0}, "tol"),
    ],
)
def test_bad_parameters_are_refused_at_fit(simulated, kw: dict, field: str | None) -> None:
    events, _ = simulated(names=3, rows=100)
    with pytest.raises(CrosswindError) as caught:
        joint(**kw).fit(events)
    if field is not None:
        assert caught.value.field == field


def test_a_solver_that_fails_is_an_error_and_no_model(simulated, monkeypatch) -> None:
    import dataclasses

    from crosswind.solvers.solution import Status

    solving = importlib.import_module("crosswind.solvers.solve")

    events, _ = simulated(names=3, rows=100)
    real = solving.solve

    def failing(*args, **kw):
        return dataclasses.replace(real(*args, **kw), status=Status.NUMERICAL)

    monkeypatch.setattr(solving, "solve", failing)
    estimator = joint(solver="clarabel")
    with pytest.raises(SolverFailure, match="NUMERICAL"):
        estimator.fit(events)
    assert not hasattr(estimator, "model_")
    with pytest.raises(InvalidInput, match="not fitted"):
        estimator.predict(events)


def test_an_iterate_stopped_early_is_refused(simulated, monkeypatch) -> None:
    events, _ = simulated(names=5, rows=200, r2=0.05)
    solving = importlib.import_module("crosswind.solvers.solve")
    real = solving.solve
    monkeypatch.setattr(solving, "solve", lambda *args, **kw: real(*args, max_iter=3, **kw))
    with pytest.raises(SolverFailure):
        joint(solver="clarabel").fit(events)


def test_predicting_on_other_buckets_or_without_a_name_is_refused(simulated) -> None:
    events, _ = simulated(names=3, rows=100, days=1)
    fit = joint().fit(events)
    with pytest.raises(InvalidInput, match="other buckets"):
        fit.predict(events.resample(300.0))
    with pytest.raises(DataGap, match="CCC"):
        fit.predict(events.select(["AAA", "BBB"]))


# -- estimator conventions -----------------------------------------------------------------------------------------
def clone(estimator):
    """What sklearn.base.clone does: rebuild from parameters and insist that they were stored untouched."""
    params = estimator.get_params(deep=False)
    new = type(estimator)(**{k: copy.deepcopy(v) for k, v in params.items()})
    again = new.get_params(deep=False)
    assert set(params) == set(again)
    return new


def test_parameters_survive_a_clone_and_learned_state_does_not(simulated) -> None:
    events, _ = simulated(names=3, rows=100)
    grid = (0.1, 1.0)
    fit = CrossImpact(half_lives_s=LIVES, ridge_grid=grid, ridge=2.0).fit(events)
    assert fit.get_params()["ridge_grid"] is grid
    copied = clone(fit)
    assert not hasattr(copied, "model_")
    np.testing.assert_array_equal(copied.fit(events).model_.matrices, fit.model_.matrices)
    assert fit.set_params(ridge=3.0) is fit
    assert fit.ridge == 3.0
    with pytest.raises(InvalidInput, match="lambda"):
        fit.set_params(**{"lambda": 1.0})


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(CrossImpact()) == "CrossImpact()"
    assert repr(CrossImpact(ridge=1.0)) == "CrossImpact(ridge=1.0)"
    assert "<Series>" in repr(CrossImpact(sectors=pd.Series({"a": 1})))


def test_summary_names_the_penalty_and_the_certificate(simulated) -> None:
    events, _ = simulated(names=3, rows=100)
    text = joint(ridge=2.0).fit(events).summary()
    assert "ridge 2" in text
    assert "certified" in text


def test_fitting_twice_gives_the_same_bytes(simulated) -> None:
    events, _ = simulated(names=4, r2=0.1)
    first, second = (CrossImpact(half_lives_s=LIVES).fit(events).model_.matrices for _ in range(2))
    assert first.tobytes() == second.tobytes()
