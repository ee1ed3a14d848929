"""What is left at the cutoff at the present pace, and what the forced cross of it would cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.roll.metrics import RollMetricsConfig, executable_pace
from crosswind.problems.roll.model import FloatArray, RollMarket
from crosswind.problems.roll.replay import RollVenue
from crosswind.problems.roll.report.track import RollTrack
from crosswind.solvers.errors import InvalidInput

__all__ = ["ForcedCross", "forced_cross", "residual_projection"]

_DRIFT = 0.1  # variance of the logarithm of the flow's level, per unit of ln(1 + windows ahead)
_LEAST = 0.5  # contracts: the least flow of a window that a logarithm is taken of
_Z90 = 1.6448536269514722  # Φ⁻¹(0.95)


@dataclass(frozen=True)
class ForcedCross:
    """A cross of the spread book down to its last price.

    Parameters
    ----------
    quantity, done, left
        Spreads wanted, done, and beyond what the book has.
    cost
        Half-spread, worse prices, fees, and the charge for what is left [currency; positive: money lost], against the
        spread's mid now.
    worst_ticks
        The worst price reached, beyond the best one [spread ticks].
    """

    quantity: int
    done: int
    left: int
    cost: float
    worst_ticks: int

    @property
    def per_spread(self) -> float:
        """Cost per spread wanted [currency]; 0 for none."""
        return self.cost / self.quantity if self.quantity else 0.0


def forced_cross(market: RollMarket, side: int, quantity: int, venue: RollVenue | None = None) -> ForcedCross:
    """Return what crossing a quantity at a market's last bar would cost, by the venue's rules for the cutoff.

    At price level j = 0 … levels − 1 there is ``a_j``: the share ``forced_participation`` of what is shown, times
    ``level_depth`` beyond the best price. With q_j taken there, w the width, c the currency per point:

        cost = c Σ q_j (w/2 + j tick) + 2 fee Σ q_j + c residual_ticks tick (quantity − Σ q_j).

    Parameters
    ----------
    market
        The books; only the last bar is read.
    side
        +1 buys, −1 sells.
    quantity
        Spreads, ≥ 0.
    venue
        Rules; default those of :class:`RollVenue`.

    Raises
    ------
    InvalidInput
        For a negative quantity.
    """
    v, q = RollVenue() if venue is None else venue, int(quantity)
    if q < 0:
        raise InvalidInput("is negative", field="quantity", value=quantity, remedy="pass the spreads left, 0 or more")
    shown = int((market.ask_size if side > 0 else market.bid_size)[-1])
    half = 0.5 * float(market.ask[-1] - market.bid[-1])
    best = max(int(v.forced_participation * shown), min(shown, 1))
    deep = max(int(v.forced_participation * v.level_depth * shown), min(shown, 1))
    left, walked, worst = q, 0.0, 0
    for level in range(v.levels):
        take = min(left, best if level == 0 else deep)
        walked += take * level
        left -= take
        worst = level if take else worst
    done, c = q - left, market.multiplier
    cost = c * (done * half + walked * market.tick + left * v.residual_ticks * market.tick)
    return ForcedCross(q, done, left, cost + 2.0 * v.fee_per_contract * done, worst)


def residual_projection(track: RollTrack, metrics: RollMetricsConfig | None = None) -> pd.DataFrame:
    r"""Return, for each bar since the first decision, the pace and what is left at the cutoff if it lasts.

    The executable pace is ``p x̄_w``: participation p times the mean over w bars of the flow that can fill the order.
    With m bars left, the flow lets the order do ``p m x̄_w`` until the cutoff, within a factor of

    .. math:: \exp\left(± 1.645 \sqrt{½ G (1 + w / m) + 0.1 \ln(1 + m / w)}\right)

    at 5 and 95 %. G is the mean square of the change of the logarithm from one sum over w bars to the next one so far:
    half of it is the noise of the pace now, half that of a window to come, of which there are m / w. The last term is
    the drift of the flow's level over a session; its 0.1 was chosen on simulated days. Flows are positive with long
    tails, hence logarithms. What is left is the remaining quantity less that, cut to 0 … remaining. It takes the flow
    as steady: what a time of day brings is in the plan's scenarios, not here.

    Parameters
    ----------
    track
        The course so far.
    metrics
        Pace window, participation and which flow can fill; default :class:`RollMetricsConfig`.

    Returns
    -------
    DataFrame
        Bar end → ``pace`` and ``required`` [spreads per minute], ``left``, ``left_low``, ``left_high`` [spreads; 5 and
        95 %]; NaN where the window is not warm, bounds also before some 2½ w bars are known.
    """
    c = RollMetricsConfig() if metrics is None else metrics
    market, first = track.market, track.first
    flow = market.volume if c.fillable == "all" else market.sold if track.order.side > 0 else market.bought
    bar_s, least = market.bar_s, c.least(c.pace_window_s, market.bar_s)
    pace = executable_pace(market.times, flow, c.pace_window_s, bar_s, c.participation, least)[first:]
    w = max(2, round(c.pace_window_s / bar_s))
    sums = np.log(pd.Series(np.asarray(flow, dtype=np.float64)).rolling(w).sum().clip(lower=_LEAST))
    change = ((sums - sums.shift(w)) ** 2).expanding(min_periods=max(2, w // 2)).mean().to_numpy()[first:]
    m = track.bars_left.astype(np.float64)
    remaining = track.remaining.astype(np.float64)
    ahead = pace * (bar_s / 60.0) * m
    with np.errstate(over="ignore", invalid="ignore"):
        windows = np.maximum(m, 1.0) / w
        factor = np.exp(_Z90 * np.sqrt(0.5 * change * (1.0 + 1.0 / windows) + _DRIFT * np.log1p(windows)))
        # A pace of zero is no proof that nothing will come: the upper bound begins at the least that can be told.
        most = np.maximum(ahead, c.participation * _LEAST / w * m) * factor

    def cut(values: FloatArray) -> Any:
        return np.clip(remaining - values, 0.0, remaining)

    minutes = m * bar_s / 60.0
    required = np.divide(remaining, minutes, out=np.full(len(m), np.nan), where=minutes > 0.0)
    required[(minutes == 0.0) & (remaining == 0.0)] = 0.0
    none = remaining == 0.0
    columns = {"left": cut(ahead), "left_low": cut(most), "left_high": cut(ahead / factor)}
    for values in columns.values():
        values[none] = 0.0
        values[(m == 0.0) & ~none] = remaining[(m == 0.0) & ~none]
    return pd.DataFrame({"pace": pace, "required": required, **columns}, index=track.times)
