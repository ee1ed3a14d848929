r"""When to size a standing hedge again: a band around the wanted position, from cost against tracking variance.

The gap G between wanted and held hedge drifts without trades as a random walk of ν [currency per √day]. Holding it
costs κG² a day with κ = λσ² (σ² the daily variance of the factor), trading costs c per unit of currency. Reflecting G
at ±w pushes ν²/(2w) of currency a day, and G is uniform within, so the cost a day and its minimum are

.. math::

    \frac{\kappa w^2}{3} + \frac{c\nu^2}{2w} \quad\Rightarrow\quad w = \Big(\frac{3c\nu^2}{4\kappa}\Big)^{1/3}

(the cube root of singular control; Davis and Norman 1990, Janeček and Shreve 2004 for portfolios). A cost φ per trade
besides makes it better to trade back to the middle: a round takes w²/ν² days, the mean of G² is w²/6, and

.. math::

    \frac{\kappa w^2}{6} + (\varphi + c w)\frac{\nu^2}{w^2}

is least at the one positive root of κw⁴/3 − cν²w − 2φν² = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import SpotBook, number, numbers
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["ResizeBand", "gap_drift", "resize_band"]


@dataclass(frozen=True, repr=False)
class ResizeBand(Shown):
    """A no-trade band around the wanted hedge.

    Parameters
    ----------
    half_width
        w [currency of exposure].
    to_edge
        Whether a trade goes back to the edge (costs by size only) or to the middle (a cost per trade).
    trades_per_day
        Returns to the band a day; with ``to_edge`` the currency traded over w, as trades there are as small as
        contracts allow.
    cost_per_day, variance
        Expected trading cost [currency a day], and mean of G² [currency²].
    drift
        ν [currency per √day].
    """

    half_width: float
    to_edge: bool
    trades_per_day: float
    cost_per_day: float
    variance: float
    drift: float

    def check(self, gap: float) -> float:
        """Return what to trade at a gap G = wanted − held [currency]: 0 within the band.

        Raises
        ------
        InvalidInput
            For a gap that is not finite.
        """
        size = number(gap, "gap")
        if abs(size) <= self.half_width:
            return 0.0
        return size - math.copysign(self.half_width, size) if self.to_edge else size

    def to_frame(self) -> pd.DataFrame:
        """Return one row."""
        names = ("half_width", "to_edge", "trades_per_day", "cost_per_day", "variance", "drift")
        return pd.DataFrame([{name: getattr(self, name) for name in names}])

    def summary(self) -> str:
        """Return one line."""
        where = "edge" if self.to_edge else "middle"
        return (
            f"size again when the gap exceeds {self.half_width:,.0f} [currency], back to the {where}: about "
            f"{self.trades_per_day:.3g} times a day, {self.cost_per_day:,.2f} a day, gap ±"
            f"{math.sqrt(self.variance):,.0f} on average"
        )


def gap_drift(
    spot: SpotBook,
    betas: Any,
    held: float,
    index_vol: float,
    residual_vol: Any = 0.0,
    ratio: float = 1.0,
    beta_drift: Any = 0.0,
) -> float:
    """Return ν, by how much the gap of a standing hedge moves in a day without trades [currency per √day].

    Values and the hedge's notional move with the market: with r_i = β_i x + ε_i,
    dG = (H Σβ_i²V_i − N)x + H Σβ_iV_iε_i + H ΣV_i dβ_i, with N the notional held against the exposure (long spot:
    N = HΣβV for a full hedge). A book of beta one that is fully hedged does not drift with the market.

    Parameters
    ----------
    spot, betas
        Lines, and line → beta.
    held
        N, the exposure that is hedged [currency], of the sign of the spot's.
    index_vol
        Daily standard deviation of the factor, >= 0.
    residual_vol, beta_drift
        Daily standard deviation of what the factor does not explain, and of the change of beta, by line or one number.
    ratio
        H.

    Raises
    ------
    InvalidInput
        For values that are not finite or negative.
    """
    value = spot.worth.to_numpy(float)
    beta = numbers(betas, "betas", spot.names).to_numpy(float)
    rest, moves = (_per_line(v, f, spot) for v, f in ((residual_vol, "residual_vol"), (beta_drift, "beta_drift")))
    share, sigma = number(ratio, "ratio", 0.0), number(index_vol, "index_vol", 0.0)
    common = (share * float(beta**2 @ value) - number(held, "held")) * sigma
    own = share**2 * (float((beta * value * rest) @ (beta * value * rest)) + float((value * moves) @ (value * moves)))
    return math.sqrt(common**2 + own)


def _per_line(given: Any, field: str, spot: SpotBook) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(given, int | float):
        out = np.full(len(spot.names), number(given, field, 0.0))
    else:
        out = numbers(given, field, spot.names).to_numpy(dtype=np.float64)
    if (out < 0.0).any():
        raise InvalidInput("is negative", field=field, value=float(out.min()), remedy="use its size")
    return out


def resize_band(
    drift: float, cost: float, risk_aversion: float, factor_variance: float, *, fixed: float = 0.0, step: float = 0.0
) -> ResizeBand:
    """Return the band of least cost (formulas in the module's text).

    Parameters
    ----------
    drift
        ν, as from :func:`gap_drift` [currency per √day], >= 0.
    cost
        c, half-spread and fee [fraction of what is traded], >= 0.
    risk_aversion
        λ > 0 [1/currency].
    factor_variance
        σ², daily variance of the factor, > 0.
    fixed
        φ, cost of a trade whatever its size [currency].
    step
        Smallest trade [currency], a contract's notional; no band is narrower than half of it.

    Raises
    ------
    InvalidInput
        For values out of range.
    """
    nu2 = number(drift, "drift", 0.0) ** 2
    c, phi = number(cost, "cost", 0.0), number(fixed, "fixed", 0.0)
    kappa = number(risk_aversion, "risk_aversion", 0.0, above=True)
    kappa *= number(factor_variance, "factor_variance", 0.0, above=True)
    least = 0.5 * number(step, "step", 0.0)
    edge = phi == 0.0
    if edge:
        w = (0.75 * c * nu2 / kappa) ** (1.0 / 3.0)
    else:
        roots = np.roots([kappa / 3.0, 0.0, 0.0, -c * nu2, -2.0 * phi * nu2])
        w = float(max(root.real for root in roots if abs(root.imag) <= 1e-9 * max(1.0, abs(root))))
    w = max(w, least)
    if w == 0.0:
        return ResizeBand(0.0, edge, math.inf if nu2 > 0.0 else 0.0, 0.0, 0.0, math.sqrt(nu2))
    if edge:
        traded = 0.5 * nu2 / w
        return ResizeBand(w, True, traded / w, c * traded, w * w / 3.0, math.sqrt(nu2))
    often = nu2 / (w * w)
    return ResizeBand(w, False, often, (phi + c * w) * often, w * w / 6.0, math.sqrt(nu2))
