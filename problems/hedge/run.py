"""One parent, one policy: replay, attribution and the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.attribution import Attribution, attribute
from crosswind.problems.hedge.leg import HedgeLeg
from crosswind.problems.hedge.model import HedgeBeliefs, HedgeParent
from crosswind.problems.hedge.state import HedgePolicy
from crosswind.problems.replay.kernel import replay
from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.problems.replay.policy import ScheduledPolicy
from crosswind.problems.replay.result import ReplayResult
from crosswind.problems.replay.venue import SimulatedVenue

__all__ = ["HedgeReplay", "replay_hedge"]


@dataclass(frozen=True, eq=False)
class HedgeReplay:
    """The hedge of one parent by one policy.

    Parameters
    ----------
    parent, policy
        The parent and the policy's label.
    notional
        Parent's gross notional at arrival [currency].
    attribution
        Components that were held against the ledger.
    decisions
        One row per decision: slice, gap, trade [currency], contracts, rung, reason.
    result
        The whole replay.
    """

    parent: HedgeParent
    policy: str
    notional: float
    attribution: Attribution
    decisions: pd.DataFrame
    result: ReplayResult

    @property
    def components(self) -> pd.Series:
        """cash, futures, lag, basis, cross, residual [currency]; positive: money lost."""
        return self.attribution.components

    @property
    def components_bps(self) -> pd.Series:
        """Components in bps of the parent's notional."""
        return self.components * (1e4 / self.notional)

    @property
    def net(self) -> float:
        """Net cost of the parent with its hedge [currency]."""
        return self.attribution.net

    @property
    def hedge_cost(self) -> float:
        """The part that depends on the hedge policy: futures + lag + basis + cross [currency]."""
        return float(self.components[["futures", "lag", "basis", "cross"]].sum())

    @property
    def futures_traded(self) -> float:
        """Gross notional of the hedge traded, at arrival prices [currency]."""
        market = self.result.market
        column = market.position_of(self.parent.hedge)
        contract = float(market.multiplier[column] * market.mid[0, column])
        return sum(abs(f.units) for f in self.result.fills if f.instrument == self.parent.hedge) * contract

    def _at_bounds(self, path: FloatArray) -> FloatArray:
        where = np.searchsorted(self.attribution.times_ns, self.result.market.times_ns)
        taken: FloatArray = path[where]
        return taken

    @property
    def gap(self) -> pd.Series:
        """G just after all events at each bound, (T+1,) [currency at arrival]."""
        return pd.Series(self._at_bounds(self.attribution.gap), index=self.result.market.times, name="gap")

    @property
    def held(self) -> pd.Series:
        """H just after all events at each bound, (T+1,) [currency at arrival]."""
        return pd.Series(self._at_bounds(self.attribution.held), index=self.result.market.times, name="held")

    def to_frame(self) -> pd.DataFrame:
        """Return gap, held and ΣβQ at the slice bounds (UTC) [currency at arrival]."""
        frame = pd.DataFrame({"gap": self.gap, "held": self.held})
        frame["beta_q"] = self._at_bounds(self.attribution.beta_q)
        return frame

    def summary(self) -> str:
        """Return a few lines of text."""
        parts = ", ".join(f"{name} {value:.2f}" for name, value in self.components_bps.items())
        rungs = self.decisions["rung"].value_counts().sort_index().to_dict()
        return (
            f"{self.parent.name} by {self.policy}: {self.net / self.notional * 1e4:.2f} bps of {self.notional:,.0f} "
            f"(positive: money lost)\n{parts}\nrungs {rungs}; components against the ledger: "
            f"{self.attribution.ledger_error:.1e} relative"
        )

    def plot(self) -> Any:
        """Return the waterfall of the components (plotly)."""
        from crosswind.problems.hedge.plots import cost_waterfall

        return cost_waterfall(self)


def replay_hedge(
    parent: HedgeParent,
    policy: HedgePolicy,
    market: ReplayMarket,
    beliefs: HedgeBeliefs,
    venue: SimulatedVenue | None = None,
    integer: bool = False,
    label: str | None = None,
) -> HedgeReplay:
    """Replay a parent's cash plan with one hedge policy and split the cost.

    Parameters
    ----------
    parent
        Plan, betas, hedge, index.
    policy
        Decides on the hedge.
    market
        Cash names, hedge and index over the parent's horizon.
    beliefs
        What the policy believes about risk and impact.
    venue
        True rules of execution; default: no latency, no impact.
    integer
        Whole contracts, with the rounding error carried.
    label
        Name of the policy in results; default its class name.

    Returns
    -------
    HedgeReplay

    Raises
    ------
    InvalidInput
        When parent and market do not fit.
    CrosswindError
        When components and ledger disagree.
    """
    parent.check(market)
    times = market.times[:-1]
    cash = ScheduledPolicy(pd.DataFrame(parent.executed_plan(market), index=times, columns=list(parent.names)))
    leg = HedgeLeg(parent, policy, beliefs, market, integer=integer)
    result = replay(market, {"cash": cash, "hedge": leg}, venue)
    return HedgeReplay(
        parent=parent,
        policy=type(policy).__name__ if label is None else label,
        notional=parent.notional(market),
        attribution=attribute(result, parent),
        decisions=leg.to_frame(),
        result=result,
    )
