"""Penalties chosen by realised cost: unbiased accounts, no look-ahead, a choice that moves only where data can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.impact import CrossImpact, ImpactModel, make_dictionary
from crosswind.problems.impact.calibrate import time_folds
from crosswind.problems.impact.decision import calibrate_decision, draw_parents
from crosswind.problems.impact.decision.cases import Desk, build_cases
from crosswind.problems.impact.decision.penalties import penalty_grid
from crosswind.problems.impact.decision.search import Bounding, simultaneous, surface
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES_S = (60.0, 900.0)
Simulated = Callable[..., tuple[MarketEvents, ImpactModel]]


@pytest.fixture(scope="module")
def market(simulated: Simulated) -> MarketEvents:
    return simulated(names=4, rows=900, days=3, r2=0.1, half_lives_s=LIVES_S, seed=3, factors=1)[0]


def joint(**kw: Any) -> CrossImpact:
    return CrossImpact(half_lives_s=LIVES_S, **kw)


def test_look_ahead_poison(market: MarketEvents) -> None:
    """A fold's fits and schedules are the same bytes whatever happens in its validation block."""
    dictionary = make_dictionary("exponential", market.bucket_s, LIVES_S)
    desk = Desk(draw_parents(market.names, 6, seed=1))
    folds = time_folds(market, 3, dictionary.memory_buckets)
    penalties = {"ridge": 1.0, "pool": 0.3}
    clean = build_cases(market, joint(), dictionary, desk, 3, "symmetric", 6)
    for k, fold in enumerate(folds.folds):
        start, stop = fold.test
        flow, mid, factors = market.flow.copy(), market.mid.copy(), market.factors
        assert factors is not None
        rng = np.random.default_rng(k)
        flow.iloc[start:stop] = 1e3 * rng.standard_normal((stop - start, 4)) * flow.iloc[start:stop].to_numpy()
        mid.iloc[start:stop] = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((stop - start, 4)), axis=0))
        factors = factors.copy()
        factors.iloc[start:stop] *= -50.0
        poisoned = replace(market, flow=flow, mid=mid, volume=flow.abs() + 1.0, factors=factors)
        case = build_cases(poisoned, joint(), dictionary, desk, 3, "symmetric", 6)[k]
        ours, theirs = clean[k].at(penalties), case.at(penalties)
        assert ours.schedule.trades.tobytes() == theirs.schedule.trades.tobytes()
        assert ours.promised.tobytes() == theirs.promised.tobytes()
        # What is paid does change: the block is the ruler.
        assert not np.allclose(ours.cost, theirs.cost)


def test_account_is_unbiased(simulated: Simulated) -> None:
    """Over many draws of the noise, the mean held-out cost of a fixed schedule is its true cost."""
    for kind in ("symmetric", "free"):
        deviations, errors = [], []
        for seed in range(40):
            flow = 1e6 * np.random.default_rng(99).standard_normal((300, 3))
            events, truth = simulated(names=3, rows=300, days=1, r2=0.2, half_lives_s=LIVES_S, seed=seed, flow=flow)
            dictionary = truth.dictionary
            own = np.sqrt(np.diag(truth.immediate))
            from crosswind.problems.impact.decision.ruler import Ruler

            program = Desk(draw_parents(events.names, 8, seed=2)).program(events.names, dictionary, own, 18000.0)
            K = truth.matrices / np.outer(own, own)
            schedule = program.solve(K * (1.0 + 0.3 * np.eye(3)))
            assert schedule is not None
            ruler = Ruler.of(events, events.names, dictionary, own, kind, cells=10)
            impact, noise = ruler.account(program.weights(schedule.trades))
            true = program.account(schedule.trades, K)
            deviations.append((impact + program.fixed_cost(schedule.trades) - true).sum())
            errors.append(np.sqrt((noise.sum(axis=1) ** 2).sum()))
        spread = np.std(deviations, ddof=1)
        assert abs(np.mean(deviations)) < 3.0 * spread / np.sqrt(len(deviations))
        # The measured noise is that of the draws.
        assert 0.7 < np.sqrt(np.mean(np.square(errors))) / spread < 1.4


def off_the_blocks(seed: int) -> tuple[MarketEvents, ImpactModel]:
    """Return visible cross terms off the blocks, one decay: R² wants a small ridge, schedules want a large one."""
    n, bucket = 10, 30.0
    market = cw.simulate(names=n, sectors=2, days=3, bucket_s=bucket, seed=seed, impact_r2=0.0)
    assert market.truth is not None
    events, rng = market.events, np.random.default_rng([seed, 5])
    signs = np.triu(rng.choice([-0.4, 0.4], (n, n)), 1)
    values, vectors = np.linalg.eigh(signs + signs.T + np.eye(n))
    C = (vectors * np.maximum(values, 0.02)) @ vectors.T
    idio = np.asarray(market.truth.parameters["names_idio_vol_daily"]) * np.sqrt(bucket / 23400.0)
    root = np.sqrt(idio / 3.0 / events.flow.std().to_numpy() / np.diag(C))
    K = np.stack([share * C * np.outer(root, root) for share in (0.6, 0.4)])
    dictionary = make_dictionary("exponential", bucket, (30.0, 600.0))
    mid = events.mid.to_numpy().copy()
    for day in events.days:
        rows = events.session.to_numpy() == day
        moved = np.nan_to_num(events.returns.to_numpy()[rows])
        moved += dictionary.regressors(events.flow.to_numpy()[rows]) @ K.transpose(1, 0, 2).reshape(n, -1).T
        moved[0] = 0.0
        mid[rows] = mid[rows][0] * np.cumprod(1.0 + moved, axis=0)
    frame = pd.DataFrame(mid, index=events.index, columns=events.mid.columns)
    truth = ImpactModel(events.names, np.array(dictionary.rates_per_s), K, "exponential", bucket)
    return replace(events, mid=frame), truth


