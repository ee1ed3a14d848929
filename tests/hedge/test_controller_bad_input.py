"""Bad input, line by line: the core, the policy and the controller answer with a named rank, or refuse their set-up.

Each line stands for one thing that goes wrong at a desk. The core says INVALID or keeps its limits; the policy and the
controller never raise, never break a trade limit, and say in words what was wrong.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from controller_cases import SCALE, VALUE, future, seen_of, setup_of
from hedge_cases import VARIANCE_PER_S

from crosswind.problems.hedge import HedgeBeliefs, HedgeContext, HedgeState, MPCHedge, Rung
from crosswind.problems.hedge.controller import HedgeController, HedgeDecision, HedgeObservation, HedgeRank, OrderReport
from crosswind.solvers.errors import CrosswindError, InvalidInput
from crosswind.solvers.mpc import MpcModel, MpcSolver
from crosswind.solvers.native import COMPILED
from crosswind.solvers.solution import Status

NAN, INF = math.nan, math.inf
ENGINES = (["C"] if COMPILED else []) + ["piqp"]


# the controller: every line of an observation ------------------------------------------------------------------------

HOLD, RULE, OPTIMAL = HedgeRank.HOLD, HedgeRank.RULE, HedgeRank.OPTIMAL
# What is wrong, the rank that must come of it, and a word of the reason or the alarm.
LINES: dict[str, tuple[dict[str, Any], HedgeRank, str]] = {
    "requirement is nan": ({"required": (NAN,)}, HOLD, "required"),
    "requirement is infinite": ({"required": (-INF,)}, HOLD, "required"),
    "requirement is beyond measure": ({"required": (1e30,)}, HOLD, "beyond measure"),
    "requirement is a word": ({"required": ("much",)}, HOLD, "ValueError"),
    "requirement of two exposures": ({"required": (1.0, 1.0)}, HOLD, "exposures"),
    "requirement of none": ({"required": ()}, HOLD, "exposures"),
    "price is nan": ({"mid": (NAN,)}, HOLD, "no instrument trades"),
    "price is zero": ({"mid": (0.0,)}, HOLD, "no instrument trades"),
    "price is negative": ({"mid": (-5000.0,)}, HOLD, "no instrument trades"),
    "spread is crossed": ({"half_spread": (-1e-5,)}, HOLD, "no instrument trades"),
    "spread is infinite": ({"half_spread": (INF,)}, HOLD, "no instrument trades"),
    "prices of two instruments": ({"mid": (5000.0, 5000.0)}, HOLD, "not those of 1"),
    "spreads of none": ({"half_spread": ()}, HOLD, "not those of 1"),
    "halts of two instruments": ({"tradeable": (True, False)}, HOLD, "not those of 1"),
    "the instrument is halted": ({"tradeable": (False,)}, HOLD, "no instrument trades"),
    "age is nan": ({"age_s": NAN}, HOLD, "old"),
    "age is negative": ({"age_s": -1.0}, HOLD, "old"),
    "data are stale": ({"age_s": 6.0}, HOLD, "old"),
    "age is missing": ({"age_s": None}, HOLD, "TypeError"),
    "time is missing": ({"time_s": None}, HOLD, "TypeError"),
    "time is nan": ({"time_s": NAN}, HOLD, "no time"),
    "time is infinite": ({"time_s": INF}, HOLD, "no time"),
    "reliance is nan": ({"reliance": NAN}, HOLD, "required"),
    "reliance is above one": ({"reliance": 1.5}, HOLD, "required"),
    "ceiling is nan": ({"ceiling": NAN}, HOLD, "rank"),
    "ceiling is no rank": ({"ceiling": 9}, HOLD, "rank"),
    "ceiling is negative": ({"ceiling": -1}, HOLD, "rank"),
    "reports are no list": ({"reports": 5}, HOLD, "TypeError"),
    "a report is none": ({"reports": (None,)}, OPTIMAL, "no known form"),
    "regime is unknown": ({"regime": 7}, OPTIMAL, "unknown regime"),
    "regime is missing": ({"regime": None}, OPTIMAL, "unknown regime"),
    "position is nan": ({"position": (NAN,)}, OPTIMAL, "makes no sense"),
    "position is beyond measure": ({"position": (1e12,)}, OPTIMAL, "makes no sense"),
    "positions of three instruments": ({"position": (1.0, 2.0, 3.0)}, OPTIMAL, "of 3 instruments"),
    "positions of none": ({"position": ()}, OPTIMAL, "of 0 instruments"),
    "plan is nan": ({"plan": np.full((20, 1), NAN)}, RULE, "refused"),
    "plan ends infinite": ({"plan": np.r_[np.full(19, SCALE), INF][:, None]}, RULE, "refused"),
    "plan is beyond measure": ({"plan": np.full((20, 1), 1e300)}, RULE, "refused"),
    "plan is empty": ({"plan": np.zeros((0, 1))}, RULE, "no plan"),
    "plan of two exposures": ({"plan": np.zeros((20, 2))}, RULE, "no plan"),
    "plan is a word": ({"plan": "up"}, RULE, "no plan"),
    "known cost is nan": ({"linear": np.full((12, 1), NAN)}, RULE, "refused"),
    "known cost of two instruments": ({"linear": np.zeros((12, 2))}, RULE, "linear"),
    "funding is no list": ({"funding": 1e-4}, RULE, "TypeError"),
    "funding without a time": ({"funding": ((0, 1e-4),)}, RULE, "give each settlement its time"),
    "funding whose time is missing": ({"funding": ((0, None, 1e-4),)}, RULE, "give each settlement its time"),
    "funding whose time is nan": ({"funding": ((0, NAN, 1e-4),)}, RULE, "give each settlement its time"),
    "funding whose time is infinite": ({"funding": ((0, INF, 1e-4),)}, RULE, "give each settlement its time"),
    "funding of an unknown instrument": ({"funding": ((1, 90.0, 1e-4),)}, RULE, "funding"),
    "funding of instrument −1": ({"funding": ((-1, 90.0, 1e-4),)}, RULE, "funding"),
    "funding's rate is nan": ({"funding": ((0, 90.0, NAN),)}, RULE, "refused"),
    "funding's rate is a word": ({"funding": ((0, 90.0, "low"),)}, RULE, "funding"),
    "basis drift is nan": ({"basis_drift": (NAN,)}, RULE, "refused"),
    "basis drift of two instruments": ({"basis_drift": (0.0, 0.0)}, RULE, "ValueError"),
    "bounds are crossed": ({"bounds": ((1e6, -1e6),)}, OPTIMAL, "crossed"),
    "bounds do not hold zero": ({"bounds": ((1.0, 2.0),)}, OPTIMAL, "crossed"),
    "bounds are missing": ({"bounds": ()}, OPTIMAL, "crossed"),
    "threshold is nan": ({"trigger_factor": NAN, "ceiling": 4}, HedgeRank.IMMEDIATE, "not a number"),
    "threshold is negative": ({"trigger_factor": -1.0, "ceiling": 4}, HedgeRank.IMMEDIATE, "not a number"),
    "liquidity is nan": ({"liquidity": np.full((20, 1), NAN)}, RULE, "refused"),
    "liquidity is negative": ({"liquidity": np.full((20, 1), -1e9)}, OPTIMAL, "first trade"),
    "liquidity is nothing": ({"liquidity": np.zeros((20, 1))}, OPTIMAL, "first trade"),
    "liquidity of two instruments": ({"liquidity": np.full((20, 2), 1e9)}, RULE, "liquidity"),
    "liquidity of no slice": ({"liquidity": np.zeros((0, 1))}, OPTIMAL, "first trade"),
}
NOTHING_SENT = ("bounds ", "liquidity ")  # these lines leave no room for a trade


def controller_of(**change: Any) -> HedgeController:
    return HedgeController(setup_of(future(participation=0.1, liquidity=1e9), max_age_s=5.0, **change))


def told(decision: HedgeDecision) -> str:
    return "; ".join((decision.reason, *decision.alarms))


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_is_a_named_rank_within_the_limits_and_is_forgotten(line: str) -> None:
    """And once the data are good the controller decides as one that never saw the bad ones: nothing of them is kept."""
    change, rank, word = LINES[line]
    controller, untouched = controller_of(), controller_of()
    decision = controller.step(seen_of()._replace(**change))
    assert decision.rank is rank, told(decision)
    assert word in told(decision)
    clip = int(4e6 / VALUE)
    assert all(isinstance(n, int) and abs(n) <= clip for n in decision.lots)
    assert all(math.isfinite(order.contracts) for order in decision.orders)
    if rank is HOLD or line.startswith(NOTHING_SENT):
        assert decision.orders == ()
    # What was sent is rejected, the broker confirms that nothing is held, and good data follow.
    rejected = tuple(OrderReport(order.id, 0.0, done=True) for order in decision.orders)
    for s in (1, 2):
        after = controller.step(seen_of(60.0 * s, reports=rejected, position=(0.0,)))
        clean = untouched.step(seen_of(60.0 * s, position=(0.0,)))
        untouched.step(seen_of(60.0 * s, reports=tuple(OrderReport(o.id, 0.0, done=True) for o in clean.orders)))
        if after.rank is OPTIMAL:
            break
        rejected = ()
    assert after.rank is OPTIMAL
    assert after.gap == pytest.approx((SCALE,), abs=0.51 * VALUE)
    assert after.wanted[0] == pytest.approx(clean.wanted[0], abs=0.51 * VALUE)


@pytest.mark.parametrize(
    "seen",
    [None, 3, "seen", (), [1.0], object(), HedgeObservation(0.0, (), (), ())],
    ids=lambda seen: type(seen).__name__,
)
def test_what_is_no_observation_holds(seen: Any) -> None:
    decision = controller_of().step(seen)
    assert (decision.rank, decision.orders) == (HOLD, ())
    assert decision.reason


@pytest.mark.parametrize("shut", [{"clip": 0.0}, {"participation": 0.0}, {"order_lots": 0}, {"notional": 0.0}], ids=str)
def test_limits_of_zero_are_limits(shut: dict[str, float]) -> None:
    """No lot fits, so none is sent, on every rank; the reason stays the rank's own."""
    for ceiling in (0, 4, 5):
        controller = HedgeController(setup_of(future(**shut)))
        decision = controller.step(seen_of(ceiling=ceiling, liquidity=np.full((20, 1), 1e9)))
        assert decision.orders == ()
        assert decision.rank >= ceiling
        assert decision.reason


