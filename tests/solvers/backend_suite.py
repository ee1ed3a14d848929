"""Two hundred seeded quadratic programs of known optimum, half of them degenerate, that every backend is run on.

The tests get at this module through the fixture ``backend_suite`` of the folder's conftest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from crosswind.solvers import Certificate, QuadraticProgram, Status, certify, solve
from crosswind.solvers.backends.base import Backend, Claim, Options, Raw, guarded
from crosswind.solvers.bench.families import DEGENERATE, REGULAR, family_programs
from crosswind.solvers.registry import backend

INF = np.inf


@dataclass(frozen=True, eq=False)
class Case:
    """A program with its optimal value and the size of the cost terms that may cancel in it."""

    name: str
    program: QuadraticProgram
    objective: float
    scale: float

    def disagreement(self, value: float) -> float:
        """Return |value − optimum| relative to the larger of the optimum and the cost's own terms."""
        return abs(value - self.objective) / self.scale


@dataclass
class Report:
    """What a backend did on a list of cases."""

    solver: str
    total: int = 0
    solved: int = 0
    worst_objective: float = 0.0
    disagreed: list[str] = field(default_factory=list)
    claimed_wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.solved / self.total

    def summary(self) -> str:
        """Return the figures and the names of what failed, for an assertion's message."""
        return (
            f"{self.solver}: {self.solved}/{self.total} solved, worst objective {self.worst_objective:.1e}, "
            f"{len(self.claimed_wrong)} claimed but wrong {self.claimed_wrong}, failed {self.failed}"
        )


@lru_cache(maxsize=2)
def cases(half: str) -> tuple[Case, ...]:
    """Return the hundred programs of ``half`` ("non-degenerate" or "degenerate") with their certified optima."""
    families = REGULAR if half == "non-degenerate" else DEGENERATE
    return tuple(_case(name, program) for name, program in family_programs(families))


def _case(name: str, program: QuadraticProgram) -> Case:
    if not program.q.any() and not program.P.count_nonzero():
        return Case(name, program, 0.0, 1.0)  # whatever is feasible is worth nothing
    # PIQP only steps in where Clarabel itself stops short of 1e-9; the certificate decides for both.
    sure = solve(program, ("clarabel", "piqp"), tol=1e-9)
    assert sure.status is Status.OPTIMAL, f"{name}: {sure.summary()}"
    x = sure.x
    terms = (abs(sure.objective), 0.5 * abs(float(x @ (program.P @ x))), abs(float(program.q @ x)))
    return Case(name, program, sure.objective, max(terms) or 1.0)


@lru_cache(maxsize=1)
def impossible() -> dict[str, tuple[QuadraticProgram, Status]]:
    """Return programs without a solution, with the status that a verified proof gives."""
    eye, one = np.eye(3), np.ones((1, 3))
    rng = np.random.default_rng(5)
    A = rng.normal(size=(4, 3))
    against = np.vstack((A, -A[0] - A[1]))
    return {
        "row against box": (QuadraticProgram(eye, np.zeros(3), one, 4.0, 4.0, 0.0, 1.0), Status.INFEASIBLE),
        "two equalities": (
            QuadraticProgram(eye, np.zeros(3), np.vstack((one, one)), [1.0, 2.0], [1.0, 2.0]),
            Status.INFEASIBLE,
        ),
        "three rows": (
            QuadraticProgram(eye, np.ones(3), against, -INF, [-1.0, -1.0, 5.0, 5.0, 1.0]),
            Status.INFEASIBLE,
        ),
        "linear, empty": (QuadraticProgram(None, np.ones(3), one, 4.0, INF, 0.0, 1.0), Status.INFEASIBLE),
        "linear, open": (QuadraticProgram(None, -np.ones(3), lb=0.0), Status.UNBOUNDED),
        "flat and open": (QuadraticProgram(np.diag([1.0, 1.0, 0.0]), -np.ones(3), one, 0.0, INF), Status.UNBOUNDED),
    }


# -- running a backend over them --------------------------------------------------------------------------------------


def run_raw(
    found: Backend, program: QuadraticProgram, tol: float = 1e-6, settings: dict[str, object] | None = None
) -> Raw:
    """Set up and solve once; an exception becomes a failed claim."""
    raw = guarded(lambda: found.prepare(program, Options(tol, None, settings or {})).solve(None, None))
    if isinstance(raw, Exception):
        nothing = np.full(program.n, np.nan)
        return Raw(Claim.FAILED, f"{type(raw).__name__}: {raw}", nothing, np.full(program.m, np.nan), nothing)
    return raw


def graded(program: QuadraticProgram, raw: Raw, tol: float = 1e-6) -> Certificate:
    return certify(program, raw.x, raw.y, raw.z, tol=tol)


def check_backend(solver: str | Backend, half: str, tol: float = 1e-6) -> Report:
    """Run one backend over one half; success is our certificate at ``tol``, the backend's word only counts as a claim.

    As in ``solve``, a backend that says "solved" where our certificate does not pass is asked once more, a thousand
    times tighter; the first word stays in ``claimed_wrong`` nevertheless. A claim that there is no solution is wrong
    too, since each program here has one.
    """
    found = backend(solver) if isinstance(solver, str) else solver
    report = Report(found.name)
    for case in cases(half):
        report.total += 1
        raw = run_raw(found, case.program, tol)
        certificate = graded(case.program, raw, tol)
        if raw.claim in (Claim.INFEASIBLE, Claim.UNBOUNDED) or (raw.claim is Claim.SOLVED and not certificate.passes()):
            report.claimed_wrong.append(f"{case.name}: {raw.word}, {certificate.summary()}")
        if raw.claim is Claim.SOLVED and not certificate.passes():
            raw = run_raw(found, case.program, 1e-3 * tol)
            certificate = graded(case.program, raw, tol)
        if certificate.passes():
            report.solved += 1
            off = case.disagreement(certificate.objective)
            report.worst_objective = max(report.worst_objective, off)
            if off > 1e-6:
                report.disagreed.append(f"{case.name}: {off:.1e}")
        else:
            report.failed.append(f"{case.name}: {raw.word}, {certificate.summary()}")
    return report
