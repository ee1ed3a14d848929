"""PIQP: proximal interior point for quadratic programs; the default. No time limit, no certificate vector."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

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
    apply_settings,
)
from crosswind.solvers.backends.stacking import Sides, stack
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.native import gather, scatter
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKENDS", "Piqp", "PiqpDense", "PiqpMultistage"]

_CLAIMS = {
    "PIQP_SOLVED": Claim.SOLVED,
    "PIQP_MAX_ITER_REACHED": Claim.ITERATIONS,
    "PIQP_PRIMAL_INFEASIBLE": Claim.INFEASIBLE,
    "PIQP_DUAL_INFEASIBLE": Claim.UNBOUNDED,
}


class Piqp(Backend):
    """PIQP (Schwan, Jiang, Kuhn, Jones: PIQP, CDC 2023), BSD-2-Clause; sparse, or dense where that is the faster one.

    Settings by PIQP's own names; ``kkt_solver`` also by its text, for example ``"sparse_ldlt_cond"``.
    """

    name = "piqp"
    module = "piqp"
    licence = "BSD-2-Clause"
    kinds = frozenset({"qp"})
    updates = True
    kkt_solver: str | None = None

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _PiqpPrepared(program, options, self.dense(program), self.kkt_solver)

    def dense(self, program: QuadraticProgram) -> bool:
        """Tell whether the matrices are given in full."""
        return _pays_dense(program)


class PiqpDense(Piqp):
    """PIQP with full matrices and a dense Cholesky factor, whatever the pattern."""

    name = "piqp:dense"

    def dense(self, program: QuadraticProgram) -> bool:
        """Return True."""
        return True


class PiqpMultistage(Piqp):
    """PIQP with the factorisation for programs of stages in a row, each coupled to its neighbours (Schwan et al. 2025).

    It finds the stages in the pattern itself: the order of the variables should be that of time.
    """

    name = "piqp:multistage"
    kkt_solver = "sparse_multistage"

    def dense(self, program: QuadraticProgram) -> bool:
        """Return False."""
        return False


BACKENDS = {kind.name: kind for kind in (Piqp, PiqpDense, PiqpMultistage)}


def _kkt_solver(piqp: Any, name: str) -> Any:
    known = piqp.KKTSolver.__members__
    if name not in known:
        raise InvalidInput(
            "PIQP has no such factorisation", field="kkt_solver", value=name, remedy=f"one of {', '.join(known)}"
        )
    return known[name]


def _pays_dense(program: QuadraticProgram) -> bool:
    """Tell whether dense factorisation is the faster one: 5 to 50 times for full matrices of 100 to 1000 variables."""
    n, m = program.n, program.m
    return 32 <= n <= 2000 and n * m <= 4_000_000 and program.P.nnz + program.A.nnz > 0.25 * n * (n + m)


class _PiqpPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options, dense: bool, kkt_solver: str | None) -> None:
        import piqp

        self.sides = sides = Sides.of(program)
        self.scaling = scaling = Scaling.of(program)
        # A variable fixed by lb = ub has no interior: it becomes an equality row.
        self.ranged = np.union1d(sides.upper, sides.lower)
        self.dense = dense
        self.solver = piqp.DenseSolver() if self.dense else piqp.SparseSolver()
        settings = self.solver.settings
        settings.eps_abs = settings.eps_duality_gap_abs = max(1e-12, 1e-3 * options.tol)
        settings.eps_rel = max(1e-12, 0.02 * options.tol)
        # Its gap is relative to terms with loose bounds in them, ours is not: without this, one program in fourteen is
        # solved twice; with it all run 8 % more iterations.
        settings.eps_duality_gap_rel = max(1e-12, 1e-3 * options.tol)
        chosen = ({"kkt_solver": kkt_solver} if kkt_solver else {}) | options.settings
        if isinstance(chosen.get("kkt_solver"), str):
            chosen["kkt_solver"] = _kkt_solver(piqp, chosen["kkt_solver"])
        apply_settings(settings, chosen, "piqp")
        # A fresh copy in any case: the binding refuses read-only arrays.
        P = program.P * scaling.quadratic
        ranged = stack(program.A, (("row", self.ranged, 1.0),))
        equal = stack(program.A, (("row", sides.equal, 1.0), ("box", sides.fixed, 1.0)))
        if self.dense:
            P, equal, ranged = P.toarray(), equal.toarray(), ranged.toarray()
        v = self._vectors(program)
        self.solver.setup(P, v["c"], equal, v["b"], ranged, v["h_l"], v["h_u"], v["x_l"], v["x_u"])
        self.P, self.A = program.P, program.A

    def _vectors(self, program: QuadraticProgram) -> dict[str, Vector]:
        sides, shrink = self.sides, 1.0 / self.scaling.length
        low, high = program.lb * shrink, program.ub * shrink
        low[sides.fixed], high[sides.fixed] = -np.inf, np.inf
        return {
            "c": program.q * self.scaling.linear,
            "b": np.concatenate((program.l[sides.equal], program.lb[sides.fixed])) * shrink,
            "h_l": program.l[self.ranged] * shrink,
            "h_u": program.u[self.ranged] * shrink,
            "x_l": low,
            "x_u": high,
        }

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.scaling.suits(program)
            and Sides.of(program).key == self.sides.key
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        self.solver.update(**self._vectors(program))

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        return self.answer(self.solver.solve(), self.solver.result)

    def answer(self, status: Any, result: Any) -> Raw:
        """Return what PIQP found in the program's terms."""
        word = status.name
        sides, dual = self.sides, self.scaling.dual
        y = np.zeros(self.A.shape[0])
        equal = np.asarray(result.y)
        y[sides.equal] = equal[: sides.equal.size]
        y[self.ranged] = np.asarray(result.z_u) - np.asarray(result.z_l)
        z = np.asarray(result.z_bu) - np.asarray(result.z_bl)
        z[sides.fixed] = equal[sides.equal.size :]
        return Raw(
            claim=_CLAIMS.get(word, Claim.FAILED),
            word=word,
            x=np.asarray(result.x) * self.scaling.length,
            y=y * dual,
            z=z * dual,
            iterations=int(result.info.iter),
        )

    def direct(self, time_limit: float | None) -> Direct | None:
        return _PiqpDirect(self)

    def stream(self) -> Stream | None:
        return _PiqpStream(self)


