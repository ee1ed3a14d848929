r"""How well a proxy hedges: share of variance, what is left, and whether the relation has broken.

The variance that the best hedge with one proxy leaves is (1 − ρ²) of the target's (Johnson 1960; Ederington 1979,
J. Finance 34), so R² = ρ² is the effectiveness. A break is told by Fisher's transform: with correlations ρ₁ over the
recent n₁ observations and ρ₀ over the n₀ before,

.. math::

    z = \frac{\operatorname{artanh}\rho_1 - \operatorname{artanh}\rho_0}{\sqrt{1/(n_1-3) + 1/(n_0-3)}}

is standard normal where nothing changed and returns are normal; fat tails make it larger, so the threshold is wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.betas import estimate_betas
from crosswind.problems.hedge.sizing.model import number
from crosswind.problems.market.checks import check_names, utc_index
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["ProxyReport", "compare_proxies"]


@dataclass(frozen=True, eq=False, repr=False)
class ProxyReport(Shown):
    """Candidates for a proxy hedge, best first.

    Parameters
    ----------
    table
        Candidate → ``beta`` and ``se`` of the target to it, ``correlation``, ``r2``, ``residual_vol`` per observation,
        ``recent``, the correlation over the last window, ``z`` of the change, ``broken``.
    window
        Recent observations.
    threshold
        ``broken`` where z < −threshold.
    """

    table: pd.DataFrame
    window: int
    threshold: float

    @property
    def best(self) -> str | None:
        """The candidate of largest R² whose relation holds; None where all have broken."""
        whole = self.table[~self.table["broken"]]
        return str(whole.index[0]) if len(whole) else None

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence per broken relation and per proxy that explains less than half of the variance."""
        out = []
        for name, row in self.table.iterrows():
            if row["broken"]:
                out.append(
                    f"{name}: correlation fell from {row['before']:.2f} to {row['recent']:.2f} in the last "
                    f"{self.window} observations (z {row['z']:.1f}): rely on it less"
                )
            elif row["r2"] < 0.5:
                out.append(f"{name}: explains {row['r2']:.0%} of the variance only; the rest stays")
        return tuple(out)

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def summary(self) -> str:
        """Return the table and the warnings."""
        return "\n".join([self.table.to_string(float_format="{:.4f}".format), *self.warnings()])


def compare_proxies(
    target: pd.Series[float], candidates: pd.DataFrame, *, window: int = 60, threshold: float = 4.0
) -> ProxyReport:
    """Compare instruments as proxies for what is to be hedged.

    Parameters
    ----------
    target
        Returns of what is held (tz-aware).
    candidates
        Times × instruments: returns of what could hedge it.
    window
        Recent observations that are held against all before, >= 10.
    threshold
        z beyond which a relation counts as broken, > 0.

    Returns
    -------
    ProxyReport

    Raises
    ------
    InvalidInput
        On different or naive times, values that are not finite, a window that leaves too little before it.
    """
    names = check_names(candidates.columns, "candidates")
    if isinstance(window, bool) or not isinstance(window, int) or window < 10 or len(target) < 2 * window:
        raise InvalidInput(
            "needs 10 or more observations, and as many before them",
            field="window",
            value=window,
            remedy=f"use at most {len(target) // 2}",
        )
    limit = number(threshold, "threshold", 0.0, above=True)
    times = utc_index(candidates.index, "candidates")
    if not times.equals(utc_index(target.index, "target")):
        raise InvalidInput(
            "its times differ from those of candidates", field="target", value=len(target), remedy="reindex one of them"
        )
    y = target.to_numpy(dtype=np.float64)
    rows = {}
    for name in names:
        fit = estimate_betas(target.to_frame("target"), candidates[name])
        x = candidates[name].to_numpy(dtype=np.float64)
        whole, before, recent = (_correlation(x[cut], y[cut]) for cut in _cuts(window))
        z = _fisher(recent, window) - _fisher(before, len(y) - window)
        z /= math.sqrt(1.0 / (window - 3) + 1.0 / (len(y) - window - 3))
        beta, se, residual = (float(part["target"]) for part in (fit.beta, fit.se, fit.residual_vol))
        # A proxy that moves against the target is broken where the relation weakens, whatever its sign.
        fall = z * math.copysign(1.0, before)
        rows[name] = (beta, se, whole, whole * whole, residual, before, recent, fall, fall < -limit)
    columns = ["beta", "se", "correlation", "r2", "residual_vol", "before", "recent", "z", "broken"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("proxy")
    return ProxyReport(table.sort_values("r2", ascending=False, kind="stable"), window, limit)


def _cuts(window: int) -> tuple[slice, slice, slice]:
    return slice(None), slice(None, -window), slice(-window, None)


def _correlation(x: Any, y: Any) -> float:
    """Return the correlation; 0 where one of the two stands still, for then it hedges nothing."""
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0.0 else 0.0


def _fisher(rho: float, count: int) -> float:
    # A correlation of ±1 has no transform; beyond 1 − 1/n² it cannot be told from 1 with n observations.
    edge = 1.0 - 1.0 / count**2
    return math.atanh(min(max(rho, -edge), edge))
