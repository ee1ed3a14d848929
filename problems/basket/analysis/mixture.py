r"""Schedules that guard against many states at once: the worst of them, or the mean of the worst share (CVaR).

Every cost of a basket is linear in K, η, c and Σ, so a weighted mean of states is a basket again. A coherent risk
measure is the largest such mean over a set of weights, ρ(C) = max {p'C : 0 ≤ p ≤ cap, 1'p = 1}, with cap = π/(1 − α)
for CVaR (Rockafellar and Uryasev, 2000) and cap = 1 for the worst case. By minimax

.. math::  \min_u \max_p \sum_s p_s C_s(u) = \max_p \min_u C_{\sum p_s s}(u)

so each step solves a plain basket, by any solver. The steps: schedules u_k found so far span a small program (the best
convex combination of them, exact in its quadratic part), whose multipliers are the next weights p, whose optimum is
the next schedule. Any schedule gives an upper bound, any weights a lower one: the loop stops on their gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from crosswind.problems.basket.analysis.models import mix_models
from crosswind.problems.basket.evaluate import cost_parts, slopes
from crosswind.problems.basket.inputs import FloatArray, per_name
from crosswind.solvers.errors import InvalidInput, SolverFailure

if TYPE_CHECKING:
    from crosswind.problems.basket.model import BasketProblem

__all__ = ["Guarded", "blend", "coherent_risk", "guard"]


@dataclass(frozen=True, eq=False)
class Guarded:
    """What :func:`guard` found: trades (T, N) [currency], their risk measure, a lower bound, the weights, the steps."""

    trades: FloatArray
    value: float
    lower_bound: float
    weights: FloatArray
    steps: int

    @property
    def gap_rel(self) -> float:
        """Certified distance from the optimum relative to its value."""
        return (self.value - self.lower_bound) / max(abs(self.value), 1e-300)


def coherent_risk(costs: FloatArray, cap: FloatArray) -> tuple[float, FloatArray]:
    """Return max {p'costs : 0 ≤ p ≤ cap, 1'p = 1} and its p (S,)."""
    p = np.zeros(len(costs))
    left = 1.0
    for s in np.argsort(-costs, kind="stable"):
        p[s] = min(float(cap[s]), left)
        left -= p[s]
        if left <= 0.0:
            break
    return float(p @ costs), p


def blend(base: BasketProblem, states: Sequence[BasketProblem], weights: FloatArray) -> BasketProblem:
    """Return the basket whose cost is Σ_s p_s × the cost of state s, under the limits of ``base``.

    Raises
    ------
    InvalidInput
        When states differ in more than impact, spread, temporary cost and covariance.
    """
    p = np.asarray(weights, dtype=np.float64)
    changes: dict[str, Any] = {"model": mix_models([s.model for s in states], p)}
    changes["temporary"] = base.frame(np.tensordot(p, np.stack([s.arrays.temporary for s in states]), 1))
    spread = np.stack([per_name(s.spread, base.names, "spread") for s in states])
    changes["spread"] = pd.Series(p @ spread, index=list(base.names))
    kappa = np.tensordot(p, np.stack([s.arrays.three_halves for s in states]), 1)
    if kappa.any():
        changes["three_halves"] = base.frame(kappa)
    if base.auctions:
        costs: dict[str, Any] = {
            field: np.tensordot(p, np.stack([getattr(s.arrays, field) for s in states]), 1)
            for field in ("spread", "temporary", "three_halves")
        }
        own: list[Any] = []
        for auction in base.auctions:
            t = base.times.get_loc(auction.time)
            values: dict[str, Any] = {k: pd.Series(rows[t], index=list(base.names)) for k, rows in costs.items()}
            own.append(replace(auction, **values))
        changes["auctions"] = tuple(own)
    if base.covariance is not None:
        changes["covariance"] = _mixed_covariance([s.covariance for s in states], p)
    return base.replace(**changes)


def _mixed_covariance(parts: Sequence[Any], p: FloatArray) -> Any:
    from crosswind.optim.factored import FactorMatrix
    from crosswind.problems.basket.analysis.models import compressed
    from crosswind.problems.basket.factors import FactorCovariance

    first = parts[0]
    if all(part is first for part in parts):
        return first
    if isinstance(first, pd.DataFrame):
        return sum(w * part.loc[first.index, first.columns] for w, part in zip(p, parts, strict=True))
    if isinstance(first, FactorMatrix):
        columns = compressed(np.hstack([np.sqrt(w) * part.loadings for w, part in zip(p, parts, strict=True)]))
        return FactorMatrix(columns, np.tensordot(p, np.stack([part.specific for part in parts]), 1))
    whole = [part if isinstance(part, FactorCovariance) else FactorCovariance(*part) for part in parts]
    if not all(part.loadings.equals(whole[0].loadings) for part in whole):
        raise InvalidInput(
            "states have different factor loadings",
            field="covariance",
            value=len(whole),
            remedy="scale one covariance, or pass dense ones",
        )
    factors = sum(w * part.factors for w, part in zip(p, whole, strict=True))
    return FactorCovariance(
        whole[0].loadings, factors, sum(w * part.specific for w, part in zip(p, whole, strict=True))
    )


def guard(
    base: BasketProblem,
    states: Sequence[BasketProblem],
    cap: FloatArray,
    start: FloatArray,
    *,
    tol: float = 1e-6,
    most: int = 60,
    solver: str | tuple[str, ...] = "auto",
    **settings: Any,
) -> Guarded:
    """Return the schedule with the least coherent risk over states of the market.

    Parameters
    ----------
    base
        The basket, whose limits hold.
    states
        The same basket in S states: other impact, spread, temporary cost, covariance.
    cap
        Largest weights (S,), summing to at least one.
    start
        First weights (S,), such as the probabilities.
    tol
        Relative gap at which to stop.
    most
        Largest number of solves.
    solver, settings
        As ``BasketProblem.solve``.

    Raises
    ------
    SolverFailure
        When the gap is not closed.
    InvalidInput
        When the states differ in something that does not enter the cost linearly.
    """
    columns = _Columns(states)
    p, low = np.asarray(start, dtype=np.float64), -np.inf
    best: FloatArray = p
    value, worst = np.inf, p
    for step in range(1, most + 1):
        mixed = blend(base, states, p)
        found = mixed.solve(solver, **settings)
        columns.add(found.trades.to_numpy())
        mean = float(p @ columns.cost[:, -1])
        if abs(mean - float(found.costs["total"])) > 1e-6 * max(abs(mean), 1e-300):
            raise InvalidInput(
                "a weighted mean of the states is not the basket that was solved",
                field="states",
                value=mean - float(found.costs["total"]),
                remedy="states may differ in impact, spread, η, κ and Σ alone",
            )
        bound = mean - max(float(found.certificate.gap_rel), 0.0) * abs(mean)
        if bound > low:
            low, worst = bound, p
        share, p = columns.best(cap)
        for u in (columns.combined(share), found.trades.to_numpy()):
            risk, _ = coherent_risk(columns.costs(u), cap)
            if risk < value:
                best, value = u, risk
        if value - low <= tol * max(abs(value), 1e-300):
            return Guarded(best, value, min(low, value), worst, step)
    raise SolverFailure(
        f"the gap is {(value - low) / max(abs(value), 1e-300):.1e} after {most} steps",
        field="tol",
        value=tol,
        remedy="loosen tol, raise most, or use fewer states",
    )


class _Columns:
    """Schedules found so far, their costs in every state, and the curvature between them."""

    def __init__(self, states: Sequence[BasketProblem]) -> None:
        self.states = states
        self.trades: list[FloatArray] = []
        self.slopes: list[FloatArray] = []  # (S, T, N) per column: Hessian of the quadratic part times the column
        self.cost = np.zeros((len(states), 0))
        self.curve = np.zeros((len(states), 0, 0))

    def costs(self, u: FloatArray) -> FloatArray:
        """Return the exact cost in every state (S,)."""
        return np.array([sum(cost_parts(state, u).values()) for state in self.states])

    def add(self, u: FloatArray) -> None:
        """Take a schedule in."""
        zero = np.zeros_like(u)
        slope = []
        for state in self.states:
            here, origin = (slopes(state, point) for point in (u, zero))
            slope.append(sum(here[k] - origin[k] for k in here if k != "three_halves"))
        self.trades.append(u)
        self.slopes.append(np.array(slope))
        k = len(self.trades)
        curve = np.zeros((len(self.states), k, k))
        curve[:, : k - 1, : k - 1] = self.curve
        for j, other in enumerate(self.trades):
            curve[:, j, k - 1] = curve[:, k - 1, j] = np.einsum("stn,tn->s", self.slopes[k - 1], other)
        self.curve = curve
        self.cost = np.column_stack([self.cost, self.costs(u)])

    def combined(self, share: FloatArray) -> FloatArray:
        """Return Σ_k w_k u_k."""
        return np.asarray(np.tensordot(share, np.stack(self.trades), 1), dtype=np.float64)

    def best(self, cap: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the combination w (K,) of least risk and the weights p (S,) that price it.

        min ζ + cap'ξ  s.t.  ½ w'H_s w + g_s'w ≤ ζ + ξ_s, ξ ≥ 0, w in the simplex; g_s = C_s(u_k) − ½ H_s,kk bounds the
        kinked parts by their means and is exact for the quadratic ones.
        """
        from crosswind.solvers.program import Cone, ConeProgram
        from crosswind.solvers.solve import solve

        S, K = self.cost.shape
        if K == 1:
            return np.ones(1), coherent_risk(self.cost[:, 0], cap)[1]
        unit = max(float(np.abs(self.cost).max()), 1e-300)
        n = K + 1 + S
        rows: list[FloatArray] = [np.concatenate([np.ones(K), np.zeros(1 + S)])]
        right = [1.0]
        eye = np.eye(n)
        rows += [-eye[j] for j in (*range(K), *range(K + 1, n))]
        right += [0.0] * (K + S)
        cones = [Cone("zero", 1), Cone("nonneg", K + S)]
        for s in range(S):
            values, vectors = np.linalg.eigh(self.curve[s] / unit)
            root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
            g = self.cost[s] / unit - 0.5 * np.diag(self.curve[s]) / unit
            a = np.concatenate([-g, [1.0], (np.arange(S) == s).astype(float)])  # a = ζ + ξ_s − g'w
            rows += [-a, -a, *(-np.concatenate([r, np.zeros(1 + S)]) for r in root)]
            right += [0.5, -0.5, *([0.0] * K)]
            cones.append(Cone("soc", K + 2))
        q = np.concatenate([np.zeros(K), [1.0], cap])
        program = ConeProgram(
            P=sparse.csc_matrix((n, n)), q=q, A=sparse.csc_matrix(np.array(rows)), b=np.array(right), cones=tuple(cones)
        )
        found = solve(program, tol=1e-9)
        if not found.status.usable:
            return np.eye(K)[int(np.argmin([coherent_risk(c, cap)[0] for c in self.cost.T]))], coherent_risk(
                self.cost[:, -1], cap
            )[1]
        w = np.maximum(found.x[:K], 0.0)
        z = np.asarray(found.y)[1 + K + S :].reshape(S, K + 2)
        p = np.clip(z[:, 0] + z[:, 1], 0.0, cap)
        return w / w.sum(), _on_simplex(p, cap)


def _on_simplex(p: FloatArray, cap: FloatArray) -> FloatArray:
    """Return p scaled to sum one within its caps."""
    for _ in range(50):
        total = float(p.sum())
        if abs(total - 1.0) <= 1e-15 or total == 0.0:
            break
        p = np.minimum(p / total, cap)
    missing = 1.0 - float(p.sum())
    if missing > 0.0:
        room = cap - p
        p = p + missing * room / max(float(room.sum()), 1e-300)
    return p