def excess(model: ImpactModel, truth: ImpactModel) -> float:
    own = np.sqrt(np.diag(truth.immediate))
    unit = np.outer(own, own)
    desk = Desk(draw_parents(truth.names, 64, seed=9))
    program = desk.program(truth.names, truth.dictionary, own, 23400.0)
    best, found = program.solve(truth.matrices / unit), program.solve(model.matrices / unit)
    assert best is not None
    assert found is not None
    return float(program.account(found.trades, truth.matrices / unit).sum() / best.promised.sum() - 1.0)


def test_cost_and_likelihood_disagree() -> None:
    """Where R² pays for levels that no schedule needs, the choice by cost is truly cheaper, and says so with bounds."""
    estimator = CrossImpact(half_lives_s=(30.0, 600.0), pool=0.1)
    grid = {"ridge": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)}
    saved, changed = [], 0
    for seed in (1, 2, 3):
        events, truth = off_the_blocks(seed)
        found = calibrate_decision(events, estimator, parameters=("ridge",), grid=grid, seed=seed)
        by_r2 = CrossImpact(half_lives_s=(30.0, 600.0), pool=0.1, ridge=float(found.likelihood["ridge"])).fit(events)
        saved.append(excess(by_r2.model_, truth) - excess(found.model, truth))
        changed += not found.agrees
        if not found.agrees:
            assert 0.0 < found.low <= found.saving <= found.high
            assert found.chosen["ridge"] > found.likelihood["ridge"]
    assert changed >= 2
    assert min(saved) >= 0.0
    assert np.mean(saved) > 5e-4


def test_nothing_changes_where_they_agree() -> None:
    market = cw.simulate(names=4, days=3, bucket_s=60.0, seed=2)
    found = calibrate_decision(market.events, joint(), parameters=("ridge",))
    assert found.agrees
    assert (found.saving, found.low, found.high) == (0.0, 0.0, 0.0)
    pd.testing.assert_series_equal(found.chosen, found.likelihood)
    held = calibrate_decision(market.events, joint(), parameters=("ridge",), objective="likelihood")
    assert held.model.matrices.tobytes() == found.model.matrices.tobytes()


def test_model_is_that_of_the_estimator(market: MarketEvents) -> None:
    """The chosen penalties, given to the estimator itself, give the calibration's model."""
    for parameters in (("ridge", "pool"), ("ridge", "split"), ("ridge", "l1")):
        grid = {"ridge": (1.0,), "pool": (0.3,), "split": (10.0,), "l1": (0.01,)}
        found = calibrate_decision(market, joint(), parameters=parameters, grid=grid)
        ours = joint(**found.chosen.to_dict(), tol=1e-10).fit(market).model_
        size = np.abs(ours.matrices).max()
        np.testing.assert_allclose(found.model.matrices, ours.matrices, atol=2e-3 * size)
        assert found.suboptimality <= 1e-8


def test_same_bytes_again(market: MarketEvents) -> None:
    first, second = (calibrate_decision(market, joint(), parameters=("ridge",), seed=4) for _ in range(2))
    assert first.model.matrices.tobytes() == second.model.matrices.tobytes()
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame(), check_exact=True)
    other = calibrate_decision(market, joint(), parameters=("ridge",), seed=5)
    assert not np.array_equal(other.table["cost"], first.table["cost"])


def test_own_baskets_in_currency(market: MarketEvents) -> None:
    """Costs are quadratic in size, relative figures are not; a fixed list of baskets is not resampled."""
    table = pd.DataFrame({"a": [1e6, -2e6, 0.0, 5e5], "b": [0.0, 1e6, 1e6, 0.0]}, index=list(market.names))
    one = calibrate_decision(market, joint(), table, parameters=("ridge",))
    ten = calibrate_decision(market, joint(), 10.0 * table, parameters=("ridge",))
    np.testing.assert_allclose(ten.table["cost"], one.table["cost"], rtol=1e-9)
    np.testing.assert_allclose(ten.table["low"], one.table["low"], rtol=1e-6, atol=1e-12)
    assert one.parents.count == 2
    assert not one.parents.drawn


