"""The simulator's contract: shapes, determinism, clocks, prefix property, exact decomposition, errors."""

from __future__ import annotations

import datetime as dt
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.problems.market import simulate
from crosswind.problems.market.model import FuturesQuotes, MarketData, SimulatedTruth
from crosswind.problems.market.read import read
from crosswind.problems.market.simulator.decompose import decompose
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.sessions import quarterly_expiries, session_ends, u_shape
from crosswind.problems.market.simulator.streams import Part, student
from crosswind.problems.market.simulator.streams import stream as random_stream
from crosswind.solvers.errors import DataGap

FIELDS = ("flow", "mid", "spread", "volume", "depth", "factors")


@pytest.fixture(scope="module")
def market() -> MarketData:
    return simulate(seed=3)


def _same(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    return left.to_numpy().tobytes() == right.to_numpy().tobytes() and left.index.equals(right.index)


def test_default_shapes_and_truth(market: MarketData) -> None:
    events, truth = market.events, market.truth
    assert isinstance(truth, SimulatedTruth)
    assert events.flow.shape == (3 * 2340, 8)
    assert events.names == truth.names == tuple(f"N{i:02d}" for i in range(1, 9))
    assert list(events.factors.columns) == ["market", "SEC1", "SEC2"]
    assert truth.matrices.shape == (2, 8, 8)
    assert list(truth.sectors) == ["SEC1"] * 4 + ["SEC2"] * 4
    assert truth.parameters["hedge_latency_s"] == 1.0
    assert np.allclose(truth.rates_per_s, np.log(2) / np.array([30.0, 600.0]))
    assert set(market.futures) == {"SIM"}
    assert market.source == "sim:names=8,sectors=2,days=3,bucket_s=10,seed=3,start=2024-03-04"


def test_volume_bounds_flow_and_books_are_positive(market: MarketData) -> None:
    events = market.events
    assert (events.flow.abs() <= events.volume).all(axis=None)
    assert (events.spread >= 0.01 - 1e-12).all(axis=None)
    ticks = events.spread.to_numpy() / 0.01
    assert np.abs(ticks - np.rint(ticks)).max() < 1e-9
    assert (events.depth > 0).all(axis=None)


def test_same_seed_same_bytes_other_seed_other_bytes(market: MarketData) -> None:
    again, other = simulate(seed=3), simulate(seed=4)
    for field in FIELDS:
        assert _same(getattr(market.events, field), getattr(again.events, field))
        assert not _same(getattr(market.events, field), getattr(other.events, field))
    for field in ("bid", "ask", "bid_size", "ask_size", "volume"):
        assert _same(getattr(market.futures["SIM"], field), getattr(again.futures["SIM"], field))
    assert np.array_equal(market.truth.matrices, again.truth.matrices)


def test_more_days_begin_with_the_fewer(market: MarketData) -> None:
    two = simulate(seed=3, days=2)
    for field in FIELDS:
        assert _same(getattr(two.events, field), getattr(market.events, field).iloc[: 2 * 2340])
    for field in ("bid", "ask", "bid_size", "ask_size", "volume"):
        assert _same(getattr(two.futures["SIM"], field), getattr(market.futures["SIM"], field).iloc[: 2 * 390])
    assert np.array_equal(two.truth.matrices, market.truth.matrices)
    assert np.array_equal(two.truth.covariance, market.truth.covariance)


def test_a_parameter_does_not_reshuffle_other_parts(market: MarketData) -> None:
    quiet = simulate(seed=3, impact_r2=0.0, basis_vol_bps=0.0, spread_bps=5.0)
    for field in ("flow", "volume", "depth", "factors"):
        assert _same(getattr(quiet.events, field), getattr(market.events, field))
    noise = decompose(quiet).noise.to_numpy()[1:2340]
    assert np.allclose(noise, decompose(market).noise.to_numpy()[1:2340], atol=1e-12)
    longer_memory = simulate(seed=3, flow_half_lives_s=(60.0,), flow_weights=(0.3,))
    assert _same(longer_memory.events.volume, market.events.volume)
    assert _same(longer_memory.events.factors, market.events.factors)
    assert not _same(longer_memory.events.flow, market.events.flow)


def test_more_names_leave_the_first_names_volume(market: MarketData) -> None:
    more = simulate(seed=3, names=11, sectors=3)
    assert np.array_equal(more.events.volume.to_numpy()[:, :8], market.events.volume.to_numpy())


def test_sessions_keep_local_hours_across_the_clock_change() -> None:
    events = simulate(names=1, sectors=1, days=6, bucket_s=300.0, start="2024-03-07").events
    local = events.index.tz_convert("America/New_York")
    assert [str(day) for day in events.days] == [
        "2024-03-07",
        "2024-03-08",
        "2024-03-11",
        "2024-03-12",
        "2024-03-13",
        "2024-03-14",
    ]
    assert {stamp.strftime("%H:%M") for stamp in local[::78]} == {"09:35"}
    assert {stamp.strftime("%H:%M") for stamp in local[77::78]} == {"16:00"}
    assert str(events.index[0]) == "2024-03-07 14:35:00+00:00"
    assert str(events.index[2 * 78]) == "2024-03-11 13:35:00+00:00"
    assert events.index.unit == "ns"


def test_weekend_start_and_holidays_move_on() -> None:
    events = simulate(names=1, sectors=1, days=2, bucket_s=1800.0, start="2024-03-02", holidays=["2024-03-04"]).events
    assert events.days == (dt.date(2024, 3, 5), dt.date(2024, 3, 6))


def test_other_exchange_hours() -> None:
    data = simulate(
        names=2, days=1, bucket_s=60.0, tz="Asia/Tokyo", open_local="09:00", close_local="11:30", start="2024-07-01"
    )
    assert str(data.events.index[0]) == "2024-07-01 00:01:00+00:00"
    assert len(data.events.index) == 150


def test_sub_second_buckets_are_exact() -> None:
    ends = session_ends(dt.date(2024, 3, 4), 9.5 * 3600, 0.25, 93_600, "America/New_York")
    assert str(ends[-1]) == "2024-03-04 21:00:00+00:00"
    assert np.all(np.diff(ends.asi8) == 250_000_000)


def test_impact_is_the_double_sum_of_kernel_differences() -> None:
    data = simulate(names=3, sectors=1, days=2, bucket_s=600.0, seed=5)
    events, truth = data.events, data.truth
    flow, count = events.flow.to_numpy()[39:], 39

    def kernel(lag: int) -> np.ndarray:
        if lag < 0:
            return np.zeros((3, 3))
        return np.tensordot(np.exp(-truth.rates_per_s * lag * 600.0), truth.matrices, axes=1)

    expected = np.array(
        [sum((kernel(t - s) - kernel(t - s - 1)) @ flow[s] for s in range(t + 1)) for t in range(count)]
    )
    assert np.allclose(decompose(data).impact.to_numpy()[39:], expected, rtol=1e-12, atol=1e-18)


def test_returns_less_factor_and_impact_are_the_drawn_noise(market: MarketData) -> None:
    truth, parameters = market.truth, SimulatorParameters()
    events, noise = market.events, decompose(market).noise
    draws = student(random_stream(3, Part.IDIOSYNCRATIC, 1), (8, 2340), parameters.tail_dof).T
    ratio = noise.to_numpy()[2340:4680] / (draws * np.asarray(truth.parameters["names_idio_vol_daily"]))
    # What is left is each draw times a volatility that all names share.
    ratio = ratio[1:]
    assert np.allclose(ratio, ratio[:, :1], rtol=1e-6)
    shape = np.sqrt(10.0 / 23400.0 * u_shape(2340, parameters.vol_u_shape))[1:]
    log_vol = np.log(ratio[:, 0] / shape)
    assert abs(log_vol.std() - parameters.vol_regime_sd) < 0.15
    parts = decompose(market)
    total = parts.factor + parts.impact + parts.noise
    pd.testing.assert_frame_equal(total, events.returns, rtol=0, atol=1e-15)
    assert noise.isna().any(axis=1).sum() == 3


def test_overnight_takes_the_transient_impact_back() -> None:
    data = simulate(names=2, sectors=1, days=2, bucket_s=60.0, overnight_vol_ratio=0.0, seed=8)
    events, truth, parts = data.events, data.truth, decompose(data)
    mid = events.mid.to_numpy()
    displacement = parts.impact.to_numpy()[:390].sum(axis=0)
    first = (parts.factor + parts.impact).to_numpy()[390]
    expected = mid[389] * (1.0 - displacement)
    draws = student(random_stream(8, Part.IDIOSYNCRATIC, 1), (2, 390), 5.0)[:, 0]
    vol = np.asarray(truth.parameters["names_idio_vol_daily"]) * draws
    residual = mid[390] / expected - 1.0 - first
    assert np.abs(displacement).max() > 1e-5
    assert np.isclose(residual[0] / vol[0], residual[1] / vol[1], rtol=1e-6)


def test_permanent_impact_stays_overnight() -> None:
    common = {"names": 1, "sectors": 1, "days": 2, "bucket_s": 60.0, "kernel_weights": (1.0,)}
    data = simulate(kernel_half_lives_s=(np.inf,), **common)
    truth = data.truth
    assert truth.rates_per_s.tolist() == [0.0]
    impact = decompose(data).impact.to_numpy()
    assert np.allclose(impact, data.events.flow.to_numpy() * truth.matrices[0, 0, 0], rtol=1e-12)


def test_given_names_and_labels() -> None:
    data = simulate(names=["IBM", "BAC", "AIG"], sectors=["tech", "bank", "bank"], days=1, bucket_s=300.0)
    assert data.events.names == ("IBM", "BAC", "AIG")
    assert data.truth.sectors.to_dict() == {"IBM": "tech", "BAC": "bank", "AIG": "bank"}
    assert list(data.events.factors.columns) == ["market", "tech", "bank"]
    loadings = np.asarray(data.truth.parameters["loadings"])
    assert (loadings[0, 2], loadings[1, 1], loadings[2, 1]) == (0.0, 0.0, 0.0)


def test_one_name_one_day() -> None:
    data = simulate(names=1, sectors=1, days=1, bucket_s=60.0)
    assert data.truth.betas.to_list() == pytest.approx([1.0])


def test_options_round_mid_and_without_factors() -> None:
    data = simulate(names=2, days=1, bucket_s=60.0, round_mid=True, with_factors=False)
    half_ticks = data.events.mid.to_numpy() / 0.005
    assert np.abs(half_ticks - np.rint(half_ticks)).max() < 1e-6
    assert data.events.factors is None
    with pytest.raises(DataGap, match="factors"):
        decompose(data)


def test_decompose_refuses_what_it_cannot_split(market: MarketData) -> None:
    with pytest.raises(DataGap, match="truth"):
        decompose(MarketData(market.events))
    with pytest.raises(DataGap, match="bucket_s"):
        decompose(MarketData(market.events.resample(60.0), truth=market.truth))


def test_parquet_round_trip_is_exact(market: MarketData, tmp_path: object) -> None:
    back = MarketData.from_parquet(market.to_parquet(f"{tmp_path}/market"))
    assert back.events.equals(market.events)
    assert np.array_equal(back.truth.matrices, market.truth.matrices)
    assert dict(back.truth.parameters) == dict(market.truth.parameters)


def test_future_quotes_follow_their_contract(market: MarketData) -> None:
    quotes = market.futures["SIM"]
    assert isinstance(quotes, FuturesQuotes)
    assert quotes.expiries == ("202403", "202406")
    assert len(quotes.index) == 3 * 390
    assert np.allclose((quotes.ask - quotes.bid).to_numpy(), 0.25)
    assert np.allclose(np.mod(quotes.bid.to_numpy(), 0.25), 0.0)
    assert (quotes.bid_size >= 1).all(axis=None)
    per_day = quotes.volume.sum() / 3
    assert 3e5 < per_day.sum() < 5e5
    assert per_day["202403"] > 5 * per_day["202406"]
    assert quotes.index.isin(market.events.index).all()


def test_expiries_roll_and_unlisted_ones_are_nan() -> None:
    quotes = simulate(names=1, sectors=1, days=11, bucket_s=300.0, start="2024-03-04").futures["SIM"]
    assert quotes.expiries == ("202403", "202406", "202409")
    last = quotes.bid.index >= pd.Timestamp("2024-03-15", tz="UTC")
    assert quotes.bid["202403"][last].isna().all()
    assert quotes.bid["202403"][~last].notna().all()
    assert quotes.bid["202409"][~last].isna().all()
    share = (quotes.volume["202406"] / quotes.volume.sum(axis=1)).groupby(quotes.session.to_numpy()).mean()
    assert share.iloc[0] < 0.05
    assert share[dt.date(2024, 3, 13)] > 0.6


def test_bars_adapt_to_the_bucket() -> None:
    assert simulate(names=1, sectors=1, days=1, bucket_s=45.0).futures["SIM"].bar_s == 90.0
    assert simulate(names=1, sectors=1, days=1, bucket_s=300.0).futures["SIM"].bar_s == 300.0
    assert simulate(names=1, sectors=1, days=1, bucket_s=5.0, future_bar_s=5.0).futures["SIM"].bar_s == 5.0


def test_quarterly_expiries_are_third_fridays_after_the_day() -> None:
    assert quarterly_expiries(dt.date(2013, 12, 18), 3) == (
        dt.date(2013, 12, 20),
        dt.date(2014, 3, 21),
        dt.date(2014, 6, 20),
    )
    assert quarterly_expiries(dt.date(2013, 12, 20))[0] == dt.date(2014, 3, 21)


def test_speed_is_interactive() -> None:
    started = time.process_time()
    simulate(seed=1)
    assert time.process_time() - started < 1.0


@settings(max_examples=30, deadline=None)
@given(
    names=st.integers(1, 7),
    days=st.integers(1, 2),
    seed=st.integers(0, 2**63),
    impact_r2=st.floats(0.0, 0.9),
    imbalance_scale=st.floats(0.01, 20.0),
    volume_noise_sd=st.floats(0.0, 2.0),
    life=st.sampled_from([1.0, 60.0, 86_400.0, np.inf]),
)
def test_any_admissible_parameters_give_valid_data(
    names: int,
    days: int,
    seed: int,
    impact_r2: float,
    imbalance_scale: float,
    volume_noise_sd: float,
    life: float,
) -> None:
    data = simulate(
        names=names,
        sectors=1,
        days=days,
        bucket_s=1800.0,
        seed=seed,
        impact_r2=impact_r2,
        imbalance_scale=imbalance_scale,
        volume_noise_sd=volume_noise_sd,
        kernel_half_lives_s=(life, 7.0),
        idio_vol_daily=0.002,
        market_vol_daily=0.002,
        sector_vol_daily=0.0,
    )
    truth = data.truth
    assert np.isfinite(data.events.mid.to_numpy()).all()
    assert np.linalg.eigvalsh(truth.covariance).min() > 0.0
    assert min(np.linalg.eigvalsh(matrix).min() for matrix in truth.matrices) >= 0.0
    explained = 1.0 - np.diag(truth.parameters["fundamental_covariance_per_s"]) / np.diag(truth.covariance)
    assert explained.mean() == pytest.approx(impact_r2, abs=1e-9)


def test_source_can_be_read_again() -> None:
    data = simulate(names=2, days=1, bucket_s=300.0, seed=9, tz="Europe/Paris", impact_r2=0.3, round_mid=True)
    assert read(data.source).events.equals(data.events)


def test_documented_defaults_are_the_defaults() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"
    text = page.read_text(encoding="utf-8")
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    rows = dict(re.findall(r"`(\w+) = ([^`]+)`", table))
    expected = {name: str(value) for name, value in SimulatorParameters().to_dict().items()}
    assert rows == expected
