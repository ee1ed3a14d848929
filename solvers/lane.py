"""The short way of a session: the vectors straight to the backend, the iterate straight to the check.

It holds for a quadratic program whose backend offers a :class:`Stream`, whose bounds keep their pattern and whose data
keep their size; everything else, and every iterate that does not pass at once, goes the long way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Claim, Options, Prepared, Program, Raw, Stream, WarmStart
from crosswind.solvers.certify import certify
from crosswind.solvers.certify_fast import FastCheck
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.solution import Attempt, Solution, Status

__all__ = ["Answered", "Lane"]


class Answered(Prepared):
    """A set-up that has solved already: the long way grades what the short one found and could not pass."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw

    def fits(self, program: Program) -> bool:
        """Never: it holds one answer."""
        return False

    def update(self, program: Program) -> None:
        """Refuse."""
        raise NotImplementedError("an answer takes no update")

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        """Return the answer."""
        return self.raw


@dataclass(frozen=True, eq=False)
class _Late:
    """What a light Solution still owes, and the data to compute it from; the vectors are never written to again."""

    program: QuadraticProgram
    q: Vector
    lo: Vector
    hi: Vector
    w: Vector
    options: Options

    def fields(self, known: dict[str, Any]) -> dict[str, Any]:
        m, tol = self.program.m, self.options.tol
        y, z = self.w[:m], self.w[m:]
        program = self.program.with_vectors(q=self.q, l=self.lo[:m], u=self.hi[:m], lb=self.lo[m:], ub=self.hi[m:])
        certificate = certify(program, known["x"], y, z, tol=tol)
        seconds = known["setup_s"] + known["solve_s"]
        attempt = Attempt(known["backend"], known["backend_status"], known["status"], seconds, claim=Claim.SOLVED.value)
        return {
            "y": y,
            "z": z,
            "certificate": certificate,
            "objective": certificate.objective,
            "attempts": (attempt,),
            "settings": {"tol": tol, "time_limit": self.options.time_limit} | self.options.settings,
            "s": np.zeros(0),
        }


class Lane:
    """A stream of one backend with the check of its iterates.

    Parameters
    ----------
    name
        The backend's.
    program, options
        What it was set up with.
    prepared
        The set-up.
    stream
        Its short way.
    """

    def __init__(
        self, name: str, program: QuadraticProgram, options: Options, prepared: Prepared, stream: Stream
    ) -> None:
        self.name, self.options, self.prepared, self.stream = name, options, prepared, stream
        self.check = check = FastCheck(program, options.tol)
        m = program.m
        self.m = m
        stream.push(check.q, (check.lo[:m], check.hi[:m]), (check.lo[m:], check.hi[m:]))
        self.pushed = (check.q, check.lo, check.hi)
        self.names = program.var_names

    def take(self, q: object, rows: tuple[object, object], boxes: tuple[object, object]) -> bool:
        """Take over new vectors; False, and nothing changed, when they need the long way."""
        self.boxes_moved = boxes[0] is not None or boxes[1] is not None or self.boxes_moved
        return self.check.take(q, rows, boxes)

    boxes_moved = False

    def solve(self) -> tuple[Solution | None, Raw]:
        """Return a light OPTIMAL solution or ``None``, and what the backend found."""
        begin = time.perf_counter()
        check, m, (q, lo, _) = self.check, self.m, self.pushed
        new = check.q if check.q is not q else None
        if check.lo is not lo:
            boxes = (check.lo[m:], check.hi[m:]) if self.boxes_moved else None
            self.stream.push(new, (check.lo[:m], check.hi[:m]), boxes)
        elif new is not None:
            self.stream.push(new, None, None)
        self.boxes_moved = False
        self.pushed = (check.q, check.lo, check.hi)
        between = time.perf_counter()
        solved, word, x, w, iterations = self.stream.run()
        end = time.perf_counter()
        claim = Claim.SOLVED if solved else Claim.FAILED
        if not solved or not check.passes(x, w):
            return None, Raw(claim, word, x, w[:m], w[m:], iterations=iterations)
        out: Solution = object.__new__(Solution)
        out.__dict__.update(
            x=x,
            status=Status.OPTIMAL,
            backend=self.name,
            backend_status=word,
            setup_s=between - begin,
            solve_s=end - between,
            iterations=iterations,
            var_names=self.names,
            _late=_Late(check.program, check.q, check.lo, check.hi, w, self.options),
        )
        return out, _NOTHING


_NOTHING = Raw(Claim.FAILED, "", np.zeros(0), np.zeros(0), np.zeros(0))
