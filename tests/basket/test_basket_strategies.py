"""Strategies as objects: one protocol, completion where the boxes allow it, and scores under another truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem, Blackout, compare
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.strategies import (
    POV,
    PRIORITIES,
    TWAP,
    VWAP,
    AlmgrenChriss,
    DiagonalOnly,
    Optimal,
    SectorStagger,
    Sequential,
    Strategy,
    standard_strategies,
)
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]


@pytest.mark.parametrize("seed", range(4))
def test_every_strategy_completes_and_keeps_the_protocol(seed: int) -> None:
    problem = basket_instance(9, 11, seed=seed)
    listed = standard_strategies(problem)
    assert len({s.name for s in listed}) == len(listed)
    for strategy in listed:
        assert isinstance(strategy, Strategy)
        trades = strategy.schedule(problem)
        assert trades.index.equals(problem.times)
        np.testing.assert_allclose(trades.sum(), problem.inventory, rtol=1e-8, err_msg=strategy.name)
    table = compare(problem, listed, include_standard=False)
    assert list(table["executed"].round(9).unique()) == [1.0]


@pytest.mark.parametrize("priority", list(PRIORITIES))
def test_sequence_keeps_caps_and_completes_when_they_just_suffice(priority: str) -> None:
    problem = basket_instance(6, 9, seed=2, limits=False)
    V = problem.arrays.volume
    assert V is not None
    tight = problem.replace(participation=pd.Series(np.abs(problem.arrays.inventory) / V.sum(axis=0), problem.names))
    trades = Sequential(priority).schedule(tight)
    np.testing.assert_allclose(trades.sum(), problem.inventory, rtol=1e-9)
    assert tight.breaches(trades, tol=1e-9).empty


def test_sequence_follows_its_priority(make: Maker) -> None:
    problem = make(participation=None)
    rule = Sequential("sells before buys")
    assert rule.ranking(problem)[0] == "BAC"
    trades = rule.schedule(problem)
    done = trades["BAC"].cumsum()
    # While the sell is unfinished nothing else trades: the budget of 1.5 M a slice goes to it.
    np.testing.assert_allclose(trades["BAC"].to_numpy()[:2], -1.5e6)
    assert (trades.loc[done.shift(fill_value=0.0) > -1.5e6, ["IBM", "AIG"]] == 0.0).all(axis=None)
    fast = Sequential("largest order first", pace=2.0).schedule(problem)
    np.testing.assert_allclose(fast.iloc[:3].abs().sum().sum(), 9e6)


def test_largest_risk_first_counts_hedges(make: Maker) -> None:
    problem = make({"IBM": 4e6, "BAC": -3.9e6, "AIG": 1e6})
    q, cov = problem.arrays.inventory, problem.arrays.covariance
    assert cov is not None
    order = [problem.names[i] for i in np.argsort(-(q * (cov @ q)), kind="stable")]
    assert list(Sequential("largest risk first").ranking(problem)) == order


def test_own_priority_and_blackouts(make: Maker) -> None:
    times = make().times
    problem = make(participation=None, blackouts=(Blackout(times[0], times[2], ("IBM",)),))
    rule = Sequential(lambda p: pd.Series({"IBM": 3.0, "AIG": 2.0, "BAC": 1.0}), name="mine")
    trades = rule.schedule(problem)
    assert rule.ranking(problem) == ("IBM", "AIG", "BAC")
    assert (trades["IBM"].iloc[:2] == 0.0).all()
    np.testing.assert_allclose(trades["AIG"].iloc[0], 1.5e6)
    np.testing.assert_allclose(trades.sum(), problem.inventory)


def test_stagger_gives_each_sector_its_window(make: Maker) -> None:
    sectors = pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin"})
    trades = SectorStagger().schedule(make(sectors=sectors))
    assert (trades["IBM"].iloc[3:] == 0.0).all()
    assert (trades["BAC"].iloc[:3] == 0.0).all()
    np.testing.assert_allclose(SectorStagger(overlap=1).schedule(make(sectors=sectors))["AIG"].iloc[2:], 5e5)
    one = make(slices=1, sectors=sectors)
    np.testing.assert_allclose(SectorStagger().schedule(one).iloc[0], one.inventory)
    with pytest.raises(InvalidInput, match="sectors"):
        SectorStagger().schedule(make())
    with pytest.raises(InvalidInput, match="AIG"):
        SectorStagger().schedule(make(sectors=sectors.drop("AIG")))


def test_empty_and_single_slice_baskets(make: Maker) -> None:
    empty = make({"IBM": 0.0, "BAC": 0.0, "AIG": 0.0})
    for strategy in standard_strategies(empty):
        assert (strategy.schedule(empty) == 0.0).all(axis=None), strategy.name
    single = make({"IBM": 1e5, "BAC": 0.0, "AIG": 0.0}, slices=1)
    for strategy in standard_strategies(single):
        np.testing.assert_allclose(strategy.schedule(single).iloc[0], single.inventory, atol=1e-6)


def test_missing_inputs_are_left_out_or_refused(make: Maker) -> None:
    bare = make(volume=None, participation=None, temporary=1e-9, covariance=None, risk_aversion=0.0)
    names = [s.name for s in standard_strategies(bare)]
    assert names == ["TWAP", "Almgren-Chriss", "sells before buys", "diagonal only", "crosswind"]
    for strategy in (VWAP(), POV(), Sequential("most liquid first"), Sequential("largest risk first")):
        with pytest.raises(InvalidInput):
            strategy.schedule(bare)
    with pytest.raises(InvalidInput, match="priority"):
        Sequential("fastest first")
    with pytest.raises(InvalidInput, match="pace"):
        Sequential(pace=0.5)
    with pytest.raises(InvalidInput, match="priority"):
        Sequential(lambda p: np.full(p.n_names, np.nan)).schedule(bare)


def test_truth_scores_but_is_never_seen(make: Maker) -> None:
    problem = make()
    truth = problem.model.diagonal()
    table = compare(problem, [TWAP(), Optimal(), DiagonalOnly()], include_standard=False, truth=truth)
    assert (table["impact_cross"] == 0.0).all()
    # Under the diagonal truth the schedule that believes in it is the best, and ours is not.
    assert table.index[0] == "diagonal only"
    mine = problem.solve()
    judged = problem.replace(model=truth).score(mine.trades)
    assert table.loc["crosswind", "total"] == pytest.approx(problem.to_bps(judged["total"]), rel=1e-7)
    riskier = problem.replace(spread=1e-3)
    assert compare(problem, [TWAP()], include_standard=False, truth=riskier)["spread"].iloc[0] == pytest.approx(10.0)
    with pytest.raises(InvalidInput, match="truth"):
        compare(problem, [TWAP()], truth=make(slices=5))


def test_schedules_of_every_kind_and_refusals(make: Maker) -> None:
    problem = make()
    mine = problem.solve()
    table = compare(problem, {"a": mine, "b": mine.trades, "c": Optimal()}, include_standard=False)
    assert np.ptp(table["total"]) < 1e-6
    assert "AC slow" in compare(problem, [AlmgrenChriss(1e-9, name="AC slow")], include_standard=False).index
    with pytest.raises(InvalidInput, match="share a name"):
        compare(problem, [TWAP(), TWAP()])
    with pytest.raises(InvalidInput, match="no schedule"):
        compare(problem, {"bad": 3.0})  # type: ignore[dict-item]
