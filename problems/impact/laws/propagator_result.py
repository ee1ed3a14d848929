"""One name's fitted propagator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crosswind.problems.impact.laws.decays import power_decay
from crosswind.problems.impact.laws.manipulation import Manipulation, check_manipulation
from crosswind.problems.plotting import PALETTE, figure, graph_objects

__all__ = ["PropagatorFit"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PropagatorFit:
    """G(h) of one name: r_t = Σ_{τ ≤ t} [G(t−τ) − G(t−τ−1)] f(u_τ) + ε_t, f(u) = ū sgn(u) |u/ū|^δ.

    Attributes
    ----------
    name, decay
        The name and the kind of decay: "power", "exponential", "convex", "free".
    parameters
        One row per parameter with "value", "lower", "upper", "fixed". "power": c [return per currency], t0 [s], gamma;
        "exponential": one weight per half-life; "convex": one per lag; "free": G at each lag [return per currency].
        And "delta".
    knots_s
        Half-lives [s], lags at which the triangles end [s], or the lags [s] of G; () for "power".
    lags_s, lower, upper
        Ages (L,) [s] and the interval of G there [return per currency].
    flow_scale
        ū, root mean square of the flow [currency].
    bucket_s, rows, r2, confidence, currency
        Bucket [s], buckets fitted, share of Σ r² explained in sample, coverage of the intervals, unit.
    """

    name: str
    decay: str
    parameters: pd.DataFrame
    knots_s: tuple[float, ...]
    lags_s: Array
    lower: Array
    upper: Array
    flow_scale: float
    bucket_s: float
    rows: int
    r2: float
    confidence: float
    currency: str

    @property
    def concavity(self) -> float:
        """δ."""
        return self["delta"]

    def __getitem__(self, name: str) -> float:
        """Return the value of a parameter."""
        return float(self.parameters["value"].to_dict()[name])

    @property
    def weights(self) -> Array:
        """All parameters but delta (P,)."""
        return np.asarray(self.parameters["value"].to_numpy(dtype=float)[:-1])

    def kernel(self, h_s: ArrayLike) -> Array:
        """Return G at ages h ≥ 0 in seconds, (L,) [return per currency]; "free" is held after its last lag."""
        h = np.atleast_1d(np.asarray(h_s, dtype=np.float64))
        if self.decay == "power":
            return self["c"] * power_decay(h, self["t0"], self["gamma"])
        if self.decay == "free":
            return np.asarray(np.interp(h, self.knots_s, self.weights))
        return np.asarray(decay_shapes(self.decay, h, self.knots_s) @ self.weights)

    @property
    def convex(self) -> bool:
        """Whether G is nonnegative, nonincreasing and convex on the lags of the fit (to 1e-9 of its largest value)."""
        G = self.kernel(self.lags_s)
        slack = 1e-9 * float(np.abs(G).max(initial=0.0))
        slopes = np.diff(G) / np.diff(self.lags_s)
        bends = np.diff(slopes) * self.bucket_s
        return bool((-slack <= G).all() and (np.diff(G) <= slack).all() and (bends >= -slack).all())

    def manipulation(self) -> Manipulation:
        """Say whether round trips pay under this propagator: flagged for δ ≠ 1, and for γ + δ < 1."""
        gamma = self["gamma"] if self.decay == "power" else None
        return check_manipulation(self.kernel, self.flow_scale, self.concavity, self.bucket_s, gamma, self.convex)

    def admissibility(self, buckets: int = 64) -> Any:
        """Check that no round trip pays for linear impact: the smallest eigenvalue on a grid of buckets.

        Returns
        -------
        Admissibility
            Of the linear propagator with this G; the concavity is not in it, see `manipulation`.
        """
        from crosswind.optim.admissibility import check_admissible

        return check_admissible(lambda h: self.kernel(h)[:, None, None], np.arange(buckets) * self.bucket_s)

    def to_frame(self) -> pd.DataFrame:
        """Return G by age with its interval [return per currency]."""
        index = pd.Index(self.lags_s, name="age_s")
        return pd.DataFrame({"G": self.kernel(self.lags_s), "lower": self.lower, "upper": self.upper}, index=index)

    def summary(self) -> str:
        """Return a few lines: decay, parameters, fit, and whether it invites manipulation."""
        lines = [f"{self.name}: {self.decay} propagator, {self.rows} buckets of {self.bucket_s:g} s, R² {self.r2:.4f}"]
        if self.decay != "free":
            for name, row in self.parameters.iterrows():
                told = "fixed" if row["fixed"] else f"{self.confidence:.0%} {row['lower']:.4g} to {row['upper']:.4g}"
                lines.append(f"  {name:<16} {row['value']:.4g} ({told})")
        lines.append(f"  manipulation     {self.manipulation().summary()}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return a plotly figure: G by age, with its band."""
        go = graph_objects()
        table = self.to_frame() * 1e10
        fig = figure(f"Propagator of {self.name}", "age of the trade [s]", f"impact [bps per million {self.currency}]")
        known = np.isfinite(table["lower"].to_numpy())
        if known.any():
            x = [*table.index[known], *table.index[known][::-1]]
            y = [*table["upper"][known], *table["lower"][known][::-1]]
            fig.add_trace(
                go.Scatter(x=x, y=y, fill="toself", mode="lines", line={"width": 0}, name=f"{self.confidence:.0%} band")
            )
        fig.add_trace(go.Scatter(x=table.index, y=table["G"], mode="lines", name="G", line={"color": PALETTE[1]}))
        return fig

    def _repr_html_(self) -> str:
        return f"<pre>{self.summary()}</pre>"


def decay_shapes(decay: str, h_s: Array, knots_s: tuple[float, ...]) -> Array:
    """Return φ_m at ages h, (L, M): e^{−h ln 2/half-life}, or (1 − h/end)⁺."""
    h, knots = np.asarray(h_s, dtype=np.float64)[:, None], np.asarray(knots_s, dtype=np.float64)[None, :]
    if decay == "exponential":
        return np.asarray(np.exp(-np.log(2.0) * h / knots))
    return np.asarray(np.maximum(0.0, 1.0 - h / knots))
