"""The guards themselves: each takes an observation, moves its latch and returns bounds, a rung and words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

from crosswind.problems.hedge.guardrails_config import (
    BasisShock,
    CorrelationBreak,
    DeltaAggression,
    GapLimits,
    MessageRate,
    NotionalLimit,
    StaleData,
)
from crosswind.problems.hedge.guardrails_latch import NS, GuardEvent, Latch, Observation, Release, finite, plausible
from crosswind.problems.hedge.state import Rung

__all__ = ["Guard", "Ruling", "guards_of"]

_CUT = 3.0  # deviations learn from no observation further out than this


@dataclass(frozen=True)
class Ruling:
    """What one guard allows: bounds of the trade (they hold 0), the best rung (None: any), words and an event."""

    low: float = -math.inf
    high: float = math.inf
    rung: Rung | None = None
    reason: str = ""
    event: GuardEvent | None = None


class Guard(ABC):
    """A latch with a reading of the observation."""

    name = ""
    kept: tuple[str, ...] = ()  # what a snapshot holds besides the latch

    def __init__(self, release: Release, confirm: int = 1) -> None:
        self.latch = Latch(release, confirm)

    @abstractmethod
    def look(self, seen: Observation) -> Ruling:
        """Take an observation and rule on it."""

    def sent(self, seen: Observation, trade: float) -> None:
        """Count a trade that was allowed; most guards need not."""
        del seen, trade

    def _move(
        self, seen: Observation, value: Any, threshold: float, words: str, *, breached: bool, calm: bool, bad: bool
    ) -> GuardEvent | None:
        kind = self.latch.update(seen.time_ns, breached=breached, calm=calm, bad=bad)
        if kind is None:
            return None
        text = f"{self.name} {'tripped' if kind == 'trip' else 'released'}: {words}"
        return GuardEvent(seen.time_ns, self.name, kind, float(value) if finite(value) else None, threshold, text)

    def state(self) -> dict[str, Any]:
        """Return what the guard remembers besides its latch, as plain values."""
        return {name: getattr(self, name) for name in self.kept}

    def take(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state` gave."""
        for name in self.kept:
            setattr(self, name, type(getattr(self, name))(state[name]))


class _Gap(Guard):
    name = "gap limit"

    def __init__(self, config: GapLimits) -> None:
        super().__init__(config.release)
        self.config = config

    def look(self, seen: Observation) -> Ruling:
        cap, known = self.config.cap(seen.instrument_class, seen.regime)
        bad = not finite(seen.gap)
        size = math.inf if bad else abs(float(seen.gap))
        words = "the gap is not finite" if bad else f"|gap| {size:,.6g} against {cap:,.6g}"
        words += "" if known else " (class or regime not listed: tightest limit)"
        calm = size <= self.config.release_share * cap
        event = self._move(seen, seen.gap, cap, words, breached=size > cap, calm=calm, bad=bad)
        if bad:
            return Ruling(0.0, 0.0, Rung.HOLD, words, event)
        gap = float(seen.gap)
        if self.latch.tripped:
            return Ruling(min(0.0, gap), max(0.0, gap), None, f"{words}: only trades that reduce it", event)
        # |G − h| <= max(|G|, cap), so that the limit holds and an excess never grows; 0 is always within.
        most = max(size, cap)
        return Ruling(gap - most, gap + most, None, "", event)


