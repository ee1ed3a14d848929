"""A bound that no feasible trades can undercut, from any point and any prices.

The cost but c|u| is a convex quadratic f whose Hessian is at least diag(d) (twice the temporary cost, and what is left
of the impact's own part for any path). For prices λ ≥ 0 of the caps, ν of the bands, θ of the changes (signed: positive
prices the upper side, negative the lower) and free μ of the hard ends, every feasible u has a cost of at least

    L(ũ) + Σ_it min over v in the box of [ g_it (v − ũ_it) + ½d_it (v − ũ_it)² + (c_it + λ_t,g(i)) |v| ],

L the Lagrangian's smooth part, g its gradient at ũ. The minimum is one cell's at a time and in closed form, so the bound
loses the square of what ũ misses of optimality and not its first power; where a side of a box is infinite, d > 0 keeps
it finite. Caps and hard ends tighten the boxes first. Up to rounding of float64 nothing here depends on ũ and the prices
being good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers.schedule.problem import Array, FactorSchedule

__all__ = ["Bounder", "SchedulePrices", "gap"]

_TINY = np.finfo(np.float64).tiny


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
    """
    d = np.array(2.0 * problem.eta)
    for m, rho in enumerate(problem.decays):
        after = np.append(rho[1:], 0.0)
        first = rho.copy()
        first[0] = 0.0  # the state before the first trade is a constant
        least = float(np.min(problem.energy[m] / (1.0 + first + after * (1.0 + after))))
        d += least * problem.impact_own[m]
    return np.asarray(d)


def tightened(problem: FactorSchedule) -> tuple[Array, Array]:
    """Return boxes (T, N) that every feasible point keeps: the given ones, cut by caps and by hard ends."""
    low, high = np.array(problem.lower), np.array(problem.upper)
    member = problem.groups >= 0
    if member.any():
        cap = problem.group_caps[:, problem.groups[member]]
        low[:, member] = np.maximum(low[:, member], -cap)
        high[:, member] = np.minimum(high[:, member], cap)
    hard, total = problem.hard, problem.start - problem.target
    if hard.any():
        # u_t = total − Σ of the others, each on its side of its box.
        least, most = low[:, hard], high[:, hard]
        for here, other, cut in ((low, most, np.maximum), (high, least, np.minimum)):
            rest = other.sum(axis=0) - other
            edge = np.where(np.isfinite(other).all(axis=0), total[hard] - rest, here[:, hard])
            # Rounding of the sums must not cut what is feasible.
            slack = 1e-14 * len(low) * (np.abs(total[hard]) + np.abs(np.where(np.isfinite(other), other, 0.0)).sum(0))
            edge = edge - slack if cut is np.maximum else edge + slack
            here[:, hard] = cut(here[:, hard], edge)
    return low, np.maximum(low, high)


