"""Seeded hedge programs for the benchmark engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.program import MultistageProgram
    from crosswind.solvers.program import QuadraticProgram

__all__ = ["hedge_instances", "hedge_program"]


def hedge_program(instruments: int = 1, horizon: int = 20, seed: int = 0, hostile: bool = False) -> MultistageProgram:
    """Return a random hedge-timing program, in units of the parent's beta notional.

    Parameters
    ----------
    instruments
        m hedges, each on its own exposure.
    horizon
        Slices H.
    seed
        Of all draws.
    hostile
        A start far from the plan, tight clips and rates, and a revised plan: many active limits.

    Returns
    -------
    MultistageProgram

    Raises
    ------
    InvalidInput
        For sizes below 1.
    """
    from crosswind.optim.limits import BandLimit, RateLimit, SoftPenalty, TradeLimit
    from crosswind.optim.program import ImpactMode, MultistageProgram, Terminal

    if instruments < 1 or horizon < 1:
        raise InvalidInput("must be at least 1", field="sizes", value=(instruments, horizon), remedy="use 1 or more")
    rng = np.random.default_rng(seed)
    m, H, dt = instruments, horizon, 60.0
    volatility = rng.uniform(0.5, 1.5, m) * 1e-4 * np.sqrt(dt)
    mix = rng.normal(size=(m, m)) / np.sqrt(m)
    correlation = 0.5 * np.eye(m) + 0.5 * (mix @ mix.T)
    spread = rng.uniform(0.3, 1.5, m) * 1e-5
    raw = rng.normal(size=(m, m)) * 0.2 / np.sqrt(m) + np.eye(m)
    impact = (raw @ raw.T) * 5e-5
    # Half of the plan is smooth, half comes in blocks: on smooth plans alone there is nothing to find.
    blocks = rng.random((H, m)) < 0.15
    steps = -(np.full((H, m), 0.5 / H) + blocks * rng.exponential(0.1, (H, m)))
    start = rng.choice([-1.0, 1.0], m)
    level = np.vstack([start, start + np.cumsum(steps * start, axis=0)])
    clip = rng.uniform(0.05, 0.2, m) * (0.3 if hostile else 1.0)
    held = start * rng.uniform(0.2, 1.0, m) + (rng.normal(0.0, 2.0, m) if hostile else 0.0)
    cap = np.tile(0.5 * clip * 4.0, (H, 1))
    limits: list[Any] = [
        TradeLimit("clip", -np.tile(clip, (H, 1)), np.tile(clip, (H, 1))),
        BandLimit("gap cap", np.eye(m), -cap, cap, soft=SoftPenalty(1e-3, 1e-2), on="exposure"),
    ]
    if hostile:
        before = rng.uniform(-1.0, 1.0, m) * clip
        limits.append(RateLimit("rate", np.tile(0.3 * clip, (H, 1)), before))
    return MultistageProgram(
        instruments=tuple(f"hedge{i}" for i in range(m)),
        dt_s=np.full(H, dt),
        p0=held,
        exposure=-np.eye(m),
        exposure_level=level,
        spread=np.tile(spread, (H, 1)),
        temporary=np.full((H, m), 1e-6),
        drift=rng.normal(0.0, 2e-6, (H, m)),
        impact=(ImpactMode(1.0 / 300.0, impact, rng.normal(0.0, 0.05, m)),),
        covariance=correlation * np.outer(volatility, volatility),
        risk_aversion=float(10.0 ** rng.uniform(-1.0, 1.0)),
        terminal=Terminal(level[-1], 1e-3),
        limits=tuple(limits),
    )


def hedge_instances(
    sizes: tuple[tuple[int, int], ...] = ((1, 20), (1, 60), (3, 30), (10, 60)), seeds: int = 5, hostile: bool = False
) -> Iterator[tuple[str, QuadraticProgram]]:
    """Yield (name, program) for every size (m, H) and seed 0..seeds−1, lowered to a sparse QP."""
    from crosswind.optim.lowering import lower

    for m, horizon in sizes:
        for seed in range(seeds):
            name = f"hedge-{'hostile-' if hostile else ''}m{m}-H{horizon}-{seed}"
            yield name, lower(hedge_program(m, horizon, seed, hostile), keep_absolute=True, names=False).qp
