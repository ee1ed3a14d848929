"""cvxpy as the bridge to every solver it knows and we do not wrap; slow to import, rebuilt for each solve."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
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
    WarmStart,
)
from crosswind.solvers.backends.stacking import Sides
from crosswind.solvers.cones import blocks, smat, svec
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram

__all__ = ["BACKENDS", "CvxpyBridge", "CvxpyDpp"]

_CLAIMS = {
    "optimal": Claim.SOLVED,
    "optimal_inaccurate": Claim.ALMOST,
    "infeasible": Claim.INFEASIBLE,
    "infeasible_inaccurate": Claim.INFEASIBLE,
    "unbounded": Claim.UNBOUNDED,
    "unbounded_inaccurate": Claim.UNBOUNDED,
    "user_limit": Claim.ITERATIONS,
}
# How each solver calls its tolerances; one that is not listed runs at its own default and is graded like all others.
_TOLERANCES = {
    "CLARABEL": ("tol_feas", "tol_gap_abs", "tol_gap_rel"),
    "OSQP": ("eps_abs", "eps_rel"),
    "SCS": ("eps_abs", "eps_rel"),
    "PIQP": ("eps_abs", "eps_rel"),
    "PROXQP": ("eps_abs", "eps_rel"),
    "ECOS": ("abstol", "reltol", "feastol"),
}


class CvxpyBridge(Backend):
    """Any solver that cvxpy finds, named as in ``cvxpy.installed_solvers()`` (Diamond and Boyd, JMLR 2016)."""

    name = "cvxpy"
    module = "cvxpy"
    licence = "Apache-2.0 (the solver behind it has its own)"
    kinds = frozenset({"qp", "soc", "psd"})

    def __init__(self, solver: str | None = None) -> None:
        self.solver = solver.upper() if solver else None
        self.name = f"cvxpy:{self.solver}" if self.solver else "cvxpy"

    @classmethod
    def variant(cls, tail: str) -> CvxpyBridge:
        """Return the bridge to the solver that cvxpy calls ``tail``."""
        return cls(tail)

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Write the program in cvxpy.

        Raises
        ------
        InvalidInput
            When cvxpy does not know the solver or does not find it installed.
        """
        import cvxpy

        known = cvxpy.installed_solvers()
        if self.solver is not None and self.solver not in known:
            raise InvalidInput(
                "cvxpy does not find this solver",
                field="solver",
                value=self.solver,
                remedy=f"one of {', '.join(known)}",
            )
        return _CvxpyPrepared(program, options, self.solver or "CLARABEL")


