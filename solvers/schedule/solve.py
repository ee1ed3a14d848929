"""The solve: iterate, certify, stop on the proven gap and on nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.schedule.admm import Iteration
from crosswind.solvers.schedule.certificate import Bounder, SchedulePrices
from crosswind.solvers.schedule.problem import Array, FactorSchedule
from crosswind.solvers.schedule.restore import Restorer, group_order
from crosswind.solvers.schedule.solution import (
    FactorScheduleSolution,
    ScheduleProgress,
    ScheduleState,
    check_state,
)
from crosswind.solvers.solution import Status
from crosswind.solvers.threads import one_blas_thread

__all__ = ["solve_schedule"]

_FIRST = 10  # iterations of a cold start before the first certificate
_WAIT = 20  # iterations between two certificates at most, or a third of those done
_ADAPT = (12, 24, 36, 48, 60)  # iterations at which weights may change; from the last on, each time that many
_PROOF = 40  # iterations without feasible trades after which a proof of infeasibility is looked for


def solve_schedule(
    problem: FactorSchedule,
    tol: float = 1e-4,
    time_limit: float | None = None,
    max_iter: int = 2000,
    warm: FactorScheduleSolution | ScheduleState | None = None,
    progress: Callable[[ScheduleProgress], Any] | None = None,
    method: str = "admm",
) -> FactorScheduleSolution:
    """Minimise the cost of a schedule to a proven gap.

    Parameters
    ----------
    problem
        The problem.
    tol
        Largest gap that counts as OPTIMAL, in (0, 1): objective − lower bound, relative to the sum of the cost's
        absolute parts (`FactorSchedule.scale`).
    time_limit
        Seconds after which the best certified iterate is returned, whatever its gap.
    max_iter
        Iterations after which it is.
    warm
        Solution or state of a problem of the same shape; `ScheduleState.shifted` drops slices that were traded.
    progress
        Called with each certified moment, in order.
    method
        "admm": a splitting whose linear step costs O(T N p) and no dense block; for any size. "interior": dense blocks
        of slices and factors; for small and middle sizes, prices to many digits, and for limits on the change of
        trades, which the splitting does not take.

    Returns
    -------
    FactorScheduleSolution
        Trades that keep every limit, graded by a bound of our own; OPTIMAL, TIME_LIMIT or ITERATION_LIMIT, INFEASIBLE
        with the prices that prove it. The same problem and options give the same bits: nothing but the time limit
        depends on the clock, and BLAS is held to one thread.

    Raises
    ------
    InvalidInput
        On a tolerance, limit, method or warm start that makes no sense, on a limit that the method does not take.

    Notes
    -----
    Method in `admm` and `coupling`, bound in `certificate`, feasible trades in `restore`.
    """
    if not 0.0 < tol < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="tol", value=tol, remedy="for example 1e-4")
    if time_limit is not None and not time_limit > 0.0:
        raise InvalidInput("must be > 0", field="time_limit", value=time_limit, remedy="None is no limit")
    if not 1 <= max_iter < math.inf:
        raise InvalidInput("must be ≥ 1 and finite", field="max_iter", value=max_iter, remedy="2000 is usual")
    if method not in ("admm", "interior"):
        raise InvalidInput("is unknown", field="method", value=method, remedy="'admm' or 'interior'")
    begin = warm.state if isinstance(warm, FactorScheduleSolution) else warm
    with one_blas_thread():
        if method == "interior":
            from crosswind.solvers.schedule.interior import solve_interior

            return solve_interior(problem, tol, time_limit, max_iter, progress, warm)
        if problem.change is not None and np.isfinite(problem.change).any():
            raise InvalidInput(
                "limits on the change of trades do not fit the recursions of this method",
                field="change",
                value="finite entries",
                remedy='method="interior"',
            )
        if begin is not None:
            check_state(problem, begin)
        return _Solve(problem, tol, time_limit, int(max_iter), progress, begin).run()


class _Solve:
    """One run: best feasible trades, best bound, and when to look next."""

    def __init__(
        self,
        problem: FactorSchedule,
        tol: float,
        time_limit: float | None,
        max_iter: int,
        progress: Callable[[ScheduleProgress], Any] | None,
        begin: ScheduleState | None,
    ) -> None:
        self.begun = time.perf_counter()
        self.tol, self.time_limit, self.max_iter, self.progress = tol, time_limit, max_iter, progress
        self.order, first = group_order(problem)
        ordered = bool(np.array_equal(self.order, np.arange(problem.names)))
        self.original, self.problem = problem, problem if ordered else problem.take(self.order)
        if begin is not None:
            taken = {name: getattr(begin, name)[..., self.order] for name in ("trades", "cells", "completion")}
            begin = replace(begin, **taken)
        self.iteration = Iteration(self.problem, first, begin)
        self.bounder = Bounder(self.problem)
        self.restorer = Restorer(self.problem, first, 1.0 / self.iteration.diag)
        self.u: Array | None = None
        self.objective, self.scale, self.lower = np.inf, 1.0, -np.inf
        self.prices = self.bounder.prices(*self.iteration.prices())
        self.completion = np.zeros(problem.names) if begin is None else np.array(begin.completion)
        self.proved = False
        self.history: list[ScheduleProgress] = []
        self.next = self.latest = 3 if begin is not None else _FIRST
        self.promise = np.inf
        self.adapt = 0

    def run(self) -> FactorScheduleSolution:
        while True:
            self.iteration.smooth()
            self.iteration.limit()
            done = self.iteration.done
            last = done >= self.max_iter
            late = self.time_limit is not None and time.perf_counter() - self.begun >= self.time_limit
            if self._due(done) or last or late:
                if self._look() <= self.tol:
                    return self._result(Status.OPTIMAL)
                if self.proved:
                    return self._result(Status.INFEASIBLE)
                if late or last:
                    return self._result(Status.TIME_LIMIT if late else Status.ITERATION_LIMIT)
            if done >= _ADAPT[min(self.adapt, len(_ADAPT) - 1)] * max(1, self.adapt - len(_ADAPT) + 2):
                self.adapt += 1
                self.iteration.adapt()

    def _due(self, done: int) -> bool:
        """Tell whether it is time to certify, which costs as much as several iterations."""
        return done >= self.latest or (done >= self.next and self.iteration.residual <= self.promise)

    def _gap(self) -> float:
        if not (np.isfinite(self.lower) and np.isfinite(self.objective)):
            return np.inf
        return max(self.objective - self.lower, 0.0) / self.scale

    def _look(self) -> float:
        """Certify the state, keep what is best, and decide when to look again."""
        it = self.iteration
        u = self.restorer.restored(it.z, it.u.sum(axis=0))
        if u is not None:
            parts = self.problem.parts(u)
            value = sum(parts.values())
            if value < self.objective:
                self.u, self.objective = u, value
                self.scale = max(sum(abs(part) for part in parts.values()), np.finfo(np.float64).tiny)
                self.restorer.best = u
        prices = self.bounder.prices(*it.prices(), self.completion)
        gradient = self.problem.gradient(it.u)
        bound, prices = self.bounder.best(it.u, prices, gradient)
        self.completion = prices.completion
        if bound > self.lower:
            self.lower, self.prices, self.priced = bound, prices, (it.u.copy(), gradient)
        if self.u is None and (it.done >= _PROOF or self.bounder.empty):
            self.proved = self.bounder.proves_infeasible(prices)
        gap = self._gap()
        done = it.done
        # The gap falls with the squared residuals: look again when they promise the tolerance.
        self.promise = it.residual * (0.7 * self.tol / gap if self.tol < gap < np.inf else 0.1)
        self.next, self.latest = done + 3, done + max(_WAIT, done // 3)
        moment = ScheduleProgress(done, time.perf_counter() - self.begun, self.objective, self.lower, gap)
        self.history.append(moment)
        if self.progress is not None:
            self.progress(moment)
        return gap

    def _result(self, status: Status) -> FactorScheduleSolution:
        it, back = self.iteration, np.argsort(self.order)
        prices = self.prices
        if np.isfinite(self.lower):
            prices = self.bounder.with_boxes(self.priced[0], prices, self.priced[1])
        prices = SchedulePrices(
            prices.groups,
            prices.bands,
            prices.completion[back],
            None,
            None if prices.box is None else np.take(prices.box, back, axis=1),
        )
        state = it.state()
        state = replace(
            state,
            trades=np.take(state.trades, back, axis=1),
            cells=np.take(state.cells, back, axis=1),
            completion=self.completion[back],
        )
        u = np.take(it.z if self.u is None else self.u, back, axis=1)
        u.setflags(write=False)
        objective = self.original.objective(u)
        lower = min(self.lower, objective) if self.u is not None else self.lower
        if status is Status.INFEASIBLE:
            lower = np.inf
        gap = self._gap() if self.u is not None else np.inf
        return FactorScheduleSolution(
            u,
            objective,
            lower,
            gap,
            status,
            self.tol,
            it.done,
            time.perf_counter() - self.begun,
            prices,
            state,
            tuple(self.history),
            self.original.violations(u),
        )
