"""Inputs of the replay: what is accepted, what is refused, what cannot be changed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.replay import Ledger, LookAheadError, MarketView, Order, ReplayMarket, ScheduledPolicy
from crosswind.problems.replay.policy import PolicyContext
from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput


def table(slices: int = 3, names: str = "AB") -> pd.DataFrame:
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq="60s", tz="UTC")
    values = 100.0 + np.arange((slices + 1) * len(names)).reshape(slices + 1, len(names))
    return pd.DataFrame(values, index=times, columns=list(names))


def test_from_frames_keeps_order_and_fills_defaults() -> None:
    mid = table()
    volume = pd.DataFrame(7.0, index=mid.index[:-1], columns=["B", "A"]).assign(B=9.0)
    market = ReplayMarket.from_frames(mid, pd.Series({"B": 0.02, "A": 0.01}), volume, {"B": 50.0})
    assert market.instruments == ("A", "B")
    assert market.slices == 3
    np.testing.assert_array_equal(market.dt_s, [60.0] * 3)
    np.testing.assert_array_equal(market.multiplier, [1.0, 50.0])
    np.testing.assert_array_equal(market.volume[0], [7.0, 9.0])
    np.testing.assert_array_equal(market.half_spread[2], [0.01, 0.02])
    pd.testing.assert_frame_equal(market.to_frame(), mid, check_freq=False, check_names=False, check_index_type=False)


def test_local_times_become_utc_nanoseconds() -> None:
    mid = table()
    local = mid.set_axis(mid.index.tz_convert("America/New_York").as_unit("s"))
    market = ReplayMarket.from_frames(local)
    assert str(market.times.tz) == "UTC"
    assert market.times.unit == "ns"
    np.testing.assert_array_equal(market.times_ns, ReplayMarket.from_frames(mid).times_ns)


def test_mid_is_interpolated_within_a_slice_and_exact_at_bounds() -> None:
    market = ReplayMarket.from_frames(table())
    start = int(market.times_ns[1])
    np.testing.assert_array_equal(market.mid_at(start), market.mid[1])
    expected = market.mid[1] + 0.25 * (market.mid[2] - market.mid[1])
    np.testing.assert_allclose(market.mid_at(start + 15_000_000_000), expected, rtol=1e-15)
    assert market.slice_of(start) == 1
    assert market.slice_of(start - 1) == 0
    assert market.slice_of(int(market.times_ns[-1])) == 3


def test_arrays_are_read_only_and_copied() -> None:
    mid = table()
    market = ReplayMarket.from_frames(mid)
    with pytest.raises(ValueError, match="read-only"):
        market.mid[0, 0] = 1.0
    mid.iloc[0, 0] = -1.0
    assert market.mid[0, 0] == 100.0


def _broken(kind: str) -> None:
    mid = table()
    if kind == "naive":
        ReplayMarket.from_frames(mid.tz_localize(None))
    elif kind == "unsorted":
        ReplayMarket.from_frames(mid.iloc[::-1])
    elif kind == "duplicate time":
        ReplayMarket.from_frames(mid.set_axis(mid.index[[0, 1, 1, 2]]))
    elif kind == "one time":
        ReplayMarket.from_frames(mid.iloc[:1])
    elif kind == "nan":
        ReplayMarket.from_frames(mid.where(mid != 103.0))
    elif kind == "inf":
        ReplayMarket.from_frames(mid.replace(103.0, math.inf))
    elif kind == "negative price":
        ReplayMarket.from_frames(-mid)
    elif kind == "negative spread":
        ReplayMarket.from_frames(mid, -0.01)
    elif kind == "negative volume":
        ReplayMarket.from_frames(mid, 0.0, -mid.iloc[:-1])
    elif kind == "nan volume":
        ReplayMarket.from_frames(mid, 0.0, mid.iloc[:-1] * math.nan)
    elif kind == "volume rows":
        ReplayMarket.from_frames(mid, 0.0, mid)
    elif kind == "doubled names":
        ReplayMarket.from_frames(mid.set_axis(["A", "A"], axis=1))
    elif kind == "unknown multiplier":
        ReplayMarket.from_frames(mid, multiplier={"C": 1.0})
    elif kind == "zero multiplier":
        ReplayMarket.from_frames(mid, multiplier={"A": 0.0})
    elif kind == "spread missing":
        ReplayMarket.from_frames(mid, pd.Series({"A": 0.1}))
    elif kind == "index":
        ReplayMarket.from_frames(mid.reset_index(drop=True))
    elif kind == "shape":
        market = ReplayMarket.from_frames(mid)
        market.with_(mid=market.mid[:-1])
    elif kind == "truncated":
        ReplayMarket.from_frames(mid).truncated(9)
    elif kind == "name":
        ReplayMarket.from_frames(mid).position_of("Z")
    elif kind == "zero order":
        Order("A", 0.0)
    elif kind == "nan order":
        Order("A", math.nan)
    else:
        raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "naive", "unsorted", "duplicate time", "one time", "nan", "inf", "negative price", "negative spread",
        "negative volume", "nan volume", "volume rows", "doubled names", "unknown multiplier", "zero multiplier",
        "spread missing", "index", "shape", "truncated", "name", "zero order", "nan order",
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_field_and_remedy(kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _broken(kind)
    assert caught.value.field
    assert caught.value.remedy


@pytest.mark.guard
def test_ledger_by_hand() -> None:
    ledger = Ledger(cash=1000.0)
    ledger.book("A", 10.0, 5.0, fee=1.0)
    ledger.book("F", -2.0, 100.0, multiplier=50.0)
    ledger.book("A", -4.0, 6.0)
    assert ledger.cash == 1000.0 - 50.0 - 1.0 + 10_000.0 + 24.0
    assert ledger.positions == {"A": 6.0, "F": -2.0}
    assert ledger.fees == 1.0
    # the short future gains 2·50·1 when it falls by one
    assert ledger.wealth({"A": 7.0, "F": 99.0}) - ledger.wealth({"A": 7.0, "F": 100.0}) == 100.0


@pytest.mark.guard
def test_ledger_refuses() -> None:
    ledger = Ledger()
    for bad in (
        {"units": math.nan, "price": 1.0},
        {"units": 1.0, "price": math.inf},
        {"units": 1.0, "price": 1.0, "fee": -1.0},
        {"units": 1.0, "price": 1.0, "multiplier": 0.0},
    ):
        with pytest.raises(InvalidInput):
            Ledger().book("A", **bad)
    ledger.book("A", 1.0, 1.0, multiplier=2.0)
    with pytest.raises(InvalidInput):
        ledger.book("A", 1.0, 1.0, multiplier=3.0)
    with pytest.raises(DataGap):
        ledger.wealth({"B": 1.0})
    assert ledger.positions == {"A": 1.0}


def view(k: int) -> MarketView:
    market = ReplayMarket.from_frames(table(), volume=table().iloc[:-1])
    return MarketView(market, k, (), np.zeros(2), np.ones(2), np.zeros(2))


def test_view_ends_at_the_decision() -> None:
    seen = view(1)
    assert seen.mid.shape == (2, 2)
    assert seen.half_spread.shape == (2, 2)
    assert seen.volume.shape == (1, 2)
    assert seen.now == seen.times[1]
    np.testing.assert_array_equal(seen.mid_on(1), seen.mid[-1])
    np.testing.assert_array_equal(seen.volume_on(0), seen.volume[-1])
    assert seen.holdings == {"A": 0.0, "B": 0.0}
    # the array behind what is served holds nothing later either
    assert seen.mid.base is None or seen.mid.base.shape[0] <= 2


@pytest.mark.parametrize(("ask", "k"), [("mid_on", 2), ("half_spread_on", 2), ("volume_on", 1)])
def test_asking_for_the_future_raises(ask: str, k: int) -> None:
    with pytest.raises(LookAheadError) as caught:
        getattr(view(1), ask)(k)
    assert isinstance(caught.value, CrosswindError)
    with pytest.raises(InvalidInput):
        getattr(view(1), ask)(-1)


def test_view_cannot_be_written() -> None:
    seen = view(2)
    for array in (seen.mid, seen.half_spread, seen.volume, seen.positions, seen.in_flight, seen.displacement):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    with pytest.raises(AttributeError):
        seen.extra = 1


def test_schedule_is_checked() -> None:
    market = ReplayMarket.from_frames(table())
    context = PolicyContext("s", market.instruments, market.times, market.multiplier)
    with pytest.raises(InvalidInput, match="finite"):
        ScheduledPolicy(pd.DataFrame({"A": [1.0, math.nan, 0.0]}))
    with pytest.raises(InvalidInput, match="distinct"):
        ScheduledPolicy(pd.DataFrame(np.ones((3, 2)), columns=["A", "A"]))
    with pytest.raises(InvalidInput, match="lacks"):
        ScheduledPolicy(pd.DataFrame({"Z": [1.0, 1.0, 0.0]})).reset(context)
    with pytest.raises(InvalidInput, match="3 slices"):
        ScheduledPolicy(pd.DataFrame({"A": [1.0, 1.0]})).reset(context)
