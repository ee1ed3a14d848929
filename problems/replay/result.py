"""The outcome of a replay: fills, orders, paths and the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd

from crosswind.problems.replay.ledger import Ledger
from crosswind.problems.replay.model import Fill, FloatArray, ReplayMarket

__all__ = ["OrderRecord", "ReplayResult"]


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order and what became of it.

    Parameters
    ----------
    order_id, policy, instrument
        Number in order of sending, who sent it, and what.
    units, filled
        What was asked and what was done [shares or contracts].
    sent_ns, arrive_ns
        Decision and first arrival at the venue [ns since 1970-01-01 UTC].
    state
        "in flight", "filled", "cancelled" (at the end, by a venue without a close), "rejected" (every attempt was
        refused) or "throttled" (the rate limit refused it when it was sent).
    attempts
        Attempts that reached the venue so far.
    reason
        Why an order ended unfilled or had to be sent again, in words; empty where nothing went wrong.
    """

    order_id: int
    policy: str
    instrument: str
    units: float
    sent_ns: int
    arrive_ns: int
    filled: float
    state: str
    # Left out of the text so that digests of replays in which nothing was refused stay what they were.
    attempts: int = field(default=0, repr=False)
    reason: str = field(default="", repr=False)

    @property
    def rest(self) -> float:
        """Units still in flight; 0 once the order has ended."""
        return self.units - self.filled if self.state == "in flight" else 0.0


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """What a replay produced.

    Parameters
    ----------
    market
        The market that was replayed.
    fills, orders
        In order of execution and of sending.
    positions
        Units held after all events at each bound, (T+1, n).
    displacement
        Displacement of the mids by the account, after all events at each bound, (T+1, n) [return].
    wealth
        The ledger's wealth at the undisplaced mids, after all events at each bound, (T+1,) [currency]; starts from 0.
    ledger
        The account's books at the end.
    """

    market: ReplayMarket
    fills: tuple[Fill, ...]
    orders: tuple[OrderRecord, ...]
    positions: FloatArray
    displacement: FloatArray
    wealth: FloatArray
    ledger: Ledger

    def fills_of(self, policy: str) -> tuple[Fill, ...]:
        """Return the fills of one policy."""
        return tuple(fill for fill in self.fills if fill.policy == policy)

    def fills_frame(self) -> pd.DataFrame:
        """Return one row per fill with its costs.

        Columns as in :class:`Fill`, ``time`` (UTC), and in currency: ``spread_cost = |n|·m·half_spread``,
        ``impact_self`` and ``impact_cross = n·m·mid·displacement`` by the own and by other instruments, ``fee``.
        """
        names = [f.name for f in fields(Fill) if f.name not in {"displacement_by", "time_ns"}]
        rows = [{name: getattr(fill, name) for name in names} for fill in self.fills]
        frame = pd.DataFrame(rows, columns=names)
        frame.insert(5, "time", _times([fill.time_ns for fill in self.fills]))
        own = np.array([fill.displacement_by[self.market.position_of(fill.instrument)] for fill in self.fills])
        every = np.array([sum(fill.displacement_by) for fill in self.fills])
        notional = np.array([fill.units * fill.multiplier * fill.mid for fill in self.fills])
        paid = np.array([abs(fill.units) * fill.multiplier * fill.half_spread for fill in self.fills])
        frame["spread_cost"], frame["impact_self"] = paid, notional * own
        frame["impact_cross"] = notional * (every - own)
        return frame

    def orders_frame(self) -> pd.DataFrame:
        """Return one row per order, its life in ``state``, ``attempts`` and ``reason``; times in UTC."""
        names = [f.name for f in fields(OrderRecord)]
        frame = pd.DataFrame([[getattr(o, name) for name in names] for o in self.orders], columns=names)
        frame["sent"] = _times([o.sent_ns for o in self.orders])
        frame["arrives"] = _times([o.arrive_ns for o in self.orders])
        return frame.drop(columns=["sent_ns", "arrive_ns"])

    def positions_frame(self) -> pd.DataFrame:
        """Return the units held after each bound, index: times (UTC), columns: instruments."""
        return pd.DataFrame(
            self.positions, index=self.market.times[: len(self.positions)], columns=list(self.market.instruments)
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the fills, as :meth:`fills_frame`."""
        return self.fills_frame()

    def digest(self) -> str:
        """Return a SHA-256 over all fills, orders and paths: equal digests mean byte-identical replays."""
        text = hashlib.sha256()
        for record in (*self.fills, *self.orders):
            text.update(repr(record).encode())
            if isinstance(record, OrderRecord) and (record.attempts > 1 or record.state in {"rejected", "throttled"}):
                text.update(repr((record.attempts, record.reason)).encode())
        for path in (self.positions, self.displacement, self.wealth):
            text.update(repr(path.shape).encode())
            text.update(np.ascontiguousarray(path).tobytes())
        return text.hexdigest()

    def summary(self) -> str:
        """Return a few lines of text: counts, turnover, wealth."""
        turnover = sum(abs(fill.units) * fill.multiplier * fill.mid for fill in self.fills)
        states = pd.Series([order.state for order in self.orders], dtype=object).value_counts().to_dict()
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
        return (
            f"{len(self.fills)} fills of {len(self.orders)} orders ({counts}) in {len(self.positions) - 1} slices\n"
            f"turnover {turnover:,.0f}, fees {self.ledger.fees:,.2f}, wealth change {self.wealth[-1]:,.2f} [currency]"
        )


def _times(values: list[int]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.array(values, dtype="datetime64[ns]"), tz="UTC")
