"""The solved basket against the independent cvxpy formulation, over a cross product of features."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem, Blackout
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.reference import impact_matrix, reference_basket
from crosswind.solvers.errors import InvalidInput

TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def agree(problem: BasketProblem, rel: float = 1e-6) -> None:
    schedule = problem.solve()
    check, u = reference_basket(problem)
    check.solve(solver="CLARABEL", **TIGHT)
    assert check.status == "optimal"
    assert problem.to_bps(schedule.costs["total"]) == pytest.approx(check.value, rel=rel)
    assert problem.breaches(schedule.trades).empty
    # The same ruler: our cost function at the reference's trades gives the reference's objective.
    trades = problem.frame(np.asarray(u.value) * problem.parent_notional)
    assert problem.to_bps(problem.score(trades)["total"]) == pytest.approx(check.value, rel=1e-7)
    # Strictly convex here (η > 0), so the trades agree too.
    assert np.abs(schedule.trades.to_numpy() - trades.to_numpy()).max() < 1e-3 * problem.parent_notional / trades.size


CASES = list(itertools.product([1, 3], [False, True], [False, True], ["hard", "soft", "partial"]))


@pytest.mark.parametrize(("modes", "one_sided", "limits", "completion"), CASES)
def test_cross_product(modes: int, one_sided: bool, limits: bool, completion: str) -> None:
    problem = basket_instance(5, 7, seed=11, modes=modes, one_sided=one_sided, limits=limits, participation=0.12)
    end: dict[str, Any] = {
        "hard": "hard",
        "soft": 2.0 / problem.parent_notional,
        "partial": 0.3 * problem.inventory,
    }
    agree(problem.replace(completion=end[completion]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("soft", [False, True])
def test_windows_deadlines_hysteresis_and_reversal(seed: int, soft: bool) -> None:
    problem = basket_instance(4, 9, seed=seed, participation=0.3)
    first, later = problem.names[0], problem.names[1]
    agree(
        problem.replace(
            blackouts=(
                Blackout(problem.times[3], problem.times[4]),
                Blackout(problem.times[6], problem.times[8], (first,)),
            ),
            must_finish=pd.Series({later: problem.times[6]}),
            max_change=problem.inventory.abs() * 0.35,
            allow_reversal=seed % 2 == 0,
            sector_cap=None,
            cash_band=None,
            completion=5.0 / problem.parent_notional if soft else "hard",
        )
    )


def test_unequal_gaps_decay_over_real_time() -> None:
    problem = basket_instance(3, 6, seed=5, limits=False)
    gaps = np.array([0, 1, 3, 4, 30, 31]) * problem.slice_s
    times = problem.times[0] + pd.to_timedelta(gaps, unit="s")
    assert problem.volume is not None
    agree(problem.replace(times=times, volume=problem.volume.set_axis(times)))


def test_reversal_with_previous_trade() -> None:
    problem = basket_instance(3, 5, seed=8, limits=False)
    change = {"max_change": 0.2 * problem.inventory.abs(), "previous_trade": 0.1 * problem.inventory}
    agree(problem.replace(allow_reversal=True, participation=None, **change))


def test_impact_matrix_is_the_double_sum() -> None:
    problem = basket_instance(3, 4, seed=2)
    rng = np.random.default_rng(0)
    u = rng.normal(size=(4, 3)) * 1e6
    seconds = np.concatenate([[0.0], np.cumsum(problem.arrays.dt_s[1:])])
    total = 0.0
    for s, t in itertools.product(range(4), range(4)):
        for mode in problem.model.modes():
            total += 0.5 * np.exp(-mode.rate_per_s * abs(seconds[s] - seconds[t])) * u[s] @ mode.matrix @ u[t]
    Q = impact_matrix(problem)
    assert 0.5 * u.ravel() @ Q @ u.ravel() == pytest.approx(total, rel=1e-12)
    costs = problem.score(problem.frame(u))
    assert costs["impact_self"] + costs["impact_cross"] == pytest.approx(total, rel=1e-12)


def test_reference_refuses_what_it_does_not_know(desk: BasketProblem) -> None:
    from crosswind.optim.limits import TradeLimit

    limited = desk.replace(extra_limits=(TradeLimit("clip", -1e9 * np.ones(8), 1e9 * np.ones(8)),))
    with pytest.raises(InvalidInput, match="extra_limits"):
        reference_basket(limited)
