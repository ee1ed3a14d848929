from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import (
    CrossImpact,
    DiagonalNNLS,
    FullOLS,
    ImpactModel,
    KyleImpact,
    SequentialHeuristic,
    compare_models,
    recovery,
    truth_model,
)
from crosswind.problems.impact.plots import plot_scores
from crosswind.problems.market import SimulatedTruth, read, simulate
from crosswind.solvers.errors import InvalidInput

LIVES = (120.0, 1200.0)


def as_truth(model: ImpactModel) -> SimulatedTruth:
    n = len(model.names)
    names = list(model.names)
    return SimulatedTruth(
        rates_per_s=model.rates_per_s,
        matrices=model.matrices,
        sectors=pd.Series("x", index=names),
        betas=pd.Series(1.0, index=names),
        covariance=np.eye(n) * 1e-8,
        seed=0,
    )


def test_the_truth_recovers_itself(simulated) -> None:
    _, truth = simulated(names=4)
    found = recovery(truth, as_truth(truth))
    assert found.kernel_error == 0.0
    assert found.excess_cost == pytest.approx(0.0, abs=1e-12)
    assert found.promised_over_realised == pytest.approx(1.0, abs=1e-12)
    assert found.bounded
    assert "promised/realised 1.000" in found.summary()
    assert found.to_frame().shape == (1, 5)


def test_errors_and_costs_have_their_closed_forms(simulated) -> None:
    """Doubling the kernel: error 1, schedules change little, the promise is too high."""
    _, truth = simulated(names=3)
    double = ImpactModel(truth.names, truth.rates_per_s, 2 * truth.matrices, "exponential", 60.0)
    found = recovery(double, as_truth(truth))
    assert found.kernel_error == pytest.approx(1.0)
    assert found.cross_error == pytest.approx(1.0)
    assert 1.5 < found.promised_over_realised < 2.0
    assert 0.0 < found.excess_cost < 0.01
    blind = recovery(truth.diagonal(), as_truth(truth))
    assert blind.cross_error == pytest.approx(1.0)
    assert blind.excess_cost > 0


def test_schedule_is_the_textbook_one_for_a_single_name() -> None:
    """Obizhaeva–Wang: with η → 0 the excess cost of believing a wrong decay is that of the wrong end blocks."""
    from crosswind.optim.admissibility import block_toeplitz
    from crosswind.problems.impact.evaluate import _schedules

    rate, times = 0.01, np.arange(6) * 30.0
    model = ImpactModel(("A",), np.array([rate]), np.full((1, 1, 1), 1e-9), "exponential", 30.0)
    u = _schedules(block_toeplitz(model.impact, times), np.array([[1.0]]), 6)
    a = np.exp(-rate * 30.0)
    end = 1.0 / (4 * (1 - a) + 2)
    assert u is not None
    np.testing.assert_allclose(u[:, 0], [end, *([(1 - a) * end] * 4), end], rtol=1e-9)


def test_an_estimate_with_a_paying_round_trip_has_no_schedule(simulated) -> None:
    _, truth = simulated(names=3)
    bad = ImpactModel(truth.names, truth.rates_per_s, -truth.matrices, "exponential", 60.0)
    found = recovery(bad, as_truth(truth))
    assert not found.bounded
    assert found.excess_cost == float("inf")
    assert found.promised_over_realised == float("-inf")


def test_no_estimate_can_beat_the_truth(simulated) -> None:
    events, truth = simulated(names=4, rows=300, r2=0.05)
    for estimator in (CrossImpact(half_lives_s=LIVES), DiagonalNNLS(half_lives_s=LIVES), KyleImpact()):
        assert recovery(estimator.fit(events).model_, as_truth(truth)).excess_cost >= -1e-12


