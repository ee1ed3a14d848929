"""Order-flow imbalance from quotes: at the best level, at every level of a book, and integrated over the levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from crosswind.problems.market.features.arrays import Float, Int, check_quotes, stamps, times
from crosswind.problems.market.shown import Shown
from crosswind.problems.market.ticks import DepthTape, QuoteTape
from crosswind.solvers.errors import InvalidInput

__all__ = [
    "IntegratedOFI",
    "OrderFlowImbalance",
    "book_ofi",
    "bucket_ofi",
    "event_ofi",
    "order_flow_imbalance",
]


@dataclass(frozen=True, eq=False, repr=False)
class OrderFlowImbalance(Shown):
    """Order-flow imbalance of one name per bucket and level.

    Parameters
    ----------
    frame
        Index: bucket ENDs (UTC). Columns: ``level_1`` … ``level_L``, Σ e_n over the quotes known in (start, end],
        buy pressure positive [shares].
    depth
        Mean over the bucket's quotes of the mean size of all levels, (Σ_l B_l + A_l)/(2L) [shares]; NaN in a bucket
        without quotes. Dividing by it makes days and names comparable.
    """

    frame: pd.DataFrame
    depth: pd.Series[Any]

    def scaled(self) -> pd.DataFrame:
        """Return OFI over the bucket's mean depth, 0 in a bucket without quotes or without size."""
        base = self.depth.where(self.depth > 0)
        return self.frame.div(base, axis=0).fillna(0.0)

    def to_frame(self) -> pd.DataFrame:
        """Return levels and depth side by side."""
        return self.frame.assign(depth=self.depth)

    def summary(self) -> str:
        """Return size and correlation of the levels in one line each."""
        sd = self.frame.std()
        return "\n".join(
            [f"{len(self.frame):,} buckets, {self.frame.shape[1]} levels"]
            + [f"  {name}: sd {value:,.1f} shares" for name, value in sd.items()]
        )

    def plot(self) -> Any:
        """Draw the cumulative imbalance of each level [shares, buy > 0] (plotly figure, nothing is shown).

        Raises
        ------
        MissingDependency
            If plotly is not installed.
        """
        from crosswind.problems.plotting import PALETTE, figure

        fig = figure("Cumulative order-flow imbalance", "time, UTC", "shares, buy > 0")
        when = self.frame.index.tz_localize(None)  # type: ignore[attr-defined]
        for k, name in enumerate(self.frame):
            line = {"color": PALETTE[k % len(PALETTE)], "width": 1.2}
            fig.add_scatter(x=when, y=self.frame[name].cumsum(), name=str(name), mode="lines", line=line)
        return fig


