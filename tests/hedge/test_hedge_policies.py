"""Rules and the controller: closed forms, independent solvers, limits, the ladder."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hedge_cases import NAMES, TRADED, VARIANCE_PER_S, beliefs_of, market_of, modes_of, parent_of, venue_of
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim.costs import marginal_cost
from crosswind.optim.program import ImpactMode, MultistageProgram
from crosswind.optim.reference import reference_multistage
from crosswind.optim.solve import solve_multistage
from crosswind.problems.hedge import (
    AdaptiveTrigger,
    BatchedHedge,
    FractionHedge,
    HedgeAction,
    HedgeBeliefs,
    HedgeContext,
    HedgeLeg,
    HedgePolicy,
    HedgeState,
    ImmediateHedge,
    MarginalRule,
    MPCHedge,
    NoHedge,
    PlanHedge,
    Rung,
    replay_hedge,
)
from crosswind.problems.replay import MarketView, ReplayMarket, ScheduledPolicy, replay
from crosswind.solvers.errors import InvalidInput

SCALE = 1e6


def context_of(
    slices: int = 30, modes: tuple[ImpactMode, ...] = (), variance: float = VARIANCE_PER_S, dt: float = 60.0
) -> HedgeContext:
    beliefs = HedgeBeliefs(variance, modes, TRADED if modes else ())
    rates, own, _ = beliefs.coupling("ES", NAMES)
    return HedgeContext(slices, np.full(slices, dt), SCALE, beliefs, rates, own)


def state_of(
    gap: float, slices: int = 30, k: int = 0, half_spread: float = 1e-5, planned: np.ndarray | None = None
) -> HedgeState:
    beta_q = SCALE
    path = np.full(slices - k, beta_q) if planned is None else planned
    return HedgeState(k, beta_q, beta_q - gap, path, half_spread, np.zeros(slices - k))


def decide(policy: HedgePolicy, state: HedgeState, context: HedgeContext | None = None) -> float:
    policy.reset(context_of() if context is None else context)
    return policy.decide(state).trade


def test_rules_by_hand() -> None:
    assert decide(NoHedge(), state_of(5e5)) == 0.0
    assert decide(ImmediateHedge(), state_of(5e5)) == 5e5
    assert decide(ImmediateHedge(0.1), state_of(-5e5)) == -1e5
    assert decide(FractionHedge(0.25), state_of(4e5)) == 1e5
    planned = np.linspace(0.9, 0.0, 30) * SCALE
    assert decide(PlanHedge(0.5), state_of(4e5, planned=planned)) == pytest.approx(-1e5 + 2e5)
    batch = BatchedHedge(4)
    batch.reset(context_of())
    trades = [batch.decide(state_of(1.0, k=k)).trade for k in range(9)]
    assert trades == [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]


def test_trigger_fires_at_its_threshold() -> None:
    sigma = math.sqrt(VARIANCE_PER_S * 60.0)
    gap = 2.0 * 1e-4 * SCALE / sigma
    assert decide(AdaptiveTrigger(2.0), state_of(gap * 0.999)) == 0.0
    assert decide(AdaptiveTrigger(2.0), state_of(gap * 1.001)) == pytest.approx(gap * 1.001)


@settings(max_examples=5, deadline=None)
@given(
    gap=st.floats(-1e6, 1e6).filter(lambda g: abs(g) > 1e3),
    spread=st.floats(0.0, 1e-4),
    drift=st.floats(-1e-4, 1e-4),
    size=st.floats(1e-12, 1e-9),
    aversion=st.floats(1e-9, 1e-5),
)
def test_marginal_rule_equals_the_gradient_by_jax(
    gap: float, spread: float, drift: float, size: float, aversion: float
) -> None:
    """At the rule's trade the derivative of lag and future cost is zero; at 0 it lies within the spread's kink."""
    mode = ImpactMode(0.01, np.diag([0.0, 0.0, 0.0, size]))
    context = context_of(modes=(mode,))
    state = replace(state_of(gap, half_spread=spread), drift=np.full(30, drift))
    trade = decide(MarginalRule(aversion), state, context)
    program = MultistageProgram(
        ("h",),
        np.array([60.0]),
        np.array([state.held]),
        exposure=-np.eye(1),
        exposure_level=np.full((2, 1), state.beta_q),
        drift=np.full((1, 1), drift),
        impact=(ImpactMode(0.01, np.array([[size]])),),
        covariance=np.array([[VARIANCE_PER_S * 60.0]]),
        risk_aversion=aversion,
    )
    slope = float(marginal_cost(program, np.array([[trade]]))[0, 0])
    scale = 1e-9 * (spread + abs(drift) + 2.0 * aversion * VARIANCE_PER_S * 60.0 * abs(gap)) + 1e-18
    toward = math.copysign(1.0, gap)
    if trade == 0.0:
        assert toward * slope >= -spread - scale
    elif abs(trade) < abs(gap) * (1.0 - 1e-12):
        assert slope + toward * spread == pytest.approx(0.0, abs=scale)
    else:
        assert toward * slope + spread <= scale
    assert trade * gap >= 0.0


def test_marginal_rule_buffer_delays() -> None:
    """h = (2λσ²τG − c − buffer) / (2λσ²τ + K), by hand."""
    wide, tight = MarginalRule(1e-4, buffer_bps=0.2), MarginalRule(1e-4)
    context = context_of(modes=(ImpactMode(0.01, np.eye(4) * 1e-12),))
    assert decide(tight, state_of(5e5), context) == pytest.approx((6e-5 - 1e-5) / (1.2e-10 + 1e-12))
    assert decide(wide, state_of(5e5), context) == pytest.approx((6e-5 - 3e-5) / (1.2e-10 + 1e-12))
    assert decide(MarginalRule(1e-4, buffer_bps=0.6), state_of(5e5), context) == 0.0


# the controller ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [3, 200])
def test_undiscounted_garleanu_pedersen_rate(horizon: int) -> None:
    """g = .01, λ = 3: an unconstrained controller trades .0560924115 of the gap; its end value makes it so at any H."""
    context = context_of(slices=400, variance=1e-8, dt=1.0)
    policy = MPCHedge(0.01 / (SCALE * 1e-8), horizon, temporary=3.0 / SCALE, tol=1e-10)
    trade = decide(policy, state_of(4e5, slices=400, half_spread=0.0), context)
    assert trade / 4e5 == pytest.approx(0.0560924115, abs=2e-8)


def test_without_costs_the_controller_is_the_immediate_hedge() -> None:
    policy = MPCHedge(1e-3)
    assert decide(policy, state_of(4e5, half_spread=0.0)) == pytest.approx(4e5, rel=1e-6)
    planned = np.linspace(0.9, 0.0, 30) * SCALE
    known = decide(policy, state_of(4e5, half_spread=0.0, planned=planned))
    assert known == pytest.approx(decide(PlanHedge(1.0), state_of(4e5, planned=planned)), rel=1e-6)


def test_huge_cost_leaves_everything_to_the_end() -> None:
    beliefs = HedgeBeliefs(VARIANCE_PER_S, half_spread=0.5)
    run = replay_hedge(parent_of(1), MPCHedge(1e-9, horizon=5), market_of(1), beliefs)
    assert set(run.decisions["rung"]) <= {"OPTIMAL", "FEASIBLE", "CLOSE"}
    assert (run.decisions["trade"] == 0.0).all()
    assert run.futures_traded == 0.0


def test_more_risk_aversion_means_a_smaller_gap() -> None:
    modes = modes_of()
    runs = [
        replay_hedge(parent_of(2), MPCHedge(g), market_of(2), beliefs_of(modes), venue_of(modes))
        for g in (1e-8, 1e-6, 1e-4)
    ]
    gaps = [run.attribution.integrated_gap for run in runs]
    assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize(
    "limits",
    [
        {"clip_share": 0.9},
        {"clip_share": 0.2, "gap_cap_share": 0.3},
        {"clip_share": 0.9, "gap_cap_share": 0.3, "gap_penalty": 1e-4, "rate_share": 0.15, "temporary": 1e-12},
    ],
)
@pytest.mark.parametrize("aversion", [1e-6, 2e-4])
def test_one_step_against_cvxpy_and_the_whole_solver(aversion: float, limits: dict[str, float]) -> None:
    context = context_of(modes=modes_of())
    policy = MPCHedge(aversion, 12, tol=1e-9, **limits)  # type: ignore[arg-type]
    state = replace(state_of(6e5, planned=np.linspace(0.95, 0.0, 30) * SCALE), drift=np.linspace(1e-5, -1e-5, 30))
    policy.reset(context)
    program = policy.program(state)
    trade = policy.decide(state).trade
    whole = solve_multistage(program)
    assert trade == pytest.approx(float(whole.trades[0, 0]) * SCALE, abs=1e-5 * SCALE)
    problem, variables = reference_multistage(program)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert trade == pytest.approx(float(variables["trades"].value[0, 0]) * SCALE, abs=1e-5 * SCALE)


@pytest.mark.parametrize("engine", ["core", "session"])
def test_impact_fees_and_spread_of_the_program(engine: str) -> None:
    """A factor is that much more believed impact, fees are spread, and a doubled spread is four times the variance."""

    def first(policy: MPCHedge, *states: HedgeState, own: float = 1.0) -> float:
        context = context_of(modes=modes_of())
        policy.reset(replace(context, own=own * context.own))
        return [policy.decide(state).trade for state in states][-1]

    def made(**rest: float) -> MPCHedge:
        return MPCHedge(1e-5, 8, engine=engine, tol=1e-10, **rest)  # type: ignore[arg-type]

    state, close = state_of(6e5, half_spread=1e-4), pytest.approx
    twice = replace(state, half_spread=2e-4)
    assert first(made(impact_factor=2.0), state) == close(first(made(), state, own=2.0), abs=1e-5 * SCALE)
    assert abs(first(made(impact_factor=2.0), state)) < abs(first(made(), state)) - 1e-3 * SCALE
    assert first(made(fee_bps=1.0), state) == close(first(made(), twice), abs=1e-5 * SCALE)
    wide = first(made(spread_power=2.0), state, twice)
    fourfold = MPCHedge(4e-5, 8, engine=engine, tol=1e-10)
    assert wide == close(first(fourfold, twice), abs=1e-5 * SCALE)
    assert abs(wide) > abs(first(made(), twice)) + 1e-3 * SCALE


def test_updates_of_one_session_equal_fresh_solves() -> None:
    parent, market, modes = parent_of(3), market_of(3), modes_of()
    make = {"horizon": 6, "clip_share": 0.3, "gap_cap_share": 0.5, "tol": 1e-9}
    states: list[HedgeState] = []

    class Spy(MPCHedge):
        def decide(self, state: HedgeState):  # type: ignore[no-untyped-def]
            states.append(state)
            return super().decide(state)

    spy = Spy(1e-6, **make)
    run = replay_hedge(parent, spy, market, beliefs_of(modes), venue_of(modes))
    for k, state in enumerate(states):
        fresh = MPCHedge(1e-6, **make)
        assert decide(fresh, state, spy.context) == pytest.approx(
            float(run.decisions["trade"][k]), abs=1e-5 * spy.context.scale
        ), k


def test_drift_is_the_gradient_of_the_joint_impact() -> None:
    """The linear cost handed to the controller is jax's derivative of the impact of both legs together."""
    parent, market, modes = parent_of(4), market_of(4), modes_of()
    leg = HedgeLeg(parent, ImmediateHedge(), beliefs_of(modes), market)
    seen: list[HedgeState] = []

    class Watch(ImmediateHedge):
        def decide(self, state: HedgeState):  # type: ignore[no-untyped-def]
            seen.append(state)
            return super().decide(state)

    leg.policy = Watch()
    flat = market.with_(mid=np.tile(market.mid[0], (13, 1)))
    replay(flat, {"cash": ScheduledPolicy(parent.plan), "hedge": leg}, venue_of(modes, 0.0))
    notional = np.column_stack([parent.plan.to_numpy() * market.mid[0, :3], np.zeros(12)])
    hedged = np.array([record.trade for record in leg.records[:-1]])
    for k in (0, 5):
        program = MultistageProgram(TRADED, np.full(12, 60.0), np.zeros(4), impact=modes)
        trades = notional.copy()
        trades[:k, 3] = hedged[:k]
        expected = np.asarray(marginal_cost(program, trades))[k:, 3]
        np.testing.assert_allclose(seen[k].drift, expected, rtol=1e-8, atol=1e-14)


