"""SO: the plan's program is solved once, and a share of what deviates from it is corrected.

At the first decision the program of :mod:`crosswind.problems.hedge.mpc` is solved over the whole horizon of the parent.
Its trades u*_t and the gaps G*_t that it foresees before them are kept; from then on

    h_t = u*_t + φ(G_t − G*_t)

within the clip. Fills, delays and revisions of the plan enter through the gap alone. What a controller that solves
again gains over this is what solving again is worth: where plans are not revised, little.

Without a φ it is the rate of the undiscounted linear-quadratic regulator, φ = (r + v)/(Λ + r + v) with r = λσ²Δt,
Λ = η + ½ΣK and v² + rv − Λr = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from crosswind.problems.hedge.core_step import CoreStep, proven
from crosswind.problems.hedge.mpc import MPCHedge
from crosswind.problems.hedge.policies import _checked, _Rule
from crosswind.problems.hedge.state import HedgeAction, HedgeContext, HedgeState, Rung
from crosswind.problems.replay.model import FloatArray
from crosswind.solvers import native
from crosswind.solvers.errors import CrosswindError, InvalidInput

__all__ = ["SolvedOnceHedge"]


class SolvedOnceHedge(_Rule):
    """SO: the plan's program solved once, with linear feedback (formula in the module's text).

    Parameters
    ----------
    risk_aversion
        λ [1/currency], >= 0.
    fraction
        φ in (0, 1]; None: the regulator's rate.
    clip_share
        Greatest trade per slice as a share of the parent's beta notional; inf: none.
    **program
        Further arguments of :class:`crosswind.problems.hedge.mpc.MPCHedge` (``gap_cap_share``, ``gap_penalty``,
        ``rate_share``, ``temporary``, ``solver``, ``tol``, ``settings``, ``engine``, ``relative``);
        ``horizon`` is the parent's.

    Raises
    ------
    InvalidInput
        For parameters out of range.
    """

    def __init__(
        self, risk_aversion: float, fraction: float | None = None, clip_share: float = math.inf, **program: Any
    ) -> None:
        super().__init__(clip_share)
        self.risk_aversion = _checked("risk_aversion", risk_aversion, 0.0, 1e300)
        self.fraction = None if fraction is None else _checked("fraction", fraction, 0.0, 1.0, open_low=True)
        self.program: Mapping[str, Any] = dict(program)
        self._make(1)  # refuses bad arguments now, not at the first decision
        self._forget()

    def _make(self, horizon: int) -> MPCHedge:
        return MPCHedge(self.risk_aversion, horizon, self.clip_share, **self.program)

    def _forget(self) -> None:
        self._begin = 0
        self._trades: FloatArray | None = None
        self._gaps: FloatArray = np.empty(0)
        self._failure = ""

    def reset(self, context: HedgeContext) -> None:
        """Take a new parent's context; the program is solved at its first decision."""
        super().reset(context)
        self._forget()

    @property
    def trades(self) -> FloatArray | None:
        """The solved trades from the first decision on [currency]; None before it, or where the solve failed."""
        return None if self._trades is None else self._trades.copy()

    @property
    def gaps(self) -> FloatArray:
        """The gaps foreseen before those trades [currency]; empty where there are none."""
        return self._gaps.copy()

    @property
    def feedback(self) -> float:
        """φ of the present parent."""
        if self.fraction is not None:
            return self.fraction
        context = self.context
        dt = float(np.median(context.dt_s))
        aversion = self.risk_aversion / context.scale if self.program.get("relative") else self.risk_aversion
        r = aversion * context.beliefs.index_variance_per_s * dt
        factor = float(self.program.get("impact_factor", 1.0))
        cost = float(self.program.get("temporary", 0.0)) + 0.5 * factor * float(context.own.sum())
        total = r + 0.5 * (math.sqrt(r * r + 4.0 * cost * r) - r)
        return total / (cost + total) if cost + total > 0.0 else 1.0

    def decide(self, state: HedgeState) -> HedgeAction:
        """Return the solved trade and the share of the deviation; never raises."""
        try:
            return self._decide(state)
        except Exception as err:
            # The live loop must answer whatever breaks; what broke is in the reason.
            return HedgeAction(0.0, Rung.HOLD, f"{type(err).__name__}: {err}")

    def _decide(self, state: HedgeState) -> HedgeAction:
        if not state.finite:
            return HedgeAction(0.0, Rung.HOLD, "input not finite")
        if self._trades is None and not self._failure:
            try:
                self._solve(state)
            except (CrosswindError, ArithmeticError, ValueError, RuntimeError) as err:
                self._failure = f"{type(err).__name__}: {err}"
        at = state.slice - self._begin
        if self._trades is None or not 0 <= at < len(self._trades):
            # Without a plan of its own: trade with the cash plan and correct the same share, as BS does.
            planned = float(state.planned_beta_q[0]) - state.beta_q
            why = self._failure or "beyond the solved plan"
            return self._act(planned + self.feedback * state.gap, f"plan and fraction of the gap; {why}")
        trade = float(self._trades[at]) + self.feedback * (state.gap - float(self._gaps[at]))
        done = self._act(trade, "solved plan and fraction of the deviation")
        return HedgeAction(done.trade, Rung.OPTIMAL if at == 0 and done.rung is Rung.RULE else done.rung, done.reason)

    def _solve(self, state: HedgeState) -> None:
        horizon, scale = len(state.planned_beta_q), self.context.scale
        controller = self._make(horizon)
        controller.reset(self.context)
        trades = self._by_core(controller, state)
        if trades is None:
            from crosswind.optim.solve import solve_multistage

            program = controller.program(state)
            found = solve_multistage(program, controller.solver, controller.tol, **controller.settings)
            if not found.solution.status.ok:
                self._failure = f"the plan's program: {found.solution.status.name}"
                return
            trades = np.asarray(found.trades, dtype=np.float64)[:, 0] * scale
        required = np.concatenate([[state.beta_q], state.planned_beta_q[:-1]])
        held = state.held + np.concatenate([[0.0], np.cumsum(trades[:-1])])
        self._begin, self._trades, self._gaps = state.slice, trades, required - held

    def _by_core(self, controller: MPCHedge, state: HedgeState) -> FloatArray | None:
        """Return the trades by the controller's own core [currency]; None where it is not to be used or proves nothing.

        The same program as the sparse one, hundreds of times faster, so that a plan is a fair rival in time as well.
        """
        plain = controller.solver == "auto" and not controller.settings and native.COMPILED
        if controller.engine == "session" or (controller.engine == "auto" and not plain):
            return None
        try:
            step = CoreStep(controller, self.context).solve(state, 0.0)
        except InvalidInput:
            return None
        if not proven(step, 1e-9) or len(step.trades) != controller.horizon:
            return None
        trades: FloatArray = np.array(step.trades[:, 0]) * self.context.scale
        return trades
