"""Parameters of the market simulator: one documented, validated record, with the unit in every name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

from crosswind.problems.market.checks import nearest
from crosswind.solvers.errors import InvalidInput

__all__ = ["SimulatorParameters"]

_POSITIVE = (
    "adv",
    "price",
    "regime_half_life_s",
    "imbalance_scale",
    "spread_bps",
    "tick",
    "depth_s",
    "index_level",
    "basis_half_life_s",
    "future_tick",
    "future_multiplier",
    "future_bar_s",
    "future_volume_per_day",
    "future_depth_contracts",
)
_NON_NEGATIVE = (
    "market_vol_daily",
    "sector_vol_daily",
    "idio_vol_daily",
    "overnight_vol_ratio",
    "vol_regime_sd",
    "vol_dispersion",
    "adv_dispersion",
    "price_dispersion",
    "volume_regime_sd",
    "volume_noise_sd",
    "kernel_dispersion",
    "spread_vol_power",
    "depth_vol_power",
    "depth_noise_sd",
    "basis_vol_bps",
    "calendar_vol_bps",
    "hedge_latency_s",
)
_SHARES = {  # closed lower end 0, open or closed upper end
    "vol_u_shape": 1.0,
    "volume_u_shape": 1.0,
    "beta_dispersion": 1.0,
    "flow_market_share": 1.0,
    "flow_sector_share": 1.0,
    "flow_factor_corr": 1.0,
    "impact_r2": 0.95,
    "kernel_corr_within": 1.0,
    "kernel_corr_across": 1.0,
    "kernel_corr_bound": 1.0,
    "kernel_tilt": 1.0,
    "kernel_jitter": 1.0,
}
_TUPLES = ("flow_half_lives_s", "flow_weights", "kernel_half_lives_s", "kernel_weights")
_CALL = ("names", "sectors", "days", "bucket_s", "seed", "start", "tz", "holidays")  # what simulate() takes besides
_FLAGS = ("round_mid", "with_factors")


@dataclass(frozen=True)
class SimulatorParameters:
    """Every number of the simulated market besides its size, its clock and its seed.

    A dispersion is the standard deviation of the log across names (``beta_dispersion``: the half-width of a uniform
    law around 1). A U-shape ``u`` stands for the profile ``p(x) = 1 + u (12 (x - 1/2)^2 - 1)`` over the session
    fraction ``x``: its mean is 1, its ends are ``1 + 2u``, its middle is ``1 - u``.

    Parameters
    ----------
    market_vol_daily, sector_vol_daily, idio_vol_daily
        Standard deviation of each part's return over one session, before the price impact of flow is added.
    overnight_vol_ratio
        Standard deviation of the close-to-open return as a multiple of the session's.
    vol_u_shape, volume_u_shape
        U-shape of the return variance and of the traded volume.
    vol_regime_sd, regime_half_life_s
        Log-volatility follows one AR(1) with this standard deviation and half-life [s], common to the market.
    tail_dof
        Degrees of freedom (> 2) of the Student innovations, scaled to unit variance.
    beta_dispersion, vol_dispersion
        Spread across names of the factor loadings and of the idiosyncratic volatility.
    adv, adv_dispersion
        Average daily traded notional per name [currency] and its dispersion.
    price, price_dispersion
        First opening price [currency per share] and its dispersion.
    imbalance_scale
        Scale ``a`` of the signed imbalance ``2 Phi(a g) - 1`` of a bucket, ``g`` a unit Gaussian.
    flow_market_share, flow_sector_share
        Shares of the variance of ``g`` that are common to the market and to the sector; the rest is the name's own.
    flow_half_lives_s, flow_weights
        Half-lives [s] and variance shares of the AR(1)s in each part of ``g``; the rest of the variance is white.
    flow_factor_corr
        Correlation of the market return's innovation with the white part of the common flow. Above 0, flow is
        endogenous: own and cross slopes are overstated unless the factor is regressed out.
    volume_regime_sd, volume_noise_sd
        Loading of log-volume on the volatility regime, and the standard deviation of its own white noise.
    impact_r2
        Mean over names of the share of the variance of bucket returns that flow explains; 0 switches impact off.
    kernel_half_lives_s, kernel_weights
        Half-lives [s] (``inf`` = permanent) and shares of the instantaneous impact of the modes.
    kernel_corr_within, kernel_corr_across
        Typical ``K_ij / sqrt(K_ii K_jj)`` of two names in one sector and in different sectors.
    kernel_tilt
        Slow modes carry more cross-impact: the correlations of a mode are multiplied by ``1 -/+ kernel_tilt`` from the
        fastest to the slowest, so that the kernel is not separable.
    kernel_jitter
        Half-width of the uniform variation of the names' cross loadings around 1.
    kernel_dispersion
        Dispersion of the own slopes across names beyond volatility over typical flow.
    kernel_corr_bound
        No pair exceeds this correlation in any mode; parameters that would are refused.
    spread_bps, spread_vol_power, tick
        Mean quoted spread [bps of mid] at average volatility, its elasticity to volatility, and the tick
        [currency per share]; spreads are whole ticks, at least one.
    depth_s, depth_vol_power, depth_noise_sd
        Best-quote size in seconds of average volume, its elasticity to volatility (depth falls) and its log noise.
    round_mid
        Round the mid to half ticks; returns then differ from the truth by the rounding.
    with_factors
        Hand the factor returns out in ``MarketEvents.factors``.
    index_level
        Index at the first open [index points]; the index holds fixed shares, weighted by traded notional at the start.
    basis_vol_bps, basis_half_life_s
        Stationary standard deviation [bps of index] and half-life [s] of the front basis around its carry.
    calendar_vol_bps
        Standard deviation [bps of index] that the next expiry's basis adds to the front's.
    carry_rate
        Interest less dividends per year: the fair basis is ``index (exp(carry_rate years) - 1)``.
    future_tick, future_multiplier, future_bar_s
        Tick [index points], multiplier [currency per point], length of a quote bar [s].
    future_volume_per_day, future_depth_contracts
        Contracts traded per session over both expiries, and the mean size at the best quotes of the front.
    hedge_latency_s
        Delay between a hedge decision and its arrival at the venue; not used here, handed to the venue.
    open_local, close_local
        Session limits on the exchange's clock, ``HH:MM``; a close of ``24:00`` is the midnight that ends the day.

    Raises
    ------
    InvalidInput
        Naming the field, for anything non-finite or out of range.
    """

    market_vol_daily: float = 0.008
    sector_vol_daily: float = 0.006
    idio_vol_daily: float = 0.011
    overnight_vol_ratio: float = 0.5
    vol_u_shape: float = 0.6
    vol_regime_sd: float = 0.25
    regime_half_life_s: float = 1800.0
    tail_dof: float = 5.0
    beta_dispersion: float = 0.3
    vol_dispersion: float = 0.2
    adv: float = 2.0e8
    adv_dispersion: float = 0.5
    price: float = 80.0
    price_dispersion: float = 0.4
    imbalance_scale: float = 0.7
    flow_market_share: float = 0.2
    flow_sector_share: float = 0.15
    flow_half_lives_s: tuple[float, ...] = (20.0, 200.0, 2000.0)
    flow_weights: tuple[float, ...] = (0.15, 0.10, 0.08)
    flow_factor_corr: float = 0.0
    volume_u_shape: float = 0.5
    volume_regime_sd: float = 0.3
    volume_noise_sd: float = 0.7
    impact_r2: float = 0.12
    kernel_half_lives_s: tuple[float, ...] = (30.0, 600.0)
    kernel_weights: tuple[float, ...] = (0.6, 0.4)
    kernel_corr_within: float = 0.35
    kernel_corr_across: float = 0.12
    kernel_tilt: float = 0.2
    kernel_jitter: float = 0.1
    kernel_dispersion: float = 0.2
    kernel_corr_bound: float = 0.6
    spread_bps: float = 2.5
    spread_vol_power: float = 1.0
    tick: float = 0.01
    depth_s: float = 6.0
    depth_vol_power: float = 1.0
    depth_noise_sd: float = 0.25
    round_mid: bool = False
    with_factors: bool = True
    index_level: float = 5000.0
    basis_vol_bps: float = 1.5
    basis_half_life_s: float = 600.0
    calendar_vol_bps: float = 0.2
    carry_rate: float = 0.04
    future_tick: float = 0.25
    future_multiplier: float = 50.0
    future_bar_s: float = 60.0
    future_volume_per_day: float = 4.0e5
    future_depth_contracts: float = 60.0
    hedge_latency_s: float = 1.0
    open_local: str = "09:30"
    close_local: str = "16:00"

    def __post_init__(self) -> None:
        for name in _TUPLES:
            object.__setattr__(self, name, _floats(name, getattr(self, name)))
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "is not a truth value", "pass True or False")
        for name in (*_POSITIVE, *_NON_NEGATIVE, *_SHARES, "tail_dof", "carry_rate"):
            object.__setattr__(self, name, _float(name, getattr(self, name)))
        for name in _POSITIVE:
            if getattr(self, name) <= 0.0:
                _refuse(name, getattr(self, name), "must be positive", "pass a number above 0")
        for name in _NON_NEGATIVE:
            if getattr(self, name) < 0.0:
                _refuse(name, getattr(self, name), "must not be negative", "pass 0 or more")
        for name, upper in _SHARES.items():
            if not 0.0 <= getattr(self, name) <= upper:
                _refuse(name, getattr(self, name), "is out of range", f"pass a number from 0 to {upper:g}")
        if self.tail_dof <= 2.0:
            _refuse("tail_dof", self.tail_dof, "leaves returns without a variance", "pass a number above 2")
        self._check_volatility()
        self._check_flow()
        self._check_kernel()
        if self.session_s <= 0.0:
            _refuse("close_local", self.close_local, "is not after open_local", "pass a later time of the same day")

    def _check_volatility(self) -> None:
        if self.beta_dispersion >= 1.0:
            _refuse("beta_dispersion", self.beta_dispersion, "would turn a loading to zero", "pass a number below 1")
        for name in ("vol_u_shape", "volume_u_shape"):
            if getattr(self, name) >= 1.0:
                _refuse(name, getattr(self, name), "would empty the middle of the session", "pass a number below 1")
        if self.idio_vol_daily == 0.0:
            _refuse("idio_vol_daily", 0.0, "must be positive: it keeps the covariance regular", "pass e.g. 0.01")

    def _check_flow(self) -> None:
        if self.flow_market_share + self.flow_sector_share > 1.0:
            _refuse("flow_sector_share", self.flow_sector_share, "and flow_market_share exceed 1", "lower one of them")
        _paired(self, "flow_half_lives_s", "flow_weights")
        if not all(0.0 < value < math.inf for value in self.flow_half_lives_s):
            _refuse("flow_half_lives_s", self.flow_half_lives_s, "must be positive and finite", "pass seconds above 0")
        if min(self.flow_weights, default=0.0) < 0.0 or sum(self.flow_weights) > 1.0:
            _refuse("flow_weights", self.flow_weights, "must be shares with a sum of at most 1", "lower the weights")

    def _check_kernel(self) -> None:
        _paired(self, "kernel_half_lives_s", "kernel_weights")
        lives = self.kernel_half_lives_s
        if not lives or min(lives) <= 0.0 or len(set(lives)) < len(lives):
            _refuse("kernel_half_lives_s", lives, "must be one or more different positive numbers", "pass seconds")
        if min(self.kernel_weights) < 0.0 or abs(sum(self.kernel_weights) - 1.0) > 1e-9:
            _refuse("kernel_weights", self.kernel_weights, "must be shares with the sum 1", "divide them by their sum")
        if self.kernel_corr_across > self.kernel_corr_within:
            _refuse(
                "kernel_corr_across",
                self.kernel_corr_across,
                "exceeds kernel_corr_within, which breaks positive semidefiniteness",
                "pass a value of at most kernel_corr_within",
            )
        tilt = self.kernel_tilt if len(lives) > 1 else 0.0
        largest = self.kernel_corr_within * (1.0 + tilt) * (1.0 + self.kernel_jitter) ** 2
        if largest > self.kernel_corr_bound:
            _refuse(
                "kernel_corr_within",
                self.kernel_corr_within,
                f"reaches {largest:.3f} with tilt and jitter, above kernel_corr_bound = {self.kernel_corr_bound:g}",
                "lower kernel_corr_within, kernel_tilt or kernel_jitter, or raise the bound",
            )

    @property
    def open_s(self) -> float:
        """Seconds from local midnight to the open."""
        return _clock_s("open_local", self.open_local)

    @property
    def session_s(self) -> float:
        """Length of the session [s]."""
        return _clock_s("close_local", self.close_local) - self.open_s

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> SimulatorParameters:
        """Return the defaults with ``values`` in their place; an unknown name is refused with the list of known ones.

        Parameters
        ----------
        values
            Parameter name → value.

        Returns
        -------
        SimulatorParameters

        Raises
        ------
        InvalidInput
            For an unknown name or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise InvalidInput(
                    "is not an argument of the simulator",
                    field=name,
                    remedy=f"{nearest(name, (*_CALL, *known))}use one of {', '.join((*_CALL, *known))}",
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a plain dictionary: name → number, tuple, text or truth value."""
        return asdict(self)


def _refuse(name: str, value: object, message: str, remedy: str) -> None:
    raise InvalidInput(message, field=name, value=value, remedy=remedy)


def _float(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InvalidInput("is not a finite number", field=name, value=value, remedy="pass a finite number")
    return float(value)


def _floats(name: str, value: object) -> tuple[float, ...]:
    items = (value,) if isinstance(value, Real) else value
    try:
        numbers = tuple(float(item) for item in items)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InvalidInput("is not a sequence of numbers", field=name, value=value, remedy="pass a tuple") from None
    if any(math.isnan(number) for number in numbers):
        raise InvalidInput("contains NaN", field=name, value=value, remedy="pass numbers only")
    return numbers


def _paired(parameters: SimulatorParameters, left: str, right: str) -> None:
    if len(getattr(parameters, left)) != len(getattr(parameters, right)):
        _refuse(right, getattr(parameters, right), f"and {left} differ in length", "pass one weight per half-life")


def _clock_s(name: str, value: object) -> float:
    if name == "close_local" and value == "24:00":  # the midnight that ends the day
        return 86_400.0
    hours, _, minutes = str(value).partition(":")
    if not (hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise InvalidInput("is not a time of day", field=name, value=value, remedy="write it as HH:MM, e.g. 09:30")
    return 3600.0 * int(hours) + 60.0 * int(minutes)
