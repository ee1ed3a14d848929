"""Diagnosis: prices against finite differences, noise against its law, figures that say their units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import CrossImpact, DiagonalNNLS, FullOLS, ImpactModel
from crosswind.problems.impact.calibrate import bootstrap_matrices
from crosswind.problems.impact.calibrate.cells import cell_moments, cell_of_rows, resampling_weights
from crosswind.problems.impact.diagnose import cross_signal, diagnose, effective_rank, limit_prices
from crosswind.problems.impact.diagnose.figures import plot_lead_lag
from crosswind.problems.impact.diagnose.noise import canonical_edge
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.plots import cluster_order, plot_matrix
from crosswind.problems.impact.program import FitProblem, lower, scaled_problem, triangle
from crosswind.solvers.errors import DataGap, InvalidInput
from crosswind.solvers.solve import solve

LIVES = (120.0, 1200.0)
NAMES = ("AAA", "BBB", "CCC", "DDD")
LABELS = ("fast", "slow")


@pytest.fixture(scope="module")
def tight(simulated: Callable) -> FitProblem:
    """Noisy data under tight limits: floors, correlation bounds and definiteness all bind."""
    events, _ = simulated(names=4, rows=300, r2=0.02, half_lives_s=LIVES, seed=2)
    fit = FullOLS(half_lives_s=LIVES).fit(events)
    return scaled_problem(fit.grams_.total, 0.6, 0.7, 0.05, 0.0)


def optimum(problem: FitProblem) -> float:
    return limit_prices(problem, LABELS, NAMES).objective


@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_prices_are_slopes_of_the_optimum(tight: FitProblem, l1: float) -> None:
    problem = tight.with_penalties(l1=l1)
    prices = limit_prices(problem, LABELS, NAMES)
    table, h = prices.table, 1e-4
    assert prices.counts()["binding"].min() >= (0 if l1 else 1), prices.counts()
    rho = (optimum(replace(problem, corr_bound=0.7 - h)) - optimum(replace(problem, corr_bound=0.7 + h))) / (2 * h)
    assert table.xs("correlation", level="limit")["price"].sum() == pytest.approx(rho, rel=1e-3, abs=1e-7)
    for k, name in enumerate(NAMES):
        step = np.zeros(4)
        step[k] = h
        slope = (optimum(replace(problem, floor=problem.floor + step)) - optimum(problem)) / h
        back = (optimum(problem) - optimum(replace(problem, floor=problem.floor - step))) / h
        price = table.xs(("floor", name), level=("limit", "name"))["price"].sum()
        assert min(slope, back) - 1e-4 <= price <= max(slope, back) + 1e-4
    assert (table["price"] > -1e-8).all()
    assert (table["slack"] >= 0).all()
    top = prices.to_frame()
    assert top["binding"].all()
    assert top["worth_1pct"].is_monotonic_decreasing
    assert (table["slack"][table["binding"]] < 1e-4).all()


def test_the_price_of_definiteness_is_its_trace(tight: FitProblem) -> None:
    """Loosen K ⪰ 0 to K ⪰ −εI in the cone program itself."""
    problem = replace(tight, floor=np.zeros(4), corr_bound=1.0)
    prices = limit_prices(problem, LABELS, NAMES)
    lowered = lower(problem)
    rows, columns = triangle(4)
    identity = np.tile(np.where(rows == columns, 1.0, 0.0), 2)
    values = []
    for eps in (1e-4, -1e-4):
        b = lowered.program.b.copy()
        b[-identity.size :] += eps * identity
        values.append(solve(lowered.program.with_vectors(b=b), tol=1e-9).objective)
    slope = (values[1] - values[0]) / 2e-4
    assert prices.table.xs("psd", level="limit")["price"].sum() == pytest.approx(slope, rel=1e-3)
    assert prices.table.xs("psd", level="limit")["binding"].any()
    for directions in prices.pinned:
        assert directions.shape[0] == 4
        np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-12)


def test_a_fit_of_no_cross_terms_prices_the_bound_at_zero(tight: FitProblem) -> None:
    """At ρ = 0 the price is the right-hand slope of the optimum."""
    problem = replace(tight, corr_bound=0.0)
    prices = limit_prices(problem, LABELS, NAMES)
    h = 1e-5
    slope = (prices.objective - optimum(replace(problem, corr_bound=h))) / h
    assert prices.table.xs("correlation", level="limit")["price"].sum() == pytest.approx(slope, rel=1e-2)


def test_slack_limits_cost_nothing(simulated: Callable) -> None:
    events, _ = simulated(names=3, rows=600, r2=0.9, half_lives_s=LIVES)
    fit = CrossImpact(half_lives_s=LIVES, ridge=0.0, corr_bound=0.95).fit(events)
    prices = limit_prices(fit.fitted_.problem, fit.model_.dictionary.labels, fit.names_)
    assert not prices.table["binding"].any()
    assert prices.table["price"].max() < 1e-6
    assert "floor 0 of 6" in prices.summary()


def test_too_many_names_for_prices_are_refused() -> None:
    n = 61
    big = FitProblem(np.eye(n), np.eye(n), np.ones(n), np.zeros(n), 0.5, 1.0, 0.0, np.zeros((1, n, n)), np.ones(n))
    with pytest.raises(InvalidInput, match="61"):
        limit_prices(big, ("permanent",), tuple(map(str, range(n))))


def noise_gram(rng: np.random.Generator, names: int, rows: int, K: np.ndarray | None = None) -> tuple[Gram, np.ndarray]:
    u = rng.standard_normal((rows, names))
    r = rng.standard_normal((rows, names)) + u * 0.5
    if K is not None:
        r = r + u @ K.T
    return Gram.of(u, r, u), u


def test_noise_fills_its_spectrum_to_the_end() -> None:
    """No cross-impact, N = 60, E = 600: the largest of 60 canonical correlations lies at Wachter's end."""
    rng = np.random.default_rng(0)
    model = ImpactModel(tuple(map(str, range(60))), np.zeros(1), 0.5 * np.eye(60)[None], "instantaneous")
    found = [cross_signal(noise_gram(rng, 60, 600)[0], model) for _ in range(20)]
    # p = q = .1: √λ₊ = 2√.09 = .6; Marchenko and Pastur's √.1 + √.1 = .632 would be too high.
    assert found[0].limit == pytest.approx(0.6)
    assert np.median([f.raw[0] for f in found]) == pytest.approx(0.6, rel=0.05)
    assert max(f.fitted.max() for f in found) < 0.25  # the diagonal model has only the error of its own slopes


