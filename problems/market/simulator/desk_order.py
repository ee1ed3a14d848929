"""One parent order of the desk: its plan, what was revised or cancelled and when that was known, and what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_utc, check_frame, check_positive
from crosswind.problems.market.shown import Shown
from crosswind.problems.market.simulator.desk_parameters import KINDS
from crosswind.solvers.errors import InvalidInput

__all__ = ["DeskOrder"]


@dataclass(frozen=True, eq=False, repr=False)
class DeskOrder(Shown):
    """One parent order of one or more names, in slices.

    Parameters
    ----------
    name
        Identifier, distinct within the desk.
    start, end
        First slice's start and the deadline (tz-aware). The plan may end before the deadline.
    slice_s
        Length of a slice [s].
    plan
        T slice starts × names: signed shares planned at the start, buy positive.
    fills
        Of the same shape: what the cash algorithm really does, shares.
    revisions
        ``(k, plan)`` in ascending k: from slice k on (1 ≤ k < T) the desk knows this plan; its rows before k equal
        those of the plan before.
    cancelled_at
        Slice from which nothing is traded (1 ≤ k < T), known from that slice on; None if the order lives to its end.
    kind
        One of ``twap, vwap, lumpy, block, two_sided``.
    mid, spread
        Mid and full quoted spread at the slice starts [currency per share], of the plan's shape, or None. They price
        the views :attr:`DeskOrders.parents` and :attr:`DeskOrders.fills`.

    Raises
    ------
    InvalidInput
        On mismatched frames, slices that are not ``slice_s`` apart from ``start`` on, a revision that changes the past,
        a fill after the cancellation, a non-positive mid, a negative spread, an unknown kind.
    """

    name: str
    start: pd.Timestamp
    end: pd.Timestamp
    slice_s: float
    plan: pd.DataFrame
    fills: pd.DataFrame
    revisions: tuple[tuple[int, pd.DataFrame], ...] = ()
    cancelled_at: int | None = None
    kind: str = "twap"
    mid: pd.DataFrame | None = None
    spread: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput("no name", field="name", value=self.name, remedy="name the order, e.g. 'P001'")
        if self.kind not in KINDS:
            raise InvalidInput("unknown kind", field="kind", value=self.kind, remedy=f"use one of {', '.join(KINDS)}")
        set_(self, "slice_s", check_positive(self.slice_s, "slice_s"))
        set_(self, "start", as_utc(self.start, "start"))
        set_(self, "end", as_utc(self.end, "end"))
        set_(self, "plan", check_frame(self.plan, "plan"))
        self._check_slices()
        for field in ("fills", "mid", "spread"):
            if getattr(self, field) is not None:
                set_(self, field, self._like_plan(getattr(self, field), field))
        if self.mid is not None and (self.mid.to_numpy() <= 0.0).any():
            raise InvalidInput("is not positive", field="mid", value=float(self.mid.min().min()), remedy="check it")
        if self.spread is not None and (self.spread.to_numpy() < 0.0).any():
            raise InvalidInput("is negative", field="spread", value=float(self.spread.min().min()), remedy="check it")
        self._check_revisions()
        self._check_cancellation()

    def _check_slices(self) -> None:
        count = len(self.plan)
        if not count:
            raise InvalidInput("there are no slices", field="plan", value=0, remedy="give at least one row")
        step = round(self.slice_s * 1e9)
        wanted = self.start.value + step * np.arange(count, dtype=np.int64)
        index = self.plan.index
        assert isinstance(index, pd.DatetimeIndex)
        off = index.asi8 != wanted
        if off.any():
            at = int(np.argmax(off))
            raise InvalidInput(
                f"slice {at} does not start at start + {at} × slice_s",
                field="plan index",
                value=str(index[at]),
                remedy="index the plan by the slices' starts",
            )
        if self.end.value < int(wanted[-1]) + step:
            raise InvalidInput(
                "lies before the end of the last slice", field="end", value=str(self.end), remedy="move the deadline"
            )

    def _like_plan(self, frame: Any, field: str) -> pd.DataFrame:
        out = check_frame(frame, field)
        if not (out.index.equals(self.plan.index) and out.columns.equals(self.plan.columns)):
            raise InvalidInput(
                "its slices or names differ from those of plan",
                field=field,
                value=f"{out.shape[0]} × {out.shape[1]} against {self.plan.shape[0]} × {self.plan.shape[1]}",
                remedy="put it on the plan's index and columns",
            )
        return out

    def _check_slice_number(self, k: Any, field: str) -> int:
        whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
        if not whole or not 1 <= k < len(self.plan):
            raise InvalidInput(
                "is not a slice after the first", field=field, value=k, remedy=f"pass 1 to {len(self.plan) - 1}"
            )
        return int(k)

    def _check_revisions(self) -> None:
        before, last, checked = self.plan, 0, []
        for number, plan in self.revisions:
            k = self._check_slice_number(number, "revisions")
            if k <= last:
                raise InvalidInput(
                    "revisions are not in ascending order of slices", field="revisions", value=k, remedy="sort them"
                )
            frame = self._like_plan(plan, "revisions")
            if not np.array_equal(frame.to_numpy()[:k], before.to_numpy()[:k]):
                raise InvalidInput(
                    "a revision changes slices that were past when it became known",
                    field="revisions",
                    value=k,
                    remedy="keep the earlier plan's rows before the revision's slice",
                )
            checked.append((k, frame))
            before, last = frame, k
        object.__setattr__(self, "revisions", tuple(checked))

    def _check_cancellation(self) -> None:
        if self.cancelled_at is None:
            return
        k = self._check_slice_number(self.cancelled_at, "cancelled_at")
        if (self.fills.to_numpy()[k:] != 0.0).any():
            raise InvalidInput(
                "there are fills at or after the cancellation", field="cancelled_at", value=k, remedy="zero them"
            )
        if self.revisions and self.revisions[-1][0] >= k:
            raise InvalidInput(
                "an order is revised at or after its cancellation",
                field="revisions",
                value=self.revisions[-1][0],
                remedy="drop that revision",
            )
        object.__setattr__(self, "cancelled_at", k)

    @property
    def names(self) -> tuple[str, ...]:
        """The N names, in column order."""
        return tuple(self.plan.columns)

    @property
    def slices(self) -> int:
        """Number of slices T from the start to the deadline."""
        return len(self.plan)

    @property
    def final_plan(self) -> pd.DataFrame:
        """The last plan in force (T × N), before any cancellation."""
        return self.revisions[-1][1] if self.revisions else self.plan

    def plan_at(self, k: int) -> pd.DataFrame:
        """Return the plan as the desk knows it at the start of slice k, shares (T × N).

        Revisions of a later slice are not in it; from the slice of a cancellation on, its remaining rows are 0.

        Raises
        ------
        InvalidInput
            If k is no slice of the order.
        """
        if not 0 <= k < self.slices:
            raise InvalidInput("is not a slice", field="k", value=k, remedy=f"pass 0 to {self.slices - 1}")
        plan = self.plan
        for number, revised in self.revisions:
            if number <= k:
                plan = revised
        plan = plan.copy()
        if self.cancelled_at is not None and self.cancelled_at <= k:
            plan.iloc[self.cancelled_at :] = 0.0
        return plan

    def summary(self) -> str:
        """Return two lines: kind, names and window; gross shares planned first and done, revisions, cancellation."""
        window = f"{self.start:%Y-%m-%d %H:%M:%S} .. {self.end:%H:%M:%S} UTC"
        planned, done = (float(frame.abs().to_numpy().sum()) for frame in (self.plan, self.fills))
        cancelled = "" if self.cancelled_at is None else f", cancelled in slice {self.cancelled_at}"
        return (
            f"{self.name}: {self.kind} of {', '.join(self.names)}, {window}, {len(self.plan)} slices of "
            f"{self.slice_s:g} s\n  {planned:,.0f} shares planned, {done:,.0f} done, "
            f"{len(self.revisions)} revisions{cancelled}"
        )

    def plot(self) -> Any:
        """Return a plotly figure: running gross shares planned first, planned last and done."""
        from crosswind.problems.market.simulator.desk_plots import plot_order

        return plot_order(self)

    def equals(self, other: object) -> bool:
        """Return whether all frames and all metadata are identical, bit for bit."""
        if not isinstance(other, DeskOrder):
            return False
        plain = ("name", "start", "end", "slice_s", "cancelled_at", "kind")
        if any(getattr(self, field) != getattr(other, field) for field in plain):
            return False
        for field in ("mid", "spread"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if (mine is None) != (theirs is None) or (mine is not None and not mine.equals(theirs)):
                return False
        if [k for k, _ in self.revisions] != [k for k, _ in other.revisions]:
            return False
        pairs = [(self.plan, other.plan), (self.fills, other.fills)]
        pairs += [(a, b) for (_, a), (_, b) in zip(self.revisions, other.revisions, strict=True)]
        return all(a.equals(b) for a, b in pairs)
