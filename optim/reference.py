"""The multistage program as one would write it on paper, in cvxpy: the oracle of the tests and the page to read first.

It shares no line with the lowering: trades are the only variables, positions are cumulative sums, and each impact
mode is the quadratic form ½ Σ_{s,t} e^{−β|τ_t − τ_s|} u_s'Ku_t of a PSD Toeplitz matrix, factorised, not the energy
identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.optim.checks import FloatArray
from crosswind.optim.factored import columns_of, image
from crosswind.optim.limits import BandLimit, GroupCap, RateLimit, TradeLimit
from crosswind.optim.program import MultistageProgram
from crosswind.solvers.errors import MissingDependency

if TYPE_CHECKING:
    import cvxpy

__all__ = ["reference_multistage"]


def _root(matrix: FloatArray) -> FloatArray:
    """Return R with RR' = matrix for a PSD matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float64)


def reference_multistage(
    program: MultistageProgram, unit: float = 1.0, money: float = 1.0
) -> tuple[cvxpy.Problem, dict[str, Any]]:
    """Return the cvxpy problem of ``program`` and its variables and constraints by name.

    Parameters
    ----------
    program
        The program.
    unit
        Trades are expressed in this unit inside the problem; choose a typical notional so that the solver sees numbers
        near one.
    money
        Unit of the objective, currency.

    Returns
    -------
    (Problem, dict)
        The problem's value is the cost divided by ``money``; ``"trades"`` is the variable u/unit (T, n); each limit's
        name maps to its list of constraints, ``"completion"`` to the hard end.

    Raises
    ------
    MissingDependency
        cvxpy is not installed.
    """
    try:
        import cvxpy as cp
    except ImportError as error:
        raise MissingDependency("cvxpy is needed", field="reference", remedy="pip install cvxpy") from error

    g = program
    T, n = g.slices, len(g.instruments)
    u = cp.Variable((T, n), name="trades")
    p = g.p0[None, :] / unit + np.tril(np.ones((T, T))) @ u @ g.incidence.T  # p_1..p_T
    e = p @ g.exposure.T + g.exposure_level[1:] / unit
    scaled = unit**2 / money

    parts: list[Any] = [
        unit / money * cp.sum(cp.multiply(g.spread, cp.abs(u))),
        scaled * cp.sum(cp.multiply(g.temporary, cp.square(u))),
        unit**1.5 / money * cp.sum(cp.multiply(g.three_halves, cp.power(cp.abs(u), 1.5))),
        unit / money * cp.sum(cp.multiply(g.drift, u)),
        unit / money * cp.sum(cp.multiply(g.holding, p)),
    ]
    clock = np.cumsum(g.dt_s)
    for mode in g.impact:
        toeplitz = np.exp(-mode.rate_per_s * np.abs(clock[:, None] - clock[None, :]))
        phi = np.broadcast_to(np.asarray(mode.share).reshape(-1), (T,))
        v = cp.multiply(np.tile(phi[:, None], (1, n)), u)  # what of each trade enters the mode
        parts.append(0.5 * scaled * cp.sum_squares(_root(toeplitz).T @ v @ columns_of(mode.matrix)))
        # What earlier trades left behind has decayed over the whole way from before the first slice.
        left = np.outer(np.exp(-mode.rate_per_s * clock), image(mode.state, mode.matrix))
        parts.append(unit / money * cp.sum(cp.multiply(left, v)))
    if g.risk_aversion > 0.0 and g.covariance is not None:
        for t in range(1, T + 1):
            weight = scaled * g.risk_aversion * g.risk_weight[t - 1]
            parts.append(weight * cp.sum_squares(_root(g.covariance_at(t)).T @ e[t - 1]))
    constraints: dict[str, list[Any]] = {}
    if g.terminal is not None:
        gap = p[T - 1] - g.terminal.target / unit
        parts.append(scaled * cp.sum(cp.multiply(g.terminal.penalty, cp.square(gap))))
        hard = np.flatnonzero(g.terminal.hard)
        if len(hard):
            constraints["completion"] = [gap[hard] == 0.0]
    for limit in g.limits:
        if isinstance(limit, TradeLimit):
            constraints[limit.name] = _between(u, limit.lower / unit, limit.upper / unit)
        elif isinstance(limit, GroupCap):
            constraints[limit.name] = _between(cp.abs(u) @ limit.membership.T, None, limit.cap / unit)
        elif isinstance(limit, RateLimit):
            pairs = [] if limit.previous is None else [(0, u[0] - limit.previous / unit)]
            pairs += [(t, u[t] - u[t - 1]) for t in range(1, T)]
            constraints[limit.name] = [
                c for t, step in pairs for c in _between(step, -limit.delta[t] / unit, limit.delta[t] / unit)
            ]
        else:
            row = (p if limit.on == "position" else e) @ limit.matrix.T
            if limit.soft is None:
                constraints[limit.name] = _between(row, limit.lower / unit, limit.upper / unit)
            else:
                for excess in _excesses(row, limit, unit):
                    parts.append(unit / money * limit.soft.linear * cp.sum(cp.pos(excess)))
                    parts.append(0.5 * scaled * limit.soft.quadratic * cp.sum_squares(cp.pos(excess)))
    problem = cp.Problem(cp.Minimize(sum(parts)), [c for group in constraints.values() for c in group])
    return problem, {"trades": u, **constraints}


def _between(expression: Any, low: FloatArray | None, high: FloatArray | None) -> list[Any]:
    """Return the constraints low ≤ expression ≤ high, entries without a bound left out."""
    result = []
    for bound, sign in ((low, -1.0), (high, 1.0)):
        if bound is not None and np.isfinite(bound).any():
            where = np.nonzero(np.isfinite(bound))
            result.append(sign * expression[where] <= sign * bound[where])
    return result


def _excesses(row: Any, limit: BandLimit, unit: float) -> list[Any]:
    """Return the expressions whose positive parts are the excesses of a soft band."""
    result = []
    for bound, sign in ((limit.upper, 1.0), (limit.lower, -1.0)):
        if np.isfinite(bound).any():
            where = np.nonzero(np.isfinite(bound))
            result.append(sign * (row[where] - bound[where] / unit))
    return result
