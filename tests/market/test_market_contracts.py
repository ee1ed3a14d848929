"""Bars, futures quotes, orders, fills and the containers around them."""

from __future__ import annotations

import datetime as dt
import pickle

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import (
    Bars,
    ChildFills,
    FuturesQuotes,
    MarketData,
    MarketEvents,
    ParentOrders,
    SimulatedTruth,
)
from crosswind.solvers.errors import DataGap, InvalidInput

INDEX = pd.date_range("2024-01-02 23:58", periods=4, freq="min", tz="UTC")


def bars(**columns) -> pd.DataFrame:
    base = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    return pd.DataFrame(base | columns, index=INDEX)


def test_bars_move_between_start_and_end():
    b = Bars(bars(), 60, "start")
    end = b.stamped("end")
    assert list(end.frame.index) == list(INDEX + pd.Timedelta(minutes=1))
    assert end.stamped("start").frame.equals(b.frame)
    assert b.stamped("start") is b
    assert end.stamp == "end"


def test_quote_bars_have_both_sides():
    both = {f"{side}_{c}": v for side, v in (("bid", 9.9), ("ask", 10.1)) for c in ("open", "high", "low", "close")}
    frame = pd.DataFrame(both | {"bid_size": 5.0, "ask_size": 6.0}, index=INDEX)
    assert (
        Bars(frame, 60, "start").to_frame().equals(frame.astype(float).set_axis(frame.columns.astype(object), axis=1))
    )
    with pytest.raises(InvalidInput, match="low ≤ open"):
        Bars(frame.assign(ask_low=10.2), 60, "start")
    with pytest.raises(InvalidInput, match="negative"):
        Bars(frame.assign(ask_size=-1), 60, "start")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"high": 10.0}, "low ≤ open"),
        ({"low": 10.2}, "low ≤ open"),
        ({"low": 0.0}, "low ≤ open"),
        ({"volume": -1.0}, "negative"),
        ({"close": np.nan}, "not finite"),
    ],
)
def test_bad_bars_are_refused(columns, message):
    with pytest.raises(InvalidInput, match=message):
        Bars(bars(**columns), 60, "start")


def test_bars_need_prices_and_a_known_stamp():
    with pytest.raises(InvalidInput, match="not all there"):
        Bars(bars().drop(columns="high"), 60, "start")
    with pytest.raises(InvalidInput, match="unknown stamp"):
        Bars(bars(), 60, "middle")
    with pytest.raises(InvalidInput, match="unknown stamp"):
        Bars(bars(), 60, "start").stamped("middle")
    with pytest.raises(InvalidInput, match="naive"):
        Bars(bars().tz_localize(None), 60, "start")


def futures(**kw) -> dict:
    """Four minutes across midnight; the second expiry is not quoted in the first."""
    bid = pd.DataFrame({"202403": 100.0, "202406": [np.nan, 101.0, 101.0, 101.0]}, index=INDEX)
    size = bid * 0 + 3
    volume = pd.DataFrame({"202403": [5.0, 5.0, 5.0, 1.0], "202406": [0.0, 0.0, 0.0, 9.0]}, index=INDEX)
    frames = {"bid": bid, "ask": bid + 0.25, "bid_size": size, "ask_size": size, "volume": volume}
    return {"root": "ES", **frames, "bar_s": 60, "multiplier": 50, "tick": 0.25} | kw


def test_front_is_the_expiry_that_trades_most_that_day():
    f = FuturesQuotes(**futures())
    # Ends 23:58, 23:59 and 00:00 belong to the 2nd, 00:01 to the 3rd.
    assert f.days == (dt.date(2024, 1, 2), dt.date(2024, 1, 3))
    assert f.front("2024-01-02") == "202403"
    assert f.front("2024-01-03") == "202406"
    with pytest.raises(DataGap, match="2024-01-02, 2024-01-03"):
        f.front("2024-01-04")


def test_front_of_equals_is_the_nearest():
    p = futures()
    p["volume"] = p["volume"] * 0
    for k in ("bid", "ask", "bid_size", "ask_size", "volume"):
        p[k] = p[k][["202406", "202403"]]
    assert FuturesQuotes(**p).front("2024-01-02") == "202403"


