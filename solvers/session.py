"""A program set up once and solved many times with new vectors: the receding horizon's way to call a backend."""

from __future__ import annotations

import threading
from typing import Any

from crosswind.solvers.backends.base import Backend, Options, Prepared, Program, WarmStart
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.program import ConeProgram
from crosswind.solvers.registry import chain_of
from crosswind.solvers.solution import Solution
from crosswind.solvers.solve import check_request, run_chain, warm_point

__all__ = ["Session"]


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
    the backend's state and sets up again where it is restored.

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
        self.program = program
        self.chain = chain_of(solver, program, time_limit)
        self.options = Options(tol, time_limit, settings)
        self.last: Solution | None = None
        self.setups = 0
        self._start: WarmStart | None = None
        self._ready: dict[str, Prepared] = {}
        self._lock = threading.RLock()

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
        with self._lock:
            if isinstance(self.program, ConeProgram):
                if any(part is not None for part in (l, u, lb, ub)):
                    raise _misfit("l, u, lb, ub", "a cone program has b instead")
                self.program = self.program.with_vectors(q=q, b=b, constant=constant)
            else:
                if b is not None:
                    raise _misfit("b", "a quadratic program has l, u, lb and ub instead")
                self.program = self.program.with_vectors(q=q, l=l, u=u, lb=lb, ub=ub, constant=constant)
        return self

    def warm(self, x: Any, y: Any, z: Any) -> Session:
        """Set the point (n,), (m,), (n,) the next warm solve starts from, such as the last shifted by a stage."""
        with self._lock:
            self._start = warm_point(self.program, (x, y, z))
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
        check_request(self.program, self.options.tol, time_limit)
        with self._lock:
            options = self.options
            if time_limit is not None:
                options = Options(options.tol, time_limit, options.settings)
            if not warm:
                # Operator splitting carries its iterate and step sizes over; cold means a fresh set-up.
                self._ready.clear()
            found = run_chain(self.program, self.chain, options, self._start if warm else None, self._prepared)
            if found.status.usable:
                self._start = WarmStart(found.x, found.y, found.z)
            else:
                self._ready.clear()
                self._start = None
            self.last = found
            return found

    def _prepared(self, found: Backend, options: Options) -> Prepared:
        if options.tol != self.options.tol:
            return found.prepare(self.program, options)  # a second, tighter attempt: not the one to keep
        ready = self._ready.pop(found.name, None)
        if ready is not None and ready.fits(self.program):
            ready.update(self.program)
        else:
            ready = found.prepare(self.program, self.options)
            self.setups += 1
        self._ready[found.name] = ready
        return ready

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_ready")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._ready = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        kind = "cone" if isinstance(self.program, ConeProgram) else "quadratic"
        return f"Session({kind} n={self.program.n} m={self.program.m}, chain={self.chain}, tol={self.options.tol:g})"


def _misfit(field: str, remedy: str) -> InvalidInput:
    return InvalidInput("does not belong to this kind of program", field=field, remedy=remedy)
