"""Every rung is reached and left again; explanations, snapshots, journals and what a set-up refuses."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from controller_cases import SCALE, VALUE, Venue, future, names_of, seen_of, setup_of

from crosswind.problems.hedge.controller import (
    HedgeController,
    HedgeDecision,
    HedgeInstrument,
    HedgeRank,
    HedgeRegime,
    HedgeSetup,
    OrderReport,
    canonical,
    decode_observation,
    replay_journal,
)
from crosswind.problems.hedge.controller.book import FlightBook
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.native import COMPILED
from crosswind.solvers.solution import Status

pytestmark = pytest.mark.guard
BAD_PLAN = np.full((20, 1), math.nan)


def ranks_of(controller: HedgeController, steps: list[dict[str, Any]], start: float = 0.0) -> list[str]:
    return [controller.step(seen_of(start + 60.0 * s, **change)).rank.name for s, change in enumerate(steps)]


# the rungs -----------------------------------------------------------------------------------------------------------


def test_the_program_goes_out_after_failures_and_comes_back_after_good_attempts_in_the_shade() -> None:
    controller = HedgeController(setup_of(trip_after=3, rearm_after=4))
    bad, good = {"plan": BAD_PLAN}, {}
    assert ranks_of(controller, [good, bad, bad, good, bad, bad]) == [
        "OPTIMAL", "RULE", "RULE", "OPTIMAL", "RULE", "RULE"]  # fmt: skip
    assert not controller.latches["program"]
    assert ranks_of(controller, [bad], 360.0) == ["RULE"]
    assert controller.latches["program"]
    # Good data now, but it has to work four times in the shade; a failure begins the count again.
    assert ranks_of(controller, [good, good, good, bad, good, good, good, good, good], 420.0) == [
        *["RULE"] * 8, "OPTIMAL"]  # fmt: skip
    assert not controller.latches["program"]


def test_no_plan_is_a_rule_and_a_plan_of_a_wrong_shape_is_none() -> None:
    for plan in (None, np.zeros((0, 1)), np.zeros((3, 2)), "plan", np.zeros((2, 2, 2))):
        decision = HedgeController(setup_of()).step(seen_of(plan=plan))
        assert decision.rank is HedgeRank.RULE
        assert "no plan" in decision.reason
    flat = HedgeController(setup_of()).step(seen_of(plan=np.full(20, SCALE)))
    assert flat.wanted == HedgeController(setup_of()).step(seen_of()).wanted


def test_the_rule_waits_below_its_trigger_and_closes_the_gap_above_it() -> None:
    """σ√Δt·G = 1e-4·√60·G against trigger_bps·1e-4·scale, by hand; a gap beyond its cap closes at any risk."""
    setup = setup_of(future(clip=math.inf), trigger_bps=2.0)
    level = 2.0 * SCALE / math.sqrt(60.0)
    below, above = (HedgeController(setup).step(seen_of(0.0, level * x, plan=None)) for x in (0.999, 1.001))
    assert (below.rank, below.lots) == (HedgeRank.RULE, (0,))
    assert (above.rank, above.wanted[0]) == (HedgeRank.RULE, pytest.approx(level * 1.001))
    eager = HedgeController(setup).step(seen_of(0.0, level * 0.999, plan=None, trigger_factor=0.5))
    assert eager.wanted[0] == pytest.approx(level * 0.999)
    capped = HedgeController(setup_of(gap_cap=1e6, trigger_bps=1e3)).step(seen_of(0.0, 1.5e6, plan=None))
    assert (capped.rank, capped.wanted[0]) == (HedgeRank.RULE, pytest.approx(1.5e6))


def test_immediate_where_the_rule_has_no_number_and_its_latch() -> None:
    controller = HedgeController(setup_of(trip_after=2, rearm_after=2))
    blind = {"plan": None, "trigger_factor": math.nan}
    assert ranks_of(controller, [blind, {"plan": None}, blind, blind, {"plan": None}, {"plan": None}]) == [
        "IMMEDIATE", "RULE", "IMMEDIATE", "IMMEDIATE", "IMMEDIATE", "RULE"]  # fmt: skip
    decision = HedgeController(setup_of()).step(seen_of(0.0, 3 * SCALE, **blind))
    assert decision.wanted[0] == 4e6  # within the clip
    # Over several exposures, the cheapest instrument first, and no further than its room.
    two = setup_of(future("A", clip=2e6), future("B", clip=5e6))
    decision = HedgeController(two).step(seen_of(0.0, SCALE, 2, half_spread=(1e-5, 2e-5), **blind))
    assert decision.wanted == (2e6, 5e6)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"required": math.nan}, "required"),
        ({"required": math.inf}, "required"),
        ({"required": (1.0, 2.0)}, "required"),
        ({"age_s": 6.0}, "old"),
        ({"age_s": math.nan}, "old"),
        ({"mid": (math.nan,)}, "no instrument"),
        ({"half_spread": (-1.0,)}, "no instrument"),
        ({"tradeable": (False,)}, "no instrument"),
        ({"reliance": math.nan}, "required"),
        ({"mid": ()}, "not those of 1"),
        ({"required": ("x",)}, ""),
        ({"time_s": math.nan}, "no time"),
    ],
)
def test_hold_on_bad_data_and_a_second_good_observation_before_there_is_trading(change: Any, word: str) -> None:
    controller = HedgeController(setup_of(max_age_s=5.0))
    required = change.pop("required", SCALE) if change.get("required") != ("x",) else SCALE
    seen = seen_of(0.0, required)._replace(**change)
    decision = controller.step(seen)
    assert decision.rank is HedgeRank.HOLD
    assert word in decision.reason
    assert decision.orders == ()
    after = ranks_of(controller, [{}, {}], 60.0)
    assert after == (["OPTIMAL"] * 2 if word == "no time" else ["HOLD", "OPTIMAL"])


def test_a_clock_that_goes_back_holds_and_is_believed_after_a_while() -> None:
    controller = HedgeController(setup_of(rearm_after=3))
    assert controller.step(seen_of(1e6)).rank is HedgeRank.OPTIMAL
    back = controller.step(seen_of(0.0))
    assert back.rank is HedgeRank.HOLD
    assert "went back" in back.reason
    assert controller.latches["clock"]
    assert controller.step(seen_of(1e6 + 60.0)).rank is HedgeRank.OPTIMAL  # a single slip
    ranks = ranks_of(controller, [{}] * 5)
    assert ranks == ["HOLD", "HOLD", "OPTIMAL", "OPTIMAL", "OPTIMAL"]
    assert not controller.latches["clock"]
    # The clip of the slice under way is not renewed by a clock that goes back.
    one = HedgeController(setup_of(future(clip=4 * VALUE), rearm_after=1))
    assert one.step(seen_of(600.0)).lots == (4,)
    assert one.step(seen_of(0.0)).lots == (0,)
    assert one.step(seen_of(60.0)).lots == (4,)


def test_ceilings_and_what_they_allow() -> None:
    wanted = {}
    for ceiling in HedgeRank:
        decision = HedgeController(setup_of()).step(seen_of(ceiling=int(ceiling)))
        assert decision.rank >= ceiling
        wanted[ceiling] = decision.wanted[0]
    assert wanted[HedgeRank.FEASIBLE] == wanted[HedgeRank.OPTIMAL]
    assert wanted[HedgeRank.HOLD] == 0.0


@pytest.mark.skipif(not COMPILED, reason="the extension was not compiled")
def test_bounded_work_is_certified_feasible_or_the_rule() -> None:
    """The first ranks by the work allowed: never an unpriced iterate, and the proof is sound."""
    seen = {}
    path = SCALE * np.cumsum(np.random.default_rng(1).normal(scale=0.5, size=(30, 1)), axis=0)
    best = HedgeController(setup_of(gap_cap=2e6)).step(seen_of(0.0, SCALE, plan=path))
    for work in range(30):
        decision = HedgeController(setup_of(gap_cap=2e6, work=work)).step(seen_of(0.0, SCALE, plan=path))
        seen[decision.rank] = decision
        assert decision.work <= max(work, 0)
        if decision.rank <= HedgeRank.FEASIBLE:
            assert (
                decision.objective - decision.proven <= best.objective * (1.0 + 1e-9) <= decision.objective * (1 + 2e-9)
            )
    assert HedgeRank.OPTIMAL in seen
    assert set(seen) & {HedgeRank.FEASIBLE, HedgeRank.RULE}
    wide = HedgeController(setup_of(gap_cap=2e6, work=3, accept_bps=1e9)).step(seen_of(0.0, SCALE, plan=path))
    assert wide.rank is HedgeRank.CERTIFIED


def test_a_start_that_breaks_the_rate_is_relaxed_by_the_least() -> None:
    """Depth that is gone lets the slice take less than the rate would from the trade before."""
    setup = setup_of(future(clip=20 * VALUE, rate=5 * VALUE, participation=1.0))
    controller = HedgeController(setup)
    sent = [controller.step(seen_of(60.0 * s, 5 * SCALE)).lots[0] for s in range(3)]
    assert sent == [5, 10, 15]
    thin = np.full((20, 1), 20.0 * VALUE)
    thin[0] = 4.0 * VALUE
    decision = controller.step(seen_of(180.0, 5 * SCALE, liquidity=thin))
    assert decision.rank is HedgeRank.RELAXED
    assert decision.lots == (4,)


def test_the_watchdog_trips_the_program() -> None:
    ticks = iter(np.cumsum([0.0, 1e-6, 1.0, 9.0, 1.0, 9.0, *[1.0, 1e-6] * 9]))
    controller = HedgeController(
        setup_of(watchdog_s=1e-3, trip_after=2, rearm_after=2), clock=lambda: float(next(ticks))
    )
    decisions = [controller.step(seen_of(60.0 * s)) for s in range(7)]
    assert [d.late for d in decisions] == [False, True, True, False, False, False, False]
    # A late answer is still an answer; from the second one on the program is out until it has been in time twice.
    assert [d.rank.name for d in decisions] == [
        "OPTIMAL", "OPTIMAL", "OPTIMAL", "RULE", "RULE", "OPTIMAL", "OPTIMAL"]  # fmt: skip


def test_an_unknown_regime_is_the_most_severe_one() -> None:
    unknown, severe = (HedgeController(setup_of()).step(seen_of(regime=r)) for r in (7, 1))
    assert unknown.wanted == severe.wanted
    assert unknown.alarms == ("unknown regime 7: the most severe is taken",)


def test_a_price_outside_its_collar_waits_for_confirmation() -> None:
    """A price a hundred times too low would turn the clip into a hundred times the contracts."""
    controller = HedgeController(setup_of(rearm_after=3))
    controller.step(seen_of())
    ranks = ranks_of(controller, [{"mid": (50.0,)}] * 4, 60.0)
    assert ranks == ["HOLD", "HOLD", "HOLD", "OPTIMAL"]  # confirmed at the third, fresh at the fourth
    for rank in HedgeRank:
        assert rank.text


def test_a_journal_that_raises_is_an_alarm() -> None:
    def full(record: dict[str, Any]) -> None:
        raise OSError("disk full")

    decision = HedgeController(setup_of(), journal=full).step(seen_of())
    assert decision.orders
    assert decision.alarms == ("journal: disk full",)


def test_one_failure_does_not_poison_later_solves() -> None:
    controller, fresh = HedgeController(setup_of()), HedgeController(setup_of())
    for s in range(1000):
        controller.step(seen_of(60.0 * s, plan=BAD_PLAN if s % 2 else np.full((20, 1), 1e300)))
    ranks_of(controller, [{"position": (0.0,)}] * 8, 6e4)
    position = {"position": (0.0,), "reports": tuple(OrderReport(n, 0.0, True) for n in controller._book.open)}
    after = controller.step(seen_of(9e4, **position))
    plain = fresh.step(seen_of(9e4))
    assert after.rank is HedgeRank.OPTIMAL
    assert after.gap[0] == pytest.approx(plain.gap[0], abs=0.51 * VALUE)
    assert after.wanted[0] == pytest.approx(plain.wanted[0], abs=0.51 * VALUE)


# faults at the solver's and the clock's calls -------------------------------------------------------------------------

FAULTS = ("raise", "nan", "inf", "refused", "short", "memory")


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_of_the_solver_is_a_named_rank_and_no_unsafe_order(fault: str, sticky: bool) -> None:
    """The k-th call fails for k = 1..6, once or from then on: 72 runs, each to its end, with the limits kept."""
    for at in range(6):
        controller = HedgeController(setup_of(trip_after=2, rearm_after=2))
        program = controller._program
        whole, calls = program.calls[0], 0

        def step(*args: Any, at: int = at, whole: Any = whole) -> Any:
            nonlocal calls
            calls += 1
            answer = whole(*args)
            if calls - 1 != at and not (sticky and calls - 1 > at):
                return answer
            if fault == "raise":
                raise RuntimeError("solver")
            if fault == "memory":
                raise MemoryError
            if fault == "short":
                return answer[:3]
            if fault == "refused":
                return answer._replace(status=Status.INVALID, prices=None)
            answer.trades[0] = math.nan if fault == "nan" else math.inf
            return answer

        program.calls[0] = step
        ranks = []
        for s in range(12):
            decision = controller.step(seen_of(60.0 * s, SCALE * (1 + s % 2)))
            ranks.append(decision.rank)
            assert all(math.isfinite(o.contracts) and abs(o.contracts) <= 16 for o in decision.orders)
        assert ranks[at] is HedgeRank.RULE
        assert (ranks[-1] is HedgeRank.RULE) == sticky
        assert HedgeRank.HOLD not in ranks


def test_a_stopwatch_that_breaks_holds() -> None:
    def broken() -> float:
        raise OSError("no clock")

    decision = HedgeController(setup_of(watchdog_s=1.0), clock=broken).step(seen_of())
    assert (decision.rank, decision.reason) == (HedgeRank.HOLD, "OSError: no clock")


def test_orders_that_are_never_reported_do_not_pile_up() -> None:
    controller = HedgeController(setup_of(future(temporary=0.0, clip=math.inf), impact=np.zeros((1, 1, 1))))
    for s in range(1500):
        controller.step(seen_of(60.0 * s, SCALE * (-1) ** s, half_spread=(0.0,)))
    assert len(controller._book.open) == 1024
    assert len(controller.snapshot()["book"]["closed"]) <= 1024


def test_orders_that_are_done_are_remembered_for_a_while() -> None:
    """The last 1024, over a snapshot too: a late fill of one of them counts, one of an older order is unknown."""
    book = FlightBook(1, (1.0,), math.inf)
    for s in range(2100):
        if s == 1500:
            saved, book = book.save(), FlightBook(1, (1.0,), math.inf)
            book.restore(json.loads(json.dumps(saved)))
        book.send(f"h-{s}-0", 0, 5.0, 60.0 * s)
        assert book.take(OrderReport(f"h-{s}-0", 3.0, True), []) == (0, 3.0)
    assert [row[0] for row in book.save()["closed"]] == [f"h-{s}-0" for s in range(2100 - 1024, 2100)]
    alarms: list[str] = []
    assert book.take(OrderReport("h-1076-0", 5.0, True), alarms) == (0, 2.0)
    assert book.take(OrderReport("h-1075-0", 5.0, True), alarms) == (-1, 0.0)
    assert alarms == ["h-1076-0 was filled after it was done", "report of an unknown order h-1075-0"]


# explanations --------------------------------------------------------------------------------------------------------


def twin(controller: HedgeController) -> HedgeController:
    other = HedgeController(controller.setup)
    other.restore(controller.snapshot())
    return other


@pytest.mark.parametrize("required", [(SCALE, -SCALE / 2), (3e5, -2e5)])
def test_explained_marginal_costs_are_finite_differences_of_the_cost(required: tuple[float, float]) -> None:
    setup = setup_of(
        future("A"), future("B", temporary=3e-11),
        exposures=("x", "y"), covariance_per_s=[[1e-8, 5e-9], [5e-9, 2e-8]], gap_cap=1.1e6, gap_penalty=1e-4,
        loadings=[[1.0, 0.2], [0.1, 0.9]],
    )  # fmt: skip
    controller = HedgeController(setup)
    first = controller.step(seen_of(0.0, required, 2))
    reports = tuple(OrderReport(o.id, o.contracts, True) for o in first.orders)
    decision = controller.step(seen_of(60.0, required, 2, reports=reports, linear=np.full((12, 2), 1e-6)))
    frame = controller.explain(decision).to_frame()
    program, step = controller._program, 1e-5
    for j, name in enumerate(("A", "B")):
        for group, parts in (
            (["temporary"], ["temporary"]),
            (["known"], ["known"]),
            (["own_impact", "displaced", "later_trades"], ["impact"]),
            (["risk"], ["risk"]),
        ):
            up, down = program.trades.copy(), program.trades.copy()
            up[0, j] += step
            down[0, j] -= step
            slope = sum(program.parts(up)[p] - program.parts(down)[p] for p in parts) / (2.0 * step)
            sign = -1.0 if group == ["risk"] else 1.0
            assert frame.loc[name, group].sum() == pytest.approx(sign * 1e4 * slope, rel=1e-5, abs=1e-5), (name, group)
        # The balance closes: what one more unit costs is what it saves, less the price of the limits.
        assert abs(frame.loc[name, "balance"]) <= 1e-3
        total = frame.loc[name, "marginal_lag"] - frame.loc[name, "marginal_trade"] - frame.loc[name, "clip"]
        assert total == pytest.approx(frame.loc[name, "rate"], abs=1e-3)


def optimum(setup: HedgeSetup, **seen: Any) -> float:
    controller = HedgeController(setup)
    decision = controller.step(seen_of(**seen))
    assert decision.rank is HedgeRank.OPTIMAL
    return decision.objective


def test_explained_prices_are_what_a_limit_would_save() -> None:
    """Finite differences of the optimal cost in the clip of the present slice and in the gap cap."""
    tight = {"tol": 1e-12}
    # The clip, through the depth of the present slice.
    setup = setup_of(future(participation=1.0), **tight)
    depth = np.full((20, 1), 3e6)
    controller = HedgeController(setup)
    decision = controller.step(seen_of(liquidity=depth))
    price = controller.explain(decision).prices["clip: ES"]
    assert price > 0.01
    step = 2e3
    costs = []
    for side in (1.0, -1.0):
        moved = depth.copy()
        moved[0] += side * step
        costs.append(optimum(setup, liquidity=moved))
    assert price == pytest.approx(-1e4 * (costs[0] - costs[1]) / (2.0 * step), rel=1e-4)
    # The gap cap, with its linear penalty: more room by one unit in every slice.
    binding = {"gap_cap": 5e6, "gap_penalty": 3e-5, "risk_aversion": 1e-7, **tight}
    controller = HedgeController(setup_of(**binding))
    decision = controller.step(seen_of())
    price = controller.explain(decision).prices["gap cap: index"]
    assert price > 0.01

    def held(cap: float) -> float:
        # The quadratic part of the penalty is p/cap: held where it was, so that only the cap moves.
        other = HedgeController(setup_of(**(binding | {"gap_cap": cap})))
        other._program._curves[0][:] = 3e-5 / 5e6 * other._program.unit
        return other.step(seen_of()).objective

    assert price == pytest.approx(-1e4 * (held(5e6 + step) - held(5e6 - step)) / (2.0 * step), rel=1e-4)


@pytest.mark.skipif(not COMPILED, reason="the extension was not compiled")
def test_the_explained_price_of_the_rate_is_what_it_would_save() -> None:
    rate, step = 5e5, 5e2
    controller = HedgeController(setup_of(future(rate=rate), tol=1e-12))
    price = controller.explain(controller.step(seen_of())).prices["rate: ES"]
    assert price > 0.01
    up, down = (optimum(setup_of(future(rate=rate + side * step), tol=1e-12)) for side in (1.0, -1.0))
    assert price == pytest.approx(-1e4 * (up - down) / (2.0 * step), rel=1e-4)


def test_an_explanation_in_words() -> None:
    controller = HedgeController(setup_of(future(clip=1e6)))
    decision = controller.step(seen_of(0.0, SCALE))
    text = controller.explain(decision).summary()
    assert "ES buys 1,000,000, sent as 4 lots" in text
    assert "clip: ES" in text
    assert "bps of lag" in text
    idle = HedgeController(setup_of())
    assert "ES waits" in idle.explain(idle.step(seen_of(0.0, 0.0))).summary()
    held = HedgeController(setup_of())
    told = held.explain(held.step(seen_of(0.0, math.nan)))
    assert told.to_frame().empty
    assert "repair the feed" in told.summary()
    controller.step(seen_of(60.0))
    with pytest.raises(InvalidInput) as caught:
        controller.explain(decision)
    assert caught.value.field == "decision"


# snapshots and journals ----------------------------------------------------------------------------------------------


def story(controller: HedgeController, steps: int, seed: int, start: int = 0) -> list[HedgeDecision]:
    """Run a world with chaotic fills, bad data and regimes; what it does depends on the seed alone."""
    out = []
    m = len(controller.setup.instruments)
    path = SCALE * np.cumsum(0.3 * np.random.default_rng(seed).standard_normal(start + steps + 40))
    venue = Venue(m, seed)
    for s in range(start, start + steps):
        rng = np.random.default_rng([seed, s])
        change: dict[str, Any] = {"reports": venue.reports(), "regime": int(rng.random() < 0.2)}
        if rng.random() < 0.15:
            change["plan"] = None
        elif rng.random() < 0.1:
            change["plan"] = BAD_PLAN
        else:
            change["plan"] = path[s + 1 : s + 25, None]
        if rng.random() < 0.1:
            change["mid"] = (math.nan,) * m
        if rng.random() < 0.2:
            change["liquidity"] = 1e8 * rng.random((20, m))
        if rng.random() < 0.2:
            change["funding"] = ((0, 60.0 * s + 200.0, 1e-5),)
        decision = controller.step(seen_of(60.0 * s, path[s], m, **change))
        venue.take(decision, names_of(controller))
        out.append(decision)
    return out


@pytest.mark.skipif(not COMPILED, reason="the extension was not compiled")
def test_a_snapshot_goes_on_bit_for_bit() -> None:
    """Through JSON and into a new controller; then both are given the same and answer the same bytes."""
    setup = setup_of(future(participation=0.1, liquidity=1e8, rate=2e6), future("NQ"), messages=30)
    controller = HedgeController(setup)
    story(controller, 60, seed=3)
    saved = json.loads(json.dumps(controller.snapshot(), allow_nan=False))
    other = HedgeController(setup)
    other.restore(saved)
    assert canonical(other.snapshot()) == canonical(saved)
    mine = story(controller, 60, seed=4, start=60)
    theirs = story(other, 60, seed=4, start=60)
    assert canonical([d.to_dict() for d in mine]) == canonical([d.to_dict() for d in theirs])
    assert canonical(controller.snapshot()) == canonical(other.snapshot())
    assert len({d.rank for d in mine}) >= 2


@pytest.mark.skipif(not COMPILED, reason="the extension was not compiled")
@pytest.mark.parametrize("again", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["copy", "pickle"])
def test_a_copy_goes_on_by_itself(again: Any) -> None:
    """Its arrays are its own: both are given the same, then the first alone, and each answers from its own state."""
    setup = setup_of(future(participation=0.1, liquidity=1e8, rate=2e6), future("NQ"))
    controller = HedgeController(setup)
    story(controller, 30, seed=8)
    other, third = again(controller), again(controller)
    mine, theirs = (canonical([d.to_dict() for d in story(c, 30, seed=9, start=30)]) for c in (controller, other))
    assert mine == theirs
    assert mine == canonical([d.to_dict() for d in story(third, 30, seed=9, start=30)])
    assert canonical(controller.snapshot()) == canonical(other.snapshot()) == canonical(third.snapshot())


def test_after_a_reset_it_is_as_new() -> None:
    """Also with orders in flight and impact under way, which the program's arrays had in them."""
    controller, fresh = HedgeController(setup_of()), HedgeController(setup_of())
    for s in range(4):
        decision = controller.step(seen_of(60.0 * s, SCALE * (1 + s)))
        if s < 2:
            controller.step(seen_of(60.0 * s + 1.0, reports=[OrderReport(o.id, o.contracts) for o in decision.orders]))
    assert controller.in_flight != (0.0,)
    controller.reset()
    for s in range(3):
        a, b = (c.step(seen_of(60.0 * s)) for c in (controller, fresh))
        assert canonical(a.to_dict()) == canonical(b.to_dict())


