"""The engine's side of the workers: start, ask, wait with a clock and a memory limit, kill, start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any

from crosswind.solvers.bench.memory import resident_mb
from crosswind.solvers.bench.messages import Begin, Done, Failed, Load, Loaded, Request

__all__ = ["Lane", "Lost", "Worker", "thread_environment"]

LOAD_LIMIT_S = 120.0
COMPILE_LIMIT_S = 120.0
GRACE_S = 0.5
_THREADS = (
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS", "RAYON_NUM_THREADS"),
)


@dataclass(frozen=True)
class Lost:
    """A worker that gave no answer: ``outcome`` crash, timeout or memory, and what is known of it."""

    outcome: str
    text: str
    seconds: float = float("nan")
    first: bool = False


def thread_environment() -> dict[str, str]:
    """Return the variables that hold every library of a worker to one thread."""
    fixed = dict.fromkeys(_THREADS, "1")
    return fixed | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}


class Worker:
    """One process with one solver loaded."""

    def __init__(self, solver: str, plugins: tuple[tuple[str, str], ...] = ()) -> None:
        mine, theirs = Pipe()
        self.pipe: Connection[Any, Any] = mine
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "crosswind.solvers.bench.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, **thread_environment()},
            start_new_session=True,  # its children are killed with it, and a Ctrl-C reaches the engine alone
        )
        theirs.close()
        self.loaded: Any = None
        with suppress(BrokenPipeError, ConnectionError):
            self.pipe.send(Load(solver, plugins))

    def load(self) -> Loaded | Failed | Lost:
        """Wait until the solver is imported."""
        self.loaded = self._wait(LOAD_LIMIT_S, float("inf"))
        assert isinstance(self.loaded, (Loaded, Failed, Lost))
        return self.loaded

    def ask(self, request: Request, memory_limit_mb: float) -> Done | Failed | Lost:
        """Send a request and wait for its end; every call in it has its own clock."""
        assert isinstance(self.loaded, Loaded)
        limit = request.time_limit_s + GRACE_S
        try:
            self.pipe.send(request)
        except (BrokenPipeError, ConnectionError):
            return self._gone()
        wait, first = LOAD_LIMIT_S, True
        while True:
            answer = self._wait(wait, memory_limit_mb)
            if isinstance(answer, Begin):
                first = answer.first
                wait = limit + (COMPILE_LIMIT_S if first and self.loaded.compiles else 0.0)
            elif isinstance(answer, Lost):
                return Lost(answer.outcome, answer.text, answer.seconds, first)
            else:
                assert isinstance(answer, (Done, Failed))
                return answer

    def _wait(self, seconds: float, memory_limit_mb: float) -> Any:
        begin = time.monotonic()
        while True:
            spent = time.monotonic() - begin
            try:
                if self.pipe.poll(min(0.2, max(seconds - spent, 0.0))):
                    return self.pipe.recv()
            except (EOFError, ConnectionError):
                return self._gone()
            except Exception as err:  # a torn message from a dying process
                self.close()
                return Lost("crash", f"answer not readable: {type(err).__name__}: {err}")
            spent = time.monotonic() - begin
            if spent >= seconds:
                self.close()
                return Lost("timeout", f"killed after {seconds:.3g} s", spent)
            if resident_mb(self.process.pid) > memory_limit_mb:
                self.close()
                return Lost("memory", f"killed above {memory_limit_mb:.0f} MB", spent)

    def _gone(self) -> Lost:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        code = self.process.returncode
        if code is not None and code < 0:
            reason = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        else:
            reason = f"exit code {code}"
        tail = self._tail()
        self.close()
        return Lost("crash", f"{reason}; {tail}" if tail else reason)

    def _tail(self) -> str:
        with suppress(OSError, ValueError):
            self.errors.seek(0)
            lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
            return " ".join(lines[-1].split())[:300] if lines else ""
        return ""

    def kill(self) -> None:
        """Kill the process and its children; from any thread."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and its children, and let go of the pipe; may be called again."""
        if self.process.poll() is None:
            self.kill()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10.0)
        self.pipe.close()
        self.errors.close()


class Lane:
    """The workers of one slot, one per solver, each kept until it dies, is killed or has grown."""

    def __init__(self, plugins: tuple[tuple[str, str], ...] = ()) -> None:
        self.plugins = plugins
        self._workers: dict[str, Worker] = {}
        self._stopped = threading.Event()

    def ask(self, solver: str, request: Request, memory_limit_mb: float) -> tuple[Loaded | None, Done | Failed | Lost]:
        """Run ``request`` in the worker of ``solver``, started when there is none."""
        worker = self._workers.get(solver)
        if self._stopped.is_set():
            return None, Lost("crash", "stopped")
        if worker is None:
            # Known to the lane before it loads, so that stop() finds it, or it finds that stop() came first.
            worker = self._workers[solver] = Worker(solver, self.plugins)
            if self._stopped.is_set():
                worker.kill()
            told = worker.load()
            if not isinstance(told, Loaded):
                self._workers.pop(solver).close()
                return None, told
        loaded: Loaded = worker.loaded
        answer = worker.ask(request, memory_limit_mb)
        if isinstance(answer, Lost):
            del self._workers[solver]
        elif isinstance(answer, Done) and answer.resident_mb > 1.5 * loaded.resident_mb + 64.0:
            # What an allocator keeps would hide the memory of the next cell.
            self._workers.pop(solver).close()
        return loaded, answer

    def stop(self) -> None:
        """Kill all workers from another thread than the lane's own, which comes back with a lost cell at once."""
        self._stopped.set()
        for worker in tuple(self._workers.values()):
            worker.kill()

    def close(self) -> None:
        """Kill all workers and let go of them."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
