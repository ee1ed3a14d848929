"""Realised variance: known diffusions with and without noise and jumps, by hand, causal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.market import simulate
from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features import (
    bipower_variance,
    daily_volatility,
    ewma_volatility,
    noise_variance,
    realised_kernel,
    realised_variance,
    rolling_volatility,
    subsampled_variance,
    two_scale_variance,
)
from crosswind.solvers.errors import InvalidInput

TRUE = 4e-4  # variance of the span: 2 %
NOISE = 2e-4  # sd of the noise on each log price


def paths(count: int = 60, n: int = 4680, seed: int = 0) -> np.ndarray:
    """Return log prices (count, n + 1) of a diffusion with variance TRUE over the span."""
    steps = np.random.default_rng(seed).standard_normal((count, n)) * np.sqrt(TRUE / n)
    return np.column_stack([np.zeros(count), np.cumsum(steps, axis=1)])


def mean(measure: object, prices: np.ndarray) -> float:
    return float(np.mean([measure(p) for p in prices])) / TRUE  # type: ignore[operator]


def test_by_hand() -> None:
    p = np.cumsum([0.0, 1.0, -2.0, 3.0, 1.0])
    assert realised_variance(p) == 15.0
    assert bipower_variance(p) == pytest.approx(np.pi / 2 * 4 / 3 * (2 + 6 + 3))
    assert subsampled_variance(p, 1) == 15.0
    # Sums over two: −1, 1, 4 on two grids, which cover 6 of the 4 returns counted by each.
    assert subsampled_variance(p, 2) == pytest.approx((1 + 1 + 16) * 4 / 6)
    assert subsampled_variance(p, 4) == 9.0
    assert noise_variance(p) == pytest.approx(15 / 8)
    n, k = 4, 2
    nbar = (n - k + 1) / k
    assert two_scale_variance(p, 2) == pytest.approx((18 / 2 - nbar / n * 15) * n / ((k - 1) * nbar))
    r = np.diff(p)
    lags = [float(r[h:] @ r[: 4 - h]) for h in range(3)]
    weights = [1 - 6 * x**2 + 6 * x**3 if x <= 0.5 else 2 * (1 - x) ** 3 for x in (1 / 3, 2 / 3)]
    assert realised_kernel(p, 2) == pytest.approx(lags[0] + 2 * (weights[0] * lags[1] + weights[1] * lags[2]))
    assert realised_kernel(p, 0) == pytest.approx(15.0)


def test_all_find_a_diffusion() -> None:
    prices = paths()
    assert mean(realised_variance, prices) == pytest.approx(1.0, abs=0.01)
    assert mean(bipower_variance, prices) == pytest.approx(1.0, abs=0.01)
    assert mean(lambda p: subsampled_variance(p, 60), prices) == pytest.approx(1.0, abs=0.05)
    assert mean(two_scale_variance, prices) == pytest.approx(1.0, abs=0.08)
    assert mean(realised_kernel, prices) == pytest.approx(1.0, abs=0.05)


def test_two_scales_lose_nothing_at_the_ends_of_a_short_sample() -> None:
    prices = paths(count=1500, n=390, seed=3)  # K is 53, so that the ends are an eighth
    assert mean(two_scale_variance, prices) == pytest.approx(1.0, abs=0.035)


def test_noise_moves_the_plain_and_not_the_robust() -> None:
    prices = paths() + NOISE * np.random.default_rng(1).standard_normal((60, 4681))
    assert mean(realised_variance, prices) == pytest.approx(1 + 2 * 4680 * NOISE**2 / TRUE, rel=0.02)
    assert mean(two_scale_variance, prices) == pytest.approx(1.0, abs=0.08)
    assert mean(realised_kernel, prices) == pytest.approx(1.0, abs=0.08)
    found = np.mean([noise_variance(p) for p in prices])
    assert found == pytest.approx(NOISE**2 + TRUE / (2 * 4680), rel=0.02)
    # And they are sharper than sampling sparsely by hand.
    sparse = np.std([subsampled_variance(p[::300], 1) for p in prices])
    assert np.std([realised_kernel(p) for p in prices]) < 0.8 * sparse


def test_jumps_move_the_plain_and_not_bipower() -> None:
    prices = paths()
    prices[:, 2000:] += 0.02  # a jump as large as the day
    assert mean(realised_variance, prices) == pytest.approx(2.0, abs=0.05)
    assert mean(bipower_variance, prices) == pytest.approx(1.0, abs=0.06)


def test_a_price_that_stands_has_no_variance() -> None:
    flat = np.full(100, 4.6)
    for measure in (realised_variance, bipower_variance, noise_variance, two_scale_variance, realised_kernel):
        assert measure(flat) == 0.0


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan], [[1.0, 2.0]], ["a", "b"], [1.0, np.inf]])
def test_bad_prices_are_refused(bad: list[object]) -> None:
    for measure in (realised_variance, bipower_variance, noise_variance, two_scale_variance, realised_kernel):
        with pytest.raises(InvalidInput):
            measure(bad)  # type: ignore[operator]


def test_bad_steps_are_refused() -> None:
    prices = np.zeros(10)
    for every in (0, 10, 1.5, True):
        with pytest.raises(InvalidInput, match="step"):
            subsampled_variance(prices, every)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="one scale"):
        two_scale_variance(prices, 1)
    with pytest.raises(InvalidInput, match="lags"):
        realised_kernel(prices, -1)


@pytest.fixture(scope="module")
def events() -> MarketEvents:
    return simulate(names=2, days=3, bucket_s=30.0, seed=5).events


def test_ewma_is_the_recursion(events: MarketEvents) -> None:
    got = ewma_volatility(events, half_life_s=300.0)
    keep, square, weight = 0.5 ** (30 / 300), 0.0, 0.0
    for k, r in enumerate(events.returns.iloc[:200, 0]):
        square, weight = keep * square, keep * weight
        if np.isfinite(r):
            square, weight = square + r * r, weight + 1.0
        if weight:
            assert got.iloc[k, 0] == pytest.approx(np.sqrt(square / weight))
        else:
            assert np.isnan(got.iloc[k, 0])


def test_rolling_is_the_mean_over_the_window(events: MarketEvents) -> None:
    got = rolling_volatility(events, window_s=300.0)
    day = events.on(events.days[1])
    r = day.returns.iloc[:, 1].to_numpy()
    row = events.index.get_loc(day.index[40])
    assert got.iloc[row, 1] == pytest.approx(np.sqrt(np.mean(r[31:41] ** 2)))
    first = events.index.get_loc(day.index[0])
    assert got.iloc[first : first + 5].isna().all(axis=None)  # needs half a window of this session
    bipower = rolling_volatility(events, 300.0, "bipower")
    want = np.sqrt(np.pi / 2 * np.mean(np.abs(r[31:41] * r[30:40])))
    assert bipower.iloc[row, 1] == pytest.approx(want)
    with pytest.raises(InvalidInput, match="two buckets"):
        rolling_volatility(events, 30.0)
    with pytest.raises(InvalidInput, match="kind"):
        rolling_volatility(events, 300.0, "other")


def test_the_future_changes_nothing(events: MarketEvents) -> None:
    row = 900
    other = replace(events, mid=events.mid.where(events.index.to_series() <= events.index[row], events.mid * 1.7))
    for measure in (ewma_volatility, rolling_volatility, lambda e: rolling_volatility(e, 600.0, "bipower")):
        a, b = measure(events), measure(other)
        pd.testing.assert_frame_equal(a.iloc[: row + 1], b.iloc[: row + 1], check_exact=True)
        assert not a.equals(b)


def test_days_find_the_simulated_truth() -> None:
    data = simulate(names=4, days=12, bucket_s=10.0, seed=9, vol_regime_sd=0.0)
    assert data.truth is not None
    found = daily_volatility(data.events)
    true = 100.0 * np.sqrt(np.diag(data.truth.covariance) * 23_400)
    mean_square = (found.table**2).groupby(level="name").mean()
    for measure, slack in (("realised", 0.05), ("bipower", 0.10), ("subsampled", 0.10), ("kernel", 0.25)):
        ratio = np.sqrt(mean_square[measure].reindex(data.events.names).to_numpy()) / true
        assert ratio == pytest.approx(np.ones(4), abs=slack), measure
    assert (found.table["jump_share"] < 0.15).all()
    assert len(found.table) == 48
    assert "realised" in found.summary()


def test_short_and_still_days(events: MarketEvents) -> None:
    one = daily_volatility(events.between(events.index[0] - pd.Timedelta(1, "s"), events.index[0]))
    assert one.table[["realised", "bipower", "kernel"]].isna().all(axis=None)
    still = replace(events, mid=events.mid * 0.0 + 50.0)
    table = daily_volatility(still).table
    assert (table[["realised", "two_scale", "kernel", "jump_share", "noise_bps"]] == 0.0).all(axis=None)
