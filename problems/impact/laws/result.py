"""What a fitted law says: parameters with intervals, and how predicted and observed costs compare."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.plotting import PALETTE, figure, graph_objects

__all__ = ["LawFit"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LawFit:
    """One fitted law.

    Attributes
    ----------
    law
        Its formula, with the parameters' names.
    parameters
        One row per parameter: "value", "stderr", "lower", "upper", "fixed". A fixed one has no interval.
    confidence
        Coverage of the intervals.
    covariance
        Of the free parameters, by name.
    rows
        Orders or buckets of the fit.
    r2
        Weighted share of the squared observations that is explained, against "no impact".
    noise
        Root mean square of the weighted residuals; 1 where the weights are the inverse variances.
    curve
        Observed against predicted in bins, for the plot: columns "predicted", "observed", "stderr".
    """

    law: str
    parameters: pd.DataFrame
    confidence: float
    covariance: pd.DataFrame
    rows: int
    r2: float
    noise: float
    curve: pd.DataFrame

    def __getitem__(self, name: str) -> float:
        """Return the value of a parameter."""
        return float(self.parameters["value"].to_dict()[name])

    def interval(self, name: str) -> tuple[float, float]:
        """Return the interval of a free parameter; NaN for a fixed one."""
        row = self.parameters.loc[name, ["lower", "upper"]].to_numpy(dtype=float)
        return float(row[0]), float(row[1])

    def to_frame(self) -> pd.DataFrame:
        """Return the parameters."""
        return self.parameters.copy()

    def summary(self) -> str:
        """Return the formula and one line per parameter."""
        lines = [f"{self.law}, {self.rows} rows, R² {self.r2:.4f}, residual noise {self.noise:.3g}"]
        for name, row in self.parameters.iterrows():
            told = "fixed" if row["fixed"] else f"{self.confidence:.0%} {row['lower']:.4g} to {row['upper']:.4g}"
            lines.append(f"  {name:<16} {row['value']:.4g} ({told})")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return a plotly figure: observed against predicted, in bins, with two standard errors."""
        go = graph_objects()
        fig = figure("Observed against predicted impact", "predicted [bps of the price]", "observed [bps]; > 0 is lost")
        x, y = self.curve["predicted"] * 1e4, self.curve["observed"] * 1e4
        ends = [float(min(x.min(), 0.0)), float(x.max())]
        fig.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="equal", line={"dash": "dot", "color": "#777"}))
        fig.add_trace(
            go.Scatter(
                x=x,
                y=y,
                error_y={"type": "data", "array": 2e4 * self.curve["stderr"]},
                mode="markers",
                name="mean of a bin",
                marker_color=PALETTE[0],
            )
        )
        return fig

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>{self.parameters.to_html()}"


def parameter_table(
    values: dict[str, float], free: list[str], covariance: Array, z: float, positive: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the parameters' table and the covariance of the free ones by name.

    Intervals are ± z standard errors; for those in ``positive`` on the logarithm: a coefficient beside a free exponent
    is skewed, as it is the impact of an order of the size of a whole day.
    """
    errors = dict(zip(free, np.sqrt(np.maximum(np.diag(covariance), 0.0)), strict=True)) if free else {}
    rows = {}
    for name, value in values.items():
        sd = float(errors.get(name, np.nan))
        rows[name] = {"value": value, "stderr": sd, "lower": value - z * sd, "upper": value + z * sd}
        if name in positive and value > 0 and sd > 0:
            spread = float(np.exp(z * sd / value))
            rows[name] |= {"lower": value / spread, "upper": value * spread}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["fixed"] = [name not in free for name in table.index]
    return table.rename_axis("parameter"), pd.DataFrame(covariance, index=free, columns=free)


def binned(predicted: Array, observed: Array, bins: int = 15) -> pd.DataFrame:
    """Return means of both by quantile of the prediction, with the standard error of the observed mean."""
    order = np.argsort(predicted, kind="stable")
    groups = [g for g in np.array_split(order, min(bins, len(order))) if len(g)]
    rows = [
        {
            "predicted": float(predicted[g].mean()),
            "observed": float(observed[g].mean()),
            "stderr": float(observed[g].std() / np.sqrt(len(g))),
        }
        for g in groups
    ]
    return pd.DataFrame(rows)
