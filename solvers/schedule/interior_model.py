"""What the interior point works on: free cells, signs, the smooth cost with its gradient, the couplings of names.

The Hessian of the smooth cost is diag(2η) + Σ_j G_j ⊗ (diag(k_j) + L_j L_j') over the modes of impact and the risk,
with G (T, T) the correlation of a mode over time (Π ρ between two slices) or, for the risk, C'diag(2w)C with C the
cumulative sum. G_j = U_j U_j', columns of U_j orthogonal and by falling size: most are too small to matter to a solve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.schedule.problem import Array, FactorSchedule

__all__ = ["Coupling", "Model", "build"]

Mask = NDArray[np.bool_]

_WIDTH = 1e-13  # of a box's numbers: a cell no wider is fixed
_WHOLE = 40  # loadings of one term up to which all are factorised
_LEAD = 16  # of a denser one, how many; the rest is left to the iterations


@dataclass(frozen=True)
class Coupling:
    """Exposures y_k = U'(u e_k), k over the columns of E (N, k), that cost ½|y|²; U (T, r)."""

    E: Array
    U: Array

    @property
    def size(self) -> int:
        """Entries of y."""
        return int(self.E.shape[1] * self.U.shape[1])


@dataclass(frozen=True)
class Model:
    """View of a problem: trades are the problem's, costs are divided by ``scale``.

    Attributes
    ----------
    scale
        Mean stake of a cell, gradient times size, so that numbers inside are about 1 whatever the unit and λ.
    size
        (T, N) size of a cell's trade: what residuals are weighted with.
    free, start
        (T, N) cells with room; where the iterations begin and where the other cells stay.
    sign
        (T, N) ±1 where a free cell can trade one way only, else 0.
    split
        (T, N) cells that straddle zero and whose |u| is priced or capped: they carry t ≥ |u|.
    group
        (T, N) free cells of a group with a cap.
    spread
        (T, N) c, scaled.
    hessian
        (N, T, T) each name's own Hessian, scaled, without its end; the identity's rows at fixed cells. Where loadings
        are too many, it holds the diagonal of their products, too.
    need, give, complete
        (N,) of the rows 1'u_i − give_i ν_i = need_i: give is half of one over the scaled weight of the end, 0 where it
        is hard; names that have the row.
    couplings
        Scaled.
    rest
        Pairs G (T, T) and a symmetric (N, N) with a diagonal of zeros: what neither of the two above holds.
    """

    problem: FactorSchedule
    scale: float
    size: Array
    free: Mask
    start: Array
    sign: Array
    split: Mask
    group: Mask
    spread: Array
    hessian: Array
    need: Array
    give: Array
    complete: Mask
    couplings: tuple[Coupling, ...]
    rest: tuple[tuple[Array, Array], ...]
    toeplitz: Array
    fixed_cost: Array

    def smooth(self, u: Array) -> tuple[float, Array]:
        """Return value and gradient (T, N) of the cost but for spread and ends, scaled."""
        p = self.problem
        impact = np.zeros_like(u)
        for G, own, L in zip(self.toeplitz, p.impact_own, p.impact_loadings, strict=True):
            impact += G @ (u * own + (u @ L) @ L.T)
        q = p.remaining(u)
        risk = p.risk_weight[:, None] * (q * p.risk_own + (q @ p.risk_loadings) @ p.risk_loadings.T)
        value = np.sum(u * (p.eta * u + self.fixed_cost + 0.5 * impact)) + np.sum(q * risk)
        gradient = 2.0 * p.eta * u + self.fixed_cost + impact - 2.0 * np.cumsum(risk[::-1], axis=0)[::-1]
        return float(value) / self.scale, gradient / self.scale

    def own(self, du: Array) -> Array:
        """Return the names' own Hessians and what no coupling holds on a direction (T, N) that is 0 at fixed cells."""
        out = np.matmul(self.hessian, du.T[:, :, None])[:, :, 0].T
        for G, between in self.rest:
            out = out + G @ (du @ between)
        return np.asarray(out) * self.free

    def lift(self, du: Array) -> Array:
        """Return y of all couplings as one vector."""
        parts = [((one.U.T @ du) @ one.E).T.ravel() for one in self.couplings]
        return np.concatenate(parts) if parts else np.zeros(0)

    def drop(self, y: Array) -> Array:
        """Return the adjoint of `lift`, 0 at fixed cells."""
        out, at = np.zeros(self.free.shape), 0
        for one in self.couplings:
            out += one.U @ (y[at : at + one.size].reshape(one.E.shape[1], -1).T @ one.E.T)
            at += one.size
        return out * self.free


def _toeplitz(decays: Array) -> Array:
    """Return G (T, T), G_ts = Π_{s<r≤t} ρ_r for s ≤ t, symmetric."""
    t = decays.size
    R = np.eye(t)
    for k in range(1, t):
        R[k, :k] = decays[k] * R[k - 1, :k]
    return np.asarray(R + np.tril(R, -1).T)


def _root(G: Array) -> Array:
    """Return U with UU' = G, its columns orthogonal and by falling size."""
    values, vectors = np.linalg.eigh(G)
    keep = np.flatnonzero(values > 1e-15 * max(float(values[-1]), 0.0))[::-1]
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def _boxes(p: FactorSchedule) -> tuple[Array, Array, Mask]:
    """Return boxes and free cells: caps of nothing, and ends that only the whole box reaches, fix cells, too."""
    low, high = np.array(p.lower), np.array(p.upper)
    member = p.groups >= 0
    shut = np.zeros(low.shape, dtype=bool)
    shut[:, member] = p.group_caps[:, p.groups[member]] <= 0.0
    shut &= (low <= 0.0) & (high >= 0.0)
    low[shut] = high[shut] = 0.0
    need = p.start - p.target
    with np.errstate(invalid="ignore"):
        for edge, other in ((high, low), (low, high)):
            room = 1e-12 * np.abs(edge).sum(axis=0)
            full = p.hard & np.isfinite(room) & (np.abs(edge.sum(axis=0) - need) <= room)
            other[:, full] = edge[:, full]
        width = np.maximum(np.abs(low), np.abs(high))
        fixed = high - low <= _WIDTH * np.where(np.isfinite(width), width, 1.0)
    return low, high, ~fixed