def test_a_gap_cap_of_zero_is_a_price_and_no_deadlock() -> None:
    controller = HedgeController(setup_of(gap_cap=0.0))
    decision = controller.step(seen_of(0.0, SCALE))
    assert decision.rank is OPTIMAL
    assert decision.lots[0] == 16  # all that the clip allows
    assert decision.alarms == ("gap cap of index exceeded by 1e+07",)


def test_a_gap_beyond_its_cap_is_led_back_and_never_widened() -> None:
    """An infeasible start: far beyond the cap, each slice takes its clip until the gap is within it."""
    controller = HedgeController(setup_of(future(clip=10 * VALUE), gap_cap=5 * VALUE))
    need, reports, gaps = 60 * VALUE, (), []
    for s in range(8):
        decision = controller.step(seen_of(60.0 * s, need, reports=reports))
        reports = tuple(OrderReport(o.id, o.contracts, done=True) for o in decision.orders)
        gaps.append(abs(decision.gap[0]))
        assert decision.rank <= HedgeRank.RELAXED
        assert bool(decision.alarms) == (gaps[-1] > 5 * VALUE)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[5] == pytest.approx(10 * VALUE, abs=0.51 * VALUE)
    assert gaps[-1] <= 5 * VALUE


def test_a_last_trade_beyond_the_rate_is_slowed_down_and_not_reversed() -> None:
    """The requirement turns round: ten lots a slice were bought, two a slice are the rate. It stops, then sells."""
    setup = setup_of(future(clip=40 * VALUE, rate=2 * VALUE))
    controller, sent = HedgeController(setup), []
    for s in range(14):
        need = 6 * SCALE if s < 5 else -6 * SCALE
        decision = controller.step(seen_of(60.0 * s, need))
        assert decision.rank is not HOLD
        sent.append(decision.lots[0])
    changes = np.diff([0, *sent])
    assert max(sent) >= 8
    assert min(sent) <= -2
    slower = (np.sign(sent) == np.sign([0, *sent[:-1]])) & (np.abs(sent) < np.abs([0, *sent[:-1]]))
    assert all(abs(c) <= 2 or n == 0 or slow for c, n, slow in zip(changes, sent, slower, strict=True))


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_a_horizon_shorter_than_the_plan_still_unwinds_it(horizon: int) -> None:
    """Forty slices are left and the program sees few: what the plan needs later is charged, so nothing is put off."""
    path = np.concatenate([np.linspace(1.0, 0.0, 41)[1:], np.zeros(20)]) * SCALE
    controller = HedgeController(setup_of(horizon=horizon))
    need, reports = SCALE, ()
    worst = 0.0
    for s in range(55):
        decision = controller.step(seen_of(60.0 * s, need, plan=path[s:, None], reports=reports))
        assert decision.rank is OPTIMAL
        reports = tuple(OrderReport(o.id, o.contracts, done=True) for o in decision.orders)
        need = float(path[s])
        if s > 5:
            worst = max(worst, abs(decision.gap[0]))
    controller.step(seen_of(60.0 * 55, 0.0, reports=reports))
    assert controller.position == (0.0,)
    assert worst <= 0.5 * SCALE


