"""PIQP: proximal interior point for quadratic programs; the default. No time limit, no certificate vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.backends.base import (
    Backend,
    Claim,
    Options,
    Prepared,
    Program,
    Raw,
    Scaling,
    WarmStart,
    apply_settings,
)
from crosswind.solvers.backends.stacking import Sides, stack
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
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
        settings.eps_rel = settings.eps_duality_gap_rel = max(1e-12, 0.02 * options.tol)
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
        word = self.solver.solve().name
        result: Any = self.solver.result
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
