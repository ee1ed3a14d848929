"""Robust and CVaR schedules against direct convex programs, and the mathematics of the worst case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.analysis import (
    GuardedSchedule,
    ImpactBound,
    Scenario,
    bound_from_bands,
    cvar_schedule,
    draws_from_bands,
    entry_bound,
    market_scenarios,
    own_impact_bound,
    robust_schedule,
    scaled_bound,
)
from crosswind.problems.basket.instances import basket_instance
from crosswind.problems.basket.reference import reference_basket
from crosswind.problems.impact.calibrate.bands import Bands
from crosswind.problems.impact.model import ImpactModel
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]


def rival_scenarios(problem: BasketProblem, count: int, seed: int) -> list[Scenario]:
    """States that hurt different names, so that no single one is the worst for every schedule."""
    rng = np.random.default_rng(seed)
    draw = lambda sd: pd.Series(np.exp(rng.normal(0.0, sd, problem.n_names)), index=list(problem.names))  # noqa: E731
    return [Scenario(f"s{k}", volume=draw(1.0), volatility=draw(0.5), spread=1.0 + k % 2) for k in range(count)]


def draws(problem: BasketProblem, count: int, seed: int, size: float = 0.5) -> list[ImpactModel]:
    rng = np.random.default_rng(seed)
    own = np.sqrt(np.stack([np.diag(K) for K in problem.model.matrices]))
    out = []
    for _ in range(count):
        A = rng.normal(0.0, size, (problem.n_names, 2))
        out.append(replace(problem.model, matrices=problem.model.matrices + own[:, :, None] * (A @ A.T) * own[:, None]))
    return out


def direct(problem: BasketProblem, states: list[BasketProblem], cap: np.ndarray) -> float:
    """The least coherent risk by cvxpy, from the reference's own costs of each state [bps]."""
    import cvxpy as cp

    whole, u = reference_basket(problem)
    zeta, excess = cp.Variable(), cp.Variable(len(states), nonneg=True)
    rules = list(whole.constraints)
    for s, state in enumerate(states):
        one, v = reference_basket(state)
        rules += [v == u, one.objective.args[0] <= zeta + excess[s]]
    program = cp.Problem(cp.Minimize(zeta + cap @ excess), rules)
    program.solve(solver="CLARABEL", tol_gap_rel=1e-8, tol_gap_abs=1e-8, tol_feas=1e-8)
    return float(program.value)


@pytest.mark.parametrize(("level", "seed"), [(0.0, 0), (0.5, 1), (0.8, 2), (0.9, 3)])
def test_cvar_is_that_of_the_direct_program(level: float, seed: int) -> None:
    problem = basket_instance(4, 6, seed=seed, risk_aversion=3e-7)
    scenarios = rival_scenarios(problem, 6, seed)
    found = cvar_schedule(problem, scenarios, level=level, tol=1e-8)
    cap = np.minimum(np.full(6, 1.0 / 6.0) / (1.0 - level), 1.0)
    best = direct(problem, [s.apply(problem) for s in scenarios], cap)
    assert found.table.loc["guarded", "guarded_against"] == pytest.approx(best, rel=1e-6)
    assert found.gap_rel <= 1e-8
    assert problem.breaches(found.trades, tol=1e-7).empty


@pytest.mark.parametrize("seed", range(3))
def test_worst_of_models_is_that_of_the_direct_program(seed: int) -> None:
    problem = basket_instance(5, 6, seed=seed, risk_aversion=1e-7)
    models = draws(problem, 5, seed)
    found = robust_schedule(problem, models, tol=1e-8)
    states = [problem, *(problem.replace(model=m) for m in models)]
    best = direct(problem, states, np.ones(6))
    assert found.table.loc["guarded", "guarded_against"] == pytest.approx(best, rel=1e-6)
    assert found.states["guarded"].max() == pytest.approx(best, rel=1e-6)


def test_several_states_share_the_worst() -> None:
    """Where states disagree, the optimum equalises the worst ones, and the weights say which."""
    problem = basket_instance(4, 6, seed=0, risk_aversion=3e-7)
    mixed = 0
    for seed in range(6):
        scenarios = rival_scenarios(problem, 6, seed)
        found = cvar_schedule(problem, scenarios, level=0.95, tol=1e-8)
        active = found.weights[found.weights > 1e-3]
        mixed += len(active) > 1
        level = found.states.loc[active.index, "guarded"]
        assert np.ptp(level) < 1e-4 * level.mean()
    assert mixed >= 2


def test_probabilities_and_the_mean(make: Maker) -> None:
    problem = make()
    scenarios = list(market_scenarios(8, seed=1))
    mean = cvar_schedule(problem, scenarios, level=0.0)
    assert mean.price_bps == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(mean.trades, mean.nominal, atol=1.0)
    sure = cvar_schedule(problem, scenarios, [1.0, *([0.0] * 7)], level=0.9)
    alone = scenarios[0].apply(problem).replace(participation=None)
    assert sure.table.loc["guarded", "believed"] == pytest.approx(
        problem.to_bps(alone.solve().costs["total"]), rel=1e-6
    )


def test_price_and_protection_have_their_signs() -> None:
    problem = basket_instance(6, 8, seed=4, risk_aversion=3e-7)
    for found in (
        cvar_schedule(problem, rival_scenarios(problem, 10, 0), level=0.8),
        robust_schedule(problem, draws(problem, 6, 1)),
        robust_schedule(problem, own_impact_bound(problem.model, 1.0)),
    ):
        assert isinstance(found, GuardedSchedule)
        assert found.price_bps > -1e-6
        assert found.protection_bps > 0.0
        assert "protection" in found.summary()


