"""A program set up once and solved many times with new vectors: the receding horizon's way to call a backend."""

from __future__ import annotations

import os
import threading
from typing import Any

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, WarmStart, guarded
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.lane import Answered, Lane
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.registry import chain_of
from crosswind.solvers.solution import Solution
from crosswind.solvers.solve import TIGHTER, check_request, run_chain, warm_point

__all__ = ["Session"]

_TWICE = 2
_SHARP_FOR = 256


class Session:
    """Hold a program in its backends, change its vectors, solve again.

    Parameters
    ----------
    program
        The first program; its matrices stay for the life of the session.
    solver, tol, time_limit, verify, **settings
        As for :func:`crosswind.solvers.solve.solve`. Convexity is checked once.

    Raises
    ------
    InvalidInput
        As :func:`crosswind.solvers.solve.solve` does.

    Notes
    -----
    A set-up is renewed without being asked when new vectors change which bounds are finite or equal, or the size of the
    data by more than a thousand, and after any answer without a usable iterate, so that one failure never spoils the
    next solve. A lock makes a session safe to share between threads (calls run one after the other); it pickles without
    the backend's state and sets up again where it is restored, and so it does in a fork.

    While vectors keep the pattern and size of their data, calls take a short way (:mod:`crosswind.solvers.lane`) that
    adds some microseconds to the backend's own time. The certificate that decides is the same; a Solution's own is
    computed when it is looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from crosswind.solvers.program import QuadraticProgram
    >>> session = Session(QuadraticProgram(np.eye(2), [0.0, 0.0], [[1.0, 1.0]], 1.0, 1.0))
    >>> session.update(q=[-1.0, 1.0]).solve().x.round(6).tolist()
    [1.5, -0.5]
    """

    def __init__(
        self,
        program: Program,
        solver: str | tuple[str, ...] = "auto",
        tol: float = 1e-6,
        time_limit: float | None = None,
        verify: bool = True,
        **settings: Any,
    ) -> None:
        check_request(program, tol, time_limit)
        if verify:
            program.require_convex()
        self.chain = chain_of(solver, program, time_limit)
        self.options = Options(tol, time_limit, settings)
        self.last: Solution | None = None
        self.setups = 0
        self._program: Program = program
        self._given: WarmStart | None = None
        self._reset()

    def _reset(self) -> None:
        """Forget every set-up: it belongs to no process, or to another one."""
        self._ready: dict[tuple[str, float], Prepared] = {}  # by backend and the tolerance it was set up for
        self._sharp: dict[str, int] = {}  # how long a backend has been, and will be, asked for more than we need
        self._lane: Lane | None = None
        self._stale = False  # the program is behind the lane's vectors
        self._held: Answered | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def _alone(self) -> None:
        """Set up again in a fork: the solver's memory may have been copied in the middle of a solve, its lock held."""
        if self._pid != os.getpid():
            lane, stale = self._lane, self._stale
            if lane is not None and stale:
                self._program = lane.check.current()
            self._reset()

    @property
    def program(self) -> Program:
        """The program with its present vectors."""
        if self._stale and self._lane is not None:
            self._program, self._stale = self._lane.check.current(), False
        return self._program

    def update(
        self,
        q: object = None,
        l: object = None,  # noqa: E741
        u: object = None,
        lb: object = None,
        ub: object = None,
        b: object = None,
        constant: float | None = None,
    ) -> Session:
        """Replace vectors (``b`` for cones, the bounds for quadratic programs) and return self.

        Raises
        ------
        InvalidInput
            On NaN, wrong shapes or crossing bounds; the session then keeps its former vectors.
        """
        if self._pid != os.getpid():
            self._alone()
        with self._lock:
            lane = self._lane
            if lane is not None and b is None and constant is None and lane.take(q, (l, u), (lb, ub)):
                self._stale = True
                return self
            program = self.program
            if isinstance(program, ConeProgram):
                if any(part is not None for part in (l, u, lb, ub)):
                    raise _misfit("l, u, lb, ub", "a cone program has b instead")
                self._program = program.with_vectors(q=q, b=b, constant=constant)
            else:
                if b is not None:
                    raise _misfit("b", "a quadratic program has l, u, lb and ub instead")
                self._program = program.with_vectors(q=q, l=l, u=u, lb=lb, ub=ub, constant=constant)
            self._lane, self._stale = None, False  # its vectors are in the program that the new ones were merged into
        return self

    def warm(self, x: Any, y: Any, z: Any) -> Session:
        """Set the point (n,), (m,), (n,) the next warm solve starts from, such as the last shifted by a stage."""
        self._alone()
        with self._lock:
            self._given = warm_point(self.program, (x, y, z))
        return self

    def solve(self, warm: bool = True, time_limit: float | None = None) -> Solution:
        """Solve with the current vectors; ``warm`` starts from the last answer where the backend can.

        Parameters
        ----------
        warm
            False starts cold, from a fresh set-up.
        time_limit
            Seconds for this solve, in place of the session's.

        Returns
        -------
        Solution
            Graded as :func:`crosswind.solvers.solve.solve` grades it; ``setup_s`` is the time of the update.
        """
        if self._pid != os.getpid():
            self._alone()
        with self._lock:
            if self._lane is not None and warm and time_limit is None and self._given is None:
                found = self._short()
                if found is not None:
                    self.last = found
                    return found
            return self._long(warm, time_limit)

    def _short(self) -> Solution | None:
        lane = self._lane
        assert lane is not None
        answer = guarded(lane.solve)
        if isinstance(answer, Exception):
            self._leave_lane()
            self._ready.clear()  # what raised in the middle is not used again
            return None
        found, raw = answer
        if found is None:
            self._program = self.program
            self._held = Answered(raw) if raw.claim is Claim.SOLVED else None
        else:
            self._count(self.chain[0], enough=True)
        return found

    def _leave_lane(self) -> None:
        """Leave the short way, never without the vectors that it took over."""
        self._program = self.program
        self._lane = None

    def _count(self, name: str, enough: bool) -> None:
        """Decide for which tolerance a backend is asked next.

        Its own stopping rule may be content a decade before our certificate is. Where that happens twice in a row, its
        sharper set-up is asked first, which saves a failed solve; after a while the looser one gets another chance.
        """
        level = self._sharp.get(name, 0)
        if level > 0:  # sharp now, for this many solves more
            self._sharp[name] = level - 1
            if level == 1:
                self._leave_lane()
        elif enough:
            self._sharp[name] = 0
        else:
            self._sharp[name] = level - 1
            if level - 1 <= -_TWICE:
                self._sharp[name] = _SHARP_FOR
                self._leave_lane()

    def _long(self, warm: bool, time_limit: float | None) -> Solution:
        program = self.program
        check_request(program, self.options.tol, time_limit)
        options = self.options
        if time_limit is not None:
            options = Options(options.tol, time_limit, options.settings)
        start = None
        if not warm:
            # Operator splitting carries its iterate and step sizes over; cold means a fresh set-up.
            self._ready.clear()
            self._leave_lane()
        elif self._given is not None:
            start = self._given
        elif self.last is not None and self.last.status.usable:
            start = WarmStart(self.last.x, self.last.y, self.last.z)
        self._given = None
        try:
            found = run_chain(program, self.chain, options, start, self._prepared)
        finally:
            self._held = None
        first = self.chain[0]
        if not found.status.usable:
            self._ready.clear()
            self._leave_lane()
        elif found.status.ok and found.backend == first:
            self._count(first, enough=len(found.attempts) == 1)
            if self._lane is None and len(found.attempts) == 1:
                self._lane = self._new_lane(program)
        self.last = found
        return found

    def _new_lane(self, program: Program) -> Lane | None:
        prepared = self._ready.get((self.chain[0], self._asked(self.chain[0])))
        if prepared is None or not isinstance(program, QuadraticProgram) or self.options.time_limit is not None:
            return None
        stream = guarded(prepared.stream)
        if stream is None or isinstance(stream, Exception):
            return None
        return Lane(self.chain[0], program, self.options, prepared, stream)

    def _asked(self, name: str) -> float:
        """Return the tolerance for which a backend is asked first."""
        return self.options.tol * (TIGHTER if self._sharp.get(name, 0) > 0 else 1.0)

    def _prepared(self, found: Backend, options: Options) -> Prepared:
        program, first = self.program, options.tol == self.options.tol
        if first and self._held is not None and found.name == self.chain[0]:
            held, self._held = self._held, None
            return held
        tol = self._asked(found.name) if first else options.tol
        key = (found.name, tol)
        ready = self._ready.pop(key, None)
        if ready is not None and ready.fits(program):
            ready.update(program)
        else:
            if self._lane is not None and self._lane.prepared is ready:
                self._leave_lane()
            ready = found.prepare(program, Options(tol, options.time_limit, options.settings))
            self.setups += first
        self._ready[key] = ready
        return ready

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            kept = {"_program": self.program, "_given": self._given, "last": self.last, "setups": self.setups}
            return kept | {"chain": self.chain, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __repr__(self) -> str:
        program = self._program
        kind = "cone" if isinstance(program, ConeProgram) else "quadratic"
        return f"Session({kind} n={program.n} m={program.m}, chain={self.chain}, tol={self.options.tol:g})"


def _misfit(field: str, remedy: str) -> InvalidInput:
    return InvalidInput("does not belong to this kind of program", field=field, remedy=remedy)
