"""The two leg books in a replay, and the spreads that wait there for their second leg."""

from __future__ import annotations

from dataclasses import dataclass

from crosswind.problems.roll.replay.books import Face, Queue, face_of
from crosswind.problems.roll.replay.costs import Costs
from crosswind.problems.roll.replay.episodes import RollEpisode
from crosswind.problems.roll.replay.rules import RollVenue

__all__ = ["LegDesk", "Lot"]

_NAMES = ("near", "far")


@dataclass(slots=True, eq=False)
class Lot:
    """First legs that are done.

    Parameters
    ----------
    leg
        The open one: 0 near, 1 far.
    left
        Contracts of it that are open.
    since_ns, due_ns
        When the first leg was filled, and when the open one is to be crossed [ns].
    mid
        Its mid when the first leg was filled [points].
    decided
        Bar of the decision.
    queue
        Its resting order; None where it is crossed at once.
    attempt
        Refusals of its crossing order.
    """

    leg: int
    left: int
    since_ns: int
    due_ns: int
    mid: float
    decided: int
    queue: Queue | None
    attempt: int = 0


class LegDesk:
    """Books of near and far, and the lots that are open.

    Parameters
    ----------
    episode
        The order with its market.
    venue
        Rules of the venue.
    costs
        Where fills are recorded.
    mid
        Mids of the spread over the window [points].
    """

    def __init__(self, episode: RollEpisode, venue: RollVenue, costs: Costs, mid: list[float]) -> None:
        self._episode, self.venue, self.costs, self._mid = episode, venue, costs, mid
        self._faces: tuple[Face, Face] | None = None
        self._half_life_ns = venue.refill_half_life_s * 1e9
        self.lots: list[Lot] = []
        self.naked = 0
        self.most_naked = 0

    @property
    def faces(self) -> tuple[Face, Face]:
        """Books of near and far, laid out when the first leg is traded."""
        if self._faces is None:
            m, v, side = self._episode.market, self.venue, self._episode.order.side
            part = slice(self._episode.first, self._episode.last + 1)
            half = 0.5 * m.leg_volume[part]  # nothing tells which side traded: half of the volume each

            def face(leg: int, own: int) -> Face:
                return face_of(
                    own,
                    m.leg_tick,
                    (m.leg_bid[part, leg], m.leg_ask[part, leg]),
                    (m.leg_bid_size[part, leg], m.leg_ask_size[part, leg]),
                    (half[:, leg], half[:, leg]),
                    None,
                    v.leg_participation,
                    v.level_depth,
                    v.levels,
                    1,
                    f"quotes of {m.legs[leg]}",
                )

            self._faces = face(0, -side), face(1, side)
        return self._faces

    @property
    def imbalance(self) -> int:
        """Far done + near done [signed contracts]."""
        # The open leg is what is missing: its side times what is left of it, the other way round.
        return sum(-self.faces[lot.leg].side * lot.left for lot in self.lots)

    def start(self, quantity: int, book: int, when: tuple[int, int], let_ns: int, attempt: int, decided: int) -> None:
        """Cross the leg with less displayed; the other one rests, or is due at once without a time to rest."""
        near, far = self.faces
        first = 0 if near.other_size[book] <= far.other_size[book] else 1
        face, second = self.faces[first], self.faces[1 - first]
        best, other_mid = face.points(face.other[book]), second.mid[book]
        for price, count in face.take(quantity, book, 0, when[0], self._half_life_ns, endless=True):
            paid = face.points(price)
            self.costs.first_leg(
                when, _NAMES[first], face.side, count, paid, best, other_mid, self._mid[book], attempt, decided
            )
        self.naked += quantity
        self.most_naked = max(self.most_naked, self.naked)
        resting = None
        if let_ns > 0:
            resting = Queue(second)
            resting.join(quantity, book, when[1], self.venue.queue)
        self.lots.append(Lot(1 - first, quantity, when[0], when[0] + let_ns, other_mid, decided, resting))

    def flow(self, since: float, until: float, when: tuple[int, int]) -> None:
        """Let the others' trades in a part of bar ``when[1]`` fill what rests; lots of one leg share that volume."""
        spent, bar = [0, 0], when[1]
        for lot in self.lots:
            if lot.queue is None:
                continue
            done = lot.queue.flow(bar, since, until, spent[lot.leg])
            if done:
                spent[lot.leg] += done
                price = lot.queue.face.points(lot.queue.price)
                self._second(lot, done, price, price, bar - 1, when, "second leg passive")
        self._sweep()

    def finish(self, lot: Lot, book: int, when: tuple[int, int], kind: str) -> None:
        """Cross what is open of a lot, to any price."""
        face = self.faces[lot.leg]
        best = face.points(face.other[book])
        for price, count in face.take(lot.left, book, 0, when[0], self._half_life_ns, endless=True):
            self._second(lot, count, face.points(price), best, book, when, kind)
        self._sweep()

    def _second(
        self, lot: Lot, count: int, price: float, best: float, book: int, when: tuple[int, int], kind: str
    ) -> None:
        face = self.faces[lot.leg]
        self.costs.second_leg(
            when,
            _NAMES[lot.leg],
            face.side,
            count,
            price,
            best,
            face.mid[book],
            lot.mid,
            kind,
            lot.attempt,
            lot.decided,
            (when[0] - lot.since_ns) / 1e9,
        )
        lot.left -= count
        self.naked -= count

    def _sweep(self) -> None:
        self.lots = [lot for lot in self.lots if lot.left > 0]
