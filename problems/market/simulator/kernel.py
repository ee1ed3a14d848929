"""The true impact kernel of the simulator, scaled by closed-form moments, and the covariance and betas it implies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.flow import flow_autocovariance, flow_factor_covariance
from crosswind.problems.market.simulator.mechanisms import Mechanisms
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.regimes import VolatilityRegimes
from crosswind.problems.market.simulator.shocks import Jumps
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
    by_regime
        Covariance per second while a volatility regime lasts (2, N, N), calm and stressed; None without regimes.
    in_break
        Covariance per second inside a correlation break (N, N), jumps and mean regime included; None without breaks.
    betas_in_break
        Beta of each name inside a break to the index as it would have moved (N,); None without breaks.
    """

    rates_per_s: Array
    matrices: Array
    covariance: Array
    fundamental: Array
    betas: Array
    by_regime: Array | None = None
    in_break: Array | None = None
    betas_in_break: Array | None = None


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


def _regressor_covariance(
    parameters: SimulatorParameters,
    decays: Array,
    bucket_s: float,
    count: int,
    regimes: VolatilityRegimes | None = None,
) -> Array:
    """Return ``Cov(ζ^m_i, ζ^n_j) / (v_i v_j)`` by kind of pair, (M, M, 3), for ``ζ^m_t = Σ_k d^m_k u_{t-k}``.

    The difference form of ``ρ_m^k`` has ``d_0 = 1`` and ``d_k = -(1 - ρ_m) ρ_m^(k-1)``, hence the closed form of
    ``A_mn(h) = Σ_k d^m_{k+h} d^n_k`` below; the covariance is ``Σ_h A_mn(h) C(h)`` over all lags of both signs.
    """
    transient = decays[decays < 1.0]
    span = int(np.ceil(np.log(1e-8) / np.log(transient.max()))) if transient.size else 1
    lags = np.arange(min(max(span, 1), count), dtype=np.float64)
    autocovariance = flow_autocovariance(parameters, bucket_s, count, lags)
    if regimes is not None:
        autocovariance = autocovariance * regimes.volume_moment(bucket_s, lags)
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


def calibrate(
    universe: Universe,
    parameters: SimulatorParameters,
    bucket_s: float,
    count: int,
    seed: int,
    mechanisms: Mechanisms | None = None,
) -> Kernel:
    """Scale the kernel so that flow explains ``impact_r2`` of bucket returns, by the closed-form moments of flow.

    No data are drawn for it, so the truth depends neither on the number of days nor on luck. The share is that of the
    market before regimes, jumps and a variant's scale: one of twice the volatility has the same matrices, and one of
    twice the impact has them twice to the last bit.

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
    mechanisms
        What is switched on besides, and the scale that ``parameters`` already hold; None for nothing.

    Returns
    -------
    Kernel
    """
    p, number = parameters, len(universe.names)
    on = mechanisms or Mechanisms()
    vol, imp = on.scale.volatility, on.scale.impact
    share = bucket_s / p.session_s
    # The kernel is that of the volatilities before scaling.
    market_var, sector_var = (p.market_vol_daily / vol) ** 2, (p.sector_vol_daily / vol) ** 2
    factor_var = np.array([market_var] + [sector_var] * len(universe.sector_labels))
    idio = np.diag((universe.idio_vol_daily / vol) ** 2)
    fundamental = share * ((universe.loadings * factor_var) @ universe.loadings.T + idio)
    mean_volume = universe.adv * share
    dispersion = np.exp(p.kernel_dispersion * stream(seed, Part.SLOPES).standard_normal(number))
    root = np.sqrt(np.sqrt(np.diag(fundamental)) / mean_volume * dispersion)
    unit = kernel_correlations(universe, p, seed) * np.outer(root, root)
    unit *= np.asarray(p.kernel_weights)[:, None, None]
    rates = np.log(2.0) / np.asarray(p.kernel_half_lives_s)
    decays = np.exp(-rates * bucket_s)
    outer, kind = np.outer(mean_volume, mean_volume), universe.pair_kind()

    def variance(moments: Array) -> Array:
        total = np.zeros((number, number))
        for m, left in enumerate(unit):
            for n, right in enumerate(unit):
                total += left @ (outer * moments[m, n][kind]) @ right
        return total

    impact = variance(_regressor_covariance(p, decays, bucket_s, count))
    scale = _scale(np.diag(impact) / np.diag(fundamental), p.impact_r2)
    matrices = scale * unit
    link = flow_factor_covariance(p, count) * (p.market_vol_daily / vol) * np.sqrt(share)
    endogenous = np.outer(universe.loadings[:, 0], matrices.sum(axis=0) @ mean_volume * link)

    # From here on the variant: its scale and its mechanisms. Without any, every factor is 1 and changes no bit.
    fundamental = fundamental * vol**2
    parts = (fundamental, scale**2 * imp**2 * impact, vol * imp * endogenous)
    jumps = np.zeros((number, number)) if on.jumps is None else _jump_covariance(universe, on.jumps, share)

    def covariance(volatility_square: float, impact_part: Array, product: float) -> Array:
        total = volatility_square * parts[0] + impact_part + product * parts[2] + product * parts[2].T + jumps
        return np.asarray(0.5 * (total + total.T) / bucket_s, dtype=np.float64)

    by_regime = None
    if on.regimes is None:
        mean = covariance(1.0, parts[1], 1.0)
    else:
        r = on.regimes
        mixed = scale**2 * imp**2 * variance(_regressor_covariance(p, decays, bucket_s, count, r))
        mean = covariance(r.mean_square_volatility(bucket_s), mixed, r.mean_product(bucket_s))
        stressed = covariance(r.volatility**2, r.volume**2 * parts[1], r.volatility * r.volume)
        by_regime = np.stack([covariance(1.0, parts[1], 1.0), stressed])
    exposure = mean @ universe.weights
    in_break = betas_in_break = None
    if on.breaks is not None:
        ratio = 1.0 if on.regimes is None else on.regimes.mean_square_volatility(bucket_s)
        common = np.outer(universe.loadings[:, 0], universe.loadings[:, 0])
        common = common * (ratio * factor_var[0] * vol**2 * share / bucket_s)
        lost = (1.0 - on.breaks.coupling**2) * common
        in_break = mean - lost + np.diag(np.diag(lost))
        against = (mean - (1.0 - on.breaks.coupling) * common) @ universe.weights
        betas_in_break = against / (universe.weights @ exposure)
    matrices = matrices * imp
    return Kernel(
        rates_per_s=rates,
        matrices=0.5 * (matrices + matrices.transpose(0, 2, 1)),
        covariance=mean,
        fundamental=fundamental / bucket_s,
        betas=exposure / (universe.weights @ exposure),
        by_regime=by_regime,
        in_break=in_break,
        betas_in_break=betas_in_break,
    )


def _jump_covariance(universe: Universe, jumps: Jumps, share: float) -> Array:
    """Return the covariance that compound Poisson jumps add to the returns of one bucket, (N, N)."""
    market = universe.loadings[:, 0]
    common = jumps.market_per_day * jumps.market_sd**2 * np.outer(market, market)
    return np.asarray(share * (common + jumps.name_per_day * jumps.name_sd**2 * np.eye(len(market))))


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
