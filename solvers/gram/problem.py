"""The pure problem: symmetric PSD blocks from second moments, floored on the diagonal and bounded in correlation."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput

__all__ = ["Array", "GramConeFit", "Violations", "violations"]

Array = NDArray[np.float64]


def _frozen(value: Any, name: str, ndim: int) -> Array:
    """Return a read-only float64 copy of ``value``, refused where it is not finite or not of ``ndim`` axes."""
    try:
        out = np.array(value, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InvalidInput("must be numeric", field=name, value=value, remedy="give an array of floats") from error
    if out.ndim != ndim:
        raise InvalidInput(f"must have {ndim} axes", field=name, value=out.shape, remedy="see GramConeFit's shapes")
    if not np.isfinite(out).all():
        raise InvalidInput(
            "must be finite",
            field=name,
            value=f"{int((~np.isfinite(out)).sum())} entries that are not",
            remedy="find where the moments became NaN or infinite",
        )
    out.setflags(write=False)
    return out


@dataclass(frozen=True, eq=False)
class GramConeFit:
    """min Σ_i w_i(½ x_i S x_i' − x_i b_i') + penalties over M symmetric matrices, X = [K_1 … K_M] with rows x_i.

    The penalties are Σ_m Σ_{i≠j} [ridge/2 (K_m,ij − T_m,ij)² + l1 |K_m,ij|] + Σ_m Σ_i pool/2 (K_m,ii − T_m,ii)², and

        K_m = K_m',   K_m ⪰ 0,   K_m,ii ≥ d_i,   |K_m,ij| ≤ ρ √(K_m,ii K_m,jj).

    Data are copied and read-only; an object never changes after it is made.

    Parameters
    ----------
    S
        (NM, NM) symmetric PSD second moments of the regressors; may be singular.
    B
        (N, NM) moments of the responses with the regressors.
    weights
        (N,) w_i > 0; None: ones.
    floor
        (N,) d_i ≥ 0, or one number for all; the same for each matrix.
    corr_bound
        ρ in [0, 1]; at 0 the matrices are diagonal, at 1 the bound follows from K ⪰ 0.
    ridge, l1, pool
        Penalties ≥ 0: quadratic and absolute on off-diagonal entries, quadratic on diagonal ones.
    target
        (M, N, N) symmetric T; None: zeros.

    Raises
    ------
    InvalidInput
        On mixed shapes, entries that are not finite, S or T that is not symmetric, S that is not PSD on its diagonal,
        weights or penalties out of range.
    """

    S: Array
    B: Array
    weights: Array | None = None
    floor: Array | float = 0.0
    corr_bound: float = 1.0
    ridge: float = 0.0
    l1: float = 0.0
    pool: float = 0.0
    target: Array | None = None

    def __post_init__(self) -> None:
        self._check_moments()
        self._check_penalties()

    def _check_penalties(self) -> None:
        for name in ("ridge", "l1", "pool"):
            value = float(getattr(self, name))
            if not (np.isfinite(value) and value >= 0.0):
                raise InvalidInput("a penalty must be finite and ≥ 0", field=name, value=value, remedy="0 turns it off")
            object.__setattr__(self, name, value)

    def _check_moments(self) -> None:
        keep = object.__setattr__
        B = _frozen(self.B, "B", 2)
        n, wide = B.shape
        if n == 0 or wide == 0 or wide % n:
            raise InvalidInput("must be (N, NM)", field="B", value=B.shape, remedy="stack M blocks of N columns")
        S = _frozen(self.S, "S", 2)
        if S.shape != (wide, wide):
            raise InvalidInput(f"must be ({wide}, {wide})", field="S", value=S.shape, remedy="S and B share columns")
        size = float(np.max(np.abs(S)))
        if float(np.max(np.abs(S - S.T))) > 1e-10 * size:
            raise InvalidInput("must be symmetric", field="S", value=float(np.max(np.abs(S - S.T))), remedy="(S+S')/2")
        if float(np.min(np.diag(S))) < 0.0:
            raise InvalidInput("must be PSD", field="S", value=float(np.min(np.diag(S))), remedy="use Z'Z/E")
        m = wide // n
        weights = _frozen(np.ones(n) if self.weights is None else self.weights, "weights", 1)
        floor = _frozen(np.broadcast_to(self.floor, (n,)) if np.ndim(self.floor) == 0 else self.floor, "floor", 1)
        target = _frozen(np.zeros((m, n, n)) if self.target is None else self.target, "target", 3)
        for name, value, shape in (("weights", weights, (n,)), ("floor", floor, (n,)), ("target", target, (m, n, n))):
            if value.shape != shape:
                raise InvalidInput(f"must be {shape}", field=name, value=value.shape, remedy="one entry per name")
        if float(np.min(weights)) <= 0.0:
            raise InvalidInput("must be > 0", field="weights", value=float(np.min(weights)), remedy="drop the row")
        if float(np.min(floor)) < 0.0:
            raise InvalidInput("must be ≥ 0", field="floor", value=float(np.min(floor)), remedy="0 is no floor")
        away = float(np.max(np.abs(target - target.transpose(0, 2, 1)), initial=0.0))
        if away > 1e-10 * float(np.max(np.abs(target), initial=0.0)):
            raise InvalidInput("must be symmetric", field="target", value=away, remedy="use (T + T')/2")
        rho = float(self.corr_bound)
        if not 0.0 <= rho <= 1.0:
            raise InvalidInput("ρ must lie in [0, 1]", field="corr_bound", value=rho, remedy="1 is no bound")
        values = {"S": S, "B": B, "weights": weights, "floor": floor, "target": target, "corr_bound": rho}
        for name, held in values.items():
            keep(self, name, held)

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
    ) -> GramConeFit:
        """Return the same problem with other penalties; the moments are shared, not copied."""
        # Not dataclasses.replace, which checks and copies everything again, as it must where moments change.
        other = copy.copy(self)
        for name, value in (("ridge", ridge), ("l1", l1), ("pool", pool)):
            if value is not None:
                object.__setattr__(other, name, value)
        other._check_penalties()
        return other

    def blocks(self, X: Array) -> Array:
        """(M, N, N) from the stacked (N, NM)."""
        return np.ascontiguousarray(X.reshape(self.names, self.shapes, self.names).transpose(1, 0, 2))

    def stacked(self, matrices: Array) -> Array:
        """[K_1 … K_M], (N, NM), of matrices (M, N, N)."""
        return np.asarray(matrices.transpose(1, 0, 2).reshape(self.names, -1))

    def objective(self, matrices: Array) -> float:
        """Objective at K (M, N, N)."""
        X = self.stacked(matrices)
        data = 0.5 * np.einsum("ij,ij->i", X @ self.S, X) - np.einsum("ij,ij->i", X, self.B)
        return float(np.asarray(self.weights) @ data) + self.penalty(matrices)

    def penalty(self, matrices: Array) -> float:
        """Penalties at K (M, N, N)."""
        value = 0.0
        if self.ridge > 0.0 or self.pool > 0.0:
            away = matrices - np.asarray(self.target)
            own = np.einsum("mii->mi", away)
            value += 0.5 * self.pool * float(np.sum(own**2))
            own[:] = 0.0  # not taken off a sum that it may dwarf
            value += 0.5 * self.ridge * float(np.sum(away**2))
        if self.l1 > 0.0:
            size = np.abs(matrices)
            np.einsum("mii->mi", size)[:] = 0.0
            value += self.l1 * float(size.sum())
        return value


@dataclass(frozen=True)
class Violations:
    """How far matrices are outside of each constraint; zero where it holds.

    Attributes
    ----------
    symmetry
        max |K − K'| / max |K|.
    eigenvalue
        (−λ_min)⁺ / λ_max, the worst of the matrices.
    floor
        max (d_i − K_ii)⁺ / (1 + d_i).
    correlation
        max (|K_ij| − ρ√(K_ii K_jj))⁺ / max |K|.
    """

    symmetry: float
    eigenvalue: float
    floor: float
    correlation: float

    @property
    def worst(self) -> float:
        """The largest of the four."""
        return max(self.symmetry, self.eigenvalue, self.floor, self.correlation)


def violations(matrices: Array, floor: Array | float, corr_bound: float) -> Violations:
    """Measure K (N, N) or (M, N, N) against symmetry, PSD, floor and correlation bound."""
    K = np.asarray(matrices, dtype=np.float64)
    K = K[None] if K.ndim == 2 else K
    size = max(float(np.max(np.abs(K), initial=0.0)), np.finfo(float).tiny)
    values = np.linalg.eigvalsh(0.5 * (K + K.transpose(0, 2, 1)))
    own = np.einsum("mii->mi", K)
    root = np.sqrt(np.maximum(own, 0.0))
    over = np.abs(K) - corr_bound * root[:, :, None] * root[:, None, :]
    np.einsum("mii->mi", over)[:] = 0.0
    d = np.broadcast_to(np.asarray(floor, dtype=np.float64), own.shape[1:])
    top = np.maximum(values[:, -1], np.finfo(float).tiny)
    return Violations(
        float(np.max(np.abs(K - K.transpose(0, 2, 1)))) / size,
        float(np.max(np.maximum(-values[:, 0], 0.0) / top)),
        float(np.max(np.maximum(d - own, 0.0) / (1.0 + d))),
        max(0.0, float(np.max(over, initial=0.0))) / size,
    )
