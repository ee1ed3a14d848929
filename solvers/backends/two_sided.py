"""Rows and finite boxes stacked to one system l ≤ Mx ≤ u: the form of backends that know no boxes."""

from __future__ import annotations

import numpy as np

from crosswind.solvers.backends.base import Prepared, Program, Scaling, WarmStart
from crosswind.solvers.backends.stacking import stack
from crosswind.solvers.matrices import Csc, Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["TwoSided"]


class TwoSided(Prepared):
    """What such a backend has to keep: the pattern, the scaling, and the way from vectors to its own and back.

    Parameters
    ----------
    program
        What is set up.
    infinity
        The backend's word for no bound.
    """

    def __init__(self, program: QuadraticProgram, infinity: float) -> None:
        self.P, self.A, self.infinity = program.P, program.A, infinity
        self.scaling = Scaling.of(program)
        self.boxes = _boxed(program)

    def matrix(self) -> Csc:
        """Return M: all rows of A, then those of the identity whose variable has a finite bound."""
        return stack(self.A, (("row", np.arange(self.A.shape[0]), 1.0), ("box", self.boxes, 1.0)))

    def vectors(self, program: QuadraticProgram) -> tuple[Vector, Vector, Vector]:
        """Return q and the stacked l and u in the backend's scaling."""
        shrink = 1.0 / self.scaling.length
        low = np.concatenate((program.l, program.lb[self.boxes])) * shrink
        high = np.concatenate((program.u, program.ub[self.boxes])) * shrink
        return program.q * self.scaling.linear, np.maximum(low, -self.infinity), np.minimum(high, self.infinity)

    def fits(self, program: Program) -> bool:
        """Tell whether matrices, scaling and the set of boxes are the same."""
        return (
            isinstance(program, QuadraticProgram)
            and program.P is self.P
            and program.A is self.A
            and self.suits(program)
            and np.array_equal(_boxed(program), self.boxes)
        )

    def suits(self, program: QuadraticProgram) -> bool:
        """Tell whether the units chosen at the set-up are still right."""
        return self.scaling.suits(program)

    def start(self, warm: WarmStart) -> tuple[Vector, Vector]:
        """Return the point and the stacked multipliers in the backend's scaling."""
        dual = np.concatenate((warm.y, warm.z[self.boxes])) / self.scaling.dual
        return warm.x / self.scaling.length, dual

    def split(self, dual: Vector) -> tuple[Vector, Vector]:
        """Return the multipliers y (m,) of the rows and z (n,) of the boxes among stacked ones."""
        m, n = self.A.shape
        z = np.zeros(n)
        z[self.boxes] = dual[m:]
        return dual[:m].copy(), z


def _boxed(program: QuadraticProgram) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.flatnonzero(np.isfinite(program.lb) | np.isfinite(program.ub))
