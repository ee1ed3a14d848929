"""The metrics bar by bar: the same numbers as the batch form, in O(1) amortised time and bounded memory."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from operator import itemgetter
from typing import Any

import pandas as pd

from crosswind.problems.roll.clock import nanoseconds
from crosswind.problems.roll.metrics.baseline import RollVolumeBaseline, check_slots
from crosswind.problems.roll.metrics.config import METRICS, NS, RollMetricsConfig
from crosswind.problems.roll.metrics.legging import LegLedger
from crosswind.problems.roll.metrics.windows import MedianWindow, MomentWindow, SumWindow
from crosswind.problems.roll.model import RollMarket, RollOrder
from crosswind.solvers.errors import InvalidInput

__all__ = ["MetricStream"]

_QUARTER = 900 * NS  # zones change their offset on quarters of an hour only
_KEPT = 1000


class MetricStream:
    """RPC, CDE, BDZ, LET and RDP of one roll, updated once per bar.

    A bar whose time is not after the last one's is ignored and noted: nothing changes, the last values stand. A gap
    is counted; windows are in time, so what is too old leaves them, and metrics are NaN until they are warm again.

    Parameters
    ----------
    config
        Windows and scales.
    baseline
        Expected roll volume; None: RPC is NaN.
    tick
        Price step of the spread [points].
    bar_s
        Length of a bar [s].
    order
        The order whose pressure is measured; None: RDP is NaN.

    Attributes
    ----------
    pace
        Executable pace at the last bar [contracts per minute]; NaN while not known.
    sides
        Elasticity of ``bid`` and ``ask`` by themselves at the last bar.
    gaps
        Gaps seen so far.
    refused_count, refused
        How many bars were ignored because time did not go forward, and the last 1000 of them as (time, last time)
        [ns].
    """

    def __init__(
        self,
        config: RollMetricsConfig | None = None,
        baseline: RollVolumeBaseline | None = None,
        *,
        tick: float,
        bar_s: float,
        order: RollOrder | None = None,
    ) -> None:
        self.config = RollMetricsConfig() if config is None else config
        self.baseline, self.order = baseline, order
        for name, value in (("tick", tick), ("bar_s", bar_s)):
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0.0):
                raise InvalidInput("must be positive and finite", field=name, value=value, remedy="see the market")
        self.tick, self.bar_s = float(tick), float(bar_s)
        if baseline is not None:
            check_slots(baseline.slot_s, self.bar_s)
        c = self.config
        self._least = {name: c.least(getattr(c, f"{name}_window_s"), bar_s) for name in ("rpc", "cde", "bdz", "pace")}
        self._span = {name: round(getattr(c, f"{name}_window_s") * NS) for name in ("rpc", "cde", "bdz", "pace")}
        self._floor, self._gap = c.floor(self.tick), c.gap_ns(self.bar_s)
        self._table = None if baseline is None else baseline.table().tolist()
        self._offsets: dict[int, int] = {}
        self._rpc, self._pace, self._taken, self._unknown = (SumWindow() for _ in range(4))
        self._basis: MedianWindow | MomentWindow = MedianWindow() if c.robust else MomentWindow()
        self._depth: deque[tuple[int, float, float]] = deque()
        self._legs = LegLedger(c.let_window_s)
        self._done = [0.0, 0.0]
        self._pending: deque[tuple[int, float, float]] = deque()  # fills whose bar has not ended yet
        self._last_fill = -(1 << 62)
        self._last: int | None = None
        self._values = dict.fromkeys(METRICS, math.nan)
        self.pace = math.nan
        self.sides = {"bid": math.nan, "ask": math.nan}
        self.gaps = 0
        self.refused_count = 0
        self.refused: deque[tuple[int, int]] = deque(maxlen=_KEPT)

    @classmethod
    def of(
        cls,
        market: RollMarket,
        config: RollMetricsConfig | None = None,
        baseline: RollVolumeBaseline | None = None,
        order: RollOrder | None = None,
    ) -> MetricStream:
        """Return a stream with the tick and the bar length of a market."""
        return cls(config, baseline, tick=market.tick, bar_s=market.bar_s, order=order)

    def fill(self, time: pd.Timestamp | int, near: float, far: float) -> None:
        """Tell a fill of the order; it counts from the first bar on that ends at its time or later.

        Fills of one bar may be told in any order. One that is told late, after its bar was measured, is not lost: it
        counts from the next bar on, and is never booked before one that counts already.

        Parameters
        ----------
        time
            When (tz-aware, or ns since 1970 UTC).
        near, far
            Signed contracts of each leg, buys positive.

        Raises
        ------
        InvalidInput
            If it is not finite or its time has no zone.
        """
        ns = nanoseconds(time)
        if not _finite(near, far):
            raise InvalidInput("is not finite", field="fill", value=(near, far), remedy="pass signed contracts")
        insort(self._pending, (max(ns, self._last_fill), float(near), float(far)), key=itemgetter(0))

    def update(
        self,
        time: pd.Timestamp | int,
        *,
        bid: float,
        ask: float,
        bid_size: float,
        ask_size: float,
        sold: float,
        bought: float,
        remaining: float | None = None,
    ) -> dict[str, float]:
        """Take a bar and return the metrics at its end.

        Parameters
        ----------
        time
            The bar's end (tz-aware, or ns since 1970 UTC).
        bid, ask, bid_size, ask_size
            Quotes of the spread at the bar's end. Missing, crossed or locked: no basis and no depth in this bar.
        sold, bought
            Aggressive sizes in the bar; not finite or negative: not known.
        remaining
            Spreads still to be done; None: the order's size less what the fills told.

        Returns
        -------
        dict
            ``rpc``, ``cde``, ``bdz``, ``let_s``, ``rdp``.
        """
        ns = nanoseconds(time)
        if self._last is not None:
            if ns <= self._last:
                self.refused_count += 1
                self.refused.append((ns, self._last))
                return dict(self._values)
            self.gaps += ns - self._last > self._gap
        self._last = ns
        while self._pending and self._pending[0][0] <= ns:
            self._last_fill, near, far = self._pending.popleft()
            self._legs.fill(self._last_fill, near, far)
            self._done = [self._done[0] + near, self._done[1] + far]
        sound = bid < ask and _finite(bid, ask, bid_size, ask_size) and bid_size >= 0.0 and ask_size >= 0.0
        flows = (sold if _flow(sold) else math.nan, bought if _flow(bought) else math.nan)
        self._values = {
            "rpc": self._participation(ns, flows[0] + flows[1]),
            "cde": self._elasticity(ns, bid_size if sound else math.nan, ask_size if sound else math.nan, flows),
            "bdz": self._score(ns, 0.5 * (bid + ask) if sound else math.nan),
            "let_s": self._legs.exposure(ns),
            "rdp": self._pressure(ns, flows, remaining),
        }
        return dict(self._values)

    def update_bar(self, market: RollMarket, bar: int, remaining: float | None = None) -> dict[str, float]:
        """Take bar ``bar`` of a market; as :meth:`update`."""
        return self.update(
            int(market.times.asi8[bar]),
            bid=float(market.bid[bar]),
            ask=float(market.ask[bar]),
            bid_size=float(market.bid_size[bar]),
            ask_size=float(market.ask_size[bar]),
            sold=float(market.sold[bar]),
            bought=float(market.bought[bar]),
            remaining=remaining,
        )

    @property
    def latest(self) -> dict[str, float]:
        """The metrics at the last bar."""
        return dict(self._values)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can hold (NaN among them); config and baseline are not in it."""
        return {
            "windows": [w.state() for w in (self._rpc, self._pace, self._taken, self._unknown, self._basis)],
            "depth": [list(entry) for entry in self._depth],
            "legs": self._legs.state(),
            "done": list(self._done),
            "pending": [list(entry) for entry in self._pending],
            "last_fill": self._last_fill,
            "last": self._last,
            "values": dict(self._values),
            "pace": self.pace,
            "sides": dict(self.sides),
            "gaps": self.gaps,
            "refused": self.refused_count,
            "of": repr((self.config, self.tick, self.bar_s)),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot of a stream with the same config.

        Raises
        ------
        InvalidInput
            If it was taken with another config, tick or bar length.
        """
        if snapshot.get("of") != repr((self.config, self.tick, self.bar_s)):
            raise InvalidInput(
                "was taken with other settings",
                field="snapshot",
                value=snapshot.get("of"),
                remedy="use the same config",
            )
        windows = (self._rpc, self._pace, self._taken, self._unknown, self._basis)
        for window, state in zip(windows, snapshot["windows"], strict=True):
            window.load(state)
        self._depth = deque((int(ns), float(b), float(a)) for ns, b, a in snapshot["depth"])
        self._legs.load(snapshot["legs"])
        self._done = [float(v) for v in snapshot["done"]]
        self._pending = deque((int(ns), float(near), float(far)) for ns, near, far in snapshot["pending"])
        self._last_fill = int(snapshot["last_fill"])
        self._last = None if snapshot["last"] is None else int(snapshot["last"])
        self._values = {name: float(snapshot["values"][name]) for name in METRICS}
        self.pace = float(snapshot["pace"])
        self.sides = {name: float(snapshot["sides"][name]) for name in ("bid", "ask")}
        self.gaps, self.refused_count = int(snapshot["gaps"]), int(snapshot["refused"])
        self.refused.clear()

    def _participation(self, ns: int, volume: float) -> float:
        if self.baseline is None:
            return math.nan
        expected = self._expected(ns)
        if math.isfinite(volume) and math.isfinite(expected):
            self._rpc.push(ns, volume, expected)
        self._rpc.drop(ns - self._span["rpc"])
        n, traded, usual = self._rpc.total()
        return traded / usual if n >= self._least["rpc"] and usual > 0.0 else math.nan

    def _expected(self, ns: int) -> float:
        base = self.baseline
        assert base is not None
        assert self._table is not None
        middle = ns - round(self.bar_s * NS / 2)
        quarter = middle // _QUARTER
        if quarter not in self._offsets:
            if len(self._offsets) >= _KEPT:
                self._offsets.clear()
            local = pd.Timestamp(quarter * _QUARTER, tz="UTC").tz_convert(base.tz).utcoffset()
            assert local is not None
            self._offsets[quarter] = round(local.total_seconds()) * NS
        slot = (middle + self._offsets[quarter]) % (86400 * NS) // round(base.slot_s * NS)
        return float(self._table[slot]) * self.bar_s

    def _elasticity(self, ns: int, bid: float, ask: float, flows: tuple[float, float]) -> float:
        start = ns - self._span["cde"]
        unknown = not (math.isfinite(flows[0]) and math.isfinite(flows[1]))
        self._unknown.push(ns, float(unknown))
        self._taken.push(ns, *(0.0 if math.isnan(f) else f for f in flows))
        self._unknown.drop(start)
        self._taken.drop(start)
        self._depth.append((ns, bid, ask))
        while len(self._depth) > 1 and self._depth[1][0] <= start:
            self._depth.popleft()
        was = self._depth[0]
        n, sold, bought = self._taken.total()
        if was[0] > start or was[0] < start - self._gap or n < self._least["cde"] or self._unknown.total()[1] > 0.0:
            self.sides = {"bid": math.nan, "ask": math.nan}
            return math.nan
        share = self.config.cde_least_share
        self.sides = {"bid": _slope(bid, was[1], sold, share), "ask": _slope(ask, was[2], bought, share)}
        return _slope(bid + ask, was[1] + was[2], sold + bought, share)

    def _score(self, ns: int, basis: float) -> float:
        self._basis.drop(ns - self._span["bdz"] - 1)
        if math.isnan(basis):
            return math.nan
        score = self._basis.scores(basis, self._least["bdz"], self._floor)
        self._basis.push(ns, basis)
        return score

    def _pressure(self, ns: int, flows: tuple[float, float], remaining: float | None) -> float:
        order, c = self.order, self.config
        if order is None:
            return math.nan
        fillable = flows[0] + flows[1] if c.fillable == "all" else flows[0 if order.side > 0 else 1]
        if math.isfinite(fillable):
            self._pace.push(ns, fillable)
        self._pace.drop(ns - self._span["pace"])
        n, total, _ = self._pace.total()
        known = n >= self._least["pace"]
        self.pace = c.participation * total / (n * (self.bar_s / 60.0)) if known else math.nan
        if remaining is None:
            remaining = order.size - max(-order.side * self._done[0], order.side * self._done[1], 0.0)
        return pressure(remaining, (order.cutoff.value - ns) / (60.0 * NS), self.pace)


def pressure(remaining: float, minutes_left: float, pace: float) -> float:
    """Return RDP of one bar; see :func:`crosswind.problems.roll.metrics.deadline_pressure`."""
    if math.isnan(remaining) or remaining <= 0.0:
        return math.nan if math.isnan(remaining) else 0.0
    if math.isnan(minutes_left):
        return math.nan
    if minutes_left <= 0.0 or pace <= 0.0:
        return math.inf
    return remaining / minutes_left / pace


def _slope(now: float, was: float, taken: float, share: float) -> float:
    return (now - was) / taken if taken > 0.0 and taken > share * was else math.nan


def _finite(*values: float) -> bool:
    return all(math.isfinite(v) for v in values)


def _flow(value: float) -> bool:
    return math.isfinite(value) and value >= 0.0
