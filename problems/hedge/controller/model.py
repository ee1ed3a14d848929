"""What a controller is set up with: instruments and their limits, exposures, regimes, the ladder's thresholds."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

import numpy as np

from crosswind.problems.replay.model import FloatArray
from crosswind.solvers.errors import InvalidInput

__all__ = ["HedgeInstrument", "HedgeRank", "HedgeRegime", "HedgeSetup"]

_TEXT = {
    0: "the program was solved and its gap proven within the tolerance: nothing to do",
    1: "the work was used up; the gap that is left is known and small: nothing to do, unless it repeats",
    2: "the last trade broke a limit of this step, which gave way by the least: look at what changed",
    3: "the work was used up; the iterate keeps the limits and costs less than the rule: allow more work",
    4: "the adaptive rule in place of the program: look at the program's data, or wait for the latch to release",
    5: "the gap, cheapest instrument first, within the clip: repair the risk forecast",
    6: "no trade: stale or not finite input, or a clock that goes back; repair the feed",
}


class HedgeRank(IntEnum):
    """How a decision was found, best first."""

    OPTIMAL = 0
    CERTIFIED = 1
    RELAXED = 2
    FEASIBLE = 3
    RULE = 4
    IMMEDIATE = 5
    HOLD = 6

    @property
    def text(self) -> str:
        """What happened and what to do."""
        return _TEXT[self.value]


def _number(owner: str, name: str, value: Any, low: float = 0.0, *, open_low: bool = False, top: bool = True) -> float:
    """Return a number ≥ ``low`` (or >), infinite only where ``top`` allows."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number) or number < low or (open_low and number == low) or (not top and math.isinf(number)):
        raise InvalidInput(
            f"must be {'above' if open_low else 'at least'} {low:g}{'' if top else ' and finite'}",
            field=f"{owner}.{name}",
            value=value,
            remedy="see the class's text for the unit",
        )
    return number


@dataclass(frozen=True)
class HedgeInstrument:
    """A future or perpetual that the controller may trade.

    Parameters
    ----------
    name
        Its name in orders.
    multiplier
        Currency per contract and point of price, > 0.
    lot
        Contracts that one lot has, > 0: orders are whole lots, what is below one is carried.
    clip
        Most that may be sent in one slice, gross [currency]; never broken.
    rate
        Most by which the trade of a slice may differ from that of the slice before [currency]. The program keeps it
        both ways; where another limit, a rule or HOLD intervenes, slowing down and stopping are allowed.
    notional
        Most that may be held, orders in flight counted at their worst [currency]; a trade that lessens is allowed.
    order_lots
        Most lots in one order.
    temporary
        η, cost ηu² of a trade beyond the impact modes [1/currency].
    participation
        Most share of the liquidity forecast that a slice may trade.
    liquidity
        Usual turnover of a slice [currency], which regimes floor the forecast by; inf: unknown, no floor.
    expected_fill
        Share of an order in flight that is expected to be filled, 0..1.
    collar
        A price that differs from the last good one by more than this share takes the instrument out, until as many
        prices in a row agree with it as re-arm the program.

    Raises
    ------
    InvalidInput
        For numbers out of range.
    """

    name: str
    multiplier: float = 1.0
    lot: float = 1.0
    clip: float = math.inf
    rate: float = math.inf
    notional: float = math.inf
    order_lots: float = math.inf
    temporary: float = 0.0
    participation: float = math.inf
    liquidity: float = math.inf
    expected_fill: float = 1.0
    collar: float = 0.2

    def __post_init__(self) -> None:
        for name in ("multiplier", "lot"):
            _number(self.name, name, getattr(self, name), open_low=True, top=False)
        for name in ("clip", "rate", "notional", "order_lots", "participation", "liquidity", "collar"):
            _number(self.name, name, getattr(self, name))
        _number(self.name, "temporary", self.temporary, top=False)
        if _number(self.name, "expected_fill", self.expected_fill) > 1.0:
            raise InvalidInput(
                "is a share", field=f"{self.name}.expected_fill", value=self.expected_fill, remedy="give 0..1"
            )


