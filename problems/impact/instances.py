"""Seeded cone programs of the impact fit for benchmarks: the same numbers for the same seed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.impact.features import make_dictionary
from crosswind.problems.impact.gram import Gram
from crosswind.problems.impact.program import FitProblem, lower, scaled_problem
from crosswind.problems.impact.targets import block_target

if TYPE_CHECKING:
    from crosswind.solvers.program import ConeProgram

__all__ = ["SIZES", "impact_gram", "impact_instance", "impact_programs", "impact_truth"]

Array = NDArray[np.float64]

# name -> (names, shapes): a pair, a small list, a sector.
SIZES: dict[str, tuple[int, int]] = {"impact-2x1": (2, 1), "impact-10x2": (10, 2), "impact-20x3": (20, 3)}


def impact_truth(names: int, shapes: int, rng: np.random.Generator, groups: int = 3) -> Array:
    """Random PSD matrices (M, N, N) [return per currency] with group structure and correlations below 0.5."""
    own = 1e-9 * np.exp(0.5 * rng.standard_normal(names))
    group = np.arange(names) % groups
    share = np.linspace(0.6, 0.4, shapes) / np.linspace(0.6, 0.4, shapes).sum()
    out = np.empty((shapes, names, names))
    for k in range(shapes):
        C = np.full((names, names), rng.uniform(0.05, 0.15))
        C[group[:, None] == group[None, :]] = rng.uniform(0.25, 0.45)
        np.fill_diagonal(C, 1.0)
        out[k] = share[k] * C * np.sqrt(np.outer(own, own))
    return out


def impact_gram(
    names: int,
    shapes: int,
    rows: int,
    rng: np.random.Generator,
    r2: float = 0.05,
    matrices: Array | None = None,
) -> Gram:
    """Moments of one simulated session: persistent correlated flow, the truth's impact, Gaussian noise.

    Parameters
    ----------
    names, shapes, rows
        N, M, E.
    rng
        Source of randomness.
    r2
        Share of the return variance that impact explains, in (0, 1]; 1 is without noise.
    matrices
        K (M, N, N) [return per currency]; None draws `impact_truth`.
    """
    K = impact_truth(names, shapes, rng) if matrices is None else matrices
    dictionary = make_dictionary("exponential", 1.0, tuple(3.0 * 6.0**k for k in range(shapes)))
    shocks = 1e6 * (rng.standard_normal((rows, names)) + 0.4 * rng.standard_normal((rows, 1)))
    flow = np.empty_like(shocks)
    flow[0] = shocks[0]
    for t in range(1, rows):
        flow[t] = 0.3 * flow[t - 1] + shocks[t]
    Z = dictionary.regressors(flow)
    signal = Z @ K.transpose(1, 0, 2).reshape(names, -1).T
    noise = signal.std(axis=0) * np.sqrt((1.0 - r2) / r2)
    return Gram.of(Z, signal + noise * rng.standard_normal(signal.shape), flow)


def impact_instance(
    names: int = 10,
    shapes: int = 2,
    *,
    rows: int = 4000,
    r2: float = 0.02,
    corr_bound: float = 0.6,
    ridge: float = 1.0,
    l1: float = 0.0,
    seed: int = 0,
) -> FitProblem:
    """Return a seeded fit with a block target over three groups, in scaled coordinates."""
    rng = np.random.default_rng(seed)
    problem = scaled_problem(impact_gram(names, shapes, rows, rng, r2), 0.01, corr_bound, ridge, l1)
    return replace(problem, target=block_target(problem, np.arange(names, dtype=np.intp) % 3))


def impact_programs(seed: int = 0) -> dict[str, ConeProgram]:
    """Return the cone programs of all `SIZES` by name."""
    return {label: lower(impact_instance(n, m, seed=seed)).program for label, (n, m) in SIZES.items()}
