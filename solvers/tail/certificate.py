"""What a point of a tail program is worth: its objective, and a number that no feasible point can undercut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers.tail.problem import Array, TailProgram

__all__ = ["TailBound", "lower_bound", "tail_weights"]


@dataclass(frozen=True, eq=False)
class TailBound:
    """A proven bound and what it rests on.

    Attributes
    ----------
    value
        No feasible x has a smaller objective.
    weights
        w (S,) of the tail, within the caps, summing to 1.
    equal, rows
        Multipliers (J,) of E x = e and (R,) ≥ 0 of G x ≤ h.
    reduced
        (n,) reduced costs; ≥ 0 but for what the bound pays for.
    """

    value: float
    weights: Array
    equal: Array
    rows: Array
    reduced: Array


def tail_weights(weights: Array, caps: Array) -> Array:
    """Return the weights moved into {0 ≤ w ≤ π, Σ w = 1}: clipped, then what lacks is filled up in proportion."""
    w = np.clip(weights, 0.0, caps)
    missing = 1.0 - float(w.sum())
    if missing > 0.0:
        room = caps - w
        w = w + room * (missing / max(float(room.sum()), 1e-300))
    elif missing < 0.0:
        w = w / float(w.sum())
    return w


def lower_bound(program: TailProgram, x: Array, weights: Array, equal: Array, rows: Array) -> TailBound:
    r"""Bound the program from below by the multipliers of any solver.

    For any w within the caps the objective is at least ``L(x) = q'x + ½x'diag(r)x + Σ (p + λw)_s c_s(x)``, a convex
    function, hence ``L(z) ≥ L(x) + ∇L(x)'(z − x)`` for every z; and with multipliers ν, y ≥ 0

        min { ∇L'z : z ≥ 0, Ez = e, Gz ≤ h } ≥ ν'e − y'h + Σ_i min(0, ∇L_i − (E'ν)_i + (G'y)_i) · bound_i.

    Parameters
    ----------
    program
        The program.
    x
        Any point (n,).
    weights, equal, rows
        w (S,), ν (J,), y (R,); they need not be optimal, nor within their bounds: they are moved there.
    """
    w = tail_weights(weights, program.caps) if program.risk else np.zeros(program.scenarios)
    y = np.maximum(rows, 0.0)
    total = program.probabilities + program.risk * w
    v = program.cell_values(x)
    pull = v @ program.kernel
    gradient = program.base + program.ridge * x + total @ program.linear
    gradient += (program.scale * (program.cells.T @ (pull * total[:, None]).T).T).sum(axis=0)
    c = program.constant + program.linear @ x + 0.5 * np.einsum("sc,sc->s", pull, v)
    level = float(program.base @ x + 0.5 * program.ridge @ (x * x) + total @ c)
    reduced = gradient - program.equal.T @ equal + program.rows.T @ y
    value = level - float(gradient @ x) + float(equal @ program.equal_to) - float(y @ program.rows_to)
    short = np.minimum(reduced, 0.0)
    if short.any():
        value += float(short @ program.bounds)
    return TailBound(value, w, equal, y, reduced)
