"""Impact by state of the market: structure fixed, one multiplier refreshed by spread, volatility, depth and flow."""

from __future__ import annotations

from crosswind.problems.impact.regimes.comparison import ScaleComparison
from crosswind.problems.impact.regimes.live import LiveScale, ScaleReading
from crosswind.problems.impact.regimes.model import RegimeModel
from crosswind.problems.impact.regimes.scales import RegimeScales
from crosswind.problems.impact.regimes.state import FEATURES, StateFilter, StateNorms, market_state

__all__ = [
    "FEATURES",
    "LiveScale",
    "RegimeModel",
    "RegimeScales",
    "ScaleComparison",
    "ScaleReading",
    "StateFilter",
    "StateNorms",
    "market_state",
]
