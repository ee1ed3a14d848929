"""The basket problem written once more, in the words of a desk and in cvxpy: the independent check of our lowering.

Nothing here goes through the multistage program: impact is the full double sum over pairs of slices, limits are written
from the inputs. It is slow and short on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.problems.basket.arrays import blocked_cells, sector_rows
from crosswind.solvers.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from crosswind.problems.basket.inputs import FloatArray
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["impact_matrix", "reference_basket"]


def impact_matrix(problem: BasketProblem) -> FloatArray:
    """Return the symmetric PSD matrix Q (TN, TN) with impact cost ½ u'Qu, u stacked slice by slice [1/currency].

    Block (s, t) is Σ_m e^{−β_m |t_s − t_t|} K_m: every pair of slices, each counted from both sides.
    """
    seconds = np.concatenate([[0.0], np.cumsum(problem.arrays.dt_s[1:])])
    lag = np.abs(seconds[:, None] - seconds[None, :])
    size = problem.n_slices * problem.n_names
    total = np.zeros((size, size))
    for mode in problem.model.modes():
        total += np.kron(np.exp(-mode.rate_per_s * lag), np.asarray(mode.matrix))
    return total


def reference_basket(problem: BasketProblem) -> tuple[Any, Any]:
    """Return ``(cvxpy.Problem, u)`` of the basket, u of shape (T, N), as shares of the parent notional.

    The variable is the trade as a share of the parent notional, and the objective is the cost in bps of it, so that a
    general conic solver sees numbers near one; multiply ``u.value`` by ``problem.parent_notional`` (or 1 where that is
    zero) to get currency.

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
    if problem.risk_aversion > 0.0 and a.covariance is not None:
        weights, vectors = np.linalg.eigh(a.covariance)
        root = vectors * np.sqrt(np.maximum(weights, 0.0))
        cost = cost + 1e4 * unit * problem.risk_aversion * cp.sum_squares(q @ root)

    rules: list[Any] = []
    if isinstance(problem.completion, float):
        cost = cost + 1e4 * unit * problem.completion * cp.sum_squares(q[-1] - target)
    else:
        rules.append(q[-1] == target)
    if a.participation_cap is not None:
        rules.append(cp.abs(u) <= a.participation_cap / unit)
    if not problem.allow_reversal:
        for i in range(N):
            side = a.side[i]
            rules.append(u[:, i] == 0.0 if side == 0.0 else side * u[:, i] >= 0.0)
    closed = blocked_cells(problem.blackouts, problem.names, problem.times, problem.slice_s)
    late = problem._finish_cells()
    shut = closed | late
    if shut.any():
        rules.append(cp.multiply(shut.astype(np.float64), u) == 0.0)
    for i in np.flatnonzero(late.any(axis=0)).tolist():
        rules.append(q[max(int(np.argmax(late[:, i])) - 1, 0), i] == target[i])
    membership, cap, _ = sector_rows(problem.sectors, problem.sector_cap, problem.names)
    for row, sector_most in zip(membership, cap, strict=True):
        rules.append(cp.abs(u) @ row <= sector_most / unit)
    if problem.cash_band is not None:
        rules.append(cp.abs(cp.sum(q, axis=1)) <= problem.cash_band / unit)
    change = problem._change_limits()
    if change is not None:
        delta, previous = change
        previous = np.zeros(N) if previous is None else previous
        steps = u - cp.vstack([previous[None, :] / unit, u[:-1]]) if T > 1 else u - previous[None, :] / unit
        bounded = np.isfinite(delta)
        rules.append(cp.multiply(bounded, cp.abs(steps)) <= np.where(bounded, delta, 0.0) / unit)
    return cp.Problem(cp.Minimize(cost), rules), u
