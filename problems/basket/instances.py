"""Seeded basket programs for benchmarks: the same numbers for the same seed, sizes as a desk has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.model import BasketProblem

if TYPE_CHECKING:
    from crosswind.solvers.program import QuadraticProgram

__all__ = ["SIZES", "basket_instance", "basket_programs"]

# name -> (names, slices): a small list, a programme trade by quarter of an hour, an index slice.
SIZES: dict[str, tuple[int, int]] = {"basket-10x13": (10, 13), "basket-30x26": (30, 26), "basket-100x26": (100, 26)}


def basket_instance(
    names: int = 10,
    slices: int = 13,
    *,
    seed: int = 0,
    sectors: int = 4,
    modes: int = 2,
    one_sided: bool = False,
    risk_aversion: float = 1e-6,
    participation: float | None = 0.15,
    limits: bool = True,
) -> BasketProblem:
    """Return a seeded two-sided basket with realistic magnitudes.

    Parent orders are 2–8 % of the forecast volume of the session; K_m is a diagonal plus market and sector factors, PSD
    by construction; volume is U-shaped over the session; risk has one market factor and one per sector.

    Parameters
    ----------
    names, slices
        N and T; a session of 6.5 hours is cut into T slices.
    seed
        Seed of the generator.
    sectors
        Number of sectors.
    modes
        Number of exponential modes, half-lives from 2 minutes up, ten times longer each.
    one_sided
        Whether every parent order is a buy; otherwise half are sells.
    risk_aversion
        λ [1/currency].
    participation
        Cap on |u| / V, or None.
    limits
        Whether sector caps and a cash-neutral band apply; both are slack enough for a feasible completion.
    """
    from crosswind.problems.impact.model import ImpactModel

    rng = np.random.default_rng(seed)
    labels = tuple(f"N{i:03d}" for i in range(names))
    sector = np.arange(names) % sectors
    session_s = 23_400.0
    slice_s = session_s / slices
    times = pd.date_range("2024-03-04 14:30", periods=slices, freq=pd.Timedelta(slice_s, unit="s"), tz="UTC").as_unit(
        "ns"
    )

    hours = (np.arange(slices) + 0.5) / slices
    profile = 0.6 + 1.6 * (2.0 * hours - 1.0) ** 2
    profile /= profile.sum()
    day_volume = np.exp(rng.normal(np.log(3e8), 0.8, names))
    volume = profile[:, None] * day_volume * np.exp(rng.normal(0.0, 0.1, (slices, names)))

    day_sd = rng.uniform(0.01, 0.025, names)
    beta = rng.uniform(0.4, 0.8, names)
    same = (sector[:, None] == sector[None, :]).astype(np.float64)
    corr = np.outer(beta, beta) * 0.6 + 0.2 * same
    np.fill_diagonal(corr, 1.0)
    covariance = corr * np.outer(day_sd, day_sd) / session_s

    # A trade of 1 % of the day's volume moves its own price by a tenth of the day's volatility at once.
    own = 0.1 * day_sd / (0.01 * day_volume)
    cross = 0.25 * np.outer(beta, beta) + 0.25 * same
    np.fill_diagonal(cross, 1.0)
    scale = np.sqrt(np.outer(own, own))
    weights = np.array([0.6**m for m in range(modes)])
    weights /= weights.sum()
    matrices = np.stack([w * cross * scale for w in weights])
    rates = np.log(2.0) / (120.0 * 10.0 ** np.arange(modes))
    model = ImpactModel(labels, rates, matrices, family="exponential", bucket_s=60.0)

    size = rng.uniform(0.02, 0.08, names) * day_volume
    side = np.ones(names) if one_sided else np.where(np.arange(names) % 2 == 0, 1.0, -1.0)
    inventory = pd.Series(size * side, index=list(labels))
    gross = pd.Series(size, index=list(labels)).groupby(sector).sum()
    return BasketProblem(
        inventory=inventory,
        model=model,
        times=times,
        slice_s=slice_s,
        volume=pd.DataFrame(volume, index=times, columns=list(labels)),
        covariance=pd.DataFrame(covariance, index=list(labels), columns=list(labels)),
        spread=pd.Series(rng.uniform(1e-4, 4e-4, names), index=list(labels)),
        risk_aversion=risk_aversion,
        participation=participation,
        sectors=pd.Series([f"S{s}" for s in sector], index=list(labels)),
        sector_cap=pd.Series({f"S{s}": 1.6 * gross[s] / slices for s in gross.index}) if limits else None,
        cash_band=max(1.2 * abs(float(inventory.sum())), 0.1 * float(size.sum())) if limits else None,
    )


def basket_programs(sizes: dict[str, tuple[int, int]] | None = None, seed: int = 0) -> dict[str, QuadraticProgram]:
    """Return quadratic programs by name for the benchmark engine, lowered from seeded baskets.

    Parameters
    ----------
    sizes
        Name -> (names, slices); default :data:`SIZES`.
    seed
        Seed of every instance.
    """
    from crosswind.optim.lowering import lower

    return {
        label: lower(basket_instance(n, t, seed=seed).program()).qp
        for label, (n, t) in (SIZES if sizes is None else sizes).items()
    }
