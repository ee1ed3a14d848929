from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import crosswind as cw
from crosswind.problems.impact import (
    CrossImpact,
    StreamingGram,
    check_events,
    event_moments,
    events_with_gaps,
    make_dictionary,
    shift_clock,
)
from crosswind.solvers.errors import DataGap, InvalidInput

LIVES = (120.0, 1200.0)


@pytest.fixture
def clean(simulated):
    return simulated(names=4, rows=800, days=4, r2=0.4)[0]


def with_columns(events, **columns):
    """The events with some columns of flow replaced, volume to match."""
    flow = events.flow.assign(**columns)
    return replace(events, flow=flow, volume=flow.abs() + 1.0)


def test_clean_events_pass_as_they_are(clean) -> None:
    report = check_events(clean, currency="USD", clocks="refuse")
    assert report.events is clean
    assert report.findings.empty
    assert report.masks == ()
    assert 1 < report.flow_condition < 10
    assert "nothing found" in report.summary()
    assert report.clocks.flagged == ()


def test_a_dead_name_is_refused_or_dropped_by_name(clean) -> None:
    quiet = with_columns(clean, BBB=0.0)
    quiet = replace(quiet, volume=quiet.volume.assign(BBB=0.0))
    with pytest.raises(InvalidInput, match=r"BBB.*no trades"):
        check_events(quiet)
    report = check_events(quiet, dead="drop")
    assert report.events.names == ("AAA", "CCC", "DDD")
    assert report.dropped == {"BBB": "no trades"}
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(report.events)
    assert np.isfinite(fit.model_.matrices).all()
    with pytest.raises(InvalidInput, match="BBB"):  # the fit itself refuses too, and never gives NaN
        CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(quiet)
    unsigned = with_columns(clean, CCC=0.0)
    assert check_events(unsigned, dead="drop").dropped == {"CCC": "no signed flow"}
    frozen = replace(clean, mid=clean.mid.assign(DDD=50.0))
    assert check_events(frozen, dead="drop").dropped == {"DDD": "mid never moves"}


def test_no_flow_at_all_is_refused_whatever_is_asked(clean) -> None:
    silent = with_columns(clean, **dict.fromkeys(["AAA", "BBB", "CCC", "DDD"], 0.0))
    for dead in ("refuse", "drop"):
        with pytest.raises(InvalidInput, match="signs its trades"):
            check_events(silent, dead=dead)
    with pytest.raises(InvalidInput, match="no flow at all"):
        CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(silent)
    stuck = replace(clean, mid=clean.mid * 0.0 + 10.0)
    with pytest.raises(InvalidInput, match="no name is alive"):
        check_events(stuck, dead="drop")


@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_duplicated_flow_is_refused_dropped_or_kept(clean, factor: float) -> None:
    twin = with_columns(clean, CCC=factor * clean.flow["AAA"])
    with pytest.raises(InvalidInput, match=r"'CCC': 'AAA'"):
        check_events(twin)
    report = check_events(twin, duplicates="drop")
    assert report.events.names == ("AAA", "BBB", "DDD")
    assert report.dropped == {"CCC": "same flow as AAA"}
    kept = check_events(twin, duplicates="keep")
    assert kept.events is twin
    assert kept.flow_condition == float("inf")
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit(twin)  # the ridge decides
    assert np.isfinite(fit.model_.matrices).all()
    assert fit.constraint_violations()["worst"] < 1e-9


def test_other_linear_relations_of_flow_are_found(clean) -> None:
    basket = with_columns(clean, DDD=0.5 * clean.flow["AAA"] + 0.5 * clean.flow["CCC"])
    for duplicates in ("refuse", "drop"):
        with pytest.raises(InvalidInput, match=r"\['AAA', 'CCC', 'DDD'\]"):
            check_events(basket, duplicates=duplicates)
    assert "dependent flows" in check_events(basket, duplicates="keep").summary()


def test_one_bucket_is_a_gap(build_events) -> None:
    with pytest.raises(DataGap, match="two buckets"):
        check_events(build_events(np.ones((3, 2)), np.zeros((3, 2)), days=3))


