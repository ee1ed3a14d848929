"""What couples the names: exposures of running trades, and the operator that conjugate gradients invert.

With E = [F, V, L_1 … L_M] (N, p), exposures Ẽu are running sums over slices of E'u_t, each column with its own decay (1
for risk and bands, ρ_m for impact). The Hessian is blkdiag(A_i) + Ẽ'WẼ, and

    u = A⁻¹(r − Ẽ'√W y),   (I + √W Ẽ A⁻¹ Ẽ' √W) y = √W Ẽ A⁻¹ r.
"""

from __future__ import annotations

import numpy as np

from crosswind.solvers.schedule import kernels
from crosswind.solvers.schedule.problem import Array, FactorSchedule

__all__ = ["Exposures", "NameBlocks"]


class Exposures:
    """Ẽ and its transpose, without any matrix larger than (N, p) and (M, T, T)."""

    def __init__(self, problem: FactorSchedule) -> None:
        self.walks = problem.risk_loadings.shape[1] + problem.band_vectors.shape[1]
        self.risks = problem.risk_loadings.shape[1]
        self.columns = np.ascontiguousarray(
            np.hstack([problem.risk_loadings, problem.band_vectors, *problem.impact_loadings])
        )
        self.rows = np.ascontiguousarray(self.columns.T)
        edges = np.cumsum([self.walks] + [L.shape[1] for L in problem.impact_loadings])
        self.parts = [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        self.rho = np.ones((problem.slices, self.size))  # decay of each column into slice t
        self.carry = []
        for m, part in enumerate(self.parts):
            self.rho[:, part] = problem.decays[m][:, None]
            self.carry.append(_running(problem.decays[m]))

    @property
    def size(self) -> int:
        """P."""
        return int(self.columns.shape[1])

    def of(self, u: Array) -> Array:
        """Ẽu (T, p) of trades (T, N)."""
        x = u @ self.columns
        np.cumsum(x[:, : self.walks], axis=0, out=x[:, : self.walks])
        for part, carry in zip(self.parts, self.carry, strict=True):
            x[:, part] = carry @ x[:, part]
        return x

    def back(self, y: Array) -> Array:
        """Ẽ'y (T, N) of weights (T, p)."""
        x = np.empty(y.shape)
        x[:, : self.walks] = np.cumsum(y[::-1, : self.walks], axis=0)[::-1]
        for part, carry in zip(self.parts, self.carry, strict=True):
            x[:, part] = carry.T @ y[:, part]
        return np.asarray(x @ self.rows)


def _running(rho: Array) -> Array:
    """(T, T) lower triangle of the products ρ_{s+1} … ρ_t."""
    T = len(rho)
    out = np.zeros((T, T))
    for t in range(T):
        if t:
            out[t, :t] = rho[t] * out[t - 1, :t]
        out[t, t] = 1.0
    return out


class NameBlocks:
    """A factored: the Hessian without what couples names, with the weights of the splitting on its diagonal."""

    def __init__(self, problem: FactorSchedule, weights: Array) -> None:
        self.problem = problem
        self.diagonal = 2.0 * problem.eta + weights
        self.rho = np.ascontiguousarray(problem.decays.T)
        self.walk = 2.0 * problem.risk_weight
        self.end = 2.0 * problem.terminal_weight
        self.inverse, self.gain = kernels.factor(
            self.diagonal,
            self.walk,
            np.ascontiguousarray(problem.risk_own),
            self.end,
            self.rho,
            np.ascontiguousarray(problem.impact_own),
        )

    def solve(self, r: Array, out: Array | None = None) -> Array:
        """A⁻¹r (T, N); where an end is hard, on trades that sum to zero."""
        return kernels.solve(self.inverse, self.gain, self.rho, r, out)

    def apply(self, u: Array) -> Array:
        """Au (T, N), without the term of hard ends."""
        p = self.problem
        out = self.diagonal * u
        total = np.cumsum(u, axis=0)
        end = np.where(p.hard, 0.0, self.end) * total[-1]
        push = (self.walk[:, None] * total) * p.risk_own
        push[-1] += end
        out += np.cumsum(push[::-1], axis=0)[::-1]
        for m, rho in enumerate(p.decays):
            forth, back, last = np.empty(u.shape), np.empty(u.shape), np.zeros(p.names)
            for t in range(len(u)):
                last = forth[t] = (rho[t] * last if t else 0.0) + u[t]
            last = np.zeros(p.names)
            for t in range(len(u) - 1, -1, -1):
                last = back[t] = (rho[t + 1] * last if t + 1 < len(u) else 0.0) + u[t]
            out += (forth + back - u) * p.impact_own[m]
        return np.asarray(out)

    def offset(self) -> Array:
        """Return what hard totals add to every solution (T, N): A⁻¹1 (1'A⁻¹1)⁻¹ (q_0 − target), 0 elsewhere."""
        p = self.problem
        if not p.hard.any():
            return np.zeros(p.eta.shape)
        even = np.tile(np.where(p.hard, (p.start - p.target) / p.slices, 0.0), (p.slices, 1))
        return np.asarray(even - self.solve(self.apply(even)))
