"""The basket problem written once more, in the words of a desk and in cvxpy: the independent check of our lowering.

Nothing here goes through the multistage program: impact is the full double sum over pairs of slices, limits are written
from the inputs. It is slow and short on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.basket.inputs import per_name
from crosswind.solvers.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from crosswind.problems.basket.inputs import FloatArray
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["impact_matrix", "reference_basket"]


def impact_matrix(problem: BasketProblem) -> FloatArray:
    """Return the symmetric PSD matrix Q (TN, TN) with impact cost ½ u'Qu, u stacked slice by slice [1/currency].

    Block (s, t) is Σ_m φ_ms φ_mt e^{−β_m |t_s − t_t|} K_m: every pair of slices, each counted from both sides, and of
    an auction only the share φ of its trade that a decaying mode sees.
    """
    seconds = np.concatenate([[0.0], np.cumsum(problem.arrays.dt_s[1:])])
    lag = np.abs(seconds[:, None] - seconds[None, :])
    size = problem.n_slices * problem.n_names
    total = np.zeros((size, size))
    share = np.ones(problem.n_slices)
    for auction in problem.auctions:
        share[int(np.flatnonzero(problem.times == auction.time)[0])] = auction.transient
    for mode in problem.model.modes():
        matrix = mode.matrix if isinstance(mode.matrix, np.ndarray) else mode.matrix.dense()
        seen = share if mode.rate_per_s > 0.0 else np.ones(problem.n_slices)
        total += np.kron(np.exp(-mode.rate_per_s * lag) * np.outer(seen, seen), np.asarray(matrix))
    return total


def _moves(problem: BasketProblem) -> FloatArray:
    """Return the expected move of each price from the first slice to each start and to the end (T + 1, N)."""
    drift, T = problem.drift, problem.n_slices
    if drift is None:
        return np.zeros((T + 1, problem.n_names))
    names = list(problem.names)
    if not hasattr(drift, "columns"):
        last = problem.times[-1:] + np.timedelta64(round(1e9 * problem.arrays.lengths[-1]), "ns")
        clock = pd.DatetimeIndex(problem.times.append(last))
        seconds = np.asarray((clock - clock[0]).total_seconds())[:, None]
        alpha = drift[names].to_numpy()
        life = problem.drift_half_life_s
        if life is None:
            return np.asarray(seconds * alpha)
        h = per_name(life, problem.names, "drift_half_life_s")
        return np.asarray(alpha * h / np.log(2.0) * (1.0 - 2.0 ** (-seconds / h)))
    return np.vstack([np.zeros(len(names)), np.cumsum(drift[names].to_numpy(), axis=0)])


def reference_basket(problem: BasketProblem) -> tuple[Any, Any]:
    """Return ``(cvxpy.Problem, u)`` of the basket, u of shape (T, N), as shares of the parent notional.

    The variable is the trade as a share of the parent notional, and the objective is the cost in bps of it, so that a
    general conic solver sees numbers near one; multiply ``u.value`` by ``problem.parent_notional`` (or 1 where that is
    zero) to get currency. The three-halves cost is a power, which cvxpy hands over as cones.

    Parameters
    ----------
    problem
        The basket; ``extra_limits`` are not known to the reference and are refused.

    Raises
    ------
    InvalidInput
        When the problem carries extra limits.
    MissingDependency
        When cvxpy is absent.
    """
    try:
        import cvxpy as cp
    except ImportError as err:
        raise MissingDependency("cvxpy is not installed", field="cvxpy", remedy="pip install cvxpy") from err
    if problem.extra_limits:
        raise InvalidInput(
            "the reference knows only the limits of a basket",
            field="extra_limits",
            value=[limit.name for limit in problem.extra_limits],
            remedy="problem.replace(extra_limits=())",
        )
    a, T, N = problem.arrays, problem.n_slices, problem.n_names
    unit = problem.parent_notional or 1.0
    u = cp.Variable((T, N), name="u")
    q0, target = a.inventory / unit, a.target / unit
    # Remaining inventory after slice t: what was ordered minus what has been traded up to and including t.
    q = q0[None, :] - np.tril(np.ones((T, T))) @ u

    # Costs in bps of the parent notional: currency / unit × 1e4, with currency² terms carrying one more unit.
    spread = 1e4 * cp.sum(cp.multiply(a.spread, cp.abs(u)))
    temporary = 1e4 * unit * cp.sum(cp.multiply(a.temporary, cp.square(u)))
    Q = 1e4 * unit * impact_matrix(problem)
    impact = 0.5 * cp.quad_form(cp.vec(u, order="C"), cp.psd_wrap(0.5 * (Q + Q.T)))
    cost = spread + temporary + impact
    if a.three_halves.any():
        cost = cost + 1e4 * np.sqrt(unit) * cp.sum(cp.multiply(a.three_halves, cp.power(cp.abs(u), 1.5)))
    if problem.drift is not None:
        # Every trade pays the move up to its slice; what is never traded is marked at the end.
        moves = _moves(problem)
        cost = cost + 1e4 * (cp.sum(cp.multiply(moves[:-1], u)) + q[-1] @ moves[-1])
    held = np.sqrt(a.lengths / problem.slice_s)[:, None]
    if a.covariance is not None:
        sigma = a.covariance if isinstance(a.covariance, np.ndarray) else a.covariance.dense()
        if problem.risk_aversion > 0.0:
            weights, vectors = np.linalg.eigh(sigma)
            root = vectors * np.sqrt(np.maximum(weights, 0.0))
            cost = cost + 1e4 * unit * problem.risk_aversion * cp.sum_squares(cp.multiply(np.tile(held, N), q) @ root)
        own = per_name(problem.urgency, problem.names, "urgency") * np.diag(sigma)
        cost = cost + 1e4 * unit * cp.sum(cp.multiply(held**2 * own, cp.square(q)))

    rules: list[Any] = []
    orders = len(problem.inventory)
    if isinstance(problem.completion, float):
        cost = cost + 1e4 * unit * problem.completion * cp.sum_squares(q[-1, :orders] - target[:orders])
    else:
        rules.append(q[-1, :orders] == target[:orders])
    if problem.hedge_target is not None:
        for name, position in problem.hedge_target.items():
            rules.append(-q[-1, problem.names.index(str(name))] == position / unit)
    if a.participation_cap is not None:
        rules += [
            cp.abs(u)[t, i] <= a.participation_cap[t, i] / unit
            for t, i in np.argwhere(np.isfinite(a.participation_cap))
        ]
    if not problem.allow_reversal:
        for i in range(orders):
            side = a.side[i]
            rules.append(u[:, i] == 0.0 if side == 0.0 else side * u[:, i] >= 0.0)
    closed, late = problem._blocked_cells(), problem._finish_cells()
    shut = closed | late
    if shut.any():
        rules.append(cp.multiply(shut.astype(np.float64), u) == 0.0)
    for i in np.flatnonzero(late.any(axis=0) & (a.terminal_weight > 0.0)).tolist():
        rules.append(q[max(int(np.argmax(late[:, i])) - 1, 0), i] == target[i])
    membership, cap, _ = problem._sector_rows()
    for row, sector_most in zip(membership, cap, strict=True):
        rules.append(cp.abs(u) @ row <= sector_most / unit)
    if problem.cash_band is not None:
        rules.append(cp.abs(cp.sum(q[:, :orders], axis=1)) <= problem.cash_band / unit)
    if problem.beta_band is not None:
        assert problem.beta is not None
        rules.append(cp.abs(q @ problem.beta[list(problem.names)].to_numpy()) <= problem.beta_band / unit)
    if problem.factor_band is not None:
        assert problem.factor_exposures is not None
        band: Any = problem.factor_band
        if hasattr(band, "columns"):
            edges = {f: (band.loc[f, "lower"], band.loc[f, "upper"]) for f in band.index}
        else:
            wide = band if hasattr(band, "index") else dict.fromkeys(problem.factor_exposures.columns, band)
            edges = {f: (-width, width) for f, width in wide.items()}
        for factor, (low, high) in edges.items():
            level = q @ problem.factor_exposures.loc[list(problem.names), factor].to_numpy()
            rules += [level >= low / unit] if np.isfinite(low) else []
            rules += [level <= high / unit] if np.isfinite(high) else []
    change = problem._change_limits()
    if change is not None:
        delta, previous = change
        previous = np.zeros(N) if previous is None else previous
        steps = u - cp.vstack([previous[None, :] / unit, u[:-1]]) if T > 1 else u - previous[None, :] / unit
        bounded = np.isfinite(delta)
        rules.append(cp.multiply(bounded, cp.abs(steps)) <= np.where(bounded, delta, 0.0) / unit)
    return cp.Problem(cp.Minimize(cost), rules), u
