"""Solve a multistage program: lower, hand to a solver, map back, or explain why there is no solution."""

from __future__ import annotations

from typing import Any

from crosswind.optim.checks import FloatArray
from crosswind.optim.lowered import Lowered
from crosswind.optim.lowering import lower
from crosswind.optim.polish import polish
from crosswind.optim.program import MultistageProgram
from crosswind.optim.scaling import Scaling
from crosswind.optim.solution import MultistageSolution, unpack
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.solution import Solution, Status

__all__ = ["solve_lowered", "solve_multistage"]

_SMALL = 20_000  # stored entries of a program that is always sharpened
_LARGE = 50_000  # stored entries above which "auto" starts with Clarabel
_HUGE = 300_000  # stored entries of a program that is never sharpened
_STATIONARY = 1e-7
_NEARLY = 1e-5  # an iterate that misses the tolerance by little may still have the right active set


def solve_multistage(
    program: MultistageProgram,
    solver: str | tuple[str, ...] = "auto",
    tol: float = 1e-8,
    *,
    scaling: Scaling | None = None,
    sharpen: bool = True,
    **settings: Any,
) -> MultistageSolution:
    """Solve ``program`` and return trades, cost split, marginal costs and limit prices.

    Parameters
    ----------
    program
        The program.
    solver
        Backend name, chain of names, or "auto": PIQP then Clarabel, on large programs the other way round; the calls
        are recorded in ``solution.attempts``.
    tol
        Tolerance of the certificate of the lowered, scaled QP.
    scaling
        Sizes to use; default :func:`crosswind.optim.scaling.choose_scaling`.
    sharpen
        Whether to solve for the exact corner of the active set afterwards (:mod:`crosswind.optim.polish`), which the
        stationarity of 1e-6 at kinks needs.
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
    return solve_lowered(lowered, solver, tol, sharpen=sharpen, **settings)


def solve_lowered(
    lowered: Lowered,
    solver: str | tuple[str, ...] = "auto",
    tol: float = 1e-8,
    *,
    sharpen: bool = True,
    **settings: Any,
) -> MultistageSolution:
    """Solve an already lowered program; see :func:`solve_multistage`."""
    from crosswind.solvers.solve import solve

    entries = lowered.qp.P.nnz + lowered.qp.A.nnz
    if solver == "auto" and entries > _LARGE:
        # Measured: on programs with dense impact blocks Clarabel's factorisation is the faster one by a factor of two.
        solver = ("clarabel", "piqp")
    if lowered.program.three_halves.any():
        from crosswind.optim.three_halves import solve_three_halves

        power = solve_three_halves(lowered, solver, tol, sharpen=sharpen, size_limit=_LARGE, **settings)
        return finish(lowered, power.solution, power.slope)
    solution = solve(lowered.qp, solver=solver, tol=tol, **settings)
    result = finish(lowered, solution)
    if not (sharpen and (solution.status.ok or solution.certificate.passes(_NEARLY))):
        return result
    # The corner costs milliseconds on small programs; on large ones it is worth its factorisations only where it shows.
    small = entries <= _SMALL
    if not small and (result.stationarity_rel <= _STATIONARY or entries > _HUGE):
        return result
    sharper = polish(lowered.qp, solution, rounds=6 if small else 2)
    if sharper is solution:
        return result
    candidate = finish(lowered, sharper)
    return candidate if candidate.stationarity_rel < result.stationarity_rel else result


def finish(lowered: Lowered, solution: Solution, power_slope: FloatArray | None = None) -> MultistageSolution:
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
    return unpack(lowered, solution, power_slope)
