"""The last check: limits on lots that hold whatever the program or a rule has asked for.

It shares no code with the program. Each cut is towards fewer lots; what comes out keeps room (clip and liquidity),
order size, notional, messages and rate, and does not increase an excess of the gap caps. A rate bounds how fast a trade
grows or turns; slowing down and stopping are always allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from crosswind.problems.hedge.controller.book import FlightBook
from crosswind.problems.hedge.controller.model import HedgeSetup

__all__ = ["LastCheck"]

_EDGE = 1e-9  # of a lot
_MORE = 1.0 + 1e-12
_MANY = 10**15


class LastCheck:
    """What one slice may send, in whole lots.

    Parameters
    ----------
    setup
        The controller's.

    Attributes
    ----------
    before, sent
        Net lots of the slice before and those sent in this one (m,).
    gross
        Lots sent in this slice, without sign (m,).
    times
        When orders were sent within the message window [s].
    """

    def __init__(self, setup: HedgeSetup) -> None:
        self.setup = setup
        m = len(setup.instruments)
        self._loadings = setup.loadings.tolist()
        self._ways = [[(j, e) for j, e in enumerate(row) if e] for row in self._loadings]
        self._rate = [i.rate for i in setup.instruments]
        # Only the room can bind.
        self._plain = [
            i.rate == math.inf and i.order_lots == math.inf and i.notional == math.inf for i in setup.instruments
        ]
        self._rated = any(rate < math.inf for rate in self._rate)
        self._counted = setup.messages < math.inf
        self._size = [i.order_lots for i in setup.instruments]
        self._notional = [i.notional for i in setup.instruments]
        self._lot = [i.lot for i in setup.instruments]
        self.before, self.sent, self.gross = [0] * m, [0] * m, [0] * m
        self.times: list[float] = []
        self._bounds: Sequence[tuple[float, float]] | None = None

    def next_slice(self, passed: int) -> None:
        """Move on by slices; one without a trade counts as a slice of zero."""
        m = len(self._lot)
        self.before = self.sent if passed == 1 else [0] * m
        self.sent, self.gross = [0] * m, [0] * m

    def book(self, lots: Sequence[int], now: float) -> None:
        """Count lots as sent."""
        sent, gross = self.sent, self.gross
        for j, n in enumerate(lots):
            if n:
                sent[j] += n
                gross[j] += abs(n)
                if self._counted:
                    self.times.append(now)

    def keeps_rate(self, lots: Sequence[int], value: Sequence[float]) -> bool:
        """Return whether the slice's totals are within the rate of those before, both ways, where there is a trade."""
        return not self._rated or all(
            not n or abs(self.sent[j] + n - self.before[j]) * value[j] <= self._rate[j] * (1.0 + _EDGE)
            for j, n in enumerate(lots)
        )

    def cut(
        self,
        lots: Sequence[int],
        value: Sequence[float],
        room: Sequence[float],
        gap: Sequence[float],
        caps: Sequence[float],
        book: FlightBook,
        now: float,
        bounds: Sequence[tuple[float, float]] | None = None,
    ) -> tuple[list[int], tuple[str, ...]]:
        """Return the lots that may be sent and the limits that cut them, as "limit: instrument".

        Parameters
        ----------
        lots
            Asked for (m,).
        value, room
            Currency of a lot, and what this slice still takes (m,) [currency].
        gap, caps
            By exposure (k,) [currency].
        book
            Positions and orders in flight.
        now
            The clock [s].
        bounds
            Lowest and highest net trade by exposure (k,) [currency]; None: none.
        """
        self._bounds = bounds
        out, plain = list(lots), self._plain
        binding: list[str] = []
        for j, n in enumerate(lots):
            if n and not (plain[j] and abs(n) * value[j] <= room[j]):
                out[j] = self._one(j, n, value[j], room[j], book, binding)
        if any(out) and not self._allowed(out, value, gap, caps):
            out = self._within_gap(out, value, gap, caps, binding)
        if self._counted:
            out = self._within_messages(out, value, gap, caps, now, binding)
        return out, tuple(binding)

    def _one(self, j: int, want: int, value: float, room: float, book: FlightBook, binding: list[str]) -> int:
        """Return what one instrument's own limits leave."""
        n, name = want, self.setup.instruments[j].name
        if not self._kept(j, n, value):
            rate = self._rate[j] / value
            low, high = self.before[j] - rate - self.sent[j], self.before[j] + rate - self.sent[j]
            n = math.ceil(low - _EDGE) if n < low else math.floor(high + _EDGE)
            # Where the band lies on the other side, the way to turn is to stop first.
            n = n if n * want > 0 else 0
            binding.append(f"rate: {name}")
        whole = _whole(room / value)
        if abs(n) > whole:
            n = whole if n > 0 else -whole
            binding.append(f"room: {name}")
        whole = _whole(self._size[j])
        if abs(n) > whole:
            n = whole if n > 0 else -whole
            binding.append(f"order size: {name}")
        if n and self._notional[j] < math.inf:
            most, low, high = self._notional[j] / value, *(book.worst(j, s) / self._lot[j] for s in (-1.0, 1.0))
            # A trade that lessens what is held needs no room.
            free = max(most - high, -high, 0.0) if n > 0 else max(most + low, low, 0.0)
            whole = _whole(free)
            if abs(n) > whole:
                n = whole if n > 0 else -whole
                binding.append(f"notional: {name}")
        return n if self._kept(j, n, value) else 0

    def _kept(self, j: int, lots: int, value: float) -> bool:
        """Return whether a trade keeps the rate: it stops, changes by no more, or slows down without turning."""
        rate = self._rate[j]
        if rate == math.inf or not lots:
            return True
        total, before = self.sent[j] + lots, self.before[j]
        return abs(total - before) * value <= rate + _EDGE * value or (total * before >= 0 and abs(total) < abs(before))

    def _allowed(
        self, lots: Sequence[int], value: Sequence[float], gap: Sequence[float], caps: Sequence[float]
    ) -> bool:
        """Return whether the net trades stay within the bounds and add nothing to an excess of the gap caps."""
        bounds = self._bounds
        for i, row in enumerate(self._ways):
            effect, before = 0.0, gap[i]
            for j, e in row:
                effect += e * lots[j] * value[j]
            after = abs(before - effect)
            if after > abs(before) * _MORE and after > caps[i] * _MORE:
                return False
            if bounds is not None and not bounds[i][0] <= effect <= bounds[i][1]:
                return False
        return True

    def _within_gap(
        self,
        lots: Sequence[int],
        value: Sequence[float],
        gap: Sequence[float],
        caps: Sequence[float],
        binding: list[str],
    ) -> list[int]:
        share = 1.0
        for i, row in enumerate(self._loadings):
            effect = math.fsum(row[j] * n * value[j] for j, n in enumerate(lots))
            side = math.copysign(1.0, effect)
            limits = [("gap cap", side * gap[i] + max(caps[i], abs(gap[i])))]
            if self._bounds is not None:
                limits.append(("bounds", max(side * self._bounds[i][0], side * self._bounds[i][1])))
            for name, most in limits:
                if abs(effect) > most:
                    share = min(share, most / abs(effect))
                    binding.append(f"{name}: {self.setup.exposures[i]}")
        out = [int(n * share) for n in lots]  # towards zero
        out = [n if self._kept(j, n, value[j]) else 0 for j, n in enumerate(out)]
        return out if self._allowed(out, value, gap, caps) else [0] * len(out)

    def _within_messages(
        self,
        lots: list[int],
        value: Sequence[float],
        gap: Sequence[float],
        caps: Sequence[float],
        now: float,
        binding: list[str],
    ) -> list[int]:
        oldest = now - self.setup.message_window_s
        self.times = [t for t in self.times if t > oldest]
        free = max(int(min(self.setup.messages, _MANY)) - len(self.times), 0)
        wanted = sorted((j for j, n in enumerate(lots) if n), key=lambda j: (-abs(lots[j]) * value[j], j))
        for j in wanted[free:]:
            lots[j] = 0
            binding.append(f"messages: {self.setup.instruments[j].name}")
        # A leg that is missing may turn the rest against the gap.
        if len(wanted) > free and any(lots) and not self._allowed(lots, value, gap, caps):
            return [0] * len(lots)
        return lots


def _whole(lots: float) -> int:
    """Return the whole lots within a bound, which may be infinite."""
    return math.floor(lots + _EDGE) if lots < _MANY else _MANY
