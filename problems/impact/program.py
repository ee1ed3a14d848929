"""The fit as one convex program in scaled coordinates, and its lowering to a `ConeProgram`.

With the stacked matrices X = [K_1 … K_M] (N × NM), rows x_i, and the moments S = Z'Z/E, B = r'Z/E:

    min  Σ_i w_i (½ x_i S x_i' − x_i b_i)  +  Σ_m Σ_{i≠j} [ ridge/2 (K_m,ij − T_m,ij)² + l1 |K_m,ij| ]
         + Σ_m Σ_i pool/2 (K_m,ii − T_m,ii)²
    s.t. K_m = K_m',   K_m ⪰ 0,   K_m,ii ≥ d_i,   |K_m,ij| ≤ ρ √(K_m,ii K_m,jj).

The fifth constraint, that impact decays, is carried by the dictionary: every φ_m falls and every K_m is PSD, so G_h
falls in the Loewner order. All constraints but the floor are cones, so a bound on each K_m carries over to each G_h.

Scaling. With k_i the own slope of name i and D = diag(√k_i): K' = D⁻¹KD⁻¹, u' = Du, r' = D⁻¹r leaves the model and the
constraints as they are and brings K'_ii near 1; w_i ∝ k_i/var(r_i) gives each name the weight of its own noise. The
weights are normalised so that the mean curvature of the data term is 1: ridge = 1 weighs a cross term's pull to the
target as much as the data's pull on it, whatever the units, the R² or the number of rows. The pool penalty is there
because schedules depend on how self-impact is split over fast and slow decay, which one name's data tell badly and all
names' data together tell well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import nnls

from crosswind.problems.impact.gram import Gram
from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.program import Cone, ConeProgram

__all__ = ["FitProblem", "LoweredFit", "lower", "nonnegative_quadratic", "own_slopes", "scaled_problem", "triangle"]

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def triangle(n: int) -> tuple[IntArray, IntArray]:
    """Row and column (i ≤ j) of each entry of the upper triangle stacked column by column, Clarabel's svec order."""
    columns, rows = np.tril_indices(n)
    return rows, columns


