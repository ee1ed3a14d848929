"""Triggers of the regime machine: what raises each regime, what lets it go again, and the deadline rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from crosswind.problems.roll.metrics.config import METRICS
from crosswind.problems.roll.model import Regime
from crosswind.solvers.errors import InvalidInput

__all__ = ["PRIORITY", "RegimeConfig", "RegimeTrigger", "default_triggers"]

PRIORITY = (Regime.PRE_ROLL, Regime.CROWDED, Regime.BASIS_STRESS, Regime.DEADLINE)
"""Lowest first: where triggers of several regimes hold, the last of them wins."""
_SIDES = ("above", "below", "outside")


@dataclass(frozen=True)
class RegimeTrigger:
    """One condition on one metric, with hysteresis.

    It holds once the metric is at ``enter`` or beyond, and until the metric has been at ``leave`` or on the calm side
    of it without a break for the machine's ``quiet_s``. Between the two, and where the metric is not known, it keeps.

    Parameters
    ----------
    metric
        ``rpc``, ``cde``, ``bdz``, ``let_s`` or ``rdp``.
    regime
        What it calls for: CROWDED or BASIS_STRESS.
    enter, leave
        Thresholds in the metric's unit; leaving is stricter.
    side
        "above": trouble is high; "below": trouble is low; "outside": trouble is a large absolute value.
    name
        In the audit trail; default the metric's.

    Raises
    ------
    InvalidInput
        For an unknown metric, regime or side, and where leaving is not stricter than entering.
    """

    metric: str
    regime: Regime
    enter: float
    leave: float
    side: str = "above"
    name: str = ""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InvalidInput("is unknown", field="metric", value=self.metric, remedy=f"choose of {METRICS}")
        if self.regime not in (Regime.CROWDED, Regime.BASIS_STRESS):
            raise InvalidInput(
                "has no triggers of metrics", field="regime", value=self.regime, remedy="CROWDED or BASIS_STRESS"
            )
        if self.side not in _SIDES:
            raise InvalidInput("is unknown", field="side", value=self.side, remedy=f"choose of {_SIDES}")
        for name in ("enter", "leave"):
            object.__setattr__(self, name, _number(name, getattr(self, name), -math.inf))
        stricter = self.enter < self.leave if self.side == "below" else self.leave < self.enter
        if not stricter or (self.side == "outside" and self.leave < 0.0):
            raise InvalidInput(
                "is not stricter than entering",
                field=f"leave of {self.metric}",
                value=(self.enter, self.leave),
                remedy="leave a gap between the thresholds: without it noise flips the trigger",
            )
        object.__setattr__(self, "name", str(self.name or self.metric))

    def entered(self, value: float) -> bool:
        """Return whether a known value is at the entering threshold or beyond."""
        if self.side == "below":
            return value <= self.enter
        return (abs(value) if self.side == "outside" else value) >= self.enter

    def left(self, value: float) -> bool:
        """Return whether a known value is at the leaving threshold or on its calm side."""
        if self.side == "below":
            return value >= self.leave
        return (abs(value) if self.side == "outside" else value) <= self.leave

    def text(self) -> str:
        """Return both conditions in words."""
        value = f"|{self.metric}|" if self.side == "outside" else self.metric
        rise, fall = ("≤", "≥") if self.side == "below" else ("≥", "≤")
        return f"{value} {rise} {self.enter:g}, until {fall} {self.leave:g}"


def default_triggers() -> tuple[RegimeTrigger, ...]:
    """Return the triggers that come with the toolkit; `docs/roll/regimes.md` says what they were chosen on."""
    return (
        RegimeTrigger("rpc", Regime.CROWDED, enter=1.8, leave=1.3),
        RegimeTrigger("cde", Regime.CROWDED, enter=-0.7, leave=-0.2, side="below"),
        RegimeTrigger("rdp", Regime.CROWDED, enter=1.0, leave=0.7),
        RegimeTrigger("bdz", Regime.BASIS_STRESS, enter=5.0, leave=2.5, side="outside"),
        RegimeTrigger("let_s", Regime.BASIS_STRESS, enter=120.0, leave=30.0),
    )


@dataclass(frozen=True)
class RegimeConfig:
    """When the machine changes its regime.

    Parameters
    ----------
    triggers
        At most one per name.
    dwell_s
        Least time in a regime before it is left for any other than DEADLINE [s], > 0.
    quiet_s
        Time for which a metric must lie on the calm side of ``leave`` before its trigger lets go [s], >= 0.
    deadline_min
        DEADLINE when no more minutes than this are left until the cutoff.
    late_min, late_rdp
        DEADLINE also when no more minutes than ``late_min`` are left and RDP is ``late_rdp`` or more.
    max_gap_s
        Steps further apart than this are a gap [s]: it is noted, quiet starts afresh, and only ``max_gap_s`` of it
        counts as dwell: a clock that jumps buys no change.

    Raises
    ------
    InvalidInput
        For numbers out of range or two triggers of one name.
    """

    triggers: tuple[RegimeTrigger, ...] = field(default_factory=default_triggers)
    dwell_s: float = 120.0
    quiet_s: float = 60.0
    deadline_min: float = 15.0
    late_min: float = 60.0
    late_rdp: float = 2.0
    max_gap_s: float = 300.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "triggers", tuple(self.triggers))
        if not all(isinstance(t, RegimeTrigger) for t in self.triggers):
            raise InvalidInput("are not triggers", field="triggers", value=self.triggers, remedy="RegimeTrigger(…)")
        names = [t.name for t in self.triggers]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InvalidInput("share a name", field="triggers", value=twice, remedy="name them")
        for name in ("quiet_s", "deadline_min", "late_min", "late_rdp"):
            object.__setattr__(self, name, _number(name, getattr(self, name), 0.0))
        for name in ("dwell_s", "max_gap_s"):
            object.__setattr__(self, name, _number(name, getattr(self, name), 1e-9))
        if self.late_min < self.deadline_min:
            raise InvalidInput(
                "is shorter than deadline_min",
                field="late_min",
                value=(self.late_min, self.deadline_min),
                remedy="late_min = deadline_min switches the rule of pressure off",
            )

    def of(self, regime: Regime) -> tuple[RegimeTrigger, ...]:
        """Return the triggers that call for a regime."""
        return tuple(t for t in self.triggers if t.regime is regime)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        rows = [{**vars(t), "regime": t.regime.name} for t in self.triggers]
        return {**{name: value for name, value in vars(self).items() if name != "triggers"}, "triggers": rows}


def _number(name: str, value: object, lower: float) -> float:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or float(value) < lower:  # type: ignore[arg-type]
        raise InvalidInput(
            "is out of range", field=name, value=value, remedy=f"pass a finite number, {lower:g} or more"
        )
    return float(value)  # type: ignore[arg-type]
