"""Random streams and Gaussian processes of the simulator: one independent stream per part and per day."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from crosswind.solvers.errors import InvalidInput

__all__ = ["Part", "ar1", "lag_correlation", "mixture", "stream", "student"]

Array = NDArray[np.float64]


class Part(IntEnum):
    """What a random stream is for; the number is part of its seed, so never renumber."""

    LOADINGS = 1
    VOLATILITY = 2
    ADV = 3
    PRICE = 4
    SLOPES = 5
    CROSS = 6
    REGIME = 10
    FLOW_MARKET = 11
    FLOW_SECTOR = 12
    FLOW_NAME = 13
    VOLUME = 14
    MARKET = 20
    SECTOR = 21
    IDIOSYNCRATIC = 22
    OVERNIGHT = 23
    SPREAD = 30
    DEPTH = 31
    BASIS = 40
    FUTURE_BOOK = 41
    MARKOV = 50
    JUMP_MARKET = 51
    JUMP_NAME = 52
    BASIS_JUMP = 53
    BREAK = 54
    BREAK_NOISE = 55
    SPREAD_BASIS = 60
    SPREAD_SHOCKS = 61
    SPREAD_FLOW = 62
    SPREAD_DEPTH = 63
    SPREAD_LEGS = 64
    ROLL_INDEX = 65
    PERPETUAL_SPOT = 66
    PERPETUAL_BASIS = 67
    PERPETUAL_DEMAND = 68
    PERPETUAL_BOOK = 69
    DESK_ARRIVALS = 70
    DESK_KIND = 71
    DESK_SIZE = 72
    DESK_PLAN = 73
    DESK_FILLS = 74
    DESK_REVISIONS = 75
    DESK_CANCEL = 76


def stream(seed: int, part: Part, day: int = -1) -> np.random.Generator:
    """Return the generator of one part of the market on one day.

    Streams of different parts and days are independent children of the seed: a parameter that changes how much one
    part draws leaves the others untouched, and a longer simulation begins with the shorter one.

    Parameters
    ----------
    seed
        Non-negative seed of the whole simulation.
    part
        What is drawn.
    day
        Day number from 0, or −1 for what holds on every day.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    InvalidInput
        For a negative or non-integer seed.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("is not a seed", field="seed", value=seed, remedy="pass an integer of 0 or more")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(int(part), day + 1))))


def ar1(innovations: Array, decay: float) -> Array:
    """Return the stationary unit-variance AR(1) ``x_t = ρ x_{t-1} + sqrt(1 - ρ²) e_t`` with ``x_0 = e_0``.

    Parameters
    ----------
    innovations
        Independent unit-variance draws, time on the last axis (..., T).
    decay
        ``ρ`` in [0, 1).

    Returns
    -------
    ndarray
        Of the same shape.
    """
    scale = np.sqrt(1.0 - decay * decay)
    scaled = scale * innovations
    scaled[..., 0] = innovations[..., 0]  # the first draw is the stationary state, not an innovation
    return np.asarray(lfilter([1.0], [1.0, -decay], scaled, axis=-1), dtype=np.float64)


def mixture(
    generator: np.random.Generator, paths: int, steps: int, decays: tuple[float, ...], weights: tuple[float, ...]
) -> tuple[Array, Array]:
    """Draw unit-variance Gaussian paths ``sqrt(w_0) e_t + Σ_j sqrt(w_j) x^j_t``, each ``x^j`` an AR(1).

    A few half-lives on a log grid imitate the slowly decaying autocorrelation of signed order flow over the range of
    lags that they span.

    Parameters
    ----------
    generator
        Source of randomness. Draws are made path by path: more paths leave the first ones as they were.
    paths, steps
        Number of paths N and of steps T.
    decays, weights
        One-step decay and variance share of each AR(1); white noise takes the rest.

    Returns
    -------
    paths : ndarray (N, T)
        The mixture.
    white : ndarray (N, T)
        The white component ``e`` with unit variance.
    """
    draws = generator.standard_normal((paths, len(decays) + 1, steps))
    white = draws[:, 0]
    total = np.sqrt(max(0.0, 1.0 - sum(weights))) * white
    for j, (decay, weight) in enumerate(zip(decays, weights, strict=True)):
        total += np.sqrt(weight) * ar1(draws[:, j + 1], decay)
    return total, white


def lag_correlation(decays: tuple[float, ...], weights: tuple[float, ...], lags: Array) -> Array:
    """Return the autocorrelation ``1{h=0} w_0 + Σ_j w_j ρ_j^h`` of :func:`mixture` at ``lags`` (steps), shape (L,)."""
    total = np.where(lags == 0, max(0.0, 1.0 - sum(weights)), 0.0)
    for decay, weight in zip(decays, weights, strict=True):
        total = total + weight * decay**lags
    return total


def student(generator: np.random.Generator, shape: tuple[int, ...], dof: float) -> Array:
    """Return Student draws scaled to unit variance (``dof`` > 2)."""
    return np.asarray(generator.standard_t(dof, shape) * np.sqrt((dof - 2.0) / dof), dtype=np.float64)