class CvxpyDpp(Backend):
    """A problem that a cvxpy user compiles once: vectors as parameters (DPP), solved by OSQP, warm, at what is asked.

    As with ``osqp:direct``, eps_abs = eps_rel = the asked accuracy and data in their own units, which is how such a
    problem is written; settings are OSQP's. Equalities, rows and bounds are each one constraint, the leanest form there
    is: a problem of many small constraints compiles longer and solves no faster.
    """

    name = "cvxpy:dpp"
    module = "cvxpy"
    licence = "Apache-2.0 (OSQP too)"
    warm_starts = True
    updates = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Write the problem with parameters; cvxpy compiles it at the first solve."""
        assert isinstance(program, QuadraticProgram)
        return _DppPrepared(program, options)


BACKENDS = {"cvxpy": CvxpyBridge, CvxpyDpp.name: CvxpyDpp}


class _CvxpyPrepared(Prepared):
    def __init__(self, program: Program, options: Options, solver: str) -> None:
        import cvxpy as cp

        self.program, self.options, self.solver = program, options, solver
        self.scaling = scaling = Scaling.of(program)
        self.x = x = cp.Variable(program.n)
        cost: Any = (program.q * scaling.linear) @ x
        if program.P.nnz:
            cost = cost + 0.5 * cp.quad_form(x, cp.psd_wrap(program.P * scaling.quadratic))
        self.constraints = self._rows(cp) if isinstance(program, QuadraticProgram) else self._cones(cp)
        self.problem = cp.Problem(cp.Minimize(cost), self.constraints)

    def _rows(self, cp: Any) -> list[Any]:
        program = self.program
        assert isinstance(program, QuadraticProgram)
        self.sides = s = Sides.of(program)
        x, A, shrink = self.x, program.A.tocsr(), 1.0 / self.scaling.length
        parts: tuple[tuple[Any, Any], ...] = (
            (s.equal, lambda i: A[i] @ x == program.l[i] * shrink),
            (s.fixed, lambda i: x[i] == program.lb[i] * shrink),
            (s.upper, lambda i: A[i] @ x <= program.u[i] * shrink),
            (s.lower, lambda i: A[i] @ x >= program.l[i] * shrink),
            (s.box_upper, lambda i: x[i] <= program.ub[i] * shrink),
            (s.box_lower, lambda i: x[i] >= program.lb[i] * shrink),
        )
        return [build(index) for index, build in parts if index.size]

    def _cones(self, cp: Any) -> list[Any]:
        program = self.program
        assert isinstance(program, ConeProgram)
        A = program.A.tocsr()
        out: list[Any] = []
        for cone, rows in blocks(program.cones):
            slack = program.b[rows] / self.scaling.length - A[rows] @ self.x
            if cone.kind == "zero":
                out.append(slack == 0.0)
            elif cone.kind == "nonneg":
                out.append(slack >= 0.0)
            elif cone.kind == "soc":
                out.append(cp.SOC(slack[0], slack[1:]))
            else:
                # Column j of the map is the flattened matrix of the j-th svec coordinate.
                unit = np.stack([smat(e).ravel(order="F") for e in np.eye(cone.rows)], axis=1)
                out.append(cp.reshape(unit @ slack, (cone.size, cone.size), order="F") >> 0)
        return out

    def fits(self, program: Program) -> bool:
        return False

    def update(self, program: Program) -> None:
        raise NotImplementedError("cvxpy programs are rebuilt")

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        program = self.program
        tol = max(1e-10, 0.05 * self.options.tol)
        settings = dict.fromkeys(_TOLERANCES.get(self.solver, ()), tol) | self.options.settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": our certificate says how inaccurate
            self.problem.solve(solver=self.solver, **settings)
        word = str(self.problem.status)
        x = self.x.value
        y, z = np.zeros(program.m), np.zeros(program.n)
        if x is None:
            nothing = np.full(program.n, np.nan)
            return Raw(_CLAIMS.get(word, Claim.FAILED), word, nothing, y * np.nan, nothing)
        if isinstance(program, QuadraticProgram):
            _row_duals(self.sides, self.constraints, y, z)
        else:
            self._cone_duals(program, y)
        statistics = self.problem.solver_stats
        factor = self.scaling.dual
        return Raw(
            _CLAIMS.get(word, Claim.FAILED),
            word,
            np.asarray(x, dtype=np.float64) * self.scaling.length,
            y * factor,
            z * factor,
            iterations=int(statistics.num_iters or 0) if statistics is not None else 0,
        )

    def _cone_duals(self, program: ConeProgram, y: Vector) -> None:
        for (cone, rows), constraint in zip(blocks(program.cones), self.constraints, strict=True):
            value = constraint.dual_value
            if cone.kind == "zero":
                # The constraint is b − Ax = 0: its multiplier has the opposite sign of ours.
                y[rows] = -_flat(value, cone.rows)
            elif cone.kind == "nonneg":
                y[rows] = _flat(value, cone.rows)
            elif cone.kind == "soc":
                y[rows] = np.concatenate([np.ravel(part) for part in value]) if value is not None else np.nan
            else:
                y[rows] = svec(value) if value is not None else np.nan


class _DppPrepared(Prepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        import cvxpy as cp

        self.program = program
        self.sides = s = Sides.of(program)
        self.settings = {"eps_abs": options.tol, "eps_rel": options.tol, "max_iter": 100_000} | options.settings
        A = program.A.tocsr()
        self.x = x = cp.Variable(program.n)
        self.q = cp.Parameter(program.n)
        self.bounds = [cp.Parameter(index.size) for index in self._order() if index.size]
        bound = iter(self.bounds)
        parts: tuple[tuple[Any, Any], ...] = (
            (s.equal, lambda i: A[i] @ x == next(bound)),
            (s.fixed, lambda i: x[i] == next(bound)),
            (s.upper, lambda i: A[i] @ x <= next(bound)),
            (s.lower, lambda i: A[i] @ x >= next(bound)),
            (s.box_upper, lambda i: x[i] <= next(bound)),
            (s.box_lower, lambda i: x[i] >= next(bound)),
        )
        self.constraints = [build(index) for index, build in parts if index.size]
        cost: Any = self.q @ x
        if program.P.nnz:
            cost = cost + 0.5 * cp.quad_form(x, cp.psd_wrap(program.P))
        self.problem = cp.Problem(cp.Minimize(cost), self.constraints)
        self.values = self.vectors(program)

    def _order(self) -> tuple[Any, ...]:
        s = self.sides
        return s.equal, s.fixed, s.upper, s.lower, s.box_upper, s.box_lower

    def vectors(self, program: QuadraticProgram) -> list[Vector]:
        """Return q and the values of the bounds, in the order of the constraints."""
        sides = (program.l, program.lb, program.u, program.l, program.ub, program.lb)
        return [program.q, *(v[i] for v, i in zip(sides, self._order(), strict=True) if i.size)]

    def fits(self, program: Program) -> bool:
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.program.P
            and program.A is self.program.A
            and Sides.of(program).key == self.sides.key
        )

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        self.program, self.values = program, self.vectors(program)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        if time_limit is not None:
            self.settings["time_limit"] = time_limit
        self.run(warm is not None)
        return self.answer()

    def run(self, warm: bool) -> None:
        """Set the parameters and solve."""
        self.q.value = self.values[0]
        for parameter, value in zip(self.bounds, self.values[1:], strict=True):
            parameter.value = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.problem.solve(solver="OSQP", warm_start=warm, **self.settings)

    def answer(self) -> Raw:
        """Return what was found in the program's terms."""
        program, word, x = self.program, str(self.problem.status), self.x.value
        y, z = np.zeros(program.m), np.zeros(program.n)
        if x is None:
            nothing = np.full(program.n, np.nan)
            return Raw(_CLAIMS.get(word, Claim.FAILED), word, nothing, y * np.nan, nothing)
        _row_duals(self.sides, self.constraints, y, z)
        statistics = self.problem.solver_stats
        count = int(statistics.num_iters or 0) if statistics is not None else 0
        return Raw(_CLAIMS.get(word, Claim.FAILED), word, np.asarray(x, dtype=np.float64), y, z, iterations=count)

    def direct(self, time_limit: float | None) -> Direct | None:
        if time_limit is not None:
            self.settings["time_limit"] = time_limit
        return _DppDirect(self)


