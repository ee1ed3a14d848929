from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.impact import (
    CrossImpact,
    clock_report,
    hayashi_yoshida,
    hayashi_yoshida_lead_lag,
    lagged_correlation,
    pair_shift,
    shift_clock,
)
from crosswind.solvers.errors import DataGap, InvalidInput


def brute_force(tx, x, ty, y) -> float:
    total = 0.0
    for i in range(1, len(tx)):
        for j in range(1, len(ty)):
            if max(tx[i - 1], ty[j - 1]) < min(tx[i], ty[j]):
                total += (x[i] - x[i - 1]) * (y[j] - y[j - 1])
    return total


def test_the_covariance_is_that_of_all_overlapping_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, m = rng.integers(1, 14, 2)
        tx, ty = (np.sort(rng.choice(30, k, replace=False)) for k in (n, m))
        x, y = rng.standard_normal(n), rng.standard_normal(m)
        assert hayashi_yoshida(tx, x, ty, y) == pytest.approx(brute_force(tx, x, ty, y), abs=1e-12)
        shift = int(rng.integers(-9, 10))
        assert hayashi_yoshida(tx, x, ty, y, shift * 1e-9) == pytest.approx(
            brute_force(tx, x, ty - shift, y), abs=1e-12
        )


def test_closed_examples() -> None:
    # Synchronous: realised covariance. Touching ends do not overlap. One long interval meets all short ones.
    t = np.array([0, 1, 2, 3])
    x, y = np.array([0.0, 1.0, 3.0, 2.0]), np.array([0.0, -1.0, 1.0, 4.0])
    assert hayashi_yoshida(t, x, t, y) == -1.0 + 4.0 - 3.0
    assert hayashi_yoshida(t[:2], x[:2], t[1:], y[1:]) == 0.0
    assert hayashi_yoshida(np.array([0, 3]), np.array([0.0, 2.0]), t, y) == 2.0 * 4.0
    assert hayashi_yoshida(t, x, np.array([1]), np.array([5.0])) == 0.0
    index = pd.date_range("2024-03-04 14:30", periods=4, freq="s", tz="America/New_York")
    assert hayashi_yoshida(index, x, index, y) == 0.0
    # With a shift of one step, increments i of x meet i + 1 of y: 1·2 + 2·3.
    assert hayashi_yoshida(index, x, index, y, shift_s=1.0) == 8.0


