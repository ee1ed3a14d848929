"""Orders in flight and positions: reports are cumulative, so they may come twice, late and out of order."""

from __future__ import annotations

from collections import deque
from typing import Any

from crosswind.problems.hedge.controller.messages import OrderReport

__all__ = ["FlightBook"]

_CLOSED = 1024  # orders that are done and still remembered, for fills that come late
_OPEN = 1024  # orders without a final report; more, and the oldest are given up
_ROUNDING = 1e-9
_NONSENSE = 2.0  # times its size: a fill beyond it is an error of the report


class FlightBook:
    """What is held and what is under way, in contracts.

    Parameters
    ----------
    count
        Number of instruments m.
    expected_fill
        Share of an order in flight that is expected to be filled (m,).
    late_after_s
        Age from which an order counts as unfilled.
    """

    __slots__ = ("_ages", "_closed", "expected_fill", "late_after_s", "open", "position")

    def __init__(self, count: int, expected_fill: tuple[float, ...], late_after_s: float) -> None:
        self.position = [0.0] * count
        self.expected_fill, self.late_after_s = expected_fill, late_after_s
        # id: [instrument, sent, filled, time sent]
        self.open: dict[str, list[Any]] = {}
        self._closed: dict[str, list[Any]] = {}
        # Its names, oldest first: a dict looks for its first key past all that were taken out before.
        self._ages = deque[str]()

    def send(self, name: str, instrument: int, contracts: float, time_s: float) -> None:
        """Count an order as sent."""
        self.open[name] = [instrument, contracts, 0.0, time_s]
        if len(self.open) > _OPEN:
            oldest = next(iter(self.open))
            self._close(oldest)

    def _close(self, name: str) -> None:
        self._closed[name] = self.open.pop(name)
        self._ages.append(name)
        if len(self._ages) > _CLOSED:
            self._closed.pop(self._ages.popleft(), None)

    def take(self, report: OrderReport, alarms: list[str]) -> tuple[int, float]:
        """Book a report; return the instrument and the contracts that are newly filled."""
        name, filled, done = report
        order = known = self.open.get(name)
        if order is None:
            order = self._closed.get(name)
            if order is None:
                alarms.append(f"report of an unknown order {name}")
                return -1, 0.0
        instrument, sent, before, _ = order
        filled, size, new = float(filled), abs(sent), 0.0
        far = abs(filled)
        if not far <= _NONSENSE * size or filled * sent < 0.0:
            alarms.append(f"report of {name} makes no sense: {filled}")
        elif far > abs(before):  # or it was known, or is older than what is known
            order[2], new = filled, filled - before
            self.position[instrument] += new
            if far > size * (1.0 + _ROUNDING):
                alarms.append(f"{name} was filled beyond its size")
            if known is None:
                alarms.append(f"{name} was filled after it was done")
        if known is not None and (done or abs(order[2]) >= size * (1.0 - _ROUNDING)):
            self._close(name)
        return instrument, new

    def expected(self, now: float, out: list[float], alarms: list[str]) -> None:
        """Write what orders in flight are expected to add (m,)."""
        for j in range(len(out)):
            out[j] = 0.0
        for name, (j, sent, filled, time_s) in self.open.items():
            if now - time_s > self.late_after_s:
                alarms.append(f"{name} is late")
            else:
                out[j] += self.expected_fill[j] * (sent - filled)

    def worst(self, instrument: int, side: float) -> float:
        """Return the position where all that is in flight on one side fills and nothing on the other."""
        total = self.position[instrument]
        for j, sent, filled, _ in self.open.values():
            rest = sent - filled
            if j == instrument and rest * side > 0.0:
                total += rest
        return total

    def save(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "position": list(self.position),
            "open": [[n, *o] for n, o in self.open.items()],
            "closed": [[n, *o] for n, o in self._closed.items()],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Take over a state."""
        self.position = [float(p) for p in saved["position"]]
        self.open = {row[0]: list(row[1:]) for row in saved["open"]}
        self._closed = {row[0]: list(row[1:]) for row in saved["closed"]}
        self._ages = deque(self._closed)
