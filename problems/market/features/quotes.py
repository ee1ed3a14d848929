"""Spread, depth, imbalance and weighted mid of the best quotes: at every quote, at given times, per bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.events import MarketEvents
from crosswind.problems.market.features.arrays import Float, Int, check_events, check_quotes, stamps, times
from crosswind.problems.market.shown import Shown
from crosswind.problems.market.ticks import QuoteTape
from crosswind.solvers.errors import DataGap, InvalidInput

__all__ = ["QuoteFeatures", "bucket_quotes", "quote_features", "quotes_at", "time_weighted_quotes"]

COLUMNS = ("mid", "spread", "spread_bps", "depth_shares", "imbalance", "weighted_mid")


@dataclass(frozen=True, eq=False, repr=False)
class QuoteFeatures(Shown):
    """Features of one name's best quotes.

    Parameters
    ----------
    frame
        Index: the UTC time from which the row could be known (quotes may share a time). Columns, with b, a the best bid
        and ask and B, A their sizes:

        - ``mid`` = (b + a)/2 and ``spread`` = a − b [currency per share];
        - ``spread_bps`` = 1e4 (a − b)/mid;
        - ``depth_shares`` = (B + A)/2;
        - ``imbalance`` = (B − A)/(B + A) in [−1, 1], buy pressure positive; NaN where both sizes are 0;
        - ``weighted_mid`` = (b A + a B)/(B + A): nearer to the side that is about to go; the mid where there
          is no size.
    dropped
        Quotes left out as non-finite, non-positive or crossed.
    """

    frame: pd.DataFrame
    dropped: int = 0

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.frame.copy()

    def summary(self) -> str:
        """Return medians in one line."""
        f = self.frame
        return (
            f"{len(f):,} rows, median spread {f['spread_bps'].median():.2f} bps, depth "
            f"{f['depth_shares'].median():,.1f} shares, mean imbalance {f['imbalance'].mean():+.3f}, "
            f"{self.dropped} quotes left out"
        )

    def plot(self) -> Any:
        """Draw the spread [bps] and the imbalance over time (plotly figure, nothing is shown).

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Best quotes", "time, UTC", "spread [bps]", 480)
        when = self.frame.index.tz_localize(None)  # type: ignore[attr-defined]
        common = {"x": when, "mode": "lines"}
        line = {"shape": "hv", "width": 1.2}
        fig.add_scatter(y=self.frame["spread_bps"], name="spread", line=line | {"color": PALETTE[0]}, **common)
        shown = {"name": "imbalance", "yaxis": "y2", "line": line | {"color": PALETTE[1]}}
        fig.add_scatter(y=self.frame["imbalance"], **shown, **common)
        fig.update_layout(
            yaxis={"domain": [0.54, 1.0]},
            yaxis2={"domain": [0.0, 0.46], "title": "imbalance, bid heavy > 0", "range": [-1.05, 1.05]},
            xaxis={"anchor": "y2"},
        )
        return fig


def _columns(quotes: QuoteTape) -> dict[str, Float]:
    bid, ask, bid_size, ask_size = quotes.bid, quotes.ask, quotes.bid_shares, quotes.ask_shares
    mid, total = 0.5 * (bid + ask), bid_size + ask_size
    shown = total > 0
    safe = np.where(shown, total, 1.0)
    return {
        "mid": mid,
        "spread": ask - bid,
        "spread_bps": 1e4 * (ask - bid) / mid,
        "depth_shares": 0.5 * total,
        "imbalance": np.where(shown, (bid_size - ask_size) / safe, np.nan),
        "weighted_mid": np.where(shown, (bid * ask_size + ask * bid_size) / safe, mid),
    }


def quote_features(quotes: QuoteTape) -> QuoteFeatures:
    """Return spread, depth, imbalance and weighted mid at every quote.

    Parameters
    ----------
    quotes
        Best quotes of one name; unusable rows (crossed, non-finite, non-positive) are left out and counted.

    Returns
    -------
    QuoteFeatures

    Raises
    ------
    InvalidInput
        If it is no QuoteTape, its times go back, or no usable quote is left.

    Notes
    -----
    The imbalance and the weighted mid of Gould and Bonart, "Queue imbalance as a one-tick-ahead price predictor",
    Market Microstructure and Liquidity 2 (2016).
    """
    good = check_quotes(quotes)
    frame = pd.DataFrame(_columns(good), index=stamps(good.known_ns))
    return QuoteFeatures(frame, len(quotes.known_ns) - len(good.known_ns))


