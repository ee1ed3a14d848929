"""Order flow of the simulator: signed, heavy-tailed, persistent, with common components and closed-form moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulator.parameters import SimulatorParameters
from crosswind.problems.market.simulator.sessions import u_shape
from crosswind.problems.market.simulator.streams import Part, ar1, lag_correlation, mixture, stream

if TYPE_CHECKING:
    from crosswind.problems.market.simulator.universe import Universe

__all__ = ["FlowDay", "draw_flow", "flow_autocovariance", "flow_factor_covariance"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FlowDay:
    """Flow of one session.

    Parameters
    ----------
    flow, volume
        Signed and total notional per bucket (T, N) [currency].
    log_vol
        Log of the volatility regime (T,), with ``E exp(2 log_vol) = 1`` without a regime's multiplier.
    market_white
        White part of the market's common flow (T,), unit variance.
    """

    flow: Array
    volume: Array
    log_vol: Array
    market_white: Array


def _decays(half_lives_s: tuple[float, ...], bucket_s: float) -> tuple[float, ...]:
    return tuple(float(0.5 ** (bucket_s / life)) for life in half_lives_s)


def draw_flow(
    universe: Universe,
    parameters: SimulatorParameters,
    bucket_s: float,
    count: int,
    seed: int,
    day: int,
    volatility: Array | None = None,
    activity: Array | None = None,
) -> FlowDay:
    """Draw the signed flow ``u_it = (2 Phi(a g_it) - 1) V_it`` of one session.

    ``g`` is a unit Gaussian with a market, a sector and an own part, each a mixture of AR(1)s; ``V`` is log-normal
    around the U-shaped profile and rises with the volatility regime. ``|u| <= V`` holds by construction, the tails of
    ``u`` are those of ``V``, and all second moments have a closed form (:func:`flow_autocovariance`).

    Parameters
    ----------
    universe
        The names and their sectors and daily notionals.
    parameters
        Parameters of the simulator.
    bucket_s, count
        Bucket length [s] and buckets per session T.
    seed, day
        Seed of the simulation and day number.
    volatility, activity
        Multipliers of volatility and of volume by bucket (T,) from a regime; None for 1.

    Returns
    -------
    FlowDay
    """
    from scipy.special import ndtr

    p, names = parameters, len(universe.names)
    decays = _decays(p.flow_half_lives_s, bucket_s)

    def paths(part: Part, number: int) -> tuple[Array, Array]:
        return mixture(stream(seed, part, day), number, count, decays, p.flow_weights)

    market, white = paths(Part.FLOW_MARKET, 1)
    sector, _ = paths(Part.FLOW_SECTOR, len(universe.sector_labels))
    own, _ = paths(Part.FLOW_NAME, names)
    own_share = max(0.0, 1.0 - p.flow_market_share - p.flow_sector_share)
    g = np.sqrt(p.flow_market_share) * market + np.sqrt(p.flow_sector_share) * sector[universe.sector_codes]
    g += np.sqrt(own_share) * own

    (decay,) = _decays((p.regime_half_life_s,), bucket_s)
    regime = ar1(stream(seed, Part.REGIME, day).standard_normal((1, count)), decay)[0]
    noise = stream(seed, Part.VOLUME, day).standard_normal((names, count))
    half_variance = 0.5 * (p.volume_regime_sd**2 + p.volume_noise_sd**2)
    growth = np.exp(p.volume_regime_sd * regime + p.volume_noise_sd * noise - half_variance)
    mean = universe.adv * bucket_s / p.session_s
    volume = mean[:, None] * u_shape(count, p.volume_u_shape) * growth
    if activity is not None:
        volume = volume * activity
    flow = (2.0 * ndtr(p.imbalance_scale * g) - 1.0) * volume
    log_vol = p.vol_regime_sd * regime - p.vol_regime_sd**2
    if volatility is not None:
        log_vol = log_vol + np.log(volatility)
    return FlowDay(np.ascontiguousarray(flow.T), np.ascontiguousarray(volume.T), log_vol, white[0])


def flow_autocovariance(parameters: SimulatorParameters, bucket_s: float, count: int, lags: Array) -> Array:
    """Return the session mean of ``E[u_i,t u_j,t+h] / (v_i v_j)``, ``v`` the mean volume per bucket.

    With ``s`` the common share of the pair (own 1, same sector, other sector), ``R(h)`` the autocorrelation of ``g``,
    ``E[(2 Phi(a g) - 1)(2 Phi(a g') - 1)] = (2/π) arcsin(a² s R(h) / (1 + a²))`` (the orthant probability of two
    Gaussians), times the log-normal moment of the volumes and the mean square of the profile.

    Parameters
    ----------
    parameters
        Parameters of the simulator.
    bucket_s, count
        Bucket length [s] and buckets per session.
    lags
        Lags h in buckets (L,), ≥ 0.

    Returns
    -------
    ndarray (3, L)
        Rows: one name with itself, two names of one sector, two names of different sectors.
    """
    p = parameters
    correlation = lag_correlation(_decays(p.flow_half_lives_s, bucket_s), p.flow_weights, lags)
    (decay,) = _decays((p.regime_half_life_s,), bucket_s)
    shares = np.array([1.0, p.flow_market_share + p.flow_sector_share, p.flow_market_share])
    squared = p.imbalance_scale**2
    signed = (2.0 / np.pi) * np.arcsin(squared / (1.0 + squared) * shares[:, None] * correlation)
    volume = np.tile(p.volume_regime_sd**2 * decay**lags, (3, 1))
    volume[0] += np.where(lags == 0, p.volume_noise_sd**2, 0.0)
    profile = np.mean(u_shape(count, p.volume_u_shape) ** 2)
    return np.asarray(signed * np.exp(volume) * profile, dtype=np.float64)


def flow_factor_covariance(parameters: SimulatorParameters, count: int) -> float:
    """Return the session mean of ``E[u_i,t f_t] / (v_i sd(f))`` for the market return f; 0 without endogeneity.

    ``E[(2 Phi(a g) - 1) ω] = 2 a corr(g, ω) / sqrt(2π (1 + a²))`` for the unit Gaussian ω shared by both.
    """
    p = parameters
    white = max(0.0, 1.0 - sum(p.flow_weights))
    link = p.flow_factor_corr * np.sqrt(p.flow_market_share * white)
    signed = 2.0 * p.imbalance_scale * link / np.sqrt(2.0 * np.pi * (1.0 + p.imbalance_scale**2))
    # E[exp(b h - b²) exp(c h - c²/2)] = exp(b c - b²/2) for the common regime h.
    regime = np.exp(p.vol_regime_sd * p.volume_regime_sd - 0.5 * p.vol_regime_sd**2)
    profile = np.mean(u_shape(count, p.volume_u_shape) * np.sqrt(u_shape(count, p.vol_u_shape)))
    return float(signed * regime * profile)