class _DppDirect(Direct):
    """Parameters in, ``problem.solve``, ``x.value`` out."""

    def __init__(self, owner: _DppPrepared) -> None:
        self.owner = owner
        self.x: Any = None

    def load(self, program: Program) -> Any:
        assert isinstance(program, QuadraticProgram)
        return self.owner.vectors(program)

    def run(self, loaded: Any) -> None:
        self.owner.values = loaded
        self.owner.run(warm=True)
        self.x = self.owner.x.value

    def take(self, program: Program) -> Callable[[], Raw] | None:
        found = self.owner.answer()
        return partial(_as_it_is, found) if np.isfinite(found.x).all() else None


def _as_it_is(found: Raw) -> Raw:
    return found


def _row_duals(s: Sides, constraints: list[Any], y: Vector, z: Vector) -> None:
    """Add cvxpy's multipliers of rows and boxes to y and z."""
    targets: tuple[tuple[Vector, Any, float], ...] = ((y, s.equal, 1.0), (z, s.fixed, 1.0), (y, s.upper, 1.0))
    targets += ((y, s.lower, -1.0), (z, s.box_upper, 1.0), (z, s.box_lower, -1.0))
    present = [target for target in targets if target[1].size]
    for (out, index, sign), constraint in zip(present, constraints, strict=True):
        out[index] += sign * _flat(constraint.dual_value, index.size)


def _flat(value: Any, size: int) -> Vector:
    return np.full(size, np.nan) if value is None else np.broadcast_to(np.ravel(value), (size,)).astype(np.float64)
