"""A process that takes calls one after the other and is killed when one does not end.

It is a new interpreter and not a fork: a fork would inherit locks that other threads hold at that moment, a half-used
thread pool of BLAS, and its number of threads, which is read once when the library is loaded and set to one here. It
costs a few tenths of a second, so it is kept and used again; only a crash, a timeout or a refused allocation costs
another. It does not run the caller's script again (``multiprocessing`` would, and scripts without a main guard would
start themselves), unless something defined in that script has to be found.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosswind.solvers.errors import InvalidInput, SolverFailure
from crosswind.solvers.isolate_child import receive, send
from crosswind.solvers.registry import own_backends

__all__ = ["START_LIMIT_S", "CallResult", "IsolatedWorker"]

START_LIMIT_S = 60.0
"""For the interpreter and for the import of a backend: cvxpy and jax take seconds, on a busy machine many."""

_NO_MEMORY = ("bad_alloc", "memory allocation", "out of memory", "memoryerror", "cannot allocate")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class CallResult:
    """What became of one call in a worker.

    Attributes
    ----------
    outcome
        ``"ok"``, ``"raised"``, ``"timeout"``, ``"memory"`` or ``"crash"``.
    value
        What the function returned, or the exception it raised.
    reason
        In words; empty for ``"ok"``.
    seconds
        From sending the call to its answer.
    peak_bytes
        How far the resident memory rose during the call (Linux; 0 elsewhere and after a crash).
    printed
        What was written to stdout meanwhile, by Python or by C.
    """

    outcome: str
    value: Any
    reason: str
    seconds: float
    peak_bytes: int = 0
    printed: str = ""


class IsolatedWorker:
    """A process that takes calls one after the other; started at the first, restarted after every accident.

    Parameters
    ----------
    threads
        Of BLAS, OpenMP and Rayon in the process; ``None`` leaves the caller's environment.

    Notes
    -----
    Use it as a context manager, or :meth:`close` it. Not to be shared between threads.

    Examples
    --------
    >>> import math
    >>> with IsolatedWorker() as worker:
    ...     worker.call(math.sqrt, 9.0, time_limit=30.0).value
    3.0
    """

    def __init__(self, threads: int | None = 1) -> None:
        self.threads = threads
        self.starts = 0
        self.fresh = True
        self.loaded: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: str | None = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._owner = os.getpid()

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        time_limit: float | None = None,
        memory_limit: int | None = None,
        **keywords: Any,
    ) -> CallResult:
        """Call ``function`` there and wait for the answer, at most ``time_limit`` seconds.

        Parameters
        ----------
        function, args, keywords
            All of them picklable; the function by its module.
        time_limit
            Seconds, after which the process is killed; ``None`` waits.
        memory_limit
            Bytes that the call may map beyond what the process has (Linux).

        Returns
        -------
        CallResult
            Never raises for what happens inside.

        Raises
        ------
        InvalidInput
            When the call cannot be sent, or a memory limit is asked where the system has none.
        SolverFailure
            When no process can be started.
        """
        if memory_limit is not None and (not sys.platform.startswith("linux") or memory_limit <= 0):
            raise InvalidInput(
                "needs Linux and a positive number of bytes", field="memory_limit", value=memory_limit, remedy="None"
            )
        message = _message(function, args, keywords, time_limit, memory_limit)
        process = self._running()
        begin = time.perf_counter()
        assert process.stdin is not None
        try:
            send(process.stdin, message)
            body = self._answers.get(timeout=time_limit)
        except queue.Empty:
            self._end(kill=True)
            return CallResult("timeout", None, f"killed after {time_limit:g} s", time.perf_counter() - begin)
        except (BrokenPipeError, OSError):
            body = None
        seconds = time.perf_counter() - begin
        self.fresh = False
        if body is None:
            return self._crashed(process, seconds, memory_limit)
        answer = pickle.loads(body)
        if answer["kind"] == "unreadable":
            raise InvalidInput(
                f"the process cannot read it: {answer['value']}",
                field="function",
                value=getattr(function, "__qualname__", function),
                remedy="define it in a module that can be imported by name",
            )
        value, kind = answer["value"], answer["kind"]
        reason = "" if kind == "ok" else f"{type(value).__name__}: {value}"
        if kind == "memory":
            self._end(kill=True)  # what it still holds is not known
            reason = f"out of memory: {value}"
        return CallResult(kind, value, reason, seconds, answer["peak"], answer["printed"])

    @property
    def alive(self) -> bool:
        """True while a process of this one's own waits for calls."""
        return self._process is not None and self._owner == os.getpid() and self._process.poll() is None

    @property
    def owned(self) -> bool:
        """False in a fork of the process that made the worker."""
        return self._owner == os.getpid()

    def close(self) -> None:
        """End the process."""
        self._end(kill=False)

    def __enter__(self) -> IsolatedWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            # After a fork the pipes belong to the parent: leave them alone and start a process of our own.
            self._process, self._folder, self._owner = None, None, os.getpid()
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end(kill=True)
        self._start()
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="crosswind-worker-")
        environment = dict(os.environ)
        if self.threads is not None:
            environment |= dict.fromkeys(_ONE_THREAD, str(self.threads))
        # The child must find this very package, however the parent found it.
        code = f"import sys; sys.path[:] = {sys.path!r}; from crosswind.solvers.isolate_child import main; main({{!r}})"
        with open(Path(self._folder) / "stderr", "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code.format(str(Path(self._folder) / "stdout"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self._answers = queue.SimpleQueue()
        threading.Thread(
            target=_pump, args=(self._process.stdout, self._answers), daemon=True, name="crosswind-worker"
        ).start()
        self.starts += 1
        self.fresh, self.loaded = True, set()
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, _message(os.getpid, (), {}, None, None))
            ready = self._answers.get(timeout=START_LIMIT_S)
        except (queue.Empty, OSError):
            ready = None
        if ready is None:
            words = self._errors()
            self._end(kill=True)
            raise SolverFailure(
                "the process for isolated calls does not start",
                field="worker",
                value=words or None,
                remedy="run `python -c 'import crosswind.solvers'` in the same environment",
            )

    def _crashed(self, process: subprocess.Popen[bytes], seconds: float, memory_limit: int | None) -> CallResult:
        try:
            code = process.wait(5.0)
        except subprocess.TimeoutExpired:
            code = 0
        words, printed = self._errors(), self._printed()
        self._end(kill=True)
        outcome = "crash"
        if code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
            reason = f"ended by {name}"
            if name == "SIGKILL":
                outcome, reason = "memory", "killed by the system, as it does when memory runs out"
            elif memory_limit is not None:
                reason += f" under a memory limit of {memory_limit / 2**20:.0f} MiB"
        else:
            reason = f"ended by itself with code {code}"
        if any(word in words.lower() for word in _NO_MEMORY):
            outcome = "memory"
        return CallResult(outcome, None, f"{reason}: {words}" if words else reason, seconds, printed=printed)

    def _errors(self) -> str:
        """Return the last words on stderr, on one line."""
        return " ".join(self._text("stderr")[-2000:].split())[-400:]

    def _printed(self) -> str:
        return self._text("stdout")[:20_000]

    def _text(self, name: str) -> str:
        try:
            return (Path(self._folder or "") / name).read_text(errors="replace")
        except OSError:
            return ""

    def _end(self, *, kill: bool) -> None:
        process, folder = self._process, self._folder
        self._process = self._folder = None
        if self._owner != os.getpid():
            return
        if process is not None:
            if kill:
                process.kill()
            elif process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                with suppress(OSError):  # what a dead process did not read
                    process.stdin.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _pump(stream: Any, answers: queue.SimpleQueue[bytes | None]) -> None:
    """Carry answers from the pipe to the queue, whose wait can be limited on every system."""
    with stream, suppress(OSError, ValueError):
        while (body := receive(stream)) is not None:
            answers.put(body)
    answers.put(None)


def _message(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    time_limit: float | None,
    memory_limit: int | None,
) -> bytes:
    try:
        call = pickle.dumps((function, args, keywords), protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as err:
        raise InvalidInput(
            f"cannot be sent to another process: {err}",
            field="function",
            value=getattr(function, "__qualname__", function),
            remedy="define it at the top of a module, and send data that pickles",
        ) from err
    own: dict[str, Any] = {}
    for name, kind in own_backends().items():
        try:
            pickle.dumps(kind)
        except (pickle.PicklingError, AttributeError, TypeError):
            continue  # asked for by name, it is unknown there and the answer says so
        own[name] = kind
    main = None
    if any(getattr(kind, "__module__", "") == "__main__" for kind in (*own.values(), function)):
        main = getattr(sys.modules["__main__"], "__file__", None)
    job = {
        "call": call,
        "own": pickle.dumps(own),
        "path": list(sys.path),
        "main": main,
        "time_limit": time_limit,
        "memory_limit": memory_limit,
    }
    return pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
