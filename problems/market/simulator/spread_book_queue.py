"""What a passive order meets in the spread book: the queue ahead of it, cancellations, trades, quotes that move."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crosswind.problems.market.simulator.spread_book import RollDay
from crosswind.solvers.errors import InvalidInput

__all__ = ["join_queue"]


def join_queue(
    day: RollDay, side: int, bar: int, contracts: int, fraction: float | None = None, bars: int | None = None
) -> pd.DataFrame:
    """Follow a passive order of the spread that joins the best quote at the end of a bar.

    Ahead of it stand ``fraction`` of the displayed contracts. While its price is the best one, a bar's aggressors
    trade what is ahead first and then the order; cancellations take contracts ahead in proportion. A better quote than
    its price halts it, a worse one leaves it alone at the front, and a quote of the other side at its price or through
    it fills the rest. The order is small: the book does not react to it.

    Parameters
    ----------
    day
        A session of the roll.
    side
        +1: buys at the bid, −1: sells at the ask.
    bar
        Bar at whose end the order joins, 0 … B − 1.
    contracts
        Size [contracts], at least 1.
    fraction
        Share of the displayed size ahead; default the day's own.
    bars
        How many bars it stays; default to the session's end.

    Returns
    -------
    DataFrame
        Ends of the bars after ``bar`` × ``ahead`` (at the bar's end), ``filled`` (in the bar) [contracts] and ``best``
        (whether its price was the best one during the bar). The order's price is in ``.attrs["price"]`` [points].

    Raises
    ------
    InvalidInput
        On a side, bar, size or fraction out of range.
    """
    total = len(day.index)
    share = day.queue_fraction if fraction is None else fraction
    stay = total - 1 - bar if bars is None else min(bars, total - 1 - bar)
    checks = {
        "side": (side, side in (-1, 1), "pass 1 to buy or -1 to sell"),
        "bar": (bar, 0 <= bar < total, f"pass 0 to {total - 1}"),
        "contracts": (contracts, contracts >= 1, "pass 1 or more"),
        "fraction": (share, 0.0 <= share <= 1.0, "pass a number from 0 to 1"),
        "bars": (bars, bars is None or bars >= 0, "pass 0 or more"),
    }
    for field, (value, ok, remedy) in checks.items():
        if not ok:
            raise InvalidInput("is out of range", field=field, value=value, remedy=remedy)
    column = 0 if side > 0 else 1
    # In units in which higher is better for both sides.
    own = side * (day.bid_ticks if side > 0 else day.ask_ticks)
    other = side * (day.ask_ticks if side > 0 else day.bid_ticks)
    book, price, left = day.book, own[bar], contracts
    ahead = int(np.ceil(share * book.displayed[bar, column]))
    rows = np.zeros((stay, 3))
    for k, t in enumerate(range(bar + 1, bar + 1 + stay)):
        fill, best = 0, bool(own[t - 1] == price)
        if other[t - 1] <= price:
            fill, ahead = left, 0
        elif own[t - 1] < price:
            ahead = 0
            fill = min(left, int(book.consumed[t, column]))
        elif best:
            traded = int(book.consumed[t, column])
            fill = min(left, max(0, traded - ahead))
            standing = int(book.displayed[t - 1, column]) - traded
            ahead = max(0, ahead - traded)
            if standing > 0:
                gone = round(int(book.cancelled[t, column]) * min(ahead, standing) / standing)
                ahead -= min(ahead, gone)
        left -= fill
        rows[k] = ahead, fill, best or own[t - 1] < price
    out = pd.DataFrame(rows, index=day.index[bar + 1 : bar + 1 + stay], columns=["ahead", "filled", "best"])
    out = out.astype({"ahead": np.int64, "filled": np.int64, "best": bool})
    out.attrs["price"] = float(side * price * day.tick)
    return out
