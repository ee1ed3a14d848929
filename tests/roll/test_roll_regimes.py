"""The regime machine: no flapping whatever it is fed, an absorbing deadline, causes on record, exact restarts."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roll_metric_cases import market

from crosswind.problems.roll import Regime, RollOrder
from crosswind.problems.roll.metrics import METRICS, RollVolumeBaseline, roll_metrics
from crosswind.problems.roll.regimes import (
    PRIORITY,
    RegimeConfig,
    RegimeMachine,
    RegimeTrigger,
    RegimeWatch,
    default_triggers,
    machine_diagram,
    machine_edges,
    run_machine,
    trigger_table,
)
from crosswind.solvers.errors import InvalidInput

pytestmark = pytest.mark.guard
S = 1_000_000_000
T0 = pd.Timestamp("2024-03-06 14:30", tz="UTC").value
NAN, INF = math.nan, math.inf
ONE = pd.DatetimeIndex(["2024-03-06"], tz="UTC")
GREEN, AMBER, RED, SAFE = PRIORITY
CALM = {"rpc": 1.0, "cde": 0.0, "bdz": 0.0, "let_s": 0.0, "rdp": 0.2}
QUICK = RegimeConfig(dwell_s=30.0, quiet_s=10.0, deadline_min=5.0, late_min=20.0, max_gap_s=60.0)


def walk(machine, rows, minutes=300.0, step_s=5, start_s=0):
    """Step through metrics that differ from calm; return the regimes."""
    at = T0 + start_s * S
    return [machine.step(at + k * step_s * S, CALM | row, minutes) for k, row in enumerate(rows)]


edges = st.sampled_from([0.0, -0.2, 0.7, -0.7, 1.0, 1.3, 1.8, 2.0, 2.5, 5.0, -5.0, 30.0, 120.0])
numbers = st.one_of(
    edges,
    edges.map(lambda x: np.nextafter(x, INF)),
    edges.map(lambda x: np.nextafter(x, -INF)),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([None, True, "n/a", NAN, INF, -INF, 10**400]),
)
waits = st.sampled_from([5, 5, 5, 5, 10, 29, 30, 31, 61, 3600, 0, -5, -3600, 10**6])
clocks = st.one_of(
    st.just(300.0), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([5.0, 20.0, -1.0, None])
)
steps = st.lists(
    st.tuples(
        waits, st.dictionaries(st.sampled_from(METRICS), numbers), st.one_of(st.just(300.0), st.just(300.0), clocks)
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=400, deadline=None)
def test_invariants_hold_whatever_it_is_fed(rows):
    machine, at, last = RegimeMachine(QUICK), T0, None
    changes = set(zip(*(machine_edges(QUICK)[c] for c in ("source", "target")), strict=True))
    regimes = [machine.regime]
    for wait, metrics, minutes in rows:
        at += wait * S
        before = len(machine.transitions)
        regimes.append(machine.step(at, metrics, minutes))
        new = machine.transitions[before:]
        assert len(new) == (regimes[-1] is not regimes[-2])
        if isinstance(minutes, float) and minutes <= QUICK.deadline_min:
            assert regimes[-1] is SAFE  # whatever the clock did
        if last is not None and at <= last and new:
            assert new[0].target is SAFE  # a step that does not go forward changes nothing else
        last = at if last is None else max(last, at)
    since = T0 + rows[0][0] * S if rows else T0
    source = GREEN
    for t in machine.transitions:
        assert t.source is source
        assert (t.source.name, t.target.name) in changes
        assert t.target is SAFE or t.time.value - since >= 30 * S
        assert t.held_s == pytest.approx((t.time.value - since) / S)
        assert t.trigger
        source, since = t.target, t.time.value
    if SAFE in regimes:
        assert set(regimes[regimes.index(SAFE) :]) == {SAFE}
    assert machine.regime is source
    json.dumps(machine.snapshot())


def by_definition(config, rows):
    """The regimes of steps in order, each from the whole history: no state but regime and the time of its change."""
    out, regime, since = [], GREEN, rows[0][0]
    for k, (now, _, minutes) in enumerate(rows):
        held = {}
        for t in config.triggers:
            values = [(at, row.get(t.metric, NAN)) for at, row, _ in rows[: k + 1]]
            on, calm = False, None
            for (at, v), before in zip(values, [rows[0][0], *(at for at, _ in values)], strict=False):
                if at - before > config.max_gap_s:
                    calm = None
                is_calm = not math.isnan(v) and t.left(v)
                calm = (at if calm is None else calm) if is_calm and on else None
                if not math.isnan(v) and t.entered(v):
                    on = True
                elif on and calm is not None and at - calm >= config.quiet_s:
                    on = False
            held[t.name] = on
        spent = sum(
            min(b - a, config.max_gap_s) for (a, *_), (b, *_) in itertools.pairwise(rows) if a >= since and b <= now
        )
        called = max((t.regime for t in config.triggers if held[t.name]), key=PRIORITY.index, default=GREEN)
        late = minutes <= config.late_min and rows[k][1].get("rdp", NAN) >= config.late_rdp
        if regime is not SAFE and (minutes <= config.deadline_min or late):
            regime, since = SAFE, now
        elif regime is not SAFE and called is not regime and spent >= config.dwell_s:
            regime, since = called, now
        out.append(regime)
    return out


@given(
    st.lists(
        st.tuples(
            st.sampled_from([5, 5, 10, 40, 70]),
            st.fixed_dictionaries(
                {m: st.one_of(st.just(NAN), edges, st.floats(-10, 200)) for m in ("rpc", "bdz", "rdp")}
            ),
        ),
        min_size=1,
        max_size=50,
    ),
    st.integers(0, 60),
)
@settings(max_examples=200, deadline=None)
def test_steps_equal_the_definition(rows, minutes_at_start):
    at, timed = 0, []
    for wait, row in rows:
        at += wait
        timed.append((at, row, minutes_at_start + 30 - at / 60.0))
    machine = RegimeMachine(QUICK)
    assert [machine.step(T0 + at * S, row, minutes) for at, row, minutes in timed] == by_definition(QUICK, timed)


@pytest.mark.parametrize("trigger", default_triggers(), ids=lambda t: t.name)
def test_noise_at_a_threshold_does_not_flap(trigger):
    rng = np.random.default_rng(0)
    gap = abs(trigger.enter - trigger.leave)
    config = RegimeConfig(triggers=(trigger,))
    value = trigger.enter + 0.15 * gap * rng.standard_normal(4680)
    machine = RegimeMachine(config)
    walk(machine, [{trigger.metric: v} for v in value])
    naive = np.count_nonzero(np.diff([trigger.entered(v) for v in value]))
    assert naive > 2000
    assert len(machine.transitions) == 1
    # Noise between both thresholds, as wide as the gap, still moves no faster than dwell and quiet let it.
    wide = 0.5 * (trigger.enter + trigger.leave) + gap * rng.standard_normal(4680)
    machine = RegimeMachine(config)
    walk(machine, [{trigger.metric: v} for v in wide])
    assert len(machine.transitions) <= 1


def test_noise_that_is_truly_calm_for_long_is_let_go():
    machine = RegimeMachine(QUICK)
    walk(machine, [{}] * 6 + [{"rpc": 2.0}] * 6 + [{"rpc": 1.5}] * 20)
    assert machine.regime is AMBER  # between the thresholds it stays
    walk(machine, [{"rpc": 1.3}] * 2, start_s=160)
    assert machine.regime is AMBER  # 5 s of calm are not ten
    walk(machine, [{"rpc": 1.31}, {"rpc": 1.3}, {"rpc": 1.3}, {"rpc": 1.3}], start_s=170)
    assert machine.regime is GREEN  # the break at 170 began the ten seconds anew


def test_dwell_holds_back_even_a_higher_regime():
    machine = RegimeMachine(QUICK)
    got = walk(machine, [{}] * 6 + [{"rpc": 9.0}] + [{"rpc": 9.0, "bdz": -9.0}] * 8)
    assert got == [GREEN] * 6 + [AMBER] * 6 + [RED] * 3
    assert [t.held_s for t in machine.transitions] == [30.0, 30.0]


def test_the_highest_regime_wins_and_the_way_down_names_what_holds():
    machine = RegimeMachine(QUICK)
    both = {"rpc": 3.0, "bdz": 8.0}
    walk(machine, [both] * 8 + [{"rpc": 3.0}] * 10 + [{}] * 20)
    assert [(t.source, t.target, t.trigger) for t in machine.transitions] == [
        (GREEN, RED, "bdz"),
        (RED, AMBER, "rpc"),
        (AMBER, GREEN, "released rpc"),
    ]
    first = machine.transitions[0]
    assert (first.value, first.threshold, first.active) == (8.0, 5.0, ("rpc", "bdz"))
    assert dict(first.metrics) == CALM | both
    assert first.minutes_left == 300.0
    frame = machine.to_frame()
    assert frame["target"].tolist() == ["BASIS_STRESS", "CROWDED", "PRE_ROLL"]
    assert frame.index.tz is not None
    assert frame.loc[first.time, "bdz"] == 8.0
    assert "bdz: 8 against 5" in first.text()


@pytest.mark.parametrize("minutes", [5.0, 0.0, -30.0, -INF])
def test_the_deadline_does_not_wait_and_is_never_left(minutes):
    machine = RegimeMachine(QUICK)
    walk(machine, [{}] * 2)
    assert machine.step(T0 + 10 * S, CALM, minutes) is SAFE
    assert walk(machine, [{}] * 50, start_s=15) == [SAFE] * 50
    assert [t.trigger for t in machine.transitions] == ["deadline"]
    machine.reset()
    assert (machine.regime, machine.transitions) == (GREEN, [])


def test_pressure_near_the_cutoff_is_the_deadline_too():
    for minutes, rdp, want in (
        (20.0, 2.0, SAFE),
        (20.0, INF, SAFE),
        (20.1, INF, GREEN),
        (20.0, 1.9, GREEN),
        (20.0, NAN, GREEN),
    ):
        assert RegimeMachine(QUICK).step(T0, CALM | {"rdp": rdp}, minutes) is want
    machine = RegimeMachine(QUICK)
    machine.step(T0, CALM | {"rdp": 3.0}, 19.0)
    assert (machine.transitions[0].trigger, machine.transitions[0].value, machine.transitions[0].threshold) == (
        "late",
        3.0,
        2.0,
    )


def test_what_is_not_known_holds_the_state_and_says_so():
    machine = RegimeMachine(QUICK)
    walk(machine, [{}] * 6 + [{"bdz": 9.0}] * 8)
    assert machine.regime is RED
    walk(machine, [{"bdz": NAN}] * 50, start_s=70)
    walk(machine, [{"bdz": INF}] * 50, start_s=320)
    assert machine.regime is RED  # a crossed book does not end the stress
    assert [n.kind for n in machine.notes] == ["unknown"]
    assert "bdz" in machine.notes[0].text
    walk(machine, [{}] * 4, start_s=570)
    assert machine.regime is GREEN
    assert Counter(n.kind for n in machine.notes) == machine.counts == {"unknown": 1, "known": 1}


def test_a_clock_that_jumps_buys_nothing():
    machine = RegimeMachine(QUICK)
    walk(machine, [{}] * 6 + [{"bdz": 9.0}] * 8 + [{}])
    at = T0 + 70 * S
    assert machine.step(at - 50 * S, CALM, 300.0) is RED
    assert machine.step(at, CALM, 300.0) is RED
    assert (
        machine.step(at + 7200 * S, CALM, 300.0) is RED
    )  # calm before the gap does not count: who knows what was in it
    assert machine.counts == {"clock back": 1, "repeat": 1, "gap": 1}
    assert machine.held_s() == 40.0 + 60.0
    assert machine.step(at + 7210 * S, CALM, 300.0) is GREEN
    # A dwell cannot be jumped over either when a gap counts for less than it.
    slow = RegimeMachine(RegimeConfig(dwell_s=120.0, max_gap_s=50.0))
    assert [slow.step(T0 + k * 10**6 * S, CALM | {"rpc": 9.0}, 900.0) for k in range(4)] == [GREEN] * 3 + [AMBER]


def day(bars=900, seed=5):
    m = market(bars, seed=seed)
    order = RollOrder("o", 200, m.times[0], m.times[-1])
    base = RollVolumeBaseline.fit([market(bars, seed=1, scale=0.6)], tz="America/New_York")
    return m, order, base


def test_a_restart_in_the_middle_changes_nothing():
    m, order, base = day()
    frame = roll_metrics(m, order, base)
    rows = [(int(t), dict(zip(METRICS, row, strict=True)), (order.cutoff.value - int(t)) / 60e9)
            for t, row in zip(m.times.as_unit("ns").asi8, frame.to_numpy(), strict=True)]  # fmt: skip
    near = (RegimeTrigger("rpc", AMBER, 1.7, 1.6), RegimeTrigger("bdz", RED, 1.5, 1.0, "outside"))
    config = RegimeConfig(near, dwell_s=20.0, quiet_s=5.0)
    whole = RegimeMachine(config)
    want = [whole.step(*row) for row in rows]
    assert len(whole.transitions) > 5
    for cut in range(0, len(rows), 61):
        first, second = RegimeMachine(config), RegimeMachine(config)
        got = [first.step(*row) for row in rows[:cut]]
        second.restore(json.loads(json.dumps(first.snapshot())))
        got += [second.step(*row) for row in rows[cut:]]
        assert got == want
        assert json.dumps(second.snapshot()) == json.dumps(whole.snapshot())
    with pytest.raises(InvalidInput, match="another config"):
        RegimeMachine().restore(whole.snapshot())


def test_batch_steps_and_watch_are_one():
    m, order, base = day()
    frame = roll_metrics(m, order, base, remaining=pd.Series(4000.0, index=m.times))
    run = run_machine(None, frame, order.cutoff)
    watch = RegimeWatch(baseline=base)
    watch.start(order, see(m, 1))
    got = [watch.machine.regime] + [watch.look(see(m, k + 1), 4000, 0)[0] for k in range(1, m.bars)]
    assert got == run.regimes.tolist()
    assert run.shares().sum() == pytest.approx(1.0)
    assert run.to_frame()["regime"].tolist() == [r.name for r in got]
    pd.testing.assert_frame_equal(run.transitions, watch.machine.to_frame(), rtol=1e-12)
    assert len(run.summary().splitlines()) == 1 + len(run.transitions)
    local = run_machine(None, frame.tz_convert("America/Chicago"), order.cutoff.tz_convert("Asia/Tokyo"))
    assert local.regimes.tolist() == got
    # A run of the first bars is the beginning of the run of all.
    assert run_machine(None, frame.iloc[:500], order.cutoff).regimes.tolist() == got[:500]
    recorded = RegimeWatch(baseline=RollVolumeBaseline.fit([market(50, source="recorded")]))
    with pytest.raises(InvalidInput, match="earlier days"):
        recorded.start(order, m)
    brief = RegimeWatch(baseline=base, history_s=1800.0)
    brief.start(order, see(m, 700))
    assert brief.stream.latest["bdz"] == pytest.approx(frame["bdz"].iloc[699], rel=1e-12)
    assert brief.machine.held_s() + sum(t.held_s for t in brief.machine.transitions) == 1800.0
    with pytest.raises(InvalidInput, match="history_s"):
        RegimeWatch(history_s=-1.0)
    bare = RegimeWatch()
    bare.start(order, m)
    assert math.isnan(bare.stream.latest["rpc"])
    watch.fill(m.times[-1] + pd.Timedelta("1s"), -1.0, 0.0)
    with pytest.raises(InvalidInput, match="start"):
        RegimeWatch().look(m, 1, 1)


def see(m, end):
    from dataclasses import fields, replace

    cut = {f.name: getattr(m, f.name)[:end] for f in fields(m) if isinstance(getattr(m, f.name), np.ndarray)}
    return replace(m, times=m.times[:end], **cut)


def test_the_picture_and_the_table_are_those_of_the_machine():
    config = RegimeConfig(triggers=(RegimeTrigger("bdz", RED, 7.5, 3.25, "outside"),), deadline_min=11.0)
    edges_ = machine_edges(config)
    assert set(zip(edges_["source"], edges_["target"], strict=True)) == {
        ("PRE_ROLL", "BASIS_STRESS"),
        ("BASIS_STRESS", "PRE_ROLL"),
        ("PRE_ROLL", "DEADLINE"),
        ("BASIS_STRESS", "DEADLINE"),
    }
    assert (edges_["dwell_s"] == [120.0, 120.0, 0.0, 0.0]).all()
    picture = machine_diagram(config)
    assert "|bdz| ≥ 7.5, until ≤ 3.25" in picture
    assert "minutes left ≤ 11" in picture
    assert "CROWDED" not in picture  # nothing leads there
    assert "rdp" not in machine_diagram(RegimeConfig(deadline_min=15.0, late_min=15.0, triggers=config.triggers))
    assert len(machine_edges()) == 6 + 3
    import xml.etree.ElementTree as ElementTree

    ElementTree.fromstring(machine_diagram())
    table = trigger_table(config)
    assert table.loc["bdz"].tolist() == ["BASIS_STRESS", "bdz", "outside", 7.5, 3.25]


def test_the_page_shows_this_machine():
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert (docs / "img" / "roll-regimes.svg").read_text(encoding="utf-8") == machine_diagram()
    page = (docs / "roll" / "regimes.md").read_text(encoding="utf-8")
    for name, row in trigger_table().iterrows():
        assert f"| `{name}` | {row['regime']} |" in page
        assert f" {row['enter']:g} | " in page
        assert f" {row['leave']:g} |" in page
    config = RegimeConfig()
    assert f"**{config.dwell_s:g} s**" in page
    assert f"**{config.quiet_s:g} s**" in page


def test_every_change_in_the_table_is_made():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        machine = RegimeMachine(QUICK)
        for k in range(40):
            row = {"rpc": rng.choice([1.0, 3.0]), "bdz": rng.choice([0.0, 0.0, 9.0])}
            machine.step(T0 + k * 35 * S, CALM | row, 300.0 if k < 39 else 1.0)
        seen |= {(t.source.name, t.target.name) for t in machine.transitions}
    edges_ = machine_edges(QUICK)
    assert seen == set(zip(edges_["source"], edges_["target"], strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RegimeTrigger("rpc", AMBER, 1.8, 1.8),
        lambda: RegimeTrigger("cde", AMBER, -0.5, -0.7, "below"),
        lambda: RegimeTrigger("bdz", RED, 5.0, -1.0, "outside"),
        lambda: RegimeTrigger("vix", RED, 5.0, 1.0),
        lambda: RegimeTrigger("rpc", SAFE, 5.0, 1.0),
        lambda: RegimeTrigger("rpc", AMBER, NAN, 1.0),
        lambda: RegimeTrigger("rpc", AMBER, 2.0, 1.0, "beside"),
        lambda: RegimeConfig(triggers=(RegimeTrigger("rpc", AMBER, 2.0, 1.0),) * 2),
        lambda: RegimeConfig(triggers=("rpc",)),
        lambda: RegimeConfig(dwell_s=0.0),
        lambda: RegimeConfig(quiet_s=-1.0),
        lambda: RegimeConfig(deadline_min=30.0, late_min=10.0),
        lambda: RegimeMachine("config"),
        lambda: RegimeMachine().step(pd.Timestamp("2024-03-06"), CALM, 1.0),
        lambda: run_machine(None, pd.DataFrame({"rpc": [1.0]}), pd.Timestamp("2024-03-06", tz="UTC")),
        lambda: run_machine(
            None,
            pd.DataFrame({"rpc": [1.0]}, index=pd.DatetimeIndex(["2024-03-06"], tz="UTC")),
            pd.Timestamp("2024-03-06"),
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InvalidInput):
        make()


def test_times_with_a_zone_are_as_good_as_nanoseconds():
    machine = RegimeMachine(QUICK)
    stamp = pd.Timestamp(T0, tz="UTC").tz_convert("America/Chicago")
    machine.step(stamp, CALM, 1.0)
    assert machine.transitions[0].time == stamp
    assert isinstance(machine.regime, Regime)
    assert RegimeMachine().step(stamp, CALM, "soon") is GREEN  # no number of minutes: the deadline rule waits
