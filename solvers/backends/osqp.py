"""OSQP: operator splitting, cheap warm-started solves of modest accuracy; the user's choice, never ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import (
    Backend,
    Claim,
    Options,
    Prepared,
    Program,
    Raw,
    Scaling,
    Stream,
    WarmStart,
    apply_settings,
)
from crosswind.solvers.backends.stacking import stack
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Osqp"]

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


BACKEND = Osqp


class _OsqpPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import osqp

        self.P, self.A = program.P, program.A
        self.scaling = scaling = Scaling.of(program)
        self.boxes = np.flatnonzero(np.isfinite(program.lb) | np.isfinite(program.ub))
        every = np.arange(program.m)
        matrix = stack(program.A, (("row", every, 1.0), ("box", self.boxes, 1.0)))
        upper = sparse.csc_matrix(sparse.triu(program.P, format="csc") * scaling.quadratic)
        q, low, high = self._vectors(program)
        self.limited = False
        self.solver = osqp.OSQP()
        tol = max(1e-11, 2e-3 * options.tol)
        settings = {
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
        probe = self.solver.ext.OSQPSettings()
        self.solver.ext.osqp_set_default_settings(probe)
        apply_settings(probe, options.settings, "osqp")
        self.solver.setup(upper, q, matrix, low, high, **(settings | options.settings))

    def _vectors(self, program: QuadraticProgram) -> tuple[Vector, Vector, Vector]:
        shrink = 1.0 / self.scaling.length
        low = np.concatenate((program.l, program.lb[self.boxes])) * shrink
        high = np.concatenate((program.u, program.ub[self.boxes])) * shrink
        return program.q * self.scaling.linear, np.maximum(low, -_INFINITY), np.minimum(high, _INFINITY)

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.scaling.suits(program)
            and np.array_equal(np.flatnonzero(np.isfinite(program.lb) | np.isfinite(program.ub)), self.boxes)
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        q, low, high = self._vectors(program)
        self.solver.update(q=q, l=low, u=high)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        scaling = self.scaling
        if warm is not None:
            dual = np.concatenate((warm.y, warm.z[self.boxes])) / scaling.dual
            self.solver.warm_start(x=warm.x / scaling.length, y=dual)
        if time_limit is not None or self.limited:
            self.solver.update_settings(time_limit=_FOREVER if time_limit is None else float(time_limit))
            self.limited = time_limit is not None
        found = self.solver.solve(raise_error=False)
        word = str(found.info.status)
        claim = _CLAIMS.get(word, Claim.FAILED)
        y, z = self._split(np.asarray(found.y))
        raw = Raw(
            claim,
            word,
            np.asarray(found.x) * scaling.length,
            y * scaling.dual,
            z * scaling.dual,
            iterations=int(found.info.iter),
        )
        if claim is Claim.INFEASIBLE:
            raw.farkas = self._split(np.asarray(found.prim_inf_cert))
        elif claim is Claim.UNBOUNDED:
            raw.ray = np.asarray(found.dual_inf_cert)
        return raw

    def stream(self) -> Stream | None:
        core = getattr(self.solver, "_solver", None)
        if not all(hasattr(core, name) for name in ("update_data_vec", "solve", "solution", "info")):
            return None
        return _OsqpStream(self, core)

    def _split(self, dual: Vector) -> tuple[Vector, Vector]:
        m, n = self.A.shape
        z = np.zeros(n)
        z[self.boxes] = dual[m:]
        return dual[:m].copy(), z


class _OsqpStream(Stream):
    """OSQP's own bindings without their Python wrapper, which takes longer to update than the solver does."""

    def __init__(self, owner: _OsqpPrepared, core: Any) -> None:
        self.owner, self.core = owner, core
        self.m, self.n = owner.A.shape
        self.at = self.m + owner.boxes
        self.low, self.high = np.empty((2, self.m + owner.boxes.size))
        self.scaling, self.filled = owner.scaling, False

    def push(self, q: Vector | None, rows: tuple[Vector, Vector] | None, boxes: tuple[Vector, Vector] | None) -> None:
        m, low, high, shrink = self.m, self.low, self.high, 1.0 / self.scaling.length
        linear = None if q is None else q * self.scaling.linear
        if rows is None and boxes is None:
            self.core.update_data_vec(q=linear, l=None, u=None)
            return
        if rows is not None:
            np.multiply(rows[0], shrink, low[:m])
            np.multiply(rows[1], shrink, high[:m])
        if boxes is not None:
            low[m:] = boxes[0][self.owner.boxes] * shrink
            high[m:] = boxes[1][self.owner.boxes] * shrink
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
        y = found.y * scaling.dual
        w[: self.m] = y[: self.m]
        w[self.at] = y[self.m :]
        word = info.status
        return word == "solved", word, found.x * scaling.length, w, info.iter
