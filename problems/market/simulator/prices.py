"""Returns, mids, spreads and depth of one simulated session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.breaks import substitute_returns
from crosswind.problems.market.simulator.flow import FlowDay
from crosswind.problems.market.simulator.kernel import Kernel
from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.sessions import u_shape
from crosswind.problems.market.simulator.shocks import JumpDay
from crosswind.problems.market.simulator.streams import Part, stream, student
from crosswind.problems.market.simulator.universe import Universe
from crosswind.solvers.errors import InvalidInput

__all__ = ["PriceDay", "draw_prices", "impact_regressors", "impact_returns", "overnight_returns"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PriceDay:
    """Prices of one session and the parts of their returns.

    Parameters
    ----------
    factors
        Market and sector returns (T, 1 + S).
    impact, noise
        Parts of the return that flow and chance cause (T, N); the third part is ``factors @ loadings.T``.
    mid, spread, depth
        At the bucket ends (T, N) [currency per share; depth in currency].
    relative_vol
        Volatility over its mean level (T,).
    decoupled
        What a correlation break added to the returns (T, N); None without one.
    """

    factors: Array
    impact: Array
    noise: Array
    mid: Array
    spread: Array
    depth: Array
    relative_vol: Array
    decoupled: Array | None = None


def impact_regressors(flow: Array, rates_per_s: Array, bucket_s: float) -> Array:
    """Return ``ζ^m_t = y_t - y_{t-1}``, ``y_t = exp(-β_m Δ) y_{t-1} + u_t``, ``y_{-1} = 0``, shape (M, T, N).

    This is the difference form of the exponential dictionary: ``Σ_τ (G_{t-τ} - G_{t-τ-1}) u_τ = Σ_m K_m ζ^m_t`` with
    ``G_{-1} = 0``.

    Parameters
    ----------
    flow
        Signed notional of one session (T, N) [currency].
    rates_per_s
        ``β_m`` (M,) [1/s]; 0 is permanent.
    bucket_s
        Bucket length Δ [s].
    """
    from scipy.signal import lfilter

    decays = np.exp(-np.asarray(rates_per_s) * bucket_s)
    return np.stack([lfilter([1.0, -1.0], [1.0, -decay], flow, axis=0) for decay in decays])


def impact_returns(flow: Array, rates_per_s: Array, matrices: Array, bucket_s: float) -> Array:
    """Return the impact part of the returns of one session, ``Σ_m K_m ζ^m_t``, shape (T, N).

    Parameters
    ----------
    flow
        Signed notional (T, N) [currency].
    rates_per_s, matrices
        ``β_m`` (M,) [1/s] and symmetric ``K_m`` (M, N, N) [return per currency].
    bucket_s
        Bucket length [s].
    """
    total = np.zeros_like(flow)
    for regressor, matrix in zip(impact_regressors(flow, rates_per_s, bucket_s), matrices, strict=True):
        total += regressor @ matrix
    return total


def overnight_returns(universe: Universe, parameters: SimulatorParameters, seed: int, day: int) -> Array:
    """Return the fundamental close-to-open returns before session ``day`` (N,)."""
    p, names = parameters, len(universe.names)
    draws = stream(seed, Part.OVERNIGHT, day).standard_normal(1 + len(universe.sector_labels) + names)
    scale = np.full(len(universe.factor_names), p.sector_vol_daily)
    scale[0] = p.market_vol_daily
    factors = scale * draws[: len(scale)]
    own = universe.idio_vol_daily * draws[len(scale) :]
    return np.asarray(p.overnight_vol_ratio * (universe.loadings @ factors + own), dtype=np.float64)


def draw_prices(
    universe: Universe,
    kernel: Kernel,
    parameters: SimulatorParameters,
    flow: FlowDay,
    opening: Array,
    bucket_s: float,
    seed: int,
    day: int,
    jumps: JumpDay | None = None,
    coupling: Array | None = None,
) -> PriceDay:
    """Draw one session from its flow and its opening prices.

    ``mid_t = mid_{t-1} (1 + r_t)``, ``r_t = L f_t + Σ_τ (G_{t-τ} - G_{t-τ-1}) u_τ + ε_t``. The impact of earlier
    sessions is gone: its transient part was taken back overnight.

    Parameters
    ----------
    universe, kernel, parameters
        The truth.
    flow
        The session's flow.
    opening
        Mid before the first bucket (N,).
    bucket_s
        Bucket length [s].
    seed, day
        Seed of the simulation and day number.
    jumps
        The session's jumps; the market's are part of the market factor. None for none.
    coupling
        Multiplier of the market loadings by bucket (T,), see :mod:`.breaks`; None for 1.

    Returns
    -------
    PriceDay

    Raises
    ------
    InvalidInput
        If a price would not stay positive: the volatilities are absurd for the bucket.
    """
    p = parameters
    count, names = flow.flow.shape
    relative = np.sqrt(u_shape(count, p.vol_u_shape)) * np.exp(flow.log_vol)
    vol = np.sqrt(bucket_s / p.session_s) * relative

    endogenous = p.flow_factor_corr
    market = student(stream(seed, Part.MARKET, day), (count,), p.tail_dof)
    market = endogenous * flow.market_white + np.sqrt(1.0 - endogenous**2) * market
    sector = student(stream(seed, Part.SECTOR, day), (len(universe.sector_labels), count), p.tail_dof)
    factors = np.column_stack([p.market_vol_daily * market, p.sector_vol_daily * sector.T]) * vol[:, None]
    noise = student(stream(seed, Part.IDIOSYNCRATIC, day), (names, count), p.tail_dof).T
    noise = noise * universe.idio_vol_daily * vol[:, None]
    impact = impact_returns(flow.flow, kernel.rates_per_s, kernel.matrices, bucket_s)

    growth = 1.0 + (factors @ universe.loadings.T + impact + noise)
    decoupled = None
    if coupling is not None:
        market_loadings = universe.loadings[:, 0]
        own = substitute_returns(coupling, p.market_vol_daily * vol, market_loadings, p.tail_dof, seed, day)
        decoupled = (coupling - 1.0)[:, None] * factors[:, :1] * market_loadings + own
        growth = growth + decoupled
    if jumps is not None:
        growth = growth + (jumps.market[:, None] * universe.loadings[:, 0] + jumps.own)
        factors = np.column_stack([factors[:, 0] + jumps.market, factors[:, 1:]])
    if growth.min() <= 0.0:
        raise InvalidInput(
            "sends a price through zero", field="idio_vol_daily", value=p.idio_vol_daily, remedy="lower volatilities"
        )
    mid = opening * np.cumprod(growth, axis=0)
    if p.round_mid:
        mid = np.maximum(np.rint(2.0 * mid / p.tick), 1.0) * (0.5 * p.tick)

    # Rounding up with the probability of the fraction keeps the mean spread; whole ticks are what is quoted.
    raw_ticks = p.spread_bps * 1e-4 / p.tick * mid * relative[:, None] ** p.spread_vol_power
    dither = stream(seed, Part.SPREAD, day).uniform(size=(names, count)).T
    spread = np.maximum(np.floor(raw_ticks + dither), 1.0) * p.tick
    noise_depth = stream(seed, Part.DEPTH, day).standard_normal((names, count)).T
    depth = universe.adv / p.session_s * p.depth_s * relative[:, None] ** -p.depth_vol_power
    depth = depth * np.exp(p.depth_noise_sd * noise_depth - 0.5 * p.depth_noise_sd**2)
    return PriceDay(factors, impact, noise, mid, spread, depth, relative, decoupled)
