"""Almgren and Chriss (2000): the published example, through the basket problem and through the baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem, almgren_chriss, frontier
from crosswind.problems.impact.model import ImpactModel

X, T, SIGMA, EPSILON, GAMMA, ETA = 1e6, 5, 0.95, 0.0625, 2.5e-7, 2.5e-6
ETA_TILDE = ETA - GAMMA / 2.0  # τ = 1 day
DAY = 86_400.0

# λ: remaining x_1..x_4, expected cost, standard deviation
PAPER = {
    2e-6: ([428598.846, 182932.814, 76295.722, 27643.377], 1_140_715.1670, 449_367.6525),
    1e-6: ([541955.554, 289854.219, 147897.488, 62141.802], 911_226.9863, 603_430.669),
    0.0: ([800_000.0, 600_000.0, 400_000.0, 200_000.0], 662_500.0, 1_040_672.859),
}


def example(risk_aversion: float, side: float = 1.0, **changes: object) -> BasketProblem:
    arguments: dict[str, object] = {
        "inventory": pd.Series({"XYZ": side * X}),
        "model": ImpactModel(("XYZ",), np.zeros(1), np.full((1, 1, 1), GAMMA), "instantaneous"),
        "times": pd.date_range("2024-03-04", periods=T, freq="D", tz="UTC"),
        "slice_s": DAY,
        "covariance": pd.DataFrame([[SIGMA**2 / DAY]], index=["XYZ"], columns=["XYZ"]),
        "spread": EPSILON,
        "temporary": ETA_TILDE,
        "risk_aversion": risk_aversion,
        "participation": None,
    }
    return BasketProblem(**(arguments | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("risk_aversion", list(PAPER))
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_solved_basket_prints_the_published_numbers(risk_aversion: float, side: float) -> None:
    left, expected, sd = PAPER[risk_aversion]
    schedule = example(risk_aversion, side).solve(tol=1e-10)
    np.testing.assert_allclose(side * schedule.inventory["XYZ"].to_numpy()[1:-1], left, atol=1e-3)
    costs = schedule.costs
    assert costs["total"] - costs["risk"] == pytest.approx(expected, abs=1e-3)
    variance = float((schedule.inventory["XYZ"].to_numpy()[1:] ** 2).sum()) * SIGMA**2
    assert np.sqrt(variance) == pytest.approx(sd, abs=1e-2)
    assert costs["risk"] == pytest.approx(risk_aversion * variance, rel=1e-12)


@pytest.mark.parametrize("risk_aversion", list(PAPER))
def test_baseline_is_the_closed_form(risk_aversion: float) -> None:
    problem = example(risk_aversion)
    trades = almgren_chriss(problem)
    left = X - trades["XYZ"].cumsum().to_numpy()
    np.testing.assert_allclose(left[:-1], PAPER[risk_aversion][0], atol=1e-3)
    assert left[-1] == pytest.approx(0.0, abs=1e-6)
    assert problem.score(trades)["total"] == pytest.approx(problem.solve(tol=1e-10).costs["total"], rel=1e-9)


def test_permanent_impact_costs_half_gamma_x_squared_whatever_the_schedule() -> None:
    problem = example(1e-6)
    costs = problem.solve().costs
    assert costs["impact_self"] == pytest.approx(0.5 * GAMMA * X**2, rel=1e-9)
    assert costs["spread"] == pytest.approx(EPSILON * X, rel=1e-12)
    assert costs["impact_cross"] == 0.0


def test_impatience_does_not_overflow_and_no_cost_trades_at_once() -> None:
    at_once = almgren_chriss(example(1e6)).to_numpy()
    assert np.isfinite(at_once).all()
    assert at_once[0, 0] == pytest.approx(X, rel=1e-6)
    free = almgren_chriss(example(1e-6, temporary=0.0)).to_numpy()
    np.testing.assert_allclose(free[:, 0], [X, 0, 0, 0, 0])


def test_frontier_runs_from_the_linear_to_the_fast_schedule() -> None:
    table = frontier(example(0.0), [0.0, 1e-7, 1e-6, 2e-6])
    assert (np.diff(table["sd_bps"]) < 0).all()
    assert (np.diff(table["expected_bps"]) > 0).all()
    assert table.loc[1e-6, "expected_bps"] == pytest.approx(1e4 * 911_226.9863 / X, abs=1e-3)
    assert table.loc[0.0, "sd_bps"] == pytest.approx(1e4 * 1_040_672.859 / X, abs=1e-2)
