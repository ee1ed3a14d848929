"""Kernels and their admissibility: which families admit a round trip that pays, and what it earns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim import (
    ExponentialKernel,
    PowerLawKernel,
    SampledKernel,
    ScalarKernel,
    block_toeplitz,
    check_admissible,
    kernel_cost,
)
from crosswind.solvers.errors import InvalidInput

TIMES = np.arange(40.0)


def psd(seed: int, n: int = 3) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(n, n))
    return A @ A.T * 1e-9


def test_exponential_dictionary_is_admissible() -> None:
    kernel = ExponentialKernel(np.array([0.0, 0.05, 2.0]), np.stack([psd(s) for s in range(3)]))
    verdict = check_admissible(kernel, TIMES)
    assert verdict.admissible
    assert verdict.smallest_eigenvalue > 0.0
    assert verdict.profit < 0.0
    np.testing.assert_allclose(
        kernel([3.0])[0], sum(np.exp(-b * 3.0) * k for b, k in zip([0, 0.05, 2], kernel.matrices, strict=True))
    )


@pytest.mark.parametrize("unit", [1e-15, 1e-9, 1.0, 1e9])
@pytest.mark.parametrize("slices", [2, 8, 64])
def test_permanent_kernel_is_admissible_in_any_unit(unit: float, slices: int) -> None:
    # It costs exactly nothing on round trips: all that is left there is rounding, of either sign.
    size = 10.0 ** np.linspace(-2.0, 2.0, 4)
    matrix = psd(3, 4) * np.outer(size, size) * unit
    verdict = check_admissible(ExponentialKernel(np.zeros(1), matrix[None]), 60.0 * np.arange(slices))
    assert verdict.admissible
    assert abs(verdict.smallest_eigenvalue) < 1e-13 * slices * verdict.times_s.size * np.trace(matrix)


def test_verdict_is_relative_to_the_whole_kernel() -> None:
    def dented(depth: float) -> bool:
        kernel = ScalarKernel(lambda h: 1.0 - depth * ((h == 1.0) - 0.5 * (h == 0.0)), np.eye(1) * 1e-9)
        return check_admissible(kernel, np.arange(8.0)).admissible

    assert dented(1e-11)
    assert not dented(1e-7)


@pytest.mark.parametrize("lags", [3, 7])
def test_monotone_step_kernel_pays(lags: int) -> None:
    kernel = ScalarKernel(lambda h: (h <= lags).astype(float), psd(1, 2))
    verdict = check_admissible(kernel, TIMES, notional=2e6)
    assert not verdict.admissible
    assert verdict.profit > 0.0
    trip = verdict.worst_round_trip
    np.testing.assert_allclose(trip.sum(axis=0), 0.0, atol=1e-6)
    assert np.abs(trip).sum() == pytest.approx(2e6)
    assert kernel_cost(kernel, TIMES, trip) == pytest.approx(-verdict.profit, rel=1e-9)
    assert verdict.profit_bps == pytest.approx(1e4 * verdict.profit / 2e6)
    # No random round trip of the same length earns a larger share of its squared norm.
    rng = np.random.default_rng(0)
    for _ in range(50):
        u = rng.normal(size=trip.shape)
        u -= u.mean(axis=0)
        assert 2 * kernel_cost(kernel, TIMES, u) >= (verdict.smallest_eigenvalue - 1e-15) * (u**2).sum()


def test_step_kernel_as_samples_is_the_same_kernel() -> None:
    K = psd(1, 2)
    stack = np.stack([K, np.zeros_like(K)])
    step = SampledKernel(np.array([0.0, 4.0]), stack, interpolation="previous")
    scalar = ScalarKernel(lambda h: (h <= 3).astype(float), K)
    np.testing.assert_array_equal(step(TIMES), scalar(TIMES))


def test_triangular_kernel_is_admissible() -> None:
    K = psd(2, 2)
    stack = np.stack([K, np.zeros_like(K)])
    assert check_admissible(SampledKernel(np.array([0.0, 8.0]), stack), TIMES).admissible
    assert check_admissible(ScalarKernel(lambda h: np.maximum(1 - h / 8.0, 0), K), TIMES).admissible


def test_asymmetric_matrix_pays_a_loop() -> None:
    kernel = ScalarKernel(np.ones_like, np.array([[1.0, 0.6], [0.0, 1.0]]) * 1e-9)
    verdict = check_admissible(kernel, np.arange(6.0))
    assert not verdict.admissible
    assert verdict.profit > 0.0
    symmetric = ScalarKernel(np.ones_like, np.array([[1.0, 0.3], [0.3, 1.0]]) * 1e-9)
    # Permanent symmetric impact gives every round trip back exactly, up to half of what each trade pays itself: zero.
    assert check_admissible(symmetric, np.arange(6.0)).admissible


def test_power_law_is_admissible_and_its_dictionary_is_close() -> None:
    kernel = PowerLawKernel(0.5, 10.0, psd(4))
    assert check_admissible(kernel, TIMES * 30).admissible
    close = kernel.exponential(np.geomspace(3.0, 3000.0, 10), 1800.0)
    h = np.linspace(0.0, 1800.0, 200)
    assert np.abs(close(h) - kernel(h)).max() < 0.01 * np.abs(kernel(h)).max()
    assert check_admissible(close, TIMES).admissible


def test_uneven_times_and_one_time() -> None:
    kernel = ExponentialKernel(np.array([0.1]), psd(5)[None])
    assert check_admissible(kernel, np.array([0.0, 0.5, 7.0, 7.1])).admissible
    alone = check_admissible(kernel, np.array([3.0]))
    assert alone.admissible
    assert alone.profit == 0.0
    assert "no round trip" in alone.summary()
    assert check_admissible(kernel, TIMES).to_frame().shape == (40, 3)


@settings(max_examples=25, deadline=None)
@given(
    rates=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
    gaps=st.lists(st.floats(0.01, 10.0), min_size=1, max_size=8),
)
def test_property_completely_monotone_never_pays(rates: list[float], seed: int, gaps: list[float]) -> None:
    kernel = ExponentialKernel(np.array(rates), np.stack([psd(seed + m) for m in range(len(rates))]))
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    assert check_admissible(kernel, times).admissible
    H = block_toeplitz(kernel, times)
    assert np.linalg.eigvalsh(H)[0] > -1e-9 * np.abs(H).max()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ExponentialKernel(np.array([1.0]), -np.eye(2)[None]), "matrices"),
        (lambda: ExponentialKernel(np.array([1.0, 2.0]), np.eye(2)[None]), "matrices"),
        (lambda: ExponentialKernel(np.array([np.nan]), np.eye(2)[None]), "rates_per_s"),
        (lambda: ExponentialKernel(np.array([1.0]), np.array([[[1.0, 0.5], [0.0, 1.0]]])), "not symmetric"),
        (lambda: SampledKernel(np.array([1.0, 2.0]), np.ones((2, 1, 1))), "lags_s"),
        (lambda: SampledKernel(np.array([0.0, 0.0]), np.ones((2, 1, 1))), "lags_s"),
        (lambda: SampledKernel(np.array([0.0]), np.ones((1, 1, 1)), "cubic"), "interpolation"),
        (lambda: PowerLawKernel(-1.0, 1.0, np.eye(2)), "exponent"),
        (lambda: ScalarKernel(np.ones_like, np.ones((2, 3))), "matrix"),
        (lambda: check_admissible(ScalarKernel(np.ones_like, np.eye(2)), [1.0, 0.0]), "times_s"),
        (lambda: kernel_cost(ScalarKernel(np.ones_like, np.eye(2)), [0.0, 1.0], np.ones((3, 2))), "trades"),
        (lambda: ScalarKernel(np.ones_like, np.eye(2))([-1.0]), "h_s"),
    ],
)
def test_bad_input(make: object, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "kernel",
    [lambda h: np.exp(-h / 9.0), lambda h: np.eye(2), lambda h: 1.0, lambda h: np.ones((len(h), 2, 3))],
    ids=["scalar by lag", "one matrix", "scalar", "not square"],
)
def test_own_kernel_of_another_shape_is_refused_with_the_shape_it_needs(kernel) -> None:
    with pytest.raises(InvalidInput, match=r"\(L, N, N\)") as caught:
        check_admissible(kernel, TIMES)
    assert caught.value.field == "kernel"
