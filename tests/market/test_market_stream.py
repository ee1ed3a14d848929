"""Ticks in parts: the same buckets, signs and merged order for any cuts, in bounded memory."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.market import lee_ready
from crosswind.problems.market.buckets import SessionHours, bucketise, events_of
from crosswind.problems.market.lee_ready import LeeReady
from crosswind.problems.market.merge import merge_ticks
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.ticks import QuoteTape, TickChunk, TradeTape, pair_tapes
from crosswind.solvers.errors import DataGap, InvalidInput

DAY = dt.date(2024, 3, 8)
OPEN = pd.Timestamp("2024-03-08 14:30", tz="UTC").value
SECOND = 1_000_000_000
FIELDS = ("flow", "mid", "spread", "volume", "depth")


class Source:
    """A tick source from given chunks."""

    venue, tz, currency, tick = "test", "America/New_York", "USD", 0.01

    def __init__(self, name, chunks):
        self.name, self._chunks = name, list(chunks)

    def chunks(self, report, progress=None):
        for k, chunk in enumerate(self._chunks):
            report.instrument(self.name, self.venue, "ticks").saw("trades", len(chunk.trades))
            if progress is not None:
                progress(f"reading {self.name}", (k + 1) / len(self._chunks))
            yield chunk


def draw(seed, trades=400, quotes=300, span_s=60, start=OPEN, coarse=20, signed=False):
    """Ticks with many equal times, ties at the mid, crossed quotes and unsignable trades."""
    rng = np.random.default_rng(seed)
    step = SECOND // coarse
    time = start + np.sort(rng.integers(0, span_s * coarse, trades)) * step
    known = start + np.sort(rng.integers(-2 * coarse, span_s * coarse, quotes)) * step
    known[0] = start - 5 * SECOND
    mid = 50 + np.round(0.005 * rng.integers(-3, 4, quotes).cumsum(), 4)
    bid, ask = mid - 0.01, mid + 0.01
    crossed = rng.random(quotes) < 0.05
    crossed[0] = False
    ask = np.where(crossed, bid - 0.01, ask)
    price = 50 + 0.005 * rng.integers(-3, 4, trades)
    size = rng.integers(1, 1000, trades) / 7.0
    sign = rng.integers(-1, 2, trades).astype(np.int8) if signed else None
    return (
        TradeTape(time, price, size, rng.random(trades) < 0.9, sign),
        QuoteTape(known, bid, ask, rng.uniform(1, 9, quotes), rng.uniform(1, 9, quotes)),
    )


def cut(trades, quotes, at):
    """Chunks cut in the merged order; a cut may fall between ticks of one time."""
    time = np.concatenate([trades.time_ns, quotes.known_ns])
    # Among equal times trades come first on purpose: the harder order for the signs.
    order = np.lexsort((np.repeat([0, 1], [len(trades), len(quotes)]), time))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    t, q = place[: len(trades)], place[len(trades) :]
    edges = [0, *sorted(at), len(order)]
    for low, high in pairwise(edges):
        yield TickChunk(trades.take((t >= low) & (t < high)), quotes.take((q >= low) & (q < high)))


def same(a, b):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field).to_numpy(), getattr(b, field).to_numpy())


OPTIONS = {"bucket_s": 5.0, "hours": ("09:30", "09:31"), "tz": "America/New_York", "currency": "USD"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 5), at=st.lists(st.integers(0, 700), max_size=30), signed=st.booleans())
def test_any_cut_gives_the_same_bits(seed, at, signed):
    trades, quotes = draw(seed, signed=signed)
    hours = SessionHours("09:30", "09:31", "America/New_York", 5.0)
    whole, notes = bucketise({DAY: {"A": (trades, quotes)}}, ["A"], hours)
    parts, told = events_of([Source("A", cut(trades, quotes, at))], **OPTIONS)
    same(parts, whole)
    assert parts.index.equals(whole.index)
    # Trades and quotes outside the hours play no part in either.
    assert sorted(told) == sorted(notes)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 5), at=st.lists(st.integers(0, 400), max_size=20))
def test_lee_ready_carries_its_state(seed, at):
    trades, quotes = draw(seed)
    mid = 0.5 * (quotes.bid + quotes.ask)
    whole = lee_ready(trades.price, trades.time_ns, quotes.known_ns, mid)
    rule, signs, q = LeeReady(), [], 0
    edges = [0, *sorted(at), len(trades)]
    for low, high in pairwise(edges):
        last = trades.time_ns[high - 1] if high > low else -1
        upto = max(q, int(np.searchsorted(quotes.known_ns, last, side="right")))
        signs.append(rule.sign(trades.price[low:high], trades.time_ns[low:high], quotes.known_ns[q:upto], mid[q:upto]))
        q = upto
    np.testing.assert_array_equal(np.concatenate(signs), whole)


def test_signs_on_whole_arrays_follow_the_definition():
    trades, quotes = draw(3)
    quotes, _ = quotes.usable()
    mid = 0.5 * (quotes.bid + quotes.ask)
    got = lee_ready(trades.price, trades.time_ns, quotes.known_ns, mid)
    for k in range(len(trades)):
        known = np.flatnonzero(quotes.known_ns <= trades.time_ns[k])
        away = trades.price[k] - mid[known[-1]] if len(known) else 0.0
        if abs(away) <= 1e-12 * trades.price[k]:
            other = [p for p in trades.price[:k] if abs(p - trades.price[k]) > 1e-12 * p]
            last = next((p for p in trades.price[:k][::-1] if abs(p - trades.price[k]) > 1e-12 * p), None)
            away = trades.price[k] - last if other else 0.0
            # The tick test looks at the last change, which is the last different price before the run of equal ones.
        assert got[k] == np.sign(away)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 3),
    trade_cuts=st.lists(st.integers(0, 400), max_size=10),
    quote_cuts=st.lists(st.integers(0, 300), max_size=10),
)
def test_trades_and_quotes_of_two_files_are_paired(seed, trade_cuts, quote_cuts):
    trades, quotes = draw(seed)
    parts = [
        [tape.take(slice(a, b)) for a, b in zip([0, *sorted(c)], [*sorted(c), len(tape)], strict=True)]
        for tape, c in ((trades, trade_cuts), (quotes, quote_cuts))
    ]
    chunks = list(pair_tapes(*parts))
    np.testing.assert_array_equal(np.concatenate([c.trades.price for c in chunks]), trades.price)
    np.testing.assert_array_equal(np.concatenate([c.quotes.bid for c in chunks]), quotes.bid)
    last = -1
    for chunk in chunks:
        times = np.concatenate([chunk.trades.time_ns, chunk.quotes.known_ns])
        assert times.min() >= last
        last = times.max()
    whole, _ = events_of([Source("A", [TickChunk(trades, quotes)])], **OPTIONS)
    same(events_of([Source("A", chunks)], **OPTIONS)[0], whole)


@pytest.mark.parametrize("missing", ["trades", "quotes"])
def test_pairing_when_one_side_is_empty(missing):
    trades, quotes = draw(0)
    chunks = list(pair_tapes([] if missing == "trades" else [trades], [] if missing == "quotes" else [quotes]))
    assert sum(len(c.trades) for c in chunks) == (0 if missing == "trades" else len(trades))
    assert sum(len(c.quotes) for c in chunks) == (0 if missing == "quotes" else len(quotes))


def test_days_start_anew_and_may_be_chosen():
    moved = [draw(k, start=OPEN + k * 86_400 * SECOND) for k in (0, 3, 4)]  # Friday, Monday (an hour early), Tuesday
    chunks = [c for t, q in moved for c in cut(t, q, [100, 333])]
    options = {**OPTIONS, "hours": ("09:30", "10:31"), "stale_limit_s": 4000.0}
    with pytest.raises(DataGap, match="choose among 2024-03-08"):
        events_of([Source("A", chunks)], **options, days="2024-03-09")
    # On Monday the clocks have changed: 14:30 UTC is 10:30 in New York.
    with pytest.raises(DataGap, match="first bucket"):
        events_of([Source("A", chunks)], **options)
    one, _ = events_of([Source("A", chunks)], **options, days=[DAY])
    assert one.days == (DAY,)
    alone, _ = events_of([Source("A", chunks[:3])], **options)
    same(one, alone)


def test_a_calendar_with_half_days_and_closed_days_plugs_in():
    class Calendar:
        bucket_s = 5.0

        def edges_ns(self, day):
            if day != DAY:
                return np.zeros(0, dtype=np.int64)
            return OPEN + np.arange(7) * 5 * SECOND  # closes after half a minute

    trades, quotes = draw(1)
    later = draw(2, start=OPEN + 86_400 * SECOND)
    chunks = [TickChunk(trades, quotes), TickChunk(*later)]
    half, _ = events_of([Source("A", chunks)], **{**OPTIONS, "hours": Calendar()})
    whole, _ = events_of([Source("A", chunks[:1])], **OPTIONS)
    assert half.days == (DAY,)
    np.testing.assert_array_equal(half.flow.to_numpy(), whole.flow.to_numpy()[:6])
    by_function, _ = events_of([Source("A", chunks)], **{**OPTIONS, "hours": Calendar().edges_ns})
    same(by_function, half)
    with pytest.raises(InvalidInput, match="another length"):
        events_of([Source("A", chunks)], **{**OPTIONS, "hours": Calendar(), "bucket_s": 10.0})
    with pytest.raises(InvalidInput, match="edges_ns"):
        events_of([Source("A", chunks)], **{**OPTIONS, "hours": "09:30"})


def test_a_session_that_opens_on_the_evening_before():
    start = pd.Timestamp("2024-03-07 23:59:30", tz="America/New_York").value

    def edges(day):
        first = pd.Timestamp(day).tz_localize("America/New_York").value - 30 * SECOND
        return first + np.arange(13) * 5 * SECOND

    trades, quotes = draw(1, start=start)
    keep = quotes.known_ns >= start
    quotes = QuoteTape(np.append(start, quotes.known_ns[keep]), *(
        np.append(getattr(quotes, c)[0], getattr(quotes, c)[keep]) for c in ("bid", "ask", "bid_shares", "ask_shares")
    ))  # fmt: skip
    events, _ = events_of([Source("A", cut(trades, quotes, [50, 200, 500]))], **{**OPTIONS, "hours": edges})
    assert len(events.index) == 12
    assert events.volume["A"].sum() == pytest.approx((trades.price * trades.shares).sum())


def test_markets_that_never_close():
    start = pd.Timestamp("2024-08-08 23:59:33", tz="UTC").value
    options = {"bucket_s": 10.0, "hours": None, "tz": "UTC", "currency": "USD"}
    a, b = (draw(k, span_s=60, start=start + k * 7 * SECOND) for k in (0, 1))
    a, b = ((t, q.take(q.known_ns >= t.time_ns[0])) for t, q in (a, b))
    events, _ = events_of([Source("A", cut(*a, [90, 91, 300])), Source("B", cut(*b, [20]))], **options)
    # B begins at 23:59:40, A ends at 00:00:33: buckets that one of them saw in part are left out.
    ends = [t.strftime("%H:%M:%S") for t in events.index]
    assert ends[0] in ("23:59:50", "00:00:00")
    assert ends[-1] == "00:00:30"
    assert len(events.days) == 2
    low = pd.Timestamp(events.index[0]).value - 10 * SECOND
    high = pd.Timestamp(events.index[-1]).value
    inside = (a[0].time_ns >= low) & (a[0].time_ns < high)
    assert events.volume["A"].sum() == pytest.approx((a[0].price * a[0].shares)[inside].sum())
    second, _ = events_of([Source("A", cut(*a, [])), Source("B", cut(*b, []))], **options, days="2024-08-09")
    same(second, events.on("2024-08-09"))
    with pytest.raises(InvalidInput, match="divide the day"):
        events_of([Source("A", cut(*a, []))], **{**options, "bucket_s": 7.0})


def test_sources_that_share_no_time():
    a = draw(0, start=OPEN)
    b = draw(1, start=OPEN + 3600 * SECOND)
    options = {**OPTIONS, "hours": None}
    with pytest.raises(DataGap, match="no bucket in which all"):
        events_of([Source("A", cut(*a, [])), Source("B", cut(*b, []))], **options)


def test_prices_in_other_units_are_refused():
    trades, quotes = draw(0)
    scaled = TradeTape(trades.time_ns, trades.price * 1e4, trades.shares, trades.signable)
    with pytest.raises(InvalidInput, match="another unit"):
        events_of([Source("A", [TickChunk(scaled, quotes)])], **OPTIONS)


def test_disorder_and_names_are_refused():
    trades, quotes = draw(0)
    backwards = [*cut(trades, quotes, [200])][::-1]
    with pytest.raises(InvalidInput, match="times decrease"):
        events_of([Source("A", backwards)], **OPTIONS)
    one = Source("A", [TickChunk(trades, quotes)])
    with pytest.raises(InvalidInput, match="occurs twice"):
        events_of([one, one], **OPTIONS)
    with pytest.raises(InvalidInput, match="choose among A"):
        events_of([one], **OPTIONS, names=["B"])
    two, _ = events_of([one, Source("B", [TickChunk(trades, quotes)])], **OPTIONS, names=["B", "A"])
    assert two.names == ("B", "A")
    known = TradeTape(trades.time_ns[:1], trades.price[:1], trades.shares[:1], trades.signable[:1], np.ones(1, np.int8))
    with pytest.raises(InvalidInput, match="some parts know"):
        trades.then(known)


def test_progress_and_report():
    seen, report = [], ReadReport()
    sources = [Source(n, cut(*draw(k), [100, 200])) for k, n in enumerate("AB")]
    events_of(sources, **OPTIONS, report=report, progress=lambda stage, done: seen.append((stage, done)))
    fractions = [done for _, done in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert report.by_reason()["crossed, non-positive or non-finite quote"] > 0


# --- merging ----------------------------------------------------------------------------------------------------------


def merged(sources, **options):
    return pd.concat(list(merge_ticks(sources, **options)))


@settings(max_examples=12, deadline=None)
@given(at=st.lists(st.integers(0, 700), max_size=12), rows=st.integers(1, 300))
def test_the_merged_order_depends_on_the_data_alone(at, rows):
    ticks = {n: draw(k, trades=200, quotes=100) for k, n in enumerate("XYZ")}
    whole = merged([Source(n, [TickChunk(*t)]) for n, t in ticks.items()])
    tables = list(merge_ticks([Source(n, cut(*t, at)) for n, t in ticks.items()], rows=rows))
    assert max(len(t) for t in tables) <= rows
    pd.testing.assert_frame_equal(pd.concat(tables), whole)


def test_merged_order_by_hand():
    def tape(times, price):
        times = OPEN + np.array(times, dtype=np.int64)
        return TradeTape(times, np.full(len(times), price), np.ones(len(times)), np.ones(len(times), bool))

    def quote(times, mid):
        times = OPEN + np.array(times, dtype=np.int64)
        one = np.ones(len(times))
        return QuoteTape(times, mid - one, mid + one, one, one)

    a = [TickChunk(tape([5, 7], 11.0), quote([5], 10.0))]
    b = [TickChunk(tape([5], 9.5), quote([4, 7], 10.0))]
    table = merged([Source("a", a), Source("b", b)])
    order = list(zip(table.index.asi8 - OPEN, table["name"], table["kind"], strict=True))
    assert order == [
        (4, "b", "quote"),
        (5, "a", "quote"),
        (5, "a", "trade"),
        (5, "b", "trade"),
        (7, "a", "trade"),
        (7, "b", "quote"),
    ]
    assert list(table.loc[table["kind"] == "trade", "side"]) == [1.0, -1.0, 1.0]
    assert table.loc[table["kind"] == "trade", "bid"].isna().all()


def test_merged_ticks_hold_all_rows_and_the_signs_of_the_buckets():
    trades, quotes = draw(4)
    table = merged([Source("A", cut(trades, quotes, [10, 300]))])
    sold = table[table["kind"] == "trade"]
    assert len(sold) == len(trades)
    use = trades.signable
    clean, bad = quotes.usable()
    signs = lee_ready(trades.price[use], trades.time_ns[use], clean.known_ns, 0.5 * (clean.bid + clean.ask))
    np.testing.assert_array_equal(sold["side"].to_numpy()[use], signs)
    assert bad > 0
    assert (table["kind"] == "quote").sum() == len(clean)


def test_memory_does_not_grow_with_the_ticks():
    def endless(name, parts):
        for k in range(parts):
            t, q = draw(k, trades=2000, quotes=2000, span_s=60, start=OPEN + k * 120 * SECOND)
            yield TickChunk(t, q.take(q.known_ns >= t.time_ns[0]))

    class Lazy(Source):
        def __init__(self, name, parts):
            self.name, self.parts = name, parts

        def chunks(self, report, progress=None):
            return endless(self.name, self.parts)

    def peak(parts):
        tracemalloc.start()
        count = sum(len(t) for t in merge_ticks([Lazy("A", parts), Lazy("B", parts)], rows=1000))
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, high

    peak(2)
    few, low = peak(4)
    many, high = peak(24)
    assert many > 5 * few
    assert high < 1.3 * low


def test_bad_arguments_of_a_merge():
    one = Source("A", cut(*draw(0), []))
    with pytest.raises(InvalidInput, match="at least 1"):
        merge_ticks([one], rows=0)
    with pytest.raises(InvalidInput):
        merge_ticks([])
