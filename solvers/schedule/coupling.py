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

_WIDE = 24  # columns of a factor from which their order matters to the preconditioner


class Exposures:
    """Ẽ and its transpose, without any matrix larger than (N, p) and (M, T, T)."""

    def __init__(self, problem: FactorSchedule) -> None:
        self.walks = problem.risk_loadings.shape[1] + problem.band_vectors.shape[1]
        self.risks = problem.risk_loadings.shape[1]
        factors = [_by_size(L) for L in problem.impact_loadings]
        self.columns = np.ascontiguousarray(np.hstack([problem.risk_loadings, problem.band_vectors, *factors]))
        self.rows = np.ascontiguousarray(self.columns.T)
        widths = [self.walks] + [L.shape[1] for L in problem.impact_loadings]
        edges = np.cumsum([0, *widths])
        blocks = [slice(int(edges[k]), int(edges[k + 1])) for k in range(len(widths))]
        decays = [np.ones(problem.slices), *problem.decays]
        self.parts = blocks[1:]
        self.rho = np.ones((problem.slices, self.size))  # decay of each column into slice t
        self.carry = []
        for block, decay in zip(blocks, decays, strict=True):
            self.rho[:, block] = decay[:, None]
            if block.stop > block.start:
                self.carry.append((block, _running(decay)))

    @property
    def size(self) -> int:
        """P."""
        return int(self.columns.shape[1])

    def of(self, u: Array) -> Array:
        """Ẽu (T, p) of trades (T, N)."""
        x: Array = u @ self.columns
        for block, carry in self.carry:
            x[:, block] = carry @ x[:, block]
        return x

    def back(self, y: Array, out: Array | None = None) -> Array:
        """Ẽ'y (T, N) of weights (T, p)."""
        x = np.empty(y.shape)
        for block, carry in self.carry:
            x[:, block] = carry.T @ y[:, block]
        made: Array = np.matmul(x, self.rows, out=out)
        return made


def _by_size(L: Array) -> Array:
    """Rotate a wide factor of K, which changes neither K nor the cost, to orthogonal columns, the largest first."""
    if L.shape[1] <= _WIDE:
        return L
    left, sizes, _ = np.linalg.svd(L, full_matrices=False)
    return np.asarray(left * sizes)


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

    def offset(self) -> Array | None:
        """Return what hard totals add to every solution (T, N): A⁻¹1 (1'A⁻¹1)⁻¹ (q_0 − target); None without any."""
        p = self.problem
        if not p.hard.any():
            return None
        T = p.slices
        even = np.where(p.hard, (p.start - p.target) / T, 0.0)
        # A times even trades, but for what the solve projects out: one profile over slices for each kind of term.
        out = self.diagonal + np.outer(_tail(self.walk * np.arange(1.0, T + 1.0)), p.risk_own)
        ones = np.ones(T)
        for rho, k in zip(p.decays, p.impact_own, strict=True):
            carry = _running(rho)
            out += np.outer(carry @ ones + carry.T @ ones - 1.0, k)
        out *= even
        self.solve(out, out)
        np.subtract(even, out, out=out)
        out[:, ~p.hard] = 0.0
        return np.asarray(out)


def _tail(x: Array) -> Array:
    """Return the sums from each entry to the last."""
    return np.asarray(np.cumsum(x[::-1])[::-1])