HOSTILE = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("bad", HOSTILE)
@pytest.mark.parametrize("field", ["beta_q", "held", "planned_beta_q", "half_spread", "drift"])
def test_the_controller_holds_on_input_that_is_not_finite(field: str, bad: float) -> None:
    policy, good = MPCHedge(1e-6, 6), state_of(4e5)
    policy.reset(context_of())
    before = policy.decide(good)
    value = np.where(np.arange(30) == 3, bad, getattr(good, field)) if field in ("planned_beta_q", "drift") else bad
    held = policy.decide(replace(good, **{field: value}))
    assert (held.trade, held.rung) == (0.0, Rung.HOLD)
    assert "finite" in held.reason
    # one bad input does not spoil the next decision
    assert policy.decide(good).trade == pytest.approx(before.trade, abs=1e-6 * SCALE)


def test_the_controller_does_not_ask_a_solver_about_rounding_noise() -> None:
    """Where held and required hedge agree but for the last bits, no trade is optimal: no solver is asked."""
    policy = MPCHedge(1e-3, 6, solver="no such solver")
    policy.reset(context_of())
    noise = 1e-17 * SCALE * np.arange(30)
    done = replace(state_of(0.0), held=1e-16 * SCALE, beta_q=0.01 * SCALE, planned_beta_q=noise)
    action = policy.decide(done)
    assert (action.trade, action.rung) == (0.0, Rung.OPTIMAL)
    # A trade to come, or a displacement worth more than the spread, is a program again.
    later = replace(done, planned_beta_q=np.where(np.arange(30) > 10, 1e-3 * SCALE, 0.0))
    dear = replace(done, drift=np.full(30, 2.1e-5))
    trip = replace(done, drift=np.where(np.arange(30) < 9, -1.1e-5, 1.1e-5))
    assert {policy.decide(state).rung for state in (later, dear, trip)} == {Rung.RULE}
    assert policy.decide(replace(done, drift=np.full(30, 1.9e-5))).rung is Rung.OPTIMAL
    # A rate limit still bounds the way down from an earlier trade.
    slow = MPCHedge(1e-3, 6, clip_share=0.4, rate_share=0.1)
    slow.reset(context_of())
    first = slow.decide(state_of(5e5)).trade
    assert abs(slow.decide(done).trade - first) <= 0.1 * SCALE * (1 + 1e-12)


