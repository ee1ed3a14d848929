from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.impact import (
    CrossImpact,
    Dictionary,
    ImpactModel,
    OwnFlowOLS,
    PowerFlow,
    compare_models,
    make_dictionary,
)
from crosswind.problems.impact.transforms import power_flow
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

LIVES = (120.0, 1200.0)


def bent_market(build_events, exponent: float, names: int = 3, rows: int = 600, r2: float = 1.0, seed: int = 0):
    """Events whose returns are a PSD kernel of |u|^δ with the room's own scale, and that kernel."""
    rng = np.random.default_rng(seed)
    flow = 1e6 * rng.standard_t(3, (rows, names))
    own = 1e-9 * np.exp(rng.uniform(-0.5, 0.5, names))
    K = np.stack([0.3 * np.sqrt(np.outer(own, own)) + 0.7 * np.diag(own), np.diag(own) * 0.5])
    transform = power_flow(np.vstack([flow[1 : rows // 2], flow[rows // 2 + 1 :]]), exponent)
    dictionary = Dictionary("exponential", 60.0, make_dictionary("exponential", 60.0, LIVES).rates_per_s, (), transform)
    half = rows // 2
    Z = np.vstack([dictionary.regressors(flow[:half]), dictionary.regressors(flow[half:])])
    signal = Z @ K.transpose(1, 0, 2).reshape(names, -1).T
    noise = signal.std(axis=0) * np.sqrt((1.0 - r2) / r2) * rng.standard_normal(signal.shape)
    return build_events(flow, signal + noise, days=2), K, transform


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(0, 10_000), st.floats(1e-3, 1e9))
def test_the_scale_keeps_the_second_moment_and_follows_the_unit(exponent: float, seed: int, unit: float) -> None:
    u = np.random.default_rng(seed).standard_t(3, (50, 3)) * np.array([1.0, 30.0, 0.02])
    f = power_flow(u, exponent)
    assert f is not None
    np.testing.assert_allclose((f.apply(u) ** 2).sum(axis=0), (u**2).sum(axis=0), rtol=1e-9)
    in_unit = power_flow(unit * u, exponent)
    assert in_unit is not None
    np.testing.assert_allclose(in_unit.apply(unit * u), unit * f.apply(u), rtol=1e-9)
    np.testing.assert_array_equal(f.apply(-u), -f.apply(u))
    assert (np.diff(f.apply(np.sort(u, axis=0)), axis=0) >= 0).all()


def test_the_square_root_in_closed_form() -> None:
    f = PowerFlow(0.5, (4.0, 9.0))
    np.testing.assert_allclose(f.apply(np.array([[16.0, -1.0], [0.0, 9.0]])), [[8.0, -3.0], [0.0, 9.0]])
    assert f.subset([1]).scale == (9.0,)
    assert power_flow(np.ones((3, 2)), 1.0) is None
    np.testing.assert_allclose(power_flow(np.full((5, 2), -7.0), 0.3).scale, 7.0)  # type: ignore[union-attr]


def test_noise_free_bent_returns_give_the_matrices_back(build_events) -> None:
    events, K, transform = bent_market(build_events, 0.5)
    fit = CrossImpact(half_lives_s=LIVES, ridge=0.0, floor=0.0, transform="power", exponent=0.5, tol=1e-10).fit(events)
    assert fit.model_.transform == transform
    np.testing.assert_allclose(fit.model_.matrices / K.max(), K / K.max(), atol=1e-5)
    assert fit.score(events) > 1 - 1e-9
    straight = CrossImpact(half_lives_s=LIVES, ridge=0.0, floor=0.0).fit(events)
    assert straight.score(events) < 0.95


@pytest.mark.parametrize("truth", [0.5, 1.0])
def test_held_out_blocks_find_the_planted_exponent(build_events, truth: float) -> None:
    events, _, _ = bent_market(build_events, truth, rows=1200, r2=0.3, seed=1)
    fit = CrossImpact(
        half_lives_s=LIVES, ridge=1.0, transform="power", exponent="cv", exponent_grid=(0.3, 0.5, 0.75, 1.0)
    )
    fit.fit(events)
    assert fit.exponent_ == truth
    assert fit.exponent_cv_ is not None
    assert fit.exponent_cv_.shape == (4, 3)
    assert fit.exponent_cv_.mean(axis=1).idxmax() == truth
    assert (fit.model_.transform is None) == (truth == 1.0)
    nested = fit.set_params(ridge="cv", ridge_grid=(0.3, 3.0)).fit(events)
    assert nested.exponent_ == truth
    assert nested.cv_ is not None


def test_exponent_one_is_the_linear_fit_to_the_byte(simulated) -> None:
    events, _ = simulated(names=3, r2=0.1)
    linear = CrossImpact(half_lives_s=LIVES).fit(events).model_
    power = CrossImpact(half_lives_s=LIVES, transform="power", exponent=1.0).fit(events).model_
    assert power.matrices.tobytes() == linear.matrices.tobytes()
    assert power.modes()


def test_a_bent_model_refuses_whatever_rests_on_linearity_and_survives_saving(build_events, tmp_path) -> None:
    events, _, _ = bent_market(build_events, 0.6, r2=0.2)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, transform="power", exponent=0.6).fit(events)
    model = fit.model_
    for use in (model.modes, model.admissible, lambda: model.kernel):
        with pytest.raises(InvalidInput, match="round trip always pays") as caught:
            use()
        assert caught.value.field == "transform"
        assert "linear" in str(caught.value)
    model.save(tmp_path / "model.npz")
    again = ImpactModel.load(tmp_path / "model.npz")
    assert again.transform == model.transform
    assert again.matrices.tobytes() == model.matrices.tobytes()
    part = model.subset(["CCC", "AAA"])
    assert part.transform is not None
    assert part.transform.scale == (model.transform.scale[2], model.transform.scale[0])  # type: ignore[union-attr]
    assert model.diagonal().transform == model.transform


def test_the_table_says_that_a_bent_model_is_not_admissible(build_events) -> None:
    events, _, _ = bent_market(build_events, 0.6, r2=0.2)
    bent = CrossImpact(half_lives_s=LIVES, ridge=1.0, transform="power", exponent=0.6)
    models = {"bent": bent, "own": OwnFlowOLS(half_lives_s=LIVES)}
    table = compare_models(models, events.on(events.days[0]), events.on(events.days[1]))
    assert list(table["admissible"]) == [False, models["own"].model_.admissible().admissible]
    assert table.loc["bent", "error"] == ""


def test_prediction_uses_the_scale_of_the_fit_and_is_causal(build_events) -> None:
    events, _, _ = bent_market(build_events, 0.5, r2=0.2)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0, transform="power", exponent=0.5).fit(events)
    whole = fit.predict(events)
    pd.testing.assert_frame_equal(whole.loc[events.on(events.days[1]).index], fit.predict(events.on(events.days[1])))


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"transform": "log"}, "transform"),
        ({"transform": "power", "exponent": 0.0}, "exponent"),
        ({"transform": "power", "exponent": 1.5}, "exponent"),
        ({"transform": "power", "exponent": "best"}, "exponent"),
        ({"transform": "power", "exponent": "cv", "exponent_grid": ()}, "exponent_grid"),
        ({"transform": "power", "exponent": "cv", "folds": 1}, "folds"),
    ],
)
def test_bad_options_are_refused(simulated, kw: dict, field: str) -> None:
    events, _ = simulated(names=2, rows=100)
    with pytest.raises(CrosswindError) as caught:
        CrossImpact(half_lives_s=LIVES, ridge=1.0, **kw).fit(events)
    assert caught.value.field == field


def test_bad_transforms_are_refused() -> None:
    for exponent, scale in ((1.0, (1.0,)), (0.5, ()), (0.5, (0.0,)), (0.5, (np.inf,))):
        with pytest.raises(InvalidInput):
            PowerFlow(exponent, scale)
    with pytest.raises(InvalidInput, match="2 names"):
        PowerFlow(0.5, (1.0, 2.0)).apply(np.ones((3, 3)))
    with pytest.raises(DataGap, match="column 1"):
        power_flow(np.array([[1.0, 0.0], [2.0, 0.0]]), 0.5)
    with pytest.raises(InvalidInput, match="scale per name"):
        ImpactModel(("A",), np.zeros(1), np.ones((1, 1, 1)), "instantaneous", transform=PowerFlow(0.5, (1.0, 1.0)))
