"""The multistage program against the cvxpy reference, its optimality conditions, degenerate cases and bad input."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.optim import (
    BandLimit,
    FactorRisk,
    GroupCap,
    ImpactMode,
    MultistageProgram,
    MultistageSolution,
    RateLimit,
    SoftPenalty,
    Terminal,
    TradeLimit,
    choose_scaling,
    cost,
    lower,
    marginal_cost,
    participation_limit,
    reference_multistage,
    solve_multistage,
)
from crosswind.optim.infeasible import find_conflict
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, SolverFailure


def basket(
    seed: int, n: int = 4, T: int = 6, limits: tuple[Any, ...] | None = None, **changes: Any
) -> MultistageProgram:
    """A two-sided basket with notionals of 1e6..1e8 and impacts near 1e-10."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(2, n, n))
    p0 = rng.choice([-1.0, 1.0], size=n) * 10 ** rng.uniform(6, 8, size=n)
    volume = np.abs(p0).max() * rng.uniform(0.5, 4.0, size=(T, n))
    data: dict[str, Any] = {
        "instruments": tuple(f"N{j}" for j in range(n)),
        "dt_s": rng.uniform(300.0, 900.0, size=T),
        "p0": p0,
        "spread": np.full(n, 2e-4),
        "temporary": np.full(n, 1e-11),
        "impact": (
            ImpactMode(1e-3, A[0] @ A[0].T * 1e-11),
            ImpactMode(0.0, A[1] @ A[1].T * 1e-12, rng.normal(size=n) * 1e6),
        ),
        "covariance": FactorRisk(rng.normal(size=(n, 2)) * 1e-3, np.full(n, 1e-6)),
        "risk_aversion": 1e-7,
        "terminal": Terminal(np.zeros(n)),
        "limits": (
            participation_limit(volume, 0.3),
            BandLimit("cash", np.ones((1, n)), -np.abs(p0).sum() * 0.7, np.abs(p0).sum() * 0.7, ("net",)),
            GroupCap(
                "sector", np.vstack([np.arange(n) % 2 == g for g in (0, 1, 5)]), np.abs(p0).sum() * 0.35, tuple("abc")
            ),
            RateLimit("rate", np.abs(p0).max() * 0.5, np.zeros(n)),
        )
        if limits is None
        else limits,
    }
    return MultistageProgram(**{**data, **changes})


def hedge(seed: int) -> MultistageProgram:
    """Two instruments on one exposure with a forecast cash position: e = B p + w."""
    rng = np.random.default_rng(seed)
    T = 8
    level = np.cumsum(rng.normal(size=(T + 1, 1)), axis=0) * 2e6
    return MultistageProgram(
        ("perp", "quarterly"),
        np.full(T, 60.0),
        np.array([0.0, 3e5]),
        exposure=np.array([[1.0, 0.9]]),
        exposure_level=level,
        spread=np.array([1e-4, 5e-5]),
        temporary=np.array([1e-11, 5e-11]),
        impact=(ImpactMode(0.01, np.diag([1e-11, 3e-11]), np.array([1e6, 0.0])),),
        covariance=np.array([[1e-6]]),
        risk_aversion=2e-6,
        limits=(
            TradeLimit("clip", np.array(-1e6), np.array(1e6)),
            BandLimit("gap", np.eye(1), -1.5e6, 1.5e6, ("e",), SoftPenalty(3e-4, 1e-11), "exposure"),
            RateLimit("rate", np.array(8e5), np.array([0.0, 0.0])),
        ),
    )


def check_against_reference(program: MultistageProgram, solved: MultistageSolution, rel: float = 1e-7) -> None:
    unit = float(choose_scaling(program).trades.max())
    problem, _ = reference_multistage(program, unit=unit, money=solved.cost_scale)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert problem.status in ("optimal", "optimal_inaccurate")
    assert solved.cost.total == pytest.approx(problem.value * solved.cost_scale, rel=rel, abs=rel * solved.cost_scale)


