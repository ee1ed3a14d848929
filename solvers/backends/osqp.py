"""OSQP: operator splitting, cheap warm-started solves of modest accuracy; the user's choice, never ours."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

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
    apply_settings,
)
from crosswind.solvers.backends.two_sided import TwoSided
from crosswind.solvers.matrices import Vector
from crosswind.solvers.native import gather, scatter
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKENDS", "Osqp", "OsqpDirect"]

_INFINITY = 1e30
_FOREVER = 1e10  # seconds, OSQP's own default
_CLAIMS = {
    "solved": Claim.SOLVED,
    "solved inaccurate": Claim.ALMOST,
    "primal infeasible": Claim.INFEASIBLE,
    "primal infeasible inaccurate": Claim.INFEASIBLE,
    "dual infeasible": Claim.UNBOUNDED,
    "dual infeasible inaccurate": Claim.UNBOUNDED,
    "run time limit reached": Claim.TIME,
    "maximum iterations reached": Claim.ITERATIONS,
}


class Osqp(Backend):
    """OSQP (Stellato, Banjac, Goulart, Bemporad, Boyd, Math. Prog. Comp. 2020), Apache-2.0."""

    name = "osqp"
    module = "osqp"
    licence = "Apache-2.0"
    warm_starts = True
    updates = True
    keeps_time = True
    gives_proofs = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _OsqpPrepared(program, options)


class OsqpDirect(Osqp):
    """OSQP as its manual has it: eps_abs = eps_rel = what is asked for, its own defaults, the data in their own units.

    For comparisons with published figures. Its stopping rule is absolute plus relative, so that an answer to 1e-6 need
    not pass our certificate at 1e-6; ``osqp`` asks for more to that end.
    """

    name = "osqp:direct"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _ManualPrepared(program, options)


BACKENDS = {kind.name: kind for kind in (Osqp, OsqpDirect)}


class _OsqpPrepared(TwoSided):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import osqp

        super().__init__(program, _INFINITY)
        self.choose(program)
        upper = sparse.csc_matrix(sparse.triu(program.P, format="csc") * self.scaling.quadratic)
        q, low, high = self.vectors(program)
        self.limited = False
        self.solver = osqp.OSQP()
        probe = self.solver.ext.OSQPSettings()
        self.solver.ext.osqp_set_default_settings(probe)
        apply_settings(probe, options.settings, "osqp")
        self.solver.setup(upper, q, self.matrix(), low, high, **(self.defaults(options.tol) | options.settings))

    def choose(self, program: QuadraticProgram) -> None:
        """Choose the units that OSQP sees."""
        self.scaling = Scaling.of(program)

    def defaults(self, asked: float) -> dict[str, Any]:
        """Return our settings for an asked relative accuracy."""
        tol = max(1e-11, 2e-3 * asked)
        return {
            "eps_abs": tol,
            "eps_rel": tol,
            "eps_prim_inf": 1e-8,
            "eps_dual_inf": 1e-8,
            "max_iter": 50_000,
            # Polishing sharpens the iterate but prints to stdout past verbose=False: only on the caller's wish.
            "polishing": False,
            "verbose": False,
            # Step sizes adapted by the clock make two runs differ; by iteration count they do not.
            "adaptive_rho_interval": 50,
        }

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, low, high = self.vectors(program)
        self.solver.update(q=q, l=low, u=high)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        if warm is not None:
            x, dual = self.start(warm)
            self.solver.warm_start(x=x, y=dual)
        if time_limit is not None or self.limited:
            self.solver.update_settings(time_limit=_FOREVER if time_limit is None else float(time_limit))
            self.limited = time_limit is not None
        return self.answer(self.solver.solve(raise_error=False))

    def answer(self, found: Any) -> Raw:
        """Return what OSQP found in the program's terms."""
        scaling = self.scaling
        word = str(found.info.status)
        claim = _CLAIMS.get(word, Claim.FAILED)
        y, z = self.split(np.asarray(found.y))
        raw = Raw(
            claim,
            word,
            np.asarray(found.x) * scaling.length,
            y * scaling.dual,
            z * scaling.dual,
            iterations=int(found.info.iter),
        )
        if claim is Claim.INFEASIBLE:
            raw.farkas = self.split(np.asarray(found.prim_inf_cert))
        elif claim is Claim.UNBOUNDED:
            raw.ray = np.asarray(found.dual_inf_cert)
        return raw

    def direct(self, time_limit: float | None) -> Direct | None:
        if time_limit is not None:
            self.solver.update_settings(time_limit=float(time_limit))
            self.limited = True
        return _OsqpDirect(self)

    def stream(self) -> Stream | None:
        core = getattr(self.solver, "_solver", None)
        if not all(hasattr(core, name) for name in ("update_data_vec", "solve", "solution", "info")):
            return None
        return _OsqpStream(self, core)


