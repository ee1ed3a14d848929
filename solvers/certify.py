r"""Our own residuals and gap for any iterate of any backend, stopped and tampered ones included.

For the quadratic program with row multipliers y and box multipliers z (positive where the upper bound binds),
:math:`y_+ = \max(y, 0)`, :math:`y_- = \max(-y, 0)`:

.. math::

    r_p &= \max\{(Ax-u)_+,\ (l-Ax)_+,\ (x-ub)_+,\ (lb-x)_+\} \\
    r_d &= \lVert Px + q + A'y + z \rVert_\infty \\
    \text{gap} &= |x'Px + q'x + \sigma|, \quad \sigma = u'y_+ - l'y_- + ub'z_+ - lb'z_-

A multiplier on the side of an infinite bound proves nothing and would make the gap ∞ or NaN: it is dropped before the
measures are taken (so the stationarity residual shows what it hid) and its size counts as a dual residual of its own.

Relative measures divide by the terms a residual is made of, never by 1 + those:

==========  =====================================================================================================
primal_rel  each row i by max(|A_ij x_j|, |the bound that is missed|); each box j by the bound that is missed
dual_rel    max(|Px|, |q|)
gap_rel     max(½x'Px, |q'x|, |σ|, largest |q| × smallest length that a non-zero bound gives a variable)
==========  =====================================================================================================

Each row has its own scale, since a cash row of 1e8 would otherwise excuse a participation row of 0.1; so have zero and
nonnegative rows of cone programs, and each of the larger cones, with the slack among the terms. A bound of zero
has no scale: there the entries |A_ij| count times at least 1e-4 X_j, X_j being the larger of |x_j| and the smallest
non-zero bound of variable j, or the largest |x| where j has none, so that a program whose optimum is to do nothing can
pass. The smallest bound in the gap's scale is there for the same reason (that of a row is divided by its largest entry,
which makes it a length of x); a loose cap loosens nothing.

The multipliers are no part of the scales, unless the objective itself is zero: where rows depend on each other, or a
box is a sliver, backends return multipliers of 1e9 times the costs that cancel, and measured against those a point
that is wrong in its first digit would pass.

The lower bounds follow from weak duality (:mod:`crosswind.solvers.bounds`). Small residuals alone do not make a point
good: along a direction in which P hardly curves, a residual of 1e-9 of the costs can be worth a tenth of the optimum.
So an iterate whose residuals pass must also be close to a lower bound, its own or that of one Newton step on its
active limits:

==========  =====================================================================================================
excess_rel  max(|objective − lower bound|, Σ|y_i| miss_i + Σ|z_j| miss_j) by the gap's scale; the bound within reach
            where none holds everywhere
==========  =====================================================================================================

The reach is a thousand times the size of x, for cone programs ten times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crosswind.solvers.bounds import ROUNDINGS, curvature, dual_bound, polished, support
from crosswind.solvers.cones import blocks, dual_distance, project_dual, slack_distance
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import ConeProgram, QuadraticProgram
from crosswind.solvers.solution import ABSOLUTE_FLOOR, Certificate

__all__ = ["certify", "support"]

_AT_REST = 1e-4  # of the reach: below it a row with bound zero counts as being at rest

_CONE_REACH = 10.0  # no box absorbs a residual of a cone program, and no cheap step removes it: a bound nearer by
_RELATIVE = 1e-10  # a relative residual so small that no floor is needed

_WORTHLESS: dict[str, Any] = {
    "primal": np.inf,
    "dual": np.inf,
    "gap": np.inf,
    "primal_rel": np.inf,
    "dual_rel": np.inf,
    "gap_rel": np.inf,
    "objective": np.inf,
    "lower_bound": -np.inf,
    "lower_bound_within": -np.inf,
    "excess": np.inf,
    "excess_rel": np.inf,
}


def certify(
    program: QuadraticProgram | ConeProgram,
    x: Vector,
    y: Vector,
    z: Vector | None = None,
    s: Vector | None = None,
    tol: float = 1e-6,
) -> Certificate:
    """Measure an iterate by its own residuals and gap; see the module's text for the formulas.

    Parameters
    ----------
    program
        What the iterate claims to solve.
    x, y
        (n,) point and (m,) row multipliers (for cones: y ∈ K*).
    z
        (n,) box multipliers; ``None`` takes the best ones that the finite bounds allow, −(Px + q + A'y) on their side.
    s
        (m,) cone slack; ``None`` takes b − Ax.
    tol
        The relative tolerance that :meth:`Certificate.passes` uses.

    Returns
    -------
    Certificate
        Finite measures; all of them ∞ when the iterate is not finite.

    Raises
    ------
    InvalidInput
        On wrong shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from crosswind.solvers.program import QuadraticProgram
    >>> program = QuadraticProgram(np.eye(1), [-2.0], lb=0.0, ub=1.0)
    >>> certify(program, np.array([1.0]), np.zeros(0), np.array([1.0])).passes()
    True
    """
    x, y = _shaped(x, program.n, "x"), _shaped(y, program.m, "y")
    extra = [_shaped(v, k, f) for v, k, f in ((z, program.n, "z"), (s, program.m, "s")) if v is not None]
    if not all(np.isfinite(part).all() for part in (x, y, *extra)):
        return Certificate(tolerance=tol, **_WORTHLESS)
    if not (program.q.any() or program.P.data.any()):
        # Nothing to minimise: whatever keeps the limits is optimal, with multipliers of zero whatever came along.
        y, z = np.zeros(program.m), np.zeros(program.n)
    found: dict[str, Any]
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(program, QuadraticProgram):
            found = _quadratic(program, x, y, None if z is None else np.asarray(z, dtype=np.float64), tol)
        else:
            found = _conic(program, x, y, None if s is None else np.asarray(s, dtype=np.float64))
    if any(np.isnan(value) for value in found.values()):  # an overflow on the way: nothing can be said
        found = _WORTHLESS
    return Certificate(tolerance=tol, floors=_floors(program, found), **found)


def _floors(program: QuadraticProgram | ConeProgram, found: dict[str, float]) -> tuple[float, float, float]:
    """Return the residuals (primal, dual, gap) that pass whatever their relative size, smaller for small programs.

    In a program of returns per currency every residual is below an absolute floor, so it shrinks with the program.
    """
    close = any(0.0 < found[k] <= ABSOLUTE_FLOOR and found[f"{k}_rel"] > _RELATIVE for k in ("primal", "dual", "gap"))
    if not close:
        return ABSOLUTE_FLOOR, ABSOLUTE_FLOOR, ABSOLUTE_FLOOR
    linear, quadratic = _abs_max(program.q), _abs_max(program.P.data)
    # The smallest length the bounds give, not a typical one: a loose cap would make everything look small.
    length = _unit(program) or (linear / quadratic if linear > 0.0 and quadratic > 0.0 else 1.0)
    cost = max(linear * length, quadratic * length * length) or 1.0
    sizes = (length, cost / length, cost)
    primal, dual, gap = (ABSOLUTE_FLOOR * min(1.0, value) for value in sizes)
    return primal, dual, gap


def _quadratic(program: QuadraticProgram, x: Vector, y: Vector, z: Vector | None, tol: float) -> dict[str, float]:
    P, q, A = program.P, program.q, program.A
    l, u, lb, ub = program.l, program.u, program.lb, program.ub  # noqa: E741
    Px, Ax = P @ x, A @ x
    y_kept, refused = _allowed(y, l, u)
    Aty = A.T @ y_kept
    gradient = Px + q + Aty
    if z is None:
        z, _ = _allowed(-gradient, lb, ub)
    else:
        z, refused_z = _allowed(z, lb, ub)
        refused = max(refused, refused_z)
    r = gradient + z

    row_miss, row_bound = _missed(Ax, l, u)
    box_miss, box_bound = _missed(x, lb, ub)
    primal_rel = 0.0
    reach = _reach(program, x)
    if row_miss.any() or box_miss.any():
        primal_rel = max(
            _relative_miss(row_miss, row_bound, _row_top(program, np.abs(x)), _row_top(program, reach)),
            _relative_miss(box_miss, box_bound, np.abs(x), reach),
        )

    support_rows, support_boxes = support(u, l, y_kept), support(ub, lb, z)
    xPx, qx = float(x @ Px), float(q @ x)
    gap = abs(xPx + qx + support_rows + support_boxes)
    gap_scale = max(0.5 * abs(xPx), abs(qx), abs(support_rows + support_boxes), _abs_max(q) * _unit(program))
    dual = max(_abs_max(r), refused)
    found = {
        "primal": max(_abs_max(row_miss), _abs_max(box_miss)),
        "dual": dual,
        "gap": gap,
        "primal_rel": primal_rel,
        "dual_rel": _ratio(dual, max(_abs_max(Px), _abs_max(q)) or max(_abs_max(Aty), _abs_max(z))),
        "gap_rel": _ratio(gap, gap_scale or abs(support_rows)),
        "objective": 0.5 * xPx + qx + program.constant,
    }
    bounds = dual_bound(program, x, y_kept, z, r, reach)
    return found | _excess(program, found, bounds, gap_scale or abs(support_rows), (x, y_kept, z, reach), tol)


def _excess(
    program: QuadraticProgram,
    found: dict[str, float],
    bounds: tuple[float, float],
    scale: float,
    iterate: tuple[Vector, Vector, Vector, Vector],
    tol: float,
) -> dict[str, float]:
    """Return both lower bounds and how far the objective may be from the optimum, polished where that decides.

    From above by the bounds; from below by what the multipliers say that the missed limits are worth, since a point
    outside the limits may be too good.
    """
    x, y, z, reach = iterate
    value = found["objective"] - program.constant
    everywhere, within = bounds
    worth = _worth_of_misses(program, x, y, z)
    nearest = everywhere if np.isfinite(everywhere) else within
    passing = max(found["primal_rel"], found["dual_rel"], found["gap_rel"]) <= tol
    if passing and max(abs(value - nearest), worth) > tol * scale:
        step = polished(program, x, y, z)
        if step is not None:
            w, y, z = step
            better = dual_bound(program, w, y, z, program.P @ w + program.q + program.A.T @ y + z, reach)
            everywhere, within = max(everywhere, better[0]), max(within, better[1])
            nearest = everywhere if np.isfinite(everywhere) else within
            worth = min(worth, _worth_of_misses(program, x, y, z))
    excess = max(abs(value - nearest), worth)
    return {
        "lower_bound": everywhere + program.constant,
        "lower_bound_within": within + program.constant,
        "excess": excess,
        "excess_rel": _ratio(excess, scale),
    }


def _worth_of_misses(program: QuadraticProgram, x: Vector, y: Vector, z: Vector) -> float:
    rows, _ = _missed(program.A @ x, program.l, program.u)
    boxes, _ = _missed(x, program.lb, program.ub)
    return float(np.abs(y) @ rows + np.abs(z) @ boxes)


def _conic(program: ConeProgram, x: Vector, y: Vector, s: Vector | None) -> dict[str, float]:
    P, q, A, b = program.P, program.q, program.A, program.b
    Px, Ax = P @ x, A @ x
    equation = np.zeros(program.m)
    if s is None:
        s = b - Ax
    else:
        equation = np.abs(Ax + s - b)
    refused = dual_distance(program.cones, y)
    y_kept = project_dual(program.cones, y)
    primal, primal_rel, worth = _conic_misses(program, x, y_kept, s, equation)
    Aty = A.T @ y_kept
    r = Px + q + Aty
    xPx, qx, by = float(x @ Px), float(q @ x), float(b @ y_kept)
    gap = abs(xPx + qx + by)
    dual = max(_abs_max(r), refused)
    scale = max(0.5 * abs(xPx), abs(qx), abs(by), _abs_max(q) * _unit(program))
    value = 0.5 * xPx + qx
    everywhere = within = -0.5 * xPx - by - ROUNDINGS * (0.5 * abs(xPx) + float(np.abs(b) @ np.abs(y_kept)))
    left = np.flatnonzero(r)
    if left.size:
        bend, r_left, x_left = curvature(program)[left], r[left], x[left]
        with np.errstate(divide="ignore", invalid="ignore"):
            bent = np.where(bend > 0.0, r_left * x_left - 0.5 * r_left**2 / bend, -np.inf)
        everywhere += float(np.sum(bent))
        within += float(np.sum(np.maximum(bent, -np.abs(r_left) * _CONE_REACH * _abs_max(x))))
    return {
        "primal": primal,
        "dual": dual,
        "gap": gap,
        "primal_rel": primal_rel,
        "dual_rel": _ratio(dual, max(_abs_max(Px), _abs_max(q)) or _abs_max(Aty)),
        "gap_rel": _ratio(gap, scale),
        "objective": value + program.constant,
        "lower_bound": everywhere + program.constant,
        "lower_bound_within": within + program.constant,
        "excess": max(abs(value - within), worth),
        "excess_rel": _ratio(max(abs(value - within), worth), scale),
    }


def _conic_misses(
    program: ConeProgram, x: Vector, y: Vector, s: Vector, equation: Vector
) -> tuple[float, float, float]:
    """Return the largest miss, absolute and by the scale of its own cone, and what y says that all are worth.

    The slack of one loose limit must not excuse another: zero and nonnegative rows have a scale each, the larger cones
    one each. As for rows of quadratic programs: the terms of Ax, the slack and b; where b is zero, part of the reach.
    """
    far = _abs_max(x)
    terms, reach = _row_top(program, np.abs(x)), far * _row_top(program, np.ones(program.n))
    size = np.abs(program.b)
    scale = np.maximum(np.maximum(terms, np.abs(s)), np.where(size > 1e-12 * reach, size, _AT_REST * reach))
    primal = relative = worth = 0.0
    for cone, rows in blocks(program.cones):
        if cone.kind in ("zero", "nonneg"):
            miss = np.maximum(np.abs(s[rows]) if cone.kind == "zero" else -s[rows], equation[rows])
            miss = np.maximum(miss, 0.0)
            if not miss.any():
                continue
            own = scale[rows]
            part = float(np.max(np.where(miss > 0.0, miss / np.where(own > 0.0, own, 1e-300), 0.0)))
            top, price = float(np.max(miss)), float(np.abs(y[rows]) @ miss)
        else:
            gone = slack_distance((cone,), s[rows])
            top = max(gone, float(np.max(equation[rows])))
            part = _ratio(top, float(np.max(scale[rows])))
            price = float(np.linalg.norm(y[rows])) * top
        primal, relative, worth = max(primal, top), max(relative, part), worth + price
    return primal, relative, worth


def _allowed(multiplier: Vector, lower: Vector, upper: Vector) -> tuple[Vector, float]:
    """Drop the part of a multiplier that leans on an infinite bound; return what is kept and the largest drop."""
    wrong = ((multiplier > 0.0) & np.isinf(upper)) | ((multiplier < 0.0) & np.isinf(lower))
    if not wrong.any():
        return multiplier, 0.0
    return np.where(wrong, 0.0, multiplier), float(np.max(np.abs(multiplier[wrong])))


def _smallest(*sizes: Vector) -> float:
    """Return the smallest non-zero finite entry in absolute value, 0.0 when there is none."""
    found = np.inf
    for values in sizes:
        size = np.abs(values)
        found = min(found, float(np.min(size, where=(size > 0.0) & (size < np.inf), initial=np.inf)))
    return found if np.isfinite(found) else 0.0


def _unit(program: QuadraticProgram | ConeProgram) -> float:
    """Return the smallest length that a non-zero bound gives a variable: boxes, and rows over their largest entry."""
    top = _row_top(program, np.ones(program.n))
    rows = (program.b,) if isinstance(program, ConeProgram) else (program.l, program.u)
    lengths = [np.divide(side, top, out=np.zeros_like(top), where=top > 0.0) for side in rows]
    return _smallest(*lengths) if isinstance(program, ConeProgram) else _smallest(*lengths, program.lb, program.ub)


def _missed(value: Vector, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """Return by how much each bound is missed and the size of that bound, zeros where none is."""
    above, below = value - upper, lower - value
    miss = np.maximum(np.maximum(above, below), 0.0)
    bound = np.where(miss > 0.0, np.abs(np.where(above > below, upper, lower)), 0.0)
    return miss, bound


def _relative_miss(miss: Vector, bound: Vector, own: Vector, reach: Vector) -> float:
    """Return the largest miss over its own scale; a bound that is zero up to rounding leaves the scale to ``reach``."""
    at = np.flatnonzero(miss)
    if at.size == 0:
        return 0.0
    known = bound[at] > 1e-12 * reach[at]
    scale = np.maximum(own[at], np.where(known, bound[at], _AT_REST * reach[at]))
    return float(np.max(np.where(scale > 0.0, miss[at] / np.where(scale > 0.0, scale, 1.0), np.inf)))


def _reach(program: QuadraticProgram, x: Vector) -> Vector:
    """Return X (n,): the larger of |x_j| and the smallest non-zero finite bound of j, or max |x| where j has none."""
    low, high = np.abs(program.lb), np.abs(program.ub)
    low, high = np.where(low > 0.0, low, np.inf), np.where(high > 0.0, high, np.inf)
    unit = np.minimum(low, high)
    return np.maximum(np.abs(x), np.where(np.isfinite(unit), unit, _abs_max(x)))


def _row_top(program: Any, size: Vector) -> Vector:
    """Return (m,) the largest |A_ij| size_j of each row: how large the terms are that cancel in Ax."""
    out = np.zeros(program.m)
    if program.A.nnz == 0:
        return out
    rows = program._cache.get("rows")
    if rows is None:
        rows = abs(program.A).tocsr()
        program._cache["rows"] = rows
    filled = np.flatnonzero(np.diff(rows.indptr))
    out[filled] = np.maximum.reduceat(rows.data * size[rows.indices], rows.indptr[filled])
    return out


def _shaped(value: object, size: int, field: str) -> Vector:
    out = np.asarray(value, dtype=np.float64)
    if out.shape != (size,):
        raise InvalidInput(f"expected shape ({size},)", field=field, value=out.shape, remedy="match the program")
    return out


def _abs_max(values: Vector) -> float:
    return float(np.max(np.abs(values))) if values.size else 0.0


def _ratio(value: float, scale: float) -> float:
    if value == 0.0:
        return 0.0
    return value / scale if scale > 0.0 else np.inf
