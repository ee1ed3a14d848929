"""What a policy may see at its decision time.

The rule: the decision at bound ``k`` (time ``t = times[k]``) sees

- mids and half-spreads at the bounds 0..k, as quoted up to and including t;
- the volume of slices 0..k−1, which are complete at t;
- fills with a time strictly before t, its positions from them, and the account's orders sent before t: what is still in
  flight, what was filled, rejected or throttled.

Nothing that happens in slice k is visible, nor are the orders that other policies send at t. All arrays are copies of
exactly that part and cannot be written to.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from crosswind.problems.replay.model import Fill, FloatArray, LookAheadError, ReplayMarket
from crosswind.problems.replay.result import OrderRecord
from crosswind.solvers.errors import InvalidInput

__all__ = ["MarketView"]


class MarketView:
    """Causal, read-only view of a replay at bound ``k``.

    Parameters
    ----------
    market
        The recorded market; the view hands out only the part that is known at ``k``.
    k
        Bound of the decision, 0..T.
    fills
        The account's fills before ``times[k]``.
    positions
        Units held by instrument, (n,).
    in_flight
        Units sent and neither filled nor cancelled, (n,), signed sum.
    displacement
        Displacement of the mids by the account's own trading, (n,) [return].
    closing
        True at the bound T when the venue fills everything at once (the close).
    orders
        The account's orders sent before ``times[k]``, as they stand, in order of sending.
    """

    __slots__ = ("_closing", "_displacement", "_fills", "_in_flight", "_k", "_market", "_orders", "_positions")

    def __init__(
        self,
        market: ReplayMarket,
        k: int,
        fills: tuple[Fill, ...],
        positions: FloatArray,
        in_flight: FloatArray,
        displacement: FloatArray,
        closing: bool = False,
        orders: tuple[OrderRecord, ...] = (),
    ) -> None:
        self._market, self._k, self._fills, self._closing, self._orders = market, k, fills, closing, orders
        self._positions, self._in_flight, self._displacement = (
            _locked(positions),
            _locked(in_flight),
            _locked(displacement),
        )

    @property
    def slice(self) -> int:
        """Number k of the slice that starts now; T at the end."""
        return self._k

    @property
    def slices(self) -> int:
        """Number of slices T of the horizon."""
        return self._market.slices

    @property
    def closing(self) -> bool:
        """True when orders sent now are filled by the close at the end of the horizon."""
        return self._closing

    @property
    def now(self) -> pd.Timestamp:
        """Decision time, UTC."""
        return self._market.times[self._k]

    @property
    def times(self) -> pd.DatetimeIndex:
        """All slice bounds, (T+1,): the calendar is known in advance."""
        return self._market.times

    @property
    def instruments(self) -> tuple[str, ...]:
        """Names, (n,)."""
        return self._market.instruments

    @property
    def multiplier(self) -> FloatArray:
        """Currency per unit of price and quantity, (n,)."""
        return self._market.multiplier

    @property
    def mid(self) -> FloatArray:
        """Undisplaced mids at the bounds 0..k, (k+1, n) [currency]."""
        return _locked(self._market.mid[: self._k + 1])

    @property
    def half_spread(self) -> FloatArray:
        """Half-spreads at the bounds 0..k, (k+1, n) [currency]."""
        return _locked(self._market.half_spread[: self._k + 1])

    @property
    def volume(self) -> FloatArray:
        """Volume of the completed slices 0..k−1, (k, n) [units]."""
        return _locked(self._market.volume[: self._k])

    @property
    def displacement(self) -> FloatArray:
        """Present displacement of the mids by the account's own trading, (n,) [return]."""
        return self._displacement

    @property
    def positions(self) -> FloatArray:
        """Units held, (n,)."""
        return self._positions

    @property
    def in_flight(self) -> FloatArray:
        """Units in flight, (n,)."""
        return self._in_flight

    @property
    def fills(self) -> tuple[Fill, ...]:
        """The account's fills before now, in time order."""
        return self._fills

    @property
    def orders(self) -> tuple[OrderRecord, ...]:
        """The account's orders sent before now, in order of sending; the last ones may be rejected or throttled."""
        return self._orders

    @property
    def open_orders(self) -> tuple[OrderRecord, ...]:
        """The orders in flight, oldest first: on their way, to be sent again, or waiting for volume."""
        return tuple(order for order in self._orders if order.state == "in flight")

    def age_s(self, order: OrderRecord) -> float:
        """Return the time since an order was sent [s]."""
        return (int(self._market.times_ns[self._k]) - order.sent_ns) / 1e9

    @property
    def holdings(self) -> Mapping[str, float]:
        """Units held by instrument."""
        return dict(zip(self.instruments, self._positions.tolist(), strict=True))

    def position_of(self, instrument: str) -> int:
        """Return the column of ``instrument``; InvalidInput when the name is unknown."""
        return self._market.position_of(instrument)

    def mid_on(self, k: int) -> FloatArray:
        """Return the mids at bound ``k``, (n,) [currency].

        Raises
        ------
        LookAheadError
            When ``k`` lies after the decision.
        """
        self._check(k, self._k, "mid")
        return _locked(self._market.mid[k])

    def half_spread_on(self, k: int) -> FloatArray:
        """Return the half-spreads at bound ``k``, (n,) [currency]; LookAheadError when ``k`` is still to come."""
        self._check(k, self._k, "half_spread")
        return _locked(self._market.half_spread[k])

    def volume_on(self, k: int) -> FloatArray:
        """Return the volume of slice ``k``, (n,) [units]; LookAheadError while the slice is not complete."""
        self._check(k, self._k - 1, "volume")
        return _locked(self._market.volume[k])

    def _check(self, k: int, last: int, field: str) -> None:
        if k > last:
            raise LookAheadError(
                f"the decision at slice {self._k} may see {field} up to {last}",
                field=field,
                value=k,
                remedy="decide on past data only, or decide later",
            )
        if k < 0:
            raise InvalidInput("slices are counted from 0", field=field, value=k, remedy="count from the start")


def _locked(array: FloatArray) -> FloatArray:
    copy = array.copy()
    copy.setflags(write=False)
    return copy
