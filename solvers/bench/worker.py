"""The process that runs a backend: it loads one solver, takes requests, times calls and sends iterates back.

It judges nothing. Run as ``python -m crosswind.solvers.bench.worker DESCRIPTOR``; what solvers print goes nowhere.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import numpy as np

from crosswind.solvers.backends.base import Backend, Direct, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.bench.memory import peak_mb, reset_peak, resident_mb
from crosswind.solvers.bench.messages import Begin, Call, Done, Failed, Load, Loaded, Request
from crosswind.solvers.bench.plan import run_plugins
from crosswind.solvers.errors import InvalidInput, MissingDependency

__all__ = ["Run", "serve"]

T = TypeVar("T")
_COMPILERS = ("jax", "numba")
_LADDER = tuple(10.0 ** (-k / 2.0) for k in range(8, 0, -1))  # shares of the time limit: 1e-4, 3.2e-4 … 0.32
_PASSES = 3
_BUDGET = 0.5  # share of the time limit that the repeats of a cell may take together


def serve(pipe: Connection) -> None:
    """Answer messages until the other end closes the pipe."""
    solver: Backend | None = None
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            if isinstance(message, Load):
                solver, answer = _load(message)
                pipe.send(answer)
            else:
                assert solver is not None
                pipe.send(Run(solver, message, pipe.send).done())
        except Exception as err:  # whatever a foreign solver raises is a row of the table
            refused = isinstance(err, (InvalidInput, MissingDependency))
            pipe.send(Failed(type(err).__name__, " ".join(str(err).split())[:500], refused))
        except BaseException as err:  # a panic of a Rust backend is no Exception; interrupts end the worker
            if isinstance(err, (KeyboardInterrupt, SystemExit)):
                raise
            pipe.send(Failed(type(err).__name__, " ".join(str(err).split())[:500], refused=False))


def _load(message: Load) -> tuple[Backend, Loaded]:
    from crosswind.solvers.registry import backend

    run_plugins(message.plugins)
    begin = time.perf_counter()
    found = backend(message.solver)
    importlib.import_module(found.module)
    seconds = time.perf_counter() - begin
    return found, Loaded(found.version(), seconds, _compiled(), resident_mb())


class Run:
    """One request being carried out.

    Parameters
    ----------
    solver
        The backend.
    request
        What to do.
    tell
        Called with :class:`Begin` before each timed call, so that the engine's clock for it can start.
    """

    def __init__(self, solver: Backend, request: Request, tell: Callable[[Any], None]) -> None:
        self.solver, self.request, self.tell = solver, request, tell
        self.options = Options(request.tol, request.time_limit_s, dict(request.settings))
        self._told = -np.inf

    def done(self) -> Done:
        """Run the request in its mode."""
        gc.collect()
        reset_peak()
        base = resident_mb()
        first = self._cold(0, first=True)
        measure = {"cold": self._repeats, "sequence": self._stream, "anytime": self._ladder}[self.request.mode]
        calls = measure(first)
        return Done(first, tuple(calls), base, peak_mb(), resident_mb())

    def _cold(self, step: int, *, first: bool = False, limit: float | None = None) -> Call:
        program = self.request.programs[step]
        options = self.options if limit is None else Options(self.options.tol, limit, self.options.settings)
        self._begin(first)
        begin = time.perf_counter()
        prepared = self.solver.prepare(program, options)
        between = time.perf_counter()
        left = max((limit or self.request.time_limit_s) - (between - begin), 1e-6)
        raw = prepared.solve(None, left if self.solver.keeps_time else None)
        return Call(step, between - begin, time.perf_counter() - between, _owned(raw), limit)

    def _begin(self, first: bool) -> None:
        """Start the engine's clock; calls of microseconds share one, or waking the engine would be in their times."""
        now = time.monotonic()
        if first or now - self._told > 0.05:
            self.tell(Begin(first))
            self._told = time.monotonic()

    def _repeats(self, first: Call) -> list[Call]:
        """Repeat from a fresh set-up until the repeats or half a time limit are used up, once at least.

        A first call that used the limit up is not repeated, unless it may have compiled.
        """
        if first.total_s >= self.request.time_limit_s and not _compiled():
            return [first]
        calls: list[Call] = []
        while len(calls) < self.request.repeats:
            calls.append(self._cold(0))
            if sum(call.total_s for call in calls) + calls[-1].total_s > _BUDGET * self.request.time_limit_s:
                break
        return calls

    def _stream(self, first: Call) -> list[Call]:
        """Go through the stream: keep the set-up where the backend can, start warm from its own last answer."""
        _Undisturbed.calibrate()
        calls: list[Call] = []
        ready: Prepared | None = None
        start: WarmStart | None = None
        while (step := len(calls)) < len(self.request.programs):
            program = self.request.programs[step]
            kept = ready is not None and ready.fits(program)
            self._begin(first=step == 0)
            with _Undisturbed() as clock:
                if kept and ready is not None:
                    ready.update(program)
                else:
                    ready = self.solver.prepare(program, self.options)
                between = time.perf_counter()
                raw = ready.solve(start, self._limit)
            setup, seconds = between - clock.begin, clock.end - between
            calls.append(Call(step, setup, seconds, _owned(raw), None, kept, start is not None, clock.cpu))
            last = _usable(calls[-1].raw)
            start = last if self.solver.warm_starts else None
            if last is None:
                ready = None  # a state without a usable iterate must not spoil the next step
            elif not kept and (direct := ready.direct(self._limit)) is not None:
                calls += self._bare(ready, direct, len(calls))
                ready, start = None, None  # where they ended before the stream did, the set-up is done anew
        return calls

    @property
    def _limit(self) -> float | None:
        return self.request.time_limit_s if self.solver.keeps_time else None

    def _bare(self, ready: Prepared, direct: Direct, step: int) -> list[Call]:
        """Time the backend's own calls from ``step`` on, as far as the set-up fits and each left an iterate.

        All is converted before the first of them and after the last, so that nothing of ours is in a time or a cache.
        The same steps are gone through up to three times from set-ups of their own, as long as that takes less than
        half a time limit, and each step counts with its least time: what the machine does in between is not the
        solver's.
        """
        todo = self._awake(itertools.takewhile(ready.fits, self.request.programs[step:]))
        loaded = [(program, direct.load(program)) for program in todo]
        found = self._pass(direct, loaded)
        times = np.array([part[:2] for part in found]).reshape(-1, 2)
        once = spent = float(times[:, 0].sum())
        for _ in range(min(_PASSES, self.request.repeats) - 1):
            spent += once
            if spent > _BUDGET * self.request.time_limit_s:
                break
            self._begin(first=False)
            anew = self.solver.prepare(self.request.programs[step - 1], self.options)
            anew.solve(None, self._limit)
            other = anew.direct(self._limit)
            more = [] if other is None else self._pass(other, loaded)
            if len(more) == len(found):
                times = np.minimum(times, [part[:2] for part in more]) if found else times
        warm = self.solver.warm_starts
        return [
            Call(step + at, 0.0, float(times[at, 0]), _owned(part[2]()), None, True, warm, float(times[at, 1]))
            for at, part in enumerate(self._awake(found))
        ]

    def _pass(self, direct: Direct, loaded: list[tuple[Program, Any]]) -> list[tuple[float, float, Callable[[], Raw]]]:
        """Go once through steps, up to one without iterate: seconds by the wall, of the processor, the answer."""
        found: list[tuple[float, float, Callable[[], Raw]]] = []
        for program, vectors in loaded:
            self._begin(first=False)
            with _Undisturbed() as clock:
                direct.run(vectors)
            answer = direct.take(program)
            if answer is None:
                break
            found.append((clock.end - clock.begin, clock.cpu, answer))
        return found

    def _awake(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items and start the engine's clock at each: what is done with them is no solve that hangs."""
        for item in items:
            self._begin(first=False)
            yield item

    def _ladder(self, first: Call) -> list[Call]:
        """Give the backend a ten-thousandth of the limit and more, up to what it needs by itself, which comes last.

        A backend that cannot be stopped has no iterate before it ends: it is run once.
        """
        slow = first.total_s >= _BUDGET * self.request.time_limit_s and not _compiled()
        free = first if slow else self._cold(0)
        calls = []
        if self.solver.keeps_time:
            for share in _LADDER:
                limit = share * self.request.time_limit_s
                if limit >= free.total_s:
                    break
                calls.append(self._cold(0, limit=limit))
        return [*calls, free]


class _Undisturbed:
    """Time a block by the wall and by the thread's own clock; Python collects garbage before or after, not within.

    The thread's clock is a call of the system, which would be a tenth of a step of ten microseconds: what it takes
    around an empty block, at the least, is taken off.
    """

    cost: float | None = None

    @classmethod
    def calibrate(cls) -> None:
        """Measure an empty block, once in a process."""
        if cls.cost is None:
            cls.cost, found = 0.0, []
            for _ in range(200):
                with cls() as clock:
                    pass
                found.append(clock.cpu)
            cls.cost = min(found)

    def __enter__(self) -> _Undisturbed:
        gc.disable()
        self.cpu = -time.thread_time()
        self.begin = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.end = time.perf_counter()
        self.cpu = max(self.cpu + time.thread_time() - (self.cost or 0.0), 0.0)
        gc.enable()


def _compiled() -> bool:
    """Tell whether the first call of this process may have spent its time on compiling."""
    return any(name in sys.modules for name in _COMPILERS)


def _owned(raw: Raw) -> Raw:
    """Copy the arrays, since a backend may hand out views of what its next call overwrites."""
    parts = {
        key: None if getattr(raw, key) is None else np.array(getattr(raw, key), dtype=np.float64)
        for key in ("x", "y", "z", "s", "ray")
    }
    farkas = None
    if raw.farkas is not None:
        farkas = (np.array(raw.farkas[0], dtype=np.float64), np.array(raw.farkas[1], dtype=np.float64))
    return Raw(
        claim=raw.claim,
        word=str(raw.word),
        iterations=int(raw.iterations),
        farkas=farkas,
        **parts,  # type: ignore[arg-type]
    )


def _usable(raw: Raw) -> WarmStart | None:
    parts = (raw.x, raw.y, raw.z)
    return WarmStart(*parts) if all(np.isfinite(part).all() for part in parts) else None


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when the engine is killed, in mid-solve too (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> None:
    """Serve the pipe whose descriptor is the first argument."""
    _die_with_parent()
    serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
