"""Fits of one name's propagator: each takes f(u) and returns by session and gives G with intervals.

Direct least squares minimises Σ (r_t − Σ_τ κ_{t−τ} f_τ)². The response route (Bouchaud, Gefen, Potters and Wyart)
first inverts S_l = E[r_{t+l} f_t] = Σ_n C_{|l−n|} κ_n, C the autocovariance of f, over lags 0 … L, and then fits the
decay to κ̂ in the metric C: the same problem with the sample's edge rows left out of the second moments, and with the
kernel cut at L.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz, toeplitz
from scipy.optimize import nnls

from crosswind.problems.impact.features import session_rows
from crosswind.problems.impact.laws.decays import concave, filtered, power_decay, power_slopes, taps
from crosswind.problems.impact.laws.least_squares import Estimate, gauss_newton
from crosswind.solvers.errors import CrosswindError, InvalidInput, SolverFailure

__all__ = ["Rows", "free_fit", "nonnegative_fit", "power_fit", "response_moments"]

Array = NDArray[np.float64]
_STARTS = tuple((t, g) for t in (0.3, 2.0, 10.0) for g in (0.2, 0.5, 1.0))  # t₀ in buckets, γ


@dataclass(frozen=True, eq=False)
class Rows:
    """One name's buckets.

    Attributes
    ----------
    flow
        u (T,) [currency].
    returns
        r (T,); NaN in each session's first bucket.
    session
        Label by row.
    bucket_s
        Bucket length [s].
    scale
        ū > 0, root mean square of the flow [currency].
    blocks
        Bootstrap block of each row, 0 … B−1.
    """

    flow: Array
    returns: Array
    session: NDArray[Any]
    bucket_s: float
    scale: float
    blocks: NDArray[np.int64]

    @property
    def use(self) -> NDArray[np.bool_]:
        """Rows with a return."""
        return np.asarray(np.isfinite(self.returns))

    @property
    def ages(self) -> Array:
        """0, Δ, 2Δ … up to the longest session [s]."""
        longest = max(part.stop - part.start for part in session_rows(self.session))
        return np.arange(longest, dtype=np.float64) * self.bucket_s


def power_fit(
    rows: Rows, scale_s: float | None, concavity: float | None
) -> tuple[dict[str, float], list[str], Estimate]:
    """Fit G(h) = c (1 + h/t₀)^(−γ) and f(u) = ū-scaled |u|^δ directly on the returns.

    Parameters
    ----------
    rows
        The data.
    scale_s
        t₀ [s], or None to fit it.
    concavity
        δ, or None to fit it.

    Returns
    -------
    tuple
        All of c [return at the typical flow], t0 [s], gamma, delta; the free ones' names; the estimate, whose
        parameters are c, ln t₀, γ, δ as far as they are free.
    """
    use, ages = rows.use, rows.ages
    r = rows.returns[use]
    size = max(float(np.sqrt((r**2).mean())), np.finfo(float).tiny)
    free = ["c", *(["t0"] if scale_s is None else []), "gamma", *(["delta"] if concavity is None else [])]

    def unpack(theta: Array) -> tuple[float, float, float, float]:
        held = dict(zip(free, theta.tolist(), strict=True))
        t0 = scale_s if scale_s is not None else float(np.exp(min(held["t0"], 50.0)))
        return held["c"], t0, held["gamma"], held.get("delta", 1.0 if concavity is None else concavity)

    def residuals(theta: Array) -> tuple[Array, Array]:
        c, t0, gamma, delta = unpack(theta)
        inside = 0.0 <= gamma < 6.0 and 0.02 < t0 / rows.bucket_s < 1e4 and 0.05 < delta < 2.0
        if not inside:
            return np.full(len(r), np.inf), np.zeros((len(r), len(free)))
        f = concave(rows.flow, rows.scale, delta)
        by_scale, by_gamma = power_slopes(ages, t0, gamma)
        kernels = [power_decay(ages, t0, gamma), *([c * by_scale] if scale_s is None else []), c * by_gamma]
        X = filtered(f, rows.session, np.column_stack(kernels))[use]
        columns = [X]
        if concavity is None:
            x = np.abs(rows.flow) / rows.scale
            bent = f * np.log(np.where(x > 0, x, 1.0))
            columns.append(filtered(bent, rows.session, c * kernels[0][:, None])[use])
        return (c * X[:, 0] - r) / size, np.hstack(columns) / size

    best: tuple[float, Array] | None = None
    starts = _STARTS if scale_s is None else tuple((scale_s / rows.bucket_s, g) for g in (0.2, 0.5, 1.0))
    for t, gamma in starts:
        delta = 0.7 if concavity is None else concavity
        f = concave(rows.flow, rows.scale, delta)
        x = filtered(f, rows.session, power_decay(ages, t * rows.bucket_s, gamma)[:, None])[use, 0]
        c = float(x @ r / (x @ x))
        loss = float(((c * x - r) ** 2).sum())
        values = {"c": c, "t0": np.log(t * rows.bucket_s), "gamma": gamma, "delta": delta}
        if best is None or loss < best[0]:
            best = (loss, np.array([values[k] for k in free]))
    assert best is not None
    found = gauss_newton(residuals, best[1].tolist(), free, clusters=rows.blocks[use])
    c, t0, gamma, delta = unpack(found.theta)
    return {"c": c, "t0": t0, "gamma": gamma, "delta": delta}, free, found


def nonnegative_fit(rows: Rows, shapes: Array, concavity: float, resamples: int, seed: int) -> tuple[Array, Array]:
    """Fit G = Σ_m w_m φ_m, w ≥ 0, directly on the returns.

    Parameters
    ----------
    rows
        The data.
    shapes
        φ (L, M) at whole buckets.
    concavity
        δ.
    resamples, seed
        Of the block bootstrap.

    Returns
    -------
    tuple
        w (M,) and its bootstrap draws (resamples, M).
    """
    use = rows.use
    X = filtered(concave(rows.flow, rows.scale, concavity), rows.session, shapes)[use]
    r, block = rows.returns[use], rows.blocks[use]
    count = int(block.max()) + 1
    cuts = np.searchsorted(block, np.arange(count))
    grams = np.stack([X[a:b].T @ X[a:b] for a, b in zip(cuts, [*cuts[1:], len(X)], strict=True)])
    cross = np.stack([X[a:b].T @ r[a:b] for a, b in zip(cuts, [*cuts[1:], len(X)], strict=True)])
    return _bootstrapped(grams, cross, resamples, seed, _nonnegative)


def _nonnegative(A: Array, b: Array) -> Array:
    """Min ½w'Aw − b'w over w ≥ 0, through the triangular factor, each column scaled to one."""
    unit = 1.0 / np.sqrt(np.maximum(np.diag(A), np.finfo(float).tiny))
    scaled = A * np.outer(unit, unit)
    L = np.linalg.cholesky(scaled + 1e-12 * np.eye(len(A)))
    w, _ = nnls(L.T, np.linalg.solve(L, b * unit))
    return np.asarray(w * unit)


def _bootstrapped(
    grams: Array, cross: Array, resamples: int, seed: int, solve: Callable[[Array, Array], Array]
) -> tuple[Array, Array]:
    value = solve(grams.sum(axis=0), cross.sum(axis=0))
    generator = np.random.default_rng(seed)
    draws = np.empty((resamples, *value.shape))
    for k in range(resamples):
        times = np.bincount(generator.integers(0, len(grams), len(grams)), minlength=len(grams)).astype(float)
        draws[k] = solve(np.tensordot(times, grams, axes=1), times @ cross)
    return value, draws


def _lagged(rows: Rows, f: Array, lags: int) -> Array:
    out = np.zeros((len(f), lags + 1))
    for part in session_rows(rows.session):
        block = f[part]
        for h in range(min(lags + 1, len(block))):
            out[part.start + h : part.stop, h] = block[: len(block) - h]
    return out


def free_fit(rows: Rows, lags: int, concavity: float, response: bool, resamples: int, seed: int) -> tuple[Array, Array]:
    """Fit G at lags 0 … L without a shape; returns G (L + 1,) and bootstrap draws (resamples, L + 1)."""
    f = concave(rows.flow, rows.scale, concavity)
    use = rows.use
    if response:
        C, S = response_moments(rows, f, lags)
        invert = _toeplitz_inverse
        value, draws = _bootstrapped(C, S, resamples, seed, invert)
        return np.cumsum(value), np.cumsum(draws, axis=1)
    X, r, block = _lagged(rows, f, lags)[use], rows.returns[use], rows.blocks[use]
    count = int(block.max()) + 1
    cuts = np.searchsorted(block, np.arange(count))
    ends = [*cuts[1:], len(X)]
    grams = np.stack([X[a:b].T @ X[a:b] for a, b in zip(cuts, ends, strict=True)])
    cross = np.stack([X[a:b].T @ r[a:b] for a, b in zip(cuts, ends, strict=True)])
    value, draws = _bootstrapped(grams, cross, resamples, seed, _solved)
    return np.cumsum(value), np.cumsum(draws, axis=1)


def _solved(A: Array, b: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(A, b))
    except np.linalg.LinAlgError as error:
        raise InvalidInput(
            "the flow does not tell the lags apart", field="lags", value=len(b) - 1, remedy="use fewer lags"
        ) from error


def _toeplitz_inverse(C: Array, S: Array) -> Array:
    try:
        return np.asarray(solve_toeplitz(C, S))
    except np.linalg.LinAlgError as error:
        raise InvalidInput("the autocovariance of flow is singular", field="lags", value=len(S) - 1) from error


def response_moments(rows: Rows, f: Array, lags: int) -> tuple[Array, Array]:
    """Return C_l = Σ f_{t+l} f_t and S_l = Σ r_{t+l} f_t within sessions, by block of t, both (B, L + 1).

    The sums are over all pairs, not their means: the biased autocovariance is positive definite.
    """
    count = int(rows.blocks.max()) + 1
    C, S = np.zeros((count, lags + 1)), np.zeros((count, lags + 1))
    r = np.where(rows.use, rows.returns, 0.0)
    for part in session_rows(rows.session):
        x, y, block = f[part], r[part], rows.blocks[part]
        for h in range(min(lags + 1, len(x))):
            early = x[: len(x) - h]
            np.add.at(C[:, h], block[: len(x) - h], x[h:] * early)
            np.add.at(S[:, h], block[: len(x) - h], y[h:] * early)
    return C, S


def shaped_response(
    rows: Rows,
    lags: int,
    concavity: float,
    resamples: int,
    seed: int,
    solve: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
    """Fit parameters to the response: ``solve(metric C (L+1, L+1), κ̂)`` gives them, also for each bootstrap draw.

    A draw on which the shape cannot be fitted is drawn again; more than half of such draws is a failure.
    """
    C, S = response_moments(rows, concave(rows.flow, rows.scale, concavity), lags)

    def fitted(c: Array, s: Array) -> Array:
        return solve(toeplitz(c), _toeplitz_inverse(c, s))

    value = fitted(C.sum(axis=0), S.sum(axis=0))
    generator = np.random.default_rng(seed)
    draws: list[Array] = []
    for _ in range(2 * resamples):
        if len(draws) == resamples:
            break
        times = np.bincount(generator.integers(0, len(C), len(C)), minlength=len(C)).astype(float)
        try:
            draws.append(fitted(times @ C, times @ S))
        except (CrosswindError, np.linalg.LinAlgError):
            continue
    if len(draws) < resamples:
        raise SolverFailure(
            "the decay cannot be fitted to most resamples of the response",
            field="decay",
            remedy='fewer parameters, more data, or method="least_squares"',
        )
    return value, np.array(draws).reshape(resamples, len(value))


def power_on_response(ages: Array, scale_s: float | None, bucket_s: float) -> Callable[[Array, Array], Array]:
    """Return the solver for (c, t₀, γ) of a power law against κ̂ in the metric C."""

    def solve(C: Array, kappa: Array) -> Array:
        root = np.linalg.cholesky(C).T
        size = float(np.linalg.norm(root @ kappa)) or 1.0
        free = ["c", *(["t0"] if scale_s is None else []), "gamma"]

        def residuals(theta: Array) -> tuple[Array, Array]:
            c, gamma = float(theta[0]), float(theta[-1])
            t0 = scale_s if scale_s is not None else float(np.exp(min(theta[1], 50.0)))
            if not (0.0 <= gamma < 6.0 and 0.02 < t0 / bucket_s < 1e4):
                return np.full(len(kappa), np.inf), np.zeros((len(kappa), len(free)))
            by_scale, by_gamma = power_slopes(ages, t0, gamma)
            decay = power_decay(ages, t0, gamma)
            columns = [decay, *([c * by_scale] if scale_s is None else []), c * by_gamma]
            J = root @ taps(np.column_stack(columns))
            return (c * J[:, 0] - root @ kappa) / size, J / size

        best: tuple[float, list[float]] | None = None
        starts = _STARTS if scale_s is None else tuple((scale_s / bucket_s, g) for g in (0.2, 0.5, 1.0))
        for t, gamma in starts:
            x = root @ taps(power_decay(ages, t * bucket_s, gamma))
            c = float(x @ root @ kappa / (x @ x))
            loss = float(((c * x - root @ kappa) ** 2).sum())
            start = [c, *([float(np.log(t * bucket_s))] if scale_s is None else []), gamma]
            best = (loss, start) if best is None or loss < best[0] else best
        assert best is not None
        theta = gauss_newton(residuals, best[1], free).theta
        t0 = scale_s if scale_s is not None else float(np.exp(theta[1]))
        return np.array([theta[0], t0, theta[-1]])

    return solve


def shapes_on_response(shapes: Array) -> Callable[[Array, Array], Array]:
    """Return the solver for the weights w ≥ 0 of shapes φ (L + 1, M) against κ̂ in the metric C."""
    columns = taps(shapes)

    def solve(C: Array, kappa: Array) -> Array:
        return _nonnegative(columns.T @ C @ columns, columns.T @ C @ kappa)

    return solve
