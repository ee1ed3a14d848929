"""Two hundred seeded quadratic programs that every solver should manage, half of them degenerate.

The programs are small, so that what they test is not speed but whether a solver's word can be believed: a planted point
keeps every limit, so each has a solution, and each family brings one trouble: dependent rows, a feasible set that is a
point, units twelve decades apart, flat directions, bounds that are infinite in all but name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crosswind.solvers.program import QuadraticProgram

__all__ = ["DEGENERATE", "REGULAR", "family_programs"]

INF = np.inf
Build = Callable[[np.random.Generator], QuadraticProgram]


def _program(
    P: Any, q: Any, A: Any = None, low: Any = None, high: Any = None, lb: Any = None, ub: Any = None
) -> QuadraticProgram:
    """Build a program from scalars and lists as well, which the types of its fields do not tell."""
    return QuadraticProgram(P, q, A, low, high, lb, ub)


# -- the non-degenerate half: an interior point is planted, active rows are independent with probability one ---------


def _definite(rng: np.random.Generator, n: int, rank: int | None = None) -> np.ndarray:
    G = rng.normal(size=(n, n if rank is None else rank))
    P = G @ G.T
    return P if rank is not None else P + np.eye(n)


def _room(rng: np.random.Generator, value: np.ndarray, share: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds around ``value`` at distances in (0.1, 2.1); each side stays finite with probability ``share``."""
    gap = 0.1 + 2.0 * rng.random((2, value.size))
    shut = rng.random((2, value.size)) < share
    return np.where(shut[0], value - gap[0], -INF), np.where(shut[1], value + gap[1], INF)


