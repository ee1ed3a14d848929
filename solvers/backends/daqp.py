"""DAQP: dual active set for small dense quadratic programs; microseconds when warm, exact to rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from crosswind.solvers.backends.base import (
    Backend,
    Claim,
    Direct,
    Options,
    Prepared,
    Program,
    Raw,
    Scaling,
    Stream,
    WarmStart,
)
from crosswind.solvers.backends.horizon import HorizonOnly
from crosswind.solvers.backends.keywords import merged
from crosswind.solvers.backends.stacking import Sides
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

if TYPE_CHECKING:
    from crosswind.solvers.mpc.program import MpcProgram

__all__ = ["BACKENDS", "Daqp", "DaqpCondensed"]

_INFINITY = 1e30  # DAQP's own
_UPPER, _LOWER, _EQUALITY = 1, 3, 5  # DAQP's sense: active above, active below, active for good
_FLAGS = {
    2: ("soft optimal", Claim.ALMOST),
    1: ("optimal", Claim.SOLVED),
    -1: ("infeasible", Claim.INFEASIBLE),
    -2: ("cycling", Claim.FAILED),
    -3: ("unbounded", Claim.UNBOUNDED),
    -4: ("iteration limit", Claim.ITERATIONS),
    -5: ("not convex", Claim.FAILED),
    -6: ("equalities of the working set contradict", Claim.INFEASIBLE),
    -7: ("time limit", Claim.TIME),
    -8: ("unsupported", Claim.FAILED),
}


class Daqp(Backend):
    """DAQP (Arnström, Bemporad, Axehill, A dual active-set solver for embedded QP using LDL, TAC 2022), MIT.

    Matrices become dense: n (n + m) numbers, and a factorisation of P at each set-up.

    Notes
    -----
    Where P is singular DAQP takes proximal steps, P + εI around the last point until it rests, which ends at the
    optimum of the program itself. Its ε of 1e-6 makes the first step of a linear program a million lengths long, and
    rounding then fakes an infeasible or cycling one (4 of 100 degenerate programs); 1e-2 does not. No proof comes with
    "infeasible". The working set of the last solve is the next one's start; a point given from outside sets it by the
    signs of its multipliers.
    """

    name = "daqp"
    module = "daqp"
    licence = "MIT"
    warm_starts = True
    updates = True
    keeps_time = True
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up; the matrices become dense."""
        assert isinstance(program, QuadraticProgram)
        return _DaqpPrepared(program, options)


