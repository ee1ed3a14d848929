"""Our grade of a point and its multipliers, whoever found them."""

from __future__ import annotations

import time

import numpy as np

from crosswind.solvers.solution import Status
from crosswind.solvers.tail.certificate import lower_bound
from crosswind.solvers.tail.problem import Array, TailProgram
from crosswind.solvers.tail.solution import TailSolution

__all__ = ["KEPT", "graded"]

KEPT = 1e-9  # largest relative miss of a limit in an answer that counts as OPTIMAL


def graded(
    program: TailProgram,
    x: Array,
    weights: Array,
    nu: Array,
    y: Array,
    tol: float,
    done: int,
    begun: float,
    method: str,
) -> TailSolution:
    """Grade a point and its multipliers, whoever found them."""
    if not all(np.isfinite(part).all() for part in (x, weights, nu, y)):
        x, weights = np.zeros(program.n), program.caps / max(float(program.caps.sum()), 1.0)
        nu, y = np.zeros_like(program.equal_to), np.zeros_like(program.rows_to)
        status = Status.NUMERICAL
    else:
        status = Status.INACCURATE
    bound = lower_bound(program, x, weights, nu, y)
    costs = program.costs(x)
    objective = program.objective(x)
    parts = float(program.probabilities @ np.abs(costs - program.constant) + np.abs(program.base) @ x)
    if program.risk:
        parts += program.risk * float(np.abs(costs).max())
    missed = float(np.abs(nu) @ np.abs(program.equal @ x - program.equal_to))
    missed += float(bound.rows @ np.maximum(program.rows @ x - program.rows_to, 0.0))
    gap = (abs(objective - bound.value) + missed) / max(parts, 1e-300)
    violation = program.violation(x)
    if status is Status.INACCURATE and gap <= tol and violation <= KEPT:
        status = Status.OPTIMAL
    for part in (x, costs):
        part.setflags(write=False)
    return TailSolution(
        x,
        objective,
        bound.value,
        gap,
        violation,
        status,
        costs,
        bound.weights,
        bound.equal,
        bound.rows,
        bound.reduced,
        tol,
        done,
        time.perf_counter() - begun,
        method,
    )
