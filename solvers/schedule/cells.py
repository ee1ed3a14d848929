"""What is a matter of single cells and slices: the proximal map of boxes and caps, and the dual of cells.

Compiled, or numpy's over whole slices to the same answers. A price is found by Newton steps on a monotone piecewise
linear function, kept inside a bracket.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers import native
from crosswind.solvers.schedule.problem import Array

__all__ = ["FLAT", "dual", "prox", "step"]

Index = NDArray[np.intp]
FLAT = 1e300
"""Reach of a cell without curvature."""


def _cells(v: Array, r: Array, price: Array, low: Array, high: Array) -> Array:
    z = np.abs(v)
    z -= price * r
    np.maximum(z, 0.0, out=z)
    return np.asarray(np.clip(np.copysign(z, v), low, high))


def prox(
    first: Index, cap: Array, v: Array, r: Array, c: Array, low: Array, high: Array, theta: Array, out: Array
) -> Array:
    """Minimise (z − v)²/2r + c|z| over boxes with Σ|z| ≤ cap over each slice and group.

    Parameters
    ----------
    first
        (G + 1,): group g holds the names first[g] … first[g + 1] − 1; those beyond first[G] are in none.
    cap
        (T, G), ∞ for none.
    v, r, c, low, high
        (T, N), r > 0, c ≥ 0.
    theta
        (T, G) prices of the caps: a start, overwritten with the result, the smallest that keep the caps.
    out
        (T, N), overwritten with z, which is returned.
    """
    (T, N), G = v.shape, cap.shape[1]
    if native.COMPILED:
        native.core.schedule_prox(T, N, G, first, cap, v, r, c, low, high, theta, out)
        return out
    edge = int(first[-1])
    out[:, edge:] = _cells(v[:, edge:], r[:, edge:], c[:, edge:], low[:, edge:], high[:, edge:])
    for g in range(G):
        at = slice(int(first[g]), int(first[g + 1]))
        _prices(cap[:, g], v[:, at], r[:, at], c[:, at], low[:, at], high[:, at], theta[:, g], out[:, at])
    return out


def _prices(cap: Array, v: Array, r: Array, c: Array, low: Array, high: Array, theta: Array, out: Array) -> None:
    """Find the prices (T,) of one group's caps by safeguarded Newton steps, all slices at once."""
    rows = np.flatnonzero(np.isfinite(cap))
    theta[~np.isfinite(cap)] = 0.0
    out[:] = _cells(v, r, c, low, high)
    if not rows.size or not v.shape[1]:
        theta[:] = 0.0
        return
    v, r, c, low, high, cap = v[rows], r[rows], c[rows], low[rows], high[rows], cap[rows]
    below, above = np.full(rows.size, -np.inf), np.maximum(np.max(np.abs(v) / r - c, axis=1), 0.0)
    above += 1e-15 * above  # all that is free is zero there, rounding or not
    p = np.where((theta[rows] > 0.0) & (theta[rows] < above), theta[rows], 0.0)
    live = np.ones(rows.size, dtype=bool)
    for _ in range(100):
        z = _cells(v, r, c + p[:, None], low, high)
        over = np.abs(z).sum(axis=1) - cap
        live &= ~((over <= 0.0) & ((over >= -1e-12 * cap) | (p == 0.0)))
        below, above = np.where(live & (over > 0.0), p, below), np.where(live & (over <= 0.0), p, above)
        fall = np.where((z > low) & (z < high) & (z != 0.0), r, 0.0).sum(axis=1)
        # A little beyond the root, beyond what rounding of the sum can take away: the cap is kept.
        step = np.where(fall > 0.0, p + (over + 5e-13 * cap) / np.where(fall > 0.0, fall, 1.0), below)
        step = np.where((step <= 0.0) & (below < 0.0), 0.0, step)
        inside = (step > below) & (step < above)
        step = np.where(inside, step, 0.5 * (np.maximum(below, 0.0) + above))
        stuck = live & ~((step > below) & (step < above))
        p = np.where(stuck, above, np.where(live, step, p))
        live &= ~stuck
        if not live.any():
            break
    else:
        p = np.where(live, above, p)
    theta[rows] = p
    out[rows] = _cells(v, r, c + p[:, None], low, high)


