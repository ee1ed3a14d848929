"""Held-out errors by cell, name and horizon, and what resampling the cells says about scores and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.impact.estimator import ImpactEstimator
from crosswind.problems.impact.features import session_rows
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market import MarketEvents

__all__ = ["HORIZONS_S", "HeldOut", "Scores", "held_out_errors", "usable_horizons"]

Array = NDArray[np.float64]

HORIZONS_S = (1.0, 5.0, 30.0, 300.0)
_FEWEST = 20  # windows below which a horizon is not scored


def usable_horizons(events: MarketEvents, asked_s: Sequence[float] | None = None) -> tuple[float, ...]:
    """Horizons [s] that the buckets allow: the bucket itself and the whole multiples of it with enough windows.

    Parameters
    ----------
    asked_s
        Horizons; None: 1 s, 5 s, 30 s and 5 min, of which those that do not fit are left out. Horizons given are kept
        or refused.

    Raises
    ------
    InvalidInput
        A given horizon is not a whole number of buckets.
    """
    bucket = events.bucket_s
    out = [float(bucket)]
    for horizon in HORIZONS_S if asked_s is None else asked_s:
        steps = horizon / bucket
        whole = np.isfinite(steps) and steps >= 1 - 1e-9 and abs(steps - round(steps)) <= 1e-9 * max(steps, 1.0)
        if not whole and asked_s is not None:
            raise InvalidInput(
                f"must be a whole number of {bucket:g} s buckets",
                field="horizons_s",
                value=horizon,
                remedy=f"give k × {bucket:g}",
            )
        if whole and round(steps) > 1 and (asked_s is not None or len(events.index) / steps >= _FEWEST):
            out.append(float(bucket * round(steps)))
    return tuple(sorted(set(out)))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Sums over held-out windows, by cell and name.

    Parameters
    ----------
    error, total
        Σ(r − r̂)² and Σr², (C, N) [return²].
    windows
        Number of windows by cell, (C,).
    """

    error: Array
    total: Array
    windows: NDArray[np.intp]

    def __add__(self, other: HeldOut) -> HeldOut:
        return HeldOut(self.error + other.error, self.total + other.total, self.windows + other.windows)

    def r2(self, weights: Array) -> Array:
        """R² by name for each draw of cell weights (B, C): (B, N), NaN where a name did not move."""
        error, total = weights @ self.error, weights @ self.total
        return np.asarray(1.0 - np.divide(error, total, out=np.full(error.shape, np.nan), where=total > 0))


def held_out_errors(
    estimator: ImpactEstimator, events: MarketEvents, cell: NDArray[np.intp], cells: int, horizons_s: Sequence[float]
) -> dict[float, HeldOut]:
    """Errors of a fitted estimator on events it has not seen.

    Parameters
    ----------
    estimator
        Fitted.
    events
        Held-out buckets.
    cell
        Cell of each row, (T,).
    cells
        Number of cells C.
    horizons_s
        Returns are summed over whole windows of these lengths inside each session; a window counts for the cell in
        which it begins.
    """
    actual, forecast = estimator._target(events), estimator.predict(events).to_numpy()
    use = np.isfinite(actual).all(axis=1)
    actual, forecast, cell = actual[use], forecast[use], cell[use]
    session = events.session.to_numpy()[use]
    out = {}
    for horizon in horizons_s:
        steps = round(horizon / events.bucket_s)
        error, total = np.zeros((cells, actual.shape[1])), np.zeros((cells, actual.shape[1]))
        windows = np.zeros(cells, dtype=np.intp)
        for part in session_rows(session):
            whole = (part.stop - part.start) // steps
            if not whole:
                continue
            rows = slice(part.start, part.start + whole * steps)
            r, f = (a[rows].reshape(whole, steps, -1).sum(axis=1) for a in (actual, forecast))
            at = cell[rows][::steps]
            np.add.at(error, at, (r - f) ** 2)
            np.add.at(total, at, r**2)
            np.add.at(windows, at, 1)
        out[float(horizon)] = HeldOut(error, total, windows)
    return out


