"""The nearest matrix that keeps every limit at once, with a proof of how near the nearest can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.gram.problem import Array, GramConeFit
from crosswind.solvers.gram.solve import solve_gram
from crosswind.solvers.solution import Status

__all__ = ["Projection", "project_admissible"]


@dataclass(frozen=True, eq=False)
class Projection:
    """The result of `project_admissible`.

    Attributes
    ----------
    matrices
        Of the input's shape; exactly feasible.
    distance
        √Σ_m |S⁻¹(X_m − K_m)S⁻¹|², the weighted Frobenius distance to the input, antisymmetric parts included.
    distance_bound
        No admissible matrices are nearer than this.
    error_bound
        The exact projection is within this weighted distance of ``matrices``: √(2·(½distance² − ½distance_bound²)).
    status
        OPTIMAL where the proven gap is within the tolerance.
    iterations
        Of the worst of the matrices.
    """

    matrices: Array
    distance: float
    distance_bound: float
    error_bound: float
    status: Status
    iterations: int


def project_admissible(
    K: Array,
    floor: Array | float = 0.0,
    corr_bound: float = 1.0,
    scale: Array | None = None,
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> Projection:
    """Return the nearest point of {X = X', X ⪰ 0, X_ii ≥ d_i, |X_ij| ≤ ρ√(X_ii X_jj)}.

    min ½ Σ_m |S⁻¹(X_m − K_m)S⁻¹|² over that intersection, S = diag(scale). Symmetrising, clipping eigenvalues and
    clamping correlations one after the other ends outside of it or far from the nearest point; this does not.

    Parameters
    ----------
    K
        (N, N) or (M, N, N), any finite matrices.
    floor
        d ≥ 0 in K's units: a number or (N,).
    corr_bound
        ρ in [0, 1].
    scale
        (N,) > 0; None: ones. √k_i weighs entries relative to own sizes k_i k_j.
    tol
        Gap relative to 1 + the objective of the problem scaled to unit size.
    time_limit
        Seconds for each matrix.

    Raises
    ------
    InvalidInput
        On shapes, entries or parameters out of range.
    """
    given = np.asarray(K, dtype=np.float64)
    if given.ndim not in (2, 3) or given.size == 0 or given.shape[-1] != given.shape[-2]:
        raise InvalidInput("must be (N, N) or (M, N, N)", field="K", value=given.shape, remedy="give square matrices")
    if not np.isfinite(given).all():
        raise InvalidInput("must be finite", field="K", remedy="remove NaN and infinite entries")
    n = given.shape[-1]
    s = np.ones(n) if scale is None else np.asarray(scale, dtype=np.float64)
    if s.shape != (n,) or not np.isfinite(s).all() or (s <= 0.0).any():
        raise InvalidInput(f"must be ({n},), finite and > 0", field="scale", value=scale, remedy="None for ones")
    d = np.asarray(floor, dtype=np.float64)
    if d.shape not in ((), (n,)) or not np.isfinite(d).all() or (d < 0.0).any():
        raise InvalidInput("must be ≥ 0, a number or (N,)", field="floor", value=floor, remedy="0 is no floor")
    outer = np.outer(s, s)
    low = np.broadcast_to(d, (n,)) / s**2
    batch = (given[None] if given.ndim == 2 else given) / outer
    eye = np.eye(n)
    found, near, bound, worst, steps = np.empty_like(batch), 0.0, 0.0, Status.OPTIMAL, 0
    for k, matrix in enumerate(batch):
        # All limits but the floor are cones, and the floor scales with them: the size of the entries drops out.
        size = max(float(np.sqrt(np.mean(matrix**2)) * n**0.5), float(low.max()))
        if size == 0.0:
            found[k] = 0.0
            continue
        symmetric = 0.5 * (matrix + matrix.T) / size
        fit = GramConeFit(eye, symmetric, floor=low / size, corr_bound=corr_bound)
        solved = solve_gram(fit, tol, time_limit)
        fixed = 0.5 * float(np.sum((matrix / size) ** 2))  # objective + this = ½ distance²
        near += 2.0 * size**2 * max(0.0, solved.objective + fixed)
        bound += 2.0 * size**2 * max(0.0, solved.lower_bound + fixed)
        found[k] = solved.matrices[0] * size
        steps = max(steps, solved.iterations)
        worst = worst if solved.status.ok else solved.status
    near, bound = near**0.5, min(bound, near) ** 0.5
    out = found * outer
    return Projection(out.reshape(given.shape), near, bound, max(0.0, near**2 - bound**2) ** 0.5, worst, steps)
