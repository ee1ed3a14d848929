"""Markets for the tests of roll metrics: damaged bars as plain columns, sound ones as a RollMarket."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crosswind.problems.roll import RollMarket

FIELDS = ("bid", "ask", "bid_size", "ask_size", "sold", "bought")


def columns(bars, seed=0, damaged=0.0, level=-6.3):
    """Return random bars of a spread book as a dict; a share of them without a sound book or with unknown flow."""
    rng = np.random.default_rng(seed)
    mid = level + np.cumsum(rng.normal(0.0, 0.02, bars))
    half = 0.025 * rng.integers(1, 3, bars)
    out = {
        "bid": mid - half,
        "ask": mid + half,
        "bid_size": rng.integers(0, 2000, bars).astype(float),
        "ask_size": rng.integers(0, 2000, bars).astype(float),
        "sold": rng.poisson(40, bars) * (rng.random(bars) < 0.8).astype(float),
        "bought": rng.poisson(40, bars) * (rng.random(bars) < 0.8).astype(float),
    }
    hit = rng.random((3, bars)) < damaged
    out["bid"][hit[0]] = np.nan
    out["bid"][hit[1]] = out["ask"][hit[1]]  # locked
    out["sold"][hit[2]] = np.nan
    return out


def axis(bars, bar_s=5.0, seed=0, gaps=0.0, start="2024-03-06 14:30"):
    """Return bar ends, with a share of the bars left out."""
    times = pd.date_range(start, periods=bars, freq=pd.Timedelta(bar_s, "s"), tz="UTC")
    times = times.as_unit("ns")
    return times[np.random.default_rng(seed).random(bars) >= gaps] if gaps else times


def market(bars=600, bar_s=5.0, seed=0, start="2024-03-06 14:30", source="simulated for a test", level=-6.3, scale=1.0):
    data = {k: v.copy() for k, v in columns(bars, seed, level=level).items()}
    for name in ("sold", "bought"):
        data[name] = data[name] * scale
    two = np.ones((bars, 2))
    return RollMarket(
        times=axis(bars, bar_s, start=start),
        bar_s=bar_s,
        **data,
        cancelled=0 * two,
        leg_bid=1800.0 * two,
        leg_ask=1800.25 * two,
        leg_bid_size=100 * two,
        leg_ask_size=100 * two,
        leg_volume=1000 * two,
        tick=0.05,
        leg_tick=0.25,
        multiplier=50.0,
        legs=("202403", "202406"),
        source=source,
    )


def implied_market(quotes, near, far):
    """Return recorded legs with the spread book that they imply: far bid − near ask, far ask − near bid."""
    names = ("bid", "ask", "bid_size", "ask_size", "volume")
    frames = {name: getattr(quotes, name)[[near, far]] for name in names}
    sound = (frames["bid"] < frames["ask"]).all(axis=1)
    bid, ask, bid_size, ask_size, volume = (frame[sound].to_numpy() for frame in frames.values())
    half = 0.5 * volume.min(axis=1)
    return RollMarket(
        times=pd.DatetimeIndex(quotes.index[sound]),
        bar_s=quotes.bar_s,
        bid=bid[:, 1] - ask[:, 0],
        ask=ask[:, 1] - bid[:, 0],
        bid_size=np.minimum(bid_size[:, 1], ask_size[:, 0]),
        ask_size=np.minimum(ask_size[:, 1], bid_size[:, 0]),
        sold=half,
        bought=half,
        cancelled=np.zeros((len(bid), 2)),
        leg_bid=bid,
        leg_ask=ask,
        leg_bid_size=bid_size,
        leg_ask_size=ask_size,
        leg_volume=volume,
        tick=0.05,
        leg_tick=quotes.tick,
        multiplier=quotes.multiplier,
        legs=(near, far),
        source="synthesised from the legs",
    )
