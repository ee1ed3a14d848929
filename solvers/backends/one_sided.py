"""Programs as most backends want them: equalities, then rows a'x ≤ b, then cones, with multipliers brought back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers.backends.base import Prepared, Program, Scaling
from crosswind.solvers.backends.stacking import Index, Sides, stack
from crosswind.solvers.cones import blocks
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import Cone, QuadraticProgram

__all__ = ["ConeOrder", "OneSided", "OneSidedPrepared", "refusal"]


@dataclass(frozen=True, eq=False)
class OneSided:
    """The rows of a quadratic program as Ex = e and Gx ≤ g; a range becomes two rows.

    With ``boxes`` the bounds of the variables are rows too (fixed variables are equalities); without, the backend takes
    lb and ub as they are.
    """

    sides: Sides
    n: int
    m: int
    boxes: bool

    @classmethod
    def of(cls, program: QuadraticProgram, boxes: bool) -> OneSided:
        """Sort the rows, and with ``boxes`` the bounds, of ``program``."""
        return cls(Sides.of(program), program.n, program.m, boxes)

    @property
    def equalities(self) -> int:
        """Number of rows of E."""
        return int(self.sides.equal.size + (self.sides.fixed.size if self.boxes else 0))

    @property
    def inequalities(self) -> int:
        """Number of rows of G."""
        s = self.sides
        boxes = s.box_upper.size + s.box_lower.size if self.boxes else 0
        return int(s.upper.size + s.lower.size + boxes)

    def matrices(self, A: Csc) -> tuple[Csc, Csc]:
        """Return E and G as CSC matrices."""
        s = self.sides
        equal: tuple[tuple[str, Index, float], ...] = (("row", s.equal, 1.0),)
        other: tuple[tuple[str, Index, float], ...] = (("row", s.upper, 1.0), ("row", s.lower, -1.0))
        if self.boxes:
            equal += (("box", s.fixed, 1.0),)
            other += (("box", s.box_upper, 1.0), ("box", s.box_lower, -1.0))
        return stack(A, equal), stack(A, other)

    def vectors(self, program: QuadraticProgram) -> tuple[Vector, Vector]:
        """Return e and g of ``program``, unscaled."""
        s = self.sides
        equal = [program.l[s.equal]]
        other = [program.u[s.upper], -program.l[s.lower]]
        if self.boxes:
            equal.append(program.lb[s.fixed])
            other += [program.ub[s.box_upper], -program.lb[s.box_lower]]
        return np.concatenate(equal), np.concatenate(other)

    def multipliers(self, equal: Vector, other: Vector) -> tuple[Vector, Vector]:
        """Bring multipliers of Ex = e and Gx ≤ g (positive where they bind) back to y (m,) and z (n,)."""
        s = self.sides
        y, z = np.zeros(self.m), np.zeros(self.n)
        y[s.equal] = equal[: s.equal.size]
        cuts = np.cumsum((s.upper.size, s.lower.size, s.box_upper.size))
        upper, lower, box_upper, box_lower = np.split(other, cuts)
        y[s.upper] += upper
        y[s.lower] -= lower
        if self.boxes:
            z[s.fixed] = equal[s.equal.size :]
            z[s.box_upper] += box_upper
            z[s.box_lower] -= box_lower
        return y, z


class OneSidedPrepared(Prepared):
    """What prepared quadratic programs in one-sided form share: the scaling, the rows, and when an update is enough."""

    def __init__(self, program: QuadraticProgram, boxes: bool) -> None:
        self.P, self.A = program.P, program.A
        self.scaling = Scaling.of(program)
        self.rows = OneSided.of(program, boxes)

    def fits(self, program: Program) -> bool:
        """Tell whether only vectors differ, with the same sides finite."""
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.scaling.suits(program)
            and Sides.of(program).key == self.rows.sides.key
        )

    def vectors(self, program: QuadraticProgram) -> tuple[Vector, Vector, Vector]:
        """Return q, e and g in the backend's scale."""
        equal, other = self.rows.vectors(program)
        shrink = 1.0 / self.scaling.length
        return program.q * self.scaling.linear, equal * shrink, other * shrink


def refusal(solver: str, key: str, value: object, err: Exception, unknown: bool) -> InvalidInput:
    """Return our error for a setting that a commercial solver refuses with ``err``, for its name or for its value."""
    what = "has no setting of this name" if unknown else "does not take this value"
    return InvalidInput(f"{solver} {what}", field=key, value=value, remedy=str(err).strip() or "see its manual")


@dataclass(frozen=True, eq=False)
class ConeOrder:
    """The rows of a cone product sorted by kind: zero, nonneg, second-order, semidefinite."""

    zero: Index
    nonneg: Index
    soc: tuple[Index, ...]
    psd: tuple[Index, ...]
    orders: tuple[int, ...]

    @classmethod
    def of(cls, cones: tuple[Cone, ...]) -> ConeOrder:
        """Sort the rows of ``cones``; a second-order cone of one row is a half-line."""
        found: dict[str, list[Index]] = {"zero": [], "nonneg": [], "soc": [], "psd": []}
        orders = []
        for cone, rows in blocks(cones):
            kind = "nonneg" if cone.kind == "soc" and cone.size == 1 else cone.kind
            found[kind].append(np.arange(rows.start, rows.stop))
            if cone.kind == "psd":
                orders.append(cone.size)
        nothing = np.zeros(0, dtype=np.intp)
        return cls(
            zero=np.concatenate((nothing, *found["zero"])),
            nonneg=np.concatenate((nothing, *found["nonneg"])),
            soc=tuple(found["soc"]),
            psd=tuple(found["psd"]),
            orders=tuple(orders),
        )

    @property
    def cone_rows(self) -> Index:
        """Rows of all but the zero cones, in the order of the kinds."""
        return np.concatenate((self.nonneg, *self.soc, *self.psd))