class DaqpCondensed(HorizonOnly, Daqp):
    """DAQP on the form it is made for: a receding-horizon program with gaps and impact states put in, dense.

    Variables are the trades, their sizes and the excesses; 1e-7 of curvature on the latter two spares DAQP its proximal
    steps. Condensing and the way back to the sparse program are ours: they are no part of a timed step of a stream.
    """

    name = "daqp:condensed"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Condense a receding-horizon program and set it up.

        Raises
        ------
        InvalidInput
            When it is another program.
        """
        from crosswind.solvers.mpc.program import as_mpc

        return _CondensedPrepared(as_mpc(program, self.name), options)


class _DaqpPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import daqp

        self.P, self.A = program.P, program.A
        self.key = Sides.of(program).key
        self.scaling = Scaling.of(program)
        # The model reads the matrices again at a later set-up.
        self.dense = ((program.P * self.scaling.quadratic).toarray(), program.A.toarray())
        equal = np.concatenate((program.lb == program.ub, program.l == program.u))
        self.sense = np.where(equal, _EQUALITY, 0).astype(np.int32)
        self.new_model = daqp.Model
        ours = {
            "primal_tol": max(1e-11, 1e-4 * options.tol),
            "eps_prox": -1e-2,
            "eta_prox": max(1e-12, 1e-4 * options.tol),
            "iter_limit": 10_000,
        }
        self.settings = merged(daqp.Model().settings, ours, options.settings, "daqp")
        self.limit = float(self.settings.get("time_limit", 0.0))
        self.vectors = self._vectors(program)
        self.restart()
        kept = self.model.settings
        for key, value in options.settings.items():
            if kept[key] != value:
                raise InvalidInput("daqp does not take this value", field=key, value=value, remedy="see its manual")

    def restart(self) -> None:
        """Set the model up anew with the vectors at hand."""
        f, upper, lower = self.vectors
        self.model = self.new_model()
        self.model.settings = self.settings
        self.flag = int(self.model.setup(self.dense[0], f, self.dense[1], upper, lower, self.sense.copy())[0])
        self.set_limit = self.limit
        # What the working set belongs to: the multipliers last returned, none after a fresh set-up.
        self.last: Vector | None = None
        self.cold = True

    def _vectors(self, program: QuadraticProgram) -> tuple[Vector, Vector, Vector]:
        shrink = 1.0 / self.scaling.length
        upper = np.minimum(np.concatenate((program.ub, program.u)) * shrink, _INFINITY)
        lower = np.maximum(np.concatenate((program.lb, program.l)) * shrink, -_INFINITY)
        return program.q * self.scaling.linear, upper, lower

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.scaling.suits(program)
            and Sides.of(program).key == self.key
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        self.vectors = f, upper, lower = self._vectors(program)
        if self.flag >= 0:
            self.flag = int(self.model.update(f=f, bupper=upper, blower=lower))
        if self.flag < 0:  # a failed solve or update leaves the working set in no state to go on from
            self.restart()

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        n, m = self.A.shape[1], self.A.shape[0]
        if self.flag >= 0:
            self._start(warm)
        if self.flag < 0:
            nothing = np.full(n, np.nan)
            word, claim = _FLAGS.get(self.flag, (f"exit flag {self.flag}", Claim.FAILED))
            return Raw(claim, f"set-up: {word}", nothing, np.full(m, np.nan), nothing)
        limit = self.limit if time_limit is None else time_limit
        if limit != self.set_limit:
            self.model.settings = {"time_limit": limit}
            self.set_limit = limit
        return self.answer(*self.model.solve())

    def answer(self, x: Any, _value: float, flag: int, info: Any) -> Raw:
        """Return what DAQP found in the program's terms."""
        n = self.A.shape[1]
        self.flag, self.cold = int(flag), False
        word, claim = _FLAGS.get(self.flag, (f"exit flag {self.flag}", Claim.FAILED))
        dual = np.asarray(info["lam"]) * self.scaling.dual
        self.last = y = dual[n:]
        return Raw(claim, word, np.asarray(x) * self.scaling.length, y, dual[:n], iterations=int(info["iterations"]))

    def _start(self, warm: WarmStart | None) -> None:
        """Put the working set where the solve is to start from."""
        if warm is None:
            if not self.cold:
                self.flag = int(self.model.update(sense=self.sense.copy()))
        elif warm.y is not self.last:
            dual = np.concatenate((warm.z, warm.y))
            sense = np.where(dual > 0.0, _UPPER, np.where(dual < 0.0, _LOWER, 0))
            # A multiplier on the side of a bound that is infinite points at nothing.
            _, upper, lower = self.vectors
            sense[((dual > 0.0) & (upper >= _INFINITY)) | ((dual < 0.0) & (lower <= -_INFINITY))] = 0
            sense = np.where(self.sense == _EQUALITY, _EQUALITY, sense).astype(np.int32)
            self.flag = int(self.model.update(sense=sense))
        if self.flag < 0:
            self.restart()

    def direct(self, time_limit: float | None) -> Direct | None:
        if time_limit is not None:
            self.settings = {**self.settings, "time_limit": time_limit}
            self.limit = time_limit
            self.model.settings = {"time_limit": time_limit}
            self.set_limit = time_limit
        return _DaqpDirect(self)

    def stream(self) -> Stream | None:
        return _DaqpStream(self)


class _DaqpDirect(Direct):
    """DAQP's own calls; the working set goes on from step to step."""

    def __init__(self, owner: _DaqpPrepared) -> None:
        self.owner, self.model = owner, owner.model
        self.found: Any = None

    def load(self, program: Program) -> Any:
        assert isinstance(program, QuadraticProgram)
        return self.owner._vectors(program)

    def run(self, loaded: Any) -> None:
        self.model.update(f=loaded[0], bupper=loaded[1], blower=loaded[2])
        self.found = self.model.solve()

    def take(self, program: Program) -> Callable[[], Raw] | None:
        x, value, flag, info = self.found
        if flag < 0:  # the working set is in no state to go on from
            return None
        kept = {"lam": np.array(info["lam"]), "iterations": info["iterations"]}
        return partial(self.owner.answer, np.array(x), value, flag, kept)


