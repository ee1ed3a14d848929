"""Volatility regimes: a two-state Markov chain on top of the log-AR(1) of the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.records import check_numbers
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.solvers.errors import InvalidInput

__all__ = ["VolatilityRegimes", "draw_states"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VolatilityRegimes:
    """A calm and a stressed state, switched by a Markov chain that runs on from session to session.

    In the stressed state volatility and volume are multiplied; spreads and depth follow volatility by the powers of the
    market's own parameters. The kernel stays as it is.

    Parameters
    ----------
    calm_s, stressed_s
        Mean time spent in each state before it is left [s of trading].
    volatility, volume
        Multipliers of volatility and of traded volume in the stressed state, at least 1.
    future_ticks
        Width of the future's quote in the stressed state [ticks]; it is 1 in the calm one.

    Raises
    ------
    InvalidInput
        Naming the field that is out of range.
    """

    calm_s: float = 10_800.0
    stressed_s: float = 2_700.0
    volatility: float = 2.5
    volume: float = 1.8
    future_ticks: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, positive=("calm_s", "stressed_s", "volatility", "volume"))
        for name in ("volatility", "volume"):
            if getattr(self, name) < 1.0:
                raise InvalidInput(
                    "calms what it should stress",
                    field=f"VolatilityRegimes.{name}",
                    value=getattr(self, name),
                    remedy="pass a multiplier of at least 1",
                )
        ticks = self.future_ticks
        if isinstance(ticks, bool) or not isinstance(ticks, int) or ticks < 1:
            raise InvalidInput(
                "is not a number of ticks", field="VolatilityRegimes.future_ticks", value=ticks, remedy="pass 1 or more"
            )

    def switching(self, bucket_s: float) -> tuple[float, float]:
        """Return the probabilities of leaving the calm and the stressed state within one bucket."""
        return 1.0 - float(np.exp(-bucket_s / self.calm_s)), 1.0 - float(np.exp(-bucket_s / self.stressed_s))

    def stressed_share(self, bucket_s: float) -> float:
        """Return the stationary share of buckets in the stressed state."""
        enter, leave = self.switching(bucket_s)
        return enter / (enter + leave)

    def mean_square_volatility(self, bucket_s: float) -> float:
        """Return ``E[m²]`` of the volatility multiplier."""
        share = self.stressed_share(bucket_s)
        return 1.0 - share + share * self.volatility**2

    def mean_product(self, bucket_s: float) -> float:
        """Return ``E[m v]`` of the multipliers of volatility and volume."""
        share = self.stressed_share(bucket_s)
        return 1.0 - share + share * self.volatility * self.volume

    def volume_moment(self, bucket_s: float, lags: Array) -> Array:
        """Return ``E[v_t v_{t+h}] = v̄² + Var(v) λ^h``, ``λ = 1 − p − q``, at ``lags`` h in buckets, shape (L,)."""
        enter, leave = self.switching(bucket_s)
        share = self.stressed_share(bucket_s)
        mean = 1.0 + share * (self.volume - 1.0)
        variance = share * (1.0 - share) * (self.volume - 1.0) ** 2
        return np.asarray(mean**2 + variance * (1.0 - enter - leave) ** lags, dtype=np.float64)


def draw_states(
    parameters: VolatilityRegimes, bucket_s: float, count: int, seed: int, day: int, before: int | None
) -> NDArray[np.int64]:
    """Return the states of one session, 0 calm and 1 stressed, shape (count,).

    Parameters
    ----------
    parameters
        The chain.
    bucket_s, count
        Bucket length [s] and buckets of the session.
    seed, day
        Seed of the simulation and day number.
    before
        State at the previous session's close; None draws the first from the stationary law.

    Returns
    -------
    ndarray (count,)
    """
    switching = parameters.switching(bucket_s)
    if before is None:
        before = int(stream(seed, Part.MARKOV).uniform() < parameters.stressed_share(bucket_s))
    draws = stream(seed, Part.MARKOV, day).uniform(size=count)
    out = np.empty(count, dtype=np.int64)
    state = before
    for t, draw in enumerate(draws.tolist()):
        if draw < switching[state]:
            state = 1 - state
        out[t] = state
    return out