def quotes_at(quotes: QuoteTape, at_ns: Int | pd.DatetimeIndex) -> QuoteFeatures:
    """Return the features of the quote that prevails at each of the given times: the last one known by then.

    Parameters
    ----------
    quotes
        Best quotes of one name.
    at_ns
        Times (T,), ascending [ns since 1970 UTC, or a tz-aware index]; a quote known at the very time counts.

    Returns
    -------
    QuoteFeatures
        One row per time, with a further column ``age_s`` [s]: how long the quote has stood.

    Raises
    ------
    InvalidInput
        On malformed times or quotes.
    DataGap
        If the first time lies before the first quote.
    """
    good, at = check_quotes(quotes), times(at_ns, "at_ns")
    row = np.searchsorted(good.known_ns, at, side="right") - 1
    if len(row) and row[0] < 0:
        raise DataGap("no quote is known yet", field="at_ns", value=str(stamps(at)[0]), remedy="start later")
    frame = pd.DataFrame({name: column[row] for name, column in _columns(good).items()}, index=stamps(at))
    frame["age_s"] = (at - good.known_ns[row]) / 1e9
    return QuoteFeatures(frame, len(quotes.known_ns) - len(good.known_ns))


def time_weighted_quotes(quotes: QuoteTape, edges_ns: Int | pd.DatetimeIndex) -> QuoteFeatures:
    """Return the time-weighted mean of each feature over consecutive buckets.

    x̄_k = Σ x_n · (time for which quote n stood within the bucket) / (time for which any quote stood).

    Parameters
    ----------
    quotes
        Best quotes of one name.
    edges_ns
        Bucket edges (K + 1,), strictly ascending.

    Returns
    -------
    QuoteFeatures
        K rows stamped at the buckets' ENDs: means of the columns of :class:`QuoteFeatures`. A bucket before the first
        quote is NaN; in one that is quoted in part the mean is over that part. NaN imbalances are left out.

    Raises
    ------
    InvalidInput
        On malformed quotes, or fewer than two edges or equal ones.
    """
    good, edges = check_quotes(quotes), times(edges_ns, "edges_ns")
    if len(edges) < 2 or (np.diff(edges) == 0).any():
        raise InvalidInput("not two or more different edges", field="edges_ns", value=len(edges), remedy="widen them")
    cuts = np.unique(np.concatenate([edges, good.known_ns[(good.known_ns > edges[0]) & (good.known_ns < edges[-1])]]))
    row = np.searchsorted(good.known_ns, cuts[:-1], side="right") - 1
    bucket = np.searchsorted(edges, cuts[:-1], side="right") - 1
    length = np.where(row >= 0, np.diff(cuts), 0).astype(np.float64)
    out = {}
    for name, column in _columns(good).items():
        x = column[np.maximum(row, 0)]
        weight = np.where(np.isfinite(x), length, 0.0)
        total = np.bincount(bucket, weight, len(edges) - 1)
        area = np.bincount(bucket, weight * np.where(np.isfinite(x), x, 0.0), len(edges) - 1)
        out[name] = np.divide(area, total, out=np.full(len(total), np.nan), where=total > 0)
    return QuoteFeatures(pd.DataFrame(out, index=stamps(edges[1:])), len(quotes.known_ns) - len(good.known_ns))


def bucket_quotes(events: MarketEvents) -> pd.DataFrame:
    """Return spread, depth and imbalance of all names at the buckets' ends.

    Parameters
    ----------
    events
        The buckets; sizes on the two sides are not in them, so the imbalance is that of the trades.

    Returns
    -------
    DataFrame
        T × (feature, name): ``spread_bps`` = 1e4 spread/mid; ``depth`` [currency]; ``depth_s`` = depth over the mean
        traded notional per second of the session so far [s], NaN before the first trade; ``flow_imbalance`` =
        flow/volume in [−1, 1], 0 in a bucket without trades.

    Raises
    ------
    InvalidInput
        If they are not MarketEvents.
    """
    events = check_events(events)
    volume = events.volume
    session = events.session.to_numpy()
    elapsed = pd.Series(events.bucket_s, index=volume.index).groupby(session).cumsum()
    pace = volume.groupby(session).cumsum().div(elapsed, axis=0)
    traded = volume.to_numpy() > 0
    share = np.divide(events.flow.to_numpy(), volume.to_numpy(), out=np.zeros(volume.shape), where=traded)
    frames: dict[str, pd.DataFrame] = {
        "spread_bps": 1e4 * events.spread / events.mid,
        "depth": events.depth,
        "depth_s": events.depth / pace.where(pace > 0),
        "flow_imbalance": pd.DataFrame(share, index=volume.index, columns=volume.columns),
    }
    return pd.concat(frames, axis=1)