_PARTS = ("x", "y", "z_l", "z_u", "z_bl", "z_bu")


class _PiqpDirect(Direct):
    """PIQP's own calls; it takes no start."""

    def __init__(self, owner: _PiqpPrepared) -> None:
        self.owner, self.solver = owner, owner.solver
        self.status: Any = None
        self.x: Any = None

    def load(self, program: Program) -> Any:
        assert isinstance(program, QuadraticProgram)
        return self.owner._vectors(program)

    def run(self, loaded: Any) -> None:
        self.solver.update(**loaded)
        self.status = self.solver.solve()
        self.x = self.solver.result.x

    def take(self, program: Program) -> Callable[[], Raw] | None:
        result = self.solver.result
        parts = {name: np.array(getattr(result, name)) for name in _PARTS}  # the next step writes over them
        if not np.isfinite(parts["x"]).all():
            return None
        info = SimpleNamespace(iter=int(result.info.iter))
        return partial(self.owner.answer, self.status, SimpleNamespace(**parts, info=info))


class _PiqpStream(Stream):
    """Only what changed is sent, and only what is used is fetched."""

    def __init__(self, owner: _PiqpPrepared) -> None:
        import piqp

        self.solver, self.scaling, sides = owner.solver, owner.scaling, owner.sides
        self.m, self.n = owner.A.shape
        self.rows_equal = sides.equal.size
        self.equal, self.ranged, self.fixed = (
            index.astype(np.int32) for index in (sides.equal, owner.ranged, sides.fixed)
        )
        self.in_box = np.arange(self.m, self.m + self.n, dtype=np.int32)
        self.fixed_box = self.fixed + np.int32(self.m)
        self.whole = self.rows_equal + self.ranged.size == self.m  # every row has a multiplier
        # PIQP copies what it is given.
        self.c, self.x_l, self.x_u = np.empty(self.n), np.empty(self.n), np.empty(self.n)
        self.h_l, self.h_u = np.empty(self.ranged.size), np.empty(self.ranged.size)
        self.b = np.empty(self.rows_equal + self.fixed.size)
        self.b_rows, self.b_boxes = self.b[: self.rows_equal], self.b[self.rows_equal :]
        self.done = piqp.PIQP_SOLVED

    def push(self, q: Vector | None, rows: tuple[Vector, Vector] | None, boxes: tuple[Vector, Vector] | None) -> None:
        shrink, new = 1.0 / self.scaling.length, {}
        if q is not None:
            gather(q, None, self.scaling.linear, self.c)
            new["c"] = self.c
        if rows is not None:
            low, high = rows
            if self.rows_equal:
                gather(low, self.equal, shrink, self.b_rows)
            if self.ranged.size:
                gather(low, self.ranged, shrink, self.h_l)
                gather(high, self.ranged, shrink, self.h_u)
                new["h_l"], new["h_u"] = self.h_l, self.h_u
        if boxes is not None:
            gather(boxes[0], None, shrink, self.x_l)
            gather(boxes[1], None, shrink, self.x_u)
            if self.fixed.size:
                gather(self.x_l, self.fixed, 1.0, self.b_boxes)
                self.x_l[self.fixed], self.x_u[self.fixed] = -np.inf, np.inf
            new["x_l"], new["x_u"] = self.x_l, self.x_u
        if self.b.size and (rows is not None or boxes is not None):
            new["b"] = self.b
        self.solver.update(**new)

    def run(self) -> tuple[bool, str, Vector, Vector, int]:
        status = self.solver.solve()
        found: Any = self.solver.result
        dual = self.scaling.dual
        w = np.empty(self.m + self.n) if self.whole else np.zeros(self.m + self.n)
        if self.ranged.size:
            scatter(found.z_u, found.z_l, 0, self.ranged, dual, w)
        scatter(found.z_bu, found.z_bl, 0, self.in_box, dual, w)
        if self.b.size:
            equal = found.y
            scatter(equal, None, 0, self.equal, dual, w)
            if self.fixed.size:
                scatter(equal, None, self.rows_equal, self.fixed_box, dual, w)
        solved = status == self.done
        return solved, "PIQP_SOLVED" if solved else status.name, found.x * self.scaling.length, w, found.info.iter
