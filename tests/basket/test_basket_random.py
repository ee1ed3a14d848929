"""Two hundred baskets over all options at once: the default path against cvxpy with cones, and its own optimality."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.reference import reference_basket
from crosswind.solvers.errors import InfeasibleProblem

Seeded = Callable[[int], BasketProblem]
TIGHT = (1e-11, 1e-10, 1e-9)  # the conic solver does not reach the first on every basket


def check(problem: BasketProblem) -> bool:
    """Compare one basket; return whether the reference reached its own tolerance."""
    oracle, u = reference_basket(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cvxpy warns where Clarabel stops short; its status says so too
        for tol in TIGHT:
            oracle.solve(solver="CLARABEL", tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
            if oracle.status != "optimal_inaccurate":
                break
    try:
        schedule = problem.solve()
    except InfeasibleProblem:
        assert oracle.status == "infeasible"
        return True
    unit = problem.parent_notional
    size = 1e4 / unit * float(schedule.costs.drop("total").abs().sum())
    total = problem.to_bps(schedule.costs["total"])
    # MC = completion price + prices of active limits, relative to the largest of its terms.
    assert schedule.solution.stationarity_rel < 1e-6
    assert problem.breaches(schedule.trades).empty
    assert schedule.certificate.passes(1e-8)
    if oracle.status != "optimal":
        assert total <= oracle.value + 1e-6 * size
        return False
    assert total == pytest.approx(oracle.value, rel=1e-8, abs=1e-8 * size)
    # The same ruler: our cost function at the reference's trades gives the reference's objective.
    trades = problem.frame(np.asarray(u.value) * unit)
    assert problem.to_bps(problem.score(trades)["total"]) == pytest.approx(oracle.value, rel=1e-7, abs=1e-7 * size)
    return True


@pytest.mark.parametrize("block", range(20))
def test_all_options_against_the_conic_reference(block: int, random_basket: Seeded) -> None:
    made = [random_basket(seed) for seed in range(10 * block, 10 * block + 10)]
    sized = [problem for problem in made if problem.parent_notional > 0.0]
    assert sum([check(problem) for problem in sized]) >= len(sized) - 3


def test_the_random_baskets_use_every_option(random_basket: Seeded) -> None:
    limits: set[str] = set()
    costs: set[str] = set()
    for seed in range(80):
        problem = random_basket(seed)
        limits |= {limit.name for limit in problem.limits}
        a = problem.arrays
        used = {"three_halves": a.three_halves, "drift": a.drift, "urgency": a.urgency, "hedge": a.hedge}
        costs |= {name for name, values in used.items() if values.any()} | ({"auction"} if problem.auctions else set())
    assert costs == {"three_halves", "drift", "urgency", "hedge", "auction"}
    assert limits >= {
        "participation",
        "no reversal",
        "blackout",
        "must finish",
        "sector cap",
        "cash band",
        "beta band",
        "factor band",
        "max change",
    }