class _ManualPrepared(_OsqpPrepared):
    def choose(self, program: QuadraticProgram) -> None:
        self.scaling = Scaling()

    def defaults(self, asked: float) -> dict[str, Any]:
        return {"eps_abs": asked, "eps_rel": asked, "max_iter": 100_000, "verbose": False}

    def suits(self, program: QuadraticProgram) -> bool:
        return True


class _OsqpDirect(Direct):
    """OSQP's public calls; it starts from its own last point."""

    def __init__(self, owner: _OsqpPrepared) -> None:
        self.owner, self.solver = owner, owner.solver
        self.found: Any = None

    def load(self, program: Program) -> Any:
        assert isinstance(program, QuadraticProgram)
        return self.owner.vectors(program)

    def run(self, loaded: Any) -> None:
        self.solver.update(q=loaded[0], l=loaded[1], u=loaded[2])
        self.found = self.solver.solve(raise_error=False)

    def take(self, program: Program) -> Callable[[], Raw] | None:
        if self.found.x is None or not np.isfinite(self.found.x).all():
            return None
        kept = copy(self.found)
        for name in ("x", "y", "prim_inf_cert", "dual_inf_cert"):  # OSQP's own memory, which the next step writes to
            setattr(kept, name, np.array(getattr(self.found, name)))
        return partial(self.owner.answer, kept)


class _OsqpStream(Stream):
    """OSQP's own bindings without their Python wrapper, which takes longer to update than the solver does."""

    def __init__(self, owner: _OsqpPrepared, core: Any) -> None:
        self.owner, self.core = owner, core
        self.m, self.n = owner.A.shape
        self.boxes = owner.boxes.astype(np.int32)
        self.at = np.concatenate((np.arange(self.m, dtype=np.int32), self.boxes + np.int32(self.m)))
        self.q = np.empty(self.n)
        self.low, self.high = np.empty((2, self.m + owner.boxes.size))
        self.row_sides, self.box_sides = (
            (self.low[: self.m], self.high[: self.m]),
            (self.low[self.m :], self.high[self.m :]),
        )
        self.scaling = owner.scaling

    def push(self, q: Vector | None, rows: tuple[Vector, Vector] | None, boxes: tuple[Vector, Vector] | None) -> None:
        low, high, shrink = self.low, self.high, 1.0 / self.scaling.length
        if q is not None:
            gather(q, None, self.scaling.linear, self.q)
        linear = None if q is None else self.q
        if rows is None and boxes is None:
            self.core.update_data_vec(q=linear, l=None, u=None)
            return
        if rows is not None:
            for side, target in zip(rows, self.row_sides, strict=True):
                gather(side, None, shrink, target)
        if boxes is not None:
            for side, target in zip(boxes, self.box_sides, strict=True):
                gather(side, self.boxes, shrink, target)
        np.maximum(low, -_INFINITY, out=low)
        np.minimum(high, _INFINITY, out=high)
        self.core.update_data_vec(q=linear, l=low, u=high)

    def run(self) -> tuple[bool, str, Vector, Vector, int]:
        if self.owner.limited:
            self.owner.solver.update_settings(time_limit=_FOREVER)
            self.owner.limited = False
        core, scaling = self.core, self.scaling
        core.solve()
        info, found = core.info, core.solution
        w = np.zeros(self.m + self.n)
        scatter(found.y, None, 0, self.at, scaling.dual, w)
        word = info.status
        return word == "solved", word, found.x * scaling.length, w, info.iter
