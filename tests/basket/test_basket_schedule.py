"""What a schedule promises: optimality in marginal costs, sums, prices of limits, and the degenerate baskets."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from crosswind.optim.limits import BandLimit, SoftPenalty, TradeLimit
from crosswind.problems.basket import BasketProblem, BasketSchedule, Blackout
from crosswind.problems.basket.instances import basket_instance, basket_programs
from crosswind.solvers.errors import InfeasibleProblem, SolverFailure

Maker = Callable[..., BasketProblem]


def wall(schedule: BasketSchedule) -> np.ndarray:
    """Return MC − completion price − prices of limits, mapped by hand from the desk's tables (T, N)."""
    p = schedule.problem
    rest = schedule.marginal_costs.to_numpy() - schedule.completion_price.to_numpy()
    prices = {name: table.to_numpy() for name, table in schedule.prices.items()}
    # A cap met from below lowers the marginal cost of what is bought; a floor raises it.
    sign = np.where(p.arrays.side >= 0.0, 1.0, -1.0)
    for name in ("participation", "blackout", "must finish"):
        if name in prices:
            rest = rest + sign * prices[name]
    if "no reversal" in prices:
        rest = rest - sign * prices["no reversal"]
    if "sector cap" in prices:
        assert p.sectors is not None
        columns = list(schedule.prices["sector cap"].columns)
        of_name = [columns.index(str(p.sectors[n])) for n in p.names]
        rest = rest + sign * prices["sector cap"][:, of_name]
    if "cash band" in prices:
        # The band is on 1'q, which a purchase lowers from its own slice on; the sign of q tells which side binds.
        level = np.sign(schedule.inventory.to_numpy()[1:].sum(axis=1))[:, None]
        rest = rest - np.cumsum((level * prices["cash band"])[::-1], axis=0)[::-1]
    return np.asarray(rest)


def test_marginal_cost_is_completion_price_plus_limit_prices() -> None:
    seen: set[str] = set()
    for seed in range(8):
        problem = basket_instance(7, 9, seed=seed, participation=0.12, risk_aversion=4e-6)
        band = abs(float(problem.inventory.sum()))
        if seed % 2:
            problem = problem.replace(sector_cap=None, cash_band=0.7 * band, risk_aversion=1e-8)
        schedule = problem.solve()
        traded = np.abs(schedule.trades.to_numpy()) > 1e-5 * problem.parent_notional / schedule.trades.size
        scale = float(schedule.marginal_costs.abs().to_numpy().max())
        assert np.abs(wall(schedule)[traded]).max() < 1e-6 * scale
        assert schedule.solution.stationarity_rel < 1e-6
        seen |= set(schedule.prices_bps["limit"])
    assert seen == {"participation", "no reversal", "sector cap", "cash band"}  # each price took part in the sum


def test_the_same_holds_under_a_penalty() -> None:
    for seed in range(4):
        problem = basket_instance(5, 7, seed=seed, participation=0.12, risk_aversion=4e-6)
        schedule = problem.replace(completion=3.0 / problem.parent_notional).solve()
        left = schedule.inventory.iloc[-1]
        np.testing.assert_allclose(schedule.completion_price, 6.0 / problem.parent_notional * left, rtol=1e-12)
        traded = np.abs(schedule.trades.to_numpy()) > 1e-5 * problem.parent_notional / schedule.trades.size
        scale = float(schedule.marginal_costs.abs().to_numpy().max())
        assert scale > 1e-5
        assert np.abs(wall(schedule)[traded]).max() < 1e-6 * scale


def test_marginal_costs_are_finite_differences_of_the_score(make: Maker) -> None:
    problem = make()
    schedule = problem.solve()
    for t, i in ((0, 0), (2, 1), (5, 2)):
        step = 100.0
        up, down = schedule.trades.copy(), schedule.trades.copy()
        up.iloc[t, i] += step
        down.iloc[t, i] -= step
        slope = (problem.score(up)["total"] - problem.score(down)["total"]) / (2 * step)
        assert schedule.marginal_costs.iloc[t, i] == pytest.approx(slope, rel=1e-6)


def test_jax_gives_the_same_marginal_costs(make: Maker) -> None:
    from crosswind.optim.costs import marginal_cost

    schedule = make().solve()
    by_jax = marginal_cost(schedule.problem.program(), schedule.trades.to_numpy())
    np.testing.assert_allclose(schedule.marginal_costs.to_numpy(), by_jax, rtol=1e-9, atol=1e-15)