@dataclass(frozen=True)
class HedgeRegime:
    """How a regime changes forecasts and limits; all are multiples of the normal ones.

    In stress, depth is thinnest when everybody hedges: the forecast of liquidity is floored, so that the program does
    not rush ahead of a drought that it only extrapolates, the multiple of σ is capped by the set-up, and the rules
    close only a share of the gap in one slice.

    Parameters
    ----------
    name
        Of the regime.
    sigma, spread, temporary
        Multiples of σ, of the half-spread of later slices, and of η; > 0, ≥ 0, > 0.
    gap_cap
        Multiple of the gap caps, ≥ 0.
    liquidity_floor
        Share of the instrument's usual liquidity below which no forecast of later slices is believed, ≥ 0. The
        liquidity of the present slice is taken as it is.
    most_of_gap
        Share of the gap that RULE and IMMEDIATE close in one slice at most, (0, 1].
    """

    name: str = "normal"
    sigma: float = 1.0
    spread: float = 1.0
    temporary: float = 1.0
    gap_cap: float = 1.0
    liquidity_floor: float = 0.0
    most_of_gap: float = 1.0

    def __post_init__(self) -> None:
        for name in ("sigma", "temporary", "most_of_gap"):
            _number(self.name, name, getattr(self, name), open_low=True, top=False)
        for name in ("spread", "gap_cap", "liquidity_floor"):
            _number(self.name, name, getattr(self, name), top=False)
        if self.most_of_gap > 1.0:
            raise InvalidInput(
                "is a share", field=f"{self.name}.most_of_gap", value=self.most_of_gap, remedy="give (0, 1]"
            )


def _unset() -> Any:
    return None


