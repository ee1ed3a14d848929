"""The unit of account decides nothing, limits on changes next to shut slices included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from crosswind.problems.basket import BasketProblem
from crosswind.problems.basket.structured import to_factor_schedule
from crosswind.solvers.schedule import FactorSchedule, solve_schedule
from crosswind.solvers.solution import Status

Seeded = Callable[[int], BasketProblem]


def _in_units(p: FactorSchedule, s: float) -> FactorSchedule:
    """Return the same problem with quantities s times as many, and the same cost."""
    assert p.change is not None
    return replace(
        p,
        start=p.start * s,
        target=p.target * s,
        lower=p.lower * s,
        upper=p.upper * s,
        change=p.change * s,
        group_caps=p.group_caps * s,
        band_lower=p.band_lower * s,
        band_upper=p.band_upper * s,
        impact_state=p.impact_state * s,
        eta=p.eta / s**2,
        spread=p.spread / s,
        linear=p.linear / s,
        impact_own=p.impact_own / s**2,
        impact_loadings=tuple(L / s for L in p.impact_loadings),
        risk_own=p.risk_own / s**2,
        risk_loadings=p.risk_loadings / s,
        terminal_weight=p.terminal_weight / s**2,
    )


@pytest.mark.parametrize(("seed", "s"), [(1034, 1e-6), (1034, 1e6), (1043, 1e-6), (1043, 1e6), (2003, 1e6)])
def test_changes_next_to_shut_slices_in_any_unit(seed: int, s: float, random_basket: Seeded) -> None:
    problem = to_factor_schedule(random_basket(seed))
    assert problem.change is not None
    plain = solve_schedule(problem, 1e-8, method="interior")
    other = solve_schedule(_in_units(problem, s), 1e-8, method="interior")
    assert plain.status is other.status is Status.OPTIMAL
    assert other.objective == pytest.approx(plain.objective, rel=3e-8)
    # Costs are within 1e-8 of the least, trades within its root.
    assert np.abs(other.u / s - plain.u).max() <= 1e-3 * np.abs(plain.u).max()
