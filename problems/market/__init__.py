"""Market data: the event schema, contracts, readers of recorded data and a simulator with known truth."""

from __future__ import annotations

# Modules named like their function are imported here, eagerly: a later import of such a module would bind the module
# itself to the name and hide the function.
from crosswind.problems.market.buckets import events_of
from crosswind.problems.market.describe import Description, describe
from crosswind.problems.market.funding import basis
from crosswind.problems.market.lee_ready import lee_ready
from crosswind.problems.market.merge import stream
from crosswind.problems.market.model import (
    Bars,
    ChildFills,
    FundingRates,
    FuturesQuotes,
    MarketData,
    MarketEvents,
    ParentOrders,
    ReadReport,
    SimulatedTruth,
)
from crosswind.problems.market.read import read
from crosswind.problems.market.readers.formats import Format, formats, register_format
from crosswind.problems.market.readers.lean import read_lean, read_lean_ticks
from crosswind.problems.market.readers.lean_bars import read_lean_bars, read_lean_funding
from crosswind.problems.market.readers.lean_futures import read_lean_futures
from crosswind.problems.market.readers.perp_carry import read_perp_carry
from crosswind.problems.market.readers.tabular import read_table
from crosswind.problems.market.simulator.desk import DeskOrder, DeskOrders
from crosswind.problems.market.simulator.simulate import simulate
from crosswind.problems.market.simulator.worlds import World
from crosswind.problems.market.simulator.worlds_table import WORLDS, world
from crosswind.problems.market.spread_quotes import SpreadQuotes
from crosswind.problems.market.tapes import read_tapes
from crosswind.problems.market.ticks import DepthTape, QuoteTape, TickChunk, TickSource, TradeTape

__all__ = [
    "WORLDS",
    "Bars",
    "ChildFills",
    "DepthTape",
    "Description",
    "DeskOrder",
    "DeskOrders",
    "Format",
    "FundingRates",
    "FuturesQuotes",
    "MarketData",
    "MarketEvents",
    "ParentOrders",
    "QuoteTape",
    "ReadReport",
    "SimulatedTruth",
    "SpreadQuotes",
    "TickChunk",
    "TickSource",
    "TradeTape",
    "World",
    "basis",
    "describe",
    "events_of",
    "formats",
    "lee_ready",
    "read",
    "read_lean",
    "read_lean_bars",
    "read_lean_funding",
    "read_lean_futures",
    "read_lean_ticks",
    "read_perp_carry",
    "read_table",
    "read_tapes",
    "register_format",
    "simulate",
    "stream",
    "world",
]
