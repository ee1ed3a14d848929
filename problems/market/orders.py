"""Parent orders and their child fills as validated tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import check_names, utc_index
from crosswind.solvers.errors import InvalidInput

__all__ = ["ChildFills", "ParentOrders"]


def _table(frame: Any, field: str, columns: tuple[str, ...]) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInput(
            "not a DataFrame", field=field, value=type(frame).__name__, remedy=f"give columns {', '.join(columns)}"
        )
    check_names(frame.columns, f"{field} columns")
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise InvalidInput(
            "columns are missing", field=field, value=missing, remedy=f"give all of {', '.join(columns)}"
        )
    return frame.copy()


def _number(frame: pd.DataFrame, column: str, field: str, *, positive: bool = False) -> None:
    try:
        values = frame[column].to_numpy(dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "holds values that are not numbers", field=f"{field}.{column}", value=error, remedy="use pd.to_numeric"
        ) from error
    bad = ~np.isfinite(values) | (values <= 0 if positive else values == 0)
    if bad.any():
        raise InvalidInput(
            f"must be finite and {'positive' if positive else 'not zero'}: {int(bad.sum())} rows",
            field=f"{field}.{column}",
            value=float(values[int(np.argmax(bad))]),
            remedy="drop or repair those rows",
        )
    frame[column] = values


def _time(frame: pd.DataFrame, column: str, field: str) -> None:
    values = pd.DatetimeIndex(frame[column]) if len(frame) else pd.DatetimeIndex([], tz="UTC")
    frame[column] = utc_index(values, f"{field}.{column}", strictly_increasing=False)


def _strings(frame: pd.DataFrame, column: str, field: str) -> None:
    bad = [v for v in frame[column] if not isinstance(v, str) or not v]
    if bad:
        raise InvalidInput("not a non-empty string", field=f"{field}.{column}", value=bad[0], remedy="name every row")
    frame[column] = frame[column].astype(object)


@dataclass(frozen=True, eq=False)
class ParentOrders:
    """Orders as the desk received them, one row each.

    Parameters
    ----------
    frame
        Index: distinct order identifiers. Columns: ``name``; ``notional`` (signed, buy positive, not 0) [currency];
        ``start`` and ``end`` (tz-aware, start < end); further columns are kept.

    Raises
    ------
    InvalidInput
        On a missing column, a repeated identifier, a zero or non-finite size, a naive time, an end before its start.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        frame = _table(self.frame, "parents", ("name", "notional", "start", "end"))
        if not len(frame):
            raise InvalidInput("there are no orders", field="parents", value=0, remedy="give at least one row")
        twice = frame.index[frame.index.duplicated()]
        if len(twice):
            raise InvalidInput(
                "an identifier occurs twice", field="parents", value=twice[0], remedy="make the index unique"
            )
        _strings(frame, "name", "parents")
        _number(frame, "notional", "parents")
        _time(frame, "start", "parents")
        _time(frame, "end", "parents")
        late = (frame["end"] <= frame["start"]).to_numpy()
        if late.any():
            raise InvalidInput(
                "an order ends before it starts",
                field="parents.end",
                value=str(frame.index[int(np.argmax(late))]),
                remedy="check the columns start and end",
            )
        object.__setattr__(self, "frame", frame)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> tuple[str, ...]:
        """Distinct names, in order of appearance."""
        return tuple(dict.fromkeys(self.frame["name"]))

    def inventory(self) -> pd.Series[Any]:
        """Return the signed notional still to trade by name, summed over orders [currency]."""
        return self.frame.groupby("name", sort=False)["notional"].sum()

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()


@dataclass(frozen=True, eq=False)
class ChildFills:
    """Fills as the venues reported them, in time order.

    Parameters
    ----------
    frame
        Columns: ``parent`` (an order's identifier); ``name``; ``time`` (tz-aware, not decreasing); ``shares`` (signed,
        buy positive, not 0); ``price`` (> 0) [currency per share]; further columns are kept.
    parents
        If given, every fill must belong to one of its orders: same name, same side, within start and end.

    Raises
    ------
    InvalidInput
        On a malformed table or a fill that its parent does not allow.
    """

    frame: pd.DataFrame
    parents: ParentOrders | None = None

    def __post_init__(self) -> None:
        frame = _table(self.frame, "fills", ("parent", "name", "time", "shares", "price"))
        _strings(frame, "name", "fills")
        _number(frame, "shares", "fills")
        _number(frame, "price", "fills", positive=True)
        _time(frame, "time", "fills")
        if not frame["time"].is_monotonic_increasing:
            raise InvalidInput(
                "fills are not in time order",
                field="fills.time",
                remedy="sort with .sort_values('time', kind='stable')",
            )
        if self.parents is not None:
            self._check_parents(frame, self.parents.frame)
        object.__setattr__(self, "frame", frame)

    @staticmethod
    def _check_parents(frame: pd.DataFrame, orders: pd.DataFrame) -> None:
        unknown = ~frame["parent"].isin(orders.index)
        if unknown.any():
            raise InvalidInput(
                "a fill belongs to no parent order",
                field="fills.parent",
                value=frame["parent"][unknown].iloc[0],
                remedy="add the order or drop the fill",
            )
        own = orders.loc[frame["parent"]].reset_index(drop=True)
        fills = frame.reset_index(drop=True)
        checks = {
            "name": (own["name"] != fills["name"], "another name than its parent"),
            "shares": (np.sign(own["notional"]) != np.sign(fills["shares"]), "the other side than its parent"),
            "time": (
                (fills["time"] < own["start"]) | (fills["time"] > own["end"]),
                "a time outside its parent's window",
            ),
        }
        for column, (bad, what) in checks.items():
            if bad.any():
                at = int(np.argmax(bad.to_numpy()))
                raise InvalidInput(
                    f"a fill has {what}: {int(bad.sum())} rows, first of parent {fills['parent'][at]}",
                    field=f"fills.{column}",
                    value=fills[column][at],
                    remedy="assign the fill to its own order",
                )

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def notional(self) -> pd.Series[Any]:
        """Signed notional of each fill, shares × price [currency]."""
        return (self.frame["shares"] * self.frame["price"]).rename("notional")

    def by_parent(self) -> pd.DataFrame:
        """Return per parent: ``shares``, ``notional`` (signed) and the average ``price``."""
        total = pd.DataFrame({"shares": self.frame["shares"], "notional": self.notional})
        out = total.groupby(self.frame["parent"], sort=False).sum()
        return out.assign(price=out["notional"] / out["shares"])

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()
