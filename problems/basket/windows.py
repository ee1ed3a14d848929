"""When a name must not trade: blackouts and deadlines, as cells of slices × names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.basket.inputs import FloatArray, as_instant
from crosswind.solvers.errors import InvalidInput

__all__ = ["Blackout", "BoolArray", "blocked_cells", "late_cells"]

BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Blackout:
    """A window in which names must not trade: every slice that overlaps [start, end) is closed.

    Parameters
    ----------
    start, end
        Time-zone-aware limits of the window, ``start < end``; stored in UTC.
    names
        The names it applies to; ``None`` for all of the basket.

    Raises
    ------
    InvalidInput
        When a limit is naive or the window is empty.
    """

    start: pd.Timestamp
    end: pd.Timestamp
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", as_instant(self.start, "blackout.start"))
        object.__setattr__(self, "end", as_instant(self.end, "blackout.end"))
        if self.end <= self.start:
            raise InvalidInput(
                "the window is empty", field="blackout", value=f"{self.start} .. {self.end}", remedy="swap the ends"
            )
        if isinstance(self.names, str):
            raise InvalidInput(
                "must list names", field="blackout.names", value=self.names, remedy=f"names=({self.names!r},)"
            )
        if self.names is not None:
            object.__setattr__(self, "names", tuple(str(n) for n in self.names))


def _ends(times: pd.DatetimeIndex, lengths: FloatArray) -> pd.DatetimeIndex:
    return times + pd.to_timedelta(lengths, unit="s")


def blocked_cells(
    blackouts: Sequence[Blackout], names: tuple[str, ...], times: pd.DatetimeIndex, lengths: FloatArray
) -> BoolArray:
    """Return which cells (T, N) overlap a blackout window; an auction does when it starts in it.

    Raises
    ------
    InvalidInput
        When a window names something that is not in the basket.
    """
    closed = np.zeros((len(times), len(names)), dtype=np.bool_)
    if not blackouts:
        return closed
    ends = _ends(times, lengths)
    for window in blackouts:
        if window.names is not None:
            unknown = [n for n in window.names if n not in names]
            if unknown:
                raise InvalidInput(
                    f"unknown names: {', '.join(unknown)}",
                    field="blackouts",
                    value=unknown,
                    remedy="name only names of the inventory",
                )
        rows = np.asarray((times < window.end) & ((ends > window.start) | (times >= window.start)))
        columns = np.ones(len(names), dtype=np.bool_) if window.names is None else np.isin(names, window.names)
        closed |= rows[:, None] & columns[None, :]
    return closed


def late_cells(
    deadlines: pd.Series | None, names: tuple[str, ...], times: pd.DatetimeIndex, lengths: FloatArray
) -> BoolArray:
    """Return the cells (T, N) whose slice ends after the name's deadline.

    Raises
    ------
    InvalidInput
        On unknown names and naive times.
    """
    late = np.zeros((len(times), len(names)), dtype=np.bool_)
    if deadlines is None:
        return late
    unknown = [str(n) for n in deadlines.index if str(n) not in names]
    if unknown:
        raise InvalidInput(
            f"unknown names: {', '.join(unknown)}",
            field="must_finish",
            value=unknown,
            remedy="name only names of the inventory",
        )
    ends = _ends(times, lengths)
    for name, deadline in deadlines.items():
        late[:, names.index(str(name))] = ends > as_instant(deadline, f"must_finish[{name}]")
    return late
