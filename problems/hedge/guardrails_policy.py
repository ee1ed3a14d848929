"""A policy behind guardrails: what it answers is bounded, downgraded and told, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from crosswind.problems.hedge.guardrails import Guardrails, Verdict
from crosswind.problems.hedge.guardrails_config import GuardrailConfig
from crosswind.problems.hedge.guardrails_latch import GuardEvent, Observation
from crosswind.problems.hedge.policies import AdaptiveTrigger
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgePolicy, HedgeState, Rung
from crosswind.solvers.errors import InvalidInput

__all__ = ["GuardedHedge"]

_OWN = {"time_ns", "gap", "proposed", "held", "rule"}


class GuardedHedge:
    """Any policy, with guardrails between it and the order.

    Parameters
    ----------
    policy
        Decides on the trade.
    config
        Guards; amounts are shares of the parent's beta notional, as the policies' clips are.
    threshold_bps
        Of the adaptive trigger that answers where the guards allow a rule at best; a basis shock multiplies it.
    observe
        State → further fields of :class:`crosswind.problems.hedge.guardrails_latch.Observation` (``basis``,
        ``regime``, ``data_age_s``, …); default none.

    Attributes
    ----------
    events, verdicts
        Of the present parent, in order.

    Raises
    ------
    InvalidInput
        For what is no policy or no settings.
    """

    def __init__(
        self,
        policy: HedgePolicy,
        config: GuardrailConfig,
        threshold_bps: float = 1.0,
        observe: Callable[[HedgeState], Mapping[str, Any]] | None = None,
    ) -> None:
        if not isinstance(policy, HedgePolicy):
            raise InvalidInput("not a hedge policy", field="policy", value=type(policy).__name__, remedy="see its text")
        self.policy, self.config, self.observe = policy, config, observe
        self._trigger = AdaptiveTrigger(threshold_bps)
        self._guards = Guardrails(config)
        self._starts_ns: list[int] = []
        self.events: list[GuardEvent] = []
        self.verdicts: list[Verdict] = []

    @property
    def closes(self) -> bool:
        """Whether the hedge is brought to ΣβQ at the close, as the policy says."""
        return self.policy.closes

    def reset(self, context: HedgeContext) -> None:
        """Take a new parent's context; all guards start anew."""
        self.policy.reset(context)
        self._trigger.reset(context)
        self._guards = Guardrails(self.config.scaled(context.scale))
        starts = np.concatenate([[0.0], np.cumsum(context.dt_s)])
        self._starts_ns = [round(float(s) * 1e9) for s in starts]
        self.events, self.verdicts = [], []

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the policy's trade within the guards; never raises."""
        try:
            return self._decide(state)
        except Exception as err:
            # A guard that fails must not let a trade through, nor stop the loop.
            return HedgeAction(0.0, Rung.HOLD, f"guardrails: {type(err).__name__}: {err}")

    def _decide(self, state: HedgeState) -> HedgeAction:
        try:
            action = self.policy.decide(state)
        except Exception as err:
            action = HedgeAction(float("nan"), Rung.HOLD, f"{type(err).__name__}: {err}")
        threshold = self._trigger.threshold_bps
        self._trigger.threshold_bps = threshold * self._guards.trigger_factor
        try:
            rule = self._trigger.decide(state)
        finally:
            self._trigger.threshold_bps = threshold
        seen = Observation(
            time_ns=self._starts_ns[state.slice],
            gap=state.gap,
            proposed=action.trade,
            held=state.held,
            rule=rule.trade if rule.rung is Rung.RULE else 0.0,
        )
        extra = dict(self.observe(state)) if self.observe is not None else {}
        unknown = _OWN & set(extra)
        if unknown:
            raise InvalidInput("are the policy's own", field="observe", value=sorted(unknown), remedy="leave them out")
        verdict = self._guards.check(replace(seen, **extra))
        self.events.extend(verdict.events)
        self.verdicts.append(verdict)
        rung = action.rung if verdict.rung is None else verdict.rung
        reason = "; ".join([action.reason, *verdict.reasons])
        return HedgeAction(verdict.trade, rung, reason)
