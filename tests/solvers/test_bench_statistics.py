"""Quantiles, means, profiles and intervals against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crosswind.solvers.bench.statistics import (
    bootstrap_ratio,
    performance_profile,
    quantile,
    shift_of,
    shifted_geometric_mean,
)
from crosswind.solvers.errors import InvalidInput


def test_a_tail_needs_its_samples():
    values = np.arange(1.0, 1001.0)
    assert quantile(values, 0.99) == 990.0
    assert quantile(values, 0.999) == 999.0
    assert math.isnan(quantile(values[:999], 0.999))
    assert math.isnan(quantile(values[:99], 0.99))
    assert quantile(values[:1], 0.0) == 1.0
    assert math.isnan(quantile([], 0.5))


def test_the_shifted_mean_lies_between_geometric_and_arithmetic():
    times = [1e-4, 1e-3, 1.0]
    geometric = shifted_geometric_mean(times, 0.0)
    assert geometric == pytest.approx((1e-4 * 1e-3 * 1.0) ** (1 / 3))
    assert shifted_geometric_mean(times, 1e9) == pytest.approx(np.mean(times), rel=1e-3)
    assert geometric < shifted_geometric_mean(times, shift_of(times)) < np.mean(times)
    assert shift_of(times) == pytest.approx(1e-4)
    assert shift_of([]) == 0.0


def test_a_fixed_shift_of_ten_seconds_cannot_tell_microseconds_apart():
    fast, slow = np.full(50, 1e-5), np.full(50, 1e-3)
    for fixed in (10.0,):
        with_failure = [shifted_geometric_mean([*t, 1000.0], fixed) for t in (fast, slow)]
        assert with_failure[1] / with_failure[0] < 1.01
    ours = shift_of([*fast, *slow])
    with_failure = [shifted_geometric_mean([*t, 1000.0], ours) for t in (fast, slow)]
    assert with_failure[1] / with_failure[0] > 10.0


def test_zero_times_need_a_shift():
    assert shifted_geometric_mean([0.0, 0.0], 1.0) == pytest.approx(0.0)
    with pytest.raises(InvalidInput, match="positive"):
        shifted_geometric_mean([0.0], 0.0)
    with pytest.raises(InvalidInput):
        shifted_geometric_mean([-1.0], 2.0)
    assert math.isnan(shifted_geometric_mean([], 1.0))


def test_profiles_of_three_programs():
    tau, curves = performance_profile({"a": [1.0, 2.0, math.inf], "b": [2.0, 1.0, math.nan]}, points=50)
    assert tau[0] == 1.0
    assert curves["a"][0] == pytest.approx(1 / 3)
    assert curves["a"][tau >= 2.0 * (1 + 1e-9)][0] == pytest.approx(2 / 3)
    # nobody solved the third: no curve gets over two thirds
    assert max(curves["a"].max(), curves["b"].max()) == pytest.approx(2 / 3)
    assert np.all(np.diff(curves["b"]) >= 0.0)


def test_the_fastest_solver_of_all_starts_at_one():
    _, curves = performance_profile({"a": [1.0, 1.0], "b": [3.0, 30.0]})
    assert curves["a"].min() == 1.0
    assert curves["b"][0] == 0.0
    assert curves["b"][-1] == 1.0


@pytest.mark.parametrize("times", [{}, {"a": []}, {"a": [1.0], "b": [1.0, 2.0]}])
def test_profiles_need_the_same_programs(times: dict[str, list[float]]):
    with pytest.raises(InvalidInput, match="same programs"):
        performance_profile(times)


def test_the_bootstrap_covers_a_known_ratio():
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(100):
        base = 10.0 ** rng.uniform(-5, 0, 40)
        ratio, low, high = bootstrap_ratio(base, base * 1.3 * np.exp(rng.normal(0, 0.2, 40)), seed=seed, draws=400)
        assert low <= ratio <= high
        hits += low <= 1.3 <= high
    assert 85 <= hits <= 100


def test_the_bootstrap_repeats_itself_and_inverts():
    a, b = [1.0, 2.0, 5.0], [1.5, 1.0, 6.0]
    assert bootstrap_ratio(a, b, seed=1) == bootstrap_ratio(a, b, seed=1)
    forth, back = bootstrap_ratio(a, b), bootstrap_ratio(b, a)
    assert forth[0] * back[0] == pytest.approx(1.0)


@pytest.mark.parametrize("pair", [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [math.nan])])
def test_the_bootstrap_refuses_what_is_no_pair(pair: tuple[list[float], list[float]]):
    with pytest.raises(InvalidInput, match="pairs"):
        bootstrap_ratio(*pair)
