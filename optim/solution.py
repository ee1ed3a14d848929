"""What a solved multistage program hands back: trades, cost split, marginal costs, the price of every limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.optim.checks import FloatArray
from crosswind.optim.costs import (
    CostBreakdown,
    cost,
    exposures,
    gradient_terms,
    positions,
    soft_excess,
    suffix_sum,
)
from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit
from crosswind.optim.lowered import Lowered
from crosswind.optim.program import MultistageProgram
from crosswind.optim.three_halves import fenchel_loss
from crosswind.solvers.solution import Certificate, Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["MultistageSolution", "unpack"]

_IDLE = 1e-6  # |u| below this fraction of the name's largest trade is dust
_NEAR = 1e-3  # beyond this fraction of its size a trade or an excess is never taken for a kink
_EPSILON = 1e-9  # slack of the ε-subgradient, relative to the cost


@dataclass(frozen=True, eq=False)
class MultistageSolution:
    """Solution of a multistage program, everything in the program's own units.

    Attributes
    ----------
    trades
        u (T, n), signed.
    positions, exposures
        p_0..p_T (T+1, P) and e_0..e_T (T+1, k).
    cost
        Components that sum to the total, evaluated at ``trades`` by :func:`crosswind.optim.costs.cost`.
    marginal_cost
        MC (T, n) = ∂C/∂u, currency per unit of trade. Where |u| or a soft limit has its kink (u = 0, level at the
        bound) the subgradient that the optimality conditions need is taken, from the duals, inside its interval [−c,
        c]; where the box allows one sign only, the one-sided derivative into that side.
    completion_price
        (P,): what one more unit of target costs; 0 where the end is free or priced.
    prices
        Limit name → array ≥ 0: cost saved per unit by which the binding bound is relaxed; (T, n) for trade and rate
        limits, (T, g) for bands and group caps. Where several trade limits coincide the price sits on the first.
    stationarity
        (T, n) = MC − S'completion_price − limit prices mapped back to trades; 0 at the optimum up to the tolerance.
    certificate
        Of the lowered, scaled QP; ``gap_currency`` translates its gap.
    solution
        The solver's own result (status, backend, attempts, timings).
    program
        The program that was solved.
    cost_scale
        Currency per unit of the lowered objective.
    gradient_scale
        Largest gradient of any single component, currency per unit of trade: what the stationarity is measured against.
    """

    trades: FloatArray
    positions: FloatArray
    exposures: FloatArray
    cost: CostBreakdown
    marginal_cost: FloatArray
    completion_price: FloatArray
    prices: dict[str, FloatArray]
    stationarity: FloatArray
    certificate: Certificate
    solution: Solution
    program: MultistageProgram
    cost_scale: float
    gradient_scale: float

    @property
    def gap_currency(self) -> float:
        """Certified distance of the cost from the optimum, currency."""
        return self.certificate.gap * self.cost_scale

    @property
    def stationarity_rel(self) -> float:
        """Largest stationarity residual relative to the largest term it is made of."""
        sizes = [float(np.abs(a).max(initial=0.0)) for a in (self.completion_price, *self.prices.values())]
        return float(np.abs(self.stationarity).max()) / max(self.gradient_scale, *sizes, 1e-300)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per slice and instrument: trade, marginal cost and the prices of trade and rate limits."""
        index = pd.MultiIndex.from_product(
            [range(self.program.slices), self.program.instruments], names=["slice", "instrument"]
        )
        columns = {"trade": self.trades.ravel(), "marginal_cost": self.marginal_cost.ravel()}
        for limit in self.program.limits:
            if isinstance(limit, TradeLimit | RateLimit):
                columns[limit.name] = self.prices[limit.name].ravel()
        return pd.DataFrame(columns, index=index)

    def summary(self) -> str:
        """Return a few lines: status, cost split, what completion and each limit cost."""
        status = self.solution.status
        lines = [f"{status.name}: {status.text}", f"solved by {self.solution.backend}; {self.certificate.summary()}"]
        for name, value in self.cost.to_series().items():
            lines.append(f"  {name!s:<14}{value:>16,.4f}")
        for label, price in zip(self.program.positions, self.completion_price, strict=True):
            if price != 0.0 and len(self.program.positions) <= 12:
                lines.append(f"  completion[{label}] price {price:.6g}")
        for name, prices in self.prices.items():
            lines.append(
                f"  {name}: largest price {float(prices.max(initial=0.0)):.6g}, binds {self.binding(name)} times"
            )
        return "\n".join(lines)

    def binding(self, name: str, tol: float = 1e-6) -> int:
        """Return how many rows of limit ``name`` carry a price above ``tol`` × the largest marginal cost."""
        floor = tol * max(float(np.abs(self.marginal_cost).max()), 1e-300)
        return int((self.prices[name] > floor).sum())

    def plot(self) -> go.Figure:
        """Return a plotly figure of the positions over the slices."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for i, name in enumerate(self.program.positions):
            figure.add_scatter(y=self.positions[:, i], name=name, mode="lines", line_shape="hv")
        figure.update_layout(title="Positions", xaxis_title="slice", yaxis_title="position")
        return figure

    def _repr_html_(self) -> str:
        return str(self.cost.to_series().to_frame().to_html())


def unpack(lowered: Lowered, solution: Solution, power_slope: FloatArray | None = None) -> MultistageSolution:
    """Turn a solver's result for the lowered QP into trades, costs and prices in the program's units.

    Parameters
    ----------
    lowered
        From :func:`crosswind.optim.lowering.lower`.
    solution
        A usable result for ``lowered.qp`` (finite x, y, z).
    power_slope
        Slopes (T, n) that stand for the derivative of κ|u|^{3/2} in the certificate; taken where they are
        ε-subgradients, since |u|^{1/2} turns dust of 1e-10 into residuals of 1e-5.
    """
    program = lowered.program
    u = _repair(lowered, lowered.unpack_trades(solution.x))
    y, z = lowered.unpack_rows(solution.y), lowered.unpack_boxes(solution.z)
    size = lowered.scaling.trades
    prices: dict[str, FloatArray] = {}
    pull = np.array(z)  # Σ A'y mapped to trades, everything except kinked costs
    soft = np.zeros_like(u)
    group_price = np.zeros_like(u)  # Σ_g m_gi y_g: a further price on |u|
    for number, limit in enumerate(program.limits):
        if isinstance(limit, TradeLimit):
            owner = np.where(z > 0.0, lowered.box.upper_owner, lowered.box.lower_owner)
            prices[limit.name] = np.where(owner == number, np.abs(z), 0.0)
            continue
        rows = lowered.limits[limit.name].rows
        dual = np.where(rows >= 0, y[np.maximum(rows, 0)], 0.0) if len(y) else np.zeros(rows.shape)
        if isinstance(limit, GroupCap):
            dual = np.maximum(dual, 0.0)
            group_price += dual @ limit.membership
        elif isinstance(limit, RateLimit):
            pull += dual
            pull[:-1] -= dual[1:]
        else:
            matrix = limit.matrix if limit.on == "position" else limit.matrix @ program.exposure
            if limit.soft is not None:
                dual = _soft_slope(lowered, limit, u, dual, matrix)
                soft += suffix_sum(dual @ matrix) @ program.incidence
            else:
                pull += suffix_sum(dual @ matrix) @ program.incidence
        prices[limit.name] = np.abs(dual)
    fraction = _sign_fraction(lowered, u, y, program.spread + group_price, size)
    terms = gradient_terms(program, u, *lowered.unpack_state(solution.x))
    if power_slope is not None:
        exact = fenchel_loss(program.three_halves, u, power_slope) > _EPSILON * lowered.cost_scale
        terms["three_halves"] = np.where(exact, terms["three_halves"], power_slope)
    marginal = np.asarray(sum(terms.values())) + program.spread * fraction + soft
    completion = np.zeros(len(program.positions))
    if program.terminal is not None:
        completion[program.terminal.hard] = -y[lowered.completion]
    return MultistageSolution(
        trades=u,
        positions=positions(program, u),
        exposures=exposures(program, u),
        cost=cost(program, u),
        marginal_cost=marginal,
        completion_price=completion,
        prices=prices,
        stationarity=marginal - completion @ program.incidence + pull + group_price * fraction,
        certificate=solution.certificate,
        solution=solution,
        program=program,
        cost_scale=lowered.cost_scale,
        gradient_scale=max(float(np.abs(a).max(initial=0.0)) for a in (program.spread, soft, *terms.values())),
    )


def _sign_fraction(lowered: Lowered, u: FloatArray, y: FloatArray, weight: FloatArray, size: FloatArray) -> FloatArray:
    """Return the subgradient of |u| in [−1, 1]: the sign, the box's side, or at the kink what the duals say."""
    box = lowered.box
    side = np.where(box.lower >= 0.0, 1.0, np.where(box.upper <= 0.0, -1.0, 0.0))
    lifted = lowered.absolute >= 0
    if not lifted.any():
        return np.where(u != 0.0, np.sign(u), side)
    net = np.where(lifted, y[lowered.epigraph[0]] - y[lowered.epigraph[1]], 0.0)
    kink = np.divide(net, weight, out=np.zeros_like(net), where=weight > 0.0)
    kink = np.clip(kink, -1.0, 1.0)
    # g is an ε-subgradient of c|u| exactly when |g| ≤ c and c|u| − g u ≤ ε: an interior point's dust around 0 must not
    # turn into a residual of size c.
    loss = weight * (np.abs(u) - kink * u)
    inside = (np.abs(u) <= _NEAR * size) & (loss <= _EPSILON * lowered.cost_scale)
    return np.asarray(np.where(lifted, np.where(inside, kink, np.sign(u)), np.where(u != 0.0, np.sign(u), side)))


