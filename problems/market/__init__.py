"""Market data: the event schema, contracts, readers of recorded data and a simulator with known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosswind.problems.market.model import (
    Bars,
    ChildFills,
    FuturesQuotes,
    MarketData,
    MarketEvents,
    ParentOrders,
    SimulatedTruth,
)

if TYPE_CHECKING:
    from crosswind.problems.market.lean import read_lean, read_lean_bars, read_lean_futures
    from crosswind.problems.market.lee_ready import lee_ready
    from crosswind.problems.market.read import read
    from crosswind.problems.market.simulate import simulate

__all__ = [
    "Bars",
    "ChildFills",
    "FuturesQuotes",
    "MarketData",
    "MarketEvents",
    "ParentOrders",
    "SimulatedTruth",
    "lee_ready",
    "read",
    "read_lean",
    "read_lean_bars",
    "read_lean_futures",
    "simulate",
]

_LAZY = {
    "lee_ready": "lee_ready",
    "read": "read",
    "read_lean": "lean",
    "read_lean_bars": "lean",
    "read_lean_futures": "lean",
    "simulate": "simulate",
}


def __getattr__(name: str) -> Any:
    """Import readers and the simulator on first use."""
    if name in _LAZY:
        from importlib import import_module

        value = getattr(import_module(f"crosswind.problems.market.{_LAZY[name]}"), name)
        # The functions lee_ready, read and simulate live in modules of their own names: importing such a module binds
        # it here, so the function has to replace it.
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
