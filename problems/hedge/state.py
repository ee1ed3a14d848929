"""What a hedge policy decides on, what it answers, and the rungs of its answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np

from crosswind.problems.hedge.model import HedgeBeliefs
from crosswind.problems.replay.model import FloatArray

__all__ = ["HedgeAction", "HedgeContext", "HedgePolicy", "HedgeState", "Rung"]


class Rung(Enum):
    """How an action was found, best first; the member's text says what happened and what to do."""

    OPTIMAL = "the program was solved and our certificate passed: nothing to do"
    FEASIBLE = "the solver stopped early; its iterate kept the limits and beat the rule: watch the time limit"
    RULE = "the rule of the policy, or the adaptive rule in place of a failed solve: look at the solver when it repeats"
    HOLD = "no trade: an input was stale or not finite; repair the feed"
    CLOSE = "the closing trade at the end of the horizon: nothing to do"

    @property
    def text(self) -> str:
        """What happened and what to do."""
        return str(self.value)


@dataclass(frozen=True)
class HedgeContext:
    """What a hedge policy is told before the first slice.

    Parameters
    ----------
    slices
        Number of slices T.
    dt_s
        Length of each slice, (T,) [s].
    scale
        Parent's gross beta notional at arrival, Σ_i|β_i Q_i(0)| [currency], > 0: shares of limits refer to it.
    beliefs
        Risk and impact the desk believes in.
    rates_per_s, own
        Decay rate (M,) [1/s] and the hedge's own impact (M,) [return per currency] of each believed mode.
    """

    slices: int
    dt_s: FloatArray
    scale: float
    beliefs: HedgeBeliefs
    rates_per_s: FloatArray
    own: FloatArray


@dataclass(frozen=True)
class HedgeState:
    """What is known at the decision at slice start ``k``; amounts in currency at arrival.

    Parameters
    ----------
    slice
        k, from 0.
    beta_q
        ΣβQ of what is still to trade, before slice k's cash trades [currency].
    held
        Hedge on, including orders in flight and the rounding that is carried [currency].
    planned_beta_q
        ΣβQ after the cash trades of slices k..T−1 by the plan known now, (T−k,) [currency].
    half_spread
        Relative half-spread of the hedge expected for the coming trades [return].
    drift
        Cost per unit of hedge bought in slices k..T−1, (T−k,) [return]: the displacement left by past trades, that of
        the planned cash trades, and what the hedge adds to the price of later cash trades.
    """

    slice: int
    beta_q: float
    held: float
    planned_beta_q: FloatArray
    half_spread: float
    drift: FloatArray

    @property
    def gap(self) -> float:
        """G = ΣβQ − H [currency]."""
        return self.beta_q - self.held

    @property
    def finite(self) -> bool:
        """Whether every number is finite."""
        scalars = (self.beta_q, self.held, self.half_spread)
        arrays = (self.planned_beta_q, self.drift)
        return all(map(math.isfinite, scalars)) and all(bool(np.isfinite(a).all()) for a in arrays)


@dataclass(frozen=True)
class HedgeAction:
    """Signed hedge to trade now [currency at arrival], the rung it came from and a reason in words."""

    trade: float
    rung: Rung = Rung.RULE
    reason: str = ""


@runtime_checkable
class HedgePolicy(Protocol):
    """The contract of a hedge policy.

    ``closes`` says whether the hedge is brought to ΣβQ at the close; the closing trade itself is not the policy's work.
    """

    @property
    def closes(self) -> bool:
        """Whether G_T = 0 is enforced by the close."""

    def reset(self, context: HedgeContext) -> None:
        """Forget everything and take a new parent's context."""

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the trade of this slice."""
