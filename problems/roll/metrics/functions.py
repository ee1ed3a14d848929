"""The metrics as pure functions of arrays, each by its definition: every window is summed afresh, nothing drifts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crosswind.problems.roll.metrics.config import NS
from crosswind.solvers.errors import InvalidInput

__all__ = ["basis_z", "deadline_pressure", "depth_elasticity", "executable_pace", "roll_participation"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_CHUNK = 1 << 19  # numbers gathered at once


def roll_participation(
    times: pd.DatetimeIndex, volume: ArrayLike, expected: ArrayLike, window_s: float, least: int = 1
) -> Array:
    """Return RPC_t = Σ volume / Σ expected over the bars that end in (t − W, t] (B,).

    Parameters
    ----------
    times
        Bar ends (B,), strictly increasing.
    volume, expected
        Roll volume traded and expected in each bar (B,) [contracts]. A bar in which one of them is not known counts
        in neither sum.
    window_s
        W [s].
    least
        Known bars that a window must hold.

    Returns
    -------
    array
        NaN where fewer are known or nothing was expected. 1 is a usual day; above it, the roll is crowded.
    """
    ns = _ns(times)
    traded, usual = _column(volume, "volume", len(ns)), _column(expected, "expected", len(ns))
    known = np.isfinite(traded) & np.isfinite(usual)
    first, last = np.searchsorted(ns, ns - _window(window_s), side="right"), np.arange(1, len(ns) + 1)
    n = _sums(known.astype(np.float64), first, last)
    above = _sums(np.where(known, traded, 0.0), first, last)
    below = _sums(np.where(known, usual, 0.0), first, last)
    out = np.full(len(ns), np.nan)
    ok = (n >= least) & (below > 0.0)
    out[ok] = above[ok] / below[ok]
    return out


def depth_elasticity(
    times: pd.DatetimeIndex,
    bid_size: ArrayLike,
    ask_size: ArrayLike,
    sold: ArrayLike,
    bought: ArrayLike,
    window_s: float,
    least: int = 1,
    least_share: float = 0.0,
    max_gap_s: float = 0.0,
) -> pd.DataFrame:
    """Return CDE_t = (D_t − D_{t−W}) / Σ aggressive size over (t − W, t], for both sides together and for each.

    D is the size shown at the best prices. −1: nothing of what was taken has come back; 0: all of it; > 0: the book
    is deeper than before. The bid's depth is held against what was sold, the ask's against what was bought.

    Parameters
    ----------
    times
        Bar ends (B,), strictly increasing.
    bid_size, ask_size
        Sizes at the bars' ends (B,) [contracts]; NaN where there is no sound book.
    sold, bought
        Aggressive sizes within the bars (B,) [contracts].
    window_s
        W [s]. D_{t−W} is the depth of the last bar that ends at t − W or before.
    least
        Bars that a window must hold.
    least_share
        Share of D_{t−W} that aggressors must have taken.
    max_gap_s
        How much older than t − W that bar may be [s].

    Returns
    -------
    DataFrame
        Times × ``both``, ``bid``, ``ask``; NaN without aggression, without a book at either end, across a gap, or where
        an aggressive size in the window is not known.
    """
    ns = _ns(times)
    names = {"bid_size": bid_size, "ask_size": ask_size, "sold": sold, "bought": bought}
    bid, ask, sells, buys = (_column(values, name, len(ns)) for name, values in names.items())
    start = ns - _window(window_s)
    first, last = np.searchsorted(ns, start, side="right"), np.arange(1, len(ns) + 1)
    before = first - 1
    fresh = (before >= 0) & (ns[before] >= start - _window(max_gap_s))
    known = fresh & (last - first >= least) & (_sums((~np.isfinite(sells + buys)).astype(float), first, last) == 0.0)
    out = {}
    pairs = {"both": (bid + ask, sells + buys), "bid": (bid, sells), "ask": (ask, buys)}
    for name, (depth, aggression) in pairs.items():
        taken = _sums(np.where(np.isfinite(aggression), aggression, 0.0), first, last)
        was = np.where(fresh, depth[before], np.nan)
        values = np.full(len(ns), np.nan)
        ok = known & (taken > 0.0) & (taken > least_share * was)
        values[ok] = (depth[ok] - was[ok]) / taken[ok]
        out[name] = values
    return pd.DataFrame(out, index=times)


def basis_z(
    times: pd.DatetimeIndex,
    basis: ArrayLike,
    window_s: float,
    least: int = 2,
    floor: float = 0.0,
    robust: bool = False,
) -> Array:
    """Return BDZ_t = (basis_t − μ_t) / max(σ_t, floor) (B,).

    μ and σ are mean and sample standard deviation of the basis in the bars that end in [t − W, t), the present one not
    among them; ``robust``: median and 1.4826 · MAD (consistent for a Gaussian).

    Parameters
    ----------
    times
        Bar ends (B,), strictly increasing.
    basis
        Mid of the spread (B,) [points]; NaN where there is no sound book: such a bar has no z and enters no reference.
    window_s
        W [s].
    least
        Known bars that a reference must hold; never fewer than 2.
    floor
        Least σ [points]. With 0, a reference that did not move gives ±inf, and 0/0 NaN.
    robust
        Whether to use median and MAD.

    Returns
    -------
    array
        NaN where the reference is not known.
    """
    ns = _ns(times)
    x = _column(basis, "basis", len(ns))
    known = np.flatnonzero(np.isfinite(x))
    at, values = ns[known], x[known]
    first, last = np.searchsorted(at, at - _window(window_s), side="left"), np.arange(len(at))
    out = np.full(len(ns), np.nan)
    n = last - first
    judged = np.flatnonzero(n >= max(least, 2))
    width = int(n.max(initial=0))
    step = max(1, _CHUNK // max(width, 1))
    offsets = np.arange(width)
    for low in range(0, len(judged), step):
        rows = judged[low : low + step]
        count = n[rows]
        held = offsets < count[:, None]
        # Relative to the value judged: a level far from zero would cost digits.
        block = values[np.minimum(first[rows][:, None] + offsets, len(values) - 1)] - values[rows][:, None]
        middle, scale = (_median_mad if robust else _mean_sd)(block, held, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            out[known[rows]] = -middle / np.maximum(scale, floor)
    return out


def executable_pace(
    times: pd.DatetimeIndex,
    fillable: ArrayLike,
    window_s: float,
    bar_s: float,
    participation: float,
    least: int = 1,
) -> Array:
    """Return the pace at which an order can count on fills (B,) [contracts per minute].

    participation · Σ fillable / (n · bar), over the n known bars that end in (t − W, t]; NaN with fewer than ``least``.
    """
    ns = _ns(times)
    flow = _column(fillable, "fillable", len(ns))
    known = np.isfinite(flow)
    first, last = np.searchsorted(ns, ns - _window(window_s), side="right"), np.arange(1, len(ns) + 1)
    n = _sums(known.astype(np.float64), first, last)
    total = _sums(np.where(known, flow, 0.0), first, last)
    out = np.full(len(ns), np.nan)
    ok = n >= max(least, 1)
    out[ok] = participation * total[ok] / (n[ok] * (bar_s / 60.0))
    return out


def deadline_pressure(remaining: ArrayLike, minutes_left: ArrayLike, pace: ArrayLike) -> Array:
    """Return RDP = (remaining / minutes left) / pace, of the arguments' common shape.

    > 1: behind what the market's recent pace lets the order do until the cutoff.

    Parameters
    ----------
    remaining
        Spreads still to be done [contracts], >= 0; none left: 0.
    minutes_left
        Until the cutoff; none left (or past it) with something remaining: inf.
    pace
        Executable pace [contracts per minute]; 0 with something remaining: inf.

    Returns
    -------
    array
        NaN where something it needs is not known.
    """
    left, minutes, rate = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (remaining, minutes_left, pace))
    )
    out = np.full(left.shape, np.nan)
    none = left <= 0.0
    late = (left > 0.0) & (minutes <= 0.0)
    open_ = (left > 0.0) & (minutes > 0.0)
    out[none] = 0.0
    out[late | (open_ & (rate <= 0.0))] = np.inf
    ok = open_ & (rate > 0.0)
    out[ok] = left[ok] / minutes[ok] / rate[ok]
    return out


def _median_mad(block: Array, held: NDArray[np.bool_], n: Ints) -> tuple[Array, Array]:
    middle = _middle(np.where(held, block, np.inf), n)
    return middle, 1.4826 * _middle(np.where(held, np.abs(block - middle[:, None]), np.inf), n)


def _middle(block: Array, n: Ints) -> Array:
    block = np.sort(block, axis=1)
    rows = np.arange(len(n))
    return np.asarray(0.5 * (block[rows, (n - 1) // 2] + block[rows, n // 2]), dtype=np.float64)


def _mean_sd(block: Array, held: NDArray[np.bool_], n: Ints) -> tuple[Array, Array]:
    mean = np.where(held, block, 0.0).sum(axis=1) / n
    deviation = np.where(held, block - mean[:, None], 0.0)
    return mean, np.sqrt((deviation * deviation).sum(axis=1) / (n - 1))


def _sums(values: Array, first: NDArray[np.intp], last: NDArray[np.intp]) -> Array:
    """Return Σ values[first:last] for each pair, each summed by itself; empty ones 0."""
    padded = np.append(values, 0.0)
    pairs = np.ravel(np.column_stack([first, last]))
    out = np.asarray(np.add.reduceat(padded, pairs)[::2], dtype=np.float64)
    out[last <= first] = 0.0
    return out


def _window(seconds: float) -> int:
    return round(seconds * NS)


def _ns(times: pd.DatetimeIndex) -> Ints:
    if not isinstance(times, pd.DatetimeIndex) or times.tz is None:
        raise InvalidInput(
            "is not a tz-aware DatetimeIndex", field="times", value=type(times).__name__, remedy="localise"
        )
    ns = times.as_unit("ns").asi8
    if (np.diff(ns) <= 0).any():
        at = int(np.argmax(np.diff(ns) <= 0)) + 1
        raise InvalidInput("do not increase", field="times", value=str(times[at]), remedy="sort and drop doubles")
    return ns


def _column(values: ArrayLike, name: str, rows: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows,):
        raise InvalidInput("is not one value per bar", field=name, value=array.shape, remedy=f"pass {rows} values")
    return array
