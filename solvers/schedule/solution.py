"""What a schedule solve returns: feasible trades, a proven distance from the optimum, prices of limits, a restart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.schedule.certificate import SchedulePrices
from crosswind.solvers.schedule.precondition import Innovations
from crosswind.solvers.schedule.problem import Array, FactorSchedule, ScheduleViolations
from crosswind.solvers.solution import Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FactorScheduleSolution", "ScheduleProgress", "ScheduleState", "check_state"]


@dataclass(frozen=True)
class ScheduleProgress:
    """One certified moment of a solve.

    Attributes
    ----------
    iteration, seconds
        Iterations and wall time so far; the solver never acts on the time but for the time limit.
    objective, lower_bound
        Best feasible objective (∞ before there is one) and best bound so far.
    gap
        (objective − lower bound) relative to `FactorSchedule.scale`.
    """

    iteration: int
    seconds: float
    objective: float
    lower_bound: float
    gap: float


@dataclass(frozen=True, eq=False)
class ScheduleState:
    """Where a solve stood: hand it on as ``warm``.

    Attributes
    ----------
    trades
        (T, N).
    cells
        (T, N) multipliers of single cells: of boxes, |u| and caps together.
    groups, bands
        (T, G) prices of caps, (T, b) signed prices of bands.
    completion
        (N,) prices of the ends.
    weight, band_boost
        Weights of the splitting.
    preconditioner
        Used again where the sizes suit; None in a pickle.
    """

    trades: Array
    cells: Array
    groups: Array
    bands: Array
    completion: Array
    weight: float
    band_boost: float
    preconditioner: Innovations | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"preconditioner": None}

    def shifted(self, slices: int = 1) -> ScheduleState:
        """Return the state of what is left to do after the first ``slices`` were traded.

        It suits the problem of the T − slices slices that remain, with ``start`` and ``impact_state`` brought forward.
        """
        if not 0 < slices < len(self.trades):
            raise InvalidInput("must leave a slice", field="slices", value=slices, remedy=f"1 … {len(self.trades) - 1}")
        rows = {name: getattr(self, name)[slices:] for name in ("trades", "cells", "groups", "bands")}
        held = None if self.preconditioner is None else self.preconditioner.shifted(slices)
        return replace(self, **rows, preconditioner=held)


@dataclass(frozen=True, eq=False)
class FactorScheduleSolution:
    """The result of :func:`crosswind.solvers.schedule.solve_schedule`.

    Attributes
    ----------
    u
        (T, N) trades that keep every limit within 1e-9 of its size, but where ``violations`` says otherwise: no
        feasible point was found then, and ``gap`` is ∞.
    objective, lower_bound
        Cost of ``u``, and a number that no feasible trades can undercut; ∞ where there are none.
    gap
        Their distance relative to `FactorSchedule.scale` at ``u``, the sum of the cost's absolute parts.
    status
        OPTIMAL exactly when ``gap`` ≤ ``tol``; INFEASIBLE only with prices that prove it.
    tol, iterations, seconds
        As asked; as spent.
    prices
        Multipliers behind the bound, per limit; behind the proof where INFEASIBLE.
    state
        For a warm start.
    history
        The certified moments in order.
    violations
        Of ``u``, measured at the end.
    method
        "admm" or "interior".
    """

    u: Array
    objective: float
    lower_bound: float
    gap: float
    status: Status
    tol: float
    iterations: int
    seconds: float
    prices: SchedulePrices
    state: ScheduleState | None
    history: tuple[ScheduleProgress, ...]
    violations: ScheduleViolations
    method: str = "admm"

    @property
    def gap_abs(self) -> float:
        """Objective less lower bound, ≥ 0 up to rounding."""
        return max(0.0, self.objective - self.lower_bound)

    def summary(self) -> str:
        """Return a few lines: status and what to do, objective and bound, work, feasibility."""
        return "\n".join(
            [
                f"{self.status.name}: {self.status.text}",
                f"objective {self.objective:.10g}, no feasible trades below {self.lower_bound:.10g}",
                f"gap {self.gap:.1e} of the sum of costs, asked {self.tol:.0e}",
                f"{self.iterations} iterations of {self.method} in {1e3 * self.seconds:.1f} ms, "
                f"worst violation {self.violations.worst:.1e}",
            ]
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the history: one row per certified moment, columns as `ScheduleProgress`."""
        import pandas as pd

        names = ("iteration", "seconds", "objective", "lower_bound", "gap")
        rows = [[getattr(moment, name) for name in names] for moment in self.history]
        return pd.DataFrame(rows, columns=list(names)).set_index("iteration")


def check_state(problem: FactorSchedule, state: ScheduleState) -> None:
    """Refuse a start of another shape, or one that the iterations could not leave."""
    T, N = problem.eta.shape
    G, b = problem.group_caps.shape[1], problem.band_vectors.shape[1]
    wanted = {"trades": (T, N), "cells": (T, N), "groups": (T, G), "bands": (T, b), "completion": (N,)}
    for name, shape in wanted.items():
        value = getattr(state, name)
        if np.shape(value) != shape:
            raise InvalidInput(
                "comes from a problem of another shape",
                field=f"warm.{name}",
                value=np.shape(value),
                remedy=f"needs {shape}; shifted() drops slices that were traded",
            )
        if not np.isfinite(value).all():
            raise InvalidInput(
                "is not finite", field=f"warm.{name}", value="NaN or inf", remedy="start cold: warm=None"
            )
    for name in ("weight", "band_boost"):
        if not 0.0 < getattr(state, name) < np.inf:
            raise InvalidInput(
                "must be > 0", field=f"warm.{name}", value=getattr(state, name), remedy="start cold: warm=None"
            )
