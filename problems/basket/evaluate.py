"""What any schedule of a basket costs, and the slope of every part, in time and memory of slices × names × factors.

The multistage program says the same through its incidence and exposures (:mod:`crosswind.optim.costs`); here both are
known to be ±1, so that no matrix over names is needed unless the model itself is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crosswind.optim.factored import diagonal_of, image
from crosswind.problems.basket.inputs import FloatArray

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["cost_parts", "slopes"]


def _push(problem: BasketProblem, m: int, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mode m's state before each trade, and what each trade adds to the price of the later ones (T, N)."""
    T = len(v)
    rho = np.exp(-problem.modes[m].rate_per_s * problem.arrays.dt_s)
    before, later = np.zeros_like(v), np.zeros_like(v)
    before[0] = rho[0] * problem.modes[m].state
    for t in range(1, T):
        before[t] = rho[t] * (before[t - 1] + v[t - 1])
    for t in range(T - 2, -1, -1):
        later[t] = rho[t + 1] * (later[t + 1] + v[t + 1])
    return before, later


def _shares(problem: BasketProblem, m: int) -> FloatArray:
    share = np.asarray(problem.modes[m].share, dtype=np.float64).reshape(-1)
    return np.broadcast_to(share, (problem.n_slices,))[:, None]


def cost_parts(problem: BasketProblem, trades: FloatArray) -> dict[str, float]:
    """Return the cost of a schedule (T, N) by component [currency]; limits are not looked at, soft ones are priced.

    Parameters
    ----------
    problem
        The basket.
    trades
        Signed trades (T, N) [currency].
    """
    a, u = problem.arrays, trades
    size = np.abs(u)
    q = problem.remaining(u)[1:]
    own = cross = 0.0
    for m, mode in enumerate(problem.modes):
        # Σ_t v_t'K(ρ z_{t−1} + ½ v_t): the diagonal of K is the self part.
        v = _shares(problem, m) * u
        push = _push(problem, m, v)[0] + 0.5 * v
        diagonal = diagonal_of(mode.matrix)
        own += float(np.sum(v * push * diagonal))
        cross += float(np.sum(v * (image(push, mode.matrix) - push * diagonal)))
    held = a.risk_weight[:, None] * q
    risk = 0.0
    if a.covariance is not None and problem.risk_aversion > 0.0:
        risk = problem.risk_aversion * float(np.sum(held * image(q, a.covariance)))
    weight = np.where(a.hard, 0.0, a.terminal_weight)
    return {
        "spread": float(np.sum(a.spread * size)),
        "temporary": float(np.sum(a.temporary * u**2)),
        "impact_self": own,
        "impact_cross": cross,
        "risk": risk,
        "terminal": float(np.sum(weight * (q[-1] - a.target) ** 2)),
        "three_halves": float(np.sum(a.three_halves * size * np.sqrt(size))),
        "drift": float(np.sum(a.drift * q)),
        "urgency": float(np.sum(held * q * a.urgency)),
        "soft": _soft(problem, q),
    }


def _soft(problem: BasketProblem, q: FloatArray) -> float:
    """Return what soft extra limits cost."""
    from crosswind.optim.limits import BandLimit

    total = 0.0
    for limit in problem.limits:
        if isinstance(limit, BandLimit) and limit.soft is not None:
            row = q @ limit.matrix.T
            s = np.maximum(row - limit.upper, 0.0) + np.maximum(limit.lower - row, 0.0)
            total += float(limit.soft.linear * s.sum() + 0.5 * limit.soft.quadratic * np.sum(s**2))
    return total


def slopes(problem: BasketProblem, trades: FloatArray) -> dict[str, FloatArray]:
    """Return ∂/∂u (T, N) of each smooth component: all but spread and soft limits [currency per unit bought].

    A term on what remains comes back to a trade as minus its sum over the later slices.
    """
    a, u = problem.arrays, trades
    q = problem.remaining(u)[1:]
    impact = np.zeros_like(u)
    for m, mode in enumerate(problem.modes):
        phi = _shares(problem, m)
        v = phi * u
        before, later = _push(problem, m, v)
        impact += phi * image(before + v + later, mode.matrix)
    waiting = a.drift + 2.0 * a.risk_weight[:, None] * q * a.urgency
    if a.covariance is not None and problem.risk_aversion > 0.0:
        waiting = waiting + 2.0 * problem.risk_aversion * a.risk_weight[:, None] * image(q, a.covariance)
    weight = np.where(a.hard, 0.0, a.terminal_weight)
    end = 2.0 * weight * (q[-1] - a.target)
    return {
        "temporary": 2.0 * a.temporary * u,
        "three_halves": 1.5 * a.three_halves * np.sign(u) * np.sqrt(np.abs(u)),
        "impact": impact,
        "waiting": -np.cumsum(waiting[::-1], axis=0)[::-1],
        "terminal": np.broadcast_to(-end, u.shape),
    }
