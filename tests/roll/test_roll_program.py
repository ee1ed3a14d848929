"""The roll program: against cvxpy, against the multistage program, its costs, limits, tail and refusals."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crosswind.optim import cost, solve_multistage
from crosswind.problems.roll import RollOrder
from crosswind.problems.roll.program import (
    RollPresent,
    RollProblem,
    RollScenarios,
    RollSettings,
    RollStatistics,
    draw_scenarios,
    scenario_program,
    scenario_trades,
)
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput
from crosswind.solvers.solution import Status

START = pd.Timestamp("2024-03-12 14:00", tz="UTC")
COLUMNS = ["spread_fees", "impact", "basis_drift", "legging", "timing"]


def an_order(quantity: int = 3000, **values: int) -> RollOrder:
    return RollOrder("roll", quantity, START, START + pd.Timedelta("2h"), **values)


def hard_scenarios(
    count: int = 40, slices: int = 8, seed: int = 1, side: int = 1, reach: float = 80.0
) -> RollScenarios:
    """A thin book in which little fills at rest, and legs that are sometimes cheap."""
    drawn = draw_scenarios(
        RollStatistics(leg_offset_sd=0.2, depth=300.0),
        slices=slices,
        slice_s=300.0,
        count=count,
        seed=seed,
        present=RollPresent(side=side),
    )
    return replace(drawn, flow=np.minimum(drawn.flow, reach), leg_half=0.1 * drawn.leg_half)


def reference(problem: RollProblem) -> tuple[float, np.ndarray, float]:
    """Write the program down from its description, slab by slab, and solve it by cvxpy and Clarabel.

    Returns the value, what is given up in the first slice by channel (3,), and the completion price.
    """
    import cvxpy as cp

    sc, se, order = problem.scenarios, problem.settings, problem.order
    S, T, worth, p = sc.count, sc.slices, sc.multiplier, sc.probabilities
    Q, J = float(problem.remaining), min(se.slabs, problem.remaining)
    size = Q / J
    # In thousands of contracts and of currency: the solver's own tolerances are absolute.
    unit = 1000.0
    spread = unit * cp.Variable((J, T + 1), nonneg=True)
    at_once, one_by_one = unit * cp.Variable(T, nonneg=True), unit * cp.Variable(T, nonneg=True)
    times = np.append(0.0, np.cumsum(sc.dt_s))
    decay = np.exp(-np.log(2.0) / sc.refill_half_life_s * np.abs(np.subtract.outer(times, times)))
    root = np.linalg.cholesky(decay + 1e-15 * np.eye(T + 1))
    leg_root = np.linalg.cholesky(decay[:T, :T] + 1e-15 * np.eye(T))
    costs = []
    for s in range(S):
        total = worth * problem.moved * Q
        crossed, legged = [0] * (T + 1), [0] * T
        for j in range(J):
            unfilled = [1.0]
            for t in range(T):
                passed = sc.flow[s, : t + 1].sum()
                unfilled.append(1.0 - min(max((passed - j * size) / size, 0.0), 1.0))
            rested = 0.0
            for t in range(T + 1):
                own = spread[j, t]
                legs = (at_once[t] / J, one_by_one[t] / J) if t < T else (0.0, 0.0)
                everything = own + legs[0] + legs[1]
                total = total + rested * everything
                u = unfilled[t]
                drift, fee = worth * sc.drift[s, t], 2.0 * se.fee
                total = total + u * (worth * sc.half_width[s, t] + fee + drift) * own
                crossed[t] = crossed[t] + u * own
                if t < T:
                    total = total + u * (worth * sc.leg_half[s, t] + fee + drift) * legs[0]
                    share = sc.second_fill[s, t]
                    second = (1 - share) * (sc.second_half[s, t + 1] + sc.second_move[s, t])
                    second -= share * sc.second_half[s, t]
                    one = worth * (sc.leg_half[s, t] - sc.second_half[s, t] + second) + fee + drift
                    total = total + u * one * legs[1]
                    legged[t] = legged[t] + u * (legs[0] + legs[1])
                    price = worth * (sc.rest_drift[s, t] - sc.rest_half[s, t]) + fee
                    rested += (u - unfilled[t + 1]) * price
        step = np.sqrt(worth * se.slope * sc.tick / sc.depth[s])
        leg_step = np.sqrt(worth * se.slope * sc.leg_tick / sc.leg_depth[s, :T])
        walked = cp.sum_squares(root.T @ cp.multiply(step / np.sqrt(unit), cp.hstack(crossed)))
        walked += cp.sum_squares(leg_root.T @ cp.multiply(leg_step / np.sqrt(unit), cp.hstack(legged)))
        costs.append(total / unit + 0.5 * walked)
    # What the description charges beside the costs: underfill, legging exposure, steadiness, the dry case.
    forced = 0.0
    present = np.ones((S, T + 1, J))
    for s in range(S):
        for j in range(J):
            for t in range(T):
                present[s, t + 1, j] = 1.0 - min(max((sc.flow[s, : t + 1].sum() - j * size) / size, 0.0), 1.0)
    for j in range(J):
        forced = forced + se.underfill_price * (p @ present[:, T, j]) * spread[j, T]
    naked = cp.sum(cp.multiply(sc.dt_s / 60.0 * (p @ present.mean(axis=2))[:T], one_by_one)) * se.let_price
    ridge = 0.5 * se.steadiness * sc.tick * worth / Q
    steady = cp.sum_squares(cp.hstack([cp.vec(spread, order="C"), at_once, one_by_one]) * np.sqrt(ridge / unit))
    fee = 2.0 * se.fee
    dry = worth * (p @ (sc.half_width + sc.drift)) + fee
    dry[T] += 0.5 * worth * se.slope * sc.tick * Q * (p @ (1.0 / sc.depth[:, T])) + se.underfill_price
    later = np.column_stack([sc.second_half[:, 1:], sc.second_half[:, -1]])
    single = sc.leg_half - sc.second_half + (1 - sc.second_fill) * (later + sc.second_move)
    single = single - sc.second_fill * sc.second_half
    dry_once = worth * (p @ (sc.leg_half + sc.drift)) + fee
    dry_single = worth * (p @ (single + sc.drift)) + fee
    dried = cp.sum(spread, axis=0) @ dry + at_once @ dry_once[:T] + one_by_one @ dry_single[:T]
    zeta, over = cp.Variable(), cp.Variable(S, nonneg=True)
    mean = sum(p[s] * costs[s] for s in range(S))
    tail = zeta + p @ over / (1.0 - se.alpha)
    legs = at_once + one_by_one
    done = (cp.sum(spread, axis=1) + cp.sum(legs) / J) / unit == size / unit
    limits = [done, *(over[s] >= costs[s] - zeta for s in range(S))]
    limits += [(cp.sum(spread[:, t]) + legs[t]) / unit <= se.participation * sc.volume[t] / unit for t in range(T)]
    limits += [legs / unit <= order.max_naked / unit]
    left = min(se.deadline_share * Q, (sc.levels * sc.depth[:, T]).min() + order.carry_cap)
    limits += [cp.sum(spread[:, T]) / unit <= left / unit]
    if 1 not in se.let_slices:
        limits += [one_by_one == 0]
    charged = (forced + naked + se.dry * dried) / unit + steady
    problem_ = cp.Problem(cp.Minimize(mean + se.tail_weight * tail + charged), limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        problem_.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    first = np.array([spread.value[:, 0].sum(), at_once.value[0], one_by_one.value[0]])
    return unit * float(problem_.value), first, -np.asarray(done.dual_value)


@pytest.mark.parametrize(
    ("values", "naked"),
    [
        ({"tail_weight": 1.0, "deadline_share": 0.3, "steadiness": 0.1}, 200),
        ({"tail_weight": 0.0, "underfill_price": 3.0, "steadiness": 0.1}, 0),
        ({"tail_weight": 4.0, "alpha": 0.9, "let_slices": (0,), "slabs": 3, "steadiness": 0.1}, 400),
    ],
    ids=["legs, deadline", "no tail, underfill", "legs at once, other tail"],
)
def test_equals_cvxpy(values, naked):
    problem = RollProblem(an_order(3000, max_naked=naked), hard_scenarios(8, 4), RollSettings(**values), moved=0.02)
    plan = problem.solve(1e-12)
    value, first, prices = reference(problem)
    assert plan.solution.status is Status.OPTIMAL
    assert plan.objective == pytest.approx(value, rel=1e-7)
    got = [plan.first.cross, plan.first.legs_at_once, plan.first.legs_one_by_one]
    np.testing.assert_allclose(got, first, atol=1e-3, rtol=1e-6)
    np.testing.assert_allclose(plan.prices["completion"], prices, rtol=1e-4)


@pytest.mark.parametrize("side", [1, -1])
def test_scenario_costs_are_those_of_the_multistage_program(side):
    order, se = an_order(3000 * side, max_naked=200), RollSettings(let_price=0.0, deadline_share=0.3)
    scenarios = hard_scenarios(side=side)
    plan = RollProblem(order, scenarios, se).solve()
    assert plan.first.legs_at_once + plan.first.legs_one_by_one > 1.0
    for s in (0, 7, 39):
        program = scenario_program(scenarios, s, 3000.0, se, side=side, max_naked=200.0)
        trades = scenario_trades(plan.assembly, plan.plan, s, side)
        assert cost(program, trades).total == pytest.approx(plan.costs[s], rel=1e-10)
        ends = program.p0 + program.incidence @ trades.sum(axis=0)
        np.testing.assert_allclose(ends, [0.0, 3000.0 * side], atol=1e-6)


def test_foresight_bounds_every_plan():
    se = RollSettings(let_price=0.0, let_slices=(0,))
    scenarios = hard_scenarios(6)
    plan = RollProblem(an_order(max_naked=200), scenarios, se).solve()
    for s in range(6):
        best = solve_multistage(scenario_program(scenarios, s, 3000.0, se, max_naked=200.0)).cost.total
        assert best <= plan.costs[s] + 1e-6 * abs(plan.costs[s])


@pytest.mark.parametrize("side", [1, -1])
def test_nothing_to_know_is_the_multistage_program(side):
    one = hard_scenarios(side=side).take([3])
    one = replace(one, flow=np.zeros_like(one.flow))
    se = RollSettings(steadiness=0.0, dry=0.0, let_price=0.0, let_slices=(0,), tail_weight=0.0)
    order = an_order(3000 * side, max_naked=200)
    plan = RollProblem(order, one, se).solve(1e-11)
    best = solve_multistage(scenario_program(one, 0, 3000.0, se, side=side, max_naked=200.0), tol=1e-10)
    assert plan.mean == pytest.approx(best.cost.total, rel=1e-7)
    np.testing.assert_allclose(plan.first.cross, side * best.trades[0, 1], atol=0.05)


def test_components_sum_to_each_scenarios_cost():
    for carry in (True, False):
        problem = RollProblem(an_order(max_naked=100), hard_scenarios(), RollSettings(), moved=-0.03, carry=carry)
        plan = problem.solve()
        assert list(plan.components.columns) == COLUMNS
        solver = plan.assembly.program.costs(plan.plan)
        np.testing.assert_allclose(plan.components.sum(axis=1), plan.costs, rtol=1e-12)
        np.testing.assert_allclose(plan.costs, solver, rtol=1e-9)
        np.testing.assert_allclose(plan.evaluate(problem.scenarios).to_numpy(), plan.components.to_numpy(), atol=1e-7)


def test_mean_quantile_and_tail_are_those_of_the_costs():
    plan = RollProblem(an_order(), hard_scenarios(200), RollSettings()).solve()
    costs = np.sort(plan.costs)
    assert plan.mean == pytest.approx(costs.mean())
    assert plan.q95 == pytest.approx(costs[189])
    assert plan.cvar95 == pytest.approx(costs[190:].mean())
    assert plan.q95 <= plan.cvar95
    charged = plan.mean + 0.5 * plan.cvar95
    assert charged <= plan.objective <= charged * 1.02


def test_frontier_trades_mean_for_tail():
    table = RollProblem(an_order(), hard_scenarios(100), RollSettings()).frontier()
    assert len(table) == 30
    assert (table["status"] == "OPTIMAL").all()
    assert (np.diff(table["cvar95"]) <= 1e-4).all()
    assert (np.diff(table["mean"]) >= -1e-4).all()
    assert table["cvar95"].iloc[-1] < table["cvar95"].iloc[0] - 0.05


def test_following_the_fills_beats_a_fixed_plan_out_of_sample():
    scenarios, fresh = hard_scenarios(100, reach=400.0), hard_scenarios(1000, seed=77, reach=400.0)
    objective = {}
    for carry in (True, False):
        plan = RollProblem(an_order(2000), scenarios, RollSettings(), carry=carry).solve()
        costs = np.sort(plan.evaluate(fresh).sum(axis=1).to_numpy())
        objective[carry] = costs.mean() + 0.5 * costs[950:].mean()
    assert objective[True] < objective[False] - 0.02 * abs(objective[False])


def test_limits_hold_and_their_prices_are_what_they_save():
    scenarios = hard_scenarios(60)
    se = RollSettings(participation=0.22, deadline_share=0.1)
    order = an_order(5400, max_naked=150)
    plan = RollProblem(order, scenarios, se).solve(1e-10)
    frame = plan.to_frame()
    legs = frame["legs_at_once"] + frame["legs_one_by_one"]
    pace = se.participation * scenarios.volume
    assert (frame["cross"] + legs)[:-1].max() <= pace.max() * (1 + 1e-9)
    assert legs.max() <= 150 * (1 + 1e-9)
    assert frame["cross"].iloc[-1] <= 0.1 * 5400 * (1 + 1e-9)
    price = plan.prices["participation"].max()
    assert price > 0.01
    more = RollProblem(order, replace(scenarios, volume=scenarios.volume + 1.0 / se.participation), se).solve(1e-10)
    saved = plan.objective - more.objective
    assert saved == pytest.approx(plan.prices["participation"].sum(), rel=0.05)


@pytest.mark.parametrize("quantity", [1, 3, 7])
def test_small_orders(quantity):
    plan = RollProblem(an_order(quantity), hard_scenarios(20), RollSettings()).solve()
    assert plan.solution.status is Status.OPTIMAL
    assert plan.plan.sum() == pytest.approx(quantity)
    assert len(plan.prices["completion"]) == min(5, quantity)


def test_one_slice_one_scenario():
    plan = RollProblem(an_order(50), hard_scenarios(1, 1), RollSettings(participation=5.0)).solve()
    assert plan.solution.status is Status.OPTIMAL
    assert plan.q95 == plan.cvar95 == pytest.approx(plan.mean)


def test_scenarios_without_probability_are_reported_and_weigh_nothing():
    scenarios = hard_scenarios(30)
    awful = np.array(scenarios.half_width)
    awful[:10] += 5.0
    p = np.where(np.arange(30) < 10, 0.0, 1.0 / 20.0)
    mixed = replace(scenarios, half_width=awful, probabilities=p)
    plan = RollProblem(an_order(), mixed, RollSettings()).solve(1e-10)
    alone = RollProblem(an_order(), mixed.take(np.arange(10, 30)), RollSettings()).solve(1e-10)
    assert plan.mean == pytest.approx(alone.mean, rel=1e-6)
    assert plan.cvar95 == pytest.approx(alone.cvar95, rel=1e-6)
    assert len(plan.costs) == 30
    assert plan.costs[:10].min() > plan.cvar95


def test_a_slice_without_volume_is_left_out():
    scenarios = hard_scenarios(20)
    volume = np.array(scenarios.volume)
    volume[2] = 0.0
    plan = RollProblem(an_order(), replace(scenarios, volume=volume), RollSettings()).solve()
    assert plan.solution.status is Status.OPTIMAL
    assert plan.to_frame()["cross"].iloc[2] == 0.0


def test_what_cannot_be_done_says_by_how_much_and_what_force_costs():
    scenarios = hard_scenarios(20)
    se = RollSettings(participation=0.01)
    with pytest.raises(InfeasibleProblem) as caught:
        RollProblem(an_order(20_000), scenarios, se).solve()
    told = caught.value.value
    able = 0.01 * scenarios.volume.sum() + scenarios.capacity().min()
    assert told["short"] == pytest.approx(20_000 - able)
    assert told["forced_cost_per_spread"] > scenarios.multiplier * scenarios.half_width[:, -1].mean()
    assert "short" in str(caught.value)
    assert "carry_cap" in caught.value.remedy
    # The order may carry what is short: then there is a plan.
    carried = an_order(20_000, carry_cap=int(np.ceil(told["short"])) + 5)
    plan = RollProblem(carried, scenarios, se).solve()
    assert plan.beyond_probability > 0.0


def test_quantile_refinement_lowers_the_quantile_or_says_why_not():
    problem = RollProblem(an_order(), hard_scenarios(100, seed=5), RollSettings(tail_weight=3.0))
    plan = problem.solve()
    found = problem.refine_to_quantile(plan, test=hard_scenarios(500, seed=6))
    worth = [r.mean + 3.0 * r.q95 for r in (plan, found.plan)]
    assert found.improved
    assert worth[1] < worth[0]
    assert found.plan.cvar95 >= plan.cvar95 - 1e-6 * abs(plan.cvar95)
    assert isinstance(found.held, bool)
    assert "fresh" in found.reason
    assert found.rounds["objective"].min() == pytest.approx(found.rounds["objective"].iloc[:].min())
    assert ("failed out of sample" in found.reason) is (not found.held)
    for settings, scenarios, words in (
        (RollSettings(tail_weight=0.0), hard_scenarios(100), "no weight"),
        (RollSettings(), hard_scenarios(10), "fewer than two"),
    ):
        failed = RollProblem(an_order(), scenarios, settings).refine_to_quantile()
        assert not failed.improved
        assert failed.plan is failed.first
        assert words in failed.reason
        assert failed.summary()


def test_plan_tells_itself():
    plan = RollProblem(an_order(max_naked=100), hard_scenarios(), RollSettings()).solve()
    frame = plan.to_frame()
    assert len(frame) == 9
    assert frame["remaining"].iloc[0] == pytest.approx(3000.0)
    assert (np.diff(frame["remaining"]) <= 1e-6).all()
    assert (frame["remaining_q05"] <= frame["remaining_q95"]).all()
    flow = frame["filled"] + frame["crossed"]
    np.testing.assert_allclose(flow.sum(), 3000.0)
    assert "OPTIMAL" in plan.summary()
    assert "<table" in plan._repr_html_()
    assert len(plan.plot().data) >= 5
    assert plan.first.rest + plan.first.cross + plan.first.legs_at_once + plan.first.legs_one_by_one == pytest.approx(
        3e3
    )


def test_same_inputs_same_bits_and_sides_are_mirrors():
    buy = RollProblem(an_order(2000), hard_scenarios(), RollSettings()).solve()
    again = RollProblem(an_order(2000), hard_scenarios(), RollSettings()).solve()
    sell = RollProblem(an_order(-2000), hard_scenarios(), RollSettings()).solve()
    assert buy.plan.tobytes() == again.plan.tobytes() == sell.plan.tobytes()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("drift", lambda s: np.where(np.arange(9) == 3, np.nan, s.drift)),
        ("flow", lambda s: -s.flow - 1.0),
        ("flow", lambda s: np.where(s.flow > 0, np.nan, s.flow)),
        ("half_width", lambda s: s.half_width - 1.0),
        ("depth", lambda s: 0.0 * s.depth),
        ("probabilities", lambda s: s.probabilities * 2.0),
        ("probabilities", lambda s: -s.probabilities),
        ("probabilities", lambda s: np.zeros(0)),
        ("dt_s", lambda s: np.zeros(0)),
        ("dt_s", lambda s: -s.dt_s),
        ("volume", lambda s: s.volume[:3]),
        ("second_fill", lambda s: s.second_fill + 2.0),
    ],
)
def test_refuses_bad_scenarios_by_name(field, change):
    good = hard_scenarios()
    with pytest.raises(InvalidInput) as caught:
        replace(good, **{field: change(good)})
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    "values",
    [
        {"tail_weight": -1.0},
        {"alpha": 1.0},
        {"slabs": 0},
        {"slabs": 2.5},
        {"participation": 0.0},
        {"deadline_share": 1.5},
        {"let_slices": (2,)},
        {"fee": float("nan")},
        {"slope": "steep"},
    ],
)
def test_refuses_bad_settings_by_name(values):
    with pytest.raises(InvalidInput) as caught:
        RollSettings(**values)
    assert caught.value.field == next(iter(values))


@pytest.mark.parametrize("remaining", [0, -3, 3001, 2.5])
def test_refuses_bad_quantities(remaining):
    with pytest.raises(InvalidInput):
        RollProblem(an_order(), hard_scenarios(), remaining=remaining)


def test_random_rolls_are_certified_or_refused():
    solved = 0
    for seed in range(40):
        g = np.random.default_rng(seed)
        numbers = RollStatistics(
            depth=10.0 ** g.uniform(1.0, 4.0),
            jumps_per_hour=g.uniform(0.0, 5.0),
            noise_points=10.0 ** g.uniform(-3.0, 0.0),
            volume_per_s=(10.0 ** g.uniform(-2.0, 2.0),),
            refill_half_life_s=float(g.choice([5.0, 30.0, 600.0, np.inf])),
        )
        scenarios = draw_scenarios(
            numbers,
            slices=int(g.integers(1, 16)),
            slice_s=10.0 ** g.uniform(1.0, 3.0),
            count=int(g.integers(1, 60)),
            seed=seed,
            follow=bool(g.integers(2)),
            present=RollPresent(side=int(g.choice([-1, 1])), stress=g.uniform(1.0, 4.0)),
        )
        if g.random() < 0.5:
            scenarios = replace(scenarios, flow=np.minimum(scenarios.flow, 10.0 ** g.uniform(0.0, 3.0)))
        quantity = int(10.0 ** g.uniform(0.0, 4.0)) + 1
        order = an_order(quantity, max_naked=int(g.choice([0, 1, 50])), carry_cap=int(g.choice([0, quantity])))
        se = RollSettings(
            tail_weight=float(g.choice([0.0, 0.5, 100.0])),
            alpha=float(g.choice([0.0, 0.5, 0.95])),
            participation=10.0 ** g.uniform(-2.0, 1.0),
            steadiness=float(g.choice([0.0, 1e-3])),
            underfill_price=float(g.choice([0.0, 10.0])),
            slope=float(g.choice([0.0, 0.5])),
            deadline_share=float(g.choice([0.0, 0.5, 1.0])),
        )
        try:
            plan = RollProblem(order, scenarios, se).solve()
        except InfeasibleProblem:
            continue
        solved += 1
        assert plan.solution.status is Status.OPTIMAL, plan.summary()
        np.testing.assert_allclose(plan.components.sum(axis=1), plan.costs, rtol=1e-9)
        assert plan.plan.sum() == pytest.approx(quantity)
        assert plan.q95 <= plan.cvar95 + 1e-9 * abs(plan.cvar95)
    assert solved > 20
