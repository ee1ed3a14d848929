"""A perpetual contract on one spot index: premium, mark price, funding settlements, quotes round the clock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from crosswind.problems.market.checks import utc_index
from crosswind.problems.market.funding import FundingRates
from crosswind.problems.market.futures import Bars
from crosswind.problems.market.simulator.perpetual_parameters import PerpetualParameters
from crosswind.problems.market.simulator.sessions import bucket_count
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.solvers.errors import InvalidInput

__all__ = ["PerpetualMarket", "PerpetualParameters", "draw_perpetual", "draw_spot", "funding_rate", "settle"]

Array = NDArray[np.float64]
_DAY_NS = 86_400_000_000_000
_HOUR_NS = 3_600_000_000_000
_EIGHT_HOURS = 8.0
_LONGEST_S = 400 * 86400.0  # a gap beyond it decays everything anyway


@dataclass(frozen=True, eq=False)
class PerpetualMarket:
    """A simulated perpetual with its spot, its funding and its truth.

    Parameters
    ----------
    name
        The contract.
    frame
        Bar ends (UTC) × ``spot``, ``mid``, ``bid``, ``ask``, ``mark`` [currency], ``bid_size``, ``ask_size``,
        ``volume`` [contracts], ``premium`` (mid over spot less 1), ``demand`` and ``basis`` (its slow and fast part,
        with ``premium = mean + demand + basis`` up to the tick) and ``predicted`` (the rate that a settlement at that
        moment would charge).
    funding
        Rates at the settlements within the bars.
    bar_s
        Length of a bar [s].
    parameters
        What it was drawn with.
    """

    name: str
    frame: pd.DataFrame
    funding: FundingRates
    bar_s: float
    parameters: PerpetualParameters

    @property
    def bars(self) -> Bars:
        """Quotes and volume of the perpetual as bars stamped at their end; a bar opens at the close before."""
        f = self.frame
        columns: dict[str, Any] = {}
        for side in ("bid", "ask"):
            close = f[side]
            opening = close.shift(1).fillna(close)
            columns[f"{side}_open"] = opening
            columns[f"{side}_high"] = np.maximum(opening, close)
            columns[f"{side}_low"] = np.minimum(opening, close)
            columns[f"{side}_close"] = close
            columns[f"{side}_size"] = f[f"{side}_size"]
        return Bars(pd.DataFrame({**columns, "volume": f["volume"]}), self.bar_s, "end")

    def equals(self, other: object) -> bool:
        """Return whether all tables are identical, bit for bit."""
        if not isinstance(other, PerpetualMarket):
            return False
        same = self.name == other.name and self.bar_s == other.bar_s and self.parameters == other.parameters
        return same and self.frame.equals(other.frame) and self.funding.rates.equals(other.funding.rates)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def summary(self) -> str:
        """Return two lines: bars, premium and width; the funding."""
        f = self.frame
        premium = 1e4 * f["premium"]
        ticks = (f["ask"] - f["bid"]).mean() / self.parameters.tick
        return (
            f"{self.name}: {len(f):,} bars of {self.bar_s:g} s, premium {premium.mean():.2f} bp "
            f"(sd {premium.std():.2f}), quoted {ticks:.1f} ticks wide\n  {self.funding.summary()}"
        )


def funding_rate(average_premium: Array, p: PerpetualParameters) -> Array:
    """Return the funding rate of an interval, ``[P + clamp(I − P, ±c)] · hours/8``, capped.

    The formula that Binance, Gate and HashKey publish (average premium index plus the clamped difference of interest
    and premium, 8-hourly terms scaled to the interval): within ``c`` of the interest the rate is the interest itself.

    Parameters
    ----------
    average_premium
        Average premium ``P`` over the interval, any shape [fraction].
    p
        Interest ``I``, clamp ``c`` and cap per 8 hours, and the interval.

    Returns
    -------
    ndarray
        Fraction of the notional that longs pay to shorts, of the same shape.
    """
    premium = np.asarray(average_premium, dtype=np.float64)
    rate = premium + np.clip(p.interest_rate_8h - premium, -p.clamp_8h, p.clamp_8h)
    return np.asarray(np.clip(rate, -p.cap_8h, p.cap_8h) * (p.interval_h / _EIGHT_HOURS))


def draw_spot(
    days: int, parameters: PerpetualParameters, seed: int, start: str | dt.date = "2024-03-04"
) -> pd.Series[Any]:
    """Draw a spot index round the clock, a random walk with the parameters' daily volatility.

    Parameters
    ----------
    days
        UTC days, at least 1.
    parameters
        First price, volatility and length of a bar.
    seed
        Integer of 0 or more.
    start
        First UTC day.

    Returns
    -------
    Series
        Bar end (UTC) → price; the last bar of a day ends at the next midnight.

    Raises
    ------
    InvalidInput
        On a count below 1, a date that cannot be read, a bar that does not divide the day, a bad seed.
    """
    p = parameters
    if isinstance(days, bool) or not isinstance(days, (int, np.integer)) or days < 1:
        raise InvalidInput("is not a number of days", field="days", value=days, remedy="pass an integer of 1 or more")
    try:
        first = pd.Timestamp(start).tz_localize("UTC").normalize().as_unit("ns").value
    except (TypeError, ValueError):
        raise InvalidInput("is not a date", field="start", value=start, remedy="write it as YYYY-MM-DD") from None
    count = bucket_count(_DAY_NS / 1e9, p.bar_s)
    step = round(p.bar_s * 1e9)
    z = [stream(seed, Part.PERPETUAL_SPOT, day).standard_normal(count) for day in range(int(days))]
    price = p.spot_price * np.exp(np.cumsum(p.spot_vol_daily / np.sqrt(count) * np.concatenate(z)))
    ends = first + step * np.arange(1, len(price) + 1, dtype=np.int64)
    return pd.Series(price, index=pd.DatetimeIndex(ends, tz="UTC").as_unit("ns"), name="spot")


def draw_perpetual(spot: pd.Series[Any], parameters: PerpetualParameters, seed: int) -> PerpetualMarket:
    """Draw a perpetual on a spot index.

    ``mid = spot (1 + mean + demand + basis)`` on the tick grid: ``demand`` is the slow wish for leverage (the
    hyperbolic sine of an Ornstein-Uhlenbeck process, so that it has fat tails), ``basis`` a fast Ornstein-Uhlenbeck
    noise that averages out between settlements. Funding follows from the average premium by :func:`funding_rate`, the
    mark price is the median of the mid, of spot plus its moving-average basis, and of spot with the funding still to
    accrue.

    Every UTC day draws from its own streams and nothing looks ahead: a shorter spot yields the beginning of the longer
    one's perpetual.

    Parameters
    ----------
    spot
        Time (tz-aware, strictly increasing) → price, positive. The first two times give the length of a bar; gaps are
        bridged with the decay that they deserve.
    parameters
        Numbers of the contract.
    seed
        Integer of 0 or more.

    Returns
    -------
    PerpetualMarket
        Settlements lie at the bars whose end is the settlement or, in a gap, not at all. The first one averages what
        has been seen since the spot's beginning.

    Raises
    ------
    InvalidInput
        On a malformed spot, another type of parameters or a bad seed.
    """
    p = parameters
    if not isinstance(p, PerpetualParameters):
        raise InvalidInput(
            "not PerpetualParameters", field="parameters", value=type(p).__name__, remedy="pass PerpetualParameters()"
        )
    index, price = _check_spot(spot)
    ends = index.asi8
    gaps = np.diff(ends) / 1e9
    bar_s = float(gaps[0]) if len(gaps) else p.bar_s  # not a median: later bars must not change earlier ones
    wait = np.minimum(np.append(bar_s, gaps), _LONGEST_S)
    day = (ends - 1) // _DAY_NS  # a bar that ends at midnight belongs to the day it began in
    day = day - day[0]
    demand_z = _ornstein_uhlenbeck(_normals(seed, Part.PERPETUAL_DEMAND, day), wait, p.demand_half_life_s)
    basis_z = _ornstein_uhlenbeck(_normals(seed, Part.PERPETUAL_BASIS, day), wait, p.basis_half_life_s)
    demand = 1e-4 * p.demand_vol_bps * _fat(demand_z, p.demand_tail)
    basis = 1e-4 * p.basis_vol_bps * basis_z
    fair = price * (1.0 + 1e-4 * p.premium_mean_bps + demand + basis)

    move = np.abs(np.append(0.0, np.diff(np.log(price)))) / np.sqrt(wait)
    bid, ask, bid_size, ask_size, volume = _book(fair, move, wait, day, p, seed)
    mid = 0.5 * (bid + ask)
    premium = mid / price - 1.0
    predicted, at, rates = settle(ends, premium, p)
    # What is still to accrue is the last settled rate over the time left to the next settlement.
    settled = np.searchsorted(at, np.arange(len(ends)), side="right") - 1
    last = np.where(settled >= 0, rates[np.maximum(settled, 0)], 0.0) if len(rates) else np.zeros(len(ends))
    interval = p.interval_h * _HOUR_NS
    to_go = 1.0 - ((ends - p.first_settlement_h * _HOUR_NS) % interval) / interval
    window = max(1, round(p.mark_window_s / bar_s))
    average = pd.Series(mid - price).rolling(window, min_periods=1).mean().to_numpy()
    mark = np.median([mid, price + average, price * (1.0 + last * to_go)], axis=0)
    columns = {
        "spot": price,
        "mid": mid,
        "bid": bid,
        "ask": ask,
        "mark": mark,
        "bid_size": bid_size,
        "ask_size": ask_size,
        "volume": volume,
        "premium": premium,
        "demand": demand,
        "basis": basis,
        "predicted": predicted,
    }
    funding = FundingRates(p.name, pd.Series(rates, index=index[at], name=p.name))
    return PerpetualMarket(p.name, pd.DataFrame(columns, index=index), funding, bar_s, p)


def settle(
    ends_ns: NDArray[np.int64], premium: Array, p: PerpetualParameters
) -> tuple[Array, NDArray[np.int64], Array]:
    """Return the running rate of each interval and the settlements.

    Parameters
    ----------
    ends_ns
        Sample times since 1970 UTC (B,) [ns], strictly increasing.
    premium
        Premium at them (B,) [fraction].
    p
        Interval, weighting and the rate's numbers.

    Returns
    -------
    predicted : ndarray (B,)
        The rate if the interval ended with the sample; its premiums weigh 1, 2, 3, … or all the same.
    at : ndarray (K,)
        Samples that stand exactly at a settlement.
    rates : ndarray (K,)
        The rates charged there.
    """
    interval = p.interval_h * _HOUR_NS
    offset = ends_ns - p.first_settlement_h * _HOUR_NS
    number = -(-offset // interval)  # a sample at the settlement closes its interval
    first = np.append(True, np.diff(number) != 0)
    start = np.maximum.accumulate(np.where(first, np.arange(len(ends_ns)), 0))
    place = np.arange(len(ends_ns)) - start + 1.0
    weight = place if p.weighting == "linear" else np.ones(len(ends_ns))
    # Interval by interval: a difference of running totals over all of them would depend on what came before.
    predicted = np.empty(len(ends_ns))
    edges = np.append(np.flatnonzero(first), len(ends_ns))
    for a, b in pairwise(edges):
        predicted[a:b] = np.cumsum(weight[a:b] * premium[a:b]) / np.cumsum(weight[a:b])
    predicted = funding_rate(predicted, p)
    at = np.flatnonzero(offset % interval == 0)
    return predicted, at, predicted[at]


def _check_spot(spot: Any) -> tuple[pd.DatetimeIndex, Array]:
    if not isinstance(spot, pd.Series):
        raise InvalidInput("not a Series", field="spot", value=type(spot).__name__, remedy="time → price")
    index = utc_index(spot.index, "spot")
    try:
        price = spot.to_numpy(dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "holds values that are not numbers", field="spot", value=error, remedy="pd.to_numeric"
        ) from error
    if not len(price):
        raise InvalidInput("is empty", field="spot", value=0, remedy="give at least one price")
    bad = ~np.isfinite(price) | (price <= 0.0)
    if bad.any():
        raise InvalidInput(
            f"is not positive and finite in {int(bad.sum())} rows, first at {index[int(np.argmax(bad))]}",
            field="spot",
            value=float(price[int(np.argmax(bad))]),
            remedy="drop those rows",
        )
    return index, price


def _normals(seed: int, part: Part, day: NDArray[np.int64]) -> Array:
    """Return one normal per bar (B,), each day's from its own stream."""
    days, counts = np.unique(day, return_counts=True)
    return np.concatenate(
        [stream(seed, part, int(d)).standard_normal(int(n)) for d, n in zip(days, counts, strict=True)]
    )


