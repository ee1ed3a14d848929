"""Policies: what decides on orders during a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from crosswind.problems.replay.model import FloatArray, Order
from crosswind.problems.replay.view import MarketView
from crosswind.solvers.errors import InvalidInput

__all__ = ["Decision", "Policy", "PolicyContext", "ScheduledPolicy"]

Decision = Sequence[Order] | Mapping[str, float]
"""Orders, or signed units by instrument (entries of zero are left out)."""


@dataclass(frozen=True)
class PolicyContext:
    """What every policy is told once, before the first slice.

    Parameters
    ----------
    label
        Name under which the policy's orders are booked.
    instruments
        Names, (n,).
    times
        Slice bounds, (T+1,), UTC.
    multiplier
        Currency per unit of price and quantity, (n,).
    """

    label: str
    instruments: tuple[str, ...]
    times: pd.DatetimeIndex
    multiplier: FloatArray


@runtime_checkable
class Policy(Protocol):
    """The whole contract of a policy.

    ``decide`` is called at every slice start 0..T−1 and, where the venue has a close, once more at T; orders sent then
    are filled by the close. A policy keeps its own state and must clear it in ``reset``.
    """

    def reset(self, context: PolicyContext) -> None:
        """Forget everything and take the context of a new replay."""

    def decide(self, view: MarketView) -> Decision:
        """Return the orders to send now."""


class ScheduledPolicy:
    """Send a given schedule, slice by slice, whatever happens.

    Parameters
    ----------
    schedule
        Signed units to trade, index: T slices in order, columns: instruments; finite.

    Raises
    ------
    InvalidInput
        For entries that are not finite or doubled columns; at reset: unknown instruments, a wrong number of slices.
    """

    def __init__(self, schedule: pd.DataFrame) -> None:
        units = schedule.to_numpy(dtype=np.float64, copy=True)
        names = tuple(str(name) for name in schedule.columns)
        if not np.isfinite(units).all():
            raise InvalidInput("a schedule must be finite", field="schedule", value=units.sum(), remedy="fill the gaps")
        if len(set(names)) != len(names):
            raise InvalidInput("columns must be distinct", field="schedule", value=names, remedy="merge them")
        units.setflags(write=False)
        self.names = names
        self.units: FloatArray = units

    def reset(self, context: PolicyContext) -> None:
        """Check the schedule against the market."""
        unknown = [name for name in self.names if name not in context.instruments]
        if unknown:
            raise InvalidInput(
                "the market lacks a scheduled instrument",
                field="schedule",
                value=unknown,
                remedy=f"use names of {context.instruments}",
            )
        if len(self.units) != len(context.times) - 1:
            raise InvalidInput(
                f"the market has {len(context.times) - 1} slices",
                field="schedule",
                value=len(self.units),
                remedy="give one row per slice",
            )

    def decide(self, view: MarketView) -> Decision:
        """Return this slice's row; nothing at the close."""
        if view.slice >= len(self.units):
            return ()
        row = self.units[view.slice]
        return [Order(name, float(x)) for name, x in zip(self.names, row, strict=True) if x != 0.0]
