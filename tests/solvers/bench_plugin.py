"""Backends for the tests of the benchmark, run in its workers: a fast exact one, and one for each kind of trouble."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Prepared, Raw
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.registry import own_backends, register_backend


class _Kkt(Prepared):
    """Solve min ½x'Px + q'x, Ax = b by its linear system."""

    def __init__(self, program, options, trouble):
        for key in options.settings:
            if key != "wait_s":
                raise InvalidInput("unknown setting", field=key, value=options.settings[key])
        self.program, self.trouble, self.options = program, trouble, options
        self.started = time.perf_counter()

    def fits(self, program):
        return program.A is self.program.A

    def update(self, program):
        self.program = program

    def solve(self, warm, time_limit):
        program, n, m = self.program, self.program.n, self.program.m
        time.sleep(self.options.settings.get("wait_s", 0.0))
        P, A = program.P.toarray(), program.A.toarray()
        found = np.linalg.solve(np.block([[P, A.T], [A, np.zeros((m, m))]]), np.concatenate((-program.q, program.u)))
        raw = Raw(Claim.SOLVED, "solved", found[:n], found[n:], np.zeros(n), iterations=1 if warm is None else 0)
        return self.trouble(raw, time_limit)


def _fine(raw, limit):
    return raw


def _liar(raw, limit):
    raw.x = raw.x + 1.0
    return raw


def _denier(raw, limit):
    raw.claim, raw.word = Claim.INFEASIBLE, "infeasible"
    return raw


def _nan(raw, limit):
    raw.x = np.full_like(raw.x, np.nan)
    return raw


def _shape(raw, limit):
    raw.x = raw.x[:-1]
    return raw


def _raiser(raw, limit):
    raise RuntimeError("the factorisation broke")


def _crasher(raw, limit):
    os.kill(os.getpid(), signal.SIGSEGV)


def _sleeper(raw, limit):
    time.sleep(60.0)


def _leaver(raw, limit):
    sys.stderr.write("goodbye\n")
    sys.stderr.flush()
    os._exit(3)


def _eater(raw, limit):
    kept = [np.ones(2**23) for _ in range(8)]  # 64 MB each
    time.sleep(5.0)
    raw.word = str(len(kept))
    return raw


def _printer(raw, limit):
    os.write(1, b"noise on the descriptor\n")
    sys.stdout.write("noise\n")
    return raw


def _stopped(raw, limit):
    """Improve with the time given: the error halves each millisecond."""
    if limit is not None and limit < 0.05:
        time.sleep(limit)
        raw.x = raw.x + 0.5 ** (1e3 * limit)
        raw.claim, raw.word = Claim.TIME, "stopped"
    else:
        time.sleep(0.06)
    return raw


def _make(label, trouble, **attributes):
    class Fake(Backend):
        name = label
        module = "numpy"
        licence = "test"

        def prepare(self, program, options):
            return _Kkt(program, options, trouble)

    for key, value in attributes.items():
        setattr(Fake, key, value)
    if label not in own_backends():
        register_backend(Fake)


for _name, _trouble in {
    "fine": _fine,
    "liar": _liar,
    "denier": _denier,
    "nan": _nan,
    "shape": _shape,
    "raiser": _raiser,
    "crasher": _crasher,
    "sleeper": _sleeper,
    "leaver": _leaver,
    "eater": _eater,
    "printer": _printer,
}.items():
    _make(f"fake-{_name}", _trouble)
_make("fake-warm", _fine, warm_starts=True, updates=True)
_make("fake-timed", _stopped, keeps_time=True)
