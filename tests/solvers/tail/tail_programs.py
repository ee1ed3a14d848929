"""Random tail programs for the tests, and an independent formulation of them in cvxpy."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp

from crosswind.solvers.tail import TailProgram, tail_caps


def random_program(
    S: int = 15,
    slices: int = 4,
    slabs: int = 3,
    seed: int = 0,
    risk: float = 0.7,
    alpha: float = 0.8,
    curved: bool = True,
    ridge: float = 0.5,
    even: bool = False,
) -> TailProgram:
    """Draw a program with the pattern of a schedule: slabs that are given up over slices, caps per slice."""
    g = np.random.default_rng(seed)
    n = slices * slabs
    linear = g.standard_normal((S, n)).cumsum(axis=1) * 0.3 + g.uniform(0.5, 2.0, (S, n))
    scale = g.uniform(0.0, 1.0, (S, n)) * (g.random((S, n)) > 0.2)
    cells = sp.kron(sp.eye_array(slices), np.ones((1, slabs)))
    decay = 0.5 ** np.abs(np.subtract.outer(np.arange(slices), np.arange(slices)))
    p = np.full(S, 1.0 / S) if even else g.dirichlet(np.ones(S))
    return TailProgram(
        linear=linear,
        scale=scale,
        cells=cells,
        kernel=decay * (0.8 if curved else 0.0),
        probabilities=p,
        caps=tail_caps(p, alpha),
        risk=risk,
        equal=sp.kron(np.ones((1, slices)), sp.eye_array(slabs)),
        equal_to=g.uniform(1.0, 2.0, slabs),
        rows=sp.kron(sp.eye_array(slices), np.ones((1, slabs))),
        rows_to=np.full(slices, 2.2 * slabs / slices),
        constant=g.standard_normal(S),
        base=g.uniform(-0.2, 0.2, n),
        ridge=np.full(n, ridge),
    )


def reference(program: TailProgram) -> tuple[float, np.ndarray, np.ndarray]:
    """Solve by cvxpy and Clarabel from the formula in the docstring, written down anew; (value, x, prices of E)."""
    import cvxpy as cp

    p = program
    x = cp.Variable(p.n)
    zeta, u = cp.Variable(), cp.Variable(p.scenarios)
    values, vectors = np.linalg.eigh(p.kernel)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    costs = []
    for s in range(p.scenarios):
        v = (p.cells.toarray() * p.scale[s]) @ x
        costs.append(p.constant[s] + p.linear[s] @ x + 0.5 * cp.sum_squares(root.T @ v))
    done = p.equal.toarray() @ x == p.equal_to
    limits = [x >= 0, done, p.rows.toarray() @ x <= p.rows_to]
    objective = p.base @ x + 0.5 * cp.sum_squares(np.diag(np.sqrt(p.ridge)) @ x)
    objective += sum(p.probabilities[s] * costs[s] for s in range(p.scenarios))
    if p.risk:
        objective += p.risk * (zeta + p.caps @ u)
        limits += [u >= 0, *(u[s] >= costs[s] - zeta for s in range(p.scenarios))]
    problem = cp.Problem(cp.Minimize(objective), limits)
    with warnings.catch_warnings():  # sharper than it promises: the assertions judge what comes out
        warnings.simplefilter("ignore", UserWarning)
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return float(problem.value), np.asarray(x.value), -np.asarray(done.dual_value)