def check_optimality(program: MultistageProgram, solved: MultistageSolution, stiff: bool = False) -> None:
    """What every solution promises, whatever its program."""
    assert solved.solution.status.ok
    assert solved.stationarity_rel < 1e-6
    assert solved.cost.to_series().drop("total").sum() == pytest.approx(solved.cost.total, rel=1e-9)
    assert solved.cost == cost(program, solved.trades)
    assert all((price >= 0.0).all() for price in solved.prices.values())
    for limit in program.limits:
        if isinstance(limit, TradeLimit):
            assert (solved.trades >= limit.lower).all()
            assert (solved.trades <= limit.upper).all()
    u = solved.trades
    away = np.abs(u) > 1e-3 * np.abs(program.p0).max()
    difference = (solved.marginal_cost - marginal_cost(program, u))[away]
    soft = any(isinstance(b, BandLimit) and b.soft is not None for b in program.limits)
    # With λ or a weight of 1e8 the gradient at the rounded trades is rounding itself.
    if not soft and not stiff and away.any():
        assert np.abs(difference).max() < 1e-9 * solved.gradient_scale


@pytest.mark.parametrize("seed", range(4))
def test_basket_agrees_with_reference(seed: int) -> None:
    program = basket(seed)
    solved = solve_multistage(program)
    check_optimality(program, solved)
    check_against_reference(program, solved)
    np.testing.assert_allclose(solved.positions[-1], 0.0, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_hedge_agrees_with_reference(seed: int) -> None:
    program = hedge(seed)
    solved = solve_multistage(program)
    check_optimality(program, solved)
    check_against_reference(program, solved)


def test_calendar_spread_incidence() -> None:
    rng = np.random.default_rng(2)
    A = rng.normal(size=(3, 3))
    program = MultistageProgram(
        ("near", "far", "spread"),
        np.full(5, 60.0),
        np.array([100.0, 0.0]),
        positions=("NEAR", "FAR"),
        incidence=np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]),
        spread=np.array([0.25, 0.25, 0.05]),
        temporary=np.array([1e-3, 1e-3, 2e-3]),
        impact=(ImpactMode(0.01, A @ A.T * 1e-3),),
        covariance=np.array([[1.0, 0.99], [0.99, 1.0]]),
        risk_aversion=1e-5,
        terminal=Terminal(np.array([0.0, 100.0])),
        limits=(GroupCap("gross", np.ones((1, 3)), 45.0),),
    )
    solved = solve_multistage(program)
    check_optimality(program, solved)
    check_against_reference(program, solved)
    np.testing.assert_allclose(solved.positions[-1], [0.0, 100.0], atol=1e-8)
    assert (np.abs(solved.trades).sum(axis=1) <= 45.0 + 1e-8).all()


def test_per_slice_covariance_free_and_mixed_end() -> None:
    rng = np.random.default_rng(5)
    C = rng.normal(size=(6, 4, 4)) * 1e-3
    program = basket(
        5,
        covariance=C @ C.transpose(0, 2, 1),
        terminal=Terminal(np.array([0.0, 1e6, 0.0, 0.0]), np.array([np.inf, 1e-9, 0.0, np.inf])),
        holding=rng.normal(size=4) * 1e-6,
        drift=rng.normal(size=(6, 4)) * 1e-5,
    )
    solved = solve_multistage(program)
    check_optimality(program, solved)
    check_against_reference(program, solved)
    assert solved.completion_price[1] == solved.completion_price[2] == 0.0
    assert solved.cost.terminal > 0.0


def test_prices_are_the_slopes_of_the_cost() -> None:
    program = basket(1)
    solved = solve_multistage(program)
    box = program.limits[0]
    assert isinstance(box, TradeLimit)
    t, j = np.unravel_index(np.argmax(solved.prices["participation"]), box.upper.shape)
    assert solved.prices["participation"][t, j] > 0.0
    costs = []
    step = 1e3
    for sign in (1.0, -1.0):
        lower_bound, upper_bound = box.lower.copy(), box.upper.copy()
        if solved.trades[t, j] > 0:
            upper_bound[t, j] += sign * step
        else:
            lower_bound[t, j] -= sign * step
        moved = dataclasses.replace(
            program, limits=(TradeLimit("participation", lower_bound, upper_bound), *program.limits[1:])
        )
        costs.append(solve_multistage(moved).cost.total)
    slope = (costs[1] - costs[0]) / (2 * step)
    assert solved.prices["participation"][t, j] == pytest.approx(slope, rel=1e-3)
    costs = []
    for sign in (1.0, -1.0):
        target = np.zeros(4)
        target[2] = sign * step
        costs.append(solve_multistage(dataclasses.replace(program, terminal=Terminal(target))).cost.total)
    assert solved.completion_price[2] == pytest.approx((costs[0] - costs[1]) / (2 * step), rel=1e-4)


