"""What all guards share: what they see, what they report, and a latch with hysteresis and rules for its release."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from crosswind.solvers.errors import InvalidInput

__all__ = ["GuardEvent", "Latch", "Observation", "Release", "finite", "plausible"]

NS = 1_000_000_000


def finite(value: Any) -> bool:
    """Return whether ``value`` is a finite number; never raises."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def plausible(value: Any) -> bool:
    """Return whether ``value`` can be a return or a relative basis: a finite number of at most a thousand."""
    return finite(value) and abs(value) <= 1e3


@dataclass(frozen=True)
class Observation:
    """What the guards see before a trade is sent; amounts in currency, buy positive.

    Parameters
    ----------
    time_ns
        Event time [ns since 1970, UTC]; it must not go back.
    gap
        G = ΣβQ − H before the trade: a trade h leaves G − h.
    proposed
        Trade that the policy wants.
    held
        H, hedge on with orders in flight.
    rule
        What the fallback rule would trade, taken where the guards do not let the policy's own answer stand; None: the
        policy's, within the bounds.
    instrument_class, regime
        Select the gap limit.
    session
        Label of the trading day; a new one clears the notional that is used up.
    basis
        Relative basis of the hedge; None: not observed now. NaN is an observation that went wrong, and trips.
    hedge_return, basket_return
        Returns of hedge and basket (or its proxy) since the last observation; None: not observed now.
    data_age_s
        Age of the oldest input that the decision rests on [s]; None: not observed now.
    """

    time_ns: int
    gap: float
    proposed: float
    held: float = 0.0
    rule: float | None = None
    instrument_class: str = ""
    regime: str = ""
    session: str = ""
    basis: float | None = None
    hedge_return: float | None = None
    basket_return: float | None = None
    data_age_s: float | None = None


@dataclass(frozen=True)
class GuardEvent:
    """One line for the journal: which guard did what, at which value and threshold.

    Parameters
    ----------
    time_ns
        Event time.
    guard
        Name of the guard.
    kind
        "trip", "release" or "rearm".
    value, threshold
        What was seen and the limit that it was held against; None where the value was not a number.
    text
        In words.
    """

    time_ns: int
    guard: str
    kind: str
    value: float | None
    threshold: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {name: getattr(self, name) for name in ("time_ns", "guard", "kind", "value", "threshold", "text")}


@dataclass(frozen=True)
class Release:
    """When a tripped guard lets go.

    Parameters
    ----------
    quiet_s
        Time for which every observation must lie beyond the release threshold [s], >= 0.
    count
        So many such observations in a row besides, >= 1.
    manual
        Only a person releases it, by :meth:`crosswind.problems.hedge.guardrails.Guardrails.rearm`.
    most_trips, within_s
        More trips than this within ``within_s`` [s], and only a person releases it: it flaps. None: no such rule.

    Raises
    ------
    InvalidInput
        For numbers out of range.
    """

    quiet_s: float = 0.0
    count: int = 1
    manual: bool = False
    most_trips: int | None = None
    within_s: float = 3600.0

    def __post_init__(self) -> None:
        if not finite(self.quiet_s) or self.quiet_s < 0.0:
            raise InvalidInput("must be zero or more", field="quiet_s", value=self.quiet_s, remedy="use 0")
        if not isinstance(self.count, int) or self.count < 1:
            raise InvalidInput("must be 1 or more", field="count", value=self.count, remedy="use 1")
        if self.most_trips is not None and (not isinstance(self.most_trips, int) or self.most_trips < 1):
            raise InvalidInput("must be 1 or more", field="most_trips", value=self.most_trips, remedy="use None")
        if not finite(self.within_s) or self.within_s <= 0.0:
            raise InvalidInput("must be positive", field="within_s", value=self.within_s, remedy="use 3600")


class Latch:
    """Trips at once or after ``confirm`` breaches in a row, and lets go by the rules of a :class:`Release`.

    Parameters
    ----------
    release
        Its rules.
    confirm
        Breaches in a row that trip it, >= 1; an observation that is not a number trips at once.
    """

    def __init__(self, release: Release, confirm: int = 1) -> None:
        self.release, self.confirm = release, confirm
        self.tripped = self.locked = False
        self._breaches = self._calm = 0
        self._calm_since: int | None = None
        self._trips: list[int] = []

    def update(self, time_ns: int, *, breached: bool, calm: bool, bad: bool = False) -> str | None:
        """Take one observation and return "trip", "release" or None."""
        calm = calm and not breached and not bad
        self._breaches = self._breaches + 1 if breached or bad else 0
        if not calm:
            self._calm, self._calm_since = 0, None
        else:
            self._calm += 1
            self._calm_since = time_ns if self._calm_since is None else self._calm_since
        if not self.tripped:
            if bad or self._breaches >= self.confirm:
                self.tripped = True
                self._note_trip(time_ns)
                return "trip"
            return None
        if calm and not self.locked and self._calm >= self.release.count and self._calm_since is not None:
            waited = (time_ns - self._calm_since) / NS
            if waited >= self.release.quiet_s:
                self.tripped = False
                return "release"
        return None

    def _note_trip(self, time_ns: int) -> None:
        rule = self.release
        if rule.most_trips is not None:
            self._trips = [t for t in self._trips if time_ns - t <= rule.within_s * NS] + [time_ns]
            self.locked = len(self._trips) > rule.most_trips
        self.locked = self.locked or rule.manual

    def rearm(self) -> bool:
        """Release by hand; return whether it was tripped."""
        was = self.tripped
        self.tripped = self.locked = False
        self._breaches, self._calm, self._calm_since, self._trips = 0, 0, None, []
        return was

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "tripped": self.tripped,
            "locked": self.locked,
            "breaches": self._breaches,
            "calm": self._calm,
            "calm_since": self._calm_since,
            "trips": list(self._trips),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take a state of :meth:`snapshot`."""
        self.tripped, self.locked = bool(state["tripped"]), bool(state["locked"])
        self._breaches, self._calm = int(state["breaches"]), int(state["calm"])
        self._calm_since = None if state["calm_since"] is None else int(state["calm_since"])
        self._trips = [int(t) for t in state["trips"]]
