"""The watch of benchmarks/roll_study.py: metrics of a day in one piece, shared by its orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswind.problems.roll import Regime, RollMarket, RollOrder
from crosswind.problems.roll.metrics import RollMetricsConfig, RollVolumeBaseline, executable_pace, roll_metrics
from crosswind.problems.roll.metrics.stream import pressure
from crosswind.problems.roll.regimes import RegimeMachine, RegimeWatch

WARM_S = 1800.0  # the machine starts so long before the order


class DayWatch(RegimeWatch):
    """A watch that takes the metrics of a day from the batch, which equals the stream, and shares them among orders.

    The machine starts ``WARM_S`` before the order. Legging exposure is 0: what is watched here legs at once if at all.
    """

    def __init__(self, baseline: RollVolumeBaseline | None, metrics: RollMetricsConfig | None = None) -> None:
        super().__init__(None, metrics, baseline)
        self._days: dict[int, Any] = {}

    def start(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last order; take in the last bars before the start."""
        whole = getattr(market, "_whole", market)
        key = id(whole)
        if key not in self._days:
            self._days.clear()
            c, bar_s = self.metrics, whole.bar_s
            frame = roll_metrics(whole, None, self.baseline, config=c)
            least = c.least(c.pace_window_s, bar_s)
            flows = {1: whole.sold, -1: whole.bought}
            paces = {
                side: executable_pace(whole.times, flow, c.pace_window_s, bar_s, c.participation, least).tolist()
                for side, flow in flows.items()
            }
            columns = [frame[name].tolist() for name in ("rpc", "cde", "bdz")]
            self._days[key] = (whole, columns, paces, whole.times.asi8.tolist())
        _, self._columns, paces, self._ns = self._days[key]
        self._pace = paces[order.side]
        self.machine, self._order = RegimeMachine(self.regimes), order
        for bar in range(max(0, market.bars - round(WARM_S / market.bar_s)), market.bars):
            self._step(bar, order.size)

    def fill(self, time: Any, near: float, far: float) -> None:
        """Do nothing: remaining is told by the replay."""

    def look(self, market: RollMarket, remaining: int, bars_left: int) -> tuple[Regime, Mapping[str, float]]:
        """Return regime and metrics at the last bar."""
        bar = market.bars - 1
        if bar >= self._seen:
            self._step(bar, remaining)
        return self.machine.regime, self._values

    def _step(self, bar: int, remaining: int) -> None:
        assert self._order is not None
        ns, (rpc, cde, bdz) = self._ns[bar], self._columns
        minutes = (self._order.cutoff.value - ns) / 60e9
        self._values = {
            "rpc": rpc[bar],
            "cde": cde[bar],
            "bdz": bdz[bar],
            "let_s": 0.0,
            "rdp": pressure(remaining, minutes, self._pace[bar]),
        }
        self.machine.step(ns, self._values, minutes)
        self._seen = bar + 1