def test_the_controller_falls_back_to_the_rule_when_no_solver_answers() -> None:
    policy = MPCHedge(1e-6, 6, clip_share=0.1, solver="no such solver", fallback=AdaptiveTrigger(0.0))
    policy.reset(context_of())
    action = policy.decide(state_of(5e5))
    assert (action.trade, action.rung) == (1e5, Rung.RULE)
    assert "no such solver" in action.reason
    policy.reset(context_of())
    broken = policy.decide(HedgeState(0, 1.0, 0.0, np.empty(0), 1e-5, np.empty(0)))
    assert broken.rung in (Rung.RULE, Rung.HOLD)
    assert all(rung.text for rung in Rung)


def test_an_early_stop_uses_an_iterate_only_where_it_beats_the_rule() -> None:
    """OSQP stopped after a few iterations keeps every limit and may trade the wrong way: then the rule decides."""
    rungs, best = {}, decide(MPCHedge(1e-5, 6, clip_share=0.3), state_of(5e5), context_of(modes=modes_of()))
    for iterations in (1, 2, 5, 25, 50, 400):
        settings = {"max_iter": iterations, "polishing": False}
        policy = MPCHedge(1e-5, 6, clip_share=0.3, solver="osqp", settings=settings, fallback=AdaptiveTrigger(0.0))
        policy.reset(context_of(modes=modes_of()))
        action = policy.decide(state_of(5e5))
        rungs[iterations] = action.rung
        assert 0.0 <= action.trade <= 0.3 * SCALE, iterations
        if action.rung is Rung.FEASIBLE and iterations >= 50:
            assert action.trade == pytest.approx(best, rel=0.05)
    assert rungs[2] is Rung.RULE
    assert Rung.FEASIBLE in rungs.values()
    assert rungs[400] is Rung.OPTIMAL


