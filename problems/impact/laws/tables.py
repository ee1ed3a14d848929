"""The table of parent orders that the laws are fitted on: one row per order, checked before use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["COLUMNS", "orders"]

Array = NDArray[np.float64]
# Column → whether it must be positive; the others are signed.
COLUMNS: dict[str, tuple[bool, str]] = {
    "size": (False, "signed quantity, buy > 0, in the unit of volume; not 0"),
    "sigma": (True, "volatility of a day's return [1]"),
    "volume": (True, "usual volume of a day, in the unit of size"),
    "duration": (True, "time from first to last fill [days of volume time]"),
    "post": (True, "time from the first fill to the price after the order [days of volume time], ≥ duration"),
    "shares_outstanding": (True, "in the unit of size"),
    "cost": (False, "average price paid over the price before, as a return times the sign of size; > 0 is money lost"),
    "impact": (False, "move of the price by the end of the order, times the sign of size [1]"),
    "permanent": (False, "move of the price from before the order to well after it, times the sign of size [1]"),
}


def orders(table: Any, needed: Sequence[str], at_least: int = 0) -> dict[str, Array]:
    """Return the columns asked for as float arrays (n,).

    Parameters
    ----------
    table
        DataFrame with the columns of `COLUMNS` that are needed.
    needed
        Their names.
    at_least
        Smallest number of rows.

    Raises
    ------
    InvalidInput
        No table, a column that holds text, NaN, inf, or a number that is out of range; the message names the row.
    DataGap
        A column is missing, or there are too few rows.
    """
    if not isinstance(table, pd.DataFrame):
        raise InvalidInput("is not a DataFrame", field="orders", value=type(table).__name__, remedy="one row per order")
    missing = [c for c in needed if c not in table.columns]
    if missing:
        raise DataGap(
            "columns are missing",
            field="orders",
            value=missing,
            remedy="; ".join(f"{c}: {COLUMNS[c][1]}" for c in missing),
        )
    if len(table) < at_least:
        raise DataGap(f"at least {at_least} orders are needed", field="orders", value=len(table))
    out: dict[str, Array] = {}
    for column in needed:
        try:
            values = table[column].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput("holds no numbers", field=f"orders.{column}", value=str(table[column].dtype)) from error
        bad = ~np.isfinite(values)
        what = "is not finite"
        if not bad.any() and COLUMNS[column][0]:
            bad, what = values <= 0, "must be positive"
        if not bad.any() and column == "size":
            bad, what = values == 0, "must not be 0"
        if bad.any():
            at = int(np.argmax(bad))
            raise InvalidInput(
                f"{what} in row {table.index[at]}",
                field=f"orders.{column}",
                value=float(values[at]),
                remedy=f"{COLUMNS[column][1]}; drop or repair the order",
            )
        out[column] = values
    if "post" in out and "duration" in out and (out["post"] < out["duration"] * (1 - 1e-12)).any():
        at = int(np.argmax(out["post"] < out["duration"] * (1 - 1e-12)))
        raise InvalidInput(
            f"lies before the order's end in row {table.index[at]}",
            field="orders.post",
            value=float(out["post"][at]),
            remedy=COLUMNS["post"][1],
        )
    return out