def sells(cap: float = np.inf, floor: float = -np.inf, **changes: Any) -> MultistageProgram:
    """A sale of 8 of one name and a purchase of 4 of another in four slices, dearer in the later ones."""
    data: dict[str, Any] = {
        "instruments": ("sold", "bought"),
        "dt_s": np.full(4, 60.0),
        "p0": np.array([8.0, -4.0]),
        "temporary": np.array([[0.1], [0.2], [0.4], [0.8]]) * np.ones((4, 2)),
        "spread": np.full(2, 1e-2),
        "terminal": Terminal(np.zeros(2)),
        "limits": (
            TradeLimit("one way", np.array([-9.0, 0.0]), np.array([0.0, 9.0])),
            GroupCap("gross", np.array([[1.0, 2.0]]), np.array(cap), ("both",)),
        ),
    }
    return MultistageProgram(**{**data, **changes})


def test_group_cap_counts_sells_by_their_size() -> None:
    program = sells(cap=4.5)
    solved = solve_multistage(program)
    used = np.abs(solved.trades) @ np.array([1.0, 2.0])
    assert used.max() <= 4.5 + 1e-9
    assert solved.binding("gross") == 3
    # Σ_t (|u_t1| + 2|u_t2|) = 16 leaves 2.5 for the dearest slice.
    assert used[3] == pytest.approx(2.5, abs=1e-7)
    check_against_reference(program, solved)
    check_optimality(program, solved)
    step = 1e-4
    slope = (solve_multistage(sells(4.5 - step)).cost.total - solve_multistage(sells(4.5 + step)).cost.total) / step / 2
    assert solved.prices["gross"].sum() == pytest.approx(slope, rel=1e-6)


def test_rate_limit_counts_from_the_previous_trade() -> None:
    limit = RateLimit("rate", np.array(0.5), np.array([-3.0, 1.5]))
    program = sells(limits=(limit,), terminal=Terminal(np.array([0.0, 0.0]), 1e-3))
    solved = solve_multistage(program)
    before = np.vstack([limit.previous, solved.trades])
    assert np.abs(np.diff(before, axis=0)).max() <= 0.5 + 1e-9
    assert solved.trades[0] == pytest.approx([-2.5, 1.0], abs=1e-6)
    check_against_reference(program, solved)
    check_optimality(program, solved)


def test_price_belongs_to_the_limit_behind_the_side() -> None:
    program = sells(
        limits=(
            TradeLimit("least", lower=np.array([[-np.inf, 0.0]] * 3 + [[-np.inf, 0.9]])),
            TradeLimit("most", upper=np.array([np.inf, 1.2])),
        )
    )
    solved = solve_multistage(program)
    assert solved.trades[0, 1] == pytest.approx(1.2)
    assert solved.trades[3, 1] == pytest.approx(0.9)
    assert solved.prices["least"][3, 1] > 1e-3
    assert solved.prices["most"][0, 1] > 1e-3
    assert solved.prices["least"][:3].max() == pytest.approx(0.0, abs=1e-9)
    assert solved.prices["most"][3].max() == pytest.approx(0.0, abs=1e-9)


def test_soft_band_with_a_high_price_is_the_hard_one() -> None:
    free = solve_multistage(basket(2, limits=()))
    width = 0.5 * float(np.abs(free.positions[2:].sum(axis=1)).max())
    upper = np.full((6, 1), np.inf)
    upper[1:] = width
    hard = basket(2, limits=(BandLimit("cash", np.ones((1, 4)), -upper, upper),))
    hard_solved = solve_multistage(hard)
    price = float(hard_solved.prices["cash"].max())
    assert price > 0.0
    soft = dataclasses.replace(hard, limits=(dataclasses.replace(hard.limits[0], soft=SoftPenalty(2.0 * price)),))
    soft_solved = solve_multistage(soft)
    np.testing.assert_allclose(soft_solved.trades, hard_solved.trades, atol=1e-3)
    check_optimality(soft, soft_solved)
    cheap = dataclasses.replace(hard, limits=(dataclasses.replace(hard.limits[0], soft=SoftPenalty(0.3 * price)),))
    cheap_solved = solve_multistage(cheap)
    assert cheap_solved.cost.soft > 0.0
    check_optimality(cheap, cheap_solved)
    check_against_reference(cheap, cheap_solved)


