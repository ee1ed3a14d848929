"""What came of one order: fills, the five components, completion, and what the venue refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.regimes import RegimeTransition
from crosswind.problems.roll.replay.costs import COMPONENTS, RollFill

__all__ = ["RollReplay"]


@dataclass(frozen=True, eq=False)
class RollReplay:
    """Outcome of :func:`~crosswind.problems.roll.replay.kernel.replay_roll`; positive costs are money lost.

    Parameters
    ----------
    episode, policy, block, stress
        Labels.
    source
        Where the spread book comes from, as the market says it.
    size, side
        Of the order [spreads], ±1.
    first
        Bar of the first decision in its market.
    components
        The five costs [currency]; they sum to ``total``.
    total
        What the order cost against its arrival price, fees and the charge for a residual included [currency].
    fees
        Fees within ``spread_fees`` [currency].
    ledger_error
        Difference to a ledger that knows only fills, over the sum of the components' sizes.
    residual
        Spreads that the forced cross could not do.
    over_cap
        Whether that is more than the order's ``carry_cap``.
    forced
        Spreads, or second legs, that were crossed by force.
    most_naked
        Greatest imbalance of the legs that was open [contracts].
    most_replaces
        Greatest number of replaces within any 60 s.
    counts
        Messages, replaces, rejects, retries, abandoned messages, refusals by the anti-churn limits, messages cut on
        arrival, crosses that were partly filled, numbers of actions that were no counts.
    fills
        In the order of time.
    events
        When [ns since 1970 UTC] and what: 'replace' of the resting order, 'reject' by the venue, 'retry' after one.
    times
        Decision times, UTC (n,).
    remaining
        Spreads still to be done at each decision (n,).
    regimes
        Regime at each decision (n,).
    metrics
        Metrics at each decision, name → (n,).
    transitions
        Changes of regime with their causes, those before the start among them.
    """

    episode: str
    policy: str
    block: str
    stress: str
    source: str
    size: int
    side: int
    first: int
    components: dict[str, float]
    total: float
    fees: float
    ledger_error: float
    residual: int
    over_cap: bool
    forced: int
    most_naked: int
    most_replaces: int
    counts: dict[str, int]
    fills: tuple[RollFill, ...] = field(repr=False)
    times: pd.DatetimeIndex = field(repr=False)
    remaining: np.ndarray[Any, np.dtype[np.int64]] = field(repr=False)
    regimes: tuple[Regime, ...] = field(repr=False, default=())
    metrics: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = field(repr=False, default_factory=dict)
    transitions: tuple[RegimeTransition, ...] = field(repr=False, default=())
    events: tuple[tuple[int, str], ...] = field(repr=False, default=())

    def __getstate__(self) -> dict[str, Any]:
        # A transition's metrics do not pickle; replays come back from worker processes.
        return {**self.__dict__, "transitions": [change.to_dict() for change in self.transitions]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        back = {**state, "transitions": tuple(RegimeTransition.from_dict(row) for row in state["transitions"])}
        for name, value in back.items():
            object.__setattr__(self, name, value)

    @property
    def per_contract(self) -> float:
        """Total per spread of the order [currency]."""
        return self.total / self.size

    @property
    def completion(self) -> float:
        """Share of the order that was done by the cutoff, the forced cross included."""
        return 1.0 - self.residual / self.size

    @property
    def forced_share(self) -> float:
        """Share of the order that was crossed by force at the cutoff."""
        return self.forced / self.size

    @property
    def own_completion(self) -> float:
        """Share of the order that the policy did before the forced cross."""
        return 1.0 - (self.residual + self.forced) / self.size

    @property
    def lets(self) -> pd.DataFrame:
        """Legging exposure times: ``let_s`` [s], ``contracts``, ``cost`` (legging and impact of the leg) [currency]."""
        rows = [(f.let_s, abs(f.units), f.legging + f.impact + f.timing) for f in self.fills if f.let_s == f.let_s]
        return pd.DataFrame(rows, columns=["let_s", "contracts", "cost"])

    @property
    def regime_s(self) -> dict[Regime, int]:
        """Decisions spent in each regime."""
        return {regime: self.regimes.count(regime) for regime in dict.fromkeys(self.regimes)}

    def by_regime(self) -> dict[Regime, tuple[int, float]]:
        """Return regime → spreads, and cost [currency], of the fills whose decision was taken in it.

        Second legs add their cost to the regime in which the pair was decided; the forced cross belongs to the last
        one, a residual's charge to none.
        """
        out: dict[Regime, tuple[int, float]] = {}
        if not self.regimes:
            return out
        for fill in self.fills:
            regime = self.regimes[min(max(fill.decided - self.first, 0), len(self.regimes) - 1)]
            spreads, cost = out.get(regime, (0, 0.0))
            new = 0 if fill.let_s == fill.let_s else abs(fill.units)
            out[regime] = (spreads + new, cost + math.fsum(getattr(fill, name) for name in COMPONENTS))
        return out

    def to_frame(self) -> pd.DataFrame:
        """Return the fills: time (UTC) → the fields of :class:`~crosswind.problems.roll.replay.costs.RollFill`."""
        names = [item.name for item in fields(RollFill)]
        frame = pd.DataFrame([[getattr(fill, name) for name in names] for fill in self.fills], columns=names)
        index = pd.DatetimeIndex(frame.pop("time_ns").astype("int64"), tz="UTC", name="time")
        return frame.set_axis(index, axis=0)

    def row(self) -> dict[str, Any]:
        """Return the replay as one row of a table; costs per spread of the order [currency]."""
        return {
            "episode": self.episode,
            "policy": self.policy,
            "block": self.block,
            "stress": self.stress,
            "size": self.size,
            "side": self.side,
            "cost": self.per_contract,
            **{name: self.components[name] / self.size for name in COMPONENTS},
            "fees": self.fees / self.size,
            "completion": self.completion,
            "own_completion": self.own_completion,
            "forced_share": self.forced_share,
            "residual": self.residual,
            "over_cap": self.over_cap,
            "most_naked": self.most_naked,
            "most_replaces": self.most_replaces,
            **self.counts,
        }

    def summary(self) -> str:
        """Return what it cost, how it was done, and what was refused."""
        parts = ", ".join(f"{name} {value / self.size:+.3f}" for name, value in self.components.items())
        counts = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in self.counts.items() if value)
        kinds: dict[str, int] = {}
        for fill in self.fills:
            kinds[fill.kind] = kinds.get(fill.kind, 0) + abs(fill.units)
        lines = [
            f"{self.policy} on {self.episode} ({self.source}; {self.stress}): {self.size} spreads, "
            f"{self.per_contract:.3f} a spread (positive: money lost)",
            f"  {parts}",
            f"  done {self.completion:.1%}, by force {self.forced_share:.1%}, left {self.residual}"
            + (" — MORE THAN THE CARRY CAP" if self.over_cap else ""),
            "  contracts: " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()),
        ]
        if counts:
            lines.append(f"  {counts}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return remaining quantity, fills and regimes over time (plotly)."""
        from crosswind.problems.roll.replay.plots import replay_figure

        return replay_figure(self)
