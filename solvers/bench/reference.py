"""The answers that streams are judged by: solved by a chain of our choice, brought to rounding by Newton steps."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from crosswind.solvers.backends.base import Program
from crosswind.solvers.bounds import polished
from crosswind.solvers.certify import certify
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.session import Session
from crosswind.solvers.solution import Certificate, Solution, Status
from crosswind.solvers.solve import solve

__all__ = ["Held", "Reference", "references"]

_CHAIN = ("piqp", "clarabel")
_ROUNDING = 1e-13
_PROVEN = 1e-12
_ROUNDS = 5


class Reference(NamedTuple):
    """The best point known of a program, its objective, and how far from proven it is.

    ``worst`` is the largest of the certificate's relative dual residual, gap and excess, and of its missed limits over
    the largest variable; no absolute floor excuses anything. NaN and ∞ where nothing passed our certificate.
    """

    x: Vector
    objective: float
    worst: float


class Held:
    """Solve the programs of a stream one after the other; the set-up is kept while they share matrices."""

    def __init__(self, tol: float, *, verify: bool) -> None:
        self.tol, self.verify = tol, verify
        self._session: Session | None = None
        self._shared: tuple[object, object] = (None, None)

    def solve(self, program: QuadraticProgram) -> Solution:
        """Return what the chain finds to ``tol``."""
        if self._session is None or program.P is not self._shared[0] or program.A is not self._shared[1]:
            self._session = Session(program, _CHAIN, tol=self.tol, verify=self.verify)
            self._shared = (program.P, program.A)
        return self._session.update(
            q=program.q, l=program.l, u=program.u, lb=program.lb, ub=program.ub, constant=program.constant
        ).solve()


@lru_cache(maxsize=2)
def references(programs: tuple[Program, ...]) -> tuple[Reference, ...]:
    """Return the reference of each program of a stream: to 1e-9 by PIQP or Clarabel, then Newton steps.

    The steps are on the limits that are active, those that the step before missed added; the best point is kept, by our
    certificate. On programs whose active limits can be told apart that is the optimum up to rounding. Where 1e-9 is not
    reached, Clarabel's answer to 1e-6 stands.
    """
    held = Held(1e-9, verify=True)
    return tuple(
        _sharp(program, held.solve(program)) if isinstance(program, QuadraticProgram) else _plain(program, 1e-9)
        for program in programs
    )


def _sharp(program: QuadraticProgram, found: Solution) -> Reference:
    if found.status is not Status.OPTIMAL:
        return _plain(program, 1e-6)
    best = _known(found.x, certify(program, found.x, found.y, found.z, tol=_ROUNDING))
    point = (found.x, found.y, found.z)
    for _ in range(_ROUNDS):
        step = polished(program, *point)
        if step is None:
            break
        known = _known(step[0], certify(program, *step, tol=_ROUNDING))
        best = known if known.worst <= best.worst else best
        if best.worst <= _PROVEN:
            break
        point = _with_missed(program, *step)
    return best


def _with_missed(program: QuadraticProgram, x: Vector, y: Vector, z: Vector) -> tuple[Vector, Vector, Vector]:
    """Return the point with multipliers that make the limits it misses active in the next step."""
    out = []
    for value, low, high, multiplier in ((program.A @ x, program.l, program.u, y), (x, program.lb, program.ub, z)):
        top = float(np.max(np.abs(multiplier), initial=0.0)) or 1.0
        slack = _ROUNDING * np.maximum(np.abs(value), 1.0)
        over, under = value - high > slack, low - value > slack
        idle = multiplier == 0.0
        out.append(np.where(idle & over, top, np.where(idle & under, -top, multiplier)))
    return x, out[0], out[1]


def _known(x: Vector, found: Certificate) -> Reference:
    missed = found.primal / (float(np.max(np.abs(x), initial=0.0)) or 1.0)
    return Reference(x, found.objective, max(missed, found.dual_rel, found.gap_rel, found.excess_rel))


def _plain(program: Program, tol: float) -> Reference:
    found = solve(program, "clarabel", tol=tol)
    if found.status is not Status.OPTIMAL and tol < 1e-6:
        return _plain(program, 1e-6)
    if found.status is not Status.OPTIMAL:
        return Reference(np.full(program.n, np.nan), float("nan"), float("inf"))
    return _known(found.x, found.certificate)
