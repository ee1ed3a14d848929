"""The metrics of a whole session at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.metrics.baseline import RollVolumeBaseline
from crosswind.problems.roll.metrics.config import METRICS, NS, RollMetricsConfig
from crosswind.problems.roll.metrics.functions import (
    basis_z,
    deadline_pressure,
    depth_elasticity,
    executable_pace,
    roll_participation,
)
from crosswind.problems.roll.metrics.legging import legging_exposure, spreads_done
from crosswind.problems.roll.model import RollMarket, RollOrder
from crosswind.solvers.errors import InvalidInput

__all__ = ["roll_metrics"]


def roll_metrics(
    market: RollMarket,
    order: RollOrder | None = None,
    baseline: RollVolumeBaseline | None = None,
    fills: pd.DataFrame | None = None,
    config: RollMetricsConfig | None = None,
    remaining: pd.Series[Any] | None = None,
) -> pd.DataFrame:
    """Return the five metrics of a session; the row of a bar knows nothing from after its end.

    Parameters
    ----------
    market
        The session.
    order
        The order whose pressure is measured; None: RDP is NaN.
    baseline
        Expected roll volume; None: RPC is NaN.
    fills
        Fills so far, time × ``near``, ``far`` [signed contracts]; None: none, LET is 0.
    config
        Windows and scales.
    remaining
        Spreads still to be done at the bars' ends; None: from the fills.

    Returns
    -------
    DataFrame
        Bar ends × ``rpc``, ``cde``, ``bdz``, ``let_s``, ``rdp``; ``.attrs`` holds ``market`` and ``baseline``, what
        they were made of, in words.

    Raises
    ------
    InvalidInput
        For a baseline of recorded days that reaches into the session, or fills and remaining of another form.
    """
    c = RollMetricsConfig() if config is None else config
    times, bar_s = market.times, market.bar_s
    columns = {name: np.full(market.bars, np.nan) for name in METRICS}
    if baseline is not None:
        baseline.check_before(times[0])
        expected = baseline.expected(times, bar_s).to_numpy()
        columns["rpc"] = roll_participation(
            times, market.volume, expected, c.rpc_window_s, c.least(c.rpc_window_s, bar_s)
        )
    columns["cde"] = depth_elasticity(
        times,
        market.bid_size,
        market.ask_size,
        market.sold,
        market.bought,
        c.cde_window_s,
        c.least(c.cde_window_s, bar_s),
        c.cde_least_share,
        c.gap_ns(bar_s) / NS,
    )["both"].to_numpy()
    columns["bdz"] = basis_z(
        times, market.mid, c.bdz_window_s, c.least(c.bdz_window_s, bar_s), c.floor(market.tick), c.robust
    )
    columns["let_s"] = np.zeros(market.bars) if fills is None else legging_exposure(times, fills, c.let_window_s)
    if order is not None:
        flow = market.volume if c.fillable == "all" else market.sold if order.side > 0 else market.bought
        pace = executable_pace(times, flow, c.pace_window_s, bar_s, c.participation, c.least(c.pace_window_s, bar_s))
        minutes = (order.cutoff.value - times.asi8) / (60.0 * NS)
        columns["rdp"] = deadline_pressure(_remaining(times, order, fills, remaining), minutes, pace)
    frame = pd.DataFrame(columns, index=times)
    frame.attrs = {"market": market.source, "baseline": "none" if baseline is None else baseline.source}
    return frame


def _remaining(
    times: pd.DatetimeIndex, order: RollOrder, fills: pd.DataFrame | None, remaining: pd.Series[Any] | None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    if remaining is not None:
        if not remaining.index.equals(times):
            raise InvalidInput(
                "is not on the market's bars", field="remaining", value=len(remaining), remedy="one value per bar end"
            )
        return remaining.to_numpy(dtype=np.float64)
    if fills is None:
        return np.full(len(times), float(order.size))
    return np.maximum(order.size - spreads_done(times, fills, order.side), 0.0)
