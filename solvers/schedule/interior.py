"""Dense-block interior point: high accuracy at small and middle sizes, limits on the change of trades included.

Mehrotra's predictor and corrector (1992) on the program with slacks; the systems are in `interior_newton`. The answer
is graded by the room's own bound like any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from crosswind.solvers.schedule.admm import metric
from crosswind.solvers.schedule.certificate import Bounder, SchedulePrices, gap
from crosswind.solvers.schedule.interior_model import build
from crosswind.solvers.schedule.interior_steps import Iteration, Point
from crosswind.solvers.schedule.interior_warm import state_of, warm_point
from crosswind.solvers.schedule.problem import Array, FactorSchedule
from crosswind.solvers.schedule.restore import FEASIBLE, Restorer, group_order
from crosswind.solvers.schedule.solution import (
    FactorScheduleSolution,
    ScheduleProgress,
    ScheduleState,
    check_state,
)
from crosswind.solvers.solution import Status
from crosswind.solvers.threads import one_blas_thread

__all__ = ["solve_interior"]

_AIM = 1.0  # of tol, the complementarity at which the bound is asked
_SHARPER = 0.05  # of that, where the bound was not good enough
_FLOOR = 1e-16  # of the cost: complementarity that rounding makes meaningless
_SHORT = 1e-3  # a step no longer than that got nowhere
_STALL = 12  # of them in a row, and the iteration is given up
_PATIENCE = 25  # iterations without any gain
_KEPT = 1e-10  # largest miss of a limit, in its unit, at which trades are looked at
_RELAXED = 1e-10  # of its unit that each limit is moved on a second attempt
_PROOF = 8  # iterations after which a proof of infeasibility is looked for


def solve_interior(
    problem: FactorSchedule,
    tol: float = 1e-8,
    time_limit: float | None = None,
    max_iter: int = 200,
    progress: Callable[[ScheduleProgress], Any] | None = None,
    warm: FactorScheduleSolution | ScheduleState | None = None,
) -> FactorScheduleSolution:
    """Minimise the cost of a schedule by an interior point over dense blocks.

    Parameters
    ----------
    problem
        The problem.
    tol
        Largest gap that counts as OPTIMAL: objective − lower bound, relative to `FactorSchedule.scale`.
    time_limit, max_iter
        Seconds and iterations after which the iterate is made feasible, graded and returned.
    progress
        Called with each certified moment, in order.
    warm
        Solution or state of a problem of the same shape, of either method.

    Returns
    -------
    FactorScheduleSolution
        OPTIMAL; TIME_LIMIT or ITERATION_LIMIT; INFEASIBLE with prices that prove it; INACCURATE where feasible trades
        could not be brought to the gap, NUMERICAL where none were found.

    Raises
    ------
    InvalidInput
        On a warm start of another shape or that is not finite.

    Notes
    -----
    Memory is 8 N T² bytes for each of three arrays; an iteration costs N T³ + N T² p² + (p T)³ operations at the most,
    p the loadings of impact, risk and bands, of which those that matter are kept.
    """
    with one_blas_thread():
        return _Solve(problem, tol, time_limit, max_iter, progress, warm).run()


class _Solve:
    """One run: best feasible trades, best bound."""

    def __init__(
        self,
        problem: FactorSchedule,
        tol: float,
        time_limit: float | None,
        max_iter: int,
        progress: Callable[[ScheduleProgress], Any] | None,
        warm: FactorScheduleSolution | ScheduleState | None,
    ) -> None:
        self.begun = time.perf_counter()
        self.start, self.changes = (
            (warm.state, warm.prices.change) if isinstance(warm, FactorScheduleSolution) else (warm, None)
        )
        if self.start is not None:
            check_state(problem, self.start)
        self.problem, self.tol, self.time_limit, self.max_iter = problem, tol, time_limit, max_iter
        self.progress = progress
        self.bounder = Bounder(problem)
        self.model = build(problem)
        self.u: Array | None = None
        self.last = self.model.start
        self.objective, self.lower, self.gap = np.inf, -np.inf, np.inf
        self.prices: SchedulePrices | None = None
        self.priced = self.model.start
        self.history: list[ScheduleProgress] = []
        self.done = 0

    def run(self) -> FactorScheduleSolution:
        status = None if self.start is None else self._attempt(0.0, self.start)
        if status is None:
            status = self._attempt(0.0)
        if status is None:
            # A feasible set without inner points has no path of centres; a wider one by less than what counts has.
            status = self._attempt(_RELAXED)
        if status is None:
            status = Status.INACCURATE if self.u is not None else Status.NUMERICAL
        return self._result(status)

    def _attempt(self, relaxed: float, start: ScheduleState | None = None) -> Status | None:
        """Iterate from a start; None where the iteration got stuck."""
        iteration = Iteration(self.model, self.tol, relaxed)
        at = iteration.begin() if start is None else warm_point(iteration, start, self.changes)
        missed = iteration.residuals(at)
        aim, short, best, since = _AIM * self.tol, 0, np.inf, 0
        while True:
            scale = self.problem.scale(at.x[0]) / self.model.scale
            iteration.accuracy = self.tol * scale
            with np.errstate(over="ignore"):
                off = (missed.gap + missed.slope) / scale
            late = self.time_limit is not None and time.perf_counter() - self.begun >= self.time_limit
            last = self.done >= self.max_iter
            near = off <= aim and missed.reach <= _KEPT
            merit = off + missed.reach
            best, since = (merit, 0) if merit < 0.9 * best else (best, since + 1)
            stuck = short >= _STALL or since >= _PATIENCE or not np.isfinite(merit)
            if near or late or last or stuck:
                if np.isfinite(merit) and self._look(iteration, at) <= self.tol:
                    return Status.OPTIMAL
                if late or last:
                    return Status.TIME_LIMIT if late else Status.ITERATION_LIMIT
                if stuck or aim <= _FLOOR:
                    return None
                aim = max(min(aim, off) * _SHARPER, _FLOOR)
            if self.done >= _PROOF and missed.reach > _KEPT and self._proved(iteration, at):
                return Status.INFEASIBLE
            try:
                at, length = iteration.step(at, missed)
            except np.linalg.LinAlgError:
                return Status.OPTIMAL if self._look(iteration, at) <= self.tol else None
            short = short + 1 if length < _SHORT else 0
            missed = iteration.residuals(at)
            self.done += 1

    def _multipliers(self, iteration: Iteration, at: Point) -> SchedulePrices:
        """Return the multipliers as prices of the limits, in the problem's unit."""
        parts = iteration.rows.apart(at.z * self.model.scale)
        change = parts[-4] - parts[-5] if iteration.rows.changes else None
        return self.bounder.prices(parts[-1], parts[-2] - parts[-3], -at.nu * self.model.scale, change)

    def _proved(self, iteration: Iteration, at: Point) -> bool:
        prices = self._multipliers(iteration, at)
        with np.errstate(over="ignore"):  # a side at infinity makes a proof that is none
            if not self.bounder.proves_infeasible(prices):
                return False
        self.prices, self.last = prices, at.x[0]
        return True

    def _look(self, iteration: Iteration, at: Point) -> float:
        """Make the trades feasible, bound the cost by the multipliers, keep what is best."""
        p = self.problem
        self.last = at.x[0]
        u = self._restored(at.x[0])
        if u is not None:
            value = p.objective(u)
            if value < self.objective or self.u is None:
                self.u, self.objective = u, value
        bound, prices = self.bounder.best(at.x[0], self._multipliers(iteration, at))
        if bound > self.lower or self.prices is None:
            self.lower, self.prices, self.priced = bound, prices, at.x[0]
        if self.u is not None:
            self.gap = gap(p, self.u, self.lower, self.objective)
        moment = ScheduleProgress(self.done, time.perf_counter() - self.begun, self.objective, self.lower, self.gap)
        self.history.append(moment)
        if self.progress is not None:
            self.progress(moment)
        return self.gap

    def _restored(self, u: Array) -> Array | None:
        p = self.problem
        clipped = np.clip(u, p.lower, p.upper)
        if p.violations(clipped).worst <= FEASIBLE:
            return clipped
        order, first = group_order(p)
        restorer = Restorer(p.take(order), first, np.take(1.0 / metric(p), order, axis=1))
        found = restorer.restored(np.take(u, order, axis=1))
        return None if found is None else np.take(found, np.argsort(order), axis=1)

    def _result(self, status: Status) -> FactorScheduleSolution:
        p = self.problem
        u = np.clip(self.last, p.lower, p.upper) if self.u is None else self.u
        u.setflags(write=False)
        prices = self.prices
        if prices is None:
            prices = self.bounder.prices(np.zeros(p.group_caps.shape), np.zeros(p.band_lower.shape))
        elif np.isfinite(self.lower) and status is not Status.INFEASIBLE:
            prices = self.bounder.with_boxes(self.priced, prices)
        objective = p.objective(u)
        state = state_of(self.bounder, u, prices) if self.u is not None else None
        return FactorScheduleSolution(
            u,
            objective,
            min(self.lower, objective) if self.u is not None else self.lower,
            self.gap,
            status,
            self.tol,
            self.done,
            time.perf_counter() - self.begun,
            prices,
            state,
            tuple(self.history),
            p.violations(u),
            "interior",
        )
