"""The five metrics: closed forms, exact sums, streaming against batch, damaged input, nothing seen ahead."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roll_metric_cases import FIELDS, axis, columns, market

from crosswind.problems.roll import RollOrder
from crosswind.problems.roll.metrics import (
    METRICS,
    MetricStream,
    RollMetricsConfig,
    RollVolumeBaseline,
    basis_z,
    deadline_pressure,
    depth_elasticity,
    executable_pace,
    legging_exposure,
    legging_pairs,
    metric_bands,
    roll_metrics,
    roll_participation,
)
from crosswind.problems.roll.metrics.config import NS
from crosswind.problems.roll.metrics.functions import _sums
from crosswind.problems.roll.metrics.windows import MedianWindow, MomentWindow, SumWindow
from crosswind.solvers.errors import InvalidInput

NAN = math.nan
NEW_YORK = "America/New_York"
FIVE = {"tick": 0.05, "bar_s": 5.0}


def close(one, two, tolerance=1e-12):
    """Equal to 1e-12 of the value or of one, NaN and inf in the same places."""
    one, two = np.asarray(one, float), np.asarray(two, float)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(two))
    np.testing.assert_array_equal(np.isinf(one), np.isinf(two))
    ok = np.isfinite(one)
    gap = np.abs(one[ok] - two[ok]) / np.maximum(1.0, np.abs(one[ok]))
    assert gap.max(initial=0.0) <= tolerance


def fed(stream, times, data, fills=(), remaining=None):
    rows, fills = [], list(fills)
    for k, time in enumerate(times):
        while fills and fills[0][0] <= time:
            stream.fill(*fills.pop(0))
        bar = {name: float(data[name][k]) for name in FIELDS}
        rows.append(stream.update(time, **bar, remaining=None if remaining is None else float(remaining[k])))
    return pd.DataFrame(rows, index=times)[list(METRICS)]


def by_functions(config, times, data, bar_s, tick, order, expected):
    """The batch form on damaged bars, which no RollMarket holds."""
    c = config
    sound = (data["bid"] < data["ask"]) & np.isfinite(data["bid"] + data["ask"])
    bid_size, ask_size = (np.where(sound, data[name], NAN) for name in ("bid_size", "ask_size"))
    mid = np.where(sound, 0.5 * (data["bid"] + data["ask"]), NAN)
    window = {
        w: (getattr(c, f"{w}_window_s"), c.least(getattr(c, f"{w}_window_s"), bar_s))
        for w in ("rpc", "cde", "bdz", "pace")
    }
    flow = data["sold"] if order.side > 0 else data["bought"]
    pace = executable_pace(times, flow, window["pace"][0], bar_s, c.participation, window["pace"][1])
    minutes = (order.cutoff.value - times.as_unit("ns").asi8) / 60e9
    return pd.DataFrame(
        {
            "rpc": roll_participation(times, data["sold"] + data["bought"], expected, *window["rpc"]),
            "cde": depth_elasticity(
                times,
                bid_size,
                ask_size,
                data["sold"],
                data["bought"],
                *window["cde"],
                c.cde_least_share,
                c.gap_ns(bar_s) / NS,
            )["both"],
            "bdz": basis_z(times, mid, *window["bdz"], c.floor(tick), c.robust),
            "let_s": 0.0,
            "rdp": deadline_pressure(order.size, minutes, pace),
        }
    )


# ---- closed forms

TEN = axis(10, 60.0)


def test_congestion_is_the_ratio_of_the_windows_sums():
    volume, expected = np.arange(10.0), np.full(10, 2.0)
    got = roll_participation(TEN, volume, expected, window_s=180.0, least=3)
    close(got, [NAN, NAN, *((3 * k - 3) / 6.0 for k in range(2, 10))])
    expected[5] = NAN  # neither its volume nor its expectation counts
    assert roll_participation(TEN, volume, expected, 180.0, 2)[6] == (4 + 6) / 4.0
    assert np.isnan(roll_participation(TEN, volume, 0 * expected, 180.0)).all()


def test_elasticity_tells_how_much_came_back():
    size = np.full(10, 500.0)
    size[4:] = 400.0  # 100 taken in bar 4, nothing comes back
    sold = np.zeros(10)
    sold[4] = 100.0
    got = depth_elasticity(TEN, size, np.full(10, 700.0), sold, np.zeros(10), window_s=60.0)
    assert got["both"][TEN[4]] == got["bid"][TEN[4]] == -1.0
    assert got.drop(TEN[4]).isna().all().all()
    assert math.isnan(got["ask"][TEN[4]])
    size[4] = 500.0  # all of it came back within the bar
    assert depth_elasticity(TEN, size, np.full(10, 700.0), sold, np.zeros(10), 60.0)["bid"][TEN[4]] == 0.0
    # What was taken is smaller than a fifth of the depth: not measurable.
    assert depth_elasticity(TEN, size, size, sold, np.zeros(10), 60.0, least_share=0.2)["bid"].isna().all()


def test_elasticity_does_not_bridge_a_gap_or_an_unknown_flow():
    keep = np.array([0, 1, 2, 7, 8, 9])
    times, size, sold = TEN[keep], np.arange(6.0) * 100, np.full(6, 50.0)
    got = depth_elasticity(times, size, size, sold, sold, 60.0, 1, 0.0, max_gap_s=0.0)["both"]
    close(got, [NAN, 2.0, 2.0, NAN, 2.0, 2.0])
    sold[1] = NAN
    got = depth_elasticity(times, size, size, sold, np.full(6, 50.0), 120.0, 1, 0.0, 0.0)["both"]
    assert np.isnan(got.to_numpy()[:5]).all()
    assert np.isfinite(got.to_numpy()[5])


def test_dislocation_leaves_out_the_bar_it_judges():
    x = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    got = basis_z(axis(5, 60.0), x, window_s=240.0, least=4)
    sd = statistics.stdev([1, 2, 3, 4])
    close(got, [NAN, NAN, NAN, NAN, (100 - 2.5) / sd])
    robust = basis_z(axis(5, 60.0), x, 240.0, 4, robust=True)
    close(robust[4], (100 - 2.5) / (1.4826 * 1.0))
    still = basis_z(axis(5, 60.0), np.array([1.0, 1, 1, 1, 2]), 240.0, 4)
    assert still[4] == math.inf
    assert math.isnan(basis_z(axis(4, 60.0), np.ones(4), 240.0, 3)[3])
    assert basis_z(axis(5, 60.0), np.array([1.0, 1, 1, 1, 2]), 240.0, 4, floor=0.5)[4] == 2.0


def test_pressure_and_its_limits():
    close(
        deadline_pressure([100, 100, 100, 0, 100, NAN], [10, 0, -5, -5, 10, 10], [20, 20, 20, NAN, 0, 20]),
        [0.5, math.inf, math.inf, 0.0, math.inf, NAN],
    )
    assert math.isnan(deadline_pressure(100, 10, NAN))
    assert math.isnan(deadline_pressure(100, NAN, 20))
    pace = executable_pace(TEN, np.full(10, 60.0), 180.0, 60.0, participation=0.1, least=2)
    close(pace, [NAN, *[6.0] * 9])


def fills_of(rows):
    index = pd.DatetimeIndex([TEN[0] + pd.Timedelta(s, "s") for s, *_ in rows])
    return pd.DataFrame([r[1:] for r in rows], index=index, columns=["near", "far"])


def test_legging_matches_first_in_first_out():
    fills = fills_of([(0, -5, 0), (30, -3, 0), (90, 0, 6), (100, -1, 1), (200, 0, 2), (300, 0, 4)])
    pairs = legging_pairs(fills)
    assert pairs["contracts"].tolist() == [5, 1, 2, 4]
    close(pairs["let_s"], [90.0, 60.0, 170.0, NAN])
    got = legging_exposure(TEN, fills, window_s=120.0)
    # open since 0 until 90; then since 30 until 200; then closed ones are remembered for 120 s; open since 300
    close(got, [0.0, 60.0, 90.0, 150.0, 170.0, 0.0, 60.0, 120.0, 180.0, 240.0])


# ---- streaming = batch


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(-1e3, 1e3), st.integers(0, 50)), min_size=1, max_size=60),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=150)
def test_windows_equal_what_they_hold(entries, span):
    sums, moments, medians, held, now = SumWindow(), MomentWindow(), MedianWindow(), [], 0
    for step, value, volume in entries:
        now += step
        for window in (sums, moments, medians):
            window.drop(now - span)
        held = [(t, v, n) for t, v, n in held if t > now - span]
        values = [v for _, v, _ in held]
        if len(held) >= 2:
            mean, sd = math.fsum(values) / len(values), statistics.stdev(values)
            if sd > 1e-3:
                close(moments.scores(value, 2, 1e-9) * sd, value - mean, 1e-9)
            middle = statistics.median(values)
            mad = statistics.median(abs(v - middle) for v in values)
            close(medians.scores(value, 2, 0.1), (value - middle) / max(1.4826 * mad, 0.1))
        else:
            assert math.isnan(moments.scores(value, 2, 1e-9))
            assert math.isnan(medians.scores(value, 2, 1e-9))
        sums.push(now, float(volume), value)
        moments.push(now, value)
        medians.push(now, value)
        held.append((now, value, volume))
        n, whole, _ = sums.total()
        assert (n, whole) == (len(held), float(sum(n for *_, n in held)))


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize(("damaged", "gaps"), [(0.0, 0.0), (0.1, 0.1), (0.6, 0.3)])
def test_stream_equals_batch_on_damaged_bars(robust, damaged, gaps):
    times = axis(1500, 5.0, seed=3, gaps=gaps)
    data = columns(len(times), seed=4, damaged=damaged)
    config = RollMetricsConfig(bdz_window_s=400.0, cde_least_share=0.02, robust=robust, warm=0.3)
    base = RollVolumeBaseline.fit([market(600, seed=k) for k in (1, 2)], tz=NEW_YORK)
    order = RollOrder("o", -2000, times[0], times[-200])  # the cutoff lies within: negative minutes after it
    stream = MetricStream(config, base, tick=0.05, bar_s=5.0, order=order)
    got = fed(stream, times, data)
    want = by_functions(config, times, data, 5.0, 0.05, order, base.expected(times))
    for name in METRICS:
        close(want[name], got[name])
    assert got["rpc"].notna().sum() > 300 or damaged > 0.5
    assert stream.gaps == int((np.diff(times.asi8) > 15 * NS).sum())
    assert (got["rdp"][times > order.cutoff] == math.inf).all()


def test_stream_equals_batch_with_fills():
    m = market(900, seed=7)
    order = RollOrder("o", 60, m.times[0], m.times[-1])
    rng = np.random.default_rng(0)
    at = m.times[0] + pd.to_timedelta(np.sort(rng.integers(1, 4000, 60)), unit="s")
    near, far = -rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    fills = pd.DataFrame({"near": near, "far": far}, index=at)
    want = roll_metrics(m, order, None, fills)
    told = [(t, float(a), float(b)) for t, a, b in zip(at, near, far, strict=True)]
    got = fed(MetricStream.of(m, order=order), m.times, {n: getattr(m, n) for n in FIELDS}, told)
    for name in METRICS:
        close(want[name], got[name])
    assert want["let_s"].max() > 60
    assert want["rdp"].iloc[-2] > 0


def test_no_drift_over_a_hundred_thousand_bars():
    """Windows against exactly rounded sums at the far end of the series."""
    bars = 100_000
    times = axis(bars, 5.0)
    data = columns(bars, seed=11, level=1e4)  # a level of which each unit costs digits
    config = RollMetricsConfig(bdz_window_s=600.0)
    expected = np.random.default_rng(1).lognormal(3.0, 1.0, bars)
    rpc, basis, ns = SumWindow(), MomentWindow(), times.as_unit("ns").asi8
    mid, volume = 0.5 * (data["bid"] + data["ask"]), data["sold"] + data["bought"] + 1.0 / 3.0
    span, checked = round(600 * NS), 0
    batch = basis_z(times, mid, 600.0, 60, config.floor(0.05))
    ratio = roll_participation(times, volume, expected, 600.0, 60)
    for k in range(bars):
        at = int(ns[k])
        basis.drop(at - span - 1)
        z = basis.scores(mid[k], 60, config.floor(0.05))
        basis.push(at, mid[k])
        rpc.push(at, volume[k], expected[k])
        rpc.drop(at - span)
        if k > bars - 500:
            low = k - 120
            values = [float(v) - 1e4 for v in mid[low:k]]
            mean = math.fsum(values) / 120
            sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / 119)
            want = (float(mid[k]) - 1e4 - mean) / sd
            exact = math.fsum(volume[k - 119 : k + 1]) / math.fsum(expected[k - 119 : k + 1])
            n, a, b = rpc.total()
            close([z, a / b, n], [want, exact, 120])
            close([batch[k], ratio[k]], [want, exact])
            checked += 1
    assert checked == 499


def test_window_sums_are_each_by_itself():
    values = np.array([1e16, 1.0, 1.0, -1e16, 1.0])
    close(_sums(values, np.array([0, 1, 3, 5]), np.array([1, 3, 3, 5])), [1e16, 2.0, 0.0, 0.0])


# ---- what may not be known


@pytest.mark.parametrize("harm", ["nan", "scale", "shuffle"])
def test_nothing_is_seen_ahead(harm):
    times, cut = axis(1200, 5.0), 700
    data = columns(1200, seed=5)
    config = RollMetricsConfig(bdz_window_s=900.0, cde_least_share=0.02)
    order = RollOrder("o", 500, times[0], times[-1])
    base = RollVolumeBaseline.fit([market(1200, seed=1)], tz=NEW_YORK)
    poisoned = {name: values.copy() for name, values in data.items()}
    for values in poisoned.values():
        if harm == "nan":
            values[cut:] = NAN
        elif harm == "scale":
            values[cut:] *= 1e6
        else:
            np.random.default_rng(0).shuffle(values[cut:])
    runs = [by_functions(config, times, d, 5.0, 0.05, order, base.expected(times)) for d in (data, poisoned)]
    streams = [fed(MetricStream(config, base, **FIVE, order=order), times, d) for d in (data, poisoned)]
    for one, two in (runs, streams):
        assert one.iloc[:cut].to_numpy().tobytes() == two.iloc[:cut].to_numpy().tobytes()
        assert one.iloc[cut:].to_numpy().tobytes() != two.iloc[cut:].to_numpy().tobytes()
    short = by_functions(
        config, times[:cut], {k: v[:cut] for k, v in data.items()}, 5.0, 0.05, order, base.expected(times[:cut])
    )
    assert short.to_numpy().tobytes() == runs[0].iloc[:cut].to_numpy().tobytes()


def test_fills_after_a_bar_are_not_known_at_it():
    m = market(120, seed=1)
    fills = pd.DataFrame({"near": [-5.0, 0.0], "far": [0.0, 5.0]}, index=m.times[[20, 60]])
    order = RollOrder("o", 10, m.times[0], m.times[-1])
    none, some = roll_metrics(m, order, fills=fills.iloc[:0]), roll_metrics(m, order, fills=fills)
    assert none.iloc[:20].to_numpy().tobytes() == some.iloc[:20].to_numpy().tobytes()
    assert some["let_s"].iloc[59] == 195.0
    stream = MetricStream.of(m, order=order)
    stream.fill(m.times[20], -5, 0)  # told early: it counts from its own bar on
    rows = [stream.update_bar(m, k)["let_s"] for k in range(25)]
    assert rows == [0.0] * 21 + [5.0, 10.0, 15.0, 20.0]


def test_fills_out_of_order_or_late_are_not_lost():
    m = market(60, seed=1)
    stream, order = MetricStream.of(m), RollOrder("o", 10, m.times[0], m.times[-1])
    stream.fill(m.times[9], 0, 1)
    stream.fill(m.times[5], -2, 0)  # told second, happened first
    rows = [stream.update_bar(m, k)["let_s"] for k in range(20)]
    assert rows[4:10] == [0.0, 0.0, 5.0, 10.0, 15.0, 20.0]
    stream.fill(m.times[12], 0, 1)  # its bar is over: it counts from the next one on, at its own time
    assert rows[19] == 70.0
    assert stream.update_bar(m, 20)["let_s"] == 35.0
    late = MetricStream.of(m, order=order)
    late.update_bar(m, 30)
    late.fill(m.times[31], -1, 0)
    late.update_bar(m, 31)
    late.fill(m.times[29], 0, 1)  # before one that counts already: booked with it
    assert late.update_bar(m, 32)["let_s"] == 0.0


def test_a_stream_goes_on_from_its_snapshot():
    times, data = axis(800, 5.0, gaps=0.05), columns(800, seed=2, damaged=0.1)
    order = RollOrder("o", 500, times[0], times[-1])
    for robust in (False, True):
        config = RollMetricsConfig(robust=robust, bdz_window_s=300.0)
        base = RollVolumeBaseline.fit([market(600, seed=1)], tz=NEW_YORK)
        whole, first = (MetricStream(config, base, **FIVE, order=order) for _ in range(2))
        for stream in (whole, first):
            stream.fill(times[10], -4, 0)
            stream.fill(times[390], 0, 2)
            stream.fill(times[450], 0, 2)
        want = fed(whole, times, data)
        fed(first, times[:400], data)
        second = MetricStream(config, base, **FIVE, order=order)
        second.restore(json.loads(json.dumps(first.snapshot())))
        got = fed(second, times[400:], {k: v[400:] for k, v in data.items()})
        assert got.to_numpy().tobytes() == want.iloc[400:].to_numpy().tobytes()
        assert json.dumps(second.snapshot()) == json.dumps(whole.snapshot())
        with pytest.raises(InvalidInput, match="other settings"):
            MetricStream(replace(config, warm=0.9), base, **FIVE, order=order).restore(first.snapshot())


def test_a_clock_that_goes_back_changes_nothing():
    m = market(300, seed=3)
    order = RollOrder("o", 10, m.times[0], m.times[-1])
    one, two = (MetricStream.of(m, order=order) for _ in range(2))
    for k in range(300):
        a = one.update_bar(m, k)
        b = two.update_bar(m, k)
        assert a == b or all(x == y or (x != x and y != y) for x, y in zip(a.values(), b.values(), strict=True))
        if k % 7 == 6:
            before = json.dumps(two.snapshot() | {"refused": 0})
            two.update(m.times[k - 3], bid=1e9, ask=2e9, bid_size=1, ask_size=1, sold=1e9, bought=0)
            two.update_bar(m, k)
            assert json.dumps(two.snapshot() | {"refused": 0}) == before
    assert two.refused_count == 84
    assert two.refused[0] == (m.times.asi8[3], m.times.asi8[6])


def test_after_a_gap_metrics_wait_until_they_are_warm():
    config = RollMetricsConfig(cde_window_s=60.0, bdz_window_s=120.0, cde_least_share=0.0, warm=1.0)
    times = axis(100, 5.0)
    times = times[:60].append(times[60:] + pd.Timedelta("2h"))
    frame = fed(MetricStream(config, **FIVE), times, columns(100, seed=6))
    assert frame["bdz"].notna().iloc[24:60].all()
    assert frame["bdz"].isna().iloc[60:84].all()
    assert frame["cde"].isna().iloc[60:72].all()
    assert frame["cde"].notna().iloc[72:].any()


def test_a_missing_book_has_no_basis_and_no_depth():
    stream, times = MetricStream(RollMetricsConfig(bdz_window_s=60.0, cde_window_s=15.0), **FIVE), axis(40, 5.0)
    good = {"bid": -6.3, "ask": -6.25, "bid_size": 100, "ask_size": 100, "sold": 50, "bought": 50}
    for k in range(30):
        last = stream.update(times[k], **good)
    assert last["bdz"] == pytest.approx(0.0, abs=1e-12)
    assert last["cde"] == 0.0
    for k, bad in enumerate(({"bid": NAN}, {"bid": -6.0}, {"ask": math.inf}, {"bid_size": -1.0})):
        got = stream.update(times[30 + k], **(good | bad))
        assert math.isnan(got["bdz"])
        assert math.isnan(got["cde"])
    assert stream.update(times[34], **good)["bdz"] == pytest.approx(0.0, abs=1e-12)


anything = st.one_of(st.floats(), st.floats(-10.0, 10.0), st.sampled_from([0.0, 50.0, 1e308, -1e308, 5e-324]))


@given(
    st.lists(st.tuples(st.sampled_from([5, 5, 5, 5, 60, 3600, 0, -60]), *[anything] * 7), min_size=1, max_size=40),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_stream_survives_whatever_it_is_fed(rows, robust):
    short = {f"{name}_window_s": 30.0 for name in ("rpc", "cde", "bdz", "pace", "let")}
    config = RollMetricsConfig(**short, robust=robust)
    base = RollVolumeBaseline.fit([market(600, seed=1)], tz=NEW_YORK)
    start = axis(1)[0].value
    order = RollOrder("o", 10, axis(1)[0], axis(60)[-1])
    stream, fresh = (MetricStream(config, base, **FIVE, order=order) for _ in range(2))
    at = start
    for wait, *values in rows:
        at += wait * NS
        got = stream.update(at, **dict(zip((*FIELDS, "remaining"), values, strict=True)))
        assert set(got) == set(METRICS)
        assert got["let_s"] == 0.0
    # Once all of it has left the windows, the stream is as good as a new one.
    at = max(at, start + 10**6 * NS) + 10**5 * NS
    sound = columns(30, seed=9)
    for k in range(30):
        bar = {name: float(sound[name][k]) for name in FIELDS}
        one, two = (s.update(at + 5 * k * NS, **bar) for s in (stream, fresh))
        close(list(one.values()), list(two.values()))
    assert math.isfinite(one["bdz"])


def test_bands_of_past_days_follow_the_wall_clock():
    frames = [roll_metrics(market(720, seed=k), baseline=None) for k in range(5)]
    today = axis(720, start="2024-07-03 13:30")  # 09:30 in New York, in summer
    bands = metric_bands(frames, today, tz=NEW_YORK)
    third = slice(120, 180)  # bars of the third slot, 09:40 to 09:45
    means = [f["cde"].iloc[third].mean() for f in frames]
    close(bands[("cde", "mean")].iloc[150], np.mean(means))
    close(bands[("cde", "low")].iloc[150], np.quantile(means, 0.25))
    close(bands[("cde", "high")].iloc[150], np.quantile(means, 0.75))
    assert bands["rpc"].isna().all().all()
    assert bands.attrs["market"] == "simulated for a test"
    for bad in ({"past": []}, {"quantiles": (0.9, 0.1)}, {"past": [pd.DataFrame({"x": [1.0]}, index=today[:1])]}):
        with pytest.raises(InvalidInput):
            metric_bands(**({"past": frames, "times": today} | bad))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rpc_window_s", 0),
        ("warm", 1.5),
        ("participation", NAN),
        ("fillable", "none"),
        ("robust", 1),
        ("max_gap_s", -1),
    ],
)
def test_a_config_out_of_range_is_refused(field, value):
    with pytest.raises(InvalidInput, match=field):
        RollMetricsConfig(**{field: value})


def test_what_cannot_be_used_is_refused():
    m = market(50)
    with pytest.raises(InvalidInput, match="time zone"):
        MetricStream.of(m).update(pd.Timestamp("2024-03-06"), bid=0, ask=1, bid_size=1, ask_size=1, sold=0, bought=0)
    with pytest.raises(InvalidInput, match="one value per bar"):
        basis_z(m.times, np.ones(49), 60.0)
    with pytest.raises(InvalidInput, match="do not increase"):
        basis_z(m.times[::-1], np.ones(50), 60.0)
    with pytest.raises(InvalidInput, match="tick"):
        MetricStream(tick=0.0, bar_s=5.0)
    with pytest.raises(InvalidInput, match="bar_s"):
        MetricStream(None, RollVolumeBaseline.fit([m], slot_s=60.0), tick=0.05, bar_s=120.0)
    stream = MetricStream.of(m)
    for bad in ((m.times[4], NAN, 0), (m.times[4].tz_localize(None), 1, 0)):
        with pytest.raises(InvalidInput):
            stream.fill(*bad)
    with pytest.raises(InvalidInput, match="near and far"):
        legging_pairs(pd.DataFrame({"near": [1]}, index=m.times[:1]))
    with pytest.raises(InvalidInput, match="bars"):
        roll_metrics(m, RollOrder("o", 1, m.times[0], m.times[-1]), remaining=pd.Series(1.0, index=m.times[:9]))
