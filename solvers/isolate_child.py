"""The other end of :mod:`crosswind.solvers.isolate`: a process that takes one call after the other until its pipe ends.

It speaks over copies of its first two descriptors; the originals then point to nothing and to a file, so that a backend
that prints can neither break the protocol nor reach the user's terminal.
"""

from __future__ import annotations

import os
import pickle
import runpy
import struct
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["main", "receive", "send"]

_HEADER = struct.Struct("<Q")
_ALARM_GRACE_S = 5.0


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message with its length."""
    stream.write(_HEADER.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; ``None`` when the other side is gone."""
    head = stream.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    body = stream.read(_HEADER.unpack(head)[0])
    return body if len(body) == _HEADER.unpack(head)[0] else None


def main(printed: str) -> None:
    """Serve calls until the parent closes the pipe; ``printed`` is the file that takes what is written to stdout."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    kept = os.open(printed, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(kept, 1)
    while (message := receive(requests)) is not None:
        os.ftruncate(kept, 0)
        answer = _serve(message)
        _flush()
        answer["printed"] = os.pread(kept, 20_000, 0).decode(errors="replace") if hasattr(os, "pread") else ""
        try:
            body = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as err:
            answer |= {"kind": "raised", "value": RuntimeError(f"the result cannot be pickled: {err}")}
            body = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        send(answers, body)


def _serve(message: bytes) -> dict[str, Any]:
    try:
        job = pickle.loads(message)
        for path in job["path"]:
            if path not in sys.path:
                sys.path.append(path)
        if job["main"] is not None:
            _adopt_main(job["main"])
        _register(pickle.loads(job["own"]))
        function, args, keywords = pickle.loads(job["call"])
    except Exception as err:
        return {"kind": "unreadable", "value": _portable(err), "peak": 0}
    before = _resident(peak=False, reset=True)
    with _alarm(job["time_limit"]), _memory(job["memory_limit"]):
        try:
            value, kind = function(*args, **keywords), "ok"
        except MemoryError as err:
            value, kind = RuntimeError(f"MemoryError: {err}"), "memory"
        except (Exception, SystemExit) as err:
            value, kind = _portable(err), "raised"
        except BaseException as err:  # a panic of a Rust backend
            value, kind = RuntimeError(f"{type(err).__name__}: {err}"), "raised"
    return {"kind": kind, "value": value, "peak": max(0, _resident(peak=True) - before)}


def _portable(err: BaseException) -> BaseException:
    """Return ``err`` if it survives pickling, else its words."""
    try:
        pickle.loads(pickle.dumps(err))
    except Exception:
        return RuntimeError(f"{type(err).__name__}: {err}")
    return err


def _register(own: dict[str, Any]) -> None:
    from crosswind.solvers import registry

    known = registry.own_backends()
    for name in known.keys() - own.keys():
        registry.unregister_backend(name)
    for name, kind in own.items():
        if known.get(name) is not kind:
            registry.register_backend(kind, name, replace=True)


def _adopt_main(path: str) -> None:
    """Run the user's script under another name, so that what it defines can be found as ``__main__`` here."""
    if "__mp_main__" in sys.modules:
        return
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(runpy.run_path(path, run_name="__mp_main__"))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


@contextmanager
def _alarm(time_limit: float | None) -> Iterator[None]:
    """Let the kernel end this process when the parent did not: it may have died while a solve hangs."""
    try:
        import signal

        timer, real = signal.setitimer, signal.ITIMER_REAL
    except (ImportError, AttributeError):
        yield
        return
    if time_limit is not None:
        timer(real, time_limit + _ALARM_GRACE_S)
    try:
        yield
    finally:
        timer(real, 0.0)


@contextmanager
def _memory(limit: int | None) -> Iterator[None]:
    """Cap the address space at what is mapped now plus ``limit`` bytes."""
    if limit is None:
        yield
        return
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _resident(*, peak: bool, reset: bool = False) -> int:
    """Return the resident memory in bytes, or its peak since the last reset; 0 where the system does not tell."""
    key = "VmHWM:" if peak else "VmRSS:"
    with suppress(OSError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0


def _flush() -> None:
    import ctypes

    sys.stdout.flush()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
