from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.admissibility import kernel_cost
from crosswind.problems.impact import ImpactModel
from crosswind.problems.impact.plots import plot_decay, plot_matrix
from crosswind.solvers.errors import DataGap, InvalidInput

NAMES = ("A", "B", "C")
BASE = np.array([[1.0, 0.3, 0.1], [0.3, 2.0, 0.2], [0.1, 0.2, 1.5]]) * 1e-9


@pytest.fixture
def model() -> ImpactModel:
    return ImpactModel(NAMES, np.array([0.01, 0.001]), np.stack([BASE, 0.5 * BASE]), "exponential", 10.0)


def lag_model(family: str) -> ImpactModel:
    return ImpactModel(NAMES, np.full(2, np.nan), np.stack([BASE, 0.5 * BASE]), family, 10.0, (0, 3))  # type: ignore[arg-type]


def test_impact_is_the_sum_over_modes(model: ImpactModel) -> None:
    h = np.array([0.0, 70.0])
    expected = np.exp(-0.01 * h)[:, None, None] * BASE + 0.5 * np.exp(-0.001 * h)[:, None, None] * BASE
    np.testing.assert_allclose(model.impact(h), expected, rtol=1e-13)
    np.testing.assert_allclose(model.immediate, 1.5 * BASE)
    np.testing.assert_allclose(model.kernel(h), expected, rtol=1e-12)


@pytest.mark.parametrize("family", ["monotone", "convex"])
def test_sampled_kernel_is_the_model_on_and_between_buckets(family: str) -> None:
    model = lag_model(family)
    h = np.array([0.0, 10.0, 15.0, 30.0, 40.0, 200.0])
    np.testing.assert_allclose(model.kernel(h), model.impact(h), atol=1e-24)
    np.testing.assert_array_equal(model.impact(h)[-1], 0.0)


def test_modes_charge_what_the_kernel_charges(model: ImpactModel) -> None:
    """u_t'Σ_m K_m ρ z^m_{t−1} + ½u_t'K_m u_t over the Markov states equals ½ΣΣ u_s'G u_t."""
    rng = np.random.default_rng(0)
    times = np.array([0.0, 5.0, 30.0, 31.0])
    u = rng.standard_normal((4, 3)) * 1e6
    total = 0.0
    for mode in model.modes():
        z = np.array(mode.state)
        for t in range(4):
            decay = np.exp(-mode.rate_per_s * (times[t] - times[t - 1])) if t else 1.0
            total += u[t] @ mode.matrix @ (decay * z) + 0.5 * u[t] @ mode.matrix @ u[t]
            z = decay * z + u[t]
    assert total == pytest.approx(kernel_cost(model.impact, times, u), rel=1e-12)


def test_modes_refuse_what_must_not_be_scheduled_on(model: ImpactModel) -> None:
    with pytest.raises(InvalidInput, match="Markov"):
        lag_model("convex").modes()
    lopsided = BASE.copy()
    lopsided[0, 1] *= 1.5
    for bad in (lopsided, BASE - 1.2e-9 * np.eye(3)):
        held = ImpactModel(NAMES, np.array([0.01]), bad[None], "exponential", 10.0)
        with pytest.raises(InvalidInput, match="semidefinite"):
            held.modes()
        with pytest.raises(InvalidInput):
            _ = held.kernel


def test_subset_and_diagonal(model: ImpactModel) -> None:
    part = model.subset(["C", "A"])
    assert part.names == ("C", "A")
    np.testing.assert_array_equal(part.matrices[0], BASE[np.ix_([2, 0], [2, 0])])
    diagonal = model.diagonal()
    np.testing.assert_array_equal(diagonal.matrices[1], 0.5 * np.diag(np.diag(BASE)))
    assert diagonal.cross_share() == 0.0
    assert diagonal.condition_number == pytest.approx(1.0)
    with pytest.raises(DataGap, match="Z"):
        model.subset(["Z"])


def test_violations_are_measured_one_by_one(model: ImpactModel) -> None:
    assert model.constraint_violations(floor=0.0, corr_bound=0.6)["worst"] == 0.0
    corr = 0.3 / np.sqrt(2.0)
    tight = model.constraint_violations(corr_bound=corr - 0.01)
    assert tight["correlation"] == pytest.approx(0.01, rel=1e-6)
    assert tight["psd"] == tight["floor"] == tight["asymmetry"] == 0.0
    low = model.constraint_violations(floor=pd.Series({"A": 0.6e-9, "B": 0.0, "C": 0.0}))
    # K_2 has 0.5e-9 for A where the floor is 0.6e-9; the scale is the largest scaled diagonal, 1/3
    assert low["floor"] == pytest.approx((0.6 - 0.5) / 1.5 / (1 / 3), rel=1e-9)
    bent = ImpactModel(NAMES, np.zeros(1), (BASE - 1.2e-9 * np.eye(3))[None], "instantaneous", 10.0)
    assert bent.constraint_violations()["psd"] > 0.01
    lopsided = BASE + np.triu(np.full((3, 3), 1e-10), 1)
    assert (
        ImpactModel(NAMES, np.zeros(1), lopsided[None], "instantaneous", 1.0).constraint_violations()["asymmetry"] > 0
    )


