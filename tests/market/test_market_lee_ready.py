"""Trade signs by hand-made examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.market import lee_ready
from crosswind.solvers.errors import InvalidInput


def signs(prices, times, quote_times, mids):
    return lee_ready(np.array(prices, float), np.array(times), np.array(quote_times), np.array(mids, float)).tolist()


def test_above_and_below_the_mid():
    assert signs([10.01, 9.99], [5, 6], [0], [10.0]) == [1, -1]


def test_at_the_mid_the_last_price_change_decides():
    # up to the mid, down to the mid, and a zero tick that keeps the last change
    assert signs([9.99, 10.0, 10.0], [1, 2, 3], [0], [10.0]) == [-1, 1, 1]
    assert signs([10.01, 10.0, 10.0], [1, 2, 3], [0], [10.0]) == [1, -1, -1]


def test_the_last_bit_of_a_price_decides_nothing():
    """178.005 is the mid of 178.00 and 178.01 to a person; as sums and products of doubles the two differ."""
    cents = np.arange(17_000, 18_000)
    mid = 0.5 * (cents * 100 * 1e-4 + (cents + 1) * 100 * 1e-4)
    trade = (cents * 100 + 50) * 1e-4
    assert (trade != mid).any()
    for before, expected in ((1.0, -1), (-1.0, 1)):
        prices = np.column_stack([trade + before, trade]).ravel()
        times = np.arange(len(prices))
        found = lee_ready(prices, times, times[1::2], mid)
        assert (found[1::2] == expected).all()
    # A tenth of a cent is a price improvement, not rounding.
    assert signs([178.0051, 178.0049], [1, 2], [0], [178.005]) == [1, -1]


def test_the_first_trade_at_the_mid_has_no_sign():
    assert signs([10.0], [1], [0], [10.0]) == [0]
    assert signs([10.0, 10.0, 10.01], [1, 2, 3], [0], [10.0]) == [0, 0, 1]


def test_without_a_quote_the_tick_test_decides():
    assert signs([10.0, 10.1, 10.1, 10.0], [1, 2, 3, 4], [], []) == [0, 1, 1, -1]
    # The first quote is known only after the second trade.
    assert signs([10.0, 10.1, 10.1], [1, 2, 5], [4], [10.2]) == [0, 1, -1]


def test_a_quote_known_at_the_trade_counts_and_a_later_one_does_not():
    assert signs([10.0], [4], [0, 4], [9.0, 11.0]) == [-1]
    assert signs([10.0], [3], [0, 4], [9.0, 11.0]) == [1]


def test_of_quotes_at_one_time_the_last_prevails():
    assert signs([10.0], [4], [4, 4], [9.0, 11.0]) == [-1]


def test_trades_at_one_time_keep_their_order():
    assert signs([9.99, 10.0], [1, 1], [0], [10.0]) == [-1, 1]
    assert signs([10.01, 10.0], [1, 1], [0], [10.0]) == [1, -1]


def test_no_trades():
    out = lee_ready([], [], [0], [10.0])
    assert out.shape == (0,)
    assert out.dtype == np.int8


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (([np.nan], [1], [0], [10.0]), "trade_price"),
        (([10.0], [1], [0], [np.inf]), "mid"),
        (([10.0, 10.0], [2, 1], [0], [10.0]), "trade_time"),
        (([10.0], [1], [1, 0], [10.0, 10.0]), "quote_time"),
        (([10.0, 10.0], [1], [0], [10.0]), "trade_time"),
        (([10.0], [1], [0, 1], [10.0]), "mid"),
        (([[10.0]], [1], [0], [10.0]), "trade_price"),
        (([10.0], [np.nan], [0], [10.0]), "trade_time"),
    ],
)
def test_bad_input(args, field):
    with pytest.raises(InvalidInput) as caught:
        lee_ready(*args)
    assert caught.value.field == field


def slow(price, time, known, mid):
    """One trade at a time, as the rule is told."""
    out = []
    for k, (p, t) in enumerate(zip(price, time, strict=True)):
        earlier = [m for q, m in zip(known, mid, strict=True) if q <= t]
        sign = np.sign(p - earlier[-1]) if earlier else 0
        if sign == 0:
            other = [x for x in price[:k] if x != p]
            last = next((x for x in reversed(price[:k]) if x != p), None)
            sign = np.sign(p - last) if other else 0
        out.append(int(sign))
    return out


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_agrees_with_the_plain_rule(data):
    levels = st.integers(9, 11).map(float)
    price = data.draw(st.lists(levels, min_size=1, max_size=15))
    time = sorted(data.draw(st.lists(st.integers(0, 10), min_size=len(price), max_size=len(price))))
    mid = data.draw(st.lists(levels, max_size=8))
    known = sorted(data.draw(st.lists(st.integers(0, 10), min_size=len(mid), max_size=len(mid))))
    assert signs(price, time, known, mid) == slow(price, time, known, mid)