def _ornstein_uhlenbeck(z: Array, wait_s: Array, half_life_s: float) -> Array:
    """Return the stationary unit-variance process sampled after the waits, ``x_0 = z_0`` (B,)."""
    decay = 0.5 ** (wait_s / half_life_s)
    shocks = np.sqrt(1.0 - decay * decay) * z
    shocks[0] = z[0]
    if len(z) > 1 and np.all(decay[1:] == decay[1]):
        return np.asarray(lfilter([1.0], [1.0, -decay[1]], shocks), dtype=np.float64)
    out = np.empty(len(z))
    state = 0.0
    for t in range(len(z)):
        state = decay[t] * state + shocks[t]
        out[t] = state
    return out


def _fat(z: Array, tail: float) -> Array:
    """Return ``sinh(a z)`` scaled to unit variance, ``E sinh² = (exp(2a²) − 1)/2``; z itself for a = 0."""
    if tail == 0.0:
        return z
    return np.asarray(np.sinh(tail * z) / np.sqrt(0.5 * np.expm1(2.0 * tail * tail)))


def _book(
    fair: Array, move: Array, wait_s: Array, day: NDArray[np.int64], p: PerpetualParameters, seed: int
) -> tuple[Array, Array, Array, Array, Array]:
    days, counts = np.unique(day, return_counts=True)
    z = np.concatenate(
        [
            stream(seed, Part.PERPETUAL_BOOK, int(d)).standard_normal((int(n), 3))
            for d, n in zip(days, counts, strict=True)
        ]
    )
    # A bar's move over what the parameters' volatility lets expect; mean of |N(0,1)| is sqrt(2/π).
    usual = max(p.spot_vol_daily, 1e-12) / np.sqrt(86400.0) * np.sqrt(2.0 / np.pi)
    activity = np.clip(move / usual, 0.1, 10.0)
    width = np.maximum(1.0, np.rint(p.spread_ticks * activity**p.spread_vol_power))
    bid_ticks = np.maximum(np.rint(fair / p.tick - 0.5 * width), 1.0)
    noise = np.exp(p.depth_noise_sd * z[:, :2] - 0.5 * p.depth_noise_sd**2)
    sizes = np.maximum(np.rint(p.depth_contracts * noise), 1.0)
    traded = np.exp(p.volume_noise_sd * z[:, 2] - 0.5 * p.volume_noise_sd**2)
    volume = np.rint(p.volume_per_day * wait_s / 86400.0 * traded)
    return bid_ticks * p.tick, (bid_ticks + width) * p.tick, sizes[:, 0], sizes[:, 1], volume
