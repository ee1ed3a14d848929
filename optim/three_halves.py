"""The three-halves cost κ|u|^{3/2} by a descent of quadratic programs, with an exact certificate of the last iterate.

Around v > 0 two quadratics of u are at hand:

    upper  κ( ¼ v^{3/2} + ¾ v^{−1/2} u² )                      lies above κ|u|^{3/2} and meets it at |u| = v
    local  φ(v) + φ'(v)(u − v) + ½φ''(v)(u − v)²,  φ = κ|u|^{3/2}

|u|^{3/2} is concave in u², so its tangent there is the first; minimising it cannot raise the cost. The second is a
Newton step, quadratically convergent near the optimum and kept only where it helps.

The certificate is exact. Let (u, y, z) solve a quadratic program and g be the slope of its model at u. Every g gives a
bound from below, κ|w|^{3/2} ≥ gw − 4|g|³/(27κ²), with loss κ|u|^{3/2} + 4|g|³/(27κ²) − gu at u. The program with this
line in place of κ|w|^{3/2} has the residuals of the quadratic one at (u, y, z), and its lower bound is one of the
convex program; the losses add to the gap. A slope taken from |u|^{1/2} would turn dust of 1e-10 into residuals of 1e-5.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from crosswind.optim.checks import FloatArray
from crosswind.optim.lowered import Lowered
from crosswind.optim.polish import polish
from crosswind.solvers.certify import certify
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.solution import Attempt, Certificate, Solution, Status

__all__ = ["ThreeHalves", "fenchel_loss", "solve_three_halves"]

_FLOOR = 1e-10  # smallest |v| by the size of its name: the curvature at zero is infinite
_ROUNDS = 60
_NEWTON = 1e-4  # cells below this share of the name's size keep the upper quadratic


@dataclass(frozen=True, eq=False)
class ThreeHalves:
    """The solution of a program with a three-halves cost.

    Attributes
    ----------
    solution
        x, y, z of the last quadratic program, graded by the certificate of the convex program.
    slope
        g (T, n), currency per unit of trade: what stands for the derivative of κ|u|^{3/2} in that certificate.
    """

    solution: Solution
    slope: FloatArray


def fenchel_loss(kappa: FloatArray, u: FloatArray, slope: FloatArray) -> FloatArray:
    """Return κ|u|^{3/2} + 4|g|³/(27κ²) − gu ≥ 0: zero exactly where g is the derivative at u."""
    conjugate = np.divide(4.0 * np.abs(slope) ** 3, 27.0 * kappa**2, out=np.zeros_like(u), where=kappa > 0.0)
    return np.asarray(np.maximum(kappa * np.abs(u) ** 1.5 + conjugate - slope * u, 0.0))


def _certified(lowered: Lowered, found: Solution, u: FloatArray, slope: FloatArray, tol: float) -> Certificate:
    """Return the certificate of the convex program at the solution of a quadratic one."""
    kappa = lowered.program.three_halves
    loss = fenchel_loss(kappa, u, slope)
    line = float(np.sum(kappa * np.abs(u) ** 1.5 - slope * u - loss))  # −4|g|³/27κ², without its cancellation
    program = _changed(lowered, slope, None, line)
    found_certificate = certify(program, found.x, found.y, found.z, tol=tol)
    added = float(loss.sum()) / lowered.cost_scale
    x = found.x
    scale = max(0.5 * float(x @ (program.P @ x)), abs(float(program.q @ x)), 1e-300)
    return replace(
        found_certificate,
        objective=found_certificate.objective + added,
        gap=found_certificate.gap + added,
        gap_rel=found_certificate.gap_rel + added / scale,
        excess=found_certificate.excess + added,
        excess_rel=found_certificate.excess_rel + added / scale,
    )


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


def _model(lowered: Lowered, v: FloatArray, newton: bool) -> tuple[FloatArray, FloatArray]:
    """Return (linear, curvature), each (T, n), of the quadratic around ``v``."""
    kappa, size = lowered.program.three_halves, lowered.scaling.trades
    near = np.maximum(np.abs(v), _FLOOR * size)
    root = np.sqrt(near)
    local = newton & (np.abs(v) > _NEWTON * size)
    curvature = np.where(local, 0.75, 1.5) * kappa / root
    return np.where(local, 0.75 * kappa * root * np.sign(v), 0.0), curvature


def solve_three_halves(
    lowered: Lowered, solver: str | tuple[str, ...], tol: float, *, sharpen: bool, size_limit: int, **settings: Any
) -> ThreeHalves:
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
    ThreeHalves
        Its certificate is that of the convex program, three-halves cost included.
    """
    from crosswind.optim.costs import cost
    from crosswind.solvers.solve import solve

    started, limit = time.monotonic(), settings.pop("time_limit", None)
    program, small = lowered.program, lowered.qp.P.nnz + lowered.qp.A.nnz <= size_limit
    v = np.tile(lowered.scaling.trades / program.slices, (program.slices, 1))
    best: ThreeHalves | None = None
    attempts: tuple[Attempt, ...] = ()
    value, newton = np.inf, False
    for round_ in range(_ROUNDS):
        left = None if limit is None else limit - (time.monotonic() - started)
        if left is not None and left <= 0.0 and best is not None:
            return _ended(best, attempts, started, Status.TIME_LIMIT)
        linear, curvature = _model(lowered, v, newton)
        model = _changed(lowered, linear, curvature, 0.0)
        found = solve(model, solver=solver, tol=tol, time_limit=left, verify=round_ == 0, **settings)
        settings.pop("warm_start", None)
        attempts = (*attempts, *found.attempts)
        if not found.status.usable:
            if best is not None:
                break
            return ThreeHalves(replace(found, attempts=attempts), np.zeros_like(v))
        if sharpen and small and round_ > 0:
            found = polish(model, found, rounds=6)
        raw = lowered.unpack_trades(found.x)
        u = np.clip(raw, lowered.box.lower, lowered.box.upper)
        slope = linear + curvature * raw
        certificate = _certified(lowered, found, u, slope, tol)
        total = cost(program, u).total
        better = best is None or certificate.worst < best.solution.certificate.worst
        lowers = total < value - 1e-14 * abs(value)
        if better:
            status = Status.FEASIBLE if certificate.feasible() else Status.INACCURATE
            status = Status.OPTIMAL if certificate.passes() else status
            graded = replace(
                found, certificate=certificate, objective=certificate.objective, status=status, iterations=round_ + 1
            )
            best = ThreeHalves(graded, slope)
        assert best is not None
        if best.solution.certificate.passes(0.01 * tol) or (best.solution.status.ok and not (better and newton)):
            break
        if newton and not (lowers or better):
            newton = False  # a Newton step that helps nobody: back to the step that cannot rise
            continue
        # Newton from the second round on: the first one, from a guess, is the one that could jump too far.
        value, v, newton = min(value, total), u, True
    assert best is not None
    return _ended(best, attempts, started, best.solution.status)


def _ended(best: ThreeHalves, attempts: tuple[Attempt, ...], started: float, status: Status) -> ThreeHalves:
    took = time.monotonic() - started
    return ThreeHalves(replace(best.solution, attempts=attempts, solve_s=took, status=status), best.slope)
