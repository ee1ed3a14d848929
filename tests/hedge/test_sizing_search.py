"""The search over whole lots against full enumeration and against an independent mixed-integer formulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, minimize

from crosswind.problems.hedge.sizing import best_lots
from crosswind.problems.hedge.sizing.search import relaxed_lots
from crosswind.solvers.errors import InvalidInput, SolverFailure


def value_of(Q, g, c, start, z):
    z = np.asarray(z, float)
    return float(z @ Q @ z - 2.0 * g @ z + c @ np.abs(z - start))


def enumerated(Q, g, c, start, low, high):
    ranges = [range(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
    return min(itertools.product(*ranges), key=lambda z: value_of(Q, g, c, start, z))


def program(seed, m, spread=1e-3, scale=3.0, charge=1.0, box=6):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(m + 1, m))
    Q = root.T @ root + spread * np.eye(m)
    g = Q @ (rng.normal(size=m) * scale)
    c = rng.random(m) * charge * np.diag(Q)
    start = rng.integers(-3, 4, m).astype(float)
    return Q, g, c, start, np.full(m, -float(box)), np.full(m, float(box))


@pytest.mark.parametrize("charge", [0.0, 1.0, 20.0])
@pytest.mark.parametrize(("m", "box"), [(1, 12), (2, 8), (3, 5), (4, 3)])
def test_the_search_finds_what_enumeration_finds(m, box, charge):
    for seed in range(25):
        case = program(seed, m, charge=charge, box=box)
        found, best = best_lots(*case), enumerated(*case)
        q = case[:4]
        scale = abs(value_of(*q, best)) + 1e-12
        assert value_of(*q, found.lots) <= value_of(*q, best) + 1e-11 * scale, (m, seed)
        assert 0.0 <= found.gap <= 1e-10 * scale
        assert (found.lots >= case[4]).all()
        assert (found.lots <= case[5]).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    m=st.integers(1, 3),
    spread=st.sampled_from([1e-6, 1e-3, 1.0]),
    low=st.integers(-3, 0),
    wide=st.integers(0, 4),
    charge=st.sampled_from([0.0, 0.1, 100.0]),
)
def test_degenerate_programs(seed, m, spread, low, wide, charge):
    """Nearly alike instruments, bounds that leave one point, starts outside the bounds, costs that forbid trading."""
    Q, g, c, start, _, _ = program(seed, m, spread=spread, charge=charge)
    bounds = np.full(m, float(low)), np.full(m, float(low + wide))
    found, best = best_lots(Q, g, c, start, *bounds), enumerated(Q, g, c, start, *bounds)
    size = float(np.abs(g) @ np.abs(np.asarray(best, float))) + float(c.sum()) + 1.0
    assert value_of(Q, g, c, start, found.lots) <= value_of(Q, g, c, start, best) + 1e-10 * size


def test_the_relaxation_is_the_minimum_of_the_convex_program():
    """Against scipy on the smooth split form u = p − n, p, n >= 0."""
    for seed in range(8):
        Q, g, c, start, low, high = program(seed, 3, charge=1.0)
        ours = relaxed_lots(Q, g, c, start, low, high)

        def split(y, Q=Q, g=g, c=c, start=start):
            x = start + y[:3] - y[3:]
            return x @ Q @ x - 2.0 * g @ x + c @ (y[:3] + y[3:])

        wide = np.concatenate([np.maximum(high - start, 0), np.maximum(start - low, 0)])
        theirs = minimize(split, np.zeros(6), bounds=Bounds(np.zeros(6), wide), method="L-BFGS-B", tol=1e-14)
        assert value_of(Q, g, c, start, ours) <= theirs.fun + 1e-9 * (1.0 + abs(theirs.fun))


def test_the_bound_is_below_every_whole_point():
    for seed in range(20):
        case = program(seed, 2, charge=3.0)
        found = best_lots(*case)
        origin = np.clip(np.rint(found.relaxed), case[4], case[5])
        base = value_of(*case[:4], origin)
        least = min(value_of(*case[:4], z) - base for z in itertools.product(range(-6, 7), repeat=2))
        assert found.bound <= least + 1e-9 * (1.0 + abs(base))
        assert found.value == pytest.approx(least, abs=1e-9 * (1.0 + abs(base)))


def test_lots_by_the_million_keep_their_digits():
    """A hedge of 10⁸ lots is exact to the lot: the numbers are centred before they are compared."""
    Q, target = np.array([[1e-6]]), 123_456_789.4
    found = best_lots(Q, Q @ [target], np.zeros(1), np.zeros(1), np.array([-np.inf]), np.array([np.inf]))
    assert found.lots.tolist() == [123_456_789]


def test_eight_instruments_are_proven():
    case = program(3, 8, spread=0.3, charge=0.5, box=40)
    found = best_lots(*case)
    assert found.gap <= 1e-9 * (1.0 + abs(found.value))
    moved = [value_of(*case[:4], found.lots + step) for step in np.vstack([np.eye(8), -np.eye(8)])]
    assert value_of(*case[:4], found.lots) <= min(moved) + 1e-9


def test_singular_risk_empty_boxes_and_a_small_budget_are_refused():
    one = np.ones((2, 2))
    args = (np.ones(2), np.zeros(2), np.zeros(2), np.full(2, -5.0), np.full(2, 5.0))
    with pytest.raises(InvalidInput, match="cannot be told apart"):
        best_lots(one, *args)
    with pytest.raises(InvalidInput, match="cannot be told apart"):
        best_lots(np.zeros((2, 2)), *args)
    with pytest.raises(InvalidInput, match="no whole lot"):
        best_lots(np.eye(1), np.ones(1), np.zeros(1), np.zeros(1), np.array([0.2]), np.array([0.8]))
    with pytest.raises(SolverFailure, match="gap left"):
        best_lots(*program(5, 6, spread=1e-2, box=40), max_nodes=1)