def test_an_instrument_that_stops_and_comes_back() -> None:
    """What it holds counts at its last price, the other takes over, and on its return both trade again."""
    controller = HedgeController(setup_of(future("A"), future("B")))
    reports: tuple[OrderReport, ...] = ()
    lots, need = [], SCALE
    for s in range(9):
        halted = 3 <= s < 6
        need += 0.5 * SCALE
        change = {"mid": (NAN if s == 4 else 5000.0, 5000.0), "tradeable": (not halted, True)}
        decision = controller.step(seen_of(60.0 * s, need, 2, reports=reports, **change))
        reports = tuple(OrderReport(o.id, o.contracts, done=True) for o in decision.orders)
        lots.append(decision.lots)
        held = sum(controller.position) * VALUE
        assert decision.gap[0] == pytest.approx(need - held, abs=1.01 * VALUE)
        assert decision.rank <= HedgeRank.RELAXED
    assert all(a == 0 < b for a, b in lots[3:6])
    assert all(a > 0 for a, _ in (*lots[:3], *lots[6:]))


def test_clocks_that_go_back_by_any_amount_never_renew_a_limit() -> None:
    """Messages and clip of the slice under way hold through every jump."""
    rng = np.random.default_rng(5)
    controller = HedgeController(setup_of(future(clip=3 * VALUE), messages=2, message_window_s=1e9, rearm_after=2))
    sent, now = 0, 1e5
    for _ in range(60):
        now += float(rng.choice([60.0, -1.0, -1e4, -1e-3, 0.0, 1e-3]))
        decision = controller.step(seen_of(now, 3 * SCALE))
        assert decision.rank in (OPTIMAL, HOLD)
        sent += len(decision.orders)
        if decision.rank is HOLD:
            assert "went back" in decision.reason
            assert decision.orders == ()
    assert sent == 2


