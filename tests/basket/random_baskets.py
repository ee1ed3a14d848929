"""Seeded baskets over all options at once, small enough for the conic reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.basket import (
    Auction,
    BasketProblem,
    Blackout,
    FactorCovariance,
    FactorImpact,
    square_root_cost,
)


def random_basket(seed: int, largest: int = 7) -> BasketProblem:
    """Return a basket with a random subset of the options; each option appears in about a third of the seeds."""
    rng = np.random.default_rng([7, seed])

    def coin(p: float = 1 / 3) -> bool:
        return bool(rng.random() < p)

    N, T, H = int(rng.integers(1, largest)), int(rng.integers(1, 9)), int(rng.integers(0, 3)) if coin(0.4) else 0
    names = [f"N{i}" for i in range(N)]
    hedges = [f"H{i}" for i in range(H)]
    every = names + hedges
    A = len(every)
    slice_s = 900.0
    gaps = np.where(rng.random(T) < 0.1, 4.0, 1.0)
    starts = np.concatenate([[0.0], np.cumsum(gaps)[:-1]]) * slice_s
    times = pd.Timestamp("2024-03-04 14:30", tz="UTC") + pd.to_timedelta(starts, unit="s")
    day = np.exp(rng.normal(np.log(2e8), 0.7, A))
    volume = pd.DataFrame(day / T * rng.uniform(0.5, 1.5, (T, A)), times, every)
    sd = rng.uniform(0.01, 0.03, A) / np.sqrt(23_400.0)
    loadings = pd.DataFrame(np.column_stack([np.ones(A), rng.normal(size=(A, 2))]) * 0.6, every, ["m", "a", "b"])
    factors = pd.DataFrame(np.diag([1.0, 0.3, 0.2]) * 2e-8, loadings.columns, loadings.columns)
    covariance: Any = FactorCovariance(loadings, factors, pd.Series(0.4 * sd**2, every))
    if coin(0.5):
        covariance = pd.DataFrame(
            loadings.to_numpy() @ factors.to_numpy() @ loadings.to_numpy().T + np.diag(0.4 * sd**2), every, every
        )
    rates = np.array([0.0, np.log(2) / 300.0, np.log(2) / 3000.0])[int(rng.integers(0, 2)) :]
    own = np.stack([0.05 * sd * np.sqrt(23_400.0) / (0.01 * day) * rng.uniform(0.2, 1.0, A) for _ in rates])
    L = tuple(np.sqrt(k)[:, None] * rng.normal(size=(A, 1)) * 0.5 for k in own)
    model: Any = FactorImpact(tuple(every), rates, own, L)
    if coin(0.5):
        model = model.to_model()
    size = day[:N] * rng.uniform(0.005, 0.05, N) * rng.choice([-1.0, 1.0], N)
    if coin(0.1):
        size[0] = 0.0
    inventory = pd.Series(size, names)
    gross = float(np.abs(size).sum())
    arguments: dict[str, Any] = {
        "inventory": inventory,
        "model": model,
        "times": times,
        "slice_s": slice_s,
        "volume": volume,
        "covariance": covariance,
        "spread": pd.Series(rng.uniform(0.0, 3e-4, A), every),
        "risk_aversion": float(10.0 ** rng.uniform(-9, -6)) if coin(0.8) else 0.0,
        "participation": 0.3,
    }
    # Without curvature in every trade the optimum need not be unique; the cost still is.
    arguments["temporary"] = 0.0 if coin(0.15) else None
    if coin():
        arguments["three_halves"] = square_root_cost(_dense(covariance, every), volume, slice_s, rng.uniform(0.1, 0.8))
    if coin():
        arguments |= {"volume_sd": float(rng.uniform(0.1, 0.5)), "volume_quantile": float(rng.uniform(0.1, 0.5))}
    if coin():
        arguments["sectors"] = pd.Series([f"S{i % 2}" for i in range(N)], names)
        arguments["sector_cap"] = 1.4 * gross / T
    if coin():
        arguments["cash_band"] = max(1.05 * abs(float(inventory.sum())), 0.2 * gross)
    if coin():
        beta = pd.Series(rng.uniform(0.5, 1.5, A), every)
        net = abs(float(inventory @ beta[names]))
        arguments |= {"beta": beta, "beta_band": max(1.02 * net, 0.1 * gross)}
    if coin():
        X = pd.DataFrame(rng.normal(size=(A, 2)), every, ["value", "size"])
        net = inventory @ X.loc[names]
        edges = pd.DataFrame({"lower": -net.abs() - 0.1 * gross, "upper": net.abs() + 0.1 * gross})
        if coin():
            edges.loc["size", "upper"] = np.inf
        arguments |= {"factor_exposures": X, "factor_band": edges}
    if coin():
        arguments["drift"] = pd.Series(rng.normal(size=A) * 1e-7, every)
        if coin(0.5):
            arguments["drift_half_life_s"] = float(rng.uniform(600.0, 6000.0))
        if coin(0.2):
            arguments["drift"] = pd.DataFrame(rng.normal(size=(T, A)) * 1e-4, times, every)
            arguments.pop("drift_half_life_s", None)
    if coin():
        arguments["urgency"] = pd.Series(10.0 ** rng.uniform(-9, -6, A), every)
    ends = rng.random()
    if ends < 0.25:
        arguments["completion"] = float(10.0 ** rng.uniform(-1, 2)) / max(gross, 1.0)
    elif ends < 0.4:
        arguments["completion"] = rng.uniform(0.0, 0.8) * inventory
    if H:
        arguments["hedges"] = pd.Series(rng.normal(size=H) * 0.1 * gross * (rng.random(H) < 0.5), hedges)
        if coin(0.5):
            arguments["hedge_target"] = pd.Series({hedges[0]: 0.0})
    if T > 2 and coin():
        calls = [Auction(times[-1], pd.Series(0.1 * day, every), transient=float(rng.choice([0.0, 0.5])))]
        if coin():
            calls.append(Auction(times[0], pd.Series(0.05 * day, every), spread=1e-5, three_halves=1e-8))
        arguments["auctions"] = calls
    if T > 4 and coin():
        arguments["blackouts"] = (Blackout(times[2], times[3], None if coin(0.5) else (names[0],)),)
    if T > 4 and coin():
        arguments["must_finish"] = pd.Series({names[-1]: times[-1]})
    if coin(0.2):
        arguments["max_change"] = 0.5 * pd.Series(np.maximum(np.abs(np.append(size, [gross] * H)), 1e4), every)
        if coin(0.5):
            arguments["previous_trade"] = 0.1 * pd.Series(np.append(size, [0.0] * H), every)
    arguments["allow_reversal"] = coin()
    return BasketProblem(**arguments)


def _dense(covariance: Any, names: list[str]) -> pd.DataFrame:
    if isinstance(covariance, pd.DataFrame):
        return covariance
    return pd.DataFrame(covariance.aligned(names, 1.0).dense(), names, names)
