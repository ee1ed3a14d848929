"""Random schedules over all options, feasible by construction, and Clarabel's answer to the literal program."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from crosswind.solvers.schedule import FactorSchedule


def random_schedule(seed: int, names: int = 30, slices: int = 15, *, extreme: bool = False) -> FactorSchedule:
    """A schedule whose limits are drawn around trades that keep them; ``extreme`` draws weights over 16 decades."""
    rng = np.random.default_rng(seed)
    N, T = int(rng.integers(1, names + 1)), int(rng.integers(1, slices + 1))

    def some(chance: float, *shape: int) -> Any:
        return rng.random(shape) < chance

    size = np.exp(rng.normal(0.0, 1.0, N))
    style = rng.integers(0, 3)  # one-way, mixed, both ways
    side = np.where(some(0.5, N), 1.0, -1.0)
    u = rng.exponential(1.0, (T, N)) * size / T * side
    if style:
        u *= np.where(some(0.3, T, N) & ((style == 2) | some(0.5, N)), -1.0, 1.0)
    if some(0.3).item():
        u[some(0.2, T, N)] = 0.0
    start = u.sum(axis=0)
    slack = rng.exponential(1.0, (2, T, N)) * size / T * 10.0 ** rng.uniform(-3.0, 0.5)
    lower, upper = u - slack[0], u + slack[1]
    if style == 0:
        lower = np.where(u >= 0.0, np.maximum(lower, 0.0), lower)
        upper = np.where(u <= 0.0, np.minimum(upper, 0.0), upper)
    shut = some(0.1 * rng.integers(0, 3), T, N)
    lower, upper = np.where(shut, u, lower), np.where(shut, u, upper)
    lower[some(0.2 * rng.integers(0, 2), T, N) & ~shut & (style > 0)] = -np.inf
    upper[some(0.2 * rng.integers(0, 2), T, N) & ~shut & (style > 0)] = np.inf

    M = int(rng.integers(0, 4))
    big = 10.0 ** rng.uniform(-8.0, 8.0) if extreme else 10.0 ** rng.uniform(-2.0, 3.0)
    decays = np.where(some(0.2, M, 1), 1.0, rng.uniform(0.05, 1.0, (M, T)))
    loadings = tuple(rng.normal(size=(N, int(rng.integers(0, 4)))) for _ in range(M))
    factors = rng.normal(size=(N, int(rng.integers(0, 5))))
    weight = big * rng.exponential(1.0, T) * np.where(some(0.3), some(0.7, T), 1.0)
    terminal = np.full(N, np.inf)
    ends = rng.integers(0, 3)
    if ends:
        terminal = rng.choice([0.0, 1.0, 1e4, 1e8 if extreme else 1e5, np.inf], N) if ends == 1 else np.full(N, big)

    G = int(rng.integers(0, 4))
    groups = rng.integers(-1, G, N) if G else np.full(N, -1)
    sums = np.array([np.abs(u[:, groups == g]).sum(axis=1) for g in range(G)]).reshape(G, T).T
    caps = sums * (1.0 + rng.exponential(1.0, (T, G)) * 10.0 ** rng.uniform(-3.0, 0.0)) + 1e-3 * some(0.9, T, G)
    caps[some(0.2, T, G)] = np.inf
    b = int(rng.integers(0, 3))
    vectors = rng.normal(size=(N, b))
    held = (start - np.cumsum(u, axis=0)) @ vectors
    room = rng.exponential(1.0, (2, T, b)) * 10.0 ** rng.uniform(-4.0, 0.5) * size.sum()
    edges = [np.where(some(0.2, T, b), sign * np.inf, held + sign * r) for sign, r in zip((-1, 1), room, strict=True)]
    change = previous = None
    if rng.integers(0, 3) == 0:
        previous = None if some(0.3).item() else u[0] * rng.uniform(0.0, 1.0, N)
        step = np.abs(np.diff(u, axis=0, prepend=(u[:1] if previous is None else previous[None])))
        change = step * (1.0 + rng.exponential(1.0, (T, N))) + 1e-2 * size / T
        change[some(0.2, T, N)] = np.inf
    duplicated = N > 2 and some(0.2).item()
    own = np.exp(rng.normal(size=(M, N))) * (0.0 if some(0.1).item() else 1.0)
    if duplicated:
        for L in (*loadings, factors):
            L[1] = L[0]
        own[:, 1] = own[:, 0]
    return FactorSchedule(
        start=start,
        eta=np.exp(rng.normal(size=(T, N))) * (0.0 if some(0.1).item() and M else 1.0),
        spread=np.exp(rng.normal(size=(T, N))) * (0.0 if some(0.3).item() else 0.1 * size),
        linear=rng.normal(size=(T, N)) * size * (0.3 if some(0.5).item() else 0.0),
        lower=lower,
        upper=upper,
        decays=decays,
        impact_own=own,
        impact_loadings=loadings,
        impact_state=rng.normal(size=(M, N)) * 0.3,
        risk_own=np.exp(rng.normal(size=N)) * (0.0 if some(0.1).item() else 1.0),
        risk_loadings=factors,
        risk_weight=weight,
        terminal_weight=terminal,
        target=np.zeros(N),
        groups=groups,
        group_caps=caps,
        band_vectors=vectors,
        band_lower=edges[0],
        band_upper=edges[1],
        change=change,
        previous=previous,
    )


def literal(p: FactorSchedule) -> tuple[sp.csc_matrix, np.ndarray, sp.csc_matrix, np.ndarray, np.ndarray]:
    """The program as P, c, A, l, h of ½x'Px + c'x, l ≤ Ax ≤ h over x = (u, t ≥ |u|, q_1 … q_T, q_T − target).

    Every term straight from the statement, the impact as one NT × NT matrix.
    """
    T, N = p.slices, p.names
    n = T * N
    eye = sp.identity(n, format="csr")
    impact = np.diag(2.0 * p.eta.ravel())
    c = p.linear.ravel().copy()
    for m, L in enumerate(p.impact_loadings):
        K = np.diag(p.impact_own[m]) + L @ L.T
        R = np.eye(T)
        for t in range(1, T):
            R[t, :t] = p.decays[m, t] * R[t - 1, :t]
        impact += np.kron(R + np.tril(R, -1).T, K)
        c += np.outer(np.cumprod(p.decays[m]), K @ p.impact_state[m]).ravel()
    covariance = np.diag(p.risk_own) + p.risk_loadings @ p.risk_loadings.T
    soft = np.where(p.hard, 0.0, p.terminal_weight)
    risk = sp.kron(np.diag(2.0 * p.risk_weight), covariance)
    P = sp.block_diag([sp.csc_matrix(impact), sp.csc_matrix((n, n)), risk, sp.diags(2.0 * soft)], format="csc")
    rows: list[list[Any]] = []
    low: list[np.ndarray] = []
    high: list[np.ndarray] = []

    def add(lo: Any, hi: Any, u: Any = None, t: Any = None, q: Any = None, miss: Any = None) -> None:
        width = next(part.shape[0] for part in (u, t, q, miss) if part is not None)
        sizes = (n, n, n, N)
        parts = zip((u, t, q, miss), sizes, strict=True)
        rows.append([sp.csr_matrix((width, size)) if part is None else part for part, size in parts])
        low.append(np.broadcast_to(lo, width))
        high.append(np.broadcast_to(hi, width))

    before = np.concatenate([p.start, np.zeros(n - N)])
    back = sp.kron(sp.identity(T) - sp.eye(T, k=-1), sp.identity(N))
    add(before, before, u=eye, q=back)
    last = sp.kron(np.eye(T)[-1:], sp.identity(N))
    add(p.target, p.target, q=last, miss=-sp.identity(N))
    add(np.where(p.hard, 0.0, -np.inf), np.where(p.hard, 0.0, np.inf), miss=sp.identity(N))
    add(p.lower.ravel(), p.upper.ravel(), u=eye)
    add(0.0, np.inf, u=-eye, t=eye)
    add(0.0, np.inf, u=eye, t=eye)
    if p.group_caps.shape[1]:
        member = np.array([p.groups == g for g in range(p.group_caps.shape[1])], dtype=float)
        add(-np.inf, p.group_caps.ravel(), t=sp.kron(sp.identity(T), member))
    if p.band_vectors.shape[1]:
        add(p.band_lower.ravel(), p.band_upper.ravel(), q=sp.kron(sp.identity(T), p.band_vectors.T))
    if p.change is not None:
        first = np.zeros(n)
        limit = p.change.copy()
        if p.previous is None:
            limit[0] = np.inf
        else:
            first[:N] = p.previous
        add(first - limit.ravel(), first + limit.ravel(), u=back)
    c = np.concatenate([c, p.spread.ravel(), np.zeros(n + N)])
    return P, c, sp.bmat(rows, format="csc"), np.concatenate(low), np.concatenate(high)


def clarabel_bracket(p: FactorSchedule, tol: float = 1e-10) -> tuple[float, float]:
    """Dual and primal objective from Clarabel.

    Its residuals are measured after scaling: at times "Solved" misses equations by 1e-6 of the program's own numbers.
    Of the answers with and without scaling, the one whose rows we find kept better counts.
    """
    import clarabel

    P, c, A, low, high = literal(p)
    equal = low == high
    above, below = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
    by_rows = A.tocsr()
    stacked = sp.vstack([by_rows[equal], by_rows[above], -by_rows[below]], format="csc")
    right = np.concatenate([low[equal], high[above], -low[below]])
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(above.sum() + below.sum()))]
    best, found = np.inf, (-np.inf, np.inf)
    for scaled in (False, True):
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.equilibrate_enable = scaled
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
        out = clarabel.DefaultSolver(sp.triu(P, format="csc"), c, stacked, right, cones, settings).solve()
        missed = float(np.max(np.abs(stacked @ np.array(out.x) + np.array(out.s) - right)))
        if missed < best:
            best, found = missed, (out.obj_val_dual, out.obj_val)
        if best < 1e-9:
            break
    return found
