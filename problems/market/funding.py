"""Funding of perpetual contracts: rates at their settlements, and what a position pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_utc, utc_index
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import InvalidInput

__all__ = ["YEAR_S", "FundingRates", "basis"]

YEAR_S = 365.25 * 86_400.0  # the year of annualised carry [s]


@dataclass(frozen=True, eq=False, repr=False)
class FundingRates(Shown):
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

    def paid(self, position: pd.Series[Any] | float) -> pd.Series[Any]:
        """Return what a position pays at each settlement, ``rate · Q`` [currency]; negative amounts are earned.

        Parameters
        ----------
        position
            Time (tz-aware, strictly increasing) → signed notional held from then on [currency], 0 before the first; or
            one number that is held throughout.

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
        settlements = pd.DatetimeIndex(self.rates.index)
        if not isinstance(position, pd.Series):
            if isinstance(position, bool) or not isinstance(position, int | float | np.integer):
                raise InvalidInput(
                    "neither a Series nor a number",
                    field="position",
                    value=type(position).__name__,
                    remedy="pass time → signed notional, or one number that is held throughout",
                )
            position = pd.Series(float(position), index=settlements[:1] - pd.Timedelta(seconds=1))
        times = utc_index(position.index, "position")
        held = position.to_numpy(dtype=np.float64, copy=True)
        if not np.isfinite(held).all():
            raise InvalidInput(
                "is not finite", field="position", value=None, remedy="fill with 0 where nothing is held"
            )
        at = np.searchsorted(times.asi8, settlements.asi8, side="left") - 1
        notional = np.where(at >= 0, held[np.maximum(at, 0)], 0.0) if len(held) else np.zeros(len(settlements))
        return pd.Series(self.rates.to_numpy() * notional, index=settlements, name="paid")

    @property
    def interval_s(self) -> float:
        """The most frequent time between two settlements [s]; NaN for fewer than two."""
        steps = np.diff(pd.DatetimeIndex(self.rates.index).asi8)
        if not len(steps):
            return float("nan")
        values, counts = np.unique(steps, return_counts=True)
        return float(values[int(np.argmax(counts))]) / 1e9

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> FundingRates:
        """Return the settlements in (start, end]: those that a position held from ``start`` to ``end`` meets.

        Raises
        ------
        InvalidInput
            On a naive bound.
        """
        index = pd.DatetimeIndex(self.rates.index)
        keep = np.asarray((index > as_utc(start, "start")) & (index <= as_utc(end, "end")))
        return FundingRates(self.name, self.rates[keep])

    def annualised(self) -> float:
        """Return the carry a short of constant notional earns in a year, Σ_k r_k · year / Σ_k min(t_k − t_{k−1}, Δ).

        r_k are the rates [fraction of the notional], t_k their settlements, Δ is :attr:`interval_s`, which the first
        settlement counts for too, and the year has 365.25 days. So settlements that are absent count neither as rate
        nor as time, and an interval that was shortened for a while counts as it was. Interest on it is left out.

        Raises
        ------
        InvalidInput
            For fewer than two settlements.
        """
        if len(self.rates) < 2:
            raise InvalidInput(
                "two settlements are needed to know the time between them",
                field="rates",
                value=len(self.rates),
                remedy="widen the span",
            )
        usual = self.interval_s
        steps = np.minimum(np.diff(pd.DatetimeIndex(self.rates.index).asi8) / 1e9, usual)
        return float(self.rates.sum()) * YEAR_S / (usual + float(steps.sum()))

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


def basis(perpetual: Bars, spot: Bars) -> pd.Series[Any]:
    """Return the premium (perp − spot)/spot of closes, on the bars that both have.

    Parameters
    ----------
    perpetual, spot
        Bars of one length; either stamp. Quote bars count with the mid of their closes.

    Returns
    -------
    Series
        END of the bar (UTC), when both closes are known → premium [fraction of the spot price]; positive where the
        perpetual is dearer, which a positive funding rate pulls back.

    Raises
    ------
    InvalidInput
        On what are not bars, bars of different length, or that share no time.
    """
    for field, given in (("perpetual", perpetual), ("spot", spot)):
        if not isinstance(given, Bars):
            raise InvalidInput(
                "not Bars", field=field, value=type(given).__name__, remedy="pass market.bars['SOL.perp'] or the like"
            )
    if perpetual.bar_s != spot.bar_s:
        raise InvalidInput(
            "the bars differ in length",
            field="bar_s",
            value=(perpetual.bar_s, spot.bar_s),
            remedy="read both at one resolution",
        )
    both = pd.concat({"perp": _closes(perpetual), "spot": _closes(spot)}, axis=1, join="inner")
    if not len(both):
        raise InvalidInput("the bars share no time", field="spot", value=0, remedy="read days that both have")
    return (both["perp"] / both["spot"] - 1.0).rename("basis")


def _closes(bars: Bars) -> pd.Series[Any]:
    frame = bars.stamped("end").frame
    return frame["close"] if "close" in frame else 0.5 * (frame["bid_close"] + frame["ask_close"])