@pytest.mark.parametrize("ticks", [[5.0, 4.0], [0.0, NAN], [NAN, 1.0], [0.0, INF], [0.0, 2.0]], ids=str)
def test_a_stopwatch_that_tells_no_time_counts_as_slow(ticks: list[float]) -> None:
    """Once is forgiven, the answer is used; from the second on the program is out."""
    clock = iter(ticks * 3)
    controller = HedgeController(setup_of(watchdog_s=1.0, trip_after=2), clock=lambda: next(clock))
    decisions = [controller.step(seen_of(60.0 * s)) for s in range(3)]
    assert [d.late for d in decisions] == [True] * 3
    assert [d.rank for d in decisions] == [OPTIMAL, OPTIMAL, RULE]


def test_good_after_a_thousand_bad_lines() -> None:
    """All lines of the table, over and over, then good ones."""
    controller = controller_of()
    lines = list(LINES.values())
    with np.errstate(invalid="ignore"):
        for s in range(1000):
            change, _, _ = lines[s % len(lines)]
            assert controller.step(seen_of(60.0 * s)._replace(**({"time_s": 60.0 * s} | change))).reason
    done = tuple(OrderReport(name, 0.0, done=True) for name in controller._book.open)
    ranks = [
        controller.step(seen_of(7e4 + 60.0 * s, reports=done, position=(0.0,))).rank
        for s in range(2 + controller.setup.rearm_after)
    ]
    assert ranks[-1] is OPTIMAL


