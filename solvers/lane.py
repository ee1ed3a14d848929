"""The short way of a session: the vectors straight to the backend, the iterate straight to the check.

It holds for a quadratic program whose backend offers a :class:`Stream`, whose bounds keep their pattern and whose data
keep their size; everything else, and every iterate that does not pass at once, goes the long way.
"""

from __future__ import annotations

import time
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


class _Late:
    """What a light Solution still owes, and the data to compute it from; the vectors are never written to again."""

    __slots__ = ("options", "program", "vectors", "w")

    def __init__(self, check: FastCheck, w: Vector, options: Options) -> None:
        self.program, self.w, self.options = check.program, w, options
        self.vectors = (check.q, check.l, check.u, check.lb, check.ub)

    def fields(self, known: dict[str, Any]) -> dict[str, Any]:
        m, tol = self.program.m, self.options.tol
        y, z = self.w[:m], self.w[m:]
        q, l, u, lb, ub = self.vectors  # noqa: E741
        program = self.program.with_vectors(q=q, l=l, u=u, lb=lb, ub=ub)
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
        stream.push(check.q, (check.l, check.u), (check.lb, check.ub))
        self._remember()
        self.names = program.var_names

    def _remember(self) -> None:
        check = self.check
        self.q, self.l, self.u, self.lb, self.ub = check.q, check.l, check.u, check.lb, check.ub

    def take(self, q: object, rows: tuple[object, object], boxes: tuple[object, object]) -> bool:
        """Take over new vectors; False, and nothing changed, when they need the long way."""
        return self.check.take(q, rows, boxes)

    def push(self) -> None:
        """Send what changed since the last time."""
        c = self.check
        q = c.q if c.q is not self.q else None
        rows = (c.l, c.u) if c.l is not self.l or c.u is not self.u else None
        boxes = (c.lb, c.ub) if c.lb is not self.lb or c.ub is not self.ub else None
        if q is not None or rows is not None or boxes is not None:
            self.stream.push(q, rows, boxes)
            self._remember()

    def solve(self) -> tuple[Solution | None, Raw]:
        """Return a light OPTIMAL solution or ``None``, and what the backend found."""
        begin = time.perf_counter()
        check, m = self.check, self.m
        self.push()
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
            _late=_Late(check, w, self.options),
        )
        return out, _NOTHING


_NOTHING = Raw(Claim.FAILED, "", np.zeros(0), np.zeros(0), np.zeros(0))
