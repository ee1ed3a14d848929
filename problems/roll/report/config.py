"""What a report holds a roll against: limits, windows, and how plan and forecast are asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from crosswind.problems.roll.churn import ChurnLimits
from crosswind.problems.roll.metrics import RollMetricsConfig
from crosswind.problems.roll.model import RollOrder
from crosswind.problems.roll.program import RollSettings, RollStatistics
from crosswind.problems.roll.regimes import RegimeConfig
from crosswind.problems.roll.replay import RollVenue
from crosswind.solvers.errors import InvalidInput

__all__ = ["RollReportConfig"]


@dataclass(frozen=True)
class RollReportConfig:
    """Settings of :func:`roll_report`; give those that the order is traded with.

    Parameters
    ----------
    regimes, metrics, churn, venue
        Triggers, windows, anti-churn limits, rules of the venue.
    settings, statistics
        Of the plan; statistics None: estimated from the session so far.
    scenarios, slices, seed
        S, the largest T, and the seed of the plan's scenarios.
    clip_share
        The clip that the branch forecast is asked for, over what the order's own side displays.
    timeout_s, max_let_s
        Its time-out and greatest legging exposure time [s].
    stale_bars
        Data older than so many bars are stale: everything is grey then.
    tz
        Zone of the page's times.

    Raises
    ------
    InvalidInput
        For a number out of range.
    """

    regimes: RegimeConfig = field(default_factory=RegimeConfig)
    metrics: RollMetricsConfig = field(default_factory=RollMetricsConfig)
    churn: ChurnLimits = field(default_factory=ChurnLimits)
    venue: RollVenue = field(default_factory=RollVenue)
    settings: RollSettings = field(default_factory=RollSettings)
    statistics: RollStatistics | None = None
    scenarios: int = 100
    slices: int = 24
    seed: int = 0
    clip_share: float = 0.2
    timeout_s: float = 120.0
    max_let_s: float = 60.0
    stale_bars: float = 2.0
    tz: str = "America/Chicago"

    def __post_init__(self) -> None:
        for name in ("scenarios", "slices"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise InvalidInput("is not a count", field=name, value=value, remedy="pass an integer of 1 or more")
        for name in ("clip_share", "timeout_s", "max_let_s", "stale_bars"):
            value = getattr(self, name)
            if isinstance(value, bool) or not np.isfinite(value) or value <= 0.0:
                raise InvalidInput("must be positive and finite", field=name, value=value, remedy="see the class")

    def key(self, order: RollOrder) -> str:
        """Return twelve digits that two reports share only with the same order and settings."""
        parts: dict[str, Any] = {
            "order": [order.name, order.quantity, str(order.start), str(order.cutoff)],
            "caps": [order.max_naked, order.carry_cap],
            "regimes": self.regimes.to_dict(),
            "statistics": None if self.statistics is None else asdict(self.statistics),
            **{name: asdict(getattr(self, name)) for name in ("metrics", "churn", "venue", "settings")},
            "rest": [self.scenarios, self.slices, self.seed, self.clip_share, self.timeout_s, self.max_let_s],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