def test_a_snapshot_of_the_fallback_engine_goes_on_to_the_tolerance() -> None:
    """PIQP keeps the scaling of its first program, which no snapshot holds: last bits may differ, lots do not."""
    setup = setup_of(horizon=6)
    controller, other = HedgeController(setup, "piqp"), HedgeController(setup, "piqp")
    for s in range(4):
        controller.step(seen_of(60.0 * s))
    other.restore(json.loads(json.dumps(controller.snapshot())))
    for s in range(4, 8):
        a, b = (c.step(seen_of(60.0 * s, SCALE * (1 + s % 2))) for c in (controller, other))
        assert (a.rank, a.lots) == (b.rank, b.lots)
        assert a.wanted[0] == pytest.approx(b.wanted[0], abs=1e-6 * SCALE)


def test_a_journal_replayed_gives_the_same_decisions_byte_for_byte() -> None:
    setup = setup_of(future(participation=0.1, liquidity=1e8), future("NQ"), trip_after=2, rearm_after=2)
    records: list[str] = []
    story(HedgeController(setup, journal=lambda r: records.append(canonical(r))), 150, seed=5)
    read = [json.loads(line) for line in records]
    again = replay_journal(HedgeController(setup), read)
    for line, decision in zip(read, again, strict=True):
        assert canonical(line["decision"]) == canonical(decision.to_dict())
    ranks = {line["decision"]["rank"] for line in read}
    assert {"OPTIMAL", "RULE", "HOLD"} <= ranks
    # Hostile input is in the journal as well, and replays.
    odd: list[dict[str, Any]] = []
    wild = HedgeController(setup, journal=odd.append)
    wild.step(seen_of(0.0, math.inf, 2, mid=(math.nan, -math.inf), reports=(OrderReport("x", math.nan),)))
    back = json.loads(canonical(odd[0]))
    (decision,) = replay_journal(HedgeController(setup), [back])
    assert canonical(decision.to_dict()) == canonical(back["decision"])
    with pytest.raises(InvalidInput):
        decode_observation({"observation": {"unknown": "int"}})


