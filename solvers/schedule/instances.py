"""Seeded baskets of index size: volume profile, sectors, factor risk, impact of low rank, bands and caps that bind."""

from __future__ import annotations

import numpy as np

from crosswind.solvers.schedule.problem import FactorSchedule

__all__ = ["schedule_instance"]


def schedule_instance(
    names: int,
    slices: int,
    *,
    modes: int = 2,
    rank: int = 5,
    factors: int = 20,
    sectors: int = 11,
    empty_sectors: int = 0,
    risk_aversion: float = 1.0,
    terminal: float = np.inf,
    participation: float = 0.25,
    cap: float = 1.3,
    band: float = 0.02,
    bands: int = 2,
    spread: float = 1.0,
    eta: float = 1.0,
    two_sided: bool = False,
    dense: bool = False,
    change: float | None = None,
    drift: float = 0.0,
    seed: int = 0,
) -> FactorSchedule:
    """Return a basket whose units are such that a name's q_0 and its slice's volume are about 1 and T/4.

    Parameters
    ----------
    names, slices
        N, T.
    modes, rank
        M matrices K = diag + LL' with L (N, rank); decays from fast to slow, the last one permanent where M ≥ 3.
    factors, sectors, empty_sectors
        Columns of F, groups with members, and groups without.
    risk_aversion
        λ: at 1 risk and temporary cost are about equal for an even schedule, whatever T.
    terminal
        Weight of (q_T)², ∞ for a hard end.
    participation
        Box, as a share of the volume of a slice; the whole day's volume is 16 times |q_0| on average. It is widened
        where a name could not complete.
    cap
        Cap of a sector and slice as a multiple of an even share of the sector's quantity by volume; ≥ 1 can complete.
        ``inf`` takes the caps away.
    band, bands
        Half-width of the bands, relative to gross, and how many (the first is net cash); they start from where q_0
        stands and narrow within a quarter of the day. ``inf`` takes them away.
    spread, eta
        Multiples of the usual half-spread and temporary cost; 0 for none.
    two_sided
        Boxes to both sides; otherwise trades lower |q| only.
    dense
        A K of full rank by its Cholesky factor.
    change
        Limit on |u_t − u_{t−1}| as a multiple of |q_0|·4/T, or None.
    drift
        Size of a linear cost, as a multiple of the half-spread.
    seed
        The same seed gives the same numbers.
    """
    rng = np.random.default_rng(seed)
    N, T = names, slices
    side = np.where(rng.random(N) < 0.5, 1.0, -1.0)
    start = side * np.exp(0.6 * rng.standard_normal(N))
    if N > 20:
        start[rng.random(N) < 0.02] = 0.0  # hedges and leftovers: nothing to trade
    curve = 1.0 + 1.2 * (2.0 * (np.arange(T) + 0.5) / T - 1.0) ** 2
    curve /= curve.sum()
    daily = np.exp(0.6 * rng.standard_normal(N)) * 16.0
    volume = np.outer(curve, daily) * np.exp(0.15 * np.clip(rng.standard_normal((T, N)), -2.5, 2.5))
    vol = 0.015 * np.exp(0.3 * rng.standard_normal(N))
    # Temporary cost as a share of volatility and volume; the rest is measured against what an even schedule pays.
    slice_vol = vol / np.sqrt(T)
    eta_cells = 0.1 * slice_vol / volume
    even = curve[:, None] * start
    paid = float(np.sum(eta_cells * np.square(even))) or 1.0
    cells = spread * 0.3 * vol * 0.02 * np.ones((T, N))
    factor = rng.standard_normal((N, factors)) * (0.8 ** np.arange(factors)) if factors else np.zeros((N, 0))
    own = rng.uniform(0.5, 1.5, N)
    left = start - np.cumsum(even, axis=0)
    held = left + 0.5 * even  # over a slice, so that a single one has risk too
    risk = float(np.sum(np.square(held) @ own) + np.sum(np.square(held @ factor)))
    weight = paid / max(risk, 1e-12)
    decays = np.exp(-np.outer([(12.0, 2.5, 0.0, 40.0)[m % 4] / T for m in range(modes)], np.ones(T)))
    loadings, impact_own = [], []
    for m in range(modes):
        width = N if dense else rank
        L = rng.standard_normal((N, width)) * (1.0 / np.sqrt(max(width, 1)))
        if dense:
            L = np.linalg.cholesky(0.3 * (L @ L.T) + 0.2 * np.eye(N))
        k = rng.uniform(0.5, 1.5, N)
        z = np.zeros((T, N))
        for t in range(T):
            z[t] = even[t] + (decays[m, t] * z[t - 1] if t else 0.0)
        energy = np.append(1.0 - decays[m, 1:] ** 2, 1.0)
        cost_own = 0.5 * float(energy @ (np.square(z) @ k))
        cost_cross = 0.5 * float(energy @ np.square(z @ L).sum(axis=1))
        impact_own.append(k * paid * 0.5 / modes / max(cost_own, 1e-12))
        loadings.append(L * np.sqrt(paid * 0.5 / modes / max(cost_cross, 1e-12)))
    share = np.abs(start) / np.maximum(daily, 1e-12)
    room = np.maximum(participation, 1.6 * share) * volume
    room[:, start == 0.0] = 0.02 * volume[:, start == 0.0] if two_sided else 0.0
    lower = -room if two_sided else np.where(start < 0.0, -room, 0.0)
    upper = room if two_sided else np.where(start > 0.0, room, 0.0)
    groups = rng.integers(0, sectors, N) if sectors else np.full(N, -1)
    group_caps = np.full((T, sectors + empty_sectors), np.inf)
    for g in range(sectors):
        if not np.isfinite(cap):
            break
        group_caps[:, g] = cap * np.abs(start[groups == g]).sum() * np.maximum(curve, 0.5 / T) / 0.99
    group_caps[:, sectors:] = 0.0
    if not np.isfinite(cap):
        group_caps = np.full((T, 0), np.inf)
        groups = np.full(N, -1)
    count = bands if np.isfinite(band) else 0
    vectors = np.hstack([np.ones((N, 1)), rng.normal(1.0, 0.3, (N, max(bands - 1, 0)))])[:, :count]
    gross = np.abs(start) @ np.abs(vectors)
    # An even schedule stays inside: the band shrinks no faster than what is left of the start's own exposure.
    stays = np.abs(left @ vectors)
    width = np.maximum(np.asarray(band * gross if count else gross), 1.02 * stays)
    soft = terminal if np.isinf(terminal) else terminal * weight * T
    return FactorSchedule(
        start=start,
        eta=eta * eta_cells,
        spread=cells,
        linear=drift * 0.3 * vol * 0.02 * rng.standard_normal((T, N)),
        lower=lower,
        upper=upper,
        decays=decays,
        impact_own=np.array(impact_own).reshape(modes, N),
        impact_loadings=tuple(loadings),
        impact_state=0.1 * rng.standard_normal((modes, N)) * np.abs(start),
        risk_own=own,
        risk_loadings=factor,
        risk_weight=np.full(T, risk_aversion * weight),
        terminal_weight=np.full(N, soft),
        groups=groups,
        group_caps=group_caps,
        band_vectors=vectors,
        band_lower=-width,
        band_upper=width,
        change=None if change is None else np.broadcast_to(change * np.abs(start) * 4.0 / T, (T, N)),
    )