@settings(max_examples=40, deadline=None)
@given(
    gap=st.floats(-1e9, 1e9),
    clip=st.floats(1e-3, 2.0),
    rate=st.one_of(st.just(math.inf), st.floats(1e-3, 2.0)),
    spread=st.floats(0.0, 1.0),
    aversion=st.floats(0.0, 1e3),
    drift=st.floats(-1e3, 1e3),
)
def test_clip_and_rate_are_never_broken(
    gap: float, clip: float, rate: float, spread: float, aversion: float, drift: float
) -> None:
    policy = MPCHedge(aversion, 5, clip_share=clip, rate_share=rate, gap_cap_share=0.5)
    policy.reset(context_of(modes=modes_of()))
    last = 0.0
    for k in range(3):
        action = policy.decide(
            replace(state_of(gap * (-1) ** k, k=k, half_spread=spread), drift=np.full(30 - k, drift))
        )
        assert math.isfinite(action.trade)
        assert abs(action.trade) <= clip * SCALE * (1.0 + 1e-12)
        assert abs(action.trade - last) <= rate * SCALE * (1.0 + 1e-12)
        last = action.trade


def test_soft_cap_pulls_the_gap_in() -> None:
    # Buying is a little dearer now than later, so that without a cap there is a reason to wait.
    state = replace(state_of(5e5, half_spread=1e-3), drift=np.where(np.arange(30) == 0, 2e-5, 0.0))
    assert decide(MPCHedge(0.0, 8), state) == pytest.approx(0.0, abs=1e-4 * SCALE)
    assert decide(MPCHedge(0.0, 8, gap_cap_share=0.1), state) == pytest.approx(4e5, rel=1e-4)


