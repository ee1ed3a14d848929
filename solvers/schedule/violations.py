"""How far trades are outside of the limits of a schedule, each relative to its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from crosswind.solvers.schedule.problem import FactorSchedule

__all__ = ["ScheduleViolations", "measured"]

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class ScheduleViolations:
    """How far trades are outside of each kind of limit; zero where all of them hold.

    Attributes
    ----------
    box
        Largest excess over a box, relative to the larger of the bound and the name's size.
    completion
        Largest |q_T − target| where it is hard, relative to the name's size.
    groups
        Largest excess over a cap, relative to the larger of the cap and the size of the group's names.
    bands
        Largest excess over a band, relative to the larger of its edge and the gross exposure Σ|V_i||q_0i|.
    change
        Largest excess over a limit on the change, relative to the larger of the limit and the name's size.
    """

    box: float = 0.0
    completion: float = 0.0
    groups: float = 0.0
    bands: float = 0.0
    change: float = 0.0

    @property
    def worst(self) -> float:
        """The largest of the five."""
        return max(self.box, self.completion, self.groups, self.bands, self.change)


def measured(problem: FactorSchedule, u: NDArray[np.float64]) -> ScheduleViolations:
    """Measure trades u (T, N) against every limit; NaN trades are infinitely far."""
    if not np.isfinite(u).all():
        return ScheduleViolations(np.inf, np.inf, np.inf, np.inf, np.inf)
    size = problem.name_size

    def over(excess: NDArray[np.float64], edge: ArrayLike, unit: NDArray[np.float64]) -> float:
        if not excess.size or float(excess.max()) <= 0.0:
            return 0.0
        edge = np.asarray(edge, dtype=np.float64)
        unit = np.maximum(np.where(np.isfinite(edge), np.abs(edge), 0.0), unit)
        return float(np.max(np.maximum(excess, 0.0) / np.maximum(unit, _TINY), initial=0.0))

    q, hard = problem.remaining(u), problem.hard
    box = max(over(u - problem.upper, problem.upper, size), over(problem.lower - u, problem.lower, size))
    end = over(np.abs(q[-1] - problem.target)[hard], 0.0, size[hard])
    members = np.zeros(problem.group_caps.shape[1])
    np.add.at(members, problem.groups[problem.groups >= 0], size[problem.groups >= 0])
    caps = over(problem.group_sums(u) - problem.group_caps, problem.group_caps, members)
    exposure, gross = q @ problem.band_vectors, size @ np.abs(problem.band_vectors)
    bands = max(
        over(exposure - problem.band_upper, problem.band_upper, gross),
        over(problem.band_lower - exposure, problem.band_lower, gross),
    )
    change = 0.0
    if problem.change is not None:
        before = np.full(problem.names, np.nan) if problem.previous is None else problem.previous
        step = np.abs(u - np.vstack([before, u[:-1]]))
        change = over(np.nan_to_num(step) - problem.change, problem.change, size)
    return ScheduleViolations(box, end, caps, bands, change)