def test_mid_and_spread_and_cuts():
    f = FuturesQuotes(**futures())
    assert f.mid["202403"].iloc[0] == 100.125
    assert np.isnan(f.mid["202406"].iloc[0])
    assert (f.spread["202403"] == 0.25).all()
    assert len(f.on("2024-01-02").index) == 3
    assert len(f.between(INDEX[0], INDEX[2]).index) == 2
    with pytest.raises(DataGap, match="no bars between"):
        f.between(INDEX[-1], INDEX[-1])
    assert f.equals(FuturesQuotes(**futures()))
    assert not f.equals(FuturesQuotes(**futures(root="NQ")))
    assert not f.equals(1)
    assert "202406: 9 contracts" in f.summary()
    assert f.to_frame().shape == (4, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p | {"ask": p["bid"] - 1}, "bid above ask"),
        (lambda p: p | {"ask": p["ask"].fillna(102.0)}, "the other way round"),
        (lambda p: p | {"ask_size": p["ask_size"].fillna(0.0)}, "the other way round"),
        (lambda p: p | {"bid_size": -p["bid_size"]}, "not be below 0"),
        (lambda p: p | {"volume": p["volume"].replace(9.0, np.nan)}, "not finite"),
        (lambda p: p | {"volume": p["volume"].iloc[1:]}, "times differ"),
        (lambda p: p | {"root": ""}, "no root"),
        (lambda p: p | {"multiplier": 0}, "positive"),
        (lambda p: p | {"tick": -0.25}, "positive"),
        (
            lambda p: {k: (v.set_axis(["202403", "202413"], axis=1) if hasattr(v, "loc") else v) for k, v in p.items()},
            "YY",
        ),
        (
            lambda p: {k: (v.set_axis(["202403", "H24"], axis=1) if hasattr(v, "loc") else v) for k, v in p.items()},
            "YYYYMM",
        ),
    ],
)
def test_bad_futures_are_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        FuturesQuotes(**change(futures()))


def orders(**columns) -> pd.DataFrame:
    base = {
        "name": ["AAA", "BBB"],
        "notional": [1e6, -2e6],
        "start": pd.Timestamp("2024-01-02 15:00", tz="UTC"),
        "end": pd.Timestamp("2024-01-02 16:00", tz="UTC"),
    }
    return pd.DataFrame(base | columns, index=["p1", "p2"])


def test_orders_sum_to_the_inventory():
    frame = pd.concat([orders(), orders().iloc[[0]].set_axis(["p3"], axis=0)])
    p = ParentOrders(frame)
    assert p.names == ("AAA", "BBB")
    assert len(p) == 3
    assert p.inventory().to_dict() == {"AAA": 2e6, "BBB": -2e6}
    assert p.to_frame().loc["p1", "start"] == pd.Timestamp("2024-01-02 15:00", tz="UTC")


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"notional": [0.0, 1.0]}, "parents.notional"),
        ({"notional": [np.nan, 1.0]}, "parents.notional"),
        ({"notional": ["a", "b"]}, "parents.notional"),
        ({"name": ["", "BBB"]}, "parents.name"),
        ({"name": [1, 2]}, "parents.name"),
        ({"start": pd.Timestamp("2024-01-02 15:00")}, "parents.start"),
        ({"end": pd.Timestamp("2024-01-02 15:00", tz="UTC")}, "parents.end"),
    ],
)
def test_bad_orders_are_refused(columns, field):
    with pytest.raises(InvalidInput) as caught:
        ParentOrders(orders(**columns))
    assert caught.value.field == field


def test_orders_need_columns_and_distinct_identifiers():
    with pytest.raises(InvalidInput, match="columns are missing"):
        ParentOrders(orders().drop(columns="end"))
    with pytest.raises(InvalidInput, match="occurs twice"):
        ParentOrders(orders().set_axis(["p1", "p1"], axis=0))
    with pytest.raises(InvalidInput, match="no orders"):
        ParentOrders(orders().iloc[:0])
    with pytest.raises(InvalidInput, match="not a DataFrame"):
        ParentOrders([1])


def fills(**columns) -> pd.DataFrame:
    times = pd.to_datetime(["2024-01-02 15:01", "2024-01-02 15:01", "2024-01-02 15:30"], utc=True)
    base = {"parent": ["p1", "p2", "p1"], "name": ["AAA", "BBB", "AAA"], "time": times}
    return pd.DataFrame(base | {"shares": [100.0, -50.0, 300.0], "price": [10.0, 20.0, 12.0]} | columns)


