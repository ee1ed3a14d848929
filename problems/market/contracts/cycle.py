"""Months in which a contract ends: their letters, and the Fridays that rules name."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from crosswind.problems.market.contracts.model import ContractSpec
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["MONTH_LETTERS", "check_month", "last_friday", "third_friday"]

#: Letter of each month of delivery, January to December.
MONTH_LETTERS = "FGHJKMNQUVXZ"


def check_month(spec: ContractSpec, month: Any) -> tuple[int, int]:
    """Return (year, month) of 'YYYYMM', which must be in the contract's cycle.

    Raises
    ------
    InvalidInput
        If it cannot be read, lies outside the cycle, or the contract is a perpetual.
    DataGap
        If it lies before the first contract in the table.
    """
    if not spec.months:
        raise InvalidInput("a perpetual has no expiry", field="root", value=spec.root, remedy="choose a dated contract")
    if not isinstance(month, str) or not re.fullmatch(r"(19|20)\d{2}(0[1-9]|1[0-2])", month):
        raise InvalidInput("not a month", field="month", value=month, remedy="write it as '201312'")
    year, number = int(month[:4]), int(month[4:])
    if number not in spec.months:
        raise InvalidInput(
            f"{spec.root} has no contract of that month",
            field="month",
            value=month,
            remedy=f"its cycle is {', '.join(f'{m:02d}' for m in spec.months)}",
        )
    if month < spec.first_month:
        raise DataGap(
            f"the table knows {spec.root} from {spec.first_month} on",
            field="month",
            value=month,
            remedy="ask for a later contract",
        )
    return year, number


def third_friday(year: int, month: int) -> dt.date:
    """Return the third Friday of a month."""
    first = dt.date(year, month, 1)
    return first + dt.timedelta(days=(4 - first.weekday()) % 7 + 14)


def last_friday(year: int, month: int) -> dt.date:
    """Return the last Friday of a month."""
    last = dt.date(year + month // 12, month % 12 + 1, 1) - dt.timedelta(days=1)
    return last - dt.timedelta(days=(last.weekday() - 4) % 7)