class _Clock:
    """Seconds since the last observation of the same session; 0 at the first of each."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.session = ""

    def step(self, seen: Observation) -> tuple[float, bool]:
        """Return the time that has passed [s], and whether a session begins."""
        label = seen.session if isinstance(seen.session, str) else ""
        new = self.at is None or label != self.session
        passed = 0.0 if new or self.at is None else max((seen.time_ns - self.at) / NS, 0.0)
        self.at, self.session = seen.time_ns, label
        return passed, new

    def state(self) -> list[Any]:
        return [self.at, self.session]

    def take(self, state: list[Any]) -> None:
        at, session = state
        self.at, self.session = None if at is None else int(at), str(session)


class _Basis(Guard):
    name = "basis shock"
    kept = ("_count", "_today", "_mean", "_level", "_fast", "_calm", "_last")

    def __init__(self, config: BasisShock) -> None:
        super().__init__(config.release, config.confirm)
        self.config, self._clock = config, _Clock()
        self._count = self._today = 0
        self._mean = self._level = self._fast = self._calm = self._last = 0.0

    def look(self, seen: Observation) -> Ruling:
        if seen.basis is None:
            return self._ruling("no basis now", None)
        if not plausible(seen.basis):
            words = "the basis is not a number, or beyond all measure"
            event = self._move(seen, seen.basis, self.config.z_trip, words, breached=False, calm=False, bad=True)
            return self._ruling(words, event)
        c = self.config
        z, ratio = self._learn(float(seen.basis), *self._clock.step(seen))
        warm = self._count > c.warmup
        breached = warm and (abs(z) > c.z_trip or ratio > c.ratio_trip)
        calm = abs(z) <= c.z_release and ratio <= c.ratio_release
        words = f"z {z:+.1f} against {c.z_trip:g}, volatility ratio {ratio:.1f} against {c.ratio_trip:g}"
        far = abs(z) / c.z_trip >= ratio / c.ratio_trip
        value, threshold = (z, c.z_trip) if far else (ratio, c.ratio_trip)
        return self._ruling(words, self._move(seen, value, threshold, words, breached=breached, calm=calm, bad=False))

    def _learn(self, basis: float, dt: float, new: bool) -> tuple[float, float]:
        """Return z and the ratio by what was known before, then learn."""
        c = self.config
        if new:
            self._mean = self._last = basis
            self._fast, self._today = self._calm, 0
            self._count += 1
            return 0.0, 0.0
        sd = max(math.sqrt(self._level), c.floor)
        z = (basis - self._mean) / sd
        # Changes are taken per √second, so that uneven steps compare.
        dt = max(dt, 1e-3)
        rate, quiet = (basis - self._last) ** 2 / dt, c.floor**2 / dt
        was = max(self._calm, quiet)
        self._today += 1
        # The first observations count fully, else a long half-life would begin with a deviation of nothing.
        begun = 1.0 / (self._count + 1)
        mean = max(1.0 - math.exp2(-dt / c.slow_s), 1.0 / (self._today + 1))
        calm = max(1.0 - math.exp2(-dt / c.calm_s), begun)
        self._fast += max(1.0 - math.exp2(-dt / c.fast_s), begun) * (rate - self._fast)
        ratio = math.sqrt(max(self._fast, 0.0) / was)
        learning = self._count <= c.warmup
        self._calm += calm * ((rate if learning else min(rate, _CUT**2 * was)) - self._calm)
        away = basis - self._mean
        # What the mean itself errs by shrinks the squares; a cut keeps a shock from becoming the norm.
        square = away * away if learning else min(away * away, (_CUT * sd) ** 2)
        self._level += calm * (square * (1.0 - mean) - self._level)
        self._mean += mean * (away if learning else min(max(away, -_CUT * sd), _CUT * sd))
        self._count, self._last = self._count + 1, basis
        return z, ratio

    def _ruling(self, words: str, event: GuardEvent | None) -> Ruling:
        if not self.latch.tripped:
            return Ruling(event=event)
        reason = f"basis shock ({words}): the rule with {self.config.tighten:g} of its threshold"
        return Ruling(rung=Rung.RULE, reason=reason, event=event)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "clock": self._clock.state()}

    def take(self, state: dict[str, Any]) -> None:
        super().take(state)
        self._clock.take(state["clock"])


class _Moments:
    """Second moments of two returns, weighted with a half-life, and 1/n of the effective number n of observations."""

    def __init__(self) -> None:
        self.xx = self.yy = self.xy = self.thin = 0.0

    def learn(self, x: float, y: float, weight: float) -> None:
        # 1/n of weighted observations is the sum of squared weights.
        self.thin = (1.0 - weight) ** 2 * self.thin + weight**2
        self.xx += weight * (x * x - self.xx)
        self.yy += weight * (y * y - self.yy)
        self.xy += weight * (x * y - self.xy)

    @property
    def rho(self) -> float:
        """The correlation; 0 where one of the two stands still, for then it hedges nothing."""
        size = math.sqrt(self.xx) * math.sqrt(self.yy)
        return min(max(self.xy / size, -1.0), 1.0) if size > 0.0 else 0.0

    @property
    def variance(self) -> float:
        """Variance of the correlation's artanh, 1/(n − 3); inf where there are too few observations."""
        return self.thin / (1.0 - 3.0 * self.thin) if 0.0 < 3.0 * self.thin < 1.0 else math.inf

    def state(self) -> list[float]:
        return [self.xx, self.yy, self.xy, self.thin]

    def take(self, state: list[Any]) -> None:
        self.xx, self.yy, self.xy, self.thin = (float(value) for value in state)


