"""Both faces of a book for one of our orders: the queue in which it rests, the depth that it crosses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from crosswind.problems.roll.model import FloatArray
from crosswind.solvers.errors import InvalidInput

__all__ = ["Face", "Queue", "Ticket", "face_of"]


@dataclass(slots=True)
class Ticket:
    """Contracts of ours that joined a price together: how many, how many of others stand ahead, first bar of flow."""

    left: int
    ahead: int
    since: int


@dataclass(slots=True)
class Face:
    """One book, seen by an order of one side over the bars 0 … n of a window.

    Prices are in whole steps times the side, so that more is better for the market and worse for us on either side:
    an order rests at ``own`` and crosses at ``other``, ``own < other``.

    Parameters
    ----------
    side
        +1 buys, −1 sells.
    step
        Price step [points].
    own, other
        Best prices at the bars' ends.
    own_size, other_size
        Displayed there [contracts].
    hit, lifted
        Contracts that others trade in each bar against the side on which we rest, and against that which we cross.
    cancelled
        Contracts withdrawn in each bar from the side on which we rest.
    mid
        Mid at the bars' ends [points].
    share
        Share of the displayed size that we can take at each price, one contract at least.
    level_depth
        Size at each worse price over that at the best one.
    levels
        Number of prices.
    least
        Contracts that are there at each worse price at least.
    """

    side: int
    step: float
    own: list[int]
    other: list[int]
    own_size: list[int]
    other_size: list[int]
    hit: list[int]
    lifted: list[int]
    cancelled: list[int]
    mid: list[float]
    share: float
    level_depth: float
    levels: int
    least: int
    missing: float = 0.0
    missing_ns: int = 0

    def points(self, price: int) -> float:
        """Return a price in points."""
        return self.side * price * self.step

    def take(
        self,
        quantity: int,
        book: int,
        competing: int,
        now_ns: int,
        half_life_ns: float,
        endless: bool = False,
        share: float | None = None,
    ) -> list[tuple[int, int]]:
        """Cross the book; return (price, contracts) from the best price on.

        What we took before and has not been refilled is missing from the best prices first: our own footprint.

        Parameters
        ----------
        quantity
            Contracts wanted.
        book
            Bar whose end shows the book.
        competing
            Contracts that others took from it since.
        now_ns
            Time [ns].
        half_life_ns
            Of what is missing; inf: it is never refilled.
        endless
            Whether to go on beyond ``levels``.
        share
            In place of the face's.
        """
        if self.missing > 0.0 and half_life_ns != math.inf:
            self.missing *= 0.5 ** ((now_ns - self.missing_ns) / half_life_ns)
        self.missing_ns = now_ns
        shown = max(0, self.other_size[book] - competing)
        missing, left, out = math.ceil(self.missing - 1e-9), quantity, []
        price = self.other[book]
        share = self.share if share is None else share
        room = max(int(share * shown), min(shown, 1))
        deep = max(int(share * self.level_depth * shown), self.least, min(shown, 1))
        level = 0
        while left > 0 and (endless or level < self.levels):
            there = room if level == 0 else deep
            gone = min(missing, there)
            missing -= gone
            fill = min(left, there - gone)
            if fill > 0:
                out.append((price + level, fill))
                left -= fill
            level += 1
        self.missing += quantity - left
        return out


@dataclass(slots=True)
class Queue:
    """Contracts of ours that rest at one price of a face.

    Parameters
    ----------
    face
        The book.
    price
        In steps times the side.
    tickets
        In the order of their places.
    """

    face: Face
    price: int = 0
    tickets: list[Ticket] = field(default_factory=list)

    @property
    def working(self) -> int:
        """Contracts of ours that rest."""
        return sum(ticket.left for ticket in self.tickets)

    def join(self, quantity: int, book: int, bar: int, share: float) -> None:
        """Let contracts join the price of our order, or the best one where we have none.

        Parameters
        ----------
        quantity
            Contracts.
        book
            Bar whose end shows the book that the order meets: ``bar`` or the one before.
        bar
            Bar in which it arrives.
        share
            Share of the displayed size that stands ahead.
        """
        face = self.face
        if not self.tickets:
            self.price = face.own[book]
        ahead = 0 if face.own[book] < self.price else math.ceil(share * face.own_size[book])
        # The flow of a bar hits the book of its start: who joins a book that has changed waits for the next bar.
        self.tickets.append(Ticket(quantity, ahead, bar if book < bar else bar + 1))

    def withdraw(self, quantity: int) -> int:
        """Take contracts out, the last ones in the queue first; return how many were there."""
        left = quantity
        while left > 0 and self.tickets:
            last = self.tickets[-1]
            cut = min(left, last.left)
            last.left -= cut
            left -= cut
            if last.left == 0:
                self.tickets.pop()
        return quantity - left

    def flow(self, bar: int, since: float, until: float, spent: int = 0) -> int:
        """Return how many of our resting contracts trade in a part of a bar.

        While our price is the best one, what others send trades those ahead first, then us; at the bar's end
        cancellations take those ahead in proportion to all that stand. A better quote halts us, a worse one leaves us
        alone at the front, and a quote of the other side at our price or through it trades what it shows with us.

        Parameters
        ----------
        bar
            The bar; it begins with the quotes of the one before.
        since, until
            Part of it, as fractions.
        spent
            Contracts of that flow that other orders of ours have had.
        """
        face, tickets, price = self.face, self.tickets, self.price
        best = face.own[bar - 1]
        sent = face.hit[bar]
        volume = (sent if until >= 1.0 else int(sent * until)) - int(sent * since) - spent
        through = face.other[bar - 1] <= price
        if through:
            # The other side stands at our price or beyond it: what it shows trades with us, once in the bar.
            volume += face.other_size[bar - 1] if since == 0.0 else 0
        elif best > price:
            return 0
        alone = through or best < price
        done = 0
        passed = 0
        for ticket in tickets:
            if ticket.since > bar:
                continue
            if alone:
                ticket.ahead = 0
            if volume > 0:
                others = min(volume, max(0, ticket.ahead - passed))
                passed += others
                volume -= others
                fill = min(volume, ticket.left)
                ticket.left -= fill
                volume -= fill
                done += fill
            ticket.ahead = max(0, ticket.ahead - passed)
        if until >= 1.0 and not alone and face.cancelled[bar]:
            standing = face.own_size[bar - 1] - sent
            if standing > 0:
                for ticket in tickets:
                    if ticket.since <= bar and ticket.ahead:
                        gone = round(face.cancelled[bar] * min(ticket.ahead, standing) / standing)
                        ticket.ahead -= min(ticket.ahead, gone)
        if done:
            self.tickets = [ticket for ticket in tickets if ticket.left]
        return done


def face_of(
    side: int,
    step: float,
    quotes: tuple[FloatArray, FloatArray],
    sizes: tuple[FloatArray, FloatArray],
    flows: tuple[FloatArray, FloatArray],
    cancelled: FloatArray | None,
    share: float,
    level_depth: float,
    levels: int,
    least: int,
    field: str,
) -> Face:
    """Return the face of a book.

    Parameters
    ----------
    side, step, share, level_depth, levels, least
        As in :class:`Face`.
    quotes, sizes
        Bid and ask, (n+1,) each.
    flows
        Sold and bought by others, (n+1,) each.
    cancelled
        Withdrawn from the side on which we rest, (n+1,); None: nothing.
    field
        Name of the book for messages.

    Raises
    ------
    InvalidInput
        Where a price does not lie on the grid of steps.
    """
    ticks = []
    for values in quotes:
        count = values / step
        whole = np.rint(count)
        off = np.abs(count - whole) > 1e-6
        if off.any():
            raise InvalidInput(
                f"does not lie on the grid of {step:g} in {int(off.sum())} bars",
                field=field,
                value=float(values[int(np.argmax(off))]),
                remedy="check the tick, or round the quotes outwards and say so",
            )
        ticks.append(whole.astype(np.int64))
    bid, ask = ticks
    one, two = (0, 1) if side > 0 else (1, 0)
    prices = (bid, ask)
    return Face(
        side=side,
        step=step,
        own=(side * prices[one]).tolist(),
        other=(side * prices[two]).tolist(),
        own_size=np.floor(sizes[one]).astype(np.int64).tolist(),
        other_size=np.floor(sizes[two]).astype(np.int64).tolist(),
        hit=np.floor(flows[one]).astype(np.int64).tolist(),
        lifted=np.floor(flows[two]).astype(np.int64).tolist(),
        cancelled=[0] * len(bid) if cancelled is None else np.floor(cancelled).astype(np.int64).tolist(),
        mid=(0.5 * (quotes[0] + quotes[1])).tolist(),
        share=share,
        level_depth=level_depth,
        levels=levels,
        least=least,
    )
