"""Seeded problems with a chosen spectrum, in the scaled coordinates that a well-posed fit is brought to."""

from __future__ import annotations

import numpy as np

from crosswind.solvers.errors import InvalidInput
from crosswind.solvers.gram.problem import Array, GramConeFit

__all__ = ["SPECTRA", "gram_instance"]

SPECTRA = ("power", "spiked", "flat", "near-singular", "singular")


def _spectrum(kind: str, names: int, condition: float, rng: np.random.Generator) -> Array:
    """Covariance (N, N) of the regressors' names with eigenvalues of the asked kind and a unit mean diagonal."""
    rank = np.arange(1, names + 1, dtype=np.float64)
    if kind == "power":
        values = rank ** -min(2.0, np.log(condition) / np.log(max(names, 2)))
    elif kind == "spiked":
        values = np.ones(names)
        spikes = max(1, names // 20)
        values[:spikes] = np.linspace(condition, max(1.0, condition / spikes), spikes)
    elif kind == "flat":
        values = rng.uniform(0.8, 1.2, names)
    elif kind == "near-singular":
        values = np.geomspace(1.0, 1.0 / condition, names)
    elif kind == "singular":
        values = np.where(rank <= max(1, (3 * names) // 4), 1.0, 0.0)
    else:
        raise InvalidInput("unknown spectrum", field="spectrum", value=kind, remedy=f"one of {SPECTRA}")
    vectors, _ = np.linalg.qr(rng.standard_normal((names, names)))
    cov = (vectors * (values / values.mean())) @ vectors.T
    own = np.sqrt(np.maximum(np.diag(cov), 1e-12))
    return np.asarray(cov / np.outer(own, own)) if kind in ("power", "spiked", "flat") else np.asarray(cov)


def gram_instance(
    names: int,
    shapes: int = 3,
    *,
    spectrum: str = "power",
    condition: float = 100.0,
    rows: int = 20_000,
    r2: float = 0.01,
    corr_bound: float = 0.6,
    ridge: float = 0.0,
    l1: float = 0.0,
    pool: float = 0.0,
    floor: float = 0.005,
    seed: int = 0,
) -> GramConeFit:
    """Return a fit to moments of Gaussian regressors and of responses to PSD matrices with three groups.

    Parameters
    ----------
    names, shapes
        N, M.
    spectrum, condition
        Kind of the eigenvalues of the names' covariance, one of `SPECTRA`, and its spread.
    rows
        E, the sample size behind the moments: noise in B falls as 1/√E.
    r2
        Share of the responses' variance that is explained, in (0, 1].
    corr_bound, ridge, l1, pool, floor
        See `GramConeFit`; the target is the groups' mean matrix.
    seed
        The same seed gives the same numbers.
    """
    rng = np.random.default_rng(seed)
    n, m = names, shapes
    cov = _spectrum(spectrum, n, condition, rng)
    lag = 0.55 ** np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    values, vectors = np.linalg.eigh(np.kron(lag, cov))
    root = vectors * np.sqrt(np.where(values > 1e-13 * values[-1], values, 0.0))
    wide = n * m
    # A Wishart sample by its Bartlett factor: no rows are drawn, whatever E.
    draws = np.tril(rng.standard_normal((wide, wide)), -1)
    draws[np.diag_indices(wide)] = np.sqrt(rng.chisquare(np.maximum(rows - np.arange(wide), 1.0)))
    half = root @ draws / np.sqrt(rows)
    S = half @ half.T
    group = np.arange(n) % 3
    truth = np.empty((m, n, n))
    for k in range(m):
        C = np.where(group[:, None] == group[None, :], rng.uniform(0.25, 0.45), rng.uniform(0.05, 0.15))
        np.fill_diagonal(C, 1.0)
        own = np.exp(0.15 * rng.standard_normal(n)) / m
        truth[k] = C * np.sqrt(np.outer(own, own))
    X = truth.transpose(1, 0, 2).reshape(n, -1)
    signal = np.einsum("ij,ij->i", X @ S, X)
    noise = np.sqrt(signal * (1.0 - r2) / r2 / rows)
    B = X @ S + noise[:, None] * (rng.standard_normal((n, wide)) @ half.T)
    weights = np.exp(0.3 * rng.standard_normal(n))
    weights /= np.mean(np.diag(S)) * weights.mean()
    target = np.where(group[:, None] == group[None, :], 0.35, 0.1) / m
    np.fill_diagonal(target, 1.0 / m)
    return GramConeFit(
        0.5 * (S + S.T), B, weights, floor / m, corr_bound, ridge, l1, pool, np.repeat(target[None], m, axis=0)
    )
