"""Backends that fail on purpose, one way each; a module of its own so that a subprocess can find them by name."""

from __future__ import annotations

import ctypes
import time

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.piqp import Piqp


class _Faulty(Backend):
    module = "numpy"
    licence = "none"

    def prepare(self, program: Program, options: Options) -> Prepared:
        return _Run(self, program)

    def run(self, program: Program) -> Raw:
        raise NotImplementedError


class _Run(Prepared):
    def __init__(self, owner: _Faulty, program: Program) -> None:
        self.owner, self.program = owner, program

    def fits(self, program: Program) -> bool:
        return program.P is self.program.P

    def update(self, program: Program) -> None:
        self.program = program

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        return self.owner.run(self.program)


def _raw(program: Program, x: object, y: object = None, claim: Claim = Claim.SOLVED, word: str = "solved") -> Raw:
    y = np.zeros(program.m) if y is None else y
    return Raw(claim, word, np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), np.zeros(program.n))


class Raises(_Faulty):
    name = "faulty-raises"

    def run(self, program: Program) -> Raw:
        raise ZeroDivisionError("inside the solver")


class RaisesInSetup(_Faulty):
    name = "faulty-setup"

    def prepare(self, program: Program, options: Options) -> Prepared:
        raise OSError("cannot open the library")


class Licence(_Faulty):
    name = "faulty-licence"
    commercial = True

    def run(self, program: Program) -> Raw:
        raise RuntimeError("no licence found in ~/.licence: error 10009")


class Segfaults(_Faulty):
    name = "faulty-segfault"

    def run(self, program: Program) -> Raw:
        ctypes.string_at(0)
        raise AssertionError("still alive")


class Aborts(_Faulty):
    name = "faulty-abort"

    def run(self, program: Program) -> Raw:
        ctypes.CDLL(None).abort()
        raise AssertionError("still alive")


class Exits(_Faulty):
    name = "faulty-exit"

    def run(self, program: Program) -> Raw:
        ctypes.CDLL(None)._exit(7)
        raise AssertionError("still alive")


class Loops(_Faulty):
    name = "faulty-loop"

    def run(self, program: Program) -> Raw:
        while True:
            time.sleep(0.01)


class HoldsTheGil(_Faulty):
    """Hangs in C without releasing the GIL: no thread of that process could stop it."""

    name = "faulty-gil"

    def run(self, program: Program) -> Raw:
        ctypes.PyDLL(None).sleep(1000)
        raise AssertionError("still alive")


class Nan(_Faulty):
    name = "faulty-nan"

    def run(self, program: Program) -> Raw:
        return _raw(program, np.full(program.n, np.nan))


class Wrong(_Faulty):
    name = "faulty-wrong"

    def run(self, program: Program) -> Raw:
        return _raw(program, np.full(program.n, 0.123), word="OPTIMAL")


class Shapes(_Faulty):
    name = "faulty-shapes"

    def run(self, program: Program) -> Raw:
        return _raw(program, np.zeros(program.n + 3))


class Scalar(_Faulty):
    name = "faulty-none"

    def run(self, program: Program) -> Raw:
        return None  # type: ignore[return-value]


class Greedy(_Faulty):
    name = "faulty-memory"

    def run(self, program: Program) -> Raw:
        return _raw(program, np.ones(4_000_000_000)[: program.n])


class Prints(Piqp):
    """Right, but it prints past Python's sys.stdout, as C code does."""

    name = "faulty-prints"

    def prepare(self, program: Program, options: Options) -> Prepared:
        libc = ctypes.CDLL(None)
        libc.puts(b"*** banner of a chatty solver ***")
        libc.fflush(None)
        return super().prepare(program, options)


class Missing(_Faulty):
    name = "faulty-missing"
    module = "a_package_that_is_not_there"
    distribution = "a-package-that-is-not-there"


class BreaksAtImport(_Faulty):
    """Its package is found but dies when it is imported, as one with a missing shared library does."""

    name = "faulty-import"
    module = "package_that_breaks"


KINDS = (
    Raises,
    RaisesInSetup,
    Licence,
    Segfaults,
    Aborts,
    Exits,
    Loops,
    HoldsTheGil,
    Nan,
    Wrong,
    Shapes,
    Scalar,
    Greedy,
    Prints,
    Missing,
    BreaksAtImport,
)
