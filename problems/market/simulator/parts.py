"""Add to a drawn market what stands on its index: the books of a roll, a perpetual with its funding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crosswind.problems.market.model import MarketData
from crosswind.problems.market.simulator.future import ROOT
from crosswind.problems.market.simulator.perpetual import draw_perpetual
from crosswind.problems.market.simulator.perpetual_parameters import PerpetualParameters
from crosswind.problems.market.simulator.spread_book import RollDay
from crosswind.problems.market.simulator.spread_book_days import join_roll
from crosswind.problems.market.simulator.spread_book_parameters import RollParameters
from crosswind.problems.market.simulator.truth import ShockLog

__all__ = ["with_perpetual", "with_roll"]


def with_roll(
    market: MarketData, days: Sequence[RollDay], bar_s: float, parameters: RollParameters, log: ShockLog
) -> MarketData:
    """Return the market with the legs' books in place of the future's plain quotes, and the listed spreads.

    Parameters
    ----------
    market
        The market so far.
    days
        Its sessions' roll books, drawn on its own index and on the front's own fair value.
    bar_s
        Length of a bar [s].
    parameters
        What they were drawn with.
    log
        Takes ``roll_shocks`` (``[time, points]``) and the true path ``roll_mid`` of the spread [points], one per bar.
    """
    book = join_roll(days, bar_s, parameters, ROOT)
    shocks = zip(book.shocks.index, book.shocks["points"], strict=True)
    log.entries["roll_shocks"] = [[stamp.isoformat(), float(points)] for stamp, points in shocks]
    log.entries["roll_mid"] = np.concatenate([day.mid for day in days]).tolist()
    log.entries["roll_stress"] = np.concatenate([day.stress for day in days]).tolist()
    # The key names the pair: a longer roll passes an expiry and lists another pair beside the first.
    spreads = {f"{ROOT} {quotes.near} {quotes.far}": quotes for quotes in book.spreads.values()}
    return replace(market, futures={**market.futures, ROOT: book.futures}, spreads={**market.spreads, **spreads})


def with_perpetual(
    market: MarketData, shares: NDArray[np.float64], parameters: PerpetualParameters, seed: int, log: ShockLog
) -> MarketData:
    """Return the market with a perpetual on its index: ``bars`` and ``funding`` under the contract's name.

    Parameters
    ----------
    market
        The market so far.
    shares
        Shares of the index (N,).
    parameters
        Numbers of the contract.
    seed
        Seed of the simulation.
    log
        Takes ``perpetual_demand`` and ``perpetual_basis``, the slow and the fast part of the premium, and
        ``perpetual_mark``, the price at which margin is reckoned, one each per bucket.
    """
    perpetual = draw_perpetual((market.events.mid * shares).sum(axis=1), parameters, seed)
    for part in ("demand", "basis", "mark"):
        log.entries[f"perpetual_{part}"] = perpetual.frame[part].tolist()
    return replace(
        market,
        bars={**market.bars, perpetual.name: perpetual.bars},
        funding={**market.funding, perpetual.name: perpetual.funding},
    )
