"""Marginal costs equal completion prices and limit prices at the optimum; costs split by name and pair add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.limits import BandLimit, SoftPenalty
from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.analysis import decompose_marginal_costs, marginal_costs, split_costs
from crosswind.problems.basket.instances import basket_instance
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "penalty": {"completion": 1e-8},
    "hysteresis": {"max_change": 2e6},
    "two-sided": {"allow_reversal": True, "cash_band": None},
    "tight band": {"cash_band": 4e6},
    "no risk": {"risk_aversion": 0.0},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("seed", range(4))
def test_marginal_cost_is_completion_plus_limits(seed: int, variant: str) -> None:
    problem = basket_instance(8, 10, seed=seed).replace(**VARIANTS[variant])
    if variant == "tight band":
        problem = problem.replace(cash_band=1.02 * abs(float(problem.inventory.sum())))
    parts = decompose_marginal_costs(problem.solve())
    assert parts.residual_rel < 1e-6
    total = parts.completion + sum(parts.limits.values()) + parts.residual
    np.testing.assert_allclose(total, parts.total, rtol=1e-12, atol=1e-18)


def test_binding_band_and_soft_band_are_told_apart(make: Maker) -> None:
    hard = BandLimit("beta band", np.array([[1.0, 0.8, 1.2]]), -2.2e6, 2.2e6)
    parts = decompose_marginal_costs(make(participation=None, extra_limits=(hard,)).solve())
    assert parts.residual_rel < 1e-6
    assert parts.limits["beta band"].abs().to_numpy().max() > 1e-6
    soft = BandLimit("beta band", np.array([[1.0, 0.8, 1.2]]), -1e6, 1e6, soft=SoftPenalty(1e-5))
    parts = decompose_marginal_costs(make(participation=None, extra_limits=(soft,)).solve())
    assert (parts.limits["beta band"] == 0.0).all(axis=None)


def test_marginal_costs_are_derivatives_of_the_score(desk: BasketProblem) -> None:
    rng = np.random.default_rng(5)
    trades = desk.frame(rng.normal(0.0, 1e6, (desk.n_slices, desk.n_names)))
    MC = marginal_costs(desk, trades)
    for _ in range(6):
        t, i = int(rng.integers(desk.n_slices)), int(rng.integers(desk.n_names))
        up, down = trades.copy(), trades.copy()
        up.iloc[t, i] += 100.0
        down.iloc[t, i] -= 100.0
        slope = (desk.score(up)["total"] - desk.score(down)["total"]) / 200.0
        assert MC.iloc[t, i] == pytest.approx(slope, rel=1e-5)
    with pytest.raises(InvalidInput, match="trades"):
        marginal_costs(desk, trades.iloc[1:])


def test_tables_and_words(desk: BasketProblem) -> None:
    parts = decompose_marginal_costs(desk.solve())
    frame = parts.to_frame()
    assert len(frame) == desk.n_slices * desk.n_names
    np.testing.assert_allclose(frame.drop(columns="marginal cost").sum(axis=1), frame["marginal cost"], atol=1e-9)
    assert "completion" in parts.summary()


@pytest.mark.parametrize("changes", [{}, {"completion": 1e-8}, {"allow_reversal": True}, {"risk_aversion": 0.0}])
def test_split_adds_up_to_the_score(desk: BasketProblem, changes: dict[str, Any]) -> None:
    problem = desk.replace(**changes)
    schedule = problem.solve()
    split = split_costs(problem, schedule.trades)
    scale = float(schedule.costs["total"])
    for part in schedule.costs.index:
        assert split.by_name[part].sum() == pytest.approx(schedule.costs[part], abs=1e-9 * scale)
    pairs = split.pairs.to_numpy()
    np.testing.assert_array_equal(pairs, pairs.T)
    impact = schedule.costs["impact_self"] + schedule.costs["impact_cross"]
    assert pairs.sum() == pytest.approx(impact, rel=1e-9)
    assert split.cross_share == pytest.approx(schedule.costs["impact_cross"] / impact, rel=1e-9)
    assert split.by_sector().to_numpy().sum() == pytest.approx(impact, rel=1e-9)


def test_split_of_two_names_is_the_formula(make: Maker) -> None:
    problem = make({"IBM": 1e6, "BAC": 5e5}, slices=1, participation=None)
    split = split_costs(problem, problem.frame(np.array([[1e6, 5e5]])))
    K = problem.model.matrices.sum(axis=0)
    np.testing.assert_allclose(split.pairs, 0.5 * K * np.outer([1e6, 5e5], [1e6, 5e5]), rtol=1e-12)


def test_split_refuses_what_it_lacks(make: Maker) -> None:
    problem = make()
    split = split_costs(problem, problem.solve().trades)
    with pytest.raises(InvalidInput, match="sectors"):
        split.by_sector()
    with pytest.raises(InvalidInput, match="without a sector"):
        split.by_sector(pd.Series({"IBM": "tech"}))
    assert "cross-impact is" in split.summary()
    empty = make({"IBM": 0.0, "BAC": 0.0})
    assert np.isnan(split_costs(empty, empty.solve().trades).cross_share)


def test_hedges_square_root_cost_drift_and_urgency(make: Maker) -> None:
    base = make()
    rich = make(
        {"IBM": 4e6, "BAC": -3e6},
        hedges=["AIG"],
        three_halves=2e-7,
        drift=pd.Series({"IBM": 2e-8, "BAC": 0.0, "AIG": 0.0}),
        urgency=1e-7,
        model=base.model,
        volume=base.volume,
        covariance=base.covariance,
        beta=pd.Series({"IBM": 1.0, "BAC": 1.1, "AIG": 0.9}),
        beta_band=6e5,
    )
    schedule = rich.solve()
    assert decompose_marginal_costs(schedule).residual_rel < 1e-6
    split = split_costs(rich, schedule.trades)
    assert {"three_halves", "drift", "urgency"} <= set(split.by_name)
    np.testing.assert_allclose(split.by_name.sum(), schedule.costs[list(split.by_name.columns)], rtol=1e-9, atol=1e-9)
