"""Typed inputs of a replay: the recorded market, orders and fills."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crosswind.solvers.errors import CrosswindError, DataGap, InvalidInput

__all__ = ["Fill", "FloatArray", "LookAheadError", "Order", "ReplayMarket"]

FloatArray = NDArray[np.float64]


class LookAheadError(CrosswindError):
    """A policy asked for data that does not exist yet at its decision time."""


@dataclass(frozen=True, slots=True)
class Order:
    """A marketable order.

    Parameters
    ----------
    instrument
        Name in the market's instruments.
    units
        Signed quantity, buy positive [shares or contracts]; finite and not zero.
    tag
        Free text kept in the orders frame, for example the rung of a controller.

    Raises
    ------
    InvalidInput
        When ``units`` is zero, NaN or infinite.
    """

    instrument: str
    units: float
    tag: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.units) or self.units == 0.0:
            raise InvalidInput(
                "an order needs a finite quantity other than zero",
                field=f"units of {self.instrument}",
                value=self.units,
                remedy="send no order instead of an empty one",
            )


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution, with what is needed to say where its price came from.

    ``price = mid·(1 + Σ_j displacement_by[j]) + sign(units)·half_spread``; all per unit of the instrument.

    Parameters
    ----------
    sequence, order_id
        Position among the fills, and the order that was filled [counts].
    policy, tag
        Who sent the order, and its tag.
    instrument
        Name.
    units
        Signed quantity filled, buy positive [shares or contracts].
    time_ns
        Time of the fill [ns since 1970-01-01 UTC].
    slice
        Slice that contains the time; T for the close.
    price, mid, half_spread
        Paid price, undisplaced mid and half-spread paid [currency per unit of quotation].
    displacement_by
        Relative displacement of the mid caused by the account's own trading in each instrument, (n,) [return].
    fee
        Charge [currency], at least 0.
    multiplier
        Currency per unit of price and quantity.
    forced
        True when the order was filled by the close at the end of the horizon.
    """

    sequence: int
    order_id: int
    policy: str
    instrument: str
    units: float
    time_ns: int
    slice: int
    price: float
    mid: float
    half_spread: float
    displacement_by: tuple[float, ...]
    fee: float
    multiplier: float
    forced: bool
    tag: str = ""


