"""Multipliers by state: the program against cvxpy, recovery of known multipliers, worlds with regimes, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.impact import CrossImpact, ImpactModel, OwnFlowOLS, truth_model
from crosswind.problems.impact.regimes import FEATURES, LiveScale, RegimeModel, RegimeScales, market_state
from crosswind.problems.impact.regimes.model import bucket_codes, scaled
from crosswind.problems.impact.regimes.program import Layout, ScaleMoments, solve_scales
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput


# -- the program ------------------------------------------------------------------------------------------------------
def moments(layout: Layout, rng: np.random.Generator, rows: int = 400, noise: float = 1.0) -> ScaleMoments:
    codes = {f: rng.integers(-1, n, rows) for f, n in layout.counts.items()}
    x = layout.rows(codes, rows)
    y = rng.standard_normal(rows)
    truth = np.append(1.0, 0.6 * rng.standard_normal(layout.size - 1))
    r = (x @ truth) * y + noise * rng.standard_normal(rows)
    return ScaleMoments.of(x, y**2, r * y)


@pytest.mark.parametrize("seed", range(6))
def test_the_program_equals_cvxpy(seed: int) -> None:
    import cvxpy as cp

    rng = np.random.default_rng(seed)
    layout = Layout({"spread": 4, "depth": 3, "crowding": 5}, {"spread": 1, "depth": -1, "crowding": 0})
    found = moments(layout, rng)
    shrinkage, bounds = [0.0, 0.01, 0.3][seed % 3], [(0.25, 4.0), (0.8, 1.2)][seed % 2]
    theta = solve_scales(found, layout, shrinkage, bounds)
    A, g = found.A / found.energy, found.g / found.energy
    x = cp.Variable(layout.size)
    one = np.eye(layout.size)[0]
    root = np.linalg.cholesky(A + 1e-9 * np.eye(len(A)))
    loss = 0.5 * cp.sum_squares(root.T @ x) - g @ x + 0.5 * shrinkage * cp.sum_squares(x - one)
    rows, parts = [], {f: x[layout.slice_of(f)] for f in layout.counts}
    weight = np.diag(A)
    for f, e in parts.items():
        rows.append(weight[layout.slice_of(f)] @ e == 0)
        if layout.directions[f]:
            rows.append(layout.directions[f] * cp.diff(e) >= 0)
    rows.append(x[0] + sum(cp.max(e) for e in parts.values()) <= bounds[1])
    rows.append(x[0] + sum(cp.min(e) for e in parts.values()) >= bounds[0])
    problem = cp.Problem(cp.Minimize(loss), rows)
    problem.solve(solver=cp.CLARABEL)

    def value(v: np.ndarray) -> float:
        return float(0.5 * v @ A @ v - g @ v + 0.5 * shrinkage * (v - one) @ (v - one))

    assert abs(value(theta) - problem.value) < 1e-6 * (1 + abs(problem.value))
    if shrinkage:
        np.testing.assert_allclose(theta, x.value, atol=2e-4)
    high = theta[0] + sum(theta[layout.slice_of(f)].max() for f in layout.counts)
    low = theta[0] + sum(theta[layout.slice_of(f)].min() for f in layout.counts)
    assert bounds[0] - 1e-12 <= low
    assert high <= bounds[1] + 1e-12
    assert (np.diff(theta[layout.slice_of("spread")]) >= 0).all()
    assert (np.diff(theta[layout.slice_of("depth")]) <= 0).all()


def test_shrinkage_goes_to_one() -> None:
    layout = Layout({"spread": 3}, {"spread": 0})
    found = moments(layout, np.random.default_rng(0))
    sizes = [np.linalg.norm(solve_scales(found, layout, v, (0.1, 9.0))[1:]) for v in (0.0, 0.1, 1.0, 100.0)]
    assert sizes == sorted(sizes, reverse=True)
    np.testing.assert_array_equal(solve_scales(found, layout, np.inf, (0.1, 9.0)), [1, 0, 0, 0])
    np.testing.assert_allclose(solve_scales(found, layout, 1e6, (0.1, 9.0)), [1, 0, 0, 0], atol=1e-4)


def test_without_constraints_it_is_weighted_least_squares_by_bucket() -> None:
    layout = Layout({"crowding": 4}, {"crowding": 0})
    found = moments(layout, np.random.default_rng(3))
    known = moments(layout, np.random.default_rng(3))
    theta = solve_scales(found, layout, 0.0, (0.0, 50.0))
    # With one feature each bucket's multiplier is its own regression slope, but for the rows of unknown state.
    where = layout.slice_of("crowding")
    free = np.diag(known.A)[where]
    level = found.g[0]
    unknown_energy = found.A[0, 0] - free.sum()
    unknown_g = level - found.g[where].sum()
    # The level is tied to Σ a_b e_b = 0; the unknown rows alone fix it then, together with the energy-weighted mean.
    slopes = theta[0] + theta[where]
    gradient = free * slopes - found.g[where]
    # Stationarity with one multiplier μ: gradient_b = −μ a_b for every bucket.
    np.testing.assert_allclose(gradient / free, (gradient / free)[0], atol=1e-6 * np.abs(slopes).max())
    np.testing.assert_allclose(unknown_energy * theta[0] - unknown_g + gradient.sum(), 0.0, atol=1e-6 * found.energy)


# -- recovery ---------------------------------------------------------------------------------------------------------
def rescaled(events: MarketEvents, base: ImpactModel, scale: np.ndarray) -> MarketEvents:
    """The same market, had the impact of each bucket been ``scale`` (T,) times the base's."""
    stacked = base.matrices.transpose(1, 0, 2).reshape(len(base.names), -1)
    flow, returns = events.flow.to_numpy(), events.returns.to_numpy()
    session = events.session.to_numpy()
    mid = events.mid.to_numpy().copy()
    for day in events.days:
        rows = np.flatnonzero(session == day)
        forecast = base.dictionary.regressors(flow[rows]) @ stacked.T
        growth = 1.0 + returns[rows] + (scale[rows, None] - 1.0) * forecast
        growth[0] = 1.0
        mid[rows] = mid[rows[0]] * np.cumprod(growth, axis=0)
    return replace(events, mid=pd.DataFrame(mid, index=events.index, columns=list(events.names)))


