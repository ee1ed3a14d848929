"""The controller on the core and on a session of the registry: one program, the same decisions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hedge_cases import VARIANCE_PER_S, beliefs_of, market_of, modes_of, parent_of, venue_of

from crosswind.optim.costs import cost
from crosswind.optim.program import ImpactMode
from crosswind.problems.hedge import AdaptiveTrigger, HedgeContext, HedgeState, MPCHedge, Rung, replay_hedge
from crosswind.problems.hedge.core_step import CoreStep
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.native import COMPILED

LIMITS = [
    {},
    {"clip_share": 0.2},
    {"clip_share": 0.3, "gap_cap_share": 0.2},
    {"clip_share": 0.4, "gap_cap_share": 0.3, "gap_penalty": 1e-4, "rate_share": 0.1, "temporary": 1e-12},
    {"rate_share": 0.05},
    {"impact_factor": 3.0, "fee_bps": 0.4},
]


def states_of(policy: MPCHedge, seed: int, **limits: float) -> tuple[list[HedgeState], HedgeContext]:
    """Return the states that a policy meets in a replay."""
    seen: list[HedgeState] = []

    class Spy(MPCHedge):
        def decide(self, state: HedgeState):  # type: ignore[no-untyped-def]
            seen.append(state)
            return super().decide(state)

    spy = Spy(policy.risk_aversion, policy.horizon, **limits)
    modes = modes_of(seed)
    replay_hedge(parent_of(seed, revise=5), spy, market_of(seed), beliefs_of(modes), venue_of(modes))
    return seen, spy.context


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_core_and_session_decide_alike(horizon: int, limits: dict[str, float]) -> None:
    """Along a replay with a revised plan, to 1e-6 of the parent's beta notional, the end of the parent included."""
    core, session = (
        MPCHedge(2e-6, horizon, engine=engine, tol=1e-10, **limits)  # type: ignore[arg-type]
        for engine in ("core", "session")
    )
    states, context = states_of(core, seed=horizon, **limits)
    core.reset(context), session.reset(context)
    for state in states:
        fast, slow = core.decide(state), session.decide(state)
        assert fast.rung is Rung.OPTIMAL, state.slice
        assert slow.rung is Rung.OPTIMAL, state.slice
        assert abs(fast.trade - slow.trade) <= 1e-6 * context.scale, state.slice
        session._previous = core._previous  # a rate limit starts both at the same trade


def test_both_engines_follow_the_spread() -> None:
    core, session = (MPCHedge(2e-6, 8, engine=engine, tol=1e-10, spread_power=2.0) for engine in ("core", "session"))
    states, context = states_of(core, seed=6)
    core.reset(context), session.reset(context)
    plain, differs = MPCHedge(2e-6, 8, engine="core", tol=1e-10), False
    plain.reset(context)
    for state in states:
        told = replace(state, half_spread=state.half_spread * (2.0 if 4 <= state.slice < 9 else 1.0))
        fast, slow = core.decide(told).trade, session.decide(told).trade
        assert abs(fast - slow) <= 1e-6 * context.scale, state.slice
        differs |= abs(fast - plain.decide(told).trade) > 1e-4 * context.scale
    assert differs


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_the_cores_cost_is_the_programs(limits: dict[str, float]) -> None:
    """What the core minimises is the sparse program's cost, but for what no trade can change."""
    policy = MPCHedge(2e-6, 6, **limits)  # type: ignore[arg-type]
    states, context = states_of(policy, seed=3, **limits)
    policy.reset(context)
    core, differences = CoreStep(policy, context), []
    for state in (states[0], states[7], states[-1]):
        for previous in (0.0, 0.05 * context.scale, -0.05 * context.scale):
            step = core.solve(state, previous)
            trades = np.zeros((6, 1))
            trades[: len(step.trades)] = step.trades
            differences.append(step.objective - cost(policy.program(state), trades).total)
    for same_state in np.reshape(differences, (3, 3)):
        np.testing.assert_allclose(same_state, 0.0, atol=1e-9)


