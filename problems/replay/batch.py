"""Many replays as arrays: what the vectorised execution needs to know before any policy decides.

When an order that is sent in slice s would reach the book depends on the venue's clock and draws alone, not on any
policy: latency, jitter, rejects and retries are a function of (seed, instrument, slice). So the slice and the batch
that every possible order enters, its place in the queue and the time at which it would be given up are laid out here
once, in integers of nanoseconds, and the execution itself is left with arithmetic.

The queue. What waits for volume is filled first come, first served. The event kernel's order of events amounts to: at
a slice's start, first the orders that arrive at that very time and were sent before it, by the time of sending, then
those that wait, as they stood, then an order that is sent and arrives now; within the slice by time of arrival. Put
into one sequence per instrument this is a fixed rank of every possible order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.replay.gateway import MINUTE_NS, Gateway, jitter_ns, order_uniforms
from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.problems.replay.venue import SimulatedVenue
from crosswind.solvers.errors import InvalidInput

__all__ = ["IntArray", "ReplayBatch"]

IntArray = NDArray[np.int32]

NEVER = np.int32(2**30)
"""Slice of what does not happen within the horizon or after it."""


@dataclass(frozen=True, eq=False)
class ReplayBatch:
    """E episodes of T slices and n instruments, each with its market and its venue.

    Built by :meth:`of`. Shorter episodes are filled up at the front with slices in which nothing can happen, so that
    all end together. B is the greatest number of distinct arrival times strictly within a slice, M the greatest number
    of impact modes.

    Parameters
    ----------
    instruments
        Names of the first episode, (n,); others may have others in the same places.
    mid, half_spread
        (E, T+1, n) [currency per unit of quotation].
    capacity
        Units that may be filled in each slice, participation × volume, (E, T, n); inf: no limit.
    multiplier, fee, limit
        (E, n): currency per unit of price and quantity; fee per unit [currency]; orders per minute, inf: no limit.
    close_multiple
        Half-spreads paid at the close, (E,).
    rates, matrices
        Impact modes, (E, M) [1/s] and (E, M, n, n) [return per currency].
    step_s, weight
        Seconds from each batch of a slice to the next batch or bound, (E, T, B+1), and how far within the slice each
        batch lies, (E, T, B+1) in [0, 1]; batch 0 is the slice's start.
    entry, batch, rank, release
        Of an order sent in slice s: the slice in which it enters the book (T: only the close fills it, ``NEVER``: it
        is rejected for good), its batch there, its place in the queue, and the last slice at whose start it is still in
        flight when it is rejected for good (else ``NEVER``), (E, T, n).
    recent
        Whether slice k − 1 − w starts less than 60 s before slice k, (E, T, R).
    lead
        Slices by which each episode was filled up, (E,): a policy must not trade in them.
    close
        Whether the venues fill what is left at the end.
    """

    instruments: tuple[str, ...]
    mid: FloatArray
    half_spread: FloatArray
    capacity: FloatArray
    multiplier: FloatArray
    fee: FloatArray
    limit: FloatArray
    close_multiple: FloatArray
    rates: FloatArray
    matrices: FloatArray
    step_s: FloatArray
    weight: FloatArray
    entry: IntArray
    batch: IntArray
    rank: IntArray
    release: IntArray
    recent: NDArray[np.bool_]
    lead: NDArray[np.int64]
    close: bool

    @property
    def episodes(self) -> int:
        """Number of episodes E."""
        return len(self.mid)

    @property
    def slices(self) -> int:
        """Number of slices T."""
        return int(self.capacity.shape[1])

    @property
    def window(self) -> int:
        """Slices for which an order can be under way before it enters the book, and one: the least window."""
        sent = np.arange(self.slices, dtype=np.int64)[None, :, None]
        last = np.where(self.entry == NEVER, self.release, self.entry)
        return int((np.minimum(last, self.slices - 1) - sent).max(initial=0)) + 1

    @classmethod
    def of(cls, markets: Sequence[ReplayMarket], venues: Sequence[SimulatedVenue] | SimulatedVenue) -> ReplayBatch:
        """Lay out episodes.

        Parameters
        ----------
        markets
            One per episode, with the same number of instruments.
        venues
            One per episode, or one for all.

        Returns
        -------
        ReplayBatch

        Raises
        ------
        InvalidInput
            For no episodes, markets with different numbers of instruments, or venues with and without a close.
        """
        markets = list(markets)
        given = [venues] * len(markets) if isinstance(venues, SimulatedVenue) else list(venues)
        if not markets or len(given) != len(markets):
            raise InvalidInput(
                "one venue for each of at least one market",
                field="venues",
                value=(len(markets), len(given)),
                remedy="give as many of both, or one venue for all",
            )
        widths = {len(market.instruments) for market in markets}
        if len(widths) > 1:
            raise InvalidInput(
                "episodes differ in their number of instruments",
                field="markets",
                value=sorted(widths),
                remedy="batch episodes of one width, or add instruments that nobody trades",
            )
        if len({venue.close for venue in given}) > 1:
            raise InvalidInput(
                "venues with and without a close",
                field="venues",
                value="both",
                remedy="put them into two batches",
            )
        sessions = [venue.open(market) for venue, market in zip(given, markets, strict=True)]
        n, most = len(markets[0].instruments), max(len(venue.modes) for venue in given)
        rates, matrices = np.zeros((len(markets), most)), np.zeros((len(markets), most, n, n))
        for e, session in enumerate(sessions):
            rates[e, : len(session.rates)], matrices[e, : len(session.rates)] = session.rates, session.matrices
        clocks: dict[Any, _Clock] = {}
        laid = [_clock_of(s.gateway, m, clocks) for s, m in zip(sessions, markets, strict=True)]
        depth = max(clock.offset_ns.shape[1] for clock in laid)
        padded = [clock.padded(depth) for clock in laid]
        slices = max(market.slices for market in markets)
        lead = np.array([slices - market.slices for market in markets], dtype=np.int64)

        def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
            """Stack over episodes; what is missing at the front repeats the first row."""
            return np.stack(
                [np.concatenate([part[:1].repeat(more, axis=0), part]) for part, more in zip(parts, lead, strict=True)]
            )

        def moved(parts: Sequence[IntArray]) -> IntArray:
            """Stack numbers of slices, counted from the new front; orders of added slices enter at once."""
            out = np.tile(np.arange(slices, dtype=np.int32)[None, :, None], (len(parts), 1, n))
            for e, (part, more) in enumerate(zip(parts, lead, strict=True)):
                out[e, more:] = np.where(part == NEVER, NEVER, part + np.int32(more))
            return out

        return cls(
            instruments=markets[0].instruments,
            mid=joined([m.mid for m in markets]),
            half_spread=joined([m.half_spread for m in markets]),
            capacity=joined([_capacity(s.share, m.volume) for s, m in zip(sessions, markets, strict=True)]),
            multiplier=np.stack([m.multiplier for m in markets]),
            fee=np.stack([s.fee for s in sessions]),
            limit=np.stack([s.gateway.limit for s in sessions]),
            close_multiple=np.array([v.close_spread_multiple for v in given], dtype=np.float64),
            rates=rates,
            matrices=matrices,
            step_s=joined([step for step, _ in padded]),
            weight=joined([weight for _, weight in padded]),
            entry=moved([clock.entry for clock in laid]),
            batch=joined([clock.batch for clock in laid]),
            rank=joined([clock.rank for clock in laid]),
            release=moved([clock.release for clock in laid]),
            recent=_recent([m.times_ns for m in markets], slices),
            lead=lead,
            close=given[0].close,
        )


@dataclass(frozen=True, eq=False)
class _Clock:
    """When the possible orders of one episode enter the book; offsets of the batches in each slice, (T, B+1) [ns]."""

    dt_ns: NDArray[np.int64]
    offset_ns: NDArray[np.int64]
    entry: IntArray
    batch: IntArray
    rank: IntArray
    release: IntArray

    def padded(self, depth: int) -> tuple[FloatArray, FloatArray]:
        """Return steps and weights with ``depth`` batches; what is added lies at the slice's end and has no members."""
        have = self.offset_ns.shape[1]
        offset = np.concatenate([self.offset_ns, np.tile(self.dt_ns[:, None], (1, depth - have))], axis=1)
        ends = np.concatenate([offset[:, 1:], self.dt_ns[:, None]], axis=1)
        return (ends - offset) / 1e9, offset / self.dt_ns[:, None]


