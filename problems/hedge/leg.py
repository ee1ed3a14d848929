"""The hedge leg: turns a hedge policy into a policy of the replay.

At each decision it reads the causal view only: own fills before now, the quoted future, the plan known now. It builds
the :class:`HedgeState`, asks the policy, rounds to whole contracts where asked (the rounding error is carried to the
next decision) and sends the order. At the close it brings the hedge to ΣβQ_T for every policy that closes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crosswind.problems.hedge.model import HedgeBeliefs, HedgeParent
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgePolicy, HedgeState, Rung
from crosswind.problems.replay.model import FloatArray, Order, ReplayMarket
from crosswind.problems.replay.policy import Decision, PolicyContext
from crosswind.problems.replay.view import MarketView
from crosswind.solvers.errors import InvalidInput

__all__ = ["HedgeLeg", "LegRecord"]


@dataclass(frozen=True, slots=True)
class LegRecord:
    """One decision: slice, gap before it and trade [currency at arrival], contracts sent, rung and reason."""

    slice: int
    gap: float
    trade: float
    contracts: float
    rung: Rung
    reason: str


class HedgeLeg:
    """A replay policy that hedges one parent.

    Parameters
    ----------
    parent
        The parent; of its plan only what is known at each decision is read.
    policy
        Decides on the trade.
    beliefs
        Risk and impact the desk believes in.
    market
        Only its arrival mids and multipliers are read, which are known at the first decision.
    integer
        Trade whole contracts.

    Attributes
    ----------
    records
        One :class:`LegRecord` per decision.
    """

    def __init__(
        self,
        parent: HedgeParent,
        policy: HedgePolicy,
        beliefs: HedgeBeliefs,
        market: ReplayMarket,
        integer: bool = False,
    ) -> None:
        self.parent, self.policy, self.beliefs, self.integer = parent, policy, beliefs, integer
        self._future = market.position_of(parent.hedge)
        self._columns = [market.position_of(name) for name in parent.names]
        self._row = {name: row for row, name in enumerate(parent.names)}
        self._contract = float(market.multiplier[self._future] * market.mid[0, self._future])
        self._arrival, self._beta = parent.arrival(market), parent.beta
        self._plans = {k: parent.known_plan(k, market) for k in [0, *(revision.slice for revision in parent.revisions)]}
        self._rates, self._own, self._cross = beliefs.coupling(parent.hedge, parent.names)
        self.records: list[LegRecord] = []

    def reset(self, context: PolicyContext) -> None:
        """Start a new replay."""
        self.records = []
        self._carry, self._seen = 0.0, 0
        self._state_future = np.zeros(len(self._rates))
        self._state_cash = np.zeros((len(self._rates), len(self._columns)))
        self._at_ns = int(context.times.asi8[0])
        self._times_s = (context.times.asi8 - context.times.asi8[0]) / 1e9
        starts = self._times_s[:-1]
        self._fading = np.exp(-self._rates[:, None, None] * np.abs(starts[:, None] - starts[None, :]))
        plan = self._plans[0]
        scale = float(np.abs(plan.sum(axis=0) * self._arrival * self._beta).sum())
        if scale == 0.0:
            scale = float(np.abs(plan * (self._arrival * self._beta)).sum())
        if scale == 0.0:
            raise InvalidInput(
                "the plan has no beta to hedge",
                field=f"betas of {self.parent.name}",
                value=0.0,
                remedy="do not hedge it",
            )
        dt_s: FloatArray = np.diff(self._times_s)
        self.policy.reset(HedgeContext(len(plan), dt_s, scale, self.beliefs, self._rates, self._own))

    def decide(self, view: MarketView) -> Decision:
        """Return the hedge order of this slice, or the closing one."""
        plan = self._plans[max(k for k in self._plans if k <= view.slice)]
        remaining = plan.sum(axis=0) - view.positions[self._columns]
        flying = view.in_flight[self._columns]
        on = float(view.positions[self._future] + view.in_flight[self._future])
        if view.closing:
            # The close fills what is in flight together with this order, so the gap after it counts that as done.
            target = float(((remaining - flying) * self._arrival) @ self._beta) / self._contract
            return self._close(view.slice, target, on)
        state = self._state(view, plan, remaining, on)
        action = self.policy.decide(state)
        wanted = action.trade / self._contract
        if not math.isfinite(wanted):
            action, wanted = HedgeAction(0.0, Rung.HOLD, "policy answered with a number that is not finite"), 0.0
        contracts = wanted
        if self.integer:
            ideal = on + self._carry + wanted
            contracts = float(np.rint(ideal)) - on
            self._carry = ideal - float(np.rint(ideal))
        return self._send(LegRecord(view.slice, state.gap, action.trade, contracts, action.rung, action.reason))

    def _close(self, k: int, target: float, on: float) -> Decision:
        if not self.policy.closes:
            return ()
        contracts = (float(np.rint(target)) if self.integer else target) - on
        gap = (target - on) * self._contract
        return self._send(LegRecord(k, gap, contracts * self._contract, contracts, Rung.CLOSE, "close"))

    def _send(self, record: LegRecord) -> Decision:
        self.records.append(record)
        if record.contracts == 0.0:
            return ()
        return [Order(self.parent.hedge, record.contracts, tag=record.rung.name)]

    def _state(self, view: MarketView, plan: FloatArray, remaining: FloatArray, on: float) -> HedgeState:
        k, beta = view.slice, self._beta
        self._absorb(view)
        mid, half = view.mid_on(k)[self._future], view.half_spread_on(k)[self._future]
        quoted = float(half / mid) if self.beliefs.half_spread is None else self.beliefs.half_spread
        coming = plan[k:] * self._arrival
        # Orders in flight will be filled besides the plan's; they are counted with the first slice.
        flying = view.in_flight[self._columns] * self._arrival
        if self.parent.fills is not None:
            coming = self.parent.pace.coming(coming, remaining * self._arrival - flying)
        beta_q = float((remaining * self._arrival) @ beta)
        planned = beta_q - float(flying @ beta) - np.cumsum(coming @ beta)
        return HedgeState(
            slice=k,
            beta_q=beta_q,
            held=(on + self._carry) * self._contract,
            planned_beta_q=planned,
            half_spread=quoted,
            drift=self._drift(k, coming),
        )

    def _absorb(self, view: MarketView) -> None:
        """Carry the believed impact states to now, with the fills that have become visible."""
        now = int(view.times.asi8[view.slice])
        for fill in view.fills[self._seen :]:
            self._decay(fill.time_ns)
            notional = fill.units * fill.multiplier * fill.mid
            if fill.instrument == self.parent.hedge:
                self._state_future += notional
            elif fill.instrument in self._row:
                self._state_cash[:, self._row[fill.instrument]] += notional
        self._seen = len(view.fills)
        self._decay(now)

    def _decay(self, time_ns: int) -> None:
        decay = np.exp(-self._rates * ((time_ns - self._at_ns) / 1e9))
        self._state_future, self._state_cash = self._state_future * decay, self._state_cash * decay[:, None]
        self._at_ns = time_ns

    def _drift(self, k: int, coming: FloatArray) -> FloatArray:
        """Return the linear cost of buying the hedge in slices k..T−1, (T−k,) [return].

        a_s = Σ_m [ K_FF z_F ρ_s + K_FC z_C ρ_s + Σ_{r≠s} ρ_{|s−r|} K_FC u_r + K_FC u_s ], with u the planned cash
        trades: for r < s what they do to the future's price, for r > s what the hedge adds to theirs (K is
        symmetric), and half of each at r = s.
        """
        drift = np.zeros(len(coming))
        for m, fading in enumerate(self._fading):
            left = self._own[m] * self._state_future[m] + float(self._cross[m] @ self._state_cash[m])
            drift += left * fading[k, k:] + fading[k:, k:] @ (coming @ self._cross[m])
        return drift

    def to_frame(self) -> pd.DataFrame:
        """Return the decisions, one row each."""
        names = ["slice", "gap", "trade", "contracts", "rung", "reason"]
        rows = [[r.slice, r.gap, r.trade, r.contracts, r.rung.name, r.reason] for r in self.records]
        return pd.DataFrame(rows, columns=names)
