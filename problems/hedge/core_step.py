"""The step of :class:`crosswind.problems.hedge.mpc.MPCHedge` on the receding-horizon core.

The program is the one in the text of :mod:`crosswind.problems.hedge.mpc`, in shares of the parent's beta notional, as
the core's form takes it (:class:`crosswind.solvers.mpc.MpcModel`) with one instrument and two exposures. The first is
the gap G. The second, N, is what is still to be traded until the hedge is where the parent ends, N_{t+1} = N_t − h_t
from N_0 = w_T − H_0; it carries the charge c_T|N_H| as a soft cap of zero at the last slice, and no risk.

Slices after the parent's end have a clip of zero. With a rate limit that would bind the trades before them, so the
program then ends with the parent, and its last slice carries the cost of the gap for all the slices it stands for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from crosswind.problems.hedge.state import HedgeContext, HedgeState
from crosswind.problems.replay.model import FloatArray
from crosswind.solvers.mpc import MpcModel, MpcSolver, MpcStep
from crosswind.solvers.solution import Status

if TYPE_CHECKING:
    from crosswind.problems.hedge.mpc import MPCHedge

__all__ = ["CoreStep"]

_LEAST_DECAY = 1e-6  # what fades faster is gone within a slice
_LEAST_COST = 1e-12  # as in the sparse program: the spread and the charge at the end are never zero


class CoreStep:
    """One parent's program on the core, with its warm start.

    Parameters
    ----------
    policy
        Whose parameters these are.
    context
        The parent's.

    Raises
    ------
    InvalidInput
        When the core refuses the model.
    """

    def __init__(self, policy: MPCHedge, context: HedgeContext) -> None:
        scale, self.context, self.policy = context.scale, context, policy
        dt = float(np.median(context.dt_s))
        self.variance = context.beliefs.index_variance_per_s * dt
        aversion = policy.risk_aversion if policy.relative else policy.risk_aversion * scale
        self.risk = aversion * self.variance
        decays, own = np.exp(-context.rates_per_s * dt), policy.impact_factor * context.own * scale
        self.quadratic = policy.temporary * scale + 0.5 * float(own.sum())
        kept = (own > 0.0) & (decays >= _LEAST_DECAY)
        self.temporary = policy.temporary * scale + 0.5 * float(own[(own > 0.0) & ~kept].sum())
        self.decays, self.loadings = decays[kept], np.sqrt(own[kept])
        self.bounded = math.isfinite(policy.rate_share)
        self._solvers: dict[tuple[int, float], MpcSolver] = {}
        self._arrays(policy.horizon)

    def _arrays(self, n: int) -> None:
        self.n = n
        self.gap, self.plan = np.zeros(2), np.zeros((n, 2))
        self.last, self.rate = np.zeros(1), np.full(1, self.policy.rate_share)
        self.linear, self.spread, self.cap = np.zeros((n, 1)), np.zeros((n, 1)), np.zeros((n, 1))
        policy = self.policy
        self.gap_cap, self.price, self.curve = np.full((n, 2), policy.gap_cap_share), np.zeros((n, 2)), np.zeros((n, 2))
        if math.isfinite(policy.gap_cap_share):
            weights = self._weights(n)
            self.price[:, 0] = policy.gap_penalty * weights
            self.curve[:, 0] = policy.gap_penalty / policy.gap_cap_share * weights
        self.gap_cap[:, 1] = 0.0
        self.trades = np.zeros((n, 1))

    def _weights(self, n: int) -> FloatArray:
        """Return for how many slices each of the program's slices stands, (n,)."""
        weights = np.ones(n)
        weights[-1] += self.policy.horizon - n
        return weights

    def _solver(self, n: int, factor: float) -> MpcSolver:
        if (n, factor) not in self._solvers:
            risk = self.risk * factor
            model = MpcModel(
                n,
                [[self.temporary]],  # type: ignore[arg-type]  # the model makes arrays of what it is given
                exposure=np.ones((2, 1)),
                covariance=np.diag([1.0, 0.0]),
                risk_weight=risk * self._weights(n),
                terminal_weight=np.array([terminal_value(risk, self.quadratic), 0.0]),
                impact_loadings=self.loadings[:, None, None],
                decays=self.decays,
            )
            self._solvers[n, factor] = MpcSolver(model)
        return self._solvers[n, factor]

    def solve(self, state: HedgeState, previous: float) -> MpcStep:
        """Solve for a state after the trade ``previous`` [currency]; trades and costs are in shares of the scale."""
        policy, scale, path = self.policy, self.context.scale, state.planned_beta_q
        left = min(policy.horizon, len(path))
        if self.bounded and left != self.n:
            self._arrays(left)
        cost, charge = policy.trade_costs(state)
        self.gap[:] = (state.beta_q - state.held) / scale, (path[-1] - state.held) / scale
        self.plan[0, 0] = (path[0] - state.beta_q) / scale
        np.subtract(path[1:left], path[: left - 1], out=self.plan[1:left, 0])
        self.plan[1:left, 0] /= scale
        self.plan[left:, 0] = 0.0
        self.linear[:left, 0], self.linear[left:, 0] = state.drift[:left], 0.0
        self.spread.fill(max(cost, _LEAST_COST))
        self.cap[:left], self.cap[left:] = policy.clip_share, 0.0
        self.price[-1, 1] = max(charge, _LEAST_COST)
        self.last[0] = previous / scale
        return self._solver(self.n, policy.variance_factor(state)).step(
            self.gap,
            self.plan,
            last=self.last,
            linear=self.linear,
            spread=self.spread,
            cap=self.cap,
            rate=self.rate,
            gap_cap=self.gap_cap,
            price=self.price,
            curve=self.curve,
            tol=min(1e-2 * policy.tol, 1e-8),
            out=self.trades,
        )

    def reset(self) -> None:
        """Forget the warm start."""
        self._solvers.clear()


def terminal_value(risk: float, quadratic: float) -> float:
    """Return v of v² + rv − Λr = 0: what a unit of squared gap costs the undiscounted regulator from now on.

    Parameters
    ----------
    risk, quadratic
        r and Λ, cost per squared gap and slice, and per squared trade, both ≥ 0.
    """
    return 0.5 * (math.sqrt(risk * risk + 4.0 * quadratic * risk) - risk)


def proven(step: MpcStep, stake: float) -> bool:
    """Return whether the step's trades are optimal to the tolerance, or to a cost that is not worth an attempt."""
    return step.status is Status.OPTIMAL or (step.status is Status.FEASIBLE and step.gap <= stake)
