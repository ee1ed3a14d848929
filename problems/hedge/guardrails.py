"""Guardrails of the hedge: hard limits on a code path of their own, with hysteresis, words and events for the journal.

They stand between a policy and the order, and hold whatever the optimiser says. Each guard is a small latch with
a trip and a release threshold; :class:`Guardrails` takes one observation, lets every guard rule on it and intersects
the bounds. No trade is always allowed: every bound holds 0, so the intersection is never empty. Adding a guard can
only narrow it.

``check`` never raises: what is not a number trips the guard that needs it. It is deterministic: the same observations
give the same verdicts, and a snapshot restored elsewhere goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import operator
from dataclasses import dataclass, replace
from typing import Any

from crosswind.problems.hedge.guardrails_config import GuardrailConfig
from crosswind.problems.hedge.guardrails_latch import GuardEvent, Observation, finite
from crosswind.problems.hedge.guardrails_rules import Guard, Ruling, guards_of
from crosswind.problems.hedge.state import Rung
from crosswind.solvers.errors import InvalidInput

__all__ = ["Guardrails", "Verdict"]

_VERSION = 1


@dataclass(frozen=True)
class Verdict:
    """What may be traded now.

    Parameters
    ----------
    trade
        The trade to send [currency]: the policy's or the rule's, within the bounds; 0 where it was not a number.
    low, high
        Bounds of a trade, low <= 0 <= high [currency].
    rung
        Best rung that is still allowed: None any, RULE the fallback rule, HOLD nothing.
    trigger_factor
        What a rule's threshold is to be multiplied with, at most 1.
    reliance
        Share of the required hedge that may be held, at most 1.
    tripped
        Guards that are tripped.
    reasons
        In words, why the trade is not what was proposed.
    events
        Trips and releases of this check, for the journal.
    """

    trade: float
    low: float
    high: float
    rung: Rung | None
    trigger_factor: float
    reliance: float
    tripped: tuple[str, ...]
    reasons: tuple[str, ...]
    events: tuple[GuardEvent, ...]

    def summary(self) -> str:
        """Return one line."""
        rung = "" if self.rung is None else f", {self.rung.name} at best"
        why = "; ".join(self.reasons)
        return f"trade {self.trade:,.6g} within [{self.low:,.6g}, {self.high:,.6g}]{rung}" + (f": {why}" if why else "")


class Guardrails:
    """All guards of one hedge.

    Parameters
    ----------
    config
        Which guards are on, and their thresholds.

    Raises
    ------
    InvalidInput
        For what is not a GuardrailConfig.
    """

    def __init__(self, config: GuardrailConfig) -> None:
        if not isinstance(config, GuardrailConfig):
            raise InvalidInput("not a GuardrailConfig", field="config", value=type(config).__name__, remedy="make one")
        self.config = config
        self._guards: dict[str, Guard] = guards_of(config)
        self._time_ns = 0

    @property
    def tripped(self) -> tuple[str, ...]:
        """Settings' names of the guards that are tripped."""
        return tuple(key for key, guard in self._guards.items() if guard.latch.tripped)

    @property
    def locked(self) -> tuple[str, ...]:
        """Those of them that only a person releases."""
        return tuple(key for key, guard in self._guards.items() if guard.latch.tripped and guard.latch.locked)

    @property
    def trigger_factor(self) -> float:
        """What a rule's threshold is to be multiplied with now."""
        basis = self.config.basis
        return basis.tighten if basis is not None and self._guards["basis"].latch.tripped else 1.0

    def check(self, observation: Observation) -> Verdict:
        """Rule on one observation and count the trade that comes out as sent.

        Parameters
        ----------
        observation
            What is known now; it may hold anything.

        Returns
        -------
        Verdict
            HOLD with the reason, where the guards themselves broke.
        """
        try:
            return self._check(observation)
        except Exception as err:
            # The last line of defence answers whatever it is handed; what broke is in the reason.
            why = (f"guardrails: {type(err).__name__}: {err}",)
            return Verdict(0.0, 0.0, 0.0, Rung.HOLD, 1.0, 1.0, self.tripped, why, ())

    def _check(self, seen: Observation) -> Verdict:
        seen = replace(seen, time_ns=operator.index(seen.time_ns))
        self._time_ns = max(self._time_ns, seen.time_ns)
        rulings = [guard.look(seen) for guard in self._guards.values()]
        low = max([-math.inf, *(ruling.low for ruling in rulings)])
        high = min([math.inf, *(ruling.high for ruling in rulings)])
        rung = _worst(rulings)
        reasons = [ruling.reason for ruling in rulings if ruling.reason]
        wanted: Any = seen.proposed
        if rung is Rung.RULE and seen.rule is not None:
            wanted = seen.rule
        if rung is Rung.HOLD:
            low = high = 0.0
        if not finite(wanted):
            trade = 0.0
            reasons.append("the trade is not finite")
        else:
            trade = min(max(float(wanted), low), high)
            if trade != float(wanted) and not reasons:
                reasons.append(f"clipped from {float(wanted):,.6g}")
        trade += 0.0  # no negative zero
        for guard in self._guards.values():
            guard.sent(seen, trade)
        correlation = self.config.correlation
        broken = correlation is not None and self._guards["correlation"].latch.tripped
        return Verdict(
            trade=trade,
            low=low,
            high=high,
            rung=rung,
            trigger_factor=self.trigger_factor,
            reliance=correlation.reliance if correlation is not None and broken else 1.0,
            tripped=self.tripped,
            reasons=tuple(reasons),
            events=tuple(ruling.event for ruling in rulings if ruling.event is not None),
        )

    def rearm(self, guard: str, by: str, reason: str) -> GuardEvent | None:
        """Release a guard by hand; return the event for the journal, None where it was not tripped.

        Parameters
        ----------
        guard
            Name of its setting: "gap", "basis", "correlation", "stale", "aggression", "messages", "notional".
        by, reason
            Who, and why: both are needed.

        Raises
        ------
        InvalidInput
            For a guard that is not on, or without a name and a reason.
        """
        if guard not in self._guards:
            raise InvalidInput("is not on", field="guard", value=guard, remedy=f"choose among {list(self._guards)}")
        if not (isinstance(by, str) and by.strip() and isinstance(reason, str) and reason.strip()):
            raise InvalidInput("who and why are needed", field="by", value=(by, reason), remedy="name both")
        if not self._guards[guard].latch.rearm():
            return None
        name = self._guards[guard].name
        return GuardEvent(self._time_ns, name, "rearm", None, 0.0, f"{name} released by {by}: {reason}")

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain values that JSON can hold."""
        guards = {key: {"latch": guard.latch.snapshot(), "state": guard.state()} for key, guard in self._guards.items()}
        return {"version": _VERSION, "time_ns": self._time_ns, "guards": guards}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a state of :meth:`snapshot`: wholly, or not at all.

        Raises
        ------
        InvalidInput
            For a state of other guards or another version, or one that is damaged.
        """
        fresh = guards_of(self.config)
        try:
            if state["version"] != _VERSION or set(state["guards"]) != set(fresh):
                raise InvalidInput(
                    "was taken of other guards",
                    field="state",
                    value=sorted(state["guards"]),
                    remedy="restore with the settings that it was taken with",
                )
            json.dumps(state, allow_nan=False)
            time_ns = int(state["time_ns"])
            for key, guard in fresh.items():
                guard.latch.restore(state["guards"][key]["latch"])
                guard.take(state["guards"][key]["state"])
        except (KeyError, TypeError, ValueError) as err:
            if isinstance(err, InvalidInput):
                raise
            raise InvalidInput("is damaged", field="state", value=repr(err), remedy="use an older snapshot") from err
        self._guards, self._time_ns = fresh, time_ns


def _worst(rulings: list[Ruling]) -> Rung | None:
    rungs = {ruling.rung for ruling in rulings}
    return Rung.HOLD if Rung.HOLD in rungs else Rung.RULE if Rung.RULE in rungs else None
