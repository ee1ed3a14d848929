"""qpax: a dense interior point written in jax, compiled once per shape; iterates only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from crosswind.solvers.backends.base import Backend, Claim, Options, Prepared, Program, Raw, WarmStart
from crosswind.solvers.backends.one_sided import OneSidedPrepared
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.program import QuadraticProgram

__all__ = ["BACKEND", "Qpax"]

_CHOICES: dict[str, tuple[str, ...]] = {"backend": ("e", "i"), "linear_solver": ("cholesky", "qr")}
_MAX_ITER = 100
# The explicit method keeps slacks and multipliers above 1.5e-8, so that it never meets a residual much below 1e-7.
_EXPLICIT = 1e-6


class Qpax(Backend):
    """qpax (Tracy and Manchester, On the differentiability of the primal-dual interior-point method, 2024), Apache-2.0.

    Settings: ``backend`` ("e" explicit, "i" implicit), ``linear_solver`` ("cholesky", "qr"), ``max_iter``,
    ``solver_tol``. It factorises P + G'DG and E(P + G'DG)⁻¹E', so that dependent equalities end in NaN: with
    ``solver_tol=1e-8`` the explicit method solves all of the tests' hundred ordinary programs and 70 of the hundred
    degenerate ones. A compilation takes seconds for each new shape.
    """

    name = "qpax"
    module = "qpax"
    licence = "Apache-2.0"
    kinds = frozenset({"qp"})
    updates = True
    releases_gil = True

    def prepare(self, program: Program, options: Options) -> Prepared:
        """Set a quadratic program up and compile for its shape, so that no solve pays for it."""
        assert isinstance(program, QuadraticProgram)
        return _QpaxPrepared(program, options)


def _settings(options: Options) -> dict[str, Any]:
    """Return qpax's settings: the explicit method where its floor under the slacks lets it converge, else the other."""
    explicit = options.settings.get("backend", "e" if options.tol >= _EXPLICIT else "i") == "e"
    chosen: dict[str, Any] = {
        "backend": "e" if explicit else "i",
        "linear_solver": "cholesky",
        "max_iter": _MAX_ITER,
        "solver_tol": max(0.1 * _EXPLICIT, 0.1 * options.tol) if explicit else max(1e-12, 0.01 * options.tol),
    }
    for key, value in options.settings.items():
        if key not in chosen:
            raise InvalidInput(
                "qpax has no setting of this name", field=key, value=value, remedy=f"one of {', '.join(chosen)}"
            )
        if key in _CHOICES and value not in _CHOICES[key]:
            raise InvalidInput(
                "qpax does not take this value", field=key, value=value, remedy=f"one of {', '.join(_CHOICES[key])}"
            )
        if key not in _CHOICES and not (isinstance(value, (int, float)) and value > 0):
            raise InvalidInput("must be positive", field=key, value=value, remedy="give a positive number")
        chosen[key] = value
    return chosen


@lru_cache(maxsize=64)
def _compiled(n: int, equal: int, other: int, backend: str, linear_solver: str) -> Any:
    """Compile for one shape, in float64 by the local switch; tolerance and iteration limit stay arguments."""
    import jax
    import qpax

    method = qpax.LinearSolver(linear_solver)

    def run(Q: Any, q: Any, A: Any, b: Any, G: Any, h: Any, tol: Any, limit: Any) -> Any:
        return qpax.solve_qp(Q, q, A, b, G, h, backend=backend, solver_tol=tol, max_iter=limit, linear_solver=method)

    shapes = ((n, n), (n,), (equal, n), (equal,), (other, n), (other,), ())
    with jax.enable_x64(True):
        shaped: Any = jax.ShapeDtypeStruct
        arguments = [shaped(shape, np.float64) for shape in shapes]
        return jax.jit(run).lower(*arguments, shaped((), np.int64)).compile()


class _QpaxPrepared(OneSidedPrepared):
    def __init__(self, program: QuadraticProgram, options: Options) -> None:
        super().__init__(program, boxes=True)
        chosen = _settings(options)
        E, G = self.rows.matrices(program.A)
        self.limit = np.int64(chosen["max_iter"])
        self.tol = np.float64(chosen["solver_tol"])
        self.matrices = ((program.P * self.scaling.quadratic).toarray(), E.toarray(), G.toarray())
        self.values = self.vectors(program)
        self.run = _compiled(program.n, E.shape[0], G.shape[0], chosen["backend"], chosen["linear_solver"])

    def update(self, program: Program) -> None:
        assert isinstance(program, QuadraticProgram)
        self.values = self.vectors(program)

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        import jax

        (Q, E, G), (q, e, g) = self.matrices, self.values
        with jax.enable_x64(True):
            x, _, other, equal, converged, count = (
                np.asarray(part) for part in self.run(Q, q, E, e, G, g, self.tol, self.limit)
            )
        y, z = self.rows.multipliers(equal, other)
        factor = self.scaling.dual
        iterations = int(count)
        if converged and np.isfinite(x).all():
            claim, word = Claim.SOLVED, "converged"
        elif np.isfinite(x).all() and iterations >= self.limit:
            claim, word = Claim.ITERATIONS, "iteration limit"
        else:
            claim, word = Claim.FAILED, "not finite"
        return Raw(claim, word, x * self.scaling.length, y * factor, z * factor, iterations=iterations)


BACKEND = Qpax
