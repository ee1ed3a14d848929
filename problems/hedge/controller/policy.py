"""The controller as a policy of the replay, so that what goes live is what was compared."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from crosswind.problems.hedge.controller.control import HedgeController
from crosswind.problems.hedge.controller.messages import HedgeDecision, HedgeObservation, OrderReport
from crosswind.problems.hedge.controller.model import HedgeInstrument, HedgeRank, HedgeSetup
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgeState, Rung
from crosswind.solvers.errors import InvalidInput

__all__ = ["ControlledHedge"]

_RUNGS = {
    HedgeRank.OPTIMAL: Rung.OPTIMAL,
    HedgeRank.CERTIFIED: Rung.OPTIMAL,
    HedgeRank.RELAXED: Rung.FEASIBLE,
    HedgeRank.FEASIBLE: Rung.FEASIBLE,
    HedgeRank.RULE: Rung.RULE,
    HedgeRank.IMMEDIATE: Rung.RULE,
    HedgeRank.HOLD: Rung.HOLD,
}
_LOT = 2.0**-36  # of the scale: the replay rounds to contracts itself


class ControlledHedge:
    """A :class:`HedgeController` with one future in currency, its set-up made from each parent's context.

    The replay keeps the account: held amounts, with orders in flight and the carried rounding, are taken over at each
    decision, and what past trades left in the price comes with the state's drift.

    Parameters
    ----------
    risk_aversion
        λ [1/currency], ≥ 0.
    horizon
        Slices looked ahead, ≥ 1.
    clip_share, rate_share, gap_cap_share
        Limits as shares of the parent's beta notional; inf: none.
    temporary
        η, cost ηu² [1/currency].
    engine
        As for the controller.
    settings
        Further fields of :class:`HedgeSetup`: regimes, thresholds of the ladder, ``work``.

    Raises
    ------
    InvalidInput
        For fields that the set-up refuses.
    """

    closes = True

    def __init__(
        self,
        risk_aversion: float,
        horizon: int = 20,
        clip_share: float = math.inf,
        rate_share: float = math.inf,
        gap_cap_share: float = math.inf,
        temporary: float = 0.0,
        engine: str = "auto",
        **settings: Any,
    ) -> None:
        self.risk_aversion, self.horizon, self.engine = risk_aversion, horizon, engine
        self.clip_share, self.rate_share, self.gap_cap_share = clip_share, rate_share, gap_cap_share
        self.temporary, self.settings = temporary, settings
        self.controller: HedgeController | None = None
        self.last: HedgeDecision | None = None
        self._setup(1.0, 60.0, 1e-8, np.zeros(0), np.zeros(0), 1.0, math.inf)

    def _setup(
        self, scale: float, dt_s: float, variance: float, rates: Any, own: Any, multiple: float, end_s: float
    ) -> HedgeSetup:
        future = HedgeInstrument(
            "hedge",
            lot=_LOT * scale,
            clip=self.clip_share * scale,
            rate=self.rate_share * scale,
            temporary=self.temporary,
        )
        given: dict[str, Any] = {
            "scale": scale,
            "risk_aversion": self.risk_aversion,
            "covariance_per_s": np.array([[variance]]),
            "dt_s": dt_s,
            "horizon": self.horizon,
            "decay_per_s": rates,
            "impact": own[:, None, None],
            "gap_cap": np.array(self.gap_cap_share * scale),
            "close_spread": multiple,
            "windows": ((end_s, math.inf),),  # what is left by then is the close's
        }
        try:
            return HedgeSetup((future,), **(given | self.settings))
        except TypeError as err:
            raise InvalidInput(
                str(err), field="settings", value=sorted(self.settings), remedy="use fields of HedgeSetup"
            ) from None

    def reset(self, context: HedgeContext) -> None:
        """Take a new parent's context."""
        variance, dt_s = context.beliefs.index_variance_per_s, float(np.median(context.dt_s))
        multiple = context.beliefs.close_spread_multiple
        end_s = (context.slices - 1e-6) * dt_s
        setup = self._setup(context.scale, dt_s, variance, context.rates_per_s, context.own, multiple, end_s)
        self.controller, self.last = HedgeController(setup, self.engine), None

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the controller's trade; never raises after :meth:`reset`."""
        if self.controller is None:
            raise InvalidInput("reset must come first", field="policy", value=type(self).__name__, remedy="call reset")
        # The order before is over for the controller: what came of it is in the amount held.
        before = () if self.last is None else tuple(OrderReport(o.id, 0.0, True) for o in self.last.orders)
        self.last = self.controller.step(
            HedgeObservation(
                time_s=state.slice * self.controller.setup.dt_s,
                required=(state.beta_q,),
                mid=(1.0,),
                half_spread=(state.half_spread,),
                plan=state.planned_beta_q[:, None],
                reports=before,
                linear=state.drift[:, None],
                position=(state.held,),
            )
        )
        trade = math.fsum(order.contracts for order in self.last.orders)
        return HedgeAction(trade, _RUNGS[self.last.rank], f"{self.last.rank.name}: {self.last.reason}")
