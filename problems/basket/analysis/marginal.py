r"""Marginal costs by automatic differentiation, taken apart into what completion and each limit cost.

.. math::

    MC_{it} = \partial C / \partial u_{it} = \pi_i - \sum_\ell g_{\ell,it}

At the optimum the marginal cost of a trade is the completion price π of its name minus the pull g of the limits that
bind: for a cap on a buy g is its price, for a band the sum of its prices over the later slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray
from crosswind.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.limits import Limit
    from crosswind.optim.program import MultistageProgram
    from crosswind.problems.basket.model import BasketProblem
    from crosswind.problems.basket.schedule import BasketSchedule

__all__ = ["MarginalCosts", "decompose_marginal_costs", "marginal_costs"]


_DUST = 1e-7  # a trade below this share of the parent notional counts as none


def marginal_costs(problem: BasketProblem, trades: pd.DataFrame) -> pd.DataFrame:
    """Return MC = ∂C/∂u of any schedule by jax (T × N) [currency per unit of notional bought].

    Hard limits and a hard completion are not part of the cost; at the kink u = 0 the spread counts with its middle
    subgradient 0.

    Parameters
    ----------
    problem
        The basket.
    trades
        Signed trades, slices × names [currency].

    Raises
    ------
    InvalidInput
        On missing slices, missing names or non-finite trades.
    """
    from crosswind.optim.costs import marginal_cost

    return problem.frame(marginal_cost(problem.program(), problem.trade_array(trades)))


@dataclass(frozen=True, eq=False)
class MarginalCosts:
    """Marginal costs of an optimal schedule in parts, each (T × N) [currency per unit of notional bought].

    Attributes
    ----------
    total
        MC from jax; where u = 0 and the spread has its kink, the subgradient that optimality needs.
    completion
        Completion price of the name, the same in every slice.
    limits
        Per limit, what its price adds to the marginal value of trading: total = completion + Σ limits + residual.
    residual
        What is left: 0 at the optimum up to the accuracy of the solve.
    """

    total: pd.DataFrame
    completion: pd.DataFrame
    limits: dict[str, pd.DataFrame]
    residual: pd.DataFrame

    @property
    def residual_rel(self) -> float:
        """Largest residual relative to the largest part."""
        parts = [self.total, self.completion, *self.limits.values()]
        size = max(float(np.abs(part.to_numpy()).max(initial=0.0)) for part in parts)
        return float(np.abs(self.residual.to_numpy()).max(initial=0.0)) / max(size, 1e-300)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per slice and name, one column per part [bps of the notional bought]."""
        parts = {"marginal cost": self.total, "completion": self.completion} | self.limits | {"residual": self.residual}
        rows = pd.MultiIndex.from_product([self.total.index, self.total.columns], names=["time", "name"])
        return pd.DataFrame({label: 1e4 * part.to_numpy().ravel() for label, part in parts.items()}, index=rows)

    def summary(self) -> str:
        """Return per name the completion price, the mean pull of each limit and the largest residual [bps]."""
        table = pd.DataFrame({"completion": 1e4 * self.completion.iloc[0]})
        for label, part in self.limits.items():
            if part.to_numpy().any():
                table[label] = 1e4 * part.mean()
        table["residual"] = 1e4 * self.residual.abs().max()
        head = "marginal cost = completion price + limits [bps per unit bought, mean over slices; residual: largest]"
        return f"{head}\n{table.round(4).to_string()}"

    def _repr_html_(self) -> str:
        return str(self.to_frame().round(4).to_html(max_rows=20))


