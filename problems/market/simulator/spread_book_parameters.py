"""Parameters of a roll: the two legs' books and the book of the listed calendar spread."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from crosswind.problems.market.simulator.record_checks import check_record, refuse

__all__ = ["RollParameters"]


@dataclass(frozen=True)
class RollParameters:
    """Every number of the legs' books and the calendar-spread book on the days of a roll.

    Measured on the ES minute bars of LEAN: carry, noise, volume by expiry, sizes and widths of the legs (comments at
    the fields say how). No exchange-quoted spread book is at hand: its depth, refill, cancellations, order sizes,
    one-sidedness, crowding and shocks are assumptions in the range that the roll playbook describes.

    Parameters
    ----------
    bar_s
        Length of a bar where the index is drawn as well [s]; else the bars are those of the index.
    carry_rate
        Interest less dividends a year: the spread is worth ``index · (exp(carry τ_far) − exp(carry τ_near))``.
    noise_vol_points, noise_half_life_s
        Stationary standard deviation [points] and half-life [s] of the spread's mean-reverting deviation in calm.
    jumps_per_day, jump_vol_points, jump_half_life_s
        Mean number of basis shocks a session, standard deviation (Laplace) of their size [points], half-life [s].
    stress_per_shock, stress_half_life_s
        What a shock adds to the stress multiplier (1 in calm) and the half-life of that [s]: volatility and width rise
        with it, depth falls.
    flow_impact_points
        Move of the spread when aggressors take once the target depth [points]; it reverts with the noise.
    tick, outright_tick, multiplier
        Price steps of the spread and of the legs [points]; currency per point.
    width_ticks, width_stress_power
        Quoted width [ticks] in calm and its elasticity to stress.
    depth_contracts, depth_stress_power, depth_noise_sd, depth_noise_half_life_s
        Target size at the best spread quote, its elasticity to stress, and its slow log-noise.
    refill_half_life_s
        Half of a gap to the target is refilled in this time [s]; inf = never.
    cancel_rate_per_s
        Rate at which a displayed contract is cancelled and another placed behind it [1/s].
    thin_share
        A side with less than this share of its target steps one tick back.
    queue_fraction
        Share of the displayed size ahead of a passive order that joins.
    spread_volume_per_day, mean_trade_contracts, trade_tail, trade_cap_contracts
        Spreads sent by aggressors per session at the peak of the roll; mean, Pareto exponent (> 1) and largest size of
        an order.
    one_sidedness, side_half_life_s, side_noise_sd
        Mean excess of buys over sells (−1 … 1), half-life and standard deviation of its fluctuation.
    crowding, crowd_center, crowd_width
        Share of the session's volume in the crowded window, its centre and standard deviation as session fractions.
    volume_u_shape
        U-shape of the rest of the volume.
    roll_center_days, roll_width_days
        Calendar days before expiry at which half of the volume has moved to the far leg, and the logistic's width.
    leg_volume_per_day, leg_depth_contracts, leg_noise_sd
        Contracts per session and target best size of both legs together, and the log-noise of both.
    index_level, index_vol_daily
        First level [points] and daily volatility of an index that is drawn.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    bar_s: float = 5.0
    # ES next − front mid −6.24 (2013-12-18) to −6.68 (10-07) points, 91 days apart, index 1785 and 1670: −1.4 to
    # −1.6 % a year.
    carry_rate: float = -0.015
    # 5-minute medians of the same mids in regular hours: sd 0.024 (12-02) to 0.066 (10-07), tick bounce of the legs
    # included; on 12-18 their autocorrelation is 0.48 at 5 and 0.39 at 10 minutes.
    noise_vol_points: float = 0.035
    noise_half_life_s: float = 600.0
    jumps_per_day: float = 2.0
    jump_vol_points: float = 0.15
    jump_half_life_s: float = 1200.0
    stress_per_shock: float = 1.0
    stress_half_life_s: float = 900.0
    flow_impact_points: float = 0.005
    tick: float = 0.05
    outright_tick: float = 0.25
    multiplier: float = 50.0
    width_ticks: float = 1.0
    width_stress_power: float = 1.0
    depth_contracts: float = 2000.0
    depth_stress_power: float = 1.0
    depth_noise_sd: float = 0.4
    depth_noise_half_life_s: float = 600.0
    refill_half_life_s: float = 30.0
    cancel_rate_per_s: float = 0.005
    thin_share: float = 0.1
    queue_fraction: float = 0.9
    spread_volume_per_day: float = 600000.0
    mean_trade_contracts: float = 40.0
    trade_tail: float = 1.6
    trade_cap_contracts: float = 5000.0
    one_sidedness: float = 0.15
    side_half_life_s: float = 900.0
    side_noise_sd: float = 0.3
    crowding: float = 0.35
    crowd_center: float = 0.25
    crowd_width: float = 0.06
    volume_u_shape: float = 0.3
    # The logistic through both days that bracket the roll of December 2013: far share 0.0028 at 18 days (12-02,
    # 3.6 k of 1.31 M contracts) and 0.888 at 2 days (12-18, 2.26 M of 2.55 M).
    roll_center_days: float = 6.2
    roll_width_days: float = 2.0
    # Both legs 0.8 to 2.5 M contracts a day; best sizes 427-479 of the front (10-07 to 12-02), 166 and 294 of near and
    # far on 12-18; log size of the far leg has sd 0.9 on that day.
    leg_volume_per_day: float = 1800000.0
    leg_depth_contracts: float = 450.0
    leg_noise_sd: float = 0.8
    # Daily volatility of the front from minute mids 0.0043 (12-02) to 0.0101 (12-18).
    index_level: float = 1800.0
    index_vol_daily: float = 0.007

    def __post_init__(self) -> None:
        check_record(
            self,
            positive=(
                "bar_s",
                "noise_half_life_s",
                "jump_half_life_s",
                "stress_half_life_s",
                "tick",
                "outright_tick",
                "multiplier",
                "width_ticks",
                "depth_contracts",
                "depth_noise_half_life_s",
                "refill_half_life_s",
                "mean_trade_contracts",
                "trade_cap_contracts",
                "side_half_life_s",
                "crowd_width",
                "roll_width_days",
                "leg_depth_contracts",
                "index_level",
            ),
            non_negative=(
                "noise_vol_points",
                "jumps_per_day",
                "jump_vol_points",
                "stress_per_shock",
                "flow_impact_points",
                "width_stress_power",
                "depth_stress_power",
                "depth_noise_sd",
                "cancel_rate_per_s",
                "spread_volume_per_day",
                "side_noise_sd",
                "leg_volume_per_day",
                "leg_noise_sd",
                "index_vol_daily",
            ),
            shares=("thin_share", "queue_fraction", "crowding", "crowd_center", "volume_u_shape"),
            infinite=("refill_half_life_s",),
        )
        if not -1.0 <= self.one_sidedness <= 1.0:
            refuse("one_sidedness", self.one_sidedness, "is out of range", "pass a number from -1 to 1")
        if self.trade_tail <= 1.0:
            refuse("trade_tail", self.trade_tail, "leaves sizes without a mean", "pass a number above 1")
        if self.mean_trade_contracts < 1.0:
            refuse("mean_trade_contracts", self.mean_trade_contracts, "is below one contract", "pass 1 or more")
        if self.trade_cap_contracts < self.mean_trade_contracts:
            refuse("trade_cap_contracts", self.trade_cap_contracts, "is below the mean order", "raise it")
        if self.volume_u_shape >= 1.0:
            refuse("volume_u_shape", self.volume_u_shape, "would empty the middle of the session", "lower it")
        ratio = self.outright_tick / self.tick
        if ratio < 1.0 - 1e-9 or abs(ratio - round(ratio)) > 1e-9 * ratio:
            refuse("outright_tick", self.outright_tick, "is not a whole number of spread ticks", "e.g. 0.25 and 0.05")

    def scaled(self, volatility: float = 1.0) -> RollParameters:
        """Return the same roll with all standard deviations of prices times ``volatility``."""
        names = ("noise_vol_points", "jump_vol_points", "index_vol_daily")
        return replace(self, **{name: getattr(self, name) * volatility for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a plain dictionary: name → number."""
        return asdict(self)
