"""Costs of any trades: energy identity, exact split, and gradients against finite differences and jax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim import (
    BandLimit,
    FactorMatrix,
    FactorRisk,
    ImpactMode,
    MultistageProgram,
    SoftPenalty,
    Terminal,
    cost,
    impact_cost_by_states,
    impact_cost_by_trades,
    jax_cost,
    marginal_cost,
)
from crosswind.optim.costs import smooth_gradient
from crosswind.solvers.errors import InvalidInput


def rich_program(seed: int, n: int = 3, T: int = 5, factor: bool = True) -> MultistageProgram:
    """Every term of the cost at once: several modes with states, uneven dt, spreads of instruments over positions."""
    rng = np.random.default_rng(seed)
    P, k = n - 1, 2
    S = np.zeros((P, n))
    S[np.arange(P), np.arange(P)] = 1.0
    S[:2, -1] = (-1.0, 1.0)  # a listed calendar spread moves both legs
    A = rng.normal(size=(3, n, n)) * 1e-5
    modes = tuple(ImpactMode(rate, A[m] @ A[m].T, rng.normal(size=n) * 1e5) for m, rate in enumerate((0.0, 0.01, 0.01)))
    form = FactorMatrix(rng.normal(size=(n, 2)) * 1e-5, rng.uniform(0.0, 1e-10, size=n))
    modes += (ImpactMode(0.003, form, rng.normal(size=n) * 1e5, rng.uniform(0.0, 1.0, size=T)),)
    C = rng.normal(size=(T, k, k)) * 1e-3
    covariance = FactorRisk(rng.normal(size=(k, 1)) * 1e-3, np.full(k, 1e-6)) if factor else C @ C.transpose(0, 2, 1)
    return MultistageProgram(
        tuple(f"I{j}" for j in range(n)),
        rng.uniform(10.0, 400.0, size=T),
        rng.normal(size=P) * 1e6,
        positions=tuple(f"P{i}" for i in range(P)),
        incidence=S,
        exposure=rng.normal(size=(k, P)),
        exposure_level=rng.normal(size=(T + 1, k)) * 1e6,
        spread=rng.uniform(1e-5, 1e-4, size=(T, n)),
        temporary=rng.uniform(1e-11, 1e-10, size=n),
        three_halves=rng.uniform(1e-8, 1e-7, size=(T, n)),
        risk_weight=rng.uniform(0.0, 2.0, size=T),
        drift=rng.normal(size=(T, n)) * 1e-5,
        impact=modes,
        covariance=covariance,
        risk_aversion=1e-6,
        holding=rng.normal(size=P) * 1e-5,
        terminal=Terminal(np.zeros(P), 1e-10),
        limits=(
            BandLimit("gap", np.eye(k), -5e5, 5e5, soft=SoftPenalty(1e-4, 1e-10), on="exposure"),
            BandLimit("level", np.ones((1, P)), -1e5, np.inf, soft=SoftPenalty(2e-4)),
        ),
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    T=st.integers(1, 12),
    rates=st.lists(st.sampled_from([0.0, 1e-6, 0.003, 0.003, 0.5, 80.0]), min_size=1, max_size=4),
)
def test_energy_identity(seed: int, T: int, rates: list[float]) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    modes = []
    for rate in rates:
        A = rng.normal(size=(n, rng.integers(1, n + 1)))  # singular matrices too
        modes.append(ImpactMode(rate, A @ A.T * 1e-9, rng.normal(size=n) * 1e5))
    program = MultistageProgram(
        tuple(f"n{j}" for j in range(n)), rng.uniform(0.0, 300.0, size=T), np.zeros(n), impact=tuple(modes)
    )
    u = rng.normal(size=(T, n)) * 1e6
    left, right = impact_cost_by_trades(program, u), impact_cost_by_states(program, u)
    magnitude = impact_cost_by_states(program, np.abs(u)) + 1e-300
    assert left == pytest.approx(right, rel=1e-12, abs=1e-12 * abs(magnitude))


def test_energy_identity_equals_the_double_sum() -> None:
    rng = np.random.default_rng(7)
    dt = rng.uniform(1.0, 50.0, size=6)
    A = rng.normal(size=(2, 3, 3))
    modes = tuple(ImpactMode(b, A[m] @ A[m].T) for m, b in enumerate((0.02, 0.3)))
    program = MultistageProgram(("a", "b", "c"), dt, np.zeros(3), impact=modes)
    u = rng.normal(size=(6, 3))
    clock = np.cumsum(dt)
    double = sum(
        0.5 * np.exp(-mode.rate_per_s * abs(clock[t] - clock[s])) * u[s] @ mode.matrix @ u[t]
        for mode in modes
        for s in range(6)
        for t in range(6)
    )
    assert impact_cost_by_states(program, u) == pytest.approx(double, rel=1e-12)


@pytest.mark.parametrize("factor", [True, False])
def test_components_sum_and_jax_agrees(factor: bool) -> None:
    import jax

    program = rich_program(3, factor=factor)
    u = np.random.default_rng(0).normal(size=(5, 3)) * 1e6
    parts = cost(program, u)
    series = parts.to_series()
    assert series.drop("total").sum() == pytest.approx(parts.total, rel=1e-12)
    assert (series.drop("total") != 0.0).all()
    with jax.enable_x64(True):
        assert float(jax_cost(program)(jax.numpy.asarray(u))) == pytest.approx(parts.total, rel=1e-12)
    # float64 is local: the caller's own precision is not touched.
    assert jax.numpy.asarray(1.0).dtype == "float32"


@pytest.mark.parametrize("seed", range(3))
def test_marginal_costs_equal_finite_differences(seed: int) -> None:
    program = rich_program(seed, factor=seed != 1)
    u = np.random.default_rng(seed + 50).normal(size=(5, 3)) * 1e6
    marginal = marginal_cost(program, u)
    step = 10.0
    for t, j in np.ndindex(u.shape):
        bump = np.zeros_like(u)
        bump[t, j] = step
        slope = (cost(program, u + bump).total - cost(program, u - bump).total) / (2 * step)
        assert marginal[t, j] == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.abs(marginal).max())


def test_adjoint_gradient_equals_jax() -> None:
    program = rich_program(5)
    plain = MultistageProgram(
        program.instruments,
        program.dt_s,
        program.p0,
        positions=program.positions,
        incidence=program.incidence,
        exposure=program.exposure,
        exposure_level=program.exposure_level,
        temporary=program.temporary,
        three_halves=program.three_halves,
        risk_weight=program.risk_weight,
        drift=program.drift,
        impact=program.impact,
        covariance=program.covariance,
        risk_aversion=program.risk_aversion,
        holding=program.holding,
        terminal=program.terminal,
    )
    u = np.random.default_rng(1).normal(size=(5, 3)) * 1e6
    np.testing.assert_allclose(smooth_gradient(plain, u), marginal_cost(plain, u), rtol=1e-11)


def test_impact_split_by_hand() -> None:
    K = np.array([[2.0, 0.5], [0.5, 1.0]])
    program = MultistageProgram(("a", "b"), np.array([0.0]), np.zeros(2), impact=(ImpactMode(1.0, K),))
    parts = cost(program, np.array([[3.0, -4.0]]))
    assert parts.impact_self == pytest.approx(0.5 * (2 * 9 + 16))
    assert parts.impact_cross == pytest.approx(0.5 * 2 * 0.5 * -12)
    assert parts.cash == parts.total


def test_trades_are_checked() -> None:
    program = rich_program(0)
    with pytest.raises(InvalidInput, match="trades"):
        cost(program, np.full((5, 3), np.nan))
    with pytest.raises(InvalidInput, match="trades"):
        marginal_cost(program, np.zeros((4, 3)))