def test_bounds_hold_together() -> None:
    """Simultaneous bounds cover all of many true savings at their level, and more narrowly one alone."""
    rng = np.random.default_rng(0)
    folds, cells, parents, choices, runs = 3, 10, 4, 8, 150
    mix = rng.standard_normal((choices, choices)) / 3.0 + np.eye(choices)
    covered = 0
    for run in range(runs):
        noise = np.einsum("kl,lfcp->kfcp", mix, rng.standard_normal((choices, folds, cells, parents)))
        pairs = [(noise[k].sum(axis=1), noise[k]) for k in range(choices)]
        bands = simultaneous(pairs, False, 0.9, 300, run)
        covered += bool(((bands.low <= 0.0) & (bands.high >= 0.0)).all())
    assert 0.8 < covered / runs < 0.99


def test_gradient_search_does_not_raise_the_cost(market: MarketEvents) -> None:
    kw: dict[str, Any] = {"parameters": ("ridge", "pool"), "grid": {"ridge": (1.0, 10.0), "pool": (0.3, 3.0)}}
    ends = []
    for how in ("implicit", "difference"):
        found = calibrate_decision(market, joint(), search="gradient", gradient=how, **kw)
        assert found.path is not None
        costs = found.path["cost"].to_numpy()
        assert costs.min() <= found.table["cost"].to_numpy()[:4].min() + 1e-6
        assert costs.min() <= costs[0]
        ends.append(costs.min())
        found.plot_path()
    assert abs(ends[0] - ends[1]) < 2e-4


def test_result_shows_itself(market: MarketEvents) -> None:
    found = calibrate_decision(market, joint(), parameters=("ridge", "split"))
    roles = " ".join(found.to_frame()["role"])
    assert "likelihood" in roles
    assert "chosen" in roles
    assert "held-out R²" in found.summary()
    assert "<table" in found._repr_html_()
    assert found.plot().data[0].type == "heatmap"
    assert len(found.folds) == 3
    one = calibrate_decision(market, joint(), parameters=("ridge",))
    assert one.plot().data[0].type == "scatter"
    with pytest.raises(InvalidInput, match="search"):
        one.plot_path()


def test_surface_prefers_r2_among_equals(market: MarketEvents) -> None:
    """Points listed twice save nothing against each other."""
    dictionary = make_dictionary("exponential", market.bucket_s, LIVES_S)
    cases = build_cases(market, joint(), dictionary, Desk(draw_parents(market.names, 4)), 3, "free", 6)
    points = penalty_grid(("ridge",), pd.DataFrame({"ridge": [1.0, 1.0]}))
    found = surface(cases, points, Bounding())
    assert found.chosen == found.likelihood
    np.testing.assert_allclose(found.bands.saving, 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parameters": ()}, "parameters"),
        ({"parameters": ("ridge", "ridge")}, "parameters"),
        ({"parameters": ("ridge", "within", "between")}, "parameters"),
        ({"parameters": ("within", "pool")}, "parameters"),
        ({"parameters": ("pool",)}, "ridge"),
        ({"grid": {"ridge": (0.0, 1.0)}}, "grid"),
        ({"grid": pd.DataFrame({"pool": [1.0]})}, "grid"),
        ({"objective": "profit"}, "objective"),
        ({"search": "random"}, "search"),
        ({"gradient": "exact"}, "gradient"),
        ({"refine": "all"}, "refine"),
        ({"ruler": "ridge"}, "ruler"),
        ({"level": 1.0}, "level"),
        ({"resamples": 10}, "resamples"),
        ({"radii": (0.0,)}, "radii"),
        ({"cells": 1}, "cells"),
        ({"folds": 1}, "folds"),
        ({"times_s": (0.0,)}, "times_s"),
        ({"temporary": -1.0}, "temporary"),
        ({"parents": 3}, "parents"),
        ({"estimator": cw.CrossImpact(loss="huber")}, "estimator"),
        ({"estimator": "joint"}, "estimator"),
    ],
)
def test_bad_options(market: MarketEvents, change: dict[str, Any], field: str) -> None:
    asked: dict[str, Any] = {"events": market, "estimator": joint(), "parameters": ("ridge",)} | change
    with pytest.raises(InvalidInput) as caught:
        calibrate_decision(**asked)
    assert caught.value.field == field


def test_bad_data(market: MarketEvents, simulated: Simulated) -> None:
    with pytest.raises(DataGap, match="lack"):
        calibrate_decision(market, joint(), pd.Series({"XYZ": 1e6}), parameters=("ridge",))
    short = simulated(names=8, rows=60, days=3, half_lives_s=LIVES_S)[0]
    with pytest.raises(DataGap):
        calibrate_decision(short, joint(), parameters=("ridge",))
    twice = market.select(market.names)
    flow = twice.flow.copy()
    flow[twice.names[1]] = flow[twice.names[0]]
    collinear = replace(twice, flow=flow, volume=flow.abs() + 1.0)
    with pytest.raises(DataGap, match="collinear"):
        calibrate_decision(collinear, joint(), parameters=("ridge",))