@pytest.mark.parametrize(("names", "rows"), [(6, 300), (20, 400)])
def test_noise_passes_its_edge_in_one_sample_of_twenty(names: int, rows: int) -> None:
    """Two independent sets: the 95 % quantile of the largest canonical correlation, over 800 samples."""
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(800):
        x, y = rng.standard_normal((rows, names)), rng.standard_normal((rows, 2 * names))
        qx, qy = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
        passed += np.linalg.norm(qx.T @ qy, 2) > canonical_edge(names, 2 * names, rows)
    assert 0.025 < passed / 800 < 0.08


def test_a_planted_direction_stands_above_the_edge_and_is_kept() -> None:
    rng = np.random.default_rng(1)
    K = np.full((40, 40), 1.0 / 40)  # its diagonal is own impact, and leaves hardly a trace in the other directions
    gram, _ = noise_gram(rng, 40, 4000, K)
    names = tuple(map(str, range(40)))
    true = ImpactModel(names, np.zeros(1), (0.5 * np.eye(40) + K)[None], "instantaneous")
    found = cross_signal(gram, true)
    assert found.above == 1
    assert found.kept == pytest.approx(1.0, abs=0.1)
    blind = cross_signal(gram, true.diagonal())
    np.testing.assert_allclose(blind.raw, found.raw)
    assert blind.kept < 0.05
    assert "1 of 40 directions" in found.summary()
    assert found.to_frame()["above_noise"].sum() == 1


def test_signal_does_not_depend_on_units(simulated: Callable) -> None:
    events, _ = simulated(names=3, rows=400, r2=0.2, half_lives_s=LIVES)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(events)
    gram, model = fit.grams_.total, fit.model_
    scale = np.array([1.0, 1e3, 1e-4])
    wide = np.tile(scale, 2)
    other = Gram(gram.rows, gram.ZZ * np.outer(wide, wide), gram.rZ * wide, gram.rr, gram.uu * np.outer(scale, scale))
    scaled = ImpactModel(model.names, model.rates_per_s, model.matrices / scale, "exponential", 60.0)
    one, two = cross_signal(gram, model), cross_signal(other, scaled)
    np.testing.assert_allclose(one.raw, two.raw, rtol=1e-6)
    np.testing.assert_allclose(one.fitted, two.fitted, rtol=1e-6)


