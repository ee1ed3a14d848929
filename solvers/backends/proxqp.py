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
    say which. Boxes become rows: the dense method could take them as they are, but then refuses a starting point.

    Notes
    -----
    At thresholds of 1e-5 it calls 5 of 100 ordinary feasible programs infeasible (its default is 1e-4), at 1e-9 one.
    Tight ones let it grind on where there is no feasible point, so a run that ends at its iteration limit is looked at:
    multipliers that run away along a Farkas direction are handed over as a claim. Some programs without a point still
    end at the limit, since its merit function turns such multipliers down. It has no time limit.
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
        self.boxed = np.union1d(sides.box_upper, sides.box_lower)
        P: Any = sparse.csc_matrix(program.P * scaling.quadratic)
        equal: Any = stack(program.A, (("row", sides.equal, 1.0), ("box", sides.fixed, 1.0)))
        other: Any = stack(program.A, (("row", self.ranged, 1.0), ("box", self.boxed, 1.0)))
        v = self._vectors(program)
        if self.dense:
            P, equal, other = P.toarray(), equal.toarray(), other.toarray()
            self.solver = proxqp.dense.QP(
                program.n,
                equal.shape[0],
                other.shape[0],
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
        # Ordinary programs take 5 to 25 outer steps; the defaults, 10 000 of 1500 each, can take minutes.
        settings.max_iter = settings.max_iter_in = 200
        settings.verbose = False
        apply_settings(settings, options.settings, "proxqp")
        self.equal, self.other, self.v = equal, other, v
        self.solver.init(H=P, g=v["g"], A=equal, b=v["b"], C=other, l=v["l"], u=v["u"])

    def _vectors(self, program: QuadraticProgram) -> dict[str, Vector]:
        sides, shrink = self.sides, 1.0 / self.scaling.length
        low, high = program.l[self.ranged] * shrink, program.u[self.ranged] * shrink
        low = np.concatenate((low, program.lb[self.boxed] * shrink))
        high = np.concatenate((high, program.ub[self.boxed] * shrink))
        return {
            "g": program.q * self.scaling.linear,
            "b": np.concatenate((program.l[sides.equal], program.lb[sides.fixed])) * shrink,
            "l": np.maximum(low, -_INFINITY),
            "u": np.minimum(high, _INFINITY),
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
        self.v = v = self._vectors(program)
        self.solver.update(g=v["g"], b=v["b"], l=v["l"], u=v["u"])

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        sides, scaling = self.sides, self.scaling
        if warm is None:
            self.solver.settings.initial_guess = self.starts.EQUALITY_CONSTRAINED_INITIAL_GUESS
            self.solver.solve()
        else:
            self.solver.settings.initial_guess = self.starts.WARM_START
            equal = np.concatenate((warm.y[sides.equal], warm.z[sides.fixed]))
            other = np.concatenate((warm.y[self.ranged], warm.z[self.boxed]))
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
        if claim is Claim.ITERATIONS and self._runs_away(equal, other):
            claim, word = Claim.INFEASIBLE, f"{word}, multipliers on a Farkas direction"
        raw = Raw(claim, word, x * scaling.length, y * scaling.dual, z * scaling.dual, iterations=int(found.info.iter))
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        return raw

    def _runs_away(self, equal: Vector, other: Vector) -> bool:
        """Tell whether the multipliers are large, cancel in the columns, and pay for no point within the limits."""
        top = max(float(np.max(np.abs(equal), initial=0.0)), float(np.max(np.abs(other), initial=0.0)))
        if not 1e3 < top < np.inf:
            return False
        equal, other = equal / top, other / top
        side = np.where(other > 0.0, self.v["u"], self.v["l"])
        other = np.where(np.abs(side) < _INFINITY, other, 0.0)
        left = self.equal.T @ equal + self.other.T @ other
        return float(np.max(np.abs(left))) <= 1e-3 and float(self.v["b"] @ equal + side @ other) < 0.0


BACKENDS: dict[str, Callable[[], Backend]] = {
    "proxqp": Proxqp,
    "proxqp:dense": lambda: Proxqp("dense"),
    "proxqp:sparse": lambda: Proxqp("sparse"),
}
