"""What past roll days say about a spread book: the numbers that scenarios are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.roll.model import FloatArray, RollMarket
from crosswind.solvers.errors import InvalidInput

__all__ = ["RollStatistics"]

_BUCKETS = 13
_SIGNED = ("tilt", "leg_offset")


@dataclass(frozen=True)
class RollStatistics:
    """Numbers of a spread book and its legs on roll days; the defaults are those of the simulator's roll day.

    Parameters
    ----------
    volume_per_s
        Spreads that aggressors trade per second, by part of the session (any number of equal parts).
    dispersion
        Variance over mean of what trades in a bar [contracts].
    tilt, tilt_sd, tilt_half_life_s
        Mean excess of buys over sells (−1 … 1), its standard deviation and half-life.
    noise_points, noise_half_life_s
        Stationary standard deviation [points] and half-life [s] of the mid's deviation from its slow level, in calm.
    level_points
        Standard deviation of the slow level's random walk over an hour [points].
    jumps_per_hour, jump_points, jump_half_life_s
        Basis shocks: rate, standard deviation [points] (Laplace), half-life [s].
    stress_per_jump, stress_half_life_s
        What a shock adds to the stress multiplier, and the half-life of that.
    width_ticks, width_power, depth, depth_power
        Quoted width [ticks] and displayed size [contracts] in calm, and their elasticities to stress.
    depth_sd, depth_half_life_s
        Slow log-noise of the displayed size.
    cancel_per_s
        Rate at which a displayed contract is withdrawn [1/s].
    queue
        Share of the displayed size ahead of an order that joins.
    share, leg_share
        Share of the displayed size that an order can take at each price, in the spread and in the leg books.
    levels
        Prices of the spread book that can be crossed.
    refill_half_life_s
        Half of what was taken is offered again after this time [s].
    leg_offset, leg_offset_sd
        What the legs' mids stand off the spread's, seen by a buyer [points].
    leg_size
        Displayed size of the thinner leg [contracts].
    leg_points
        Standard deviation of a leg's mid over one second [points].
    tick, leg_tick, multiplier
        Price steps [points]; currency per point.
    source
        Where they come from, in words.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    volume_per_s: tuple[float, ...] = (10.7,)
    dispersion: float = 90.0
    tilt: float = 0.15
    tilt_sd: float = 0.3
    tilt_half_life_s: float = 900.0
    noise_points: float = 0.035
    noise_half_life_s: float = 600.0
    level_points: float = 0.02
    jumps_per_hour: float = 0.3
    jump_points: float = 0.15
    jump_half_life_s: float = 1200.0
    stress_per_jump: float = 1.0
    stress_half_life_s: float = 900.0
    width_ticks: float = 1.0
    width_power: float = 1.0
    depth: float = 1400.0
    depth_power: float = 1.0
    depth_sd: float = 0.4
    depth_half_life_s: float = 600.0
    cancel_per_s: float = 0.005
    queue: float = 0.9
    share: float = 0.2
    leg_share: float = 0.5
    levels: int = 10
    refill_half_life_s: float = 30.0
    leg_offset: float = 0.0
    leg_offset_sd: float = 0.1
    leg_size: float = 250.0
    leg_points: float = 0.08
    tick: float = 0.05
    leg_tick: float = 0.25
    multiplier: float = 50.0
    source: str = "assumed, as in the simulator"

    def __post_init__(self) -> None:
        curve = tuple(float(v) for v in np.atleast_1d(np.asarray(self.volume_per_s, dtype=np.float64)))
        object.__setattr__(self, "volume_per_s", curve)
        if not curve or not all(np.isfinite(v) and v >= 0.0 for v in curve):
            raise InvalidInput("must be finite and ≥ 0", field="volume_per_s", value=curve, remedy="one or more rates")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("volume_per_s", "source"):
                continue
            endless = item.name.endswith("half_life_s") and value == np.inf
            good = (np.isfinite(value) or endless) and (value >= 0.0 or item.name in _SIGNED)
            if item.name in ("tick", "leg_tick", "multiplier", "depth", "leg_size", "share", "leg_share", "dispersion"):
                good = good and value > 0.0
            if item.name.endswith("half_life_s"):
                good = good and value > 0.0
            if item.name in ("queue", "share", "leg_share"):
                good = good and value <= 1.0
            if not good:
                raise InvalidInput("is out of range", field=item.name, value=value, remedy="see RollStatistics")
        if not -1.0 <= self.tilt <= 1.0 or self.levels < 1:
            raise InvalidInput(
                "is out of range", field="tilt or levels", value=(self.tilt, self.levels), remedy="−1 … 1; 1 or more"
            )

    def with_(self, **values: Any) -> RollStatistics:
        """Return a copy with some numbers replaced."""
        return replace(self, **values)

    def rate(self, fraction: FloatArray) -> FloatArray:
        """Return the spreads traded per second at fractions of the session, 0 … 1."""
        at = np.clip((np.asarray(fraction) * len(self.volume_per_s)).astype(np.int64), 0, len(self.volume_per_s) - 1)
        return np.asarray(self.volume_per_s, dtype=np.float64)[at]

    @classmethod
    def from_parameters(
        cls, parameters: RollParameters, days_to_expiry: float = 6.2, session_s: float = 23400.0, **values: Any
    ) -> RollStatistics:
        """Return the statistics that the simulator's parameters imply on a day of the roll.

        Parameters
        ----------
        parameters
            Of the simulator.
        days_to_expiry
            Calendar days from the session's middle to the near leg's expiry.
        session_s
            Length of the session [s].
        **values
            Numbers that differ.
        """
        from crosswind.problems.market.simulator.spread_book import far_share
        from crosswind.problems.market.simulator.spread_book_flow import roll_curve

        p = parameters
        share = float(far_share(np.array([days_to_expiry]), p)[0])
        activity = 4.0 * share * (1.0 - share)
        curve = roll_curve(_BUCKETS, p) * (p.spread_volume_per_day * activity / session_s)
        a, cap, mean = p.trade_tail, p.trade_cap_contracts, p.mean_trade_contracts
        # E[size²]/E[size] of a Pareto law between a least size and the cap, the least one from the uncapped mean.
        least = max(mean * (a - 1.0) / a, 1e-9)
        second = (
            mean * mean if cap <= mean else a * least**a * (cap ** (2.0 - a) - least ** (2.0 - a)) / (2.0 - a + 1e-12)
        )
        given: dict[str, Any] = {
            "volume_per_s": tuple(float(v) for v in curve),
            "dispersion": max(second / mean, 1.0),
            "tilt": p.one_sidedness,
            "tilt_sd": p.side_noise_sd,
            "tilt_half_life_s": p.side_half_life_s,
            "noise_points": p.noise_vol_points,
            "noise_half_life_s": p.noise_half_life_s,
            "level_points": p.index_level
            * p.index_vol_daily
            * abs(p.carry_rate)
            * 0.25
            * float(np.sqrt(3600.0 / session_s)),
            "jumps_per_hour": p.jumps_per_day * 3600.0 / session_s,
            "jump_points": p.jump_vol_points,
            "jump_half_life_s": p.jump_half_life_s,
            "stress_per_jump": p.stress_per_shock,
            "stress_half_life_s": p.stress_half_life_s,
            "width_ticks": p.width_ticks,
            "width_power": p.width_stress_power,
            "depth": p.depth_contracts * float(np.sqrt(max(activity, 0.02))),
            "depth_power": p.depth_stress_power,
            "depth_sd": p.depth_noise_sd,
            "depth_half_life_s": p.depth_noise_half_life_s,
            "cancel_per_s": p.cancel_rate_per_s,
            "queue": p.queue_fraction,
            "refill_half_life_s": p.refill_half_life_s,
            "leg_size": 0.6 * p.leg_depth_contracts,
            "leg_points": p.index_level * p.index_vol_daily / float(np.sqrt(session_s)),
            "tick": p.tick,
            "leg_tick": p.outright_tick,
            "multiplier": p.multiplier,
            "source": "the simulator's parameters",
        }
        return cls(**{**given, **values})

    @classmethod
    def from_markets(cls, markets: Sequence[RollMarket], **values: Any) -> RollStatistics:
        """Estimate the statistics from the books of past roll days.

        The slow level of the mid is its running median over half an hour; moves within five minutes beyond four robust
        standard deviations count as shocks. What books do not show (queue, shares, levels, what a shock adds to stress
        and how that decays) stays as assumed.

        Parameters
        ----------
        markets
            Sessions, at least one, of one contract's ticks.
        **values
            Numbers that differ.

        Raises
        ------
        InvalidInput
            Without a session, or with sessions of different ticks.
        """
        if not markets:
            raise InvalidInput("there is no session", field="markets", value=0, remedy="pass one or more past days")
        one = markets[0]
        if any((m.tick, m.leg_tick, m.multiplier) != (one.tick, one.leg_tick, one.multiplier) for m in markets):
            raise InvalidInput(
                "have different ticks", field="markets", value=len(markets), remedy="pass days of one contract"
            )
        rows = [_of_day(m) for m in markets]
        curve = np.nanmean([row.pop("curve") for row in rows], axis=0)
        found = {name: float(np.nanmedian([row[name] for row in rows])) for name in rows[0]}
        jumps = float(np.nanmean([row["jumps_per_hour"] for row in rows]))
        given: dict[str, Any] = {
            **found,
            "jumps_per_hour": jumps,
            "volume_per_s": tuple(float(v) for v in np.nan_to_num(curve)),
            "tick": one.tick,
            "leg_tick": one.leg_tick,
            "multiplier": one.multiplier,
            "source": f"{len(markets)} roll days ({one.source})",
        }
        return cls(**{**given, **values})


