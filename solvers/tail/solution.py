"""What a tail solve returns: a point, a proven distance from the optimum, prices of the limits, a restart."""

from __future__ import annotations

from dataclasses import dataclass

from crosswind.solvers.solution import Attempt, Status
from crosswind.solvers.tail.certificate import TailBound
from crosswind.solvers.tail.problem import Array

__all__ = ["TailSolution"]


@dataclass(frozen=True, eq=False)
class TailSolution:
    """The result of :func:`crosswind.solvers.tail.solve_tail`.

    Attributes
    ----------
    x
        (n,), ≥ 0.
    objective, lower_bound
        Objective at ``x``, and a number that no feasible point can undercut.
    gap
        Their distance relative to the sum of the objective's absolute parts, with what the missed limits are worth.
    violation
        Largest miss of a limit, relative to the largest bound.
    status
        OPTIMAL exactly when ``gap`` ≤ ``tol`` and ``violation`` ≤ 1e-9; INFEASIBLE only with a proof.
    costs, weights
        c_s(x) (S,), and the tail's weights (S,) that sum to 1 (zeros without risk).
    equal_prices, row_prices
        Multipliers of E x = e (J,): what one more unit of e costs; of G x ≤ h (R,) ≥ 0: what one more unit of h saves.
    reduced
        (n,) reduced costs.
    tol, iterations, seconds
        As asked; as spent.
    method
        "interior", or the backend's name after a fallback.
    attempts
        Every method that was tried, in order.
    """

    x: Array
    objective: float
    lower_bound: float
    gap: float
    violation: float
    status: Status
    costs: Array
    weights: Array
    equal_prices: Array
    row_prices: Array
    reduced: Array
    tol: float
    iterations: int
    seconds: float
    method: str
    attempts: tuple[Attempt, ...] = ()

    @property
    def bound(self) -> TailBound:
        """The multipliers behind the lower bound."""
        return TailBound(self.lower_bound, self.weights, self.equal_prices, self.row_prices, self.reduced)

    def summary(self) -> str:
        """Return a few lines: status and what to do, objective and bound, work."""
        lines = [
            f"{self.status.name}: {self.status.text}",
            f"objective {self.objective:.10g}, no feasible point below {self.lower_bound:.10g}",
            f"gap {self.gap:.1e} of the sum of the costs' parts, asked {self.tol:.0e}; worst violation "
            f"{self.violation:.1e}",
            f"{self.iterations} iterations of {self.method} in {1e3 * self.seconds:.1f} ms",
        ]
        return "\n".join([*lines, *(f"  {a.backend}: {a.status.name} {a.note}".rstrip() for a in self.attempts)])