def dual(
    passes: int,
    group: Index,
    theta: Array,
    a: Array,
    reach: Array,
    c: Array,
    low: Array,
    high: Array,
    total: Array,
    give: Array,
    slack: Array,
    mu: Array,
) -> Array:
    """Return, for each name, μ total − μ² give/2 + Σ_t min over its boxes of v²/2s − (a + μ)v + (c + θ)|v|.

    Parameters
    ----------
    passes
        Most safeguarded Newton steps in which μ is moved towards the largest value.
    group, theta
        (N,) in 0 … G and (T, G + 1): G stands for no group.
    a, reach, c, low, high
        (T, N); s = reach, `FLAT` where there is no curvature.
    total, give, slack
        (N,): sums wanted, by how much a unit of price moves them (negative: there is no price), what may be missed.
    mu
        (N,), a start, overwritten.
    """
    (T, N), G = a.shape, theta.shape[1] - 1
    value = np.empty(N)
    if native.COMPILED:
        native.core.schedule_dual(T, N, G, passes, group, theta, a, reach, c, low, high, total, give, slack, mu, value)
        return value
    kappa = c + theta[:, group]

    def reply(price: Array) -> Array:
        pull = a + price
        with np.errstate(over="ignore"):
            v = (np.maximum(pull - kappa, 0.0) + np.minimum(pull + kappa, 0.0)) * reach
        return np.asarray(np.clip(v, low, high))

    below, above, last, moved = np.full(N, -np.inf), np.full(N, np.inf), np.full(N, np.inf), np.zeros(N)
    live = give >= 0.0
    mu[~live] = 0.0
    best, least, priced = mu.copy(), np.full(N, np.inf), live.copy()
    most = reach.sum(axis=0)
    for _ in range(passes):
        if not live.any():
            break
        v = reply(mu)
        miss = v.sum(axis=0) - total + give * mu
        rise = np.where((v > low) & (v < high) & (v != 0.0), reach, 0.0).sum(axis=0)
        better = live & (np.abs(miss) <= least)
        best, least = np.where(better, mu, best), np.where(better, np.abs(miss), least)
        live &= np.abs(miss) > slack
        above, below = np.where(live & (miss > 0.0), mu, above), np.where(live & (miss <= 0.0), mu, below)
        by = np.where(rise + give > 0.0, rise + give, most)
        step = -miss / np.where(by > 0.0, by, 1.0)
        slow = np.abs(miss) > 0.5 * np.abs(last)
        bracketed = np.isfinite(below) & np.isfinite(above)
        far = np.where(slow, np.copysign(np.maximum(np.abs(step), 2.0 * np.abs(moved)), step), step)
        near = mu + step
        with np.errstate(invalid="ignore"):
            middle = 0.5 * (below + above)
        inside = (near > below) & (near < above) & ~slow
        new = np.where(bracketed, np.where(inside, near, middle), mu + far)
        moved, last = np.where(live, new - mu, moved), np.where(live, miss, last)
        mu[:] = np.where(live, new, mu)
    mu[:] = best
    v = reply(mu)
    bend = np.where(reach < FLAT, 0.5 * v / reach, 0.0)
    value[:] = ((bend - a - mu) * v + kappa * np.abs(v)).sum(axis=0) + np.where(
        priced, mu * (total - 0.5 * give * mu), 0.0
    )
    return value


def step(
    first: Index,
    cap: Array,
    relax: float,
    u: Array,
    w: Array,
    r: Array,
    linear: Array,
    c: Array,
    low: Array,
    high: Array,
    theta: Array,
    z: Array,
    y: Array,
    pull: Array,
) -> tuple[float, float]:
    """Take one step of the splitting: z, y and ``pull`` = w (z − y) − linear are overwritten.

    Parameters
    ----------
    first, cap, c, low, high, theta
        As in `prox`.
    relax, u
        The proximal map is taken at relax u + (1 − relax) z + y.
    w, r
        (T, N) weights and their reciprocals.

    Returns
    -------
    w |u − z|² and w |z − old z|².
    """
    T, N = u.shape
    if native.COMPILED:
        sums = np.empty(2)
        native.core.schedule_step(
            T, N, cap.shape[1], first, cap, relax, u, w, r, linear, c, low, high, theta, z, y, pull, sums, np.empty(N)
        )
        return float(sums[0]), float(sums[1])
    y += relax * u + (1.0 - relax) * z
    old = z.copy()
    prox(first, cap, y, r, c, low, high, theta, z)
    y -= z
    np.multiply(w, z - y, out=pull)
    pull -= linear
    return float(np.sum(w * np.square(u - z))), float(np.sum(w * np.square(z - old)))
