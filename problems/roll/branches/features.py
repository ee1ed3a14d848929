"""What is known at a decision, as numbers: one definition for samples of whole sessions and for a live state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crosswind.problems.roll.branches.probes import Decisions, worse_ticks
from crosswind.problems.roll.model import RollMarket, RollState
from crosswind.solvers.errors import InvalidInput

__all__ = ["FEATURES", "branch_features", "decision_features"]

Array = NDArray[np.float64]
WINDOW_S = 300.0
"""Over which flow, width and volatility are measured [s]."""

FEATURES: dict[str, str] = {
    "log_queue": "log of (ahead + clip) over the flow expected against the own side until the time-out",
    "log_ahead": "log of what is ahead over that flow",
    "log_clip": "log of the clip",
    "log_clip_depth": "log of the clip over what is displayed on the own side",
    "imbalance": "(own − other displayed size) / both",
    "width": "quoted width [ticks]",
    "mean_width": "its mean over the window [ticks]",
    "vol": "root mean square move of the spread's mid over the window [ticks per √min]",
    "leg_vol": "the same of the near leg's mid [leg ticks per √min]",
    "flow_tilt": "(flow against the own − the other side) / both, over the window",
    "log_timeout": "log of the time-out [min]",
    "log_max_let": "log of the greatest legging exposure time [min]",
    "log_left": "log of the time to the cutoff [min]",
    "log_slack": "log of the time to the cutoff over the time-out",
    "due": "1 where the cutoff comes before or at the time-out",
    "due_again": "1 where it comes before or at the retry's time-out",
    "log_rpc": "log of the roll participation congestion; 0 where not known",
    "cde": "calendar depth elasticity; 0 where not known",
    "bdz": "basis z-score times the side: > 0 buys dear or sells cheap; 0 where not known",
    "log_rdp": "log of the residual deadline pressure; 0 where not known",
    "half_spread": "half of the quoted width [currency per spread]",
    "spread_move": "vol · √time-out [currency per spread]",
    "leg_move": "leg_vol · √max_let [currency per spread]",
    "walk": "ticks that the clip pays when it is crossed now, beyond the best price [currency per spread]",
    "leg_walk": "the same in both legs, at their mean displayed sizes over the window [currency per spread]",
    "horizon_move": "vol · √(time to the cutoff, at most two time-outs) [currency per spread]",
    "regime": "regime at the decision, a value of Regime",
}
"""Name → meaning of the features; the logarithms of shares and metrics are cut at ±6, z-scores at ±8."""

_CUT, _Z_CUT = 6.0, 8.0


def decision_features(
    market: RollMarket,
    decisions: Decisions,
    metrics: pd.DataFrame,
    regime: Any,
    ahead: Any = None,
    queue: float = 0.9,
    participation: float = 0.2,
    leg_participation: float = 0.5,
) -> pd.DataFrame:
    """Return the features of decisions (n × :data:`FEATURES`); a row reads nothing from after its bar.

    Parameters
    ----------
    market
        The session, at least up to the decisions' bars.
    decisions
        When, which side and how large.
    metrics
        One row for each decision: ``rpc``, ``cde``, ``bdz``, ``rdp``; NaN where not known. What remains of the parent
        order enters by its ``rdp``.
    regime
        Values of :class:`~crosswind.problems.roll.model.Regime` (n,).
    ahead
        Contracts ahead (n,); None: ``queue`` of what is displayed.
    queue, participation, leg_participation
        As in :class:`~crosswind.problems.roll.branches.model.ProbingPolicy`.
    """
    m, d, k = market, decisions, decisions.bar
    n, buys = len(k), decisions.side > 0
    own_size, other_size = (np.where(buys, x[k], y[k]) for x, y in ((m.bid_size, m.ask_size), (m.ask_size, m.bid_size)))
    minute = m.bar_s / 60.0
    window = max(1, round(WINDOW_S / m.bar_s))
    first = np.maximum(k + 1 - window, 0)
    bars = (k + 1 - first).astype(np.float64)

    def mean(values: Array) -> Array:
        # Each window summed by itself: a running total would make a row depend on the bars before it by rounding.
        grid = first[:, None] + np.arange(window)
        inside = grid <= k[:, None]
        block = np.where(inside, values[np.minimum(grid, k[:, None])], 0.0)
        total: Array = block.sum(axis=1) / bars
        return total

    def vol(mid: Array, tick: float) -> Array:
        moves = np.diff(mid, prepend=mid[:1]) / tick
        rate: Array = np.sqrt(mean(moves * moves) / minute)
        return rate

    sold, bought = mean(m.sold), mean(m.bought)
    flow_own, flow_other = np.where(buys, sold, bought), np.where(buys, bought, sold)
    timeout, let, left = (x * minute for x in (d.timeout, d.max_let, d.cutoff - k))
    expected = flow_own * d.timeout + 1.0
    before = np.ceil(queue * own_size) if ahead is None else np.asarray(ahead, dtype=np.float64)
    width = (m.ask[k] - m.bid[k]) / m.tick
    spread_vol = vol(m.mid, m.tick)
    leg_vol = vol(m.leg_mid[:, 0], m.leg_tick)
    money, leg_money = m.tick * m.multiplier, m.leg_tick * m.multiplier
    # Displayed where each leg is crossed: a buyer of spreads sells the near and buys the far leg, a seller the reverse.
    near = np.where(buys, mean(m.leg_bid_size[:, 0]), mean(m.leg_ask_size[:, 0]))
    far = np.where(buys, mean(m.leg_ask_size[:, 1]), mean(m.leg_bid_size[:, 1]))
    slack = np.log(np.maximum(left, 1e-9) / timeout)
    pressure = metrics["rdp"].to_numpy(dtype=np.float64)
    columns = {
        "log_queue": np.log((before + d.clip) / expected),
        "log_ahead": np.log((before + 1.0) / expected),
        "log_clip": np.log(d.clip),
        "log_clip_depth": np.log(d.clip / (own_size + 1.0)),
        "imbalance": _share(own_size, other_size),
        "width": width,
        "mean_width": mean((m.ask - m.bid) / m.tick),
        "vol": spread_vol,
        "leg_vol": leg_vol,
        "flow_tilt": _share(flow_own, flow_other),
        "log_timeout": np.log(timeout),
        "log_max_let": np.log(np.maximum(let, minute)),
        "log_left": np.log(np.maximum(left, minute)),
        "log_slack": slack,
        "due": (d.cutoff - k <= d.timeout).astype(np.float64),
        "due_again": (d.cutoff - k <= 2 * d.timeout).astype(np.float64),
        "log_rpc": _known(_log(metrics["rpc"].to_numpy(dtype=np.float64))),
        "cde": np.clip(_known(metrics["cde"].to_numpy(dtype=np.float64)), -_CUT, _CUT),
        "bdz": np.clip(_known(metrics["bdz"].to_numpy(dtype=np.float64)) * d.side, -_Z_CUT, _Z_CUT),
        "log_rdp": _known(_log(pressure)),
        "half_spread": 0.5 * width * money,
        "spread_move": spread_vol * np.sqrt(timeout) * money,
        "leg_move": leg_vol * np.sqrt(let) * leg_money,
        "walk": worse_ticks(d.clip, participation * other_size) * money,
        "leg_walk": (worse_ticks(d.clip, leg_participation * near) + worse_ticks(d.clip, leg_participation * far))
        * leg_money,
        "horizon_move": spread_vol * np.sqrt(np.minimum(left, 2.0 * timeout)) * money,
    }
    for name in ("log_queue", "log_ahead", "log_clip_depth", "log_slack", "log_rpc", "log_rdp"):
        columns[name] = np.clip(columns[name], -_CUT, _CUT)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(n))
    frame["regime"] = np.asarray(regime, dtype=str)
    return frame[list(FEATURES)]


def branch_features(
    state: RollState,
    clip: int,
    timeout_s: float,
    max_let_s: float = 60.0,
    queue: float = 0.9,
    participation: float = 0.2,
    leg_participation: float = 0.5,
) -> pd.DataFrame:
    """Return the features of one decision in a live state, one row, as the samples have them.

    Parameters
    ----------
    state
        What the policy sees.
    clip
        Spreads that are to rest, ≥ 1.
    timeout_s, max_let_s
        Of the decision [s]; rounded up to whole bars.
    queue, participation, leg_participation
        As in :class:`~crosswind.problems.roll.branches.model.ProbingPolicy`. Where a clip of that size rests already
        at the best price, ``state.ahead`` takes the place of the queue.

    Raises
    ------
    InvalidInput
        For a clip or a time that is not positive, or no bar left.
    """
    for name, value in (("clip", clip), ("timeout_s", timeout_s), ("state.bars_left", state.bars_left)):
        if not (np.isfinite(value) and value > 0):
            raise InvalidInput("must be positive", field=name, value=value, remedy="ask while the order may trade")
    if not (np.isfinite(max_let_s) and max_let_s >= 0.0):
        raise InvalidInput("must be 0 or more", field="max_let_s", value=max_let_s, remedy="pass seconds")
    bar_s, k = state.market.bar_s, state.bar

    def bars(seconds: float) -> NDArray[np.int64]:
        return np.array([int(np.ceil(seconds / bar_s - 1e-9))])

    decision = Decisions(
        bar=np.array([k]),
        side=np.array([state.order.side]),
        clip=np.array([int(clip)]),
        timeout=bars(timeout_s),
        max_let=bars(max_let_s),
        cutoff=np.array([k + state.bars_left]),
    )
    known = pd.DataFrame({name: [float(state.metrics.get(name, np.nan))] for name in ("rpc", "cde", "bdz", "rdp")})
    best = float((state.market.bid if state.order.side > 0 else state.market.ask)[k])
    rests = state.working >= clip and abs(state.resting_price - best) < 0.5 * state.market.tick
    return decision_features(
        state.market,
        decision,
        known,
        np.array([state.regime.value]),
        np.array([state.ahead]) if rests else None,
        queue,
        participation,
        leg_participation,
    )


def _share(a: Array, b: Array) -> Array:
    total = a + b
    return np.divide(a - b, total, out=np.zeros_like(total), where=total > 0.0)


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values)


def _known(values: Array) -> Array:
    return np.where(np.isnan(values), 0.0, values)
