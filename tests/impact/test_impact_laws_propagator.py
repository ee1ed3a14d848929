"""Propagators: recovery within intervals, the two routes, admissibility, manipulation, conversion, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from crosswind.problems.impact import ImpactModel, OwnFlowOLS
from crosswind.problems.impact.laws import PropagatorLaw
from crosswind.problems.impact.laws.decays import concave, filtered, power_decay, power_slopes, taps
from crosswind.problems.impact.laws.manipulation import two_phase_cost
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput

DAYS, PER_DAY = 15, 400


@pytest.fixture(scope="module")
def world(build_events: Callable[..., MarketEvents]) -> Callable[..., tuple[MarketEvents, np.ndarray]]:
    """Persistent flow and returns of a power-law propagator; returns the events and G [return per currency]."""

    def draw(
        seed: int = 0,
        r2: float = 0.2,
        exponent: float = 0.45,
        scale_s: float = 120.0,
        delta: float = 1.0,
        names: int = 1,
    ) -> tuple[MarketEvents, np.ndarray]:
        rng = np.random.default_rng(seed)
        rows = DAYS * PER_DAY
        own = lfilter([1.0], [1.0, -0.6], rng.standard_normal((rows, names)), axis=0)
        u = 1e6 * own * np.exp(0.3 * rng.standard_normal((rows, names)))
        scale = np.sqrt((u**2).mean(axis=0))
        session = np.repeat(np.arange(DAYS), PER_DAY)
        G = 1e-3 * power_decay(np.arange(PER_DAY) * 60.0, scale_s, exponent)
        signal = np.column_stack(
            [filtered(concave(u[:, i], scale[i], delta), session, G[:, None])[:, 0] for i in range(names)]
        )
        noise = signal.std(axis=0) * np.sqrt((1 - r2) / r2) if r2 < 1 else 0.0
        return build_events(u, signal + noise * rng.standard_normal(signal.shape), DAYS), G / scale[0]

    return draw


# -- recovery ---------------------------------------------------------------------------------------------------------
def test_power_law_parameters_lie_within_their_intervals(world: Any) -> None:
    inside, total = 0, 0
    for seed in range(8):
        events, G = world(seed)
        fit = PropagatorLaw(scale_s=120.0).fit(events).fits_[events.names[0]]
        for name, value in (("c", G[0]), ("gamma", 0.45)):
            row = fit.parameters.loc[name]
            inside += bool(row["lower"] <= value <= row["upper"])
            total += 1
        band = fit.to_frame()
        assert np.abs(band["G"] / G[: len(band)] - 1.0).max() < 0.35
        assert fit["gamma"] == pytest.approx(0.45, abs=0.2)
    assert inside >= 0.75 * total  # 16 intervals at 95 %: 12 or more with probability above .999


def test_scale_exponent_and_concavity_are_found_together(world: Any) -> None:
    events, G = world(3, r2=0.5, delta=0.6)
    fit = PropagatorLaw(concavity="fit").fit(events).fits_[events.names[0]]
    for name, value in (("c", G[0]), ("t0", 120.0), ("gamma", 0.45), ("delta", 0.6)):
        row = fit.parameters.loc[name]
        assert row["lower"] <= value <= row["upper"], name
        assert not row["fixed"]


def test_without_noise_every_route_is_exact(world: Any) -> None:
    events, G = world(1, r2=1.0)
    fit = PropagatorLaw().fit(events).fits_[events.names[0]]
    assert fit["t0"] == pytest.approx(120.0, rel=1e-5)
    assert fit["gamma"] == pytest.approx(0.45, rel=1e-5)
    assert fit["c"] == pytest.approx(G[0], rel=1e-6)
    assert fit.r2 == pytest.approx(1.0, abs=1e-9)
    bent, _ = world(1, r2=1.0, delta=0.7)
    assert PropagatorLaw(concavity="fit").fit(bent).fits_[bent.names[0]]["delta"] == pytest.approx(0.7, rel=1e-4)


@pytest.mark.parametrize("method", ["least_squares", "response"])
def test_a_free_propagator_is_found_by_both_routes(world: Any, method: str) -> None:
    inside, total = 0, 0
    for seed in range(4):
        events, G = world(seed, r2=0.5)
        table = PropagatorLaw("free", method, lags=(12,), seed=seed).fit(events).fits_[events.names[0]].to_frame()
        inside += int(((table["lower"] <= G[:13]) & (G[:13] <= table["upper"])).sum())
        total += 13
        np.testing.assert_allclose(table["G"], G[:13], rtol=0.25)
    assert inside >= 0.7 * total  # the lags of one sample go together


def test_the_response_route_inverts_the_response_of_white_and_coloured_flow(build_events: Any) -> None:
    """For white flow κ is the response over the variance; with colour the inversion undoes it."""
    rng = np.random.default_rng(0)
    rows = 40_000
    kappa = np.array([1.0, -0.3, -0.2, -0.1]) * 1e-9
    for phi in (0.0, 0.7):
        u = 1e6 * lfilter([1.0], [1.0, -phi], rng.standard_normal((rows, 1)), axis=0)
        r = lfilter(kappa, [1.0], u, axis=0)
        events = build_events(u, r, 1)
        law = PropagatorLaw("free", "response", lags=(8,), resamples=5).fit(events)
        wanted = np.cumsum(np.append(kappa, np.zeros(5)))
        np.testing.assert_allclose(law.fits_[events.names[0]].weights, wanted, atol=5e-3 * kappa[0])


@pytest.mark.parametrize("method", ["least_squares", "response"])
def test_exponentials_are_found_and_equal_the_own_flow_fit(simulated: Any, method: str) -> None:
    events, truth = simulated(names=1, rows=6000, days=10, r2=0.6, seed=2)
    lives = (120.0, 1200.0)
    lags = (100,)
    law = PropagatorLaw("exponential", method, half_lives_s=lives, lags=lags).fit(events)
    fit = law.fits_[events.names[0]]
    for m in range(2):
        row = fit.parameters.iloc[m]
        assert row["lower"] <= truth.matrices[m, 0, 0] <= row["upper"]
    if method == "least_squares":
        own = OwnFlowOLS(kernel="exponential", half_lives_s=lives).fit(events).model_
        np.testing.assert_allclose(fit.weights, own.matrices[:, 0, 0], rtol=1e-5)
        np.testing.assert_allclose(law.to_impact_model().matrices, own.matrices, rtol=1e-5)


def test_factors_are_taken_out_first_as_in_the_other_fits(simulated: Any) -> None:
    events, _ = simulated(names=2, rows=3000, days=5, r2=0.6, factors=2, seed=6)
    lives = (120.0, 1200.0)
    law = PropagatorLaw("exponential", half_lives_s=lives, resamples=2).fit(events)
    own = OwnFlowOLS(kernel="exponential", half_lives_s=lives).fit(events)
    assert law.loadings_ is not None
    np.testing.assert_allclose(law.loadings_, own.loadings_, rtol=1e-10)
    np.testing.assert_allclose(law.score_by_name(events), own.score_by_name(events), rtol=1e-6)
    raw = PropagatorLaw("exponential", half_lives_s=lives, resamples=2, defactor=False).fit(events)
    assert raw.loadings_ is None
    assert raw.score(events) < law.score(events)
    with pytest.raises(DataGap, match="factor"):
        law.score(replace(events, factors=None))


def test_the_convex_decay_fits_any_convex_kernel(simulated: Any) -> None:
    events, truth = simulated(names=1, rows=8000, days=10, r2=0.8, family="convex", lags=(0, 2, 6), seed=3)
    law = PropagatorLaw("convex", lags=(0, 2, 6)).fit(events)
    fit = law.fits_[events.names[0]]
    np.testing.assert_allclose(fit.kernel(np.arange(7) * 60.0), truth.impact(np.arange(7) * 60.0)[:, 0, 0], rtol=0.1)
    model = law.to_impact_model()
    assert (model.family, model.lags) == ("convex", (0, 2, 6))
    np.testing.assert_allclose(model.impact(fit.lags_s)[:, 0, 0], fit.kernel(fit.lags_s), rtol=1e-12)
    assert model.admissible().admissible


# -- pieces -----------------------------------------------------------------------------------------------------------
def test_derivatives_and_filter() -> None:
    h, step = np.arange(6) * 30.0, 1e-6
    by_scale, by_gamma = power_slopes(h, 90.0, 0.6)
    up, down = power_decay(h, 90.0 * np.exp(step), 0.6), power_decay(h, 90.0 * np.exp(-step), 0.6)
    np.testing.assert_allclose(by_scale, (up - down) / (2 * step), atol=1e-9)
    up, down = power_decay(h, 90.0, 0.6 + step), power_decay(h, 90.0, 0.6 - step)
    np.testing.assert_allclose(by_gamma, (up - down) / (2 * step), atol=1e-9)
    G = power_decay(h, 90.0, 0.6)
    np.testing.assert_allclose(np.cumsum(taps(G)), G)
    f = np.array([1.0, 0.0, -2.0, 1.0, 3.0, 0.0])
    session = np.array([0, 0, 0, 0, 1, 1])
    found = filtered(f, session, G[:, None])[:, 0]
    kappa = taps(G)
    wanted = [f[0] * kappa[0], f[0] * kappa[1], f[0] * kappa[2] + f[2] * kappa[0],
              f[0] * kappa[3] + f[2] * kappa[1] + f[3] * kappa[0], f[4] * kappa[0], f[4] * kappa[1]]  # fmt: skip
    np.testing.assert_allclose(found, wanted, atol=1e-14)


def test_prediction_knows_no_future_and_scores(world: Any) -> None:
    events, _ = world(2, names=2)
    train, test = events.on(events.days[:10]), events.on(events.days[10:])
    law = PropagatorLaw(scale_s=120.0).fit(train)
    whole = law.predict(test)
    cut = test.between(test.index[0] - pd.Timedelta("1h"), test.index[500])
    pd.testing.assert_frame_equal(law.predict(cut), whole.iloc[: len(cut.index)], rtol=0, atol=1e-15)
    scores = law.score_by_name(test)
    assert (scores > 0.1).all()
    assert law.score(test) == pytest.approx(scores.mean())
    np.testing.assert_allclose(law.score_by_name(train), [f.r2 for f in law.fits_.values()], rtol=1e-10)


# -- manipulation -----------------------------------------------------------------------------------------------------
def test_linear_decays_that_are_convex_admit_no_round_trip(world: Any) -> None:
    events, _ = world(0)
    for decay in ("power", "exponential", "convex"):
        fit = PropagatorLaw(decay, resamples=3).fit(events).fits_[events.names[0]]
        assert fit.convex
        verdict = fit.manipulation()
        assert verdict.free is True
        assert verdict.worst_bps > 0
        assert fit.admissibility().admissible
    free = PropagatorLaw("free", lags=(20,), resamples=3).fit(events).fits_[events.names[0]]
    assert not free.convex
    assert free.manipulation().free is not True


def test_concave_impact_is_flagged_and_a_round_trip_is_shown_to_pay(world: Any) -> None:
    events, _ = world(0, delta=0.5, exponent=0.3)
    fit = PropagatorLaw(concavity=0.5, scale_s=120.0).fit(events).fits_[events.names[0]]
    verdict = fit.manipulation()
    assert verdict.free is False
    assert verdict.exponents_allow is False  # γ + δ < 1
    assert "< 1" in verdict.reason
    assert verdict.worst_bps < 0
    assert verdict.worst_lengths[0] > verdict.worst_lengths[1]  # drift the price up slowly, sell in one block
    assert "round trips pay" in fit.summary()
    steep, _ = world(0, delta=0.8, exponent=0.6, r2=0.9)
    allowed = PropagatorLaw(concavity=0.8, scale_s=120.0).fit(steep).fits_[steep.names[0]].manipulation()
    assert allowed.exponents_allow is True
    assert allowed.free is False  # the decay is finite at 0 all the same


def test_two_phase_cost_is_half_the_quadratic_form_when_linear() -> None:
    from crosswind.optim.admissibility import kernel_cost

    def kernel(h: Any) -> np.ndarray:
        return np.exp(-np.asarray(h) / 300.0) * 1e-9

    found = two_phase_cost(kernel, 1e6, 1.0, 60.0, 3, 2)
    u = np.array([10e6 / 3] * 3 + [-5e6] * 2)[:, None]
    wanted = kernel_cost(lambda h: kernel(h)[:, None, None], np.arange(5) * 60.0, u) / np.abs(u).sum()
    assert found == pytest.approx(wanted, rel=1e-12)


# -- conversion -------------------------------------------------------------------------------------------------------
def test_a_power_law_becomes_exponentials_for_schedules(world: Any) -> None:
    events, _ = world(0, names=2)
    law = PropagatorLaw(scale_s=120.0).fit(events)
    model = law.to_impact_model(horizon_s=20_000.0)
    assert isinstance(model, ImpactModel)
    h = np.geomspace(1.0, 20_000.0, 50)
    for i, fit in enumerate(law.fits_.values()):
        np.testing.assert_allclose(model.impact(h)[:, i, i], fit.kernel(h), rtol=0.02, atol=0.01 * fit["c"])
    assert not model.impact(h)[:, 0, 1].any()
    assert len(model.modes()) == 12
    assert model.admissible().admissible
    with pytest.raises(InvalidInput, match="not linear"):
        PropagatorLaw(concavity=0.7, scale_s=120.0).fit(events).to_impact_model()
    with pytest.raises(InvalidInput, match="free decay"):
        PropagatorLaw("free", lags=(5,), resamples=2).fit(events).to_impact_model()


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        {"decay": "linear"},
        {"method": "magic"},
        {"concavity": 0.0},
        {"concavity": "half"},
        {"decay": "exponential", "concavity": "fit"},
        {"method": "response", "concavity": "fit"},
        {"scale_s": -1.0},
        {"resamples": 1},
        {"blocks": 2},
        {"confidence": 2.0},
        {"decay": "convex", "lags": (1, 1)},
        {"decay": "exponential", "half_lives_s": (0.0,)},
    ],
    ids=str,
)
def test_bad_parameters(world: Any, change: dict[str, Any]) -> None:
    events, _ = world(0)
    with pytest.raises(InvalidInput):
        PropagatorLaw(**change).fit(events)


def test_degenerate_data(world: Any, build_events: Any) -> None:
    events, _ = world(0, names=2)
    flow = events.flow.to_numpy().copy()
    returns = np.nan_to_num(events.returns.to_numpy())
    dead = flow.copy()
    dead[:, 1] = 0.0
    with pytest.raises(DataGap, match="no flow"):
        PropagatorLaw().fit(build_events(dead, returns, DAYS))
    still = returns.copy()
    still[:, 1] = 0.0
    with pytest.raises(DataGap, match="never moves"):
        PropagatorLaw().fit(build_events(flow, still, DAYS))
    assert PropagatorLaw(names=[events.names[0]]).fit(build_events(flow, still, DAYS)).names_ == (events.names[0],)
    with pytest.raises(DataGap, match="too few"):
        PropagatorLaw().fit(events.between(events.index[0], events.index[200]))
    with pytest.raises(DataGap, match="not in the events"):
        PropagatorLaw(names=["ZZZ"]).fit(events)
    law = PropagatorLaw(scale_s=120.0).fit(events)
    with pytest.raises(InvalidInput, match="bucket_s"):
        law.predict(events.resample(120.0))
    with pytest.raises(InvalidInput, match="not fitted"):
        PropagatorLaw().predict(events)


def test_pure_noise_has_intervals_that_say_so(build_events: Any) -> None:
    rng = np.random.default_rng(0)
    events = build_events(1e6 * rng.standard_normal((4000, 1)), 1e-3 * rng.standard_normal((4000, 1)), 10)
    row = PropagatorLaw(scale_s=120.0).fit(events).to_frame().loc[(events.names[0], "c")]
    assert row["lower"] < 0 < row["upper"]
    band = PropagatorLaw("free", lags=(5,)).fit(events).fits_[events.names[0]].to_frame()
    assert ((band["lower"] < 0) & (band["upper"] > 0)).mean() > 0.5


def test_same_seed_same_bytes_and_what_is_shown(world: Any) -> None:
    events, _ = world(0)
    for decay in ("power", "exponential", "convex", "free"):
        one, two = (PropagatorLaw(decay, lags=(1, 12), resamples=10, scale_s=120.0).fit(events) for _ in range(2))
        assert one.to_frame().equals(two.to_frame())
        fit = one.fits_[events.names[0]]
        assert fit.to_frame().equals(two.fits_[events.names[0]].to_frame())
        assert len(fit.plot().data) == 2
        assert "manipulation" in one.summary()
        assert "<pre>" in fit._repr_html_()
    assert one.get_params()["decay"] == "free"
