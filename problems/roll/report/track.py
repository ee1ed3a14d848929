"""What a desk knows of a roll at the end of a bar: the record that a report reads, of a replay or of a live order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.metrics import METRICS
from crosswind.problems.roll.model import FloatArray, Regime, RollMarket, RollOrder, RollState
from crosswind.problems.roll.regimes import RegimeTransition
from crosswind.problems.roll.replay import RollEpisode, RollFill, RollReplay
from crosswind.problems.roll.replay.views import see
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["RollTrack"]

_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class RollTrack:
    """The course of one roll up to the end of a bar; it holds nothing from after that.

    Make one of a replay with :meth:`of_replay`, of a live order with :meth:`of_states`.

    Parameters
    ----------
    market
        The session up to the bar.
    order
        The order.
    policy
        Who trades it, in words.
    first
        Bar of the first decision.
    arrival
        Arrival price of the spread [points].
    remaining
        Spreads still to be done at the end of the bars ``first`` … (n,).
    regimes
        Regime at the same bars; empty where nobody watched.
    metrics
        Name → value at the same bars (n,), NaN where not known.
    transitions, fills, events
        Changes of regime, fills, and (ns since 1970 UTC, 'replace' | 'reject' | 'retry'), all up to the bar.
    seed
        Of the replay; None live.

    Raises
    ------
    InvalidInput
        Where the columns do not fit the bars.
    """

    market: RollMarket = field(repr=False)
    order: RollOrder
    policy: str
    first: int
    arrival: float
    remaining: _Ints = field(repr=False)
    regimes: tuple[Regime, ...] = field(repr=False, default=())
    metrics: dict[str, FloatArray] = field(repr=False, default_factory=dict)
    transitions: tuple[RegimeTransition, ...] = field(repr=False, default=())
    fills: tuple[RollFill, ...] = field(repr=False, default=())
    events: tuple[tuple[int, str], ...] = field(repr=False, default=())
    seed: int | None = None

    def __post_init__(self) -> None:
        n = self.market.bars - self.first
        sizes = {"remaining": len(self.remaining), **{name: len(v) for name, v in self.metrics.items()}}
        if self.regimes:
            sizes["regimes"] = len(self.regimes)
        for name, size in sizes.items():
            if n < 1 or size != n:
                raise InvalidInput(
                    "is not one value per bar since the first decision",
                    field=name,
                    value=size,
                    remedy=f"pass {max(n, 1)} values: bars {self.first} to {self.market.bars - 1}",
                )

    @classmethod
    def of_replay(
        cls, episode: RollEpisode, replay: RollReplay, at: int | pd.Timestamp | str | None = None
    ) -> RollTrack:
        """Return what was known at a bar of a replay.

        Parameters
        ----------
        episode
            The replayed order.
        replay
            Its outcome.
        at
            Bar of the market, or a time (its last finished bar); default the cutoff, with the forced cross behind it.

        Raises
        ------
        InvalidInput
            If they do not belong together.
        DataGap
            For a bar before the first decision or after the cutoff.
        """
        if replay.episode != episode.name or len(replay.remaining) != episode.bars:
            raise InvalidInput(
                "is of another order", field="replay", value=replay.episode, remedy=f"replay {episode.name}"
            )
        bar = _bar(episode, at)
        ended = bar == episode.last
        n, until = bar - episode.first + 1, int(episode.market.times.asi8[bar])
        remaining, metrics = replay.remaining[:n], replay.metrics
        # Without a watch every bar is served as PRE_ROLL: that is not known, and must not look calm.
        regimes = replay.regimes[:n] if metrics else ()
        if ended:  # after the last decision: what the forced cross has left
            remaining = np.append(remaining, replay.residual)
            regimes = (*regimes, regimes[-1]) if regimes else ()
            metrics = {name: np.append(values, np.nan) for name, values in metrics.items()}
        return cls(
            market=see(episode.market, bar + 1),
            order=episode.order,
            policy=replay.policy,
            first=episode.first,
            arrival=episode.arrival,
            remaining=remaining,
            regimes=regimes,
            metrics={name: values[:n] for name, values in metrics.items()},
            transitions=tuple(t for t in replay.transitions if t.time.value <= until),
            # The forced cross bears the time of the cutoff, which is the end of its bar.
            fills=tuple(f for f in replay.fills if f.time_ns <= until and (ended or not f.kind.startswith("forced"))),
            events=tuple(e for e in replay.events if e[0] <= until),
            seed=episode.seed,
        )

    @classmethod
    def of_states(
        cls,
        states: Sequence[RollState],
        *,
        arrival: float | None = None,
        policy: str = "live",
        transitions: Sequence[RegimeTransition] = (),
        fills: Sequence[RollFill] = (),
        events: Sequence[tuple[int, str]] = (),
    ) -> RollTrack:
        """Return the record of a live order from the states that its policy was shown, one per bar.

        Parameters
        ----------
        states
            All since the first decision, in order; the last one's market is the session so far.
        arrival
            Arrival price [points]; default the spread's mid at the first state.
        policy
            Who trades.
        transitions, fills, events
            So far; what bears a later time than the last bar is not shown yet.

        Raises
        ------
        InvalidInput
            Without a state, or where bars are missing or repeat.
        """
        if not states:
            raise InvalidInput("are none", field="states", value=0, remedy="pass the states since the first decision")
        last, first = states[-1], states[0].bar
        bars = [state.bar for state in states]
        if bars != list(range(first, last.bar + 1)):
            at = next(i for i, bar in enumerate(bars) if bar != first + i)
            raise InvalidInput(
                "skips or repeats a bar", field=f"states[{at}]", value=bars[at], remedy=f"pass bar {first + at} there"
            )
        until = int(last.market.times.asi8[last.bar])
        names = [name for name in METRICS if any(name in state.metrics for state in states)]
        mid = 0.5 * float(last.market.bid[first] + last.market.ask[first])
        return cls(
            market=see(last.market, last.bar + 1),
            order=last.order,
            policy=policy,
            first=first,
            arrival=mid if arrival is None else float(arrival),
            remaining=np.array([state.remaining for state in states], dtype=np.int64),
            regimes=tuple(state.regime for state in states) if names else (),
            metrics={n: np.array([float(s.metrics.get(n, np.nan)) for s in states]) for n in names},
            transitions=tuple(t for t in transitions if t.time.value <= until),
            fills=tuple(f for f in fills if f.time_ns <= until),
            events=tuple(e for e in events if e[0] <= until),
        )

    @property
    def bar(self) -> int:
        """The last finished bar."""
        return self.market.bars - 1

    @property
    def times(self) -> pd.DatetimeIndex:
        """Bar ends since the first decision (n,), UTC."""
        return self.market.times[self.first :]

    @property
    def as_of(self) -> pd.Timestamp:
        """End of the last bar, UTC."""
        return self.market.times[-1]

    @property
    def bars_left(self) -> _Ints:
        """Whole bars until the cutoff at each bar (n,)."""
        left = (self.order.cutoff.value - self.times.asi8) / (1e9 * self.market.bar_s)
        return np.floor(np.maximum(left, 0.0) + 1e-9).astype(np.int64)

    @property
    def legs(self) -> tuple[int, int]:
        """Signed contracts of near and far that the fills add up to."""
        spread = sum(f.units for f in self.fills if f.instrument == "spread")
        near, far = (sum(f.units for f in self.fills if f.instrument == name) for name in ("near", "far"))
        return near - spread, far + spread


def _bar(episode: RollEpisode, at: int | pd.Timestamp | str | None) -> int:
    if at is None:
        return episode.last
    if isinstance(at, (int, np.integer)) and not isinstance(at, bool):
        bar = int(at)
    else:
        stamp = pd.Timestamp(at)
        if pd.isna(stamp) or stamp.tzinfo is None:
            raise InvalidInput("has no time zone", field="at", value=str(at), remedy="pass a tz-aware time or a bar")
        bar = int(episode.market.times.searchsorted(stamp, side="right")) - 1
    if not episode.first <= bar <= episode.last:
        times = episode.market.times
        raise DataGap(
            "lies outside the order",
            field="at",
            value=str(at),
            remedy=f"bars {episode.first} to {episode.last}, {times[episode.first]} to {times[episode.last]}",
        )
    return bar