# the policy ----------------------------------------------------------------------------------------------------------

STATE = HedgeState(0, 1e6, 5e5, np.full(30, 1e6), 1e-5, np.zeros(30))
CONTEXT = HedgeContext(30, np.full(30, 60.0), 1e6, HedgeBeliefs(VARIANCE_PER_S), np.zeros(0), np.zeros(0))
POLICY_LINES: dict[str, tuple[dict[str, Any], tuple[Rung, ...]]] = {
    **{f"{n} is {bad}": ({n: bad}, (Rung.HOLD,)) for n in ("beta_q", "held", "half_spread") for bad in (NAN, INF)},
    "plan is nan": ({"planned_beta_q": np.full(30, NAN)}, (Rung.HOLD,)),
    "plan ends infinite": ({"planned_beta_q": np.r_[np.full(29, 1e6), INF]}, (Rung.HOLD,)),
    "plan is empty": ({"planned_beta_q": np.zeros(0), "drift": np.zeros(0)}, (Rung.HOLD,)),
    "plan is a table": ({"planned_beta_q": np.full((30, 2), 1e6)}, (Rung.HOLD, Rung.RULE)),
    "drift is nan": ({"drift": np.full(30, NAN)}, (Rung.HOLD,)),
    "drift is short": ({"drift": np.zeros(3)}, (Rung.RULE,)),
    "gap is beyond measure": ({"beta_q": 1e300, "planned_beta_q": np.full(30, 1e300)}, (Rung.RULE, Rung.HOLD)),
    "the slice went back": ({"slice": -1}, (Rung.OPTIMAL,)),
    "the slice is beyond the end": ({"slice": 99}, (Rung.OPTIMAL, Rung.HOLD)),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["core", "session"])
@pytest.mark.parametrize("line", POLICY_LINES)
def test_the_policy_names_its_rung_within_clip_and_goes_on(line: str, engine: str) -> None:
    change, rungs = POLICY_LINES[line]
    policy = MPCHedge(2e-6, 6, clip_share=0.2, rate_share=0.15, gap_cap_share=0.3, engine=engine)
    policy.reset(CONTEXT)
    with np.errstate(all="ignore"):
        action = policy.decide(replace(STATE, **change))
    assert action.rung in rungs, action
    assert action.reason
    assert math.isfinite(action.trade)
    assert abs(action.trade) <= 0.15e6 * (1.0 + 1e-9)
    if action.rung is Rung.HOLD:
        assert action.trade == 0.0
    after = policy.decide(STATE)
    assert after.rung is Rung.OPTIMAL
    assert abs(after.trade) <= 0.2e6 * (1.0 + 1e-9)


def test_the_policys_gap_cap_of_almost_nothing_and_gaps_far_beyond_it() -> None:
    for gap in (1.0, 1e3, 1e6):
        policy = MPCHedge(2e-6, 6, clip_share=0.2, gap_cap_share=1e-9)
        policy.reset(CONTEXT)
        action = policy.decide(replace(STATE, held=1e6 - gap))
        assert action.rung is Rung.OPTIMAL
        assert 0.0 <= action.trade <= min(0.2e6, gap) * (1.0 + 1e-9)


# the core ------------------------------------------------------------------------------------------------------------

