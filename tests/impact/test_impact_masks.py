from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import (
    Buckets,
    Halts,
    Jumps,
    NewsWindows,
    OpenClose,
    Predicate,
    StreamingGram,
    Times,
    apply_masks,
    make_dictionary,
)
from crosswind.problems.impact.gram import Gram
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)


@pytest.fixture
def events(simulated):
    return simulated(names=3, rows=240, days=2, r2=0.5)[0]  # two sessions of 120 minutes from 09:31 New York


def test_masked_rows_are_out_of_the_sums_but_feed_the_state(events) -> None:
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    mask = Predicate(lambda e: np.arange(len(e.index)) % 7 == 3, "every seventh")
    moments = StreamingGram(dictionary, masks=[mask]).update(events).moments()
    flow, returns = events.flow.to_numpy(), events.returns.to_numpy()
    Z = np.vstack([dictionary.regressors(flow[:120]), dictionary.regressors(flow[120:])])
    use = np.isfinite(returns).all(axis=1) & (np.arange(240) % 7 != 3)
    expected = Gram.of(Z[use], returns[use], flow[use])
    total = moments.total()
    for name in ("ZZ", "rZ", "rr", "uu"):
        value = getattr(expected, name)
        np.testing.assert_allclose(getattr(total, name), value, atol=1e-12 * np.abs(value).max())
    first = [0, 120]  # a session's first bucket has no return, whatever the mask says
    assert moments.left_out == {"no return": 2, "every seventh": 34 - sum(k % 7 == 3 for k in first)}
    assert moments.rows == use.sum()


def test_buckets_count_for_the_first_mask_that_leaves_them_out(events) -> None:
    early = OpenClose(open_minutes=10, close_minutes=0, reason="open")
    even = Predicate(lambda e: np.arange(len(e.index)) % 2 == 0, "even")
    report = apply_masks(events, [early, even])
    assert report.counts == {"open": 20, "even": 110}
    assert report.masked.sum() == 130
    assert report.flags["even"].sum() == 120
    moments = StreamingGram(make_dictionary("instantaneous", 60.0), masks=[early, even]).update(events).moments()
    assert moments.left_out == {"no return": 2, "open": 18, "even": 110}
    assert "open: 20 (8.33%)" in report.summary()
    assert report.to_frame().shape == (240, 2)
    assert [trace.y[-1] for trace in report.plot().data] == [20, 120]


def test_open_and_close_follow_each_sessions_own_hours(events) -> None:
    half = events._rows(np.arange(240) < 180)  # the second session is a half day
    rows = OpenClose(open_minutes=5, close_minutes=3).rows(half)
    assert np.flatnonzero(rows).tolist() == [*range(5), *range(117, 125), *range(177, 180)]
    assert not OpenClose(0, 0).rows(half).any()


def test_times_of_day_are_local_and_overlap_counts(events) -> None:
    rows = Times(dt.time(9, 40), dt.time(9, 41, 30)).rows(events)
    local = events.index[rows].tz_convert("America/New_York").strftime("%H:%M").tolist()
    assert local == ["09:41", "09:42"] * 2
    with pytest.raises(InvalidInput, match="two masks"):
        Times(dt.time(23), dt.time(1))


def test_halts_are_long_stretches_without_trades_and_moves(build_events) -> None:
    rng = np.random.default_rng(0)
    flow, returns = rng.standard_normal((60, 2)), 1e-4 * rng.standard_normal((60, 2))
    flow[20:30], returns[20:30] = 0.0, 0.0
    flow[40:42], returns[40:42] = 0.0, 0.0
    flow[50:58, 0], returns[50:58, 0] = 0.0, 0.0
    events = build_events(flow, returns)
    volume = events.volume.where(events.flow != 0, 0.0)
    from dataclasses import replace

    events = replace(events, volume=volume)
    assert np.flatnonzero(Halts(seconds=300, after=1, share=1.0).rows(events)).tolist() == list(range(20, 31))
    assert np.flatnonzero(Halts(seconds=300, after=0, share=0.5).rows(events)).tolist() == [
        *range(20, 30),
        *range(50, 58),
    ]


