r"""The proximal map of floor, correlation bound and penalties, exact: one Newton problem in the diagonal alone.

For one symmetric V and step γ,

    prox(V) = argmin_Q  ½|Q − V|² + γ Σ_{i≠j} [ridge/2 (Q_ij − T_ij)² + l1 |Q_ij|] + γ Σ_i pool/2 (Q_ii − T_ii)²
              s.t.  Q_ii ≥ d_i,  |Q_ij| ≤ ρ √(Q_ii Q_jj).

Off the diagonal the quadratics are completed, with κ = 1 + γ·ridge, c = (V + γ·ridge·T)/κ, s = soft(c, γ·l1/κ), and
given the diagonal a the best entry is q_ij = clip(s_ij, ±ρ√(a_i a_j)). On the diagonal κ_a = 1 + γ·pool and
v = (diag V + γ·pool·diag T)/κ_a. What is left is strongly convex and C¹ in a ≥ d:

    F(a) = ½|a − v|² + (κ/κ_a) Σ_{i<j} (|s_ij| − ρ√(a_i a_j))₊²,

convex because √(a_i a_j) is concave and the square is taken of a positive part. A projected semismooth Newton method
with Armijo steps finds a in a handful of iterations. Where κ/κ_a is large the pairs bend a narrow valley that it would
creep along; κ/κ_a is then raised by steps, each from the answer of the one before, which lies in the valley already. A
diagonal of zero is the one place where F has an infinite slope; a is held at or above 1e-14 of the largest entry, which
moves no entry by more than 1e-7 of it and no certificate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from crosswind.solvers.errors import InvalidInput, SolverFailure
from crosswind.solvers.gram.problem import Array

__all__ = ["prox_floor_correlation"]

_TINY = 1e-14
_NEWTON = 60
_HALVINGS = 30
_GAIN = 1e-12  # share of F that a last Newton step may promise where the slope can't fall any more
_CONTINUED = 30.0  # κ/κ_a by which one stage exceeds the one before
Floats = NDArray[Any]


def prox_floor_correlation(
    V: Array,
    floor: Array | float = 0.0,
    corr_bound: float = 1.0,
    *,
    step: float = 1.0,
    ridge: float = 0.0,
    l1: float = 0.0,
    pool: float = 0.0,
    target: Array | None = None,
) -> Array:
    """Return prox of the penalties and of {Q_ii ≥ d_i, |Q_ij| ≤ ρ√(Q_ii Q_jj)} at V; with no penalty, the projection.

    Parameters
    ----------
    V
        (N, N) or (M, N, N); symmetrised first (the nearest symmetric matrix has the same answer).
    floor
        d ≥ 0: a number or (N,).
    corr_bound
        ρ in [0, 1].
    step
        γ > 0.
    ridge, l1, pool
        Penalties ≥ 0, see the module.
    target
        T of V's shape, symmetric; None: zeros.

    Returns
    -------
    ndarray
        Q of V's shape: symmetric, with Q_ii ≥ d_i and |Q_ij| ≤ ρ√(Q_ii Q_jj) to rounding.

    Raises
    ------
    InvalidInput
        On shapes that do not fit, entries that are not finite, or parameters out of range.
    SolverFailure
        Where rounding keeps Newton's method from the answer, as with penalties that differ by more than float64 holds.
    """
    V = np.asarray(V, dtype=np.float64)
    if V.ndim not in (2, 3) or V.shape[-1] != V.shape[-2] or V.size == 0:
        raise InvalidInput("must be (N, N) or (M, N, N)", field="V", value=V.shape, remedy="give square matrices")
    n = V.shape[-1]
    T = np.zeros_like(V) if target is None else np.asarray(target, dtype=np.float64)
    if T.shape != V.shape:
        raise InvalidInput("must have V's shape", field="target", value=T.shape, remedy=f"give {V.shape}")
    d = np.asarray(floor, dtype=np.float64)
    if d.shape not in ((), (n,)):
        raise InvalidInput("must be a number or (N,)", field="floor", value=d.shape, remedy=f"give ({n},)")
    d = np.array(np.broadcast_to(d, (n,)))
    for name, value in (("V", V), ("target", T), ("floor", d)):
        if not np.isfinite(value).all():
            raise InvalidInput("must be finite", field=name, remedy="remove NaN and infinite entries")
    if (d < 0.0).any():
        raise InvalidInput("must be ≥ 0", field="floor", value=float(d.min()), remedy="0 is no floor")
    if not 0.0 <= corr_bound <= 1.0:
        raise InvalidInput("ρ must lie in [0, 1]", field="corr_bound", value=corr_bound, remedy="1 is PSD's own bound")
    for name, penalty in (("ridge", ridge), ("l1", l1), ("pool", pool)):
        if not (np.isfinite(penalty) and penalty >= 0.0):
            raise InvalidInput("must be finite and ≥ 0", field=name, value=penalty, remedy="0 turns it off")
    if not (np.isfinite(step) and step > 0.0):
        raise InvalidInput("must be > 0", field="step", value=step, remedy="1 is the plain prox")
    batch = V[None] if V.ndim == 2 else V
    targets = T[None] if T.ndim == 2 else T
    out = np.empty_like(batch)
    for k in range(len(batch)):
        c = 0.5 * (batch[k] + batch[k].T)
        penalised(c, targets[k], step * ridge, step * pool)
        kappa = (1.0 + step * ridge) / (1.0 + step * pool)
        shrink(c, step * l1 / (1.0 + step * ridge))
        _, done = clip_to_diagonal(c, d, float(corr_bound), kappa, out[k], None)
        if not done:
            raise SolverFailure(
                "the diagonal did not converge",
                field="ridge",
                value=step * ridge,
                remedy="bring step·ridge, step·pool and the entries of V nearer to one another",
            )
    return out.reshape(V.shape)


def penalised(V: Floats, T: Floats, ridge: float, pool: float) -> None:
    """Complete the squares in place: V ← (V + ridge·T)/(1 + ridge) off the diagonal, with pool on it."""
    if ridge == 0.0 and pool == 0.0:
        return
    own = (np.einsum("ii->i", V) + pool * np.einsum("ii->i", T)) / (1.0 + pool)
    V += ridge * T
    V /= 1.0 + ridge
    np.einsum("ii->i", V)[:] = own


def shrink(V: Floats, by: float) -> None:
    """Soft-threshold the off-diagonal entries in place."""
    if by == 0.0:
        return
    own = np.einsum("ii->i", V).copy()
    V -= np.clip(V, -by, by)
    np.einsum("ii->i", V)[:] = own


def clip_to_diagonal(
    s: Floats, d: Array, rho: float, kappa: float, out: Floats, start: Array | None
) -> tuple[Array, bool]:
    """Write Q into ``out`` given the shrunk off-diagonals and the diagonal v of ``s``; return the diagonal a.

    The second value tells whether a is exact to the precision of ``s``; Q keeps its limits either way.

    ``s`` must be symmetric; ρ = inf leaves the bound out. ``start`` is a diagonal to begin from.
    Matrices may be float32; the diagonal is float64.
    """
    n = len(d)
    v = np.einsum("ii->i", s).astype(np.float64)
    if rho == 0.0:
        out[:] = 0.0
        a: Array = np.maximum(v, d)
        np.einsum("ii->i", out)[:] = a
        return a, True
    if rho == np.inf:
        out[:] = s
        a = np.maximum(v, d)
        np.einsum("ii->i", out)[:] = a
        return a, True
    size = np.abs(s)
    np.einsum("ii->i", size)[:] = 0.0
    top = max(float(np.max(np.abs(v))), float(np.max(size)), float(np.max(d)))
    if top == 0.0:
        out[:] = 0.0
        return np.zeros(n), True
    low = np.maximum(d, _TINY * top)
    tol = (1e-6 if s.dtype == np.float32 else 1e-14) * top
    done = False
    if start is not None or kappa <= _CONTINUED:
        a, done = _diagonal(size, v, low, rho, kappa, np.maximum(v if start is None else start, low), tol)
    if not done:
        a, stage = np.maximum(v, low), min(1.0, kappa)
        while stage < kappa:
            a, _ = _diagonal(size, v, low, rho, stage, a, tol)
            stage *= _CONTINUED
        a, done = _diagonal(size, v, low, rho, kappa, a, tol)
    root = (np.sqrt(rho) * np.sqrt(a)).astype(s.dtype)
    bound = np.multiply.outer(root, root)
    np.minimum(size, bound, out=size)
    np.copysign(size, s, out=out)
    np.einsum("ii->i", out)[:] = a
    return a, done


def _diagonal(size: Floats, v: Array, low: Array, rho: float, kappa: float, a: Array, tol: float) -> tuple[Array, bool]:
    """Minimise F(a) over a ≥ low, from ``a``; ``size`` is |s| with a zero diagonal. False where steps ran out."""
    excess = np.empty_like(size)
    value, slope = _slope(size, v, rho, kappa, a, excess)
    noise = 4.0 * float(np.finfo(size.dtype).eps)
    for _ in range(_NEWTON):
        held = (a <= low) & (slope > 0.0)
        slope[held] = 0.0
        length = float(np.max(np.abs(slope)))
        if length <= tol:
            return a, True
        move = _newton_step(size, excess, rho, kappa, a, slope, held)
        taken = None
        share = 1.0
        for _ in range(_HALVINGS):
            trial = np.maximum(np.maximum(a + share * move, low), 0.1 * a)
            next_value, next_slope = _slope(size, v, rho, kappa, trial, excess)
            steep = float(np.max(np.abs(np.where((trial <= low) & (next_slope > 0.0), 0.0, next_slope))))
            # Near the optimum the slope decides: the value no longer resolves the step.
            if next_value <= value + 1e-4 * float(slope @ (trial - a)) or steep <= 0.5 * length:
                taken = trial
                break
            if next_value <= value + noise * abs(value):
                break  # as good as this precision gets
            share *= 0.5
        if taken is None or np.array_equal(taken, a):
            return a, True  # as good as this precision gets
        a, value, slope = taken, next_value, next_slope
    # The slope may go on trembling in the last digits of κ|s|: what counts is what another step could gain.
    value, slope = _slope(size, v, rho, kappa, a, excess)
    held = (a <= low) & (slope > 0.0)
    slope[held] = 0.0
    move = np.maximum(a + _newton_step(size, excess, rho, kappa, a, slope, held), low) - a
    return a, bool(abs(float(slope @ move)) <= (_GAIN if size.dtype == np.float64 else 1e-4) * value)


def _slope(size: Floats, v: Array, rho: float, kappa: float, a: Array, excess: Floats) -> tuple[float, Array]:
    """Return F and its gradient at a, and leave (|s_ij| − ρ√(a_i a_j))₊ in ``excess``."""
    root = np.sqrt(a)
    short = root.astype(size.dtype)
    np.multiply.outer((rho * root).astype(size.dtype), short, out=excess)
    np.subtract(size, excess, out=excess)
    np.maximum(excess, 0.0, out=excess)
    pull = (excess @ short).astype(np.float64)
    squares = float(np.dot(excess.ravel(), excess.ravel()))
    away = a - v
    return 0.5 * float(away @ away) + 0.5 * kappa * squares, away - kappa * rho * pull / root


def _newton_step(
    size: Floats, excess: Floats, rho: float, kappa: float, a: Array, slope: Array, held: NDArray[np.bool_]
) -> Array:
    """Return −H⁻¹∇F on the rows that are not held and touch an active pair, the plain gradient step on the others."""
    root = np.sqrt(a)
    active = excess > 0.0
    busy = np.flatnonzero(active.any(axis=1) & ~held)
    move = -slope
    if busy.size == 0:
        return move
    full = busy.size == len(a)
    mask = active if full else active[np.ix_(busy, busy)]
    part = size if full else size[np.ix_(busy, busy)]
    sub = root[busy]
    pull = ((active * size)[busy] @ root.astype(size.dtype)).astype(np.float64)
    inverse = (1.0 / sub).astype(size.dtype)
    H = np.multiply.outer((-0.5 * kappa * rho * inverse).astype(size.dtype), inverse)
    H *= part
    H += size.dtype.type(kappa * rho * rho)
    H *= mask
    np.einsum("ii->i", H)[:] = 1.0 + 0.5 * kappa * rho * pull / sub**3
    solver = lapack.sposv if size.dtype == np.float32 else lapack.dposv
    _, found, info = solver(H, slope[busy].astype(size.dtype), lower=1, overwrite_a=1)
    if info == 0 and np.isfinite(found).all():
        move[busy] = -found
    else:
        move[busy] = -slope[busy] / (1.0 + 0.5 * kappa * rho * pull / sub**3)
    return move
