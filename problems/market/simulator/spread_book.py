"""The days of a roll: books of the near and the far leg and of the listed calendar spread between them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from crosswind.problems.market.simulator.future import FutureDay
from crosswind.problems.market.simulator.sessions import quarterly_expiries, u_shape
from crosswind.problems.market.simulator.spread_book_flow import (
    BookLedger,
    aggressive_orders,
    depth_target,
    refill_path,
)
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.solvers.errors import InvalidInput

__all__ = ["BookLedger", "RollDay", "RollParameters", "draw_roll", "far_share", "implied_quotes"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_SHARE_FLOOR = 0.0014  # far/total volume of ES far from a roll, 2013-10-08 and 2013-11-18
# ES best sizes: near 479 and far 268 at a far share of 0.0028 (2013-12-02), 166 and 294 at 0.888 (2013-12-18): sizes
# follow the share of volume with a small power only.
_LEG_SIZE_POWER = 0.2


@dataclass(frozen=True, eq=False)
class RollDay:
    """One session of a roll with its truth.

    Parameters
    ----------
    legs
        Quotes and volume of near and far (columns in this order).
    bid_ticks, ask_ticks
        Quotes of the spread at the bar ends (B,) [spread ticks].
    book
        Displayed depth and where it came from and went.
    fair
        Spread worth by carry alone (B,) [points].
    mid
        True mid, the fair spread with noise, flow and shocks (B,) [points].
    stress
        Multiplier of noise and width, 1 in calm (B,).
    shock_bars, shock_points
        Bars in which a basis shock struck and their sizes [points].
    far_share
        Share of the legs' volume in the far leg (B,).
    tick
        Price step of the spread [points].
    queue_fraction
        Share of the displayed size ahead of a passive order that joins.
    """

    legs: FutureDay
    bid_ticks: Ints
    ask_ticks: Ints
    book: BookLedger
    fair: Array
    mid: Array
    stress: Array
    shock_bars: Ints
    shock_points: Array
    far_share: Array
    tick: float
    queue_fraction: float

    @property
    def index(self) -> pd.DatetimeIndex:
        """Bar ends (B,), UTC."""
        return self.legs.index

    @property
    def near(self) -> str:
        """Expiry of the near leg, 'YYYYMM'."""
        return self.legs.expiries[0]

    @property
    def far(self) -> str:
        """Expiry of the far leg, 'YYYYMM'."""
        return self.legs.expiries[1]

    @property
    def shock_times(self) -> pd.DatetimeIndex:
        """Ends of the bars in which a shock struck, UTC."""
        return self.index[self.shock_bars]


def far_share(days_to_expiry: Array, p: RollParameters) -> Array:
    """Return the far leg's share of volume, a logistic in the near's calendar days to expiry, of the same shape."""
    return np.maximum(_SHARE_FLOOR, 1.0 / (1.0 + np.exp((days_to_expiry - p.roll_center_days) / p.roll_width_days)))


def implied_quotes(legs: FutureDay, tick: float) -> tuple[Ints, Ints]:
    """Return the spread's bid and ask that the legs imply (B,) [spread ticks].

    Selling the spread through the legs yields far bid − near ask, buying it costs far ask − near bid. The listed book
    shows no worse: its bid is at least the first and its ask at most the second, and it never crosses them.
    """
    bid = np.rint((legs.bid[:, 1] - legs.ask[:, 0]) / tick).astype(np.int64)
    ask = np.rint((legs.ask[:, 1] - legs.bid[:, 0]) / tick).astype(np.int64)
    return bid, ask


def draw_roll(
    index_points: Array,
    ends: pd.DatetimeIndex,
    relative_vol: Array,
    bar_s: float,
    day: dt.date,
    parameters: RollParameters,
    seed: int,
    number: int,
    near_points: Array | None = None,
) -> RollDay:
    """Draw the books of one session.

    The spread's mid is ``I (exp(carry τ_far) − exp(carry τ_near)) + x + J``: ``x`` an Ornstein-Uhlenbeck noise whose
    step grows with stress and with what aggressors send, ``J`` the sum of the basis shocks, each decaying. A shock also
    raises stress, which decays by itself. The spread's noise starts afresh each session.

    Parameters
    ----------
    index_points
        Index at the bar ends (B,), positive.
    ends
        Bar ends, UTC (B,).
    relative_vol
        Volatility over its mean level at the bar ends (B,), positive.
    bar_s
        Length of a bar [s].
    day
        Local date of the session; the legs are the next two quarterly expiries after it.
    parameters
        Parameters of the roll.
    seed, number
        Seed of the simulation and day number.
    near_points
        Fair value of the near leg (B,) [points]; default: the index with its carry.

    Returns
    -------
    RollDay

    Raises
    ------
    InvalidInput
        On arrays of different lengths or values that are not positive and finite.
    """
    p, bars = parameters, len(ends)
    given = {"index_points": index_points, "relative_vol": relative_vol, "near_points": near_points}
    for field, values in given.items():
        _check_path(values, field, bars)
    if not bars:
        raise InvalidInput("there are no bars", field="ends", value=0, remedy="give at least one")
    expiries = quarterly_expiries(day)
    fraction = (np.arange(bars) + 0.5) / bars
    left = np.array([(expiry - day).days for expiry in expiries], dtype=np.float64)
    growth = np.exp(p.carry_rate * left / 365.0)
    near = index_points * growth[0] if near_points is None else near_points
    fair = index_points * (growth[1] - growth[0])
    share = far_share(left[0] - fraction, p)
    activity = 4.0 * share * (1.0 - share)  # both sides of a roll trade: it peaks where half has moved

    bars_hit, sizes = _draw_shocks(bars, p, seed, number)
    jumps, struck = np.zeros(bars), np.zeros(bars)
    np.add.at(jumps, bars_hit, sizes)
    np.add.at(struck, bars_hit, 1.0)
    stress = relative_vol * (1.0 + p.stress_per_shock * _decayed(struck, bar_s, p.stress_half_life_s))

    sent = aggressive_orders(activity, bar_s, p, seed, number)
    generator = stream(seed, Part.SPREAD_DEPTH, number)
    target = depth_target(activity, stress, bar_s, p, generator)
    book = refill_path(sent, target, bar_s, p, generator)

    decay = float(0.5 ** (bar_s / p.noise_half_life_s))
    steps = p.noise_vol_points * np.sqrt(1.0 - decay * decay) * stress
    steps[0] = p.noise_vol_points * stress[0]  # the stationary state
    steps = steps * stream(seed, Part.SPREAD_BASIS, number).standard_normal(bars)
    steps += p.flow_impact_points * (sent[:, 1] - sent[:, 0]) / target.mean(axis=1)
    noise = np.asarray(lfilter([1.0], [1.0, -decay], steps))
    mid = fair + noise + _decayed(jumps, bar_s, p.jump_half_life_s)

    legs = _draw_legs(near, near + mid, stress, share, ends, expiries, p, seed, number)
    bid, ask = _quote(mid, stress, book, legs, p)
    return RollDay(
        legs=legs,
        bid_ticks=bid,
        ask_ticks=ask,
        book=book,
        fair=fair,
        mid=mid,
        stress=stress,
        shock_bars=bars_hit,
        shock_points=sizes,
        far_share=share,
        tick=p.tick,
        queue_fraction=p.queue_fraction,
    )


def _check_path(values: Array | None, field: str, bars: int) -> None:
    if values is None:
        return
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (bars,):
        raise InvalidInput("is not one value per bar", field=field, value=array.shape, remedy=f"give {bars} values")
    if not (np.isfinite(array) & (array > 0.0)).all():
        raise InvalidInput("holds a value that is not positive and finite", field=field, remedy="repair the path")


def _decayed(impulses: Array, bar_s: float, half_life_s: float) -> Array:
    return np.asarray(lfilter([1.0], [1.0, -float(0.5 ** (bar_s / half_life_s))], impulses), dtype=np.float64)


def _draw_shocks(bars: int, p: RollParameters, seed: int, number: int) -> tuple[Ints, Array]:
    generator = stream(seed, Part.SPREAD_SHOCKS, number)
    count = int(generator.poisson(p.jumps_per_day))
    at = np.floor(generator.random(count) * bars).astype(np.int64)
    sizes = generator.laplace(0.0, p.jump_vol_points / np.sqrt(2.0), count)
    order = np.argsort(at, kind="stable")
    return at[order], sizes[order]


def _draw_legs(
    near: Array,
    far: Array,
    stress: Array,
    share: Array,
    ends: pd.DatetimeIndex,
    expiries: tuple[dt.date, ...],
    p: RollParameters,
    seed: int,
    number: int,
) -> FutureDay:
    """Quote both legs around their fair values: together they never contradict the spread's mid by a band's width."""
    bars = len(ends)
    width = np.maximum(1.0, np.rint(np.sqrt(stress)))[:, None]
    fair = np.column_stack([near, far])
    bid = np.rint(fair / p.outright_tick - 0.5 * width)
    shares = np.column_stack([1.0 - share, share])
    z = stream(seed, Part.SPREAD_LEGS, number).standard_normal((3, bars, 2))
    noise = np.exp(p.leg_noise_sd * z - 0.5 * p.leg_noise_sd**2)
    size = p.leg_depth_contracts * shares**_LEG_SIZE_POWER * (stress**-p.depth_stress_power)[:, None]
    sizes = np.maximum(np.rint(size * noise[:2]), 1.0)
    profile = u_shape(bars, p.volume_u_shape)[:, None]
    return FutureDay(
        index=ends,
        expiries=(f"{expiries[0]:%Y%m}", f"{expiries[1]:%Y%m}"),
        bid=bid * p.outright_tick,
        ask=(bid + width) * p.outright_tick,
        bid_size=sizes[0],
        ask_size=sizes[1],
        volume=np.rint(p.leg_volume_per_day / bars * profile * shares * noise[2]),
    )


def _quote(mid: Array, stress: Array, book: BookLedger, legs: FutureDay, p: RollParameters) -> tuple[Ints, Ints]:
    width = np.maximum(1.0, np.rint(p.width_ticks * stress**p.width_stress_power)).astype(np.int64)
    bid = np.rint(mid / p.tick - 0.5 * width).astype(np.int64)
    ask = bid + width
    thin = book.displayed < p.thin_share * book.target
    bid, ask = bid - thin[:, 0], ask + thin[:, 1]
    lowest, highest = implied_quotes(legs, p.tick)
    bid = np.clip(bid, lowest, highest - 1)
    return bid, np.clip(ask, bid + 1, highest)
