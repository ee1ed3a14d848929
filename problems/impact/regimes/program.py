"""The multipliers as a quadratic program: bounded, monotone where theory says so, shrunk to one.

With ŷ the base model's prediction, the return is  r = s_t ŷ + ε,  s_t = c + Σ_f e_f[b_f(t)]:  one level c and an
additive effect per bucket of each feature. A product of factors would not be convex in returns; the sum is, and it is
identified by Σ_b a_fb e_fb = 0, where a_fb is the share of ŷ² in the bucket. Then

    min  ½ θ'(A + λI)θ − (g + λ·[c])'θ    over θ = (c, e)
    s.t. Σ_b a_fb e_fb = 0,   ± monotone e_f,   lo ≤ c + Σ_f min_b e_fb,   c + Σ_f max_b e_fb ≤ hi,

with A = Σ_t a_t x_t x_t', g = Σ_t b_t x_t, x_t the 0/1 row of buckets, a_t = Σ_i w_it ŷ_it², b_t = Σ_i w_it r_it ŷ_it,
both over Σ a_t: two numbers per row are all that the data say, and λ is in units of their curvature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import SolverFailure

__all__ = ["Layout", "ScaleMoments", "solve_scales"]

Array = NDArray[np.float64]
_UNIQUE = 1e-9  # curvature that makes the effects of a bucket without data zero instead of anything


@dataclass(frozen=True)
class Layout:
    """Where the effects stand in θ.

    Attributes
    ----------
    counts
        Feature → number of buckets.
    directions
        Feature → +1 rising, −1 falling, 0 free.
    """

    counts: Mapping[str, int]
    directions: Mapping[str, int]

    @property
    def size(self) -> int:
        """Length of θ: the level and all effects."""
        return 1 + sum(self.counts.values())

    def slice_of(self, feature: str) -> slice:
        """Return where the effects of a feature stand."""
        start = 1
        for name, count in self.counts.items():
            if name == feature:
                return slice(start, start + count)
            start += count
        raise KeyError(feature)

    def rows(self, codes: Mapping[str, NDArray[np.int64]], length: int) -> Array:
        """Return the 0/1 rows x_t, (T, size); a code of −1 (state unknown) leaves the feature without effect."""
        out = np.zeros((length, self.size))
        out[:, 0] = 1.0
        for feature in self.counts:
            code = codes[feature]
            known = np.flatnonzero(code >= 0)
            out[known, self.slice_of(feature).start + code[known]] = 1.0
        return out


@dataclass(frozen=True, eq=False)
class ScaleMoments:
    """A (p, p) and g (p,) of one set of rows, as sums; they add and subtract."""

    A: Array
    g: Array

    @classmethod
    def of(cls, x: Array, a: Array, b: Array) -> ScaleMoments:
        """Return the moments of rows x (T, p) with a, b (T,)."""
        return cls((x * a[:, None]).T @ x, x.T @ b)

    def __add__(self, other: ScaleMoments) -> ScaleMoments:
        return ScaleMoments(self.A + other.A, self.g + other.g)

    def __sub__(self, other: ScaleMoments) -> ScaleMoments:
        return ScaleMoments(self.A - other.A, self.g - other.g)

    @property
    def energy(self) -> float:
        """Σ_t a_t."""
        return float(self.A[0, 0])

    def loss(self, theta: Array) -> float:
        """Return Σ w (r − sŷ)² − Σ w r², which is 0 without a model."""
        return float(theta @ self.A @ theta - 2.0 * theta @ self.g)


def solve_scales(
    moments: ScaleMoments, layout: Layout, shrinkage: float, bounds: Sequence[float], shares: Array | None = None
) -> Array:
    """Return θ = (c, effects), (p,).

    Parameters
    ----------
    moments
        Of the training rows.
    layout
        The features.
    shrinkage
        λ ≥ 0; inf gives c = 1 and no effects.
    bounds
        (lo, hi) of the multiplier in every combination of buckets.
    shares
        a_fb in the order of θ (the first entry is not read); None: from the moments.

    Raises
    ------
    SolverFailure
        The program was not solved.
    """
    from crosswind.solvers.program import QuadraticProgram
    from crosswind.solvers.solve import solve

    p, features = layout.size, list(layout.counts)
    if np.isinf(shrinkage):
        return np.asarray(np.eye(p)[0])
    n = p + 2 * len(features)
    P, q = np.zeros((n, n)), np.zeros(n)
    P[:p, :p] = moments.A / moments.energy + (shrinkage + _UNIQUE) * np.eye(p)
    q[:p] = -moments.g / moments.energy
    q[0] -= shrinkage + _UNIQUE
    weight = np.diag(moments.A) / moments.energy if shares is None else shares
    rows: list[Array] = []
    low: list[float] = []
    high: list[float] = []

    def add(entries: Mapping[int, float], at_least: float, at_most: float) -> None:
        row = np.zeros(n)
        for column, value in entries.items():
            row[column] += value
        rows.append(row)
        low.append(at_least)
        high.append(at_most)

    inf = float("inf")
    for k, feature in enumerate(features):
        where = layout.slice_of(feature)
        columns = range(where.start, where.stop)
        add({c: float(weight[c]) for c in columns}, 0.0, 0.0)
        top, bottom = p + 2 * k, p + 2 * k + 1
        for column in columns:
            add({top: 1.0, column: -1.0}, 0.0, inf)
            add({column: 1.0, bottom: -1.0}, 0.0, inf)
        direction = float(layout.directions[feature])
        if direction:
            for column in columns[:-1]:
                add({column + 1: direction, column: -direction}, 0.0, inf)
    tops = {p + 2 * k: 1.0 for k in range(len(features))}
    bottoms = {p + 2 * k + 1: 1.0 for k in range(len(features))}
    add({0: 1.0} | tops, -inf, float(bounds[1]))
    add({0: 1.0} | bottoms, float(bounds[0]), inf)
    solution = solve(QuadraticProgram(P, q, np.vstack(rows), np.array(low), np.array(high)), tol=1e-8)
    if not solution.status.usable:
        raise SolverFailure(
            "the multipliers were not solved for",
            field="solver",
            value=f"{solution.backend}: {solution.status.name}",
            remedy=solution.status.text,
        )
    return _inside(np.asarray(solution.x[:p], dtype=np.float64), layout, bounds)


def _inside(theta: Array, layout: Layout, bounds: Sequence[float]) -> Array:
    """Make order and bounds exact where the solver left them at its tolerance."""
    theta = theta.copy()
    for feature, direction in layout.directions.items():
        part = layout.slice_of(feature)
        if direction > 0:
            theta[part] = np.maximum.accumulate(theta[part])
        elif direction < 0:
            theta[part] = np.minimum.accumulate(theta[part])
    theta[0] = min(max(float(theta[0]), bounds[0]), bounds[1])
    highest = sum(float(theta[layout.slice_of(f)].max()) for f in layout.counts)
    lowest = sum(float(theta[layout.slice_of(f)].min()) for f in layout.counts)
    shrink = 1.0
    if highest > 0:
        shrink = min(shrink, (bounds[1] - theta[0]) / highest)
    if lowest < 0:
        shrink = min(shrink, (bounds[0] - theta[0]) / lowest)
    theta[1:] *= shrink
    return theta