def two_clocks(late_s: float, seed: int = 0, days: int = 1):
    """One random walk seen at two sets of random times, the second with its stamps late."""
    rng = np.random.default_rng(seed)
    ticks = []
    for late, size in ((0.0, 4000), (late_s, 2500)):
        parts = []
        for day in range(days):
            parts.append(day * 86_400.0 + np.sort(rng.uniform(0, 7200, size // days)))
        ticks.append((np.concatenate(parts), late))
    grid = np.concatenate([day * 86_400.0 + np.arange(0, 7200.0, 0.5) for day in range(days)])
    walk = np.cumsum(rng.standard_normal(len(grid)))
    out = []
    for when, late in ticks:
        price = walk[np.searchsorted(grid, when, side="right") - 1] + 0.2 * rng.standard_normal(len(when))
        out += [np.round((when + late) * 1e9).astype(np.int64), price]
    return out


@pytest.mark.parametrize("late", [0.0, 3.0, -5.0])
def test_a_late_clock_is_found_on_asynchronous_ticks(late: float) -> None:
    ticks = two_clocks(late, days=2)
    found = hayashi_yoshida_lead_lag(*ticks, shifts_s=np.arange(-10, 10.5, 0.5), draws=200)
    assert abs(found.shift_s - late) <= 0.5
    assert found.interval_s[0] <= late <= found.interval_s[1]
    assert found.interval_s[1] - found.interval_s[0] <= 2.0
    assert found.correlation.loc[found.shift_s] > 0.3
    if late:
        assert (found.ratio > 1) == (late > 0)
        # Ticks come every few seconds, so the curve is as wide as that.
        assert found.correlation.loc[-late] < 0.8 * found.correlation.loc[found.shift_s]
    again = hayashi_yoshida_lead_lag(*ticks, shifts_s=np.arange(-10, 10.5, 0.5), draws=200)
    assert again.interval_s == found.interval_s
    assert found.to_frame().shape == (41, 2)
    assert "behind the first" in found.summary()
    assert len(found.plot().data) == 1


def test_the_night_is_no_increment() -> None:
    day = np.arange(0, 100) * 10**9
    t = np.concatenate([day, day + 86_400 * 10**9])
    x = np.concatenate([np.zeros(100), np.full(100, 50.0)])
    x[50:100] += np.linspace(0, 1, 50)
    found = hayashi_yoshida_lead_lag(t, x, t + 1, x, [-1.0, 0.0, 1.0], block_s=20.0)
    assert found.covariance.max() < 0.1  # 2500 with the night


@pytest.fixture(scope="module")
def seconds():
    return cw.read("sim:names=6,days=1,seed=1,close_local=11:30,bucket_s=1").events


def test_a_name_three_seconds_late_is_found_flagged_and_put_right(seconds) -> None:
    assert clock_report(seconds).flagged == ()
    late = shift_clock(seconds, {"N03": -3.0})  # its data now stand three buckets later
    report = clock_report(late)
    assert report.flagged == ("N03",)
    row = report.table.loc["N03"]
    assert (row["shift_s"], row["low_s"], row["high_s"]) == (3.0, 3.0, 3.0)
    assert row["correlation"] > 0.3 > 0.1 > abs(row["unshifted"])
    others = report.table.drop("N03")
    assert (others["shift_s"] == 0).all()
    assert not report.table["flow_flagged"].any()  # trades and quotes of the name were moved together
    assert report.corrections == {"N03": 3.0}
    pair = pair_shift(late, "N01", "N03")
    assert (pair.shift_s, pair.interval_s) == (3.0, (3.0, 3.0))
    pd.testing.assert_series_equal(pair.correlation, lagged_correlation(late, "N01", "N03"), check_names=False)
    assert pair_shift(late, "N03", "N01").shift_s == -3.0
    assert pair_shift(late, "N01", "N02").shift_s == 0.0
    assert clock_report(shift_clock(late, report.corrections)).flagged == ()
    assert "N03: +3 s against the others" in report.summary()
    assert {trace.name for trace in report.plot().data} == set(late.names)


def test_a_late_clock_costs_a_fit_its_cross_terms_and_the_repair_gives_them_back(seconds) -> None:
    late = shift_clock(seconds, {"N03": -3.0})
    right = shift_clock(late, clock_report(late).corrections)
    estimator = CrossImpact(half_lives_s=(2.0, 20.0, 200.0), ridge=0.3, target="diagonal")
    cross = {}
    for label, events in (("true", seconds), ("late", late), ("right", right)):
        cross[label] = estimator.fit(events).model_.correlation.loc["N03"].drop("N03").to_numpy()
    assert cross["late"].mean() < 0.4 * cross["true"].mean()
    np.testing.assert_allclose(cross["right"], cross["true"], atol=0.02)


def test_trades_stamped_late_against_their_own_quotes_are_found(seconds) -> None:
    moved = seconds.flow["N02"].shift(3).fillna(0.0)
    flow = seconds.flow.assign(N02=moved)
    events = replace(seconds, flow=flow, volume=seconds.volume.where(seconds.volume > flow.abs(), flow.abs()))
    report = clock_report(events)
    assert report.flagged == ("N02",)
    row = report.table.loc["N02"]
    assert not row["flagged"]
    assert row["flow_flagged"]
    assert row["flow_shift_s"] == 3.0
    assert "trades +3 s against its own quotes" in report.summary()
    curve = lagged_correlation(events, "N02", "N02", of="flow")
    assert curve.abs().idxmax() == -3.0


def test_shifted_bucket_curves(build_events) -> None:
    rng = np.random.default_rng(2)
    a = 1e-4 * rng.standard_normal(400)
    returns = np.column_stack([a, np.roll(a, 2), 1e-4 * rng.standard_normal(400)])
    events = build_events(np.roll(returns, -1, axis=0) * 1e9, returns, days=2)
    curve = lagged_correlation(events, "AAA", "BBB", 300.0)
    assert curve.index.tolist() == [60.0 * k for k in range(-5, 6)]
    assert curve.idxmax() == 120.0
    assert curve.max() > 0.95
    r = events.returns[["AAA", "BBB"]].fillna(0.0).to_numpy()
    by_hand = sum((r[p, 0][:-1] * r[p, 1][1:]).sum() for p in (slice(0, 200), slice(200, 400)))
    assert curve.loc[60.0] == pytest.approx(by_hand / np.sqrt((r[:, 0] ** 2).sum() * (r[:, 1] ** 2).sum()))
    assert lagged_correlation(events, "AAA", "AAA", of="flow").idxmax() == 60.0
    for arguments, word in (
        (("ZZZ", "AAA"), "unknown"),
        (("AAA", "BBB", 10.0), "shorter than a bucket"),
        (("AAA", "BBB", None, "price"), "flow"),
    ):
        with pytest.raises(InvalidInput, match=word):
            lagged_correlation(events, *arguments)


def test_independent_names_are_not_flagged(build_events) -> None:
    rng = np.random.default_rng(3)
    flagged = 0
    for _ in range(20):
        events = build_events(rng.standard_normal((1500, 5)), 1e-4 * rng.standard_normal((1500, 5)))
        flagged += len(clock_report(events, draws=100).flagged)
    assert flagged <= 1


def test_two_names_differ_from_each_other_and_dead_ones_from_none(build_events) -> None:
    rng = np.random.default_rng(4)
    a = 1e-4 * rng.standard_normal(2000)
    returns = np.column_stack([a, np.roll(a, 3), np.zeros(2000)])
    report = clock_report(build_events(rng.standard_normal((2000, 3)), returns))
    assert report.table["shift_s"].iloc[:2].tolist() == [-3 * 60.0, 3 * 60.0]
    assert report.flagged == ("AAA", "BBB")
    assert report.table.loc["CCC"].drop(["flagged", "flow_flagged"]).isna().all()
    with pytest.raises(DataGap, match="two names"):
        clock_report(build_events(rng.standard_normal((50, 2)), returns[:50, 1:] * [[1.0, 0.0]]))


def test_shifting_a_clock_moves_its_columns_and_trims_the_ends(build_events) -> None:
    flow = np.arange(40.0).reshape(20, 2)
    events = build_events(flow, np.full((20, 2), 1e-4), days=2)
    moved = shift_clock(events, {"BBB": 120.0})
    assert moved.index.equals(events.index[[*range(8), *range(10, 18)]])
    np.testing.assert_array_equal(moved.flow["BBB"].to_numpy()[:8], flow[2:10, 1])
    np.testing.assert_array_equal(moved.flow["AAA"].to_numpy()[:8], flow[:8, 0])
    assert shift_clock(events, {}).equals(events)
    with pytest.raises(DataGap, match="longer than the shifts"):
        shift_clock(events, {"AAA": 6000.0})
    with pytest.raises(InvalidInput, match="unknown"):
        shift_clock(events, {"ZZZ": 1.0})


def test_bad_ticks_and_parameters_are_refused(build_events) -> None:
    t, x = np.array([0, 1, 2]), np.zeros(3)
    with pytest.raises(InvalidInput, match="repeats"):
        hayashi_yoshida(np.array([0, 1, 1]), x, t, x)
    with pytest.raises(InvalidInput, match="goes back"):
        hayashi_yoshida(np.array([0, 2, 1]), x, t, x)
    with pytest.raises(InvalidInput, match="length 3"):
        hayashi_yoshida(t, x[:2], t, x)
    with pytest.raises(InvalidInput, match="finite"):
        hayashi_yoshida(t, np.array([0.0, np.nan, 1.0]), t, x)
    with pytest.raises(InvalidInput, match="naive"):
        hayashi_yoshida(pd.date_range("2024-03-04", periods=3), x, t, x)
    with pytest.raises(DataGap, match="does not move"):
        hayashi_yoshida_lead_lag(t, x, t, x, [0.0, 1.0])
    with pytest.raises(InvalidInput, match="ascending"):
        hayashi_yoshida_lead_lag(t, x, t, x, [1.0, 0.0])
    events = build_events(np.ones((50, 2)), np.full((50, 2), 1e-4))
    for kwargs in ({"draws": 1}, {"level": 1.0}, {"block_s": 1.0}, {"max_shift_s": 1.0}):
        with pytest.raises(InvalidInput):
            clock_report(events, **kwargs)


@pytest.mark.data
def test_recorded_clocks_are_in_step_and_a_planted_fault_is_found(lean_dir) -> None:
    names = ["SPY", "IBM", "BAC", "AIG"]
    events = cw.read(f"lean:{lean_dir}", names=names, days=["2013-10-07", "2013-10-08"], bucket_s=1).events
    assert clock_report(events).flagged == ()
    report = clock_report(shift_clock(events, {"IBM": -3.0}))
    assert report.flagged == ("IBM",)
    assert report.table.loc["IBM", ["shift_s", "low_s", "high_s"]].tolist() == [3.0] * 3
