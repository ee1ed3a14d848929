"""The recursions over slices and names: the compiled ones, or numpy's over whole slices to the same answers.

A name's matrix A = diag(d) + Σ_s walk_s own 1[t, t' ≤ s] + end 11' + Σ_m k_m Π ρ_m is, in reversed time, the covariance
of a random walk, M first-order autoregressions and noise seen together. The Kalman recursions factor it and solve with
it in O(T): Rauch, Tung and Striebel (1965) for the smoother, Rybicki and Press (1995) for the exponential part alone.
"""

from __future__ import annotations

import numpy as np

from crosswind.solvers import native
from crosswind.solvers.schedule.problem import Array

__all__ = ["factor", "solve", "whiten"]


def factor(d: Array, walk: Array, own: Array, end: Array, rho: Array, k: Array) -> tuple[Array, Array]:
    """Factor the matrices of all names.

    Parameters
    ----------
    d
        (T, N) > 0.
    walk, own
        (T,), (N,) ≥ 0: the increment of the walk is their product.
    end
        (N,) ≥ 0 or ∞: the limit, an inverse on trades that sum to zero.
    rho, k
        (T, M) decays; (M, N) ≥ 0.

    Returns
    -------
    inverse (T, N) and gain (T, 1 + M, N) for `solve`.
    """
    (T, N), M = d.shape, len(k)
    inverse, gain = np.empty((T, N)), np.empty((T, 1 + M, N))
    if native.COMPILED:
        work = np.empty((1 + M) * (2 + M) // 2 * N)
        native.core.schedule_factor(T, N, M, d, walk, own, end, rho, k, inverse, gain, work)
    else:
        _factor(d, walk, own, end, rho, k, inverse, gain)
    return inverse, gain


def _factor(d: Array, walk: Array, own: Array, end: Array, rho: Array, k: Array, inverse: Array, gain: Array) -> None:
    (T, N), M = d.shape, len(k)
    P = np.zeros((1 + M, 1 + M, N))
    P[0, 0] = end + walk[T - 1] * own
    for m in range(M):
        P[m + 1, m + 1] = k[m]
    for t in range(T - 1, -1, -1):
        h = P.sum(axis=1)
        seen = d[t] + h[1:].sum(axis=0)
        across = P[0, 1:].sum(axis=0)
        open_ = np.isinf(P[0, 0])
        F = h[0] + seen
        inverse[t] = np.where(open_, 0.0, 1.0 / F)
        with np.errstate(invalid="ignore"):
            gain[t] = np.where(open_, 0.0, h / F)
        gain[t, 0] = np.where(open_, 1.0, gain[t, 0])
        # The walk's variance may be infinite or dwarf the rest: nothing here is a difference of two such.
        first = gain[t, 0] * seen - across + (walk[t - 1] * own if t else 0.0)
        cross = P[0, 1:] - gain[t, 0] * h[1:]
        P[1:, 1:] -= gain[t, 1:, None] * h[None, 1:]
        r = rho[t]
        P[0, 0] = first
        P[0, 1:] = P[1:, 0] = r[:, None] * cross
        P[1:, 1:] *= (r[:, None] * r[None, :])[:, :, None]
        for m in range(M):
            P[m + 1, m + 1] += (1.0 - r[m] ** 2) * k[m]


def solve(inverse: Array, gain: Array, rho: Array, r: Array, out: Array | None = None) -> Array:
    """Return A⁻¹r (T, N) for all names; ``out`` may be ``r``."""
    T, N = r.shape
    M = rho.shape[1]
    out = np.empty((T, N)) if out is None else out
    if native.COMPILED:
        native.core.schedule_solve(T, N, M, inverse, gain, rho, r, out, np.empty((1 + M) * N))
        return out
    decay = np.hstack([np.ones((T, 1)), rho])[:, :, None]
    s = np.zeros((1 + M, N))
    for t in range(T - 1, -1, -1):
        e = r[t] - s.sum(axis=0)
        out[t] = e * inverse[t]
        s = decay[t] * (s + gain[t] * e)
    s = np.zeros((1 + M, N))
    for t in range(T):
        s = decay[t] * s
        out[t] += (gain[t] * s).sum(axis=0)
        s = s - out[t]
    return out


def whiten(keep: Array, mean: Array, root: Array, inverse: Array, gain: Array, walks: int, y: Array) -> Array:
    """Apply the inverse of the covariance of p observations a slice of S states, by its innovations.

    Parameters
    ----------
    keep, mean, root
        (T, S) what stays of a state from one slice to the next; (T,) what the states from ``walks`` to p lose of the
        states p − walks places on; (T, p) scales of what is seen of the first p states.
    inverse, gain
        (T, p, p) inverse covariances of the innovations; (T, S, p).
    y
        (T, p).
    """
    (T, p), S = y.shape, keep.shape[1]
    out = np.empty((T, p))
    if not p:
        return out
    if native.COMPILED:
        native.core.schedule_whiten(T, p, S, walks, keep, mean, root, inverse, gain, y, out, np.empty(2 * S))
        return out
    a = np.zeros(S)
    for t in range(T):
        lost = mean[t] * a[p:]
        a *= keep[t]
        a[walks:p] -= lost
        v = y[t] - root[t] * a[:p]
        out[t] = inverse[t] @ v
        a += gain[t] @ v
    a = np.zeros(S)
    for t in range(T - 1, -1, -1):
        out[t] -= a @ gain[t]
        a[:p] += root[t] * out[t]
        lost = mean[t] * a[walks:p]
        a *= keep[t]
        a[p:] -= lost
    return out
