"""Episodes for hedge policies from the simulator's declared worlds: one desk order, its market and its venue each.

An episode's market holds the order's names, the index and the nearest future on the order's slices. Decisions fall on
the quotes of the future: a slice that starts between two of its bars starts at the next one. What the cash algorithm
really does is the desk's (lumps, blocks, delays, nothing after a cancellation); a policy knows the plan, its revisions
from their slice on and the fills once they are done.

Cash trades are done as the desk did them: at once, without limit, at the names' half-spread and with their impact.
Latency, jitter, participation, rejects and the rate limit are the future's venue's. The venue's impact is the truth's:
K_m over the names, extended by the future through the index, K̃_m = T'K_mT with T = [E, √r w], w the index weights and
r the depth of the index relative to that of its future.

Every world gives episodes. The hedge knows one future: the perpetual and its funding, and the calendar-spread book, of
the worlds that have them are in their market data and are not used here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crosswind.problems.hedge.model import HedgeBeliefs, HedgeParent, PlanRevision
from crosswind.problems.replay.gateway import MAX_RETRIES
from crosswind.problems.replay.model import FloatArray, ReplayMarket
from crosswind.problems.replay.venue import SimulatedVenue
from crosswind.solvers.errors import DataGap, InvalidInput

if TYPE_CHECKING:
    from crosswind.optim.program import ImpactMode
    from crosswind.problems.market.futures import FuturesQuotes
    from crosswind.problems.market.model import MarketData, SimulatedTruth
    from crosswind.problems.market.simulator.desk import DeskOrder
    from crosswind.problems.market.simulator.venue_parameters import VenueParameters
    from crosswind.problems.market.simulator.worlds import World

__all__ = ["INDEX", "Episode", "episodes", "episodes_of"]

INDEX = "INDEX"


@dataclass(frozen=True, eq=False)
class Episode:
    """One parent order in one world.

    Parameters
    ----------
    name
        The order's name.
    world
        Key of the world, with the scale of a variant.
    kind
        What kind of order it is, as the desk drew it.
    market
        Names, index and future on the order's slices.
    parent
        Plan, revisions, fills and betas.
    venue
        True rules of execution, with their own seed.
    beliefs
        Index variance and impact as they truly are: a policy that should believe something else is given that.
    truth
        What the market was drawn from.
    """

    name: str
    world: str
    kind: str
    market: ReplayMarket
    parent: HedgeParent
    venue: SimulatedVenue
    beliefs: HedgeBeliefs
    truth: SimulatedTruth


def episodes(
    world: str | World,
    count: int,
    seed: int = 0,
    *,
    impact: float = 1.0,
    volatility: float = 1.0,
    latency: float = 1.0,
    depth_ratio: float = 0.25,
) -> tuple[Episode, ...]:
    """Draw episodes in a declared world.

    Parameters
    ----------
    world
        Name, key or record of a world with a desk.
    count
        Number of episodes, at least 1. A longer draw begins with the shorter.
    seed
        Of the simulation.
    impact, volatility, latency
        Factors of the world's variant.
    depth_ratio
        r, notional of the index traded over that of its future, in (0, 1].

    Returns
    -------
    tuple of Episode
        In order of their start. Orders without beta to hedge are left out.

    Raises
    ------
    InvalidInput
        For an unknown world, a count below 1 or a factor out of range.
    DataGap
        When the world has no desk.
    """
    from crosswind.problems.market.simulator.simulate import simulate
    from crosswind.problems.market.simulator.worlds_table import world as declared

    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidInput("must be a whole number of 1 or more", field="count", value=count, remedy="ask for some")
    record = declared(world) if isinstance(world, str) else world
    if (impact, volatility, latency) != (1.0, 1.0, 1.0):
        record = record.scaled(impact, volatility, latency)
    if record.desk is None or record.desk.parents_per_day == 0.0:
        raise DataGap("the world has no desk", field="world", value=record.key, remedy="use a world with desk orders")
    days = 1 + math.ceil(count / record.desk.parents_per_day)
    while True:
        found = episodes_of(simulate(world=record, days=days, seed=seed), record, depth_ratio=depth_ratio, most=count)
        if len(found) >= count:
            return found[:count]
        days *= 2


def episodes_of(
    data: MarketData, world: World, *, depth_ratio: float = 0.25, most: int | None = None
) -> tuple[Episode, ...]:
    """Return the episodes of a market that was simulated in a world.

    Parameters
    ----------
    data
        With a future, a truth and the desk's orders.
    world
        The world it was drawn in: its venue is used.
    depth_ratio
        As in :func:`episodes`.
    most
        Stop after so many.

    Returns
    -------
    tuple of Episode

    Raises
    ------
    DataGap
        When the data lack a truth, a future, or orders.
    InvalidInput
        When ``depth_ratio`` is out of range.
    """
    if not 0.0 < depth_ratio <= 1.0:
        raise InvalidInput("must lie in (0, 1]", field="depth_ratio", value=depth_ratio, remedy="use 0.25")
    if data.truth is None or data.desk is None or not data.futures:
        raise DataGap("no truth, future or desk", field="data", value=data.source, remedy="simulate a declared world")
    truth, quotes = data.truth, next(iter(data.futures.values()))
    weights = np.asarray(truth.parameters["index_weights"], dtype=np.float64)
    weights = weights / weights.sum()
    variance = float(weights @ truth.covariance @ weights)
    found: list[Episode] = []
    for order in data.desk.orders:
        if most is not None and len(found) >= most:
            break
        future = _future_of(quotes, order)
        market = _market_of(data, quotes, order, future)
        parent = _parent_of(order, market, truth.betas, f"{quotes.root} {future}")
        if not (np.abs(parent.plan.to_numpy() * (parent.arrival(market) * parent.beta)).sum() > 0.0):
            continue
        traded = (*parent.names, parent.hedge)
        modes = _modes_of(truth, parent.names, weights, depth_ratio)
        found.append(
            Episode(
                name=order.name,
                world=world.key,
                kind=order.kind,
                market=market,
                parent=parent,
                venue=venue_of(world.venue, parent, modes, zlib.crc32(f"{truth.seed}/{order.name}".encode())),
                beliefs=HedgeBeliefs(
                    variance,
                    modes,
                    traded if modes else (),
                    close_spread_multiple=world.venue.close_spread_multiple,
                ),
                truth=truth,
            )
        )
    return tuple(found)


def venue_of(
    parameters: VenueParameters, parent: HedgeParent, modes: Sequence[ImpactMode] = (), seed: int = 0
) -> SimulatedVenue:
    """Return the venue of one parent's hedge.

    Parameters
    ----------
    parameters
        The world's numbers; ``queue`` is for passive orders, which the replay does not know.
    parent
        Names and hedge: only the hedge has latency, jitter, limits and rejects.
    modes
        True impact over ``(*names, hedge)``.
    seed
        Of the venue's draws.

    Returns
    -------
    SimulatedVenue
    """
    hedge, limit = parent.hedge, parameters.max_orders_per_minute
    return SimulatedVenue(
        latency_s={hedge: parameters.latency_s},
        modes=tuple(modes),
        mode_instruments=(*parent.names, hedge) if modes else None,
        participation={hedge: parameters.participation},
        fee_per_unit={**dict.fromkeys(parent.names, parameters.fee_per_share), hedge: parameters.fee_per_contract},
        close_spread_multiple=parameters.close_spread_multiple,
        latency_jitter_s={hedge: parameters.latency_jitter_s},
        reject_probability={hedge: parameters.reject_probability},
        retry_delay_s=parameters.retry_delay_s,
        max_retries=min(parameters.max_retries, MAX_RETRIES) if parameters.retry_delay_s > 0.0 else 0,
        max_orders_per_minute=None if limit is None else {hedge: float(limit)},
        seed=seed,
    )


def _future_of(quotes: FuturesQuotes, order: DeskOrder) -> str:
    """Return the expiry that traded most on the day before; on a first day the nearest that is quoted."""
    day = order.start.tz_convert("UTC").normalize()
    before = quotes.volume[quotes.index < day]
    if len(before):
        last = before[before.index >= before.index[-1].normalize()].sum()
        return str(last.index[int(np.argmax(last.to_numpy()))])
    at = int(quotes.index.searchsorted(order.start))
    return min(str(name) for name in quotes.expiries if np.isfinite(quotes.bid[name].iloc[at]))


def _market_of(data: MarketData, quotes: FuturesQuotes, order: DeskOrder, expiry: str) -> ReplayMarket:
    assert data.truth is not None
    starts = pd.DatetimeIndex(order.plan.index).as_unit("ns")
    bounds = starts.append(starts[-1:] + pd.Timedelta(round(order.slice_s * 1e9), "ns"))
    at = quotes.index.searchsorted(bounds)
    if at[-1] >= len(quotes.index) or not (np.diff(at) > 0).all():
        raise DataGap(
            "the future is not quoted once per slice",
            field=f"futures at {order.name}",
            value=f"bars of {quotes.bar_s:g} s, slices of {order.slice_s:g} s",
            remedy="use a desk whose slices are as long as the future's bars, or longer",
        )
    grid = quotes.index[at]
    events, names, future = data.events, list(order.names), f"{quotes.root} {expiry}"
    rows = events.index.get_indexer(grid)
    if (rows < 0).any():
        raise DataGap("the future's bars end between buckets", field="bucket_s", value=events.bucket_s, remedy="divide")
    shares = np.asarray(data.truth.parameters["index_shares"], dtype=np.float64)
    bid, ask = quotes.bid[expiry].to_numpy()[at], quotes.ask[expiry].to_numpy()[at]
    mid = np.column_stack(
        [
            events.mid[names].to_numpy()[rows],
            events.mid[list(data.truth.names)].to_numpy()[rows] @ shares,
            0.5 * (bid + ask),
        ]
    )
    half = np.column_stack([0.5 * events.spread[names].to_numpy()[rows], np.zeros(len(grid)), 0.5 * (ask - bid)])
    volume = np.full((len(grid) - 1, len(names) + 2), np.inf)
    traded = np.concatenate([[0.0], np.nancumsum(quotes.volume[expiry].to_numpy())])
    volume[:, -1] = np.diff(traded[at + 1])
    multiplier = np.ones(len(names) + 2)
    multiplier[-1] = quotes.multiplier
    return ReplayMarket(grid, (*map(str, names), INDEX, future), mid, half, volume, multiplier)


def _parent_of(order: DeskOrder, market: ReplayMarket, betas: pd.Series, hedge: str) -> HedgeParent:
    times = market.times[:-1]
    revisions = [PlanRevision(k, plan.set_axis(times, axis=0)) for k, plan in order.revisions]
    if order.cancelled_at is not None:
        nothing = pd.DataFrame(0.0, index=times, columns=order.plan.columns)
        revisions.append(PlanRevision(order.cancelled_at, nothing, settled=True))
    return HedgeParent(
        order.name,
        order.plan.set_axis(times, axis=0),
        betas,
        hedge,
        INDEX,
        revisions=tuple(revisions),
        fills=order.fills.set_axis(times, axis=0),
    )


def _modes_of(
    truth: SimulatedTruth, names: tuple[str, ...], weights: FloatArray, depth_ratio: float
) -> tuple[Any, ...]:
    from crosswind.optim.program import ImpactMode

    order = [str(name) for name in truth.names]
    basis = np.zeros((len(order), len(names) + 1))
    basis[[order.index(name) for name in names], range(len(names))] = 1.0
    basis[:, -1] = math.sqrt(depth_ratio) * weights
    modes = []
    for rate, kernel in zip(truth.rates_per_s, truth.matrices, strict=True):
        matrix = basis.T @ kernel @ basis
        if matrix.any():
            modes.append(ImpactMode(float(rate), 0.5 * (matrix + matrix.T)))
    return tuple(modes)
