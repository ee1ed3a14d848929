"""P3a by automatic differentiation: trade to where the marginal cost of lag equals that of the future plus a buffer.

The costs are functions that jax can differentiate, so that laws without a closed form can be used: a 3/2 power of the
trade, a penalty of the tail of the gap, a desk's own. Along the way from no trade to the whole gap, h = sG with s in
[0, 1],

    MC_lag(G − h) − MC_fut(h) − buffer

falls where both costs are convex; the trade is where it is zero, 0 where it is negative at once, and the whole gap
where it never is. The buffer holds back: forecast uncertainty, that is how far the plan of ΣβQ has been off so far
times the slope of MC_lag, and a tail penalty by regime.

With the default costs and no 3/2 power this is :class:`crosswind.problems.hedge.policies.MarginalRule`, whose closed
form is exact and far cheaper: use that one where its costs will do.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from crosswind.problems.hedge.policies import _checked, _Rule
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgeState, Rung
from crosswind.solvers.errors import InvalidInput

__all__ = ["MarginalCostHedge", "future_cost", "lag_cost"]

_TINY = sys.float_info.min
_HALVINGS = 60  # of the bracket: to the last bits of a double


def lag_cost(gap: Any, p: Mapping[str, Any]) -> Any:
    """Return λσ²τG² + κ(σ√τ|G|)^{3/2}: variance, and a tail that grows faster than the gap.

    Parameters
    ----------
    gap
        G, what is left after the trade [currency].
    p
        ``risk_aversion`` λ, ``variance`` σ²τ, ``tail`` κ [currency^{-1/2}].
    """
    # (x² + tiny)^{3/4} is |x|^{3/2} with a derivative at 0.
    spread = p["variance"] * gap**2
    return p["risk_aversion"] * spread + p["tail"] * (spread + _TINY) ** 0.75


def future_cost(trade: Any, p: Mapping[str, Any]) -> Any:
    """Return c|h| + ah + ½Kh² + η|h|^{3/2}.

    Parameters
    ----------
    trade
        h [currency].
    p
        ``half_spread`` c, ``drift`` a, ``own`` K [1/currency], ``power`` η [currency^{-1/2}].
    """
    import jax.numpy as jnp

    size = jnp.abs(trade)
    smooth = (trade**2 + _TINY) ** 0.75
    return p["half_spread"] * size + p["drift"] * trade + 0.5 * p["own"] * trade**2 + p["power"] * smooth


class MarginalCostHedge(_Rule):
    """P3a with any differentiable costs (module's text).

    Parameters
    ----------
    risk_aversion
        λ [1/currency], > 0.
    tail
        κ of :func:`lag_cost` [currency^{-1/2}], >= 0.
    power
        η of :func:`future_cost`, cost η|h|^{3/2} [currency^{-1/2}], >= 0.
    buffer_bps
        Tail penalty [bps of the traded notional] by regime, or one for all; >= 0.
    uncertainty
        Weight of the forecast uncertainty in the buffer, >= 0.
    patience_s
        τ, time for which a gap is expected to stay open [s]; None: the coming slice.
    clip_share
        Greatest trade per slice as a share of the parent's beta notional.
    regime
        State → name of a regime; default "wide" where the half-spread is more than twice the smallest so far of this
        parent, else "normal".
    lag, future
        Costs as functions of (amount, parameters) that jax can differentiate: convex, and ``lag`` least at 0.

    Raises
    ------
    InvalidInput
        For parameters out of range.
    """

    def __init__(
        self,
        risk_aversion: float,
        tail: float = 0.0,
        power: float = 0.0,
        buffer_bps: float | Mapping[str, float] = 0.0,
        uncertainty: float = 0.0,
        patience_s: float | None = None,
        clip_share: float = math.inf,
        regime: Callable[[HedgeState], str] | None = None,
        lag: Callable[[Any, Mapping[str, Any]], Any] = lag_cost,
        future: Callable[[Any, Mapping[str, Any]], Any] = future_cost,
    ) -> None:
        super().__init__(clip_share)
        self.risk_aversion = _checked("risk_aversion", risk_aversion, 0.0, 1e300, open_low=True)
        self.tail = _checked("tail", tail, 0.0, 1e300)
        self.power = _checked("power", power, 0.0, 1e300)
        by = dict(buffer_bps) if isinstance(buffer_bps, Mapping) else {"": buffer_bps}
        if not by:
            raise InvalidInput("no buffer", field="buffer_bps", value=buffer_bps, remedy="use 0.0")
        self.buffer_bps = {str(name): _checked(f"buffer_bps {name}", value, 0.0, 1e300) for name, value in by.items()}
        self.uncertainty = _checked("uncertainty", uncertainty, 0.0, 1e300)
        self.patience_s = None if patience_s is None else _checked("patience_s", patience_s, 0.0, 1e12, open_low=True)
        self.regime, self.lag, self.future = regime, lag, future
        self._solve: Callable[..., Any] | None = None
        self._forget()

    def _forget(self) -> None:
        self._narrowest = math.inf
        self._expected: float | None = None
        self._squares, self._seen = 0.0, 0

    def reset(self, context: HedgeContext) -> None:
        """Take a new parent's context; what was learnt of the last one's plan and spreads is forgotten."""
        super().reset(context)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled function out: it is made again where it is needed."""
        return {**self.__dict__, "_solve": None}

    @property
    def forecast_error(self) -> float:
        """Root mean square by which ΣβQ has missed its plan per slice so far [currency]; 0 before the second slice."""
        return math.sqrt(self._squares / self._seen) if self._seen else 0.0

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the trade where the marginal costs meet."""
        if not state.finite:
            return HedgeAction(0.0, Rung.HOLD, "input not finite")
        self._learn(state)
        context, gap = self.context, state.gap
        tau = float(context.dt_s[state.slice]) if self.patience_s is None else self.patience_s
        parameters = {
            "risk_aversion": self.risk_aversion,
            "variance": context.beliefs.index_variance_per_s * tau,
            "tail": self.tail,
            "half_spread": state.half_spread,
            "drift": float(state.drift[0]),
            "own": float(context.own.sum()),
            "power": self.power,
        }
        name = self._regime(state)
        fixed = self.buffer_bps.get(name, max(self.buffer_bps.values())) * 1e-4
        share = self._share(gap, fixed, self.uncertainty * self.forecast_error, parameters)
        if not math.isfinite(share):
            return HedgeAction(0.0, Rung.HOLD, "a marginal cost is not finite")
        return self._act(share * gap, f"marginal costs, {name or 'one regime'}" if share > 0.0 else "no marginal gain")

    def _learn(self, state: HedgeState) -> None:
        if self._expected is not None:
            self._squares, self._seen = self._squares + (state.beta_q - self._expected) ** 2, self._seen + 1
        self._expected = float(state.planned_beta_q[0])
        if state.half_spread > 0.0:
            self._narrowest = min(self._narrowest, state.half_spread)

    def _regime(self, state: HedgeState) -> str:
        if self.regime is not None:
            return str(self.regime(state))
        if "" in self.buffer_bps:
            return ""
        return "wide" if state.half_spread > 2.0 * self._narrowest else "normal"

    def _share(self, gap: float, fixed: float, missed: float, parameters: Mapping[str, float]) -> float:
        """Return s in [0, 1], the share of the gap at which the marginal costs meet."""
        if gap == 0.0:
            return 0.0
        from crosswind.optim.costs import _enable_x64

        if self._solve is None:
            self._solve = _compiled(self.lag, self.future)
        with _enable_x64():
            return float(self._solve(gap, fixed, missed, dict(parameters)))


def _compiled(lag: Callable[..., Any], future: Callable[..., Any]) -> Callable[..., Any]:
    """Return the jitted bisection: a fixed number of halvings, so that the same inputs give the same bits."""
    import jax
    import jax.numpy as jnp

    mc_lag, mc_future = jax.grad(lag), jax.grad(future)
    slope = jax.grad(mc_lag)

    def solve(gap: Any, fixed: Any, missed: Any, p: Any) -> Any:
        side = jnp.sign(gap)
        buffer = fixed + missed * jnp.abs(slope(gap, p))

        def pull(share: Any) -> Any:
            h = share * gap
            # The kink of the spread: at no trade the derivative towards the gap counts.
            towards = jnp.where(share == 0.0, jnp.nextafter(0.0, 1.0) * side, h)
            return side * (mc_lag(gap - h, p) - mc_future(towards, p)) - buffer

        def halve(_: Any, bracket: Any) -> Any:
            low, high = bracket
            middle = 0.5 * (low + high)
            ahead = pull(middle) > 0.0
            return jnp.where(ahead, middle, low), jnp.where(ahead, high, middle)

        low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(gap), jnp.ones_like(gap)))
        inside = 0.5 * (low + high)
        first, last = pull(jnp.zeros_like(gap)), pull(jnp.ones_like(gap))
        answer = jnp.where(first <= 0.0, 0.0, jnp.where(last >= 0.0, 1.0, inside))
        return jnp.where(jnp.isfinite(first) & jnp.isfinite(last), answer, jnp.nan)

    jitted: Callable[..., Any] = jax.jit(solve)
    return lambda gap, fixed, missed, p: jitted(
        jnp.float64(gap), jnp.float64(fixed), jnp.float64(missed), {k: jnp.float64(v) for k, v in p.items()}
    )
