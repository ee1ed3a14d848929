"""Trade signs from prices and prevailing quotes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from crosswind.solvers.errors import InvalidInput

__all__ = ["LeeReady", "lee_ready"]

_TIE = 1e-12


def lee_ready(
    trade_price: npt.ArrayLike,
    trade_time: npt.ArrayLike,
    quote_time: npt.ArrayLike,
    mid: npt.ArrayLike,
) -> npt.NDArray[np.int8]:
    """Sign trades by the quote rule, ties by the tick test.

    With m the latest mid known at the trade, sign = sgn(price − m). Where price = m, or nothing was quoted before,
    sign = sgn(price − last different price before it). Prices that differ by rounding alone, |price − m| ≤ 1e-12·price,
    are equal: half of a cent has no exact binary form, and a trade at the mid must not be signed by its last bit.

    Parameters
    ----------
    trade_price, trade_time
        (L,) prices and times, times not decreasing; trades at the same time are taken in the order given.
    quote_time, mid
        (Q,) the times from which each mid is KNOWN, not decreasing, and the mids. A quote known at the very time of the
        trade counts; a bar stamped at its start is known only at its end, so add the bar's length before. Of equal
        times the last one prevails. Q may be 0.

    Returns
    -------
    ndarray of int8, (L,)
        +1 buyer-initiated, −1 seller-initiated, 0 where neither rule decides: at the mid, before any other price.

    Raises
    ------
    InvalidInput
        On mismatched lengths, NaN or inf, times that decrease.

    Notes
    -----
    Lee and Ready, "Inferring Trade Direction from Intraday Data", Journal of Finance 46 (1991), without their lag of
    five seconds, which was made for quotes recorded by hand.
    """
    price, when = _series(trade_price, "trade_price"), _times(trade_time, "trade_time")
    known, quoted = _times(quote_time, "quote_time"), _series(mid, "mid")
    for name, a, b in (("trade_time", price, when), ("mid", known, quoted)):
        if len(a) != len(b):
            raise InvalidInput(
                "prices and times differ in length",
                field=name,
                value=(len(a), len(b)),
                remedy="pass one time per price",
            )
    return LeeReady().sign(price, when, known, quoted)


class LeeReady:
    """The same rule for ticks that come in parts: it carries the last mid, the last price and its last change.

    The signs equal those of :func:`lee_ready` on the whole, however the ticks are cut, if each part's quotes reach to
    its last trade, quotes known at that very time included.
    """

    def __init__(self) -> None:
        self._mid: float | None = None
        self._price: float | None = None
        self._step = 0

    def sign(
        self,
        price: npt.NDArray[np.float64],
        when: npt.NDArray[Any],
        known: npt.NDArray[Any],
        mid: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.int8]:
        """Return the signs (L,) of one part's trades; see :func:`lee_ready` for the arguments, which are not checked.

        Parameters
        ----------
        price, when
            (L,) prices and times of the trades.
        known, mid
            (Q,) the quotes since the part before.
        """
        before = 0
        if self._mid is not None:  # the quote that prevailed at the end of the part before comes first
            mid, before = np.concatenate([[self._mid], mid]), 1
        if len(mid):
            self._mid = float(mid[-1])
        if not len(price):
            return np.zeros(0, dtype=np.int8)
        at = np.searchsorted(known, when, side="right") - 1 + before
        sign = np.zeros(len(price), dtype=np.int8)
        quoted = slice(None) if before else at >= 0
        away = price[quoted] - mid[at[quoted]]
        tied = np.abs(away) <= _TIE * np.abs(price[quoted])
        sign[quoted] = (away > 0).astype(np.int8) - (away < 0).astype(np.int8)
        sign[quoted] = np.where(tied, np.int8(0), sign[quoted])
        ticks = self._tick_test(price)
        return np.where(sign == 0, ticks, sign)

    def _tick_test(self, price: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
        """Return the sign of the last price change up to each trade, 0 before the first change."""
        change = np.diff(price, prepend=price[0] if self._price is None else self._price)
        step = (change > 0).astype(np.int8) - (change < 0).astype(np.int8)
        step[np.abs(change) <= _TIE * np.abs(price)] = 0
        if step[0] == 0:
            step[0] = self._step  # no change yet in this part: the last one of the part before stands
        last_change = np.maximum.accumulate(np.where(step != 0, np.arange(len(price)), 0))
        signs: npt.NDArray[np.int8] = step[last_change]
        self._price, self._step = float(price[-1]), int(signs[-1])
        return signs


def _series(values: npt.ArrayLike, field: str) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InvalidInput(
            "must be one-dimensional and finite", field=field, value=array.shape, remedy="drop NaN and inf before"
        )
    return array


def _times(values: npt.ArrayLike, field: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise InvalidInput(
            "must be one-dimensional and finite", field=field, value=array.shape, remedy="drop NaN and inf before"
        )
    if len(array) > 1 and (array[1:] < array[:-1]).any():
        raise InvalidInput(
            "times decrease",
            field=field,
            value=int(np.argmax(array[1:] < array[:-1])) + 1,
            remedy="sort by time, stable within equal times",
        )
    return array