def event_ofi(
    bid: npt.ArrayLike, bid_shares: npt.ArrayLike, ask: npt.ArrayLike, ask_shares: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the contribution of each book update to the order-flow imbalance, per level.

    e_n = 1{b_n ≥ b_{n−1}} B_n − 1{b_n ≤ b_{n−1}} B_{n−1} − 1{a_n ≤ a_{n−1}} A_n + 1{a_n ≥ a_{n−1}} A_{n−1}

    Parameters
    ----------
    bid, bid_shares, ask, ask_shares
        (Q,) for the best level or (Q, L), best level first. An empty level has a NaN price and size 0.

    Returns
    -------
    ndarray
        Same shape [shares], 0 in the first row, which has nothing before it.

    Raises
    ------
    InvalidInput
        On different shapes, an infinite price, a negative or NaN size, a size at a level without a price.

    Notes
    -----
    Cont, Kukanov and Stoikov, "The price impact of order book events", Journal of Financial Econometrics 12 (2014),
    eq. (4); per level: Xu, Gould and Howison, "Multi-level order-flow imbalance in a limit order book" (2018).
    """
    sides = {}
    for side, price, size in (("bid", bid, bid_shares), ("ask", ask, ask_shares)):
        p, q = np.asarray(price, dtype=np.float64), np.asarray(size, dtype=np.float64)
        if p.shape != q.shape or p.ndim not in (1, 2):
            raise InvalidInput(
                "prices and sizes differ in shape", field=side, value=(p.shape, q.shape), remedy="give (Q,) or (Q, L)"
            )
        if np.isinf(p).any() or not (q >= 0).all() or (np.isnan(p) & (q > 0)).any():
            raise InvalidInput(
                "infinite price, negative or NaN size, or size without a price",
                field=side,
                remedy="an empty level is a NaN price with size 0",
            )
        sides[side] = p, q
    if sides["bid"][0].shape != sides["ask"][0].shape:
        raise InvalidInput("bid and ask differ in shape", field="ask", value=sides["ask"][0].shape, remedy="pad levels")
    # The bid counts up, the ask is its mirror image; an empty level lies behind every price.
    return _side(*sides["bid"], 1.0) - _side(*sides["ask"], -1.0)


def _side(price: Float, size: Float, sign: float) -> Float:
    rank = np.where(np.isnan(price), -np.inf, sign * price)
    out = np.zeros_like(size)
    out[1:] = np.where(rank[1:] >= rank[:-1], size[1:], 0.0) - np.where(rank[1:] <= rank[:-1], size[:-1], 0.0)
    return out


def _edges(edges_ns: Any) -> Int:
    edges = times(edges_ns, "edges_ns")
    if len(edges) < 2 or (np.diff(edges) == 0).any():
        raise InvalidInput("not two or more different edges", field="edges_ns", value=len(edges), remedy="widen them")
    return edges


def bucket_ofi(known_ns: Int, contribution: Float, edges_ns: Int | pd.DatetimeIndex) -> Float:
    """Return the sums of event contributions over buckets, (K,) or (K, L).

    Bucket k holds the updates known in (edge_k, edge_{k+1}]: those that separate the quote prevailing at its start from
    the one prevailing at its end, so that the sum and the move of the mid cover the same updates.

    Parameters
    ----------
    known_ns
        Times of the updates (Q,), ascending [ns].
    contribution
        From :func:`event_ofi`, (Q,) or (Q, L).
    edges_ns
        Edges (K + 1,), strictly ascending.

    Raises
    ------
    InvalidInput
        On disordered times or edges, or lengths that differ.
    """
    known, edges = times(known_ns, "known_ns"), _edges(edges_ns)
    values = np.asarray(contribution, dtype=np.float64)
    if len(values) != len(known):
        raise InvalidInput(
            "not one row per time", field="contribution", value=(len(values), len(known)), remedy="give one per update"
        )
    cut = np.searchsorted(known, edges, side="right")
    flat = values.reshape(len(values), -1)
    bucket = np.repeat(np.arange(len(edges) - 1), np.diff(cut))
    inside = flat[cut[0] : cut[-1]]
    sums = [np.bincount(bucket, column, len(edges) - 1) for column in inside.T]
    return np.column_stack(sums).reshape((len(edges) - 1, *values.shape[1:]))


def order_flow_imbalance(quotes: QuoteTape, edges_ns: Int | pd.DatetimeIndex) -> OrderFlowImbalance:
    """Return the order-flow imbalance at the best level per bucket.

    Parameters
    ----------
    quotes
        Best quotes of one name; unusable rows are left out first.
    edges_ns
        Bucket edges (K + 1,), strictly ascending.

    Raises
    ------
    InvalidInput
        On malformed quotes or edges.
    """
    good = check_quotes(quotes)
    bid, bid_shares, ask, ask_shares = (c[:, None] for c in (good.bid, good.bid_shares, good.ask, good.ask_shares))
    return _bucketed(good.known_ns, bid, bid_shares, ask, ask_shares, edges_ns)


def book_ofi(depth: DepthTape, edges_ns: Int | pd.DatetimeIndex) -> OrderFlowImbalance:
    """Return the order-flow imbalance at every level of a book per bucket.

    Parameters
    ----------
    depth
        Book of one name, L levels, best first; empty levels have a NaN price and size 0.
    edges_ns
        Bucket edges (K + 1,), strictly ascending.

    Raises
    ------
    InvalidInput
        If it is no DepthTape or malformed.
    """
    if not isinstance(depth, DepthTape):
        raise InvalidInput("not a DepthTape", field="depth", value=type(depth).__name__, remedy="read a book first")
    known = times(depth.known_ns, "depth.known_ns")
    return _bucketed(known, depth.bid, depth.bid_shares, depth.ask, depth.ask_shares, edges_ns)


def _bucketed(
    known: Int, bid: Float, bid_shares: Float, ask: Float, ask_shares: Float, edges_ns: Any
) -> OrderFlowImbalance:
    edges = _edges(edges_ns)
    sums = bucket_ofi(known, event_ofi(bid, bid_shares, ask, ask_shares), edges)
    size = (bid_shares + ask_shares).sum(axis=1) / (2.0 * bid.shape[1])
    cut = np.searchsorted(known, edges, side="right")
    bucket = np.repeat(np.arange(len(edges) - 1), np.diff(cut))
    count = np.diff(cut)
    total = np.bincount(bucket, size[cut[0] : cut[-1]], len(edges) - 1)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    index = stamps(edges[1:])
    levels = [f"level_{k + 1}" for k in range(bid.shape[1])]
    return OrderFlowImbalance(pd.DataFrame(sums, index=index, columns=levels), pd.Series(mean, index=index))


class IntegratedOFI:
    """One number out of L levels: the projection on their first principal component.

    ofi^I = w'x / Σ|w|, with x the depth-scaled OFI of the levels and w the first eigenvector of its covariance on the
    PAST, signed so that Σ w > 0: the weights have absolute sum 1, so the result has the unit of a level.

    Fit on earlier buckets, transform later ones: weights fitted on the buckets that they are applied to look ahead.

    Attributes
    ----------
    weights_
        w / Σ|w|, per level.
    explained_share_
        Share of the variance of all levels that the component explains.

    Notes
    -----
    Cont, Cucuringu and Zhang, "Cross-impact of order flow imbalance in equity markets", Quantitative Finance 23 (2023),
    section 2.
    """

    weights_: pd.Series[Any]
    explained_share_: float

    def fit(self, scaled: pd.DataFrame) -> IntegratedOFI:
        """Learn the weights.

        Parameters
        ----------
        scaled
            T × L, e.g. :meth:`OrderFlowImbalance.scaled` of past days.

        Raises
        ------
        InvalidInput
            On fewer than two rows, NaN, or levels that never move.
        """
        x = self._values(scaled)
        if len(x) < 2 or not x.std(axis=0).any():
            raise InvalidInput("nothing varies", field="scaled", value=x.shape, remedy="fit on more buckets")
        values, vectors = np.linalg.eigh(np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1]))
        first = vectors[:, -1] * (1.0 if vectors[:, -1].sum() >= 0 else -1.0)
        self.weights_ = pd.Series(first / np.abs(first).sum(), index=scaled.columns, name="weight")
        self.explained_share_ = float(values[-1] / values.sum())
        return self

    def transform(self, scaled: pd.DataFrame) -> pd.Series[Any]:
        """Return ``ofi^I`` per bucket.

        Raises
        ------
        InvalidInput
            Before :meth:`fit`, on other levels, or on NaN.
        """
        if not hasattr(self, "weights_"):
            raise InvalidInput("not fitted", field="IntegratedOFI", remedy="call .fit(past) first")
        if list(scaled.columns) != list(self.weights_.index):
            raise InvalidInput(
                "other levels than fitted", field="scaled", value=list(scaled.columns), remedy="use the same levels"
            )
        return pd.Series(self._values(scaled) @ self.weights_.to_numpy(), index=scaled.index, name="integrated_ofi")

    @staticmethod
    def _values(scaled: Any) -> Float:
        if not isinstance(scaled, pd.DataFrame):
            raise InvalidInput("not a DataFrame", field="scaled", value=type(scaled).__name__, remedy="use .scaled()")
        x = scaled.to_numpy(dtype=np.float64)
        if not np.isfinite(x).all():
            raise InvalidInput("holds NaN or inf", field="scaled", remedy="use .scaled(), which fills empty buckets")
        return x
