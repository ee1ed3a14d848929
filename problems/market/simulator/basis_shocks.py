"""Jumps in the future's basis that decay, listed in the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.records import check_numbers
from crosswind.problems.market.simulator.streams import Part, stream

__all__ = ["BasisJumps", "draw_basis_jumps"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BasisJumps:
    """Poisson jumps of the basis with Gaussian sizes, each decaying exponentially within its session.

    Parameters
    ----------
    per_day
        Expected number per session.
    sd_bps
        Standard deviation of a jump [bps of the index].
    half_life_s
        Half-life of its decay [s].

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    per_day: float = 4.0
    sd_bps: float = 8.0
    half_life_s: float = 900.0

    def __post_init__(self) -> None:
        check_numbers(self, positive=("half_life_s",), non_negative=("per_day", "sd_bps"))

    def scaled(self, volatility: float) -> BasisJumps:
        """Return jumps of the same times and sizes multiplied by ``volatility``."""
        return replace(self, sd_bps=self.sd_bps * volatility)


def draw_basis_jumps(parameters: BasisJumps, bars: int, seed: int, day: int) -> Array:
    """Return the jumps of one session summed by quote bar, (bars,) [fraction of the index], the first bar without.

    Parameters
    ----------
    parameters
        The process.
    bars
        Quote bars of the session.
    seed, day
        Seed of the simulation and day number.
    """
    generator = stream(seed, Part.BASIS_JUMP, day)
    number = int(generator.poisson(parameters.per_day))
    out = np.zeros(bars)
    if bars > 1:
        at = 1 + np.floor(generator.uniform(size=number) * (bars - 1)).astype(np.int64)
        np.add.at(out, at, 1e-4 * parameters.sd_bps * generator.standard_normal(number))
    return out