@pytest.fixture(scope="module")
def built(simulated: Callable[..., tuple[MarketEvents, ImpactModel]]) -> Callable[..., Any]:
    """Events whose impact is scaled by a known table of spread and depth buckets, and that table."""

    def build(seed: int = 0, r2: float = 0.5, rows: int = 4000) -> tuple[MarketEvents, ImpactModel, dict[str, Any]]:
        events, base = simulated(names=3, rows=rows, days=4, r2=r2, seed=seed)
        rng = np.random.default_rng(seed + 1000)
        paths = {}
        for field, size in (("spread", 0.02), ("depth", 1e5)):
            steps = np.repeat(rng.standard_normal(rows // 25), 25)  # the state stays for 25 buckets
            paths[field] = pd.DataFrame(
                size * np.exp(0.8 * steps)[:, None] * np.ones(3), index=events.index, columns=list(events.names)
            )
        events = replace(events, **paths)
        estimator = RegimeScales(base, features=("spread", "depth"), buckets=3, shrinkage=0.0, resamples=0)
        edges = estimator.fit(events).model_.edges
        state = market_state(events, estimator.model_.norms)
        table = {"spread": np.array([-0.35, 0.0, 0.45]), "depth": np.array([0.5, -0.1, -0.3])}
        scale = np.ones(rows)
        for f, effect in table.items():
            code = bucket_codes(state[f].to_numpy(), edges[f])
            scale += np.where(code >= 0, effect[code], 0.0)
        return rescaled(events, base, scale), base, {"edges": edges, "table": table, "scale": scale}

    return build


def test_without_noise_the_multipliers_are_exact(built: Any) -> None:
    # The mid enters spread/mid and so moves the state a little: the edges of this fit are its own.
    events, base, truth = built(r2=1.0 - 1e-12)
    fit = RegimeScales(base, features=("spread", "depth"), buckets=3, shrinkage=0.0, resamples=0).fit(events)
    found = fit.model_
    for f, effect in truth["table"].items():
        np.testing.assert_allclose(np.diff(found.effects[f]), np.diff(effect), atol=0.02)
    # But for rows at the very edge of a bucket.
    assert (np.abs(fit.multipliers(events) - truth["scale"]) < 0.03).mean() > 0.97


def test_true_multipliers_lie_within_their_intervals(built: Any) -> None:
    inside, steps = 0, 0
    for seed in range(5):
        events, base, truth = built(seed=seed, r2=0.3)
        found = RegimeScales(base, features=("spread", "depth"), buckets=3, shrinkage=0.0, resamples=80, seed=seed).fit(
            events
        )
        for f, effect in truth["table"].items():
            centred = effect - np.average(effect, weights=_shares(found, events, f))
            model = found.model_
            inside += int(((model.lower[f] <= centred) & (centred <= model.upper[f])).sum())
            steps += len(effect)
            np.testing.assert_allclose(model.effects[f], centred, atol=0.25)
    assert inside >= 0.8 * steps  # 95 % intervals, 30 effects; 80 % leaves room for the sampling of the count


def _shares(fit: RegimeScales, events: MarketEvents, feature: str) -> np.ndarray:
    model = fit.model_
    code = bucket_codes(model.state(events)[feature].to_numpy(), model.edges[feature])
    energy = (fit.predict(events).div(fit.multipliers(events), axis=0) ** 2 / model.noise).sum(axis=1).to_numpy()
    return np.array([energy[code == b].sum() for b in range(len(model.effects[feature]))])


@pytest.fixture(scope="module")
def stress() -> Callable[[int, float], tuple[MarketEvents, ImpactModel]]:
    """The simulator's stress world, in which impact is multiplied while the world's regime is the stressed one."""

    def draw(seed: int, factor: float) -> tuple[MarketEvents, ImpactModel]:
        market = cw.simulate(names=4, days=6, seed=seed, world="stress", bucket_s=60.0, jumps=None)
        base = truth_model(market.truth, 60.0)
        path = np.zeros(len(market.events.index))
        for at, state in market.truth.parameters["regime_path"]:
            path[market.events.index >= pd.Timestamp(at)] = state
        assert 0.05 < path.mean() < 0.5
        return rescaled(market.events, base, np.where(path > 0, factor, 1.0)), base

    return draw


def test_a_world_whose_kernel_stays_is_left_alone(stress: Any) -> None:
    """Volatility, spread and depth change with the world's regimes, its kernel does not: the true multiplier is 1."""
    for seed in (0, 1, 2):
        events, base = stress(seed, 1.0)
        train, test = events.on(events.days[:4]), events.on(events.days[4:])
        fit = RegimeScales(base, resamples=40).fit(train)
        compared = fit.compare(test)
        assert abs(compared.gain) < 0.005
        assert compared.verdict != "scaled"
        assert np.abs(fit.multipliers(test) - 1.0).max() < 0.15
        free = RegimeScales(base, shrinkage=0.0, directions=dict.fromkeys(FEATURES, 0), resamples=60).fit(train).model_
        covered = [(free.lower[f] - 1e-9 <= 0) & (free.upper[f] + 1e-9 >= 0) for f in free.effects]
        assert np.concatenate(covered).mean() >= 0.8


def test_a_world_whose_impact_doubles_under_stress_is_followed(stress: Any) -> None:
    gains = []
    for seed in (0, 2):
        events, base = stress(seed, 2.0)
        train, test = events.on(events.days[:4]), events.on(events.days[4:])
        fit = RegimeScales(base, resamples=0).fit(train)
        compared = fit.compare(test)
        gains.append(compared.gain)
        assert fit.score(test) == pytest.approx(compared.scores.loc["mean", "scaled"])
        low, high = fit.multipliers(test).quantile([0.1, 0.95])
        assert low < 1.2
        assert high > 1.3
        # A thinner book, a wider spread, more volatility: the estimate rises, in every combination.
        calm = {"spread": -0.5, "volatility": -0.5, "depth": 0.5}
        wild = {"spread": 1.0, "volatility": 1.0, "depth": -1.5}
        assert fit.model_.multiplier(wild) > 1.3 * fit.model_.multiplier(calm)
    assert min(gains) > 0.02


# -- the model --------------------------------------------------------------------------------------------------------
def test_the_model_at_a_state_keeps_every_constraint(simulated: Any, stress: Any) -> None:
    events, _ = stress(0, 2.0)
    base = CrossImpact(ridge=1.0, corr_bound=0.5).fit(events.on(events.days[:3]))
    fit = RegimeScales(base, resamples=0, buckets=3).fit(events.on(events.days[:4]))
    for depth in (-3.0, -0.2, 0.5, np.nan):
        state = {"depth": depth, "spread": 0.4}
        model, s = fit.at(state), fit.model_.multiplier(state)
        np.testing.assert_array_equal(model.matrices, s * base.model_.matrices)
        worst = model.constraint_violations(fit.model_.floor_at(base.floor_, state), 0.5)
        assert worst["worst"] < 1e-12
        assert model.admissible().admissible
        assert len(model.modes()) == 3
    assert fit.model_.multiplier({"depth": -9.0}) >= fit.model_.multiplier({"depth": 9.0})
    row = fit.model_.state(events).iloc[50]
    assert fit.model_.multiplier(row) == pytest.approx(fit.multipliers(events).iloc[50])


def test_an_estimator_that_is_not_fitted_is_fitted_on_the_same_events(stress: Any) -> None:
    events, _ = stress(0, 2.0)
    given = OwnFlowOLS()
    fit = RegimeScales(given, resamples=0, buckets=2).fit(events.on(events.days[:3]))
    assert not hasattr(given, "model_")
    np.testing.assert_array_equal(
        fit.base_.model_.matrices, OwnFlowOLS().fit(events.on(events.days[:3])).model_.matrices
    )


def test_a_two_stage_base_is_scored_on_its_residuals(simulated: Any) -> None:
    events, _ = simulated(names=3, rows=1200, days=2, r2=0.3, factors=2, seed=5)
    base = CrossImpact(ridge=1.0, half_lives_s=(120.0, 1200.0)).fit(events)
    fit = RegimeScales(base, features=("volatility", "imbalance"), resamples=0).fit(events)
    assert fit.model_.loadings is not None
    assert fit.compare(events).scores.loc["mean", "unscaled"] == pytest.approx(base.score(events))


def test_same_seed_same_bytes_and_what_is_shown(stress: Any) -> None:
    events, base = stress(0, 2.0)
    part = events.on(events.days[:3])
    one, two = (RegimeScales(base, resamples=20, seed=3).fit(part).model_ for _ in range(2))
    for f in one.effects:
        assert one.effects[f].tobytes() == two.effects[f].tobytes()
        assert one.lower[f].tobytes() == two.lower[f].tobytes()
    table = one.to_frame()
    assert table.loc[("level", 0), "effect"] == one.level
    assert len(table) == 1 + 5 * 5
    assert "level" in one.summary()
    assert len(one.plot().data) == 5
    assert "<pre>" in one._repr_html_()
    fit = RegimeScales(base, resamples=0, features=("depth",)).fit(part)
    assert fit.cv_ is not None
    assert list(fit.cv_.columns) == [0, 1, 2, 3, 4]
    assert fit.get_params()["features"] == ("depth",)
    assert "features=('depth',)" in repr(fit)
    compared = fit.compare(part, resamples=10)
    assert len(compared.plot().data) == 2
    assert compared.verdict in compared.summary()
    assert compared.to_frame().shape == (5, 3)


def test_a_saved_model_comes_back_bit_for_bit(stress: Any, tmp_path: Path) -> None:
    events, base = stress(0, 2.0)
    train = events.on(events.days[:3])
    for fit in (
        RegimeScales(base, resamples=5).fit(train),
        RegimeScales(CrossImpact(ridge=1.0).fit(train), shrinkage=float("inf")).fit(train),
    ):
        path = tmp_path / "scales.npz"
        fit.model_.save(path)
        again = RegimeModel.load(path)
        assert again.to_frame().equals(fit.model_.to_frame())
        assert again.shrinkage == fit.model_.shrinkage
        assert again.base.matrices.tobytes() == fit.model_.base.matrices.tobytes()
        assert again.multipliers(events).equals(fit.multipliers(events))
        live, wanted = LiveScale(again), LiveScale(fit.model_)
        for t in range(30):
            row = [f.to_numpy()[t] for f in (events.flow, events.mid, events.spread, events.volume, events.depth)]
            factors = None if events.factors is None else events.factors.to_numpy()[t]
            assert live.update(events.index[t], *row, factors) == wanted.update(events.index[t], *row, factors)
    with pytest.raises(DataGap, match="no such file"):
        RegimeModel.load(tmp_path / "none.npz")
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInput, match="not a saved regime model"):
            RegimeModel.load(path)
    base.save(path)
    with pytest.raises(InvalidInput, match="not a saved regime model"):
        RegimeModel.load(path)


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"features": ("colour",)}, "features"),
        ({"features": ()}, "features"),
        ({"features": ("depth", "depth")}, "features"),
        ({"directions": {"depth": 2}}, "directions"),
        ({"buckets": 1}, "buckets"),
        ({"bounds": (1.5, 4.0)}, "bounds"),
        ({"bounds": (0.5, np.inf)}, "bounds"),
        ({"shrinkage": "auto"}, "shrinkage"),
        ({"shrinkage": -1.0}, "shrinkage"),
        ({"shrinkage": float("nan")}, "shrinkage"),
        ({"grid": ()}, "shrinkage"),
        ({"folds": 1}, "folds"),
        ({"resamples": -1}, "resamples"),
        ({"confidence": 1.0}, "confidence"),
        ({"base": 3}, "base"),
        ({"base": OwnFlowOLS}, "base"),
    ],
)
def test_bad_parameters_are_refused(simulated: Any, change: dict[str, Any], field: str) -> None:
    events, truth = simulated(names=2, rows=300)
    with pytest.raises(InvalidInput) as caught:
        RegimeScales(**({"base": truth} | change)).fit(events)
    assert str(caught.value.field).startswith(field)


