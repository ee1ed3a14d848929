"""Funding of perpetual contracts: rates at their settlements, and what a position pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import utc_index
from crosswind.solvers.errors import InvalidInput

__all__ = ["FundingRates"]


@dataclass(frozen=True, eq=False)
class FundingRates:
    """Funding rates of one perpetual, one row per settlement.

    A rate above zero means that longs pay shorts: a position of notional ``Q`` (long positive) held at the settlement
    pays ``rate · Q``, so a short earns it.

    Parameters
    ----------
    name
        The perpetual.
    rates
        Settlement time (tz-aware, strictly increasing) → rate [fraction of the position's notional].

    Raises
    ------
    InvalidInput
        On naive, unsorted or repeated times, and rates that are not finite.
    """

    name: str
    rates: pd.Series[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput("no name", field="name", value=self.name, remedy="name it, e.g. 'BTCUSDT'")
        if not isinstance(self.rates, pd.Series):
            raise InvalidInput("not a Series", field="rates", value=type(self.rates).__name__, remedy="time → rate")
        values = self.rates.to_numpy(dtype=np.float64, copy=True)
        if not np.isfinite(values).all():
            raise InvalidInput(
                "a rate is not finite",
                field="rates",
                value=int((~np.isfinite(values)).sum()),
                remedy="drop hours without a settlement",
            )
        index = utc_index(self.rates.index, "rates")
        object.__setattr__(self, "rates", pd.Series(values, index=index, name=self.name))

    def paid(self, position: pd.Series[Any]) -> pd.Series[Any]:
        """Return what a position pays at each settlement, ``rate · Q`` [currency]; negative amounts are earned.

        Parameters
        ----------
        position
            Time (tz-aware, strictly increasing) → signed notional held from then on [currency]; 0 before the first.

        Returns
        -------
        Series
            Settlement time → payment [currency]. A change at the very settlement does not count for it: what is held is
            what was held just before.

        Raises
        ------
        InvalidInput
            On a bad index or a notional that is not finite.
        """
        times = utc_index(position.index, "position")
        held = position.to_numpy(dtype=np.float64, copy=True)
        if not np.isfinite(held).all():
            raise InvalidInput(
                "is not finite", field="position", value=None, remedy="fill with 0 where nothing is held"
            )
        settlements = pd.DatetimeIndex(self.rates.index)
        at = np.searchsorted(times.asi8, settlements.asi8, side="left") - 1
        notional = np.where(at >= 0, held[np.maximum(at, 0)], 0.0) if len(held) else np.zeros(len(settlements))
        return pd.Series(self.rates.to_numpy() * notional, index=settlements, name="paid")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per settlement with its ``rate``."""
        return self.rates.to_frame("rate")

    def summary(self) -> str:
        """Return one line: settlements, span, mean rate, range."""
        r = self.rates
        if not len(r):
            return f"{self.name}: no settlement"
        mean, low, high = (1e4 * float(v) for v in (r.mean(), r.min(), r.max()))
        first, last = r.index[0], r.index[-1]
        return (
            f"{self.name}: {len(r)} funding settlements, {first:%Y-%m-%d %H:%M} .. {last:%Y-%m-%d %H:%M} UTC, "
            f"mean {mean:.2f} bp, range {low:.2f} .. {high:.2f} bp"
        )
