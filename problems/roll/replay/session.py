"""A roll order at the venue: messages under way, the resting order, legs that wait for their second, the forced cross.

Within a bar everything happens in the order of time. A message that was decided at the end of bar k arrives after the
venue's latency; when it is refused it is sent again. What it asks for is cut, on arrival, to what the order still
allows: done and resting never exceed the order's size, whatever was under way. The order's cap on the imbalance of the
legs and the anti-churn limits are applied here, not by the policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from crosswind.problems.roll.churn import ChurnGovernor
from crosswind.problems.roll.model import RollAction
from crosswind.problems.roll.replay.books import Queue, face_of
from crosswind.problems.roll.replay.costs import Costs
from crosswind.problems.roll.replay.draws import CROSS, LEG, REST, SECOND, Draws
from crosswind.problems.roll.replay.episodes import RollEpisode
from crosswind.problems.roll.replay.legs import LegDesk, Lot
from crosswind.problems.roll.replay.rules import RollVenue

__all__ = ["COUNTS", "RollSession"]

COUNTS = ("messages", "replaces", "rejects", "retries", "abandoned", "churn_refused", "clipped", "partials", "unsound")
_NEW, _ADD, _MOVE, _CUT = range(4)


@dataclass(slots=True, eq=False)
class _Message:
    at_ns: int
    order: int
    kind: int
    what: int
    quantity: int
    let_ns: int
    decided: int
    working: int
    attempt: int = 0


class RollSession:
    """The state of one order during one replay.

    Parameters
    ----------
    episode
        The order with its market.
    venue
        Rules of the venue.
    governor
        Anti-churn limits of this replay.
    seed
        Of the replay; with the episode's own it keys the draws.
    """

    def __init__(self, episode: RollEpisode, venue: RollVenue, governor: ChurnGovernor, seed: int) -> None:
        market, order = episode.market, episode.order
        first, last = episode.first, episode.last
        part = slice(first, last + 1)
        self.venue, self.governor, self.order = venue, governor, order
        self.first, self.bars = first, last - first
        self.side, self.size = order.side, order.size
        self.ends: list[int] = market.times.asi8[part].tolist()
        self.mid: list[float] = (0.5 * (market.bid[part] + market.ask[part])).tolist()
        self.spread = face_of(
            self.side,
            market.tick,
            (market.bid[part], market.ask[part]),
            (market.bid_size[part], market.ask_size[part]),
            (market.sold[part], market.bought[part]),
            market.cancelled[part, 0 if self.side > 0 else 1],
            venue.participation,
            venue.level_depth,
            venue.levels,
            0,
            "spread quotes",
        )
        self.queue = Queue(self.spread)
        self.costs = Costs(self.side, market.multiplier, venue.fee_per_contract, episode.arrival, first)
        self.desk = LegDesk(episode, venue, self.costs, self.mid)
        self.draws = Draws((episode.seed, seed), self.bars, venue.max_retries + 1)
        self.half_life_ns = venue.refill_half_life_s * 1e9
        self.messages: list[_Message] = []
        self.counts = dict.fromkeys(COUNTS, 0)
        self.events: list[tuple[int, str]] = []  # when the order was moved, refused, sent again
        self.done = 0  # spreads of which the first leg at least is done
        self.forced = 0
        self.cooldown_ns = round(governor.limits.cooldown_s * 1e9)
        self.blocked_ns = self.ends[0]  # nothing may be sent before
        self._sent = 0
        self._resting_under_way = False

    @property
    def under_way(self) -> int:
        """Spreads in messages that may still cross or start in the legs."""
        return sum(message.quantity for message in self.messages if message.kind != REST)

    @property
    def remaining(self) -> int:
        """Spreads still to be done, the resting ones among them, those under way not."""
        # While the resting order trades, a cross of the same spreads may be under way: it is cut when it arrives.
        return max(0, self.size - self.done - (self.under_way if self.messages else 0))

    # -- what a policy asks for ----------------------------------------------------------------------------------------

    def submit(self, bar: int, action: RollAction) -> None:
        """Send what an action asks for at the end of bar ``bar`` of the window, cut to what is allowed.

        Crossing comes before legs, legs before resting; numbers that are no counts are read as 0.
        """
        now = self.ends[bar]
        remaining = self.remaining
        cross = self._count(action.cross, remaining)
        room = self.order.max_naked - self.desk.naked
        if room > 0 and self.messages:
            room -= sum(message.quantity for message in self.messages if message.kind == LEG)
        leg = self._count(action.leg, max(0, min(remaining - cross, room)))
        rest = self._count(action.rest, remaining - cross - leg)
        self._rest(bar, now, rest, bool(action.reprice))
        if cross > 0 and self._may_send(now):
            self._send(now, CROSS, 0, cross, 0, bar)
        if leg > 0 and self._may_send(now):
            self._send(now, LEG, 0, leg, self._let(action.max_let_s), bar)

    def _rest(self, bar: int, now: int, rest: int, reprice: bool) -> None:
        if self._resting_under_way:  # the venue knows one change of an order at a time
            return
        working = self.queue.working
        if working == 0:
            if rest > 0 and self._may_send(now):
                self._send(now, REST, _NEW, rest, 0, bar)
            return
        moved = self.queue.price != self.spread.own[bar]
        if rest < working or (moved and reprice):
            if rest < working:
                what, quantity = (_MOVE if moved and reprice and rest > 0 else _CUT), rest
            else:
                what, quantity = _MOVE, rest
            if not self._may_send(now):
                return
            if not self.governor.may_replace(now):
                self.counts["churn_refused"] += 1
                return
            self.counts["replaces"] += 1
            self.events.append((now, "replace"))
            self._send(now, REST, what, quantity, 0, bar)
        elif rest > working and not moved and self._may_send(now):
            self._send(now, REST, _ADD, rest - working, 0, bar)

    def _may_send(self, now: int) -> bool:
        if self.governor.may_send(now):
            return True
        self.counts["churn_refused"] += 1
        return False

    def _send(self, now: int, kind: int, what: int, quantity: int, let_ns: int, bar: int) -> None:
        v = self.venue
        late = v.latency_s + self.draws.late_s(bar, kind, v.latency_jitter_s)
        self._sent += 1
        self.counts["messages"] += 1
        self.messages.append(
            _Message(now + round(late * 1e9), self._sent, kind, what, quantity, let_ns, bar, self.queue.working)
        )
        if kind == REST:
            self._resting_under_way = True
        if kind == REST and what == _NEW:
            self.governor.record_place(now)
        elif kind == REST and what in (_MOVE, _CUT):
            self.governor.record_replace(now)
        else:
            self.governor.record_send(now)

    def _count(self, value: object, most: int) -> int:
        if type(value) is int:
            count = value
        else:
            number = _number(value)
            if not number >= 0.0:  # NaN among them
                self.counts["unsound"] += 1
                return 0
            count = most if number >= most else int(number)
        if count < 0:
            self.counts["unsound"] += 1
            return 0
        return min(count, most)

    def _let(self, value: object) -> int:
        """Return a time in ns, cut to what is longer than any window of the order."""
        seconds = _number(value)
        if not seconds >= 0.0:
            self.counts["unsound"] += 1
            return 0
        return round(min(seconds, 2e-9 * (self.ends[-1] - self.ends[0])) * 1e9)

    # -- what the market does ------------------------------------------------------------------------------------------

    def play(self, bar: int) -> None:
        """Run bar ``bar`` of the window, from the end of the one before to its own."""
        at = 0.0
        if self.messages or self.desk.lots:
            at = self._events(bar)
        if self.queue.tickets:
            self._flow(bar, at, 1.0)
        if self.desk.lots:
            self.desk.flow(at, 1.0, (self.ends[bar], bar))

    def _events(self, bar: int) -> float:
        start, end = self.ends[bar - 1], self.ends[bar]
        at, turn = 0.0, self.draws.turn(bar)
        while True:
            event: _Message | Lot | None = None
            when = end + 1
            for message in self.messages:
                if message.at_ns < when or (
                    message.at_ns == when and isinstance(event, _Message) and message.order < event.order
                ):
                    event, when = message, message.at_ns
            for lot in self.desk.lots:
                if lot.due_ns < when:
                    event, when = lot, lot.due_ns
            if event is None:
                return at
            when = max(when, start)
            until = (when - start) / (end - start)
            if until > at:
                if self.queue.tickets:
                    self._flow(bar, at, until)
                if self.desk.lots:
                    self.desk.flow(at, until, (self._moment(bar, until), bar))
                at = until
            if isinstance(event, Lot):
                if event.left > 0:
                    self._cross_second(event, bar, when, at, turn)
            else:
                self._arrive(event, bar, when, at, turn)

    def _arrive(self, message: _Message, bar: int, when: int, at: float, turn: float) -> None:
        kind, v = message.kind, self.venue
        if message.attempt and when < self.blocked_ns:  # another message was refused meanwhile
            message.at_ns = self.blocked_ns
            return
        if self.draws.refused(message.decided, kind, message.attempt, v.reject_probability):
            self._rejected(when)
            message.attempt += 1
            if message.attempt <= v.max_retries:
                self.counts["retries"] += 1
                self.events.append((when, "retry"))
                message.at_ns = max(when + round(v.retry_delay_s * 1e9), self.blocked_ns)
                return
            self.counts["abandoned"] += 1
            self._drop(message)
            return
        self._drop(message)
        book = bar if at >= turn else bar - 1
        if kind == REST:
            self._change(message, book, bar)
            return
        free = self.size - self.done - self.queue.working
        quantity = min(message.quantity, free)
        if quantity < message.quantity:
            self.counts["clipped"] += 1
        if quantity <= 0:
            return
        if kind == CROSS:
            competing = int(self.spread.lifted[bar] * at) if book < bar else 0
            self._cross(quantity, book, competing, (when, bar), "cross", message.attempt, message.decided)
        else:
            self.done += quantity
            self.desk.start(quantity, book, (when, bar), message.let_ns, message.attempt, message.decided)

    def _rejected(self, when: int) -> None:
        self.counts["rejects"] += 1
        self.events.append((when, "reject"))
        self.governor.record_reject(when)
        self.blocked_ns = when + self.cooldown_ns

    def _drop(self, message: _Message) -> None:
        self.messages.remove(message)
        if message.kind == REST:
            self._resting_under_way = False

    def _change(self, message: _Message, book: int, bar: int) -> None:
        queue, what = self.queue, message.what
        free = self.size - self.done - self.under_way
        if what == _CUT:
            queue.withdraw(max(0, queue.working - message.quantity))
            return
        wanted = message.quantity
        if what == _MOVE:
            # What traded since the decision is not placed again.
            wanted = max(0, wanted - max(0, message.working - queue.working))
            queue.withdraw(queue.working)
        elif what == _ADD and not queue.tickets:
            return  # all traded before the addition arrived: it was meant for that order's place
        quantity = min(wanted, free - queue.working)
        if quantity < wanted:
            self.counts["clipped"] += 1
        if quantity > 0:
            queue.join(quantity, book, bar, self.venue.queue)

    def _flow(self, bar: int, since: float, until: float) -> None:
        done = self.queue.flow(bar, since, until)
        if done:
            self.done += done
            price = self.spread.points(self.queue.price)
            when = (self._moment(bar, until), bar)
            self.costs.spread(when, done, price, price, self.mid[bar - 1], "passive", 0, bar - 1)

    def _moment(self, bar: int, until: float) -> int:
        start = self.ends[bar - 1]
        return start + round((self.ends[bar] - start) * until)

    def _cross(
        self, quantity: int, book: int, competing: int, when: tuple[int, int], kind: str, attempt: int, decided: int
    ) -> None:
        face = self.spread
        share = self.venue.forced_participation if kind == "forced" else None
        got = face.take(quantity, book, competing, when[0], self.half_life_ns, share=share)
        best = face.points(face.other[book])
        total = 0
        for price, count in got:
            self.costs.spread(when, count, face.points(price), best, self.mid[book], kind, attempt, decided)
            total += count
        self.done += total
        if kind == "forced":
            self.forced += total
        elif total < quantity:
            self.counts["partials"] += 1

    def _cross_second(self, lot: Lot, bar: int, when: int, at: float, turn: float) -> None:
        # What rests goes on resting until the crossing order is accepted: it is one change of one order. Nothing is
        # sent within a cooldown, but a leg that was to cross at once had been sent together with the first.
        if when < self.blocked_ns and (lot.attempt or when > lot.since_ns):
            lot.due_ns = self.blocked_ns
            return
        if self.draws.refused(lot.decided, SECOND, lot.attempt, self.venue.reject_probability):
            lot.attempt += 1
            self.counts["retries"] += 1
            self.events.append((when, "retry"))
            self._rejected(when)
            lot.due_ns = max(when + round(self.venue.retry_delay_s * 1e9), self.blocked_ns, when + 1)
            return
        self.desk.finish(lot, bar if at >= turn else bar - 1, (when, bar), "second leg cross")

    # -- the end -------------------------------------------------------------------------------------------------------

    def force(self) -> int:
        """Cross at the cutoff what is open, legs first; return the spreads for which the book has no more.

        Orders under way are void and the resting one is withdrawn. The venue is made to accept: there are no refusals
        here. The legs' books go on for ever at worse and worse prices, so that no leg stays alone.
        """
        bar = self.bars
        when = (self.ends[bar], bar)
        self.messages.clear()
        self._resting_under_way = False
        if self.queue.tickets:
            self.queue.withdraw(self.queue.working)
            self.governor.record_replace(when[0], forced=True)
        for lot in list(self.desk.lots):
            self.forced += lot.left
            self.desk.finish(lot, bar, when, "forced leg")
        left = self.size - self.done
        if left > 0:
            self._cross(left, bar, 0, when, "forced", 0, bar)
        return self.size - self.done


def _number(value: object) -> float:
    """Return a number as a float, NaN where it is none."""
    if isinstance(value, str):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    except OverflowError:  # an integer beyond all floats
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
