"""Opening and closing auctions as slices of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.basket.inputs import as_instant, as_scalar
from crosswind.solvers.errors import InvalidInput

__all__ = ["Auction", "auction_rows"]


@dataclass(frozen=True, eq=False)
class Auction:
    """A call auction that is one slice of the schedule: one price, no length, its own liquidity.

    In slice t of an auction a trade u_it costs

        c|u| + ηu² + κ|u|^{3/2}   with the auction's own c, η, κ, and |u_it| ≤ p V_i of the auction's own volume,

    and meets and leaves only the share ``transient`` of every decaying mode of the impact model: at 0 the call neither
    pays for what the book has not yet forgotten nor leaves anything to forget. Permanent modes (β = 0) count in full,
    since a displaced value does not come back at the close. No time passes in an auction, so what remains after it
    bears no risk over it (w_t = 0).

    Parameters
    ----------
    time
        Start of the slice, one of the problem's ``times``.
    volume
        Expected matched notional, Series by name [currency].
    participation
        Largest share of ``volume``, or None for no limit.
    spread
        Relative cost per unit of notional: fees; there is no spread to cross.
    temporary
        η [1/currency], float or Series; None: 0.1 σ_i / V_i with σ_i over a slice, as in the book.
    three_halves
        κ [1/√currency], float or Series.
    transient
        Share in [0, 1] of the decaying impact that the auction meets and leaves.

    Raises
    ------
    InvalidInput
        On a naive time, numbers out of range.
    """

    time: pd.Timestamp
    volume: pd.Series
    participation: float | None = 0.1
    spread: pd.Series | float = 0.0
    temporary: pd.Series | float | None = None
    three_halves: pd.Series | float = 0.0
    transient: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", as_instant(self.time, "auction.time"))
        if not isinstance(self.volume, pd.Series):
            raise InvalidInput(
                "must be a Series by name",
                field="auction.volume",
                value=type(self.volume).__name__,
                remedy="expected matched notional by name",
            )
        for label in ("participation", "transient"):
            value = getattr(self, label)
            if value is None and label == "participation":
                continue
            number = as_scalar(value, f"auction.{label}")
            if number > 1.0:
                raise InvalidInput("must lie between 0 and 1", field=f"auction.{label}", value=number, remedy="a share")
            object.__setattr__(self, label, number)


def auction_rows(auctions: Sequence[Auction], times: pd.DatetimeIndex) -> dict[int, Auction]:
    """Return slice number -> auction.

    Raises
    ------
    InvalidInput
        When an auction's time is no slice start, or two share one.
    """
    found: dict[int, Auction] = {}
    for auction in auctions:
        if not isinstance(auction, Auction):
            raise InvalidInput("must hold Auctions", field="auctions", value=auction, remedy="Auction(time, volume)")
        at = int(times.searchsorted(auction.time))
        if at == len(times) or times[at] != auction.time:
            raise InvalidInput(
                "is no slice start", field="auctions", value=auction.time, remedy="add its time to times, or move it"
            )
        if at in found:
            raise InvalidInput("two auctions share a slice", field="auctions", value=auction.time, remedy="drop one")
        found[at] = auction
    return found


def slice_lengths(times: pd.DatetimeIndex, slice_s: float, rows: dict[int, Auction]) -> npt.NDArray[np.float64]:
    """Return the length of each slice (T,) [s]: 0 for an auction."""
    lengths = np.full(len(times), slice_s)
    lengths[list(rows)] = 0.0
    return lengths
