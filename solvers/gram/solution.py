"""What a structured solve returns: exactly feasible matrices, a proven distance from the optimum, prices, a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.gram.certificate import Certifier, Multipliers
from crosswind.solvers.gram.problem import Array, Violations
from crosswind.solvers.solution import Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GramConeSolution", "GramProgress", "GramState"]


@dataclass(frozen=True)
class GramProgress:
    """One certified moment of a solve.

    Attributes
    ----------
    iteration, seconds
        Iterations and wall time so far; the solver never acts on the time but for the time limit.
    objective, lower_bound
        Best feasible objective and best bound so far.
    gap
        (objective − lower bound)/(1 + |objective|).
    dtype
        Precision of the iterations; certificates are always float64.
    """

    iteration: int
    seconds: float
    objective: float
    lower_bound: float
    gap: float
    dtype: str


@dataclass(frozen=True, eq=False)
class GramState:
    """Where the iterations stood: hand it on as ``warm``.

    Attributes
    ----------
    copies
        (2, M, N, N) sums of copies and scaled multipliers.
    tau
        The two penalties of the splitting.
    penalties
        ridge, l1 and pool of the problem that was solved.
    certifier
        Factorisations of the moments, used again for the same S; None in a pickle.
    """

    copies: Array
    tau: tuple[float, float]
    penalties: tuple[float, float, float]
    certifier: Certifier | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"copies": self.copies, "tau": self.tau, "penalties": self.penalties, "certifier": None}


@dataclass(frozen=True, eq=False)
class GramConeSolution:
    """The result of :func:`crosswind.solvers.gram.solve.solve_gram`.

    Attributes
    ----------
    matrices
        K (M, N, N): symmetric, PSD (smallest eigenvalue ≥ −1e-12 of the largest), floor and correlation bound kept.
    objective, lower_bound
        Objective at ``matrices``, and a number that no feasible point can undercut.
    rigorous
        False where the bound only covers points within a thousand times the trace of ``matrices``: S is singular in a
        direction that no penalty curves.
    status
        OPTIMAL exactly when ``gap`` ≤ ``tol``.
    tol, iterations, seconds
        As asked; as spent.
    prices
        Multipliers of PSD, correlation bound and floor behind the bound.
    state
        For a warm start.
    history
        The certified moments in order.
    violations
        Of ``matrices``, measured at the end.
    """

    matrices: Array
    objective: float
    lower_bound: float
    rigorous: bool
    status: Status
    tol: float
    iterations: int
    seconds: float
    prices: Multipliers
    state: GramState
    history: tuple[GramProgress, ...]
    violations: Violations

    @property
    def gap_abs(self) -> float:
        """Objective less lower bound, ≥ 0 up to rounding."""
        return max(0.0, self.objective - self.lower_bound)

    @property
    def gap(self) -> float:
        """``gap_abs`` relative to 1 + |objective|; +∞ where there is no bound."""
        return self.gap_abs / (1.0 + abs(self.objective)) if np.isfinite(self.lower_bound) else float("inf")

    def summary(self) -> str:
        """Return a few lines: status and what to do, objective and bound, work, feasibility."""
        scope = "everywhere" if self.rigorous else "within a thousand times the trace of the matrices"
        return "\n".join(
            [
                f"{self.status.name}: {self.status.text}",
                f"objective {self.objective:.10g}, no feasible point below {self.lower_bound:.10g} {scope}",
                f"gap {self.gap:.1e} of 1 + |objective|, asked {self.tol:.0e}",
                f"{self.iterations} iterations in {1e3 * self.seconds:.1f} ms, "
                f"worst violation {self.violations.worst:.1e}",
            ]
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the history: one row per certified moment, columns as `GramProgress`."""
        import pandas as pd

        names = ("iteration", "seconds", "objective", "lower_bound", "gap", "dtype")
        rows = [[getattr(moment, name) for name in names] for moment in self.history]
        return pd.DataFrame(rows, columns=list(names)).set_index("iteration")
