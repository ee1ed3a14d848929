"""A cash and position ledger that knows only fills and marks.

It shares no arithmetic with the attribution: that is what makes their agreement a check. Cash flows are kept one by one
and added exactly (:func:`math.fsum`), so the ledger's rounding stays below that of any sum it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["Ledger"]


class Ledger:
    """Cash, positions and wealth of one account.

    After fills k with units n_k, price p_k, multiplier m_k and fee f_k,

    ``cash = cash_0 − Σ_k (n_k·m_k·p_k + f_k)`` and ``wealth(mid) = cash + Σ_i N_i·m_i·mid_i``.

    A future is booked like a share; as wealth is cash plus marked positions, daily settlement would not change it.

    Parameters
    ----------
    cash
        Cash at the start [currency].

    Raises
    ------
    InvalidInput
        When ``cash`` is not finite.
    """

    def __init__(self, cash: float = 0.0) -> None:
        self._flows: list[float] = [_finite(cash, "cash")]
        self._lots: dict[str, list[float]] = {}
        self._multiplier: dict[str, float] = {}
        self._fees: list[float] = []

    def book(self, instrument: str, units: float, price: float, fee: float = 0.0, multiplier: float = 1.0) -> None:
        """Book one fill.

        Parameters
        ----------
        instrument
            Name.
        units
            Signed quantity, buy positive.
        price
            Paid price [currency per unit of quotation].
        fee
            Charge [currency], at least 0.
        multiplier
            Currency per unit of price and quantity; one per instrument.

        Raises
        ------
        InvalidInput
            For a number that is not finite, a negative fee, or a multiplier other than that of earlier fills.
        """
        units, price = _finite(units, "units"), _finite(price, "price")
        fee, multiplier = _finite(fee, "fee"), _finite(multiplier, "multiplier")
        if fee < 0.0:
            raise InvalidInput("a fee is a cost", field="fee", value=fee, remedy="give it as a positive number")
        known = self._multiplier.setdefault(instrument, multiplier)
        if known != multiplier or multiplier <= 0.0:
            raise InvalidInput(
                "an instrument has one positive multiplier",
                field=f"multiplier of {instrument}",
                value=multiplier,
                remedy=f"earlier fills had {known}",
            )
        self._flows.append(-(units * multiplier * price))
        self._flows.append(-fee)
        self._fees.append(fee)
        self._lots.setdefault(instrument, []).append(units)

    @property
    def cash(self) -> float:
        """Cash [currency]."""
        return math.fsum(self._flows)

    @property
    def fees(self) -> float:
        """Fees paid so far [currency]."""
        return math.fsum(self._fees)

    @property
    def positions(self) -> dict[str, float]:
        """Units held by instrument; an instrument traded back to zero stays listed with 0."""
        return {name: math.fsum(lots) for name, lots in self._lots.items()}

    def wealth(self, mids: Mapping[str, float]) -> float:
        """Return cash plus positions at the given mids [currency].

        Raises
        ------
        DataGap
            When a held instrument has no finite mid.
        """
        marks = []
        for name, units in self.positions.items():
            if units == 0.0:
                continue
            mid = mids.get(name, math.nan)
            if not math.isfinite(mid):
                raise DataGap(
                    "no finite mark for a held instrument", field=name, value=mid, remedy="mark every holding"
                )
            marks.append(units * self._multiplier[name] * mid)
        return math.fsum(self._flows + marks)


def _finite(value: float, field: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise InvalidInput("a ledger books finite numbers only", field=field, value=number, remedy="check the fill")
    return number
