"""What a user would run today for a one-sided basket: a careful cvxpy model, and the lifted sparse program.

Used by ``basket_speed.py``. The careful model keeps risk and impact as sums of squares of factor exposures, never as a
matrix of order NT. The lifted program makes inventories, impact states and exposures variables of their own, so that
the objective is diagonal and every equation sparse; it goes to each solver through the solver's own interface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.schedule import FactorSchedule

__all__ = ["careful_cvxpy", "lifted", "run_clarabel", "run_osqp", "run_piqp"]


def sides(p: FactorSchedule) -> Any:
    """Return +1 or −1 per cell: the only side that a one-sided basket trades; |u| is linear there."""
    if ((p.lower < 0.0) & (p.upper > 0.0)).any():
        raise ValueError("only for one-sided baskets")
    return np.where(p.upper > 0.0, 1.0, -1.0)


def careful_cvxpy(p: FactorSchedule) -> tuple[Any, Any]:
    """Return (problem, variable)."""
    import cvxpy as cp

    T, N = p.slices, p.names
    u = cp.Variable((T, N))
    later = np.tril(np.ones((T, T)))
    q = np.tile(p.start, (T, 1)) - later @ u
    cost = cp.sum(cp.multiply(p.eta, cp.square(u))) + cp.sum(cp.multiply(p.linear + p.spread * sides(p), u))
    for m, L in enumerate(p.impact_loadings):
        decay = np.zeros((T, T))
        known = np.zeros((T, N))
        for t in range(T):
            decay[t, : t + 1] = [np.prod(p.decays[m, s + 1 : t + 1]) for s in range(t + 1)]
            known[t] = np.prod(p.decays[m, : t + 1]) * p.impact_state[m]
        z = known + decay @ u
        weight = np.sqrt(0.5 * p.energy[m])[:, None]
        cost += cp.sum_squares(cp.multiply(weight * np.sqrt(p.impact_own[m]), z))
        cost += cp.sum_squares(cp.multiply(np.repeat(weight, L.shape[1], 1), z @ L))
    held = np.sqrt(p.risk_weight)[:, None]
    cost += cp.sum_squares(cp.multiply(held * np.sqrt(p.risk_own), q))
    cost += cp.sum_squares(cp.multiply(np.repeat(held, p.risk_loadings.shape[1], 1), q @ p.risk_loadings))
    limits = [u >= p.lower, u <= p.upper]
    hard = np.flatnonzero(p.hard)
    soft = np.flatnonzero(~p.hard)
    if hard.size:
        limits.append(q[T - 1, hard] == p.target[hard])
    if soft.size:
        cost += cp.sum_squares(cp.multiply(np.sqrt(p.terminal_weight[soft]), q[T - 1, soft] - p.target[soft]))
    for g in range(p.group_caps.shape[1]):
        members = np.flatnonzero(p.groups == g)
        if members.size:
            limits.append(cp.sum(cp.multiply(sides(p)[:, members], u[:, members]), axis=1) <= p.group_caps[:, g])
    if p.band_vectors.shape[1]:
        limits += [q @ p.band_vectors <= p.band_upper, q @ p.band_vectors >= p.band_lower]
    return cp.Problem(cp.Minimize(cost), limits), u


def lifted(p: FactorSchedule) -> dict[str, Any]:
    """Return P (diagonal), q, A, l, u of the lifted program; its first TN variables are the trades, slices outermost.

    The objective differs from the cost by a constant.
    """
    T, N = p.slices, p.names
    back = sparse.eye(T, k=-1)
    eye_t, eye_n = sparse.eye(T), sparse.eye(N)
    widths = [T * N, T * N]  # u, q
    diagonal = [2.0 * p.eta.ravel(), 2.0 * np.outer(p.risk_weight, p.risk_own).ravel()]
    cost = [(p.linear + p.spread * sides(p)).ravel(), np.zeros(T * N)]
    rows: list[tuple[dict[int, Any], Any, Any]] = []  # blocks by variable, lower, upper
    known = np.zeros((T, N))
    known[0] = p.start
    rows.append(({0: sparse.eye(T * N), 1: sparse.kron(eye_t - back, eye_n)}, known.ravel(), known.ravel()))

    def exposure(of: int, matrix: Any, weight: Any) -> None:
        """Add variables y_t = matrix' x_t with cost ½ weight_t |y_t|²."""
        k = matrix.shape[1]
        if k == 0:
            return
        at = len(widths)
        widths.append(T * k)
        diagonal.append(np.repeat(weight, k))
        cost.append(np.zeros(T * k))
        zero = np.zeros(T * k)
        rows.append(({of: sparse.kron(eye_t, -matrix.T), at: sparse.eye(T * k)}, zero, zero))

    exposure(1, p.risk_loadings, 2.0 * p.risk_weight)
    for m, L in enumerate(p.impact_loadings):
        at = len(widths)
        widths.append(T * N)
        diagonal.append(np.outer(p.energy[m], p.impact_own[m]).ravel())
        cost.append(np.zeros(T * N))
        step = sparse.kron(eye_t - sparse.diags(p.decays[m, 1:], -1, shape=(T, T)), eye_n)
        known = np.zeros((T, N))
        known[0] = p.decays[m, 0] * p.impact_state[m]
        rows.append(({0: -sparse.eye(T * N), at: step}, known.ravel(), known.ravel()))
        exposure(at, L, p.energy[m])
    soft = ~p.hard
    end = diagonal[1].reshape(T, N)
    end[-1, soft] += 2.0 * p.terminal_weight[soft]
    cost[1].reshape(T, N)[-1, soft] -= 2.0 * p.terminal_weight[soft] * p.target[soft]
    if p.hard.any():
        last = sparse.kron(sparse.csr_matrix(([1.0], ([0], [T - 1])), shape=(1, T)), eye_n).tocsr()[p.hard]
        rows.append(({1: last}, p.target[p.hard], p.target[p.hard]))
    rows.append(({0: sparse.eye(T * N)}, p.lower.ravel(), p.upper.ravel()))
    full = np.array([(p.groups == g).any() for g in range(p.group_caps.shape[1])], dtype=bool)
    if full.any():
        member = (p.groups[None, :] == np.flatnonzero(full)[:, None]).astype(float)
        blocks = [sparse.csr_matrix(member * sides(p)[t]) for t in range(T)]
        caps = p.group_caps[:, full].ravel()
        rows.append(({0: sparse.block_diag(blocks)}, np.full(caps.size, -np.inf), caps))
    if p.band_vectors.shape[1]:
        V = sparse.kron(eye_t, p.band_vectors.T)
        rows.append(({1: V}, p.band_lower.ravel(), p.band_upper.ravel()))
    A = sparse.bmat(
        [
            [
                sparse.csc_matrix(blocks[v]) if v in blocks else sparse.csc_matrix((len(low), widths[v]))
                for v in range(len(widths))
            ]
            for blocks, low, _ in rows
        ],
        format="csc",
    )
    return {
        "P": sparse.diags(np.concatenate(diagonal), format="csc"),
        "q": np.concatenate(cost),
        "A": A,
        "l": np.concatenate([low for _, low, _ in rows]),
        "u": np.concatenate([high for _, _, high in rows]),
    }


