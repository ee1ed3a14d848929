"""Figures of the analyses: units on the axes, legends clear of titles, the numbers of the tables in the traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem, analysis, compare, plots
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.strategies import TWAP, SectorStagger

Maker = Callable[..., BasketProblem]


@pytest.fixture(scope="module")
def problem() -> BasketProblem:
    return basket_instance(9, 8, seed=5, risk_aversion=1e-7)


@pytest.fixture(scope="module")
def figures(problem: BasketProblem) -> dict[str, Any]:
    schedule = problem.solve()
    return {
        "frontier": analysis.efficient_frontier(problem, points=8).plot([TWAP(), SectorStagger()]),
        "scenarios": analysis.scenario_table(problem).plot(),
        "curve": analysis.cost_curve(problem).plot(),
        "capacity": analysis.capacity_within(problem, 20.0).plot(),
        "cvar": analysis.cvar_schedule(problem, analysis.market_scenarios(8)).plot(),
        "robust": analysis.robust_schedule(problem, analysis.own_impact_bound(problem.model, 0.5)).plot(),
        "sensitivity": analysis.sensitivities(schedule).plot(),
        "pairs": analysis.split_costs(problem, schedule.trades).plot(),
        "heatmap": plots.schedule_heatmap(schedule, relative=True),
        "bands": plots.band_paths(schedule),
        "inventory": plots.inventory_paths(schedule, most=4),
        "compare": plots.comparison(compare(problem)),
    }


def test_units_are_on_the_axes(figures: dict[str, Any]) -> None:
    for name, fig in figures.items():
        words = " ".join(str(axis.title.text) for axis in (fig.layout.xaxis, fig.layout.yaxis))
        words += " ".join(str(t.colorbar.title.text) for t in fig.data if t.type == "heatmap")
        assert "[" in words, name
        assert len(fig.to_json()) > 500, name


def test_legends_hang_below_the_axis(figures: dict[str, Any]) -> None:
    for name, fig in figures.items():
        if sum(trace.showlegend is not False and trace.name is not None for trace in fig.data) > 1:
            assert fig.layout.legend.y < -0.1, name
            # Down to where it starts there is room inside the figure, and one more line of text.
            inner = fig.layout.height - fig.layout.margin.t - fig.layout.margin.b
            assert -fig.layout.legend.y * inner + 20 < fig.layout.margin.b, name


def test_traces_carry_the_tables(problem: BasketProblem, figures: dict[str, Any]) -> None:
    table = analysis.scenario_table(problem).table
    kept, new = figures["scenarios"].data
    np.testing.assert_allclose(kept.y, table["kept_total"], rtol=1e-6)
    np.testing.assert_allclose(new.y, table["new_total"], rtol=1e-6)
    curve = analysis.cost_curve(problem).table
    bars = [t for t in figures["curve"].data if t.type == "bar"]
    np.testing.assert_allclose(sum(np.asarray(b.y, dtype=float) for b in bars), curve["expected_bps"], rtol=1e-6)
    heat = figures["heatmap"].data[0]
    np.testing.assert_allclose(np.asarray(heat.z).sum(axis=1), 100.0 * np.sign(problem.inventory[list(heat.y)]))
    total = sum(np.asarray(t.x, dtype=float) for t in figures["compare"].data)
    np.testing.assert_allclose(total, compare(problem)["total"], rtol=1e-6)


def test_hollow_points_break_limits(problem: BasketProblem, figures: dict[str, Any]) -> None:
    names = [t.name for t in figures["frontier"].data]
    for strategy in (TWAP(), SectorStagger()):
        broken = not problem.breaches(strategy.schedule(problem)).empty
        assert (f"{strategy.name} *" in names) == broken


def test_bands_are_drawn_with_their_edges(make: Maker) -> None:
    wide = make(cash_band=4e6, beta=pd.Series({"IBM": 1.0, "BAC": 1.2, "AIG": 0.8}), beta_band=5e6)
    fig = plots.band_paths(wide.solve())
    assert {t.name for t in fig.data if t.showlegend is not False} == {"cash band", "beta band"}
    edges = [t for t in fig.data if t.line.dash == "dash"]
    assert sorted({round(abs(float(np.asarray(e.y)[0])), 6) for e in edges}) == [4.0, 5.0]
    bare = plots.band_paths(make().solve())
    assert [t.name for t in bare.data] == ["net cash"]


def test_hedges_are_drawn(make: Maker) -> None:
    base = make()
    hedged = make(
        {"IBM": 4e6, "BAC": -3e6},
        hedges=["AIG"],
        model=base.model,
        volume=base.volume,
        covariance=base.covariance,
        sectors=pd.Series({"IBM": "tech", "BAC": "fin"}),
        sector_cap=2e6,
    )
    schedule = hedged.solve()
    assert list(plots.schedule_heatmap(schedule).data[0].y)[-1] == "AIG"
    assert len(plots.overview(schedule).data) > 4


def test_small_amounts_keep_their_unit(make: Maker) -> None:
    tiny = make({"IBM": 40.0, "BAC": -30.0}).solve()
    assert "[currency" in plots.schedule_heatmap(tiny).data[0].colorbar.title.text
    assert "[k currency" in str(plots.schedule_bars(make({"IBM": 4e4}).solve()).layout.yaxis.title.text)