def test_comparison_of_models(simulated) -> None:
    events, truth = simulated(names=4, rows=900, days=3, r2=0.1, seed=2)
    train, test = events.on(events.days[:2]), events.on(events.days[2])
    models = {
        "joint": CrossImpact(half_lives_s=LIVES),
        "diagonal": DiagonalNNLS(half_lives_s=LIVES),
        "ols": FullOLS(half_lives_s=LIVES),
        "heuristic": SequentialHeuristic(half_lives_s=LIVES),
        "kyle": KyleImpact(half_lives_s=LIVES),
    }
    table = compare_models(models, train, test, truth=as_truth(truth))
    assert list(table.index) == list(models)
    assert list(table.columns[:5]) == [*events.names, "mean"]
    joint = models["joint"].score_by_name(test)
    np.testing.assert_allclose(table.loc["joint", list(events.names)].to_numpy(float), joint.to_numpy())
    assert table.loc["joint", "admissible"]
    assert table.loc["joint", "violation"] <= 1e-12
    assert table.loc["ols", "violation"] > 1e-3
    assert (table["seconds"] > 0).all()
    assert (table["error"] == "").all()
    assert table.loc["joint", "kernel_error"] < table.loc["diagonal", "kernel_error"]
    longer = compare_models({"joint": models["joint"]}, train, test, horizon_s=600.0)
    assert longer.loc["joint", "mean"] != table.loc["joint", "mean"]
    bars = plot_scores(table)
    assert len(bars.data) == 5
    assert list(bars.data[0].x) == [*events.names, "mean"]


def test_a_model_that_cannot_be_fitted_is_a_row_with_its_reason(simulated) -> None:
    flow = 1e6 * np.random.default_rng(0).standard_normal((400, 3))
    flow[:, 2] = flow[:, 0]
    events, _ = simulated(names=3, rows=400, r2=0.3, flow=flow)
    first, second = (events.on(d) for d in events.days)
    table = compare_models({"kyle": KyleImpact(), "diagonal": DiagonalNNLS()}, first, second)
    assert "collinear" in table.loc["kyle", "error"]
    assert np.isnan(table.loc["kyle", "mean"])
    assert table.loc["diagonal", "error"] == ""


def test_overlapping_samples_and_no_models_are_refused(simulated) -> None:
    events, _ = simulated(names=2, rows=100)
    with pytest.raises(InvalidInput, match="after the training"):
        compare_models({"d": DiagonalNNLS()}, events, events)
    with pytest.raises(InvalidInput, match="models"):
        compare_models({}, events.on(events.days[0]), events.on(events.days[1]))
    with pytest.raises(InvalidInput, match="table"):
        plot_scores(pd.DataFrame({"a": [1.0]}))


def test_on_the_market_simulator_joint_recovers_more_than_the_heuristic() -> None:
    wins, lives = 0, None
    for seed in range(3):
        data = simulate(names=6, days=2, bucket_s=30.0, seed=seed, impact_r2=0.05)
        assert data.truth is not None
        lives = tuple(np.log(2) / data.truth.rates_per_s)
        joint = CrossImpact(half_lives_s=lives).fit(data.events)
        heuristic = SequentialHeuristic(half_lives_s=lives).fit(data.events)
        found, other = recovery(joint.model_, data.truth), recovery(heuristic.model_, data.truth)
        wins += found.kernel_error < other.kernel_error
        assert joint.constraint_violations()["worst"] <= 1e-12
    assert wins == 3
    assert truth_model(data.truth, 30.0).admissible().admissible


@pytest.mark.data
def test_on_recorded_trades_the_joint_fit_is_admissible_and_beats_own_flow(lean_dir) -> None:
    """US equities, one day to fit and two to test: cross terms help on average, not for every name and model."""
    events = read(f"lean:{lean_dir}").events.resample(60.0)
    train, test = events.on(events.days[:-2]), events.on(events.days[-2:])
    table = compare_models(
        {
            "joint": CrossImpact(kernel="instantaneous"),
            "own": DiagonalNNLS(kernel="instantaneous"),
            "ols": FullOLS(kernel="instantaneous"),
        },
        train,
        test,
    )
    assert table.loc["joint", "admissible"]
    assert table.loc["joint", "violation"] <= 1e-12
    assert table.loc["joint", "mean"] > table.loc["own", "mean"] > 0.1
    assert not table.loc["ols", "admissible"]