def _mixed(rng: np.random.Generator, rank: float = 1.0, box_share: float = 0.7) -> QuadraticProgram:
    n, ranged = int(rng.integers(3, 25)), int(rng.integers(1, 15))
    equal = int(rng.integers(1, max(2, n // 3)))
    P = _definite(rng, n) if rank == 1.0 else _definite(rng, n, max(1, int(rank * n)))
    A, x0 = rng.normal(size=(equal + ranged, n)), rng.normal(size=n)
    low, high = _room(rng, A @ x0)
    low[:equal] = high[:equal] = (A @ x0)[:equal]
    lb, ub = _room(rng, x0, box_share)
    return _program(P, 5.0 * rng.normal(size=n), A, low, high, lb, ub)


def _merely_convex(rng: np.random.Generator) -> QuadraticProgram:
    return _mixed(rng, rank=0.5, box_share=1.0)


def _equalities(rng: np.random.Generator) -> QuadraticProgram:
    n = int(rng.integers(4, 25))
    A, b = rng.normal(size=(n // 3 + 1, n)), rng.normal(size=n // 3 + 1)
    return _program(_definite(rng, n), rng.normal(size=n), A, b, b)


def _boxes(rng: np.random.Generator) -> QuadraticProgram:
    n = int(rng.integers(2, 30))
    lb, ub = _room(rng, rng.normal(size=n))
    return _program(_definite(rng, n), 10.0 * rng.normal(size=n), lb=lb, ub=ub)


def _rows(rng: np.random.Generator) -> QuadraticProgram:
    n, m = int(rng.integers(2, 20)), int(rng.integers(2, 30))
    A = rng.normal(size=(m, n))
    low, high = _room(rng, A @ rng.normal(size=n), 0.5)
    return _program(_definite(rng, n), 10.0 * rng.normal(size=n), A, low, high)


def _one_variable(rng: np.random.Generator) -> QuadraticProgram:
    x0, slope = rng.normal(size=1), rng.normal(size=(1, 1))
    low, high = _room(rng, slope[0] * x0)
    lb, ub = _room(rng, x0)
    return _program([[0.1 + rng.random()]], 10.0 * rng.normal(size=1), slope, low, high, lb, ub)


def _units(rng: np.random.Generator) -> QuadraticProgram:
    """Return a mixed program in other units of length and cost, 1e-6 to 1e6 each."""
    base = _mixed(rng)
    length, cost = 10.0 ** rng.uniform(-6.0, 6.0, size=2)
    sides = (side * length for side in (base.l, base.u, base.lb, base.ub))
    return _program(base.P * (cost / length**2), base.q * (cost / length), base.A, *sides)


def _row_units(rng: np.random.Generator) -> QuadraticProgram:
    """Return a mixed program whose rows are each in their own unit, 1e-3 to 1e3."""
    base = _mixed(rng)
    unit = 10.0 ** rng.uniform(-3.0, 3.0, size=base.m)
    A = base.A.toarray() * unit[:, None]
    return _program(base.P, base.q, A, base.l * unit, base.u * unit, base.lb, base.ub)


def _tight(rng: np.random.Generator) -> QuadraticProgram:
    """Boxes and rows a thousandth wide: nearly everything binds on one side."""
    n = int(rng.integers(3, 20))
    x0, A = rng.normal(size=n), rng.normal(size=(2, n))
    return _program(_definite(rng, n), 10.0 * rng.normal(size=n), A, A @ x0 - 1e-3, A @ x0 + 1e-3, x0 - 1e-3, x0 + 1e-3)


def _loose(rng: np.random.Generator) -> QuadraticProgram:
    """Bounds a thousand away: nothing binds."""
    n = int(rng.integers(3, 25))
    A = rng.normal(size=(4, n))
    return _program(_definite(rng, n), rng.normal(size=n), A, -1e3, 1e3, -1e3, 1e3)


# -- the degenerate half ----------------------------------------------------------------------------------------------


def _duplicated_rows(rng: np.random.Generator) -> QuadraticProgram:
    base = _mixed(rng)
    twice = np.r_[np.arange(base.m), np.arange(base.m)]
    return _program(base.P, base.q, base.A.toarray()[twice], base.l[twice], base.u[twice], base.lb, base.ub)


def _dependent_equalities(rng: np.random.Generator) -> QuadraticProgram:
    n = int(rng.integers(4, 20))
    A, x0 = rng.normal(size=(3, n)), rng.normal(size=n)
    A = np.vstack((A, A[0] + A[1], A[1] - 2.0 * A[2]))
    lb, ub = _room(rng, x0)
    return _program(_definite(rng, n), rng.normal(size=n), A, A @ x0, A @ x0, lb, ub)


def _a_point(rng: np.random.Generator) -> QuadraticProgram:
    """Completion at its largest value within the box: one feasible point, no interior."""
    n = int(rng.integers(2, 15))
    cap = 1.0 + rng.random(n)
    total = float(cap.sum())
    return _program(_definite(rng, n), rng.normal(size=n), np.ones((1, n)), total, total, 0.0, cap)


def _no_licq(rng: np.random.Generator) -> QuadraticProgram:
    """More rows through the optimum than variables: multipliers are not unique."""
    n = int(rng.integers(2, 10))
    x0, A = rng.normal(size=n), rng.normal(size=(2 * n, n))
    P = _definite(rng, n)
    q = -(P @ x0 + A.T @ rng.random(2 * n))
    return _program(P, q, A, -INF, A @ x0)


def _fixed_variables(rng: np.random.Generator) -> QuadraticProgram:
    from crosswind.solvers.solve import solve

    base = _mixed(rng, box_share=1.0)
    fixed = rng.random(base.n) < 0.4
    x0 = solve(base, "clarabel", tol=1e-9).x
    return _program(base.P, base.q, base.A, base.l, base.u, np.where(fixed, x0, base.lb), np.where(fixed, x0, base.ub))


def _no_rows(rng: np.random.Generator) -> QuadraticProgram:
    """No rows at all or rows of zeros only, and a singular P within a box."""
    n = int(rng.integers(2, 15))
    A = np.zeros((2, n)) if rng.random() < 0.5 else None
    return _program(_definite(rng, n, 1), rng.normal(size=n), A, -1.0, 1.0, -1.0, 1.0)


def _linear(rng: np.random.Generator) -> QuadraticProgram:
    n, m = int(rng.integers(3, 20)), int(rng.integers(2, 10))
    A, x0 = rng.normal(size=(m, n)), rng.random(n)
    return _program(None, rng.normal(size=n), A, A @ x0 - rng.random(m), A @ x0 + 1.0, 0.0, 2.0)


def _degenerate_vertex(rng: np.random.Generator) -> QuadraticProgram:
    """Return a linear program whose optimal vertex has twice the active rows it needs."""
    n = int(rng.integers(2, 10))
    A, x0 = rng.normal(size=(2 * n, n)), rng.normal(size=n)
    return _program(None, -(A.T @ rng.random(2 * n)), A, -INF, A @ x0)


def _redundant_bounds(rng: np.random.Generator) -> QuadraticProgram:
    """Boxes said again as rows, ten and a million times farther out, and touching the optimum."""
    n = int(rng.integers(2, 12))
    A = np.vstack((np.eye(n), np.eye(n), np.eye(n)))
    reach = np.r_[np.full(n, 1.0), np.full(n, 10.0), np.full(n, 1e6)]
    return _program(_definite(rng, n), 20.0 * rng.normal(size=n), A, -reach, reach, -1.0, 1.0)


def _zero_objective(rng: np.random.Generator) -> QuadraticProgram:
    n, m = int(rng.integers(2, 15)), int(rng.integers(1, 8))
    A, x0 = rng.normal(size=(m, n)), rng.normal(size=n)
    low, high = _room(rng, A @ x0)
    low[0] = high[0] = (A @ x0)[0]
    return _program(None, np.zeros(n), A, low, high)


def _nearly_parallel(rng: np.random.Generator) -> QuadraticProgram:
    n = int(rng.integers(3, 12))
    a, x0 = rng.normal(size=n), rng.normal(size=n)
    A = np.vstack((a, a + 1e-7 * rng.normal(size=n), a + 1e-5 * rng.normal(size=n), rng.normal(size=(2, n))))
    return _program(_definite(rng, n), 10.0 * rng.normal(size=n), A, -INF, A @ x0)


def _flat_directions(rng: np.random.Generator) -> QuadraticProgram:
    """P and q vanish on most of the space: a whole face is optimal."""
    n = int(rng.integers(4, 16))
    G = rng.normal(size=(n, 2))
    return _program(G @ G.T, G @ rng.normal(size=2), np.ones((1, n)), 0.0, 1.0, -1.0, 1.0)


def _huge_bounds(rng: np.random.Generator) -> QuadraticProgram:
    """Bounds of 1e8, 1e25 (read as infinite) and infinity beside those of one, which are the more frequent ones."""
    n = int(rng.integers(6, 15))
    lb, ub = rng.choice([1.0, 1e8, 1e25, INF], size=(2, n), p=[0.7, 0.1, 0.1, 0.1]) * np.array([[-1.0], [1.0]])
    A = rng.normal(size=(3, n))
    return _program(_definite(rng, n), 10.0 * rng.normal(size=n), A, [-1e8, -INF, 0.0], [1.0, 1e7, 1e30], lb, ub)


REGULAR: dict[str, Build] = {
    "strictly convex": _mixed,
    "merely convex": _merely_convex,
    "equalities": _equalities,
    "boxes": _boxes,
    "rows": _rows,
    "one variable": _one_variable,
    "units": _units,
    "row units": _row_units,
    "tight": _tight,
    "loose": _loose,
}
DEGENERATE: dict[str, Build] = {
    "duplicated rows": _duplicated_rows,
    "dependent equalities": _dependent_equalities,
    "a point": _a_point,
    "no licq": _no_licq,
    "fixed variables": _fixed_variables,
    "no rows": _no_rows,
    "linear": _linear,
    "degenerate vertex": _degenerate_vertex,
    "redundant bounds": _redundant_bounds,
    "zero objective": _zero_objective,
    "nearly parallel": _nearly_parallel,
    "flat directions": _flat_directions,
    "huge bounds": _huge_bounds,
}


def family_programs(families: dict[str, Build], count: int = 100) -> Iterator[tuple[str, QuadraticProgram]]:
    """Yield ``count`` named programs, the families in turns; the same numbers at every call.

    Parameters
    ----------
    families
        ``REGULAR`` or ``DEGENERATE``.
    count
        How many; the first ones are the same whatever the count.
    """
    names = list(families)
    for number in range(count):
        at, seed = number % len(names), number // len(names)
        yield f"{names[at]} {seed}", families[names[at]](np.random.default_rng([at, seed, len(names)]))
