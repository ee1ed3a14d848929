"""Scaled beside unscaled, out of sample, with an interval of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.plotting import PALETTE, figure, graph_objects
from crosswind.solvers.errors import InvalidInput

__all__ = ["ScaleComparison", "compare_scales"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScaleComparison:
    """Out-of-sample R² of the scaled and of the unscaled model.

    Attributes
    ----------
    scores
        One row per name and a "mean": columns "unscaled", "scaled", "gain" (R², no unit).
    lower, upper
        Block-bootstrap interval of the mean gain.
    confidence
        Its coverage.
    rows
        Buckets scored.
    """

    scores: pd.DataFrame
    lower: float
    upper: float
    confidence: float
    rows: int

    @property
    def gain(self) -> float:
        """Mean gain in R² from scaling."""
        return float(self.scores["gain"].to_numpy()[-1])

    @property
    def verdict(self) -> str:
        """The better of the two, "scaled" or "unscaled", or "undecided" where the interval of the gain holds 0."""
        if self.lower > 0:
            return "scaled"
        return "unscaled" if self.upper < 0 else "undecided"

    def to_frame(self) -> pd.DataFrame:
        """Return the scores."""
        return self.scores.copy()

    def summary(self) -> str:
        """Return one line: both R², the gain with its interval, the verdict."""
        mean = self.scores.loc["mean"]
        return (
            f"R² unscaled {mean['unscaled']:.4f}, scaled {mean['scaled']:.4f}, gain {self.gain:+.4f} "
            f"({self.confidence:.0%} {self.lower:+.4f} to {self.upper:+.4f}) on {self.rows} buckets: {self.verdict}"
        )

    def plot(self) -> Any:
        """Return a plotly figure: R² by name, both models side by side."""
        go = graph_objects()
        fig = figure(
            "Impact scaled by state against the fixed model, out of sample", "", "R², no unit, higher is better"
        )
        for k, column in enumerate(("unscaled", "scaled")):
            fig.add_trace(
                go.Bar(x=list(self.scores.index), y=self.scores[column], name=column, marker_color=PALETTE[k])
            )
        return fig

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>{self.scores.round(4).to_html()}"


def compare_scales(
    actual: Array,
    forecast: Array,
    scale: Array,
    names: Sequence[str],
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
    blocks: int = 40,
) -> ScaleComparison:
    """Compare r ≈ s ŷ with r ≈ ŷ.

    Parameters
    ----------
    actual, forecast
        r and ŷ (T, N).
    scale
        s (T,).
    names
        N names.
    resamples, confidence, seed, blocks
        Of the bootstrap over consecutive blocks of rows.

    Raises
    ------
    InvalidInput
        A number of resamples below 1.
    """
    if int(resamples) != resamples or resamples < 1:
        raise InvalidInput("must be an integer ≥ 1", field="resamples", value=resamples)
    errors = np.stack([(actual - forecast) ** 2, (actual - scale[:, None] * forecast) ** 2, actual**2])
    cuts = np.unique(np.linspace(0, len(actual), min(blocks, len(actual)) + 1).round().astype(int))
    sums = np.add.reduceat(errors, cuts[:-1], axis=1)  # (3, blocks, N)

    def r2(total: Array) -> Array:
        part = np.divide(total[:2], total[2], out=np.full(total[:2].shape, np.nan), where=total[2] > 0)
        return np.asarray(1.0 - part)

    scores = r2(sums.sum(axis=1))
    count = sums.shape[1]
    generator = np.random.default_rng(seed)
    gains = np.empty(int(resamples))
    for k in range(len(gains)):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count).astype(float)
        unscaled, scaled = r2(np.einsum("b,kbn->kn", drawn, sums))
        gains[k] = float(np.nanmean(scaled - unscaled)) if np.isfinite(scaled).any() else np.nan
    table = pd.DataFrame({"unscaled": scores[0], "scaled": scores[1]}, index=list(names))
    table["gain"] = table["scaled"] - table["unscaled"]
    table.loc["mean"] = table.mean()
    tail = 0.5 * (1.0 - confidence)
    low, high = np.nanquantile(gains, [tail, 1.0 - tail])
    return ScaleComparison(table, float(low), float(high), float(confidence), len(actual))
