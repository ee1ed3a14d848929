"""Market data: the event schema, contracts, readers of recorded data and a simulator with known truth."""

from __future__ import annotations

# Modules named like their function are imported here, eagerly: a later import of such a module would bind the module
# itself to the name and hide the function.
from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.describe import Description, describe
from crosswind.problems.market.lee_ready import lee_ready
from crosswind.problems.market.merge import merge_ticks, stream
from crosswind.problems.market.model import (
    Bars,
    ChildFills,
    FuturesQuotes,
    MarketData,
    MarketEvents,
    ParentOrders,
    SimulatedTruth,
)
from crosswind.problems.market.read import read
from crosswind.problems.market.readers.formats import Format, formats, register_format
from crosswind.problems.market.readers.lean import read_lean, read_lean_ticks
from crosswind.problems.market.readers.lean_bars import read_lean_bars, read_lean_funding
from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.problems.market.readers.tabular import read_table
from crosswind.problems.market.report import ReadReport
from crosswind.problems.market.simulator.simulate import simulate
from crosswind.problems.market.ticks import QuoteTape, TickChunk, TickSource, TradeTape

__all__ = [
    "Bars",
    "ChildFills",
    "Description",
    "Format",
    "FuturesQuotes",
    "MarketData",
    "MarketEvents",
    "ParentOrders",
    "QuoteTape",
    "ReadReport",
    "SimulatedTruth",
    "TickChunk",
    "TickSource",
    "TradeTape",
    "describe",
    "events_of",
    "formats",
    "lee_ready",
    "merge_ticks",
    "read",
    "read_lean",
    "read_lean_bars",
    "read_lean_funding",
    "read_lean_futures",
    "read_lean_ticks",
    "read_table",
    "register_format",
    "simulate",
    "stream",
]