def test_bound_is_the_worst_of_its_set() -> None:
    """No Δ ⪯ R in the ball costs more than R itself, and R is in it."""
    problem = basket_instance(5, 6, seed=2)
    bound = own_impact_bound(problem.model, 0.4)
    worst = bound.apply(problem)
    rng = np.random.default_rng(0)
    trades = problem.frame(rng.normal(0.0, 1e6, (6, 5)))
    top = worst.score(trades)["total"]
    root = np.sqrt(np.stack([np.diag(K) for K in problem.model.matrices]))
    for _ in range(20):
        A = rng.normal(size=(5, 5))
        A = 0.5 * (A + A.T)
        A *= 0.4 / np.abs(np.linalg.eigvalsh(A)).max()
        inside = problem.model.matrices + root[:, :, None] * A * root[:, None, :]
        state = replace(problem.model, matrices=inside)
        if np.linalg.eigvalsh(inside).min() > 0.0:
            assert problem.replace(model=state).score(trades)["total"] <= top
    assert scaled_bound(problem.model, 0.3).apply(problem).score(trades)["impact_self"] == pytest.approx(
        1.3 * problem.score(trades)["impact_self"]
    )


def test_entry_bound_dominates_every_sign_pattern() -> None:
    problem = basket_instance(4, 5, seed=6)
    rng = np.random.default_rng(2)
    own = np.sqrt(np.stack([np.diag(K) for K in problem.model.matrices]))
    h = own[:, :, None] * own[:, None, :] * rng.uniform(0.0, 0.3, (2, 4, 4))
    h = 0.5 * (h + np.swapaxes(h, 1, 2))
    R = entry_bound(problem.model, h).matrices
    for signs in range(2**6):
        upper = np.array([1.0 if signs >> k & 1 else -1.0 for k in range(6)])
        S = np.eye(4)
        S[np.triu_indices(4, 1)] = upper
        S = np.triu(S) + np.triu(S, 1).T
        for m in range(2):
            scaled = (np.diag(R[m]) - S * h[m]) / np.outer(own[m], own[m])
            assert np.linalg.eigvalsh(scaled)[0] > -1e-12


def test_bands_become_bounds_and_draws() -> None:
    problem = basket_instance(4, 6, seed=3)
    models = draws(problem, 40, 5, size=0.2)
    bands = Bands(problem.model, np.stack([m.matrices for m in models]), 0.9)
    bound = bound_from_bands(bands)
    D = np.stack([np.diag(K) for K in problem.model.matrices])
    inside = 0
    for matrices in bands.matrices:
        left = [
            np.diag(r) - (K - K0) for r, K, K0 in zip(bound.matrices, matrices, problem.model.matrices, strict=True)
        ]
        inside += all(np.linalg.eigvalsh(x / np.sqrt(np.outer(d, d)))[0] > -1e-9 for x, d in zip(left, D, strict=True))
    assert inside / 40 == pytest.approx(0.9, abs=0.03)
    assert bound_from_bands(bands, 0.5).matrices.max() < bound.matrices.max()
    few = draws_from_bands(bands, most=5, seed=1)
    assert len(few) == 6
    assert few[0] is problem.model
    found = robust_schedule(problem, few)
    assert found.protection_bps >= -1e-6
    assert robust_schedule(problem, bound).price_bps >= -1e-9


@pytest.mark.parametrize("cases", ["one scenario", "identical", "empty", "single slice"])
def test_degenerate_sets(make: Maker, cases: str) -> None:
    problem = {"empty": make({"IBM": 0.0, "BAC": 0.0}), "single slice": make(slices=1, participation=None)}.get(
        cases, make()
    )
    scenarios = {"one scenario": [Scenario("a", volume=0.9)], "identical": [Scenario("a"), Scenario("b")]}.get(
        cases, list(market_scenarios(4))
    )
    found = cvar_schedule(problem, scenarios, level=0.8)
    assert np.isfinite(found.trades.to_numpy()).all()
    assert abs(found.weights.sum() - 1.0) < 1e-9


def test_refusals(make: Maker) -> None:
    problem = make()
    bad_calls: list[dict[str, Any]] = [
        {"scenarios": []},
        {"scenarios": ["thin"]},
        {"scenarios": [Scenario("a")], "level": 1.0},
        {"scenarios": [Scenario("a")], "level": -0.1},
        {"scenarios": [Scenario("a")], "probabilities": [0.5]},
        {"scenarios": [Scenario("a"), Scenario("b")], "probabilities": [1.5, -0.5]},
    ]
    for call in bad_calls:
        with pytest.raises(InvalidInput):
            cvar_schedule(problem, **call)
    with pytest.raises(InvalidInput, match="no model"):
        robust_schedule(problem, [])
    with pytest.raises(InvalidInput, match="rates"):
        robust_schedule(problem, [replace(problem.model, rates_per_s=2.0 * problem.model.rates_per_s)])
    with pytest.raises(InvalidInput, match="semidefinite"):
        ImpactBound(("A",), np.array([[-1.0]]))
    with pytest.raises(InvalidInput, match="finite"):
        ImpactBound(("A",), np.array([[np.nan]]))
    with pytest.raises(InvalidInput, match="lacks names"):
        robust_schedule(problem, ImpactBound(("IBM",), np.zeros((2, 1))))
    with pytest.raises(InvalidInput, match="modes"):
        robust_schedule(problem, ImpactBound(problem.names, np.zeros((3, 3))))
    with pytest.raises(InvalidInput, match="half_widths"):
        entry_bound(problem.model, np.zeros((2, 3)))
