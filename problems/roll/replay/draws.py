"""Luck of one replay, keyed by what it befalls and not by the order of calls: policies of one episode share it."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["CROSS", "LEG", "REST", "SECOND", "Draws"]

REST, CROSS, LEG, SECOND = range(4)
_KINDS = 4


class Draws:
    """Uniforms of a replay, from a counter-based generator (Philox).

    A message is known by the bar of its decision, its kind and the number of its attempt: at most one message of a kind
    is decided in a bar. So two policies that send at the same bar meet the same latency and the same refusals, and a
    longer window begins with the draws of the shorter one.

    Parameters
    ----------
    seed
        Of the episode, and of the replay.
    bars
        Bars of the window.
    attempts
        Attempts of a message that can be refused.
    """

    def __init__(self, seed: tuple[int, int], bars: int, attempts: int) -> None:
        key = np.array([seed[0] % 2**64, seed[1] % 2**64], dtype=np.uint64)
        messages = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, 1]))
        quotes = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, 2]))
        # Rows of fixed width, so that the number of retries allowed does not move the draws of later bars.
        self._rows = messages.random((bars + 1, _KINDS, 16))
        self._turns = quotes.random(bars + 1)
        self._attempts = attempts

    def late_s(self, bar: int, kind: int, mean_s: float) -> float:
        """Return the random part of a message's latency, exponential with mean ``mean_s`` [s]."""
        return -mean_s * math.log1p(-float(self._rows[bar, kind, 0])) if mean_s > 0.0 else 0.0

    def refused(self, bar: int, kind: int, attempt: int, probability: float) -> bool:
        """Return whether attempt ``attempt``, from 0, is refused."""
        if probability <= 0.0 or attempt >= self._attempts:
            return False
        return bool(self._rows[bar, kind, attempt + 1] < probability)

    def turn(self, bar: int) -> float:
        """Return the moment at which the quotes of a bar change from those of its start to those of its end, (0, 1)."""
        return float(self._turns[bar])
