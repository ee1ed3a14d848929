"""One solved fit: what came out, how far it can be from optimal, and the call that makes it.

Two ways lead there. The structured one (`crosswind.solvers.gram`) works on the matrices themselves and proves its own
bound; the general one lowers the fit to a `ConeProgram` for any backend, repairs its iterate and bounds it through the
backend's dual. ``solver="auto"`` takes the first, and goes on to the second where it does not certify; what was tried
is kept in ``attempts``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.bound import lower_bound
from crosswind.problems.impact.program import FitProblem, LoweredFit, lower
from crosswind.problems.impact.repair import Repair, repair
from crosswind.solvers.errors import SolverFailure
from crosswind.solvers.solution import Attempt, Certificate

if TYPE_CHECKING:
    from crosswind.solvers.gram import GramConeFit, GramConeSolution
    from crosswind.solvers.solution import Solution

__all__ = ["Fitted", "fit_problem", "gram_cone_fit"]

_REACHABLE = 1e-8
_ACCEPTED = 1e-5  # an iterate that its solver gave up on is kept when our own bound proves this much
_GENERAL = 40  # names up to which the general cone program is worth trying where the structured solver gave up
_ITERATIONS = 3000
_CLOSER, _ROUNDING = 1e-5, 1e-14


@dataclass(frozen=True, eq=False)
class Fitted:
    """One solved fit.

    Parameters
    ----------
    problem
        The fit in scaled coordinates.
    repair
        The exactly feasible matrices and what they cost.
    certificate
        Our certificate of these matrices, with the backend's dual or with the multipliers of the structured bound.
        The latter are feasible by construction: their residual is zero, and the gap says it all.
    lower_bound
        Objective that no feasible fit can undercut; −inf where none follows for all of them.
    solution
        What the solver returned, graded by us: a `GramConeSolution` of the structured way, else a `Solution`.
    attempts
        Who was asked, in order, and how it ended.
    lowered
        The cone program of the general way; None in the structured way.
    """

    problem: FitProblem
    repair: Repair
    certificate: Certificate
    lower_bound: float
    solution: Solution | GramConeSolution
    attempts: tuple[Attempt, ...] = ()
    lowered: LoweredFit | None = None
    gram: GramConeFit | None = None

    @property
    def matrices(self) -> NDArray[np.float64]:
        """K' (M, N, N), exactly feasible."""
        return self.repair.matrices

    @property
    def structured(self) -> bool:
        """Whether the structured solver's answer is the one in hand."""
        return self.lowered is None

    @property
    def suboptimality(self) -> float:
        """How far the returned matrices can be from optimal, relative to 1 + |objective|.

        Objective less `lower_bound`; where that is −inf (singular moments without ridge) the certificate's gap stands
        in, which is as good as the dual iterate is feasible, or, in the structured way, holds for all matrices within
        a thousand times the trace of these: ``rigorous`` tells.
        """
        value = self.repair.objective_after
        distance = value - self.lower_bound if self.rigorous else self.certificate.gap
        return max(0.0, distance) / (1.0 + abs(value))

    @property
    def rigorous(self) -> bool:
        """Whether the suboptimality is proven by the lower bound."""
        return bool(np.isfinite(self.lower_bound))


def gram_cone_fit(problem: FitProblem) -> GramConeFit:
    """Return the same numbers as the structured solver takes them."""
    from crosswind.solvers.gram import GramConeFit

    return GramConeFit(
        problem.S,
        problem.B,
        problem.weights,
        problem.floor,
        problem.corr_bound,
        problem.ridge,
        problem.l1,
        problem.pool,
        problem.target,
    )


