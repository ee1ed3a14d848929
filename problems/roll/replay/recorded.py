"""Recorded days as roll episodes: leg books as they were, the spread book synthesised from them by a declared rule.

No exchange-quoted calendar spread is at hand. What the legs imply (selling the spread through them yields far bid −
near ask, buying costs far ask − near bid) is as wide as both legs together, and a listed spread trades inside it. So
the listed book here is made up, by :class:`SpreadRule`, and every result says so.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import as_date, as_utc
from crosswind.problems.market.contracts import ContractSpec, contract, expiry_of
from crosswind.problems.market.contracts.clocks import utc_ns
from crosswind.problems.market.futures import FuturesQuotes
from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.problems.roll.model import FloatArray, RollMarket, RollOrder
from crosswind.problems.roll.replay.episodes import RollEpisode
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["SpreadRule", "real_roll_day", "roll_market_of"]


@dataclass(frozen=True)
class SpreadRule:
    """How a listed spread book is made up from the books of its legs.

    Parameters
    ----------
    width_ticks
        Quoted width [spread ticks], inside what the legs imply.
    median_s
        The quotes stand around the median of the legs' mid difference over this time, the bar itself included [s]:
        raw differences are tick bounce.
    depth_share
        Displayed size over the smaller of the two leg sizes that a trade of that side would take.
    flow_share
        Spreads traded over the smaller of the legs' volumes; half of them on either side, as no side is recorded.
    cancel_rate_per_s
        Rate at which a displayed contract is withdrawn [1/s].

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    width_ticks: int = 2
    median_s: float = 300.0
    depth_share: float = 1.0
    flow_share: float = 0.5
    cancel_rate_per_s: float = 0.005

    def __post_init__(self) -> None:
        if isinstance(self.width_ticks, bool) or not isinstance(self.width_ticks, int) or self.width_ticks < 1:
            raise InvalidInput("is no width", field="width_ticks", value=self.width_ticks, remedy="pass 1 or more")
        for name in ("median_s", "depth_share", "flow_share", "cancel_rate_per_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not np.isfinite(value) or value < 0.0:
                raise InvalidInput("is out of range", field=name, value=value, remedy="pass 0 or more")

    def text(self) -> str:
        """Return the rule in words; results print it as the source of the spread book."""
        return (
            f"synthesised from the legs: {self.width_ticks} ticks wide around their {self.median_s:g} s median, "
            "within the implied quotes"
        )


def roll_market_of(
    futures: FuturesQuotes,
    near: str,
    far: str,
    *,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    rule: SpreadRule | None = None,
    spec: ContractSpec | None = None,
    max_gap_s: float = 300.0,
) -> RollMarket:
    """Return the books of a pair of expiries with a spread book synthesised from the legs.

    Parameters
    ----------
    futures
        Quotes of the expiries.
    near, far
        'YYYYMM'.
    start, end
        Bars that end in (start, end]; default all.
    rule
        How the spread book is made up.
    spec
        Terms; default those of the contracts table on the first bar's day. Where it lists no calendar spread, the
        spread's tick is that of the legs.
    max_gap_s
        Greatest distance of two bars [s].

    Returns
    -------
    RollMarket
        Its ``source`` says that the spread is synthesised, ``facts`` hold the rule.

    Raises
    ------
    InvalidInput
        For legs that are not in order, an inverse contract, a near leg that expires before the last bar, locked quotes.
    DataGap
        Naming the expiry or the time at which a leg's book is missing, and where bars are too far apart.
    """
    made = SpreadRule() if rule is None else rule
    for name, expiry in (("near", near), ("far", far)):
        if expiry not in futures.expiries:
            raise DataGap(
                f"{futures.root} has no such expiry",
                field=name,
                value=expiry,
                remedy=f"choose among {', '.join(futures.expiries)}",
            )
    if near >= far:
        raise InvalidInput("is not before far", field="near", value=(near, far), remedy="swap the legs")
    if start is not None or end is not None:
        first = futures.index[0] - pd.Timedelta(1, "ns") if start is None else as_utc(start, "start")
        futures = futures.between(first, futures.index[-1] if end is None else as_utc(end, "end"))
    index = futures.index
    terms = contract(futures.root, index[0].date()) if spec is None else spec
    if terms.inverse:
        raise InvalidInput(
            "an inverse contract has no constant worth per point",
            field="root",
            value=futures.root,
            remedy="roll a linear contract, e.g. the one settled in the currency of its price",
        )
    _check_expiry(terms, near, index, table=spec is None)
    legs = [near, far]
    _check_gaps(futures, legs, max_gap_s)
    bid, ask = futures.bid[legs].to_numpy(float), futures.ask[legs].to_numpy(float)
    sizes = futures.bid_size[legs].to_numpy(float), futures.ask_size[legs].to_numpy(float)
    volume = futures.volume[legs].to_numpy(float)
    tick = futures.tick if terms.spread_tick is None else terms.spread_tick
    low, high = _listed(bid, ask, index, tick, made)
    traded = np.floor(made.flow_share * volume.min(axis=1))
    shown = [
        np.maximum(np.floor(made.depth_share * np.minimum(sizes[1 - side][:, 0], sizes[side][:, 1])), 1.0)
        for side in (0, 1)
    ]
    leaving = -np.expm1(-made.cancel_rate_per_s * futures.bar_s)
    before = np.column_stack([np.r_[size[:1], size[:-1]] for size in shown])
    return RollMarket(
        times=index,
        bar_s=futures.bar_s,
        bid=low,
        ask=high,
        bid_size=shown[0],
        ask_size=shown[1],
        sold=np.floor(0.5 * traded),
        bought=traded - np.floor(0.5 * traded),
        cancelled=np.floor(leaving * before),
        leg_bid=bid,
        leg_ask=ask,
        leg_bid_size=sizes[0],
        leg_ask_size=sizes[1],
        leg_volume=volume,
        tick=tick,
        leg_tick=futures.tick,
        multiplier=futures.multiplier,
        legs=(near, far),
        source=made.text(),
        facts={"root": futures.root, **asdict(made)},
    )


def real_roll_day(
    day: Any,
    start: pd.Timestamp | str,
    cutoff: pd.Timestamp | str,
    quantity: int,
    root: str = "ES",
    *,
    data: str | Path | None = None,
    legs: tuple[str, str] | None = None,
    rule: SpreadRule | None = None,
    max_naked: int = 0,
    carry_cap: int = 0,
    history_s: float = 7200.0,
    seed: int = 0,
) -> RollEpisode:
    """Return an order on a recorded day, from LEAN's minute quotes.

    Parameters
    ----------
    day
        UTC date.
    start, cutoff
        Tz-aware, or wall time 'HH:MM' of the contract's exchange on that day.
    quantity
        Spreads; > 0 buys far and sells near.
    root
        Root of the contract.
    data
        LEAN's folder or the one above; default ``$CROSSWIND_DATA/lean``.
    legs
        Near and far; default the first expiry that ends after the cutoff and the one after it.
    rule
        How the spread book is made up.
    max_naked, carry_cap
        Of the order.
    history_s
        How long before the start the market begins, where the legs' books reach back so far [s].
    seed
        Of the venue's draws.

    Returns
    -------
    RollEpisode
        Its arrival price is the median of the mids of the last 5 minutes before the start.

    Raises
    ------
    InvalidInput
        For a cutoff that is not after the start, a wall time that the day skips or repeats, legs that have expired.
    DataGap
        For a day, an expiry or a leg's book that is missing.
    """
    date = as_date(day, "day")
    terms = contract(root, date)
    times = [_instant(value, date, terms.tz, name) for name, value in (("start", start), ("cutoff", cutoff))]
    order = RollOrder(f"{root} {date}", quantity, times[0], times[1], max_naked, carry_cap)
    quotes, _ = read_lean_futures(_folder(data), root, [date])
    near, far = _legs(quotes, order.cutoff) if legs is None else legs
    begin = order.start - pd.Timedelta(round(history_s * 1e9), "ns")
    held = quotes.between(begin, order.cutoff + pd.Timedelta(300, "s"))
    known = held.bid.reindex(columns=[near, far]).notna().all(axis=1).to_numpy()
    # History is as long as both books reach back without a break; a break within the window is refused below.
    missing = np.flatnonzero(~known & np.asarray(held.index <= order.start))
    if len(missing):
        begin = held.index[int(missing[-1])]
    late = np.flatnonzero(~known & np.asarray(held.index > order.cutoff))
    end = held.index[-1] if not len(late) else held.index[int(late[0]) - 1]
    market = roll_market_of(held, near, far, start=begin, end=end, rule=rule, spec=None)
    return RollEpisode(
        f"{root} {near}-{far} {order.start:%Y-%m-%d %H:%M}", market, order, str(date), "recorded", seed, 300.0
    )


def _listed(
    bid: FloatArray, ask: FloatArray, index: pd.DatetimeIndex, tick: float, rule: SpreadRule
) -> tuple[FloatArray, FloatArray]:
    """Return the made-up quotes [points]; a bar sees itself and the bars before it, never one after it."""
    middle = 0.5 * (bid + ask)
    apart = pd.Series(middle[:, 1] - middle[:, 0], index=index)
    if rule.median_s > 0.0:
        apart = apart.rolling(pd.Timedelta(round(rule.median_s * 1e9), "ns")).median()
    # The implied quotes, on the grid and not wider than they are.
    lowest = np.ceil((bid[:, 1] - ask[:, 0]) / tick - 1e-6)
    highest = np.floor((ask[:, 1] - bid[:, 0]) / tick + 1e-6)
    low = np.rint(apart.to_numpy() / tick - 0.5 * rule.width_ticks)
    low = np.clip(low, lowest, highest - 1.0)
    high = np.clip(low + rule.width_ticks, low + 1.0, highest)
    return low * tick, high * tick


def _check_expiry(terms: ContractSpec, near: str, index: pd.DatetimeIndex, table: bool) -> None:
    if not table:
        return
    expiry = expiry_of(f"{terms.exchange}:{terms.root}", near)
    if index[-1] >= expiry.at:
        raise InvalidInput(
            f"the near leg {expiry.code} ended trading at {expiry.at}",
            field="near",
            value=near,
            remedy="choose the next pair of expiries, or an earlier day",
        )


def _check_gaps(futures: FuturesQuotes, legs: list[str], max_gap_s: float) -> None:
    index = futures.index
    missing = futures.bid[legs].isna().to_numpy()
    if missing.any():
        row, leg = (int(k) for k in np.argwhere(missing)[0])
        raise DataGap(
            f"this leg's book is missing in {int(missing[:, leg].sum())} bars, first at {index[row]}",
            field=f"{futures.root} {legs[leg]}",
            value=str(index[row]),
            remedy="choose a window in which both legs are quoted",
        )
    steps = np.diff(index.asi8)
    if len(steps) and steps.max() > max_gap_s * 1e9:
        at = int(np.argmax(steps))
        raise DataGap(
            f"no bars between {index[at]} and {index[at + 1]}",
            field="futures",
            value=f"{steps[at] / 1e9:g} s",
            remedy=f"choose a window without it, or pass max_gap_s of that length (now {max_gap_s:g})",
        )


def _legs(quotes: FuturesQuotes, cutoff: pd.Timestamp) -> tuple[str, str]:
    open_ = [month for month in sorted(quotes.expiries) if expiry_of(quotes.root, month).at > cutoff]
    if len(open_) < 2:
        raise DataGap(
            "fewer than two expiries are left at the cutoff",
            field="legs",
            value=open_,
            remedy="choose a day on which two are quoted",
        )
    return open_[0], open_[1]


def _instant(value: pd.Timestamp | str, day: Any, tz: str, field: str) -> pd.Timestamp:
    if isinstance(value, str) and len(value) <= 5:
        return pd.Timestamp(utc_ns(day, value, tz), unit="ns", tz="UTC")
    return as_utc(pd.Timestamp(value), field)


def _folder(data: str | Path | None) -> Path:
    if data is not None:
        return Path(data)
    root = os.environ.get("CROSSWIND_DATA")
    if not root:
        raise DataGap(
            "no recorded data were named",
            field="data",
            value=None,
            remedy="pass data=, or set CROSSWIND_DATA to the folder that holds lean/",
        )
    return Path(root) / "lean"