def test_jumps_by_robust_volatility(build_events) -> None:
    rng = np.random.default_rng(1)
    returns = 1e-4 * rng.standard_normal((400, 2))
    returns[100, 0], returns[300, 1] = 0.05, -0.05
    events = build_events(rng.standard_normal((400, 2)), returns, days=2)
    assert np.flatnonzero(Jumps(10).rows(events)).tolist() == [100, 300]
    fixed = Jumps(10).fit(events.on(events.days[0]))
    assert fixed.scale["AAA"] == pytest.approx(1e-4, rel=0.15)  # the jump does not inflate it
    assert np.flatnonzero(fixed.rows(events)).tolist() == [100, 300]
    assert not Jumps(10, share=1.0).rows(events).any()
    still = build_events(np.ones((30, 2)), np.zeros((30, 2)))
    assert not Jumps(10).rows(still).any()
    with pytest.raises(DataGap, match="BBB"):
        Jumps(10).fit(events.select(["AAA"])).rows(events)


def test_news_windows_and_single_buckets(events) -> None:
    at = pd.Timestamp("2024-03-04 10:00:00", tz="America/New_York")
    rows = NewsWindows([at], before_s=60, after_s=120).rows(events)
    local = events.index[rows].tz_convert("America/New_York").strftime("%d %H:%M").tolist()
    assert local == ["04 10:00", "04 10:01", "04 10:02"]
    assert np.flatnonzero(Buckets(events.index[[5, 9]]).rows(events)).tolist() == [5, 9]
    with pytest.raises(InvalidInput, match="localise"):
        NewsWindows([pd.Timestamp("2024-03-04 10:00")])


def test_masks_that_need_a_session_refuse_a_cut_one_and_others_do_not_care(events) -> None:
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    head, tail = events._rows(np.arange(240) < 50), events._rows(np.arange(240) >= 50)
    for mask in (OpenClose(), Halts(), Jumps(10), Predicate(lambda e: np.zeros(len(e.index), dtype=bool))):
        with pytest.raises(InvalidInput, match="whole"):
            StreamingGram(dictionary, masks=[mask]).update(head).update(tail)
    free = [Times(dt.time(9, 40), dt.time(10, 40)), Jumps(3).fit(events), NewsWindows([events.index[60]])]
    cut = StreamingGram(dictionary, masks=free).update(head).update(tail).moments()
    whole = StreamingGram(dictionary, masks=free).update(events).moments()
    assert cut.left_out == whole.left_out
    np.testing.assert_allclose(cut.total().ZZ, whole.total().ZZ, rtol=1e-10)


def test_bad_masks_are_refused(events) -> None:
    with pytest.raises(InvalidInput, match="Predicate"):
        apply_masks(events, [lambda e: None])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="one truth value per bucket"):
        apply_masks(events, [Predicate(lambda e: np.zeros(3, dtype=bool))])
    with pytest.raises(InvalidInput, match="one truth value per bucket"):
        apply_masks(events, [Predicate(lambda e: np.zeros(len(e.index)))])
    for build in (
        lambda: OpenClose(open_minutes=-1),
        lambda: Jumps(0.5),
        lambda: Jumps(share=2),
        lambda: Halts(seconds=0),
        lambda: Halts(share=0),
        lambda: NewsWindows([], after_s=float("nan")),
    ):
        with pytest.raises(InvalidInput):
            build()
    everything = StreamingGram(
        make_dictionary("instantaneous", 60.0), masks=[Predicate(lambda e: np.ones(len(e.index), dtype=bool))]
    )
    moments = everything.update(events).moments()
    assert moments.rows == 0
    with pytest.raises(DataGap, match="no bucket"):
        moments.fold_grams()
