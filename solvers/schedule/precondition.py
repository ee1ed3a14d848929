"""A preconditioner of the coupling: the same exposures of a simpler process, inverted by block innovations.

A_i⁻¹ is close to the covariance of trades that work a position off, x_t = −k_it q_{t−1} + ω_t, q_t = q_{t−1} + x_t,
with gain and variance from one scalar Riccati recursion a name (impact's own part counted as temporary cost). With
their mean gain k̄_t in place of k_it the exposures E'q close in a state of size p (once more for what decays), and
I + √W Ẽ A⁻¹ Ẽ' √W is the covariance of those states seen through unit noise: a filter forward and its adjoint
backward apply its inverse in O(T p²).
"""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np

from crosswind.solvers.schedule import kernels
from crosswind.solvers.schedule.coupling import Exposures, NameBlocks
from crosswind.solvers.schedule.problem import Array

__all__ = ["LEADING", "Innovations", "gains"]

LEADING = 24
"""Columns of a mode that are inverted together."""


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


Part = TypeVar("Part")


def _cut(part: Part, slices: int, names: tuple[str, ...]) -> Part:
    """Return a copy whose arrays begin later."""
    out = copy.copy(part)
    for name in names:
        setattr(out, name, getattr(part, name)[slices:])
    return out


class Innovations:
    """The preconditioner, factored for one A and W.

    Columns beyond the first `LEADING` of a mode, which the exposures order by size, are inverted one by one.
    """

    def __init__(self, exposures: Exposures, blocks: NameBlocks, root: Array) -> None:
        k, variance = gains(blocks)
        whole = variance.sum(axis=1)
        mean = np.where(whole > 0.0, np.einsum("ti,ti->t", k, variance) / np.where(whole > 0.0, whole, 1.0), 1.0)
        first = [np.arange(exposures.walks)]
        rest = []
        for part in exposures.parts:
            columns = np.arange(part.start, part.stop)
            first.append(columns[:LEADING])
            rest.append(columns[LEADING:])
        self.first, self.rest = np.concatenate(first), np.concatenate(rest) if rest else np.arange(0)
        self.columns, self.parts = exposures.size, tuple(part.stop for part in exposures.parts)
        rho = exposures.rho
        E, lead = exposures.columns, self.first
        if not self.rest.size:
            self.block = _Block(E, rho, exposures.walks, root, mean, variance)
            return
        self.block = _Block(E[:, lead], rho[:, lead], exposures.walks, root[:, lead], mean, variance)
        noise = variance @ np.square(E[:, self.rest])
        self.singles = _Singles(rho[:, self.rest], root[:, self.rest], mean, noise)

    def fits(self, exposures: Exposures, slices: int) -> bool:
        """Tell whether this suits the sizes of another problem; for other data it is a worse guess, but still one."""
        return (
            len(self.block.root) == slices
            and self.columns == exposures.size
            and self.block.walks == exposures.walks
            and self.parts == tuple(part.stop for part in exposures.parts)
        )

    def shifted(self, slices: int) -> Innovations:
        """Return what is left of it without the first slices."""
        out = copy.copy(self)
        out.block = self.block.shifted(slices)
        if self.rest.size:
            out.singles = self.singles.shifted(slices)
        return out

    def solve(self, y: Array) -> Array:
        """Apply the inverse to (T, p)."""
        if not self.rest.size:
            return self.block.solve(y)
        out = np.empty(y.shape)
        out[:, self.first] = self.block.solve(np.ascontiguousarray(y[:, self.first]))
        out[:, self.rest] = self.singles.solve(y[:, self.rest])
        return out


class _Block:
    """All columns together: states are the exposures, and the running sums of those that decay."""

    def __init__(self, E: Array, rho: Array, walks: int, root: Array, mean: Array, variance: Array) -> None:
        T, p = root.shape
        S = p + (p - walks)
        self.keep, self.mean = np.ones((T, S)), mean
        self.root, self.walks, self.size = np.ascontiguousarray(root), walks, p
        self.whiten, self.gain = np.empty((T, p, p)), np.empty((T, S, p))
        P = np.zeros((S, S))
        twice = np.ix_(np.r_[0:p, walks:p], np.r_[0:p, walks:p])
        diagonal = np.diag_indices(p)
        self.keep[:, :walks] = self.keep[:, p:] = 1.0 - mean[:, None]
        self.keep[:, walks:p] = rho[:, walks:]
        for t in range(T):
            # The step into slice t: what stays of each state, then the noise of its trades.
            P = self._moved(self._moved(P, t).T, t)
            P += ((E * variance[t][:, None]).T @ E)[twice]
            seen = P[:, :p] * root[t]
            F = root[t][:, None] * seen[:p]
            F[diagonal] += 1.0
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

    def shifted(self, slices: int) -> _Block:
        return _cut(self, slices, ("keep", "mean", "root", "whiten", "gain"))

    def solve(self, y: Array) -> Array:
        return kernels.whiten(self.keep, self.mean, self.root, self.whiten, self.gain, self.walks, y)


class _Singles:
    """Columns one by one: two states each, the exposure and the running sum."""

    def __init__(self, rho: Array, root: Array, mean: Array, noise: Array) -> None:
        self.rho, self.root, self.mean = rho, root, mean
        self.whiten, self.gain, self.gain_sum = (np.empty(root.shape) for _ in range(3))
        vv = vq = qq = np.zeros(root.shape[1])
        for t in range(len(root)):
            m, r, z = mean[t], rho[t], root[t]
            vv = r * r * vv - 2.0 * r * m * vq + m * m * qq + noise[t]
            vq = (1.0 - m) * (r * vq - m * qq) + noise[t]
            qq = (1.0 - m) ** 2 * qq + noise[t]
            w = self.whiten[t] = 1.0 / (1.0 + z * z * vv)
            self.gain[t], self.gain_sum[t] = z * vv * w, z * vq * w
            qq = qq - z * vq * self.gain_sum[t]
            vv, vq = vv * w, vq * w

    def shifted(self, slices: int) -> _Singles:
        return _cut(self, slices, ("rho", "root", "mean", "whiten", "gain", "gain_sum"))

    def solve(self, y: Array) -> Array:
        out = np.empty(y.shape)
        v = q = np.zeros(y.shape[1])
        for t in range(len(y)):
            m = self.mean[t]
            v, q = self.rho[t] * v - m * q, (1.0 - m) * q
            e = y[t] - self.root[t] * v
            out[t] = self.whiten[t] * e
            v, q = v + self.gain[t] * e, q + self.gain_sum[t] * e
        v = q = np.zeros(y.shape[1])
        for t in range(len(y) - 1, -1, -1):
            out[t] -= self.gain[t] * v + self.gain_sum[t] * q
            v = v + self.root[t] * out[t]
            v, q = self.rho[t] * v, (1.0 - self.mean[t]) * q - self.mean[t] * v
        return out