def test_the_watchdogs_verdicts_are_replayed_from_the_journal() -> None:
    ticks = iter(np.cumsum(np.tile([1.0, 9.0, 1.0, 1e-6], 20)))
    setup = setup_of(watchdog_s=1e-3, trip_after=1, rearm_after=1)
    records: list[dict[str, Any]] = []
    controller = HedgeController(setup, journal=records.append, clock=lambda: float(next(ticks)))
    for s in range(10):
        controller.step(seen_of(60.0 * s))
    assert any(r["decision"]["late"] for r in records)
    again = list(replay_journal(HedgeController(setup, clock=lambda: 0.0), records))
    assert [canonical(d.to_dict()) for d in again] == [canonical(r["decision"]) for r in records]


def test_a_damaged_or_foreign_snapshot_is_refused_and_changes_nothing() -> None:
    controller = HedgeController(setup_of())
    story(controller, 5, seed=1)
    before = controller.snapshot()
    foreign = HedgeController(setup_of(risk_aversion=2e-5)).snapshot()
    damaged = [
        {}, 3, None, {**before, "version": 99}, foreign, {**before, "carry": ["x"]}, {**before, "clock": []},
        {**before, "program": {"solvers": ["00"], "solved": [0]}}, {**before, "quotes": [[], []]},
        {k: v for k, v in before.items() if k != "book"},
    ]  # fmt: skip
    for bad in damaged:
        with pytest.raises(InvalidInput):
            controller.restore(bad)  # type: ignore[arg-type]
        assert canonical(controller.snapshot()) == canonical(before)
    controller.reset()
    assert controller.position == (0.0,)


