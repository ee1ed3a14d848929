"""Anti-churn: dwell, rate and cooldown hold under any sequence of requests, asked for or not."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.roll.churn import ChurnGovernor, ChurnLimits
from crosswind.solvers.errors import InvalidInput, LimitBreach

pytestmark = pytest.mark.guard
S = 1_000_000_000
T0 = pd.Timestamp("2024-03-06 14:30", tz="UTC").value

acts = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1, 2, 5, 9, 10, 11, 29, 30, 31, 59, 60, 61, 3600, -1, -30, -3600]),
        st.sampled_from(["place", "send", "replace", "replace", "replace", "forced", "reject", "ask"]),
    ),
    max_size=80,
)
limits = st.builds(
    ChurnLimits,
    dwell_s=st.sampled_from([0.0, 0.5, 5.0, 10.0, 60.0, 90.0]),
    max_replaces_per_minute=st.integers(0, 6),
    cooldown_s=st.sampled_from([0.0, 1.0, 30.0, 90.0]),
)


@given(limits, acts)
@settings(max_examples=400, deadline=None)
def test_limits_hold_under_any_requests(limit, rows):
    """A policy that acts whenever it likes; what is refused is not done. The record is then audited from outside."""
    governor, at, done = ChurnGovernor(limit), T0, []
    for wait, act in rows:
        at += wait * S
        record = {"place": governor.record_place, "send": governor.record_send, "replace": governor.record_replace}
        if act == "ask":
            assert governor.may_replace(at) == (governor.why_not(at) == "")
            continue
        if act in record:
            kind = "replace" if act == "replace" else "send"
            why, before = governor.why_not(at, kind), governor.snapshot()
            if why:
                with pytest.raises(LimitBreach) as caught:
                    record[act](at)
                assert caught.value.field == why
                refused = f"refused {why}"
                after = governor.snapshot()
                assert after["counts"].pop(refused) == before["counts"].pop(refused) + 1
                assert after == before  # nothing half-done
                continue
            record[act](at)
        elif act == "forced":
            governor.record_replace(at, forced=True)
        else:
            governor.record_reject(at)
        # Forced acts and rejects of a clock that went back are booked at the latest time known.
        done.append((max([at, *(t for t, _ in done)]), act))
    for k, (now, act) in enumerate(done):
        earlier = done[:k]
        if act in ("place", "send", "replace"):
            assert all(now >= t for t, _ in earlier)
            rejects = [t for t, a in earlier if a == "reject"]
            assert not rejects or now - rejects[-1] >= limit.cooldown_s * S
        if act == "replace":
            placed = [t for t, a in earlier if a in ("place", "replace", "forced")]
            assert not placed or now - placed[-1] >= limit.dwell_s * S
            moves = [t for t, a in done[: k + 1] if a in ("replace", "forced") and t > now - 60 * S]
            assert len(moves) <= limit.max_replaces_per_minute
    counted = {name: sum(a == act for _, a in done) for name, act in
               {"places": "place", "replaces": "replace", "forced": "forced", "rejects": "reject"}.items()}  # fmt: skip
    assert {name: governor.counts[name] for name in counted} == counted


@given(limits, acts, st.integers(0, 80))
@settings(max_examples=100, deadline=None)
def test_a_restart_forgets_nothing(limit, rows, cut):
    def run(governor, rows, at):
        said = []
        for wait, act in rows:
            at += wait * S
            said.append((governor.why_not(at), governor.why_not(at, "send"), governor.replaces_last_minute(at)))
            if act == "reject":
                governor.record_reject(at)
            elif act == "forced" or (act == "replace" and governor.may_replace(at)):
                governor.record_replace(at, forced=act == "forced")
            elif act == "place" and governor.may_send(at):
                governor.record_place(at)
        return said, at

    whole, first, second = (ChurnGovernor(limit) for _ in range(3))
    want, _ = run(whole, rows, T0)
    got, at = run(first, rows[:cut], T0)
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert got + run(second, rows[cut:], at)[0] == want
    assert second.snapshot() == whole.snapshot()


def test_each_limit_is_exact_to_the_nanosecond():
    governor = ChurnGovernor(ChurnLimits(dwell_s=10.0, max_replaces_per_minute=2, cooldown_s=30.0))
    governor.record_place(T0)
    assert governor.why_not(T0 + 10 * S - 1) == "dwell"
    governor.record_replace(T0 + 10 * S)
    governor.record_replace(T0 + 20 * S)
    assert governor.why_not(T0 + 70 * S - 1) == "rate"
    assert governor.why_not(T0 + 70 * S) == ""
    assert governor.replaces_last_minute(T0 + 70 * S) == 1
    governor.record_reject(T0 + 71 * S)
    assert not governor.may_send(T0 + 101 * S - 1)
    assert governor.may_send(pd.Timestamp(T0 + 101 * S, tz="America/Chicago"))
    assert governor.why_not(T0 + 70 * S) == "clock back"
    assert governor.counts["refused cooldown"] == 1


def test_a_forced_cancel_is_never_held_up_but_counts():
    governor = ChurnGovernor(ChurnLimits(dwell_s=10.0, max_replaces_per_minute=1, cooldown_s=30.0))
    governor.record_place(T0)
    governor.record_reject(T0 + S)
    governor.record_replace(T0 + 2 * S, forced=True)
    governor.record_replace(T0 - 100 * S, forced=True)  # the clock went back: booked at the last time
    assert governor.replaces_last_minute(T0 + 2 * S) == 2
    assert governor.why_not(T0 + 40 * S) == "rate"
    assert governor.counts["forced"] == 2
    none = ChurnGovernor()
    none.record_replace(T0, forced=True)
    none.record_reject(T0 - S)
    assert none.why_not(T0, "send") == "cooldown"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChurnLimits(dwell_s=-1.0),
        lambda: ChurnLimits(cooldown_s=float("nan")),
        lambda: ChurnLimits(dwell_s="10"),
        lambda: ChurnLimits(max_replaces_per_minute=1.5),
        lambda: ChurnLimits(max_replaces_per_minute=-1),
        lambda: ChurnGovernor(3),
        lambda: ChurnGovernor().why_not(T0, "dance"),
        lambda: ChurnGovernor().may_send(pd.Timestamp("2024-03-06")),
        lambda: ChurnGovernor().restore(ChurnGovernor(ChurnLimits(dwell_s=1.0)).snapshot()),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InvalidInput):
        make()
