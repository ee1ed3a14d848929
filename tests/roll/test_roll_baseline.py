"""Expected roll volume: means and bands by the exchange's wall clock, whatever the clocks do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from roll_metric_cases import axis, market

from crosswind.problems.roll import RollOrder
from crosswind.problems.roll.metrics import MetricStream, RollVolumeBaseline, roll_metrics
from crosswind.solvers.errors import DataGap, InvalidInput

NEW_YORK = "America/New_York"


def test_mean_and_band_of_past_days_slot_by_slot():
    past = [market(720, seed=3, scale=s) for s in (1.0, 2.0, 3.0, 6.0)]  # an hour from 09:30, the same shape
    base = RollVolumeBaseline.fit(past, tz=NEW_YORK, slot_s=300.0)
    times = past[0].times
    # A bar that ends on the edge of a slot belongs to the slot in which its middle lies.
    slot = (times - pd.Timedelta("2.5s")).floor("300s")
    by_slot = pd.Series(past[0].volume, index=times).groupby(slot).transform("mean")
    np.testing.assert_allclose(base.expected(times), 3.0 * by_slot, rtol=1e-12)
    bands = base.bands(times)
    np.testing.assert_allclose(bands["low"], np.quantile([1, 2, 3, 6], 0.25) * by_slot, rtol=1e-12)
    np.testing.assert_allclose(bands["high"], np.quantile([1, 2, 3, 6], 0.75) * by_slot, rtol=1e-12)
    # Longer bars expect more, in proportion; the whole day is what the days traded on average.
    inner = times[20:55]
    np.testing.assert_allclose(base.expected(inner, 60.0), 12.0 * base.expected(inner), rtol=1e-12)
    assert base.expected(times).sum() == pytest.approx(np.mean([m.volume.sum() for m in past]), rel=1e-2)
    assert base.to_frame()["mean"].sum() == pytest.approx(np.mean([m.volume.sum() for m in past]), rel=1e-2)
    assert np.isnan(base.expected(times + pd.Timedelta("5h"))).all()


def test_days_before_the_roll_are_told_apart():
    past = [market(720, seed=3, scale=s) for s in (1.0, 3.0, 10.0)]
    base = RollVolumeBaseline.fit(past, tz=NEW_YORK, days_to_roll=[8, 8, 2])
    pooled = RollVolumeBaseline.fit(past[:2], tz=NEW_YORK).expected(past[0].times)
    pd.testing.assert_series_equal(base.expected(past[0].times, days_to_roll=8), pooled)
    assert base.expected(past[0].times, days_to_roll=2).sum() > 4 * pooled.sum()
    with pytest.raises(DataGap, match="days_to_roll"):
        base.expected(past[0].times, days_to_roll=5)
    near = base.only(7, within=1)
    pd.testing.assert_series_equal(near.expected(past[0].times), pooled)
    assert near.days_to_roll == (8, 8)
    assert near.source.endswith("of them 2 about 7 days before the expiry")
    with pytest.raises(DataGap, match="fit with days_to_roll"):
        RollVolumeBaseline.fit(past).only(8)


@pytest.mark.parametrize("zone", [NEW_YORK, "America/Chicago", "Europe/London", "Europe/Berlin"])
def test_the_wall_clock_decides_on_every_change_of_the_clocks(zone):
    base = RollVolumeBaseline.fit([market(4320, seed=2, start="2024-03-06 14:30")], tz=zone)
    local = axis(4320).tz_convert(zone)[[0, 100, 2000, 4319]]
    want = base.expected(local).to_numpy()
    noons = pd.date_range("2007-01-01 12:00", "2030-12-31 12:00", freq="D", tz=zone)
    offsets = np.array([t.utcoffset().total_seconds() for t in noons])
    changes = noons[1:][np.diff(offsets) != 0]
    assert len(changes) == 48
    for day in changes:
        for shift in (-1, 0, 1):
            date = (day + pd.DateOffset(days=shift)).date()
            moved = pd.DatetimeIndex([pd.Timestamp.combine(date, t.time()).tz_localize(zone) for t in local])
            np.testing.assert_array_equal(base.expected(moved.tz_convert("UTC")).to_numpy(), want)


@pytest.mark.parametrize("night", ["2024-03-10 05:30", "2024-11-03 04:30"])  # New York's clocks change on the hour
def test_stream_and_batch_agree_through_a_change_of_the_clocks(night):
    base = RollVolumeBaseline.fit([market(17280, seed=1, start="2024-03-07 05:00")], tz=NEW_YORK)
    day = market(2880, seed=2, start=night)
    want, stream = roll_metrics(day, baseline=base), MetricStream.of(day, baseline=base)
    got = [stream.update_bar(day, k)["rpc"] for k in range(day.bars)]
    np.testing.assert_allclose(got, want["rpc"].to_numpy(), rtol=1e-12, equal_nan=True)
    assert np.isfinite(want["rpc"]).sum() > 2800


def test_what_it_was_made_of_is_said_and_time_is_kept():
    simulated = RollVolumeBaseline.fit([market(100, source="simulated listed spread")])
    assert simulated.source == "simulated past rolls (1 days: simulated listed spread)"
    assert simulated.simulated
    day = market(100)
    assert roll_metrics(day, baseline=simulated).attrs["baseline"].startswith("simulated past rolls")
    recorded = RollVolumeBaseline.fit([market(100, source="recorded")])
    assert recorded.source.startswith("past rolls (")
    with pytest.raises(InvalidInput, match="earlier days"):
        roll_metrics(day, RollOrder("o", 1, day.times[0], day.times[-1]), recorded)
    later = market(100, start="2024-03-07 14:30")
    assert roll_metrics(later, baseline=recorded).attrs["market"] == "simulated for a test"
    mixed = RollVolumeBaseline.fit([market(100), market(100, source="recorded")])
    assert mixed.source.startswith("past rolls, some simulated")
    assert "contracts a day" in mixed.summary()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"past": []}, "past"),
        ({"past": [market(50), market(50, bar_s=10.0)]}, "past"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"slot_s": 7.0}, "slot_s"),
        ({"slot_s": 2.0}, "bar_s"),
        ({"days_to_roll": [1, 2]}, "days_to_roll"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, field):
    given = {"past": [market(50)]} | change
    with pytest.raises(InvalidInput) as caught:
        RollVolumeBaseline.fit(given.pop("past"), **given)
    assert caught.value.field == field


def test_what_cannot_be_expected_is_refused():
    base = RollVolumeBaseline.fit([market(50)])
    with pytest.raises(InvalidInput, match="tz-aware"):
        base.expected(pd.DatetimeIndex(["2024-03-06"]))
    with pytest.raises(InvalidInput, match="slot"):
        base.expected(axis(3), bar_s=600.0)
    with pytest.raises(InvalidInput, match="quantiles"):
        base.bands(axis(3), quantiles=(0.9, 0.1))
