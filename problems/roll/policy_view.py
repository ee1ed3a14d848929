"""What a roll's policy reads off the book at a decision: dislocation, fill and crossing rates, and how long to wait."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crosswind.problems.roll.model import RollState
from crosswind.problems.roll.program.statistics import RollStatistics

__all__ = ["Outlook", "RollView", "look"]

_CVAR95 = 2.0627128075074256  # φ(Φ⁻¹(0.95)) / 0.05: CVaR95 of a standard normal
_GRID_S = np.array([0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 360.0, 480.0, 720.0, 960.0, 1440.0, 1920.0, 2880.0, 5760.0])


@dataclass(frozen=True, slots=True)
class RollView:
    """The book in the order's units: prices with its side, so that more is worse.

    Attributes
    ----------
    dislocation
        Spread's mid less its mean over the reference window, against the order > 0 [points].
    width
        Quoted width [points].
    own, other
        Displayed at the best price on the order's side, and on that which it crosses [contracts].
    fills
        Contracts a second that resting would fill, with the display that is allowed.
    crosses
        Contracts a second that crossing takes at the best price as it refills.
    stress
        Quoted width over what is usual, >= 1.
    behind
        Ticks by which the best price has left the resting order behind; 0 without one.
    left_s
        Time until the cutoff [s].
    pressure
        Remaining over what resting and crossing can do until then.
    """

    dislocation: float
    width: float
    own: float
    other: float
    fills: float
    crosses: float
    stress: float
    behind: float
    left_s: float
    pressure: float


def look(state: RollState, numbers: RollStatistics, *, display: float, reference_s: float, flow_s: float) -> RollView:
    """Return the view of a state; nothing after its bar is read.

    The fill rate: an order that joins has the share ``queue`` of the displayed size ahead. Flow ``f`` against its side
    and cancellations bring it to the front after ``queue · own / (f + ½ cancel · queue · own)``; so a display ``D``
    turns over ``min(f, D / wait)`` contracts a second.

    Parameters
    ----------
    state
        The state.
    numbers
        Of past rolls.
    display
        Share of the own side's size that may rest.
    reference_s, flow_s
        Windows of the price reference and of the flow [s].
    """
    market, k, side = state.market, state.bar, state.order.side
    bar_s, tick = market.bar_s, numbers.tick
    bid, ask = float(market.bid[k]), float(market.ask[k])
    first = max(0, k + 1 - max(1, round(reference_s / bar_s)))
    usual = 0.5 * float(market.bid[first : k + 1].mean() + market.ask[first : k + 1].mean())
    own, other = float(market.bid_size[k]), float(market.ask_size[k])
    flow = market.sold if side > 0 else market.bought
    if side < 0:
        own, other = other, own
    first = max(0, k + 1 - max(1, round(flow_s / bar_s)))
    hit = float(flow[first : k + 1].mean()) / bar_s
    ahead = numbers.queue * own
    wait = ahead / max(hit + 0.5 * numbers.cancel_per_s * ahead, 1e-9)
    fills = min(hit, max(1.0, display * own) / max(wait, bar_s))
    refill = 1.0 - 0.5 ** (bar_s / numbers.refill_half_life_s)
    crosses = numbers.share * other * refill / bar_s
    left_s = max(0.0, state.bars_left * bar_s)
    behind = 0.0
    if state.working > 0 and math.isfinite(state.resting_price):
        best = bid if side > 0 else ask
        behind = max(0.0, side * (best - state.resting_price) / tick)
    can = (fills + crosses) * left_s
    return RollView(
        dislocation=side * (0.5 * (bid + ask) - usual),
        width=ask - bid,
        own=own,
        other=other,
        fills=fills,
        crosses=crosses,
        stress=max(1.0, (ask - bid) / (numbers.width_ticks * tick)),
        behind=behind,
        left_s=left_s,
        pressure=state.remaining / can if can > 0.0 else math.inf,
    )


class Outlook:
    r"""How long the last contract in the queue should wait before crossing is the better choice.

    A contract that waits for ``τ`` seconds and then fills at rest, against one that crosses now, saves the share ``e``
    of the quoted width ``w`` (``1 − e`` is lost to adverse selection) and the expected reversion of the dislocation
    ``d``, and bears the tail of the basis:

    .. math:: g(τ) = λ κ s(τ) − θ d (1 − 2^{−τ/H}) − e w,

    .. math:: s²(τ) = σ² z² (1 − 4^{−τ/H}) + ν J² \frac{H_J}{2 \ln 2} (1 − 4^{−τ/H_J}),

    with ``σ, H`` the basis noise (Ornstein-Uhlenbeck) and its half-life, ``z`` the stress, ``ν, J, H_J`` the rate,
    size and half-life of shocks, ``κ = φ(Φ⁻¹(.95))/.05`` the CVaR95 of a standard normal and ``λ`` the weight of the
    tail. The patience is the least ``τ`` at which ``g ≥ 0``; the basis is the design's, state-dependent with shocks.

    Parameters
    ----------
    numbers
        Of past rolls.
    edge
        e.
    reversion
        θ.
    """

    def __init__(self, numbers: RollStatistics, edge: float, reversion: float) -> None:
        self.edge, self.reversion = edge, reversion
        decay = 0.5 ** (_GRID_S / numbers.noise_half_life_s)
        jumps = 0.25 ** (_GRID_S / numbers.jump_half_life_s)
        rate = numbers.jumps_per_hour / 3600.0
        self._gone = 1.0 - decay
        self._noise = numbers.noise_points**2 * (1.0 - decay * decay)
        scale = numbers.jump_half_life_s / (2.0 * math.log(2.0))
        self._shocks = rate * numbers.jump_points**2 * scale * (1.0 - jumps)

    def spread_points(self, stress: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return s(τ) on the grid of waiting times [points]."""
        risk: np.ndarray[tuple[int], np.dtype[np.float64]] = np.sqrt(self._noise * stress * stress + self._shocks)
        return risk

    def patience_s(self, view: RollView, tail: float) -> float:
        """Return the patience [s]; inf where waiting never costs more than crossing.

        Parameters
        ----------
        view
            The book.
        tail
            λ.
        """
        worse = tail * _CVAR95 * self.spread_points(view.stress)
        worse -= self.reversion * view.dislocation * self._gone + self.edge * view.width
        beyond = np.flatnonzero(worse >= 0.0)
        if not len(beyond):
            return math.inf
        at = int(beyond[0])
        if at == 0:
            return 0.0
        low, high = float(worse[at - 1]), float(worse[at])
        return float(_GRID_S[at - 1] + (_GRID_S[at] - _GRID_S[at - 1]) * -low / (high - low))