def _capacity(share: FloatArray, volume: FloatArray) -> FloatArray:
    finite = np.isfinite(share)
    limited: FloatArray = np.where(finite, np.where(finite, share, 1.0) * volume, np.inf)
    return limited


def _recent(times: Sequence[NDArray[np.int64]], slices: int) -> NDArray[np.bool_]:
    """Return for each slice which of the slices before it started less than 60 s earlier, (E, T, R)."""
    starts = [bounds[:-1] for bounds in times]
    reach = 1
    while any((own[reach:] - own[:-reach] < MINUTE_NS).any() for own in starts):
        reach += 1
    out = np.zeros((len(starts), slices, reach), dtype=bool)
    for e, own in enumerate(starts):
        for w in range(min(reach, len(own) - 1)):
            out[e, slices - len(own) + w + 1 :, w] = own[w + 1 :] - own[: -w - 1] < MINUTE_NS
    return out


def _clock_of(gateway: Gateway, market: ReplayMarket, known: dict[Any, _Clock]) -> _Clock:
    """Return the clock of an episode, shared between episodes whose times and draws are the same."""
    bounds = market.times_ns - market.times_ns[0]
    random = bool(gateway.jitter_ns.any() or gateway.reject_probability.any())
    key = (
        bounds.tobytes(),
        gateway.latency_ns.tobytes(),
        *(
            (gateway.jitter_ns.tobytes(), gateway.reject_probability.tobytes(), gateway.seed, gateway.names)
            if random
            else ()
        ),
        (gateway.retry_ns, gateway.max_retries) if random else (),
    )
    if key not in known:
        known[key] = _lay_out(gateway, bounds)
    return known[key]


