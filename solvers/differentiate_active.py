r"""Which limits hold a certified solution, and the solution itself to rounding on those limits.

Rows and boxes are stacked, rows first, into (m + n,) limits with value v = (Ax, x), bounds and multiplier λ = (y, z).
Room and multiplier are compared without units:

.. math::

    \rho_i = \frac{\text{room}_i}{\text{length}_i}, \qquad
    \omega_i = |\lambda_i| \max\left(\frac{\text{length}_i}{C},\ \frac{\max_j |A_{ij}|}{G}\right),

where the length of box j is X_j, the larger of |x_j| and its smallest non-zero bound (or the largest |x| where it has
none), that of row i is max_j |A_ij| X_j, G = max_j g_j with g = max(|q|, |Px|) is the size of the gradient, and
C = max_j g_j X_j that of the cost. The second measure of a multiplier is the certificate's own; the first does not
depend on the units of the variables, but would pass over a box so thin that leaning on it costs nothing.

An interior point stops with room × multiplier ≈ μ for every limit: a limit that binds has ω ≫ ρ, one that does not has
ρ ≫ ω, and where both are about √μ nobody can tell. Hence the tolerance: √ε, with ε the worst relative measure of the
certificate (Fiacco and McCormick, 1968, on the central path; the rule is ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crosswind.solvers.certify import certify
from crosswind.solvers.differentiate_kkt import ActiveKkt
from crosswind.solvers.matrices import Vector
from crosswind.solvers.program import QuadraticProgram

__all__ = ["Mask", "Measures", "measure", "refine"]

Mask = npt.NDArray[np.bool_]

_ROUNDING = 1e-10  # relative: a miss or a wrong sign below it is the arithmetic's, not the active set's
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Measures:
    """What is known about each of the (m + n,) limits, rows first.

    Attributes
    ----------
    side
        The bound that the limit leans on or is nearest to; the value itself where it has none.
    upper
        Whether that is the upper one.
    equal
        Whether both bounds are the same.
    room, weight
        ρ (negative where the bound is missed) and ω, without units.
    """

    side: Vector
    upper: Mask
    equal: Mask
    room: Vector
    weight: Vector


def measure(program: QuadraticProgram, x: Vector, y: Vector, z: Vector) -> Measures:
    """Measure all limits at (x, y, z) of shapes (n,), (m,), (n,); see the module's text for the formulas."""
    value = np.concatenate((program.A @ x, x))
    low, high = np.concatenate((program.l, program.lb)), np.concatenate((program.u, program.ub))
    multiplier = np.concatenate((y, z))
    reach = _reach(program, x)
    length = np.concatenate((_row_lengths(program, reach), reach))
    gradient = np.maximum(np.abs(program.q), np.abs(program.P @ x))
    cost = float(np.max(gradient * reach, initial=0.0)) or 1.0
    steep = float(np.max(gradient, initial=0.0)) or 1.0
    entry = np.concatenate((_row_lengths(program, np.ones(program.n)), np.ones(program.n)))
    weight = np.abs(multiplier) * np.maximum(length / cost, entry / steep)
    equal = low == high
    by_sign = multiplier >= 0.0
    _, room = _room(value, low, high, by_sign, length)
    # A multiplier that is small beside the room it leans on is noise, and so is its sign: the nearer bound counts.
    upper = np.where(equal | (weight > room), by_sign, high - value <= value - low)
    side, room = _room(value, low, high, upper, length)
    return Measures(side, upper, equal, room, weight)


def _room(value: Vector, low: Vector, high: Vector, upper: Mask, length: Vector) -> tuple[Vector, Vector]:
    side = np.where(upper, high, low)
    finite = np.isfinite(side)
    side = np.where(finite, side, value)
    room = np.where(upper, side - value, value - side)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(finite, np.where(length > 0.0, room / length, np.sign(room) * np.inf), np.inf)
    room[np.isnan(room)] = 0.0
    return side, room


def refine(
    program: QuadraticProgram, x: Vector, y: Vector, z: Vector, given: float
) -> tuple[Vector, Vector, Vector, float, ActiveKkt | None]:
    """Return the solution on its active limits to rounding, its error, and the factors where the set has settled.

    Newton steps on the limits with ω > ρ; a limit that is missed joins, one whose multiplier comes out with the wrong
    sign leaves. The result is taken only where its certificate is no worse than that of the given point.

    Parameters
    ----------
    x, y, z
        A certified point (n,), (m,), (n,).
    given
        The worst relative measure of its certificate.

    Returns
    -------
    tuple
        x, y, z, the worst relative measure of their certificate, and the factors (``None``: the point as given).
    """
    start = measure(program, x, y, z)
    held, upper = start.equal | (start.weight > start.room), start.upper
    gradient = program.P @ x + program.q
    value = np.concatenate((program.A @ x, x))
    low, high = np.concatenate((program.l, program.lb)), np.concatenate((program.u, program.ub))
    for _ in range(_ROUNDS):
        side = np.where(held, np.where(upper, high, low), value)
        kkt = ActiveKkt(program, held, max(given, 1e-11))
        step, multiplier = kkt.solve(-gradient, side - value)
        point = x + step
        # Once more on what is left: the first step carries the rounding of a point that was far off.
        missed = side - np.concatenate((program.A @ point, point))
        left = program.P @ point + program.q + program.A.T @ multiplier[: program.m] + multiplier[program.m :]
        step, more = kkt.solve(-left, missed)
        point, multiplier = point + step, multiplier + more
        point = np.where(held[program.m :], side[program.m :], point)
        if not (np.isfinite(point).all() and np.isfinite(multiplier).all()):
            break
        now = measure(program, point, multiplier[: program.m], multiplier[program.m :])
        wrong = held & ~start.equal & (multiplier != 0.0) & ((multiplier > 0.0) != upper)
        leaving = wrong & (now.weight > _ROUNDING)
        above, below = _missed(program, point)
        joining = ~held & (above | below)
        if not (leaving.any() or joining.any()):
            multiplier[wrong] = 0.0
            found = point, multiplier[: program.m], multiplier[program.m :]
            worst = certify(program, *found).worst
            return (*found, worst, kkt) if worst <= max(given, _ROUNDING) else (x, y, z, given, None)
        held = (held & ~leaving) | joining
        upper = np.where(joining, above, upper)
    return x, y, z, given, None


def _missed(program: QuadraticProgram, x: Vector) -> tuple[Mask, Mask]:
    """Return which limits lie above the upper and below the lower bound by more than rounding."""
    value = np.concatenate((program.A @ x, x))
    reach = _reach(program, x)
    slack = _ROUNDING * np.concatenate((_row_lengths(program, reach), reach))
    low, high = np.concatenate((program.l, program.lb)), np.concatenate((program.u, program.ub))
    return value > high + slack, value < low - slack


def _reach(program: QuadraticProgram, x: Vector) -> Vector:
    size = np.abs(x)
    unit = np.full(program.n, np.inf)
    for bound in (np.abs(program.lb), np.abs(program.ub)):
        unit = np.minimum(unit, np.where(bound > 0.0, bound, np.inf))
    top = float(np.max(size, initial=0.0)) or 1.0
    return np.maximum(size, np.where(np.isfinite(unit), unit, top))


def _row_lengths(program: QuadraticProgram, reach: Vector) -> Vector:
    out = np.zeros(program.m)
    A: Any = program.A
    np.maximum.at(out, A.indices, np.abs(A.data) * np.repeat(reach, np.diff(A.indptr)))
    return out
