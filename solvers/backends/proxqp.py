"""ProxQP: proximal augmented Lagrangian for quadratic programs, dense or sparse; warm starts and vector updates."""

from __future__ import annotations

from collections.abc import Callable
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
    WarmStart,
    apply_settings,
)
from crosswind.solvers.backends.stacking import Sides, stack
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Proxqp"]

_INFINITY = 1e20  # ProxQP's own
_CLAIMS = {
    "PROXQP_SOLVED": Claim.SOLVED,
    "PROXQP_SOLVED_CLOSEST_PRIMAL_FEASIBLE": Claim.ALMOST,
    "PROXQP_MAX_ITER_REACHED": Claim.ITERATIONS,
    "PROXQP_PRIMAL_INFEASIBLE": Claim.INFEASIBLE,
    "PROXQP_DUAL_INFEASIBLE": Claim.UNBOUNDED,
}


class Proxqp(Backend):
    """ProxQP (Bambade, El-Kazdadi, Taylor, Carpentier, RSS 2022), BSD-2-Clause.

    Plain ``"proxqp"`` chooses the dense method for small or full programs, ``"proxqp:dense"`` and ``"proxqp:sparse"``
    say which. The dense method takes boxes as they are, the sparse one as rows.
    """

    name = "proxqp"
    module = "proxsuite"
    licence = "BSD-2-Clause"
    warm_starts = True
    updates = True
    gives_proofs = True

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        if kind:
            self.name = f"proxqp:{kind}"

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up."""
        assert isinstance(program, QuadraticProgram)
        return _ProxqpPrepared(program, options, self.kind)


def _pays_dense(program: QuadraticProgram) -> bool:
    n, m = program.n, program.m
    return n + m <= 200 or (n + m <= 2000 and program.P.nnz + program.A.nnz > 0.25 * n * (n + m))


class _ProxqpPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options, kind: str) -> None:
        from proxsuite import proxqp

        self.P, self.A = program.P, program.A
        self.sides = sides = Sides.of(program)
        self.scaling = scaling = Scaling.of(program)
        self.dense = kind == "dense" or (not kind and _pays_dense(program))
        self.starts = proxqp.InitialGuess
        self.ranged = np.union1d(sides.upper, sides.lower)
        boxed = np.union1d(sides.box_upper, sides.box_lower)
        pieces: tuple[Any, ...] = (("row", self.ranged, 1.0),)
        if not self.dense:
            pieces += (("box", boxed, 1.0),)
        # Where the multipliers of boxes follow those of the rows: every variable, or the bounded ones.
        self.boxed = np.arange(program.n) if self.dense else boxed
        P: Any = sparse.csc_matrix(program.P * scaling.quadratic)
        equal: Any = stack(program.A, (("row", sides.equal, 1.0), ("box", sides.fixed, 1.0)))
        other: Any = stack(program.A, pieces)
        v = self._vectors(program)
        if self.dense:
            P, equal, other = P.toarray(), equal.toarray(), other.toarray()
            self.solver = proxqp.dense.QP(
                program.n,
                equal.shape[0],
                other.shape[0],
                box_constraints=True,
                # The automatic choice is by size alone today; saying it keeps bits the same tomorrow.
                dense_backend=proxqp.dense.DenseBackend.PrimalDualLDLT,
            )
        else:
            self.solver = proxqp.sparse.QP(program.n, equal.shape[0], other.shape[0])
        settings = self.solver.settings
        settings.eps_abs = max(1e-11, 1e-4 * options.tol)
        settings.eps_rel = 0.0
        settings.check_duality_gap = True
        settings.eps_duality_gap_abs = max(1e-11, 1e-2 * options.tol)
        settings.eps_duality_gap_rel = max(1e-12, 1e-2 * options.tol)
        # The defaults (1e-4) call feasible programs infeasible; our own check wants a clean vector anyway.
        settings.eps_primal_inf = settings.eps_dual_inf = 1e-9
        settings.max_iter = 2000
        settings.verbose = False
        apply_settings(settings, options.settings, "proxqp")
        self.solver.init(H=P, g=v["g"], A=equal, b=v["b"], C=other, l=v["l"], u=v["u"], **_boxes(v))

    def _vectors(self, program: QuadraticProgram) -> dict[str, Vector]:
        sides, shrink = self.sides, 1.0 / self.scaling.length
        low, high = program.l[self.ranged] * shrink, program.u[self.ranged] * shrink
        box_low, box_high = program.lb * shrink, program.ub * shrink
        out = {
            "g": program.q * self.scaling.linear,
            "b": np.concatenate((program.l[sides.equal], program.lb[sides.fixed])) * shrink,
        }
        if self.dense:
            # Fixed variables are equalities: their box stays open.
            box_low[sides.fixed], box_high[sides.fixed] = -np.inf, np.inf
            out["l_box"], out["u_box"] = _finite(box_low, box_high)
        else:
            low, high = np.concatenate((low, box_low[self.boxed])), np.concatenate((high, box_high[self.boxed]))
        out["l"], out["u"] = _finite(low, high)
        return out

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
        v = self._vectors(program)
        self.solver.update(g=v["g"], b=v["b"], l=v["l"], u=v["u"], **_boxes(v))

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        sides, scaling = self.sides, self.scaling
        if warm is None:
            self.solver.settings.initial_guess = self.starts.EQUALITY_CONSTRAINED_INITIAL_GUESS
            self.solver.solve()
        else:
            self.solver.settings.initial_guess = self.starts.WARM_START
            equal = np.concatenate((warm.y[sides.equal], warm.z[sides.fixed]))
            box = warm.z[self.boxed].copy()
            if self.dense:
                box[sides.fixed] = 0.0
            other = np.concatenate((warm.y[self.ranged], box))
            self.solver.solve(warm.x / scaling.length, equal / scaling.dual, other / scaling.dual)
        found = self.solver.results
        word = found.info.status.name
        claim = _CLAIMS.get(word, Claim.FAILED)
        y, z = np.zeros(self.A.shape[0]), np.zeros(self.A.shape[1])
        equal, other = np.asarray(found.y), np.asarray(found.z)
        y[sides.equal] = equal[: sides.equal.size]
        y[self.ranged] = other[: self.ranged.size]
        z[self.boxed] = other[self.ranged.size :]
        z[sides.fixed] = equal[sides.equal.size :]
        x = np.array(found.x)
        raw = Raw(claim, word, x * scaling.length, y * scaling.dual, z * scaling.dual, iterations=int(found.info.iter))
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw


def _boxes(vectors: dict[str, Vector]) -> dict[str, Vector]:
    return {key: value for key, value in vectors.items() if key.endswith("_box")}


def _finite(low: Vector, high: Vector) -> tuple[Vector, Vector]:
    return np.maximum(low, -_INFINITY), np.minimum(high, _INFINITY)


BACKENDS: dict[str, Callable[[], Backend]] = {
    "proxqp": Proxqp,
    "proxqp:dense": lambda: Proxqp("dense"),
    "proxqp:sparse": lambda: Proxqp("sparse"),
}
