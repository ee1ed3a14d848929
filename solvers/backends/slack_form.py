r"""Programs as Gurobi, COPT, Xpress and CPLEX take them, and what the four set-ups share.

They know rows and bounds, and a cone only as a condition on variables of its own. So the rows of second-order cones get
slack variables t,

.. math::

    \min_v\ \tfrac12 v'Pv + q'v \quad\text{s.t.}\quad Ev = e,\ Gv \le g,\ low \le v \le high,\quad
    v = (x, t),\ Cx + t = c,\ t_1 \ge \lVert t_{2\dots} \rVert .

The multiplier of Cx + t = c is that of the cone, y ∈ K*, and is there at the apex too, where the one of the quadratic
inequality t₂² + … ≤ t₁² is not. It is one of the linear rows, whose multipliers all four solvers give; each solver's
file says what must be switched on for it.

None of the four gives proofs for quadratic or cone programs. That of infeasibility is left to our own phase one; a
direction of endless descent is found by a second solve where the solver says that there is one (:mod:`.recession`).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from crosswind.solvers.backends.base import Claim, Options, Prepared, Program, Raw, Scaling, WarmStart
from crosswind.solvers.backends.epigraph import factor
from crosswind.solvers.backends.one_sided import ConeOrder, OneSided
from crosswind.solvers.backends.recession import direction_program
from crosswind.solvers.backends.stacking import Index, Sides
from crosswind.solvers.face import sharpened
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram

__all__ = ["SlackForm", "SlackFormPrepared", "Vectors"]

_DESCENT = 1e-7  # of the largest cost: less is a solver's rounding


class Vectors(NamedTuple):
    """The vectors of a slack form in the solver's scale: costs, right-hand sides (equalities first), bounds."""

    cost: Vector
    right: Vector
    low: Vector
    high: Vector


@dataclass(frozen=True, eq=False)
class SlackForm:
    """The matrices of a program in slack form, in the solver's scale.

    Attributes
    ----------
    P, A
        (k, k) objective and (rows, k) constraints over the k variables; the first ``equalities`` rows are equalities,
        the others a'v ≤ b.
    equalities, inequalities
        Their numbers.
    soc
        The variables of each second-order cone, its head first.
    order
        The rows of a cone program by kind; ``None`` for a quadratic program. Rows of semidefinite cones are in no
        matrix here: the solver that takes them builds them from the program.
    lifted
        True where variable n is the epigraph of the quadratic objective, P is empty, and the last cone holds it.
    """

    P: Csc
    A: Csc
    equalities: int
    inequalities: int
    soc: tuple[Index, ...] = ()
    order: ConeOrder | None = None
    lifted: bool = False

    @classmethod
    def of_rows(cls, program: QuadraticProgram, rows: OneSided, scaling: Scaling) -> SlackForm:
        """Stack the one-sided rows of a quadratic program."""
        A = sparse.vstack(rows.matrices(program.A), format="csc")
        return cls(program.P * scaling.quadratic, A, rows.equalities, rows.inequalities)

    @classmethod
    def of_cones(cls, program: ConeProgram, scaling: Scaling, lift: bool) -> SlackForm:
        """Give the rows of second-order cones their slacks; with ``lift`` the quadratic objective is a cone too."""
        n, order = program.n, ConeOrder.of(program.cones)
        P, rows = program.P * scaling.quadratic, program.A.tocsr()
        cones = [rows[index] for index in order.soc]
        lift = lift and P.nnz > 0
        if lift:
            F = factor(P)
            epigraph = sparse.vstack((sparse.csr_matrix((1, n)), -F, sparse.csr_matrix((1, n))))
            head = sparse.csr_matrix(([-1.0, -1.0], ([0, F.shape[0] + 1], [0, 0])), shape=(F.shape[0] + 2, 1))
            cones = [sparse.hstack((block, sparse.csr_matrix((block.shape[0], 1)))) for block in cones]
            cones.append(sparse.hstack((epigraph, head)))
            P = sparse.csc_matrix((n, n))
        first = n + int(lift)
        sizes = [block.shape[0] for block in cones]
        ends = np.cumsum([first, *sizes])
        k = int(ends[-1])
        blocks = [_wide(rows[order.zero], k)]
        if cones:
            blocks.append(sparse.hstack((sparse.vstack(cones), sparse.identity(k - first))))
        blocks.append(_wide(rows[order.nonneg], k))
        return cls(
            P=sparse.csc_matrix(sparse.block_diag((P, sparse.csc_matrix((k - n, k - n))))),
            A=sparse.vstack(blocks, format="csc"),
            equalities=order.zero.size + k - first,
            inequalities=order.nonneg.size,
            soc=tuple(np.arange(start, stop) for start, stop in pairwise(ends)),
            order=order,
            lifted=lift,
        )

    @property
    def columns(self) -> int:
        """Number of variables, slacks included."""
        return int(self.A.shape[1])

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.equalities + self.inequalities

    def cone_rows(self, order: ConeOrder) -> Index:
        """Return the program's rows of all second-order cones, one after the other."""
        return np.concatenate((np.zeros(0, dtype=np.intp), *order.soc))


