"""Why there is no solution, in the user's own words: who conflicts with whom, or along what the cost falls forever."""

from __future__ import annotations

import numpy as np

from crosswind.solvers.elastic import elastic
from crosswind.solvers.errors import CrosswindError
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.solution import Proof, Solution, Status

__all__ = ["explain", "ray_text"]


def explain(program: QuadraticProgram | ConeProgram, solution: Solution) -> str:
    """Return why ``solution`` of ``program`` is what it is, with the names of rows and variables.

    Parameters
    ----------
    program, solution
        A program and what :func:`crosswind.solvers.solve.solve` said of it.

    Returns
    -------
    str
        For INFEASIBLE the conflict and the smallest relaxation; for UNBOUNDED the variables of the ray; else the
        status's own text.
    """
    if solution.status is Status.INFEASIBLE:
        try:
            return elastic(program).summary()
        except CrosswindError as err:  # the proof stands; only its translation into amounts failed
            return f"{solution.status.text} (the relaxation failed: {err})"
    if solution.status is Status.UNBOUNDED and solution.proof is not None:
        return ray_text(program, solution.proof)
    return solution.status.text


def ray_text(program: QuadraticProgram | ConeProgram, proof: Proof, most: int = 6) -> str:
    """Return one sentence that names the variables of a verified direction of endless descent, the largest first."""
    names = program.var_names or tuple(f"variable {j}" for j in range(program.n))
    d = proof.direction
    order = [j for j in np.argsort(-np.abs(d), kind="stable") if abs(d[j]) > 1e-6]
    parts = [f"{'raising' if d[j] > 0 else 'lowering'} {names[j]} by {abs(d[j]):.4g}" for j in order[:most]]
    more = f" and {len(order) - most} more" if len(order) > most else ""
    cheaper = ", ".join(f"{names[j]} ({program.q[j]:.4g} a unit)" for j in order[:most] if program.q[j] * d[j] < 0.0)
    return (
        f"the cost falls by {proof.margin:.4g} with every step of {', '.join(parts)}{more}, and no limit is ever met; "
        f"bound these variables or add the missing cost (paid for by {cheaper})"
    )
