"""Anti-churn: how often a resting order may be moved, and how long a venue is left alone after a reject."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from crosswind.problems.roll.clock import nanoseconds
from crosswind.solvers.errors import InvalidInput, LimitBreach

__all__ = ["ChurnGovernor", "ChurnLimits"]

_NS = 1_000_000_000
_MINUTE = 60 * _NS
_WHY = ("", "dwell", "rate", "cooldown", "clock back")


@dataclass(frozen=True)
class ChurnLimits:
    """Limits on what a policy may do to its place in the queue.

    Parameters
    ----------
    dwell_s
        Least time that an order rests before it is moved, counted from when it was placed or last moved [s], >= 0.
    max_replaces_per_minute
        Most moves and cancels in any (t − 60 s, t], a whole number >= 0.
    cooldown_s
        After a reject nothing is sent to the venue for so long [s], >= 0.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    dwell_s: float = 15.0
    max_replaces_per_minute: int = 3
    cooldown_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("dwell_s", "cooldown_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < math.inf:
                raise InvalidInput("is out of range", field=name, value=value, remedy="pass 0 or more")
        most = self.max_replaces_per_minute
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise InvalidInput("is out of range", field="max_replaces_per_minute", value=most, remedy="a whole number")


class ChurnGovernor:
    """Asked before each act, told after it; what it was not asked for and would have refused, it refuses to record.

    One governor per order and venue. A time before the last recorded one gives no leave: the clock went back. A
    *forced* cancel, for safety, is always recorded; it counts towards the rate, so that the next move waits.

    Parameters
    ----------
    limits
        The limits.

    Attributes
    ----------
    counts
        ``places``, ``replaces``, ``forced``, ``rejects`` so far, and ``refused`` requests by reason.
    """

    def __init__(self, limits: ChurnLimits | None = None) -> None:
        if limits is not None and not isinstance(limits, ChurnLimits):
            raise InvalidInput("are no ChurnLimits", field="limits", value=type(limits).__name__, remedy="pass some")
        self.limits = ChurnLimits() if limits is None else limits
        self._dwell, self._cooldown = (round(v * _NS) for v in (self.limits.dwell_s, self.limits.cooldown_s))
        self._moves: deque[int] = deque()
        self._placed: int | None = None
        self._rejected: int | None = None
        self._last: int | None = None
        self.counts: dict[str, int] = dict.fromkeys(("places", "replaces", "forced", "rejects"), 0)
        self.counts.update({f"refused {why}": 0 for why in _WHY if why})

    def why_not(self, time: pd.Timestamp | int, act: str = "replace") -> str:
        """Return why an act would be refused: "dwell", "rate", "cooldown", "clock back"; "" where it may be done.

        Parameters
        ----------
        time
            When (tz-aware, or ns since 1970 UTC).
        act
            "replace" (move or cancel a resting order) or "send" (place or cross).
        """
        ns = nanoseconds(time)
        if act not in ("replace", "send"):
            raise InvalidInput("is unknown", field="act", value=act, remedy="pass 'replace' or 'send'")
        if self._last is not None and ns < self._last:
            return "clock back"
        if self._rejected is not None and ns - self._rejected < self._cooldown:
            return "cooldown"
        if act == "send":
            return ""
        if self._placed is not None and ns - self._placed < self._dwell:
            return "dwell"
        return "rate" if self.replaces_last_minute(ns) >= self.limits.max_replaces_per_minute else ""

    def may_replace(self, time: pd.Timestamp | int) -> bool:
        """Return whether a resting order may be moved or cancelled now; a no is counted by its reason."""
        return self._answer(time, "replace")

    def may_send(self, time: pd.Timestamp | int) -> bool:
        """Return whether an order may be sent now: not within the cooldown of a reject."""
        return self._answer(time, "send")

    def record_place(self, time: pd.Timestamp | int) -> None:
        """Record that an order was placed: its dwell begins.

        Raises
        ------
        LimitBreach
            Within the cooldown, or at a time before the last one.
        """
        self._placed = self._enforce(time, "send")
        self.counts["places"] += 1

    def record_send(self, time: pd.Timestamp | int) -> None:
        """Record that an order was sent which does not rest; it has no dwell.

        Raises
        ------
        LimitBreach
            Within the cooldown, or at a time before the last one.
        """
        self._enforce(time, "send")

    def record_replace(self, time: pd.Timestamp | int, *, forced: bool = False) -> None:
        """Record that a resting order was moved or cancelled: its dwell begins anew.

        Parameters
        ----------
        time
            When.
        forced
            Whether it was a cancel for safety, which no limit holds up.

        Raises
        ------
        LimitBreach
            If it is not forced and a limit forbids it; nothing is recorded then.
        """
        ns = nanoseconds(time)
        if forced:
            ns = ns if self._last is None else max(ns, self._last)
            self._last = ns
        else:
            ns = self._enforce(ns, "replace")
        self._forget(ns)
        self._moves.append(ns)
        self._placed = ns
        self.counts["forced" if forced else "replaces"] += 1

    def record_reject(self, time: pd.Timestamp | int) -> None:
        """Record that the venue refused an order: the cooldown begins, or begins anew."""
        ns = nanoseconds(time)
        self._rejected = self._last = ns if self._last is None else max(ns, self._last)
        self.counts["rejects"] += 1

    def replaces_last_minute(self, time: pd.Timestamp | int) -> int:
        """Return the moves and cancels in (t − 60 s, t]."""
        ns = nanoseconds(time)
        return sum(1 for at in self._moves if ns - _MINUTE < at <= ns)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold."""
        return {
            "limits": asdict(self.limits),
            "moves": list(self._moves),
            "placed": self._placed,
            "rejected": self._rejected,
            "last": self._last,
            "counts": dict(self.counts),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Take over a snapshot of a governor with the same limits.

        Raises
        ------
        InvalidInput
            If its limits were others.
        """
        if snapshot.get("limits") != asdict(self.limits):
            raise InvalidInput(
                "was taken with other limits", field="snapshot", value=snapshot.get("limits"), remedy="use the same"
            )
        self._moves = deque(int(at) for at in snapshot["moves"])
        self._placed, self._rejected, self._last = (
            None if snapshot[name] is None else int(snapshot[name]) for name in ("placed", "rejected", "last")
        )
        self.counts = {name: int(count) for name, count in snapshot["counts"].items()}

    def _answer(self, time: pd.Timestamp | int, act: str) -> bool:
        why = self.why_not(time, act)
        if why:
            self.counts[f"refused {why}"] += 1
        return not why

    def _enforce(self, time: pd.Timestamp | int, act: str) -> int:
        ns = nanoseconds(time)
        why = self.why_not(ns, act)
        if why:
            self.counts[f"refused {why}"] += 1
            raise LimitBreach(
                f"may not {act} now", field=why, value=str(pd.Timestamp(ns, tz="UTC")), remedy="ask before acting"
            )
        self._last = ns
        return ns

    def _forget(self, ns: int) -> None:
        while self._moves and self._moves[0] <= ns - _MINUTE:
            self._moves.popleft()