def test_outliers_are_reported_masked_or_refused(build_events) -> None:
    rng = np.random.default_rng(0)
    flow, returns = 1e6 * rng.standard_normal((600, 3)), 1e-4 * rng.standard_normal((600, 3))
    returns[100, 1], flow[200, 2] = 0.2, 1e12
    events = build_events(flow, returns, days=2)
    report = check_events(events)
    assert report.findings[["what", "where"]].to_numpy().tolist() == [["jumps", "BBB"], ["huge flow", "CCC"]]
    assert report.masks == ()
    with pytest.raises(InvalidInput, match=r"jumps of BBB.*20\.00%"):
        check_events(events, outliers="refuse")
    masked = check_events(events, outliers="mask")
    assert masked.findings["done"].tolist() == ["masked", "kept"]
    assert {trace.name for trace in masked.plot().data} == {"masked", "kept"}
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = StreamingGram(dictionary, masks=masked.masks).update(events).moments()
    assert moments.left_out == {"no return": 2, "jump": 1}
    assert np.sqrt(moments.total().rr[1, 1] / moments.rows) == pytest.approx(1e-4, rel=0.1)
    fit = CrossImpact(half_lives_s=LIVES, ridge=1.0).fit_moments(moments)
    assert np.isfinite(fit.model_.matrices).all()


def test_half_days_are_reported_and_fitted(clean) -> None:
    short = clean._rows(np.arange(800) < 700)
    report = check_events(short)
    assert report.findings[["what", "value", "done"]].to_numpy().tolist() == [
        ["short session", "100 of 200 buckets", "kept"]
    ]
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = event_moments(report.events, dictionary)
    assert [b.sums.rows for b in moments.blocks] == [199, 199, 199, 99]
    grams, _ = moments.fold_grams(2)
    assert [b.rows for b in grams.blocks] == [398, 298]


def test_currencies_do_not_mix(clean) -> None:
    with pytest.raises(InvalidInput, match="convert them to EUR"):
        check_events(clean, currency="EUR")
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    euro = replace(clean.on(clean.days[1]), currency="EUR")
    with pytest.raises(InvalidInput, match="one currency"):
        StreamingGram(dictionary).update(clean.on(clean.days[0])).update(euro)


def test_a_clock_three_seconds_late_is_refused_or_repaired() -> None:
    events = cw.read("sim:names=5,days=1,seed=3,close_local=11:00,bucket_s=1").events
    late = shift_clock(events, {"N02": -3.0})
    assert check_events(late).findings.query("what == 'clock late'").empty  # not looked at unless asked
    with pytest.raises(InvalidInput, match=r"N02: \+3 s"):
        check_events(late, clocks="refuse")
    report = check_events(late, clocks="repair")
    assert report.findings.query("what == 'clock late'")[["where", "value", "done"]].to_numpy().tolist() == [
        ["N02", "+3 s", "repaired"]
    ]
    common = report.events.index
    np.testing.assert_array_equal(report.events.flow["N02"], events.flow["N02"].loc[common])
    assert check_events(late, clocks="report").events is late


def test_bursts_of_nan_are_refused_or_masked(clean) -> None:
    frames = {f: getattr(clean, f).copy() for f in ("flow", "mid", "spread", "volume", "depth")}
    for frame in frames.values():
        frame.iloc[50:60, 1] = np.nan
    frames["flow"].iloc[300, 0] = np.nan
    frames["mid"].iloc[200:203, 2] = np.nan  # the second session begins without a quote
    with pytest.raises(InvalidInput, match="not finite"):
        replace(clean, **frames)
    events, mask = events_with_gaps(frames, clean.bucket_s, clean.tz)
    assert events.index.equals(clean.index.delete([200, 201, 202]))
    dictionary = make_dictionary("exponential", 60.0, LIVES)
    moments = StreamingGram(dictionary, masks=[mask]).update(events).moments()
    # The burst and the bucket whose return spans it, twice; a session's first bucket has no return anyway.
    assert moments.left_out == {"no return": 4, "not known": 11 + 2}
    assert np.isfinite(CrossImpact(half_lives_s=LIVES, ridge=1.0).fit_moments(moments).model_.matrices).all()
    use = ~mask.rows(events)
    pd.testing.assert_frame_equal(events.returns[use].dropna(), clean.returns.loc[events.index[use]].dropna())
    with pytest.raises(InvalidInput, match="missing"):
        events_with_gaps({"flow": frames["flow"]}, 60.0, clean.tz)
    frames["mid"].iloc[:, 0] = np.nan
    with pytest.raises(DataGap, match="every name is quoted"):
        events_with_gaps(frames, 60.0, clean.tz)


def test_unknown_words_and_tables_are_refused(clean) -> None:
    for kwargs in ({"dead": "ignore"}, {"duplicates": "merge"}, {"outliers": "clip"}, {"clocks": "yes"}):
        with pytest.raises(InvalidInput, match="one of"):
            check_events(clean, **kwargs)
    with pytest.raises(InvalidInput, match="MarketEvents"):
        check_events(clean.flow)