# degenerate on purpose --------------------------------------------------------------------------------------------


def test_one_slice_trades_everything() -> None:
    program = basket(3, T=1, limits=())
    solved = solve_multistage(program)
    np.testing.assert_allclose(solved.trades[0], -program.p0, rtol=1e-12)
    check_optimality(program, solved)


def test_zero_inventory_trades_nothing() -> None:
    program = basket(3, p0=np.zeros(4), impact=())
    solved = solve_multistage(program)
    np.testing.assert_allclose(solved.trades, 0.0, atol=1e-9)
    assert solved.cost.total == pytest.approx(0.0, abs=1e-9)


def test_zero_cost_program() -> None:
    program = MultistageProgram(("a",), np.ones(3), np.array([5.0]), terminal=Terminal(np.zeros(1)))
    solved = solve_multistage(program)
    assert solved.trades.sum() == pytest.approx(-5.0)
    assert solved.cost.total == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"covariance": np.zeros((4, 4))},
        {"covariance": np.ones((4, 4)) * 1e-6},
        {"covariance": FactorRisk(np.zeros((4, 2)), np.zeros(4))},
        {"covariance": FactorRisk(np.zeros((4, 0)), np.full(4, 1e-6))},
        {"covariance": None, "spread": np.zeros(4)},
        {"risk_aversion": 0.0},
        {"impact": (ImpactMode(1e-3, np.eye(4) * 1e-11), ImpactMode(1e-3, np.ones((4, 4)) * 1e-11))},
        {"impact": (ImpactMode(0.0, np.eye(4) * 1e-11),)},
        {"impact": (ImpactMode(50.0, np.eye(4) * 1e-11),)},
        {"impact": (ImpactMode(1e-3, np.zeros((4, 4))),), "temporary": np.full(4, 1e-10)},
        {"dt_s": np.zeros(6)},
    ],
    ids=["zero-risk", "singular", "empty-factors", "no-factors", "no-risk", "lambda-0", "equal-lives", "permanent",
         "instant", "no-impact", "no-time"],
)  # fmt: skip
def test_degenerate_data(changes: dict[str, Any]) -> None:
    program = basket(4, **changes)
    solved = solve_multistage(program)
    check_optimality(program, solved)
    check_against_reference(program, solved)


@pytest.mark.parametrize("risk_aversion", [1e-12, 1e-4, 1e0, 1e4, 1e8])
def test_extreme_risk_aversion(risk_aversion: float) -> None:
    program = basket(6, limits=(), risk_aversion=risk_aversion)
    solved = solve_multistage(program)
    check_optimality(program, solved, stiff=risk_aversion > 1.0)
    if risk_aversion >= 1.0:
        np.testing.assert_allclose(solved.trades[0], -program.p0, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1e-12, 1e-4, 1e8])
def test_extreme_terminal_weight(weight: float) -> None:
    program = basket(6, limits=(), terminal=Terminal(np.zeros(4), weight))
    solved = solve_multistage(program)
    check_optimality(program, solved, stiff=weight > 1e-6)
    if weight >= 1e-4:
        np.testing.assert_allclose(solved.positions[-1], 0.0, atol=100.0)


def test_caps_that_just_bind() -> None:
    base = basket(7, limits=())
    cap = np.abs(base.p0) / 6
    program = dataclasses.replace(base, limits=(TradeLimit("cap", -cap, cap),))
    solved = solve_multistage(program)
    np.testing.assert_allclose(solved.trades, np.tile(-base.p0 / 6, (6, 1)), rtol=1e-7)
    empty = dataclasses.replace(base, limits=(GroupCap("none", np.zeros((2, 4)), 0.0),))
    check_optimality(empty, solve_multistage(empty))


def test_do_not_trade_window_and_no_reversal() -> None:
    base = basket(8, limits=())
    window = np.full((6, 4), np.inf)
    window[2:4, 1] = 0.0
    volume = np.full((6, 4), np.abs(base.p0).max())
    program = dataclasses.replace(
        base, limits=(TradeLimit("window", -window, window), participation_limit(volume, 1.0, -base.p0))
    )
    solved = solve_multistage(program)
    assert (solved.trades[2:4, 1] == 0.0).all()
    assert (solved.trades * -np.sign(base.p0) >= 0.0).all()
    check_optimality(program, solved)
    check_against_reference(program, solved)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 4), T=st.integers(1, 6))
