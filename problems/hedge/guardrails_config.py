"""Settings of the guards: small frozen records, each with its trip and release thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from crosswind.problems.hedge.guardrails_latch import Release, finite
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "BasisShock",
    "CorrelationBreak",
    "DeltaAggression",
    "GapLimits",
    "GuardrailConfig",
    "MessageRate",
    "NotionalLimit",
    "StaleData",
]


_AT_ONCE = Release()
_AFTER_TWO = Release(count=2)
_AFTER_MINUTES = Release(quiet_s=300.0, count=3)
_AFTER_FIVE = Release(quiet_s=300.0, count=5)


def _within(name: str, value: Any, low: float, high: float = math.inf) -> None:
    if not finite(value) or not low <= value <= high:
        raise InvalidInput(f"must lie in [{low:g}, {high:g}]", field=name, value=value, remedy="see the class's text")


def _positive(name: str, value: Any) -> None:
    if not finite(value) or value <= 0.0:
        raise InvalidInput("must be positive and finite", field=name, value=value, remedy="see the class's text")


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput("must be a whole number of 1 or more", field=name, value=value, remedy="see the text")


@dataclass(frozen=True)
class GapLimits:
    """Hard limits of |G| by class and regime.

    A trade may not leave |G − h| above the limit, or above |G| where that is larger already: an excess is never
    increased. While tripped (|G| above the limit, until it is below ``release_share`` of it) only trades towards zero
    are allowed.

    Parameters
    ----------
    caps
        Class → regime → limit [currency], > 0. A class or regime that is not listed has the tightest of all.
    release_share
        In (0, 1].
    release
        Further rules.
    """

    caps: Mapping[str, Mapping[str, float]]
    release_share: float = 0.9
    release: Release = _AT_ONCE

    def __post_init__(self) -> None:
        if not isinstance(self.caps, Mapping) or not self.caps or not all(self.caps.values()):
            raise InvalidInput("no limits", field="caps", value=self.caps, remedy='e.g. {"index": {"normal": 1e6}}')
        for kind, regimes in self.caps.items():
            for regime, cap in regimes.items():
                _positive(f"cap of {kind}, {regime}", cap)
        frozen = {str(k): MappingProxyType({str(r): float(c) for r, c in v.items()}) for k, v in self.caps.items()}
        object.__setattr__(self, "caps", MappingProxyType(frozen))
        _within("release_share", self.release_share, 1e-6, 1.0)

    def cap(self, kind: str, regime: str) -> tuple[float, bool]:
        """Return the limit [currency], and whether class and regime are listed."""
        known = self.caps.get(kind, {}).get(regime) if isinstance(kind, str) and isinstance(regime, str) else None
        if known is not None:
            return known, True
        return min(cap for regimes in self.caps.values() for cap in regimes.values()), False


@dataclass(frozen=True)
class BasisShock:
    """A basis far from its recent level, or moving much more than it did.

    z is the distance from a mean over ``slow_s`` in standard deviations over ``calm_s``; the ratio is that of the
    standard deviation of changes over ``fast_s`` and over ``calm_s``. Both use what was known before the observation,
    and the deviations learn from it with its distance cut at three: neither a bad print nor a shock becomes the norm.
    A new session begins with a new level. While tripped, the answer comes from the rule at best, with its threshold
    times ``tighten``.

    Parameters
    ----------
    z_trip, z_release
        abs(z), release < trip.
    ratio_trip, ratio_release
        Fast over calm, release < trip.
    fast_s, slow_s, calm_s
        Half-lives [s], in this order; the nights between sessions do not count.
    warmup
        Observations before it can trip.
    floor
        Smallest standard deviation that counts [fraction]: a tick or two.
    tighten
        In [0.25, 1]: a rule that hedges everything at once where depth is thinnest costs more than the shock.
    confirm, release
        Breaches that trip it; rules of release.
    """

    z_trip: float = 5.0
    z_release: float = 2.5
    ratio_trip: float = 5.0
    ratio_release: float = 2.5
    fast_s: float = 120.0
    slow_s: float = 1800.0
    calm_s: float = 14_400.0
    warmup: int = 30
    floor: float = 2e-5
    tighten: float = 0.5
    confirm: int = 1
    release: Release = _AFTER_MINUTES

    def __post_init__(self) -> None:
        for name in ("z_trip", "z_release", "ratio_trip", "ratio_release", "fast_s", "slow_s", "calm_s", "floor"):
            _positive(name, getattr(self, name))
        pairs = (("z_release", "z_trip"), ("ratio_release", "ratio_trip"), ("fast_s", "slow_s"), ("slow_s", "calm_s"))
        for low, high in pairs:
            if not getattr(self, low) < getattr(self, high):
                raise InvalidInput(f"must be below {high}", field=low, value=getattr(self, low), remedy="lower it")
        _within("tighten", self.tighten, 0.25, 1.0)
        _whole("warmup", self.warmup)
        _whole("confirm", self.confirm)


@dataclass(frozen=True)
class CorrelationBreak:
    """The hedge no longer follows the basket.

    The correlation of hedge and basket returns over ``half_life_s`` is held against a floor, and against that over
    ``calm_s`` by Fisher's transform: z = (artanh ρ − artanh ρ_calm)/√(1/(n − 3) + 1/(n_calm − 3)) with effective
    numbers of observations. Moves count in their recent standard deviations and are cut at three, so that neither fat
    tails nor a busy hour decide.
    While tripped, the long correlation does not learn, the hedge may grow only towards ``reliance`` times what is
    required, and the answer comes from the rule at best.

    Parameters
    ----------
    trip, release_at
        Correlation below which it trips, and above which it is calm; trip < release_at.
    z_trip, z_release
        Fall in standard errors that trips it, and below which it is calm; release < trip.
    half_life_s, calm_s
        [s], half_life_s < calm_s; the nights between sessions do not count.
    warmup
        Observations before it can trip.
    reliance
        In [0, 1].
    confirm, release
        Breaches that trip it; rules of release.
    """

    trip: float = 0.3
    release_at: float = 0.5
    z_trip: float = 4.0
    z_release: float = 2.0
    half_life_s: float = 1800.0
    calm_s: float = 46_800.0
    warmup: int = 60
    reliance: float = 0.5
    confirm: int = 3
    release: Release = _AFTER_FIVE

    def __post_init__(self) -> None:
        _within("trip", self.trip, -1.0, 1.0)
        _within("release_at", self.release_at, -1.0, 1.0)
        for name in ("z_trip", "z_release", "half_life_s", "calm_s"):
            _positive(name, getattr(self, name))
        for low, high in (("trip", "release_at"), ("z_release", "z_trip"), ("half_life_s", "calm_s")):
            if not getattr(self, low) < getattr(self, high):
                raise InvalidInput(f"must be below {high}", field=low, value=getattr(self, low), remedy="lower it")
        _within("reliance", self.reliance, 0.0, 1.0)
        _whole("warmup", self.warmup)
        _whole("confirm", self.confirm)


@dataclass(frozen=True)
class StaleData:
    """Inputs that are too old, or a clock that went back: no trade.

    Parameters
    ----------
    trip_s, release_s
        Age [s], release < trip.
    release
        Rules of release.
    """

    trip_s: float = 5.0
    release_s: float = 2.0
    release: Release = _AFTER_TWO

    def __post_init__(self) -> None:
        _positive("trip_s", self.trip_s)
        _positive("release_s", self.release_s)
        if not self.release_s < self.trip_s:
            raise InvalidInput("must be below trip_s", field="release_s", value=self.release_s, remedy="lower it")


@dataclass(frozen=True)
class DeltaAggression:
    """Trades that are too large, or that grow too fast from one decision to the next.

    |h| <= ``clip`` always; h may exceed the last trade by ``step`` at most, away from zero: to slow down or stop is
    always allowed. Trips when the policy asks for more than ``clip`` so many times in a row, and then takes the rule.

    Parameters
    ----------
    clip
        [currency], > 0.
    step
        [currency], > 0; inf: none.
    strikes, calm
        Requests above the clip in a row that trip it, and requests within it that release it.
    release
        Further rules; its count is ``calm``.
    """

    clip: float
    step: float = math.inf
    strikes: int = 3
    calm: int = 10
    release: Release = _AT_ONCE

    def __post_init__(self) -> None:
        _positive("clip", self.clip)
        if not (isinstance(self.step, int | float) and self.step > 0.0):
            raise InvalidInput("must be positive", field="step", value=self.step, remedy="use inf for none")
        _whole("strikes", self.strikes)
        _whole("calm", self.calm)
        object.__setattr__(self, "release", replace(self.release, count=max(self.calm, self.release.count)))


@dataclass(frozen=True)
class MessageRate:
    """Orders in a sliding window; at the limit nothing more is sent until the window holds ``release_share`` of it.

    Parameters
    ----------
    most
        Orders, >= 1. Each trade that a check allows counts at once.
    window_s
        [s].
    release_share
        In (0, 1).
    release
        Further rules.
    """

    most: int
    window_s: float = 60.0
    release_share: float = 0.8
    release: Release = _AT_ONCE

    def __post_init__(self) -> None:
        _whole("most", self.most)
        _positive("window_s", self.window_s)
        if not finite(self.release_share) or not 0.0 < self.release_share < 1.0:
            raise InvalidInput("must lie in (0, 1)", field="release_share", value=self.release_share, remedy="use 0.8")


@dataclass(frozen=True)
class NotionalLimit:
    """Notional of one order, and of all orders of a session; released by a new session only.

    Parameters
    ----------
    order
        Largest |h| [currency], > 0.
    session
        Largest Σ|h| [currency], > 0.
    """

    order: float
    session: float

    def __post_init__(self) -> None:
        _positive("order", self.order)
        _positive("session", self.session)


@dataclass(frozen=True)
class GuardrailConfig:
    """The guards that are on; None: off. All are off by default but for stale data."""

    gap: GapLimits | None = None
    basis: BasisShock | None = None
    correlation: CorrelationBreak | None = None
    stale: StaleData | None = field(default_factory=StaleData)
    aggression: DeltaAggression | None = None
    messages: MessageRate | None = None
    notional: NotionalLimit | None = None

    def scaled(self, scale: float) -> GuardrailConfig:
        """Return the settings with all currency amounts times ``scale``: shares of a parent become currency.

        Raises
        ------
        InvalidInput
            For a scale that is not positive.
        """
        _positive("scale", scale)
        gap, aggression, notional = self.gap, self.aggression, self.notional
        if gap is not None:
            caps = {kind: {r: cap * scale for r, cap in regimes.items()} for kind, regimes in gap.caps.items()}
            gap = replace(gap, caps=caps)
        if aggression is not None:
            aggression = replace(aggression, clip=aggression.clip * scale, step=aggression.step * scale)
        if notional is not None:
            notional = NotionalLimit(notional.order * scale, notional.session * scale)
        return replace(self, gap=gap, aggression=aggression, notional=notional)
