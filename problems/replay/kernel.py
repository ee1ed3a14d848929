"""The event-driven replay.

A heap orders all events by (time, priority, sequence). At one time decisions come first, then arrivals at the venue,
then the record of the paths; so a decision never sees a fill of its own time. An order that is sent again keeps its
sequence, so that among arrivals of one time the order sent first is the first in line. Nothing depends on hash order or
wall clock, and the venue's draws only on its seed: the same inputs give the same bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from crosswind.problems.replay.ledger import Ledger
from crosswind.problems.replay.model import Fill, FloatArray, Order, ReplayMarket
from crosswind.problems.replay.policy import Decision, Policy, PolicyContext
from crosswind.problems.replay.result import OrderRecord, ReplayResult
from crosswind.problems.replay.venue import Arrival, SimulatedVenue, VenueSession
from crosswind.problems.replay.view import MarketView
from crosswind.solvers.errors import InvalidInput

__all__ = ["replay"]


class _Kind(IntEnum):
    """Order of events at one time."""

    DECIDE = 0
    ARRIVE = 1
    RECORD = 2


@dataclass
class _Open:
    """An order as the kernel follows it."""

    order_id: int
    policy: str
    order: Order
    column: int
    sent_ns: int
    arrive_ns: int
    rest: float
    place: int = 0
    sequence: int = 0
    filled: float = 0.0
    state: str = "in flight"
    attempts: int = 0
    accepted: bool = False
    reason: str = ""

    def record(self) -> OrderRecord:
        """Return the order as others may see it."""
        return OrderRecord(
            self.order_id,
            self.policy,
            self.order.instrument,
            self.order.units,
            self.sent_ns,
            self.arrive_ns,
            self.filled,
            self.state,
            self.attempts,
            self.reason,
        )


@dataclass
class _Run:
    """Everything that changes during one replay."""

    market: ReplayMarket
    venue: SimulatedVenue
    policies: Mapping[str, Policy]
    session: VenueSession
    heap: list[tuple[int, int, int, int]] = field(default_factory=list)
    sequence: int = 0
    orders: list[_Open] = field(default_factory=list)
    records: list[OrderRecord] = field(default_factory=list)
    live: dict[int, _Open] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        n = len(self.market.instruments)
        self.positions = np.zeros(n)
        self.path_positions = np.zeros((self.market.slices + 1, n))
        self.path_displacement = np.zeros((self.market.slices + 1, n))
        self.path_wealth = np.zeros(self.market.slices + 1)

    def push(self, time_ns: int, kind: _Kind, what: int) -> int:
        """Put an event on the heap and return its sequence."""
        heapq.heappush(self.heap, (time_ns, int(kind), self.sequence, what))
        self.sequence += 1
        return self.sequence - 1

    def ended(self, live: _Open, state: str, reason: str = "") -> None:
        """Take an order out of flight."""
        live.state, live.rest, live.reason = state, 0.0, reason or live.reason
        self.live.pop(live.order_id, None)

    def decide(self, k: int, closing: bool = False) -> None:
        """Ask every policy, all with the same view, then send their orders."""
        now = int(self.market.times_ns[k])
        in_flight = np.zeros_like(self.positions)
        for live in self.live.values():
            in_flight[live.column] += live.rest
        view = MarketView(
            self.market,
            k,
            tuple(self.fills),
            self.positions,
            in_flight,
            self.session.displacement(now),
            closing=closing,
            orders=tuple(self.records),
        )
        decisions = [(label, _orders(policy.decide(view))) for label, policy in self.policies.items()]
        places: dict[int, int] = {}
        for label, orders in decisions:
            for order in orders:
                column = self.market.position_of(order.instrument)
                live = _Open(len(self.orders), label, order, column, now, now, float(order.units))
                self.orders.append(live)
                self.live[live.order_id] = live
                if not closing:
                    live.place = places.get(column, 0)
                    places[column] = live.place + 1
                    self.send(live, k)
                self.records.append(live.record())

    def send(self, live: _Open, k: int) -> None:
        """Hand an order of the decision in slice ``k`` to the gateway."""
        gateway = self.session.gateway
        if gateway.admit(live.column, live.sent_ns):
            live.arrive_ns = live.sent_ns + gateway.delay_ns(live.column, k, live.place)
            live.sequence = self.push(live.arrive_ns, _Kind.ARRIVE, live.order_id)
        else:
            limit = float(gateway.limit[live.column])
            self.ended(live, "throttled", f"more than {limit:g} new orders of {live.order.instrument} within 60 s")

    def accepts(self, live: _Open, time_ns: int) -> bool:
        """Return whether the venue takes an arriving order; send it again or end it where it does not."""
        if live.accepted:
            return True
        gateway = self.session.gateway
        k = self.market.slice_of(live.sent_ns)
        refused = gateway.rejects(live.column, k, live.place, live.attempts)
        live.attempts += 1
        live.accepted = not refused
        if refused:
            live.reason = f"refused {live.attempts} time{'s' if live.attempts > 1 else ''}"
            if live.attempts > gateway.max_retries:
                self.ended(live, "rejected")
            else:
                again = (time_ns + gateway.retry_ns, int(_Kind.ARRIVE), live.sequence, live.order_id)
                heapq.heappush(self.heap, again)
        self.records[live.order_id] = live.record()
        return not refused

    def arrive(self, order_ids: list[int], time_ns: int, forced: bool = False) -> None:
        """Fill a batch; what is left arrives again at the start of the next slice."""
        if not forced:
            order_ids = [i for i in order_ids if self.accepts(self.orders[i], time_ns)]
        batch = [Arrival(i, self.orders[i].column, self.orders[i].rest) for i in order_ids]
        k = self.market.slice_of(time_ns)
        for done in self.session.execute(batch, time_ns, forced=forced):
            live, name = self.orders[done.order_id], self.market.instruments[done.column]
            multiplier = float(self.market.multiplier[done.column])
            self.fills.append(
                Fill(
                    sequence=len(self.fills),
                    order_id=done.order_id,
                    policy=live.policy,
                    instrument=name,
                    units=done.units,
                    time_ns=time_ns,
                    slice=k,
                    price=done.price,
                    mid=done.mid,
                    half_spread=done.half_spread,
                    displacement_by=done.displacement_by,
                    fee=done.fee,
                    multiplier=multiplier,
                    forced=forced,
                    tag=live.order.tag,
                )
            )
            self.ledger.book(name, done.units, done.price, fee=done.fee, multiplier=multiplier)
            self.positions[done.column] += done.units
            live.filled += done.units
            live.rest = 0.0 if done.units == live.rest else live.rest - done.units
            if live.rest == 0.0:
                self.ended(live, "filled")
            self.records[live.order_id] = live.record()
        if not forced and k + 1 < self.market.slices:
            for i in order_ids:
                if self.orders[i].rest != 0.0:
                    self.push(int(self.market.times_ns[k + 1]), _Kind.ARRIVE, i)

    def record(self, k: int) -> None:
        """Write the paths at bound ``k``, after all events at its time."""
        self.path_positions[k] = self.positions
        self.path_displacement[k] = self.session.displacement(int(self.market.times_ns[k]))
        marks = dict(zip(self.market.instruments, self.market.mid[k].tolist(), strict=True))
        self.path_wealth[k] = self.ledger.wealth(marks)

    def finish(self) -> None:
        """Close or cancel what is still in flight, at the last bound."""
        last = self.market.slices
        if self.venue.close:
            self.decide(last, closing=True)
            left = list(self.live)
            if left:
                self.arrive(left, int(self.market.times_ns[last]), forced=True)
        for live in list(self.live.values()):
            self.ended(live, "cancelled", "still in flight at the end, and the venue has no close")
            self.records[live.order_id] = live.record()
        self.record(last)


def replay(
    market: ReplayMarket,
    policies: Mapping[str, Policy],
    venue: SimulatedVenue | None = None,
    until: int | None = None,
) -> ReplayResult:
    """Run policies of one account through a recorded market.

    Parameters
    ----------
    market
        The market without the account's trades.
    policies
        By label; all decide on the same view, in this order, and share the account.
    venue
        Rules of execution; default: no latency, no impact, no limit.
    until
        Stop before bound ``until`` (1..T), without the close; the paths then have ``until`` rows. Nothing recorded
        after ``times[until]`` is read, which is how look-ahead is tested. None: the whole horizon.

    Returns
    -------
    ReplayResult

    Raises
    ------
    InvalidInput
        For no policy, an unknown instrument, a bad order or ``until`` out of range.
    LookAheadError
        When a policy asks for the future.
    """
    if not policies:
        raise InvalidInput("at least one policy is needed", field="policies", value=policies, remedy="name one")
    if until is not None and not 1 <= until <= market.slices:
        raise InvalidInput("out of range", field="until", value=until, remedy=f"use 1..{market.slices}")
    venue = SimulatedVenue() if venue is None else venue
    run = _Run(market, venue, policies, venue.open(market))
    for label, policy in policies.items():
        policy.reset(PolicyContext(label, market.instruments, market.times, market.multiplier))
    last = market.slices if until is None else until
    for k in range(last):
        now = int(market.times_ns[k])
        run.push(now, _Kind.DECIDE, k)
        run.push(now, _Kind.RECORD, k)
    end = int(market.times_ns[last])
    while run.heap and run.heap[0][0] < end:
        time_ns, kind, _, what = heapq.heappop(run.heap)
        if kind == _Kind.DECIDE:
            run.decide(what)
        elif kind == _Kind.RECORD:
            run.record(what)
        else:
            batch = [what]
            while run.heap and run.heap[0][:2] == (time_ns, kind):
                batch.append(heapq.heappop(run.heap)[3])
            run.arrive(batch, time_ns)
    if until is None:
        run.finish()
    rows = last if until is not None else last + 1
    return ReplayResult(
        market=market,
        fills=tuple(run.fills),
        orders=tuple(run.records),
        positions=_readonly(run.path_positions[:rows]),
        displacement=_readonly(run.path_displacement[:rows]),
        wealth=_readonly(run.path_wealth[:rows]),
        ledger=run.ledger,
    )


def _orders(decision: Decision) -> list[Order]:
    if isinstance(decision, Mapping):
        return [Order(str(name), float(units)) for name, units in decision.items() if float(units) != 0.0]
    orders = list(decision)
    for order in orders:
        if not isinstance(order, Order):
            raise InvalidInput(
                "a policy returns orders or units by instrument",
                field="decide",
                value=type(order).__name__,
                remedy="return Order objects",
            )
    return orders


def _readonly(array: FloatArray) -> FloatArray:
    array = array.copy()
    array.setflags(write=False)
    return array
