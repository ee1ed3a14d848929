r"""Margin of a hedge, and how far its liquidation is.

A position of Q units (long positive) that was entered at p₀ with collateral C is liquidated where its equity falls to
the maintenance margin, a share μ of the notional:

.. math::

    C + Q(p - p_0) = \mu|Q|p \quad\Rightarrow\quad
    p^*_{short} = \frac{C/|Q| + p_0}{1 + \mu}, \qquad p^*_{long} = \frac{p_0 - C/Q}{1 - \mu}

An inverse contract (face value V, collateral in coins) has equity C + NV(1/p₀ − 1/p) and needs μ|N|V/p, so a short has
p* = (1 − μ)|N|V / (|N|V/p₀ − C), and none where C covers |N|V/p₀: a coin and a short of its value cannot be liquidated.
The spot's gain does not help a linear short unless it is posted as collateral.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.hedge.sizing.model import HedgeInstrument, numbers
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.hedge.sizing.result import HedgeSize

__all__ = ["MarginReport", "liquidation_price", "margin_of"]


@dataclass(frozen=True, eq=False, repr=False)
class MarginReport(Shown):
    """Margins by instrument.

    Parameters
    ----------
    table
        Instrument → ``collateral``, ``initial``, ``maintenance``, ``free`` = collateral − initial [settlement
        currency: coins for an inverse contract]; ``liquidation`` [points], NaN where there is none; ``distance``, the
        relative move of the price to it, ±inf where there is none; ``sigmas``, that in daily standard deviations, NaN
        where the risk is unknown.
    """

    table: pd.DataFrame

    @property
    def short_of_margin(self) -> tuple[str, ...]:
        """Instruments whose collateral does not cover the initial margin."""
        return tuple(str(name) for name in self.table.index[self.table["free"] < 0.0])

    @property
    def nearest(self) -> float:
        """The smallest distance to a liquidation [fraction]; inf where there is none."""
        return float(self.table["distance"].abs().min()) if len(self.table) else math.inf

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def summary(self) -> str:
        """Return one line per instrument, and a warning where collateral is missing."""
        lines = []
        for name, row in self.table.iterrows():
            gone = "no liquidation" if math.isnan(row["liquidation"]) else f"liquidated at {row['liquidation']:,.8g}"
            far = "" if math.isinf(row["distance"]) else f" ({row['distance']:+.1%})"
            lines.append(
                f"{name}: collateral {row['collateral']:,.6g}, initial {row['initial']:,.6g}, maintenance "
                f"{row['maintenance']:,.6g}, {gone}{far}"
            )
        if self.short_of_margin:
            lines.append(f"collateral does not cover the initial margin of {', '.join(self.short_of_margin)}")
        return "\n".join(lines) if lines else "no position"


def liquidation_price(tool: HedgeInstrument, contracts: float, collateral: float) -> float:
    """Return the price at which a position is liquidated [points]; NaN where none is.

    Parameters
    ----------
    tool
        Instrument with its ``maintenance``, entered at its ``price``.
    contracts
        Signed position.
    collateral
        Posted for it [settlement currency: coins for an inverse contract], >= 0.

    Raises
    ------
    InvalidInput
        For numbers that are not finite or a negative collateral.
    DataGap
        Where the instrument has no maintenance margin.
    """
    if tool.maintenance is None:
        raise DataGap("is unknown", field=f"maintenance of {tool.name}", remedy="give it as a share of the notional")
    if not (math.isfinite(contracts) and math.isfinite(collateral)) or collateral < 0.0:
        raise InvalidInput(
            "must be finite and not negative", field="collateral", value=collateral, remedy="post zero or more"
        )
    mu, p0, size = tool.maintenance, tool.price, abs(contracts)
    if size == 0.0:
        return math.nan
    if tool.spec.inverse:
        face = size * tool.spec.multiplier
        if contracts > 0.0:
            return (1.0 + mu) * face / (collateral + face / p0)
        uncovered = face / p0 - collateral
        return (1.0 - mu) * face / uncovered if uncovered > 0.0 and mu < 1.0 else math.nan
    units = size * tool.spec.multiplier
    if contracts < 0.0:
        return (collateral / units + p0) / (1.0 + mu)
    price = (p0 - collateral / units) / (1.0 - mu) if mu < 1.0 else math.nan
    return price if price > 0.0 else math.nan


def margin_of(size: HedgeSize, collateral: Mapping[str, float]) -> MarginReport:
    """Return margins and liquidation distances of a hedge.

    Parameters
    ----------
    size
        The hedge; every instrument that is held needs ``initial`` and ``maintenance``.
    collateral
        Instrument → what is posted for it [settlement currency: coins for an inverse contract]; each is isolated.

    Raises
    ------
    InvalidInput
        For collateral that is negative, not finite, or of an unknown instrument.
    DataGap
        For a position without margin terms or without collateral.
    """
    given = numbers(collateral, "collateral")
    unknown = [name for name in given.index if name not in size.contracts.index]
    if unknown:
        raise InvalidInput("not among the instruments", field="collateral", value=unknown, remedy="check the names")
    rows = {}
    for tool in size.instruments:
        n = size[tool.name]
        if n == 0.0:
            continue
        if tool.name not in given.index:
            raise DataGap("none is given", field=f"collateral of {tool.name}", remedy="say what is posted")
        if tool.initial is None:
            raise DataGap("is unknown", field=f"initial of {tool.name}", remedy="give it as a share of the notional")
        posted, price = float(given[tool.name]), liquidation_price(tool, n, float(given[tool.name]))
        worth = abs(float(tool.spec.value(n, tool.price)))
        initial = tool.initial * worth
        none = math.isnan(price)
        distance = math.copysign(math.inf, -n) if none else price / tool.price - 1.0
        sigma = _daily_vol(size, tool)
        rows[tool.name] = {
            "collateral": posted,
            "initial": initial,
            "maintenance": (tool.maintenance or 0.0) * worth,
            "free": posted - initial,
            "liquidation": price,
            "distance": distance,
            "sigmas": abs(distance) / sigma if sigma > 0.0 else math.nan,
        }
    columns = ["collateral", "initial", "maintenance", "free", "liquidation", "distance", "sigmas"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)
    return MarginReport(table.rename_axis("instrument"))


def _daily_vol(size: HedgeSize, tool: HedgeInstrument) -> float:
    if size.covariance is None:
        return math.nan
    load = np.array([tool.loadings.get(factor, 0.0) for factor in size.factors])
    return math.sqrt(float(load @ size.covariance.to_numpy() @ load) + tool.basis_vol**2)
