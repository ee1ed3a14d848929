"""What a backend is: it prepares a program once, takes new vectors, solves, and returns its claim with its iterate."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from crosswind.solvers.errors import InvalidInput, MissingDependency
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram

__all__ = [
    "Backend",
    "Claim",
    "Direct",
    "Options",
    "Prepared",
    "Program",
    "Raw",
    "Scaling",
    "Stream",
    "WarmStart",
    "apply_settings",
    "guarded",
    "quiet_output",
]

Program = QuadraticProgram | ConeProgram
T = TypeVar("T")


class Claim(Enum):
    """What a backend says about its own run, in our few words; it is evidence, not a verdict."""

    SOLVED = "solved"
    ALMOST = "solved to less than was asked"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    TIME = "time limit"
    ITERATIONS = "iteration limit"
    FAILED = "failed"


@dataclass(frozen=True)
class Options:
    """What is asked of a backend: relative tolerance, seconds, and its own settings by their own names."""

    tol: float = 1e-6
    time_limit: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class WarmStart:
    """A primal-dual point to start from: x (n,), y (m,), z (n,)."""

    x: Vector
    y: Vector
    z: Vector


@dataclass
class Raw:
    """A backend's answer in the program's own units and sign rule, ungraded."""

    claim: Claim
    word: str
    x: Vector
    y: Vector
    z: Vector
    s: Vector | None = None
    iterations: int = 0
    farkas: tuple[Vector, Vector] | None = None
    ray: Vector | None = None


class Prepared(ABC):
    """A program set up in a backend."""

    @abstractmethod
    def fits(self, program: Program) -> bool:
        """Tell whether ``program`` differs from the one set up only in vectors that :meth:`update` can carry."""

    @abstractmethod
    def update(self, program: Program) -> None:
        """Take over the vectors of ``program``."""

    @abstractmethod
    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        """Run the backend; ``warm`` is used where the backend can."""

    def stream(self) -> Stream | None:
        """Return a shorter way to update and solve quadratic programs of this set-up, where the backend has one."""
        return None

    def direct(self, time_limit: float | None) -> Direct | None:
        """Return the bare calls of this set-up, where the backend has them; for benchmarks of streams."""
        return None


class Direct(ABC):
    """The calls that a user of the package alone would make in a loop, and nothing of ours in between.

    Only :meth:`run` is timed. What brings a program into the package's own order and units is done before the first
    step, what brings an answer back into the program's after the last one, for all backends alike.
    """

    @abstractmethod
    def load(self, program: Program) -> Any:
        """Return the vectors of ``program``, which fits the set-up, as the package takes them."""

    @abstractmethod
    def run(self, loaded: Any) -> None:
        """Hand the vectors over, solve from where the last call ended, fetch the solution."""

    @abstractmethod
    def take(self, program: Program) -> Callable[[], Raw] | None:
        """Keep the answer of the last run to ``program``; called later, it is brought into the program's terms.

        ``None`` where the run left no iterate to go on from.
        """


class Stream(ABC):
    """Vectors in and an iterate out, for sessions that count microseconds; the bounds keep their pattern."""

    @abstractmethod
    def push(self, q: Vector | None, rows: tuple[Vector, Vector] | None, boxes: tuple[Vector, Vector] | None) -> None:
        """Take over new q (n,), (l, u) of rows (m,) and (lb, ub) of boxes (n,), each ``None`` where it stays."""

    @abstractmethod
    def run(self) -> tuple[bool, str, Vector, Vector, int]:
        """Solve; return whether it claims success, its word, x (n,), the multipliers (m + n,), its iterations."""


class Backend(ABC):
    """A solver behind the one protocol. One file and one subclass each.

    Attributes
    ----------
    name, module, distribution
        What a user asks for, what Python imports, and what carries the version (default: the module's name).
    licence
        Its licence in a few words.
    kinds
        The programs it takes: ``"qp"``, ``"soc"``, ``"psd"``. Zero and nonnegative cones come with any of the last two.
    warm_starts, updates, keeps_time, gives_proofs
        Whether it starts from a given point, takes new vectors without a new set-up, stops by the clock with its
        iterate, and returns vectors that prove infeasibility or unboundedness.
    releases_gil, deterministic
        Whether other Python threads run during its solve (the probe measures it), and whether two runs agree bit by
        bit.
    commercial, limits
        Whether it needs a licence that is bought, and what the installed package cannot do without one.
    only
        The one kind of quadratic program that it takes, in words; empty for a general solver. Such a backend says by
        :meth:`takes` which programs are of that kind, and gives one by :meth:`sample`.
    """

    name: str
    module: str
    licence: str
    distribution: str = ""
    kinds: frozenset[str] = frozenset({"qp"})
    warm_starts: bool = False
    updates: bool = False
    keeps_time: bool = False
    gives_proofs: bool = False
    releases_gil: bool = False
    deterministic: bool = True
    commercial: bool = False
    limits: str = ""
    only: str = ""

    @abstractmethod
    def prepare(self, program: Program, options: Options) -> Prepared:
        """Convert ``program`` and set the solver up."""

    @classmethod
    def variant(cls, tail: str) -> Backend:
        """Return the backend called ``name:tail`` where the tails are not known beforehand.

        Raises
        ------
        InvalidInput
            Unless the class takes such names.
        """
        raise InvalidInput("this solver has no such variant", field="solver", value=tail, remedy=f"use {cls.name!r}")

    @property
    def conic(self) -> bool:
        """True when it takes second-order or semidefinite cones."""
        return bool(self.kinds & {"soc", "psd"})

    def takes(self, program: Program) -> bool:
        """Tell whether its ``kinds`` cover ``program``."""
        if isinstance(program, QuadraticProgram):
            return "qp" in self.kinds
        needed = {cone.kind for cone in program.cones} & {"soc", "psd"}
        return self.conic and needed <= self.kinds

    def sample(self) -> tuple[Program, Vector] | None:
        """Return a tiny program of the kind that it alone takes and the solution, for the probe."""
        return None

    def installed(self) -> bool:
        """Tell whether the solver's package can be found, without importing it."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:  # the parent of a dotted module is not there
            return False

    def version(self) -> str:
        """Return the installed version, or an empty text."""
        try:
            return importlib.metadata.version(self.distribution or self.module)
        except importlib.metadata.PackageNotFoundError:
            return ""


def guarded(action: Callable[[], T]) -> T | Exception:
    """Run a backend's code and return what it raises instead of raising it, except for refusals and interrupts.

    The one wide catch of the package, at the seam where foreign compiled code is called; a panic of a
    Rust backend derives from BaseException.
    """
    try:
        return action()
    except (InvalidInput, MissingDependency, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except Exception as err:
        return err
    except BaseException as err:
        return RuntimeError(f"{type(err).__name__}: {err}")


@contextmanager
def quiet_output() -> Iterator[None]:
    """Send what C code prints to descriptor 1 to nowhere while the block runs.

    For backends that print past their own switch. The descriptor belongs to the whole process: what other threads print
    meanwhile is lost too, so a backend that can be told to be quiet is told instead.
    """
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        _flush_c()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _flush_c() -> None:
    """Empty the buffers of C's stdio, so that nothing printed inside the block comes out after it."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


@dataclass(frozen=True)
class Scaling:
    r"""Exact powers of two that bring a program to size one before a backend sees it.

    Backends stop on absolute or 1 + relative residuals; in currency (1e8) and returns per currency (1e-10) those mean
    nothing. With x = τ x̃ and f = φ f̃ the backend sees P̃ = τ²/φ P, q̃ = τ/φ q and bounds divided by τ; A stays. Duals
    come back by φ/τ. Powers of two change no bit of a mantissa.
    """

    length: float = 1.0
    cost: float = 1.0

    @classmethod
    def of(cls, program: Program) -> Scaling:
        """Choose τ as the median non-zero finite bound and φ as the largest cost term of a vector of that length.

        Bounds below a billionth of the largest do not vote: where a difference left its rounding error instead of a
        zero, many such bounds would set the length to 1e-16 and make the backends give up.
        """
        if isinstance(program, QuadraticProgram):
            sides = np.concatenate((program.l, program.u, program.lb, program.ub))
        else:
            sides = program.b
        sizes = np.abs(sides)
        sizes = sizes[(sizes > 0.0) & (sizes < np.inf)]
        sizes = sizes[sizes >= 1e-9 * np.max(sizes, initial=0.0)]
        linear = float(np.max(np.abs(program.q), initial=0.0))
        quadratic = float(np.max(np.abs(program.P.data), initial=0.0))
        if sizes.size:
            length = float(np.median(sizes))
        elif linear > 0.0 and quadratic > 0.0:
            length = linear / quadratic
        else:
            length = 1.0
        length = _power_of_two(length)
        return cls(length, _power_of_two(max(linear * length, quadratic * length * length) or 1.0))

    def suits(self, program: Program) -> bool:
        """Tell whether the program's own scaling is within a thousand of this one, so that a set-up may stay."""
        new = Scaling.of(program)
        return all(1e-3 <= a / b <= 1e3 for a, b in ((new.length, self.length), (new.cost, self.cost)))

    @property
    def dual(self) -> float:
        """Factor from the backend's multipliers to ours."""
        return self.cost / self.length

    @property
    def quadratic(self) -> float:
        """Factor from our P to the backend's."""
        return self.length * self.length / self.cost

    @property
    def linear(self) -> float:
        """Factor from our q to the backend's."""
        return self.length / self.cost


def _power_of_two(value: float) -> float:
    exponent = float(np.clip(np.round(np.log2(value)), -300.0, 300.0))
    return float(2.0**exponent)


def apply_settings(target: Any, settings: dict[str, Any], solver: str) -> None:
    """Set attributes of a backend's settings object, refusing names it does not have.

    Raises
    ------
    InvalidInput
        On a name that the backend does not know or a value it does not take.
    """
    for key, value in settings.items():
        if key.startswith("_") or not hasattr(target, key):
            known = ", ".join(sorted(k for k in dir(target) if not k.startswith("_")))
            raise InvalidInput(
                f"{solver} has no setting of this name", field=key, value=value, remedy=f"one of {known}"
            )
        try:
            setattr(target, key, value)
        except (TypeError, ValueError) as err:
            raise InvalidInput(
                f"{solver} does not take this value", field=key, value=value, remedy=str(err) or "see its manual"
            ) from err
