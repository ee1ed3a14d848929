"""What past trades have left in prices: the impact modes' states, in plain floats, as they are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crosswind.problems.hedge.controller.program import ControllerProgram, numbers

__all__ = ["Displaced"]


class Displaced:
    """z_j = Σ L_j'h over past trades h, each faded at its mode's rate.

    Parameters
    ----------
    program
        Gives L (M, m, m), the rates and the fading over a slice; its states (M, m) are kept at these.

    Attributes
    ----------
    modes
        Their number M.
    lifted
        Whether the program's states hold orders in flight on top.
    """

    def __init__(self, program: ControllerProgram) -> None:
        m, dt_s = program.m, program.setup.dt_s
        self.modes = len(program.decays)
        # The states one after the other, m of each mode.
        self._rates = [float(r) for r in program.setup.decay_per_s[program.kept] for _ in range(m)]
        self._fade = [float(left) for left in program.decays for _ in range(m)]
        self._dt_s, self._even = dt_s, 1e-9 * dt_s
        # By instrument: which states a unit of it moves, and by how much.
        pushes = program.factors.transpose(1, 0, 2).reshape(m, -1).tolist()
        self._push = [[(n, weight) for n, weight in enumerate(row) if weight] for row in pushes]
        self._state, self._into = [0.0] * len(self._rates), numbers(program.state)
        self._each = range(len(self._rates))
        self.lift(())

    def add(self, instrument: int, amount: float) -> None:
        """Add a trade [unit]."""
        state, into = self._state, self._into
        for n, weight in self._push[instrument]:
            state[n] += weight * amount
            into[n] = state[n]

    def fade(self, seconds: float) -> None:
        """Let time pass."""
        state, into, fade = self._state, self._into, self._fade
        if abs(seconds - self._dt_s) > self._even:
            fade = [math.exp(-rate * seconds) for rate in self._rates]
        for n in self._each:
            state[n] *= fade[n]
            into[n] = state[n]

    def lift(self, flying: Sequence[float]) -> None:
        """Show the program what is in flight (m,) [unit] as if it filled now; nothing takes it back."""
        state = self._state.copy()
        for j, amount in enumerate(flying):
            if amount:
                for n, weight in self._push[j]:
                    state[n] += weight * amount
        for n in self._each:
            self._into[n] = state[n]
        self.lifted = any(flying)

    def save(self) -> list[Any]:
        """Return the states, by mode."""
        m = len(self._push)
        return [self._state[n : n + m] for n in range(0, len(self._state), m)]

    def restore(self, saved: list[Any]) -> None:
        """Take over states."""
        state = [[float(v) for v in row] for row in saved]
        if [len(row) for row in state] != [len(self._push)] * self.modes:
            raise ValueError("displaced")
        self._state = [v for row in state for v in row]
        self.lift(())
