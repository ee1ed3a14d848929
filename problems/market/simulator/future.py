"""The simulated index future: a basket of the names, a mean-reverting basis, quotes of two expiries a tick wide."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.model import FuturesQuotes
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.sessions import quarterly_expiries, u_shape
from crosswind.problems.market.simulator.streams import Part, ar1, stream

__all__ = ["FutureDay", "bar_buckets", "draw_future", "join_quotes", "next_share"]

Array = NDArray[np.float64]
ROOT = "SIM"
_ROLL_DAYS = 5.0  # calendar days before expiry at which half of the volume has moved on
_ROLL_WIDTH_DAYS = 1.5
_NEXT_FLOOR = 0.003  # share of the next expiry far from a roll
_BOOK_NOISE_SD = 0.4


@dataclass(frozen=True, eq=False)
class FutureDay:
    """Quotes of one session, bars × two expiries.

    Parameters
    ----------
    index
        Ends of the bars, UTC (B,).
    expiries
        ``YYYYMM`` of the front and the next.
    bid, ask, bid_size, ask_size, volume
        (B, 2) [index points, contracts].
    fair
        Fair values behind the quotes (B, 2) [index points]; None where they were not kept.
    """

    index: pd.DatetimeIndex
    expiries: tuple[str, str]
    bid: Array
    ask: Array
    bid_size: Array
    ask_size: Array
    volume: Array
    fair: Array | None = None


def bar_buckets(parameters: SimulatorParameters, bucket_s: float, count: int) -> int:
    """Return the buckets per quote bar: the fewest that last ``future_bar_s`` or longer and divide the session."""
    buckets = max(1, int(np.ceil(parameters.future_bar_s / bucket_s - 1e-9)))
    while count % buckets and buckets < count:
        buckets += 1
    return min(buckets, count)


def next_share(days_to_expiry: float) -> float:
    """Return the share of volume in the next expiry, a logistic in the front's calendar days to expiry."""
    return max(_NEXT_FLOOR, float(1.0 / (1.0 + np.exp((days_to_expiry - _ROLL_DAYS) / _ROLL_WIDTH_DAYS))))


def draw_future(
    index_points: Array,
    ends: pd.DatetimeIndex,
    relative_vol: Array,
    bar_s: float,
    day: dt.date,
    parameters: SimulatorParameters,
    seed: int,
    number: int,
    extra_basis: Array | None = None,
    activity: Array | None = None,
    width_ticks: Array | None = None,
) -> FutureDay:
    """Draw the quotes of one session.

    ``F^e = I (exp(carry years_e) + b^e)``; the front's ``b`` is a stationary AR(1) sampled from an Ornstein-Uhlenbeck
    process, the next one's adds a small independent one. The bid is the grid point that centres the quote on ``F``.

    Parameters
    ----------
    index_points
        Index at the bar ends (B,).
    ends
        Bar ends, UTC (B,).
    relative_vol
        Volatility over its mean level at the bar ends (B,).
    bar_s
        Length of a bar [s].
    day
        Local date of the session.
    parameters
        Parameters of the simulator.
    seed, number
        Seed of the simulation and day number.
    extra_basis
        What shocks add to the basis of both expiries (B,) [fraction of the index]; None for nothing.
    activity
        Multiplier of volume (B,); None for 1.
    width_ticks
        Width of the quote (B,) [ticks]; None for 1.

    Returns
    -------
    FutureDay
    """
    p, bars = parameters, len(index_points)
    front, later = quarterly_expiries(day)
    decay = float(0.5 ** (bar_s / p.basis_half_life_s))
    paths = ar1(stream(seed, Part.BASIS, number).standard_normal((2, bars)), decay) * 1e-4
    basis = np.column_stack([p.basis_vol_bps * paths[0], p.basis_vol_bps * paths[0] + p.calendar_vol_bps * paths[1]])
    if extra_basis is not None:
        basis = basis + extra_basis[:, None]
    days_left = np.array([(front - day).days, (later - day).days], dtype=np.float64)
    fair = index_points[:, None] * (np.exp(p.carry_rate * days_left / 365.0) + basis)
    width = np.ones((bars, 1)) if width_ticks is None else np.asarray(width_ticks, dtype=np.float64)[:, None]
    bid_ticks = np.rint(fair / p.future_tick - 0.5 * width)

    rolled = next_share(float(days_left[0]))
    share = np.array([1.0 - rolled, rolled])
    book = stream(seed, Part.FUTURE_BOOK, number)
    noise = np.exp(_BOOK_NOISE_SD * book.standard_normal((3, bars, 2)) - 0.5 * _BOOK_NOISE_SD**2)
    size = p.future_depth_contracts * np.maximum(share, 0.05) * (relative_vol**-p.depth_vol_power)[:, None]
    sizes = np.maximum(np.rint(size * noise[:2]), 1.0)
    profile = u_shape(bars, p.volume_u_shape)
    if activity is not None:
        profile = profile * activity
    volume = np.rint(p.future_volume_per_day / bars * profile[:, None] * share * noise[2])
    return FutureDay(
        index=ends,
        expiries=(f"{front:%Y%m}", f"{later:%Y%m}"),
        bid=bid_ticks * p.future_tick,
        ask=(bid_ticks + width) * p.future_tick,
        bid_size=sizes[0],
        ask_size=sizes[1],
        volume=volume,
        fair=fair,
    )


def join_quotes(sessions: list[FutureDay], bar_s: float, parameters: SimulatorParameters) -> FuturesQuotes:
    """Return all sessions on one axis; an expiry is NaN (volume 0) on the days on which it is not listed."""
    expiries = sorted({expiry for session in sessions for expiry in session.expiries})

    def frame(field: str, fill: float) -> pd.DataFrame:
        blocks = []
        for session in sessions:
            block = np.full((len(session.index), len(expiries)), fill)
            block[:, [expiries.index(expiry) for expiry in session.expiries]] = getattr(session, field)
            blocks.append(block)
        return pd.DataFrame(np.concatenate(blocks), index=index, columns=expiries)

    index = pd.DatetimeIndex(np.concatenate([session.index.asi8 for session in sessions]), tz="UTC").as_unit("ns")
    return FuturesQuotes(
        root=ROOT,
        bid=frame("bid", np.nan),
        ask=frame("ask", np.nan),
        bid_size=frame("bid_size", np.nan),
        ask_size=frame("ask_size", np.nan),
        volume=frame("volume", 0.0),
        bar_s=bar_s,
        multiplier=parameters.future_multiplier,
        tick=parameters.future_tick,
    )
