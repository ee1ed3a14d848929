"""Quote, queue and micro-price features: worked by hand, causal, and whole on odd books."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.features import (
    MicroPrice,
    bucket_quotes,
    fill_time_s,
    queue_features,
    quote_features,
    quotes_at,
    time_weighted_quotes,
)
from crosswind.problems.market.features.arrays import decayed_sum
from crosswind.problems.market.ticks import QuoteTape, TradeTape
from crosswind.solvers.errors import DataGap, InvalidInput

S = 1_000_000_000


def tape(rows: list[tuple[float, float, float, float, float]]) -> QuoteTape:
    """Return a tape of (second, bid, ask, bid size, ask size)."""
    t, b, a, x, y = (np.array(c, dtype=float) for c in zip(*rows, strict=True))
    return QuoteTape((t * S).astype(np.int64), b, a, x, y)


def drawn(count: int = 400, seed: int = 0) -> QuoteTape:
    rng = np.random.default_rng(seed)
    bid = 100.0 + 0.01 * np.cumsum(rng.integers(-1, 2, count))
    time = np.cumsum(rng.integers(1, 3 * S, count)).astype(np.int64)
    width = 0.01 * rng.integers(1, 3, count)
    sizes = rng.integers(1, 20, (2, count)).astype(float)
    return QuoteTape(time, bid, bid + width, *sizes)


def poisoned(quotes: QuoteTape, row: int) -> QuoteTape:
    """Return the same quotes up to ``row`` and other ones after."""
    later = slice(row + 1, None)
    bid, ask, x, y = (c.copy() for c in (quotes.bid, quotes.ask, quotes.bid_shares, quotes.ask_shares))
    bid[later] *= 2.0
    ask[later] = 3.0 * ask[later]
    x[later] += 1e6
    y[later] = 0.0
    return QuoteTape(quotes.known_ns, bid, ask, x, y)


def test_quotes_by_hand() -> None:
    features = quote_features(tape([(0, 99.0, 101.0, 30, 10), (1, 99.5, 100.5, 0, 0), (2, 100.0, 100.0, 5, 15)]))
    f = features.frame
    assert f["mid"].tolist() == [100.0, 100.0, 100.0]
    assert f["spread_bps"].tolist() == pytest.approx([200.0, 100.0, 0.0])  # the last is locked
    assert f["depth_shares"].tolist() == [20.0, 0.0, 10.0]
    assert f["imbalance"].iloc[[0, 2]].tolist() == [0.5, -0.5]
    assert np.isnan(f["imbalance"].iloc[1])
    # 30 on the bid against 10 on the ask: three quarters of the way to the ask.
    assert f["weighted_mid"].tolist() == pytest.approx([100.5, 100.0, 100.0])
    assert "3 rows" in features.summary()


def test_unusable_quotes_are_counted() -> None:
    rows = [(0, 99.0, 101.0, 1, 1), (1, 102.0, 101.0, 1, 1), (2, np.nan, 101.0, 1, 1), (3, 99.0, 101.0, 1, -1)]
    features = quote_features(tape(rows))
    assert len(features.frame) == 1
    assert features.dropped == 3
    with pytest.raises(InvalidInput, match="no usable quote"):
        quote_features(tape(rows[1:]))
    with pytest.raises(InvalidInput, match="goes back"):
        quote_features(tape(rows[::-1]))
    with pytest.raises(InvalidInput, match="not a QuoteTape"):
        quote_features(pd.DataFrame())


def test_prevailing_quote_at_given_times() -> None:
    quotes = tape([(0, 99.0, 101.0, 1, 1), (10, 98.0, 100.0, 1, 1)])
    at = quotes_at(quotes, np.array([3, 10, 12], dtype=np.int64) * S).frame
    assert at["mid"].tolist() == [100.0, 99.0, 99.0]
    assert at["age_s"].tolist() == [3.0, 0.0, 2.0]
    with pytest.raises(DataGap, match="no quote is known yet"):
        quotes_at(quotes, np.array([-1], dtype=np.int64))
    with pytest.raises(InvalidInput, match="whole nanoseconds"):
        quotes_at(quotes, np.array([1.5]))
    with pytest.raises(InvalidInput, match="naive"):
        quotes_at(quotes, pd.DatetimeIndex(["2024-01-01"]))


def test_time_weighted_means_by_hand() -> None:
    quotes = tape([(2, 99.0, 101.0, 3, 1), (6, 99.5, 100.5, 0, 0), (9, 99.0, 101.0, 1, 1)])
    f = time_weighted_quotes(quotes, np.array([-5, 0, 4, 8, 12], dtype=np.int64) * S).frame
    assert np.isnan(f["spread"].iloc[0])  # nothing quoted yet
    assert np.isnan(f["spread"].iloc[0])
    assert f["spread"].iloc[1:].tolist() == pytest.approx([2.0, 1.5, (1 * 1.0 + 3 * 2.0) / 4])
    assert f["imbalance"].iloc[1:].tolist() == pytest.approx([0.5, 0.5, 0.0])  # without size no imbalance
    with pytest.raises(InvalidInput, match="different edges"):
        time_weighted_quotes(quotes, np.array([0, 0], dtype=np.int64))


@pytest.mark.parametrize("row", [0, 57, 398])
def test_quote_and_queue_features_do_not_look_ahead(row: int) -> None:
    quotes = drawn()
    other = poisoned(quotes, row)
    trades = TradeTape(
        quotes.known_ns - 1, quotes.bid, quotes.bid_shares, np.ones(400, bool), np.tile([1, -1], 200).astype(np.int8)
    )
    late = np.arange(400) > row
    noisy = replace(trades, shares=np.where(late, 1e9, trades.shares))
    for before, after in (
        (quote_features(quotes).frame, quote_features(other).frame),
        (queue_features(quotes, trades).frame, queue_features(other, noisy).frame),
        (queue_features(quotes, time_constant_s=0.5).frame, queue_features(other, time_constant_s=0.5).frame),
    ):
        pd.testing.assert_frame_equal(before.iloc[: row + 1], after.iloc[: row + 1], check_exact=True)
    assert not quote_features(quotes).frame.equals(quote_features(other).frame)


def test_decayed_sum_equals_the_recursion() -> None:
    rng = np.random.default_rng(3)
    time = np.cumsum(rng.integers(0, 5 * S, 3000)).astype(np.int64)
    x = rng.standard_normal((3000, 2))
    for tau in (0.05, 1.0, 300.0):  # short ones need many blocks
        want, last = np.zeros((3000, 2)), np.zeros(2)
        for n in range(3000):
            step = 0.0 if n == 0 else (time[n] - time[n - 1]) / S
            last = last * np.exp(-step / tau) + x[n]
            want[n] = last
        got = decayed_sum(time, x, tau)
        assert got == pytest.approx(want, rel=1e-9, abs=1e-9)
        assert decayed_sum(time, x[:, 0], tau) == pytest.approx(want[:, 0], rel=1e-9, abs=1e-9)
    assert len(decayed_sum(time[:0], x[:0], 1.0)) == 0


def test_queue_by_hand() -> None:
    quotes = tape(
        [
            (0, 100.00, 100.02, 10, 8),
            (1, 100.00, 100.02, 6, 8),  # 4 left the bid
            (3, 100.01, 100.02, 5, 9),  # a better bid of 5 joined; 1 joined the ask
            (6, 100.00, 100.02, 7, 9),  # the 5 went altogether
        ]
    )
    f = queue_features(quotes, time_constant_s=2.0).frame
    assert f["bid_age_s"].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert f["ask_age_s"].tolist() == [0.0, 1.0, 3.0, 6.0]
    assert f["bid_shares"].tolist() == [10.0, 6.0, 5.0, 7.0]

    def rate(amounts: list[float], at: float) -> float:
        times = [0.0, 1.0, 3.0, 6.0]
        total = sum(a * np.exp(-(at - t) / 2.0) for a, t in zip(amounts, times, strict=True) if t <= at)
        return total / (2.0 * (1.0 - np.exp(-at / 2.0)))

    assert f["bid_depletion_per_s"].iloc[-1] == pytest.approx(rate([0, 4, 0, 5], 6.0))
    assert f["bid_refill_per_s"].iloc[-1] == pytest.approx(rate([0, 0, 5, 0], 6.0))
    assert f["ask_refill_per_s"].iloc[-1] == pytest.approx(rate([0, 0, 1, 0], 6.0))
    weights = [2.0 * (np.exp(-(6 - b) / 2.0) - np.exp(-(6 - a) / 2.0)) for a, b in ((0, 1), (1, 3), (3, 6))]
    usual = np.dot(weights, [10, 6, 5]) / sum(weights)
    assert f["bid_size_ratio"].iloc[-1] == pytest.approx(7 / usual)
    assert np.isnan(f["bid_size_ratio"].iloc[0])
    assert np.isnan(f["bid_trade_per_s"]).all()
    assert f["bid_fill_s"].iloc[-1] == pytest.approx(7 / rate([0, 4, 0, 5], 6.0))
    assert np.isinf(f["ask_fill_s"]).all()  # nothing ever left the ask


def test_trades_take_from_the_side_they_hit() -> None:
    quotes = tape([(0, 100, 101, 10, 10), (1, 100, 101, 6, 10), (2, 100, 101, 2, 10)])
    trades = TradeTape(
        np.array([S, 2 * S]),
        np.array([100.0, 101.0]),
        np.array([4.0, 3.0]),
        np.ones(2, bool),
        np.array([-1, 1], np.int8),
    )
    f = queue_features(quotes, trades, time_constant_s=1e6).frame
    assert f["bid_trade_per_s"].iloc[-1] == pytest.approx(4 / 2, rel=1e-5)
    assert f["ask_trade_per_s"].iloc[-1] == pytest.approx(3 / 2, rel=1e-5)
    # 8 left the bid and 4 of them traded: 2 a second cancel out of a usual size of 8.
    assert f["bid_fill_s"].iloc[-1] == pytest.approx(np.log(1 + 0.25 * 2 / 2) / 0.25, rel=1e-4)
    with pytest.raises(InvalidInput, match="no aggressor"):
        queue_features(quotes, replace(trades, sign=None))
    with pytest.raises(InvalidInput, match="time_constant_s"):
        queue_features(quotes, time_constant_s=0.0)


def test_fill_time_solves_its_equation() -> None:
    ahead, mu, c = 40.0, 3.0, 0.2
    wait = float(fill_time_s(ahead, mu, c))
    left = (ahead + mu / c) * np.exp(-c * wait) - mu / c
    assert left == pytest.approx(0.0, abs=1e-9)
    assert float(fill_time_s(ahead, mu, 1e-14)) == pytest.approx(ahead / mu)
    assert fill_time_s([0.0, 0.0, 5.0], [0.0, 1.0, 0.0], 0.5).tolist() == [0.0, 0.0, np.inf]
    with pytest.raises(InvalidInput, match="trade_rate"):
        fill_time_s(1.0, -1.0)


def test_constant_quotes_are_no_trouble() -> None:
    quotes = tape([(k, 100.0, 100.01, 5, 5) for k in range(5)])
    f = queue_features(quotes).frame
    assert f["bid_age_s"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert f["bid_size_ratio"].iloc[1:].tolist() == pytest.approx([1.0] * 4)
    assert np.isinf(f["bid_fill_s"]).all()
    one = queue_features(tape([(0, 100.0, 100.01, 0, 0)])).frame
    assert one["bid_fill_s"].tolist() == [0.0]


def test_buckets_have_relative_spread_depth_and_imbalance() -> None:
    events = simulate(names=2, days=1, bucket_s=60.0, seed=1).events
    f = bucket_quotes(events)
    name = events.names[0]
    assert f["spread_bps"][name].iloc[5] == pytest.approx(1e4 * events.spread[name].iloc[5] / events.mid[name].iloc[5])
    assert f["flow_imbalance"].abs().max(axis=None) <= 1.0 + 1e-9
    pace = events.volume[name].iloc[:10].sum() / 600.0
    assert f["depth_s"][name].iloc[9] == pytest.approx(events.depth[name].iloc[9] / pace)
    silent = replace(events, flow=events.flow * 0.0, volume=events.volume * 0.0)
    assert (bucket_quotes(silent)["flow_imbalance"] == 0.0).all(axis=None)
    assert bucket_quotes(silent)["depth_s"].isna().all(axis=None)
    half = bucket_quotes(events.between(events.index[0] - pd.Timedelta(1, "min"), events.index[99]))
    pd.testing.assert_frame_equal(half, f.iloc[:100])
    with pytest.raises(InvalidInput, match="not MarketEvents"):
        bucket_quotes(events.volume)


def walk(count: int, seed: int) -> QuoteTape:
    """Return a one-tick book in which the thin side goes next with probability 0.8."""
    rng = np.random.default_rng(seed)
    level, rows = 0, []
    for k in range(count):
        heavy = rng.random() < 0.5
        sizes = (9.0, 1.0) if heavy else (1.0, 9.0)
        rows.append((k, 100.0 + 0.01 * level, 100.01 + 0.01 * level, *sizes))
        up = heavy if rng.random() < 0.8 else not heavy
        level += 1 if up else -1
    return tape(rows)


def test_micro_price_finds_the_planted_drift() -> None:
    model = MicroPrice(0.01, bins=10, max_spread_ticks=2).fit(walk(20_000, 1))
    # Every step moves by a tick, up with 0.8 where the bid is heavy: 0.6 ticks; later imbalances are new draws.
    assert model.adjustment_[1].iloc[-1] == pytest.approx(0.006, abs=4e-4)
    assert model.adjustment_[1].to_numpy() == pytest.approx(-model.adjustment_[1].to_numpy()[::-1], abs=1e-12)
    fresh = walk(2_000, 2)
    micro, mid = model.predict(fresh).to_numpy(), 0.5 * (fresh.bid + fresh.ask)
    nxt = mid[1:]
    assert np.mean((nxt - micro[:-1]) ** 2) < 0.7 * np.mean((nxt - mid[:-1]) ** 2)
    wide = tape([(0, 100.0, 100.5, 1, 9)])
    assert model.predict(wide).iloc[0] == pytest.approx(100.25)
    with pytest.raises(InvalidInput, match="not fitted"):
        MicroPrice(0.01).predict(fresh)
    with pytest.raises(InvalidInput, match="no two quotes"):
        MicroPrice(1e-5).fit(fresh)


def test_micro_price_of_a_mid_that_stands_is_the_mid() -> None:
    still = tape([(k, 100.0, 100.01, 1 + k % 5, 5) for k in range(50)])
    assert MicroPrice(0.01).fit(still).predict(still).to_numpy() == pytest.approx(np.full(50, 100.005))


def test_pictures_are_drawn() -> None:
    pytest.importorskip("plotly")
    quotes = drawn(50)
    assert len(quote_features(quotes).plot().data) == 2
    assert len(queue_features(quotes).plot().data) == 2
    assert "bid" in queue_features(quotes).summary()