def test_cash_in_flight_is_neither_hedged_twice_nor_left_over() -> None:
    """Cash orders that wait for volume: the plan path counts them as done, and the close ends flat with them."""
    market, parent = market_of(3), parent_of(3)
    thin = np.full(market.volume.shape, np.inf)
    thin[:, :3] = 2e3
    market, seen = market.with_(volume=thin), []

    class Watch(ImmediateHedge):
        def decide(self, state: HedgeState) -> HedgeAction:
            seen.append(state)
            return super().decide(state)

    venue = replace(venue_of(()), participation=dict.fromkeys(NAMES, 0.1))
    run = replay_hedge(parent, Watch(), market, beliefs_of(), venue)
    assert any(fill.forced for fill in run.result.fills_of("cash"))
    assert abs(run.gap.iloc[-1]) <= 1e-9 * run.notional
    # Whatever is in flight, nothing is left to hedge once the whole plan has been filled.
    assert all(abs(state.planned_beta_q[-1]) <= 1e-9 * run.notional for state in seen)


def test_the_close_is_the_same_whatever_came_before() -> None:
    parent, market, modes = parent_of(5, revise=5), market_of(5), modes_of()
    for policy in (ImmediateHedge(), BatchedHedge(7), AdaptiveTrigger(5.0), MarginalRule(1e-6), MPCHedge(1e-7)):
        run = replay_hedge(parent, policy, market, beliefs_of(modes), venue_of(modes, 130.0))
        assert run.attribution.gap[-1] == pytest.approx(0.0, abs=1e-6)
        assert run.decisions["rung"].iloc[-1] == "CLOSE"