@dataclass(frozen=True, eq=False)
class Scores:
    """Held-out errors of several models on the same windows, with one set of resampling weights for all.

    Parameters
    ----------
    names
        The N names.
    held
        Model → horizon [s] → errors.
    weights
        Cell weights (B, C) of the draws.
    level
        Coverage asked of the intervals, e.g. .9: the draws' quantiles at (1 ± level)/2.
    """

    names: tuple[str, ...]
    held: Mapping[str, Mapping[float, HeldOut]]
    weights: Array
    level: float

    @property
    def horizons_s(self) -> tuple[float, ...]:
        """Horizons [s], ascending."""
        return tuple(next(iter(self.held.values())))

    def _mean(self, model: str, horizon_s: float, weights: Array) -> Array:
        r2 = self.held[model][horizon_s].r2(weights)
        moved = np.isfinite(r2)
        return np.asarray(np.where(moved, r2, 0.0).sum(axis=1) / np.maximum(moved.sum(axis=1), 1))

    def _once(self) -> Array:
        return np.ones((1, self.weights.shape[1]))

    def interval(self, draws: Array) -> tuple[float, float]:
        """Quantiles of the draws at the level asked for."""
        tail = 0.5 * (1.0 - self.level)
        low, high = np.quantile(draws, [tail, 1.0 - tail])
        return float(low), float(high)

    def table(self) -> pd.DataFrame:
        """Out-of-sample R²: rows (model, horizon_s); columns the names, "mean", "low", "high" and "se" of the mean."""
        rows = {}
        for model, by_horizon in self.held.items():
            for horizon, held in by_horizon.items():
                draws = self._mean(model, horizon, self.weights)
                low, high = self.interval(draws)
                row = dict(zip(self.names, held.r2(self._once())[0].tolist(), strict=True))
                mean = float(self._mean(model, horizon, self._once())[0])
                rows[model, horizon] = row | {"mean": mean, "low": low, "high": high, "se": float(draws.std(ddof=1))}
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index = pd.MultiIndex.from_tuples(list(rows), names=["model", "horizon_s"])
        return table

    def difference(self, model: str, against: str, horizon_s: float) -> dict[str, float]:
        """Paired difference of the mean R² of two models: "difference", "low", "high", "se", "share_better"."""
        draws = self._mean(model, horizon_s, self.weights) - self._mean(against, horizon_s, self.weights)
        once = self._mean(model, horizon_s, self._once()) - self._mean(against, horizon_s, self._once())
        low, high = self.interval(draws)
        return {
            "difference": float(once[0]),
            "low": low,
            "high": high,
            "se": float(draws.std(ddof=1)),
            "share_better": float(np.mean(draws > 0)),
        }

    def differences(self, against: str) -> pd.DataFrame:
        """`difference` of every other model at every horizon: rows (model, horizon_s)."""
        rows = {
            (model, horizon): self.difference(model, against, horizon)
            for model in self.held
            if model != against
            for horizon in self.horizons_s
        }
        columns = ["difference", "low", "high", "se", "share_better"]
        table = pd.DataFrame(list(rows.values()), columns=columns)
        table.index = pd.MultiIndex.from_tuples(list(rows) or [("", 0.0)][:0], names=["model", "horizon_s"])
        return table

    def by_name(self, model: str, against: str, horizon_s: float) -> pd.DataFrame:
        """Paired difference of R² by name: "difference", "low", "high"."""
        first, second = self.held[model][horizon_s], self.held[against][horizon_s]
        draws = first.r2(self.weights) - second.r2(self.weights)
        tail = 0.5 * (1.0 - self.level)
        once = (first.r2(self._once()) - second.r2(self._once()))[0]
        low, high = np.nanquantile(draws, [tail, 1.0 - tail], axis=0)
        return pd.DataFrame({"difference": once, "low": low, "high": high}, index=list(self.names))
