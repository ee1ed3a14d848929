"""Stylised facts that the simulated market has to show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.model import MarketData


@pytest.fixture(scope="module")
def market() -> MarketData:
    return simulate(names=8, sectors=2, days=10, bucket_s=10.0, seed=21)


def _kurtosis(values: pd.DataFrame) -> np.ndarray:
    centred = values.dropna().to_numpy() - values.mean().to_numpy()
    return (centred**4).mean(axis=0) / (centred**2).mean(axis=0) ** 2


def _profile(market: MarketData, values: pd.DataFrame) -> np.ndarray:
    return values.mean(axis=1).to_numpy().reshape(len(market.events.days), -1).mean(axis=0)


def test_tails_are_fat_in_returns_and_flow(market: MarketData) -> None:
    assert _kurtosis(market.events.returns).min() > 3.8
    assert _kurtosis(market.events.flow).min() > 8.0
    thin = simulate(days=10, seed=21, tail_dof=200.0, vol_regime_sd=0.0, vol_u_shape=0.0, impact_r2=0.0)
    assert _kurtosis(thin.events.returns).max() < 3.2


def test_flow_remembers_for_long_and_returns_hardly(market: MarketData) -> None:
    def autocorrelation(values: pd.DataFrame, lag: int) -> float:
        return float(np.mean([values[name].autocorr(lag) for name in values]))

    flow = market.events.flow
    at = [autocorrelation(flow, lag) for lag in (1, 6, 30, 120)]
    assert at[0] > 0.12
    assert at[0] > at[1] > at[2] > at[3] > 0.01
    # Slower than one exponential through the first two points.
    assert at[3] > 10.0 * at[0] * (at[1] / at[0]) ** (119 / 5)
    assert abs(autocorrelation(market.events.returns, 1)) < 0.05


def test_flow_has_a_common_component(market: MarketData) -> None:
    correlation = market.events.flow.corr().to_numpy()
    assert correlation[:4, 4:].min() > 0.08
    assert correlation[0, 1:4].mean() > correlation[0, 4:].mean() + 0.05


def test_names_of_one_sector_move_together_more(market: MarketData) -> None:
    correlation = market.events.returns.corr().to_numpy()
    blocks = [correlation[:4, :4], correlation[4:, 4:]]
    within = np.mean([block[~np.eye(4, dtype=bool)].mean() for block in blocks])
    assert within > correlation[:4, 4:].mean() + 0.08
    assert correlation[:4, 4:].min() > 0.1


def test_volume_and_volatility_are_u_shaped(market: MarketData) -> None:
    for values in (market.events.volume, market.events.returns.pow(2)):
        profile = _profile(market, values)
        tenth = len(profile) // 10
        middle = np.nanmean(profile[4 * tenth : 6 * tenth])
        assert np.nanmean(profile[:tenth]) > 1.8 * middle
        assert np.nanmean(profile[-tenth:]) > 1.8 * middle


def test_spread_widens_and_depth_thins_with_volatility(market: MarketData) -> None:
    events = market.events
    local = events.returns.abs().mean(axis=1).rolling(60).mean()
    spread_bps = (events.spread / events.mid).mean(axis=1)
    assert spread_bps.corr(local) > 0.5
    assert events.depth.mean(axis=1).corr(local) < -0.5
    quiet, loud = local < local.quantile(0.2), local > local.quantile(0.8)
    assert spread_bps[loud].mean() > 1.3 * spread_bps[quiet].mean()
    flat = simulate(days=2, spread_vol_power=0.0, depth_vol_power=0.0, depth_noise_sd=0.0).events
    assert flat.depth.std().max() < 1e-9 * flat.depth.mean().min()


def test_spread_means_the_bps_asked_for() -> None:
    events = simulate(days=2, spread_bps=6.0, spread_vol_power=0.0).events
    assert (events.spread / events.mid * 1e4).mean().to_numpy() == pytest.approx(6.0, rel=0.02)


def test_future_follows_the_index(market: MarketData) -> None:
    index = market.events.mid @ np.asarray(market.truth.parameters["index_shares"])
    assert index.iloc[0] == pytest.approx(5000.0, rel=0.01)
    future = market.futures["SIM"].mid["202403"].dropna()
    paired = pd.DataFrame({"future": future, "index": index.reindex(future.index)})
    returns = paired.groupby(paired.index.date).pct_change().dropna()
    assert returns.corr().iloc[0, 1] > 0.97
    names = market.events.mid.reindex(future.index).pct_change()
    assert names.apply(lambda column: column.corr(returns["index"])).max() < 0.95


def test_basis_is_stationary_around_its_carry() -> None:
    data = simulate(names=4, days=8, bucket_s=60.0, seed=2, start="2024-04-01", basis_half_life_s=300.0)
    index = data.events.mid @ np.asarray(data.truth.parameters["index_shares"])
    quotes = data.futures["SIM"]
    basis_bps = (quotes.mid["202406"] / index - 1.0) * 1e4
    days = np.array([(pd.Timestamp("2024-06-21") - pd.Timestamp(day)).days for day in quotes.session])
    excess = basis_bps - (np.exp(0.04 * days / 365.0) - 1.0) * 1e4
    assert abs(excess.mean()) < 0.5
    assert excess.std() == pytest.approx(1.5, rel=0.2)
    assert excess.abs().max() < 8.0
    inside = excess.groupby(quotes.session.to_numpy()).apply(lambda day: day.autocorr(5))
    assert inside.mean() == pytest.approx(0.5, abs=0.12)  # one half-life
    calendar = quotes.mid["202409"] - quotes.mid["202406"]
    assert calendar.groupby(quotes.session.to_numpy()).std().max() < 0.35


def test_basis_without_volatility_is_carry_within_a_tick() -> None:
    data = simulate(names=2, days=1, bucket_s=60.0, basis_vol_bps=0.0, calendar_vol_bps=0.0, carry_rate=0.0)
    index = data.events.mid @ np.asarray(data.truth.parameters["index_shares"])
    gap = data.futures["SIM"].mid.sub(index, axis=0).abs()
    assert gap.max(axis=None) <= 0.125 + 1e-9
