"""The three-halves cost, factored impact and shares of trades against cones, and the bound behind the certificate."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim import (
    BandLimit,
    FactorMatrix,
    ImpactMode,
    MultistageProgram,
    Terminal,
    TradeLimit,
    lower,
    reference_multistage,
    relower,
    solve_multistage,
)
from crosswind.optim.three_halves import fenchel_loss
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.solution import Status


def order_program(seed: int, *, three_halves: bool = True, dense: bool = False) -> MultistageProgram:
    """Orders of five names with factored impact and risk, a last slice that impact does not see, one band."""
    rng = np.random.default_rng(seed)
    n, T = 5, 8
    q = rng.normal(size=n) * 1e6
    risk = FactorMatrix(rng.normal(size=(n, 2)) * 1e-5, rng.uniform(0.0, 1e-10, n))
    impact = FactorMatrix(rng.normal(size=(n, 1)) * 5e-6, rng.uniform(0.0, 3e-10, n))
    cap = np.full((T, n), 9e5)
    reversal = seed % 2 == 0
    low = np.where(q < 0.0, -cap, -cap if reversal else 0.0)
    high = np.where(q > 0.0, cap, cap if reversal else 0.0)
    net = 1.2 * abs(float(q.sum())) + 2e5
    return MultistageProgram(
        tuple("abcde"),
        np.full(T, 60.0),
        q,
        incidence=-np.eye(n),
        spread=np.full((T, n), 1e-4),
        temporary=np.full((T, n), 1e-11 if seed % 3 else 0.0),
        three_halves=rng.uniform(1.0, 3.0, n) * 1e-7 if three_halves else np.zeros(n),
        impact=(
            ImpactMode(0.01, impact.dense() if dense else impact, share=np.append(np.ones(T - 1), 0.3)),
            ImpactMode(0.0, impact.dense() if dense else impact, rng.normal(size=n) * 1e4),
        ),
        covariance=risk.dense() if dense else risk,
        risk_weight=np.append(np.ones(T - 1), 0.0),
        risk_aversion=1e-6 * 10.0 ** rng.uniform(-2, 1),
        terminal=Terminal(np.zeros(n), np.inf if seed % 4 else 1e-9),
        limits=(TradeLimit("cap", low, high), BandLimit("net", np.ones((1, n)), -net, net)),
    )


@pytest.mark.parametrize("seed", range(12))
def test_against_cones(seed: int) -> None:
    program = order_program(seed)
    found = solve_multistage(program)
    oracle, _ = reference_multistage(program, unit=1e6, money=1e2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1e-11 is more than Clarabel reaches on some
        oracle.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert found.cost.total == pytest.approx(1e2 * oracle.value, rel=1e-8)
    assert found.solution.status is Status.OPTIMAL
    assert found.stationarity_rel < 1e-9
    # The bound is one of the whole cost: nothing feasible lies below it, and it is as near as the certificate says.
    bound = found.certificate.lower_bound * found.cost_scale
    assert bound <= 1e2 * oracle.value * (1.0 + 1e-9)
    assert found.certificate.objective * found.cost_scale == pytest.approx(found.cost.total, rel=1e-9)


def test_the_bound_holds_at_a_poor_iterate_too() -> None:
    program = order_program(1)
    best = solve_multistage(program)
    poor = solve_multistage(program, tol=1e-2, sharpen=False)
    assert poor.certificate.lower_bound * poor.cost_scale <= best.cost.total * (1.0 + 1e-9)
    assert poor.certificate.objective * poor.cost_scale >= best.cost.total * (1.0 - 1e-9)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_factored_and_dense_forms_are_one_program(seed: int) -> None:
    one = solve_multistage(order_program(seed, three_halves=False))
    two = solve_multistage(order_program(seed, three_halves=False, dense=True))
    assert one.cost.total == pytest.approx(two.cost.total, rel=1e-9)
    np.testing.assert_allclose(one.trades, two.trades, atol=1e-5 * np.abs(two.trades).max())
    sparse, full = lower(order_program(seed)).qp, lower(order_program(seed, dense=True)).qp
    assert sparse.P.nnz < full.P.nnz


@settings(max_examples=200, deadline=None)
@given(u=st.floats(-1e6, 1e6), g=st.floats(-1e-2, 1e-2), kappa=st.floats(1e-9, 1e-4), w=st.floats(-1e6, 1e6))
def test_the_conjugate_is_a_line_below_the_power(u: float, g: float, kappa: float, w: float) -> None:
    k, point, slope = np.array([kappa]), np.array([u]), np.array([g])
    loss = float(fenchel_loss(k, point, slope)[0])
    line = kappa * abs(u) ** 1.5 - loss + g * (w - u)
    size = kappa * (abs(w) ** 1.5 + abs(u) ** 1.5) + abs(g) * (abs(w) + abs(u)) + 4.0 * abs(g) ** 3 / (27.0 * kappa**2)
    assert line <= kappa * abs(w) ** 1.5 + 1e-12 * size
    touching = fenchel_loss(k, point, 1.5 * k * np.sign(point) * np.sqrt(np.abs(point)))
    assert float(touching[0]) <= 1e-12 * kappa * abs(u) ** 1.5 + 1e-300  # below it a float has no digits


def test_a_time_limit_returns_the_best_so_far() -> None:
    found = solve_multistage(order_program(1), solver="clarabel", time_limit=60.0)
    assert found.solution.status is Status.OPTIMAL
    assert len(found.solution.attempts) == found.solution.iterations or found.solution.iterations > 0


def test_other_powers_need_other_matrices() -> None:
    program = order_program(1)
    with pytest.raises(InvalidInput, match="vectors"):
        relower(order_program(1, three_halves=False), lower(program, keep_absolute=True))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"three_halves": -1.0}, "three_halves"),
        ({"risk_weight": -np.ones(3)}, "risk_weight"),
        ({"impact": (ImpactMode(0.1, np.eye(2), share=np.ones(4)),)}, "impact[0].share"),
        ({"impact": (ImpactMode(0.1, FactorMatrix(np.ones((3, 1)), np.ones(3))),)}, "impact[0].matrix"),
    ],
)
def test_bad_input_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        MultistageProgram(("a", "b"), np.ones(3), np.zeros(2), **change)  # type: ignore[arg-type]
    assert refusal.value.field == field
