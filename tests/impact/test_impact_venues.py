from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import CrossImpact, VenueEvents, VenueImpact
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)


@pytest.fixture(scope="module")
def market(build_events):
    """Venues → (flow by venue with planted weights 1.5 and 0.5 of equal shares, events, K)."""

    def make(theta=(1.5, 0.5), names: int = 3, rows: int = 800, r2: float = 1.0, seed: int = 0, days: int = 2):
        from crosswind.problems.impact import make_dictionary

        rng = np.random.default_rng(seed)
        flows = 1e6 * rng.standard_normal((len(theta), rows, names))
        share = np.abs(flows).sum(axis=(1, 2)) / np.abs(flows).sum()
        weights = np.array(theta) / (share @ np.array(theta))
        own = 1e-9 * np.exp(rng.uniform(-0.5, 0.5, names))
        K = np.stack([(0.3 + 0.7 * np.eye(names)) * np.sqrt(np.outer(own, own)), 0.4 * np.diag(own)])
        u = np.einsum("v,vtn->tn", weights, flows)
        dictionary = make_dictionary("exponential", 60.0, LIVES)
        step = rows // days
        Z = np.vstack([dictionary.regressors(u[d * step : (d + 1) * step]) for d in range(days)])
        signal = Z @ K.transpose(1, 0, 2).reshape(names, -1).T
        noise = signal.std(axis=0) * np.sqrt((1.0 - r2) / r2) * rng.standard_normal(signal.shape)
        events = build_events(flows.sum(axis=0), signal + noise, days=days)
        frames = {f"V{v}": pd.DataFrame(f, events.index, list(events.names)) for v, f in enumerate(flows)}
        return VenueEvents(events, frames), weights, K

    return make


def inner(**kw) -> CrossImpact:
    return CrossImpact(**({"half_lives_s": LIVES, "ridge": 0.0, "floor": 0.0, "tol": 1e-10} | kw))


def test_planted_weights_and_matrices_are_found(market) -> None:
    for theta in ((1.5, 0.5), (1.0, 0.0, 3.0)):
        events, weights, K = market(theta)
        fit = VenueImpact(inner(), limit=300, tol=1e-14).fit(events)
        np.testing.assert_allclose(fit.weights_, weights, atol=3e-3)
        np.testing.assert_allclose(fit.model_.matrices / K.max(), K / K.max(), atol=3e-3)
        assert fit.score(events) > 1 - 1e-4
        assert float(fit.weights_ @ fit.shares_) == pytest.approx(1.0, abs=1e-12)


def test_it_starts_at_the_consolidated_fit_and_only_descends(market) -> None:
    events, _, _ = market(r2=0.1, seed=3)
    fit = VenueImpact(inner(ridge=0.5)).fit(events)
    together = inner(ridge=0.5).fit(events.events)
    assert fit.history_[0] == pytest.approx(together.fitted_.repair.objective_after, rel=1e-7)
    assert (np.diff(fit.history_) <= 0).all()
    assert fit.history_[-1] < fit.history_[0] - 1e-3
    assert fit.converged_
    assert fit.constraint_violations()["worst"] <= 1e-12
    assert "V0" in fit.summary()


def test_one_venue_is_the_consolidated_fit(market) -> None:
    events, _, _ = market((1.0,), r2=0.2)
    fit = VenueImpact(inner(ridge=0.5)).fit(events)
    plain = inner(ridge=0.5).fit(events.events)
    assert fit.weights_.to_list() == pytest.approx([1.0])
    np.testing.assert_allclose(fit.model_.matrices, plain.model_.matrices, atol=1e-7 * plain.model_.matrices.max())
    np.testing.assert_allclose(fit.predict(events), plain.predict(events.events), atol=1e-12)


def test_unequal_weights_predict_better_out_of_sample(market) -> None:
    events, _, _ = market((1.8, 0.2), r2=0.2, rows=1600, seed=5)
    train, test = (events.on(d) for d in events.events.days)
    weighted = VenueImpact(inner(ridge="cv")).fit(train)
    assert weighted.estimator_.cv_ is not None
    assert weighted.score(test) > inner(ridge="cv").fit(train.events).score(test.events) + 0.02
    assert weighted.score_by_name(test, 300.0).index.to_list() == list(events.events.names)


def test_sessions_join_and_prediction_is_causal(market) -> None:
    events, _, _ = market(r2=0.3)
    sessions = [events.on(d) for d in events.events.days]
    whole, joined = VenueImpact(inner(ridge=1.0)).fit(events), VenueImpact(inner(ridge=1.0)).fit(sessions)
    assert whole.model_.matrices.tobytes() == joined.model_.matrices.tobytes()
    alone = whole.predict(sessions[1])
    pd.testing.assert_frame_equal(whole.predict(events).loc[alone.index], alone)
    flows = {v: f.copy() for v, f in sessions[1].flows.items()}
    base = sessions[1].events
    late = base.index >= base.index[200]
    for f in flows.values():
        f.loc[late] = 0.0
    calm = sum(flows.values())
    poisoned = VenueEvents(replace(base, flow=calm), flows)
    pd.testing.assert_frame_equal(whole.predict(poisoned)[~late], alone[~late])