class _Correlation(Guard):
    name = "correlation break"
    kept = ("_count", "_xx", "_yy")

    def __init__(self, config: CorrelationBreak) -> None:
        super().__init__(config.release, config.confirm)
        self.config, self._clock = config, _Clock()
        self._now, self._calm = _Moments(), _Moments()
        self._count, self._xx, self._yy = 0, 0.0, 0.0

    def look(self, seen: Observation) -> Ruling:
        x, y, c = seen.hedge_return, seen.basket_return, self.config
        if x is None or y is None:
            return self._ruling(seen, "no returns now", None)
        if not (plausible(x) and plausible(y)):
            words = "a return is not a number, or beyond all measure"
            event = self._move(seen, None, c.trip, words, breached=False, calm=False, bad=True)
            return self._ruling(seen, words, event)
        x, y, (dt, _) = float(x), float(y), self._clock.step(seen)
        begun = 1.0 / (self._count + 1)
        x, y = self._scaled(x, y, max(1.0 - math.exp2(-2.0 * dt / c.half_life_s), begun))
        self._now.learn(x, y, max(1.0 - math.exp2(-dt / c.half_life_s), begun))
        self._count += 1
        rho, usual = self._now.rho, self._calm.rho
        z = (_artanh(rho) - _artanh(usual)) / math.sqrt(self._now.variance + self._calm.variance)
        warm = self._count > c.warmup
        words = f"correlation {rho:.2f} (usual {usual:.2f}, z {z:+.1f}) against {c.trip:g} and z {-c.z_trip:g}"
        breached = warm and (rho < c.trip or z < -c.z_trip)
        calm = rho >= c.release_at and z >= -c.z_release
        value, threshold = (rho, c.trip) if rho < c.trip else (z, -c.z_trip)
        event = self._move(seen, value, threshold, words, breached=breached, calm=calm, bad=False)
        if not self.latch.tripped:
            self._calm.learn(x, y, max(1.0 - math.exp2(-dt / c.calm_s), begun))
        return self._ruling(seen, words, event)

    def _scaled(self, x: float, y: float, weight: float) -> tuple[float, float]:
        """Return the moves in recent standard deviations, cut: a busy hour must not outvote the quiet one after."""
        out = []
        for value, square in ((x, self._xx), (y, self._yy)):
            size = math.sqrt(square)
            out.append(min(max(value / size, -_CUT), _CUT) if size > 0.0 else 0.0)
        self._xx += weight * (x * x - self._xx)
        self._yy += weight * (y * y - self._yy)
        return out[0], out[1]

    def _ruling(self, seen: Observation, words: str, event: GuardEvent | None) -> Ruling:
        if not self.latch.tripped:
            return Ruling(event=event)
        reason = f"{words}: the hedge may grow to {self.config.reliance:g} of what is required only"
        if not (finite(seen.held) and finite(seen.gap)):
            return Ruling(0.0, 0.0, Rung.HOLD, reason, event)
        held = float(seen.held)
        target = self.config.reliance * (float(seen.gap) + held)
        low, high = min(held, 0.0, target), max(held, 0.0, target)
        return Ruling(min(low - held, 0.0), max(high - held, 0.0), Rung.RULE, reason, event)

    def state(self) -> dict[str, Any]:
        parts = {"now": self._now.state(), "calm": self._calm.state(), "clock": self._clock.state()}
        return {**super().state(), **parts}

    def take(self, state: dict[str, Any]) -> None:
        super().take(state)
        self._now.take(state["now"])
        self._calm.take(state["calm"])
        self._clock.take(state["clock"])


def _artanh(rho: float) -> float:
    # A correlation of ±1 has no transform; beyond this it makes no difference.
    return math.atanh(min(max(rho, -0.9999), 0.9999))


class _Stale(Guard):
    name = "stale data"
    kept = ("_latest",)

    def __init__(self, config: StaleData) -> None:
        super().__init__(config.release)
        self.config = config
        self._latest = -(2**62)

    def look(self, seen: Observation) -> Ruling:
        back = seen.time_ns < self._latest
        self._latest = max(self._latest, seen.time_ns)
        age, c = seen.data_age_s, self.config
        bad = back or (age is not None and (not finite(age) or age < 0.0))
        known = age is not None and not bad
        words = "the clock went back" if back else f"age {age} s" if bad else f"age {age} s against {c.trip_s:g}"
        breached = known and float(age) > c.trip_s  # type: ignore[arg-type]
        calm = not bad and (age is None or float(age) <= c.release_s)
        event = self._move(seen, age, c.trip_s, words, breached=breached, calm=calm, bad=bad)
        if self.latch.tripped:
            return Ruling(0.0, 0.0, Rung.HOLD, f"stale data ({words}): no trade", event)
        return Ruling(event=event)


