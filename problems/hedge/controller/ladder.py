"""Latches of the ladder: what failed stays out until it has worked again for a while."""

from __future__ import annotations

__all__ = ["Latch"]


class Latch:
    """Trips after ``trip_after`` failures in a row, releases after ``rearm_after`` successes in a row.

    Parameters
    ----------
    trip_after, rearm_after
        At least 1.

    Attributes
    ----------
    tripped
        Whether it is out.
    count
        Failures in a row while it is in, successes in a row while it is out.
    """

    __slots__ = ("count", "rearm_after", "trip_after", "tripped")

    def __init__(self, trip_after: int, rearm_after: int) -> None:
        self.trip_after, self.rearm_after = trip_after, rearm_after
        self.tripped, self.count = False, 0

    def report(self, good: bool) -> bool:
        """Take the outcome of one attempt and return whether the latch is tripped now."""
        if good == self.tripped:
            self.count += 1
            if self.count >= (self.rearm_after if self.tripped else self.trip_after):
                self.tripped, self.count = not self.tripped, 0
        else:
            self.count = 0
        return self.tripped

    def save(self) -> list[int]:
        """Return the state."""
        return [int(self.tripped), self.count]

    def restore(self, saved: list[int]) -> None:
        """Take over a state."""
        self.tripped, self.count = bool(saved[0]), int(saved[1])
