"""Depth and aggressive orders of the calendar-spread book: what is sent, what it consumes, how the book refills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.sessions import u_shape
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.streams import Part, ar1, stream

__all__ = ["BookLedger", "aggressive_orders", "depth_target", "refill_path", "roll_curve", "trade_sizes"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_LEAST_ACTIVITY = 0.02  # far from the roll the spread still trades a little


@dataclass(frozen=True, eq=False)
class BookLedger:
    """Where every displayed contract of a session came from and went; columns are bid and ask.

    ``displayed_t = displayed_{t−1} − consumed_t − cancelled_t + added_t`` holds exactly, in whole contracts, with
    ``displayed_{−1} = opening``, and no term is negative.

    Parameters
    ----------
    opening
        Displayed at the session's start (2,) [contracts].
    sent
        Aggressive orders against each side (B, 2): sells against the bid, buys against the ask.
    consumed
        What of it traded (B, 2); the rest found nobody and was cancelled.
    cancelled, added
        Displayed contracts withdrawn and placed in the bar, after its trades (B, 2).
    displayed
        Displayed at the bar's end (B, 2).
    target
        Size to which the book refills (B, 2).
    """

    opening: Ints
    sent: Ints
    consumed: Ints
    cancelled: Ints
    added: Ints
    displayed: Ints
    target: Array


def roll_curve(bars: int, p: RollParameters) -> Array:
    """Return the session's volume profile (B,) with the mean 1: a U and a crowded window."""
    x = (np.arange(bars) + 0.5) / bars
    bump = np.exp(-0.5 * ((x - p.crowd_center) / p.crowd_width) ** 2)
    mean = bump.mean()
    if mean <= 0.0:  # a window narrower than a bar falls between two: it is the nearest bar then
        bump[int(np.argmin(np.abs(x - p.crowd_center)))] = 1.0
        mean = bump.mean()
    return np.asarray((1.0 - p.crowding) * u_shape(bars, p.volume_u_shape) + p.crowding * bump / mean)


def trade_sizes(u: Array, jitter: Array, p: RollParameters) -> Ints:
    """Return order sizes [contracts]: Pareto between a smallest size and the cap, with the mean asked for.

    Parameters
    ----------
    u, jitter
        Uniforms (K,): quantile of the size, and rounding to whole contracts without bias.
    p
        Parameters of the roll.
    """
    cap, mean, a = p.trade_cap_contracts, p.mean_trade_contracts, p.trade_tail
    if cap <= mean * (1.0 + 1e-9):
        sizes = np.full(u.shape, mean)
    else:
        from scipy.optimize import brentq

        def excess(log_least: float) -> float:
            q = np.exp(log_least) / cap
            return float(a / (a - 1.0) * cap * q * (1.0 - q ** (a - 1.0)) / (1.0 - q**a) - mean)

        least = np.exp(brentq(excess, np.log(mean) - 20.0, np.log(cap) - 1e-9))
        # Inverse of the distribution function 1 − (least/x)^a, scaled to end at the cap.
        sizes = least * (1.0 - u * (1.0 - (least / cap) ** a)) ** (-1.0 / a)
    return np.maximum(np.floor(sizes + jitter), 1.0).astype(np.int64)


def aggressive_orders(activity: Array, bar_s: float, p: RollParameters, seed: int, number: int) -> Ints:
    """Draw the contracts that aggressors send in each bar against bid and ask (B, 2).

    The number of orders is Poisson with the roll's curve, the chance that one buys fluctuates around the crowd's
    one-sidedness, sizes have Pareto tails.

    Parameters
    ----------
    activity
        Volume over that of the roll's peak by bar (B,).
    bar_s
        Length of a bar [s].
    p
        Parameters of the roll.
    seed, number
        Seed and day number.
    """
    bars = len(activity)
    generator = stream(seed, Part.SPREAD_FLOW, number)
    side = ar1(generator.standard_normal((1, bars)), float(0.5 ** (bar_s / p.side_half_life_s)))[0]
    tilt = np.clip(p.one_sidedness + p.side_noise_sd * side, -1.0, 1.0)
    mean = p.spread_volume_per_day / bars * activity * roll_curve(bars, p) / p.mean_trade_contracts
    sent = np.zeros((bars, 2), dtype=np.int64)
    for column, share in enumerate((0.5 * (1.0 - tilt), 0.5 * (1.0 + tilt))):
        counts = generator.poisson(mean * share)
        u = generator.random((2, int(counts.sum())))
        sizes = trade_sizes(u[0], u[1], p)
        running = np.append(0, np.cumsum(sizes))
        edges = np.append(0, np.cumsum(counts))
        sent[:, column] = running[edges[1:]] - running[edges[:-1]]
    return sent


def depth_target(
    activity: Array, stress: Array, bar_s: float, p: RollParameters, generator: np.random.Generator
) -> Array:
    """Draw the size to which each side refills (B, 2): it falls with stress and has a slow noise of mean one."""
    decay = float(0.5 ** (bar_s / p.depth_noise_half_life_s))
    paths = ar1(generator.standard_normal((2, len(stress))), decay)
    noise = np.exp(p.depth_noise_sd * paths - 0.5 * p.depth_noise_sd**2).T
    level = p.depth_contracts * np.sqrt(np.maximum(activity, _LEAST_ACTIVITY)) * stress**-p.depth_stress_power
    return np.asarray(level[:, None] * noise, dtype=np.float64)


def refill_path(
    sent: Ints, target: Array, bar_s: float, p: RollParameters, generator: np.random.Generator
) -> BookLedger:
    """Run the displayed depth of both sides through a session.

    In each bar aggressors first consume what was displayed, then a displayed contract is cancelled with probability
    ``c = 1 − exp(−rate Δ)`` and new ones arrive, Poisson with the mean ``(1 − ρ)(target − d) + c d`` where positive,
    ``ρ = 2^(−Δ/half-life)``: the expected gap to the target shrinks by ρ a bar.

    Parameters
    ----------
    sent
        Aggressive contracts against each side (B, 2).
    target
        Sizes to refill to (B, 2).
    bar_s
        Length of a bar [s].
    p
        Parameters of the roll.
    generator
        Source of randomness.
    """
    bars = len(sent)
    closing = 1.0 - float(0.5 ** (bar_s / p.refill_half_life_s))
    leaving = -float(np.expm1(-p.cancel_rate_per_s * bar_s))
    opening = np.maximum(np.rint(target[0]), 1.0).astype(np.int64)
    consumed, cancelled, added, displayed = (np.zeros((bars, 2), dtype=np.int64) for _ in range(4))
    depth = opening
    for t in range(bars):
        consumed[t] = np.minimum(sent[t], depth)
        left = depth - consumed[t]
        cancelled[t] = generator.binomial(left, leaving)
        added[t] = generator.poisson(np.maximum(closing * (target[t] - left) + leaving * left, 0.0))
        depth = left - cancelled[t] + added[t]
        displayed[t] = depth
    return BookLedger(opening, sent, consumed, cancelled, added, displayed, target)
