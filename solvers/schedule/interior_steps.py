"""One step of the interior point: Mehrotra's predictor and corrector, each refined on the unreduced system."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers.schedule.interior_model import Model
from crosswind.solvers.schedule.interior_newton import Newton, Step
from crosswind.solvers.schedule.interior_rows import Rows
from crosswind.solvers.schedule.problem import Array

__all__ = ["Iteration", "Point", "Residuals"]

_NEAR = 0.998  # of the way to the nearest side
_SMALL = 0.05  # exposures that stiffen theirs by less are left to conjugate gradients
_ROUNDS = 12  # refinements of a direction
_GRADIENTS = 40  # steps of conjugate gradients in one
_LATE = 1e-4  # of the gap, what a direction may leave of the gradient


@dataclass(frozen=True)
class Point:
    """x (K, T, N), ν (N,) of the ends, slacks s > 0 and multipliers z > 0 of the rows."""

    x: Array
    nu: Array
    s: Array
    z: Array


@dataclass(frozen=True)
class Residuals:
    """What a point misses: gradient of the Lagrangian, Gx + h − s, ends; and its figures, scaled as costs are.

    ``gap`` is s'z, ``slope`` the gradient's residual times the cells' sizes, ``reach`` the worst miss of a limit in its
    unit.
    """

    dual: Array
    rows: Array
    need: Array
    objective: float
    gap: float
    slope: float
    reach: float


class Iteration:
    """The iteration of one model."""

    def __init__(self, model: Model, accuracy: float, relaxed: float = 0.0) -> None:
        self.model, self.rows = model, Rows(model, relaxed)
        self.accuracy = accuracy  # of the cost, scaled: what the last direction should be good for
        self.small = _SMALL
        self.count = max(1, len(self.rows))
        ends = np.maximum(np.abs(model.need), model.size.max(axis=0))
        self.end_unit = np.where(ends > 0.0, ends, 1.0)
        self.rounds = self.gradients = 0

    def begin(self) -> Point:
        """Return the first point: slacks of one unit or what a limit is missed by, multipliers of one stake a unit.

        Slacks well above what the point leaves of a limit take a quarter of the iterations off: steps are cut less.
        """
        m, rows = self.model, self.rows
        x = np.zeros((rows.width, rows.slices, rows.names))
        x[0] = m.start
        if rows.splits:
            x[1] = m.split * (np.abs(m.start) + 0.1 * m.size)
        s = np.maximum(np.abs(rows.value(x)), rows.units)
        _, gradient = self._cost(x)
        stakes = np.abs(gradient[0] * m.size)[m.free]
        stake = float(np.mean(stakes)) if stakes.size else 1.0
        return Point(x, np.zeros(rows.names), s, max(stake, 1e-8) / rows.units)

    def _cost(self, x: Array) -> tuple[float, Array]:
        m = self.model
        value, gradient = m.smooth(x[0])
        out = np.zeros_like(x)
        out[0] = (gradient + m.spread * m.sign) * m.free
        value += float(np.sum(m.spread * np.where(m.split, 0.0, np.abs(x[0]))))
        if self.rows.splits:
            out[1] = m.spread * m.split
            value += float(np.sum(out[1] * x[1]))
        return value, out

    def residuals(self, at: Point) -> Residuals:
        """Measure a point."""
        m, rows = self.model, self.rows
        value, dual = self._cost(at.x)
        dual -= rows.adjoint(at.z)
        dual[0] += at.nu * m.free
        miss = rows.value(at.x) - at.s
        need = np.where(m.complete, at.x[0].sum(axis=0) - m.give * at.nu - m.need, 0.0)
        value += 0.5 * float(np.sum(m.give * at.nu**2))
        reach = max(
            float(np.max(np.abs(miss) / rows.units, initial=0.0)),
            float(np.max(np.abs(need) / self.end_unit, initial=0.0)),
        )
        return Residuals(dual, miss, need, value, float(at.s @ at.z), float(np.sum(np.abs(dual) * m.size)), reach)

    def step(self, at: Point, missed: Residuals) -> tuple[Point, float]:
        """Return the next point and the length of the step towards it.

        Raises
        ------
        numpy.linalg.LinAlgError
            A system could not be factorised.
        """
        newton = Newton(self.model, self.rows, at.z / at.s, self.small)
        mu = missed.gap / self.count
        product = at.s * at.z
        _, ds, dz, _ = self._direction(newton, at, missed, -product)
        reach = min(1.0, _reach(at.s, ds), _reach(at.z, dz))
        after = float((at.s + reach * ds) @ (at.z + reach * dz)) / self.count
        centre = min(1.0, max(0.0, after / mu)) ** 3 if mu > 0.0 else 0.0
        # The second-order term is that of a whole step: where a fraction of it is open, its weight falls, as else the
        # two directions undo each other for good (Colombo and Gondzio, 2008).
        target = centre * mu - product - np.sqrt(reach) * ds * dz
        step, ds, dz, good = self._direction(newton, at, missed, target)
        if not good:
            # What was left out is too much for the iterations here: from now on nothing is.
            self.small = 0.0
        length = min(1.0, _NEAR * min(_reach(at.s, ds), _reach(at.z, dz)))
        nu = at.nu + length * step.nu
        return Point(at.x + length * step.x, nu, at.s + length * ds, at.z + length * dz), length

    def _direction(
        self, newton: Newton, at: Point, missed: Residuals, target: Array
    ) -> tuple[Step, Array, Array, bool]:
        """Solve for a step, those of slacks and multipliers, and whether it is good enough.

        ``target`` is what s dz + z ds should be. Slacks and multipliers are unknowns of their own in the refinement:
        from Θ and x alone they would carry rounding multiplied by weights of 1e12.
        """
        m, rows = self.model, self.rows
        stop = max(1e-2 * self.accuracy, _LATE * missed.gap)
        miss, short, lack, off = -missed.dual, -missed.rows, -missed.need, target
        lifts = np.zeros(newton.dead.size)
        total: Step | None = None
        ds, dz, best = np.zeros_like(at.s), np.zeros_like(at.z), np.inf
        for _ in range(_ROUNDS):
            step, count = newton.solve(miss, lack, lifts, (off + at.z * short) / at.s, 0.1 * stop, _GRADIENTS)
            self.rounds, self.gradients = self.rounds + 1, self.gradients + count
            moved = rows.apply(step.x) - short
            ds += moved
            dz += newton.multipliers((off - at.z * moved) / at.s, step.forces)
            if total is None:
                total = step
            else:
                total.add(step)
            lift = m.lift(total.x[0])
            total.y[newton.dead] = lift[newton.dead]
            miss = rows.adjoint(dz) - missed.dual
            miss[0] -= m.own(total.x[0]) + m.drop(total.y) + total.nu * (m.free & m.complete)
            lifts = total.y - lift
            # What the trades themselves miss by, once their exposures take the place of y.
            true = miss[0] + m.drop(lifts)
            left = float(np.sum(np.abs(true) * m.size) + np.sum(np.abs(miss[1:]) * m.size))
            if not stop < left <= 0.5 * best:
                best = min(best, left)
                break
            best = left
            short = ds - rows.apply(total.x) - missed.rows
            off = target - at.z * ds - at.s * dz
            lack = np.where(m.complete, m.give * total.nu - total.x[0].sum(axis=0) - missed.need, 0.0)
        assert total is not None
        return total, ds, dz, best <= max(stop, 1e-3 * missed.slope)


def _reach(v: Array, dv: Array) -> float:
    """Return the longest step that keeps v + step·dv ≥ 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.min(np.where(dv < 0.0, -v / dv, np.inf), initial=np.inf))
