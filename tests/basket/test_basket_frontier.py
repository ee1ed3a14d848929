"""The frontier as an object: found grid, shape, knee, and the published curve of Almgren and Chriss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from crosswind.problems.basket import BasketProblem, frontier
from crosswind.problems.basket.analysis import efficient_frontier
from crosswind.problems.basket.instances import basket_instance
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]


@pytest.mark.parametrize("seed", range(3))
def test_found_grid_spans_the_curve(seed: int) -> None:
    problem = basket_instance(5, 8, seed=seed)
    curve = efficient_frontier(problem, points=16)
    table = curve.table
    assert len(table) == 16
    assert curve.monotone, curve.violation
    assert table.index[0] == 0.0
    slow, fast = (problem.replace(risk_aversion=lam) for lam in (1e-13, 1e3))
    span = np.ptp(table["sd_bps"])
    for end, sd in ((slow, table["sd_bps"].iloc[0]), (fast, table["sd_bps"].iloc[-1])):
        reached = frontier(end, [end.risk_aversion])["sd_bps"].iloc[0]
        assert abs(reached - sd) < 0.03 * span
    # No step of the curve is more than a third of it, whatever the units of λ.
    steps = np.hypot(np.diff(table["sd_bps"]) / span, np.diff(table["expected_bps"]) / np.ptp(table["expected_bps"]))
    assert steps.max() < 1.0 / 3.0
    assert table.index[0] < curve.knee < table.index[-1]


def test_units_of_money_do_not_change_the_curve(make: Maker) -> None:
    base = make(temporary=1e-10)
    cents = base.replace(
        inventory=100.0 * base.inventory,
        model=replace(base.model, matrices=base.model.matrices / 100.0),
        volume=100.0 * base.volume,
        temporary=1e-12,
    )
    one, other = (efficient_frontier(p, points=8).table for p in (base, cents))
    np.testing.assert_allclose(100.0 * other.index.to_numpy(), one.index.to_numpy(), rtol=1e-6)
    np.testing.assert_allclose(one["sd_bps"], other["sd_bps"], rtol=1e-6)


def test_given_grid_is_sorted_and_agrees_with_the_function(make: Maker) -> None:
    problem = make()
    curve = efficient_frontier(problem, [1e-6, 1e-8, 1e-6])
    np.testing.assert_allclose(curve.table, frontier(problem, [1e-8, 1e-6]), rtol=1e-6, atol=1e-9)
    sd = float(curve.table["sd_bps"].iloc[0])
    assert curve.at_risk(sd).costs["total"] == curve.schedules[1e-8].costs["total"]
    with pytest.raises(InvalidInput, match="so little risk"):
        curve.at_risk(0.0)


def test_broken_curve_is_seen(make: Maker) -> None:
    curve = efficient_frontier(make(), [1e-8, 1e-7, 1e-6])
    table = curve.table.copy()
    table.iloc[1, 0] = table.iloc[2, 0] + 1.0
    assert not replace(curve, table=table).monotone


def test_degenerate_baskets(make: Maker) -> None:
    empty = efficient_frontier(make({"IBM": 0.0, "BAC": 0.0}))
    assert len(empty.table) == 1
    single = efficient_frontier(make(slices=1, participation=None), points=5)
    assert np.ptp(single.table["sd_bps"]) < 1e-6
    assert single.monotone
    with pytest.raises(InvalidInput, match="covariance"):
        efficient_frontier(make(covariance=None, temporary=1e-9, risk_aversion=0.0))
    for bad in ([], [-1.0], [float("nan")]):
        with pytest.raises(InvalidInput, match="risk_aversions"):
            efficient_frontier(make(), bad)
    with pytest.raises(InvalidInput, match="points"):
        efficient_frontier(make(), points=2)


def test_words(make: Maker) -> None:
    assert "falls and is convex: yes" in efficient_frontier(make(), points=6).summary()
