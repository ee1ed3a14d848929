"""One solved fit: what came out, how far it can be from optimal, and the call that makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crosswind.problems.impact.bound import lower_bound
from crosswind.problems.impact.program import FitProblem, LoweredFit, lower
from crosswind.problems.impact.repair import Repair, repair
from crosswind.solvers.errors import SolverFailure

if TYPE_CHECKING:
    from crosswind.solvers.solution import Certificate, Solution

__all__ = ["Fitted", "fit_problem"]

_REACHABLE = 1e-8
_ACCEPTED = 1e-5  # an iterate that its backend gave up on is kept when our own bound proves this much


@dataclass(frozen=True, eq=False)
class Fitted:
    """One solved fit.

    Parameters
    ----------
    problem, lowered
        The fit in scaled coordinates and the cone program it became.
    solution
        What the backend returned, graded by us.
    repair
        The exactly feasible matrices and what they cost.
    certificate
        Our certificate of the repaired matrices with the backend's dual.
    lower_bound
        Objective that no feasible fit can undercut, see `crosswind.problems.impact.bound`.
    """

    problem: FitProblem
    lowered: LoweredFit
    solution: Solution
    repair: Repair
    certificate: Certificate
    lower_bound: float

    @property
    def suboptimality(self) -> float:
        """How far the returned matrices can be from optimal, relative to 1 + |objective|.

        Objective less `lower_bound`; where that is −inf (singular moments without ridge) the certificate's duality
        gap stands in, which is as good as the dual iterate is feasible: ``rigorous`` tells.
        """
        value = self.repair.objective_after
        distance = value - self.lower_bound if self.rigorous else self.certificate.gap
        return max(0.0, distance) / (1.0 + abs(value))

    @property
    def rigorous(self) -> bool:
        """Whether the suboptimality is proven by the lower bound."""
        return bool(np.isfinite(self.lower_bound))


def fit_problem(problem: FitProblem, solver: str | tuple[str, ...] = "auto", tol: float = 1e-8) -> Fitted:
    """Lower, solve, repair and certify one fit.

    Where the backend fails at a tolerance below 1e-8, it is asked again for 1e-8; ``solution.settings`` and the
    certificate say what was reached.

    Raises
    ------
    SolverFailure
        The backend gave no usable iterate, or one that our own bound does not prove good; the message says what to do.
    """
    from crosswind.solvers.certify import certify
    from crosswind.solvers.solve import solve

    lowered = lower(problem)
    solution = solve(lowered.program, solver=solver, tol=tol)
    if not solution.status.ok and tol < _REACHABLE:
        # Asked for more than float64 gives, an interior point method may stop early and far worse than it can.
        again = solve(lowered.program, solver=solver, tol=_REACHABLE)
        solution = again if again.status.ok else solution
    if not solution.status.usable:
        raise SolverFailure(
            "the impact fit was not solved",
            field="solver",
            value=f"{solution.backend}: {solution.backend_status} ({solution.status.name})",
            remedy=solution.status.text,
        )
    fixed = repair(problem, lowered.matrices(solution.x))
    x = lowered.vector(fixed.matrices)
    certificate = certify(lowered.program, x, solution.y, tol=tol)
    fitted = Fitted(problem, lowered, solution, fixed, certificate, lower_bound(problem, lowered, solution.y))
    if not solution.status.ok and not fitted.suboptimality <= max(_ACCEPTED, 100.0 * tol):
        raise SolverFailure(
            "the impact fit is not accurate enough to use",
            field="solver",
            value=f"{solution.status.name}, suboptimality {fitted.suboptimality:.1e}",
            remedy="loosen tol, or add a ridge: the moments may be close to singular",
        )
    return fitted
