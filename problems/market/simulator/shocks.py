"""Jumps in the market and in single names: two compound Poisson processes, listed in the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.records import check_numbers
from crosswind.problems.market.simulator.streams import Part, stream

__all__ = ["JumpDay", "Jumps", "draw_jumps"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Jumps:
    """Compound Poisson jumps with Gaussian sizes and mean zero.

    Parameters
    ----------
    market_per_day, name_per_day
        Expected number per session of the market's jumps, and of each name's own.
    market_sd, name_sd
        Standard deviation of a jump's size [return]. A market jump moves a name by its market loading.

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    market_per_day: float = 1.0
    market_sd: float = 0.004
    name_per_day: float = 0.5
    name_sd: float = 0.006

    def __post_init__(self) -> None:
        check_numbers(self, non_negative=("market_per_day", "market_sd", "name_per_day", "name_sd"))

    def scaled(self, volatility: float) -> Jumps:
        """Return jumps of the same times and sizes multiplied by ``volatility``."""
        return replace(self, market_sd=self.market_sd * volatility, name_sd=self.name_sd * volatility)


@dataclass(frozen=True, eq=False)
class JumpDay:
    """Jumps of one session by bucket.

    Parameters
    ----------
    market
        Sum of the market's jumps (T,) [return].
    own
        Sum of each name's own (T, N) [return].
    """

    market: Array
    own: Array


def draw_jumps(parameters: Jumps, names: int, count: int, seed: int, day: int) -> JumpDay:
    """Draw one session; a first bucket has none, because its return spans the night.

    Times and sizes are drawn apart from their scale: another ``market_sd`` moves no jump in time.

    Parameters
    ----------
    parameters
        The two processes.
    names, count
        Number of names N and buckets T of the session.
    seed, day
        Seed of the simulation and day number.

    Returns
    -------
    JumpDay
    """
    market, own = np.zeros(count), np.zeros((count, names))

    def add(target: Array, generator: np.random.Generator, per_day: float, sd: float) -> None:
        number = int(generator.poisson(per_day))
        at = 1 + np.floor(generator.uniform(size=number) * (count - 1)).astype(np.int64)
        np.add.at(target, at, sd * generator.standard_normal(number))

    add(market, stream(seed, Part.JUMP_MARKET, day), parameters.market_per_day, parameters.market_sd)
    generator = stream(seed, Part.JUMP_NAME, day)
    for name in range(names):
        add(own[:, name], generator, parameters.name_per_day, parameters.name_sd)
    return JumpDay(market, own)
