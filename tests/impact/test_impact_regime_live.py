"""The live multiplier: equal to the batch, bounded, frozen on stale or broken data, and never an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import ImpactModel, PowerFlow, make_dictionary
from crosswind.problems.impact.regimes import LiveScale, RegimeModel, RegimeScales, ScaleReading
from crosswind.problems.impact.regimes.live import RegressorStream
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import InvalidInput

FIELDS = ("flow", "mid", "spread", "volume", "depth")


def rows(events: MarketEvents) -> Iterator[dict[str, Any]]:
    for t, time in enumerate(events.index):
        yield {"time": time} | {f: getattr(events, f).to_numpy()[t].copy() for f in FIELDS}


@pytest.fixture(scope="module")
def fitted(simulated: Callable[..., tuple[MarketEvents, ImpactModel]]) -> tuple[MarketEvents, RegimeModel]:
    """Two days of a market whose depth halves now and then, with impact doubled then."""
    events, base = simulated(names=3, rows=1600, days=2, r2=0.4, seed=4)
    rng = np.random.default_rng(0)
    thin = np.repeat(rng.uniform(size=40) < 0.3, 40)
    depth = pd.DataFrame(
        1e5 * np.where(thin, 0.4, 1.0)[:, None] * np.exp(0.2 * rng.standard_normal((1600, 3))),
        index=events.index,
        columns=list(events.names),
    )
    stacked = base.matrices.transpose(1, 0, 2).reshape(3, -1)
    mid = np.empty((1600, 3))
    for d in range(2):
        part = slice(800 * d, 800 * (d + 1))
        forecast = base.dictionary.regressors(events.flow.to_numpy()[part]) @ stacked.T
        growth = 1.0 + events.returns.to_numpy()[part] + np.where(thin[part], 1.0, 0.0)[:, None] * forecast
        growth[0] = 1.0
        mid[part] = 100.0 * np.cumprod(growth, axis=0)
    events = replace(events, depth=depth, mid=pd.DataFrame(mid, index=events.index, columns=list(events.names)))
    fit = RegimeScales(base, features=("depth", "volatility", "imbalance"), buckets=4, resamples=0).fit(events)
    return events, fit.model_


@pytest.mark.parametrize("bent", [False, True], ids=["linear", "power"])
@pytest.mark.parametrize("family", ["instantaneous", "exponential", "monotone", "convex"])
def test_the_stream_of_regressors_is_the_batch(family: str, bent: bool) -> None:
    dictionary = make_dictionary(family, 60.0, (120.0, float("inf")), (0, 2, 5))
    if bent:
        dictionary = replace(dictionary, transform=PowerFlow(0.5, (1.0, 2.0, 0.3)))
    flow = np.random.default_rng(0).standard_normal((40, 3))
    batch = dictionary.regressors(flow)
    stream = RegressorStream(dictionary, 3)
    for _ in range(2):
        for t in range(40):
            np.testing.assert_allclose(stream.push(flow[t]).ravel(), batch[t], atol=1e-12)
        stream.reset()


def test_with_a_still_level_the_live_multiplier_is_the_batch(fitted: tuple[MarketEvents, RegimeModel]) -> None:
    events, model = fitted
    live = LiveScale(model, level_bounds=(1.0, 1.0))
    batch = model.multipliers(events).to_numpy()
    new_day = np.append(events.session.to_numpy()[1:] != events.session.to_numpy()[:-1], True)
    for t, row in enumerate(rows(events)):
        reading = live.update(**row)
        assert not reading.frozen
        assert reading.level == 1.0
        if not new_day[t]:  # the first bucket of a day starts from an unknown state
            assert reading.multiplier == pytest.approx(batch[t + 1], abs=1e-12)


def test_a_thinning_book_raises_the_estimate_within_the_bucket(fitted: tuple[MarketEvents, RegimeModel]) -> None:
    events, model = fitted
    live = LiveScale(model)
    stream = list(rows(events))
    for row in stream[:200]:
        live.update(**row)
    before = live.reading().multiplier
    trail = []
    for row in stream[200:240]:
        trail.append(live.update(**(row | {"depth": row["depth"] * 0.05})).multiplier)
    assert trail[-1] > before
    assert max(trail) > 1.2 * model.multiplier({"depth": 1.0})
    assert live.model().matrices[0, 0, 0] == pytest.approx(trail[-1] * model.base.matrices[0, 0, 0])
    assert live.model().admissible().admissible
    assert live.state["depth"] < 0


def test_the_level_follows_the_data_within_its_bounds(fitted: tuple[MarketEvents, RegimeModel]) -> None:
    events, model = fitted
    halved = replace(model, base=replace(model.base, matrices=0.5 * model.base.matrices))
    live = LiveScale(halved, half_life_s=36_000.0, prior_buckets=20.0, max_step=0.05, level_bounds=(0.5, 3.0))
    levels = [1.0]
    for row in rows(events):
        levels.append(live.update(**row).level)
    path = np.array(levels)
    assert 1.6 < path[-1] < 2.4  # the base is half the truth
    steps = path[1:] / path[:-1]
    assert steps.max() <= 1.05 + 1e-12
    assert steps.min() >= 0.95 - 1e-12
    capped = LiveScale(halved, half_life_s=36_000.0, prior_buckets=20.0, level_bounds=(0.8, 1.3))
    for row in rows(events):
        reading = capped.update(**row)
        assert 0.8 <= reading.level <= 1.3
        assert model.bounds[0] <= reading.multiplier <= model.bounds[1]
    assert capped.reading().level == 1.3


def test_the_level_stays_near_one_where_the_model_is_right(fitted: tuple[MarketEvents, RegimeModel]) -> None:
    events, model = fitted
    live = LiveScale(model, half_life_s=18_000.0)
    levels = [live.update(**row).level for row in rows(events)]
    assert min(levels) > 0.85
    assert max(levels) < 1.15


def test_an_outlier_moves_the_level_by_a_step_at_most(fitted: tuple[MarketEvents, RegimeModel]) -> None:
    events, model = fitted
    live = LiveScale(model, max_step=0.02)
    stream = list(rows(events))
    for row in stream[:100]:
        live.update(**row)
    before = live.reading().level
    jumped = live.update(**(stream[100] | {"mid": stream[100]["mid"] * 50.0, "flow": stream[100]["flow"] * 1e6}))
    assert abs(jumped.level / before - 1.0) <= 0.02 + 1e-12
    assert np.isfinite(jumped.multiplier)


def test_stale_data_freeze(fitted: tuple[MarketEvents, RegimeModel]) -> None:
    events, model = fitted
    live = LiveScale(model, stale_s=300.0)
    assert live.reading(events.index[0]).reason == "stale: no bucket has been taken in"
    assert live.reading().multiplier == model.multiplier({})
    stream = list(rows(events))
    for row in stream[:50]:
        good = live.update(**row)
    last = stream[49]["time"]
    assert live.reading(last + pd.Timedelta("300s")) == good
    old = live.reading(last + pd.Timedelta("301s"))
    assert old.frozen
    assert "301 s old" in old.reason
    assert old.multiplier == good.multiplier
    again = live.update(**stream[49])
    assert again.frozen
    assert "does not advance" in again.reason
    assert live.reading(pd.Timestamp("2024-01-01")).frozen  # naive
    assert not live.update(**stream[50]).frozen


BROKEN: dict[str, dict[str, Any]] = {
    "naive time": {"time": pd.Timestamp("2024-03-04 12:00")},
    "no time": {"time": None},
    "text time": {"time": "soon"},
    "NaT": {"time": pd.NaT},
    "all NaN flow": {"flow": np.full(3, np.nan)},
    "all NaN mid": {"mid": np.full(3, np.nan)},
    "zero mid": {"mid": np.zeros(3)},
    "negative mid": {"mid": -np.ones(3)},
    "wrong shape": {"flow": np.zeros(4)},
    "scalar": {"depth": 1.0},
    "text": {"spread": ["a", "b", "c"]},
    "none": {"volume": None},
    "object": {"flow": object()},
}
ODD: dict[str, dict[str, Any]] = {
    "one NaN flow": {"flow": np.array([np.nan, 1.0, 1.0])},
    "inf depth": {"depth": np.array([np.inf, 1e5, 1e5])},
    "NaN depth": {"depth": np.full(3, np.nan)},
    "zero depth": {"depth": np.zeros(3)},
    "negative spread": {"spread": -np.ones(3)},
    "NaN volume": {"volume": np.full(3, np.nan)},
    "huge flow": {"flow": np.full(3, 1e300)},
    "huge mid": {"mid": np.full(3, 1e300)},
    "inf flow": {"flow": np.array([np.inf, -np.inf, 0.0])},
    "tiny mid": {"mid": np.full(3, 1e-300)},
}


@pytest.mark.parametrize("case", [*BROKEN, *ODD])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
def test_nothing_raises_and_nothing_is_nan(fitted: tuple[MarketEvents, RegimeModel], case: str, sticky: bool) -> None:
    events, model = fitted
    live = LiveScale(model)
    stream = list(rows(events))
    for row in stream[:60]:
        good = live.update(**row)
    change = BROKEN.get(case) or ODD[case]
    for k in range(60, 90):
        broken = sticky or k == 60
        reading = live.update(**(stream[k] | change if broken else stream[k]))
        assert isinstance(reading, ScaleReading)
        assert np.isfinite(reading.multiplier)
        assert np.isfinite(reading.level)
        assert model.bounds[0] <= reading.multiplier <= model.bounds[1]
        if broken and case in BROKEN:
            assert reading.frozen
            assert reading.reason
            assert reading.multiplier == good.multiplier
    assert np.isfinite(live.model().matrices).all()
    if not sticky:
        assert not live.reading().frozen


def test_a_base_on_factor_residuals_rests_its_level_without_factors(
    simulated: Callable[..., tuple[MarketEvents, ImpactModel]], fitted: tuple[MarketEvents, RegimeModel]
) -> None:
    events, model = fitted
    two_stage = replace(model, loadings=np.ones((3, 1)))
    live = LiveScale(two_stage)
    stream = list(rows(events))
    for row in stream[:40]:
        reading = live.update(**row)
    assert reading.level == 1.0
    assert not reading.frozen
    assert "no factor returns" in reading.reason
    assert "not finite" in live.update(**stream[40], factors=[np.nan]).reason
    moved = [live.update(**row, factors=[0.0]) for row in stream[41:80]]
    assert moved[-1].reason == ""
    assert moved[-1].level != 1.0


def test_a_first_stage_is_applied_live_as_in_the_fit(
    simulated: Callable[..., tuple[MarketEvents, ImpactModel]],
) -> None:
    from crosswind.problems.impact import CrossImpact

    events, _ = simulated(names=3, rows=900, days=1, r2=0.3, factors=2, seed=5)
    base = CrossImpact(ridge=1.0, half_lives_s=(120.0, 1200.0)).fit(events)
    model = RegimeScales(base, features=("volatility",), resamples=0).fit(events).model_
    live = LiveScale(model, prior_buckets=20.0)
    assert model.loadings is not None
    factors = events.factors
    assert factors is not None
    shocks = factors.to_numpy()
    levels = [live.update(**row, factors=shocks[t]).level for t, row in enumerate(rows(events))]
    assert levels[-1] != 1.0
    assert 0.7 < levels[-1] < 1.3
    # A map of the flow that doubles it makes every forecast twice as large: the level goes to a half.
    doubled = LiveScale(
        replace(model, flow_map=2.0 * np.eye(3)), half_life_s=36_000.0, prior_buckets=5.0, level_bounds=(0.3, 2.0)
    )
    for t, row in enumerate(rows(events)):
        reading = doubled.update(**row, factors=shocks[t])
    assert 0.4 < reading.level < 0.65


@pytest.mark.parametrize(
    "change",
    [
        {"half_life_s": 0.0},
        {"prior_buckets": -1.0},
        {"max_step": 0.0},
        {"level_bounds": (0.0, 2.0)},
        {"level_bounds": (1.1, 2.0)},
        {"stale_s": float("nan")},
        {"model": 3},
    ],
)
def test_set_up_refuses_what_makes_no_sense(fitted: tuple[MarketEvents, RegimeModel], change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        LiveScale(**({"model": fitted[1]} | change))
