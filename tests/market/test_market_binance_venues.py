"""Parts that Binance's readers share: symbols and contracts, jumps of clocks, price steps, order within a window."""

from __future__ import annotations

import numpy as np
import pytest

from crosswind.problems.market.readers.binance_lines import Ordered
from crosswind.problems.market.readers.binance_venues import instrument_of, price_step, spikes
from crosswind.solvers.errors import DataGap, InvalidInput


@pytest.mark.parametrize(
    ("symbol", "market"), [("BTCUSDT", "cm"), ("BTCUSD_PERP", "spot"), ("BTC-USDT", "spot"), ("BTCUSD_PERP", "usdm")]
)
def test_symbols_of_other_venues_are_refused(symbol, market):
    with pytest.raises(InvalidInput, match="no symbol of"):
        instrument_of(symbol, market)


@pytest.mark.parametrize(
    ("symbol", "market", "currency", "value"),
    [
        ("btcusdt", "spot", "USDT", None),
        ("ETHBTC", "spot", "BTC", None),
        ("BTCUSDT_240927", "usdm", "USDT", None),
        ("BTCUSD_PERP", "cm", "USD", 100.0),
        ("SOLUSD_240927", "cm", "USD", 10.0),
    ],
)
def test_currencies_and_contracts(symbol, market, currency, value):
    one = instrument_of(symbol, market)
    assert (one.currency, one.contract_value) == (currency, value)
    with pytest.raises(InvalidInput, match="not positive"):
        instrument_of("BTCUSD_PERP", "cm", {"BTCUSD_PERP": 0.0})


def test_spikes():
    steady = np.arange(20, dtype=np.int64) * 10**9
    assert not spikes(steady).any()
    for k in (0, 3, 19):
        off = steady.copy()
        off[k] += 3600 * 10**9
        assert np.flatnonzero(spikes(off, edges=True)).tolist() == [k]
        assert np.flatnonzero(spikes(off)).tolist() == ([k] if k == 3 else [])
    later = steady.copy()
    later[10:] += 3600 * 10**9  # a silence is no spike
    assert not spikes(later).any()
    assert not spikes(steady[:2]).any()


def test_price_step():
    assert price_step(np.array([100.5, 101.0, 99.25])) == pytest.approx(0.25)
    assert price_step(np.array([61_737.63, 61_737.64, np.nan])) == pytest.approx(0.01)
    with pytest.raises(DataGap):
        price_step(np.array([np.nan]))


def test_ordered_sorts_within_its_window_and_keeps_ties_in_order():
    ordered = Ordered()
    assert ordered.push((np.array([3, 1, 3, 2]), np.array([0, 1, 2, 3]))) == 0
    time, rows = ordered.pop(3)
    assert (time.tolist(), rows.tolist()) == ([1, 2], [1, 3])
    assert ordered.push((np.array([2, 4]), np.array([4, 5]))) == 1
    time, rows = ordered.pop(None)
    assert (time.tolist(), rows.tolist()) == ([3, 3, 4], [0, 2, 5])
    assert ordered.pop(None) is None
