"""From ticks to buckets by hand-made examples."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market.buckets import QuoteTape, SessionHours, TradeTape, bucketise
from crosswind.solvers.errors import DataGap, InvalidInput

DAY = dt.date(2024, 3, 8)
HOURS = SessionHours("09:30", "09:31", "America/New_York", 20.0)
OPEN = pd.Timestamp("2024-03-08 14:30", tz="UTC").value


def ns(seconds):
    return OPEN + np.round(np.asarray(seconds, float) * 1e9).astype(np.int64)


def trades(seconds, price, shares, signable=None, sign=None):
    n = len(seconds)
    signable = np.ones(n, bool) if signable is None else np.array(signable)
    sign = None if sign is None else np.array(sign, np.int8)
    return TradeTape(ns(seconds), np.array(price, float), np.array(shares, float), signable, sign)


def quotes(seconds, bid, ask, bid_size=100.0, ask_size=300.0):
    n = len(seconds)
    return QuoteTape(
        ns(seconds), np.array(bid, float), np.array(ask, float), np.full(n, bid_size), np.full(n, ask_size)
    )


def run(trade_tape, quote_tape, **kw):
    events, notes = bucketise({DAY: {"A": (trade_tape, quote_tape)}}, ["A"], HOURS, **kw)
    return events, notes


QUOTES = quotes([-5, 19, 45], [9.9, 10.0, 10.2], [10.1, 10.2, 10.4])


def test_fields_by_hand():
    e, notes = run(trades([1, 5, 30, 50], [10.1, 9.9, 10.2, 10.2], [10, 20, 30, 40]), QUOTES)
    assert list(e.index) == [pd.Timestamp(OPEN, tz="UTC") + pd.Timedelta(seconds=s) for s in (20, 40, 60)]
    # Mids 10.0, then 10.1 from 19 s, then 10.3 from 45 s.
    np.testing.assert_allclose(e.flow["A"], [101 - 198, 306, -408])
    np.testing.assert_allclose(e.volume["A"], [299, 306, 408])
    np.testing.assert_allclose(e.mid["A"], [10.1, 10.1, 10.3])
    np.testing.assert_allclose(e.spread["A"], [0.2, 0.2, 0.2])
    np.testing.assert_allclose(e.depth["A"], [2020, 2020, 2060])
    assert notes == ("1 buckets without a new quote, forward-filled",)


def test_the_grid_is_complete_without_trades():
    e, _ = run(trades([], [], []), QUOTES)
    assert (e.volume["A"] == 0).all()
    assert (e.flow["A"] == 0).all()
    assert len(e.index) == 3


def test_a_trade_at_the_edge_belongs_to_the_next_bucket():
    e, _ = run(trades([0, 20, 40, 60], [10.4] * 4, [1, 2, 3, 4]), QUOTES)
    np.testing.assert_allclose(e.volume["A"], [10.4, 20.8, 31.2])  # the trade at the close is outside


def test_a_quote_known_at_the_bucket_end_counts_and_a_later_one_does_not():
    later = quotes([-5, 20.001], [9.9, 10.9], [10.1, 11.1])
    np.testing.assert_allclose(run(trades([], [], []), later)[0].mid["A"], [10.0, 11.0, 11.0])
    at = quotes([-5, 20], [9.9, 10.9], [10.1, 11.1])
    np.testing.assert_allclose(run(trades([], [], []), at)[0].mid["A"], [11.0, 11.0, 11.0])


def test_trades_without_an_aggressor_are_volume_without_flow():
    e, notes = run(trades([1, 2], [10.1, 10.1], [10, 20], signable=[False, True]), QUOTES)
    assert e.volume["A"].iloc[0] == pytest.approx(303)
    assert e.flow["A"].iloc[0] == pytest.approx(202)
    assert any(n.startswith("1 trades left unsigned") for n in notes)


def test_a_given_side_is_believed():
    e, _ = run(trades([1, 2], [10.1, 10.1], [10, 20], sign=[-1, 0]), QUOTES)
    assert e.flow["A"].iloc[0] == pytest.approx(-101)


def test_bad_quotes_are_dropped_and_locked_ones_widened():
    bad = quotes([-5, 1, 2, 3, 4, 19], [9.9, 10.3, 0.0, np.nan, 10.0, 10.0], [10.1, 10.2, 10.1, 10.1, np.inf, 10.0])
    e, notes = run(trades([5], [10.05], [1]), bad, tick=0.05)
    # At 5 s the crossed and broken quotes are gone: the mid of 10.0 stands, so the trade buys.
    assert e.flow["A"].iloc[0] > 0
    np.testing.assert_allclose(e.mid["A"], [10.0] * 3)
    np.testing.assert_allclose(e.spread["A"], [0.05] * 3)
    assert "4 crossed, non-positive or non-finite quotes dropped" in notes
    assert "3 buckets with a locked quote, spread clipped to 0.05" in notes


def test_a_spread_of_one_tick_is_not_locked():
    one = quotes([-5], [10.0], [10.01])
    _, notes = run(trades([], [], []), one)
    assert not any("locked" in n for n in notes)


def test_stale_quotes_are_refused_beyond_the_limit():
    with pytest.raises(DataGap, match=r"65 s old.*raise stale_limit_s"):
        run(trades([], [], []), quotes([-5], [9.9], [10.1]), stale_limit_s=60)
    run(trades([], [], []), quotes([-5], [9.9], [10.1]), stale_limit_s=65)


def test_no_backward_fill_at_the_open():
    with pytest.raises(DataGap, match="first bucket") as caught:
        run(trades([], [], []), quotes([25], [9.9], [10.1]))
    assert caught.value.field == "A on 2024-03-08"
    with pytest.raises(DataGap, match="first bucket"):
        run(trades([], [], []), quotes([], [], []))


def test_names_share_one_grid_over_days():
    other = dt.date(2024, 3, 11)
    shift = pd.Timestamp("2024-03-11 13:30", tz="UTC").value - OPEN  # an hour earlier in UTC: daylight saving began
    tape = trades([1], [10.1], [1])
    moved = TradeTape(tape.time_ns + shift, tape.price, tape.shares, tape.signable)
    quoted = QuoteTape(QUOTES.known_ns + shift, QUOTES.bid, QUOTES.ask, QUOTES.bid_shares, QUOTES.ask_shares)
    tapes = {other: {"A": (moved, quoted), "B": (moved, quoted)}, DAY: {"A": (tape, QUOTES), "B": (tape, QUOTES)}}
    e, _ = bucketise(tapes, ["B", "A"], HOURS)
    assert e.names == ("B", "A")
    assert e.days == (DAY, other)
    np.testing.assert_array_equal(e.flow.to_numpy()[:3], e.flow.to_numpy()[3:])


def test_no_days():
    with pytest.raises(DataGap, match="no days"):
        bucketise({}, ["A"], HOURS)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("09:30", "16:00", "UTC", 7.0), "bucket_s"),
        (("09:30", "16:00", "UTC", 50_000.0), "bucket_s"),
        (("09:30", "16:00", "UTC", 0.0), "bucket_s"),
        (("16:00", "09:30", "UTC", 10.0), "hours"),
        (("9h30", "16:00", "UTC", 10.0), "hours"),
        (("09:30", "25:00", "UTC", 10.0), "hours"),
        (("09:30", None, "UTC", 10.0), "hours"),
        (("09:30", "16:00", "Mars/Olympus", 10.0), "tz"),
    ],
)
def test_bad_hours(arguments, field):
    with pytest.raises(InvalidInput) as caught:
        SessionHours(*arguments)
    assert caught.value.field == field
    assert caught.value.remedy


def test_a_whole_day_and_fractions_of_a_second():
    assert len(SessionHours("00:00", "24:00", "UTC", 3600.0).edges_ns(DAY)) == 25
    edges = SessionHours("09:30", "16:00", "America/New_York", 0.25).edges_ns(DAY)
    assert len(edges) == 93_601
    assert set(np.diff(edges)) == {250_000_000}
