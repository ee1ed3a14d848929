"""Solve a multistage program: lower, hand to a solver, map back; infeasible programs are explained in the user's names."""

from __future__ import annotations

from typing import Any

from crosswind.optim.lowering import Lowered, lower
from crosswind.optim.program import MultistageProgram
from crosswind.optim.scaling import Scaling
from crosswind.optim.solution import MultistageSolution, unpack
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.solution import Solution, Status

__all__ = ["solve_lowered", "solve_multistage"]


def solve_multistage(
    program: MultistageProgram,
    solver: str | tuple[str, ...] = "auto",
    tol: float = 1e-8,
    *,
    scaling: Scaling | None = None,
    **settings: Any,
) -> MultistageSolution:
    """Solve ``program`` and return trades, cost split, marginal costs and limit prices.

    Parameters
    ----------
    program
        The program.
    solver
        Backend name, chain of names, or "auto".
    tol
        Tolerance of the certificate of the lowered, scaled QP.
    scaling
        Sizes to use; default :func:`crosswind.optim.scaling.choose_scaling`.
    **settings
        Passed on to :func:`crosswind.solvers.solve.solve` (``time_limit``, ``warm_start``, backend settings).

    Returns
    -------
    MultistageSolution
        Its ``solution.status`` says how good it is.

    Raises
    ------
    InvalidInput
        Unknown solver or bad settings.
    InfeasibleProblem
        The limits contradict each other; the message names them and the smallest relaxation.
    SolverFailure
        No backend returned a usable iterate.
    """
    lowered = lower(program, scaling)
    return solve_lowered(lowered, solver, tol, **settings)


def solve_lowered(
    lowered: Lowered, solver: str | tuple[str, ...] = "auto", tol: float = 1e-8, **settings: Any
) -> MultistageSolution:
    """Solve an already lowered program; see :func:`solve_multistage`."""
    from crosswind.solvers.solve import solve

    solution = solve(lowered.qp, solver=solver, tol=tol, **settings)
    return finish(lowered, solution)


def finish(lowered: Lowered, solution: Solution) -> MultistageSolution:
    """Map a solver's result back, or raise what its status means."""
    status = solution.status
    if status is Status.INFEASIBLE:
        from crosswind.optim.infeasible import explain

        raise explain(lowered, solution)
    if not status.usable:
        raise SolverFailure(
            f"{status.name}: {status.text}",
            field="solver",
            value=solution.backend,
            remedy="give the position a price (terminal weight, risk or a band) if the cost is unbounded; "
            "else rescale the data or try another solver",
        )
    return unpack(lowered, solution)
