"""The regime machine: one step per bar, hysteresis, dwell, an absorbing deadline, and an audit trail."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from crosswind.problems.roll.clock import nanoseconds
from crosswind.problems.roll.metrics.config import METRICS, NS
from crosswind.problems.roll.model import Regime
from crosswind.problems.roll.regimes.audit import RegimeNote, RegimeTransition
from crosswind.problems.roll.regimes.config import PRIORITY, RegimeConfig
from crosswind.solvers.errors import InvalidInput

__all__ = ["RegimeMachine"]

_KEPT = 1000
_COLUMNS = ("source", "target", "trigger", "value", "threshold", "minutes_left", "active", "held_s", *METRICS)


class RegimeMachine:
    """Regime of a roll day, from the metrics bar by bar.

    Each trigger is a switch with hysteresis (:class:`RegimeTrigger`). The regime that is *called for* is the highest
    in PRE_ROLL < CROWDED < BASIS_STRESS of any trigger that holds. The machine goes there once it has been in its
    present regime for ``dwell_s``. DEADLINE waits for nothing and is never left.

    A metric that is not known (NaN, None, missing, infinite; RDP alone may be +inf) moves no switch. A step that is
    not later than the last one changes nothing but obeys the deadline rule. Nothing raises once the machine runs,
    except a time without a zone.

    Parameters
    ----------
    config
        Triggers, dwell and deadline rule.

    Attributes
    ----------
    regime
        The present one.
    transitions
        Every change so far, in order.
    notes
        The last 1000 inputs that could not be used; ``counts`` counts all of them by kind.
    """

    def __init__(self, config: RegimeConfig | None = None) -> None:
        if config is not None and not isinstance(config, RegimeConfig):
            raise InvalidInput("is no RegimeConfig", field="config", value=type(config).__name__, remedy="pass one")
        self.config = RegimeConfig() if config is None else config
        self._dwell, self._quiet, self._gap = (
            round(v * NS) for v in (self.config.dwell_s, self.config.quiet_s, self.config.max_gap_s)
        )
        self._rank = {regime: k for k, regime in enumerate(PRIORITY)}
        self.reset()

    def reset(self) -> None:
        """Forget everything: PRE_ROLL, no trigger holds, an empty trail."""
        self.regime = Regime.PRE_ROLL
        self.transitions: list[RegimeTransition] = []
        self.notes: deque[RegimeNote] = deque(maxlen=_KEPT)
        self.counts: Counter[str] = Counter()
        self._active: dict[str, bool] = {t.name: False for t in self.config.triggers}
        self._calm_since: dict[str, int | None] = {t.name: None for t in self.config.triggers}
        self._released: list[str] = []  # those that let go in the present regime
        self._known: dict[str, bool] = {}
        self._last: int | None = None
        self._since: int | None = None
        self._credit = 0  # dwell so far [ns], gaps cut to max_gap_s

    def step(self, time: pd.Timestamp | int, metrics: Mapping[str, float], minutes_left: float) -> Regime:
        """Take the metrics of a bar and return the regime from its end on.

        Parameters
        ----------
        time
            The bar's end (tz-aware, or ns since 1970 UTC).
        metrics
            ``rpc``, ``cde``, ``bdz``, ``let_s``, ``rdp``; what is missing is not known.
        minutes_left
            Until the cutoff; zero or negative is past it. NaN: not known, the deadline rule waits.
        """
        ns = nanoseconds(time)
        values = {name: _value(metrics.get(name), name) for name in METRICS}
        minutes = _minutes(minutes_left)
        if self._last is not None and ns <= self._last:
            back = ns < self._last
            gone = (self._last - ns) / NS
            self._note(
                ns, "clock back" if back else "repeat", f"{gone:g} s before the last step" if back else "ignored"
            )
            ns = self._last
        else:
            self._advance(ns)
            self._watch(ns, values)
        deadline = self._deadline(values, minutes)
        if self.regime is Regime.DEADLINE:
            return self.regime
        if deadline is not None:
            return self._go(ns, Regime.DEADLINE, deadline, values, minutes)
        called = max(
            (t.regime for t in self.config.triggers if self._active[t.name]),
            key=self._rank.__getitem__,
            default=Regime.PRE_ROLL,
        )
        if called is self.regime or self._credit < self._dwell:
            return self.regime
        return self._go(ns, called, self._cause(called, values), values, minutes)

    def active(self) -> tuple[str, ...]:
        """Return the names of the triggers that hold."""
        return tuple(name for name, on in self._active.items() if on)

    def held_s(self) -> float:
        """Return for how long the present regime has lasted [s], gaps cut to ``max_gap_s``."""
        return self._credit / NS

    def to_frame(self) -> pd.DataFrame:
        """Return the audit trail: time of change × source, target, trigger, value, threshold, …, all metrics."""
        rows = [
            {
                **{name: getattr(t, name) for name in _COLUMNS if hasattr(t, name)},
                **t.metrics,
                "source": t.source.name,
                "target": t.target.name,
                "active": "+".join(t.active),
            }
            for t in self.transitions
        ]
        index = pd.DatetimeIndex([t.time for t in self.transitions], dtype="datetime64[ns, UTC]", name="time")
        return pd.DataFrame(rows, index=index, columns=list(_COLUMNS))

    def snapshot(self) -> dict[str, Any]:
        """Return the state with the audit trail as plain values that JSON can hold; notes are counted only."""
        return {
            "config": self.config.to_dict(),
            "regime": self.regime.name,
            "transitions": [t.to_dict() for t in self.transitions],
            "counts": dict(self.counts),
            "active": dict(self._active),
            "calm_since": dict(self._calm_since),
            "released": list(self._released),
            "known": dict(self._known),
            "last": self._last,
            "since": self._since,
            "credit": self._credit,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Take over a snapshot of a machine with the same config.

        Raises
        ------
        InvalidInput
            If it was taken with another config; the machine is then as before.
        """
        if snapshot.get("config") != self.config.to_dict():
            raise InvalidInput(
                "was taken with another config", field="snapshot", value=None, remedy="build the machine with that one"
            )
        transitions = [RegimeTransition.from_dict(row) for row in snapshot["transitions"]]
        regime = Regime[snapshot["regime"]]
        self.regime, self.transitions = regime, transitions
        self.notes.clear()
        self.counts = Counter(snapshot["counts"])
        self._active = {name: bool(on) for name, on in snapshot["active"].items()}
        self._calm_since = {name: None if ns is None else int(ns) for name, ns in snapshot["calm_since"].items()}
        self._released = list(snapshot["released"])
        self._known = {name: bool(known) for name, known in snapshot["known"].items()}
        self._last = None if snapshot["last"] is None else int(snapshot["last"])
        self._since = None if snapshot["since"] is None else int(snapshot["since"])
        self._credit = int(snapshot["credit"])

    def _advance(self, ns: int) -> None:
        if self._last is None:
            self._since = ns
        else:
            passed = ns - self._last
            if passed > self._gap:
                self._note(ns, "gap", f"{passed / NS:g} s without a step: quiet starts afresh")
                self._calm_since = dict.fromkeys(self._calm_since)
            self._credit += min(passed, self._gap)
        self._last = ns

    def _watch(self, ns: int, values: Mapping[str, float]) -> None:
        """Move the switches."""
        for metric, value in values.items():
            known = not math.isnan(value)
            if self._known.get(metric, True) != known:
                self._note(ns, "known" if known else "unknown", f"{metric}: its triggers {'move' if known else 'keep'}")
            self._known[metric] = known
        for trigger in self.config.triggers:
            value, name = values[trigger.metric], trigger.name
            if math.isnan(value) or not trigger.left(value):
                self._calm_since[name] = None
                if not math.isnan(value) and trigger.entered(value):
                    self._active[name] = True
            elif self._active[name]:
                since = self._calm_since[name]
                since = self._calm_since[name] = ns if since is None else since
                if ns - since >= self._quiet:
                    self._active[name] = False
                    self._released.append(name)

    def _deadline(self, values: Mapping[str, float], minutes: float) -> tuple[str, float, float] | None:
        c = self.config
        if minutes <= c.deadline_min:
            return "deadline", minutes, c.deadline_min
        if minutes <= c.late_min and values["rdp"] >= c.late_rdp:
            return "late", values["rdp"], c.late_rdp
        return None

    def _cause(self, target: Regime, values: Mapping[str, float]) -> tuple[str, float, float]:
        """Return the trigger behind a change, its value and its threshold."""
        holding = [t for t in self.config.of(target) if self._active[t.name]]
        if holding:
            first = holding[0]
            return "+".join(t.name for t in holding), values[first.metric], first.enter
        gone = [t for t in self.config.triggers if t.name in self._released]
        return "released " + "+".join(t.name for t in gone), values[gone[0].metric], gone[0].leave

    def _go(
        self, ns: int, target: Regime, cause: tuple[str, float, float], values: Mapping[str, float], minutes: float
    ) -> Regime:
        since = ns if self._since is None else self._since
        self.transitions.append(
            RegimeTransition(
                pd.Timestamp(ns, tz="UTC"),
                self.regime,
                target,
                *cause,
                metrics=MappingProxyType(dict(values)),
                minutes_left=minutes,
                active=self.active(),
                held_s=(ns - since) / NS,
            )
        )
        self.regime, self._since, self._credit, self._released = target, ns, 0, []
        return target

    def _note(self, ns: int, kind: str, text: str) -> None:
        self.counts[kind] += 1
        self.notes.append(RegimeNote(pd.Timestamp(ns, tz="UTC"), kind, text))


def _value(value: Any, name: str) -> float:
    """Return a metric as a number, NaN where it is none; +inf is a value of RDP only."""
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    if math.isinf(number) and not (name == "rdp" and number > 0.0):
        return math.nan
    return number


def _minutes(value: Any) -> float:
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
