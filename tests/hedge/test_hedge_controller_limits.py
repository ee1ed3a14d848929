"""What the controller promises whatever it is told: it answers, and no trade limit is ever broken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from controller_cases import PRICE, SCALE, VALUE, Umpire, Venue, future, names_of, seen_of, setup_of

from crosswind.problems.hedge.controller import (
    HedgeController,
    HedgeObservation,
    HedgeRank,
    OrderReport,
)

pytestmark = pytest.mark.guard
BAD = (math.nan, math.inf, -math.inf, -1.0, 1e308, 0.0, None, "x")


def spoil(rng: np.random.Generator, seen: HedgeObservation, m: int, k: int) -> HedgeObservation:
    """Return an observation with one to three hostile fields."""
    bad: Any = lambda: BAD[rng.integers(len(BAD))]  # noqa: E731
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(17)
        if kind == 0:
            seen = seen._replace(required=tuple(bad() for _ in range(k)))
        elif kind == 1:
            seen = seen._replace(mid=tuple(bad() if rng.random() < 0.5 else PRICE for _ in range(m)))
        elif kind == 2:
            seen = seen._replace(half_spread=tuple(bad() for _ in range(m)))
        elif kind == 3:
            seen = seen._replace(plan=[None, np.full((3, k), math.nan), np.zeros((0, k)), "plan", 7.0][rng.integers(5)])
        elif kind == 4:
            seen = seen._replace(plan=rng.normal(size=(rng.integers(1, 4), k)) * 10.0 ** rng.integers(0, 300))
        elif kind == 5:
            seen = seen._replace(regime=[-1, 99, 1, None, 0.5][rng.integers(5)])
        elif kind == 6:
            seen = seen._replace(age_s=bad())
        elif kind == 7:
            seen = seen._replace(liquidity=[np.full((5, m), x) for x in (math.nan, -1.0, 0.0, 1e6)][rng.integers(4)])
        elif kind == 8:
            seen = seen._replace(linear=np.full((4, m), bad() if rng.random() < 0.5 else 1.0, dtype=object))
        elif kind == 9:
            seen = seen._replace(funding=((int(rng.integers(-3, 5)), seen.time_s + 100.0, bad()),))
        elif kind == 10:
            seen = seen._replace(basis_drift=(bad(),) * int(rng.integers(0, 4)))
        elif kind == 11:
            seen = seen._replace(tradeable=tuple(bool(b) for b in rng.integers(0, 2, m)))
        elif kind == 12:
            seen = seen._replace(position=(bad(),) * m)
        elif kind == 13:
            seen = seen._replace(reliance=bad(), trigger_factor=bad(), ceiling=int(rng.integers(0, 7)))
        elif kind == 14:
            seen = seen._replace(reports=(OrderReport("h-1-0", bad(), True), OrderReport("who", 1.0), None, (1,)))
        elif kind == 15:
            seen = seen._replace(bounds=tuple((bad(), bad()) for _ in range(k)))
        else:
            seen = seen._replace(required=tuple(1e12 * rng.standard_normal(k)))
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_no_limit_is_broken_under_hostile_observations(seed: int) -> None:
    """2 000 steps over the seeds, most of them hostile, on random limits; clocks jump, prices move, fills are chaos."""
    rng = np.random.default_rng(seed)
    m, k = [(1, 1), (2, 1), (2, 2), (1, 1), (3, 2)][seed]
    futures = [
        future(
            f"F{j}",
            clip=float(rng.choice([5.0, 40.0, 0.0])) * VALUE if j else 12.5 * VALUE,
            rate=float(rng.choice([3.2, math.inf])) * VALUE,
            notional=float(rng.choice([60.0, math.inf])) * VALUE,
            order_lots=float(rng.choice([4, math.inf])),
            participation=0.1,
            liquidity=1e8,
        )
        for j in range(m)
    ]
    setup = setup_of(
        *futures,
        exposures=tuple(f"x{i}" for i in range(k)),
        covariance_per_s=1e-8 * (np.eye(k) + 0.5),
        loadings=np.eye(k, m) + 0.3,
        messages=float(rng.choice([3, math.inf])),
        max_age_s=5.0,
        windows=((3000.0, 3600.0),),
        work=int(rng.choice([0, 3, 40])),
    )
    controller, umpire, venue = HedgeController(setup), Umpire(setup), Venue(m, seed)
    time_s, price, ranks = 0.0, PRICE, set()
    for _ in range(400):
        time_s += float(rng.choice([60.0, 60.0, 20.0, 0.0, 200.0]))
        price *= math.exp(1e-3 * rng.standard_normal())
        seen = seen_of(
            time_s,
            SCALE * rng.standard_normal(k),
            m,
            mid=(price,) * m,
            plan=SCALE * rng.standard_normal((int(rng.integers(1, 30)), k)),
            reports=venue.reports(),
            regime=int(rng.integers(0, 2)),
        )
        if rng.random() < 0.6:
            seen = spoil(rng, seen, m, k)
        told = seen if rng.random() < 0.97 else [None, 3, seen._replace(time_s=time_s - 1e4)][rng.integers(3)]
        decision = controller.step(told)  # type: ignore[arg-type]
        ranks.add(decision.rank)
        # The last good price is what a lot is worth to the controller and to the umpire.
        value = np.array([v / setup.instruments[j].lot for j, v in enumerate(controller._quotes.value)])
        umpire.judge(controller._clock.slice, time_s, value, decision)
        if 3000.0 <= time_s < 3600.0:
            assert not decision.orders
        assert all(abs(c) <= 0.5 for c in controller.carried)
        for order in decision.orders:
            assert math.isfinite(order.contracts)
        venue.take(decision, names_of(controller))
    assert umpire.sent > 5
    assert HedgeRank.HOLD in ranks
    assert len(ranks) >= 3
    # After all of it the controller works again: nothing of the chaos is kept but facts.
    price = (price,) * m
    quiet = [
        controller.step(seen_of(time_s + 4000.0 + 60.0 * s, [0.0] * k, m, mid=price, position=(0.0,) * m))
        for s in range(12)
    ]
    assert quiet[-1].rank <= HedgeRank.FEASIBLE or setup.work < 40
