from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from crosswind.problems.impact import CrossImpact, log_grid_half_lives, make_dictionary
from crosswind.problems.impact.families.rates import _Search, fit_rates, rate_slopes
from crosswind.problems.impact.sample import Sample
from crosswind.solvers.errors import CrosswindError, InvalidInput


@pytest.fixture(scope="module")
def planted(simulated):
    """Noise-free returns of half-lives 90 s and 1500 s in 60 s buckets, neither of them a default."""
    return simulated(names=3, rows=800, days=2, half_lives_s=(90.0, 1500.0), seed=4)


def searching(events, lives, ridge: float = 0.5, **kw):
    start = make_dictionary("exponential", 60.0, lives)
    fit = CrossImpact(half_lives_s=lives, ridge=ridge, tol=1e-10, **kw).fit(events)
    sample = Sample.of(events, events.names)
    return sample, start, fit.fitted_.problem


def test_slopes_of_the_regressors_match_finite_differences() -> None:
    u = np.random.default_rng(0).standard_normal((40, 2))
    lives = np.array([50.0, 700.0, np.inf])
    slopes = rate_slopes(make_dictionary("exponential", 60.0, lives), u)
    step = 1e-6
    for m in range(3):
        if math.isinf(lives[m]):
            np.testing.assert_array_equal(slopes[:, 2 * m : 2 * m + 2], 0.0)
            continue
        up, down = lives.copy(), lives.copy()
        up[m], down[m] = lives[m] * math.exp(step), lives[m] * math.exp(-step)
        Z = [make_dictionary("exponential", 60.0, side).regressors(u) for side in (up, down)]
        numeric = (Z[0] - Z[1])[:, 2 * m : 2 * m + 2] / (2 * step)
        np.testing.assert_allclose(slopes[:, 2 * m : 2 * m + 2], numeric, atol=1e-8)


def test_gradient_of_the_projected_objective_matches_finite_differences(simulated) -> None:
    events, _ = simulated(names=3, rows=400, r2=0.2, seed=2)
    sample, start, problem = searching(events, (100.0, 900.0))
    search = _Search(sample, start, [0, 1], problem, "auto", 1e-10, 1000)
    theta = np.log(np.array([80.0, 1100.0]))
    _, gradient = search.value_and_gradient(theta)
    step = 1e-4
    for k in range(2):
        move = step * np.eye(2)[k]
        numeric = (search.value_and_gradient(theta + move)[0] - search.value_and_gradient(theta - move)[0]) / (2 * step)
        assert gradient[k] == pytest.approx(numeric, rel=1e-4, abs=1e-7)


def test_planted_half_lives_are_found_from_the_defaults(planted) -> None:
    events, truth = planted
    fit = CrossImpact(half_lives_s="fit", ridge=0.0, pool=0.0, floor=0.0, passes=80)
    start = (200.0, 5000.0)
    sample, dictionary, problem = searching(events, start, 0.0, pool=0.0, floor=0.0)
    found = fit_rates(sample, dictionary, problem, (30.0, 1e5), max_passes=80, tol=1e-10, solver_tol=1e-10)
    np.testing.assert_allclose(found.half_lives_s, (90.0, 1500.0), rtol=2e-3)
    # with a third shape to spare, the fit is as good as the truth
    fit.fit(events)
    assert fit.rate_search_ is not None
    assert fit.score(events) > 1 - 1e-5 > CrossImpact(ridge=0.0, pool=0.0, floor=0.0).fit(events).score(events)
    assert fit.model_.dictionary == fit.rate_search_.dictionary
    assert truth.dictionary != fit.model_.dictionary


def test_the_search_descends_and_stays_in_its_bounds(simulated) -> None:
    events, _ = simulated(names=3, rows=300, r2=0.05, seed=7)
    fit = CrossImpact(half_lives_s="fit", ridge=1.0, half_life_bounds_s=(100.0, 400.0)).fit(events)
    search = fit.rate_search_
    assert search is not None
    history = np.array(search.history)
    assert (np.diff(history) <= 0).all()
    assert search.passes == len(history) <= 50
    lives = np.array(search.half_lives_s)
    assert (lives >= 100.0 * (1 - 1e-9)).all()
    assert (lives <= 400.0 * (1 + 1e-9)).all()
    assert (lives[1:] / lives[:-1] >= 1.5 * (1 - 1e-6)).all()
    assert list(search.to_frame()["at_bound"]) == [min(abs(v / 100.0 - 1), abs(v / 400.0 - 1)) < 1e-6 for v in lives]
    again = CrossImpact(half_lives_s="fit", ridge=1.0, half_life_bounds_s=(100.0, 400.0)).fit(events)
    assert again.model_.matrices.tobytes() == fit.model_.matrices.tobytes()


