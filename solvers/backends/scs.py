"""SCS: operator splitting over cones for large programs at modest accuracy; vectors are updated, starts are warm."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, Scaling, WarmStart
from crosswind.solvers.backends.keywords import merged
from crosswind.solvers.backends.one_sided import ConeOrder, OneSided
from crosswind.solvers.backends.stacking import Index, Sides
from crosswind.solvers.backends.triangles import lower_by_columns
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import Cone, ConeProgram, QuadraticProgram

__all__ = ["Scs"]

_CLAIMS = {1: Claim.SOLVED, -1: Claim.UNBOUNDED, -2: Claim.INFEASIBLE, -6: Claim.UNBOUNDED, -7: Claim.INFEASIBLE}
_KNOWN: dict[str, Any] = {
    "normalize": True,
    "adaptive_scale": True,
    "adaptive_diag_scale": True,
    "max_iters": 100_000,
    "scale": 0.1,
    "eps_abs": 1e-4,
    "eps_rel": 1e-4,
    "eps_infeas": 1e-7,
    "alpha": 1.5,
    "rho_x": 1e-6,
    "time_limit_secs": 0.0,
    "acceleration_lookback": 10,
    "acceleration_interval": 10,
    "acceleration_type_1": True,
    "acceleration_regularization": 1e-8,
    "acceleration_relaxation": 1.0,
    "verbose": False,
    "linear_solver": "qdldl",
}


class Scs(Backend):
    """SCS (O'Donoghue, Operator splitting for a homogeneous embedding of the LCP, SIAM J. Optim. 2021), MIT.

    Memory is what ends it: the factor of the KKT matrix is kept whole. Where P or A couples all entries of a
    semidefinite block of order k it has about k⁴/8 numbers, 0.2 GB at k = 100 and 16 GB at k = 300, and each iteration
    takes an eigendecomposition of k³.

    Notes
    -----
    QDLDL is asked for by name: the package would otherwise take MKL where it finds it, and bits would depend on the
    machine. Step sizes are adapted by iteration count. A time limit is a setting of the set-up, so a new limit sets up
    again (and starts from the former point where one is given).
    """

    name = "scs"
    module = "scs"
    licence = "MIT"
    kinds = frozenset({"qp", "soc", "psd"})
    warm_starts = True
    updates = True
    keeps_time = True
    gives_proofs = True
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic or cone program up."""
        return _ScsPrepared(program, options)


class _ScsPrepared(Prepared):
    def __init__(self, program: Program, options: Options) -> None:
        self.P, self.A = program.P, program.A
        self.scaling = scaling = Scaling.of(program)
        self.rows: OneSided | None = None
        self.cones: tuple[Cone, ...] = ()
        if isinstance(program, QuadraticProgram):
            self.rows = OneSided.of(program, boxes=True)
            equal, other = self.rows.matrices(program.A)
            matrix: Csc = sparse.vstack((equal, other), format="csc")
            self.cone: dict[str, Any] = {"z": equal.shape[0], "l": other.shape[0]}
        else:
            assert isinstance(program, ConeProgram)
            self.cones = program.cones
            order = ConeOrder.of(program.cones)
            lower = [rows[lower_by_columns(size)] for rows, size in zip(order.psd, order.orders, strict=True)]
            self.order: Index = np.concatenate((order.zero, order.nonneg, *order.soc, *lower))
            matrix = program.A[self.order]
            self.cone = {
                "z": order.zero.size,
                "l": order.nonneg.size,
                "q": [rows.size for rows in order.soc],
                "s": list(order.orders),
            }
        self.pins_threads = any(size > 16 for size in self.cone.get("s", ()))
        # SCS refuses a program without rows; 0'x ≤ 1 says nothing.
        self.padded = matrix.shape[0] == 0
        if self.padded:
            matrix = sparse.csc_matrix((1, program.n), dtype=np.float64)
            self.cone["l"] = 1
        self.matrix = sparse.csc_matrix(matrix)
        self.matrix.sort_indices()
        self.upper = sparse.csc_matrix(sparse.triu(program.P, format="csc") * scaling.quadratic)
        self.upper.sort_indices()
        self.q, self.b = self._vectors(program)
        tol = max(1e-12, 1e-3 * options.tol)
        ours = {
            "eps_abs": tol,
            "eps_rel": tol,
            "eps_infeas": 1e-9,
            "max_iters": 100_000,
            "verbose": False,
            "linear_solver": "qdldl",
        }
        self.settings = merged(_KNOWN, ours, options.settings, "scs")
        self.limit: float | None = None
        self.solver = self._set_up(options.time_limit)

    def _set_up(self, time_limit: float | None) -> Any:
        import scs

        self.limit = time_limit
        settings = dict(self.settings)
        if time_limit is not None:
            settings["time_limit_secs"] = float(time_limit)
        data = {"P": self.upper, "A": self.matrix, "b": self.b, "c": self.q}
        try:
            return scs.SCS(data, dict(self.cone), **settings)
        except ValueError as err:
            raise InvalidInput("SCS refuses the settings", field="settings", value=settings, remedy=str(err)) from err

    def _keeps(self, time_limit: float | None) -> bool:
        """Tell whether the set-up's limit is the asked one to a hundredth, so that a clock's jitter renews nothing."""
        if time_limit is None or self.limit is None:
            return time_limit is self.limit
        return time_limit <= self.limit <= 1.01 * time_limit

    def _vectors(self, program: Program) -> tuple[Vector, Vector]:
        if isinstance(program, QuadraticProgram):
            assert self.rows is not None
            b = np.concatenate(self.rows.vectors(program))
        else:
            b = program.b[self.order]
        if self.padded:
            b = np.ones(1)
        return program.q * self.scaling.linear, b / self.scaling.length

    def fits(self, program: Program) -> bool:
        if program.P is not self.P or program.A is not self.A or not self.scaling.suits(program):
            return False
        if isinstance(program, QuadraticProgram):
            return self.rows is not None and Sides.of(program).key == self.rows.sides.key
        return self.rows is None and program.cones == self.cones

    def update(self, program: Program) -> None:
        self.q, self.b = self._vectors(program)
        self.solver.update(b=self.b, c=self.q)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        if not self._keeps(time_limit):
            self.solver = self._set_up(time_limit)
        if self.pins_threads:
            from threadpoolctl import threadpool_limits

            # As for Clarabel: small eigenproblems by the thousand lose by a second BLAS thread, and so do equal bits.
            with threadpool_limits(limits=1, user_api="blas"):
                found = self._run(warm)
        else:
            found = self._run(warm)
        info = found["info"]
        value, word = int(info["status_val"]), str(info["status"])
        claim = _CLAIMS.get(value, Claim.FAILED)
        if value == 2:
            claim = Claim.TIME if "time" in word else Claim.ITERATIONS
        x, dual, slack = (np.asarray(found[key], dtype=np.float64) for key in ("x", "y", "s"))
        y, z = self._scattered(dual)
        raw = Raw(claim, word, x * self.scaling.length, y, z, iterations=int(info["iter"]))
        if claim is Claim.INFEASIBLE:
            raw.farkas = (y, z)
        elif claim is Claim.UNBOUNDED:
            raw.ray = x
        raw.y, raw.z = y * self.scaling.dual, z * self.scaling.dual
        if self.rows is None:
            raw.s = np.empty_like(slack)
            raw.s[self.order] = slack * self.scaling.length
        return raw

    def _run(self, warm: WarmStart | None) -> Any:
        if warm is None:
            return self.solver.solve(warm_start=False)
        x = warm.x / self.scaling.length
        dual = self._gathered(warm) / self.scaling.dual
        return self.solver.solve(warm_start=True, x=x, y=dual, s=self.b - self.matrix @ x)

    def _scattered(self, dual: Vector) -> tuple[Vector, Vector]:
        """Bring SCS's multipliers to the program's rows and boxes."""
        if self.rows is not None:
            count = self.rows.equalities
            return self.rows.multipliers(dual[:count], dual[count : count + self.rows.inequalities])
        y = np.zeros(self.A.shape[0])
        y[self.order] = dual[: self.order.size]
        return y, np.zeros(self.A.shape[1])

    def _gathered(self, warm: WarmStart) -> Vector:
        """Bring a starting point's multipliers to SCS's rows, each side its own."""
        if self.padded:
            return np.zeros(1)
        if self.rows is None:
            return warm.y[self.order]
        s = self.rows.sides
        return np.concatenate(
            (
                warm.y[s.equal],
                warm.z[s.fixed],
                np.maximum(warm.y[s.upper], 0.0),
                np.maximum(-warm.y[s.lower], 0.0),
                np.maximum(warm.z[s.box_upper], 0.0),
                np.maximum(-warm.z[s.box_lower], 0.0),
            )
        )


BACKEND = Scs
