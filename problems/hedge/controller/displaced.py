"""What past trades have left in prices: the impact modes' states, in plain floats, as they are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crosswind.problems.hedge.controller.program import ControllerProgram
from crosswind.problems.replay.model import FloatArray

__all__ = ["Displaced"]


class Displaced:
    """z_j = Σ L_j'h over past trades h, each faded at its mode's rate.

    Parameters
    ----------
    program
        Gives L (M, m, m), the rates and the fading over a slice.
    """

    def __init__(self, program: ControllerProgram) -> None:
        self._dt_s = program.setup.dt_s
        self._rates: list[float] = program.setup.decay_per_s[program.kept].tolist()
        self._fade: list[float] = program.decays.tolist()
        # By instrument: what a unit of it adds to each state.
        self._push: list[list[list[float]]] = [program.factors[:, j, :].tolist() for j in range(program.m)]
        self._state = [[0.0] * program.m for _ in self._rates]
        self.modes = len(self._rates)

    def add(self, instrument: int, amount: float) -> None:
        """Add a trade [unit]."""
        for state, push in zip(self._state, self._push[instrument], strict=True):
            for b, weight in enumerate(push):
                state[b] += weight * amount

    def fade(self, seconds: float) -> None:
        """Let time pass."""
        even = abs(seconds - self._dt_s) <= 1e-9 * self._dt_s
        for j, state in enumerate(self._state):
            left = self._fade[j] if even else math.exp(-self._rates[j] * seconds)
            for b in range(len(state)):
                state[b] *= left

    def write(self, into: FloatArray, flying: Sequence[float]) -> None:
        """Write the states (M, m), with what is in flight (m,) [unit] as if it filled now."""
        for j, state in enumerate(self._state):
            for b, value in enumerate(state):
                for i, amount in enumerate(flying):
                    if amount:
                        value += self._push[i][j][b] * amount
                into[j, b] = value

    def save(self) -> list[Any]:
        """Return the states."""
        return [list(state) for state in self._state]

    def restore(self, saved: list[Any]) -> None:
        """Take over states."""
        state = [[float(v) for v in row] for row in saved]
        if [len(row) for row in state] != [len(row) for row in self._state]:
            raise ValueError("displaced")
        self._state = state
