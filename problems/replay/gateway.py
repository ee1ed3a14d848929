"""What happens to an order between its sending and the book: latency, jitter, rejects, retries, the rate limit.

1. The venue admits at most ``max_orders_per_minute`` new orders of an instrument within any 60 s; one more is refused
   at once ("throttled") and counts for nothing.
2. An admitted order's first attempt arrives after ``latency − jitter·log(1 − U₀)``: an exponential addition, whose mean
   and standard deviation are the jitter.
3. Attempt a is refused when ``U_{a+1} < reject_probability``. The gateway sends it again, ``retry_delay`` later, up to
   ``max_retries`` times; then the order ends "rejected". A retry is not a new order and needs no admission.

U₀, U₁, … are uniforms of the order, drawn from a counter-based generator (Philox). They depend on the seed, the
instrument's name, the slice of the decision and the place of the order among those of its instrument and slice, and on
nothing else: not on what any policy did before. So two policies meet the same luck at the same time (common random
numbers), a longer replay begins with the shorter one's draws, and a batch of replays can draw them ahead.
"""

from __future__ import annotations

import zlib
from collections import deque

import numpy as np

from crosswind.problems.replay.model import FloatArray

__all__ = ["MAX_RETRIES", "MINUTE_NS", "Gateway", "jitter_ns", "order_uniforms"]

# Draws set aside for each order: the jitter, and one per attempt.
_PER_ORDER = 16
MAX_RETRIES = _PER_ORDER - 2
MINUTE_NS = 60_000_000_000


def order_uniforms(seed: int, instrument: str, slices: int, place: int = 0) -> FloatArray:
    """Return the uniforms of the orders that may be sent in each slice.

    Parameters
    ----------
    seed
        Seed of the venue, in 0..2⁶⁴−1.
    instrument
        Name of the instrument.
    slices
        Number of slices T.
    place
        Place among the orders of one instrument and slice, from 0.

    Returns
    -------
    ndarray, (T, 16)
        In [0, 1): column 0 gives the jitter, column a + 1 decides on attempt a.
    """
    key = np.array([seed, zlib.crc32(instrument.encode())], dtype=np.uint64)
    counter = np.array([0, place, 0, 0], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(slices * _PER_ORDER)
    uniforms: FloatArray = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniforms.reshape(slices, _PER_ORDER)


def jitter_ns(uniforms: FloatArray, scale_ns: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the random part of the latency of the orders of each slice, (T,) [ns]; ``uniforms`` as drawn above."""
    if not scale_ns:
        return np.zeros(len(uniforms), dtype=np.int64)
    return (-np.log1p(-uniforms[:, 0]) * scale_ns).astype(np.int64)


class Gateway:
    """The way of one account's orders to a venue during one replay.

    Parameters
    ----------
    names
        Instruments, (n,).
    slices
        Number of slices T.
    latency_ns, jitter_ns
        Least latency, and mean of the random addition, (n,) [ns].
    reject_probability
        Probability that an attempt is refused, (n,).
    limit
        Greatest number of new orders within 60 s, (n,); inf: none.
    retry_ns
        Time from a refused attempt to the next [ns].
    max_retries
        Greatest number of retries of an order.
    seed
        Of :func:`order_uniforms`.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        slices: int,
        latency_ns: np.ndarray[tuple[int], np.dtype[np.int64]],
        jitter_ns: np.ndarray[tuple[int], np.dtype[np.int64]],
        reject_probability: FloatArray,
        limit: FloatArray,
        retry_ns: int,
        max_retries: int,
        seed: int,
    ) -> None:
        self.names, self.slices, self.seed = names, slices, seed
        self.latency_ns, self.jitter_ns = latency_ns, jitter_ns
        self.reject_probability, self.limit = reject_probability, limit
        self.retry_ns, self.max_retries = retry_ns, max_retries
        self._admitted: list[deque[int]] = [deque() for _ in names]
        self._drawn: dict[tuple[int, int], FloatArray] = {}
        self._late: dict[tuple[int, int], np.ndarray[tuple[int], np.dtype[np.int64]]] = {}

    def admit(self, column: int, time_ns: int) -> bool:
        """Return whether a new order at ``time_ns`` is admitted, and count it when it is."""
        if not np.isfinite(self.limit[column]):
            return True
        recent = self._admitted[column]
        while recent and time_ns - recent[0] >= MINUTE_NS:
            recent.popleft()
        if len(recent) + 1 > self.limit[column]:
            return False
        recent.append(time_ns)
        return True

    def delay_ns(self, column: int, k: int, place: int) -> int:
        """Return the time from the decision in slice ``k`` to the first arrival [ns]."""
        if not self.jitter_ns[column]:
            return int(self.latency_ns[column])
        key = (column, place)
        if key not in self._late:
            self._late[key] = jitter_ns(self._uniforms(column, place), int(self.jitter_ns[column]))
        return int(self.latency_ns[column]) + int(self._late[key][k])

    def rejects(self, column: int, k: int, place: int, attempt: int) -> bool:
        """Return whether attempt ``attempt`` (from 0) of an order decided in slice ``k`` is refused."""
        probability = float(self.reject_probability[column])
        return probability > 0.0 and bool(self._uniforms(column, place)[k, attempt + 1] < probability)

    def _uniforms(self, column: int, place: int) -> FloatArray:
        key = (column, place)
        if key not in self._drawn:
            self._drawn[key] = order_uniforms(self.seed, self.names[column], self.slices, place)
        return self._drawn[key]
