"""A preconditioner of the coupling: the same exposures of a simpler process, inverted by block innovations.

A_i⁻¹ is close to the covariance of trades that work a position off, x_t = −k_it q_{t−1} + ω_t, q_t = q_{t−1} + x_t,
with gain and variance from one scalar Riccati recursion a name (impact's own part counted as temporary cost). With their
mean gain k̄_t in place of k_it the exposures E'q close in a state of size p (and once more for the columns that decay),
and I + √W Ẽ A⁻¹ Ẽ' √W is the covariance of those states seen through unit noise: a filter forward and its adjoint
backward apply its inverse in O(T p²).
"""

from __future__ import annotations

import numpy as np

from crosswind.solvers.schedule import kernels
from crosswind.solvers.schedule.coupling import Exposures, NameBlocks
from crosswind.solvers.schedule.problem import Array

__all__ = ["Innovations", "gains"]


def gains(blocks: NameBlocks) -> tuple[Array, Array]:
    """Return k and the variances of ω, each (T, N), of the scalar recursion."""
    p = blocks.problem
    d = blocks.diagonal + p.impact_own.sum(axis=0)
    k, variance = np.empty(d.shape), np.empty(d.shape)
    P = np.array(blocks.end)
    for t in range(p.slices - 1, -1, -1):
        v = blocks.walk[t] * p.risk_own + P
        open_ = np.isinf(v)
        m = d[t] + np.where(open_, 0.0, v)
        k[t] = np.where(open_, 1.0, np.where(open_, 0.0, v) / m)
        variance[t] = np.where(open_, 0.0, 1.0 / m)
        P = d[t] * k[t]
    return k, variance


class Innovations:
    """The preconditioner, factored for one A and W."""

    def __init__(self, exposures: Exposures, blocks: NameBlocks, root: Array) -> None:
        k, variance = gains(blocks)
        whole = variance.sum(axis=1)
        mean = np.where(whole > 0.0, np.einsum("ti,ti->t", k, variance) / np.where(whole > 0.0, whole, 1.0), 1.0)
        T, p, walks = len(root), exposures.size, exposures.walks
        S = p + (p - walks)  # exposures, and the running sums of those that decay
        self.keep, self.mean = np.ones((T, S)), mean
        self.root, self.walks, self.size = root, walks, p
        self.whiten, self.gain = np.empty((T, p, p)), np.empty((T, S, p))
        E = exposures.columns
        P = np.zeros((S, S))
        twice = np.r_[0:p, walks:p]
        for t in range(T):
            noise = (E * variance[t][:, None]).T @ E
            # The step into slice t: what stays of each state, then the noise of its trades.
            self.keep[t, :walks] = self.keep[t, p:] = 1.0 - mean[t]
            self.keep[t, walks:p] = exposures.rho[t, walks:]
            P = self._moved(self._moved(P, t).T, t)
            P += noise[np.ix_(twice, twice)]
            seen = P[:, :p] * root[t]
            F = root[t][:, None] * seen[:p]
            F[np.diag_indices(p)] += 1.0
            inverse = np.linalg.inv(F)
            self.whiten[t] = 0.5 * (inverse + inverse.T)
            self.gain[t] = seen @ self.whiten[t]
            P = P - self.gain[t] @ seen.T
            P = 0.5 * (P + P.T)

    def _moved(self, x: Array, t: int) -> Array:
        """Move the rows of a matrix over states (S, S) into slice t."""
        p, w = self.size, self.walks
        out = x * self.keep[t][:, None]
        out[w:p] -= self.mean[t] * x[p:]
        return np.asarray(out)

    def solve(self, y: Array) -> Array:
        """Apply the inverse to (T, p)."""
        return kernels.whiten(self.keep, self.mean, self.root, self.whiten, self.gain, self.walks, y)
