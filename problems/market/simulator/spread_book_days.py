"""Several sessions of a roll on one axis: the legs' quotes, the listed spreads and the truth behind them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.simulator.sessions import bucket_count, business_days, session_ends
from crosswind.problems.market.simulator.spread_book import RollDay, RollParameters, draw_roll
from crosswind.problems.market.simulator.streams import Part, stream
from crosswind.problems.market.spread_quotes import SpreadQuotes
from crosswind.solvers.errors import InvalidInput

__all__ = ["RollBook", "join_roll", "simulate_roll"]

_SIDES = ("bid", "ask")


@dataclass(frozen=True, eq=False)
class RollBook:
    """Books of a roll over several sessions.

    Parameters
    ----------
    futures
        Quotes of the legs.
    spreads
        'near-far' → quotes of that listed spread; more than one pair where the front expires in between.
    days
        The sessions with their truth, in order.
    bar_s
        Length of a bar [s].
    parameters
        What they were drawn with.
    """

    futures: FuturesQuotes
    spreads: dict[str, SpreadQuotes]
    days: tuple[RollDay, ...]
    bar_s: float
    parameters: RollParameters

    @property
    def shocks(self) -> pd.DataFrame:
        """Basis shocks of all sessions: bar end (UTC) → ``points`` and ``bar`` (within its session)."""
        rows = [
            pd.DataFrame({"points": day.shock_points, "bar": day.shock_bars}, index=day.shock_times)
            for day in self.days
        ]
        return pd.concat(rows)

    def truth(self) -> dict[str, Any]:
        """Return what estimators of a roll are scored against, as plain values.

        Every parameter, and ``shock_times`` (ISO, UTC) with ``shock_points``.
        """
        shocks = self.shocks
        return {
            **self.parameters.to_dict(),
            "shock_times": [stamp.isoformat() for stamp in shocks.index],
            "shock_points": [float(size) for size in shocks["points"]],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return the true state by bar: ``fair``, ``mid`` [points], ``stress``, ``far_share``, and the ledger.

        Ledger columns are ``sent``, ``consumed``, ``cancelled``, ``added``, ``displayed`` and ``target`` with the
        endings ``_bid`` and ``_ask`` [contracts].
        """
        frames = []
        for day in self.days:
            columns: dict[str, Any] = {field: getattr(day, field) for field in ("fair", "mid", "stress", "far_share")}
            for field in ("sent", "consumed", "cancelled", "added", "displayed", "target"):
                for side, name in enumerate(_SIDES):
                    columns[f"{field}_{name}"] = getattr(day.book, field)[:, side]
            frames.append(pd.DataFrame(columns, index=day.index))
        return pd.concat(frames)

    def summary(self) -> str:
        """Return a few lines: legs, spreads, shocks."""
        lines = [self.futures.summary(), *(quotes.summary() for quotes in self.spreads.values())]
        return "\n".join([*lines, f"{len(self.shocks)} basis shocks"])


def join_roll(days: Sequence[RollDay], bar_s: float, parameters: RollParameters, root: str = "SIM") -> RollBook:
    """Return the sessions on one axis.

    Parameters
    ----------
    days
        Sessions in order, at least one.
    bar_s
        Length of a bar [s].
    parameters
        What they were drawn with.
    root
        Root symbol.

    Returns
    -------
    RollBook

    Raises
    ------
    InvalidInput
        Without a session, or where they are not in order.
    """
    if not days:
        raise InvalidInput("there is no session", field="days", value=0, remedy="draw at least one")
    p = parameters
    fields = ("bid", "ask", "bid_size", "ask_size", "volume")

    def leg_frame(field: str) -> pd.DataFrame:
        blocks = [pd.DataFrame(getattr(day.legs, field), day.index, list(day.legs.expiries)) for day in days]
        joined = pd.concat(blocks)
        joined = joined[sorted(joined.columns)]
        return joined.fillna(0.0) if field == "volume" else joined

    futures = FuturesQuotes(
        root=root,
        **{field: leg_frame(field) for field in fields},
        bar_s=bar_s,
        multiplier=p.multiplier,
        tick=p.outright_tick,
    )
    spreads = {}
    for near, far in dict.fromkeys((day.near, day.far) for day in days):
        frame = pd.concat([_spread_frame(day) for day in days if (day.near, day.far) == (near, far)])
        columns: dict[str, Any] = {str(name): frame[name] for name in frame.columns}
        spreads[f"{near}-{far}"] = SpreadQuotes(
            root=root, near=near, far=far, **columns, bar_s=bar_s, multiplier=p.multiplier, tick=p.tick
        )
    return RollBook(futures, spreads, tuple(days), float(bar_s), parameters)


def _spread_frame(day: RollDay) -> pd.DataFrame:
    book = day.book
    return pd.DataFrame(
        {
            "bid": day.bid_ticks * day.tick,
            "ask": day.ask_ticks * day.tick,
            "bid_size": book.displayed[:, 0].astype(np.float64),
            "ask_size": book.displayed[:, 1].astype(np.float64),
            "volume": book.consumed.sum(axis=1).astype(np.float64),
            "aggressive_buy": book.consumed[:, 1].astype(np.float64),
            "aggressive_sell": book.consumed[:, 0].astype(np.float64),
        },
        index=day.index,
    )


def simulate_roll(
    parameters: RollParameters | None = None,
    days: int = 3,
    seed: int = 0,
    start: str | dt.date = "2024-03-06",
    tz: str = "America/New_York",
    open_local_s: float = 34200.0,
    session_s: float = 23400.0,
    holidays: Iterable[str | dt.date] = (),
    root: str = "SIM",
) -> RollBook:
    """Simulate the books of a roll on an index of their own, without the names behind it.

    The index is a random walk with the parameters' volatility, continued over nights without a gap. Each session draws
    from its own streams: a longer roll begins with the shorter one.

    Parameters
    ----------
    parameters
        Numbers of the roll; default :class:`RollParameters`.
    days, start, holidays
        Business days from ``start`` on. The default ones lie 9 to 7 days before the expiry of March 2024.
    seed
        Integer of 0 or more.
    tz, open_local_s, session_s
        Exchange zone, open after local midnight [s] and length of the session [s].
    root
        Root symbol.

    Returns
    -------
    RollBook

    Raises
    ------
    InvalidInput
        Naming the argument at fault.
    """
    p = RollParameters() if parameters is None else parameters
    if not isinstance(p, RollParameters):
        raise InvalidInput(
            "not RollParameters", field="parameters", value=type(p).__name__, remedy="pass RollParameters()"
        )
    dates = business_days(start, days, tuple(holidays))
    count = bucket_count(session_s, p.bar_s)
    level, sessions = p.index_level, []
    for number, date in enumerate(dates):
        z = stream(seed, Part.ROLL_INDEX, number).standard_normal(count)
        index_points = level * np.exp(np.cumsum(p.index_vol_daily / np.sqrt(count) * z))
        level = float(index_points[-1])
        ends = session_ends(date, open_local_s, p.bar_s, count, tz)
        sessions.append(draw_roll(index_points, ends, np.ones(count), p.bar_s, date, p, seed, number))
    return join_roll(sessions, p.bar_s, p, root)
