"""The roll-day report: what a desk looks at, as of any bar of a replay or of a live order."""

from __future__ import annotations

from crosswind.problems.roll.report.config import RollReportConfig
from crosswind.problems.roll.report.past import past_roll_metrics
from crosswind.problems.roll.report.projection import ForcedCross, forced_cross, residual_projection
from crosswind.problems.roll.report.report import RollReport, roll_report
from crosswind.problems.roll.report.tiles import RollTile
from crosswind.problems.roll.report.track import RollTrack

__all__ = [
    "ForcedCross",
    "RollReport",
    "RollReportConfig",
    "RollTile",
    "RollTrack",
    "forced_cross",
    "past_roll_metrics",
    "residual_projection",
    "roll_report",
]