def fit_problem(
    problem: FitProblem, solver: str | tuple[str, ...] = "auto", tol: float = 1e-8, warm: Fitted | None = None
) -> Fitted:
    """Solve and certify one fit.

    Parameters
    ----------
    problem
        The fit in scaled coordinates.
    solver
        "auto": the structured solver, then, up to 40 names and only where it does not certify, the cone program by the
        registry's own chain; the better of the two by proven distance is returned. "gram": the structured solver
        alone. Anything else goes to `crosswind.solvers.solve` with the cone program.
    tol
        Asked distance from the optimum, relative to 1 + |objective|. Where a backend fails at a tolerance below 1e-8,
        it is asked again for 1e-8; ``solution.settings`` and the certificate say what was reached.
    warm
        A fit of the same names and shapes to start from (structured way); of the same moments: with the same
        factorisations, as along a grid of penalties.

    Raises
    ------
    SolverFailure
        No solver gave a usable iterate, or one that our own bound does not prove good; the message says what to do.
    """
    if solver == "gram":
        return _accepted(_structured(problem, tol, warm), tol)
    if solver != "auto":
        return _general(problem, solver, tol)
    first = _structured(problem, tol, warm)
    if first.solution.status.ok or problem.names > _GENERAL:
        return _accepted(first, tol)
    try:
        second = _general(problem, solver, tol)
    except SolverFailure:
        return _accepted(first, tol)
    attempts = (*first.attempts, *second.attempts)
    better = second if second.suboptimality < first.suboptimality else first
    return replace(better, attempts=attempts)


def _accepted(fitted: Fitted, tol: float) -> Fitted:
    """Return ``fitted`` where our bound proves it good enough."""
    if fitted.solution.status.ok or fitted.suboptimality <= max(_ACCEPTED, 100.0 * tol):
        return fitted
    raise SolverFailure(
        "the impact fit is not accurate enough to use",
        field="solver",
        value=f"{fitted.solution.status.name}, suboptimality {fitted.suboptimality:.1e}",
        remedy="loosen tol, or add a ridge: the moments may be close to singular",
    )


def _structured(problem: FitProblem, tol: float, warm: Fitted | None) -> Fitted:
    from crosswind.solvers.gram import solve_gram

    same = (
        warm is not None
        and warm.gram is not None
        and all(getattr(warm.problem, name) is getattr(problem, name) for name in ("S", "B", "weights", "target"))
        and warm.problem.corr_bound == problem.corr_bound
        and np.array_equal(warm.problem.floor, problem.floor)
    )
    if same:
        assert warm is not None
        assert warm.gram is not None
        gram = warm.gram.with_penalties(problem.ridge, problem.l1, problem.pool)
    else:
        gram = gram_cone_fit(problem)
    state = None
    if warm is not None and warm.gram is not None and warm.problem.target.shape == problem.target.shape:
        state = warm.solution.state
    solved = solve_gram(gram, tol, max_iter=_ITERATIONS, warm=state)
    if solved.status.ok and problem.names <= _GENERAL:
        # A gap of ε leaves √ε in the matrices. For a few names it costs milliseconds to bring them closer as well.
        more = solve_gram(gram, max(_CLOSER * tol, _ROUNDING), max_iter=solved.iterations + 50, warm=solved)
        if more.gap <= solved.gap:
            steps, spent = solved.iterations + more.iterations, solved.seconds + more.seconds
            solved = replace(more, status=solved.status, tol=tol, iterations=steps, seconds=spent)
    value, worst = solved.objective, solved.violations.worst
    gap = solved.gap_abs
    certificate = Certificate(
        primal=worst * max(1.0, float(np.abs(solved.matrices).max())),
        dual=0.0,
        gap=gap,
        primal_rel=worst,
        dual_rel=0.0,
        gap_rel=solved.gap,
        tolerance=tol,
        objective=value,
        lower_bound=solved.lower_bound if solved.rigorous else -np.inf,
        lower_bound_within=solved.lower_bound,
        excess=gap,
        excess_rel=solved.gap,
    )
    attempt = Attempt("gram", f"gap {solved.gap:.1e}", solved.status, solved.seconds, claim="solved")
    return Fitted(
        problem,
        Repair(solved.matrices, "on its face", value, value),
        certificate,
        certificate.lower_bound,
        solved,
        (attempt,),
        gram=gram,
    )


def _general(problem: FitProblem, solver: str | tuple[str, ...], tol: float) -> Fitted:
    """Lower, solve, repair and certify."""
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
    bound = lower_bound(problem, lowered, solution.y)
    return _accepted(Fitted(problem, fixed, certificate, bound, solution, solution.attempts, lowered), tol)