def test_completion_price_is_the_slope_of_the_cost_in_the_target(make: Maker) -> None:
    problem = make()
    schedule = problem.solve(tol=1e-10)
    step = 1e4
    for name in problem.names:
        totals = []
        for sign in (1.0, -1.0):
            left = pd.Series(0.0, index=list(problem.names))
            left[name] = sign * step
            totals.append(problem.replace(completion=left, allow_reversal=True).solve(tol=1e-10).costs["total"])
        assert schedule.completion_price[name] == pytest.approx(-(totals[0] - totals[1]) / (2 * step), rel=1e-4)


def test_price_of_a_cap_is_the_slope_of_the_cost_in_the_cap(make: Maker) -> None:
    sectors = pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin"})
    cap = pd.Series({"tech": 8e5, "fin": 9e5})
    problem = make(sectors=sectors, sector_cap=cap)
    schedule = problem.solve(tol=1e-10)
    price = schedule.prices["sector cap"]
    assert list(price.columns) == ["tech", "fin"]
    for label in cap.index:
        wide, tight = cap.copy(), cap.copy()
        wide[label] += 500.0
        tight[label] -= 500.0
        slope = (
            problem.replace(sector_cap=tight).solve(tol=1e-10).costs["total"]
            - problem.replace(sector_cap=wide).solve(tol=1e-10).costs["total"]
        ) / 1000.0
        assert price[label].sum() == pytest.approx(slope, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("reversal", [False, True])
def test_price_of_every_limit_is_the_slope_of_the_cost_in_its_bound(make: Maker, reversal: bool) -> None:
    bounds = {"participation": 0.035, "cash_band": 2.2e6, "max_change": 5e5, "sector_cap": 8e5}
    steps = {"participation": 1e-6, "cash_band": 20.0, "max_change": 5.0, "sector_cap": 10.0}
    problem = make(
        slices=8,
        sectors=pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin"}),
        previous_trade=pd.Series({"IBM": 2e5, "BAC": -2e5, "AIG": 0.0}),
        allow_reversal=reversal,
        **bounds,
    )
    schedule = problem.solve(tol=1e-10)
    weights = {"participation": problem.arrays.volume}
    for field, step in steps.items():
        low, high = (
            problem.replace(**{field: bounds[field] + sign * step}).solve(tol=1e-10).costs["total"]
            for sign in (-1.0, 1.0)
        )
        prices = schedule.prices[field.replace("_", " ")].to_numpy() * weights.get(field, 1.0)
        assert prices.sum() > 0.0, field
        assert prices.sum() == pytest.approx((low - high) / (2 * step), rel=1e-5), field


def test_uneven_slices_decay_over_their_own_gaps(make: Maker) -> None:
    times = make().times
    problem = make(times=times[[0, 1, 4]], volume=None, participation=None, temporary=1e-10)
    np.testing.assert_allclose(problem.program().dt_s, [900.0, 900.0, 2700.0])


def test_components_sum_and_the_score_of_the_schedule_is_its_cost(desk: BasketProblem) -> None:
    schedule = desk.solve()
    costs = schedule.costs
    assert costs.drop("total").sum() == pytest.approx(costs["total"], rel=1e-12)
    pd.testing.assert_series_equal(desk.score(schedule.trades), costs)
    assert schedule.costs_bps["total"] == pytest.approx(1e4 * costs["total"] / desk.inventory.abs().sum())
    assert schedule.executed == pytest.approx(1.0, abs=1e-12)
    ends = schedule.inventory.index
    assert ends[-1] - ends[-2] == pd.Timedelta(desk.slice_s, unit="s")
    np.testing.assert_allclose(schedule.inventory.iloc[-1], 0.0, atol=1e-7)


def test_schedule_is_within_every_limit_and_buys_buy(desk: BasketProblem) -> None:
    schedule = desk.solve()
    assert desk.breaches(schedule.trades).empty
    assert (schedule.trades * np.sign(desk.inventory) >= 0.0).all(axis=None)
    gross = schedule.trades.abs().T.groupby(desk.sectors).sum().T
    assert (gross <= desk.sector_cap + 1e-3).all(axis=None)
    assert (schedule.inventory.iloc[1:].sum(axis=1).abs() <= desk.cash_band * (1 + 1e-7)).all()


def test_price_of_limits_by_resolving(desk: BasketProblem) -> None:
    schedule = desk.solve()
    values = schedule.price_of_limits()
    assert set(values.index) == {"participation", "no reversal", "sector cap", "cash band"}
    assert (values > -1e-6).all()
    freed = desk.replace(sector_cap=None).solve()
    assert values["sector cap"] == pytest.approx(schedule.costs_bps["total"] - freed.costs_bps["total"])
    assert values["sector cap"] > 0.01


def test_extra_limits_pass_through_with_their_name_and_price(make: Maker) -> None:
    problem = make()
    plain = problem.solve()
    upper = np.full((6, 3), np.inf)
    upper[0, 0] = 0.5 * plain.trades.iloc[0, 0]
    clipped = problem.replace(extra_limits=(TradeLimit("opening clip", -np.inf, upper),)).solve()
    assert clipped.trades.iloc[0, 0] == pytest.approx(upper[0, 0], rel=1e-6)
    assert clipped.prices["opening clip"].iloc[0, 0] > 0.0
    assert clipped.price_of_limits()["opening clip"] == pytest.approx(
        clipped.costs_bps["total"] - plain.costs_bps["total"], rel=1e-6
    )
    assert (
        problem.replace(extra_limits=clipped.problem.extra_limits).breaches(plain.trades)["limit"][0] == "opening clip"
    )


def test_soft_band_is_a_cost_and_not_a_breach(make: Maker) -> None:
    band = BandLimit("soft cash", np.ones((1, 3)), -1e4, 1e4, ("cash",), SoftPenalty(1e-4))
    problem = make(extra_limits=(band,))
    schedule = problem.solve()
    assert schedule.costs["soft"] > 0.0
    assert schedule.costs.drop("total").sum() == pytest.approx(schedule.costs["total"])
    assert problem.breaches(schedule.trades).empty


# -- degenerate baskets -----------------------------------------------------------------------------------------------


def test_single_slice_trades_everything_at_once(make: Maker) -> None:
    schedule = make(slices=1, participation=None).solve()
    np.testing.assert_allclose(schedule.trades.iloc[0], schedule.problem.inventory, rtol=1e-12)
    assert schedule.costs["risk"] == pytest.approx(0.0, abs=1e-6)


def test_single_name_has_no_cross_impact(make: Maker) -> None:
    schedule = make({"IBM": -2e6}).solve()
    assert schedule.costs["impact_cross"] == 0.0
    assert schedule.trades["IBM"].sum() == pytest.approx(-2e6, rel=1e-12)


def test_name_without_inventory_stays_idle_unless_reversal_is_allowed(make: Maker) -> None:
    orders = {"IBM": 4e6, "BAC": 0.0, "AIG": 2e6}
    idle = make(orders).solve()
    assert (idle.trades["BAC"] == 0.0).all()
    # Allowed to trade, a correlated name without an order serves as a hedge when risk is dear, and comes back to zero.
    hedged = make(orders, allow_reversal=True, risk_aversion=1e-4, spread=0.0).solve()
    assert hedged.trades["BAC"].abs().max() > 1e3
    assert hedged.trades["BAC"].sum() == pytest.approx(0.0, abs=1e-2)
    bound = make(orders, risk_aversion=1e-4, spread=0.0).solve()
    assert hedged.costs["total"] < bound.costs["total"]


@pytest.mark.parametrize("reversal", [False, True])
def test_empty_basket_costs_nothing(make: Maker, reversal: bool) -> None:
    schedule = make({"IBM": 0.0, "BAC": 0.0}, allow_reversal=reversal, cash_band=1.0).solve()
    np.testing.assert_allclose(schedule.trades, 0.0, atol=1e-3)
    assert schedule.costs["total"] == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(schedule.costs_bps["total"])
    assert np.isnan(schedule.executed)
    assert "nan" in schedule.summary()


def test_sector_without_names_and_uncapped_sector(make: Maker) -> None:
    sectors = pd.Series({"IBM": "tech", "BAC": "fin", "AIG": "fin", "XOM": "energy"})
    cap = pd.Series({"fin": 1.2e6, "energy": 0.0})
    schedule = make(sectors=sectors, sector_cap=cap).solve()
    assert list(schedule.prices["sector cap"].columns) == ["fin"]
    assert schedule.trades[["BAC", "AIG"]].abs().sum(axis=1).max() <= 1.2e6 * (1 + 1e-8)


@pytest.mark.parametrize("slack", [0.0, 1e-9, 1e-6])
def test_cap_that_just_binds_leaves_one_schedule(make: Maker, slack: float) -> None:
    # The feasible set is a point: solvers are known to call it infeasible.
    problem = make({"IBM": 6e6, "BAC": -3e6}, participation=None)
    V = pd.DataFrame(1e7, index=problem.times, columns=["IBM", "BAC"])
    schedule = problem.replace(volume=V, participation=pd.Series({"IBM": 0.1 * (1 + slack), "BAC": 0.5})).solve()
    np.testing.assert_allclose(schedule.trades["IBM"], 1e6, rtol=1e-5)
    with pytest.raises(InfeasibleProblem):
        problem.replace(volume=V, participation=pd.Series({"IBM": 0.1 * (1 - 1e-5), "BAC": 0.5})).solve()


def test_names_that_are_twins_get_the_same_schedule(make: Maker) -> None:
    problem = make({"A": 3e6, "B": 3e6}, cross=1.0)
    names = ["A", "B"]
    V = pd.DataFrame(2e7, index=problem.times, columns=names)
    cov = pd.DataFrame(1e-9, index=names, columns=names)
    schedule = problem.replace(volume=V, covariance=cov).solve()
    np.testing.assert_allclose(schedule.trades["A"], schedule.trades["B"], rtol=1e-5)


def test_blackout_and_deadline(make: Maker) -> None:
    times = make().times
    lunch = Blackout(times[2], times[3])
    schedule = make(blackouts=(lunch,), must_finish=pd.Series({"BAC": times[4]})).solve()
    assert (schedule.trades.iloc[2] == 0.0).all()
    assert (schedule.trades[["IBM", "AIG"]].iloc[[1, 3]] > 0.0).all(axis=None)  # the window's ends are open
    assert (schedule.trades["BAC"].iloc[4:] == 0.0).all()
    assert schedule.inventory["BAC"].iloc[4] == pytest.approx(0.0, abs=1e-6)
    soft = make(completion=1e-9, must_finish=pd.Series({"BAC": times[4]})).solve()
    assert soft.inventory["BAC"].iloc[4] == pytest.approx(0.0, abs=1.0)
    assert soft.executed < 1.0


def test_small_penalty_leaves_inventory_and_a_large_one_none(make: Maker) -> None:
    left = [make(completion=w).solve().inventory.iloc[-1].abs().sum() for w in (1e-10, 1e-8, 1e-3)]
    assert left[0] > left[1] > left[2]
    assert left[2] < 50.0


def test_hysteresis_bounds_the_change(make: Maker) -> None:
    schedule = make(risk_aversion=1e-5, max_change=1e5, previous_trade=pd.Series(0.0, index=["IBM", "BAC", "AIG"]))
    with pytest.raises(InfeasibleProblem, match="max change"):
        schedule.solve()
    smooth = schedule.replace(max_change=4e5).solve()
    steps = np.abs(np.diff(np.vstack([np.zeros(3), smooth.trades]), axis=0))
    assert steps.max() <= 4e5 * (1 + 1e-7)


# -- meaning ----------------------------------------------------------------------------------------------------------


def test_strong_cross_impact_staggers_names_on_the_same_side(make: Maker) -> None:
    """Two buys that push each other: shared slices cost more, so the optimum moves them apart."""
    from crosswind.problems.impact.model import ImpactModel

    def overlap(cross: float) -> float:
        K = np.full((2, 2), cross) + (1.0 - cross) * np.eye(2)
        model = ImpactModel(("A", "B"), np.array([np.log(2) / 300]), 1e-9 * K[None], "exponential", 60.0)
        problem = make({"A": 4e6, "B": 4e6}, slices=8, model=model, risk_aversion=0.0, covariance=None, temporary=1e-12)
        V = pd.DataFrame({"A": np.linspace(2e7, 6e6, 8), "B": np.linspace(6e6, 2e7, 8)}, index=problem.times)
        # η ∝ 1/V favours A early and B late a little; cross-impact decides how far they part.
        u = problem.replace(volume=V, temporary=3e-3 / V, participation=0.5).solve().trades.to_numpy()
        return float(np.minimum(u[:, 0], u[:, 1]).sum() / u.sum())

    shared = [overlap(c) for c in (0.0, 0.5, 0.95)]
    assert shared[0] > shared[1] > shared[2]
    assert shared[2] < 0.85 * shared[0]


def test_opposite_sides_with_positive_cross_impact_trade_together(make: Maker) -> None:
    costs = {s: make({"A": 4e6, "B": s * 4e6}, cross=0.8).solve().costs for s in (1.0, -1.0)}
    assert costs[-1.0]["impact_cross"] < 0.0 < costs[1.0]["impact_cross"]
    assert costs[-1.0]["total"] < costs[1.0]["total"]


def test_mirror_image_has_the_mirrored_schedule_and_the_same_cost(desk: BasketProblem) -> None:
    there, back = desk.solve(), desk.replace(inventory=-desk.inventory).solve()
    np.testing.assert_allclose(back.trades, -there.trades, atol=1e-4 * desk.parent_notional / there.trades.size)
    assert back.costs["total"] == pytest.approx(there.costs["total"], rel=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_change_of_currency_unit_changes_nothing(make: Maker, unit: float) -> None:
    """All notionals × unit, all coefficients per notional ÷ unit: the same basket."""
    from dataclasses import replace

    problem = make()
    assert problem.volume is not None
    other = problem.replace(
        inventory=problem.inventory * unit,
        volume=problem.volume * unit,
        model=replace(problem.model, matrices=problem.model.matrices / unit),
        risk_aversion=problem.risk_aversion / unit,
    )
    a, b = problem.solve(), other.solve()
    np.testing.assert_allclose(b.trades / unit, a.trades, rtol=1e-4, atol=1.0)
    assert b.costs["total"] / unit == pytest.approx(a.costs["total"], rel=1e-8)


# -- the object -------------------------------------------------------------------------------------------------------


def test_same_inputs_give_the_same_bytes(desk: BasketProblem) -> None:
    assert desk.solve().trades.to_numpy().tobytes() == desk.solve().trades.to_numpy().tobytes()


def test_pickles(desk: BasketProblem) -> None:
    schedule = desk.solve()
    again = pickle.loads(pickle.dumps(schedule))
    pd.testing.assert_frame_equal(again.trades, schedule.trades)
    assert again.problem.solve().costs["total"] == schedule.costs["total"]


@pytest.mark.parametrize("solver", ["piqp", "clarabel"])
def test_backends_agree(desk: BasketProblem, solver: str) -> None:
    assert desk.solve(solver).costs["total"] == pytest.approx(desk.solve().costs["total"], rel=1e-7)


def test_unreachable_tolerance_is_refused_or_graded(desk: BasketProblem) -> None:
    with pytest.raises(SolverFailure, match="accept"):
        desk.solve("osqp", tol=1e-13, max_iter=5)
    rough = desk.solve("osqp", tol=1e-13, accept=np.inf, max_iter=5)
    assert np.isfinite(rough.trades.to_numpy()).all()


def test_long_form_and_words(desk: BasketProblem) -> None:
    schedule = desk.solve()
    long = schedule.to_frame()
    assert list(long.columns) == ["time", "name", "trade", "inventory_after", "marginal_cost_bps", "participation"]
    assert len(long) == desk.n_slices * desk.n_names
    back = long.pivot_table(index="time", columns="name", values="trade")[list(desk.names)]
    np.testing.assert_array_equal(back.to_numpy(), schedule.trades.to_numpy())
    text = schedule.summary()
    for word in ("impact_cross", "sector cap", "certificate", "executed 100.00%"):
        assert word in text
    assert "<table" in schedule._repr_html_()


def test_seeded_instances_are_the_same_and_lower_to_convex_programs() -> None:
    first, second = (basket_programs({"small": (4, 5)}, seed=9)["small"] for _ in range(2))
    assert (first.P != second.P).nnz == 0
    np.testing.assert_array_equal(first.q, second.q)
    first.require_convex()
    assert (basket_programs({"small": (4, 5)}, seed=10)["small"].P != first.P).nnz > 0


@pytest.mark.parametrize("solver", ["auto", "structured"])
def test_the_order_of_names_does_not_matter(desk: BasketProblem, solver: str) -> None:
    shuffled = desk.replace(inventory=desk.inventory.iloc[np.random.default_rng(5).permutation(desk.n_names)])
    one, other = desk.solve(solver), shuffled.solve(solver)
    assert other.costs["total"] == pytest.approx(one.costs["total"], rel=1e-8)
    size = desk.inventory.abs().max()
    np.testing.assert_allclose(other.trades[list(desk.names)], one.trades, atol=1e-4 * size)
    np.testing.assert_allclose(
        other.completion_price[list(desk.names)], one.completion_price, atol=1e-6 * one.completion_price.abs().max()
    )


def test_nothing_to_trade_reads_as_such(make: Maker) -> None:
    words = make(inventory={"IBM": 0.0}, slices=1).solve().summary()
    assert words.startswith("Basket of 1 name in 1 slice of 900 s: buy 0, sell 0, nothing to execute")
    assert "nan%" not in words


def test_limits_that_do_not_bind_cost_exactly_nothing(make: Maker) -> None:
    values = make(cash_band=1e9).solve().price_of_limits()
    assert (values == 0.0).all()  # not the rounding of two solves
