"""Parameters of the simulated perpetual contract, calibrated on Binance and OKX."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from crosswind.problems.market.simulator.record_checks import check_record, refuse

__all__ = ["PerpetualParameters"]

_WEIGHTINGS = ("linear", "equal")


@dataclass(frozen=True)
class PerpetualParameters:
    """Every number of a perpetual on one spot index, traded round the clock.

    Calibrated on 8-hourly Binance funding of 15 coins 2020-2026, hourly OKX spot and perpetual closes of BNB and SOL
    from 2023 on, and five minutes of Binance COIN-M ticks (comments at the fields say how).

    Parameters
    ----------
    name
        The contract.
    bar_s
        Length of a bar where the spot is drawn as well [s].
    spot_price, spot_vol_daily
        First price [currency] and standard deviation of the daily return of a spot that is drawn.
    premium_mean_bps
        Long-run mean of the premium of the perpetual over spot [bps].
    demand_vol_bps, demand_half_life_s, demand_tail
        Standard deviation, half-life [s] and tail (0 = Gaussian) of the slow demand for leverage, the part of the
        premium that moves the funding rate: ``sinh(tail · z)`` of a Gaussian process z, scaled.
    basis_vol_bps, basis_half_life_s
        Standard deviation and half-life of the fast part of the premium, which averages out between settlements.
    interval_h, first_settlement_h
        Hours between settlements (a divisor of 24) and UTC hour of the first of a day.
    interest_rate_8h, clamp_8h, cap_8h
        Interest part of the rate, the band within which it hides the premium, and the largest rate, per 8 hours.
    weighting
        "linear": premium samples weigh 1, 2, 3, … towards the settlement; "equal": all the same.
    mark_window_s
        Averaging window of the basis in the mark price [s].
    tick, spread_ticks, spread_vol_power
        Price step [currency], mean quoted spread [ticks] and its elasticity to the size of the bar's move.
    depth_contracts, depth_noise_sd, volume_per_day, volume_noise_sd
        Best size, its log-noise, contracts per day, log-noise of a bar's volume.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    name: str = "PERP"
    bar_s: float = 60.0
    spot_price: float = 60000.0
    # Hourly closes from 2023 on: BNB 0.029, SOL 0.048 a day; BTC 0.035 from 1 s mids around midnight of 2024-08-09.
    spot_vol_daily: float = 0.03
    # Closes of perpetual over spot: mean −3.0 (BNB) and −1.1 bp (SOL) against OKX's own spot. The mean here is set by
    # funding instead, which is what is charged. Binance BTC, 6741 settlements: mean 1.15 bp, sd 2.16, 5-95 % -0.5 to
    # 4.9, autocorrelation 0.80 at 8 h, 0.69 at a day, 0.61 at 3 days, 0.46 at a week. These defaults, twelve years
    # simulated: mean 1.14, sd 1.70, -0.3 to 3.7, autocorrelation 0.82, 0.69, 0.43, 0.22. Two things are not met: 79 %
    # of the rates stand at the interest itself, 36 % on Binance; and the memory beyond a week is shorter.
    premium_mean_bps: float = 2.0
    # The same closes have sd 5.0 and 4.4 bp and autocorrelations 0.64 / 0.73 at 1 h, 0.46 / 0.57 at 4 h, 0.35 / 0.50 at
    # 8 h, 0.35 / 0.47 at 24 h, 0.21 / 0.44 at a week. Simulated: sd 5.0 bp, 0.73, 0.63, 0.61, 0.57, 0.31.
    demand_vol_bps: float = 4.5
    demand_half_life_s: float = 691200.0
    demand_tail: float = 0.8
    basis_vol_bps: float = 3.0
    basis_half_life_s: float = 1800.0
    interval_h: int = 8
    first_settlement_h: int = 0
    interest_rate_8h: float = 0.0001
    clamp_8h: float = 0.0005
    cap_8h: float = 0.02
    weighting: str = "linear"
    mark_window_s: float = 150.0
    # COIN-M BTC and ETH, five minutes of 2024-08-09: 2.2 and 2.5 ticks wide; median best size 695 and 1150 contracts
    # with a log-sd of 2.3 (median of the law here: 650); the log of OKX hourly volume has sd 0.8 to 1.0.
    tick: float = 0.1
    spread_ticks: float = 2.2
    spread_vol_power: float = 0.5
    depth_contracts: float = 2000.0
    depth_noise_sd: float = 1.5
    volume_per_day: float = 5.0e6
    volume_noise_sd: float = 0.8

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            refuse("name", self.name, "is empty", "name the contract, e.g. 'PERP'")
        check_record(
            self,
            positive=(
                "bar_s",
                "spot_price",
                "demand_half_life_s",
                "basis_half_life_s",
                "interval_h",
                "tick",
                "spread_ticks",
                "mark_window_s",
                "depth_contracts",
            ),
            non_negative=(
                "spot_vol_daily",
                "demand_vol_bps",
                "demand_tail",
                "basis_vol_bps",
                "clamp_8h",
                "cap_8h",
                "spread_vol_power",
                "depth_noise_sd",
                "volume_per_day",
                "volume_noise_sd",
            ),
        )
        if 24 % self.interval_h:
            refuse("interval_h", self.interval_h, "does not divide the day", "pass 1, 2, 4, 8, 12 or 24")
        if not 0 <= self.first_settlement_h < self.interval_h:
            refuse("first_settlement_h", self.first_settlement_h, "is out of range", "pass 0 to interval_h - 1")
        if self.weighting not in _WEIGHTINGS:
            refuse("weighting", self.weighting, "is unknown", f"use one of {', '.join(_WEIGHTINGS)}")

    def scaled(self, volatility: float = 1.0) -> PerpetualParameters:
        """Return the same contract with all standard deviations of prices times ``volatility``."""
        names = ("spot_vol_daily", "demand_vol_bps", "basis_vol_bps")
        return replace(self, **{name: getattr(self, name) * volatility for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a plain dictionary: name → number or text."""
        return asdict(self)
