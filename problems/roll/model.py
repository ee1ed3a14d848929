"""What a roll is: the order, the market that it meets bar by bar, what a policy sees and what it may ask for.

Signs: a *spread* is the calendar spread far − near. A quantity > 0 buys spreads, that is sells the near and buys the
far leg, and so rolls a long position forward; < 0 rolls a short one. Prices are in points, sizes in contracts (one
spread is one contract of each leg), costs in currency, positive: money lost.

Bars are stamped at their end. A decision at the end of bar k sees bars 0 … k and is executed in bar k + 1 or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.market.checks import as_utc
from crosswind.solvers.errors import InvalidInput

__all__ = ["FloatArray", "Regime", "RollAction", "RollMarket", "RollOrder", "RollPolicy", "RollState"]

FloatArray = NDArray[np.float64]
_NOTHING: Mapping[str, float] = MappingProxyType({})


class Regime(Enum):
    """State of the roll day; the value is the colour of the panel."""

    PRE_ROLL = "green"
    CROWDED = "amber"
    BASIS_STRESS = "red"
    DEADLINE = "safe"


@dataclass(frozen=True)
class RollOrder:
    """A position to be taken from the near into the far expiry.

    Parameters
    ----------
    name
        Its name in reports.
    quantity
        Spreads, whole and not zero: > 0 buys far and sells near.
    start, cutoff
        Tz-aware; the order may trade in bars that end in (start, cutoff]. What is open at the cutoff is crossed by
        force.
    max_naked
        Greatest imbalance of the legs at any time [contracts].
    carry_cap
        Spreads that may stay undone after the cutoff's forced cross, because the book has no more [contracts].

    Raises
    ------
    InvalidInput
        For a zero or fractional quantity, naive or reversed times, negative caps.
    """

    name: str
    quantity: int
    start: pd.Timestamp
    cutoff: pd.Timestamp
    max_naked: int = 0
    carry_cap: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantity", _whole(self.quantity, "quantity"))
        if self.quantity == 0:
            raise InvalidInput("rolls nothing", field="quantity", value=0, remedy="pass a whole number other than zero")
        for name in ("start", "cutoff"):
            object.__setattr__(self, name, as_utc(getattr(self, name), name))
        if not self.start < self.cutoff:
            raise InvalidInput(
                "is not after the start", field="cutoff", value=(str(self.start), str(self.cutoff)), remedy="swap them"
            )
        for name in ("max_naked", "carry_cap"):
            value = _whole(getattr(self, name), name)
            if value < 0:
                raise InvalidInput("is negative", field=name, value=value, remedy="pass 0 or more")
            object.__setattr__(self, name, value)

    @property
    def side(self) -> int:
        """+1 buys spreads, −1 sells them."""
        return 1 if self.quantity > 0 else -1

    @property
    def size(self) -> int:
        """Spreads to be done, > 0."""
        return abs(self.quantity)


@dataclass(frozen=True, eq=False)
class RollMarket:
    """Books of both legs and of the calendar spread on one time axis, B bars of one session.

    Parameters
    ----------
    times
        Bar ends (B,), UTC, strictly increasing.
    bar_s
        Length of a bar [s].
    bid, ask, bid_size, ask_size
        Best quotes of the spread at the bars' ends (B,) [points, contracts]; bid < ask.
    sold, bought
        Spreads that aggressors sold to the bid and bought from the ask within the bar (B,) [contracts].
    cancelled
        Displayed contracts that were withdrawn within the bar, (B, 2): bid, ask.
    leg_bid, leg_ask, leg_bid_size, leg_ask_size, leg_volume
        The same of the legs, (B, 2): near, far.
    tick, leg_tick
        Price steps of the spread and of the legs [points].
    multiplier
        Currency per point and contract.
    legs
        Names of near and far.
    source
        Where the spread book comes from, in words: it is printed with every result ("simulated listed spread",
        "synthesised from the legs").

    Raises
    ------
    InvalidInput
        For arrays of other shapes, values that are not finite, crossed or locked quotes, times that do not increase.
    """

    times: pd.DatetimeIndex
    bar_s: float
    bid: FloatArray
    ask: FloatArray
    bid_size: FloatArray
    ask_size: FloatArray
    sold: FloatArray
    bought: FloatArray
    cancelled: FloatArray
    leg_bid: FloatArray
    leg_ask: FloatArray
    leg_bid_size: FloatArray
    leg_ask_size: FloatArray
    leg_volume: FloatArray
    tick: float
    leg_tick: float
    multiplier: float
    legs: tuple[str, str]
    source: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        times = self.times
        if not isinstance(times, pd.DatetimeIndex) or times.tz is None or len(times) == 0:
            raise InvalidInput(
                "is not a tz-aware DatetimeIndex with a bar",
                field="times",
                value=type(times).__name__,
                remedy="localise",
            )
        object.__setattr__(self, "times", times.tz_convert("UTC").as_unit("ns"))
        if not self.times.is_monotonic_increasing or self.times.has_duplicates:
            at = int(np.argmax(np.diff(self.times.asi8) <= 0)) + 1
            raise InvalidInput(
                "do not increase", field="times", value=str(self.times[at]), remedy="sort the bars and drop doubles"
            )
        bars = len(times)
        for name in ("bid", "ask", "bid_size", "ask_size", "sold", "bought"):
            self._hold(name, (bars,), lower=None if name in ("bid", "ask") else 0.0)
        for name in ("cancelled", "leg_bid", "leg_ask", "leg_bid_size", "leg_ask_size", "leg_volume"):
            self._hold(name, (bars, 2), lower=None if name in ("leg_bid", "leg_ask") else 0.0)
        for low, high in (("bid", "ask"), ("leg_bid", "leg_ask")):
            crossed = getattr(self, low) >= getattr(self, high)
            if crossed.any():
                at = int(np.argwhere(crossed)[0][0])
                raise InvalidInput(
                    f"crossed or locked in {int(crossed.sum())} places, first at {self.times[at]}",
                    field=low,
                    value=(np.ravel(getattr(self, low)[at])[0], np.ravel(getattr(self, high)[at])[0]),
                    remedy="drop those bars or repair the quotes",
                )
        for name in ("bar_s", "tick", "leg_tick", "multiplier"):
            value = float(getattr(self, name))
            if not (np.isfinite(value) and value > 0.0):
                raise InvalidInput("must be positive and finite", field=name, value=value, remedy="see the contract")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    def _hold(self, name: str, shape: tuple[int, ...], lower: float | None) -> None:
        array = np.array(getattr(self, name), dtype=np.float64)
        if array.shape != shape:
            raise InvalidInput("is of another shape", field=name, value=array.shape, remedy=f"pass {shape}")
        bad = ~np.isfinite(array) if lower is None else ~(np.isfinite(array) & (array >= lower))
        if bad.any():
            at = tuple(int(k) for k in np.argwhere(bad)[0])
            raise InvalidInput(
                f"missing, infinite or negative in {int(bad.sum())} places, first at {self.times[at[0]]}",
                field=name,
                value=float(array[at]),
                remedy="drop those bars, or fill them and say so",
            )
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def __getstate__(self) -> dict[str, Any]:
        # A mapping proxy does not pickle; markets go to worker processes.
        return {**self.__dict__, "facts": dict(self.facts)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, MappingProxyType(value) if name == "facts" else value)

    @property
    def bars(self) -> int:
        """Number of bars."""
        return len(self.times)

    @property
    def mid(self) -> FloatArray:
        """½ (bid + ask) of the spread (B,) [points]."""
        middle: FloatArray = 0.5 * (self.bid + self.ask)
        return middle

    @property
    def leg_mid(self) -> FloatArray:
        """½ (bid + ask) of the legs (B, 2) [points]."""
        middle: FloatArray = 0.5 * (self.leg_bid + self.leg_ask)
        return middle

    @property
    def volume(self) -> FloatArray:
        """Spreads traded by others in each bar (B,) [contracts]."""
        total: FloatArray = self.sold + self.bought
        return total


@dataclass(frozen=True)
class RollState:
    """What a policy sees at a decision; nothing in it is from after the bar.

    Parameters
    ----------
    bar
        Index k of the last finished bar; the arrays of ``market`` may be read up to and including it.
    market
        The market, cut off after bar ``bar``.
    order
        The order.
    remaining
        Spreads still to be done, ≥ 0: what neither leg has traded, nor is under way.
    naked
        Imbalance of the legs, far done + near done in signed contracts: ≠ 0 while a legged spread waits for its second
        leg.
    naked_s
        For how long it has been open [s].
    working
        Spreads resting in the spread book, and how many stand ahead of them.
    ahead
        Contracts ahead of the resting order.
    resting_price
        Its price [points]; NaN without one.
    bars_left
        Bars until the cutoff.
    regime
        Regime of the day at this bar.
    metrics
        ``rpc``, ``cde``, ``bdz``, ``let_s``, ``rdp``; NaN where not known yet.
    replaces_last_minute
        Times that the resting order was moved or cancelled within the last 60 s.
    """

    bar: int
    market: RollMarket
    order: RollOrder
    remaining: int
    naked: int = 0
    naked_s: float = 0.0
    working: int = 0
    ahead: int = 0
    resting_price: float = float("nan")
    bars_left: int = 0
    regime: Regime = Regime.PRE_ROLL
    metrics: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    replaces_last_minute: int = 0


@dataclass(frozen=True)
class RollAction:
    """What a policy asks for; the replay cuts it to what order, venue and anti-churn limits allow.

    Parameters
    ----------
    rest
        Spreads that are to rest at the best price of the order's own side, ≥ 0; the working order is enlarged, cut or
        moved to it.
    cross
        Spreads to take from the other side now, ≥ 0.
    leg
        Spreads to start in the legs now, ≥ 0: the leg with less displayed crosses at once, the other rests and is
        crossed when ``max_let_s`` has passed.
    max_let_s
        Greatest legging exposure time of the legs started now [s]; 0 crosses both at once.
    reprice
        Whether a resting order whose price is no longer the best may be moved; it loses its place.
    reason
        Why, in words.
    """

    rest: int = 0
    cross: int = 0
    leg: int = 0
    max_let_s: float = 0.0
    reprice: bool = True
    reason: str = ""


@runtime_checkable
class RollPolicy(Protocol):
    """What decides in a roll: reset at the start of an episode, then asked once a bar."""

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last episode. ``market`` holds only what is known before the start."""
        ...

    def decide(self, state: RollState) -> RollAction:
        """Return the action for the next bar."""
        ...


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise InvalidInput("is not a whole number", field=name, value=value, remedy="pass contracts as an integer")
    return int(value)