class Bounder:
    """Bounds for one problem; what does not depend on point and prices is made once."""

    def __init__(self, problem: FactorSchedule) -> None:
        self.problem = problem
        self.curvature = curvature(problem)
        self.low, self.high = tightened(problem)

    def prices(
        self, groups: Array, bands: Array, completion: Array | None = None, change: Array | None = None
    ) -> SchedulePrices:
        """Return the prices with their signs enforced, and zero where there is nothing to price."""
        p = self.problem
        groups = np.where(np.isfinite(p.group_caps), np.maximum(groups, 0.0), 0.0)
        bands = np.where(
            (bands > 0.0) & np.isfinite(p.band_upper) | (bands < 0.0) & np.isfinite(p.band_lower), bands, 0
        )
        mu = np.zeros(p.names) if completion is None else np.where(p.hard, completion, 0.0)
        if p.change is None:
            change = None
        else:
            change = np.zeros(p.eta.shape) if change is None else np.where(np.isfinite(p.change), change, 0.0)
            if p.previous is None:
                change[0] = 0.0
        return SchedulePrices(groups, bands, mu, change)

    def reduced(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> tuple[float, Array]:
        """Return the constant of the bound and the gradient g (T, N) of the Lagrangian's smooth part at ``u``."""
        p = self.problem
        g = p.gradient(u) if gradient is None else gradient.copy()
        q = p.remaining(u)
        constant = p.objective(u) - float(np.sum(p.spread * np.abs(u)))
        capped = np.isfinite(p.group_caps)
        constant -= float(np.sum(prices.groups[capped] * p.group_caps[capped]))
        if prices.bands.size:
            nu, exposure = prices.bands, q @ p.band_vectors
            edge = np.where(nu > 0.0, p.band_upper, np.where(nu < 0.0, p.band_lower, exposure))
            constant += float(np.sum(nu * (exposure - edge)))
            g -= np.cumsum(nu[::-1], axis=0)[::-1] @ p.band_vectors.T
        constant += float(prices.completion @ np.where(p.hard, q[-1] - p.target, 0.0))
        g -= prices.completion
        if prices.change is not None and p.change is not None:
            theta = prices.change
            before = np.zeros(p.names) if p.previous is None else p.previous
            step = u - np.vstack([before, u[:-1]])
            limit = np.where(np.isfinite(p.change), p.change, 0.0)
            constant += float(np.sum(theta * step - np.abs(theta) * limit))
            g += theta
            g[:-1] -= theta[1:]
        return constant, g

    def cells(self, u: Array, g: Array, groups: Array) -> Array:
        """Return the minimisers v (T, N) of the bound's cells; ±∞ where a cell falls forever."""
        p, d = self.problem, self.curvature
        kappa = np.array(p.spread)
        member = p.groups >= 0
        if member.any():
            kappa[:, member] += groups[:, p.groups[member]]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            pull = d * u - g
            room = np.abs(pull) - kappa
            v = np.where(room > 0.0, np.copysign(room / d, pull), 0.0)
        return np.asarray(np.clip(v, self.low, self.high))

    def bound(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> float:
        """Return the bound from trades ``u`` (T, N), feasible or not, and prices made by `prices`; −∞ where none."""
        p = self.problem
        constant, g = self.reduced(u, prices, gradient)
        v = self.cells(u, g, prices.groups)
        if not np.isfinite(v).all() or not np.isfinite(constant):
            return -np.inf
        step = v - u
        value = constant + float(np.sum((g + 0.5 * self.curvature * step) * step)) + float(np.sum(p.spread * np.abs(v)))
        sums = p.group_sums(v)
        return value + float(np.sum(prices.groups * sums))

    def completed(self, u: Array, prices: SchedulePrices, gradient: Array | None = None) -> SchedulePrices:
        """Return the prices with the best completion price of each hard name, all else as it is.

        The bound is concave in μ_i alone, with slope Σ_t v_ti − (q_0 − target)_i: Newton steps kept inside a bracket.
        """
        p = self.problem
        if not p.hard.any():
            return prices
        _, g = self.reduced(u, prices, gradient)
        total = p.start - p.target
        shift, low, high = np.zeros(p.names), np.full(p.names, -np.inf), np.full(p.names, np.inf)
        best, least = shift.copy(), np.full(p.names, np.inf)
        size = np.maximum(p.name_size, _TINY)
        step = np.where(self.curvature > 0.0, 1.0 / np.where(self.curvature > 0.0, self.curvature, 1.0), 0.0)
        for _ in range(40):
            v = self.cells(u, g - shift, prices.groups)
            miss = np.where(p.hard, v.sum(axis=0) - total, 0.0)
            miss = np.where(np.isfinite(miss), miss, np.copysign(1e300, miss))
            better = np.abs(miss) < least
            best, least = np.where(better, shift, best), np.minimum(least, np.abs(miss))
            if not (np.abs(miss) > 1e-12 * size).any():
                break
            high, low = np.where(miss > 0.0, shift, high), np.where(miss < 0.0, shift, low)
            fall = np.where((v > self.low) & (v < self.high) & (v != 0.0), step, 0.0).sum(axis=0)
            spare = step.sum(axis=0)
            move = np.where(fall > 0.0, miss / np.where(fall > 0.0, fall, 1.0), miss / np.maximum(spare, _TINY))
            new = shift - move
            inside = (new > low) & (new < high)
            middle = 0.5 * (low + high)
            new = np.where(inside, new, np.where(np.isfinite(middle), middle, shift - 2.0 * move))
            shift = np.where(miss == 0.0, shift, new)
        return SchedulePrices(
            prices.groups, prices.bands, prices.completion + np.where(p.hard, best, 0.0), prices.change
        )
