"""The true impact kernel of the simulator, scaled by closed-form moments, and the covariance and betas it implies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.flow import flow_autocovariance, flow_factor_covariance
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.problems.market.simulator.universe import Universe

__all__ = ["Kernel", "calibrate", "kernel_correlations"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Kernel:
    """The true impact kernel ``G(h) = Σ_m K_m exp(-β_m h)`` and the moments that it implies.

    Parameters
    ----------
    rates_per_s
        ``β_m`` (M,) [1/s].
    matrices
        ``K_m`` (M, N, N), symmetric positive semidefinite [return per currency].
    covariance
        Covariance of bucket returns, impact of flow included, divided by the bucket's seconds (N, N).
    fundamental
        The same without impact (N, N).
    betas
        Beta of each name to the index (N,); their weighted mean is 1.
    """

    rates_per_s: Array
    matrices: Array
    covariance: Array
    fundamental: Array
    betas: Array


def kernel_correlations(universe: Universe, parameters: SimulatorParameters, seed: int) -> Array:
    """Return the impact correlations ``R^m_ij = a_i a_j + 1{same sector} b_i b_j`` off the diagonal, 1 on it.

    ``a² ≈`` the correlation across sectors and ``a² + b² ≈`` the one within, jittered by name and tilted by mode. A sum
    of a rank-one, a block rank-one and a non-negative diagonal part: positive semidefinite by construction.

    Parameters
    ----------
    universe
        The names and their sectors.
    parameters
        Parameters of the simulator, whose validation bounds every entry by ``kernel_corr_bound``.
    seed
        Seed of the simulation.

    Returns
    -------
    ndarray (M, N, N)
    """
    p = parameters
    jitter = 1.0 + p.kernel_jitter * stream(seed, Part.CROSS).uniform(-1.0, 1.0, (len(universe.names), 2))
    same = universe.pair_kind() < 2
    modes = len(p.kernel_half_lives_s)
    rank = np.argsort(np.argsort(p.kernel_half_lives_s))
    position = 2.0 * rank / (modes - 1) - 1.0 if modes > 1 else np.zeros(1)
    out = np.empty((modes, *same.shape))
    for m, tilt in enumerate(1.0 + p.kernel_tilt * position):
        a = np.sqrt(tilt * p.kernel_corr_across) * jitter[:, 0]
        b = np.sqrt(tilt * (p.kernel_corr_within - p.kernel_corr_across)) * jitter[:, 1]
        out[m] = np.outer(a, a) + same * np.outer(b, b)
        np.fill_diagonal(out[m], 1.0)
    return out


def _regressor_covariance(parameters: SimulatorParameters, decays: Array, bucket_s: float, count: int) -> Array:
    """Return ``Cov(ζ^m_i, ζ^n_j) / (v_i v_j)`` by kind of pair, (M, M, 3), for ``ζ^m_t = Σ_k d^m_k u_{t-k}``.

    The difference form of ``ρ_m^k`` has ``d_0 = 1`` and ``d_k = -(1 - ρ_m) ρ_m^(k-1)``, hence the closed form of
    ``A_mn(h) = Σ_k d^m_{k+h} d^n_k`` below; the covariance is ``Σ_h A_mn(h) C(h)`` over all lags of both signs.
    """
    transient = decays[decays < 1.0]
    span = int(np.ceil(np.log(1e-8) / np.log(transient.max()))) if transient.size else 1
    lags = np.arange(min(max(span, 1), count), dtype=np.float64)
    autocovariance = flow_autocovariance(parameters, bucket_s, count, lags)
    modes = len(decays)
    out = np.empty((modes, modes, 3))
    for m, left in enumerate(decays):
        for n, right in enumerate(decays):
            ahead = _ahead(left, right, lags)
            behind = _ahead(right, left, lags)
            behind[0] = 0.0  # lag 0 counts once
            out[m, n] = autocovariance @ (ahead + behind)
    return out


def _ahead(left: float, right: float, lags: Array) -> Array:
    """Return ``A_mn(h)`` for h = 0, 1, …; a permanent mode (ρ = 1) has d = (1, 0, 0, …)."""
    gap = (1.0 - left) * (1.0 - right)
    shared = gap / (1.0 - left * right) if gap > 0.0 else 0.0
    out = (shared * left - (1.0 - left)) * left ** np.maximum(lags - 1.0, 0.0)
    out[0] = 1.0 + shared
    return np.asarray(out, dtype=np.float64)


def calibrate(universe: Universe, parameters: SimulatorParameters, bucket_s: float, count: int, seed: int) -> Kernel:
    """Scale the kernel so that flow explains ``impact_r2`` of bucket returns, by the closed-form moments of flow.

    No data are drawn for it, so the truth depends neither on the number of days nor on luck.

    Parameters
    ----------
    universe
        The names.
    parameters
        Parameters of the simulator.
    bucket_s, count
        Bucket length [s] and buckets per session.
    seed
        Seed of the simulation.

    Returns
    -------
    Kernel
    """
    p, number = parameters, len(universe.names)
    share = bucket_s / p.session_s
    factor_var = np.array([p.market_vol_daily**2] + [p.sector_vol_daily**2] * len(universe.sector_labels))
    fundamental = share * ((universe.loadings * factor_var) @ universe.loadings.T + np.diag(universe.idio_vol_daily**2))
    mean_volume = universe.adv * share
    dispersion = np.exp(p.kernel_dispersion * stream(seed, Part.SLOPES).standard_normal(number))
    root = np.sqrt(np.sqrt(np.diag(fundamental)) / mean_volume * dispersion)
    unit = kernel_correlations(universe, p, seed) * np.outer(root, root)
    unit *= np.asarray(p.kernel_weights)[:, None, None]
    rates = np.log(2.0) / np.asarray(p.kernel_half_lives_s)
    moments = _regressor_covariance(p, np.exp(-rates * bucket_s), bucket_s, count)
    outer, kind = np.outer(mean_volume, mean_volume), universe.pair_kind()
    impact = np.zeros((number, number))
    for m, left in enumerate(unit):
        for n, right in enumerate(unit):
            impact += left @ (outer * moments[m, n][kind]) @ right
    scale = _scale(np.diag(impact) / np.diag(fundamental), p.impact_r2)
    matrices = scale * unit
    link = flow_factor_covariance(p, count) * p.market_vol_daily * np.sqrt(share)
    endogenous = np.outer(universe.loadings[:, 0], matrices.sum(axis=0) @ mean_volume * link)
    total = fundamental + scale**2 * impact + endogenous + endogenous.T
    covariance = 0.5 * (total + total.T) / bucket_s
    exposure = covariance @ universe.weights
    return Kernel(
        rates_per_s=rates,
        matrices=0.5 * (matrices + matrices.transpose(0, 2, 1)),
        covariance=covariance,
        fundamental=fundamental / bucket_s,
        betas=exposure / (universe.weights @ exposure),
    )


def _scale(ratio: Array, target: float) -> float:
    """Return ``s`` with ``mean(s² r / (1 + s² r)) = target``; the mean is increasing in ``s``."""
    from scipy.optimize import brentq

    if target == 0.0:
        return 0.0

    def excess(log_square: float) -> float:
        explained = np.exp(log_square) * ratio
        return float(np.mean(explained / (1.0 + explained))) - target

    centre = float(np.log(target / (1.0 - target)))
    low, high = centre - np.log(ratio.max()) - 1.0, centre - np.log(ratio.min()) + 1.0
    if not excess(low) < 0.0 < excess(high):  # a share near the smallest number: impact is lost in rounding
        return 0.0
    return float(np.exp(0.5 * brentq(excess, low, high, xtol=1e-13)))