def test_the_limit_of_passes_is_kept_and_said(planted) -> None:
    events, _ = planted
    fit = CrossImpact(half_lives_s="fit", ridge=1.0, passes=3).fit(events)
    assert fit.rate_search_ is not None
    assert fit.rate_search_.passes == 3
    assert not fit.rate_search_.converged
    one = CrossImpact(half_lives_s="fit", ridge=1.0, passes=1).fit(events)
    np.testing.assert_allclose(one.rate_search_.half_lives_s, (120.0, 1200.0, 12000.0))  # type: ignore[union-attr]


def test_permanent_modes_stay_and_their_matrices_are_refitted(planted) -> None:
    events, _ = planted
    sample, start, problem = searching(events, (300.0, np.inf))
    found = fit_rates(sample, start, problem, (30.0, 1e4))
    assert found.half_lives_s[1] == math.inf
    assert found.half_lives_s[0] != 300.0


def test_one_name_duplicated_flow_and_power_flow_end_well(simulated) -> None:
    flow = 1e6 * np.random.default_rng(0).standard_normal((300, 2))
    flow[:, 1] = flow[:, 0]
    events, _ = simulated(names=2, rows=300, r2=0.2, flow=flow)
    for part in (events, events.select(["AAA"])):
        fit = CrossImpact(half_lives_s="fit", ridge=1.0, transform="power", exponent=0.8).fit(part)
        assert fit.constraint_violations()["worst"] <= 1e-12
        assert fit.rate_search_ is not None
        assert fit.rate_search_.history[-1] <= fit.rate_search_.history[0]


def test_log_grid() -> None:
    np.testing.assert_allclose(log_grid_half_lives(1.0, 100.0, 1.0), (1.0, 10.0, 100.0))
    assert log_grid_half_lives(5.0, 5.0) == (5.0,)
    for bad in ((0.0, 1.0, 2.0), (2.0, 1.0, 2.0), (1.0, np.inf, 2.0), (1.0, 2.0, 0.0)):
        with pytest.raises(InvalidInput):
            log_grid_half_lives(*bad)


def test_log_grid_rates_span_the_longest_session(simulated) -> None:
    events, _ = simulated(names=2, rows=600, days=2, r2=0.1)
    fit = CrossImpact(half_lives_s="log-grid", ridge=1.0).fit(events)
    lives = math.log(2) / np.array(fit.model_.rates_per_s)
    np.testing.assert_allclose(lives[[0, -1]], (120.0, 300 * 60.0))
    assert fit.constraint_violations()["worst"] <= 1e-12
    assert np.allclose(np.diff(np.log(lives)), np.diff(np.log(lives))[0])


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"half_lives_s": "auto"}, "half_lives_s"),
        ({"half_lives_s": "fit", "kernel": "convex"}, "half_lives_s"),
        ({"half_lives_s": "fit", "half_life_bounds_s": (200.0, 100.0)}, "half_life_bounds_s"),
        ({"half_lives_s": "fit", "half_life_bounds_s": (100.0, 150.0)}, "half_life_bounds_s"),
        ({"half_lives_s": "fit", "passes": 0}, "passes"),
    ],
)
def test_bad_options_are_refused(simulated, kw: dict, field: str) -> None:
    events, _ = simulated(names=2, rows=200, r2=0.1)
    with pytest.raises(CrosswindError) as caught:
        CrossImpact(ridge=1.0, **kw).fit(events)
    assert caught.value.field == field


def test_shapes_without_rates_are_refused(planted) -> None:
    events, _ = planted
    sample, start, problem = searching(events, (300.0, np.inf))
    with pytest.raises(InvalidInput, match="permanent"):
        fit_rates(sample, replace(start, rates_per_s=(0.0,)), problem, (30.0, 1e4))
    with pytest.raises(InvalidInput, match="exponential"):
        fit_rates(sample, make_dictionary("convex", 60.0), problem, (30.0, 1e4))