def test_a_model_for_trades_at_a_fixed_mix(market) -> None:
    events, _, _ = market(r2=0.3)
    fit = VenueImpact(inner(ridge=1.0)).fit(events)
    np.testing.assert_allclose(fit.at_mix(fit.shares_.to_dict()).matrices, fit.model_.matrices)
    only = fit.at_mix({"V0": 1.0})
    np.testing.assert_allclose(only.matrices, fit.model_.matrices * fit.weights_["V0"])
    assert only.modes()
    for bad in ({"V0": 0.5}, {"V9": 1.0}, {"V0": 1.5, "V1": -0.5}):
        with pytest.raises(InvalidInput, match="shares of the venues"):
            fit.at_mix(bad)


def test_a_trader_who_picks_venues_sees_an_indefinite_form() -> None:
    """The reason for `at_mix`: (Σu)'K(Σθu) is indefinite in the venues' flows whenever weights differ."""
    K = np.array([[1.0, 0.3], [0.3, 1.0]])
    for theta in ((1.0, 1.0), (1.2, 0.8)):
        half = 0.5 * (np.add.outer(theta, theta))
        low = np.linalg.eigvalsh(np.kron(half, K))[0]
        assert (low < -1e-6) == (theta[0] != theta[1])


def test_venues_read_apart_are_joined(market, build_events) -> None:
    rng = np.random.default_rng(0)
    flow = 1e6 * rng.standard_normal((3, 200, 2))
    returns = 1e-3 * rng.standard_normal((200, 2))
    parts = {v: build_events((k + 1.0) * flow[k], returns, days=2) for k, v in enumerate(("X", "Y", "Z"))}
    joined = VenueEvents.join(parts)
    pd.testing.assert_frame_equal(joined.events.flow, sum(p.flow for p in parts.values()))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(joined.events.mid, parts["Z"].mid)
    assert joined.venues == ("X", "Y", "Z")
    assert joined.shares().idxmax() == "Z"
    short = dict(parts, Y=parts["Y"].on(parts["Y"].days[0]))
    assert len(VenueEvents.join(short).events.index) == 100
    assert VenueEvents.join(parts, mid_of="X").events.mid.equals(parts["X"].mid)
    with pytest.raises(InvalidInput, match="names"):
        VenueEvents.join(dict(parts, Y=parts["Y"].select(["AAA"])))
    with pytest.raises(InvalidInput, match="unknown venue"):
        VenueEvents.join(parts, mid_of="Q")
    with pytest.raises(DataGap, match="in common"):
        VenueEvents.join({"X": parts["X"].on(parts["X"].days[0]), "Y": parts["Y"].on(parts["Y"].days[1])})
    with pytest.raises(InvalidInput, match="no venues"):
        VenueEvents.join({})


def test_malformed_venues_are_refused(market) -> None:
    events, _, _ = market(r2=0.3, rows=200)
    base, flows = events.events, dict(events.flows)
    with pytest.raises(InvalidInput, match="add up"):
        VenueEvents(base, {"V0": flows["V0"]})
    with pytest.raises(InvalidInput, match="axes"):
        VenueEvents(base, dict(flows, V1=flows["V1"].iloc[1:]))
    with pytest.raises(InvalidInput, match="finite"):
        VenueEvents(base, dict(flows, V1=flows["V1"] * np.nan))
    with pytest.raises(InvalidInput, match="no venues"):
        VenueEvents(base, {})
    dead = VenueEvents(base, dict(flows, V2=0.0 * flows["V1"]))
    with pytest.raises(InvalidInput, match="V2"):
        VenueImpact(inner(ridge=1.0)).fit(dead)
    with pytest.raises(InvalidInput, match="VenueEvents"):
        VenueImpact().fit(base)  # type: ignore[arg-type]
    fit = VenueImpact(inner(ridge=1.0)).fit(events)
    with pytest.raises(DataGap, match="V1"):
        fit.predict(VenueEvents(base, {"V0": base.flow}))


def test_options_that_read_rows_again_are_refused(market) -> None:
    events, _, _ = market(r2=0.3, rows=200)
    for kw in ({"loss": "huber"}, {"transform": "power"}, {"half_lives_s": "fit"}):
        with pytest.raises(InvalidInput, match="pass over the rows"):
            VenueImpact(inner(**kw)).fit(events)
    with pytest.raises(InvalidInput, match="step"):
        VenueImpact(limit=0).fit(events)
    with pytest.raises(InvalidInput, match="not fitted"):
        VenueImpact().predict(events)


def test_duplicated_names_and_identical_venues_end_well(market) -> None:
    """Two venues with the same flow cannot be told apart: any weights predict the same."""
    events, _, _ = market(r2=0.3)
    half = dict.fromkeys(("A", "B"), 0.5 * events.events.flow)
    fit = VenueImpact(inner(ridge=1.0)).fit(VenueEvents(events.events, half))
    assert np.isfinite(fit.weights_).all()
    assert float(fit.weights_.mean()) == pytest.approx(1.0)
    plain = inner(ridge=1.0).fit(events.events)
    np.testing.assert_allclose(fit.predict(VenueEvents(events.events, half)), plain.predict(events.events), atol=1e-7)


def test_parameters_reach_the_estimator() -> None:
    fit = VenueImpact(CrossImpact(ridge=1.0))
    assert fit.get_params()["estimator__ridge"] == 1.0
    assert fit.set_params(estimator__ridge=2.0, tol=1e-6) is fit
    assert fit.estimator is not None
    assert (fit.estimator.ridge, fit.tol) == (2.0, 1e-6)
    assert VenueImpact().set_params(estimator__ridge=3.0).estimator.ridge == 3.0  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="weights"):
        fit.set_params(weights=1.0)
