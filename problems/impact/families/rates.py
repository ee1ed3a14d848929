"""Decay rates learned from the rows: an outer minimisation over log half-lives around the joint fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.signal import lfilter

from crosswind.problems.impact.features import Dictionary
from crosswind.problems.impact.fit import Fitted, fit_problem
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.program import FitProblem
from crosswind.problems.impact.sample import Sample
from crosswind.solvers.errors import InvalidInput

__all__ = ["RateSearch", "fit_rates", "log_grid_half_lives", "rate_slopes"]

Array = NDArray[np.float64]

_APART = math.log(1.5)  # neighbouring half-lives keep this ratio, or their regressors become one
_SHORTEST_BUCKETS = 0.5


def log_grid_half_lives(shortest_s: float, longest_s: float, per_decade: float = 2.0) -> tuple[float, ...]:
    """Half-lives [s] from the shortest to the longest, ``per_decade`` to a factor of 10.

    Sums of exponentials on a log grid approximate power laws: a fit on the grid needs no search, at the price of more
    matrices.

    Raises
    ------
    InvalidInput
        Not 0 < shortest ≤ longest < inf, or a density that is not positive.
    """
    if not (0 < shortest_s <= longest_s < math.inf):
        raise InvalidInput("0 < shortest ≤ longest is needed", field="half_lives_s", value=(shortest_s, longest_s))
    if not (math.isfinite(per_decade) and per_decade > 0):
        raise InvalidInput("must be positive", field="per_decade", value=per_decade)
    count = 1 + round(per_decade * math.log10(longest_s / shortest_s))
    return tuple(float(v) for v in np.geomspace(shortest_s, longest_s, count)) if count > 1 else (float(shortest_s),)


@dataclass(frozen=True, eq=False)
class RateSearch:
    """What the search over half-lives found.

    Parameters
    ----------
    dictionary
        The shapes with the fitted rates.
    history
        Objective of the best half-lives so far after each pass, never rising; the first entry is the start's.
    passes
        Passes over the rows, one joint fit each.
    converged
        Whether the optimiser stopped by its own criterion rather than at the limit of passes.
    at_bound
        Which half-lives sit at a bound of the search: the data do not tell them, only their side.
    """

    dictionary: Dictionary
    history: tuple[float, ...]
    passes: int
    converged: bool
    at_bound: tuple[bool, ...]

    @property
    def half_lives_s(self) -> tuple[float, ...]:
        """Fitted half-lives [s]."""
        return tuple(math.inf if b == 0 else math.log(2) / b for b in self.dictionary.rates_per_s)

    def to_frame(self) -> pd.DataFrame:
        """One row per shape: half-life [s], rate [1/s], whether it sits at a bound."""
        return pd.DataFrame(
            {"half_life_s": self.half_lives_s, "rate_per_s": self.dictionary.rates_per_s, "at_bound": self.at_bound},
            index=list(self.dictionary.labels),
        )


def rate_slopes(dictionary: Dictionary, flow: Array) -> Array:
    """∂z^m/∂(log half-life) of one session, (T, M·N), 0 for a permanent mode.

    With a = e^{−βΔ}: z = (1 − B)/(1 − aB) u, so ∂z/∂a = (1 − B)B/(1 − aB)² u, and ∂a/∂log(half-life) = aβΔ.
    """
    u = np.asarray(flow, dtype=np.float64)
    if dictionary.transform is not None:
        u = dictionary.transform.apply(u)
    blocks = []
    for rate in dictionary.rates_per_s:
        a = math.exp(-rate * dictionary.bucket_s)
        slope = np.asarray(lfilter([0.0, 1.0, -1.0], [1.0, -2.0 * a, a * a], u, axis=0))
        blocks.append(slope * (a * rate * dictionary.bucket_s) if rate > 0 else np.zeros_like(u))
    return np.hstack(blocks)


def fit_rates(
    sample: Sample,
    start: Dictionary,
    problem: FitProblem,
    bounds_s: tuple[float, float],
    max_passes: int = 40,
    tol: float = 1e-7,
    solver: str | tuple[str, ...] = "auto",
    solver_tol: float = 1e-8,
) -> RateSearch:
    """Minimise V(θ) = min_K f(K; θ) over the log half-lives θ: variable projection around the joint fit.

    Every matrix, under all constraints and penalties, is eliminated by the inner convex fit; by the envelope theorem
    ∂V/∂θ is the derivative of the data term alone at the inner minimiser, and one pass over the rows gives the moments
    of both z and ∂z/∂θ. Deterministic: sequential quadratic programming from the start given, within bounds and with
    neighbours a factor 1.5 apart. V is not convex, so the result is a local minimum, never worse than the start.

    Parameters
    ----------
    sample
        Rows of the fit.
    start
        Exponential dictionary; permanent modes stay.
    problem
        The fit at the start; its scaling, weights, penalties and target stay as they are while rates move.
    bounds_s
        Shortest and longest half-life [s].
    max_passes
        Most passes over the rows.
    tol
        Of the optimiser, relative to the objective at the start.
    solver, solver_tol
        Of the inner fits.

    Raises
    ------
    InvalidInput
        Another family than the exponential, bad bounds, no rate to fit, fewer than one pass.
    """
    if start.family != "exponential":
        raise InvalidInput("only exponential shapes have rates", field="kernel", value=start.family)
    if int(max_passes) != max_passes or max_passes < 1:
        raise InvalidInput("at least one pass is needed", field="passes", value=max_passes)
    low, high = (float(b) for b in bounds_s)
    finite = [k for k, b in enumerate(start.rates_per_s) if b > 0]
    if not finite:
        raise InvalidInput("no rate to fit: all modes are permanent", field="half_lives_s", value=start.labels)
    if not (0 < low < high < math.inf) or math.log(high / low) < (len(finite) - 1) * _APART:
        raise InvalidInput(
            "bounds leave no room for the half-lives",
            field="half_life_bounds_s",
            value=bounds_s,
            remedy="widen them, or fit fewer shapes; neighbours stay a factor 1.5 apart",
        )
    finite.sort(key=lambda k: -start.rates_per_s[k])  # fast first
    theta = _spread(np.array([math.log(math.log(2) / start.rates_per_s[k]) for k in finite]), low, high)
    search = _Search(sample, start, finite, problem, solver, solver_tol, int(max_passes))
    gaps = np.eye(len(finite))[1:] - np.eye(len(finite))[:-1]
    apart: Any = {"type": "ineq", "fun": lambda t: gaps @ t - _APART, "jac": lambda t: gaps}
    converged = False
    try:
        done: Any = minimize(
            search,
            theta,
            jac=True,
            method="SLSQP",
            bounds=[(math.log(low), math.log(high))] * len(finite),
            constraints=[apart] if len(gaps) else [],
            options={"ftol": tol, "maxiter": int(max_passes)},
        )
        converged = bool(done.success)
    except _Spent:
        pass
    edge = [abs(t - math.log(low)) < 1e-6 or abs(t - math.log(high)) < 1e-6 for t in search.best]
    at_bound = [False] * start.size
    for k, hit in zip(finite, edge, strict=True):
        at_bound[k] = hit
    return RateSearch(
        search.dictionary(search.best), tuple(search.history), len(search.history), converged, tuple(at_bound)
    )


class _Spent(Exception):
    """The limit of passes is reached."""


class _Search:
    """V and its gradient at log half-lives, remembering the best."""

    def __init__(
        self,
        sample: Sample,
        start: Dictionary,
        finite: Sequence[int],
        problem: FitProblem,
        solver: str | tuple[str, ...],
        tol: float,
        limit: int,
    ) -> None:
        self._sample, self._start, self._finite, self._problem = sample, start, list(finite), problem
        self._solver, self._tol, self._limit = solver, tol, limit
        self.history: list[float] = []
        self.best: Array = np.zeros(len(finite))
        self._last: Fitted | None = None

    def dictionary(self, theta: Array) -> Dictionary:
        """Return the shapes at these log half-lives."""
        rates = list(self._start.rates_per_s)
        for k, t in zip(self._finite, theta, strict=True):
            rates[k] = math.log(2) / math.exp(float(t))
        return replace(self._start, rates_per_s=tuple(rates))

    def __call__(self, theta: Array) -> tuple[float, Array]:
        if len(self.history) >= self._limit:
            raise _Spent
        value, gradient = self.value_and_gradient(theta)
        if not self.history or value < self.history[-1]:
            self.best = np.array(theta)
        self.history.append(min(value, *self.history) if self.history else value)
        unit = max(abs(self.history[0]), np.finfo(float).tiny)  # so that the optimiser's tolerance is relative
        return value / unit, gradient / unit

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """V and ∂V/∂θ, by one pass and one joint fit."""
        shapes, base = self.dictionary(theta), self._problem
        n, m = base.names, base.shapes

        def both(part: slice) -> Array:
            flow = self._sample.flow[part]
            return self._sample.times_root(part, np.hstack([shapes.regressors(flow), rate_slopes(shapes, flow)]))

        gram: Gram = self._sample.moments(both).total
        wide = np.tile(base.scale, 2 * m)
        S = gram.S * np.outer(wide, wide)
        B = gram.B / base.scale[:, None] * wide
        inner = slice(0, n * m)
        problem = replace(base, S=0.5 * (S[inner, inner] + S[inner, inner].T), B=B[:, inner])
        self._last = fit_problem(problem, self._solver, self._tol, warm=self._last)
        K = self._last.repair.matrices
        X = problem.stacked(K)
        gradient = np.zeros(len(self._finite))
        for position, k in enumerate(self._finite):
            moved = slice((m + k) * n, (m + k + 1) * n)
            slope = np.einsum("ij,ij->i", X @ S[inner, moved] - B[:, moved], K[k])
            gradient[position] = float(base.weights @ slope)
        return problem.objective(K), gradient


def _spread(theta: Array, low: float, high: float) -> Array:
    """Return sorted starts moved into the bounds and apart from each other."""
    out = np.clip(np.sort(theta), math.log(low), math.log(high))
    for k in range(1, len(out)):
        out[k] = max(out[k], out[k - 1] + _APART)
    out[-1] = min(out[-1], math.log(high))
    for k in range(len(out) - 2, -1, -1):
        out[k] = min(out[k], out[k + 1] - _APART)
    return out
