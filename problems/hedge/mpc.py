"""P4: hedge timing by receding horizon.

At every slice start the multistage program of :mod:`crosswind.optim.program` is solved for the next ``horizon``
slices with the hedge as its one instrument: position p = H, exposure e_t = ΣβQ_t − H_t with the planned cash path as
its level,

    min Σ_t [ c|u_t| + η u_t² + a_t u_t ] + impact(u) + λ Σ_t σ²Δt·G_t² + c_T|p_end − w_T| + v·G_end²

subject to |u_t| ≤ clip, a soft cap on |G| with an exact penalty, and an optional rate limit. c_T prices the trade
that is still needed after the horizon (the hedge must end at w_T = ΣβQ_T): without it the program would postpone the
unwinding for ever. v is the value of one unit of squared gap of the undiscounted linear-quadratic regulator, v² + rv
− Λr = 0 with r = λσ²Δt and Λ = η + ½ΣK. Slices after the end of the parent have a clip of zero.

What past trades leave behind and what the planned cash trades do to the future's price is linear in u and known: it
enters as a_t. So the matrices are the same at every step, but for those of a changed variance (``spread_power``). The
core (:mod:`crosswind.solvers.mpc`) solves a step by its structure; the session lowers with the first step's scaling and
hands new vectors to one solver. Both have the same program. Horizons are counted in slices of the median length.

``decide`` never raises. Its rungs: OPTIMAL (certificate passed) → FEASIBLE (an unfinished iterate that beats the
rule, clipped) → RULE (the adaptive rule, clipped) → HOLD (input not finite).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.hedge.core_step import CoreStep, proven, terminal_value
from crosswind.problems.hedge.policies import AdaptiveTrigger, _checked, _Rule
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgeState, Rung
from crosswind.problems.replay.model import FloatArray
from crosswind.solvers import native
from crosswind.solvers.errors import CrosswindError, InvalidInput
from crosswind.solvers.solution import Status

if TYPE_CHECKING:
    from crosswind.optim.lowered import Lowered
    from crosswind.optim.program import MultistageProgram
    from crosswind.solvers.session import Session

__all__ = ["MPCHedge"]

# In shares of the parent's beta notional: a trade below the first is noise of an interior point, a cost below the
# second (a thousandth of a basis point) is not worth another attempt.
_DUST, _STAKE = 1e-6, 1e-7


class MPCHedge(_Rule):
    """Model-predictive hedge (formula in the module's text).

    Parameters
    ----------
    risk_aversion
        λ [1/currency], >= 0; with ``relative`` λ times the parent's beta notional, a number without unit.
    horizon
        Slices looked ahead, >= 1.
    clip_share
        Greatest trade per slice, as a share of the parent's beta notional; never broken, the close excepted.
    gap_cap_share
        Soft cap on |G|, as a share of the parent's beta notional; inf: none.
    gap_penalty
        Cost per unit of |G| beyond the cap [return]; above the hard cap's price the penalty is exact.
    rate_share
        Greatest change of the trade between slices, share of the parent's beta notional; inf: none.
    temporary
        η, cost ηu² [1/currency], beyond the believed modes.
    impact_factor
        Factor of the believed own impact in the program, >= 0. The program takes its forecast for certain; above 1 it
        trades less on what the next fills may take back.
    fee_bps
        Fees beside the half-spread [bps of the traded notional], >= 0.
    spread_power
        The variance is believed to grow with the half-spread over the narrowest of this parent so far, to one decimal,
        to this power, >= 0; 0: not at all, 2: volatility in proportion to the spread.
    solver, tol, settings
        As in :class:`crosswind.solvers.session.Session`; ``settings`` are its further keywords.
    engine
        ``"core"``, the receding-horizon core; ``"session"``, the sparse program and a solver of the registry;
        ``"auto"``, the core where it was compiled and no solver and no settings were named, with the session for a step
        that the core leaves unproven.
    fallback
        Rule used when the solve fails; default: AdaptiveTrigger at 1 bp.
    relative
        Whether variance and cost are weighed in shares of the parent's beta notional, so that parents of every size
        carry the same risk in basis points for the same cost in basis points: what a score in basis points asks for.
        With one λ per currency a large parent is hedged harder than a small one.

    Raises
    ------
    InvalidInput
        For parameters out of range.
    """

    def __init__(
        self,
        risk_aversion: float,
        horizon: int = 20,
        clip_share: float = math.inf,
        gap_cap_share: float = math.inf,
        gap_penalty: float = 1e-2,
        rate_share: float = math.inf,
        temporary: float = 0.0,
        solver: str = "auto",
        tol: float = 1e-6,
        fallback: _Rule | None = None,
        settings: Mapping[str, Any] | None = None,
        engine: str = "auto",
        relative: bool = False,
        impact_factor: float = 1.0,
        fee_bps: float = 0.0,
        spread_power: float = 0.0,
    ) -> None:
        super().__init__(clip_share)
        self.risk_aversion = _checked("risk_aversion", risk_aversion, 0.0, 1e300)
        self.horizon = int(_checked("horizon", horizon, 1, 100_000))
        self.gap_cap_share = _checked("gap_cap_share", gap_cap_share, 0.0, open_low=True)
        self.gap_penalty = _checked("gap_penalty", gap_penalty, 0.0, 1e300, open_low=True)
        self.rate_share = _checked("rate_share", rate_share, 0.0, open_low=True)
        self.temporary = _checked("temporary", temporary, 0.0, 1e300)
        self.impact_factor = _checked("impact_factor", impact_factor, 0.0, 1e300)
        self.fee_bps = _checked("fee_bps", fee_bps, 0.0, 1e300)
        self.spread_power = _checked("spread_power", spread_power, 0.0, 10.0)
        self.solver, self.tol = solver, _checked("tol", tol, 0.0, 1.0, open_low=True)
        self.settings = dict(settings or {})
        if engine not in ("auto", "core", "session"):
            raise InvalidInput("is unknown", field="engine", value=engine, remedy="use auto, core or session")
        self.engine, self.relative = engine, bool(relative)
        self.fallback = AdaptiveTrigger(1.0) if fallback is None else fallback
        self._session: Session | None = None
        self._lowered: Lowered | None = None
        self._core: CoreStep | None = None
        self._previous, self._narrowest, self._factor = 0.0, math.inf, 1.0

    def reset(self, context: HedgeContext) -> None:
        """Take a new parent's context; the program is lowered at its first decision."""
        super().reset(context)
        self.fallback.reset(context)
        self._session, self._lowered, self._core = None, None, None
        self._previous, self._narrowest, self._factor = 0.0, math.inf, 1.0

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the first trade of the program, or the best rung below it; never raises."""
        try:
            action = self._decide(state)
        except Exception as err:
            # The live loop must answer whatever breaks; what broke is in the reason.
            action = HedgeAction(0.0, Rung.HOLD, f"{type(err).__name__}: {err}")
        self._previous = action.trade
        return action

    def _decide(self, state: HedgeState) -> HedgeAction:
        if not state.finite:
            return HedgeAction(0.0, Rung.HOLD, "input not finite")
        if self._idle(state):
            return HedgeAction(self._limited(0.0), Rung.OPTIMAL, "nothing left to hedge")
        try:
            trade, rung, reason = self._solve(state)
        except (CrosswindError, ArithmeticError, ValueError, RuntimeError) as err:
            trade, rung, reason = math.nan, Rung.RULE, f"{type(err).__name__}: {err}"
        if not math.isfinite(trade):
            self._session = self._core = None  # a solver in a bad state must not spoil later steps
            rule = self.fallback.decide(state)
            trade, rung, reason = rule.trade, rule.rung, f"{reason}; {rule.reason}"
        return HedgeAction(self._limited(trade), rung, reason)

    def _idle(self, state: HedgeState) -> bool:
        """Return whether no trade is optimal up to rounding, so that there is nothing to solve.

        Held and required hedge agree after this slice and later (the gap before it is sunk); no round trip pays, as
        the displacement moves by less than two half-spreads; and no trade that stays open pays, as it is below the
        half-spread and the charge at the end. Then every plan costs at least what no trade costs. A program all of
        whose data are rounding noise has no scale by which a solver's residuals could be judged.
        """
        apart = float(np.abs(state.planned_beta_q - state.held).max())
        cost, charge = self.trade_costs(state)
        quiet = float(np.ptp(state.drift)) <= 2.0 * cost and float(np.abs(state.drift).max()) <= cost + charge
        return apart <= _DUST * self.context.scale and quiet

    def trade_costs(self, state: HedgeState) -> tuple[float, float]:
        """Return c and c_T, what a unit traded costs by half-spread and fees now and at the close [return]."""
        half, fee = state.half_spread, 1e-4 * self.fee_bps
        return half + fee, half * self.context.beliefs.close_spread_multiple + fee

    def variance_factor(self, state: HedgeState) -> float:
        """Return the factor of the believed variance by the half-spread; asking twice for a state changes nothing."""
        if self.spread_power == 0.0 or not state.half_spread > 0.0:
            return 1.0
        self._narrowest = min(self._narrowest, state.half_spread)
        return float(round(state.half_spread / self._narrowest, 1) ** self.spread_power)

    def _limited(self, trade: float) -> float:
        """Return the trade within clip and rate: a check outside the optimiser."""
        scale = self.context.scale
        rate = self.rate_share * scale
        trade = min(max(trade, self._previous - rate), self._previous + rate)
        clip = self.clip_share * scale
        return min(max(trade, -clip), clip)

    def _solve(self, state: HedgeState) -> tuple[float, Rung, str]:
        plain = self.solver == "auto" and not self.settings
        if self.engine == "core" or (self.engine == "auto" and plain and native.COMPILED):
            found = self._solve_core(state)
            if found is not None:
                return found
        return self._solve_session(state)

    def _solve_core(self, state: HedgeState) -> tuple[float, Rung, str] | None:
        """Return the core's answer; None where another engine may be asked and the core has proven nothing."""
        try:
            if self._core is None:
                self._core = CoreStep(self, self.context)
            step = self._core.solve(state, self._previous)
        except InvalidInput:
            if self.engine == "core":
                raise
            return None
        best = proven(step, _STAKE)
        if not best and self.engine == "auto":
            return None
        if step.status is Status.INVALID:
            return math.nan, Rung.RULE, "the core refused the data"
        trades = np.zeros((self.horizon, 1))
        trades[: len(step.trades)] = step.trades
        if not best and not self._better_than_rule(self.program(state), trades, state):
            return math.nan, Rung.RULE, f"{step.status.name}, iterate worse than the rule"
        return self._first(trades), Rung.OPTIMAL if best else Rung.FEASIBLE, step.status.name

    def _first(self, trades: FloatArray) -> float:
        # Interior points leave dust beside the kink of the spread; it is below any contract and only costs messages.
        first = float(trades[0, 0])
        return 0.0 if abs(first) < _DUST else first * self.context.scale

    def _solve_session(self, state: HedgeState) -> tuple[float, Rung, str]:
        from crosswind.optim.lowering import lower, relower
        from crosswind.solvers.session import Session

        program, factor = self.program(state), self.variance_factor(state)
        if self._session is None or self._lowered is None or factor != self._factor:
            self._factor = factor
            self._lowered = lower(program, keep_absolute=True, names=False)
            self._session = Session(self._lowered.qp, solver=self.solver, tol=self.tol, **self.settings)
        else:
            self._lowered = relower(program, self._lowered)
            qp = self._lowered.qp
            self._session.update(q=qp.q, l=qp.l, u=qp.u, lb=qp.lb, ub=qp.ub)
        solution = self._session.solve()
        if not solution.status.usable:
            return math.nan, Rung.RULE, solution.status.name
        # Near the end of a parent the whole program is worth next to nothing, and no relative gap can be small: what
        # counts is that at most a thousandth of a basis point of the hedge's notional is at stake.
        stake = solution.certificate.gap * self._lowered.cost_scale
        sound = max(solution.certificate.primal, solution.certificate.dual) <= 1e-6
        best = solution.status.ok or (sound and stake <= _STAKE)
        trades = self._lowered.unpack_trades(solution.x)
        if not best and not self._better_than_rule(program, trades, state):
            return math.nan, Rung.RULE, f"{solution.status.name}, iterate worse than the rule"
        return self._first(trades), Rung.OPTIMAL if best else Rung.FEASIBLE, solution.status.name

    def _better_than_rule(self, program: MultistageProgram, trades: FloatArray, state: HedgeState) -> bool:
        """Return whether an unfinished iterate, clipped, costs less than the fallback's trade with nothing after it.

        Keeping the limits says nothing about an iterate's worth: stopped after two iterations it may even trade the
        wrong way. Both are priced by the same exact cost.
        """
        from crosswind.optim.costs import cost

        rival = np.zeros_like(trades)
        rival[0, 0] = self._limited(self.fallback.decide(state).trade) / self.context.scale
        plan = np.clip(np.where(np.abs(trades) < _DUST, 0.0, trades), -self.clip_share, self.clip_share)
        plan[len(state.planned_beta_q) :] = 0.0
        plan[0, 0] = self._limited(float(trades[0, 0]) * self.context.scale) / self.context.scale
        return bool(cost(program, plan).total <= cost(program, rival).total + _STAKE)

    @property
    def own_impact(self) -> FloatArray:
        """The hedge's own impact by mode as the program takes it, (M,) [return per currency]."""
        return np.asarray(self.impact_factor * self.context.own)

    def program(self, state: HedgeState) -> MultistageProgram:
        """Return the program of one step, in units of the parent's beta notional.

        Trades and positions are shares of ``scale``, costs are currency per ``scale``: coefficients stay near one
        whatever the size of the parent, and the matrices are the same at every step.
        """
        from crosswind.optim.limits import BandLimit, RateLimit, SoftPenalty, TradeLimit
        from crosswind.optim.program import ImpactMode, MultistageProgram, Terminal

        context, scale, H = self.context, self.context.scale, self.horizon
        left = min(H, len(state.planned_beta_q))
        dt = float(np.median(context.dt_s))
        level = np.full((H + 1, 1), float(state.planned_beta_q[left - 1]) / scale)
        level[0, 0] = state.beta_q / scale
        level[1 : left + 1, 0] = state.planned_beta_q[:left] / scale
        drift = np.zeros((H, 1))
        drift[:left, 0] = state.drift[:left]
        clip = np.zeros((H, 1))
        clip[:left] = self.clip_share
        end, (cost, charge) = float(state.planned_beta_q[-1]) / scale, self.trade_costs(state)
        variance, own = context.beliefs.index_variance_per_s * dt * self.variance_factor(state), self.own_impact
        aversion = self.risk_aversion if self.relative else self.risk_aversion * scale
        r = aversion * variance
        quadratic = (self.temporary + 0.5 * float(own.sum())) * scale
        value = terminal_value(r, quadratic)
        bound = np.full((H, 1), np.inf)
        low, high = -bound, bound.copy()
        low[-1] = high[-1] = end
        limits: list[Any] = [TradeLimit("clip", -clip, clip)]
        soft = SoftPenalty(max(charge, 1e-12))
        limits.append(BandLimit("unwinding", np.eye(1), low, high, soft=soft, on="position"))
        if math.isfinite(self.gap_cap_share):
            cap = np.full((H, 1), self.gap_cap_share)
            penalty = SoftPenalty(self.gap_penalty, self.gap_penalty / self.gap_cap_share)
            limits.append(BandLimit("gap cap", np.eye(1), -cap, cap, soft=penalty, on="exposure"))
        if math.isfinite(self.rate_share):
            # A finite number where the rate is free keeps the rows, and with them the pattern, the same at every step.
            rate = np.full((H, 1), 1e3)
            rate[:left] = self.rate_share
            limits.append(RateLimit("rate", rate, np.array([self._previous / scale])))
        return MultistageProgram(
            instruments=("hedge",),
            dt_s=np.concatenate([[0.0], np.full(H - 1, dt)]),
            p0=np.array([state.held / scale]),
            exposure=-np.eye(1),
            exposure_level=level,
            spread=np.full((H, 1), max(cost, 1e-12)),
            temporary=np.full((H, 1), self.temporary * scale),
            drift=drift,
            impact=tuple(
                ImpactMode(float(rate), np.array([[k * scale]]))
                for rate, k in zip(context.rates_per_s, own, strict=True)
                if k > 0.0
            ),
            covariance=np.array([[variance]]),
            risk_aversion=aversion,
            terminal=Terminal(level[-1], value),
            limits=tuple(limits),
        )
