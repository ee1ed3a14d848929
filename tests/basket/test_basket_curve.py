"""Cost by horizon and capacity: closed forms, limits that bind, degenerate baskets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.closed_forms import obizhaeva_wang
from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.analysis import capacity_within, cost_curve, within_horizon
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]


def test_riskless_curve_is_obizhaeva_wang(make: Maker) -> None:
    rate, q, X = 1e-3, 8e-10, 4e6
    model = ImpactModel(("IBM",), np.array([rate]), np.array([[[q]]]), "exponential", 60.0)
    problem = make({"IBM": X}, model=model, temporary=0.0, risk_aversion=0.0, spread=0.0)
    curve = cost_curve(problem, ["10min", 3600, "1D"], slices=12)
    for (_, row), tau in zip(curve.table.iterrows(), (50.0, 300.0, 900.0), strict=True):
        exact = obizhaeva_wang(X, int(row["slices"]) - 1, rate * tau, q)
        assert row["expected_bps"] == pytest.approx(1e4 * exact.cost / X, rel=1e-6)
    assert list(curve.table.index) == ["10min", "3600 s", "1D"]
    assert list(curve.table["seconds"]) == [600.0, 3600.0, 5400.0]


def test_speed_costs_and_waiting_risks(desk: BasketProblem) -> None:
    curve = cost_curve(desk.replace(risk_aversion=0.0))
    table = curve.table
    assert (np.diff(table["expected_bps"]) < 0.0).all()
    assert (np.diff(table["sd_bps"]) > 0.0).all()
    assert (np.diff(table["peak_participation"]) < 0.0).all()
    parts = ["spread", "temporary", "impact_self", "impact_cross"]
    np.testing.assert_allclose(table[parts].sum(axis=1), table["expected_bps"], rtol=1e-9)
    assert "done within" in curve.summary()


def test_finer_slices_conserve_volume_and_cost_of_the_rate(make: Maker) -> None:
    eta = pd.Series({"IBM": 2e-10, "BAC": 3e-10, "AIG": 4e-10})
    problem = make(temporary=eta)
    short = within_horizon(problem, 1800, slices=12)  # two slices of 900 s, cut into twelve
    np.testing.assert_allclose(short.volume.sum(), problem.volume.iloc[:2].sum(), rtol=1e-12)
    # An even rate pays the same whatever the cut: Σ η_fine (X/12)² = Σ η (X/2)² .
    X = 1e6
    fine, coarse = short.arrays.temporary, problem.arrays.temporary[:2]
    np.testing.assert_allclose((fine * (X / 12) ** 2).sum(axis=0), (coarse * (X / 2) ** 2).sum(axis=0), rtol=1e-12)
    odd = within_horizon(problem, 1300, slices=7)
    V = problem.volume.to_numpy()
    np.testing.assert_allclose(odd.volume.sum(), V[0] + (400 / 900) * V[1], rtol=1e-12)
    assert odd.slice_s == pytest.approx(1300 / 7)
    assert within_horizon(problem, "5D").times.equals(problem.times)


def test_breaks_between_slices_are_not_traded_in(make: Maker) -> None:
    day = make(slices=6)
    times = day.times[:2].append(day.times[2:] + pd.Timedelta("1D"))
    gapped = day.replace(times=times, volume=day.volume.set_axis(times))
    inside = within_horizon(gapped, 1500, slices=5)
    assert inside.n_slices == 5
    across = within_horizon(gapped, 2800)
    assert across.times.equals(times[:4])


def test_no_volume_no_covariance(make: Maker) -> None:
    bare = make(volume=None, participation=None, temporary=1e-9, covariance=None, risk_aversion=0.0)
    table = cost_curve(bare, ["10min"]).table
    assert np.isnan(table["sd_bps"].iloc[0])
    assert np.isnan(table["peak_participation"].iloc[0])
    for bad in ("soon", -5.0, 0, float("nan")):
        with pytest.raises(InvalidInput, match="horizons"):
            cost_curve(bare, [bad])
    with pytest.raises(InvalidInput, match="horizon"):
        cost_curve(bare, [])
    with pytest.raises(InvalidInput, match="slices"):
        within_horizon(bare, 60, slices=0)


def test_capacity_of_a_quadratic_cost_is_linear_in_the_budget(make: Maker) -> None:
    problem = make(participation=None, risk_aversion=0.0)  # cost(m) = 2 bps spread + m × slope
    base = problem.solve().costs_bps
    slope = float(base["total"] - base["spread"])
    for budget in (3.0, 20.0):
        found = capacity_within(problem, budget, tol=1e-5)
        assert found.binds == "budget"
        assert found.multiple == pytest.approx((budget - base["spread"]) / slope, rel=2e-5)
        assert found.cost_bps <= budget
        np.testing.assert_allclose(found.schedule.trades.sum(), found.multiple * problem.inventory)
        assert found.notional == pytest.approx(found.multiple * 9e6)


def test_capacity_that_limits_bind(make: Maker) -> None:
    problem = make(participation=0.05)
    V = problem.arrays.volume
    room = float((0.05 * V.sum(axis=0) / np.abs(problem.arrays.inventory)).min())
    found = capacity_within(problem, 1e3, tol=1e-5)
    assert found.binds == "limits"
    assert found.multiple == pytest.approx(room, rel=2e-5)
    assert "bound by limits" in found.summary()


def test_ends_of_capacity(make: Maker) -> None:
    problem = make(participation=None)
    none = capacity_within(problem, 1.0)  # the spread alone is 2 bps
    assert (none.multiple, none.binds, none.schedule) == (0.0, "spread", None)
    assert "capacity 0" in none.summary()
    free = capacity_within(problem, 1e9, most=8.0)
    assert (free.multiple, free.binds) == (8.0, "nothing")
    target = make(participation=None, completion=0.5 * problem.inventory)
    assert capacity_within(target, 4.0).multiple > capacity_within(problem, 4.0).multiple
    for bad in ({"budget_bps": -1.0}, {"budget_bps": 5.0, "measure": "cash"}, {"budget_bps": 5.0, "tol": 2.0}):
        with pytest.raises(InvalidInput):
            capacity_within(problem, **bad)
    with pytest.raises(InvalidInput, match="multiply"):
        capacity_within(make({"IBM": 0.0}), 5.0)
    with pytest.raises(InvalidInput, match="penalty"):
        capacity_within(make(completion=1e-8), 5.0)


def test_total_measure_rises_with_the_multiple(desk: BasketProblem) -> None:
    found = capacity_within(desk, 40.0, measure="total")
    costs = found.table["cost_bps"].dropna()
    assert (np.diff(costs) > -1e-6).all()
