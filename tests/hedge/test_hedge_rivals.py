"""SO, the differentiated marginal rule and guarded policies: closed forms, the controller as oracle, bad input."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hedge_cases import NAMES, TRADED, VARIANCE_PER_S, beliefs_of, market_of, modes_of, parent_of, venue_of
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim.program import ImpactMode
from crosswind.optim.reference import reference_multistage
from crosswind.problems.hedge import (
    DeltaAggression,
    GapLimits,
    GuardedHedge,
    GuardrailConfig,
    HedgeAction,
    HedgeBeliefs,
    HedgeContext,
    HedgePolicy,
    HedgeState,
    ImmediateHedge,
    MarginalCostHedge,
    MarginalRule,
    MessageRate,
    MPCHedge,
    NotionalLimit,
    PlanHedge,
    Rung,
    SolvedOnceHedge,
    StaleData,
    batch,
    episodes,
    replay_hedge,
    tune_policy,
)
from crosswind.problems.hedge.marginal import future_cost, lag_cost
from crosswind.solvers.errors import InvalidInput

SCALE = 1e6


def context_of(slices=30, modes=(), variance=VARIANCE_PER_S, dt=60.0):
    beliefs = HedgeBeliefs(variance, modes, TRADED if modes else ())
    rates, own, _ = beliefs.coupling("ES", NAMES)
    return HedgeContext(slices, np.full(slices, dt), SCALE, beliefs, rates, own)


def state_of(gap, slices=30, k=0, half_spread=1e-5, planned=None):
    path = np.full(slices - k, SCALE) if planned is None else planned
    return HedgeState(k, SCALE, SCALE - gap, path, half_spread, np.zeros(slices - k))


def decide(policy, state, context=None):
    policy.reset(context_of() if context is None else context)
    return policy.decide(state)


PLANNED = np.linspace(0.95, 0.0, 30) * SCALE

# SO ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{}, {"clip_share": 0.2}, {"clip_share": 0.3, "gap_cap_share": 0.2}])
def test_the_plan_is_the_optimum_of_the_whole_program(limits):
    """Against cvxpy with Clarabel on the program of the whole parent."""
    context = context_of(modes=modes_of())
    state = replace(state_of(6e5, planned=PLANNED), drift=np.linspace(1e-5, -1e-5, 30))
    policy = SolvedOnceHedge(1e-4, 0.3, **limits, tol=1e-9)
    first = decide(policy, state, context)
    controller = MPCHedge(1e-4, 30, **limits)
    controller.reset(context)
    problem, variables = reference_multistage(controller.program(state))
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    expected = variables["trades"].value[:, 0] * SCALE
    np.testing.assert_allclose(policy.trades, expected, atol=5e-5 * SCALE)
    assert first.trade == pytest.approx(expected[0], abs=2e-5 * SCALE)
    assert first.rung is Rung.OPTIMAL
    assert policy.gaps[0] == pytest.approx(6e5)
    assert policy.gaps[1] == pytest.approx(PLANNED[0] - (state.held + policy.trades[0]))


def test_without_deviation_it_trades_what_the_controller_does():
    """One exact gap path: a plan that is met, no impact that the end could feel, and the horizon whole."""
    parent, market = parent_of(5), market_of(5)
    beliefs, venue = beliefs_of(), venue_of((), 0.0)
    once = replay_hedge(parent, SolvedOnceHedge(1e-4, tol=1e-9), market, beliefs, venue).decisions
    again = replay_hedge(parent, MPCHedge(1e-4, 12, tol=1e-9), market, beliefs, venue).decisions
    scale = float(again["trade"].abs().max())
    np.testing.assert_allclose(once["trade"], again["trade"], atol=2e-4 * scale)


def test_the_feedback_corrects_a_share_of_the_deviation():
    policy, context = SolvedOnceHedge(1e-5, 0.25), context_of(modes=modes_of())
    decide(policy, state_of(4e5, planned=PLANNED), context)
    plan, gaps = policy.trades, policy.gaps
    for k, off in ((3, 7e4), (10, -2e5), (29, 1e3)):
        action = policy.decide(state_of(gaps[k] + off, k=k, planned=PLANNED[k:]))
        assert action.trade == pytest.approx(plan[k] + 0.25 * off, abs=1e-6 * SCALE)
        assert action.rung is Rung.RULE


def test_the_default_feedback_is_garleanu_pedersens_rate():
    """g = .01, λ = 3: .0560924115 of a deviation, undiscounted."""
    policy = SolvedOnceHedge(0.01 / (SCALE * 1e-8), temporary=3.0 / SCALE)
    decide(policy, state_of(0.0, slices=400, half_spread=0.0), context_of(slices=400, variance=1e-8, dt=1.0))
    assert policy.feedback == pytest.approx(0.0560924115, abs=1e-9)
    free = SolvedOnceHedge(1e-5)
    decide(free, state_of(0.0))
    assert free.feedback == 1.0
    idle = SolvedOnceHedge(0.0)
    decide(idle, state_of(0.0))
    assert idle.feedback == 1.0


def test_the_batch_knows_the_same_policy():
    """The vectorised SO on the plan and gaps of this one costs what the replay of this one costs."""
    (episode,) = episodes("calm", 1, seed=3)
    policy = SolvedOnceHedge(1e-6, 0.3)
    run = replay_hedge(episode.parent, policy, episode.market, episode.beliefs, episode.venue)
    laid = batch([episode])
    costs = laid.run(
        laid.solved_once(policy.trades[None] / laid.contract[0], policy.gaps[None] / laid.contract[0], 0.3)
    )
    assert costs.hedge_cost[0, 0] == pytest.approx(run.hedge_cost, rel=1e-6)


def test_a_failed_solve_falls_back_to_the_plan_and_says_why():
    context = context_of(modes=modes_of())
    policy = SolvedOnceHedge(1e-5, 0.5, solver="no such solver")
    action = decide(policy, state_of(4e5, planned=PLANNED), context)
    assert action.rung is Rung.RULE
    assert "no such solver" in action.reason
    assert action.trade == pytest.approx(decide(PlanHedge(0.5), state_of(4e5, planned=PLANNED), context).trade)
    assert policy.trades is None
    assert len(policy.gaps) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_input_that_is_not_finite_is_held_and_the_plan_stays(bad):
    policy = SolvedOnceHedge(1e-5, 0.5)
    before = decide(policy, state_of(4e5, planned=PLANNED)).trade
    held = policy.decide(replace(state_of(4e5, planned=PLANNED), held=bad))
    assert (held.trade, held.rung) == (0.0, Rung.HOLD)
    assert policy.decide(state_of(4e5, planned=PLANNED)).trade == pytest.approx(before)
    # A first state that is bad is not solved on.
    late = SolvedOnceHedge(1e-5, 0.5)
    assert decide(late, replace(state_of(1.0), beta_q=bad)).rung is Rung.HOLD
    assert late.decide(state_of(4e5, k=2, planned=PLANNED[2:])).rung is Rung.OPTIMAL


def test_revisions_and_tuning():
    """A revised plan reaches SO through the gap alone; the tuner takes the class as it takes the others."""
    modes = modes_of()
    parent = parent_of(6, revise=5)
    run = replay_hedge(parent, SolvedOnceHedge(1e-6, 0.5), market_of(6), beliefs_of(modes), venue_of(modes))
    assert run.attribution.ledger_error < 1e-9
    assert abs(run.attribution.gap[-1]) < 1e-6 * run.notional
    parents = [parent_of(seed) for seed in (1, 2)]
    grid = {"risk_aversion": (1e-7, 1e-5), "fraction": (0.2, None)}
    tuned = tune_policy(
        SolvedOnceHedge, grid, parents, {p.name: market_of(k) for k, p in enumerate(parents, 1)}, beliefs_of(modes)
    )
    assert tuned.parameters["risk_aversion"] in grid["risk_aversion"]
    assert len(tuned.table) == 4
    assert isinstance(tuned.policy, SolvedOnceHedge)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SolvedOnceHedge(-1.0),
        lambda: SolvedOnceHedge(1.0, 0.0),
        lambda: SolvedOnceHedge(1.0, 1.5),
        lambda: SolvedOnceHedge(1.0, clip_share=0.0),
        lambda: SolvedOnceHedge(1.0, gap_cap_share=-1.0),
        lambda: MarginalCostHedge(0.0),
        lambda: MarginalCostHedge(1.0, tail=-1.0),
        lambda: MarginalCostHedge(1.0, power=math.nan),
        lambda: MarginalCostHedge(1.0, buffer_bps={}),
        lambda: MarginalCostHedge(1.0, buffer_bps={"normal": -1.0}),
        lambda: MarginalCostHedge(1.0, uncertainty=-1.0),
        lambda: MarginalCostHedge(1.0, patience_s=0.0),
    ],
)
def test_parameters_are_checked(make):
    with pytest.raises(InvalidInput):
        make()


# P3a by jax ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    gap=st.floats(-1e6, 1e6),
    spread=st.floats(0.0, 1e-4),
    drift=st.floats(-1e-4, 1e-4),
    aversion=st.floats(1e-8, 1e-3),
    buffer=st.floats(0.0, 2.0),
)
def test_with_quadratic_costs_it_is_the_closed_form(gap, spread, drift, aversion, buffer):
    context = context_of(modes=(ImpactMode(0.01, np.eye(4) * 1e-11),))
    state = replace(state_of(gap, half_spread=spread), drift=np.full(30, drift))
    ours = decide(SHARED.set(aversion, buffer), state, context).trade
    closed = decide(MarginalRule(aversion, buffer), state, context).trade
    assert ours == pytest.approx(closed, rel=1e-7, abs=1e-7 * (abs(gap) + 1.0))


class Shared(MarginalCostHedge):
    """One compiled function for all drawn cases."""

    def set(self, aversion, buffer):
        self.risk_aversion, self.buffer_bps = aversion, {"": buffer}
        return self


SHARED = Shared(1.0)


@pytest.mark.parametrize("gap", [3e5, -8e5])
def test_a_three_halves_power_and_a_tail_meet_where_the_derivatives_do(gap):
    context = context_of(modes=(ImpactMode(0.01, np.eye(4) * 1e-12),))
    lam, kappa, eta, c = 2e-6, 1e-3, 2e-10, 1e-7
    policy = MarginalCostHedge(lam, tail=kappa * 1e-4, power=eta, buffer_bps=0.001)
    h = decide(policy, state_of(gap, half_spread=c), context).trade
    assert 0.0 < h / gap < 1.0
    variance = VARIANCE_PER_S * 60.0

    def total(x):
        side = math.copysign(1.0, gap)
        p = {"risk_aversion": lam, "variance": variance, "tail": kappa * 1e-4, "half_spread": c}
        p |= {"drift": 0.0, "own": 1e-12, "power": eta}
        return float(lag_cost(gap - x, p)) + float(future_cost(x, p)) + 1e-7 * side * x

    import jax

    with jax.enable_x64(True):
        around = [total(np.float64(h + d * abs(gap))) for d in (-1e-2, -1e-3, 0.0, 1e-3, 1e-2)]
    assert min(around) == around[2]


def test_a_cost_of_ones_own():
    """A pinball cost of the gap: MC_lag is ±k, so the whole gap goes or nothing does."""

    def pinball(gap, p):
        import jax.numpy as jnp

        return 3e-5 * jnp.abs(gap)

    dear, cheap = (
        decide(MarginalCostHedge(1.0, lag=pinball), state_of(4e5, half_spread=c)).trade for c in (4e-5, 2e-5)
    )
    assert dear == 0.0
    assert cheap == pytest.approx(4e5)


def test_the_buffer_by_regime_and_by_missed_forecasts():
    policy = MarginalCostHedge(1e-4, buffer_bps={"normal": 0.1, "wide": 0.2})
    policy.reset(context_of())
    normal, wide = policy.decide(state_of(5e5)), policy.decide(state_of(5e5, k=1, half_spread=2.1e-5))
    slope = 2e-4 * VARIANCE_PER_S * 60.0
    assert normal.trade == pytest.approx(5e5 - (1e-5 + 1e-5) / slope)
    assert wide.trade == pytest.approx(5e5 - (2.1e-5 + 2e-5) / slope)
    assert "wide" in wide.reason
    named = MarginalCostHedge(
        1e-4, buffer_bps={"open": 0.4, "day": 0.1}, regime=lambda s: "open" if s.slice < 2 else "day"
    )
    named.reset(context_of())
    assert named.decide(state_of(5e5)).trade < named.decide(state_of(5e5, k=2)).trade
    unknown = MarginalCostHedge(1e-4, buffer_bps={"a": 0.1, "b": 0.4}, regime=lambda s: "other")
    assert decide(unknown, state_of(5e5)).trade == pytest.approx(5e5 - (1e-5 + 4e-5) / slope)
    # ΣβQ missed its plan by 1e5 in one slice: the buffer grows by the slope of MC_lag times that.
    wary = MarginalCostHedge(1e-4, uncertainty=1.0)
    wary.reset(context_of())
    wary.decide(state_of(5e5, planned=np.full(30, SCALE - 1e5)))
    assert wary.forecast_error == 0.0
    trade = wary.decide(state_of(5e5, k=1)).trade
    assert wary.forecast_error == pytest.approx(1e5)
    assert trade == pytest.approx(5e5 - 1e5 - 1e-5 / slope)


def test_it_holds_tunes_pickles_and_imports_lazily():
    policy = MarginalCostHedge(1e-4, clip_share=0.1)
    assert decide(policy, state_of(5e5)).trade == pytest.approx(1e5)
    again = pickle.loads(pickle.dumps(policy))
    assert decide(again, state_of(5e5)).trade == pytest.approx(1e5)
    held = policy.decide(replace(state_of(5e5), beta_q=math.nan))
    assert (held.trade, held.rung) == (0.0, Rung.HOLD)
    broken = decide(MarginalCostHedge(1.0, lag=lambda g, p: g * math.nan), state_of(5e5))
    assert (broken.trade, broken.rung) == (0.0, Rung.HOLD)
    assert decide(MarginalCostHedge(1e-4), state_of(0.0)).trade == 0.0
    parents = [parent_of(seed) for seed in (1, 2)]
    tuned = tune_policy(
        MarginalCostHedge,
        {"risk_aversion": (1e-6, 1e-4), "power": (0.0, 1e-8)},
        parents,
        {p.name: market_of(k) for k, p in enumerate(parents, 1)},
        beliefs_of(modes_of()),
    )
    assert len(tuned.table) == 4
    code = (
        "import sys; from crosswind.problems.hedge import MarginalCostHedge as M, SolvedOnceHedge as S; M(1.0); S(1.0)"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}; assert 'jax' not in sys.modules"], check=False)
    assert done.returncode == 0


def test_they_satisfy_the_protocol():
    guarded = GuardedHedge(ImmediateHedge(), GuardrailConfig())
    for policy in (SolvedOnceHedge(1.0), MarginalCostHedge(1.0), guarded):
        assert isinstance(policy, HedgePolicy)


# behind guardrails ---------------------------------------------------------------------------------------------------

SHARES = GuardrailConfig(
    gap=GapLimits({"": {"": 0.8}}),
    stale=StaleData(),
    aggression=DeltaAggression(0.3, 0.3),
    messages=MessageRate(5, 600.0),
    notional=NotionalLimit(0.25, 3.0),
)


class Wild:
    """A policy that asks for anything, and breaks."""

    closes = True

    def __init__(self, answers):
        self.answers = answers

    def reset(self, context):
        self.left = list(self.answers)

    def decide(self, state):
        answer = self.left.pop(0)
        if answer is None:
            raise RuntimeError("broken")
        return HedgeAction(answer, Rung.OPTIMAL, "wild")


@pytest.mark.guard
def test_orders_of_a_wild_policy_are_rejected_in_a_replay():
    """Wired to order entry: what reaches the venue is within the guards, and the decisions say why."""
    answers = [math.nan, 1e12, -1e12, None, math.inf, 0.0, 1e12, -1e12, 5.0, 1e12, 1e12, 1e12]
    policy = GuardedHedge(Wild(answers), SHARES)
    run = replay_hedge(parent_of(3), policy, market_of(3), beliefs_of(), venue_of((), 0.0))
    trades = run.decisions[run.decisions["rung"] != "CLOSE"]
    scale = policy.policy and policy._trigger.context.scale
    assert (trades["trade"].abs() <= 0.25 * scale * (1 + 1e-12)).all()
    assert (trades["trade"] != 0.0).rolling(10).sum().max() <= 5
    assert trades["rung"].isin(["OPTIMAL", "RULE", "HOLD"]).all()
    assert "RuntimeError" in trades["reason"].iloc[3]
    assert "not finite" in trades["reason"].iloc[0]
    assert {event.guard for event in policy.events} >= {"delta aggression"}
    assert len(policy.verdicts) == 12
    assert run.attribution.ledger_error < 1e-9


@pytest.mark.guard
def test_a_calm_policy_passes_unchanged():
    wide = GuardrailConfig(gap=GapLimits({"": {"": 50.0}}), notional=NotionalLimit(50.0, 500.0))
    bare = replay_hedge(parent_of(3), PlanHedge(0.5), market_of(3), beliefs_of())
    kept = replay_hedge(parent_of(3), GuardedHedge(PlanHedge(0.5), wide), market_of(3), beliefs_of())
    assert kept.decisions["trade"].tolist() == bare.decisions["trade"].tolist()
    assert kept.hedge_cost == bare.hedge_cost


@pytest.mark.guard
def test_stale_data_holds_a_guarded_policy_until_it_is_fresh():
    ages = iter([0.0, 9.0, 9.0, 0.0, 0.0, *[0.0] * 10])
    policy = GuardedHedge(ImmediateHedge(), GuardrailConfig(), observe=lambda state: {"data_age_s": next(ages)})
    run = replay_hedge(parent_of(3), policy, market_of(3), beliefs_of())
    assert run.decisions["rung"].tolist()[:5] == ["RULE", "HOLD", "HOLD", "HOLD", "RULE"]
    assert [event.kind for event in policy.events] == ["trip", "release"]
    broken = GuardedHedge(ImmediateHedge(), GuardrailConfig(), observe=lambda state: 1 / 0)
    assert decide(broken, state_of(5e5)).rung is Rung.HOLD
    own = GuardedHedge(ImmediateHedge(), GuardrailConfig(), observe=lambda state: {"gap": 0.0})
    assert "observe" in decide(own, state_of(5e5)).reason
    with pytest.raises(InvalidInput, match="not a hedge policy"):
        GuardedHedge("x", GuardrailConfig())