def test_decisions_pickle_and_setups_compare_by_fingerprint() -> None:
    decision = HedgeController(setup_of()).step(seen_of())
    assert pickle.loads(pickle.dumps(decision)) == decision
    assert setup_of().fingerprint() == setup_of().fingerprint() != setup_of(tol=1e-7).fingerprint()


def test_the_fallback_engine_decides_alike() -> None:
    fast, slow = HedgeController(setup_of()), HedgeController(setup_of(), engine="piqp")
    for s in range(5):
        a, b = fast.step(seen_of(60.0 * s)), slow.step(seen_of(60.0 * s))
        assert a.wanted[0] == pytest.approx(b.wanted[0], abs=1e-6 * SCALE)
        assert a.lots == b.lots


# what a set-up refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: HedgeInstrument("a", multiplier=0.0), "a.multiplier"),
        (lambda: HedgeInstrument("a", lot=math.inf), "a.lot"),
        (lambda: HedgeInstrument("a", clip=-1.0), "a.clip"),
        (lambda: HedgeInstrument("a", rate=math.nan), "a.rate"),
        (lambda: HedgeInstrument("a", expected_fill=1.1), "a.expected_fill"),
        (lambda: HedgeInstrument("a", temporary="x"), "a.temporary"),  # type: ignore[arg-type]
        (lambda: HedgeRegime("r", sigma=0.0), "r.sigma"),
        (lambda: HedgeRegime("r", most_of_gap=1.5), "r.most_of_gap"),
        (lambda: HedgeRegime("r", liquidity_floor=-0.1), "r.liquidity_floor"),
        (lambda: setup_of(future(), future()), "instruments"),
        (lambda: setup_of(regimes=()), "regimes"),
        (lambda: setup_of(scale=0.0), "setup.scale"),
        (lambda: setup_of(risk_aversion=-1.0), "setup.risk_aversion"),
        (lambda: setup_of(horizon=0), "horizon"),
        (lambda: setup_of(work=1.5), "work"),
        (lambda: setup_of(trip_after=0), "trip_after"),
        (lambda: setup_of(tol=0.0), "setup.tol"),
        (lambda: setup_of(name=""), "name"),
        (lambda: setup_of(windows=((2.0, 1.0),)), "windows"),
        (lambda: setup_of(windows=((1.0,),)), "windows"),
        (lambda: setup_of(loadings=[[0.0]]), "loadings"),
        (lambda: setup_of(loadings=[[1.0, 1.0]]), "loadings"),
        (lambda: setup_of(exposures=("a", "b")), "loadings"),
        (lambda: setup_of(covariance_per_s=math.nan), "covariance_per_s"),
        (lambda: setup_of(gap_cap=-1.0), "gap_cap"),
        (lambda: setup_of(gap_cap=[1.0, 2.0]), "gap_cap"),
        (lambda: setup_of(decay_per_s=[-1.0]), "decay_per_s"),
        (lambda: setup_of(impact=np.zeros((2, 1, 1))), "impact"),
        (lambda: HedgeController(setup_of(covariance_per_s=-1.0)), "covariance"),
        (lambda: HedgeController("setup"), "setup"),  # type: ignore[arg-type]
        (lambda: HedgeController(setup_of(), engine="gpu"), "engine"),
        (lambda: setup_of().regime("panic"), "regime"),
    ],
)
def test_a_bad_setup_is_refused_by_its_field(make: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field


def test_ids_of_orders_are_the_hedges_own() -> None:
    ids = {HedgeController(setup_of(name=name)).step(seen_of()).orders[0].id for name in ("es-1", "es-2")}
    assert ids == {"es-1-1-0", "es-2-1-0"}


def test_the_regimes_name_gives_its_number() -> None:
    assert setup_of().regime("stress") == 1
