"""Time blocks: what is left out is left out, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import CrossImpact, DiagonalNNLS
from crosswind.problems.impact.calibrate import halves, time_folds
from crosswind.problems.impact.calibrate.cells import cell_moments, cell_of_rows, resampling_weights
from crosswind.problems.impact.gram import accumulate
from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)


def poisoned(events: MarketEvents, start: int, stop: int, seed: int = 0) -> MarketEvents:
    """Return the events with rows [start, stop) replaced by wild ones."""
    rng = np.random.default_rng(seed)
    flow, mid, volume = (getattr(events, f).to_numpy().copy() for f in ("flow", "mid", "volume"))
    rows = slice(start, stop)
    flow[rows] = 1e12 * rng.standard_normal(flow[rows].shape)
    volume[rows] = 2.0 * np.abs(flow[rows]) + 1.0
    mid[rows] = np.exp(3.0 * rng.standard_normal(mid[rows].shape))
    frames = {
        name: pd.DataFrame(values, events.index, list(events.names))
        for name, values in (("flow", flow), ("mid", mid), ("volume", volume))
    }
    spread = pd.DataFrame(np.minimum(events.spread.to_numpy(), mid), events.index, list(events.names))
    return replace(events, **frames, spread=spread)


@pytest.mark.parametrize("scheme", ["blocked", "forward"])
@pytest.mark.parametrize("days", [1, 2, 6])
def test_what_is_purged_or_tested_never_reaches_a_training_fit(simulated: Callable, scheme: str, days: int) -> None:
    """Fits are byte-identical when the hole is replaced by noise of 1e12, in the middle of a session or across two."""
    events, _ = simulated(names=3, rows=420, days=days, r2=0.3)
    cut = time_folds(events, 4, memory_buckets=17, embargo_buckets=5, scheme=scheme)
    assert cut.purge_buckets == 17
    for k, fold in enumerate(cut.folds):
        dirty = poisoned(events, *fold.hole, seed=k)
        clean_train, clean_test = list(cut.split(events))[k]
        dirty_train, dirty_test = list(cut.split(dirty))[k]
        assert clean_train.equals(dirty_train)
        first, second = (CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(e) for e in (clean_train, dirty_train))
        assert first.model_.matrices.tobytes() == second.model_.matrices.tobytes()
        assert not clean_test.equals(dirty_test)
        beside = poisoned(poisoned(events, fold.hole[0], fold.test[0], k), fold.test[1], fold.hole[1], k)
        part_train, part_test = list(cut.split(beside))[k]
        assert part_train.equals(clean_train)
        assert part_test.equals(clean_test)


@pytest.mark.parametrize("days", [1, 3])
def test_a_forward_fold_knows_no_future(simulated: Callable, days: int) -> None:
    events, _ = simulated(names=2, rows=300, days=days, r2=0.3)
    cut = time_folds(events, 3, memory_buckets=10, scheme="forward")
    assert len(cut.folds) == 2
    for k, fold in enumerate(cut.folds):
        dirty = poisoned(events, fold.test[1], 300, seed=k)
        for clean, other in zip(list(cut.split(events))[k], list(cut.split(dirty))[k], strict=True):
            assert clean.equals(other)


def test_runs_start_from_rest_and_no_return_spans_a_hole(simulated: Callable) -> None:
    events, _ = simulated(names=2, rows=200, days=1, r2=0.5)
    cut = time_folds(events, 5, memory_buckets=4)
    train, test = list(cut.split(events))[2]
    assert len(train.days) == 2
    assert len(train.index) == 200 - 40 - 8
    assert len(test.index) == 40
    returns = train.returns
    assert returns.isna().all(axis=1).sum() == 2
    kept = returns.dropna().to_numpy()
    known = events.returns.to_numpy()
    rows = np.r_[1:76, 125:200]
    np.testing.assert_array_equal(kept, known[rows])


def test_blocks_are_whole_sessions_where_there_are_enough(simulated: Callable) -> None:
    events, _ = simulated(names=2, rows=600, days=6, r2=0.3)
    cut = time_folds(events, 3, memory_buckets=30)
    assert [f.test for f in cut.folds] == [(0, 200), (200, 400), (400, 600)]
    # The filter starts from rest in each session, so there is nothing to purge between them.
    assert all(f.hole == f.test for f in cut.folds)
    table = cut.to_frame(events)
    assert table["test_rows"].sum() == 600
    assert (table["train_rows"] == 400).all()
    assert (table["hole_rows"] == 0).all()
    embargoed = time_folds(events, 3, embargo_buckets=7)
    assert [f.hole[1] - f.test[1] for f in embargoed.folds] == [7, 7, 0]


def test_a_long_memory_is_purged_to_a_quarter_of_a_block_and_said_so(simulated: Callable) -> None:
    events, _ = simulated(names=2, rows=200, days=1, r2=0.3)
    cut = time_folds(events, 5, memory_buckets=1000, embargo_buckets=1000)
    assert (cut.purge_buckets, cut.embargo_buckets, cut.asked_buckets) == (10, 10, 1000)
    first, second = halves(events, 1000)
    assert len(first.index) == len(second.index) == 75
    assert first.index[-1] < second.index[0]


def test_two_dates_apart_over_a_clock_change() -> None:
    """A market that trades around the clock, cut in the night of a clock change: each run stays one session."""
    index = pd.date_range("2024-03-09 05:00", periods=72, freq="h", tz="UTC").as_unit("ns")
    values = np.random.default_rng(0).standard_normal((72, 2))
    frame = pd.DataFrame(values, index, ["A", "B"])
    one = pd.DataFrame(1.0, index, ["A", "B"])
    events = MarketEvents(
        flow=frame,
        mid=one * 100.0,
        spread=one,
        volume=frame.abs() + 1,
        depth=one,
        bucket_s=3600.0,
        tz="America/New_York",
    )
    cut = time_folds(events, 4, memory_buckets=2)
    for fold, (train, _) in zip(cut.folds, cut.split(events), strict=True):
        assert len(train.index) == sum(b - a for a, b in fold.train)
        assert (np.diff(train.index.asi8) > 0).all()
        np.testing.assert_array_equal(train.flow.to_numpy(), np.vstack([values[a:b] for a, b in fold.train]))
        starts = np.flatnonzero(train.returns.isna().all(axis=1).to_numpy())
        edges = np.cumsum([0] + [b - a for a, b in fold.train])[:-1]
        assert set(edges) <= set(starts)


def test_bad_folds_are_refused(simulated: Callable) -> None:
    events, _ = simulated(names=2, rows=60, days=1)
    for field, kw in {
        "folds": {"folds": 1},
        "memory_buckets": {"memory_buckets": -1},
        "embargo_buckets": {"embargo_buckets": 0.5},
        "scheme": {"scheme": "random"},
    }.items():
        with pytest.raises(InvalidInput, match=field):
            time_folds(events, **kw)
    with pytest.raises(DataGap, match="too few"):
        time_folds(events, 16)
    with pytest.raises(InvalidInput, match="other events"):
        list(time_folds(events, 2).split(events.between(events.index[0], events.index[-1])))


def test_cells_add_up_to_all_rows(simulated: Callable) -> None:
    events, _ = simulated(names=3, rows=300, days=3, r2=0.2)
    estimator = DiagonalNNLS(half_lives_s=LIVES).fit(events)
    cell = cell_of_rows(events, 12)
    assert (np.diff(cell) >= 0).all()
    cells = cell_moments(events, estimator.model_.dictionary, cell)
    whole = accumulate(events, estimator.model_.dictionary)
    total = cells.total()
    for name in ("ZZ", "rZ", "rr", "uu"):
        np.testing.assert_allclose(getattr(total.total, name), getattr(whole.total, name), rtol=1e-12)
    np.testing.assert_allclose(total.raw_return_cov, whole.raw_return_cov, rtol=1e-12)
    assert total.total.rows == whole.total.rows
    twice = cells.weighted(np.full(len(cells.grams), 2))
    np.testing.assert_allclose(twice.total.S, whole.total.S, rtol=1e-12)
    assert list(np.unique(cells.session)) == [0, 1, 2]


@pytest.mark.parametrize("method", ["moving", "stationary", "days"])
def test_every_cell_is_drawn_equally_often(method: str) -> None:
    session = np.repeat(np.arange(4), 5)
    rng = np.random.default_rng(0)
    weights = resampling_weights(session, method, 3, 4000, rng)
    assert (weights.sum(axis=1) == 20).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.1)
    again = resampling_weights(session, method, 3, 4000, np.random.default_rng(0))
    np.testing.assert_array_equal(weights, again)
    if method == "moving":  # neighbours come together: two of three times
        together = np.corrcoef(weights[:, 7], weights[:, 8])[0, 1]
        assert 0.55 < together < 0.75


def test_bad_resampling_is_refused() -> None:
    rng = np.random.default_rng(0)
    one = np.zeros(5, dtype=np.intp)
    for field, words in {
        "bootstrap": (one, "jackknife", 1, 10),
        "length": (one, "moving", 6, 10),
        "draws": (one, "moving", 2, 1),
    }.items():
        with pytest.raises(InvalidInput, match=field):
            resampling_weights(*words, rng)
    with pytest.raises(InvalidInput, match="one session"):
        resampling_weights(one, "days", 1, 10, rng)
