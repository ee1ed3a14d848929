"""The desk's parent orders, priced at the market's quotes, and the one call that draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.market.orders import ChildFills, ParentOrders
from crosswind.problems.market.shown import Shown
from crosswind.problems.market.simulator.desk_order import DeskOrder
from crosswind.problems.market.simulator.desk_parameters import KINDS, DeskParameters
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.problems.market.events import MarketEvents

__all__ = ["KINDS", "DeskOrder", "DeskOrders", "DeskParameters", "draw_desk"]

_FILL_COLUMNS = ("parent", "name", "time", "shares", "price")


@dataclass(frozen=True, eq=False, repr=False)
class DeskOrders(Shown):
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
    the order's own slice (a session's hours are known beforehand): the orders of the first days are those of a shorter
    market. Parents, sizes, plans, fills,
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