def test_property_optimum_beats_feasible_rivals(seed: int, n: int, T: int) -> None:
    rng = np.random.default_rng(seed)
    program = basket(seed, n=n, T=T, limits=())
    solved = solve_multistage(program)
    check_optimality(program, solved)
    even = np.tile(-program.p0 / T, (T, 1))
    for _ in range(5):
        noise = rng.normal(size=(T, n)) * np.abs(program.p0) * 0.1
        rival = even + noise - noise.mean(axis=0)
        assert cost(program, rival).total >= solved.cost.total * (1 - 1e-10) - 1e-10 * solved.cost_scale


def test_scaling_of_money_and_units_does_not_change_the_schedule() -> None:
    base = basket(9)
    solved = solve_multistage(base)
    factor = 1e-6  # the same program in millions
    limits: tuple[Any, ...] = (
        TradeLimit("participation", base.limits[0].lower * factor, base.limits[0].upper * factor),
        dataclasses.replace(base.limits[1], lower=base.limits[1].lower * factor, upper=base.limits[1].upper * factor),
        dataclasses.replace(base.limits[2], cap=base.limits[2].cap * factor),
        RateLimit("rate", base.limits[3].delta * factor, base.limits[3].previous * factor),
    )
    other = dataclasses.replace(
        base,
        p0=base.p0 * factor,
        temporary=base.temporary / factor,
        impact=tuple(ImpactMode(m.rate_per_s, m.matrix / factor, m.state * factor) for m in base.impact),
        risk_aversion=base.risk_aversion / factor,
        limits=limits,
    )
    moved = solve_multistage(other)
    np.testing.assert_allclose(moved.trades / factor, solved.trades, rtol=1e-6, atol=1.0)
    assert moved.cost.total / factor == pytest.approx(solved.cost.total, rel=1e-9)


# infeasible and bad input --------------------------------------------------------------------------------------------


def test_infeasible_completion_names_limits_and_relaxation() -> None:
    base = basket(10, limits=())
    cap = np.abs(base.p0) / 8  # six slices of an eighth leave a quarter
    program = dataclasses.replace(
        base, limits=(TradeLimit("participation", -cap, cap), RateLimit("slow", np.array(1e12)))
    )
    with pytest.raises(InfeasibleProblem) as caught:
        solve_multistage(program)
    text = str(caught.value)
    assert "completion" in text
    assert "participation" in text
    assert "slow" not in text
    missing = 0.25 * np.abs(base.p0).sum()
    assert f"{missing:,.6g}" in text


def test_smallest_relaxation_is_counted_in_the_users_units() -> None:
    # One instrument moves two positions, by 1 and by 5: meeting "far" misses "near" by 1e4, the reverse by 5e4.
    program = MultistageProgram(
        ("x",),
        np.ones(1),
        np.array([1e5, 1e6]),
        positions=("near", "far"),
        incidence=np.array([[1.0], [5.0]]),
        temporary=np.array(1e-9),
        terminal=Terminal(np.array([1.1e5, 1e6])),
    )
    with pytest.raises(InfeasibleProblem, match=r"10,000 in total\) is completion\[near\] by 10,000"):
        solve_multistage(program)


