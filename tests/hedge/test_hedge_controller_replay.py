"""The controller in the event kernel: the same account, the same decisions as the policy of the replay, the ladder."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hedge_cases import VARIANCE_PER_S, beliefs_of, market_of, modes_of, parent_of, venue_of

from crosswind.problems.hedge import HedgeBeliefs, HedgeContext, HedgePolicy, HedgeState, MPCHedge, Rung, replay_hedge
from crosswind.problems.hedge.controller import ControlledHedge
from crosswind.solvers.errors import InvalidInput


@pytest.mark.parametrize("limits", [{}, {"clip_share": 0.2}], ids=str)
@pytest.mark.parametrize("latency_s", [0.0, 130.0])
def test_the_controller_decides_as_the_policy_does(latency_s: float, limits: dict[str, float]) -> None:
    """Over revised plans, whole sessions and late fills; each then trades on its own account."""
    modes = modes_of(1)
    runs = [
        replay_hedge(parent_of(1, revise=5), policy, market_of(1), beliefs_of(modes), venue_of(modes, latency_s))
        for policy in (MPCHedge(2e-6, 6, engine="session", tol=1e-9, **limits), ControlledHedge(2e-6, 6, **limits))  # type: ignore[arg-type]
    ]
    scale = float(runs[0].decisions["trade"].abs().max())
    np.testing.assert_allclose(runs[1].decisions["trade"], runs[0].decisions["trade"], atol=2e-5 * scale)
    assert runs[1].net == pytest.approx(runs[0].net, rel=1e-5)
    assert set(runs[1].decisions["rung"]) == {"OPTIMAL", "CLOSE"}


def test_whole_contracts_limits_and_the_ledger() -> None:
    modes = modes_of(2)
    policy = ControlledHedge(2e-6, 8, clip_share=0.15, rate_share=0.1, gap_cap_share=0.3)
    run = replay_hedge(parent_of(2), policy, market_of(2), beliefs_of(modes), venue_of(modes), integer=True)
    assert run.attribution.ledger_error <= 1e-9
    assert run.decisions["contracts"].map(float.is_integer).all()
    assert isinstance(policy, HedgePolicy)
    assert policy.controller is not None
    clip = policy.controller.setup.instruments[0].clip
    assert run.decisions["trade"].iloc[:-1].abs().max() <= clip * (1.0 + 1e-9)


def test_the_ladder_in_the_policys_rungs() -> None:
    context = HedgeContext(30, np.full(30, 60.0), 1e6, HedgeBeliefs(VARIANCE_PER_S), np.zeros(0), np.zeros(0))
    good = HedgeState(0, 1e6, 5e5, np.full(30, 1e6), 1e-5, np.zeros(30))
    policy = ControlledHedge(1e-5, 6, clip_share=0.3, trip_after=1, rearm_after=1)
    with pytest.raises(InvalidInput, match="reset"):
        policy.decide(good)
    policy.reset(context)
    states: list[tuple[dict[str, Any], Rung]] = [
        ({}, Rung.OPTIMAL),
        ({"planned_beta_q": np.full(29, math.nan)}, Rung.RULE),
        ({}, Rung.RULE),  # good in the shade
        ({}, Rung.OPTIMAL),
        ({"beta_q": math.nan}, Rung.HOLD),
        ({}, Rung.HOLD),  # only just good again
        ({}, Rung.OPTIMAL),
    ]
    for k, (change, rung) in enumerate(states):
        fitting = {"slice": k, "planned_beta_q": np.full(30 - k, 1e6), "drift": np.zeros(30 - k)}
        action = policy.decide(replace(good, **(fitting | change)))
        assert action.rung is rung, (k, action.reason)
        assert abs(action.trade) <= 3e5 * (1.0 + 1e-9)
    stopped = ControlledHedge(1e-5, 6, work=0)
    stopped.reset(context)
    assert stopped.decide(good).rung in (Rung.RULE, Rung.FEASIBLE, Rung.OPTIMAL)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ControlledHedge(-1.0), "setup.risk_aversion"),
        (lambda: ControlledHedge(1.0, horizon=0), "horizon"),
        (lambda: ControlledHedge(1.0, clip_share=math.nan), "hedge.clip"),
        (lambda: ControlledHedge(1.0, colour="red"), "settings"),
    ],
)
def test_bad_parameters_are_refused(make: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field