class SlackFormPrepared(Prepared):
    """A program set up in a solver of the slack form; what differs between the solvers is in the abstract methods.

    Attributes
    ----------
    form, scaling, program, options
        What is set up.
    far
        What stands for an infinite bound in the solver.
    forever
        The solver's time limit when none is asked: its default or the user's setting.
    absent
        The errors by which the solver says that there is no iterate to read.
    undecided
        The solver's words behind which an unbounded program may hide: "infeasible or unbounded", numerical trouble.
    lifts_cones
        Whether a quadratic objective must be lifted by us where semidefinite cones are around.
    takes_vectors
        Whether :meth:`change` works for this form; where not, a program with new vectors is set up again.
    """

    far: float = np.inf
    forever: float = np.inf
    absent: tuple[type[Exception], ...] = ()
    undecided: tuple[str, ...] = ()
    lifts_cones = False
    takes_vectors = True

    def __init__(self, program: Program, options: Options) -> None:
        self.program, self.options = program, options
        self.scaling = Scaling.of(program)
        self.rows: OneSided | None = None
        if isinstance(program, QuadraticProgram):
            self.rows = OneSided.of(program, boxes=False)
            self.form = SlackForm.of_rows(program, self.rows, self.scaling)
        else:
            lift = self.lifts_cones and any(cone.kind == "psd" for cone in program.cones)
            self.form = SlackForm.of_cones(program, self.scaling, lift)
        self.open(options)
        self.load(self._vectors(program))

    @abstractmethod
    def open(self, options: Options) -> None:
        """Start an empty model with its parameters, the user's own last; set ``far``, ``forever`` and ``absent``."""

    @abstractmethod
    def load(self, vectors: Vectors) -> None:
        """Fill the model with ``form`` and ``vectors``."""

    @abstractmethod
    def change(self, vectors: Vectors) -> None:
        """Take new vectors over."""

    @abstractmethod
    def run(self, seconds: float) -> tuple[Claim, str, int]:
        """Solve within ``seconds``; return the claim, the solver's word and its iterations."""

    @abstractmethod
    def values(self) -> Any:
        """Return the values of the variables, as the solver gives them."""

    @abstractmethod
    def slopes(self) -> Any:
        """Return the multipliers of the rows as all four solvers sign them: the cost's change per unit of the side."""

    @abstractmethod
    def reduced_costs(self) -> Any:
        """Return the reduced costs of the variables, that is P v + q − A'slopes."""

    def matrix_multipliers(self) -> Any:
        """Return the multipliers of the semidefinite rows in the program's order and the solver's scale."""
        return np.zeros(0)

    def fits(self, program: Program) -> bool:
        """Tell whether only vectors differ, with the same sides finite."""
        old = self.program
        if program.P is not old.P or program.A is not old.A or not self.scaling.suits(program):
            return False
        if isinstance(program, QuadraticProgram):
            return self.rows is not None and Sides.of(program).key == self.rows.sides.key
        return isinstance(old, ConeProgram) and program.cones == old.cones and self.takes_vectors

    def update(self, program: Program) -> None:
        """Take the vectors of ``program`` over."""
        self.program = program
        self.change(self._vectors(program))

    def solve(self, warm: WarmStart | None, time_limit: float | None) -> Raw:
        """Run the solver; digits that it left out of a cone program are won back by Newton steps."""
        begin = time.perf_counter()
        raw = self._answer(*self.run(self._seconds(time_limit)))
        if isinstance(self.program, ConeProgram):
            raw = sharpened(raw, self.program, self.options.tol)
        if raw.claim is Claim.UNBOUNDED or raw.word in self.undecided:
            self._add_direction(raw, None if time_limit is None else time_limit - (time.perf_counter() - begin))
        return raw

    def _seconds(self, time_limit: float | None) -> float:
        return self.forever if time_limit is None else min(self.forever, time_limit)

    def _answer(self, claim: Claim, word: str, iterations: int) -> Raw:
        """Read the iterate and bring it to the program's units and sign rule."""
        program, form, dual = self.program, self.form, self.scaling.dual
        x = self.read(self.values, form.columns)[: program.n] * self.scaling.length
        y = -self.read(self.slopes, form.height)
        if isinstance(program, ConeProgram):
            s, y = program.b - program.A @ x, self._scattered(y) * dual
            return Raw(claim, word, x, y, np.zeros(program.n), s=s, iterations=iterations)
        assert self.rows is not None
        y, _ = self.rows.multipliers(y[: form.equalities], y[form.equalities :])
        z = -self.read(self.reduced_costs, form.columns)
        return Raw(claim, word, x, y * dual, z * dual, iterations=iterations)

    def _add_direction(self, raw: Raw, left: float | None) -> None:
        """Find a direction of descent by one solve more, in a set-up of its own; grading verifies it."""
        if left is not None and left <= 0.0:
            return
        search = type(self)(direction_program(self.program), self.options)
        claim, _, iterations = search.run(search._seconds(left))
        raw.iterations += iterations
        d = search.read(search.values, search.form.columns)[: self.program.n]
        q = self.program.q
        if claim is Claim.SOLVED and float(q @ d) < -_DESCENT * float(np.max(np.abs(q), initial=0.0)):
            raw.claim, raw.ray = Claim.UNBOUNDED, d

    def _vectors(self, program: Program) -> Vectors:
        form, shrink, cost = self.form, 1.0 / self.scaling.length, program.q * self.scaling.linear
        if isinstance(program, QuadraticProgram):
            assert self.rows is not None
            right = np.concatenate(self.rows.vectors(program)) * shrink
            return Vectors(cost, right, *self._bounds(program.lb * shrink, program.ub * shrink))
        assert form.order is not None
        lift = np.zeros(0)
        if form.lifted:
            lift = np.zeros(form.soc[-1].size)
            lift[0], lift[-1] = 0.5, -0.5
        slack = form.columns - program.n
        cost = np.concatenate((cost, np.zeros(slack)))
        if form.lifted:
            cost[program.n] = 1.0
        low = np.full(form.columns, -np.inf)
        low[[columns[0] for columns in form.soc]] = 0.0
        b, order = program.b * shrink, form.order
        right = np.concatenate((b[order.zero], b[form.cone_rows(order)], lift, b[order.nonneg]))
        return Vectors(cost, right, *self._bounds(low, np.full(form.columns, np.inf)))

    def _bounds(self, low: Vector, high: Vector) -> tuple[Vector, Vector]:
        return np.maximum(low, -self.far), np.minimum(high, self.far)

    def _scattered(self, rows: Vector) -> Vector:
        """Bring multipliers of the rows of the form, and of the matrices, to the rows of a cone program."""
        form, order = self.form, self.form.order
        assert order is not None
        y = np.zeros(self.program.m)
        y[order.zero] = rows[: order.zero.size]
        cones = form.cone_rows(order)
        y[cones] = rows[order.zero.size :][: cones.size]
        y[order.nonneg] = rows[form.equalities :]
        if order.psd:
            at = np.concatenate(order.psd)
            y[at] = self.read(self.matrix_multipliers, at.size)
        return y

    def read(self, get: Callable[[], Any], size: int) -> Vector:
        """Return what ``get`` reads from the solver, NaN where it has no iterate."""
        if not size:
            return np.zeros(0)
        try:
            return np.asarray(get(), dtype=np.float64)
        except self.absent:
            return np.full(size, np.nan)


def _wide(rows: Any, columns: int) -> Any:
    return sparse.hstack((rows, sparse.csr_matrix((rows.shape[0], columns - rows.shape[1]))))
