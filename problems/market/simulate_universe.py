"""The fixed truth of the simulator: names, sectors, loadings, the impact kernel and the covariance they imply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.simulate_flow import flow_autocovariance, flow_factor_covariance
from crosswind.problems.market.simulate_parameters import SimulatorParameters
from crosswind.problems.market.simulate_random import Part, stream
from crosswind.solvers.errors import InvalidInput

__all__ = ["Kernel", "Universe", "calibrate", "draw_universe", "kernel_correlations", "resolve_names"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Universe:
    """Constants of the names, drawn once per seed.

    Parameters
    ----------
    names, sector_labels
        The N names and the S sectors.
    sector_codes
        Sector number of each name (N,).
    loadings
        Loadings on the market and the S sector factors (N, 1 + S).
    idio_vol_daily
        Idiosyncratic volatility per session (N,).
    adv, price
        Daily notional [currency] and first open [currency per share] (N,).
    weights
        Index weights at the first open (N,), with the sum 1.
    """

    names: tuple[str, ...]
    sector_labels: tuple[str, ...]
    sector_codes: NDArray[np.int64]
    loadings: Array
    idio_vol_daily: Array
    adv: Array
    price: Array
    weights: Array

    @property
    def factor_names(self) -> tuple[str, ...]:
        """``market`` and the sectors, in the order of the columns of ``loadings``."""
        return ("market", *self.sector_labels)

    def pair_kind(self) -> NDArray[np.int64]:
        """Return 0 on the diagonal, 1 for two names of one sector, 2 otherwise, (N, N)."""
        kind = np.where(self.sector_codes[:, None] == self.sector_codes[None, :], 1, 2)
        np.fill_diagonal(kind, 0)
        return kind


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


def resolve_names(
    names: int | Sequence[str], sectors: int | Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int64]]:
    """Return names, sector labels and the sector number of each name.

    Parameters
    ----------
    names
        Number of names, or the names themselves.
    sectors
        Number of sectors (the names are cut into runs of nearly equal length), or the label of each name.

    Returns
    -------
    names : tuple of str (N,)
    labels : tuple of str (S,)
    codes : ndarray (N,)

    Raises
    ------
    InvalidInput
        For no names, duplicates, empty texts, more sectors than names, or labels of another length.
    """
    if isinstance(names, (int, np.integer)) and not isinstance(names, bool):
        width = max(2, len(str(names)))
        chosen = tuple(f"N{i:0{width}d}" for i in range(1, int(names) + 1))
    else:
        chosen = _texts("names", names)
    if not chosen:
        raise InvalidInput("leaves no names", field="names", value=names, remedy="pass 1 or more")
    if len(set(chosen)) < len(chosen):
        raise InvalidInput("holds a name twice", field="names", value=chosen, remedy="pass distinct names")
    if isinstance(sectors, (int, np.integer)) and not isinstance(sectors, bool):
        if not 1 <= sectors <= len(chosen):
            raise InvalidInput(
                f"is not a number of sectors for {len(chosen)} names",
                field="sectors",
                value=sectors,
                remedy=f"pass an integer from 1 to {len(chosen)}",
            )
        codes = np.arange(len(chosen), dtype=np.int64) * int(sectors) // len(chosen)
        return chosen, tuple(f"SEC{i}" for i in range(1, int(sectors) + 1)), codes
    given = _texts("sectors", sectors)
    if len(given) != len(chosen):
        raise InvalidInput(
            f"has not one label for each of the {len(chosen)} names",
            field="sectors",
            value=given,
            remedy="pass a count, or one label per name",
        )
    labels = tuple(dict.fromkeys(given))
    if "market" in labels:
        raise InvalidInput('may not contain "market"', field="sectors", value=given, remedy="rename that sector")
    return chosen, labels, np.array([labels.index(label) for label in given], dtype=np.int64)


def _texts(field: str, values: object) -> tuple[str, ...]:
    if isinstance(values, (str, bytes, bool)) or not isinstance(values, Sequence):
        raise InvalidInput("is neither a count nor a list", field=field, value=values, remedy='pass 8 or ["A", "B"]')
    if not all(isinstance(value, str) and value for value in values):
        raise InvalidInput("holds something else than texts", field=field, value=values, remedy="pass texts")
    return tuple(values)


def draw_universe(
    names: int | Sequence[str], sectors: int | Sequence[str], parameters: SimulatorParameters, seed: int
) -> Universe:
    """Draw the constants of the names; each quantity has its own stream.

    Parameters
    ----------
    names, sectors
        See :func:`resolve_names`.
    parameters
        Parameters of the simulator.
    seed
        Seed of the simulation.

    Returns
    -------
    Universe

    Raises
    ------
    InvalidInput
        As :func:`resolve_names`.
    """
    p = parameters
    chosen, labels, codes = resolve_names(names, sectors)
    number = len(chosen)

    def lognormal(part: Part, dispersion: float) -> Array:
        return np.exp(dispersion * stream(seed, part).standard_normal(number))

    spread = 1.0 + p.beta_dispersion * stream(seed, Part.LOADINGS).uniform(-1.0, 1.0, (number, 2))
    loadings = np.zeros((number, 1 + len(labels)))
    loadings[:, 0] = spread[:, 0]
    loadings[np.arange(number), 1 + codes] = spread[:, 1]
    adv = p.adv * lognormal(Part.ADV, p.adv_dispersion)
    return Universe(
        names=chosen,
        sector_labels=labels,
        sector_codes=codes,
        loadings=loadings,
        idio_vol_daily=p.idio_vol_daily * lognormal(Part.VOLATILITY, p.vol_dispersion),
        adv=adv,
        price=p.price * lognormal(Part.PRICE, p.price_dispersion),
        weights=adv / adv.sum(),
    )


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
    root = brentq(excess, centre - np.log(ratio.max()) - 1.0, centre - np.log(ratio.min()) + 1.0, xtol=1e-13)
    return float(np.exp(0.5 * root))