def _of_day(m: RollMarket) -> dict[str, Any]:
    bars, dt = m.bars, m.bar_s
    parts = np.minimum((np.arange(bars) * _BUCKETS) // max(bars, 1), _BUCKETS - 1)
    volume = m.volume
    curve = np.array([volume[parts == k].mean() / dt if (parts == k).any() else np.nan for k in range(_BUCKETS)])
    expected = np.maximum(np.nan_to_num(curve)[parts] * dt, 1e-9)
    noise = ((volume - expected) ** 2).mean() / max(float(expected.mean()), 1e-9)
    total = max(float(volume.sum()), 1.0)
    tilt = float((m.bought - m.sold).sum()) / total
    sides = _binned(m.bought - m.sold, dt, 300.0) / np.maximum(_binned(volume, dt, 300.0), 1.0)
    mid = m.mid
    slow = pd.Series(mid).rolling(max(3, round(1800.0 / dt)), center=True, min_periods=1).median().to_numpy()
    # Five-minute medians: raw mids bounce between ticks.
    step = max(1, round(300.0 / dt))
    calm = np.array([np.median(part) for part in _chunks(mid - slow, step)])
    moves = np.diff(np.array([np.median(part) for part in _chunks(mid, step)]))
    robust = max(1.4826 * float(np.median(np.abs(moves - np.median(moves)))) if len(moves) else 0.0, 0.25 * m.tick)
    shocks = np.abs(moves) > 4.0 * robust
    hours = bars * dt / 3600.0
    deviation = min(float(calm.std()), 2.0 * robust) if len(calm) > 1 else m.tick
    decay = _autocorrelation(calm)
    size = 0.5 * (m.bid_size + m.ask_size)
    log = np.log(np.maximum(size, 1.0))
    standing = np.maximum(0.5 * (m.bid_size[:-1] + m.ask_size[:-1]) - 0.5 * volume[1:], 1.0)
    leaving = np.minimum(0.5 * m.cancelled[1:].sum(axis=1) / standing, 0.99)
    legs = m.leg_mid
    offset = legs[:, 1] - legs[:, 0] - mid
    per_s = np.diff(legs[:, 0]).std() / np.sqrt(dt) if bars > 2 else 0.05
    return {
        "curve": curve,
        "dispersion": max(float(noise), 1.0),
        "tilt": float(np.clip(tilt, -1.0, 1.0)),
        "tilt_sd": float(np.clip(sides.std(), 0.01, 0.6)) if len(sides) > 2 else 0.3,
        "noise_points": max(deviation, 0.1 * m.tick),
        "noise_half_life_s": float(np.clip(-300.0 * np.log(2.0) / np.log(np.clip(decay, 0.05, 0.95)), 60.0, 3600.0)),
        "level_points": _level(slow, dt),
        "jumps_per_hour": float(shocks.sum()) / max(hours, 1e-9),
        "jump_points": float(np.abs(moves[shocks]).mean()) if shocks.any() else 4.0 * robust,
        "width_ticks": max(1.0, float(np.median((m.ask - m.bid) / m.tick))),
        "depth": max(1.0, float(np.median(size))),
        "depth_sd": float(np.clip(log.std(), 0.05, 1.5)),
        "cancel_per_s": float(-np.log1p(-leaving.mean()) / dt) if bars > 1 else 0.005,
        "leg_offset": float(np.median(offset)),
        "leg_offset_sd": float(np.std(offset)),
        "leg_size": max(1.0, float(np.median(0.5 * (m.leg_bid_size + m.leg_ask_size).min(axis=1)))),
        "leg_points": max(float(per_s), 1e-6),
    }


def _level(slow: FloatArray, dt: float) -> float:
    """Return the robust standard deviation of the slow level's moves over an hour."""
    step = max(1, round(3600.0 / dt))
    if len(slow) <= step:
        return 0.02
    moves = slow[step:] - slow[:-step]
    return float(1.4826 * np.median(np.abs(moves - np.median(moves))))


def _chunks(values: FloatArray, step: int) -> list[FloatArray]:
    return [values[i : i + step] for i in range(0, len(values), step)]


def _binned(values: FloatArray, dt: float, seconds: float) -> FloatArray:
    step = max(1, round(seconds / dt))
    return np.array([part.sum() for part in _chunks(values, step)])


def _autocorrelation(values: FloatArray) -> float:
    if len(values) < 4 or values.std() == 0.0:
        return 0.5
    return float(np.corrcoef(values[:-1], values[1:])[0, 1])
