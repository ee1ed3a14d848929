"""Starts of the interior point from an answer to a neighbouring problem, and the state that an answer leaves.

Slacks and multipliers are lifted off the limits first: from a point at their sides no step goes far.
"""

from __future__ import annotations

import numpy as np

from crosswind.solvers.schedule.admm import first_weight, metric
from crosswind.solvers.schedule.certificate import Bounder, SchedulePrices
from crosswind.solvers.schedule.interior_steps import Iteration, Point
from crosswind.solvers.schedule.problem import Array
from crosswind.solvers.schedule.solution import ScheduleState

__all__ = ["state_of", "warm_point"]

_LIFT = 0.05  # of a limit's unit, the least slack


def state_of(bounder: Bounder, u: Array, prices: SchedulePrices) -> ScheduleState:
    """Return the state at trades ``u`` (T, N): what is left of the gradient is the cells' own."""
    p = bounder.problem
    _, g = bounder.reduced(u, prices)
    pushes = np.where(p.hard, prices.completion, 0.0) - g
    return ScheduleState(
        u.copy(),
        pushes,
        prices.groups.copy(),
        prices.bands.copy(),
        prices.completion.copy(),
        first_weight(p, metric(p)),
        1.0,
    )


def warm_point(iteration: Iteration, state: ScheduleState, change: Array | None) -> Point:
    """Return a first point near a state; ``change`` (T, N) are signed prices of changes, where known."""
    model, rows, p = iteration.model, iteration.rows, iteration.model.problem
    cold = iteration.begin()
    x = cold.x.copy()
    x[0] = np.where(model.free, np.clip(state.trades, p.lower, p.upper), model.start)
    if rows.splits:
        x[1] = model.split * np.abs(x[0])
    kink = (np.asarray(p.spread) + (state.groups @ rows.sums.T) * model.group) / model.scale
    cells = state.cells / model.scale
    lean = np.clip(cells / np.where(kink > 0.0, kink, 1.0), -1.0, 1.0)
    box = cells - kink * np.where(model.split, lean, model.sign)
    parts = [np.maximum(-box, 0.0), np.maximum(box, 0.0)]
    if rows.splits:
        parts += [0.5 * kink * (1.0 + lean), 0.5 * kink * (1.0 - lean)]
    if rows.changes:
        theta = np.zeros(p.eta.shape) if change is None else change / model.scale
        parts += [np.maximum(-theta, 0.0), np.maximum(theta, 0.0)]
    bands = state.bands / model.scale
    parts += [np.maximum(-bands, 0.0), np.maximum(bands, 0.0), state.groups / model.scale]
    known = np.concatenate([part.ravel() for part in parts])[rows.kept]
    s = np.maximum(rows.value(x), _LIFT * rows.units)
    stake = cold.z * rows.units
    z = np.maximum(known, _LIFT**2 * stake / s)
    short = x[0].sum(axis=0) - model.need
    soft = model.complete & (model.give > 0.0)
    nu = np.where(soft, short / np.where(soft, model.give, 1.0), -state.completion / model.scale)
    return Point(x, np.where(model.complete, nu, 0.0), s, z)
