"""The micro-price: the mid expected after its next moves, given imbalance and spread, learned on the past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crosswind.problems.market.checks import check_positive
from crosswind.problems.market.features.arrays import Float, Int, check_quotes, stamps
from crosswind.problems.market.ticks import QuoteTape
from crosswind.solvers.errors import InvalidInput

__all__ = ["MicroPrice"]


class MicroPrice:
    """Stoikov's micro-price, mid + g(imbalance, spread), from the Markov chain of the best quotes.

    The state is (imbalance bin, spread in ticks). With Q the probabilities of going to another state while the mid
    stays, T those of going to each state while the mid moves, and k the expected size of that move, the expected next
    move is G¹ = (1 − Q)⁻¹ k, and B = (1 − Q)⁻¹ T says in which state it leaves the book: g = Σ_i Bⁱ G¹.

    The data are made symmetric (every quote enters also with its sides exchanged), which keeps the sum finite and the
    adjustment odd in the imbalance. Fit on earlier days, predict on later quotes.

    Parameters
    ----------
    tick
        Price step [currency per share].
    bins
        Number of equally wide imbalance bins over [0, 1].
    max_spread_ticks
        Wider spreads get no adjustment.
    iterations
        Number of mid moves that are looked ahead.

    Attributes
    ----------
    adjustment_
        DataFrame, bins × spread in ticks: g [currency per share]. Rows are B/(B + A) bin centres.

    Raises
    ------
    InvalidInput
        On a number that is not positive.

    Notes
    -----
    Stoikov, "The micro-price: a high-frequency estimator of future prices", Quantitative Finance 18 (2018).
    """

    adjustment_: pd.DataFrame

    def __init__(self, tick: float, bins: int = 10, max_spread_ticks: int = 3, iterations: int = 6) -> None:
        self.tick = check_positive(tick, "tick")
        self.bins, self.max_spread_ticks, self.iterations = (
            int(check_positive(v, n))
            for v, n in ((bins, "bins"), (max_spread_ticks, "max_spread_ticks"), (iterations, "iterations"))
        )

    def _states(self, quotes: QuoteTape) -> tuple[Int, Float]:
        """Return each quote's state, −1 where it has none, and its mid."""
        total = quotes.bid_shares + quotes.ask_shares
        share = np.divide(quotes.bid_shares, total, out=np.full(len(total), 0.5), where=total > 0)
        # Counted from the nearer end, so that the bins of a book and of its mirror image are mirror images.
        heavy = np.maximum(share, 1.0 - share)
        row = np.minimum((heavy * self.bins).astype(np.int64), self.bins - 1)
        row = np.where(share >= 0.5, row, self.bins - 1 - row)
        width = np.rint((quotes.ask - quotes.bid) / self.tick).astype(np.int64)
        known = (width >= 1) & (width <= self.max_spread_ticks) & (total > 0)
        return np.where(known, (width - 1) * self.bins + row, -1), 0.5 * (quotes.bid + quotes.ask)

    def fit(self, quotes: QuoteTape) -> MicroPrice:
        """Learn the adjustment from past quotes.

        Parameters
        ----------
        quotes
            Best quotes of one name.

        Raises
        ------
        InvalidInput
            If no two consecutive quotes lie in the states, e.g. for a wrong tick.
        """
        state, mid = self._states(check_quotes(quotes))
        pair = (state[1:] >= 0) & (state[:-1] >= 0)
        if not pair.any():
            raise InvalidInput(
                "no two quotes lie in the states", field="tick", value=self.tick, remedy="check the tick"
            )
        source, target, move = state[:-1][pair], state[1:][pair], np.diff(mid)[pair]
        mirror = np.arange(self.bins * self.max_spread_ticks).reshape(-1, self.bins)[:, ::-1].ravel()
        source = np.concatenate([source, mirror[source]])
        target = np.concatenate([target, mirror[target]])
        move = np.concatenate([move, -move])
        size = len(mirror)
        moved = np.abs(move) > 0.25 * self.tick
        visits = np.maximum(np.bincount(source, minlength=size), 1).astype(np.float64)
        flat = source * size + target
        stay = np.bincount(flat[~moved], minlength=size * size).reshape(size, size) / visits[:, None]
        go = np.bincount(flat[moved], minlength=size * size).reshape(size, size) / visits[:, None]
        gain = np.bincount(source[moved], move[moved], size) / visits
        # A state that the mid never leaves would make 1 − Q singular; it has no move to expect.
        leaves = np.linalg.matrix_power(stay, 2**12).sum(axis=1) < 1.0 - 1e-9
        stay = stay * leaves[:, None] * leaves[None, :]
        first = np.linalg.solve(np.eye(size) - stay, np.column_stack([np.where(leaves, gain, 0.0), go]))
        total = step = first[:, 0]
        for _ in range(self.iterations - 1):
            step = first[:, 1:] @ step
            total = total + step
        centres = pd.Index((np.arange(self.bins) + 0.5) / self.bins, name="bid_share")
        widths = pd.Index(range(1, self.max_spread_ticks + 1), name="spread_ticks")
        self.adjustment_ = pd.DataFrame(total.reshape(-1, self.bins).T, index=centres, columns=widths)
        return self

    def predict(self, quotes: QuoteTape) -> pd.Series[Any]:
        """Return the micro-price at each usable quote [currency per share].

        Raises
        ------
        InvalidInput
            Before :meth:`fit` or on malformed quotes.
        """
        if not hasattr(self, "adjustment_"):
            raise InvalidInput("not fitted", field="MicroPrice", remedy="call .fit(past_quotes) first")
        good = check_quotes(quotes)
        state, mid = self._states(good)
        table = self.adjustment_.to_numpy().T.ravel()
        price = mid + np.where(state >= 0, table[np.maximum(state, 0)], 0.0)
        return pd.Series(price, index=stamps(good.known_ns), name="micro_price")