def test_bad_moments_are_refused(simulated: Callable) -> None:
    events, truth = simulated(names=3, rows=60, r2=0.2, half_lives_s=LIVES)
    gram = DiagonalNNLS(half_lives_s=LIVES).fit(events).grams_.total
    with pytest.raises(InvalidInput, match="another model"):
        cross_signal(gram, truth.subset(truth.names[:2]))
    few = Gram(8, gram.ZZ, gram.rZ, gram.rr, gram.uu)
    with pytest.raises(DataGap, match="more rows"):
        cross_signal(few, truth)
    flat = Gram(gram.rows, gram.ZZ, gram.rZ * 0, np.ones((3, 3)), gram.uu)
    with pytest.raises(DataGap, match="collinear"):
        cross_signal(flat, truth)


def test_effective_rank_has_its_closed_forms() -> None:
    def of(K: np.ndarray) -> float:
        return effective_rank(ImpactModel(tuple(map(str, range(len(K)))), np.zeros(1), K[None], "instantaneous"))

    assert of(np.diag([1.0, 5.0, 100.0])) == pytest.approx(3.0)
    assert of(np.full((4, 4), 2.0)) == pytest.approx(1.0, abs=1e-6)
    assert 1.0 < of(np.eye(3) + 0.5 * (np.ones((3, 3)) - np.eye(3))) < 3.0


def test_a_diagnosis_has_every_part_and_says_what_is_missing(simulated: Callable) -> None:
    events, _ = simulated(names=4, rows=400, r2=0.1, half_lives_s=LIVES)
    fit = CrossImpact(half_lives_s=LIVES, ridge=0.3, corr_bound=0.3).fit(events)
    cells = cell_moments(events, fit.model_.dictionary, cell_of_rows(events, 20))
    weights = resampling_weights(cells.session, "moving", 2, 6, np.random.default_rng(0))
    bands = bootstrap_matrices(fit, cells, weights, 0.9)
    curves = pd.DataFrame({"AAA, BBB": [0.1, 0.5, 0.1], "AAA, BBB low": 0.0, "AAA, BBB high": 0.6}, [-1.0, 0.0, 1.0])
    found = diagnose(fit, bands=bands, lead_lag=curves)
    assert found.notes == ()
    figures = found.figures()
    assert list(figures) == ["matrix", "signal", "prices", "decay", "round_trip", "lead_lag"]
    for figure in figures.values():
        assert figure.layout.title.text
        axes = f"{figure.layout.xaxis.title.text} {figure.layout.yaxis.title.text}".replace("<br>", " ")
        assert any(word in axes for word in ("[", "no unit", "flow in")), axes
    assert "noise edge" in found.summary()
    assert found.to_frame().loc["effective_rank", "value"] == pytest.approx(effective_rank(fit.model_))
    plain = diagnose(DiagonalNNLS(half_lives_s=LIVES).fit(events))
    assert plain.prices is None
    assert "without limits" in plain.notes[0]
    assert set(plain.figures()) == {"matrix", "signal", "decay", "round_trip"}
    assert "note:" in plain.summary()
    assert "diagnosis" in plain._repr_html_()
    with pytest.raises(InvalidInput, match="not a fitted"):
        diagnose(CrossImpact())


def test_the_heatmap_puts_sectors_and_clusters_together() -> None:
    order = np.array([0, 1, 0, 1, 0, 1])
    K = np.where(order[:, None] == order[None, :], 0.6, 0.1)
    np.fill_diagonal(K, 1.0)
    model = ImpactModel(tuple("ABCDEF"), np.zeros(1), K[None], "instantaneous")
    found = [order[k] for k in cluster_order(model)]
    assert found in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    sectors = pd.Series(["x", "y", "x", "y", "x", "y"], index=list("ABCDEF"))
    figure = plot_matrix(model, sectors)
    assert list(figure.data[0].x) == list("ACEBDF")
    assert len(figure.layout.shapes) == 2  # one line down and one across between the two sectors
    assert cluster_order(model.diagonal()) == list(range(6))
    assert sorted(plot_matrix(model).data[0].x) == list("ABCDEF")


def test_lead_lag_curves_need_lags() -> None:
    good = pd.DataFrame({"A, B": [0.0, 1.0]}, index=[0.0, 1.0])
    assert len(plot_lead_lag(good).data) == 1
    for bad in (pd.DataFrame(index=[0.0]), good.set_axis([1.0, 0.0]), good.set_axis(["a", "b"])):
        with pytest.raises(InvalidInput, match="curves"):
            plot_lead_lag(bad)