def _poisoned(market: ReplayMarket, k: int, how: str) -> ReplayMarket:
    copy = market.with_()
    for name, start in (("mid", k + 1), ("half_spread", k), ("volume", k)):
        array = getattr(market, name).copy()
        array[start:] = math.nan if how == "nan" else array[start:] * 1e3
        object.__setattr__(copy, name, array)
    return copy


@pytest.mark.parametrize("how", ["nan", "scaled"])
def test_no_policy_looks_ahead(how: str) -> None:
    parent, market, modes = parent_of(6, revise=8), market_of(6), modes_of()
    for policy in (ImmediateHedge(), AdaptiveTrigger(1.0), MarginalRule(1e-6), MPCHedge(1e-6, 6)):

        def run(data: ReplayMarket, policy: HedgePolicy = policy) -> str:
            leg = HedgeLeg(parent, policy, beliefs_of(modes), data)
            plan = pd.DataFrame(parent.executed_plan(data), columns=list(parent.names))
            policies = {"cash": ScheduledPolicy(plan), "hedge": leg}
            return replay(data, policies, venue_of(modes), until=6).digest()

        assert run(_poisoned(market, 6, how)) == run(market)


def test_replays_are_identical_to_the_byte() -> None:
    parent, market, modes = parent_of(7), market_of(7), modes_of()
    policy = MPCHedge(1e-6, 6)
    runs = [replay_hedge(parent, policy, market, beliefs_of(modes), venue_of(modes)) for _ in range(2)]
    fresh = replay_hedge(parent, MPCHedge(1e-6, 6), market, beliefs_of(modes), venue_of(modes))
    assert runs[0].result.digest() == runs[1].result.digest() == fresh.result.digest()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImmediateHedge(0.0),
        lambda: BatchedHedge(0),
        lambda: FractionHedge(0.0),
        lambda: FractionHedge(1.1),
        lambda: PlanHedge(math.nan),
        lambda: AdaptiveTrigger(-1.0),
        lambda: MarginalRule(0.0),
        lambda: MarginalRule(1e-6, buffer_bps=-1.0),
        lambda: MarginalRule(1e-6, patience_s=0.0),
        lambda: MPCHedge(-1.0),
        lambda: MPCHedge(math.nan),
        lambda: MPCHedge(1e-6, horizon=0),
        lambda: MPCHedge(1e-6, clip_share=-0.1),
        lambda: MPCHedge(1e-6, gap_penalty=0.0),
        lambda: MPCHedge(1e-6, tol=0.0),
        lambda: MPCHedge(1e-6, impact_factor=-1.0),
        lambda: MPCHedge(1e-6, fee_bps=math.nan),
        lambda: MPCHedge(1e-6, spread_power=-1.0),
    ],
)
def test_bad_parameters_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field


def test_reset_must_come_first() -> None:
    with pytest.raises(InvalidInput, match="reset"):
        ImmediateHedge().decide(state_of(1.0))


def test_policies_satisfy_the_protocol() -> None:
    for policy in (NoHedge(), ImmediateHedge(), BatchedHedge(2), MarginalRule(1.0), MPCHedge(1.0)):
        assert isinstance(policy, HedgePolicy)
    assert isinstance(MarketView, type)