def test_a_limit_that_need_not_move_is_named_all_the_same() -> None:
    # A trade moves the position by 5: to raise the cap by 0.2 cures what completion would have to give up as 1.
    program = MultistageProgram(
        ("x",),
        np.ones(2),
        np.array([0.0]),
        incidence=np.array([[5.0]]),
        temporary=np.array(1.0),
        terminal=Terminal(np.array([11.0])),
        limits=(TradeLimit("cap", np.array(-1.0), np.array(1.0)),),
    )
    conflict = find_conflict(lower(program))
    assert conflict is not None
    assert set(conflict.limits) == {"cap", "completion"}
    assert all(row.startswith("cap") for row in conflict.rows)
    assert conflict.total == pytest.approx(0.2, rel=1e-5)
    assert conflict.alone == pytest.approx({"cap": 0.2, "completion": 1.0}, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_relaxation_is_enough_and_the_smallest(seed: int) -> None:
    base = basket(seed + 20, limits=())
    delta = np.tile(np.abs(base.p0) / 40, (6, 1))

    def attempt(extra: np.ndarray) -> MultistageSolution:
        limits = (RateLimit("rate", delta + extra, np.zeros(4)),)
        return solve_multistage(dataclasses.replace(base, limits=limits))

    conflict = find_conflict(lower(dataclasses.replace(base, limits=(RateLimit("rate", delta, np.zeros(4)),))))
    assert conflict is not None
    alone = conflict.alone["rate"]
    # A first step larger by e lifts all six slices: Σ_t (t + 1)δ + 6e = |p_0|.
    needed = float((np.abs(base.p0) - 21 * delta[0]).sum() / 6)
    assert alone == pytest.approx(needed, rel=1e-5)
    assert conflict.total <= alone * (1 + 1e-6)
    extra = np.zeros_like(delta)
    extra[0] = (np.abs(base.p0) - 21 * delta[0]) / 6
    assert attempt(extra * 1.0001).solution.status.ok
    with pytest.raises(InfeasibleProblem, match="rate"):
        attempt(extra * 0.999)


def test_long_lists_of_relaxations_are_summed_up() -> None:
    base = basket(10, limits=())
    cap = np.abs(base.p0) / 12
    with pytest.raises(InfeasibleProblem, match=r"and \d+ more rows by"):
        solve_multistage(dataclasses.replace(base, limits=(TradeLimit("participation", -cap, cap),)))


def test_infeasible_box_names_both_limits() -> None:
    base = basket(10, limits=(TradeLimit("must", np.array(1e6)), TradeLimit("may", np.array(-2e5), np.array(2e5))))
    with pytest.raises(InfeasibleProblem, match=r"must.*may") as caught:
        solve_multistage(base)
    assert "800000" in str(caught.value)


def test_infeasible_band_against_cap() -> None:
    program = basket(
        11,
        limits=(
            BandLimit("flat", np.eye(4), 0.0, 0.0, tuple("abcd")),
            GroupCap("gross", np.ones((1, 4)), 1e3, ("all",)),
        ),
        terminal=None,
    )
    with pytest.raises(InfeasibleProblem, match="gross") as caught:
        solve_multistage(program)
    assert "flat" in str(caught.value)


def test_unbounded_is_a_solver_failure() -> None:
    program = MultistageProgram(("a",), np.ones(2), np.array([1.0]), drift=np.array(-1.0))
    with pytest.raises(SolverFailure, match="UNBOUNDED"):
        solve_multistage(program)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"p0": np.array([1.0, np.nan, 0.0, 0.0])}, "p0"),
        ({"p0": np.ones(3)}, "p0"),
        ({"spread": np.array(-1e-4)}, "spread"),
        ({"temporary": np.array([1.0, -1.0, 0.0, 0.0])}, "temporary"),
        ({"risk_aversion": -1e-9}, "risk_aversion"),
        ({"risk_aversion": np.inf}, "risk_aversion"),
        ({"covariance": np.diag([1.0, 1.0, 1.0, -0.5])}, r"covariance.*smallest eigenvalue -0.5"),
        ({"covariance": np.eye(3)}, "covariance"),
        ({"covariance": FactorRisk(np.ones((3, 1)), np.ones(3))}, "covariance"),
        ({"instruments": ("a", "b", "b", "c")}, "instruments"),
        ({"instruments": ()}, "instruments"),
        ({"dt_s": np.array([1.0, -1.0])}, "dt_s"),
        ({"dt_s": np.empty(0)}, "dt_s"),
        ({"drift": np.full((6, 4), np.inf)}, "drift"),
        ({"holding": np.ones((5, 4))}, "holding"),
        ({"incidence": np.ones((2, 4))}, "incidence"),
        ({"positions": ("x", "y")}, "p0"),
        ({"exposure": np.ones((2, 3))}, "exposure"),
        ({"exposure_level": np.ones((6, 4))}, "exposure_level"),
        ({"impact": (ImpactMode(1.0, np.eye(3)),)}, r"impact\[0\]"),
        ({"terminal": Terminal(np.zeros(4), -1.0)}, "terminal.weight"),
        ({"terminal": Terminal(np.zeros(3))}, "terminal.target"),
        ({"limits": (TradeLimit("a"), TradeLimit("a"))}, "limits.name"),
        ({"limits": (TradeLimit("completion"),)}, "limits.name"),
        ({"limits": (TradeLimit("a", np.array(1.0), np.array(0.0)),)}, "lower bound above"),
        ({"limits": (TradeLimit("a", np.array(np.nan)),)}, "a.lower"),
        ({"limits": (BandLimit("a", np.ones((1, 3))),)}, "a.matrix"),
        ({"limits": (BandLimit("a", np.ones((1, 4)), on="trade"),)}, "a.on"),
        ({"limits": (BandLimit("a", np.ones((2, 4)), labels=("x",)),)}, "a.labels"),
        ({"limits": (GroupCap("a", -np.ones((1, 4)), np.array(1.0)),)}, "a.membership"),
        ({"limits": (GroupCap("a", np.ones((1, 4)), np.array(-1.0)),)}, "a.cap"),
        ({"limits": (RateLimit("a", np.array(-1.0)),)}, "a.delta"),
    ],
)
def test_bad_input(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        basket(0, **changes)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ImpactMode(-1.0, np.eye(2)), "rate_per_s"),
        (lambda: ImpactMode(1.0, np.array([[1.0, 2.0], [2.0, 1.0]])), r"smallest eigenvalue -1"),
        (lambda: ImpactMode(1.0, np.array([[1.0, 1.0], [0.0, 1.0]])), "not symmetric"),
        (lambda: ImpactMode(1.0, np.eye(2), np.zeros(3)), "impact.state"),
        (lambda: FactorRisk(np.ones((2, 1)), np.array([1.0, -1.0])), "covariance.specific"),
        (lambda: SoftPenalty(0.0), "soft"),
        (lambda: SoftPenalty(-1.0), "soft.linear"),
        (lambda: participation_limit(np.array([[-1.0]]), 0.1), "volume"),
        (lambda: participation_limit(np.ones((2, 2)), 0.0), "rate"),
        (lambda: basket(0).index(["N1", "XYZ"]), "instrument"),
    ],
)
def test_bad_pieces(make: Any, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        make()


# lowering and result ------------------------------------------------------------------------------------------------


def test_row_names_map_to_limits() -> None:
    lowered = lower(basket(0))
    names = lowered.qp.row_names
    assert names is not None
    assert len(names) == lowered.qp.m == len(set(names))
    for name in ("completion[N0]", "cash[net,3]", "sector[b,5]", "rate[N2,0]"):
        assert name in names
    assert not any(name.startswith("sector[c") for name in names)  # an empty group has no row
    lowered.qp.require_convex()


def test_same_scaling_gives_the_same_matrices() -> None:
    first = hedge(0)
    lowered = lower(first, keep_absolute=True)
    later = dataclasses.replace(
        first,
        p0=np.array([2e5, -1e5]),
        exposure_level=first.exposure_level * 1.3,
        limits=(TradeLimit("clip", np.array(0.0), np.array(5e5)), *first.limits[1:]),
    )
    again = lower(later, lowered.scaling, keep_absolute=True)
    assert (lowered.qp.P != again.qp.P).nnz == 0
    assert (lowered.qp.A != again.qp.A).nnz == 0
    solved = solve_multistage(later, scaling=lowered.scaling)
    check_against_reference(later, solved)


def test_lowering_objective_is_the_cost() -> None:
    program = hedge(1)
    solved = solve_multistage(program)
    assert solved.solution.objective * solved.cost_scale == pytest.approx(solved.cost.total, rel=1e-9)
    assert solved.certificate.lower_bound * solved.cost_scale <= solved.cost.total * (1 + 1e-9)


def test_result_tables_and_text() -> None:
    solved = solve_multistage(basket(0))
    frame = solved.to_frame()
    assert list(frame.columns) == ["trade", "marginal_cost", "participation", "rate"]
    assert frame.shape == (24, 4)
    text = solved.summary()
    assert "OPTIMAL" in text
    assert "completion[N0]" in text
    assert "impact_cross" in solved._repr_html_()
    figure = solved.plot()
    assert len(figure.data) == 4
    with pytest.raises(ValueError, match="read-only"):
        solved.program.p0[0] = 1.0