def run_clarabel(qp: dict[str, Any], tol: float, seconds: float) -> tuple[Any, str]:
    """Return the solution and its status."""
    import clarabel

    A, low, high = qp["A"].tocsr(), qp["l"], qp["u"]
    equal = low == high
    upper, lower = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
    rows = sparse.vstack([A[equal], A[upper], -A[lower]], format="csc")
    right = np.concatenate([high[equal], high[upper], -low[lower]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.time_limit = seconds
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(len(right) - int(equal.sum()))]
    found = clarabel.DefaultSolver(qp["P"], qp["q"], rows, right, cones, settings).solve()
    return np.asarray(found.x), str(found.status)


def run_osqp(qp: dict[str, Any], tol: float, seconds: float) -> tuple[Any, str]:
    """Return the solution and its status."""
    import osqp

    solver = osqp.OSQP()
    options = {"eps_abs": tol, "eps_rel": tol, "max_iter": 100_000, "time_limit": seconds, "polishing": False}
    solver.setup(qp["P"], qp["q"], qp["A"], qp["l"], qp["u"], verbose=False, **options)
    found = solver.solve(raise_error=False)
    return np.asarray(found.x), str(found.info.status)


def run_piqp(qp: dict[str, Any], tol: float, seconds: float) -> tuple[Any, str]:
    """Return the solution and its status; PIQP has no time limit of its own."""
    import piqp

    A, low, high = qp["A"].tocsr(), qp["l"], qp["u"]
    equal = low == high
    solver = piqp.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = tol
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = tol
    rest = A[~equal].tocsc()
    solver.setup(qp["P"], qp["q"], A[equal].tocsc(), high[equal], rest, low[~equal], high[~equal])
    status = solver.solve()
    return np.asarray(solver.result.x), str(status)