def _frozen(values: ArrayLike, shape: tuple[int, ...], field: str) -> FloatArray:
    """Return a read-only float64 copy of ``values`` in ``shape``."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise InvalidInput(
            f"the shape must be {shape}", field=field, value=array.shape, remedy="give one column per instrument"
        )
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class ReplayMarket:
    """The market as it was recorded, that is without the account's own trades.

    Slice ``k`` is the half-open time ``[times[k], times[k+1])``.

    Parameters
    ----------
    times
        Slice bounds, (T+1,), tz-aware, strictly increasing; kept in UTC with unit ns.
    instruments
        Distinct names, (n,).
    mid
        Undisplaced mid at each bound, (T+1, n) [currency per unit of quotation], > 0.
    half_spread
        Half of the quoted spread prevailing from each bound, (T+1, n), same unit, >= 0.
    volume
        Units traded in each slice, (T, n) [shares or contracts], >= 0; inf where there is no limit.
    multiplier
        Currency per unit of price and quantity, (n,), > 0: 1 for shares, 50 for the S&P 500 e-mini.

    Raises
    ------
    InvalidInput
        For naive, unsorted or duplicate times, doubled names, mixed shapes, NaN, a price that is not positive, a
        negative spread or volume.
    """

    times: pd.DatetimeIndex
    instruments: tuple[str, ...]
    mid: FloatArray
    half_spread: FloatArray
    volume: FloatArray
    multiplier: FloatArray

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "times", _utc(self.times))
        put(self, "instruments", tuple(str(name) for name in self.instruments))
        n, slices = len(self.instruments), len(self.times) - 1
        if n == 0 or len(set(self.instruments)) != n:
            raise InvalidInput(
                "names must be distinct and at least one", field="instruments", value=self.instruments, remedy="rename"
            )
        put(self, "mid", _frozen(self.mid, (slices + 1, n), "mid"))
        put(self, "half_spread", _frozen(self.half_spread, (slices + 1, n), "half_spread"))
        put(self, "volume", _frozen(self.volume, (slices, n), "volume"))
        put(self, "multiplier", _frozen(self.multiplier, (n,), "multiplier"))
        for field, low, strict, finite in (
            ("mid", 0.0, True, True),
            ("half_spread", 0.0, False, True),
            ("volume", 0.0, False, False),
            ("multiplier", 0.0, True, True),
        ):
            array: FloatArray = getattr(self, field)
            bad = np.isnan(array) | ((array <= low) if strict else (array < low))
            if finite:
                bad |= np.isinf(array)
            if bad.any():
                where = tuple(int(i) for i in np.argwhere(bad)[0])
                raise InvalidInput(
                    f"values must be {'positive' if strict else 'zero or more'}{' and finite' if finite else ''}",
                    field=f"{field} at {where} ({self.instruments[where[-1]]})",
                    value=float(array[where]),
                    remedy="drop or repair the row before the replay",
                )

    @classmethod
    def from_frames(
        cls,
        mid: pd.DataFrame,
        half_spread: pd.DataFrame | pd.Series | float = 0.0,
        volume: pd.DataFrame | None = None,
        multiplier: Mapping[str, float] | pd.Series | None = None,
    ) -> ReplayMarket:
        """Build a market from labelled tables.

        Parameters
        ----------
        mid
            Index: slice bounds, tz-aware; columns: instruments [currency].
        half_spread
            A table like ``mid``, a Series by instrument or one number for all [currency].
        volume
            Index: the first T slice starts; same columns [units]. None: no limit.
        multiplier
            By instrument; 1 where it is not named.

        Returns
        -------
        ReplayMarket

        Raises
        ------
        InvalidInput
            As in the class, and for tables whose labels do not agree.
        """
        if not isinstance(mid.index, pd.DatetimeIndex):
            raise InvalidInput(
                "the index must hold times", field="mid", value=type(mid.index).__name__, remedy="use a DatetimeIndex"
            )
        names = tuple(str(name) for name in mid.columns)
        if isinstance(half_spread, pd.DataFrame):
            spread = _aligned(half_spread, mid.index, mid.columns, "half_spread").to_numpy(float)
        elif isinstance(half_spread, pd.Series):
            missing = [name for name in mid.columns if name not in half_spread.index]
            if missing:
                raise DataGap("no half-spread for a name", field="half_spread", value=missing, remedy="add it")
            spread = np.tile(half_spread.reindex(mid.columns).to_numpy(float), (len(mid), 1))
        else:
            spread = np.full(mid.shape, float(half_spread))
        if volume is None:
            units = np.full((len(mid) - 1, len(names)), np.inf)
        else:
            units = _aligned(volume, mid.index[:-1], mid.columns, "volume").to_numpy(float)
        given = {} if multiplier is None else {str(key): float(value) for key, value in multiplier.items()}
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InvalidInput("unknown name", field="multiplier", value=unknown, remedy=f"use names of {names}")
        return cls(mid.index, names, mid.to_numpy(float), spread, units, np.array([given.get(k, 1.0) for k in names]))

    @property
    def slices(self) -> int:
        """Number of slices T."""
        return len(self.times) - 1

    @property
    def times_ns(self) -> NDArray[np.int64]:
        """Slice bounds, (T+1,) [ns since 1970-01-01 UTC]."""
        return np.asarray(self.times.asi8, dtype=np.int64)

    @property
    def dt_s(self) -> FloatArray:
        """Length of each slice, (T,) [s]."""
        lengths: FloatArray = np.diff(self.times_ns).astype(np.float64) / 1e9
        return lengths

    def position_of(self, instrument: str) -> int:
        """Return the column of ``instrument``.

        Raises
        ------
        InvalidInput
            When the name is unknown.
        """
        try:
            return self.instruments.index(instrument)
        except ValueError:
            raise InvalidInput(
                "unknown instrument", field="instrument", value=instrument, remedy=f"use one of {self.instruments}"
            ) from None

    def slice_of(self, time_ns: int) -> int:
        """Return k with ``times[k] <= time < times[k+1]``; T at or after the last bound."""
        return int(np.searchsorted(self.times_ns, time_ns, side="right")) - 1

    def mid_at(self, time_ns: int) -> FloatArray:
        """Return the undisplaced mids at a time inside the horizon, (n,) [currency].

        Between two bounds the mid is interpolated linearly in time; at a bound only that bound is read, so no value
        after ``time_ns`` other than the end of its own slice is ever touched.
        """
        k = self.slice_of(time_ns)
        start = int(self.times_ns[k])
        if k >= self.slices or time_ns == start:
            bound: FloatArray = self.mid[k]
            return bound
        weight = (time_ns - start) / (int(self.times_ns[k + 1]) - start)
        here: FloatArray = self.mid[k] + (self.mid[k + 1] - self.mid[k]) * weight
        return here

    def with_(
        self,
        *,
        mid: FloatArray | None = None,
        half_spread: FloatArray | None = None,
        volume: FloatArray | None = None,
    ) -> ReplayMarket:
        """Return a validated copy with some of its arrays replaced."""
        return replace(
            self,
            mid=self.mid if mid is None else mid,
            half_spread=self.half_spread if half_spread is None else half_spread,
            volume=self.volume if volume is None else volume,
        )

    def truncated(self, slices: int) -> ReplayMarket:
        """Return the first ``slices`` slices alone.

        Raises
        ------
        InvalidInput
            When ``slices`` is not within 1..T.
        """
        if not 1 <= slices <= self.slices:
            raise InvalidInput("out of range", field="slices", value=slices, remedy=f"use 1..{self.slices}")
        return self.part(0, slices)

    def part(self, start: int, slices: int) -> ReplayMarket:
        """Return ``slices`` slices from ``start`` on alone.

        Raises
        ------
        InvalidInput
            When they are not within 0..T, or none.
        """
        to = start + slices
        if not 0 <= start < to <= self.slices:
            value, remedy = (start, slices), f"stay within the {self.slices} slices"
            raise InvalidInput("out of range", field="start, slices", value=value, remedy=remedy)
        return ReplayMarket(
            self.times[start : to + 1],
            self.instruments,
            self.mid[start : to + 1],
            self.half_spread[start : to + 1],
            self.volume[start:to],
            self.multiplier,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the mids, index: slice bounds, columns: instruments [currency]."""
        return pd.DataFrame(self.mid, index=self.times, columns=list(self.instruments))


def _utc(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(times)
    if index.tz is None:
        raise InvalidInput(
            "times must carry a time zone",
            field="times",
            value=index[:1].tolist(),
            remedy="localise them, for example index.tz_localize('America/New_York')",
        )
    index = index.tz_convert("UTC").as_unit("ns")
    index.name = "time"
    if len(index) < 2 or index.hasnans or not (np.diff(index.asi8) > 0).all():
        raise InvalidInput(
            "at least two strictly increasing times are needed",
            field="times",
            value=f"{len(index)} times",
            remedy="sort them and drop duplicates",
        )
    return index


def _aligned(table: pd.DataFrame, index: pd.Index, columns: pd.Index, field: str) -> pd.DataFrame:
    if not table.index.equals(index) or set(table.columns) != set(columns):
        raise InvalidInput(
            "index and columns must agree with mid", field=field, value=table.shape, remedy="reindex it explicitly"
        )
    return table[list(columns)]