def _soft_slope(lowered: Lowered, limit: BandLimit, u: FloatArray, dual: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return the slope of a soft penalty: exact where it is smooth, the dual inside its interval at the kink."""
    assert limit.soft is not None
    excess = soft_excess(lowered.program, limit, u)
    scale = np.abs(matrix * lowered.scaling.positions).max(axis=1, initial=0.0)
    slope = np.sign(excess) * (limit.soft.linear + limit.soft.quadratic * np.abs(excess))
    inside = np.clip(dual, -limit.soft.linear, limit.soft.linear)
    loss = limit.soft.linear * np.abs(excess) - inside * excess
    at_kink = (np.abs(excess) <= _NEAR * scale) & (loss <= _EPSILON * lowered.cost_scale)
    return np.asarray(np.where(at_kink, inside, slope), dtype=np.float64)


def _repair(lowered: Lowered, trades: FloatArray) -> FloatArray:
    """Clip to the box and, where each position is moved by its own instrument, restore the hard completion exactly."""
    program, box = lowered.program, lowered.box
    u = np.clip(trades, box.lower, box.upper)
    if program.terminal is None or not program.terminal.hard.any():
        return u
    if len(program.positions) != len(program.instruments) or not np.array_equal(
        program.incidence, np.eye(len(program.positions))
    ):
        return u
    missing = np.where(program.terminal.hard, program.terminal.target - program.p0 - u.sum(axis=0), 0.0)
    room = np.where(missing > 0.0, box.upper - u, u - box.lower)
    # Only trades that are really traded take the rest: dust must not appear where the schedule is idle.
    active = np.abs(u) > _IDLE * np.abs(u).max(axis=0)
    share = np.where(active, np.minimum(room, np.abs(u)), 0.0)
    total = share.sum(axis=0)
    fits = (total > 0.0) & (np.abs(missing) <= total)
    step = np.divide(missing, total, out=np.zeros_like(missing), where=fits)
    return np.asarray(np.clip(u + share * step, box.lower, box.upper), dtype=np.float64)
