"""Seeded markets and parents for the tests of the hedge."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crosswind.optim.program import ImpactMode
from crosswind.problems.hedge import HedgeBeliefs, HedgeParent, PlanRevision
from crosswind.problems.replay import ReplayMarket, SimulatedVenue

NAMES = ("A", "B", "C")
TRADED = (*NAMES, "ES")
BETAS = pd.Series([0.8, 1.0, 1.3], index=list(NAMES))
VARIANCE_PER_S = (1e-4) ** 2


def market_of(seed: int, slices: int = 12, volatility: float = 1.0) -> ReplayMarket:
    rng = np.random.default_rng(seed)
    step = np.sqrt(VARIANCE_PER_S * 60.0) * volatility
    x = rng.normal(0.0, step, slices)
    own = rng.normal(0.0, step, (slices, 3))
    basis = np.diff(rng.normal(0.0, 0.1 * step, slices + 1))
    moves = np.column_stack([np.outer(x, BETAS) + own, x, x + basis])
    start = np.array([50.0, 100.0, 150.0, 400.0, 5000.0])
    mid = np.vstack([np.ones(5), 1.0 + np.cumsum(moves, axis=0)]) * start
    times = pd.date_range("2024-03-08 14:30", periods=slices + 1, freq="60s", tz="UTC")
    frame = pd.DataFrame(mid, index=times, columns=[*NAMES, "SPY", "ES"])
    spread = pd.Series({"A": 0.01, "B": 0.01, "C": 0.02, "SPY": 0.01, "ES": 0.125})
    return ReplayMarket.from_frames(frame, spread, multiplier={"ES": 50.0})


def parent_of(seed: int, slices: int = 12, size: float = 2e4, revise: int | None = None) -> HedgeParent:
    """Return a two-sided lumpy parent; at ``revise`` the rest of one name is cancelled and another is enlarged."""
    rng = np.random.default_rng(seed + 1000)
    side = rng.choice([-1.0, 1.0], 3)
    raw = np.abs(rng.normal(size=(slices, 3))) * (rng.random((slices, 3)) < 0.5)
    raw[0] += 0.1
    plan = pd.DataFrame((raw * side * size).round(), columns=list(NAMES))
    revisions = ()
    if revise is not None:
        changed = plan.copy()
        changed["A"] = 0.0
        changed["B"] *= 1.5
        revisions = (PlanRevision(revise, changed.round()),)
    return HedgeParent(f"p{seed}", plan, BETAS, "ES", "SPY", revisions=revisions)


def modes_of(seed: int = 0, size: float = 1e-11) -> tuple[ImpactMode, ...]:
    rng = np.random.default_rng(seed + 2000)
    raw = [rng.normal(size=(4, 4)) for _ in range(2)]
    return tuple(ImpactMode(rate, size * r @ r.T) for rate, r in zip((1 / 60.0, 1 / 900.0), raw, strict=True))


def beliefs_of(modes: tuple[ImpactMode, ...] = ()) -> HedgeBeliefs:
    return HedgeBeliefs(VARIANCE_PER_S, modes, TRADED if modes else ())


def venue_of(modes: tuple[ImpactMode, ...], latency_s: float = 2.0) -> SimulatedVenue:
    names = TRADED if modes else None
    return SimulatedVenue({"ES": latency_s}, modes, names, fee_per_unit={"ES": 1.2, "A": 0.001})