def decompose_marginal_costs(schedule: BasketSchedule) -> MarginalCosts:
    """Return the marginal costs of an optimal schedule, taken apart into completion price and limits.

    Parameters
    ----------
    schedule
        A solved basket.

    Raises
    ------
    InvalidInput
        When a limit is of a kind that is unknown here.
    """
    from crosswind.optim.limits import GroupCap

    problem, program = schedule.problem, schedule.problem.program()
    u = schedule.trades.to_numpy()
    by_jax = marginal_costs(problem, schedule.trades).to_numpy()
    own = schedule.marginal_costs.to_numpy()
    completion = np.tile(schedule.completion_price.to_numpy(), (len(u), 1))
    if isinstance(problem.completion, float):
        by_jax = by_jax + completion  # the schedule's own leave the penalty out, jax prices all of the cost
    # Away from the kink jax is the derivative; at it (an interior point's dust included) the solution's subgradient.
    idle = np.abs(u) <= _DUST * max(problem.parent_notional, 1.0)
    smooth = by_jax - program.spread * np.sign(u)
    total = np.where(idle, own, by_jax)
    pulls: dict[str, FloatArray] = {}
    residual = total - completion
    for limit in sorted(program.limits, key=lambda one: isinstance(one, GroupCap)):  # group caps need what is left
        price = schedule.prices[limit.name].to_numpy()
        if isinstance(limit, GroupCap):
            fraction = _slope(program, np.where(idle, 0.0, u), own - smooth, residual, price @ limit.membership)
            pulls[limit.name] = -(price @ limit.membership) * fraction
        else:
            pulls[limit.name] = _pull(program, limit, price, u, residual)
        residual = residual - pulls[limit.name]
    limits = {limit.name: problem.frame(pulls[limit.name]) for limit in program.limits}
    return MarginalCosts(problem.frame(total), problem.frame(completion), limits, problem.frame(residual))


def _slope(
    program: MultistageProgram, u: FloatArray, kink: FloatArray, residual: FloatArray, price: FloatArray
) -> FloatArray:
    """Return the subgradient of |u| (T, n) that spread and group caps share at u = 0: both lean on the same kink."""
    from crosswind.optim.box import trade_box

    box, spread = trade_box(program), program.spread
    side = np.where(box.lower >= 0.0, 1.0, np.where(box.upper <= 0.0, -1.0, 0.0))
    by_spread = np.divide(kink, spread, out=np.zeros_like(kink), where=spread > 0.0)
    by_price = np.divide(-residual, price, out=np.zeros_like(kink), where=price > 0.0)
    free = np.clip(np.where(spread > 0.0, by_spread, by_price), -1.0, 1.0)
    return np.where(u != 0.0, np.sign(u), np.where(side != 0.0, side, free))


def _pull(program: MultistageProgram, limit: Limit, price: FloatArray, u: FloatArray, excess: FloatArray) -> FloatArray:
    """Return what the price of one limit means for each trade (T, n): minus its gradient times its price."""
    from crosswind.optim.costs import exposures, positions, suffix_sum
    from crosswind.optim.limits import BandLimit, RateLimit, TradeLimit

    if isinstance(limit, TradeLimit):
        return -price * _side(u, limit.lower, limit.upper, -excess)
    if isinstance(limit, RateLimit):
        before = u[:1] if limit.previous is None else limit.previous[None, :]
        step = np.diff(np.vstack([before, u]), axis=0)
        signed = price * _side(step, -limit.delta, limit.delta, np.zeros_like(step))
        out = -signed
        out[:-1] += signed[1:]
        return out
    if isinstance(limit, BandLimit):
        if limit.soft is not None:
            return np.zeros_like(u)  # a soft band is a cost, and in the marginal cost already
        level = (positions(program, u) if limit.on == "position" else exposures(program, u))[1:] @ limit.matrix.T
        matrix = limit.matrix if limit.on == "position" else limit.matrix @ program.exposure
        signed = price * _side(level, limit.lower, limit.upper, np.zeros_like(level))
        return np.asarray(-suffix_sum(signed @ matrix) @ program.incidence, dtype=np.float64)
    raise InvalidInput("unknown kind of limit", field="limit", value=type(limit).__name__, remedy="report it")


def _side(value: FloatArray, lower: FloatArray, upper: FloatArray, tie: FloatArray) -> FloatArray:
    """Return +1 where the upper bound is the nearer one, −1 where the lower is; ties go by the sign of ``tie``."""
    to_upper, to_lower = upper - value, value - lower
    near = np.where(to_upper < to_lower, 1.0, -1.0)
    return np.where(to_upper == to_lower, np.where(tie >= 0.0, 1.0, -1.0), near)
