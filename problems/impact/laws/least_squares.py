"""Weighted non-linear least squares by damped Gauss–Newton, with intervals that allow for unequal variances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.solvers.errors import InvalidInput, SolverFailure

__all__ = ["Estimate", "check_varies", "gauss_newton", "two_sided_quantile"]

Array = NDArray[np.float64]
# f(parameters) → residuals (n,) and their Jacobian (n, p), both already weighted.
Residuals = Callable[[Array], tuple[Array, Array]]
_STILL = 1e-13


@dataclass(frozen=True, eq=False)
class Estimate:
    """Where the iteration ended.

    Attributes
    ----------
    theta
        Parameters (p,).
    covariance
        Sandwich covariance (p, p), (J'J)⁻¹ Σ s s' (J'J)⁻¹, s the score of a row over one less its leverage (HC3,
        MacKinnon and White 1985). With clusters the jackknife (G − 1)/G Σ_g d_g d_g', d_g = (J'J − J_g'J_g)⁻¹ J_g'f_g
        the move of the linearised estimate when cluster g is left out (CR3): heavy tails in the regressors make plain
        sandwiches too narrow.
    dof
        Degrees of freedom of the intervals' quantile: n − p, or G − 1.
    loss
        Σ residuals².
    iterations
        Steps taken.
    """

    theta: Array
    covariance: Array
    dof: int
    loss: float
    iterations: int


def two_sided_quantile(confidence: float, dof: int | None = None) -> float:
    """Return the two-sided quantile of Student's t, or of the normal where ``dof`` is None.

    Raises
    ------
    InvalidInput
        A confidence outside (0, 1).
    """
    from scipy.special import ndtri, stdtrit

    if not 0.0 < confidence < 1.0:
        raise InvalidInput("lies in (0, 1)", field="confidence", value=confidence)
    upper = 0.5 + 0.5 * confidence
    return float(ndtri(upper) if dof is None else stdtrit(dof, upper))


def check_varies(values: Array, name: str, what: str) -> None:
    """Refuse an exponent whose regressor is the same in every row.

    Raises
    ------
    InvalidInput
        Its logarithm spans less than 1e-6.
    """
    span = float(np.ptp(values))
    if span < 1e-6:
        raise InvalidInput(
            f"the data do not identify the parameter: {what} is the same in every row",
            field=name,
            value=span,
            remedy="fix the exponent, or give orders that differ",
        )


def gauss_newton(
    residuals: Residuals,
    start: Sequence[float],
    names: Sequence[str],
    clusters: NDArray[np.int64] | None = None,
    iterations: int = 200,
    tol: float = 1e-16,
) -> Estimate:
    """Minimise ½|f(θ)|² from ``start``.

    Each step solves (J'J + μ diag J'J) δ = −J'f; μ falls after a step that improves and rises after one that does not
    (Levenberg and Marquardt), so that no step is worse than none.

    Parameters
    ----------
    residuals
        θ (p,) → (f (n,), J (n, p)); f may be inf where θ is out of range, which refuses the step.
    start
        θ₀ with a finite f.
    names
        Of the parameters; used in messages.
    clusters
        Cluster of each residual, 0, 1, …; None: each its own.
    iterations, tol
        Stop when the predicted improvement is below ``tol`` × the loss, or the step below 1e-13 of the parameters.

    Raises
    ------
    InvalidInput
        The data do not identify a parameter: the scaled J'J is singular at the end.
    SolverFailure
        No convergence.
    """
    theta = np.array(start, dtype=np.float64)
    f, J = residuals(theta)
    loss, damping = float(f @ f), 1e-4
    if not np.isfinite(loss):
        raise SolverFailure("the fit starts where its model is not defined", field="start", value=theta.tolist())
    for count in range(1, iterations + 1):
        H, gradient = J.T @ J, J.T @ f
        scale = np.sqrt(np.maximum(np.diag(H), np.finfo(float).tiny))
        H, gradient = H / np.outer(scale, scale), gradient / scale
        accepted = False
        while damping < 1e12:
            step = -np.linalg.solve(H + damping * np.eye(len(H)), gradient)
            gain = float(-step @ gradient)  # twice the predicted fall of ½|f|², up to damping
            trial = theta + step / scale
            with np.errstate(all="ignore"):
                g, K = residuals(trial)
                new = float(g @ g)
            still = float(np.linalg.norm(step)) <= _STILL * float(np.linalg.norm(theta * scale))
            better = bool(np.isfinite(new) and new <= loss and np.isfinite(K).all())
            if better:
                theta, f, J, loss, accepted = trial, g, K, new, True
                damping = max(damping / 10.0, 1e-12)
            if still or gain <= tol * loss:
                return _finish(theta, f, J, loss, count, names, clusters)
            if better:
                break
            damping *= 10.0
        if not accepted:  # rounding: nothing is better than where we stand
            return _finish(theta, f, J, loss, count, names, clusters)
    raise SolverFailure(
        f"the fit did not converge in {iterations} steps",
        field=", ".join(names),
        value=[float(v) for v in theta],
        remedy="fix an exponent, or give more data",
    )


def _finish(
    theta: Array,
    f: Array,
    J: Array,
    loss: float,
    count: int,
    names: Sequence[str],
    clusters: NDArray[np.int64] | None,
) -> Estimate:
    n, p = J.shape
    scale = np.sqrt((J**2).sum(axis=0))
    flat = [name for name, s in zip(names, scale, strict=True) if not s > 0]
    H = J.T @ J / np.outer(np.where(scale > 0, scale, 1.0), np.where(scale > 0, scale, 1.0))
    values, vectors = np.linalg.eigh(H)
    if flat or values[0] < 1e-10 * values[-1] or n <= p:
        worst = np.abs(vectors[:, 0])
        which = flat or [name for name, w in zip(names, worst, strict=True) if w > 0.3]
        raise InvalidInput(
            "the data do not identify the parameters",
            field=", ".join(which or names),
            value=f"{n} rows, smallest eigenvalue {values[0]:.1e} of the scaled curvature",
            remedy="fix an exponent, or give orders that differ more in size, duration and volume",
        )
    inverse = np.linalg.inv(H) / np.outer(scale, scale)
    if clusters is None:
        leverage = np.minimum(np.einsum("ij,jk,ik->i", J, inverse, J), 1.0 - 1e-6)
        scores = J * (f / (1.0 - leverage))[:, None]
        covariance, dof = inverse @ (scores.T @ scores) @ inverse, n - p
    else:
        groups = int(clusters.max()) + 1
        scaled = J / scale
        left = np.zeros((groups, p))
        for g in range(groups):  # what the estimate would move by without the cluster, but for the sign
            own = scaled[clusters == g]
            left[g] = np.linalg.lstsq(H - own.T @ own, own.T @ f[clusters == g], rcond=1e-12)[0]
        covariance, dof = (groups - 1) / groups * (left.T @ left) / np.outer(scale, scale), max(groups - 1, 1)
    return Estimate(theta, 0.5 * (covariance + covariance.T), dof, loss, count)