@dataclass(frozen=True, eq=False)
class FitProblem:
    """All numbers of the fit in scaled coordinates.

    Parameters
    ----------
    S, B
        Scaled moments (NM, NM) and (N, NM).
    weights
        w_i > 0, (N,).
    floor
        d_i ≥ 0, (N,): smallest K'_m,ii of every shape m.
    corr_bound
        ρ in [0, 1].
    ridge, l1
        Penalties ≥ 0 on off-diagonal entries.
    target
        T, (M, N, N), symmetric.
    scale
        √k_i, (N,): K = diag(scale) K' diag(scale) [return per currency].
    pool
        Penalty ≥ 0 on the distance of self-impact from the target's diagonal.
    """

    S: Array
    B: Array
    weights: Array
    floor: Array
    corr_bound: float
    ridge: float
    l1: float
    target: Array
    scale: Array
    pool: float = 0.0

    def __post_init__(self) -> None:
        n, wide = self.B.shape
        if n == 0 or wide % n or self.S.shape != (wide, wide) or self.target.shape != (wide // n, n, n):
            raise InvalidInput("mixed shapes", field="FitProblem", value=(self.S.shape, self.B.shape))
        for field in ("S", "B", "weights", "floor", "target", "scale"):
            if not np.isfinite(getattr(self, field)).all():
                raise InvalidInput("must be finite", field=field)
        if not 0.0 <= self.corr_bound <= 1.0:
            raise InvalidInput("ρ must lie in [0, 1]", field="corr_bound", value=self.corr_bound)
        for field in ("ridge", "l1", "pool"):
            value = getattr(self, field)
            if not (np.isfinite(value) and value >= 0):
                raise InvalidInput("a penalty must be finite and ≥ 0", field=field, value=value)
        if (self.floor < 0).any() or (self.weights <= 0).any() or (self.scale <= 0).any():
            raise InvalidInput("floor must be ≥ 0, weights and scale > 0", field="FitProblem")

    @property
    def names(self) -> int:
        """N."""
        return int(self.B.shape[0])

    @property
    def shapes(self) -> int:
        """M."""
        return int(self.B.shape[1]) // self.names

    def with_penalties(
        self, ridge: float | None = None, l1: float | None = None, pool: float | None = None
    ) -> FitProblem:
        """Return the same problem with other penalties."""
        return replace(
            self,
            ridge=self.ridge if ridge is None else ridge,
            l1=self.l1 if l1 is None else l1,
            pool=self.pool if pool is None else pool,
        )

    def stacked(self, matrices: Array) -> Array:
        """[K_1 … K_M], (N, NM), of matrices (M, N, N)."""
        return np.asarray(matrices.transpose(1, 0, 2).reshape(self.names, -1))

    def objective(self, matrices: Array) -> float:
        """Objective at K' (M, N, N); 0 at K' = 0 and T = 0."""
        X = self.stacked(matrices)
        data = 0.5 * np.einsum("ij,ij->i", X @ self.S, X) - np.einsum("ij,ij->i", X, self.B)
        return float(self.weights @ data) + self.penalty(matrices)

    def penalty(self, matrices: Array) -> float:
        """Ridge, pool and l1 at K' (M, N, N): the part of the objective that is not the data's."""
        off = ~np.eye(self.names, dtype=bool)
        away = (matrices - self.target) ** 2
        pulls = 0.5 * self.ridge * away[:, off].sum() + 0.5 * self.pool * away[:, ~off].sum()
        return float(pulls + self.l1 * np.abs(matrices[:, off]).sum())

    def unscale(self, matrices: Array) -> Array:
        """K from K', (M, N, N) [return per currency]."""
        return np.asarray(matrices * np.outer(self.scale, self.scale))


def nonnegative_quadratic(H: Array, g: Array) -> Array:
    """Minimise ½a'Ha − g'a over a ≥ 0 for a small PSD H, by non-negative least squares on its square root."""
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    keep = values > 1e-13 * max(float(values[-1]), np.finfo(float).tiny)
    if not keep.any():
        return np.zeros(len(g))
    root = np.sqrt(values[keep])
    solution, _ = nnls(root[:, None] * vectors[:, keep].T, (vectors[:, keep].T @ g) / root)
    return np.asarray(solution)


def own_slopes(gram: Gram, names: Sequence[str] | None = None) -> tuple[Array, Array]:
    """Self-impact by name from each name's own flow alone: non-negative least squares over the M shapes.

    Parameters
    ----------
    gram
        Moments of the rows.
    names
        What errors call the names; None: their columns.

    Returns
    -------
    tuple
        a (M, N) ≥ 0 and k (N,) > 0 [return per currency]: k_i = max(Σ_m a_mi, one standard error), so that a name
        whose impact cannot be seen in the sample still has a scale.

    Raises
    ------
    InvalidInput
        A name has no flow or no price move at all: its impact is not identified.
    """
    n, m = gram.names, gram.shapes
    S, B, var = gram.S, gram.B, np.diag(gram.return_cov)
    flow = np.diag(gram.flow_cov)
    for what, variance in (("flow", flow), ("price move", var)):
        if (variance <= 0).any():
            dead = np.flatnonzero(variance <= 0).tolist()
            raise InvalidInput(
                f"a name has no {what} in the sample, so its impact is not identified",
                field="events",
                value=[f"column {k}" if names is None else names[k] for k in dead],
                remedy="drop the name, or give longer data",
            )
    own = np.zeros((m, n))
    for i in range(n):
        where = np.arange(m) * n + i
        own[:, i] = nonnegative_quadratic(S[np.ix_(where, where)], B[i, where])
    error = np.sqrt(var / (gram.rows * np.diag(S)[:n]))
    return own, np.maximum(own.sum(axis=0), error)


def scaled_problem(
    gram: Gram,
    floor: float | Array = 0.0,
    corr_bound: float = 1.0,
    ridge: float = 0.0,
    l1: float = 0.0,
    names: Sequence[str] | None = None,
) -> FitProblem:
    """Bring the moments to scaled coordinates, with the zero target.

    Parameters
    ----------
    gram
        Moments of the training rows.
    floor
        A number is the share of each name's own slope k_i that K_m,ii keeps at least, over all shapes together
        (d_i = floor·k_i/M for each); an array (N,) is the floor of each K_m,ii [return per currency].
    corr_bound, ridge, l1
        See `FitProblem`.
    names
        What errors call the names; None: their columns.
    """
    _, slope = own_slopes(gram, names)
    n, m = gram.names, gram.shapes
    scale = np.sqrt(slope)
    wide = np.tile(scale, m)
    S = gram.S * np.outer(wide, wide)
    B = gram.B / scale[:, None] * wide
    weights = slope / np.diag(gram.return_cov)
    curvature = np.diag(S).reshape(m, n) * weights
    weights = weights / curvature.mean()
    low = np.full(n, float(floor) / m) if np.ndim(floor) == 0 else np.asarray(floor, dtype=np.float64) / slope
    return FitProblem(
        0.5 * (S + S.T), B, weights, low, float(corr_bound), float(ridge), float(l1), np.zeros((m, n, n)), scale
    )


@dataclass(frozen=True, eq=False)
class LoweredFit:
    """A `ConeProgram` and the map back to matrices.

    Parameters
    ----------
    program
        Variables: the upper triangles of K'_1..K'_M stacked column by column (plain entries), then, with l1 > 0, one
        bound t ≥ |K'_ij| per off-diagonal entry.
    names, shapes
        N, M.
    bound_rows
        First row of K'_ij − t ≤ 0; the rows of −K'_ij − t ≤ 0 follow.
    """

    program: ConeProgram
    names: int
    shapes: int
    bound_rows: int

    def matrices(self, x: Array) -> Array:
        """K' (M, N, N) of an iterate x; symmetric by construction."""
        rows, columns = triangle(self.names)
        held = np.asarray(x)[: self.shapes * rows.size].reshape(self.shapes, rows.size)
        out = np.empty((self.shapes, self.names, self.names))
        out[:, rows, columns] = held
        out[:, columns, rows] = held
        return out

    def vector(self, matrices: Array) -> Array:
        """Return the variables x that hold K' (M, N, N), with the tight bounds t = |K'_ij|."""
        rows, columns = triangle(self.names)
        held = matrices[:, rows, columns]
        x = np.zeros(self.program.n)
        x[: held.size] = held.ravel()
        x[held.size :] = np.abs(held[:, rows != columns]).ravel()[: self.program.n - held.size]
        return x


def lower(problem: FitProblem) -> LoweredFit:
    """Lower the fit to a quadratic objective over a product of cones.

    Each |K_ij| ≤ ρ√(K_ii K_jj) is the second-order cone ρ(K_ii + K_jj)/2 ≥ ‖(ρ(K_ii − K_jj)/2, K_ij)‖. At ρ = 0 the
    off-diagonals are fixed to zero instead, and at ρ = 1 the bound follows from K ⪰ 0 and is left out.
    """
    n, m = problem.names, problem.shapes
    rows, columns = triangle(n)
    size = rows.size
    where = np.empty((n, n), dtype=np.intp)
    where[rows, columns] = where[columns, rows] = np.arange(size)
    entries = np.concatenate([where + k * size for k in range(m)], axis=1)  # (N, NM): the variable behind x_i's entries
    off = np.flatnonzero(rows != columns)
    pairs = (np.arange(m)[:, None] * size + off).ravel()
    extra = pairs.size if problem.l1 > 0 else 0
    total = m * size + extra

    wide = n * m
    data = (problem.weights[:, None, None] * problem.S).reshape(n, -1)
    left, right = np.repeat(entries, wide, axis=1), np.tile(entries, (1, wide))
    P = sp.coo_matrix((data.ravel(), (left.ravel(), right.ravel())), shape=(total, total)).tocsc()
    q = np.zeros(total)
    np.add.at(q, entries, -problem.weights[:, None] * problem.B)
    constant = 0.0
    if problem.ridge > 0 or problem.pool > 0:
        # A pair stands for two entries of its matrix, a diagonal entry for one.
        weight = np.tile(np.where(rows == columns, problem.pool, 2.0 * problem.ridge), m)
        target = problem.target[:, rows, columns].ravel()
        held = np.arange(m * size)
        P = P + sp.csc_matrix((weight, (held, held)), shape=(total, total))
        q[: m * size] -= weight * target
        constant = 0.5 * float(weight @ target**2)
    if extra:
        q[m * size :] = 2.0 * problem.l1

    blocks, offsets, cones = _constraints(problem, pairs, total)
    program = ConeProgram(
        P=sp.csc_matrix(0.5 * (P + P.T)),
        q=q,
        A=sp.vstack(blocks, format="csc"),
        b=np.concatenate(offsets),
        cones=tuple(cones),
        constant=constant,
    )
    first = (pairs.size if problem.corr_bound == 0 else 0) + n * m
    return LoweredFit(program, n, m, first)


def _constraints(
    problem: FitProblem, pairs: IntArray, total: int
) -> tuple[list[sp.csc_matrix], list[Array], list[Cone]]:
    """Rows A, offsets b and cones of the constraints, s = b − Ax ∈ K."""
    n, m, rho = problem.names, problem.shapes, problem.corr_bound
    rows, columns = triangle(n)
    size = rows.size
    diagonal = np.empty(n, dtype=np.intp)
    diagonal[rows[rows == columns]] = np.flatnonzero(rows == columns)
    shift = np.arange(m)[:, None] * size

    def select(variables: IntArray, values: Array | float) -> sp.csc_matrix:
        count = variables.size
        return sp.csc_matrix(
            (np.broadcast_to(values, (count,)).astype(float), (np.arange(count), variables)), shape=(count, total)
        )

    blocks: list[sp.csc_matrix] = []
    offsets: list[Array] = []
    cones: list[Cone] = []

    def add(block: sp.csc_matrix, offset: Array, *kinds: Cone) -> None:
        blocks.append(block)
        offsets.append(offset)
        cones.extend(kinds)

    if rho == 0 and pairs.size:
        add(select(pairs, 1.0), np.zeros(pairs.size), Cone("zero", pairs.size))
    own = (shift + diagonal).ravel()
    add(select(own, -1.0), -np.tile(problem.floor, m), Cone("nonneg", own.size))
    if total > m * size:
        bounds = np.arange(m * size, total)
        for sign in (1.0, -1.0):
            add(select(pairs, sign) - select(bounds, 1.0), np.zeros(pairs.size), Cone("nonneg", pairs.size))
    if 0 < rho < 1 and pairs.size:
        off = rows != columns
        first, second = (shift + diagonal[rows[off]]).ravel(), (shift + diagonal[columns[off]]).ravel()
        at = 3 * np.arange(pairs.size)
        half = np.full(pairs.size, 0.5 * rho)
        triplets = [
            (at, first, -half),
            (at, second, -half),
            (at + 1, first, -half),
            (at + 1, second, half),
            (at + 2, pairs, np.full(pairs.size, -1.0)),
        ]
        i, j, v = (np.concatenate(part) for part in zip(*triplets, strict=True))
        block = sp.csc_matrix((v, (i, j)), shape=(3 * pairs.size, total))
        add(block, np.zeros(3 * pairs.size), *([Cone("soc", 3)] * pairs.size))
    if rho > 0:
        root = np.where(rows == columns, 1.0, np.sqrt(2.0))
        for k in range(m):
            add(select(np.arange(size) + k * size, -root), np.zeros(size), Cone("psd", n))
    return blocks, offsets, cones
