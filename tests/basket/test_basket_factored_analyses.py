"""The analyses on impact and risk that are kept as factors: the same numbers as on their dense twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.factored import FactorMatrix
from crosswind.problems.basket import Auction, BasketProblem, FactorCovariance, FactorImpact
from crosswind.problems.basket.analysis import (
    ImpactBound,
    Scenario,
    cvar_schedule,
    market_scenarios,
    own_impact_bound,
    robust_schedule,
    scenario_table,
    sensitivities,
    split_costs,
)
from crosswind.problems.basket.analysis.mixture import blend
from crosswind.problems.basket.analysis.models import enlarge_model, mix_models, scale_covariance, scale_model
from crosswind.problems.basket.instances import basket_instance
from crosswind.solvers.errors import InvalidInput


@pytest.fixture(scope="module")
def pair() -> tuple[BasketProblem, BasketProblem]:
    """Return a factored basket and its dense twin."""
    dense = basket_instance(6, 7, seed=2, risk_aversion=2e-7)
    rng = np.random.default_rng(0)
    names = list(dense.names)
    B = pd.DataFrame(rng.normal(0.0, 1e-4, (6, 2)), names, ["f", "g"])
    C = pd.DataFrame([[1.0, 0.2], [0.2, 0.5]], ["f", "g"], ["f", "g"])
    d = pd.Series(rng.uniform(1e-9, 3e-9, 6), names)
    full = pd.DataFrame(B.to_numpy() @ C.to_numpy() @ B.to_numpy().T + np.diag(d), names, names)
    model = FactorImpact.approximate(dense.model, 2)
    factored = dense.replace(model=model, covariance=FactorCovariance(B, C, d))
    return factored, dense.replace(model=model.to_model(), covariance=full)


def trades(problem: BasketProblem, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return problem.frame(rng.normal(0.0, 1e6, (problem.n_slices, problem.n_names)))


def same(one: Any, other: Any, rel: float = 1e-9) -> None:
    for part in ("spread", "temporary", "impact_self", "impact_cross", "risk", "total"):
        assert one[part] == pytest.approx(other[part], rel=rel), part


@pytest.mark.parametrize(
    "scenario",
    [Scenario("a", volume=0.7, volatility=1.4, spread=2.0, impact=1.7), Scenario("b", impact=0.0), Scenario("c")],
    ids=lambda s: s.name,
)
def test_scenarios_scale_both_forms_alike(pair: tuple[BasketProblem, BasketProblem], scenario: Scenario) -> None:
    factored, dense = pair
    u = trades(dense)
    same(scenario.apply(factored).score(u), scenario.apply(dense).score(u))
    if scenario.name == "a":
        rows = [scenario_table(p, [scenario]).table.drop(columns="status") for p in pair]
        numbers = [r.select_dtypes("number").to_numpy() for r in rows]
        np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-5)


def test_every_form_of_covariance_is_scaled(pair: tuple[BasketProblem, BasketProblem]) -> None:
    factored, dense = pair
    cov = factored.covariance
    assert isinstance(cov, FactorCovariance)
    B, C, d = cov.loadings, cov.factors, cov.specific
    rows = FactorMatrix(B.to_numpy() @ np.linalg.cholesky(C.to_numpy()), d.to_numpy())
    u = trades(dense)
    base = dense.score(u)["risk"]
    for form in (cov, (B, C, d), rows):
        problem = factored.replace(covariance=scale_covariance(form, 2.25))
        assert problem.score(u)["risk"] == pytest.approx(2.25 * base, rel=1e-9)
        with pytest.raises(InvalidInput, match="dense covariance"):
            scale_covariance(form, pd.Series(1.0, list(dense.names)))
    assert scale_covariance(None, 2.0) is None


def test_a_blend_costs_the_mean_of_its_states(pair: tuple[BasketProblem, BasketProblem]) -> None:
    p = np.array([0.2, 0.5, 0.3])
    for problem in pair:
        states = [s.apply(problem) for s in market_scenarios(3, seed=4, spread_sd=0.3)]
        mixed = blend(problem, states, p)
        for seed in range(3):
            u = trades(problem, seed)
            mean = sum(w * s.score(u)["total"] for w, s in zip(p, states, strict=True))
            assert mixed.score(u)["total"] == pytest.approx(mean, rel=1e-10)


def test_mixtures_of_scaled_factors_keep_their_rank(pair: tuple[BasketProblem, BasketProblem]) -> None:
    model = pair[0].model
    mixed = mix_models([scale_model(model, f) for f in (0.5, 1.0, 2.0)], np.array([0.2, 0.3, 0.5]))
    assert [part.shape[1] for part in mixed.loadings] == [part.shape[1] for part in model.loadings]
    same(
        pair[0].replace(model=mixed).score(trades(pair[0])),
        pair[0].replace(model=scale_model(model, 0.1 + 0.3 + 1.0)).score(trades(pair[0])),
    )
    with pytest.raises(InvalidInput, match="form"):
        mix_models([model, pair[1].model], np.array([0.5, 0.5]))


def test_guards_agree(pair: tuple[BasketProblem, BasketProblem]) -> None:
    scenarios = list(market_scenarios(6, seed=1, volatility_sd=0.6, correlation=-0.5))
    tails = [cvar_schedule(p, scenarios, level=0.7) for p in pair]
    assert tails[0].table.loc["guarded", "guarded_against"] == pytest.approx(
        float(tails[1].table["guarded_against"].iloc[1]), rel=1e-6
    )
    worst = [robust_schedule(p, own_impact_bound(p.model, 0.6)) for p in pair]
    np.testing.assert_allclose(worst[0].table, worst[1].table, rtol=1e-6)
    with pytest.raises(InvalidInput, match="dense bound"):
        robust_schedule(pair[0], ImpactBound(pair[0].names, np.stack([np.eye(6), np.eye(6)])))
    grown = enlarge_model(pair[1].model, np.ones((2, 6)))
    np.testing.assert_allclose(grown.matrices - pair[1].model.matrices, np.stack([np.eye(6)] * 2))


def test_sensitivities_and_splits_agree(pair: tuple[BasketProblem, BasketProblem]) -> None:
    names = ["risk_aversion", "impact", "impact[1]", "decay", "covariance", "inventory", "sector_cap"]
    found = [sensitivities(p.solve(), names) for p in pair]
    np.testing.assert_allclose(found[0].cost, found[1].cost, rtol=1e-5, atol=1e-3)
    u = trades(pair[0])
    one, other = (split_costs(p, u) for p in pair)
    np.testing.assert_allclose(one.by_name, other.by_name, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(one.pairs, other.pairs, rtol=1e-9, atol=1e-6)


def test_a_structured_schedule_has_sensitivities_too(pair: tuple[BasketProblem, BasketProblem]) -> None:
    factored = pair[0]
    by_structure, by_sparse = (sensitivities(factored.solve(s), ["risk_aversion"]) for s in ("structured", "auto"))
    assert by_structure.cost["risk_aversion"] == pytest.approx(by_sparse.cost["risk_aversion"], rel=1e-6)


def test_auctions_follow_the_scenario(pair: tuple[BasketProblem, BasketProblem]) -> None:
    dense = pair[1]
    volume = pd.Series(3e7, list(dense.names))
    end = dense.times[-1] + pd.Timedelta(dense.slice_s, unit="s")
    times = dense.times.append(pd.DatetimeIndex([end]))
    close = Auction(end, volume, spread=1e-5, temporary=2e-10)
    problem = dense.replace(times=times, auctions=(close,), sector_cap=None)
    state = Scenario("thin", volume=0.5, volatility=2.0, spread=3.0).apply(problem)
    u = problem.frame(np.vstack([np.zeros((7, 6)), np.full((1, 6), 1e6)]))
    base, moved = problem.score(u), state.score(u)
    assert moved["temporary"] == pytest.approx(4.0 * base["temporary"])
    assert moved["spread"] == pytest.approx(3.0 * base["spread"])
    assert state.arrays.participation_cap[-1, 0] == pytest.approx(0.5 * problem.arrays.participation_cap[-1, 0])
    tail = cvar_schedule(problem, market_scenarios(4, seed=2), level=0.5)
    assert tail.gap_rel <= 1e-6
