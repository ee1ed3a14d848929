"""One solve in a process of its own, killed when its time is up.

Compiled backends can crash, hang and print; none of that may reach a benchmark or a live process. Why the process is a
new interpreter and how it is used again: :mod:`crosswind.solvers.isolate_worker`.
"""

from __future__ import annotations

import atexit
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Program
from crosswind.solvers.errors import CrosswindError, InvalidInput
from crosswind.solvers.isolate_worker import START_LIMIT_S, CallResult, IsolatedWorker
from crosswind.solvers.registry import chain_of, own_backends
from crosswind.solvers.solution import Attempt, Certificate, Solution, Status
from crosswind.solvers.solve import check_request, solve

__all__ = ["CallResult", "IsolatedRun", "IsolatedWorker", "load_backends", "solve_isolated"]

_GRACE_S = 0.5
_MOST_IDLE = 4


@dataclass(frozen=True)
class IsolatedRun:
    """The outcome of :func:`solve_isolated`: always a :class:`Solution`, graded, and what happened to the process.

    Attributes
    ----------
    solution
        Ours as :func:`crosswind.solvers.solve.solve` returns it. Where no iterate came back its x is NaN, its status
        TIME_LIMIT or NUMERICAL, and its only attempt tells the reason.
    outcome, reason, seconds, peak_bytes, printed
        As in :class:`CallResult`; ``seconds`` contain the transport.
    """

    solution: Solution
    outcome: str
    reason: str
    seconds: float
    peak_bytes: int = 0
    printed: str = ""

    @property
    def status(self) -> Status:
        """The solution's status."""
        return self.solution.status

    def summary(self) -> str:
        """Return a few lines of text."""
        head = f"{self.outcome}: {self.reason}\n" if self.reason else ""
        return f"{head}{self.solution.summary()}"


_idle: list[IsolatedWorker] = []
_idle_lock = threading.Lock()


def _take() -> IsolatedWorker:
    with _idle_lock:
        while _idle:
            worker = _idle.pop()
            if worker.owned:
                return worker
    return IsolatedWorker()


def _give(worker: IsolatedWorker) -> None:
    with _idle_lock:
        if len(_idle) < _MOST_IDLE:
            _idle.append(worker)
            return
    worker.close()


@atexit.register
def _close_idle() -> None:
    with _idle_lock:
        while _idle:
            _idle.pop().close()


def solve_isolated(
    program: Program,
    solver: str | tuple[str, ...] = "auto",
    time_limit: float | None = 60.0,
    memory_limit: int | None = None,
    tol: float = 1e-6,
    *,
    verify: bool = True,
    grace: float = _GRACE_S,
    worker: IsolatedWorker | None = None,
    **settings: Any,
) -> IsolatedRun:
    """Solve in a process of its own that is killed when its time is up: no crash, hang or print reaches the caller.

    Parameters
    ----------
    program, solver, tol, verify, settings
        As for :func:`crosswind.solvers.solve.solve`.
    time_limit
        Seconds. A backend that keeps time stops by itself and its iterate comes back graded; any other is killed
        ``grace`` seconds later. The import of the backend's package is not counted. ``None`` waits for ever.
    memory_limit
        Bytes the solve may map beyond what the process holds before it (Linux).
    grace
        Seconds between the limit that the backend is told and the kill.
    worker
        A worker to use; default one that is kept idle for the next call.

    Returns
    -------
    IsolatedRun
        With a graded solution in any case.

    Raises
    ------
    InvalidInput
        As ``solve`` does: on what is wrong with the request itself.
    MissingDependency
        When a backend's package is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from crosswind.solvers.program import QuadraticProgram
    >>> run = solve_isolated(QuadraticProgram(np.eye(1), [-1.0]), time_limit=30.0)
    >>> run.outcome, run.solution.x.round(6).tolist()
    ('ok', [1.0])
    """
    check_request(program, tol, time_limit)
    chain = chain_of(solver, program, time_limit)
    _require_portable(chain)
    if verify:
        program.require_convex()
    mine = worker if worker is not None else _take()
    try:
        run = _isolated(mine, program, chain, time_limit, memory_limit, tol, grace, settings)
    except BaseException:
        mine.close()
        raise
    if worker is None:
        _give(mine)
    return run


def _isolated(
    worker: IsolatedWorker,
    program: Program,
    chain: tuple[str, ...],
    time_limit: float | None,
    memory_limit: int | None,
    tol: float,
    grace: float,
    settings: dict[str, Any],
) -> IsolatedRun:
    names = set(chain) - worker.loaded
    if names or not worker.alive:
        ready = worker.call(load_backends, tuple(sorted(names)), time_limit=START_LIMIT_S)
        if ready.outcome != "ok":
            if isinstance(ready.value, CrosswindError):
                raise ready.value
            return _without_iterate(program, chain, tol, ready)
        worker.loaded |= names
    found = worker.call(
        solve,
        program,
        chain,
        tol,
        time_limit,
        None,
        False,
        time_limit=None if time_limit is None else time_limit + grace,
        memory_limit=memory_limit,
        **settings,
    )
    if found.outcome == "raised" and isinstance(found.value, CrosswindError):
        raise found.value
    if found.outcome != "ok":
        return _without_iterate(program, chain, tol, found)
    solution: Solution = found.value
    outcome, reason = "ok", ""
    failed = [a.backend_status for a in solution.attempts if a.backend_status.startswith("MemoryError")]
    if failed and not solution.status.usable:
        outcome, reason = "memory", f"out of memory: {failed[-1]}"
    return IsolatedRun(solution, outcome, reason, found.seconds, found.peak_bytes, found.printed)


def _require_portable(chain: tuple[str, ...]) -> None:
    """Refuse backends of one's own that another process could not find."""
    for name, kind in own_backends().items():
        if name not in {*chain, *(link.partition(":")[0] for link in chain)}:
            continue
        try:
            pickle.dumps(kind)
        except (pickle.PicklingError, AttributeError, TypeError) as err:
            raise InvalidInput(
                f"the backend cannot be found by another process: {err}",
                field="solver",
                value=name,
                remedy="define its class at the top of a module",
            ) from err


def load_backends(names: tuple[str, ...]) -> None:
    """Import the packages behind ``names``, so that no solve's clock runs meanwhile."""
    import importlib

    from crosswind.solvers.registry import backend

    for name in names:
        importlib.import_module(backend(name).module)


def _without_iterate(program: Program, chain: tuple[str, ...], tol: float, found: CallResult) -> IsolatedRun:
    status = Status.TIME_LIMIT if found.outcome == "timeout" else Status.NUMERICAL
    inf = float("inf")
    certificate = Certificate(inf, inf, inf, inf, inf, inf, tolerance=tol, objective=inf, lower_bound=-inf)
    attempt = Attempt("+".join(chain), found.outcome, status, found.seconds, found.reason)
    solution = Solution(
        x=np.full(program.n, np.nan),
        y=np.full(program.m, np.nan),
        z=np.full(program.n, np.nan),
        status=status,
        certificate=certificate,
        objective=np.inf,
        backend=chain[0],
        backend_status=f"{found.outcome}: {found.reason}",
        solve_s=found.seconds,
        attempts=(attempt,),
        settings={"tol": tol},
        var_names=program.var_names,
    )
    return IsolatedRun(solution, found.outcome, found.reason, found.seconds, found.peak_bytes, found.printed)
