"""Quotes of one exchange-listed calendar spread: the book in which a roll trades both legs at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_utc, check_positive, utc_index
from crosswind.problems.market.shown import Shown
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["SPREAD_FIELDS", "SpreadQuotes"]

SPREAD_FIELDS = ("bid", "ask", "bid_size", "ask_size", "volume", "aggressive_buy", "aggressive_sell")
_QUOTED = ("bid", "ask", "bid_size", "ask_size")
_ROUNDING = 1e-9  # relative slack of buy + sell ≤ volume: both are sums of the same trades in another order


@dataclass(frozen=True, eq=False, repr=False)
class SpreadQuotes(Shown):
    """Best quotes and trades of one listed calendar spread, price = far − near [points].

    Buying one spread buys one contract of the far expiry and sells one of the near: whoever is long the near and
    rolls, buys the spread. The price may have either sign.

    Parameters
    ----------
    root
        Root symbol of the future, e.g. 'ES'.
    near, far
        Expiries 'YYYYMM' of the legs, near before far.
    bid, ask
        Best prices at the bar's END [points], time (tz-aware) → price; NaN where the spread is not quoted, in both at
        once.
    bid_size, ask_size
        Sizes at the best prices [spreads]; NaN exactly where the prices are.
    volume
        Spreads traded in the bar, ≥ 0.
    aggressive_buy, aggressive_sell
        Spreads bought and sold by aggressors in the bar, ≥ 0; together at most ``volume``.
    bar_s
        Length of a bar [s].
    multiplier
        Currency per point and spread.
    tick
        Smallest price step of the spread [points].

    Raises
    ------
    InvalidInput
        On crossed quotes, half a quote, negative sizes or volumes, more aggressive volume than volume, series on
        different times, an expiry that is not 'YYYYMM' or out of order.
    """

    root: str
    near: str
    far: str
    bid: pd.Series[Any]
    ask: pd.Series[Any]
    bid_size: pd.Series[Any]
    ask_size: pd.Series[Any]
    volume: pd.Series[Any]
    aggressive_buy: pd.Series[Any]
    aggressive_sell: pd.Series[Any]
    bar_s: float
    multiplier: float
    tick: float

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if not isinstance(self.root, str) or not self.root:
            raise InvalidInput("no root symbol", field="root", value=self.root, remedy="name it, e.g. 'ES'")
        for side in ("near", "far"):
            _check_expiry(getattr(self, side), side)
        if self.near >= self.far:
            raise InvalidInput("is not after near", field="far", value=(self.near, self.far), remedy="swap the legs")
        for field in ("bar_s", "multiplier", "tick"):
            set_(self, field, check_positive(getattr(self, field), field))
        series = {field: _series(getattr(self, field), field, field in _QUOTED) for field in SPREAD_FIELDS}
        for field, values in series.items():
            if not values.index.equals(series["bid"].index):
                raise InvalidInput(
                    "its times differ from those of bid",
                    field=field,
                    value=f"{len(values)} rows against {len(series['bid'])}",
                    remedy="put all series on one index",
                )
        _check_quotes(series)
        for field, values in series.items():
            set_(self, field, values)

    @property
    def index(self) -> pd.DatetimeIndex:
        """Bar ends (T,), UTC."""
        index = self.bid.index
        assert isinstance(index, pd.DatetimeIndex)
        return index

    @property
    def mid(self) -> pd.Series[Any]:
        """½ (bid + ask) [points]; NaN where not quoted."""
        return (0.5 * (self.bid + self.ask)).rename("mid")

    @property
    def spread(self) -> pd.Series[Any]:
        """Ask − bid [points]; NaN where not quoted."""
        return (self.ask - self.bid).rename("spread")

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> SpreadQuotes:
        """Return the bars whose END lies in (start, end].

        Raises
        ------
        InvalidInput
            On a naive bound.
        DataGap
            If no bar is left.
        """
        keep = np.asarray((self.index > as_utc(start, "start")) & (self.index <= as_utc(end, "end")))
        if not keep.any():
            raise DataGap(
                f"the spread {self.root} {self.near}-{self.far} has no bars between",
                field="between",
                value=(str(start), str(end)),
                remedy=f"choose within {self.index[0]} .. {self.index[-1]}" if len(self.index) else "read more days",
            )
        return replace(self, **{field: getattr(self, field)[keep] for field in SPREAD_FIELDS})

    def equals(self, other: object) -> bool:
        """Return whether all series and all metadata are identical, bit for bit."""
        if not isinstance(other, SpreadQuotes):
            return False
        mine = (self.root, self.near, self.far, self.bar_s, self.multiplier, self.tick)
        if mine != (other.root, other.near, other.far, other.bar_s, other.multiplier, other.tick):
            return False
        return all(getattr(self, field).equals(getattr(other, field)) for field in SPREAD_FIELDS)

    def to_frame(self) -> pd.DataFrame:
        """Return all series side by side: times × (bid, ask, bid_size, ask_size, volume, aggressive_buy, …_sell)."""
        return pd.DataFrame({field: getattr(self, field) for field in SPREAD_FIELDS})

    def summary(self) -> str:
        """Return two lines: bars and span; volume, median spread in ticks and median sizes."""
        span = f", {self.index[0]:%Y-%m-%d %H:%M} .. {self.index[-1]:%Y-%m-%d %H:%M} UTC" if len(self.index) else ""
        head = f"{self.root} {self.near}-{self.far}: {len(self.index):,} bars of {self.bar_s:g} s{span}"
        if not len(self.index):
            return head
        bought = self.aggressive_buy.sum()
        sizes = 0.5 * (self.bid_size + self.ask_size).median()
        return (
            f"{head}\n  {self.volume.sum():,.0f} spreads ({bought:,.0f} bought by aggressors), "
            f"quoted {self.spread.median() / self.tick:.1f} ticks wide, {sizes:,.0f} a side"
        )


def _check_expiry(value: object, field: str) -> None:
    if not (isinstance(value, str) and len(value) == 6 and value.isdigit() and 1 <= int(value[4:]) <= 12):
        raise InvalidInput("an expiry is not 'YYYYMM'", field=field, value=value, remedy="e.g. '201312'")


def _series(values: Any, field: str, allow_nan: bool) -> pd.Series[Any]:
    if not isinstance(values, pd.Series):
        raise InvalidInput("not a Series", field=field, value=type(values).__name__, remedy="time → value")
    index = utc_index(values.index, f"{field} index")
    try:
        numbers = values.to_numpy(dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "holds values that are not numbers", field=field, value=error, remedy="convert with pd.to_numeric first"
        ) from error
    bad = np.isinf(numbers) if allow_nan else ~np.isfinite(numbers)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInput(
            f"a value is not finite: {int(bad.sum())} of {bad.size}, first at {index[at]}",
            field=field,
            value=float(numbers[at]),
            remedy="repair or drop those rows",
        )
    if field not in ("bid", "ask") and (numbers < 0.0).any():
        raise InvalidInput("is negative", field=field, value=float(np.nanmin(numbers)), remedy="check the column")
    return pd.Series(numbers, index=index, name=field)


def _check_quotes(series: dict[str, pd.Series[Any]]) -> None:
    values = {field: s.to_numpy() for field, s in series.items()}
    index = series["bid"].index
    for field in ("ask", "bid_size", "ask_size"):
        half = np.isnan(values["bid"]) != np.isnan(values[field])
        if half.any():
            raise InvalidInput(
                f"given where bid is not, or the other way round, in {int(half.sum())} places",
                field=field,
                value=str(index[int(np.argmax(half))]),
                remedy="quote both sides with sizes, or leave all NaN",
            )
    crossed = values["bid"] > values["ask"]
    if crossed.any():
        at = int(np.argmax(crossed))
        raise InvalidInput(
            f"bid above ask in {int(crossed.sum())} places, first at {index[at]}",
            field="bid",
            value=(float(values["bid"][at]), float(values["ask"][at])),
            remedy="drop crossed quotes before",
        )
    signed = values["aggressive_buy"] + values["aggressive_sell"]
    over = signed > values["volume"] * (1 + _ROUNDING) + _ROUNDING
    if over.any():
        at = int(np.argmax(over))
        raise InvalidInput(
            f"aggressive volume exceeds volume in {int(over.sum())} bars, first at {index[at]}",
            field="volume",
            value=(float(signed[at]), float(values["volume"][at])),
            remedy="count each trade once, in the same bars",
        )
