"""Huber's loss for the joint fit, by passes over the rows that change only r'Z.

With residuals e_it = r_it − x_i z_t, a scale σ_i per name and H(x) = ½x² for |x| ≤ c, c|x| − ½c² beyond, the data term

    F(X) = Σ_i w_i/E Σ_t σ_i² H(e_it/σ_i)

replaces Σ_i w_i/(2E) Σ_t e_it². It is convex, so the joint fit stays one convex program, but it is not a function of
second moments. H has curvature ≤ 1, hence at any X⁰ with residuals e⁰

    σ² H(e/σ)  ≤  ½ (r* − x z)² + terms without x,     r*_it = x⁰_i z_t + clip(e⁰_it, ±c σ_i):

the surrogate is the squared loss of pseudo-returns r*, the same program with r*'Z in place of r'Z. Its minimiser has
F no larger than X⁰ has, with the penalties counted, and a fixed point is the minimiser of the Huber fit. The usual
alternative, reweighted least squares, gives each name its own Z'ΩZ: N times the memory, and outside the structure
(one S, weights by name) that the solvers use.

Huber bounds what a return can do, not what a flow can: a wild regressor is tamed by `PowerFlow`.

References
----------
Huber (1981), Robust Statistics, section 7.8 (modified residuals); Lange, Hunter, Yang (2000), optimisation transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.fit import Fitted, fit_problem
from crosswind.problems.impact.program import FitProblem
from crosswind.problems.impact.sample import Sample
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["HuberFit", "check_huber", "clipped_sample", "huber_fit", "pseudo_returns", "robust_scale"]

Array = NDArray[np.float64]

_MAD = 1.4826022185056018  # of a normal variable: 1/Φ⁻¹(3/4)
_WIDE = 5.0


@dataclass(frozen=True, eq=False)
class HuberFit:
    """A robust fit and how it was reached.

    Parameters
    ----------
    fitted
        The last surrogate, solved: its matrices minimise the Huber fit when ``converged``.
    sigma
        Scale of the residuals by name, (N,) [return].
    history
        F plus the penalties after each pass, never rising.
    converged
        Whether the last decrease was below the tolerance.
    clipped
        Share of each name's residuals beyond c σ, (N,).
    """

    fitted: Fitted
    sigma: Array
    history: tuple[float, ...]
    converged: bool
    clipped: Array


def check_huber(loss: str, c: float, passes: int) -> bool:
    """Return whether the loss is Huber's.

    Raises
    ------
    InvalidInput
        Another loss, a threshold or a number of passes that is not positive.
    """
    if loss not in ("squared", "huber"):
        raise InvalidInput("unknown loss", field="loss", value=loss, remedy='use "squared" or "huber"')
    if loss == "huber":
        if not (np.isfinite(c) and c > 0):
            raise InvalidInput("the threshold must be positive", field="huber_c", value=c, remedy="1.345 is usual")
        if int(passes) != passes or passes < 1:
            raise InvalidInput("at least one pass is needed", field="passes", value=passes)
    return loss == "huber"


def robust_scale(values: Array) -> Array:
    """1.4826 · median |x| by name over the rows that are not zero, (N,): the standard deviation of normal values.

    Buckets in which a mid did not move are most of the sample at high frequency; counting them would make every real
    move an outlier.

    Raises
    ------
    DataGap
        A name never moved.
    """
    size = np.abs(values)
    moved = np.where(size > 0, size, np.nan)
    still = ~(size > 0).any(axis=0)
    if still.any():
        raise DataGap(
            "a name has no price move in the sample, so its impact is not identified",
            field="events",
            value=f"column {int(np.argmax(still))}",
            remedy="drop the name, or give longer data",
        )
    return np.asarray(_MAD * np.nanmedian(moved, axis=0))


def clipped_sample(sample: Sample, c: float) -> Sample:
    """Return the rows with targets and returns clipped at ±max(c, 5) σ_i, σ_i their robust scale.

    Scaling, row weights, targets of the ridge and cross-validation rest on second moments of returns, which one wild
    print can own; they are taken from these rows. The clip is wide because clipped returns make impact look smaller:
    at 1.345 σ a strong ridge would pull to a target of too little impact.
    """
    c, use = max(c, _WIDE), sample.use
    limit, raw = c * robust_scale(sample.target[use]), c * robust_scale(sample.returns[use])
    returns = np.clip(sample.returns, -raw, raw)
    return replace(sample, target=np.clip(sample.target, -limit, limit), returns=returns)


def huber_fit(
    sample: Sample,
    dictionary: Dictionary,
    start: Fitted,
    c: float = 1.345,
    passes: int = 50,
    tol: float = 1e-7,
    solver: str | tuple[str, ...] = "auto",
    solver_tol: float = 1e-8,
) -> HuberFit:
    """Minimise the Huber loss under the constraints and penalties of a solved fit.

    Parameters
    ----------
    sample
        Rows with the returns as they are.
    dictionary
        Decay shapes of the fit.
    start
        A solved fit; its scaling, weights, targets and penalties are kept. σ_i is the `robust_scale` of its residuals
        and fixed from there on, so that all passes minimise one function.
    c
        Threshold in units of σ; 1.345 keeps 95 % efficiency under normal noise.
    passes
        Most passes over the rows.
    tol
        Stop when a pass lowers the objective by less than this, relative to 1 + |objective less its value at K = 0|.
    solver, solver_tol
        Of each surrogate.
    """
    problem = start.problem
    X = problem.stacked(problem.unscale(start.repair.matrices))
    residuals = np.vstack([r - Z @ X.T for Z, r in sample.sessions(dictionary)])
    sigma = robust_scale(residuals)
    del residuals
    fitted, history, converged = start, [], False
    value, B, clipped = _pass(sample, dictionary, problem, start.repair.matrices, sigma, c)
    zero = _pass(sample, dictionary, problem, np.zeros_like(start.repair.matrices), sigma, c)[0]
    history.append(value)
    for _ in range(int(passes)):
        trial = fit_problem(replace(problem, B=B), solver, solver_tol, warm=fitted)
        trial_value, trial_B, trial_clipped = _pass(sample, dictionary, problem, trial.repair.matrices, sigma, c)
        decrease = value - trial_value
        enough = decrease > tol * (1.0 + abs(value - zero))
        if decrease >= 0 or fitted is start:
            # The first surrogate replaces the start even within rounding: its certificate is that of this loss.
            fitted, value, B, clipped = trial, trial_value, trial_B, trial_clipped
            history.append(value)
        if not enough:
            converged = True
            break
    return HuberFit(fitted, sigma, tuple(history), converged, clipped)


def pseudo_returns(sample: Sample, dictionary: Dictionary, X: Array, sigma: Array, c: float) -> Sample:
    """Return the rows with targets r* = x_i z_t + clip(e_it, ±c σ_i) at the stacked matrices X (N, NM).

    Their second moments are those of returns without the outliers, and impact in them is not shrunk as it is in
    clipped returns.
    """
    target = np.full_like(sample.target, np.nan)
    use = sample.use
    forecast = np.vstack([Z @ X.T for Z, _ in sample.sessions(dictionary)])
    error = sample.target[use] - forecast
    target[use] = forecast + np.clip(error, -c * sigma, c * sigma)
    return replace(clipped_sample(sample, c), target=target)


def _pass(
    sample: Sample, dictionary: Dictionary, problem: FitProblem, matrices: Array, sigma: Array, c: float
) -> tuple[float, Array, Array]:
    """Objective at K', the scaled r*'Z/E of its surrogate, and the share of clipped residuals."""
    X = problem.stacked(problem.unscale(matrices))
    limit = c * sigma
    rows, loss, rZ, beyond = 0, np.zeros(problem.names), np.zeros_like(problem.B), np.zeros(problem.names)
    for Z, r in sample.sessions(dictionary):
        forecast = Z @ X.T
        error = r - forecast
        psi = np.clip(error, -limit, limit)
        loss += (psi * (error - 0.5 * psi)).sum(axis=0)  # σ²H(e/σ), in both branches
        rZ += (forecast + psi).T @ Z
        beyond += (np.abs(error) > limit).sum(axis=0)
        rows += len(r)
    wide = np.tile(problem.scale, problem.shapes)
    B = rZ / rows / problem.scale[:, None] * wide
    data = float(problem.weights / problem.scale**2 @ loss) / rows
    return data + problem.penalty(matrices), B, beyond / rows
