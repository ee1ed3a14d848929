"""What the main job needs to know before the day begins, from earlier days alone: slices, basket, index, betas.

These are plain historical estimates, stated as formulas. A desk replaces any of them by passing its own table to the
problem it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crosswind.problems.market import MarketEvents
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "betas_to_index",
    "default_inventory",
    "index_level",
    "slice_starts",
]


def slice_starts(events: MarketEvents, slice_s: float) -> pd.DatetimeIndex:
    """Return the starts of the whole slices of ``slice_s`` seconds in a single session.

    Parameters
    ----------
    events
        One session; buckets are stamped at their end, so the session starts one bucket before the first stamp.
    slice_s
        Length of a slice in seconds, a multiple of the bucket.

    Raises
    ------
    InvalidInput
        When the events span several sessions, or the slice is no multiple of the bucket or longer than the session.
    """
    if len(events.days) != 1:
        raise InvalidInput(
            "needs a single session", field="events", value=events.days, remedy="select one with .on([day])"
        )
    if slice_s < events.bucket_s or slice_s % events.bucket_s:
        raise InvalidInput(
            f"must be a multiple of the bucket of {events.bucket_s:g} s",
            field="slice_s",
            value=slice_s,
            remedy="e.g. 300",
        )
    index = events.flow.index
    begin = index[0] - pd.Timedelta(seconds=events.bucket_s)
    count = int((index[-1] - begin).total_seconds() // slice_s)
    if count < 1:
        raise InvalidInput("longer than the session", field="slice_s", value=slice_s, remedy="use a shorter slice")
    return pd.DatetimeIndex(begin + pd.to_timedelta(np.arange(count) * slice_s, unit="s"), name="slice").as_unit("ns")


def default_inventory(train: MarketEvents, names: Sequence[str], share_of_adv: float) -> pd.Series:
    """Return a two-sided basket: each name's size is a share of its daily volume, every third name is sold.

    Parameters
    ----------
    train
        Days the average daily volume is taken from.
    names
        Names of the basket, in order.
    share_of_adv
        Size per name as a fraction of average daily notional, in (0, 1].

    Returns
    -------
    pandas.Series
        Signed notional to trade in currency, buy positive.
    """
    if not 0.0 < share_of_adv <= 1.0:
        raise InvalidInput("must lie in (0, 1]", field="basket_adv", value=share_of_adv, remedy="e.g. 0.02 for 2 %")
    adv = train.volume[list(names)].sum() / len(train.days)
    sign = np.where(np.arange(len(names)) % 3 == 2, -1.0, 1.0)
    return pd.Series(sign * adv.to_numpy() * share_of_adv, index=list(names), name="inventory")


def index_level(events: MarketEvents, name: str | None, shares: pd.Series | None = None) -> pd.Series:
    """Return the level of the cash index that the hedge is measured against, X = Σ_i n_i S_i.

    Parameters
    ----------
    events
        Events that hold the constituents.
    name
        A name that tracks the index (an ETF), whose mid is taken; None builds the index from ``shares``.
    shares
        Index shares n_i by name; by default one unit of currency of each name at the first mid.

    Raises
    ------
    InvalidInput
        When a constituent is not among the events' names.
    """
    if name is not None:
        return events.mid[name].rename("index")
    if shares is None:
        shares = 1.0 / events.mid.iloc[0]
    unknown = [n for n in shares.index if n not in events.names]
    if unknown:
        raise InvalidInput("has unknown names", field="shares", value=unknown, remedy="keep constituents that trade")
    return (events.mid[list(shares.index)] * shares).sum(axis=1).rename("index")


def betas_to_index(train: MarketEvents, index: pd.Series, horizon_s: float = 300.0) -> pd.Series:
    """Estimate each name's beta to the index, shrunk towards one.

    β̂_i = (Cov(r_i, x) + κ Var(x)) / ((1 + κ) Var(x)) with κ = 0.1: a tenth of the weight lies on a prior of one
    (Vasicek's idea with a fixed weight). Returns over ``horizon_s`` seconds, within sessions.

    Returns
    -------
    pandas.Series
        Beta by name.
    """
    coarse = train.resample(horizon_s)
    level = index.reindex(coarse.mid.index)
    moves = level / level.shift() - 1.0
    moves[coarse.returns.iloc[:, 0].isna()] = np.nan
    joint = pd.concat([coarse.returns, moves.rename("__index__")], axis=1).dropna()
    x = joint.pop("__index__")
    variance = float(x.var())
    if not variance > 0.0:
        raise InvalidInput("the index does not move", field="index", value=variance, remedy="name another index")
    prior_weight = 0.1
    raw = joint.apply(lambda r: r.cov(x)) / variance
    shrunk: pd.Series = (raw + prior_weight) / (1.0 + prior_weight)
    return shrunk.rename("beta")