def _start(low: Array, high: Array, free: Mask, need: Array) -> Array:
    """Return even trading, kept a tenth of the box away from its sides; fixed cells in their middle."""
    even = np.broadcast_to(need / np.maximum(free.sum(axis=0), 1), low.shape)
    with np.errstate(invalid="ignore"):
        margin = np.where(np.isfinite(high - low), 0.1 * (high - low), 0.1 * np.abs(even))
        out = np.minimum(np.maximum(even, low + margin), high - margin)
        return np.asarray(np.where(free, out, 0.5 * low + 0.5 * high))


def _sizes(p: FactorSchedule, low: Array, high: Array, free: Mask, need: Array) -> Array:
    """Return (T, N) > 0: an even share of what is needed or half of the name's widest box, whichever is more."""
    with np.errstate(invalid="ignore"):
        span = np.where(np.isfinite(high - low), 0.5 * (high - low), np.inf)
    usual = np.maximum(np.abs(need) / len(low), np.max(np.abs(p.start), initial=0.0) / (1e3 * len(low)))
    size = np.minimum(span, np.maximum(usual, np.max(np.where(np.isfinite(span), span, 0.0), axis=0)))
    return np.asarray(np.where(free & (size > 0.0), size, 1.0))


def _terms(p: FactorSchedule, toeplitz: Array) -> list[tuple[Array, Array, Array]]:
    """Return G, k and L of each mode of impact and of the risk."""
    terms = list(zip(toeplitz, p.impact_own, p.impact_loadings, strict=True))
    weight = np.cumsum(2.0 * p.risk_weight[::-1])[::-1]
    later = np.maximum.outer(np.arange(weight.size), np.arange(weight.size))
    return [*terms, (weight[later], p.risk_own, p.risk_loadings)]


def build(p: FactorSchedule) -> Model:
    """Lay a problem out for the interior point."""
    low, high, free = _boxes(p)
    T = len(low)
    need = p.start - p.target
    start, size = _start(low, high, free, need), _sizes(p, low, high, free, need)
    complete = np.asarray((p.terminal_weight > 0.0) & free.any(axis=0))
    sign = np.where(low >= 0.0, 1.0, np.where(high <= 0.0, -1.0, 0.0)) * free
    group = np.zeros(low.shape, dtype=bool)
    member = p.groups >= 0
    capped: Mask = np.any(np.isfinite(p.group_caps), axis=0, keepdims=True)[0]
    group[:, member] = capped[p.groups[member]]
    group &= free
    split = free & (sign == 0.0) & ((p.spread > 0.0) | group)
    toeplitz = np.array([_toeplitz(rho) for rho in p.decays]).reshape(-1, T, T)
    fixed_cost = np.array(p.linear)
    for rho, own, L, state in zip(p.decays, p.impact_own, p.impact_loadings, p.impact_state, strict=True):
        fixed_cost += np.cumprod(rho)[:, None] * (own * state + (state @ L) @ L.T)
    model = Model(
        p, 1.0, size, free, start, sign, split, group, np.asarray(p.spread), np.zeros((0, 0, 0)), need,
        0.5 / np.where(complete, p.terminal_weight, 1.0), complete, (), (), toeplitz, fixed_cost,
    )  # fmt: skip
    return _priced(model)


def _priced(model: Model) -> Model:
    """Set the scale and all that is divided by it."""
    p, free = model.problem, model.free
    T, N = free.shape
    _, gradient = model.smooth(model.start)
    short = model.start.sum(axis=0) - model.need
    soft = model.complete & (model.give > 0.0)
    gradient = gradient + np.where(soft, short / np.where(soft, model.give, 1.0), 0.0)
    stakes = np.where(free, np.abs(gradient) + model.spread, 0.0) * model.size
    scale = float(stakes.sum()) / max(1, int(free.sum()))
    scale = scale if 0.0 < scale < np.inf else 1.0
    shares, parts, couplings, rest = [], [], [], []
    for G, own, L in _terms(p, model.toeplitz):
        # Only products LL' count: rotated, the columns fall in size and few are kept.
        columns = min(L.shape) if L.size else 0
        if columns > _WHOLE:
            left, sizes, _ = np.linalg.svd(L, full_matrices=False)
            L, spare = left[:, :_LEAD] * sizes[:_LEAD], left[:, _LEAD:] * sizes[_LEAD:]
            between = spare @ spare.T
            own = own + np.diag(between)
            np.fill_diagonal(between, 0.0)
            rest.append((G / scale, between))
        shares.append(own)
        parts.append(G.ravel() / scale)
        if L.size and G.any():
            couplings.append(Coupling(np.asarray(L), _root(G / scale)))
    hessian = (np.array(shares).T @ np.array(parts)).reshape(N, T, T)
    diagonal = np.arange(T)
    hessian[:, diagonal, diagonal] += 2.0 * p.eta.T / scale
    if not free.all():
        hessian *= free.T[:, :, None] & free.T[:, None, :]
        hessian[:, diagonal, diagonal] += ~free.T
    return replace(
        model, scale=scale, spread=model.spread / scale, give=model.give * scale, hessian=hessian,
        couplings=tuple(couplings), rest=tuple(rest),
    )  # fmt: skip
