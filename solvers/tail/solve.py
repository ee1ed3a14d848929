"""Solve a tail program by its structure; where that gets stuck, by the general cone path, and say so."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.solution import Attempt, Status
from crosswind.solvers.tail.grade import KEPT, graded
from crosswind.solvers.tail.interior import Folded, Point, begin, residuals, step
from crosswind.solvers.tail.problem import Array, TailProgram
from crosswind.solvers.tail.solution import TailSolution
from crosswind.solvers.threads import one_blas_thread

__all__ = ["solve_tail"]

_STALL = 8  # steps shorter than _SHORT in a row, and the iteration is given up
_SHORT = 1e-4
_IDLE = 12  # graded iterations in a row that did not halve the gap


def solve_tail(
    program: TailProgram,
    tol: float = 1e-8,
    max_iter: int = 100,
    warm: Array | TailSolution | None = None,
    fallback: str | tuple[str, ...] | None = ("clarabel",),
) -> TailSolution:
    """Minimise a tail program.

    Parameters
    ----------
    program
        The program.
    tol
        Largest relative gap that counts as OPTIMAL.
    max_iter
        Iterations after which the best point is graded and returned. Time never decides: the same program gives the
        same bits.
    warm
        Solution, or x (n,), of a near program of the same shape.
    fallback
        Backends for the cone program of :mod:`crosswind.solvers.tail.lowering` where the structured iteration got
        stuck; None: never.

    Returns
    -------
    TailSolution
        OPTIMAL, INACCURATE, ITERATION_LIMIT, INFEASIBLE (with a proof by a backend) or NUMERICAL.

    Raises
    ------
    InvalidInput
        On a warm start of another shape or that is not finite, a tolerance outside (0, 1), an iteration count < 1.
    """
    if not 0.0 < tol < 1.0:
        raise InvalidInput("is outside (0, 1)", field="tol", value=tol, remedy="1e-8 is usual")
    if max_iter < 1:
        raise InvalidInput("is below 1", field="max_iter", value=max_iter, remedy="100 is plenty")
    x0 = warm.x if isinstance(warm, TailSolution) else warm
    if x0 is not None:
        x0 = np.asarray(x0, dtype=np.float64)
        if x0.shape != (program.n,) or not np.isfinite(x0).all():
            raise InvalidInput(
                "does not suit the program", field="warm", value=x0.shape, remedy=f"give {program.n} finite numbers"
            )
    with one_blas_thread():
        result = _interior(program, tol, max_iter, x0)
        if result.status.ok or fallback is None:
            return result
        from crosswind.solvers.tail.lowering import solve_lowered_tail

        return solve_lowered_tail(program, tol, fallback, result)


def _interior(program: TailProgram, tol: float, max_iter: int, x0: Array | None) -> TailSolution:
    begun = time.perf_counter()
    folded = Folded(program)
    at = begin(folded, x0)
    best: TailSolution | None = None
    short = done = idle = 0
    note = ""
    with np.errstate(all="ignore"):
        while True:
            r = residuals(folded, at)
            if not np.isfinite(r.mean):
                note = "the iterate is not finite"
                break
            scale = 1.0 + abs(float(folded.weight @ r.cost))
            if (r.mean * folded.pairs <= 10.0 * tol * scale and r.reach <= 1e-7) or done >= max_iter:
                found = _grade(program, folded, at, tol, done, begun)
                idle += 1
                if best is None or _key(found) < _key(best):
                    idle = 0 if best is None or found.gap < 0.5 * best.gap or best.violation > KEPT else idle
                    best = found
                if found.status.ok:
                    return found
            if done >= max_iter or idle >= _IDLE:
                note = "iteration limit" if done >= max_iter else "no digit more in a dozen iterations"
                break
            try:
                at, length = step(folded, at, r)
            except np.linalg.LinAlgError:
                note = "the Newton matrix lost its rank"
                break
            done += 1
            short = short + 1 if length < _SHORT else 0
            if short >= _STALL:
                note = "steps became too short"
                break
        if best is None:
            best = _grade(program, folded, at, tol, done, begun)
    status = best.status
    if not status.ok and done >= max_iter:
        status = Status.ITERATION_LIMIT
    attempt = Attempt("interior", note or "stuck", status, best.seconds, note)
    return replace(best, status=status, attempts=(attempt,))


def _key(found: TailSolution) -> tuple[bool, float]:
    return (found.violation > KEPT, found.gap if found.violation <= KEPT else found.violation)


def _grade(program: TailProgram, folded: Folded, at: Point, tol: float, done: int, begun: float) -> TailSolution:
    x = np.maximum(at.x, 0.0) * folded.x_unit
    price = folded.c_unit / folded.x_unit
    nu, y = at.nu * price, at.y * price
    weights = np.zeros(program.scenarios)
    if folded.risk:
        weights[folded.tail] = at.w / folded.risk
    elif program.risk:
        weights = program.caps / program.caps.sum()
    return graded(program, x, weights, nu, y, tol, done, begun, "interior")
