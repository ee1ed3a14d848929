"""Baselines on equal footing, the comparison, the forecasts and the figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import (
    BasketProblem,
    almgren_chriss,
    compare,
    diagonal_only,
    forecast_inputs,
    frontier,
    pov,
    session_slices,
    standard_schedules,
    twap,
    vwap,
)
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.lowering import money
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import DataGap, InvalidInput

Maker = Callable[..., BasketProblem]


def test_twap_vwap_complete_and_follow_their_profile(desk: BasketProblem) -> None:
    for trades in (twap(desk), vwap(desk), almgren_chriss(desk), diagonal_only(desk)):
        np.testing.assert_allclose(trades.sum(), desk.inventory, rtol=1e-9)
    assert desk.volume is not None
    share = vwap(desk) / desk.volume
    np.testing.assert_allclose(share, np.tile(share.iloc[0], (desk.n_slices, 1)), rtol=1e-12)
    np.testing.assert_array_equal(np.diff(twap(desk), axis=0), 0.0)


def test_partial_target_is_what_the_baselines_leave(desk: BasketProblem) -> None:
    partial = desk.replace(completion=0.4 * desk.inventory)
    for name, trades in standard_schedules(partial).items():
        np.testing.assert_allclose(trades.sum(), 0.6 * desk.inventory, rtol=1e-9, err_msg=name)


def test_pov_stops_when_done_and_says_what_is_left(make: Maker) -> None:
    problem = make()
    assert problem.volume is not None
    fast = pov(problem, rate=0.1)
    assert (fast.abs() <= 0.1 * problem.volume + 1e-6).all(axis=None)
    np.testing.assert_allclose(fast.sum(), problem.inventory, rtol=1e-12)
    np.testing.assert_allclose(fast.iloc[0, 0], 0.1 * problem.volume.iloc[0, 0])
    slow = pov(problem, rate=0.01)
    table = compare(problem, {"slow": slow}, include_standard=False)
    assert table.loc["slow", "executed"] == pytest.approx(float((0.01 * problem.volume).to_numpy().sum() / 9e6))
    assert str(table.loc["slow", "worst_breach"]).startswith("completion")
    with pytest.raises(InvalidInput, match="rate"):
        pov(problem, rate=0.0)


def test_zero_volume_falls_back_to_equal_trades(make: Maker) -> None:
    problem = make()
    assert problem.volume is not None
    silent = problem.replace(volume=problem.volume.assign(BAC=0.0), completion=1e-6)
    np.testing.assert_allclose(vwap(silent)["BAC"], -3e6 / 6)
    assert (pov(silent)["BAC"] == 0.0).all()


def test_without_volume_only_clock_schedules_remain(make: Maker) -> None:
    problem = make(volume=None, participation=None, temporary=1e-9)
    assert set(standard_schedules(problem)) == {"TWAP", "Almgren-Chriss", "diagonal only"}
    with pytest.raises(InvalidInput, match="VWAP"):
        vwap(problem)
    assert problem.solve().participation is None


@pytest.mark.parametrize("seed", range(6))
def test_nothing_that_keeps_the_limits_beats_the_optimum(seed: int) -> None:
    problem = basket_instance(6, 8, seed=seed)
    table = compare(problem)
    best = table.loc["crosswind", "total"]
    fair = table[(table["breaches"] == 0) & (table["executed"] > 1 - 1e-9)]
    assert (fair["total"] >= best - 1e-7 * abs(best)).all()
    # Diagonal-only solves the same limits with other costs: never better under the true ones.
    assert table.loc["diagonal only", "breaches"] == 0
    assert table.loc["diagonal only", "total"] >= best - 1e-7 * abs(best)


def test_without_limits_the_optimum_beats_all(desk: BasketProblem) -> None:
    free = desk.replace(participation=None, sector_cap=None, cash_band=None, allow_reversal=True)
    table = compare(free)
    assert table.index[0] == "crosswind"
    assert (table["breaches"] == 0).all()


def test_diagonal_model_makes_diagonal_only_optimal(desk: BasketProblem) -> None:
    plain = desk.replace(model=desk.model.diagonal())
    table = compare(plain)
    assert table.loc["diagonal only", "total"] == pytest.approx(table.loc["crosswind", "total"], rel=1e-8)
    assert (table["impact_cross"] == 0.0).all()


def test_comparison_adds_up_and_names_the_worst_breach(make: Maker) -> None:
    sectors = pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin"})
    problem = make(sectors=sectors, sector_cap=9e5)
    mine = problem.solve()
    dump = problem.frame(np.vstack([problem.inventory.to_numpy(), np.zeros((5, 3))]))
    table = compare(problem, {"ours": mine, "dump": dump})
    parts = ["spread", "temporary", "impact_self", "impact_cross", "risk", "terminal"]
    np.testing.assert_allclose(table[parts].sum(axis=1), table["total"], rtol=1e-9)
    np.testing.assert_allclose(table["expected"] + table["risk"], table["total"], rtol=1e-9)
    assert table.loc["dump", "worst_breach"] == "sector cap: fin"
    assert table.loc["dump", "breach"] == pytest.approx(5e6 - 9e5)
    assert table.loc["ours", "breaches"] == 0
    broken = problem.breaches(dump)
    assert set(broken["limit"]) == {"sector cap", "participation"}
    V = problem.arrays.volume
    assert V is not None
    row = broken[(broken["limit"] == "participation") & (broken["where"] == "IBM")].iloc[0]
    assert row["breach"] == pytest.approx(4e6 - 0.1 * V[0, 0])
    assert row["slice"] == 0
    assert row["time"] == problem.times[0]


def test_breaches_of_every_kind(make: Maker) -> None:
    times = make().times
    problem = make(max_change=1e5, cash_band=1e5, must_finish=pd.Series({"BAC": times[3]}))
    wrong = problem.frame(np.tile([-1e6, -1e6, 4e6], (6, 1)))
    kinds = set(problem.breaches(wrong)["limit"])
    assert kinds == {"participation", "no reversal", "must finish", "cash band", "completion"}
    jumpy = wrong.copy()
    jumpy.iloc[3] = 0.0
    assert "max change" in set(problem.breaches(jumpy)["limit"])


def test_frontier_is_monotone_and_convex(make: Maker) -> None:
    table = frontier(make())
    assert len(table) == 30
    assert (np.diff(table["sd_bps"]) < 1e-6).all()
    assert (np.diff(table["expected_bps"]) > -1e-6).all()
    slope = np.diff(table["expected_bps"]) / np.diff(table["sd_bps"] ** 2)
    assert (np.diff(slope) < 1e-6 * np.abs(slope[:-1]) + 1e-9).all()
    assert (table["gap"] < 1e-6).all()
    with pytest.raises(InvalidInput, match="covariance"):
        frontier(make(covariance=None, temporary=1e-9, risk_aversion=0.0))
    with pytest.raises(InvalidInput, match="risk_aversions"):
        frontier(make(), [-1.0])


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0"),
        (12.5, "12.5"),
        (999.6, "1 k"),
        (350e3, "350 k"),
        (999_600.0, "1 M"),
        (-1.234e6, "-1.23 M"),
        (2e9, "2 B"),
    ],
)
def test_money(amount: float, text: str) -> None:
    assert money(amount) == text


# -- forecasts --------------------------------------------------------------------------------------------------------


def test_forecasts_from_simulated_sessions() -> None:
    from crosswind.problems.market import simulate

    market = simulate(names=4, days=3, bucket_s=60.0, seed=1)
    events = market.events
    day = max(events.days)
    past = events.on([d for d in events.days if d != day])
    times = session_slices(day, "09:30", "16:00", 1800.0, events.tz)
    assert len(times) == 13
    inputs = forecast_inputs(past, times, 1800.0)
    # Every recorded bucket lies in exactly one slice: the mean session volume is distributed, not invented.
    per_day = past.volume.sum() / 2
    np.testing.assert_allclose(inputs.volume.sum(), per_day, rtol=1e-9)
    first = past.volume[past.volume.index.tz_convert(events.tz).time <= pd.Timestamp("10:00").time()]
    np.testing.assert_allclose(inputs.volume.iloc[0], first.sum() / 2, rtol=1e-9)
    assert (inputs.spread > 0).all()
    assert np.linalg.eigvalsh(inputs.covariance)[0] > 0
    with pytest.raises(DataGap, match="time of day"):
        forecast_inputs(past, times - pd.Timedelta(hours=6), 1800.0)


def test_session_slices_follow_the_exchange_through_clock_changes() -> None:
    winter = session_slices("2024-03-08", "09:30", "16:00", 3600.0, "America/New_York")
    summer = session_slices("2024-03-11", "09:30", "16:00", 3600.0, "America/New_York")
    assert len(winter) == len(summer) == 6
    assert winter[0].hour == 14
    assert summer[0].hour == 13
    with pytest.raises(InvalidInput):
        session_slices("2024-03-08", "09:30", "09:40", 3600.0, "America/New_York")


# -- figures ----------------------------------------------------------------------------------------------------------


def test_every_figure_states_its_unit(desk: BasketProblem) -> None:
    from crosswind.problems.basket import plots

    schedule = desk.solve()
    figures = {
        name: getattr(plots, name)(schedule)
        for name in plots.__all__
        if name not in ("comparison", "frontier_curve", "overview")
    }
    figures["comparison"] = plots.comparison(compare(desk))
    figures["frontier"] = plots.frontier_curve(frontier(desk, [1e-7, 1e-6]), {"now": (10.0, 5.0)})
    for name, fig in figures.items():
        words = " ".join(str(a.title.text) for a in (fig.layout.xaxis, fig.layout.yaxis))
        words += " ".join(str(trace.colorbar.title.text) for trace in fig.data if trace.type == "heatmap")
        assert "[" in words, name
        assert len(fig.data) > 0, name
    heat = figures["schedule_heatmap"].data[0]
    order = list(heat.y)
    np.testing.assert_allclose(1e6 * np.asarray(heat.z).T, schedule.trades[order].to_numpy())
    bars = [t for t in figures["schedule_bars"].data if t.type == "bar"]
    np.testing.assert_allclose(1e6 * sum(np.asarray(b.y) for b in bars), schedule.trades.sum(axis=1), atol=1e-3)
    waterfall = figures["cost_waterfall"].data[0]
    assert sum(waterfall.y) == pytest.approx(schedule.costs_bps["total"])


@pytest.mark.parametrize("bare", [False, True])
def test_overview_of_full_and_bare_problems(make: Maker, bare: bool) -> None:
    changes = {"volume": None, "participation": None, "temporary": 1e-9} if bare else {}
    fig = make(**changes).solve().plot()
    assert {"heatmap", "waterfall", "scatter"} <= {trace.type for trace in fig.data}
    assert "certificate" in " ".join(str(a.text) for a in fig.layout.annotations)
    assert len(fig.to_html(include_plotlyjs=False)) > 1000


def test_almgren_chriss_adds_the_impact_that_decays_within_a_slice(make: Maker) -> None:
    names, rates = ("IBM",), np.array([0.0, 1e-3])
    matrices = np.array([[[5e-10]], [[8e-10]]])
    problem = make({"IBM": 4e6}, temporary=1e-10, model=ImpactModel(names, rates, matrices, "exponential", 60.0))
    eta = 1e-10 + 0.5 * (1.0 - np.exp(-1e-3 * 900.0)) * 8e-10
    bare = problem.replace(temporary=eta, model=ImpactModel(names, rates, 0.0 * matrices, "exponential", 60.0))
    np.testing.assert_allclose(almgren_chriss(problem), almgren_chriss(bare), rtol=1e-12)
    assert almgren_chriss(problem).iloc[0, 0] < almgren_chriss(problem.replace(model=bare.model)).iloc[0, 0]