def test_admissibility(model: ImpactModel) -> None:
    assert model.admissible().admissible
    assert ImpactModel(NAMES, np.zeros(1), BASE[None], "instantaneous", 10.0).admissible().admissible
    assert lag_model("convex").admissible().admissible
    step = ImpactModel(NAMES, np.full(1, np.nan), BASE[None], "monotone", 10.0, (3,))
    found = step.admissible()
    assert not found.admissible
    assert kernel_cost(step.impact, found.times_s, found.worst_round_trip) == pytest.approx(-found.profit)
    loop = np.array([[1.0, 0.8], [-0.8, 1.0]])[None] * 1e-9  # antisymmetric part: a loop pays
    assert not ImpactModel(("A", "B"), np.array([0.01]), loop, "exponential", 10.0).admissible().admissible


def test_cross_share_of_a_basket(model: ImpactModel) -> None:
    x = pd.Series({"A": 1e6, "B": -2e6})
    G = model.subset(["A", "B"]).immediate
    total = float(x.to_numpy() @ G @ x.to_numpy())
    assert model.cross_share(x) == pytest.approx(2 * G[0, 1] * -2e12 / total)
    assert model.cross_share(x) < 0 < model.cross_share()
    assert np.isnan(model.cross_share(pd.Series({"A": 0.0})))


def test_condition_number_ignores_liquidity_and_is_infinite_when_singular(model: ImpactModel) -> None:
    D = np.diag([1.0, 100.0, 0.01])
    other = ImpactModel(NAMES, model.rates_per_s, D @ model.matrices @ D, "exponential", 10.0)
    assert other.condition_number == pytest.approx(model.condition_number, rel=1e-9)
    assert ImpactModel(NAMES, np.zeros(1), np.ones((1, 3, 3)), "instantaneous", 1.0).condition_number == float("inf")


@pytest.mark.parametrize("family", ["exponential", "convex"])
def test_saved_models_come_back_bit_for_bit(model: ImpactModel, family: str, tmp_path) -> None:
    held = model if family == "exponential" else lag_model(family)
    held.save(tmp_path / "model.npz")
    back = ImpactModel.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(back.matrices, held.matrices)
    np.testing.assert_array_equal(back.rates_per_s, held.rates_per_s)
    assert (back.names, back.family, back.bucket_s, back.lags) == (held.names, held.family, held.bucket_s, held.lags)


def test_loading_what_is_not_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(DataGap):
        ImpactModel.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(InvalidInput, match="not a saved"):
            ImpactModel.load(tmp_path / name)


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"names": ("A", "A", "B")}, "names"),
        ({"names": ()}, "names"),
        ({"matrices": np.zeros((2, 2, 2))}, "matrices"),
        ({"matrices": np.full((2, 3, 3), np.nan)}, "matrices"),
        ({"rates_per_s": np.array([0.1])}, "matrices"),
        ({"rates_per_s": np.array([0.1, -0.1])}, "half_lives_s"),
        ({"family": "instantaneous"}, "rates_per_s"),
        ({"family": "convex"}, "lags"),
        ({"bucket_s": -1.0}, "bucket_s"),
    ],
)
def test_malformed_models_are_refused(model: ImpactModel, kw: dict, field: str) -> None:
    values = {
        "names": NAMES,
        "rates_per_s": model.rates_per_s,
        "matrices": model.matrices,
        "family": "exponential",
        "bucket_s": 10.0,
    }
    with pytest.raises(InvalidInput) as caught:
        ImpactModel(**(values | kw))
    assert caught.value.field == field


def test_matrices_are_read_only_copies(model: ImpactModel) -> None:
    with pytest.raises(ValueError, match="read-only"):
        model.matrices[0, 0, 0] = 1.0


def test_views_on_the_model(model: ImpactModel) -> None:
    frame = model.to_frame()
    assert frame.shape == (6, 3)
    assert frame.loc[("half-life 69.31 s", "A"), "B"] == BASE[0, 1]
    assert "bps per million USD" in model.summary()
    assert "<table" in model._repr_html_()


def test_figures(model: ImpactModel) -> None:
    sectors = pd.Series({"A": "z", "B": "y", "C": "z"})
    heat = plot_matrix(model, sectors)
    assert list(heat.data[0].x) == ["B", "A", "C"]
    np.testing.assert_allclose(np.sum(heat.data[1].y), 3.0)  # trace of the correlation form
    assert len(model.plot().data) == 2
    decay = plot_decay(model, horizon_s=100.0, points=11)
    median = decay.data[2]
    first = model.impact([float(median.x[0])])[0]
    np.testing.assert_allclose(median.y[0], 1e10 * np.median(np.diag(first)))
    assert len(decay.data) == 4
    for other in (lag_model("monotone"), ImpactModel(("A",), np.zeros(1), np.ones((1, 1, 1)), "instantaneous", 1.0)):
        assert len(plot_decay(other).data) == (4 if len(other.names) > 1 else 3)
