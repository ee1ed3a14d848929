"""The future beside the names: its market on the minute grid, and its impact by a congruence of the fitted kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crosswind.problems.replay import ReplayMarket
from crosswind.solvers.errors import DataGap

if TYPE_CHECKING:
    from crosswind.optim import ImpactMode
    from crosswind.problems.impact import ImpactModel
    from crosswind.problems.market import FuturesQuotes, MarketEvents

__all__ = ["FUTURE", "INDEX", "FuturesLeg", "clock_correlation", "clock_margin", "impact_with_future", "replay_market"]

INDEX, FUTURE = "INDEX", "FUTURE"
_LONGEST_GAP = 5  # bars that a missing quote may be carried


@dataclass(frozen=True)
class FuturesLeg:
    """One expiry of a future on the bars of one session.

    Parameters
    ----------
    name
        Root and expiry, e.g. ``ES 201312``.
    mid, half_spread
        Price and half spread at bar ends [points].
    volume
        Contracts traded in the bar that ends there.
    multiplier
        Currency per point.
    """

    name: str
    mid: pd.Series
    half_spread: pd.Series
    volume: pd.Series
    multiplier: float

    @classmethod
    def of_session(cls, quotes: FuturesQuotes, expiry: str, session: MarketEvents) -> FuturesLeg:
        """Cut one expiry to the session's hours; quotes that are missing repeat the last one, at most five bars.

        Raises
        ------
        DataGap
            When the expiry is not quoted in the session, or the gap is longer.
        """
        begin = session.index[0] - pd.Timedelta(seconds=session.bucket_s)
        inside = (quotes.index > begin) & (quotes.index <= session.index[-1])
        bid = quotes.bid.loc[inside, expiry].ffill(limit=_LONGEST_GAP)
        ask = quotes.ask.loc[inside, expiry].ffill(limit=_LONGEST_GAP)
        # A gap may also be bars that are not there at all, the last ones of the session among them.
        after = session.index[-1] + pd.Timedelta(seconds=quotes.bar_s)
        clock = pd.DatetimeIndex([begin, *quotes.index[inside], after])
        longest = clock.to_series().diff().dt.total_seconds().max()
        if not inside.any() or bid.isna().any() or longest > (_LONGEST_GAP + 1) * quotes.bar_s:
            raise DataGap(
                f"{quotes.root} {expiry} is not quoted all through the session",
                field="futures",
                value=str(session.days[0]),
                remedy="choose another day or expiry",
            )
        return cls(
            name=f"{quotes.root} {expiry}",
            mid=(bid + ask) / 2.0,
            half_spread=(ask - bid) / 2.0,
            volume=quotes.volume.loc[inside, expiry].fillna(0.0),
            multiplier=quotes.multiplier,
        )

    def notional(self) -> float:
        """Return the notional traded in the session [currency]."""
        return float((self.volume * self.mid).sum() * self.multiplier)


def replay_market(
    session: MarketEvents,
    index: pd.Series,
    leg: FuturesLeg,
    names: tuple[str, ...],
    instrument: str | None = None,
) -> ReplayMarket:
    """Put names, index and future on the future's bar ends, as a market to replay on.

    Slices run from one bar end to the next. The index is an instrument that nobody trades: the attribution reads it.

    Parameters
    ----------
    session
        One session of events.
    index
        Index level on the session's buckets.
    leg
        The future.
    names
        Cash names, in order.
    instrument
        Name of the future in the market; by default the leg's own, root and expiry.

    Raises
    ------
    DataGap
        When fewer than two bars of the future end with a bucket of the names.
    """
    grid = leg.mid.index.intersection(session.index)
    if len(grid) < 2:
        raise DataGap(
            f"the bars of {leg.name} and the buckets of {session.bucket_s:g} s have fewer than two ends in common",
            field="bucket_s",
            value=len(grid),
            remedy="use buckets that divide the future's bars",
        )
    future = leg.name if instrument is None else instrument
    columns = [*names, INDEX, future]
    mid = pd.concat([session.mid.loc[grid, list(names)], index.loc[grid], leg.mid.loc[grid]], axis=1)
    half = pd.concat(
        [session.spread.loc[grid, list(names)] / 2.0, pd.Series(0.0, index=grid), leg.half_spread.loc[grid]], axis=1
    )
    # Shares traded between two grid points: notional over the bucket's own mid, summed.
    shares = (session.volume[list(names)] / session.mid[list(names)]).cumsum().loc[grid].diff().iloc[1:]
    volume = pd.concat([shares.set_axis(grid[:-1]), pd.Series(np.inf, index=grid[:-1])], axis=1)
    # Bars between two grid points count, also where buckets are longer than bars.
    volume[future] = leg.volume.cumsum().loc[grid].diff().iloc[1:].to_numpy()
    mid.columns = half.columns = volume.columns = pd.Index(columns)
    return ReplayMarket.from_frames(mid, half, volume, {future: leg.multiplier})


def clock_correlation(index: pd.Series, leg: FuturesLeg, lag: int = 0) -> float:
    """Return the correlation of the index's returns with the future's ``lag`` bars earlier."""
    moves = pd.concat([index, leg.mid], axis=1, join="inner").pct_change()
    return float(moves.iloc[:, 0].corr(moves.iloc[:, 1].shift(lag)))


def clock_margin(index: pd.Series, leg: FuturesLeg, lags: int = 5) -> float:
    """Return ρ_0 − max |ρ_l| over lags l = ±1..±``lags`` bars of index and future.

    However loosely the names follow the future, they follow it in the same bar: a margin below zero says that a clock
    is shifted, a low correlation alone only that the index is a poor proxy.
    """
    others = [abs(clock_correlation(index, leg, sign * lag)) for lag in range(1, lags + 1) for sign in (-1, 1)]
    return clock_correlation(index, leg) - max(others)


def impact_with_future(
    model: ImpactModel, names: tuple[str, ...], weights: pd.Series, depth_ratio: float
) -> tuple[ImpactMode, ...]:
    """Extend the fitted kernel by the future, by a congruence that keeps every K_m positive semidefinite.

    A future moves like its index, and trading it moves the index: with index weights w over the model's names and
    r = (index volume) / (future volume), K̃_m = T'K_mT with T = [E, √r w], E the columns of ``names``. So the future's
    own impact is r w'K_m w: a future that trades four times the notional of its index moves by a quarter.

    Parameters
    ----------
    model
        Fitted model over all names, the index ETF included.
    names
        Cash names of the replay.
    weights
        Index weights by name, summing to 1; an index ETF alone has weight 1.
    depth_ratio
        r > 0, at most 1 (a future is not thinner than what it hedges, or one would hedge with something else).

    Returns
    -------
    tuple of ImpactMode
        Over ``(*names, future)`` [return per currency].
    """
    from crosswind.optim import ImpactMode

    order = list(model.names)
    basis = np.zeros((len(order), len(names) + 1))
    basis[[order.index(n) for n in names], range(len(names))] = 1.0
    basis[:, -1] = np.sqrt(min(depth_ratio, 1.0)) * weights.reindex(order).fillna(0.0).to_numpy()
    modes = []
    for mode in model.modes():
        matrix = basis.T @ mode.matrix @ basis
        modes.append(ImpactMode(mode.rate_per_s, 0.5 * (matrix + matrix.T)))
    return tuple(modes)
