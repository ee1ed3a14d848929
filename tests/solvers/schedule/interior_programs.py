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


def literal(p: FactorSchedule) -> tuple[sp.csc_matrix, np.ndarray, sp.csr_matrix, np.ndarray, np.ndarray, float]:
    """The program over (u, t, terminal miss) as P, q, A, l, u of ½x'Px + q'x, l ≤ Ax ≤ u, and the constant left out.

    Every term straight from the statement: NT × NT Hessian, t ≥ |u| in every cell.
    """
    T, N = p.slices, p.names
    n = T * N
    eye, sums = sp.eye(n), sp.kron(np.tril(np.ones((T, T))), sp.eye(N))
    P = np.diag(2.0 * p.eta.ravel())
    q = p.linear.ravel().copy()
    for m, L in enumerate(p.impact_loadings):
        K = np.diag(p.impact_own[m]) + L @ L.T
        R = np.eye(T)
        for t in range(1, T):
            R[t, :t] = p.decays[m, t] * R[t - 1, :t]
        P += np.kron(np.tril(R, -1) + np.tril(R, -1).T + np.eye(T), K)
        q += np.outer(np.cumprod(p.decays[m]), K @ p.impact_state[m]).ravel()
    covariance = np.diag(p.risk_own) + p.risk_loadings @ p.risk_loadings.T
    big = np.kron(np.diag(2.0 * p.risk_weight), covariance)
    held = np.tile(p.start, T)
    P += sums.T @ (sums.T @ big).T
    q -= sums.T @ (big @ held)
    constant = 0.5 * held @ big @ held
    soft = np.where(p.hard, 0.0, p.terminal_weight)
    full = sp.block_diag([sp.csc_matrix(P), sp.csc_matrix((n, n)), sp.diags(2.0 * soft)], format="csc")
    q = np.concatenate([q, p.spread.ravel(), np.zeros(N)])
    rows, low, high = [], [], []

    def add(A: Any, B: Any, C: Any, lo: Any, hi: Any) -> None:
        width = (A if A is not None else B).shape[0]
        rows.append([A, B if B is not None else sp.csr_matrix((width, n)), C])
        low.append(np.broadcast_to(lo, width))
        high.append(np.broadcast_to(hi, width))

    last = sp.kron(np.ones((1, T)), sp.eye(N))
    need = p.start - p.target
    ends = sp.diags(np.where(p.hard, 0.0, 1.0))
    add(eye, sp.csr_matrix((n, n)), sp.csr_matrix((n, N)), p.lower.ravel(), p.upper.ravel())
    add(-eye, eye, None, 0.0, np.inf)
    add(eye, eye, None, 0.0, np.inf)
    add(last, None, ends, need, need)  # 1'u + miss = need; the miss has no place where the end is hard
    if p.group_caps.shape[1]:
        member = np.array([p.groups == g for g in range(p.group_caps.shape[1])], dtype=float)
        add(None, sp.kron(sp.eye(T), member), None, -np.inf, p.group_caps.ravel())
        rows[-1][0] = sp.csr_matrix((rows[-1][1].shape[0], n))
    if p.band_vectors.shape[1]:
        V = sp.kron(np.tril(np.ones((T, T))), p.band_vectors.T)
        at = np.tile(p.start @ p.band_vectors, T)
        add(V, None, None, at - p.band_upper.ravel(), at - p.band_lower.ravel())
    if p.change is not None:
        D = sp.kron(sp.eye(T) - sp.eye(T, k=-1), sp.eye(N))
        before = np.zeros(n)
        limit = p.change.copy()
        if p.previous is None:
            limit[0] = np.inf
        else:
            before[:N] = p.previous
        add(D, None, None, before - limit.ravel(), before + limit.ravel())
    A = sp.bmat(rows, format="csr")
    return full, q, A, np.concatenate(low), np.concatenate(high), float(constant)


def clarabel_objective(p: FactorSchedule, tol: float = 1e-10) -> tuple[float, float, np.ndarray]:
    """Primal and dual objective from Clarabel and its trades (T, N), on fixed variables left in as equalities."""
    import clarabel

    P, q, A, low, high, constant = literal(p)
    equal = low == high
    above, below = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
    scale = max(1.0, float(np.max(np.abs(P.diagonal()))))
    stacked = sp.vstack([A[equal], A[above], -A[below]], format="csc")
    right = np.concatenate([low[equal], high[above], -low[below]])
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(above.sum() + below.sum()))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    settings.max_iter = 200
    out = clarabel.DefaultSolver(sp.triu(P / scale, format="csc"), q / scale, stacked, right, cones, settings).solve()
    u = np.array(out.x)[: p.slices * p.names].reshape(p.slices, p.names)
    return out.obj_val * scale + constant, out.obj_val_dual * scale + constant, u
