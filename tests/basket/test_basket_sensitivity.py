"""Sensitivities through the optimum against finite differences of re-solved problems, and the flag of degeneracy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.analysis import PARAMETERS, sensitivities
from crosswind.problems.basket.analysis.parameters import applicable, path_of
from crosswind.problems.basket.instances import basket_instance
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]
STEP = 1e-4


def differences(path: Callable[[float], BasketProblem]) -> tuple[float, pd.DataFrame]:
    up, down = (path(s).solve(tol=1e-10) for s in (STEP, -STEP))
    width = 2.0 * STEP
    return float(up.costs["total"] - down.costs["total"]) / width, (up.trades - down.trades) / width


def agrees(problem: BasketProblem, names: list[str] | None = None) -> None:
    found = sensitivities(problem.solve(tol=1e-10), names)
    assert not found.degenerate, found.reason
    for name, move in found.moves.items():
        cost, trades = differences(path_of(problem, name))
        floor = 1e-8 * float(found.schedule.costs["total"])
        assert found.cost[name] == pytest.approx(cost, rel=1e-6, abs=floor), name
        size = max(float(trades.abs().to_numpy().max()), 1e-4 * problem.parent_notional / problem.n_slices)
        np.testing.assert_allclose(move, trades, atol=1e-5 * size, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_whole_parameters_match_finite_differences(seed: int) -> None:
    problem = basket_instance(7, 9, seed=seed)
    agrees(problem)


def test_penalty_hysteresis_and_tight_caps(make: Maker) -> None:
    agrees(make(completion=2e-9, max_change=4e5, participation=0.06))
    agrees(make(participation=0.05, cash_band=3.2e6))


def test_parameters_by_label() -> None:
    problem = basket_instance(6, 8, seed=1, participation=0.11)
    names = ["spread[N001]", "inventory[N002]", "volume[N003]", "temporary[N000]", "participation[N004]", "impact[1]"]
    agrees(problem, [*names, "sector_cap[S0]"])


def test_any_path_and_its_predictions(make: Maker) -> None:
    problem = make(participation=None)
    twist = problem.model.matrices[:, ::-1, ::-1].copy()

    def path(eps: float) -> BasketProblem:
        from dataclasses import replace

        mixed = (1.0 - eps) * problem.model.matrices + eps * 1.5 * twist
        return problem.replace(model=replace(problem.model, matrices=mixed))

    found = sensitivities(problem.solve(tol=1e-10), {"twist": path})
    cost, trades = differences(path)
    assert found.cost["twist"] == pytest.approx(cost, rel=1e-6)
    np.testing.assert_allclose(found.moves["twist"], trades, atol=1e-5 * float(trades.abs().to_numpy().max()))
    ahead = path(0.02).solve(tol=1e-10)
    assert found.total("twist", 0.02) == pytest.approx(ahead.costs["total"], rel=1e-4)
    # To first order the schedule completes too.
    np.testing.assert_allclose(found.trades("twist", 0.02).sum(), problem.inventory, rtol=1e-9)


def test_scale_laws_hold_exactly(make: Maker) -> None:
    """Cost is homogeneous of degree one in all its coefficients: Σ of their relative derivatives is the cost."""
    problem = make(participation=None, temporary=3e-10)
    schedule = problem.solve(tol=1e-10)
    found = sensitivities(schedule, ["spread", "temporary", "impact", "risk_aversion"])
    assert found.cost.sum() == pytest.approx(schedule.costs["total"], rel=1e-8)
    for name, part in (("spread", "spread"), ("temporary", "temporary"), ("risk_aversion", "risk")):
        assert found.cost[name] == pytest.approx(schedule.costs[part], rel=1e-7)
    assert found.per_unit("risk_aversion") == pytest.approx(schedule.costs["risk"] / 1e-6, rel=1e-7)


def test_limit_that_just_binds_is_flagged(make: Maker) -> None:
    free = make({"IBM": 4e6}, participation=None).solve(tol=1e-10)
    peak = float(free.participation.to_numpy().max())  # type: ignore[union-attr]
    edge = make({"IBM": 4e6}, participation=peak)
    schedule = edge.solve(tol=1e-10)
    loose, held = (sensitivities(schedule, ["risk_aversion"], weak=side) for side in ("free", "held"))
    assert loose.degenerate
    assert "ONE-SIDED" in loose.summary()
    assert loose.cost["risk_aversion"] == pytest.approx(held.cost["risk_aversion"], rel=1e-7)
    # Where more risk aversion wants a larger trade at the cap, that side keeps the cap and the other leaves it.
    up = (edge.replace(risk_aversion=1e-6 * (1 + STEP)).solve(tol=1e-11).trades - schedule.trades) / STEP
    down = (schedule.trades - edge.replace(risk_aversion=1e-6 * (1 - STEP)).solve(tol=1e-11).trades) / STEP
    at_cap = int(free.participation.to_numpy().argmax())  # type: ignore[union-attr]
    leaves, keeps = (down, up) if loose.moves["risk_aversion"].iloc[at_cap, 0] > 0.0 else (up, down)
    size = float(leaves.abs().to_numpy().max())
    assert float((leaves - keeps).abs().to_numpy().max()) > 0.05 * size
    np.testing.assert_allclose(held.moves["risk_aversion"], keeps, atol=2e-3 * size)
    np.testing.assert_allclose(loose.moves["risk_aversion"], leaves, atol=2e-3 * size)


def test_ends_of_ranges(make: Maker) -> None:
    whole = make(participation=1.0)
    found = sensitivities(whole.solve(), ["participation"])  # above one there is no problem: one side is differenced
    assert found.cost["participation"] == 0.0
    riskless = make(risk_aversion=0.0)
    assert "risk_aversion" not in applicable(riskless)
    assert sensitivities(riskless.solve(), ["risk_aversion"]).cost["risk_aversion"] == 0.0  # 1 % of nothing


def test_tables_and_refusals(make: Maker) -> None:
    problem = make()
    schedule = problem.solve()
    found = sensitivities(schedule)
    assert set(found.to_frame().index) <= set(PARAMETERS)
    assert "per +1 %" in found.summary()
    for bad in (["gamma"], ["inventory[XYZ]"], ["sector_cap"], ["impact[7]"], ["completion"], ["risk_aversion[IBM]"]):
        with pytest.raises(InvalidInput):
            sensitivities(schedule, bad)
    with pytest.raises(InvalidInput, match="asked for"):
        found.trades("gamma")
    with pytest.raises(InvalidInput, match="form"):
        sensitivities(schedule, {"end": lambda eps: problem.replace(risk_aversion=max(eps, 0.0))})


def test_square_root_cost_hedges_and_drift(make: Maker) -> None:
    rich = make(
        hedges=["AIG"],
        inventory={"IBM": 4e6, "BAC": -3e6},
        three_halves=3e-7,
        drift=pd.Series({"IBM": 2e-8, "BAC": -1e-8, "AIG": 0.0}),
        urgency=1e-7,
        participation=None,
        model=make().model,
        volume=make().volume,
        covariance=make().covariance,
    )
    found = sensitivities(rich.solve(), ["three_halves", "drift", "urgency", "risk_aversion", "inventory", "spread"])
    assert not found.degenerate, found.reason
    wide = 0.01  # the square-root cost is solved to fewer digits: a wider step keeps the differences above them
    for name, move in found.moves.items():
        up, down = (path_of(rich, name)(s).solve() for s in (wide, -wide))
        cost, trades = (up.costs["total"] - down.costs["total"]) / (2 * wide), (up.trades - down.trades) / (2 * wide)
        assert found.cost[name] == pytest.approx(float(cost), rel=1e-3, abs=1e-3), name
        size = max(float(trades.abs().to_numpy().max()), 1e-3 * rich.parent_notional / rich.n_slices)
        np.testing.assert_allclose(move, trades, atol=1e-2 * size, err_msg=name)


@pytest.mark.parametrize("seed", [6006, 6019])
def test_a_sharpened_schedule_has_derivatives(seed: int, random_basket: Callable[[int], BasketProblem]) -> None:
    """Both backends stop short of 1e-8 there; the corner of the active set does not, and counts as optimal."""
    problem = random_basket(seed)
    schedule = problem.solve()
    assert schedule.certificate.gap_rel < 1e-12
    found = sensitivities(schedule, ["inventory"])
    cost, _ = differences(path_of(problem, "inventory"))
    assert found.cost["inventory"] == pytest.approx(cost, rel=1e-3)
