"""Replay: one ledger, one event kernel, one policy protocol, one venue simulator."""

from __future__ import annotations

from crosswind.problems.replay.batch import ReplayBatch
from crosswind.problems.replay.kernel import replay
from crosswind.problems.replay.ledger import Ledger
from crosswind.problems.replay.model import Fill, LookAheadError, Order, ReplayMarket
from crosswind.problems.replay.policy import Policy, PolicyContext, ScheduledPolicy
from crosswind.problems.replay.result import OrderRecord, ReplayResult
from crosswind.problems.replay.vectorised import AffinePolicy, BatchReplay, replay_batch
from crosswind.problems.replay.venue import DecayMode, SimulatedVenue
from crosswind.problems.replay.view import MarketView

__all__ = [
    "AffinePolicy",
    "BatchReplay",
    "DecayMode",
    "Fill",
    "Ledger",
    "LookAheadError",
    "MarketView",
    "Order",
    "OrderRecord",
    "Policy",
    "PolicyContext",
    "ReplayBatch",
    "ReplayMarket",
    "ReplayResult",
    "ScheduledPolicy",
    "SimulatedVenue",
    "replay",
    "replay_batch",
]