def test_degenerate_markets(simulated: Any) -> None:
    events, truth = simulated(names=1, rows=300)
    fit = RegimeScales(truth, resamples=0).fit(events)  # constant book, one name: nothing to tell from
    assert set(fit.dropped_) >= {"depth", "crowding"}
    assert "without variation" in fit.summary()
    with pytest.raises(DataGap, match="too few"):
        RegimeScales(truth).fit(events.between(events.index[0], events.index[50]))
    with pytest.raises(DataGap, match="predicts nothing"):
        RegimeScales(scaled(truth, 0.0)).fit(events)
    with pytest.raises(InvalidInput, match="not fitted"):
        RegimeScales(truth).predict(events)
    with pytest.raises(InvalidInput, match="bucket_s"):
        fit.predict(events.resample(120.0))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(InvalidInput, match="factor"):
            scaled(truth, bad)
    with pytest.raises(InvalidInput, match="no feature"):
        fit.at({"colour": 1.0})
    with pytest.raises(InvalidInput, match="not a number"):
        fit.at({"volatility": "high"})


@pytest.mark.data
def test_recorded_equities_are_never_made_worse_beyond_the_interval(lean_dir: Path) -> None:
    events = cw.read(f"lean:{lean_dir}", bucket_s=60.0).events
    train, test = events.on(events.days[:2]), events.on(events.days[2:])
    fit = RegimeScales(OwnFlowOLS().fit(train), resamples=0).fit(train)
    compared = fit.compare(test)
    assert compared.upper >= 0
    assert compared.verdict != "unscaled"
    assert fit.multipliers(test).between(*fit.model_.bounds).all()
    live = LiveScale(fit.model_)
    for t in range(120):
        row = [f.to_numpy()[t] for f in (test.flow, test.mid, test.spread, test.volume, test.depth)]
        factors = None if test.factors is None else test.factors.to_numpy()[t]
        reading = live.update(test.index[t], *row, factors)
        assert not reading.frozen
    assert reading.level != 1.0
