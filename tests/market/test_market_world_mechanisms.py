"""Each mechanism: absent it changes nothing, present it leaves the mark that it promises and lists it in the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator.basis_shocks import BasisJumps
from crosswind.problems.market.simulator.breaks import CorrelationBreaks
from crosswind.problems.market.simulator.decompose import decompose
from crosswind.problems.market.simulator.mechanisms import Mechanisms
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.power_law import PowerLaw
from crosswind.problems.market.simulator.regimes import VolatilityRegimes
from crosswind.problems.market.simulator.shocks import Jumps
from crosswind.problems.market.simulator.worlds import World
from crosswind.problems.market.simulator.worlds_table import world

CALL: dict[str, Any] = {"names": 4, "sectors": 2, "bucket_s": 30.0, "seed": 3}
# A quick volatility process makes sample moments sharp.
SHARP = SimulatorParameters(regime_half_life_s=60.0)


def draw(days: int = 2, market: SimulatorParameters = SHARP, **mechanisms: Any) -> MarketData:
    return simulate(world=World("test", 1, market=market, mechanisms=Mechanisms(**mechanisms)), days=days, **CALL)


def tables(data: MarketData) -> list[pd.DataFrame]:
    events, quotes = data.events, data.futures["SIM"]
    assert events.factors is not None
    frames = [events.flow, events.mid, events.spread, events.volume, events.depth, events.factors]
    return [*frames, quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size, quotes.volume]


def states_of(data: MarketData) -> np.ndarray:
    """Return the regime of every bucket, rebuilt from the changes that the truth lists."""
    path = data.truth.parameters["regime_path"]
    changes = pd.Series([state for _, state in path], index=pd.DatetimeIndex([time for time, _ in path]))
    return changes.reindex(data.events.index, method="ffill").to_numpy()


@pytest.mark.parametrize(
    "off",
    [
        {"regimes": VolatilityRegimes(volatility=1.0, volume=1.0)},
        {"jumps": Jumps(market_per_day=0.0, name_per_day=0.0)},
        {"jumps": Jumps(market_sd=0.0, name_sd=0.0)},
        {"basis_jumps": BasisJumps(per_day=0.0)},
        {"breaks": CorrelationBreaks(probability=0.0)},
        {"breaks": CorrelationBreaks(coupling=1.0)},
    ],
)
def test_a_mechanism_without_effect_changes_no_byte(off: dict[str, Any]) -> None:
    plain = simulate(regime_half_life_s=60.0, days=2, **CALL)
    for left, right in zip(tables(plain), tables(draw(**off)), strict=True):
        pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_regimes_switch_at_their_rates_and_multiply_volatility_and_volume() -> None:
    chain = VolatilityRegimes(calm_s=1200.0, stressed_s=600.0, volatility=2.5, volume=1.8, future_ticks=2)
    wide = replace(SHARP, spread_bps=50.0)  # many ticks, so that rounding to whole ones does not matter
    data, quiet = draw(days=60, regimes=chain, market=wide), draw(days=60, market=wide)
    states = states_of(data)
    assert states.mean() == pytest.approx(chain.stressed_share(30.0), abs=0.03)
    leaves = (np.diff(states) == -1).sum() / (states[:-1] == 1).sum()
    assert leaves == pytest.approx(chain.switching(30.0)[1], rel=0.15)
    ratio = np.where(states == 1, 1.8, 1.0)[:, None]
    assert np.allclose(data.events.volume / quiet.events.volume, ratio, rtol=1e-12)
    assert np.allclose(data.events.flow / quiet.events.flow, ratio, rtol=1e-9)
    noise, calm_noise = decompose(data).noise.to_numpy(), decompose(quiet).noise.to_numpy()
    inside = np.isfinite(noise).all(axis=1)
    multiplier = np.where(states == 1, 2.5, 1.0)[inside, None]
    assert np.allclose(noise[inside], multiplier * calm_noise[inside], atol=1e-12)
    depth = (data.events.depth / quiet.events.depth).to_numpy()
    assert np.allclose(depth, np.where(states == 1, 1.0 / 2.5, 1.0)[:, None], rtol=1e-9)
    spread = data.events.spread.to_numpy() / data.events.mid.to_numpy()
    assert spread[states == 1].mean() / spread[states == 0].mean() == pytest.approx(2.5, rel=0.1)
    quotes = data.futures["SIM"]
    front = quotes.bid.columns[0]
    width = ((quotes.ask[front] - quotes.bid[front]) / quotes.tick).dropna()
    at_bar = pd.Series(states, index=data.events.index).reindex(width.index)
    assert np.allclose(width, np.where(at_bar == 1, 2.0, 1.0))


def test_covariance_is_right_on_average_and_in_each_regime() -> None:
    chain = VolatilityRegimes(calm_s=1200.0, stressed_s=1200.0, volatility=2.0, volume=1.5)
    jumps = Jumps(market_per_day=6.0, market_sd=0.003, name_per_day=6.0, name_sd=0.004)
    data = draw(days=150, regimes=chain, jumps=jumps, market=replace(SHARP, impact_r2=0.3))
    returns = data.events.returns.to_numpy()
    inside = np.isfinite(returns).all(axis=1)
    states = states_of(data)
    truth = data.truth
    own = np.sqrt(np.diag(truth.covariance))
    assert np.abs((np.cov(returns[inside].T) / 30.0 - truth.covariance) / np.outer(own, own)).max() < 0.06
    for state in (0, 1):
        expected = np.asarray(truth.parameters["covariance_by_regime"][state])
        found = np.cov(returns[inside & (states == state)].T) / 30.0
        own = np.sqrt(np.diag(expected))
        assert np.abs((found - expected) / np.outer(own, own)).max() < 0.08


def test_jumps_are_the_difference_of_the_returns_and_stand_in_the_truth() -> None:
    jumps = Jumps(market_per_day=2.0, market_sd=0.004, name_per_day=1.0, name_sd=0.006)
    data, quiet = draw(days=40, jumps=jumps), draw(days=40)
    parts, plain = decompose(data), decompose(quiet)
    assert parts.jumps is not None
    inside = parts.noise.notna().all(axis=1)
    assert np.allclose(parts.noise[inside], plain.noise[inside], atol=1e-12)
    assert np.allclose(parts.factor, plain.factor, atol=1e-15)
    difference = (data.events.returns - quiet.events.returns)[inside]
    assert np.allclose(difference, parts.jumps[inside], atol=1e-12)
    total = parts.factor + parts.impact + parts.noise + parts.jumps
    assert np.allclose(total[inside], data.events.returns[inside], atol=1e-15)
    listed = pd.DataFrame(data.truth.parameters["jumps"], columns=["time", "name", "size"])
    market = listed[listed["name"] == "market"]
    assert len(market) == pytest.approx(80, abs=4 * np.sqrt(80))
    assert market["size"].std() == pytest.approx(0.004, rel=0.25)
    assert len(listed) - len(market) == pytest.approx(160, abs=4 * np.sqrt(160))
    shares = parts.shares()
    assert (shares["jumps"] > 0.01).all()
    assert shares.sum(axis=1).between(0.9, 1.1).all()
    assert "jumps" in parts.summary()
    assert "jumps" in parts.to_frame().columns.get_level_values(0)


def test_jumps_of_the_market_are_in_its_factor() -> None:
    data, quiet = draw(jumps=Jumps(market_per_day=5.0)), draw()
    moved = (data.events.factors["market"] - quiet.events.factors["market"]).to_numpy()
    listed = [(time, size) for time, name, size in data.truth.parameters["jumps"] if name == "market"]
    assert np.flatnonzero(moved).size == len(listed) > 3
    for time, size in listed:
        assert moved[data.events.index.get_loc(pd.Timestamp(time))] == pytest.approx(size, rel=1e-9)


def test_basis_jumps_move_both_expiries_and_decay() -> None:
    law = BasisJumps(per_day=3.0, sd_bps=20.0, half_life_s=600.0)
    data, quiet = draw(days=4, basis_jumps=law), draw(days=4)
    index = (data.events.mid * np.asarray(data.truth.parameters["index_shares"])).sum(axis=1)
    quotes = data.futures["SIM"]
    moved = (quotes.mid - quiet.futures["SIM"].mid).div(index.reindex(quotes.mid.index), axis=0)
    expected = pd.Series(0.0, index=quotes.mid.index)
    for time, size in data.truth.parameters["basis_jumps"]:
        start = pd.Timestamp(time)
        after = (expected.index >= start) & (expected.index.date == start.date())
        expected[after] += size * 0.5 ** ((expected.index[after] - start).total_seconds() / 600.0)
    assert expected.abs().max() > 1e-3
    assert np.allclose(moved, np.tile(expected.to_numpy()[:, None], 2), atol=1.01 * quotes.tick / index.min())
    pd.testing.assert_frame_equal(data.events.mid, quiet.events.mid, check_exact=True)


def test_correlation_breaks_lower_betas_to_the_future_inside_their_windows_only() -> None:
    law = CorrelationBreaks(probability=0.8, length_s=9_000.0, coupling=0.2, gap_half_life_s=1e9)
    # Flat sessions: windows lie in the middle more often than at the ends, where moves are larger.
    flat = replace(SHARP, vol_u_shape=0.0, volume_u_shape=0.0, tail_dof=20.0)
    settings = replace(flat, future_tick=0.001, basis_vol_bps=0.0, calendar_vol_bps=0.0, future_bar_s=30.0)
    data = draw(days=60, breaks=law, market=settings)  # more days, and the index' weights drift
    truth = data.truth
    windows = truth.parameters["break_windows"]
    assert len(windows) == pytest.approx(48, abs=4 * np.sqrt(60 * 0.16))
    inside = np.zeros(len(data.events.index), dtype=bool)
    for start, end, coupling in windows:
        assert coupling == 0.2
        assert (pd.Timestamp(end) - pd.Timestamp(start)).total_seconds() == 9_000.0
        inside |= (data.events.index > pd.Timestamp(start)) & (data.events.index <= pd.Timestamp(end))
    # The front's mid per session, which never rolls within one.
    mid = data.futures["SIM"].mid.bfill(axis=1).iloc[:, 0]
    future = mid.groupby(data.events.session.to_numpy()).pct_change().to_numpy()
    returns = data.events.returns.to_numpy()
    usable = np.isfinite(returns).all(axis=1) & np.isfinite(future)

    def betas(rows: np.ndarray) -> np.ndarray:
        return np.asarray(returns[rows].T @ future[rows] / (future[rows] @ future[rows]))

    assert np.abs(betas(usable & ~inside) - truth.betas.to_numpy()).max() < 0.08
    expected = np.asarray(truth.parameters["betas_in_break"])
    assert np.abs(betas(usable & inside) - expected).max() < 0.08
    assert (expected < 0.85 * truth.betas.to_numpy()).all()
    for rows, covariance in (
        (usable & ~inside, truth.covariance),
        (usable & inside, np.asarray(truth.parameters["covariance_in_break"])),
    ):
        own = np.sqrt(np.diag(covariance))
        assert np.abs((np.cov(returns[rows].T) / 30.0 - covariance) / np.outer(own, own)).max() < 0.05
    # What the market moves less, the names move by themselves.
    assert np.allclose(np.diag(truth.parameters["covariance_in_break"]), np.diag(truth.covariance), rtol=1e-12)


def test_decomposition_knows_the_windows() -> None:
    law = CorrelationBreaks(probability=1.0, length_s=3_600.0, coupling=0.4)
    data, quiet = draw(breaks=law), draw()
    parts, plain = decompose(data), decompose(quiet)
    start, end, _ = data.truth.parameters["break_windows"][0]
    inside = (data.events.index > pd.Timestamp(start)) & (data.events.index <= pd.Timestamp(end))
    own = parts.noise.notna().all(axis=1).to_numpy()
    day = data.events.session.to_numpy() == data.events.days[0]
    outside = own & ~inside & day
    assert np.allclose(parts.noise[outside], plain.noise[outside], atol=1e-12)
    lost = data.events.factors.to_numpy()[:, :1] * np.asarray(data.truth.parameters["loadings"])[:, 0] * (0.4 - 1.0)
    assert np.allclose((parts.factor - plain.factor)[inside & day], lost[inside & day], atol=1e-15)
    assert not np.allclose(parts.noise[inside & own], plain.noise[inside & own], atol=1e-6)


@pytest.mark.parametrize(("exponent", "scale_s"), [(0.05, 1.0), (0.2, 20.0), (0.45, 20.0), (0.8, 20.0), (0.95, 300.0)])
def test_power_law_is_followed_within_a_percent_up_to_its_horizon(exponent: float, scale_s: float) -> None:
    law = PowerLaw(exponent=exponent, scale_s=scale_s)
    lives, weights = law.modes()
    assert sum(weights) == pytest.approx(1.0, abs=1e-12)
    assert min(weights) > 0.0
    ages = np.array([0.0, 1.0, 10.0, 100.0, 1000.0, 5000.0, 10_000.0, law.horizon_s])
    found = (np.asarray(weights) * 0.5 ** (ages[:, None] / np.asarray(lives))).sum(axis=1)
    assert np.abs(found / law.decay(ages) - 1.0).max() < 0.01
    assert law.decay(np.array([scale_s]))[0] == pytest.approx(2.0**-exponent)


def test_misspecified_truth_is_the_power_law_and_is_not_separable() -> None:
    truth = simulate(world="misspecified", names=4, days=1, bucket_s=60.0).truth
    law = PowerLaw(**truth.parameters["power_law"])
    ages = np.array([0.0, 60.0, 600.0, 6000.0])
    kernel = np.tensordot(np.exp(-ages[:, None] * truth.rates_per_s), truth.matrices, axes=1)
    own = np.diagonal(kernel, axis1=1, axis2=2)
    assert np.abs(own / own[0] / law.decay(ages)[:, None] - 1.0).max() < 0.01
    cross = kernel[:, 0, 3] / np.sqrt(own[:, 0] * own[:, 3])
    assert cross[-1] > 1.2 * cross[0]
    assert min(np.linalg.eigvalsh(matrix).min() for matrix in truth.matrices) > 0.0


def test_zero_impact_is_calm_without_the_kernel() -> None:
    calm, zero = (simulate(world=name, days=1, names=4, bucket_s=60.0, seed=2) for name in ("calm", "zero_impact"))
    assert not zero.truth.matrices.any()
    assert calm.truth.matrices.any()
    pd.testing.assert_frame_equal(calm.events.flow, zero.events.flow, check_exact=True)
    pd.testing.assert_frame_equal(calm.events.factors, zero.events.factors, check_exact=True)
    left, right = decompose(calm).noise.iloc[1:], decompose(zero).noise.iloc[1:]
    assert np.allclose(left, right, atol=1e-13)


def test_calendar_brings_holidays_and_half_days() -> None:
    data = simulate(world="calm", calendar="XNYS", start="2024-07-02", days=3, names=2, sectors=1, seed=1)
    counts = data.events.session.value_counts().sort_index()
    assert [str(day) for day in counts.index] == ["2024-07-02", "2024-07-03", "2024-07-05"]
    assert counts.tolist() == [2340, 1260, 2340]  # the third closes at one o'clock
    assert data.truth.parameters["calendar"] == "XNYS"
    closed = simulate(calendar="XNYS", start="2024-07-02", days=2, names=2, sectors=1, holidays=["2024-07-03"])
    assert [str(day) for day in closed.events.days] == ["2024-07-02", "2024-07-05"]
    pd.testing.assert_frame_equal(
        simulate(calendar="XNYS", days=2, names=2, sectors=1).events.mid,
        simulate(days=2, names=2, sectors=1).events.mid,
        check_exact=True,
    )


def test_funding_world_never_closes() -> None:
    data = simulate(world="funding", days=7, bucket_s=300.0, seed=4)
    assert data.events.session.value_counts().tolist() == [288] * 7
    assert np.all(np.diff(data.events.index.asi8) == 300_000_000_000)
    rates = data.funding["PERP"].rates
    assert set(rates.index.hour) == {0, 8, 16}
    assert len(rates) == 21
    truth = data.truth.parameters
    index = (data.events.mid * np.asarray(truth["index_shares"])).sum(axis=1)
    frame = data.bars["PERP"].frame
    premium = 0.5 * (frame["bid_close"] + frame["ask_close"]) / index - 1.0
    mean = 1e-4 * world("funding").perpetual.premium_mean_bps
    parts = mean + np.asarray(truth["perpetual_demand"]) + np.asarray(truth["perpetual_basis"])
    assert np.allclose(premium, parts, atol=2e-5)
    # Buckets longer than the averaging window: two of the three prices whose median is the mark are the mid itself.
    assert np.allclose(truth["perpetual_mark"], 0.5 * (frame["bid_close"] + frame["ask_close"]), rtol=1e-12)


def test_roll_day_has_spread_and_legs_and_volume_moves_on() -> None:
    data = simulate(world="roll_day", days=4, names=2, sectors=1, seed=4)
    (spread,) = data.spreads.values()
    quotes = data.futures["SIM"]
    near, far = quotes.volume.columns
    assert (spread.near, spread.far) == (near, far)
    by_day = quotes.volume.groupby(quotes.volume.index.date).sum()
    share = by_day[far] / by_day.sum(axis=1)
    assert share.is_monotonic_increasing
    assert share.iloc[-1] > 0.5 > share.iloc[0]
    assert (spread.bid >= quotes.bid[far] - quotes.ask[near] - 1e-9).all()
    assert (spread.ask <= quotes.ask[far] - quotes.bid[near] + 1e-9).all()
    mid = np.asarray(data.truth.parameters["roll_mid"])
    assert np.abs(spread.mid.to_numpy() - mid).mean() < 2.0 * spread.tick
    # The near leg is the world's own future: it stands on the index with its carry and basis.
    index = (data.events.mid * np.asarray(data.truth.parameters["index_shares"])).sum(axis=1)
    assert (quotes.mid[near] / index - 1.0).abs().max() < 1e-3


def test_desks_differ_by_world() -> None:
    calm, often = (simulate(world=name, days=3, seed=5).desk for name in ("calm", "revisions"))
    assert calm is not None
    assert often is not None

    def rates(desk: Any) -> tuple[float, float]:
        revised = np.mean([bool(order.revisions) for order in desk.orders])
        return float(revised), float(np.mean([order.cancelled_at is not None for order in desk.orders]))

    assert rates(often)[0] > rates(calm)[0] + 0.2
    assert rates(often)[1] > rates(calm)[1]
    assert {order.kind for order in calm.orders} >= {"lumpy", "block", "two_sided"}


@pytest.mark.parametrize(
    ("record", "values"),
    [
        (VolatilityRegimes, {"calm_s": 0.0}),
        (VolatilityRegimes, {"volatility": 0.9}),
        (VolatilityRegimes, {"volume": float("nan")}),
        (VolatilityRegimes, {"future_ticks": 1.5}),
        (Jumps, {"market_sd": -0.1}),
        (Jumps, {"name_per_day": float("inf")}),
        (BasisJumps, {"half_life_s": 0.0}),
        (BasisJumps, {"per_day": True}),
        (CorrelationBreaks, {"coupling": 1.1}),
        (CorrelationBreaks, {"probability": -0.1}),
        (CorrelationBreaks, {"length_s": "long"}),
        (PowerLaw, {"exponent": 1.0}),
        (PowerLaw, {"scale_s": 0.0}),
    ],
)
def test_bad_numbers_are_named(record: Any, values: dict[str, Any]) -> None:
    from crosswind.solvers.errors import InvalidInput

    with pytest.raises(InvalidInput) as caught:
        record(**values)
    (name,) = values
    assert name in str(caught.value)
