"""What a contract is worth, and exact arithmetic on its ticks and lots."""

from __future__ import annotations

import datetime as dt
import math
import pickle
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crosswind.problems.market.contracts import contract, round_to_step
from crosswind.problems.market.contracts.funding_times import EVERY_8_HOURS
from crosswind.problems.market.contracts.hours import TradingHours
from crosswind.problems.market.contracts.model import ContractSpec
from crosswind.solvers.errors import InvalidInput

ES = contract("ES", on="2013-10-07")
COIN = contract("BTCUSD_PERP")
STEPS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 1e-5)


# -- steps -------------------------------------------------------------------------------------------------------------


def test_floor_of_a_quotient_loses_lots_and_ours_does_not():
    quantities = [n / 100 for n in range(1, 401)]
    naive = sum(math.floor(q / 0.01) != n for n, q in enumerate(quantities, 1))
    assert naive >= 16, "the trap has gone: check the premise"
    for how in ("nearest", "down", "up"):
        np.testing.assert_array_equal(round_to_step(np.array(quantities), 0.01, how), quantities)


@settings(max_examples=300, deadline=None)
@given(st.integers(-2_000_000, 2_000_000), st.sampled_from(STEPS), st.sampled_from(["nearest", "down", "up"]))
def test_values_on_the_grid_stay_however_they_were_computed(n, step, how):
    exact = float(n * Decimal(repr(step)))
    for value in (exact, n * step, n / round(1 / step), exact * 3 / 3, (exact + 1000 * step) - 1000 * step):
        assert round_to_step(value, step, how) == exact


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e5, 1e5), st.sampled_from(STEPS))
def test_values_off_the_grid_against_exact_fractions(value, step):
    ratio = Fraction(value) / Fraction(repr(step))
    rest = ratio - math.floor(ratio)
    assume(1e-5 < rest < 1 - 1e-5)
    assume(abs(rest - Fraction(1, 2)) > 1e-5)
    size = Fraction(repr(step))
    assert round_to_step(value, step, "down") == float(math.floor(ratio) * size)
    assert round_to_step(value, step, "up") == float(math.ceil(ratio) * size)
    assert round_to_step(value, step) == float(round(ratio) * size)


def test_ties_go_up_for_prices_and_away_from_zero_for_sizes():
    assert ES.round_price(10.125) == 10.25
    assert ES.round_price(-10.125) == -10.0
    assert ES.round_contracts(2.5) == 3.0
    assert ES.round_contracts(-2.5) == -3.0


def test_sizes_are_rounded_on_their_size():
    assert ES.round_contracts(-2.7, "down") == -2.0
    assert ES.round_contracts(2.7, "down") == 2.0
    assert ES.round_contracts(-2.1, "up") == -3.0
    out = ES.round_contracts(np.array([-0.4, 0.4]), "down")
    np.testing.assert_array_equal(out, [0.0, 0.0])
    assert not np.signbit(out).any()
    assert contract("binance:BTCUSDT").round_contracts(0.29, "down") == 0.29


def test_ticks_are_integers_and_come_back():
    ticks = np.arange(-50, 8000)
    for spec in (ES, COIN, contract("RTY"), contract("FESX")):
        prices = spec.price_of(ticks)
        np.testing.assert_array_equal(spec.ticks(prices), ticks)
    assert ES.ticks(1690.75) == 6763
    assert isinstance(ES.ticks(1690.75), int)
    with pytest.raises(InvalidInput, match="grid"):
        ES.ticks(1690.8)


def test_calendar_spreads_have_their_own_tick():
    assert ES.round_spread(-6.71, "down") == -6.75
    assert ES.round_spread(-6.7) == -6.7
    assert ES.round_price(-6.7) == -6.75
    with pytest.raises(InvalidInput, match="spread"):
        COIN.round_spread(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_steps_refuse_what_is_not_finite(bad):
    for call in (ES.round_price, ES.round_contracts, ES.ticks, ES.round_spread):
        with pytest.raises(InvalidInput):
            call(bad)
    with pytest.raises(InvalidInput):
        ES.round_price(np.array([1.0, bad]))


def test_steps_refuse_unknown_rounding_and_absurd_sizes():
    with pytest.raises(InvalidInput, match="rounding"):
        ES.round_price(1.0, "sideways")
    with pytest.raises(InvalidInput, match="large"):
        round_to_step(1e300, 0.01)
    with pytest.raises(InvalidInput):
        round_to_step(1.0, 0.0)


# -- worth -------------------------------------------------------------------------------------------------------------


def test_linear_contracts_by_hand():
    assert ES.value(2, 1700.0) == 170_000.0
    assert ES.notional(-2, 1700.0) == -170_000.0
    assert ES.units(2, 1700.0) == 100.0
    assert ES.pnl(2, 1700.0, 1710.25) == 1025.0
    assert ES.tick_value() == 12.5
    assert ES.spread_tick * ES.multiplier == 2.5
    assert contract("MES").tick_value() == 1.25
    assert contract("NQ").tick_value() == 5.0
    assert contract("RTY").tick_value() == 5.0
    assert contract("FESX").tick_value() == 5.0
    assert contract("FESX", on="2013-10-07").tick_value() == 10.0
    assert ES.contracts_for(10_000_000, 1680.25) == round(10_000_000 / (50 * 1680.25))
    assert ES.contracts_for(-10_000_000, 1680.25, "down") == -119.0
    assert ES.contracts_for(84_012.5, 1680.25, "exact") == 1.0


def test_inverse_contracts_by_hand():
    assert COIN.value(600, 60_000.0) == 1.0
    assert COIN.notional(600, 60_000.0) == 60_000.0
    assert COIN.units(600, 60_000.0) == 1.0
    assert COIN.pnl(600, 60_000.0, 75_000.0) == pytest.approx(0.2, rel=1e-15)
    assert COIN.contracts_for(25_049.0, 60_000.0) == 250.0
    assert COIN.tick_value(60_000.0) == pytest.approx(100 * (1 / 60_000 - 1 / 60_000.1), rel=1e-6)
    with pytest.raises(InvalidInput, match="depends on the price"):
        COIN.tick_value()
    assert contract("ETHUSD_PERP").notional(3, 2500.0) == 30.0


POSITIONS = st.floats(-1e4, 1e4)
PRICES = st.floats(1e-2, 1e6)


@settings(max_examples=200, deadline=None)
@given(POSITIONS, PRICES, PRICES, PRICES)
def test_profit_adds_up_along_a_path_and_turns_with_the_side(n, a, b, c):
    for spec in (ES, COIN):
        whole = spec.pnl(n, a, c)
        scale = sum(abs(spec.value(n, p)) for p in (a, b, c)) + 1e-300
        assert abs(spec.pnl(n, a, b) + spec.pnl(n, b, c) - whole) <= 1e-12 * scale
        assert spec.pnl(-n, a, c) == -whole
        assert spec.pnl(n, a, a) == 0.0
        sign = 1.0 if spec is ES else -1.0
        assert abs(sign * (spec.value(n, c) - spec.value(n, a)) - whole) <= 1e-12 * scale


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 1e3), PRICES, PRICES)
def test_a_short_inverse_perpetual_turns_coins_into_dollars(coins, p0, p1):
    short = -coins * p0 / COIN.multiplier
    # Nearly all coins are paid away where the price has risen a lot: the sum is good to digits of what went in.
    assert (coins + COIN.pnl(short, p0, p1)) * p1 == pytest.approx(coins * p0, abs=1e-14 * coins * (p0 + p1))


