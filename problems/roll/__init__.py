"""Rolling a future: a position taken from one expiry into the next under tail and deadline."""

from __future__ import annotations

from crosswind.problems.roll.model import Regime, RollAction, RollMarket, RollOrder, RollPolicy, RollState

__all__ = ["Regime", "RollAction", "RollMarket", "RollOrder", "RollPolicy", "RollState"]
