"""A schedule written out as one dense quadratic program, entry by entry, for an independent solver."""

from __future__ import annotations

import numpy as np

from crosswind.solvers import QuadraticProgram, solve


def hessian(p):
    """Matrix H, vector h and constant of the smooth cost ½u'Hu + h'u + constant, u flattened by slices."""
    T, N = p.slices, p.names
    H, h = np.zeros((T, N, T, N)), np.array(p.linear)
    constant = 0.0
    for t in range(T):
        H[t, np.arange(N), t, np.arange(N)] += 2.0 * p.eta[t]
    for m in range(p.modes):
        K = np.diag(p.impact_own[m]) + p.impact_loadings[m] @ p.impact_loadings[m].T
        for t in range(T):
            for s in range(t + 1):
                decay = float(np.prod(p.decays[m, s + 1 : t + 1]))
                H[t, :, s] += decay * K
                if s < t:
                    H[s, :, t] += decay * K
            h[t] += K @ p.impact_state[m] * float(np.prod(p.decays[m, : t + 1]))
    sigma = np.diag(p.risk_own) + p.risk_loadings @ p.risk_loadings.T
    ends = np.where(np.isinf(p.terminal_weight), 0.0, p.terminal_weight)
    for s in range(T):
        blocks = [(p.risk_weight[s] * sigma, p.start)]
        if s == T - 1:
            blocks.append((np.diag(ends), p.start - p.target))
        for matrix, q in blocks:
            for a in range(s + 1):
                for b in range(s + 1):
                    H[a, :, b] += 2.0 * matrix
                h[a] -= 2.0 * matrix @ q
            constant += float(q @ matrix @ q)
    return H.reshape(T * N, T * N), h.ravel(), constant


def program(p):
    """The quadratic program in (u, |u|), scaled to a cost of about 1."""
    T, N = p.slices, p.names
    n = T * N
    H, h, constant = hessian(p)
    P = np.zeros((2 * n, 2 * n))
    P[:n, :n] = H
    q = np.concatenate([h, np.broadcast_to(p.spread, (T, N)).ravel()])
    eye = np.eye(n)
    A, low, high = [np.hstack([eye, -eye]), np.hstack([eye, eye])], [np.full(n, -np.inf), np.zeros(n)], []
    high = [np.zeros(n), np.full(n, np.inf)]

    def row(u_part, s_part, least, most):
        A.append(np.hstack([np.ravel(u_part), np.ravel(s_part)])[None])
        low.append(np.array([least]))
        high.append(np.array([most]))

    none = np.zeros((T, N))
    for i in np.flatnonzero(np.isinf(p.terminal_weight)):
        part = none.copy()
        part[:, i] = 1.0
        row(part, none, p.start[i] - p.target[i], p.start[i] - p.target[i])
    for t in range(T):
        for g in range(p.group_caps.shape[1]):
            if np.isfinite(p.group_caps[t, g]):
                part = none.copy()
                part[t, p.groups == g] = 1.0
                row(none, part, -np.inf, p.group_caps[t, g])
        for k in range(p.band_vectors.shape[1]):
            part = none.copy()
            part[: t + 1] = p.band_vectors[:, k]
            began = p.start @ p.band_vectors[:, k]
            row(part, none, began - p.band_upper[t, k], began - p.band_lower[t, k])
    lb = np.concatenate([np.broadcast_to(p.lower, (T, N)).ravel(), np.zeros(n)])
    ub = np.concatenate([np.broadcast_to(p.upper, (T, N)).ravel(), np.full(n, np.inf)])
    size = max(float(np.abs(q).max()), float(np.abs(P).max()), 1e-300)
    made = QuadraticProgram(P / size, q / size, np.vstack(A), np.concatenate(low), np.concatenate(high), lb=lb, ub=ub)
    return made, size, constant


def optimum(p, tol=1e-9):
    """Trades (T, N) and cost by Clarabel."""
    made, size, constant = program(p)
    found = solve(made, "clarabel", tol=tol)
    return found.x[: p.slices * p.names].reshape(p.slices, p.names), found.objective * size + constant, found
