"""MarketEvents: what it refuses, how it is cut, resampled and differenced."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.market import MarketEvents
from crosswind.problems.market.checks import as_date, as_utc, utc_index
from crosswind.solvers.errors import DataGap, InvalidInput

FIELDS = ("flow", "mid", "spread", "volume", "depth")


def parts(days: tuple[str, ...] = ("2024-03-08", "2024-03-11"), buckets: int = 6, bucket_s: int = 10, seed: int = 0):
    """Two sessions around the start of daylight saving (10 March 2024), two names."""
    rng = np.random.default_rng(seed)
    opens = [pd.Timestamp(f"{d} 09:30", tz="America/New_York").tz_convert("UTC") for d in days]
    index = pd.DatetimeIndex([o + pd.Timedelta(seconds=bucket_s * (k + 1)) for o in opens for k in range(buckets)])
    shape = (len(index), 2)
    volume = rng.uniform(1e4, 2e4, shape)
    frames = {
        "flow": volume * rng.uniform(-1, 1, shape),
        "mid": 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, shape), axis=0)),
        "spread": rng.uniform(0.01, 0.03, shape),
        "volume": volume,
        "depth": rng.uniform(1e4, 1e5, shape),
    }
    out = {k: pd.DataFrame(v, index=index, columns=["AAA", "BBB"]) for k, v in frames.items()}
    return out | {"bucket_s": float(bucket_s), "tz": "America/New_York"}


def events(**kw) -> MarketEvents:
    return MarketEvents(**parts(**kw))


def test_axes_and_sessions_follow_the_exchange_zone():
    e = events()
    assert e.names == ("AAA", "BBB")
    assert e.days == (dt.date(2024, 3, 8), dt.date(2024, 3, 11))
    assert str(e.index.tz) == "UTC"
    assert e.index.unit == "ns"
    # 09:30 New York is 14:30 UTC before the change and 13:30 after it.
    assert e.index[0] == pd.Timestamp("2024-03-08 14:30:10", tz="UTC")
    assert e.index[6] == pd.Timestamp("2024-03-11 13:30:10", tz="UTC")
    assert list(e.session) == [dt.date(2024, 3, 8)] * 6 + [dt.date(2024, 3, 11)] * 6


def test_other_zones_and_units_become_utc_nanoseconds():
    p = parts()
    moved = {k: (v.tz_convert("Asia/Tokyo") if isinstance(v, pd.DataFrame) else v) for k, v in p.items()}
    for k in FIELDS:
        moved[k].index = moved[k].index.as_unit("us")
    assert MarketEvents(**moved).equals(MarketEvents(**p))


def test_the_input_is_copied():
    p = parts()
    e = MarketEvents(**p)
    p["mid"].iloc[0, 0] = -1.0
    assert e.mid.iloc[0, 0] > 0


def test_a_bucket_ending_at_midnight_belongs_to_the_day_it_began_in():
    index = pd.date_range("2024-01-01 23:00", periods=3, freq="h", tz="UTC")
    ones = pd.DataFrame(1.0, index=index, columns=["A"])
    e = MarketEvents(ones, ones, ones, ones, ones, 3600, "UTC")
    assert list(e.session) == [dt.date(2024, 1, 1)] * 2 + [dt.date(2024, 1, 2)]
    assert len(e.on("2024-01-01").index) == 2
    assert e.returns["A"].isna().tolist() == [True, False, True]


def test_returns_stay_within_sessions():
    e = events()
    r = e.returns
    mid = e.mid["AAA"].to_numpy()
    assert r.isna().to_numpy().sum() == 4
    assert r.iloc[[0, 6]].isna().all().all()
    assert r["AAA"].iloc[3] == mid[3] / mid[2] - 1


def test_between_is_open_on_the_left_and_closed_on_the_right():
    e = events()
    cut = e.between(e.index[1], e.index[3])
    assert list(cut.index) == list(e.index[2:4])
    assert cut.mid.equals(e.mid.iloc[2:4])
    with pytest.raises(DataGap, match="no bucket"):
        e.between(e.index[-1], e.index[-1] + pd.Timedelta(days=1))
    with pytest.raises(InvalidInput, match=r"tz=.UTC."):
        e.between(pd.Timestamp("2024-03-08 10:00"), e.index[-1])
    with pytest.raises(InvalidInput, match="not a time"):
        e.between("yesterday-ish", e.index[-1])


def test_on_takes_one_day_or_several():
    e = events()
    one = e.on("2024-03-11")
    assert one.days == (dt.date(2024, 3, 11),)
    assert one.equals(e.on(dt.date(2024, 3, 11)))
    assert e.on(["20240308", pd.Timestamp("2024-03-11")]).equals(e)
    with pytest.raises(DataGap, match="choose among 2024-03-08, 2024-03-11"):
        e.on("2024-03-09")
    with pytest.raises(DataGap):
        e.on([])
    with pytest.raises(InvalidInput, match="not a date"):
        e.on(20240308)


def test_select_keeps_the_order_asked_for():
    e = events()
    assert e.select(["BBB", "AAA"]).names == ("BBB", "AAA")
    with pytest.raises(InvalidInput, match=r"unknown name.*ZZZ.*choose among AAA, BBB"):
        e.select(["ZZZ"])
    with pytest.raises(InvalidInput, match="occurs twice"):
        e.select(["AAA", "AAA"])


def test_resample_by_hand():
    p = parts(buckets=5)
    index = p["flow"].index
    p["factors"] = pd.DataFrame(0.01, index=index, columns=["market"])
    p["factors"].iloc[[0, 5]] = np.nan
    e = MarketEvents(**p)
    r = e.resample(20)
    # 5 buckets of 10 s make two of 20 s and a rest of 10 s stamped at its true end.
    assert list(r.index[:3]) == [index[1], index[3], index[4]]
    assert list(r.index[3:]) == [index[6], index[8], index[9]]
    assert r.bucket_s == 20
    flow = e.flow["AAA"].to_numpy()
    np.testing.assert_allclose(r.flow["AAA"].to_numpy()[:3], [flow[0] + flow[1], flow[2] + flow[3], flow[4]])
    for field in ("mid", "spread", "depth"):
        np.testing.assert_array_equal(getattr(r, field).to_numpy()[:3], getattr(e, field).to_numpy()[[1, 3, 4]])
    np.testing.assert_allclose(r.factors["market"].to_numpy()[:3], [0.01, 1.01**2 - 1, 0.01])


def test_resample_aligns_to_the_session_and_not_to_the_clock():
    e = events(buckets=9, bucket_s=600)  # 09:30 to 11:00
    hourly = e.resample(3600).index.tz_convert("America/New_York")
    assert [t.strftime("%H:%M") for t in hourly] == ["10:30", "11:00"] * 2


@given(seed=st.integers(0, 50), ratio=st.sampled_from([1, 2, 3, 4, 7, 100]), buckets=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_resample_conserves_flow_volume_and_the_sessions_return(seed, ratio, buckets):
    e = events(seed=seed, buckets=buckets)
    r = e.resample(10 * ratio)
    day, new_day = e.session.to_numpy(), r.session.to_numpy()
    for field in ("flow", "volume"):
        for d in e.days:
            old = getattr(e, field).to_numpy()[day == d].sum(axis=0)
            np.testing.assert_allclose(getattr(r, field).to_numpy()[new_day == d].sum(axis=0), old, rtol=1e-12)
    assert r.index[-1] == e.index[-1]
    assert r.mid.iloc[-1].equals(e.mid.iloc[-1].rename(r.index[-1]))


def test_resample_twice_equals_resample_once():
    e = events(buckets=12)
    twice, once = e.resample(20).resample(60), e.resample(60)
    assert twice.index.equals(once.index)
    np.testing.assert_allclose(twice.flow.to_numpy(), once.flow.to_numpy(), rtol=1e-12)


@pytest.mark.parametrize("bad", [15, 5, 0, -10, np.nan, np.inf, "20"])
def test_resample_refuses_what_is_no_multiple(bad):
    with pytest.raises(InvalidInput) as caught:
        events().resample(bad)
    assert caught.value.field == "bucket_s"
    assert caught.value.remedy


def _spoil(field, value, name="AAA", row=2):
    p = parts()
    p[field].loc[p[field].index[row], name] = value
    return p


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flow", np.nan, "not finite"),
        ("flow", np.inf, "not finite"),
        ("mid", -np.inf, "not finite"),
        ("mid", 0.0, "above 0"),
        ("mid", -5.0, "above 0"),
        ("volume", -1.0, "not be below 0"),
        ("spread", -0.01, "not be below 0"),
        ("depth", -1.0, "not be below 0"),
        ("depth", np.nan, "not finite"),
        ("flow", 3e4, r"\|flow\| exceeds volume"),
        ("flow", -3e4, r"\|flow\| exceeds volume"),
    ],
)
def test_bad_values_are_refused_with_their_place(field, value, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        MarketEvents(**_spoil(field, value))
    assert caught.value.field == field
    assert caught.value.remedy
    assert "2024-03-08 14:30:30" in str(caught.value)
    assert "AAA" in str(caught.value)


def test_bad_indices_are_refused():
    p = parts()
    naive = {k: (v.tz_localize(None) if k in FIELDS else v) for k, v in p.items()}
    with pytest.raises(InvalidInput, match=r"localise with \.tz_localize"):
        MarketEvents(**naive)
    with pytest.raises(InvalidInput, match="not sorted"):
        MarketEvents(**{k: (v.iloc[::-1] if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="repeats a time at row 1"):
        MarketEvents(**{k: (v.iloc[[0, 0, 1]] if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="no timestamps"):
        MarketEvents(**{k: (v.reset_index(drop=True) if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="no buckets"):
        MarketEvents(**{k: (v.iloc[:0] if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="NaT"):
        utc_index(pd.DatetimeIndex(["2024-01-01", None], tz="UTC"), "x")


def test_mismatched_frames_are_refused():
    p = parts()
    with pytest.raises(InvalidInput, match="names or their order differ") as caught:
        MarketEvents(**p | {"depth": p["depth"][["BBB", "AAA"]]})
    assert caught.value.field == "depth"
    with pytest.raises(InvalidInput, match="times differ"):
        MarketEvents(**p | {"mid": p["mid"].iloc[:-1]})
    with pytest.raises(InvalidInput, match="occurs twice"):
        MarketEvents(**{k: (v.set_axis(["AAA", "AAA"], axis=1) if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="non-empty string"):
        MarketEvents(**{k: (v.set_axis([1, 2], axis=1) if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="no names"):
        MarketEvents(**{k: (v[[]] if k in FIELDS else v) for k, v in p.items()})
    with pytest.raises(InvalidInput, match="not a DataFrame"):
        MarketEvents(**p | {"flow": p["flow"].to_numpy()})
    with pytest.raises(InvalidInput, match="not numbers"):
        MarketEvents(**p | {"flow": p["flow"].astype(object).replace(p["flow"].iloc[0, 0], "many")})


def test_bad_metadata_is_refused():
    p = parts()
    for bucket_s in (0, -1, np.nan, "10", True):
        with pytest.raises(InvalidInput) as caught:
            MarketEvents(**p | {"bucket_s": bucket_s})
        assert caught.value.field == "bucket_s"
    with pytest.raises(InvalidInput, match="unknown time zone"):
        MarketEvents(**p | {"tz": "America/Gotham"})
    with pytest.raises(InvalidInput, match="no currency"):
        MarketEvents(**p | {"currency": ""})
    with pytest.raises(InvalidInput, match="buckets overlap"):
        MarketEvents(**p | {"bucket_s": 60.0})


def test_factor_returns_need_the_same_times_and_no_holes():
    p = parts()
    good = pd.DataFrame(0.0, index=p["flow"].index, columns=["market"])
    assert MarketEvents(**p, factors=good).factors is not None
    with pytest.raises(InvalidInput, match="times differ"):
        MarketEvents(**p, factors=good.iloc[1:])
    hole = good.copy()
    hole.iloc[3] = np.nan
    with pytest.raises(InvalidInput, match="NaN outside a session's first bucket"):
        MarketEvents(**p, factors=hole)
    hole.iloc[3] = np.inf
    with pytest.raises(InvalidInput, match="not finite"):
        MarketEvents(**p, factors=hole)


def test_equality_is_exact():
    e = events()
    assert e.equals(events())
    assert not e.equals(events(seed=1))
    assert not e.equals(e.to_frame())
    p = parts()
    assert not e.equals(MarketEvents(**p, currency="EUR"))
    assert not e.equals(MarketEvents(**p, factors=p["flow"]))


def test_summary_and_frame():
    e = events()
    assert "2 names, 2 sessions" in e.summary()
    assert e.to_frame().shape == (12, 10)
    assert e.to_frame()["mid"].equals(e.mid)


def test_plot_has_two_lines_a_name_and_a_mark_between_sessions():
    pytest.importorskip("plotly")
    e = events()
    fig = e.plot()
    assert len(fig.data) == 4
    assert [trace.name for trace in fig.data] == ["AAA", "AAA", "BBB", "BBB"]
    assert fig.data[0].y[0] == fig.data[0].y[6] == 0.0
    assert fig.data[1].y[5] == pytest.approx(e.flow["AAA"].iloc[:6].sum())
    assert fig.data[1].y[6] == pytest.approx(e.flow["AAA"].iloc[6])
    assert len(fig.layout.shapes) == 1


def test_dates_and_times():
    assert as_date("20131218") == as_date("2013-12-18") == as_date(pd.Timestamp("2013-12-18 15:00", tz="UTC"))
    for bad in ("2013-13-01", "today", 5, None, pd.NaT):
        with pytest.raises(InvalidInput, match="not a date"):
            as_date(bad)
    assert as_utc("2024-01-02 09:30-05:00", "t") == pd.Timestamp("2024-01-02 14:30", tz="UTC")


def test_a_spread_as_wide_as_the_price_is_a_wrong_unit():
    given = parts()
    wide = given["spread"].copy()
    wide.iloc[3, 1] = 2.0 * given["mid"].iloc[3, 1]
    with pytest.raises(InvalidInput, match="twice the mid or more") as caught:
        MarketEvents(**{**given, "spread": wide})
    assert caught.value.field == "spread"
    assert "BBB" in str(caught.value)
    wide.iloc[3, 1] *= 0.99
    assert MarketEvents(**{**given, "spread": wide}).spread.iloc[3, 1] == wide.iloc[3, 1]