class _DaqpStream(Stream):
    """The working set goes on from solve to solve; only the vectors that changed are sent."""

    def __init__(self, owner: _DaqpPrepared) -> None:
        self.owner, self.scaling = owner, owner.scaling
        self.m, self.n = owner.A.shape
        self.linear, self.upper, self.lower = (part.copy() for part in owner.vectors)

    def push(self, q: Vector | None, rows: tuple[Vector, Vector] | None, boxes: tuple[Vector, Vector] | None) -> None:
        n, owner, shrink = self.n, self.owner, 1.0 / self.scaling.length
        new = {}
        if q is not None:
            new["f"] = self.linear = q * self.scaling.linear
        if boxes is not None:
            np.maximum(boxes[0] * shrink, -_INFINITY, out=self.lower[:n])
            np.minimum(boxes[1] * shrink, _INFINITY, out=self.upper[:n])
        if rows is not None:
            np.maximum(rows[0] * shrink, -_INFINITY, out=self.lower[n:])
            np.minimum(rows[1] * shrink, _INFINITY, out=self.upper[n:])
        if rows is not None or boxes is not None:
            new["bupper"], new["blower"] = self.upper, self.lower
        owner.vectors = (self.linear, self.upper, self.lower)
        if owner.flag >= 0:
            owner.flag = int(owner.model.update(**new))
        if owner.flag < 0:
            owner.restart()

    def run(self) -> tuple[bool, str, Vector, Vector, int]:
        owner = self.owner
        if owner.flag < 0 or owner.set_limit != owner.limit:
            raw = owner.solve(None, None)
            return raw.claim is Claim.SOLVED, raw.word, raw.x, np.concatenate((raw.y, raw.z)), raw.iterations
        x, _, flag, info = owner.model.solve()
        owner.flag, owner.cold, owner.last = int(flag), False, None
        word, claim = _FLAGS.get(owner.flag, (f"exit flag {flag}", Claim.FAILED))
        w = np.empty(self.m + self.n)
        dual = info["lam"]
        np.multiply(dual[self.n :], self.scaling.dual, w[: self.m])
        np.multiply(dual[: self.n], self.scaling.dual, w[self.m :])
        return claim is Claim.SOLVED, word, x * self.scaling.length, w, int(info["iterations"])


class _CondensedPrepared(Prepared):
    """The dense program in DAQP, and the way back to the sparse one."""

    def __init__(self, program: MpcProgram, options: Options) -> None:
        from crosswind.solvers.mpc.condensed import Condensed, condensed_program

        self.core = Condensed(program.model)
        self.program, self.first = program, condensed_program(self.core, program)
        self.inner = _DaqpPrepared(self.first, options)

    def condensed(self, program: Program) -> QuadraticProgram:
        """Return the dense program of another step."""
        from crosswind.solvers.mpc.condensed import condensed_program
        from crosswind.solvers.mpc.program import as_mpc

        return condensed_program(self.core, as_mpc(program, DaqpCondensed.name), self.first)

    def fits(self, program: Program) -> bool:
        from crosswind.solvers.mpc.program import MpcProgram

        same = isinstance(program, MpcProgram) and program.model is self.program.model and program.P is self.program.P
        return same and self.inner.fits(self.condensed(program))

    def update(self, program: Program) -> None:
        self.inner.update(self.condensed(program))
        self.program = program  # type: ignore[assignment]

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        # A point of the sparse program is none of the dense one's: the working set is the only start.
        return back(self.program, self.inner.solve(None, time_limit))

    def direct(self, time_limit: float | None) -> Direct | None:
        inner = self.inner.direct(time_limit)
        return None if inner is None else _CondensedDirect(self, inner)


class _CondensedDirect(Direct):
    """DAQP's own calls on the dense program."""

    def __init__(self, owner: _CondensedPrepared, inner: Direct) -> None:
        self.owner, self.inner = owner, inner

    def load(self, program: Program) -> Any:
        return self.inner.load(self.owner.condensed(program))

    def run(self, loaded: Any) -> None:
        self.inner.run(loaded)

    def take(self, program: Program) -> Callable[[], Raw] | None:
        kept = self.inner.take(program)
        return None if kept is None else lambda: back(program, kept())  # type: ignore[arg-type]


def back(program: MpcProgram, raw: Raw) -> Raw:
    """Return an answer to the dense program as one to the sparse program."""
    m, k, _, H = program.model.sizes
    n, e = H * m, H * k
    _, _, under, over, rate = np.split(raw.y, np.cumsum((n, n, e, e)))
    trades = raw.x[:n].reshape(H, m)
    y, z = program.multipliers(trades, (over - under).reshape(H, k), rate.reshape(H, m))
    return Raw(raw.claim, raw.word, program.point(trades), y, z, iterations=raw.iterations)


BACKENDS = {kind.name: kind for kind in (Daqp, DaqpCondensed)}
