"""A bound that no feasible trades can undercut, from any point and any prices.

The cost but c|u| is a convex quadratic f whose Hessian is at least diag(d): twice the temporary cost, and what is left
of impact's and risk's own parts for any path. For prices λ ≥ 0 of the caps, ν of the bands, θ of the changes (signed:
positive prices the upper side, negative the lower) and free μ of the ends, every feasible u has a cost of at least

    L(ũ) + Σ_it min over v in the box of [ g_it (v − ũ_it) + ½d_it (v − ũ_it)² + (c_it + λ_t,g(i)) |v| ],

L the Lagrangian's smooth part, g its gradient at ũ. The minimum is one cell's at a time and in closed form, so that the
bound loses the square of what ũ misses of optimality and not its first power; where a side of a box is infinite, d > 0
keeps it finite. Caps and hard ends tighten the boxes first; a soft end is priced by its conjugate. Up to rounding of
float64 nothing here depends on ũ and the prices being good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crosswind.solvers.schedule import cells
from crosswind.solvers.schedule.problem import Array, FactorSchedule

__all__ = ["Bounder", "SchedulePrices", "gap"]

_ENDLESS = 1e200  # a cell that falls further has no bottom


@dataclass(frozen=True, eq=False)
class SchedulePrices:
    """What one unit more of each limit saves: multipliers of the Lagrangian.

    Attributes
    ----------
    groups
        (T, G) ≥ 0.
    bands
        (T, b) signed: positive where the upper edge binds, negative where the lower one does.
    completion
        (N,) of μ'(q_T − target) where the end is hard, 0 elsewhere: what one unit less of target costs.
    change
        (T, N) signed, positive where u_t − u_{t−1} = δ; None where there is no such limit.
    box
        (T, N) signed: positive where the upper side binds. What is left of the gradient when all else is paid.
    """

    groups: Array
    bands: Array
    completion: Array
    change: Array | None = None
    box: Array | None = None


def gap(problem: FactorSchedule, u: Array, bound: float, objective: float | None = None) -> float:
    """Return (objective − bound) relative to `FactorSchedule.scale`, the sum of the cost's absolute parts at ``u``.

    It is 0 where rounding puts the bound above the objective, and ∞ where there is no bound.
    """
    value = problem.objective(u) if objective is None else objective
    if not (np.isfinite(bound) and np.isfinite(value)):
        return float("inf")
    return max(value - bound, 0.0) / problem.scale(u)


def curvature(problem: FactorSchedule) -> Array:
    """Return d (T, N) with diag(d) no larger than the Hessian.

    Impact: with z_t = ρ_t z_{t−1} + u_t, u_t² ≤ (1 + ρ_t) z_t² + ρ_t (1 + ρ_t) z_{t−1}², so that the energy
    Σ e_t z_t² is at least s Σ u_t² for s = min over t of e_t / (1 + ρ_t + ρ_{t+1} (1 + ρ_{t+1})).

    Risk: with running sums x_t, ½u_t² ≤ x_t² + x_{t−1}², so that Σ w_t x_t² is at least ½ Σ d_t u_t² for d_t half of
    the smaller of w_t and w_{t−1}; the first trade is a sum by itself.
    """
    d = np.array(2.0 * problem.eta)
    for m, rho in enumerate(problem.decays):
        after = np.append(rho[1:], 0.0)
        first = rho.copy()
        first[0] = 0.0  # the state before the first trade is a constant
        least = float(np.min(problem.energy[m] / (1.0 + first + after * (1.0 + after))))
        d += least * problem.impact_own[m]
    w = problem.risk_weight
    share = np.append(w[0] * (2.0 if len(w) == 1 else 1.0), 0.5 * np.minimum(w[1:], w[:-1]))
    d += share[:, None] * problem.risk_own
    return np.asarray(d)


def tightened(problem: FactorSchedule) -> tuple[Array, Array]:
    """Return boxes (T, N) that every feasible point keeps: the given ones, cut by caps and by hard ends.

    Where one is empty there is no feasible point: a hard end is out of reach of the other slices.
    """
    low, high = np.array(problem.lower), np.array(problem.upper)
    if problem.group_caps.shape[1]:
        wide = np.hstack([problem.group_caps, np.full((problem.slices, 1), np.inf)])
        cap = wide[:, np.where(problem.groups < 0, wide.shape[1] - 1, problem.groups)]
        np.minimum(high, cap, out=high)
        np.maximum(low, np.negative(cap, out=cap), out=low)
    total = problem.start - problem.target
    if problem.hard.any():
        # u_t = total − Σ of the others, each on its side of its box.
        small = 4.0 * np.finfo(np.float64).eps * len(low)  # rounding of the sums must not cut what is feasible
        edges = []
        for far, side in ((high, -1.0), (low, 1.0)):
            known = problem.hard & np.isfinite(far).all(axis=0)
            rest = np.where(known, far, 0.0)
            slack = small * (np.abs(total) + np.abs(rest).sum(axis=0))
            edges.append(rest + np.where(known, total - rest.sum(axis=0) + side * slack, side * np.inf))
        np.maximum(low, edges[0], out=low)
        np.minimum(high, edges[1], out=high)
    return low, high


class Bounder:
    """Bounds for one problem; what does not depend on point and prices is made once."""

    def __init__(self, problem: FactorSchedule) -> None:
        self.problem = problem
        self.curvature = curvature(problem)
        with np.errstate(divide="ignore"):
            self.reach = np.where(self.curvature > 0.0, 1.0 / self.curvature, cells.FLAT)
        self.low, high = tightened(problem)
        self.empty = bool((self.low > high).any())
        self.high = np.maximum(self.low, high)
        self.spread = np.ascontiguousarray(problem.spread)
        self.group = np.where(problem.groups < 0, problem.group_caps.shape[1], problem.groups).astype(np.intp)
        # How far a name's end gives way to a unit of price: 0 where it is hard, −1 where there is nothing to price.
        weight = problem.terminal_weight
        self.give = np.where(weight > 0.0, 0.5 / np.where(weight > 0.0, weight, 1.0), -1.0)
        self.total = problem.start - problem.target
        self.slack = 1e-9 * problem.name_size

    def prices(
        self, groups: Array, bands: Array, completion: Array | None = None, change: Array | None = None
    ) -> SchedulePrices:
        """Return the prices with their signs enforced, and zero where there is nothing to price."""
        p = self.problem
        groups = np.where(np.isfinite(p.group_caps), np.maximum(groups, 0.0), 0.0)
        priced = (bands > 0.0) & np.isfinite(p.band_upper) | (bands < 0.0) & np.isfinite(p.band_lower)
        mu = np.zeros(p.names) if completion is None else np.where(p.terminal_weight > 0.0, completion, 0.0)
        if p.change is None:
            change = None
        else:
            change = np.zeros(p.eta.shape) if change is None else np.where(np.isfinite(p.change), change, 0.0)
            if p.previous is None:
                change[0] = 0.0
        return SchedulePrices(groups, np.where(priced, bands, 0.0), mu, change)

    def reduced(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> tuple[float, Array]:
        """Return the constant of the bound and the gradient g (T, N) at ``u``, ends and caps still unpaid."""
        p = self.problem
        # Soft ends are priced, not linearised: v e² ≥ −μe − μ²/4v for any μ and e = q_T − target.
        q = p.remaining(u)
        soft = float(np.where(p.hard, 0.0, p.terminal_weight) @ np.square(q[-1] - p.target))
        constant = p.objective(u) - float(np.sum(p.spread * np.abs(u))) - soft
        if prices.bands.size:
            nu, exposure = prices.bands, q @ p.band_vectors
            edge = np.where(nu > 0.0, p.band_upper, np.where(nu < 0.0, p.band_lower, exposure))
            constant += float(np.sum(nu * (exposure - edge)))
        if prices.change is not None and p.change is not None:
            before = np.zeros(p.names) if p.previous is None else p.previous
            step = u - np.vstack([before, u[:-1]])
            limit = np.where(np.isfinite(p.change), p.change, 0.0)
            constant += float(np.sum(prices.change * step - np.abs(prices.change) * limit))
        return constant, self._slope(u, prices, gradient)

    def _slope(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> Array:
        p = self.problem
        g = p.gradient(u) if gradient is None else gradient.copy()
        soft = np.where(p.hard, 0.0, p.terminal_weight)
        if soft.any():
            g += 2.0 * soft * (p.start - u.sum(axis=0) - p.target)
        if prices.bands.size:
            g -= np.cumsum(prices.bands[::-1], axis=0)[::-1] @ p.band_vectors.T
        if prices.change is not None:
            g += prices.change
            g[:-1] -= prices.change[1:]
        return g

    def bound(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> float:
        """Return the bound from trades ``u`` (T, N), feasible or not, and prices made by `prices`; −∞ where none."""
        return self.best(u, prices, gradient, passes=0)[0]

    def best(
        self, u: Array, prices: SchedulePrices, gradient: Array | None = None, passes: int = 60
    ) -> tuple[float, SchedulePrices]:
        """Return the bound with the best price of each hard end, all else as it is, and the prices behind it.

        The bound is concave in each μ_i alone, with slope (q_0 − target)_i − Σ_t v_ti: Newton steps in a bracket.
        """
        p = self.problem
        constant, g = self.reduced(u, prices, gradient)
        pull = self.curvature * u
        constant -= float(np.sum((g - 0.5 * pull) * u))
        pull -= g
        capped = np.isfinite(p.group_caps)
        constant -= float(np.sum(prices.groups[capped] * p.group_caps[capped]))
        theta = np.hstack([prices.groups, np.zeros((p.slices, 1))])
        mu = np.array(prices.completion)
        value = cells.dual(
            passes,
            self.group,
            theta,
            pull,
            self.reach,
            self.spread,
            self.low,
            self.high,
            self.total,
            self.give,
            self.slack,
            mu,
        )
        out = constant + float(value.sum())
        if not np.isfinite(out) or float(value.min()) < -_ENDLESS:
            out = -np.inf
        return out, SchedulePrices(prices.groups, prices.bands, mu, prices.change)

    def with_boxes(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> SchedulePrices:
        """Return the prices with those of boxes: what the cells at a bound of ``u``'s minimiser still pull."""
        p = self.problem
        g = self._slope(u, prices, gradient)
        g -= prices.completion
        kappa = p.spread + np.hstack([prices.groups, np.zeros((p.slices, 1))])[:, self.group]
        pull = self.curvature * u - g
        with np.errstate(over="ignore"):
            v = (np.maximum(pull - kappa, 0.0) + np.minimum(pull + kappa, 0.0)) * self.reach
        v = np.clip(v, p.lower, p.upper)
        slope = pull - self.curvature * v - np.sign(v) * kappa
        slope = np.where(v == 0.0, np.copysign(np.maximum(np.abs(slope) - kappa, 0.0), slope), slope)
        held = ((v >= p.upper) & (slope > 0.0)) | ((v <= p.lower) & (slope < 0.0))
        return replace(prices, box=np.where(held, slope, 0.0))

    def proves_infeasible(self, prices: SchedulePrices) -> bool:
        """Tell whether the prices alone show that no trades keep all limits: their bound for a cost of zero is > 0."""
        p = self.problem
        if self.empty:
            return True  # by counting, whatever the prices
        if prices.change is not None:
            return False
        zero = np.zeros(p.eta.shape)
        capped = np.isfinite(p.group_caps)
        nu = prices.bands
        edge = np.where(nu > 0.0, p.band_upper, np.where(nu < 0.0, p.band_lower, 0.0))
        terms = [-prices.groups[capped] * p.group_caps[capped], nu * (p.start @ p.band_vectors), -nu * edge]
        pull = np.cumsum(nu[::-1], axis=0)[::-1] @ p.band_vectors.T
        theta = np.hstack([prices.groups, np.zeros((p.slices, 1))])
        mu = np.where(p.hard, prices.completion, 0.0)
        give, flat = np.where(p.hard, 0.0, -1.0), np.full(p.eta.shape, cells.FLAT)
        boxes = np.ascontiguousarray(p.lower), np.ascontiguousarray(p.upper)
        value = cells.dual(0, self.group, theta, pull, flat, zero, *boxes, self.total, give, self.slack, mu)
        size = sum(float(np.abs(term).sum()) for term in terms) + float(np.abs(mu) @ np.abs(self.total))
        proof = sum(float(term.sum()) for term in terms) + float(value.sum())
        return bool(np.isfinite(proof) and proof > 1e-9 * size)
