"""Stylised facts: closed forms of the statistics, and worlds in which each fact was planted or left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import read_lean, simulate
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features import (
    autocorrelation,
    compare_facts,
    epps_curve,
    hill_index,
    kurtosis,
    loglog_slope,
    response_function,
    stylised_facts,
)
from crosswind.solvers.errors import InvalidInput

S = 1_000_000_000


def test_hill_finds_the_exponent_of_pareto_draws() -> None:
    rng = np.random.default_rng(0)
    for alpha in (2.0, 3.0, 5.0):
        x = rng.pareto(alpha, 100_000) + 1.0
        x *= rng.choice([-1, 1], len(x))
        assert hill_index(x) == pytest.approx(alpha, rel=3 / np.sqrt(5000))
    by_hand = np.concatenate([np.ones(190), np.full(10, np.e)])
    assert hill_index(by_hand) == pytest.approx(1.0)  # ln(e/1) = 1 on each of the ten largest


def test_hill_of_what_has_no_tail() -> None:
    assert np.isnan(hill_index(np.zeros(1000)))
    assert np.isnan(hill_index(np.ones(1000)))
    assert np.isnan(hill_index(np.arange(50.0)))
    assert np.isnan(hill_index([]))
    with pytest.raises(InvalidInput, match="share"):
        hill_index(np.arange(9.0), 1.0)
    with pytest.raises(InvalidInput, match="not finite"):
        hill_index([np.inf])


def test_kurtosis_of_known_laws() -> None:
    rng = np.random.default_rng(1)
    assert kurtosis(rng.standard_normal(200_000)) == pytest.approx(3.0, abs=0.05)
    assert kurtosis(rng.uniform(size=200_000)) == pytest.approx(1.8, abs=0.02)
    assert kurtosis(np.append(rng.choice([-1.0, 1.0], 1000), np.nan)) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(kurtosis(np.full(5, 2.0)))


def test_autocorrelation_of_an_ar1() -> None:
    from scipy.signal import lfilter

    x = lfilter([1.0], [1.0, -0.8], np.random.default_rng(2).standard_normal(200_000))
    assert autocorrelation(x, 5) == pytest.approx(0.8 ** np.arange(6), abs=0.02)


def test_autocorrelation_is_the_sum_over_pairs_of_one_session() -> None:
    rng = np.random.default_rng(3)
    x, session = rng.standard_normal(60), np.repeat(["a", "b", "c"], [30, 10, 20])
    x[[4, 33]] = np.nan
    got = autocorrelation(x, 12, session)
    c = x - np.nanmean(x)
    for lag in range(13):
        pairs = [c[i] * c[i + lag] for i in range(60 - lag) if session[i] == session[i + lag]]
        assert got[lag] == pytest.approx(np.nanmean(pairs) / np.nanmean(c**2))
    assert np.isnan(autocorrelation(np.ones(10), 3)).all()
    assert np.isnan(autocorrelation([1.0, 2.0], 3)[2:]).all()
    with pytest.raises(InvalidInput, match="one label per value"):
        autocorrelation(x, 3, ["a"])
    with pytest.raises(InvalidInput, match="number of lags"):
        autocorrelation(x, -1)


def test_loglog_slope_of_a_power_law() -> None:
    lags = np.arange(1, 50)
    assert loglog_slope(lags, 0.3 * lags**-0.6) == pytest.approx(-0.6)
    values = 0.3 * lags**-0.6
    values[10] = -1.0  # negative ones are left out
    assert loglog_slope(lags, values) == pytest.approx(-0.6)
    assert np.isnan(loglog_slope([1, 2], [1.0, 1.0]))
    with pytest.raises(InvalidInput, match="positive"):
        loglog_slope([0, 1], [1.0, 1.0])


def test_epps_curve_of_asynchronous_brownian_motions() -> None:
    """Poisson ticks on correlated motions: ρ(h) = ρ (1 − (1 − e^{−λh})/(λh)), λ the rate at which each ticks."""
    rng = np.random.default_rng(4)
    n, rho, rate = 400_000, 0.8, 0.5  # a grid of 0.1 s, a tick every 2 s
    steps = rng.standard_normal((n, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T
    path = np.cumsum(steps, axis=0) * 1e-5
    grid = np.arange(1, n + 1, dtype=np.int64) * (S // 10)
    ticked = rng.random((n, 2)) < rate * 0.1
    ticked[0] = True
    curve = epps_curve(
        [grid[t] for t in ticked.T],
        [path[t, k] for k, t in enumerate(ticked.T)],
        (1, 3, 10, 40),
        int(grid[0]),
        int(grid[-1]),
    )
    x = rate * curve.index.to_numpy()
    assert curve.to_numpy() == pytest.approx(rho * (1 - (1 - np.exp(-x)) / x), abs=0.03)
    still = epps_curve([grid, grid], [path[:, 0], np.zeros(n)], (10,), int(grid[0]), int(grid[-1]))
    assert np.isnan(still.iloc[0])
    with pytest.raises(InvalidInput, match="no tick by the start"):
        epps_curve([grid, grid], [path[:, 0], path[:, 1]], (10,), 0, S)
    with pytest.raises(InvalidInput, match="two names"):
        epps_curve([grid], [path[:, 0]], (10,), 0, S)


def test_response_by_hand_and_of_a_known_kernel() -> None:
    sign, level = [1, -1, 0, 1], [10.0, 11.0, 9.0, 9.5]
    assert response_function(sign, level, [1, 2, 9])[:2].tolist() == pytest.approx([(1 + 2) / 2, (-1 + 1.5) / 2])
    assert np.isnan(response_function(sign, level, [9])[0])
    assert response_function(sign, level, [1], ["a", "a", "b", "b"])[0] == 1.0
    rng = np.random.default_rng(5)
    eps = rng.choice([-1.0, 1.0], 50_000)
    kernel = 0.5 * 0.7 ** np.arange(30) + 0.5  # transient and permanent
    price = np.append(0.0, np.convolve(eps, kernel)[: len(eps)])[:-1]  # m before trade t
    # Independent signs: R(h) = G_{h−1}.
    assert response_function(eps, price, [1, 2, 5, 20]) == pytest.approx(kernel[[0, 1, 4, 19]], abs=0.05)
    with pytest.raises(InvalidInput, match="negative"):
        response_function(sign, level, [-1])


@pytest.fixture(scope="module")
def sim() -> MarketEvents:
    return simulate(names=3, sectors=1, days=6, bucket_s=10.0, seed=12).events


def test_facts_of_the_simulator_are_those_it_was_given(sim: MarketEvents) -> None:
    facts = stylised_facts(sim, tick=0.01)
    f = facts.to_frame()
    assert list(f.index) == list(sim.names)
    assert (f["kurtosis"] > 3.5).all()
    assert (f["hill"] > 2.5).all()
    assert (f["abs_acf_60s"] > 0.0).all()
    assert (f["sign_acf_1"] > f["sign_acf_60s"]).all()
    assert (f["sign_slope"] < -0.2).all()
    assert (f["open_volume"] > 1.8).all()
    assert (f["spread_vol_corr"] > 0.5).all()
    assert (f["depth_vol_corr"] < -0.5).all()
    assert (f["impact_corr"] > 0.2).all()
    assert f["spread_bps"].mean() == pytest.approx(2.5, rel=0.3)
    assert f["epps_ratio"].mean() == pytest.approx(1.0, abs=0.25)  # the simulator ticks synchronously
    assert facts.tails.loc[sim.names[0], "returns"].iloc[0] == 6 * 2339
    assert facts.days == 6
    assert "kurtosis" in facts.summary()


def test_facts_left_out_are_not_found() -> None:
    thin = simulate(
        names=2, sectors=1, days=6, bucket_s=10.0, seed=13, tail_dof=200.0, vol_regime_sd=0.0, vol_u_shape=0.0,
        volume_u_shape=0.0, impact_r2=0.0, flow_weights=(0.0, 0.0, 0.0), market_vol_daily=0.0, sector_vol_daily=0.0,
    ).events  # fmt: skip
    f = stylised_facts(thin).to_frame()
    error = 3 / np.sqrt(6 * 2339)
    assert (f["kurtosis"] < 3.3).all()
    for fact in ("abs_acf_60s", "abs_acf_600s", "sign_acf_1", "sign_acf_60s", "impact_corr"):
        assert (f[fact].abs() < error + 0.01).all(), fact
    for fact in ("open_volume", "close_volume", "open_vol", "close_vol"):
        assert f[fact].to_numpy() == pytest.approx(np.ones(2), abs=0.15)
    assert (f["correlation"].abs() < 0.15).all()


def test_epps_and_response_by_hand(sim: MarketEvents) -> None:
    facts = stylised_facts(sim)
    a, b = sim.names[:2]
    level = np.log(sim.mid)
    moves = level.groupby(sim.session.to_numpy()).diff(6).dropna()
    assert facts.epps.loc[60.0, f"{a}/{b}"] == pytest.approx(moves[a].corr(moves[b]))
    before = level.groupby(sim.session.to_numpy()).shift(1)
    after = before.groupby(sim.session.to_numpy()).shift(-6)
    want = (np.sign(sim.flow[a]) * (after[a] - before[a])).mean() * 1e4
    assert facts.response.loc[60.0, a] == pytest.approx(want)


def test_spread_and_depth_distributions() -> None:
    events = simulate(names=2, days=1, bucket_s=60.0, spread_vol_power=0.0).events
    ticks = pd.DataFrame(np.tile([[1.0], [2.0], [3.0]], (130, 2)), index=events.index, columns=list(events.names))
    events = replace(events, spread=0.05 * ticks)
    q = stylised_facts(events, tick=0.05).quantiles
    assert q.loc["spread_ticks"].iloc[:, 0].tolist() == pytest.approx([1, 1, 2, 3, 3])
    assert stylised_facts(events).quantiles.loc[("spread_ticks", 0.5)].tolist() == pytest.approx([2, 2])
    f = stylised_facts(events, tick=0.05).to_frame()
    assert f["spread_one_tick"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert f["spread_cv"].tolist() == pytest.approx([np.sqrt(2 / 3) / 2] * 2)


def test_still_and_silent_markets_have_no_facts() -> None:
    events = simulate(names=2, days=2, bucket_s=60.0, seed=1).events
    nothing = events.volume * 0.0
    dead = replace(events, flow=nothing, volume=nothing, mid=events.mid * 0.0 + 50.0, spread=nothing, depth=nothing)
    f = stylised_facts(dead).to_frame()
    for fact in (
        "hill",
        "kurtosis",
        "return_acf_1",
        "flow_acf_1",
        "sign_acf_1",
        "impact_corr",
        "correlation",
        "volume_vol_corr",
    ):
        assert f[fact].isna().all(), fact
    assert (f["volatility_pct"] == 0.0).all()
    assert (f["sign_zero"] == 1.0).all()
    one = stylised_facts(events.select([events.names[0]]))
    assert one.epps.shape[1] == 0
    assert np.isnan(one.to_frame()["correlation"].iloc[0])


def test_bad_input_is_typed(sim: MarketEvents) -> None:
    with pytest.raises(InvalidInput, match="not MarketEvents"):
        stylised_facts(sim.flow)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="fewer than 30"):
        stylised_facts(sim.resample(1800.0))
    with pytest.raises(InvalidInput, match="horizons_s"):
        stylised_facts(sim, horizons_s=(-1.0,))
    with pytest.raises(InvalidInput, match="tick"):
        stylised_facts(sim, tick=0.0)
    with pytest.raises(InvalidInput, match="unknown name"):
        stylised_facts(sim).only("nobody")
    with pytest.raises(InvalidInput, match="no facts"):
        compare_facts({})


def test_side_by_side_and_drawn(sim: MarketEvents) -> None:
    pytest.importorskip("plotly")
    facts = stylised_facts(sim)
    both = compare_facts({"all": facts, "one": facts.only(sim.names[0])})
    assert list(both) == ["all", "one"]
    assert both.loc["kurtosis", "one"] == facts.scalars["kurtosis"].iloc[0]
    assert len(facts.plot().data) == 8 * 3
    assert len(stylised_facts(sim.select([sim.names[0]])).plot().data) == 8
    assert "<table" in facts._repr_html_()


@pytest.mark.data
def test_recorded_equities_show_them(lean_dir: object) -> None:
    events = read_lean(str(lean_dir), ["SPY", "BAC"], ["2013-10-08"], 10.0, futures=()).events
    f = stylised_facts(events, tick=0.01).to_frame()
    assert (f["kurtosis"] > 4.0).all()
    assert (f["spread_one_tick"] > 0.95).all()
    assert (f["open_volume"] > 1.5).all()
    assert (f["close_volume"] > 1.5).all()
    assert (f["impact_corr"] > 0.4).all()
    assert (f["volume_vol_corr"] > 0.3).all()
    assert (f["epps_ratio"] < 0.9).all()
