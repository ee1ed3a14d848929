"""Metrics and machine together: what watches a roll day for a replay or a panel, bar by bar."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from crosswind.problems.roll.metrics import MetricStream, RollMetricsConfig, RollVolumeBaseline
from crosswind.problems.roll.metrics.config import NS
from crosswind.problems.roll.model import Regime, RollMarket, RollOrder
from crosswind.problems.roll.regimes.config import RegimeConfig
from crosswind.problems.roll.regimes.machine import RegimeMachine
from crosswind.solvers.errors import InvalidInput

__all__ = ["RegimeWatch"]


class RegimeWatch:
    """A stream of metrics that feeds a machine, for one order at a time.

    Parameters
    ----------
    regimes
        Triggers, dwell and deadline rule; None: those that come with the toolkit.
    metrics
        Windows and scales; None: likewise.
    baseline
        Expected roll volume, of earlier rolls; None: RPC is not known and its trigger never moves.
    history_s
        How much of the session before the first decision is taken in [s]; None: all of it. A little more than the
        longest window will do, and saves time where many orders share a day.

    Attributes
    ----------
    stream, machine
        Those of the present order; the machine holds the audit trail.
    """

    stream: MetricStream
    machine: RegimeMachine

    def __init__(
        self,
        regimes: RegimeConfig | None = None,
        metrics: RollMetricsConfig | None = None,
        baseline: RollVolumeBaseline | None = None,
        history_s: float | None = None,
    ) -> None:
        if history_s is not None and not 0.0 <= history_s < math.inf:
            raise InvalidInput("is out of range", field="history_s", value=history_s, remedy="pass 0 or more, or None")
        self.regimes = RegimeConfig() if regimes is None else regimes
        self.metrics = RollMetricsConfig() if metrics is None else metrics
        self.baseline, self.history_s = baseline, history_s
        self.machine = RegimeMachine(self.regimes)
        self._order: RollOrder | None = None
        self._seen = 0

    def start(self, order: RollOrder, market: RollMarket) -> None:
        """Forget the last order and take in the bars before the first decision.

        Raises
        ------
        InvalidInput
            If the baseline was fitted on recorded days that reach into this one.
        """
        if self.baseline is not None:
            self.baseline.check_before(market.times[0])
        self.stream = MetricStream.of(market, self.metrics, self.baseline, order)
        self.machine = RegimeMachine(self.regimes)
        self._order, self._seen = order, 0
        if self.history_s is not None:
            times = market.times.asi8
            self._seen = int(np.searchsorted(times, times[-1] - round(self.history_s * NS)))
        self._take(market, None)

    def fill(self, time: pd.Timestamp | int, near: float, far: float) -> None:
        """Tell a fill of the order [signed contracts of each leg]; see :meth:`MetricStream.fill`."""
        self.stream.fill(time, near, far)

    def look(self, market: RollMarket, remaining: int, bars_left: int) -> tuple[Regime, Mapping[str, float]]:
        """Take in the bars that are new and return the regime and the metrics at the last of them.

        Parameters
        ----------
        market
            The session up to the decision.
        remaining
            Spreads still to be done.
        bars_left
            Not used: the time left is that until the order's cutoff.

        Raises
        ------
        InvalidInput
            Before :meth:`start`.
        """
        if self._order is None:
            raise InvalidInput("has not been started", field="watch", value=None, remedy="call start() first")
        self._take(market, remaining)
        return self.machine.regime, self.stream.latest

    def _take(self, market: RollMarket, remaining: int | None) -> None:
        order = self._order
        assert order is not None
        times = market.times.asi8
        for bar in range(self._seen, len(times)):
            ns = int(times[bar])
            values = self.stream.update_bar(market, bar, remaining)
            self.machine.step(ns, values, (order.cutoff.value - ns) / (60.0 * NS))
        self._seen = len(times)
