"""Listed spreads: prices of either sign, quotes and trades that contradict each other are refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.spread_quotes import SPREAD_FIELDS, SpreadQuotes
from crosswind.solvers.errors import DataGap, InvalidInput

INDEX = pd.date_range("2024-03-08 15:00", periods=4, freq="5s", tz="UTC").as_unit("ns")


def series(*values: float) -> pd.Series[Any]:
    return pd.Series(list(values), index=INDEX[: len(values)])


def quotes(**values: Any) -> SpreadQuotes:
    base: dict[str, Any] = {
        "root": "ES",
        "near": "202403",
        "far": "202406",
        "bid": series(-6.30, -6.30, np.nan, 0.05),
        "ask": series(-6.25, -6.25, np.nan, 0.10),
        "bid_size": series(100, 120, np.nan, 80),
        "ask_size": series(90, 0, np.nan, 85),
        "volume": series(10, 12, 0, 7),
        "aggressive_buy": series(6, 12, 0, 3),
        "aggressive_sell": series(4, 0, 0, 3),
        "bar_s": 5.0,
        "multiplier": 50.0,
        "tick": 0.05,
    }
    return SpreadQuotes(**{**base, **values})


def test_quotes_and_trades_come_back_as_given() -> None:
    q = quotes()
    assert list(q.to_frame().columns) == list(SPREAD_FIELDS)
    assert q.index.equals(INDEX)
    np.testing.assert_allclose(q.mid.dropna(), [-6.275, -6.275, 0.075])
    np.testing.assert_allclose(q.spread.dropna(), 0.05)
    assert "ES 202403-202406: 4 bars of 5 s" in q.summary()
    assert "29 spreads (21 bought by aggressors), quoted 1.0 ticks" in q.summary()
    assert pickle.loads(pickle.dumps(q)).equals(q)
    assert not q.equals(quotes(tick=0.01))
    assert not q.equals(quotes(volume=series(11, 12, 0, 7)))
    assert not q.equals(None)


def test_between_takes_bars_by_their_end() -> None:
    part = quotes().between(INDEX[0], INDEX[2])
    assert part.index.equals(INDEX[1:3])
    with pytest.raises(DataGap):
        quotes().between(INDEX[3], INDEX[3] + pd.Timedelta("1h"))
    with pytest.raises(InvalidInput):
        quotes().between(INDEX[0].tz_localize(None), INDEX[2])


def test_other_zones_become_utc_and_inputs_are_not_shared() -> None:
    bid = series(-6.30, -6.30, np.nan, 0.05)
    local = {f: getattr(quotes(), f).tz_convert("America/Chicago") for f in SPREAD_FIELDS if f != "bid"}
    q = quotes(bid=bid, **local)
    bid.iloc[0] = 99.0
    assert q.equals(quotes())


def test_an_empty_spread_is_legal() -> None:
    empty = quotes(**{f: getattr(quotes(), f).iloc[:0] for f in SPREAD_FIELDS})
    assert len(empty.index) == 0
    assert "0 bars" in empty.summary()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"root": ""}, "root"),
        ({"near": "2024-03"}, "near"),
        ({"far": "202413"}, "far"),
        ({"far": "202403"}, "far"),
        ({"near": "202409"}, "far"),
        ({"bar_s": 0.0}, "bar_s"),
        ({"tick": float("nan")}, "tick"),
        ({"multiplier": "fifty"}, "multiplier"),
        ({"bid": [1.0]}, "bid"),
        ({"bid": series(-6.0, -6.3, np.nan, 0.05)}, "bid"),
        ({"ask": series(-6.25, np.nan, np.nan, 0.10)}, "ask"),
        ({"ask": series(-6.25, np.inf, np.nan, 0.10)}, "ask"),
        ({"bid_size": series(100, 120, 5, 80)}, "bid_size"),
        ({"ask_size": series(90, -1, np.nan, 85)}, "ask_size"),
        ({"volume": series(10, 12, np.nan, 7)}, "volume"),
        ({"volume": series(9, 12, 0, 7)}, "volume"),
        ({"volume": series(10, 12, 0)}, "volume"),
        ({"aggressive_sell": series(-4, 0, 0, 3)}, "aggressive_sell"),
        ({"volume": pd.Series(["a", "b", "c", "d"], index=INDEX)}, "volume"),
        ({"volume": series(10, 12, 0, 7).tz_localize(None)}, "volume index"),
        ({"volume": series(10, 12, 0, 7).iloc[::-1]}, "volume index"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        quotes(**values)
    assert caught.value.field == field
    assert caught.value.remedy
