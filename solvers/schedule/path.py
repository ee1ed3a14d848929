"""Many schedules of one basket: λ along a frontier, scenarios, revised forecasts."""

from __future__ import annotations

from collections.abc import Iterable

from crosswind.solvers.schedule.problem import FactorSchedule
from crosswind.solvers.schedule.solution import FactorScheduleSolution, ScheduleState
from crosswind.solvers.schedule.solve import solve_schedule

__all__ = ["schedule_path"]


def schedule_path(
    problems: Iterable[FactorSchedule],
    tol: float = 1e-4,
    time_limit: float | None = None,
    max_iter: int = 2000,
    warm: FactorScheduleSolution | ScheduleState | None = None,
    method: str = "admm",
) -> list[FactorScheduleSolution]:
    """Solve each problem from the answer to the one before; each is graded by its own bound, whatever its start.

    Parameters
    ----------
    problems
        In an order in which neighbours are alike; taken one at a time, so that a generator keeps memory to one. Where
        the shape changes, the solve starts cold.
    tol, time_limit, max_iter, warm, method
        See `solve_schedule`; the limits are for each, ``warm`` is for the first.

    Returns
    -------
    list
        One solution for each problem, in order. The same problems in the same order give the same bits.
    """
    out: list[FactorScheduleSolution] = []
    start: FactorScheduleSolution | ScheduleState | None = warm
    for problem in problems:
        if isinstance(start, FactorScheduleSolution) and start.u.shape != problem.eta.shape:
            start = None
        out.append(solve_schedule(problem, tol, time_limit, max_iter, start, method=method))
        start = out[-1] if out[-1].status.usable else None
    return out