def test_small_moves_of_inverse_contracts_keep_their_digits():
    p0, p1 = 60_000.1, 60_000.1 + 1e-7
    exact = Fraction(100) * (1 / Fraction(p0) - 1 / Fraction(p1))
    assert COIN.pnl(1, p0, p1) == pytest.approx(float(exact), rel=1e-13)


def test_arrays_give_arrays():
    n, p = np.array([1.0, -2.0]), np.array([1700.0, 1710.0])
    np.testing.assert_array_equal(ES.value(n, p), [85_000.0, -171_000.0])
    np.testing.assert_array_equal(COIN.notional(n, p), [100.0, -200.0])
    np.testing.assert_array_equal(ES.pnl(n, 1700.0, p), [0.0, -1000.0])
    np.testing.assert_array_equal(ES.contracts_for(np.array([85_000.0, 0.0]), p), [1.0, 0.0])


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_prices_that_cannot_be_are_refused(price):
    with pytest.raises(InvalidInput):
        COIN.value(1, price)
    with pytest.raises(InvalidInput):
        COIN.pnl(1, price, 1.0)
    with pytest.raises(InvalidInput):
        ES.contracts_for(1000.0, price)


# -- the record --------------------------------------------------------------------------------------------------------

GOOD = {
    "root": "XY",
    "symbol": "XY",
    "title": "a future",
    "exchange": "cme",
    "kind": "index future",
    "currency": "USD",
    "settlement_currency": "USD",
    "multiplier": 10.0,
    "tick": 0.5,
    "calendar": "XNYS",
    "hours": TradingHours("09:30", "16:00", "America/New_York"),
    "tz": "America/New_York",
    "valid_from": dt.date(2020, 1, 1),
    "expiry_rule": "third friday",
    "expiry_time": "09:30",
    "months": (3, 6),
    "first_month": "202003",
    "source": "a test",
}


def test_a_spec_of_ones_own():
    spec = ContractSpec(**GOOD)
    assert spec.key == "cme:XY@1"
    assert spec.pnl(1, 1.0, 2.0) == 10.0
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec.to_frame().loc["cme:XY@1", "opens"] == "09:30"
    assert "10 USD per point" in spec.summary()
    with pytest.raises(AttributeError):
        spec.tick = 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"root": ""},
        {"source": ""},
        {"multiplier": 0.0},
        {"tick": -0.25},
        {"tick": math.nan},
        {"lot": 0.0},
        {"spread_tick": 0.0},
        {"kind": "option"},
        {"expiry_rule": None},
        {"expiry_rule": "full moon"},
        {"months": ()},
        {"months": (6, 3)},
        {"months": (3, 13)},
        {"first_month": ""},
        {"kind": "perpetual"},
        {"funding": EVERY_8_HOURS},
        {"inverse": True},
        {"settlement_currency": "BTC"},
        {"tz": "New York"},
        {"roll": "whenever"},
        {"version": 0},
        {"valid_from": "2020-01-01"},
        {"unverified": ("tick",)},
        {"unverified": ("colour",), "note": "?"},
    ],
    ids=str,
)
def test_contradictory_terms_are_refused(change):
    with pytest.raises(InvalidInput):
        ContractSpec(**GOOD | change)


def test_the_digest_knows_every_number_and_no_text():
    spec = ContractSpec(**GOOD)
    assert replace(spec, source="elsewhere", note="a note").digest == spec.digest
    others = [
        replace(spec, tick=0.25),
        replace(spec, multiplier=20.0),
        replace(spec, spread_tick=0.1),
        replace(spec, expiry_time="10:00"),
        replace(spec, hours=replace(spec.hours, closes="16:15")),
        replace(spec, valid_from=dt.date(2020, 1, 2)),
    ]
    assert len({spec.digest, *(o.digest for o in others)}) == len(others) + 1
