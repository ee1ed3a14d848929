"""Guardrails: each trips and lets go, together they only narrow, whatever they are handed."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.hedge import (
    BasisShock,
    CorrelationBreak,
    DeltaAggression,
    GapLimits,
    GuardrailConfig,
    Guardrails,
    MessageRate,
    NotionalLimit,
    Observation,
    Release,
    Rung,
    StaleData,
)
from crosswind.solvers.errors import InvalidInput

pytestmark = pytest.mark.guard
S = 1_000_000_000
CAPS = {"index": {"normal": 1e6, "stress": 4e5}, "coin": {"normal": 2e5}}


def seen(k=0, gap=0.0, proposed=0.0, **more):
    return Observation(k * S, gap, proposed, **{"instrument_class": "index", "regime": "normal"} | more)


def only(**guards):
    return Guardrails(GuardrailConfig(**{"stale": None} | guards))


def kinds(verdict):
    return [(event.guard, event.kind) for event in verdict.events]


# each trips and releases ---------------------------------------------------------------------------------------------


def test_gap_limit_by_class_and_regime():
    guard = only(gap=GapLimits(CAPS, release_share=0.9))
    assert guard.check(seen(0, 5e5, -4e5)).trade == -4e5
    within = guard.check(seen(1, 5e5, -9e5))
    assert (within.trade, within.low) == (-5e5, -5e5)  # the limit of 1e6 holds after the trade
    assert within.reasons
    assert within.events == ()
    tripped = guard.check(seen(2, 1.1e6, 2e6))
    assert kinds(tripped) == [("gap limit", "trip")]
    assert (tripped.low, tripped.high, tripped.trade) == (0.0, 1.1e6, 1.1e6)
    assert guard.check(seen(3, 9.5e5, -1.0)).trade == 0.0  # below the limit, above its release: reducing only
    released = guard.check(seen(4, 8.9e5, -1.0))
    assert kinds(released) == [("gap limit", "release")]
    assert released.trade == -1.0
    # The regime has a limit of its own, and what is not listed has the tightest of all.
    assert kinds(guard.check(seen(5, 5e5, regime="stress"))) == [("gap limit", "trip")]
    fresh = only(gap=GapLimits(CAPS))
    verdict = fresh.check(seen(0, 2.5e5, 0.0, instrument_class="bond"))
    assert verdict.tripped == ("gap",)
    assert "tightest" in verdict.reasons[0]


def quiet_basis(guard, start, count, level=1e-4, noise=2e-5, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for k in range(count):
        out.append(guard.check(seen(start + 10 * k, 1e5, 1e5, basis=level + noise * rng.normal())))
    return out


def test_basis_shock_trips_and_releases():
    guard = only(basis=BasisShock(tighten=0.5, release=Release(quiet_s=60.0, count=3)))
    calm = quiet_basis(guard, 0, 300)
    assert not any(verdict.events for verdict in calm)
    shock = guard.check(seen(3_000, 1e5, 1e5, rule=7e4, basis=1e-4 + 20 * 2e-5))
    assert kinds(shock) == [("basis shock", "trip")]
    assert (shock.rung, shock.trigger_factor, shock.trade) == (Rung.RULE, 0.5, 7e4)
    assert shock.events[0].value is not None
    assert abs(shock.events[0].value) > shock.events[0].threshold
    after = quiet_basis(guard, 3_010, 200, seed=1)
    released = [verdict for verdict in after if verdict.events]
    assert kinds(released[0]) == [("basis shock", "release")]
    assert (released[0].events[0].time_ns - shock.events[0].time_ns) >= 60 * S
    assert after[-1].rung is None


def test_basis_volatility_trips_too_and_one_bad_print_does_not_become_the_norm():
    guard = only(basis=BasisShock(z_trip=1e3, z_release=3.0, ratio_trip=3.0, ratio_release=1.5))
    quiet_basis(guard, 0, 300)
    wild = quiet_basis(guard, 3_000, 60, noise=4e-4, seed=2)
    assert ("basis shock", "trip") in [pair for verdict in wild for pair in kinds(verdict)]
    robust = only(basis=BasisShock())
    quiet_basis(robust, 0, 300)
    robust.check(seen(3_000, basis=0.5))
    quiet_basis(robust, 3_010, 100, seed=3)
    again = robust.check(seen(5_000, basis=1e-4 + 30 * 2e-5))
    assert "basis" in again.tripped  # the print of 50 % has not widened the norm


def test_a_basis_that_settles_elsewhere_becomes_the_norm():
    guard = only(basis=BasisShock(slow_s=600.0, fast_s=60.0))
    quiet_basis(guard, 0, 200)
    moved = quiet_basis(guard, 2_000, 1_000, level=6e-4, seed=4)
    assert moved[0].tripped == ("basis",)
    assert moved[-1].tripped == ()


def returns(guard, start, count, rho, seed=0, **more):
    rng = np.random.default_rng(seed)
    out = []
    for k in range(count):
        x, e = rng.normal(0, 1e-4, 2)
        y = rho * x + math.sqrt(1 - rho**2) * e
        out.append(guard.check(seen(start + 60 * k, hedge_return=x, basket_return=y, **more)))
    return out


def test_correlation_break_trips_and_releases():
    guard = only(correlation=CorrelationBreak(reliance=0.5))
    assert not any(v.events for v in returns(guard, 0, 200, 0.95))
    broken = returns(guard, 12_000, 200, 0.0, seed=1)
    assert ("correlation break", "trip") in [pair for v in broken for pair in kinds(v)]
    # ΣβQ = 1e6, held 3e5: the hedge may grow to half of what is required, and shrink to nothing.
    tripped = guard.check(seen(24_000, 7e5, 7e5, held=3e5))
    assert (tripped.low, tripped.high, tripped.trade) == (-3e5, 2e5, 2e5)
    assert (tripped.rung, tripped.reliance) == (Rung.RULE, 0.5)
    over = guard.check(seen(24_060, 1e5, 1e5, held=9e5))
    assert (over.low, over.high) == (-9e5, 0.0)
    well = returns(guard, 24_120, 400, 0.95, seed=2)
    assert ("correlation break", "release") in [pair for v in well for pair in kinds(v)]
    assert well[-1].reliance == 1.0


def test_a_hedge_that_stands_still_is_a_break():
    guard = only(correlation=CorrelationBreak(warmup=5, confirm=3))
    verdicts = [guard.check(seen(60 * k, hedge_return=0.0, basket_return=1e-4)) for k in range(10)]
    assert verdicts[-1].tripped == ("correlation",)


def test_stale_data_trips_and_releases():
    guard = only(stale=StaleData(5.0, 2.0, Release(count=2)))
    assert guard.check(seen(0, 1e5, 1e5, data_age_s=1.0)).trade == 1e5
    stale = guard.check(seen(1, 1e5, 1e5, data_age_s=5.5))
    assert (stale.trade, stale.rung) == (0.0, Rung.HOLD)
    assert kinds(stale) == [("stale data", "trip")]
    assert guard.check(seen(2, 1e5, 1e5, data_age_s=3.0)).trade == 0.0
    assert guard.check(seen(3, 1e5, 1e5, data_age_s=1.0)).trade == 0.0
    assert guard.check(seen(4, 1e5, 1e5, data_age_s=1.0)).trade == 1e5
    for bad in (math.nan, math.inf, -1.0):
        assert guard.check(seen(5, 1e5, 1e5, data_age_s=bad)).rung is Rung.HOLD
        guard.rearm("stale", "desk", "test")
    back = guard.check(seen(3, 1e5, 1e5, data_age_s=0.0))
    assert back.rung is Rung.HOLD
    assert "went back" in back.reasons[0]


def test_aggression_clips_strikes_and_releases():
    guard = only(aggression=DeltaAggression(clip=1e5, step=4e4, strikes=3, calm=2))
    assert guard.check(seen(0, proposed=9e4)).trade == 4e4
    assert guard.check(seen(1, proposed=9e4)).trade == 8e4
    assert guard.check(seen(2, proposed=-9e4)).trade == 0.0  # to stop is always allowed, to turn is not in one step
    assert guard.check(seen(3, proposed=-9e4)).trade == -4e4
    for k in range(4, 7):
        verdict = guard.check(seen(k, proposed=-5e5, rule=-1e4))
    assert kinds(verdict) == [("delta aggression", "trip")]
    assert (verdict.rung, verdict.trade) == (Rung.RULE, -1e4)
    assert "RULE at best" in verdict.summary()
    guard.check(seen(7, proposed=1e3, rule=0.0))
    assert kinds(guard.check(seen(8, proposed=1e3, rule=0.0))) == [("delta aggression", "release")]
    assert guard.check(seen(9, proposed=1e3, rule=0.0)).trade == 1e3


def test_message_rate_counts_at_once_and_releases():
    guard = only(messages=MessageRate(most=5, window_s=60.0, release_share=0.5))
    sent = [guard.check(seen(k, proposed=1.0)).trade for k in range(8)]
    assert sent == [1.0] * 5 + [0.0] * 3
    assert guard.tripped == ("messages",)
    assert guard.check(seen(61, proposed=1.0)).trade == 0.0  # three are left in the window: above half
    assert kinds(guard.check(seen(62, proposed=1.0))) == [("message rate", "release")]
    assert guard.check(seen(63, proposed=0.0)).trade == 0.0
    quiet = only(messages=MessageRate(most=2, window_s=60.0))
    assert not any(quiet.check(seen(k, proposed=0.0)).events for k in range(50))  # no order, no message


def test_notional_is_released_by_a_new_session_only():
    guard = only(notional=NotionalLimit(order=4e5, session=1e6))
    sent = [guard.check(seen(k, proposed=6e5, session="mon")).trade for k in range(4)]
    assert sent == [4e5, 4e5, pytest.approx(2e5), 0.0]
    assert guard.tripped == ("notional",)
    assert guard.check(seen(90_000, proposed=-1e5, session="mon")).rung is Rung.HOLD
    both = only(notional=NotionalLimit(order=4e5, session=1e6))
    turns = [both.check(seen(k, proposed=6e5 * (-1) ** k, session="mon")).trade for k in range(4)]
    assert turns == [4e5, -4e5, pytest.approx(2e5), 0.0]  # buys and sells both count
    fresh = guard.check(seen(100_000, proposed=-1e5, session="tue"))
    assert kinds(fresh) == [("notional limit", "release")]
    assert fresh.trade == -1e5


# release rules -------------------------------------------------------------------------------------------------------


def test_a_guard_that_flaps_waits_for_a_person():
    rule = Release(most_trips=2, within_s=600.0)
    guard = only(stale=StaleData(5.0, 2.0, rule))
    for k in range(3):
        guard.check(seen(20 * k, data_age_s=9.0))
        guard.check(seen(20 * k + 10, data_age_s=0.0))
    assert guard.locked == ("stale",)
    for k in range(100, 200):
        assert guard.check(seen(k, 1.0, 1.0, data_age_s=0.0)).trade == 0.0
    with pytest.raises(InvalidInput, match="who and why"):
        guard.rearm("stale", "desk", " ")
    event = guard.rearm("stale", "A. Trader", "feed repaired")
    assert event is not None
    assert "A. Trader" in event.text
    assert guard.rearm("stale", "A. Trader", "again") is None
    assert guard.check(seen(201, 1.0, 1.0, data_age_s=0.0)).trade == 1.0
    with pytest.raises(InvalidInput, match="is not on"):
        guard.rearm("gap", "desk", "why")


def test_manual_and_quiet_rules():
    manual = only(gap=GapLimits(CAPS, release=Release(manual=True)))
    manual.check(seen(0, 2e6))
    assert manual.check(seen(1, 0.0)).tripped == ("gap",)
    slow = only(gap=GapLimits(CAPS, release=Release(quiet_s=30.0)))
    slow.check(seen(0, 2e6))
    assert slow.check(seen(1, 0.0)).tripped == ("gap",)
    assert slow.check(seen(20, 9.5e5)).tripped == ("gap",)  # not calm: the wait begins anew
    assert slow.check(seen(25, 0.0)).tripped == ("gap",)
    assert slow.check(seen(54, 0.0)).tripped == ("gap",)
    assert slow.check(seen(55, 0.0)).tripped == ()


# together ------------------------------------------------------------------------------------------------------------

FULL = GuardrailConfig(
    gap=GapLimits(CAPS),
    basis=BasisShock(warmup=3),
    correlation=CorrelationBreak(warmup=3),
    stale=StaleData(),
    aggression=DeltaAggression(3e5, 2e5),
    messages=MessageRate(6, 30.0),
    notional=NotionalLimit(2.5e5, 2e6),
)
ANY = st.one_of(
    st.floats(-3e6, 3e6),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324]),
    st.floats(),
)
SMALL = st.one_of(st.none(), st.floats(-1e-2, 1e-2), st.sampled_from([math.nan, math.inf, 1e200, 0.0]))
OBSERVATIONS = st.builds(
    Observation,
    time_ns=st.integers(-(10**12), 10**13),
    gap=ANY,
    proposed=ANY,
    held=ANY,
    rule=st.one_of(st.none(), ANY),
    instrument_class=st.sampled_from(["index", "coin", "?"]),
    regime=st.sampled_from(["normal", "stress", ""]),
    session=st.sampled_from(["mon", "tue"]),
    basis=SMALL,
    hedge_return=SMALL,
    basket_return=SMALL,
    data_age_s=st.one_of(st.none(), st.floats(0.0, 10.0), st.sampled_from([math.nan, -1.0])),
)


@settings(max_examples=150, deadline=None)
@given(stream=st.lists(OBSERVATIONS, min_size=1, max_size=25))
def test_hard_limits_hold_whatever_is_seen(stream):
    guard, sent, used, day = Guardrails(FULL), [], 0.0, ""
    for one in stream:
        verdict = guard.check(one)
        trade = verdict.trade
        assert math.isfinite(trade)
        assert verdict.low <= 0.0 <= verdict.high
        assert verdict.low <= trade <= verdict.high
        assert verdict.rung is not Rung.HOLD or trade == 0.0
        assert abs(trade) <= 2.5e5
        if one.session != day:
            used, day = 0.0, one.session
        used += abs(trade)
        assert used <= 2e6 * (1 + 1e-9)
        if math.isfinite(one.gap):
            cap = FULL.gap.cap(one.instrument_class, one.regime)[0]
            assert abs(one.gap - trade) <= max(abs(one.gap), cap) * (1 + 1e-12)
            if abs(one.gap) > cap:
                assert abs(one.gap - trade) <= abs(one.gap)
        else:
            assert trade == 0.0
        if trade != 0.0:
            sent.append(one.time_ns)
            latest = max(sent)
            assert sum(latest - t < 30 * S for t in sent) <= 6
        assert 0.25 <= verdict.trigger_factor <= 1.0
        for event in verdict.events:
            json.dumps(event.to_dict(), allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    stream=st.lists(OBSERVATIONS, min_size=1, max_size=20),
    off=st.sampled_from(["gap", "basis", "correlation", "stale", "aggression", "messages", "notional"]),
)
def test_a_guard_more_only_narrows(stream, off):
    """Bounds of all guards lie within those of all but one, while both have sent the same so far."""
    whole, less = Guardrails(FULL), Guardrails(replace(FULL, **{off: None}))
    for one in stream:
        a, b = whole.check(one), less.check(one)
        assert a.low >= b.low
        assert a.high <= b.high
        if a.trade != b.trade:
            break


@settings(max_examples=60, deadline=None)
@given(stream=st.lists(OBSERVATIONS, min_size=2, max_size=20), cut=st.integers(0, 19))
def test_the_same_verdicts_again_and_after_a_restart(stream, cut):
    first = Guardrails(FULL)
    verdicts = [first.check(one) for one in stream]
    second = Guardrails(FULL)
    for k, one in enumerate(stream):
        if k == min(cut, len(stream) - 1):
            saved = json.loads(json.dumps(second.snapshot(), allow_nan=False))
            second = Guardrails(FULL)
            second.restore(saved)
        assert repr(second.check(one)) == repr(verdicts[k])
    assert second.snapshot() == first.snapshot()


@pytest.mark.parametrize("junk", [None, "x", [], object(), {"a": 1}, 1 + 2j, True])
def test_junk_is_held_back_and_never_raises(junk):
    for name in ("time_ns", "gap", "proposed", "held", "basis", "hedge_return", "data_age_s", "regime", "session"):
        guard = Guardrails(FULL)
        guard.check(seen(0, 1e5, 1e4))
        verdict = guard.check(replace(seen(1, 1e5, 1e4, basket_return=1e-4), **{name: junk}))
        assert math.isfinite(verdict.trade)
        if name in ("gap", "proposed", "time_ns"):
            assert verdict.trade == 0.0 or (name == "time_ns" and junk is True)
    assert Guardrails(FULL).check(junk).rung is Rung.HOLD


def test_a_damaged_snapshot_is_refused_and_changes_nothing():
    guard = Guardrails(FULL)
    for k in range(8):
        guard.check(seen(k, 2e6, 1e5))
    before = guard.snapshot()
    for break_it in (
        lambda s: s.pop("guards"),
        lambda s: s.update(version=9),
        lambda s: s["guards"].pop("gap"),
        lambda s: s["guards"]["gap"].pop("latch"),
        lambda s: s["guards"]["notional"]["state"].update(_used="many"),
        lambda s: s["guards"]["basis"]["state"].update(_mean=math.nan),
        lambda s: s["guards"]["messages"]["state"].update(times=[None]),
    ):
        state = json.loads(json.dumps(before))
        break_it(state)
        with pytest.raises(InvalidInput):
            guard.restore(state)
        assert guard.snapshot() == before
    with pytest.raises(InvalidInput, match="other guards"):
        only(gap=GapLimits(CAPS)).restore(before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GapLimits({}),
        lambda: GapLimits({"index": {}}),
        lambda: GapLimits({"index": {"normal": -1.0}}),
        lambda: GapLimits(CAPS, release_share=1.5),
        lambda: BasisShock(z_trip=2.0, z_release=3.0),
        lambda: BasisShock(fast_s=9e9),
        lambda: BasisShock(tighten=0.1),
        lambda: BasisShock(floor=math.nan),
        lambda: CorrelationBreak(trip=0.8, release_at=0.7),
        lambda: CorrelationBreak(reliance=1.5),
        lambda: StaleData(1.0, 2.0),
        lambda: DeltaAggression(0.0),
        lambda: DeltaAggression(1.0, strikes=0),
        lambda: DeltaAggression(1.0, step=-1.0),
        lambda: MessageRate(0),
        lambda: MessageRate(1, release_share=1.0),
        lambda: NotionalLimit(math.inf, 1.0),
        lambda: Release(quiet_s=-1.0),
        lambda: Release(count=0),
        lambda: Release(most_trips=0),
        lambda: Release(within_s=0.0),
        lambda: GuardrailConfig().scaled(0.0),
        lambda: Guardrails("x"),
    ],
)
def test_settings_are_checked(make):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field


def test_amounts_as_shares():
    shares = GuardrailConfig(
        GapLimits({"": {"": 0.5}}), None, None, None, DeltaAggression(0.2), None, NotionalLimit(0.1, 3)
    )
    scaled = shares.scaled(2e6)
    assert scaled.gap.cap("", "") == (1e6, True)
    assert (scaled.aggression.clip, scaled.aggression.step) == (4e5, math.inf)
    assert scaled.notional == NotionalLimit(2e5, 6e6)
    assert GuardrailConfig(stale=None).scaled(2.0) == GuardrailConfig(stale=None)


def test_a_new_session_begins_with_a_new_level():
    """A basis that opens 40 deviations away is no shock; the same move within the session is one."""
    guard = only(basis=BasisShock())
    rng = np.random.default_rng(5)
    for k in range(300):
        guard.check(seen(60 * k, session="mon", basis=1e-4 + 2e-5 * rng.normal()))
    assert guard.check(seen(80_000, session="tue", basis=9e-4)).events == ()
    for k in range(1, 60):
        assert guard.check(seen(80_000 + 60 * k, session="tue", basis=9e-4 + 2e-5 * rng.normal())).events == ()
    assert guard.check(seen(84_000, session="tue", basis=17e-4)).tripped == ("basis",)


def test_the_first_print_of_a_session_does_not_hold_its_level():
    """Three deviations off at the open: the level follows the next prints at once, not with its half-life."""
    guard = only(basis=BasisShock(z_trip=3.6))
    for k in range(300):
        guard.check(seen(60 * k, session="mon", basis=1e-4 + 2e-5 * (-1) ** k))
    opening = [1.6e-4, *[1e-4] * 10, 5e-5]
    for k, basis in enumerate(opening):
        assert guard.check(seen(80_000 + 60 * k, session="tue", basis=basis)).events == (), k


def test_a_quiet_day_has_no_alarm():
    """Six and a half hours of minutes with normal moves: no guard trips, and no trade is changed."""
    config = replace(FULL, messages=MessageRate(60, 60.0), basis=BasisShock(), correlation=CorrelationBreak())
    rng = np.random.default_rng(0)
    for day in range(20):
        guard, basis = Guardrails(replace(config, notional=NotionalLimit(2.5e5, 1e9))), 1e-4
        for k in range(390):
            x, e = rng.normal(0, 3e-4, 2)
            basis += -0.2 * (basis - 1e-4) + 2e-5 * rng.normal()
            want = float(rng.normal(0, 3e4))
            verdict = guard.check(
                seen(60 * k, float(rng.normal(0, 1e5)), want, basis=basis, hedge_return=x,
                     basket_return=0.9 * x + 0.4 * e, data_age_s=0.5, session=str(day))
            )  # fmt: skip
            assert verdict.trade == want
            assert verdict.events == ()
