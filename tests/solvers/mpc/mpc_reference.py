"""The receding-horizon program written down from its definition, dense over the trades, and solved by Clarabel."""

from __future__ import annotations

import clarabel
import numpy as np
from scipy import sparse


def full(model, **given):
    """Return all data in their full shapes, what is not given at rest."""
    m, k, M, H = model.sizes
    shapes = {
        "gap": (k,), "state": (M, m), "last": (m,), "plan": (H, k), "linear": (H, m), "carry": (H, k),
        "spread": (H, m), "cap": (H, m), "rate": (m,), "gap_cap": (H, k), "price": (H, k), "curve": (H, k),
    }  # fmt: skip
    rest = {"cap": np.inf, "rate": np.inf, "gap_cap": np.inf}
    return {n: np.array(np.broadcast_to(given.get(n, rest.get(n, 0.0)), s), dtype=float) for n, s in shapes.items()}


def cost(model, d, h):
    """Return the cost of trades by stepping through the definition."""
    G, z, total = d["gap"].copy(), d["state"].copy(), 0.0
    L, rho = model.impact_loadings, model.decays
    for t in range(model.horizon):
        total += d["spread"][t] @ np.abs(h[t]) + h[t] @ model.temporary @ h[t] + d["linear"][t] @ h[t]
        for j in range(model.modes):
            total += (L[j] @ z[j]) @ h[t] + 0.5 * h[t] @ L[j] @ L[j].T @ h[t]
            z[j] = rho[j] * (z[j] + L[j].T @ h[t])
        G = G + d["plan"][t] - model.exposure @ h[t]
        over = np.maximum(np.abs(G) - d["gap_cap"][t], 0.0)
        total += model.risk_weight[t] * G @ model.covariance @ G + d["carry"][t] @ G
        total += d["price"][t] @ over + 0.5 * d["curve"][t] @ over**2
    return total + G @ (model.terminal_weight * G)


def optimum(model, d):
    """Return (trades, cost) by Clarabel at 1e-11; the last trade gives way by the least where it must."""
    m, k, M, H = model.sizes
    n, e = H * m, H * k
    free = (d["gap"] + np.cumsum(d["plan"], axis=0)).ravel()
    T = np.kron(np.tril(np.ones((H, H))), model.exposure)
    S = np.kron(np.diag(model.risk_weight), model.covariance)
    S[-k:, -k:] += np.diag(model.terminal_weight)
    P = 2.0 * T.T @ S @ T + 2.0 * np.kron(np.eye(H), model.temporary)
    q = d["linear"].ravel() - T.T @ (2.0 * S @ free + d["carry"].ravel())
    for j in range(M):
        L, rho = model.impact_loadings[j], model.decays[j]
        late = np.subtract.outer(np.arange(H), np.arange(H))
        P += np.kron(np.where(late == 0, 1.0, rho ** np.abs(late)), L @ L.T)
        q += np.concatenate([rho**t * (L @ d["state"][j]) for t in range(H)])
    cap, rate, last = d["cap"].copy(), d["rate"], d["last"]
    for t in range(H - 2, -1, -1):
        cap[t] = np.minimum(cap[t], cap[t + 1] + rate)
    last = np.clip(last, -(cap[0] + rate), cap[0] + rate)
    whole = np.zeros((2 * n + e, 2 * n + e))
    whole[:n, :n] = P
    whole[2 * n :, 2 * n :] = np.diag(d["curve"].ravel())
    linear = np.concatenate([q, d["spread"].ravel(), d["price"].ravel()])
    eye, no = np.eye(n), np.zeros
    rows, sides = [], []

    def below(part, side):
        keep = np.isfinite(side)
        rows.append(part[keep])
        sides.append(side[keep])

    below(np.hstack([eye, -eye, no((n, e))]), no(n))
    below(np.hstack([-eye, -eye, no((n, e))]), no(n))
    below(np.hstack([no((n, n)), eye, no((n, e))]), cap.ravel())
    room = d["gap_cap"].ravel()
    below(np.hstack([-T, no((e, n)), -np.eye(e)]), room - free)
    below(np.hstack([T, no((e, n)), -np.eye(e)]), room + free)
    below(np.hstack([no((e, 2 * n)), -np.eye(e)]), no(e))
    change = np.hstack([np.kron(np.eye(H) - np.eye(H, k=-1), np.eye(m)), no((n, n + e))])
    first = no(n)
    first[:m] = last
    below(change, np.tile(rate, H) + first)
    below(-change, np.tile(rate, H) - first)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    A, b = np.vstack(rows), np.concatenate(sides)
    triu = sparse.csc_matrix(np.triu(whole))
    cones = [clarabel.NonnegativeConeT(len(b))]
    found = clarabel.DefaultSolver(triu, linear, sparse.csc_matrix(A), b, cones, settings).solve()
    assert str(found.status) in ("Solved", "AlmostSolved")
    h = np.array(found.x[:n]).reshape(H, m)
    return h, cost(model, d, h)