class _Aggression(Guard):
    name = "delta aggression"
    kept = ("_last",)

    def __init__(self, config: DeltaAggression) -> None:
        super().__init__(config.release, config.strikes)
        self.config, self._last = config, 0.0

    def look(self, seen: Observation) -> Ruling:
        c = self.config
        bad = not finite(seen.proposed)
        size = math.inf if bad else abs(float(seen.proposed))
        words = "the trade is not finite" if bad else f"wanted {size:,.6g} against {c.clip:,.6g}"
        event = self._move(seen, seen.proposed, c.clip, words, breached=size > c.clip, calm=size <= c.clip, bad=bad)
        low, high = min(0.0, self._last - c.step), max(0.0, self._last + c.step)
        reason = f"{words}: clipped" if size > c.clip and not bad else ""
        if self.latch.tripped:
            return Ruling(max(low, -c.clip), min(high, c.clip), Rung.RULE, f"{words}: the rule decides", event)
        return Ruling(max(low, -c.clip), min(high, c.clip), None, reason, event)

    def sent(self, seen: Observation, trade: float) -> None:
        self._last = trade


class _Messages(Guard):
    name = "message rate"

    def __init__(self, config: MessageRate) -> None:
        super().__init__(config.release)
        self.config, self._times = config, deque[int](maxlen=config.most)

    def look(self, seen: Observation) -> Ruling:
        c = self.config
        while self._times and seen.time_ns - self._times[0] >= c.window_s * NS:
            self._times.popleft()
        count = len(self._times)
        words = f"{count} orders in {c.window_s:g} s, {c.most} allowed"
        calm = count <= c.release_share * c.most
        event = self._move(seen, count, c.most, words, breached=count >= c.most, calm=calm, bad=False)
        if self.latch.tripped:
            return Ruling(0.0, 0.0, Rung.HOLD, f"{words}: no order", event)
        return Ruling(event=event)

    def sent(self, seen: Observation, trade: float) -> None:
        if trade != 0.0:
            self._times.append(seen.time_ns)

    def state(self) -> dict[str, Any]:
        return {"times": list(self._times)}

    def take(self, state: dict[str, Any]) -> None:
        self._times = deque((int(t) for t in state["times"]), maxlen=self.config.most)


class _Notional(Guard):
    name = "notional limit"
    kept = ("_used", "_session")

    def __init__(self, config: NotionalLimit) -> None:
        super().__init__(Release())
        self.config, self._used, self._session = config, 0.0, ""

    def look(self, seen: Observation) -> Ruling:
        c = self.config
        fresh = isinstance(seen.session, str) and seen.session != self._session
        if fresh:
            self._used, self._session = 0.0, seen.session
        left = max(c.session - self._used, 0.0)
        words = f"{self._used:,.6g} traded in the session, {c.session:,.6g} allowed"
        # A rest below a millionth is rounding: there is nothing left to trade.
        out = left <= 1e-6 * c.session
        event = self._move(seen, self._used, c.session, words, breached=out, calm=fresh and not out, bad=False)
        if self.latch.tripped:
            return Ruling(0.0, 0.0, Rung.HOLD, f"{words}: no order until the next session", event)
        most = min(c.order, left)
        size = abs(float(seen.proposed)) if finite(seen.proposed) else 0.0
        return Ruling(-most, most, None, f"{words}, one order {c.order:,.6g}: clipped" if size > most else "", event)

    def sent(self, seen: Observation, trade: float) -> None:
        self._used += abs(trade)


_KINDS: dict[str, Any] = {
    "stale": _Stale,
    "gap": _Gap,
    "basis": _Basis,
    "correlation": _Correlation,
    "aggression": _Aggression,
    "messages": _Messages,
    "notional": _Notional,
}


def guards_of(config: Any) -> dict[str, Guard]:
    """Return the guards that are on, by the name of their setting."""
    return {key: kind(getattr(config, key)) for key, kind in _KINDS.items() if getattr(config, key) is not None}
