"""The controller's decisions: against an independent solver, by hand, and over hedges with late and partial fills."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from controller_cases import PRICE, REGIMES, SCALE, VALUE, Venue, future, names_of, seen_of, setup_of

from crosswind.problems.hedge.controller import (
    HedgeController,
    HedgeObservation,
    HedgeRank,
    HedgeSetup,
    OrderReport,
    under_verdict,
)
from crosswind.problems.hedge.core_step import terminal_value
from crosswind.problems.hedge.state import Rung


def reference(setup: HedgeSetup, seen: HedgeObservation, state: np.ndarray | None = None) -> np.ndarray:
    """Return the optimal trades (H, m) in currency by cvxpy and Clarabel, from the formula, in units of the scale.

    Flat book, no trade before, prices as observed.
    """
    H, m, k, s = setup.horizon, len(setup.instruments), len(setup.exposures), setup.scale
    regime = setup.regimes[seen.regime]
    E, dt = np.asarray(setup.loadings), setup.dt_s
    Sigma = np.atleast_2d(setup.covariance_per_s) * min(regime.sigma, setup.sigma_cap) ** 2 * dt * s
    plan = np.asarray(seen.plan) / s
    path = np.vstack([plan[: min(len(plan), H)], np.tile(plan[-1], (max(H - len(plan), 0), 1))])
    if len(plan) < H:
        path = np.vstack([plan, np.tile(plan[-1], (H - len(plan), 1))])
    h = cp.Variable((H, m))
    held = cp.cumsum(h @ E.T, axis=0)
    G = path - held
    spread = np.tile(np.asarray(seen.half_spread) * regime.spread, (H, 1))
    spread[0] = seen.half_spread
    cost = cp.sum(cp.multiply(spread, cp.abs(h)))
    eta = np.array([i.temporary * regime.temporary for i in setup.instruments]) * s
    cost += cp.sum(cp.multiply(np.tile(eta, (H, 1)), cp.square(h)))
    R = np.linalg.cholesky(Sigma + 1e-300 * np.eye(k)) if np.any(Sigma) else np.zeros((k, k))
    cost += setup.risk_aversion * cp.sum_squares(G @ R)
    for beta, K in zip(setup.decay_per_s, np.asarray(setup.impact), strict=True):
        # ½ u'Ku with the kernel's Gram matrix over time, and what is left from before.
        time = np.exp(-beta * dt * np.abs(np.subtract.outer(np.arange(H), np.arange(H))))
        A = np.kron(np.linalg.cholesky(time), np.linalg.cholesky(K * s))
        cost += 0.5 * cp.sum_squares(A.T @ cp.reshape(h, (H * m,), order="C"))
    for i in range(k):
        cap = float(setup.gap_cap[i]) * regime.gap_cap / s
        if math.isfinite(cap):
            over = cp.pos(cp.abs(G[:, i]) - cap)
            cost += setup.gap_penalty * cp.sum(over) + 0.5 * setup.gap_penalty / cap * cp.sum_squares(over)
        cheapest = min(seen.half_spread[j] * regime.spread / abs(E[i, j]) for j in range(m) if E[i, j])
        cost += cheapest * setup.close_spread * cp.abs(plan[-1, i] - held[H - 1, i])
        each = eta + 0.5 * np.asarray(setup.impact).sum(axis=0).diagonal() * s
        value = terminal_value(setup.risk_aversion * Sigma[i, i], 1.0 / float((E[i] ** 2 / each).sum()))
        cost += value * cp.square(G[H - 1, i])
    if seen.linear is not None:
        cost += cp.sum(cp.multiply(np.asarray(seen.linear), h))
    for j, when, rate in seen.funding:
        settled = math.ceil((when - seen.time_s) / dt) - 1
        if 0 <= settled < H:
            cost += rate * cp.sum(h[: settled + 1, j])
    if seen.basis_drift is not None:
        cost -= cp.sum(cp.multiply(np.asarray(seen.basis_drift), cp.cumsum(h, axis=0)))
    limits = []
    for j, instrument in enumerate(setup.instruments):
        limits += [cp.abs(h[:, j]) <= instrument.clip / s] if math.isfinite(instrument.clip) else []
        if math.isfinite(instrument.rate):
            limits += [cp.abs(h[0, j]) <= instrument.rate / s, cp.abs(cp.diff(h[:, j])) <= instrument.rate / s]
    cp.Problem(cp.Minimize(cost * 1e4), limits).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    return np.asarray(h.value) * s


RNG = np.random.default_rng(0)
PATH = SCALE * np.cumsum(RNG.normal(scale=0.3, size=(30, 2)), axis=0)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one future": ({}, {"plan": PATH[:, :1]}),
    "stress": ({}, {"plan": PATH[:, :1], "regime": 1}),
    "rate and clip": ({"futures": (future(rate=3e5, clip=1e6),)}, {"plan": PATH[:, :1]}),
    "gap cap": ({"gap_cap": 2e6, "gap_penalty": 1e-3}, {"plan": PATH[:, :1]}),
    "short plan": ({}, {"plan": PATH[:3, :1]}),
    "carry": (
        {"futures": (future("perp", temporary=2e-11), future("Q"))},
        {"plan": PATH[:, :1], "funding": ((0, 130.0, 3e-5), (0, 500.0, -1e-5)), "basis_drift": (0.0, 1e-6)},
    ),
    "two futures, one index, two modes": (
        {
            "futures": (future(), future("Q", clip=2e6, temporary=2e-11)),
            "decay_per_s": [1.0 / 90.0, 1.0 / 1200.0],
            "impact": 1e-11 * np.array([[[1.0, 0.4], [0.4, 0.8]], [[0.5, 0.2], [0.2, 0.6]]]),
        },
        {"plan": PATH[:, :1], "half_spread": (1e-5, 2e-5)},
    ),
    "ES and NQ": (
        {
            "futures": (future(), future("NQ", clip=3e6)),
            "exposures": ("SPX", "NDX"),
            "covariance_per_s": [[1e-8, 1.2e-8], [1.2e-8, 2e-8]],
            "gap_cap": [1e7, 5e6],
        },
        {"plan": PATH, "required": (SCALE, -SCALE / 2), "linear": np.full((12, 2), 1e-6)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_program_against_an_independent_solver(name: str) -> None:
    change, observed = CASES[name]
    change = dict(change)
    setup = setup_of(*change.pop("futures", ()), **change)
    seen = seen_of(m=len(setup.instruments), **observed)
    controller = HedgeController(setup)
    decision = controller.step(seen)
    assert decision.rank is HedgeRank.OPTIMAL
    np.testing.assert_allclose(decision.wanted, reference(setup, seen)[0], atol=2e-5 * SCALE)
    program = controller._program
    assert program.cost(program.trades) * program.unit == pytest.approx(decision.objective, rel=1e-9)


def test_what_is_left_of_past_trades_is_paid() -> None:
    """Impact that has not faded makes the same trade dearer: the second decision by the same independent program."""
    setup = setup_of(future(temporary=0.0), risk_aversion=1e-6)
    controller = HedgeController(setup)
    first = controller.step(seen_of(0.0, SCALE / 4))
    filled = first.orders[0]
    report = (OrderReport(filled.id, filled.contracts, True),)
    second = controller.step(seen_of(60.0, SCALE / 4, reports=report))
    # What is reported now was filled when it was sent, a slice ago.
    left = float(setup.impact[0, 0, 0]) * filled.contracts * VALUE
    fading = left * np.exp(-np.arange(1, 13) * 60.0 / 120.0)[:, None]
    gap = second.gap[0]
    fresh = seen_of(60.0, gap, plan=np.full((20, 1), gap), linear=fading)
    np.testing.assert_allclose(second.wanted[0], reference(setup, fresh)[0, 0], atol=2e-5 * SCALE)
    # In flight it counts as well, as if it filled now.
    controller = HedgeController(setup)
    controller.step(seen_of(0.0, SCALE / 4))
    second = controller.step(seen_of(60.0, SCALE / 4))
    fresh = fresh._replace(linear=left * np.exp(-np.arange(12) * 60.0 / 120.0)[:, None])
    np.testing.assert_allclose(second.wanted[0], reference(setup, fresh)[0, 0], atol=2e-5 * SCALE)


# fills and latency ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_late_partial_rejected_and_doubled_reports_reconcile(seed: int) -> None:
    """Whatever order the reports come in, held + in flight is the truth, and the hedge ends within half a contract."""
    rng = np.random.default_rng(seed)
    futures = (future(), future("MES", multiplier=5.0, temporary=1e-11))[: 1 + seed % 2]
    m = len(futures)
    controller = HedgeController(setup_of(*futures))
    value = np.array([f.multiplier * PRICE for f in futures])
    venue, names = Venue(m, seed), names_of(controller)
    path = np.concatenate([SCALE * np.cumsum(0.2 * rng.standard_normal(40)), np.full(60, 0.77 * SCALE)])
    for s in range(100):
        venue.hostile = s < 70
        rest = np.append(path[s:], path[-1])[1:, None]
        reports, carried = venue.reports(), np.array(controller.carried)
        decision = controller.step(seen_of(60.0 * s, path[s], m, plan=rest, reports=reports))
        assert decision.rank <= HedgeRank.RELAXED
        counted = np.array(controller.position) + np.array(controller.in_flight)
        sent = np.array([sum(o.contracts for o in decision.orders if o.instrument == n) for n in names])
        assert decision.gap[0] == pytest.approx(path[s] - (counted - sent + carried) @ value, abs=1e-6 * SCALE)
        venue.take(decision, names)
    controller.step(seen_of(6000.0, path[-1], m, reports=(*venue.reports(), *venue.drain())))
    np.testing.assert_array_equal(controller.position, venue.position)
    assert abs(float(venue.position @ value) - path[-1]) <= 0.5 * value[0] + 1e-6


def test_an_order_in_flight_is_not_sent_again_and_counts_by_its_expected_fill() -> None:
    for share in (1.0, 0.5):
        setup = setup_of(future(temporary=0.0, clip=math.inf, expected_fill=share), impact=np.zeros((1, 1, 1)))
        controller = HedgeController(setup)
        first = controller.step(seen_of(0.0, 40 * VALUE))
        assert first.lots == (40,)
        second = controller.step(seen_of(60.0, 40 * VALUE))
        assert second.gap[0] == pytest.approx((1.0 - share) * 40 * VALUE, abs=1e-2 * VALUE)
        assert second.lots == (round((1.0 - share) * 40),)
        rejected = OrderReport(first.orders[0].id, 0.0, True)
        third = controller.step(seen_of(120.0, 40 * VALUE, reports=(rejected,)))
        assert third.gap[0] == pytest.approx(40 * VALUE - share * sum(second.lots) * VALUE, abs=1e-2 * VALUE)
        assert third.lots[0] == round(40 - share * sum(second.lots))


def test_a_late_order_raises_an_alarm_counts_as_unfilled_and_its_fill_is_still_booked() -> None:
    free = {"impact": np.zeros((1, 1, 1)), "late_after_s": 100.0}
    controller = HedgeController(setup_of(future(temporary=0.0, clip=math.inf), **free))
    order = controller.step(seen_of(0.0, 8 * VALUE)).orders[0]
    assert controller.step(seen_of(60.0, 8 * VALUE)).orders == ()
    late = controller.step(seen_of(120.0, 8 * VALUE))
    assert late.alarms == (f"{order.id} is late",)
    assert late.gap[0] == pytest.approx(8 * VALUE, abs=1e-2 * VALUE)
    again = late.orders[0]
    assert again.contracts == 8.0
    reports = tuple(OrderReport(o.id, o.contracts, True) for o in (order, again))
    back = controller.step(seen_of(180.0, 8 * VALUE, reports=reports))
    assert controller.position == (16.0,)
    assert back.lots == (-8,)  # both were filled: the surplus goes back


def test_reports_that_make_no_sense_are_alarms_and_the_brokers_position_is_taken_over() -> None:
    controller = HedgeController(setup_of())
    order = controller.step(seen_of()).orders[0]
    reports = (
        OrderReport("who", 3.0),
        OrderReport(order.id, -1.0),
        OrderReport(order.id, 1e3 * order.contracts),
        OrderReport(order.id, math.nan),
        (1,),
    )
    decision = controller.step(seen_of(60.0, reports=reports))
    assert len(decision.alarms) == 5
    assert controller.position == (0.0,)
    over = OrderReport(order.id, order.contracts + 1.0, True)
    decision = controller.step(seen_of(120.0, reports=(over, over)))
    assert decision.alarms == (f"{order.id} was filled beyond its size",)
    assert controller.position == (order.contracts + 1.0,)
    decision = controller.step(seen_of(180.0, position=(7.0,)))
    assert "taken over" in decision.alarms[0]
    assert controller.position == (7.0,)


# rounding ------------------------------------------------------------------------------------------------------------


def test_rounding_is_carried_and_stays_within_half_a_contract() -> None:
    """A requirement that grows by a third of a contract: contracts follow it, and no error piles up."""
    controller = HedgeController(setup_of(future(temporary=0.0, clip=math.inf), impact=np.zeros((1, 1, 1))))
    held, reports = 0.0, ()
    sizes = []
    for s in range(60):
        need = (s + 1) / 3.0 * VALUE
        path = np.minimum(np.arange(s + 2, s + 22), 60)[:, None] / 3.0 * VALUE
        decision = controller.step(seen_of(60.0 * s, need, plan=path, reports=reports, half_spread=(0.0,)))
        reports = tuple(OrderReport(o.id, o.contracts, True) for o in decision.orders)
        held += sum(o.contracts for o in decision.orders)
        sizes.append(len(decision.orders))
        assert abs(controller.carried[0]) <= 0.5
        assert abs(path[0, 0] / VALUE - held) <= 0.5 + 1e-6
    assert 15 <= sum(sizes) <= 25  # a message where a contract is due, not at every step


def test_a_lot_can_be_a_fraction_of_a_contract() -> None:
    coin = future("perp", multiplier=1.0, lot=0.001, temporary=0.0, clip=math.inf)
    controller = HedgeController(setup_of(coin, impact=np.zeros((1, 1, 1))))
    decision = controller.step(seen_of(0.0, 12.3456 * PRICE, half_spread=(0.0,)))
    assert decision.orders[0].contracts == pytest.approx(12.346)
    assert controller.carried[0] == pytest.approx(-0.4, abs=1e-3)


# carry ---------------------------------------------------------------------------------------------------------------


def test_funding_sign_longs_pay_shorts_at_a_positive_rate() -> None:
    """Near a settlement a long hedge waits, a short one hurries; a negative rate turns both."""

    def first(required: float, rate: float, when: float = 50.0) -> float:
        controller = HedgeController(setup_of(risk_aversion=1e-6))
        return controller.step(seen_of(0.0, required, funding=((0, when, rate),))).wanted[0]

    for side in (1.0, -1.0):
        plain = first(side * SCALE, 0.0)
        assert side * first(side * SCALE, side * 1e-4) < side * plain < side * first(side * SCALE, side * -1e-4)
    # Exactly: the settlement is a cost of rate per unit held through it.
    controller = HedgeController(setup_of())
    controller.step(seen_of(0.0, funding=((0, 130.0, 2e-5),)))
    np.testing.assert_allclose(controller._program.linear[:, 0], np.where(np.arange(12) < 3, 2e-5, 0.0))
    # At the very time of a slice's start, that slice's trade comes too late for it.
    controller.step(seen_of(60.0, funding=((0, 180.0, 2e-5),)))
    np.testing.assert_allclose(controller._program.linear[:, 0], np.where(np.arange(12) < 2, 2e-5, 0.0))


def test_who_is_long_earns_a_rising_basis() -> None:
    rising, falling = (
        HedgeController(setup_of(risk_aversion=1e-6)).step(seen_of(0.0, SCALE, basis_drift=(drift,))).wanted[0]
        for drift in (2e-6, -2e-6)
    )
    plain = HedgeController(setup_of(risk_aversion=1e-6)).step(seen_of(0.0, SCALE)).wanted[0]
    assert falling < plain < rising


# several futures -----------------------------------------------------------------------------------------------------


def test_two_futures_on_one_exposure_pick_the_cheaper_and_split_at_equal_marginal_cost() -> None:
    free = {"impact": np.zeros((1, 2, 2)), "gap_cap": math.inf}
    cheap = setup_of(future("A", temporary=0.0, clip=math.inf), future("B", temporary=0.0, clip=math.inf), **free)
    decision = HedgeController(cheap).step(seen_of(0.0, SCALE, 2, half_spread=(2e-5, 1e-5)))
    assert decision.lots == (0, 40)
    # With quadratic costs both trade, where c_A + 2η_A h_A = c_B + 2η_B h_B.
    both = setup_of(future("A", temporary=1e-12, clip=math.inf), future("B", temporary=4e-12, clip=math.inf), **free)
    controller = HedgeController(both)
    a, b = controller.step(seen_of(0.0, SCALE, 2, half_spread=(2e-5, 1e-5))).wanted
    assert a > 0.0 < b
    assert 2e-5 + 2e-12 * a == pytest.approx(1e-5 + 8e-12 * b, rel=1e-6)
    assert a + b == pytest.approx(SCALE, rel=0.35)


def test_a_perpetual_that_pays_for_the_short_is_preferred_to_the_quarterly() -> None:
    setup = setup_of(future("perp"), future("Q"))
    wanted = HedgeController(setup).step(seen_of(0.0, -SCALE, 2, funding=((0, 600.0, 5e-5),))).wanted
    assert wanted[0] < wanted[1] < 0.0


def test_a_future_that_stops_trading_is_left_and_the_other_takes_over() -> None:
    controller = HedgeController(setup_of(future("A"), future("B")))
    seen = seen_of(0.0, SCALE, 2)
    assert all(controller.step(seen).lots)
    for change in ({"tradeable": (False, True)}, {"mid": (math.nan, PRICE)}, {"half_spread": (-1.0, 1e-5)}):
        decision = HedgeController(setup_of(future("A"), future("B"))).step(seen._replace(**change))
        assert decision.lots[0] == 0 < decision.lots[1]
        assert decision.rank is HedgeRank.OPTIMAL
    # What it holds still counts, at its last price.
    order = {o.instrument: o for o in controller._decision.orders}["A"]  # type: ignore[union-attr]
    reports = (OrderReport(order.id, order.contracts, True),)
    after = controller.step(seen_of(60.0, SCALE, 2, mid=(math.nan, PRICE), reports=reports))
    held = sum(controller.position) * VALUE
    flying = controller.in_flight[1] - after.lots[1]
    assert after.gap[0] == pytest.approx(SCALE - held - flying * VALUE, abs=0.51 * VALUE)
    nothing = controller.step(seen_of(120.0, SCALE, 2, tradeable=(False, False)))
    assert (nothing.rank, nothing.reason) == (HedgeRank.HOLD, "no instrument trades")


# plan, windows, regimes ----------------------------------------------------------------------------------------------


def test_the_plan_is_followed_ahead_and_a_revision_is_taken_at_once() -> None:
    falling = np.linspace(1.0, 0.0, 21)[1:, None] * SCALE
    steady, revised = HedgeController(setup_of()), HedgeController(setup_of())
    for controller in (steady, revised):
        assert controller.step(seen_of(0.0, 0.0, plan=falling)).lots[0] > 0
    # No plan given: the last one, moved on. Given the same, the same.
    a = steady.step(seen_of(60.0, falling[0], plan=None))
    b = revised.step(seen_of(60.0, falling[0], plan=falling[1:]))
    assert a.wanted == b.wanted
    cancelled = revised.step(seen_of(120.0, 0.0, plan=np.zeros((20, 1))))
    assert cancelled.lots[0] < 0  # what was bought for the rest of the plan goes back


def test_do_not_trade_windows_and_the_deadline() -> None:
    setup = setup_of(future(clip=math.inf), windows=((120.0, 240.0), (600.0, math.inf)))
    controller, traded = HedgeController(setup), {}
    for s in range(12):
        decision = controller.step(seen_of(60.0 * s, SCALE * (1 + s % 2)))
        traded[60 * s] = bool(decision.orders)
        reports = tuple(OrderReport(o.id, o.contracts, True) for o in decision.orders)
        if reports:
            controller._take_reports(reports, [])
    assert [t for t, yes in traded.items() if not yes] == [120, 180, 600, 660]
    np.testing.assert_array_equal(controller._program.cap[:, 0], 0.0)
    # Foreseen: before the window the program hedges what it could not hedge within it.
    lull = setup_of(windows=((60.0, 1e9),), risk_aversion=1e-6)
    wait, now = HedgeController(setup_of(risk_aversion=1e-6)), HedgeController(lull)
    assert now.step(seen_of()).wanted[0] > wait.step(seen_of()).wanted[0]


def test_stress_caps_sigma_floors_the_liquidity_forecast_and_never_hedges_all_at_once() -> None:
    thin = np.full((20, 1), 1e6)
    part = future(clip=math.inf, participation=0.1, liquidity=1e8)
    calm, stress = (HedgeController(setup_of(part)).step(seen_of(liquidity=thin * 1e2, regime=r)) for r in (0, 1))
    assert stress.wanted[0] <= 0.1 * 1e8 + 1e-6
    assert stress.wanted[0] < SCALE
    assert calm.rank is stress.rank is HedgeRank.OPTIMAL
    # σ is multiplied by 2, the cap, not by 5: the same as a regime that asks for 2.
    two = setup_of(part, regimes=(REGIMES[0], replace(REGIMES[1], sigma=2.0)))
    assert HedgeController(two).step(seen_of(liquidity=thin * 1e2, regime=1)).wanted == stress.wanted
    # The present slice's liquidity is what it is; later slices are floored at half the usual.
    controller = HedgeController(setup_of(part))
    controller.step(seen_of(liquidity=thin, regime=1))
    np.testing.assert_allclose(controller._program.cap[:, 0], np.array([0.1 * 1e6, *[0.1 * 0.5e8] * 11]) / 2.0**23)
    # Below the program, one slice closes a quarter of the gap at most.
    rule = HedgeController(setup_of(future(clip=math.inf))).step(seen_of(regime=1, ceiling=4))
    assert (rule.rank, rule.wanted[0]) == (HedgeRank.RULE, pytest.approx(0.25 * SCALE))


def test_an_excess_of_the_gap_cap_is_priced_alarmed_and_not_increased_by_own_trades() -> None:
    setup = setup_of(future(clip=math.inf), gap_cap=2e6, gap_penalty=1e-3)
    far = HedgeController(setup).step(seen_of(0.0, SCALE))
    assert far.alarms == ("gap cap of index exceeded by 8e+06",)
    assert far.wanted[0] > HedgeController(setup_of(future(clip=math.inf))).step(seen_of(0.0, SCALE)).wanted[0]
    # A block is planned in this slice: hedging it ahead would open a gap beyond the cap, so only the cap is used.
    ahead = HedgeController(setup).step(seen_of(0.0, 0.0, plan=np.full((20, 1), SCALE)))
    assert ahead.wanted[0] > 2e6
    assert ahead.lots[0] == int(2e6 / VALUE)
    assert ahead.binding == ("gap cap: index",)
    # Beyond the cap already, no trade may add to it, in any lots.
    for need, rest in itertools.product((-SCALE, SCALE), (-2 * SCALE, 2 * SCALE)):
        controller = HedgeController(setup)
        decision = controller.step(seen_of(0.0, need, plan=np.full((20, 1), float(rest))))
        assert abs(need - decision.lots[0] * VALUE) <= abs(need) + 1e-6


def test_reliance_scales_what_is_to_be_held() -> None:
    half, plain = HedgeController(setup_of()), HedgeController(setup_of())
    a = half.step(seen_of(0.0, SCALE, reliance=0.5))
    b = plain.step(seen_of(0.0, SCALE / 2))
    assert a.wanted == b.wanted
    assert a.gap == b.gap


def test_many_steps_within_a_slice_share_its_clip_and_its_rate() -> None:
    setup = setup_of(future(clip=10 * VALUE, rate=6 * VALUE))
    controller, sent = HedgeController(setup), 0
    for i in range(10):
        sent += controller.step(seen_of(5.0 * i, 3 * SCALE)).lots[0]
    assert sent == 6  # the rate from a slice without a trade
    for i in range(10):
        sent += controller.step(seen_of(60.0 + 5.0 * i, 3 * SCALE)).lots[0]
    assert sent == 16  # then the clip


# limits from outside --------------------------------------------------------------------------------------------------


def test_bounds_cut_and_crossed_bounds_allow_nothing() -> None:
    plain = HedgeController(setup_of()).step(seen_of()).lots[0]
    assert plain > 3
    cut = HedgeController(setup_of()).step(seen_of(bounds=((-1e6, 3.5 * VALUE),)))
    assert (cut.lots, cut.binding) == ((3,), ("bounds: index",))
    free = HedgeController(setup_of()).step(seen_of(bounds=((-math.inf, math.inf),)))
    assert (free.lots, free.binding) == ((plain,), ())
    for bad in (((1.0, 2.0),), ((2e6, -2e6),), ((math.nan, math.nan),), ((1.0,),), (), ("xy",)):
        decision = HedgeController(setup_of()).step(seen_of(bounds=bad))
        assert decision.orders == ()
        assert "crossed" in decision.alarms[0]
        assert decision.rank is HedgeRank.OPTIMAL


def test_the_guardrails_verdict_is_a_lid_on_the_controller() -> None:
    from crosswind.problems.hedge.guardrails import Verdict

    verdict = Verdict(0.0, -1e6, 5.2 * VALUE, None, 0.5, 0.8, (), (), ())
    decision = HedgeController(setup_of()).step(under_verdict(seen_of(), verdict))
    assert decision.lots == (5,)
    assert decision.gap[0] == pytest.approx(0.8 * SCALE)
    rule = HedgeController(setup_of()).step(under_verdict(seen_of(), replace(verdict, rung=Rung.RULE)))
    assert rule.rank is HedgeRank.RULE
    hold = HedgeController(setup_of()).step(under_verdict(seen_of(ceiling=2), replace(verdict, rung=Rung.HOLD)))
    assert (hold.rank, hold.orders) == (HedgeRank.HOLD, ())


@pytest.mark.parametrize("seed", range(3))
def test_the_notional_holds_at_the_worst_of_what_is_in_flight(seed: int) -> None:
    """Held plus all that may still fill on one side stays within the limit, by the venue's own book."""
    rng = np.random.default_rng(seed)
    setup = setup_of(future(clip=math.inf, notional=20.5 * VALUE))
    controller, venue = HedgeController(setup), Venue(1, seed)
    reached = 0.0
    for s in range(200):
        need = 3.0 * SCALE * math.sin(s / 9.0) + 1e6 * rng.standard_normal()
        decision = controller.step(seen_of(60.0 * s, need, reports=venue.reports()))
        venue.take(decision, ["ES"])
        for side in (1.0, -1.0):
            rest = [contracts - filled for _, contracts, filled in venue.live.values()]
            worst = side * venue.position[0] + sum(max(side * r, 0.0) for r in rest)
            reached = max(reached, worst)
            assert worst <= 20.0
    assert reached == 20.0
