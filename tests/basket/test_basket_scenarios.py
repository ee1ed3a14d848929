"""What-ifs: factors act where they should, kept and new schedules are priced by the same state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.analysis import STANDARD_SCENARIOS, Scenario, market_scenarios, scenario_table
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]


def test_factors_act_where_they_should(make: Maker) -> None:
    problem = make()
    trades = problem.solve().trades
    base = problem.score(trades)
    wide = Scenario("wide", spread=2.0).apply(problem).score(trades)
    assert wide["spread"] == pytest.approx(2.0 * base["spread"], rel=1e-12)
    heavy = Scenario("heavy", impact=3.0).apply(problem).score(trades)
    assert heavy["impact_self"] == pytest.approx(3.0 * base["impact_self"], rel=1e-12)
    assert heavy["risk"] == base["risk"]
    wild = Scenario("wild", volatility=1.5).apply(problem)
    assert wild.score(trades)["risk"] == pytest.approx(2.25 * base["risk"], rel=1e-12)
    # The default η is 0.1 σ/V, and the factor acts as if the rule were applied to the new forecasts.
    again = problem.replace(covariance=2.25 * problem.covariance)
    np.testing.assert_allclose(wild.arrays.temporary, again.arrays.temporary, rtol=1e-12)
    thin = Scenario("thin", volume=0.7).apply(problem)
    np.testing.assert_allclose(thin.arrays.temporary, problem.arrays.temporary / 0.7, rtol=1e-12)
    np.testing.assert_allclose(thin.arrays.participation_cap, 0.7 * problem.arrays.participation_cap, rtol=1e-12)
    assert Scenario("same").apply(problem) is problem


def test_factors_by_name_and_other_models(make: Maker) -> None:
    problem = make()
    half = pd.Series({"IBM": 0.5, "BAC": 1.0, "AIG": 1.0})
    one = Scenario("IBM dries up", volume=half, volatility=pd.Series({"IBM": 2.0, "BAC": 1.0, "AIG": 1.0}))
    state = one.apply(problem)
    np.testing.assert_allclose(state.arrays.volume[:, 0], 0.5 * problem.arrays.volume[:, 0])
    np.testing.assert_allclose(state.arrays.volume[:, 1:], problem.arrays.volume[:, 1:])
    assert state.covariance.loc["IBM", "BAC"] == pytest.approx(2.0 * problem.covariance.loc["IBM", "BAC"])
    assert state.covariance.loc["IBM", "IBM"] == pytest.approx(4.0 * problem.covariance.loc["IBM", "IBM"])
    lone = Scenario("no cross", model=problem.model.diagonal(), impact=2.0).apply(problem)
    np.testing.assert_allclose(lone.model.matrices, 2.0 * problem.model.diagonal().matrices)
    with pytest.raises(InvalidInput, match="AIG"):
        Scenario("lacks", volume=half.drop("AIG")).apply(problem)


def test_table_keeps_and_remakes(desk: BasketProblem) -> None:
    found = scenario_table(desk)
    table = found.table
    assert list(table.index) == ["forecast", *(s.name for s in STANDARD_SCENARIOS)]
    assert table.loc["forecast", "saved"] == pytest.approx(0.0, abs=1e-6)
    fair = table[table["kept_breaches"] == 0]
    assert len(fair) >= 4
    assert (fair["saved"] >= -1e-6).all()
    row = table.loc["impact x2"]
    state = Scenario("x", impact=2.0).apply(desk)
    assert row["kept_total"] == pytest.approx(desk.to_bps(state.score(desk.solve().trades)["total"]))
    assert row["new_total"] == pytest.approx(desk.to_bps(state.solve().costs["total"]), rel=1e-7)
    assert row["moved"] > 0.0
    assert "re-optimised" in found.summary()
    np.testing.assert_allclose(table["kept_expected"] + table["kept_risk"], table["kept_total"], rtol=1e-12)


def test_what_cannot_complete_is_said_and_not_raised(make: Maker) -> None:
    problem = make(participation=0.04)
    found = scenario_table(problem, [Scenario("dry", volume=0.3)])
    assert found.table.loc["dry", "status"].startswith("InfeasibleProblem")
    assert np.isnan(found.table.loc["dry", "new_total"])
    assert found.table.loc["dry", "kept_breaches"] > 0
    assert "participation" in found.table.loc["dry", "kept_worst"]
    assert "dry" not in found.schedules


def test_given_schedule_is_kept(make: Maker) -> None:
    from crosswind.problems.basket import twap

    problem = make()
    found = scenario_table(problem, [], trades=twap(problem))
    assert list(found.table.index) == ["forecast"]
    assert found.table.loc["forecast", "saved"] > 0.0


def test_refusals(make: Maker) -> None:
    problem = make()
    for bad in ({"volume": 0.0}, {"volatility": -1.0}, {"spread": -1.0}, {"impact": float("nan")}):
        with pytest.raises(InvalidInput):
            Scenario("bad", **bad)
    with pytest.raises(InvalidInput, match="volume"):
        Scenario("bad", volume=pd.Series({"IBM": 0.0}))
    with pytest.raises(InvalidInput, match="share a name"):
        scenario_table(problem, [Scenario("a"), Scenario("a")])
    with pytest.raises(InvalidInput, match="share a name"):
        scenario_table(problem, [Scenario("forecast")])
    with pytest.raises(InvalidInput, match="no scenario"):
        scenario_table(problem, ["thin"])  # type: ignore[list-item]


def test_market_scenarios_are_seeded_with_mean_one() -> None:
    many = market_scenarios(20_000, seed=3, volume_sd=0.3, volatility_sd=0.2, correlation=0.6, spread_sd=0.1)
    v, c, s = (np.array([getattr(m, f) for m in many]) for f in ("volume", "volatility", "spread"))
    for values, sd in ((v, 0.3), (c, 0.2), (s, 0.1)):
        assert values.mean() == pytest.approx(1.0, abs=0.01)
        assert np.log(values).std() == pytest.approx(sd, rel=0.03)
    assert np.corrcoef(np.log(v), np.log(c))[0, 1] == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose([m.impact for m in many], c / v)
    assert market_scenarios(3, seed=1)[2].volume == market_scenarios(3, seed=1)[2].volume
    for bad in ({"draws": 0}, {"volume_sd": -0.1}, {"correlation": 1.0}):
        with pytest.raises(InvalidInput):
            market_scenarios(**bad)