MODEL = MpcModel(
    8, [[0.1, 0.0], [0.0, 0.2]], exposure=np.array([[1.0, 1.0]]), covariance=np.array([[1.0]]),
    risk_weight=np.full(8, 0.05), terminal_weight=np.array([1.0]), impact_loadings=np.array([0.3 * np.eye(2)]),
    decays=np.array([0.5]),
)  # fmt: skip
DATA: dict[str, Any] = {"gap": [1.0], "plan": 0.0, "spread": 0.02, "cap": 0.5}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"state": [[NAN, 0.0]]}, False),
        ({"state": [[INF, 0.0]]}, False),
        ({"gap": [NAN]}, False),
        ({"carry": NAN}, False),  # funding that is no number
        ({"cap": -0.1}, False),
        ({"rate": [-0.1, 0.1]}, False),
        ({"gap_cap": -1.0}, False),
        ({"cap": 0.0}, True),
        ({"cap": [[0.0, 0.5]] * 8}, True),  # the first instrument stops trading
        ({"rate": [0.0, 0.0], "last": [0.2, 0.0]}, True),  # no change is allowed: the last trade again
        ({"gap": [50.0], "gap_cap": 1.0, "price": 1.0, "curve": 1.0}, True),
        ({"last": [9.0, -9.0], "rate": [0.1, 0.1]}, True),  # the start breaks its rate
        ({"shift": -3}, True),  # a clock that went back
        ({"shift": 10**9}, True),
    ],
    ids=str,
)
def test_the_core_answers_within_its_caps_or_says_invalid(engine: str, change: dict[str, Any], valid: bool) -> None:
    solver = MpcSolver(MODEL, engine)
    before = solver.step(**DATA)
    step = solver.step(**(DATA | change))
    if valid:
        assert step.status in (Status.OPTIMAL, Status.FEASIBLE)
        cap = np.broadcast_to(np.asarray((DATA | change)["cap"]), (8, 2))
        assert (np.abs(step.trades) <= cap * (1.0 + 1e-12)).all()
        assert step.relaxed == (change.get("last", [0.0])[0] > 1.0)
        assert step.gap >= 0.0
    else:
        assert step.status is Status.INVALID
        assert np.isnan(step.trades).all()
        assert step.prices is None
    again = solver.step(**DATA, shift=0)
    assert again.status is Status.OPTIMAL
    np.testing.assert_allclose(again.trades, before.trades, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: MpcModel(0, [[0.1]]), "horizon"),
        (lambda: MpcModel(4, [[-0.1]]), "temporary"),
        (lambda: MpcModel(4, [[NAN]]), "temporary"),
        (lambda: MpcModel(4, [[0.1]], risk_weight=-1.0), "risk_weight"),
        (lambda: MpcModel(4, [[0.1]], decays=[2.0], impact_loadings=[[[1.0]]]), "decays"),
        (lambda: MpcSolver("model"), "model"),
        (lambda: MpcSolver(MODEL).step([1.0], plan=np.zeros((9, 1))), "plan"),  # longer than the horizon
        (lambda: MpcSolver(MODEL).step([1.0, 2.0]), "gap"),
        (lambda: MPCHedge(-1.0), "risk_aversion"),
        (lambda: MPCHedge(1.0, horizon=0), "horizon"),
        (lambda: MPCHedge(1.0, clip_share=0.0), "clip_share"),
        (lambda: MPCHedge(1.0, clip_share=-0.1), "clip_share"),
        (lambda: MPCHedge(1.0, rate_share=NAN), "rate_share"),
        (lambda: MPCHedge(1.0, gap_cap_share=0.0), "gap_cap_share"),
        (lambda: setup_of(future(clip=-1.0)), "ES.clip"),
        (lambda: setup_of(future(notional=NAN)), "ES.notional"),
        (lambda: setup_of(windows=((7260.0, 7200.0),)), "windows"),  # crossed
        (lambda: setup_of(gap_cap=[-1.0]), "gap_cap"),
        (lambda: setup_of(dt_s=0.0), "setup.dt_s"),
    ],
)
def test_errors_of_the_set_up_are_typed_and_name_field_and_remedy(make: Any, field: str) -> None:
    with pytest.raises(CrosswindError) as caught:
        make()
    assert isinstance(caught.value, InvalidInput)
    assert caught.value.field == field
    assert caught.value.remedy
