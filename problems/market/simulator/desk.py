"""The desk's parent orders: what was planned, what was revised or cancelled and when that was known, what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_utc, check_frame, check_positive
from crosswind.problems.market.orders import ChildFills, ParentOrders
from crosswind.problems.market.simulator.desk_parameters import KINDS, DeskParameters
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market.events import MarketEvents

__all__ = ["KINDS", "DeskOrder", "DeskOrders", "DeskParameters", "draw_desk"]

_FILL_COLUMNS = ("parent", "name", "time", "shares", "price")


@dataclass(frozen=True, eq=False)
class DeskOrder:
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


@dataclass(frozen=True, eq=False)
class DeskOrders:
    """All parents of the desk, in order of their start.

    Parameters
    ----------
    orders
        Distinctly named, by ascending start.

    Raises
    ------
    InvalidInput
        On a repeated name, disorder, or something that is not a DeskOrder.
    """

    orders: tuple[DeskOrder, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", tuple(self.orders))
        seen: set[str] = set()
        for order in self.orders:
            if not isinstance(order, DeskOrder):
                raise InvalidInput(
                    "not a DeskOrder", field="orders", value=type(order).__name__, remedy="build DeskOrder first"
                )
            if order.name in seen:
                raise InvalidInput("a name occurs twice", field="orders", value=order.name, remedy="rename one")
            seen.add(order.name)
        starts = [order.start for order in self.orders]
        if starts != sorted(starts):
            raise InvalidInput("not in order of their start", field="orders", remedy="sort by .start")

    def __len__(self) -> int:
        return len(self.orders)

    def __getitem__(self, name: str) -> DeskOrder:
        """Return the order of that name.

        Raises
        ------
        InvalidInput
            If there is none.
        """
        for order in self.orders:
            if order.name == name:
                return order
        have = ", ".join(order.name for order in self.orders[:10])
        raise InvalidInput("no such order", field="name", value=name, remedy=f"choose among {have}")

    @property
    def parents(self) -> ParentOrders:
        """The orders as received: one row per order and name, identified as ``order/name``.

        ``notional`` is the first plan's signed shares times the mid at the start [currency]; further columns are
        ``order``, ``kind``, ``shares``, ``arrival_price``. Names with nothing planned are left out.

        Raises
        ------
        DataGap
            If an order carries no prices, or there is no order.
        """
        rows: dict[str, dict[str, Any]] = {}
        for order in self.orders:
            mid, _ = _prices(order)
            shares = order.plan.sum()
            for name in order.names:
                if shares[name] == 0.0:
                    continue
                price = float(mid[name].iloc[0])
                rows[f"{order.name}/{name}"] = {
                    "name": name,
                    "notional": float(shares[name]) * price,
                    "start": order.start,
                    "end": order.end,
                    "order": order.name,
                    "kind": order.kind,
                    "shares": float(shares[name]),
                    "arrival_price": price,
                }
        if not rows:
            raise DataGap("the desk has no orders", field="orders", value=0, remedy="raise parents_per_day or days")
        return ParentOrders(pd.DataFrame.from_dict(rows, orient="index"))

    @property
    def fills(self) -> ChildFills:
        """The fills of all orders in time order, at the quotes of their slice's start.

        A buy pays mid + ½ spread and a sell receives mid − ½ spread, stamped at the slice's start: the desk's own
        price impact is not in these prices, whoever studies it adds it.

        Raises
        ------
        DataGap
            If an order carries no prices, or there is no order.
        """
        blocks = []
        for order in self.orders:
            mid, spread = _prices(order)
            shares = order.fills.to_numpy()
            price = mid.to_numpy() + 0.5 * np.sign(shares) * spread.to_numpy()
            row, column = np.nonzero(shares)
            names = np.array(order.names, dtype=object)[column]
            blocks.append(
                pd.DataFrame(
                    {
                        "parent": [f"{order.name}/{name}" for name in names],
                        "name": names,
                        "time": order.plan.index[row],
                        "shares": shares[row, column],
                        "price": price[row, column],
                    }
                )
            )
        empty = pd.DataFrame({c: [] for c in _FILL_COLUMNS}).astype({"parent": object, "name": object})
        frame = pd.concat(blocks, ignore_index=True) if blocks else empty
        return ChildFills(frame.sort_values("time", kind="stable", ignore_index=True), self.parents)

    def equals(self, other: object) -> bool:
        """Return whether both hold identical orders."""
        if not isinstance(other, DeskOrders) or len(self) != len(other):
            return False
        return all(a.equals(b) for a, b in zip(self.orders, other.orders, strict=True))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per order: kind, window, names, gross shares planned first and last, done, revisions."""
        rows = {
            order.name: {
                "kind": order.kind,
                "start": order.start,
                "end": order.end,
                "slices": order.slices,
                "names": len(order.names),
                "planned_shares": float(order.plan.abs().to_numpy().sum()),
                "final_shares": float(order.final_plan.abs().to_numpy().sum()),
                "done_shares": float(order.fills.abs().to_numpy().sum()),
                "revisions": len(order.revisions),
                "cancelled": order.cancelled_at is not None,
            }
            for order in self.orders
        }
        columns = ["kind", "start", "end", "slices", "names", "planned_shares", "final_shares", "done_shares"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "revisions", "cancelled"])

    def summary(self) -> str:
        """Return two lines: number and kinds of orders; how many were revised or cancelled."""
        frame = self.to_frame()
        counts = frame["kind"].value_counts()
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts.index)
        revised, cancelled = int((frame["revisions"] > 0).sum()), int(frame["cancelled"].astype(bool).sum())
        return f"{len(self)} parent orders: {kinds or 'none'}\n  {revised} revised, {cancelled} cancelled"


def _prices(order: DeskOrder) -> tuple[pd.DataFrame, pd.DataFrame]:
    if order.mid is None or order.spread is None:
        raise DataGap(
            "the order carries no prices", field="mid", value=order.name, remedy="give mid and spread by slice and name"
        )
    return order.mid, order.spread


def draw_desk(events: MarketEvents, parameters: DeskParameters, seed: int) -> DeskOrders:
    """Draw the desk's parents over the sessions of ``events``.

    Every session draws from its own streams, and what is drawn on a day uses no volume or quote that came later than
    the order's own slice: the orders of the first days are those of a shorter market. Parents, sizes, plans, fills,
    revisions and cancellations each have a stream of their own and a child of it for each parent.

    Parameters
    ----------
    events
        Buckets with quotes and volume.
    parameters
        Rates and sizes.
    seed
        Integer of 0 or more.

    Returns
    -------
    DeskOrders
        Priced at the quotes of the slices' starts. The fills of every name sum to its last plan, unless the order was
        cancelled.

    Raises
    ------
    InvalidInput
        On a bad seed.
    """
    from crosswind.problems.market.simulator.desk_draw import draw_orders

    return DeskOrders(draw_orders(events, parameters, seed))
