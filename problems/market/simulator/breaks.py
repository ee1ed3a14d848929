"""Correlation breaks: windows in which the names decouple from the market, and so from the index future."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.records import check_numbers
from crosswind.problems.market.simulator.streams import Part, stream, student

__all__ = ["CorrelationBreaks", "draw_coupling", "substitute_returns"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CorrelationBreaks:
    """At most one window per session in which a name follows the market by only ``coupling`` of its loading.

    What a name loses of the market's move it gets as moves of its own with the same variance, so its volatility stays.
    The future goes on following the names as they would have moved: the gap to the index is basis, and decays.

    Parameters
    ----------
    probability
        Of a window in a session.
    length_s
        Length of a window [s]; longer than the session means the whole of it.
    coupling
        Multiplier of the market loading inside the window, 0 to 1.
    gap_half_life_s
        Half-life by which the gap between future and index closes [s].

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    probability: float = 1.0
    length_s: float = 5_400.0
    coupling: float = 0.3
    gap_half_life_s: float = 1_800.0

    def __post_init__(self) -> None:
        limits = {"probability": 1.0, "coupling": 1.0}
        check_numbers(self, positive=("length_s", "gap_half_life_s"), shares=limits)


def draw_coupling(parameters: CorrelationBreaks, bucket_s: float, count: int, seed: int, day: int) -> Array:
    """Return the multiplier of the market loading by bucket, 1 outside the session's window, shape (count,).

    Parameters
    ----------
    parameters
        The windows.
    bucket_s, count
        Bucket length [s] and buckets of the session.
    seed, day
        Seed of the simulation and day number.
    """
    happens, where = stream(seed, Part.BREAK, day).uniform(size=2)
    out = np.ones(count)
    length = min(count, max(1, round(parameters.length_s / bucket_s)))
    first = int(where * (count - length + 1))
    if happens < parameters.probability:
        out[first : first + length] = parameters.coupling
    return out


def substitute_returns(coupling: Array, scale: Array, loadings: Array, tail_dof: float, seed: int, day: int) -> Array:
    """Return what the names get in place of the market's move, ``sqrt(1 − c_t²) l_i s_t e_it``, shape (T, N).

    Parameters
    ----------
    coupling
        ``c_t`` (T,).
    scale
        Standard deviation ``s_t`` of the market's return (T,).
    loadings
        Market loadings ``l_i`` (N,).
    tail_dof
        Degrees of freedom of the unit-variance Student ``e``.
    seed, day
        Seed of the simulation and day number.
    """
    draws = student(stream(seed, Part.BREAK_NOISE, day), (len(loadings), len(coupling)), tail_dof).T
    return np.asarray(np.sqrt(1.0 - coupling**2)[:, None] * scale[:, None] * loadings * draws, dtype=np.float64)