@dataclass(frozen=True, eq=False)
class HedgeSetup:
    """All that stays the same while a hedge is controlled.

    Parameters
    ----------
    instruments
        m of them, with distinct names.
    scale
        A usual gap [currency], > 0: tolerances and the rule's threshold are shares of it.
    risk_aversion
        λ [1/currency], ≥ 0.
    covariance_per_s
        Σ of the exposures' returns per second, (k, k), or a variance for one exposure.
    exposures
        Names of the k exposures.
    loadings
        E (k, m): exposure of one currency of each instrument. Default: ones for one exposure, the identity where k = m.
    dt_s, horizon
        Length of a slice [s], slices looked ahead.
    decay_per_s, impact
        Rates (M,) [1/s] and PSD matrices (M, m, m) [return per currency] of the impact modes.
    gap_cap, gap_penalty
        Soft caps on |G| (k,) or one number [currency]; price of an excess [return].
    close_spread
        Half-spreads expected to be paid for a trade that is still needed after the horizon.
    regimes
        The first is the normal one; put the most severe last: an unknown regime is taken for it.
    sigma_cap
        Greatest multiple of σ that any regime applies.
    windows
        Do-not-trade windows (start, end) on the observations' clock [s]; ``(deadline, inf)`` ends trading.
    max_age_s
        Oldest data that are acted upon.
    messages, message_window_s
        Most orders in any window of that length.
    late_after_s
        An order without a final report for so long counts as unfilled in the gap, and raises an alarm.
    tol, work
        Relative gap asked of the program, and the most factorisations: the deadline.
    accept_bps
        Gap of a stopped solve that is still CERTIFIED [bps of ``scale``].
    trigger_bps
        Threshold of the rule: one standard deviation of the gap over a slice [bps of ``scale``].
    trip_after, rearm_after
        Failures in a row that take the program (or the rule) out, and good ones in a row, tried in the shade, that
        bring it back.
    fresh_after
        Good observations in a row after a bad one before there is trading again.
    name
        First part of the ids of orders, which are "name-step-instrument". Give each hedge, and each run of it that does
        not go on from a snapshot, a name of its own: a venue must never see an id twice.
    watchdog_s
        A solve that took longer counts as a failure; inf: no clock is read, and decisions depend on the data alone.

    Raises
    ------
    InvalidInput
        For names that are not distinct, shapes that do not fit, numbers out of range.
    """

    instruments: tuple[HedgeInstrument, ...]
    scale: float
    risk_aversion: float
    covariance_per_s: FloatArray
    exposures: tuple[str, ...] = ("index",)
    loadings: FloatArray = field(default_factory=_unset)
    dt_s: float = 60.0
    horizon: int = 20
    decay_per_s: FloatArray = field(default_factory=_unset)
    impact: FloatArray = field(default_factory=_unset)
    gap_cap: FloatArray = field(default_factory=_unset)
    gap_penalty: float = 1e-2
    close_spread: float = 1.0
    regimes: tuple[HedgeRegime, ...] = (HedgeRegime(),)
    sigma_cap: float = 2.0
    windows: tuple[tuple[float, float], ...] = ()
    max_age_s: float = math.inf
    messages: float = math.inf
    message_window_s: float = 60.0
    late_after_s: float = math.inf
    tol: float = 1e-8
    work: int = 40
    accept_bps: float = 0.01
    trigger_bps: float = 1.0
    trip_after: int = 3
    rearm_after: int = 5
    fresh_after: int = 2
    name: str = "h"
    watchdog_s: float = math.inf

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("instruments", "exposures", "regimes", "windows"):
            put(self, name, tuple(getattr(self, name)))
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput("must be a word", field="name", value=self.name, remedy="name the hedge")
        names = [i.name for i in self.instruments]
        m, k = len(names), len(self.exposures)
        for label, given in (("instruments", names), ("exposures", self.exposures), ("regimes", self._regime_names)):
            if not given or len(set(given)) != len(given):
                raise InvalidInput("needs distinct names, at least one", field=label, value=given, remedy="name each")
        for name in ("scale", "dt_s", "message_window_s", "sigma_cap"):
            _number("setup", name, getattr(self, name), open_low=True, top=False)
        for name in ("risk_aversion", "gap_penalty", "close_spread", "accept_bps", "trigger_bps"):
            _number("setup", name, getattr(self, name), top=False)
        for name in ("max_age_s", "messages", "late_after_s"):
            _number("setup", name, getattr(self, name))
        for name in ("tol", "watchdog_s"):
            _number("setup", name, getattr(self, name), open_low=True)
        for name, low in (("horizon", 1), ("work", 0), ("trip_after", 1), ("rearm_after", 1), ("fresh_after", 1)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < low:
                raise InvalidInput(f"must be a whole number from {low}", field=name, value=value, remedy="give an int")
            put(self, name, int(value))
        for window in self.windows:
            pair: list[float] = list(window)
            if len(pair) != 2 or not pair[0] <= pair[1]:
                raise InvalidInput("must be (start, end), in order", field="windows", value=window, remedy="swap them")
        loadings: Any = self.loadings
        if loadings is None:
            if k not in (1, m):
                raise InvalidInput("are needed", field="loadings", value=None, remedy=f"give a ({k}, {m}) matrix")
            loadings = np.ones((1, m)) if k == 1 else np.eye(m)
        put(self, "loadings", _matrix("loadings", loadings, (k, m)))
        if not np.abs(self.loadings).max(axis=1).min() > 0.0:
            raise InvalidInput("an exposure has no hedge", field="loadings", value=0.0, remedy="drop the exposure")
        covariance = np.atleast_2d(np.asarray(self.covariance_per_s, dtype=np.float64))
        put(self, "covariance_per_s", _matrix("covariance_per_s", covariance, (k, k)))
        decay = np.zeros(0) if self.decay_per_s is None else np.atleast_1d(np.asarray(self.decay_per_s, dtype=float))
        put(self, "decay_per_s", _matrix("decay_per_s", decay, (decay.size,)))
        if decay.size and decay.min() < 0.0:
            raise InvalidInput("must not be negative", field="decay_per_s", value=decay.min(), remedy="give rates")
        impact = np.zeros((0, m, m)) if self.impact is None else self.impact
        put(self, "impact", _matrix("impact", impact, (decay.size, m, m)))
        cap = np.asarray(np.inf if self.gap_cap is None else self.gap_cap, dtype=np.float64)
        if np.isnan(cap).any() or cap.min() < 0.0 or cap.ndim > 1 or cap.size not in (1, k):
            raise InvalidInput("must be (k,), from 0", field="gap_cap", value=cap.tolist(), remedy="give currency")
        put(self, "gap_cap", np.array(np.broadcast_to(cap, (k,))))
        self.gap_cap.setflags(write=False)

    @property
    def _regime_names(self) -> list[str]:
        return [regime.name for regime in self.regimes]

    def regime(self, name: str) -> int:
        """Return the number of a regime.

        Raises
        ------
        InvalidInput
            When there is none of that name.
        """
        if name not in self._regime_names:
            raise InvalidInput("is unknown", field="regime", value=name, remedy=f"use one of {self._regime_names}")
        return self._regime_names.index(name)

    def fingerprint(self) -> str:
        """Return a hash of all that decisions depend on; a snapshot is only taken over by the same set-up."""

        def plain(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return value.tolist()
            if isinstance(value, tuple):
                return [plain(v) for v in value]
            if isinstance(value, (HedgeInstrument, HedgeRegime)):
                return {f.name: getattr(value, f.name) for f in fields(value)}
            return value

        body = {f.name: plain(getattr(self, f.name)) for f in fields(self)}
        return hashlib.sha256(json.dumps(body, sort_keys=True, default=float).encode()).hexdigest()


def _matrix(name: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != shape or not np.isfinite(array).all():
        raise InvalidInput(
            f"must be finite, of shape {shape}", field=name, value=array.shape, remedy="see the class's text"
        )
    array.setflags(write=False)
    return array