def test_fills_average_by_parent():
    f = ChildFills(fills(), ParentOrders(orders()))
    assert len(f) == 3
    by = f.by_parent()
    assert by.loc["p1"].to_dict() == {"shares": 400.0, "notional": 4600.0, "price": 11.5}
    assert by.loc["p2", "notional"] == -1000.0
    assert f.to_frame()["price"].tolist() == [10.0, 20.0, 12.0]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"parent": ["p1", "p9", "p1"]}, "fills.parent"),
        ({"name": ["BBB", "BBB", "AAA"]}, "fills.name"),
        ({"shares": [-1.0, -50.0, 300.0]}, "fills.shares"),
        ({"shares": [0.0, -50.0, 300.0]}, "fills.shares"),
        ({"price": [0.0, 1.0, 1.0]}, "fills.price"),
        (
            {"time": pd.to_datetime(["2024-01-02 15:01", "2024-01-02 15:00", "2024-01-02 15:30"], utc=True)},
            "fills.time",
        ),
        (
            {"time": pd.to_datetime(["2024-01-02 15:01", "2024-01-02 15:02", "2024-01-02 18:30"], utc=True)},
            "fills.time",
        ),
        ({"time": pd.to_datetime(["2024-01-02 15:01"] * 3)}, "fills.time"),
    ],
)
def test_bad_fills_are_refused(columns, field):
    with pytest.raises(InvalidInput) as caught:
        ChildFills(fills(**columns), ParentOrders(orders()))
    assert caught.value.field == field


def truth(**kw) -> SimulatedTruth:
    names = pd.Index(["A", "B"], dtype=object)
    base = {
        "rates_per_s": [0.0, 0.1],
        "matrices": np.stack([np.eye(2), 2 * np.eye(2)]) * 1e-9,
        "sectors": pd.Series(["x", "y"], index=names, dtype=object),
        "betas": pd.Series([1.0, 0.9], index=names),
        "covariance": np.eye(2) * 1e-9,
        "seed": 3,
        "parameters": {"a": 1, "b": [1.0, 2.0]},
    }
    return SimulatedTruth(**(base | kw))


def test_truth_is_read_only_and_pickles():
    t = truth()
    assert t.names == ("A", "B")
    with pytest.raises(ValueError, match="read-only"):
        t.matrices[0, 0, 0] = 1.0
    with pytest.raises(TypeError):
        t.parameters["a"] = 2
    again = pickle.loads(pickle.dumps(t))
    np.testing.assert_array_equal(again.matrices, t.matrices)
    assert dict(again.parameters) == dict(t.parameters)


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"rates_per_s": [-1.0, 0.1]}, "rates_per_s"),
        ({"rates_per_s": [0.1]}, "matrices"),
        ({"rates_per_s": [np.nan, 0.1]}, "rates_per_s"),
        ({"covariance": np.array([[1.0, 0.5], [0.0, 1.0]])}, "covariance"),
        ({"matrices": np.tile([[1.0, 2.0], [0.0, 1.0]], (2, 1, 1))}, "matrices"),
        ({"betas": pd.Series([1.0, 0.9], index=["B", "A"])}, "betas"),
    ],
)
def test_bad_truth_is_refused(kw, field):
    with pytest.raises(InvalidInput) as caught:
        truth(**kw)
    assert caught.value.field == field


def tiny_events(names=("A", "B")) -> MarketEvents:
    index = pd.date_range("2024-01-02 14:30:10", periods=3, freq="10s", tz="UTC")
    ones = pd.DataFrame(1.0, index=index, columns=list(names))
    return MarketEvents(ones, ones, ones, ones, ones, 10, "America/New_York")


def test_market_data_holds_parts_that_fit():
    f = FuturesQuotes(**futures())
    data = MarketData(tiny_events(), {"ES": f}, truth(), "test", ["one note"])
    assert data.notes == ("one note",)
    assert "note: one note" in data.summary()
    assert "&lt;" in MarketData(tiny_events(), source="<b>")._repr_html_()
    with pytest.raises(InvalidInput, match="not the root"):
        MarketData(tiny_events(), {"NQ": f})
    with pytest.raises(InvalidInput, match="names differ"):
        MarketData(tiny_events(("B", "A")), truth=truth())
    with pytest.raises(InvalidInput, match="not MarketEvents"):
        MarketData(tiny_events().mid)
    with pytest.raises(InvalidInput, match="nothing in it"):
        MarketData(None)
