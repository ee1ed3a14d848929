from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crosswind.problems.impact import ImpactModel, make_dictionary
from crosswind.problems.market import MarketEvents

NAMES = tuple(3 * letter for letter in "ABCDEFGHIJKLMNOPQRST")


def psd_truth(names: int, shapes: int, rng: np.random.Generator, corr: float = 0.3) -> np.ndarray:
    """PSD matrices [return per currency] with unequal liquidity and correlations near `corr`."""
    own = 1e-9 * np.exp(rng.uniform(-0.7, 0.7, names))
    out = np.empty((shapes, names, names))
    for k in range(shapes):
        noise = rng.uniform(-0.05, 0.05, (names, names))
        C = corr + 0.5 * (noise + noise.T)
        np.fill_diagonal(C, 1.0)
        out[k] = C * np.sqrt(np.outer(own, own)) / (k + 1)
    return out


@pytest.fixture(scope="session")
def build_events() -> Callable[..., MarketEvents]:
    """Events with flow and returns made exactly as given, T buckets in each of `days` sessions."""

    def build(flow: np.ndarray, returns: np.ndarray, days: int = 1, bucket_s: float = 60.0, **kw: Any) -> MarketEvents:
        rows, names = flow.shape
        per_day = rows // days
        columns = list(kw.pop("names", NAMES[:names]))
        starts = [pd.Timestamp("2024-03-04 14:30", tz="UTC") + pd.Timedelta(d, "D") for d in range(days)]
        steps = pd.to_timedelta(np.arange(1, per_day + 1) * bucket_s, unit="s")
        stamps = np.concatenate([(s + steps).as_unit("ns").asi8 for s in starts])
        index = pd.DatetimeIndex(stamps, tz="UTC").as_unit("ns")
        mid = np.empty_like(flow)
        for d in range(days):
            part = slice(d * per_day, (d + 1) * per_day)
            growth = 1.0 + returns[part]
            growth[0] = 1.0
            mid[part] = 100.0 * np.cumprod(growth, axis=0)

        def frame(values: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame(values, index=index, columns=columns)

        return MarketEvents(
            flow=frame(flow),
            mid=frame(mid),
            spread=frame(np.full_like(flow, 0.01)),
            volume=frame(np.abs(flow) + 1.0),
            depth=frame(np.full_like(flow, 1e5)),
            bucket_s=bucket_s,
            tz="America/New_York",
            factors=None if "factors" not in kw else pd.DataFrame(kw["factors"], index=index).add_prefix("f"),
        )

    return build


@pytest.fixture(scope="session")
def simulated(build_events: Callable[..., MarketEvents]) -> Callable[..., tuple[MarketEvents, ImpactModel]]:
    """(events, truth): persistent correlated flow, impact of a random PSD truth, noise of the asked R²."""

    def simulate(
        names: int = 4,
        rows: int = 600,
        days: int = 2,
        r2: float = 1.0,
        family: str = "exponential",
        half_lives_s: tuple[float, ...] = (120.0, 1200.0),
        lags: tuple[int, ...] = (0, 2, 6),
        corr: float = 0.3,
        seed: int = 0,
        factors: int = 0,
        flow: np.ndarray | None = None,
    ) -> tuple[MarketEvents, ImpactModel]:
        rng = np.random.default_rng(seed)
        dictionary = make_dictionary(family, 60.0, half_lives_s, lags)
        K = psd_truth(names, dictionary.size, rng, corr)
        u = 1e6 * (rng.standard_normal((rows, names)) + 0.5 * rng.standard_normal((rows, 1))) if flow is None else flow
        X = K.transpose(1, 0, 2).reshape(names, -1)
        per_day = rows // days
        Z = np.vstack([dictionary.regressors(u[d * per_day : (d + 1) * per_day]) for d in range(days)])
        signal = Z @ X.T
        noise = signal.std(axis=0) * np.sqrt((1.0 - r2) / r2) * rng.standard_normal(signal.shape)
        extra: dict[str, Any] = {}
        returns = signal + noise
        if factors:
            shocks = 1e-3 * rng.standard_normal((rows, factors))
            extra["factors"] = shocks
            returns = returns + shocks @ rng.uniform(0.5, 1.5, (factors, names))
        events = build_events(u, returns, days, **extra)
        rates = np.array(dictionary.rates_per_s if family == "exponential" else [0.0])
        if family in ("monotone", "convex"):
            rates = np.full(dictionary.size, np.nan)
        truth = ImpactModel(events.names, rates, K, dictionary.family, 60.0, dictionary.lags)
        return events, truth

    return simulate
