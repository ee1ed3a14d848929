r"""How the solution, the multipliers and the optimal value of a quadratic program move with each of its numbers.

On the limits that hold a certified solution, with L = f + y'(Ax) + z'x, the KKT conditions are equations, and the
implicit function theorem differentiates them (Fiacco, 1983; as a layer: Amos and Kolter, 2017):

.. math::

    \begin{pmatrix} P & B' \\ B & 0 \end{pmatrix} \begin{pmatrix} dx \\ d\lambda \end{pmatrix}
    = \begin{pmatrix} -(dP\,x + dq + dA'y) \\ db - dB\,x \end{pmatrix}

B are the active rows and boxes, λ their multipliers, b the bounds they lean on; all other multipliers stay zero. The
matrix is symmetric, so the reverse product solves the same system with (x̄, λ̄) on the right: with (w, v) its answer,

.. math::

    \bar q = -w, \quad \bar P = -\tfrac12 (w x' + x w'), \quad \bar A = -(y w' + v x'), \quad \bar b = v.

The optimal value needs no system (envelope theorem): dV = x'dq + ½x'dP x + y'dA x − λ'db.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from crosswind.solvers import matrices as mx
from crosswind.solvers.certify import certify
from crosswind.solvers.differentiate_active import Mask, Measures, measure, refine
from crosswind.solvers.differentiate_kkt import ActiveKkt, independent
from crosswind.solvers.errors import InvalidInput, SolverFailure
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram
from crosswind.solvers.solution import Solution, Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Degeneracy", "ProgramChange", "Sensitivities", "SolutionChange", "sensitivities", "sensitivities_at"]

_CUT = 1e-11  # reciprocal condition below which four digits of a derivative are not to be had


class Degeneracy(IntFlag):
    """Why a derivative is not unique; several can hold together, and 0 means regular."""

    WEAKLY_ACTIVE = 1
    DEPENDENT_LIMITS = 2
    FLAT_OBJECTIVE = 4
    NOT_OPTIMAL = 8

    @property
    def text(self) -> str:
        """What holds and what is returned then."""
        return "; ".join(text for flag, text in _TEXTS.items() if flag in self) or "regular: the derivative is unique"


_TEXTS = {
    Degeneracy.WEAKLY_ACTIVE: "a limit just binds with no multiplier: a one-sided derivative is given",
    Degeneracy.DEPENDENT_LIMITS: "the active limits depend on each other: the least-norm derivative is given",
    Degeneracy.FLAT_OBJECTIVE: "the objective is flat in a direction left free: the least-norm derivative is given",
    Degeneracy.NOT_OPTIMAL: "there is no certified solution: NaN is given",
}


@dataclass(frozen=True, eq=False)
class ProgramChange:
    """One number for each number of a program: a gradient, or a direction to move in.

    Attributes
    ----------
    q, l, u, lb, ub
        (n,), (m,), (m,), (n,), (n,). Zero for infinite bounds.
    P, A
        One number per stored entry, in the order of ``P.data`` and ``A.data``. In gradients the two entries (i, j) and
        (j, i) of ``P`` share their effect in halves, since they only move together.
    """

    q: Vector
    l: Vector  # noqa: E741
    u: Vector
    lb: Vector
    ub: Vector
    P: Vector
    A: Vector


@dataclass(frozen=True, eq=False)
class SolutionChange:
    """How a solution moves: x (n,), y (m,), z (n,) and the optimal value."""

    x: Vector
    y: Vector
    z: Vector
    value: float


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivities:
    """Derivatives of one certified solution; made by :func:`sensitivities`.

    Attributes
    ----------
    program
        What was solved.
    x, y, z
        The solution (n,), (m,), (n,) on its active limits to rounding (the given one where that failed).
    error
        The worst relative measure of its certificate.
    tolerance
        √error or what was asked: room and multiplier below it, both without units, make a limit weakly active.
    degeneracy
        Why the derivative is not unique, if it is not; see :class:`Degeneracy`.
    active, weak
        (m + n,) rows, then boxes: which limits hold the solution in the products, and which are weakly active.
    """

    program: QuadraticProgram
    x: Vector
    y: Vector
    z: Vector
    error: float
    tolerance: float
    degeneracy: Degeneracy
    active: Mask
    weak: Mask
    _measures: Measures
    _kkt: ActiveKkt

    @property
    def degenerate(self) -> bool:
        """True when the derivative of the solution is not unique; :attr:`reason` says why."""
        return self.degeneracy != 0

    @property
    def value_degenerate(self) -> bool:
        """True when the gradient of the optimal value may not be unique; weakly active limits do not matter to it."""
        return bool(self.degeneracy & ~Degeneracy.WEAKLY_ACTIVE)

    @property
    def reason(self) -> str:
        """Why the derivative is not unique and what is returned then, naming the weakly active limits."""
        text = self.degeneracy.text
        if self.weak.any():
            names = [self._name(int(i)) for i in np.flatnonzero(self.weak)[:5]]
            text += f" (weakly active: {', '.join(names)}{', …' if self.weak.sum() > 5 else ''})"
        return text

    @property
    def value_gradient(self) -> ProgramChange:
        """The derivative of the optimal value with respect to each datum, by the envelope theorem; costs no solve.

        The cost of one more unit of a bound: dV/du = −y₊, dV/dl = y₋, dV/dq = x, dV/dP = ½xx', dV/dA = yx'. Unique
        unless :attr:`value_degenerate`.
        """
        rows, columns = _places(self.program.P)
        A_rows, A_columns = _places(self.program.A)
        return ProgramChange(
            q=self.x.copy(),
            l=np.maximum(-self.y, 0.0),
            u=-np.maximum(self.y, 0.0),
            lb=np.maximum(-self.z, 0.0),
            ub=-np.maximum(self.z, 0.0),
            P=0.5 * self.x[rows] * self.x[columns],
            A=self.y[A_rows] * self.x[A_columns],
        )

    def jvp(
        self,
        q: object = None,
        l: object = None,  # noqa: E741
        u: object = None,
        lb: object = None,
        ub: object = None,
        P: object = None,
        A: object = None,
    ) -> SolutionChange:
        """Return how the solution moves when the program's data moves along a direction (forward product).

        Parameters
        ----------
        q, l, u, lb, ub
            Directions of the vectors, or one number for all entries; ``None`` holds them still.
        P, A
            Directions of the stored entries (nnz,), or matrices within the patterns. The symmetric part of ``P``
            counts.

        Returns
        -------
        SolutionChange
            Changes per unit of the direction.

        Raises
        ------
        InvalidInput
            On wrong shapes or numbers that are not finite.

        Notes
        -----
        An equality (l = u) follows the bound that its multiplier leans on, u where it is not negative: move both.
        """
        p = self.program
        dq, dl, du = (_direction(v, k, f) for v, k, f in ((q, p.n, "q"), (l, p.m, "l"), (u, p.m, "u")))
        dlb, dub = _direction(lb, p.n, "lb"), _direction(ub, p.n, "ub")
        dP, dA = _entries(p.P, P, "P"), _entries(p.A, A, "A")
        moved = 0.5 * (dP @ self.x + dP.T @ self.x)
        bound = np.where(self._measures.upper, np.concatenate((du, dub)), np.concatenate((dl, dlb)))
        shift = dA @ self.x
        value = self.x @ (dq + 0.5 * moved) + self.y @ shift - bound @ np.concatenate((self.y, self.z))
        bound[: p.m] -= shift
        dx, multiplier = self._kkt.solve(-(moved + dq + dA.T @ self.y), bound)
        return SolutionChange(dx, multiplier[: p.m], multiplier[p.m :], float(value))

    def vjp(self, x: object = None, y: object = None, z: object = None, value: float = 0.0) -> ProgramChange:
        """Return the gradient of a loss with respect to all data, given its gradient at the solution (reverse product).

        Parameters
        ----------
        x, y, z
            The loss's derivatives by x (n,), y (m,) and z (n,), or one number for all entries; ``None`` for none.
        value
            Its derivative by the optimal value.

        Returns
        -------
        ProgramChange
            The adjoint of :meth:`jvp`, up to rounding; one solve with factors that are kept.

        Raises
        ------
        InvalidInput
            On wrong shapes or numbers that are not finite.
        """
        p = self.program
        gx, gy, gz = (_direction(v, k, f) for v, k, f in ((x, p.n, "x"), (y, p.m, "y"), (z, p.n, "z")))
        if not np.isfinite(value):
            raise InvalidInput("is not finite", field="value", value=value, remedy="give a finite derivative")
        if gx.any() or gy.any() or gz.any():
            w, v = self._kkt.solve(gx, np.concatenate((gy, gz)))
        else:
            w, v = np.zeros(p.n), np.zeros(p.m + p.n)
        upper = self._measures.upper
        low, high = np.where(upper, 0.0, v), np.where(upper, v, 0.0)
        rows, columns = _places(p.P)
        A_rows, A_columns = _places(p.A)
        out = ProgramChange(
            q=-w,
            l=low[: p.m],
            u=high[: p.m],
            lb=low[p.m :],
            ub=high[p.m :],
            P=-0.5 * (w[rows] * self.x[columns] + self.x[rows] * w[columns]),
            A=-(self.y[A_rows] * w[A_columns] + v[A_rows] * self.x[A_columns]),
        )
        if value == 0.0:
            return out
        envelope = self.value_gradient
        return ProgramChange(**{k: getattr(out, k) + value * getattr(envelope, k) for k in out.__dataclass_fields__})

    def to_frame(self) -> pd.DataFrame:
        """Return one row per limit: its state (``active``, ``weak`` or ``away``), room and multiplier without units."""
        import pandas as pd

        names = [self._name(i) for i in range(self.active.size)]
        state = np.where(self.weak, "weak", np.where(self.active, "active", "away"))
        data = {
            "state": state,
            "room": self._measures.room,
            "weight": self._measures.weight,
            "multiplier": np.concatenate((self.y, self.z)),
        }
        return pd.DataFrame(data, index=pd.Index(names, name="limit"))

    def summary(self) -> str:
        """Return two lines: what holds the solution, and whether the derivative is unique."""
        strong, weak = int((self.active & ~self.weak).sum()), int(self.weak.sum())
        return (
            f"{strong} active and {weak} weakly active of {self.active.size} limits, error {self.error:.1e}, "
            f"tolerance {self.tolerance:.1e}, reciprocal condition {self._kkt.reciprocal_condition:.1e}\n"
            f"{'DEGENERATE: ' if self.degenerate else ''}{self.reason}"
        )

    def __repr__(self) -> str:
        return f"Sensitivities(n={self.program.n}, m={self.program.m}, degeneracy={self.degeneracy!r})"

    def _name(self, limit: int) -> str:
        p = self.program
        names, at, kind = (p.row_names, limit, "row") if limit < p.m else (p.var_names, limit - p.m, "box of")
        return f"{kind} {names[at] if names else at}"


def sensitivities(
    program: QuadraticProgram, solution: Solution, tol: float | None = None, weak: str = "free"
) -> Sensitivities:
    """Prepare the derivatives of a certified solution: find its active limits, refine it on them, factorise.

    Parameters
    ----------
    program
        The program that was solved.
    solution
        Its OPTIMAL solution.
    tol
        Room and multiplier (without units, see :mod:`crosswind.solvers.differentiate_active`) below which a limit is
        weakly active; default √ε of the certificate's worst relative measure ε after refining, at least 1e-8.
    weak
        ``"free"`` lets the solution leave weakly active limits, ``"held"`` keeps it on them: the two one-sided
        derivatives where one limit is weak.

    Returns
    -------
    Sensitivities
        With products in both directions, the gradient of the value, and a flag where the derivative is not unique.

    Raises
    ------
    InvalidInput
        When the arguments are no quadratic program and its solution, or when the solution belongs to another program.
    SolverFailure
        When the solution's status is not OPTIMAL: what is not solved has no derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from crosswind.solvers import QuadraticProgram, solve
    >>> program = QuadraticProgram(np.eye(2), [-1.0, -2.0], [[1.0, 1.0]], 1.0, 1.0)
    >>> sensitivities(program, solve(program)).jvp(q=[1.0, 0.0]).x.round(6).tolist()
    [-0.5, 0.5]
    """
    if not isinstance(program, QuadraticProgram):
        raise InvalidInput(
            "expected a quadratic program",
            field="program",
            value=type(program).__name__,
            remedy="cone programs have no derivative here",
        )
    if not isinstance(solution, Solution):
        raise InvalidInput(
            "expected a Solution", field="solution", value=type(solution).__name__, remedy="give what solve() returns"
        )
    if solution.status is not Status.OPTIMAL:
        raise SolverFailure(
            "only a certified optimum has a derivative",
            field="solution.status",
            value=solution.status.name,
            remedy=solution.status.text,
        )
    asked = solution.certificate.tolerance
    # Shapes are checked by certify; a solution of other data would give derivatives of nothing.
    found = certify(program, solution.x, solution.y, solution.z, tol=asked)
    if not found.passes():
        raise InvalidInput(
            "does not solve this program",
            field="solution",
            value=found.summary(),
            remedy="give the program that was solved",
        )
    return _prepared(program, solution.x, solution.y, solution.z, found.worst, tol, weak)


def sensitivities_at(
    program: QuadraticProgram,
    x: Vector,
    y: Vector,
    z: Vector,
    tol: float | None = None,
    weak: str = "free",
) -> Sensitivities:
    """Prepare the derivatives at a point (x, y, z) that was certified before.

    For callers that hold the numbers of a solution and not its :class:`Solution`; otherwise as :func:`sensitivities`.

    Raises
    ------
    InvalidInput
        On a tolerance outside (0, 1), an unknown choice for ``weak``, or numbers that are no solution to 1e-2.
    """
    found = certify(program, x, y, z, tol=1e-2)
    if not found.passes():
        raise InvalidInput("is no solution", field="x, y, z", value=found.summary(), remedy="give a certified point")
    return _prepared(program, x, y, z, found.worst, tol, weak)


def _prepared(
    program: QuadraticProgram, x: Vector, y: Vector, z: Vector, given: float, tol: float | None, weak: str
) -> Sensitivities:
    if tol is not None and not 0.0 < tol < 1.0:
        raise InvalidInput("must lie between 0 and 1", field="tol", value=tol, remedy="for example 1e-6, or None")
    if weak not in ("free", "held"):
        raise InvalidInput("unknown choice", field="weak", value=weak, remedy="free or held")
    x, y, z, error, kkt = refine(program, x, y, z, given)
    limit = max(float(np.sqrt(error)), 1e-8) if tol is None else tol
    cut = max(_CUT, error)
    at = measure(program, x, y, z)
    near = ~at.equal & (at.weight <= limit) & (at.room <= limit)
    strong = at.equal | (~near & (at.weight > at.room))
    held = strong | near if weak == "held" else strong
    if kkt is None or not np.array_equal(kkt.held, held):
        kkt = ActiveKkt(program, held, cut)
    dependent, flat = kkt.reasons()
    if near.any():
        dependent = not independent(program, strong | near, cut)
    degeneracy = Degeneracy(0)
    for flag, holds in (
        (Degeneracy.WEAKLY_ACTIVE, bool(near.any())),
        (Degeneracy.DEPENDENT_LIMITS, dependent),
        (Degeneracy.FLAT_OBJECTIVE, flat),
    ):
        degeneracy |= flag if holds else Degeneracy(0)
    return Sensitivities(program, x, y, z, error, limit, degeneracy, held, near, at, kkt)


def _places(matrix: Any) -> tuple[Any, Any]:
    """Return the row and the column of each stored entry."""
    return matrix.indices, np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))


def _direction(value: object, size: int, field: str) -> Vector:
    return np.zeros(size) if value is None else mx.vector(value, size, field)


def _entries(pattern: Any, value: object, field: str) -> Any:
    if value is None:
        return sparse.csc_matrix(pattern.shape)
    if sparse.issparse(value) or np.ndim(value) == 2:  # type: ignore[arg-type]
        value = mx.values_on(pattern, value, field)
    data = mx.vector(value, pattern.nnz, field, label="stored entry")
    return sparse.csc_matrix((data, pattern.indices, pattern.indptr), shape=pattern.shape)
