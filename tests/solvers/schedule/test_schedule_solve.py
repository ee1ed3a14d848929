"""Schedules against a dense program solved by Clarabel: optimum, bound, limits, prices, restarts, determinism."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from crosswind.solvers import Status
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.schedule import FactorSchedule, solve_schedule
from crosswind.solvers.schedule.instances import schedule_instance

CASES = {
    "usual": {},
    "no impact": {"modes": 0},
    "three modes, one permanent": {"modes": 3, "terminal": 10.0},
    "five modes": {"modes": 5, "rank": 1},
    "both sides": {"two_sided": True, "drift": 3.0, "cap": 1.1},
    "nothing to pay for a cell but impact": {"eta": 0.0, "spread": 0.0},
    "no risk": {"risk_aversion": 0.0},
    "much risk": {"risk_aversion": 300.0},
    "no risk factors": {"factors": 0},
    "dense impact": {"dense": True},
    "soft end": {"terminal": 1.0, "cap": 1.02, "band": 2e-4},
    "heavy end": {"terminal": 1e4, "cap": 1.02},
    "free end": {"terminal": 0.0, "spread": 0.3, "risk_aversion": 20.0},
    "tight everywhere": {"cap": 1.02, "band": 2e-4, "participation": 0.1},
    "empty sectors": {"empty_sectors": 4},
    "no limits but boxes": {"cap": np.inf, "band": np.inf},
}


@pytest.mark.parametrize("case", CASES)
def test_the_optimum_is_that_of_a_dense_program(case, optimum):
    p = schedule_instance(12, 7, seed=3, **({"rank": 2, "factors": 3, "sectors": 3} | CASES[case]))
    trades, _, found = optimum(p)
    assert found.status.ok
    best = p.objective(trades)
    out = solve_schedule(p, tol=1e-7)
    assert out.status is Status.OPTIMAL
    scale = p.scale(trades)
    assert abs(out.objective - best) <= 3e-7 * scale
    assert out.lower_bound <= best + 1e-8 * scale
    assert out.violations.worst <= 1e-9
    assert p.violations(out.u) == out.violations
    assert out.gap == pytest.approx((out.objective - out.lower_bound) / p.scale(out.u), abs=1e-15)


@pytest.mark.parametrize(("names", "slices"), [(1, 1), (1, 8), (9, 1), (2, 2)])
@pytest.mark.parametrize("two_sided", [False, True])
def test_the_smallest_sizes(names, slices, two_sided, optimum):
    p = schedule_instance(names, slices, rank=1, factors=1, sectors=1, two_sided=two_sided, seed=5)
    trades, _, found = optimum(p)
    assert found.status.ok
    out = solve_schedule(p, tol=1e-6)
    assert out.status.ok
    assert abs(out.objective - p.objective(trades)) <= 2e-6 * p.scale(trades)


def test_every_bound_on_the_way_lies_below_the_optimum_and_every_schedule_above(optimum):
    for seed in range(6):
        p = schedule_instance(10, 6, rank=1, factors=2, sectors=2, cap=1.05, band=1e-3, seed=seed, two_sided=seed % 2)
        trades, _, _ = optimum(p)
        best, seen = p.objective(trades), []
        solve_schedule(p, tol=1e-8, max_iter=60, progress=seen.append)
        assert seen
        for moment in seen:
            assert moment.lower_bound <= best + 1e-8 * p.scale(trades)
            assert moment.objective >= best - 1e-8 * p.scale(trades)


def test_prices_balance_the_gradient():
    """Stationarity: gradient, spread, caps, bands, ends and boxes cancel in every cell."""
    p = schedule_instance(12, 7, rank=2, factors=3, sectors=3, cap=1.05, band=1e-3, seed=1)
    out = solve_schedule(p, tol=1e-9, max_iter=5000)
    prices = out.prices
    member = np.where(p.groups < 0, p.group_caps.shape[1], p.groups)
    theta = np.hstack([prices.groups, np.zeros((p.slices, 1))])[:, member]
    push = np.cumsum(prices.bands[::-1], axis=0)[::-1] @ p.band_vectors.T
    rest = p.gradient(out.u) - push - prices.completion + prices.box
    kink = p.spread + theta
    left = np.where(np.abs(out.u) > 1e-9, np.abs(rest + np.sign(out.u) * kink), np.maximum(np.abs(rest) - kink, 0.0))
    assert left.max() <= 1e-3 * np.abs(p.gradient(out.u)).max()
    assert (prices.groups >= 0.0).all()
    slack = p.group_caps - p.group_sums(out.u)
    assert float(np.sum(prices.groups * slack)) <= 1e-6 * p.scale(out.u)


def test_completion_prices_are_the_derivative_of_the_cost():
    p = schedule_instance(8, 5, rank=1, factors=2, sectors=2, cap=np.inf, band=np.inf, seed=2)
    out = solve_schedule(p, tol=1e-9)
    i, step = 3, 1e-3 * abs(p.start[3])
    moved = p.target + step * np.eye(8)[i]
    up, down = (
        solve_schedule(dataclasses.replace(p, target=t), tol=1e-10, max_iter=5000).objective
        for t in (moved, p.target - step * np.eye(8)[i])
    )
    assert (up - down) / (2.0 * step) == pytest.approx(-out.prices.completion[i], rel=1e-3)


def test_nothing_to_trade_costs_nothing():
    p = FactorSchedule(start=np.zeros(4), eta=np.ones((3, 4)), spread=np.array(0.1))
    out = solve_schedule(p)
    assert out.status.ok
    assert not out.u.any()
    assert out.objective == out.lower_bound == 0.0


def test_one_name_without_risk_trades_evenly():
    p = FactorSchedule(start=np.array([8.0]), eta=np.full((4, 1), 0.5), lower=np.zeros((4, 1)))
    out = solve_schedule(p, tol=1e-10)
    assert out.u == pytest.approx(np.full((4, 1), 2.0), abs=1e-6)
    assert out.objective == pytest.approx(4 * 0.5 * 4.0, rel=1e-9)


def test_almgren_and_chriss_in_discrete_time():
    """Without limits and impact: q_t = q_0 sinh(κ(T − t))/sinh(κT), 2 cosh κ = 2 + λσ²/η."""
    T, eta, risk = 10, 0.7, 0.2
    weight = np.append(np.full(T - 1, 1.0), 0.0)
    p = FactorSchedule(np.array([5.0]), np.full((T, 1), eta), risk_own=np.array([risk]), risk_weight=weight)
    kappa = np.arccosh(1.0 + 0.5 * risk / eta)
    expected = 5.0 * np.sinh(kappa * (T - np.arange(1, T + 1))) / np.sinh(kappa * T)
    out = solve_schedule(p, tol=1e-10, max_iter=5000)
    assert out.status.ok
    assert p.remaining(out.u)[:, 0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [1e-8, 1e8])
@pytest.mark.parametrize("money", [1e-8, 1e8])
def test_units_do_not_matter(size, money):
    p = schedule_instance(12, 7, rank=2, factors=3, sectors=3, cap=1.05, band=1e-3, seed=4)
    base = solve_schedule(p, tol=1e-6)
    other = FactorSchedule(
        start=p.start * size,
        eta=p.eta * money / size**2,
        spread=p.spread * money / size,
        linear=p.linear * money / size,
        lower=p.lower * size,
        upper=p.upper * size,
        decays=p.decays,
        impact_own=p.impact_own * money / size**2,
        impact_loadings=tuple(L * np.sqrt(money) / size for L in p.impact_loadings),
        impact_state=p.impact_state * size,
        risk_own=p.risk_own,
        risk_loadings=p.risk_loadings,
        risk_weight=p.risk_weight * money / size**2,
        groups=p.groups,
        group_caps=p.group_caps * size,
        band_vectors=p.band_vectors,
        band_lower=p.band_lower * size,
        band_upper=p.band_upper * size,
    )
    out = solve_schedule(other, tol=1e-6)
    assert out.status.ok
    assert out.iterations == base.iterations
    assert out.objective / money == pytest.approx(base.objective, rel=3e-6)


@pytest.mark.parametrize("risk_aversion", [0.0, 1e-8, 1e8])
@pytest.mark.parametrize("terminal", [1e-8, 1e8, np.inf])
def test_extreme_weights_give_bounds_and_no_nan(risk_aversion, terminal):
    p = schedule_instance(
        15, 8, rank=2, factors=3, sectors=3, risk_aversion=risk_aversion, terminal=terminal, empty_sectors=2
    )
    out = solve_schedule(p, tol=1e-4, max_iter=1500)
    assert np.isfinite(out.u).all()
    assert np.isfinite(out.objective)
    assert out.violations.worst <= 1e-9
    assert out.status.ok


def test_the_same_problem_gives_the_same_bits():
    p = schedule_instance(40, 9, seed=7)
    one, two = solve_schedule(p), solve_schedule(p)
    assert one.u.tobytes() == two.u.tobytes()
    assert (one.objective, one.lower_bound, one.iterations) == (two.objective, two.lower_bound, two.iterations)


def test_names_may_stand_in_any_order():
    p = schedule_instance(20, 6, sectors=3, cap=1.05, seed=8)
    order = np.random.default_rng(0).permutation(20)
    one, two = solve_schedule(p, tol=1e-8), solve_schedule(p.take(order), tol=1e-8)
    assert two.objective == pytest.approx(one.objective, rel=1e-6)
    assert np.abs(two.u - one.u[:, order]).max() <= 1e-2 * np.abs(one.u).max()


def test_a_warm_start_stands_at_the_optimum():
    p = schedule_instance(60, 12, cap=1.05, seed=9)
    cold = solve_schedule(p, tol=1e-6)
    again = solve_schedule(p, tol=1e-6, warm=cold)
    assert again.status.ok
    assert again.iterations < cold.iterations


def next_slice(p, u):
    """The problem after the first slice of ``u`` was traded."""
    change = {
        name: getattr(p, name)[1:]
        for name in (
            "eta",
            "spread",
            "linear",
            "lower",
            "upper",
            "risk_weight",
            "group_caps",
            "band_lower",
            "band_upper",
        )
    }
    state = np.array([p.states(u, m)[0] for m in range(p.modes)])
    return dataclasses.replace(p, start=p.start - u[0], decays=p.decays[:, 1:], impact_state=state, **change)


def test_a_shifted_state_starts_the_next_slice():
    p = schedule_instance(60, 12, cap=1.05, seed=9)
    before = solve_schedule(p, tol=1e-6)
    rest = next_slice(p, before.u)
    cold, warm = solve_schedule(rest, tol=1e-6), solve_schedule(rest, tol=1e-6, warm=before.state.shifted())
    assert warm.status.ok
    assert warm.iterations < cold.iterations
    assert warm.objective == pytest.approx(cold.objective, rel=3e-6)
    with pytest.raises(InvalidInput, match="shape"):
        solve_schedule(rest, warm=before)
    with pytest.raises(InvalidInput, match="leave a slice"):
        before.state.shifted(12)


def test_a_start_from_other_data_still_ends_at_the_optimum():
    """A preconditioner of an unlike problem is a bad guess, and replaced."""
    there = solve_schedule(schedule_instance(60, 12, risk_aversion=1e-3, spread=5.0, seed=9))
    here = schedule_instance(60, 12, cap=1.05, risk_aversion=1e3, seed=10)
    cold, warm = solve_schedule(here, tol=1e-6), solve_schedule(here, tol=1e-6, warm=there)
    assert warm.status.ok
    assert warm.objective == pytest.approx(cold.objective, rel=3e-6)
    again = solve_schedule(here, tol=1e-6, warm=pickle.loads(pickle.dumps(cold)))
    assert again.status.ok


def test_a_dense_matrix_of_impact():
    p = schedule_instance(60, 8, dense=True, cap=1.1, seed=4)
    thin = solve_schedule(p, tol=1e-6)
    assert thin.status.ok
    assert thin.violations.worst <= 1e-9


def test_a_limit_of_time_or_iterations_returns_the_best_that_is_proved():
    p = schedule_instance(300, 26, cap=1.02, band=2e-4, risk_aversion=100.0)
    soon = solve_schedule(p, tol=1e-15, time_limit=0.1)
    assert soon.status is Status.TIME_LIMIT
    few = solve_schedule(p, tol=1e-15, max_iter=25)
    assert few.status is Status.ITERATION_LIMIT
    assert few.iterations == 25
    for out in (soon, few):
        assert out.violations.worst <= 1e-9
        assert out.lower_bound <= out.objective
        assert 0.0 < out.gap < 1.0


def contradictions(p):
    T, b = p.band_lower.shape
    late, early = np.full((T, b), -np.inf), np.full((T, b), np.inf)
    late[-1, 0], early[0] = 1.0, p.start @ p.band_vectors - 2.0 * np.abs(p.upper[0] - p.lower[0]).sum()
    yield "caps", {"group_caps": 0.5 * p.group_caps}
    yield "boxes", {"upper": np.minimum(p.upper, 0.01), "lower": np.maximum(p.lower, -0.01)}
    yield "boxes from below", {"lower": np.where(p.upper > 0.0, p.upper, p.lower)}
    yield "a band against the end", {"band_lower": late, "band_upper": np.inf}
    yield "a band out of reach", {"band_upper": early, "band_lower": -np.inf}


@pytest.mark.parametrize("which", range(5))
def test_infeasible_limits_are_proved(which):
    p = schedule_instance(10, 6, rank=1, factors=1, sectors=2, seed=1)
    name, change = list(contradictions(p))[which]
    out = solve_schedule(dataclasses.replace(p, **change), tol=1e-6)
    assert out.status is Status.INFEASIBLE, name
    assert out.gap == out.lower_bound == np.inf
    assert out.violations.worst > 1e-6


def test_limits_that_leave_a_single_schedule_are_not_called_infeasible():
    p = schedule_instance(6, 4, rank=1, factors=1, sectors=0, cap=np.inf, band=np.inf, seed=1)
    only = np.outer(np.full(4, 0.25), p.start)
    for low, high in ((only, only), (np.minimum(only, 0.0), np.maximum(only, 0.0))):
        out = solve_schedule(dataclasses.replace(p, lower=low, upper=high), tol=1e-8)
        assert out.status.ok
        assert out.u == pytest.approx(only, abs=1e-9)


def test_bad_requests_are_refused():
    p = schedule_instance(5, 4, rank=1, factors=1, sectors=1)
    for bad in ({"tol": 0.0}, {"tol": np.nan}, {"time_limit": -1.0}, {"max_iter": 0}, {"method": "simplex"}):
        with pytest.raises(InvalidInput):
            solve_schedule(p, **bad)
    with pytest.raises(InvalidInput, match="interior"):
        solve_schedule(dataclasses.replace(p, change=np.array(0.5)))
    good = solve_schedule(p).state
    for name, value in (("trades", np.full((4, 5), np.nan)), ("weight", 0.0), ("bands", np.zeros((3, 2)))):
        with pytest.raises(InvalidInput, match=name):
            solve_schedule(p, warm=dataclasses.replace(good, **{name: value}))
    assert solve_schedule(p, warm=good).status.ok
