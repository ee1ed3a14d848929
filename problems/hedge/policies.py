"""Rules for the timing of a hedge, from none to a marginal-cost rule.

Clips and thresholds are shares of the parent's beta notional, so that one tuned value serves parents of any size. A
rule that meets an input that is not finite holds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgeState, Rung
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "AdaptiveTrigger",
    "BatchedHedge",
    "FractionHedge",
    "ImmediateHedge",
    "MarginalRule",
    "NoHedge",
    "PlanHedge",
]


def _checked(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    number = float(value)
    if math.isnan(number) or not low <= number <= high or (open_low and number == low):
        raise InvalidInput(
            f"must lie in {'(' if open_low else '['}{low:g}, {high:g}]",
            field=name,
            value=value,
            remedy="see the class's text for the unit",
        )
    return number


class _Rule(ABC):
    """Clip and context that all rules share; a rule adds its decision."""

    closes = True

    def __init__(self, clip_share: float = math.inf) -> None:
        self.clip_share = _checked("clip_share", clip_share, 0.0, open_low=True)
        self._context: HedgeContext | None = None

    def reset(self, context: HedgeContext) -> None:
        """Take a new parent's context."""
        self._context = context

    @property
    def context(self) -> HedgeContext:
        """The context of the present parent; InvalidInput before the first reset."""
        if self._context is None:
            raise InvalidInput("reset must come first", field="policy", value=type(self).__name__, remedy="call reset")
        return self._context

    @abstractmethod
    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the trade of this slice."""

    def _act(self, trade: float, reason: str) -> HedgeAction:
        if not math.isfinite(trade):
            return HedgeAction(0.0, Rung.HOLD, "input not finite")
        clip = self.clip_share * self.context.scale
        return HedgeAction(float(np.clip(trade, -clip, clip)), Rung.RULE, reason)


class NoHedge(_Rule):
    """P0: never trade, so that lag is the whole ΣβQ·ΔX; the gap at the end is ΣβQ_T."""

    closes = False

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return no trade."""
        return HedgeAction(0.0, Rung.RULE, "no hedge")


class ImmediateHedge(_Rule):
    """P1: close the whole gap at every slice start, h = G, within the clip.

    Parameters
    ----------
    clip_share
        Greatest trade per slice as a share of the parent's beta notional; inf: none.
    """

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the gap."""
        return self._act(state.gap, "gap")


class BatchedHedge(_Rule):
    """P2: close the whole gap every ``every`` slices, beginning with the first.

    Parameters
    ----------
    every
        Slices between two hedges, >= 1.
    clip_share
        As in :class:`ImmediateHedge`.
    """

    def __init__(self, every: int, clip_share: float = math.inf) -> None:
        super().__init__(clip_share)
        self.every = int(_checked("every", every, 1))

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the gap in every ``every``-th slice."""
        due = state.slice % self.every == 0
        return self._act(state.gap, "batch") if due else HedgeAction(0.0, Rung.RULE, "between batches")


class _FractionRule(_Rule):
    """A rule with one share φ in (0, 1]."""

    def __init__(self, fraction: float, clip_share: float = math.inf) -> None:
        super().__init__(clip_share)
        self.fraction = _checked("fraction", fraction, 0.0, 1.0, open_low=True)


class FractionHedge(_FractionRule):
    """BF: close a fixed fraction of the gap each slice, h = φG.

    Parameters
    ----------
    fraction
        φ in (0, 1].
    clip_share
        As in :class:`ImmediateHedge`.
    """

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the fraction of the gap."""
        return self._act(self.fraction * state.gap, "fraction of the gap")


class PlanHedge(_FractionRule):
    """BS: trade with the plan and correct a fraction of the deviation, h = ΔΣβQ_plan + φG.

    Parameters
    ----------
    fraction
        φ in (0, 1].
    clip_share
        As in :class:`ImmediateHedge`.
    """

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the planned change of ΣβQ in this slice and the fraction of the gap."""
        planned = float(state.planned_beta_q[0]) - state.beta_q
        return self._act(planned + self.fraction * state.gap, "plan and fraction of the gap")


class AdaptiveTrigger(_Rule):
    """P3b: close the gap when its risk over the coming slice exceeds a threshold.

    Trade h = G when |G|·σ·√Δt > k·1e-4·scale, with σ² the index variance per second and ``scale`` the parent's beta
    notional; else wait.

    Parameters
    ----------
    threshold_bps
        k, one standard deviation of the gap's value over a slice [bps of the parent's beta notional], >= 0.
    clip_share
        As in :class:`ImmediateHedge`.
    """

    def __init__(self, threshold_bps: float, clip_share: float = math.inf) -> None:
        super().__init__(clip_share)
        self.threshold_bps = _checked("threshold_bps", threshold_bps, 0.0)

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the gap when it is too risky to keep."""
        context = self.context
        sigma = math.sqrt(context.beliefs.index_variance_per_s * float(context.dt_s[state.slice]))
        risk = abs(state.gap) * sigma
        if math.isfinite(risk) and risk <= self.threshold_bps * 1e-4 * context.scale:
            return HedgeAction(0.0, Rung.RULE, "below the trigger")
        return self._act(state.gap, "trigger")


class MarginalRule(_Rule):
    """P3a: trade to where the marginal cost of lag equals that of the future plus a buffer.

    With the cost of keeping a gap, C_lag = λσ²τG², and of trading h, C_fut = c|h| + a·h + ½Kh² (half-spread c,
    displacement and cross-impact a, own impact K of all modes), MC_lag(G − h) = MC_fut(h) + buffer·sign(h) has the
    closed form

        h = sign·max(0, sign·(2λσ²τG − a) − c − buffer) / (2λσ²τ + K),   sign = sign(2λσ²τG − a);

    never beyond the gap and never against it. The closed form is used in place of automatic differentiation because
    it is exact here and a thousand times faster per step; the tests hold it against the gradient.

    Parameters
    ----------
    risk_aversion
        λ [1/currency], > 0.
    buffer_bps
        Forecast uncertainty and tail penalty [bps of the traded notional], >= 0.
    patience_s
        τ, time for which a gap is expected to stay open [s]; None: the coming slice.
    clip_share
        As in :class:`ImmediateHedge`.
    """

    def __init__(
        self,
        risk_aversion: float,
        buffer_bps: float = 0.0,
        patience_s: float | None = None,
        clip_share: float = math.inf,
    ) -> None:
        super().__init__(clip_share)
        self.risk_aversion = _checked("risk_aversion", risk_aversion, 0.0, 1e300, open_low=True)
        self.buffer_bps = _checked("buffer_bps", buffer_bps, 0.0)
        self.patience_s = None if patience_s is None else _checked("patience_s", patience_s, 0.0, 1e12, open_low=True)

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the trade of the closed form."""
        context, gap = self.context, state.gap
        tau = float(context.dt_s[state.slice]) if self.patience_s is None else self.patience_s
        slope = 2.0 * self.risk_aversion * context.beliefs.index_variance_per_s * tau
        pull = slope * gap - float(state.drift[0])
        size = max(0.0, abs(pull) - state.half_spread - self.buffer_bps * 1e-4) / (slope + float(context.own.sum()))
        trade = math.copysign(size, pull)
        if trade * gap <= 0.0:
            return self._act(trade * 0.0, "no marginal gain")
        return self._act(math.copysign(min(size, abs(gap)), gap), "marginal costs")