def _lay_out(gateway: Gateway, bounds: NDArray[np.int64]) -> _Clock:
    slices, n = len(bounds) - 1, len(gateway.names)
    enters = np.zeros((slices, n), dtype=np.int64)
    rejected = np.zeros((slices, n), dtype=bool)
    for i, name in enumerate(gateway.names):
        enters[:, i] = bounds[:-1] + gateway.latency_ns[i]
        jitter, probability = int(gateway.jitter_ns[i]), float(gateway.reject_probability[i])
        if jitter or probability > 0.0:
            uniforms = order_uniforms(gateway.seed, name, slices)
            enters[:, i] += jitter_ns(uniforms, jitter)
            refused = uniforms[:, 1 : gateway.max_retries + 2] < probability
            rejected[:, i] = refused.all(axis=1)
            attempts = np.where(rejected[:, i], gateway.max_retries, np.argmin(refused, axis=1))
            enters[:, i] += attempts * gateway.retry_ns
    within = np.minimum(np.searchsorted(bounds, enters, side="right") - 1, slices)
    gone = rejected & (enters < bounds[-1])
    entry = np.where(gone, NEVER, within).astype(np.int32)
    release = np.where(gone, within, NEVER).astype(np.int32)
    inside = (entry < slices) & (enters > bounds[within])
    batch, offset = _batches(bounds, enters, within, inside, slices)
    return _Clock(np.diff(bounds), offset, entry, batch, _ranks(bounds, enters, within), release)


def _batches(
    bounds: NDArray[np.int64],
    enters: NDArray[np.int64],
    within: NDArray[np.int64],
    inside: NDArray[np.bool_],
    slices: int,
) -> tuple[IntArray, NDArray[np.int64]]:
    """Return the batch of each order in its slice, and the batches' offsets from the slice's start, (T, B+1) [ns]."""
    times, which = np.unique(enters[inside], return_inverse=True)
    owner = np.searchsorted(bounds, times, side="right") - 1
    number = np.arange(len(times)) - np.searchsorted(owner, owner) + 1
    batch = np.zeros(enters.shape, dtype=np.int32)
    batch[inside] = number[which]
    dt = np.diff(bounds)
    offset = np.tile(dt[:, None], (1, int(number.max(initial=0)) + 1))
    offset[:, 0] = 0
    offset[owner, number] = times - bounds[owner]
    return batch, offset


def _ranks(bounds: NDArray[np.int64], enters: NDArray[np.int64], within: NDArray[np.int64]) -> IntArray:
    """Return the place of each possible order in its instrument's queue, (T, n) (see the module's text)."""
    slices, n = enters.shape
    sent = np.arange(slices)
    rank = np.zeros((slices, n), dtype=np.int32)
    for i in range(n):
        early = (enters[:, i] == bounds[within[:, i]]) & (within[:, i] > sent)
        first = np.where(early, -within[:, i], 1)
        then = np.where(early, 0, enters[:, i])
        rank[np.lexsort((sent, then, first)), i] = np.arange(slices)
    return rank
