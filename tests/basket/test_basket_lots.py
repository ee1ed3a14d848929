"""Rounding to lots: the parent order is completed to the last lot, in integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.lots import round_to_lots, snap
from crosswind.solvers.errors import InvalidInput

Maker = Callable[..., BasketProblem]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=40),
    st.integers(-3, 3),
)
def test_total_is_kept_and_each_slice_moves_by_less_than_its_share(lots: list[float], shift: int) -> None:
    exact = np.array(lots)
    total = int(np.rint(exact.sum()))
    whole = round_to_lots(exact, total)
    assert whole.dtype == np.int64
    assert whole.sum() == total
    assert np.abs(whole - exact).max() < 1.0 + 1e-6
    shifted = round_to_lots(exact, total + shift)
    assert shifted.sum() == total + shift


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=30), st.booleans())
def test_one_sided_orders_never_reverse(lots: list[float], sell: bool) -> None:
    sign = -1 if sell else 1
    exact = sign * np.array(lots)
    assert (sign * round_to_lots(exact, int(np.rint(exact.sum()))) >= 0).all()


def test_floor_of_quantity_over_step_loses_no_lot() -> None:
    # 0.29 / 0.01 = 28.999999999999996: the bare floor gives 28.
    quantities = np.round(np.arange(1, 401) * 0.01, 2)
    naive = np.floor(quantities / 0.01).astype(int)
    expected = np.arange(1, 401)
    assert (naive != expected).sum() > 0
    for quantity, lots in zip(quantities, expected, strict=True):
        assert round_to_lots(np.array([quantity / 0.01]), int(lots))[0] == lots
    np.testing.assert_array_equal(np.floor(snap(quantities / 0.01)), expected)


def test_largest_remainder_takes_the_lot_and_ties_go_to_the_earliest() -> None:
    np.testing.assert_array_equal(round_to_lots(np.array([1.2, 1.7, 1.1]), 4), [1, 2, 1])
    np.testing.assert_array_equal(round_to_lots(np.array([0.5, 0.5]), 1), [1, 0])
    np.testing.assert_array_equal(round_to_lots(np.array([-0.5, -0.5]), -1), [-1, 0])


def test_cap_and_closed_slices_come_last() -> None:
    np.testing.assert_array_equal(round_to_lots(np.array([1.9, 1.6, 0.5]), 4, np.array([1.95, 2.0, 2.0])), [1, 2, 1])
    np.testing.assert_array_equal(round_to_lots(np.array([0.0, 1.4, 1.4]), 3, np.array([0.0, 2.0, 2.0])), [0, 2, 1])
    # No room anywhere: completion wins, by less than a lot.
    np.testing.assert_array_equal(round_to_lots(np.array([1.5, 1.5]), 3, np.array([1.5, 1.5])), [2, 1])


PRICES = pd.Series({"IBM": 187.13, "BAC": 34.57, "AIG": 71.91})


def test_schedule_in_shares_completes_the_parent(make: Maker) -> None:
    schedule = make().solve()
    shares = schedule.shares(PRICES)
    assert (shares.dtypes == np.int64).all()
    parent = (schedule.problem.inventory / PRICES).round().astype(np.int64)
    pd.testing.assert_series_equal(shares.sum(), parent, check_names=False)
    off = (shares * PRICES - schedule.trades).abs().max()
    assert (off < 1.01 * PRICES).all()
    cap = schedule.problem.arrays.participation_cap
    assert cap is not None
    assert ((shares.abs() * PRICES).to_numpy() <= cap + 1e-6).all()


def test_round_lots_fractional_lots_and_a_given_parent(make: Maker) -> None:
    schedule = make().solve()
    hundreds = schedule.shares(PRICES, lot=100)
    assert (hundreds % 100 == 0).all(axis=None)
    assert (hundreds.sum() == ((schedule.problem.inventory / PRICES / 100).round() * 100)).all()
    tenths = schedule.shares(PRICES, lot=pd.Series({"IBM": 0.1, "BAC": 0.5, "AIG": 1.0}))
    np.testing.assert_allclose(tenths["IBM"] / 0.1, np.rint(tenths["IBM"] / 0.1), atol=1e-6)
    parent = schedule.shares(PRICES).sum() + 2
    assert (schedule.shares(PRICES, parent_shares=parent).sum() == parent).all()


def test_bad_prices_lots_and_parents_are_refused(make: Maker) -> None:
    schedule = make().solve()
    with pytest.raises(InvalidInput, match="AIG"):
        schedule.shares(PRICES.drop("AIG"))
    with pytest.raises(InvalidInput, match="BAC"):
        schedule.shares(PRICES.where(PRICES.index != "BAC", 0.0))
    with pytest.raises(InvalidInput, match="lot"):
        schedule.shares(PRICES, lot=0)
    with pytest.raises(InvalidInput, match="parent_shares"):
        schedule.shares(PRICES, parent_shares=schedule.shares(PRICES).sum() + 1000)
    with pytest.raises(InvalidInput, match="parent_shares"):
        schedule.shares(PRICES, parent_shares=schedule.shares(PRICES).sum() + 0.5)


def test_prices_that_make_uncountable_lots_are_refused(make: Maker) -> None:
    problem = make()
    with pytest.raises(InvalidInput, match="lots of IBM"):
        problem.solve().shares(pd.Series(1e-12, list(problem.names)))
