"""The iteration: alternating directions between the smooth cost of all trades and the limits of single cells and rows.

    u ← argmin f(u) + ½|u − (z − y)|²_w + ½|x(u) − (z_b − y_b)|²_{w_b},
    z ← prox of boxes, |u| costs and caps at αu + (1 − α)z + y,   z_b ← clip of bands,   y ← y + αu + (1 − α)z − z⁺.

The first step is a linear system of the coupling, by preconditioned conjugate gradients with directions recycled; the
second is separable over slices and groups and gives the price of each cap. Boyd et al. (2011), sections 3.4.1, 3.4.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.schedule import cells
from crosswind.solvers.schedule.conjugate import Recycled
from crosswind.solvers.schedule.coupling import Exposures, NameBlocks
from crosswind.solvers.schedule.precondition import Innovations
from crosswind.solvers.schedule.problem import Array, FactorSchedule
from crosswind.solvers.schedule.solution import ScheduleState

__all__ = ["Iteration", "first_weight", "metric"]

_RELAX = 1.6
_BOLD = 4.0  # of a generated set of 40, 3 to 5 took the fewest iterations
_STALE = 6  # directions that a preconditioner of an earlier problem may need
_FACTORISATIONS = 15  # at most: weights must not run away
_AHEAD = 0.8  # of the last change of the coupling's dual, as a guess of the next
_LEAST = 1e-10  # of the largest: a cell without any cost of its own still gets a weight
_GAIN = 0.2  # what a plain step of the preconditioner must leave of the squared residual at most
_CG = 0.1  # of the smaller residual of the splitting: looser steps slow it or make it diverge


def metric(problem: FactorSchedule) -> Array:
    """Return the curvature of each cell on its own (T, N).

    Without risk, which is a matter of many slices, and without what factors of impact add, which is stiff in a few
    directions only: weighing every cell by it slows all others.
    """
    out = 2.0 * problem.eta + problem.impact_own.sum(axis=0)
    largest = float(out.max())
    if largest <= 0.0:
        risk = problem.risk_weight.sum() * (problem.risk_own + np.square(problem.risk_loadings).sum(axis=1))
        soft = np.where(problem.hard, 0.0, problem.terminal_weight)
        out = np.broadcast_to(np.where(risk > 0.0, 2.0 * risk, soft) / problem.slices, out.shape).copy()
        largest = float(out.max())
    if largest <= 0.0:
        return np.ones(out.shape)
    return np.asarray(np.maximum(out, _LEAST * largest))


def first_weight(problem: FactorSchedule, diag: Array) -> float:
    """Return the first multiple of the metric: more where risk over many slices dwarfs the cost of a cell."""
    walk = 2.0 * float(problem.risk_weight.mean()) * (problem.risk_own)
    ratio = float(np.median(walk)) * problem.slices**2 * 0.4 / max(float(diag.mean()), np.finfo(np.float64).tiny)
    return _BOLD * float(max(1.0, (ratio / 3.0) ** 0.75)) if ratio > 0.0 else _BOLD


def _imbalance(primal: float, dual: float, slack: float) -> float:
    """Return by what to multiply a weight: 1 where the squared residuals are within ``slack`` of each other."""
    if not (primal > 0.0 or dual > 0.0) or dual <= slack * primal <= slack**2 * dual:
        return 1.0
    return float(np.clip((primal / max(dual, 1e-9 * primal)) ** 0.25, 0.2, 5.0))


class Iteration:
    """State and step of the splitting, for a problem whose names stand in order of their groups."""

    def __init__(self, problem: FactorSchedule, first: NDArray[np.intp], begin: ScheduleState | None = None) -> None:
        p = self.problem = problem
        T, b = p.slices, p.band_vectors.shape[1]
        self.first = first
        self.diag = metric(p)
        self.low, self.high = np.ascontiguousarray(p.lower), np.ascontiguousarray(p.upper)
        self.spread, self.cap = np.ascontiguousarray(p.spread), np.ascontiguousarray(p.group_caps)
        self.exposures = Exposures(p)
        self.bands = slice(self.exposures.risks, self.exposures.risks + b)
        self.linear = p.gradient(np.zeros(p.eta.shape))
        began = p.start @ p.band_vectors
        self.band_low, self.band_high = began - p.band_upper, began - p.band_lower  # of running trades x = V'(q_0 − q)
        self.z = np.clip(np.zeros(p.eta.shape), self.low, self.high)
        self.y = np.zeros(p.eta.shape)
        self.zb = np.clip(np.zeros((T, b)), self.band_low, self.band_high)
        self.yb = np.zeros((T, b))
        self.theta = np.zeros(self.cap.shape)
        self.c = np.zeros((T, self.exposures.size))  # dual of the coupling: √W (Ẽu − aim)
        self.u, self.spare, self.x = self.z.copy(), np.empty(p.eta.shape), self.c
        self.weight, self.reused = 0.0, True
        self.root = self.c
        self.drift = np.zeros_like(self.c)
        self.band_weight = np.ones(b)
        self.done = self.factorisations = self.applications = 0
        self.primal = self.dual = np.inf
        self.cell_parts = self.band_parts = (0.0, 0.0)  # squares of primal and dual residuals
        self.band_boost = 1.0 / p.slices  # a band sums slices: the longer, the softer each one
        if begin is None:
            self.reweigh(first_weight(p, self.diag))
        else:
            self._resume(begin)

    def _resume(self, begin: ScheduleState) -> None:
        self.band_boost = begin.band_boost
        self.reweigh(begin.weight, begin.preconditioner)
        self.z = np.clip(begin.trades, self.low, self.high)
        self.y = begin.cells * self.reach
        self.theta = np.array(begin.groups)
        x = self.exposures.of(self.z)
        self.zb = np.clip(x[:, self.bands], self.band_low, self.band_high)
        self.pull = self.w * (self.z - self.y) - self.linear
        self.yb = -begin.bands / self.band_weight
        x[:, self.bands] -= self.zb - self.yb
        self.c = self.root * x

    def state(self) -> ScheduleState:
        """Return a restart, ends not priced."""
        pushes = self.w * self.y
        ends = np.zeros(self.problem.names)
        return ScheduleState(
            self.z.copy(),
            pushes,
            self.theta.copy(),
            self.band_prices(),
            ends,
            self.weight,
            self.band_boost,
            self.preconditioner,
        )

    def reweigh(self, weight: float, held: Innovations | None = None) -> None:
        """Factor for another multiple of the metric, all multipliers kept; ``held`` is a preconditioner of before."""
        p = self.problem
        if self.factorisations:
            self.y *= self.weight / weight
            self.c[:, self.bands] *= self.root[:, self.bands]
            self.yb *= self.band_weight
        self.weight = weight
        self.w = weight * self.diag
        self.reach = 1.0 / self.w
        gross = np.square(p.band_vectors).T @ (1.0 / self.diag.mean(axis=0))
        self.band_weight = weight * self.band_boost / np.maximum(gross, np.finfo(np.float64).tiny)
        root = np.empty((p.slices, self.exposures.size))
        root[:, : self.exposures.risks] = np.sqrt(2.0 * p.risk_weight)[:, None]
        root[:, self.bands] = np.sqrt(self.band_weight)
        for part, energy in zip(self.exposures.parts, p.energy, strict=True):
            root[:, part] = np.sqrt(energy)[:, None]
        self.root = np.maximum(root, 1e-150)
        if self.factorisations:
            self.c[:, self.bands] /= self.root[:, self.bands]
            self.yb /= self.band_weight
        self.pull = self.w * (self.z - self.y) - self.linear
        self.blocks = NameBlocks(p, self.w)
        self.offset = self.blocks.offset()
        if held is None or not held.fits(self.exposures, p.slices):
            held = Innovations(self.exposures, self.blocks, self.root)
            self.reused = False
        self.preconditioner = held
        self.recycled = Recycled(self._operator, self.preconditioner.solve)
        self.factorisations += 1

    def _operator(self, y: Array) -> Array:
        """(I + √W Ẽ A⁻¹ Ẽ' √W) y."""
        self.applications += 1
        lifted = self.exposures.back(self.root * y, self.spare)
        self.blocks.solve(lifted, lifted)
        out = self.exposures.of(lifted)
        out *= self.root
        out += y
        return out

    def smooth(self) -> None:
        """First step: u, from z and y."""
        aim = np.zeros(self.c.shape)
        aim[:, self.bands] = self.zb - self.yb
        begun = self.c.copy()
        self.c += _AHEAD * self.drift
        self._lift()
        missed = self.root * (self.x - aim) - self.c
        step = self.preconditioner.solve(missed)
        norm, before = float(np.sum(missed * step)), np.inf
        tolerance = (_CG * min(self.primal, self.dual)) ** 2
        if not np.isfinite(tolerance):
            tolerance = 1e-4 * norm
        # The preconditioner is so near to the inverse that its plain step serves, as long as each one gains enough.
        while norm > tolerance and norm < _GAIN * before:
            self.c += step
            self._lift()
            missed = self.root * (self.x - aim) - self.c
            step = self.preconditioner.solve(missed)
            norm, before = float(np.sum(missed * step)), norm
        if norm > tolerance:
            exact = self.recycled.solve(missed, float(np.sqrt(tolerance)))
            if exact is not None:
                self.c += exact
                self._lift()
                missed = self.root * (self.x - aim) - self.c
                step = self.preconditioner.solve(missed)
                norm, before = float(np.sum(missed * step)), norm
            if self.recycled.count > _STALE and self.reused:
                self.reweigh(self.weight)  # the preconditioner of before serves badly
        if norm < before:
            self.c += step  # for the next time: it costs nothing
        self.drift = self.c - begun

    def _lift(self) -> None:
        """Set u and its exposures from the dual of the coupling."""
        self.applications += 1
        np.subtract(self.pull, self.exposures.back(self.root * self.c, self.spare), out=self.u)
        self.blocks.solve(self.u, self.u)
        if self.offset is not None:
            self.u += self.offset
        self.x = self.exposures.of(self.u)

    def limit(self) -> None:
        """Second step: z, z_b and the multipliers."""
        moved = cells.step(
            self.first, self.cap, _RELAX, self.u, self.w, self.reach, self.linear, self.spread, self.low, self.high,
            self.theta, self.z, self.y, self.pull,
        )  # fmt: skip
        x = self.x[:, self.bands]
        lifted = _RELAX * x + (1.0 - _RELAX) * self.zb + self.yb
        zb = np.clip(lifted, self.band_low, self.band_high)
        self.yb = lifted - zb
        primal = float(np.sum(self.band_weight * np.square(x - zb)))
        dual = float(np.sum(self.band_weight * np.square(zb - self.zb)))
        self.zb = zb
        self.cell_parts, self.band_parts = moved, (primal, dual)
        self.primal, self.dual = np.sqrt(moved[0] + primal), np.sqrt(moved[1] + dual)
        self.done += 1

    @property
    def residual(self) -> float:
        """Squares of primal and dual residual, in units of the cost."""
        return float(self.primal**2 + self.dual**2)

    def adapt(self) -> bool:
        """Refactor with weights that bring primal and dual residuals nearer to each other, where they are far apart."""
        single, bands = _imbalance(*self.cell_parts, 100.0), _imbalance(*self.band_parts, 10.0)
        if sum(self.band_parts) < 1e-2 * sum(self.cell_parts):
            bands = 1.0
        if self.factorisations >= _FACTORISATIONS or (single == 1.0 and bands == 1.0):
            return False
        self.band_boost *= bands / single if bands != 1.0 else 1.0
        self.reweigh(self.weight * single)
        return True

    def prices(self) -> tuple[Array, Array]:
        """Prices of caps and bands."""
        return self.theta.copy(), self.band_prices()

    def band_prices(self) -> Array:
        """Multipliers of the bands on q (T, b), positive on the upper edge: x rises where q falls."""
        return -self.band_weight * self.yb
