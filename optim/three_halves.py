"""The three-halves cost κ|u|^{3/2} by a descent of quadratic programs, with an exact certificate of the last iterate.

Around v > 0 two quadratics of u are at hand:

    upper  κ( ¼ v^{3/2} + ¾ v^{−1/2} u² )                      lies above κ|u|^{3/2} and meets it at |u| = v
    local  φ(v) + φ'(v)(u − v) + ½φ''(v)(u − v)²,  φ = κ|u|^{3/2}

|u|^{3/2} is concave in u², so its tangent there is the first; minimising it cannot raise the cost. The second is a
Newton step, quadratically convergent near the optimum and kept only where it lowers the true cost. At any iterate u
with multipliers (y, z) of the last quadratic program, replace φ by its tangent φ(u) + φ'(u)(w − u) ≤ φ(w): the
certificate of *that* program at (u, y, z) is one of the convex program itself, since its residuals are the true ones
and its lower bound is a lower bound.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.optim.checks import FloatArray
from crosswind.optim.lowered import Lowered
from crosswind.optim.polish import polish
from crosswind.solvers.certify import certify
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.solution import Attempt, Solution, Status

__all__ = ["linearised", "solve_three_halves"]

_FLOOR = 1e-10  # smallest |v| by the size of its name: the curvature at zero is infinite
_ROUNDS = 60
_NEWTON = 1e-4  # cells below this share of the name's size keep the upper quadratic


def _slope(kappa: FloatArray, u: FloatArray) -> FloatArray:
    return np.asarray(1.5 * kappa * np.sign(u) * np.sqrt(np.abs(u)))


def linearised(lowered: Lowered, u: FloatArray) -> QuadraticProgram:
    """Return the lowered program with κ|w|^{3/2} replaced by its tangent at ``u`` (T, n): a program from below."""
    kappa = lowered.program.three_halves
    slope = _slope(kappa, u)
    constant = float(np.sum(kappa * np.abs(u) ** 1.5 - slope * u))
    return _changed(lowered, slope, None, constant)


def _changed(lowered: Lowered, linear: FloatArray, curvature: FloatArray | None, constant: float) -> QuadraticProgram:
    """Return the lowered program plus linear'u + ½ Σ curvature u² + constant, all in the program's units."""
    qp, D, s = lowered.qp, lowered.var_scale, lowered.cost_scale
    q, cells = qp.q.copy(), lowered.trades.ravel()
    q[cells] += linear.ravel() * D[cells] / s
    if curvature is None:
        return qp.with_vectors(q=q, constant=qp.constant + constant / s)
    diagonal = np.zeros(qp.n)
    diagonal[cells] = curvature.ravel() * D[cells] ** 2 / s
    return QuadraticProgram(
        P=sparse.csc_matrix(qp.P + sparse.diags_array(diagonal)),
        q=q,
        A=qp.A,
        l=qp.l,
        u=qp.u,
        lb=qp.lb,
        ub=qp.ub,
        constant=qp.constant + constant / s,
        row_names=qp.row_names,
        var_names=qp.var_names,
    )


def _model(lowered: Lowered, v: FloatArray, newton: bool) -> QuadraticProgram:
    """Return the quadratic program around ``v`` (T, n)."""
    kappa, size = lowered.program.three_halves, lowered.scaling.trades
    near = np.maximum(np.abs(v), _FLOOR * size)
    root = np.sqrt(near)
    local = newton & (np.abs(v) > _NEWTON * size)
    curvature = np.where(local, 0.75, 1.5) * kappa / root
    linear = np.where(local, 0.75 * kappa * root * np.sign(v), 0.0)
    return _changed(lowered, linear, curvature, 0.0)


def solve_three_halves(
    lowered: Lowered, solver: str | tuple[str, ...], tol: float, *, sharpen: bool, size_limit: int, **settings: Any
) -> Solution:
    """Solve a lowered program with a three-halves cost.

    Parameters
    ----------
    lowered
        Its ``qp`` holds everything but the three-halves cost.
    solver, tol, settings
        As :func:`crosswind.solvers.solve.solve` takes them; a ``time_limit`` holds for the whole descent.
    sharpen
        Whether the corner of each program's active set is solved for.
    size_limit
        Stored entries above which it is not.

    Returns
    -------
    Solution
        Its certificate is that of the convex program, three-halves cost included.
    """
    from crosswind.optim.costs import cost
    from crosswind.solvers.solve import solve

    started, limit = time.monotonic(), settings.pop("time_limit", None)
    program, small = lowered.program, lowered.qp.P.nnz + lowered.qp.A.nnz <= size_limit
    v = np.tile(lowered.scaling.trades / program.slices, (program.slices, 1))
    best: Solution | None = None
    attempts: tuple[Attempt, ...] = ()
    value, newton = np.inf, False
    for round_ in range(_ROUNDS):
        left = None if limit is None else limit - (time.monotonic() - started)
        if left is not None and left <= 0.0 and best is not None:
            return replace(best, status=Status.TIME_LIMIT, attempts=attempts)
        model = _model(lowered, v, newton)
        found = solve(model, solver=solver, tol=tol, time_limit=left, verify=round_ == 0, **settings)
        settings.pop("warm_start", None)
        attempts = (*attempts, *found.attempts)
        if not found.status.usable:
            return replace(found, attempts=attempts) if best is None else replace(best, attempts=attempts)
        if sharpen and small and newton and found.status.ok:
            found = polish(model, found, rounds=6)
        u = np.clip(lowered.unpack_trades(found.x), lowered.box.lower, lowered.box.upper)
        total = cost(program, u).total
        certificate = certify(linearised(lowered, u), found.x, found.y, found.z, tol=tol)
        better = best is None or certificate.worst < best.certificate.worst
        lowers = total < value - 1e-14 * abs(value)
        if better:
            status = Status.FEASIBLE if certificate.feasible() else Status.INACCURATE
            status = Status.OPTIMAL if certificate.passes() else status
            best = replace(
                found, certificate=certificate, objective=certificate.objective, status=status, iterations=round_ + 1
            )
        assert best is not None
        if best.certificate.passes(0.01 * tol) or (best.status.ok and not (better and newton)):
            break
        if newton and not (lowers or better):
            newton = False  # a Newton step that helps nobody: back to the step that cannot rise
            continue
        # Newton from the second round on: the first one, from a guess, is the one that could jump too far.
        value, v, newton = min(value, total), u, True
    return replace(best, attempts=attempts, solve_s=time.monotonic() - started) if best is not None else found
