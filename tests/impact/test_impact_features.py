from __future__ import annotations

import math

import numpy as np
import pytest

from crosswind.problems.impact.features import FAMILIES, Dictionary, make_dictionary, session_rows
from crosswind.solvers.errors import InvalidInput

CASES = [
    make_dictionary("instantaneous", 10.0),
    make_dictionary("exponential", 10.0, (20.0, 200.0, math.inf)),
    make_dictionary("monotone", 10.0, lags=(0, 1, 4)),
    make_dictionary("convex", 10.0, lags=(0, 1, 4)),
]


def brute_force(dictionary: Dictionary, flow: np.ndarray) -> np.ndarray:
    """z_t = Σ_τ (φ(t−τ) − φ(t−τ−1)) u_τ by the definition."""
    T, N = flow.shape
    phi = dictionary.phi(np.arange(T, dtype=float))
    step = phi - np.hstack([np.zeros((dictionary.size, 1)), phi[:, :-1]])
    out = np.zeros((T, dictionary.size * N))
    for m in range(dictionary.size):
        for t in range(T):
            for tau in range(t + 1):
                out[t, m * N : (m + 1) * N] += step[m, t - tau] * flow[tau]
    return out


@pytest.mark.parametrize("dictionary", CASES, ids=lambda d: d.family)
def test_regressors_are_the_difference_form_of_phi(dictionary: Dictionary) -> None:
    flow = np.random.default_rng(1).standard_normal((23, 3))
    np.testing.assert_allclose(dictionary.regressors(flow), brute_force(dictionary, flow), atol=1e-13)


@pytest.mark.parametrize("dictionary", CASES, ids=lambda d: d.family)
def test_summed_regressors_give_the_price_impact_of_a_unit_trade(dictionary: Dictionary) -> None:
    impulse = np.zeros((12, 1))
    impulse[0] = 1.0
    price = dictionary.regressors(impulse).cumsum(axis=0).T
    np.testing.assert_allclose(price, dictionary.phi(np.arange(12.0)), atol=1e-14)


@pytest.mark.parametrize("dictionary", CASES, ids=lambda d: d.family)
def test_phi_starts_at_one_and_never_rises(dictionary: Dictionary) -> None:
    phi = dictionary.phi(np.linspace(0.0, 12.0, 241))
    assert phi.shape == (dictionary.size, 241)
    np.testing.assert_array_equal(phi[:, 0], 1.0)
    assert (np.diff(phi, axis=1) <= 0).all()
    assert (phi >= 0).all()


def test_convex_phi_is_convex_and_monotone_is_a_step() -> None:
    convex = make_dictionary("convex", 1.0, lags=(3,)).phi(np.arange(7.0))[0]
    np.testing.assert_allclose(convex, [1, 0.75, 0.5, 0.25, 0, 0, 0])
    step = make_dictionary("monotone", 1.0, lags=(2,)).phi(np.arange(5.0))[0]
    np.testing.assert_array_equal(step, [1, 1, 1, 0, 0])


def test_lags_in_seconds_survive_the_division_by_the_bucket() -> None:
    dictionary = make_dictionary("monotone", 0.1, lags=(3,))
    h = np.array([3 * 0.1]) / 0.1
    assert h[0] > 3.0  # the rounding this guards against
    assert dictionary.phi(h)[0, 0] == 1.0


def test_permanent_regressor_is_the_flow_itself_bit_for_bit() -> None:
    flow = np.random.default_rng(0).standard_normal((50, 2))
    np.testing.assert_array_equal(make_dictionary("exponential", 1.0, (math.inf,)).regressors(flow), flow)


def test_half_lives_become_rates() -> None:
    dictionary = make_dictionary("exponential", 10.0, (20.0,))
    np.testing.assert_allclose(dictionary.phi(np.array([2.0])), 0.5)
    assert dictionary.labels == ("half-life 20 s",)
    assert make_dictionary("exponential", 10.0).labels == tuple(f"half-life {s} s" for s in (20, 200, 2000))


def test_memory_covers_the_slowest_shape() -> None:
    dictionary = make_dictionary("exponential", 10.0, (20.0, 200.0, math.inf))
    slow = dictionary.phi(np.array([float(dictionary.memory_buckets)]))[1, 0]
    assert slow < 0.04
    assert make_dictionary("convex", 1.0, lags=(0, 9)).memory_buckets == 10
    assert make_dictionary("instantaneous", 1.0).memory_buckets == 0
    assert make_dictionary("exponential", 1.0, (math.inf,)).memory_buckets == 0


def test_sessions_are_cut_where_the_label_changes() -> None:
    parts = list(session_rows(np.array(["a", "a", "b", "a"])))
    assert [(p.start, p.stop) for p in parts] == [(0, 2), (2, 3), (3, 4)]
    assert list(session_rows(np.array([]))) == []


@pytest.mark.parametrize(
    ("family", "kw", "field"),
    [
        ("loglinear", {}, "kernel"),
        ("exponential", {"half_lives_s": ()}, "half_lives_s"),
        ("exponential", {"half_lives_s": (0.0,)}, "half_lives_s"),
        ("exponential", {"half_lives_s": (-3.0,)}, "half_lives_s"),
        ("exponential", {"half_lives_s": (math.nan,)}, "half_lives_s"),
        ("exponential", {"half_lives_s": (5.0, 5.0)}, "half_lives_s"),
        ("monotone", {"lags": (-1,)}, "lags"),
        ("monotone", {"lags": (1.5,)}, "lags"),
        ("convex", {"lags": (2, 2)}, "lags"),
        ("convex", {"lags": ()}, "lags"),
    ],
)
def test_bad_shapes_are_refused_by_name(family: str, kw: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_dictionary(family, 1.0, **kw)
    assert caught.value.field == field


def test_bad_bucket_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bucket_s"):
        make_dictionary("instantaneous", 0.0)


def test_families_are_four() -> None:
    assert FAMILIES == ("instantaneous", "exponential", "monotone", "convex")
