"""The structured solver behind a basket: same content as the default path, proven bounds, no matrix over names."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import crosswind.solvers.schedule as schedule_room
from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, SoftPenalty
from crosswind.problems.basket import Auction, BasketProblem, FactorCovariance, FactorImpact
from crosswind.problems.basket.structured import (
    StructuredSolution,
    obstacle,
    prefers_structured,
    to_factor_schedule,
)
from crosswind.solvers.errors import InfeasibleProblem, InvalidInput, SolverFailure
from crosswind.solvers.schedule import FactorSchedule

Maker = Callable[..., BasketProblem]
Seeded = Callable[[int], BasketProblem]


def index_basket(names: int, slices: int, *, seed: int = 0, power: bool = False, hedges: int = 0) -> BasketProblem:
    """Return a programme trade with factor impact, factor risk, sector caps, a cash and a beta band."""
    rng = np.random.default_rng(seed)
    orders = [f"N{i:04d}" for i in range(names)]
    every = orders + [f"H{i}" for i in range(hedges)]
    A, sector, slice_s = len(every), np.arange(names) % 7, 23_400.0 / slices
    times = pd.date_range("2024-03-04 14:30", periods=slices, freq=pd.Timedelta(slice_s, unit="s"), tz="UTC")
    day = np.exp(rng.normal(np.log(2e8), 0.8, A))
    profile = 0.6 + 1.6 * (2.0 * (np.arange(slices) + 0.5) / slices - 1.0) ** 2
    volume = pd.DataFrame(profile[:, None] / profile.sum() * day, times, every)
    sd = rng.uniform(0.01, 0.025, A) / np.sqrt(23_400.0)
    B = np.zeros((A, 8))
    B[:, 0] = rng.uniform(0.5, 1.5, A)
    B[np.arange(names), 1 + sector] = 0.8
    C = pd.DataFrame(np.diag([1.0] + [0.3] * 7) * 0.01**2 / 23_400.0)
    own = np.stack([share * 0.1 * sd * np.sqrt(23_400.0) / (0.01 * day) for share in (0.6, 0.4)])
    q = day[:names] * rng.uniform(0.005, 0.05, names) * rng.choice([-1.0, 1.0], names)
    gross = float(np.abs(q).sum())
    sectors = pd.Series([f"S{s}" for s in sector], orders)
    caps = pd.Series(np.abs(q), orders).groupby(sectors).sum() * 1.6 / slices
    return BasketProblem(
        inventory=pd.Series(q, orders),
        model=FactorImpact(
            tuple(every),
            np.log(2) / np.array([300.0, 5400.0]),
            own,
            tuple(np.sqrt(k)[:, None] * 0.35 * rng.normal(size=(A, 4)) for k in own),
        ),
        times=times,
        slice_s=slice_s,
        volume=volume,
        covariance=FactorCovariance(pd.DataFrame(B, every), C, pd.Series(0.6 * sd**2, every)),
        spread=pd.Series(rng.uniform(1e-4, 4e-4, A), every),
        risk_aversion=1e-8,
        participation=0.15,
        sectors=sectors,
        sector_cap=caps,
        cash_band=max(1.2 * abs(float(q.sum())), 0.05 * gross),
        beta=pd.Series(B[:, 0], every),
        beta_band=max(1.2 * abs(float(B[:names, 0] @ q)), 0.05 * gross),
        three_halves=0.2 * pd.Series(sd * np.sqrt(23_400.0) / np.sqrt(day), every) if power else None,
        hedges=every[names:] or None,
    )


def agrees(problem: BasketProblem, tol: float, asked: float | None = None, **settings: object) -> None:
    plain = problem.solve(("piqp", "clarabel"))
    made = problem.solve("structured", tol=asked or tol, **settings)
    scale = float(plain.costs.drop("total").abs().sum())
    assert isinstance(made.solution, StructuredSolution)
    assert made.certificate.gap_rel <= tol
    excess = made.costs["total"] - plain.costs["total"]
    assert -2e-8 * scale <= excess <= (tol + 2e-8) * scale
    # The bound is proven: it may not lie above what another solver reached.
    assert made.certificate.lower_bound <= plain.costs["total"] + 2e-8 * scale
    assert made.certificate.objective == pytest.approx(made.costs["total"], rel=1e-9, abs=1e-9 * scale)
    assert problem.breaches(made.trades).empty
    assert list(made.prices) == list(plain.prices)
    assert all(made.prices[name].shape == plain.prices[name].shape for name in plain.prices)


@pytest.mark.parametrize("block", range(6))
def test_random_baskets_over_all_options_that_fit(block: int, random_basket: Seeded) -> None:
    compared = 0
    for seed in range(10 * block, 10 * block + 10):
        problem = random_basket(seed)
        fits = obstacle(problem) is None and problem.parent_notional > 0.0
        if fits:
            agrees(problem, 2e-7, asked=1e-8)  # where the interior point stalls, the splitting reaches 1e-7
            compared += 1
    assert compared >= 4


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("hedges", [0, 2])
def test_programme_trades(power: bool, hedges: int) -> None:
    agrees(index_basket(40, 13, power=power, hedges=hedges, seed=3), 1e-5 if power else 1e-6, method="admm")


def test_prices_and_marginal_costs_are_those_of_the_default_path() -> None:
    problem = index_basket(30, 13)
    plain, made = problem.solve(("piqp", "clarabel")), problem.solve("structured", tol=1e-7, method="admm")
    size = np.abs(plain.completion_price).max()
    np.testing.assert_allclose(made.completion_price, plain.completion_price, atol=1e-3 * size)
    for name in ("sector cap", "cash band", "beta band"):
        largest = max(float(plain.prices[name].max().max()), 1e-3 * size)
        np.testing.assert_allclose(made.prices[name], plain.prices[name], atol=0.02 * largest)
    assert made.solution.stationarity_rel < 1e-3
    assert "structured (admm)" in made.certificate_line
    assert made.summary().count("\n") > 5


def test_high_accuracy_by_the_interior_point() -> None:
    problem = index_basket(60, 13)
    agrees(problem, 1e-8)
    made = problem.solve("structured")
    assert made.backend == "structured (interior)"
    assert made.solution.stationarity_rel < 1e-6


def test_limits_on_the_change_go_to_the_interior_point() -> None:
    problem = index_basket(20, 10).replace(sector_cap=None)
    problem = problem.replace(max_change=0.15 * problem.inventory.abs(), previous_trade=0.1 * problem.inventory)
    agrees(problem, 1e-7)


def test_auto_takes_the_structure_of_large_baskets_and_only_of_those() -> None:
    small, large = index_basket(10, 8), index_basket(120, 26)
    assert not prefers_structured(small)
    assert prefers_structured(large)
    assert isinstance(large.solve(tol=1e-6).solution, StructuredSolution)
    assert not isinstance(small.solve().solution, StructuredSolution)


def test_a_dense_model_of_a_large_basket_is_solved_to_the_end_by_its_structure() -> None:
    problem = index_basket(120, 26)
    dense = problem.replace(
        model=problem.model.to_model(),  # type: ignore[union-attr]
        covariance=pd.DataFrame(problem.covariance.aligned(problem.names, 1.0).dense(), problem.names, problem.names),  # type: ignore[union-attr]
    )
    assert prefers_structured(dense)
    few = index_basket(20, 130)
    assert prefers_structured(few)
    assert not prefers_structured(few.replace(model=few.model.to_model()))  # type: ignore[union-attr]
    made = dense.solve()
    assert made.backend == "structured (interior)"
    assert made.certificate.gap_rel <= 1e-8
    assert made.solution.stationarity_rel < 1e-5  # type: ignore[union-attr]
    assert dense.breaches(made.trades).empty
    assert made.costs["total"] == pytest.approx(problem.solve().costs["total"], rel=1e-7)
    # Loose tolerances stay there too: the splitting pays for each of the 120 columns in every iteration.
    assert dense.solve(tol=1e-4).backend == "structured (interior)"
    assert problem.solve(tol=1e-4).backend == "structured (admm)"


def test_a_time_limit_holds_for_all_that_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float | None] = []
    problem = index_basket(40, 13)
    real = schedule_room.solve_schedule

    def watched(schedule: FactorSchedule, tol: float, time_limit: float | None, **settings: object) -> object:
        given.append(time_limit)
        time.sleep(0.05)
        return real(schedule, tol, time_limit, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(schedule_room, "solve_schedule", watched)
    made = problem.solve("structured", max_iter=4, time_limit=30.0, accept=float("inf"))
    assert len(given) == 2  # the interior point stopped short, the splitting took over with what was left
    assert given[0] is not None
    assert given[1] is not None
    assert given[1] <= given[0] - 0.05
    assert problem.breaches(made.trades).empty


def test_change_limits_in_conflict_are_named_here_too() -> None:
    problem = index_basket(6, 5).replace(sector_cap=None, max_change=1e3, previous_trade=None)
    still = problem.replace(previous_trade=pd.Series(0.0, list(problem.names)))
    with pytest.raises(InfeasibleProblem, match=r"completion.*max change.*smallest relaxation"):
        still.solve("structured")


def test_conflicts_are_found_without_the_matrices_of_cost(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["IBM", "BAC", "AIG"]
    problem = make(
        factor_exposures=pd.DataFrame({"value": 1.0}, names),
        factor_band=pd.DataFrame({"lower": [1e6], "upper": [2e6]}, ["value"]),
    )
    monkeypatch.setattr(BasketProblem, "program", lambda self: pytest.fail("costs say nothing about limits"))
    with pytest.raises(InfeasibleProblem, match=r"factor band.*smallest relaxation"):
        problem.solve("structured")


def test_prices_of_orders_that_only_just_fit_explain_them(make: Maker) -> None:
    flat = make(slices=1, volume=None, participation=None, temporary=1e-9)
    volume = pd.DataFrame([[4e7, 3e7, 2e7]], flat.times, list(flat.names))
    for problem in (
        make(slices=1, volume=volume),
        make(inventory={"IBM": 6e6, "BAC": -3e6, "AIG": 2e6}, volume=make().volume * 0.0 + 1e7, participation=0.1),
    ):
        made = problem.solve("structured")
        assert made.solution.stationarity_rel < 1e-6  # type: ignore[union-attr]
        pull = sum(np.sign(made.trades.to_numpy()) * table.to_numpy() for table in made.prices.values())
        balance = made.marginal_costs.to_numpy() + pull - made.completion_price.to_numpy()
        np.testing.assert_allclose(balance, 0.0, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_without_a_participation_cap_nothing_is_multiplied_by_infinity() -> None:
    problem = index_basket(20, 6).replace(participation=None)
    for method in ("admm", "interior"):
        made = problem.solve("structured", tol=1e-6, method=method)
        assert np.isfinite(made.completion_price).all()
        assert all(np.isfinite(table.to_numpy()).all() for table in made.prices.values())


def test_orders_of_very_different_sizes_and_none_at_all_are_certified(make: Maker) -> None:
    dust = make(inventory={"IBM": 4e-6, "BAC": -3e6, "AIG": 2e6})
    made = dust.solve()  # the sparse path measures all names by one unit and leaves the dust
    assert made.certificate.gap_rel <= 1e-8
    assert dust.breaches(made.trades).empty
    assert made.trades["IBM"].sum() == pytest.approx(4e-6, rel=1e-9)
    nothing = make(inventory={"IBM": 0.0, "BAC": 0.0, "AIG": 0.0}).solve()
    assert nothing.certificate.gap_rel == 0.0
    assert not nothing.trades.to_numpy().any()
    assert np.isnan(nothing.costs_bps["total"])


def test_tolerances_are_refused_as_they_were_given(make: Maker) -> None:
    for tol in (-1.0, 0.0, 5.0, float("nan")):
        with pytest.raises(InvalidInput, match="tol") as refusal:
            make().solve("structured", tol=tol)
        assert refusal.value.value is tol


def test_no_matrix_over_names_is_made() -> None:
    problem = index_basket(1500, 10)
    tracemalloc.start()
    made = problem.solve("structured", tol=1e-4, method="admm")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "_program" not in problem.__dict__  # the multistage program holds N × N incidences
    assert made.certificate.gap_rel <= 1e-4
    assert peak < 8 * 1500 * 1500 * 4  # four such matrices would not have fit; T × N arrays do


def test_a_warm_start_is_taken_and_saves_iterations() -> None:
    problem = index_basket(200, 26)
    cold = problem.solve("structured", tol=1e-6, method="admm")
    near = problem.replace(risk_aversion=1.02e-8)
    warm = near.solve("structured", tol=1e-6, method="admm", warm=cold)
    again = near.solve("structured", tol=1e-6, method="admm")
    assert warm.costs["total"] == pytest.approx(again.costs["total"], rel=1e-5)
    assert warm.solution.solution.iterations <= again.solution.solution.iterations


def test_the_schedule_program_carries_drift_and_urgency_and_risk_weights(make: Maker) -> None:
    names = ["IBM", "BAC", "AIG"]
    problem = make(drift=pd.Series([1e-8, -2e-8, 0.0], names), urgency=pd.Series([1e-7, 0.0, 2e-7], names))
    schedule = to_factor_schedule(problem)
    rng = np.random.default_rng(1)
    u = 1e6 * rng.normal(size=(6, 3))
    costs = problem.score(problem.frame(u))
    shift = float(np.sum(problem.arrays.drift * problem.arrays.inventory))
    assert schedule.objective(u) + shift == pytest.approx(costs["total"], rel=1e-10)


def test_what_does_not_fit_is_said() -> None:
    problem = index_basket(6, 5)
    eye = np.eye(6)
    last = problem.times[-1]
    cases = {
        "auction": problem.replace(auctions=[Auction(last, pd.Series(1e8, list(problem.names)))]),
        "soft": problem.replace(extra_limits=(BandLimit("wish", eye[:1], -1e6, 1e6, soft=SoftPenalty(1e-4)),)),
        "more than one kind of group": problem.replace(extra_limits=(GroupCap("desk", eye[:1], np.full((5, 1), 1e9)),)),
        "overlap": problem.replace(
            sector_cap=None, extra_limits=(GroupCap("desk", np.ones((2, 6)), np.full((5, 2), 1e9)),)
        ),
        "more than one limit on the change": problem.replace(
            extra_limits=(RateLimit("a", np.full((5, 6), 1e9)), RateLimit("b", np.full((5, 6), 1e9)))
        ),
    }
    for words, case in cases.items():
        assert words in str(obstacle(case))
        with pytest.raises(InvalidInput, match="does not fit this basket"):
            case.solve("structured")
    whole = problem.replace(auctions=[Auction(last, pd.Series(1e8, list(problem.names)), transient=1.0)])
    assert obstacle(whole) is None
    agrees(whole, 1e-6, method="admm")


def test_infeasible_limits_are_named_here_too() -> None:
    problem = index_basket(6, 5)
    with pytest.raises(InfeasibleProblem, match=r"factor band.*smallest relaxation"):
        problem.replace(
            factor_exposures=pd.DataFrame({"value": 1.0}, list(problem.names)),
            factor_band=pd.DataFrame({"lower": [1e6], "upper": [2e6]}, ["value"]),
        ).solve("structured", tol=1e-5, method="admm")


def test_large_infeasible_baskets_are_explained_by_the_prices_of_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosswind.problems.basket.structured._EXPLAINED", 0)
    problem = index_basket(40, 8)
    exposures = pd.DataFrame({"value": 1.0}, list(problem.names))
    # Nothing may remain, but a million must: whichever of the two gives way, it is by that million.
    edges = pd.DataFrame({"lower": [1e6], "upper": [np.inf]}, ["value"])
    with pytest.raises(InfeasibleProblem, match="factor band") as refusal:
        problem.replace(factor_exposures=exposures, factor_band=edges, cash_band=None).solve(
            "structured", tol=1e-5, method="admm"
        )
    least = refusal.value.value
    assert isinstance(least, dict)
    assert 5e5 <= least["factor band"] <= 1e6 * (1.0 + 1e-9)  # a bound from below, and not an empty one


def test_an_iterate_that_is_not_good_enough_is_refused() -> None:
    problem = index_basket(60, 13)
    with pytest.raises(SolverFailure, match="accept"):
        problem.solve("structured", tol=1e-7, method="admm", max_iter=3, accept=1e-9)
    loose = problem.solve("structured", tol=1e-7, method="admm", max_iter=12, accept=float("inf"))
    assert loose.certificate.lower_bound <= loose.costs["total"]


def test_settings_of_the_other_path_decide_for_it_or_are_refused() -> None:
    problem = index_basket(120, 26)
    assert not isinstance(problem.solve(tol=1e-6, sharpen=False).solution, StructuredSolution)
    with pytest.raises(InvalidInput, match="sharpen"):
        problem.solve("structured", sharpen=False)


def test_starts_are_checked_and_settings_choose_their_path(make: Maker) -> None:
    problem = make()
    plain = problem.solve()
    assert not isinstance(plain.solution, StructuredSolution)
    with pytest.raises(InvalidInput, match="warm"):
        problem.solve("structured", warm="yesterday")
    cold, started = problem.solve("structured"), problem.solve("structured", warm=plain)  # no state: a cold start
    np.testing.assert_array_equal(started.trades, cold.trades)
    np.testing.assert_array_equal(problem.solve(warm=plain).trades, plain.trades)
    assert problem.solve(method="admm", tol=1e-6).backend == "structured (admm)"