def test_modes_that_are_gone_within_a_slice_and_ones_that_stay() -> None:
    modes = tuple(ImpactMode(rate, np.diag([0.0, 0.0, 0.0, 2e-12])) for rate in (0.0, 1e3))
    states, context = states_of(MPCHedge(2e-6, 8), seed=2)
    beliefs = beliefs_of(modes)
    rates, own, _ = beliefs.coupling("ES", ())
    context = replace(context, beliefs=beliefs, rates_per_s=rates, own=own)
    trades = []
    for engine in ("core", "session"):
        policy = MPCHedge(2e-6, 8, engine=engine, tol=1e-10)
        policy.reset(context)
        trades.append([policy.decide(state).trade for state in states])
    np.testing.assert_allclose(*trades, atol=1e-6 * context.scale)


def test_auto_takes_the_core_unless_a_solver_or_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    states, context = states_of(MPCHedge(2e-6, 8), seed=4)
    asked: list[str] = []
    inner = CoreStep.solve

    def watch(self: CoreStep, state: HedgeState, previous: float):  # type: ignore[no-untyped-def]
        asked.append("core")
        return inner(self, state, previous)

    monkeypatch.setattr(CoreStep, "solve", watch)
    for make, expected in (
        ({}, ["core"] if COMPILED else []),
        ({"solver": "piqp"}, []),
        ({"settings": {"max_iter": 500}, "solver": "osqp"}, []),
        ({"engine": "session"}, []),
        ({"engine": "core", "solver": "piqp"}, ["core"]),
    ):
        asked.clear()
        policy = MPCHedge(2e-6, 8, **make)  # type: ignore[arg-type]
        policy.reset(context)
        policy.decide(states[0])
        assert asked == expected, make
    with pytest.raises(InvalidInput) as caught:
        MPCHedge(1e-6, engine="C")
    assert caught.value.field == "engine"


def test_what_the_core_refuses_goes_to_the_session_or_to_the_rule() -> None:
    """Amounts beyond 1e9 units: the core alone answers by the rule, auto asks the session."""
    states, context = states_of(MPCHedge(2e-6, 8), seed=4)
    far = replace(states[0], held=1e10 * context.scale)
    rungs = {}
    for engine in ("core", "auto"):
        policy = MPCHedge(2e-6, 8, clip_share=0.3, engine=engine, fallback=AdaptiveTrigger(0.0))
        policy.reset(context)
        action = policy.decide(far)
        rungs[engine] = action.rung
        assert abs(action.trade) <= 0.3 * context.scale
    assert rungs["core"] is Rung.RULE
    good = MPCHedge(2e-6, 8, engine="core", clip_share=0.3)
    good.reset(context)
    first = good.decide(states[0]).trade
    good.reset(context)
    good.decide(far)
    assert good._core is None  # nothing of a bad step is kept
    good._previous = 0.0
    assert good.decide(states[0]).trade == pytest.approx(first, abs=1e-9 * context.scale)


@pytest.mark.skipif(not COMPILED, reason="the extension was not compiled")
def test_a_replay_on_the_core_costs_a_fraction() -> None:
    """The controller's own time, not that of the replay around it; in CPU seconds, each the best of three."""
    import time

    states, context = states_of(MPCHedge(2e-6, 20), seed=5)
    best = {"core": math.inf, "session": math.inf}
    for engine in best:
        for _ in range(3):
            policy = MPCHedge(2e-6, 20, engine=engine)
            policy.reset(context)
            policy.decide(states[0])
            start = time.process_time()
            for state in states[1:]:
                policy.decide(state)
            best[engine] = min(best[engine], time.process_time() - start)
    assert best["session"] > 5.0 * best["core"]


def test_variance_is_of_the_median_slice() -> None:
    _, context = states_of(MPCHedge(2e-6, 8), seed=4)
    assert CoreStep(MPCHedge(2e-6, 8), context).variance == pytest.approx(VARIANCE_PER_S * 60.0)
