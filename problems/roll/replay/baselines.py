"""Schedules that a desk would compare with: none of them looks at costs or tails."""

from __future__ import annotations

import numpy as np

from crosswind.problems.roll.model import RollAction, RollMarket, RollOrder, RollState
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "AdaptiveTwap",
    "AllEarly",
    "AllLate",
    "Legged",
    "PassiveThenCross",
    "TwapSpread",
    "VolumeFollowing",
]

_NOTHING = RollAction()


class _Paced:
    """A policy with slices of equal time; slice i of n ends when ``(n − i) / n`` of the bars are left."""

    name = "paced"

    def __init__(self, slice_s: float) -> None:
        self.slice_s = _positive(slice_s, "slice_s")
        self._bars = self._slices = 0
        self._size = 0

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last episode."""
        window_s = (order.cutoff - order.start).total_seconds()
        self._size = order.size
        self._slices = max(1, round(window_s / self.slice_s))
        self._bars = 0

    def _slice(self, state: RollState) -> tuple[int, bool]:
        """Return the number of the slice of the next bar, and whether that bar is its first."""
        if self._bars == 0:
            self._bars = state.bars_left
        gone = self._bars - state.bars_left
        number = gone * self._slices // self._bars
        first = gone == 0 or (gone - 1) * self._slices // self._bars < number
        return number, first

    def _due(self, number: int) -> int:
        """Return the spreads that should be done at the end of slice ``number``."""
        return (number + 1) * self._size // self._slices


class TwapSpread(_Paced):
    """Equal clips, each crossed in the spread book at the start of its slice.

    Parameters
    ----------
    slice_s
        Length of a slice [s].
    """

    name = "TWAP in the spread"

    def __init__(self, slice_s: float = 60.0) -> None:
        super().__init__(slice_s)

    def decide(self, state: RollState) -> RollAction:
        """Cross the slice's clip; what the book did not give is not asked for again before the cutoff."""
        number, first = self._slice(state)
        if not first:
            return _NOTHING
        clip = self._due(number) - (self._due(number - 1) if number else 0)
        return RollAction(cross=min(clip, state.remaining), reason="clip of the slice")


class AdaptiveTwap(_Paced):
    """The TWAP path, rested for; what is behind the path by more than a slice is crossed.

    In each slice what the path still asks for up to its end rests at the best price. What the last slice left unfilled
    is carried forward: it is crossed at the start of the next one. So the path is caught up once a slice, and the
    forced cross finds at most a clip.

    Parameters
    ----------
    slice_s
        Length of a slice [s].
    """

    name = "adaptive TWAP"

    def __init__(self, slice_s: float = 300.0) -> None:
        super().__init__(slice_s)

    def decide(self, state: RollState) -> RollAction:
        """Cross what the last slice left, rest what this one asks for."""
        number, first = self._slice(state)
        done = self._size - state.remaining
        behind = max(0, (self._due(number - 1) if number else 0) - done) if first else 0
        ahead = max(0, self._due(number) - done - behind)
        # In the last bar nothing is left to chance that the path owes.
        if state.bars_left == 1:
            return RollAction(cross=state.remaining, reason="end of the path")
        return RollAction(rest=ahead, cross=behind, reason="path")


class VolumeFollowing:
    """Cross a fixed share of what others trade in the spread, so that the path follows the market's volume.

    Parameters
    ----------
    participation
        Share of the others' volume; None sets it at the start so that the order would be done at the volume of the last
        ``look_back_s`` before.
    look_back_s
        [s].
    """

    name = "volume following"

    def __init__(self, participation: float | None = None, look_back_s: float = 900.0) -> None:
        self.participation = None if participation is None else _positive(participation, "participation")
        self.look_back_s = _positive(look_back_s, "look_back_s")
        self._share = self._owed = 0.0

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Set the share."""
        self._owed = 0.0
        if self.participation is not None:
            self._share = self.participation
            return
        bars = max(1, round(self.look_back_s / market.bar_s))
        pace = float(np.mean(market.volume[-bars:])) / market.bar_s
        expected = pace * (order.cutoff - order.start).total_seconds()
        self._share = min(1.0, order.size / expected) if expected > 0.0 else 1.0

    def decide(self, state: RollState) -> RollAction:
        """Cross the share of the last bar's volume, with the fractions carried forward."""
        market, bar = state.market, state.bar
        self._owed += self._share * float(market.sold[bar] + market.bought[bar])
        clip = int(self._owed)
        if clip <= 0:
            return _NOTHING
        self._owed -= clip
        return RollAction(cross=min(clip, state.remaining), reason="share of the volume")


class Legged(_Paced):
    """Equal clips through the legs: one crosses, the other rests for ``max_let_s`` and is crossed then.

    A clip is no larger than the order's ``max_naked``, so an order that allows none is left to the forced cross.

    Parameters
    ----------
    slice_s
        Length of a slice [s].
    max_let_s
        0 crosses both legs at once.
    """

    name = "legged"

    def __init__(self, slice_s: float = 60.0, max_let_s: float = 0.0) -> None:
        super().__init__(slice_s)
        if not (np.isfinite(max_let_s) and max_let_s >= 0.0):
            raise InvalidInput("is not a time", field="max_let_s", value=max_let_s, remedy="pass 0 or more seconds")
        self.max_let_s = float(max_let_s)

    def decide(self, state: RollState) -> RollAction:
        """Start what the path asks for and the legs have room for."""
        number, _ = self._slice(state)
        behind = self._due(number) - (self._size - state.remaining)
        if behind <= 0:
            return _NOTHING
        return RollAction(leg=behind, max_let_s=self.max_let_s, reason="path in the legs")


class AllEarly:
    """Cross everything at once, and again what the book did not give."""

    name = "all early"

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Nothing to forget."""

    def decide(self, state: RollState) -> RollAction:
        """Cross what is left."""
        return RollAction(cross=state.remaining, reason="all at once") if state.remaining else _NOTHING


class AllLate:
    """Cross everything in the last ``last_s`` before the cutoff.

    Parameters
    ----------
    last_s
        [s].
    """

    name = "all late"

    def __init__(self, last_s: float = 60.0) -> None:
        self.last_s = _positive(last_s, "last_s")

    def reset(self, order: RollOrder, market: RollMarket) -> None:
        """Nothing to forget."""

    def decide(self, state: RollState) -> RollAction:
        """Cross what is left when the time has come."""
        if state.remaining and state.bars_left * state.market.bar_s <= self.last_s + 1e-9:
            return RollAction(cross=state.remaining, reason="all late")
        return _NOTHING


class PassiveThenCross(_Paced):
    """Rest the clips of a TWAP path, and leave what is unfilled to the forced cross.

    Parameters
    ----------
    slice_s
        Length of a slice [s].
    """

    name = "passive, then the forced cross"

    def __init__(self, slice_s: float = 300.0) -> None:
        super().__init__(slice_s)

    def decide(self, state: RollState) -> RollAction:
        """Rest what the path asks for up to the end of the slice."""
        number, _ = self._slice(state)
        return RollAction(rest=max(0, self._due(number) - (self._size - state.remaining)), reason="path, resting")


def _positive(value: float, name: str) -> float:
    if isinstance(value, bool) or not np.isfinite(value) or value <= 0.0:
        raise InvalidInput("must be positive and finite", field=name, value=value, remedy="pass a positive number")
    return float(value)
